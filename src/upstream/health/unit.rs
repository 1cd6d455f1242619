//! A unit: a model, asked with one key.

use super::breaker::Breaker;
use super::{Cooldown, Latency, Moment, Reason, Rules, Verdict};
use std::time::Duration;

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first words came after so long; of a reply that comes whole, all of them.
    Answered {
        /// How long it took.
        took: Duration,
        /// Whether it came whole: that takes longer, and is compared with its like.
        whole: bool,
    },
    /// It was refused for what it asked, by somebody who is well.
    Alive,
    /// It failed, and the provider wants to be left alone for so long.
    Failed(Reason, Option<Duration>),
    /// It failed, and is tried again; only many of these are trouble.
    Stumbled(Reason),
    /// Another one, asked beside it, was quicker: it takes so long at least.
    Overtaken {
        /// How long it was waited for.
        waited: Duration,
        /// Whether its answer was to come whole.
        whole: bool,
    },
    /// Nobody knows: whoever asked has left.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Unit {
    pub(super) cooldown: Cooldown,
    pub(super) breaker: Breaker,
    /// Of streams.
    pub(super) streams: Latency,
    /// Of replies that come whole.
    pub(super) replies: Latency,
    /// When a slow one was last asked to see whether it is well.
    pub(super) tried: Option<Moment>,
    pub(super) used: Moment,
}

impl Unit {
    pub(super) fn ask(&mut self, now: Moment, rules: &Rules, alone: bool) -> Verdict {
        self.used = now;
        if self.is_slow() {
            self.tried = Some(now);
        }
        self.cooldown.ask(now, rules, alone)
    }

    /// Whether others come first: it is slow, and somebody looked not long ago whether it still is.
    pub(super) fn is_second_choice(&self, now: Moment, rules: &Rules) -> bool {
        let looked = self.tried.is_some_and(|tried| now.since(tried) < rules.probe_every);
        self.is_slow() && looked
    }

    pub(super) fn is_slow(&self) -> bool {
        self.streams.is_degraded() || self.replies.is_degraded()
    }

    /// Of what it gives more often.
    pub(super) fn latency(&self) -> &Latency {
        if self.replies.calls() > self.streams.calls() { &self.replies } else { &self.streams }
    }

    pub(super) fn record(&mut self, times: (Moment, Moment), probe: bool, outcome: Outcome, rules: &Rules) {
        let (began, now) = times;
        match outcome {
            Outcome::Answered { took, whole } => {
                self.cooldown.succeeded(times, probe, rules);
                let latency = if whole { &mut self.replies } else { &mut self.streams };
                latency.learn(took, &rules.latency);
                // Who looks for longer than a look may take has looked just now.
                self.tried = Some(now).filter(|_| self.is_slow());
                let slow = rules.breaker.slow.is_some_and(|slow| took > slow);
                self.weigh(now, slow, Reason::Timeout, rules);
            }
            Outcome::Alive => self.cooldown.succeeded(times, probe, rules),
            Outcome::Failed(reason, wait) => {
                self.cooldown.failed(times, probe, (reason, wait), rules);
                // It is left alone already: here it only counts.
                self.breaker.count(now, true, &rules.breaker);
            }
            Outcome::Stumbled(reason) => {
                if probe {
                    self.cooldown.failed(times, probe, (reason, None), rules);
                }
                self.weigh(now, true, reason, rules);
            }
            Outcome::Overtaken { waited, whole } => {
                let latency = if whole { &mut self.replies } else { &mut self.streams };
                // What is shorter than it takes anyway says nothing.
                if latency.lately().is_some_and(|lately| waited > lately) {
                    latency.learn(waited, &rules.latency);
                }
                if probe {
                    self.cooldown.abandoned(began);
                }
            }
            Outcome::Unknown if probe => self.cooldown.abandoned(began),
            Outcome::Unknown => {}
        }
    }

    /// Counts a call that is over; if too many were bad, the unit is left alone.
    fn weigh(&mut self, now: Moment, bad: bool, reason: Reason, rules: &Rules) {
        if self.breaker.count(now, bad, &rules.breaker) {
            self.cooldown.failed((now, now), false, (reason, None), rules);
        }
    }

    /// Whether nothing would be lost with it but times.
    pub(super) fn is_plain(&self) -> bool {
        self.cooldown == Cooldown::default()
    }
}
