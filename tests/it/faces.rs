//! The faces beside the one path: hostile bodies, lists of models, vectors, counting, other paths.

use crate::kit::{Rig, some_status};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use weir::chat::Reply;
use weir::server::{self, Providers, Replay, Server};
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::Upstream;
use weir::upstream::prices::Prices;
use weir::upstream::provider::{self, Provider, ProviderKind};

/// Every path that takes a question, with one that it understands.
pub(crate) const FACES: [(&str, &str); 7] = [
    ("/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"QUESTION"}]}"#),
    ("/v1/completions", r#"{"model":"m","prompt":"QUESTION"}"#),
    ("/v1/responses", r#"{"model":"m","input":"QUESTION"}"#),
    ("/v1/messages", r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"QUESTION"}]}"#),
    ("/v1beta/models/m:generateContent", r#"{"contents":[{"role":"user","parts":[{"text":"QUESTION"}]}]}"#),
    ("/api/chat", r#"{"model":"m","stream":false,"messages":[{"role":"user","content":"QUESTION"}]}"#),
    ("/api/generate", r#"{"model":"m","stream":false,"prompt":"QUESTION"}"#),
];

struct Running {
    address: SocketAddr,
    client: reqwest::Client,
}

async fn start() -> Running {
    start_with(Vec::new(), |_| ()).await
}

async fn start_with(providers: Vec<Arc<Provider>>, change: impl FnOnce(&mut server::Config)) -> Running {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let reply = Reply { id: "chatcmpl-first".into(), ..Reply::text("scripted", "hello there") };
    let upstream: Arc<dyn Upstream> = Arc::new(Scripted::new("primary", [Step::Say(reply)]));
    let rig = Rig::new(upstream, Arc::new(Memory::default()));
    let mut config = server::Config::default();
    change(&mut config);
    let server = Server {
        config,
        files: None,
        clock: Arc::clone(&rig.pipeline.clock),
        pipeline: rig.pipeline,
        metrics: Metrics::new(Prices::default()),
        status: some_status(),
        models: vec!["gpt-4o".into()],
        providers: Providers::new(providers, None),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, Arc::new(server), std::future::pending()));
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(2)).build().unwrap();
    Running { address, client }
}

impl Running {
    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        self.client.post(format!("http://{}{path}", self.address)).body(body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("http://{}{path}", self.address)).send().await.unwrap();
        json_of(response).await
    }
}

async fn json_of(response: reqwest::Response) -> Value {
    let body = response.bytes().await.unwrap();
    serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&body)))
}

/// Whether an error has the shape that the clients of this path understand.
pub(crate) fn has_shape(path: &str, body: &Value) -> bool {
    match path {
        "/v1/messages" => body["type"] == "error" && body["error"]["type"].is_string(),
        path if path.starts_with("/v1beta") => body["error"]["status"].is_string(),
        path if path.starts_with("/api") => body["error"].is_string(),
        _ => body["error"]["message"].is_string() && body["error"]["type"].is_string(),
    }
}

#[tokio::test]
async fn hostile_bodies_get_a_clear_4xx_in_the_shape_of_the_face() {
    let running = start_with(Vec::new(), |config| config.max_body_bytes = 4 << 20).await;
    let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (path, _) in FACES {
        let bodies: [(Vec<u8>, u16); 7] = [
            (Vec::new(), 400),
            (b"[]".to_vec(), 400),
            (b"{\"model\":\"\xff\xfe\"}".to_vec(), 400),
            (deep.clone().into_bytes(), 400),
            (br#"{"model":5,"messages":7,"prompt":{},"input":9,"contents":3}"#.to_vec(), 400),
            (
                br#"{"model":"m","messages":[{"role":{}}],"prompt":[],"input":[1],"contents":[1]}"#.to_vec(),
                400,
            ),
            (vec![b'x'; 10 << 20], 413),
        ];
        for (body, status) in bodies {
            let start: String = String::from_utf8_lossy(&body).chars().take(40).collect();
            let response = running.post(path, body).await;
            assert_eq!(response.status(), status, "{path} {start}");
            assert!(response.headers().contains_key("x-request-id"), "{path}");
            let body = json_of(response).await;
            assert!(has_shape(path, &body), "{path} {start}: {body}");
        }
    }
}

#[tokio::test]
async fn a_prompt_of_a_megabyte_is_answered_by_every_face() {
    let running = start().await;
    let question = "lorem ipsum 0123456789 ".repeat(45_000);
    for (path, body) in FACES {
        let response = running.post(path, body.replace("QUESTION", &question)).await;
        assert_eq!(response.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_replay_may_cost_nothing_and_take_its_time() {
    let tokens_per_second = NonZeroU32::new(20).unwrap();
    let running = start_with(Vec::new(), |config| {
        config.replay = Replay { zero_usage: true, paced: true, tokens_per_second };
    })
    .await;
    let body = FACES[0].1.replace("QUESTION", "twice");
    let first = json_of(running.post(FACES[0].0, body.clone()).await).await;
    let again = running.post(FACES[0].0, body.clone()).await;
    assert_eq!(again.headers()["x-weir-replay-of"], first["id"].as_str().unwrap());
    let again = json_of(again).await;
    assert_eq!(first["id"], "chatcmpl-first");
    assert_ne!(again["id"], first["id"]);
    assert_eq!(again["choices"], first["choices"]);
    let streamed = body.replace(r#""model""#, r#""stream":true,"model""#);
    let began = Instant::now();
    let text = running.post(FACES[0].0, streamed).await.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n") && text.matches("\"content\"").count() >= 3, "{text}");
    assert!(began.elapsed() >= Duration::from_millis(140), "{:?}", began.elapsed());
}

#[tokio::test]
async fn models_are_listed_for_every_kind_of_client() {
    let running = start().await;
    let list = running.get("/v1/models").await;
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["gpt-4o", "weir/minilm"]);
    assert_eq!(list["has_more"], false);
    assert_eq!(running.get("/v1/models/weir/minilm").await["id"], "weir/minilm");
    assert_eq!(running.get("/v1/models/nobody").await["error"]["code"], "model_not_found");
    assert_eq!(running.get("/v1beta/models").await["models"][0]["name"], "models/gpt-4o");
    assert_eq!(running.get("/api/tags").await["models"][0]["name"], "gpt-4o");
    assert!(running.get("/api/version").await["version"].is_string());
    let shown = json_of(running.post("/api/show", r#"{"model":"gpt-4o"}"#).await).await;
    assert!(shown["details"].is_object(), "{shown}");
    assert_eq!(running.post("/api/show", r#"{"model":"nobody"}"#).await.status(), 404);
}

#[tokio::test]
async fn vectors_come_as_numbers_and_as_base64() {
    let running = start().await;
    let ask = async |body: Value| json_of(running.post("/v1/embeddings", body.to_string()).await).await;
    let plain = ask(json!({ "model": "weir/minilm", "input": ["turn it on", "turn it off"] })).await;
    let vectors = plain["data"].as_array().unwrap();
    assert_eq!((vectors.len(), &vectors[1]["index"]), (2, &json!(1)));
    assert_ne!(vectors[0]["embedding"], vectors[1]["embedding"]);
    let packed =
        ask(json!({ "model": "weir/minilm", "input": "turn it on", "encoding_format": "base64" })).await;
    let length = vectors[0]["embedding"].as_array().unwrap().len();
    assert_eq!(packed["data"][0]["embedding"].as_str().unwrap().len(), (length * 4).div_ceil(3) * 4);
    let refused = ask(json!({ "model": "weir/minilm", "input": "x", "dimensions": 7 })).await;
    assert_eq!(refused["error"]["param"], "dimensions");
    assert_eq!(ask(json!({ "model": "other", "input": "x" })).await["error"]["code"], "model_not_found");
    let ollama = running.post("/api/embed", r#"{"model":"weir/minilm","input":"turn it on"}"#).await;
    assert_eq!(json_of(ollama).await["embeddings"][0], vectors[0]["embedding"]);
}

#[tokio::test]
async fn tokens_are_estimated_where_nobody_counts() {
    let running = start().await;
    let body = FACES[3].1.replace("QUESTION", &"x".repeat(400));
    let counted = json_of(running.post("/v1/messages/count_tokens", body).await).await;
    assert_eq!(counted, json!({ "input_tokens": 104 }));
}

#[tokio::test]
async fn ollama_s_clients_may_load_a_model_that_needs_no_loading() {
    let running = start().await;
    for path in ["/api/chat", "/api/generate"] {
        let loaded = json_of(running.post(path, r#"{"model":"m"}"#).await).await;
        assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")), "{path}");
    }
}

#[tokio::test]
async fn a_stream_of_gemini_without_sse_is_an_array() {
    let running = start().await;
    let body = FACES[4].1.replace("QUESTION", "array");
    let response = running.post("/v1beta/models/m:streamGenerateContent", body).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let records = json_of(response).await;
    let text: String = records
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|record| record.pointer("/candidates/0/content/parts/0/text")?.as_str())
        .collect();
    assert_eq!(text, "hello there");
}

/// A provider that says what it was asked.
async fn mirror() -> SocketAddr {
    async fn say(
        method: axum::http::Method,
        uri: axum::http::Uri,
        headers: axum::http::HeaderMap,
        body: axum::body::Body,
    ) -> String {
        // All of it, before anything is said.
        let _ = http_body_util::BodyExt::collect(body).await;
        let header = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
        format!("{method} {uri} {} {} {}", header("authorization"), header("x-own"), header("x-weir-project"))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(say)).await });
    address
}

fn provider_at(address: SocketAddr) -> Arc<Provider> {
    Arc::new(Provider::new(config(ProviderKind::OpenAi, address)).unwrap())
}

fn config(kind: ProviderKind, address: SocketAddr) -> provider::Config {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wait = Duration::from_mins(1);
    provider::Config {
        name: "mirror".into(),
        kind,
        preset: "test",
        protocol: kind.protocol(),
        base_url: format!("http://{address}/v1"),
        api_key: Some(weir::secret::Secret::new("sk-ours-123456")),
        models: vec!["*".into()],
        model_names: Vec::new(),
        include_usage: true,
        context_windows: Vec::new(),
        max_tokens: Vec::new(),
        rotation: weir::upstream::chain::Rotation::default(),
        profiles: Vec::new(),
        needs_key: false,
        headers: Vec::new(),
        connect_timeout: wait,
        first_token_timeout: wait,
        idle_timeout: wait,
        reply_timeout: wait,
        limits: weir::upstream::queue::Limits::default(),
        price: None,
        listed: None,
    }
}

/// A provider that is asked for `models`, and says on which path it was asked what.
async fn echo(kind: ProviderKind, models: &str, names: &[(&str, &str)]) -> Arc<Provider> {
    async fn say(uri: axum::http::Uri, body: String) -> axum::Json<Value> {
        let asked = serde_json::from_str::<Value>(&body).unwrap_or_default();
        axum::Json(json!({ "path": uri.path(), "asked": asked }))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(say)).await });
    let names = names.iter().map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned())).collect();
    let config =
        provider::Config { models: vec![models.into()], model_names: names, ..config(kind, address) };
    Arc::new(Provider::new(config).unwrap())
}

#[tokio::test]
async fn every_client_is_told_of_what_is_not_there_in_its_own_words() {
    let running = start().await;
    let url = |path: &str| format!("http://{}{path}", running.address);
    for path in ["/v1beta/models/none", "/v1beta/files", "/v1alpha/x", "/upload/v1beta/files", "/api/pull"] {
        let shape = if path.starts_with("/api") { path } else { "/v1beta" };
        assert!(has_shape(shape, &running.get(path).await), "{path}");
    }
    assert!(has_shape("/v1/messages", &running.get("/v1/messages/batches").await));
    assert!(has_shape("/v1/messages", &running.get("/v1/messages").await), "another method");
    let files = running.client.get(url("/v1/files")).header("anthropic-version", "2023-06-01");
    assert!(has_shape("/v1/messages", &json_of(files.send().await.unwrap()).await));
    assert!(has_shape("/v1/files", &running.get("/v1/files").await));
    assert_eq!(running.get("/v1beta/models/gpt-4o").await["name"], "models/gpt-4o");
    let heartbeat = running.client.get(url("/")).send().await.unwrap();
    assert_eq!(heartbeat.text().await.unwrap(), "Ollama is running");
    assert!(running.client.head(url("/")).send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn other_paths_reach_the_provider_that_knows_them() {
    let openai = echo(ProviderKind::OpenAi, "*", &[]).await;
    let (anthropic, gemini) =
        (echo(ProviderKind::Anthropic, "*", &[]).await, echo(ProviderKind::Gemini, "*", &[]).await);
    let running = start_with(vec![openai], |_| ()).await;
    assert!(has_shape("/v1/messages", &running.get("/v1/messages/batches").await), "it is not OpenAI's");
    let running = start_with(vec![anthropic, gemini], |_| ()).await;
    for (path, asked) in [
        ("/v1/messages/batches", "/v1/messages/batches"),
        ("/v1beta/files", "/v1/files"),
        ("/upload/v1beta/files", "/upload/v1beta/files"),
        ("/v1alpha/auth_tokens", "/v1alpha/auth_tokens"),
    ] {
        assert_eq!(running.get(path).await["path"], asked, "{path}");
    }
}

#[tokio::test]
async fn a_real_ollama_is_asked_what_only_it_knows() {
    let ollama = echo(ProviderKind::Ollama, "our-*", &[("our-llama", "llama3")]).await;
    let openai = echo(ProviderKind::OpenAi, "text-*", &[]).await;
    let running = start_with(vec![openai, ollama], |_| ()).await;
    let cases = [
        ("/api/chat", r#"{"model":"our-llama","keep_alive":0}"#, "/api/chat"),
        ("/api/generate", r#"{"model":"our-llama","keep_alive":0}"#, "/api/generate"),
        ("/api/show", r#"{"name":"our-llama"}"#, "/api/show"),
        ("/api/embed", r#"{"model":"our-llama","input":"a"}"#, "/api/embed"),
        ("/v1/embeddings", r#"{"model":"our-llama","input":"a"}"#, "/v1/embeddings"),
    ];
    for (path, body, asked) in cases {
        let said = json_of(running.post(path, body).await).await;
        assert_eq!(said["path"], asked, "{path}: {said}");
        let mut wanted: Value = serde_json::from_str(body).unwrap();
        let field = if path == "/api/show" { "name" } else { "model" };
        wanted[field] = json!("llama3");
        assert_eq!(said["asked"], wanted, "{path}");
    }
    let vectors = running.post("/v1/embeddings", r#"{"model":"text-a","input":"a"}"#).await;
    assert_eq!(json_of(vectors).await["path"], "/v1/embeddings");
    assert_eq!(running.get("/api/ps").await["path"], "/api/ps");
    // What is none of Ollama's needs no loading, and is known with its tag and without.
    let loaded = json_of(running.post("/api/chat", r#"{"model":"text-a"}"#).await).await;
    assert_eq!(loaded["done_reason"], "load");
    let shown = json_of(running.post("/api/show", r#"{"model":"gpt-4o:latest"}"#).await).await;
    assert!(shown["model_info"].is_object(), "{shown}");
}

#[tokio::test]
async fn other_paths_reach_the_provider_with_our_key_and_without_theirs() {
    let small = |config: &mut server::Config| config.max_body_bytes = 1 << 20;
    let running = start_with(vec![provider_at(mirror().await)], small).await;
    let url = |path: &str| format!("http://{}{path}", running.address);
    let request = running.client.post(url("/v1/audio/speech?voice=a&key=theirs"));
    let request = request.header("authorization", "Bearer theirs").header("x-own", "1");
    let said = request.header("x-weir-project", "p").send().await.unwrap().text().await.unwrap();
    assert_eq!(said, "POST /v1/audio/speech?voice=a Bearer sk-ours-123456 1 -");
    for path in ["/v1/%2e%2e/admin", "/elsewhere"] {
        assert_eq!(running.get(path).await["error"]["code"], "no_such_path", "{path}");
    }
    let long = running.client.post(url("/v1/files")).body(vec![b'x'; 2 << 20]).send().await.unwrap();
    assert_eq!(long.status(), 200, "what is only passed on may be longer than what is read");
    let pull = running.get("/api/pull").await;
    assert!(pull["error"].as_str().unwrap().starts_with("no such path"), "in the shape of its API: {pull}");
    let closed = start_with(vec![provider_at(mirror().await)], |config| config.passthrough = false).await;
    assert_eq!(closed.get("/v1/files").await["error"]["code"], "no_such_path");
}

#[tokio::test]
async fn what_a_provider_keeps_is_not_shown_to_several_tenants() {
    let client = |name: &str, tenant: &str| server::Client {
        name: name.into(),
        key: weir::secret::Secret::new(format!("key-{name}")),
        tenant: tenant.into(),
    };
    for (tenant, several) in [("t", false), ("u", true)] {
        let clients = vec![client("a", "t"), client("b", tenant)];
        let running = start_with(vec![provider_at(mirror().await)], |config| config.clients = clients).await;
        for (path, keeps) in [("/v1/files", true), ("/v1/responses/resp_1", true), ("/v1/moderations", false)]
        {
            let request = running.client.get(format!("http://{}{path}", running.address));
            let response = request.header("authorization", "Bearer key-b").send().await.unwrap();
            let refused = response.status() == 403;
            assert_eq!(refused, several && keeps, "{path} {several}");
        }
    }
}

#[tokio::test]
async fn paths_below_v1_reach_the_provider_whose_client_asks() {
    let mirror = mirror().await;
    let provider = |kind, version: &str| {
        let base_url = format!("http://{mirror}/{version}");
        Arc::new(Provider::new(provider::Config { base_url, ..config(kind, mirror) }).unwrap())
    };
    let providers = vec![
        provider(ProviderKind::OpenAi, "openai"),
        provider(ProviderKind::Gemini, "gemini"),
        provider(ProviderKind::Anthropic, "anthropic/v1"),
    ];
    let running = start_with(providers, |_| ()).await;
    let anthropic = ("anthropic-version", "2023-06-01");
    for (path, header, reached) in [
        ("/v1/files", ("x-own", "1"), "/openai/files"),
        ("/v1/models/m:countTokens?key=k", ("x-own", "1"), "/gemini/models/m:countTokens"),
        ("/v1/models/m:embedContent", ("x-own", "1"), "/gemini/models/m:embedContent"),
        ("/v1beta/models/m:embedContent", ("x-own", "1"), "/gemini/models/m:embedContent"),
        ("/v1/cachedContents", ("x-goog-api-key", "k"), "/gemini/cachedContents"),
        ("/v1/messages/batches", anthropic, "/anthropic/v1/messages/batches"),
    ] {
        let request = running.client.post(format!("http://{}{path}", running.address));
        let said = request.header(header.0, header.1).send().await.unwrap().text().await.unwrap();
        assert!(said.starts_with(&format!("POST {reached} ")), "{path}: {said}");
    }
}

#[tokio::test]
async fn google_s_clients_find_models_under_either_version() {
    let running = start().await;
    let get = async |path: &str| {
        let request = running.client.get(format!("http://{}{path}", running.address));
        json_of(request.header("x-goog-api-client", "google-genai-sdk/3.6.1").send().await.unwrap()).await
    };
    for version in ["v1", "v1beta"] {
        assert_eq!(get(&format!("/{version}/models?pageSize=5")).await["models"][0]["name"], "models/gpt-4o");
        assert_eq!(get(&format!("/{version}/models/gpt-4o")).await["name"], "models/gpt-4o");
        assert_eq!(get(&format!("/{version}/models/nobody")).await["error"]["status"], "NOT_FOUND");
    }
    assert_eq!(running.get("/v1/models?key=k").await["models"][0]["name"], "models/gpt-4o");
}

#[tokio::test]
async fn a_key_in_the_query_opens_the_lists_of_google_s_clients() {
    let running = start_with(Vec::new(), |config| {
        let key = weir::secret::Secret::new("key-a");
        config.clients = vec![server::Client { name: "a".into(), key, tenant: "a".into() }];
    })
    .await;
    for path in ["/v1beta/models", "/v1beta/models/gpt-4o", "/v1/models", "/v1/models/gpt-4o"] {
        assert!(running.get(&format!("{path}?key=key-a")).await["error"].is_null(), "{path}");
        assert!(running.get(&format!("{path}?key=key-b")).await["error"].is_object(), "{path}");
    }
}

#[tokio::test]
async fn google_s_clients_are_told_an_estimate_of_their_tokens() {
    let running = start().await;
    let contents = json!([{ "role": "user", "parts": [{ "text": "x".repeat(400) }] }]);
    let wrapped = json!({ "generateContentRequest": { "model": "models/m", "contents": contents } });
    for body in [json!({ "contents": contents }), wrapped] {
        for version in ["v1", "v1beta"] {
            let path = format!("/{version}/models/m:countTokens");
            let counted = json_of(running.post(&path, body.to_string()).await).await;
            assert_eq!(counted, json!({ "totalTokens": 104 }), "{path}");
        }
    }
    let refused = json_of(running.post("/v1/models/m:countTokens", "{}").await).await;
    assert_eq!(refused["error"]["status"], "INVALID_ARGUMENT");
}

#[tokio::test]
async fn ollama_s_clients_unload_with_any_zero() {
    let running = start().await;
    for (keep, reason) in [("0", "unload"), ("0.0", "unload"), (r#""0m""#, "unload"), (r#""5m""#, "load")] {
        let body = format!(r#"{{"model":"m","messages":[],"keep_alive":{keep}}}"#);
        assert_eq!(json_of(running.post("/api/chat", body).await).await["done_reason"], reason, "{keep}");
    }
}

#[tokio::test]
async fn ollama_s_older_clients_get_their_vector_alone() {
    let running = start().await;
    let one = running.post("/api/embeddings", r#"{"model":"weir/minilm","prompt":"turn it on"}"#).await;
    let several = running.post("/api/embed", r#"{"model":"weir/minilm","input":"turn it on"}"#).await;
    assert_eq!(json_of(one).await["embedding"], json_of(several).await["embeddings"][0]);
}
