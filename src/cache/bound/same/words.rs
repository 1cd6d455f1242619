//! What stands in an answer: its words, numbers, names, verdict, and list.

use std::collections::BTreeSet;

/// Its words in lower case, without dress: no punctuation, no marks of emphasis, numbers in one form.
pub(super) fn normal(text: &str) -> Vec<String> {
    let text = text.replace('’', "'");
    let mut words = Vec::new();
    for line in text.lines() {
        for word in unnumbered(line).split(|c: char| c.is_whitespace() || "*`|()[]{}\"".contains(c)) {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && !is_sign(c));
            let bare = bare.trim_end_matches(['.', ',', ':', ';', '!', '?', '\'']);
            if bare.chars().any(|c| c.is_alphanumeric() || is_sign(c)) {
                words.push(number(bare).unwrap_or_else(|| bare.to_lowercase()));
            }
        }
    }
    words
}

/// Signs that mean something by themselves.
fn is_sign(character: char) -> bool {
    "+-=<>%$€£°".contains(character)
}

/// A line without the mark that makes it an item of a list.
fn unnumbered(line: &str) -> &str {
    let line = line.trim_start();
    if let Some(item) = ["- ", "* ", "• ", "+ "].iter().find_map(|mark| line.strip_prefix(mark)) {
        return item;
    }
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_numbered = rest.len() < line.len() && line.len() - rest.len() <= 3;
    rest.strip_prefix(['.', ')']).filter(|rest| is_numbered && rest.starts_with(' ')).unwrap_or(line)
}

/// The number that `word` is, in one form: `1,000` and `1000.0` are `1000`.
fn number(word: &str) -> Option<String> {
    let digits = word.replace(',', "");
    let value: f64 = digits.trim_start_matches('+').parse().ok().filter(|value: &f64| value.is_finite())?;
    word.contains(|c: char| c.is_ascii_digit()).then(|| value.to_string())
}

/// Its numbers. Marks of lists are none.
pub(super) fn numbers(text: &str) -> BTreeSet<String> {
    let mut numbers = BTreeSet::new();
    for line in text.lines() {
        let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | ':');
        for run in unnumbered(line).split(|c: char| !is_digit(c)) {
            let run = run.trim_matches(['.', ',', ':']);
            if run.contains(|c: char| c.is_ascii_digit()) {
                numbers.insert(number(run).unwrap_or_else(|| run.to_owned()));
            }
        }
    }
    numbers
}

/// Words written with a capital where none begins a sentence, in lower case.
pub(super) fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut begins = true;
    for word in text.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let has_capital = bare.chars().next().is_some_and(char::is_uppercase);
        if has_capital && !begins && bare != "I" {
            names.insert(bare.to_lowercase());
        }
        begins = word.ends_with(['.', '!', '?', ':', '-', '*', '#']) || bare.is_empty();
    }
    names
}

/// What an answer says first of all: yes or no.
pub(super) fn verdict(words: &[String]) -> Option<bool> {
    match words.first()?.as_str() {
        "yes" | "yeah" | "yep" | "true" | "correct" | "right" | "ja" | "oui" | "sí" => Some(true),
        "no" | "nope" | "false" | "incorrect" | "wrong" | "nein" | "non" | "never" => Some(false),
        _ => None,
    }
}

/// How often it says no.
pub(super) fn negations(words: &[String]) -> usize {
    let negates = |word: &&String| {
        matches!(word.as_str(), "not" | "no" | "never" | "cannot" | "without" | "none" | "nothing")
            || word.ends_with("n't")
    };
    words.iter().filter(negates).count()
}

/// The items of a list that makes up most of the text; `None` where there is none.
pub(super) fn listed(text: &str) -> Option<BTreeSet<String>> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let items = lines.iter().filter(|line| unnumbered(line).len() < line.len());
    let items: BTreeSet<String> = items.map(|line| normal(line).join(" ")).collect();
    (items.len() >= 3 && items.len() * 2 > lines.len()).then_some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_no_dress() {
        assert_eq!(normal("**Hello**, (World)! 1,000.0 x"), ["hello", "world", "1000", "x"]);
        assert_eq!(normal("2. don’t\n- do"), ["don't", "do"]);
        assert_eq!(normal("x - 7 < -3"), ["x", "-", "7", "<", "-3"]);
    }

    #[test]
    fn numbers_are_those_that_count() {
        let found: Vec<String> = numbers("1. at 10:30\n2. 5.0 km, 1,000 m (no 7)").into_iter().collect();
        assert_eq!(found, ["1000", "10:30", "5", "7"]);
    }

    #[test]
    fn a_name_is_written_with_a_capital() {
        let found: Vec<String> = names("The capital of France is Paris. It is big.").into_iter().collect();
        assert_eq!(found, ["france", "paris"]);
    }

    #[test]
    fn a_list_makes_up_most_of_a_text() {
        assert_eq!(listed("Here:\n- b\n- a\n* c").map(|items| items.len()), Some(3));
        assert_eq!(listed("- a\n- b"), None);
        assert_eq!(listed("one\ntwo\nthree\nfour\nfive\n- a\n- b\n- c"), None);
    }
}
