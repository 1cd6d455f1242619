use super::super::{Budget, BudgetRules, Preset};
use super::*;
use std::collections::HashSet;

/// As long as the sequences of events that are all tried.
const LENGTH: usize = 8;

/// The most calls under way at once.
const MOST_CALLS: usize = 3;

/// A unit, and the calls that are on their way to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct World {
    now: Moment,
    unit: Cooldown,
    calls: Vec<Sent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sent {
    at: Moment,
    probe: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Ask {
        alone: bool,
    },
    Answer,
    Fail(Reason, Option<u64>),
    Leave,
    Pass(u64),
    /// Up to the moment when it is worth to look again.
    PassUntilOver,
}

const EVENTS: [Event; 12] = [
    Event::Ask { alone: false },
    Event::Ask { alone: true },
    Event::Answer,
    Event::Fail(Reason::RateLimit, None),
    Event::Fail(Reason::RateLimit, Some(1)),
    Event::Fail(Reason::RateLimit, Some(600)),
    Event::Fail(Reason::ServerError, None),
    Event::Fail(Reason::Billing, None),
    Event::Leave,
    Event::Pass(1),
    Event::Pass(5_000),
    Event::PassUntilOver,
];

impl World {
    /// What can come of `event`: a call that ends may be the oldest or the youngest.
    fn after(&self, event: Event, rules: &Rules) -> Vec<Self> {
        let mut next = self.clone();
        match event {
            Event::Ask { alone } => next.ask(alone, rules),
            Event::Pass(time) => next.now.0 += time,
            Event::PassUntilOver => match self.unit.cooling() {
                Some((_, until)) if until > self.now => next.now = until,
                _ => return Vec::new(),
            },
            Event::Answer | Event::Fail(..) | Event::Leave => {
                let ends: HashSet<usize> = [0, self.calls.len().saturating_sub(1)]
                    .into_iter()
                    .filter(|at| *at < self.calls.len())
                    .collect();
                return ends.into_iter().map(|at| self.ended(at, event, rules)).collect();
            }
        }
        vec![next]
    }

    fn ask(&mut self, alone: bool, rules: &Rules) {
        if self.calls.len() == MOST_CALLS {
            return;
        }
        let cooling = self.unit.cooling();
        let foreseen = self.unit.verdict(self.now, rules, alone);
        let verdict = self.unit.ask(self.now, rules, alone);
        assert_eq!(verdict, foreseen, "looking says what asking does");
        match (cooling, verdict) {
            (None, verdict) => assert_eq!(verdict, Verdict::Ready, "a healthy unit is never skipped"),
            (Some(_), Verdict::Ready) => panic!("a cooling unit was asked: {self:?}"),
            (Some((reason, until)), Verdict::Probe) => {
                let may = self.now >= until || (alone && reason.may_be_tried_early());
                assert!(may, "a deadline was not kept: {self:?}");
                let another =
                    self.calls.iter().any(|call| call.probe && call.at.plus(rules.probe_every) > self.now);
                assert!(!another, "a second probe: {self:?}");
            }
            (Some(_), Verdict::Wait { until, .. }) => {
                assert!(until > self.now, "to be told to wait until now: {self:?}");
                return;
            }
        }
        self.calls.push(Sent { at: self.now, probe: verdict == Verdict::Probe });
    }

    fn ended(&self, at: usize, event: Event, rules: &Rules) -> Self {
        let mut next = self.clone();
        let Sent { at: began, probe } = next.calls.remove(at);
        let times = (began, self.now);
        match event {
            Event::Answer => next.unit.succeeded(times, probe, rules),
            Event::Fail(reason, wait) => {
                next.unit.failed(times, probe, (reason, wait.map(Duration::from_secs)), rules);
            }
            _ if probe => next.unit.abandoned(began),
            _ => {}
        }
        if let (Some((_, before)), Some((_, after))) = (self.unit.cooling(), next.unit.cooling()) {
            assert!(after >= before, "a deadline was shortened by {event:?}: {self:?}");
        }
        if self.unit.cooling().is_some() && next.unit.cooling().is_none() {
            assert!(probe && matches!(event, Event::Answer), "forgotten because of {event:?}: {self:?}");
        }
        next
    }
}

/// Every sequence of events up to its length; what came about in two ways is gone on from once.
fn try_all(rules: &Rules, length: usize) -> usize {
    let start = World { now: Moment(100), unit: Cooldown::default(), calls: Vec::new() };
    let mut reached: HashSet<World> = HashSet::from([start]);
    let mut edge: Vec<World> = reached.iter().cloned().collect();
    for _ in 0..length {
        let next = edge.iter().flat_map(|world| EVENTS.iter().flat_map(|event| world.after(*event, rules)));
        edge =
            next.collect::<HashSet<_>>().into_iter().filter(|world| reached.insert(world.clone())).collect();
    }
    reached.len()
}

#[test]
fn no_sequence_of_events_breaks_a_promise() {
    for (name, preset) in Preset::ALL {
        let reached = try_all(&preset.rules(), LENGTH);
        assert!(reached > 10_000, "{name}: {reached}");
    }
}

#[test]
fn calls_never_exceed_the_budget() {
    let rules = BudgetRules { share: 0.25, each_minute: 1.0, most: 2.0 };
    for mut sequence in 0..3_u32.pow(8) {
        let mut budget = Budget::new(Moment(0), &rules);
        let (mut now, mut first, mut second) = (0, 0.0, 0.0);
        for _ in 0..8 {
            match sequence % 3 {
                0 => {
                    budget.earn(Moment(now), &rules);
                    first += 1.0;
                }
                1 => second += f64::from(u8::from(budget.spend(Moment(now), &rules))),
                _ => now += 20_000,
            }
            sequence /= 3;
            let minutes = Duration::from_millis(now).as_secs_f64() / 60.0;
            assert!(second <= rules.most + rules.share * first + rules.each_minute * minutes);
        }
    }
}

struct Story {
    unit: Cooldown,
    rules: Rules,
    now: Moment,
}

impl Story {
    fn with(preset: Preset) -> Self {
        Self { unit: Cooldown::default(), rules: preset.rules(), now: Moment(1_000_000) }
    }

    /// Asks when it may be asked, and fails. For how long it is then left alone.
    fn fails(&mut self, reason: Reason, wait: Option<Duration>) -> Duration {
        if let Some((_, until)) = self.unit.cooling() {
            self.now = self.now.max(until);
        }
        let probe = self.unit.ask(self.now, &self.rules, false) == Verdict::Probe;
        self.unit.failed((self.now, self.now), probe, (reason, wait), &self.rules);
        self.left()
    }

    fn left(&self) -> Duration {
        self.unit.cooling().map_or(Duration::ZERO, |(_, until)| until.since(self.now))
    }
}

#[test]
fn who_fails_again_is_left_alone_for_longer() {
    let mut story = Story::with(Preset::Classic);
    let minutes: Vec<u64> = (0..5).map(|_| story.fails(Reason::Timeout, None).as_secs() / 60).collect();
    assert_eq!(minutes, [1, 5, 25, 60, 60]);
    story.now = story.now.plus(story.rules.failure_window);
    assert_eq!(story.fails(Reason::Timeout, None).as_secs(), 60, "a day without a failure");
}

#[test]
fn an_answer_forgives_what_passes_but_no_limits() {
    for (preset, next_timeout) in [(Preset::Classic, 300), (Preset::V2026_9, 30)] {
        let mut story = Story::with(preset);
        story.fails(Reason::Timeout, None);
        story.now = story.now.plus(Duration::from_mins(1));
        assert_eq!(story.unit.ask(story.now, &story.rules, false), Verdict::Probe);
        story.unit.succeeded((story.now, story.now), true, &story.rules);
        assert_eq!(story.unit.ask(story.now, &story.rules, false), Verdict::Ready);
        assert_eq!(story.fails(Reason::Timeout, None).as_secs(), next_timeout, "{preset:?}");
    }
    let mut story = Story::with(Preset::V2026_9);
    story.fails(Reason::RateLimit, None);
    story.now = story.now.plus(Duration::from_mins(1));
    assert_eq!(story.unit.ask(story.now, &story.rules, false), Verdict::Probe);
    story.unit.succeeded((story.now, story.now), true, &story.rules);
    assert_eq!(story.fails(Reason::RateLimit, None).as_secs(), 60);
}

#[test]
fn the_provider_s_own_word_counts() {
    let mut story = Story::with(Preset::V2026_9);
    let seconds = |seconds: u64| Some(Duration::from_secs(seconds));
    assert_eq!(
        story.fails(Reason::RateLimit, seconds(1)),
        Duration::from_secs(1),
        "a brief one is no trouble"
    );
    assert_eq!(story.fails(Reason::RateLimit, Some(Duration::ZERO)), SHORTEST_WAIT);
    assert_eq!(story.fails(Reason::RateLimit, None), Duration::from_secs(30), "and does not count");
    assert_eq!(story.fails(Reason::RateLimit, seconds(502_923)), Duration::from_secs(502_923));
    assert_eq!(story.fails(Reason::RateLimit, seconds(u64::MAX)), LONGEST_WAIT);
    assert_eq!(
        story.fails(Reason::Auth, seconds(5)),
        Duration::from_secs(30),
        "what is said about a limit only"
    );
}

#[test]
fn calls_that_failed_with_the_first_one_are_the_same_trouble() {
    let mut story = Story::with(Preset::V2026_9);
    let began = story.now;
    story.fails(Reason::RateLimit, None);
    for _ in 0..20 {
        story.unit.failed((began, story.now), false, (Reason::RateLimit, None), &story.rules);
    }
    assert_eq!(story.left().as_secs(), 30);
    story.unit.succeeded((began, story.now), false, &story.rules);
    assert_eq!(story.left().as_secs(), 30, "an answer that had begun before says nothing");
    let wait = Some(Duration::from_secs(90));
    story.unit.failed((began, story.now), false, (Reason::RateLimit, wait), &story.rules);
    assert_eq!(story.left().as_secs(), 90, "but the provider's word does");
    assert_eq!(
        story.fails(Reason::RateLimit, None).as_secs(),
        60,
        "it was one trouble, and this is the second"
    );

    // It hung, was well again, and what hung fails at last.
    story.now = story.now.plus(Duration::from_mins(1));
    assert_eq!(story.unit.ask(story.now, &story.rules, false), Verdict::Probe);
    story.unit.succeeded((story.now, story.now), true, &story.rules);
    story.unit.failed((began, story.now), false, (Reason::Timeout, None), &story.rules);
    assert_eq!(story.unit.cooling(), None, "old news");
}

#[test]
fn with_nobody_else_one_now_and_then_looks_early() {
    let mut story = Story::with(Preset::Classic);
    story.fails(Reason::Connection, None);
    let mut probes = 0;
    for _ in 0..59 {
        story.now = story.now.plus(Duration::from_secs(1));
        if story.unit.ask(story.now, &story.rules, true) == Verdict::Probe {
            probes += 1;
            let times = (story.now, story.now);
            story.unit.failed(times, true, (Reason::Connection, None), &story.rules);
        }
    }
    assert_eq!(probes, 11, "every five seconds");
    assert_eq!(story.left().as_secs(), 1, "which prolongs nothing");
    let mut limited = Story::with(Preset::Classic);
    limited.fails(Reason::RateLimit, None);
    limited.now = limited.now.plus(Duration::from_secs(59));
    assert!(matches!(limited.unit.ask(limited.now, &limited.rules, true), Verdict::Wait { .. }));
}

#[test]
fn who_was_sent_and_is_never_heard_of_holds_nobody_up() {
    let mut story = Story::with(Preset::V2026_9);
    story.fails(Reason::Timeout, None);
    story.now = story.now.plus(Duration::from_secs(30));
    assert_eq!(story.unit.ask(story.now, &story.rules, false), Verdict::Probe);
    let until = story.now.plus(story.rules.probe_every);
    assert_eq!(
        story.unit.ask(story.now, &story.rules, false),
        Verdict::Wait { until, reason: Reason::Timeout }
    );
    assert_eq!(story.unit.ask(until, &story.rules, false), Verdict::Probe);
}
