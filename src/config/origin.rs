//! Where a value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where each value that was set came from, by its key path (`server.listen`). A key that is not in it has
/// its default.
pub type Origins = BTreeMap<String, Origin>;

/// Where a value came from. Ordered as problems are listed: down the file, then the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The configuration file.
    File {
        /// The file, as it was named.
        path: Arc<str>,
        /// Counted from one.
        line: usize,
        /// In characters, counted from one.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag on the command line.
    Flag(&'static str),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A key, and where its value came from: what an error names.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The path of the key: `server.listen`, `upstream.primary.kind`.
    pub(super) key: String,
    /// Where its value is.
    pub(super) origin: Origin,
}
