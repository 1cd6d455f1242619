//! Every face in front of every provider, for every kind of content, streamed and whole, fresh and from memory.
//!
//! The providers play the golden fixtures: they answer with what their real models wrote, and keep what they
//! were asked. What the client is told must mean the same as what the provider said, and what the provider is
//! asked the same as what the client asked.

use crate::kit::{Rig, unchecked};
use crate::wire::{Case, events_in, target};
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use weir::cache;
use weir::cache::policy::{self, WordLists};
use weir::chat::{
    Block, Choice, Finish, Folder, MediaSource, Part, Protocol, Reply, Request, ResponseFormat, Role, Tool,
};
use weir::secret::Secret;
use weir::server::{self, Component, Providers, Server, Status};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::chain::{self, Chain, Link, Ward};
use weir::upstream::health::{BudgetRules, Rules};
use weir::upstream::prices::Prices;
use weir::upstream::provider::{self, Provider, ProviderKind};
use weir::wire::{Decoder, decode_request};

const FACES: [Protocol; 5] = [
    Protocol::OpenAiChat,
    Protocol::OpenAiResponses,
    Protocol::Anthropic,
    Protocol::Gemini,
    Protocol::OllamaChat,
];

/// The providers, each in its main protocol.
const PROVIDERS: [(ProviderKind, Protocol); 5] = [
    (ProviderKind::Generic, Protocol::OpenAiChat),
    (ProviderKind::Generic, Protocol::OpenAiResponses),
    (ProviderKind::Anthropic, Protocol::Anthropic),
    (ProviderKind::Gemini, Protocol::Gemini),
    (ProviderKind::Ollama, Protocol::OllamaChat),
];

/// What a provider was asked, and on which path.
type Asked = Arc<Mutex<Option<(String, Bytes)>>>;

#[derive(Clone)]
struct Fake {
    protocol: Protocol,
    case: &'static str,
    asked: Asked,
}

/// Answers from the fixtures, in the form that is asked for.
async fn play(State(fake): State<Fake>, uri: Uri, body: Body) -> Response {
    let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let streamed = match fake.protocol {
        Protocol::Gemini => uri.path().contains(":streamGenerateContent"),
        Protocol::OllamaChat => said["stream"] != false,
        _ => said["stream"] == true,
    };
    *fake.asked.lock().unwrap() = Some((uri.path().to_owned(), body));
    let case = Case::of(fake.protocol, fake.case).unwrap();
    let (kind, bytes) = match (fake.case, streamed, fake.protocol) {
        ("error", _, _) => {
            let body = case.read("response.json").unwrap();
            return (axum::http::StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], body).into_response();
        }
        (_, false, _) => ("application/json", case.read("response.json").unwrap()),
        (_, true, Protocol::OllamaChat) => ("application/x-ndjson", case.read("stream.txt").unwrap()),
        (_, true, _) => ("text/event-stream", case.read("stream.txt").unwrap()),
    };
    let headers = [("content-type", kind), ("x-ratelimit-remaining-requests", "7"), ("request-id", "theirs")];
    (headers, bytes).into_response()
}

async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A sidecar in front of one provider that plays one case.
struct Sidecar {
    address: SocketAddr,
    asked: Asked,
    client: reqwest::Client,
}

impl Sidecar {
    async fn start(kind: ProviderKind, protocol: Protocol, case: &'static str) -> Self {
        let asked = Asked::default();
        let fake = Fake { protocol, case, asked: Arc::clone(&asked) };
        let upstream = serve(axum::Router::new().fallback(play).with_state(fake)).await;
        let base = match kind {
            ProviderKind::Ollama => format!("http://{upstream}"),
            _ => format!("http://{upstream}/v1"),
        };
        let provider = Arc::new(Provider::new(config(kind, protocol, base)).unwrap());
        let link = Link::new(Arc::clone(&provider) as _, vec!["*".to_owned()]);
        // Everything is kept that can be, whatever is asked.
        let words = WordLists { volatile: Vec::new(), chance: Vec::new() };
        let policy = policy::Config { words, max_temperature: 2.0, ..policy::Config::default() };
        let rig = Rig::new(Arc::new(impatient(link)), Arc::new(Memory::default()))
            .remembering(cache::Config { policy, bound: unchecked(), ..cache::Config::default() });
        let server = Server {
            config: server::Config::default(),
            files: None,
            clock: Arc::clone(&rig.pipeline.clock),
            pipeline: rig.pipeline,
            metrics: Metrics::new(Prices::default()),
            status: Arc::new(status),
            models: Vec::new(),
            providers: Providers::new(vec![provider], None),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server::serve(listener, Arc::new(server), std::future::pending()));
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(2)).build().unwrap();
        Self { address, asked, client }
    }

    async fn ask(&self, face: Protocol, body: &Value, stream: bool) -> reqwest::Response {
        let url = format!("http://{}{}", self.address, path(face, stream));
        self.client.post(url).body(body.to_string()).send().await.unwrap()
    }
}

/// A chain that hands on what it is told, and waits for nobody.
fn impatient(link: Link) -> Chain {
    let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
    let config = chain::Config { max_attempts: 1, max_wait: Duration::ZERO, ..chain::Config::default() };
    Chain::sharing("chain", vec![link], config, &ward)
}

fn config(kind: ProviderKind, protocol: Protocol, base_url: String) -> provider::Config {
    provider::Config {
        name: "fake".into(),
        base_url,
        api_key: Some(Secret::new("sk-test-key-123456")),
        protocol,
        kind,
        preset: "vllm",
        models: vec!["*".into()],
        model_names: Vec::new(),
        include_usage: true,
        context_windows: Vec::new(),
        max_tokens: Vec::new(),
        rotation: chain::Rotation::default(),
        profiles: Vec::new(),
        needs_key: false,
        headers: Vec::new(),
        connect_timeout: Duration::from_mins(1),
        first_token_timeout: Duration::from_mins(1),
        idle_timeout: Duration::from_mins(1),
        reply_timeout: Duration::from_mins(1),
        limits: weir::upstream::queue::Limits::default(),
        price: None,
        listed: None,
    }
}

fn status() -> Status {
    let idle = || Component::ready("x");
    Status {
        version: "0",
        started: 1,
        device: "none".into(),
        encoder: idle(),
        local: idle(),
        store: idle(),
        rules: 0,
        chain: vec![],
        queues: std::collections::BTreeMap::new(),
        mirrored: None,
        webhooks: Vec::new(),
        journal: None,
    }
}

fn path(face: Protocol, stream: bool) -> &'static str {
    match face {
        Protocol::OpenAiChat => "/v1/chat/completions",
        Protocol::OpenAiCompletions => "/v1/completions",
        Protocol::OpenAiResponses => "/v1/responses",
        Protocol::Anthropic => "/v1/messages",
        Protocol::Gemini if stream => "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        Protocol::Gemini => "/v1beta/models/gemini-2.5-flash:generateContent",
        Protocol::OllamaChat => "/api/chat",
        Protocol::OllamaGenerate => "/api/generate",
    }
}

/// The request of the fixture, asking for a stream or not.
fn request(face: Protocol, case: &str, stream: bool) -> Option<Value> {
    let body = Case::of(face, case)?.read("request.json").unwrap();
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    if face != Protocol::Gemini {
        body["stream"] = stream.into();
    }
    Some(body)
}

/// What an answer means, whatever the protocol: what each of its choices says, thinks and calls.
#[derive(Debug, PartialEq)]
struct Meaning {
    said: String,
    thought: String,
    calls: Vec<(String, Value)>,
    finish: &'static str,
}

fn meaning(choice: &Choice) -> Meaning {
    let arguments = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    Meaning {
        // Not every protocol tells a refusal from words.
        said: format!("{}{}", choice.said(), choice.refusal()),
        thought: choice.thought(),
        calls: choice.tool_calls().map(|call| (call.name.clone(), arguments(&call.arguments))).collect(),
        finish: match choice.finish {
            Some(Finish::Length) => "length",
            Some(Finish::ToolCalls) => "tools",
            // Not every protocol tells why it was withheld, or that.
            Some(_) => "stop",
            None => "none",
        },
    }
}

/// Whether an answer is one to give again.
fn is_complete_and_plain(choice: &Choice) -> bool {
    let plain = |block: &Block| !matches!(block, Block::ToolCall(_) | Block::Refusal(_));
    // A refusal in plain words is one, too.
    let refused = choice.said().starts_with("I'm sorry, I can't");
    choice.finish == Some(Finish::Stop) && choice.blocks.iter().all(plain) && !refused
}

fn meanings(reply: &Reply) -> Vec<Meaning> {
    reply.choices.iter().map(meaning).collect()
}

/// What the client was told.
async fn told(face: Protocol, stream: bool, response: reqwest::Response) -> Reply {
    let status = response.status();
    let body = response.bytes().await.unwrap();
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    let events = match stream {
        true => events_in(face, &[&body]),
        false => Decoder::new(face).whole(&body).ok(),
    };
    let events = events.unwrap_or_else(|| panic!("cannot be read: {}", String::from_utf8_lossy(&body)));
    let mut folder = Folder::default();
    events.iter().for_each(|event| folder.push(event));
    folder.finish_lossy().expect("complete").0
}

/// What is asked, whatever the protocol.
#[derive(Debug, PartialEq)]
struct Question {
    system: String,
    words: Vec<(Role, String)>,
    pictures: Vec<String>,
    calls: Vec<(String, Value)>,
    tools: Vec<(String, Option<String>, Option<Value>)>,
    schema: Option<Value>,
    temperature: Option<f64>,
    stop: Vec<String>,
    n: u32,
}

fn question(request: &Request) -> Question {
    let (mut system, mut words, mut pictures, mut calls) =
        (String::new(), Vec::new(), Vec::new(), Vec::new());
    for message in &request.messages {
        let text = message.plain_text();
        match message.role {
            Role::System | Role::Developer => system.push_str(&text),
            _ if text.is_empty() => {}
            // Messages of the same side may be put together.
            role => match words.last_mut() {
                Some((last, said)) if *last == role => *said = format!("{said}\n{text}"),
                _ => words.push((role, text)),
            },
        }
        for part in &message.parts {
            match part {
                Part::Image(media) => match &media.source {
                    MediaSource::Data(data) => pictures.push(data.clone()),
                    other => pictures.push(format!("{other:?}")),
                },
                Part::ToolCall(call) => {
                    calls.push((call.name.clone(), serde_json::from_str(&call.arguments).unwrap()));
                }
                _ => {}
            }
        }
    }
    let tools = request.tools.iter().filter_map(|tool| match tool {
        Tool::Function { name, description, parameters, .. } => {
            Some((name.clone(), description.clone(), parameters.clone()))
        }
        Tool::Opaque(_) => None,
    });
    let mut schema = match &request.response_format {
        Some(ResponseFormat::Schema { schema, .. }) => Some(schema.clone()),
        _ => None,
    };
    // Anthropic wants it closed, and what else limits it in words.
    if let Some(Value::Object(schema)) = &mut schema {
        let words = ["additionalProperties", "propertyOrdering", "description"];
        schema.retain(|word, _| !words.contains(&word.as_str()));
    }
    Question {
        system,
        words,
        pictures,
        calls,
        tools: tools.collect(),
        schema,
        temperature: request.sampling.temperature,
        stop: request.sampling.stop.clone(),
        n: request.sampling.n.unwrap_or(1),
    }
}

/// What the provider was asked.
fn asked(sidecar: &Sidecar, protocol: Protocol) -> Request {
    let (path, body) = sidecar.asked.lock().unwrap().take().expect("the provider was asked");
    decode_request(protocol, &body, &target(protocol, path.contains(":stream"))).unwrap()
}

/// Whether `provider` has no words for `case` as `face` asks it: then the client must be told so.
fn is_inexpressible(face: Protocol, provider: Protocol, case: &str) -> bool {
    let one_answer = [Protocol::OpenAiResponses, Protocol::Anthropic, Protocol::OllamaChat];
    match case {
        "n2" => one_answer.contains(&provider),
        // Responses knows no stop sequences, and Anthropic none of mere space.
        "text" if face == provider => false,
        "text" if provider == Protocol::OpenAiResponses => !stops(face).is_empty(),
        "text" if provider == Protocol::Anthropic => stops(face).iter().any(|stop| stop.trim().is_empty()),
        _ => false,
    }
}

fn stops(face: Protocol) -> Vec<String> {
    Case::of(face, "text").map(|case| case.request().sampling.stop).unwrap_or_default()
}

/// One cell: ask twice, and compare all there is to compare.
async fn cell(face: Protocol, kind: ProviderKind, protocol: Protocol, case: &'static str, stream: bool) {
    let label = format!("{} -> {} {case} stream={stream}", face.name(), protocol.name());
    let Some(body) = request(face, case, stream) else { return };
    if Case::of(protocol, case).is_none() {
        return;
    }
    let sidecar = Sidecar::start(kind, protocol, case).await;
    let fresh = sidecar.ask(face, &body, stream).await;
    if is_inexpressible(face, protocol, case) {
        assert_eq!(fresh.status(), 400, "{label}");
        let body: Value = serde_json::from_slice(&fresh.bytes().await.unwrap()).unwrap();
        assert!(body.to_string().contains('`'), "{label}: the field is named: {body}");
        return;
    }
    assert_eq!(fresh.status(), 200, "{label}");
    assert_eq!(fresh.headers()["x-weir-source"], "upstream", "{label}");
    let limits =
        |response: &reqwest::Response| response.headers().contains_key("x-ratelimit-remaining-requests");
    assert_eq!(limits(&fresh), face == protocol, "{label}: what the client's SDK knows, and nothing else");
    assert_eq!(fresh.headers()["x-weir-upstream-request-id"], "theirs", "{label}");
    assert_ne!(fresh.headers()["request-id"], "theirs", "{label}");
    let told_fresh = told(face, stream, fresh).await;
    let said = Case::of(protocol, case).unwrap().whole();
    assert_eq!(meanings(&told_fresh), meanings(&said), "{label}");
    let client_asked = Case::of(face, case).unwrap().request();
    assert_eq!(question(&asked(&sidecar, protocol)), question(&client_asked), "{label}");

    let again = sidecar.ask(face, &body, stream).await;
    let source = again.headers()["x-weir-source"].to_str().unwrap().to_owned();
    assert_eq!(limits(&again), source == "upstream" && face == protocol, "{label} again ({source})");
    let told_again = told(face, stream, again).await;
    assert_eq!(meanings(&told_again), meanings(&told_fresh), "{label} again ({source})");
    let kept = said.choices.iter().all(is_complete_and_plain);
    assert_eq!(source, if kept { "exact" } else { "upstream" }, "{label}");
    if kept && !told_fresh.id.is_empty() {
        assert_ne!(told_again.id, told_fresh.id, "{label}: a replay has an id of its own");
    }
}

async fn every_cell_of(case: &'static str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for face in FACES {
        for (kind, protocol) in PROVIDERS {
            for stream in [false, true] {
                cell(face, kind, protocol, case, stream).await;
            }
        }
    }
}

#[tokio::test]
async fn words() {
    every_cell_of("text").await;
}

#[tokio::test]
async fn tools() {
    every_cell_of("tools").await;
}

#[tokio::test]
async fn pictures() {
    every_cell_of("image").await;
}

#[tokio::test]
async fn thoughts() {
    every_cell_of("reasoning").await;
}

#[tokio::test]
async fn schemas() {
    every_cell_of("json_schema").await;
}

#[tokio::test]
async fn refusals() {
    every_cell_of("refusal").await;
}

#[tokio::test]
async fn several_answers() {
    every_cell_of("n2").await;
}

/// An answer that one protocol's client got is given to every other protocol's.
#[tokio::test]
async fn one_stored_answer_serves_every_protocol() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sidecar = Sidecar::start(ProviderKind::Generic, Protocol::OpenAiChat, "json_schema").await;
    let plain = |face: Protocol, stream: bool| match face {
        Protocol::OpenAiResponses => {
            serde_json::json!({ "model": "gemini-2.5-flash", "input": "hi", "max_output_tokens": 9, "stream": stream })
        }
        Protocol::Gemini => serde_json::json!({
            "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }], "generationConfig": { "maxOutputTokens": 9 },
        }),
        Protocol::OllamaChat => serde_json::json!({
            "model": "gemini-2.5-flash", "messages": [{ "role": "user", "content": "hi" }], "stream": stream,
            "options": { "num_predict": 9 },
        }),
        _ => serde_json::json!({
            "model": "gemini-2.5-flash", "messages": [{ "role": "user", "content": "hi" }], "stream": stream, "max_tokens": 9,
        }),
    };
    let mut first = None;
    for face in FACES {
        for stream in [false, true] {
            let response = sidecar.ask(face, &plain(face, stream), stream).await;
            let source = response.headers()["x-weir-source"].to_str().unwrap().to_owned();
            let expected = if first.is_none() { "upstream" } else { "exact" };
            assert_eq!(source, expected, "{} stream={stream}", face.name());
            let told = meanings(&told(face, stream, response).await);
            assert_eq!(
                &told,
                first.get_or_insert_with(|| meanings(
                    &Case::of(Protocol::OpenAiChat, "json_schema").unwrap().whole()
                ))
            );
        }
    }
}

/// The provider knows an answer by the id that it has given, whatever a replay of it is called.
#[tokio::test]
async fn a_conversation_goes_on_from_a_replay() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let face = Protocol::OpenAiResponses;
    let sidecar = Sidecar::start(ProviderKind::Generic, face, "text").await;
    let ask = async |body: Value| sidecar.ask(face, &body, false).await;
    let first = told(face, false, ask(serde_json::json!({ "model": "m", "input": "q" })).await).await.id;
    let again = ask(serde_json::json!({ "model": "m", "input": "q" })).await;
    assert_eq!(again.headers()["x-weir-source"], "exact");
    let again = told(face, false, again).await.id;
    assert_ne!(again, first);
    let next = |previous: &str| serde_json::json!({ "model": "m", "input": "and?", "previous_response_id": previous });
    assert_eq!(ask(next(&again)).await.status(), 200);
    let asked = asked(&sidecar, face);
    assert_eq!(asked.extra["previous_response_id"], first);
    assert_eq!(ask(next(&first)).await.headers()["x-weir-source"], "exact", "it is the same conversation");
    let unknown = ask(next("resp_weir_0_")).await;
    assert_eq!(unknown.status(), 404);
    let body: Value = serde_json::from_slice(&unknown.bytes().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "previous_response_not_found");
}

/// A provider's refusal reaches every client in its own words: status, shape, when to come back.
#[tokio::test]
async fn errors() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for face in FACES {
        for (kind, protocol) in PROVIDERS {
            for stream in [false, true] {
                let label = format!("{} -> {} stream={stream}", face.name(), protocol.name());
                let sidecar = Sidecar::start(kind, protocol, "error").await;
                let Some(body) = request(face, "error", stream) else { continue };
                let response = sidecar.ask(face, &body, stream).await;
                assert_eq!(response.status(), 429, "{label}");
                assert_eq!(response.headers()["retry-after"], "7", "{label}");
                assert!(response.headers().contains_key("request-id"), "{label}");
                let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
                let expected = match face {
                    Protocol::Anthropic => {
                        body["type"] == "error" && body["error"]["type"] == "rate_limit_error"
                    }
                    Protocol::Gemini => body["error"]["status"] == "RESOURCE_EXHAUSTED",
                    Protocol::OllamaChat => body["error"].is_string(),
                    _ => body["error"]["message"].is_string(),
                };
                assert!(expected, "{label}: {body}");
            }
        }
    }
}
