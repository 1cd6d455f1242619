//! Asks afresh, in the background, what was given late.

use super::flight::Follower;
use super::keep::{Asked, Keeper};
use super::record::Recorder;
use super::vector::embedded;
use super::voice::Voice;
use super::{Answer, Caller, Pipeline, call};
use crate::cache::Miss;
use crate::chat::Request;
use crate::upstream::{Call, Priority};
use futures_util::StreamExt as _;
use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// The most that is asked afresh at the same time. More is asked when it is given late the next time.
const MOST: usize = 16;

/// Runs what is asked afresh: each question once at a time, and only so many. It stops when this is dropped.
#[derive(Debug, Default)]
pub struct Refresher {
    running: Mutex<JoinSet<()>>,
    asked: Arc<Mutex<HashSet<Key>>>,
}

/// The question's id.
type Key = [u8; 32];

/// The right to ask a question afresh, given back when dropped.
struct Slot {
    key: Key,
    asked: Arc<Mutex<HashSet<Key>>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.asked).remove(&self.key);
    }
}

impl Refresher {
    /// `None`: it is being asked already, or too much is.
    fn slot(&self, key: Key) -> Option<Slot> {
        let mut asked = lock(&self.asked);
        let free = asked.len() < MOST && asked.insert(key);
        free.then(|| Slot { key, asked: Arc::clone(&self.asked) })
    }

    fn start(&self, slot: Slot, deadline: Instant, work: impl Future<Output = ()> + Send + 'static) {
        let mut running = lock(&self.running);
        // Those that have ended are forgotten.
        while running.try_join_next().is_some() {}
        running.spawn(async move {
            let _slot = slot;
            if timeout_at(deadline, work).await.is_err() {
                tracing::info!("an answer was not asked afresh in time");
            }
        });
    }

    /// How many questions are being asked afresh.
    pub fn running(&self) -> usize {
        lock(&self.asked).len()
    }
}

/// Neither has an invariant that a panic could have broken half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipeline {
    /// Asks afresh in the background, as far as there is room: whoever waits for an answer comes first.
    pub(super) fn refresh(&self, caller: &Caller, request: &Request, asked: &Asked, told: &Call) {
        let Some(slot) = self.refresher.slot(asked.query.id.0) else { return };
        let Ok(permit) = self.limiter.admit(None) else { return };
        let mut recorder = Recorder::new(self, caller, request);
        recorder.refreshes();
        recorder.chosen(told);
        recorder.wanted(|| Voice::of(self.upstream.as_ref(), request, told));
        // Whoever asks the same meanwhile, and takes no late answer, joins.
        let seat = self.cache.is_coalescing().then(|| self.flights.seat(asked.query.id.0));
        let told = Call { priority: Priority::Background, ..told.clone() };
        let voice = Voice::of(self.upstream.as_ref(), request, &told);
        let (asked, request) = (asked.clone(), Arc::new(request.clone()));
        let (cache, upstream) = (Arc::clone(&self.cache), Arc::clone(&self.upstream));
        let embedder = self.embedder.clone();
        self.refresher.start(slot, caller.deadline, async move {
            let vector = embedded(&cache, embedder.as_ref(), &asked).await.ok();
            recorder.recalled();
            let keeper = (Keeper::new(&cache, asked, vector), voice.clone());
            let begin = || call(&upstream, &request, &told, Some(keeper));
            let mut follower = match seat {
                Some(seat) => seat.join_or_begin(begin),
                None => Follower::alone(begin()),
            };
            let began = Instant::now();
            match recorder.follow(&mut follower, &request).await {
                Ok(begun) if voice.gave(&begun) => {
                    recorder.opened(&begun, began.elapsed());
                    let mut answer =
                        Answer::begun(&begun, Vec::new(), follower, Miss::Expired, recorder, permit);
                    while let Some(Ok(_)) = answer.chunks.next().await {}
                }
                // A stand-in's answer takes nobody's place.
                Ok(begun) => begun.failed.last().into_iter().for_each(|error| recorder.failed(error)),
                Err(error) => recorder.failed(&error),
            }
        });
    }
}
