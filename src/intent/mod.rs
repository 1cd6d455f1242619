//! The intent lane: questions that a rule answers, and no model ever sees.
//!
//! A rule says what it catches (patterns with typed slots, frames, regular expressions), on which conditions, and what
//! is then to be done: a text, JSON, tool calls, another model, a local service. Rules are asked first, before any
//! memory, so that a stored answer never shadows a rule that was added later. What a rule is not sure of it leaves
//! alone: that costs a look into the cache, and a wrong answer costs trust.
//!
//! `said` cuts a text into words, `heard` says which known words they are or may be, `pattern` and `frame` match them,
//! `engine` finds those few patterns that may match at all, and `split` takes utterances of several parts apart.
//! `learned` is what tells by examples, for those rules that have no patterns (`taught`), on a vector that the caller
//! brings. `live` holds what is in force, and swaps it.

mod engine;
mod exact;
mod explain;
mod file;
mod fillers;
mod frame;
mod heard;
mod kinds;
mod learned;
mod lint;
mod live;
mod mine;
mod offered;
mod pattern;
mod raw;
mod rule;
mod said;
mod shipped;
mod split;
mod taught;
mod template;
#[cfg(test)]
mod tests;
mod vocabulary;
mod words;

pub use explain::{Tried, WhyNot};
pub use file::{Book, Error, Pushed, load, parse};
pub use kinds::Language;
pub use learned::{Classifier, Confusion, Guess, Judged, Learn, Lessons, Mark, Mind, Read, Sample, judge};
pub use lint::{Fault, Report};
pub use live::{Added, Keeper, Live, NotTaken, Reader, Services};
pub use mine::{MOST_TEXTS, Mined, Proposal, mine};
pub use offered::{Naming, Offered};
pub use raw::Split;
pub use rule::{Action, Call, Circumstances, HttpCall, Rule};
pub use taught::Known;
pub use template::Slots;

use engine::{Engine, Hit, Rank};
use regex::RegexSet;
use rule::HIDDEN;

/// Rules in the order in which they were read, compiled.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    engine: Engine,
    regexes: RegexSet,
    /// The rule of each regular expression.
    regex_owners: Vec<usize>,
    /// The rules that are learned from examples, by their keys.
    learners: Vec<(String, usize)>,
    /// Of what is taken for one of them, the share that must be it.
    precision: f64,
}

/// The rule that matched, and what it says to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict<'a> {
    /// The rule's name; of several parts, that of the first.
    pub rule: &'a str,
    /// What is wanted.
    pub intent: &'a str,
    /// What the slots hold, those that are hidden left out.
    pub slots: Slots,
    /// How sure it is: one where every word is as it must be.
    pub score: f32,
    /// What to do.
    pub action: Action,
    /// Where the utterance had several parts: each, and the rule that answers it.
    pub parts: Vec<(String, Option<&'a str>)>,
}

impl RuleSet {
    /// What the rules of `project` say to `text`, where the rest of the request does not matter.
    pub fn classify(&self, project: &str, text: &str) -> Option<Verdict<'_>> {
        self.decide(project, text, &Circumstances::default())
    }

    /// What the rules of `project` say to `text`, as far as that can be told without an encoder.
    pub fn decide(&self, project: &str, text: &str, around: &Circumstances<'_>) -> Option<Verdict<'_>> {
        self.by_words(project, text, around).or_else(|| self.by_conditions(project, text, around))
    }

    /// What the rules say that have patterns. They are asked first.
    pub fn by_words(&self, project: &str, text: &str, around: &Circumstances<'_>) -> Option<Verdict<'_>> {
        let text = text.trim();
        let whole = self.hit(project, text, around);
        let may_split = whole.as_ref().is_none_or(|hit| hit.swallows_joint);
        let several = may_split.then(|| self.several(project, text, around, whole.is_none())).flatten();
        several.or_else(|| whole.map(|hit| self.verdict(&hit)))
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The best match of the whole text.
    fn hit(&self, project: &str, text: &str, around: &Circumstances<'_>) -> Option<Hit> {
        let may = |at: usize| {
            let rule = &self.rules[at];
            rule.holds_in(project) && rule.when.fails(text, around).is_none()
        };
        let by_pattern = self.engine.hear(text).and_then(|heard| self.engine.best(&heard, &self.rules, &may));
        let by_regex = self.by_regex(text, &may);
        match (by_pattern, by_regex) {
            (Some(one), Some(other)) => {
                let key = |hit: &Hit| (std::cmp::Reverse(self.rules[hit.rule].priority), hit.rank, hit.rule);
                Some(if key(&other) < key(&one) { other } else { one })
            }
            (one, other) => one.or(other),
        }
    }

    fn by_regex(&self, text: &str, may: &dyn Fn(usize) -> bool) -> Option<Hit> {
        let found = self.regexes.matches(text);
        let mut owners: Vec<usize> = found.into_iter().map(|at| self.regex_owners[at]).collect();
        owners.sort_by_key(|at| std::cmp::Reverse(self.rules[*at].priority));
        owners.into_iter().filter(|at| may(*at)).find_map(|at| {
            let rule = &self.rules[at];
            let (regex, caught) =
                rule.regexes.iter().find_map(|regex| Some((regex, regex.captures(text)?)))?;
            let named = regex.capture_names().flatten();
            let slots =
                named.filter_map(|name| Some((name.to_owned(), caught.name(name)?.as_str().to_owned())));
            let slots: Slots = slots.collect();
            let fits = |(name, value): &(String, String)| {
                rule.bounds.get(name).is_none_or(|bounds| bounds.allow(value))
            };
            if !slots.iter().all(fits) {
                return None;
            }
            let slots = rule.complete(slots, text)?;
            let rank = Rank { ease: 0, frame: false, loose: 0, misspelt: 0, strict: std::cmp::Reverse(0) };
            Some(Hit { rule: at, matcher: usize::MAX, rank, slots, first_slot: None, swallows_joint: false })
        })
    }

    /// A rule that says nothing about words, and everything about the rest of the request. Such are asked last.
    pub fn by_conditions(
        &self,
        project: &str,
        text: &str,
        around: &Circumstances<'_>,
    ) -> Option<Verdict<'_>> {
        let text = text.trim();
        let holds = |rule: &&Rule| {
            rule.is_of_conditions_only() && rule.holds_in(project) && rule.when.fails(text, around).is_none()
        };
        let rule = self.rules.iter().filter(holds).max_by_key(|rule| rule.priority)?;
        let slots = rule.complete(Slots::new(), text)?;
        Some(Self::verdict_of(rule, slots, 1.0))
    }

    fn verdict(&self, hit: &Hit) -> Verdict<'_> {
        Self::verdict_of(&self.rules[hit.rule], hit.slots.clone(), score(&hit.rank))
    }

    fn verdict_of(rule: &Rule, slots: Slots, score: f32) -> Verdict<'_> {
        let action = rule.act(&slots);
        let shown = slots.into_iter().filter(|(name, _)| !name.starts_with(HIDDEN)).collect();
        Verdict { rule: &rule.name, intent: &rule.intent, slots: shown, score, action, parts: Vec::new() }
    }

    /// Several parts, each answered by a rule of its own.
    fn several(
        &self,
        project: &str,
        text: &str,
        around: &Circumstances<'_>,
        lenient: bool,
    ) -> Option<Verdict<'_>> {
        let answer = |piece: &str, before: Option<&(String, Hit)>| {
            let hit = self.hit(project, piece, around).filter(|hit| self.may_be_part(hit));
            // "mute the bass and the drums": the verb is said once.
            let carried = || {
                let (said, before) = before?;
                let verb = said.get(..before.first_slot?)?;
                let piece = format!("{verb}{piece}");
                let hit = self.hit(project, &piece, around).filter(|hit| self.may_be_part(hit))?;
                (hit.rule == before.rule).then_some((piece, hit))
            };
            hit.map(|hit| (piece.to_owned(), hit)).or_else(carried)
        };
        let lenient = lenient && self.rules.iter().any(|rule| rule.split == Split::Parts);
        let parts = split::split(text, lenient, answer)?;
        let hits: Vec<&Hit> =
            parts.iter().filter_map(|(_, part)| part.as_ref().map(|(_, hit)| hit)).collect();
        let first = *hits.first()?;
        let is_whole = hits.len() == parts.len();
        let partly = lenient && hits.iter().all(|hit| self.rules[hit.rule].split == Split::Parts);
        if !is_whole && !partly {
            return None;
        }
        let mut verdict = self.verdict(first);
        let mut actions: Vec<Action> = hits.iter().map(|hit| self.verdict(hit).action).collect();
        let left: Vec<&str> =
            parts.iter().filter(|(_, part)| part.is_none()).map(|(piece, _)| piece.as_str()).collect();
        if !left.is_empty() {
            actions.push(Action::Answer(format!("Not understood: {}", left.join("; "))));
        }
        verdict.score = hits.iter().map(|hit| score(&hit.rank)).fold(1.0, f32::min);
        verdict.action = Action::Several(actions);
        let named = parts
            .into_iter()
            .map(|(piece, part)| (piece, part.map(|(_, hit)| self.rules[hit.rule].name.as_str())));
        verdict.parts = named.collect();
        Some(verdict)
    }

    /// Where a request is to go is decided for all of it.
    fn may_be_part(&self, hit: &Hit) -> bool {
        let rule = &self.rules[hit.rule];
        rule.split != Split::Off
            && matches!(rule.action, rule::Act::Text(_) | rule::Act::Json(_) | rule::Act::Calls(_))
    }
}

/// Each misspelt word, and each word taken as it comes, makes it a little less sure.
fn score(rank: &Rank) -> f32 {
    let doubt = f32::from(rank.misspelt) * 0.1
        + if rank.ease >= 2 { 0.1 } else { 0.0 }
        + if rank.frame { 0.1 } else { 0.0 };
    (1.0 - doubt).max(0.1)
}
