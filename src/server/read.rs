//! What is read from a request before it is understood: who asks, under which name, and the body.

use super::envelope::{CORRELATION_ID, envelope};
use super::error::{Error, Failed};
use super::{Server, auth};
use crate::cache::Wishes;
use crate::cache::identity::STATE_TAG;
use crate::chat::Protocol;
use crate::pipeline::Caller;
use crate::upstream::Envelope;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::{Instant, timeout};

/// How OpenAI's clients know a request again.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How Anthropic's do.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// Where Gemini's clients show their key.
pub(super) const GOOGLE_KEY: &str = "x-goog-api-key";
const PROJECT: &str = "x-weir-project";
const DEFAULT_PROJECT: &str = "default";
const STATE: &str = "x-weir-state";
const TAGS: &str = "x-weir-tags";

/// The longest project, state or request id.
const MAX_NAME: usize = 256;
/// The most tags of one request, and the longest.
const MAX_TAGS: usize = 16;
const MAX_TAG: usize = 64;

/// Where a request comes from, where that is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer(pub(super) Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or_default())
    }
}

/// Who is answered, and in which protocol.
pub(super) struct Asker {
    pub(super) protocol: Protocol,
    pub(super) request_id: String,
    /// By which those before and behind us know what the request belongs to; where they say nothing, its own id.
    pub(super) correlation_id: String,
}

impl Asker {
    /// The client's own id for its request, if it is fit to be repeated; else a new one.
    pub(super) fn new(protocol: Protocol, headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(visible);
        let request_id = given.map_or_else(|| format!("req_{:032x}", rand::random::<u128>()), str::to_owned);
        let correlation_id = headers.get(CORRELATION_ID).and_then(visible).unwrap_or(&request_id).to_owned();
        Self { protocol, request_id, correlation_id }
    }

    /// Where nobody knows who asks: most clients speak this.
    pub(super) fn nobody() -> Self {
        let (request_id, correlation_id) = (String::new(), String::new());
        Self { protocol: Protocol::OpenAiChat, request_id, correlation_id }
    }

    /// The answer, or the failure in the shape of the protocol, under the request's id.
    pub(super) fn respond(&self, answered: Result<Response, Error>) -> Response {
        let mut response = answered.unwrap_or_else(|error| Failed::from(&error).respond(self));
        set(response.headers_mut(), REQUEST_ID, &self.request_id);
        set(response.headers_mut(), ANTHROPIC_REQUEST_ID, &self.request_id);
        set(response.headers_mut(), CORRELATION_ID, &self.correlation_id);
        response
    }
}

/// Gemini's clients may show their key in the query.
pub(super) fn take_key(uri: &Uri, headers: &mut HeaderMap) {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    let key = pairs.find_map(|pair| pair.strip_prefix("key="));
    if let Some(Ok(mut key)) = key.map(HeaderValue::from_str) {
        key.set_sensitive(true);
        headers.entry(GOOGLE_KEY).or_insert(key);
    }
}

pub(super) fn caller(
    server: &Server,
    asker: &Asker,
    (uri, headers, peer): (&Uri, &HeaderMap, Peer),
    deadline: Instant,
) -> Result<Caller, Error> {
    let tenant = auth::tenant(&server.config.clients, headers).ok_or(Error::Unauthorized)?;
    // A state that cannot be read must not fall into the one of everybody else.
    let project = project(headers)?.to_owned();
    let state = named(headers, STATE)?.map(str::to_owned);
    let (request_id, tags) = (asker.request_id.clone(), tags(headers)?);
    let client = auth::client(&server.config.clients, headers).map(|client| client.name.clone());
    let envelope = envelope(uri, headers, &asker.correlation_id);
    let envelope = Arc::new(Envelope { client, address: peer.0, ..envelope });
    Ok(Caller { request_id, tenant, project, state, tags, memory: Wishes::default(), deadline, envelope })
}

fn named<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Error> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => visible(value).ok_or(Error::BadHeader(name)).map(Some),
        (Some(_), Some(_)) => Err(Error::BadHeader(name)),
    }
}

/// The caller's labels, comma-separated. Those that tell of a state are ours.
fn tags(headers: &HeaderMap) -> Result<Vec<String>, Error> {
    let mut tags = Vec::new();
    for line in headers.get_all(TAGS) {
        let line = line.to_str().map_err(|_| Error::BadTags)?;
        for tag in line.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            let fit = tag.len() <= MAX_TAG && tag.bytes().all(|byte| byte.is_ascii_graphic());
            if !fit || tags.len() == MAX_TAGS || tag.starts_with(STATE_TAG) {
                return Err(Error::BadTags);
            }
            tags.push(tag.to_owned());
        }
    }
    Ok(tags)
}

/// The project that a request is about.
pub(super) fn project(headers: &HeaderMap) -> Result<&str, Error> {
    // A project that cannot be read must not fall into the one of everybody else.
    Ok(named(headers, PROJECT)?.unwrap_or(DEFAULT_PROJECT))
}

pub(super) fn visible(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let fit = !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(|byte| byte.is_ascii_graphic());
    fit.then_some(text)
}

pub(super) async fn body(server: &Server, body: Body) -> Result<Bytes, Error> {
    let limit = server.config.max_body_bytes;
    match timeout(server.config.body_timeout, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Error::BodyTooLarge(limit)),
        Ok(Err(_)) => Err(Error::BodyCut),
        Err(_) => Err(Error::BodyTimeout),
    }
}

/// A value that HTTP does not allow is left out: a header is never worth a failed request.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
