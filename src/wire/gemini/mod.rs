//! Gemini's `generateContent` and `streamGenerateContent`.
//!
//! The path names the model and says whether a stream is wanted. A stream has no last event: it is complete
//! where the bytes end, once every candidate has a `finishReason`.

mod config;
mod failure;
mod fields;
mod message;
mod path;
mod reply;
mod request;
mod schema;
mod seal;
mod sources;
mod stream;
mod time;
mod tools;
mod turns;

#[cfg(test)]
mod tests;

pub use failure::error_body;
pub use path::{counted_model, path, target};
pub use reply::Decoder;
pub use request::{decode_count_request, decode_request, encode_request};
pub(super) use seal::has_foreign_seal;
pub use stream::Encoder;
pub(super) use turns::lacks_seal;

use crate::chat::Protocol;
use serde_json::{Value, json};

const HERE: Protocol = Protocol::Gemini;

/// The body that answers `:countTokens`.
pub fn count_tokens_body(total_tokens: u64) -> Value {
    json!({ "totalTokens": total_tokens })
}
