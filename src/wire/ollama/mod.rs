//! Ollama's `/api/chat` and `/api/generate`.
//!
//! Streams are lines of JSON, and are the default. Both paths share their options, their replies differ in one
//! field.

pub mod catalog;
mod message;
mod reply;
mod request;
mod stream;

pub use reply::Decoder;
pub use request::{
    decode_chat_request, decode_embed, decode_embedding, decode_generate_request, encode_chat_request,
    encode_generate_request, is_load,
};
pub use stream::{Encoder, embed_reply, embedding_reply, error_body, load_reply};

use crate::chat::Protocol;

const CHAT: Protocol = Protocol::OllamaChat;
const GENERATE: Protocol = Protocol::OllamaGenerate;
