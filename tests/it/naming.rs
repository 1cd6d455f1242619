//! A model that names intents where examples leave them open: opt-in, bounded, and never more than a moment lost.

use crate::kit::{Rig, caller, question};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use weir::chat::Reply;
use weir::embed::Encoder as _;
use weir::intent::{Circumstances, Mind, Naming, Read, parse};
use weir::pipeline::{Caller, Namer};
use weir::sim::{Scripted, Step, WordEncoder};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::Kind;
use weir::upstream::prices::Prices;

const RULES: &str = r#"
[[rule]]
name = "lost"
answer = "I have locked your card."
examples = [
    "I cannot find my card", "my card is gone", "I lost my card", "somebody took my card", "my card was stolen",
    "I left my card on the train",
]

[[rule]]
name = "rate"
intent = "exchange_rate"
answer = "1.1"
examples = [
    "what is the exchange rate", "how many dollars for a euro", "the rate of the pound today",
    "is the exchange rate good", "what do I get for a hundred euro", "exchange rate please",
]
projects = ["bank"]

[[rule]]
name = "short"
route = "small"
when = { max_words = 6 }
"#;

/// Near to one of them, and not near enough.
const OPEN: &str = "where may the card be";
/// Near to none of them.
const FAR: &str = "write a poem about seven mountains";

fn learned(rules: &weir::intent::Live) -> Mind {
    let lessons = rules.rules("", "").lessons().unwrap();
    let read = |text: &str| {
        let vector = WordEncoder.encode(&[text.into()]).unwrap().remove(0).vector;
        Some(Read { text: text.to_lowercase(), vector })
    };
    let read: Vec<Option<Read>> = lessons.texts().map(read).collect();
    lessons.trained(&read).unwrap()
}

/// A sidecar whose rules have been learned, and the model that names intents in it.
fn rig(naming: Naming, steps: impl IntoIterator<Item = Step>) -> (Rig, Arc<Scripted>) {
    let upstream = Arc::new(Scripted::new("primary", [Step::say("from the provider")]));
    let mut rig = Rig::new(upstream, Arc::new(Memory::default()));
    rig.pipeline.rules = parse(RULES).unwrap().into();
    rig.pipeline.rules.learn(Some(learned(&rig.pipeline.rules)));
    let model = Arc::new(Scripted::local(steps));
    rig.pipeline.namer = Some(Arc::new(Namer::new(naming, Arc::clone(&model) as _)));
    (rig, model)
}

fn at_its_word() -> Naming {
    Naming { sure: 0.0, ..Naming::by("local/m") }
}

async fn ask(rig: &Rig, project: &str, text: &str) -> (String, String) {
    rig.ask_as(Caller { project: project.into(), ..caller() }, question(text)).await
}

#[tokio::test]
async fn what_examples_leave_open_the_model_names() {
    let (rig, model) = rig(at_its_word(), [Step::say(r#"{"intent":"lost"}"#)]);
    assert_eq!(ask(&rig, "p", OPEN).await, ("rule".into(), "I have locked your card.".into()));
    assert_eq!(ask(&rig, "p", OPEN).await.0, "rule");
    assert_eq!(model.calls(), 1, "it is not asked the same again");
    assert_eq!(ask(&rig, "p", "I lost my card on the train").await.0, "rule");
    assert_eq!(model.calls(), 1, "of what examples tell it is not asked");
    assert_eq!(ask(&rig, "p", FAR).await.0, "upstream");
    assert_eq!(model.calls(), 1, "of what is near to nothing it is not asked");
}

#[tokio::test]
async fn without_one_nothing_changes() {
    let (mut rig, model) = rig(at_its_word(), [Step::say(r#"{"intent":"lost"}"#)]);
    rig.pipeline.namer = None;
    assert_eq!(ask(&rig, "p", OPEN).await.0, "upstream");
    assert_eq!(model.calls(), 0);
}

#[tokio::test]
async fn whatever_goes_wrong_the_request_goes_on() {
    let steps = [
        Step::say(r#"{"intent":"none"}"#),
        Step::say(r#"{"intent":"exchange_rate"}"#),
        Step::say("lost, I should say"),
        Step::Fail(Kind::Server),
        Step::SayThenCut(r#"{"intent":"lost"}"#.into()),
        Step::Stall,
    ];
    for step in steps {
        let naming = Naming { deadline: Duration::from_millis(50), ..at_its_word() };
        let (rig, model) = rig(naming, [step.clone()]);
        // In this project there is no exchange rate.
        assert_eq!(ask(&rig, "p", OPEN).await.0, "upstream", "{step:?}");
        assert_eq!((model.calls(), model.live()), (1, 0), "{step:?}");
        // What goes on is remembered as ever.
        let outcome = rig.last();
        assert_eq!(outcome.kept, Some(Ok(())), "{step:?}");
    }
}

#[tokio::test]
async fn it_must_be_sure() {
    let said = |share: f64| {
        let text = r#"{"intent":"lost"}"#;
        let mut reply = Reply::text("m", text);
        let one = |text: &str, share: f64| json!({ "token": text, "logprob": share.ln() });
        let mut token = one(text, share);
        token["top_logprobs"] = json!([one(text, share), one(r#"{"intent":"none"#, 1.0 - share)]);
        reply.choices[0].logprobs = vec![token];
        Step::Say(reply)
    };
    for (step, expected) in [
        (said(0.97), "rule"),
        (said(0.6), "upstream"),
        // It does not tell how sure it is.
        (Step::say(r#"{"intent":"lost"}"#), "upstream"),
    ] {
        let (rig, _) = rig(Naming::by("local/m"), [step.clone()]);
        assert_eq!(ask(&rig, "p", OPEN).await.0, expected, "{step:?}");
    }
}

#[tokio::test]
async fn conditions_alone_come_after_it() {
    let (rig, model) =
        rig(at_its_word(), [Step::say(r#"{"intent":"lost"}"#), Step::say(r#"{"intent":"none"}"#)]);
    assert_eq!(ask(&rig, "p", OPEN).await.1, "I have locked your card.");
    assert_eq!(ask(&rig, "p", "where may it be, the card").await.0, "upstream");
    assert_eq!((model.calls(), rig.last().answered_as.as_deref()), (2, Some("small")));
}

#[tokio::test]
async fn without_an_encoder_it_chooses_among_all_that_may_be_meant() {
    let (mut rig, model) = rig(at_its_word(), [Step::say(r#"{"intent":"exchange_rate"}"#)]);
    rig.pipeline.embedder = None;
    rig.pipeline.rules.learn(None);
    assert_eq!(ask(&rig, "bank", FAR).await, ("rule".into(), "1.1".into()));
    assert_eq!(ask(&rig, "p", FAR).await.0, "upstream", "here it is no such intent");
    assert_eq!(model.calls(), 2);
}

#[tokio::test]
async fn before_examples_are_learned_it_is_not_asked() {
    let (rig, model) = rig(at_its_word(), [Step::say(r#"{"intent":"lost"}"#)]);
    rig.pipeline.rules.learn(None);
    assert_eq!(ask(&rig, "p", OPEN).await.0, "upstream");
    assert_eq!(model.calls(), 0);
}

#[tokio::test]
async fn whoever_wonders_is_told_what_it_said() {
    let (rig, _) = rig(at_its_word(), [Step::say(r#"{"intent":"lost"}"#), Step::say(r#"{"intent":"none"}"#)]);
    let (tenant, around) = ("default".into(), Circumstances::default());
    let tried = rig.pipeline.try_rules((&tenant, "p"), OPEN, &around).await;
    assert_eq!((tried.rule.as_deref(), tried.model.as_deref()), (Some("lost"), Some("local/m, of 1: lost")));
    let tried = rig.pipeline.try_rules((&tenant, "p"), "where may it be, the card", &around).await;
    assert_eq!((tried.rule.as_deref(), tried.model.as_deref()), (Some("short"), Some("local/m, of 1: none")));
    let tried = rig.pipeline.try_rules((&tenant, "p"), "my card is gone", &around).await;
    assert_eq!((tried.rule.as_deref(), tried.model), (Some("lost"), None));

    let namer = rig.pipeline.namer.clone().unwrap();
    let metrics = Metrics::new(Prices::default()).with_namer(Arc::new(move || namer.counts())).encode();
    for line in [
        "weir_intent_model_total{result=\"named\"} 1",
        "weir_intent_model_total{result=\"none\"} 1",
        "weir_intent_model_total{result=\"late\"} 0",
        "weir_intent_model_known_total 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}
