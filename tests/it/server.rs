//! The real server on a port of its own, spoken to over real connections; behind it sim plugs.

use crate::kit::{Rig, eventually};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use weir::secret::Secret;
use weir::server::{self, Client, Component, Server, Status};
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::Kind;
use weir::upstream::prices::Prices;

struct Running {
    address: SocketAddr,
    upstream: Arc<Scripted>,
    stop: std::cell::Cell<Option<oneshot::Sender<()>>>,
    done: tokio::task::JoinHandle<()>,
}

async fn start(steps: impl IntoIterator<Item = Step>) -> Running {
    start_with(steps, |_| ()).await
}

async fn start_with(
    steps: impl IntoIterator<Item = Step>,
    change: impl FnOnce(&mut server::Config),
) -> Running {
    let upstream = Arc::new(Scripted::new("primary", steps));
    let mut rig = Rig::new(Arc::clone(&upstream) as _, Arc::new(Memory::default()));
    let metrics = Metrics::new(Prices::default());
    let counted = metrics.clone();
    let (bound, learner) = (Arc::clone(rig.pipeline.cache.bound()), rig.pipeline.learner.clone());
    let metrics = metrics.with_semantic(Arc::new(move || (bound.report(), learner.counts())));
    rig.pipeline.observer = Arc::new(move |outcome| counted.record(outcome));
    let mut config = server::Config::default();
    change(&mut config);
    let server = Server {
        config,
        files: None,
        clock: Arc::clone(&rig.pipeline.clock),
        pipeline: rig.pipeline,
        metrics,
        status: Arc::new(status),
        models: vec!["gpt-4o".into()],
        providers: server::Providers::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let done = tokio::spawn(server::serve(listener, Arc::new(server), async { drop(stopped.await) }));
    Running { address, upstream, stop: std::cell::Cell::new(Some(stop)), done }
}

pub(crate) fn status() -> Status {
    Status {
        version: "0",
        started: 1,
        device: "none".into(),
        encoder: Component::failed("minilm", "missing"),
        local: Component::ready("smollm2"),
        store: Component::ready("memory"),
        rules: 0,
        chain: vec!["primary".into()],
        queues: std::collections::BTreeMap::new(),
        mirrored: None,
        webhooks: Vec::new(),
        journal: None,
    }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn stop_handle(&self) -> oneshot::Sender<()> {
        self.stop.take().unwrap()
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        client().get(self.url(path)).send().await.unwrap()
    }

    async fn ask(&self, body: &Value) -> reqwest::Response {
        self.ask_with(body, &[]).await
    }

    async fn ask_with(&self, body: &Value, headers: &[(&str, &str)]) -> reqwest::Response {
        let request = client().post(self.url("/v1/chat/completions")).body(body.to_string());
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .send()
            .await
            .unwrap()
    }

    /// Sends `bytes` and gives all that comes back until the server closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_mins(1), read).await.expect("the server closes");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(2)).build().unwrap()
}

fn body(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn json_of(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn error(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = json_of(response).await;
    let fields: Vec<&String> = body["error"].as_object().expect("the OpenAI shape").keys().collect();
    assert_eq!(fields, ["message", "type", "param", "code"]);
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_answer_says_where_it_comes_from() {
    let running = start([Step::say("Paris")]).await;
    let first = running.ask_with(&body("capital of France?"), &[("x-request-id", "mine-1")]).await;
    assert_eq!(first.status(), 200);
    assert_eq!(header(&first, "x-weir-source"), "upstream");
    assert_eq!(header(&first, "x-weir-upstream"), "primary");
    assert_eq!(header(&first, "cache-status"), "weir; fwd=miss; detail=absent; stored");
    assert_eq!((header(&first, "x-request-id"), header(&first, "age")), ("mine-1", ""));
    let answer = json_of(first).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "Paris");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");

    let exact = running.ask(&body("capital of France?")).await;
    assert_eq!((header(&exact, "x-weir-source"), header(&exact, "age")), ("exact", "0"));
    assert_eq!(header(&exact, "cache-status"), "weir; hit; detail=exact; ttl=2592000");
    assert_eq!(header(&exact, "x-weir-cache-id").len(), 16);
    assert!(header(&exact, "x-request-id").starts_with("req_"));

    let semantic = running.ask(&body("Capital of France")).await;
    assert_eq!(
        (header(&semantic, "x-weir-source"), header(&semantic, "x-weir-upstream")),
        ("semantic", "primary")
    );
    assert_eq!(header(&semantic, "x-weir-similarity"), "1.0000");
    let tagged = running.ask_with(&body("capital of France?"), &[("x-weir-tags", "a, b")]).await;
    assert_eq!(tagged.headers()["x-weir-source"], "exact", "tags are no part of what is asked");
    let later = running.ask_with(&body("capital of France?"), &[("x-weir-state", "v2")]).await;
    assert_eq!(later.headers()["x-weir-source"], "upstream");
    let other = running.ask_with(&body("capital of France?"), &[("x-weir-project", "other")]).await;
    assert_eq!(header(&other, "x-weir-source"), "upstream");
    assert_eq!(running.upstream.calls(), 3);
}

#[tokio::test]
async fn a_stream_is_the_same_answer_in_pieces() {
    let running = start([Step::say("Paris")]).await;
    let streamed = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let mut request = body("capital of France?");
    request.as_object_mut().unwrap().extend(streamed.as_object().unwrap().clone());
    for source in ["upstream", "exact"] {
        let response = running.ask(&request).await;
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        assert_eq!(header(&response, "x-weir-source"), source);
        let text = response.text().await.unwrap();
        let frames: Vec<&str> = text.split_terminator("\n\n").collect();
        let payloads = frames.iter().map(|frame| frame.strip_prefix("data: ").unwrap()).collect::<Vec<_>>();
        let (last, chunks) = payloads.split_last().unwrap();
        assert_eq!(*last, "[DONE]");
        let first: Value = serde_json::from_str(chunks[0]).unwrap();
        assert_eq!(first["object"], "chat.completion.chunk");
        assert_eq!(first["choices"][0]["delta"], json!({ "role": "assistant", "content": "Paris" }));
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_with_an_error_and_without_done() {
    let running = start([Step::SayThenCut("half".into())]).await;
    let mut request = body("q");
    request["stream"] = json!(true);
    let text = running.ask(&request).await.text().await.unwrap();
    let last = text.trim_end().rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["code"], "upstream_cut");
    assert!(!text.contains("[DONE]"));
    // Whole, the same fault is a status.
    let whole = start([Step::SayThenCut("half".into())]).await.ask(&body("q")).await;
    assert_eq!(error(whole).await, (502, "upstream_cut".into()));
}

#[tokio::test]
async fn a_client_who_leaves_cancels_the_upstream_call() {
    let running = start([Step::SayThenStall("well,".into())]).await;
    let mut request = body("a long story");
    request["stream"] = json!(true);
    let mut response = running.ask(&request).await;
    assert!(response.chunk().await.unwrap().is_some());
    assert_eq!(running.upstream.live(), 1);
    drop(response);
    eventually("the upstream call is dropped", || running.upstream.live() == 0).await;
    assert!(running.get("/metrics").await.text().await.unwrap().contains("status=\"client_gone\""));
}

#[tokio::test]
async fn faults_have_the_openai_shape_and_a_stable_code() {
    let running = start_with([Step::Fail(Kind::RateLimit)], |config| config.max_body_bytes = 1000).await;
    let cases = [
        (running.ask(&json!({ "messages": [] })).await, (400, "invalid_request")),
        (running.ask(&body(&"x".repeat(2000))).await, (413, "body_too_large")),
        (running.ask_with(&body("q"), &[("x-weir-project", "a b")]).await, (400, "invalid_header")),
        (running.ask_with(&body("q"), &[("x-weir-state", "")]).await, (400, "invalid_header")),
        (running.ask_with(&body("q"), &[("x-weir-tags", "a, b c")]).await, (400, "invalid_header")),
        (running.ask_with(&body("q"), &[("x-weir-tags", "state:x")]).await, (400, "invalid_header")),
        (running.ask(&body("q")).await, (429, "upstream_rate_limit")),
        (running.get("/v1/nothing").await, (404, "no_such_path")),
        (running.get("/v1/chat/completions").await, (405, "method_not_allowed")),
    ];
    for (response, (status, code)) in cases {
        assert_eq!(error(response).await, (status, code.to_owned()));
    }
    let nonsense =
        client().post(running.url("/v1/chat/completions")).body(b"{\xff".to_vec()).send().await.unwrap();
    assert_eq!(error(nonsense).await, (400, "invalid_request".into()));
}

#[tokio::test]
async fn upstream_failures_map_to_statuses_that_sdks_understand() {
    let cases = [
        (Kind::BadRequest, 400, "upstream_bad_request"),
        (Kind::ContextOverflow, 400, "context_length_exceeded"),
        (Kind::Auth, 401, "upstream_auth"),
        (Kind::Billing, 402, "upstream_billing"),
        (Kind::Unsupported, 400, "unsupported"),
        (Kind::Timeout, 504, "upstream_timeout"),
        (Kind::Overloaded, 503, "upstream_overloaded"),
        (Kind::NoRoute, 404, "no_route"),
        (Kind::Exhausted, 503, "all_upstreams_failed"),
    ];
    for (kind, status, code) in cases {
        let response = start([Step::Fail(kind)]).await.ask(&body("q")).await;
        assert_eq!(error(response).await, (status, code.to_owned()));
    }
}

#[tokio::test]
async fn keys_decide_the_tenant_and_tenants_never_share() {
    let client = |name: &str| Client {
        name: name.into(),
        key: Secret::new(format!("key-{name}")),
        tenant: name.into(),
    };
    let running =
        start_with([Step::say("x")], |config| config.clients = vec![client("a"), client("b")]).await;
    assert_eq!(error(running.ask(&body("q")).await).await, (401, "invalid_api_key".into()));
    let wrong = running.ask_with(&body("q"), &[("authorization", "Bearer key-c")]).await;
    assert_eq!(error(wrong).await.0, 401);
    let mut sources = Vec::new();
    for key in ["Bearer key-a", "Bearer key-a", "Bearer key-b"] {
        let response = running.ask_with(&body("q"), &[("authorization", key)]).await;
        sources.push(header(&response, "x-weir-source").to_owned());
    }
    assert_eq!(sources, ["upstream", "exact", "upstream"]);
    for path in ["/status", "/metrics", "/v1/models"] {
        assert_eq!(running.get(path).await.status(), 401, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(running.get(path).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn no_store_is_neither_answered_from_memory_nor_remembered() {
    let running = start([Step::say("x")]).await;
    for _ in 0..2 {
        let response = running.ask_with(&body("q"), &[("cache-control", "max-age=0, No-Store")]).await;
        assert_eq!(header(&response, "cache-status"), "weir; fwd=miss; detail=bypassed");
    }
    assert_eq!(header(&running.ask(&body("q")).await, "x-weir-source"), "upstream");
}

#[tokio::test]
async fn operators_see_health_models_status_and_metrics() {
    let running = start([Step::say("x")]).await;
    running.ask(&body("q")).await;
    running.ask(&body("q")).await;
    let ready = json_of(running.get("/readyz").await).await;
    assert_eq!(ready, json!({ "ready": true, "degraded": ["semantic lane off: missing"] }));
    let models = json_of(running.get("/v1/models").await).await;
    assert_eq!(models["data"][0]["id"], "gpt-4o");
    let status = json_of(running.get("/status").await).await;
    assert_eq!(
        (status["encoder"]["degraded"].clone(), status["chain"].clone()),
        (json!(true), json!(["primary"]))
    );
    let metrics = running.get("/metrics").await.text().await.unwrap();
    for line in [
        "weir_requests_total{route_id=\"default\",status=\"complete\",method=\"POST\"} 2",
        "weir_cache_hits_total{route_id=\"default\",tier=\"exact\"} 1",
        "weir_cache_misses_total{route_id=\"default\",reason=\"absent\"} 1",
        "weir_upstream_requests_total{upstream_name=\"primary\",status=\"ok\"} 1",
        "weir_upstream_duration_seconds_count{upstream_name=\"primary\"} 1",
        "weir_request_duration_seconds_count{route_id=\"default\",upstream_name=\"primary\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn slow_and_huge_senders_are_cut_off() {
    let running = start_with([Step::say("x")], |config| {
        config.header_timeout = Duration::from_millis(200);
    })
    .await;
    let slow_head = running.raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await;
    assert_eq!(slow_head, "", "closed without an answer");
    // Whose head comes at once must not be taken for slow where the machine is.
    let running = start_with([Step::say("x")], |config| {
        config.body_timeout = Duration::from_millis(200);
        config.max_header_bytes = 8192;
    })
    .await;
    let slow_body = running.raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 50\r\n\r\n{").await;
    assert!(slow_body.contains("body_timeout"), "{slow_body}");
    let huge_head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: {}\r\n\r\n", "a".repeat(20_000));
    assert!(running.raw(huge_head.as_bytes()).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let running = start_with([Step::Stall, Step::SayThenStall("well,".into())], |config| {
        config.request_timeout = Duration::from_millis(200);
    })
    .await;
    assert_eq!(error(running.ask(&body("q")).await).await, (504, "request_timeout".into()));
    let mut request = body("q");
    request["stream"] = json!(true);
    let text = running.ask(&request).await.text().await.unwrap();
    assert!(text.contains("request_timeout"), "{text}");
    eventually("the upstream call is dropped", || running.upstream.live() == 0).await;
    let metrics = running.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("status=\"deadline\",method=\"POST\"} 2"), "{metrics}");
}

#[tokio::test]
async fn a_client_who_does_not_read_is_let_go() {
    let huge = Step::say(&"x".repeat(32 << 20));
    let running = start_with([huge], |config| config.body_timeout = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut request = body("q");
    request["stream"] = json!(true);
    let request = request.to_string();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", request.len());
    stream.write_all(format!("{head}{request}").as_bytes()).await.unwrap();
    eventually("the upstream is asked", || running.upstream.calls() == 1).await;
    eventually("the answer is dropped", || running.upstream.live() == 0).await;
}

#[tokio::test]
async fn what_is_turned_away_at_the_door_is_counted() {
    let running = start([Step::say("x")]).await;
    running.ask(&json!({ "messages": [] })).await;
    let metrics = running.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("status=\"invalid_request\",method=\"POST\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_stop_lets_a_running_answer_finish() {
    // Whoever waited for the end of its grace would wait for much longer than a test does.
    let mut running =
        start_with([Step::SlowlySay("in the end".into(), Duration::from_millis(300))], |config| {
            config.shutdown_grace = Duration::from_hours(1);
        })
        .await;
    let question = body("q");
    let asking = running.ask(&question);
    let stop = running.stop_handle();
    let (answer, ()) = tokio::join!(asking, async {
        eventually("it is asked", || running.upstream.calls() == 1).await;
        stop.send(()).unwrap();
    });
    assert_eq!(json_of(answer).await["choices"][0]["message"]["content"], "in the end");
    tokio::time::timeout(Duration::from_mins(1), &mut running.done).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_stop_lets_running_streams_finish_up_to_the_grace() {
    let mut running = start_with([Step::SayThenStall("well,".into())], |config| {
        config.shutdown_grace = Duration::from_millis(300);
    })
    .await;
    let mut request = body("q");
    request["stream"] = json!(true);
    let mut response = running.ask(&request).await;
    response.chunk().await.unwrap();
    let begun = std::time::Instant::now();
    running.stop_handle().send(()).unwrap();
    tokio::time::timeout(Duration::from_mins(1), &mut running.done).await.expect("it stops").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "the stream had its grace");
    assert_eq!(running.upstream.live(), 0, "and was cut then");
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn whoever_got_an_answer_may_say_that_it_was_wrong() {
    let two = |config: &mut server::Config| {
        let client = |name: &str| Client {
            name: name.into(),
            key: Secret::new(format!("key-{name}")),
            tenant: name.into(),
        };
        config.clients = vec![client("a"), client("b")];
    };
    let running = start_with([Step::say("Lyon"), Step::say("Paris")], two).await;
    let (mine, yours) = (("authorization", "Bearer key-a"), ("authorization", "Bearer key-b"));
    let said = async |who: (&str, &str), body: &str| {
        let request = client().post(running.url("/weir/feedback")).header(who.0, who.1);
        request.body(body.to_owned()).send().await.unwrap()
    };
    running.ask_with(&body("capital of France?"), &[mine, ("x-request-id", "first")]).await;
    let semantic = running.ask_with(&body("Capital of France"), &[mine, ("x-request-id", "second")]).await;
    assert_eq!(header(&semantic, "x-weir-source"), "semantic");
    // With the next request.
    running.ask_with(&body("largest town?"), &[mine, ("x-request-id", "third")]).await;
    running.ask_with(&body("Largest town"), &[mine, ("x-request-id", "fourth")]).await;
    let told = ("x-weir-feedback", "fourth=right, nobody=wrong, nonsense");
    running.ask_with(&body("something else"), &[mine, told]).await;
    // By itself.
    let wrong = r#"{"id": "second", "correct": false, "comment": "it is not"}"#;
    assert_eq!(error(said(yours, wrong).await).await, (404, "no_such_answer".into()), "another's answer");
    assert_eq!(json_of(said(mine, wrong).await).await, json!({"id": "second", "taken": true}));
    assert_eq!(json_of(said(mine, wrong).await).await["taken"], false, "what is said counts once");
    for bad in ["", "{}", r#"{"id": 5, "correct": true}"#, r#"{"id": "second"}"#] {
        assert_eq!(error(said(mine, bad).await).await, (400, "invalid_feedback".into()), "{bad}");
    }
    assert_eq!(error(said(("x", "y"), wrong).await).await.0, 401);
    let mut again = running.ask_with(&body("capital of France?"), &[mine]).await;
    for _ in 0..100 {
        if header(&again, "x-weir-source") == "upstream" {
            break;
        }
        again = running.ask_with(&body("capital of France?"), &[mine]).await;
    }
    assert_eq!(header(&again, "x-weir-source"), "upstream", "the answer is gone");
    let request = client().get(running.url("/status")).header(mine.0, mine.1);
    let status = json_of(request.send().await.unwrap()).await;
    assert_eq!(status["semantic"]["all"]["evidence"]["right"], 1);
    assert_eq!(status["semantic"]["all"]["evidence"]["wrong"], 1);
}

#[tokio::test]
async fn the_bound_is_told_to_its_own_project() {
    let running = start([Step::say("x")]).await;
    running.ask(&body("capital of France?")).await;
    running.ask(&body("Capital of France")).await;
    let status = json_of(running.get("/status").await).await;
    assert_eq!(status["version"], "0", "what was there before still is");
    let semantic = &status["semantic"];
    assert_eq!((&semantic["mode"], &semantic["project"]), (&json!("on"), &json!("default")));
    assert_eq!(semantic["here"]["requests"], 2.0);
    assert_eq!(semantic["here"]["served"], 1.0);
    let most = semantic["here"]["served_wrong"]["most"].as_f64().unwrap();
    assert!(most > 0.0 && most < 1.0, "{semantic}");
    let elsewhere = client().get(running.url("/status")).header("x-weir-project", "other");
    assert_eq!(json_of(elsewhere.send().await.unwrap()).await["semantic"]["here"], Value::Null);
    let metrics = running.get("/metrics").await.text().await.unwrap();
    for line in
        ["weir_semantic_requests_total 2", "weir_semantic_served_total 1", "weir_semantic_max_wrong 0.01"]
    {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains("weir_semantic_labels_total{said=\"same\"} 0"), "{metrics}");
}
