//! What other policies come to on the same questions and vectors, and what the best threshold would.

use super::data::{Line, Pair};
use super::offline::{Score, Scores, Space, Static, best};
use super::order::order;
use super::report::{PairsRow, Row};
use super::tally::{PairTally, Tally, pairs as count, share};
use super::vcache::VCache;
use crate::vector::UnitVector;

/// What other caches are configured to.
const USUAL: [f32; 3] = [0.80, 0.90, 0.95];

/// The most traps that are served where the best threshold for pairs is sought.
const MOST_TRAPS: f64 = 0.03;

/// The thresholds on a cosine among which the best is sought.
fn cosines() -> impl Iterator<Item = f32> {
    (0..=200).map(|step| 0.50 + 0.0025 * step as f32)
}

/// The thresholds on our own score, which is in log-odds.
fn log_odds() -> impl Iterator<Item = f32> {
    (0..=200).map(|step| -8.0 + 0.1 * step as f32)
}

/// How we see the questions: they are embedded in other words than they came in.
pub struct Ours<'a> {
    /// One for each question, where it has one.
    pub vectors: &'a [Option<UnitVector>],
    /// How sure it is that an answer is right.
    pub score: &'a Score<'a>,
    /// How many neighbours are looked at.
    pub candidates: usize,
}

/// Fixed thresholds, vCache, and the best threshold of our own score, over `seeds` orders of a stream. `vectors`
/// are those of the questions as they came.
pub fn references(
    lines: &[Line],
    vectors: &[Option<UnitVector>],
    ours: &Ours<'_>,
    seeds: u64,
    bounds: &[f64],
) -> Vec<Row> {
    let orders: Vec<Vec<usize>> = (0..seeds).map(|seed| order(lines.len(), seed)).collect();
    let mut rows = of_others(lines, vectors, &orders, bounds);
    let space = Space::new(lines, ours.vectors);
    let mut scores = Scores::new(ours.score, ours.candidates);
    for bound in bounds {
        let each = orders.iter();
        let seeds = each
            .map(|order| best_of(log_odds(), *bound, |least| space.run_scored(order, &mut scores, least)));
        let name = format!("best threshold of our score, ≤ {} %", 100.0 * bound);
        rows.push(Row::new(name, Some(*bound), seeds.collect()));
    }
    rows
}

fn of_others(
    lines: &[Line],
    vectors: &[Option<UnitVector>],
    orders: &[Vec<usize>],
    bounds: &[f64],
) -> Vec<Row> {
    let space = Space::new(lines, vectors);
    let fixed = |order: &[usize], least: f32| space.run(order, &mut Static { least });
    let mut rows = Vec::new();
    for least in USUAL {
        let seeds = orders.iter().map(|order| fixed(order, least)).collect();
        rows.push(Row::new(format!("static cosine {least:.2}"), None, seeds));
    }
    for bound in bounds {
        let percent = 100.0 * bound;
        let best = orders.iter().map(|order| best_of(cosines(), *bound, |least| fixed(order, least)));
        rows.push(Row::new(format!("best static cosine, ≤ {percent} %"), Some(*bound), best.collect()));
        let vcache = orders.iter().zip(1..);
        let vcache = vcache.map(|(order, seed)| space.run(order, &mut VCache::new(*bound, seed)));
        rows.push(Row::new(format!("vCache, δ = {percent} %"), Some(*bound), vcache.collect()));
    }
    rows
}

/// The best run within the bound; none at all, where there is no such run.
fn best_of(thresholds: impl Iterator<Item = f32>, bound: f64, mut run: impl FnMut(f32) -> Tally) -> Tally {
    let requests = run(f32::INFINITY).requests;
    best(thresholds, bound, run).map_or(Tally { requests, ..Tally::default() }, |(_, tally)| tally)
}

/// The same for pairs: the questions are both of each pair, one after the other.
pub fn pair_references(pairs: &[Pair], vectors: &[Option<UnitVector>], ours: &Ours<'_>) -> Vec<PairsRow> {
    let cosine = |vectors: &[Option<UnitVector>], at: usize| {
        let (a, b) = (vectors.get(2 * at)?.as_ref()?, vectors.get(2 * at + 1)?.as_ref()?);
        Some(a.cosine(b))
    };
    let score = |at: usize, pair: &Pair| match pair.a == pair.b {
        // The very same words need no judgement.
        true => Some(f32::INFINITY),
        false => (ours.score)(2 * at + 1, 2 * at, cosine(ours.vectors, at)?),
    };
    let cosines: Vec<Option<f32>> = (0..pairs.len()).map(|at| cosine(vectors, at)).collect();
    let scores: Vec<Option<f32>> = pairs.iter().enumerate().map(|(at, pair)| score(at, pair)).collect();
    let mut rows = Vec::new();
    for least in USUAL {
        rows.push(PairsRow::new(format!("static cosine {least:.2}"), served_at(pairs, &cosines, least)));
    }
    let percent = 100.0 * MOST_TRAPS;
    let best = best_for_pairs(pairs, &cosines, self::cosines());
    rows.push(PairsRow::new(format!("best static cosine, ≤ {percent} % traps"), best));
    let best = best_for_pairs(pairs, &scores, log_odds());
    rows.push(PairsRow::new(format!("best threshold of our score, ≤ {percent} % traps"), best));
    rows
}

fn served_at(pairs: &[Pair], values: &[Option<f32>], least: f32) -> PairTally {
    let served: Vec<bool> = values.iter().map(|value| value.is_some_and(|value| value >= least)).collect();
    count(pairs, &served)
}

fn best_for_pairs(
    pairs: &[Pair],
    values: &[Option<f32>],
    thresholds: impl Iterator<Item = f32>,
) -> PairTally {
    let tallies = thresholds.map(|least| served_at(pairs, values, least));
    let within = tallies.filter(|tally| share(tally.traps_served, tally.traps) <= MOST_TRAPS);
    within.max_by_key(|tally| tally.served).unwrap_or_else(|| served_at(pairs, values, f32::INFINITY))
}
