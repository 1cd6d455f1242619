//! Events to the frames of a stream.

use super::HERE;
use super::block::{
    call_id, encode_citation, encode_usage, encode_whole, error_body, redacted_block, reply_id, seal_block,
    stop_reason, text_block,
};
use crate::chat::{Event, Finish, Reply, Request, Signature, Usage};
use crate::wire::{Failure, sse};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

/// Writes one reply.
///
/// Here one block follows another, and none is taken up again. Where a provider writes several calls at once,
/// fragment by fragment, the first is written as it comes; what comes between its fragments waits until its
/// arguments are complete JSON, or until the answer finishes. Everything else is written at once.
#[derive(Debug, Default)]
pub struct Encoder {
    started: bool,
    ended: bool,
    open: Option<Open>,
    /// The index of the next block.
    next: u64,
    /// What waits for the end of the call that is open.
    waiting: Vec<Event>,
    /// How many calls it made.
    calls: usize,
    refused: bool,
    finish: Option<Finish>,
    usage: Usage,
}

/// The block that is being written.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// What a call's arguments are up to now.
    arguments: String,
    /// The seal of a call, told when it is complete.
    seal: Option<Signature>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Thinking,
    Call(u32),
}

impl Encoder {
    /// Writes the reply to `request`.
    pub fn new(_request: &Request) -> Self {
        Self::default()
    }

    /// The bytes that say `event`; often none. There is one answer here: others are not told.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        if self.ended || choice_of(event) > 0 {
            return Vec::new();
        }
        let mut bytes = Vec::new();
        match event {
            Event::Start { id, model, .. } => self.start(id, model, &mut bytes),
            Event::Usage(usage) => self.usage = *usage,
            Event::Finish { reason, .. } => {
                self.flush(&mut bytes);
                self.finish = Some(reason.clone());
            }
            Event::End => self.end(&mut bytes),
            said if self.must_wait(said) => self.waiting.push(said.clone()),
            said => {
                self.say(said, &mut bytes);
                self.release(&mut bytes);
            }
        }
        bytes
    }

    /// The body that says a whole reply.
    pub fn whole(&self, reply: &Reply) -> Vec<u8> {
        encode_whole(reply).to_string().into_bytes()
    }

    /// The bytes that tell of a failure in the middle of a stream, in the way that SDKs raise.
    pub fn failure(&mut self, failure: &Failure) -> Vec<u8> {
        sse::named_frame(b"error", error_body(failure).to_string().as_bytes())
    }

    fn start(&mut self, id: &str, model: &str, bytes: &mut Vec<u8>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message = json!({
            "id": reply_id(id), "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": encode_usage(&self.usage),
        });
        frame(bytes, &json!({ "type": "message_start", "message": message }));
    }

    fn end(&mut self, bytes: &mut Vec<u8>) {
        self.start("", "", bytes);
        self.flush(bytes);
        self.ended = true;
        let (reason, sequence) = stop_reason(self.finish.as_ref(), self.refused, self.calls > 0);
        frame(
            bytes,
            &json!({
                "type": "message_delta", "delta": { "stop_reason": reason, "stop_sequence": sequence },
                "usage": encode_usage(&self.usage),
            }),
        );
        frame(bytes, &json!({ "type": "message_stop" }));
    }

    /// Whether a call is open that more is to come of, and this is not it.
    fn must_wait(&self, event: &Event) -> bool {
        let Some(open @ Open { kind: Kind::Call(called), .. }) = &self.open else { return false };
        match event {
            Event::ToolCall { index, .. } if index == called => false,
            // The seal of this very call.
            Event::Signature { .. } if self.waiting.is_empty() => false,
            _ => !self.waiting.is_empty() || !complete(&open.arguments),
        }
    }

    /// Writes what has waited, as far as it need not wait any more.
    fn release(&mut self, bytes: &mut Vec<u8>) {
        let done = |open: &Open| !matches!(open.kind, Kind::Call(_)) || complete(&open.arguments);
        while !self.waiting.is_empty() && self.open.as_ref().is_none_or(done) {
            self.say_waiting(bytes);
        }
    }

    /// Writes all that has waited, complete or not, and closes the block.
    fn flush(&mut self, bytes: &mut Vec<u8>) {
        self.close(bytes);
        while !self.waiting.is_empty() {
            self.say_waiting(bytes);
            self.close(bytes);
        }
    }

    /// Goes once through what has waited. The first is said in any case, so there is always an end to it.
    fn say_waiting(&mut self, bytes: &mut Vec<u8>) {
        self.close(bytes);
        for event in std::mem::take(&mut self.waiting) {
            match self.must_wait(&event) {
                true => self.waiting.push(event),
                false => self.say(&event, bytes),
            }
        }
    }

    fn say(&mut self, event: &Event, bytes: &mut Vec<u8>) {
        match event {
            Event::Text { text, .. } => self.words(Kind::Text, text, bytes),
            Event::Refusal { text, .. } => {
                self.refused = true;
                self.words(Kind::Refusal, text, bytes);
            }
            Event::Reasoning { text, .. } => self.words(Kind::Thinking, text, bytes),
            Event::Redacted { signature, .. } => self.all(&redacted_block(signature), bytes),
            Event::Signature { signature, .. } => self.seal(signature, bytes),
            Event::Citation { citation, .. } => {
                self.open(Kind::Text, || text_block(""), bytes);
                let delta = json!({ "type": "citations_delta", "citation": encode_citation(citation) });
                self.delta(&delta, bytes);
            }
            Event::ToolCall { index, id, name, arguments, .. } => {
                let said = (id.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
                self.call(*index, said, arguments, bytes);
            }
            Event::Break { .. } => self.close(bytes),
            // There is no word for these here, or they were taken care of.
            Event::Logprobs { .. }
            | Event::Opaque { .. }
            | Event::Start { .. }
            | Event::Usage(_)
            | Event::Finish { .. }
            | Event::End => {}
        }
    }

    fn words(&mut self, kind: Kind, text: &str, bytes: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if kind == Kind::Thinking {
            self.open(kind, thinking_block, bytes);
            return self.delta(&json!({ "type": "thinking_delta", "thinking": text }), bytes);
        }
        self.open(kind, || text_block(""), bytes);
        self.delta(&json!({ "type": "text_delta", "text": text }), bytes);
    }

    fn call(&mut self, index: u32, said: (&str, &str), arguments: &str, bytes: &mut Vec<u8>) {
        let (id, name) = said;
        let begun = self.open.as_ref().is_some_and(|open| open.kind == Kind::Call(index));
        // A closed call was complete: all that may follow is blank.
        if !begun && id.is_empty() && name.is_empty() && arguments.trim().is_empty() {
            return;
        }
        let block = || json!({ "type": "tool_use", "id": call_id(id), "name": name, "input": {} });
        self.calls += usize::from(!begun);
        self.open(Kind::Call(index), block, bytes);
        if arguments.is_empty() {
            return;
        }
        if let Some(open) = &mut self.open {
            open.arguments.push_str(arguments);
        }
        self.delta(&json!({ "type": "input_json_delta", "partial_json": arguments }), bytes);
    }

    /// The seal of the block before it. Only thoughts have a place for one.
    fn seal(&mut self, signature: &Signature, bytes: &mut Vec<u8>) {
        match &mut self.open {
            Some(open @ Open { kind: Kind::Call(_), .. }) => open.seal = Some(signature.clone()),
            Some(Open { kind: Kind::Text, .. }) => self.all(&seal_block(signature), bytes),
            Some(Open { kind: Kind::Thinking | Kind::Refusal, .. }) | None => {
                self.open(Kind::Thinking, thinking_block, bytes);
                let delta = json!({ "type": "signature_delta", "signature": signature.tagged(HERE) });
                self.delta(&delta, bytes);
                // A thought has one seal: whatever follows is another.
                self.close(bytes);
            }
        }
    }

    /// Sees to it that a block of this kind is open.
    fn open(&mut self, kind: Kind, block: impl FnOnce() -> Value, bytes: &mut Vec<u8>) {
        if self.open.as_ref().is_some_and(|open| open.kind == kind) {
            return;
        }
        self.close(bytes);
        self.start("", "", bytes);
        frame(bytes, &json!({ "type": "content_block_start", "index": self.next, "content_block": block() }));
        self.open = Some(Open { kind, arguments: String::new(), seal: None });
    }

    fn delta(&self, delta: &Value, bytes: &mut Vec<u8>) {
        frame(bytes, &json!({ "type": "content_block_delta", "index": self.next, "delta": delta }));
    }

    fn close(&mut self, bytes: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        self.stop(bytes);
        if let Some(seal) = open.seal {
            self.all(&seal_block(&seal), bytes);
        }
    }

    /// A block that comes all at once.
    fn all(&mut self, block: &Value, bytes: &mut Vec<u8>) {
        self.close(bytes);
        self.start("", "", bytes);
        frame(bytes, &json!({ "type": "content_block_start", "index": self.next, "content_block": block }));
        self.stop(bytes);
    }

    fn stop(&mut self, bytes: &mut Vec<u8>) {
        frame(bytes, &json!({ "type": "content_block_stop", "index": self.next }));
        self.next += 1;
    }
}

fn thinking_block() -> Value {
    json!({ "type": "thinking", "thinking": "", "signature": "" })
}

/// Whether these are all the arguments.
fn complete(arguments: &str) -> bool {
    // Most fragments do not end an object, which is seen at once.
    arguments.trim_end().ends_with(['}', ']', '"']) && serde_json::from_str::<IgnoredAny>(arguments).is_ok()
}

fn frame(bytes: &mut Vec<u8>, body: &Value) {
    let name = body["type"].as_str().unwrap_or_default();
    bytes.extend(sse::named_frame(name.as_bytes(), body.to_string().as_bytes()));
}

fn choice_of(event: &Event) -> u32 {
    match event {
        Event::Text { choice, .. }
        | Event::Reasoning { choice, .. }
        | Event::Redacted { choice, .. }
        | Event::Refusal { choice, .. }
        | Event::ToolCall { choice, .. }
        | Event::Signature { choice, .. }
        | Event::Citation { choice, .. }
        | Event::Logprobs { choice, .. }
        | Event::Break { choice }
        | Event::Finish { choice, .. } => *choice,
        Event::Start { .. } | Event::Opaque { .. } | Event::Usage(_) | Event::End => 0,
    }
}
