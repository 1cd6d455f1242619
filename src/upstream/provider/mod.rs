//! A provider over HTTP.

use crate::secret::Secret;
use std::time::Duration;

/// How a provider is reached.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is called.
    pub name: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// Up to and with the version: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent as a bearer token; none for servers that want none.
    pub api_key: Option<Secret>,
    /// Patterns (`*` stands for anything) of the models it is asked for.
    pub models: Vec<String>,
    /// Sent along with every request.
    pub headers: Vec<(String, Secret)>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long the first chunk of an answer may take.
    pub first_token_timeout: Duration,
    /// How long an answer may pause between two chunks.
    pub idle_timeout: Duration,
    /// US dollars for a million tokens read, and for a million written.
    pub price: Option<Price>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI itself.
    OpenAi,
    /// Anthropic, through its OpenAI-compatible endpoint until the wires issue gives it its own codec.
    Anthropic,
    /// Google Gemini, likewise.
    Gemini,
    /// Ollama, likewise.
    Ollama,
    /// Anything else that is OpenAI-compatible.
    Generic,
}

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Read.
    pub input: f64,
    /// Written.
    pub output: f64,
}
