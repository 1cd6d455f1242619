//! The face to clients: HTTP in front of the one path.

mod admin;
mod auth;
mod error;
mod listen;
mod openai;
mod stall;

pub use admin::{Component, Status, StatusReport};
pub use listen::serve;

use crate::clock::Clock;
use crate::pipeline::Pipeline;
use crate::secret::Secret;
use crate::telemetry::Metrics;
use axum::Router;
use axum::routing::{get, post};
use std::net::SocketAddr;
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
    /// The models that `/v1/models` names.
    pub models: Vec<String>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// The routes.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/models", get(openai::models))
        .route("/healthz", get(admin::health))
        .route("/readyz", get(admin::ready))
        .route("/metrics", get(admin::metrics))
        .route("/status", get(admin::status))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .with_state(server)
}
