//! Wakes everyone who waits for the same thing.

use super::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

/// Given to whatever is waited for in the place of one waiter's own waker: so it does not matter which of them
/// asked last, and whether that one is still there.
#[derive(Default)]
pub(super) struct Bell {
    waiting: Mutex<HashMap<u64, Waker>>,
}

impl Bell {
    pub(super) fn wait(&self, who: u64, waker: &Waker) {
        lock(&self.waiting).insert(who, waker.clone());
    }

    pub(super) fn leave(&self, who: u64) {
        lock(&self.waiting).remove(&who);
    }

    pub(super) fn ring(&self) {
        // Woken outside of the lock: whoever wakes up may come back here at once.
        let woken = std::mem::take(&mut *lock(&self.waiting));
        woken.into_values().for_each(Waker::wake);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
