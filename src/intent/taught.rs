//! Rules that are learned from examples: what there is to learn, and what a mind that has learned it says.

use super::learned::{Lessons, Mind, Read};
use super::rule::{Circumstances, Rule};
use super::template::Slots;
use super::{RuleSet, Verdict};
use std::collections::HashSet;

impl RuleSet {
    /// What there is to learn; `None` where no rule is learned from examples.
    pub fn lessons(&self) -> Option<Lessons> {
        let mut lessons = Lessons::new(self.precision);
        for (key, at) in &self.learners {
            let rule = &self.rules[*at];
            let examples = rule.examples.iter().map(|example| example.text.as_str());
            lessons.add(key, &rule.intent, examples, rule.not.iter().map(String::as_str));
        }
        (!self.learners.is_empty()).then(|| lessons.ready())
    }

    /// Whether `mind` knows a rule that may answer this: else it need not be read by an encoder.
    pub fn may_recognise(&self, mind: &Mind, project: &str, text: &str, around: &Circumstances<'_>) -> bool {
        self.learned_by(mind).any(|at| at.is_some_and(|at| self.may(at, project, text, around)))
    }

    /// What the learned rules of `project` say to `text`. `read` is what an encoder made of it.
    pub fn by_examples(
        &self,
        mind: &Mind,
        project: &str,
        text: &str,
        around: &Circumstances<'_>,
        read: &Read,
    ) -> Option<Verdict<'_>> {
        let text = text.trim();
        let rules: Vec<Option<usize>> = self.learned_by(mind).collect();
        let may = |class: usize| {
            rules.get(class).copied().flatten().is_some_and(|at| self.may(at, project, text, around))
        };
        let guess = mind.classify(read, may)?;
        let at = rules.get(guess.class).copied().flatten()?;
        let slots = self.engine.find(at, &self.rules, text)?;
        Some(Self::verdict_of(&self.rules[at], slots, guess.share))
    }

    /// The rule that each class of `mind` is now. It may have learned before the files were read anew.
    pub(super) fn learned_by<'s>(&'s self, mind: &'s Mind) -> impl Iterator<Item = Option<usize>> + 's {
        mind.rules().iter().enumerate().map(|(class, key)| match self.learners.get(class) {
            Some((known, at)) if known == key => Some(*at),
            _ => self.learners.iter().find(|(known, _)| known == key).map(|(_, at)| *at),
        })
    }

    pub(super) fn may(&self, at: usize, project: &str, text: &str, around: &Circumstances<'_>) -> bool {
        let rule = &self.rules[at];
        rule.holds_in(project) && rule.when.fails(text, around).is_none()
    }

    /// The slots that a learned rule finds in `text`.
    pub(super) fn found(&self, at: usize, text: &str) -> Option<Slots> {
        self.engine.find(at, &self.rules, text.trim())
    }

    /// Whether a rule that is not among those of `before`, or was another then, answers `text` whatever else the request
    /// says.
    pub fn now_answers(
        &self,
        known: &Known,
        project: &str,
        text: &str,
        learned: Option<(&Mind, &Read)>,
    ) -> bool {
        let around = Circumstances { words_only: true, ..Circumstances::default() };
        let is_new = |verdict: &Verdict<'_>| {
            let mut parts = verdict.parts.iter().filter_map(|(_, rule)| *rule).chain([verdict.rule]);
            parts.any(|name| self.is_new(known, project, name))
        };
        let by_words = self.by_words(project, text, &around);
        let verdict = by_words.or_else(|| {
            let (mind, read) = learned?;
            self.by_examples(mind, project, text, &around, read)
        });
        verdict.as_ref().is_some_and(is_new)
    }

    fn is_new(&self, known: &Known, project: &str, name: &str) -> bool {
        let mut named = self.rules.iter().filter(|rule| rule.name == name && rule.holds_in(project));
        named.any(|rule| !known.holding.contains(&rule.digest))
    }

    /// What tells these rules from others. A rule that is learned holds once `mind` has learned it.
    pub(super) fn known(&self, mind: Option<&Mind>) -> Known {
        let is_learned = mind.is_some_and(|mind| {
            mind.is_trained() && self.lessons().is_some_and(|lessons| lessons.digest() == mind.digest())
        });
        let (holding, pending): (Vec<&Rule>, Vec<&Rule>) =
            self.rules.iter().partition(|rule| is_learned || !rule.learns);
        let digests = |rules: Vec<&Rule>| rules.into_iter().map(|rule| rule.digest).collect();
        Known { holding: digests(holding), pending: digests(pending) }
    }
}

/// Rules that are or were in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Known {
    holding: HashSet<u64>,
    /// Those that have yet to be learned.
    pending: HashSet<u64>,
}

impl Known {
    /// With those of another project.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.holding.extend(other.holding);
        self.pending.extend(other.pending);
        self
    }

    /// Whether a rule holds that did not before.
    pub fn is_new_to(&self, before: &Self) -> bool {
        !self.holding.is_subset(&before.holding)
    }

    /// These, after `before`: what has yet to be learned again held before, and is nothing new when it has been.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let again: Vec<u64> = self.pending.intersection(&before.holding).copied().collect();
        self.holding.extend(again);
        self
    }
}
