//! The local model.

use std::path::PathBuf;

/// Which model runs in this process, and within which bounds.
#[derive(Clone, Debug)]
pub struct Config {
    /// The GGUF file.
    pub file: PathBuf,
    /// How many requests may wait for it.
    pub queue: usize,
    /// The most tokens of a conversation and its answer together.
    pub context: usize,
    /// The most tokens of an answer, where the request names no limit.
    pub max_tokens: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { file: PathBuf::new(), queue: 16, context: 2048, max_tokens: 512 }
    }
}
