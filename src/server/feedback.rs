//! Whoever got an answer may say whether it was right: `POST /weir/feedback`, or a header of the next request.

use super::error::Error;
use super::{Server, auth, guard, read};
use crate::pipeline::Feedback;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// `x-weir-feedback: req_1=wrong`, several divided by commas.
const HEADER: &str = "x-weir-feedback";

/// The most that one header says.
const MAX_AT_ONCE: usize = 16;

/// The longest body: an id, a word, and a comment of some lines.
const MAX_BYTES: usize = 16 << 10;

#[derive(Deserialize)]
struct Said {
    /// The `x-request-id` of the answer.
    id: String,
    correct: bool,
}

/// `POST /weir/feedback`. A comment is welcome, and nobody reads it.
pub(super) async fn feedback(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    guard::admit(&server.config.clients, &headers)?;
    let tenant = auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
    let body = read::body(&server, body).await?;
    let said = (body.len() <= MAX_BYTES).then(|| serde_json::from_slice::<Said>(&body).ok());
    let Said { id, correct } = said.flatten().ok_or(Error::BadFeedback)?;
    match server.pipeline.feedback(&tenant, &id, correct) {
        Feedback::Unknown => Err(Error::NoSuchAnswer),
        told @ (Feedback::Taken | Feedback::Known) => {
            Ok(Json(json!({ "id": id, "taken": told == Feedback::Taken })).into_response())
        }
    }
}

/// What the header says. What cannot be read or is not known is passed over: a header is never worth a failed
/// request.
pub(super) fn hear(server: &Server, tenant: &Arc<str>, headers: &HeaderMap) {
    let lines = headers.get_all(HEADER).iter().filter_map(|line| line.to_str().ok());
    for said in lines.flat_map(|line| line.split(',')).take(MAX_AT_ONCE) {
        match said.trim().rsplit_once('=') {
            Some((id, "right")) => drop(server.pipeline.feedback(tenant, id, true)),
            Some((id, "wrong")) => drop(server.pipeline.feedback(tenant, id, false)),
            _ => {}
        }
    }
}
