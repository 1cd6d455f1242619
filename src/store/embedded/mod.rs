//! The embedded store: sled keeps the truth on disk, an index in memory finds what is near.
//!
//! - `engine` keeps disk and index in step;
//! - `hot` holds the entries asked for of late;
//! - `codec` says how an entry lies on disk (`packed`: compressed), `entries` where (its value in files of its own,
//!   `values`; both in one database, `trees`), `disk` in which order it is written, `recovery` how that is opened
//!   (`folders`: which of several is in force);
//! - `index` holds the vectors of the scopes asked of late, `scope_index` those of one, in segments (`segment`) of
//!   packed rows (`rows`, `kernels`), each searched through a `graph`; `builder` makes these in the background
//!   (`merge`), with `hnsw_rs`, and `snapshot` keeps them over a restart; `fill` reads them from disk.
//!
//! While it is in use `reclaim` gives back what values take that are gone, and `compact` writes anew what sled has
//! (`mirror`: without waiting for what hangs); `slot` holds the engine, and opens it anew where it has failed. `upkeep`
//! looks after a store that nobody has open.
//!
//! A search of a small index for entries asked for of late is answered where it is asked; everything else runs on
//! tokio's blocking threads, a bounded number at a time (`lanes`).

mod budget;
mod builder;
mod codec;
mod compact;
mod disk;
mod engine;
mod entries;
mod fill;
mod folders;
mod graph;
mod hot;
mod index;
pub(super) mod kernels;
mod lanes;
mod merge;
mod mirror;
mod numbers;
mod packed;
mod progress;
mod reclaim;
mod recovery;
mod rows;
mod scope_index;
mod segment;
mod slot;
mod snapshot;
mod stock;
mod trees;
pub mod upkeep;
mod values;

pub use compact::Compacted;
pub use recovery::{Recovery, SetAside};

use crate::clock::Millis;
use crate::store::room::Used;
use crate::store::{Counters, Entry, EntryId, Error, Match, Room, Scope, Steps, Store, Walk};
use crate::vector::UnitVector;
use async_trait::async_trait;
use compact::{Due, Sizes};
use engine::{AtHand, Engine};
use lanes::Lane;
use progress::Watch;
use reclaim::Aim;
use sha2::{Digest as _, Sha256};
use slot::Slot;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use upkeep::Copied;

/// Where the store is, and how much it keeps.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its folder.
    pub path: PathBuf,
    /// The longest time between a write and the flush that makes it survive a crash. Zero: a write is acknowledged
    /// only when it would survive one.
    pub flush: Duration,
    /// The most entries; beyond, those worth least go.
    pub max_entries: u64,
    /// The most bytes of entries, as long as they are when they are kept. sled's files take some more.
    pub max_bytes: u64,
    /// The most bytes of vectors held in memory; beyond, the indexes of the least used scopes are dropped
    /// and rebuilt from disk when asked for.
    pub index_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        let Room { max_entries, max_bytes } = Room::default();
        Self {
            path: PathBuf::new(),
            flush: Duration::from_millis(100),
            max_entries,
            max_bytes,
            index_bytes: 256 << 20,
        }
    }
}

impl Config {
    fn room(&self) -> Room {
        Room { max_entries: self.max_entries, max_bytes: self.max_bytes }
    }
}

/// What hardly anyone needs to change.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// From so many vectors on a scope gets a graph; below, a scan is quick (50 µs for 8,000 vectors of 384 numbers)
    /// and always right. So many may wait for theirs in a scope that has one.
    pub graph_from: usize,
    /// So many entries of a scope are read by whoever asks for it first, in some ten milliseconds; the rest comes
    /// in the background, while what has been read answers.
    pub read_at_once: usize,
    /// So many entries are counted when the store is opened, and verified after an unclean shutdown; the rest in the
    /// background.
    pub read_at_opening: usize,
    /// How long opening may show no progress before the folder is set aside as damaged.
    pub patience: Duration,
    /// How soon a store that has failed is opened again; then half as often, and so on.
    pub retry: Duration,
    /// How long a write may take that only shows whether a store that has failed still works.
    pub probe: Duration,
    /// How often the size of the files is looked at.
    pub look: Duration,
    /// How much more than four times what it keeps sled may take before it is written anew, and, a quarter of this, how
    /// much more than 1.4 times what lives of them the values.
    pub slack: u64,
    /// How long a file of values is at least before the next is begun.
    pub values_file: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            graph_from: 8192,
            read_at_once: 1024,
            read_at_opening: 8192,
            patience: Duration::from_mins(2),
            retry: Duration::from_secs(1),
            probe: Duration::from_secs(20),
            look: Duration::from_secs(1),
            slack: 4 << 20,
            values_file: 1 << 20,
        }
    }
}

/// Where vectors can be compared: those of one model, by one arithmetic. The store keeps it with each vector; one
/// of another space is as good as none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space(u64);

impl Space {
    /// The space of the encoder with this id.
    pub fn of(encoder: &str) -> Self {
        let digest = Sha256::digest(encoder);
        Self(u64::from_le_bytes(std::array::from_fn(|at| digest[at])))
    }
}

/// How far a search for entries of other spaces has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress(Option<codec::Key>);

/// The embedded store.
pub struct Embedded {
    slot: Slot,
    config: Config,
    tuning: Tuning,
}

impl Embedded {
    /// Opens the store, and says what was found. Blocks while it reads what is there: call it at start-up.
    pub fn open(config: Config) -> Result<(Self, Recovery), Error> {
        Self::open_tuned(config, Tuning::default())
    }

    /// [`Self::open`], with other constants.
    pub fn open_tuned(config: Config, tuning: Tuning) -> Result<(Self, Recovery), Error> {
        let (live, recovery) = slot::opened(&config, &tuning, false)?;
        let store = Self::empty(config, tuning);
        store.slot.fill(live, recovery.clone());
        Ok((store, recovery))
    }

    /// [`Self::open`], but where the folder cannot be used for now, there is no store until [`Self::heal`] has
    /// opened it. What a newer weir has written is refused.
    pub fn open_or_wait(config: Config, tuning: Tuning) -> Result<Self, Error> {
        let opened = slot::opened(&config, &tuning, false);
        let store = Self::empty(config, tuning);
        match opened {
            Ok((live, recovery)) => store.slot.fill(live, recovery),
            Err(error @ Error::NewerFormat { .. }) => return Err(error),
            Err(error) => store.slot.leave(&error.to_string()),
        }
        Ok(store)
    }

    fn empty(config: Config, tuning: Tuning) -> Self {
        Self { slot: Slot::default(), config, tuning }
    }

    /// Opens the store anew whenever it has failed, as soon as that works, until it is dropped.
    pub async fn heal(&self) {
        slot::heal(&self.slot, &self.config, &self.tuning).await;
    }

    /// Gives back what its files take that is gone, whenever that is much, until it is dropped.
    pub async fn stay_small(&self) {
        /// The longest pause after a failure.
        const LONGEST: Duration = Duration::from_mins(1);
        let (mut due, mut pause) = (Due::default(), self.tuning.look);
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.become_small(&mut due).await {
                // Whoever calls is told.
                Ok(()) | Err(Error::Away(_)) => self.tuning.look,
                Err(error) => {
                    tracing::warn!(%error, "what is gone of the store could not be given back");
                    (pause * 2).min(LONGEST)
                }
            };
        }
    }

    /// Gives back what its files take that is gone, if that is much.
    async fn become_small(&self, due: &mut Due) -> Result<(), Error> {
        let (sizes, Some(used)) = self.sizes().await? else { return Ok(()) };
        let live = used.bytes.saturating_sub(used.entries * codec::KEYS as u64);
        if due.are_values(sizes.values, live, self.tuning.slack) || sizes.files > reclaim::MOST_FILES {
            self.reclaim().await?;
            *due = Due { values: self.sizes().await?.0.values, live, ..*due };
        }
        let kept = used.entries * compact::IN_TREE;
        if due.are_keys(sizes.keys(), kept, self.tuning.slack) {
            let Compacted { before, after } = self.rewrite(None).await?;
            tracing::debug!(before, after, "wrote the keys of the store anew");
            *due = Due { keys: self.sizes().await?.0.keys(), kept, ..*due };
        }
        Ok(())
    }

    /// Writes the store anew, without what its files keep of what is gone. Requests go on meanwhile.
    pub async fn compact(&self) -> Result<Compacted, Error> {
        self.rewrite(Some(Aim::Nothing)).await
    }

    async fn rewrite(&self, values: Option<Aim>) -> Result<Compacted, Error> {
        let config = self.config.clone();
        let work = move |engine: &Arc<Engine>| compact::compact(engine, &config, values);
        let compacted = self.run(Lane::Rewrites, work).await?;
        self.slot.compacted(compacted.after);
        Ok(compacted)
    }

    /// Gives back most of what values take that are gone.
    pub async fn reclaim(&self) -> Result<(), Error> {
        let reclaim = |engine: &Engine, watch: &Watch| reclaim::reclaim(engine, Aim::Fifth, watch);
        self.run(Lane::Rewrites, move |engine| progress::watched(engine, reclaim)).await
    }

    /// Writes what is there to a folder that is not there yet, as a store that was closed in order. Requests go on
    /// meanwhile, and what they change is in it.
    pub async fn backup(&self, to: PathBuf) -> Result<Copied, Error> {
        let config = self.config.clone();
        self.run(Lane::Rewrites, move |engine| compact::backup(engine, &config, &to)).await
    }

    /// What its files take, without the graphs, and what is kept, once that is counted.
    async fn sizes(&self) -> Result<(Sizes, Option<Used>), Error> {
        let path = self.config.path.clone();
        let look = move |engine: &Arc<Engine>| {
            let used = engine.all_used(&*engine.writer()?);
            Ok((compact::sizes(engine, &path), used))
        };
        let (sizes, used) = self.run(Lane::Walks, look).await?;
        self.slot.looked(sizes.all);
        Ok((sizes, used))
    }

    /// Why there is no store, where there is none.
    pub fn why_away(&self) -> Option<String> {
        self.slot.why_away()
    }

    /// What was found when it was last opened; `None` where it never was.
    pub fn recovery(&self) -> Option<Recovery> {
        self.slot.recovery()
    }

    /// Says whose vectors are asked for and written from now on; those of others are none until they are renewed.
    pub fn set_space(&self, space: Space) {
        self.slot.set_space(space);
    }

    /// Some entries that have a vector in another space, without it, and how to go on; no progress is the end.
    pub async fn of_other_spaces(
        &self,
        progress: Progress,
        most: usize,
    ) -> Result<(Vec<(Scope, Entry)>, Option<Progress>), Error> {
        let found = self.run(Lane::Searches, move |engine| engine.of_other_spaces(progress.0, most)).await;
        found.map(|(entries, last)| (entries, last.map(|last| Progress(Some(last)))))
    }

    /// Gives an entry another vector, unless it has been replaced since it was `created`; says whether it was given.
    pub async fn set_vector(
        &self,
        scope: &Scope,
        id: &EntryId,
        created: Millis,
        vector: Option<UnitVector>,
    ) -> Result<bool, Error> {
        let (scope, id) = (*scope, *id);
        self.run(Lane::Keyed, move |engine| engine.set_vector(&scope, &id, created, vector)).await
    }

    /// Makes everything written up to now survive a crash.
    pub async fn flush(&self) -> Result<(), Error> {
        self.run(Lane::Keyed, |engine| engine.flush()).await
    }

    /// Ends the store in an orderly way: all is flushed, and the next start knows. Writes are refused afterwards.
    pub async fn close(&self) -> Result<(), Error> {
        match self.run(Lane::Keyed, |engine| engine.close()).await {
            // There is nothing to close.
            Err(Error::Away(_)) => Ok(()),
            closed => closed,
        }
    }

    /// Removes what has expired by `now`, and says how many entries that were. Writes go on in between.
    pub async fn sweep(&self, now: Millis) -> Result<u64, Error> {
        self.run(Lane::Keyed, move |engine| engine.sweep(now)).await
    }

    /// Notes on disk how often entries have answered. Until then it is known in memory only.
    pub async fn note_hits(&self) -> Result<(), Error> {
        self.run(Lane::Walks, |engine| engine.note_hits()).await
    }

    /// Runs `job` on a blocking thread, in its lane. A job whose caller has gone still ends, and holds its place
    /// until then, so that a disk that hangs cannot use up the threads.
    async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        job: impl FnOnce(&Arc<Engine>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let asked = Asked { slot: &self.slot, is_answered: false };
        let (engine, lanes) = self.slot.live()?;
        let Ok(place) = Arc::clone(lanes.lane(lane)).acquire_owned().await else {
            // The engine has been taken away meanwhile.
            let why = self.slot.why_away();
            return Err(Error::Away(why.unwrap_or_else(|| "it is being opened anew".to_owned())));
        };
        let job = move || {
            let _place = place;
            job(&engine)
        };
        // sled may panic on damaged pages: that is an error of this call, and of no other.
        let done = tokio::task::spawn_blocking(job).await;
        let done = done.unwrap_or_else(|panic| Err(Error::Damaged(panic.to_string())));
        asked.answered();
        if let Err(error @ (Error::Io(_) | Error::Damaged(_))) = &done {
            self.slot.suspect(error);
        }
        done
    }
}

/// A call that somebody waits for. Where that one gives up before there is an answer, the store may be hanging.
struct Asked<'s> {
    slot: &'s Slot,
    is_answered: bool,
}

impl Asked<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.slot.doubt();
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn nearest(&self, scope: &Scope, query: &UnitVector, k: usize) -> Result<Vec<Match>, Error> {
        let ids = match self.slot.engine()?.nearest_at_hand(scope, query, k) {
            AtHand::Matches(found) => return Ok(found),
            AtHand::Ids(ids) => Some(ids),
            AtHand::Nothing => None,
        };
        let (scope, query) = (*scope, query.clone());
        let search = move |engine: &Arc<Engine>| match ids {
            Some(ids) => engine.read_matches(&scope, &query, &ids, k),
            None => engine.nearest(&scope, &query, k),
        };
        self.run(Lane::Searches, search).await
    }

    async fn load(&self, scope: &Scope, id: &EntryId) -> Result<Option<Entry>, Error> {
        if let Some(entry) = self.slot.engine()?.hot(scope, id) {
            return Ok(Some(entry));
        }
        let (scope, id) = (*scope, *id);
        self.run(Lane::Keyed, move |engine| engine.load(&scope, &id)).await
    }

    async fn put(&self, scope: &Scope, entry: Entry) -> Result<(), Error> {
        let scope = *scope;
        self.run(Lane::Keyed, move |engine| engine.put(&scope, &entry)).await
    }

    async fn remove(&self, scope: &Scope, id: &EntryId) -> Result<bool, Error> {
        let (scope, id) = (*scope, *id);
        self.run(Lane::Keyed, move |engine| engine.remove(&scope, &id)).await
    }

    async fn clear(&self, scope: &Scope) -> Result<u64, Error> {
        let scope = *scope;
        self.run(Lane::Keyed, move |engine| engine.clear(&scope)).await
    }

    async fn walk(&self, walk: Walk) -> Result<Steps, Error> {
        self.run(Lane::Walks, move |engine| engine.walk(&walk)).await
    }

    fn asked(&self, scope: &Scope, id: &EntryId, answered: bool) {
        if let Ok(engine) = self.slot.engine() {
            engine.asked(scope, id, answered);
        }
    }

    fn counters(&self) -> Counters {
        self.slot.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::full_entry;
    use std::sync::mpsc::sync_channel;
    use tokio::time::{sleep, timeout};

    const HERE: Scope = Scope([7; 32]);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_hangs_without_an_error_is_left_and_a_copy_of_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { path: folder.path().join("store"), flush: Duration::ZERO, ..Config::default() };
        let patience = Duration::from_millis(100);
        // A probe of the store that is opened again may take its time on a busy machine.
        let probe = Duration::from_secs(5);
        let tuning = Tuning { retry: patience / 4, probe, ..Tuning::default() };
        let store = Arc::new(Embedded::open_or_wait(config, tuning).unwrap());
        let healed = Arc::clone(&store);
        tokio::spawn(async move { healed.heal().await });
        let one = full_entry();
        store.put(&HERE, one.clone()).await.unwrap();

        // As where sled hangs, one call keeps the lock of all writers, and more wait for it than there are places.
        let (end, ended) = sync_channel::<()>(0);
        let hangs = move |engine: &Arc<Engine>| {
            let _writer = engine.writer()?;
            let _ = ended.recv();
            Ok(())
        };
        timeout(patience, store.run(Lane::Keyed, hangs)).await.unwrap_err();
        let puts: Vec<_> = (0..100)
            .map(|n| {
                let (store, one) = (Arc::clone(&store), Entry { id: EntryId([n; 32]), ..full_entry() });
                tokio::spawn(async move { timeout(patience, store.put(&HERE, one)).await })
            })
            .collect();
        for put in puts {
            assert!(!matches!(put.await.unwrap(), Ok(Ok(()))), "nothing can be written");
        }

        let back = async {
            while store.counters().reopened == 0 {
                sleep(patience / 20).await;
            }
        };
        timeout(Duration::from_mins(1), back).await.expect("it is opened again");
        assert_eq!(store.load(&HERE, &one.id).await.unwrap(), Some(one));
        store.put(&HERE, Entry { id: EntryId([101; 32]), ..full_entry() }).await.unwrap();
        drop(end);
    }
}
