//! A provider over HTTP, in whichever protocols it speaks.
//!
//! The answer is streamed through and through: a chunk is handed on as it arrives, and dropping the stream
//! closes the connection, so that a client who leaves stops the provider's work.

mod config;
mod date;
mod dialect;
mod failure;
mod frames;
mod pass;
mod service;
mod wait;

pub use config::{Config, ProviderKind, SetupError};
pub use pass::{Passage, Passed, forwarded};
pub use service::Service;

use super::{Call, Chunks, Error, Kind, Load, Opened, Origin, Upstream};
use crate::chat::{Chunk, Form, Protocol, Raw, Request, matches};
use crate::secret::Secret;
use crate::wire::Decoder;
use async_trait::async_trait;
use dialect::{Outgoing, key_header};
use failure::{Report, read_bounded};
use frames::Frames;
use futures_util::{StreamExt as _, stream};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};
use std::sync::Arc;
use std::time::Duration;

/// The longest whole reply we take.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// How many idle connections to one provider are kept open.
const MAX_IDLE_CONNECTIONS: usize = 128;

/// The headers of an answer that a client of the same protocol looks for: how much it may still ask, and what
/// its question took.
const TOLD: [&str; 6] = [
    "anthropic-ratelimit-*",
    "anthropic-organization-id",
    "x-ratelimit-*",
    "openai-organization",
    "openai-processing-ms",
    "openai-version",
];

/// How providers call the id of a request, and what it is called to clients: they know ours.
const IDS: [&str; 2] = ["request-id", "x-request-id"];
const UPSTREAM_ID: &str = "x-weir-upstream-request-id";

/// To how many tokens an answer was cut short.
const CAPPED: &str = "x-weir-max-tokens";

/// How a request is called across programs.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Speaks to a provider.
pub struct Provider {
    name: Arc<str>,
    kind: ProviderKind,
    preset: &'static str,
    protocol: Protocol,
    base_url: String,
    models: Vec<String>,
    model_names: Vec<(String, String)>,
    include_usage: bool,
    /// The most tokens that models are let write, by patterns of their names.
    max_tokens: Vec<(String, u64)>,
    client: Client,
    /// Sent with every request; our key is among them.
    headers: HeaderMap,
    /// What must never be repeated from what it says.
    secrets: Arc<[Secret]>,
    first_token_timeout: Duration,
    idle_timeout: Duration,
    reply_timeout: Duration,
}

impl Provider {
    /// Sets up the connection pool; nothing is sent yet.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        let own_headers = own_headers(&config)?;
        let Config {
            name,
            kind,
            preset,
            protocol,
            base_url,
            api_key,
            models,
            model_names,
            include_usage,
            headers,
            connect_timeout,
            first_token_timeout,
            idle_timeout,
            reply_timeout,
            limits: _,
            price: _,
            listed: _,
            context_windows: _,
            max_tokens,
            rotation: _,
            profiles: _,
            needs_key: _,
        } = config;
        Ok(Self {
            client: client(&name, &base_url, connect_timeout)?,
            name: name.into(),
            kind,
            preset,
            protocol,
            base_url: kind.base_url(&base_url),
            models,
            model_names,
            include_usage,
            max_tokens,
            headers: own_headers,
            secrets: headers.into_iter().map(|(_, value)| value).chain(api_key).collect(),
            first_token_timeout,
            idle_timeout,
            reply_timeout,
        })
    }

    /// The same provider, asked with another key, over the same connections.
    pub fn with_key(&self, key: &Secret) -> Result<Self, SetupError> {
        let (name, value) = key_header(self.kind, key);
        let mut headers = self.headers.clone();
        headers.extend(header(&self.name, name, &value)?);
        Ok(Self {
            name: Arc::clone(&self.name),
            base_url: self.base_url.clone(),
            models: self.models.clone(),
            model_names: self.model_names.clone(),
            max_tokens: self.max_tokens.clone(),
            client: self.client.clone(),
            headers,
            secrets: self.secrets.iter().chain([key]).cloned().collect(),
            ..*self
        })
    }

    /// What sort of provider it is.
    pub fn kind(&self) -> ProviderKind {
        self.kind
    }

    /// What requests of other protocols are translated to.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether it is asked for `model`.
    pub fn serves(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| matches(pattern, model))
    }

    fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        Error::new(kind, &self.name, message)
    }

    fn too_late(&self, patience: Duration) -> Error {
        self.error(Kind::Timeout, format!("nothing came within {} s", patience.as_secs_f64()))
    }

    async fn send(&self, outgoing: Outgoing) -> Result<Response, Error> {
        let Outgoing { url, headers, body, .. } = outgoing;
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| self.transport_error(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// The URL may hold a key, so it never becomes part of a message.
    fn transport_error(&self, error: &reqwest::Error) -> Error {
        match error {
            error if error.is_connect() && error.is_timeout() => {
                self.error(Kind::Timeout, "no connection in time")
            }
            error if error.is_connect() => self.error(Kind::Connection, "could not connect"),
            error if error.is_timeout() => self.error(Kind::Timeout, "no answer in time"),
            _ => self.error(Kind::Connection, "the connection broke off"),
        }
    }

    async fn refusal(&self, response: Response) -> Error {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body =
            read_bounded(response, failure::MAX_REPORT_BYTES, self.idle_timeout).await.unwrap_or_default();
        Report::read(status, &body).error(&self.name, &headers, &self.secrets)
    }

    async fn open_whole(&self, protocol: Protocol, response: Response) -> Result<Chunks, Error> {
        let headers = response.headers().clone();
        let body = read_bounded(response, MAX_REPLY_BYTES, self.idle_timeout).await.ok_or_else(|| {
            self.error(Kind::BadResponse, "the reply broke off, stood still, or is too long")
        })?;
        let events = Decoder::new(protocol).whole(&body).map_err(|error| match Report::in_reply(&body) {
            Some(report) => report.error(&self.name, &headers, &self.secrets),
            None => self.error(Kind::BadResponse, error.message),
        })?;
        let raw = Raw { protocol, form: Form::Whole, bytes: body };
        Ok(stream::iter([Ok(Chunk { raw: Some(raw), events })]).boxed())
    }

    async fn open_stream(&self, protocol: Protocol, response: Response) -> Result<Chunks, Error> {
        let secrets = Arc::clone(&self.secrets);
        let mut frames = Frames::new(&self.name, protocol, self.first_token_timeout, response, secrets);
        let beginning = frames.beginning().await?;
        frames.patience = self.idle_timeout;
        let rest = stream::unfold(frames, async |mut frames| Some((frames.next().await?, frames)));
        Ok(stream::iter(beginning.into_iter().map(Ok)).chain(rest).boxed())
    }

    async fn answer(&self, request: &Request, call: &Call) -> Result<Opened, Error> {
        let mut outgoing = self.outgoing(request)?;
        outgoing.headers.extend(correlation(call));
        let (protocol, dropped) = (outgoing.protocol, std::mem::take(&mut outgoing.dropped));
        let capped = outgoing.capped;
        // A reply that comes whole says nothing until it is complete: that is no sign of a provider that hangs.
        let patience = if request.delivery.stream { self.first_token_timeout } else { self.reply_timeout };
        let response = self.within(patience, self.send(outgoing)).await?;
        let mut headers = told(response.headers(), protocol == request.received.protocol);
        headers.extend(capped.map(|cap| (CAPPED.to_owned(), cap.to_string())));
        let load = Load { full_for: full_for(response.headers()), ..Load::default() };
        let chunks = if is_stream(protocol, request, &response) {
            self.open_stream(protocol, response).await?
        } else {
            self.open_whole(protocol, response).await?
        };
        let (by, failed) = (Arc::clone(&self.name), Vec::new());
        let model = request.model.as_str().into();
        Ok(Opened { by, model, origin: Origin::Provider, failed, dropped, headers, load, chunks })
    }
}

/// For how long it takes no more, where its answer says that nothing is left of one of its limits.
fn full_for(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    wait::of_spent(&text, failure::hour(headers))
}

/// By which whoever reads the provider's log and ours knows the request.
fn correlation(call: &Call) -> HeaderMap {
    let id = Some(&call.envelope.correlation_id).filter(|id| !id.is_empty());
    let value = id.and_then(|id| HeaderValue::try_from(id).ok());
    value.map(|value| (CORRELATION_ID, value)).into_iter().collect()
}

/// What `headers` say to the client: the id of the provider's own, and where it speaks the same protocol, what
/// its SDK looks for.
fn told(headers: &HeaderMap, at_home: bool) -> Vec<(String, String)> {
    let line = |name: &str, value: &HeaderValue| Some((name.to_owned(), value.to_str().ok()?.to_owned()));
    let id = IDS.iter().find_map(|name| line(UPSTREAM_ID, headers.get(*name)?));
    let named = headers.iter().filter(|(name, _)| TOLD.iter().any(|told| matches(told, name.as_str())));
    named.filter(|_| at_home).filter_map(|(name, value)| line(name.as_str(), value)).chain(id).collect()
}

/// Asked for a stream, some servers answer whole, and the other way round; what came is what counts.
fn is_stream(protocol: Protocol, request: &Request, response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is = |name| kind.to_ascii_lowercase().starts_with(name);
    // Its lines are JSON too, and so some say.
    let lines = matches!(protocol, Protocol::OllamaChat | Protocol::OllamaGenerate)
        && request.delivery.stream
        && is("application/json");
    lines || is("text/event-stream") || is("application/x-ndjson")
}

/// Whether a URL leads to this machine, where no proxy has a say.
pub fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn client(name: &str, base_url: &str, connect_timeout: Duration) -> Result<Client, SetupError> {
    // Installing it twice is no fault: the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = if is_loopback(base_url) { Client::builder().no_proxy() } else { Client::builder() };
    builder
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| SetupError::Client { upstream: name.to_owned(), reason: error.to_string() })
}

fn own_headers(config: &Config) -> Result<HeaderMap, SetupError> {
    let mut headers = HeaderMap::new();
    let key = config.api_key.as_ref().map(|key| key_header(config.kind, key));
    let all = config.headers.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in all.chain(key.iter().map(|(name, value)| (*name, value))) {
        headers.extend(header(&config.name, name, value)?);
    }
    Ok(headers)
}

/// A header whose value nobody is shown.
fn header(upstream: &str, name: &str, value: &Secret) -> Result<HeaderMap, SetupError> {
    let bad = || SetupError::BadHeader { upstream: upstream.to_owned(), header: name.to_owned() };
    let key = HeaderName::try_from(name).map_err(|_| bad())?;
    let mut value = HeaderValue::try_from(value.expose()).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(key, value)]))
}

#[async_trait]
impl Upstream for Provider {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self, _: &Request) -> Origin {
        Origin::Provider
    }

    async fn open(&self, request: &Request, call: &Call) -> Result<Opened, Error> {
        self.within(self.reply_timeout, self.answer(request, call)).await
    }
}
