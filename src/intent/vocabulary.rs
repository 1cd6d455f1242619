//! Vocabularies: the things that a slot can name, and what else they are called.

use super::heard::{Ease, Heard};
use super::said;
use super::words::{WordId, Words};
use std::collections::{HashMap, HashSet};

/// The most names in a vocabulary, other names included.
pub(super) const MOST_NAMES: usize = 20_000;
/// The longest name, in words.
const MOST_WORDS: usize = 12;

/// Words that are no part of a name that nobody has listed.
const NO_NAMES: &str = "a an and are as at be been but by can could did do does for from go had has have he her hers him \
    his how i if in into is it its let me more less mine no nor not now of off on onto or our out over please plus she \
    should so some than thanks thank that their them then there these they this those to too up down under until us very \
    was we were what when where which while who whom whose why will with within would you your yours at percent track \
    tracks channel channels volume level levels fader faders gain db decibel decibels bpm tempo bar bars pan panning \
    send return bus mute unmute solo unsolo everything all both each every other same also again back only any \
    minus between through about across around use make makes give get put set turn bring take send route feed duck ducks \
    ducking pump trigger sidechain sidechained compressor compression effect chain plugin device signal key have add insert \
    load drop apply move shift push pull raise lower increase decrease boost reduce cut fade fades fading rename call name \
    label title pan loop cycle play plays hit hits let's want need like love hear listen change adjust start stop create";

/// A vocabulary, ready to be looked up.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) name: String,
    /// The longest name, in words, that it takes without knowing it; zero: it knows all its names.
    open: usize,
    values: Vec<String>,
    /// From a place in the tree of names, by a word, to the next place. Names begin at zero.
    tree: HashMap<(u32, WordId), u32>,
    /// The value whose name ends at each place.
    ends: Vec<Option<u32>>,
    /// Every word of its names.
    own: HashSet<WordId>,
    /// The words in its longest name.
    longest: usize,
}

/// A name found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) end: usize,
    /// Which value; `None` where nobody has listed the name.
    pub(super) value: Option<u32>,
    /// How many of its words are misspelt.
    pub(super) misspelt: u16,
}

impl List {
    pub(super) fn new(name: &str, open: usize) -> Self {
        let (tree, own) = (HashMap::new(), HashSet::new());
        Self { name: name.to_owned(), open, values: Vec::new(), tree, ends: vec![None], own, longest: open }
    }

    /// Takes up a line of a vocabulary: `lead vocal = lead vox | main vocal`, or only the name.
    pub(super) fn add(&mut self, line: &str, words: &mut Words) -> Result<(), String> {
        let (value, others) = line.split_once(" = ").unwrap_or((line, ""));
        let value = value.trim();
        if value.is_empty() {
            return Err("it has a name without letters".to_owned());
        }
        let at = self.values.iter().position(|known| known == value).unwrap_or_else(|| {
            self.values.push(value.to_owned());
            self.values.len() - 1
        }) as u32;
        self.name(value, at, words, true)?;
        for other in others.split(" | ").map(str::trim).filter(|other| !other.is_empty()) {
            self.name(other, at, words, true)?;
        }
        Ok(())
    }

    fn name(&mut self, name: &str, value: u32, words: &mut Words, wins: bool) -> Result<(), String> {
        let cut = said::words(name);
        if cut.is_empty() || cut.len() > MOST_WORDS {
            return Err(format!("\"{name}\" is no name of one to {MOST_WORDS} words"));
        }
        if self.ends.len() > MOST_NAMES * 2 {
            return Err(format!("it holds more than {MOST_NAMES} names"));
        }
        self.longest = self.longest.max(cut.len());
        let mut place = 0;
        for word in &cut {
            let word = words.learn(word);
            self.own.insert(word);
            let next = self.ends.len() as u32;
            place = *self.tree.entry((place, word)).or_insert(next);
            if place == next {
                self.ends.push(None);
            }
        }
        let end = &mut self.ends[place as usize];
        if end.is_none() || wins {
            *end = Some(value);
        }
        Ok(())
    }

    /// Lets one and many of a thing stand for each other, where that is no other name.
    pub(super) fn add_plurals(&mut self, words: &mut Words) {
        for (value, name) in self.values.clone().iter().enumerate() {
            let other = match name.strip_suffix('s') {
                Some(single) if !single.ends_with('s') && single.len() > 2 => single.to_owned(),
                None if name.ends_with(char::is_alphabetic) && name.len() > 2 => format!("{name}s"),
                Some(_) | None => continue,
            };
            // A name that is too long for this is found as it is written.
            let _ = self.name(&other, value as u32, words, false);
        }
    }

    pub(super) fn value(&self, at: u32) -> &str {
        self.values.get(at as usize).map_or("", String::as_str)
    }

    pub(super) fn values(&self) -> &[String] {
        &self.values
    }

    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// The words that its names begin with, where no other can stand there.
    pub(super) fn first_words(&self) -> Option<Vec<WordId>> {
        let first = || self.tree.keys().filter(|(place, _)| *place == 0).map(|(_, word)| *word);
        (!self.is_open()).then(|| first().collect())
    }

    /// The names at this place of a text, listed ones first, and long ones before short ones.
    pub(super) fn named(&self, heard: &Heard<'_>, at: usize, ease: Ease) -> Vec<Named> {
        let mut found: Vec<Named> = Vec::new();
        self.walk(heard, at, 0, 0, ease, &mut found);
        found.sort_by_key(|named| (std::cmp::Reverse(named.end), named.misspelt));
        found.dedup_by_key(|named| named.end);
        if ease.open {
            let known: Vec<usize> = found.iter().map(|named| named.end).collect();
            let most = (at + self.open).min(heard.len());
            let ends =
                (at..most).take_while(|place| self.may_be_named(heard, *place, at)).map(|place| place + 1);
            let unlisted = ends.filter(|end| !known.contains(end));
            found.extend(unlisted.map(|end| Named { end, value: None, misspelt: 0 }));
        }
        found
    }

    fn walk(
        &self,
        heard: &Heard<'_>,
        at: usize,
        place: u32,
        misspelt: u16,
        ease: Ease,
        found: &mut Vec<Named>,
    ) {
        if let Some(Some(value)) = self.ends.get(place as usize)
            && place > 0
        {
            found.push(Named { end: at, value: Some(*value), misspelt });
        }
        if at >= heard.len() {
            return;
        }
        if let Some(id) = heard.ids[at] {
            if let Some(next) = self.tree.get(&(place, id)) {
                self.walk(heard, at + 1, *next, misspelt, ease, found);
            }
        } else if ease.misspelt {
            for id in heard.near(at) {
                if let Some(next) = self.tree.get(&(place, *id)) {
                    self.walk(heard, at + 1, *next, misspelt + 1, ease, found);
                }
            }
        }
    }

    /// Whether a word may be part of a name that nobody has listed.
    fn may_be_named(&self, heard: &Heard<'_>, at: usize, first: usize) -> bool {
        let token = &heard.tokens[at];
        if token.quoted {
            return true;
        }
        let starts_with_letter = token.word.starts_with(char::is_alphabetic);
        let looks_like_ours =
            heard.ids[at].is_none() && heard.near(at).iter().any(|near| self.own.contains(near));
        let fits = starts_with_letter || (at > first && token.number.is_some());
        let ends = (at > first && token.after_break) || is_no_name(&token.word);
        fits && !looks_like_ours && !ends
    }
}

fn is_no_name(word: &str) -> bool {
    static SET: std::sync::OnceLock<HashSet<&'static str>> = std::sync::OnceLock::new();
    SET.get_or_init(|| NO_NAMES.split_whitespace().collect()).contains(word)
}
