//! `weir report`

use super::{Outcome, output};
use crate::lab::replay::{Report, sweep};
use crate::lab::report::{self, Run};
use std::path::PathBuf;

/// `weir report …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `weir replay --json` has printed, one file for each run
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Write a page with pictures, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let read = |path: &PathBuf| -> Result<(String, Report), String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let report = serde_json::from_str(&text).map_err(|error| {
            format!("{} is not what `weir replay --json` prints: {error}", path.display())
        })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((name.into_owned(), report))
    };
    let runs = args.runs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    output::line(sweep("run", &runs));
    let runs: Vec<Run> = runs.into_iter().map(|(name, report)| Run { name, report }).collect();
    output::line(report::verdict(&runs));
    if let Some(path) = &args.html {
        let page = report::page("Runs side by side", &runs)?;
        std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        output::note(format!("wrote {}", path.display()));
    }
    Ok(())
}
