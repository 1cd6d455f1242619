//! Prompts that were read before. Most begin alike (a system prompt, a conversation so far), and what has been
//! read need not be read again.

use super::model::Sequence;

/// How many are kept.
const KEPT: usize = 8;
/// How many tokens of all of them together: what is kept takes no more memory than this, and less where they
/// begin alike, since then they share their pages.
const TOKENS: usize = 8192;

/// What was read lately, oldest first.
#[derive(Default)]
pub(super) struct Beginnings(Vec<Known>);

struct Known {
    ids: Vec<u32>,
    sequence: Sequence,
}

impl Beginnings {
    /// A sequence that has read as much of `prompt` as any that is known, but not all of it: what comes after the
    /// last token is still to be asked.
    pub(super) fn of(&mut self, prompt: &[u32]) -> Option<Sequence> {
        let shared = |known: &Known| common(&known.ids, prompt).min(prompt.len().saturating_sub(1));
        let best = (0..self.0.len()).max_by_key(|at| shared(&self.0[*at]))?;
        let len = shared(&self.0[best]);
        let beginning = self.0[best].sequence.begin(len).filter(|_| len > 0);
        let used = self.0.remove(best);
        self.0.push(used);
        beginning
    }

    /// Keeps what `sequence` has read: the first of `ids`. What it goes on from is known no longer by itself.
    pub(super) fn keep(&mut self, ids: &[u32], sequence: &Sequence) {
        let Some(sequence) = sequence.begin(sequence.len()) else { return };
        let ids = &ids[..sequence.len()];
        self.0.retain(|known| !ids.starts_with(&known.ids));
        self.0.push(Known { ids: ids.to_vec(), sequence });
        while self.0.len() > KEPT || self.tokens() > TOKENS {
            self.0.remove(0);
        }
    }

    fn tokens(&self) -> usize {
        self.0.iter().map(|known| known.ids.len()).sum()
    }
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::super::engine;
    use super::*;

    fn read(tokens: usize) -> Sequence {
        Sequence::Own(engine::Sequence::of_len(tokens))
    }

    fn known(beginnings: &mut Beginnings, prompt: &[u32]) -> Option<usize> {
        beginnings.of(prompt).map(|sequence| sequence.len())
    }

    #[test]
    fn as_much_as_any_is_known_and_never_all_of_it() {
        let mut beginnings = Beginnings::default();
        assert_eq!(known(&mut beginnings, &[1, 2, 3]), None);
        beginnings.keep(&[1, 2, 3, 4], &read(4));
        beginnings.keep(&[1, 2, 9], &read(3));
        assert_eq!(known(&mut beginnings, &[1, 2, 3, 7, 8]), Some(3));
        assert_eq!(known(&mut beginnings, &[1, 2, 9, 7]), Some(3));
        assert_eq!(known(&mut beginnings, &[1, 2, 9]), Some(2));
        assert_eq!(known(&mut beginnings, &[5, 1, 2]), None);
    }

    #[test]
    fn only_what_has_been_read_is_kept() {
        let mut beginnings = Beginnings::default();
        // The last token was drawn, and not read any more.
        beginnings.keep(&[1, 2, 3], &read(2));
        assert_eq!(known(&mut beginnings, &[1, 2, 3, 4]), Some(2));
    }

    #[test]
    fn what_goes_on_takes_the_place_of_what_it_goes_on_from() {
        let mut beginnings = Beginnings::default();
        for len in 1..50 {
            beginnings.keep(&vec![7; len], &read(len));
        }
        assert_eq!(beginnings.0.len(), 1);
    }

    #[test]
    fn the_one_that_was_not_used_for_longest_makes_room() {
        let mut beginnings = Beginnings::default();
        for first in 0..KEPT as u32 {
            beginnings.keep(&[first, 1], &read(2));
        }
        assert_eq!(known(&mut beginnings, &[0, 1, 2]), Some(2));
        beginnings.keep(&[100, 1], &read(2));
        assert_eq!(known(&mut beginnings, &[1, 1, 2]), None);
        assert_eq!(known(&mut beginnings, &[0, 1, 2]), Some(2));
    }

    #[test]
    fn no_more_than_so_many_tokens_are_kept() {
        let mut beginnings = Beginnings::default();
        for first in 0..4 {
            beginnings.keep(&vec![first; TOKENS / 2], &read(TOKENS / 2));
        }
        assert_eq!(beginnings.0.len(), 2);
    }
}
