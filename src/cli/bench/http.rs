//! A sidecar of the bench that is spoken to over HTTP.

use crate::cache::Cache;
use crate::clock::SystemClock;
use crate::lab::cache::answers::NAME;
use crate::lab::cache::drive::{Given, MODEL, Sidecar, settle};
use crate::pipeline::{Learner, Pipeline};
use crate::server::{self, Component, Providers, Server, Status};
use crate::telemetry::Metrics;
use crate::upstream::prices::Prices;
use async_trait::async_trait;
use reqwest::Client;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server on a port of its own, and who asks it.
pub(super) struct Http {
    client: Client,
    url: String,
    cache: Arc<Cache>,
    learner: Learner,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Http {
    pub(super) async fn start(pipeline: Pipeline) -> Result<Self, Box<dyn std::error::Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1/chat/completions", listener.local_addr()?);
        let (cache, learner) = (Arc::clone(&pipeline.cache), pipeline.learner.clone());
        let server = Server {
            config: server::Config::default(),
            pipeline,
            metrics: Metrics::new(Prices::default()),
            status: Arc::new(status),
            models: Vec::new(),
            providers: Providers::default(),
            files: None,
            clock: Arc::new(SystemClock),
        };
        let (stop, stopped) = oneshot::channel();
        let served = server::serve(listener, Arc::new(server), async { drop(stopped.await) });
        // Installing it twice is no fault: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().tcp_nodelay(true).timeout(PATIENCE).build()?;
        Ok(Self { client, url, cache, learner, stop, served: tokio::spawn(served) })
    }

    /// Where it answers chats.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn stop(self) {
        let Self { client, stop, served, .. } = self;
        drop((client, stop));
        // One that does not stop is no reason to wait for it.
        let _ = tokio::time::timeout(PATIENCE, served).await;
    }
}

fn status() -> Status {
    let none = || Component::ready("bench");
    Status {
        version: env!("CARGO_PKG_VERSION"),
        started: 0,
        device: String::new(),
        encoder: none(),
        local: none(),
        store: none(),
        rules: 0,
        chain: Vec::new(),
        queues: std::collections::BTreeMap::new(),
        mirrored: None,
        webhooks: Vec::new(),
        journal: None,
    }
}

#[async_trait]
impl Sidecar for Http {
    async fn ask(&self, project: &str, id: &str, text: &str) -> Result<Given, String> {
        let body = json!({
            "model": MODEL, "temperature": 0, NAME: id,
            "messages": [{ "role": "user", "content": text }],
        });
        let began = Instant::now();
        let asked = self.client.post(&self.url).header("x-weir-project", project).body(body.to_string());
        let response = asked.send().await.map_err(|error| error.to_string())?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {body}"));
        }
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        Ok(Given {
            source: header("x-weir-source").unwrap_or_default(),
            first: header("x-weir-replay-of"),
            took: began.elapsed(),
        })
    }

    async fn settle(&self) {
        settle(&self.cache, &self.learner).await;
    }
}
