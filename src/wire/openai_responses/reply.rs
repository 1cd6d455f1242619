//! Replies: a provider's JSON, whole or in frames, to [`Event`]s.
//!
//! A stream says everything up to four times: in deltas, when a part is done, when its item is done, and when
//! the response is complete. Each time only what was not told yet becomes an event, so a stream may leave out
//! any of them; a whole reply is a stream that holds the last one only.

use super::response::{
    Kind, cut_short, decode_usage, error_name, failed, is_envelope, note, number, parse, refuse_failure,
    spoken_in,
};
use super::{HERE, call_seal};
use crate::chat::{Citation, Event, Finish, Signature};
use crate::wire::Error;
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads one reply, frame by frame or whole.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    ended: bool,
    items: BTreeMap<u64, Item>,
    calls: u32,
    /// What spoke last.
    last: Option<Place>,
}

/// How far an item of the output has come.
#[derive(Debug, Default)]
struct Item {
    id: String,
    kind: String,
    /// Which of the calls it is.
    call: Option<u32>,
    told: BTreeMap<(Kind, u64), Told>,
    sealed: bool,
    /// Whether what is unknown in it was noted.
    noted: bool,
}

/// How much of a part was told.
#[derive(Debug, Default)]
struct Told {
    bytes: usize,
    citations: usize,
    logprobs: usize,
}

/// A part of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    item: u64,
    kind: Kind,
    part: u64,
}

impl Decoder {
    /// The events in the payload of one frame of a stream.
    pub fn frame(&mut self, payload: &[u8]) -> Result<Vec<Event>, Error> {
        if self.ended || payload.trim_ascii().starts_with(b"[DONE]") {
            return Ok(Vec::new());
        }
        let frame = parse(payload)?;
        let mut events = Vec::new();
        self.take(&frame, &mut events)?;
        Ok(events)
    }

    /// The events of a reply that came whole.
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<Event>, Error> {
        let body = parse(body)?;
        let mut events = Vec::new();
        if !body["output"].is_array() {
            refuse_failure(&body)?;
            return Err(Error::at("output", "the reply holds no output"));
        }
        self.complete(&body, false, &mut events)?;
        Ok(events)
    }

    /// Whether the terminal event was read.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// At the end of the bytes. Only the terminal event says that all items were told, so a stream without
    /// it was cut.
    pub fn finish(&mut self) -> Option<Vec<Event>> {
        self.ended.then(Vec::new)
    }

    fn take(&mut self, frame: &Value, events: &mut Vec<Event>) -> Result<(), Error> {
        let name = frame["type"].as_str().unwrap_or_default();
        if let Some((kind, index, whole)) = spoken_in(name) {
            let place = Place { item: self.item_of(frame), kind, part: number(frame, index) };
            let text = frame[whole.unwrap_or("delta")].as_str().unwrap_or_default();
            match whole {
                Some(_) => self.tell(place, text, events),
                None => self.speak(place, text, events),
            }
            self.likelihoods(place, &frame["logprobs"], whole.is_some(), events);
            return Ok(());
        }
        match name {
            "response.created" | "response.queued" | "response.in_progress" => {
                self.start(&frame["response"], events);
            }
            "response.output_item.added" => {
                self.start(&Value::Null, events);
                self.introduce(self.item_of(frame), &frame["item"], false, events);
            }
            "response.output_item.done" => self.item(self.item_of(frame), &frame["item"], events),
            "response.content_part.done" => {
                self.part(self.item_of(frame), number(frame, "content_index"), &frame["part"], events);
            }
            "response.output_text.annotation.added" => {
                let (item, part) = (self.item_of(frame), number(frame, "content_index"));
                let place = Place { item, kind: Kind::Text, part };
                // A source before the words it is for is told again after them.
                if self.told(place).bytes > 0 {
                    self.cite(place, &frame["annotation"], events);
                }
            }
            // What these say is said again by others.
            "response.content_part.added"
            | "response.reasoning_summary_part.added"
            | "response.reasoning_summary_part.done"
            | "keepalive"
            | "ping" => {}
            "response.completed" => self.complete(&frame["response"], false, events)?,
            "response.incomplete" => self.complete(&frame["response"], true, events)?,
            "response.failed" => {
                refuse_failure(&frame["response"])?;
                return Err(Error::new("the response failed"));
            }
            "error" => return Err(failed("the stream holds an error", error_name(frame))),
            other => {
                refuse_failure(frame)?;
                note(if other.is_empty() { "type" } else { other }, frame, events);
            }
        }
        Ok(())
    }

    /// Which item a frame speaks of; some providers name it by its id only.
    fn item_of(&self, frame: &Value) -> u64 {
        let named = || {
            let id = frame["item_id"].as_str().filter(|id| !id.is_empty())?;
            self.items.iter().find_map(|(at, item)| (item.id == id).then_some(*at))
        };
        frame["output_index"].as_u64().or_else(named).unwrap_or_default()
    }

    fn start(&mut self, response: &Value, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            let created = response["created_at"].as_f64().unwrap_or_default() as u64;
            let text = |field: &str| response[field].as_str().unwrap_or_default().to_owned();
            events.push(Event::Start { id: text("id"), model: text("model"), created });
        }
    }

    /// Takes note of an item. A call is told as soon as it has a name.
    fn introduce(&mut self, at: u64, value: &Value, done: bool, events: &mut Vec<Event>) {
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        let item = self.items.entry(at).or_default();
        text("id").clone_into(&mut item.id);
        text("type").clone_into(&mut item.kind);
        match text("type") {
            "function_call" if item.call.is_none() && (done || !text("name").is_empty()) => {
                let index = self.calls;
                item.call = Some(index);
                self.calls += 1;
                let ids = [text("call_id"), text("id")].into_iter().find(|id| !id.is_empty());
                let id = ids.map_or_else(|| format!("call_{index}"), str::to_owned);
                self.last = Some(Place { item: at, kind: Kind::Call, part: 0 });
                let (name, arguments) = (Some(text("name").to_owned()), String::new());
                events.push(Event::ToolCall { choice: 0, index, id: Some(id), name, arguments });
            }
            "function_call" | "message" | "reasoning" => {}
            other if !std::mem::replace(&mut item.noted, true) => {
                let field = if other.is_empty() { "output" } else { other }.to_owned();
                events.push(Event::Opaque { field });
            }
            _ => {}
        }
    }

    /// Tells what was not yet told of an item that is complete.
    fn item(&mut self, at: u64, value: &Value, events: &mut Vec<Event>) {
        self.start(&Value::Null, events);
        self.introduce(at, value, true, events);
        let parts = |field: &str| value[field].as_array().map(Vec::as_slice).unwrap_or_default();
        match value["type"].as_str().unwrap_or_default() {
            "message" => {
                for (part, index) in parts("content").iter().zip(0..) {
                    self.part(at, index, part, events);
                }
                self.note_fields(at, value, &["role", "content", "phase"], events);
                // What is not the final answer would be taken for it.
                if value["phase"].as_str().is_some_and(|phase| phase != "final_answer") {
                    events.push(Event::Opaque { field: "phase".to_owned() });
                }
            }
            "function_call" => {
                let place = Place { item: at, kind: Kind::Call, part: 0 };
                self.tell(place, value["arguments"].as_str().unwrap_or_default(), events);
                self.seal(at, call_seal(value), events);
                let direct = (value["caller"]["type"] == "direct").then_some("caller");
                let known = ["call_id", "name", "arguments", "extra_content", direct.unwrap_or_default()];
                self.note_fields(at, value, &known, events);
            }
            "reasoning" => {
                for (kind, field) in [(Kind::Summary, "summary"), (Kind::Thought, "content")] {
                    for (part, index) in parts(field).iter().zip(0..) {
                        let place = Place { item: at, kind, part: index };
                        self.tell(place, part["text"].as_str().unwrap_or_default(), events);
                    }
                }
                let seal = value["encrypted_content"].as_str().filter(|seal| !seal.is_empty());
                self.seal(at, seal.map(|seal| Signature::from_tagged(HERE, seal)), events);
                self.note_fields(at, value, &["summary", "content", "encrypted_content"], events);
            }
            _ => {}
        }
    }

    /// Tells what was not yet told of a part of a message.
    fn part(&mut self, item: u64, part: u64, value: &Value, events: &mut Vec<Event>) {
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        let kind = text("type");
        match kind {
            "output_text" | "text" => {
                let place = Place { item, kind: Kind::Text, part };
                self.tell(place, text("text"), events);
                let told = self.told(place).citations;
                let sources = value["annotations"].as_array().into_iter().flatten().skip(told);
                sources.for_each(|source| self.cite(place, source, events));
                self.likelihoods(place, &value["logprobs"], true, events);
            }
            "refusal" => self.tell(Place { item, kind: Kind::Refusal, part }, text("refusal"), events),
            // The text of a thought, which has its own frames and stands in its item.
            "reasoning_text" | "summary_text" => {}
            other => note(if other.is_empty() { "content" } else { other }, value, events),
        }
    }

    fn told(&mut self, place: Place) -> &mut Told {
        let item = self.items.entry(place.item).or_default();
        item.told.entry((place.kind, place.part)).or_default()
    }

    /// Tells what is left of a part's whole text.
    fn tell(&mut self, place: Place, whole: &str, events: &mut Vec<Event>) {
        let rest = whole.get(self.told(place).bytes..).unwrap_or_default();
        self.speak(place, rest, events);
    }

    /// Tells more of a part's text.
    fn speak(&mut self, place: Place, text: &str, events: &mut Vec<Event>) {
        self.start(&Value::Null, events);
        let call = self.items.get(&place.item).and_then(|item| item.call);
        // The arguments of a call without a name are told once it has one.
        if text.is_empty() || (place.kind == Kind::Call && call.is_none()) {
            return;
        }
        self.told(place).bytes += text.len();
        if place.kind != Kind::Call {
            // A call's fragments find it by its index; they begin no block.
            self.part_from_last(place, events);
        }
        let (choice, text) = (0, text.to_owned());
        events.push(match (place.kind, call) {
            (Kind::Text, _) => Event::Text { choice, text },
            (Kind::Refusal, _) => Event::Refusal { choice, text },
            (Kind::Call, Some(index)) => {
                Event::ToolCall { choice, index, id: None, name: None, arguments: text }
            }
            _ => Event::Reasoning { choice, text },
        });
    }

    /// Parts are blocks; those of a thought are its paragraphs.
    fn part_from_last(&mut self, place: Place, events: &mut Vec<Event>) {
        let Some(last) = self.last.replace(place).filter(|last| *last != place) else { return };
        let thinks = |place: Place| matches!(place.kind, Kind::Summary | Kind::Thought);
        if thinks(last) && thinks(place) && last.item == place.item {
            events.push(Event::Reasoning { choice: 0, text: "\n\n".to_owned() });
        } else if (thinks(last) && thinks(place)) || last.kind == place.kind {
            events.push(Event::Break { choice: 0 });
        }
    }

    /// Tells what seals an item. A thought of which nothing but its seal is given is withheld.
    fn seal(&mut self, at: u64, signature: Option<Signature>, events: &mut Vec<Event>) {
        let item = self.items.entry(at).or_default();
        let Some(signature) = signature.filter(|_| !std::mem::replace(&mut item.sealed, true)) else {
            return;
        };
        let call = item.call.is_some();
        let follows = self.last.is_some_and(|last| last.item == at);
        match (follows, call) {
            (true, _) => events.push(Event::Signature { choice: 0, signature }),
            (false, true) => events.push(Event::Opaque { field: "extra_content".to_owned() }),
            (false, false) => {
                self.last = Some(Place { item: at, kind: Kind::Seal, part: 0 });
                events.push(Event::Redacted { choice: 0, signature });
            }
        }
    }

    fn cite(&mut self, place: Place, raw: &Value, events: &mut Vec<Event>) {
        self.start(&Value::Null, events);
        if !raw.is_object() {
            return;
        }
        let told = self.told(place);
        told.citations += 1;
        if told.bytes > 0 && self.last != Some(place) {
            // It would be taken for a source of what was said since.
            return events.push(Event::Opaque { field: "annotations".to_owned() });
        }
        self.part_from_last(place, events);
        let text = |field: &str| raw.get(field).and_then(Value::as_str).map(str::to_owned);
        let (title, quote) = (text("title").or_else(|| text("filename")), text("content"));
        let citation = Citation { url: text("url"), title, quote, by: HERE, raw: raw.clone() };
        events.push(Event::Citation { choice: 0, citation });
    }

    /// Tells likelihoods; `whole`: those of all the part, of which some may have been told.
    fn likelihoods(&mut self, place: Place, tokens: &Value, whole: bool, events: &mut Vec<Event>) {
        let tokens = tokens.as_array().map(Vec::as_slice).unwrap_or_default();
        let told = self.told(place);
        let fresh = tokens.get(if whole { told.logprobs } else { 0 }..).unwrap_or_default();
        if !fresh.is_empty() {
            told.logprobs += fresh.len();
            events.push(Event::Logprobs { choice: 0, tokens: fresh.to_vec() });
        }
    }

    /// Notes the fields of an item that nobody knows, once.
    fn note_fields(&mut self, at: u64, value: &Value, known: &[&str], events: &mut Vec<Event>) {
        let item = self.items.entry(at).or_default();
        if !std::mem::replace(&mut item.noted, true) {
            let fields = value.as_object().into_iter().flatten();
            let labels = ["type", "id", "status"];
            let unknown = fields
                .filter(|(field, _)| !known.contains(&field.as_str()) && !labels.contains(&field.as_str()));
            unknown.for_each(|(field, value)| note(field, value, events));
        }
    }

    /// Takes a response that is over: tells what is left of its items, and how it ended.
    fn complete(&mut self, response: &Value, cut: bool, events: &mut Vec<Event>) -> Result<(), Error> {
        refuse_failure(response)?;
        self.start(response, events);
        let output = response["output"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (item, position) in output.iter().zip(0..) {
            let at = self.whereabouts(position, item);
            self.item(at, item, events);
        }
        let known = |field: &str| is_envelope(field);
        let fields = response.as_object().into_iter().flatten();
        fields.filter(|(field, _)| !known(field)).for_each(|(field, value)| note(field, value, events));
        events.extend(decode_usage(&response["usage"]).map(Event::Usage));
        let status = response["status"].as_str().unwrap_or_default();
        if matches!(status, "queued" | "in_progress") {
            // It is made in the background: there is no answer yet.
            events.push(Event::Opaque { field: "status".to_owned() });
        }
        let reason = match cut || status == "incomplete" {
            true => cut_short(response["incomplete_details"]["reason"].as_str()),
            false if self.calls > 0 => Finish::ToolCalls,
            false => Finish::Stop,
        };
        events.push(Event::Finish { choice: 0, reason });
        events.push(Event::End);
        self.ended = true;
        Ok(())
    }

    /// Under which number an item of the complete output was streamed: that of its id, else its position,
    /// for some providers name it anew every time; but never that of an item of another kind.
    fn whereabouts(&self, position: u64, item: &Value) -> u64 {
        let id = item["id"].as_str().unwrap_or_default();
        let named = self.items.iter().find(|(_, known)| !id.is_empty() && known.id == id);
        let taken = self
            .items
            .get(&position)
            .is_some_and(|known| !known.kind.is_empty() && known.kind != item["type"]);
        let next = || self.items.last_key_value().map_or(0, |(at, _)| at.saturating_add(1));
        match named {
            Some((at, _)) => *at,
            None if taken => next(),
            None => position,
        }
    }
}
