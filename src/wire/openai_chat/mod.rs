//! OpenAI chat completions, as OpenAI writes them and as those write them who are compatible with it.

mod calls;
mod message;
mod reply;
mod request;
mod stream;

pub use reply::Decoder;
pub(in crate::wire) use reply::{LABELS, decode_finish, decode_usage, encode_usage, finish_name};
pub use request::{decode_request, encode_request};
pub(in crate::wire) use request::{decode_response_format, decode_sampling};
pub(in crate::wire) use stream::without_usage;
pub use stream::{Encoder, error_body};

/// What ends a stream.
const DONE: &[u8] = b"[DONE]";
