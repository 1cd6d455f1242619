//! Replies: a provider's JSON, whole or in frames, to [`Event`]s.

use super::{DONE, logprobs};
use crate::chat::{Event, Usage};
use crate::wire::Error;
use crate::wire::json::is_empty;
use crate::wire::openai_chat::{LABELS, decode_finish, decode_usage};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Fields around the choices that say nothing about the answer. Any other one that is not empty makes the
/// reply opaque: passed on, never remembered.
const ENVELOPE: [&str; 8] = [
    "object",
    "system_fingerprint",
    "service_tier",
    "obfuscation",
    "provider",
    "timings",
    "prompt_filter_results",
    "warning",
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
        self.body(payload)
    }

    /// The events of a reply that came whole.
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<Event>, Error> {
        let mut events = self.body(body)?;
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

    fn body(&mut self, payload: &[u8]) -> Result<Vec<Event>, Error> {
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
                self.choice(choice, &mut events)?;
            }
        }
        let usage: Option<Usage> = body.remove("usage").as_ref().and_then(decode_usage);
        events.extend(usage.map(Event::Usage));
        note_unknown(&body, &ENVELOPE, &mut events);
        Ok(events)
    }

    fn start(&mut self, body: &mut Map<String, Value>, events: &mut Vec<Event>) {
        let (id, model, created) = (body.remove("id"), body.remove("model"), body.remove("created"));
        if !std::mem::replace(&mut self.started, true) {
            let text =
                |value: Option<Value>| value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
            let created = created.as_ref().and_then(Value::as_f64).unwrap_or_default() as u64;
            events.push(Event::Start { id: text(id), model: text(model), created });
        }
    }

    fn choice(&mut self, choice: Value, events: &mut Vec<Event>) -> Result<(), Error> {
        let Value::Object(mut fields) = choice else {
            return Err(Error::at("choices", "a choice is not an object"));
        };
        let index = fields.remove("index").and_then(|index| index.as_u64()).unwrap_or_default();
        let choice = u32::try_from(index).map_err(|_| Error::at("choices", "an index is out of range"))?;
        self.open.insert(choice);
        match fields.remove("text") {
            Some(Value::String(text)) => events.push(Event::Text { choice, text }),
            Some(other) if !is_empty(&other) => events.push(Event::Opaque { field: "text".to_owned() }),
            _ => {}
        }
        let tokens = fields.remove("logprobs").map(|told| logprobs::decode(&told)).unwrap_or_default();
        if !tokens.is_empty() {
            events.push(Event::Logprobs { choice, tokens });
        }
        // In a stream there may be an empty one in every frame.
        match fields.remove("finish_reason") {
            Some(Value::String(reason)) if !reason.is_empty() => {
                self.finished.insert(choice);
                events.push(Event::Finish { choice, reason: decode_finish(reason) });
            }
            _ => {}
        }
        note_unknown(&fields, &LABELS, events);
        Ok(())
    }
}

fn note_unknown(fields: &Map<String, Value>, known: &[&str], events: &mut Vec<Event>) {
    let unknown = fields.iter().filter(|(field, value)| !known.contains(&field.as_str()) && !is_empty(value));
    events.extend(unknown.map(|(field, _)| Event::Opaque { field: field.clone() }));
}
