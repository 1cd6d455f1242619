//! Words that tell how lasting the answer to a question is.

use std::collections::HashMap;

/// The lists that hold where the configuration has none of its own.
const DEFAULT: &str = include_str!("words.txt");

/// How much of a text is looked at, at its beginning and at its end: that is where a long one says what it wants.
const LOOKED_AT: usize = 4096;

/// Phrases that tell how lasting an answer is. One that begins with `!` says that its words do not count there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordLists {
    /// What is asked changes soon: `today`.
    pub volatile: Vec<String>,
    /// Each answer is to be another one: `roll a die`.
    pub chance: Vec<String>,
}

impl Default for WordLists {
    fn default() -> Self {
        Self { volatile: section("volatile"), chance: section("chance") }
    }
}

/// The phrases below `[name]` in the lists that come with us.
fn section(name: &str) -> Vec<String> {
    let lines = DEFAULT.lines().map(str::trim).skip_while(|line| *line != format!("[{name}]")).skip(1);
    let phrases = lines.take_while(|line| !line.starts_with('['));
    phrases.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Finds phrases in texts.
#[derive(Debug)]
pub(super) struct Finder {
    /// By their first word, the longest first.
    phrases: HashMap<String, Vec<Phrase>>,
    /// In scripts without spaces: found wherever they stand.
    unspaced: Vec<String>,
}

#[derive(Debug)]
struct Phrase {
    /// What follows the first word.
    rest: Vec<String>,
    counts: bool,
}

impl Finder {
    pub(super) fn new(phrases: &[String]) -> Self {
        let mut finder = Self { phrases: HashMap::new(), unspaced: Vec::new() };
        for phrase in phrases {
            finder.add(phrase);
        }
        for known in finder.phrases.values_mut() {
            known.sort_by_key(|phrase| std::cmp::Reverse(phrase.rest.len()));
        }
        finder
    }

    fn add(&mut self, phrase: &str) {
        let counts = !phrase.starts_with('!');
        let lower = phrase.to_lowercase();
        if lower.chars().any(is_unspaced) {
            self.unspaced.extend(counts.then_some(lower));
            return;
        }
        let mut words = words(&lower).map(str::to_owned);
        if let Some(first) = words.next() {
            self.phrases.entry(first).or_default().push(Phrase { rest: words.collect(), counts });
        }
    }

    /// Whether one of them stands in `text`.
    pub(super) fn finds(&self, text: &str) -> bool {
        let head = &text[..text.floor_char_boundary(LOOKED_AT)];
        let tail = &text[text.ceil_char_boundary(text.len().saturating_sub(LOOKED_AT)).max(head.len())..];
        [head, tail].into_iter().any(|part| self.finds_in(&part.to_lowercase()))
    }

    fn finds_in(&self, lower: &str) -> bool {
        let words: Vec<&str> = words(lower).collect();
        let mut rest = words.as_slice();
        while let Some((first, after)) = rest.split_first() {
            let phrases = self.phrases.get(*first).into_iter().flatten();
            rest = match phrases.into_iter().find(|phrase| phrase.begins(after)) {
                Some(phrase) if phrase.counts => return true,
                Some(phrase) => after.get(phrase.rest.len()..).unwrap_or_default(),
                None => after,
            };
        }
        self.unspaced.iter().any(|phrase| lower.contains(phrase))
    }
}

impl Phrase {
    fn begins(&self, words: &[&str]) -> bool {
        words.len() >= self.rest.len() && self.rest.iter().zip(words).all(|(own, word)| own == word)
    }
}

/// Runs of letters and digits: "today's" is "today" and "s", on either side.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Thai, Japanese, Chinese; and Korean, which has spaces, but writes endings onto its words.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c), 0x0E00..=0x0E7F | 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7AF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(pick: impl Fn(WordLists) -> Vec<String>) -> Finder {
        Finder::new(&pick(WordLists::default()))
    }

    #[test]
    fn what_changes_soon_is_found() {
        let volatile = finder(|lists| lists.volatile);
        for text in [
            "What's the weather in Berlin?",
            "What is TODAY's date?",
            "what time is it",
            "latest news on the election",
            "Who is playing tonight",
            "will it rain tomorrow?",
            "what happened yesterday",
            "what is on this week",
            "current price of gold",
            "AAPL stock",
            "what was the score of the game",
            "How many users are online right now?",
            "Wie wird das Wetter heute?",
            "¿Qué tiempo hace hoy?",
            "Quelle est la météo aujourd’hui ?",
            "今天天气怎么样",
            "오늘은 며칠이야?",
        ] {
            assert!(volatile.finds(text), "{text}");
        }
        for text in [
            "capital of France?",
            "How do I reset my password?",
            "What is alternating current?",
            "Explain how the stack works",
            "knowledge snow nowhere",
        ] {
            assert!(!volatile.finds(text), "{text}");
        }
    }

    #[test]
    fn what_is_to_vary_is_found() {
        let chance = finder(|lists| lists.chance);
        for text in [
            "give me a random number",
            "Roll a die",
            "roll two dice for me",
            "flip a coin!",
            "Pick a number between 1 and 10",
            "surprise me",
            "Tell me another joke",
            "tell me a joke",
            "Choose one at random",
        ] {
            assert!(chance.finds(text), "{text}");
        }
        for text in
            ["What is a random forest?", "random access memory", "how do I die cut paper", "a joker card"]
        {
            assert!(!chance.finds(text), "{text}");
        }
        assert!(chance.finds("use a random forest on random data"), "the second one counts");
    }

    #[test]
    fn a_long_text_is_looked_at_where_it_says_what_it_wants() {
        let volatile = finder(|lists| lists.volatile);
        let filler = "wörd ".repeat(10_000);
        assert!(volatile.finds(&format!("{filler} what is the weather")));
        assert!(volatile.finds(&format!("the weather: {filler}")));
        assert!(!volatile.finds(&format!("{filler} the weather {filler}")));
        assert!(!volatile.finds(&"語".repeat(9_000)));
    }

    #[test]
    fn lists_of_ones_own_take_the_place_of_ours() {
        let own =
            Finder::new(&["Deploy Status".to_owned(), "!deploy status page".to_owned(), " - ".to_owned()]);
        assert!(own.finds("what is the deploy-status?"));
        assert!(!own.finds("where is the deploy status page"));
        assert!(!own.finds("the weather today"));
    }
}
