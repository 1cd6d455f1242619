//! What is asked: a [`Request`] and its parts.

use super::{Protocol, Signature};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One question to a model, whatever protocol it came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The model the client asked for, as written.
    pub model: String,
    /// The conversation, oldest first. Instructions to the model are messages too, in their place.
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Which tool must or may be called.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called at once.
    pub parallel_tools: Option<bool>,
    /// JSON mode or a JSON schema.
    pub response_format: Option<ResponseFormat>,
    /// How much the model is to think.
    pub thinking: Option<Thinking>,
    /// How the answer is drawn.
    pub sampling: Sampling,
    /// How the client wants the answer handed over. Never part of what is asked.
    pub delivery: Delivery,
    /// Fields that no codec knows. They mean something to the protocol in `received` only.
    pub extra: Map<String, Value>,
    /// As it came, for a provider that speaks the same protocol. Never part of what is asked: `extra` and
    /// the fields above hold all its meaning.
    pub received: Received,
}

impl Request {
    /// The last message, where a user speaks in it: what the request is about.
    pub fn question(&self) -> Option<&Message> {
        self.messages.last().filter(|message| message.role == Role::User)
    }

    /// Whether it has a text gone on with, as it stands, where a chat would answer it.
    pub fn is_continuation(&self) -> bool {
        match self.received.protocol {
            Protocol::OpenAiCompletions => true,
            Protocol::OllamaGenerate => self.extra.get("raw") == Some(&Value::Bool(true)),
            _ => false,
        }
    }
}

/// A request as it came over a wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// The protocol it is written in.
    pub protocol: Protocol,
    /// Its body. Empty where it came over no wire.
    pub body: Bytes,
    /// The headers that say something to the provider, and hold no secret.
    pub headers: Vec<(String, String)>,
}

/// How an answer is drawn.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sampling {
    /// Zero is deterministic.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// How many of the likeliest tokens are drawn from.
    pub top_k: Option<u32>,
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
    /// Makes it say new things.
    pub presence_penalty: Option<f64>,
    /// Makes it repeat itself less.
    pub frequency_penalty: Option<f64>,
    /// Whether the tokens' likelihoods are told.
    pub logprobs: Option<bool>,
    /// How many other tokens' likelihoods are told beside each.
    pub top_logprobs: Option<u32>,
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
    /// The result of a tool call; each result is a message of its own.
    Tool,
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said, in order; an assistant's tool calls among it.
    pub parts: Vec<Part>,
    /// The call that a tool message answers.
    pub tool_call_id: Option<String>,
    /// The tool that a tool message speaks for, where the protocol names it.
    pub tool_name: Option<String>,
    /// Whether a tool message tells of a failure.
    pub failed: bool,
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
        Self {
            role,
            parts: Vec::new(),
            tool_call_id: None,
            tool_name: None,
            failed: false,
            extra: Map::new(),
        }
    }

    /// Its text parts, one line after the other.
    pub fn plain_text(&self) -> String {
        let texts: Vec<&str> = self.parts.iter().filter_map(Part::as_text).collect();
        texts.join("\n")
    }

    /// The tools an assistant wants called.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.parts.iter().filter_map(|part| if let Part::ToolCall(call) = part { Some(call) } else { None })
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
    /// A picture.
    Image(Media),
    /// Sound.
    Audio(Media),
    /// A document.
    File(Media),
    /// What an assistant thought.
    Reasoning {
        /// The thought; empty where it is sealed.
        text: String,
        /// What seals it.
        signature: Option<Signature>,
        /// The seal is all there is: the thought itself was withheld.
        redacted: bool,
    },
    /// Why an assistant did not answer.
    Refusal(String),
    /// A tool an assistant wants called.
    ToolCall(ToolCall),
    /// Anything else, as it came. It means something to the protocol in `received` only.
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
            _ => None,
        }
    }

    /// What it is, in an error or a log line.
    pub fn kind(&self) -> &str {
        match self {
            Self::Text { .. } => "text",
            Self::Image(_) => "image",
            Self::Audio(_) => "audio",
            Self::File(_) => "file",
            Self::Reasoning { .. } => "reasoning",
            Self::Refusal(_) => "refusal",
            Self::ToolCall(_) => "tool_call",
            Self::Opaque(value) => value.get("type").and_then(Value::as_str).unwrap_or("unknown"),
        }
    }
}

/// A picture, a sound or a document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Media {
    /// Where it is.
    pub source: MediaSource,
    /// Its MIME type, where it is known.
    pub media_type: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// Fields beside it that no codec knows.
    pub extra: Map<String, Value>,
}

/// Where a picture, a sound or a document is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaSource {
    /// Out there. Never a `data:` URL.
    Url(String),
    /// Here, in base64.
    Data(String),
    /// Here, as plain text (Anthropic's text documents).
    Text(String),
    /// With the provider, under this id.
    Id(String),
}

impl Media {
    /// The media at `url`; a `data:` URL in base64 is taken apart.
    pub fn at(url: &str) -> Self {
        let data = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
        let (media_type, source) = match data {
            Some((kind, data)) => (Some(kind), MediaSource::Data(data.to_owned())),
            None => (None, MediaSource::Url(url.to_owned())),
        };
        let media_type = media_type.filter(|kind| !kind.is_empty()).map(str::to_owned);
        Self { source, media_type, name: None, extra: Map::new() }
    }

    /// Its MIME type by its registered name: others are in use for JPEG, and providers refuse them.
    pub fn registered_type(&self) -> Option<&str> {
        match self.media_type.as_deref() {
            Some("image/jpg" | "image/pjpeg") => Some("image/jpeg"),
            other => other,
        }
    }

    /// Its URL, a `data:` one where it is here; `None` where there is none (an id, plain text).
    pub fn url(&self) -> Option<String> {
        match &self.source {
            MediaSource::Url(url) => Some(url.clone()),
            MediaSource::Data(data) => {
                Some(format!("data:{};base64,{data}", self.media_type.as_deref().unwrap_or_default()))
            }
            MediaSource::Text(_) | MediaSource::Id(_) => None,
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
    /// What seals the thought behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Fields beside it that no codec knows.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// Something the model may call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// A function of the client's.
    Function {
        /// Its name.
        name: String,
        /// What it does.
        description: Option<String>,
        /// The JSON schema of its arguments.
        parameters: Option<Value>,
        /// Whether the arguments must follow the schema to the letter.
        strict: Option<bool>,
        /// Fields that no codec knows.
        extra: Map<String, Value>,
    },
    /// A tool of the provider's own, as it came. It means something to the protocol in `received` only.
    Opaque(Value),
}

/// Which tool must or may be called.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// None at all.
    None,
    /// At least one.
    Required,
    /// This function.
    Function(String),
    /// Anything else, as it came.
    Opaque(Value),
}

/// What form an answer must have.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Words.
    Text,
    /// Any JSON object.
    Json,
    /// JSON of this schema.
    Schema {
        /// Its name, where it has one.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// The JSON schema.
        schema: Value,
        /// Whether it must be followed to the letter.
        strict: Option<bool>,
    },
    /// Anything else, as it came.
    Opaque(Value),
}

/// How much the model is to think.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Thinking {
    /// In words: `none`, `minimal`, `low`, `medium`, `high`.
    pub effort: Option<String>,
    /// In tokens; zero is not at all.
    pub budget: Option<u32>,
    /// Whether its thoughts are to be shown.
    pub shown: Option<bool>,
    /// Fields beside it that no codec knows.
    pub extra: Map<String, Value>,
}
