//! How each next token of an answer is drawn.

use super::grammar::Mask;
use super::loops::Loops;
use crate::chat::Sampling;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashMap;

/// What the model's authors recommend; small models lose the thread at higher temperatures.
const TEMPERATURE: f64 = 0.2;
/// Likewise.
const TOP_P: f64 = 0.9;
/// Only this many of the likeliest tokens are ever drawn from: sorting the whole vocabulary would take a
/// quarter of the time of a token, and the others are noise.
const TOP_K: usize = 256;
/// Tokens that are less likely than the likeliest by more than e to this are never drawn: nobody would notice.
const FAR_BELOW: f32 = 20.0;

/// Draws tokens. The same seed draws the same answer.
pub(super) struct Draw {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    presence: f32,
    frequency: f32,
    repetition: f32,
    random: StdRng,
    /// How often each token was drawn.
    drawn: HashMap<u32, u32>,
    /// Kept out of loops, where the request says nothing of how tokens are drawn.
    loops: Option<Loops>,
    candidates: Vec<(u32, f32)>,
}

/// Wishes that only some protocols have words for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Further {
    /// The least likelihood, as a share of the likeliest's.
    pub(super) min_p: Option<f64>,
    /// What the likelihood of tokens that were drawn already is divided by.
    pub(super) repetition_penalty: Option<f64>,
}

impl Draw {
    pub(super) fn new(sampling: &Sampling, further: Further) -> Self {
        let seed = sampling.seed.map_or_else(rand::random, i64::cast_unsigned);
        let top_k = sampling.top_k.filter(|&k| k > 0).map_or(TOP_K, |k| (k as usize).min(TOP_K));
        let or = |value: Option<f64>, otherwise: f64| value.unwrap_or(otherwise) as f32;
        Self {
            temperature: or(sampling.temperature, TEMPERATURE),
            top_k,
            top_p: or(sampling.top_p, TOP_P),
            min_p: or(further.min_p, 0.0),
            presence: or(sampling.presence_penalty, 0.0),
            frequency: or(sampling.frequency_penalty, 0.0),
            repetition: or(further.repetition_penalty, 1.0),
            random: StdRng::seed_from_u64(seed),
            drawn: HashMap::new(),
            loops: says_nothing(sampling, further).then(Loops::default),
            candidates: Vec::new(),
        }
    }

    /// As it is, but what was said may be said again.
    pub(super) fn without_care_for_loops(self) -> Self {
        Self { loops: None, ..self }
    }

    /// The next token, where `expected` says how much each is to be expected, and `mask` which of them may come.
    pub(super) fn next(&mut self, expected: &[f32], mask: Option<&Mask>) -> u32 {
        let token = self.one_of(expected, mask);
        *self.drawn.entry(token).or_default() += 1;
        if let Some(loops) = &mut self.loops {
            loops.push(token);
        }
        token
    }

    fn one_of(&mut self, expected: &[f32], mask: Option<&Mask>) -> u32 {
        // Penalties only make tokens less likely, so those that are far below before are so afterwards, unless
        // what is above them falls as far.
        let penalised = self.drawn.keys().map(|token| *token as usize);
        let before = |at: usize| expected.get(at).copied().unwrap_or(f32::MIN);
        let fall = penalised.map(|at| before(at) - self.penalised(at as u32, before(at))).fold(0.0, f32::max);
        let loops = self.loops.as_ref().map(Loops::penalties).unwrap_or_default();
        let fall = fall + loops.iter().map(|(_, loss)| *loss).fold(0.0, f32::max);
        let most = match mask {
            Some(mask) => allowed(expected, mask).map(|(_, expected)| expected).fold(f32::MIN, f32::max),
            None => most(expected),
        };
        let least = most - fall - FAR_BELOW * self.temperature.max(0.05);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        match mask {
            Some(mask) => {
                candidates.extend(allowed(expected, mask).filter(|(_, expected)| *expected >= least));
            }
            None => not_below(least, expected, &mut candidates),
        }
        // They are in the order of their tokens.
        let mut change = |token: u32, change: &dyn Fn(f32) -> f32| {
            if let Ok(at) = candidates.binary_search_by_key(&token, |(candidate, _)| *candidate) {
                candidates[at].1 = change(candidates[at].1);
            }
        };
        for token in self.drawn.keys() {
            change(*token, &|expected| self.penalised(*token, expected));
        }
        for (token, loss) in loops {
            change(token, &|expected| expected - loss);
        }
        let token = self.pick(&mut candidates);
        self.candidates = candidates;
        token
    }

    fn penalised(&self, token: u32, expected: f32) -> f32 {
        let Some(times) = self.drawn.get(&token) else { return expected };
        let divided = if expected > 0.0 { expected / self.repetition } else { expected * self.repetition };
        divided - self.presence - self.frequency * *times as f32
    }

    fn pick(&mut self, candidates: &mut Vec<(u32, f32)>) -> u32 {
        // Of those equally likely the first, as everywhere.
        let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        // Below a ten-thousandth nothing but the likeliest token is ever drawn, and dividing by it overflows.
        if self.temperature < 1e-4 || self.top_p <= 0.0 || self.top_k == 1 {
            return candidates.iter().copied().min_by(likelier).unwrap_or_default().0;
        }
        if candidates.len() > self.top_k {
            candidates.select_nth_unstable_by(self.top_k, likelier);
            candidates.truncate(self.top_k);
        }
        candidates.sort_unstable_by(likelier);
        let most = candidates.first().map_or(0.0, |(_, expected)| *expected);
        for (_, share) in &mut *candidates {
            *share = ((*share - most) / self.temperature).exp();
        }
        let total: f32 = candidates.iter().map(|(_, share)| share).sum();
        let mut reached = 0.0;
        let among = candidates.iter().take_while(|(_, share)| {
            let counts = reached < self.top_p * total && *share >= self.min_p;
            reached += share;
            counts
        });
        let count = among.count().max(1);
        candidates.truncate(count);
        let total: f32 = candidates.iter().map(|(_, share)| share).sum();
        let mut left = self.random.random::<f32>() * total;
        let drawn = candidates.iter().find(|(_, share)| {
            left -= share;
            left < 0.0
        });
        drawn.or(candidates.first()).copied().unwrap_or_default().0
    }
}

/// The tokens that `mask` lets come.
fn allowed<'a>(expected: &'a [f32], mask: &'a Mask) -> impl Iterator<Item = (u32, f32)> + 'a {
    mask.tokens().filter_map(|token| Some((token, *expected.get(token as usize)?)))
}

/// Numbers that are compared at once: a vocabulary is gone through for every token.
const AT_ONCE: usize = 16;

/// The largest of `expected`.
fn most(expected: &[f32]) -> f32 {
    let (chunks, rest) = expected.as_chunks::<AT_ONCE>();
    let mut most = [f32::MIN; AT_ONCE];
    for chunk in chunks {
        for (most, expected) in most.iter_mut().zip(chunk) {
            *most = if expected > most { *expected } else { *most };
        }
    }
    most.iter().chain(rest).copied().fold(f32::MIN, f32::max)
}

/// Appends all tokens to `likely` that are expected as much as `least` or more.
fn not_below(least: f32, expected: &[f32], likely: &mut Vec<(u32, f32)>) {
    for (first, chunk) in (0..).step_by(AT_ONCE).zip(expected.chunks(AT_ONCE)) {
        // Without a branch for each, since most chunks have none.
        if chunk.iter().map(|expected| u32::from(*expected >= least)).sum::<u32>() > 0 {
            likely.extend((first..).zip(chunk.iter().copied()).filter(|(_, expected)| *expected >= least));
        }
    }
}

/// Whether a request leaves it to us how tokens are drawn.
fn says_nothing(sampling: &Sampling, further: Further) -> bool {
    let Sampling { temperature, presence_penalty, frequency_penalty, .. } = sampling;
    [temperature, presence_penalty, frequency_penalty, &further.repetition_penalty]
        .into_iter()
        .all(Option::is_none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    const EXPECTED: [f32; 4] = [1.0, 3.0, 2.0, 2.9];

    fn drawn(sampling: &Sampling, further: Further, count: usize) -> Vec<u32> {
        let mut draw = Draw::new(sampling, further);
        (0..count).map(|_| draw.next(&EXPECTED, None)).collect()
    }

    fn seeded(seed: i64) -> Sampling {
        Sampling { temperature: Some(1.5), top_p: Some(1.0), seed: Some(seed), ..Sampling::default() }
    }

    #[test]
    fn zero_temperature_draws_the_likeliest() {
        let cold = Sampling { temperature: Some(0.0), ..Sampling::default() };
        assert_eq!(drawn(&cold, Further::default(), 9), [1; 9]);
        let narrow = Sampling { top_p: Some(0.0), ..seeded(1) };
        assert_eq!(drawn(&narrow, Further::default(), 9), [1; 9]);
        let single = Sampling { top_k: Some(1), ..seeded(1) };
        assert_eq!(drawn(&single, Further::default(), 9), [1; 9]);
    }

    #[test]
    fn a_vocabulary_of_any_size_is_gone_through_whole() {
        let expected: Vec<f32> = (0..100).map(|at| ((at * 37 + 11) % 101) as f32 - 50.0).collect();
        for len in 0..expected.len() {
            let expected = &expected[..len];
            assert_eq!(
                most(expected).total_cmp(&expected.iter().copied().fold(f32::MIN, f32::max)),
                Ordering::Equal
            );
            for least in [-60.0, -3.0, 44.0, 60.0] {
                let mut likely = Vec::new();
                not_below(least, expected, &mut likely);
                let one_by_one =
                    (0..).zip(expected.iter().copied()).filter(|(_, expected)| *expected >= least);
                assert_eq!(likely, one_by_one.collect::<Vec<_>>(), "{len} from {least}");
            }
        }
        assert!(most(&[f32::NAN; 40]) <= f32::MIN);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        assert_eq!(drawn(&seeded(-7), Further::default(), 40), drawn(&seeded(-7), Further::default(), 40));
        assert_ne!(drawn(&seeded(-7), Further::default(), 40), drawn(&seeded(8), Further::default(), 40));
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let hot = Sampling { temperature: Some(1.0), ..seeded(3) };
        let drawn = drawn(&hot, Further::default(), 20_000);
        let shares: Vec<f32> = EXPECTED.iter().map(|expected| expected.exp()).collect();
        let total: f32 = shares.iter().sum();
        for (token, share) in (0..).zip(shares) {
            let times = drawn.iter().filter(|drawn| **drawn == token).count() as f32 / 20_000.0;
            assert!((times - share / total).abs() < 0.015, "{token}: {times} and {}", share / total);
        }
    }

    #[test]
    fn only_the_likeliest_are_drawn_from() {
        let two = Sampling { top_k: Some(2), ..seeded(1) };
        assert!(drawn(&two, Further::default(), 200).iter().all(|token| [1, 3].contains(token)));
        let most = Sampling { temperature: Some(1.0), top_p: Some(0.6), ..seeded(1) };
        assert!(drawn(&most, Further::default(), 200).iter().all(|token| [1, 3].contains(token)));
        let hot = Sampling { temperature: Some(1.0), ..seeded(1) };
        let near = Further { min_p: Some(0.5), ..Further::default() };
        assert!(drawn(&hot, near, 200).iter().all(|token| [1, 3].contains(token)));
    }

    #[test]
    fn a_loop_is_left_where_nothing_is_said_of_how_to_draw() {
        let by_default = drawn(&Sampling { seed: Some(1), ..Sampling::default() }, Further::default(), 100);
        assert!(
            by_default.windows(30).all(|some| some.iter().any(|token| *token != some[0])),
            "{by_default:?}"
        );
        let cold = Sampling { temperature: Some(0.0), ..Sampling::default() };
        assert_eq!(drawn(&cold, Further::default(), 100), [1; 100]);
    }

    #[test]
    fn only_what_may_come_is_drawn() {
        let cold = Sampling { temperature: Some(0.0), ..Sampling::default() };
        for (sampling, expected) in [(cold, vec![2]), (seeded(1), vec![0, 2])] {
            let mut draw = Draw::new(&sampling, Further::default());
            let mask = Mask::of(4, &[0, 2]);
            let mut drawn: Vec<u32> = (0..200).map(|_| draw.next(&EXPECTED, Some(&mask))).collect();
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn, expected);
        }
    }

    #[test]
    fn what_was_drawn_becomes_less_likely() {
        let cold = Sampling { temperature: Some(0.0), ..Sampling::default() };
        let presence = Sampling { presence_penalty: Some(1.5), ..cold.clone() };
        assert_eq!(drawn(&presence, Further::default(), 3), [1, 3, 2]);
        let frequency = Sampling { frequency_penalty: Some(0.2), ..cold.clone() };
        assert_eq!(drawn(&frequency, Further::default(), 4), [1, 3, 1, 3]);
        let repetition = Further { repetition_penalty: Some(1.2), ..Further::default() };
        assert_eq!(drawn(&cold, repetition, 3), [1, 3, 1]);
    }
}
