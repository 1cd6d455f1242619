//! What there is to tell about the bound: for metrics, `/status` and the log.

use super::belief::Belief;
use super::bins::{self, BINS};
use super::ground::Ground;
use super::labels::{Label, Labels};
use super::ledger::Ledger;
use super::{About, Bound, Estimate, GroundId, Trial};
use serde::Serialize;
use std::sync::Arc;

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) served: u64,
    evidence: Evidence,
}

impl Counts {
    pub(super) fn count(&mut self, trial: &Trial, label: Label) {
        let Evidence { same, different, right, wrong, repeats_same, repeats_different } = &mut self.evidence;
        let counter = match (trial.about, label) {
            (About::Noise, Label::Same) => repeats_same,
            (About::Noise, _) => repeats_different,
            (About::Nominee { .. }, Label::Same) => same,
            (About::Nominee { .. }, Label::Different) => different,
            (About::Nominee { .. }, Label::Right) => right,
            (About::Nominee { .. }, Label::Wrong) => wrong,
        };
        *counter += 1;
    }
}

/// How much was learned since the start, by what was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// A fresh answer said the same as the nominee's.
    pub same: u64,
    /// A fresh answer said something else.
    pub different: u64,
    /// Someone said that it was right.
    pub right: u64,
    /// Someone said that it was wrong.
    pub wrong: u64,
    /// Two answers to one question were the same.
    pub repeats_same: u64,
    /// Two answers to one question were not.
    pub repeats_different: u64,
}

/// All grounds together.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The share of requests that may be served a wrong answer.
    pub max_wrong: f64,
    /// How many requests were looked up in other words, since the start.
    pub requests: u64,
    /// How many of them were served, or would have been.
    pub served: u64,
    /// How many of those were wrong, in all grounds that are known.
    pub served_wrong: Estimate,
    /// How many requests that is out of; old ones fade.
    pub out_of: f64,
    /// How many grounds are known.
    pub grounds: usize,
    /// How many of them serve anything but the same question.
    pub open: usize,
    /// What was learned since the start.
    pub evidence: Evidence,
}

/// One ground.
#[derive(Clone, Debug, Serialize)]
pub struct GroundReport {
    /// The least score that is served, in log-odds; `None` where nothing is.
    pub threshold: Option<f32>,
    /// The share of requests that will be served wrongly.
    pub expected: Estimate,
    /// How many of those served were wrong.
    pub served_wrong: Estimate,
    /// How many may have been.
    pub allowed: f64,
    /// How many were served; old ones fade, as in everything here.
    pub served: f32,
    /// How many requests were looked up.
    pub requests: f32,
    /// How many labels there are.
    pub labels: f32,
    /// How often two answers to one question differ.
    pub noise: f32,
}

impl Bound {
    /// How all grounds together are.
    pub fn report(&self) -> Report {
        let state = self.lock();
        let accounts: Vec<(Ledger, Arc<Belief>)> = state.grounds.values().map(Ground::account).collect();
        let mut report = Report {
            max_wrong: self.config.max_wrong,
            requests: state.counts.requests,
            served: state.counts.served,
            served_wrong: Estimate::default(),
            out_of: 0.0,
            grounds: state.grounds.len(),
            open: state.grounds.values().filter(|ground| ground.open + 1 < BINS).count(),
            evidence: state.counts.evidence,
        };
        // With many grounds the sums take a while, in which nobody should wait for the lock.
        drop(state);
        for (ledger, belief) in accounts {
            let wrong = ledger.served_wrong(&belief);
            report.served_wrong = report.served_wrong.and(wrong);
            report.out_of += f64::from(ledger.requests);
        }
        report
    }

    /// How one ground is; `None` where nothing was ever asked there, or not for long.
    pub fn report_of(&self, ground: GroundId) -> Option<GroundReport> {
        let state = self.lock();
        state.grounds.get(&ground).map(|ground| of(ground, self.config.max_wrong))
    }
}

fn of(ground: &Ground, max_wrong: f64) -> GroundReport {
    let Ground { labels, ledger, belief, open, .. } = ground;
    GroundReport {
        threshold: bins::least(*open).filter(|_| *open < BINS),
        expected: ledger.expected(*open, belief),
        served_wrong: ledger.served_wrong(belief),
        allowed: ledger.allowed(max_wrong),
        served: ledger.total_served(),
        requests: ledger.requests,
        labels: Labels::total(labels),
        noise: belief.noise,
    }
}
