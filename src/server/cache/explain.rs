//! `/weir/explain/{id}`: why a request was answered as it was.

use super::super::error::Error;
use super::super::{Server, auth};
use super::visit;
use crate::cache::keeper::Fault;
use crate::pipeline::Explained;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use std::sync::Arc;

/// `GET /weir/explain/{id}`: the id of a request of late, or of an answer that is kept.
pub(in crate::server) async fn explain(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    visit(server, &headers, async |visit| {
        let server = &visit.server;
        let tenant = auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
        if let Some(explained) = server.pipeline.explain(&tenant, &id).await {
            return Ok(explained);
        }
        match visit.keeper().explain(&id).await {
            Ok(lookup) => Ok(Explained { request_id: None, lane: None, lookup: Some(lookup) }),
            Err(Fault::NoId | Fault::Absent) => Err(Error::NothingToExplain),
            Err(fault) => Err(fault.into()),
        }
    })
    .await
}
