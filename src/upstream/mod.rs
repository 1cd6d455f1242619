//! Who answers what we cannot: the [`Upstream`] trait, and those that implement it.
//!
//! [`provider`] speaks to a provider over HTTP, [`local`] runs a small model in this process, and [`chain`]
//! tries several in order. A chain is itself an upstream, so chains nest.

mod call;
pub mod chain;
pub mod health;
pub mod local;
pub mod prices;
pub mod provider;
pub mod queue;
pub mod route;
pub mod strategy;

pub use call::{Call, Envelope, Priority, Session};
pub use chain::is_local;

use crate::chat::{Chunk, Protocol, Request};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A stream of chunks. An `Err` in it is a cut: it is too late to ask anyone else. Dropping it cancels the
/// work behind it.
pub type Chunks = BoxStream<'static, Result<Chunk, Error>>;

/// Answers requests.
#[async_trait]
pub trait Upstream: Send + Sync {
    /// What it is called in the configuration, in headers and in logs.
    fn name(&self) -> &str;

    /// Who answers `request` here when nothing fails. Part of the scope: an answer of the local model is
    /// never served where a provider's was asked for.
    fn origin(&self, request: &Request) -> Origin;

    /// Decides who is asked for `request`, where there is a choice: once, before memory is looked at, for who would
    /// answer is part of the scope. What comes back is the call to [`open`](Self::open) with.
    fn choose(&self, request: &Request, call: Call) -> Call {
        let _ = request;
        call
    }

    /// Resolves once the answer's first words are in hand: an `Err` here may be failed over, one inside may not.
    /// `call` says by when, and on whose behalf; what is asked is in `request` alone.
    async fn open(&self, request: &Request, call: &Call) -> Result<Opened, Error>;
}

/// The kind of voice an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A provider's model, over the network.
    Provider,
    /// The small model in this process.
    Local,
}

impl Origin {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Local => "local",
        }
    }
}

/// An answer that has begun.
pub struct Opened {
    /// The upstream that gives it.
    pub by: Arc<str>,
    /// The model it was asked for.
    pub model: Arc<str>,
    /// The kind of voice it has.
    pub origin: Origin,
    /// Those that were asked before and failed, in order.
    pub failed: Vec<Error>,
    /// What the request could not take along to it, by the names of the fields.
    pub dropped: Vec<String>,
    /// Headers of the provider's that say something to the client.
    pub headers: Vec<(String, String)>,
    /// How busy the one who answers is.
    pub load: Load,
    /// The answer.
    pub chunks: Chunks,
}

/// How busy an upstream was found to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How long the request has waited for its turn.
    pub waited: Duration,
    /// It takes no more for so long, as it said with its answer.
    pub full_for: Option<Duration>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("by", &self.by)
            .field("model", &self.model)
            .field("origin", &self.origin)
            .field("failed", &self.failed)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

/// Why an upstream gave no answer, or not all of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{upstream}: {message}")]
pub struct Error {
    /// What kind of failure it is; this decides who is asked next.
    pub kind: Kind,
    /// The upstream that failed.
    pub upstream: Arc<str>,
    /// In words, free of secrets and of raw provider bodies.
    pub message: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// The provider's own names.
    pub names: Box<Names>,
    /// How long the upstream asked us to wait.
    pub retry_after: Option<Duration>,
    /// What sort of provider it is, by the name that the configuration has for it.
    pub family: Option<&'static str>,
    /// Whether it was asked at all, and not only passed over since it is to be left alone.
    pub asked: bool,
    /// It was asked beside another one, which was slow: nobody has gone on from it to somebody else.
    pub beside: bool,
    /// The others that were asked, where a whole chain failed.
    pub attempts: Vec<Error>,
}

/// What a provider calls a failure. Nothing is in here but plain names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Its kind: `insufficient_quota`.
    pub code: Option<String>,
    /// The field at fault.
    pub param: Option<String>,
}

impl Error {
    /// A failure of `upstream`.
    pub fn new(kind: Kind, upstream: &Arc<str>, message: impl Into<String>) -> Self {
        Self {
            kind,
            upstream: Arc::clone(upstream),
            message: message.into(),
            status: None,
            names: Box::default(),
            retry_after: None,
            family: None,
            asked: true,
            beside: false,
            attempts: Vec::new(),
        }
    }
}

/// The kinds of failure. The names are stable: they appear in errors, metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request itself is at fault; nobody else would take it either.
    BadRequest,
    /// The conversation is longer than the model reads.
    ContextOverflow,
    /// The key is missing, wrong or not allowed.
    Auth,
    /// The account has no credit.
    Billing,
    /// It has no way to say what the request asks; another one may.
    Unsupported,
    /// Too many requests.
    RateLimit,
    /// The provider has no capacity.
    Overloaded,
    /// It does not know the model.
    ModelNotFound,
    /// Nothing came in time.
    Timeout,
    /// It failed.
    Server,
    /// It could not be reached.
    Connection,
    /// What came could not be understood.
    BadResponse,
    /// The answer broke off after it had begun.
    Cut,
    /// Another one, asked beside it, had the first word.
    Overtaken,
    /// Our own queue in front of it is full.
    Busy,
    /// No upstream is configured for this model.
    NoRoute,
    /// Every upstream was tried, and failed.
    Exhausted,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::ContextOverflow,
        Self::Auth,
        Self::Billing,
        Self::Unsupported,
        Self::RateLimit,
        Self::Overloaded,
        Self::ModelNotFound,
        Self::Timeout,
        Self::Server,
        Self::Connection,
        Self::BadResponse,
        Self::Cut,
        Self::Busy,
        Self::NoRoute,
        Self::Exhausted,
    ];

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::ContextOverflow => "context_overflow",
            Self::Auth => "auth",
            Self::Billing => "billing",
            Self::Unsupported => "unsupported",
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::ModelNotFound => "model_not_found",
            Self::Timeout => "timeout",
            Self::Server => "server",
            Self::Connection => "connection",
            Self::BadResponse => "bad_response",
            Self::Cut => "cut",
            Self::Overtaken => "overtaken",
            Self::Busy => "busy",
            Self::NoRoute => "no_route",
            Self::Exhausted => "exhausted",
        }
    }

    /// In words, after a name: "primary rate limited".
    pub fn words(self) -> &'static str {
        match self {
            Self::BadRequest => "at odds with the request",
            Self::ContextOverflow => "too small for this conversation",
            Self::Auth => "refusing the key",
            Self::Billing => "out of credit",
            Self::Unsupported => "unable to do this",
            Self::RateLimit => "rate limited",
            Self::Overloaded => "overloaded",
            Self::ModelNotFound => "without this model",
            Self::Timeout => "too slow",
            Self::Server | Self::Exhausted => "failing",
            Self::Connection => "unreachable",
            Self::BadResponse | Self::Cut => "answering badly",
            Self::Overtaken => "slower",
            Self::Busy => "busy",
            Self::NoRoute => "not for this model",
        }
    }

    /// Whether it says nothing about the request: the same one was answered once, and will be again.
    pub fn is_outage(self) -> bool {
        match self {
            Self::Auth
            | Self::Billing
            | Self::RateLimit
            | Self::Overloaded
            | Self::Timeout
            | Self::Server
            | Self::Connection
            | Self::BadResponse
            | Self::Cut
            | Self::Overtaken
            | Self::Busy => true,
            Self::BadRequest
            | Self::ContextOverflow
            | Self::Unsupported
            | Self::ModelNotFound
            | Self::NoRoute
            | Self::Exhausted => false,
        }
    }

    /// Whether another upstream may do better. A request that is itself at fault is not carried around.
    pub fn worth_failing_over(self) -> bool {
        !matches!(self, Self::BadRequest | Self::ContextOverflow | Self::Cut)
    }
}

/// Has `request` ask for another model.
pub fn redirect(request: &mut Request, model: &str) {
    model.clone_into(&mut request.model);
    if request.received.body.is_empty() || request.received.protocol == Protocol::Gemini {
        return;
    }
    // What is passed on as it came asks for the other model, too.
    let body = crate::wire::splice::splice(&request.received.body, &[("model", Some(model.into()))]);
    request.received.body = body.unwrap_or_default();
}
