//! What is kept, for how long, and how late it is given: the path with sim plugs and a clock set by hand.

use crate::kit::{Rig, caller, eventually, question, streamed, unchecked};
use std::sync::Arc;
use std::time::Duration;
use weir::cache::identity::{Reading, Settings};
use weir::cache::policy::{Config, Rule, Then, When, WordLists};
use weir::cache::{self, Asker, Miss, NotKept, Query, Wishes};
use weir::chat::{Block, Choice, Finish, Reply, Request, ToolCall};
use weir::pipeline::{Caller, Ended, Error};
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::chain::{Chain, Link};
use weir::upstream::prices::Prices;
use weir::upstream::{Kind, Upstream};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const MONTH: Duration = Duration::from_hours(30 * 24);

fn scripted(steps: impl IntoIterator<Item = Step>) -> Arc<Scripted> {
    Arc::new(Scripted::new("primary", steps))
}

fn rig(upstream: &Arc<Scripted>, policy: Config) -> Rig {
    let rig = Rig::new(Arc::clone(upstream) as Arc<dyn Upstream>, Arc::new(Memory::default()));
    rig.remembering(remembering(policy))
}

fn remembering(policy: Config) -> cache::Config {
    cache::Config { policy, bound: unchecked(), ..cache::Config::default() }
}

fn wishing(change: impl FnOnce(&mut Wishes)) -> Caller {
    let mut caller = caller();
    change(&mut caller.memory);
    caller
}

fn said(source: &str, text: &str) -> (String, String) {
    (source.into(), text.into())
}

#[tokio::test]
async fn a_caller_may_refuse_what_is_old_or_soon_over() {
    let upstream = scripted([Step::say("one"), Step::say("two"), Step::say("three")]);
    let rig = rig(&upstream, Config::default());
    rig.ask(question("q")).await;
    rig.clock.advance(HOUR);
    let old = wishing(|wishes| wishes.no_older_than(HOUR));
    assert_eq!(rig.ask_as(old, question("q")).await, said("exact", "one"));
    let fresh = wishing(|wishes| wishes.fresh_for(MONTH.saturating_sub(HOUR)));
    assert_eq!(rig.ask_as(fresh, question("q")).await, said("exact", "one"));
    let younger = wishing(|wishes| wishes.no_older_than(HOUR.saturating_sub(SECOND)));
    assert_eq!(rig.ask_as(younger, question("q")).await, said("upstream", "two"));
    assert_eq!(rig.last().miss, Some(Miss::TooOld));
    assert_eq!(rig.ask(question("q")).await, said("exact", "two"), "the new one has taken its place");
    let fresher = wishing(|wishes| wishes.fresh_for(MONTH + SECOND));
    assert_eq!(rig.ask_as(fresher, question("q")).await.0, "upstream");
}

#[tokio::test]
async fn only_if_cached_asks_nobody() {
    let upstream = scripted([Step::say("one")]);
    let rig = rig(&upstream, Config::default());
    let caller = || wishing(|wishes| wishes.only_if_cached = true);
    let refused = rig.pipeline.answer(caller(), question("q")).await.unwrap_err();
    assert!(matches!(refused, Error::NotCached(Miss::Absent)), "{refused}");
    assert_eq!((rig.last().ended, rig.last().miss), (Ended::NotCached, Some(Miss::Absent)));
    assert_eq!(upstream.calls(), 0);
    rig.ask(question("capital of France")).await;
    assert_eq!(rig.ask_as(caller(), question("capital of France")).await.0, "exact");
    assert_eq!(rig.ask_as(caller(), question("Capital of France?")).await.0, "semantic");
}

#[tokio::test]
async fn a_caller_may_shorten_a_life_and_never_lengthen_it() {
    let upstream = scripted([Step::say("x")]);
    let rig = rig(&upstream, Config { ttl: 100 * SECOND, ..Config::default() });
    for (text, wish, life) in [("short", 10, 10), ("long", 1000, 100)] {
        let wishing = wishing(|wishes| wishes.keep_for(wish * SECOND));
        rig.ask_as(wishing, question(text)).await;
        rig.clock.advance((life * SECOND).saturating_sub(Duration::from_millis(1)));
        assert_eq!(rig.ask(question(text)).await.0, "exact", "{text}");
        rig.clock.advance(Duration::from_millis(1));
        assert_eq!(rig.ask(question(text)).await.0, "upstream", "{text}");
    }
    rig.ask_as(wishing(|wishes| wishes.keep_for(Duration::ZERO)), question("none")).await;
    assert_eq!(rig.last().kept, Some(Err(NotKept::Declined)));
}

#[tokio::test]
async fn names_of_a_callers_own_only_ever_split() {
    let upstream = scripted([Step::say("x")]);
    let rig = rig(&upstream, Config::default());
    let within = |way, name: &'static str| wishing(move |wishes| wishes.within(way, name));
    rig.ask(question("q")).await;
    for (way, name) in [("namespace", "a"), ("namespace", "b"), ("seed", "a")] {
        assert_eq!(rig.ask_as(within(way, name), question("q")).await.0, "upstream", "{way} {name}");
        assert_eq!(rig.ask_as(within(way, name), question("q")).await.0, "exact", "{way} {name}");
        let other = Caller { tenant: "t2".into(), ..within(way, name) };
        assert_eq!(rig.ask_as(other, question("q")).await.0, "upstream", "another tenant's");
    }
    assert_eq!(rig.ask(question("q")).await.0, "exact");
}

#[tokio::test]
async fn a_caller_may_ask_for_more_alike_or_for_the_same_words_only() {
    let (known, other) = ("capital of France", "Capital of France?");
    let rig = rig(&scripted([Step::say("x")]), Config::default());
    rig.ask(question(known)).await;
    // No two questions are as alike as that.
    let alike = wishing(|wishes| wishes.as_similar_as(2.0));
    assert_eq!(rig.ask_as(alike, question(other)).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::TooFar));
    let other = "Capital of France!";
    let same = wishing(|wishes| wishes.semantic = false);
    assert_eq!(rig.ask_as(same.clone(), question(other)).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::SemanticOff));
    assert_eq!(rig.ask_as(same, question(known)).await.0, "exact");
    let strict = cache::Config { min_similarity: 2.0, ..remembering(Config::default()) };
    let rig = rig.remembering(strict);
    let lower = wishing(|wishes| wishes.as_similar_as(0.1));
    assert_eq!(rig.ask_as(lower, question("the capital of France")).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::TooFar), "a bar is never lowered");
}

#[tokio::test]
async fn what_changes_soon_has_a_short_life_and_is_never_late() {
    let upstream = scripted([Step::say("sunny"), Step::Fail(Kind::Server)]);
    let rig = rig(&upstream, Config::default());
    rig.ask(question("weather in Oslo today")).await;
    rig.clock.advance((300 * SECOND).saturating_sub(Duration::from_millis(1)));
    assert_eq!(rig.ask(question("weather in Oslo today")).await, said("exact", "sunny"));
    rig.clock.advance(Duration::from_millis(1));
    assert!(rig.pipeline.answer(caller(), question("weather in Oslo today")).await.is_err());
    assert_eq!(rig.last().miss, Some(Miss::Expired));
}

#[tokio::test]
async fn what_is_to_vary_or_is_drawn_freely_is_neither_kept_nor_served() {
    let hot = |temperature| {
        let mut request = question("name a colour");
        request.sampling.temperature = Some(temperature);
        request
    };
    let dice = || question("Roll a die for me");
    let cases: [(Request, Miss, NotKept); 3] = [
        (dice(), Miss::Chance, NotKept::Chance),
        (hot(1.01), Miss::Temperature, NotKept::Temperature),
        (hot(f64::NAN), Miss::Temperature, NotKept::Temperature),
    ];
    for (request, miss, why) in cases {
        let rig = rig(&scripted([Step::say("x")]), Config::default());
        for _ in 0..2 {
            assert_eq!(rig.ask(request.clone()).await.0, "upstream");
            assert_eq!((rig.last().miss, rig.last().kept), (Some(miss), Some(Err(why))));
        }
    }
    let rig_of_own_words = rig(
        &scripted([Step::say("x")]),
        Config {
            words: WordLists { volatile: Vec::new(), chance: vec!["colour".into()] },
            volatile_ttl: Duration::ZERO,
            ..Config::default()
        },
    );
    rig_of_own_words.ask(dice()).await;
    assert_eq!(rig_of_own_words.ask(dice()).await.0, "exact", "other lists, other words");
    rig_of_own_words.ask(hot(1.0)).await;
    assert_eq!(rig_of_own_words.last().kept, Some(Err(NotKept::Chance)));
    let strict =
        rig(&scripted([Step::say("x")]), Config { volatile_ttl: Duration::ZERO, ..Config::default() });
    strict.ask(question("what time is it")).await;
    assert_eq!(
        (strict.last().miss, strict.last().kept),
        (Some(Miss::Volatile), Some(Err(NotKept::Volatile)))
    );
}

#[tokio::test]
async fn who_rolls_a_die_at_the_same_time_rolls_another_one() {
    let upstream = scripted([Step::SayThenStall("four".into())]);
    let rig = rig(&upstream, Config::default());
    let one = rig.pipeline.answer(caller(), question("roll a die")).await.unwrap();
    let other = rig.pipeline.answer(caller(), question("roll a die")).await.unwrap();
    assert_eq!((upstream.calls(), one.shared, other.shared), (2, false, false));
}

#[tokio::test]
async fn the_first_rule_that_matches_holds() {
    let rule = |name: &str, when: When, then: Then| Rule { name: name.into(), when, then };
    let projects = |name: &str| When { projects: vec![name.into()], ..When::default() };
    let words = |phrase: &str| When { words: vec![phrase.into()], ..When::default() };
    let rules = vec![
        rule("drafts", projects("draft*"), Then { store: Some(false), ..Then::default() }),
        rule(
            "prices",
            words("price list"),
            Then { ttl: Some(10 * SECOND), volatile: Some(false), ..Then::default() },
        ),
        rule("legal", words("contract"), Then { semantic: Some(false), ..Then::default() }),
        rule("craps", words("dice game"), Then { store: Some(true), ..Then::default() }),
        rule("long", projects("p"), Then { ttl: Some(2 * MONTH), ..Then::default() }),
    ];
    let upstream = scripted([Step::say("x")]);
    let rig = rig(&upstream, Config { rules, ..Config::default() });
    let draft = || Caller { project: "draft-1".into(), ..caller() };
    for _ in 0..2 {
        rig.ask_as(draft(), question("q")).await;
        assert_eq!((rig.last().miss, rig.last().kept), (Some(Miss::Rule), Some(Err(NotKept::Rule))));
    }
    rig.ask(question("the price list")).await;
    rig.clock.advance(9 * SECOND);
    assert_eq!(rig.ask(question("the price list")).await.0, "exact");
    rig.clock.advance(SECOND);
    assert_eq!(rig.ask(question("the price list")).await.0, "upstream");
    rig.ask(question("may a contract be spoken")).await;
    assert_eq!(rig.ask(question("may a contract be spoken")).await.0, "exact");
    assert_eq!(rig.ask(question("a contract may be spoken")).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::SemanticOff));
    let mut free = question("roll dice in the dice game");
    free.sampling.temperature = Some(1.9);
    rig.ask(free.clone()).await;
    assert_eq!(rig.ask(free).await.0, "exact", "a rule may have kept what would not be");
    rig.ask(question("q")).await;
    rig.ask(question("the weather")).await;
    rig.clock.advance((2 * MONTH).saturating_sub(SECOND));
    assert_eq!(rig.ask(question("q")).await.0, "exact", "a rule may lengthen a life");
    assert_eq!(rig.ask(question("the weather")).await.0, "upstream", "but not of what changes soon");
}

#[tokio::test]
async fn what_is_configured_now_holds_for_what_was_kept_before() {
    let upstream = scripted([Step::say("x")]);
    let rig = rig(&upstream, Config::default());
    rig.ask(question("q")).await;
    rig.clock.advance(HOUR);
    let shorter = Config { ttl: HOUR, ..Config::default() };
    let rig = rig.remembering(remembering(shorter));
    assert_eq!(rig.ask(question("q")).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::Expired));
}

#[tokio::test]
async fn what_is_pinned_is_never_over_but_may_be_too_old_for_a_caller() {
    let upstream = scripted([Step::say("x"), Step::say("y")]);
    let rig = rig(&upstream, Config::default());
    rig.ask(question("q")).await;
    let asked = question("q");
    let asker = Asker { tenant: "t", project: "p", origin: "provider", ..Asker::default() };
    let settings = Settings::default();
    let query = Query::new(&asker, &settings, &asked, Reading::of(settings.client, &asked)).unwrap();
    let mut entry = rig.store.load(&query.scope, &query.id).await.unwrap().unwrap();
    entry.pinned = true;
    rig.store.put(&query.scope, entry).await.unwrap();
    rig.clock.advance(12 * MONTH);
    assert_eq!(rig.ask(question("q")).await, said("exact", "x"));
    let picky = wishing(|wishes| wishes.no_older_than(MONTH));
    assert_eq!(rig.ask_as(picky, question("q")).await, said("upstream", "y"));
}

#[tokio::test]
async fn long_answers_refusals_and_calls_are_kept_as_configured() {
    let call = Reply {
        choices: vec![Choice {
            blocks: vec![Block::ToolCall(ToolCall {
                id: "c".into(),
                name: "f".into(),
                ..ToolCall::default()
            })],
            finish: Some(Finish::ToolCalls),
            ..Choice::default()
        }],
        ..Reply::default()
    };
    let mut refusal = Reply::text("m", "I will not.");
    refusal.choices[0].finish = Some(Finish::Refusal);
    let long = Reply::text("m", "x".repeat(2000));
    let small = Config { max_answer_bytes: 1000, ..Config::default() };
    let all = Config { store_refusals: true, store_tool_calls: true, ..Config::default() };
    for (reply, strict, why) in [
        (call, Config::default(), NotKept::CallsTools),
        (refusal, Config::default(), NotKept::Refused),
        (long, small, NotKept::TooLarge),
    ] {
        let strictly = rig(&scripted([Step::Say(reply.clone())]), strict);
        strictly.ask(question("q")).await;
        assert_eq!(strictly.last().kept, Some(Err(why)));
        let freely = rig(&scripted([Step::Say(reply)]), all.clone());
        freely.ask(question("q")).await;
        assert_eq!(freely.ask(question("q")).await.0, "exact", "{why:?}");
    }
}

/// A rig whose upstream fails from the second call on, and whose answer's time has been over for an hour.
async fn failing(kind: Kind) -> Rig {
    let upstream = scripted([Step::say("known"), Step::Fail(kind)]);
    let rig = rig(&upstream, Config::default());
    rig.ask(question("capital of France")).await;
    rig.clock.advance(MONTH + HOUR);
    rig
}

#[tokio::test]
async fn where_nobody_answers_a_late_answer_is_given() {
    let rig = failing(Kind::Server).await;
    for request in [question("capital of France"), streamed("capital of France")] {
        let answer = rig.pipeline.answer(caller(), request).await.unwrap();
        assert!(answer.source.is_stale());
        assert_eq!(answer.source.age(), Some(MONTH + HOUR));
        assert_eq!(answer.failed.len(), 1);
        assert_eq!(crate::kit::whole(answer).await.unwrap().choices[0].said(), "known");
        let told = rig.last();
        assert_eq!((told.ended, told.miss, told.kept), (Ended::Complete, None, None));
        assert_eq!(told.failed, [("primary".into(), Kind::Server)]);
    }
    let other_words = rig.pipeline.answer(caller(), question("Capital of France?")).await;
    assert!(other_words.is_err(), "never an answer to other words");
    rig.clock.advance(23 * HOUR);
    assert!(rig.pipeline.answer(caller(), question("capital of France")).await.is_err(), "and not for ever");
}

type Change = fn(&mut Wishes);

#[tokio::test]
async fn a_late_answer_is_given_for_an_outage_only_and_to_those_who_take_it() {
    for (kind, late) in [
        (Kind::RateLimit, true),
        (Kind::Auth, true),
        (Kind::Timeout, true),
        (Kind::BadRequest, false),
        (Kind::ContextOverflow, false),
        (Kind::ModelNotFound, false),
    ] {
        let rig = failing(kind).await;
        let answer = rig.pipeline.answer(caller(), question("capital of France")).await;
        assert_eq!(answer.is_ok(), late, "{kind:?}");
    }
    let cases: [(&str, bool, Change); 8] = [
        ("up to an hour and a second", true, |wishes| wishes.late_by_on_error(HOUR + SECOND)),
        ("up to an hour", false, |wishes| wishes.late_by_on_error(HOUR)),
        ("never", false, |wishes| wishes.late_by_on_error(Duration::ZERO)),
        ("a fresh one", false, |wishes| wishes.read = false),
        ("a fresh one, if there is any", true, |wishes| {
            wishes.read = false;
            wishes.late_by_on_error(Duration::MAX);
        }),
        ("a young one", false, |wishes| wishes.no_older_than(2 * MONTH)),
        ("nothing kept", false, |wishes| {
            wishes.bypass();
            wishes.late_by_on_error(Duration::MAX);
        }),
        ("later than configured", true, |wishes| wishes.late_by_on_error(Duration::MAX)),
    ];
    for (what, given, change) in cases {
        let rig = failing(Kind::Server).await;
        let answer = rig.pipeline.answer(wishing(change), question("capital of France")).await;
        assert_eq!(answer.is_ok(), given, "{what}");
    }
    let rig = failing(Kind::Server).await;
    rig.clock.advance(24 * HOUR);
    let greedy = wishing(|wishes| wishes.late_by_on_error(Duration::MAX));
    assert!(rig.pipeline.answer(greedy, question("capital of France")).await.is_err(), "clamped");
}

#[tokio::test]
async fn a_late_answer_of_the_provider_is_better_than_one_of_a_stand_in() {
    let primary = scripted([Step::say("the real one"), Step::Fail(Kind::Overloaded)]);
    let local = Arc::new(Scripted::local([Step::say("a guess")]));
    let link =
        |upstream: &Arc<Scripted>| Link::new(Arc::clone(upstream) as Arc<dyn Upstream>, vec!["*".into()]);
    let chain = Chain::new("chain", vec![link(&primary), link(&local)]);
    let rig = Rig::new(Arc::new(chain), Arc::new(Memory::default()));
    rig.ask(question("q")).await;
    rig.clock.advance(MONTH);
    assert_eq!(rig.ask(question("q")).await, said("exact", "the real one"));
    assert_eq!(local.live(), 0, "the stand-in stops");
    assert_eq!(rig.ask(question("never asked before")).await, said("local", "a guess"));
    rig.clock.advance(24 * HOUR);
    assert_eq!(rig.ask(question("q")).await, said("local", "a guess"));
}

fn revalidating() -> Config {
    Config { stale_while_revalidate: HOUR, ..Config::default() }
}

#[tokio::test]
async fn a_late_answer_is_given_at_once_and_asked_afresh_meanwhile() {
    let upstream = scripted([Step::say("old"), Step::say("new")]);
    let rig = rig(&upstream, revalidating());
    rig.ask(question("capital of France")).await;
    rig.clock.advance(MONTH + HOUR.saturating_sub(SECOND));
    assert_eq!(rig.ask(question("capital of France")).await, said("exact", "old"));
    eventually("it is asked afresh", || rig.told.lock().unwrap().iter().any(|outcome| outcome.refresh)).await;
    eventually("and that ends", || rig.pipeline.refresher.running() == 0).await;
    rig.pipeline.cache.drain().await;
    let refresh = rig.told.lock().unwrap().iter().find(|outcome| outcome.refresh).cloned().unwrap();
    assert_eq!((refresh.ended, refresh.kept), (Ended::Complete, Some(Ok(()))));
    assert_eq!(rig.ask(question("capital of France")).await, said("exact", "new"));
    assert_eq!(rig.ask(question("Capital of France?")).await, said("semantic", "new"), "in other words, too");
    assert_eq!(upstream.calls(), 2);
    let metrics = Metrics::new(Prices::default());
    rig.told.lock().unwrap().iter().for_each(|outcome| metrics.record(outcome));
    let counted = metrics.encode();
    for line in [
        "weir_requests_total{route_id=\"default\",status=\"complete\",method=\"POST\"} 4",
        "weir_cache_refreshes_total{status=\"complete\"} 1",
        "weir_cache_hits_total{route_id=\"default\",tier=\"stale\"} 1",
        "weir_upstream_requests_total{upstream_name=\"primary\",status=\"ok\"} 2",
    ] {
        assert!(counted.contains(line), "{line} is not in\n{counted}");
    }
    rig.clock.advance(MONTH + HOUR);
    assert_eq!(rig.ask(question("capital of France")).await.0, "upstream", "too late");
}

#[tokio::test]
async fn what_is_asked_afresh_is_asked_once_and_ends_with_the_pipeline() {
    let upstream = scripted([Step::say("old"), Step::SayThenStall("ne".into())]);
    let rig = rig(&upstream, revalidating());
    rig.ask(question("q")).await;
    rig.clock.advance(MONTH);
    for _ in 0..5 {
        assert_eq!(rig.ask(question("q")).await, said("exact", "old"));
    }
    eventually("it is asked afresh", || upstream.live() == 1).await;
    assert_eq!((upstream.calls(), rig.pipeline.refresher.running()), (2, 1));
    drop(rig);
    eventually("it is dropped", || upstream.live() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_afresh_is_bounded_in_number_and_time() {
    let first = (0..40).map(|_| Step::say("old"));
    let upstream = scripted(first.chain([Step::SayThenStall("ne".into())]));
    let rig = rig(&upstream, revalidating());
    for number in 0..40 {
        rig.ask(question(&format!("question {number}"))).await;
    }
    rig.clock.advance(MONTH);
    for number in 0..40 {
        assert_eq!(rig.ask(question(&format!("question {number}"))).await.0, "exact");
    }
    assert_eq!(rig.pipeline.refresher.running(), 16);
    tokio::time::sleep(Duration::from_mins(11)).await;
    assert_eq!((rig.pipeline.refresher.running(), upstream.live()), (0, 0));
    let late = rig.told.lock().unwrap().iter().filter(|told| told.ended == Ended::Deadline).count();
    assert_eq!(late, 16);
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_what_is_there() {
    let upstream = scripted([Step::say("old"), Step::Fail(Kind::Server)]);
    let rig = rig(&upstream, revalidating());
    rig.ask(question("q")).await;
    rig.clock.advance(MONTH);
    for _ in 0..2 {
        assert_eq!(rig.ask(question("q")).await, said("exact", "old"));
        eventually("the refresh ends", || rig.pipeline.refresher.running() == 0).await;
    }
    assert!(
        rig.told.lock().unwrap().iter().any(|told| told.refresh && told.ended == Ended::Failed(Kind::Server))
    );
}

#[tokio::test]
async fn a_caller_takes_a_late_answer_as_far_as_that_is_configured() {
    let cases: [(Duration, Option<Duration>, &str); 4] = [
        (Duration::ZERO, Some(Duration::MAX), "upstream"),
        (HOUR, None, "upstream"),
        (HOUR, Some(Duration::MAX), "exact"),
        (HOUR, Some(60 * SECOND), "upstream"),
    ];
    for (max_stale, wish, source) in cases {
        let upstream = scripted([Step::say("x")]);
        let rig = rig(&upstream, Config { max_stale, ..Config::default() });
        rig.ask(question("q")).await;
        rig.clock.advance(MONTH + 60 * SECOND);
        let caller = wishing(|wishes| wishes.max_stale = wish);
        assert_eq!(rig.ask_as(caller, question("q")).await.0, source, "{max_stale:?} {wish:?}");
    }
    // Offline, on purpose: nobody is asked, not even in the background.
    let upstream = scripted([Step::say("x")]);
    let rig = rig(&upstream, revalidating());
    rig.ask(question("q")).await;
    rig.clock.advance(MONTH);
    let offline = wishing(|wishes| wishes.only_if_cached = true);
    assert_eq!(rig.ask_as(offline, question("q")).await.0, "exact");
    assert_eq!((upstream.calls(), rig.pipeline.refresher.running()), (1, 0));
}
