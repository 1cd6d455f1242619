//! [`SentenceEncoder`]: any sentence model of the BERT family that lies in a folder.

use super::folder::{self, Description, Pooling};
use super::network::{Input, Network};
use super::pieces::{Cutter, Pieces};
use super::precision::Precision;
use super::{Embedding, Encoder, Error, PieceVectors, Text, failed};
use crate::vector::UnitVector;
use candle_core::Device;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file with the weights.
const WEIGHTS: &str = "model.safetensors";

/// Texts of different kinds, to see how large the numbers in a network get. More of them change nothing.
const SAMPLES: [&str; 8] = [
    "How do I reset my password?",
    "Turn off the lights in the kitchen at 7:30 pm, please.",
    "The quick brown fox jumps over 13 lazy dogs; it cost $4.99!",
    "SELECT name, COUNT(*) FROM users WHERE id = 42 GROUP BY name;",
    "Écrivez une lettre à ma grand-mère, s'il vous plaît.",
    "error: cannot open file '/etc/hosts': permission denied (os error 13)",
    "Weather",
    "In the beginning the company sold books by mail; later, after several lean years, it turned to music, films \
     and, at last, to computers.",
];

/// A model, ready to encode on one thread.
pub struct SentenceEncoder {
    cutter: Arc<Cutter>,
    network: Network,
    pooling: Pooling,
    id: Arc<str>,
}

impl SentenceEncoder {
    /// Loads `config.json`, `tokenizer.json` and `model.safetensors` from `folder`, and what sentence-transformers
    /// says beside them about pooling and length. Encodes one text, so that the first request meets a warm model.
    ///
    /// `name` is what the model and its revision are called; that the files are the right ones is for
    /// [`crate::models`] to say.
    pub fn load(folder: &Path, name: &str, device: &Device, precision: Precision) -> Result<Self, Error> {
        let description = Description::read(folder)?;
        let cutter = Cutter::load(folder, description.max_pieces)?;
        let weights = folder.join(WEIGHTS);
        let unusable = |error: &dyn std::fmt::Display| folder::unusable(&weights, error);
        if cutter.vocabulary() > description.bert.vocab_size {
            return Err(unusable(&"the tokenizer knows more pieces than the model"));
        }
        let samples = SAMPLES.iter().map(|text| cutter.cut(text)).collect::<Result<Vec<_>, _>>()?;
        let samples: Vec<&[u32]> = samples.iter().map(|sample| sample.ids.as_slice()).collect();
        let network = Network::load(&description, &weights, device, precision, &samples)
            .map_err(|error| unusable(&error))?;
        if let Network::Batched(batched) = &network {
            batched.warm_up(description.max_pieces).map_err(|error| failed(&error))?;
        }
        let id = format!("{name}/{}-{}", network.precision(), description.pooling.name()).into();
        let mut encoder = Self { cutter: Arc::new(cutter), network, pooling: description.pooling, id };
        encoder.encode(&["warm".into()])?;
        Ok(encoder)
    }

    /// The files in `folder` that a model is made of.
    pub fn files(folder: &Path) -> Vec<PathBuf> {
        folder::FILES.iter().chain(&["tokenizer.json", WEIGHTS]).map(|name| folder.join(name)).collect()
    }

    /// The same encoder for another thread. They share the weights.
    #[must_use]
    pub fn fork(&self) -> Self {
        let Self { cutter, network, pooling, id } = self;
        Self { cutter: Arc::clone(cutter), network: network.clone(), pooling: *pooling, id: Arc::clone(id) }
    }

    /// Whether several threads make it faster. candle's own network brings threads of its own.
    pub fn gains_from_threads(&self) -> bool {
        !matches!(self.network, Network::Reference(_))
    }

    /// The numbers it computes with, and by which instructions where that is known.
    pub fn arithmetic(&self) -> String {
        let precision = self.network.precision();
        self.network.instructions().map_or(precision.to_owned(), |by| format!("{precision}, {by}"))
    }

    /// How many word pieces of a text it reads, the marks at the ends among them.
    pub fn pieces_of(&self, text: &str) -> Result<usize, Error> {
        self.cutter.cut(text).map(|pieces| pieces.ids.len())
    }
}

impl Encoder for SentenceEncoder {
    fn id(&self) -> &str {
        &self.id
    }

    fn encode(&mut self, batch: &[Text]) -> Result<Vec<Embedding>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let texts = batch.iter().map(|text| self.cutter.cut(&text.words)).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<Input<'_>> = texts
            .iter()
            .zip(batch)
            .map(|(pieces, text)| Input { ids: &pieces.ids, with_pieces: text.with_pieces })
            .collect();
        let pooled = self.network.forward(&inputs, self.pooling).map_err(|error| failed(&error))?;
        let embed = |(pooled, text): (super::network::Pooled, Pieces)| {
            let vector = UnitVector::new(pooled.direction).map_err(|error| failed(&error))?;
            let Pieces { ids, partial } = text;
            let pieces = pooled.pieces.map(|vectors| PieceVectors { ids, vectors });
            Ok(Embedding { vector, partial, pieces })
        };
        pooled.into_iter().zip(texts).map(embed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let loaded = SentenceEncoder::load(Path::new("no/such/folder"), "x", &Device::Cpu, Precision::Auto);
        let message = loaded.err().unwrap().to_string();
        assert!(message.contains("config.json"), "{message}");
    }
}
