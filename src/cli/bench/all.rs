//! `weir bench all`: a little of everything, in one table.

use super::super::{Outcome, output};
use super::{embed, intents, local, serve, store};
use crate::config::Config;
use serde::Serialize;
use std::error::Error;
use std::time::Instant;

/// `weir bench all …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Something that was measured, in one line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    /// What.
    pub(super) what: String,
    /// How much, with its unit.
    pub(super) value: String,
}

/// A figure.
pub(super) fn figure(what: impl Into<String>, value: impl Into<String>) -> Figure {
    Figure { what: what.into(), value: value.into() }
}

/// What a bench has found, or why it could not.
#[derive(Debug, Serialize)]
struct Found {
    bench: &'static str,
    figures: Vec<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    seconds: f64,
}

/// Measures a little, with short defaults.
type Short = fn(&Config) -> Result<Vec<Figure>, Box<dyn Error>>;

/// In the order in which a request meets what they measure.
const BENCHES: [(&str, Short); 6] = [
    ("embed", embed::short),
    ("intents", intents::short),
    ("cache", super::cache::short),
    ("store", store::short),
    ("local", local::short),
    ("serve", serve::short),
];

pub(super) fn run(args: &Args, config: &Config) -> Outcome {
    let mut found = Vec::new();
    for (bench, short) in BENCHES {
        output::note(format!("measuring {bench}"));
        let began = Instant::now();
        let (figures, failed) = match short(config) {
            Ok(figures) => (figures, None),
            // What is missing on this machine is no reason not to measure the rest.
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        found.push(Found { bench, figures, failed, seconds: began.elapsed().as_secs_f64() });
    }
    output::line(if args.json { serde_json::to_string_pretty(&found)? } else { page(&found) });
    Ok(())
}

fn page(found: &[Found]) -> String {
    let width = found.iter().flat_map(|found| &found.figures).map(|figure| figure.what.chars().count()).max();
    let width = width.unwrap_or_default() + 2;
    let mut lines = Vec::new();
    for Found { bench, figures, failed, seconds: _ } in found {
        for (at, Figure { what, value }) in figures.iter().enumerate() {
            let bench = if at == 0 { bench } else { "" };
            lines.push(format!("{bench:<10}{what:<width$}{value}"));
        }
        lines.extend(failed.as_ref().map(|why| format!("{bench:<10}not measured: {why}")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_measured_is_said_beside_the_rest() {
        let found = [
            Found {
                bench: "embed",
                figures: vec![figure("one text", "1 ms"), figure("in batches", "900/s")],
                failed: None,
                seconds: 1.0,
            },
            Found { bench: "local", figures: Vec::new(), failed: Some("no model".into()), seconds: 0.0 },
        ];
        let expected =
            "embed     one text    1 ms\n          in batches  900/s\nlocal     not measured: no model";
        assert_eq!(page(&found), expected);
    }
}
