//! Server-sent events, byte by byte: the same events come out however the bytes are split.

/// The longest event we take: far above any real one, far below what could hurt.
pub(super) const MAX_EVENT_BYTES: usize = 16 << 20;

/// Splits a byte stream into its events.
///
/// Takes LF, CRLF and CR line ends, `data:` with and without a space, several `data:` lines in an event,
/// comments, and fields it has no use for.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its `event` field; mostly empty.
    pub name: Vec<u8>,
    /// Its payload.
    pub data: Vec<u8>,
}

/// The stream holds an event longer than we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {MAX_EVENT_BYTES} bytes")]
pub struct TooLong;

impl Decoder {
    /// Takes the next bytes; gives the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.after_cr && rest[0] == b'\n' {
                rest = &rest[1..];
                self.after_cr = false;
                continue;
            }
            self.after_cr = false;
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(rest);
                break;
            };
            self.line.extend_from_slice(&rest[..end]);
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            events.extend(self.end_line());
        }
        if self.line.len() + self.data.len() + self.name.len() > MAX_EVENT_BYTES {
            Err(TooLong)
        } else {
            Ok(events)
        }
    }

    /// The last event, of a stream that ended without the blank line after it.
    pub fn finish(&mut self) -> Option<Event> {
        let from_line = if self.line.is_empty() { None } else { self.end_line() };
        from_line.or_else(|| self.end_event())
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_event();
        }
        if let Some(name) = value_of(&line, b"event") {
            self.name = name.to_vec();
        }
        if let Some(value) = value_of(&line, b"data") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(value);
        }
        None
    }

    /// An event without data is none: some servers keep a connection alive with them.
    fn end_event(&mut self) -> Option<Event> {
        self.has_data = false;
        let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        (!data.is_empty()).then_some(Event { name, data })
    }
}

/// The value of a line with this field; `None` for comments and other fields.
fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(field)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// One event with `payload` as its data, one `data:` for each of its lines.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    named_frame(b"", payload)
}

/// The same, with an `event` field before it unless `name` is empty.
pub fn named_frame(name: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(name.len() + payload.len() + 16);
    if !name.is_empty() {
        frame.extend_from_slice(b"event: ");
        frame.extend_from_slice(name);
        frame.push(b'\n');
    }
    for line in payload.split(|byte| *byte == b'\n') {
        frame.extend_from_slice(b"data: ");
        frame.extend_from_slice(line);
        frame.push(b'\n');
    }
    frame.push(b'\n');
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut events: Vec<_> = pieces.iter().flat_map(|piece| decoder.push(piece).unwrap()).collect();
        events.extend(decoder.finish());
        events.into_iter().map(|event| String::from_utf8(event.data).unwrap()).collect()
    }

    const MIXED: &str = ": hello\r\ndata: {\"a\":\"ä😀\"}\r\n\r\nevent: x\ndata:b\n\n\n\ndata: 1\ndata: 2\r\rid: 7\n\ndata\n\ndata: last";

    #[test]
    fn takes_every_line_end_comment_and_spacing() {
        assert_eq!(decode(&[MIXED.as_bytes()]), ["{\"a\":\"ä😀\"}", "b", "1\n2", "last"]);
    }

    #[test]
    fn gives_the_same_events_split_at_every_two_places() {
        let bytes = MIXED.as_bytes();
        let whole = decode(&[bytes]);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                assert_eq!(decode(&[&bytes[..first], &bytes[first..second], &bytes[second..]]), whole);
            }
        }
    }

    #[test]
    fn refuses_an_endless_event() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..20).any(|_| decoder.push(&piece) == Err(TooLong)));
    }

    #[test]
    fn the_name_of_an_event_is_kept() {
        let mut decoder = Decoder::default();
        let bytes = b"event: message_stop\ndata: {}\n\ndata: x\n\n";
        let events = decoder.push(bytes).unwrap();
        assert_eq!((events[0].name.as_slice(), events[1].name.as_slice()), (&b"message_stop"[..], &b""[..]));
        let again: Vec<u8> = events.iter().flat_map(|event| named_frame(&event.name, &event.data)).collect();
        assert_eq!(again, bytes);
    }

    proptest! {
        #[test]
        fn decoding_undoes_framing(payloads in prop::collection::vec("[^\r\n]{1,9}(\n[^\r\n]{1,9})?", 0..5), cut in 0usize..200) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload.as_bytes())).collect();
            let cut = cut.min(bytes.len());
            prop_assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]]), payloads);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            let _ = decoder.push(&bytes);
            let _ = decoder.finish();
        }
    }
}
