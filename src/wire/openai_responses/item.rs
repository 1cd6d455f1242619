//! The items of an answer, as they are written.

use super::HERE;
use crate::chat::{Citation, Protocol, ToolCall};
use crate::wire::json::Body;
use serde_json::{Value, json};

/// One item of the output.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) said: Said,
    /// Its `status`.
    pub(super) status: &'static str,
}

/// What an item says.
#[derive(Debug)]
pub(super) enum Said {
    /// Words, in parts.
    Message(Vec<Content>),
    /// A thought, and its seal as a client is shown it.
    Thought { text: String, seal: Option<String> },
    /// The call of that index.
    Call { index: u32, call: ToolCall },
}

/// A part of a message.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) refusal: bool,
    pub(super) text: String,
    pub(super) annotations: Vec<Value>,
    pub(super) logprobs: Vec<Value>,
}

impl Said {
    /// What the id of such an item begins with.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Message(_) => "msg",
            Self::Thought { .. } => "rs",
            Self::Call { .. } => "fc",
        }
    }
}

impl Item {
    /// Whether more may be added to it.
    pub(super) fn is_open(&self) -> bool {
        self.status == "in_progress"
    }

    /// The item with all that it says.
    pub(super) fn value(&self) -> Value {
        let Self { id, said, status } = self;
        match said {
            Said::Message(content) => json!({
                "id": id, "type": "message", "status": status, "role": "assistant",
                "content": content.iter().map(Content::value).collect::<Vec<_>>(),
            }),
            Said::Thought { text, seal } => {
                let mut item = Body::default();
                item.set("id", Some(id));
                item.set("type", Some("reasoning"));
                let summary = (!text.is_empty()).then(|| summary(text));
                item.set("summary", Some(summary.as_slice()));
                item.set("encrypted_content", seal.as_ref());
                item.value()
            }
            Said::Call { index: _, call } => {
                let ToolCall { id: call_id, name, arguments, signature, extra: _ } = call;
                let mut item = json!({
                    "id": id, "type": "function_call", "status": status,
                    "call_id": call_id, "name": name, "arguments": arguments,
                });
                if let Some(signature) = signature {
                    let seal = signature.tagged(Protocol::Gemini);
                    item["extra_content"] = json!({ "google": { "thought_signature": seal } });
                }
                item
            }
        }
    }
}

impl Content {
    /// The part with all that it says.
    pub(super) fn value(&self) -> Value {
        let Self { refusal, text, annotations, logprobs } = self;
        match refusal {
            true => json!({ "type": "refusal", "refusal": text }),
            false => json!({
                "type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs,
            }),
        }
    }
}

/// A paragraph of a thought.
pub(super) fn summary(text: &str) -> Value {
    json!({ "type": "summary_text", "text": text })
}

/// A source, as it stands in a text here.
pub(super) fn annotation(citation: &Citation) -> Value {
    let Citation { url, title, quote, by, raw } = citation;
    match (by, raw.get("url_citation").and_then(Value::as_object)) {
        (by, _) if *by == HERE => raw.clone(),
        // A chat has the same fields one level deeper.
        (Protocol::OpenAiChat, Some(inner)) => {
            let mut flat = Body::default();
            flat.set("type", Some("url_citation"));
            flat.0.extend(inner.clone());
            flat.value()
        }
        _ => {
            let mut made = Body::default();
            made.set("type", Some("url_citation"));
            made.set("url", Some(url.as_deref().unwrap_or_default()));
            made.set("title", Some(title.as_deref().unwrap_or_default()));
            made.set("content", quote.as_ref());
            made.set("start_index", Some(0));
            made.set("end_index", Some(0));
            made.value()
        }
    }
}
