//! What is wrong with rules, found before a user finds it.

use super::learned::Mind;
use super::pattern::{Kind, Node};
use super::rule::{Example, WHOLE};
use super::{RuleSet, kinds};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many sentences are made of a pattern, to see whether it can be reached.
const MOST_SAMPLES: usize = 12;
/// With fewer examples than this there is hardly anything to learn from.
const FEW: usize = 5;

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An example that no rule answers.
    Unanswered {
        /// The rule whose example it is.
        rule: String,
        /// The example.
        text: String,
    },
    /// An example that another rule answers.
    Conflict {
        /// The rule whose example it is.
        rule: String,
        /// The example.
        text: String,
        /// The rule that answers it.
        by: String,
    },
    /// An example whose slots hold something else.
    WrongSlots {
        /// The rule whose example it is.
        rule: String,
        /// The example.
        text: String,
        /// What they hold.
        got: String,
    },
    /// A counter-example that the rule answers.
    Taken {
        /// The rule.
        rule: String,
        /// The counter-example.
        text: String,
    },
    /// A pattern that others answer whatever is put into it.
    Shadowed {
        /// The rule whose pattern it is.
        rule: String,
        /// The pattern.
        pattern: String,
        /// The rules that answer in its place.
        by: Vec<String>,
    },
    /// A rule without examples: nobody would notice if it broke. A warning.
    Untested {
        /// The rule.
        rule: String,
    },
    /// A rule that is learned from few examples. A warning.
    FewExamples {
        /// The rule.
        rule: String,
        /// How many it has.
        examples: usize,
    },
    /// A rule that is learned, and that none of its examples would be recognised as. A warning.
    Unlearned {
        /// The rule.
        rule: String,
    },
}

impl Fault {
    /// Whether rules with it still do what they say.
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::Untested { .. } | Self::FewExamples { .. } | Self::Unlearned { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered { rule, text } => write!(f, "{rule}: no rule answers its example \"{text}\""),
            Self::Conflict { rule, text, by } => {
                write!(f, "{rule}: its example \"{text}\" is answered by {by}")
            }
            Self::WrongSlots { rule, text, got } => write!(f, "{rule}: its example \"{text}\" gives {got}"),
            Self::Taken { rule, text } => write!(f, "{rule}: it answers its counter-example \"{text}\""),
            Self::Shadowed { rule, pattern, by } => {
                write!(
                    f,
                    "{rule}: its pattern \"{pattern}\" is never reached; {} answers in its place",
                    by.join(", ")
                )
            }
            Self::Untested { rule } => write!(f, "{rule}: it has no examples"),
            Self::FewExamples { rule, examples } => {
                write!(f, "{rule}: it is learned from {examples} examples; five are few, ten are better")
            }
            Self::Unlearned { rule } => {
                write!(f, "{rule}: no example of it is recognised by what has learned from the others")
            }
        }
    }
}

/// What the linter found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many rules there are.
    pub rules: usize,
    /// How many patterns and frames.
    pub patterns: usize,
    /// How many examples and counter-examples were tried.
    pub examples: usize,
    /// How many patterns no example of their rule reaches.
    pub uncovered: usize,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// How well each rule that is learned from examples is told, by its name.
    pub learned: Vec<(String, super::Mark)>,
    /// What was mistaken, with the names of the rules.
    pub confusions: Vec<super::Confusion>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.faults.iter().all(Fault::is_warning)
    }
}

impl RuleSet {
    /// Tries every example, and looks for rules that get in each other's way. `mind` is what has been learned from
    /// examples, where it has.
    pub fn check(&self, mind: Option<&Mind>) -> Report {
        let matchers =
            || self.engine.matchers.iter().enumerate().filter(|(_, matcher)| !matcher.only_finds());
        let mut report =
            Report { rules: self.rules.len(), patterns: matchers().count(), ..Report::default() };
        let mut reached: BTreeSet<usize> = BTreeSet::new();
        for (nth, rule) in self.rules.iter().enumerate() {
            let project = a_project(&rule.projects);
            if rule.learns && rule.examples.len() < FEW {
                let (rule, examples) = (rule.name.clone(), rule.examples.len());
                report.faults.push(Fault::FewExamples { rule, examples });
            }
            for example in &rule.examples {
                report.examples += 1;
                report.faults.extend(match rule.learns {
                    true => self.learned_fault(nth, &project, example),
                    false => self.example_fault(&rule.name, &project, example),
                });
                let hit = self.hit(&project, example.text.trim(), &super::Circumstances::default());
                reached.extend(hit.map(|hit| hit.matcher));
            }
            for text in &rule.not {
                report.examples += 1;
                if self.classify(&project, text).is_some_and(|verdict| verdict.rule == rule.name) {
                    report.faults.push(Fault::Taken { rule: rule.name.clone(), text: text.clone() });
                }
            }
            if rule.examples.is_empty() && !rule.is_of_conditions_only() && rule.regexes.is_empty() {
                report.faults.push(Fault::Untested { rule: rule.name.clone() });
            }
        }
        report.uncovered = matchers().filter(|(at, _)| !reached.contains(at)).count();
        if let Some(mind) = mind {
            self.mark(mind, &mut report);
        }
        report.faults.extend(self.shadowed());
        report
    }

    /// What the examples themselves say about what was learned from them.
    fn mark(&self, mind: &Mind, report: &mut Report) {
        let name = |key: &str| {
            let known = self.learners.iter().find(|(known, _)| known == key);
            known.map_or_else(|| key.to_owned(), |(_, at)| self.rules[*at].name.clone())
        };
        for mark in mind.marks() {
            let name = name(&mark.rule);
            if mark.told == 0 {
                report.faults.push(Fault::Unlearned { rule: name.clone() });
            }
            report.learned.push((name, mark.clone()));
        }
        let named = |confusion: &super::Confusion| super::Confusion {
            text: confusion.text.clone(),
            of: confusion.of.as_deref().map(name),
            taken_for: name(&confusion.taken_for),
        };
        report.confusions = mind.confusions().iter().map(named).collect();
    }

    /// An example is learned from, and so no test; but no other rule may answer it first, and its slots must be found.
    fn learned_fault(&self, at: usize, project: &str, example: &Example) -> Option<Fault> {
        let (rule, text) = (self.rules[at].name.clone(), example.text.clone());
        if let Some(verdict) = self.classify(project, &text).filter(|verdict| verdict.rule != rule) {
            let is_of_words =
                !self.rules.iter().any(|other| other.name == verdict.rule && other.is_of_conditions_only());
            if is_of_words {
                return Some(Fault::Conflict { rule, text, by: verdict.rule.to_owned() });
            }
        }
        let Some(slots) = self.found(at, &text) else {
            return Some(Fault::WrongSlots { rule, text, got: "nothing that it needs".to_owned() });
        };
        let got: BTreeMap<String, String> =
            slots.into_iter().filter(|(name, _)| !name.starts_with(super::rule::HIDDEN)).collect();
        let wrong = example.slots.as_ref().is_some_and(|wanted| *wanted != got);
        wrong.then(|| Fault::WrongSlots { rule, text, got: format!("{got:?}") })
    }

    fn example_fault(&self, rule: &str, project: &str, example: &Example) -> Option<Fault> {
        let (name, text) = (rule.to_owned(), example.text.clone());
        let Some(verdict) = self.classify(project, &example.text) else {
            return Some(Fault::Unanswered { rule: name, text });
        };
        if verdict.rule != rule {
            return Some(Fault::Conflict { rule: name, text, by: verdict.rule.to_owned() });
        }
        let got: BTreeMap<String, String> = verdict.slots.into_iter().collect();
        let wrong = example.slots.as_ref().is_some_and(|wanted| *wanted != got);
        wrong.then(|| Fault::WrongSlots { rule: name, text, got: format!("{got:?}") })
    }

    /// Patterns of which every sentence that was made is answered by other rules.
    fn shadowed(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for matcher in self.engine.matchers.iter().filter(|matcher| !matcher.only_finds()) {
            let rule = &self.rules[matcher.rule];
            let project = a_project(&rule.projects);
            let mut by = BTreeSet::new();
            let samples = self.samples(&matcher.nodes);
            let taken = samples.iter().filter(|sample| {
                let verdict = self.classify(&project, sample).filter(|verdict| verdict.rule != rule.name);
                by.extend(verdict.as_ref().map(|verdict| verdict.rule.to_owned()));
                verdict.is_some()
            });
            if !samples.is_empty() && taken.count() == samples.len() {
                let (name, pattern) = (rule.name.clone(), matcher.text.clone());
                faults.push(Fault::Shadowed { rule: name, pattern, by: by.into_iter().collect() });
            }
        }
        faults
    }

    /// The examples of all rules.
    pub fn sentences(&self) -> Vec<String> {
        self.rules.iter().flat_map(|rule| &rule.examples).map(|example| example.text.clone()).collect()
    }

    /// Sentences that a pattern, or a frame in its order, is about.
    pub(super) fn samples(&self, nodes: &[Node]) -> Vec<String> {
        (0..MOST_SAMPLES)
            .map(|nth| {
                let mut words = Vec::new();
                nodes.iter().for_each(|node| self.sample(node, nth, &mut words));
                words.join(" ")
            })
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    fn sample(&self, node: &Node, nth: usize, words: &mut Vec<String>) {
        match node {
            Node::Word(word) => words.push(self.engine.words.text(*word).to_owned()),
            Node::Slot(_, kind) => words.push(self.sample_of(*kind, nth)),
            Node::All(nodes) => nodes.iter().for_each(|node| self.sample(node, nth, words)),
            Node::Any(nodes) => {
                if let Some(node) = nodes.get(nth % nodes.len().max(1)) {
                    self.sample(node, nth / nodes.len().max(1) + nth, words);
                }
            }
            Node::Maybe(node) => {
                if nth.is_multiple_of(2) {
                    self.sample(node, nth, words);
                }
            }
        }
    }

    fn sample_of(&self, kind: Kind, nth: usize) -> String {
        let one_of = |texts: &[&str]| texts[nth % texts.len()].to_owned();
        match kind {
            Kind::Number | Kind::Integer => (nth + 2).to_string(),
            Kind::Order => one_of(&["first", "2nd", "third"]),
            Kind::Unit => kinds::unit_names().nth(nth % 10).unwrap_or("meters").to_owned(),
            Kind::Time => one_of(&["8 am", "noon", "7:30 pm"]),
            Kind::Day => one_of(&["tomorrow", "on Monday", "next Friday"]),
            Kind::Sum => one_of(&["2 + 3", "4 times 5"]),
            Kind::Text | Kind::Word => one_of(&["Zanzibar", "Quux", "Florian"]),
            Kind::List(list) | Kind::Listed(list) => {
                let values = self.engine.lists.get(usize::from(list)).map_or(&[][..], |list| list.values());
                values.get(nth % values.len().max(1)).cloned().unwrap_or_default()
            }
        }
    }
}

/// A project that a rule holds in.
fn a_project(projects: &[String]) -> String {
    projects.first().map_or_else(|| "default".to_owned(), |project| project.replace('*', ""))
}

/// Whether what the templates of a rule name is always there.
pub(super) fn templates(set: &RuleSet, at: usize) -> Result<(), String> {
    let rule = &set.rules[at];
    // What regular expressions leave out stays as it is written.
    if !rule.regexes.is_empty() {
        return Ok(());
    }
    let matchers = || set.engine.matchers.iter().filter(|matcher| matcher.rule == at);
    let derived: Vec<&str> = rule.derived.iter().map(|(name, _)| name.as_str()).collect();
    for named in rule.template_slots() {
        let given = named.name == WHOLE || named.name.starts_with("body") || derived.contains(&named.name);
        let bounds = rule.bounds.get(named.name);
        if given || bounds.is_some_and(|bounds| bounds.default.is_some()) {
            continue;
        }
        if !matchers().any(|matcher| matcher.slots.iter().any(|slot| slot == named.name)) {
            return Err(format!("\"{{{}}}\" is no slot of it", named.name));
        }
        let is_caught = |matcher: &super::engine::Matcher| {
            let caught = matcher.nodes.iter().flat_map(Node::always_catches);
            caught.filter_map(|slot| matcher.slots.get(usize::from(slot))).any(|slot| slot == named.name)
        };
        let may_be_missing = !named.maybe && !bounds.is_some_and(|bounds| bounds.required);
        if may_be_missing && !matchers().all(is_caught) {
            return Err(format!(
                "\"{{{0}}}\" may be missing; give it a default, require it, or write \"{{{0}?}}\"",
                named.name
            ));
        }
    }
    Ok(())
}
