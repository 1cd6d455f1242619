//! What frames and responses are made of: what kind of text they tell, how a response ended, what it cost,
//! what went wrong.

use crate::chat::{Event, Finish, Usage};
use crate::wire::Error;
use crate::wire::json::is_empty;
use serde_json::{Value, json};

/// Fields of a response that say nothing about the answer: labels, and echoes of the request. Any other one
/// that is not empty makes the reply opaque: passed on, never remembered.
const ENVELOPE: &str = " id object created_at completed_at status background error incomplete_details \
    instructions max_output_tokens max_tool_calls model output output_text parallel_tool_calls \
    previous_response_id conversation prompt prompt_cache_key prompt_cache_retention prompt_cache_options \
    prompt_cache_diagnostics reasoning safety_identifier service_tier store temperature text tool_choice \
    tools top_logprobs top_p top_k truncation usage user metadata billing tool_usage access_programs \
    input_transformations image frequency_penalty presence_penalty content_filters provider ";

/// Whether a field of a response is one of those.
pub(super) fn is_envelope(field: &str) -> bool {
    ENVELOPE.split(' ').any(|known| known == field)
}

pub(super) fn parse(payload: &[u8]) -> Result<Value, Error> {
    let object = serde_json::from_slice(payload).ok().filter(Value::is_object);
    object.ok_or_else(|| Error::new("the reply is not a JSON object"))
}

pub(super) fn number(frame: &Value, field: &str) -> u64 {
    frame[field].as_u64().unwrap_or_default()
}

pub(super) fn note(field: &str, value: &Value, events: &mut Vec<Event>) {
    if !is_empty(value) {
        events.push(Event::Opaque { field: field.to_owned() });
    }
}

pub(super) fn refuse_failure(response: &Value) -> Result<(), Error> {
    let error = &response["error"];
    match response["status"].as_str() {
        _ if !is_empty(error) => Err(failed("the reply holds an error", error_name(error))),
        Some(status @ ("failed" | "cancelled")) => Err(failed("the response ended", Some(status))),
        _ => Ok(()),
    }
}

/// What kind of error it is, in the provider's word.
pub(super) fn error_name(error: &Value) -> Option<&str> {
    let inner = &error["error"];
    let names = [&error["code"], &inner["code"], &inner["type"], &error["type"]];
    names.into_iter().find_map(Value::as_str)
}

/// The error, with the provider's name for it where that is no more than a name.
pub(super) fn failed(what: &str, name: Option<&str>) -> Error {
    let plain = |name: &&str| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        !name.is_empty() && name.len() <= 64 && name.bytes().all(word)
    };
    match name.filter(plain) {
        Some(name) => Error::new(format!("{what}: {name}")),
        None => Error::new(what),
    }
}

pub(super) fn cut_short(reason: Option<&str>) -> Finish {
    match reason {
        Some("max_output_tokens") | None => Finish::Length,
        Some("content_filter") => Finish::ContentFilter,
        Some(other) => Finish::Other(other.to_owned()),
    }
}

pub(super) fn decode_usage(usage: &Value) -> Option<Usage> {
    let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64);
    Some(Usage {
        input: count("/input_tokens")?,
        output: count("/output_tokens").unwrap_or_default(),
        cached_input: count("/input_tokens_details/cached_tokens").unwrap_or_default(),
        cache_write: count("/input_tokens_details/cache_write_tokens").unwrap_or_default(),
        reasoning: count("/output_tokens_details/reasoning_tokens").unwrap_or_default(),
    })
}

pub(super) fn encode_usage(usage: &Usage) -> Value {
    let Usage { input, output, cached_input, cache_write, reasoning } = usage;
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": cached_input, "cache_write_tokens": cache_write },
        "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": reasoning },
        "total_tokens": input.saturating_add(*output),
    })
}

/// What a part says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Text,
    Refusal,
    Summary,
    Thought,
    Call,
    Seal,
}

/// What kind of text a frame tells, the field that numbers its part, and the field of the whole text in a
/// frame that is no delta.
pub(super) fn spoken_in(frame: &str) -> Option<(Kind, &'static str, Option<&'static str>)> {
    Some(match frame {
        "response.output_text.delta" => (Kind::Text, "content_index", None),
        "response.output_text.done" => (Kind::Text, "content_index", Some("text")),
        "response.refusal.delta" => (Kind::Refusal, "content_index", None),
        "response.refusal.done" => (Kind::Refusal, "content_index", Some("refusal")),
        "response.reasoning_summary_text.delta" => (Kind::Summary, "summary_index", None),
        "response.reasoning_summary_text.done" => (Kind::Summary, "summary_index", Some("text")),
        "response.reasoning_text.delta" => (Kind::Thought, "content_index", None),
        "response.reasoning_text.done" => (Kind::Thought, "content_index", Some("text")),
        // A call is a single part, so its frames number none.
        "response.function_call_arguments.delta" => (Kind::Call, "", None),
        "response.function_call_arguments.done" => (Kind::Call, "", Some("arguments")),
        _ => return None,
    })
}
