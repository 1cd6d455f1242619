//! What other policies come to on the same questions and vectors, and what the best threshold would.

use super::data::{Line, Pair};
use super::offline::{Policy, Score, Scores, Space, Static, best};
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
    (0..=100).map(|step| 0.50 + 0.005 * step as f32)
}

/// The thresholds on our own score, which is in log-odds.
fn log_odds() -> impl Iterator<Item = f32> {
    (0..=100).map(|step| -8.0 + 0.2 * step as f32)
}

/// Fixed thresholds, vCache, and the best threshold of our own `score`, over `seeds` orders of a stream.
pub fn references(
    lines: &[Line],
    vectors: &[Option<UnitVector>],
    seeds: u64,
    bounds: &[f64],
    score: &Score,
    candidates: usize,
) -> Vec<Row> {
    let space = Space::new(lines, vectors);
    let orders: Vec<Vec<usize>> = (0..seeds).map(|seed| order(lines.len(), seed)).collect();
    let each = |run: &mut dyn FnMut(&[usize]) -> Tally| -> Vec<Tally> {
        orders.iter().map(|order| run(order)).collect()
    };
    let fixed = |order: &[usize], least: f32| space.run(order, &mut Static { least } as &mut dyn Policy);
    let mut rows: Vec<Row> = USUAL
        .iter()
        .map(|least| {
            Row::new(format!("static cosine {least:.2}"), None, each(&mut |order| fixed(order, *least)))
        })
        .collect();
    let mut scores = Scores::new(score, candidates);
    for bound in bounds {
        let percent = 100.0 * bound;
        let of_cosine = each(&mut |order| best_of(cosines(), *bound, |least| fixed(order, least)));
        rows.push(Row::new(format!("best static cosine, ≤ {percent} %"), Some(*bound), of_cosine));
        let mut seed = 0;
        let of_vcache = each(&mut |order| {
            seed += 1;
            space.run(order, &mut VCache::new(*bound, seed))
        });
        rows.push(Row::new(format!("vCache, δ = {percent} %"), Some(*bound), of_vcache));
        let of_score = each(&mut |order| {
            best_of(log_odds(), *bound, |least| space.run_scored(order, &mut scores, least))
        });
        rows.push(Row::new(format!("best threshold of our score, ≤ {percent} %"), Some(*bound), of_score));
    }
    rows
}

/// The best run within the bound; none at all, where there is no such run.
fn best_of(thresholds: impl Iterator<Item = f32>, bound: f64, mut run: impl FnMut(f32) -> Tally) -> Tally {
    let requests = run(f32::INFINITY).requests;
    best(thresholds, bound, run).map_or(Tally { requests, ..Tally::default() }, |(_, tally)| tally)
}

/// The same for pairs. `vectors` holds both of each pair.
pub fn pair_references(
    pairs: &[Pair],
    vectors: &[(Option<UnitVector>, Option<UnitVector>)],
    score: &Score,
) -> Vec<PairsRow> {
    let cosine = |(a, b): &(Option<UnitVector>, Option<UnitVector>)| Some(a.as_ref()?.cosine(b.as_ref()?));
    let cosines: Vec<Option<f32>> = vectors.iter().map(cosine).collect();
    let scores: Vec<Option<f32>> = pairs
        .iter()
        .zip(&cosines)
        .map(
            |(pair, cosine)| {
                if pair.a == pair.b { Some(f32::INFINITY) } else { score(&pair.b, &pair.a, (*cosine)?) }
            },
        )
        .collect();
    let at = |values: &[Option<f32>], least: f32| {
        let served: Vec<bool> =
            values.iter().map(|value| value.is_some_and(|value| value >= least)).collect();
        count(pairs, &served)
    };
    let mut rows: Vec<PairsRow> = USUAL
        .iter()
        .map(|least| PairsRow::new(format!("static cosine {least:.2}"), at(&cosines, *least)))
        .collect();
    let best = |values: &[Option<f32>], thresholds: &mut dyn Iterator<Item = f32>| -> PairTally {
        thresholds
            .map(|least| at(values, least))
            .filter(|tally| share(tally.traps_served, tally.traps) <= MOST_TRAPS)
            .max_by_key(|tally| tally.served)
            .unwrap_or_else(|| at(values, f32::INFINITY))
    };
    let percent = 100.0 * MOST_TRAPS;
    rows.push(PairsRow::new(
        format!("best static cosine, ≤ {percent} % traps"),
        best(&cosines, &mut self::cosines()),
    ));
    rows.push(PairsRow::new(
        format!("best threshold of our score, ≤ {percent} % traps"),
        best(&scores, &mut log_odds()),
    ));
    rows
}
