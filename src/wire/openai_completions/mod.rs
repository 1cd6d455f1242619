//! OpenAI's older completions: a prompt without roles.
//!
//! A prompt is a user's only message; anything else cannot be said here.

mod logprobs;
mod reply;
mod request;
mod stream;
#[cfg(test)]
mod tests;

pub use reply::Decoder;
pub use request::{decode_request, encode_request};
pub use stream::Encoder;

use crate::chat::Protocol;

/// This protocol.
const HERE: Protocol = Protocol::OpenAiCompletions;

/// What ends a stream.
const DONE: &[u8] = b"[DONE]";
