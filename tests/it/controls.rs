//! What requests say about the cache over HTTP: it is obeyed, told in the answer, and never sent on.

use crate::faces::{FACES, has_shape};
use crate::kit::{Rig, some_status};
use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use weir::chat::Protocol;
use weir::server::{self, Providers, Server};
use weir::sim::{Manual, Scripted, Step};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::chain::{Chain, Link};
use weir::upstream::prices::Prices;
use weir::upstream::provider::{self, Provider, ProviderKind};
use weir::upstream::{Kind, Upstream};

struct Running {
    address: SocketAddr,
    clock: Arc<Manual>,
    client: reqwest::Client,
}

async fn start(
    upstream: Arc<dyn Upstream>,
    providers: Vec<Arc<Provider>>,
    change: impl FnOnce(&mut server::Config),
) -> Running {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut rig = Rig::new(upstream, Arc::new(Memory::default()));
    let metrics = Metrics::new(Prices::default());
    let counted = metrics.clone();
    rig.pipeline.observer = Arc::new(move |outcome| counted.record(outcome));
    let mut config = server::Config::default();
    change(&mut config);
    let server = Server {
        config,
        files: None,
        clock: Arc::clone(&rig.pipeline.clock),
        pipeline: rig.pipeline,
        metrics,
        status: some_status(),
        models: vec![],
        providers: Providers::new(providers, None),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, Arc::new(server), std::future::pending()));
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(2)).build().unwrap();
    Running { address, clock: rig.clock, client }
}

async fn scripted(steps: impl IntoIterator<Item = Step>) -> Running {
    start(Arc::new(Scripted::new("primary", steps)), Vec::new(), |_| ()).await
}

impl Running {
    async fn post(&self, path: &str, body: String, headers: &[(&str, &str)]) -> reqwest::Response {
        let request = self.client.post(format!("http://{}{path}", self.address)).body(body);
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .send()
            .await
            .unwrap()
    }

    async fn ask(&self, body: &Value, headers: &[(&str, &str)]) -> reqwest::Response {
        self.post("/v1/chat/completions", body.to_string(), headers).await
    }

    async fn metrics(&self) -> String {
        self.client
            .get(format!("http://{}/metrics", self.address))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }
}

fn body(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// What a provider was sent.
type Seen = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

/// A provider that notes what it is sent, and refuses it.
async fn noting() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let note = move |uri: Uri, headers: HeaderMap, body: String| async move {
        notes.lock().unwrap().push((uri.path().to_owned(), headers, body));
        (StatusCode::BAD_REQUEST, "{}")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(note)).await });
    (address, seen)
}

fn provider(kind: ProviderKind, protocol: Protocol, address: SocketAddr) -> Arc<Provider> {
    let version = if kind == ProviderKind::Ollama { "" } else { "/v1" };
    let config = provider::Config {
        name: "noting".into(),
        kind,
        preset: "generic",
        protocol,
        base_url: format!("http://{address}{version}"),
        api_key: None,
        models: vec!["*".into()],
        model_names: vec![],
        include_usage: true,
        context_windows: Vec::new(),
        max_tokens: Vec::new(),
        rotation: weir::upstream::chain::Rotation::default(),
        profiles: Vec::new(),
        needs_key: false,
        headers: vec![],
        connect_timeout: Duration::from_mins(1),
        first_token_timeout: Duration::from_mins(1),
        idle_timeout: Duration::from_mins(1),
        reply_timeout: Duration::from_mins(1),
        limits: weir::upstream::queue::Limits::default(),
        price: None,
        listed: None,
    };
    Arc::new(Provider::new(config).unwrap())
}

/// Everything by which a request may speak to the cache.
const CONTROLS: [(&str, &str); 19] = [
    ("cache-control", "max-age=60, max-stale=1"),
    ("pragma", "no-cache"),
    ("x-portkey-cache", "semantic"),
    ("x-portkey-cache-force-refresh", "true"),
    ("x-portkey-cache-namespace", "n"),
    ("x-portkey-config", r#"{"cache":{"mode":"simple","max_age":60}}"#),
    ("helicone-cache-enabled", "true"),
    ("helicone-cache-seed", "s"),
    ("helicone-cache-bucket-max-size", "3"),
    ("cf-aig-skip-cache", "true"),
    ("cf-aig-cache-ttl", "60"),
    ("cf-aig-cache-key", "k"),
    ("x-bf-cache-key", "k"),
    ("x-bf-cache-ttl", "60s"),
    ("x-bf-cache-threshold", "0.9"),
    ("x-bf-cache-type", "direct"),
    ("x-bf-cache-no-store", "true"),
    ("x-bf-no-store", "true"),
    ("x-vsr-cache-control", "no-cache"),
];

#[tokio::test]
async fn no_provider_ever_sees_what_is_said_to_the_cache() {
    let kinds = [
        (ProviderKind::OpenAi, Protocol::OpenAiChat),
        (ProviderKind::Anthropic, Protocol::Anthropic),
        (ProviderKind::Gemini, Protocol::Gemini),
        (ProviderKind::Ollama, Protocol::OllamaChat),
    ];
    for (kind, protocol) in kinds {
        let (address, seen) = noting().await;
        let provider = provider(kind, protocol, address);
        let link = Link::new(Arc::clone(&provider) as Arc<dyn Upstream>, vec!["*".into()]);
        let running = start(Arc::new(Chain::new("chain", vec![link])), vec![provider], |_| ()).await;
        for (path, template) in FACES {
            let mut body: Value = serde_json::from_str(template).unwrap();
            body["cache"] = json!({ "ttl": 60, "namespace": "n", "no-store": true });
            for (name, value) in CONTROLS {
                let headers = [(name, value), ("x-kept", "1"), ("anthropic-beta", "b")];
                running.post(path, body.to_string(), &headers).await;
                let (at, headers, sent) = seen.lock().unwrap().pop().expect("it was asked");
                assert!(!headers.contains_key(name), "{kind:?} {path} {name}");
                let sent: Value = serde_json::from_str(&sent).unwrap();
                assert_eq!(sent.get("cache"), None, "{kind:?} {path} {at}");
            }
        }
    }
}

#[tokio::test]
async fn what_goes_out_as_it_came_loses_the_field_and_nothing_else() {
    let (address, seen) = noting().await;
    let provider = provider(ProviderKind::OpenAi, Protocol::OpenAiChat, address);
    let running = start(Arc::clone(&provider) as Arc<dyn Upstream>, vec![provider], |_| ()).await;
    let last = || seen.lock().unwrap().pop().expect("it was asked");
    let text =
        r#"{"model":"m","seed":1.50,"cache":{"no-store":true},"messages":[{"role":"user","content":"q"}]}"#;
    running.post("/v1/chat/completions", text.into(), &[("x-kept", "1"), ("cf-aig-metadata", "m")]).await;
    let (_, headers, sent) = last();
    assert_eq!(sent, r#"{"model":"m","seed":1.50,"messages":[{"role":"user","content":"q"}]}"#);
    assert!(headers.contains_key("x-kept") && headers.contains_key("cf-aig-metadata"));
    // A field of that name that means something else is a stranger's.
    for cache in ["true", r#"{"type":"ephemeral"}"#, "\"on\""] {
        let stranger =
            format!(r#"{{"model":"m","cache":{cache},"messages":[{{"role":"user","content":"q"}}]}}"#);
        running.post("/v1/chat/completions", stranger.clone(), &[]).await;
        assert_eq!(last().2, stranger);
    }
    let embeddings = r#"{"model":"e","input":"x","cache":{"ttl":1}}"#;
    running.post("/v1/embeddings", embeddings.into(), &[]).await;
    assert_eq!(last().2, r#"{"model":"e","input":"x"}"#);
    running.post("/v1/images/generations", "{}".into(), &[("cf-aig-cache-key", "k"), ("x-kept", "1")]).await;
    let (_, headers, _) = last();
    assert!(!headers.contains_key("cf-aig-cache-key") && headers.contains_key("x-kept"));
}

#[tokio::test]
async fn headers_of_others_are_strangers_where_that_is_configured() {
    let (address, seen) = noting().await;
    let provider = provider(ProviderKind::OpenAi, Protocol::OpenAiChat, address);
    let running =
        start(provider as Arc<dyn Upstream>, Vec::new(), |config| config.compat_headers = false).await;
    running.ask(&body("q"), &[("x-portkey-config", "pc-1"), ("cache-control", "no-cache")]).await;
    let (_, headers, _) = seen.lock().unwrap().pop().unwrap();
    assert!(headers.contains_key("x-portkey-config") && !headers.contains_key("cache-control"));
    let running = start(Arc::new(Scripted::new("primary", [Step::say("x")])), Vec::new(), |config| {
        config.compat_headers = false;
    })
    .await;
    running.ask(&body("q"), &[("cf-aig-skip-cache", "true")]).await;
    let again = running.ask(&body("q"), &[("cf-aig-skip-cache", "true")]).await;
    assert_eq!((header(&again, "x-weir-source"), header(&again, "cf-aig-cache-status")), ("exact", ""));
}

#[tokio::test]
async fn an_answer_tells_what_the_cache_did_in_the_words_of_the_one_who_asks() {
    let running = scripted([Step::say("x")]).await;
    let told = async |headers: &[(&str, &str)], text: &str, name: &str| {
        header(&running.ask(&body(text), headers).await, name).to_owned()
    };
    let portkey = [("x-portkey-cache", "semantic")];
    let helicone = [("helicone-cache-enabled", "true")];
    let cloudflare = [("cf-aig-cache-ttl", "60")];
    let vllm = [("x-vsr-cache-control", "max-age=60")];
    assert_eq!(told(&portkey, "capital of France", "x-portkey-cache-status").await, "MISS");
    assert_eq!(told(&portkey, "capital of France", "x-portkey-cache-status").await, "HIT");
    assert_eq!(told(&portkey, "Capital of France?", "x-portkey-cache-status").await, "SEMANTIC HIT");
    let refresh = [("x-portkey-cache-force-refresh", "true")];
    assert_eq!(told(&refresh, "capital of France", "x-portkey-cache-status").await, "REFRESH");
    assert_eq!(told(&helicone, "capital of France", "helicone-cache").await, "HIT");
    assert_eq!(told(&cloudflare, "capital of France", "cf-aig-cache-status").await, "HIT");
    assert_eq!(told(&vllm, "capital of France", "x-vsr-cache-hit").await, "true");
    let plain = running.ask(&body("capital of France"), &[]).await;
    for name in ["x-portkey-cache-status", "helicone-cache", "cf-aig-cache-status", "x-vsr-cache-hit"] {
        assert_eq!(header(&plain, name), "", "{name}");
    }
    assert_eq!(header(&plain, "cache-status"), "weir; hit; detail=exact; ttl=2592000");
    assert_eq!(header(&plain, "x-weir-cache-id").len(), 16);
    assert_eq!(told(&[], "roll a die", "cache-status").await, "weir; fwd=miss; detail=chance");
}

#[tokio::test]
async fn a_late_answer_says_so_and_is_counted() {
    let running = scripted([Step::say("x"), Step::Fail(Kind::Server)]).await;
    running.ask(&body("q"), &[]).await;
    running.clock.advance(Duration::from_hours(30 * 24 + 1));
    let late = running.ask(&body("q"), &[]).await;
    assert_eq!((late.status().as_u16(), header(&late, "x-weir-stale")), (200, "true"));
    assert_eq!(header(&late, "cache-status"), "weir; hit; stale; detail=exact; ttl=-3600");
    assert_eq!((header(&late, "age"), header(&late, "x-weir-failed")), ("2595600", "primary=server"));
    let fresh = running.ask(&body("q"), &[("cache-control", "stale-if-error=60")]).await;
    assert_eq!(fresh.status(), 502);
    let metrics = running.metrics().await;
    for line in [
        "weir_cache_hits_total{route_id=\"default\",tier=\"stale\"} 1",
        "weir_cache_misses_total{route_id=\"default\",reason=\"expired\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    running.ask(&body("roll a die"), &[]).await;
}

#[tokio::test]
async fn only_if_cached_is_a_504_in_the_shape_of_the_face() {
    let running = scripted([Step::say("x")]).await;
    for (path, template) in FACES {
        let response = running.post(path, template.into(), &[("cache-control", "only-if-cached")]).await;
        assert_eq!(response.status(), 504, "{path}");
        assert_eq!(header(&response, "x-should-retry"), "false");
        let told: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert!(has_shape(path, &told), "{path}: {told}");
        assert!(told.to_string().contains("only-if-cached forbids"), "{path}: {told}");
    }
    let known = running.ask(&body("q"), &[]).await;
    assert_eq!(header(&known, "x-weir-source"), "upstream");
    let hit = running.ask(&body("q"), &[("cache-control", "only-if-cached")]).await;
    assert_eq!((hit.status().as_u16(), header(&hit, "x-weir-source")), (200, "exact"));
    assert!(running.metrics().await.contains("status=\"only_if_cached\",method=\"POST\"} 7"));
}

#[tokio::test]
async fn litellms_field_is_obeyed_and_counted() {
    let running = scripted([Step::say("x")]).await;
    let with = |cache: Value| {
        let mut body = body("q");
        body["cache"] = cache;
        body
    };
    let source = async |body: Value| header(&running.ask(&body, &[]).await, "x-weir-source").to_owned();
    assert_eq!(source(with(json!({ "no-store": true }))).await, "upstream");
    assert_eq!(source(with(json!({}))).await, "upstream", "it was not kept");
    assert_eq!(source(with(json!({ "s-maxage": 60 }))).await, "exact");
    assert_eq!(source(body("q")).await, "exact", "the field is no part of the question");
    assert_eq!(source(with(json!({ "no-cache": true }))).await, "upstream");
    assert_eq!(source(with(json!({ "namespace": "a" }))).await, "upstream");
    assert_eq!(source(with(json!({ "namespace": "a" }))).await, "exact");
    let metrics = running.metrics().await;
    assert!(
        metrics.contains("weir_cache_not_kept_total{route_id=\"default\",reason=\"declined\"} 1"),
        "{metrics}"
    );
}
