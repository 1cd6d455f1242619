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
    /// What it went through since it is left alone.
    trouble: Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sent {
    at: Moment,
    probe: bool,
    early: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Trouble {
    /// When it began, or somebody last found it still there.
    since: Moment,
    /// How many looked early in vain.
    looks: u32,
    /// Until when the provider itself wants to be left alone.
    named: Moment,
    /// Who was last sent to find out.
    last: Option<Moment>,
}

impl Trouble {
    /// When the next one may look early.
    fn next_look(&self, reason: Reason) -> Moment {
        let most = if reason == Reason::Auth { 30 } else { 5 };
        let pause = 2_u64.pow(self.looks).min(most);
        self.since.plus(Duration::from_secs(pause)).max(self.named)
    }
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

const EVENTS: [Event; 15] = [
    Event::Ask { alone: false },
    Event::Ask { alone: true },
    Event::Answer,
    Event::Fail(Reason::RateLimit, None),
    Event::Fail(Reason::RateLimit, Some(1)),
    Event::Fail(Reason::RateLimit, Some(600)),
    Event::Fail(Reason::ServerError, None),
    Event::Fail(Reason::ServerError, Some(600)),
    Event::Fail(Reason::Auth, None),
    Event::Fail(Reason::Billing, None),
    Event::Leave,
    Event::Pass(1),
    Event::Pass(1_000),
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
                let early = self.now < until;
                assert!(!early || self.now >= self.trouble.next_look(reason), "looked too soon: {self:?}");
                let another =
                    self.calls.iter().any(|call| call.probe && call.at.plus(rules.probe_every) > self.now);
                assert!(!another, "a second probe: {self:?}");
            }
            (Some((reason, _)), Verdict::Wait { until, .. }) => {
                assert!(until > self.now, "to be told to wait until now: {self:?}");
                let out = self.calls.iter().any(|call| call.probe && Some(call.at) == self.trouble.last);
                if alone && reason.may_be_tried_early() && !out {
                    assert!(until <= self.trouble.next_look(reason), "to be left alone for longer: {self:?}");
                }
                return;
            }
        }
        let probe = verdict == Verdict::Probe;
        if probe {
            self.trouble.last = Some(self.now);
        }
        let early = probe && cooling.is_some_and(|(_, until)| self.now < until);
        self.calls.push(Sent { at: self.now, probe, early });
    }

    fn ended(&self, at: usize, event: Event, rules: &Rules) -> Self {
        let mut next = self.clone();
        let sent = next.calls.remove(at);
        let Sent { at: began, probe, .. } = sent;
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
        next.trouble = self.trouble_after(sent, event, next.unit.cooling().is_some());
        next
    }

    fn trouble_after(&self, sent: Sent, event: Event, cooling: bool) -> Trouble {
        let mut trouble = self.trouble.clone();
        let told = sent.probe && trouble.last == Some(sent.at);
        match event {
            _ if !cooling => return Trouble::default(),
            Event::Fail(_, wait) => {
                if told || self.unit.cooling().is_none() {
                    trouble.since = self.now;
                }
                if told {
                    trouble.looks += u32::from(sent.early);
                    trouble.last = None;
                }
                if let Some(seconds) = wait {
                    trouble.named = trouble.named.max(self.now.plus(Duration::from_secs(seconds)));
                }
            }
            _ if told => trouble.last = None,
            _ => {}
        }
        trouble
    }
}

/// Every sequence of events up to its length; what came about in two ways is gone on from once.
fn try_all(rules: &Rules, length: usize) -> usize {
    let start =
        World { now: Moment(100), unit: Cooldown::default(), calls: Vec::new(), trouble: Trouble::default() };
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

/// When somebody with nobody else to ask looks, second by second, and meets the same again each time.
fn looks(story: &mut Story, reason: Reason, seconds: u64) -> Vec<u64> {
    let began = story.now;
    let mut looks = Vec::new();
    for second in 1..=seconds {
        story.now = began.plus(Duration::from_secs(second));
        if story.unit.ask(story.now, &story.rules, true) == Verdict::Probe {
            looks.push(second);
            story.unit.failed((story.now, story.now), true, (reason, None), &story.rules);
        }
    }
    looks
}

#[test]
fn with_nobody_else_one_now_and_then_looks_early() {
    let mut story = Story::with(Preset::Classic);
    story.fails(Reason::Connection, None);
    assert_eq!(
        looks(&mut story, Reason::Connection, 59),
        [1, 3, 7, 12, 17, 22, 27, 32, 37, 42, 47, 52, 57],
        "it may be over any moment"
    );
    assert_eq!(story.left().as_secs(), 1, "which prolongs nothing");
    let mut refused = Story::with(Preset::V2026_9);
    refused.fails(Reason::AuthPermanent, None);
    assert_eq!(
        looks(&mut refused, Reason::AuthPermanent, 200),
        [1, 3, 7, 15, 31, 61, 91, 121, 151, 181],
        "until somebody has repaired it"
    );
    assert_eq!(refused.left().as_secs(), 400);
    for reason in [Reason::RateLimit, Reason::Billing, Reason::Timeout] {
        let mut other = Story::with(Preset::Classic);
        other.fails(reason, None);
        assert_eq!(looks(&mut other, reason, 59), [] as [u64; 0], "{reason:?}");
    }
}

#[test]
fn a_trouble_that_goes_on_is_looked_at_no_sooner_for_it() {
    let mut story = Story::with(Preset::V2026_9);
    story.fails(Reason::Auth, None);
    // Over after 30 s, and after 60 s more: each time one finds out anyway.
    assert_eq!(looks(&mut story, Reason::Auth, 150), [1, 3, 7, 15, 30, 46, 76, 90, 120, 150]);
    assert_eq!(story.unit.failures(), 3);
}

#[test]
fn nobody_looks_before_the_provider_s_own_time() {
    let mut story = Story::with(Preset::V2026_9);
    story.fails(Reason::Overloaded, Some(Duration::from_secs(20)));
    assert_eq!(looks(&mut story, Reason::Overloaded, 19), [] as [u64; 0]);
    let mut told_late = Story::with(Preset::V2026_9);
    let began = told_late.now;
    told_late.fails(Reason::ServerError, None);
    let wait = Some(Duration::from_secs(5));
    told_late.unit.failed((began, began), false, (Reason::ServerError, wait), &told_late.rules);
    assert_eq!(looks(&mut told_late, Reason::ServerError, 10), [5, 7]);
}

#[test]
fn who_looks_early_and_meets_another_trouble_has_found_another_one() {
    for (met, left) in [(Reason::RateLimit, 30), (Reason::Billing, 600), (Reason::Timeout, 60)] {
        let mut story = Story::with(Preset::V2026_9);
        story.fails(Reason::ServerError, None);
        story.now = story.now.plus(Duration::from_secs(1));
        assert_eq!(story.unit.ask(story.now, &story.rules, true), Verdict::Probe);
        story.unit.failed((story.now, story.now), true, (met, None), &story.rules);
        assert_eq!(story.unit.cooling().map(|(reason, _)| reason), Some(met));
        assert_eq!(story.left().as_secs(), left, "{met:?}");
        assert_eq!(looks(&mut story, met, 29), [] as [u64; 0], "{met:?}");
    }
    // Who is told when to come back does.
    let mut story = Story::with(Preset::V2026_9);
    story.fails(Reason::ServerError, None);
    story.now = story.now.plus(Duration::from_secs(1));
    assert_eq!(story.unit.ask(story.now, &story.rules, true), Verdict::Probe);
    let wait = Some(Duration::from_secs(7));
    story.unit.failed((story.now, story.now), true, (Reason::RateLimit, wait), &story.rules);
    assert_eq!(looks(&mut story, Reason::ServerError, 12), [7, 11]);
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
