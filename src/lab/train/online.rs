//! What a score would do on a stream, from an empty cache on: a miss is stored, and the surest of the nearest is
//! served where it is sure enough.

use super::data::{Data, Stream};
use crate::cache::judge::features::{self};
use crate::cache::judge::trees::Trees;
use crate::cache::judge::{Calibration, features_of};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// How many of the nearest are kept for each line: those that are stored are not known before.
const KEPT: usize = 24;
/// How many stored ones are looked at, as the cache does.
const LOOKED_AT: usize = 8;

/// A line, and an earlier one that is near.
#[derive(Clone, Debug)]
pub(super) struct Nomination {
    pub(super) asked: usize,
    pub(super) known: usize,
    pub(super) rank: usize,
    pub(super) right: bool,
    /// `None` where a guard forbids it.
    pub(super) features: Option<[f32; features::COUNT]>,
}

/// What a threshold gives.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Threshold {
    /// The most that may be wrong.
    pub most_wrong: f64,
    /// The threshold that gives most hits within it.
    pub threshold: f32,
    /// Hits, as a share of the requests.
    pub hits: f64,
    /// Wrong hits, as a share of the requests.
    pub wrong: f64,
}

/// What is served of pairs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// The threshold.
    pub threshold: f32,
    /// The share of right pairs served.
    pub served: f64,
    /// The share of traps served.
    pub traps: f64,
}

/// The nearest earlier lines of each line, nearest first.
pub(super) fn nominate(data: &Data, stream: &Stream) -> Vec<Nomination> {
    let mut earlier: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut nominations = Vec::new();
    for (asked, line) in stream.lines.iter().enumerate() {
        let earlier = earlier.entry(&line.context).or_default();
        let text = stream.texts[asked];
        let mut near: Vec<(f32, usize)> =
            earlier.iter().map(|known| (data.cosine(text, stream.texts[*known]), *known)).collect();
        let nearest_first = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if near.len() > KEPT {
            near.select_nth_unstable_by(KEPT, nearest_first);
            near.truncate(KEPT);
        }
        near.sort_by(nearest_first);
        for (rank, (cosine, known)) in near.into_iter().enumerate() {
            let other = stream.texts[known];
            let right = stream.lines[known].answer_class == line.answer_class;
            let features = features_of(&data.questions[text], &data.questions[other], cosine).ok();
            nominations.push(Nomination { asked, known, rank, right, features });
        }
        earlier.push(asked);
    }
    nominations
}

/// For each line its surest stored nominee, at this threshold: its score, and whether it is right.
fn play(stream: &Stream, scored: &[(Nomination, f32)], threshold: f32) -> Vec<(f32, bool)> {
    let mut stored = vec![false; stream.lines.len()];
    let mut outcome = Vec::with_capacity(stored.len());
    let mut at = 0;
    for asked in 0..stream.lines.len() {
        let begin = at;
        while scored.get(at).is_some_and(|(nomination, _)| nomination.asked == asked) {
            at += 1;
        }
        let looked_at =
            scored[begin..at].iter().filter(|(nomination, _)| stored[nomination.known]).take(LOOKED_AT);
        let best = looked_at.max_by(|a, b| a.1.total_cmp(&b.1));
        let (score, right) =
            best.map_or((f32::NEG_INFINITY, false), |(nomination, score)| (*score, nomination.right));
        stored[asked] = score < threshold;
        outcome.push((score, right));
    }
    outcome
}

/// The best threshold for at most 1 % and 2 % wrong.
pub(super) fn thresholds(stream: &Stream, scored: &[(Nomination, f32)]) -> Vec<Threshold> {
    let points: Vec<Threshold> = (-40..=100i8)
        .map(|step| {
            let threshold = f32::from(step) / 20.0;
            let outcome = play(stream, scored, threshold);
            let requests = outcome.len() as f64;
            let hits = outcome.iter().filter(|(score, _)| *score >= threshold).count() as f64;
            let wrong = outcome.iter().filter(|(score, right)| *score >= threshold && !right).count() as f64;
            Threshold { most_wrong: 0.0, threshold, hits: hits / requests, wrong: wrong / requests }
        })
        .collect();
    [0.01, 0.02]
        .into_iter()
        .filter_map(|most_wrong| {
            let within = points.iter().filter(|point| point.wrong <= most_wrong);
            let best = within.max_by(|a, b| a.hits.total_cmp(&b.hits))?;
            Some(Threshold { most_wrong, ..*best })
        })
        .collect()
}

/// For each line its surest nominee, where what is about as likely right as not is stored.
pub(super) fn surest(stream: &Stream, scored: &[(Nomination, f32)]) -> Vec<(f32, bool)> {
    play(stream, scored, 2.0).into_iter().filter(|(score, _)| score.is_finite()).collect()
}

/// What is served of pairs at several thresholds.
pub(super) fn points(scored: &[(bool, f32)]) -> Vec<Point> {
    let share = |right: bool, threshold: f32| {
        let of = scored.iter().filter(|(is, _)| *is == right);
        of.clone().filter(|(_, score)| *score >= threshold).count() as f64 / of.count().max(1) as f64
    };
    (0..=10u8)
        .map(|step| {
            let threshold = f32::from(step) / 2.0;
            Point { threshold, served: share(true, threshold), traps: share(false, threshold) }
        })
        .collect()
}

/// Tells weights from others.
pub(super) fn version(trees: &Trees, calibration: Calibration) -> String {
    use std::fmt::Write as _;
    let text = serde_json::to_vec(&(trees, calibration)).unwrap_or_default();
    Sha256::digest(text)[..6].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
