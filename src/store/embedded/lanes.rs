//! [`Lanes`]: how many calls of each kind run at once on blocking threads, and where the others wait.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many calls by id may run at once. They take microseconds; the bound is for a disk that hangs.
const KEYED_AT_ONCE: usize = 32;
/// How many searches may run at once, beside the calls by id: filling an index takes long, and an exact hit
/// must not wait for it.
const SEARCHES_AT_ONCE: usize = 16;
/// How many steps of walks may run at once, so that looking after the store leaves it to the requests.
const WALKS_AT_ONCE: usize = 2;

/// The lanes of one engine. One that hangs keeps its places for good, so the engine that comes after it has new ones.
pub(super) struct Lanes {
    keyed: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    walks: Arc<Semaphore>,
    /// The store is written anew by one at a time.
    rewrites: Arc<Semaphore>,
}

/// A kind of call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    Keyed,
    Searches,
    Walks,
    Rewrites,
}

impl Default for Lanes {
    fn default() -> Self {
        let lane = |places| Arc::new(Semaphore::new(places));
        Self {
            keyed: lane(KEYED_AT_ONCE),
            searches: lane(SEARCHES_AT_ONCE),
            walks: lane(WALKS_AT_ONCE),
            rewrites: lane(1),
        }
    }
}

impl Lanes {
    pub(super) fn lane(&self, lane: Lane) -> &Arc<Semaphore> {
        match lane {
            Lane::Keyed => &self.keyed,
            Lane::Searches => &self.searches,
            Lane::Walks => &self.walks,
            Lane::Rewrites => &self.rewrites,
        }
    }

    /// Sends everyone away who waits.
    pub(super) fn close(&self) {
        for lane in [Lane::Keyed, Lane::Searches, Lane::Walks, Lane::Rewrites] {
            self.lane(lane).close();
        }
    }
}
