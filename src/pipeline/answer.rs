//! [`Answer`]: where it comes from, and its chunks.

use super::flight::{Begun, Follower};
use super::record::{Recorded, Recorder};
use crate::cache::{Freshness, Hit, Miss, NotKept};
use crate::chat::{Reply, unfold};
use crate::limits::Permit;
use crate::upstream::{self, Chunks, Origin};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Where an answer comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "source")]
pub enum Source {
    /// A rule.
    Rule {
        /// Its name.
        rule: String,
    },
    /// Memory: the very same question.
    Exact {
        /// The name of the entry.
        id: String,
        /// How old the answer is.
        age: Duration,
        /// How much of its time is left.
        freshness: Freshness,
        /// Who once gave it.
        upstream: String,
    },
    /// Memory: a question that means the same.
    Semantic {
        /// The name of the entry.
        id: String,
        /// How old the answer is.
        age: Duration,
        /// How much of its time is left.
        freshness: Freshness,
        /// The cosine to the question it was given to.
        similarity: f32,
        /// Who once gave it.
        upstream: String,
    },
    /// A provider.
    Upstream {
        /// Its name.
        upstream: String,
        /// Why memory had no answer.
        miss: Miss,
    },
    /// The local model.
    Local {
        /// Its name.
        upstream: String,
        /// Why memory had no answer.
        miss: Miss,
    },
}

impl Source {
    /// Memory, by the very same question.
    pub(super) fn exact(hit: Hit) -> (Self, Arc<Reply>) {
        let Hit { id, reply, upstream, age, similarity: _, freshness } = hit;
        (Self::Exact { id, age, freshness, upstream }, reply)
    }

    /// Memory, by a question that means the same.
    pub(super) fn semantic(hit: Hit) -> (Self, Arc<Reply>) {
        let Hit { id, reply, upstream, age, similarity, freshness } = hit;
        (Self::Semantic { id, age, freshness, similarity, upstream }, reply)
    }

    /// Its stable name, as in `x-weir-source`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rule { .. } => "rule",
            Self::Exact { .. } => "exact",
            Self::Semantic { .. } => "semantic",
            Self::Upstream { .. } => "upstream",
            Self::Local { .. } => "local",
        }
    }

    /// Who gave the answer, now or once; a rule has nobody.
    pub fn upstream(&self) -> Option<&str> {
        match self {
            Self::Rule { .. } => None,
            Self::Exact { upstream, .. }
            | Self::Semantic { upstream, .. }
            | Self::Upstream { upstream, .. }
            | Self::Local { upstream, .. } => Some(upstream),
        }
    }

    /// How old the answer is, where it comes from memory.
    pub fn age(&self) -> Option<Duration> {
        match self {
            Self::Exact { age, .. } | Self::Semantic { age, .. } => Some(*age),
            Self::Rule { .. } | Self::Upstream { .. } | Self::Local { .. } => None,
        }
    }

    /// How much of the answer's time is left, where it comes from memory.
    pub fn freshness(&self) -> Option<Freshness> {
        match self {
            Self::Exact { freshness, .. } | Self::Semantic { freshness, .. } => Some(*freshness),
            Self::Rule { .. } | Self::Upstream { .. } | Self::Local { .. } => None,
        }
    }

    /// Whether it comes from memory, and its time is over.
    pub fn is_stale(&self) -> bool {
        self.freshness().is_some_and(Freshness::is_stale)
    }

    /// The name of the entry, where it comes from memory.
    pub fn entry(&self) -> Option<&str> {
        match self {
            Self::Exact { id, .. } | Self::Semantic { id, .. } => Some(id),
            Self::Rule { .. } | Self::Upstream { .. } | Self::Local { .. } => None,
        }
    }

    /// Whether somebody answers it now.
    pub fn is_upstream(&self) -> bool {
        matches!(self, Self::Upstream { .. } | Self::Local { .. })
    }

    /// Why memory had no answer, where it had none.
    pub fn miss(&self) -> Option<Miss> {
        match self {
            Self::Upstream { miss, .. } | Self::Local { miss, .. } => Some(*miss),
            Self::Rule { .. } | Self::Exact { .. } | Self::Semantic { .. } => None,
        }
    }
}

/// Whether an answer was remembered: empty until it has been given whole, and for good where it was not to be.
pub type Kept = Arc<OnceLock<Result<(), NotKept>>>;

/// An answer that has begun. Dropping it cancels the work behind it.
pub struct Answer {
    /// Where it comes from.
    pub source: Source,
    /// The route that the request took, where it took one.
    pub route: Option<Arc<str>>,
    /// The rule that has sent the request elsewhere or past the cache, where one has.
    pub rule: Option<String>,
    /// Whether it is the answer to another request too, which asked the same before.
    pub shared: bool,
    /// Those that were asked before and failed, in order.
    pub failed: Vec<upstream::Error>,
    /// What of the request its upstream could not be told, by field names.
    pub dropped: Vec<String>,
    /// Whether it was remembered, once it has been given whole.
    pub kept: Kept,
    /// Headers of its upstream's that say something to the client.
    pub headers: Vec<(String, String)>,
    /// What it says.
    pub chunks: Chunks,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Answer {
    /// One that is known in full.
    pub(super) fn ready(source: Source, reply: &Reply, recorder: Recorder, permit: Permit) -> Self {
        let chunks = stream::iter([Ok(unfold(reply).into())]).boxed();
        Self {
            source: source.clone(),
            route: recorder.route(),
            rule: None,
            shared: false,
            failed: Vec::new(),
            dropped: Vec::new(),
            kept: Kept::default(),
            headers: Vec::new(),
            chunks: recorder.record(source, chunks, permit),
        }
    }

    /// One that an upstream has begun to give.
    pub(super) fn begun(
        begun: &Begun,
        headers: Vec<(String, String)>,
        follower: Follower,
        miss: Miss,
        recorder: Recorder,
        permit: Permit,
    ) -> Self {
        let Begun { by, model: _, origin, failed, dropped, headers: _ } = begun;
        let upstream = by.to_string();
        let source = match origin {
            Origin::Provider => Source::Upstream { upstream, miss },
            Origin::Local => Source::Local { upstream, miss },
        };
        Self {
            source: source.clone(),
            route: recorder.route(),
            rule: None,
            shared: follower.is_joined(),
            failed: failed.clone(),
            dropped: dropped.clone(),
            kept: recorder.kept(),
            headers,
            chunks: recorder.record(source, follower.boxed(), permit),
        }
    }
}

impl Recorder {
    fn record(self, source: Source, chunks: Chunks, permit: Permit) -> Chunks {
        Recorded::new(self.answered_by(source), chunks, permit).boxed()
    }
}
