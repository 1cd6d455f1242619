//! What the model writes, made fit to hand over: whole characters, and nothing of a stop string.

/// Puts characters together from tokens that may end inside one. A character that is never completed is
/// never said.
#[derive(Default)]
pub(super) struct Characters {
    pending: Vec<u8>,
}

impl Characters {
    /// The characters that are complete once `bytes` are added.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let complete = self.pending.len() - unfinished(&self.pending);
        let rest = self.pending.split_off(complete);
        let whole = std::mem::replace(&mut self.pending, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let invalid_at_end = |error: std::str::Utf8Error| error.error_len().is_none();
    // A character has four bytes at most, so looking at the last three is enough.
    let beginnings = (1..=bytes.len().min(3)).rev().map(|len| &bytes[bytes.len() - len..]);
    let incomplete = |tail: &&[u8]| {
        std::str::from_utf8(tail).is_err_and(|error| error.valid_up_to() == 0 && invalid_at_end(error))
    };
    beginnings.into_iter().find(incomplete).map_or(0, <[u8]>::len)
}

/// Looks for stop strings in a text that comes in pieces, and holds back what may be the beginning of one.
#[derive(Default)]
pub(super) struct StopScanner {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// What may be said now.
    pub(super) text: String,
    /// The stop string that was met, right after `text`.
    pub(super) stopped: Option<String>,
}

impl StopScanner {
    /// Looks for `stops`. An empty one is met nowhere.
    pub(super) fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new() }
    }

    /// Adds `text`.
    pub(super) fn push(&mut self, text: &str) -> Scanned {
        self.held.push_str(text);
        // The one that is complete first counts, as if the text had come letter by letter.
        let met = |stop: &String| self.held.find(stop).map(|at| (at + stop.len(), at, stop.clone()));
        if let Some((_, at, stop)) = self.stops.iter().filter_map(met).min() {
            self.held.truncate(at);
            return Scanned { text: std::mem::take(&mut self.held), stopped: Some(stop) };
        }
        let held = self.held.split_off(self.may_be_said());
        Scanned { text: std::mem::replace(&mut self.held, held), stopped: None }
    }

    /// What was held back, when nothing goes on from it.
    pub(super) fn release(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Where the longest end of the text begins that a stop string begins with.
    fn may_be_said(&self) -> usize {
        let begins_a_stop = |&at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        self.held.char_indices().map(|(at, _)| at).find(begins_a_stop).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pushes `pieces`, and gives all that was said and whether a stop string was met.
    fn scan<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, bool) {
        let mut scanner = StopScanner::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut said = String::new();
        for piece in pieces {
            let Scanned { text, stopped } = scanner.push(piece);
            said.push_str(&text);
            if stopped.is_some() {
                return (said, true);
            }
        }
        (said + &scanner.release(), false)
    }

    #[test]
    fn a_stop_string_is_met_across_pieces() {
        assert_eq!(scan(&["\nUser:"], ["Hello", "\n", "Us", "er", ": more"]), ("Hello".to_owned(), true));
    }

    #[test]
    fn what_may_begin_a_stop_string_is_held_back_and_then_said() {
        let mut scanner = StopScanner::new(vec!["END".to_owned()]);
        assert_eq!(scanner.push("the EN"), Scanned { text: "the ".to_owned(), stopped: None });
        assert_eq!(scanner.push("CORE E"), Scanned { text: "ENCORE ".to_owned(), stopped: None });
        assert_eq!(scanner.release(), "E");
    }

    #[test]
    fn the_first_of_several_stop_strings_counts() {
        assert_eq!(scan(&["c", "ab"], ["xabc"]), ("x".to_owned(), true));
        let mut scanner = StopScanner::new(vec!["c".to_owned(), "ab".to_owned()]);
        assert_eq!(scanner.push("xabc").stopped.as_deref(), Some("ab"));
    }

    #[test]
    fn an_empty_stop_string_is_met_nowhere() {
        assert_eq!(scan(&[""], ["abc"]), ("abc".to_owned(), false));
    }

    #[test]
    fn a_character_comes_whole() {
        let mut characters = Characters::default();
        let wave = "👋".as_bytes();
        assert_eq!(characters.push(&[b'a', wave[0]]), "a");
        assert_eq!(characters.push(&wave[1..3]), "");
        assert_eq!(characters.push(&wave[3..]), "👋");
    }

    #[test]
    fn a_broken_character_is_replaced_and_holds_nothing_up() {
        let mut characters = Characters::default();
        assert_eq!(characters.push(&[0xFF, b'a']), "\u{FFFD}a");
        assert_eq!(characters.push(&[0xE2, 0x82]), "");
        assert_eq!(characters.push(b"b"), "\u{FFFD}b");
    }

    proptest! {
        #[test]
        fn characters_do_not_depend_on_how_bytes_are_split(text in "\\PC{0,20}", cuts in prop::collection::vec(0usize..80, 0..9)) {
            let mut characters = Characters::default();
            let mut said = String::new();
            for piece in split_at(text.as_bytes(), &cuts) {
                said.push_str(&characters.push(piece));
            }
            prop_assert_eq!(said, text);
        }

        #[test]
        fn stopping_does_not_depend_on_how_text_is_split(
            text in "[abc]{0,30}",
            stops in prop::collection::vec("[abc]{1,4}", 0..3),
            cuts in prop::collection::vec(0usize..30, 0..9),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces = split_at(text.as_bytes(), &cuts).into_iter().map(|piece| std::str::from_utf8(piece).unwrap());
            let (said, stopped) = scan(&stops, pieces);
            prop_assert_eq!(&said, &scan(&stops, [text.as_str()]).0);
            prop_assert!(!stops.iter().any(|stop| said.contains(stop)));
            prop_assert_eq!(stopped, stops.iter().any(|stop| text.contains(stop)));
            prop_assert!(stopped || said == text);
        }
    }

    fn split_at<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }
}
