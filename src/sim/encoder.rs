//! An encoder without a model: texts are near when they share words.

use crate::embed::{Embedding, Encoder, Error, Text};
use crate::vector::UnitVector;

/// Adds up one direction per word, so that equal words in any order point the same way.
#[derive(Clone, Copy, Debug, Default)]
pub struct WordEncoder;

const DIMENSIONS: usize = 256;

/// A text of more words is cut, as a real model would.
const MAX_WORDS: usize = 60;

impl Encoder for WordEncoder {
    fn id(&self) -> &'static str {
        "sim-words"
    }

    fn encode(&mut self, batch: &[Text]) -> Result<Vec<Embedding>, Error> {
        batch.iter().map(|text| encode(&text.words)).collect()
    }
}

fn encode(text: &str) -> Result<Embedding, Error> {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut values = vec![0.0f32; DIMENSIONS];
    // A text without words still points somewhere.
    values[0] = 1e-3;
    for word in words.iter().take(MAX_WORDS) {
        values[slot(word)] += 1.0;
    }
    let vector = UnitVector::new(values).map_err(|fault| Error::Model(fault.to_string()))?;
    Ok(Embedding { vector, partial: words.len() > MAX_WORDS, pieces: None })
}

/// FNV-1a: stable between runs and platforms.
fn slot(word: &str) -> usize {
    let hash = word
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash % DIMENSIONS as u64) as usize
}
