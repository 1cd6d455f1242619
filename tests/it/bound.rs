//! What the pipeline learns from misses and from checks, and what it never does for it.

use crate::kit::{Rig, caller, eventually, question, unchecked};
use std::sync::Arc;
use std::time::Duration;
use weir::cache::bound::{Config, Evidence, Report};
use weir::cache::{self, Miss, Semantic};
use weir::pipeline::Caller;
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::upstream::{Kind, Upstream};

fn scripted(answers: &[&str]) -> Arc<Scripted> {
    Arc::new(Scripted::new("primary", answers.iter().map(|answer| Step::say(answer))))
}

fn rig(upstream: &Arc<Scripted>, semantic: Semantic, bound: Config) -> Rig {
    let rig = Rig::new(Arc::clone(upstream) as Arc<dyn Upstream>, Arc::new(Memory::default()));
    rig.remembering(cache::Config { semantic, bound, ..cache::Config::default() })
}

impl Rig {
    fn bound(&self) -> Report {
        self.pipeline.cache.bound().report()
    }

    async fn learned(&self) -> Evidence {
        self.pipeline.learner.close().await;
        self.bound().evidence
    }
}

/// Checks every hit.
fn checked() -> Config {
    Config { check_share: 1.0, ..unchecked() }
}

#[tokio::test]
async fn a_miss_that_had_a_nominee_is_a_label_for_free() {
    let upstream = scripted(&["It is Paris.", "It is Paris!", "It is Rome."]);
    let rig = rig(&upstream, Semantic::Shadow, unchecked());
    rig.ask(question("capital of France?")).await;
    assert_eq!(rig.learned().await, Evidence::default(), "nothing was nominated");
    rig.ask(question("Capital of France")).await;
    assert_eq!(rig.learned().await, Evidence { same: 1, ..Evidence::default() });
    rig.ask(question("of France capital")).await;
    assert_eq!(rig.learned().await, Evidence { same: 1, different: 1, ..Evidence::default() });
    assert_eq!((rig.bound().requests, rig.bound().served), (3, 2), "what it would have served");
    assert_eq!(upstream.calls(), 3, "nothing was asked for it");
}

#[tokio::test]
async fn what_is_not_a_whole_plain_answer_is_no_label() {
    let steps = [Step::say("It is Paris."), Step::SayThenCut("It is".into()), Step::Fail(Kind::Server)];
    let upstream = Arc::new(Scripted::new("primary", steps));
    let rig = rig(&upstream, Semantic::Shadow, unchecked());
    rig.ask(question("capital of France?")).await;
    for _ in 0..2 {
        if let Ok(answer) = rig.pipeline.answer(caller(), question("Capital of France")).await {
            let _ = crate::kit::whole(answer).await;
        }
    }
    assert_eq!(rig.learned().await, Evidence::default());
}

#[tokio::test]
async fn a_hit_is_served_at_once_and_checked_behind_it() {
    let upstream = scripted(&["It is Paris.", "It is Paris."]);
    let rig = rig(&upstream, Semantic::On, checked());
    rig.ask(question("capital of France?")).await;
    assert_eq!(rig.ask(question("Capital of France")).await.0, "semantic");
    eventually("the check is answered", || rig.bound().evidence.same == 1).await;
    assert_eq!(upstream.calls(), 2);
    assert_eq!(rig.pipeline.learner.counts().checks, 1);
    assert_eq!(rig.ask(question("Capital of France")).await.0, "semantic", "a check is not remembered");
}

#[tokio::test]
async fn a_hit_that_was_wrong_is_not_served_again_to_the_same_question() {
    let upstream = scripted(&["It is Paris.", "It is Lyon."]);
    let rig = rig(&upstream, Semantic::On, checked());
    rig.ask(question("capital of France?")).await;
    assert_eq!(rig.ask(question("Capital of France")).await, ("semantic".into(), "It is Paris.".into()));
    eventually("the check is answered", || rig.bound().evidence.different == 1).await;
    assert_eq!(rig.ask(question("Capital of France")).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::Refuted));
    assert_eq!(rig.ask(question("capital of France?")).await.1, "It is Paris.", "nothing is removed");
    let other = Caller { tenant: "t2".into(), ..caller() };
    rig.ask_as(other.clone(), question("capital of France?")).await;
    let (source, _) = rig.ask_as(other, question("Capital of France")).await;
    assert_eq!(source, "semantic", "what one tenant found out is nothing to another");
}

#[tokio::test]
async fn a_repeat_that_is_checked_shows_how_much_answers_differ() {
    let upstream = scripted(&["A poem of rain and of a long road", "Verses about snow and one short path"]);
    let rig = rig(&upstream, Semantic::On, Config { check_share: 1.0, seed: Some(3), ..Config::default() });
    rig.ask(question("write a poem")).await;
    for _ in 0..40 {
        assert_eq!(rig.ask(question("write a poem")).await.0, "exact");
    }
    eventually("some are checked", || rig.pipeline.learner.counts().checks >= 2).await;
    let Evidence { same, different, .. } = rig.learned().await;
    assert_eq!((same, different), (0, 0), "a repeat says nothing about nominees");
}

#[tokio::test]
async fn the_stand_in_of_a_provider_checks_nothing() {
    let local = Arc::new(Scripted::local([Step::say("a guess")]));
    let rig = rig(&local, Semantic::On, checked());
    rig.ask(question("capital of France?")).await;
    assert_eq!(rig.ask(question("Capital of France")).await.0, "semantic");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(local.calls(), 1);
    assert_eq!(rig.learned().await, Evidence::default());
}

#[tokio::test]
async fn who_wants_nobody_asked_is_not_checked_either() {
    let upstream = scripted(&["It is Paris."]);
    let rig = rig(&upstream, Semantic::On, checked());
    rig.ask(question("capital of France?")).await;
    let mut offline = caller();
    offline.memory.only_if_cached = true;
    for asked in ["capital of France?", "Capital of France"] {
        rig.ask_as(offline.clone(), question(asked)).await;
    }
    rig.pipeline.learner.close().await;
    assert_eq!((upstream.calls(), rig.pipeline.learner.counts().checks), (1, 0));
}

#[tokio::test]
async fn checks_that_hang_hold_up_nobody() {
    let upstream = Arc::new(Scripted::new("primary", [Step::say("It is Paris."), Step::Stall]));
    let rig = rig(&upstream, Semantic::On, checked());
    rig.ask(question("capital of France?")).await;
    for _ in 0..100 {
        assert_eq!(rig.ask(question("Capital of France")).await.0, "semantic");
    }
    eventually("as many as may be are under way", || upstream.calls() == 5).await;
    let counts = rig.pipeline.learner.counts();
    assert!(counts.checks == 0 && counts.checks_dropped >= 30, "{counts:?}");
    let closing = tokio::time::timeout(Duration::from_mins(1), rig.pipeline.learner.close());
    closing.await.expect("it does not wait for them");
}
