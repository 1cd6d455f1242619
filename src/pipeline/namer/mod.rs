//! Asks a model which intent a question has, where examples do not tell: opt-in, and bounded in number and time.
//!
//! Only a name that was offered counts, and only where the model is sure of it. Whatever else comes of it is no intent,
//! and the request goes on: a model that is late, busy or broken is never more than a moment lost, and one that is so
//! again and again is left alone for a while.

mod odds;
mod prompt;

use super::second::{Answered, given};
use crate::chat::Usage;
use crate::intent::{Circumstances, Mind, Naming, Offered, Read, RuleSet, Verdict};
use crate::upstream::{Call, Priority, Upstream};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// The most questions that are asked at the same time; who comes then is not kept waiting.
const MOST_AT_ONCE: usize = 4;
/// The longest text that a model is asked about.
const LONGEST_TEXT: usize = 2 << 10;
/// So many failures in a row, and the model is left alone.
const FAILURES: u32 = 3;
/// For so long.
const PAUSE: Duration = Duration::from_secs(30);
/// How many answers are remembered: some hundred bytes each.
const MOST_KNOWN: usize = 1024;

/// What a model says an intent is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Opinion {
    /// The one offered at this place, and how sure it is; `None` where it does not tell.
    Names(usize, Option<f32>),
    /// No intent.
    Nothing(WhyNothing),
}

/// Why a model names no intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNothing {
    /// It says that it is none of those.
    None,
    /// It is not sure enough.
    Unsure,
    /// It says something else.
    Unclear,
    /// The text, or a name, is too long to be asked about.
    TooLong,
    /// It has failed, or another one would have answered in its place.
    Failed,
    /// It took too long.
    Late,
    /// Too many ask it already.
    Busy,
    /// It is left alone for a while, after failures.
    Paused,
}

impl WhyNothing {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Unsure,
        Self::Unclear,
        Self::TooLong,
        Self::Failed,
        Self::Late,
        Self::Busy,
        Self::Paused,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unsure => "unsure",
            Self::Unclear => "unclear",
            Self::TooLong => "too_long",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Busy => "busy",
            Self::Paused => "paused",
        }
    }

    /// Whether it would say so again.
    fn lasts(self) -> bool {
        matches!(self, Self::None | Self::Unsure | Self::Unclear)
    }
}

/// What has become of questions to a model, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamerCounts {
    /// Intents that were named.
    pub named: u64,
    /// Why there were none, by name.
    pub nothing: BTreeMap<&'static str, u64>,
    /// Of all of these, those that it had been asked before.
    pub known: u64,
    /// How long it was waited for, in milliseconds.
    pub waited_ms: u64,
    /// Tokens that it has read and written, where it said.
    pub tokens: u64,
}

/// The rule that a model has chosen, if it has.
#[derive(Debug, Default)]
pub struct Named<'r> {
    /// What it says.
    pub verdict: Option<Verdict<'r>>,
    /// What the model said, in a line, for whoever wonders; nothing where it was not asked.
    pub told: Option<String>,
}

/// Asks one model, for all requests.
pub struct Namer {
    naming: Naming,
    upstream: Arc<dyn Upstream>,
    places: Semaphore,
    state: Mutex<State>,
    counts: Counts,
}

/// What it was asked, of late: when the young ones are many, the old ones go.
#[derive(Default)]
struct State {
    young: HashMap<String, Opinion>,
    old: HashMap<String, Opinion>,
    /// In a row.
    failures: u32,
    paused_until: Option<Instant>,
}

#[derive(Default)]
struct Counts {
    named: AtomicU64,
    nothing: [AtomicU64; WhyNothing::ALL.len()],
    known: AtomicU64,
    waited_ms: AtomicU64,
    tokens: AtomicU64,
}

impl Namer {
    /// Asks `naming`'s model of `upstream`.
    pub fn new(naming: Naming, upstream: Arc<dyn Upstream>) -> Self {
        let places = Semaphore::new(MOST_AT_ONCE);
        Self { naming, upstream, places, state: Mutex::default(), counts: Counts::default() }
    }

    /// The model.
    pub fn model(&self) -> &str {
        &self.naming.model
    }

    /// Which of `rules` is meant by `text`, of those that may be.
    pub async fn choose<'r>(
        &self,
        rules: &'r RuleSet,
        who: (&Arc<str>, &str),
        text: &str,
        around: &Circumstances<'_>,
        learned: Option<(&Mind, &Read)>,
    ) -> Named<'r> {
        let offered = rules.offered(who.1, text, around, learned);
        if offered.is_empty() {
            return Named::default();
        }
        let opinion = self.ask(who, text, &offered).await;
        let verdict = match opinion {
            Opinion::Names(nth, score) => {
                offered.get(nth).and_then(|one| rules.as_offered(one, text, score.unwrap_or_default()))
            }
            Opinion::Nothing(_) => None,
        };
        let said = match (opinion, &verdict) {
            (Opinion::Names(_, Some(score)), Some(Verdict { intent, .. })) => {
                format!("{intent} ({score:.2})")
            }
            (Opinion::Names(..), Some(Verdict { intent, .. })) => (*intent).to_owned(),
            (Opinion::Names(..), None) => WhyNothing::None.name().to_owned(),
            (Opinion::Nothing(why), _) => why.name().to_owned(),
        };
        Named { verdict, told: Some(format!("{}, of {}: {said}", self.model(), offered.len())) }
    }

    /// Which of `offered` is meant by `text`, in the name of this tenant and project. Of none at all nobody is asked.
    pub async fn ask(
        &self,
        (tenant, project): (&Arc<str>, &str),
        text: &str,
        offered: &[Offered],
    ) -> Opinion {
        let opinion = self.opinion((tenant, project), text, offered).await;
        self.counts.count(opinion);
        opinion
    }

    async fn opinion(&self, who: (&Arc<str>, &str), text: &str, offered: &[Offered]) -> Opinion {
        let nothing = Opinion::Nothing;
        let names = prompt::names(offered).filter(|_| !offered.is_empty() && text.len() <= LONGEST_TEXT);
        let Some(names) = names else { return nothing(WhyNothing::TooLong) };
        let key = key(who, text, offered);
        if let Some(known) = self.lock().recall(&key) {
            self.counts.known.fetch_add(1, Ordering::Relaxed);
            return known;
        }
        if self.lock().is_paused(Instant::now()) {
            return nothing(WhyNothing::Paused);
        }
        let Ok(_place) = self.places.try_acquire() else { return nothing(WhyNothing::Busy) };
        let began = Instant::now();
        let opinion = self.asked(who, text, (offered, &names)).await;
        self.counts.waited_ms.fetch_add(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        let mut state = self.lock();
        match opinion {
            Opinion::Nothing(why) if !why.lasts() => {
                if state.failed(Instant::now()) {
                    tracing::warn!(
                        model = self.naming.model,
                        why = why.name(),
                        pause = ?PAUSE,
                        "the model that names intents fails again and again; it is left alone, and requests go on"
                    );
                }
            }
            opinion => state.remember(key, opinion),
        }
        opinion
    }

    async fn asked(
        &self,
        (tenant, project): (&Arc<str>, &str),
        text: &str,
        (offered, names): (&[Offered], &[&str]),
    ) -> Opinion {
        let Naming { model, sure, deadline } = &self.naming;
        let wants_odds = *sure > 0.0;
        let request = prompt::request(model, offered, names, text, wants_odds);
        let call = Call {
            // Somebody waits for what comes of it.
            priority: Priority::User,
            tenant: Arc::clone(tenant),
            project: project.into(),
            ..Call::within(*deadline)
        };
        let asked = timeout_at(call.deadline, given(self.upstream.as_ref(), &request, &call, |_| true)).await;
        let reply = match asked {
            Ok(Some(Answered { reply, .. })) => reply,
            Ok(None) => return Opinion::Nothing(WhyNothing::Failed),
            Err(_) => return Opinion::Nothing(WhyNothing::Late),
        };
        let Usage { input, output, .. } = reply.usage.unwrap_or_default();
        self.counts.tokens.fetch_add(input.saturating_add(output), Ordering::Relaxed);
        let Some(choice) = reply.choices.first() else { return Opinion::Nothing(WhyNothing::Unclear) };
        let Some(nth) = prompt::read(&choice.said(), names) else {
            return Opinion::Nothing(WhyNothing::Unclear);
        };
        if nth >= offered.len() {
            return Opinion::Nothing(WhyNothing::None);
        }
        let odds = odds::odds(&choice.logprobs, names, nth);
        match odds {
            _ if !wants_odds => Opinion::Names(nth, odds.map(|odds| odds as f32)),
            Some(odds) if odds >= *sure => Opinion::Names(nth, Some(odds as f32)),
            Some(_) | None => Opinion::Nothing(WhyNothing::Unsure),
        }
    }

    /// What has become of it all.
    pub fn counts(&self) -> NamerCounts {
        let Counts { named, nothing, known, waited_ms, tokens } = &self.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NamerCounts {
            named: read(named),
            nothing: WhyNothing::ALL
                .iter()
                .zip(nothing)
                .map(|(why, count)| (why.name(), read(count)))
                .collect(),
            known: read(known),
            waited_ms: read(waited_ms),
            tokens: read(tokens),
        }
    }

    /// Nothing in it is left half done by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells one question from others: a tenant never waits less for what another has asked.
fn key((tenant, project): (&Arc<str>, &str), text: &str, offered: &[Offered]) -> String {
    let mut key = format!("{tenant}\u{1f}{project}\u{1f}{text}");
    for Offered { name, examples, .. } in offered {
        key.push('\u{1f}');
        key.push_str(name);
        examples.iter().for_each(|example| {
            key.push('\u{1e}');
            key.push_str(example);
        });
    }
    key
}

impl State {
    fn recall(&mut self, key: &str) -> Option<Opinion> {
        if let Some(known) = self.young.get(key) {
            return Some(*known);
        }
        let (key, known) = self.old.remove_entry(key)?;
        self.young.insert(key, known);
        Some(known)
    }

    fn remember(&mut self, key: String, opinion: Opinion) {
        (self.failures, self.paused_until) = (0, None);
        if self.young.len() >= MOST_KNOWN / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, opinion);
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Counts a failure; whether that makes it one too many.
    fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let is_too_many = self.failures >= FAILURES;
        if is_too_many {
            self.paused_until = Some(now + PAUSE);
        }
        is_too_many
    }
}

impl Counts {
    fn count(&self, opinion: Opinion) {
        let counter = match opinion {
            Opinion::Names(..) => &self.named,
            Opinion::Nothing(why) => &self.nothing[why as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Reply;
    use crate::intent::{Circumstances, parse};
    use crate::sim::{Scripted, Step};
    use crate::upstream::Kind;
    use serde_json::json;

    fn offered() -> Vec<Offered> {
        let rules = "[[rule]]\nname = 'lost'\nanswer = 'x'\nexamples = ['my card is gone']\n\
             [[rule]]\nname = 'rate'\nanswer = 'x'\nexamples = ['what is the rate']\n";
        parse(rules).unwrap().offered("p", "x", &Circumstances::default(), None)
    }

    /// An answer, and how likely it was beside the other one.
    fn says(name: &str, share: f64) -> Step {
        let text = format!("{{\"intent\":\"{name}\"}}");
        let mut reply = Reply::text("m", &text);
        let one = |text: &str, share: f64| json!({ "token": text, "bytes": text.as_bytes(), "logprob": share.ln() });
        let mut token = one(&text, share);
        token["top_logprobs"] = json!([
            one(&text, share),
            one("{\"intent\":\"rate", 1.0 - share),
            one("{\"intent\":\"none", 1e-9)
        ]);
        reply.choices[0].logprobs = vec![token];
        Step::Say(reply)
    }

    fn namer(sure: f64, steps: Vec<Step>) -> (Namer, Arc<Scripted>) {
        let model = Arc::new(Scripted::new("m", steps));
        let naming = Naming { sure, ..Naming::by("m") };
        (Namer::new(naming, Arc::clone(&model) as Arc<dyn Upstream>), model)
    }

    async fn ask(namer: &Namer, text: &str) -> Opinion {
        namer.ask((&"t".into(), "p"), text, &offered()).await
    }

    fn why(opinion: Opinion) -> &'static str {
        match opinion {
            Opinion::Names(..) => "named",
            Opinion::Nothing(why) => why.name(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_name_that_it_is_sure_of_counts() {
        let plain = || Step::say("{\"intent\": \"lost\"}");
        let cases = [
            (0.9, says("lost", 0.95), "named"),
            (0.9, says("lost", 0.85), "unsure"),
            // It does not say how sure it is.
            (0.9, plain(), "unsure"),
            (0.0, plain(), "named"),
            (0.0, Step::say("{\"intent\": \"none\"}"), "none"),
            (0.0, Step::say("{\"intent\": \"other\"}"), "unclear"),
            (0.0, Step::say("Well, I lost it"), "unclear"),
            (0.0, Step::say(""), "unclear"),
            (0.0, Step::Fail(Kind::Server), "failed"),
            (0.0, Step::SayThenCut("{\"intent\": \"lost\"}".into()), "failed"),
            (0.0, Step::Stall, "late"),
            (0.0, Step::SayThenStall("{\"intent\": \"lost\"}".into()), "late"),
        ];
        for (sure, step, expected) in cases {
            let (namer, _) = namer(sure, vec![step.clone()]);
            let began = Instant::now();
            let opinion = ask(&namer, "where is it").await;
            assert_eq!(why(opinion), expected, "{step:?}");
            assert!(began.elapsed() <= Duration::from_secs(2));
        }
        let (sure, _) = namer(0.9, vec![says("lost", 0.95)]);
        let Opinion::Names(0, Some(share)) = ask(&sure, "where is it").await else { panic!() };
        assert!((share - 0.95).abs() < 1e-3);
    }

    #[tokio::test]
    async fn what_it_has_said_is_not_asked_again_by_the_same() {
        let (namer, model) = namer(0.0, vec![Step::say("lost")]);
        for _ in 0..3 {
            assert_eq!(why(ask(&namer, "where is it").await), "named");
        }
        assert_eq!(model.calls(), 1);
        let other: Arc<str> = "other".into();
        namer.ask((&other, "p"), "where is it", &offered()).await;
        namer.ask((&other, "q"), "where is it", &offered()).await;
        namer.ask((&other, "q"), "where is it", &offered()[..1]).await;
        assert_eq!(model.calls(), 4);
        let NamerCounts { named, known, nothing, .. } = namer.counts();
        assert_eq!((named, known, nothing.values().sum::<u64>()), (6, 2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_again_and_again_is_left_alone_for_a_while() {
        let (namer, model) =
            namer(0.0, vec![Step::Stall, Step::Fail(Kind::Server), Step::Stall, Step::say("rate")]);
        for expected in ["late", "failed", "late", "paused", "paused"] {
            assert_eq!(why(ask(&namer, "where is it").await), expected);
        }
        assert_eq!(model.calls(), 3);
        tokio::time::sleep(PAUSE).await;
        assert_eq!(why(ask(&namer, "where is it").await), "named");
        assert_eq!(why(ask(&namer, "and another").await), "named");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_place() {
        let (namer, model) = namer(0.0, vec![Step::Stall]);
        let texts: Vec<String> = (0..=MOST_AT_ONCE).map(|nth| nth.to_string()).collect();
        let all = futures_util::future::join_all(texts.iter().map(|text| ask(&namer, text))).await;
        let busy = all.iter().filter(|opinion| why(**opinion) == "busy").count();
        assert_eq!((busy, model.calls()), (1, MOST_AT_ONCE));
        assert_eq!(model.live(), 0, "who is late is not waited for in secret");
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_asked() {
        let (namer, model) = namer(0.0, vec![Step::say("lost")]);
        assert_eq!(why(ask(&namer, &"x".repeat(LONGEST_TEXT + 1)).await), "too_long");
        assert_eq!(model.calls(), 0);
    }

    #[test]
    fn each_reason_has_its_own_place_among_the_counts() {
        for (place, why) in WhyNothing::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, place);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut state = State::default();
        for nth in 0..3 * MOST_KNOWN {
            state.remember(nth.to_string(), Opinion::Nothing(WhyNothing::None));
            assert!(state.recall("0").is_some() || nth > 0);
        }
        assert!(state.young.len() + state.old.len() <= MOST_KNOWN);
    }
}
