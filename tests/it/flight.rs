//! The same question in flight is asked once: who shares an answer, who does not, and what becomes of those
//! who share one when somebody leaves or something breaks.

use crate::kit::{Rig, Told, caller, eventually, question, streamed, whole};
use crate::server::{client, status};
use async_trait::async_trait;
use futures_util::{StreamExt as _, future, stream};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use weir::cache::Wishes;
use weir::chat::{Chunk, Delivery, Event, Finish, Form, Protocol, Raw, Received, Request, Usage};
use weir::pipeline::{Answer, Caller, Ended, Error, Outcome, Source};
use weir::server::{self, Server};
use weir::sim::Faulty;
use weir::sim::store::Fault;
use weir::store::memory::Memory as MemoryStore;
use weir::telemetry::Metrics;
use weir::upstream::prices::Prices;
use weir::upstream::{self, Call, Kind, Load, Opened, Origin, Upstream};

type Said = Result<Chunk, upstream::Error>;

/// An upstream that says what the test tells it, when the test tells it.
struct Prompted {
    origin: Origin,
    calls: Mutex<Vec<mpsc::UnboundedSender<Said>>>,
}

impl Prompted {
    fn new(origin: Origin) -> Arc<Self> {
        Arc::new(Self { origin, calls: Mutex::default() })
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    fn say(&self, call: usize, said: Said) {
        self.calls.lock().unwrap()[call].send(said).expect("somebody listens");
    }

    fn text(&self, call: usize, text: &str) {
        self.say(call, Ok(vec![Event::Text { choice: 0, text: text.into() }].into()));
    }

    fn start(&self, call: usize, text: &str) {
        let start = Event::Start { id: "id".into(), model: "m".into(), created: 1 };
        self.say(call, Ok(vec![start, Event::Text { choice: 0, text: text.into() }].into()));
    }

    fn end(&self, call: usize) {
        let usage = Usage { input: 3, output: 4, ..Usage::default() };
        let finish = Event::Finish { choice: 0, reason: Finish::Stop };
        self.say(call, Ok(vec![finish, Event::Usage(usage), Event::End].into()));
    }

    fn is_cancelled(&self, call: usize) -> bool {
        self.calls.lock().unwrap()[call].is_closed()
    }
}

fn failure(kind: Kind) -> upstream::Error {
    upstream::Error::new(kind, &"prompted".into(), kind.name())
}

#[async_trait]
impl Upstream for Prompted {
    fn name(&self) -> &'static str {
        "prompted"
    }

    fn origin(&self, _: &Request) -> Origin {
        self.origin
    }

    async fn open(&self, request: &Request, _: &Call) -> Result<Opened, upstream::Error> {
        let (said, mut heard) = mpsc::unbounded_channel();
        self.calls.lock().unwrap().push(said);
        let first = heard.recv().await.expect("the test says something")?;
        let rest = stream::unfold(heard, async |mut heard| Some((heard.recv().await?, heard)));
        Ok(Opened {
            by: "prompted".into(),
            model: request.model.as_str().into(),
            origin: self.origin,
            failed: Vec::new(),
            dropped: Vec::new(),
            headers: vec![("x-ratelimit-left".into(), "1".into()), ("x-weir-id".into(), "2".into())],
            load: Load::default(),
            chunks: stream::iter([Ok(first)]).chain(rest).boxed(),
        })
    }
}

fn rig(upstream: &Arc<Prompted>) -> Arc<Rig> {
    Arc::new(Rig::new(Arc::clone(upstream) as Arc<dyn Upstream>, Arc::new(MemoryStore::default())))
}

type Asking = tokio::task::JoinHandle<Result<Answer, Error>>;

fn ask(rig: &Arc<Rig>, request: Request) -> Asking {
    ask_as(rig, caller(), request)
}

fn ask_as(rig: &Arc<Rig>, caller: Caller, request: Request) -> Asking {
    let rig = Arc::clone(rig);
    tokio::spawn(async move { rig.pipeline.answer(caller, request).await })
}

/// Two who follow one call, the first of whom began it; it has begun to answer.
async fn two(upstream: &Arc<Prompted>, rig: &Arc<Rig>) -> (Answer, Answer) {
    let first = ask(rig, streamed("q"));
    eventually("it is asked", || upstream.calls() == 1).await;
    upstream.start(0, "one ");
    let first = first.await.unwrap().unwrap();
    let second = rig.pipeline.answer(caller(), streamed("q")).await.unwrap();
    assert_eq!((first.shared, second.shared), (false, true));
    (first, second)
}

async fn said(answer: Answer) -> Result<String, String> {
    whole(answer).await.map(|reply| reply.choices[0].said())
}

fn outcomes(told: &Told) -> Vec<Outcome> {
    told.lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_hundred_share_one_call_and_the_one_who_began_it_may_leave() {
    const ALL: usize = 500;
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let (begun, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let asked = (0..ALL).map(|_| {
        let (begun, left) = (Arc::clone(&begun), Arc::clone(&left));
        let answer = ask(&rig, streamed("a long story"));
        tokio::spawn(async move {
            let mut answer = answer.await.unwrap().unwrap();
            begun.fetch_add(1, Ordering::SeqCst);
            if answer.shared {
                return Some(said(answer).await.unwrap());
            }
            for _ in 0..2 {
                answer.chunks.next().await.unwrap().unwrap();
            }
            drop(answer);
            left.fetch_add(1, Ordering::SeqCst);
            None
        })
    });
    let asked: Vec<_> = asked.collect();
    eventually("it is asked", || upstream.calls() > 0).await;
    upstream.start(0, "Once ");
    eventually("all have joined", || begun.load(Ordering::SeqCst) == ALL).await;
    upstream.text(0, "upon ");
    eventually("the first has left", || left.load(Ordering::SeqCst) == 1).await;
    for _ in 0..100 {
        upstream.text(0, "a ");
    }
    upstream.end(0);
    let given: Vec<Option<String>> =
        future::join_all(asked).await.into_iter().map(|asked| asked.expect("no panic")).collect();
    let whole = format!("Once upon {}", "a ".repeat(100));
    assert_eq!(given.iter().flatten().filter(|said| **said == whole).count(), ALL - 1);
    assert_eq!(upstream.calls(), 1);
    let told = outcomes(&rig.told);
    let count = |holds: &dyn Fn(&Outcome) -> bool| told.iter().filter(|outcome| holds(outcome)).count();
    assert_eq!(count(&|outcome| outcome.ended == Ended::Complete), ALL - 1);
    assert_eq!(count(&|outcome| outcome.ended == Ended::ClientGone), 1);
    assert_eq!(count(&|outcome| outcome.shared), ALL - 1);
    assert_eq!(count(&|outcome| outcome.accounts && outcome.usage.is_some()), 1, "counted once");
    assert_eq!(count(&|outcome| outcome.usage.is_some() || outcome.kept.is_some()), 1);
    assert_eq!(rig.ask(question("a long story")).await, ("exact".into(), whole));
}

#[tokio::test]
async fn who_joins_late_gets_it_all() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let (first, second) = two(&upstream, &rig).await;
    upstream.text(0, "two ");
    let mut third = rig.pipeline.answer(caller(), question("q")).await.unwrap();
    third.chunks.next().await.unwrap().unwrap();
    third.chunks.next().await.unwrap().unwrap();
    let fourth = rig.pipeline.answer(caller(), streamed("q")).await.unwrap();
    upstream.text(0, "three");
    upstream.end(0);
    for answer in [first, second, fourth] {
        assert_eq!(said(answer).await.unwrap(), "one two three");
    }
    assert_eq!(upstream.calls(), 1);
    assert_eq!(rig.ask(question("q")).await.0, "exact");
    drop(third);
    assert_eq!(rig.last().ended, Ended::ClientGone);
}

#[tokio::test]
async fn the_last_to_leave_cancels_the_call() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let (first, second) = two(&upstream, &rig).await;
    drop(first);
    assert!(!upstream.is_cancelled(0));
    assert!(!rig.last().accounts, "the other one will");
    drop(second);
    assert!(upstream.is_cancelled(0));
    assert!(rig.last().accounts);
    let again = ask(&rig, streamed("q"));
    eventually("it is asked anew", || upstream.calls() == 2).await;
    upstream.start(1, "fresh");
    upstream.end(1);
    assert_eq!(said(again.await.unwrap().unwrap()).await.unwrap(), "fresh");
}

#[tokio::test]
async fn who_began_it_may_leave_before_the_first_word() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let first = ask(&rig, question("q"));
    eventually("it is asked", || upstream.calls() == 1).await;
    let second = ask(&rig, question("q"));
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    upstream.start(0, "still here");
    upstream.end(0);
    let second = second.await.unwrap().unwrap();
    assert!(second.shared);
    assert_eq!(said(second).await.unwrap(), "still here");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_failure_reaches_all_and_is_counted_once() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let asked: Vec<Asking> = (0..5).map(|_| ask(&rig, question("q"))).collect();
    eventually("it is asked", || upstream.calls() == 1).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    upstream.say(0, Err(failure(Kind::RateLimit)));
    for asked in asked {
        let error = asked.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Upstream(error) if error.kind == Kind::RateLimit));
    }
    assert_eq!(upstream.calls(), 1);
    let told = outcomes(&rig.told);
    assert!(told.iter().all(|outcome| outcome.ended == Ended::Failed(Kind::RateLimit)));
    assert_eq!(told.iter().filter(|outcome| outcome.accounts).count(), 1);
    let again = ask(&rig, question("q"));
    eventually("a failure is not joined", || upstream.calls() == 2).await;
    again.abort();
}

#[tokio::test]
async fn a_cut_reaches_all_and_is_not_remembered() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let (first, second) = two(&upstream, &rig).await;
    upstream.say(0, Err(failure(Kind::Cut)));
    for answer in [first, second] {
        assert_eq!(said(answer).await.unwrap_err(), "prompted: cut");
        assert_eq!(rig.last().ended, Ended::Cut(Kind::Cut));
    }
    let again = ask(&rig, question("q"));
    eventually("it is asked anew", || upstream.calls() == 2).await;
    again.abort();
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let (slow, quick) = two(&upstream, &rig).await;
    (0..1000).for_each(|_| upstream.text(0, "x"));
    upstream.end(0);
    let said_quickly = said(quick).await.unwrap();
    assert_eq!(said(slow).await.unwrap(), said_quickly);
}

#[tokio::test]
async fn who_is_too_far_behind_is_let_go_and_nobody_joins_what_is_too_long() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let (slow, quick) = two(&upstream, &rig).await;
    let (pieces, piece) = (6, "x".repeat(1 << 20));
    (0..pieces).for_each(|_| upstream.text(0, &piece));
    let mut quick = quick.chunks;
    for _ in 0..=pieces {
        quick.next().await.unwrap().unwrap();
    }
    let late = ask(&rig, streamed("q"));
    eventually("it is asked anew", || upstream.calls() == 2).await;
    late.abort();
    assert_eq!(said(slow).await.unwrap_err(), "weir: the answer was read too slowly");
    upstream.end(0);
    let last = quick.next().await.unwrap().unwrap();
    assert!(last.events.contains(&Event::End));
}

#[tokio::test]
async fn others_and_those_who_want_their_own_never_share() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let with = |read, write| Caller { memory: Wishes { read, write, ..Wishes::default() }, ..caller() };
    let callers = [
        caller(),
        Caller { tenant: "t2".into(), ..caller() },
        Caller { project: "p2".into(), ..caller() },
        with(false, true),
        with(true, false),
        with(false, false),
    ];
    let asked: Vec<Asking> =
        callers.iter().map(|caller| ask_as(&rig, caller.clone(), question("q"))).collect();
    eventually("each asks for itself", || upstream.calls() == callers.len()).await;
    let other = ask(&rig, question("r"));
    eventually("other words are another question", || upstream.calls() == callers.len() + 1).await;
    asked.iter().chain([&other]).for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let upstream = Prompted::new(Origin::Provider);
    let mut rig = Rig::new(Arc::clone(&upstream) as Arc<dyn Upstream>, Arc::new(MemoryStore::default()));
    let config = weir::cache::Config { coalesce: false, ..weir::cache::Config::default() };
    let clock = Arc::clone(&rig.pipeline.clock);
    rig.pipeline.cache = Arc::new(weir::cache::Cache::new(config, Arc::new(MemoryStore::default()), clock));
    let rig = Arc::new(rig);
    let asked = [ask(&rig, question("q")), ask(&rig, question("q"))];
    eventually("each asks for itself", || upstream.calls() == 2).await;
    asked.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn the_local_model_is_asked_once_too() {
    let upstream = Prompted::new(Origin::Local);
    let rig = rig(&upstream);
    let (first, second) = two(&upstream, &rig).await;
    assert!(matches!(second.source, Source::Local { .. }));
    upstream.end(0);
    assert_eq!((said(first).await.unwrap(), said(second).await.unwrap()), ("one ".into(), "one ".into()));
    assert_eq!(rig.ask(question("q")).await.0, "exact");
}

#[tokio::test]
async fn who_looked_into_memory_just_before_the_answer_got_there_is_served_by_the_call() {
    let upstream = Prompted::new(Origin::Provider);
    let (store, switch) = Faulty::new(MemoryStore::default());
    let rig = Arc::new(Rig::new(Arc::clone(&upstream) as Arc<dyn Upstream>, Arc::new(store)));
    let first = ask(&rig, question("q"));
    eventually("it is asked", || upstream.calls() == 1).await;
    switch.set(Fault::Stall);
    let second = ask(&rig, question("q"));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    upstream.start(0, "here");
    upstream.end(0);
    assert_eq!(said(first.await.unwrap().unwrap()).await.unwrap(), "here");
    switch.set(Fault::Off);
    assert_eq!(said(second.await.unwrap().unwrap()).await.unwrap(), "here");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_one_request_is_not_told_to_another() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let sent = |body: &'static str| {
        let received = Received { body: body.into(), ..Received::default() };
        ask(&rig, Request { received, ..question("q") })
    };
    let (first, same, other) = (sent("a"), sent("a"), sent("b"));
    eventually("it is asked", || upstream.calls() == 1).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    upstream.say(0, Err(failure(Kind::BadRequest)));
    assert!(first.await.unwrap().is_err() && same.await.unwrap().is_err());
    eventually("the other asks for itself", || upstream.calls() == 2).await;
    upstream.start(1, "fine");
    upstream.end(1);
    assert_eq!(said(other.await.unwrap().unwrap()).await.unwrap(), "fine");
}

#[tokio::test]
async fn frames_are_passed_on_as_they_came_to_those_only_who_want_them_so() {
    let upstream = Prompted::new(Origin::Provider);
    let rig = rig(&upstream);
    let raw = Raw { protocol: Protocol::OpenAiChat, form: Form::Frame, bytes: "data: {}\n\n".into() };
    let asking = |options: Value, protocol| {
        let options = options.as_object().unwrap().clone();
        let received = Received { protocol, ..Received::default() };
        ask(&rig, Request { delivery: Delivery { stream: true, options }, received, ..question("q") })
    };
    let openai = Protocol::OpenAiChat;
    let first = asking(json!({}), openai);
    eventually("it is asked", || upstream.calls() == 1).await;
    let usage = asking(json!({"include_usage": true}), openai);
    let other = asking(json!({"include_obfuscation": false}), openai);
    let foreign = asking(json!({}), Protocol::Anthropic);
    let start = Event::Start { id: "id".into(), model: "m".into(), created: 1 };
    upstream.say(0, Ok(Chunk { raw: Some(raw.clone()), events: vec![start] }));
    for (asking, verbatim, headers) in
        [(first, true, 2), (usage, true, 2), (other, false, 2), (foreign, true, 1)]
    {
        let mut answer = asking.await.unwrap().unwrap();
        assert_eq!(answer.headers.len(), headers);
        let chunk = answer.chunks.next().await.unwrap().unwrap();
        assert_eq!(chunk.raw, verbatim.then(|| raw.clone()));
    }
}

/// The server over `rig`, on a port of its own.
async fn serve(rig: Rig, metrics: &Metrics) -> SocketAddr {
    let mut pipeline = rig.pipeline;
    let counted = metrics.clone();
    pipeline.observer = Arc::new(move |outcome| counted.record(outcome));
    let server = Server {
        config: server::Config::default(),
        files: None,
        clock: Arc::clone(&pipeline.clock),
        pipeline,
        metrics: metrics.clone(),
        status: Arc::new(status),
        models: Vec::new(),
        providers: server::Providers::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, Arc::new(server), future::pending()));
    address
}

/// Posts `body`, and is told the moment the head of the answer is there.
async fn post(client: &reqwest::Client, url: &str, body: &Value) -> reqwest::Response {
    let response = client.post(url).body(body.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

fn is_shared(response: &reqwest::Response) -> bool {
    assert_eq!(response.headers()["x-weir-source"], "upstream");
    response.headers().contains_key("x-weir-shared")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_streams_over_http_are_one_call() {
    const ALL: usize = 500;
    let upstream = Prompted::new(Origin::Provider);
    let metrics = Metrics::new(Prices::default());
    let rig = Rig::new(Arc::clone(&upstream) as Arc<dyn Upstream>, Arc::new(MemoryStore::default()));
    let url = format!("http://{}/v1/chat/completions", serve(rig, &metrics).await);
    let client = client();
    let body = json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "tell" }] });
    let (begun, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let asked = (0..ALL).map(|_| {
        let (client, url, body) = (client.clone(), url.clone(), body.clone());
        let (begun, left) = (Arc::clone(&begun), Arc::clone(&left));
        tokio::spawn(async move {
            let mut response = post(&client, &url, &body).await;
            begun.fetch_add(1, Ordering::SeqCst);
            if is_shared(&response) {
                return Some(response.text().await.expect("the whole stream"));
            }
            assert!(response.chunk().await.unwrap().is_some());
            drop(response);
            left.fetch_add(1, Ordering::SeqCst);
            None
        })
    });
    let asked: Vec<_> = asked.collect();
    eventually("it is asked", || upstream.calls() > 0).await;
    upstream.start(0, "Once ");
    eventually("all have joined", || begun.load(Ordering::SeqCst) == ALL).await;
    eventually("the first has left", || left.load(Ordering::SeqCst) == 1).await;
    upstream.text(0, "upon ");
    let gone = "status=\"client_gone\",method=\"POST\"} 1";
    eventually("the server knows", || metrics.encode().contains(gone)).await;
    upstream.text(0, "a time");
    upstream.end(0);
    let given: Vec<Option<String>> =
        future::join_all(asked).await.into_iter().map(|asked| asked.expect("no panic")).collect();
    let streams: Vec<&String> = given.iter().flatten().collect();
    assert_eq!(streams.len(), ALL - 1);
    assert!(streams[0].contains("\"a time\"") && streams[0].ends_with("data: [DONE]\n\n"), "{}", streams[0]);
    assert!(streams.iter().all(|stream| *stream == streams[0]));
    assert_eq!(upstream.calls(), 1);
    eventually("all are told", || metrics.encode().contains("status=\"complete\",method=\"POST\"} 499"))
        .await;
    let text = metrics.encode();
    assert!(text.contains("weir_coalesced_total{route_id=\"default\"} 499"), "{text}");
    assert!(
        text.contains("weir_upstream_requests_total{upstream_name=\"prompted\",status=\"ok\"} 1"),
        "{text}"
    );
}

#[tokio::test]
async fn every_face_and_form_may_follow_the_same_call() {
    let upstream = Prompted::new(Origin::Provider);
    let metrics = Metrics::new(Prices::default());
    let rig = Rig::new(Arc::clone(&upstream) as Arc<dyn Upstream>, Arc::new(MemoryStore::default()));
    let base = format!("http://{}", serve(rig, &metrics).await);
    let messages = json!([{ "role": "user", "content": "tell" }]);
    let with = |more: Value| {
        let mut body = json!({ "model": "m", "max_tokens": 9, "messages": messages });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let usage = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let asked = [
        ("/v1/chat/completions", with(json!({ "stream": true }))),
        ("/v1/chat/completions", with(usage)),
        ("/v1/chat/completions", with(json!({}))),
        ("/v1/messages", with(json!({ "stream": true }))),
        ("/v1/messages", with(json!({}))),
    ];
    let mut texts = Vec::new();
    for (path, body) in &asked {
        let (client, url, body) = (client(), format!("{base}{path}"), body.clone());
        texts.push(tokio::spawn(async move { post(&client, &url, &body).await.text().await.unwrap() }));
        eventually("the first is asked", || upstream.calls() == 1).await;
    }
    upstream.start(0, "Once ");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    upstream.text(0, "upon");
    upstream.end(0);
    let texts: Vec<String> = future::join_all(texts).await.into_iter().map(Result::unwrap).collect();
    assert!(texts.iter().all(|text| text.contains("upon")), "{texts:?}");
    let tells_usage: Vec<bool> = texts.iter().map(|text| text.contains("\"usage\":{")).collect();
    assert_eq!(tells_usage, [false, true, true, true, true]);
    assert!(texts[2].contains("\"content\":\"Once upon\"") && texts[4].contains("\"text\":\"Once upon\""));
    assert_eq!(upstream.calls(), 1);
}

struct Panics;

#[async_trait]
impl Upstream for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn origin(&self, _: &Request) -> Origin {
        Origin::Provider
    }

    async fn open(&self, _: &Request, _: &Call) -> Result<Opened, upstream::Error> {
        tokio::task::yield_now().await;
        panic!("a fault of ours")
    }
}

#[tokio::test]
async fn a_panic_is_told_to_the_others_as_a_failure() {
    let rig = Arc::new(Rig::new(Arc::new(Panics), Arc::new(MemoryStore::default())));
    let asked = [ask(&rig, question("q")), ask(&rig, question("q"))];
    let given = future::join_all(asked).await;
    assert_eq!(given.iter().filter(|asked| asked.is_err()).count(), 1, "one panicked");
    assert_eq!(given.iter().filter(|asked| matches!(asked, Ok(Err(_)))).count(), 1, "one was told");
}
