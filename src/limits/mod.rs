//! Limits.

/// How much is let in at once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The most requests in work at the same time; more get a 429 at once.
    pub concurrent_requests: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { concurrent_requests: 1024 }
    }
}
