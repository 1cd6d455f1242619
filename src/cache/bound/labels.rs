//! What was seen: labels by bin, and how often one question gets two answers.

use super::bins::BINS;
use super::tuning::{MOST_LABELS, POOLED_LABELS, POOLED_REPEATS};
use serde::{Deserialize, Serialize};

/// What is known about the answer of a nominee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A fresh answer to what was asked says the same.
    Same,
    /// A fresh answer says something else. It may do so for the same question too.
    Different,
    /// Someone who knows says that it was right.
    Right,
    /// Someone who knows says that it was wrong.
    Wrong,
}

/// How often each label was seen. Not whole: old ones fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) same: f32,
    pub(super) different: f32,
    pub(super) right: f32,
    pub(super) wrong: f32,
}

impl Tally {
    pub(super) fn total(&self) -> f32 {
        let Self { same, different, right, wrong } = self;
        same + different + right + wrong
    }

    fn add(&mut self, label: Label) {
        match label {
            Label::Same => self.same += 1.0,
            Label::Different => self.different += 1.0,
            Label::Right => self.right += 1.0,
            Label::Wrong => self.wrong += 1.0,
        }
        if self.total() > MOST_LABELS {
            *self = self.times(0.75);
        }
    }

    fn times(self, factor: f32) -> Self {
        let Self { same, different, right, wrong } = self;
        Self {
            same: same * factor,
            different: different * factor,
            right: right * factor,
            wrong: wrong * factor,
        }
    }

    /// What is in it beside `other`.
    fn without(self, other: Self) -> Self {
        let Self { same, different, right, wrong } = self;
        Self {
            same: (same - other.same).max(0.0),
            different: (different - other.different).max(0.0),
            right: (right - other.right).max(0.0),
            wrong: (wrong - other.wrong).max(0.0),
        }
    }

    fn at_most(self, most: f32) -> Self {
        let total = self.total();
        if total > most { self.times(most / total) } else { self }
    }

    /// Whether it is what counting can lead to. What comes from a file may be anything.
    fn is_sound(&self) -> bool {
        let Self { same, different, right, wrong } = self;
        [same, different, right, wrong].iter().all(|count| (0.0..=2.0 * MOST_LABELS).contains(*count))
    }
}

/// What was seen of one ground, or of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Labels {
    /// By the nominee's bin.
    pub(super) bins: [Tally; BINS],
    /// Of the very same question: only `same` and `different`.
    pub(super) repeats: Tally,
}

impl Labels {
    pub(super) fn add(&mut self, bin: usize, label: Label) {
        if let Some(tally) = self.bins.get_mut(bin) {
            tally.add(label);
        }
    }

    pub(super) fn repeat(&mut self, same: bool) {
        self.repeats.add(if same { Label::Same } else { Label::Different });
    }

    pub(super) fn total(&self) -> f32 {
        self.bins.iter().map(Tally::total).sum()
    }

    /// What others have seen, as far as it counts here. `self` is the pool, which `own` is a part of.
    pub(super) fn of_others(&self, own: &Self) -> Self {
        let mut others = Self::default();
        for ((others, pool), own) in others.bins.iter_mut().zip(&self.bins).zip(&own.bins) {
            *others = pool.without(*own).at_most(POOLED_LABELS);
        }
        others.repeats = self.repeats.without(own.repeats).at_most(POOLED_REPEATS);
        others
    }

    /// Another judge gives other scores: what the labels said of the old ones is hearsay for the new.
    pub(super) fn faded(mut self, most: f32) -> Self {
        for tally in &mut self.bins {
            *tally = tally.at_most(most);
        }
        self
    }

    pub(super) fn is_sound(&self) -> bool {
        self.bins.iter().chain([&self.repeats]).all(Tally::is_sound)
    }
}
