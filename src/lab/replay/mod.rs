//! What would have been: the requests of a journal, asked again under other settings.
//!
//! It is the pipeline of the sidecar with another upstream (`recorded`: it says what was said then, and invents
//! nothing), another clock (that of the journal) and a memory that begins empty. Requests are asked in the order in
//! which they came, and end when they ended. The same journal and settings give the same report, to the byte.

mod again;
mod ahead;
mod compare;
pub mod embeddings;
mod events;
mod lessons;
mod page;
mod recorded;
mod run;
mod tally;

pub use again::request;
pub use page::sweep;
pub(super) use page::{percent, time, whole};
pub use tally::{
    Aging, Change, Decisions, Interval, Lanes, Near, ProjectTally, Recording, Report, Saved, Slice, Unknown,
    Wrong,
};

use crate::cache;
use crate::clock::Millis;
use crate::embed::Embedder;
use crate::intent::Live;
use crate::journal::{Fault, Keys};
use crate::store::Room;
use crate::upstream::prices::Prices;
use ahead::Step;
use events::Overview;
use run::Replay;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Under which settings is asked again.
pub struct Setup {
    /// The cache's. Where it has no seed, the journal's counts.
    pub cache: cache::Config,
    /// The rules.
    pub rules: Live,
    /// From text to vectors, where there is a model.
    pub embedder: Option<Embedder>,
    /// How much memory holds.
    pub room: Room,
    /// What the upstreams cost.
    pub prices: Arc<Prices>,
}

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] Fault),
    /// It holds nothing that can be asked again.
    #[error(
        "the journal holds no request that can be asked again{}",
        if *.hashes { ": it was written with journal.content = \"hashes\"" } else { "" }
    )]
    Nothing {
        /// Only digests were written.
        hashes: bool,
    },
}

/// A journal that has been looked through once.
pub struct Recordings {
    files: Vec<PathBuf>,
    keys: Keys,
    overview: Overview,
}

impl Recordings {
    /// Looks through a journal: a folder, or a file. What is sealed is opened with one of `keys`.
    pub fn open(path: &Path, keys: &Keys) -> Result<Self, Error> {
        let files = crate::journal::files(path)?;
        let overview = Overview::of(&files, keys)?;
        Ok(Self { files, keys: keys.clone(), overview })
    }

    /// How many requests it holds.
    pub fn requests(&self) -> u64 {
        self.overview.requests
    }

    /// Has the encoder read what will be looked up, where several runs are about to ask for it. `progress` is told how
    /// many requests are done. Must be called within a tokio runtime.
    pub async fn read_ahead(&self, setup: Setup, progress: impl Fn(u64)) -> Result<(), Error> {
        let mut ahead = Replay::new(self, setup).ahead();
        let mut done = 0;
        while let Some(step) = ahead.next().await {
            if let (_, Step::Asked(..)) = step? {
                done += 1;
                progress(done);
            }
        }
        Ok(())
    }

    /// Asks again. `progress` is told how many requests are done. Must be called within a tokio runtime of one
    /// thread: others would not always come to the same.
    pub async fn replay(&self, setup: Setup, progress: impl Fn(u64)) -> Result<Report, Error> {
        let mut replay = Replay::new(self, setup);
        let mut ahead = replay.ahead();
        while let Some(step) = ahead.next().await {
            let (at, step) = step?;
            replay.clock.set(Millis(at / 1000));
            match step {
                Step::Asked(number, row, asked) => {
                    replay.ask(number, &row, asked).await;
                    progress(replay.report.journal.replayed);
                }
                Step::Ended(number, row) => replay.end(number, &row).await,
                Step::Learned(learned) => replay.learn(learned),
                Step::Said(word) => {
                    replay.pipeline.feedback(&word.tenant.as_str().into(), &word.id, word.correct);
                    replay.settle().await;
                }
            }
        }
        replay.finish()
    }
}
