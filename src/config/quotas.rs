//! `[[limit]]`: how much those who ask may ask; and how much an `[[upstream]]` takes.

use super::check::Checker;
use super::origin::Place;
use super::raw;
use super::read::{Found, Text};
use super::schema::nearest;
use super::show::{Keys, number, text, texts};
use crate::limits::{Budget, Limit, Per};
use crate::upstream::queue::Limits;
use std::ops::RangeInclusive;
use std::time::Duration;

const REQUESTS: RangeInclusive<i64> = 1..=10_000_000;
const TOKENS: RangeInclusive<i64> = 1..=1_000_000_000_000;
const AT_ONCE: RangeInclusive<i64> = 1..=1_000_000;
/// Up to a year.
const BUDGET_HOURS: RangeInclusive<i64> = 1..=8_784;
/// A day, where nobody says.
const BUDGET_EVERY: u64 = 24;
const SPACING_MS: RangeInclusive<i64> = 0..=600_000;
const WAITING: RangeInclusive<i64> = 0..=100_000;
const PATIENCE_SECONDS: RangeInclusive<i64> = 0..=3_600;

/// The limits on those who ask.
pub(super) fn check(checker: &mut Checker<'_>, raw: Vec<Found<raw::Limit>>) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::with_capacity(raw.len());
    for Found { value: raw, place } in raw {
        let name = checker.name(raw.name.as_ref(), &place, limits.iter().map(|known| &*known.name));
        let limit = limit(checker, &raw, &place);
        limits.extend(name.map(|name| Limit { name: name.into(), ..limit }));
    }
    limits
}

fn limit(checker: &mut Checker<'_>, raw: &raw::Limit, place: &Place) -> Limit {
    let limit = Limit {
        name: "".into(),
        tenants: checker.phrases(raw.tenants.as_ref()).unwrap_or_default(),
        projects: checker.phrases(raw.projects.as_ref()).unwrap_or_default(),
        models: checker.phrases(raw.models.as_ref()).unwrap_or_default(),
        clients: checker.phrases(raw.clients.as_ref()).unwrap_or_default(),
        routes: checker.phrases(raw.routes.as_ref()).unwrap_or_default(),
        per: per(checker, raw.per.as_ref()),
        requests_per_minute: some(checker, raw.requests_per_minute.as_ref(), REQUESTS),
        burst: some(checker, raw.burst.as_ref(), REQUESTS),
        tokens_per_minute: some(checker, raw.tokens_per_minute.as_ref(), TOKENS),
        concurrent_requests: some(checker, raw.concurrent_requests.as_ref(), AT_ONCE),
        budget: budget(checker, raw),
    };
    if let (Some(typed), None) = (&raw.burst, limit.requests_per_minute) {
        checker.findings.problem(&typed.place, "means nothing without requests_per_minute");
    }
    let limits = [
        limit.requests_per_minute.is_some(),
        limit.tokens_per_minute.is_some(),
        limit.concurrent_requests.is_some(),
        limit.budget.is_some(),
    ];
    if !limits.contains(&true) {
        let reason = "limits nothing; add requests_per_minute, tokens_per_minute, concurrent_requests or budget_tokens";
        checker.findings.problem(place, reason);
    }
    limit
}

fn per(checker: &mut Checker<'_>, typed: Option<&Found<Text>>) -> Per {
    let Some(Found { value: text, place }) = typed else { return Per::default() };
    if let Some(header) = text.value.strip_prefix(Per::HEADER) {
        return Per::Header(header.trim().to_ascii_lowercase());
    }
    let known = Per::ALL.into_iter().find(|(name, _)| *name == text.value).map(|(_, per)| per);
    known.unwrap_or_else(|| {
        let names: Vec<&str> = Per::ALL.iter().map(|(name, _)| *name).collect();
        let near = nearest(&text.value, names.iter().copied());
        let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        let reason = format!("\"{}\" is none of {} and header:NAME{near}", text.typed, names.join(", "));
        checker.findings.problem(place, reason);
        Per::default()
    })
}

fn budget(checker: &mut Checker<'_>, raw: &raw::Limit) -> Option<Budget> {
    let hours = checker.whole(raw.budget_hours.as_ref(), BUDGET_HOURS, BUDGET_EVERY);
    let tokens = some(checker, raw.budget_tokens.as_ref(), TOKENS);
    if let (Some(typed), None) = (&raw.budget_hours, tokens) {
        checker.findings.problem(&typed.place, "means nothing without budget_tokens");
    }
    Some(Budget { tokens: tokens?, every: Duration::from_secs(hours * 3_600) })
}

/// A number that may be missing.
fn some<T: TryFrom<i64> + Default>(
    checker: &mut Checker<'_>,
    typed: Option<&Found<i64>>,
    range: RangeInclusive<i64>,
) -> Option<T> {
    typed.map(|typed| checker.whole(Some(typed), range, T::default()))
}

/// How much an upstream takes.
pub(super) fn of_upstream(checker: &mut Checker<'_>, raw: &raw::Upstream) -> Limits {
    let default = Limits::default();
    let spacing = checker.whole(raw.min_spacing_ms.as_ref(), SPACING_MS, 0);
    Limits {
        concurrent: some(checker, raw.max_concurrent.as_ref(), AT_ONCE),
        requests_per_minute: some(checker, raw.requests_per_minute.as_ref(), REQUESTS),
        tokens_per_minute: some(checker, raw.tokens_per_minute.as_ref(), TOKENS),
        spacing: Duration::from_millis(spacing),
        waiting: checker.whole(raw.queue.as_ref(), WAITING, default.waiting),
        patience: checker.seconds(raw.queue_wait_seconds.as_ref(), PATIENCE_SECONDS, default.patience),
    }
}

/// A limit as it is typed; what is not set is left out.
pub(super) fn shown(limit: &Limit) -> Keys {
    let Limit {
        name,
        tenants,
        projects,
        models,
        clients,
        routes,
        per,
        requests_per_minute,
        burst,
        tokens_per_minute,
        concurrent_requests,
        budget,
    } = limit;
    let mut keys = vec![("name", text(name))];
    let lists = [
        ("tenants", tenants),
        ("projects", projects),
        ("models", models),
        ("clients", clients),
        ("routes", routes),
    ];
    keys.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, texts(list))));
    keys.push(("per", text(&per.name())));
    keys.extend(requests_per_minute.map(|most| ("requests_per_minute", number(most))));
    keys.extend(burst.map(|burst| ("burst", number(burst))));
    keys.extend(tokens_per_minute.map(|most| ("tokens_per_minute", number(most))));
    keys.extend(concurrent_requests.map(|most| ("concurrent_requests", number(most))));
    if let Some(Budget { tokens, every }) = budget {
        keys.push(("budget_tokens", number(*tokens)));
        keys.push(("budget_hours", number(every.as_secs() / 3_600)));
    }
    keys
}

/// How much an upstream takes, as it is typed.
pub(super) fn shown_of_upstream(limits: &Limits) -> Keys {
    let Limits { concurrent, requests_per_minute, tokens_per_minute, spacing, waiting, patience } = limits;
    let mut keys = Keys::new();
    keys.extend(concurrent.map(|most| ("max_concurrent", number(most))));
    keys.extend(requests_per_minute.map(|most| ("requests_per_minute", number(most))));
    keys.extend(tokens_per_minute.map(|most| ("tokens_per_minute", number(most))));
    keys.push(("min_spacing_ms", number(spacing.as_millis())));
    keys.push(("queue", number(*waiting)));
    keys.push(("queue_wait_seconds", number(patience.as_secs())));
    keys
}
