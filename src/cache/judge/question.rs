//! [`Question`]: a text, taken apart once, so that comparing it with another is quick.

use super::compare::TURNING;
use super::facts::Facts;
use super::lexicon::{self, Lemma};
use super::rewrite;
use super::sides::{self, List, Lists, Side};
use super::tokens::{Shape, Token, tokens};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Longer texts are not compared word by word.
const MOST_WORDS: usize = 120;

/// Longer texts are not even read: they have more words than that, or none that could be compared.
pub(super) const MOST_BYTES: usize = 4096;

/// Stands for a word, so that comparing two is comparing numbers.
pub(super) type WordId = u64;

/// What a word is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It says what the question is about.
    Content,
    /// It holds the sentence together.
    Function,
    /// It counts, or is a code.
    Number,
    /// What is counted.
    Unit,
    /// An operator, an emoji.
    Sign,
}

/// A word of a question.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) form: String,
    pub(super) id: WordId,
    /// Stands for the word without its ending.
    pub(super) stem: WordId,
    /// The word, and its stem, that this one turns around: "known" for "unknown".
    pub(super) turned: (Option<WordId>, Option<WordId>),
    pub(super) kind: Kind,
    /// How much it says, from 0 to 1.2.
    pub(super) weight: f32,
    pub(super) is_name: bool,
    pub(super) is_known: bool,
    pub(super) lemmas: Vec<Lemma>,
    /// The sides of opposites that it is on.
    pub(super) sides: &'static [Side],
    /// Whether the lexicon knows an opposite of it.
    pub(super) has_opposites: bool,
    /// The lists that have it.
    lists: Lists,
}

impl Word {
    pub(super) fn is(&self, form: &str) -> bool {
        self.form == form
    }

    pub(super) fn is_in(&self, list: List) -> bool {
        self.lists.has(list)
    }

    pub(super) fn is_content(&self) -> bool {
        self.kind == Kind::Content
    }

    /// What it is looked up by in the lexicon.
    pub(super) fn meaning(&self) -> (WordId, &[Lemma]) {
        (self.id, &self.lemmas)
    }

    /// Whether it says something of its own, alone or with what it counts.
    pub(super) fn matters(&self) -> bool {
        matches!(self.kind, Kind::Content | Kind::Number | Kind::Unit)
    }
}

/// A text, taken apart.
#[derive(Clone, Debug)]
pub struct Question {
    canonical: String,
    pub(super) words: Vec<Word>,
    pub(super) facts: Facts,
    /// Groups of three letters, sorted.
    pub(super) trigrams: Vec<u32>,
    /// The share of its words that are known English.
    pub(super) known: f32,
    pub(super) is_foreign: bool,
    pub(super) is_too_long: bool,
}

impl Question {
    /// Takes `text` apart.
    pub fn new(text: &str) -> Self {
        if text.len() > MOST_BYTES {
            return Self::too_long();
        }
        let raw = tokens(text);
        let quoted = quoted(&raw);
        let tokens = rewrite::rewrite(raw);
        let canonical = match rewrite::join(&tokens) {
            empty if empty.is_empty() => text.trim().to_lowercase(),
            canonical => canonical,
        };
        let telling = tokens.iter().filter_map(|token| token.telling.as_deref()).map(word_id).collect();
        let is_too_long = tokens.iter().filter(|token| !token.is_mark()).count() > MOST_WORDS;
        if is_too_long {
            return Self::too_long();
        }
        let words = words(&tokens);
        let known = share_of_known(&words);
        let english = words.iter().filter(|word| word.is_in(sides::ENGLISH)).count();
        let is_foreign = known < 0.5 && english * 5 < words.len();
        let facts = Facts::new(&words, quoted, telling);
        let trigrams = trigrams(&canonical);
        Self { canonical, words, facts, trigrams, known, is_foreign, is_too_long: false }
    }

    /// Of a text that is too long to be taken apart nothing is kept: it is compared with no other.
    fn too_long() -> Self {
        let facts = Facts::new(&[], Vec::new(), Vec::new());
        let (words, trigrams) = (Vec::new(), Vec::new());
        Self {
            canonical: String::new(),
            words,
            facts,
            trigrams,
            known: 0.0,
            is_foreign: false,
            is_too_long: true,
        }
    }

    /// What is to be embedded; `None` where it is too long to be compared with any other.
    pub fn to_embed(&self) -> Option<&str> {
        (!self.is_too_long).then_some(&self.canonical)
    }

    /// About how much memory it takes, in words.
    pub(super) fn size(&self) -> usize {
        1 + self.words.len()
    }

    /// The text in the one way of saying it. This is what is embedded. Empty where it is too long.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

/// The number that stands for a word.
pub(super) fn word_id(form: &str) -> WordId {
    let mut hasher = DefaultHasher::new();
    form.hash(&mut hasher);
    hasher.finish()
}

fn words(tokens: &[Token]) -> Vec<Word> {
    let tokens = tokens.iter().filter(|token| !token.is_mark());
    tokens
        .filter_map(|token| {
            let form = token.form.strip_suffix("'s").unwrap_or(&token.form);
            let form = form.strip_suffix('\'').unwrap_or(form);
            (!form.is_empty()).then(|| word(form, token))
        })
        .collect()
}

fn word(form: &str, token: &Token) -> Word {
    let lists = Lists::of(form);
    let kind = match token.shape {
        Shape::Number | Shape::Mixed => Kind::Number,
        Shape::Sign if form == "%" => Kind::Unit,
        Shape::Sign => Kind::Sign,
        _ if lists.has(sides::UNITS) => Kind::Unit,
        _ if lists.has(sides::FUNCTION) => Kind::Function,
        _ => Kind::Content,
    };
    let lemmas = if matches!(kind, Kind::Content | Kind::Unit) { lexicon::lemmas(form) } else { Vec::new() };
    let weight = match kind {
        Kind::Function if matches!(form, "a" | "an" | "the") => 0.0,
        Kind::Function => 0.15,
        Kind::Number | Kind::Unit | Kind::Sign => 1.0,
        // Rare words say more than common ones, and unknown ones most: they are names.
        Kind::Content => match lexicon::common(&lemmas) {
            None => 1.2,
            Some(common) => 1.1 - 0.09 * f32::from(common),
        },
    };
    let stem_form = stem(form);
    Word {
        id: word_id(form),
        stem: word_id(&stem_form),
        turned: (turned(form), turned(&stem_form)),
        kind,
        weight,
        is_name: token.is_name,
        is_known: kind != Kind::Content || !lemmas.is_empty(),
        has_opposites: lexicon::have_opposites(&lemmas),
        lemmas,
        sides: sides::of(form),
        lists,
        form: form.to_owned(),
    }
}

/// The word that a prefix turns around in this one.
fn turned(form: &str) -> Option<WordId> {
    let rest = TURNING.iter().find_map(|prefix| form.strip_prefix(prefix))?;
    (rest.len() > 2).then(|| word_id(rest))
}

fn share_of_known(words: &[Word]) -> f32 {
    let letters = || words.iter().filter(|word| matches!(word.kind, Kind::Content | Kind::Function));
    match letters().count() {
        0 => 1.0,
        all => letters().filter(|word| word.is_known).count() as f32 / all as f32,
    }
}

/// What stands in quotes, one number for each.
fn quoted(tokens: &[Token]) -> Vec<WordId> {
    let mut quoted = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for token in tokens {
        if token.shape == Shape::Quote {
            match open.take() {
                Some(words) => quoted.push(word_id(&words.join(" "))),
                None => open = Some(Vec::new()),
            }
        } else if let Some(words) = &mut open {
            words.push(&token.form);
        }
    }
    quoted
}

fn trigrams(text: &str) -> Vec<u32> {
    let grams = text.as_bytes().windows(3);
    let mut grams: Vec<u32> = grams.map(|gram| u32::from_be_bytes([0, gram[0], gram[1], gram[2]])).collect();
    grams.sort_unstable();
    grams.dedup();
    grams
}

/// The word without its ending.
fn stem(word: &str) -> String {
    const ENDINGS: [(&str, &str); 9] = [
        ("ies", "y"),
        ("sses", "ss"),
        ("ing", ""),
        ("edly", ""),
        ("ed", ""),
        ("ly", ""),
        ("ers", "er"),
        ("es", "e"),
        ("s", ""),
    ];
    if word.len() <= 3 || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return word.to_owned();
    }
    let mut stem = word.to_owned();
    let ending = ENDINGS.iter().find(|(ending, _)| {
        word.ends_with(ending) && word.len() - ending.len() >= 3 && !(*ending == "s" && word.ends_with("ss"))
    });
    if let Some((ending, instead)) = ending {
        stem.truncate(word.len() - ending.len());
        stem.push_str(instead);
    }
    if let [.., before, last] = stem.as_bytes()
        && stem.len() > 3
        && before == last
        && !b"sle".contains(last)
    {
        stem.pop();
    }
    if stem.len() > 3 && stem.ends_with('e') {
        stem.pop();
    }
    if stem.len() > 3 && stem.ends_with('y') {
        stem.pop();
        stem.push('i');
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_said_in_one_way() {
        let cases = [
            ("Hey, turn up track three by two decibels, thanks!", "raise track 3 by 2 db"),
            ("What's the weather?", "what is the weather"),
            ("turn the lights in the kitchen off please", "disable the lights in the kitchen"),
            ("Is room 7a free at 7pm?", "is room 7a free at 7 pm"),
            ("Convert $1,000.50 to GBP", "convert 1000.5 usd to gbp"),
            ("can you help: set a timer for twelve min please?", "set a timer for 12 minute"),
            ("WHAT ARE YOUR OPENING HOURS?", "what are your opening hour"),
            ("twenty-three people", "23 people"),
            ("Please", "please"),
            ("", ""),
        ];
        for (text, canonical) in cases {
            assert_eq!(Question::new(text).canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn any_text_can_be_taken_apart() {
        for text in
            ["\"", "'", "-", "…", "💡💡", "\u{0}\u{200b}", "a'b'c", "-5-5", "1,2,3,,", "日本語の質問", "'s"]
        {
            let _ = Question::new(text);
        }
        for long in ["many words ".repeat(61), "many words ".repeat(1_000_000), "w".repeat(5_000)] {
            let question = Question::new(&long);
            assert!(question.is_too_long && question.size() == 1 && question.to_embed().is_none());
        }
        assert!(Question::new(&"many words ".repeat(60)).to_embed().is_some());
    }
}
