//! A ground: where answers are trusted alike. Its labels, its account, and from where up it serves.

use super::belief::Belief;
use super::bins::BINS;
use super::labels::{Label, Labels};
use super::ledger::Ledger;
use super::tuning::{COLD_CHECKS, COLD_LABELS};
use super::{About, Trial};
use crate::store::EntryId;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most pairs of questions that a ground knows to be of different answers.
const MOST_REFUTED: usize = 256;

/// What is known of one ground.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub(super) labels: Labels,
    pub(super) ledger: Ledger,
    pub(super) belief: Arc<Belief>,
    /// The lowest bin that is served from; [`BINS`] where none is.
    pub(super) open: usize,
    /// Pairs of what was asked and what was known, whose answers were found to differ.
    refuted: VecDeque<(EntryId, EntryId)>,
    /// How many labels there were when `belief` was made.
    believed: f32,
    /// When it was last asked, in requests of the process.
    pub(super) used: u64,
}

impl Ground {
    /// One of which nothing is known but what the others saw.
    pub(super) fn new(belief: &Arc<Belief>) -> Self {
        Self::known(&Labels::default(), Ledger::default(), belief)
    }

    /// One of which this much is known.
    pub(super) fn known(labels: &Labels, ledger: Ledger, belief: &Arc<Belief>) -> Self {
        let (believed, belief, labels) = (labels.total(), Arc::clone(belief), *labels);
        Self { labels, ledger, belief, open: BINS, refuted: VecDeque::new(), believed, used: 0 }
    }

    /// What it has served, and what is believed of that.
    pub(super) fn account(&self) -> (Ledger, Arc<Belief>) {
        (self.ledger, Arc::clone(&self.belief))
    }

    /// Counts a request, and says whether a nominee in that bin is good enough.
    pub(super) fn decide(&mut self, bin: Option<usize>, max_wrong: f64) -> bool {
        self.ledger.asked(bin);
        self.open = self.ledger.open_from(self.open, max_wrong, &self.belief);
        let served = bin.filter(|bin| *bin >= self.open);
        if let Some(bin) = served {
            self.ledger.served(bin);
        }
        served.is_some()
    }

    /// Takes note of what came of a trial here.
    pub(super) fn learn(&mut self, trial: &Trial, label: Label) {
        let About::Nominee { bin, served } = trial.about else {
            return self.labels.repeat(label == Label::Same);
        };
        let wrong = self.wrong_given(bin, label);
        if served {
            self.ledger.came_out(bin, wrong);
        }
        // Where most answers differ anyhow, a difference is no reason to turn a pair away.
        if label == Label::Wrong || (label == Label::Different && self.belief.noise < 0.5) {
            self.refute(trial.asked, trial.known);
        }
        self.labels.add(bin, label);
    }

    /// How likely it is that a nominee in that bin is wrong, now that it has that label.
    fn wrong_given(&self, bin: usize, label: Label) -> f32 {
        let wrong = self.belief.wrong.get(bin).copied().unwrap_or(1.0);
        match label {
            Label::Wrong => 1.0,
            Label::Right | Label::Same => 0.0,
            Label::Different => wrong / (wrong + (1.0 - wrong) * self.belief.noise).max(f32::MIN_POSITIVE),
        }
    }

    /// Whether so much is new that it is worth to think again: one label in the beginning, and later each
    /// twentieth part.
    pub(super) fn is_behind(&self) -> bool {
        (self.labels.total() - self.believed).abs() >= 1.0 + self.believed / 20.0
    }

    pub(super) fn believe(&mut self, belief: &Arc<Belief>) {
        self.belief = Arc::clone(belief);
        self.believed = self.labels.total();
    }

    /// How often a hit is checked: more often while little is known of what is served.
    pub(super) fn check_share(&self, share: f64) -> f64 {
        let labels: f32 = self.labels.bins.iter().skip(self.open).map(super::labels::Tally::total).sum();
        let cold = COLD_LABELS / (COLD_LABELS + f64::from(labels));
        (share * (1.0 + (COLD_CHECKS - 1.0) * cold)).min(1.0)
    }

    fn refute(&mut self, asked: EntryId, known: EntryId) {
        if self.refuted.contains(&(asked, known)) {
            return;
        }
        if self.refuted.len() >= MOST_REFUTED {
            self.refuted.pop_front();
        }
        self.refuted.push_back((asked, known));
    }

    /// Those whose answers are not the ones to `asked`.
    pub(super) fn refuted(&self, asked: EntryId) -> Vec<EntryId> {
        self.refuted.iter().filter(|(of, _)| *of == asked).map(|(_, known)| *known).collect()
    }
}
