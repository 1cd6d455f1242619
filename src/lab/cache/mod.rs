//! How well the cache decides, on labelled questions: through the real pipeline, next to what others do.
//!
//! [`drive`] asks a [`Sidecar`](drive::Sidecar) the questions one by one, in this process or over HTTP, and
//! [`tally`] counts. [`offline`] runs other policies ([`vcache`], fixed thresholds) over the same questions and
//! vectors. [`report`] puts them into one table.

pub mod answers;
pub mod data;
pub mod decisions;
pub mod drive;
pub mod encoder;
pub mod offline;
pub mod order;
mod references;
pub mod report;
pub mod tally;
pub mod vcache;

pub use references::{Ours, pair_references, references};

use crate::cache::{self, Cache};
use crate::clock::SystemClock;
use crate::embed::Embedder;
use crate::intent::Live;
use crate::limits::{self, Limiter};
use crate::pipeline::{Checked, Flights, Learner, Pipeline, RecentAnswers, Refresher, Trails};
use crate::store::memory::Memory;
use crate::upstream::Upstream;
use answers::{Answers, Labelled, answer};
use data::{Line, Pair};
use std::sync::Arc;

/// What a question is called, and its answer.
type Answered = Vec<(String, String)>;

/// The answers to all questions of a stream.
pub fn answers_to_stream(kind: Answers, lines: &[Line]) -> Answered {
    lines.iter().map(|line| (line.id.clone(), answer(kind, &line.id, &line.answer_class))).collect()
}

/// The answers to both questions of all pairs.
pub fn answers_to_pairs(kind: Answers, pairs: &[Pair]) -> Answered {
    let both = |pair: &Pair| {
        let (a, b) = (drive::name_of_a(pair), drive::name_of_b(pair));
        let class_of_b = if pair.same_answer { &a } else { &b };
        [(a.clone(), answer(kind, &a, &a)), (b.clone(), answer(kind, &b, class_of_b))]
    };
    pairs.iter().flat_map(both).collect()
}

/// A pipeline with an empty memory, in front of an upstream that knows `answers`. Must be called within a tokio
/// runtime.
pub fn pipeline(config: cache::Config, embedder: &Embedder, answers: Answered) -> Pipeline {
    pipeline_before(config, Some(embedder), Arc::new(Labelled::new(answers)))
}

/// A pipeline with an empty memory, in front of `upstream`. Must be called within a tokio runtime.
pub fn pipeline_before(
    config: cache::Config,
    embedder: Option<&Embedder>,
    upstream: Arc<dyn Upstream>,
) -> Pipeline {
    let clock = Arc::new(SystemClock);
    // The same hits are checked in each run.
    let bound = cache::bound::Config { seed: Some(config.bound.seed.unwrap_or(1)), ..config.bound };
    let config = cache::Config { bound, ..config };
    let cache = Arc::new(Cache::new(config, Arc::new(Memory::default()), Arc::clone(&clock) as _));
    let nobody = Arc::new(|_: &Checked| ());
    let learner = Learner::spawn(Arc::clone(&cache), embedder.cloned(), Arc::clone(&upstream), nobody);
    Pipeline {
        limiter: Limiter::new(limits::Config::default()),
        rules: Live::default(),
        cache,
        embedder: embedder.cloned(),
        namer: None,
        upstream,
        flights: Flights::default(),
        learner,
        recent: RecentAnswers::default(),
        scribe: None,
        trails: Trails::default(),
        refresher: Refresher::default(),
        clock,
        observer: Arc::new(|_| ()),
    }
}
