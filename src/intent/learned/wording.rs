//! How a text is worded, beside what it means: its words, pairs of words and pieces of words.
//!
//! An encoder draws "card" and "account" together; with five examples of each, the word itself tells more. Each piece
//! falls into one of [`BUCKETS`] by its hash, and counts the more the fewer examples have it.

/// How many weights a class has for words.
pub(super) const BUCKETS: usize = 4096;
/// How long words, and how long pieces of words, are beside the vector's length of one. Chosen by drawing few examples
/// from the training parts of three public sets, and telling others of the same parts: from 0.2 to 0.5 it hardly matters.
const LENGTH: f32 = 0.3;
/// The letters of a piece.
const PIECES: std::ops::RangeInclusive<usize> = 3..=4;
/// What lies behind is not read.
const MOST_WORDS: usize = 64;
const MOST_LETTERS: usize = 24;

/// Whole words, or pieces of them.
const SORTS: usize = 2;
const WHOLE: usize = 0;
const PIECE: usize = 1;

/// What is known about words from the examples.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wording {
    /// How rare what falls into a bucket is, by sort.
    rarity: [Vec<f32>; SORTS],
}

/// Buckets, and how much lies in each.
pub(super) type Features = Vec<(u16, f32)>;

impl Wording {
    pub(super) fn new<'t>(texts: impl Iterator<Item = &'t str>) -> Self {
        let mut having = [vec![0f32; BUCKETS], vec![0f32; BUCKETS]];
        let mut count = 0f32;
        for text in texts {
            count += 1.0;
            let mut found = buckets(text);
            found.dedup();
            found.iter().for_each(|(sort, bucket)| having[*sort][usize::from(*bucket)] += 1.0);
        }
        let rarity = having.map(|having| {
            having.into_iter().map(|having| ((1.0 + count) / (1.0 + having)).ln() + 1.0).collect()
        });
        Self { rarity }
    }

    pub(super) fn features(&self, text: &str) -> Features {
        let found = buckets(text);
        let mut features: [Features; SORTS] = Default::default();
        for same in found.chunk_by(|one, other| one == other) {
            let (sort, bucket) = same[0];
            let often = 1.0 + (same.len() as f32).ln();
            features[sort].push((bucket, often * self.rarity[sort][usize::from(bucket)]));
        }
        for features in &mut features {
            let length = features.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
            features.iter_mut().for_each(|(_, value)| *value *= LENGTH / length.max(f32::MIN_POSITIVE));
        }
        features.concat()
    }
}

/// The sort and the bucket of all that is said, sorted.
fn buckets(text: &str) -> Vec<(usize, u16)> {
    let mut found = Vec::with_capacity(128);
    let mut before = None;
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty());
    for word in words.take(MOST_WORDS) {
        let letters: Vec<char> = std::iter::once('<')
            .chain(word.chars().flat_map(char::to_lowercase).take(MOST_LETTERS))
            .chain(std::iter::once('>'))
            .collect();
        for length in PIECES {
            found.extend(letters.windows(length).map(|piece| (PIECE, bucket(hash(START, piece)))));
        }
        let whole = hash(START, &letters);
        found.push((WHOLE, bucket(whole)));
        if let Some(before) = before.replace(whole) {
            found.push((WHOLE, bucket(hash(before, &letters))));
        }
    }
    found.sort_unstable();
    found
}

const START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: stable between runs and platforms.
fn hash(start: u64, letters: &[char]) -> u64 {
    letters.iter().fold(start, |hash, c| (hash ^ u64::from(u32::from(*c))).wrapping_mul(0x0100_0000_01b3))
}

/// Of FNV's bits, the high ones are well mixed.
fn bucket(hash: u64) -> u16 {
    ((hash ^ (hash >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_weigh_the_more_the_rarer_they_are() {
        let texts = ["pay my card", "pay my rent", "pay my bill"];
        let wording = Wording::new(texts.into_iter());
        let of = |word: &str| {
            let bucket = bucket(hash(START, &format!("<{word}>").chars().collect::<Vec<_>>()));
            wording.rarity[WHOLE][usize::from(bucket)]
        };
        assert!(of("card") > of("pay"));
    }

    #[test]
    fn each_sort_has_the_same_length_whatever_is_said() {
        let wording = Wording::new(["one two", "three"].into_iter());
        for text in ["one", "One, TWO; three four five", "ß'x"] {
            let features = wording.features(text);
            let length: f32 = features.iter().map(|(_, value)| value * value).sum();
            assert!((length - 2.0 * LENGTH * LENGTH).abs() < 1e-5, "{text}: {length}");
            assert!(features.iter().all(|(bucket, _)| usize::from(*bucket) < BUCKETS));
        }
        assert_eq!(wording.features("?!"), Features::new());
        assert_eq!(wording.features("one two"), wording.features("One  Two!"));
        assert!(wording.features(&"word ".repeat(100_000)).len() < 64);
    }
}
