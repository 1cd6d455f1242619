//! Writing behind: a bounded queue in front of the store, so that the last byte to the client never waits
//! for the disk.

use super::Query;
use crate::chat::{Block, Choice, Finish, Reply};
use crate::store::{Entry, EntryId, Error, Scope, Store};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How often a write is tried on a store that does not answer, and how long is waited in between: together
/// longer than the breaker in front of it stays open.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

/// Why an answer is not remembered. The names are stable: they appear in logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotKept {
    /// It says nothing.
    Empty,
    /// It ends for another reason than that it is complete.
    Unfinished,
    /// It calls tools.
    CallsTools,
    /// It is a refusal.
    Refused,
    /// Too many answers wait to be written.
    QueueFull,
}

impl NotKept {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Unfinished => "unfinished",
            Self::CallsTools => "calls_tools",
            Self::Refused => "refused",
            Self::QueueFull => "queue_full",
        }
    }
}

/// Whether an answer is one to give again.
pub(super) fn worth_keeping(reply: &Reply, wanted: u32) -> Result<(), NotKept> {
    match reply.choices.len() {
        0 => return Err(NotKept::Empty),
        given if given != wanted as usize => return Err(NotKept::Unfinished),
        _ => {}
    }
    reply.choices.iter().try_for_each(|choice| {
        let Choice { blocks, logprobs: _, finish } = choice;
        match finish {
            _ if blocks.iter().any(|block| matches!(block, Block::ToolCall(_))) => Err(NotKept::CallsTools),
            _ if blocks.iter().any(|block| matches!(block, Block::Refusal(_))) => Err(NotKept::Refused),
            Some(Finish::Refusal) => Err(NotKept::Refused),
            Some(Finish::Stop | Finish::StopSequence(_)) if choice.said().trim().is_empty() => {
                Err(NotKept::Empty)
            }
            Some(Finish::Stop | Finish::StopSequence(_)) => Ok(()),
            _ => Err(NotKept::Unfinished),
        }
    })
}

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
            Err(Error::Open | Error::Deadline(_)) => tokio::time::sleep(PAUSE).await,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::ToolCall;

    fn reply(change: impl FnOnce(&mut Choice)) -> Reply {
        let mut reply = Reply::text("m", "fine");
        change(&mut reply.choices[0]);
        reply
    }

    #[test]
    fn only_complete_plain_answers_are_worth_keeping() {
        let cases = [
            (reply(|_| {}), Ok(())),
            (Reply::default(), Err(NotKept::Empty)),
            (reply(|choice| choice.blocks = vec![Block::text(" \n")]), Err(NotKept::Empty)),
            (reply(|choice| choice.finish = None), Err(NotKept::Unfinished)),
            (reply(|choice| choice.finish = Some(Finish::Length)), Err(NotKept::Unfinished)),
            (reply(|choice| choice.finish = Some(Finish::ContentFilter)), Err(NotKept::Unfinished)),
            (reply(|choice| choice.blocks.push(Block::Refusal("no".into()))), Err(NotKept::Refused)),
            (reply(|choice| choice.finish = Some(Finish::Refusal)), Err(NotKept::Refused)),
            (
                reply(|choice| choice.blocks.push(Block::ToolCall(ToolCall::default()))),
                Err(NotKept::CallsTools),
            ),
        ];
        for (reply, verdict) in cases {
            assert_eq!(worth_keeping(&reply, 1), verdict, "{reply:?}");
        }
        assert_eq!(worth_keeping(&reply(|_| {}), 2), Err(NotKept::Unfinished), "one of two");
    }
}
