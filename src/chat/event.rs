//! What happens while a reply is made: [`Event`]s, and the [`Chunk`]s they come in.

use super::{Citation, Protocol, Signature};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that happens while a reply is made. A stream is these in order; a whole reply is their
/// [`fold`](super::fold).
///
/// What is said comes in blocks: a text, a thought, a refusal, a tool call. An event of another kind than the
/// one before it begins a new block; [`Event::Break`] separates two blocks of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The reply begins.
    Start {
        /// The provider's id of this reply.
        id: String,
        /// The model that answers.
        model: String,
        /// Unix seconds.
        created: u64,
    },
    /// More of a choice's text. An empty one says nothing, but makes the choice exist.
    Text {
        /// Which of the `n` answers.
        choice: u32,
        /// What is added.
        text: String,
    },
    /// More of the model's thinking.
    Reasoning {
        /// Which of the `n` answers.
        choice: u32,
        /// What is added.
        text: String,
    },
    /// A thought that is withheld; only its seal is given. A block of its own.
    Redacted {
        /// Which of the `n` answers.
        choice: u32,
        /// The seal.
        signature: Signature,
    },
    /// More of a refusal.
    Refusal {
        /// Which of the `n` answers.
        choice: u32,
        /// What is added.
        text: String,
    },
    /// A tool call, or more of its arguments.
    ToolCall {
        /// Which of the `n` answers.
        choice: u32,
        /// Which of that answer's calls, counted from zero.
        index: u32,
        /// Given with the first fragment.
        id: Option<String>,
        /// Given with the first fragment.
        name: Option<String>,
        /// What is added to the arguments.
        arguments: String,
    },
    /// The seal of the block before it; where that cannot be sealed, of a thought without words.
    Signature {
        /// Which of the `n` answers.
        choice: u32,
        /// The seal.
        signature: Signature,
    },
    /// A source of the text before it.
    Citation {
        /// Which of the `n` answers.
        choice: u32,
        /// The source.
        citation: Citation,
    },
    /// How likely the tokens were, in the form of OpenAI's `logprobs.content`.
    Logprobs {
        /// Which of the `n` answers.
        choice: u32,
        /// One for each token.
        tokens: Vec<Value>,
    },
    /// The next words begin a new block, though they are of the same kind.
    Break {
        /// Which of the `n` answers.
        choice: u32,
    },
    /// Something that these types have no word for. It is passed on verbatim where the protocol is the
    /// same on both sides, and a reply that holds it is never remembered.
    Opaque {
        /// The field it came in.
        field: String,
    },
    /// A choice is complete.
    Finish {
        /// Which of the `n` answers.
        choice: u32,
        /// Why it ends.
        reason: Finish,
    },
    /// What the reply cost; each one replaces the one before.
    Usage(Usage),
    /// The reply is complete. Without it a stream was cut.
    End,
}

impl Event {
    /// Whether a client sees something of the answer in it. Up to there another upstream may be asked.
    pub fn is_substance(&self) -> bool {
        match self {
            Self::Text { text, .. } | Self::Reasoning { text, .. } | Self::Refusal { text, .. } => {
                !text.is_empty()
            }
            Self::Start { .. } | Self::Usage(_) | Self::Break { .. } => false,
            _ => true,
        }
    }
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model was done, or a stop sequence was met and the provider does not say which.
    Stop,
    /// This stop sequence was met.
    StopSequence(String),
    /// The limit on its length was met.
    Length,
    /// It waits for tools.
    ToolCalls,
    /// It was withheld by a filter.
    ContentFilter,
    /// The model refused.
    Refusal,
    /// A reason of the provider's own.
    Other(String),
}

/// Tokens counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read, the cached ones among them.
    pub input: u64,
    /// Tokens written, those spent thinking among them.
    pub output: u64,
    /// Of the tokens read, those the provider had cached.
    pub cached_input: u64,
    /// Of the tokens read, those the provider put into its cache.
    #[serde(default)]
    pub cache_write: u64,
    /// Of the tokens written, those spent thinking.
    pub reasoning: u64,
}

/// What one read from an upstream brought: its meaning and, where it came over a wire, its verbatim bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// The bytes as the provider sent them.
    pub raw: Option<Raw>,
    /// What they mean.
    pub events: Vec<Event>,
}

impl From<Vec<Event>> for Chunk {
    fn from(events: Vec<Event>) -> Self {
        Self { raw: None, events }
    }
}

/// Verbatim bytes. A face of the same protocol and form forwards them untouched.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    /// The protocol they are written in.
    pub protocol: Protocol,
    /// What they are.
    pub form: Form,
    /// The bytes, fit to be sent on: of a frame with all that frames it, of a whole reply its body.
    pub bytes: Bytes,
}

/// What verbatim bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One event of a stream.
    Frame,
    /// A whole reply.
    Whole,
}
