//! From text to the word pieces that a model reads.

use super::{Error, failed, folder};
use std::path::Path;
use tokenizers::Tokenizer;

/// How much of a text is cut into word pieces at all. Ordinary text fills any model of this family many times
/// over within it; what goes beyond is cut off and counts as not read, so a huge text costs no more than a long
/// one.
const MAX_BYTES: usize = 16 * 1024;

/// What a tokenizer of this family writes for characters it does not know.
const UNKNOWN: &str = "[UNK]";

/// Cuts texts into word pieces.
pub(super) struct Cutter {
    tokenizer: Tokenizer,
    max_pieces: usize,
    /// Stands for every character that the model does not know: all of them look alike to it.
    unknown: u32,
}

/// A text as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) ids: Vec<u32>,
    /// Not all of the text is in them.
    pub(super) partial: bool,
}

impl Cutter {
    /// The file's own padding and truncation are not the model's: nothing is padded here, and truncation must
    /// be noticed.
    pub(super) fn load(folder: &Path, max_pieces: usize) -> Result<Self, Error> {
        let path = folder.join("tokenizer.json");
        let unusable = |error: &dyn std::fmt::Display| folder::unusable(&path, error);
        let mut tokenizer = Tokenizer::from_bytes(folder::read(&path)?).map_err(|error| unusable(&error))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| unusable(&error))?;
        let unknown = tokenizer.token_to_id(UNKNOWN).ok_or_else(|| unusable(&"it has no [UNK]"))?;
        Ok(Self { tokenizer, max_pieces, unknown })
    }

    pub(super) fn cut(&self, text: &str) -> Result<Pieces, Error> {
        let read = beginning(text, MAX_BYTES);
        let encoding = self.tokenizer.encode_fast(read, true).map_err(|error| failed(&error))?;
        let mut ids = encoding.get_ids().to_vec();
        let too_long = ids.len() > self.max_pieces;
        if too_long {
            // The last piece marks the end and stays.
            ids.drain(self.max_pieces - 1..ids.len() - 1);
        }
        let partial = too_long || read.len() < text.len() || ids.contains(&self.unknown);
        Ok(Pieces { ids, partial })
    }

    /// The largest number that a piece can have.
    pub(super) fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }
}

/// At most `bytes` of `text`, whole characters.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(beginning("né", 2), "n");
        assert_eq!(beginning("né", 3), "né");
        assert_eq!(beginning("né", 9), "né");
    }
}
