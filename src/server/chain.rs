//! `/weir/chain`: how those who are asked are, and switching them off and on by hand.

use super::error::Error;
use super::read::{self, Asker};
use super::{Server, guard, pass};
use crate::chat::{Message, Protocol, Request, Role, Sampling};
use crate::pipeline::Drilled;
use crate::upstream::chain::Ward;
use crate::upstream::{self, Call, Envelope, Priority};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What a drill asks, where nothing else is typed; and how long it may take.
const QUESTION: &str = "Reply with the single word: ready";
const DRILL_TIME: Duration = Duration::from_mins(1);
/// Enough of an answer to see that it is one.
const SHOWN_CHARS: usize = 200;

/// What cannot be done with the chain.
#[derive(Debug)]
pub(super) enum Fault {
    /// Several tenants share it.
    Shared,
    /// What is to be done is not said in a way that can be read.
    Unreadable,
    /// Nobody is called so.
    Unknown(String),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Chain(fault)
    }
}

/// Who or what is meant.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Meant {
    /// An upstream, or one of its keys.
    name: Option<String>,
    /// For a drill: the model that is asked for, and the question.
    model: Option<String>,
    question: Option<String>,
}

/// `GET /weir/chain`
pub(super) async fn show(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let shown = async {
        guard::admit(&server.config.clients, &headers)?;
        Ok(Json(report(&server)).into_response())
    };
    asker(&headers).respond(shown.await)
}

/// `POST /weir/chain/disable`
pub(super) async fn disable(state: State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    change(state, headers, body, |ward, name| name.is_some_and(|name| ward.set_disabled(name, true))).await
}

/// `POST /weir/chain/enable`
pub(super) async fn enable(state: State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    change(state, headers, body, |ward, name| name.is_some_and(|name| ward.set_disabled(name, false))).await
}

/// `POST /weir/chain/reset`: without a name, all of them.
pub(super) async fn reset(state: State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    change(state, headers, body, Ward::reset).await
}

/// `POST /weir/chain/test`: asks a small question as if `name` had failed, and tells who answered.
pub(super) async fn test(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    let asker = asker(&headers);
    let tested = async {
        admit_to_change(&server, &headers)?;
        let meant = read_meant(&server, body).await?;
        if let (Some(ward), Some(name)) = (server.providers.ward(), &meant.name)
            && !ward.knows(name)
        {
            return Err(Fault::Unknown(name.clone()).into());
        }
        let (request, call) = drill(meant, &asker.correlation_id);
        Ok(Json(told(server.pipeline.drill(&request, &call).await)).into_response())
    };
    asker.respond(tested.await)
}

async fn change(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Body,
    change: impl FnOnce(&Ward, Option<&str>) -> bool,
) -> Response {
    let changed = async {
        admit_to_change(&server, &headers)?;
        let meant = read_meant(&server, body).await?;
        let name = meant.name.as_deref();
        match server.providers.ward().is_some_and(|ward| change(ward, name)) {
            true => Ok(Json(report(&server)).into_response()),
            false => Err(Fault::Unknown(name.unwrap_or_default().chars().take(100).collect()).into()),
        }
    };
    asker(&headers).respond(changed.await)
}

/// What one switches off, all miss: so where there are several tenants, none of them may.
fn admit_to_change(server: &Server, headers: &HeaderMap) -> Result<(), Error> {
    guard::admit(&server.config.clients, headers)?;
    if pass::has_tenants(&server.config.clients) { Err(Fault::Shared.into()) } else { Ok(()) }
}

async fn read_meant(server: &Server, body: Body) -> Result<Meant, Error> {
    let body = read::body(server, body).await?;
    if body.is_empty() {
        return Ok(Meant::default());
    }
    serde_json::from_slice(&body).map_err(|_| Fault::Unreadable.into())
}

/// Who is asked in which order, and how each is.
pub(super) fn report(server: &Server) -> Value {
    let upstreams = server.providers.ward().map(|ward| ward.reports()).unwrap_or_default();
    json!({ "order": (server.status)().chain, "upstreams": upstreams })
}

fn asker(headers: &HeaderMap) -> Asker {
    Asker::new(Protocol::OpenAiChat, headers)
}

fn drill(Meant { name, model, question }: Meant, correlation_id: &str) -> (Request, Call) {
    let question = question.unwrap_or_else(|| QUESTION.to_owned());
    let request = Request {
        model: model.unwrap_or_default(),
        messages: vec![Message::text(Role::User, question)],
        sampling: Sampling { max_tokens: Some(32), ..Sampling::default() },
        ..Request::default()
    };
    let envelope = Envelope { correlation_id: correlation_id.to_owned(), ..Envelope::default() };
    let call = Call {
        priority: Priority::User,
        envelope: Arc::new(envelope),
        without: name.map(Into::into),
        ..Call::within(DRILL_TIME)
    };
    (request, call)
}

fn told(drilled: Result<Drilled, upstream::Error>) -> Value {
    match drilled {
        Ok(Drilled { by, failed, said, took }) => json!({
            "answered_by": by,
            "failed": failed.iter().map(attempt).collect::<Vec<_>>(),
            "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "said": said.chars().take(SHOWN_CHARS).collect::<String>(),
        }),
        Err(error) => {
            let alone = error.attempts.is_empty().then_some(&error);
            let failed: Vec<Value> = error.attempts.iter().chain(alone).map(attempt).collect();
            json!({ "answered_by": null, "failed": failed, "error": error.kind.name() })
        }
    }
}

/// One who was asked or passed over, without a word of what it said.
pub(super) fn attempt(error: &upstream::Error) -> Value {
    json!({
        "upstream": error.upstream,
        "provider_family": error.family,
        "reason": error.kind.name(),
        "status": error.status,
        "retry_after_ms": error.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        "asked": error.asked,
    })
}
