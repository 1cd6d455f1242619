//! Vectors: those of the model in this process, or a provider's.

use super::controls;
use super::error::{Error, Failed};
use super::read::{self, Asker};
use super::{Server, auth, pass};
use crate::chat::Protocol;
use crate::pipeline::EmbedError;
use crate::wire::{embeddings, ollama};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// The name of the model in this process.
pub(super) const MODEL: &str = "weir/minilm";
/// How long its vectors are.
const DIMENSIONS: u32 = 384;
/// When to come back while its queue is full.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// `POST /v1/embeddings`
pub(super) async fn openai(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    let asker = Asker::new(Protocol::OpenAiChat, &headers);
    asker.respond(embeddings(&server, &headers, body).await)
}

async fn embeddings(server: &Server, headers: &HeaderMap, body: Body) -> Result<Response, Error> {
    auth::tenant(&server.config.clients, headers).ok_or(Error::Unauthorized)?;
    let body = read::body(server, body).await?;
    let asked = embeddings::decode(&body);
    // What only a provider understands (token arrays, for one) is the provider's to judge.
    let model = asked.as_ref().map_or_else(|_| model_in(&body), |asked| asked.model.clone());
    if model != MODEL {
        return forwarded(server, &model, body).await;
    }
    let asked = asked.map_err(Error::Wire)?;
    if let Some(wanted) = asked.dimensions.filter(|wanted| *wanted != DIMENSIONS) {
        let message = format!("`dimensions` is {wanted}: the vectors of {MODEL} have {DIMENSIONS}");
        return Err(Error::Wire(crate::wire::Error::at("dimensions", message)));
    }
    let embedded = server.pipeline.embed(&asked.input).await.map_err(Error::Embed)?;
    let body = embeddings::encode(&asked, &embedded, estimated_tokens(&asked.input));
    Ok(json(body))
}

/// `POST /api/embed`
pub(super) async fn ollama(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    let asker = Asker::new(Protocol::OllamaChat, &headers);
    asker.respond(ollama_embed(&server, &headers, body).await)
}

/// `POST /api/embeddings`, which older clients ask: one text, one vector.
pub(super) async fn ollama_one(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let asker = Asker::new(Protocol::OllamaChat, &headers);
    asker.respond(ollama_embedding(&server, &headers, body).await)
}

async fn ollama_embedding(server: &Server, headers: &HeaderMap, body: Body) -> Result<Response, Error> {
    auth::tenant(&server.config.clients, headers).ok_or(Error::Unauthorized)?;
    let body = read::body(server, body).await?;
    let (model, text) = ollama::decode_embedding(&body).map_err(Error::Wire)?;
    if model != MODEL {
        return asked_of_ollama(server, &model, "/api/embeddings", body).await;
    }
    let vectors = server.pipeline.embed(&[text]).await.map_err(Error::Embed)?;
    let vector = vectors.first().map(Vec::as_slice).unwrap_or_default();
    Ok(json(ollama::embedding_reply(vector).to_string().into()))
}

async fn asked_of_ollama(
    server: &Server,
    model: &str,
    path: &'static str,
    body: Bytes,
) -> Result<Response, Error> {
    let provider = server.providers.ollama(model).ok_or_else(|| Error::NoSuchModel(shortened(model)))?;
    let passed =
        provider.ask(path, controls::strip(body)).await.map_err(|error| Error::Pipeline(error.into()))?;
    Ok(pass::response(passed))
}

async fn ollama_embed(server: &Server, headers: &HeaderMap, body: Body) -> Result<Response, Error> {
    auth::tenant(&server.config.clients, headers).ok_or(Error::Unauthorized)?;
    let body = read::body(server, body).await?;
    let (model, input) = ollama::decode_embed(&body).map_err(Error::Wire)?;
    if model != MODEL {
        return asked_of_ollama(server, &model, "/api/embed", body).await;
    }
    let embedded = server.pipeline.embed(&input).await.map_err(Error::Embed)?;
    Ok(json(ollama::embed_reply(&model, &embedded, estimated_tokens(&input)).to_string().into()))
}

async fn forwarded(server: &Server, model: &str, body: Bytes) -> Result<Response, Error> {
    let mut providers = server.providers.embedding(model);
    let provider = providers.next().ok_or_else(|| Error::NoSuchModel(shortened(model)))?;
    let passed =
        provider.embed(controls::strip(body)).await.map_err(|error| Error::Pipeline(error.into()))?;
    Ok(pass::response(passed))
}

fn model_in(body: &[u8]) -> String {
    /// Nothing else is kept: a long list of tokens would be many times as long in memory.
    #[derive(Default, Deserialize)]
    struct Named {
        model: String,
    }
    serde_json::from_slice::<Named>(body).unwrap_or_default().model
}

/// About four bytes of text are a token; the tokenizer itself is busy elsewhere.
fn estimated_tokens(texts: &[String]) -> u64 {
    texts.iter().map(|text| (text.len() as u64).div_ceil(4)).sum()
}

fn shortened(model: &str) -> String {
    model.chars().take(100).collect()
}

fn json(body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Why a text has no vector, as clients see it.
pub(super) fn failed(error: &EmbedError) -> Failed {
    match error {
        EmbedError::Off => Failed::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "api_error",
            "encoder_off",
            format!("{MODEL} is not loaded; GET /status says why"),
        ),
        EmbedError::TooLong(at) => Failed::invalid(
            StatusCode::BAD_REQUEST,
            "text_too_long",
            format!("`input[{at}]` is longer than {MODEL} reads"),
        ),
        EmbedError::Busy => Failed::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded_error",
            "encoder_busy",
            "too many texts wait to be embedded",
        )
        .come_back_in(BUSY_RETRY),
        EmbedError::Failed => {
            Failed::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", "encoder_failed", "the model failed")
        }
    }
}
