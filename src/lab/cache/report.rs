//! What the bench found, as a table and as JSON.

use super::decisions::Decisions;
use super::tally::{PairTally, Run, Tally, share, wilson};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What became of one stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// Its file.
    pub stream: String,
    /// How many questions.
    pub requests: usize,
    /// The share whose answer was known before: no cache can have more right hits.
    pub attainable: f64,
    /// One for each policy.
    pub policies: Vec<Row>,
    /// How long our own decisions take.
    pub decisions: Option<Decisions>,
}

/// What one policy came to, over all orders of the stream.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub policy: String,
    /// The share of requests answered from memory.
    pub hit: f64,
    /// The share answered rightly from memory.
    pub right: f64,
    /// The share answered wrongly from memory.
    pub wrong: f64,
    /// Where the true share of wrong ones lies with 95 % confidence.
    pub wrong_ci95: (f64, f64),
    /// What it was to keep to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wrong: Option<f64>,
    /// In how many orders it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<usize>,
    /// Answers from another context.
    pub leaks: usize,
    /// Each order of the stream.
    pub seeds: Vec<Tally>,
    /// Where the answers came from.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, usize>,
    /// How long a request took at the median, in milliseconds, without the embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// The same, all but one in a hundred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

impl Row {
    /// Of tallies alone.
    pub fn new(policy: impl Into<String>, max_wrong: Option<f64>, seeds: Vec<Tally>) -> Self {
        let all = seeds.iter().fold(Tally::default(), |all, tally| all.plus(tally));
        let within = |bound: f64| seeds.iter().filter(|tally| tally.wrong_share() <= bound).count();
        Self {
            policy: policy.into(),
            hit: all.hit_share(),
            right: share(all.hits - all.wrong, all.requests),
            wrong: all.wrong_share(),
            wrong_ci95: wilson(all.wrong, all.requests),
            max_wrong,
            within: max_wrong.map(within),
            leaks: all.leaks,
            seeds,
            sources: BTreeMap::new(),
            p50_ms: None,
            p99_ms: None,
        }
    }

    /// Of runs through a sidecar.
    pub fn of_runs(policy: impl Into<String>, max_wrong: Option<f64>, runs: Vec<Run>) -> Self {
        let mut sources = BTreeMap::new();
        for (source, count) in runs.iter().flat_map(|run| &run.sources) {
            *sources.entry(source.clone()).or_default() += count;
        }
        let mut took: Vec<Duration> = runs.iter().flat_map(|run| &run.took).copied().collect();
        took.sort_unstable();
        let seeds = runs.into_iter().map(|run| run.tally).collect();
        let (p50_ms, p99_ms) = (quantile(&took, 0.5), quantile(&took, 0.99));
        Self { sources, p50_ms, p99_ms, ..Self::new(policy, max_wrong, seeds) }
    }
}

pub(super) fn quantile(sorted: &[Duration], share: f64) -> Option<f64> {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().checked_sub(1)?);
    sorted.get(at).map(|took| took.as_secs_f64() * 1e3)
}

/// What became of the pairs of one file.
#[derive(Clone, Debug, Serialize)]
pub struct PairsReport {
    /// Its file.
    pub pairs: String,
    /// One for each policy.
    pub policies: Vec<PairsRow>,
}

/// What one policy came to.
#[derive(Clone, Debug, Serialize)]
pub struct PairsRow {
    /// Its name.
    pub policy: String,
    /// The share of pairs with the same answer that is served.
    pub served: f64,
    /// The share of the others that is.
    pub traps_served: f64,
    /// The counts.
    pub counts: PairTally,
}

impl PairsRow {
    /// Of its counts.
    pub fn new(policy: impl Into<String>, counts: PairTally) -> Self {
        let served = share(counts.served, counts.same);
        let traps_served = share(counts.traps_served, counts.traps);
        Self { policy: policy.into(), served, traps_served, counts }
    }
}

impl StreamReport {
    /// As a table for people.
    pub fn page(&self) -> String {
        let mut lines = vec![
            format!(
                "{}: {} requests, {:.1} % attainable",
                self.stream,
                self.requests,
                100.0 * self.attainable
            ),
            format!(
                "  {:<34} {:>6} {:>6} {:>6}  {:<14} {:>7} {:>5}",
                "policy", "hit %", "right", "wrong", "95 % interval", "within", "leaks"
            ),
        ];
        lines.extend(self.policies.iter().map(Row::line));
        lines.extend(self.policies.iter().filter_map(Row::details));
        lines.extend(self.decisions.map(|Decisions { count, p50_us, p99_us }| {
            format!("  {count} decisions alone: {p50_us:.1} µs at p50, {p99_us:.1} at p99")
        }));
        lines.join("\n")
    }
}

/// Streams side by side, as the table of Markdown that stands in the README: what each policy serves, and how much of
/// it is wrong, in parts of a hundred of all requests.
pub fn markdown(reports: &[StreamReport]) -> String {
    let row = |name: &str, cell: &dyn Fn(&StreamReport) -> String| {
        let cells: Vec<String> = reports.iter().map(cell).collect();
        format!("| {name} | {} |", cells.join(" | "))
    };
    let mut lines = vec![
        row("hits %, wrong % of requests", &|report| format!("`{}`", report.stream)),
        format!("|---|{}", "---|".repeat(reports.len())),
    ];
    for policy in reports.first().iter().flat_map(|report| &report.policies) {
        let name = policy.policy.trim_end_matches(", in process");
        lines.push(row(name, &|report| {
            let same = report.policies.iter().find(|row| row.policy == policy.policy);
            same.map_or_else(String::new, |row| format!("{:.1}, {:.2}", 100.0 * row.hit, 100.0 * row.wrong))
        }));
    }
    lines.push(row("attainable", &|report| format!("{:.1}", 100.0 * report.attainable)));
    lines.join("\n")
}

impl Row {
    fn line(&self) -> String {
        let within = self.within.map_or(String::new(), |within| format!("{within}/{}", self.seeds.len()));
        let (low, high) = self.wrong_ci95;
        format!(
            "  {:<34} {:>6.2} {:>6.2} {:>6.2}  {:<14} {:>7} {:>5}",
            self.policy,
            100.0 * self.hit,
            100.0 * self.right,
            100.0 * self.wrong,
            format!("{:.2} to {:.2}", 100.0 * low, 100.0 * high),
            within,
            self.leaks
        )
    }

    fn details(&self) -> Option<String> {
        let (p50, p99) = (self.p50_ms?, self.p99_ms?);
        let sources: Vec<String> =
            self.sources.iter().map(|(source, count)| format!("{source} {count}")).collect();
        Some(format!(
            "  {}: {}; {p50:.3} ms a request at p50, {p99:.3} at p99, without the embedding",
            self.policy,
            sources.join(", ")
        ))
    }
}

impl PairsReport {
    /// As a table for people.
    pub fn page(&self) -> String {
        let first = self.policies.first().map(|row| &row.counts);
        let (same, traps) = first.map_or((0, 0), |counts| (counts.same, counts.traps));
        let mut lines = vec![
            format!("{}: {same} pairs with the same answer, {traps} traps", self.pairs),
            format!("  {:<34} {:>8} {:>8}  by kind", "policy", "served %", "traps %"),
        ];
        lines.extend(self.policies.iter().map(PairsRow::line));
        lines.join("\n")
    }
}

impl PairsRow {
    fn line(&self) -> String {
        let kinds = self.counts.by_kind.iter();
        let kinds: Vec<String> =
            kinds.map(|(kind, (served, all))| format!("{kind} {served}/{all}")).collect();
        format!(
            "  {:<34} {:>8.2} {:>8.2}  {}",
            self.policy,
            100.0 * self.served,
            100.0 * self.traps_served,
            kinds.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_stand_side_by_side() {
        let tally = || Tally { requests: 1000, hits: 105, wrong: 5, leaks: 0 };
        let report = |stream: &str| StreamReport {
            stream: stream.to_owned(),
            requests: 1000,
            attainable: 0.5,
            policies: vec![Row::new("weir at 1 %, in process", Some(0.01), vec![tally()])],
            decisions: None,
        };
        let expected = "| hits %, wrong % of requests | `a` | `b` |\n|---|---|---|\n\
                        | weir at 1 % | 10.5, 0.50 | 10.5, 0.50 |\n| attainable | 50.0 | 50.0 |";
        assert_eq!(markdown(&[report("a"), report("b")]), expected);
    }

    #[test]
    fn a_row_tells_in_how_many_orders_the_bound_held() {
        let tally = |wrong| Tally { requests: 100, hits: 10, wrong, leaks: 0 };
        let row = Row::new("p", Some(0.01), vec![tally(0), tally(1), tally(2)]);
        assert_eq!(row.within, Some(2));
        assert!((row.wrong - 0.01).abs() < 1e-9 && (row.right - 0.09).abs() < 1e-9);
        assert!(row.line().contains("2/3"), "{}", row.line());
    }
}
