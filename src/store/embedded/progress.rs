//! Waiting for what another thread does, as long as that shows progress: sled may hang in anything.

use super::engine::Engine;
use crate::store::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How long long work may show no progress. Longer than anything that it waits for in between.
const WATCHED: Duration = Duration::from_mins(1);

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

/// How far long work has come, and whether anybody waits for it.
#[derive(Default)]
pub(super) struct Watch {
    steps: AtomicU64,
    is_over: AtomicBool,
}

impl Watch {
    pub(super) fn step(&self) -> Result<(), Error> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        if self.is_over.load(Ordering::Relaxed) {
            return Err(Error::Io("nobody waits for it any more".to_owned()));
        }
        Ok(())
    }
}

/// Works on a thread of its own, as long as that shows progress: the database in force may hang as well. Then it is
/// opened anew (see `slot`), and what comes next must not wait for what never ends.
pub(super) fn watched<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Engine, &Watch) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let watch = Arc::new(Watch::default());
    let (done, result) = sync_channel(1);
    let (of, its) = (Arc::clone(engine), Arc::clone(&watch));
    std::thread::Builder::new()
        .name("weir-upkeep".to_owned())
        .spawn(move || drop(done.send(work(&of, &its))))
        .map_err(|error| Error::Io(error.to_string()))?;
    match wait(&result, &watch.steps, WATCHED) {
        Ok(done) => done,
        Err(Halted::Panic) => Err(Error::Damaged("writing it anew ended in a panic".to_owned())),
        Err(Halted::Standstill) => {
            let why = format!("writing it anew made no progress for {WATCHED:?}");
            watch.is_over.store(true, Ordering::Relaxed);
            engine.disk.unmirror(&why);
            Err(Error::Io(why))
        }
    }
}
