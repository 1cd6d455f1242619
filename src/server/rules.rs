//! `/weir/rules`: what the rules are, what they say to a text, and more of them.

use super::error::Error;
use super::read::{self, Asker};
use super::{Server, auth, guard};
use crate::chat::Protocol;
use crate::intent::{Action, Circumstances, NotTaken, Rule, Slots, Tried};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
struct Tryout {
    text: String,
    #[serde(default)]
    project: Option<String>,
    #[serde(default)]
    model: String,
}

#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    project: Option<String>,
    /// The vocabulary that they join.
    name: String,
    values: Vec<String>,
}

/// `GET /weir/rules`
pub(super) async fn list(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    answer(&server, &headers, async |tenant| {
        let rules = server.pipeline.rules.rules(&tenant, read::project(&headers)?);
        Ok(json!({ "rules": rules.rules().iter().map(row).collect::<Vec<_>>() }))
    })
    .await
}

/// `POST /weir/rules?name=…`: a rule file, in the place of the one that was added under this name.
pub(super) async fn add(
    State(server): State<Arc<Server>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&server, &headers, async |_| {
        alone(&server)?;
        let text = read::body(&server, body).await?;
        let text =
            String::from_utf8(text.to_vec()).map_err(|_| Error::BadRules("it is no text".to_owned()))?;
        let name = query.as_deref().and_then(|query| {
            query.split('&').find_map(|pair| pair.strip_prefix("name=")).map(str::to_owned)
        });
        let name = name.unwrap_or_else(|| nameless(&text));
        let (live, given) = (server.pipeline.rules.clone(), name.clone());
        let added = move || live.add(&given, &text).map(|rules| (rules.rules().len(), live.is_kept()));
        let done = tokio::task::spawn_blocking(added).await;
        changed(done).map(|(rules, kept)| json!({ "rules": rules, "name": name, "kept": kept }))
    })
    .await
}

/// `DELETE /weir/rules/{name}`: takes away what was added under this name.
pub(super) async fn remove(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(&server, &headers, async |_| {
        alone(&server)?;
        let live = server.pipeline.rules.clone();
        let done = tokio::task::spawn_blocking(move || live.remove(&name)).await;
        changed(done).map(|rules| json!({ "rules": rules.rules().len() }))
    })
    .await
}

/// The name of rules that are given none: the same for the same rules, so that whoever sends them again adds nothing.
fn nameless(text: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    text.bytes().for_each(|byte| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("added-{hash:016x}")
}

/// `POST /weir/rules/reload`: reads the rule files again.
pub(super) async fn reload(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    answer(&server, &headers, async |_| {
        alone(&server)?;
        let live = server.pipeline.rules.clone();
        let done = tokio::task::spawn_blocking(move || live.reload()).await;
        changed(done).map(|rules| json!({ "rules": rules.rules().len() }))
    })
    .await
}

/// `POST /weir/rules/vocabulary`: names of the caller's project, as the tracks of the open song. An empty list takes
/// them away.
pub(super) async fn vocabulary(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&server, &headers, async |tenant| {
        let Names { project, name, values } = understood(&read::body(&server, body).await?)?;
        let project = project.map_or_else(|| read::project(&headers).map(str::to_owned), Ok)?;
        let (live, count) = (server.pipeline.rules.clone(), values.len());
        let pushed = move || live.push(&tenant, &project, &name, values);
        let pushed = tokio::task::spawn_blocking(pushed).await;
        changed(pushed).map(|()| json!({ "values": count }))
    })
    .await
}

/// `POST /weir/rules/try`: which rule answers a text, and why not the others.
pub(super) async fn tryout(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    answer(&server, &headers, async |tenant| {
        let Tryout { text, project, model } = understood(&read::body(&server, body).await?)?;
        let project = project.map_or_else(|| read::project(&headers).map(str::to_owned), Ok)?;
        let around = Circumstances { model: &model, tenant: &tenant, ..Circumstances::default() };
        Ok(told(server.pipeline.try_rules((&tenant, &project), &text, &around).await))
    })
    .await
}

async fn answer(
    server: &Arc<Server>,
    headers: &HeaderMap,
    what: impl AsyncFnOnce(Arc<str>) -> Result<Value, Error>,
) -> Response {
    let admitted = guard::admit(&server.config.clients, headers)
        .and_then(|_| auth::tenant(&server.config.clients, headers).ok_or(Error::Unauthorized));
    let done = match admitted {
        Ok(tenant) => what(tenant).await,
        Err(error) => Err(error),
    };
    Asker::new(Protocol::OpenAiChat, headers).respond(done.map(|told| Json(told).into_response()))
}

/// What rules there are is everybody's business, so only who is alone may change them.
fn alone(server: &Server) -> Result<(), Error> {
    let clients = &server.config.clients;
    match clients.iter().all(|client| clients.first().is_some_and(|first| client.tenant == first.tenant)) {
        true => Ok(()),
        false => Err(Error::SharedRules),
    }
}

fn understood<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::BadRules(error.to_string()))
}

fn changed<T>(done: Result<Result<T, NotTaken>, tokio::task::JoinError>) -> Result<T, Error> {
    match done {
        Ok(Ok(changed)) => Ok(changed),
        Ok(Err(error)) => Err(Error::BadRules(error.to_string())),
        Err(_) => Err(Error::BadRules("reading them broke down".to_owned())),
    }
}

fn row(rule: &Rule) -> Value {
    json!({
        "name": rule.name, "intent": rule.intent, "priority": rule.priority, "projects": rule.projects,
        "action": rule.action_name(), "patterns": rule.pattern_count(), "learned": rule.learns(),
        "origin": rule.origin,
    })
}

/// The names are promised.
fn told(tried: Tried) -> Value {
    let Tried { rule, intent, slots, score, action, parts, why_not, model } = tried;
    let why_not: Vec<Value> =
        why_not.into_iter().map(|why| json!({ "rule": why.rule, "reason": why.reason })).collect();
    let parts: Vec<Value> =
        parts.into_iter().map(|(text, rule)| json!({ "text": text, "rule": rule })).collect();
    let mut told = json!({
        "rule": rule, "intent": intent, "slots": object(slots), "score": (f64::from(score) * 1000.0).round() / 1000.0,
        "action": action.as_ref().map(shown), "parts": parts, "why_not": why_not,
    });
    if let Some(model) = model {
        told["model"] = model.into();
    }
    told
}

fn object(slots: Slots) -> Map<String, Value> {
    slots.into_iter().map(|(name, value)| (name, Value::String(value))).collect()
}

fn shown(action: &Action) -> Value {
    let what = match action {
        Action::Answer(text) | Action::Block(text) => json!({ "text": text }),
        Action::Json(json) => json!({ "json": json }),
        Action::Calls(calls) => {
            let calls = calls.iter().map(|call| json!({ "tool": call.tool, "arguments": call.arguments }));
            json!({ "calls": calls.collect::<Vec<_>>() })
        }
        Action::Route(model) => json!({ "model": model }),
        Action::Bypass => json!({}),
        // Its headers may name secrets, and are told to nobody.
        Action::Http(call) => json!({ "method": call.method, "url": call.url }),
        Action::Several(actions) => json!({ "actions": actions.iter().map(shown).collect::<Vec<_>>() }),
    };
    let mut told = Map::from_iter([("kind".to_owned(), Value::from(action.name()))]);
    told.extend(what.as_object().cloned().unwrap_or_default());
    Value::Object(told)
}
