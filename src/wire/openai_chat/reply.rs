//! Replies: a provider's JSON, whole or in frames, to [`Event`]s.

use super::DONE;
use super::calls::{Call, Calls, Place};
use super::message::{decode_detail, google_seal, thought_in};
use crate::chat::{Citation, Event, Finish, Part, Protocol, Usage};
use crate::wire::Error;
use crate::wire::json::is_empty;
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

/// Fields of a choice that say nothing about the answer.
pub(in crate::wire) const LABELS: [&str; 5] =
    ["content_filter_results", "native_finish_reason", "stop_reason", "matched_stop", "seed"];

/// Reads one reply, frame by frame or whole.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    ended: bool,
    open: BTreeSet<u32>,
    finished: BTreeSet<u32>,
    calls: Calls,
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
    pub fn finish(&mut self) -> Option<Vec<Event>> {
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
            self.said(index, said, content == "message", events);
        }
        if let Some(Value::Object(logprobs)) = fields.remove("logprobs") {
            decode_logprobs(index, logprobs, events);
        }
        // In a stream there may be an empty one in every frame.
        match fields.remove("finish_reason") {
            Some(Value::String(reason)) if !reason.is_empty() => {
                self.finished.insert(index);
                events.push(Event::Finish { choice: index, reason: decode_finish(reason) });
            }
            _ => {}
        }
        LABELS.iter().for_each(|label| drop(fields.remove(*label)));
        note_unknown(&fields, events);
        Ok(())
    }

    /// What a message or a delta says.
    fn said(&mut self, choice: u32, mut said: Map<String, Value>, whole: bool, events: &mut Vec<Event>) {
        said.remove("role");
        decode_thoughts(choice, &mut said, events);
        match said.remove("content") {
            Some(Value::String(text)) => events.push(Event::Text { choice, text }),
            Some(Value::Array(pieces)) => {
                pieces.iter().for_each(|piece| events.push(decode_piece(choice, piece)));
            }
            Some(other) => note_if_full("content", &other, events),
            None => {}
        }
        if let Some(Value::Array(sources)) = said.remove("annotations") {
            sources.into_iter().for_each(|source| events.push(decode_citation(choice, source)));
        }
        match said.remove("refusal") {
            Some(Value::String(text)) if !text.is_empty() => events.push(Event::Refusal { choice, text }),
            _ => {}
        }
        if let Some(Value::Array(calls)) = said.remove("tool_calls") {
            for (call, at) in calls.iter().zip(0..) {
                self.call(choice, call, at, whole, events);
            }
        }
        note_unknown(&said, events);
    }

    fn call(&mut self, choice: u32, call: &Value, at: u64, whole: bool, events: &mut Vec<Event>) {
        if call.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "function") {
            return events.push(Event::Opaque { field: "tool_calls".to_owned() });
        }
        let text =
            |pointer: &str| call.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let arguments = text("/function/arguments");
        let said = Call {
            number: call["index"].as_u64().unwrap_or(at),
            id: text("/id"),
            name: text("/function/name"),
            argued: !arguments.is_empty(),
        };
        let Place { index, id, name } = self.calls.place(choice, said, whole);
        events.push(Event::ToolCall { choice, index, id, name, arguments });
        events.extend(google_seal(call).map(|signature| Event::Signature { choice, signature }));
    }
}

fn decode_logprobs(choice: u32, mut logprobs: Map<String, Value>, events: &mut Vec<Event>) {
    match logprobs.remove("content") {
        Some(Value::Array(tokens)) if !tokens.is_empty() => events.push(Event::Logprobs { choice, tokens }),
        _ => {}
    }
    note_unknown(&logprobs, events);
}

/// A piece of a content that is a list, as Mistral's models write it that think.
fn decode_piece(choice: u32, piece: &Value) -> Event {
    let text = piece.get("text").and_then(Value::as_str).filter(|_| piece["type"] == "text");
    match (text, thought_in(piece)) {
        (Some(text), _) => Event::Text { choice, text: text.to_owned() },
        (None, Some(text)) => Event::Reasoning { choice, text },
        (None, None) => Event::Opaque { field: "content".to_owned() },
    }
}

/// Several names are in use for thinking; some providers send two of them with the same text.
fn decode_thoughts(choice: u32, said: &mut Map<String, Value>, events: &mut Vec<Event>) {
    let plain = said.remove("reasoning_content").filter(|value| !is_empty(value));
    let plain = plain.or(said.remove("reasoning"));
    let details = match said.remove("reasoning_details") {
        Some(Value::Array(details)) => details,
        _ => Vec::new(),
    };
    let decoded: Option<Vec<Part>> = details.iter().map(decode_detail).collect();
    let spoken = decoded.as_ref().is_some_and(|parts| !parts.is_empty());
    match plain {
        // The details say the same, with their seals.
        _ if spoken => {}
        Some(Value::String(text)) if !text.is_empty() => events.push(Event::Reasoning { choice, text }),
        Some(other) => note_if_full("reasoning", &other, events),
        None => {}
    }
    match decoded {
        None => events.push(Event::Opaque { field: "reasoning_details".to_owned() }),
        Some(parts) => parts.into_iter().for_each(|part| thought(choice, part, events)),
    }
}

fn thought(choice: u32, part: Part, events: &mut Vec<Event>) {
    match part {
        Part::Reasoning { signature: Some(signature), redacted: true, .. } => {
            events.push(Event::Redacted { choice, signature });
        }
        Part::Reasoning { text, signature, .. } => {
            if !text.is_empty() {
                events.push(Event::Reasoning { choice, text });
            }
            events.extend(signature.map(|signature| Event::Signature { choice, signature }));
        }
        _ => {}
    }
}

/// `{"type": "url_citation", "url_citation": {…}}`
fn decode_citation(choice: u32, raw: Value) -> Event {
    let source = raw.get("url_citation").unwrap_or(&raw);
    let text = |field: &str| source.get(field).and_then(Value::as_str).map(str::to_owned);
    let citation = Citation {
        url: text("url"),
        title: text("title"),
        quote: text("content"),
        by: Protocol::OpenAiChat,
        raw,
    };
    Event::Citation { choice, citation }
}

pub(in crate::wire) fn decode_finish(reason: String) -> Finish {
    match reason.as_str() {
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" => Finish::Stop,
        "length" | "model_length" | "max_tokens" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolCalls,
        "content_filter" => Finish::ContentFilter,
        _ => Finish::Other(reason),
    }
}

pub(in crate::wire) fn decode_usage(usage: &Value) -> Option<Usage> {
    let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64);
    Some(Usage {
        input: count("/prompt_tokens")?,
        output: count("/completion_tokens").unwrap_or_default(),
        cached_input: count("/prompt_tokens_details/cached_tokens").unwrap_or_default(),
        cache_write: count("/prompt_tokens_details/cache_write_tokens").unwrap_or_default(),
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

fn text_of(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

pub(in crate::wire) fn encode_usage(usage: &Usage) -> Value {
    let Usage { input, output, cached_input, cache_write, reasoning } = usage;
    let mut read = json!({ "cached_tokens": cached_input });
    if *cache_write > 0 {
        read["cache_write_tokens"] = json!(cache_write);
    }
    json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": read,
        "completion_tokens_details": { "reasoning_tokens": reasoning },
    })
}

pub(in crate::wire) fn finish_name(reason: &Finish) -> &'static str {
    match reason {
        Finish::Stop | Finish::StopSequence(_) | Finish::Refusal => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
        Finish::Other(name) => nearest_finish(name),
    }
}

/// Clients know no reasons but OpenAI's, and strict ones take no other.
fn nearest_finish(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let speaks_of = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if speaks_of(&["length", "max_", "window"]) {
        "length"
    } else if speaks_of(&["safety", "filter", "prohibited", "blocklist", "recitation", "spii"]) {
        "content_filter"
    } else {
        "stop"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Block, Choice, Delivery, Reply, Request, Signature, ToolCall, fold};
    use crate::wire::openai_chat::Encoder;
    use crate::wire::sse;

    fn call(id: &str, arguments: &str) -> Block {
        let (id, name, arguments) = (id.into(), format!("f{id}"), arguments.into());
        Block::ToolCall(ToolCall { id, name, arguments, ..ToolCall::default() })
    }

    fn choice(blocks: Vec<Block>, finish: Finish) -> Choice {
        Choice { blocks, logprobs: Vec::new(), finish: Some(finish) }
    }

    fn reply() -> Reply {
        let seal = |data: &str| Signature { by: Protocol::Anthropic, data: data.into() };
        let source = json!({"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 3}});
        let citation = Citation {
            url: Some("u".into()),
            title: Some("t".into()),
            quote: None,
            by: Protocol::OpenAiChat,
            raw: source,
        };
        let said = Block::Text { text: "Grüße 😀".into(), citations: vec![citation], signature: None };
        Reply {
            id: "chatcmpl-1".into(),
            model: "m".into(),
            created: 1_700_000_000,
            choices: vec![
                Choice {
                    logprobs: vec![json!({"token": "a", "logprob": -0.5})],
                    ..choice(
                        vec![Block::Reasoning { text: "hm".into(), signature: None }, said],
                        Finish::Stop,
                    )
                },
                choice(vec![call("a", "{\"x\":1}"), call("b", "{}")], Finish::ToolCalls),
                choice(vec![Block::Refusal("no".into())], Finish::ContentFilter),
                choice(
                    vec![
                        Block::Reasoning { text: "so".into(), signature: Some(seal("s")) },
                        Block::Redacted(seal("d")),
                        Block::text("x"),
                    ],
                    Finish::Length,
                ),
            ],
            usage: Some(Usage { input: 3, output: 4, cached_input: 1, cache_write: 1, reasoning: 2 }),
        }
    }

    fn encoder(include_usage: bool) -> Encoder {
        let options = json!({ "include_usage": include_usage }).as_object().cloned().unwrap();
        Encoder::new(&Request { delivery: Delivery { stream: true, options }, ..Request::default() })
    }

    #[test]
    fn decoding_undoes_encoding_of_a_whole_reply() {
        let events = Decoder::default().whole(&encoder(true).whole(&reply())).unwrap();
        assert_eq!(fold(&events), Ok(reply()));
    }

    #[test]
    fn decoding_undoes_encoding_of_a_stream() {
        let mut encoder = encoder(true);
        let bytes: Vec<u8> =
            crate::chat::unfold(&reply()).iter().flat_map(|event| encoder.event(event)).collect();
        let (mut frames, mut decoder) = (sse::Decoder::default(), Decoder::default());
        let frames = frames.push(&bytes).unwrap();
        let events: Vec<Event> =
            frames.iter().flat_map(|frame| decoder.frame(&frame.data).unwrap()).collect();
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
    fn an_empty_reason_to_end_is_none_and_labels_say_nothing() {
        let mut decoder = Decoder::default();
        let frame = |text: &str, reason: &str| {
            format!(
                r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":"{reason}",
                    "stop_reason":"x","matched_stop":2,"seed":7}}]}}"#
            )
        };
        let mut events = decoder.frame(frame("a", "").as_bytes()).unwrap();
        assert_eq!(decoder.finish(), None, "cut");
        events.extend(decoder.frame(frame("b", "stop").as_bytes()).unwrap());
        events.extend(decoder.finish().unwrap());
        let reply = fold(&events).unwrap();
        assert_eq!((reply.choices[0].said(), &reply.choices[0].finish), ("ab".into(), &Some(Finish::Stop)));
    }

    #[test]
    fn a_reason_that_clients_do_not_know_is_told_as_the_nearest() {
        for (reason, told) in [
            ("SAFETY", "content_filter"),
            ("model_context_window_exceeded", "length"),
            ("pause_turn", "stop"),
            ("", "stop"),
        ] {
            assert_eq!(finish_name(&Finish::Other(reason.into())), told);
        }
    }

    #[test]
    fn calls_that_share_a_number_are_told_apart() {
        let mut decoder = Decoder::default();
        let frames = [
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\""}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":":2}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
            "[DONE]",
        ];
        let events: Vec<Event> =
            frames.iter().flat_map(|frame| decoder.frame(frame.as_bytes()).unwrap()).collect();
        let reply = fold(&events).unwrap();
        let calls: Vec<_> = reply.choices[0].tool_calls().collect();
        let told: Vec<_> = calls
            .iter()
            .map(|call| (call.id.as_str(), call.name.as_str(), call.arguments.as_str()))
            .collect();
        assert_eq!(told, [("a", "f", r#"{"x":1}"#), ("b", "f", r#"{"x":2}"#)]);
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
            "logprobs":{"content":[1],"refusal":[2]},"finish_reason":"stop"}],"citations":["u"]}"#;
        let events = Decoder::default().whole(body).unwrap();
        let opaque: Vec<_> = events
            .iter()
            .filter_map(|event| if let Event::Opaque { field } = event { Some(field.as_str()) } else { None })
            .collect();
        assert_eq!(opaque, ["audio", "refusal", "citations"]);
    }

    #[test]
    fn an_error_in_the_body_is_an_error() {
        assert!(Decoder::default().frame(br#"{"error":{"message":"boom"}}"#).is_err());
        assert!(Decoder::default().whole(b"<html>").is_err());
        assert!(Decoder::default().whole(br#"{"choices":[]}"#).is_err());
    }
}
