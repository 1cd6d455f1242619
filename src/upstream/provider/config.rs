//! How a provider is reached, and what it speaks.

use crate::chat::Protocol;
use crate::secret::Secret;
use crate::upstream::chain::Rotation;
use crate::upstream::prices::Price;
use crate::upstream::queue::Limits;
use std::time::Duration;

/// How a provider is reached.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is called.
    pub name: String,
    /// What sort of provider it is.
    pub kind: ProviderKind,
    /// The name that the configuration has for `kind` and the defaults that came with it: `openrouter` is
    /// generic, and somewhere in particular.
    pub preset: &'static str,
    /// What requests of other protocols are translated to: one that `kind` can speak.
    pub protocol: Protocol,
    /// Up to and with the version: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent in the header that `kind` wants; none for servers that want none.
    pub api_key: Option<Secret>,
    /// Patterns (`*` stands for anything) of the models it is asked for.
    pub models: Vec<String>,
    /// What a client calls a model, and what the provider calls it. A client's `*` is every other model.
    pub model_names: Vec<(String, String)>,
    /// Whether streams are asked to tell what they cost. Some servers refuse the question.
    pub include_usage: bool,
    /// How many tokens its models read, by patterns of their names; the first that matches counts.
    pub context_windows: Vec<(String, u64)>,
    /// The most tokens that its models are let write, likewise.
    pub max_tokens: Vec<(String, u64)>,
    /// Which of its keys it is asked with first.
    pub rotation: Rotation,
    /// The keys that it has beside `api_key`, each with a name.
    pub profiles: Vec<(String, Secret)>,
    /// Whether it answers nobody without a key.
    pub needs_key: bool,
    /// Sent along with every request.
    pub headers: Vec<(String, Secret)>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a stream may be silent before its first words. A sign of life (an event without words, a
    /// comment) begins the wait anew.
    pub first_token_timeout: Duration,
    /// How long an answer that has begun may pause.
    pub idle_timeout: Duration,
    /// How long a reply that comes whole may take, and a stream up to its first words, whatever signs of life
    /// it gives. The server's own limit on a request comes on top.
    pub reply_timeout: Duration,
    /// How much it takes, with each of its keys.
    pub limits: Limits,
    /// What it costs, whichever model answers.
    pub price: Option<Price>,
    /// Whose list prices hold for it otherwise: none where it is not at an address of a maker's.
    pub listed: Option<&'static str>,
}

impl Config {
    /// Whether it would refuse whatever it is asked: it wants a key, and has none in any form.
    pub fn lacks_key(&self) -> bool {
        let shown = |name: &String| {
            ["authorization", "api-key", "x-api-key", "x-goog-api-key"]
                .contains(&name.to_lowercase().as_str())
        };
        let has_header = self.headers.iter().any(|(name, _)| shown(name));
        self.needs_key && self.api_key.is_none() && self.profiles.is_empty() && !has_header
    }
}

/// What sort of provider an upstream is: its protocols, its paths, and how it wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI itself.
    OpenAi,
    /// OpenAI's models at Azure.
    Azure,
    /// Anthropic.
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// Ollama.
    Ollama,
    /// Anything else that is OpenAI-compatible.
    Generic,
}

impl ProviderKind {
    /// The protocol it is spoken to in, unless the configuration says otherwise.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::OpenAi | Self::Azure | Self::Generic => Protocol::OpenAiChat,
            Self::Anthropic => Protocol::Anthropic,
            Self::Gemini => Protocol::Gemini,
            Self::Ollama => Protocol::OllamaChat,
        }
    }

    /// Whether it has OpenAI's paths.
    pub fn is_openai_like(self) -> bool {
        self.protocol() == Protocol::OpenAiChat
    }

    /// Every protocol it understands, where `main` is the one it is spoken to in. Requests that come in one of
    /// them are passed on as they are.
    pub fn speaks(self, main: Protocol) -> &'static [Protocol] {
        const CHAT: &[Protocol] = &[Protocol::OpenAiChat, Protocol::OpenAiCompletions];
        const ALL_OF_OPENAI: &[Protocol] =
            &[Protocol::OpenAiChat, Protocol::OpenAiCompletions, Protocol::OpenAiResponses];
        match self {
            Self::OpenAi | Self::Azure => ALL_OF_OPENAI,
            // Few of the others have the newer protocol; who asks for it wants it spoken.
            Self::Generic if main == Protocol::OpenAiResponses => &[Protocol::OpenAiResponses],
            Self::Generic => CHAT,
            Self::Anthropic => &[Protocol::Anthropic],
            Self::Gemini => &[Protocol::Gemini],
            Self::Ollama => &[Protocol::OllamaChat, Protocol::OllamaGenerate],
        }
    }

    /// The base URL that is meant by `typed`: some leave out the version, and some add one for another
    /// protocol's sake.
    pub fn base_url(self, typed: &str) -> String {
        let typed = typed.trim_end_matches('/');
        match self {
            Self::Anthropic if !ends_with_version(typed) => format!("{typed}/v1"),
            Self::Ollama => typed.strip_suffix("/v1").unwrap_or(typed).to_owned(),
            Self::Azure if typed.ends_with("/openai") => format!("{typed}/v1"),
            Self::Azure if has_no_path(typed) => format!("{typed}/openai/v1"),
            _ => typed.to_owned(),
        }
    }
}

fn ends_with_version(url: &str) -> bool {
    let last = url.rsplit('/').next().unwrap_or_default();
    last.strip_prefix('v')
        .is_some_and(|version| !version.is_empty() && version.chars().all(|c| c.is_ascii_digit()))
}

fn has_no_path(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'))
}
/// A provider that cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A header has a name or a value that HTTP does not allow. The value may be a secret, so only the name
    /// is told.
    #[error("upstream \"{upstream}\": the header \"{header}\" is not valid")]
    BadHeader {
        /// The upstream.
        upstream: String,
        /// The header's name.
        header: String,
    },
    /// The HTTP client could not be made.
    #[error("upstream \"{upstream}\": {reason}")]
    Client {
        /// The upstream.
        upstream: String,
        /// Why.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_ends_with_the_version_that_its_kind_has() {
        for (kind, typed, meant) in [
            (ProviderKind::OpenAi, "http://gateway/v1/", "http://gateway/v1"),
            (ProviderKind::Generic, "http://gateway", "http://gateway"),
            (ProviderKind::Anthropic, "https://api.anthropic.com", "https://api.anthropic.com/v1"),
            (ProviderKind::Anthropic, "https://api.anthropic.com/v1", "https://api.anthropic.com/v1"),
            (ProviderKind::Anthropic, "https://x/anthropic/v12/", "https://x/anthropic/v12"),
            (ProviderKind::Anthropic, "https://x/v", "https://x/v/v1"),
            (ProviderKind::Ollama, "http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434"),
            (ProviderKind::Ollama, "http://127.0.0.1:11434", "http://127.0.0.1:11434"),
            (ProviderKind::Azure, "https://a.openai.azure.com/", "https://a.openai.azure.com/openai/v1"),
            (
                ProviderKind::Azure,
                "https://a.openai.azure.com/openai",
                "https://a.openai.azure.com/openai/v1",
            ),
            (ProviderKind::Azure, "https://gateway/azure/v1", "https://gateway/azure/v1"),
        ] {
            assert_eq!(kind.base_url(typed), meant, "{typed}");
            assert_eq!(kind.base_url(meant), meant, "what is meant stays so");
        }
    }

    #[test]
    fn a_kind_speaks_its_own_protocol() {
        use ProviderKind::{Anthropic, Azure, Gemini, Generic, Ollama, OpenAi};
        for kind in [OpenAi, Azure, Anthropic, Gemini, Ollama, Generic] {
            assert!(kind.speaks(kind.protocol()).contains(&kind.protocol()), "{kind:?}");
        }
        assert!(!Generic.speaks(Protocol::OpenAiChat).contains(&Protocol::OpenAiResponses));
        assert!(Generic.speaks(Protocol::OpenAiResponses).contains(&Protocol::OpenAiResponses));
    }
}
