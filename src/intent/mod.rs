//! The intent lane: questions that a rule answers, and no model ever sees.
//!
//! A rule is a regular expression over the question and a text to answer with. Rules are asked first, before
//! any memory, so that a stored answer never shadows a rule that was added later.

mod file;

pub use file::{Error, load, parse};

use regex::{Captures, Regex};

/// Rules in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it is called in headers, logs and metrics.
    pub name: String,
    /// The projects it holds in; empty: in all.
    pub projects: Vec<String>,
    pattern: Regex,
    answer: String,
    /// Finds the `{name}`s of the answer.
    slots: Regex,
}

/// What a rule says to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer with this text.
    Answer(String),
}

/// The rule that matched, and what it says to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// What to do.
    pub action: Action,
}

impl RuleSet {
    /// The first rule of `project` that matches `text`.
    pub fn classify(&self, project: &str, text: &str) -> Option<Verdict<'_>> {
        let text = text.trim();
        self.rules.iter().filter(|rule| rule.holds_in(project)).find_map(|rule| {
            let found = rule.pattern.captures(text)?;
            Some(Verdict { rule: &rule.name, action: Action::Answer(rule.answer_with(&found)) })
        })
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Adds the rules of `other` behind these.
    pub fn extend(&mut self, other: Self) {
        self.rules.extend(other.rules);
    }
}

impl Rule {
    fn holds_in(&self, project: &str) -> bool {
        self.projects.is_empty() || self.projects.iter().any(|name| name == project)
    }

    /// The answer, with each `{name}` replaced by what the group of that name caught. In one pass, so that
    /// what was caught is never taken for a slot itself.
    fn answer_with(&self, found: &Captures<'_>) -> String {
        let fill = |slot: &Captures<'_>| {
            let caught = found.name(&slot[1]).map_or(&slot[0], |group| group.as_str());
            caught.to_owned()
        };
        self.slots.replace_all(&self.answer, fill).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> RuleSet {
        parse(
            r#"
            [[rule]]
            name = "volume"
            pattern = '(?i)^turn (?<direction>up|down) track (?<track>\d+|\{direction\})$'
            answer = "Track {track} {direction}. {untouched}"
            projects = ["music"]

            [[rule]]
            name = "ping"
            pattern = "^ping$"
            answer = "pong"
            "#,
        )
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_answers_with_its_slots_filled() {
        let rules = rules();
        let verdict = rules.classify("music", "  Turn up track 3\n").unwrap();
        assert_eq!(verdict.rule, "volume");
        assert_eq!(verdict.action, Action::Answer("Track 3 up. {untouched}".into()));
    }

    #[test]
    fn what_a_slot_caught_is_never_a_slot_itself() {
        let verdict = rules().classify("music", "turn up track {direction}").map(|verdict| verdict.action);
        assert_eq!(verdict, Some(Action::Answer("Track {direction} up. {untouched}".into())));
    }

    #[test]
    fn a_rule_of_another_project_is_silent() {
        let rules = rules();
        assert_eq!(rules.classify("default", "turn up track 3"), None);
        assert_eq!(rules.classify("default", "ping").unwrap().rule, "ping");
        assert_eq!(rules.classify("default", "ping pong"), None);
    }
}
