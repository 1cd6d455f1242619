//! Vocabularies in the way of SentencePiece (Llama 2, Gemma, Phi 3): the pair of neighbours that makes the token of the
//! best score is joined first, until none makes a token; what is no token then is written byte by byte.
//!
//! The order is that of llama.cpp, to the last tie: of pairs with the same score the one further left is first.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

/// What stands for a space.
pub(super) const SPACE: char = '▁';

/// Joins characters into tokens.
pub(super) struct SentencePiece {
    tokens: HashMap<Box<str>, (u32, f32)>,
    /// The token of each byte.
    bytes: [u32; 256],
}

/// A stretch of the text that is, or will be, a token.
#[derive(Clone, Copy)]
struct Symbol {
    begin: usize,
    /// Nothing is left of one that was joined to what stands before it.
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Two neighbours that together make a token.
struct Pair {
    left: usize,
    right: usize,
    score: f32,
    /// How long they were together when they were found: if one has grown since, this is out of date.
    len: usize,
}

impl SentencePiece {
    /// A vocabulary of `tokens` and their scores, and of one token for each byte.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32, f32)>, bytes: &[u32; 256]) -> Self {
        let mut known = HashMap::new();
        for (text, id, score) in tokens {
            // Of two tokens with the same text the later one counts, as llama.cpp has it.
            known.insert(text.into(), (id, score));
        }
        Self { tokens: known, bytes: *bytes }
    }

    /// Adds the ids of `text`, in which spaces are [`SPACE`] already.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut symbols = characters(text);
        let mut pairs = BinaryHeap::new();
        for right in 1..symbols.len() {
            pairs.extend(self.pair(text, &symbols, right - 1, right));
        }
        while let Some(Pair { left, right, len, .. }) = pairs.pop() {
            let (a, b) = (symbols[left], symbols[right]);
            // One of them has become part of another.
            if a.end == a.begin || b.end == b.begin || b.end - a.begin != len {
                continue;
            }
            symbols[left].end = b.end;
            symbols[left].after = b.after;
            symbols[right].end = b.begin;
            if let Some(after) = b.after {
                symbols[after].before = Some(left);
                pairs.extend(self.pair(text, &symbols, left, after));
            }
            if let Some(before) = a.before {
                pairs.extend(self.pair(text, &symbols, before, left));
            }
        }
        for Symbol { begin, end, .. } in symbols {
            match self.tokens.get(&text[begin..end]) {
                Some((id, _)) => ids.push(*id),
                None => ids.extend(text[begin..end].bytes().map(|byte| self.bytes[usize::from(byte)])),
            }
        }
    }

    fn pair(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Pair> {
        let (begin, end) = (symbols[left].begin, symbols[right].end);
        let (_, score) = self.tokens.get(&text[begin..end])?;
        Some(Pair { left, right, score: *score, len: end - begin })
    }
}

fn characters(text: &str) -> Vec<Symbol> {
    let count = text.chars().count();
    let symbol = |(at, (begin, c)): (usize, (usize, char))| Symbol {
        begin,
        end: begin + c.len_utf8(),
        before: at.checked_sub(1),
        after: (at + 1 < count).then_some(at + 1),
    };
    text.char_indices().enumerate().map(symbol).collect()
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vocabulary() -> SentencePiece {
        let tokens = ["a", "b", "ab", "ba", "aba", "▁", "▁a"];
        let scores = [-9.0, -9.0, -2.0, -1.0, -3.0, -9.0, -4.0];
        let tokens = tokens.into_iter().zip(256..).zip(scores).map(|((text, id), score)| (text, id, score));
        SentencePiece::new(tokens, &std::array::from_fn(|byte| byte as u32))
    }

    fn ids(text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        vocabulary().encode(text, &mut ids);
        ids
    }

    #[test]
    fn the_best_pair_is_joined_first() {
        // `ba` is better than `ab`, and `aba` can then be made of what is left.
        assert_eq!(ids("aba"), [260]);
        assert_eq!(ids("abab"), [260, 257]);
        assert_eq!(ids("▁ab"), [261, 258]);
    }

    #[test]
    fn of_pairs_that_are_as_good_the_left_one_is_first() {
        assert_eq!(ids("baba"), [259, 259]);
        assert_eq!(ids("abaab"), [260, 258]);
    }

    #[test]
    fn what_is_no_token_is_written_in_bytes() {
        assert_eq!(ids("aé"), [256, 0xC3, 0xA9]);
        assert_eq!(ids(""), [] as [u32; 0]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "[ab▁éx]{0,40}") {
            let vocabulary = vocabulary();
            let texts: HashMap<u32, &str> = vocabulary.tokens.iter().map(|(text, (id, _))| (*id, &**text)).collect();
            let mut again = Vec::new();
            for id in ids(&text) {
                match texts.get(&id) {
                    Some(text) => again.extend_from_slice(text.as_bytes()),
                    None => again.push(id as u8),
                }
            }
            prop_assert_eq!(String::from_utf8(again).unwrap(), text);
        }
    }
}
