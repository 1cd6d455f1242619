//! Limits over HTTP: who is counted together is known by key, address and header, and by the route that is taken.

use crate::kit::{Rig, some_status};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use weir::intent::RuleSet;
use weir::limits::{self, Limit, Per};
use weir::secret::Secret;
use weir::server::{self, Client, Providers, Server};
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::prices::Prices;

/// A sidecar with this limit on every second request of the same, where two keys are known.
async fn start(limit: Limit) -> SocketAddr {
    let limit = Limit { name: "l".into(), requests_per_minute: Some(1), burst: Some(1), ..limit };
    let limits = limits::Config { limits: vec![limit], ..limits::Config::default() };
    let upstream = Arc::new(Scripted::new("a", [Step::say("hi")]));
    let rig = Rig::with(upstream, Arc::new(Memory::default()), RuleSet::default(), limits);
    let client = |name: &str| Client { name: name.into(), key: Secret::new(name), tenant: "t".into() };
    let config =
        server::Config { clients: vec![client("editor"), client("agent")], ..server::Config::default() };
    let server = Server {
        config,
        files: None,
        clock: Arc::clone(&rig.pipeline.clock),
        pipeline: rig.pipeline,
        metrics: Metrics::new(Prices::default()),
        status: some_status(),
        models: Vec::new(),
        providers: Providers::new(Vec::new(), None),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, Arc::new(server), std::future::pending()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    address
}

/// Asks from an address of this machine, with a key, for a team.
async fn ask(sidecar: SocketAddr, from: &str, key: &str, team: &str) -> u16 {
    let client = reqwest::Client::builder().no_proxy().local_address(Some(from.parse().unwrap()));
    let asked = json!({ "model": "m", "messages": [{ "role": "user", "content": "q" }] });
    let url = format!("http://{sidecar}/v1/chat/completions");
    let sent = client.build().unwrap().post(url).bearer_auth(key).header("x-team", team);
    sent.body(asked.to_string()).send().await.unwrap().status().as_u16()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_comes_from_another_address_is_another() {
    let sidecar = start(Limit { per: Per::Address, ..Limit::default() }).await;
    assert_eq!(ask(sidecar, "127.0.0.1", "editor", "x").await, 200);
    assert_eq!(ask(sidecar, "127.0.0.1", "agent", "y").await, 429);
    assert_eq!(ask(sidecar, "127.0.0.2", "editor", "x").await, 200);
}

#[tokio::test]
async fn who_shows_another_key_is_another() {
    let sidecar = start(Limit { per: Per::Client, ..Limit::default() }).await;
    assert_eq!(ask(sidecar, "127.0.0.1", "editor", "x").await, 200);
    assert_eq!(ask(sidecar, "127.0.0.1", "editor", "y").await, 429);
    assert_eq!(ask(sidecar, "127.0.0.1", "agent", "x").await, 200);
    let sidecar = start(Limit { clients: vec!["agent".into()], ..Limit::default() }).await;
    assert_eq!(ask(sidecar, "127.0.0.1", "editor", "x").await, 200);
    assert_eq!(ask(sidecar, "127.0.0.1", "editor", "x").await, 200, "it is for the other one");
}

#[tokio::test]
async fn who_sends_another_value_of_a_header_is_another() {
    let sidecar = start(Limit { per: Per::Header("x-team".into()), ..Limit::default() }).await;
    assert_eq!(ask(sidecar, "127.0.0.1", "editor", "ads").await, 200);
    assert_eq!(ask(sidecar, "127.0.0.1", "agent", "ads").await, 429);
    assert_eq!(ask(sidecar, "127.0.0.1", "editor", "search").await, 200);
}
