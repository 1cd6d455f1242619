//! Requests: JSON to [`Request`] and back.

use super::message::{Calls, decode_message, encode_message, images};
use super::{CHAT, GENERATE};
use crate::chat::{
    Delivery, Message, Part, Protocol, Request, ResponseFormat, Role, Sampling, Thinking, Tool, ToolChoice,
};
use crate::wire::foreign::{at_home, inexpressible, leave_extra, opaque_tool, thinks_freely};
use crate::wire::json::{Body, Fields};
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value, json};

/// The most texts in one request for vectors.
const MAX_INPUTS: usize = 2048;

/// Understands the body of `/api/chat`.
pub fn decode_chat_request(body: &[u8]) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    let messages: Vec<Value> = fields.take("messages")?.unwrap_or_default();
    let mut decoded = Vec::with_capacity(messages.len());
    let mut calls = Calls::of(&messages);
    for (at, message) in messages.into_iter().enumerate() {
        decoded.push(decode_message(at, message, &mut calls)?);
    }
    let tools: Vec<Value> = fields.take("tools")?.unwrap_or_default();
    let tools = tools.into_iter().map(decode_tool).collect();
    let request = decode_shared(&mut fields)?;
    Ok(Request { messages: decoded, tools, extra: fields.map, ..request })
}

/// Understands the body of `/api/generate`.
pub fn decode_generate_request(body: &[u8]) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    let mut messages = Vec::new();
    let system: Option<String> = fields.take("system")?;
    messages.extend(system.filter(|text| !text.is_empty()).map(|text| Message::text(Role::System, text)));
    let prompt: Option<String> = fields.take("prompt")?;
    let mut parts: Vec<Part> = prompt.filter(|text| !text.is_empty()).map(Part::text).into_iter().collect();
    parts.extend(images(&mut fields)?);
    if !parts.is_empty() {
        messages.push(Message { parts, ..Message::empty(Role::User) });
    }
    let request = decode_shared(&mut fields)?;
    Ok(Request { messages, extra: fields.map, ..request })
}

/// What both paths have in common.
fn decode_shared(fields: &mut Fields) -> Result<Request, Error> {
    let sampling = decode_options(fields)?;
    Ok(Request {
        model: fields.model()?,
        response_format: fields.take("format")?.and_then(decode_format),
        thinking: fields.take("think")?.map(decode_think),
        sampling,
        // Streams unless told otherwise.
        delivery: Delivery { stream: fields.take("stream")?.unwrap_or(true), options: Map::new() },
        ..Request::default()
    })
}

/// The options that have a word of their own; the others stay where they are.
fn decode_options(fields: &mut Fields) -> Result<Sampling, Error> {
    let logprobs = fields.take("logprobs")?;
    let top_logprobs = fields.take("top_logprobs")?;
    let Some(options) = fields.take::<Value>("options")? else {
        return Ok(Sampling { logprobs, top_logprobs, ..Sampling::default() });
    };
    let mut options = Fields::of(options, "options")?;
    let limit: Option<i64> = options.take("num_predict")?;
    let stop = match options.take::<Value>("stop")? {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(several) => crate::wire::json::typed(several, || "options.stop".to_owned())?,
    };
    let sampling = Sampling {
        temperature: options.take("temperature")?,
        top_p: options.take("top_p")?,
        top_k: options.take("top_k")?,
        // Below zero there is no limit.
        max_tokens: limit.and_then(|limit| u32::try_from(limit).ok()),
        seed: options.take("seed")?,
        stop,
        presence_penalty: options.take("presence_penalty")?,
        frequency_penalty: options.take("frequency_penalty")?,
        logprobs,
        top_logprobs,
        ..Sampling::default()
    };
    if !options.map.is_empty() {
        fields.map.insert("options".to_owned(), Value::Object(options.map));
    }
    Ok(sampling)
}

fn decode_format(format: Value) -> Option<ResponseFormat> {
    match format {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) if text == "json" => Some(ResponseFormat::Json),
        Value::Object(_) => {
            Some(ResponseFormat::Schema { name: None, description: None, schema: format, strict: None })
        }
        other => Some(ResponseFormat::Opaque(other)),
    }
}

fn decode_think(think: Value) -> Thinking {
    match think {
        Value::Bool(true) => Thinking { shown: Some(true), ..Thinking::default() },
        Value::Bool(false) => Thinking { budget: Some(0), ..Thinking::default() },
        Value::String(effort) => Thinking { effort: Some(effort), ..Thinking::default() },
        _ => Thinking::default(),
    }
}

/// As OpenAI's: `{"type": "function", "function": {…}}`.
fn decode_tool(tool: Value) -> Tool {
    let function = tool.get("function").unwrap_or(&Value::Null);
    let Some(name) = function.get("name").and_then(Value::as_str) else { return Tool::Opaque(tool) };
    let known = ["name", "description", "parameters"];
    let beside = function.as_object().into_iter().flatten();
    let beside = beside.filter(|(field, _)| !known.contains(&field.as_str()));
    Tool::Function {
        name: name.to_owned(),
        description: function.get("description").and_then(Value::as_str).map(str::to_owned),
        parameters: function.get("parameters").filter(|value| !value.is_null()).cloned(),
        strict: None,
        extra: beside.map(|(field, value)| (field.clone(), value.clone())).collect(),
    }
}

/// Whether a request asks nothing: Ollama's clients have a model loaded or unloaded so. A chat may begin with
/// what the system says, and a prompt may not.
pub fn is_load(request: &Request) -> bool {
    match request.received.protocol {
        GENERATE => request.messages.iter().all(|message| message.role == Role::System),
        _ => request.messages.is_empty(),
    }
}

/// Writes a body for `/api/chat`.
pub fn encode_chat_request(request: &Request, dropped: &mut Dropped) -> Result<Map<String, Value>, Error> {
    let mut body = begun(request, CHAT, dropped)?;
    let mut messages = Vec::with_capacity(request.messages.len());
    for at in 0..request.messages.len() {
        messages.push(encode_message(request, at, dropped)?);
    }
    body.set("messages", Some(messages));
    encode_tools(request, &mut body, dropped)?;
    encode_shared(request, CHAT, &mut body, dropped)?;
    Ok(body.0)
}

/// Writes a body for `/api/generate`: one question, and what the system says.
pub fn encode_generate_request(
    request: &Request,
    dropped: &mut Dropped,
) -> Result<Map<String, Value>, Error> {
    let mut body = begun(request, GENERATE, dropped)?;
    if !request.tools.is_empty() {
        return Err(inexpressible(GENERATE, "tools", "a tool"));
    }
    let mut system = Vec::new();
    let mut asked = None;
    for (at, message) in request.messages.iter().enumerate() {
        match message.role {
            Role::System | Role::Developer => system.push(message.plain_text()),
            Role::User if asked.is_none() => asked = Some(encode_message(request, at, dropped)?),
            _ => return Err(inexpressible(GENERATE, format!("messages[{at}]"), "a conversation")),
        }
    }
    body.set("system", (!system.is_empty()).then(|| system.join("\n")));
    let mut asked = asked.unwrap_or_default();
    let prompt = asked["content"].take();
    body.set("prompt", prompt.as_str().filter(|text| !text.is_empty()));
    body.set("images", asked.get("images"));
    encode_shared(request, GENERATE, &mut body, dropped)?;
    Ok(body.0)
}

fn begun(request: &Request, protocol: Protocol, dropped: &mut Dropped) -> Result<Body, Error> {
    let mut body = Body::default();
    if at_home(request, protocol) {
        body.0.clone_from(&request.extra);
    } else {
        leave_extra(request, protocol, dropped)?;
    }
    body.set("model", Some(&request.model));
    Ok(body)
}

fn encode_tools(request: &Request, body: &mut Body, dropped: &mut Dropped) -> Result<(), Error> {
    match &request.tool_choice {
        None | Some(ToolChoice::Auto) => {}
        // Where none may be called, none is offered.
        Some(ToolChoice::None) => return Ok(()),
        Some(ToolChoice::Required | ToolChoice::Function(_) | ToolChoice::Opaque(_)) => {
            return Err(inexpressible(CHAT, "tool_choice", "a tool that must be called"));
        }
    }
    if request.parallel_tools == Some(false) {
        dropped.push("parallel_tool_calls".to_owned());
    }
    let mut tools = Vec::with_capacity(request.tools.len());
    for (at, tool) in request.tools.iter().enumerate() {
        let Tool::Function { name, description, parameters, strict, extra } = tool else {
            tools.push(opaque_tool(request, CHAT, at)?);
            continue;
        };
        let mut function = Body::default();
        if at_home(request, CHAT) {
            function.0.clone_from(extra);
        } else {
            let left = extra.keys().map(String::as_str).chain(strict.map(|_| "strict"));
            dropped.extend(left.map(|field| format!("tools[{at}].{field}")));
        }
        function.set("name", Some(name));
        function.set("description", description.as_ref());
        function.set("parameters", parameters.as_ref());
        tools.push(json!({ "type": "function", "function": function.value() }));
    }
    body.set("tools", (!tools.is_empty()).then_some(tools));
    Ok(())
}

fn encode_shared(
    request: &Request,
    protocol: Protocol,
    body: &mut Body,
    dropped: &mut Dropped,
) -> Result<(), Error> {
    body.set("format", encode_format(request, protocol, dropped)?);
    body.set("think", encode_think(request, protocol, dropped));
    // Always said: the default is the other one.
    body.set("stream", Some(request.delivery.stream));
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
    if n.is_some_and(|n| n != 1) {
        return Err(inexpressible(protocol, "n", "several answers at once"));
    }
    let mut options = match body.0.shift_remove("options") {
        Some(Value::Object(options)) => Body(options),
        _ => Body::default(),
    };
    options.set("temperature", *temperature);
    options.set("top_p", *top_p);
    options.set("top_k", *top_k);
    options.set("num_predict", request.sampling.answer_limit());
    options.set("seed", *seed);
    options.set("stop", (!stop.is_empty()).then_some(stop));
    options.set("presence_penalty", *presence_penalty);
    options.set("frequency_penalty", *frequency_penalty);
    body.set("options", (!options.0.is_empty()).then(|| options.value()));
    body.set("logprobs", *logprobs);
    body.set("top_logprobs", *top_logprobs);
    Ok(())
}

fn encode_format(
    request: &Request,
    protocol: Protocol,
    dropped: &mut Dropped,
) -> Result<Option<Value>, Error> {
    Ok(match &request.response_format {
        None | Some(ResponseFormat::Text) => None,
        Some(ResponseFormat::Json) => Some(json!("json")),
        Some(ResponseFormat::Schema { name: _, description, schema, strict: _ }) => {
            dropped.extend(description.as_ref().map(|_| "response_format.description".to_owned()));
            Some(schema.clone())
        }
        Some(ResponseFormat::Opaque(value)) if at_home(request, protocol) => Some(value.clone()),
        Some(ResponseFormat::Opaque(_)) => {
            return Err(inexpressible(protocol, "response_format", "this format"));
        }
    })
}

/// Three words are known here; others become the nearest of them.
fn encode_think(request: &Request, protocol: Protocol, dropped: &mut Dropped) -> Option<Value> {
    let thinking = request.thinking.as_ref()?;
    let Some(effort) = thinking.effort.as_deref() else {
        let some = thinking.budget.map(|budget| json!(budget > 0));
        return some.or(thinks_freely(thinking).then_some(json!(true)));
    };
    let near = match effort {
        "none" => return Some(json!(false)),
        _ if at_home(request, protocol) => effort,
        "minimal" | "low" => "low",
        "high" | "xhigh" | "max" => "high",
        _ => "medium",
    };
    dropped.extend((near != effort).then(|| "thinking.effort".to_owned()));
    Some(json!(near))
}

/// Understands the body of the older `/api/embeddings`: the model, and the text.
pub fn decode_embedding(body: &[u8]) -> Result<(String, String), Error> {
    let mut fields = Fields::parse(body)?;
    Ok((fields.model()?, fields.required("prompt")?))
}

/// Understands the body of `/api/embed`: the model, and the texts.
pub fn decode_embed(body: &[u8]) -> Result<(String, Vec<String>), Error> {
    let mut fields = Fields::parse(body)?;
    let model = fields.model()?;
    let input = match fields.required::<Value>("input")? {
        Value::String(text) => vec![text],
        several => crate::wire::json::typed::<Vec<String>>(several, || "input".to_owned())?,
    };
    match input.len() {
        0..=MAX_INPUTS => Ok((model, input)),
        _ => Err(Error::at("input", format!("`input` holds more than {MAX_INPUTS} texts"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_to_think_is_said_in_the_words_there_are() {
        let told = |protocol, thinking: Thinking| {
            let mut request = Request { thinking: Some(thinking), ..Request::default() };
            request.received.protocol = protocol;
            let mut dropped = Dropped::new();
            (encode_think(&request, CHAT, &mut dropped), dropped)
        };
        let effort = |effort: &str| Thinking { effort: Some(effort.to_owned()), ..Thinking::default() };
        for (wanted, word) in [("minimal", "low"), ("medium", "medium"), ("xhigh", "high"), ("odd", "medium")]
        {
            let (think, dropped) = told(Protocol::OpenAiChat, effort(wanted));
            assert_eq!((think, dropped.is_empty()), (Some(json!(word)), wanted == word));
            assert_eq!(told(CHAT, effort(wanted)), (Some(json!(wanted)), vec![]));
        }
        assert_eq!(told(Protocol::OpenAiChat, effort("none")).0, Some(json!(false)));
        let budget = |budget| Thinking { budget: Some(budget), ..Thinking::default() };
        assert_eq!(told(Protocol::Anthropic, budget(0)).0, Some(json!(false)));
        assert_eq!(told(Protocol::Anthropic, budget(1024)).0, Some(json!(true)));
        let adaptive = json!({ "type": "adaptive" }).as_object().cloned().unwrap();
        let adaptive = Thinking { extra: adaptive, ..Thinking::default() };
        assert_eq!(told(Protocol::Anthropic, adaptive).0, Some(json!(true)));
    }

    #[test]
    fn only_an_empty_chat_and_an_empty_prompt_load_a_model() {
        let loads = |protocol, body: Value| {
            let body = bytes::Bytes::from(body.to_string());
            is_load(&crate::wire::decode_request(protocol, &body, &crate::wire::Target::default()).unwrap())
        };
        assert!(loads(CHAT, json!({ "model": "m", "messages": [] })));
        let system = json!([{ "role": "system", "content": "say hello" }]);
        assert!(!loads(CHAT, json!({ "model": "m", "messages": system })));
        assert!(loads(GENERATE, json!({ "model": "m", "system": "be kind" })));
        assert!(!loads(GENERATE, json!({ "model": "m", "prompt": "hello" })));
    }

    #[test]
    fn no_two_calls_of_a_conversation_share_an_id() {
        let call = |id: Value| json!({ "role": "assistant", "tool_calls": [{ "id": id, "function": { "name": "f" } }] });
        let result = json!({ "role": "tool", "tool_name": "f", "content": "1" });
        let messages = [
            call(Value::Null),
            result.clone(),
            call(Value::Null),
            result.clone(),
            call(json!("call_1")),
            json!({ "role": "tool", "tool_call_id": "call_1", "content": "1" }),
            call(Value::Null),
            result,
        ];
        let body = json!({ "model": "m", "messages": messages }).to_string();
        let request = decode_chat_request(body.as_bytes()).unwrap();
        let calls: Vec<&str> =
            request.messages.iter().flat_map(Message::tool_calls).map(|call| call.id.as_str()).collect();
        assert_eq!(calls, ["call_0", "call_2", "call_1", "call_3"]);
        let answered: Vec<&str> =
            request.messages.iter().filter_map(|message| message.tool_call_id.as_deref()).collect();
        assert_eq!(answered, calls);
    }
}
