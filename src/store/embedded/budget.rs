//! [`Budget`]: the memory that all indexes share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes the indexes take, and may take.
pub(super) struct Budget {
    used: AtomicUsize,
    pub(super) limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn exceeded(&self) -> bool {
        self.used() > self.limit
    }
}
