//! What the semantic cache knows about its own error, read anew at each scrape.

use crate::cache::bound::{Evidence, Report};
use crate::pipeline::LearnCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;

/// Tells how the bound and the learner are.
pub type SemanticReport = Arc<dyn Fn() -> (Report, LearnCounts) + Send + Sync>;

pub(super) struct Semantic(pub(super) SemanticReport);

impl fmt::Debug for Semantic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Semantic").finish_non_exhaustive()
    }
}

impl Collector for Semantic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (report, learned) = (self.0)();
        let Report { max_wrong, requests, served, served_wrong, out_of, grounds, open, evidence } = report;
        let mut count = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        count("semantic_requests", "Requests that were looked up in other words", requests)?;
        count("semantic_served", "Those that were served, or would have been in the shadow", served)?;
        count("semantic_unclear", "Answers that could not be compared", learned.unclear)?;
        count("semantic_dropped", "Answers that were not compared: too many waited", learned.dropped)?;
        count("semantic_checks_failed", "Checks that no provider answered in time", learned.checks_failed)?;
        count(
            "semantic_checks_dropped",
            "Checks that were not asked: too many waited",
            learned.checks_dropped,
        )?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("semantic_max_wrong", "The share of requests that may be served a wrong answer", max_wrong)?;
        gauge(
            "semantic_served_wrong",
            "Answers served wrongly, likeliest; old ones fade",
            served_wrong.mean,
        )?;
        gauge("semantic_served_wrong_least", "The same at least, with 95 % confidence", served_wrong.least)?;
        gauge("semantic_served_wrong_most", "The same at most, with 95 % confidence", served_wrong.most)?;
        gauge("semantic_served_wrong_out_of", "The requests that these are out of", out_of)?;
        gauge("semantic_grounds", "Tenants' projects that are known", grounds as f64)?;
        gauge("semantic_grounds_open", "Those that serve more than the same question", open as f64)?;
        labels(evidence, &mut encoder)
    }
}

/// One counter, by what was said.
fn labels(evidence: Evidence, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Evidence { same, different, right, wrong, repeats_same, repeats_different } = evidence;
    let said = [
        ("same", same),
        ("different", different),
        ("right", right),
        ("wrong", wrong),
        ("repeat_same", repeats_same),
        ("repeat_different", repeats_different),
    ];
    let help = "What was learned about nominees, by what was said";
    let mut family = encoder.encode_descriptor("semantic_labels", help, None, MetricType::Counter)?;
    for (said, count) in said {
        let labels = [("said", said)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
