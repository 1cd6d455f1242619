//! Metrics in the OpenMetrics text format that Prometheus reads.

use super::chain::{Chain, ChainReport};
use super::journal::{JournalReport, Lines};
use super::kept::{Kept, StoreReport};
use super::namer::{Namer, NamerReport};
use super::semantic::{Semantic, SemanticReport};
use super::webhook::{Webhook, WebhookReport};
use crate::cache::bound::Equivalence;
use crate::chat::Usage;
use crate::pipeline::{Checked, Ended, Outcome, Source};
use crate::upstream::Kind;
use crate::upstream::prices::Prices;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

/// From a look-up in memory to a long answer.
const BUCKETS: [f64; 16] =
    [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// What is said of a request that no route has taken.
const NO_ROUTE: &str = "default";

/// What is said of a model that no list of prices knows: the names that clients send are without bound.
const ANY_MODEL: &str = "*";

/// The most tenants that are counted by name; whatever comes from others is counted together.
const MAX_TENANTS: usize = 1_000;
const OTHER_TENANTS: &str = "*";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route_id: String,
    status: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HitLabels {
    route_id: String,
    tier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MissLabels {
    route_id: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefreshLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    route_id: String,
    upstream_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailoverLabels {
    from: String,
    to: String,
    reason: &'static str,
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
    limit_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CostLabels {
    upstream_name: String,
    model_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    upstream_name: String,
    model_name: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TenantLabels {
    tenant_id: String,
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
    /// Whose requests have cost something.
    tenants: Arc<Mutex<HashSet<Box<str>>>>,
    semantic: Option<SemanticReport>,
    namer: Option<NamerReport>,
    chain: Option<ChainReport>,
    webhooks: Option<WebhookReport>,
    journal: Option<JournalReport>,
    kept: Option<StoreReport>,
}

struct Families {
    requests: Family<RequestLabels, Counter>,
    request_duration: Histograms<DurationLabels>,
    recall_duration: Histograms<RouteLabels>,
    upstream_requests: Family<UpstreamStatusLabels, Counter>,
    upstream_duration: Histograms<UpstreamLabels>,
    failovers: Family<FailoverLabels, Counter>,
    hits: Family<HitLabels, Counter>,
    misses: Family<MissLabels, Counter>,
    coalesced: Family<RouteLabels, Counter>,
    rules: Family<RuleLabels, Counter>,
    not_kept: Family<MissLabels, Counter>,
    refreshes: Family<RefreshLabels, Counter>,
    blocked: Family<LimitLabels, Counter>,
    cost: Family<CostLabels, Counter<f64, AtomicU64>>,
    tokens: Family<TokenLabels, Counter>,
    tenant_cost: Family<TenantLabels, Counter<f64, AtomicU64>>,
    tenant_tokens: Family<TenantLabels, Counter>,
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
            failovers: Family::default(),
            hits: Family::default(),
            misses: Family::default(),
            coalesced: Family::default(),
            rules: Family::default(),
            not_kept: Family::default(),
            refreshes: Family::default(),
            blocked: Family::default(),
            cost: Family::default(),
            tokens: Family::default(),
            tenant_cost: Family::default(),
            tenant_tokens: Family::default(),
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
        registry.register(
            "failovers",
            "Answers by another one than who was to give them, and why",
            self.failovers.clone(),
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
            "Tokens times their prices, where these are configured or listed",
            self.cost.clone(),
        );
        registry.register("tokens", "Tokens that upstreams have counted, by kind", self.tokens.clone());
        registry.register(
            "tenant_cost_usd",
            "The same cost as estimated_cost_usd, by whose requests it was for",
            self.tenant_cost.clone(),
        );
        registry.register(
            "tenant_tokens",
            "Tokens read and written together, by whose requests they were for",
            self.tenant_tokens.clone(),
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
    pub fn new(prices: impl Into<Arc<Prices>>) -> Self {
        let families = Families::new();
        let mut registry = Registry::with_prefix("weir");
        families.register(&mut registry);
        Self {
            registry: Arc::new(registry),
            families: Arc::new(families),
            prices: prices.into(),
            tenants: Arc::default(),
            semantic: None,
            namer: None,
            chain: None,
            webhooks: None,
            journal: None,
            kept: None,
        }
    }

    /// The same, and what the semantic cache knows about itself.
    #[must_use]
    pub fn with_semantic(self, report: SemanticReport) -> Self {
        Self { semantic: Some(report), ..self }.registered()
    }

    /// The same, and what has become of questions to the model that names intents.
    #[must_use]
    pub fn with_namer(self, report: NamerReport) -> Self {
        Self { namer: Some(report), ..self }.registered()
    }

    /// The same, and how those who are asked are.
    #[must_use]
    pub fn with_chain(self, report: ChainReport) -> Self {
        Self { chain: Some(report), ..self }.registered()
    }

    /// The same, and what has become of webhooks' events.
    #[must_use]
    pub fn with_webhooks(self, report: WebhookReport) -> Self {
        Self { webhooks: Some(report), ..self }.registered()
    }

    /// The same, and what became of the lines of the journal.
    #[must_use]
    pub fn with_journal(self, report: JournalReport) -> Self {
        Self { journal: Some(report), ..self }.registered()
    }

    /// The same, and what the store holds.
    #[must_use]
    pub fn with_store(self, report: StoreReport) -> Self {
        Self { kept: Some(report), ..self }.registered()
    }

    fn registered(self) -> Self {
        let mut registry = Registry::with_prefix("weir");
        self.families.register(&mut registry);
        if let Some(report) = &self.semantic {
            registry.register_collector(Box::new(Semantic(Arc::clone(report))));
        }
        if let Some(report) = &self.namer {
            registry.register_collector(Box::new(Namer(Arc::clone(report))));
        }
        if let Some(report) = &self.chain {
            registry.register_collector(Box::new(Chain(Arc::clone(report))));
        }
        if let Some(report) = &self.webhooks {
            registry.register_collector(Box::new(Webhook(Arc::clone(report))));
        }
        if let Some(report) = &self.journal {
            registry.register_collector(Box::new(Lines(Arc::clone(report))));
        }
        if let Some(report) = &self.kept {
            registry.register_collector(Box::new(Kept(Arc::clone(report))));
        }
        Self { registry: Arc::new(registry), ..self }
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
            .get_or_create(&RequestLabels { route_id: NO_ROUTE.to_owned(), status, method: "POST" })
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
        families
            .requests
            .get_or_create(&RequestLabels { route_id: route(outcome), status, method: "POST" })
            .inc();
        self.count_memory(outcome);
        self.count_upstreams(outcome);
        if let Ended::Refused(what) = outcome.ended {
            let limit_id = outcome.limit.as_deref().unwrap_or(what).to_owned();
            families.blocked.get_or_create(&LimitLabels { limit_id }).inc();
        }
        let answered_by = outcome.source.as_ref().map_or("none", answered_by).to_owned();
        families
            .request_duration
            .get_or_create(&DurationLabels { route_id: route(outcome), upstream_name: answered_by })
            .observe(outcome.timings.total.as_secs_f64());
        let recall = families.recall_duration.get_or_create(&RouteLabels { route_id: route(outcome) });
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
                families.hits.get_or_create(&HitLabels { route_id: route(outcome), tier }).inc();
            }
            Some(Source::Upstream { .. } | Source::Local { .. }) | None => {}
        }
        if let Some(miss) = outcome.miss {
            families
                .misses
                .get_or_create(&MissLabels { route_id: route(outcome), reason: miss.name() })
                .inc();
        }
        if outcome.shared {
            families.coalesced.get_or_create(&RouteLabels { route_id: route(outcome) }).inc();
        }
        self.count_not_kept(outcome);
    }

    fn count_not_kept(&self, outcome: &Outcome) {
        if let Some(Err(why)) = outcome.kept {
            let labels = MissLabels { route_id: route(outcome), reason: why.name() };
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
        if let Some((from, kind)) = &outcome.switched {
            let labels = FailoverLabels { from: from.to_string(), to: upstream.clone(), reason: kind.name() };
            self.families.failovers.get_or_create(&labels).inc();
        }
        let status = if matches!(outcome.ended, Ended::Cut(_)) { Kind::Cut.name() } else { "ok" };
        self.count_upstream(upstream, status);
        if let Some(took) = outcome.timings.upstream {
            let labels = UpstreamLabels { upstream_name: upstream.clone() };
            self.families.upstream_duration.get_or_create(&labels).observe(took.as_secs_f64());
        }
        if let (Source::Upstream { .. }, Some(usage)) = (source, outcome.usage) {
            let model = outcome.answered_as.as_deref().unwrap_or(&outcome.model);
            let dollars = self.count_cost(upstream, model, usage);
            self.count_tenant(&outcome.tenant, usage, dollars);
        }
    }

    pub(super) fn count_check(&self, checked: &Checked) {
        let Checked { upstream, model, usage, said, .. } = checked;
        let said = match said {
            Equivalence::Same => "same",
            Equivalence::Different => "different",
            Equivalence::Unclear => "unclear",
        };
        let labels = CheckLabels { upstream_name: upstream.to_string(), said };
        self.families.checks.get_or_create(&labels).inc();
        self.count_upstream(upstream, "ok");
        if let Some(usage) = usage {
            self.count_cost(upstream, model, *usage);
        }
    }

    fn count_upstream(&self, upstream: &str, status: &'static str) {
        let labels = UpstreamStatusLabels { upstream_name: upstream.to_owned(), status };
        self.families.upstream_requests.get_or_create(&labels).inc();
    }

    /// What it cost, where anyone knows.
    fn count_cost(&self, upstream: &str, model: &str, usage: Usage) -> Option<f64> {
        let upstream_name = upstream.to_owned();
        let model_name = self.prices.listed_name(upstream, model).unwrap_or(ANY_MODEL).to_owned();
        let labels = CostLabels { upstream_name, model_name };
        for (kind, tokens) in kinds(usage) {
            let CostLabels { upstream_name, model_name } = labels.clone();
            let labels = TokenLabels { upstream_name, model_name, kind };
            self.families.tokens.get_or_create(&labels).inc_by(tokens);
        }
        let dollars = self.prices.cost(upstream, model, &usage)?;
        self.families.cost.get_or_create(&labels).inc_by(dollars);
        Some(dollars)
    }

    fn count_tenant(&self, tenant: &str, usage: Usage, dollars: Option<f64>) {
        let tenant_id = self.known_tenant(tenant).to_owned();
        let tokens =
            self.families.tenant_tokens.get_or_create(&TenantLabels { tenant_id: tenant_id.clone() });
        tokens.inc_by(usage.input + usage.output);
        if let Some(dollars) = dollars {
            self.families.tenant_cost.get_or_create(&TenantLabels { tenant_id }).inc_by(dollars);
        }
    }

    fn known_tenant<'t>(&self, tenant: &'t str) -> &'t str {
        // It is whole between any two lines.
        let mut known = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(tenant) || (known.len() < MAX_TENANTS && known.insert(tenant.into())) {
            tenant
        } else {
            OTHER_TENANTS
        }
    }
}

/// Tokens by kind. Those that were cached are of those that were read, and those spent thinking of those written.
fn kinds(usage: Usage) -> [(&'static str, u64); 5] {
    let Usage { input, output, cached_input, cache_write, reasoning } = usage;
    [
        ("input", input),
        ("output", output),
        ("cached_input", cached_input),
        ("cache_write", cache_write),
        ("reasoning", reasoning),
    ]
}

/// The route that took a request.
fn route(outcome: &Outcome) -> String {
    outcome.route.as_deref().unwrap_or(NO_ROUTE).to_owned()
}

/// Who gave the answer now: a hit is ours, whoever once gave it.
fn answered_by(source: &Source) -> &str {
    match source {
        Source::Upstream { upstream, .. } | Source::Local { upstream, .. } => upstream,
        other => other.name(),
    }
}
