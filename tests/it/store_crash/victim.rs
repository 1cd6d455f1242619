//! The process that is killed. It tells on its standard output what is in the store, and what has been done to it.
//!
//! ```text
//! has TEXT           an entry that it found when it opened the store
//! ready              that was all of them
//! ack LANE COUNT     so many operations of the lane have returned
//! flushed COUNT …    so many of each lane are on disk
//! wrong WHAT         the store does not do as it should
//! compacted          it has been written anew
//! closed             it ended in order
//! ```

use super::load::{EXPIRING, Held, IDS, LANES, Operation, Operations, entry, id, scope, told, vector};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use weir::clock::Millis;
use weir::store::embedded::{Config, Embedded, Tuning};
use weir::store::{Entry, Store as _, Walk};

/// What it is to do.
pub(super) struct Orders {
    pub(super) folder: PathBuf,
    pub(super) flush: Duration,
    pub(super) seed: u64,
    pub(super) round: u64,
    /// So many operations of each lane, and then it ends in order; `u64::MAX` where it is to be killed.
    pub(super) operations: u64,
}

pub(super) const ORDERS: &str = "WEIR_CRASH_ORDERS";

impl Orders {
    pub(super) fn to_text(&self) -> String {
        let Self { folder, flush, seed, round, operations } = self;
        format!("{} {seed} {round} {operations} {}", flush.as_millis(), folder.display())
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ' ');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (flush, seed, round, operations) = (number()?, number()?, number()?, number()?);
        let flush = Duration::from_millis(flush);
        Some(Self { folder: PathBuf::from(parts.next()?), flush, seed, round, operations })
    }
}

/// One line in one write, so that a kill leaves whole lines only.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

fn wrong(what: &str) -> ! {
    say(&format!("wrong {what}"));
    std::process::exit(1);
}

pub(super) async fn work(orders: Orders) {
    let config = Config { path: orders.folder.clone(), flush: orders.flush, ..Config::default() };
    // Graphs for everything, so that they are stored and met again as well, and many files of values.
    let tuning = Tuning { graph_from: 8, values_file: 8 << 10, ..Tuning::default() };
    let (store, recovery) =
        Embedded::open_tuned(config, tuning).unwrap_or_else(|error| wrong(&error.to_string()));
    if recovery.damaged > 0 || recovery.set_aside.is_some() {
        wrong(&format!("a crash has damaged something: {recovery:?}"));
    }
    let store = Arc::new(store);
    let held = dumped(&store).await;
    say("ready");
    let counts: Arc<[AtomicU64; LANES as usize]> = Arc::default();
    let lanes: Vec<_> = held
        .into_iter()
        .zip(0..)
        .map(|(held, lane)| {
            let operations = Operations::new(orders.seed, orders.round, lane);
            let operations = operations.take(usize::try_from(orders.operations).unwrap_or(usize::MAX));
            tokio::spawn(works(Arc::clone(&store), lane, held, operations, Arc::clone(&counts)))
        })
        .collect();
    let flushes = tokio::spawn(flushes(Arc::clone(&store), counts));
    // Every other round it is written anew all the time, in others what is gone is given back.
    if orders.round.is_multiple_of(2) {
        tokio::spawn(compacts(Arc::clone(&store)));
    } else if orders.round.is_multiple_of(3) {
        tokio::spawn(reclaims(Arc::clone(&store)));
    }
    for lane in lanes {
        if lane.await.is_err() {
            wrong("a panic");
        }
    }
    flushes.abort();
    match store.close().await {
        Ok(()) => say("closed"),
        Err(error) => wrong(&error.to_string()),
    }
}

/// Tells all that is there, by every way there is to find it.
async fn dumped(store: &Embedded) -> Vec<Held> {
    let mut held = vec![Held::new(); LANES.into()];
    let mut walk = Walk { most: 50, ..Walk::default() };
    loop {
        let steps = store.walk(walk.clone()).await.unwrap_or_else(|error| wrong(&error.to_string()));
        for seen in steps.seen {
            let Some((lane, n, version)) = told(&seen.entry.text) else { wrong("a text never written") };
            if seen.scope != scope(lane) || seen.entry != entry(lane, n, &version) {
                wrong(&format!("not what was written: {}", seen.entry.text));
            }
            if held[usize::from(lane)].insert(n, version).is_some() {
                wrong("met twice in one walk");
            }
            say(&format!("has {}", seen.entry.text));
        }
        match steps.next {
            Some(next) => walk.after = Some(next),
            None => break,
        }
    }
    for (held, lane) in held.iter().zip(0..) {
        for n in 0..IDS {
            loads(store, lane, n, held).await;
        }
        finds(store, lane, 3, held).await;
    }
    held
}

async fn loads(store: &Embedded, lane: u8, n: u8, held: &Held) {
    let loaded = store.load(&scope(lane), &id(n)).await.unwrap_or_else(|error| wrong(&error.to_string()));
    let expected = held.get(&n).map(|version| entry(lane, n, version));
    if loaded != expected {
        let text = |entry: Option<Entry>| entry.map(|entry| entry.text);
        wrong(&format!("loaded {:?} in place of {:?}", text(loaded), text(expected)));
    }
}

/// Whether a search names what has a vector, all of it and nothing else.
async fn finds(store: &Embedded, lane: u8, towards: u8, held: &Held) {
    let query = vector(towards, 0).unwrap_or_else(|| wrong("no direction"));
    let found = store.nearest(&scope(lane), &query, usize::from(IDS) + 1).await;
    let mut found = found.unwrap_or_else(|error| wrong(&error.to_string()));
    found.sort_by_key(|found| found.entry.id);
    let expected: Vec<Entry> = held
        .iter()
        .filter(|(_, version)| version.has_vector)
        .map(|(n, version)| entry(lane, *n, version))
        .collect();
    if found.iter().map(|found| &*found.entry).ne(&expected) {
        let ids: Vec<u8> = found.iter().map(|found| found.entry.id.0[0]).collect();
        wrong(&format!("found {ids:?} of {:?} in lane {lane}", held.keys()));
    }
}

async fn works(
    store: Arc<Embedded>,
    lane: u8,
    mut held: Held,
    operations: impl Iterator<Item = Operation>,
    counts: Arc<[AtomicU64; LANES as usize]>,
) {
    for (operation, count) in operations.zip(1..) {
        let done = perform(&store, lane, &operation, &mut held).await;
        if let Err(error) = done {
            wrong(&format!("{operation:?}: {error}"));
        }
        counts[usize::from(lane)].store(count, Ordering::SeqCst);
        say(&format!("ack {lane} {count}"));
    }
}

async fn perform(
    store: &Embedded,
    lane: u8,
    operation: &Operation,
    held: &mut Held,
) -> Result<(), weir::store::Error> {
    let scope = scope(lane);
    let before = held.clone();
    let changed = operation.apply(held);
    match *operation {
        Operation::Put(n, version) => store.put(&scope, entry(lane, n, &version)).await?,
        Operation::Remove(n) => {
            if store.remove(&scope, &id(n)).await? != before.contains_key(&n) {
                wrong("what was removed had not been there, or the other way about");
            }
        }
        Operation::Load(n) => loads(store, lane, n, held).await,
        Operation::Nearest(n) => finds(store, lane, n, held).await,
        Operation::Pin(n) => {
            if let Some(entry) = store.load(&scope, &id(n)).await? {
                store.put(&scope, Entry { pinned: true, text: pinned(&entry.text), ..entry }).await?;
            }
        }
        // As `cache` does it: one after the other.
        Operation::ClearTag(_) => {
            for n in changed {
                store.remove(&scope, &id(n)).await?;
            }
        }
        Operation::Clear => {
            if store.clear(&scope).await? != before.len() as u64 {
                wrong("another number was cleared than there was");
            }
        }
        Operation::Sweep(now) => {
            assert_eq!(lane, EXPIRING);
            if store.sweep(Millis(now)).await? != changed.len() as u64 {
                wrong("another number was swept than was due");
            }
        }
    }
    Ok(())
}

/// What the text of the entry is when it is pinned.
fn pinned(text: &str) -> String {
    let Some((lane, n, version)) = told(text) else { wrong("a text never written") };
    entry(lane, n, &super::load::Version { pinned: true, ..version }).text
}

/// Writes the store anew, again and again.
async fn compacts(store: Arc<Embedded>) {
    loop {
        match store.compact().await {
            Ok(_) => say("compacted"),
            // It is being closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Gives back what values take that are gone, again and again.
async fn reclaims(store: Arc<Embedded>) {
    loop {
        let _ = store.reclaim().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Flushes now and then, and tells up to where.
async fn flushes(store: Arc<Embedded>, counts: Arc<[AtomicU64; LANES as usize]>) {
    loop {
        tokio::time::sleep(Duration::from_millis(7)).await;
        let before: Vec<String> =
            counts.iter().map(|count| count.load(Ordering::SeqCst).to_string()).collect();
        if store.flush().await.is_ok() {
            say(&format!("flushed {}", before.join(" ")));
        }
    }
}
