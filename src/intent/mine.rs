//! Rules that traffic asks for: texts that say the same with other values become a pattern with slots.
//!
//! Each text is cut into words; numbers stand for any number. A text joins the first template that it shares most of
//! its words with, and what differs becomes a slot. Templates are made from one half of the texts and measured on the
//! other, by the very rules that are proposed.

use super::fillers::Fillers;
use super::heard::Heard;
use super::kinds::{self, Language};
use super::said;
use super::words::Words;
use super::{Error, RuleSet, parse};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The most texts that are looked at.
pub const MOST_TEXTS: usize = 50_000;
/// The longest text, in words.
const LONGEST: usize = 24;
/// The most templates that a text is held to.
const MOST_TEMPLATES: usize = 4_000;
/// The longest value of a slot, in words.
const LONGEST_VALUE: usize = 3;
/// The most slots in a template.
const MOST_SLOTS: usize = 4;
/// The share of a text's words that a template must keep.
const LEAST_SHARED: f64 = 0.6;
/// The most values that a vocabulary lists.
const MOST_VALUES: usize = 200;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mined {
    /// The rules, the most wanted first.
    pub proposals: Vec<Proposal>,
    /// How many texts were looked at.
    pub texts: usize,
    /// How many of those that were held back the rules catch.
    pub caught: usize,
    /// How many were held back.
    pub held_back: usize,
}

/// A rule that traffic asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What it would be called.
    pub name: String,
    /// How many texts it was made from.
    pub texts: usize,
    /// How many of the texts that were held back it catches.
    pub caught: usize,
    /// Of those, the share that no other proposal catches too.
    pub precision: f64,
    /// The rule, with its vocabularies, ready to be put into a rule file.
    pub toml: String,
}

impl Mined {
    /// All proposals as a rule file.
    pub fn file(&self) -> String {
        let rules: Vec<&str> = self.proposals.iter().map(|proposal| proposal.toml.as_str()).collect();
        rules.join("\n")
    }
}

/// Looks for rules that `texts` ask for, each asked for `least` times or more.
pub fn mine<'t>(texts: impl IntoIterator<Item = &'t str>, least: usize) -> Result<Mined, Error> {
    let texts: Vec<&str> = texts.into_iter().take(MOST_TEXTS).collect();
    let miner = Miner::new();
    let mut templates: Vec<Template> = Vec::new();
    for text in texts.iter().step_by(2) {
        miner.take_up(text, &mut templates);
    }
    templates.retain(|template| template.texts.len() >= least.max(2).div_ceil(2) && template.is_worth_it());
    templates.sort_by_key(|template| std::cmp::Reverse(template.texts.len()));
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut names = BTreeSet::new();
    for template in &templates {
        proposals.push(template.proposal(&mut names));
    }
    let held_back: Vec<&str> = texts.iter().skip(1).step_by(2).copied().collect();
    measure(&mut proposals, &held_back)?;
    // What others catch as well is not clear enough to be a rule.
    proposals.retain(|proposal| proposal.precision >= 0.99);
    let mut mined = Mined { proposals, texts: texts.len(), caught: 0, held_back: held_back.len() };
    let all = parse(&mined.file())?;
    mined.caught = held_back.iter().filter(|text| all.classify("default", text).is_some()).count();
    Ok(mined)
}

fn measure(proposals: &mut [Proposal], held_back: &[&str]) -> Result<(), Error> {
    let each: Result<Vec<RuleSet>, Error> = proposals.iter().map(|proposal| parse(&proposal.toml)).collect();
    let each = each?;
    let catchers: Vec<Vec<usize>> = held_back
        .iter()
        .map(|text| (0..each.len()).filter(|at| each[*at].classify("default", text).is_some()).collect())
        .collect();
    for (at, proposal) in proposals.iter_mut().enumerate() {
        let caught: Vec<&Vec<usize>> = catchers.iter().filter(|by| by.contains(&at)).collect();
        let alone = caught.iter().filter(|by| by.len() == 1).count();
        proposal.caught = caught.len();
        proposal.precision = if caught.is_empty() { 1.0 } else { alone as f64 / caught.len() as f64 };
    }
    Ok(())
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Word(String),
    Number,
    Slot,
}

/// Texts that say the same.
#[derive(Clone, Debug)]
struct Template {
    pieces: Vec<Piece>,
    texts: Vec<Example>,
}

/// A text that a template was made from.
#[derive(Clone, Debug)]
struct Example {
    text: String,
    pieces: Vec<Piece>,
}

struct Miner {
    words: Words,
    fillers: Fillers,
}

const ENGLISH: [Language; 1] = [Language::En];

impl Miner {
    fn new() -> Self {
        let mut words = Words::default();
        kinds::learn(&mut words, &ENGLISH);
        let fillers = Fillers::new(&mut words, &[]);
        Self { words, fillers }
    }

    fn take_up(&self, text: &str, templates: &mut Vec<Template>) {
        let Some(pieces) = self.pieces(text).filter(|pieces| (2..=LONGEST).contains(&pieces.len())) else {
            return;
        };
        let example = Example { text: text.to_owned(), pieces: pieces.clone() };
        let mut best: Option<(usize, Vec<Piece>, f64)> = None;
        for (at, template) in templates.iter().enumerate() {
            if let Some((merged, shared)) = merged(&template.pieces, &pieces)
                && best.as_ref().is_none_or(|(_, _, known)| shared > *known)
            {
                best = Some((at, merged, shared));
            }
        }
        match best {
            Some((at, merged, _)) => {
                templates[at].pieces = merged;
                templates[at].texts.push(example);
            }
            None if templates.len() < MOST_TEMPLATES => {
                templates.push(Template { pieces, texts: vec![example] });
            }
            None => {}
        }
    }

    /// The words of what is wanted, without what people say around it.
    fn pieces(&self, text: &str) -> Option<Vec<Piece>> {
        let heard = Heard::new(text, &self.words, &ENGLISH)?;
        let first = self.fillers.starts(&heard).last().copied().unwrap_or(0);
        let last = self.fillers.ends(&heard).last().copied().unwrap_or(heard.len());
        let mut pieces = Vec::new();
        let mut at = first;
        while at < last {
            match kinds::number(&heard, at, super::heard::Ease::default()) {
                Some((end, _)) if end <= last => {
                    pieces.push(Piece::Number);
                    at = end;
                }
                _ => {
                    pieces.push(Piece::Word(heard.tokens[at].word.clone()));
                    at += 1;
                }
            }
        }
        (!pieces.is_empty()).then_some(pieces)
    }
}

/// What two have in common, with slots for what they have not; and how much that is. `None` where it is too little.
fn merged(template: &[Piece], text: &[Piece]) -> Option<(Vec<Piece>, f64)> {
    if template.len().abs_diff(text.len()) > MOST_SLOTS * (LONGEST_VALUE - 1) {
        return None;
    }
    let mut merged = Vec::with_capacity(template.len());
    let (mut one, mut other) = (0, 0);
    for (at, place) in common(template, text) {
        gap(&template[one..at], &text[other..place], &mut merged)?;
        merged.push(template[at].clone());
        (one, other) = (at + 1, place + 1);
    }
    gap(&template[one..], &text[other..], &mut merged)?;
    let words = merged.iter().filter(|piece| matches!(piece, Piece::Word(_))).count();
    let slots = merged.iter().filter(|piece| **piece == Piece::Slot).count();
    let numbers = merged.len() - words - slots;
    let shared = (words as f64 + numbers as f64 * 0.5) / (words + slots) as f64;
    // The first word is mostly the verb: what differs there is another wish.
    let same_verb = merged.first() == text.first() || !matches!(text.first(), Some(Piece::Word(_)));
    // What says less than it leaves open would catch what means something else.
    let fits = slots <= MOST_SLOTS && words > slots && shared >= LEAST_SHARED && same_verb;
    let close =
        words as f64 / text.iter().filter(|piece| matches!(piece, Piece::Word(_))).count().max(1) as f64;
    fits.then_some((merged, close))
}

/// What stands between two common words becomes a slot, if there is something on both sides and it is short.
fn gap(one: &[Piece], other: &[Piece], merged: &mut Vec<Piece>) -> Option<()> {
    let fits = |gap: &[Piece]| gap.len() <= LONGEST_VALUE && !gap.contains(&Piece::Number);
    match (one.is_empty(), other.is_empty()) {
        (true, true) => Some(()),
        (false, false) if fits(one) && fits(other) => {
            merged.push(Piece::Slot);
            Some(())
        }
        _ => None,
    }
}

/// The longest run of words, with gaps, that both have: their places.
fn common(one: &[Piece], other: &[Piece]) -> Vec<(usize, usize)> {
    let mut lengths = vec![vec![0u16; other.len() + 1]; one.len() + 1];
    for at in (0..one.len()).rev() {
        for place in (0..other.len()).rev() {
            lengths[at][place] = match one[at] == other[place] && one[at] != Piece::Slot {
                true => lengths[at + 1][place + 1] + 1,
                false => lengths[at + 1][place].max(lengths[at][place + 1]),
            };
        }
    }
    let (mut at, mut place, mut found) = (0, 0, Vec::new());
    while at < one.len() && place < other.len() {
        if one[at] == other[place] && one[at] != Piece::Slot {
            found.push((at, place));
            (at, place) = (at + 1, place + 1);
        } else if lengths[at + 1][place] >= lengths[at][place + 1] {
            at += 1;
        } else {
            place += 1;
        }
    }
    found
}

impl Template {
    /// Whether something can be put into it, and enough is always said.
    fn is_worth_it(&self) -> bool {
        let words = self.pieces.iter().filter(|piece| matches!(piece, Piece::Word(_))).count();
        words >= 1 && words < self.pieces.len()
    }

    /// The values of its slots, in order.
    fn values(&self) -> Vec<BTreeSet<String>> {
        let slots = self.pieces.iter().filter(|piece| **piece == Piece::Slot).count();
        let mut values = vec![BTreeSet::new(); slots];
        for example in &self.texts {
            let Some(found) = self.values_in(&example.pieces) else { continue };
            for (known, value) in values.iter_mut().zip(found) {
                known.insert(value);
            }
        }
        values
    }

    fn values_in(&self, text: &[Piece]) -> Option<Vec<String>> {
        let mut values = Vec::new();
        let mut at = 0;
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            if *piece != Piece::Slot {
                (text.get(at)? == piece).then_some(())?;
                at += 1;
                continue;
            }
            let begin = at;
            at += 1;
            while at < text.len() && pieces.peek().is_none_or(|next| text[at] != **next) {
                at += 1;
            }
            let words: Vec<&str> = text[begin..at]
                .iter()
                .filter_map(|piece| if let Piece::Word(word) = piece { Some(word.as_str()) } else { None })
                .collect();
            (words.len() == at - begin && words.len() <= LONGEST_VALUE).then_some(())?;
            values.push(words.join(" "));
        }
        (at == text.len()).then_some(values)
    }

    fn proposal(&self, names: &mut BTreeSet<String>) -> Proposal {
        let words = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Word(word) if word.chars().all(|c| c.is_ascii_alphanumeric()) => Some(word.as_str()),
            _ => None,
        });
        let stem = words.take(4).collect::<Vec<_>>().join("_");
        let stem = if stem.is_empty() { "mined".to_owned() } else { stem };
        let name = (1..).map(|nth| if nth == 1 { stem.clone() } else { format!("{stem}_{nth}") });
        let name = name.into_iter().find(|name| !names.contains(name)).unwrap_or_default();
        names.insert(name.clone());
        let toml = self.toml(&name);
        Proposal { name, texts: self.texts.len(), caught: 0, precision: 0.0, toml }
    }

    fn toml(&self, name: &str) -> String {
        let values = self.values();
        let (mut pattern, mut arguments, mut toml) = (Vec::new(), Vec::new(), String::new());
        let (mut slot, mut number) = (0, 0);
        for piece in &self.pieces {
            match piece {
                Piece::Word(word) => pattern.push(escaped(word)),
                Piece::Number => {
                    number += 1;
                    pattern.push(format!("{{n{number}:number}}"));
                    arguments.push(format!("n{number} = \"{{n{number}:number}}\""));
                }
                Piece::Slot => {
                    let lines = values[slot].iter().filter(|value| !value.is_empty()).take(MOST_VALUES);
                    let lines: Vec<String> = lines.map(|value| format!("{value:?}")).collect();
                    slot += 1;
                    let list = format!("{name}_{slot}");
                    let _ = writeln!(
                        toml,
                        "[[vocabulary]]\nname = \"{list}\"\nvalues = [{}]\n",
                        lines.join(", ")
                    );
                    pattern.push(format!("{{s{slot}:{list}}}"));
                    arguments.push(format!("s{slot} = \"{{s{slot}}}\""));
                }
            }
        }
        let texts: BTreeSet<&str> = self.texts.iter().map(|example| example.text.as_str()).collect();
        let examples = texts
            .iter()
            .filter(|text| text.chars().all(|c| !c.is_control()))
            .take(3)
            .map(|text| format!("{text:?}"));
        let examples: Vec<String> = examples.collect();
        let _ = write!(
            toml,
            "[[rule]]\nname = \"{name}\"\nmatch = \"{}\"\ncall = {{ tool = \"{name}\", arguments = {{ {} }} }}\nexamples = [{}]\n",
            pattern.join(" "),
            arguments.join(", "),
            examples.join(", ")
        );
        toml
    }
}

/// A word as a pattern has it: signs that mean something there are left out by the cutter anyway.
fn escaped(word: &str) -> String {
    match said::words(word).as_slice() {
        [one] if one == word => word.to_owned(),
        _ => word.chars().filter(|c| c.is_alphanumeric()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn texts_that_differ_in_values_become_a_rule() {
        let tracks = ["bass", "drums", "lead vocal", "piano", "organ"];
        let mut texts: Vec<String> = Vec::new();
        for (nth, track) in tracks.iter().cycle().take(30).enumerate() {
            texts.push(format!("hey, put the {track} fader at {} dB please", nth % 7));
            texts
                .push(format!("what is the meaning of word number {}{nth} in the old book", "x".repeat(nth)));
        }
        let mined = mine(texts.iter().map(String::as_str), 4).unwrap();
        let file = mined.file();
        let rules = parse(&file).unwrap();
        assert!(rules.check(None).is_ok(), "{file}\n{:?}", rules.check(None));
        let verdict = rules.classify("default", "put lead vocal fader at twelve dB").expect(&file);
        let slots: BTreeMap<String, String> = verdict.slots.into_iter().collect();
        assert_eq!((slots["s1"].as_str(), slots["n1"].as_str()), ("lead vocal", "12"));
    }

    #[test]
    fn other_wishes_are_other_rules() {
        let texts = [
            "mute the bass channel",
            "mute the drums channel",
            "solo the bass channel",
            "solo the drums channel",
        ];
        let texts: Vec<&str> = texts.into_iter().cycle().take(40).collect();
        // One after the other, so that both halves hold all of them.
        let texts: Vec<&str> = texts.into_iter().flat_map(|text| [text, text]).collect();
        let mined = mine(texts, 4).unwrap();
        assert_eq!(mined.proposals.len(), 2, "{}", mined.file());
        assert_eq!(mined.caught, mined.held_back);
    }
}
