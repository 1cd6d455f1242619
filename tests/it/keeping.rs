//! Looking after what is remembered, over HTTP and from the command line.

use crate::kit::Rig;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use weir::chat::Reply;
use weir::clock::Millis;
use weir::secret::Secret;
use weir::server::{self, Client, Component, Server, Status};
use weir::sim::{Manual, Scripted, Step};
use weir::store::memory::Memory;
use weir::store::{About, Entry, EntryId, Scope, Store};
use weir::telemetry::Metrics;
use weir::upstream::prices::Prices;
use weir::vector::UnitVector;

/// When the tests take place.
const NOW: u64 = 1_000_000;

/// A running sidecar over a store.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    store: Arc<Memory>,
    clock: Arc<Manual>,
    /// Dropped, it stops.
    _stop: oneshot::Sender<()>,
}

async fn start() -> Running {
    start_for(Vec::new(), []).await
}

pub(crate) async fn start_for(clients: Vec<Client>, steps: impl IntoIterator<Item = Step>) -> Running {
    let store = Arc::new(Memory::default());
    let rig = Rig::new(Arc::new(Scripted::new("primary", steps)), Arc::clone(&store) as Arc<dyn Store>);
    let server = Server {
        config: server::Config { clients, ..server::Config::default() },
        files: None,
        clock: Arc::clone(&rig.pipeline.clock),
        pipeline: rig.pipeline,
        metrics: Metrics::new(Prices::default()),
        status: Arc::new(status),
        models: Vec::new(),
        providers: server::Providers::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(server::serve(listener, Arc::new(server), async { drop(stopped.await) }));
    Running { address, store, clock: rig.clock, _stop: stop }
}

fn status() -> Status {
    let part = || Component::ready("there");
    let (encoder, local, store) = (part(), part(), part());
    Status {
        version: "0",
        started: 1,
        device: "none".into(),
        encoder,
        local,
        store,
        rules: 0,
        chain: Vec::new(),
        queues: std::collections::BTreeMap::new(),
        mirrored: None,
        webhooks: Vec::new(),
        journal: None,
    }
}

impl Running {
    async fn keep(&self, n: u8, change: impl FnOnce(&mut Entry)) -> String {
        let mut entry = entry(n);
        change(&mut entry);
        let id = entry.id.to_hex();
        self.store.put(&Scope([7; 32]), entry).await.unwrap();
        id
    }

    async fn has(&self, n: u8) -> bool {
        self.store.load(&Scope([7; 32]), &id(n)).await.unwrap().is_some()
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.ask_as(method, path, body, &[]).await
    }

    async fn ask_as(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let (status, text) = self.text(method, path, body, headers).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")))
    }

    async fn text(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let url = format!("http://{}/weir/cache{path}", self.address);
        let mut request = client().request(method.parse().unwrap(), url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn questions(&self, query: &str) -> Vec<String> {
        let (status, page) = self.ask("GET", query, "").await;
        assert_eq!(status, 200, "{page}");
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["question"].as_str().unwrap().into())
            .collect()
    }

    /// The command line, on this sidecar.
    pub(crate) async fn weir(&self, command: &str, arguments: &[&str]) -> Output {
        let url = format!("http://{}", self.address);
        let arguments = [command, "--url", &url].into_iter().chain(arguments.iter().copied());
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command.env_clear().args(arguments).output().await.unwrap()
    }
}

pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(2)).build().unwrap()
}

fn id(n: u8) -> EntryId {
    // No two begin alike.
    EntryId(std::array::from_fn(|at| if at == 0 { n } else { 0x5a }))
}

fn entry(n: u8) -> Entry {
    Entry {
        id: id(n),
        text: format!("question {n}"),
        vector: None,
        reply: Reply::text("a-model", format!("answer {n}")),
        upstream: "primary".into(),
        created: Millis(NOW - 1000 * u64::from(n)),
        expires: Some(Millis(NOW + 60_000)),
        stale_until: None,
        about: About {
            tenant: "default".into(),
            project: "live".into(),
            model: "a-model".into(),
            tags: Vec::new(),
        },
        pinned: false,
    }
}

fn unit(values: &[f32]) -> UnitVector {
    UnitVector::new(values.to_vec()).unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn answers_are_listed_the_newest_first_in_pages() {
    let running = start().await;
    for n in 1..=5 {
        running.keep(n, |_| ()).await;
    }
    let (status, page) = running.ask("GET", "?limit=2", "").await;
    assert_eq!(status, 200);
    let row = &page["entries"][0];
    assert_eq!((row["id"].as_str(), row["question"].as_str()), (Some(&*id(1).to_hex()), Some("question 1")));
    assert_eq!((row["age_seconds"].as_u64(), row["expires_in_seconds"].as_u64()), (Some(1), Some(60)));
    assert_eq!((row["project"].as_str(), row["hits"].as_u64()), (Some("live"), Some(0)));
    assert!(row["bytes"].as_u64().unwrap() > 0);
    let mut seen = vec![page["entries"].as_array().unwrap().len()];
    let mut next = page["next"].clone();
    while let Some(after) = next.as_str() {
        let (_, page) = running.ask("GET", &format!("?limit=2&after={after}"), "").await;
        seen.push(page["entries"].as_array().unwrap().len());
        next = page["next"].clone();
    }
    assert_eq!(seen, [2, 2, 1]);
}

#[tokio::test]
async fn filters_find_what_is_meant() {
    let running = start().await;
    running.keep(1, |entry| entry.about.project = "song".into()).await;
    running.keep(2, |entry| entry.about.tags = vec!["drums".into()]).await;
    running.keep(3, |entry| entry.about.model = "other".into()).await;
    running.keep(4, |entry| entry.text = "How LOUD is it?".into()).await;
    running.keep(5, |entry| entry.pinned = true).await;
    running.keep(60, |_| ()).await;
    let cases = [
        ("?project=song", &["question 1"][..]),
        ("?tag=drums", &["question 2"]),
        ("?model=other", &["question 3"]),
        ("?contains=how+loud", &["How LOUD is it?"]),
        ("?pinned=true", &["question 5"]),
        ("?older_than=30s", &["question 60"]),
        ("?younger_than=2", &["question 1"]),
        ("?tenant=somebody", &[]),
        ("?id=015a5a5a", &["question 1"]),
        ("?project=song&tag=drums", &[]),
    ];
    for (query, expected) in cases {
        assert_eq!(running.questions(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn what_is_alike_is_found_with_how_alike_it_is() {
    let running = start_for(Vec::new(), [Step::say("Paris"), Step::say("Bern")]).await;
    for question in ["what is the capital of france", "how many legs has a spider"] {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": question }] });
        let url = format!("http://{}/v1/chat/completions", running.address);
        assert_eq!(client().post(url).body(body.to_string()).send().await.unwrap().status(), 200);
    }
    // Written in the background; whoever looks for an id waits for that.
    running.ask("GET", "/00000000", "").await;
    let found = running.questions("?similar_to=what+is+the+capital+of+france").await;
    assert_eq!(found, ["what is the capital of france"]);
    // Both are compared in the one way of saying it.
    let found = running.questions("?similar_to=Hey,+what's+the+capital+of+france?&min_similarity=0.99").await;
    assert_eq!(found, ["what is the capital of france"]);
    let (_, page) = running.ask("GET", "?similar_to=the+capital+of+france&min_similarity=0.3", "").await;
    let similarity = page["entries"][0]["similarity"].as_f64().unwrap();
    assert!((0.3..1.0).contains(&similarity), "{similarity}");
    assert_eq!(running.questions("").await.len(), 2);
}

#[tokio::test]
async fn one_answer_is_shown_pinned_and_removed_by_the_beginning_of_its_id() {
    let running = start().await;
    running.keep(1, |_| ()).await;
    let (status, item) = running.ask("GET", "/015A5A5A", "").await;
    assert_eq!((status, item["answer"].as_str()), (200, Some("answer 1")));
    assert_eq!(item["reply"]["choices"][0]["finish"], "stop");

    let (_, row) = running.ask("POST", "/015a5a5a/pin", "").await;
    assert_eq!((row["pinned"].as_bool(), row["expires_in_seconds"].as_u64()), (Some(true), None));
    assert!(running.store.load(&Scope([7; 32]), &id(1)).await.unwrap().unwrap().pinned);
    let (_, row) = running.ask("POST", "/015a5a5a/unpin", "").await;
    assert_eq!((row["pinned"].as_bool(), row["expires_in_seconds"].as_u64()), (Some(false), Some(60)));

    assert_eq!(running.ask("DELETE", &format!("/{}", id(1).to_hex()), "").await.0, 200);
    assert!(!running.has(1).await);
}

#[tokio::test]
async fn ids_that_name_nothing_or_too_much_are_told() {
    let running = start().await;
    running.keep(1, |_| ()).await;
    running.keep(1, |entry| entry.id.0[31] = 0).await;
    let cases = [
        ("GET", "/015a5a5a", 409, "ambiguous_id"),
        ("DELETE", "/015a5a5a", 409, "ambiguous_id"),
        ("GET", "/025a5a5a", 404, "entry_not_found"),
        ("GET", "/015a", 400, "invalid_id"),
        ("POST", "/everything/pin", 400, "invalid_id"),
        ("GET", "?after=somewhere", 400, "invalid_request"),
        ("GET", "?colour=red", 400, "invalid_request"),
        ("GET", "?older_than=soon", 400, "invalid_request"),
        ("GET", "?min_similarity=0.5", 400, "invalid_request"),
    ];
    for (method, path, status, code) in cases {
        let (got, body) = running.ask(method, path, "").await;
        assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)), "{method} {path}");
    }
    assert_eq!(running.ask("GET", &format!("/{}", id(1).to_hex()), "").await.0, 200);
}

#[tokio::test]
async fn a_purge_tells_before_it_removes() {
    let running = start().await;
    for n in 1..=8 {
        running.keep(n, |entry| entry.pinned = n == 8).await;
    }
    running.keep(9, |entry| entry.about.project = "other".into()).await;
    let filter = json!({ "filter": { "project": "live" } });
    let (status, told) = running.ask("POST", "/purge", &filter.to_string()).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!((told["dry_run"].as_bool(), told["matched"].as_u64()), (Some(true), Some(7)));
    assert_eq!((told["removed"].as_u64(), told["spared"].as_u64()), (Some(0), Some(1)));
    assert_eq!(told["examples"].as_array().unwrap().len(), 5);
    assert_eq!(running.questions("").await.len(), 9, "nothing is removed yet");

    let filter = json!({ "filter": { "project": "live" }, "dry_run": false });
    let (_, told) = running.ask("POST", "/purge", &filter.to_string()).await;
    assert_eq!(told["removed"], 7);
    assert_eq!(running.questions("").await, ["question 8", "question 9"]);

    for body in ["", "{}", r#"{"dry_run": false}"#, r#"{"filter": {}, "dry_run": false}"#] {
        let (status, _) = running.ask("POST", "/purge", body).await;
        assert_eq!(status, 400, "everything goes only when asked for in so many words: {body}");
    }
    let (status, _) =
        running.ask("POST", "/purge", r#"{"fliter": {"project": "live"}, "dry_run": false}"#).await;
    assert_eq!(status, 400, "a misspelt filter is no filter");
    let (_, told) = running.ask("POST", "/purge", r#"{"all": true, "dry_run": false}"#).await;
    assert_eq!((told["removed"].as_u64(), told["spared"].as_u64()), (Some(1), Some(1)));
    let (_, told) = running.ask("POST", "/purge", r#"{"filter": {"pinned": true}, "dry_run": false}"#).await;
    assert_eq!(told["removed"], 1);
}

#[tokio::test]
async fn a_wrong_answer_goes_with_its_kin() {
    let running = start().await;
    running.keep(1, |entry| entry.vector = Some(unit(&[1.0, 0.0]))).await;
    // Nearly the same question; the same answer to another one; neither; both and pinned; both in another scope.
    running.keep(2, |entry| entry.vector = Some(unit(&[0.95, 0.2]))).await;
    running.keep(3, |entry| entry.reply = Reply::text("m", "answer 1")).await;
    running.keep(4, |entry| entry.vector = Some(unit(&[0.0, 1.0]))).await;
    running.keep(5, |entry| (entry.vector, entry.pinned) = (Some(unit(&[1.0, 0.0])), true)).await;
    let elsewhere =
        Entry { vector: Some(unit(&[1.0, 0.0])), reply: Reply::text("m", "answer 1"), ..entry(6) };
    running.store.put(&Scope([8; 32]), elsewhere).await.unwrap();
    let (status, told) = running.ask("POST", "/015a5a5a/wrong", "").await;
    assert_eq!(status, 200, "{told}");
    assert_eq!((told["removed"].as_u64(), told["spared"].as_u64()), (Some(3), Some(1)));
    assert_eq!(told["entries"][0]["question"], "question 1");
    assert_eq!(running.questions("").await, ["question 4", "question 5", "question 6"]);
    // Even one that is pinned, when it is the wrong one itself.
    assert_eq!(running.ask("POST", "/055a5a5a/wrong", "").await.1["removed"], 1);
}

#[tokio::test]
async fn what_is_exported_can_be_imported_elsewhere() {
    let (here, there) = (start().await, start().await);
    for n in 1..=3 {
        here.keep(n, |entry| (entry.pinned, entry.about.tags) = (n == 2, vec!["song".into()])).await;
    }
    let (status, file) = here.text("GET", "/export?tag=song", "", &[]).await;
    assert_eq!((status, file.lines().count()), (200, 4));
    assert_eq!(there.ask("POST", "/import", &file).await.1["imported"], 3);
    for n in 1..=3 {
        let (scope, id) = (Scope([7; 32]), id(n));
        let (here, there) = (here.store.load(&scope, &id), there.store.load(&scope, &id));
        assert_eq!(here.await.unwrap(), there.await.unwrap());
    }
    assert_eq!(there.ask("POST", "/import", &file).await.1["known"], 3, "nothing is overwritten");
    there.keep(1, |entry| entry.created = Millis(1)).await;
    let (_, told) = there.ask("POST", "/import", &file).await;
    assert_eq!((told["imported"].as_u64(), told["known"].as_u64()), (Some(1), Some(2)), "unless it is older");
}

#[tokio::test]
async fn vectors_travel_or_are_made_anew() {
    let here = start_for(Vec::new(), [Step::say("Paris")]).await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hey, what's the capital of france?" }] });
    let url = format!("http://{}/v1/chat/completions", here.address);
    client().post(url).body(body.to_string()).send().await.unwrap();
    here.ask("GET", "/00000000", "").await;
    let with = here.text("GET", "/export?vectors=true", "", &[]).await.1;
    let without = here.text("GET", "/export", "", &[]).await.1;
    assert!(with.contains("\"vector\":[") && !without.contains("\"vector\":["));
    let foreign = with.replacen("\"encoder\":\"", "\"encoder\":\"another ", 1);
    assert_ne!(foreign, with);
    for file in [with, without, foreign] {
        let there = start().await;
        assert_eq!(there.ask("POST", "/import", &file).await.1["imported"], 1);
        let found = there.questions("?similar_to=what+is+the+capital+of+france&min_similarity=0.99").await;
        assert_eq!(found.len(), 1, "{file}");
    }
    // One that no other words may find stays so.
    let running = start().await;
    running.keep(1, |_| ()).await;
    let file = running.text("GET", "/export", "", &[]).await.1;
    let there = start().await;
    there.ask("POST", "/import", &file).await;
    assert_eq!(there.store.load(&Scope([7; 32]), &id(1)).await.unwrap().unwrap().vector, None);
}

#[tokio::test]
async fn bad_lines_are_told_and_skipped() {
    let running = start().await;
    running.keep(1, |_| ()).await;
    let file = running.text("GET", "/export", "", &[]).await.1;
    let (head, good) = file.split_once('\n').unwrap();
    let good: Value = serde_json::from_str(good).unwrap();
    let with = |field: &str, value: Value| {
        let mut line = good.clone();
        line[field] = value;
        line["id"] = if field == "id" { line["id"].clone() } else { json!(id(9).to_hex()) };
        line.to_string()
    };
    let lines = [
        head.to_owned(),
        "{not json".to_owned(),
        with("id", json!("12")),
        with("scope", json!("zz")),
        with("question", json!("  ")),
        with("reply", json!({ "choices": [] })),
        with("vector", json!([0.0, 0.0])),
        with("created", json!(u64::MAX)),
        with("surprise", json!(1)),
        with("tags", json!(vec!["x"; 65])),
        with("project", json!("x".repeat(300))),
        String::new(),
        with("expires", json!(1)),
        with("question", json!("a good one")),
    ];
    let (status, told) = running.ask("POST", "/import", &lines.join("\n")).await;
    assert_eq!(status, 200, "{told}");
    let bad: Vec<u64> =
        told["bad_lines"].as_array().unwrap().iter().map(|bad| bad["line"].as_u64().unwrap()).collect();
    assert_eq!(bad, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11], "{told}");
    assert_eq!((told["imported"].as_u64(), told["expired"].as_u64()), (Some(1), Some(1)));

    let (_, told) = running.ask("POST", "/import", "an image\nof a cat\n").await;
    assert_eq!((told["bad"].as_u64(), told["bad_lines"][0]["line"].as_u64()), (Some(1), Some(1)));
    let newer = head.replace("\"version\":1", "\"version\":2");
    let (_, told) = running.ask("POST", "/import", &format!("{newer}\n{good}\n")).await;
    assert!(told["bad_lines"][0]["why"].as_str().unwrap().contains("version 2"), "{told}");
}

#[tokio::test]
async fn what_is_kept_is_counted_by_project() {
    let running = start().await;
    for n in 1..=3 {
        running.keep(n, |entry| entry.about.project = if n == 3 { "b" } else { "a" }.into()).await;
    }
    running.clock.advance(Duration::from_mins(2));
    running.keep(4, |entry| (entry.expires, entry.pinned) = (None, true)).await;
    let (status, stats) = running.ask("GET", "/stats", "").await;
    assert_eq!(status, 200);
    assert_eq!((stats["entries"].as_u64(), stats["pinned"].as_u64()), (Some(4), Some(1)));
    assert_eq!(stats["expired"], 3);
    let projects: Vec<_> = stats["projects"].as_array().unwrap().iter().collect();
    assert_eq!(projects.len(), 3);
    assert_eq!((projects[0]["project"].as_str(), projects[0]["entries"].as_u64()), (Some("a"), Some(2)));
    assert_eq!(stats["store"]["entries"], 4);
    assert_eq!(stats["bytes"], stats["store"]["bytes"]);
}

#[tokio::test]
async fn a_tenant_sees_and_touches_nothing_of_another() {
    let client = |name: &str| Client {
        name: name.into(),
        key: Secret::new(format!("key-{name}")),
        tenant: name.into(),
    };
    let running = start_for(vec![client("a"), client("b")], []).await;
    running.keep(1, |entry| entry.about.tenant = "a".into()).await;
    running.keep(2, |entry| entry.about.tenant = "b".into()).await;
    // Of the same scope, which cannot be, so that nothing but the tenant keeps them apart; and alike.
    let (a, b) = ([("authorization", "Bearer key-a")], [("authorization", "Bearer key-b")]);
    let mine = running.ask_as("GET", "", "", &a).await.1;
    assert_eq!(mine["entries"].as_array().unwrap().len(), 1);
    assert_eq!(mine["entries"][0]["question"], "question 1");
    let (_, none) = running.ask_as("GET", "?tenant=b", "", &a).await;
    assert_eq!(none["entries"], json!([]));
    for (method, action) in
        [("GET", ""), ("DELETE", ""), ("POST", "/pin"), ("POST", "/unpin"), ("POST", "/wrong")]
    {
        let path = format!("/{}{action}", id(2).to_hex());
        let (status, body) = running.ask_as(method, &path, "", &a).await;
        assert_eq!(
            (status, body["error"]["code"].as_str()),
            (404, Some("entry_not_found")),
            "{method} {action}"
        );
        assert_eq!(running.ask_as(method, &path, "", &[]).await.0, 401, "{method} {action}");
    }
    let (_, told) = running.ask_as("POST", "/purge", r#"{"all": true}"#, &a).await;
    assert_eq!(told["matched"], 1);
    let (_, stats) = running.ask_as("GET", "/stats", "", &a).await;
    assert_eq!((stats["entries"].as_u64(), stats.get("store")), (Some(1), None));
    let file = running.text("GET", "/export", "", &a).await.1;
    assert!(file.contains("question 1") && !file.contains("question 2"));
    let (status, body) = running.ask_as("POST", "/import", &file, &b).await;
    assert_eq!((status, body["error"]["code"].as_str()), (403, Some("shared_between_tenants")));
    for path in ["", "/stats", "/export"] {
        assert_eq!(running.ask_as("GET", path, "", &[("authorization", "Bearer key-c")]).await.0, 401);
    }
    let (_, told) = running.ask_as("POST", "/purge", r#"{"all": true, "dry_run": false}"#, &a).await;
    assert_eq!(told["removed"], 1);
    assert!(!running.has(1).await && running.has(2).await);
}

#[tokio::test]
async fn a_page_of_another_site_neither_reads_nor_changes() {
    let running = start().await;
    running.keep(1, |_| ()).await;
    let path = format!("/{}", id(1).to_hex());
    for headers in [
        [("origin", "http://evil.example")],
        [("sec-fetch-site", "cross-site")],
        [("origin", "null")],
        [("host", "evil.example")],
    ] {
        for (method, path) in
            [("GET", ""), ("GET", &*path), ("DELETE", &path), ("GET", "/export"), ("POST", "/purge")]
        {
            let (status, body) = running.ask_as(method, path, "{}", &headers).await;
            assert_eq!((status, body["error"]["code"].as_str()), (403, Some("cross_site")), "{headers:?}");
        }
    }
    assert!(running.has(1).await);
    // No state is changed by a GET.
    for action in ["/pin", "/unpin", "/wrong"] {
        assert_eq!(running.ask("GET", &format!("{path}{action}"), "").await.0, 405);
    }
}

#[tokio::test]
async fn a_pinned_answer_neither_expires_nor_is_replaced() {
    let running = start_for(Vec::new(), [Step::say("one"), Step::say("two"), Step::say("three")]).await;
    let ask = async |header: (&str, &str)| {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "which?" }] });
        let url = format!("http://{}/v1/chat/completions", running.address);
        let asked = client().post(url).body(body.to_string()).header(header.0, header.1);
        let body: Value = serde_json::from_str(&asked.send().await.unwrap().text().await.unwrap()).unwrap();
        body["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask(("x-nothing", "1")).await, "one");
    running.ask("GET", "/00000000", "").await;
    let (_, page) = running.ask("GET", "", "").await;
    let id = page["entries"][0]["id"].as_str().unwrap();
    running.ask("POST", &format!("/{id}/pin"), "").await;
    running.clock.advance(Duration::from_hours(24 * 400));
    assert_eq!(ask(("x-nothing", "1")).await, "one", "it does not expire");
    assert_eq!(ask(("cache-control", "no-cache")).await, "two");
    running.ask("GET", "/00000000", "").await;
    assert_eq!(ask(("x-nothing", "1")).await, "one", "a fresh answer does not take its place");
    assert_eq!(running.ask("GET", "", "").await.1["entries"][0]["hits"], 2);
}

#[tokio::test]
async fn the_command_line_does_it_all() {
    let running = start().await;
    for n in 1..=4 {
        running.keep(n, |_| ()).await;
    }
    let listed = stdout(&running.weir("cache", &["ls"]).await);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("ID            AGE  EXPIRES IN  HITS  SIZE"), "{listed}");
    assert!(lines[1].starts_with("015a5a5a5a5a  1s   1m          0 "), "{listed}");
    assert_eq!(lines.len(), 5);
    assert_eq!(stdout(&running.weir("cache", &["ls", "--limit", "2", "--json"]).await).lines().count(), 2);
    assert_eq!(
        stdout(&running.weir("cache", &["ls", "--contains", "nothing like it"]).await),
        "no answers\n"
    );

    let shown = stdout(&running.weir("cache", &["get", "015a5a5a"]).await);
    assert!(shown.ends_with("\nquestion 1\n\nanswer 1\n"), "{shown}");
    assert!(
        stdout(&running.weir("cache", &["pin", "015a5a5a"]).await)
            .starts_with("pinned 015a5a5a5a5a  question 1")
    );
    assert!(
        stdout(&running.weir("cache", &["unpin", "015a5a5a"]).await)
            .starts_with("unpinned 015a5a5a5a5a (expires in: 1m)")
    );

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answers.jsonl");
    let exported = running.weir("cache", &["export", "-o", file.to_str().unwrap()]).await;
    assert_eq!(stderr(&exported), "exported 4 answers\n");

    assert_eq!(
        stdout(&running.weir("cache", &["rm", "015a5a5a"]).await),
        "removed 015a5a5a5a5a  question 1\n"
    );
    let again = running.weir("cache", &["rm", "015a5a5a", "025a5a5a"]).await;
    assert!(!again.status.success() && stderr(&again).contains("no answer is kept under this id"));
    assert!(!running.has(2).await, "the others go all the same");
    assert!(stdout(&running.weir("cache", &["wrong", "035a5a5a"]).await).starts_with("removed 1 answer\n"));

    let imported = running.weir("cache", &["import", file.to_str().unwrap()]).await;
    assert_eq!(
        stdout(&imported),
        "imported 3 answers, 1 not newer than what is kept\n",
        "{}",
        stderr(&imported)
    );

    let told = stdout(&running.weir("cache", &["purge", "--project", "live"]).await);
    assert!(
        told.starts_with("would remove 4 answers (") && told.contains("); --yes removes them\n"),
        "{told}"
    );
    assert!(running.has(1).await);
    assert!(stdout(&running.weir("cache", &["stats"]).await).starts_with("4 answers, "));
    let told = stdout(&running.weir("cache", &["purge", "--project", "live", "--yes"]).await);
    assert!(told.starts_with("removed 4 answers ("), "{told}");
    let refused = running.weir("cache", &["purge", "--yes"]).await;
    assert!(!refused.status.success() && stderr(&refused).contains("name a filter"), "{}", stderr(&refused));
}

#[tokio::test]
async fn without_a_sidecar_the_command_line_says_how_to_start_one() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    let output =
        command.env_clear().args(["cache", "ls", "--url", "http://127.0.0.1:9"]).output().await.unwrap();
    assert!(!output.status.success());
    assert!(
        stderr(&output).contains("no sidecar answers at http://127.0.0.1:9; start one with `weir serve`")
    );
}
