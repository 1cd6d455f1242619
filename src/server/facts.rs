//! Where an answer comes from, in headers, for whoever wants to know.

use super::read::set;
use crate::cache::Miss;
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
    set(&mut headers, CACHE_STATUS, &cache_status(source, answer.shared));
    if let Some(upstream) = source.upstream() {
        set(&mut headers, HeaderName::from_static("x-weir-upstream"), upstream);
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

/// RFC 9211.
fn cache_status(source: &Source, shared: bool) -> String {
    let collapsed = if shared { "; collapsed" } else { "" };
    match source {
        Source::Rule { .. } => "weir; detail=rule".to_owned(),
        Source::Exact { .. } | Source::Semantic { .. } => format!("weir; hit; detail={}", source.name()),
        Source::Upstream { miss, .. } | Source::Local { miss, .. } => {
            format!("weir; fwd=miss{collapsed}; detail={}", miss.name())
        }
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
