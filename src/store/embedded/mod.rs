//! The embedded store.

use std::path::PathBuf;
use std::time::Duration;

/// Where the store is, and how much it keeps.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its folder.
    pub path: PathBuf,
    /// The longest time between a write and the flush that makes it survive a crash.
    pub flush: Duration,
    /// The most entries; beyond, the oldest go.
    pub max_entries: u64,
    /// The most bytes of vectors held in memory; beyond, the indexes of the least used scopes are dropped
    /// and rebuilt from disk when asked for.
    pub index_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: PathBuf::new(), flush: Duration::from_millis(100), max_entries: 200_000, index_bytes: 256 << 20 }
    }
}
