//! What there is to learn of rules, and what has been learned: a [`Mind`].

use super::judged::{Judged, judge};
use super::{Classifier, Guess, Learn, Sample, dot};
use crate::vector::UnitVector;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// What people ask that is no rule's business, most of the time.
const BACKGROUND: &str = include_str!("background.txt");
/// What is as near as this to an example may well be some rule's business.
const TOO_NEAR: f32 = 0.62;
/// The most examples that are told of as mistaken.
const MOST_CONFUSIONS: usize = 200;
/// The most that is learned from; examples behind that are left out.
const MOST_EXAMPLES: usize = 50_000;

/// What there is to learn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lessons {
    /// The rules, each a class.
    rules: Vec<String>,
    texts: Vec<Lesson>,
    precision: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lesson {
    text: String,
    class: Option<usize>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Example,
    Name,
    Not,
    Background,
}

/// A text as an encoder has read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// As it was read: in the one way of saying it.
    pub text: String,
    /// Where it points.
    pub vector: UnitVector,
}

/// What has been learned of rules from their examples.
#[derive(Clone, Debug)]
pub struct Mind {
    classifier: Classifier,
    rules: Vec<String>,
    digest: u64,
    is_trained: bool,
    marks: Vec<Mark>,
    confusions: Vec<Confusion>,
}

/// How well a rule is told from the others and from what is none, by classifiers that had not seen the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The rule's key.
    pub rule: String,
    /// How many examples it has.
    pub examples: usize,
    /// How many of them were told.
    pub told: usize,
    /// How many of them were left alone, for want of certainty.
    pub left: usize,
    /// How many texts were taken for this rule in all, and how many of them rightly.
    pub taken: usize,
}

/// An example that was taken for another rule, or what is none and was taken for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// What was said.
    pub text: String,
    /// The rule whose example it is.
    pub of: Option<String>,
    /// The rule that it was taken for.
    pub taken_for: String,
}

impl Lessons {
    /// Nothing, of which a share `precision` is to be right.
    pub fn new(precision: f64) -> Self {
        Self { precision, ..Self::default() }
    }

    /// A rule: how it is found again, what it is called, what it catches and what it does not.
    pub fn add<'t>(
        &mut self,
        key: &str,
        name: &str,
        examples: impl Iterator<Item = &'t str>,
        not: impl Iterator<Item = &'t str>,
    ) {
        let class = self.rules.len();
        self.rules.push(key.to_owned());
        let lesson = |text: &str, kind| Lesson { text: text.to_owned(), class: Some(class), kind };
        self.texts.extend(words_of(name).map(|name| lesson(&name, Kind::Name)));
        self.texts.extend(examples.map(|text| lesson(text, Kind::Example)));
        self.texts.extend(not.map(|text| Lesson { class: None, ..lesson(text, Kind::Not) }));
    }

    /// With what is none of them.
    #[must_use]
    pub fn ready(mut self) -> Self {
        self.texts.truncate(MOST_EXAMPLES);
        let examples: HashSet<String> = self
            .texts
            .iter()
            .filter(|lesson| lesson.kind == Kind::Example)
            .map(|lesson| lesson.text.to_lowercase())
            .collect();
        // What one rule is not may be what another is.
        self.texts
            .retain(|lesson| lesson.kind != Kind::Not || !examples.contains(&lesson.text.to_lowercase()));
        let background = BACKGROUND.lines().map(|text| Lesson {
            text: text.to_owned(),
            class: None,
            kind: Kind::Background,
        });
        self.texts.extend(background);
        self
    }

    /// Tells one set of lessons from others.
    pub fn digest(&self) -> u64 {
        let Self { rules, texts, precision } = self;
        let mut hasher = DefaultHasher::new();
        (rules, texts, precision.to_bits()).hash(&mut hasher);
        hasher.finish()
    }

    /// What is to be read by an encoder, in order.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.texts.iter().map(|lesson| lesson.text.as_str())
    }

    /// Learns in closed form. `read` is what became of each text; `None` where it could not be read.
    pub fn at_once(&self, read: &[Option<Read>]) -> Option<Mind> {
        self.learn(read, Classifier::at_once, false)
    }

    /// Learns as well as it can. Takes seconds where there are thousands of examples.
    pub fn trained(&self, read: &[Option<Read>]) -> Option<Mind> {
        self.learn(read, Classifier::trained, true)
    }

    fn learn(&self, read: &[Option<Read>], learn: Learn, is_trained: bool) -> Option<Mind> {
        let (places, samples): (Vec<usize>, Vec<Sample<'_>>) = self.numbered(read).into_iter().unzip();
        let count = self.rules.len();
        let classifier = learn(&samples, count)?;
        let judged = judge(&samples, count, learn);
        let bound = Judged::bound(&judged, self.precision);
        let (marks, confusions) = self.marks(&judged, &places, bound);
        let classifier = classifier.bounded(bound);
        let (rules, digest) = (self.rules.clone(), self.digest());
        Some(Mind { classifier, rules, digest, is_trained, marks, confusions })
    }

    /// What is learned from: all but what is none and yet too near to an example.
    pub fn samples<'r>(&'r self, read: &'r [Option<Read>]) -> Vec<Sample<'r>> {
        self.numbered(read).into_iter().map(|(_, sample)| sample).collect()
    }

    /// The same, each with its place among the texts.
    fn numbered<'r>(&'r self, read: &'r [Option<Read>]) -> Vec<(usize, Sample<'r>)> {
        let known = || {
            let all = self.texts.iter().zip(read).enumerate();
            all.filter_map(|(at, (lesson, read))| Some((at, lesson, read.as_ref()?)))
        };
        let of_examples = known().filter(|(_, lesson, _)| lesson.kind == Kind::Example);
        let examples: Vec<&[f32]> = of_examples.map(|(_, _, read)| read.vector.as_slice()).collect();
        let is_near =
            |read: &Read| examples.iter().any(|example| dot(example, read.vector.as_slice()) >= TOO_NEAR);
        known()
            .filter(|(_, lesson, read)| lesson.kind != Kind::Background || !is_near(read))
            .map(|(at, lesson, Read { text, vector })| {
                let is_name = lesson.kind == Kind::Name;
                (at, Sample { text, vector: vector.as_slice(), class: lesson.class, is_name })
            })
            .collect()
    }

    fn marks(&self, judged: &[Judged], places: &[usize], bound: f32) -> (Vec<Mark>, Vec<Confusion>) {
        let mut marks: Vec<Mark> =
            self.rules.iter().map(|rule| Mark { rule: rule.clone(), ..Mark::default() }).collect();
        let mut confusions = Vec::new();
        for Judged { at, class, guess } in judged {
            let is_sure = guess.logit >= bound;
            marks[guess.class].taken += usize::from(is_sure);
            if let Some(class) = class {
                let mark = &mut marks[*class];
                mark.examples += 1;
                mark.told += usize::from(is_sure && guess.class == *class);
                mark.left += usize::from(!is_sure);
            }
            if is_sure && *class != Some(guess.class) && confusions.len() < MOST_CONFUSIONS {
                confusions.push(Confusion {
                    text: self.texts[places[*at]].text.clone(),
                    of: class.map(|class| self.rules[class].clone()),
                    taken_for: self.rules[guess.class].clone(),
                });
            }
        }
        (marks, confusions)
    }
}

impl Mark {
    /// Of what was taken for this rule, the share that was it; `None` where nothing was.
    pub fn precision(&self) -> Option<f64> {
        (self.taken > 0).then(|| self.told as f64 / self.taken as f64)
    }
}

impl Mind {
    /// What it was learned from.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether it has learned as well as it can.
    pub fn is_trained(&self) -> bool {
        self.is_trained
    }

    /// The keys of its rules.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }

    /// How well each rule is told.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// What was mistaken.
    pub fn confusions(&self) -> &[Confusion] {
        &self.confusions
    }

    /// What a text is taken for, of what `may` allows, where it is sure.
    pub(in crate::intent) fn classify(&self, read: &Read, may: impl Fn(usize) -> bool) -> Option<Guess> {
        self.classifier.classify(&read.text, read.vector.as_slice(), may)
    }

    /// How likely each rule is, what is none of them counted too.
    pub(in crate::intent) fn shares(&self, read: &Read) -> Vec<f32> {
        self.classifier.shares(&read.text, read.vector.as_slice())
    }

    /// How far above the bound each rule is.
    pub(in crate::intent) fn margins(&self, read: &Read) -> Vec<f32> {
        self.classifier.margins(&read.text, read.vector.as_slice())
    }
}

/// The words in a name such as `card_arrival` or `cardArrival`; `None` where it is no name that says anything.
fn words_of(name: &str) -> Option<String> {
    let mut words = String::new();
    let mut before = ' ';
    for c in name.chars() {
        let begins = !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase());
        if begins && !words.ends_with(' ') && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.is_alphanumeric().then(|| c.to_lowercase()).into_iter().flatten());
        before = c;
    }
    let words = words.trim_end().to_owned();
    // "r17" says nothing.
    let letters = words.chars().filter(|c| c.is_alphabetic()).count();
    (letters >= 3).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_where_they_say_something() {
        assert_eq!(words_of("card_arrival").as_deref(), Some("card arrival"));
        assert_eq!(words_of("cardArrival-soon").as_deref(), Some("card arrival soon"));
        assert_eq!(words_of("r17"), None);
        assert_eq!(words_of("?!"), None);
    }

    #[test]
    fn each_background_text_is_one_line_and_there_once() {
        let lines: Vec<&str> = BACKGROUND.lines().collect();
        let once: HashSet<&&str> = lines.iter().collect();
        assert!(lines.len() >= 200 && once.len() == lines.len());
        assert!(lines.iter().all(|line| !line.trim().is_empty() && line.trim() == *line));
    }

    #[test]
    fn what_one_rule_is_not_may_be_another() {
        let mut lessons = Lessons::new(0.9);
        lessons.add("a", "ring", ["call him"].into_iter(), ["text him", "write to him"].into_iter());
        lessons.add("b", "write", ["Text him"].into_iter(), std::iter::empty());
        let lessons = lessons.ready();
        let nots: Vec<&str> = lessons
            .texts
            .iter()
            .filter(|lesson| lesson.kind == Kind::Not)
            .map(|lesson| lesson.text.as_str())
            .collect();
        assert_eq!(nots, ["write to him"]);
        assert_ne!(lessons.digest(), Lessons::new(0.9).ready().digest());
    }
}
