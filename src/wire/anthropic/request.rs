//! Requests: JSON to [`Request`] and back, without loss.

use super::HERE;
use super::block::text_block;
use super::message::{decode_message, decode_system, without_nulls};
use super::schema::adapted;
use super::thinking::{Plan, decode_thinking, foreign, native};
use super::turn::{encode_messages, joined};
use crate::chat::{Delivery, Request, ResponseFormat, Sampling, Tool, ToolChoice};
use crate::wire::foreign::{at_home, inexpressible, leave_extra, opaque_tool};
use crate::wire::json::{Body, Fields};
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The limit on the answer's length for a request without one: here it is required.
const DEFAULT_MAX_TOKENS: u32 = 4_096;

/// Asks for JSON where there is no schema: there is no other way to say it here.
const JSON_ONLY: &str = "Answer with a single JSON object and nothing else.";

/// The smallest `top_p` that is taken with thinking.
const LEAST_TOP_P: f64 = 0.95;

/// Understands a request's body. A limit on the answer's length need not be there: token counting has none.
pub fn decode_request(body: &[u8]) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    let model = fields.model()?;
    let mut messages: Vec<_> =
        fields.take::<Value>("system")?.map(decode_system).transpose()?.into_iter().collect();
    for (at, message) in fields.filled_list("messages")?.into_iter().enumerate() {
        decode_message(at, message, &mut messages)?;
    }
    let (tool_choice, parallel_tools) = decode_tool_choice(&mut fields)?;
    let tools: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let (effort, response_format) = decode_output(&mut fields)?;
    Ok(Request {
        model,
        messages,
        tools: tools.into_iter().map(decode_tool).collect(),
        tool_choice,
        parallel_tools,
        response_format,
        thinking: decode_thinking(&mut fields, effort)?,
        sampling: Sampling {
            temperature: fields.take("temperature")?,
            top_p: fields.take("top_p")?,
            top_k: fields.take("top_k")?,
            max_tokens: fields.take("max_tokens")?,
            stop: fields.take("stop_sequences")?.unwrap_or_default(),
            ..Sampling::default()
        },
        delivery: Delivery { stream: fields.take("stream")?.unwrap_or_default(), options: Map::new() },
        extra: fields.map,
        ..Request::default()
    })
}

/// The effort and the form of the answer, in `output_config`; an older name of the latter is `output_format`.
fn decode_output(fields: &mut Fields) -> Result<(Option<String>, Option<ResponseFormat>), Error> {
    let older: Option<Value> = fields.take("output_format")?;
    let Some(config) = fields.take::<Value>("output_config")? else {
        return Ok((None, older.map(decode_format)));
    };
    let mut config = Fields::of(config, "output_config")?;
    let (effort, format) = (config.take("effort")?, config.take::<Value>("format")?);
    if !config.map.is_empty() {
        fields.map.insert("output_config".to_owned(), Value::Object(config.map));
    }
    Ok((effort, format.or(older).map(decode_format)))
}

fn decode_format(format: Value) -> ResponseFormat {
    let fields = format.as_object().filter(|fields| fields.len() == 2 && format["type"] == "json_schema");
    match fields.and_then(|fields| fields.get("schema")) {
        Some(schema) => {
            let schema = schema.clone();
            ResponseFormat::Schema { name: None, description: None, schema, strict: None }
        }
        None => ResponseFormat::Opaque(format),
    }
}

/// A tool of the client's; the provider's own, which have a type, stay as they are.
fn decode_tool(tool: Value) -> Tool {
    let fields = tool.as_object().filter(|_| tool["type"].is_null() || tool["type"] == "custom");
    let named = fields.and_then(|fields| Some((fields.get("name")?.as_str()?.to_owned(), fields)));
    let Some((name, fields)) = named else { return Tool::Opaque(tool) };
    Tool::Function {
        name,
        description: fields.get("description").and_then(Value::as_str).map(str::to_owned),
        parameters: fields.get("input_schema").filter(|schema| !schema.is_null()).cloned(),
        strict: fields.get("strict").and_then(Value::as_bool),
        extra: without_nulls(fields, &["type", "name", "description", "input_schema", "strict"]),
    }
}

fn encode_tool(request: &Request, at: usize, dropped: &mut Dropped) -> Result<Value, Error> {
    let Tool::Function { name, description, parameters, strict, extra } = &request.tools[at] else {
        return opaque_tool(request, HERE, at);
    };
    let mut tool = Body::default();
    let mut schema = parameters.clone();
    if at_home(request, HERE) {
        tool.0.clone_from(extra);
    } else {
        dropped.extend(extra.keys().map(|field| format!("tools[{at}].{field}")));
        let given = object_schema(schema);
        // Only where it is to be followed to the letter.
        schema = Some(match strict {
            Some(true) => taken_schema(&given, &format!("tools[{at}]"), dropped),
            _ => given,
        });
    }
    tool.set("name", Some(name));
    tool.set("description", description.as_ref());
    tool.set("input_schema", schema);
    tool.set("strict", strict.filter(|strict| *strict || at_home(request, HERE)));
    Ok(tool.value())
}

/// A schema is required here, and must say that it is one of an object.
fn object_schema(schema: Option<Value>) -> Value {
    match schema {
        Some(Value::Object(mut fields)) => {
            fields.entry("type").or_insert_with(|| json!("object"));
            Value::Object(fields)
        }
        _ => json!({ "type": "object", "properties": {} }),
    }
}

/// A foreign schema as it is taken here; what limits a value is noted where it is only told in words now.
fn taken_schema(schema: &Value, field: &str, dropped: &mut Dropped) -> Value {
    let mut moved = BTreeSet::new();
    let schema = adapted(schema, &mut moved);
    dropped.extend(moved.into_iter().map(|keyword| format!("{field}.{keyword}")));
    schema
}

fn decode_tool_choice(fields: &mut Fields) -> Result<(Option<ToolChoice>, Option<bool>), Error> {
    let Some(choice) = fields.take::<Value>("tool_choice")? else { return Ok((None, None)) };
    let mut inner = Fields::of(choice.clone(), "tool_choice")?;
    let kind: String = inner.required("type")?;
    let single: Option<bool> = inner.take("disable_parallel_tool_use")?;
    let name: Option<String> = inner.take("name")?;
    let known = match (kind.as_str(), name) {
        _ if !inner.map.is_empty() => None,
        ("auto", None) => Some(ToolChoice::Auto),
        ("any", None) => Some(ToolChoice::Required),
        ("none", None) => Some(ToolChoice::None),
        ("tool", Some(name)) => Some(ToolChoice::Function(name)),
        _ => None,
    };
    match known {
        Some(known) => Ok((Some(known), single.map(|single| !single))),
        None => Ok((Some(ToolChoice::Opaque(choice)), None)),
    }
}

fn encode_tool_choice(request: &Request, dropped: &mut Dropped) -> Result<Option<Value>, Error> {
    let single = request.parallel_tools.map(|parallel| !parallel);
    let mut body = match &request.tool_choice {
        Some(ToolChoice::Auto) => json!({ "type": "auto" }),
        Some(ToolChoice::Required) => json!({ "type": "any" }),
        Some(ToolChoice::Function(name)) => json!({ "type": "tool", "name": name }),
        Some(ToolChoice::None) => json!({ "type": "none" }),
        Some(ToolChoice::Opaque(value)) if at_home(request, HERE) => return Ok(Some(value.clone())),
        Some(ToolChoice::Opaque(_)) => return Err(inexpressible(HERE, "tool_choice", "this choice")),
        None if single == Some(true) && !request.tools.is_empty() => json!({ "type": "auto" }),
        None => {
            // Several at once is how it is here anyway.
            dropped.extend((single == Some(true)).then(|| "parallel_tools".to_owned()));
            return Ok(None);
        }
    };
    // Where there is no call, there are no two.
    if at_home(request, HERE) || request.tool_choice != Some(ToolChoice::None) {
        body.as_object_mut().into_iter().for_each(|body| {
            body.extend(single.map(|single| ("disable_parallel_tool_use".to_owned(), json!(single))));
        });
    }
    Ok(Some(body))
}

/// Writes a request's body. Decoding it again gives the same request, if it came in this protocol.
pub fn encode_request(request: &Request, dropped: &mut Dropped) -> Result<Map<String, Value>, Error> {
    let home = at_home(request, HERE);
    let mut body = Body::default();
    if home {
        body.0.clone_from(&request.extra);
    } else {
        leave_extra(request, HERE, dropped)?;
    }
    body.set("model", Some(&request.model));
    let mut turns = encode_messages(request, dropped)?;
    let plan = match &request.thinking {
        Some(thinking) if home => native(thinking, &turns.messages, dropped),
        _ => foreign(request, &turns.messages, dropped),
    };
    encode_sampling(request, &plan, &mut body, dropped)?;
    let format = encode_format(request, &mut turns.system, dropped)?;
    encode_output(plan.effort, format, &mut body);
    body.set("system", (!turns.system.is_empty()).then(|| joined(turns.system)));
    body.set("messages", Some(turns.messages));
    let tools: Vec<Value> =
        (0..request.tools.len()).map(|at| encode_tool(request, at, dropped)).collect::<Result<_, _>>()?;
    body.set("tools", (!tools.is_empty()).then_some(tools));
    body.set("tool_choice", encode_tool_choice(request, dropped)?);
    body.set("thinking", plan.thinking);
    body.set("stream", request.delivery.stream.then_some(true));
    Ok(body.0)
}

/// Beside what `extra` keeps of `output_config`.
fn encode_output(effort: Option<Value>, format: Option<Value>, body: &mut Body) {
    let kept = body.0.shift_remove("output_config");
    let mut config = Body(kept.as_ref().and_then(Value::as_object).cloned().unwrap_or_default());
    config.set("effort", effort);
    config.set("format", format);
    body.set("output_config", (!config.0.is_empty()).then(|| config.value()));
}

/// The form of the answer; what cannot be said as such is said to the model.
fn encode_format(
    request: &Request,
    system: &mut Vec<Value>,
    dropped: &mut Dropped,
) -> Result<Option<Value>, Error> {
    match &request.response_format {
        None | Some(ResponseFormat::Text) => Ok(None),
        Some(ResponseFormat::Json) => {
            system.push(text_block(JSON_ONLY));
            dropped.push("response_format".to_owned());
            Ok(None)
        }
        // The name is for the client alone, and every schema is followed to the letter.
        Some(ResponseFormat::Schema { name: _, description, schema, strict: _ }) => {
            dropped.extend(description.as_ref().map(|_| "response_format.description".to_owned()));
            let schema = match at_home(request, HERE) {
                true => schema.clone(),
                false => taken_schema(schema, "response_format", dropped),
            };
            Ok(Some(json!({ "type": "json_schema", "schema": schema })))
        }
        Some(ResponseFormat::Opaque(value)) if at_home(request, HERE) => Ok(Some(value.clone())),
        Some(ResponseFormat::Opaque(_)) => Err(inexpressible(HERE, "response_format", "this format")),
    }
}

fn encode_sampling(
    request: &Request,
    plan: &Plan,
    body: &mut Body,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    let Sampling {
        temperature,
        top_p,
        top_k,
        max_tokens: _,
        max_completion_tokens: _,
        seed,
        stop,
        n,
        presence_penalty,
        frequency_penalty,
        logprobs,
        top_logprobs,
    } = &request.sampling;
    if n.is_some_and(|n| n > 1) {
        return Err(inexpressible(HERE, "n", "more than one answer"));
    }
    if *logprobs == Some(true) {
        return Err(inexpressible(HERE, "logprobs", "asking for likelihoods"));
    }
    let home = at_home(request, HERE);
    if !home && stop.iter().any(|stop| stop.trim().is_empty()) {
        return Err(inexpressible(HERE, "stop", "a blank stop sequence"));
    }
    body.set("max_tokens", Some(max_tokens(request, plan.budget)));
    body.set("stop_sequences", (!stop.is_empty()).then_some(stop));
    let thinks = plan.budget.is_some();
    let mut note = |lost: bool, field: &str| dropped.extend(lost.then(|| field.to_owned()));
    let hot = !home && temperature.is_some_and(|temperature| temperature > 1.0);
    note(temperature.is_some() && (thinks || hot), "temperature");
    let temperature = temperature.map(|temperature| if hot { 1.0 } else { temperature });
    body.set("temperature", temperature.filter(|_| !thinks));
    let narrow = thinks && top_p.is_some_and(|top_p| top_p < LEAST_TOP_P);
    // Newer models take one of the two only.
    let second = !home && !thinks && temperature.is_some();
    note(top_p.is_some() && (narrow || second), "top_p");
    body.set("top_p", top_p.filter(|_| !narrow && !second));
    note(thinks && top_k.is_some(), "top_k");
    body.set("top_k", top_k.filter(|_| !thinks));
    note(seed.is_some(), "seed");
    note(presence_penalty.is_some(), "presence_penalty");
    note(frequency_penalty.is_some(), "frequency_penalty");
    note(top_logprobs.is_some(), "top_logprobs");
    Ok(())
}

/// The limit on the answer's length. Here thoughts count towards it: it must lie above what is set aside for
/// them, so where it does not, that much is added.
fn max_tokens(request: &Request, budget: Option<u32>) -> u32 {
    let limit = request.sampling.answer_limit().unwrap_or(DEFAULT_MAX_TOKENS);
    match budget {
        Some(budget) if limit <= budget => budget.saturating_add(limit),
        _ => limit,
    }
}
