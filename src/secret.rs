//! [`Secret`]: a key that cannot be printed by accident. [`redact()`]: what others say, without anything that may be
//! a key.

mod redact;

pub use redact::redact;

use std::fmt;
use subtle::ConstantTimeEq as _;

/// A key, token or password. It prints as `***` everywhere; only [`Secret::expose`] gives it away, so a
/// search for that word finds every place where a secret leaves the program.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself. For a request header to its owner, and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in a time that does not tell where the two differ.
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_stars() {
        let secret = Secret::new("sk-live-1234");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }

    #[test]
    fn matches_only_itself() {
        let secret = Secret::new("sk-live-1234");
        assert!(secret.matches("sk-live-1234"));
        assert!(!secret.matches("sk-live-1235"));
        assert!(!secret.matches("sk-live-123"));
    }
}
