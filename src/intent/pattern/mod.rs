//! Patterns: sentences with slots in them, as people write them in a rule file.
//!
//! ```text
//! (turn|bring) up {what:track} [by] {amount:number} (dB|decibels)?
//! ```
//!
//! `( | )` are alternatives, `[ ]` and `?` may be missing, `{name:kind}` is a slot, `{:kind}` one that nobody asks
//! for, and `<phrase name>` is a phrase of the rule file. A pattern is read ([`parse()`]) into a [`Node`], and made a
//! [`Program`] that is run over a text in time bounded by the product of their lengths.

mod parse;
mod program;

pub(super) use parse::{Parser, parse};
pub(super) use program::{Catch, Found, Ground, Program};

use super::words::WordId;

/// A pattern, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Word(WordId),
    /// A slot by its place among the rule's slots; `None` where nobody asks for what it holds.
    Slot(Option<u16>, Kind),
    All(Vec<Node>),
    Any(Vec<Node>),
    Maybe(Box<Node>),
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Number,
    Integer,
    Order,
    Unit,
    Time,
    Day,
    Sum,
    Text,
    Word,
    /// One of a vocabulary, by its place.
    List(u16),
    /// The same, and never a name that is not in it.
    Listed(u16),
}

impl Kind {
    /// The kinds that are no vocabularies.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "number" => Self::Number,
            "integer" => Self::Integer,
            "ordinal" => Self::Order,
            "unit" => Self::Unit,
            "time" => Self::Time,
            "day" => Self::Day,
            "sum" => Self::Sum,
            "text" => Self::Text,
            "word" => Self::Word,
            _ => return None,
        })
    }

    /// Whether it takes words as they come.
    pub(super) fn is_loose(self) -> bool {
        matches!(self, Self::Text | Self::Word)
    }
}

/// The most words in which a number, a unit, a time or a day is said.
const LONGEST_VALUE: usize = 16;

/// Words of which a text must hold one for a pattern to match it.
pub(super) type Need = Vec<WordId>;

impl Node {
    /// What a text must hold for this to match, as far as that can be told. `first_words` gives a closed
    /// vocabulary's words.
    pub(super) fn needs(&self, first_words: &dyn Fn(u16) -> Option<Need>) -> Vec<Need> {
        match self {
            Self::Word(word) => vec![vec![*word]],
            Self::Slot(_, Kind::List(list) | Kind::Listed(list)) => first_words(*list).into_iter().collect(),
            Self::Slot(..) | Self::Maybe(_) => Vec::new(),
            Self::All(nodes) => nodes.iter().flat_map(|node| node.needs(first_words)).collect(),
            Self::Any(nodes) => {
                let smallest = |node: &Self| node.needs(first_words).into_iter().min_by_key(Vec::len);
                let each: Option<Vec<Need>> = nodes.iter().map(smallest).collect();
                let Some(each) = each else { return Vec::new() };
                let mut all: Need = each.into_iter().flatten().collect();
                all.sort_unstable();
                all.dedup();
                vec![all]
            }
        }
    }

    /// The most words that it can take; `None` where there is no limit. `longest` gives a vocabulary's longest name.
    pub(super) fn most_words(&self, longest: &dyn Fn(u16) -> usize) -> Option<usize> {
        match self {
            Self::Word(_) => Some(1),
            Self::Slot(_, kind) => match kind {
                Kind::Text | Kind::Sum => None,
                Kind::Word | Kind::Order => Some(1),
                Kind::List(list) | Kind::Listed(list) => Some(longest(*list)),
                Kind::Number | Kind::Integer | Kind::Unit | Kind::Time | Kind::Day => Some(LONGEST_VALUE),
            },
            Self::Maybe(node) => node.most_words(longest),
            Self::All(nodes) => nodes.iter().map(|node| node.most_words(longest)).sum(),
            Self::Any(nodes) => {
                let each: Option<Vec<usize>> = nodes.iter().map(|node| node.most_words(longest)).collect();
                each.map(|each| each.into_iter().max().unwrap_or(0))
            }
        }
    }

    /// Whether it matches where nothing is said.
    pub(super) fn can_be_empty(&self) -> bool {
        match self {
            Self::Word(_) | Self::Slot(..) => false,
            Self::Maybe(_) => true,
            Self::All(nodes) => nodes.iter().all(Self::can_be_empty),
            Self::Any(nodes) => nodes.iter().any(Self::can_be_empty),
        }
    }

    /// Whether anything but free text decides whether it matches.
    pub(super) fn is_anchored(&self) -> bool {
        match self {
            Self::Word(_) => true,
            Self::Slot(_, kind) => !kind.is_loose(),
            Self::Maybe(_) => false,
            Self::All(nodes) => nodes.iter().any(Self::is_anchored),
            Self::Any(nodes) => nodes.iter().all(Self::is_anchored),
        }
    }

    /// The slots that are caught however it matches.
    pub(super) fn always_catches(&self) -> Vec<u16> {
        match self {
            Self::Word(_) | Self::Slot(None, _) | Self::Maybe(_) => Vec::new(),
            Self::Slot(Some(slot), _) => vec![*slot],
            Self::All(nodes) => nodes.iter().flat_map(Self::always_catches).collect(),
            Self::Any(nodes) => {
                let mut each = nodes.iter().map(Self::always_catches);
                let first = each.next().unwrap_or_default();
                let rest: Vec<Vec<u16>> = each.collect();
                first.into_iter().filter(|slot| rest.iter().all(|slots| slots.contains(slot))).collect()
            }
        }
    }
}
