//! [`Outcome`]: the facts of one request, told once.

use super::Source;
use crate::cache::{Miss, NotKept};
use crate::chat::Usage;
use crate::upstream::Kind;
use std::sync::Arc;
use std::time::Duration;

/// Is told how each request went. It is called on the request's own task, so it must be quick.
pub type Observer = Arc<dyn Fn(&Outcome) + Send + Sync>;

/// How one request went.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Outcome {
    /// Names the request.
    pub request_id: String,
    /// Whose request it was.
    pub tenant: Arc<str>,
    /// In which project.
    pub project: String,
    /// The model asked for.
    pub model: String,
    /// The route that took it, where one did.
    pub route: Option<Arc<str>>,
    /// The limit by which it was not let in.
    pub limit: Option<Arc<str>>,
    /// The model that its upstream was asked for.
    pub answered_as: Option<Arc<str>>,
    /// Whether as a stream.
    pub stream: bool,
    /// Where the answer came from; `None` where there was none.
    pub source: Option<Source>,
    /// Why memory had no answer, where it was asked.
    pub miss: Option<Miss>,
    /// Whether it joined a call upstream that was made for another request.
    pub shared: bool,
    /// Whether it speaks for the call upstream: of all requests that share one, one does.
    pub accounts: bool,
    /// The upstreams that were asked and failed, and how.
    pub failed: Vec<(Arc<str>, Kind)>,
    /// Who was to answer and did not, and why, where another one does: it failed, or was passed over.
    pub switched: Option<(Arc<str>, Kind)>,
    /// What the answer cost, where the upstream said; told by the one who accounts for it.
    pub usage: Option<Usage>,
    /// Whether the answer was remembered; `None` where it was not to be. Told like what it cost.
    pub kept: Option<Result<(), NotKept>>,
    /// It was no client's request: what was given late is asked afresh.
    pub refresh: bool,
    /// How it ended.
    pub ended: Ended,
    /// How long it took.
    pub timings: Timings,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a whole answer.
    Complete,
    /// The answer broke off.
    Cut(Kind),
    /// The client left before the end.
    ClientGone,
    /// It took longer than a request may.
    Deadline,
    /// No upstream could answer.
    Failed(Kind),
    /// It was not let in, for too much of this.
    Refused(&'static str),
    /// Memory had no answer, and nobody else was to be asked.
    NotCached,
}

impl Ended {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cut(_) => "cut",
            Self::ClientGone => "client_gone",
            Self::Deadline => "deadline",
            Self::Failed(kind) => kind.name(),
            Self::Refused(limit) => limit,
            Self::NotCached => "only_if_cached",
        }
    }
}

/// How long a request took, counted from its arrival in the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Until memory had spoken.
    pub recall: Duration,
    /// From the call upstream to the first chunk.
    pub upstream: Option<Duration>,
    /// Until the end.
    pub total: Duration,
}
