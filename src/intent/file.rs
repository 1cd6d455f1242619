//! The rule file: TOML to a [`RuleSet`].

use super::{Rule, RuleSet};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The most rules in a file.
const MAX_RULES: usize = 10_000;

/// The most memory a compiled pattern may take. The `regex` crate never backtracks, so time is bounded too.
const MAX_PATTERN_BYTES: usize = 1 << 20;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    pattern: String,
    answer: String,
    #[serde(default)]
    projects: Vec<String>,
}

/// Reads a rule file.
pub fn load(file: &Path) -> Result<RuleSet, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| Error::Unreadable { file: file.to_owned(), source })?;
    parse(&text).map_err(|error| Error::In { file: file.to_owned(), error: Box::new(error) })
}

/// Reads the text of a rule file.
pub fn parse(text: &str) -> Result<RuleSet, Error> {
    let raw: RawFile =
        toml::from_str(text).map_err(|error| Error::Malformed(error.to_string().trim_end().to_owned()))?;
    if raw.rule.len() > MAX_RULES {
        return Err(Error::Malformed(format!("holds more than {MAX_RULES} rules")));
    }
    let mut rules: Vec<Rule> = Vec::with_capacity(raw.rule.len());
    for (raw, at) in raw.rule.into_iter().zip(1..) {
        let name = raw.name.clone();
        let taken = rules.iter().any(|rule| rule.name == name);
        let rule = if taken { Err("the name is taken by an earlier rule".to_owned()) } else { compile(raw) };
        rules.push(rule.map_err(|reason| Error::BadRule { at, name, reason })?);
    }
    Ok(RuleSet { rules })
}

fn compile(raw: RawRule) -> Result<Rule, String> {
    let RawRule { name, pattern, answer, projects } = raw;
    // The name travels in a response header.
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err("a name must be of visible ASCII characters, without spaces".to_owned());
    }
    if answer.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let pattern = RegexBuilder::new(&pattern)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| format!("the pattern does not compile: {error}"))?;
    if pattern.is_match("") {
        return Err("the pattern matches the empty text, so it would catch every question".to_owned());
    }
    let slots = Regex::new(r"\{(\w+)\}").map_err(|error| error.to_string())?;
    Ok(Rule { name, projects, pattern, answer, slots })
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
    fn an_empty_file_holds_no_rules() {
        assert!(parse("").unwrap().rules().is_empty());
    }
}
