//! What separates one event of a stream from the next: server-sent events, or lines of JSON.

use super::sse;
use crate::chat::Protocol;
use bytes::Bytes;

/// Splits a byte stream into frames.
#[derive(Debug)]
pub enum Frames {
    /// Server-sent events.
    Sse(sse::Decoder),
    /// One JSON value a line.
    Lines(Vec<u8>),
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it says.
    pub payload: Bytes,
    /// It, with all that frames it: fit to be sent on.
    pub bytes: Bytes,
}

impl Frames {
    /// The framing of a provider's stream in `protocol`.
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::OllamaChat | Protocol::OllamaGenerate => Self::Lines(Vec::new()),
            _ => Self::Sse(sse::Decoder::default()),
        }
    }

    /// Takes the next bytes; gives the frames that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, sse::TooLong> {
        match self {
            Self::Sse(decoder) => Ok(decoder.push(bytes)?.into_iter().map(Frame::from).collect()),
            Self::Lines(line) => {
                let mut frames = Vec::new();
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if piece.ends_with(b"\n") {
                        frames.extend(line_frame(std::mem::take(line)));
                    }
                }
                if line.len() > sse::MAX_EVENT_BYTES { Err(sse::TooLong) } else { Ok(frames) }
            }
        }
    }

    /// The last frame, of a stream that ended without what ends one.
    pub fn finish(&mut self) -> Option<Frame> {
        match self {
            Self::Sse(decoder) => decoder.finish().map(Frame::from),
            Self::Lines(line) => line_frame(std::mem::take(line)),
        }
    }
}

impl From<sse::Event> for Frame {
    fn from(event: sse::Event) -> Self {
        let bytes = sse::named_frame(&event.name, &event.data).into();
        Self { payload: event.data.into(), bytes }
    }
}

fn line_frame(mut line: Vec<u8>) -> Option<Frame> {
    let payload = line.trim_ascii();
    if payload.is_empty() {
        return None;
    }
    let payload = Bytes::copy_from_slice(payload);
    line.clear();
    line.extend_from_slice(&payload);
    line.push(b'\n');
    Some(Frame { payload, bytes: line.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_split_anywhere() {
        let bytes = b"{\"a\":\"\xc3\xa4\"}\r\n\n {\"b\":1}\n{\"c\":2}";
        let split = |at: usize| {
            let mut frames = Frames::new(Protocol::OllamaChat);
            let mut all = frames.push(&bytes[..at]).unwrap();
            all.extend(frames.push(&bytes[at..]).unwrap());
            all.extend(frames.finish());
            all
        };
        let whole = split(0);
        let payloads: Vec<_> = whole.iter().map(|frame| frame.payload.as_ref()).collect();
        assert_eq!(payloads, ["{\"a\":\"ä\"}".as_bytes(), b"{\"b\":1}", b"{\"c\":2}"]);
        assert!((0..=bytes.len()).all(|at| split(at) == whole));
        assert!(whole.iter().all(|frame| frame.bytes.ends_with(b"\n")));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut frames = Frames::new(Protocol::OllamaChat);
        let piece = vec![b'x'; 1 << 20];
        assert!((0..20).any(|_| frames.push(&piece).is_err()));
    }
}
