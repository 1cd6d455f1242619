//! `/weir/cache`: looking after what is kept.

mod explain;
mod transfer;
mod wanted;

pub(super) use explain::explain;
pub(super) use transfer::{export, import};

use super::error::Error;
use super::read::{self, Asker};
use super::{Server, guard};
use crate::cache::keeper::Keeper;
use crate::chat::Protocol;
use crate::wire;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use wanted::Wanted;

/// How many rows a page has where nobody says.
const ROWS: usize = 50;

/// Someone who may look after some of what is kept.
struct Visit {
    server: Arc<Server>,
    whose: Option<Arc<str>>,
}

impl Visit {
    fn new(server: Arc<Server>, headers: &HeaderMap) -> Result<Self, Error> {
        let whose = guard::admit(&server.config.clients, headers)?;
        Ok(Self { server, whose })
    }

    fn keeper(&self) -> Keeper<'_> {
        self.server.pipeline.cache.keeper(self.whose.as_deref())
    }
}

/// Does something for a caller, and tells what came of it.
async fn visit<T: Serialize>(
    server: Arc<Server>,
    headers: &HeaderMap,
    what: impl AsyncFnOnce(Visit) -> Result<T, Error>,
) -> Response {
    let done = match Visit::new(server, headers) {
        Ok(visit) => what(visit).await,
        Err(error) => Err(error),
    };
    asker(headers).respond(done.map(|told| Json(told).into_response()))
}

/// What is told here has the shape of the protocol that most clients know.
fn asker(headers: &HeaderMap) -> Asker {
    Asker::new(Protocol::OpenAiChat, headers)
}

/// `GET /weir/cache`
pub(super) async fn list(
    State(server): State<Arc<Server>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    visit(server, &headers, async |visit| {
        let wanted = Wanted::of_query(query.as_deref(), &["limit", "after"])?;
        let most = wanted.number("limit")?.unwrap_or(ROWS);
        let after = wanted.rest("after");
        let filter = wanted.filter(&visit.server).await?;
        Ok(visit.keeper().list(&filter, after.as_deref(), most).await?)
    })
    .await
}

/// `GET /weir/cache/stats`
pub(super) async fn stats(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    visit(server, &headers, async |visit| Ok(visit.keeper().stats().await?)).await
}

/// `GET /weir/cache/{id}`
pub(super) async fn get(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    visit(server, &headers, async |visit| Ok(visit.keeper().get(&id).await?)).await
}

/// `DELETE /weir/cache/{id}`
pub(super) async fn remove(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    visit(server, &headers, async |visit| Ok(visit.keeper().remove(&id).await?)).await
}

/// `POST /weir/cache/{id}/pin`
pub(super) async fn pin(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    visit(server, &headers, async |visit| Ok(visit.keeper().pin(&id, true).await?)).await
}

/// `POST /weir/cache/{id}/unpin`
pub(super) async fn unpin(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    visit(server, &headers, async |visit| Ok(visit.keeper().pin(&id, false).await?)).await
}

/// `POST /weir/cache/{id}/wrong`
pub(super) async fn wrong(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    visit(server, &headers, async |visit| Ok(visit.keeper().wrong(&id).await?)).await
}

/// What `POST /weir/cache/purge` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Purging {
    #[serde(default)]
    filter: Map<String, Value>,
    #[serde(default)]
    all: bool,
    #[serde(default = "yes")]
    dry_run: bool,
}

fn yes() -> bool {
    true
}

/// `POST /weir/cache/purge`
pub(super) async fn purge(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    visit(server, &headers, async |visit| {
        let body = read::body(&visit.server, body).await?;
        let Purging { filter, all, dry_run } = serde_json::from_slice(&body)
            .map_err(|error| Error::Wire(wire::Error::new(format!("the body is not understood: {error}"))))?;
        let filter = Wanted::of_object(&filter)?.filter(&visit.server).await?;
        Ok(visit.keeper().purge(&filter, all, dry_run).await?)
    })
    .await
}
