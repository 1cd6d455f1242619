//! The embedded store under a load that never ends: written over, expired, removed, new. Whether its memory stays flat
//! and its files small is seen after minutes only.

use crate::chat::Reply;
use crate::clock::Millis;
use crate::store::embedded::upkeep::folder_size;
use crate::store::embedded::{Config, Embedded, Tuning};
use crate::store::{About, Entry, EntryId, Error, Scope, Store as _};
use crate::vector::UnitVector;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As many numbers as all-MiniLM-L6-v2 gives.
const DIMENSIONS: usize = 384;
const SCOPES: u64 = 50;
/// The ids that are in use, for each entry that there is room for: more, so that some are evicted.
const IDS: f64 = 1.2;
/// Operations between two looks at the clock.
const BURST: u32 = 20;
/// Entries that expire do so within this time.
const LIVES: Duration = Duration::from_mins(2);
const SWEEP: Duration = Duration::from_secs(5);
/// Between two looks at what the files take.
const LOOK: Duration = Duration::from_secs(1);

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For so long.
    pub time: Duration,
    /// Between two lines.
    pub every: Duration,
    /// The most entries.
    pub entries: u64,
    /// Operations a second.
    pub rate: u32,
}

/// How things are at some time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// Since the beginning, in seconds.
    pub seconds: u64,
    /// Operations a second since the last sample.
    pub operations: f64,
    /// Entries.
    pub entries: u64,
    /// What they take, in bytes.
    pub live: u64,
    /// What the files take, all of them.
    pub files: u64,
    /// The most times of what lives that the files took since the last sample, looked at each second.
    pub most_times: f64,
    /// What the process takes in memory; zero where that cannot be told.
    pub resident: u64,
    /// What the indexes take of that.
    pub index: u64,
    /// How often the store has been written anew.
    pub compacted: u64,
    /// Puts since the last sample, all but one in a hundred, in milliseconds.
    pub put_p99_ms: f64,
    /// The longest of these.
    pub put_max_ms: f64,
}

/// Keeps the store in an empty folder busy, and hands over how it is from time to time.
pub async fn churn(folder: &Path, plan: Plan, mut tell: impl FnMut(&Sample)) -> Result<Vec<Sample>, Error> {
    let config = Config { path: folder.to_path_buf(), max_entries: plan.entries, ..Config::default() };
    let (store, _) = Embedded::open_tuned(config, Tuning::default())?;
    let store = Arc::new(store);
    let tended = Arc::clone(&store);
    let tending = tokio::spawn(async move { tended.stay_small().await });
    let mut load = Load::new(&plan);
    let mut samples = Vec::new();
    let began = Instant::now();
    while began.elapsed() < plan.time {
        load.burst(&store, began.elapsed()).await?;
        load.look(&store, folder, began.elapsed());
        load.wait(began, plan.rate).await;
        if began.elapsed() >= plan.every * (samples.len() as u32 + 1) {
            let sample = load.sample(&store, folder, began.elapsed());
            tell(&sample);
            samples.push(sample);
        }
    }
    tending.abort();
    store.close().await?;
    Ok(samples)
}

/// A table of the samples, and bars of what the files take of what lives in them.
pub fn table(samples: &[Sample]) -> String {
    let mut table = String::from(
        "    min   op/s  entries  live MB  files MB  times, most  memory MB  anew  put p99, max ms\n",
    );
    for sample in samples {
        let Sample {
            seconds,
            operations,
            entries,
            live,
            files,
            most_times,
            resident,
            compacted,
            put_p99_ms,
            put_max_ms,
            ..
        } = sample;
        let (times, megabytes) = (*files as f64 / (*live).max(1) as f64, |bytes: u64| bytes as f64 / 1e6);
        let _ = writeln!(
            table,
            "{:>7.1} {operations:>6.0} {entries:>8} {:>8.1} {:>9.1} {times:>6.2} {most_times:>5.2} {:>10.1} {compacted:>5} {put_p99_ms:>8.1} {put_max_ms:>7.0}  {}",
            *seconds as f64 / 60.0,
            megabytes(*live),
            megabytes(*files),
            megabytes(*resident),
            "#".repeat((times * 10.0).round() as usize)
        );
    }
    table
}

struct Load {
    random: StdRng,
    ids: u64,
    done: u64,
    swept: Duration,
    looked: Duration,
    most_times: f64,
    /// When the last sample was taken, and how much was done by then.
    last: (Duration, u64),
    puts: Vec<Duration>,
}

impl Load {
    fn new(plan: &Plan) -> Self {
        let ids = (plan.entries as f64 * IDS) as u64;
        Self {
            random: StdRng::seed_from_u64(11),
            ids,
            done: 0,
            swept: Duration::ZERO,
            looked: Duration::ZERO,
            most_times: 0.0,
            last: Default::default(),
            puts: Vec::new(),
        }
    }

    async fn burst(&mut self, store: &Embedded, now: Duration) -> Result<(), Error> {
        for _ in 0..BURST {
            self.one(store, now).await?;
            self.done += 1;
        }
        if now > self.swept + SWEEP {
            self.swept = now;
            store.sweep(millis(now)).await?;
        }
        Ok(())
    }

    async fn one(&mut self, store: &Embedded, now: Duration) -> Result<(), Error> {
        let nth = self.random.random_range(0..self.ids);
        let (scope, id) = (Scope(digest(nth % SCOPES)), EntryId(digest(nth)));
        match self.random.random_range(0..100) {
            0..60 => {
                let entry = self.entry(id, now);
                // It is asked for, so that it has its place among the others.
                store.asked(&scope, &id, false);
                let began = Instant::now();
                store.put(&scope, entry).await?;
                self.puts.push(began.elapsed());
            }
            60..65 => drop(store.remove(&scope, &id).await?),
            65..90 => drop(store.load(&scope, &id).await?),
            _ => drop(store.nearest(&scope, &self.vector(), 1).await?),
        }
        Ok(())
    }

    fn entry(&mut self, id: EntryId, now: Duration) -> Entry {
        let words = self.random.random_range(20..250);
        let expires = self.random.random_bool(0.3).then(|| {
            let lives = LIVES.mul_f64(self.random.random_range(0.1..1.0));
            millis(now + lives)
        });
        Entry {
            id,
            text: self.words(12),
            vector: Some(self.vector()),
            reply: Reply::text("a-model", self.words(words)),
            upstream: "primary".to_owned(),
            created: millis(now),
            expires,
            stale_until: None,
            about: About::default(),
            pinned: false,
        }
    }

    /// Words as often as in a language: a few are most of them.
    fn words(&mut self, count: u32) -> String {
        let mut text = String::new();
        for _ in 0..count {
            let which = (2000.0 * self.random.random::<f64>().powi(3)) as u64;
            let letters = digest(which);
            text.extend(
                letters.iter().take(2 + which as usize % 8).map(|letter| char::from(b'a' + letter % 26)),
            );
            text.push(' ');
        }
        text
    }

    fn vector(&mut self) -> UnitVector {
        loop {
            let numbers = (0..DIMENSIONS).map(|_| self.random.random::<f32>() - 0.5).collect();
            if let Ok(vector) = UnitVector::new(numbers) {
                return vector;
            }
        }
    }

    /// Until as much time has passed as what was done is to take.
    async fn wait(&self, began: Instant, rate: u32) {
        let due = Duration::from_secs_f64(self.done as f64 / f64::from(rate.max(1)));
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
    }

    fn look(&mut self, store: &Embedded, folder: &Path, now: Duration) {
        if now > self.looked + LOOK {
            self.looked = now;
            let live = store.counters().bytes.max(1);
            self.most_times = self.most_times.max(folder_size(folder) as f64 / live as f64);
        }
    }

    fn sample(&mut self, store: &Embedded, folder: &Path, now: Duration) -> Sample {
        let counters = store.counters();
        let (then, done) = std::mem::replace(&mut self.last, (now, self.done));
        let mut puts = std::mem::take(&mut self.puts);
        puts.sort_unstable();
        let milliseconds = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        Sample {
            seconds: now.as_secs(),
            operations: (self.done - done) as f64 / now.saturating_sub(then).as_secs_f64(),
            entries: counters.entries,
            live: counters.bytes,
            files: folder_size(folder),
            most_times: std::mem::take(&mut self.most_times),
            resident: resident(),
            index: counters.index.bytes as u64,
            compacted: counters.compacted,
            put_p99_ms: milliseconds(puts.get(puts.len() * 99 / 100)),
            put_max_ms: milliseconds(puts.last()),
        }
    }
}

fn millis(time: Duration) -> Millis {
    Millis(time.as_millis() as u64)
}

/// As evenly spread as real ones.
fn digest(nth: u64) -> [u8; 32] {
    let mut random = StdRng::seed_from_u64(nth);
    std::array::from_fn(|_| random.random())
}

/// What the process takes in memory, as Linux tells it: in pages of four kilobytes nearly everywhere.
fn resident() -> u64 {
    let told = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    told.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_second_of_it_is_sampled_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let (second, fifth) = (Duration::from_secs(1), Duration::from_millis(200));
        let plan = Plan { time: second, every: fifth, entries: 50, rate: 400 };
        let samples = churn(&folder.path().join("store"), plan, |_| {}).await.unwrap();
        let last = samples.last().unwrap();
        assert!(last.entries > 5 && last.entries <= 50 && last.live > 0 && last.files > 0, "{last:?}");
        assert_eq!(table(&samples).lines().count(), samples.len() + 1);
    }
}
