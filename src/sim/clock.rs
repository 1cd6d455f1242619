//! A clock that is set by hand.

use crate::clock::{Clock, Millis};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Stands still until it is moved.
#[derive(Debug, Default)]
pub struct Manual(AtomicU64);

impl Manual {
    /// Shows `now`.
    pub fn at(now: Millis) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Shows `now` from now on.
    pub fn set(&self, now: Millis) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for Manual {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::Relaxed))
    }
}
