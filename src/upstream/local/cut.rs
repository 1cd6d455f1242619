//! How a text is cut up before its pieces become tokens: each family of models was trained with its own way.

use super::fault::Fault;
use super::tokenizer::Metadata;
use tokenizers::normalizer::SplitDelimiterBehavior;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

/// Words with what stands in front of them, up to three digits, signs with the lines that end after them, space.
const LLAMA: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same, and each digit by itself.
const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a vocabulary is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As GPT-2 began it: text is cut up, and the bytes of each piece are joined in the order of the merges.
    Bytes(Cut),
    /// As SentencePiece does it.
    Sentences,
}

impl Kind {
    /// The kind that `metadata` names.
    pub(super) fn of(metadata: &Metadata) -> Result<Self, Fault> {
        match text(metadata, "tokenizer.ggml.model") {
            None | Some("gpt2") => Cut::of(metadata).map(Self::Bytes),
            Some("llama") => Ok(Self::Sentences),
            Some(other) => Err(Fault::Cut(other.to_owned())),
        }
    }
}

fn text<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    metadata.get(key)?.to_string().ok().map(String::as_str)
}

/// A way of cutting text up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Gpt2,
    Smollm,
    Llama,
    Qwen,
}

impl Cut {
    /// The way that `metadata` names. Text that is cut up in another way than the model was trained with makes other
    /// ids, and the answers become worse without a word, so one that is not known is an error.
    fn of(metadata: &Metadata) -> Result<Self, Fault> {
        match text(metadata, "tokenizer.ggml.pre") {
            None | Some("gpt-2") => Ok(Self::Gpt2),
            Some("smollm") => Ok(Self::Smollm),
            Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Self::Llama),
            Some("qwen2" | "deepseek-r1-qwen") => Ok(Self::Qwen),
            Some(other) => Err(Fault::Cut(other.to_owned())),
        }
    }

    /// Whether a piece that is a token is that token, whatever the merges say.
    pub(super) fn ignores_merges(self) -> bool {
        self == Self::Llama
    }

    /// What cuts.
    pub(super) fn pre_tokenizer(self) -> Result<PreTokenizerWrapper, Fault> {
        let words = ByteLevel::new(false, true, true);
        Ok(match self {
            Self::Gpt2 => words.into(),
            Self::Smollm => Sequence::new(vec![Digits::new(true).into(), words.into()]).into(),
            Self::Llama => by_pattern(LLAMA)?,
            Self::Qwen => by_pattern(QWEN)?,
        })
    }
}

fn by_pattern(pattern: &str) -> Result<PreTokenizerWrapper, Fault> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, true, false);
    Ok(Sequence::new(vec![split.into(), bytes.into()]).into())
}
