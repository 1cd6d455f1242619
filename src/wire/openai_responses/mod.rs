//! OpenAI responses.
//!
//! A conversation is a list of items here: messages, thoughts, tool calls and their results stand side by
//! side. An assistant's items up to the next other one are one message of ours, in their order. The `id` and
//! `status` of an item we know only name it, so they are not kept; the verbatim bytes hold them.

mod input;
mod item;
mod reply;
mod request;
mod response;
mod said;
mod stream;
#[cfg(test)]
mod tests;

pub use reply::Decoder;
pub use request::{decode_request, encode_request};
pub use stream::Encoder;

use crate::chat::{Protocol, Signature};
use serde_json::Value;

/// This protocol.
const HERE: Protocol = Protocol::OpenAiResponses;

/// The seal of the thought behind a call. The protocol has no place for it, so it stands where Google's
/// compatible endpoint puts it in a chat.
fn call_seal(call: &Value) -> Option<Signature> {
    let seal = call.pointer("/extra_content/google/thought_signature")?.as_str()?;
    Some(Signature::from_tagged(Protocol::Gemini, seal))
}
