//! The OpenAI face: chat completions and models.

use super::error::{Error, Shape};
use super::{Server, auth};
use crate::chat::{Chunk, Delivery, Folder, Form, Protocol, Request};
use crate::pipeline::{Answer, Caller, Memory, Source};
use crate::upstream::{self, Chunks};
use crate::wire::openai_chat::{StreamEncoder, decode_request, encode_reply};
use crate::wire::sse;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::{Instant, timeout, timeout_at};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROJECT: &str = "x-weir-project";
const DEFAULT_PROJECT: &str = "default";

/// The longest project or request id.
const MAX_NAME: usize = 256;

/// `POST /v1/chat/completions`
pub(super) async fn chat(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    let request_id = request_id(&headers);
    let deadline = Instant::now() + server.config.request_timeout;
    let answered = match understand(&server, &request_id, &headers, body, deadline).await {
        Ok((caller, request)) => answer(&server, caller, request, deadline).await,
        Err(error) => {
            // It never reaches the path, so the path cannot tell of it.
            server.metrics.reject(&request_id, Shape::from(&error).code());
            Err(error)
        }
    };
    let mut response = answered.unwrap_or_else(Error::into_response);
    set(response.headers_mut(), REQUEST_ID, &request_id);
    response
}

/// Who asks, and what.
async fn understand(
    server: &Server,
    request_id: &str,
    headers: &HeaderMap,
    body: Body,
    deadline: Instant,
) -> Result<(Caller, Request), Error> {
    let caller = caller(server, request_id, headers, deadline)?;
    let request = decode_request(&read(server, body).await?).map_err(Error::Wire)?;
    Ok((caller, request))
}

async fn answer(
    server: &Server,
    caller: Caller,
    request: Request,
    deadline: Instant,
) -> Result<Response, Error> {
    let delivery = request.delivery.clone();
    let answer = match timeout_at(deadline, server.pipeline.answer(caller, request)).await {
        Ok(answer) => answer.map_err(Error::Pipeline)?,
        Err(_) => return Err(Error::Deadline(server.config.request_timeout)),
    };
    let facts = fact_headers(&answer);
    let mut response = match delivery.stream {
        true => streamed(server, &delivery, answer.chunks, deadline),
        false => whole(server, answer.chunks, deadline).await?,
    };
    response.headers_mut().extend(facts);
    Ok(response)
}

fn caller(
    server: &Server,
    request_id: &str,
    headers: &HeaderMap,
    deadline: Instant,
) -> Result<Caller, Error> {
    let tenant = auth::tenant(&server.config.clients, headers).ok_or(Error::Unauthorized)?;
    let project = match headers.get(PROJECT) {
        None => DEFAULT_PROJECT,
        // A project that cannot be read must not fall into the one of everybody else.
        Some(value) => visible(value).ok_or(Error::BadHeader(PROJECT))?,
    };
    let (request_id, project) = (request_id.to_owned(), project.to_owned());
    Ok(Caller { request_id, tenant, project, memory: memory(headers), deadline })
}

/// What `Cache-Control` allows: `no-store` is neither answered from memory nor remembered, `no-cache` is
/// asked afresh and remembered.
fn memory(headers: &HeaderMap) -> Memory {
    let said = |wanted: &str| {
        let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    let no_store = said("no-store");
    Memory { read: !no_store && !said("no-cache"), write: !no_store }
}

/// The client's own id for its request, if it is fit to be repeated; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(visible);
    given.map_or_else(|| format!("req_{:032x}", rand::random::<u128>()), str::to_owned)
}

fn visible(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let fit = !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(|byte| byte.is_ascii_graphic());
    fit.then_some(text)
}

async fn read(server: &Server, body: Body) -> Result<Bytes, Error> {
    let limit = server.config.max_body_bytes;
    match timeout(server.config.body_timeout, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Error::BodyTooLarge(limit)),
        Ok(Err(_)) => Err(Error::BodyCut),
        Err(_) => Err(Error::BodyTimeout),
    }
}

/// Where the answer comes from, for whoever wants to know.
fn fact_headers(answer: &Answer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let source = &answer.source;
    set(&mut headers, HeaderName::from_static("x-weir-source"), source.name());
    set(&mut headers, CACHE_STATUS, &cache_status(source));
    if let Some(upstream) = source.upstream() {
        set(&mut headers, HeaderName::from_static("x-weir-upstream"), upstream);
    }
    if let Some(age) = source.age() {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    match source {
        Source::Rule { rule } => set(&mut headers, HeaderName::from_static("x-weir-rule"), rule),
        Source::Semantic { similarity, .. } => {
            set(&mut headers, HeaderName::from_static("x-weir-similarity"), &format!("{similarity:.4}"));
        }
        Source::Exact { .. } | Source::Upstream { .. } | Source::Local { .. } => {}
    }
    if !answer.failed.is_empty() {
        set(&mut headers, HeaderName::from_static("x-weir-failed"), &failures(&answer.failed));
    }
    headers
}

/// RFC 9211.
fn cache_status(source: &Source) -> String {
    match source {
        Source::Rule { .. } => "weir; detail=rule".to_owned(),
        Source::Exact { .. } | Source::Semantic { .. } => format!("weir; hit; detail={}", source.name()),
        Source::Upstream { miss, .. } | Source::Local { miss, .. } => {
            format!("weir; fwd=miss; detail={}", miss.name())
        }
    }
}

fn failures(failed: &[upstream::Error]) -> String {
    let each: Vec<String> =
        failed.iter().map(|error| format!("{}={}", error.upstream, error.kind.name())).collect();
    each.join(", ")
}

/// A value that HTTP does not allow is left out: a header is never worth a failed request.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The whole answer in one body: verbatim where a provider of the same protocol gave it whole.
async fn whole(server: &Server, mut chunks: Chunks, deadline: Instant) -> Result<Response, Error> {
    let mut folder = Folder::default();
    let mut verbatim = None;
    while let Some(chunk) = next(server, &mut chunks, deadline).await? {
        chunk.events.iter().for_each(|event| folder.push(event));
        let raw = chunk.raw.filter(|raw| (raw.protocol, raw.form) == (Protocol::OpenAiChat, Form::Whole));
        verbatim = verbatim.or(raw);
        if folder.ended() {
            break;
        }
    }
    let body = match verbatim {
        Some(raw) => raw.bytes,
        None => encode_reply(&folder.finish().map_err(|fault| Error::Incomplete(fault.to_string()))?).into(),
    };
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

async fn next(server: &Server, chunks: &mut Chunks, deadline: Instant) -> Result<Option<Chunk>, Error> {
    match timeout_at(deadline, chunks.next()).await {
        Ok(chunk) => chunk.transpose().map_err(|error| Error::Pipeline(error.into())),
        Err(_) => Err(Error::Deadline(server.config.request_timeout)),
    }
}

/// The answer as events, each as soon as it is there.
fn streamed(server: &Server, delivery: &Delivery, chunks: Chunks, deadline: Instant) -> Response {
    let state = Streaming {
        encoder: StreamEncoder::new(delivery.include_usage()),
        chunks,
        deadline,
        limit: server.config.request_timeout,
        over: false,
    };
    let body = stream::unfold(state, async |mut state| {
        let bytes = state.next().await?;
        Some((Ok::<_, Infallible>(bytes), state))
    });
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")], Body::from_stream(body))
        .into_response()
}

struct Streaming {
    encoder: StreamEncoder,
    chunks: Chunks,
    deadline: Instant,
    limit: std::time::Duration,
    over: bool,
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            let bytes = match timeout_at(self.deadline, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.encode(&chunk),
                Ok(Some(Err(error))) => self.fail(&Error::Pipeline(error.into())),
                Ok(None) => return None,
                Err(_) => self.fail(&Error::Deadline(self.limit)),
            };
            if !bytes.is_empty() {
                return Some(bytes.into());
            }
        }
        None
    }

    /// Verbatim where the provider speaks the same protocol, else from its meaning.
    fn encode(&mut self, chunk: &Chunk) -> Vec<u8> {
        // Once the end is said, nothing else is: close promptly.
        self.over = chunk.events.contains(&crate::chat::Event::End);
        match &chunk.raw {
            Some(raw) if (raw.protocol, raw.form) == (Protocol::OpenAiChat, Form::Frame) => {
                sse::frame(&raw.bytes)
            }
            _ => chunk.events.iter().flat_map(|event| self.encoder.event(event)).collect(),
        }
    }

    /// The head with its 200 is long gone: the error is told in the stream, in the way that SDKs raise.
    fn fail(&mut self, error: &Error) -> Vec<u8> {
        self.over = true;
        sse::frame(&Shape::from(error).body())
    }
}

/// `GET /v1/models`
pub(super) async fn models(State(server): State<Arc<Server>>, headers: HeaderMap) -> Result<Response, Error> {
    auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
    let created = server.clock.now().as_secs();
    let entry = |id: &String| json!({ "id": id, "object": "model", "created": created, "owned_by": "weir" });
    let data: Vec<_> = server.models.iter().map(entry).collect();
    Ok(axum::Json(json!({ "object": "list", "data": data })).into_response())
}
