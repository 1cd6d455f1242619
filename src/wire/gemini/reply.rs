//! Replies: a provider's JSON, whole or in frames, to [`Event`]s.
//!
//! A part that says more of the same kind as the part before it goes on with its block, in a stream and in a
//! whole reply alike: nothing here tells a fragment from a part. Only a seal closes a block.

use super::sources::{decode_cited, decode_grounding, decode_logprobs};
use super::{seal, time};
use crate::chat::{Event, Finish, Usage};
use crate::wire::Error;
use crate::wire::json::is_empty;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fields around the candidates that say nothing about the answer. Any other one that is not empty makes the
/// reply opaque: passed on, never remembered.
const ENVELOPE: [&str; 2] = ["modelStatus", "sdkHttpResponse"];

/// The same, of a candidate.
const MARGIN: [&str; 6] =
    ["index", "avgLogprobs", "safetyRatings", "tokenCount", "finishMessage", "groundingAttributions"];

/// Reads one reply, frame by frame or whole.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    ended: bool,
    id: String,
    /// How many ids of calls were made.
    made: u32,
    choices: BTreeMap<u32, State>,
}

/// How far a candidate has come.
#[derive(Debug, Default)]
struct State {
    calls: u32,
    finished: bool,
    last: Option<Last>,
    /// The sources that are told already.
    sources: Vec<Value>,
}

/// The block that was spoken last, and whether its seal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    kind: Kind,
    sealed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thought,
    Call,
}

impl Decoder {
    /// The events in the payload of one frame of a stream.
    pub fn frame(&mut self, payload: &[u8]) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        match serde_json::from_slice(payload) {
            Ok(Value::Object(record)) => self.record(record, &mut events)?,
            _ => return Err(Error::new("the reply is not a JSON object")),
        }
        Ok(events)
    }

    /// The events of a reply that came whole, or as a whole list of what would be frames.
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        let records = match serde_json::from_slice(body) {
            Ok(Value::Array(records)) => records,
            Ok(record) => vec![record],
            Err(_) => return Err(Error::new("the reply is not valid JSON")),
        };
        for record in records {
            let Value::Object(record) = record else {
                return Err(Error::new("the reply is not a JSON object"));
            };
            self.record(record, &mut events)?;
        }
        if self.choices.is_empty() {
            return Err(Error::at("candidates", "the reply holds no candidates"));
        }
        self.ended = true;
        events.push(Event::End);
        Ok(events)
    }

    /// Never in a stream: usage may come after the last `finishReason`, and no event is the last one.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// At the end of the bytes: the reply is complete where every candidate has finished. `None`: it was cut.
    pub fn finish(&mut self) -> Option<Vec<Event>> {
        if std::mem::replace(&mut self.ended, true) {
            return Some(Vec::new());
        }
        let complete = !self.choices.is_empty() && self.choices.values().all(|state| state.finished);
        self.ended = complete;
        complete.then(|| vec![Event::End])
    }

    fn record(&mut self, mut record: Map<String, Value>, events: &mut Vec<Event>) -> Result<(), Error> {
        if let Some(error) = record.get("error").filter(|error| !is_empty(error)) {
            return Err(told_error(error));
        }
        self.start(&mut record, events);
        if let Some(Value::Array(candidates)) = record.remove("candidates") {
            for candidate in candidates {
                self.candidate(candidate, events)?;
            }
        }
        if let Some(feedback) = record.remove("promptFeedback") {
            self.blocked(&feedback, events);
        }
        events.extend(record.remove("usageMetadata").as_ref().and_then(decode_usage).map(Event::Usage));
        ENVELOPE.iter().for_each(|field| drop(record.remove(*field)));
        note_unknown(&record, events);
        Ok(())
    }

    fn start(&mut self, record: &mut Map<String, Value>, events: &mut Vec<Event>) {
        let mut text = |field: &str| match record.remove(field) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (id, model, created) = (text("responseId"), text("modelVersion"), text("createTime"));
        if !std::mem::replace(&mut self.started, true) {
            self.id.clone_from(&id);
            events.push(Event::Start { id, model, created: time::read(&created).unwrap_or_default() });
        }
    }

    fn candidate(&mut self, candidate: Value, events: &mut Vec<Event>) -> Result<(), Error> {
        let Value::Object(mut fields) = candidate else {
            return Err(Error::at("candidates", "a candidate is not an object"));
        };
        let index = fields.get("index").and_then(Value::as_u64).unwrap_or_default();
        let choice = u32::try_from(index).map_err(|_| Error::at("candidates", "an index is out of range"))?;
        self.state(choice);
        if let Some(content) = object(&mut fields, "content") {
            self.content(choice, content, events);
        }
        let state = self.state(choice);
        if let Some(metadata) = object(&mut fields, "groundingMetadata") {
            events.extend(decode_grounding(choice, metadata, &mut state.sources));
        }
        if let Some(metadata) = object(&mut fields, "citationMetadata") {
            events.extend(decode_cited(choice, metadata, &mut state.sources));
        }
        let tokens =
            fields.remove("logprobsResult").map(|result| decode_logprobs(&result)).unwrap_or_default();
        if !tokens.is_empty() {
            events.push(Event::Logprobs { choice, tokens });
        }
        match fields.remove("finishReason") {
            Some(Value::String(reason)) if reason != "FINISH_REASON_UNSPECIFIED" => {
                state.finished = true;
                events.push(Event::Finish { choice, reason: decode_finish(reason, state.calls > 0) });
            }
            _ => {}
        }
        MARGIN.iter().for_each(|field| drop(fields.remove(*field)));
        note_unknown(&fields, events);
        Ok(())
    }

    fn state(&mut self, choice: u32) -> &mut State {
        self.choices.entry(choice).or_default()
    }

    fn content(&mut self, choice: u32, mut content: Map<String, Value>, events: &mut Vec<Event>) {
        content.remove("role");
        if let Some(Value::Array(parts)) = content.remove("parts") {
            for part in parts {
                match part {
                    Value::Object(part) => self.part(choice, part, events),
                    other => note_if_full("parts", &other, events),
                }
            }
        }
        note_unknown(&content, events);
    }

    fn part(&mut self, choice: u32, mut part: Map<String, Value>, events: &mut Vec<Event>) {
        let thought = part.remove("thought").is_some_and(|thought| thought == true);
        let written = match part.remove("thoughtSignature") {
            Some(Value::String(written)) if !written.is_empty() => Some(written),
            _ => None,
        };
        let kind = if thought { Kind::Thought } else { Kind::Text };
        let mut wordless = true;
        if let Some(call) = object(&mut part, "functionCall") {
            self.call(choice, call, events);
            wordless = false;
        } else if let Some(text) = string(&mut part, "text") {
            wordless = text.is_empty();
            if !wordless || written.is_none() {
                self.words(choice, kind, text, events);
            }
        }
        if let Some(written) = written {
            self.seal(choice, &written, kind, wordless, events);
        }
        note_unknown(&part, events);
    }

    fn words(&mut self, choice: u32, kind: Kind, text: String, events: &mut Vec<Event>) {
        let state = self.state(choice);
        if !text.is_empty() {
            if state.last == Some(Last { kind, sealed: true }) {
                events.push(Event::Break { choice });
            }
            state.last = Some(Last { kind, sealed: false });
        }
        events.push(match kind {
            Kind::Thought => Event::Reasoning { choice, text },
            _ => Event::Text { choice, text },
        });
    }

    /// A seal with the words it seals, or alone: then it is that of the block before, if that has none yet
    /// and can be meant; else of a thought without words.
    fn seal(&mut self, choice: u32, written: &str, kind: Kind, wordless: bool, events: &mut Vec<Event>) {
        let (signature, redacted) = seal::read(written);
        let state = self.state(choice);
        if wordless && redacted {
            state.last = None;
            events.push(Event::Redacted { choice, signature });
            return;
        }
        let meant = |last: &Last| !last.sealed && (kind == Kind::Text || last.kind == Kind::Thought);
        let sealed = state.last.filter(|last| !wordless || meant(last));
        if sealed.is_none() {
            events.push(Event::Break { choice });
        }
        let kind = sealed.map_or(Kind::Thought, |last| last.kind);
        state.last = Some(Last { kind, sealed: true });
        events.push(Event::Signature { choice, signature });
    }

    /// A call comes whole. One without an id gets one that is made of the reply's own, so that it is the same
    /// whenever it is read, and another in every turn.
    fn call(&mut self, choice: u32, mut call: Map<String, Value>, events: &mut Vec<Event>) {
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let id = text(call.remove("id")).unwrap_or_else(|| {
            self.made += 1;
            let at = self.made - 1;
            if self.id.is_empty() { format!("call_{at}") } else { format!("call_{}_{at}", self.id) }
        });
        let arguments = match call.remove("args") {
            Some(Value::Object(arguments)) => Value::Object(arguments),
            other => {
                note_if_full("args", &other.unwrap_or_default(), events);
                Value::Object(Map::new())
            }
        };
        let name = text(call.remove("name")).unwrap_or_default();
        let state = self.state(choice);
        let index = state.calls;
        state.calls += 1;
        state.last = Some(Last { kind: Kind::Call, sealed: false });
        let (id, name, arguments) = (Some(id), Some(name), arguments.to_string());
        events.push(Event::ToolCall { choice, index, id, name, arguments });
        note_unknown(&call, events);
    }

    /// A prompt that was blocked has no candidates: the reason is the answer.
    fn blocked(&mut self, feedback: &Value, events: &mut Vec<Event>) {
        let text = |field: &str| feedback.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let Some(reason) = text("blockReason").filter(|reason| *reason != "BLOCK_REASON_UNSPECIFIED") else {
            return;
        };
        let words = text("blockReasonMessage").map(|words| format!(": {words}")).unwrap_or_default();
        let state = self.state(0);
        if !std::mem::replace(&mut state.finished, true) {
            state.last = None;
            events
                .push(Event::Refusal { choice: 0, text: format!("the prompt was blocked: {reason}{words}") });
            events.push(Event::Finish { choice: 0, reason: Finish::ContentFilter });
        }
    }
}

/// An error in place of a reply. Its message may quote the request, so only its status is repeated.
fn told_error(error: &Value) -> Error {
    let status = error.get("status").and_then(Value::as_str).unwrap_or_default();
    let name = status.len() <= 40 && status.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    match name && !status.is_empty() {
        true => Error::new(format!("the reply holds an error: {status}")),
        false => Error::new("the reply holds an error"),
    }
}

fn decode_finish(reason: String, called: bool) -> Finish {
    match reason.as_str() {
        "STOP" if called => Finish::ToolCalls,
        "STOP" => Finish::Stop,
        "MAX_TOKENS" => Finish::Length,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" => {
            Finish::ContentFilter
        }
        _ => Finish::Other(reason),
    }
}

/// What tools brought in was read by the model too; what it thought was written by it.
fn decode_usage(usage: &Value) -> Option<Usage> {
    let count = |field: &str| usage.get(field).and_then(Value::as_u64);
    let (prompt, said, thought) =
        (count("promptTokenCount"), count("candidatesTokenCount"), count("thoughtsTokenCount"));
    prompt.or(said).or(thought)?;
    let or_none = Option::<u64>::unwrap_or_default;
    Some(Usage {
        input: or_none(prompt).saturating_add(or_none(count("toolUsePromptTokenCount"))),
        output: or_none(said).saturating_add(or_none(thought)),
        cached_input: or_none(count("cachedContentTokenCount")),
        cache_write: 0,
        reasoning: or_none(thought),
    })
}

/// The field, taken out where it is an object; anything else stays, and is noted.
fn object(fields: &mut Map<String, Value>, field: &str) -> Option<Map<String, Value>> {
    fields.get(field).filter(|value| value.is_object())?;
    match fields.remove(field) {
        Some(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// The same, of a text.
fn string(fields: &mut Map<String, Value>, field: &str) -> Option<String> {
    fields.get(field).filter(|value| value.is_string())?;
    match fields.remove(field) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
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
