//! How much the model is to think.

use crate::chat::{Request, Thinking, ToolChoice};
use crate::wire::foreign::thinks_freely;
use crate::wire::json::{Body, Fields};
use crate::wire::{Dropped, Error};
use serde_json::{Value, json};

/// The smallest budget that is taken.
const LEAST: u32 = 1_024;

/// The budget where it is left to the model how much to think, which older models know no word for.
const FREE: u32 = 4_096;

/// `thinking`, and the effort out of `output_config`.
///
/// Here an effort is about all that is written, so beside `disabled` it says nothing about thinking: it is
/// kept with what no other codec knows.
pub(super) fn decode_thinking(
    fields: &mut Fields,
    effort: Option<String>,
) -> Result<Option<Thinking>, Error> {
    let Some(value) = fields.take::<Value>("thinking")? else {
        return Ok(effort.map(|effort| Thinking { effort: Some(effort), ..Thinking::default() }));
    };
    let mut inner = Fields::of(value, "thinking")?;
    let kind: String = inner.required("type")?;
    let mut thinking = Thinking { effort, budget: inner.take("budget_tokens")?, ..Thinking::default() };
    thinking.shown = match inner.map.get("display").and_then(Value::as_str) {
        Some("summarized") => Some(true),
        Some("omitted") => Some(false),
        _ => None,
    };
    if thinking.shown.is_some() {
        inner.map.shift_remove("display");
    }
    thinking.extra = inner.map;
    match (kind.as_str(), thinking.budget) {
        ("disabled", None) => {
            thinking.budget = Some(0);
            if let Some(effort) = thinking.effort.take() {
                thinking.extra.insert("effort".to_owned(), json!(effort));
            }
        }
        ("enabled", Some(1..)) => {}
        _ => drop(thinking.extra.insert("type".to_owned(), json!(kind))),
    }
    Ok(Some(thinking))
}

/// What a request says of thinking, as it is written here.
#[derive(Default)]
pub(super) struct Plan {
    /// The field `thinking`.
    pub(super) thinking: Option<Value>,
    /// For `output_config`.
    pub(super) effort: Option<Value>,
    /// The tokens set aside, where we did it for a request of another protocol: it restricts other fields.
    pub(super) budget: Option<u32>,
}

/// What a request that came in this protocol says. `turns` are its messages as they are written here.
pub(super) fn native(thinking: &Thinking, turns: &[Value], dropped: &mut Dropped) -> Plan {
    let Thinking { effort, budget, shown, extra } = thinking;
    // The thought behind a call may have been another provider's, and stayed behind.
    if extra.is_empty() && budget.is_some_and(|budget| budget > 0) && unsealed(turns) {
        dropped.push("thinking".to_owned());
        return Plan { effort: effort.as_ref().map(|effort| json!(effort)), ..Plan::default() };
    }
    let mut body = Body(extra.clone());
    let kept = body.0.shift_remove("effort");
    if body.0.contains_key("type") {
        body.set("budget_tokens", *budget);
    } else {
        let kind = budget.map(|budget| if budget == 0 { "disabled" } else { "enabled" });
        body.set("type", kind);
        body.set("budget_tokens", budget.filter(|budget| *budget > 0));
    }
    body.set("display", shown.map(display));
    let effort = effort.as_ref().map(|effort| json!(effort)).or(kept);
    Plan { thinking: (!body.0.is_empty()).then(|| body.value()), effort, budget: None }
}

/// What a request of another protocol comes to. `turns` are its messages as they are written here.
pub(super) fn foreign(request: &Request, turns: &[Value], dropped: &mut Dropped) -> Plan {
    let Some(thinking) = &request.thinking else { return Plan::default() };
    dropped.extend(thinking.extra.keys().map(|field| format!("thinking.{field}")));
    let from_effort = thinking.effort.as_deref().and_then(budget_of);
    let free = thinks_freely(thinking).then_some(FREE);
    let Some(budget) = thinking.budget.or(from_effort).or(free) else {
        dropped.push("thinking".to_owned());
        return Plan::default();
    };
    if budget == 0 {
        return Plan { thinking: Some(json!({ "type": "disabled" })), ..Plan::default() };
    }
    // All of these are refused with thinking.
    let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Function(_)));
    if forced || prefilled(turns) || unsealed(turns) {
        dropped.push("thinking".to_owned());
        return Plan::default();
    }
    let budget = budget.max(LEAST);
    let mut body = Body::default();
    body.set("type", Some("enabled"));
    body.set("budget_tokens", Some(budget));
    body.set("display", thinking.shown.map(display));
    Plan { thinking: Some(body.value()), effort: None, budget: Some(budget) }
}

fn display(shown: bool) -> &'static str {
    if shown { "summarized" } else { "omitted" }
}

fn budget_of(effort: &str) -> Option<u32> {
    match effort {
        "none" => Some(0),
        "minimal" | "low" => Some(LEAST),
        "medium" => Some(4_096),
        "high" => Some(16_384),
        "xhigh" | "max" => Some(32_768),
        _ => None,
    }
}

/// Whether the model is to go on with words put into its mouth.
fn prefilled(turns: &[Value]) -> bool {
    turns.last().is_some_and(|turn| turn["role"] == "assistant")
}

/// Whether the model waits for tools that it called without a thought we can give back.
fn unsealed(turns: &[Value]) -> bool {
    let [.., called, results] = turns else { return false };
    let answers = results["content"][0]["type"] == "tool_result";
    let thought = called["content"][0]["type"].as_str().is_some_and(|kind| kind.ends_with("thinking"));
    answers && !thought
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_thinking_comes_back() {
        let cases = [
            json!({ "thinking": { "type": "enabled", "budget_tokens": 2048 } }),
            json!({ "thinking": { "type": "enabled", "budget_tokens": 2048, "display": "omitted" } }),
            json!({ "thinking": { "type": "enabled" } }),
            json!({ "thinking": { "type": "adaptive", "display": "summarized" } }),
            json!({ "thinking": { "type": "adaptive", "display": "new", "more": 1 } }),
            json!({ "thinking": { "type": "disabled" } }),
        ];
        for case in cases {
            for effort in [None, Some("high".to_owned())] {
                let mut fields = Fields::parse(case.to_string().as_bytes()).unwrap();
                let thinking = decode_thinking(&mut fields, effort.clone()).unwrap().unwrap();
                let plan = native(&thinking, &[], &mut Dropped::new());
                assert_eq!(plan.thinking.as_ref(), Some(&case["thinking"]));
                assert_eq!(plan.effort, effort.map(|effort| json!(effort)));
            }
        }
    }

    #[test]
    fn what_cannot_go_with_thinking_goes_without() {
        let plan = |thinking: Thinking, turns: &[Value]| {
            let mut dropped = Dropped::new();
            let request = Request { thinking: Some(thinking), ..Request::default() };
            (foreign(&request, turns, &mut dropped).thinking, dropped)
        };
        let effort = |effort: &str| Thinking { effort: Some(effort.to_owned()), ..Thinking::default() };
        let user = json!({ "role": "user", "content": "q" });
        let (thinking, dropped) = plan(effort("medium"), std::slice::from_ref(&user));
        assert_eq!(thinking, Some(json!({ "type": "enabled", "budget_tokens": 4096 })));
        assert!(dropped.is_empty());
        assert_eq!(plan(effort("none"), &[]).0, Some(json!({ "type": "disabled" })));
        assert_eq!(plan(effort("very much"), &[]).1, ["thinking"]);
        let shown = Thinking { shown: Some(true), ..Thinking::default() };
        let dynamic = json!({ "thinkingBudget": -1 }).as_object().cloned().unwrap();
        let dynamic = Thinking { extra: dynamic, ..Thinking::default() };
        for free in [shown, dynamic] {
            let (thinking, _) = plan(free, std::slice::from_ref(&user));
            assert_eq!(thinking.unwrap()["budget_tokens"], 4096);
        }
        assert_eq!(plan(Thinking::default(), std::slice::from_ref(&user)).1, ["thinking"]);
        let prefill = json!({ "role": "assistant", "content": "The" });
        assert_eq!(plan(effort("low"), &[user.clone(), prefill]).1, ["thinking"]);
        let call = json!({ "role": "assistant", "content": [{ "type": "tool_use" }] });
        let sealed =
            json!({ "role": "assistant", "content": [{ "type": "thinking" }, { "type": "tool_use" }] });
        let result = json!({ "role": "user", "content": [{ "type": "tool_result" }] });
        assert_eq!(plan(effort("low"), &[user.clone(), call, result.clone()]).1, ["thinking"]);
        assert!(plan(effort("low"), &[user, sealed, result]).0.is_some());
    }
}
