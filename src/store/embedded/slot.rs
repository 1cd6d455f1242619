//! [`Slot`]: the place of the engine, which may be empty for a while.
//!
//! A disk that is full, a folder without rights, another process that holds it: sled fails from then on, or hangs, also
//! when the cause has gone, until it is opened anew; where it hangs, a copy of its files is. So whoever meets an error
//! says so here ([`Slot::suspect`]), and whoever has waited in vain ([`Slot::doubt`]); [`heal`] looks whether the store
//! still takes a write, takes its engine away where it does not, and opens it again as soon as that works. Until then
//! every call is told at once that there is no store.

use super::engine::Engine;
use super::lanes::Lanes;
use super::recovery::{self, Recovery};
use super::{Config, Space, Tuning, stock};
use crate::store::{Counters, Error};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Between two of them.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest between two tries to open it, as a multiple of the shortest.
const LONGEST: u32 = 32;

/// Where the engine is, while there is one.
#[derive(Default)]
pub(super) struct Slot {
    held: Mutex<Held>,
    /// Somebody has met an error, or there is no engine.
    wake: Notify,
}

/// A store that is open.
pub(super) struct Live {
    engine: Arc<Engine>,
    lanes: Arc<Lanes>,
    /// Ends what is read in the background.
    _reading: Option<SyncSender<()>>,
}

#[derive(Default)]
struct Held {
    live: Option<Live>,
    /// Why there is none.
    why: Arc<str>,
    space: Space,
    /// What was found when it was last opened.
    recovery: Option<Recovery>,
    /// What engines before this one have counted.
    past: Counters,
    /// The last error that anyone has met.
    met: String,
    /// Of the last engine: there until sled has let go of its folder.
    last: Weak<()>,
}

impl Slot {
    /// The engine, or why there is none.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, Error> {
        self.live().map(|(engine, _)| engine)
    }

    /// The engine and where its calls wait for their turn, or why there is none.
    pub(super) fn live(&self) -> Result<(Arc<Engine>, Arc<Lanes>), Error> {
        let held = self.held();
        let live = held.live.as_ref().map(|live| (Arc::clone(&live.engine), Arc::clone(&live.lanes)));
        live.ok_or_else(|| Error::Away(held.why.to_string()))
    }

    /// Why there is no store, where there is none.
    pub(super) fn why_away(&self) -> Option<String> {
        let held = self.held();
        held.live.is_none().then(|| held.why.to_string())
    }

    pub(super) fn recovery(&self) -> Option<Recovery> {
        self.held().recovery.clone()
    }

    pub(super) fn set_space(&self, space: Space) {
        let mut held = self.held();
        held.space = space;
        if let Some(live) = &held.live {
            live.engine.set_space(space);
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let held = self.held();
        let now = held.live.as_ref().map_or_else(Counters::default, |live| live.engine.counters());
        Counters { away: held.live.is_none(), ..added(now, &held.past) }
    }

    /// Puts an opened engine in its place.
    pub(super) fn fill(&self, live: Live, recovery: Recovery) {
        let mut held = self.held();
        live.engine.set_space(held.space);
        held.live = Some(live);
        held.recovery = Some(recovery);
    }

    /// Leaves it empty. What is in it goes when the calls that use it have ended.
    pub(super) fn leave(&self, why: &str) {
        let mut held = self.held();
        if let Some(live) = held.live.take() {
            live.lanes.close();
            held.last = live.engine.disk.now().held();
            let Counters { evicted, turned_away, damaged, .. } = live.engine.counters();
            let counted = Counters { evicted, turned_away, damaged, ..Counters::default() };
            held.past = added(counted, &held.past);
        }
        held.why = why.into();
        drop(held);
        self.wake.notify_one();
    }

    /// A call has failed: it may be the store's end.
    pub(super) fn suspect(&self, error: &Error) {
        self.held().met = error.to_string();
        self.wake.notify_one();
    }

    /// Nobody waits for a call any more that has not ended: the store may be hanging.
    pub(super) fn doubt(&self) {
        if self.held().live.is_some() {
            self.wake.notify_one();
        }
    }

    /// Whether sled has not let go of the folder yet, of which there is no engine any more.
    fn is_held(&self) -> bool {
        self.held().last.strong_count() > 0
    }

    /// The files have been looked at.
    pub(super) fn looked(&self, files: u64) {
        self.held().past.files = files;
    }

    /// The store has been written anew.
    pub(super) fn compacted(&self, files: u64) {
        let past = &mut self.held().past;
        past.files = files;
        past.compacted += 1;
    }

    /// Why it is left, with what was met before, where that says more.
    fn told(&self, why: String) -> String {
        let held = self.held();
        if why.contains(&held.met) { why } else { format!("{why}; before that: {}", held.met) }
    }

    fn reopened(&self, live: Live, recovery: Recovery) {
        self.fill(live, recovery);
        self.held().past.reopened += 1;
    }

    /// Nothing in it is left half-done by a panic.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counts of this engine, and of those before it.
fn added(now: Counters, past: &Counters) -> Counters {
    Counters {
        evicted: now.evicted + past.evicted,
        turned_away: now.turned_away + past.turned_away,
        damaged: now.damaged + past.damaged,
        reopened: past.reopened,
        compacted: past.compacted,
        files: past.files,
        ..now
    }
}

/// Opens the store, and makes its engine. Blocks. Says whether it is this process that holds the folder, see
/// [`recovery::open`].
pub(super) fn opened(config: &Config, tuning: &Tuning, is_ours: bool) -> Result<(Live, Recovery), Error> {
    let opened = recovery::open(config, tuning, is_ours)?;
    let recovery = opened.recovery.clone();
    let (engine, rest) = Engine::new(opened, config, tuning)?;
    let engine = Arc::new(engine);
    let reading = if rest.is_nothing() {
        None
    } else {
        let (reading, end) = sync_channel(0);
        stock::read_behind(&engine, &config.path, rest, tuning.patience, end)
            .map_err(|error| Error::Io(error.to_string()))?;
        Some(reading)
    };
    Ok((Live { engine, lanes: Arc::default(), _reading: reading }, recovery))
}

/// Looks after the slot until it is dropped.
pub(super) async fn heal(slot: &Slot, config: &Config, tuning: &Tuning) {
    let mut pause = tuning.retry;
    loop {
        if let Ok(engine) = slot.engine() {
            slot.wake.notified().await;
            if let Err(why) = probe(engine, tuning.probe).await {
                let why = slot.told(why);
                tracing::error!(%why, "the store fails and is CLOSED: nothing is remembered until it can be opened again, which is tried by itself");
                slot.leave(&why);
                pause = tuning.retry;
            } else {
                sleep(PAUSE.min(tuning.retry)).await;
            }
        } else {
            sleep(pause).await;
            pause = (pause * 2).min(tuning.retry * LONGEST);
            try_again(slot, config, tuning).await;
        }
    }
}

async fn try_again(slot: &Slot, config: &Config, tuning: &Tuning) {
    let (config, tuning, is_ours) = (config.clone(), *tuning, slot.is_held());
    match tokio::task::spawn_blocking(move || opened(&config, &tuning, is_ours)).await {
        Ok(Ok((live, recovery))) => {
            tracing::info!(entries = recovery.entries, damaged = recovery.damaged, "the store is back");
            slot.reopened(live, recovery);
        }
        Ok(Err(error)) => slot.leave(&error.to_string()),
        Err(panic) => slot.leave(&panic.to_string()),
    }
}

/// Whether the store takes a write.
async fn probe(engine: Arc<Engine>, patience: Duration) -> Result<(), String> {
    match timeout(patience, tokio::task::spawn_blocking(move || engine.probe())).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(panic)) => Err(panic.to_string()),
        Err(_) => Err(format!("it did not take a write within {patience:?}")),
    }
}
