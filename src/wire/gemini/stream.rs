//! Events to the frames of a stream, and a reply to a body.
//!
//! A stream is one of server-sent events, or a JSON list that grows record by record. Two things are held
//! back: a call until all of its arguments are there, for here they are an object and not text; and the
//! last frame with a `finishReason` until the end, for SDKs read usage there. Every frame says something,
//! if only no words: SDKs take one without content for a fault and forget the turn.

use super::sources::{encode_logprobs, encode_sources};
use super::turns::arguments_object;
use super::{error_body, seal, time};
use crate::chat::{Block, Choice, Citation, Event, Finish, Reply, Request, Signature, ToolCall, Usage};
use crate::wire::{Failure, json::Body, sse};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Writes one reply.
#[derive(Debug, Default)]
pub struct Encoder {
    sse: bool,
    /// Whether the list of a stream that is none of server-sent events has begun.
    begun: bool,
    id: String,
    model: String,
    created: u64,
    choices: BTreeMap<u32, Spoken>,
    /// The candidate that finished last, until its frame is written.
    held: Option<Value>,
    usage: Option<Usage>,
}

/// How far a choice has come.
#[derive(Debug, Default)]
struct Spoken {
    /// Calls by their index. They are all held until something else is said, as their fragments may take
    /// turns.
    calls: BTreeMap<u32, ToolCall>,
    /// The call that a seal belongs to.
    call: Option<u32>,
    /// Sources that are still to be told: together, as they are counted.
    sources: Vec<Citation>,
    thinking: bool,
    /// Whether there are words for a seal to follow.
    speaking: bool,
    refused: bool,
}

impl Encoder {
    /// Writes the reply to `request`: a stream of server-sent events, or a list.
    pub fn new(_request: &Request, sse: bool) -> Self {
        Self { sse, ..Self::default() }
    }

    /// Whether its stream is one of server-sent events.
    pub fn is_sse(&self) -> bool {
        self.sse
    }

    /// The bytes that say `event`; often none.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        match event {
            Event::Start { id, model, created } => {
                (self.id, self.model, self.created) = (id.clone(), model.clone(), *created);
                Vec::new()
            }
            // It says nothing, and must not come between the fragments of a call.
            Event::Text { choice, text } | Event::Reasoning { choice, text } if text.is_empty() => {
                self.spoken(*choice);
                Vec::new()
            }
            Event::Text { choice, text } => self.words(*choice, json!({ "text": text }), false),
            Event::Reasoning { choice, text } => {
                self.words(*choice, json!({ "text": text, "thought": true }), true)
            }
            Event::Redacted { choice, signature } => self.close(*choice, Some(thought_seal(signature, true))),
            Event::Refusal { choice, text } => {
                self.spoken(*choice).refused = true;
                self.words(*choice, json!({ "text": text }), false)
            }
            Event::ToolCall { choice, index, id, name, arguments } => {
                let fragment = (id.as_deref(), name.as_deref(), arguments.as_str());
                self.call(*choice, *index, fragment)
            }
            Event::Signature { choice, signature } => self.seal(*choice, signature),
            Event::Citation { choice, citation } => {
                let bytes = self.close_calls(*choice);
                self.spoken(*choice).sources.push(citation.clone());
                bytes
            }
            Event::Logprobs { choice, tokens } => {
                let mut candidate = Body::default();
                candidate.set("logprobsResult", Some(encode_logprobs(tokens)));
                self.candidate(*choice, candidate)
            }
            // Blocks of one kind go on in each other here; only a seal comes between them.
            Event::Break { choice } => self.close(*choice, None),
            Event::Finish { choice, reason } => self.finish(*choice, reason),
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                Vec::new()
            }
            // There is no word for it here.
            Event::Opaque { .. } => Vec::new(),
            Event::End => self.end(),
        }
    }

    fn spoken(&mut self, choice: u32) -> &mut Spoken {
        self.choices.entry(choice).or_default()
    }

    fn words(&mut self, choice: u32, part: Value, thinking: bool) -> Vec<u8> {
        let bytes = self.close(choice, Some(part));
        let spoken = self.spoken(choice);
        (spoken.thinking, spoken.speaking) = (thinking, true);
        bytes
    }

    fn call(&mut self, choice: u32, index: u32, fragment: (Option<&str>, Option<&str>, &str)) -> Vec<u8> {
        let bytes = self.close_sources(choice);
        let spoken = self.spoken(choice);
        let call = spoken.calls.entry(index).or_default();
        call.id.push_str(fragment.0.unwrap_or_default());
        call.name.push_str(fragment.1.unwrap_or_default());
        call.arguments.push_str(fragment.2);
        spoken.call = Some(index);
        bytes
    }

    fn seal(&mut self, choice: u32, signature: &Signature) -> Vec<u8> {
        let spoken = self.spoken(choice);
        if let Some(call) = spoken.call.and_then(|index| spoken.calls.get_mut(&index)) {
            call.signature = Some(signature.clone());
            return Vec::new();
        }
        let text = spoken.speaking && !spoken.thinking;
        let part = match text {
            true => json!({ "text": "", "thoughtSignature": seal::write(signature, false) }),
            false => thought_seal(signature, false),
        };
        self.close(choice, Some(part))
    }

    /// Writes what is complete now, and `part` after it.
    fn close(&mut self, choice: u32, part: Option<Value>) -> Vec<u8> {
        let mut bytes = self.close_calls(choice);
        bytes.extend(self.close_sources(choice));
        self.spoken(choice).speaking = false;
        bytes.extend(part.map(|part| self.said(choice, &[part])).unwrap_or_default());
        bytes
    }

    fn close_calls(&mut self, choice: u32) -> Vec<u8> {
        let calls = self.waiting_calls(choice);
        if calls.is_empty() { Vec::new() } else { self.said(choice, &calls) }
    }

    fn waiting_calls(&mut self, choice: u32) -> Vec<Value> {
        let spoken = self.spoken(choice);
        spoken.call = None;
        std::mem::take(&mut spoken.calls).values().map(encode_call).collect()
    }

    fn close_sources(&mut self, choice: u32) -> Vec<u8> {
        let sources = std::mem::take(&mut self.spoken(choice).sources);
        if sources.is_empty() {
            return Vec::new();
        }
        let mut candidate = Body::default();
        encode_sources(&sources, &mut candidate);
        self.candidate(choice, candidate)
    }

    fn said(&mut self, choice: u32, parts: &[Value]) -> Vec<u8> {
        let mut candidate = Body::default();
        candidate.set("content", Some(content(parts)));
        self.candidate(choice, candidate)
    }

    fn candidate(&mut self, choice: u32, mut candidate: Body) -> Vec<u8> {
        candidate.0.entry("content").or_insert_with(|| content(&[]));
        candidate.set("index", Some(choice));
        let mut bytes = self.release();
        bytes.extend(self.frame(Some(candidate.value()), None));
        bytes
    }

    /// Calls that wait stand in the last frame: SDKs that call functions by themselves look there.
    fn finish(&mut self, choice: u32, reason: &Finish) -> Vec<u8> {
        let calls = self.waiting_calls(choice);
        let spoken = self.spoken(choice);
        let (sources, refused) = (std::mem::take(&mut spoken.sources), spoken.refused);
        spoken.speaking = false;
        let mut candidate = Body::default();
        candidate.set("content", Some(content(&calls)));
        candidate.set("finishReason", Some(finish_name(reason, refused)));
        candidate.set("index", Some(choice));
        encode_sources(&sources, &mut candidate);
        let bytes = self.release();
        self.held = Some(candidate.value());
        bytes
    }

    /// Writes the frame that is held back, where another one follows.
    fn release(&mut self) -> Vec<u8> {
        self.held.take().map(|candidate| self.frame(Some(candidate), None)).unwrap_or_default()
    }

    fn end(&mut self) -> Vec<u8> {
        let open: Vec<u32> = self.choices.keys().copied().collect();
        let mut bytes: Vec<u8> = open.into_iter().flat_map(|choice| self.close(choice, None)).collect();
        let last = self.held.take();
        if last.is_some() || self.usage.is_some() {
            bytes.extend(self.frame(last, self.usage));
        }
        if !self.sse {
            let last: &[u8] = if self.begun { b"]" } else { b"[]" };
            bytes.extend_from_slice(last);
        }
        bytes
    }

    fn frame(&mut self, candidate: Option<Value>, usage: Option<Usage>) -> Vec<u8> {
        let mut record = Body::default();
        record.set("candidates", candidate.map(|candidate| [candidate]));
        record.set("usageMetadata", usage.as_ref().map(encode_usage));
        envelope(&mut record, &self.id, &self.model, self.created);
        self.framed(&record.value())
    }

    fn framed(&mut self, record: &Value) -> Vec<u8> {
        let record = record.to_string().into_bytes();
        if self.sse { sse::frame(&record) } else { self.item(&record) }
    }

    /// A record as it stands in a list.
    fn item(&mut self, record: &[u8]) -> Vec<u8> {
        let before: &[u8] = if std::mem::replace(&mut self.begun, true) { b",\n" } else { b"[" };
        [before, record].concat()
    }

    /// What a server-sent event of Google's holds, as it came, in a list.
    pub fn listed(&mut self, frame: &[u8]) -> Vec<u8> {
        let records = sse::Decoder::default().push(frame).unwrap_or_default();
        records.iter().flat_map(|record| self.item(&record.data)).collect()
    }

    /// The body that says a whole reply.
    pub fn whole(&self, reply: &Reply) -> Vec<u8> {
        let Reply { id, model, created, choices, usage } = reply;
        let candidates: Vec<Value> =
            choices.iter().enumerate().map(|(index, choice)| encode_choice(index, choice)).collect();
        let mut body = Body::default();
        body.set("candidates", Some(candidates));
        body.set("usageMetadata", usage.as_ref().map(encode_usage));
        envelope(&mut body, id, model, *created);
        body.value().to_string().into_bytes()
    }

    /// The bytes that tell of a failure in the middle of a stream. They end a list.
    pub fn failure(&mut self, failure: &Failure) -> Vec<u8> {
        let mut bytes = self.framed(&error_body(failure));
        bytes.extend_from_slice(if self.sse { b"" } else { b"]" });
        bytes
    }
}

fn envelope(record: &mut Body, id: &str, model: &str, created: u64) {
    record.set("modelVersion", Some(model));
    record.set("createTime", (created > 0).then(|| time::write(created)));
    record.set("responseId", Some(id));
}

/// What a candidate says in one frame: these parts, or no words.
fn content(parts: &[Value]) -> Value {
    match parts {
        [] => json!({ "parts": [{ "text": "" }], "role": "model" }),
        parts => json!({ "parts": parts, "role": "model" }),
    }
}

/// The seal of a thought without words here.
fn thought_seal(signature: &Signature, redacted: bool) -> Value {
    json!({ "text": "", "thought": true, "thoughtSignature": seal::write(signature, redacted) })
}

fn encode_choice(index: usize, choice: &Choice) -> Value {
    let parts: Vec<Value> = choice.blocks.iter().map(encode_block).collect();
    let sources = choice.blocks.iter().flat_map(|block| match block {
        Block::Text { citations, .. } => citations.as_slice(),
        _ => &[],
    });
    let refused = choice.blocks.iter().any(|block| matches!(block, Block::Refusal(_)));
    let mut candidate = Body::default();
    candidate.set("content", Some(json!({ "parts": parts, "role": "model" })));
    candidate.set("finishReason", choice.finish.as_ref().map(|reason| finish_name(reason, refused)));
    candidate.set("index", Some(index));
    encode_sources(sources, &mut candidate);
    let logprobs = (!choice.logprobs.is_empty()).then(|| encode_logprobs(&choice.logprobs));
    candidate.set("logprobsResult", logprobs);
    candidate.value()
}

fn encode_block(block: &Block) -> Value {
    let seal = |signature: &Option<Signature>| signature.as_ref().map(|seal| seal::write(seal, false));
    let mut part = Body::default();
    match block {
        Block::Text { text, citations: _, signature } => {
            part.set("text", Some(text));
            part.set("thoughtSignature", seal(signature));
        }
        Block::Reasoning { text, signature } => {
            part.set("text", Some(text));
            part.set("thought", Some(true));
            part.set("thoughtSignature", seal(signature));
        }
        Block::Redacted(signature) => return thought_seal(signature, true),
        Block::Refusal(text) => part.set("text", Some(text)),
        Block::ToolCall(call) => return encode_call(call),
    }
    part.value()
}

/// Arguments are an object here. What a model wrote instead, or did not write to its end, is shown in one.
fn encode_call(call: &ToolCall) -> Value {
    let ToolCall { id, name, arguments, signature, extra: _ } = call;
    let object = arguments_object(arguments).map(Value::Object);
    let mut inner = Body::default();
    inner.set("id", (!id.is_empty()).then_some(id));
    inner.set("name", Some(name));
    inner.set("args", Some(object.unwrap_or_else(|| json!({ "arguments": arguments }))));
    let mut part = Body::default();
    part.set("functionCall", Some(inner.value()));
    part.set("thoughtSignature", signature.as_ref().map(|signature| seal::write(signature, false)));
    part.value()
}

fn finish_name(reason: &Finish, refused: bool) -> &str {
    let googles =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    match reason {
        Finish::ContentFilter | Finish::Refusal => "SAFETY",
        Finish::Stop | Finish::StopSequence(_) if refused => "SAFETY",
        Finish::Stop | Finish::StopSequence(_) | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
        // A name that is none of Google's would fail typed SDKs.
        Finish::Other(name) if googles(name) => name,
        Finish::Other(_) => "OTHER",
    }
}

fn encode_usage(usage: &Usage) -> Value {
    let Usage { input, output, cached_input, cache_write: _, reasoning } = usage;
    let mut body = Body::default();
    body.set("promptTokenCount", Some(input));
    body.set("cachedContentTokenCount", (*cached_input > 0).then_some(cached_input));
    body.set("candidatesTokenCount", Some(output.saturating_sub(*reasoning)));
    body.set("thoughtsTokenCount", (*reasoning > 0).then_some(reasoning));
    body.set("totalTokenCount", Some(input.saturating_add(*output)));
    body.value()
}
