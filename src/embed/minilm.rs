//! [`MiniLm`]: all-MiniLM-L6-v2 by candle, in f32. The reference every faster encoder is judged by.

use super::{Embedding, Encoder, Error};
use crate::vector::UnitVector;
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, DTYPE};
use std::path::Path;
use tokenizers::Tokenizer;

/// How many word pieces the model was trained to read at once, the two marks at the ends among them.
const MAX_PIECES: usize = 256;

/// How much of a text is cut into word pieces at all. Ordinary text fills [`MAX_PIECES`] many times over
/// within it; what goes beyond is cut off and counts as not read, so a huge text costs no more than a long one.
const MAX_BYTES: usize = 16 * 1024;

/// What a tokenizer of this family writes for characters it does not know.
const UNKNOWN: &str = "[UNK]";

/// Model, revision, arithmetic and pooling: what makes its vectors comparable.
const ID: &str = "all-MiniLM-L6-v2@c9745ed1/f32-mean";

/// The sentence encoder all-MiniLM-L6-v2: 384 dimensions, mean pooling.
pub struct MiniLm {
    model: BertModel,
    tokenizer: Tokenizer,
    device: Device,
    max_pieces: usize,
    pad: u32,
    /// Stands for every character that the model does not know: all of them look alike to it.
    unknown: u32,
}

/// A text as the model reads it.
struct Pieces {
    ids: Vec<u32>,
    partial: bool,
}

impl MiniLm {
    /// Loads `model.safetensors`, `tokenizer.json` and `config.json` from `dir` and encodes one text, so
    /// that the first request meets a warm model. That the files are the right ones is for
    /// [`crate::models::verify`] to say.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, Error> {
        let config: Config = serde_json::from_slice(&read(&dir.join("config.json"))?)
            .map_err(|error| unusable(&dir.join("config.json"), error))?;
        let tokenizer = load_tokenizer(&dir.join("tokenizer.json"))?;
        let unknown = tokenizer.token_to_id(UNKNOWN);
        let mut encoder = Self {
            model: load_weights(&dir.join("model.safetensors"), &config, device)?,
            unknown: unknown.ok_or_else(|| unusable(&dir.join("tokenizer.json"), "it has no [UNK]"))?,
            tokenizer,
            device: device.clone(),
            max_pieces: config.max_position_embeddings.min(MAX_PIECES),
            pad: u32::try_from(config.pad_token_id).unwrap_or_default(),
        };
        encoder.encode(&["warm".to_owned()])?;
        Ok(encoder)
    }

    fn pieces(&self, text: &str) -> Result<Pieces, Error> {
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

    /// The sum of each text's piece vectors. It points where their mean points, and only that matters.
    fn forward(&self, texts: &[Pieces]) -> candle_core::Result<Vec<Vec<f32>>> {
        let width = texts.iter().map(|text| text.ids.len()).max().unwrap_or_default();
        let padding = |text: &Pieces| width - text.ids.len();
        let ids: Vec<u32> = texts
            .iter()
            .flat_map(|text| text.ids.iter().copied().chain(std::iter::repeat_n(self.pad, padding(text))))
            .collect();
        let mask: Vec<f32> = texts
            .iter()
            .flat_map(|text| {
                std::iter::repeat_n(1.0, text.ids.len()).chain(std::iter::repeat_n(0.0, padding(text)))
            })
            .collect();
        let ids = Tensor::from_vec(ids, (texts.len(), width), &self.device)?;
        let mask = Tensor::from_vec(mask, (texts.len(), width), &self.device)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        hidden.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?.to_vec2()
    }
}

impl Encoder for MiniLm {
    fn id(&self) -> &str {
        ID
    }

    fn encode(&mut self, batch: &[String]) -> Result<Vec<Embedding>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let texts = batch.iter().map(|text| self.pieces(text)).collect::<Result<Vec<_>, _>>()?;
        let sums = self.forward(&texts).map_err(|error| failed(&error))?;
        let embed = |(sum, text): (Vec<f32>, Pieces)| {
            let vector = UnitVector::new(sum).map_err(|error| failed(&error))?;
            Ok(Embedding { vector, partial: text.partial })
        };
        sums.into_iter().zip(texts).map(embed).collect()
    }
}

fn load_weights(path: &Path, config: &Config, device: &Device) -> Result<BertModel, Error> {
    // Mapping the file would be unsafe: another process could change it under us. Read and copied it is
    // needed twice in memory, but only until the model stands.
    let weights = VarBuilder::from_buffered_safetensors(read(path)?, DTYPE, device)
        .map_err(|error| unusable(path, error))?;
    BertModel::load(weights, config).map_err(|error| unusable(path, error))
}

/// The file's own padding and truncation (both to 128) are not the model's: padding goes by the batch, and
/// truncation must be noticed.
fn load_tokenizer(path: &Path) -> Result<Tokenizer, Error> {
    let mut tokenizer = Tokenizer::from_bytes(read(path)?).map_err(|error| unusable(path, error))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| unusable(path, error))?;
    Ok(tokenizer)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Load(format!("{}: {reason}: run `weir models fetch`", path.display()))
}

fn failed(reason: &impl std::fmt::Display) -> Error {
    Error::Model(reason.to_string())
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

    #[test]
    fn a_missing_file_is_named_with_what_to_do() {
        let error = MiniLm::load(Path::new("no/such/folder"), &Device::Cpu).err().unwrap();
        let message = error.to_string();
        assert!(message.contains("config.json"), "{message}");
        assert!(message.ends_with("run `weir models fetch`"), "{message}");
    }
}
