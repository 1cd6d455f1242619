//! Metrics in the OpenMetrics text format that Prometheus reads.

use super::semantic::{Semantic, SemanticReport};
use crate::cache::bound::Equivalence;
use crate::chat::Usage;
use crate::pipeline::{Checked, Ended, Outcome, Source};
use crate::upstream::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// US dollars for a million tokens read and written, by upstream.
pub type Prices = HashMap<String, (f64, f64)>;

/// From a look-up in memory to a long answer.
const BUCKETS: [f64; 16] =
    [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// There is one route until there are rules to choose one.
const ROUTE: &str = "default";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route_id: &'static str,
    status: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route_id: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HitLabels {
    route_id: &'static str,
    tier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MissLabels {
    route_id: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    route_id: &'static str,
    upstream_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamStatusLabels {
    upstream_name: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit_id: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CostLabels {
    upstream_name: String,
    model_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    upstream_name: String,
    said: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is counted. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    families: Arc<Families>,
    prices: Arc<Prices>,
}

struct Families {
    requests: Family<RequestLabels, Counter>,
    request_duration: Histograms<DurationLabels>,
    recall_duration: Histograms<RouteLabels>,
    upstream_requests: Family<UpstreamStatusLabels, Counter>,
    upstream_duration: Histograms<UpstreamLabels>,
    hits: Family<HitLabels, Counter>,
    misses: Family<MissLabels, Counter>,
    coalesced: Family<RouteLabels, Counter>,
    rules: Family<RuleLabels, Counter>,
    not_kept: Family<MissLabels, Counter>,
    refreshes: Family<RefreshLabels, Counter>,
    blocked: Family<LimitLabels, Counter>,
    cost: Family<CostLabels, Counter<f64, AtomicU64>>,
    checks: Family<CheckLabels, Counter>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

fn histograms<L: Clone + std::hash::Hash + Eq>() -> Histograms<L> {
    Family::new_with_constructor(histogram)
}

impl Families {
    fn new() -> Self {
        Self {
            requests: Family::default(),
            request_duration: histograms(),
            recall_duration: histograms(),
            upstream_requests: Family::default(),
            upstream_duration: histograms(),
            hits: Family::default(),
            misses: Family::default(),
            coalesced: Family::default(),
            rules: Family::default(),
            not_kept: Family::default(),
            refreshes: Family::default(),
            blocked: Family::default(),
            cost: Family::default(),
            checks: Family::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        // The encoder adds `_total` to the counters' names.
        registry.register("requests", "Requests, by how they ended", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "From arrival to the end of the answer, by who answered",
            self.request_duration.clone(),
        );
        registry.register(
            "recall_duration_seconds",
            "Time spent in rules and memory, whatever they said",
            self.recall_duration.clone(),
        );
        registry.register(
            "upstream_requests",
            "Calls upstream, by how they ended",
            self.upstream_requests.clone(),
        );
        registry.register(
            "upstream_duration_seconds",
            "From the call upstream to its first chunk",
            self.upstream_duration.clone(),
        );
        registry.register("cache_hits", "Answers from memory", self.hits.clone());
        registry.register(
            "cache_misses",
            "Requests that memory did not answer, by reason",
            self.misses.clone(),
        );
        registry.register(
            "coalesced",
            "Requests that followed a call upstream made for another request",
            self.coalesced.clone(),
        );
        registry.register("rule_answers", "Answers by rule", self.rules.clone());
        registry.register(
            "cache_not_kept",
            "Answers that were not remembered, by reason",
            self.not_kept.clone(),
        );
        registry.register(
            "cache_refreshes",
            "Answers that were given late and asked afresh in the background, by how that ended",
            self.refreshes.clone(),
        );
        registry.register(
            "rate_limit_blocked",
            "Requests that were not let in, by limit",
            self.blocked.clone(),
        );
        registry.register(
            "estimated_cost_usd",
            "Tokens times the configured prices, for upstreams that have any",
            self.cost.clone(),
        );
        registry.register(
            "semantic_checks",
            "Hits that were asked upstream all the same, by whether that said the same",
            self.checks.clone(),
        );
    }
}

impl Metrics {
    /// All at zero.
    pub fn new(prices: Prices) -> Self {
        let families = Families::new();
        let mut registry = Registry::with_prefix("weir");
        families.register(&mut registry);
        Self { registry: Arc::new(registry), families: Arc::new(families), prices: Arc::new(prices) }
    }

    /// The same, and what the semantic cache knows about itself.
    #[must_use]
    pub fn with_semantic(self, report: SemanticReport) -> Self {
        let Self { families, prices, .. } = self;
        let mut registry = Registry::with_prefix("weir");
        families.register(&mut registry);
        registry.register_collector(Box::new(Semantic(report)));
        Self { registry: Arc::new(registry), families, prices }
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    pub(super) fn count_rejected(&self, status: &'static str) {
        self.families
            .requests
            .get_or_create(&RequestLabels { route_id: ROUTE, status, method: "POST" })
            .inc();
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        let families = &self.families;
        let status = outcome.ended.name();
        if outcome.refresh {
            // It costs what a request costs, and is none.
            families.refreshes.get_or_create(&RefreshLabels { status }).inc();
            self.count_not_kept(outcome);
            return self.count_upstreams(outcome);
        }
        families.requests.get_or_create(&RequestLabels { route_id: ROUTE, status, method: "POST" }).inc();
        self.count_memory(outcome);
        self.count_upstreams(outcome);
        if let Ended::Refused(limit_id) = outcome.ended {
            families.blocked.get_or_create(&LimitLabels { limit_id }).inc();
        }
        let answered_by = outcome.source.as_ref().map_or("none", answered_by).to_owned();
        families
            .request_duration
            .get_or_create(&DurationLabels { route_id: ROUTE, upstream_name: answered_by })
            .observe(outcome.timings.total.as_secs_f64());
        let recall = families.recall_duration.get_or_create(&RouteLabels { route_id: ROUTE });
        recall.observe(outcome.timings.recall.as_secs_f64());
    }

    fn count_memory(&self, outcome: &Outcome) {
        let families = &self.families;
        match &outcome.source {
            Some(Source::Rule { rule }) => {
                families.rules.get_or_create(&RuleLabels { rule: rule.clone() }).inc();
            }
            Some(hit @ (Source::Exact { .. } | Source::Semantic { .. })) => {
                let tier = if hit.is_stale() { "stale" } else { hit.name() };
                families.hits.get_or_create(&HitLabels { route_id: ROUTE, tier }).inc();
            }
            Some(Source::Upstream { .. } | Source::Local { .. }) | None => {}
        }
        if let Some(miss) = outcome.miss {
            families.misses.get_or_create(&MissLabels { route_id: ROUTE, reason: miss.name() }).inc();
        }
        if outcome.shared {
            families.coalesced.get_or_create(&RouteLabels { route_id: ROUTE }).inc();
        }
        self.count_not_kept(outcome);
    }

    fn count_not_kept(&self, outcome: &Outcome) {
        if let Some(Err(why)) = outcome.kept {
            let labels = MissLabels { route_id: ROUTE, reason: why.name() };
            self.families.not_kept.get_or_create(&labels).inc();
        }
    }

    fn count_upstreams(&self, outcome: &Outcome) {
        // A call that is shared is one call.
        if !outcome.accounts {
            return;
        }
        for (upstream, kind) in &outcome.failed {
            self.count_upstream(upstream, kind.name());
        }
        let Some(source @ (Source::Upstream { upstream, .. } | Source::Local { upstream, .. })) =
            &outcome.source
        else {
            return;
        };
        let status = if matches!(outcome.ended, Ended::Cut(_)) { Kind::Cut.name() } else { "ok" };
        self.count_upstream(upstream, status);
        if let Some(took) = outcome.timings.upstream {
            let labels = UpstreamLabels { upstream_name: upstream.clone() };
            self.families.upstream_duration.get_or_create(&labels).observe(took.as_secs_f64());
        }
        if let (Source::Upstream { .. }, Some(usage)) = (source, outcome.usage) {
            self.count_cost(upstream, usage);
        }
    }

    pub(super) fn count_check(&self, checked: &Checked) {
        let Checked { upstream, usage, said } = checked;
        let said = match said {
            Equivalence::Same => "same",
            Equivalence::Different => "different",
            Equivalence::Unclear => "unclear",
        };
        let labels = CheckLabels { upstream_name: upstream.to_string(), said };
        self.families.checks.get_or_create(&labels).inc();
        self.count_upstream(upstream, "ok");
        if let Some(usage) = usage {
            self.count_cost(upstream, *usage);
        }
    }

    fn count_upstream(&self, upstream: &str, status: &'static str) {
        let labels = UpstreamStatusLabels { upstream_name: upstream.to_owned(), status };
        self.families.upstream_requests.get_or_create(&labels).inc();
    }

    fn count_cost(&self, upstream: &str, usage: Usage) {
        if let Some((input, output)) = self.prices.get(upstream) {
            let dollars = (usage.input as f64 * input + usage.output as f64 * output) / 1e6;
            // One price a upstream, so one label: the names that clients send are without bound.
            let labels = CostLabels { upstream_name: upstream.to_owned(), model_name: "*".to_owned() };
            self.families.cost.get_or_create(&labels).inc_by(dollars);
        }
    }
}

/// Who gave the answer now: a hit is ours, whoever once gave it.
fn answered_by(source: &Source) -> &str {
    match source {
        Source::Upstream { upstream, .. } | Source::Local { upstream, .. } => upstream,
        other => other.name(),
    }
}
