//! Replies: a provider's JSON, whole or in frames, to [`Event`]s.

use super::block::{decode_citation, decode_finish, decode_input};
use super::{HERE, seal_in};
use crate::chat::{Event, Signature, Usage};
use crate::wire::Error;
use crate::wire::json::is_empty;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fields of a message that are read elsewhere, or say nothing about the answer. Any other one that is not
/// empty makes the reply opaque: passed on, never remembered.
const ENVELOPE: [&str; 9] =
    ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage", "context_management"];

/// The longest name of an error that is repeated.
const MAX_NAME: usize = 64;

/// Reads one reply, frame by frame or whole. There is one answer, always.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    finished: bool,
    ended: bool,
    usage: Usage,
    /// The blocks that have begun, by their index.
    open: BTreeMap<u64, Open>,
    calls: u32,
    /// What kind of block came last.
    last: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call(u32),
    /// Nothing more of it is told.
    Other,
}

/// A block that has begun.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// The seal, put together from its pieces.
    seal: String,
    /// A call's input as it stood at its beginning; counts only if no more comes.
    input: Option<String>,
}

impl Decoder {
    /// The events in the payload of one frame of a stream.
    pub fn frame(&mut self, payload: &[u8]) -> Result<Vec<Event>, Error> {
        // Not Anthropic's, but some who copy it end like this after the end.
        if payload.trim_ascii() == b"[DONE]" {
            return Ok(Vec::new());
        }
        let body = parsed(payload)?;
        let mut events = Vec::new();
        match body.get("type").and_then(Value::as_str).unwrap_or_default() {
            "message_start" => self.start(body.get("message").and_then(Value::as_object), &mut events),
            "content_block_start" => {
                let empty = Map::new();
                let block = body.get("content_block").and_then(Value::as_object).unwrap_or(&empty);
                self.block_start(index_of(&body), block, &mut events);
            }
            "content_block_delta" => {
                self.delta(index_of(&body), body.get("delta").unwrap_or(&Value::Null), &mut events);
            }
            "content_block_stop" => self.block_stop(index_of(&body), &mut events),
            "message_delta" => {
                self.usage(body.get("usage"), &mut events);
                if let Some(delta) = body.get("delta").and_then(Value::as_object) {
                    self.finish_with(delta, &mut events);
                    note_unknown(delta, &mut events);
                }
            }
            "message_stop" => {
                self.close_all(&mut events);
                self.ended = true;
                events.push(Event::End);
            }
            "ping" => {}
            _ if body.is_empty() => {}
            other => events.push(Event::Opaque { field: other.to_owned() }),
        }
        Ok(events)
    }

    /// The events of a reply that came whole.
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<Event>, Error> {
        let body = parsed(body)?;
        if !body.get("content").is_some_and(Value::is_array) {
            return Err(Error::at("content", "the reply holds no content"));
        }
        let mut events = Vec::new();
        self.start(Some(&body), &mut events);
        self.finish_with(&body, &mut events);
        events.push(Event::End);
        self.ended = true;
        Ok(events)
    }

    /// Whether the terminal event was read.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// At the end of the bytes: without its terminal event a stream is complete if it said why it ends.
    /// `None`: it was cut.
    pub fn finish(&mut self) -> Option<Vec<Event>> {
        match (self.ended, self.finished) {
            (true, _) => Some(Vec::new()),
            (false, true) => Some(vec![Event::End]),
            (false, false) => None,
        }
    }

    /// A message as it begins, or all of it.
    fn start(&mut self, message: Option<&Map<String, Value>>, events: &mut Vec<Event>) {
        let Some(message) = message.filter(|_| !self.started) else { return };
        self.started = true;
        let text = |field: &str| message.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        events.push(Event::Start { id: text("id"), model: text("model"), created: 0 });
        let blocks = message.get("content").and_then(Value::as_array);
        for (index, block) in blocks.into_iter().flatten().filter_map(Value::as_object).enumerate() {
            self.block_start(index as u64, block, events);
            self.block_stop(index as u64, events);
        }
        self.usage(message.get("usage"), events);
        note_unknown(message, events);
    }

    fn block_start(&mut self, index: u64, block: &Map<String, Value>, events: &mut Vec<Event>) {
        let text = |field: &str| block.get(field).and_then(Value::as_str).unwrap_or_default();
        let (kind, known): (Kind, &[&str]) = match text("type") {
            "text" => (Kind::Text, &["text", "citations"]),
            "thinking" => (Kind::Thinking, &["thinking", "signature"]),
            "tool_use" => (self.call(), &["id", "name", "input", "caller"]),
            "redacted_thinking" => {
                self.redacted(text("data"), events);
                (Kind::Other, &["data"])
            }
            other => {
                events.push(Event::Opaque { field: other.to_owned() });
                self.open.insert(index, Open::new(Kind::Other));
                return;
            }
        };
        self.separate(kind, events);
        let mut open = Open::new(kind);
        match kind {
            Kind::Text => {
                words(kind, text("text"), events);
                let sources = block.get("citations").and_then(Value::as_array).into_iter().flatten();
                events.extend(sources.map(|source| cited(source.clone())));
            }
            Kind::Thinking => {
                words(kind, text("thinking"), events);
                text("signature").clone_into(&mut open.seal);
            }
            Kind::Call(index) => {
                let (id, name) = (Some(text("id").to_owned()), Some(text("name").to_owned()));
                events.push(Event::ToolCall { choice: 0, index, id, name, arguments: String::new() });
                open.input = Some(block.get("input").map_or_else(|| "{}".to_owned(), decode_input));
                // Called by code that runs at the provider's.
                let direct = block.get("caller").is_none_or(|it| is_empty(it) || it["type"] == "direct");
                events.extend((!direct).then(|| Event::Opaque { field: "caller".to_owned() }));
            }
            Kind::Other => {}
        }
        self.open.insert(index, open);
        let unknown = block.iter().filter(|(field, _)| *field != "type" && !known.contains(&field.as_str()));
        unknown.for_each(|(field, value)| note_if_full(field, value, events));
    }

    fn delta(&mut self, index: u64, delta: &Value, events: &mut Vec<Event>) {
        let kind = delta["type"].as_str().unwrap_or_default();
        let text = |field: &str| delta[field].as_str().unwrap_or_default();
        if !self.open.contains_key(&index) {
            self.begin(index, kind, events);
        }
        let Some(open) = self.open.get_mut(&index) else {
            return events.push(Event::Opaque { field: kind.to_owned() });
        };
        match (open.kind, kind) {
            // Its beginning was already noted.
            (Kind::Other, _) => {}
            (Kind::Text, "text_delta") => words(open.kind, text("text"), events),
            (Kind::Text, "citations_delta") => events.push(cited(delta["citation"].clone())),
            (Kind::Thinking, "thinking_delta") => words(open.kind, text("thinking"), events),
            (Kind::Thinking, "signature_delta") => open.seal.push_str(text("signature")),
            (Kind::Call(_), "input_json_delta") if text("partial_json").is_empty() => {}
            (Kind::Call(index), "input_json_delta") => {
                open.input = None;
                let arguments = text("partial_json").to_owned();
                events.push(Event::ToolCall { choice: 0, index, id: None, name: None, arguments });
            }
            _ => events.push(Event::Opaque { field: kind.to_owned() }),
        }
    }

    /// A block that was never said to begin.
    fn begin(&mut self, index: u64, delta: &str, events: &mut Vec<Event>) {
        let kind = match delta {
            "text_delta" | "citations_delta" => Kind::Text,
            "thinking_delta" | "signature_delta" => Kind::Thinking,
            "input_json_delta" => self.call(),
            _ => return,
        };
        self.separate(kind, events);
        self.open.insert(index, Open::new(kind));
    }

    fn block_stop(&mut self, index: u64, events: &mut Vec<Event>) {
        let Some(Open { kind, seal, input }) = self.open.remove(&index) else { return };
        match (kind, input) {
            (Kind::Thinking, _) if !seal.is_empty() => {
                let signature = Signature::from_tagged(HERE, &seal);
                events.push(Event::Signature { choice: 0, signature });
            }
            (Kind::Call(index), Some(arguments)) => {
                events.push(Event::ToolCall { choice: 0, index, id: None, name: None, arguments });
            }
            _ => {}
        }
    }

    fn close_all(&mut self, events: &mut Vec<Event>) {
        while let Some(index) = self.open.keys().next().copied() {
            self.block_stop(index, events);
        }
    }

    fn call(&mut self) -> Kind {
        self.calls += 1;
        Kind::Call(self.calls - 1)
    }

    /// A withheld thought, or what stands for the seal of the block before it.
    fn redacted(&mut self, data: &str, events: &mut Vec<Event>) {
        if let Some(signature) = seal_in(data) {
            return events.push(Event::Signature { choice: 0, signature });
        }
        let signature = Signature::from_tagged(HERE, data);
        events.push(Event::Redacted { choice: 0, signature });
        self.last = Some(Kind::Other);
    }

    /// Two blocks of a kind are told apart; so is a thought from anything, because it may be but a seal.
    fn separate(&mut self, kind: Kind, events: &mut Vec<Event>) {
        let same = kind == Kind::Text && self.last == Some(kind);
        let thought = kind == Kind::Thinking && self.last.is_some();
        events.extend((same || thought).then_some(Event::Break { choice: 0 }));
        if kind != Kind::Other {
            self.last = Some(kind);
        }
    }

    /// Counts are cumulative; those not repeated stay as they were.
    fn usage(&mut self, usage: Option<&Value>, events: &mut Vec<Event>) {
        let Some(usage) = usage.filter(|usage| !is_empty(usage)) else { return };
        let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64);
        let before = self.usage;
        let write = count("/cache_creation_input_tokens").unwrap_or(before.cache_write);
        let cached = count("/cache_read_input_tokens").unwrap_or(before.cached_input);
        let fresh_before =
            before.input.saturating_sub(before.cache_write).saturating_sub(before.cached_input);
        let fresh = count("/input_tokens").unwrap_or(fresh_before);
        self.usage = Usage {
            input: fresh.saturating_add(write).saturating_add(cached),
            output: count("/output_tokens").unwrap_or(before.output),
            cached_input: cached,
            cache_write: write,
            reasoning: count("/output_tokens_details/thinking_tokens").unwrap_or(before.reasoning),
        };
        events.push(Event::Usage(self.usage));
    }

    fn finish_with(&mut self, delta: &Map<String, Value>, events: &mut Vec<Event>) {
        let text = |field: &str| delta.get(field).and_then(Value::as_str);
        let Some(reason) = text("stop_reason") else { return };
        self.close_all(events);
        self.finished = true;
        events.push(Event::Finish { choice: 0, reason: decode_finish(reason, text("stop_sequence")) });
    }
}

impl Open {
    fn new(kind: Kind) -> Self {
        Self { kind, seal: String::new(), input: None }
    }
}

fn parsed(payload: &[u8]) -> Result<Map<String, Value>, Error> {
    let Ok(Value::Object(body)) = serde_json::from_slice(payload) else {
        return Err(Error::new("the reply is not a JSON object"));
    };
    match body.get("error").filter(|error| !is_empty(error)) {
        Some(error) => Err(Error::new(format!("the reply holds an error{}", name_of(error)))),
        None if body.get("type").is_some_and(|kind| kind == "error") => {
            Err(Error::new("the reply holds an error"))
        }
        None => Ok(body),
    }
}

/// The name of an error, where it looks like one.
fn name_of(error: &Value) -> String {
    let name = error["type"].as_str().unwrap_or_default();
    let fit = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fit && (1..=MAX_NAME).contains(&name.len()) { format!(": {name}") } else { String::new() }
}

fn index_of(body: &Map<String, Value>) -> u64 {
    body.get("index").and_then(Value::as_u64).unwrap_or_default()
}

fn words(kind: Kind, text: &str, events: &mut Vec<Event>) {
    let (choice, text) = (0, text.to_owned());
    match kind {
        _ if text.is_empty() => {}
        Kind::Text => events.push(Event::Text { choice, text }),
        _ => events.push(Event::Reasoning { choice, text }),
    }
}

fn cited(source: Value) -> Event {
    Event::Citation { choice: 0, citation: decode_citation(source) }
}

fn note_unknown(fields: &Map<String, Value>, events: &mut Vec<Event>) {
    let unknown = fields.iter().filter(|(field, _)| !ENVELOPE.contains(&field.as_str()));
    unknown.for_each(|(field, value)| note_if_full(field, value, events));
}

fn note_if_full(field: &str, value: &Value, events: &mut Vec<Event>) {
    if !is_empty(value) {
        events.push(Event::Opaque { field: field.to_owned() });
    }
}
