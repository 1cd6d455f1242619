//! The words of an entry as they lie in its value: compressed where that pays.
//!
//! ```text
//! how (1) ‖ the words                          how = 0: as they are
//! how (1) ‖ their length (4) ‖ a zstd frame    how = 1: compressed behind [`KNOWN`]
//! ```
//! An answer is short, and half of it is the names of its fields. A compressor that has seen these before
//! ([`KNOWN`]) halves what is too short to be compressed alone.

use super::codec::Damaged;
use std::borrow::Cow;
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;

/// What most entries have in common, the most frequent last. It is part of the format: what was compressed behind it
/// can be read behind the very same bytes only, so another one needs another `how`.
const KNOWN: &[u8] = concat!(
    r#"{"type":"function","function":{"name":"get_weather","arguments":"{\"location\":\""#,
    "The a an of to and in is that for it with as on be are this by from or can you I at not have which was if ",
    "```python\ndef \n    return \n```\n\n1. **\n2. **\n3. **\n\n- **\n\n### \n\nHere are some In summary, However, For example, ",
    r#"chatcmpl-","resp_","msg_","gen-","gpt-4o-mini-2024-07-18","claude-","gemini-","#,
    r#""citations":[{"url":"https://www.","title":""}],"signature":{"protocol":"anthropic","raw":"},"logprobs":[],"#,
    r#"{"tool_call":{"id":"call_","name":"","arguments":""}},{"reasoning":{"text":""#,
    r#""finish":"length"}],"finish":"tool_calls"}],"usage":null,"expires":17000000000,"stale_until":17000000000,"#,
    r#""tags":[""]},"pinned":true}{"text":"What is the How do I Why does Can you Write a ","reply":{"id":"chatcmpl-","#,
    r#""model":"gpt-4o-mini","created":17,"choices":[{"blocks":[{"text":{"text":""}}],"finish":"stop"}],"#,
    r#""usage":{"input":1,"output":2,"cached_input":0,"cache_write":0,"reasoning":0}},"upstream":"primary","#,
    r#""expires":null,"stale_until":null,"about":{"tenant":"default","project":"default","model":"","tags":[]},"pinned":false}"#
)
.as_bytes();

/// Fast, and within a few parts in a hundred of what more work would save.
const LEVEL: i32 = 3;
/// Fewer bytes are not worth a look.
const LEAST: usize = 64;
/// Longer words stay as they are, so that nothing that is read can ask for more memory than that.
const MOST: usize = 64 << 20;

/// The words, ready to be written.
pub(super) fn pack(words: &[u8]) -> Vec<u8> {
    if let Some(frame) = compressed(words) {
        let mut packed = Vec::with_capacity(frame.len() + 5);
        packed.push(COMPRESSED);
        packed.extend((words.len() as u32).to_le_bytes());
        packed.extend(frame);
        return packed;
    }
    let mut packed = Vec::with_capacity(words.len() + 1);
    packed.push(PLAIN);
    packed.extend(words);
    packed
}

/// The words as they were.
pub(super) fn unpack(packed: &[u8]) -> Result<Cow<'_, [u8]>, Damaged> {
    let (how, rest) = packed.split_first().ok_or(Damaged)?;
    match *how {
        PLAIN => Ok(Cow::Borrowed(rest)),
        COMPRESSED => {
            let (length, frame) = rest.split_first_chunk().ok_or(Damaged)?;
            decompressed(frame, u32::from_le_bytes(*length) as usize).map(Cow::Owned)
        }
        _ => Err(Damaged),
    }
}

thread_local! {
    // Each takes some hundred kilobytes, and longer to make than to use.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::with_dictionary(LEVEL, KNOWN).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::with_dictionary(KNOWN).ok());
}

/// The frame, if it is enough shorter to be worth the work of reading it.
fn compressed(words: &[u8]) -> Option<Vec<u8>> {
    if !(LEAST..=MOST).contains(&words.len()) {
        return None;
    }
    let frame = COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(words).ok())?;
    (frame.len() < words.len() - words.len() / 8).then_some(frame)
}

fn decompressed(frame: &[u8], length: usize) -> Result<Vec<u8>, Damaged> {
    if length > MOST {
        return Err(Damaged);
    }
    let words =
        DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(frame, length).ok());
    words.filter(|words| words.len() == length).ok_or(Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::Digest as _;

    #[test]
    fn what_is_short_and_usual_takes_half() {
        let words = r#"{"text":"why is the sky blue?","reply":{"id":"chatcmpl-9f3a","model":"gpt-4o-mini","created":1700000123,"choices":[{"blocks":[{"text":{"text":"Because air scatters blue light more than red."}}],"finish":"stop"}],"usage":{"input":14,"output":11,"cached_input":0,"cache_write":0,"reasoning":0}},"upstream":"openai","expires":null,"stale_until":null,"about":{"tenant":"default","project":"default","model":"gpt-4o-mini","tags":[]},"pinned":false}"#;
        let packed = pack(words.as_bytes());
        assert!(packed.len() * 2 < words.len(), "{} of {}", packed.len(), words.len());
        assert_eq!(unpack(&packed).unwrap(), words.as_bytes());
    }

    #[test]
    fn what_would_not_get_shorter_stays_as_it_is() {
        let noise: Vec<u8> = (0..20u8).flat_map(|n| sha2::Sha256::digest([n])).collect();
        let packed = pack(&noise);
        assert_eq!((packed[0], packed.len()), (PLAIN, noise.len() + 1));
        assert_eq!(unpack(&packed).unwrap(), noise);
    }

    /// The bytes that older entries were compressed behind.
    #[test]
    fn what_is_known_beforehand_never_changes() {
        let digest = sha2::Sha256::digest(KNOWN);
        assert_eq!(
            format!("{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]),
            "30ab3ebc"
        );
    }

    #[test]
    fn a_length_beyond_all_bounds_is_damage() {
        let packed = [&[COMPRESSED][..], &u32::MAX.to_le_bytes(), &[0; 20]].concat();
        assert_eq!(unpack(&packed), Err(Damaged));
    }

    proptest! {
        #[test]
        fn all_comes_back(words in prop::collection::vec(any::<u8>(), 0..3000), times in 1..5usize) {
            let words = words.repeat(times);
            let packed = pack(&words);
            prop_assert!(packed.len() <= words.len() + 1);
            prop_assert_eq!(unpack(&packed).unwrap().into_owned(), words);
        }

        #[test]
        fn garbage_is_damage_or_something(packed in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&packed);
        }
    }
}
