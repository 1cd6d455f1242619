//! What would have been: the requests of a journal, asked again under other settings.
//!
//! It is the pipeline of the sidecar with another upstream (`recorded`: it says what was said then, and invents
//! nothing), another clock (that of the journal) and a memory that begins empty. Requests are asked in the order in
//! which they came, and end when they ended. The same journal and settings give the same report, to the byte.

mod again;
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
use crate::journal::Fault;
use crate::store::Room;
use crate::upstream::prices::Prices;
use again::caller;
use events::{Event, Events, Overview};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
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
    overview: Overview,
}

impl Recordings {
    /// Looks through a journal: a folder, or a file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let files = crate::journal::files(path)?;
        if files.is_empty() {
            return Err(Fault::Nothing(path.to_owned()).into());
        }
        let overview = Overview::of(&files)?;
        Ok(Self { files, overview })
    }

    /// How many requests it holds.
    pub fn requests(&self) -> u64 {
        self.overview.requests
    }

    /// Has `embedder` read what will be looked up, as many texts at once as it likes. `progress` is told how many
    /// requests are done.
    pub async fn read_ahead(&self, setup: Setup, progress: impl Fn(u64)) -> Result<(), Error> {
        /// Enough to keep the encoder busy, and not to fill its queue.
        const AT_ONCE: usize = 64;
        let Some(embedder) = setup.embedder.clone() else { return Ok(()) };
        let mut replay = Replay::new(self, setup);
        let mut waiting = FuturesUnordered::new();
        for (done, event) in Events::of(&self.files, &self.overview).enumerate() {
            let (_, Event::Asked(number, row)) = event? else { continue };
            progress(done as u64 / 2);
            let Some(request) = replay.request(&row) else { continue };
            let Some(text) = replay.pipeline.wording(&caller(&row, &number.to_string()), &request) else {
                continue;
            };
            let embedder = embedder.clone();
            waiting.push(async move { drop(embedder.embed(text).await) });
            if waiting.len() >= AT_ONCE {
                waiting.next().await;
            }
        }
        while waiting.next().await.is_some() {}
        Ok(())
    }

    /// Asks again. `progress` is told how many requests are done. Must be called within a tokio runtime of one
    /// thread: others would not always come to the same.
    pub async fn replay(&self, setup: Setup, progress: impl Fn(u64)) -> Result<Report, Error> {
        let mut replay = Replay::new(self, setup);
        for event in Events::of(&self.files, &self.overview) {
            let (at, event) = event?;
            replay.clock.set(Millis(at / 1000));
            match event {
                Event::Asked(number, row) => {
                    replay.ask(number, &row).await;
                    progress(replay.report.journal.replayed);
                }
                Event::Ended(number, row) => replay.end(number, &row).await,
                Event::Learned(learned) => replay.learn(learned),
                Event::Said(word) => {
                    replay.pipeline.feedback(&word.tenant.as_str().into(), &word.id, word.correct);
                    replay.settle().await;
                }
            }
        }
        replay.finish()
    }
}
