//! Webhooks: what receivers are told, that they can tell it is us, and that nobody is held up by one who hangs.

use crate::kit::{Rig, caller, eventually, question};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use weir::clock::{Clock, Millis};
use weir::limits::{self, Budget, Limit};
use weir::secret::Secret;
use weir::sim::{Manual, Scripted, Step};
use weir::store::memory::Memory;
use weir::upstream::chain::{Chain, Change, Config as Effort, Link, Ward};
use weir::upstream::health::{BudgetRules, Rules};
use weir::upstream::{Kind, Upstream};
use weir::webhook::{Config, Event, Key, Topic, Webhooks, try_out};

const SECRET: &str = "a secret that signs events";
const NOW: u64 = 1_800_000_000;

/// What a receiver says to what it is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Yes,
    Status(u16),
    /// Elsewhere.
    Redirect,
    /// Nothing, for ever.
    Nothing,
}

/// A message as it came.
#[derive(Clone, Debug)]
struct Got {
    headers: HashMap<String, String>,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Whether whoever knows the secret has written this, as Standard Webhooks says.
    fn is_signed(&self) -> bool {
        let header = |name: &str| self.headers[name].as_str();
        let signed = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), self.body);
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let signature = header("webhook-signature").strip_prefix("v1,").unwrap();
        mac.verify_slice(&STANDARD.decode(signature).unwrap()).is_ok()
    }
}

/// Takes what is sent, and says the next of what it is to say; the last again and again.
#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    says: Arc<Mutex<Vec<Says>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    async fn start(says: &[Says]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, says) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(says.to_vec())));
        let receiver = Self { address, says, got: Arc::default() };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().converse(stream));
            }
        });
        receiver
    }

    async fn converse(self, mut stream: TcpStream) {
        while let Some(got) = read(&mut stream).await {
            self.got.lock().unwrap().push(got);
            let says = {
                let mut says = self.says.lock().unwrap();
                if says.len() > 1 { says.remove(0) } else { says[0] }
            };
            let (status, more) = match says {
                Says::Yes => (200, String::new()),
                Says::Status(status) => (status, String::new()),
                Says::Redirect => (307, format!("location: http://{}/elsewhere\r\n", self.address)),
                Says::Nothing => std::future::pending().await,
            };
            let answer = format!("HTTP/1.1 {status} X\r\n{more}content-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// A webhook that leads here, and is told again soon.
    fn hook(&self, name: &str) -> Config {
        let key = Key::new(&Secret::new(SECRET)).unwrap();
        let url = format!("http://{}/hook?token=hidden-in-the-address", self.address);
        Config {
            timeout: Duration::from_mins(1),
            backoff: Duration::from_millis(20),
            ..Config::new(name, &url, key)
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Got> {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            let headers: HashMap<String, String> =
                lines.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
            let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(Got { headers, body: body.to_owned() });
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => seen.extend_from_slice(&buffer[..count]),
        }
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(Manual::at(Millis(NOW * 1000)))
}

fn spawn(hooks: Vec<Config>) -> Webhooks {
    Webhooks::spawn(hooks, &clock())
}

/// One of many different events.
fn change(nth: usize) -> Event {
    Event::of_change(&Change { name: format!("u{nth}").into(), model: None, trouble: None })
}

#[tokio::test]
async fn what_a_receiver_gets_is_signed_and_says_what_happened() {
    let receiver = Receiver::start(&[Says::Yes]).await;
    let webhooks = spawn(vec![receiver.hook("ops")]);
    webhooks.tell(&change(1));
    eventually("it was taken", || webhooks.reports()[0].sent == 1).await;
    let [got] = &receiver.got()[..] else { panic!("told once") };
    assert!(got.is_signed(), "{got:?}");
    assert_eq!(got.headers["webhook-timestamp"], NOW.to_string());
    assert_eq!(got.headers["content-type"], "application/json");
    let body = got.json();
    assert_eq!((&body["type"], &body["timestamp"]), (&"weir.breaker".into(), &"2027-01-15T08:00:00Z".into()));
    assert_eq!((&body["data"]["upstream"], &body["data"]["state"]), (&"u1".into(), &"closed".into()));
    let forged = Got { body: got.body.replace("closed", "open"), ..got.clone() };
    assert!(!forged.is_signed());
}

#[tokio::test]
async fn what_was_not_taken_is_told_again_under_the_same_name() {
    let receiver = Receiver::start(&[Says::Status(500), Says::Status(429), Says::Nothing, Says::Yes]).await;
    let webhooks = spawn(vec![Config { timeout: Duration::from_secs(1), ..receiver.hook("ops") }]);
    webhooks.tell(&change(1));
    eventually("it was taken", || webhooks.reports()[0].sent == 1).await;
    let got = receiver.got();
    // More where the machine has held up a "yes" for too long.
    assert!(got.len() >= 4, "{got:?}");
    assert!(got.iter().all(Got::is_signed));
    let name = &got[0].headers["webhook-id"];
    assert!(got.iter().all(|again| again.headers["webhook-id"] == *name));
    webhooks.tell(&change(2));
    let has_another_name = |next: &Got| next.headers["webhook-id"] != *name;
    eventually("the next one, too", || receiver.got().iter().any(has_another_name)).await;
}

#[tokio::test]
async fn there_is_an_end_to_telling_and_nobody_is_followed_elsewhere() {
    for says in [Says::Status(503), Says::Redirect] {
        let receiver = Receiver::start(&[says]).await;
        let webhooks = spawn(vec![Config { retries: 2, ..receiver.hook("ops") }]);
        webhooks.tell(&change(1));
        eventually("it is given up", || webhooks.reports()[0].failed == 1).await;
        assert_eq!((receiver.count(), webhooks.reports()[0].sent), (3, 0), "{says:?}");
    }
}

#[tokio::test]
async fn one_who_hangs_holds_up_neither_requests_nor_other_receivers() {
    let (hanging, well) = (Receiver::start(&[Says::Nothing]).await, Receiver::start(&[Says::Yes]).await);
    let webhooks = spawn(vec![hanging.hook("hanging"), well.hook("well")]);
    let began = Instant::now();
    for nth in 0..1000 {
        webhooks.tell(&change(nth));
        if nth % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // Sooner than the one who hangs is given up.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    eventually("the other one is told", || webhooks.reports()[1].sent > 250).await;
    let hanging = &webhooks.reports()[0];
    assert!(hanging.dropped >= 1000 - 258 && hanging.sent == 0, "{hanging:?}");
    // At the end nobody waits for it either.
    let began = Instant::now();
    webhooks.close(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_waits_is_told_before_the_end_and_what_comes_later_is_not() {
    let receiver = Receiver::start(&[Says::Status(500), Says::Yes]).await;
    // Its pause, half a minute at least, would outlast the end.
    let slow = Config { backoff: Duration::from_mins(1), ..receiver.hook("ops") };
    let webhooks = spawn(vec![slow]);
    (0..20).for_each(|nth| webhooks.tell(&change(nth)));
    eventually("the first try has failed", || receiver.count() == 1).await;
    webhooks.close(Duration::from_secs(20)).await;
    assert_eq!((webhooks.reports()[0].sent, webhooks.reports()[0].failed), (20, 0));
    webhooks.tell(&change(99));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.count(), 21);
}

#[tokio::test]
async fn each_is_told_of_what_it_wants_and_of_the_same_once() {
    let receiver = Receiver::start(&[Says::Yes]).await;
    let budgets = Config { topics: vec![Topic::Budget], ..receiver.hook("budgets") };
    let webhooks = spawn(vec![receiver.hook("all"), budgets]);
    (0..10).for_each(|_| webhooks.tell(&change(1)));
    eventually("it was taken", || webhooks.reports()[0].sent == 1).await;
    assert_eq!((webhooks.reports()[0].damped, webhooks.reports()[1].damped), (9, 0));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(receiver.count(), 1);
    let loud = spawn(vec![Config { quiet: Duration::ZERO, ..receiver.hook("loud") }]);
    (0..10).for_each(|_| loud.tell(&change(1)));
    eventually("all of them", || loud.reports()[0].sent == 10).await;
}

#[tokio::test]
async fn a_webhook_can_be_tried() {
    let receiver = Receiver::start(&[Says::Yes, Says::Status(401)]).await;
    let hook = receiver.hook("ops");
    assert!(try_out(&hook, clock().as_ref()).await.is_ok());
    assert_eq!(receiver.got()[0].json()["type"], "weir.test");
    assert!(receiver.got()[0].is_signed());
    assert_eq!(try_out(&hook, clock().as_ref()).await.unwrap_err(), "it answered with status 401");
    let nobody = Config { url: Secret::new("http://127.0.0.1:9/hidden-in-the-address"), ..hook };
    let why = try_out(&nobody, clock().as_ref()).await.unwrap_err();
    assert!(!why.contains("hidden"), "{why}");
}

/// A log that can be read.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_the_secret_nor_the_address_is_in_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_env_filter("weir=trace")
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(log);
    let receiver = Receiver::start(&[Says::Status(500)]).await;
    let hook = Config { retries: 1, ..receiver.hook("ops") };
    let told = format!("{hook:?}");
    let webhooks = spawn(vec![hook]);
    webhooks.tell(&change(1));
    eventually("it is given up", || webhooks.reports()[0].failed == 1).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("a webhook was not told") && text.contains("ops"), "{text}");
    for text in [text, told] {
        assert!(!text.contains("hidden") && !text.contains(SECRET), "{text}");
    }
}

/// What a request through a chain of `steps` has to tell.
async fn told_of(steps: [Step; 2], limits: limits::Config) -> Vec<Value> {
    let links = ["first", "second"].into_iter().zip(steps).map(|(name, step)| {
        Link::new(Arc::new(Scripted::new(name, [step])) as Arc<dyn Upstream>, vec!["*".into()])
    });
    let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
    let effort = Effort { max_attempts: 1, max_wait: Duration::ZERO, ..Effort::default() };
    let chain = Chain::sharing("chain", links.collect(), effort, &ward);
    let rig =
        Rig::with(Arc::new(chain), Arc::new(Memory::default()), weir::intent::RuleSet::default(), limits);
    let asked = rig.pipeline.answer(caller(), question("the words of the question")).await;
    if let Ok(answer) = asked {
        crate::kit::whole(answer).await.unwrap();
    }
    let receiver = Receiver::start(&[Says::Yes]).await;
    let webhooks = spawn(vec![receiver.hook("ops")]);
    let events = Event::of_request(&rig.last());
    events.iter().for_each(|event| webhooks.tell(event));
    eventually("all are taken", || webhooks.reports()[0].sent as usize == events.len()).await;
    let got = receiver.got();
    assert!(got.iter().all(|got| !got.body.contains("the words of")), "{got:?}");
    got.iter().map(Got::json).collect()
}

fn kinds(told: &[Value]) -> Vec<&str> {
    told.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_failover_a_limit_and_a_failure_of_all_are_told() {
    let none = limits::Config::default;
    let told = told_of([Step::Fail(Kind::RateLimit), Step::say("hi")], none()).await;
    assert_eq!(kinds(&told), ["weir.failover", "weir.rate_limit"]);
    let data = &told[0]["data"];
    assert_eq!((&data["from"], &data["to"]), (&"first".into(), &"second".into()));
    assert_eq!((&data["reason"], &data["request_id"]), (&"rate_limit".into(), &"req_1".into()));
    assert_eq!(told[1]["data"]["upstream"], "first");

    let told = told_of([Step::Fail(Kind::Server), Step::Fail(Kind::Timeout)], none()).await;
    assert_eq!(kinds(&told), ["weir.all_failed"]);
    assert_eq!(told[0]["data"]["attempts"][1]["reason"], "timeout");

    assert!(told_of([Step::say("hi"), Step::say("hi")], none()).await.is_empty(), "all is well");
    let bad = told_of([Step::Fail(Kind::BadRequest), Step::say("hi")], none()).await;
    assert!(bad.is_empty(), "that is the client's fault: {bad:?}");
}

#[tokio::test]
async fn a_limit_of_ours_and_a_budget_are_told() {
    let of = |limit: Limit| limits::Config { limits: vec![limit], ..limits::Config::default() };
    let busy = Limit { name: "busy".into(), concurrent_requests: Some(0), ..Limit::default() };
    let told = told_of([Step::say("hi"), Step::say("hi")], of(busy)).await;
    assert_eq!((kinds(&told), &told[0]["data"]["limit"]), (vec!["weir.rate_limit"], &"busy".into()));
    let budget = Some(Budget { tokens: 0, every: Duration::from_mins(1) });
    let spent = Limit { name: "month".into(), budget, ..Limit::default() };
    let told = told_of([Step::say("hi"), Step::say("hi")], of(spent)).await;
    assert_eq!((kinds(&told), &told[0]["data"]["tenant"]), (vec!["weir.budget"], &"t".into()));
}
