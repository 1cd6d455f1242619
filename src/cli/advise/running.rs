//! What a running sidecar tells over HTTP, for advice.

use super::super::sidecar::{Fault, Sidecar, cut};
use super::mined_from;
use crate::lab::advise::{Ground, Running};
use crate::lab::replay::Interval;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most projects that are asked about, and the most kept questions that are looked at for rules.
const MOST_PROJECTS: usize = 200;
const MOST_QUESTIONS: usize = 20_000;
/// How many questions come in one page.
const PAGE: usize = 1_000;

/// What `/status` tells, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) journal: Option<Written>,
    semantic: Semantic,
}

/// Where its journal lies, on its machine.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Written {
    pub(super) folder: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Semantic {
    mode: String,
    all: Bound,
    here: Option<Here>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bound {
    max_wrong: f64,
    served_wrong: Interval,
    out_of: f64,
    evidence: Evidence,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Evidence {
    repeats_same: u64,
    repeats_different: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Here {
    served_wrong: Interval,
    allowed: f64,
    served: f64,
}

/// How it is.
pub(super) async fn status(sidecar: &Sidecar) -> Result<Status, Fault> {
    read(sidecar, "/status", None).await
}

/// What it has counted.
pub(super) async fn counted(sidecar: &Sidecar, status: Status) -> Result<Running, Fault> {
    let metrics = sidecar.send(sidecar.request(Method::GET, "/metrics")).await?;
    let metrics = metrics.text().await.map_err(cut)?;
    let Semantic { mode, all, here: _ } = status.semantic;
    let hits = by_label(&metrics, "weir_cache_hits_total", "tier");
    let of = |tier: &str| hits.get(tier).copied().unwrap_or(0);
    // What was given late was an answer to the very same question.
    let (exact, semantic) = (of("exact") + of("stale"), of("semantic"));
    Ok(Running {
        exact,
        semantic,
        rule: by_label(&metrics, "weir_rule_answers_total", "rule").values().sum(),
        misses: by_label(&metrics, "weir_cache_misses_total", "reason"),
        mode,
        max_wrong: all.max_wrong,
        wrong: all.served_wrong,
        out_of: all.out_of,
        repeats: (all.evidence.repeats_same, all.evidence.repeats_different),
        projects: projects(sidecar).await?,
        rules: mined_from(&questions(sidecar).await?),
    })
}

/// What is known of each project that something is kept of.
async fn projects(sidecar: &Sidecar) -> Result<Vec<Ground>, Fault> {
    let stats: Value = read(sidecar, "/weir/cache/stats", None).await?;
    let kept = stats["projects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<&str> = kept.iter().filter_map(|project| project["project"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut grounds = Vec::new();
    for name in names.into_iter().take(MOST_PROJECTS) {
        // A name that cannot be said in a header is nobody's who asked over HTTP.
        let Ok(status) = read::<Status>(sidecar, "/status", Some(name)).await else { continue };
        if let Some(Here { served_wrong: wrong, allowed, served }) = status.semantic.here {
            grounds.push(Ground { name: name.to_owned(), served, wrong, allowed });
        }
    }
    Ok(grounds)
}

/// The questions that are kept: each was asked of a model.
async fn questions(sidecar: &Sidecar) -> Result<Vec<String>, Fault> {
    let (mut questions, mut after) = (Vec::new(), String::new());
    while questions.len() < MOST_QUESTIONS {
        let path = format!("/weir/cache?limit={PAGE}{after}");
        let page: Value = read(sidecar, &path, None).await?;
        let rows = page["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        questions.extend(rows.iter().filter_map(|row| row["question"].as_str().map(str::to_owned)));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", super::super::cache::encoded(next)),
            None => break,
        }
    }
    Ok(questions)
}

async fn read<T: serde::de::DeserializeOwned>(
    sidecar: &Sidecar,
    path: &str,
    project: Option<&str>,
) -> Result<T, Fault> {
    let mut request = sidecar.request(Method::GET, path);
    if let Some(project) = project {
        request = request.header("x-weir-project", project);
    }
    let bytes = sidecar.send(request).await?.bytes().await.map_err(cut)?;
    serde_json::from_slice(&bytes).map_err(|error| Fault::Cut(format!("{path}: {error}")))
}

/// The values of a metric, by one of its labels; those that differ in the others only are added up.
fn by_label(metrics: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
    let mut values = BTreeMap::new();
    for line in metrics.lines() {
        let Some((labels, value)) = line
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('{'))
            .and_then(|rest| rest.rsplit_once('}'))
        else {
            continue;
        };
        let start = format!("{label}=\"");
        let found = labels.split(',').find_map(|pair| pair.strip_prefix(start.as_str()));
        let value = value.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
        if let (Some(found), Some(value)) = (found, value) {
            *values.entry(found.trim_end_matches('"').to_owned()).or_default() += value as u64;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up_by_a_label() {
        let metrics = "# HELP weir_cache_hits Answers\nweir_cache_hits_total{route_id=\"a\",tier=\"exact\"} 3\n\
                       weir_cache_hits_total{route_id=\"b\",tier=\"exact\"} 4\n\
                       weir_cache_hits_total{route_id=\"b\",tier=\"semantic\"} 1\n\
                       weir_cache_hits_total_more{tier=\"exact\"} 9\n# EOF";
        let hits = by_label(metrics, "weir_cache_hits_total", "tier");
        assert_eq!(hits, [("exact".to_owned(), 7), ("semantic".to_owned(), 1)].into());
    }
}
