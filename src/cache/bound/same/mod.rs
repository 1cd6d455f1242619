//! Do two answers say the same? By their words and numbers where these tell, by their vectors where they do
//! not, and `Unclear` where nothing does: that is no evidence.
//!
//! Identifiers differ even between two answers to one question, so they are masked (`mask`).

mod json;
mod mask;
mod words;

use mask::masked;
use words::{listed, names, normal, numbers, verdict};

/// Whether two answers say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equivalence {
    /// They do.
    Same,
    /// They do not.
    Different,
    /// It cannot be told.
    Unclear,
}

/// What the words alone tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// All there is to tell.
    Clear(Equivalence),
    /// Not enough: their vectors may. These are the texts to embed, without their identifiers.
    Open {
        /// The one.
        one: String,
        /// The other.
        other: String,
        /// Whether being near makes them the same.
        may_be_same: bool,
    },
}

/// The longest answers that are compared.
const MAX_CHARS: usize = 16 << 10;

/// Answers of so many words at most are short: each number and each name in them counts.
const SHORT: usize = 30;

/// Cosines of answers to one question lie above the first; below the second they speak of something else.
const NEAR: f32 = 0.86;
const FAR: f32 = 0.45;

/// How many items of two lists must be the same for the lists to be, and how few for them not to be.
const LISTS_SAME: f32 = 0.8;
const LISTS_DIFFER: f32 = 0.2;

/// Reads two answers side by side.
pub fn compare(one: &str, other: &str) -> Reading {
    if one.len() > MAX_CHARS || other.len() > MAX_CHARS {
        return Reading::Clear(Equivalence::Unclear);
    }
    if let Some(equivalence) = json::compare(one, other) {
        return Reading::Clear(equivalence);
    }
    let (one, other) = (masked(one), masked(other));
    if !one.has_substance() || !other.has_substance() {
        // The very same identifiers say the same all the same.
        let equal = one.identifiers == other.identifiers && normal(&one.text) == normal(&other.text);
        let equal = equal && !one.identifiers.is_empty();
        return Reading::Clear(if equal { Equivalence::Same } else { Equivalence::Unclear });
    }
    by_words(&one.text, &other.text)
}

fn by_words(one: &str, other: &str) -> Reading {
    let (words, other_words) = (normal(one), normal(other));
    if words == other_words {
        return Reading::Clear(Equivalence::Same);
    }
    if let (Some(one), Some(other)) = (verdict(&words), verdict(&other_words))
        && one != other
    {
        return Reading::Clear(Equivalence::Different);
    }
    let short = words.len() <= SHORT && other_words.len() <= SHORT;
    let (digits, other_digits) = (numbers(one), numbers(other));
    let each_has_its_own = !digits.is_subset(&other_digits) && !other_digits.is_subset(&digits);
    if each_has_its_own || (short && !digits.is_empty() && !other_digits.is_empty() && digits != other_digits)
    {
        return Reading::Clear(Equivalence::Different);
    }
    let (called, other_called) = (names(one), names(other));
    if short && !called.is_empty() && !other_called.is_empty() && called.is_disjoint(&other_called) {
        return Reading::Clear(Equivalence::Different);
    }
    if let (Some(items), Some(other_items)) = (listed(one), listed(other)) {
        match shared(&items, &other_items) {
            shared if shared >= LISTS_SAME => return Reading::Clear(Equivalence::Same),
            shared if shared <= LISTS_DIFFER => return Reading::Clear(Equivalence::Different),
            _ => {}
        }
    }
    let coded = |text: &str| text.contains("```");
    let turned = short && words::negations(&words) != words::negations(&other_words);
    // Code that looks alike may do something else, and so may a sentence with a "not" in it.
    let may_be_same = digits == other_digits && !coded(one) && !coded(other) && !turned;
    Reading::Open { one: words.join(" "), other: other_words.join(" "), may_be_same }
}

/// How many of both lists' items are in both.
fn shared<T: Ord>(one: &std::collections::BTreeSet<T>, other: &std::collections::BTreeSet<T>) -> f32 {
    let common = one.intersection(other).count() as f32;
    common / (one.len().max(other.len()) as f32).max(1.0)
}

/// What the cosine of two answers tells that their words left open.
pub fn by_cosine(cosine: f32, may_be_same: bool) -> Equivalence {
    match cosine {
        near if near >= NEAR && may_be_same => Equivalence::Same,
        far if far <= FAR => Equivalence::Different,
        _ => Equivalence::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clear(one: &str, other: &str) -> Option<Equivalence> {
        let readings = [compare(one, other), compare(other, one)];
        match &readings {
            [Reading::Clear(one), Reading::Clear(other)] => {
                assert_eq!(one, other);
                Some(*one)
            }
            [Reading::Open { .. }, Reading::Open { .. }] => None,
            _ => panic!("it depends on the order: {readings:?}"),
        }
    }

    #[test]
    fn the_same_words_in_another_dress_are_the_same() {
        let pairs = [
            ("Paris.", "paris"),
            ("**Paris**", "Paris"),
            ("The capital is  Paris!", "the capital is Paris"),
            ("1,000 people", "1000 people"),
            ("It’s 5.0 km", "it's 5 km"),
            ("Your request req_8f3a is done.", "Your request req_91bc is done."),
            (
                "Ticket 123e4567-e89b-12d3-a456-426614174000 was opened",
                "Ticket 00000000-e89b-12d3-a456-426614174000 was opened",
            ),
            ("At 2026-11-21T03:49:00Z the light was on", "At 2026-11-22T13:01:10Z the light was on"),
            ("- milk\n- eggs\n- bread", "1. Bread\n2. Eggs\n3. Milk"),
        ];
        for (one, other) in pairs {
            assert_eq!(clear(one, other), Some(Equivalence::Same), "{one} / {other}");
        }
    }

    #[test]
    fn other_numbers_names_and_verdicts_are_different() {
        let pairs = [
            ("Yes, it is open.", "No, it is closed."),
            ("Yes", "No"),
            ("True", "false."),
            ("It has 12 strings.", "It has 7 strings."),
            ("42", "43"),
            ("The answer is 3 and 4", "The answer is 3 and 5"),
            ("The capital is Paris.", "The capital is Madrid."),
            ("It was written by Jane Austen", "It was written by Emily Brontë"),
            ("- milk\n- eggs\n- bread", "- nails\n- screws\n- glue"),
        ];
        for (one, other) in pairs {
            assert_eq!(clear(one, other), Some(Equivalence::Different), "{one} / {other}");
        }
    }

    #[test]
    fn json_is_compared_by_its_values() {
        let cases = [
            (r#"{"a": 1, "b": [1, 2]}"#, r#"{"b":[1,2.0],"a":1.0}"#, Equivalence::Same),
            ("```json\n{\"a\": 1}\n```", r#"{"a":1}"#, Equivalence::Same),
            (r#"{"id": "req_8f3a", "ok": true}"#, r#"{"id": "req_77bc", "ok": true}"#, Equivalence::Same),
            (r#"{"a": 1}"#, r#"{"a": 2}"#, Equivalence::Different),
            (r#"{"a": true}"#, r#"{"a": false}"#, Equivalence::Different),
            (r#"{"a": 1}"#, r#"{"b": 1}"#, Equivalence::Different),
            (r#"{"city": "Paris"}"#, r#"{"city": "Madrid"}"#, Equivalence::Different),
            (r#"{"city": "Paris"}"#, r#"{"city": "paris."}"#, Equivalence::Same),
            ("[1, 2]", "[2, 1]", Equivalence::Different),
            (r#"{"id": "req_8f3a"}"#, r#"{"id": "req_77bc"}"#, Equivalence::Unclear),
        ];
        for (one, other, equivalence) in cases {
            assert_eq!(clear(one, other), Some(equivalence), "{one} / {other}");
        }
        let told = clear(r#"{"why": "because it rains a lot"}"#, r#"{"why": "it is raining very much"}"#);
        assert_eq!(told, Some(Equivalence::Unclear), "words in values may say the same");
    }

    #[test]
    fn where_only_identifiers_differ_nothing_is_known() {
        let pairs = [
            ("bank-P-01290", "bank-P-01291"),
            ("req_8f3a", "req_91bc"),
            ("`3f2a9c01d4`", "`77ab01ee23`"),
            ("", "Paris"),
            ("   ", ""),
        ];
        for (one, other) in pairs {
            assert_eq!(clear(one, other), Some(Equivalence::Unclear), "{one} / {other}");
        }
        assert_eq!(clear("bank-P-01290", "bank-P-01290."), Some(Equivalence::Same));
    }

    #[test]
    fn other_words_are_left_to_their_vectors() {
        let open = |one: &str, other: &str| match compare(one, other) {
            Reading::Open { may_be_same, .. } => may_be_same,
            Reading::Clear(clear) => panic!("{one} / {other}: {clear:?}"),
        };
        assert!(open("You can reset it in the settings.", "Go to settings and reset it there."));
        assert!(!open("You can do that here.", "You can not do that here."));
        assert!(!open("```\nlet a = b;\n```", "```\nlet b = a;\n```"));
        assert!(!open("It opens at 9", "It opens in the morning"));
        let long = "word ".repeat(5_000);
        assert_eq!(compare(&long, "word"), Reading::Clear(Equivalence::Unclear));
        assert_eq!(by_cosine(0.95, true), Equivalence::Same);
        assert_eq!(by_cosine(0.95, false), Equivalence::Unclear);
        assert_eq!(by_cosine(0.7, true), Equivalence::Unclear);
        assert_eq!(by_cosine(0.1, true), Equivalence::Different);
        assert_eq!(by_cosine(f32::NAN, true), Equivalence::Unclear);
    }
}
