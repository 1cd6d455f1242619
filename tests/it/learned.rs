//! Rules that are learned from examples, through the whole path and through the binary; and what they do to the cache.

use crate::kit::{Rig, caller, patient, question, whole};
use crate::server::client;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weir::embed::{self, Embedder, Embedding, Encoder, Text};
use weir::intent::{Book, Live, Mind, Read, parse};
use weir::sim::{Scripted, Step, WordEncoder};
use weir::store::memory::Memory;

/// Two things to do that are said in many ways.
const RULES: &str = r#"
precision = 0.8

[[vocabulary]]
name = "track"
values = ["bass", "lead vocal = lead vox"]

[[rule]]
name = "louder"
intent = "raise_volume"
find = "{t:track}"
answer = "{t} up"
examples = [
    "more volume on the bass please", "the bass needs more volume", "I can hardly hear the bass, more volume",
    "give the lead vocal more volume", "more volume on the lead vocal, I can hardly hear it",
    { text = "the bass needs more volume, 3 dB perhaps", slots = { t = "bass" } },
    "the lead vox needs more volume", "I can hardly hear the lead vox, give it more volume",
]
not = ["how do I hear more birds in the garden"]

[[rule]]
name = "lights"
call = { tool = "lights", arguments = { on = false } }
projects = ["home"]
examples = [
    "it is too bright in here", "I would like to sleep now, lamps out", "make it dark",
    "no light please", "the lamps can go off", "darkness please, lamps off",
]

[[rule]]
name = "exact"
match = "more bass volume please now"
answer = "by pattern"
"#;

/// Counts how often it is asked.
struct Counting(Arc<AtomicUsize>);

impl Encoder for Counting {
    fn id(&self) -> &'static str {
        "counting"
    }

    fn encode(&mut self, batch: &[Text]) -> Result<Vec<Embedding>, embed::Error> {
        self.0.fetch_add(batch.len(), Ordering::Relaxed);
        WordEncoder.encode(batch)
    }
}

fn learned(live: &Live) -> Mind {
    let lessons = live.rules("", "").lessons().unwrap();
    let read = |text: &str| {
        let mut embeddings = WordEncoder.encode(&[text.into()]).unwrap();
        Some(Read { text: text.to_lowercase(), vector: embeddings.remove(0).vector })
    };
    let read: Vec<Option<Read>> = lessons.texts().map(read).collect();
    lessons.trained(&read).unwrap()
}

fn rig(rules: &str) -> (Rig, Arc<Scripted>, Arc<AtomicUsize>) {
    let upstream = Arc::new(Scripted::new("primary", [Step::say("from the model")]));
    let mut rig = Rig::new(Arc::clone(&upstream) as _, Arc::new(Memory::default()));
    rig.pipeline.rules = parse(rules).unwrap().into();
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Counting(Arc::clone(&count));
    rig.pipeline.embedder = Some(Embedder::spawn(counting, patient()).unwrap());
    (rig, upstream, count)
}

async fn ask(rig: &Rig, project: &str, text: &str) -> (String, String) {
    let caller = weir::pipeline::Caller { project: project.into(), ..caller() };
    rig.ask_as(caller, question(text)).await
}

#[tokio::test]
async fn what_was_learned_answers_and_what_is_unsure_goes_on() {
    let said = "the bass needs more volume, I can hardly hear it";
    let (unlearned, ..) = rig(RULES);
    assert_eq!(ask(&unlearned, "p", said).await.0, "upstream", "nothing is learned yet");
    let (rig, upstream, _) = rig(RULES);
    rig.pipeline.rules.learn(Some(learned(&rig.pipeline.rules)));
    assert_eq!(ask(&rig, "p", said).await, ("rule".into(), "bass up".into()));
    let (_, answer) =
        ask(&rig, "p", "I can hardly hear the lead vox, it needs more volume, minus two dB").await;
    assert_eq!(answer, "lead vocal up");
    assert_eq!(ask(&rig, "p", "more bass volume please now").await.1, "by pattern", "patterns come first");
    assert_eq!(upstream.calls(), 0);
    for other in
        ["who wrote the four seasons", "how do I hear more birds in the garden", "lamps off, darkness"]
    {
        assert_eq!(ask(&rig, "p", other).await.0, "upstream", "{other}");
    }
    // Where it needs what is not said, it is no such thing.
    assert_eq!(ask(&rig, "p", "I can hardly hear it, more volume").await.0, "upstream");
    let answer = rig.pipeline.answer(
        weir::pipeline::Caller { project: "home".into(), ..caller() },
        question("lamps off, darkness"),
    );
    assert_eq!(answer.await.unwrap().source.name(), "rule");
}

#[tokio::test]
async fn no_request_is_embedded_twice_and_none_without_need() {
    let (rig, _, count) = rig(RULES);
    rig.pipeline.rules.learn(Some(learned(&rig.pipeline.rules)));
    let embedded = async |project: &str, text: &str| {
        let before = count.load(Ordering::Relaxed);
        let source = ask(&rig, project, text).await.0;
        (source, count.load(Ordering::Relaxed) - before)
    };
    assert_eq!(embedded("p", "who was the first to climb it").await, ("upstream".into(), 1));
    assert_eq!(embedded("p", "who was the first to climb it").await, ("exact".into(), 0));
    assert_eq!(embedded("p", "who climbed it the very first").await.1, 1);
    assert_eq!(embedded("p", "the bass needs more volume, I hardly hear it").await, ("rule".into(), 1));
    assert_eq!(embedded("p", "more bass volume please now").await, ("rule".into(), 0));
}

#[tokio::test]
async fn what_was_learned_holds_until_something_new_is() {
    let (rig, ..) = rig(RULES);
    let live = &rig.pipeline.rules;
    live.learn(Some(learned(live)));
    let said = "I can hardly hear the bass, more volume";
    assert_eq!(ask(&rig, "p", said).await.0, "rule");
    let mut book = Book::default();
    book.add(
        "",
        &RULES.replace("{t} up", "louder: {t}").replace("more volume on the bass please", "bass volume up"),
    )
    .unwrap();
    live.replace(book).unwrap();
    assert_eq!(ask(&rig, "p", said).await, ("rule".into(), "louder: bass".into()));
    // A rule that is gone is gone at once.
    let mut book = Book::default();
    book.add("", "[[rule]]\nname = 'ping'\nmatch = 'ping'\nanswer = 'pong'\n").unwrap();
    live.replace(book).unwrap();
    assert_eq!(ask(&rig, "p", said).await.0, "upstream");
}

#[tokio::test]
async fn a_rule_that_comes_retires_what_it_answers_now_for_whoever_asks_in_other_words() {
    let (rig, upstream, _) = rig("");
    let stale = ["ping the server", "I can hardly hear the bass, more volume", "what is a good name"];
    for text in stale {
        assert_eq!(ask(&rig, "p", text).await.0, "upstream");
    }
    let live = &rig.pipeline.rules;
    let before = live.known();
    live.add("ping", "[[rule]]\nname = 'ping'\nmatch = 'ping the server'\nanswer = 'pong'\n").unwrap();
    assert_eq!(rig.pipeline.retire(&before).await, 1);
    assert_eq!(rig.store.counters().entries, 2);
    let before = live.known();
    assert_eq!(rig.pipeline.retire(&before).await, 0, "nothing is new");

    live.add("learned", RULES).unwrap();
    assert_eq!(rig.pipeline.retire(&before).await, 0, "nothing is learned yet");
    let before = live.known();
    live.learn(Some(learned(live)));
    assert_ne!(before, live.known(), "what is learned is new");
    assert_eq!(rig.pipeline.retire(&before).await, 1);
    assert_eq!(rig.store.counters().entries, 1);

    // A rule that goes leaves nothing behind: its answers are never kept.
    live.remove("ping").unwrap();
    live.remove("learned").unwrap();
    let calls = upstream.calls();
    assert_eq!(ask(&rig, "p", "ping the server").await, ("upstream".into(), "from the model".into()));
    assert_eq!(upstream.calls(), calls + 1);
}

#[tokio::test]
async fn conditions_on_the_rest_of_a_request_do_not_keep_an_answer_and_other_projects_do() {
    let (rig, ..) = rig("");
    for project in ["p", "other"] {
        ask(&rig, project, "ping the server").await;
    }
    let live = rig.pipeline.rules.clone();
    let before = live.known();
    let rule = "[[rule]]\nname = 'ping'\nprojects = ['p']\nwhen = { headers = { x-team = 'a' }, hours = '03:00-03:01' }\nmatch = 'ping the server'\nanswer = 'pong'\n";
    live.add("ping", rule).unwrap();
    assert_eq!(rig.pipeline.retire(&before).await, 1);
    let rule = rule.replace("headers = { x-team = 'a' }", "max_words = 1");
    ask(&rig, "p", "ping the server").await;
    let before = live.known();
    live.add("ping", &rule).unwrap();
    assert_eq!(rig.pipeline.retire(&before).await, 0, "it is too long for the rule, whoever asks");
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_tended_whenever_rules_change() {
    let (rig, ..) = rig("");
    ask(&rig, "p", "ping the server").await;
    let rig = Arc::new(rig);
    let tending = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move { rig.pipeline.tend(weir::intent::Known::default(), async |_| ()).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.store.counters().entries, 1);
    rig.pipeline
        .rules
        .add("ping", "[[rule]]\nname = 'ping'\nmatch = 'ping the server'\nanswer = 'pong'\n")
        .unwrap();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if rig.store.counters().entries == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(rig.store.counters().entries, 0);
    tending.abort();
}

#[tokio::test]
async fn rules_that_cannot_be_written_down_are_not_taken() {
    let live = Live::default();
    let fails = Arc::new(AtomicUsize::new(1));
    let failing = Arc::clone(&fails);
    let live = live
        .kept_by(
            Vec::new(),
            Arc::new(move |_| match failing.load(Ordering::Relaxed) {
                0 => Ok(()),
                _ => Err("the disk is full".to_owned()),
            }),
        )
        .unwrap();
    let rule = "[[rule]]\nname = 'ping'\nmatch = 'ping'\nanswer = 'pong'\n";
    let error = live.add("ping", rule).unwrap_err().to_string();
    assert!(error.contains("the disk is full"), "{error}");
    assert_eq!(live.count(), 0);
    fails.store(0, Ordering::Relaxed);
    live.add("ping", rule).unwrap();
    live.add("ping", rule).unwrap();
    assert_eq!(live.count(), 1, "the same name takes the old one's place");
    assert!(live.add("a b", rule).is_err() && live.add("", rule).is_err() && live.remove("none").is_err());
    live.remove("ping").unwrap();
    assert_eq!(live.count(), 0);
}

#[tokio::test]
async fn an_answer_by_a_learned_rule_is_a_tool_call_too() {
    let (rig, ..) = rig(RULES);
    rig.pipeline.rules.learn(Some(learned(&rig.pipeline.rules)));
    let home = weir::pipeline::Caller { project: "home".into(), ..caller() };
    let answer = rig.pipeline.answer(home, question("darkness please, no lamps")).await.unwrap();
    let reply = whole(answer).await.unwrap();
    assert_eq!(reply.choices[0].finish, Some(weir::chat::Finish::ToolCalls));
}

const START_ATTEMPTS: usize = 3;

/// The binary, with the encoder that comes with it.
struct Sidecar {
    child: Child,
    url: String,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sidecar {
    async fn start(folder: &Path) -> Self {
        for _ in 0..START_ATTEMPTS {
            let mut sidecar = Self::spawn(folder);
            if sidecar.becomes_ready().await {
                return sidecar;
            }
        }
        panic!("it does not start in {START_ATTEMPTS} attempts");
    }

    fn spawn(folder: &Path) -> Self {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        // Free now; when something else takes it first, the next attempt asks for another.
        let address: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "data_dir = \"data\"\nmodels_dir = \"{}\"\n[server]\nlisten = \"{address}\"\n[embed]\ndeadline_ms = 60000\n[local]\nenabled = false\n[rules]\nshipped = false\nreload_seconds = 1\n[[upstream]]\nname = \"primary\"\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\napi_key = \"k\"\n",
            models.display()
        );
        std::fs::write(folder.join("weir.toml"), config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, url: format!("http://{address}") }
    }

    /// False when it ended instead.
    async fn becomes_ready(&mut self) -> bool {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if client().get(format!("{}/readyz", self.url)).send().await.is_ok() {
                return true;
            }
            assert!(began.elapsed() < Duration::from_mins(2), "it does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    async fn tried(&self, text: &str) -> Value {
        let body = json!({ "text": text }).to_string();
        let response = client().post(format!("{}/weir/rules/try", self.url)).body(body).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    async fn until(&self, text: &str, rule: &Value) -> Value {
        let began = Instant::now();
        loop {
            let tried = self.tried(text).await;
            if tried["rule"] == *rule {
                return tried;
            }
            assert!(began.elapsed() < Duration::from_mins(5), "{text}: {tried}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
async fn the_binary_learns_in_the_background_and_keeps_what_was_added() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.toml");
    let rules = r#"
[[rule]]
name = "refund_status"
answer = "Refunds take five days."
examples = [
    "where is my refund", "has my refund been paid yet", "when do I get my money back", "I am still waiting for the refund",
    "my refund has not arrived", "how long until the money is returned to me",
]
"#;
    std::fs::write(&file, rules).unwrap();
    let sidecar = Sidecar::start(folder.path()).await;
    let said = "the refund is not there yet, when will it come";
    let tried = sidecar.until(said, &json!("refund_status")).await;
    assert_eq!(tried["action"]["text"], "Refunds take five days.");
    assert!(tried["score"].as_f64().unwrap() > 0.5, "{tried}");
    let other = sidecar.tried("who painted the ceiling of the chapel").await;
    assert_eq!(other["rule"], Value::Null);
    assert!(other["why_not"][0]["reason"].as_str().unwrap().contains("short of being sure"), "{other}");

    // A file that cannot be used leaves what holds; a new one is learned anew.
    std::fs::write(&file, "[[rule]]\nname = 'x'").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(sidecar.tried(said).await["rule"], "refund_status");
    let more = format!(
        "{rules}\n[[rule]]\nname = \"lost_card\"\nanswer = \"It is locked.\"\nexamples = [\"I have lost my card\", \"my card is gone\", \"I cannot find my card any more\", \"somebody has stolen my card\", \"my wallet with the card is lost\", \"the card is missing\"]\n"
    );
    std::fs::write(&file, more).unwrap();
    sidecar.until("help, my card has been stolen", &json!("lost_card")).await;

    let ping = "[[rule]]\nname = 'ping'\nmatch = 'ping'\nanswer = 'pong'\n";
    let add = client().post(format!("{}/weir/rules?name=mine", sidecar.url)).body(ping).send().await.unwrap();
    let added: Value = serde_json::from_slice(&add.bytes().await.unwrap()).unwrap();
    assert_eq!(added, json!({ "rules": 3, "name": "mine", "kept": true }));
    drop(sidecar);
    let sidecar = Sidecar::start(folder.path()).await;
    assert_eq!(sidecar.tried("ping").await["rule"], "ping");
    let listed = client().get(format!("{}/weir/rules", sidecar.url)).send().await.unwrap();
    let listed: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
    assert_eq!(
        (&listed["rules"][2]["origin"], &listed["rules"][0]["learned"]),
        (&json!("mine"), &json!(true))
    );
    let remove = async || client().delete(format!("{}/weir/rules/mine", sidecar.url)).send().await.unwrap();
    assert_eq!(remove().await.status(), 200);
    assert_eq!(remove().await.status(), 400);
    assert_eq!(sidecar.tried("ping").await["rule"], Value::Null);
}
