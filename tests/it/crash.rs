//! Killed in the middle of many writes, the sidecar still knows what it acknowledged before the last flush window.
//!
//! The mock numbers its answers, so that an answer from before the kill cannot be mistaken for one asked again.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

const ROUNDS: usize = 3;
const WRITES: usize = 500;
/// Between two writes; with the mock's thinking time about thirty are on their way at any moment, and some are still
/// to come at the kill.
const PACE: Duration = Duration::from_millis(10);
const THINKING: Duration = Duration::from_millis(300);
/// Written longer ago than this, an answer is on disk: many times the longest time between a write and its flush, as
/// the machine may be busy.
const FLUSH_WINDOW: Duration = Duration::from_secs(2);
/// The kill comes when this many answers are older than that, and more are on their way.
const SETTLED: usize = 200;
const READY_DEADLINE: Duration = Duration::from_mins(2);
const SETTLED_DEADLINE: Duration = Duration::from_mins(2);
/// More than the store's, so that it is heard what the sidecar does then.
const REQUEST_DEADLINE: Duration = Duration::from_mins(3);
const START_ATTEMPTS: usize = 3;
const CHECKS_AT_ONCE: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_the_last_flush_window_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = start_mock().await;
    let client = client();

    let mut sidecar = Sidecar::start(folder.path(), upstream, &client).await;
    for round in 0..ROUNDS {
        let (asked, settled) = write_and_kill(&mut sidecar, &client, round).await;

        sidecar = Sidecar::start(folder.path(), upstream, &client).await;
        let log = sidecar.log();
        assert!(log.to_lowercase().contains("recover"), "start-up should say what it recovered:\n{log}");

        let checked = check_all(&sidecar, &client, &asked, settled).await;
        assert!(
            checked >= SETTLED,
            "round {round} checked only {checked} answers older than the flush window"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_what_is_kept_is_within_its_bytes() {
    const ROOM: u64 = 1 << 20;
    /// More than there is room for.
    const ASKED: usize = 300;
    /// So many are acknowledged some time before the kill, more than there is room for, and so many until the kill.
    const EARLY: usize = 150;
    const ENOUGH: usize = 240;
    let folder = tempfile::tempdir().unwrap();
    let upstream = start_mock().await;
    let client = client();

    let mut sidecar = Sidecar::start_with(folder.path(), upstream, &client, "max_mb = 1").await;
    for round in 0..2 {
        let questions: Vec<String> = (0..ASKED)
            .map(|nth| format!("round {round} item {nth} {}", incompressible(&format!("{round} {nth}"))))
            .collect();
        let url = sidecar.url.clone();
        let asked = stream::iter(&questions).map(|question| ask(&client, &url, question));
        let mut acknowledged = asked.buffer_unordered(CHECKS_AT_ONCE);
        assert_eq!(acknowledged.by_ref().take(EARLY).count().await, EARLY);
        sidecar.until("weir_store_bytes", ROOM / 2, &client).await;
        sleep(FLUSH_WINDOW).await;
        assert_eq!(acknowledged.by_ref().take(ENOUGH - EARLY).count().await, ENOUGH - EARLY);
        sidecar.kill();

        sidecar = Sidecar::start_with(folder.path(), upstream, &client, "max_mb = 1").await;
        let stats = client.get(format!("{}/weir/cache/stats", sidecar.url)).send().await.unwrap();
        let stats: Value = serde_json::from_slice(&stats.bytes().await.unwrap()).unwrap();
        let (found, counted) = (stats["bytes"].as_u64().unwrap(), stats["store"]["bytes"].as_u64().unwrap());
        assert!(found > ROOM / 2, "what was written before the flush is there: {stats}");
        // A few age keys may have lost their entries; these are counted until they are met.
        assert!(found <= counted && counted <= ROOM, "{stats}");
        let metrics = client.get(format!("{}/metrics", sidecar.url)).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        for name in ["weir_store_entries ", "weir_store_bytes ", "weir_store_evicted_total "] {
            assert!(metrics.contains(name), "{name} is not in\n{metrics}");
        }
    }
}

/// Some ten thousand letters that no compression makes less than half of.
fn incompressible(seed: &str) -> String {
    let digest = |nth| Sha256::digest(format!("{seed} {nth}"));
    (0..160).flat_map(|nth| digest(nth).into_iter().map(|byte| format!("{byte:02x}"))).collect()
}

/// A question, and what the sidecar answered before it was killed, if it still could.
struct Asked {
    question: String,
    acknowledged: Option<Acknowledged>,
}

struct Acknowledged {
    content: String,
    at: Instant,
}

/// Asks many questions at once and kills the sidecar while the later ones are still on their way. Gives the moment
/// before which all answers were written, and longer ago than the flush window.
async fn write_and_kill(
    sidecar: &mut Sidecar,
    client: &reqwest::Client,
    round: usize,
) -> (Vec<Asked>, Instant) {
    let (sent, acknowledged) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut writers = JoinSet::new();
    for nth in 0..WRITES {
        let (client, url) = (client.clone(), sidecar.url.clone());
        let (sent, acknowledged) = (Arc::clone(&sent), Arc::clone(&acknowledged));
        writers.spawn(async move {
            sleep(PACE * u32::try_from(nth).unwrap()).await;
            let question = format!("round {round} item {nth}: what is {} plus {round}?", nth * 7919);
            sent.fetch_add(1, Ordering::Relaxed);
            let reply = ask(&client, &url, &question).await;
            let at = Instant::now();
            acknowledged.fetch_add(usize::from(reply.is_some()), Ordering::Relaxed);
            Asked { question, acknowledged: reply.map(|reply| Acknowledged { content: reply.content, at }) }
        });
    }

    let begun = Instant::now();
    while acknowledged.load(Ordering::Relaxed) < SETTLED {
        assert!(
            begun.elapsed() < SETTLED_DEADLINE,
            "too few answers in {SETTLED_DEADLINE:?}:\n{}",
            sidecar.log()
        );
        sleep(PACE).await;
    }
    let settled = Instant::now();
    // Answers are written one after the other, behind what is said; those of the rounds before came first.
    let written = WRITES * round + sent.load(Ordering::Relaxed);
    sidecar.until("weir_store_entries", written as u64, client).await;
    sleep(FLUSH_WINDOW).await;
    sidecar.kill();
    (writers.join_all().await, settled)
}

/// Asks everything again; gives how many of the answers had to be there.
async fn check_all(sidecar: &Sidecar, client: &reqwest::Client, asked: &[Asked], settled: Instant) -> usize {
    let checks = stream::iter(asked).map(|Asked { question, acknowledged }| async move {
        let before = acknowledged.as_ref();
        let is_settled = before.is_some_and(|before| before.at <= settled);
        check(sidecar, client, question, before, is_settled).await;
        is_settled
    });
    checks.buffer_unordered(CHECKS_AT_ONCE).filter(|is_settled| ready(*is_settled)).count().await
}

async fn check(
    sidecar: &Sidecar,
    client: &reqwest::Client,
    question: &str,
    before: Option<&Acknowledged>,
    is_settled: bool,
) {
    let again = ask(client, &sidecar.url, question).await.expect("the restarted sidecar answers");
    assert!(again.content.starts_with(question), "{question:?} was answered with {:?}", again.content);
    assert!(
        again.source == "exact" || !is_settled,
        "lost: {question:?} came from {:?}, {}",
        again.source,
        again.told
    );
    if let ("exact", Some(before)) = (again.source.as_str(), before) {
        assert_eq!(again.content, before.content, "another answer to {question:?} than before the kill");
    }
}

struct Reply {
    source: String,
    /// What is told of the cache: why there was no answer in it.
    told: String,
    content: String,
}

/// `None` when no whole answer came: the sidecar was killed meanwhile.
async fn ask(client: &reqwest::Client, url: &str, question: &str) -> Option<Reply> {
    let body = json!({
        "model": "m", "temperature": 0, "messages": [{ "role": "user", "content": question }],
    });
    let request =
        client.post(format!("{url}/v1/chat/completions")).header("content-type", "application/json");
    let reply = request.body(body.to_string()).send().await.ok()?;
    assert_eq!(reply.status(), 200, "{question:?} should be answered");
    let header = |name: &str| Some(reply.headers().get(name)?.to_str().ok()?.to_owned());
    let (source, told) = (header("x-weir-source")?, header("cache-status")?);
    let completion: Value = serde_json::from_slice(&reply.bytes().await.ok()?).ok()?;
    let content = completion["choices"][0]["message"]["content"].as_str()?.to_owned();
    Some(Reply { source, told, content })
}

fn client() -> reqwest::Client {
    // Building a client asks for one, although nothing here is encrypted; another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(REQUEST_DEADLINE).build().unwrap()
}

/// An upstream that thinks a while and answers with the question and a number of its own.
async fn start_mock() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/v1/chat/completions", post(complete));
    let served = axum::serve(listener, routes.with_state(Arc::new(AtomicUsize::new(0))));
    tokio::spawn(served.into_future());
    address
}

async fn complete(
    State(answered): State<Arc<AtomicUsize>>,
    body: String,
) -> ([(&'static str, &'static str); 1], String) {
    sleep(THINKING).await;
    let request: Value = serde_json::from_str(&body).unwrap();
    let question = request["messages"][0]["content"].as_str().unwrap();
    let content = format!("{question} Answer {}.", answered.fetch_add(1, Ordering::Relaxed));
    let message = json!({ "role": "assistant", "content": content });
    let completion = json!({
        "id": "chatcmpl-mock", "object": "chat.completion", "created": 1_700_000_000, "model": "m",
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30 },
    });
    ([("content-type", "application/json")], completion.to_string())
}

/// The built sidecar, running on `folder`.
struct Sidecar {
    child: Child,
    url: String,
    log: std::path::PathBuf,
}

impl Sidecar {
    async fn start(folder: &Path, upstream: SocketAddr, client: &reqwest::Client) -> Self {
        Self::start_with(folder, upstream, client, "").await
    }

    /// With something more to say about the store.
    async fn start_with(folder: &Path, upstream: SocketAddr, client: &reqwest::Client, store: &str) -> Self {
        for _ in 0..START_ATTEMPTS {
            let mut sidecar = Self::spawn(folder, upstream, store);
            if sidecar.becomes_ready(client).await {
                return sidecar;
            }
        }
        let log = fs::read_to_string(folder.join("weir.log")).unwrap_or_default();
        panic!("the sidecar did not start in {START_ATTEMPTS} attempts, its log:\n{log}");
    }

    fn spawn(folder: &Path, upstream: SocketAddr, store: &str) -> Self {
        let config = folder.join("weir.toml");
        fs::write(&config, config_for(upstream, store)).unwrap();
        let log = folder.join("weir.log");
        let log_file = File::create(&log).unwrap();
        // Free now; when something else takes it first, the next attempt asks for another.
        let address = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .env_clear()
            .env("HOME", folder)
            .current_dir(folder)
            .args(["serve", "--listen", &address.to_string(), "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(["--models-dir", concat!(env!("CARGO_MANIFEST_DIR"), "/models")])
            .stdout(log_file.try_clone().unwrap())
            .stderr(log_file)
            .spawn()
            .unwrap();
        Self { child, url: format!("http://{address}"), log }
    }

    /// False when it ended instead.
    async fn becomes_ready(&mut self, client: &reqwest::Client) -> bool {
        let begun = Instant::now();
        loop {
            let ready = client.get(format!("{}/readyz", self.url)).send().await;
            if ready.is_ok_and(|reply| reply.status() == 200) {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < READY_DEADLINE, "not ready in {READY_DEADLINE:?}:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until one of its metrics is at least so high.
    async fn until(&self, name: &str, least: u64, client: &reqwest::Client) {
        let begun = Instant::now();
        loop {
            let metrics = client.get(format!("{}/metrics", self.url)).send().await.unwrap();
            let metrics = metrics.text().await.unwrap();
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value: f64 = line.unwrap().parse().unwrap();
            if value >= least as f64 {
                return;
            }
            assert!(begun.elapsed() < SETTLED_DEADLINE, "{name} is {value} and not {least}:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// As `kill -9` does.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have been killed before; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_for(upstream: SocketAddr, store: &str) -> String {
    format!(
        r#"
[[upstream]]
name = "primary"
kind = "openai"
base_url = "http://{upstream}/v1"
api_key = "sk-test"
models = ["*"]
[chain]
order = ["primary"]
[cache]
semantic = "off"
[store]
deadline_ms = 60000
{store}
"#
    )
}
