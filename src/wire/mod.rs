//! Protocols: bytes to meaning, and back.
//!
//! Each protocol is one folder with the same four: `decode_request` and `encode_request`, a [`Decoder`] of
//! replies and an [`Encoder`] of them. Server and providers use the same four, so `N` protocols need `N`
//! codecs. Law: decoding what was encoded gives the same events.

pub mod anthropic;
pub mod embeddings;
mod foreign;
pub mod frames;
pub mod gemini;
mod json;
pub mod ollama;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_responses;
pub mod splice;
pub mod sse;
pub mod tokens;

pub use foreign::{decisive_field, decisive_fields, wants_other_seals};

use crate::chat::{Chunk, Event, Form, Protocol, Raw, Received, Reply, Request};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::borrow::Cow;

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
    /// A fault of the whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), field: None }
    }

    /// A fault of one field.
    pub fn at(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), field: Some(field.into()) }
    }
}

/// What a request's path says about it, where the protocol puts it there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The model.
    pub model: Option<String>,
    /// Whether a stream is wanted.
    pub stream: Option<bool>,
    /// Whether the stream is one of server-sent events, where there is a choice.
    pub sse: bool,
}

/// Understands a request's body. The bytes are kept with it, for a provider of the same protocol.
pub fn decode_request(protocol: Protocol, body: &Bytes, target: &Target) -> Result<Request, Error> {
    let mut request = match protocol {
        Protocol::OpenAiChat => openai_chat::decode_request(body),
        Protocol::OpenAiCompletions => openai_completions::decode_request(body),
        Protocol::OpenAiResponses => openai_responses::decode_request(body),
        Protocol::Anthropic => anthropic::decode_request(body),
        Protocol::Gemini => gemini::decode_request(body, target),
        Protocol::OllamaChat => ollama::decode_chat_request(body),
        Protocol::OllamaGenerate => ollama::decode_generate_request(body),
    }?;
    refuse_crowd(&request)?;
    request.received = Received { protocol, body: body.clone(), headers: Vec::new() };
    Ok(request)
}

/// The most messages, the most parts in all of them, and the most tools. More than anyone has use for, and each
/// is worth some hundred bytes of memory however short it is.
const MAX_PIECES: usize = 50_000;

fn refuse_crowd(request: &Request) -> Result<(), Error> {
    let Request { messages, tools, .. } = request;
    let parts = messages.iter().map(|message| message.parts.len()).sum();
    let counts = [("messages", messages.len()), ("messages", parts), ("tools", tools.len())];
    match counts.into_iter().find(|(_, count)| *count > MAX_PIECES) {
        Some((field, _)) => Err(Error::at(field, format!("`{field}` holds more than {MAX_PIECES} pieces"))),
        None => Ok(()),
    }
}

/// What a request could not take along into another protocol, by the names of the fields. Only what does not
/// change what is asked in earnest may be left behind; anything else is an [`Error`].
pub type Dropped = Vec<String>;

/// Writes a request's body in `protocol`. What the protocol cannot say is an error that names the field, or is
/// noted in `dropped` where the answer hardly depends on it.
pub fn encode_request(
    protocol: Protocol,
    request: &Request,
    dropped: &mut Dropped,
) -> Result<Map<String, Value>, Error> {
    foreign::refuse_bearing(request, protocol)?;
    match protocol {
        Protocol::OpenAiChat => openai_chat::encode_request(request, dropped),
        Protocol::OpenAiCompletions => openai_completions::encode_request(request, dropped),
        Protocol::OpenAiResponses => openai_responses::encode_request(request, dropped),
        Protocol::Anthropic => anthropic::encode_request(request, dropped),
        Protocol::Gemini => gemini::encode_request(request, dropped),
        Protocol::OllamaChat => ollama::encode_chat_request(request, dropped),
        Protocol::OllamaGenerate => ollama::encode_generate_request(request, dropped),
    }
}

/// Reads one reply, frame by frame or whole.
#[derive(Debug)]
pub enum Decoder {
    /// See the protocol's module; so for all.
    OpenAiChat(openai_chat::Decoder),
    #[expect(missing_docs, reason = "see the protocol's module")]
    OpenAiCompletions(openai_completions::Decoder),
    #[expect(missing_docs, reason = "see the protocol's module")]
    OpenAiResponses(openai_responses::Decoder),
    #[expect(missing_docs, reason = "see the protocol's module")]
    Anthropic(anthropic::Decoder),
    #[expect(missing_docs, reason = "see the protocol's module")]
    Gemini(gemini::Decoder),
    #[expect(missing_docs, reason = "see the protocol's module")]
    Ollama(ollama::Decoder),
}

macro_rules! each {
    ($of:ident, $this:expr, $codec:ident => $call:expr) => {
        match $this {
            $of::OpenAiChat($codec) => $call,
            $of::OpenAiCompletions($codec) => $call,
            $of::OpenAiResponses($codec) => $call,
            $of::Anthropic($codec) => $call,
            $of::Gemini($codec) => $call,
            $of::Ollama($codec) => $call,
        }
    };
}

impl Decoder {
    /// A decoder of one reply in `protocol`.
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::OpenAiChat => Self::OpenAiChat(openai_chat::Decoder::default()),
            Protocol::OpenAiCompletions => Self::OpenAiCompletions(openai_completions::Decoder::default()),
            Protocol::OpenAiResponses => Self::OpenAiResponses(openai_responses::Decoder::default()),
            Protocol::Anthropic => Self::Anthropic(anthropic::Decoder::default()),
            Protocol::Gemini => Self::Gemini(gemini::Decoder::default()),
            Protocol::OllamaChat | Protocol::OllamaGenerate => Self::Ollama(ollama::Decoder::default()),
        }
    }

    /// The events in the payload of one frame of a stream.
    pub fn frame(&mut self, payload: &[u8]) -> Result<Vec<Event>, Error> {
        each!(Self, self, codec => codec.frame(payload))
    }

    /// The events of a reply that came whole.
    pub fn whole(&mut self, body: &[u8]) -> Result<Vec<Event>, Error> {
        each!(Self, self, codec => codec.whole(body))
    }

    /// Whether the terminal event was read: nothing that follows matters.
    pub fn ended(&self) -> bool {
        each!(Self, self, codec => codec.ended())
    }

    /// At the end of the bytes: the events that complete the reply, where it is complete. `None`: it was cut.
    pub fn finish(&mut self) -> Option<Vec<Event>> {
        each!(Self, self, codec => codec.finish())
    }
}

/// Writes one reply, for the client that sent one request.
#[derive(Debug)]
pub struct Encoder {
    protocol: Protocol,
    codec: Codec,
    /// What was left out because the protocol has no word for it.
    lost: Option<String>,
}

#[derive(Debug)]
enum Codec {
    OpenAiChat(openai_chat::Encoder),
    OpenAiCompletions(openai_completions::Encoder),
    OpenAiResponses(openai_responses::Encoder),
    Anthropic(anthropic::Encoder),
    Gemini(gemini::Encoder),
    Ollama(ollama::Encoder),
}

impl Encoder {
    /// An encoder of the reply to `request`, in the protocol it came in. `target` is what its path said.
    pub fn new(request: &Request, target: &Target) -> Self {
        let protocol = request.received.protocol;
        let codec = match protocol {
            Protocol::OpenAiChat => Codec::OpenAiChat(openai_chat::Encoder::new(request)),
            Protocol::OpenAiCompletions => {
                Codec::OpenAiCompletions(openai_completions::Encoder::new(request))
            }
            Protocol::OpenAiResponses => Codec::OpenAiResponses(openai_responses::Encoder::new(request)),
            Protocol::Anthropic => Codec::Anthropic(anthropic::Encoder::new(request)),
            Protocol::Gemini => Codec::Gemini(gemini::Encoder::new(request, target.sse)),
            Protocol::OllamaChat | Protocol::OllamaGenerate => Codec::Ollama(ollama::Encoder::new(request)),
        };
        Self { protocol, codec, lost: None }
    }

    /// The `Content-Type` of a stream.
    pub fn stream_type(&self) -> &'static str {
        match &self.codec {
            Codec::Gemini(gemini) if !gemini.is_sse() => "application/json",
            Codec::Ollama(_) => "application/x-ndjson",
            _ => "text/event-stream",
        }
    }

    /// The bytes that say `chunk` in a stream; often none. Verbatim where the provider speaks the same
    /// protocol, else from its meaning.
    pub fn chunk(&mut self, chunk: &Chunk) -> Bytes {
        let at_home = |raw: &&Raw| (raw.protocol, raw.form) == (self.protocol, Form::Frame);
        let verbatim = chunk.raw.as_ref().filter(at_home);
        match (verbatim, &mut self.codec) {
            (Some(raw), Codec::OpenAiChat(codec)) => codec.verbatim(&raw.bytes),
            (Some(raw), Codec::OpenAiCompletions(codec)) => codec.verbatim(&raw.bytes),
            (Some(raw), Codec::Gemini(codec)) if !codec.is_sse() => codec.listed(&raw.bytes).into(),
            (Some(raw), _) => raw.bytes.clone(),
            (None, _) => chunk.events.iter().flat_map(|event| self.event(event)).collect::<Vec<u8>>().into(),
        }
    }

    /// The bytes that say `event` in a stream; often none.
    pub fn event(&mut self, event: &Event) -> Vec<u8> {
        if let Event::Opaque { field } = event {
            self.lost.get_or_insert_with(|| field.clone());
            return Vec::new();
        }
        each!(Codec, &mut self.codec, codec => codec.event(event))
    }

    /// What was left out because the protocol has no word for it.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// The body that says a whole reply.
    pub fn whole(&self, reply: &Reply) -> Vec<u8> {
        each!(Codec, &self.codec, codec => codec.whole(reply))
    }

    /// The bytes that tell, in the middle of a stream, that it fails.
    pub fn failure(&mut self, failure: &Failure) -> Vec<u8> {
        each!(Codec, &mut self.codec, codec => codec.failure(failure))
    }
}

/// A failure as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status.
    pub status: u16,
    /// The coarse kind, from OpenAI's list; the others' lists are derived from the status.
    pub kind: &'static str,
    /// The stable name that a program can act on; a provider's own where it has one.
    pub code: Cow<'static, str>,
    /// In words.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// The request it happened to.
    pub request_id: String,
    /// In how many milliseconds to come back.
    pub retry_after_ms: Option<u64>,
}

/// A failure as the clients of `protocol` understand it, as a body.
pub fn error_body(protocol: Protocol, failure: &Failure) -> Value {
    match protocol {
        Protocol::OpenAiChat | Protocol::OpenAiCompletions | Protocol::OpenAiResponses => {
            openai_chat::error_body(failure)
        }
        Protocol::Anthropic => anthropic::error_body(failure),
        Protocol::Gemini => gemini::error_body(failure),
        Protocol::OllamaChat | Protocol::OllamaGenerate => ollama::error_body(failure),
    }
}
