//! What was nominated, what was served, and how much of it was wrong: the account of one ground.

use super::belief::Belief;
use super::bins::BINS;
use super::tuning::{CONFIDENCE, EXPECTED_FOR, EXPECTED_SHARES, MOST_REQUESTS, PULL, ROOM_TO_OPEN, START};
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
    fn new(mean: f64, variance: f64, common: f64) -> Self {
        let spread = CONFIDENCE * variance.max(0.0).sqrt();
        // Independent of each other, so that not both come at their worst.
        let spread = spread.hypot(common);
        Self { mean, least: (mean - spread).max(0.0), most: mean + spread }
    }
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
        let (mut mean, mut variance, mut common) = (f64::from(self.known_wrong), 0.0, 0.0);
        for bin in 0..BINS {
            let (count, wrong) = (f64::from(self.unknown[bin]), f64::from(belief.wrong[bin]));
            mean += count * wrong;
            // The rate is uncertain, and so is what becomes of it.
            variance += count * count * f64::from(belief.own[bin]) + count * wrong * (1.0 - wrong);
            common += count * f64::from(belief.common[bin]);
        }
        Estimate::new(mean, variance, common)
    }

    /// The share of requests that would be served wrongly if everything from `bin` up were.
    fn wrong_from(&self, bin: usize, belief: &Belief) -> Estimate {
        let requests = f64::from(self.requests) + EXPECTED_FOR;
        let (mut mean, mut variance, mut common) = (0.0, 0.0, 0.0);
        for (bin, expected) in EXPECTED_SHARES.iter().enumerate().skip(bin) {
            let wrong = f64::from(belief.wrong[bin]);
            let share = (f64::from(self.nominated[bin]) + EXPECTED_FOR * expected) / requests;
            mean += share * wrong;
            variance += share * share * f64::from(belief.own[bin])
                + wrong * wrong * share * (1.0 - share) / (requests + 1.0);
            common += share * f64::from(belief.common[bin]);
        }
        Estimate::new(mean, variance, common)
    }

    /// How many may have been served wrongly by now.
    pub(super) fn allowed(&self, max_wrong: f64) -> f64 {
        max_wrong * f64::from(self.requests) + START
    }

    /// The share of requests that may be served wrongly from now on: less, as what was served nears what is
    /// allowed.
    fn target(&self, max_wrong: f64, belief: &Belief) -> f64 {
        let used = self.served_wrong(belief).most / self.allowed(max_wrong);
        max_wrong * (PULL * (1.0 - used)).clamp(0.0, 1.0)
    }

    /// The lowest bin to serve from, where `open` was it before; [`BINS`] serves nothing.
    pub(super) fn open_from(&self, open: usize, max_wrong: f64, belief: &Belief) -> usize {
        let target = self.target(max_wrong, belief);
        let lowest = |target: f64| {
            let fits = |bin: &usize| target > 0.0 && self.wrong_from(*bin, belief).most <= target;
            (0..BINS).rev().take_while(fits).last().unwrap_or(BINS)
        };
        let (stays, opens) = (lowest(target), lowest(ROOM_TO_OPEN * target));
        if open < stays { stays } else { open.min(opens) }
    }

    /// The share of requests that is expected to be served wrongly from now on.
    pub(super) fn expected(&self, open: usize, belief: &Belief) -> Estimate {
        self.wrong_from(open, belief)
    }

    /// Whether it is what counting can lead to. What comes from a file may be anything.
    pub(super) fn is_sound(&self) -> bool {
        let Self { requests, nominated, unknown, known_wrong, known } = self;
        let mut counts = [requests, known_wrong, known].into_iter().chain(nominated).chain(unknown);
        counts.all(|count| (0.0..=2.0 * MOST_REQUESTS).contains(count))
    }
}
