//! Many samples in few numbers.

use crate::load::Source;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Where latencies lie, in milliseconds; NaN when there were none.
#[derive(Clone, Copy)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    pub(crate) fn of(samples: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<f64> = samples.map(|sample| sample.as_secs_f64() * 1_000.0).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| nearest_rank(&sorted, share);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }

    /// Of each quantile the median over rounds, so that one disturbed round changes nothing; the worst of all of `max`.
    pub(crate) fn median_of(rounds: &[Self]) -> Self {
        let over = |pick: fn(&Self) -> f64| median(rounds.iter().map(pick));
        Self {
            p50: over(|round| round.p50),
            p90: over(|round| round.p90),
            p99: over(|round| round.p99),
            max: rounds.iter().map(|round| round.max).fold(f64::NAN, f64::max),
        }
    }

    /// What is on top of `base`, quantile by quantile.
    pub(crate) fn above(&self, base: &Self) -> Self {
        Self {
            p50: self.p50 - base.p50,
            p90: self.p90 - base.p90,
            p99: self.p99 - base.p99,
            max: self.max - base.max,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let [p50, p90, p99, max] = [self.p50, self.p90, self.p99, self.max].map(rounded);
        json!({ "p50": p50, "p90": p90, "p99": p99, "max": max })
    }
}

/// The smallest sample that `share` of all samples do not exceed.
fn nearest_rank(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    nearest_rank(&sorted, 0.5)
}

/// To a tenth of a microsecond where `value` is in milliseconds: more digits would be noise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// How many answers came from where.
pub(crate) struct Sources(BTreeMap<Source, usize>);

impl Sources {
    pub(crate) fn of(sources: impl Iterator<Item = Source>) -> Self {
        let mut counts = BTreeMap::new();
        for source in sources {
            *counts.entry(source).or_default() += 1;
        }
        Self(counts)
    }

    /// Each source with its share of the answers.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (Source, f64)> {
        let all: usize = self.0.values().sum();
        self.0.iter().map(move |(source, count)| (*source, *count as f64 / all as f64))
    }

    pub(crate) fn share_of(&self, source: Source) -> f64 {
        self.shares().find(|(of, _)| *of == source).map_or(0.0, |(_, share)| share)
    }

    pub(crate) fn json(&self) -> Value {
        self.shares().map(|(source, share)| (source.to_string(), json!(rounded(share)))).collect()
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = self.shares().map(|(source, share)| format!("{source} {:.1} %", share * 100.0));
        formatter.write_str(&shares.collect::<Vec<_>>().join(", "))
    }
}
