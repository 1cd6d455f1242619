//! A provider over HTTP: any server that speaks OpenAI chat completions.
//!
//! The answer is streamed through and through: a chunk is handed on as it arrives, and dropping the stream
//! closes the connection, so that a client who leaves stops the provider's work.

mod failure;

use super::{Chunks, Error, Kind, Opened, Origin, Upstream};
use crate::chat::{Chunk, Form, Protocol, Raw, Request};
use crate::secret::Secret;
use crate::wire::openai_chat::{Decoder, encode_request};
use crate::wire::sse;
use async_trait::async_trait;
use bytes::Bytes;
use failure::{Report, read_bounded};
use futures_util::{StreamExt as _, stream};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The longest whole reply we take.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// How long a reply that comes whole may take. It says nothing until it is complete, so this is no sign of a
/// provider that hangs; the server's own limit on a request comes on top.
const WHOLE_REPLY_TIMEOUT: Duration = Duration::from_mins(5);

/// How many idle connections to one provider are kept open.
const MAX_IDLE_CONNECTIONS: usize = 128;

/// How a provider is reached.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is called.
    pub name: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// Up to and with the version: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent as a bearer token; none for servers that want none.
    pub api_key: Option<Secret>,
    /// Patterns (`*` stands for anything) of the models it is asked for.
    pub models: Vec<String>,
    /// Sent along with every request.
    pub headers: Vec<(String, Secret)>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long the first chunk of a stream may take.
    pub first_token_timeout: Duration,
    /// How long an answer may pause between two chunks.
    pub idle_timeout: Duration,
    /// US dollars for a million tokens read, and for a million written.
    pub price: Option<Price>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI itself.
    OpenAi,
    /// Anthropic, through its OpenAI-compatible endpoint.
    Anthropic,
    /// Google Gemini, through its OpenAI-compatible endpoint.
    Gemini,
    /// Ollama, through its OpenAI-compatible endpoint.
    Ollama,
    /// Anything else that is OpenAI-compatible.
    Generic,
}

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Read.
    pub input: f64,
    /// Written.
    pub output: f64,
}

/// A provider that cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A header has a name or a value that HTTP does not allow. The value may be a secret, so only the name
    /// is told.
    #[error("upstream \"{upstream}\": the header \"{header}\" is not valid")]
    BadHeader {
        /// The upstream.
        upstream: String,
        /// The header's name.
        header: String,
    },
    /// The HTTP client could not be made.
    #[error("upstream \"{upstream}\": {reason}")]
    Client {
        /// The upstream.
        upstream: String,
        /// Why.
        reason: String,
    },
}

/// Speaks to a provider.
pub struct Provider {
    name: Arc<str>,
    url: String,
    client: Client,
    /// What must never be repeated from what it says.
    secrets: Vec<Secret>,
    first_token_timeout: Duration,
    idle_timeout: Duration,
}

impl Provider {
    /// Sets up the connection pool; nothing is sent yet.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        let default_headers = default_headers(&config)?;
        let Config {
            name,
            base_url,
            api_key,
            headers,
            connect_timeout,
            first_token_timeout,
            idle_timeout,
            ..
        } = config;
        // Installing it twice is no fault: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = if is_loopback(&base_url) { Client::builder().no_proxy() } else { Client::builder() };
        let client = builder
            .default_headers(default_headers)
            .connect_timeout(connect_timeout)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SetupError::Client { upstream: name.clone(), reason: error.to_string() })?;
        let url = format!("{}/chat/completions", base_url.trim_end_matches('/'));
        let secrets = headers.into_iter().map(|(_, value)| value).chain(api_key).collect();
        Ok(Self { name: name.into(), url, client, secrets, first_token_timeout, idle_timeout })
    }

    fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        Error::new(kind, &self.name, message)
    }

    async fn send(&self, request: &Request) -> Result<Response, Error> {
        let accept = if request.delivery.stream { "text/event-stream" } else { "application/json" };
        let sent =
            self.client.post(&self.url).header(ACCEPT, accept).body(encode_request(request)).send().await;
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
        let status = response.status().as_u16();
        let retry_after = failure::retry_after(response.headers());
        let body = read_bounded(response, failure::MAX_REPORT_BYTES).await.unwrap_or_default();
        let report = Report::read(status, &body);
        let message = report.message(&self.secrets);
        Error { status: Some(status), retry_after, ..self.error(report.kind(), message) }
    }

    async fn open_whole(&self, response: Response) -> Result<Chunks, Error> {
        let body = read_bounded(response, MAX_REPLY_BYTES)
            .await
            .ok_or_else(|| self.error(Kind::BadResponse, "the reply broke off, or is too long"))?;
        let events =
            Decoder::default().whole(&body).map_err(|error| self.error(Kind::BadResponse, error.message))?;
        let raw = Raw { protocol: Protocol::OpenAiChat, form: Form::Whole, bytes: body };
        Ok(stream::iter([Ok(Chunk { raw: Some(raw), events })]).boxed())
    }

    /// Reads on until the first chunk is in hand: up to there another upstream may be asked.
    async fn open_stream(&self, response: Response) -> Result<Chunks, Error> {
        let mut frames = Frames::new(&self.name, self.first_token_timeout, response);
        match frames.next().await {
            Some(Ok(first)) => {
                frames.patience = self.idle_timeout;
                let rest = stream::unfold(frames, async |mut frames| Some((frames.next().await?, frames)));
                Ok(stream::iter([Ok(first)]).chain(rest).boxed())
            }
            // A cut before the first chunk is no cut for the client.
            Some(Err(error)) if error.kind == Kind::Cut => Err(Error { kind: Kind::BadResponse, ..error }),
            Some(Err(error)) => Err(error),
            None => Err(self.error(Kind::BadResponse, "the stream ended before it began")),
        }
    }

    async fn answer(&self, request: &Request) -> Result<Chunks, Error> {
        let response = self.send(request).await?;
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // Asked for a stream, some servers answer whole, and the other way round; what came is what counts.
        if kind.starts_with("text/event-stream") {
            self.open_stream(response).await
        } else {
            self.open_whole(response).await
        }
    }
}

/// Whether a URL leads to this machine, where no proxy has a say.
pub fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn default_headers(config: &Config) -> Result<HeaderMap, SetupError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let bearer = config.api_key.as_ref().map(|key| Secret::new(format!("Bearer {}", key.expose())));
    let all = config.headers.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in all.chain(bearer.iter().map(|value| (AUTHORIZATION.as_str(), value))) {
        let bad = || SetupError::BadHeader { upstream: config.name.clone(), header: name.to_owned() };
        let key = HeaderName::try_from(name).map_err(|_| bad())?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

#[async_trait]
impl Upstream for Provider {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self, _: &Request) -> Origin {
        Origin::Provider
    }

    async fn open(&self, request: &Request) -> Result<Opened, Error> {
        let patience = if request.delivery.stream { self.first_token_timeout } else { WHOLE_REPLY_TIMEOUT };
        let chunks = timeout(patience, self.answer(request)).await.unwrap_or_else(|_| {
            let message = format!("nothing came within {} s", patience.as_secs_f64());
            Err(self.error(Kind::Timeout, message))
        })?;
        Ok(Opened { by: Arc::clone(&self.name), origin: Origin::Provider, failed: Vec::new(), chunks })
    }
}

/// The frames of a stream, as they arrive.
struct Frames {
    name: Arc<str>,
    /// How long the next bytes may take.
    patience: Duration,
    response: Response,
    bytes: sse::Decoder,
    decoder: Decoder,
    ready: VecDeque<Result<Chunk, Error>>,
    over: bool,
}

impl Frames {
    fn new(name: &Arc<str>, patience: Duration, response: Response) -> Self {
        Self {
            name: Arc::clone(name),
            patience,
            response,
            bytes: sse::Decoder::default(),
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            over: false,
        }
    }

    async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        while self.ready.is_empty() && !self.over {
            self.read().await;
        }
        self.ready.pop_front()
    }

    async fn read(&mut self) {
        match timeout(self.patience, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => match self.bytes.push(&bytes) {
                Ok(payloads) => payloads.into_iter().for_each(|payload| self.take(payload)),
                Err(error) => self.fail(Kind::BadResponse, &error.to_string()),
            },
            Ok(Ok(None)) => self.end(),
            Ok(Err(_)) => self.fail(Kind::Cut, "the stream broke off"),
            Err(_) => self.fail(Kind::Timeout, "the stream stood still for too long"),
        }
    }

    fn take(&mut self, payload: Vec<u8>) {
        if self.over {
            return;
        }
        match self.decoder.frame(&payload) {
            Ok(events) => {
                // After the terminal event nothing more is wanted: let the connection go.
                self.over = self.decoder.ended();
                let raw =
                    Raw { protocol: Protocol::OpenAiChat, form: Form::Frame, bytes: Bytes::from(payload) };
                self.ready.push_back(Ok(Chunk { raw: Some(raw), events }));
            }
            Err(error) => self.fail(Kind::Cut, &error.message),
        }
    }

    fn end(&mut self) {
        if let Some(payload) = self.bytes.finish() {
            self.take(payload);
        }
        if !self.over {
            match self.decoder.finish() {
                Some(events) => self.ready.push_back(Ok(events.into())),
                None => self.fail(Kind::Cut, "the stream ended before the answer was complete"),
            }
        }
        self.over = true;
    }

    fn fail(&mut self, kind: Kind, message: &str) {
        self.ready.push_back(Err(Error::new(kind, &self.name, message)));
        self.over = true;
    }
}
