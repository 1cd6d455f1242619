//! Replies: a provider's JSON, whole or in frames, to [`Event`]s; and a [`Reply`] to JSON.

use super::DONE;
use super::request::encode_tool_call;
use crate::chat::{Choice, Event, Finish, Reply, Usage};
use crate::wire::Error;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Fields around the choices that say nothing about the answer. Any other one that is not empty makes the
/// reply opaque: passed on, never remembered.
const ENVELOPE: [&str; 8] = [
    "object",
    "system_fingerprint",
    "service_tier",
    "obfuscation",
    "provider",
    "x_groq",
    "timings",
    "prompt_filter_results",
];

/// Reads one reply, frame by frame or whole.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    ended: bool,
    open: BTreeSet<u32>,
    finished: BTreeSet<u32>,
}

impl Decoder {
    /// The events in the payload of one frame of a stream.
    pub fn frame(&mut self, payload: &[u8]) -> Result<Vec<Event>, Error> {
        if payload.trim_ascii().starts_with(DONE) {
            self.ended = true;
            return Ok(vec![Event::End]);
        }
        self.body(payload, "delta")
    }

    /// The events of a reply that came whole.
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<Event>, Error> {
        let mut events = self.body(body, "message")?;
        if self.open.is_empty() {
            return Err(Error::at("choices", "the reply holds no choices"));
        }
        events.push(Event::End);
        Ok(events)
    }

    /// Whether the terminal event was read.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// At the end of the bytes: some providers never send `[DONE]`, so a stream whose every choice has
    /// finished is complete without it. `None`: it was cut.
    pub fn finish(&self) -> Option<Vec<Event>> {
        let complete = !self.open.is_empty() && self.open == self.finished;
        match (self.ended, complete) {
            (true, _) => Some(Vec::new()),
            (false, true) => Some(vec![Event::End]),
            (false, false) => None,
        }
    }

    fn body(&mut self, payload: &[u8], content: &str) -> Result<Vec<Event>, Error> {
        let Ok(Value::Object(mut body)) = serde_json::from_slice(payload) else {
            return Err(Error::new("the reply is not a JSON object"));
        };
        if body.get("error").is_some_and(|error| !is_empty(error)) {
            return Err(Error::new("the reply holds an error"));
        }
        let mut events = Vec::new();
        self.start(&mut body, &mut events);
        if let Some(Value::Array(choices)) = body.remove("choices") {
            for choice in choices {
                self.choice(choice, content, &mut events)?;
            }
        }
        events.extend(body.remove("usage").as_ref().and_then(decode_usage).map(Event::Usage));
        ENVELOPE.iter().for_each(|field| drop(body.remove(*field)));
        note_unknown(&body, &mut events);
        Ok(events)
    }

    fn start(&mut self, body: &mut Map<String, Value>, events: &mut Vec<Event>) {
        let (id, model, created) = (body.remove("id"), body.remove("model"), body.remove("created"));
        if !std::mem::replace(&mut self.started, true) {
            let created = created.as_ref().and_then(Value::as_f64).unwrap_or_default() as u64;
            events.push(Event::Start { id: text_of(id), model: text_of(model), created });
        }
    }

    fn choice(&mut self, choice: Value, content: &str, events: &mut Vec<Event>) -> Result<(), Error> {
        let Value::Object(mut fields) = choice else {
            return Err(Error::at("choices", "a choice is not an object"));
        };
        let index = fields.remove("index").and_then(|index| index.as_u64()).unwrap_or_default();
        let index = u32::try_from(index).map_err(|_| Error::at("choices", "an index is out of range"))?;
        self.open.insert(index);
        if let Some(Value::Object(said)) = fields.remove(content) {
            decode_said(index, said, events);
        }
        if let Some(Value::String(reason)) = fields.remove("finish_reason") {
            self.finished.insert(index);
            events.push(Event::Finish { choice: index, reason: decode_finish(reason) });
        }
        fields.remove("content_filter_results");
        fields.remove("native_finish_reason");
        note_unknown(&fields, events);
        Ok(())
    }
}

/// What a message or a delta says.
fn decode_said(choice: u32, mut said: Map<String, Value>, events: &mut Vec<Event>) {
    said.remove("role");
    // Two names are in use for thinking; some providers send both with the same text.
    let reasoning = said.remove("reasoning_content").filter(|value| !is_empty(value));
    let reasoning = reasoning.or(said.remove("reasoning"));
    match reasoning {
        Some(Value::String(text)) if !text.is_empty() => events.push(Event::Reasoning { choice, text }),
        Some(other) => note_if_full("reasoning", &other, events),
        None => {}
    }
    match said.remove("content") {
        Some(Value::String(text)) => events.push(Event::Text { choice, text }),
        Some(other) => note_if_full("content", &other, events),
        None => {}
    }
    match said.remove("refusal") {
        Some(Value::String(text)) if !text.is_empty() => events.push(Event::Refusal { choice, text }),
        _ => {}
    }
    if let Some(Value::Array(calls)) = said.remove("tool_calls") {
        events.extend(calls.iter().zip(0..).map(|(call, at)| decode_call(choice, call, at)));
    }
    note_unknown(&said, events);
}

fn decode_call(choice: u32, call: &Value, at: u32) -> Event {
    let text = |pointer: &str| call.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Event::ToolCall {
        choice,
        index: call["index"].as_u64().map_or(at, |index| u32::try_from(index).unwrap_or(u32::MAX)),
        id: text("/id"),
        name: text("/function/name"),
        arguments: text("/function/arguments").unwrap_or_default(),
    }
}

fn decode_finish(reason: String) -> Finish {
    match reason.as_str() {
        "stop" => Finish::Stop,
        "length" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolCalls,
        "content_filter" => Finish::ContentFilter,
        _ => Finish::Other(reason),
    }
}

fn decode_usage(usage: &Value) -> Option<Usage> {
    let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64);
    Some(Usage {
        input: count("/prompt_tokens")?,
        output: count("/completion_tokens").unwrap_or_default(),
        cached_input: count("/prompt_tokens_details/cached_tokens").unwrap_or_default(),
        reasoning: count("/completion_tokens_details/reasoning_tokens").unwrap_or_default(),
    })
}

fn note_unknown(fields: &Map<String, Value>, events: &mut Vec<Event>) {
    for (field, value) in fields {
        note_if_full(field, value, events);
    }
}

fn note_if_full(field: &str, value: &Value, events: &mut Vec<Event>) {
    if !is_empty(value) {
        events.push(Event::Opaque { field: field.to_owned() });
    }
}

/// Null, and what says as little.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn text_of(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Writes a whole reply.
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    let Reply { id, model, created, choices, usage } = reply;
    let choices: Vec<Value> =
        choices.iter().enumerate().map(|(index, choice)| encode_choice(index, choice)).collect();
    let body = json!({
        "id": id, "object": "chat.completion", "created": created, "model": model,
        "choices": choices, "usage": usage.as_ref().map(encode_usage),
    });
    body.to_string().into_bytes()
}

fn encode_choice(index: usize, choice: &Choice) -> Value {
    let Choice { text, reasoning, refusal, tool_calls, finish } = choice;
    let silent = text.is_empty() && (!tool_calls.is_empty() || !refusal.is_empty());
    let mut message = json!({
        "role": "assistant",
        "content": if silent { Value::Null } else { json!(text) },
        "refusal": if refusal.is_empty() { Value::Null } else { json!(refusal) },
    });
    if !reasoning.is_empty() {
        message["reasoning_content"] = json!(reasoning);
    }
    if !tool_calls.is_empty() {
        message["tool_calls"] = tool_calls.iter().map(encode_tool_call).collect();
    }
    json!({
        "index": index, "message": message, "logprobs": null,
        "finish_reason": finish.as_ref().map(finish_name),
    })
}

pub(super) fn encode_usage(usage: &Usage) -> Value {
    let Usage { input, output, cached_input, reasoning } = usage;
    json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": { "cached_tokens": cached_input },
        "completion_tokens_details": { "reasoning_tokens": reasoning },
    })
}

pub(super) fn finish_name(reason: &Finish) -> &str {
    match reason {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
        Finish::Other(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ToolCall, fold};
    use crate::wire::openai_chat::StreamEncoder;
    use crate::wire::sse;

    fn reply() -> Reply {
        Reply {
            id: "chatcmpl-1".into(),
            model: "m".into(),
            created: 1_700_000_000,
            choices: vec![
                Choice {
                    text: "Grüße 😀".into(),
                    reasoning: "hm".into(),
                    finish: Some(Finish::Stop),
                    ..Choice::default()
                },
                Choice {
                    tool_calls: vec![
                        ToolCall { id: "a".into(), name: "f".into(), arguments: "{\"x\":1}".into() },
                        ToolCall { id: "b".into(), name: "g".into(), arguments: "{}".into() },
                    ],
                    finish: Some(Finish::ToolCalls),
                    ..Choice::default()
                },
                Choice {
                    refusal: "no".into(),
                    finish: Some(Finish::Other("safety".into())),
                    ..Choice::default()
                },
            ],
            usage: Some(Usage { input: 3, output: 4, cached_input: 1, reasoning: 2 }),
        }
    }

    #[test]
    fn decoding_undoes_encoding_of_a_whole_reply() {
        let events = Decoder::default().whole(&encode_reply(&reply())).unwrap();
        assert_eq!(fold(&events), Ok(reply()));
    }

    #[test]
    fn decoding_undoes_encoding_of_a_stream() {
        let mut encoder = StreamEncoder::new(true);
        let bytes: Vec<u8> =
            crate::chat::unfold(&reply()).iter().flat_map(|event| encoder.event(event)).collect();
        let (mut frames, mut decoder) = (sse::Decoder::default(), Decoder::default());
        let frames = frames.push(&bytes).unwrap();
        let events: Vec<Event> = frames.iter().flat_map(|frame| decoder.frame(frame).unwrap()).collect();
        assert_eq!(fold(&events), Ok(reply()));
    }

    #[test]
    fn a_stream_without_done_is_complete_once_every_choice_has_finished() {
        let mut decoder = Decoder::default();
        decoder.frame(br#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#).unwrap();
        assert_eq!(decoder.finish(), None, "cut");
        decoder.frame(br#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#).unwrap();
        assert_eq!(decoder.finish(), Some(vec![Event::End]));
        decoder.frame(b"[DONE]").unwrap();
        assert_eq!(decoder.finish(), Some(vec![]));
    }

    #[test]
    fn frames_without_choices_are_harmless() {
        let mut decoder = Decoder::default();
        assert!(decoder.frame(br#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#).is_ok());
        assert!(decoder.frame(br#"{"choices":[]}"#).is_ok());
        assert!(decoder.frame(b"{}").is_ok());
    }

    #[test]
    fn what_has_no_word_here_makes_the_reply_opaque() {
        let body = br#"{"id":"x","choices":[{"index":0,"message":{"content":"a","annotations":[],"audio":{"id":"z"}},
            "logprobs":{"content":[1]},"finish_reason":"stop"}],"citations":["u"]}"#;
        let events = Decoder::default().whole(body).unwrap();
        let opaque: Vec<_> = events
            .iter()
            .filter_map(|event| if let Event::Opaque { field } = event { Some(field.as_str()) } else { None })
            .collect();
        assert_eq!(opaque, ["audio", "logprobs", "citations"]);
    }

    #[test]
    fn an_error_in_the_body_is_an_error() {
        assert!(Decoder::default().frame(br#"{"error":{"message":"boom"}}"#).is_err());
        assert!(Decoder::default().whole(b"<html>").is_err());
        assert!(Decoder::default().whole(br#"{"choices":[]}"#).is_err());
    }
}
