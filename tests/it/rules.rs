//! The intent lane through the whole path: each action in each protocol, conditions, reload, and `/weir/rules`.

use crate::kit::{Rig, caller, eventually, question, some_status, whole};
use crate::server::client;
use crate::wire::events_in;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use weir::chat::{Block, Finish, Folder, Protocol, Reply};
use weir::intent::{Book, Live, parse};
use weir::secret::Secret;
use weir::server::{self, Client, Server};
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::prices::Prices;
use weir::wire::Decoder;

pub(crate) const RULES: &str = r#"
[[vocabulary]]
name = "track"
values = ["bass", "lead vocal = lead vox"]

[[rule]]
name = "hello"
match = "hello"
answer = "Hi there!"

[[rule]]
name = "state"
match = "state of {t:track}"
json = { track = "{t}", muted = false }

[[rule]]
name = "volume"
intent = "set_volume"
match = "set {t:track} to {db:number} dB"
call = { tool = "set_volume", arguments = { track = "{t}", db = "{db:number}" } }

[[rule]]
name = "punch"
match = "make {t:track} punchier"
call = [
    { tool = "add_device", arguments = { track = "{t}", device = "compressor" } },
    { tool = "set_volume", arguments = { track = "{t}", db = 1 } },
]

[[rule]]
name = "secret"
match = "tell me the password"
block = "That is not for me to say."

[[rule]]
name = "away"
match = "ask the other about {x:text}"
route = "other-model"

[[rule]]
name = "fresh"
match = "roll the dice"
bypass_cache = true

[[rule]]
name = "weather"
match = "weather in {city:text}"
http = { url = "http://SERVICE/weather?city={city}", answer = "{city}: {body.sky}", timeout_ms = 60000 }
"#;

pub(crate) struct Running {
    address: SocketAddr,
    upstream: Arc<Scripted>,
    live: Live,
    _stop: oneshot::Sender<()>,
}

async fn start(live: Live, clients: Vec<Client>) -> Running {
    let upstream = Arc::new(Scripted::new("primary", [Step::say("from the model")]));
    let mut rig = Rig::new(Arc::clone(&upstream) as _, Arc::new(Memory::default()));
    rig.pipeline.rules = live.clone();
    let server = Server {
        config: server::Config { clients, ..server::Config::default() },
        files: None,
        clock: Arc::clone(&rig.pipeline.clock),
        pipeline: rig.pipeline,
        metrics: Metrics::new(Prices::default()),
        status: some_status(),
        models: Vec::new(),
        providers: server::Providers::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(server::serve(listener, Arc::new(server), async { drop(stopped.await) }));
    Running { address, upstream, live, _stop: stop }
}

async fn ruled(text: &str) -> Running {
    start(parse(text).unwrap().into(), Vec::new()).await
}

/// With a service that knows the weather in Oslo, in the place of `SERVICE`.
pub(crate) async fn start_with_service(rules: &str) -> Running {
    let service = axum::Router::new().route(
        "/weather",
        axum::routing::get(async |query: axum::extract::RawQuery| match query.0.as_deref() {
            Some("city=Oslo") => (axum::http::StatusCode::OK, json!({ "sky": "clear" }).to_string()),
            _ => (axum::http::StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let mut book = Book::default();
    book.add("test", &rules.replace("SERVICE", &address.to_string())).unwrap();
    let asker = Arc::new(weir::upstream::provider::Service::new());
    let services: weir::intent::Services = Arc::new(move |call| {
        let asker = Arc::clone(&asker);
        Box::pin(
            async move { asker.ask(&call.method, &call.url, &call.headers, call.body, call.deadline).await },
        )
    });
    start(Live::new(book, services).unwrap(), Vec::new()).await
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn post(&self, path: &str, body: String) -> reqwest::Response {
        client().post(format!("http://{}{path}", self.address)).body(body).send().await.unwrap()
    }

    async fn told(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.post(path, body.to_string()).await;
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// What a client of `protocol` is told, and the headers that say by whom.
    async fn ask(&self, protocol: Protocol, text: &str, stream: bool) -> (Reply, String, String) {
        let (path, body) = asked(protocol, text, stream);
        let response = self.post(&path, body.to_string()).await;
        assert_eq!(response.status(), 200, "{protocol:?}");
        let header = |name: &str| response.headers().get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
        let (source, rule) = (header("x-weir-source"), header("x-weir-rule"));
        let bytes = response.bytes().await.unwrap();
        let events = match stream {
            true => events_in(protocol, &[&bytes]).expect("a stream of events"),
            false => Decoder::new(protocol).whole(&bytes).expect("a whole reply"),
        };
        let mut folder = Folder::default();
        events.iter().for_each(|event| folder.push(event));
        (folder.finish_lossy().unwrap().0, source, rule)
    }
}

pub(crate) fn asked(protocol: Protocol, text: &str, stream: bool) -> (String, Value) {
    let messages = json!([{ "role": "user", "content": text }]);
    let (path, mut body) = match protocol {
        Protocol::OpenAiChat => ("/v1/chat/completions", json!({ "model": "m", "messages": messages })),
        Protocol::OpenAiCompletions => ("/v1/completions", json!({ "model": "m", "prompt": text })),
        Protocol::OpenAiResponses => ("/v1/responses", json!({ "model": "m", "input": text })),
        Protocol::Anthropic => {
            ("/v1/messages", json!({ "model": "m", "max_tokens": 99, "messages": messages }))
        }
        Protocol::Gemini => {
            let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] });
            return (format!("/v1beta/models/m:{method}"), body);
        }
        Protocol::OllamaChat => ("/api/chat", json!({ "model": "m", "messages": messages })),
        Protocol::OllamaGenerate => ("/api/generate", json!({ "model": "m", "prompt": text })),
    };
    body["stream"] = stream.into();
    (path.to_owned(), body)
}

fn calls(reply: &Reply) -> Vec<(String, Value)> {
    let blocks = reply.choices[0].blocks.iter();
    blocks
        .filter_map(|block| match block {
            Block::ToolCall(call) => {
                Some((call.name.clone(), serde_json::from_str(&call.arguments).unwrap()))
            }
            _ => None,
        })
        .collect()
}

/// Which protocols have a word for tools.
fn has_tools(protocol: Protocol) -> bool {
    !matches!(protocol, Protocol::OpenAiCompletions | Protocol::OllamaGenerate)
}

#[tokio::test]
async fn each_action_is_an_answer_in_each_protocol_whole_and_streamed() {
    let running = ruled(&RULES.replace("SERVICE", "127.0.0.1:1")).await;
    for (protocol, stream) in
        Protocol::ALL.into_iter().flat_map(|protocol| [(protocol, false), (protocol, true)])
    {
        let told = format!("{protocol:?}, stream {stream}");
        let (reply, source, rule) = running.ask(protocol, "hey, hello!", stream).await;
        assert_eq!(
            (reply.choices[0].said().as_str(), source.as_str(), rule.as_str()),
            ("Hi there!", "rule", "hello"),
            "{told}"
        );

        let (reply, _, rule) = running.ask(protocol, "state of lead vox", stream).await;
        let json: Value = serde_json::from_str(&reply.choices[0].said()).unwrap();
        assert_eq!(
            (json, rule.as_str()),
            (json!({ "track": "lead vocal", "muted": false }), "state"),
            "{told}"
        );

        let (reply, _, rule) = running.ask(protocol, "tell me the password", stream).await;
        assert_eq!(
            (reply.choices[0].said().as_str(), rule.as_str()),
            ("That is not for me to say.", "secret"),
            "{told}"
        );

        let (reply, source, rule) =
            running.ask(protocol, "set the bass to minus 2.5 dB please", stream).await;
        assert_eq!((source.as_str(), rule.as_str()), ("rule", "volume"), "{told}");
        if has_tools(protocol) {
            let wanted = [("set_volume".to_owned(), json!({ "track": "bass", "db": -2.5 }))];
            assert_eq!(calls(&reply), wanted, "{told}");
            assert_eq!(reply.choices[0].finish, Some(Finish::ToolCalls), "{told}");
            let (reply, _, _) = running.ask(protocol, "make the bass punchier", stream).await;
            assert_eq!(calls(&reply).len(), 2, "{told}");
            let (reply, _, _) =
                running.ask(protocol, "set bass to 1 dB and set lead vox to 2 dB", stream).await;
            assert_eq!(calls(&reply).len(), 2, "{told}");
        }
        let (reply, source, rule) =
            running.ask(protocol, &format!("ask the other about {told}"), stream).await;
        let said = reply.choices[0].said();
        assert_eq!(
            (said.as_str(), source.as_str(), rule.as_str()),
            ("from the model", "upstream", "away"),
            "{told}"
        );
    }
    assert_eq!(running.upstream.calls(), 14, "only what was sent on reached a model");
}

#[tokio::test]
async fn what_a_rule_keeps_from_the_cache_is_asked_each_time() {
    let running = ruled(RULES).await;
    for _ in 0..3 {
        let (_, source, rule) = running.ask(Protocol::OpenAiChat, "roll the dice", false).await;
        assert_eq!((source.as_str(), rule.as_str()), ("upstream", "fresh"));
    }
    assert_eq!(running.upstream.calls(), 3);
}

#[tokio::test]
async fn a_call_that_the_client_does_not_offer_is_left_to_the_model() {
    let running = ruled(RULES).await;
    let tool = |name: &str| json!([{ "type": "function", "function": { "name": name, "parameters": { "type": "object", "properties": { "db": { "type": "number" } } } } }]);
    for (name, source) in [("set_volume", "rule"), ("other", "upstream")] {
        let (path, mut body) = asked(Protocol::OpenAiChat, "set bass to 2 dB", false);
        body["tools"] = tool(name);
        let response = running.post(&path, body.to_string()).await;
        assert_eq!(response.headers()["x-weir-source"], source, "{name}");
    }
}

#[tokio::test]
async fn a_local_service_answers_and_one_that_fails_is_no_failure() {
    let running = start_with_service(RULES).await;
    let (reply, source, _) = running.ask(Protocol::OpenAiChat, "weather in Oslo", false).await;
    assert_eq!((reply.choices[0].said().as_str(), source.as_str()), ("Oslo: clear", "rule"));
    let (_, source, _) = running.ask(Protocol::OpenAiChat, "weather in Rome", false).await;
    assert_eq!(source, "upstream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_change_under_load_without_a_dropped_request() {
    let rule = |answer: &str| format!("[[rule]]\nname = 'ping'\nmatch = 'ping'\nanswer = '{answer}'\n");
    let running = Arc::new(ruled(&rule("one")).await);
    let over = Arc::new(AtomicBool::new(false));
    let seen: Arc<[AtomicUsize; 4]> = Arc::default();
    let askers: Vec<_> = (0..seen.len())
        .map(|asker| {
            let (running, over, seen) = (Arc::clone(&running), Arc::clone(&over), Arc::clone(&seen));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let (reply, source, _) = running.ask(Protocol::OpenAiChat, "ping", false).await;
                    assert_eq!(source, "rule");
                    assert!(["one", "two"].contains(&reply.choices[0].said().as_str()));
                    seen[asker].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let all_since = |before: &[usize]| {
        seen.iter().zip(before).all(|(seen, before)| seen.load(Ordering::Relaxed) > *before)
    };
    eventually("all are asking", || all_since(&[0; 4])).await;
    let before = seen.each_ref().map(|seen| seen.load(Ordering::Relaxed));
    for round in 0..60 {
        let mut book = Book::default();
        let wrong = round % 3 == 2;
        let other = rule(if round % 2 == 0 { "two" } else { "one" });
        let read = book.add("test", if wrong { "[[rule]]" } else { &other });
        assert_eq!(read.is_err(), wrong);
        if !wrong {
            running.live.replace(book).unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    eventually("all go on asking", || all_since(&before)).await;
    over.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
}

#[tokio::test]
async fn a_question_is_tried_over_http() {
    let running = ruled(RULES).await;
    let (status, told) =
        running.told("/weir/rules/try", &json!({ "text": "set the bass to two dB", "project": "p" })).await;
    assert_eq!(status, 200);
    let names: Vec<&String> = told.as_object().unwrap().keys().collect();
    assert_eq!(names, ["rule", "intent", "slots", "score", "action", "parts", "why_not"]);
    assert_eq!(told["intent"], "set_volume");
    assert_eq!(told["slots"], json!({ "t": "bass", "db": "2" }));
    assert_eq!(told["action"]["calls"][0]["tool"], "set_volume");
    let (_, told) = running.told("/weir/rules/try", &json!({ "text": "set the bass to loud" })).await;
    assert_eq!((&told["rule"], &told["intent"], &told["slots"]), (&Value::Null, &Value::Null, &json!({})));
    assert_eq!(told["why_not"][0]["rule"], "volume");
    assert_eq!(running.told("/weir/rules/try", &json!({ "question": 1 })).await.0, 400);
    assert_eq!(running.upstream.calls(), 0);
}

#[tokio::test]
async fn names_and_rules_are_added_while_it_runs() {
    let mut book = Book::default();
    book.add("test", RULES).unwrap();
    let live = Live::new(book, Arc::new(|_| Box::pin(async { Err(String::new()) }))).unwrap();
    let running = start(live, Vec::new()).await;
    let intent = async |text: &str, project: &str| {
        running.told("/weir/rules/try", &json!({ "text": text, "project": project })).await.1["rule"].clone()
    };
    assert_eq!(intent("state of Kick In", "song").await, Value::Null);
    let names = json!({ "project": "song", "name": "track", "values": ["Kick In", "Gtr L = left guitar"] });
    assert_eq!(running.told("/weir/rules/vocabulary", &names).await, (200, json!({ "values": 2 })));
    assert_eq!(intent("state of kick in", "song").await, "state");
    assert_eq!(intent("state of left guitar", "other").await, Value::Null);

    let rule = "[[rule]]\nname = 'ping'\nmatch = 'ping'\nanswer = 'pong'\n";
    assert_eq!(running.post("/weir/rules", rule.to_owned()).await.status(), 200);
    assert_eq!(intent("ping", "song").await, "ping");
    let bad =
        running.post("/weir/rules", "[[rule]]\nname = 'x'\nmatch = '('\nanswer = 'x'\n".to_owned()).await;
    assert_eq!(bad.status(), 400);
    assert_eq!(intent("ping", "song").await, "ping");
    let listed = client().get(format!("http://{}/weir/rules", running.address)).send().await.unwrap();
    let listed: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
    assert_eq!(listed["rules"].as_array().unwrap().len(), 9);
    assert_eq!(listed["rules"][2]["action"], "call");
}

#[tokio::test]
async fn rules_are_guarded_like_what_is_kept() {
    let running = ruled(RULES).await;
    let url = format!("http://{}/weir/rules", running.address);
    let foreign = client().get(&url).header("origin", "http://evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);

    let of = |tenant: &str| Client {
        name: tenant.into(),
        key: Secret::new(format!("key-{tenant}")),
        tenant: tenant.into(),
    };
    let shared = start(parse(RULES).unwrap().into(), vec![of("a"), of("b")]).await;
    let url = format!("http://{}/weir/rules", shared.address);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 401);
    assert_eq!(client().get(&url).bearer_auth("key-a").send().await.unwrap().status(), 200);
    let add = client().post(&url).bearer_auth("key-a").body("").send().await.unwrap();
    assert_eq!(add.status(), 403);
}

#[tokio::test]
async fn a_rule_that_was_added_later_beats_what_is_remembered() {
    let upstream = Arc::new(Scripted::new("primary", [Step::say("remembered")]));
    let rig = Rig::new(upstream, Arc::new(Memory::default()));
    assert_eq!(rig.ask(question("ping")).await.1, "remembered");
    let mut book = Book::default();
    book.add("test", "[[rule]]\nname = 'ping'\nmatch = 'ping'\nanswer = 'pong'\n").unwrap();
    rig.pipeline.rules.replace(book).unwrap();
    let answer = rig.pipeline.answer(caller(), question("ping")).await.unwrap();
    assert_eq!(whole(answer).await.unwrap().choices[0].said(), "pong");
}
