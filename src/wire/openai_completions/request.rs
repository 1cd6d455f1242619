//! Requests: JSON to [`Request`] and back.

use super::HERE;
use crate::chat::{Delivery, Message, Part, Request, ResponseFormat, Role, Sampling, Tool, ToolChoice};
use crate::wire::foreign::{at_home, inexpressible, leave_extra};
use crate::wire::json::{Body, Fields};
use crate::wire::openai_chat::decode_sampling;
use crate::wire::{Dropped, Error};
use serde_json::{Map, Value};

/// How long an answer may be where the client sets no limit. In this protocol no limit means sixteen tokens,
/// which nobody who speaks another one would expect. Prompt and answer share the context, so it is modest.
const ANSWER_LIMIT: u32 = 2_048;

/// Understands a request's body.
pub fn decode_request(body: &[u8]) -> Result<Request, Error> {
    let mut fields = Fields::parse(body)?;
    let model = fields.model()?;
    let prompt = decode_prompt(fields.required("prompt")?)?;
    let likeliest: Option<u32> = fields.take("logprobs")?;
    let mut sampling = decode_sampling(&mut fields);
    if likeliest.is_some() {
        (sampling.logprobs, sampling.top_logprobs) = (Some(true), likeliest);
    }
    Ok(Request {
        model,
        messages: vec![Message { parts: vec![prompt], ..Message::empty(Role::User) }],
        sampling,
        delivery: Delivery {
            stream: fields.take("stream")?.unwrap_or_default(),
            options: fields.take("stream_options")?.unwrap_or_default(),
        },
        extra: fields.map,
        ..Request::default()
    })
}

/// One text. Several, and texts in tokens, mean something to the provider only.
fn decode_prompt(prompt: Value) -> Result<Part, Error> {
    match prompt {
        Value::String(text) => Ok(Part::text(text)),
        Value::Array(mut prompts) => match prompts.as_mut_slice() {
            [] => Err(Error::at("prompt", "`prompt` must not be empty")),
            [Value::String(text)] => Ok(Part::text(std::mem::take(text))),
            _ => Ok(Part::Opaque(Value::Array(prompts))),
        },
        _ => Err(Error::at("prompt", "`prompt` must be a string or a list")),
    }
}

/// Writes a request's body. Decoding it again gives the same request.
pub fn encode_request(request: &Request, dropped: &mut Dropped) -> Result<Map<String, Value>, Error> {
    let Request {
        model,
        messages,
        tools,
        tool_choice,
        parallel_tools,
        response_format,
        thinking,
        sampling,
        delivery,
        extra,
        received: _,
    } = request;
    refuse_tools(tools, tool_choice.as_ref())?;
    if response_format.as_ref().is_some_and(|format| *format != ResponseFormat::Text) {
        return Err(inexpressible(HERE, "response_format", "a form of the answer"));
    }
    let mut body = Body::default();
    let home = at_home(request, HERE);
    if home {
        body.0.clone_from(extra);
    } else {
        leave_extra(request, HERE, dropped)?;
    }
    let left = [("parallel_tool_calls", parallel_tools.is_some()), ("thinking", thinking.is_some())];
    dropped.extend(left.iter().filter(|(_, set)| *set).map(|(field, _)| (*field).to_owned()));
    body.set("model", Some(model));
    match messages.first().map(|message| message.parts.as_slice()) {
        Some([Part::Opaque(prompt)]) if home => body.set("prompt", Some(prompt)),
        _ => body.set("prompt", Some(prompt(messages, dropped)?)),
    }
    encode_sampling(sampling, home, &mut body);
    let Delivery { stream, options } = delivery;
    body.set("stream", stream.then_some(true));
    body.set("stream_options", (!options.is_empty()).then_some(options));
    Ok(body.0)
}

fn refuse_tools(tools: &[Tool], choice: Option<&ToolChoice>) -> Result<(), Error> {
    let field = match choice {
        _ if !tools.is_empty() => "tools",
        Some(ToolChoice::Required | ToolChoice::Function(_) | ToolChoice::Opaque(_)) => "tool_choice",
        Some(ToolChoice::Auto | ToolChoice::None) | None => return Ok(()),
    };
    Err(inexpressible(HERE, field, "a tool"))
}

/// The only thing that can be said here: one text of a user's.
fn prompt<'a>(messages: &'a [Message], dropped: &mut Dropped) -> Result<&'a str, Error> {
    let [Message { role: Role::User, parts, tool_call_id: _, tool_name: _, failed: _, extra }] = messages
    else {
        return Err(inexpressible(HERE, "messages", "a conversation"));
    };
    let [Part::Text { text, extra: beside }] = parts.as_slice() else {
        return Err(inexpressible(HERE, "messages", "anything but one text"));
    };
    dropped.extend(extra.keys().chain(beside.keys()).map(|field| format!("messages[0].{field}")));
    Ok(text)
}

fn encode_sampling(sampling: &Sampling, home: bool, body: &mut Body) {
    let Sampling {
        temperature,
        top_p,
        top_k,
        max_tokens,
        max_completion_tokens,
        seed,
        stop,
        n,
        presence_penalty,
        frequency_penalty,
        logprobs,
        top_logprobs,
    } = sampling;
    body.set("temperature", *temperature);
    body.set("top_p", *top_p);
    body.set("top_k", *top_k);
    match home {
        true => {
            body.set("max_tokens", *max_tokens);
            body.set("max_completion_tokens", *max_completion_tokens);
        }
        false => body.set("max_tokens", Some(sampling.answer_limit().unwrap_or(ANSWER_LIMIT))),
    }
    body.set("seed", *seed);
    body.set("stop", (!stop.is_empty()).then_some(stop));
    body.set("n", *n);
    body.set("presence_penalty", *presence_penalty);
    body.set("frequency_penalty", *frequency_penalty);
    match logprobs {
        Some(true) => body.set("logprobs", Some(top_logprobs.unwrap_or_default())),
        _ => body.set("top_logprobs", top_logprobs.filter(|_| home)),
    }
}
