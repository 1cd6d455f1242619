//! Events to the frames of a stream.

use super::DONE;
use super::reply::{encode_usage, finish_name};
use crate::chat::{Event, Usage};
use crate::wire::sse;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Writes one reply as a stream.
#[derive(Debug, Default)]
pub struct StreamEncoder {
    include_usage: bool,
    id: String,
    model: String,
    created: u64,
    /// The choices whose first delta, the one with the role, has been written.
    greeted: BTreeSet<u32>,
    usage: Option<Usage>,
}

impl StreamEncoder {
    /// `include_usage`: whether the client asked for a last frame that counts tokens.
    pub fn new(include_usage: bool) -> Self {
        Self { include_usage, ..Self::default() }
    }

    /// The bytes that say `event`; often none.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        match event {
            Event::Start { id, model, created } => {
                (self.id, self.model, self.created) = (id.clone(), model.clone(), *created);
                Vec::new()
            }
            Event::Text { choice, text } => self.delta(*choice, json!({ "content": text })),
            Event::Reasoning { choice, text } => self.delta(*choice, json!({ "reasoning_content": text })),
            Event::Refusal { choice, text } => self.delta(*choice, json!({ "refusal": text })),
            Event::ToolCall { choice, index, id, name, arguments } => {
                self.delta(*choice, tool_delta(*index, id.as_deref(), name.as_deref(), arguments))
            }
            Event::Finish { choice, reason } => {
                let choice = json!({ "index": choice, "delta": {}, "logprobs": null, "finish_reason": finish_name(reason) });
                self.frame(&json!([choice]), None)
            }
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                Vec::new()
            }
            // There is no word for it here; the reply is passed on verbatim where that is possible.
            Event::Opaque { .. } => Vec::new(),
            Event::End => self.end(),
        }
    }

    fn delta(&mut self, choice: u32, mut delta: Value) -> Vec<u8> {
        if self.greeted.insert(choice) {
            delta["role"] = json!("assistant");
        }
        let choice = json!({ "index": choice, "delta": delta, "logprobs": null, "finish_reason": null });
        self.frame(&json!([choice]), None)
    }

    fn end(&mut self) -> Vec<u8> {
        let usage = self.usage.filter(|_| self.include_usage);
        let mut bytes = usage.map(|usage| self.frame(&json!([]), Some(&usage))).unwrap_or_default();
        bytes.extend(sse::frame(DONE));
        bytes
    }

    fn frame(&self, choices: &Value, usage: Option<&Usage>) -> Vec<u8> {
        let mut body = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            body["usage"] = usage.map_or(Value::Null, encode_usage);
        }
        sse::frame(body.to_string().as_bytes())
    }
}

fn tool_delta(index: u32, id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    let mut call = json!({ "index": index, "function": { "arguments": arguments } });
    if let Some(id) = id {
        call["id"] = json!(id);
        call["type"] = json!("function");
    }
    if let Some(name) = name {
        call["function"]["name"] = json!(name);
    }
    json!({ "tool_calls": [call] })
}

/// An error as the OpenAI SDKs understand it, in a body or in a stream.
pub fn error_body(message: &str, kind: &str, code: &str, param: Option<&str>) -> Value {
    json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
}
