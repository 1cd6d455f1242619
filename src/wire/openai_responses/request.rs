//! Requests: JSON to [`Request`] and back.

use super::HERE;
use super::input::decode_input;
use super::said::{encode_input, instructions};
use crate::chat::{
    Delivery, Message, Protocol, Request, ResponseFormat, Role, Sampling, Thinking, Tool, ToolChoice,
};
use crate::wire::foreign::{at_home, inexpressible, leave_extra, opaque_tool};
use crate::wire::json::{Body, Fields};
use crate::wire::openai_chat::decode_response_format;
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};

/// What asks for likelihoods, in `include`.
const LOGPROBS: &str = "message.output_text.logprobs";

/// What asks for the seals of thoughts, in `include`.
const SEALS: &str = "reasoning.encrypted_content";

/// Fields by which a request leans on something that the provider keeps.
const STATE: [&str; 4] = ["previous_response_id", "conversation", "prompt", "background"];

/// Understands a request's body.
pub fn decode_request(body: &[u8]) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    fields.map.retain(|_, value| !value.is_null());
    let model = fields.model()?;
    let mut messages = Vec::new();
    if let Some(text) = fields.take::<String>("instructions")? {
        messages.push(Message::text(Role::System, text));
    }
    let stateful = STATE.iter().any(|field| fields.map.contains_key(*field));
    decode_input(&mut fields, stateful, &mut messages)?;
    let tools: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    Ok(Request {
        model,
        messages,
        tools: tools.into_iter().map(decode_tool).collect(),
        tool_choice: fields.take("tool_choice")?.map(decode_tool_choice),
        parallel_tools: fields.take("parallel_tool_calls")?,
        response_format: decode_format(&mut fields)?,
        thinking: decode_thinking(&mut fields)?,
        sampling: decode_sampling(&mut fields)?,
        delivery: Delivery {
            stream: fields.take("stream")?.unwrap_or_default(),
            options: fields.take("stream_options")?.unwrap_or_default(),
        },
        extra: fields.map,
        ..Request::default()
    })
}

/// `{"type": "function", "name": …}`; anything else stays as it is.
fn decode_tool(tool: Value) -> Tool {
    let name = tool.get("name").and_then(Value::as_str).filter(|_| tool["type"] == "function");
    let (Some(name), Some(fields)) = (name, tool.as_object()) else { return Tool::Opaque(tool) };
    let known = ["type", "name", "description", "parameters", "strict"];
    let unknown = fields.iter().filter(|(field, _)| !known.contains(&field.as_str()));
    Tool::Function {
        name: name.to_owned(),
        description: fields.get("description").and_then(Value::as_str).map(str::to_owned),
        parameters: fields.get("parameters").filter(|value| !value.is_null()).cloned(),
        strict: fields.get("strict").and_then(Value::as_bool),
        extra: unknown.map(|(field, value)| (field.clone(), value.clone())).collect(),
    }
}

fn decode_tool_choice(choice: Value) -> ToolChoice {
    let plain = choice.as_object().is_some_and(|choice| choice.len() == 2);
    match (choice.as_str(), choice.get("name").and_then(Value::as_str)) {
        (Some("auto"), _) => ToolChoice::Auto,
        (Some("none"), _) => ToolChoice::None,
        (Some("required"), _) => ToolChoice::Required,
        (_, Some(name)) if plain && choice["type"] == "function" => ToolChoice::Function(name.to_owned()),
        _ => ToolChoice::Opaque(choice),
    }
}

/// `text.format`; what else `text` holds stays there.
fn decode_format(fields: &mut Fields) -> Result<Option<ResponseFormat>, Error> {
    let Some(text) = fields.take::<Value>("text")? else { return Ok(None) };
    let mut text = Fields::of(text, "text")?;
    let format = text.take::<Value>("format")?;
    if !text.map.is_empty() {
        fields.map.insert("text".to_owned(), Value::Object(text.map));
    }
    Ok(format.map(decode_response_format))
}

fn decode_thinking(fields: &mut Fields) -> Result<Option<Thinking>, Error> {
    let Some(reasoning) = fields.take::<Value>("reasoning")? else { return Ok(None) };
    let mut reasoning = Fields::of(reasoning, "reasoning")?;
    let effort = reasoning.take("effort")?;
    reasoning.map.retain(|_, value| !value.is_null());
    let shown = reasoning.map.contains_key("summary").then_some(true);
    Ok(Some(Thinking { effort, budget: None, shown, extra: reasoning.map }))
}

fn decode_sampling(fields: &mut Fields) -> Result<Sampling, Error> {
    let include: Vec<Value> = fields.take("include")?.unwrap_or_default();
    let asked = include.len();
    let others: Vec<Value> = include.into_iter().filter(|wanted| wanted != LOGPROBS).collect();
    let logprobs = (others.len() < asked).then_some(true);
    if !others.is_empty() {
        fields.map.insert("include".to_owned(), Value::Array(others));
    }
    Ok(Sampling {
        temperature: fields.take("temperature")?,
        top_p: fields.take("top_p")?,
        max_completion_tokens: fields.take("max_output_tokens")?,
        logprobs,
        top_logprobs: fields.take("top_logprobs")?,
        ..Sampling::default()
    })
}

/// Writes a request's body. Decoding it again gives the same request.
pub fn encode_request(request: &Request, dropped: &mut Dropped) -> Result<Map<String, Value>, Error> {
    let mut body = Body::default();
    body.set("model", Some(&request.model));
    body.set("instructions", instructions(request));
    body.set("input", Some(encode_input(request, dropped)?));
    body.0.extend(encode_settings(request, dropped)?);
    let Delivery { stream, options } = &request.delivery;
    body.set("stream", stream.then_some(true));
    let known = |field: &str| at_home(request, HERE) || field == "include_obfuscation";
    let options: Map<String, Value> = options
        .iter()
        .filter(|(field, _)| known(field))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    body.set("stream_options", (!options.is_empty()).then_some(options));
    Ok(body.0)
}

/// Everything of a request but its model, what is said in it, and how the answer is handed over.
pub(super) fn encode_settings(request: &Request, dropped: &mut Dropped) -> Result<Map<String, Value>, Error> {
    let Request {
        model: _,
        messages: _,
        tools,
        tool_choice,
        parallel_tools,
        response_format,
        thinking,
        sampling,
        delivery: _,
        extra,
        received: _,
    } = request;
    let home = at_home(request, HERE);
    let mut body = Body::default();
    if home {
        body.0.clone_from(extra);
    } else {
        leave_extra(request, HERE, dropped)?;
        // No other protocol has the provider keep what was said unless it is told to.
        body.set("store", Some(false));
    }
    let tools = (0..tools.len()).map(|at| encode_tool(request, at)).collect::<Result<Vec<_>, _>>()?;
    body.set("tools", (!tools.is_empty()).then_some(tools));
    let choice = tool_choice.as_ref().map(|choice| encode_tool_choice(request, choice)).transpose()?;
    body.set("tool_choice", choice);
    body.set("parallel_tool_calls", *parallel_tools);
    encode_format(request, response_format.as_ref(), &mut body)?;
    if let Some(thinking) = thinking {
        encode_thinking(thinking, home, &mut body, dropped);
    }
    encode_sampling(sampling, &mut body, dropped)?;
    Ok(body.0)
}

fn encode_tool(request: &Request, at: usize) -> Result<Value, Error> {
    let Tool::Function { name, description, parameters, strict, extra } = &request.tools[at] else {
        return opaque_tool(request, HERE, at);
    };
    let home = at_home(request, HERE);
    let mut tool = Body::default();
    tool.set("type", Some("function"));
    tool.set("name", Some(name));
    tool.set("description", description.as_ref());
    tool.set("parameters", Some(parameters));
    // Unsaid, it means yes here, and no everywhere else.
    tool.set("strict", strict.or((!home).then_some(false)));
    if home {
        tool.0.extend(extra.clone());
    }
    Ok(tool.value())
}

fn encode_tool_choice(request: &Request, choice: &ToolChoice) -> Result<Value, Error> {
    Ok(match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Function(name) => json!({ "type": "function", "name": name }),
        ToolChoice::Opaque(value) if at_home(request, HERE) => value.clone(),
        ToolChoice::Opaque(_) => return Err(inexpressible(HERE, "tool_choice", "this choice")),
    })
}

fn encode_format(request: &Request, format: Option<&ResponseFormat>, body: &mut Body) -> Result<(), Error> {
    let format = match format {
        None => return Ok(()),
        Some(ResponseFormat::Text) => json!({ "type": "text" }),
        Some(ResponseFormat::Json) => json!({ "type": "json_object" }),
        Some(ResponseFormat::Schema { name, description, schema, strict }) => {
            let mut format = Body::default();
            format.set("type", Some("json_schema"));
            // OpenAI insists on a name; others have none.
            let fallback = (!at_home(request, HERE)).then_some("answer");
            format.set("name", name.as_deref().or(fallback));
            format.set("description", description.as_ref());
            format.set("schema", Some(schema));
            format.set("strict", *strict);
            format.value()
        }
        Some(ResponseFormat::Opaque(value)) if at_home(request, HERE) => value.clone(),
        Some(ResponseFormat::Opaque(_)) => {
            return Err(inexpressible(HERE, "response_format", "this format"));
        }
    };
    let text = body.0.entry("text").or_insert_with(|| json!({}));
    if let Value::Object(text) = text {
        text.insert("format".to_owned(), format);
    }
    Ok(())
}

fn encode_thinking(thinking: &Thinking, home: bool, body: &mut Body, dropped: &mut Dropped) {
    let Thinking { effort, budget, shown, extra } = thinking;
    let mut reasoning = Body::default();
    let rounded = budget.map(effort_of);
    let effort = effort.as_deref().or(rounded);
    reasoning.set("effort", effort);
    if home {
        reasoning.0.extend(extra.clone());
    } else {
        dropped.extend(extra.keys().map(|field| format!("thinking.{field}")));
        reasoning.set("summary", shown.unwrap_or_default().then_some("auto"));
        // Nothing is kept there, so a thought is shown again in the next turn by its seal. A model that does
        // not think refuses the wish, hence only where thinking is asked for.
        if effort != Some("none") {
            body.set("include", Some([SEALS]));
        }
    }
    body.set("reasoning", Some(reasoning.value()));
}

/// A budget in tokens, rounded to one of OpenAI's words.
fn effort_of(budget: u32) -> &'static str {
    match budget {
        0 => "none",
        1..=2_048 => "low",
        2_049..=8_192 => "medium",
        _ => "high",
    }
}

fn encode_sampling(sampling: &Sampling, body: &mut Body, dropped: &mut Dropped) -> Result<(), Error> {
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
    } = sampling;
    if !stop.is_empty() {
        return Err(inexpressible(Protocol::OpenAiResponses, "stop", "a stop sequence"));
    }
    if n.is_some_and(|n| n > 1) {
        return Err(inexpressible(Protocol::OpenAiResponses, "n", "more than one answer"));
    }
    let left = [
        ("top_k", top_k.is_some()),
        ("seed", seed.is_some()),
        ("presence_penalty", presence_penalty.is_some_and(|penalty| penalty != 0.0)),
        ("frequency_penalty", frequency_penalty.is_some_and(|penalty| penalty != 0.0)),
    ];
    dropped.extend(left.iter().filter(|(_, set)| *set).map(|(field, _)| (*field).to_owned()));
    body.set("temperature", *temperature);
    body.set("top_p", *top_p);
    body.set("max_output_tokens", sampling.answer_limit());
    body.set("top_logprobs", *top_logprobs);
    if *logprobs == Some(true) {
        let include = body.0.entry("include").or_insert_with(|| json!([]));
        if let Value::Array(include) = include {
            include.push(json!(LOGPROBS));
        }
    }
    Ok(())
}
