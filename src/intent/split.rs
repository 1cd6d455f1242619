//! Utterances of several parts: "turn up track 3 and mute track 5".

use super::engine::JOINTS;
use super::said::{self, Token};

/// The most places at which an utterance is cut.
const MOST_CUTS: usize = 6;

/// Where a text may be cut: the first token behind the joint, and the last one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    end: usize,
    begin: usize,
}

/// A way to cut a text into parts, each with what `answer` makes of it. Long parts are tried first. A part that nothing
/// is made of ends it, or is left as it is where that is `lenient`.
pub(super) fn split<T>(
    text: &str,
    lenient: bool,
    mut answer: impl FnMut(&str, Option<&T>) -> Option<T>,
) -> Option<Vec<(String, Option<T>)>> {
    let tokens = said::cut(text);
    let cuts = cuts(&tokens);
    if cuts.is_empty() || cuts.len() > MOST_CUTS || tokens.len() > said::MOST_TOKENS {
        return None;
    }
    let mut parts: Vec<(String, Option<T>)> = Vec::new();
    let mut begin = 0;
    let mut next_cut = 0;
    while begin < tokens.len() {
        // The longest part from here on that something is made of.
        let mut found = None;
        for last in (next_cut..=cuts.len()).rev() {
            let end = cuts.get(last).map_or(tokens.len(), |cut| cut.end);
            let whole = begin == 0 && end == tokens.len();
            let piece = piece(text, &tokens, begin, end);
            let before = parts.last().and_then(|(_, part)| part.as_ref());
            if let Some(part) = (!whole).then(|| answer(piece, before)).flatten() {
                found = Some((last, piece.to_owned(), Some(part)));
                break;
            }
        }
        let (last, piece, part) = found.unwrap_or_else(|| {
            let end = cuts.get(next_cut).map_or(tokens.len(), |cut| cut.end);
            (next_cut, piece(text, &tokens, begin, end).to_owned(), None)
        });
        if part.is_none() && !lenient {
            return None;
        }
        parts.push((piece, part));
        begin = cuts.get(last).map_or(tokens.len(), |cut| cut.begin);
        next_cut = last + 1;
    }
    (parts.len() > 1).then_some(parts)
}

fn piece<'t>(text: &'t str, tokens: &[Token], begin: usize, end: usize) -> &'t str {
    match (tokens.get(begin), end.checked_sub(1).and_then(|last| tokens.get(last))) {
        (Some(first), Some(last)) if begin < end => text.get(first.lead..last.to).unwrap_or_default(),
        _ => "",
    }
}

fn cuts(tokens: &[Token]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut at = 1;
    while at < tokens.len() {
        let is_joint = |token: &Token| !token.quoted && JOINTS.contains(&token.word.as_str());
        let mut behind = at;
        while behind < tokens.len() && is_joint(&tokens[behind]) {
            behind += 1;
        }
        let breaks = tokens[at].after_break && !tokens[at].quoted;
        if (behind > at || breaks) && behind < tokens.len() {
            cuts.push(Cut { end: at, begin: behind });
        }
        at = behind.max(at + 1);
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(String, bool)> {
        let answer = |piece: &str, _: Option<&()>| {
            (piece.starts_with("mute") || piece.starts_with("solo a and b")).then_some(())
        };
        let parts = split(text, true, answer).unwrap_or_default();
        parts.into_iter().map(|(piece, part)| (piece, part.is_some())).collect()
    }

    #[test]
    fn an_utterance_is_cut_where_its_parts_make_sense() {
        let yes = |text: &str| (text.to_owned(), true);
        assert_eq!(
            parts("mute a and then mute b, mute c"),
            [yes("mute a and then mute b, mute c")]
                .map(|_| yes("mute a and then mute b"))
                .into_iter()
                .chain([yes("mute c")])
                .collect::<Vec<_>>()
        );
        assert_eq!(parts("solo a and b and mute c"), [yes("solo a and b"), yes("mute c")]);
        assert_eq!(parts("mute a and dance"), [yes("mute a"), ("dance".to_owned(), false)]);
        assert_eq!(parts("mute a"), []);
    }
}
