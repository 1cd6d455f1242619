//! Numbers in digits and in words.

use super::Language;
use crate::intent::exact::Exact;
use crate::intent::heard::{Ease, Heard};
use crate::numerals::{ONES, TENS};

/// The first word stands for zero, the second for one, and so on.
const GERMAN: [&str; 21] = [
    "null",
    "eins",
    "zwei",
    "drei",
    "vier",
    "fünf",
    "sechs",
    "sieben",
    "acht",
    "neun",
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
    "zwanzig",
];
const GERMAN_TENS: [&str; 7] = ["dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"];
const SPANISH: [&str; 21] = [
    "cero",
    "uno",
    "dos",
    "tres",
    "cuatro",
    "cinco",
    "seis",
    "siete",
    "ocho",
    "nueve",
    "diez",
    "once",
    "doce",
    "trece",
    "catorce",
    "quince",
    "dieciséis",
    "diecisiete",
    "dieciocho",
    "diecinueve",
    "veinte",
];
const SPANISH_TENS: [&str; 7] =
    ["treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa"];
const FRENCH: [&str; 17] = [
    "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze",
    "treize", "quatorze", "quinze", "seize",
];
const FRENCH_TENS: [(&str, i128); 5] =
    [("vingt", 20), ("trente", 30), ("quarante", 40), ("cinquante", 50), ("soixante", 60)];

/// Ordinary words one letter away from a number word.
pub(super) const LOOKALIKES: [&str; 38] = [
    "tree", "trees", "there", "these", "then", "tens", "fight", "light", "might", "night", "right", "sight",
    "tight", "weight", "height", "freight", "even", "event", "fever", "never", "sever", "level", "thirsty",
    "dirty", "weighty", "eighth", "third", "fifth", "sixth", "sevenths", "hero", "elevate", "ninth", "party",
    "forth", "lever", "thee", "threw",
];

/// What a number word does to the number that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// Up to nineteen.
    Small(i128),
    /// Twenty to ninety.
    Tens(i128),
    /// A number that nothing is added to.
    Closed(i128),
    Hundred,
    Times(i128),
}

pub(super) fn words(languages: &[Language]) -> impl Iterator<Item = String> {
    let english = ONES.iter().chain(&TENS).chain(&["hundred", "thousand", "million", "minus", "negative"]);
    let english = english.chain(&["point", "half"]).map(ToString::to_string);
    let mut others: Vec<String> = Vec::new();
    for language in languages {
        match language {
            Language::En => {}
            Language::De => others.extend(GERMAN.iter().chain(&GERMAN_TENS).map(ToString::to_string)),
            Language::Es => others.extend(SPANISH.iter().chain(&SPANISH_TENS).map(ToString::to_string)),
            Language::Fr => others.extend(FRENCH.iter().map(ToString::to_string)),
        }
    }
    english.chain(others)
}

fn piece(word: &str, languages: &[Language]) -> Option<Piece> {
    languages.iter().find_map(|language| match language {
        Language::En => english(word),
        Language::De => german(word),
        Language::Es => simple(word, &SPANISH, &SPANISH_TENS),
        Language::Fr => {
            let tens = FRENCH_TENS.iter().find(|(tens, _)| *tens == word);
            simple(word, &FRENCH, &[]).or_else(|| tens.map(|(_, value)| Piece::Tens(*value)))
        }
    })
}

fn english(word: &str) -> Option<Piece> {
    if let Some(at) = ONES.iter().position(|known| *known == word) {
        return Some(Piece::Small(at as i128));
    }
    if let Some(at) = TENS.iter().position(|known| *known == word) {
        return Some(Piece::Tens((at as i128 + 2) * 10));
    }
    match word {
        "hundred" => Some(Piece::Hundred),
        "thousand" => Some(Piece::Times(1_000)),
        "million" => Some(Piece::Times(1_000_000)),
        _ => None,
    }
}

/// German puts what English writes in several words into one: "fünfundzwanzig".
fn german(word: &str) -> Option<Piece> {
    if let Some(piece) = simple(word, &GERMAN, &GERMAN_TENS) {
        return Some(piece);
    }
    let (ones, tens) = word.split_once("und")?;
    let ones = if ones == "ein" { 1 } else { GERMAN[..10].iter().position(|known| *known == ones)? as i128 };
    match simple(tens, &GERMAN, &GERMAN_TENS)? {
        Piece::Closed(tens) if tens >= 20 => Some(Piece::Closed(tens + ones)),
        _ => None,
    }
}

fn simple(word: &str, small: &[&str], tens: &[&str]) -> Option<Piece> {
    let small = small.iter().position(|known| *known == word).map(|at| at as i128);
    let tens = || tens.iter().position(|known| *known == word).map(|at| (at as i128 + 3) * 10);
    small.or_else(tens).map(Piece::Closed)
}

/// The number that begins at this place, and where it ends.
pub(in crate::intent) fn number(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, Exact)> {
    if heard.is_one_of(at, ease, &["minus", "negative"]) {
        let (end, value) = unsigned(heard, at + 1, ease)?;
        return Some((end, value.negated()?));
    }
    unsigned(heard, at, ease)
}

fn unsigned(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, Exact)> {
    let token = heard.tokens.get(at)?;
    let (end, value) = match token.number {
        Some(value) => multiplied(heard, at + 1, value, ease),
        None => spelt(heard, at, ease)?,
    };
    let (end, value) = with_point(heard, end, value, ease).unwrap_or((end, value));
    Some(with_half(heard, end, value).unwrap_or((end, value)))
}

/// "2 thousand"
fn multiplied(heard: &Heard<'_>, at: usize, value: Exact, ease: Ease) -> (usize, Exact) {
    let times = heard.meaning(at, ease, |word| match english(word) {
        Some(Piece::Hundred) => Some(100),
        Some(Piece::Times(times)) => Some(times),
        _ => None,
    });
    match times.and_then(|times| value.times(Exact::whole(times))) {
        Some(value) => (at + 1, value),
        None => (at, value),
    }
}

/// "two hundred and five"
fn spelt(heard: &Heard<'_>, from: usize, ease: Ease) -> Option<(usize, Exact)> {
    let (mut total, mut current, mut at) = (0i128, None::<i128>, from);
    // Whether more may be added below the last piece: nothing, ones, or anything.
    let mut room = 99;
    while at < heard.len() {
        let is_joint = at > from && heard.is_one_of(at, Ease::default(), &["and"]) && room == 99;
        let here = at + usize::from(is_joint);
        let Some(piece) = heard.meaning(here, ease, |word| piece(word, heard.languages)) else { break };
        match (piece, current) {
            (Piece::Closed(value), None) if total == 0 && !is_joint => {
                return Some((here + 1, Exact::whole(value)));
            }
            (Piece::Small(value), _) if room == 99 || (room == 9 && (1..10).contains(&value)) => {
                current = Some(current.unwrap_or(0) + value);
                room = 0;
            }
            (Piece::Tens(value), _) if room == 99 => {
                current = Some(current.unwrap_or(0) + value);
                room = 9;
            }
            (Piece::Hundred, Some(value)) if (1..10).contains(&value) => {
                current = Some(value * 100);
                room = 99;
            }
            (Piece::Times(times), Some(value))
                if value > 0 && times > 0 && (total == 0 || times < 1_000_000) =>
            {
                total += value * times;
                current = None;
                room = 99;
            }
            _ => break,
        }
        at = here + 1;
    }
    let said = at > from;
    said.then(|| (at, Exact::whole(total + current.unwrap_or(0))))
}

/// "two point five"
fn with_point(heard: &Heard<'_>, at: usize, value: Exact, ease: Ease) -> Option<(usize, Exact)> {
    if !heard.is_one_of(at, ease, &["point"]) {
        return None;
    }
    let mut digits = String::new();
    let mut end = at + 1;
    while let Some(token) = heard.tokens.get(end) {
        let digit = match token.number {
            Some(number) if digits.is_empty() => number.as_whole(),
            Some(_) => None,
            None => heard.meaning(end, ease, |word| match piece(word, heard.languages) {
                Some(Piece::Small(value) | Piece::Closed(value)) if value < 10 => Some(value),
                _ => None,
            }),
        };
        let Some(digit) = digit else { break };
        digits.push_str(&digit.to_string());
        end += 1;
    }
    let behind = Exact::parse(&format!("0.{digits}")).filter(|_| !digits.is_empty())?;
    Some((end, value.plus(behind)?))
}

/// "two and a half"
fn with_half(heard: &Heard<'_>, at: usize, value: Exact) -> Option<(usize, Exact)> {
    let exactly =
        |offset: usize, word: &str| heard.tokens.get(at + offset).is_some_and(|token| token.word == word);
    let half = exactly(0, "and") && exactly(1, "a") && exactly(2, "half");
    Some((at + 3, value.plus(Exact::fraction(1, 2)?)?)).filter(|_| half)
}

const ORDERS: [&str; 13] = [
    "zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth",
];

/// "3rd", "third": which one in a row.
pub(in crate::intent) fn order(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, Exact)> {
    let value = heard.meaning(at, ease, |word| {
        let spelt = ORDERS.iter().position(|order| *order == word).map(|at| at as i128);
        let digits = || {
            let digits = ["st", "nd", "rd", "th"].iter().find_map(|ending| word.strip_suffix(ending))?;
            Exact::parse(digits)?.as_whole()
        };
        spelt.or_else(digits)
    });
    value.map(|value| (at + 1, Exact::whole(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::words::Words;

    fn read(text: &str, languages: &[Language]) -> Option<(usize, String)> {
        let mut words = Words::default();
        super::super::learn(&mut words, languages);
        let heard = Heard::new(text, &words, languages)?;
        let ease = Ease { misspelt: true, open: false };
        number(&heard, 0, ease).map(|(end, value)| (end, value.to_string()))
    }

    #[test]
    fn numbers_are_understood_in_digits_and_in_words() {
        let cases = [
            ("3 dB", 1, "3"),
            ("-12", 1, "-12"),
            ("minus twelve", 2, "-12"),
            ("twenty-five bars", 2, "25"),
            ("two hundred and five", 4, "205"),
            ("one thousand two hundred", 4, "1200"),
            ("2 thousand", 2, "2000"),
            ("two point five dB", 3, "2.5"),
            ("two and a half", 4, "2.5"),
            ("nineteen and mute", 1, "19"),
            ("twevle", 1, "12"),
            ("one two", 1, "1"),
            ("twenty twenty", 1, "20"),
        ];
        for (text, end, value) in cases {
            assert_eq!(read(text, &[Language::En]), Some((end, value.to_owned())), "{text}");
        }
        for text in ["tree", "hundred", "and", "night", "mute"] {
            assert_eq!(read(text, &[Language::En]), None, "{text}");
        }
    }

    #[test]
    fn other_languages_are_understood_where_they_are_asked_for() {
        let all = [Language::En, Language::De, Language::Es, Language::Fr];
        for (text, value) in [("fünfundzwanzig", "25"), ("elf", "11"), ("cuarenta", "40"), ("douze", "12")] {
            assert_eq!(read(text, &all), Some((1, value.to_owned())), "{text}");
            assert_eq!(read(text, &[Language::En]), None, "{text}");
        }
    }
}
