//! The words everything else is said in: a [`Request`], its [`Message`]s, and the [`Event`]s of a reply.
//!
//! Every client protocol decodes into these types and every provider encodes from them, so `N` protocols
//! need `N` codecs. Nothing is lost on the way: `extra` keeps the fields no codec knows, and a [`Chunk`]
//! carries a frame's verbatim bytes beside its meaning.

mod reply;

pub use reply::{Choice, Folder, Incomplete, Reply, fold, unfold};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The wire protocols we speak. `wire` holds one codec for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OpenAI chat completions, and whoever copies them.
    OpenAiChat,
}

/// One question to a model, whatever protocol it came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The model the client asked for, as written.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Tool definitions, as given.
    pub tools: Vec<Value>,
    /// Which tool must or may be called.
    pub tool_choice: Option<Value>,
    /// JSON mode or a JSON schema.
    pub response_format: Option<Value>,
    /// How the answer is drawn.
    pub sampling: Sampling,
    /// How the client wants the answer handed over. Never part of what is asked.
    pub delivery: Delivery,
    /// Fields that no codec knows, kept so that they reach a provider of the same protocol.
    pub extra: Map<String, Value>,
}

impl Request {
    /// The last message, where a user speaks in it: what the request is about.
    pub fn question(&self) -> Option<&Message> {
        self.messages.last().filter(|message| message.role == Role::User)
    }
}

/// How an answer is drawn.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sampling {
    /// Zero is deterministic.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// The older name of the limit on the answer's length.
    pub max_tokens: Option<u32>,
    /// The newer name; some models take only one of the two, so both are kept.
    pub max_completion_tokens: Option<u32>,
    /// Asks for a repeatable answer.
    pub seed: Option<i64>,
    /// Ends the answer where one of these would be written.
    pub stop: Vec<String>,
    /// How many answers.
    pub n: Option<u32>,
}

impl Sampling {
    /// The limit on the answer's length, whichever name it came under.
    pub fn answer_limit(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }
}

/// How the client wants the answer handed over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// As a stream of events, or whole.
    pub stream: bool,
    /// What it says about the stream, as given.
    pub options: Map<String, Value>,
}

impl Delivery {
    /// Whether the stream ends with an event that counts tokens.
    pub fn include_usage(&self) -> bool {
        self.options.get("include_usage").and_then(Value::as_bool).unwrap_or(false)
    }
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions to the model.
    System,
    /// Instructions to the model, in newer protocols.
    Developer,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said. Empty where only tools are called.
    pub parts: Vec<Part>,
    /// The tools an assistant wants called.
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool message answers.
    pub tool_call_id: Option<String>,
    /// Fields that no codec knows.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message of plain text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { parts: vec![Part::text(text)], ..Self::empty(role) }
    }

    /// A message that says nothing yet.
    pub fn empty(role: Role) -> Self {
        Self { role, parts: Vec::new(), tool_calls: Vec::new(), tool_call_id: None, extra: Map::new() }
    }

    /// Its text parts, one line after the other.
    pub fn plain_text(&self) -> String {
        let texts: Vec<&str> = self.parts.iter().filter_map(Part::as_text).collect();
        texts.join("\n")
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Words.
    Text {
        /// The words.
        text: String,
        /// Fields beside them that no codec knows.
        extra: Map<String, Value>,
    },
    /// Anything else (an image, a file, audio), as it came.
    Opaque(Value),
}

impl Part {
    /// A part of plain words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), extra: Map::new() }
    }

    /// The words, where it has any.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text, .. } => Some(text),
            Self::Opaque(_) => None,
        }
    }
}

/// A tool the model wants called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What the result will refer to.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments: JSON text, as the model wrote it.
    pub arguments: String,
}

/// Something that happens while a reply is made. A stream is these in order; a whole reply is their [`fold`].
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
    /// More of a choice's text.
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
        /// Which of that answer's calls.
        index: u32,
        /// Given with the first fragment.
        id: Option<String>,
        /// Given with the first fragment.
        name: Option<String>,
        /// What is added to the arguments.
        arguments: String,
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
    /// What the reply cost.
    Usage(Usage),
    /// The reply is complete. Without it a stream was cut.
    End,
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model was done, or a stop sequence was met.
    Stop,
    /// The limit on its length was met.
    Length,
    /// It waits for tools.
    ToolCalls,
    /// It was withheld.
    ContentFilter,
    /// A reason of the provider's own.
    Other(String),
}

/// Tokens counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Of the tokens read, those the provider had cached.
    pub cached_input: u64,
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
    /// The bytes: of a frame its payload, of a whole reply its body.
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
