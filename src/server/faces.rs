//! The routes of the faces: which path speaks which protocol.

use super::controls::{self, Controls};
use super::error::Error;
use super::read::{self, Asker, Peer};
use super::{Server, auth, face, pass};
use crate::chat::{Protocol, Request};
use crate::upstream::Kind;
use crate::wire::tokens::estimate_tokens;
use crate::wire::{Target, anthropic, decode_request, gemini, ollama};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::sync::Arc;

type Shared = State<Arc<Server>>;
type Head = (Uri, HeaderMap, Peer);

/// `POST /v1/chat/completions`
pub(super) async fn openai_chat(State(server): Shared, head: Head, body: Body) -> Response {
    face::answer(server, Protocol::OpenAiChat, Target::default(), head, body).await
}

/// `POST /v1/completions`
pub(super) async fn openai_completions(State(server): Shared, head: Head, body: Body) -> Response {
    face::answer(server, Protocol::OpenAiCompletions, Target::default(), head, body).await
}

/// `POST /v1/responses`
pub(super) async fn openai_responses(State(server): Shared, head: Head, body: Body) -> Response {
    face::answer(server, Protocol::OpenAiResponses, Target::default(), head, body).await
}

/// `POST /v1/messages`
pub(super) async fn anthropic(State(server): Shared, head: Head, body: Body) -> Response {
    face::answer(server, Protocol::Anthropic, Target::default(), head, body).await
}

/// `POST /v1/messages/count_tokens`
pub(super) async fn count_tokens(State(server): Shared, headers: HeaderMap, body: Body) -> Response {
    let asker = Asker::new(Protocol::Anthropic, &headers);
    let counted = async {
        auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
        let body = read::body(&server, body).await?;
        let mut request =
            decode_request(Protocol::Anthropic, &body, &Target::default()).map_err(Error::Wire)?;
        request.received.headers = face::heard(&headers, server.config.compat_headers);
        Controls::default().take_from(&mut request).map_err(Error::Wire)?;
        let tokens = count(&server, &request).await?;
        Ok(Json(anthropic::count_tokens_body(tokens)).into_response())
    };
    asker.respond(counted.await)
}

/// By the provider that would answer, where it can count; otherwise by estimate.
async fn count(server: &Server, request: &Request) -> Result<u64, Error> {
    let Some(provider) = server.providers.speaking(Protocol::Anthropic, &request.model) else {
        return Ok(estimate_tokens(request));
    };
    match provider.count_tokens(request).await {
        Ok(tokens) => Ok(tokens),
        // The request is at fault, and would be when it is asked in earnest.
        Err(error) if matches!(error.kind, Kind::BadRequest | Kind::ModelNotFound | Kind::Auth) => {
            Err(Error::Pipeline(error.into()))
        }
        Err(error) => {
            tracing::info!(
                kind = error.kind.name(),
                "tokens were estimated: the provider did not count them"
            );
            Ok(estimate_tokens(request))
        }
    }
}

/// `POST /v1beta/models/{model}:generateContent` and its kin, also below `/v1/`.
pub(super) async fn gemini(
    State(server): Shared,
    Path(tail): Path<String>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    peer: Peer,
    body: Body,
) -> Response {
    read::take_key(&uri, &mut headers);
    if let Some(target) = gemini::target(&tail, uri.query()) {
        return face::answer(server, Protocol::Gemini, target, (uri, headers, peer), body).await;
    }
    match gemini::counted_model(&tail) {
        Some(model) if server.providers.of_protocol(Protocol::Gemini).is_none() => {
            let asker = Asker::new(Protocol::Gemini, &headers);
            asker.respond(estimated(&server, model, &headers, body).await)
        }
        // Counting, embedding, batches: the provider's own.
        _ => pass::to_api_of(server, Protocol::Gemini, method, uri, headers, body).await,
    }
}

/// What `:countTokens` is told where no provider of this protocol can be asked.
async fn estimated(
    server: &Server,
    model: String,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    auth::tenant(&server.config.clients, headers).ok_or(Error::Unauthorized)?;
    let body = read::body(server, body).await?;
    let request = gemini::decode_count_request(&body, model).map_err(Error::Wire)?;
    Ok(Json(gemini::count_tokens_body(estimate_tokens(&request))).into_response())
}

/// `POST /api/chat`
pub(super) async fn ollama_chat(State(server): Shared, head: Head, body: Body) -> Response {
    ollama_face(server, Protocol::OllamaChat, head, body).await
}

/// `POST /api/generate`
pub(super) async fn ollama_generate(State(server): Shared, head: Head, body: Body) -> Response {
    ollama_face(server, Protocol::OllamaGenerate, head, body).await
}

async fn ollama_face(server: Arc<Server>, protocol: Protocol, head: Head, body: Body) -> Response {
    let headers = &head.1;
    let asker = Asker::new(protocol, headers);
    if auth::tenant(&server.config.clients, headers).is_none() {
        return asker.respond(Err(Error::Unauthorized));
    }
    let body = match read::body(&server, body).await {
        Ok(body) => body,
        Err(error) => return asker.respond(Err(error)),
    };
    match decode_request(protocol, &body, &Target::default()) {
        Ok(request) if ollama::is_load(&request) => {
            asker.respond(Ok(load(&server, protocol, &request, body).await))
        }
        _ => face::answer(server, protocol, Target::default(), head, Body::from(body)).await,
    }
}

/// Ollama's clients ask without a question to have a model loaded or unloaded. That is a real Ollama's to do,
/// where one would answer; for anybody else nothing is to be done.
async fn load(server: &Server, protocol: Protocol, request: &Request, body: Bytes) -> Response {
    let path = if protocol == Protocol::OllamaGenerate { "/api/generate" } else { "/api/chat" };
    if let Some(provider) = server.providers.loading(&request.model) {
        match provider.ask(path, controls::strip(body)).await {
            Ok(passed) => return pass::response(passed),
            // The question that follows may still be answered by another one.
            Err(error) => tracing::info!(kind = error.kind.name(), "no Ollama has loaded the model"),
        }
    }
    let loaded = ollama::load_reply(request, &ollama::catalog::rfc3339(server.clock.now().as_secs()));
    ([(CONTENT_TYPE, "application/json")], loaded).into_response()
}
