//! Is it safe to serve the answer of one question to another? Similarity only nominates.
//!
//! Deliberately strict until evidence decides: a high cosine, the same numbers in the same order, no word on
//! one side alone that turns a meaning around, and the same symbols and spellings where the encoder is blind
//! to them.

use super::{Miss, Score};
use std::collections::BTreeSet;

/// Numbers that are spelled out.
const NUMBER_WORDS: [(&str, &str); 14] = [
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("twenty", "20"),
];

/// Words that turn a meaning around when they stand on one side alone. MiniLM puts "turn on the light" and
/// "turn off the light" closer together than most paraphrases.
const POLAR_WORDS: [&str; 62] = [
    "not", "no", "never", "without", "cannot", "except", "on", "off", "up", "down", "in", "out", "open",
    "opened", "close", "closed", "enable", "enabled", "disable", "disabled", "start", "stop", "add",
    "remove", "delete", "increase", "decrease", "raise", "lower", "more", "less", "most", "least", "before",
    "after", "since", "until", "above", "below", "over", "under", "first", "last", "left", "right", "from",
    "to", "buy", "sell", "allow", "deny", "mute", "unmute", "lock", "unlock", "max", "min", "maximum",
    "minimum", "always", "import", "export",
];

/// How sure it is that the answer to `known` is right for `asked`, or why it must not be served.
pub fn decide(asked: &str, known: &str, cosine: f32) -> Result<Score, Miss> {
    let score = Score::new(log_odds(cosine)).ok_or(Miss::TooFar)?;
    let (asked_words, known_words) = (words(asked), words(known));
    if numbers(&asked_words) != numbers(&known_words) {
        return Err(Miss::OtherNumbers);
    }
    if polarity(&asked_words) != polarity(&known_words) {
        return Err(Miss::Opposite);
    }
    if symbols(asked) != symbols(known) || telling_spellings(asked) != telling_spellings(known) {
        return Err(Miss::OtherSpelling);
    }
    Ok(score)
}

/// What a cosine is worth: it says the more, the nearer it is to one. 0.8 is about even, 0.97 is one wrong in
/// twenty, and where the encoder sees no difference at all there is none, after what stands above.
fn log_odds(cosine: f32) -> f32 {
    const STEEPNESS: f32 = 1.6;
    const NOISE: f32 = 0.001;
    // `min` would make a number of a NaN.
    -2.0 - STEEPNESS * (1.0 - cosine.clamp(-1.0, 1.0) + NOISE).ln()
}

/// Everything that is neither a word nor the punctuation of a sentence, in order: `12 + 7` is not `12 - 7`.
fn symbols(text: &str) -> String {
    const PUNCTUATION: &str = ".,;:!?'\"()[]{}‘’“”«»…–—-¿¡、。，？！";
    let characters: Vec<char> = text.chars().collect();
    let is_letter =
        |at: Option<usize>| at.and_then(|at| characters.get(at)).is_some_and(|c| c.is_alphabetic());
    let counts = |(at, character): (usize, &char)| match character {
        // A sign or an option, and not the hyphen of a compound.
        '-' => !(is_letter(at.checked_sub(1)) && is_letter(Some(at + 1))),
        other => !(other.is_alphanumeric() || other.is_whitespace() || PUNCTUATION.contains(*other)),
    };
    characters.iter().enumerate().filter(|found| counts(*found)).map(|(_, character)| *character).collect()
}

/// The words whose exact spelling says something that MiniLM does not see, since it reads all in lower case
/// and without accents: `iOS`, `US`, `-V`, `papá`. A capital at the beginning says nothing.
fn telling_spellings(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words
        .filter(|word| {
            let letters = word.chars().filter(|c| c.is_alphabetic()).count();
            let capital_inside = word.chars().skip(1).any(char::is_uppercase);
            let one_letter = letters == 1 && !matches!(*word, "I" | "i" | "A" | "a");
            capital_inside || one_letter || !word.is_ascii()
        })
        .collect()
}

/// Runs of letters, and runs of digits with the signs that belong to them: `-2.5` and `2.5` differ.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous = ' ';
    let mut current = String::new();
    for character in text.chars().chain([' ']) {
        let joins = character.is_alphanumeric()
            || (matches!(character, '.' | ',' | ':' | '/') && previous.is_ascii_digit())
            || (matches!(character, '\'' | '’') && previous.is_alphabetic());
        let signs = character == '-' && !previous.is_alphanumeric();
        if joins || signs {
            current.extend(character.to_lowercase());
        } else if !current.is_empty() {
            words.push(std::mem::take(&mut current));
        }
        previous = character;
    }
    for word in &mut words {
        word.truncate(word.trim_end_matches(['.', ',', ':', '/', '\'', '’']).len());
    }
    words.retain(|word| !word.is_empty());
    words
}

fn numbers(words: &[String]) -> Vec<&str> {
    let number =
        |word: &'_ String| NUMBER_WORDS.iter().find(|(name, _)| name == word).map(|(_, digits)| *digits);
    words
        .iter()
        .filter_map(|word| {
            let written = word.chars().any(char::is_numeric).then_some(word.as_str());
            written.or_else(|| number(word))
        })
        .collect()
}

fn polarity(words: &[String]) -> BTreeSet<&str> {
    words
        .iter()
        .filter_map(|word| match word.as_str() {
            word if word.ends_with("n't") || word.ends_with("n’t") => Some("not"),
            word => POLAR_WORDS.contains(&word).then_some(word),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(asked: &str, known: &str) -> Result<(), Miss> {
        decide(asked, known, 0.99).map(|_| ())
    }

    #[test]
    fn serves_the_same_words_in_another_dress() {
        assert_eq!(verdict("how do i reset my password", "How do I reset my password?"), Ok(()));
        assert_eq!(verdict("Volume of track three, please", "volume of track 3?"), Ok(()));
        assert_eq!(verdict("What's the time at 10:30?", "what's the time at 10:30"), Ok(()));
    }

    #[test]
    fn other_numbers_are_other_questions() {
        let pairs = [
            ("solo track 3", "solo track 4"),
            ("solo track three", "solo track four"),
            ("convert 2.5 m", "convert 25 m"),
            ("what is -2 plus 3", "what is 2 plus 3"),
            ("from 3 to 4", "from 4 to 3"),
            ("room 7a", "room 7b"),
            ("version 1.2", "version 1.2.0"),
            ("is it 3", "is it"),
        ];
        for (asked, known) in pairs {
            assert_eq!(verdict(asked, known), Err(Miss::OtherNumbers), "{asked} / {known}");
        }
    }

    #[test]
    fn opposites_are_other_questions() {
        let pairs = [
            ("turn on dark mode", "turn off dark mode"),
            ("is port 6379 open?", "is port 6379 closed?"),
            ("you can do that", "you can't do that"),
            ("events before May", "events after May"),
        ];
        for (asked, known) in pairs {
            assert_eq!(verdict(asked, known), Err(Miss::Opposite), "{asked} / {known}");
        }
    }

    #[test]
    fn what_the_encoder_is_blind_to_must_be_the_same() {
        let pairs = [
            ("what is 12 + 7", "what is 12 - 7"),
            ("what does grep -v do", "what does grep -V do"),
            ("tell US about it", "tell us about it"),
            ("decode aGVsbG8", "decode AgvSBg8"),
            ("es mi papá", "es mi papa"),
            ("what does 🦄 mean", "what does 🎉 mean"),
            ("is 5 < 7", "is 5 > 7"),
            ("change $5", "change €5"),
        ];
        for (asked, known) in pairs {
            assert!(verdict(asked, known).is_err(), "{asked} / {known}");
        }
        assert_eq!(verdict("Is this a well-known thing?", "is this a well-known thing"), Ok(()));
        assert_eq!(verdict("what can i do in the USA", "What can I do in the USA?"), Ok(()));
    }

    #[test]
    fn the_nearer_the_surer() {
        let sure = |cosine| decide("a", "a", cosine).map(Score::log_odds);
        assert_eq!(sure(f32::NAN), Err(Miss::TooFar));
        let cosines = [-1.0, 0.0, 0.8, 0.9, 0.97, 0.99, 1.0, 1.000_001];
        let scores: Vec<f32> = cosines.iter().map(|cosine| sure(*cosine).unwrap()).collect();
        assert!(scores.is_sorted(), "{scores:?}");
        assert!(scores[2].abs() < 1.0 && scores[7] > 8.0, "{scores:?}");
    }
}
