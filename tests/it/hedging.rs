//! Another one is asked beside the first when that takes long: who has the first word answers, and it is told who was
//! asked.

use crate::kit::{question, streamed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir::sim::{Scripted, Step};
use weir::upstream::chain::{Chain, Config, Hedge, Link, Ward};
use weir::upstream::health::{BudgetRules, Rules};
use weir::upstream::queue::{Gated, Limits};
use weir::upstream::route::Plan;
use weir::upstream::{Call, Kind, Opened, Origin, Priority, Upstream};

const SECOND: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_millis(500);

fn scripted(name: &str, steps: impl IntoIterator<Item = Step>) -> Arc<Scripted> {
    Arc::new(Scripted::new(name, steps))
}

fn slow(name: &str, seconds: u32) -> Arc<Scripted> {
    scripted(name, [Step::SlowlySay(name.into(), seconds * SECOND)])
}

fn well(name: &str) -> Arc<Scripted> {
    scripted(name, [Step::say(name)])
}

fn link(upstream: &Arc<Scripted>) -> Link {
    Link::new(Arc::clone(upstream) as Arc<dyn Upstream>, vec!["*".into()])
}

fn with(config: Config, budget: BudgetRules, upstreams: &[&Arc<Scripted>]) -> Chain {
    let ward = Arc::new(Ward::new(Rules::default(), budget));
    Chain::sharing("chain", upstreams.iter().map(|upstream| link(upstream)).collect(), config, &ward)
}

fn hedging(upstreams: &[&Arc<Scripted>]) -> Chain {
    let config = Config { hedge: Hedge::After(AFTER), max_attempts: 1, ..Config::default() };
    with(config, BudgetRules::default(), upstreams)
}

fn call() -> Call {
    Call { priority: Priority::User, ..Call::within(600 * SECOND) }
}

async fn ask(chain: &Chain) -> Opened {
    chain.open(&question("q"), &call()).await.unwrap()
}

fn failed(opened: &Opened) -> Vec<(&str, Kind, bool)> {
    opened.failed.iter().map(|error| (&*error.upstream, error.kind, error.beside)).collect()
}

fn hedged(opened: &Opened) -> Option<&str> {
    opened.headers.iter().find(|(name, _)| name == "x-weir-hedged").map(|(_, value)| value.as_str())
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_is_overtaken_and_let_go() {
    let (a, b) = (slow("a", 9), slow("b", 1));
    let chain = hedging(&[&a, &b]);
    let began = Instant::now();
    let opened = ask(&chain).await;
    assert_eq!((&*opened.by, began.elapsed()), ("b", AFTER + SECOND));
    assert_eq!((failed(&opened), hedged(&opened)), (vec![("a", Kind::Overtaken, false)], Some("b")));
    let reports = chain.ward().reports();
    assert_eq!(
        (reports[0].in_flight, reports[0].health.models[0].state),
        (0, "ready"),
        "it is not left alone"
    );
    assert_eq!(reports[0].health.models[0].lately_ms, None, "how long it would have taken is not known");
}

#[tokio::test(start_paused = true)]
async fn who_answers_before_the_other_one_has_not_been_left() {
    let (a, b) = (slow("a", 1), slow("b", 9));
    let chain = hedging(&[&a, &b]);
    let began = Instant::now();
    let opened = ask(&chain).await;
    assert_eq!((&*opened.by, began.elapsed()), ("a", SECOND));
    assert_eq!((failed(&opened), hedged(&opened)), (vec![("b", Kind::Overtaken, true)], Some("b")));
    assert_eq!(chain.ward().reports()[1].in_flight, 0);
    assert_eq!(chain.ward().reports()[1].health.models[0].lately_ms, None, "that says nothing about it");
}

#[tokio::test(start_paused = true)]
async fn who_is_quick_is_asked_alone_and_nobody_is_hedged_unless_it_is_switched_on() {
    let (a, b) = (well("a"), well("b"));
    let opened = ask(&hedging(&[&a, &b])).await;
    assert_eq!((&*opened.by, opened.failed.len(), b.calls()), ("a", 0, 0));
    let (a, b) = (slow("a", 60), well("b"));
    let chain = with(Config::default(), BudgetRules::default(), &[&a, &b]);
    let opened = ask(&chain).await;
    assert_eq!((&*opened.by, b.calls(), hedged(&opened)), ("a", 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_route_may_say_otherwise() {
    let (a, b) = (slow("a", 9), well("b"));
    let chain = with(Config::default(), BudgetRules::default(), &[&a, &b]);
    let step = |name: &str| weir::upstream::route::Step { upstream: name.into(), model: Some("m".into()) };
    let plan = |hedge| Plan {
        route: "r".into(),
        steps: vec![step("a"), step("b")],
        arm: None,
        hedge,
        mirror: None,
        origin: Origin::Provider,
    };
    let ask = async |chain: &Chain, hedge| {
        let call = Call { plan: Some(Arc::new(plan(hedge))), ..call() };
        chain.open(&question("q"), &call).await.unwrap().by.to_string()
    };
    assert_eq!(ask(&chain, Some(Hedge::After(AFTER))).await, "b");
    assert_eq!(ask(&chain, None).await, "a", "as the chain does");
    let (a, b) = (slow("a", 9), well("b"));
    assert_eq!(ask(&hedging(&[&a, &b]), Some(Hedge::Off)).await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_either_leaves_the_other() {
    let late_failure = Arc::new(Late { name: "a", after: 2 * SECOND });
    let b = slow("b", 5);
    let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
    let config = Config { hedge: Hedge::After(AFTER), ..Config::default() };
    let late = |upstream: &Arc<Late>| Link::new(Arc::clone(upstream) as Arc<dyn Upstream>, vec!["*".into()]);
    let chain = Chain::sharing("chain", vec![late(&late_failure), link(&b)], config, &ward);
    let began = Instant::now();
    let opened = ask(&chain).await;
    assert_eq!((&*opened.by, failed(&opened)), ("b", vec![("a", Kind::Server, false)]));
    assert_eq!((began.elapsed(), b.calls()), (AFTER + 5 * SECOND, 1), "it was on its way already");

    let (a, b) = (slow("a", 9), scripted("b", [Step::Fail(Kind::Server)]));
    let chain = hedging(&[&a, &b]);
    let opened = ask(&chain).await;
    assert_eq!((&*opened.by, failed(&opened)), ("a", vec![("b", Kind::Server, true)]));
    assert_eq!(chain.ward().reports()[1].health.models[0].state, "cooling");
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_a_third_one_is_asked_and_nobody_twice() {
    let a = Arc::new(Late { name: "a", after: SECOND });
    let b = Arc::new(Late { name: "b", after: SECOND });
    let c = well("c");
    let late = |upstream: &Arc<Late>| Link::new(Arc::clone(upstream) as Arc<dyn Upstream>, vec!["*".into()]);
    let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
    let config = Config { hedge: Hedge::After(AFTER), ..Config::default() };
    let opened = ask(&Chain::sharing("chain", vec![late(&a), late(&b), link(&c)], config, &ward)).await;
    assert_eq!(&*opened.by, "c");
    assert_eq!(failed(&opened), [("b", Kind::Server, true), ("a", Kind::Server, false)]);
}

#[tokio::test(start_paused = true)]
async fn nobody_in_trouble_is_asked_beside_and_nothing_that_cannot_be_afforded() {
    // It is limited.
    let (a, b) = (slow("a", 2), scripted("b", [Step::Fail(Kind::RateLimit), Step::say("b")]));
    let chain = hedging(&[&b, &a]);
    ask(&chain).await;
    assert_eq!(b.calls(), 1);
    let chain = Chain::sharing(
        "chain",
        vec![link(&a), link(&b)],
        Config { hedge: Hedge::After(AFTER), ..Config::default() },
        chain.ward(),
    );
    assert_eq!((&*ask(&chain).await.by, b.calls()), ("a", 1));
    // There is no second try left.
    let (a, b) = (slow("a", 2), well("b"));
    let none = BudgetRules { share: 0.0, each_minute: 0.0, most: 0.0 };
    let config = Config { hedge: Hedge::After(AFTER), ..Config::default() };
    let chain = with(config.clone(), none, &[&a, &b]);
    assert_eq!((&*ask(&chain).await.by, b.calls()), ("a", 0));
    // One call is all there may be.
    let chain = with(Config { max_calls: 1, ..config }, BudgetRules::default(), &[&a, &b]);
    assert_eq!((&*ask(&chain).await.by, b.calls()), ("a", 0));
    // Nobody waits for it.
    let background = Call { priority: Priority::Background, ..call() };
    let opened = hedging(&[&a, &b]).open(&question("q"), &background).await.unwrap();
    assert_eq!((&*opened.by, b.calls()), ("a", 0));
    // The model in the process stands in for those who fail, and beside nobody.
    let local = Arc::new(Scripted::local([Step::say("me")]));
    assert_eq!((&*ask(&hedging(&[&a, &local])).await.by, local.calls()), ("a", 0));
}

#[tokio::test(start_paused = true)]
async fn hedges_are_a_share_of_all_requests() {
    let (a, b) = (slow("a", 2), well("b"));
    let budget = BudgetRules { each_minute: 0.0, ..BudgetRules::default() };
    let config = Config { hedge: Hedge::After(AFTER), ..Config::default() };
    let chain = with(config, budget, &[&a, &b]);
    let mut beside = 0;
    for _ in 0..200 {
        beside += usize::from(hedged(&ask(&chain).await).is_some());
    }
    // What was saved up, and a tenth.
    assert!((35..=40).contains(&beside) && a.calls() >= 200, "{beside} {}", a.calls());
}

#[tokio::test(start_paused = true)]
async fn at_p95_it_is_learned_when_that_is() {
    let quick = Step::SlowlySay("a".into(), Duration::from_millis(300));
    let steps = std::iter::repeat_n(quick, 20).chain([Step::SlowlySay("a".into(), 20 * SECOND)]);
    let (a, b) = (scripted("a", steps), well("b"));
    let config = Config { hedge: Hedge::AtP95, ..Config::default() };
    let chain = with(config, BudgetRules::default(), &[&a, &b]);
    for _ in 0..20 {
        assert_eq!(&*chain.open(&streamed("q"), &call()).await.unwrap().by, "a");
    }
    assert_eq!(b.calls(), 0);
    let began = Instant::now();
    assert_eq!(&*chain.open(&streamed("q"), &call()).await.unwrap().by, "b");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(310), "{took:?}");
    let lately = chain.ward().reports()[0].health.models[0].lately_ms.unwrap();
    assert!(lately > 300, "it takes so long at least: {lately}");
    // Of replies that come whole nothing is known, so that they are not hedged.
    assert_eq!((&*ask(&chain).await.by, b.calls()), ("a", 1));
}

#[tokio::test(start_paused = true)]
async fn how_long_a_request_has_waited_for_its_turn_is_no_slowness_of_the_provider_s() {
    let a = slow("a", 2);
    let limits = Limits { concurrent: Some(1), ..Limits::default() };
    let gated = Gated::new(Arc::clone(&a) as Arc<dyn Upstream>, limits);
    let chain = Chain::new("chain", vec![Link::new(Arc::new(gated), vec!["*".into()])]);
    let ask = async || {
        let mut opened = chain.open(&question("q"), &call()).await.unwrap();
        while let Some(chunk) = futures_util::StreamExt::next(&mut opened.chunks).await {
            chunk.unwrap();
        }
    };
    tokio::join!(ask(), ask(), ask(), ask());
    let report = &chain.ward().reports()[0].health.models[0];
    assert_eq!(
        (report.usual_ms, report.lately_ms),
        (Some(2000), Some(2000)),
        "the last one took eight seconds"
    );
}

/// Fails after a while.
struct Late {
    name: &'static str,
    after: Duration,
}

#[async_trait::async_trait]
impl Upstream for Late {
    fn name(&self) -> &str {
        self.name
    }

    fn origin(&self, _: &weir::chat::Request) -> Origin {
        Origin::Provider
    }

    async fn open(&self, _: &weir::chat::Request, _: &Call) -> Result<Opened, weir::upstream::Error> {
        tokio::time::sleep(self.after).await;
        Err(weir::upstream::Error::new(Kind::Server, &self.name.into(), "late"))
    }
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_be_left_alone_and_who_is_well_again_is_told() {
    let a = scripted("a", [Step::FailFor(Kind::RateLimit, 30 * SECOND), Step::say("a")]);
    let chain = with(Config::default(), BudgetRules::default(), &[&a, &well("b")]);
    let changes: Arc<Mutex<Vec<_>>> = Arc::default();
    let told = Arc::clone(&changes);
    chain.ward().watched_by(Arc::new(move |change| told.lock().unwrap().push(change.clone())));
    for _ in 0..3 {
        ask(&chain).await;
    }
    {
        let told = changes.lock().unwrap();
        let [open] = &told[..] else { panic!("once: {told:?}") };
        assert_eq!((&*open.name, open.model.as_deref()), ("a", Some("m")));
        let (reason, wait) = open.trouble.unwrap();
        assert_eq!((reason.name(), wait), ("rate_limit", 30 * SECOND));
    }
    tokio::time::advance(31 * SECOND).await;
    ask(&chain).await;
    let told = changes.lock().unwrap();
    assert_eq!((told.len(), told[1].trouble), (2, None), "{told:?}");
}
