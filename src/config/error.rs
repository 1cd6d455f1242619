//! What is wrong with a configuration: all of it, each with its place.

use super::origin::{Origin, Origins, Place};
use std::fmt;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was asked for by name is not there.
    #[error("{named_by} names {path}, but there is no such file; `weir config init {path}` writes one")]
    NotFound {
        /// The flag or variable that named it.
        named_by: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("could not read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no configuration at all.
    #[error("{path} is larger than {limit} bytes, so it is not a configuration file")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most we read.
        limit: u64,
    },
    /// It is no TOML.
    #[error("{origin}: not valid TOML: {reason}")]
    Syntax {
        /// Where it stops being TOML.
        origin: Origin,
        /// What was expected there.
        reason: String,
    },
    /// Keys or values are wrong.
    #[error("{0}")]
    Invalid(Problems),
}

/// Everything that is wrong, in the order of the file. Never empty.
#[derive(Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// One by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'p> IntoIterator for &'p Problems {
    type Item = &'p Problem;
    type IntoIter = std::slice::Iter<'p, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return only.fmt(f);
        }
        write!(f, "{} problems in the configuration", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// Where the value is.
    pub origin: Origin,
    /// The path of the key; empty where a variable stands for none.
    pub key: String,
    /// What is wrong, and what would be right. It never holds a secret.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Default => {}
            _ => write!(f, "{}: ", self.origin)?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

/// What comes to light while a configuration is read and checked. Reading goes on after a problem, so that
/// one run tells all of them.
#[derive(Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
    /// Where each value that was set came from.
    pub(super) origins: Origins,
    /// What is not wrong, but worth a line in the log.
    pub(super) notes: Vec<String>,
}

impl Findings {
    /// Something is wrong at `place`.
    pub(super) fn problem(&mut self, place: &Place, reason: impl Into<String>) {
        let Place { key, origin } = place.clone();
        self.problems.push(Problem { origin, key, reason: reason.into() });
    }

    /// `section` lacks `key`. Nothing is said where the key is there but wrong, and that was said already.
    pub(super) fn missing(&mut self, section: &Place, key: &str, advice: &str) {
        let path = format!("{}.{key}", section.key);
        if self.problems.iter().all(|problem| problem.key != path) {
            let place = Place { key: path, origin: section.origin.clone() };
            self.problem(&place, format!("missing; {advice}"));
        }
    }

    /// All that is wrong, if anything is.
    pub(super) fn into_error(mut self) -> Option<Error> {
        self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        (!self.problems.is_empty()).then_some(Error::Invalid(Problems(self.problems)))
    }
}
