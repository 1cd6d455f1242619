//! A service that is asked one short question, or told something.

use super::failure::read_bounded;
use super::is_loopback;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, redirect};
use std::time::Duration;

/// The longest answer.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// Asks local services, and tells others.
pub struct Service {
    /// `None` where it could not be set up.
    client: Option<Client>,
}

impl Default for Service {
    fn default() -> Self {
        Self::new()
    }
}

impl Service {
    /// It follows nobody elsewhere, and goes through no proxy: who is asked is said in the rules.
    pub fn new() -> Self {
        Self::of(Client::builder().no_proxy())
    }

    /// For whoever is at `url`: through the proxies of this machine, unless that is on it. It follows nobody elsewhere.
    pub fn outward(url: &str) -> Self {
        let builder = Client::builder().user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")));
        Self::of(if is_loopback(url) { builder.no_proxy() } else { builder })
    }

    fn of(builder: ClientBuilder) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { client: builder.redirect(redirect::Policy::none()).tcp_nodelay(true).build().ok() }
    }

    /// What the service says, or why it says nothing. The reason holds neither the address nor a header.
    pub async fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Option<String>,
        deadline: Duration,
    ) -> Result<String, String> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| "the method is none of HTTP's")?;
        let request = self.request(method, url, headers, deadline)?;
        let response = sent(match body {
            Some(body) => request.header("content-type", "application/json").body(body),
            None => request,
        });
        let response = response.await?;
        let body = read_bounded(response, MAX_ANSWER_BYTES, deadline).await;
        let body = body.ok_or("its answer broke off or was too long")?;
        String::from_utf8(body.to_vec()).map_err(|_| "its answer is no text".to_owned())
    }

    /// Tells it `body`, or why it did not take that. Whatever else it says is not looked at.
    pub async fn tell(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: String,
        deadline: Duration,
    ) -> Result<(), String> {
        let request = self.request(Method::POST, url, headers, deadline)?;
        sent(request.header("content-type", "application/json").body(body)).await.map(drop)
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(String, String)],
        deadline: Duration,
    ) -> Result<RequestBuilder, String> {
        let client = self.client.as_ref().ok_or("HTTP could not be set up")?;
        let request = client.request(method, url).timeout(deadline);
        Ok(headers.iter().fold(request, |request, (name, value)| request.header(name, value)))
    }
}

async fn sent(request: RequestBuilder) -> Result<Response, String> {
    let response = request.send().await.map_err(|error| error.without_url().to_string())?;
    let status = response.status();
    if status.is_success() {
        Ok(response)
    } else {
        Err(format!("it answered with status {}", status.as_u16()))
    }
}
