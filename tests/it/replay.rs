//! A journal, written while a sidecar answers over HTTP; and what would have been, asked of it afterwards.

use crate::keeping::client;
use crate::kit::{Rig, patient, some_status};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use weir::cache::{self, Semantic, bound};
use weir::chat::{Message, Reply, Request, Usage, unfold};
use weir::clock::Clock;
use weir::embed::Embedder;
use weir::intent::Live;
use weir::journal::{Config, Content, Head, Journal, Keys, Reader};
use weir::lab::replay::{Interval, Recordings, Report, Setup};
use weir::lab::report::Run;
use weir::pipeline::{Checked, Learner, Note, Outcome};
use weir::secret::Secret;
use weir::server::{self, Server};
use weir::sim::WordEncoder;
use weir::store::Room;
use weir::store::memory::Memory;
use weir::telemetry::{Anchor, Metrics, scribe};
use weir::upstream::prices::{Price, Prices, Source, Table};
use weir::upstream::{Call, Error, Kind, Load, Opened, Origin, Upstream};

/// Says the same to the same question, however it is put; and fails where it is asked to.
struct Knowing;

#[async_trait]
impl Upstream for Knowing {
    fn name(&self) -> &'static str {
        "primary"
    }

    fn origin(&self, _: &Request) -> Origin {
        Origin::Provider
    }

    async fn open(&self, request: &Request, _: &Call) -> Result<Opened, Error> {
        let asked = request.question().map(Message::plain_text).unwrap_or_default();
        // Long enough for others to join, on a machine that is busy with other things.
        let millis = if asked.contains("Nauru") { 3000 } else { 3 };
        tokio::time::sleep(Duration::from_millis(millis)).await;
        if asked.contains("fail") {
            return Err(Error::new(Kind::Server, &"primary".into(), "it failed"));
        }
        let what = asked.to_lowercase();
        let country =
            what.split(|c: char| !c.is_alphanumeric()).rfind(|word| !word.is_empty()).unwrap_or("x");
        let mut reply =
            Reply::text("m", format!("The capital of {country} is a city. Mail {country}@example.com."));
        reply.usage = Some(Usage { input: 1_000, output: 500, ..Usage::default() });
        Ok(Opened {
            by: "primary".into(),
            model: request.model.as_str().into(),
            origin: Origin::Provider,
            failed: Vec::new(),
            dropped: Vec::new(),
            headers: Vec::new(),
            load: Load::default(),
            chunks: stream::iter([Ok(unfold(&reply).into())]).boxed(),
        })
    }
}

/// A sidecar that writes a journal.
pub(crate) struct Recording {
    pub(crate) folder: TempDir,
    pub(crate) journal: Journal,
    keys: Keys,
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
    metrics: Metrics,
    _stop: oneshot::Sender<()>,
}

pub(crate) fn config() -> cache::Config {
    let bound = bound::Config { check_share: 0.5, seed: Some(11), ..bound::Config::default() };
    cache::Config { bound, ..cache::Config::default() }
}

impl Recording {
    pub(crate) async fn start(cache: cache::Config, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_for(cache, change, Vec::new()).await
    }

    /// One that is for these clients only. It tells nobody of its journal unless that is enabled.
    pub(crate) async fn start_for(
        cache: cache::Config,
        change: impl FnOnce(&mut Config),
        clients: Vec<server::Client>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::new(Arc::new(Knowing), Arc::new(Memory::default())).remembering(cache);
        let clock = Arc::clone(&rig.clock) as Arc<dyn Clock>;
        let path = folder.path().join("journal");
        let mut config = Config { folder: path, salt: folder.path().join("salt"), ..Config::default() };
        change(&mut config);
        let anchor = Anchor::now(clock.as_ref());
        let (keys, told) = (config.keys.clone(), config.enabled);
        let known = vec![Secret::new("key-of-the-configuration")];
        let journal = Journal::open(config, known, Head::new(1, Some(11))).unwrap();
        let scribe = scribe(&journal, anchor);
        let (writes, notes) = (Arc::clone(&scribe.write), Arc::clone(&scribe.write));
        let learner = Learner::spawn(
            Arc::clone(&rig.pipeline.cache),
            rig.pipeline.embedder.clone(),
            Arc::clone(&rig.pipeline.upstream),
            Arc::new(move |checked: &Checked| notes(Note::Checked(Box::new(checked.clone())))),
        );
        rig.pipeline.learner = learner.taught_by(Arc::new(move |bound, learned| {
            learned.teach(bound);
            writes(Note::Learned(learned));
        }));
        rig.pipeline.scribe = Some(scribe);
        let metrics = Metrics::new(Prices::default());
        let counts = metrics.clone();
        rig.pipeline.observer = Arc::new(move |outcome: &Outcome| counts.record(outcome));
        let written = journal.clone();
        let status = some_status();
        let status = move || server::Status {
            journal: told
                .then(|| server::Written { folder: written.folder().to_owned(), counts: written.counts() }),
            ..status()
        };
        let server = Server {
            config: server::Config { clients, ..server::Config::default() },
            files: None,
            clock,
            pipeline: rig.pipeline,
            metrics: metrics.clone(),
            status: Arc::new(status),
            models: Vec::new(),
            providers: server::Providers::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server::serve(listener, Arc::new(server), async { drop(stopped.await) }));
        Self { folder, journal, keys, address, client: client(), metrics, _stop: stop }
    }

    async fn ask(&self, body: &Value, headers: &[(&str, &str)]) -> (u16, String) {
        let url = format!("http://{}/v1/chat/completions", self.address);
        let mut request = self.client.post(url).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let source = response.headers().get("x-weir-source").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, source.unwrap_or(text))
    }

    /// Asks all `questions`, some at the same time, and says who answered.
    pub(crate) async fn ask_all(&self, questions: &[String], at_once: usize) -> Vec<String> {
        let asked = questions.iter().map(|text| async move {
            let source = self.ask(&asking(text), &[]).await.1;
            // An answer is found in other words once it is written, a moment after it was given.
            tokio::time::sleep(Duration::from_millis(10)).await;
            source
        });
        stream::iter(asked).buffered(at_once).collect().await
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("journal")
    }

    async fn recordings(&self) -> Recordings {
        // What the last answers teach is written down, too.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.journal.close();
        assert_eq!(self.journal.counts().dropped + self.journal.counts().failed, 0);
        Recordings::open(&self.path(), &self.keys).unwrap()
    }
}

fn asking(text: &str) -> Value {
    json!({ "model": "m", "temperature": 0, "messages": [{ "role": "user", "content": text }] })
}

/// Questions that repeat, in the same words and in others.
pub(crate) fn questions(count: usize) -> Vec<String> {
    let countries = ["France", "Spain", "Italy", "Peru", "Chad", "Mali", "Oman", "Cuba", "Fiji", "Laos"];
    let ways = [
        "What is the capital of {}?",
        "what is the capital of {}",
        "Please, what is the capital of {}?",
        "Tell me the capital of {}",
        "What's the name of the capital of {}?",
        "Which city is the capital of {}?",
    ];
    // A small generator: the same order everywhere.
    let mut state = 7u32;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % bound
    };
    (0..count).map(|_| ways[below(ways.len())].replace("{}", countries[below(countries.len())])).collect()
}

fn setup(cache: cache::Config) -> Setup {
    let source = Source {
        fixed: Some(Price::flat(1.0, 2.0)),
        names: Vec::new(),
        listed_as: Vec::new(),
        table: Arc::new(Table::default()),
    };
    Setup {
        cache,
        rules: Live::default(),
        embedder: Some(Embedder::spawn(WordEncoder, patient()).unwrap()),
        room: Room { max_entries: 10_000, max_bytes: 1 << 30 },
        prices: Arc::new(Prices::new([("primary".into(), source)])),
    }
}

async fn replay(recordings: &Recordings, cache: cache::Config) -> Report {
    recordings.replay(setup(cache), |_| ()).await.unwrap()
}

#[tokio::test]
async fn a_run_replayed_as_it_was_gives_every_decision_again_and_twice_the_same_bytes() {
    let config = || cache::Config { bound: bound::Config { check_share: 0.0, ..config().bound }, ..config() };
    let recording = Recording::start(config(), |_| {}).await;
    let sources = recording.ask_all(&questions(300), 1).await;
    let recordings = recording.recordings().await;
    let report = replay(&recordings, config()).await;
    let shown = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!((report.decisions.same, report.decisions.changed), (300, 0), "{shown}");
    for lane in ["exact", "semantic", "upstream"] {
        let then = sources.iter().filter(|source| *source == lane).count() as u64;
        assert!(then > 0, "{lane} was never tried");
        assert_eq!(report.replayed.get(lane), Some(&then), "{lane}");
    }
    assert_eq!(serde_json::to_string_pretty(&replay(&recordings, config()).await).unwrap(), shown);
    // 1,000 tokens at a dollar and 500 at two for a million.
    let per_call = 0.002;
    let saved = &report.saved;
    assert!((saved.cost - saved.calls as f64 * per_call).abs() < 1e-9, "{shown}");
    assert!((saved.cost_without - 300.0 * per_call).abs() < 1e-9, "{shown}");
    assert_eq!((saved.unpriced, saved.input_tokens), (0, saved.calls * 1_000));
}

#[tokio::test]
async fn with_half_of_the_hits_checked_every_decision_is_the_same() {
    let recording = Recording::start(config(), |_| {}).await;
    recording.ask_all(&questions(300), 1).await;
    let recordings = recording.recordings().await;
    let report = replay(&recordings, config()).await;
    let shown = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!((report.decisions.same, report.decisions.changed), (300, 0), "{shown}");
    assert_eq!(serde_json::to_string_pretty(&replay(&recordings, config()).await).unwrap(), shown);
}

#[tokio::test]
async fn requests_that_overlap_are_replayed_as_they_overlapped() {
    let recording = Recording::start(config(), |_| {}).await;
    let mut asked = questions(100);
    // The same, at the same time: one is asked, the others join.
    asked.extend(std::iter::repeat_n("What is the capital of Nauru?".to_owned(), 8));
    recording.ask_all(&asked, 8).await;
    let report = replay(&recording.recordings().await, config()).await;
    let shown = serde_json::to_string_pretty(&report).unwrap();
    assert!(report.recorded.get("joined").is_some_and(|joined| *joined >= 3), "{shown}");
    // Two that come within the same moment may change places, and what is being written is not yet found.
    assert!(report.decisions.changed <= 8, "{shown}");
}

#[tokio::test]
async fn what_a_replay_predicts_of_a_setting_holds_what_a_live_run_with_it_gives() {
    let asked = questions(300);
    let recording = Recording::start(config(), |_| {}).await;
    recording.ask_all(&asked, 1).await;
    let recordings = recording.recordings().await;
    let with = |change: fn(&mut cache::Config)| {
        let mut config = config();
        change(&mut config);
        config
    };
    let settings = [
        with(|config| config.semantic = Semantic::Off),
        with(|config| config.min_similarity = 0.9),
        // A sweep.
        with(|config| config.bound.max_wrong = 0.002),
        with(|config| config.bound.max_wrong = 0.02),
        with(|config| config.bound.max_wrong = 0.1),
    ];
    for setting in settings {
        let predicted = replay(&recordings, setting.clone()).await;
        let live = Recording::start(setting.clone(), |_| {}).await;
        let sources = live.ask_all(&asked, 1).await;
        let all = asked.len() as u64;
        let holds = |what: &str, predicted: u64, live: u64| {
            // What was answered from memory then teaches less than a fresh answer: the two need not be equal.
            let Interval { least, most, .. } = Interval::share(predicted, all);
            let share = live as f64 / all as f64;
            assert!((least..=most).contains(&share), "{what}: {predicted}, and live {live}");
        };
        let live = |lane: &str| sources.iter().filter(|source| *source == lane).count() as u64;
        for lane in ["exact", "semantic", "upstream"] {
            holds(lane, predicted.replayed.get(lane).copied().unwrap_or_default(), live(lane));
        }
        holds("saved", predicted.saved.calls, all - live("upstream"));
    }
}

#[tokio::test]
async fn what_the_journal_does_not_know_is_said_and_not_invented() {
    let bound = bound::Config { check_share: 0.0, ..config().bound };
    let recording = Recording::start(cache::Config { bound, ..config() }, |_| {}).await;
    for text in ["What is the capital of Peru?", "What is the capital of Peru?", "please fail"] {
        recording.ask(&asking(text), &[]).await;
    }
    let recordings = recording.recordings().await;
    let off = cache::Config { exact: false, semantic: Semantic::Off, coalesce: false, ..config() };
    let report = replay(&recordings, off).await;
    assert_eq!((report.unknown.answers, report.unknown.hits), (1, 0), "{report:?}");
    assert_eq!(report.replayed["upstream"], 2);
    assert_eq!(report.replayed["failed"], 1);
    assert_eq!(report.recorded["failed"], 1);
    assert_eq!(report.changes[0].was, "exact");
    assert_eq!(report.changes[0].instead, None);
}

#[tokio::test]
async fn with_digests_only_nothing_can_be_asked_again_and_that_is_said() {
    let recording = Recording::start(config(), |config| config.content = Content::Hashes).await;
    recording.ask(&asking("What is the capital of Peru?"), &[]).await;
    let recordings = recording.recordings().await;
    let error = recordings.replay(setup(config()), |_| ()).await.unwrap_err();
    assert!(error.to_string().ends_with("written with journal.content = \"hashes\""), "{error}");
}

#[tokio::test]
async fn only_the_projects_that_are_wanted_are_written_down() {
    let recording = Recording::start(config(), |config| config.projects = vec!["music".into()]).await;
    for project in ["music", "secret"] {
        recording.ask(&asking("What is the capital of Peru?"), &[("x-weir-project", project)]).await;
    }
    let report = replay(&recording.recordings().await, config()).await;
    assert_eq!(report.journal.projects.into_iter().collect::<Vec<_>>(), [("music".to_owned(), 1)]);
}

/// Secrets of twenty kinds, put together here so that nobody's scanner takes them for real ones.
fn canaries() -> Vec<String> {
    let many = |piece: &str, times: usize| piece.repeat(times);
    vec![
        format!("sk-proj-{}", many("aB3", 12)),
        format!("sk-ant-api03-{}", many("xY9", 12)),
        format!("AKIA{}", "QWERTY1234567890"),
        format!("AIza{}", many("Sy1", 12)),
        format!("ya29.{}", many("a0B", 10)),
        format!("ghp_{}", many("a1B2", 9)),
        format!("github_pat_{}", many("c3D4", 12)),
        format!("glpat-{}", many("e5F6", 5)),
        format!("xoxb-{}", "123456789012-abcdEFGH"),
        format!("sk_live_{}", many("g7H8", 6)),
        format!("hf_{}", many("iJkL1", 7)),
        format!("npm_{}", many("mN2o", 9)),
        format!("SG.{}.{}", many("pQ3r", 5), many("sT4u", 10)),
        format!("987654321:{}", many("AAv5W", 7)),
        format!("eyJhbGciOiJIUzI1NiJ9.{}.{}", "eyJzdWIiOiI5In0", many("eFg6", 8)),
        "fedcba9876543210fedcba9876543210".to_owned(),
        "someone.private@example.org".to_owned(),
        "5500 0000 0000 0004".to_owned(),
        "DE89370400440532013000".to_owned(),
        "key-of-the-configuration".to_owned(),
    ]
}

fn holds(folder: &Path, secret: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    })
}

/// Keys as they are given.
pub(crate) fn keys(digits: &[char]) -> Keys {
    let text: Vec<String> = digits.iter().map(|digit| digit.to_string().repeat(64)).collect();
    Keys::parse(&text.join("\n")).unwrap()
}

#[tokio::test]
async fn secrets_are_in_no_journal_no_report_and_no_metric() {
    are_in_nothing(Keys::default()).await;
}

#[tokio::test]
async fn secrets_are_in_no_sealed_journal_either_be_it_opened_or_not() {
    are_in_nothing(keys(&['a'])).await;
}

async fn are_in_nothing(keys: Keys) {
    let recording = Recording::start(config(), |config| config.keys = keys.clone()).await;
    let canaries = canaries();
    for (nth, canary) in canaries.iter().enumerate() {
        let mut body = asking(&format!("Remember {canary} and tell me about number {nth}"));
        body["user"] = canary.as_str().into();
        body["metadata"] = json!({ "password": canary, canary.as_str(): 1 });
        let headers = [("user-agent", canary.as_str()), ("x-weir-tags", "a"), ("x-api-key", canary.as_str())];
        recording.ask(&body, &headers).await;
        recording.ask(&asking(&format!("please fail with {canary}")), &[]).await;
        // Twice: the second is a hit.
        recording.ask(&asking(&format!("Where is the house of {canary}?")), &[]).await;
        recording.ask(&asking(&format!("Where is the house of {canary}?")), &[]).await;
    }
    let recordings = recording.recordings().await;
    let off = cache::Config { exact: false, coalesce: false, ..config() };
    let report = replay(&recordings, off).await;
    assert!(report.decisions.changed > 10, "something is shown of what changes");
    let opened: String = weir::journal::files(&recording.path())
        .unwrap()
        .iter()
        .flat_map(|path| Reader::open(path, &keys).unwrap())
        .map(|line| serde_json::to_string(&line.unwrap()).unwrap())
        .collect();
    assert!(opened.contains("[email#"));
    let page = weir::lab::report::page("x", &[Run { name: "x".to_owned(), report: again(&report) }]).unwrap();
    let json = serde_json::to_string(&report).unwrap();
    let told = [json, report.page(1_000), page, opened, recording.metrics.encode()];
    for canary in &canaries {
        assert!(!holds(&recording.path(), canary), "{canary} is in the journal");
        assert!(told.iter().all(|text| !text.contains(canary.as_str())), "{canary} is told");
    }
}

/// A report, as it is read from its JSON.
fn again(report: &Report) -> Report {
    serde_json::from_value(serde_json::to_value(report).unwrap()).unwrap()
}

#[tokio::test]
async fn a_sealed_journal_is_replayed_as_one_in_the_clear_is() {
    let recording = Recording::start(config(), |config| {
        config.keys = keys(&['a']);
        config.max_file_bytes = 40_000;
    })
    .await;
    recording.ask_all(&questions(150), 1).await;
    let report = replay(&recording.recordings().await, config()).await;
    assert_eq!((report.decisions.same, report.decisions.changed, report.journal.unreadable), (150, 0, 0));
    let files = weir::journal::files(&recording.path()).unwrap();
    assert!(files.len() > 1 && files.iter().all(|path| weir::journal::is_sealed(path)), "{files:?}");
    let wrong = Recordings::open(&recording.path(), &keys(&['b'])).err().unwrap().to_string();
    assert!(wrong.contains("sealed with another key"), "{wrong}");
}

/// A browser, where this machine has one.
fn browser() -> Option<std::path::PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let folders = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&folders).flat_map(|folder| names.map(|name| folder.join(name)));
    found.find(|path| path.is_file())
}

#[tokio::test]
async fn a_browser_opens_the_page_without_a_request_and_without_an_error() {
    let recording = Recording::start(config(), |_| {}).await;
    recording.ask_all(&questions(120), 1).await;
    let recordings = recording.recordings().await;
    let mut runs = Vec::new();
    for (name, semantic) in [("on", Semantic::On), ("off", Semantic::Off)] {
        let report = replay(&recordings, cache::Config { semantic, ..config() }).await;
        runs.push(Run { name: name.to_owned(), report });
    }
    let page = recording.folder.path().join("report.html");
    std::fs::write(&page, weir::lab::report::page("A report", &runs).unwrap()).unwrap();
    let Some(browser) = browser() else {
        println!("skipped: there is no Chromium on this machine");
        return;
    };
    let (profile, log) = (recording.folder.path().join("profile"), recording.folder.path().join("net.json"));
    let mut command = tokio::process::Command::new(browser);
    command
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--log-net-log={}", log.display()))
        .arg(format!("file://{}", page.display()))
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(2), command.output()).await.unwrap().unwrap();
    let (dom, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(dom.contains("Runs side by side") && dom.matches("<svg").count() >= 5, "{dom}{told}");
    assert!(!told.contains("CONSOLE"), "{told}");
    let asked = std::fs::read_to_string(log).unwrap();
    let urls = asked.split("\"url\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let strangers: Vec<_> = urls
        .filter(|url| url.starts_with("http") && !url.contains("google") && !url.contains("gvt1"))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}
