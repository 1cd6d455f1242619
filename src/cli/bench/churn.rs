//! `weir bench churn`

use super::super::{Outcome, output};
use crate::lab::churn::{self, Plan};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// So many lines are told.
const LINES: u32 = 20;

/// `weir bench churn …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// For how many minutes
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    minutes: u32,
    /// The most entries
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    entries: u32,
    /// Operations a second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// An empty or new folder to work in; it is removed afterwards [default: one in the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print a line of JSON for each sample
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let named = || std::env::temp_dir().join(format!("weir-bench-churn-{}", std::process::id()));
    let folder = args.folder.clone().unwrap_or_else(named);
    if fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some()) {
        return Err(format!("{} is not empty; name a new folder", folder.display()).into());
    }
    let time = Duration::from_secs(u64::from(args.minutes) * 60);
    let plan = Plan { time, every: time / LINES, entries: args.entries.into(), rate: args.rate };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tell = |sample: &churn::Sample| {
        output::note(format!(
            "{} s: {} entries, files {} bytes",
            sample.seconds, sample.entries, sample.files
        ));
    };
    let samples = runtime.block_on(churn::churn(&folder, plan, tell));
    fs::remove_dir_all(&folder)?;
    let samples = samples?;
    if args.json {
        for sample in &samples {
            output::line(serde_json::to_string(sample)?);
        }
    } else {
        output::line(churn::table(&samples));
    }
    Ok(())
}
