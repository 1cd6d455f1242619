//! The events of a stream do not depend on how its bytes are split.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::wire::sse::{Decoder, Event};

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut decoder = Decoder::default();
    let mut events: Vec<_> =
        pieces.into_iter().flat_map(|piece| decoder.push(piece).unwrap_or_default()).collect();
    events.extend(decoder.finish());
    events
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    assert_eq!(decode([bytes]), decode(bytes.chunks(usize::from(size).max(1))));
});
