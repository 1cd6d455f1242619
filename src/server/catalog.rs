//! The models there are, and the providers that know them.

use super::embed::MODEL;
use super::error::Error;
use super::read::{self, Asker};
use super::{Server, auth, pass};
use crate::chat::Protocol;
use crate::upstream::Upstream as _;
use crate::upstream::chain::{Ward, is_local};
use crate::upstream::provider::{Provider, ProviderKind};
use crate::wire::ollama::catalog::{self, ModelEntry};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long what the providers said of their models is believed.
const BELIEVED: Duration = Duration::from_mins(1);

/// The most models in a list; OpenRouter has some hundred.
const MAX_MODELS: usize = 5000;

/// The providers, for what does not go through the one path: lists of models, counting tokens, other paths.
#[derive(Default)]
pub struct Providers {
    /// In the order of the chain.
    list: Vec<Arc<Provider>>,
    /// Who gets the paths that we do not know.
    passthrough: Option<Arc<Provider>>,
    /// What they said of their models, and when.
    said: Mutex<Option<(Instant, Vec<String>)>>,
    /// What is known of how they are.
    ward: Option<Arc<Ward>>,
}

impl Providers {
    /// `list` is in the order of the chain; `passthrough` names who gets the paths that we do not know, by
    /// default the first.
    pub fn new(list: Vec<Arc<Provider>>, passthrough: Option<&str>) -> Self {
        let named = |provider: &&Arc<Provider>| passthrough.is_none_or(|name| provider.name() == name);
        let passthrough = list.iter().find(named).cloned();
        Self { list, passthrough, said: Mutex::default(), ward: None }
    }

    /// The same, and what is known of how they are.
    #[must_use]
    pub fn watched_by(self, ward: &Arc<Ward>) -> Self {
        Self { ward: Some(Arc::clone(ward)), ..self }
    }

    /// What is known of how they are.
    pub(super) fn ward(&self) -> Option<&Arc<Ward>> {
        self.ward.as_ref()
    }

    /// Who gets the paths that we do not know.
    pub(super) fn passthrough(&self) -> Option<&Arc<Provider>> {
        self.passthrough.as_ref()
    }

    /// The first that speaks `protocol`, and of those the first that is asked for `model`.
    pub(super) fn speaking(&self, protocol: Protocol, model: &str) -> Option<&Arc<Provider>> {
        self.list.iter().find(|provider| provider.protocol() == protocol && provider.serves(model))
    }

    pub(super) fn of_protocol(&self, protocol: Protocol) -> Option<&Arc<Provider>> {
        self.list.iter().find(|provider| provider.protocol() == protocol)
    }

    /// The Ollama that is asked for `model`, where there is one.
    pub(super) fn ollama(&self, model: &str) -> Option<&Arc<Provider>> {
        self.list.iter().find(|provider| provider.kind() == ProviderKind::Ollama && provider.serves(model))
    }

    /// The Ollama that would be the first to answer as `model`.
    pub(super) fn loading(&self, model: &str) -> Option<&Arc<Provider>> {
        let first = self.list.iter().find(|provider| provider.serves(model) && !is_local(model));
        first.filter(|provider| provider.kind() == ProviderKind::Ollama)
    }

    /// Those that may know how to embed with `model`.
    pub(super) fn embedding<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Arc<Provider>> {
        self.list.iter().filter(move |provider| provider.embeds() && provider.serves(model))
    }

    /// What the providers say of their models. One that does not answer is left out.
    async fn models(&self) -> Vec<String> {
        // Whoever comes second waits for the first one's answer, and asks nobody.
        let mut said = self.said.lock().await;
        if let Some((_, models)) = said.as_ref().filter(|(when, _)| when.elapsed() < BELIEVED) {
            return models.clone();
        }
        let asked = self.list.iter().map(async |provider| match provider.models().await {
            Ok(models) => models.into_iter().filter(|model| provider.serves(model)).collect(),
            Err(error) => {
                tracing::debug!(upstream = provider.name(), kind = error.kind.name(), "no list of models");
                Vec::new()
            }
        });
        let mut models = join_all(asked).await.concat();
        models.truncate(MAX_MODELS);
        *said = Some((Instant::now(), models.clone()));
        models
    }
}

/// Every model that a client may ask for, in order.
async fn all(server: &Server) -> Vec<String> {
    let own = server.pipeline.embedder.is_some().then(|| MODEL.to_owned());
    let mut models = server.providers.models().await;
    models.extend(server.models.iter().cloned().chain(own));
    models.sort();
    models.dedup();
    models
}

/// As OpenAI's clients want it, with what Anthropic's want beside it.
fn entry(id: &str, created: u64) -> Value {
    json!({
        "id": id, "object": "model", "created": created, "owned_by": "weir",
        "type": "model", "display_name": id, "created_at": catalog::rfc3339(created),
    })
}

/// `GET /v1/models`
pub(super) async fn models(State(server): State<Arc<Server>>, uri: Uri, mut headers: HeaderMap) -> Response {
    read::take_key(&uri, &mut headers);
    let asker = Asker::new(pass::spoken("/v1/models", &headers), &headers);
    if asker.protocol == Protocol::Gemini {
        return gemini(State(server), uri, headers).await;
    }
    let listed = async {
        auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
        let (models, created) = (all(&server).await, server.clock.now().as_secs());
        let data: Vec<Value> = models.iter().map(|id| entry(id, created)).collect();
        Ok(Json(json!({
            "object": "list", "data": data, "has_more": false, "first_id": models.first(), "last_id": models.last(),
        }))
        .into_response())
    };
    asker.respond(listed.await)
}

/// `GET /v1/models/{id}`
pub(super) async fn model(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    uri: Uri,
    mut headers: HeaderMap,
) -> Response {
    read::take_key(&uri, &mut headers);
    let asker = Asker::new(pass::spoken("/v1/models", &headers), &headers);
    if asker.protocol == Protocol::Gemini {
        return gemini_model(State(server), Path(id), uri, headers).await;
    }
    let found = async {
        auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
        let known = all(&server).await.contains(&id);
        match known {
            true => Ok(Json(entry(&id, server.clock.now().as_secs())).into_response()),
            false => Err(Error::NoSuchModel(id.chars().take(100).collect())),
        }
    };
    asker.respond(found.await)
}

/// As Gemini's clients want it.
fn gemini_entry(id: &str) -> Value {
    let methods = ["generateContent", "streamGenerateContent", "countTokens"];
    json!({ "name": format!("models/{id}"), "displayName": id, "supportedGenerationMethods": methods })
}

/// `GET /v1beta/models`
pub(super) async fn gemini(State(server): State<Arc<Server>>, uri: Uri, mut headers: HeaderMap) -> Response {
    read::take_key(&uri, &mut headers);
    let asker = Asker::new(Protocol::Gemini, &headers);
    let listed = async {
        auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
        let models: Vec<Value> = all(&server).await.iter().map(|id| gemini_entry(id)).collect();
        Ok(Json(json!({ "models": models })).into_response())
    };
    asker.respond(listed.await)
}

/// `GET /v1beta/models/{id}`
pub(super) async fn gemini_model(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    uri: Uri,
    mut headers: HeaderMap,
) -> Response {
    read::take_key(&uri, &mut headers);
    let asker = Asker::new(Protocol::Gemini, &headers);
    let found = async {
        auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
        match all(&server).await.contains(&id) {
            true => Ok(Json(gemini_entry(&id)).into_response()),
            false => Err(Error::NoSuchModel(id.chars().take(100).collect())),
        }
    };
    asker.respond(found.await)
}

/// `GET /`: Ollama's clients look here whether there is anybody, and for these words.
pub(super) async fn heartbeat() -> &'static str {
    "Ollama is running"
}

async fn entries(server: &Server) -> Vec<ModelEntry> {
    let created = server.clock.now().as_secs();
    all(server).await.into_iter().map(|id| ModelEntry { id, created }).collect()
}

/// `GET /api/tags`
pub(super) async fn tags(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let tags = async |server: &Server| Ok(Json(catalog::tags(&entries(server).await)).into_response());
    for_ollama(&server, &headers, tags).await
}

/// `GET /api/ps`: what a real Ollama says of itself, where there is one.
pub(super) async fn running(State(server): State<Arc<Server>>, uri: Uri, headers: HeaderMap) -> Response {
    let running = async |server: &Server| {
        if let Some(provider) = server.providers.of_protocol(Protocol::OllamaChat) {
            let passed = pass::through(provider, Method::GET, &uri, &headers, Body::empty()).await;
            if let Ok(response) = passed {
                return Ok(response);
            }
        }
        Ok(Json(catalog::ps(&entries(server).await)).into_response())
    };
    for_ollama(&server, &headers, running).await
}

/// `GET /api/version`
pub(super) async fn version(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    for_ollama(&server, &headers, async |_| Ok(Json(catalog::version()).into_response())).await
}

/// `POST /api/show`: what a real Ollama says of its model; of others it is known that they are there.
pub(super) async fn show(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    let shown = async |server: &Server| {
        let body = read::body(server, body).await?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let wanted = said["model"].as_str().or(said["name"].as_str()).unwrap_or_default();
        if let Some(provider) = server.providers.ollama(wanted)
            && let Ok(passed) = provider.ask("/api/show", body).await
            && passed.status.is_success()
        {
            return Ok(pass::response(passed));
        }
        let found = entries(server).await.into_iter().find(|entry| untagged(&entry.id) == untagged(wanted));
        let missing = || Error::NoSuchModel(wanted.chars().take(100).collect());
        found.map(|entry| Json(catalog::show(&entry)).into_response()).ok_or_else(missing)
    };
    for_ollama(&server, &headers, shown).await
}

/// Ollama's clients write a tag where there is none.
fn untagged(model: &str) -> &str {
    model.strip_suffix(":latest").unwrap_or(model)
}

async fn for_ollama(
    server: &Server,
    headers: &HeaderMap,
    say: impl AsyncFnOnce(&Server) -> Result<Response, Error>,
) -> Response {
    let asker = Asker::new(Protocol::OllamaChat, headers);
    if auth::tenant(&server.config.clients, headers).is_none() {
        return asker.respond(Err(Error::Unauthorized));
    }
    asker.respond(say(server).await)
}
