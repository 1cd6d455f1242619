//! What was nominated, what was served, and how much of it was wrong: the account of one ground.

use super::belief::Belief;
use super::bins::BINS;
use super::chance::{self, Part};
use super::tuning::{
    EXPECTED_FOR, EXPECTED_SHARES, LICENCE, MOST_REQUESTS, NEAR, RISK, ROOM_TO_OPEN, SPENT, START,
};
use serde::{Deserialize, Serialize};

/// Counts of requests. Not whole: old ones fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Requests that were looked up.
    pub(super) requests: f32,
    /// Those with a nominee that could be served, by its bin.
    pub(super) nominated: [f32; BINS],
    /// Those that were served, and nobody knows whether rightly.
    pub(super) unknown: [f32; BINS],
    /// How many of those that somebody knows about were wrong.
    pub(super) known_wrong: f32,
    /// How many somebody knows about.
    pub(super) known: f32,
}

/// An estimate, and what it is at most with the confidence wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// What is likeliest.
    pub mean: f64,
    /// What it is at least.
    pub least: f64,
    /// What it is at most.
    pub most: f64,
}

impl Estimate {
    fn of(parts: &[Part]) -> Self {
        Self {
            mean: chance::mean(parts),
            least: chance::quantile(parts, 1.0 - RISK),
            most: chance::quantile(parts, RISK),
        }
    }

    /// Both together, as if neither knew of the other.
    pub(super) fn and(self, other: Self) -> Self {
        Self { mean: self.mean + other.mean, least: self.least + other.least, most: self.most + other.most }
    }

    fn plus(self, known: f64) -> Self {
        Self { mean: self.mean + known, least: self.least + known, most: self.most + known }
    }

    fn times(self, factor: f64) -> Self {
        Self { mean: self.mean * factor, least: self.least * factor, most: self.most * factor }
    }
}

/// How many of so many in each bin are wrong, as each line says.
fn wrong_of(counts: &[f64; BINS], belief: &Belief) -> Vec<Part> {
    let parts = belief.lines.iter().map(|line| {
        let mut part = Part { likely: f64::from(line.likely), mean: 0.0, variance: 0.0 };
        for (bin, count) in counts.iter().enumerate() {
            let wrong = f64::from(line.wrong[bin]);
            part.mean += count * wrong;
            // The rate is uncertain, and so is what becomes of it.
            part.variance += count * count * f64::from(line.own[bin]) + count * wrong * (1.0 - wrong);
        }
        part
    });
    parts.collect()
}

/// How many of so many requests may be served wrongly.
fn allowed_of(requests: f64, max_wrong: f64) -> f64 {
    (max_wrong * requests).max(START)
}

impl Ledger {
    /// A request was looked up, and a nominee that could be served was in that bin.
    pub(super) fn asked(&mut self, bin: Option<usize>) {
        self.requests += 1.0;
        if let Some(count) = bin.and_then(|bin| self.nominated.get_mut(bin)) {
            *count += 1.0;
        }
        if self.requests > MOST_REQUESTS {
            self.fade();
        }
    }

    pub(super) fn served(&mut self, bin: usize) {
        if let Some(count) = self.unknown.get_mut(bin) {
            *count += 1.0;
        }
    }

    /// It has come out, of one that was served, that it was wrong with that probability.
    pub(super) fn came_out(&mut self, bin: usize, wrong: f32) {
        if let Some(count) = self.unknown.get_mut(bin) {
            *count = (*count - 1.0).max(0.0);
        }
        self.known += 1.0;
        self.known_wrong += wrong;
    }

    fn fade(&mut self) {
        let Self { requests, nominated, unknown, known_wrong, known } = self;
        let counts = [requests, known_wrong, known].into_iter().chain(nominated).chain(unknown);
        counts.for_each(|count| *count /= 2.0);
    }

    /// How many were served.
    pub(super) fn total_served(&self) -> f32 {
        self.known + self.unknown.iter().sum::<f32>()
    }

    /// How many of those that were served were wrong.
    pub(super) fn served_wrong(&self, belief: &Belief) -> Estimate {
        let unknown = self.unknown.map(f64::from);
        Estimate::of(&wrong_of(&unknown, belief)).plus(f64::from(self.known_wrong))
    }

    /// How many may have been served wrongly by now.
    pub(super) fn allowed(&self, max_wrong: f64) -> f64 {
        allowed_of(f64::from(self.requests), max_wrong)
    }

    /// How many of the next `requests` have a nominee in each bin from `open` up.
    fn expected_from(&self, open: usize, requests: f64) -> [f64; BINS] {
        let seen = f64::from(self.requests) + EXPECTED_FOR;
        std::array::from_fn(|bin| match bin >= open {
            true => requests * (f64::from(self.nominated[bin]) + EXPECTED_FOR * EXPECTED_SHARES[bin]) / seen,
            false => 0.0,
        })
    }

    /// How likely it is that more than allowed will have been served wrongly after so many more `requests`,
    /// where everything from `open` up is served.
    fn risk(&self, open: usize, requests: f64, max_wrong: f64, belief: &Belief) -> f64 {
        let mut counts = self.expected_from(open, requests);
        for (count, unknown) in counts.iter_mut().zip(&self.unknown) {
            *count += f64::from(*unknown);
        }
        let allowed =
            allowed_of(f64::from(self.requests) + requests, max_wrong) - f64::from(self.known_wrong);
        chance::above(&wrong_of(&counts, belief), allowed)
    }

    /// The lowest bin to serve from, where `open` was it before; [`BINS`] serves nothing. The lower, the more is
    /// at risk, so it is looked for from where it was.
    pub(super) fn open_from(&self, open: usize, max_wrong: f64, belief: &Belief) -> usize {
        let is_safe = |bin: usize, risk: f64| self.is_safe(bin, risk, max_wrong, belief);
        let mut open = open.min(BINS);
        while open < BINS && !is_safe(open, RISK) {
            open += 1;
        }
        while open > 0 && is_safe(open - 1, ROOM_TO_OPEN * RISK) {
            open -= 1;
        }
        open
    }

    /// Whether no more is at risk where everything from `open` up is served: soon, as far ahead as it looks
    /// back, and of what is to come alone.
    fn is_safe(&self, open: usize, risk: f64, max_wrong: f64, belief: &Belief) -> bool {
        let far = f64::from(self.requests).max(NEAR);
        let alone = || {
            let to_come = wrong_of(&self.expected_from(open, far), belief);
            chance::above(&to_come, allowed_of(far, LICENCE * max_wrong))
        };
        [NEAR, far].iter().all(|ahead| self.risk(open, *ahead, SPENT * max_wrong, belief) <= risk)
            && alone() <= risk
    }

    /// The share of requests that is expected to be served wrongly from now on.
    pub(super) fn expected(&self, open: usize, belief: &Belief) -> Estimate {
        let requests = f64::from(self.requests).max(NEAR);
        Estimate::of(&wrong_of(&self.expected_from(open, requests), belief)).times(1.0 / requests)
    }

    /// Whether it is what counting can lead to. What comes from a file may be anything.
    pub(super) fn is_sound(&self) -> bool {
        let Self { requests, nominated, unknown, known_wrong, known } = self;
        let mut counts = [requests, known_wrong, known].into_iter().chain(nominated).chain(unknown);
        counts.all(|count| (0.0..=2.0 * MOST_REQUESTS).contains(count))
    }
}
