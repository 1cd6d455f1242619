//! What a load came to.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What became of one request. Times count from the moment at which it was due.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Who answered (`x-weir-source`); what went wrong otherwise.
    pub source: Result<String, String>,
    /// Whether as a stream.
    pub stream: bool,
    /// Until it was sent.
    pub sent: Duration,
    /// Until the first byte of the answer came.
    pub first: Duration,
    /// Until the last.
    pub last: Duration,
}

/// What a load came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Requests a second that were to come, in the mean.
    pub wanted_per_second: f64,
    /// Requests that came.
    pub requests: usize,
    /// Requests that were answered.
    pub answered: usize,
    /// Answers a second, from the first request to the last answer.
    pub answers_per_second: f64,
    /// How late requests were sent, at the median and all but one in a hundred, in milliseconds: what the bench itself
    /// adds to every time here.
    pub sent_late_ms: [f64; 2],
    /// Answers by who gave them, whole and as streams.
    pub answers: BTreeMap<String, Times>,
    /// What went wrong, and how often.
    pub failures: BTreeMap<String, usize>,
    /// How long the upstream takes by itself, in milliseconds, where it is the bench's own.
    pub upstream_ms: Option<f64>,
    /// What the process holds in memory before and after, in bytes, where the system tells it. The bench is in it.
    pub memory: Option<[u64; 2]>,
}

/// How long answers took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// Until the first byte: at the median, all but one in ten, all but one in a hundred.
    pub first_ms: [f64; 3],
    /// Until the last byte.
    pub last_ms: [f64; 3],
    /// The longest.
    pub most_ms: f64,
    /// Beyond what the upstream takes by itself, until the last byte, at the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added_ms: Option<f64>,
}

/// Counts. `took` is how long it was from the first request to the last answer.
pub fn report(samples: &[Sample], rate: f64, took: Duration, upstream: Option<Duration>) -> Report {
    let mut groups: BTreeMap<String, Vec<&Sample>> = BTreeMap::new();
    let mut failures = BTreeMap::new();
    for sample in samples {
        match &sample.source {
            Ok(source) => {
                let as_stream = if sample.stream { ", streamed" } else { "" };
                groups.entry(format!("{source}{as_stream}")).or_default().push(sample);
            }
            Err(why) => *failures.entry(why.clone()).or_default() += 1,
        }
    }
    let answered: usize = groups.values().map(Vec::len).sum();
    let times = |(name, samples): (String, Vec<&Sample>)| {
        let first = quantiles(samples.iter().map(|sample| sample.first));
        let last = quantiles(samples.iter().map(|sample| sample.last));
        let most = samples.iter().map(|sample| sample.last).max().unwrap_or_default();
        let own = upstream.filter(|_| name.starts_with("upstream")).map(millis);
        let added_ms = own.map(|own| (last[0] - own).max(0.0));
        let (count, most_ms) = (samples.len(), millis(most));
        (name, Times { count, first_ms: first, last_ms: last, most_ms, added_ms })
    };
    let [late, _, latest] = quantiles(samples.iter().map(|sample| sample.sent));
    Report {
        wanted_per_second: rate,
        requests: samples.len(),
        answered,
        answers_per_second: answered as f64 / took.as_secs_f64().max(1e-9),
        sent_late_ms: [late, latest],
        answers: groups.into_iter().map(times).collect(),
        failures,
        upstream_ms: upstream.map(millis),
        memory: None,
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle, all but one in ten, all but one in a hundred, in milliseconds.
fn quantiles(times: impl Iterator<Item = Duration>) -> [f64; 3] {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    let at = |share: f64| times.get((times.len().saturating_sub(1) as f64 * share).round() as usize).copied();
    [0.5, 0.9, 0.99].map(|share| millis(at(share).unwrap_or_default()))
}

impl Report {
    /// As a table for people.
    pub fn page(&self) -> String {
        let Self { wanted_per_second, requests, answered, answers_per_second, sent_late_ms, .. } = self;
        let mut page = format!(
            "{requests} requests at {wanted_per_second:.0} a second; {answered} answered, {answers_per_second:.0} a second\n"
        );
        let _ = writeln!(
            page,
            "{:<22}{:>8}{:>12}{:>10}{:>12}{:>10}{:>10}{:>10}",
            "milliseconds", "answers", "first p50", "p99", "whole p50", "p99", "most", "added"
        );
        for (name, times) in &self.answers {
            let Times { count, first_ms, last_ms, most_ms, added_ms } = times;
            let added = added_ms.map_or_else(String::new, |added| format!("{added:.2}"));
            let _ = writeln!(
                page,
                "{name:<22}{count:>8}{:>12.2}{:>10.2}{:>12.2}{:>10.2}{most_ms:>10.2}{added:>10}",
                first_ms[0], first_ms[2], last_ms[0], last_ms[2]
            );
        }
        for (why, count) in &self.failures {
            let _ = writeln!(page, "{count} failed: {why}");
        }
        let [late, latest] = sent_late_ms;
        let _ = write!(
            page,
            "times count from when a request was due; {late:.2} ms of them at p50, {latest:.2} at p99, until it was sent"
        );
        if let Some(own) = self.upstream_ms {
            let _ = write!(
                page,
                "\nthe upstream takes {own:.1} ms by itself; \"added\" is what is beyond, at p50"
            );
        }
        if let Some([before, after]) = self.memory {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let _ = write!(
                page,
                "\nmemory {:.0} MiB before, {:.0} after, with the bench itself",
                mib(before),
                mib(after)
            );
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(source: &str, millis: u64, stream: bool) -> Sample {
        let last = Duration::from_millis(millis);
        let source = if source == "429" { Err(source.to_owned()) } else { Ok(source.to_owned()) };
        Sample { source, stream, sent: Duration::from_millis(1), first: last / 2, last }
    }

    #[test]
    fn answers_are_told_apart_and_failures_are_no_answers() {
        let mut samples: Vec<Sample> = (1..=100).map(|time| sample("exact", time, false)).collect();
        samples.extend([sample("upstream", 30, true), sample("upstream", 32, true), sample("429", 1, false)]);
        let took = Duration::from_secs(2);
        let report = report(&samples, 50.0, took, Some(Duration::from_millis(20)));
        assert_eq!((report.requests, report.answered), (103, 102));
        assert!((report.answers_per_second - 51.0).abs() < 1e-9);
        assert_eq!(report.failures, [("429".to_owned(), 1)].into());
        let exact = report.answers["exact"];
        assert_eq!((exact.count, exact.last_ms, exact.most_ms), (100, [51.0, 90.0, 99.0], 100.0));
        assert_eq!(exact.added_ms, None);
        assert_eq!(report.answers["upstream, streamed"].added_ms, Some(12.0));
        let page = report.page();
        for told in ["103 requests", "upstream, streamed", "1 failed: 429", "20.0 ms by itself"] {
            assert!(page.contains(told), "{told}: {page}");
        }
    }
}
