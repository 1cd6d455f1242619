//! `weir chain …`: how those who are asked are, and switching them off and on. The running sidecar does the work.

use super::output;
use super::sidecar::{Sidecar, cut};
use crate::config::{Config, Environment};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write as _;

/// `weir chain …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The sidecar's address [default: WEIR_URL, or where the configuration says it listens]
    #[arg(long, global = true)]
    url: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Who is asked, and how each of them is
    Status,
    /// Do not ask an upstream, or one of its keys, until it is enabled again
    Disable(Name),
    /// Ask it again
    Enable(Name),
    /// Forget all trouble with it, or with everyone
    Reset {
        /// The upstream, or UPSTREAM:PROFILE
        name: Option<String>,
    },
    /// Ask a small question as if an upstream had failed, and see who answers
    Test {
        /// The upstream that is to fail, or UPSTREAM:PROFILE; without it, nobody does
        name: Option<String>,
        /// The model to ask for
        #[arg(long, default_value = "")]
        model: String,
        /// What to ask
        #[arg(long)]
        question: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Name {
    /// The upstream, or UPSTREAM:PROFILE
    name: String,
}

pub(super) async fn run(
    args: Args,
    environment: &Environment,
    load: impl FnOnce() -> Result<Config, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let Args { command, url, json } = args;
    let sidecar = Sidecar::find(url, environment, load)?;
    let is_test = matches!(command, Command::Test { .. });
    let (method, path, body) = match command {
        Command::Status => (Method::GET, "/weir/chain", Value::Null),
        Command::Disable(Name { name }) => (Method::POST, "/weir/chain/disable", json!({ "name": name })),
        Command::Enable(Name { name }) => (Method::POST, "/weir/chain/enable", json!({ "name": name })),
        Command::Reset { name } => (Method::POST, "/weir/chain/reset", json!({ "name": name })),
        Command::Test { name, model, question } => {
            (Method::POST, "/weir/chain/test", json!({ "name": name, "model": model, "question": question }))
        }
    };
    let request = sidecar.request(method, path);
    let request = if body.is_null() { request } else { request.body(body.to_string()) };
    let answer = sidecar.send(request).await?;
    let told: Value = serde_json::from_slice(&answer.bytes().await.map_err(cut)?)?;
    match json {
        true => output::line(serde_json::to_string_pretty(&told)?),
        false if is_test => output::line(drill(&told)),
        false => output::line(table(&told)),
    }
    Ok(())
}

/// A line for each key, and one for each of its models that is not well.
fn table(told: &Value) -> String {
    let mut lines = Vec::new();
    for upstream in told["upstreams"].as_array().map(Vec::as_slice).unwrap_or_default() {
        lines.push(line(text(&upstream["name"]), upstream));
        for model in upstream["models"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let name = text(&model["model"]);
            lines.push(format!("{}{}", line(&format!("  {name}"), model), cost(&upstream["spent"][name])));
        }
    }
    if lines.is_empty() {
        lines.push("nobody is asked but the model in the process".to_owned());
    }
    lines.join("\n")
}

fn line(name: &str, of: &Value) -> String {
    let mut line = format!("{name:<32} {:<9}", text(&of["state"]));
    if let Some(reason) = of["reason"].as_str() {
        let seconds = of["retry_after_ms"].as_u64().unwrap_or_default().div_ceil(1000);
        let _ = write!(line, " {reason}, {seconds} s more");
    }
    if let (Some(usual), Some(lately)) = (of["usual_ms"].as_u64(), of["lately_ms"].as_u64()) {
        let _ = write!(line, " {lately} ms of late, {usual} ms as a rule");
    }
    line.trim_end().to_owned()
}

/// What its answers have cost, where that is known.
fn cost(spent: &Value) -> String {
    let dollars = spent["cost_usd"].as_f64().filter(|dollars| *dollars > 0.0);
    dollars.map_or_else(String::new, |dollars| format!(" ${dollars:.4} for {} answers", spent["answers"]))
}

fn drill(told: &Value) -> String {
    let failed = told["failed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> = failed
        .iter()
        .map(|attempt| {
            let asked = if attempt["asked"] == true { "" } else { " (not asked)" };
            format!("{}: {}{asked}", text(&attempt["upstream"]), text(&attempt["reason"]))
        })
        .collect();
    lines.push(match told["answered_by"].as_str() {
        Some(by) => format!("{by} answered after {} ms: {}", told["took_ms"], text(&told["said"])),
        None => "nobody answered".to_owned(),
    });
    lines.join("\n")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_who_is_left_alone_and_why() {
        let told = json!({ "upstreams": [
            { "name": "primary", "state": "ready", "reason": null, "retry_after_ms": null, "models": [
                { "model": "m", "state": "cooling", "reason": "rate_limit", "retry_after_ms": 12_001,
                  "usual_ms": 300, "lately_ms": 900 },
            ], "spent": { "m": { "answers": 7, "input_tokens": 1, "output_tokens": 2, "cost_usd": 0.01234 } } },
            { "name": "spare", "state": "disabled", "models": [] },
        ] });
        let expected = "primary                          ready\n\
            \u{20} m                              cooling   rate_limit, 13 s more 900 ms of late, 300 ms as a rule $0.0123 for 7 answers\n\
            spare                            disabled";
        assert_eq!(table(&told), expected);
        assert_eq!(table(&json!({})), "nobody is asked but the model in the process");
    }

    #[test]
    fn a_drill_tells_who_failed_and_who_answered() {
        let attempt = json!({ "upstream": "primary", "reason": "connection", "asked": false });
        let answered = json!({ "answered_by": "local", "took_ms": 12, "said": "ready", "failed": [attempt] });
        assert_eq!(drill(&answered), "primary: connection (not asked)\nlocal answered after 12 ms: ready");
        assert_eq!(drill(&json!({ "answered_by": null })), "nobody answered");
    }
}
