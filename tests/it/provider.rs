//! A provider over real connections, with the faults that real ones have.

use crate::kit::{call, eventually, question, streamed};
use futures_util::StreamExt as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir::chat::{Event, Form, Request, fold};
use weir::secret::Secret;
use weir::upstream::provider::{Config, Provider, ProviderKind};
use weir::upstream::{Error, Kind, Opened, Upstream};

/// What the other side does with a connection once it has read a request.
#[derive(Clone)]
enum Play {
    /// Writes these pieces, each on its own, and closes.
    Write(Vec<Vec<u8>>),
    /// Writes the first, and then the second every 100 ms.
    WriteAndRepeat(Vec<u8>, Vec<u8>),
    /// Writes this, and then nothing.
    WriteAndHang(Vec<u8>),
    /// Writes this, and then resets the connection.
    WriteAndReset(Vec<u8>),
}

struct Peer {
    address: SocketAddr,
    /// How many connections are open, after a request was read.
    open: Arc<AtomicUsize>,
    seen: Arc<std::sync::Mutex<String>>,
}

async fn peer(play: Play) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (open, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(String::new())));
    let (count, note) = (Arc::clone(&open), Arc::clone(&seen));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (play, count, note) = (play.clone(), Arc::clone(&count), Arc::clone(&note));
            tokio::spawn(async move {
                let mut stream = stream;
                *note.lock().unwrap() = read_request(&mut stream).await;
                count.fetch_add(1, Ordering::SeqCst);
                act(stream, play).await;
                count.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    Peer { address, open, seen }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.ends_with(b"}") {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8(seen).unwrap()
}

async fn act(mut stream: TcpStream, play: Play) {
    match play {
        Play::Write(pieces) => {
            for piece in pieces {
                let _ = stream.write_all(&piece).await;
                let _ = stream.flush().await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        Play::WriteAndRepeat(first, then) => {
            let _ = stream.write_all(&first).await;
            while stream.write_all(&then).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Play::WriteAndHang(bytes) => {
            let _ = stream.write_all(&bytes).await;
            // Until the other side closes.
            let _ = stream.read(&mut [0; 16]).await;
        }
        Play::WriteAndReset(bytes) => {
            let _ = stream.write_all(&bytes).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = stream.set_zero_linger();
        }
    }
}

fn config(address: SocketAddr) -> Config {
    Config {
        preset: "x",
        protocol: weir::chat::Protocol::OpenAiChat,
        model_names: vec![],
        include_usage: true,
        context_windows: Vec::new(),
        max_tokens: Vec::new(),
        rotation: weir::upstream::chain::Rotation::default(),
        profiles: Vec::new(),
        needs_key: false,
        name: "primary".into(),
        kind: ProviderKind::OpenAi,
        base_url: format!("http://{address}/v1/"),
        api_key: Some(Secret::new("sk-secret")),
        models: vec!["*".into()],
        headers: vec![("x-extra".into(), Secret::new("yes"))],
        connect_timeout: Duration::from_mins(1),
        first_token_timeout: Duration::from_mins(1),
        idle_timeout: Duration::from_mins(1),
        reply_timeout: Duration::from_mins(1),
        limits: weir::upstream::queue::Limits::default(),
        price: None,
        listed: None,
    }
}

async fn open(play: Play, request: &Request) -> Result<Opened, Error> {
    open_with(play, request, |_| ()).await
}

/// The same, with limits of its own.
async fn open_with(play: Play, request: &Request, change: impl FnOnce(&mut Config)) -> Result<Opened, Error> {
    let mut config = config(peer(play).await.address);
    change(&mut config);
    Provider::new(config).unwrap().open(request, &call()).await
}

/// For those who hang; whoever is only slow, on a machine that is busy with other things, has time enough.
fn impatient(config: &mut Config) {
    config.first_token_timeout = Duration::from_millis(400);
    config.idle_timeout = Duration::from_millis(300);
}

/// All events, and the error at the end if there is one.
async fn events(mut opened: Opened) -> (Vec<Event>, Option<Error>) {
    let mut events = Vec::new();
    while let Some(chunk) = opened.chunks.next().await {
        match chunk {
            Ok(chunk) => events.extend(chunk.events),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

fn head(status: &str, content_type: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\nconnection: close\r\n")
}

fn whole(status: &str, extra: &str, body: &str) -> Play {
    let head = head(status, "application/json");
    Play::Write(vec![format!("{head}content-length: {}\r\n{extra}\r\n{body}", body.len()).into_bytes()])
}

fn stream_head() -> Vec<u8> {
    format!("{}\r\n", head("200 OK", "text/event-stream; charset=utf-8")).into_bytes()
}

const REPLY: &str = r#"{"id":"c1","object":"chat.completion","created":7,"model":"m","future":{"kept":1},"choices":[{"index":0,"message":{"role":"assistant","content":"Grüße"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

const STREAM: &str = "data: {\"id\":\"c1\",\"created\":7,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Grü\"}}]}\r\n\r\n: keep-alive\n\ndata:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ße\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

#[tokio::test]
async fn a_whole_reply_is_understood_and_its_bytes_are_kept() {
    let mut opened = open(whole("200 OK", "", REPLY), &question("q")).await.unwrap();
    let chunk = opened.chunks.next().await.unwrap().unwrap();
    let raw = chunk.raw.unwrap();
    assert_eq!((raw.form, &raw.bytes[..]), (Form::Whole, REPLY.as_bytes()));
    assert!(chunk.events.contains(&Event::Opaque { field: "future".into() }));
    assert!(chunk.events.contains(&Event::Text { choice: 0, text: "Grüße".into() }));
    assert!(opened.chunks.next().await.is_none());
}

#[tokio::test]
async fn the_request_carries_key_headers_and_body() {
    let peer = peer(whole("200 OK", "", REPLY)).await;
    let mut request = question("q");
    request.extra.insert("future".into(), serde_json::json!([1]));
    Provider::new(config(peer.address)).unwrap().open(&request, &call()).await.unwrap();
    let seen = peer.seen.lock().unwrap().clone();
    assert!(seen.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{seen}");
    for part in
        ["authorization: Bearer sk-secret\r\n", "x-extra: yes\r\n", "content-type: application/json\r\n"]
    {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
    let body: serde_json::Value = serde_json::from_str(seen.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"model":"m","messages":[{"role":"user","content":"q"}],"future":[1]})
    );
}

#[tokio::test]
async fn a_stream_is_understood_however_it_is_split_and_without_done() {
    for done in ["data: [DONE]\n\n", ""] {
        for size in [1, 7, 1000] {
            let text = format!("{STREAM}{done}");
            let pieces =
                std::iter::once(stream_head()).chain(text.as_bytes().chunks(size).map(<[u8]>::to_vec));
            let mut pieces: Vec<Vec<u8>> = pieces.collect();
            // One byte at a time takes too long with a pause after each: the first 40 will do.
            let rest = pieces.split_off(pieces.len().min(40)).concat();
            pieces.push(rest);
            let (events, error) = events(open(Play::Write(pieces), &streamed("q")).await.unwrap()).await;
            assert!(error.is_none(), "{error:?}");
            let reply = fold(&events).unwrap();
            assert_eq!((reply.id.as_str(), reply.choices[0].said()), ("c1", "Grüße".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_after_its_beginning_is_cut() {
    let half = [stream_head(), STREAM.as_bytes()[..STREAM.len() / 2].to_vec()].concat();
    for play in [Play::Write(vec![half.clone()]), Play::WriteAndReset(half.clone())] {
        let (events, error) = events(open(play, &streamed("q")).await.unwrap()).await;
        assert_eq!(error.unwrap().kind, Kind::Cut);
        assert!(!events.contains(&Event::End));
    }
    let briefly = |config: &mut Config| config.idle_timeout = Duration::from_millis(300);
    let opened = open_with(Play::WriteAndHang(half), &streamed("q"), briefly).await.unwrap();
    let (_, error) = events(opened).await;
    assert_eq!(error.unwrap().kind, Kind::Timeout);
}

#[tokio::test]
async fn an_error_in_the_stream_is_told_as_the_provider_tells_it_but_for_keys() {
    let cases = [
        (r#"{"message":"key sk-secret is wrong"}"#, Kind::Cut, None, "key *** is wrong"),
        (r#"{"message":"busy","type":"overloaded_error"}"#, Kind::Overloaded, None, "busy"),
        (r#"{"message":"slow down","code":429}"#, Kind::RateLimit, Some(429), "slow down"),
    ];
    for (told, kind, status, message) in cases {
        let text = format!("{STREAM}data: {{\"error\":{told}}}\n\n");
        let play = Play::Write(vec![stream_head(), text.into_bytes()]);
        let (_, error) = events(open(play, &streamed("q")).await.unwrap()).await;
        let error = error.unwrap();
        assert_eq!((error.kind, error.status, error.message.as_str()), (kind, status, message));
    }
}

#[tokio::test]
async fn before_the_first_chunk_every_fault_can_be_failed_over() {
    let error_body = r#"{"error":{"message":"no","type":"t","code":"insufficient_quota"}}"#;
    let cases = [
        (whole("429 Too Many", "retry-after: 7\r\n", "{}"), Kind::RateLimit),
        (whole("429 Too Many", "", error_body), Kind::Billing),
        (whole("500 Oops", "", "<html>"), Kind::Server),
        (whole("401 Who", "", "{}"), Kind::Auth),
        (whole("302 Found", "location: http://127.0.0.1:9/\r\n", ""), Kind::BadResponse),
        (whole("200 OK", "", "not json"), Kind::BadResponse),
        (Play::Write(vec![stream_head()]), Kind::BadResponse),
        (Play::Write(vec![stream_head(), b"data: {broken\n\n".to_vec()]), Kind::BadResponse),
        (Play::WriteAndHang(stream_head()), Kind::Timeout),
        (Play::WriteAndHang(Vec::new()), Kind::Timeout),
        (Play::WriteAndReset(Vec::new()), Kind::Connection),
    ];
    for (play, kind) in cases {
        let limits: fn(&mut Config) = if kind == Kind::Timeout { impatient } else { |_| () };
        let error = open_with(play, &streamed("q"), limits).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.kind.worth_failing_over(), "{error}");
        assert_eq!(error.retry_after, (kind == Kind::RateLimit).then_some(Duration::from_secs(7)));
        assert!(!error.to_string().contains("sk-secret"), "{error}");
    }
}

/// Silence is what is counted, up to a limit.
#[tokio::test]
async fn signs_of_life_are_waited_for_but_not_for_ever() {
    let alive = b": thinking\n\n".to_vec();
    let began = std::time::Instant::now();
    let play = Play::WriteAndRepeat(stream_head(), alive.clone());
    let (silence, all) = (Duration::from_secs(3), Duration::from_secs(4));
    let limits = |config: &mut Config| (config.first_token_timeout, config.reply_timeout) = (silence, all);
    let error = open_with(play, &streamed("q"), limits).await.unwrap_err();
    assert_eq!(error.kind, Kind::Timeout);
    assert!(began.elapsed() >= all, "longer than a silence may be");
    let stuck = format!("{}content-length: 9999\r\n\r\n{{", head("200 OK", "application/json"));
    let began = std::time::Instant::now();
    assert!(open_with(Play::WriteAndHang(stuck.into_bytes()), &question("q"), impatient).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(30), "a body that has begun must go on");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_a_connection_fault() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Provider::new(config(address)).unwrap().open(&question("q"), &call()).await.unwrap_err();
    assert_eq!(error.to_string(), "primary: could not connect");
    assert_eq!(error.kind, Kind::Connection);
}

#[tokio::test]
async fn dropping_the_answer_closes_the_connection() {
    let half = [stream_head(), STREAM.as_bytes()[..STREAM.len() / 2].to_vec()].concat();
    let peer = peer(Play::WriteAndHang(half)).await;
    let opened = Provider::new(config(peer.address)).unwrap().open(&streamed("q"), &call()).await.unwrap();
    assert_eq!(peer.open.load(Ordering::SeqCst), 1);
    drop(opened);
    eventually("the connection is closed", || peer.open.load(Ordering::SeqCst) == 0).await;
}

#[test]
fn a_header_that_http_does_not_allow_is_named_without_its_value() {
    let mut config = config(SocketAddr::from(([127, 0, 0, 1], 9)));
    config.headers.push(("x-bad".into(), Secret::new("line\nbreak")));
    let error = Provider::new(config).err().unwrap().to_string();
    assert_eq!(error, "upstream \"primary\": the header \"x-bad\" is not valid");
}

/// What a provider of `protocol` is sent for `body`, which came in that protocol, and what stayed behind.
async fn sent_home(kind: ProviderKind, body: &serde_json::Value) -> (serde_json::Value, Vec<String>) {
    let protocol = kind.protocol();
    let reply = crate::wire::Case::of(protocol, "text").unwrap().read("response.json").unwrap();
    let peer = peer(whole("200 OK", "", std::str::from_utf8(&reply).unwrap())).await;
    let target = crate::wire::target(protocol, false);
    let request = weir::wire::decode_request(protocol, &body.to_string().into(), &target).unwrap();
    let provider = Provider::new(Config { kind, protocol, ..config(peer.address) }).unwrap();
    let opened = provider.open(&request, &call()).await.unwrap();
    let seen = peer.seen.lock().unwrap().clone();
    (serde_json::from_str(seen.split("\r\n\r\n").nth(1).unwrap()).unwrap(), opened.dropped)
}

#[tokio::test]
async fn the_seals_of_other_providers_stay_behind_and_nothing_else_does() {
    let own = serde_json::json!({ "type": "thinking", "thinking": "own", "signature": "ErUB" });
    let call = serde_json::json!({ "type": "tool_use", "id": "c", "name": "f", "input": {} });
    let mut body = serde_json::json!({
        "model": "m", "max_tokens": 9, "future": { "kept": 1 },
        "messages": [
            { "role": "user", "content": "q" },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "weir:gemini:c2ln" },
                { "type": "thinking", "thinking": "hm", "signature": "" },
                own, call,
                { "type": "redacted_thinking", "data": "seal:weir:gemini:c2ln" },
            ] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c", "content": "1" }] },
        ],
    });
    let (sent, dropped) = sent_home(ProviderKind::Anthropic, &body).await;
    assert_eq!(dropped, ["messages[1].reasoning", "messages[1].reasoning", "messages[1].signature"]);
    body["messages"][1]["content"] = serde_json::json!([own, call]);
    assert_eq!(sent, body);
    assert_eq!(sent_home(ProviderKind::Anthropic, &body).await, (sent, vec![]));
    // Thinking is refused where the model waits for tools that it called without a thought.
    body["messages"][1]["content"] = serde_json::json!([
        { "type": "thinking", "thinking": "hm", "signature": "weir:gemini:c2ln" }, call,
    ]);
    body["thinking"] = serde_json::json!({ "type": "enabled", "budget_tokens": 1024 });
    let (sent, dropped) = sent_home(ProviderKind::Anthropic, &body).await;
    assert_eq!(sent["thinking"], serde_json::Value::Null);
    assert_eq!(dropped, ["messages[1].reasoning", "thinking"]);

    // "weir:anthropic:sig", as Gemini's clients are shown it.
    let foreign = "d2VpcjphbnRocm9waWM6c2ln";
    let contents = |seal: &str| {
        serde_json::json!([
            { "role": "user", "parts": [{ "text": "q" }] },
            { "role": "model", "parts": [{ "text": "a", "thoughtSignature": seal }] },
            { "role": "user", "parts": [{ "text": "q" }] },
        ])
    };
    let body = serde_json::json!({ "contents": contents(foreign), "labels": { "kept": "1" } });
    let (sent, dropped) = sent_home(ProviderKind::Gemini, &body).await;
    assert_eq!(sent["contents"][1]["parts"], serde_json::json!([{ "text": "a" }]));
    assert_eq!(sent["labels"], body["labels"]);
    assert_eq!(dropped, ["messages[1].signature"]);
    let body = serde_json::json!({ "contents": contents("c2ln") });
    assert_eq!(sent_home(ProviderKind::Gemini, &body).await, (body, vec![]));
}

/// What a provider whose models are capped is sent for `request`, and what is told of it.
async fn capped(change: impl FnOnce(&mut Config), request: &Request) -> (serde_json::Value, Option<String>) {
    let peer = peer(whole("200 OK", "", REPLY)).await;
    let mut config = config(peer.address);
    config.max_tokens = vec![("small*".into(), 100), ("m".into(), 50)];
    change(&mut config);
    let opened = Provider::new(config).unwrap().open(request, &call()).await.unwrap();
    let told =
        opened.headers.into_iter().find(|(name, _)| name == "x-weir-max-tokens").map(|(_, value)| value);
    let seen = peer.seen.lock().unwrap().clone();
    (serde_json::from_str(seen.split("\r\n\r\n").nth(1).unwrap()).unwrap(), told)
}

fn received(protocol: weir::chat::Protocol, body: &str) -> Request {
    weir::wire::decode_request(protocol, &body.to_owned().into(), &weir::wire::Target::default()).unwrap()
}

#[tokio::test]
async fn an_answer_is_let_be_so_long_and_no_longer_whatever_is_asked() {
    use weir::chat::Protocol::{Anthropic, OpenAiChat};
    let chat = |fields: &str| {
        received(
            OpenAiChat,
            &format!(r#"{{"model":"m",{fields}"messages":[{{"role":"user","content":"q"}}],"x":1.0}}"#),
        )
    };
    let cap = Some("50".to_owned());
    for (fields, name, limit, told) in [
        (r#""max_tokens":4000,"#, "max_tokens", 50, cap.clone()),
        (r#""max_completion_tokens":4000,"#, "max_completion_tokens", 50, cap.clone()),
        (r#""max_tokens":20,"#, "max_tokens", 20, None),
        // OpenAI's own name for it, where the client has none.
        ("", "max_completion_tokens", 50, cap.clone()),
    ] {
        let (body, header) = capped(|_| (), &chat(fields)).await;
        assert_eq!((&body[name], header), (&limit.into(), told), "{fields} {body}");
        assert_eq!(body["x"], 1.0, "the rest goes out as it came: {body}");
    }
    let generic = |config: &mut Config| config.kind = ProviderKind::Generic;
    let (body, _) = capped(generic, &chat("")).await;
    assert!(body["max_tokens"] == 50 && body["max_completion_tokens"].is_null(), "{body}");
    // In other words.
    let claude = r#"{"model":"m","max_tokens":4000,"messages":[{"role":"user","content":"q"}]}"#;
    let (body, told) = capped(|_| (), &received(Anthropic, claude)).await;
    assert_eq!((&body["max_completion_tokens"], told), (&50.into(), cap), "{body}");
    // Another model.
    let mut other = chat("");
    other.model = "large".into();
    assert!(capped(|_| (), &other).await.1.is_none());
}

#[tokio::test]
async fn a_provider_that_says_that_nothing_is_left_is_heard_with_its_answer() {
    let opened = async |headers: &str| open(whole("200 OK", headers, REPLY), &question("q")).await.unwrap();
    let spent = "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1.5s\r\n";
    assert_eq!(opened(spent).await.load.full_for, Some(Duration::from_millis(1500)));
    let some_left = "x-ratelimit-remaining-requests: 1\r\nx-ratelimit-reset-requests: 1.5s\r\n";
    assert_eq!(opened(some_left).await.load.full_for, None);
    assert_eq!(opened("").await.load.full_for, None);
}
