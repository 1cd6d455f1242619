//! Cache.

use std::time::Duration;

/// What is looked up, and for how long an answer lives.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether the same question again is answered from memory.
    pub exact: bool,
    /// Whether a question in other words may be.
    pub semantic: bool,
    /// The least cosine for a semantic hit.
    pub min_similarity: f32,
    /// How long an answer may be served.
    pub ttl: Duration,
    /// The most answers that wait to be written; more are dropped, never waited for.
    pub write_queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { exact: true, semantic: true, min_similarity: 0.97, ttl: Duration::from_hours(24 * 30), write_queue: 1024 }
    }
}
