//! Rule files: TOML to a [`RuleSet`].

use super::engine::{Engine, Lore};
use super::kinds::Language;
use super::lint;
use super::raw::{RawFile, RawVocabulary};
use super::rule::Rule;
use super::{RuleSet, shipped};
use regex::RegexSet;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// The most rules in a file.
const MAX_RULES: usize = 10_000;
/// The longest vocabulary file.
const MAX_VOCABULARY_BYTES: u64 = 4 << 20;
/// Of what is taken for a learned rule, the share that must be it, where no file says.
const PRECISION: f64 = 0.95;

/// Why a rule file cannot be used. The old rules stay in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a rule file.
    #[error("{0}")]
    Malformed(String),
    /// A rule in it cannot work.
    #[error("rule {at} (\"{name}\"): {reason}")]
    BadRule {
        /// Its place in the file, counted from one.
        at: usize,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An error in a named file.
    #[error("{file}: {error}")]
    In {
        /// Which file.
        file: PathBuf,
        /// What is wrong in it.
        error: Box<Error>,
    },
}

/// Names that a program knows and no file: the tracks of the open song. They join the vocabulary of their name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// The vocabulary.
    pub name: String,
    /// Its lines.
    pub values: Vec<String>,
}

/// Rule files that were read, and can be compiled again and again.
#[derive(Clone, Debug, Default)]
pub struct Book {
    files: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    file: Option<PathBuf>,
    name: String,
    raw: RawFile,
}

/// Reads a rule file.
pub fn load(file: &Path) -> Result<RuleSet, Error> {
    let mut book = Book::default();
    book.read(file)?;
    book.compile(&[])
}

/// Reads the text of a rule file.
pub fn parse(text: &str) -> Result<RuleSet, Error> {
    let mut book = Book::default();
    book.add("", text)?;
    book.compile(&[])
}

impl Book {
    /// With the rules that come with weir.
    pub fn shipped() -> Result<Self, Error> {
        let mut book = Self::default();
        shipped::FILES.iter().try_for_each(|(name, text)| book.add(&format!("weir/{name}"), text))?;
        Ok(book)
    }

    /// Reads a file, and those that it names.
    pub fn read(&mut self, file: &Path) -> Result<(), Error> {
        let inside = |error| Error::In { file: file.to_owned(), error: Box::new(error) };
        let text = read_text(file)?;
        let mut raw = read_raw(&text).map_err(inside)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        for vocabulary in &mut raw.vocabulary {
            if let Some(list) = &vocabulary.file {
                let lines = read_text(&folder.join(list)).map_err(inside)?;
                let lines =
                    lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                vocabulary.values.extend(lines.map(str::to_owned));
            }
        }
        let name = file.display().to_string();
        self.files.push(Source { file: Some(file.to_owned()), name, raw });
        Ok(())
    }

    /// Takes up the text of a rule file, under a name for those who want to know where a rule is from.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), Error> {
        self.files.push(Source { file: None, name: name.to_owned(), raw: read_raw(text)? });
        Ok(())
    }

    /// Compiles all of it, with what programs have pushed.
    pub fn compile(&self, pushed: &[Pushed]) -> Result<RuleSet, Error> {
        let mut rules: Vec<Rule> = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (source, of_file) in self.files.iter().enumerate() {
            self.rules_of(source, of_file, &mut rules, &mut places)?;
        }
        self.mark(&mut rules, &places, pushed);
        let phrases: BTreeMap<String, String> =
            self.files.iter().flat_map(|source| source.raw.phrases.clone()).collect();
        let lore = Lore {
            languages: self.languages(),
            phrases: &phrases,
            vocabularies: self.vocabularies(pushed),
            fillers: self.files.iter().flat_map(|source| source.raw.fillers.clone()).collect(),
        };
        let blame = |(rule, reason): (Option<usize>, String)| match rule {
            Some(rule) => self.bad_rule(places[rule], &rules[rule].name, reason),
            None => Error::Malformed(reason),
        };
        let engine = Engine::new(&rules, lore).map_err(blame)?;
        let texts: Vec<&str> =
            rules.iter().flat_map(|rule| &rule.regexes).map(regex::Regex::as_str).collect();
        let regexes = RegexSet::new(&texts).map_err(|error| Error::Malformed(error.to_string()))?;
        let owners =
            rules.iter().enumerate().flat_map(|(at, rule)| rule.regexes.iter().map(move |_| at)).collect();
        let learners = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.learns)
            .map(|(at, rule)| (rule.key(), at))
            .collect();
        let precision = self.precision()?;
        let set = RuleSet { rules, engine, regexes, regex_owners: owners, learners, precision };
        for (at, place) in places.iter().enumerate() {
            lint::templates(&set, at).map_err(|reason| self.bad_rule(*place, &set.rules[at].name, reason))?;
        }
        Ok(set)
    }

    fn rules_of(
        &self,
        source: usize,
        of_file: &Source,
        rules: &mut Vec<Rule>,
        places: &mut Vec<(usize, usize)>,
    ) -> Result<(), Error> {
        let raw = &of_file.raw;
        let first = rules.len();
        for (at, rule) in raw.rule.iter().enumerate() {
            let name = rule.name.clone();
            let made = match rules[first..].iter().any(|known| known.name == name) {
                true => Err("the name is taken by an earlier rule".to_owned()),
                false => Rule::new(rule.clone(), &raw.projects, raw.split),
            };
            rules.push(made.map_err(|reason| self.bad_rule((source, at), &name, reason))?);
            places.push((source, at));
        }
        Ok(())
    }

    /// Says of each rule where it is from, and what tells it from what it was before.
    fn mark(&self, rules: &mut [Rule], places: &[(usize, usize)], pushed: &[Pushed]) {
        let digest_of = |what: &dyn std::fmt::Debug| {
            let mut hasher = DefaultHasher::new();
            format!("{what:?}").hash(&mut hasher);
            hasher.finish()
        };
        let lore: Vec<_> = self
            .files
            .iter()
            .map(|source| {
                (&source.raw.phrases, &source.raw.vocabulary, &source.raw.fillers, &source.raw.languages)
            })
            .collect();
        let lore = digest_of(&(lore, pushed));
        for (rule, (source, at)) in rules.iter_mut().zip(places) {
            let source = &self.files[*source];
            rule.origin.clone_from(&source.name);
            rule.digest = digest_of(&(lore, &source.raw.rule[*at], &rule.projects, source.raw.split));
        }
    }

    /// The highest that a file wants.
    fn precision(&self) -> Result<f64, Error> {
        let wanted = self.files.iter().filter_map(|source| source.raw.precision);
        let precision = wanted.reduce(f64::max).unwrap_or(PRECISION);
        match (0.5..1.0).contains(&precision) {
            true => Ok(precision),
            false => Err(Error::Malformed("precision must be at least 0.5 and below 1".to_owned())),
        }
    }

    fn bad_rule(&self, (source, at): (usize, usize), name: &str, reason: String) -> Error {
        let error = Error::BadRule { at: at + 1, name: name.to_owned(), reason };
        match self.files.get(source).and_then(|source| source.file.clone()) {
            Some(file) => Error::In { file, error: Box::new(error) },
            None => error,
        }
    }

    fn languages(&self) -> Vec<Language> {
        let mut languages = vec![Language::En];
        for language in self.files.iter().flat_map(|source| &source.raw.languages) {
            if !languages.contains(language) {
                languages.push(*language);
            }
        }
        languages
    }

    fn vocabularies(&self, pushed: &[Pushed]) -> Vec<(String, usize, Vec<String>)> {
        let mut all: Vec<(String, usize, Vec<String>)> = Vec::new();
        let mut add = |name: &str, open: usize, values: &[String]| match all
            .iter_mut()
            .find(|(known, _, _)| known == name)
        {
            Some((_, widest, lines)) => {
                *widest = open.max(*widest);
                lines.extend_from_slice(values);
            }
            None => all.push((name.to_owned(), open, values.to_vec())),
        };
        for RawVocabulary { name, open, values, file: _ } in
            self.files.iter().flat_map(|source| &source.raw.vocabulary)
        {
            add(name, *open, values);
        }
        pushed.iter().for_each(|Pushed { name, values }| add(name, 0, values));
        all
    }
}

fn read_text(file: &Path) -> Result<String, Error> {
    let unreadable = |source| Error::Unreadable { file: file.to_owned(), source };
    let length = std::fs::metadata(file).map_err(unreadable)?.len();
    if length > MAX_VOCABULARY_BYTES {
        return Err(Error::Malformed(format!(
            "{} is longer than {MAX_VOCABULARY_BYTES} bytes",
            file.display()
        )));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

fn read_raw(text: &str) -> Result<RawFile, Error> {
    let raw: RawFile =
        toml::from_str(text).map_err(|error| Error::Malformed(error.to_string().trim_end().to_owned()))?;
    match raw.rule.len() > MAX_RULES {
        true => Err(Error::Malformed(format!("holds more than {MAX_RULES} rules"))),
        false => Ok(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn faults_say_which_rule_and_why() {
        let rule = |name: &str, pattern: &str| {
            format!("[[rule]]\nname = '{name}'\npattern = '{pattern}'\nanswer = 'x'\n")
        };
        assert!(fault(&rule("a", "(")).starts_with("rule 1 (\"a\"): the pattern does not compile"));
        assert!(fault(&rule("a b", "x")).contains("visible ASCII"));
        assert!(fault(&rule("a", "x*")).contains("every question"));
        assert!(fault(&(rule("a", "x") + &rule("a", "y"))).starts_with("rule 2 (\"a\"): the name is taken"));
        assert!(fault("[[rule]]\nname = 'a'\npatern = 'x'").contains("unknown field `patern`"));
    }

    #[test]
    fn a_pattern_that_cannot_work_is_told_at_load() {
        let rule = |pattern: &str, answer: &str| {
            format!("[[rule]]\nname = 'a'\nmatch = '{pattern}'\nanswer = '{answer}'\n")
        };
        let cases = [
            ("{x:text}", "x", "it would catch every question"),
            ("[mute]", "x", "nothing is said"),
            ("mute {t:nothing}", "x", "no kind or vocabulary \"nothing\""),
            ("mute (a|b", "x", "a \")\" is missing"),
            ("mute )", "x", "closes nothing"),
            ("mute <what>", "x", "there is no phrase \"what\""),
            ("mute {t:word}", "{other}", "\"{other}\" is no slot of it"),
            ("mute {t:word?} now", "{t}", "may be missing"),
        ];
        for (pattern, answer, expected) in cases {
            let fault = fault(&rule(pattern, answer));
            assert!(fault.contains(expected), "{pattern}: {fault}");
        }
    }

    #[test]
    fn an_empty_file_holds_no_rules() {
        assert!(parse("").unwrap().rules().is_empty());
    }
}
