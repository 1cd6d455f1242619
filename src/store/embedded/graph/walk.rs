//! [`Walk`]: a search that goes from row to row along links, the nearest first, and when it has gone far enough.

use super::LINKS;
use crate::store::embedded::rows::{Probe, Rows, Scored};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// So many of the nearest must be nearer than all that is still to be followed before a search may end early: with
/// fewer it may still be on its way to where it should be.
const SURE: usize = 16;
/// It ends early when what is still to be followed is this many times as far away as the last of those asked for.
/// Measured with 1.5 to 3 on clusters, on wordings that are nearly the same and on sentences: each named what a
/// search to the end names, and this one looks at the fewest rows.
const FARTHER: f32 = 1.5;
/// By how much a distance may be off, by the upper halves.
const BLUR: f32 = 0.02;

/// How near the nearest are that have been found, up to so many of them.
#[derive(Debug)]
struct Nearest {
    most: usize,
    /// The nearest first.
    scores: Vec<f32>,
}

impl Nearest {
    /// None found yet; `most` are asked for.
    fn of(most: usize) -> Self {
        Self { most, scores: Vec::with_capacity(most + 1) }
    }

    /// One has been found.
    fn note(&mut self, score: f32) {
        if self.last().is_none_or(|last| score > last) {
            let at = self.scores.partition_point(|known| *known >= score);
            self.scores.insert(at, score);
            self.scores.truncate(self.most);
        }
    }

    /// How near the last of those asked for is, once there are as many.
    fn last(&self) -> Option<f32> {
        self.scores.get(self.most.checked_sub(1)?).copied()
    }
}

/// When a search may end before all of its width has been followed.
///
/// It goes by what this graph has shown. To go by what other graphs have shown as well saves a few rows more, and
/// misses one in ten in a million: what is near elsewhere says nothing about how far a search has come here.
pub(super) struct Enough {
    sure: Nearest,
    asked: Nearest,
}

impl Enough {
    /// `asked` are asked for, and `most` to be found, to choose from.
    pub(super) fn of(asked: usize, most: usize) -> Self {
        Self { sure: Nearest::of(most.max(SURE)), asked: Nearest::of(asked) }
    }

    fn note(&mut self, score: f32) {
        self.sure.note(score);
        self.asked.note(score);
    }

    /// Whether nothing near can be expected behind a row that is as near as this, the nearest to be followed.
    fn is_reached(&self, open: f32) -> bool {
        let (Some(sure), Some(asked)) = (self.sure.last(), self.asked.last()) else { return false };
        open < sure && 1.0 - open > FARTHER * (1.0 - asked) + BLUR
    }
}

/// One search.
pub(super) struct Walk<'r> {
    rows: &'r Rows,
    query: Probe<'r>,
    products: Vec<i32>,
    found: Vec<Scored>,
    unseen: Vec<u32>,
    pub(super) seen: Seen,
}

impl<'r> Walk<'r> {
    pub(super) fn of(rows: &'r Rows, query: Probe<'r>, seen: Seen) -> Self {
        let (products, found) = (Vec::with_capacity(LINKS), Vec::with_capacity(LINKS));
        Self { rows, query, products, found, unseen: Vec::with_capacity(LINKS), seen }
    }

    pub(super) fn score(&mut self, row: u32) -> Scored {
        self.unseen.clear();
        self.unseen.push(row);
        self.score_unseen();
        self.found[0]
    }

    fn score_unseen(&mut self) {
        let Self { rows, query, products, found, unseen, .. } = self;
        found.clear();
        rows.score_some(*query, unseen, products, |scored| found.push(scored));
    }

    /// Follows the links of the nearest found so far, until none leads to a row nearer than the `width` best, and
    /// names those of them that are `wanted`.
    pub(super) fn spread<'l>(
        &mut self,
        links_of: impl Fn(u32) -> &'l [u32],
        from: &[Scored],
        width: usize,
        wanted: impl Fn(u32) -> bool,
    ) -> Vec<Scored> {
        self.spread_until(links_of, from, width, None, wanted)
    }

    /// The same, but it ends early where it may.
    pub(super) fn spread_until<'l>(
        &mut self,
        links_of: impl Fn(u32) -> &'l [u32],
        from: &[Scored],
        width: usize,
        mut enough: Option<Enough>,
        wanted: impl Fn(u32) -> bool,
    ) -> Vec<Scored> {
        let mut seen = std::mem::take(&mut self.seen);
        seen.forget_all();
        let mut open = BinaryHeap::with_capacity(4 * width);
        let mut best = BinaryHeap::with_capacity(width + 1);
        for begin in from {
            seen.insert(begin.row);
            open.push(*begin);
            if wanted(begin.row) {
                best.push(Reverse(*begin));
                enough.iter_mut().for_each(|enough| enough.note(begin.score));
            }
        }
        while let Some(nearest) = open.pop() {
            let is_full = best.len() >= width;
            if is_full && best.peek().is_some_and(|Reverse(worst)| nearest.score < worst.score)
                || enough.as_ref().is_some_and(|enough| enough.is_reached(nearest.score))
            {
                break;
            }
            self.unseen.clear();
            self.unseen.extend(links_of(nearest.row).iter().copied().filter(|row| seen.insert(*row)));
            self.score_unseen();
            for scored in &self.found {
                let is_full = best.len() >= width;
                if is_full && best.peek().is_some_and(|Reverse(worst)| scored.score <= worst.score) {
                    continue;
                }
                open.push(*scored);
                if wanted(scored.row) {
                    best.push(Reverse(*scored));
                    if is_full {
                        best.pop();
                    }
                    enough.iter_mut().for_each(|enough| enough.note(scored.score));
                }
            }
        }
        self.seen = seen;
        best.into_iter().map(|Reverse(scored)| scored).collect()
    }
}

/// Which rows have been looked at.
#[derive(Default)]
pub(super) struct Seen {
    words: Vec<u64>,
    /// The words that are not zero: there are few of them, and many layers.
    changed: Vec<u32>,
}

impl Seen {
    pub(super) fn of(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)], changed: Vec::new() }
    }

    /// Says whether it was not in yet.
    fn insert(&mut self, row: u32) -> bool {
        let (at, bit) = (row / 64, 1 << (row % 64));
        let word = &mut self.words[at as usize];
        let is_new = *word & bit == 0;
        if *word == 0 {
            self.changed.push(at);
        }
        *word |= bit;
        is_new
    }

    fn forget_all(&mut self) {
        self.changed.drain(..).for_each(|at| self.words[at as usize] = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_those_asked_for_is_known_once_there_are_as_many() {
        let mut nearest = Nearest::of(3);
        for score in [0.2, 0.9, 0.1, 0.5, 0.3] {
            assert_eq!(nearest.last().is_some(), nearest.scores.len() == 3);
            nearest.note(score);
        }
        assert_eq!(nearest.scores, [0.9, 0.5, 0.3]);
        nearest.note(f32::NAN);
        assert_eq!(nearest.last(), Some(0.3));
    }

    #[test]
    fn it_is_enough_when_what_is_left_is_far_behind_and_many_are_before_it() {
        let mut enough = Enough::of(1, 1);
        assert!(!enough.is_reached(-1.0), "nothing has been found");
        enough.note(0.9);
        (0..14).for_each(|_| enough.note(0.5));
        assert!(!enough.is_reached(0.1), "it may still be on its way");
        enough.note(0.4);
        assert!(enough.is_reached(0.39) && !enough.is_reached(0.45), "those before it are the nearest");
        enough = Enough::of(2, 1);
        (0..16).for_each(|_| enough.note(0.5));
        assert!(enough.is_reached(0.2) && !enough.is_reached(0.3), "about as far as what is nearest");
        assert!(!Enough::of(1, 40).is_reached(0.0));
    }
}
