//! Counts what was right and what was wrong.

use super::data::{Line, Pair};
use super::drive::Given;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// What one run over a stream came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many questions.
    pub requests: usize,
    /// Answered from memory.
    pub hits: usize,
    /// Of these, with an answer of another class or of another context.
    pub wrong: usize,
    /// Of these, with an answer of another context.
    pub leaks: usize,
}

impl Tally {
    /// Counts one answer from memory.
    pub fn hit(&mut self, asked: &Line, served: &Line) {
        self.hits += 1;
        let leak = asked.context != served.context;
        self.leaks += usize::from(leak);
        self.wrong += usize::from(leak || asked.answer_class != served.answer_class);
    }

    /// The share of requests that were answered wrongly.
    pub fn wrong_share(&self) -> f64 {
        share(self.wrong, self.requests)
    }

    /// The share of requests that were answered from memory.
    pub fn hit_share(&self) -> f64 {
        share(self.hits, self.requests)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            hits: self.hits + other.hits,
            wrong: self.wrong + other.wrong,
            leaks: self.leaks + other.leaks,
        }
    }
}

/// A part of a whole, from zero to one.
pub fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Where the true share lies with 95 % confidence, by Wilson's score interval.
pub fn wilson(part: usize, whole: usize) -> (f64, f64) {
    const Z: f64 = 1.96;
    if whole == 0 {
        return (0.0, 1.0);
    }
    let (n, p) = (whole as f64, share(part, whole));
    let scale = 1.0 + Z * Z / n;
    let middle = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0))
}

/// What a run over a sidecar came to.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What was right and what was wrong.
    pub tally: Tally,
    /// Where the answers came from.
    pub sources: BTreeMap<String, usize>,
    /// How long each took.
    pub took: Vec<Duration>,
}

/// Counts what a sidecar gave to `lines` in `order`.
pub fn run(lines: &[Line], order: &[usize], given: &[Given]) -> Result<Run, String> {
    let by_id: HashMap<&str, &Line> = lines.iter().map(|line| (line.id.as_str(), line)).collect();
    let mut run = Run::default();
    let mut seen = HashSet::new();
    for (line, given) in order.iter().filter_map(|at| lines.get(*at)).zip(given) {
        run.tally.requests += 1;
        *run.sources.entry(given.source.clone()).or_default() += 1;
        run.took.push(given.took);
        if let Some(first) = &given.first {
            let served = by_id.get(first.as_str()).filter(|_| seen.contains(first.as_str()));
            let served =
                served.ok_or_else(|| format!("{}: the answer of {first}, not asked yet", line.id))?;
            run.tally.hit(line, served);
        }
        seen.insert(line.id.as_str());
    }
    Ok(run)
}

/// The share of requests whose answer was known before, in the best case.
pub fn attainable(lines: &[Line]) -> f64 {
    let mut seen = HashSet::new();
    let known = lines.iter().filter(|line| !seen.insert((&line.context, &line.answer_class)));
    share(known.count(), lines.len())
}

/// What a run over pairs came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PairTally {
    /// Pairs with the same answer.
    pub same: usize,
    /// Of these, served.
    pub served: usize,
    /// Pairs with other answers.
    pub traps: usize,
    /// Of these, served.
    pub traps_served: usize,
    /// Served and counted, by what they differ in.
    pub by_kind: BTreeMap<String, (usize, usize)>,
}

/// Counts `served`. Pairs about which people do not agree are left out.
pub fn pairs(pairs: &[Pair], served: &[bool]) -> PairTally {
    let mut tally = PairTally::default();
    for (pair, served) in pairs.iter().zip(served).filter(|(pair, _)| pair.ambiguous.is_none()) {
        let (all, some, trap) = match pair.same_answer {
            true => (&mut tally.same, &mut tally.served, ""),
            false => (&mut tally.traps, &mut tally.traps_served, " (trap)"),
        };
        *all += 1;
        *some += usize::from(*served);
        let kind = tally.by_kind.entry(format!("{}{trap}", pair.diff)).or_default();
        *kind = (kind.0 + usize::from(*served), kind.1 + 1);
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, context: &str, class: &str) -> Line {
        Line { id: id.into(), context: context.into(), text: id.into(), answer_class: class.into() }
    }

    fn given(first: Option<&str>) -> Given {
        Given { source: "semantic".into(), first: first.map(str::to_owned), took: Duration::ZERO }
    }

    #[test]
    fn a_wrong_class_is_wrong_and_another_context_is_a_leak() {
        let lines = [line("1", "c", "k"), line("2", "c", "k"), line("3", "c", "l"), line("4", "d", "k")];
        let all = [given(None), given(Some("1")), given(Some("1")), given(Some("1"))];
        let run = run(&lines, &[0, 1, 2, 3], &all).unwrap();
        assert_eq!(run.tally, Tally { requests: 4, hits: 3, wrong: 2, leaks: 1 });
        assert!((attainable(&lines) - 0.25).abs() < 1e-9);
        assert!(super::run(&lines, &[0], &[given(Some("2"))]).is_err(), "it was not asked yet");
    }

    #[test]
    fn the_interval_holds_the_share() {
        let (low, high) = wilson(1, 100);
        assert!((low - 0.001_767).abs() < 1e-5 && (high - 0.054_486).abs() < 1e-5, "{low} {high}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }
}
