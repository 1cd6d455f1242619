//! The face to clients: HTTP in front of the one path.

mod admin;
mod auth;
mod cache;
mod catalog;
mod chain;
mod controls;
mod embed;
mod envelope;
mod error;
mod face;
mod faces;
mod facts;
mod feedback;
mod guard;
mod listen;
mod notice;
mod pass;
mod read;
mod replay;
mod rules;
mod stall;
mod store;

pub use admin::{Component, Status, StatusReport, Written};
pub use catalog::Providers;
pub use listen::serve;
pub use store::{BackedUp, Backup, Files};

use crate::clock::Clock;
use crate::pipeline::Pipeline;
use crate::secret::Secret;
use crate::telemetry::Metrics;
use axum::Router;
use axum::routing::{delete, get, post};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// How the sidecar listens, and how much it takes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may call. Empty: anyone, with any key or none, and only on a loopback address.
    pub clients: Vec<Client>,
    /// The longest request body.
    pub max_body_bytes: usize,
    /// The longest request head.
    pub max_header_bytes: usize,
    /// The most open connections.
    pub max_connections: usize,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body, and how long it may leave an answer unread.
    pub body_timeout: Duration,
    /// How long a request may take in all, its stream included.
    pub request_timeout: Duration,
    /// How long running requests get to finish after a signal to stop.
    pub shutdown_grace: Duration,
    /// Whether paths that we do not know go to a provider.
    pub passthrough: bool,
    /// How an answer from memory is given again.
    pub replay: Replay,
    /// Whether the headers are obeyed by which other gateways let a request steer their caches.
    pub compat_headers: bool,
    /// Where a client is told that another one answers than who was to.
    pub notice: Notice,
}

/// Where a client is told that another one answers than who was to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notice {
    /// In a header.
    #[default]
    Header,
    /// There, and as the first line of the answer.
    Inline,
}

impl Notice {
    /// Each by its name.
    pub const ALL: [(&'static str, Self); 2] = [("header", Self::Header), ("inline", Self::Inline)];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Inline => "inline",
        }
    }
}

/// How an answer from memory is given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Tell that it cost no tokens, in place of what it cost when it was given first.
    pub zero_usage: bool,
    /// Stream it at a pace, not all at once.
    pub paced: bool,
    /// The pace.
    pub tokens_per_second: NonZeroU32,
}

impl Default for Replay {
    fn default() -> Self {
        let tokens_per_second = const { NonZeroU32::new(100).expect("not zero") };
        Self { zero_usage: false, paced: false, tokens_per_second }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4100)),
            clients: Vec::new(),
            max_body_bytes: 32 << 20,
            max_header_bytes: 64 << 10,
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(1),
            request_timeout: Duration::from_mins(10),
            shutdown_grace: Duration::from_secs(30),
            passthrough: true,
            replay: Replay::default(),
            compat_headers: true,
            notice: Notice::default(),
        }
    }
}

/// Someone who may call.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it is called in logs.
    pub name: String,
    /// What it shows.
    pub key: Secret,
    /// Whose answers it sees. Clients of one tenant share a cache; tenants never do.
    pub tenant: String,
}

/// What the handlers work with.
pub struct Server {
    /// How it listens, and how much it takes.
    pub config: Config,
    /// The one path.
    pub pipeline: Pipeline,
    /// What is counted.
    pub metrics: Metrics,
    /// What `/status` tells.
    pub status: StatusReport,
    /// The models that `/v1/models` names beside those that the providers name.
    pub models: Vec<String>,
    /// The providers, for what does not go through the one path.
    pub providers: Providers,
    /// The files of the store, where it has any.
    pub files: Option<Files>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// The routes to what is kept, and to what is known of those who are asked.
fn kept() -> Router<Arc<Server>> {
    Router::new()
        .route("/weir/cache", get(cache::list))
        .route("/weir/cache/stats", get(cache::stats))
        .route("/weir/cache/purge", post(cache::purge))
        .route("/weir/cache/export", get(cache::export))
        .route("/weir/cache/import", post(cache::import))
        .route("/weir/cache/{id}", get(cache::get).delete(cache::remove))
        .route("/weir/cache/{id}/pin", post(cache::pin))
        .route("/weir/cache/{id}/unpin", post(cache::unpin))
        .route("/weir/cache/{id}/wrong", post(cache::wrong))
        .route("/weir/store/backup", post(store::backup))
        .route("/weir/explain/{id}", get(cache::explain))
        .route("/weir/feedback", post(feedback::feedback))
        .route("/weir/chain", get(chain::show))
        .route("/weir/chain/disable", post(chain::disable))
        .route("/weir/chain/enable", post(chain::enable))
        .route("/weir/chain/reset", post(chain::reset))
        .route("/weir/chain/test", post(chain::test))
}

/// The routes to the rules.
fn ruled() -> Router<Arc<Server>> {
    Router::new()
        .route("/weir/rules", get(rules::list).post(rules::add))
        .route("/weir/rules/{name}", delete(rules::remove))
        .route("/weir/rules/try", post(rules::tryout))
        .route("/weir/rules/reload", post(rules::reload))
        .route("/weir/rules/vocabulary", post(rules::vocabulary))
}

/// The routes.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(faces::openai_chat))
        .route("/v1/completions", post(faces::openai_completions))
        .route("/v1/responses", post(faces::openai_responses))
        .route("/v1/embeddings", post(embed::openai))
        .route("/v1/models", get(catalog::models))
        .route("/v1/engines", get(catalog::models))
        .route("/v1/models/{*id}", get(catalog::model).post(faces::gemini))
        .route("/v1/messages", post(faces::anthropic))
        .route("/v1/messages/count_tokens", post(faces::count_tokens))
        .route("/v1beta/models", get(catalog::gemini))
        .route("/v1beta/models/{*tail}", get(catalog::gemini_model).post(faces::gemini))
        .route("/v1alpha/models", get(catalog::gemini))
        .route("/v1alpha/models/{*tail}", get(catalog::gemini_model).post(faces::gemini))
        .route("/api/chat", post(faces::ollama_chat))
        .route("/api/generate", post(faces::ollama_generate))
        .route("/api/embed", post(embed::ollama))
        .route("/api/embeddings", post(embed::ollama_one))
        .route("/api/tags", get(catalog::tags))
        .route("/api/ps", get(catalog::running))
        .route("/api/show", post(catalog::show))
        .route("/api/version", get(catalog::version))
        .route("/", get(catalog::heartbeat))
        .route("/healthz", get(admin::health))
        .route("/readyz", get(admin::ready))
        .route("/metrics", get(admin::metrics))
        .route("/status", get(admin::status))
        .merge(kept())
        .merge(ruled())
        .fallback(pass::unknown)
        .method_not_allowed_fallback(pass::no_such_method)
        .with_state(server)
}
