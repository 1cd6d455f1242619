//! The same questions and vectors, decided by a policy alone: for policies that are not ours, and for thresholds
//! that nobody could know beforehand.

use super::data::Line;
use super::tally::Tally;
use crate::vector::UnitVector;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A stream as policies see it: who is near whom.
pub struct Space<'a> {
    lines: &'a [Line],
    /// For each question all others of its context, the nearest first.
    neighbours: Vec<Vec<(u32, f32)>>,
}

/// Decides whether the answer of the nearest known question is served.
pub trait Policy {
    /// Whether the answer to `known` is served to `asked`.
    fn serves(&mut self, asked: usize, known: usize, cosine: f32) -> bool;

    /// Told whether that would have been right, where it was not served. Whether `asked` is to be remembered.
    fn learn(&mut self, _known: usize, _cosine: f32, _right: bool) -> bool {
        true
    }
}

impl<'a> Space<'a> {
    /// The space of `lines` with their `vectors`; one that has none is near nobody.
    pub fn new(lines: &'a [Line], vectors: &[Option<UnitVector>]) -> Self {
        let mut contexts: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            contexts.entry(&line.context).or_default().push(at);
        }
        let near = |at: usize| {
            let mut near: Vec<(u32, f32)> = contexts
                .get(lines[at].context.as_str())
                .into_iter()
                .flatten()
                .filter(|other| **other != at)
                .filter_map(|other| {
                    let cosine = vectors[at].as_ref()?.cosine(vectors[*other].as_ref()?);
                    Some((*other as u32, cosine))
                })
                .collect();
            near.sort_by(|(a, near_a), (b, near_b)| near_b.total_cmp(near_a).then(a.cmp(b)));
            near
        };
        Self { lines, neighbours: (0..lines.len()).map(near).collect() }
    }

    /// The questions.
    pub fn lines(&self) -> &'a [Line] {
        self.lines
    }

    /// The others of its context, the nearest first.
    pub fn nearest(&self, asked: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.neighbours[asked].iter().map(|(other, cosine)| (*other as usize, *cosine))
    }

    fn known<'s>(&'s self, asked: usize, stored: &'s [bool]) -> impl Iterator<Item = (usize, f32)> + 's {
        self.nearest(asked).filter(|(other, _)| stored[*other])
    }

    fn is_right(&self, asked: usize, known: usize) -> bool {
        self.lines[asked].answer_class == self.lines[known].answer_class
    }

    /// What `policy` comes to when the questions are asked in `order`.
    pub fn run(&self, order: &[usize], policy: &mut dyn Policy) -> Tally {
        let mut tally = Tally { requests: order.len(), ..Tally::default() };
        let mut stored = vec![false; self.lines.len()];
        for &asked in order {
            let nearest = self.known(asked, &stored).next();
            stored[asked] = match nearest {
                Some((known, cosine)) if policy.serves(asked, known, cosine) => {
                    tally.hit(&self.lines[asked], &self.lines[known]);
                    false
                }
                Some((known, cosine)) => policy.learn(known, cosine, self.is_right(asked, known)),
                None => true,
            };
        }
        tally
    }

    /// What a threshold on our own score comes to: of the nearest few, the surest is served if it reaches it.
    pub fn run_scored(&self, order: &[usize], scores: &mut Scores<'_>, least: f32) -> Tally {
        let mut tally = Tally { requests: order.len(), ..Tally::default() };
        let mut stored = vec![false; self.lines.len()];
        for &asked in order {
            let surest = self
                .known(asked, &stored)
                .take(scores.candidates)
                .filter_map(|(known, cosine)| Some((known, scores.of(self.lines, asked, known, cosine)?)))
                // Of two that are as sure, the nearer one.
                .reduce(|best, next| if next.1 > best.1 { next } else { best });
            match surest.filter(|(_, score)| *score >= least) {
                Some((known, _)) => tally.hit(&self.lines[asked], &self.lines[known]),
                None => stored[asked] = true,
            }
        }
        tally
    }
}

/// The score that the answer to a known question is right for what is asked, by their places and their cosine;
/// `None` where something speaks against it.
pub type Score<'a> = dyn Fn(usize, usize, f32) -> Option<f32> + 'a;

/// Scores, each worked out once.
pub struct Scores<'a> {
    score: &'a Score<'a>,
    candidates: usize,
    known: HashMap<(usize, usize), Option<f32>>,
}

impl<'a> Scores<'a> {
    /// Scores by `score`, of the nearest `candidates`.
    pub fn new(score: &'a Score<'a>, candidates: usize) -> Self {
        Self { score, candidates, known: HashMap::new() }
    }

    fn of(&mut self, lines: &[Line], asked: usize, known: usize, cosine: f32) -> Option<f32> {
        // The very same words need no judgement.
        if lines[asked].text == lines[known].text {
            return Some(f32::INFINITY);
        }
        match self.known.entry((asked, known)) {
            Entry::Occupied(score) => *score.get(),
            Entry::Vacant(place) => *place.insert((self.score)(asked, known, cosine)),
        }
    }
}

/// A fixed threshold on the cosine: what other caches do.
pub struct Static {
    /// The least cosine.
    pub least: f32,
}

impl Policy for Static {
    fn serves(&mut self, _: usize, _: usize, cosine: f32) -> bool {
        cosine >= self.least
    }
}

/// Of `thresholds`, the run with the most hits whose share of wrong answers is at most `bound`.
pub fn best(
    thresholds: impl IntoIterator<Item = f32>,
    bound: f64,
    mut run: impl FnMut(f32) -> Tally,
) -> Option<(f32, Tally)> {
    let runs = thresholds.into_iter().map(|least| (least, run(least)));
    runs.filter(|(_, tally)| tally.wrong_share() <= bound).max_by_key(|(_, tally)| tally.hits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Line> {
        let line = |id: &str, context: &str, class: &str| Line {
            id: id.into(),
            context: context.into(),
            text: id.into(),
            answer_class: class.into(),
        };
        vec![line("1", "c", "k"), line("2", "c", "k"), line("3", "c", "l"), line("4", "d", "k")]
    }

    fn vectors() -> Vec<Option<UnitVector>> {
        let angle = |angle: f32| UnitVector::new(vec![angle.cos(), angle.sin()]).ok();
        vec![angle(0.0), angle(0.1), angle(0.3), angle(0.0)]
    }

    #[test]
    fn a_miss_is_stored_and_a_hit_is_not_and_contexts_are_apart() {
        let (lines, vectors) = (lines(), vectors());
        let space = Space::new(&lines, &vectors);
        let at = |least: f32| space.run(&[0, 1, 2, 3], &mut Static { least });
        // The second is served and so not stored; the third is further from the first than 0.96.
        assert_eq!(at(0.99), Tally { requests: 4, hits: 1, wrong: 0, leaks: 0 });
        assert_eq!(at(0.90), Tally { requests: 4, hits: 2, wrong: 1, leaks: 0 });
        assert_eq!(best([0.9, 0.99], 0.1, at).map(|(least, _)| least), Some(0.99));
    }

    #[test]
    fn the_surest_is_served_and_a_veto_is_not() {
        let (lines, vectors) = (lines(), vectors());
        let space = Space::new(&lines, &vectors);
        let score = |asked: usize, known: usize, cosine: f32| {
            (known != 0).then_some(if asked == 2 { 1.0 } else { cosine })
        };
        let mut scores = Scores::new(&score, 8);
        let tally = space.run_scored(&[0, 1, 2], &mut scores, 0.9);
        assert_eq!(tally, Tally { requests: 3, hits: 1, wrong: 1, leaks: 0 });
    }
}
