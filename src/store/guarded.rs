//! [`Guarded`]: any store, with a deadline on every call, a breaker, and counters.
//!
//! The cache treats every error of a store as a miss, so a store that hangs costs each request at most the
//! deadline, and after a few failures in a row nothing at all.

use super::{Entry, EntryId, Error, Match, Scope, Steps, Store, Walk};
use crate::vector::UnitVector;
use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How much patience there is with a store.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The longest a call may take.
    pub deadline: Duration,
    /// After so many failures in a row the store is left alone.
    pub failures: u32,
    /// For so long; then one call is let through to see whether it works again.
    pub pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { deadline: Duration::from_millis(250), failures: 5, pause: Duration::from_secs(5) }
    }
}

/// How long a step of a walk may take. No request waits for one, and a store that is busy with them is not broken.
const WALK_DEADLINE: Duration = Duration::from_secs(10);

/// What happened to the calls up to now, walks aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls that reached the store.
    pub calls: u64,
    /// Of these, the ones that failed, missed deadlines included.
    pub failures: u64,
    /// Of the failures, those by missing the deadline.
    pub deadline_misses: u64,
    /// Calls that the breaker kept away from the store.
    pub rejected: u64,
}

/// A store with a deadline, a breaker and counters.
pub struct Guarded<S> {
    inner: S,
    deadline: Duration,
    /// A search that fills a large index may be slow while all else is well, so each kind has its own.
    searches: Mutex<Breaker>,
    keyed: Mutex<Breaker>,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
    deadline_misses: AtomicU64,
    rejected: AtomicU64,
}

impl<S> Guarded<S> {
    /// Puts a guard around `inner`.
    pub fn new(inner: S, config: Config) -> Self {
        let Config { deadline, failures, pause } = config;
        let breaker = || Mutex::new(Breaker::new(failures, pause));
        Self { inner, deadline, searches: breaker(), keyed: breaker(), tally: Tally::default() }
    }

    /// The store within, for what only it can do. Such calls are not guarded.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// What happened to the calls up to now.
    pub fn calls(&self) -> Counters {
        let Tally { calls, failures, deadline_misses, rejected } = &self.tally;
        Counters {
            calls: calls.load(Ordering::Relaxed),
            failures: failures.load(Ordering::Relaxed),
            deadline_misses: deadline_misses.load(Ordering::Relaxed),
            rejected: rejected.load(Ordering::Relaxed),
        }
    }

    async fn guard<T>(
        &self,
        breaker: &Mutex<Breaker>,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if !lock(breaker).admits(Instant::now()) {
            count(&self.tally.rejected);
            return Err(Error::Open);
        }
        count(&self.tally.calls);
        let result = timeout(self.deadline, call).await.unwrap_or_else(|_| {
            count(&self.tally.deadline_misses);
            Err(Error::Deadline(self.deadline))
        });
        match &result {
            Ok(_) => lock(breaker).succeeded(),
            // It says so at once, and also when it is back: no pause must go on behind that.
            Err(Error::Away(_)) => count(&self.tally.failures),
            Err(_) => {
                count(&self.tally.failures);
                lock(breaker).failed(Instant::now());
            }
        }
        result
    }
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[async_trait]
impl<S: Store> Store for Guarded<S> {
    async fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error> {
        self.guard(&self.searches, self.inner.nearest(scope, query, k)).await
    }

    async fn load(&self, scope: &Scope, id: &EntryId) -> Result<Option<Entry>, Error> {
        self.guard(&self.keyed, self.inner.load(scope, id)).await
    }

    async fn put(&self, scope: &Scope, entry: Entry) -> Result<(), Error> {
        self.guard(&self.keyed, self.inner.put(scope, entry)).await
    }

    async fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error> {
        self.guard(&self.keyed, self.inner.remove(scope, id)).await
    }

    async fn clear(&self, scope: &Scope) -> Result<u64, Error> {
        self.guard(&self.keyed, self.inner.clear(scope)).await
    }

    async fn walk(&self, walk: Walk) -> Result<Steps, Error> {
        let walked = timeout(WALK_DEADLINE, self.inner.walk(walk)).await;
        walked.unwrap_or(Err(Error::Deadline(WALK_DEADLINE)))
    }

    fn asked(&self, scope: &Scope, id: &EntryId, answered: bool) {
        self.inner.asked(scope, id, answered);
    }

    fn counters(&self) -> super::Counters {
        self.inner.counters()
    }
}

/// Decides whether the store is asked. Pure: events and the time go in, a decision comes out.
#[derive(Clone, Debug)]
struct Breaker {
    limit: u32,
    pause: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calls go through; so many have failed in a row.
    Closed { failed: u32 },
    /// Calls are refused until then.
    Open { until: Instant },
}

impl Breaker {
    fn new(limit: u32, pause: Duration) -> Self {
        Self { limit: limit.max(1), pause, state: State::Closed { failed: 0 } }
    }

    /// Whether a call may go through. When the pause is over one may, as a probe, and the next pause begins
    /// at once: a probe that is never heard of again (its client has gone) does not keep the store shut.
    fn admits(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } if now < until => false,
            State::Open { .. } => {
                self.open(now);
                true
            }
        }
    }

    fn succeeded(&mut self) {
        self.state = State::Closed { failed: 0 };
    }

    fn failed(&mut self, now: Instant) {
        match self.state {
            State::Closed { failed } if failed + 1 < self.limit => {
                self.state = State::Closed { failed: failed + 1 };
            }
            State::Closed { .. } | State::Open { .. } => self.open(now),
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open { until: now + self.pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A call is asked for after so many seconds: is it let through?
        Ask(u64, bool),
        Succeed,
        Fail,
    }
    use Step::{Ask, Fail, Succeed};

    /// A breaker that opens after two failures, for ten seconds.
    fn play(steps: &[Step]) {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(2, Duration::from_secs(10));
        for (at, step) in steps.iter().enumerate() {
            match *step {
                Ask(seconds, expected) => {
                    now += Duration::from_secs(seconds);
                    assert_eq!(breaker.admits(now), expected, "step {at} of {steps:?}");
                }
                Succeed => breaker.succeeded(),
                Fail => breaker.failed(now),
            }
        }
    }

    #[test]
    fn the_breaker_follows_its_table() {
        for steps in [
            &[Ask(0, true), Fail, Ask(0, true)][..],
            &[Fail, Succeed, Fail, Ask(0, true)],
            &[Fail, Fail, Ask(0, false), Ask(9, false), Ask(1, true)],
            // One probe, and a second one only after another pause.
            &[Fail, Fail, Ask(10, true), Ask(0, false), Ask(9, false), Ask(1, true)],
            &[Fail, Fail, Ask(10, true), Succeed, Ask(0, true), Fail, Ask(0, true)],
            &[Fail, Fail, Ask(10, true), Fail, Ask(9, false), Ask(1, true)],
            // A call that was under way when it opened, and succeeds: the store works.
            &[Fail, Fail, Succeed, Ask(0, true)],
        ] {
            play(steps);
        }
    }

    #[test]
    fn a_limit_of_zero_is_one() {
        let mut breaker = Breaker::new(0, Duration::from_secs(1));
        let now = Instant::now();
        assert!(breaker.admits(now));
        breaker.failed(now);
        assert!(!breaker.admits(now));
    }
}
