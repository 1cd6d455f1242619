//! `weir train`: for those who work on weir itself.

use super::{Outcome, output};
use crate::app::load_encoder;
use crate::config::Config;
use crate::lab::train::{self, Report};
use std::path::PathBuf;

/// `weir train …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the labelled questions
    #[arg(long, value_name = "DIR", default_value = "fixtures/decisions")]
    data: PathBuf,
    /// Where the weights go
    #[arg(long, value_name = "FILE", default_value = "src/cache/judge/weights.json")]
    out: PathBuf,
}

pub(super) fn run(args: &Args, config: &Config) -> Outcome {
    let mut encoder = load_encoder(&config.encoder, &config.models_dir)?.encoder;
    let trained = train::train(&args.data, &mut encoder, output::note)?;
    output::line(page(&trained.report));
    let mut json = serde_json::to_string(&trained.weights)?;
    json.push('\n');
    std::fs::write(&args.out, json).map_err(|error| format!("{}: {error}", args.out.display()))?;
    output::note(format!("weights {} written to {}", trained.weights.version, args.out.display()));
    Ok(())
}

fn page(report: &Report) -> String {
    let Report { streams, pairs, role_swaps } = report;
    let mut lines = vec!["On kinds that were not learned from:".to_owned()];
    for (name, thresholds) in streams {
        for threshold in thresholds {
            lines.push(format!(
                "  {name:<22} at most {:.0} % wrong: {:.1} % hits, {:.2} % wrong, from log-odds {:.2} on",
                100.0 * threshold.most_wrong,
                100.0 * threshold.hits,
                100.0 * threshold.wrong,
                threshold.threshold,
            ));
        }
    }
    let swaps = (&"role swaps".to_owned(), role_swaps);
    for (name, points) in pairs.iter().map(|(name, points)| (name, points)).chain([swaps]) {
        let points = points.iter().map(|point| {
            format!("{:.1}: {:.1}/{:.1}", point.threshold, 100.0 * point.served, 100.0 * point.traps)
        });
        lines.push(format!(
            "  {name:<22} log-odds: right/traps served, %  {}",
            points.collect::<Vec<_>>().join("  ")
        ));
    }
    lines.join("\n")
}
