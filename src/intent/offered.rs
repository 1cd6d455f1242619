//! What a model may be asked where examples do not tell: which of these is it? Opt-in; who asks it is not known here.

use super::learned::{Mind, Read};
use super::rule::{Circumstances, Rule};
use super::{RuleSet, Verdict};
use std::time::Duration;

/// The most rules that a model chooses among. Small ones are lost among more, and large ones are paid by the token.
const MOST_OFFERED: usize = 12;
/// The most examples that it is shown of each.
const MOST_SHOWN: usize = 4;
/// The longest of them.
const LONGEST_SHOWN: usize = 200;
/// What is likelier by the examples to be none of the rules than one of them by more than this is not asked about: most
/// of what people say is nobody's business, and must not wait for a model.
const LEAST_SHARE: f32 = 0.05;

/// Which model is asked, and when it is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct Naming {
    /// The model, as a client would name it.
    pub model: String,
    /// How sure of a name it must be, of one; at zero it is taken at its word.
    pub sure: f64,
    /// How long it may take.
    pub deadline: Duration,
}

impl Naming {
    /// This model, within the usual bounds.
    pub fn by(model: &str) -> Self {
        Self { model: model.to_owned(), sure: 0.9, deadline: Duration::from_secs(2) }
    }
}

/// A rule that may be what is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    rule: usize,
    /// What it is called here; no two are called the same.
    pub name: String,
    /// What is said by those who mean it.
    pub examples: Vec<String>,
}

impl RuleSet {
    /// The rules among which a model may choose: those that are learned from examples and may answer `text`. With
    /// `learned` they are the likeliest by their examples; else there are none where there are too many.
    pub fn offered(
        &self,
        project: &str,
        text: &str,
        around: &Circumstances<'_>,
        learned: Option<(&Mind, &Read)>,
    ) -> Vec<Offered> {
        let text = text.trim();
        let mut may: Vec<usize> = match learned {
            Some((mind, read)) => self.likeliest(mind, read),
            None => self.learners.iter().map(|(_, at)| *at).collect(),
        };
        may.retain(|at| self.may(*at, project, text, around) && self.found(*at, text).is_some());
        match learned {
            Some(_) => may.truncate(MOST_OFFERED),
            None if may.len() > MOST_OFFERED => return Vec::new(),
            None => {}
        }
        // In their own order, so that what the model has read of them is read once.
        may.sort_unstable();
        let mut offered: Vec<Offered> = Vec::with_capacity(may.len());
        for at in may {
            let one = Offered::of(&self.rules[at], at);
            if !offered.iter().any(|known| known.name.eq_ignore_ascii_case(&one.name)) {
                offered.push(one);
            }
        }
        offered
    }

    /// The rules by how likely they are, those left out that hardly are.
    fn likeliest(&self, mind: &Mind, read: &Read) -> Vec<usize> {
        let shares = self.learned_by(mind).zip(mind.shares(read));
        let mut likely: Vec<(usize, f32)> = shares
            .filter_map(|(at, share)| Some((at?, share)))
            .filter(|(_, share)| *share >= LEAST_SHARE)
            .collect();
        likely.sort_by(|one, other| other.1.total_cmp(&one.1));
        likely.into_iter().map(|(at, _)| at).collect()
    }

    /// What the rule says that a model has chosen; `score` is how sure it was.
    pub fn as_offered(&self, offered: &Offered, text: &str, score: f32) -> Option<Verdict<'_>> {
        let slots = self.found(offered.rule, text)?;
        Some(Self::verdict_of(self.rules.get(offered.rule)?, slots, score))
    }
}

impl Offered {
    fn of(rule: &Rule, at: usize) -> Self {
        let shown = rule.examples.iter().map(|example| &example.text);
        let shown = shown.filter(|text| text.len() <= LONGEST_SHOWN).take(MOST_SHOWN);
        Self { rule: at, name: rule.intent.clone(), examples: shown.cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn rule(name: &str, more: &str) -> String {
        let examples = "examples = ['one', 'two', 'three', 'four', 'five']";
        format!("[[rule]]\nname = '{name}'\nanswer = 'x'\n{examples}\n{more}\n")
    }

    fn offered(rules: &str, text: &str) -> Vec<String> {
        let rules = parse(rules).unwrap();
        let offered = rules.offered("p", text, &Circumstances::default(), None);
        offered.into_iter().map(|offered| offered.name).collect()
    }

    #[test]
    fn only_what_may_answer_is_offered_and_each_name_once() {
        let rules = [
            rule("a", ""),
            rule("b", "when = { max_words = 2 }"),
            rule("c", "projects = ['other']"),
            rule("d", "find = '{n:number}'"),
            rule("e", "intent = 'A'"),
            "[[rule]]\nname = 'f'\nmatch = 'f'\nanswer = 'x'\n".to_owned(),
        ];
        assert_eq!(offered(&rules.concat(), "say it 7 times"), ["a", "d"]);
        assert_eq!(offered(&rules.concat(), "do so"), ["a", "b"]);
    }

    #[test]
    fn too_many_are_none_where_nobody_knows_the_likeliest() {
        let rules = |count: usize| (0..count).map(|nth| rule(&format!("r{nth}"), "")).collect::<String>();
        assert_eq!(offered(&rules(MOST_OFFERED), "x").len(), MOST_OFFERED);
        assert!(offered(&rules(MOST_OFFERED + 1), "x").is_empty());
    }

    #[test]
    fn a_few_short_examples_are_shown() {
        let long = "x".repeat(LONGEST_SHOWN + 1);
        let rules = parse(&format!(
            "[[rule]]\nname = 'a'\nanswer = 'x'\nexamples = ['{long}', '1', '2', '3', '4', '5']\n"
        ));
        let rules = rules.unwrap();
        let offered = rules.offered("p", "x", &Circumstances::default(), None);
        assert_eq!(offered[0].examples, ["1", "2", "3", "4"]);
        let verdict = rules.as_offered(&offered[0], "x", 0.5).unwrap();
        assert_eq!((verdict.rule, verdict.score.to_bits()), ("a", 0.5f32.to_bits()));
    }
}
