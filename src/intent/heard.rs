//! A text as the rules hear it: its words, and which of the known words each of them is or may be.

use super::kinds::Language;
use super::said::{self, MOST_TOKENS, Token};
use super::words::{WordId, Words};

/// How generously words are taken for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ease {
    /// Whether a misspelt word is taken for the word that it looks like.
    pub(super) misspelt: bool,
    /// Whether an open vocabulary takes names that are not in it.
    pub(super) open: bool,
}

/// A text that may be a command.
#[derive(Clone, Debug)]
pub(super) struct Heard<'t> {
    pub(super) text: &'t str,
    pub(super) tokens: Vec<Token>,
    /// The known word that each token is.
    pub(super) ids: Vec<Option<WordId>>,
    /// The known words that each token may be a misspelling of; none where it is one itself.
    near: Vec<Vec<WordId>>,
    words: &'t Words,
    pub(super) languages: &'t [Language],
}

impl<'t> Heard<'t> {
    /// `None` where the text is too long to be a command, or says nothing.
    pub(super) fn new(text: &'t str, words: &'t Words, languages: &'t [Language]) -> Option<Self> {
        let tokens = said::cut(text);
        if tokens.is_empty() || tokens.len() > MOST_TOKENS {
            return None;
        }
        let ids: Vec<Option<WordId>> = tokens.iter().map(|token| words.get(&token.word)).collect();
        let guess = |(token, id): (&Token, &Option<WordId>)| match id {
            None if token.number.is_none() && !token.quoted => words.near(&token.word),
            _ => Vec::new(),
        };
        let near = tokens.iter().zip(&ids).map(guess).collect();
        Some(Self { text, tokens, ids, near, words, languages })
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The known words that the token at this place may be.
    pub(super) fn near(&self, at: usize) -> &[WordId] {
        self.near.get(at).map_or(&[], Vec::as_slice)
    }

    /// Whether some word in it may be misspelt.
    pub(super) fn has_misspelt(&self) -> bool {
        self.near.iter().any(|near| !near.is_empty())
    }

    /// Whether the token at this place is `word`. `Some(true)` where it is so but for a slip of the fingers.
    pub(super) fn is(&self, at: usize, word: WordId, ease: Ease) -> Option<bool> {
        match self.ids.get(at)? {
            Some(id) => (*id == word).then_some(false),
            None => (ease.misspelt && self.near(at).contains(&word)).then_some(true),
        }
    }

    /// What the token at this place says; with ease, every known word that it may be, too.
    pub(super) fn readings(&self, at: usize, ease: Ease) -> impl Iterator<Item = &str> {
        let own = self.tokens.get(at).map(|token| token.word.as_str());
        let near = if ease.misspelt { self.near(at) } else { &[] };
        own.into_iter().chain(near.iter().map(|id| self.words.text(*id)))
    }

    /// The word at this place that `what` knows something about.
    pub(super) fn meaning<T>(&self, at: usize, ease: Ease, what: impl FnMut(&str) -> Option<T>) -> Option<T> {
        self.readings(at, ease).find_map(what)
    }

    /// Whether the word at this place is one of these.
    pub(super) fn is_one_of(&self, at: usize, ease: Ease, words: &[&str]) -> bool {
        self.readings(at, ease).any(|reading| words.contains(&reading))
    }

    /// What stands between the quotation marks around these tokens, where nothing else does.
    pub(super) fn quoted(&self, from: usize, to: usize) -> Option<&'t str> {
        const MARKS: [char; 3] = ['"', '\u{201c}', '\u{201d}'];
        let (first, last) = (self.tokens.get(from)?, self.tokens.get(to.checked_sub(1)?)?);
        let is_inside = |at: usize| self.tokens.get(at).is_some_and(|token| token.quoted);
        if !first.quoted || !last.quoted || (from > 0 && is_inside(from - 1)) || is_inside(to) {
            return None;
        }
        let before = &self.text[..first.from];
        let begin =
            before.char_indices().rev().find(|(_, c)| MARKS.contains(c)).map(|(at, c)| at + c.len_utf8())?;
        let end = self.text[last.to..].find(MARKS).map_or(self.text.len(), |at| last.to + at);
        Some(self.text.get(begin..end)?.trim())
    }

    /// What was said from token `from` up to token `to`, letter for letter.
    pub(super) fn verbatim(&self, from: usize, to: usize, with_articles: bool) -> &'t str {
        let (Some(first), Some(last)) =
            (self.tokens.get(from), to.checked_sub(1).and_then(|at| self.tokens.get(at)))
        else {
            return "";
        };
        let start = if with_articles { first.lead } else { first.from };
        self.text.get(start..last.to).unwrap_or_default()
    }
}
