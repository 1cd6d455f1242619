//! What somebody says, cut into words: lower case, without punctuation, numbers apart from their units.
//!
//! Patterns are cut in the same way, so that how something is written makes no difference on either side. Each
//! word remembers where it stands, so that a slot can give back what was said letter for letter.

use super::exact::Exact;
use crate::numerals::{ONES, TENS};

/// Longer texts are no commands, and are not looked at.
pub(super) const MOST_TOKENS: usize = 64;

/// A word, a number or a sign.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    /// As patterns know it.
    pub(super) word: String,
    /// What it counts, where it is written in digits.
    pub(super) number: Option<Exact>,
    /// Where it stands.
    pub(super) from: usize,
    /// Where it ends.
    pub(super) to: usize,
    /// Where it stands with the articles before it, which are no tokens.
    pub(super) lead: usize,
    /// Whether it stands between quotation marks.
    pub(super) quoted: bool,
    /// Whether a comma or a full stop stands before it.
    pub(super) after_break: bool,
}

/// Words that change nothing, wherever they stand.
const NOISE: [&str; 7] = ["the", "please", "pls", "plz", "kindly", "just", "my"];

/// Those of them that belong to what follows, where that is given back as it was said.
const ARTICLES: [&str; 2] = ["the", "my"];

/// What is said in short.
const CONTRACTIONS: [(&str, &[&str]); 30] = [
    ("don't", &["do", "not"]),
    ("dont", &["do", "not"]),
    ("doesn't", &["does", "not"]),
    ("can't", &["can", "not"]),
    ("cannot", &["can", "not"]),
    ("won't", &["will", "not"]),
    ("isn't", &["is", "not"]),
    ("what's", &["what", "is"]),
    ("whats", &["what", "is"]),
    ("who's", &["who", "is"]),
    ("where's", &["where", "is"]),
    ("how's", &["how", "is"]),
    ("when's", &["when", "is"]),
    ("that's", &["that", "is"]),
    ("it's", &["it", "is"]),
    ("there's", &["there", "is"]),
    ("let's", &["let", "us"]),
    ("lets", &["let", "us"]),
    ("i'm", &["i", "am"]),
    ("i'd", &["i", "would"]),
    ("i'll", &["i", "will"]),
    ("we'd", &["we", "would"]),
    ("we'll", &["we", "will"]),
    ("i've", &["i", "have"]),
    ("you're", &["you", "are"]),
    ("wanna", &["want", "to"]),
    ("gonna", &["going", "to"]),
    ("gimme", &["give", "me"]),
    ("o'clock", &["oclock"]),
    ("d'you", &["do", "you"]),
];

/// What may be written close behind a number.
const SUFFIXES: [&str; 56] = [
    "db", "dbs", "decibel", "decibels", "s", "sec", "secs", "second", "seconds", "ms", "min", "mins",
    "minute", "minutes", "m", "h", "hr", "hrs", "hour", "hours", "hz", "khz", "bpm", "am", "pm", "kg", "kgs",
    "g", "mg", "km", "kms", "cm", "mm", "lb", "lbs", "oz", "ft", "in", "mi", "yd", "f", "c", "l", "r", "ml",
    "gal", "mph", "kph", "percent", "degrees", "st", "x", "gb", "mb", "kb", "tb",
];

/// Cuts `text`; of a text that is too long, only its beginning, with one token more than [`MOST_TOKENS`].
pub(super) fn cut(text: &str) -> Vec<Token> {
    let mut cutter =
        Cutter { text, at: 0, tokens: Vec::with_capacity(16), lead: None, quoted: false, broken: false };
    while cutter.at < text.len() && cutter.tokens.len() <= MOST_TOKENS {
        cutter.step();
    }
    cutter.tokens
}

/// The words of a piece of a pattern.
pub(super) fn words(text: &str) -> Vec<String> {
    cut(text).into_iter().map(|token| token.word).collect()
}

struct Cutter<'t> {
    text: &'t str,
    at: usize,
    tokens: Vec<Token>,
    /// Where the articles before the next token begin.
    lead: Option<usize>,
    quoted: bool,
    broken: bool,
}

impl Cutter<'_> {
    fn step(&mut self) {
        let Some(c) = self.text[self.at..].chars().next() else { return };
        match c {
            c if c.is_ascii_digit() => self.number(self.at),
            '.' | '-' | '\u{2212}' | '+' if self.begins_number(c) => self.number(self.at),
            '-' | '\u{2013}' | '\u{2014}' if self.is_between_numbers(c) => self.sign("-", c),
            c if c.is_alphanumeric() => self.word(),
            '"' | '\u{201c}' | '\u{201d}' => {
                self.quoted = c == '\u{201c}' || (c == '"' && !self.quoted);
                self.at += c.len_utf8();
            }
            '%' => self.sign("percent", c),
            '\u{b0}' => self.sign("degrees", c),
            '&' => self.sign("and", c),
            '\u{d7}' => self.sign("*", c),
            '\u{f7}' => self.sign("/", c),
            '+' | '*' | '/' | '^' | '=' | '(' | ')' | '<' | '>' | '$' | '\u{20ac}' | '\u{a3}' | '@' | '{'
            | '}' | '\\' => {
                let sign = c.to_string();
                self.sign(&sign, c);
            }
            c => {
                self.broken |=
                    matches!(c, ',' | '.' | ';' | ':' | '!' | '?' | '\n') || (c == '-' && self.is_loose());
                self.at += c.len_utf8();
            }
        }
    }

    fn rest(&self, from: usize) -> &str {
        self.text.get(from..).unwrap_or_default()
    }

    /// Whether a dash stands between two spaces.
    fn is_loose(&self) -> bool {
        self.text[..self.at].ends_with(' ') && self.rest(self.at + 1).starts_with(' ')
    }

    /// Whether a sign or a point at this place belongs to the digits behind it.
    fn begins_number(&self, sign: char) -> bool {
        let behind = self.rest(self.at + sign.len_utf8());
        let mut digits = behind.chars();
        let close = match (digits.next(), digits.next()) {
            (Some('.'), Some(digit)) if sign != '.' => digit.is_ascii_digit(),
            (first, _) => first.is_some_and(|first| first.is_ascii_digit()),
        };
        let before = self.text[..self.at].chars().next_back();
        close && before.is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ':' | '=' | '"'))
    }

    /// Whether a dash at this place stands between two numbers.
    fn is_between_numbers(&self, dash: char) -> bool {
        let behind = self.rest(self.at + dash.len_utf8()).trim_start();
        let digits = behind.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '(');
        // "quick one - 75 miles" is no range.
        let spelt = |word: &str| (ONES[1..].contains(&word) || word == TENS[0]) && !self.is_loose();
        let is_number = |token: &Token| token.number.is_some() || token.word == ")" || spelt(&token.word);
        let before = self.tokens.last().is_some_and(is_number);
        digits && before && !self.broken
    }

    fn sign(&mut self, word: &str, c: char) {
        let from = self.at;
        self.at += c.len_utf8();
        self.push(word.to_owned(), None, from, self.at);
    }

    fn push(&mut self, word: String, number: Option<Exact>, from: usize, to: usize) {
        let lead = self.lead.take().unwrap_or(from);
        let after_break = std::mem::take(&mut self.broken);
        self.tokens.push(Token { word, number, from, to, lead, quoted: self.quoted, after_break });
    }

    fn number(&mut self, from: usize) {
        let mut digits = String::new();
        let mut at = from;
        let mut clock = false;
        let mut pointed = false;
        while let Some(c) = self.rest(at).chars().next() {
            let next_is_digit = self.rest(at + c.len_utf8()).starts_with(|c: char| c.is_ascii_digit());
            match c {
                c if c.is_ascii_digit() => digits.push(c),
                '-' | '\u{2212}' if at == from => digits.push('-'),
                '+' if at == from => {}
                ',' if is_thousands(self.rest(at + 1)) && !pointed => {}
                '.' if next_is_digit && !pointed => {
                    pointed = true;
                    digits.push('.');
                }
                ':' if next_is_digit && !clock && digits.len() <= 2 => {
                    clock = true;
                    digits.push(':');
                }
                _ => break,
            }
            at += c.len_utf8();
        }
        let suffix: String =
            self.rest(at).chars().take_while(|c| c.is_alphabetic()).flat_map(char::to_lowercase).collect();
        let behind = self.rest(at + suffix.len()).chars().next();
        let word_goes_on = behind.is_some_and(char::is_alphanumeric);
        let is_unit = !word_goes_on && SUFFIXES.contains(&suffix.as_str());
        if suffix.is_empty() || is_unit {
            // "track 8's name"
            let owned = ["'s", "\u{2019}s"].into_iter().find(|owned| self.rest(at).starts_with(owned));
            self.at = at + owned.map_or(0, str::len);
            let number = if clock { None } else { Exact::parse(&digits) };
            let word = number.map_or(digits, |number| number.to_string());
            self.push(word, number, from, at);
            return;
        }
        // "7a" is a name and "3rd" an order, not a number beside a unit.
        let end = at + self.rest(at).find(|c: char| !c.is_alphanumeric()).unwrap_or(self.rest(at).len());
        self.at = end;
        self.push(self.text[from..end].to_lowercase(), None, from, end);
    }

    fn word(&mut self) {
        let from = self.at;
        let mut word = String::new();
        let mut at = from;
        while let Some(c) = self.rest(at).chars().next() {
            let next_is_letter = self.rest(at + c.len_utf8()).starts_with(char::is_alphanumeric);
            match c {
                '\'' | '\u{2019}' if next_is_letter => word.push('\''),
                c if c.is_alphanumeric() => word.extend(c.to_lowercase()),
                _ => break,
            }
            at += c.len_utf8();
        }
        // "a.m." and "p.m."
        if matches!(word.as_str(), "a" | "p")
            && self.rest(at).get(..2).is_some_and(|rest| rest.eq_ignore_ascii_case(".m"))
        {
            word.push('m');
            at += if self.rest(at + 2).starts_with('.') { 3 } else { 2 };
        }
        self.at = at;
        self.word_found(&word, from, at);
    }

    fn word_found(&mut self, word: &str, from: usize, to: usize) {
        if !self.quoted && NOISE.contains(&word) {
            if ARTICLES.contains(&word) {
                self.lead.get_or_insert(from);
            }
            return;
        }
        if word.contains('\'') || CONTRACTIONS.iter().any(|(short, _)| *short == word) {
            if let Some((_, long)) = CONTRACTIONS.iter().find(|(short, _)| *short == word) {
                long.iter().for_each(|word| self.push((*word).to_owned(), None, from, to));
                return;
            }
            // Whose it is says nothing to a pattern.
            let owner = word.strip_suffix("'s").unwrap_or(word);
            let to = if owner.len() < word.len() {
                from + self.text[from..to].rfind(['\'', '\u{2019}']).unwrap_or(to - from)
            } else {
                to
            };
            self.push(owner.replace('\'', ""), None, from, to);
            return;
        }
        self.push(word.to_owned(), None, from, to);
    }
}

/// Whether three digits follow, and no fourth.
fn is_thousands(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    digits == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        words(text).join(" ")
    }

    #[test]
    fn how_it_is_written_makes_no_difference() {
        let cases = [
            ("Turn UP the bass, please!", "turn up bass"),
            ("set Strings's send to -3dB", "set strings send to -3 db"),
            ("what\u{2019}s 15% of 1,200.50?", "what is 15 percent of 1200.5"),
            ("hi-hat", "hi hat"),
            ("twenty-five", "twenty five"),
            ("bars 17-33", "bars 17 - 33"),
            ("bars one-65", "bars one - 65"),
            ("quick one - mute 3", "quick one mute 3"),
            ("quick one - 75 miles", "quick one 75 miles"),
            ("track 7a and the 3rd", "track 7a and 3rd"),
            ("at 8:30pm or 8 a.m. o'clock", "at 8:30 pm or 8 am oclock"),
            ("5 - 3", "5 - 3"),
            ("don't", "do not"),
            ("+2 dB", "2 db"),
            (".5", "0.5"),
            ("track #3", "track 3"),
        ];
        for (text, expected) in cases {
            assert_eq!(said(text), expected, "{text}");
        }
    }

    #[test]
    fn each_word_knows_where_it_stands() {
        let text = "Rename \"The Wall\" to the Choir's Room";
        let tokens = cut(text);
        let spans: Vec<&str> = tokens.iter().map(|token| &text[token.lead..token.to]).collect();
        assert_eq!(spans, ["Rename", "The", "Wall", "to", "the Choir", "Room"]);
        assert!(tokens[1].quoted && tokens[2].quoted && !tokens[3].quoted);
    }

    #[test]
    fn a_long_text_is_not_read_to_its_end() {
        assert_eq!(cut(&"word ".repeat(10_000)).len(), MOST_TOKENS + 1);
    }
}
