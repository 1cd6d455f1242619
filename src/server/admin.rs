//! Pages for operators: health, readiness, metrics, status.

use super::error::Error;
use super::{Server, auth, read};
use crate::cache::bound::{GroundId, GroundReport, Report as BoundReport};
use crate::pipeline::{LearnCounts, NamerCounts};
use crate::telemetry::JournalCounts;
use crate::upstream::chain::WardReport;
use crate::upstream::queue::Report;
use crate::upstream::route::Mirrored;
use crate::webhook;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Tells how the parts are, whenever it is asked.
pub type StatusReport = Arc<dyn Fn() -> Status + Send + Sync>;

/// What `/status` tells.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Of this program.
    pub version: &'static str,
    /// Since when it runs, in Unix milliseconds.
    pub started: u64,
    /// What the models run on.
    pub device: String,
    /// The embedding model; without it there are no semantic hits.
    pub encoder: Component,
    /// The local model; without it the chain ends with the last provider.
    pub local: Component,
    /// Where answers are kept.
    pub store: Component,
    /// How many rules there are.
    pub rules: usize,
    /// Who is asked, in order.
    pub chain: Vec<String>,
    /// What each provider has in work, and who waits for it.
    pub queues: BTreeMap<String, Report>,
    /// What became of mirrored requests; nothing where none are.
    pub mirrored: Option<Mirrored>,
    /// What became of the events of each webhook.
    pub webhooks: Vec<webhook::Report>,
    /// What became of the lines of the journal; nothing where none is written.
    pub journal: Option<Written>,
}

/// What is written down of requests.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// Where: whoever may read it there can have it replayed.
    pub folder: PathBuf,
    /// What became of its lines.
    #[serde(flatten)]
    pub counts: JournalCounts,
}

/// A part that may be missing while the rest works.
#[derive(Clone, Debug, Serialize)]
pub struct Component {
    /// What it is.
    pub name: String,
    /// `ready`, `loading`, `off`, or why not.
    pub state: String,
    /// Whether what it does is missing, against the configuration.
    pub degraded: bool,
}

impl Component {
    /// A part that works.
    pub fn ready(name: impl Into<String>) -> Self {
        Self { name: name.into(), state: "ready".to_owned(), degraded: false }
    }

    /// A part that is not wanted, or not there yet.
    pub fn idle(name: impl Into<String>, state: impl Into<String>) -> Self {
        Self { name: name.into(), state: state.into(), degraded: false }
    }

    /// A part that is wanted and does not work.
    pub fn failed(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), state: why.into(), degraded: true }
    }
}

impl Status {
    /// What is missing, in words; empty when all is well.
    pub fn degraded(&self) -> Vec<String> {
        let parts = [("semantic lane", &self.encoder), ("local model", &self.local), ("store", &self.store)];
        let missing = parts.into_iter().filter(|(_, part)| part.degraded);
        missing.map(|(what, part)| format!("{what} off: {}", part.state)).collect()
    }
}

/// `GET /healthz`: the process lives.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it answers requests. A part that is missing does not make it unready, since requests are
/// answered without it; it is named.
pub(super) async fn ready(State(server): State<Arc<Server>>) -> Response {
    Json(json!({ "ready": true, "degraded": (server.status)().degraded() })).into_response()
}

/// `GET /metrics`. Names of upstreams are for clients only.
pub(super) async fn metrics(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], server.metrics.encode()).into_response())
}

/// `GET /status`. Likewise. What is known of a project is told to its own tenant.
pub(super) async fn status(State(server): State<Arc<Server>>, headers: HeaderMap) -> Result<Response, Error> {
    let tenant = auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
    let project = read::project(&headers)?;
    let bound = server.pipeline.cache.bound();
    let semantic = Semantic {
        mode: server.pipeline.cache.semantic().name(),
        all: bound.report(),
        project,
        here: bound.report_of(GroundId::of(&tenant, project)),
        learned: server.pipeline.learner.counts(),
    };
    let status = (server.status)();
    let upstreams = server.providers.ward().map(|ward| ward.reports()).unwrap_or_default();
    let intent_model = server
        .pipeline
        .namer
        .as_ref()
        .map(|namer| IntentModel { model: namer.model(), counts: namer.counts() });
    Ok(Json(Told { status, upstreams, semantic, intent_model }).into_response())
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    status: Status,
    /// How each of those who are asked is.
    upstreams: Vec<WardReport>,
    semantic: Semantic<'a>,
    /// The model that names intents where examples do not tell; nothing where none does.
    intent_model: Option<IntentModel<'a>>,
}

#[derive(Serialize)]
struct IntentModel<'a> {
    model: &'a str,
    /// What has become of questions to it.
    #[serde(flatten)]
    counts: NamerCounts,
}

/// What the semantic cache knows about its own error.
#[derive(Serialize)]
struct Semantic<'a> {
    /// `on`, `shadow` or `off`.
    mode: &'static str,
    /// All projects together.
    all: BoundReport,
    /// Whose project is asked about.
    project: &'a str,
    /// That project; nothing where it was never asked.
    here: Option<GroundReport>,
    /// What was compared.
    learned: LearnCounts,
}
