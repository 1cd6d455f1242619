//! Why a rule answers a text, and why the others do not.

use super::learned::{Mind, Read};
use super::rule::Circumstances;
use super::{Action, RuleSet, Slots, Verdict};
use std::collections::BTreeMap;

/// The most rules of which is told why they do not answer.
const MOST_TOLD: usize = 8;
/// And of those that are learned from examples.
const MOST_LEARNED: usize = 3;

/// What the rules say to a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The rule that answers it.
    pub rule: Option<String>,
    /// What is wanted.
    pub intent: Option<String>,
    /// What the slots hold.
    pub slots: Slots,
    /// How sure it is.
    pub score: f32,
    /// What it says to do.
    pub action: Option<Action>,
    /// Of an utterance of several parts: each, and the rule that answers it.
    pub parts: Vec<(String, Option<String>)>,
    /// Why others do not answer it, the closest first.
    pub why_not: Vec<WhyNot>,
    /// What a model said that was asked which of them it is.
    pub model: Option<String>,
}

/// Why a rule does not answer a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyNot {
    /// The rule.
    pub rule: String,
    /// The reason.
    pub reason: String,
}

impl RuleSet {
    /// What the rules of `project` say to `text`, and why. `learned` is what was learned from examples, and what an
    /// encoder made of the text; without it such rules are told to be unknown. `named` is what a model has chosen.
    pub fn explain(
        &self,
        project: &str,
        text: &str,
        around: &Circumstances<'_>,
        learned: Option<(&Mind, &Read)>,
        named: Option<Verdict<'_>>,
    ) -> Tried {
        let by_examples = || {
            let (mind, read) = learned?;
            self.by_examples(mind, project, text, around, read)
        };
        let verdict = self.by_words(project, text, around).or_else(by_examples).or(named);
        let verdict = verdict.or_else(|| self.by_conditions(project, text, around));
        let winner = verdict.as_ref().map(|verdict| verdict.rule.to_owned());
        let mut why_not = self.not_learned(project, text, around, winner.as_deref(), learned);
        why_not.extend(self.why_not(project, text, around, winner.as_deref()));
        why_not.truncate(MOST_TOLD);
        let Some(verdict) = verdict else {
            let slots = Slots::new();
            return Tried {
                rule: None,
                intent: None,
                slots,
                score: 0.0,
                action: None,
                parts: Vec::new(),
                why_not,
                model: None,
            };
        };
        let parts = verdict.parts.into_iter().map(|(piece, rule)| (piece, rule.map(str::to_owned))).collect();
        Tried {
            rule: winner,
            intent: Some(verdict.intent.to_owned()),
            slots: verdict.slots,
            score: verdict.score,
            action: Some(verdict.action),
            parts,
            why_not,
            model: None,
        }
    }

    /// Why rules that are learned from examples do not answer, the likeliest first.
    fn not_learned(
        &self,
        project: &str,
        text: &str,
        around: &Circumstances<'_>,
        winner: Option<&str>,
        learned: Option<(&Mind, &Read)>,
    ) -> Vec<WhyNot> {
        let here =
            |at: usize| self.rules[at].holds_in(project) && Some(self.rules[at].name.as_str()) != winner;
        let told = |at: usize, reason: String| WhyNot { rule: self.rules[at].name.clone(), reason };
        let Some((mind, read)) = learned else {
            let unknown = self.learners.iter().filter(|(_, at)| here(*at)).take(MOST_LEARNED);
            return unknown
                .map(|(_, at)| told(*at, "it has not been learned from its examples".to_owned()))
                .collect();
        };
        let margins = mind.margins(read);
        let mut margins: Vec<(usize, f32)> = self
            .learned_by(mind)
            .zip(margins)
            .filter_map(|(at, margin)| Some((at?, margin)))
            .filter(|(at, _)| here(*at))
            .collect();
        margins.sort_by(|one, other| other.1.total_cmp(&one.1));
        let reason = |at: usize, margin: f32| match self.rules[at].when.fails(text, around) {
            Some(condition) => format!("{condition} does not hold"),
            None if margin < 0.0 => format!("it is {:.2} short of being sure", -margin),
            None if self.found(at, text).is_none() => "what it needs is not found in the text".to_owned(),
            None => format!("\"{}\" is likelier", winner.unwrap_or("another rule")),
        };
        margins.into_iter().take(MOST_LEARNED).map(|(at, margin)| told(at, reason(at, margin))).collect()
    }

    fn why_not(
        &self,
        project: &str,
        text: &str,
        around: &Circumstances<'_>,
        winner: Option<&str>,
    ) -> Vec<WhyNot> {
        let Some(heard) = self.engine.hear(text.trim()) else {
            return vec![WhyNot {
                rule: "*".to_owned(),
                reason: "the text is too long to be a command".to_owned(),
            }];
        };
        let limits = self.engine.limits(&heard);
        let said: Vec<_> =
            heard.ids.iter().flatten().chain((0..heard.len()).flat_map(|at| heard.near(at))).collect();
        // Of each rule the pattern that comes closest: how much of what it needs is not said.
        let mut closest: BTreeMap<usize, (usize, String)> = BTreeMap::new();
        for (at, matcher) in self.engine.matchers.iter().enumerate() {
            let rule = &self.rules[matcher.rule];
            if Some(rule.name.as_str()) == winner || matcher.only_finds() {
                continue;
            }
            let missing: Vec<_> =
                matcher.needs.iter().filter(|need| !need.iter().any(|word| said.contains(&word))).collect();
            if missing.len() == matcher.needs.len() {
                continue;
            }
            let first =
                missing.first().and_then(|need| need.first()).map(|word| self.engine.words.text(*word));
            let matches = || {
                super::engine::EASES.into_iter().enumerate().any(|(level, ease)| {
                    self.engine.try_one(at, &heard, &self.rules, &limits, (level as u8, ease)).is_some()
                })
            };
            let (distance, reason) = match first {
                Some(word) => (missing.len() + 1, format!("\"{word}\" or the like is missing")),
                None if matches() => match rule.when.fails(text, around) {
                    _ if !rule.holds_in(project) => (0, "it does not hold in this project".to_owned()),
                    Some(condition) => (0, format!("{condition} does not hold")),
                    None => (0, format!("\"{}\" matches better", winner.unwrap_or("another rule"))),
                },
                None => (1, "its words are there, and others or other slots between them".to_owned()),
            };
            let known = closest.entry(matcher.rule).or_insert((usize::MAX, String::new()));
            if distance < known.0 {
                *known = (distance, reason);
            }
        }
        let mut told: Vec<(usize, usize, String)> =
            closest.into_iter().map(|(rule, (distance, reason))| (distance, rule, reason)).collect();
        told.sort_by_key(|(distance, rule, _)| (*distance, *rule));
        let named = told.into_iter().take(MOST_TOLD);
        named.map(|(_, rule, reason)| WhyNot { rule: self.rules[rule].name.clone(), reason }).collect()
    }
}
