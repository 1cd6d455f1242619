//! What one protocol says and another cannot: an error that names it, or a note that it was left behind.

use super::json::is_empty;
use super::{Dropped, Error};
use crate::chat::{Part, Protocol, Request, Tool};
use serde_json::Value;

/// The error for something that `protocol` cannot say.
pub(super) fn inexpressible(protocol: Protocol, field: impl Into<String>, what: &str) -> Error {
    let field = field.into();
    let message = format!("`{field}`: {what} cannot be said to an upstream that speaks {}", protocol.name());
    Error::at(field, message)
}

/// Whether `request` came in `protocol`, so that its opaque values and its `extra` fields are at home in it.
pub(super) fn at_home(request: &Request, protocol: Protocol) -> bool {
    request.received.protocol == protocol
}

/// Notes the fields that nobody but the request's own protocol knows. They are left behind: a provider of
/// another protocol would refuse them, and no codec knows what they mean.
pub(super) fn leave_extra(request: &Request, dropped: &mut Dropped) {
    dropped.extend(request.extra.keys().cloned());
}

/// Fields of OpenAI's chat and completions that have a word of their own. One that is still among those that
/// nobody knows has a value that is not of its type.
const SAMPLING: [&str; 12] = [
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
];

/// Refuses what only the request's own protocol knows, and without which the answer would be another. What is
/// then left behind hardly matters.
pub(super) fn refuse_bearing(request: &Request, protocol: Protocol) -> Result<(), Error> {
    let fields: &[&str] = match request.received.protocol {
        from if from == protocol => return Ok(()),
        Protocol::OpenAiChat => &["web_search_options", "modalities", "logit_bias", "functions"],
        Protocol::OpenAiCompletions => &["suffix", "echo", "best_of", "logit_bias"],
        _ => return Ok(()),
    };
    let mut fields = fields.iter().chain(&SAMPLING);
    let bearing = fields.find(|field| request.extra.get(**field).is_some_and(|value| bears(field, value)));
    if let Some(field) = bearing {
        return Err(inexpressible(protocol, *field, "this value"));
    }
    for (at, message) in request.messages.iter().enumerate() {
        let opaque = message.parts.iter().any(|part| matches!(part, Part::Opaque(_)));
        if opaque && request.received.protocol == Protocol::OpenAiCompletions {
            return Err(inexpressible(protocol, "prompt", "anything but one text"));
        }
        if message.extra.get("function_call").is_some_and(|call| !is_empty(call)) {
            let field = format!("messages[{at}].function_call");
            return Err(inexpressible(protocol, field, "a call of the older form"));
        }
    }
    Ok(())
}

/// Whether such a field changes the answer.
fn bears(field: &str, value: &Value) -> bool {
    match field {
        // Without any option it asks for a search all the same.
        "web_search_options" => !value.is_null(),
        "modalities" => value.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")),
        "best_of" => !value.is_null() && *value != 1,
        // Some servers write so that there is no limit.
        "top_k" | "max_tokens" | "max_completion_tokens" if *value == -1 => false,
        _ => !is_empty(value),
    }
}

/// An opaque part, where it is at home.
pub(super) fn opaque_part(
    request: &Request,
    protocol: Protocol,
    message: usize,
    part: &Part,
) -> Result<Value, Error> {
    match part {
        Part::Opaque(value) if at_home(request, protocol) => Ok(value.clone()),
        other => {
            let what = format!("a part of type `{}`", other.kind());
            Err(inexpressible(protocol, format!("messages[{message}]"), &what))
        }
    }
}

/// An opaque tool, where it is at home.
pub(super) fn opaque_tool(request: &Request, protocol: Protocol, at: usize) -> Result<Value, Error> {
    match &request.tools[at] {
        Tool::Opaque(value) if at_home(request, protocol) => Ok(value.clone()),
        Tool::Opaque(value) => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("unknown");
            let what = format!("a tool of type `{kind}`");
            Err(inexpressible(protocol, format!("tools[{at}]"), &what))
        }
        Tool::Function { name, .. } => {
            let what = format!("the function `{name}`");
            Err(inexpressible(protocol, format!("tools[{at}]"), &what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Target, decode_request, encode_request};
    use serde_json::json;

    #[test]
    fn what_the_answer_depends_on_is_never_left_behind() {
        let chat = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]});
        let completion = json!({"model": "m", "max_tokens": 9, "prompt": "q"});
        let cases = [
            (Protocol::OpenAiChat, "web_search_options", json!({}), false),
            (Protocol::OpenAiChat, "modalities", json!(["text", "audio"]), false),
            (Protocol::OpenAiChat, "modalities", json!(["text"]), true),
            (Protocol::OpenAiChat, "logit_bias", json!({"5": -100}), false),
            (Protocol::OpenAiChat, "logit_bias", json!({}), true),
            (Protocol::OpenAiChat, "functions", json!([{"name": "f"}]), false),
            (Protocol::OpenAiChat, "top_k", json!(-1), true),
            (Protocol::OpenAiChat, "top_k", json!(-2), false),
            (Protocol::OpenAiChat, "temperature", json!("s3cret"), false),
            (Protocol::OpenAiChat, "user", json!("u"), true),
            (Protocol::OpenAiCompletions, "suffix", json!("the end"), false),
            (Protocol::OpenAiCompletions, "echo", json!(true), false),
            (Protocol::OpenAiCompletions, "echo", json!(false), true),
            (Protocol::OpenAiCompletions, "best_of", json!(2), false),
            (Protocol::OpenAiCompletions, "best_of", json!(1), true),
            (Protocol::OpenAiCompletions, "prompt", json!(["a", "b"]), false),
            (Protocol::OpenAiCompletions, "prompt", json!([[1, 2]]), false),
        ];
        for (from, field, value, left) in cases {
            let mut body = if from == Protocol::OpenAiChat { chat.clone() } else { completion.clone() };
            body[field] = value;
            let request = decode_request(from, &body.to_string().into(), &Target::default()).unwrap();
            assert!(encode_request(from, &request, &mut Dropped::new()).is_ok(), "{body}");
            let mut dropped = Dropped::new();
            match encode_request(Protocol::Anthropic, &request, &mut dropped) {
                Ok(_) => assert!(left && dropped == [field], "{body} {dropped:?}"),
                Err(error) => {
                    assert!(!left && error.field.as_deref() == Some(field), "{body} {error}");
                    assert!(!error.message.contains("s3cret"), "{error}");
                }
            }
        }
    }
}
