//! From text to vectors: the [`Encoder`] trait, [`SentenceEncoder`] for models of the BERT family, and the
//! [`Embedder`] that queues and batches in front of any of them.
//!
//! A text is cut into word pieces (`pieces`), a network says where each of them points (`network`), and their
//! mean is where the text points. There are three builds of the same network: `fused`, with kernels of our own,
//! for CPUs; `batched`, in half precision, for GPUs; and `reference`, as candle has it, which the tests hold the
//! others to. `folder` reads what a model says about itself.
//!
//! An encoder is synchronous and owns its thread. Async code talks to it through an [`Embedder`]: a bounded queue
//! with a deadline. A full queue is an error at once, never a wait: the request is then a miss, and goes on.

mod batched;
mod folder;
mod fused;
mod kernels;
mod network;
mod pieces;
mod precision;
mod queue;
mod reference;
mod sentence;
#[cfg(test)]
mod tests;
mod weights;

pub use precision::{Precision, UnknownPrecision};
pub use queue::{Config, Embedder, Knows};
pub use sentence::SentenceEncoder;

use crate::vector::UnitVector;
use std::time::Duration;

/// Turns texts into vectors. Synchronous: it owns the thread it runs on.
pub trait Encoder: Send + 'static {
    /// What makes its vectors comparable: model, revision, arithmetic, pooling. The store keeps it with each
    /// vector, so that those of different encoders never meet.
    fn id(&self) -> &str;

    /// One [`Embedding`] for each text, in order.
    fn encode(&mut self, batch: &[Text]) -> Result<Vec<Embedding>, Error>;
}

/// A text to encode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What it says.
    pub words: String,
    /// Whether to give the vectors of its pieces too. They come from the same run.
    pub with_pieces: bool,
}

impl From<String> for Text {
    fn from(words: String) -> Self {
        Self { words, with_pieces: false }
    }
}

impl From<&str> for Text {
    fn from(words: &str) -> Self {
        Self::from(words.to_owned())
    }
}

/// Where a text points.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The direction.
    pub vector: UnitVector,
    /// The model has not read all of the text: it was too long, or holds characters that the model does not
    /// know. The vector speaks for the rest only, and such a text must never be served a semantic hit.
    pub partial: bool,
    /// Where its pieces point, if [`Text::with_pieces`] asked for it.
    pub pieces: Option<PieceVectors>,
}

/// Where each word piece of a text points, in the text: the same word is elsewhere beside other words.
#[derive(Clone, Debug, PartialEq)]
pub struct PieceVectors {
    /// The pieces, by their numbers in the vocabulary, with the marks at both ends.
    pub ids: Vec<u32>,
    /// Their vectors, one after the other, as the last layer gives them: not of length one.
    pub vectors: Vec<f32>,
}

impl PieceVectors {
    /// Each piece with its vector.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[f32])> {
        let width = (self.vectors.len() / self.ids.len().max(1)).max(1);
        self.ids.iter().copied().zip(self.vectors.chunks_exact(width))
    }
}

/// Why there is no vector.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It is longer than any text that the model could read to its end.
    #[error("the text is too long to be embedded")]
    TooLong,
    /// Too many wait already.
    #[error("the embedding queue is full")]
    Busy,
    /// It did not come in time.
    #[error("no embedding within {0:?}")]
    Deadline(Duration),
    /// The encoder's thread has ended.
    #[error("the encoder has stopped")]
    Stopped,
    /// The model could not be loaded.
    #[error("the embedding model could not be loaded: {0}")]
    Load(String),
    /// The model failed on this text.
    #[error("the embedding model failed: {0}")]
    Model(String),
}

impl Error {
    /// Whether it may go well a little later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::Deadline(_))
    }
}

fn failed(reason: &impl std::fmt::Display) -> Error {
    Error::Model(reason.to_string())
}
