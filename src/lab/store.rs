//! How fast the embedded store is, how well it finds what is near, and what it takes: on vectors in clusters, as
//! those of sentences are.

use crate::chat::Reply;
use crate::clock::Millis;
use crate::store::embedded::upkeep::folder_size;
use crate::store::embedded::{Config, Embedded};
use crate::store::{About, Entry, EntryId, Error, Scope, Store as _};
use crate::vector::UnitVector;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// As many numbers as all-MiniLM-L6-v2 gives.
const DIMENSIONS: usize = 384;
/// Sentences in a cluster, in the mean.
const CLUSTER: usize = 200;
/// How far a sentence is from the middle of its cluster, and how far another wording is from it: a cosine of about
/// 0.78 and 0.91.
const SPREAD: f32 = 0.8;
const REWORDED: f32 = 0.45;
/// Searches that are measured.
const SEARCHES: usize = 300;
/// Looked at before what is there is believed to be all that will be built.
const PAUSE: Duration = Duration::from_millis(20);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many entries.
    pub entries: usize,
    /// In how many scopes.
    pub scopes: usize,
    /// Entries put a second, one after the other.
    pub inserts_per_second: f64,
    /// From the last one put until all graphs were made, in seconds.
    pub graphs_seconds: f64,
    /// A search at the median, in milliseconds, the answer included.
    pub search_p50_ms: f64,
    /// The same, all but one in a hundred.
    pub search_p99_ms: f64,
    /// The share of searches that named the very nearest.
    pub recall: f64,
    /// What the indexes take in memory, for each entry that is in one.
    pub memory_per_entry: f64,
    /// What the files take, for each entry.
    pub disk_per_entry: f64,
    /// Of that, what the entries themselves take.
    pub live_per_entry: f64,
    /// Opening it after an orderly end, in milliseconds.
    pub open_clean_ms: f64,
    /// Opening it after an end without any notice, all flushed, in milliseconds.
    pub open_unclean_ms: f64,
    /// The first search after that in milliseconds. Of a large scope it sees what has been read by then.
    pub first_search_ms: f64,
    /// From then on until all of the scope has been read, in seconds.
    pub filled_seconds: f64,
}

/// Fills a store in an empty folder, and measures it. Calls `say` with what it is about to do.
pub async fn measure(
    folder: &Path,
    entries: usize,
    scopes: usize,
    mut say: impl FnMut(&str),
) -> Result<Report, Error> {
    say("making vectors");
    let vectors = clustered(&mut StdRng::seed_from_u64(7), entries);
    let config = unbounded(folder);
    let (store, _) = Embedded::open(config.clone())?;
    // So that the indexes are there while they are filled, as they are in a sidecar.
    for nth in 0..scopes {
        store.nearest(&scope(nth), &vectors[0], 1).await?;
    }

    say("inserting");
    let began = Instant::now();
    for (nth, vector) in vectors.iter().enumerate() {
        store.put(&scope(nth % scopes), entry(nth, vector.clone())).await?;
    }
    store.flush().await?;
    let inserted = began.elapsed();
    say("waiting for graphs");
    let began = Instant::now();
    settled(&store).await;
    let graphs = began.elapsed();

    say("searching");
    let (times, recall) = searches(&store, &vectors, scopes).await?;
    let counters = store.counters();
    let live = counters.bytes;
    let memory = counters.index.bytes;
    store.flush().await?;
    let disk = folder_size(folder);

    say("opening");
    // Dropped without a word: for the next start as if it had been killed, but that all is flushed.
    drop(store);
    let (store, open_unclean) = opened(&config)?;
    let began = Instant::now();
    store.nearest(&scope(0), &vectors[0], 1).await?;
    let first_search = began.elapsed();
    settled(&store).await;
    let filled = began.elapsed();
    store.close().await?;
    drop(store);
    let (store, open_clean) = opened(&config)?;
    store.close().await?;

    let each = entries.max(1) as f64;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Report {
        entries,
        scopes,
        inserts_per_second: each / inserted.as_secs_f64(),
        graphs_seconds: graphs.as_secs_f64(),
        search_p50_ms: milliseconds(times[times.len() / 2]),
        search_p99_ms: milliseconds(times[times.len() * 99 / 100]),
        recall,
        memory_per_entry: memory as f64 / each,
        disk_per_entry: disk as f64 / each,
        live_per_entry: live as f64 / each,
        open_clean_ms: milliseconds(open_clean),
        open_unclean_ms: milliseconds(open_unclean),
        first_search_ms: milliseconds(first_search),
        filled_seconds: filled.as_secs_f64(),
    })
}

/// Opens a store that was measured and writes its entries over, without an end: until the process is killed. Calls
/// `writing` when it is in the middle of it.
pub async fn write_over(
    folder: &Path,
    entries: usize,
    scopes: usize,
    mut writing: impl FnMut(),
) -> Result<(), Error> {
    /// Puts by when it is in the middle of it.
    const BEGUN: usize = 2000;
    let (store, _) = Embedded::open(unbounded(folder))?;
    let mut random = StdRng::seed_from_u64(9);
    for count in 1.. {
        let nth = random.random_range(0..entries);
        store.put(&scope(nth % scopes), entry(nth, unit(&mut random))).await?;
        if count == BEGUN {
            writing();
        }
    }
    Ok(())
}

/// Opens a store whose process was killed, and says how many milliseconds that took.
pub fn open_killed(folder: &Path) -> Result<f64, Error> {
    let (_, recovery) = Embedded::open(unbounded(folder))?;
    if recovery.clean {
        return Err(Error::Io("it had ended in order".to_owned()));
    }
    Ok(recovery.took.as_secs_f64() * 1e3)
}

fn unbounded(folder: &Path) -> Config {
    Config {
        path: folder.to_path_buf(),
        max_entries: u64::MAX,
        max_bytes: u64::MAX,
        index_bytes: usize::MAX / 2,
        ..Config::default()
    }
}

/// Waits until all has been read and all graphs have been made.
async fn settled(store: &Embedded) {
    while store.counters().index.building > 0 {
        tokio::time::sleep(PAUSE).await;
    }
}

/// How long searches take, in order, and how many name the very nearest, by looking at all.
async fn searches(
    store: &Embedded,
    vectors: &[UnitVector],
    scopes: usize,
) -> Result<(Vec<Duration>, f64), Error> {
    let mut random = StdRng::seed_from_u64(8);
    let mut ask = || {
        let asked = random.random_range(0..vectors.len());
        (asked % scopes, reworded(&mut random, &vectors[asked]))
    };
    let queries: Vec<(usize, UnitVector)> = (0..SEARCHES).map(|_| ask()).collect();
    let (mut times, mut named) = (Vec::with_capacity(SEARCHES), Vec::with_capacity(SEARCHES));
    for (home, query) in &queries {
        let began = Instant::now();
        let found = store.nearest(&scope(*home), query, 1).await?;
        times.push(began.elapsed());
        named.push(found.first().map(|found| found.entry.id));
    }
    times.sort_unstable();
    // Afterwards: looking at all of them leaves nothing of the index in the processor's caches.
    let nearest = |(home, query): &(usize, UnitVector)| {
        let there = (*home..vectors.len()).step_by(scopes);
        there.max_by(|a, b| query.cosine(&vectors[*a]).total_cmp(&query.cosine(&vectors[*b]))).map(id)
    };
    let right = queries.iter().zip(named).filter(|(query, named)| nearest(query) == *named).count();
    Ok((times, right as f64 / SEARCHES as f64))
}

/// Opens the store, and says how long it took: also until the last one had let go of its files.
fn opened(config: &Config) -> Result<(Embedded, Duration), Error> {
    let (store, recovery) = Embedded::open(config.clone())?;
    Ok((store, recovery.took))
}

/// So many vectors in clusters, as those of sentences are.
pub fn clustered(random: &mut StdRng, count: usize) -> Vec<UnitVector> {
    let middles: Vec<UnitVector> = (0..(count / CLUSTER).max(8)).map(|_| unit(random)).collect();
    let one = |random: &mut StdRng| {
        let middle = &middles[random.random_range(0..middles.len())];
        near(random, middle, SPREAD)
    };
    (0..count).map(|_| one(random)).collect()
}

/// A vector near one of these, as that of the same question in other words is.
pub fn reworded(random: &mut StdRng, of: &UnitVector) -> UnitVector {
    near(random, of, REWORDED)
}

fn near(random: &mut StdRng, middle: &UnitVector, spread: f32) -> UnitVector {
    let noise = unit(random);
    let sum = middle.as_slice().iter().zip(noise.as_slice()).map(|(a, b)| a + spread * b);
    UnitVector::new(sum.collect()).unwrap_or(noise)
}

/// In any direction.
fn unit(random: &mut StdRng) -> UnitVector {
    loop {
        // About normally distributed: the sum of some even ones.
        let mut number = || (0..4).map(|_| random.random::<f32>() - 0.5).sum::<f32>();
        if let Ok(unit) = UnitVector::new((0..DIMENSIONS).map(|_| number()).collect()) {
            return unit;
        }
    }
}

fn scope(nth: usize) -> Scope {
    Scope(digest(nth))
}

fn id(nth: usize) -> EntryId {
    EntryId(digest(nth))
}

/// As evenly spread as real ones.
fn digest(nth: usize) -> [u8; 32] {
    let mut random = StdRng::seed_from_u64(nth as u64);
    std::array::from_fn(|_| random.random())
}

fn entry(nth: usize, vector: UnitVector) -> Entry {
    Entry {
        id: id(nth),
        text: format!("What is said about item {nth} of the list?"),
        vector: Some(vector),
        reply: Reply::text("a-model", format!("Item {nth} is {}. It is as good as any other.", nth * 7919)),
        upstream: "primary".to_owned(),
        created: Millis(nth as u64),
        expires: None,
        stale_until: None,
        about: About::default(),
        pinned: false,
    }
}
