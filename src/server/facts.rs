//! Where an answer comes from, in headers, for whoever wants to know.

use super::controls::Rival;
use super::read::set;
use crate::cache::{Freshness, Miss, NotKept};
use crate::pipeline::{Answer, Source};
use crate::upstream;
use axum::http::header::AGE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The facts about `answer`.
pub(super) fn headers(answer: &Answer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let source = &answer.source;
    set(&mut headers, HeaderName::from_static("x-weir-source"), source.name());
    if let Some(upstream) = source.upstream() {
        set(&mut headers, HeaderName::from_static("x-weir-upstream"), upstream);
    }
    if let Some(route) = &answer.route {
        set(&mut headers, HeaderName::from_static("x-weir-route"), route);
    }
    if let Some(rule) = &answer.rule {
        set(&mut headers, HeaderName::from_static("x-weir-rule"), rule);
    }
    if answer.shared {
        set(&mut headers, HeaderName::from_static("x-weir-shared"), "true");
    }
    if source.miss() == Some(Miss::Shadow) {
        set(&mut headers, HeaderName::from_static("x-weir-shadow"), "would-hit");
    }
    if let Some(age) = source.age() {
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    match source {
        Source::Rule { rule } => set(&mut headers, HeaderName::from_static("x-weir-rule"), rule),
        Source::Semantic { similarity, .. } => {
            set(&mut headers, HeaderName::from_static("x-weir-similarity"), &format!("{similarity:.4}"));
        }
        Source::Exact { .. } | Source::Upstream { .. } | Source::Local { .. } => {}
    }
    if !answer.failed.is_empty() {
        set(&mut headers, HeaderName::from_static("x-weir-failed"), &failures(&answer.failed));
    }
    if let Some(notice) = notice(answer) {
        set(&mut headers, HeaderName::from_static("x-weir-notice"), &notice);
    }
    if !answer.dropped.is_empty() {
        set(&mut headers, HeaderName::from_static("x-weir-dropped"), &listed(&answer.dropped));
    }
    for (name, value) in &answer.headers {
        if let Ok(name) = HeaderName::try_from(name) {
            set(&mut headers, name, value);
        }
    }
    headers
}

/// That somebody else answers than who was to: "Switched to spare (primary rate limited)".
pub(super) fn notice(answer: &Answer) -> Option<String> {
    let first = answer.failed.iter().find(|failed| !failed.beside).filter(|_| answer.source.is_upstream())?;
    let by = answer.source.upstream()?;
    let told = format!("Switched to {by} ({} {})", first.upstream, first.kind.words());
    // Another try of the same one is no switch.
    (*first.upstream != *by).then_some(told)
}

/// The facts about what the cache did, in our words and in those of the gateways whose headers were used.
pub(super) fn of_cache(
    source: &Source,
    shared: bool,
    kept: Option<Result<(), NotKept>>,
    rivals: &[Rival],
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    set(&mut headers, CACHE_STATUS, &cache_status(source, shared, kept));
    if let Some(entry) = source.entry() {
        set(&mut headers, HeaderName::from_static("x-weir-cache-id"), entry);
    }
    if source.is_stale() {
        set(&mut headers, HeaderName::from_static("x-weir-stale"), "true");
    }
    for rival in rivals {
        if let Some((name, value)) = in_words_of(*rival, source) {
            set(&mut headers, HeaderName::from_static(name), value);
        }
    }
    headers
}

/// RFC 9211.
fn cache_status(source: &Source, shared: bool, kept: Option<Result<(), NotKept>>) -> String {
    let collapsed = if shared { "; collapsed" } else { "" };
    let stored = if kept == Some(Ok(())) { "; stored" } else { "" };
    match source {
        Source::Rule { .. } => "weir; detail=rule".to_owned(),
        Source::Exact { freshness, .. } | Source::Semantic { freshness, .. } => {
            let (stale, ttl) = match freshness {
                Freshness::Pinned => ("", String::new()),
                Freshness::Left(left) => ("", format!("; ttl={}", left.as_secs())),
                Freshness::Over(by) => ("; stale", format!("; ttl=-{}", by.as_secs())),
            };
            format!("weir; hit{stale}; detail={}{ttl}", source.name())
        }
        Source::Upstream { miss, .. } | Source::Local { miss, .. } => {
            let forwarded = if *miss == Miss::Expired { "stale" } else { "miss" };
            format!("weir; fwd={forwarded}{collapsed}; detail={}{stored}", miss.name())
        }
    }
}

/// What another gateway's clients look for. Bifrost's look in the body.
fn in_words_of(rival: Rival, source: &Source) -> Option<(&'static str, &'static str)> {
    let hit = matches!(source, Source::Exact { .. } | Source::Semantic { .. });
    let hit_or_miss = if hit { "HIT" } else { "MISS" };
    match rival {
        Rival::Portkey => Some(("x-portkey-cache-status", portkey_status(source))),
        Rival::Helicone => Some(("helicone-cache", hit_or_miss)),
        Rival::Cloudflare => Some(("cf-aig-cache-status", hit_or_miss)),
        Rival::Bifrost => None,
        Rival::VllmSr => Some(("x-vsr-cache-hit", if hit { "true" } else { "false" })),
    }
}

fn portkey_status(source: &Source) -> &'static str {
    match source {
        Source::Exact { .. } => "HIT",
        Source::Semantic { .. } => "SEMANTIC HIT",
        Source::Rule { .. } => "DISABLED",
        Source::Upstream { miss, .. } | Source::Local { miss, .. } => match miss {
            Miss::Bypassed => "REFRESH",
            Miss::Off => "DISABLED",
            _ => "MISS",
        },
    }
}

fn failures(failed: &[upstream::Error]) -> String {
    let each: Vec<String> =
        failed.iter().map(|error| format!("{}={}", error.upstream, error.kind.name())).collect();
    each.join(", ")
}

/// The most names in one header.
const MAX_NAMES: usize = 20;
/// The longest name in it: they come from the client's own JSON.
const MAX_NAME_CHARS: usize = 64;

fn listed(names: &[String]) -> String {
    let fit = |name: &String| -> String {
        name.chars().filter(char::is_ascii_graphic).take(MAX_NAME_CHARS).collect()
    };
    let each: Vec<String> = names.iter().take(MAX_NAMES).map(fit).collect();
    each.join(", ")
}
