//! OpenAI chat completions, as OpenAI writes them and as those write them who are compatible with it.

mod reply;
mod request;
mod stream;

pub use reply::{Decoder, encode_reply};
pub use request::{decode_request, encode_request};
pub use stream::{StreamEncoder, error_body};

/// What ends a stream.
const DONE: &[u8] = b"[DONE]";
