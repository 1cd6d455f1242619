//! Protocols: bytes to meaning, and back.
//!
//! Each protocol is one file with a decoder and an encoder for requests and for replies. Server and
//! providers use the same four, so `N` protocols need `N` codecs. Law: decoding what was encoded gives the
//! same events.

pub mod openai_chat;
pub mod sse;

/// Why bytes could not be understood. The message is fit for the client: it quotes no content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong.
    pub message: String,
    /// The field at fault, such as `messages[2].content`.
    pub field: Option<String>,
}

impl Error {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), field: None }
    }

    fn at(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), field: Some(field.into()) }
    }
}
