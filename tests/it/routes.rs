//! Routes in front of memory: who would answer is part of what is remembered.

use crate::kit::{Rig, caller, question};
use std::sync::Arc;
use weir::chat::Request;
use weir::pipeline::Caller;
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::upstream::chain::{Chain, Link, Ward};
use weir::upstream::route::{self, Member, Route, Router, Routes, Sticky, Target, When};
use weir::upstream::strategy::{Facts, Strategy};
use weir::upstream::{Envelope, Kind, Upstream};

fn step(text: &str) -> route::Step {
    let (upstream, model) = text.split_once('=').map_or((text, None), |(name, model)| (name, Some(model)));
    route::Step { upstream: upstream.into(), model: model.map(Into::into) }
}

fn route(name: &str, strategy: Strategy, members: &[&str]) -> Route {
    Route {
        name: name.into(),
        when: When::default(),
        strategy,
        members: members.iter().map(|text| Member { to: Target::Upstream(step(text)), weight: 1 }).collect(),
        sticky: Sticky::Never,
        max_latency: None,
        hedge: None,
        mirror: None,
        last: None,
    }
}

fn rig(routes: Vec<Route>, upstreams: &[&Arc<Scripted>]) -> Rig {
    rig_and_ward(routes, upstreams).0
}

fn rig_and_ward(routes: Vec<Route>, upstreams: &[&Arc<Scripted>]) -> (Rig, Arc<Ward>) {
    let link = |upstream: &&Arc<Scripted>| {
        Link::new(Arc::clone(upstream) as Arc<dyn Upstream>, vec!["*".to_owned()])
    };
    let chain = Chain::new("chain", upstreams.iter().map(link).collect());
    let routes = Routes::new(routes, Arc::new(|_, _, _| Facts::default()), Some("local".into())).unwrap();
    let ward = Arc::clone(chain.ward());
    (Rig::new(Arc::new(Router::new(routes, Arc::new(chain))), Arc::new(Memory::default())), ward)
}

fn upstream(name: &str, steps: impl IntoIterator<Item = Step>) -> Arc<Scripted> {
    Arc::new(Scripted::new(name, steps))
}

fn asking(model: &str, text: &str) -> Request {
    Request { model: model.into(), ..question(text) }
}

#[tokio::test]
async fn an_alias_shares_answers_with_the_model_it_leads_to_and_with_no_other() {
    let a = upstream("a", [Step::say("from a")]);
    let aliases = vec![
        route("router.default", Strategy::Failover, &["a=gpt-5"]),
        route("router.other", Strategy::Failover, &["a=claude"]),
    ];
    let rig = rig(aliases, &[&a]);
    assert_eq!(rig.ask(asking("router.default", "what is a weir?")).await.0, "upstream");
    assert_eq!(rig.ask(asking("gpt-5", "what is a weir?")).await.0, "exact");
    assert_eq!(rig.ask(asking("router.other", "what is a weir?")).await.0, "upstream");
    assert_eq!(rig.ask(asking("claude", "what is a weir?")).await.0, "exact");
    assert_eq!(a.calls(), 2);
}

#[tokio::test]
async fn groups_that_are_compared_never_see_each_others_answers() {
    let (a, b) = (upstream("a", [Step::say("from a")]), upstream("b", [Step::say("from b")]));
    let rig = rig(vec![route("r", Strategy::Ab { percentage: 50.0 }, &["a=m", "b=m"])], &[&a, &b]);
    let mut said = Vec::new();
    for _ in 0..8 {
        said.push(rig.ask(asking("r", "what is a weir?")).await.1);
    }
    assert_eq!((a.calls(), b.calls()), (1, 1), "each asked once, and then remembered by its own group");
    let from_a = said.iter().filter(|said| *said == "from a").count();
    assert!((3..=5).contains(&from_a), "about half: {said:?}");
    assert_eq!(rig.ask(asking("m", "what is a weir?")).await.0, "upstream", "nobody else sees a group's");
}

#[tokio::test]
async fn another_models_answer_is_given_and_forgotten() {
    let a = upstream("a", [Step::Fail(Kind::Server), Step::say("from a")]);
    let b = upstream("b", [Step::say("from b")]);
    let (rig, ward) = rig_and_ward(vec![route("r", Strategy::Failover, &["a=large", "b=small"])], &[&a, &b]);
    let ask = || rig.ask(asking("r", "what is a weir?"));
    assert_eq!(ask().await, ("upstream".into(), "from b".into()));
    assert!(ward.reset(None), "it is well again");
    assert_eq!(ask().await, ("upstream".into(), "from a".into()), "the small model's was not kept");
    assert_eq!(ask().await, ("exact".into(), "from a".into()));
}

#[tokio::test]
async fn the_same_model_elsewhere_is_the_same_model() {
    let a = upstream("a", [Step::Fail(Kind::Server)]);
    let b = upstream("b", [Step::say("from b")]);
    let rig = rig(vec![route("r", Strategy::Failover, &["a=m", "b=m"])], &[&a, &b]);
    assert_eq!(rig.ask(asking("r", "what is a weir?")).await.0, "upstream");
    assert_eq!(rig.ask(asking("r", "what is a weir?")).await.0, "exact");
}

#[tokio::test]
async fn the_last_resort_answers_and_is_forgotten() {
    let a = upstream("a", [Step::Fail(Kind::Server)]);
    let local = Arc::new(Scripted::local([Step::say("from here")]));
    let last = Some("local".into());
    let rig = rig(vec![Route { last, ..route("r", Strategy::Failover, &["a=m"]) }], &[&a, &local]);
    for _ in 0..2 {
        assert_eq!(rig.ask(asking("r", "what is a weir?")).await, ("local".into(), "from here".into()));
    }
}

#[tokio::test]
async fn a_rule_goes_by_who_asks_and_the_route_is_told() {
    let (a, b) = (upstream("a", [Step::say("from a")]), upstream("b", [Step::say("from b")]));
    let search = When { headers: vec![("x-team".into(), "search*".into())], ..When::default() };
    let rig = rig(vec![Route { when: search, ..route("search", Strategy::Failover, &["b"]) }], &[&a, &b]);
    let from = |team: &str| Caller {
        envelope: Arc::new(Envelope { headers: vec![("x-team".into(), team.into())], ..Envelope::default() }),
        ..caller()
    };
    assert_eq!(rig.ask_as(from("search-eu"), question("one")).await.1, "from b");
    assert_eq!(rig.last().route.as_deref(), Some("search"));
    assert_eq!(rig.ask_as(from("ads"), question("two")).await.1, "from a");
    assert_eq!(rig.last().route, None);
}

#[tokio::test]
async fn a_route_that_leads_to_nobody_who_serves_the_model_is_no_route() {
    let a = upstream("a", [Step::say("from a")]);
    let chain = Chain::new("chain", vec![Link::new(Arc::clone(&a) as _, vec!["gpt-*".to_owned()])]);
    let every = When { models: vec!["*".into()], ..When::default() };
    let routes = vec![Route { when: every, ..route("r", Strategy::Failover, &["a"]) }];
    let routes = Routes::new(routes, Arc::new(|_, _, _| Facts::default()), None).unwrap();
    let rig = Rig::new(Arc::new(Router::new(routes, Arc::new(chain))), Arc::new(Memory::default()));
    let error = rig.pipeline.answer(caller(), asking("claude", "q")).await.unwrap_err();
    assert!(matches!(error, weir::pipeline::Error::Upstream(error) if error.kind == Kind::NoRoute));
    assert_eq!(rig.ask(asking("gpt-5", "q")).await.1, "from a");
}
