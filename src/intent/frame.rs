//! Frames: the parts of a command, in any order.
//!
//! ```text
//! {:pan} & track {n:integer} & {p:number} percent & {s:side}
//! ```
//!
//! A text matches where each part is found once, none of them overlap, and what is left over says nothing of its own.

use super::pattern::{Catch, Found, Ground, Need, Node, Program};

/// The most parts.
pub(super) const MOST_PARTS: usize = 8;
/// How many arrangements are tried before a text counts as no match.
const MOST_TRIES: usize = 2_000;

/// Words that may be left over.
pub(super) const GLUE: &str = "a an and are as at be been but by can could did do does down for from get go going had has \
    have i if in into is it its let like make me move need now of off on onto or our out over put set should so some \
    take that their them then there these this those to up us use want we will with would you your so thing bit \
    little about around through during across via using apply change adjust set give keep needs wants bring";

/// The parts of a command.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    parts: Vec<Program>,
}

impl Frame {
    pub(super) fn new(nodes: &[Node]) -> Self {
        Self { parts: nodes.iter().map(Program::new).collect() }
    }

    /// What a text must hold for it to match.
    pub(super) fn needs(nodes: &[Node], first_words: &dyn Fn(u16) -> Option<Need>) -> Vec<Need> {
        nodes.iter().flat_map(|node| node.needs(first_words)).collect()
    }

    /// `may_be_left` tells of each word whether it may be left over.
    pub(super) fn run(&self, ground: Ground<'_, '_>, may_be_left: &[bool]) -> Option<Found> {
        let to = may_be_left.len();
        let mut spans: Vec<Vec<Found>> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut found: Vec<Found> = (0..to).flat_map(|at| part.all(ground, at)).collect();
            if found.is_empty() {
                return None;
            }
            // What says more comes first, and what is spelt right.
            found.sort_by_key(|found| (slips(found), std::cmp::Reverse(found.to - found.from)));
            spans.push(found);
        }
        let mut search = Search { spans: &spans, may_be_left, chosen: Vec::new(), tries: 0 };
        search.go().then(|| search.found())
    }
}

fn slips(found: &Found) -> u16 {
    found.catches.iter().map(|catch| catch.misspelt).sum()
}

struct Search<'s> {
    spans: &'s [Vec<Found>],
    may_be_left: &'s [bool],
    chosen: Vec<&'s Found>,
    tries: usize,
}

impl<'s> Search<'s> {
    fn go(&mut self) -> bool {
        self.tries += 1;
        if self.tries > MOST_TRIES {
            return false;
        }
        let spans: &'s [Vec<Found>] = self.spans;
        let Some(options) = spans.get(self.chosen.len()) else { return self.leaves_only_glue() };
        for option in options {
            if self.chosen.iter().all(|chosen| option.to <= chosen.from || chosen.to <= option.from) {
                self.chosen.push(option);
                if self.go() {
                    return true;
                }
                self.chosen.pop();
            }
        }
        false
    }

    fn leaves_only_glue(&self) -> bool {
        let is_taken = |at: usize| self.chosen.iter().any(|chosen| (chosen.from..chosen.to).contains(&at));
        self.may_be_left.iter().enumerate().all(|(at, may_be_left)| *may_be_left || is_taken(at))
    }

    fn found(&self) -> Found {
        let catches: Vec<Catch> =
            self.chosen.iter().flat_map(|found| found.catches.iter().copied()).collect();
        Found { from: 0, to: self.may_be_left.len(), catches }
    }
}
