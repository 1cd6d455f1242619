//! `weir explain`: why the running sidecar answered a request as it did.

use super::output;
use super::sidecar::{Sidecar, cut};
use crate::config::{Config, Environment};
use reqwest::Method;
use serde_json::Value;
use std::error::Error;
use std::fmt::Write as _;

/// `weir explain …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The x-request-id of a recent request, or the id of an answer that is kept (the first eight digits or more)
    id: String,
    /// The sidecar's address [default: WEIR_URL, or where the configuration says it listens]
    #[arg(long)]
    url: Option<String>,
    /// Print JSON, with the verdict of every guard
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    args: Args,
    environment: &Environment,
    load: impl FnOnce() -> Result<Config, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let Args { id, url, json } = args;
    let sidecar = Sidecar::find(url, environment, load)?;
    let path = format!("/weir/explain/{}", super::cache::encoded(&id));
    let response = sidecar.send(sidecar.request(Method::GET, &path)).await?;
    let told: Value = serde_json::from_slice(&response.bytes().await.map_err(cut)?)?;
    output::line(if json { told.to_string() } else { shown(&told) });
    Ok(())
}

/// How much of a question is shown in a line.
const SHOWN: usize = 72;

fn shown(told: &Value) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, said: String| {
        if !said.is_empty() {
            let _ = writeln!(text, "{name:<11} {said}");
        }
    };
    let lookup = &told["lookup"];
    fact("request", word(&told["request_id"]));
    fact("answer", lane(told));
    fact(
        "project",
        [word(&lookup["tenant"]), word(&lookup["project"])].join("/").trim_matches('/').to_owned(),
    );
    fact("model", word(&lookup["model"]));
    fact("question", line(&lookup["question"]));
    if lookup["canonical"] != lookup["question"] {
        fact("compared as", line(&lookup["canonical"]));
    }
    fact("kept under", word(&lookup["cache_id"]));
    fact("scope", scope(&lookup["key"]));
    fact("bound", bound(lookup));
    match lookup["candidates"].as_array().map(Vec::as_slice) {
        None => text.push_str("memory was not asked"),
        Some([]) => text.push_str("nothing was near, or nothing was looked up in other words"),
        Some(candidates) => candidates.iter().for_each(|candidate| tell(&mut text, candidate)),
    }
    text.trim_end().to_owned()
}

/// Who answered, and why.
fn lane(told: &Value) -> String {
    match told["lane"].as_str() {
        Some("rule") => format!("by the rule {}", word(&told["rule"])),
        Some("exact") => "from memory: the very same question".to_owned(),
        Some("semantic") => {
            let similarity = told["similarity"].as_f64().unwrap_or_default();
            format!("from memory: {} (cosine {similarity:.3})", word(&told["served"]))
        }
        Some("upstream") => format!("asked upstream, since memory had none: {}", word(&told["miss"])),
        _ => String::new(),
    }
}

fn scope(key: &Value) -> String {
    let mut said: String = word(&key["scope"]).chars().take(16).collect();
    for name in ["context", "client"] {
        if key[name].is_string() {
            let _ = write!(said, " · {name} {}", word(&key[name]));
        }
    }
    for (name, digest) in key["parts"].as_object().into_iter().flatten() {
        let _ = write!(said, "\n{:<11} {name} {}", "", word(digest));
    }
    said
}

/// From where up is served, and how wrong that is.
fn bound(lookup: &Value) -> String {
    let bound = &lookup["bound"];
    let percent = |value: &Value| format!("{:.2} %", value.as_f64().unwrap_or_default() * 100.0);
    let most = percent(&lookup["max_wrong"]);
    if lookup.is_null() {
        return String::new();
    }
    if bound.is_null() {
        return format!("at most {most} wrong; nothing was looked up here yet");
    }
    let least = match bound["threshold"].as_f64() {
        Some(least) => format!("serves from log-odds {least:.1} up"),
        None => "serves nothing in other words yet".to_owned(),
    };
    let expected = &bound["expected"];
    format!(
        "{least}; {} wrong is expected ({} to {}), {most} allowed; {:.0} labels",
        percent(&expected["mean"]),
        percent(&expected["least"]),
        percent(&expected["most"]),
        bound["labels"].as_f64().unwrap_or_default(),
    )
}

fn tell(text: &mut String, candidate: &Value) {
    let id: String = word(&candidate["id"]).chars().take(12).collect();
    let cosine = candidate["cosine"].as_f64().unwrap_or_default();
    let odds = candidate["log_odds"].as_f64().map_or(String::new(), |odds| format!("  log-odds {odds:.1}"));
    let _ = writeln!(text, "\n  {id}  cosine {cosine:.3}{odds}  {}", word(&candidate["verdict"]));
    if candidate["question"].is_string() {
        let _ = writeln!(text, "    {}", line(&candidate["question"]));
    }
    let forbidding =
        candidate["guards"].as_object().into_iter().flatten().filter(|(_, forbids)| **forbids == true);
    let forbidding: Vec<&str> = forbidding.map(|(name, _)| name.as_str()).collect();
    if !forbidding.is_empty() {
        let _ = writeln!(text, "    forbidden by: {}", forbidding.join(", "));
    }
}

fn line(value: &Value) -> String {
    word(value).chars().take(SHOWN).collect()
}

/// A word that anyone may have chosen: nothing in it moves the terminal's cursor.
fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_says_who_answered_and_what_was_near() {
        let told = json!({
            "request_id": "req_1", "lane": "upstream", "miss": "other_numbers",
            "lookup": {
                "cache_id": "ab12", "tenant": "t", "project": "music", "model": "m", "max_wrong": 0.01,
                "question": "turn up track 4", "canonical": "turn up track 4",
                "key": { "scope": "0123456789abcdefff", "context": "strict", "parts": { "model": "12ab" } },
                "bound": null,
                "candidates": [{
                    "id": "cd34", "cosine": 0.98, "verdict": "other_numbers", "question": "turn up\ntrack 3",
                    "guards": { "other_numbers": true, "negated": false },
                }],
            },
        });
        let expected = "\
request     req_1
answer      asked upstream, since memory had none: other_numbers
project     t/music
model       m
question    turn up track 4
kept under  ab12
scope       0123456789abcdef · context strict
            model 12ab
bound       at most 1.00 % wrong; nothing was looked up here yet

  cd34  cosine 0.980  other_numbers
    turn up track 3
    forbidden by: other_numbers";
        assert_eq!(shown(&told), expected);
    }

    #[test]
    fn a_rule_needs_no_memory() {
        let told = json!({ "request_id": "req_1", "lane": "rule", "rule": "ping", "lookup": null });
        assert_eq!(shown(&told), "request     req_1\nanswer      by the rule ping\nmemory was not asked");
    }
}
