//! Faults of real upstreams over real connections, from a client through the sidecar to providers that fail on
//! demand: what the client gets, how soon, and who is named as the one who answered.

use crate::kit::{Rig, eventually, some_status};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir::secret::Secret;
use weir::server::{self, Providers, Server};
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::Upstream;
use weir::upstream::chain::{Chain, Config, Link, Rotation, Ward};
use weir::upstream::health::{Backoff, BudgetRules, Ladder, Rules};
use weir::upstream::prices::Prices;
use weir::upstream::provider::{self, Provider, ProviderKind};

/// What a mock does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// 429, with or without a time to come back, in seconds.
    Limited(Option<u64>),
    /// 429 of which the body alone says when to come back.
    LimitedInWords,
    /// 429 without credit.
    Quota,
    Status(u16),
    Unauthorized,
    /// Takes the request, and says nothing.
    Hang,
    /// Takes the request, and resets the connection.
    Reset,
    /// Begins a stream, and ends it before the first word.
    CutBefore,
    /// Ends the stream in the middle of the answer.
    CutAfter,
    /// A stream, and no JSON in it.
    Malformed,
    /// 200, and an error in place of the answer.
    ErrorInOk,
    /// An answer, after so many milliseconds.
    Slow(u64),
}

/// A provider that fails on demand.
#[derive(Clone)]
pub(crate) struct Mock {
    name: &'static str,
    address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    calls: Arc<AtomicUsize>,
    seen: Arc<Mutex<String>>,
}

impl Mock {
    pub(crate) async fn start(name: &'static str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mock = Self {
            name,
            address,
            fault: Arc::new(Mutex::new(fault)),
            calls: Arc::default(),
            seen: Arc::default(),
        };
        let serving = mock.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serving.clone().converse(stream));
            }
        });
        mock
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn converse(self, mut stream: TcpStream) {
        while let Some(request) = read_request(&mut stream).await {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let streams = request.contains("\"stream\":true");
            *self.seen.lock().unwrap() = request;
            let fault = *self.fault.lock().unwrap();
            if !self.act(&mut stream, fault, streams).await {
                return;
            }
        }
    }

    /// Whether the connection lives on.
    async fn act(&self, stream: &mut TcpStream, fault: Fault, streams: bool) -> bool {
        match fault {
            Fault::None => self.answer(stream, streams).await,
            Fault::Slow(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.answer(stream, streams).await;
            }
            Fault::Limited(seconds) => {
                let header = seconds.map_or(String::new(), |seconds| format!("retry-after: {seconds}\r\n"));
                refuse(stream, 429, &header, "rate_limit_exceeded", "Slow down").await;
            }
            Fault::LimitedInWords => {
                refuse(stream, 429, "", "rate_limit_exceeded", "Please try again in 6m0s.").await;
            }
            Fault::Quota => refuse(stream, 429, "", "insufficient_quota", "You exceeded your quota").await,
            Fault::Status(status) => refuse(stream, status, "", "failed", "it failed").await,
            Fault::Unauthorized => refuse(stream, 401, "", "invalid_api_key", "wrong key").await,
            Fault::ErrorInOk => {
                let body = json!({ "error": { "code": 429, "message": "limited, said politely" } });
                write(stream, 200, "application/json", "", &body.to_string()).await;
            }
            Fault::Hang => tokio::time::sleep(Duration::from_mins(1)).await,
            Fault::Reset => {
                let _ = stream.set_zero_linger();
                return false;
            }
            Fault::CutBefore => {
                write_open(stream, &frame(&json!({ "choices": [{ "delta": { "role": "assistant" } }] })))
                    .await;
                return false;
            }
            Fault::CutAfter => {
                write_open(stream, &frame(&delta("hel"))).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                return false;
            }
            Fault::Malformed => {
                write_open(stream, "data: {\"choices\": [ oh no\n\n").await;
                return false;
            }
        }
        true
    }

    async fn answer(&self, stream: &mut TcpStream, streams: bool) {
        let text = format!("answered by {}", self.name);
        if streams {
            let end = json!({ "id": "c", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
            let body = format!("{}{}data: [DONE]\n\n", frame(&delta(&text)), frame(&end));
            return write(stream, 200, "text/event-stream", "", &body).await;
        }
        let message = json!({ "role": "assistant", "content": text });
        let body = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] });
        let told = format!("openai-version: {}\r\n", self.name);
        write(stream, 200, "application/json", &told, &body.to_string()).await;
    }
}

fn delta(text: &str) -> Value {
    json!({ "id": "c", "model": "m", "choices": [{ "index": 0, "delta": { "content": text } }] })
}

fn frame(event: &Value) -> String {
    format!("data: {event}\n\n")
}

async fn refuse(stream: &mut TcpStream, status: u16, headers: &str, code: &str, message: &str) {
    let body = json!({ "error": { "message": message, "type": "t", "code": code } });
    let headers = format!("openai-version: refused\r\n{headers}");
    write(stream, status, "application/json", &headers, &body.to_string()).await;
}

async fn write(stream: &mut TcpStream, status: u16, kind: &str, headers: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// A stream that promises more than it holds.
async fn write_open(stream: &mut TcpStream, body: &str) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n";
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// A request with its body; `None` where the other side has left.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(head) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&seen).to_lowercase();
            let length = text
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            if seen.len() >= head + 4 + length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => seen.extend_from_slice(&buffer[..count]),
        }
    }
}

/// How long a provider may say nothing: on a machine that is busy with other things, one that is well takes its time.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same for one that hangs.
const LITTLE_PATIENCE: Duration = Duration::from_millis(400);

fn config(name: &str, base_url: String, patience: Duration) -> provider::Config {
    let _ = rustls::crypto::ring::default_provider().install_default();
    provider::Config {
        name: name.into(),
        kind: ProviderKind::OpenAi,
        preset: "test",
        protocol: ProviderKind::OpenAi.protocol(),
        base_url,
        api_key: Some(Secret::new("sk-first-123456")),
        models: vec!["*".into()],
        model_names: Vec::new(),
        include_usage: true,
        context_windows: Vec::new(),
        max_tokens: Vec::new(),
        rotation: Rotation::default(),
        profiles: Vec::new(),
        needs_key: false,
        headers: Vec::new(),
        connect_timeout: PATIENCE,
        first_token_timeout: patience,
        idle_timeout: patience,
        reply_timeout: 2 * patience,
        price: None,
        limits: weir::upstream::queue::Limits::default(),
        listed: None,
    }
}

/// Little patience with one that hangs from the beginning, and much with all others.
pub(crate) fn link(mock: &Mock) -> Link {
    let hangs = *mock.fault.lock().unwrap() == Fault::Hang;
    patient_link(mock, if hangs { LITTLE_PATIENCE } else { PATIENCE })
}

fn patient_link(mock: &Mock, patience: Duration) -> Link {
    link_of(config(mock.name, format!("http://{}/v1", mock.address), patience))
}

fn at(name: &str, base_url: &str) -> Link {
    link_of(config(name, base_url.to_owned(), PATIENCE))
}

fn link_of(config: provider::Config) -> Link {
    Link::new(Arc::new(Provider::new(config).unwrap()), vec!["*".into()])
}

/// The model in the process.
pub(crate) fn local() -> Link {
    Link::new(Arc::new(Scripted::local([Step::say("answered by local")])) as Arc<dyn Upstream>, vec![])
}

/// The sidecar, and a client of it.
#[derive(Clone)]
pub(crate) struct Running {
    address: SocketAddr,
    client: reqwest::Client,
    pub(crate) ward: Arc<Ward>,
    asked: Arc<AtomicUsize>,
}

/// What a client gets.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) by: String,
    said: String,
    headers: reqwest::header::HeaderMap,
    took: Duration,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub(crate) async fn start(links: Vec<Link>) -> Running {
    start_with(links, Rules::default()).await
}

pub(crate) async fn start_with(links: Vec<Link>, rules: Rules) -> Running {
    let ward = Arc::new(Ward::new(rules, BudgetRules::default()));
    let backoff = Backoff { first: Duration::from_millis(50), ..Backoff::default() };
    let config = Config { backoff, max_wait: Duration::from_secs(2), ..Config::default() };
    let chain = Chain::sharing("chain", links, config, &ward);
    let rig = Rig::new(Arc::new(chain), Arc::new(Memory::default()));
    let server = Server {
        config: server::Config { request_timeout: Duration::from_mins(2), ..server::Config::default() },
        files: None,
        clock: Arc::clone(&rig.pipeline.clock),
        pipeline: rig.pipeline,
        metrics: Metrics::new(Prices::default()),
        status: some_status(),
        models: Vec::new(),
        providers: Providers::new(Vec::new(), None).watched_by(&ward),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, Arc::new(server), std::future::pending()));
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(2)).build().unwrap();
    Running { address, client, ward, asked: Arc::default() }
}

impl Running {
    pub(crate) async fn ask(&self) -> Got {
        self.ask_as(false).await
    }

    /// A question that nobody has asked before.
    async fn ask_as(&self, stream: bool) -> Got {
        let nth = self.asked.fetch_add(1, Ordering::SeqCst);
        let question = json!({ "model": "m", "stream": stream,
            "messages": [{ "role": "user", "content": format!("question number {nth}") }] });
        let began = Instant::now();
        let sent = self.client.post(format!("http://{}/v1/chat/completions", self.address));
        let sent = sent.header("x-correlation-id", "corr-7").body(question.to_string()).send();
        let response = sent.await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let said = response.text().await.unwrap_or_else(|_| "broke off".into());
        let took = began.elapsed();
        let by = headers.get("x-weir-upstream").map_or("", |value| value.to_str().unwrap()).to_owned();
        Got { status, by, said, headers, took }
    }

    /// Asks for both a whole reply and a stream; both must be answered in full, by the one that is named.
    pub(crate) async fn is_answered_by(&self, name: &str) {
        for stream in [false, true] {
            let got = self.ask_as(stream).await;
            assert_eq!((got.status, got.by.as_str()), (200, name), "{got:?}");
            assert!(got.said.contains(&format!("answered by {name}")), "{got:?}");
        }
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let sent = self.client.post(format!("http://{}{path}", self.address)).body(body.to_string());
        let response = sent.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    async fn get(&self, path: &str) -> String {
        let response = self.client.get(format!("http://{}{path}", self.address)).send().await.unwrap();
        response.text().await.unwrap()
    }
}

/// Tries it until it takes no longer than it may, for a minute: a machine that is busy with other things holds up one
/// or the other, and whoever waits without need holds up each.
async fn one_is_within(at_most: Duration, what: &str, mut took: impl AsyncFnMut() -> Duration) {
    let began = Instant::now();
    loop {
        let took = took().await;
        if took < at_most {
            return;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{what} {took:?}, of at most {at_most:?}");
    }
}

/// Each fault of the first one, and how long the first failover may take beyond its detection.
#[tokio::test]
async fn whatever_the_first_one_does_the_second_answers() {
    let faults = [
        (Fault::Limited(Some(30)), 0),
        (Fault::Limited(None), 0),
        (Fault::LimitedInWords, 0),
        (Fault::Quota, 0),
        (Fault::Status(500), 0),
        (Fault::Status(502), 0),
        (Fault::Status(503), 0),
        (Fault::Status(529), 0),
        (Fault::Unauthorized, 0),
        (Fault::Reset, 0),
        (Fault::ErrorInOk, 0),
        (Fault::Hang, 800),
    ];
    for (fault, detected_after) in faults {
        let at_most = Duration::from_millis(detected_after + 1000);
        one_is_within(at_most, &format!("{fault:?}"), || the_second_answers(fault)).await;
    }
}

/// The first one has this fault; how long the first failover took.
async fn the_second_answers(fault: Fault) -> Duration {
    let (first, second) = (Mock::start("first", fault).await, Mock::start("second", Fault::None).await);
    let running = start(vec![link(&first), link(&second)]).await;
    let got = running.ask().await;
    assert_eq!((got.status, got.by.as_str()), (200, "second"), "{fault:?} {got:?}");
    assert_eq!(got.header("openai-version"), "second", "nothing of the one who failed: {fault:?}");
    assert!(got.header("x-weir-failed").starts_with("first="), "{fault:?}");
    let calls = first.calls();
    running.is_answered_by("second").await;
    assert_eq!(first.calls(), calls, "it is left alone: {fault:?}");
    got.took
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_word_is_another_s_to_answer() {
    for fault in [Fault::CutBefore, Fault::Malformed, Fault::Hang, Fault::Reset, Fault::ErrorInOk] {
        let (first, second) = (Mock::start("first", fault).await, Mock::start("second", Fault::None).await);
        let running = start(vec![link(&first), link(&second)]).await;
        let got = running.ask_as(true).await;
        assert_eq!((got.status, got.by.as_str()), (200, "second"), "{fault:?} {got:?}");
        assert!(got.said.contains("answered by second") && got.said.ends_with("data: [DONE]\n\n"), "{got:?}");
        assert!(!got.said.contains("\"error\""), "{got:?}");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_after_its_first_word_says_so_and_nothing_twice() {
    let (first, second) =
        (Mock::start("first", Fault::CutAfter).await, Mock::start("second", Fault::None).await);
    let running = start(vec![link(&first), link(&second)]).await;
    let got = running.ask_as(true).await;
    assert_eq!((got.status, got.by.as_str()), (200, "first"));
    assert!(got.said.contains("hel") && got.said.contains("\"error\""), "{got:?}");
    assert_eq!(second.calls(), 0);
}

#[tokio::test]
async fn openclaw_150726_an_error_that_is_said_politely_is_a_failure_all_the_same() {
    let (first, second) =
        (Mock::start("first", Fault::ErrorInOk).await, Mock::start("second", Fault::None).await);
    let running = start(vec![link(&first), link(&second)]).await;
    running.is_answered_by("second").await;
    let model = &running.ward.reports()[0].health.models[0];
    assert_eq!((model.state, model.reason, first.calls()), ("cooling", Some("rate_limit"), 1));
}

#[tokio::test]
async fn bifrost_6973_no_header_of_the_one_who_failed_is_in_the_answer() {
    let limited = Fault::Limited(Some(30));
    let (first, second) = (Mock::start("first", limited).await, Mock::start("second", Fault::None).await);
    let got = start(vec![link(&first), link(&second)]).await.ask().await;
    assert_eq!((got.header("openai-version"), got.header("retry-after")), ("second", ""));
}

#[tokio::test]
async fn aisix_46_a_limit_is_another_one_s_turn() {
    for fault in [Fault::Limited(None), Fault::Limited(Some(1)), Fault::LimitedInWords] {
        let (first, second) = (Mock::start("first", fault).await, Mock::start("second", Fault::None).await);
        start(vec![link(&first), link(&second)]).await.is_answered_by("second").await;
    }
}

#[tokio::test]
async fn litellm_28216_no_answer_is_begun_before_it_has_words() {
    for fault in [Fault::CutBefore, Fault::Malformed] {
        let (first, second) = (Mock::start("first", fault).await, Mock::start("second", fault).await);
        let got = start(vec![link(&first), link(&second)]).await.ask_as(true).await;
        assert!(got.status >= 500 && got.said.contains("\"error\""), "{fault:?} {got:?}");
    }
}

#[tokio::test]
async fn litellm_19077_after_the_first_word_nobody_else_is_asked() {
    let (first, second) =
        (Mock::start("first", Fault::CutAfter).await, Mock::start("second", Fault::None).await);
    let got = start(vec![link(&first), link(&second)]).await.ask_as(true).await;
    assert!(got.said.contains("hel") && !got.said.contains("answered by"), "{got:?}");
    assert_eq!(second.calls(), 0);
}

#[tokio::test]
async fn whoever_is_not_there_is_passed_over_at_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = at("first", &format!("http://{}/v1", nobody.local_addr().unwrap()));
    drop(nobody);
    // Where no name is ever found, some machines look for it for long.
    let briefly = Duration::from_millis(500);
    let unknown = config("unknown", "http://nowhere.invalid/v1".into(), PATIENCE);
    let unknown = link_of(provider::Config { connect_timeout: briefly, ..unknown });
    let second = Mock::start("second", Fault::None).await;
    let running = start(vec![refused, unknown, link(&second)]).await;
    let got = running.ask().await;
    assert_eq!((got.status, got.by.as_str()), (200, "second"), "{got:?}");
    assert!(got.header("x-weir-failed").starts_with("first=connection, unknown="), "{got:?}");
    assert_eq!(got.header("x-weir-notice"), "Switched to second (first unreachable)");
}

#[tokio::test]
async fn when_all_are_down_the_model_in_the_process_answers_and_is_named() {
    let (first, second) =
        (Mock::start("first", Fault::Status(500)).await, Mock::start("second", Fault::Reset).await);
    let running = start(vec![link(&first), link(&second), local()]).await;
    let got = running.ask().await;
    assert_eq!(
        (got.status, got.by.as_str(), got.header("x-weir-source")),
        (200, "local", "local"),
        "{got:?}"
    );
    running.is_answered_by("local").await;
}

#[tokio::test]
async fn when_nobody_answers_the_client_is_told_who_failed_and_when_to_come_back() {
    let limited = |name| Mock::start(name, Fault::Limited(Some(90)));
    let (first, second) = (limited("first").await, limited("second").await);
    let running = start(vec![link(&first), link(&second)]).await;
    for _ in 0..2 {
        let got = running.ask().await;
        assert_eq!(got.status, 429, "{got:?}");
        let seconds: u64 = got.header("retry-after").parse().unwrap();
        assert!((85..=90).contains(&seconds), "{seconds}");
        assert_eq!(got.header("x-should-retry"), "false");
        assert_eq!(got.header("x-correlation-id"), "corr-7");
        let body: Value = serde_json::from_str(&got.said).unwrap();
        let summary = &body["weir"];
        assert_eq!((&summary["route"], &summary["correlation_id"]), (&json!("chain"), &json!("corr-7")));
        assert!(summary["retry_after_ms"].as_u64().unwrap() > 80_000);
        let attempts = summary["attempts"].as_array().unwrap();
        let told: Vec<_> =
            attempts.iter().map(|at| (at["upstream"].as_str(), at["reason"].as_str())).collect();
        assert_eq!(told, [(Some("first"), Some("rate_limit")), (Some("second"), Some("rate_limit"))]);
        assert!(!got.said.contains("Slow down"), "what a provider said stays here: {}", got.said);
    }
    assert_eq!((first.calls(), second.calls()), (1, 1));
}

#[tokio::test]
async fn the_correlation_id_goes_all_the_way_and_comes_back() {
    let first = Mock::start("first", Fault::None).await;
    let running = start(vec![link(&first)]).await;
    assert_eq!(running.ask().await.header("x-correlation-id"), "corr-7");
    assert!(first.seen.lock().unwrap().contains("x-correlation-id: corr-7\r\n"));
}

#[tokio::test]
async fn another_key_of_the_same_provider_is_tried_before_the_next_provider() {
    let (first, second) = (Mock::start("first", Fault::None).await, Mock::start("second", Fault::None).await);
    let provider = config("first", format!("http://{}/v1", first.address), PATIENCE);
    let provider = Provider::new(provider).unwrap();
    let other = Arc::new(provider.with_key(&Secret::new("sk-second-123456")).unwrap());
    let provider = Arc::new(provider);
    let keys: Vec<(String, Arc<dyn Upstream>)> =
        vec![("work".into(), Arc::clone(&provider) as _), ("home".into(), other as _)];
    let link_of_first = Link::new(provider, vec!["*".into()]).with_profiles(keys, Rotation::Order);
    let running = start(vec![link_of_first, link(&second)]).await;
    assert!(running.ask().await.said.contains("answered by first"));
    assert!(first.seen.lock().unwrap().contains("bearer sk-first-123456"));
    running.ward.set_disabled("first:work", true);
    assert!(running.ask().await.said.contains("answered by first"));
    assert!(first.seen.lock().unwrap().contains("bearer sk-second-123456"));
    running.ward.set_disabled("first", true);
    running.is_answered_by("second").await;
}

#[tokio::test]
async fn whoever_is_well_again_is_asked_within_one_probe_interval() {
    let probe_every = Duration::from_millis(500);
    for fault in [Fault::Status(500), Fault::Reset, Fault::Status(529)] {
        let at_most = probe_every + Duration::from_millis(300);
        one_is_within(at_most, &format!("{fault:?}"), || is_asked_again(fault, probe_every)).await;
    }
}

/// The first one has this fault, and then it is well; how long that is not found out.
async fn is_asked_again(fault: Fault, probe_every: Duration) -> Duration {
    let rules = Rules { probe_every, transient: Ladder::of([Duration::from_mins(5)]), ..Rules::default() };
    let first = Mock::start("first", fault).await;
    let running = start_with(vec![link(&first), local()], rules).await;
    assert_eq!(running.ask().await.by, "local");
    tokio::time::sleep(Duration::from_millis(700)).await;
    running.ask().await;
    first.set(Fault::None);
    let well = Instant::now();
    while running.ask().await.by != "first" {
        assert!(well.elapsed() < Duration::from_mins(1), "{fault:?}: a minute, and it is not asked again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    well.elapsed()
}

#[tokio::test]
async fn whoever_becomes_slow_is_passed_over_until_it_is_quick_again() {
    let (first, second) = (Mock::start("first", Fault::None).await, Mock::start("second", Fault::None).await);
    let transient = Ladder::of([Duration::from_millis(300)]);
    let mut rules = Rules { probe_every: Duration::from_millis(200), transient, ..Rules::default() };
    // One answer that the machine holds up for a second does not make it slow; two slow ones do.
    rules.latency.never_slow = Duration::from_millis(350);
    let running = start_with(vec![link(&first), link(&second)], rules).await;
    for _ in 0..10 {
        assert_eq!(running.ask().await.by, "first");
    }
    first.set(Fault::Slow(700));
    let mut by = Vec::new();
    for _ in 0..40 {
        by.push(running.ask().await.by);
    }
    assert!(by.iter().filter(|by| *by == "second").count() > 20, "{by:?}");
    first.set(Fault::None);
    let began = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 5 && began.elapsed() < Duration::from_mins(1) {
        in_a_row = if running.ask().await.by == "first" { in_a_row + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(in_a_row, 5, "it is well again");
}

#[tokio::test]
async fn the_chain_is_looked_at_switched_and_tried_by_hand() {
    let (first, second) = (Mock::start("first", Fault::None).await, Mock::start("second", Fault::None).await);
    let running = start(vec![link(&first), link(&second)]).await;
    running.is_answered_by("first").await;
    let (status, drill) = running.post("/weir/chain/test", json!({ "name": "first", "model": "m" })).await;
    assert_eq!(
        (status, &drill["answered_by"], &drill["said"]),
        (200, &json!("second"), &json!("answered by second"))
    );
    running.is_answered_by("first").await;
    let (status, told) = running.post("/weir/chain/disable", json!({ "name": "first" })).await;
    assert_eq!((status, &told["upstreams"][0]["state"]), (200, &json!("disabled")));
    running.is_answered_by("second").await;
    assert_eq!(running.post("/weir/chain/enable", json!({ "name": "first" })).await.0, 200);
    first.set(Fault::Limited(Some(600)));
    running.is_answered_by("second").await;
    let shown: Value = serde_json::from_str(&running.get("/weir/chain").await).unwrap();
    let model = &shown["upstreams"][0]["models"][0];
    assert_eq!((&model["state"], &model["reason"]), (&json!("cooling"), &json!("rate_limit")));
    let status: Value = serde_json::from_str(&running.get("/status").await).unwrap();
    assert_eq!(status["upstreams"][0]["models"][0]["state"], "cooling");
    first.set(Fault::None);
    assert_eq!(running.post("/weir/chain/reset", json!({})).await.0, 200);
    running.is_answered_by("first").await;
    for path in ["disable", "enable", "test"] {
        let (status, body) = running.post(&format!("/weir/chain/{path}"), json!({ "name": "nobody" })).await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!("no_such_upstream")), "{path}");
    }
    assert_eq!(running.post("/weir/chain/disable", json!({ "nme": "first" })).await.0, 400);
}

/// How long the mixed faults go on: a few seconds, or as long as `WEIR_LAB_SOAK_SECONDS` says.
fn soak_time() -> Duration {
    let typed = std::env::var("WEIR_LAB_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(typed.unwrap_or(4))
}

/// Every fault but the one that nobody can hide: a cut in the middle of an answer.
const MIXED: [Fault; 14] = [
    Fault::None,
    Fault::None,
    Fault::Limited(Some(1)),
    Fault::Limited(None),
    Fault::LimitedInWords,
    Fault::Quota,
    Fault::Status(500),
    Fault::Status(503),
    Fault::Unauthorized,
    Fault::Hang,
    Fault::Reset,
    Fault::CutBefore,
    Fault::ErrorInOk,
    Fault::Slow(150),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_mixed_faults_no_client_sees_an_error_and_every_answer_is_labelled() {
    let mocks = [
        Mock::start("first", Fault::None).await,
        Mock::start("second", Fault::None).await,
        Mock::start("third", Fault::None).await,
    ];
    let brief = Ladder::of([Duration::from_millis(200), Duration::from_millis(400)]);
    let rules = Rules {
        rate_limit: brief.clone(),
        transient: brief.clone(),
        billing: brief.clone(),
        auth_permanent: brief,
        probe_every: Duration::from_millis(100),
        ..Rules::default()
    };
    // Each of them may hang later.
    let links = mocks.iter().map(|mock| patient_link(mock, LITTLE_PATIENCE)).chain([local()]).collect();
    let running = start_with(links, rules).await;
    let (over, by) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
    let clients = (0..8).map(|client| {
        let (running, over, by) = (running.clone(), Arc::clone(&over), Arc::clone(&by));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let got = running.ask_as(client % 2 == 0).await;
                assert_eq!(got.status, 200, "{got:?}");
                assert!(got.said.contains(&format!("answered by {}", got.by)), "{got:?}");
                assert!(!got.said.contains("\"error\""), "{got:?}");
                *by.lock().unwrap().entry(got.by).or_insert(0_usize) += 1;
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    // One after the other goes first, so that each has its turn; what comes then is left to chance, which may take a
    // provider out for minutes.
    for (down, next) in mocks.iter().enumerate() {
        mocks.iter().take(down).for_each(|mock| mock.set(Fault::Status(500)));
        eventually("the next one answers somebody", || by.lock().unwrap().contains_key(next.name)).await;
    }
    let until = Instant::now() + soak_time();
    while Instant::now() < until {
        let nth = rand::random_range(0..mocks.len());
        mocks[nth].set(MIXED[rand::random_range(0..MIXED.len())]);
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..200))).await;
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    println!("answered: {:?}", by.lock().unwrap());
}

/// How long answers took, in milliseconds: at p50 and at p99.
fn quantiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    (at(50), at(99))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run it optimised, with --ignored --nocapture"]
async fn how_long_a_failover_takes() {
    const TIMES: usize = 1000;
    let second = Mock::start("second", Fault::None).await;
    let times = async |running: &Running| {
        let mut times = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            // Nothing is known of the first, so that it is asked and its failure is found out.
            running.ward.reset(None);
            let got = running.ask().await;
            assert_eq!((got.status, got.by.as_str()), (200, "second"), "{got:?}");
            times.push(got.took);
        }
        quantiles(times)
    };
    let (half, most) = times(&start(vec![link(&second)]).await).await;
    println!("the second alone: {half:.2} ms at p50, {most:.2} at p99");
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = at("first", &format!("http://{}/v1", nobody.local_addr().unwrap()));
    drop(nobody);
    let mut firsts = vec![("refuses the connection", refused)];
    for (what, fault) in [
        ("answers 500", Fault::Status(500)),
        ("answers 429", Fault::Limited(Some(30))),
        ("resets the connection", Fault::Reset),
    ] {
        firsts.push((what, link(&Mock::start("first", fault).await)));
    }
    for (what, first) in firsts {
        let (failed_half, failed_most) = times(&start(vec![first, link(&second)]).await).await;
        let (more, most_more) = (failed_half - half, failed_most - most);
        println!(
            "the first {what}: {failed_half:.2} ms at p50, {failed_most:.2} at p99 ({more:+.2}, {most_more:+.2})"
        );
    }
    let running =
        start(vec![link(&Mock::start("first", Fault::Limited(Some(600))).await), link(&second)]).await;
    running.ask().await;
    let mut known = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        known.push(running.ask().await.took);
    }
    let (half, most) = quantiles(known);
    println!("the first is left alone: {half:.2} ms at p50, {most:.2} at p99");
}
