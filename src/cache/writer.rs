//! Writing behind: a bounded queue in front of the store, so that the last byte to the client never waits
//! for the disk.

use super::{NotKept, Query};
use crate::store::{Entry, EntryId, Error, Scope, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How often a write is tried on a store that does not answer, and how long is waited in between: together
/// longer than the breaker in front of it stays open.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

type Pending = Arc<Mutex<HashMap<(Scope, EntryId), Arc<Entry>>>>;

enum Job {
    Write(Scope, Arc<Entry>),
    Drained(oneshot::Sender<()>),
}

/// The queue, and what waits in it.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    pending: Pending,
}

impl Writer {
    pub(super) fn spawn(store: Arc<dyn Store>, queue: usize) -> Self {
        let (jobs, waiting) = mpsc::channel(queue.max(1));
        let pending = Pending::default();
        tokio::spawn(write(store, waiting, Arc::clone(&pending)));
        Self { jobs, pending }
    }

    /// The entry for this very question, if it is still on its way to the store.
    pub(super) fn pending(&self, query: &Query) -> Option<Arc<Entry>> {
        lock(&self.pending).get(&(query.scope, query.id)).filter(|entry| entry.text == query.text).cloned()
    }

    pub(super) fn enqueue(&self, scope: Scope, entry: Entry) -> Result<(), NotKept> {
        let slot = self.jobs.try_reserve().map_err(|_| NotKept::QueueFull)?;
        let entry = Arc::new(entry);
        lock(&self.pending).insert((scope, entry.id), Arc::clone(&entry));
        slot.send(Job::Write(scope, entry));
        Ok(())
    }

    pub(super) async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.jobs.send(Job::Drained(done)).await.is_ok() {
            let _ = drained.await;
        }
    }
}

async fn write(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<Job>, pending: Pending) {
    while let Some(job) = waiting.recv().await {
        match job {
            Job::Write(scope, entry) => {
                put(store.as_ref(), &scope, &entry).await;
                forget(&pending, scope, &entry);
            }
            Job::Drained(done) => drop(done.send(())),
        }
    }
}

/// Writes an entry down. A store that is slow or left alone for a while gets some time to come back: the
/// queue is bounded, and what waits in it is found meanwhile.
async fn put(store: &dyn Store, scope: &Scope, entry: &Entry) {
    for _ in 0..ATTEMPTS {
        match put_unless_pinned(store, scope, entry).await {
            Ok(()) => return,
            Err(Error::Open | Error::Deadline(_) | Error::Away(_)) => tokio::time::sleep(PAUSE).await,
            Err(error) => return tracing::warn!(%error, "an answer could not be stored"),
        }
    }
    tracing::warn!("an answer was lost: the store has not come back");
}

/// A pinned answer stays, even where a caller has asked for a fresh one.
async fn put_unless_pinned(store: &dyn Store, scope: &Scope, entry: &Entry) -> Result<(), Error> {
    match store.load(scope, &entry.id).await? {
        Some(known) if known.pinned => Ok(()),
        _ => store.put(scope, entry.clone()).await,
    }
}

/// A newer entry of the same id stays: it is still on its way.
fn forget(pending: &Pending, scope: Scope, written: &Arc<Entry>) {
    let mut pending = lock(pending);
    if pending.get(&(scope, written.id)).is_some_and(|entry| Arc::ptr_eq(entry, written)) {
        pending.remove(&(scope, written.id));
    }
}

/// A map has no invariant that a panic could have broken half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
