//! What can go wrong inside the model.

use std::io;
use std::path::PathBuf;

/// What can go wrong inside the model.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file is not there, or not ours to read.
    #[error("cannot open the model file {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the file says of itself cannot be.
    #[error("the model file cannot be used: {0}")]
    File(#[from] super::gguf::Flaw),
    /// The file says too little about its model.
    #[error("the model file has no usable `{0}`")]
    Metadata(&'static str),
    /// The model is built in a way that nobody here can run.
    #[error("models of the family `{0}` cannot be run here (only {known})", known = super::about::FAMILIES.join(", "))]
    Family(String),
    /// The model has something to it that nobody here knows.
    #[error("the model is built in a way that is not known here (`{0}`)")]
    Shape(&'static str),
    /// The model wants its text cut up in another way than ours.
    #[error("the model's text is cut up in a way that is not known here (`{0}`)")]
    Cut(String),
    /// The tokenizer could not be built, or failed on a text.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(#[from] tokenizers::Error),
    /// The chat template is wrong, or failed on a conversation.
    #[error("the chat template failed: {0}")]
    Template(#[from] minijinja::Error),
    /// The file is damaged, or the weights could not be multiplied.
    #[error("the model failed: {}", first_line(.0))]
    Weights(#[from] candle_core::Error),
    /// A part below us gave up without an error.
    #[error("the model panicked")]
    Panic,
}

impl Fault {
    /// What went wrong, and what to do where the file is to blame and not what is in it.
    pub(super) fn with_advice(&self) -> String {
        match self {
            Self::Open { .. } | Self::File(_) | Self::Weights(_) => {
                format!("{self}; run `weir models fetch`")
            }
            _ => self.to_string(),
        }
    }
}

/// Candle appends a backtrace to its messages where the environment asks for one.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
