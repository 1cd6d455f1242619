//! Anthropic messages.
//!
//! A user's message may hold the results of tools beside words; each is a message of its own in the hub, and
//! they are put together again on the way out. The seal of a thought is shown to clients as it is where it is
//! Anthropic's own, else tagged with its maker's name. A foreign seal of anything but a thought (Gemini seals
//! calls and words) has no place here: it is told right after its block, as a withheld thought whose data
//! begin with `SEAL`, and clients that give thoughts back unchanged bring it home.

mod block;
mod message;
mod reply;
mod request;
mod schema;
mod stream;
#[cfg(test)]
mod tests;
mod thinking;
mod turn;

pub use block::error_body;
pub use reply::Decoder;
pub use request::{decode_request, encode_request};
pub use stream::Encoder;

use crate::chat::{Protocol, Signature};
use serde_json::{Value, json};

const HERE: Protocol = Protocol::Anthropic;

/// Begins the data of a withheld thought that is none: the foreign seal of the block before it.
const SEAL: &str = "seal:";

/// The body that answers `/v1/messages/count_tokens`.
pub fn count_tokens_body(input_tokens: u64) -> Value {
    json!({ "input_tokens": input_tokens })
}

/// The data of the withheld thought that stands for the seal of the block before it.
fn seal_data(signature: &Signature) -> String {
    format!("{SEAL}{}", signature.tagged(HERE))
}

/// Undoes [`seal_data`]; `None` where `data` is a withheld thought in earnest.
fn seal_in(data: &str) -> Option<Signature> {
    data.strip_prefix(SEAL).map(|tagged| Signature::from_tagged(HERE, tagged))
}
