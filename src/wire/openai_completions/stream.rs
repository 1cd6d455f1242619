//! Events to the frames of a stream, and a reply to a body.

use super::{DONE, logprobs};
use crate::chat::{Block, Choice, Event, Finish, Reply, Request, Usage};
use crate::wire::openai_chat::{encode_usage, error_body, finish_name, without_usage};
use crate::wire::{Failure, sse};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Writes one reply.
///
/// There is nothing but text here: a refusal is text too, for else it would look like an empty answer;
/// thoughts, sources and seals are left out. Tool calls cannot be asked for.
#[derive(Debug, Default)]
pub struct Encoder {
    include_usage: bool,
    id: String,
    model: String,
    created: u64,
    /// How many characters of each choice have likelihoods.
    offsets: BTreeMap<u32, usize>,
    usage: Option<Usage>,
}

impl Encoder {
    /// Writes the reply to `request`.
    pub fn new(request: &Request) -> Self {
        Self { include_usage: request.delivery.include_usage(), ..Self::default() }
    }

    /// A provider's own frame, as the client asked for it.
    pub fn verbatim(&self, frame: &Bytes) -> Bytes {
        if self.include_usage { frame.clone() } else { without_usage(frame) }
    }

    /// The bytes that say `event`; often none.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        match event {
            Event::Start { id, model, created } => {
                (self.id, self.model, self.created) = (id.clone(), model.clone(), *created);
                Vec::new()
            }
            Event::Text { choice, text } | Event::Refusal { choice, text } => {
                self.choice_frame(*choice, text, &Value::Null, None)
            }
            Event::Logprobs { choice, tokens } => {
                let told = logprobs::encode(tokens, self.offsets.entry(*choice).or_default());
                self.choice_frame(*choice, "", &told, None)
            }
            Event::Finish { choice, reason } => self.choice_frame(*choice, "", &Value::Null, Some(reason)),
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                Vec::new()
            }
            Event::Reasoning { .. }
            | Event::Redacted { .. }
            | Event::ToolCall { .. }
            | Event::Signature { .. }
            | Event::Citation { .. }
            | Event::Break { .. }
            | Event::Opaque { .. } => Vec::new(),
            Event::End => {
                let usage = self.usage.filter(|_| self.include_usage);
                let mut bytes = usage.map(|usage| self.frame(&json!([]), Some(&usage))).unwrap_or_default();
                bytes.extend(sse::frame(DONE));
                bytes
            }
        }
    }

    /// The body that says a whole reply.
    pub fn whole(&self, reply: &Reply) -> Vec<u8> {
        let Reply { id, model, created, choices, usage } = reply;
        let choices: Vec<Value> =
            choices.iter().enumerate().map(|(index, choice)| encode_choice(index, choice)).collect();
        let mut body = json!({
            "id": id, "object": "text_completion", "created": created, "model": model, "choices": choices,
        });
        if let Some(usage) = usage {
            body["usage"] = encode_usage(usage);
        }
        body.to_string().into_bytes()
    }

    /// The bytes that tell of a failure in the middle of a stream, in the way that SDKs raise.
    pub fn failure(&mut self, failure: &Failure) -> Vec<u8> {
        sse::frame(error_body(failure).to_string().as_bytes())
    }

    fn choice_frame(&self, index: u32, text: &str, told: &Value, finish: Option<&Finish>) -> Vec<u8> {
        let finish = finish.map(finish_name);
        self.frame(
            &json!([{ "text": text, "index": index, "logprobs": told, "finish_reason": finish }]),
            None,
        )
    }

    fn frame(&self, choices: &Value, usage: Option<&Usage>) -> Vec<u8> {
        let mut body = json!({
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            body["usage"] = usage.map_or(Value::Null, encode_usage);
        }
        sse::frame(body.to_string().as_bytes())
    }
}

fn encode_choice(index: usize, choice: &Choice) -> Value {
    let text: String = choice
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Text { text, .. } | Block::Refusal(text) => Some(text.as_str()),
            Block::Reasoning { .. } | Block::Redacted(_) | Block::ToolCall(_) => None,
        })
        .collect();
    let told = (!choice.logprobs.is_empty()).then(|| logprobs::encode(&choice.logprobs, &mut 0));
    json!({
        "text": text, "index": index, "logprobs": told,
        "finish_reason": choice.finish.as_ref().map(finish_name),
    })
}
