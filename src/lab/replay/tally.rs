//! What a replay comes to.

use crate::chat::{Reply, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most changed decisions that are shown.
const MOST_EXAMPLES: usize = 50;

/// Who answered, by the names that are told everywhere, and how often.
pub type Lanes = BTreeMap<String, u64>;

/// What a replay comes to. The same journal and settings give the same, to the byte.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What the journal holds.
    pub journal: Recording,
    /// Who answered then.
    pub recorded: Lanes,
    /// Who answers now.
    pub replayed: Lanes,
    /// Of the requests that were not answered by a rule or by the very same question: why.
    pub misses: Lanes,
    /// How the decisions compare.
    pub decisions: Decisions,
    /// What need not be asked upstream, against having no cache and no rules.
    pub saved: Saved,
    /// How much of what is served in other words is wrong.
    pub wrong: Wrong,
    /// What the journal does not know.
    pub unknown: Unknown,
    /// Each project by itself.
    pub by_project: BTreeMap<String, ProjectTally>,
    /// Of answers to the very same question, how many were still what a fresh answer says, by their age.
    pub aging: Vec<Aging>,
    /// How it went over time.
    pub timeline: Vec<Slice>,
    /// How like the nearest question is, in steps of a fiftieth of the cosine, and what became of it.
    pub similarity: BTreeMap<String, Near>,
    /// How long requests took then, by who answered: the middle, one in ten, one in a hundred, in milliseconds.
    pub latency_ms: BTreeMap<String, [f64; 3]>,
    /// Decisions that are others now, the first of each kind first.
    pub changes: Vec<Change>,
}

/// One project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectTally {
    /// Requests that were asked again.
    pub requests: u64,
    /// Those that nobody was asked for.
    pub saved: u64,
    /// Those that were answered in other words.
    pub semantic: u64,
    /// Of these, those that can be compared with an answer of their own.
    pub compared: u64,
    /// Of these, those that say something else.
    pub different: u64,
}

/// Answers of an age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aging {
    /// No older than this.
    pub up_to_seconds: u64,
    /// Still what a fresh answer says.
    pub same: u64,
    /// Not any more.
    pub different: u64,
}

/// The ages that are told apart: ten minutes, an hour, a day, a week, a month, and whatever is older.
const AGES: [u64; 6] = [600, 3_600, 86_400, 604_800, 2_592_000, 315_360_000];

/// A part of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Requests.
    pub requests: u64,
    /// Those that nobody was asked for.
    pub saved: u64,
    /// US dollars that were not spent on them.
    pub cost: f64,
}

/// What became of questions as like as this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Near {
    /// Answered from memory, in other words.
    pub served: u64,
    /// Not.
    pub missed: u64,
}

/// What the journal holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Recording {
    /// Requests in it.
    pub requests: u64,
    /// Those that were asked again.
    pub replayed: u64,
    /// Those that were not, and why.
    pub skipped: Lanes,
    /// Lines that nobody can read.
    pub unreadable: u64,
    /// The first request, in microseconds since the Unix epoch.
    pub from: u64,
    /// The last end.
    pub to: u64,
    /// The requests of each project.
    pub projects: Lanes,
}

/// How the decisions compare with those then.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Decisions {
    /// The same.
    pub same: u64,
    /// Others.
    pub changed: u64,
    /// From what to what.
    pub moves: Lanes,
}

/// What need not be asked upstream.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Requests that nobody was asked for.
    pub calls: u64,
    /// Their share.
    pub share: f64,
    /// Tokens that were not read, where it is known how many.
    pub input_tokens: u64,
    /// Tokens that were not written.
    pub output_tokens: u64,
    /// US dollars, where prices are known.
    pub cost: f64,
    /// Of the calls, those of which the price is not known.
    pub unpriced: u64,
    /// What all requests would have cost, without cache and rules.
    pub cost_without: f64,
    /// Seconds that nobody waited for an upstream: each as long as it took then, or as long as a request takes that
    /// was asked.
    pub seconds: f64,
}

/// How much of what is served in other words is wrong.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Wrong {
    /// Answers served in other words.
    pub served: u64,
    /// Of them, those that can be compared with an answer of their own.
    pub compared: u64,
    /// Of these, those that say something else.
    pub different: u64,
    /// Of these, those of which it cannot be told.
    pub unclear: u64,
    /// The share that says something else, and what it is at least and at most (95 %).
    pub share: Interval,
    /// How many of the answers served are wrong by what the bound believes: it knows that two right answers may
    /// differ.
    pub believed: Interval,
    /// The share of requests that may be answered wrongly.
    pub max_wrong: f64,
}

/// An estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// What is likeliest.
    pub mean: f64,
    /// At least.
    pub least: f64,
    /// At most.
    pub most: f64,
}

impl Interval {
    /// The share of `some` in `all`, by Wilson's score at 95 %.
    pub fn share(some: u64, all: u64) -> Self {
        const Z: f64 = 1.959_963_984_540_054;
        if all == 0 {
            return Self { mean: 0.0, least: 0.0, most: 1.0 };
        }
        let (n, p) = (all as f64, some as f64 / all as f64);
        let scale = 1.0 + Z * Z / n;
        let middle = (p + Z * Z / (2.0 * n)) / scale;
        let reach = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        // Rounding must not take the ends away from where they are.
        let least = if some == 0 { 0.0 } else { (middle - reach).max(0.0) };
        let most = if some == all { 1.0 } else { (middle + reach).min(1.0) };
        Self { mean: p, least, most }
    }
}

/// What the journal does not know.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Unknown {
    /// Requests that would be asked upstream now and were not then: what would have been answered is not known.
    pub answers: u64,
    /// Hits on such an answer: that they are hits is known, and not what they say.
    pub hits: u64,
    /// Answers from memory then that cannot be ones now: what they repeat is older than the journal.
    pub older: u64,
}

/// A decision that is another one now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The request.
    pub id: String,
    /// Its project.
    pub project: String,
    /// The beginning of what was asked.
    pub asked: String,
    /// Who answered then.
    pub was: String,
    /// Who answers now, or why memory does not.
    pub now: String,
    /// How like the question is whose answer is served now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f32>,
    /// Whether both answers say the same, where both are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    /// The beginning of what was answered then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// The beginning of what is answered now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// Counts one more of a name; it is copied only where it is new.
pub(super) fn count(lanes: &mut Lanes, name: &str) {
    match lanes.get_mut(name) {
        Some(known) => *known += 1,
        None => drop(lanes.insert(name.to_owned(), 1)),
    }
}

impl Report {
    /// Counts how like the nearest question was.
    pub(super) fn near(&mut self, cosine: f32, served: bool) {
        let step = (cosine.clamp(0.0, 1.0) * 50.0).floor().min(49.0) / 50.0;
        let near = self.similarity.entry(format!("{step:.2}")).or_default();
        if served { near.served += 1 } else { near.missed += 1 }
    }

    /// An answer of that age was compared with a fresh one.
    pub(super) fn aged(&mut self, seconds: u64, same: bool) {
        if self.aging.is_empty() {
            self.aging = AGES.map(|up_to_seconds| Aging { up_to_seconds, ..Aging::default() }).to_vec();
        }
        if let Some(aging) = self.aging.iter_mut().find(|aging| seconds <= aging.up_to_seconds) {
            if same { aging.same += 1 } else { aging.different += 1 }
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        let kind = format!("{} -> {}", change.was, change.now);
        let known = self.decisions.moves.entry(kind).or_default();
        *known += 1;
        self.decisions.changed += 1;
        // The first few of each kind: what is common must not hide what is rare.
        if *known <= 5 && self.changes.len() < MOST_EXAMPLES {
            self.changes.push(change);
        }
    }
}

/// How long requests took, by who answered them.
#[derive(Default)]
pub(super) struct Times(BTreeMap<String, Vec<u32>>);

impl Times {
    pub(super) fn took(&mut self, lane: &str, micros: u64) {
        let millionths = u32::try_from(micros).unwrap_or(u32::MAX);
        match self.0.get_mut(lane) {
            Some(known) => known.push(millionths),
            None => drop(self.0.insert(lane.to_owned(), vec![millionths])),
        }
    }

    pub(super) fn quantiles(self) -> BTreeMap<String, [f64; 3]> {
        let of = |mut all: Vec<u32>| {
            all.sort_unstable();
            let at = |share: f64| f64::from(all[((all.len() - 1) as f64 * share).round() as usize]) / 1e3;
            [at(0.5), at(0.9), at(0.99)]
        };
        self.0.into_iter().map(|(lane, all)| (lane, of(all))).collect()
    }
}

/// What is known of the cost and the time of what was asked upstream.
#[derive(Default)]
pub(super) struct Upstreams {
    waited_us: u64,
    waits: u64,
}

impl Upstreams {
    pub(super) fn waited(&mut self, micros: u64) {
        self.waited_us += micros;
        self.waits += 1;
    }

    pub(super) fn mean_us(&self) -> f64 {
        if self.waits == 0 { 0.0 } else { self.waited_us as f64 / self.waits as f64 }
    }
}

/// What a reply has cost to make, where that was said.
pub(super) fn usage_of(row_usage: Option<Usage>, reply: Option<&Reply>) -> Option<Usage> {
    row_usage.or_else(|| reply.and_then(|reply| reply.usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_what_it_should() {
        let none = Interval::share(0, 0);
        assert_eq!((none.least, none.most), (0.0, 1.0));
        let few = Interval::share(0, 10);
        assert!(few.least == 0.0 && (0.25..0.31).contains(&few.most), "{few:?}");
        for all in 1..2_000 {
            assert_eq!((Interval::share(0, all).least, Interval::share(all, all).most), (0.0, 1.0));
        }
        let many = Interval::share(50, 1000);
        assert!((0.037..0.039).contains(&many.least) && (0.065..0.066).contains(&many.most), "{many:?}");
    }

    #[test]
    fn what_is_common_does_not_hide_what_is_rare() {
        let mut report = Report::default();
        let change = |was: &str| Change {
            id: String::new(),
            project: String::new(),
            asked: String::new(),
            was: was.to_owned(),
            now: "upstream".to_owned(),
            similarity: None,
            answers: None,
            then: None,
            instead: None,
        };
        (0..100).for_each(|_| report.change(change("exact")));
        report.change(change("rule"));
        assert_eq!(report.changes.len(), 6);
        assert_eq!(report.decisions.moves["exact -> upstream"], 100);
    }
}
