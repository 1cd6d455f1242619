//! One way of saying what is said in many: politeness goes, contractions are written out, number words become
//! digits, and units, currencies and common phrases get one name each.

use super::tokens::{Shape, Token};
use crate::numerals::{ONES, TENS};
use std::collections::HashMap;
use std::sync::LazyLock;

static PHRASES: LazyLock<Phrases> = LazyLock::new(|| Phrases::read(include_str!("words/phrases.txt")));
static LEAD: LazyLock<Phrases> = LazyLock::new(|| Phrases::read(include_str!("words/lead.txt")));
static TRAIL: LazyLock<Phrases> = LazyLock::new(|| Phrases::read(include_str!("words/trail.txt")));

/// Units that are written in a letter or two, which mean a unit only behind a number.
const SHORT_UNITS: [(&str, &str); 17] = [
    ("min", "minute"),
    ("mi", "mile"),
    ("sec", "second"),
    ("s", "second"),
    ("m", "meter"),
    ("h", "hour"),
    ("ft", "foot"),
    ("oz", "ounce"),
    ("lb", "pound"),
    ("l", "liter"),
    ("g", "gram"),
    ("c", "celsius"),
    ("f", "fahrenheit"),
    ("pm", "pm"),
    ("am", "am"),
    ("in", "in"),
    ("k", "k"),
];

/// What may be glued to a number: `-3dB`, `7am`. Any other letters behind a number make it a name: `7a`.
const GLUED_UNITS: [&str; 36] = [
    "db", "hz", "khz", "bpm", "ms", "s", "sec", "secs", "min", "mins", "h", "hr", "hrs", "am", "pm", "kg",
    "km", "cm", "mm", "g", "lb", "lbs", "oz", "ft", "mi", "ml", "l", "gb", "mb", "kb", "tb", "k", "usd",
    "eur", "gbp", "c",
];

const ORDINALS: [(&str, &str); 8] = [
    ("third", "3rd"),
    ("fourth", "4th"),
    ("fifth", "5th"),
    ("sixth", "6th"),
    ("seventh", "7th"),
    ("eighth", "8th"),
    ("ninth", "9th"),
    ("tenth", "10th"),
];
/// Words behind which "one" is a number.
const COUNTED: [&str; 14] = [
    "track", "clip", "group", "number", "chapter", "step", "level", "bus", "channel", "version", "unit",
    "page", "part", "season",
];
/// Words before which "one" is a number.
const COUNTING: [&str; 22] = [
    "db", "minute", "second", "hour", "day", "week", "month", "year", "mile", "pound", "kilogram",
    "semitone", "bar", "people", "person", "liter", "gallon", "inch", "foot", "ounce", "%", "usd",
];

/// What is said, and what stands for it.
type Phrase = (Vec<String>, Vec<String>);

/// Phrases by their first word, the longest first, with what stands for them.
struct Phrases {
    by_first: HashMap<String, Vec<Phrase>>,
}

impl Phrases {
    fn read(text: &str) -> Self {
        let mut by_first: HashMap<String, Vec<Phrase>> = HashMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (from, to) = line.split_once(" = ").unwrap_or((line, ""));
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let from = words(from);
            if let Some(first) = from.first() {
                by_first.entry(first.clone()).or_default().push((from, words(to)));
            }
        }
        for phrases in by_first.values_mut() {
            phrases.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        }
        Self { by_first }
    }

    /// The longest phrase at the beginning of `tokens`: how many tokens it takes, and what stands for it.
    fn at(&self, tokens: &[Token]) -> Option<(usize, &[String])> {
        let phrases = self.by_first.get(&tokens.first()?.form)?;
        phrases.iter().find_map(|(from, to)| {
            let same = tokens.len() >= from.len()
                && from.iter().zip(tokens).all(|(word, token)| *word == token.form);
            same.then_some((from.len(), to.as_slice()))
        })
    }
}

/// The tokens in the one way.
pub(super) fn rewrite(tokens: Vec<Token>) -> Vec<Token> {
    let tokens = split_units(tokens);
    let tokens = join_particles(tokens);
    let tokens = replace_phrases(&tokens);
    let tokens = numbers(&tokens);
    let tokens = units(tokens);
    without_politeness(tokens)
}

/// `3dB` is `3 dB`; `7a` stays one.
fn split_units(tokens: Vec<Token>) -> Vec<Token> {
    let mut out = Vec::with_capacity(tokens.len() + 4);
    for token in tokens {
        let digits = token.form.find(|c: char| c.is_alphabetic()).unwrap_or(0);
        let (number, unit) = token.form.split_at(digits);
        let is_number = number.chars().any(|c| c.is_ascii_digit())
            && number.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | ',' | ':'));
        if token.shape == Shape::Mixed && is_number && GLUED_UNITS.contains(&unit) {
            let mut first = Token::word(number, token.glued);
            first.shape = Shape::Number;
            let unit = Token::word(unit, false);
            out.push(first);
            out.push(unit);
        } else {
            out.push(token);
        }
    }
    out
}

/// "turn the lights off" is "turn off the lights".
fn join_particles(mut tokens: Vec<Token>) -> Vec<Token> {
    const VERBS: [&str; 10] =
        ["turn", "switch", "power", "shut", "crank", "bring", "bump", "fade", "put", "take"];
    const PARTICLES: [&str; 7] = ["on", "off", "up", "down", "out", "in", "back"];
    const REACH: usize = 9;
    let mut at = 0;
    while at < tokens.len() {
        if VERBS.contains(&tokens[at].form.as_str()) {
            let particle = (at + 2..tokens.len().min(at + REACH)).find(|found| {
                let ends = tokens.get(found + 1).is_none_or(|next| {
                    next.is_mark()
                        || matches!(
                            next.form.as_str(),
                            "please"
                                | "thanks"
                                | "thx"
                                | "now"
                                | "by"
                                | "at"
                                | "in"
                                | "over"
                                | "for"
                                | "when"
                                | "to"
                                | "again"
                        )
                });
                PARTICLES.contains(&tokens[*found].form.as_str()) && ends
            });
            if let Some(from) = particle {
                let particle = tokens.remove(from);
                tokens.insert(at + 1, particle);
            }
        }
        at += 1;
    }
    tokens
}

fn replace_phrases(tokens: &[Token]) -> Vec<Token> {
    // Twice: what stands for one phrase may begin another ("how's" and "how is").
    replace_once(&replace_once(tokens))
}

fn replace_once(tokens: &[Token]) -> Vec<Token> {
    let mut out = Vec::with_capacity(tokens.len() + 4);
    let mut at = 0;
    while at < tokens.len() {
        if let Some((length, to)) = PHRASES.at(&tokens[at..]) {
            let glued = tokens[at].glued && tokens[at].shape != Shape::Sign;
            out.extend(to.iter().enumerate().map(|(n, word)| Token::word(word, glued && n == 0)));
            at += length;
        } else {
            out.push(tokens[at].clone());
            at += 1;
        }
    }
    out
}

/// Number words become digits, and a number is written in one way.
fn numbers(tokens: &[Token]) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        if let Some((value, length)) = spelled(&tokens[at..]) {
            let alone = length == 1 && token.form == "one";
            let counts = !alone
                || out.last().is_some_and(|last| COUNTED.contains(&last.form.as_str()))
                || tokens.get(at + 1).is_some_and(|next| COUNTING.contains(&next.form.as_str()));
            if counts {
                let mut number = Token::word(&value.to_string(), token.glued);
                number.shape = Shape::Number;
                out.push(number);
            } else {
                out.extend_from_slice(&tokens[at..at + length]);
            }
            at += length;
            continue;
        }
        let mut token = token.clone();
        if let Some(owner) = token.form.strip_suffix("'s")
            && spelled(&[Token::word(owner, false)]).is_some()
        {
            owner.to_owned().clone_into(&mut token.form);
            out.extend(numbers(&[token]));
            at += 1;
            continue;
        }
        if token.shape == Shape::Number {
            token.form = plain_number(&token.form);
        }
        if let Some((_, digits)) = ORDINALS.iter().find(|(word, _)| *word == token.form) {
            (*digits).clone_into(&mut token.form);
            token.shape = Shape::Mixed;
        }
        out.push(token);
        at += 1;
    }
    out
}

/// The number that is spelled out at the beginning of `tokens`, and how many tokens it takes.
fn spelled(tokens: &[Token]) -> Option<(u64, usize)> {
    let (mut total, mut part, mut length) = (0u64, 0u64, 0);
    let mut seen = false;
    let mut last_ten = false;
    while let Some(token) = tokens.get(length) {
        let word = token.form.as_str();
        if let Some(value) = ONES.iter().position(|one| *one == word) {
            // "two three" are two numbers; "twenty three" is one.
            if seen && !(last_ten && (1..10).contains(&value)) && part % 100 != 0 {
                break;
            }
            part += value as u64;
            last_ten = false;
        } else if let Some(value) = TENS.iter().position(|ten| *ten == word) {
            if seen && part % 100 != 0 {
                break;
            }
            part += 10 * (value as u64 + 2);
            last_ten = true;
        } else if word == "hundred" && seen && part > 0 && part < 10 {
            part *= 100;
            last_ten = false;
        } else if word == "thousand" && seen && part > 0 && total == 0 {
            total = part * 1000;
            part = 0;
            last_ten = false;
        } else if word == "-"
            && last_ten
            && tokens.get(length + 1).is_some_and(|next| ONES[1..10].contains(&next.form.as_str()))
        {
            // "twenty-three"
        } else {
            break;
        }
        seen = true;
        length += 1;
    }
    seen.then_some((total + part, length))
}

/// `1,000` and `1000.0` are `1000`.
fn plain_number(form: &str) -> String {
    let groups: Vec<&str> = form.trim_start_matches('-').split(',').collect();
    let thousands = groups.len() > 1
        && groups[0].len() <= 3
        && groups[1..].iter().enumerate().all(|(at, group)| {
            let whole = if at + 2 == groups.len() { group.split('.').next().unwrap_or(group) } else { group };
            whole.len() == 3
        });
    if let Some(hour) = form.strip_suffix(":00") {
        return hour.trim_start_matches('0').to_owned();
    }
    let mut plain = if thousands { form.replace(',', "") } else { form.to_owned() };
    if plain.matches('.').count() == 1 && !plain.contains([':', '/', ',']) {
        plain.truncate(plain.trim_end_matches('0').len());
        plain.truncate(plain.trim_end_matches('.').len());
    }
    plain
}

fn units(mut tokens: Vec<Token>) -> Vec<Token> {
    for at in 1..tokens.len() {
        if tokens[at - 1].shape != Shape::Number {
            continue;
        }
        if let Some((_, unit)) = SHORT_UNITS.iter().find(|(short, _)| *short == tokens[at].form) {
            (*unit).clone_into(&mut tokens[at].form);
            tokens[at].telling = None;
        }
    }
    // "$40" is "40 usd".
    for at in 0..tokens.len().saturating_sub(1) {
        let is_currency = matches!(tokens[at].form.as_str(), "usd" | "eur" | "gbp" | "jpy");
        let unclaimed = at == 0 || tokens[at - 1].shape != Shape::Number;
        if is_currency && unclaimed && tokens[at + 1].shape == Shape::Number {
            tokens.swap(at, at + 1);
            tokens[at].glued = false;
            tokens[at + 1].glued = false;
        }
    }
    tokens
}

/// Without greetings and thanks at both ends. A text of nothing else stays as it is.
fn without_politeness(tokens: Vec<Token>) -> Vec<Token> {
    const LEAST: usize = 2;
    let words = |tokens: &[Token]| tokens.iter().filter(|token| !token.is_mark()).count();
    let mut begin = 0;
    loop {
        while tokens.get(begin).is_some_and(|token| token.shape == Shape::Mark) {
            begin += 1;
        }
        match LEAD.at(&tokens[begin..]) {
            Some((length, _)) if words(&tokens[begin + length..]) >= LEAST => begin += length,
            _ => break,
        }
    }
    let mut end = tokens.len();
    loop {
        while end > begin && tokens[end - 1].shape == Shape::Mark {
            end -= 1;
        }
        let longest = (1..=6.min(end - begin))
            .rev()
            .find(|length| TRAIL.at(&tokens[end - length..end]).is_some_and(|(taken, _)| taken == *length));
        match longest {
            Some(length) if words(&tokens[begin..end - length]) >= LEAST => end -= length,
            _ => break,
        }
    }
    let mut kept = tokens;
    kept.truncate(end);
    kept.drain(..begin);
    kept
}

/// The tokens as a text again.
pub(super) fn join(tokens: &[Token]) -> String {
    let mut text = String::with_capacity(tokens.len() * 6);
    for (at, token) in tokens.iter().enumerate() {
        if at > 0 && !token.glued {
            text.push(' ');
        }
        text.push_str(&token.form);
    }
    text
}
