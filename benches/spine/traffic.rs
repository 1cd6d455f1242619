//! What is asked.

use crate::mock::LONG_MODEL;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The question behind every exact and semantic hit.
pub(crate) const QUESTION: &str = "How do I reset my password?";
/// The same in other words.
pub(crate) const REPHRASED: &str = "how do i reset my password";

const NO_STORE: &str = "cache-control: no-store\r\n";

/// In mixed traffic one request in so many repeats an earlier question.
const REPEAT_EVERY: usize = 10;
/// How many questions ago it was asked: long enough to be stored. Not a multiple of the above, or that one would be
/// a repeat itself.
const REPEAT_DISTANCE: usize = 401;

/// Counts over the whole process, so that no two requests anywhere ask the same by accident.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A kind of request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Always this question.
    Same(&'static str),
    /// A question never asked before.
    Unique,
    /// Always the same question, and the cache may not answer it.
    NoStore,
    /// A question never asked before, answered as a stream.
    UniqueStream,
    /// Always the same question, answered as a stream.
    SameStream(&'static str),
    /// The same question in OpenAI's words, answered as a stream of many pieces that the cache neither has nor keeps.
    LongStream,
    /// The same in Anthropic's words.
    LongStreamTranslated,
    /// The vector of this text.
    Embedding(&'static str),
    /// Mostly questions never asked before; now and then one that was.
    Mixed,
}

impl Traffic {
    /// The next request, ready to be sent.
    pub(crate) fn request(self) -> Vec<u8> {
        match self {
            Self::Same(question) => chat("m", question, false, ""),
            Self::Unique => chat("m", &unique(), false, ""),
            Self::NoStore => chat("m", QUESTION, false, NO_STORE),
            Self::UniqueStream => chat("m", &unique(), true, ""),
            Self::SameStream(question) => chat("m", question, true, ""),
            Self::LongStream => chat(LONG_MODEL, QUESTION, true, NO_STORE),
            Self::LongStreamTranslated => messages(LONG_MODEL, QUESTION, NO_STORE),
            Self::Embedding(text) => {
                let body = format!(r#"{{"model":"weir/minilm","input":"{text}"}}"#);
                post("/v1/embeddings", &body, "")
            }
            Self::Mixed => chat("m", &mixed(), false, ""),
        }
    }

    pub(crate) fn is_stream(self) -> bool {
        matches!(
            self,
            Self::UniqueStream | Self::SameStream(_) | Self::LongStream | Self::LongStreamTranslated
        )
    }
}

fn chat(model: &str, question: &str, stream: bool, header: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}","temperature":0,"stream":{stream},"messages":[{{"role":"user","content":"{question}"}}]}}"#
    );
    post("/v1/chat/completions", &body, header)
}

fn messages(model: &str, question: &str, header: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}","max_tokens":256,"stream":true,"messages":[{{"role":"user","content":"{question}"}}]}}"#
    );
    post("/v1/messages", &body, header)
}

fn post(path: &str, body: &str, header: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-bench\r\n\
         content-type: application/json\r\n{header}content-length: {length}\r\n\r\n{body}"
    )
    .into()
}

fn unique() -> String {
    question(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn mixed() -> String {
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    question(if nth.is_multiple_of(REPEAT_EVERY) { nth.saturating_sub(REPEAT_DISTANCE) } else { nth })
}

/// The `nth` question: other words and other numbers than its neighbours.
fn question(nth: usize) -> String {
    const ASKS: [&str; 5] =
        ["How do I change", "Where can I find", "Who approves", "Why was I sent", "When do you cancel"];
    const THINGS: [&str; 7] =
        ["the invoice", "my order", "a refund", "the contract", "a parcel", "my seat", "the licence"];
    let (ask, thing) = (ASKS[nth % ASKS.len()], THINGS[nth % THINGS.len()]);
    format!("{ask} {thing} number {nth} of customer {}?", nth.wrapping_mul(7919) % 100_003)
}
