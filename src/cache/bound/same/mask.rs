//! Identifiers and times: they differ between two answers to one question, and say nothing.

/// A text without its identifiers.
pub(super) struct Masked {
    pub(super) text: String,
    /// What was taken out, in order.
    pub(super) identifiers: Vec<String>,
}

impl Masked {
    /// Whether anything is left that an answer can be made of.
    pub(super) fn has_substance(&self) -> bool {
        self.text.chars().any(char::is_alphanumeric)
    }
}

/// Takes identifiers out of `text`.
pub(super) fn masked(text: &str) -> Masked {
    let mut masked = Masked { text: String::with_capacity(text.len()), identifiers: Vec::new() };
    for line in text.split_inclusive('\n') {
        for word in line.split_inclusive(char::is_whitespace) {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            match is_identifier(bare) {
                true => {
                    masked.identifiers.push(bare.to_owned());
                    masked.text.push_str(&word.replacen(bare, "", 1));
                }
                false => masked.text.push_str(word),
            }
        }
    }
    masked
}

/// Whether a word names one thing of many alike, or a moment.
pub(super) fn is_identifier(word: &str) -> bool {
    let plain = word.is_ascii() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_:./+#".contains(c));
    plain && (is_moment(word) || is_epoch(word) || is_hex(word) || is_mixed(word))
}

/// A date with a time: a date alone may well be the answer.
fn is_moment(word: &str) -> bool {
    let Some((date, time)) = word.split_once('T') else { return false };
    let all = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_digit() || more.contains(c));
    date.len() == 10 && all(date, "-") && time.len() >= 5 && all(time, ":.+-Z")
}

/// Seconds or milliseconds since 1970, as they are in this century.
fn is_epoch(word: &str) -> bool {
    matches!(word.len(), 10 | 13) && word.starts_with('1') && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// A hash, or a UUID.
fn is_hex(word: &str) -> bool {
    let digits: Vec<char> = word.chars().filter(|c| *c != '-').collect();
    let has_both = digits.iter().any(char::is_ascii_digit) && digits.iter().any(char::is_ascii_alphabetic);
    digits.len() >= 8 && has_both && digits.iter().all(char::is_ascii_hexdigit)
}

/// Letters, digits and a joint between them, where one piece is a row of digits or a mix of both. `GPT-4`,
/// `utf-8`, `COVID-19` and `10-20` are words.
fn is_mixed(word: &str) -> bool {
    if !word.contains(['-', '_']) || !word.contains(|c: char| c.is_ascii_alphabetic()) {
        return false;
    }
    word.split(['-', '_', ':', '/', '#']).any(|piece| {
        let digits = piece.bytes().filter(u8::is_ascii_digit).count();
        let letters = piece.bytes().filter(u8::is_ascii_alphabetic).count();
        let only_digits = letters == 0 && digits >= 4;
        // `8f3a`, and neither `v2` nor `3rd`.
        let mixed = letters >= 1 && digits >= 2 && letters + digits >= 4;
        only_digits || mixed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_told_from_words_and_numbers() {
        let identifiers = [
            "req_8f3a",
            "req_91bc",
            "bank-P-01290",
            "123e4567-e89b-12d3-a456-426614174000",
            "3f2a9c01d4",
            "2026-11-21T03:49:00Z",
            "1763700000",
            "chatcmpl-9aF3kQ21",
            "ORD-2026-00017",
        ];
        for word in identifiers {
            assert!(is_identifier(word), "{word}");
        }
        let words = [
            "Paris",
            "42",
            "1,000",
            "2026-11-21",
            "GPT-4",
            "utf-8",
            "COVID-19",
            "10-20",
            "3rd",
            "v1.2.3",
            "7a",
            "well-known",
            "H2O",
            "deadbeef",
            "facade",
            "12345678",
            "e-mail",
            "gpt-4o",
            "1999",
        ];
        for word in words {
            assert!(!is_identifier(word), "{word}");
        }
    }
}
