//! Makes the judge's weights from labelled questions, and says how good they are on questions of kinds that they
//! have not seen.
//!
//! Everything is measured across folds by kind (template, subject, group): what a fold is tested on shares no
//! kind with what it was learned from. The same scores calibrate the final one, and tell the controller of the
//! error bound where to begin.

mod data;
mod gbdt;
mod online;

pub use data::Error;
pub use online::{Point, Threshold};

use crate::cache::judge::features::{self, NAMES};
use crate::cache::judge::{Calibration, Weights, features_of};
use crate::embed::Encoder;
use data::{Data, Pair};
use gbdt::{Growth, Rows, grow};
use online::Nomination;
use serde::Serialize;
use std::path::Path;

const FOLDS: usize = 5;
/// How many nominees of each line of a stream are learned from.
const LEARNED: usize = 6;
/// How much the trees count beside the cosine, before both are calibrated. Alone, the trees are the better judge
/// of kinds they know; the cosine keeps them honest on others.
const TREES: f32 = 0.7;
const COSINE: f32 = 8.0;

/// What was made, and how good it is.
#[derive(Debug)]
pub struct Trained {
    /// What is shipped.
    pub weights: Weights,
    /// How good it is on kinds that it has not seen.
    pub report: Report,
}

/// How good a score is on kinds that it has not seen.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// For each stream: the best threshold for at most 1 % and 2 % wrong.
    pub streams: Vec<(String, Vec<Threshold>)>,
    /// For pairs: what is served at several log-odds.
    pub pairs: Vec<(String, Vec<Point>)>,
    /// The same, for pairs in which the same words play other parts.
    pub role_swaps: Vec<Point>,
}

/// Growth of the shipped trees.
fn growth() -> Growth {
    const MORE: [&str; 16] = [
        "cosine",
        "shared_stems",
        "shared_weight",
        "covered_asked",
        "covered_known",
        "covered_least",
        "trigrams",
        "subsequence",
        "numbers_equal",
        "units_equal",
        "wh_same",
        "quoted_same",
        "same_function",
        "superlatives_same",
        "time_same",
        "known",
    ];
    const LESS: [&str; 14] = [
        "left_asked",
        "left_known",
        "left_weight_asked",
        "left_weight_known",
        "left_most_asked",
        "left_most_known",
        "left_weight",
        "left_most_least",
        "names_left_asked",
        "names_left_known",
        "siblings",
        "strangers",
        "wh_conflict",
        "bound_apart",
    ];
    let monotone = NAMES.iter().map(|name| match name {
        name if MORE.contains(name) => 1,
        name if LESS.contains(name) => -1,
        _ => 0,
    });
    Growth {
        trees: 300,
        leaves: 7,
        rate: 0.06,
        least_rows: 40,
        ridge: 5.0,
        rows: 0.7,
        features: 0.5,
        monotone: monotone.collect(),
    }
}

/// A pair as the trees see it. What a guard forbids is neither learned nor scored.
struct Seen {
    features: [f32; features::COUNT],
    right: bool,
    fold: usize,
    weight: f64,
    score: f32,
}

/// Trains on the files of `folder`. `say` is told how far it is.
pub fn train(
    folder: &Path,
    encoder: &mut dyn Encoder,
    mut say: impl FnMut(String),
) -> Result<Trained, Error> {
    let data = Data::read(folder, encoder)?;
    say(format!("{} questions read and embedded", data.questions.len()));
    let nominations: Vec<Vec<Nomination>> =
        data.streams.iter().map(|stream| online::nominate(&data, stream)).collect();
    let mut seen = Vec::new();
    let mut sources = Vec::new();
    for (stream, nominations) in data.streams.iter().zip(&nominations) {
        let begin = seen.len();
        for nomination in nominations {
            let Some(features) = nomination.features else { continue };
            let fold = fold_of(&stream.groups[nomination.asked]);
            let weight = if nomination.rank < LEARNED { 1.0 } else { 0.0 };
            seen.push(Seen { features, right: nomination.right, fold, weight, score: 0.0 });
        }
        balance(&mut seen[begin..], 1.0);
        sources.push(begin..seen.len());
    }
    let mut pair_scores = Vec::new();
    for (name, pairs) in &data.pairs {
        let begin = seen.len();
        let mut places = Vec::with_capacity(pairs.len());
        for pair in pairs {
            places.push(see(&data, pair).map(|features| {
                seen.push(Seen {
                    features,
                    right: pair.right,
                    fold: fold_of(&pair.group),
                    weight: 1.0,
                    score: 0.0,
                });
                seen.len() - 1
            }));
        }
        balance(&mut seen[begin..], if name == "groups_own" { 1.5 } else { 1.0 });
        pair_scores.push(places);
    }
    let unseen: Vec<Option<[f32; features::COUNT]>> =
        data.unseen.iter().map(|pair| see(&data, pair)).collect();
    let mut unseen_scores = vec![0.0; unseen.len()];
    for fold in 0..FOLDS {
        let (base, trees) = grow(&rows(&seen, |seen| seen.fold != fold), &growth());
        let raw = |features: &[f32; features::COUNT]| {
            TREES * (base + trees.sum(features)) + COSINE * (features[0] - 0.85)
        };
        for seen in seen.iter_mut().filter(|seen| seen.fold == fold) {
            seen.score = raw(&seen.features);
        }
        for (score, features) in unseen_scores.iter_mut().zip(&unseen) {
            *score += features.as_ref().map_or(f32::NEG_INFINITY, raw) / FOLDS as f32;
        }
        say(format!("fold {} of {FOLDS} done", fold + 1));
    }
    // Log-odds of what? Of the surest nominee of a request: that is what is served, or not.
    let surest: Vec<(f32, bool, f64)> = data
        .streams
        .iter()
        .zip(&nominations)
        .zip(&sources)
        .flat_map(|((stream, nominations), range)| {
            let surest = online::surest(stream, &scored(nominations, &seen[range.clone()], |score| score));
            let weight = 1.0 / surest.len().max(1) as f64;
            surest.into_iter().map(move |(score, right)| (score, right, weight))
        })
        .collect();
    let (slope, offset) = calibrate(&surest);
    let calibrated = |score: f32| slope * score + offset;
    let mut report = Report { streams: Vec::new(), pairs: Vec::new(), role_swaps: Vec::new() };
    for ((stream, nominations), range) in data.streams.iter().zip(&nominations).zip(sources) {
        let scored = scored(nominations, &seen[range], calibrated);
        report.streams.push((stream.name.clone(), online::thresholds(stream, &scored)));
    }
    for ((name, pairs), places) in data.pairs.iter().zip(&pair_scores) {
        let score = |place: Option<usize>| place.map_or(f32::NEG_INFINITY, |at| calibrated(seen[at].score));
        let scored: Vec<(bool, f32)> =
            pairs.iter().zip(places).map(|(pair, place)| (pair.right, score(*place))).collect();
        report.pairs.push((name.clone(), online::points(&scored)));
        if name == "pairs_param" {
            let swaps = pairs.iter().zip(&scored).filter(|(pair, _)| pair.diff == "role_swap");
            report.role_swaps = online::points(&swaps.map(|(_, scored)| *scored).collect::<Vec<_>>());
        }
    }
    let scored = data.unseen.iter().zip(&unseen_scores).map(|(pair, score)| (pair.right, calibrated(*score)));
    report.pairs.push(("pairs_fow".to_owned(), online::points(&scored.collect::<Vec<_>>())));
    let (base, trees) = grow(&rows(&seen, |_| true), &growth());
    let calibration =
        Calibration { trees: slope * TREES, cosine: slope * COSINE, bias: offset - slope * COSINE * 0.85 };
    let version = online::version(&trees, calibration);
    Ok(Trained { weights: Weights { version, trees, base, calibration }, report })
}

fn see(data: &Data, pair: &Pair) -> Option<[f32; features::COUNT]> {
    let Pair { asked, known, .. } = *pair;
    features_of(&data.questions[asked], &data.questions[known], data.cosine(asked, known)).ok()
}

/// Every source counts the same, times `share`, however many pairs it has.
fn balance(seen: &mut [Seen], share: f64) {
    let total: f64 = seen.iter().map(|seen| seen.weight).sum();
    for seen in seen {
        seen.weight *= share * 20_000.0 / total.max(1.0);
    }
}

fn rows(seen: &[Seen], keep: impl Fn(&Seen) -> bool) -> Rows {
    let mut rows = Rows::default();
    for seen in seen.iter().filter(|seen| seen.weight > 0.0 && keep(seen)) {
        rows.features.push(seen.features.to_vec());
        rows.right.push(seen.right);
        rows.weights.push(seen.weight);
    }
    rows
}

/// The fold of a group: by its name, so that the same group of two sources is in one fold.
fn fold_of(group: &str) -> usize {
    let sum = group.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (sum >> 32) as usize % FOLDS
}

/// The nominations of a stream, each with its score. What a guard forbids has none.
fn scored(
    nominations: &[Nomination],
    seen: &[Seen],
    calibrated: impl Fn(f32) -> f32,
) -> Vec<(Nomination, f32)> {
    let mut scores = seen.iter().map(|seen| calibrated(seen.score));
    let score = |nomination: &Nomination| nomination.features.and_then(|_| scores.next());
    nominations
        .iter()
        .map(score)
        .zip(nominations)
        .map(|(score, nomination)| (nomination.clone(), score.unwrap_or(f32::NEG_INFINITY)))
        .collect()
}

/// Log-odds from scores that the trees had not learned from: a logistic fit over scores, whether they were right,
/// and what each counts.
fn calibrate(seen: &[(f32, bool, f64)]) -> (f32, f32) {
    let (mut slope, mut offset) = (1.0f64, 0.0f64);
    for _ in 0..50 {
        // Newton's method, in two dimensions.
        let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
        for (score, right, weight) in seen {
            let x = f64::from(*score);
            let probability = 1.0 / (1.0 + (-(slope * x + offset)).exp());
            let error = weight * (probability - f64::from(u8::from(*right)));
            let spread = weight * probability * (1.0 - probability);
            g = [g[0] + error * x, g[1] + error];
            h = [h[0] + spread * x * x, h[1] + spread * x, h[2] + spread];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        slope -= (h[2] * g[0] - h[1] * g[1]) / determinant;
        offset -= (h[0] * g[1] - h[1] * g[0]) / determinant;
    }
    (slope as f32, offset as f32)
}
