//! The model itself: weights, tokenizer and template from one GGUF file.

use super::fault::Fault;
use super::prompt::Template;
use super::requantise::Requantised;
use super::tokenizer::Tokenizer;
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// The most positions a sequence has: candle computes no more of them.
pub(super) const MAX_CONTEXT: usize = MAX_SEQ_LEN;

/// A model, ready to begin sequences.
pub(super) struct Model {
    pub(super) tokenizer: Tokenizer,
    pub(super) template: Template,
    weights: ModelWeights,
}

impl Model {
    /// Reads `file`. Takes about a second.
    pub(super) fn load(file: &Path) -> Result<Self, Fault> {
        let opened = File::open(file).map_err(|source| Fault::Open { path: file.to_owned(), source })?;
        let mut reader = BufReader::new(opened);
        let content = Content::read(&mut reader)?;
        let tokenizer = Tokenizer::from_metadata(&content.metadata)?;
        let template = Template::from_metadata(&content.metadata)?;
        let (content, mut reader) = Requantised::new(reader, content);
        let weights = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
        Ok(Self { tokenizer, template, weights })
    }

    /// A sequence of no tokens. Weights are shared; what attention remembers is the sequence's own.
    pub(super) fn sequence(&self) -> Sequence {
        Sequence { weights: self.weights.clone(), len: 0 }
    }
}

/// Tokens that have been read, and what attention remembers of them.
pub(super) struct Sequence {
    weights: ModelWeights,
    len: usize,
}

impl Sequence {
    /// Reads `ids`, and says how much each token of the vocabulary is to be expected next.
    pub(super) fn read(&mut self, ids: &[u32]) -> Result<Tensor, Fault> {
        let input = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.weights.forward(&input, self.len)?;
        self.len += ids.len();
        Ok(logits.squeeze(0)?)
    }
}
