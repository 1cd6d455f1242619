//! The path, with sim plugs: what is asked of whom, what is remembered, and what never is.

use crate::kit::{Rig, caller, eventually, question, streamed, whole};
use std::sync::Arc;
use std::time::Duration;
use weir::cache::{self, Miss, NotKept, Semantic, Wishes};
use weir::chat::{Block, Choice, Event, Finish, Protocol, Reply, Request, ToolCall, Usage};
use weir::limits;
use weir::pipeline::{Caller, Ended, Source};
use weir::sim::store::Fault;
use weir::sim::{Faulty, Scripted, Step};
use weir::store::guarded::{self, Guarded};
use weir::store::memory::Memory as MemoryStore;
use weir::upstream::chain::{Chain, Link};
use weir::upstream::{Kind, Upstream};

fn scripted(steps: impl IntoIterator<Item = Step>) -> Arc<Scripted> {
    Arc::new(Scripted::new("primary", steps))
}

fn rig(upstream: &Arc<Scripted>) -> Rig {
    Rig::new(Arc::clone(upstream) as Arc<dyn Upstream>, Arc::new(MemoryStore::default()))
}

#[tokio::test]
async fn a_question_is_asked_once_and_then_known_in_any_order_of_words() {
    let upstream = scripted([Step::say("Paris")]);
    let rig = rig(&upstream);
    assert_eq!(rig.ask(question("capital of France?")).await, ("upstream".into(), "Paris".into()));
    assert_eq!(rig.last().miss, Some(Miss::Absent));
    assert_eq!(rig.last().kept, Some(Ok(())));
    assert_eq!(rig.ask(question("capital of France?")).await, ("exact".into(), "Paris".into()));
    assert_eq!(rig.ask(streamed("capital of France?")).await.0, "exact", "a stream is the same question");
    assert_eq!(rig.ask(question("Capital of France")).await, ("semantic".into(), "Paris".into()));
    assert_eq!(rig.ask(question("capital of Spain?")).await.0, "upstream");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_rule_beats_the_cache() {
    let store = Arc::new(MemoryStore::default());
    let upstream = scripted([Step::say("from the model")]);
    let before = Rig::new(Arc::clone(&upstream) as Arc<dyn Upstream>, Arc::clone(&store) as _);
    before.ask(question("ping")).await;
    assert_eq!(before.ask(question("ping")).await.0, "exact");
    let rules = weir::intent::parse("[[rule]]\nname='ping'\npattern='^ping$'\nanswer='pong'").unwrap();
    let after = Rig::with(upstream, store, rules, limits::Config::default());
    assert_eq!(after.ask(question("ping")).await, ("rule".into(), "pong".into()));
    assert_eq!(after.last().source, Some(Source::Rule { rule: "ping".into() }));
}

#[tokio::test]
async fn other_numbers_and_opposites_are_never_served() {
    let upstream = scripted([Step::say("a"), Step::say("b"), Step::say("c"), Step::say("d")]);
    let rig = rig(&upstream);
    rig.ask(question("please mute the channel of the second guitar in track 3")).await;
    let (source, _) = rig.ask(question("please mute the channel of the second guitar in track 4")).await;
    assert_eq!((source.as_str(), rig.last().miss), ("upstream", Some(Miss::OtherNumbers)));
    rig.ask(question("3 4")).await;
    rig.ask(question("4 3")).await;
    assert_eq!(rig.last().miss, Some(Miss::OtherOrder));
}

#[tokio::test]
async fn tenants_projects_and_conversations_never_share() {
    let upstream = scripted([Step::say("x")]);
    let rig = rig(&upstream);
    rig.ask(question("hello there")).await;
    let other_tenant = Caller { tenant: "t2".into(), ..caller() };
    let other_project = Caller { project: "p2".into(), ..caller() };
    assert_eq!(rig.ask_as(other_tenant, question("hello there")).await.0, "upstream");
    assert_eq!(rig.ask_as(other_project, question("hello there")).await.0, "upstream");
    let mut later = question("hello there");
    later.messages.insert(0, weir::chat::Message::text(weir::chat::Role::System, "be brief"));
    assert_eq!(rig.ask(later).await.0, "upstream");
    assert_eq!(rig.ask(question("hello there")).await.0, "exact");
}

#[tokio::test]
async fn a_broken_store_is_a_miss_and_never_an_error() {
    let upstream = scripted([Step::say("fine")]);
    let (store, switch) = Faulty::new(MemoryStore::default());
    let rig = Rig::new(Arc::clone(&upstream) as Arc<dyn Upstream>, Arc::new(store));
    switch.set(Fault::Fail);
    assert_eq!(rig.ask(question("anything")).await, ("upstream".into(), "fine".into()));
    assert_eq!(rig.last().miss, Some(Miss::StoreFailed));
    switch.set(Fault::Off);
    assert_eq!(rig.ask(question("anything")).await.0, "upstream", "what could not be written is not known");
    assert_eq!(rig.ask(question("anything")).await.0, "exact");
}

#[tokio::test]
async fn a_store_that_hangs_costs_its_deadline_and_no_more() {
    let (store, switch) = Faulty::new(MemoryStore::default());
    let guard = guarded::Config { deadline: Duration::from_millis(50), ..guarded::Config::default() };
    let rig = Rig::new(scripted([Step::say("fine")]), Arc::new(Guarded::new(store, guard)));
    switch.set(Fault::Stall);
    let answer = rig.pipeline.answer(caller(), question("anything"));
    let answer = tokio::time::timeout(Duration::from_mins(1), answer).await.expect("not held up").unwrap();
    assert_eq!(answer.source.name(), "upstream");
    assert_eq!(answer.source.miss(), Some(Miss::StoreFailed));
    switch.set(Fault::Off);
}

#[tokio::test]
async fn a_cut_stream_is_not_stored() {
    let upstream = scripted([Step::SayThenCut("half an ans".into()), Step::say("whole")]);
    let rig = rig(&upstream);
    let answer = rig.pipeline.answer(caller(), streamed("tell me")).await.unwrap();
    assert_eq!(whole(answer).await.unwrap_err(), "primary: the stream was cut");
    assert_eq!(rig.last().ended, Ended::Cut(Kind::Cut));
    assert_eq!(rig.ask(streamed("tell me")).await, ("upstream".into(), "whole".into()));
}

#[tokio::test]
async fn only_complete_plain_answers_are_stored() {
    let finish = |finish| Reply {
        choices: vec![Choice { finish: Some(finish), ..Choice::text("x") }],
        ..Reply::default()
    };
    let mut tool_call = finish(Finish::ToolCalls);
    tool_call.choices[0].blocks.push(Block::ToolCall(ToolCall::default()));
    let cases = [
        (finish(Finish::Length), NotKept::Unfinished),
        (finish(Finish::ContentFilter), NotKept::Unfinished),
        (tool_call, NotKept::CallsTools),
        (Reply::text("m", ""), NotKept::Empty),
    ];
    for (reply, why) in cases {
        let rig = rig(&scripted([Step::Say(reply)]));
        rig.ask(question("q")).await;
        assert_eq!(rig.last().kept, Some(Err(why)));
        assert_eq!(rig.ask(question("q")).await.0, "upstream");
    }
}

#[tokio::test]
async fn a_client_who_leaves_cancels_the_upstream_call() {
    let upstream = scripted([Step::SayThenStall("well,".into())]);
    let rig = rig(&upstream);
    let answer = rig.pipeline.answer(caller(), streamed("a long story")).await.unwrap();
    assert_eq!(upstream.live(), 1);
    drop(answer);
    assert_eq!(upstream.live(), 0);
    assert_eq!(rig.last().ended, Ended::ClientGone);
}

#[tokio::test]
async fn a_client_who_leaves_before_the_first_chunk_is_told_too() {
    let upstream = scripted([Step::Stall]);
    let rig = Arc::new(rig(&upstream));
    let asking = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move { rig.pipeline.answer(caller(), question("slow")).await.map(|_| ()) }
    });
    eventually("the upstream is asked", || upstream.calls() == 1).await;
    asking.abort();
    eventually("the observer is told", || !rig.told.lock().unwrap().is_empty()).await;
    assert_eq!(rig.last().ended, Ended::ClientGone);
}

#[tokio::test]
async fn the_local_model_stands_in_and_is_never_remembered_as_another() {
    let primary = scripted([Step::Fail(Kind::Unsupported), Step::say("the real one")]);
    let local = Arc::new(Scripted::local([Step::say("a guess")]));
    let link =
        |upstream: &Arc<Scripted>| Link::new(Arc::clone(upstream) as Arc<dyn Upstream>, vec!["*".into()]);
    let chain = Chain::new("chain", vec![link(&primary), link(&local)]);
    let rig = Rig::new(Arc::new(chain), Arc::new(MemoryStore::default()));
    assert_eq!(rig.ask(question("q")).await, ("local".into(), "a guess".into()));
    assert_eq!(rig.last().failed, [("primary".into(), Kind::Unsupported)]);
    assert_eq!(rig.last().kept, None);
    assert_eq!(rig.ask(question("q")).await, ("upstream".into(), "the real one".into()));
    // Where the local model is what was asked for, its answers are remembered, apart from all others.
    let to_local = || Request { model: "local/smollm2".into(), ..question("q") };
    assert_eq!(rig.ask(to_local()).await.0, "local");
    assert_eq!(rig.ask(to_local()).await, ("exact".into(), "a guess".into()));
}

#[tokio::test]
async fn an_answer_is_served_until_its_time_is_over() {
    let upstream = scripted([Step::say("x")]);
    let rig = rig(&upstream);
    rig.ask(question("q")).await;
    rig.clock.advance(Duration::from_hours(30 * 24) - Duration::from_millis(1));
    let answer = rig.pipeline.answer(caller(), question("q")).await.unwrap();
    assert_eq!(answer.source.age(), Some(Duration::from_hours(30 * 24) - Duration::from_millis(1)));
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(rig.ask(question("q")).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::Expired));
    assert_eq!(rig.ask(question("q")).await.0, "exact", "the fresh one has taken its place");
}

#[tokio::test]
async fn callers_can_make_memory_stricter() {
    let upstream = scripted([Step::say("one"), Step::say("two"), Step::say("three")]);
    let rig = rig(&upstream);
    let with = |read, write| Caller { memory: Wishes { read, write, ..Wishes::default() }, ..caller() };
    assert_eq!(rig.ask_as(with(false, false), question("q")).await.1, "one");
    assert_eq!(rig.ask_as(with(false, true), question("q")).await.1, "two");
    assert_eq!(rig.ask(question("q")).await, ("exact".into(), "two".into()));
    assert_eq!(rig.ask_as(with(false, true), question("What now")).await.1, "three");
    assert_eq!(rig.ask(question("What now")).await, ("exact".into(), "three".into()));
    assert_eq!(
        rig.ask(question("what now?")).await,
        ("semantic".into(), "three".into()),
        "a refresh is found in other words"
    );
}

#[tokio::test]
async fn an_answer_is_known_the_moment_its_last_event_is_given() {
    use futures_util::StreamExt as _;
    let rig = rig(&scripted([Step::say("x"), Step::Stall]));
    let mut answer = rig.pipeline.answer(caller(), question("q")).await.unwrap();
    while let Some(chunk) = answer.chunks.next().await {
        if chunk.unwrap().events.contains(&Event::End) {
            break;
        }
    }
    // Neither is the answer dropped, nor has the writer had a chance to run.
    let again = rig.pipeline.answer(caller(), question("q")).await.unwrap();
    assert_eq!(again.source.name(), "exact");
}

#[tokio::test]
async fn more_than_the_limit_is_refused_and_told() {
    let upstream = scripted([Step::SayThenStall("x".into())]);
    let limits = limits::Config { concurrent_requests: 1, ..limits::Config::default() };
    let rig = Rig::with(upstream, Arc::new(MemoryStore::default()), weir::intent::RuleSet::default(), limits);
    let first = rig.pipeline.answer(caller(), question("a")).await.unwrap();
    assert!(rig.pipeline.answer(caller(), question("b")).await.is_err());
    assert_eq!(rig.last().ended, Ended::Refused("concurrency"));
    drop(first);
    assert!(rig.pipeline.answer(caller(), question("c")).await.is_ok());
}

#[tokio::test]
async fn whoever_has_spent_a_budget_is_refused_and_memory_costs_nothing() {
    let usage = Some(Usage { input: 60, output: 40, ..Usage::default() });
    let upstream = scripted([Step::Say(Reply { usage, ..Reply::text("m", "x") })]);
    let budget = limits::Budget { tokens: 150, every: Duration::from_hours(1) };
    let limit = limits::Limit {
        name: "tenants".into(),
        per: limits::Per::Tenant,
        budget: Some(budget),
        ..limits::Limit::default()
    };
    let limits = limits::Config { limits: vec![limit], ..limits::Config::default() };
    let rig = Rig::with(upstream, Arc::new(MemoryStore::default()), weir::intent::RuleSet::default(), limits);
    assert_eq!(rig.ask(question("a")).await.0, "upstream");
    for _ in 0..5 {
        assert_eq!(rig.ask(question("a")).await.0, "exact");
    }
    assert_eq!(rig.ask(question("something else")).await.0, "upstream", "a hundred of them are spent");
    let refused = rig.pipeline.answer(caller(), question("a")).await.unwrap_err();
    assert!(refused.to_string().contains("budget"), "{refused}");
    assert_eq!((rig.last().ended, rig.last().limit.as_deref()), (Ended::Refused("budget"), Some("tenants")));
    let another = Caller { tenant: "another".into(), ..caller() };
    assert_eq!(rig.ask_as(another, question("a")).await.0, "upstream");
}

#[tokio::test]
async fn without_an_encoder_the_exact_tier_still_works() {
    let mut rig = rig(&scripted([Step::say("x")]));
    rig.pipeline.embedder = None;
    assert_eq!(rig.ask(question("q")).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::SemanticOff));
    assert_eq!(rig.ask(question("q")).await.0, "exact");
}

#[tokio::test]
async fn a_text_to_go_on_with_is_answered_from_memory_only_word_for_word() {
    let rig = rig(&scripted([Step::say("x"), Step::say("y")]));
    let prompt = |text: &str| {
        let mut request = question(text);
        request.received.protocol = Protocol::OpenAiCompletions;
        request
    };
    rig.ask(prompt("capital of France?")).await;
    assert_eq!(rig.ask(prompt("capital of France?")).await.0, "exact");
    assert_eq!(rig.ask(prompt("Capital of France")).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::Continuation));
    assert_eq!(rig.ask(question("capital of France?")).await.0, "upstream", "a chat is something else");
}

#[tokio::test]
async fn a_text_longer_than_the_encoder_reads_is_never_a_semantic_hit() {
    let rig = rig(&scripted([Step::say("x")]));
    for (words, miss) in [(70, Miss::PartlyRead), (300, Miss::TooLong), (10_000, Miss::TooLong)] {
        let long = "word ".repeat(words);
        rig.ask(question(&long)).await;
        assert_eq!(rig.ask(question(&long)).await.0, "exact");
        assert_eq!(rig.ask(question(&format!("{long} and more"))).await.0, "upstream");
        assert_eq!(rig.last().miss, Some(miss), "{words} words");
    }
}

#[tokio::test]
async fn in_shadow_nothing_is_served_in_other_words() {
    let upstream = scripted([Step::say("x")]);
    let rig =
        rig(&upstream).remembering(cache::Config { semantic: Semantic::Shadow, ..cache::Config::default() });
    rig.ask(question("capital of France?")).await;
    assert_eq!(rig.ask(question("capital of France?")).await.0, "exact");
    assert_eq!(rig.ask(question("Capital of France")).await.0, "upstream");
    assert_eq!(rig.last().miss, Some(Miss::Shadow));
}
