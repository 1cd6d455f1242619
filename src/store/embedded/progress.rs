//! Waiting for what another thread does, as long as that shows progress: sled may hang in anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Why there is no result.
pub(super) enum Halted {
    /// The thread has ended in a panic.
    Panic,
    /// There was no progress for as long as there was patience.
    Standstill,
}

/// Waits for a result for as long as `progress` changes.
pub(super) fn wait<T>(result: &Receiver<T>, progress: &AtomicU64, patience: Duration) -> Result<T, Halted> {
    let mut seen = 0;
    loop {
        match result.recv_timeout(patience) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(Halted::Panic),
            Err(RecvTimeoutError::Timeout) => {
                let now = progress.load(Ordering::Relaxed);
                if now == seen {
                    return Err(Halted::Standstill);
                }
                seen = now;
            }
        }
    }
}
