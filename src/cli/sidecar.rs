//! The running sidecar, as the commands speak to it.

use crate::config::{Config, Environment};
use crate::upstream::provider::is_loopback;
use reqwest::{Client, Method, RequestBuilder, Response};
use std::error::Error;
use std::time::Duration;

/// How long an answer may pause.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);

/// Why the sidecar did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Nobody listens there.
    #[error("no sidecar answers at {0}; start one with `weir serve`")]
    Unreachable(String),
    /// It says no.
    #[error("the sidecar answered with status {0}: {1}")]
    Refused(u16, String),
    /// What it said broke off.
    #[error("the answer broke off: {0}")]
    Cut(String),
}

/// The running sidecar.
pub(super) struct Sidecar {
    client: Client,
    url: String,
    key: Option<String>,
}

impl Sidecar {
    /// The one at `url`, or at WEIR_URL, or where the configuration says that it listens.
    pub(super) fn find(
        url: Option<String>,
        environment: &Environment,
        load: impl FnOnce() -> Result<Config, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        let url = match url.or_else(|| environment.get("WEIR_URL").map(str::to_owned)) {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", load()?.server.listen),
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = if is_loopback(&url) { Client::builder().no_proxy() } else { Client::builder() };
        let client = builder.read_timeout(IDLE_TIMEOUT).tcp_nodelay(true).build()?;
        Ok(Self { client, url, key: environment.get("WEIR_API_KEY").map(str::to_owned) })
    }

    /// A request to it, with the caller's key.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// What it answers, if it does what it was asked.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => Fault::Unreachable(self.url.clone()),
            false => cut(error),
        })?;
        let status = response.status();
        if status.is_success() { Ok(response) } else { Err(refusal(status.as_u16(), response).await) }
    }
}

/// What broke off, without the address: it may hold a password.
pub(super) fn cut(error: reqwest::Error) -> Fault {
    Fault::Cut(error.without_url().to_string())
}

async fn refusal(status: u16, response: Response) -> Fault {
    let body: serde_json::Value =
        serde_json::from_slice(&response.bytes().await.unwrap_or_default()).unwrap_or_default();
    Fault::Refused(status, body["error"]["message"].as_str().unwrap_or("no reason given").to_owned())
}
