//! The words everything else is said in: a [`Request`], its [`Message`]s, and the [`Event`]s of a reply.
//!
//! Every client protocol decodes into these types and every provider encodes from them, so `N` protocols
//! need `N` codecs. Nothing is lost on the way: a request keeps the [`Received`] bytes it came in, `extra`
//! keeps the fields no codec knows, and a [`Chunk`] carries a frame's verbatim bytes beside its meaning.

mod event;
mod pattern;
mod reply;
mod request;

pub use event::{Chunk, Event, Finish, Form, Raw, Usage};
pub use pattern::matches;
pub use reply::{Block, Choice, Folder, Incomplete, Reply, fold, unfold};
pub use request::{
    Delivery, Media, MediaSource, Message, Part, Received, Request, ResponseFormat, Role, Sampling, Thinking,
    Tool, ToolCall, ToolChoice,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The wire protocols we speak. `wire` holds one codec for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// OpenAI chat completions, and whoever copies them.
    #[default]
    #[serde(rename = "openai_chat")]
    OpenAiChat,
    /// OpenAI's older completions: a prompt without roles.
    #[serde(rename = "openai_completions")]
    OpenAiCompletions,
    /// OpenAI responses.
    #[serde(rename = "openai_responses")]
    OpenAiResponses,
    /// Anthropic messages.
    Anthropic,
    /// Gemini's `generateContent`.
    Gemini,
    /// Ollama's `/api/chat`.
    OllamaChat,
    /// Ollama's `/api/generate`.
    OllamaGenerate,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::OpenAiChat,
        Self::OpenAiCompletions,
        Self::OpenAiResponses,
        Self::Anthropic,
        Self::Gemini,
        Self::OllamaChat,
        Self::OllamaGenerate,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::OpenAiCompletions => "openai_completions",
            Self::OpenAiResponses => "openai_responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::OllamaChat => "ollama_chat",
            Self::OllamaGenerate => "ollama_generate",
        }
    }
}

/// What a provider seals its model's thinking with, to be shown to it again in the next turn. It means
/// something to its maker only, so it remembers who that is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// Whose it is.
    pub by: Protocol,
    /// The seal, byte for byte.
    pub data: String,
}

/// Stands before a signature that is carried in a protocol which is not its maker's.
const FOREIGN: &str = "weir:";

impl Signature {
    /// The signature as a client of `protocol` is shown it: a foreign one says whose it is, so that it finds
    /// its way back to its maker.
    pub fn tagged(&self, protocol: Protocol) -> String {
        match self.by == protocol {
            true => self.data.clone(),
            false => format!("{FOREIGN}{}:{}", self.by.name(), self.data),
        }
    }

    /// Undoes [`Self::tagged`].
    pub fn from_tagged(protocol: Protocol, tagged: &str) -> Self {
        let foreign = tagged.strip_prefix(FOREIGN).and_then(|rest| rest.split_once(':'));
        let maker = foreign.and_then(|(name, data)| {
            Some((Protocol::ALL.into_iter().find(|protocol| protocol.name() == name)?, data))
        });
        let (by, data) = maker.unwrap_or((protocol, tagged));
        Self { by, data: data.to_owned() }
    }
}

/// Where something that is said comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citation {
    /// Where the source is found.
    pub url: Option<String>,
    /// What it is called.
    pub title: Option<String>,
    /// The words of it.
    pub quote: Option<String>,
    /// Whose form `raw` has.
    pub by: Protocol,
    /// As it came.
    pub raw: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_signature_finds_its_way_back() {
        let signature = Signature { by: Protocol::Gemini, data: "a:b==".into() };
        assert_eq!(signature.tagged(Protocol::Gemini), "a:b==");
        let tagged = signature.tagged(Protocol::Anthropic);
        assert_eq!(tagged, "weir:gemini:a:b==");
        assert_eq!(Signature::from_tagged(Protocol::Anthropic, &tagged), signature);
        assert_eq!(Signature::from_tagged(Protocol::Anthropic, "weir:x").by, Protocol::Anthropic);
    }

    #[test]
    fn a_protocol_is_called_the_same_everywhere() {
        for protocol in Protocol::ALL {
            assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.name());
        }
    }
}
