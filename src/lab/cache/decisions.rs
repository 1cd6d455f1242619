//! How long it takes to decide whether a known answer is right.

use super::offline::Space;
use super::report::quantile;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Each is made so many times, and the quickest counts: what else the machine did meanwhile is not the decision's.
const TIMES: usize = 5;

/// How long decisions take, in microseconds: a question is taken apart, and its nearest are judged.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Decisions {
    /// How many were made.
    pub count: usize,
    /// At the median.
    pub p50_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
}

impl Decisions {
    /// Times `decide` for every question of the space, against the nearest `candidates`; `None` where there are none.
    pub fn time(
        space: &Space<'_>,
        candidates: usize,
        mut decide: impl FnMut(usize, &[(usize, f32)]),
    ) -> Option<Self> {
        let mut took: Vec<Duration> = (0..space.lines().len())
            .filter_map(|asked| {
                let near: Vec<(usize, f32)> = space.nearest(asked).take(candidates).collect();
                (0..TIMES).map(|_| timed(|| decide(asked, &near))).min()
            })
            .collect();
        took.sort_unstable();
        let us = |share| quantile(&took, share).map(|ms| ms * 1e3);
        Some(Self { count: took.len(), p50_us: us(0.5)?, p99_us: us(0.99)? })
    }
}

fn timed(what: impl FnOnce()) -> Duration {
    let began = Instant::now();
    what();
    began.elapsed()
}
