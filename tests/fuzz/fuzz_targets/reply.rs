//! A reply that folds is the same reply after encoding and decoding again, whole or in frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::chat::fold;
use weir::wire::openai_chat::{Decoder, encode_reply};

fuzz_target!(|body: &[u8]| {
    let mut decoder = Decoder::default();
    for frame in body.split(|byte| *byte == b'\n') {
        let _ = decoder.frame(frame);
    }
    let _ = decoder.finish();
    if let Ok(events) = Decoder::default().whole(body)
        && let Ok(reply) = fold(&events)
    {
        let again = Decoder::default().whole(&encode_reply(&reply)).expect("what we write, we read");
        assert_eq!(fold(&again), Ok(reply));
    }
});
