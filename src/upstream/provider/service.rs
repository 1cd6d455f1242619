//! A local service that is asked one short question.

use super::failure::read_bounded;
use reqwest::{Client, Method, redirect};
use std::time::Duration;

/// The longest answer.
const MAX_ANSWER_BYTES: usize = 256 << 10;

/// Asks local services.
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
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder().no_proxy().redirect(redirect::Policy::none()).tcp_nodelay(true);
        Self { client: builder.build().ok() }
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
        let client = self.client.as_ref().ok_or("HTTP could not be set up")?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| "the method is none of HTTP's")?;
        let mut request = client.request(method, url).timeout(deadline);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(|error| error.without_url().to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("it answered with status {}", status.as_u16()));
        }
        let body = read_bounded(response, MAX_ANSWER_BYTES, deadline).await;
        let body = body.ok_or("its answer broke off or was too long")?;
        String::from_utf8(body.to_vec()).map_err(|_| "its answer is no text".to_owned())
    }
}
