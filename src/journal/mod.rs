//! The journal: requests, how they were decided and what was answered, written down so that they can be asked
//! again. Switched off unless someone wants it.
//!
//! [`row`] is what a line says, [`scrub`] takes out what nobody may read, before anything reaches the disk,
//! [`mod@write`] is the thread that writes, into the files of `file`, which `seal` can seal; and [`read`] reads it all
//! back, whatever a crash has left.

mod file;
pub mod read;
pub mod row;
pub mod scrub;
mod seal;
pub mod write;

pub use file::is_sealed;
pub use read::{Fault, Reader, files};
pub use row::{Fresh, Head, Learned, Line, Row, Wanted, Word};
pub use scrub::Scrubber;
pub use seal::{Keys, NotKeys};
pub use write::{Counts, Journal, compose};

use std::path::PathBuf;

/// What is written down, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether anything is.
    pub enabled: bool,
    /// The folder.
    pub folder: PathBuf,
    /// The file with the salt of the digests: not beside the journal, so that a copy of that tells nothing.
    pub salt: PathBuf,
    /// How much of what is said.
    pub content: Content,
    /// What its files are sealed with; none leave them in the clear.
    pub keys: Keys,
    /// What nobody may read, beside what is known to be secret: expressions.
    pub redact: Vec<String>,
    /// The projects that are written down; none are all.
    pub projects: Vec<String>,
    /// A file that is longer is closed, and compressed.
    pub max_file_bytes: u64,
    /// All files together; beyond, the oldest go.
    pub max_bytes: u64,
    /// The most lines that wait to be written; more are dropped, never waited for.
    pub queue: usize,
}

/// How much of what is said is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Words, without secrets.
    #[default]
    Redacted,
    /// No words: a question is known again by its digest, and cannot be asked again.
    Hashes,
}

impl Content {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redacted => "redacted",
            Self::Hashes => "hashes",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            folder: PathBuf::new(),
            salt: PathBuf::new(),
            content: Content::default(),
            keys: Keys::default(),
            redact: Vec::new(),
            projects: Vec::new(),
            max_file_bytes: 64 << 20,
            max_bytes: 1 << 30,
            queue: 4096,
        }
    }
}
