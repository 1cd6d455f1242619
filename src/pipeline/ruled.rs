//! What the rules say to a request, done.

use super::recognise::Reading as Heard;
use super::{Caller, Pipeline};
use crate::cache::identity::Reading;
use crate::chat::{Block, Choice, Finish, Reply, Request, Tool, ToolCall, ToolChoice};
use crate::intent::{Action, Call, Circumstances, HttpCall, Read, RuleSet, Verdict};
use crate::upstream;
use serde_json::Value;
use std::sync::Arc;
use tokio::time::timeout;

/// What becomes of a request once the rules have been asked.
pub(super) enum Ruled {
    /// A rule answers it.
    Answered(String, Reply),
    /// A rule says where it goes, or it says nothing.
    On(Option<String>),
}

/// What the rules say, and what the encoder has read to tell.
#[derive(Default)]
struct Decided {
    verdict: Option<(String, Action)>,
    read: Option<Heard>,
}

impl Decided {
    fn of(verdict: Option<Verdict<'_>>, read: Option<Heard>) -> Self {
        Self { verdict: verdict.map(|verdict| (verdict.rule.to_owned(), verdict.action)), read }
    }
}

impl Pipeline {
    /// Asks the rules. They may send `request` elsewhere, and keep the cache out of it. A rule that cannot do what it
    /// says is as if it were not there. What the encoder has read meanwhile goes with it.
    pub(super) async fn ruled(&self, caller: &mut Caller, request: &mut Request) -> (Ruled, Option<Heard>) {
        let rules = self.rules.rules(&caller.tenant, &caller.project);
        let Decided { verdict, read } = self.decided(&rules, caller, request).await;
        let Some((rule, action)) = verdict else { return (Ruled::On(None), read) };
        let ruled = match action {
            Action::Route(model) => {
                upstream::redirect(request, &model);
                Ruled::On(Some(rule))
            }
            Action::Bypass => {
                (caller.memory.read, caller.memory.write) = (false, false);
                Ruled::On(Some(rule))
            }
            Action::Http(call) => match self.asked_service(&rule, *call).await {
                Some(answer) => self.answered(caller, rule, Choice::text(answer)),
                None => Ruled::On(None),
            },
            action => match choice(&action, &caller.request_id, request) {
                Some(choice) => self.answered(caller, rule, choice),
                None => Ruled::On(None),
            },
        };
        (ruled, read)
    }

    /// Rules with patterns come first: they are the surest, and take microseconds. Those that are learned need the
    /// encoder, which is asked only where one of them may hold, and then a model, where that is wanted; those of
    /// conditions alone come last.
    async fn decided(&self, rules: &RuleSet, caller: &Caller, request: &Request) -> Decided {
        let settings = self.cache.settings(&caller.project);
        let Some(reading) = Reading::of(settings.client, request) else { return Decided::default() };
        let tools = request.tools.iter().filter_map(tool_name).collect();
        let around = Circumstances {
            model: &request.model,
            tools: Some(tools),
            headers: &request.received.headers,
            tenant: &caller.tenant,
            minute: Some((self.clock.now().as_secs() / 60 % (24 * 60)) as u16),
            words_only: false,
        };
        let (project, text) = (caller.project.as_str(), reading.text());
        if let Some(verdict) = rules.by_words(project, text, &around) {
            return Decided::of(Some(verdict), None);
        }
        let mind = self.rules.mind().filter(|mind| rules.may_recognise(mind, project, text, &around));
        let who = (&caller.tenant, project);
        let Some(mind) = mind else {
            let named = self.named(rules, who, text, &around, None).await.verdict;
            return Decided::of(named.or_else(|| rules.by_conditions(project, text, &around)), None);
        };
        let read = self.read(text).await;
        let by_examples = |read: &Arc<Read>| rules.by_examples(&mind, project, text, &around, read);
        let mut verdict = read.as_ref().ok().and_then(by_examples);
        if let (None, Ok(read)) = (&verdict, &read) {
            verdict = self.named(rules, who, text, &around, Some((&mind, read))).await.verdict;
        }
        Decided::of(verdict.or_else(|| rules.by_conditions(project, text, &around)), Some(read))
    }

    fn answered(&self, caller: &Caller, rule: String, choice: Choice) -> Ruled {
        let reply = Reply {
            id: format!("rule-{}", caller.request_id),
            model: "weir/rules".to_owned(),
            created: self.clock.now().as_secs(),
            choices: vec![choice],
            usage: None,
        };
        Ruled::Answered(rule, reply)
    }

    /// What a local service says. `None` where it says nothing in time: the request goes on without it.
    async fn asked_service(&self, rule: &str, call: HttpCall) -> Option<String> {
        let services = Arc::clone(self.rules.services()?);
        let (deadline, template) = (call.deadline, call.answer.clone());
        match timeout(deadline, services(call)).await {
            Ok(Ok(body)) => Some(template.map_or_else(|| body.clone(), |template| told(&template, &body))),
            Ok(Err(error)) => {
                tracing::warn!(rule, error, "a rule's service did not answer; the request goes on");
                None
            }
            Err(_) => {
                tracing::warn!(rule, ?deadline, "a rule's service was too slow; the request goes on");
                None
            }
        }
    }
}

/// `{body}` is what a service said, and `{body.field}` a field of it.
fn told(template: &str, body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find("{body") {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find('}') else { break };
        let path = &rest["{body".len()..end];
        match path.strip_prefix('.') {
            Some(path) => text.push_str(&plain(json.pointer(&format!("/{}", path.replace('.', "/"))))),
            None if path.is_empty() => text.push_str(body.trim()),
            None => text.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    text.push_str(rest);
    text
}

fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// The answer that an action is. `None` where the request has no use for it.
fn choice(action: &Action, request_id: &str, request: &Request) -> Option<Choice> {
    let mut blocks = Vec::new();
    let mut finish = Finish::Stop;
    let actions = match action {
        Action::Several(actions) => actions.as_slice(),
        one => std::slice::from_ref(one),
    };
    for action in actions {
        match action {
            Action::Answer(text) => blocks.push(Block::text(text)),
            Action::Json(json) => blocks.push(Block::text(json.to_string())),
            Action::Block(text) => {
                blocks.push(Block::text(text));
                finish = Finish::ContentFilter;
            }
            Action::Calls(calls) => {
                for call in calls {
                    if !is_offered(call, request) {
                        return None;
                    }
                    let id = format!("call_{}_{}", request_id.trim_start_matches("req_"), blocks.len());
                    let (name, arguments) = (call.tool.clone(), call.arguments.to_string());
                    blocks.push(Block::ToolCall(ToolCall { id, name, arguments, ..ToolCall::default() }));
                }
                finish = Finish::ToolCalls;
            }
            Action::Route(_) | Action::Bypass | Action::Http(_) | Action::Several(_) => return None,
        }
    }
    Some(Choice { blocks: joined(blocks), logprobs: Vec::new(), finish: Some(finish) })
}

/// Texts that follow each other are one, a line each.
fn joined(blocks: Vec<Block>) -> Vec<Block> {
    let mut joined: Vec<Block> = Vec::new();
    for block in blocks {
        match (joined.last_mut(), block) {
            (Some(Block::Text { text, .. }), Block::Text { text: more, .. }) => {
                text.push('\n');
                text.push_str(&more);
            }
            (_, block) => joined.push(block),
        }
    }
    joined
}

fn tool_name(tool: &Tool) -> Option<&str> {
    match tool {
        Tool::Function { name, .. } => Some(name),
        Tool::Opaque(_) => None,
    }
}

/// Whether the client can have this tool called so. One that names no tools knows what its rules call.
fn is_offered(call: &Call, request: &Request) -> bool {
    let is_chosen = match &request.tool_choice {
        Some(ToolChoice::None) => false,
        Some(ToolChoice::Function(name)) => *name == call.tool,
        _ => true,
    };
    if request.tools.is_empty() {
        return is_chosen;
    }
    let offered = request.tools.iter().find(|tool| tool_name(tool) == Some(&call.tool));
    is_chosen
        && matches!(offered, Some(Tool::Function { parameters, .. }) if fits(&call.arguments, parameters.as_ref()))
}

/// Whether the arguments are those that the schema asks for, as far as their names and kinds go.
fn fits(arguments: &Value, schema: Option<&Value>) -> bool {
    let (Some(given), Some(schema)) = (arguments.as_object(), schema) else { return true };
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let has_required = required.iter().filter_map(Value::as_str).all(|name| given.contains_key(name));
    let Some(known) = schema["properties"].as_object() else { return has_required };
    let is_closed = schema["additionalProperties"] == Value::Bool(false);
    has_required
        && given.iter().all(|(name, value)| match known.get(name) {
            Some(wanted) => is_of_type(value, wanted),
            None => !is_closed,
        })
}

fn is_of_type(value: &Value, schema: &Value) -> bool {
    let listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
    let typed = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    listed && typed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(tools: Vec<Tool>) -> Request {
        Request { tools, ..Request::default() }
    }

    fn tool(parameters: Value) -> Tool {
        let name = "set_volume".to_owned();
        Tool::Function {
            name,
            description: None,
            parameters: Some(parameters),
            strict: None,
            extra: serde_json::Map::new(),
        }
    }

    fn call(arguments: Value) -> Call {
        Call { tool: "set_volume".to_owned(), arguments }
    }

    #[test]
    fn a_call_is_made_only_as_the_client_can_take_it() {
        let schema = json!({"required": ["db"], "properties": {"db": {"type": "number"}, "t": {"enum": ["bass"]}}, "additionalProperties": false});
        let offers = request(vec![tool(schema)]);
        assert!(is_offered(&call(json!({"db": 1.5, "t": "bass"})), &offers));
        for wrong in [
            json!({"t": "bass"}),
            json!({"db": "1"}),
            json!({"db": 1, "t": "kick"}),
            json!({"db": 1, "x": 1}),
        ] {
            assert!(!is_offered(&call(wrong.clone()), &offers), "{wrong}");
        }
        let other = Call { tool: "other".to_owned(), arguments: json!({}) };
        assert!(!is_offered(&other, &offers) && is_offered(&other, &request(Vec::new())));
        let none = Request { tool_choice: Some(ToolChoice::None), ..request(Vec::new()) };
        assert!(!is_offered(&other, &none));
    }

    #[test]
    fn several_actions_are_one_answer() {
        let several = Action::Several(vec![
            Action::Answer("a".into()),
            Action::Answer("b".into()),
            Action::Calls(vec![call(json!({"db": 1})), call(json!({"db": 2}))]),
        ]);
        let choice = choice(&several, "req_7", &Request::default()).unwrap();
        assert_eq!(choice.said(), "a\nb");
        let ids: Vec<&str> = choice
            .blocks
            .iter()
            .filter_map(|block| match block {
                Block::ToolCall(call) => Some(call.id.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(ids.len(), 2);
        assert_ne!(ids[0], ids[1]);
        assert_eq!(choice.finish, Some(Finish::ToolCalls));
    }

    #[test]
    fn what_a_service_says_is_put_where_it_belongs() {
        let body = r#"{"now": {"degrees": 21, "sky": "clear"}}"#;
        assert_eq!(told("{body.now.degrees} degrees, {body.now.sky}{body.x}.", body), "21 degrees, clear.");
        assert_eq!(told("it says {body}", " plain "), "it says plain");
        assert_eq!(told("{bodyguard} {body", ""), "{bodyguard} {body");
    }
}
