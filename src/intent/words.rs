//! The words that the rules know, and those that look like them.

use std::collections::HashMap;

/// A known word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct WordId(pub(super) u32);

/// Words shorter than this are never taken for a misspelling: too many others are one letter away.
const LEAST_LETTERS: usize = 5;
/// Of words this long, two swapped letters are forgiven and nothing else.
const LEAST_SWAPPED: usize = 4;
/// Longer texts between two spaces are no words.
const MOST_LETTERS: usize = 40;

/// All known words.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    ids: HashMap<String, WordId>,
    texts: Vec<String>,
    /// Every known word under the digest of each text that it becomes by the loss of one letter, and under its own.
    shortened: HashMap<u64, Vec<WordId>>,
}

impl Words {
    /// The id of `word`, known from now on.
    pub(super) fn learn(&mut self, word: &str) -> WordId {
        if let Some(id) = self.ids.get(word) {
            return *id;
        }
        let id = WordId(self.texts.len() as u32);
        self.texts.push(word.to_owned());
        self.ids.insert(word.to_owned(), id);
        let letters = word.chars().count();
        if (LEAST_SWAPPED..=MOST_LETTERS).contains(&letters) && word.chars().all(char::is_alphabetic) {
            each_shortened(word, |digest| self.shortened.entry(digest).or_default().push(id));
        }
        id
    }

    pub(super) fn get(&self, word: &str) -> Option<WordId> {
        self.ids.get(word).copied()
    }

    pub(super) fn text(&self, id: WordId) -> &str {
        self.texts.get(id.0 as usize).map_or("", String::as_str)
    }

    /// The known words that `word`, which is none of them, may be a misspelling of: one letter more, less or
    /// other, or two swapped.
    pub(super) fn near(&self, word: &str) -> Vec<WordId> {
        let mut found = Vec::new();
        let letters = word.chars().count();
        let is_word =
            (LEAST_SWAPPED..=MOST_LETTERS).contains(&letters) && word.chars().all(char::is_alphabetic);
        if !is_word {
            return found;
        }
        each_shortened(word, |digest| {
            for id in self.shortened.get(&digest).into_iter().flatten() {
                if !found.contains(id) && is_misspelt(self.text(*id), word) {
                    found.push(*id);
                }
            }
        });
        found
    }
}

/// Calls `what` with the digest of `word`, and of `word` less each of its letters.
fn each_shortened(word: &str, mut what: impl FnMut(u64)) {
    what(digest(word.as_bytes(), &[]));
    let mut before = None;
    for (at, letter) in word.char_indices() {
        // Of two equal letters in a row, the loss of either gives the same.
        if before != Some(letter) {
            what(digest(&word.as_bytes()[..at], &word.as_bytes()[at + letter.len_utf8()..]));
        }
        before = Some(letter);
    }
}

/// FNV-1a. Two words that happen to share one are told apart by their letters.
fn digest(front: &[u8], back: &[u8]) -> u64 {
    let step = |digest: u64, byte: &u8| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    front.iter().chain(back).fold(0xcbf2_9ce4_8422_2325, step)
}

/// Whether `word` is `known` with one slip of the fingers.
fn is_misspelt(known: &str, word: &str) -> bool {
    let (known, word): (Vec<char>, Vec<char>) = (known.chars().collect(), word.chars().collect());
    let same_front = known.iter().zip(&word).take_while(|(a, b)| a == b).count();
    let (known_rest, word_rest) = (&known[same_front..], &word[same_front..]);
    let swapped = known_rest.len() == word_rest.len()
        && known_rest.len() > 1
        && (known_rest[0], known_rest[1]) == (word_rest[1], word_rest[0])
        && known_rest[2..] == word_rest[2..];
    if known.len() < LEAST_LETTERS {
        return swapped;
    }
    let lost = known_rest.get(1..).is_some_and(|rest| rest == word_rest);
    let gained = word_rest.get(1..).is_some_and(|rest| rest == known_rest);
    let other = known_rest.len() == word_rest.len() && known_rest.get(1..) == word_rest.get(1..);
    // A plural is another word, and whoever writes rules names it.
    let plural = (lost && known_rest == ['s']) || (gained && word_rest == ['s']);
    swapped || ((lost || gained || other) && !plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(word: &str) -> Vec<&'static str> {
        let known = ["track", "snare", "decibels", "mute", "pan", "timer", "eleven", "seven"];
        let mut words = Words::default();
        known.iter().for_each(|word| _ = words.learn(word));
        words.near(word).into_iter().map(|id| known[id.0 as usize]).collect()
    }

    #[test]
    fn one_slip_is_forgiven() {
        let slips = [
            ("tarck", "track"),
            ("trck", "track"),
            ("ttrack", "track"),
            ("trsck", "track"),
            ("sanre", "snare"),
            ("decbiels", "decibels"),
            ("tier", "timer"),
            ("mtue", "mute"),
            ("elven", "eleven"),
        ];
        for (slip, word) in slips {
            assert_eq!(near(slip), [word], "{slip}");
        }
    }

    #[test]
    fn short_words_and_plurals_are_other_words() {
        for word in ["plan", "pan", "mule", "mte", "tracks", "trkc", "", "track3", "tra"] {
            assert_eq!(near(word), [] as [&str; 0], "{word}");
        }
    }
}
