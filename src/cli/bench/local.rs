//! `weir bench local`

use super::super::{Outcome, output};
use super::all::{Figure, figure};
use crate::config::Config;
use crate::lab::local::{self, Report};
use crate::models::{self, Installed};
use crate::upstream::local::Probe;
use std::error::Error;
use std::path::PathBuf;

/// `weir bench local …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A GGUF file [default: that of local.model]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print a line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> Outcome {
    let file = args
        .file
        .clone()
        .or_else(|| default_file(config))
        .ok_or("there is no local model; name one with --file")?;
    let report = local::measure(&mut Probe::load(&file)?)?;
    output::line(if args.json { serde_json::to_string(&report)? } else { page(&report) });
    Ok(())
}

/// What a short run finds.
pub(super) fn short(config: &Config) -> Result<Vec<Figure>, Box<dyn Error>> {
    let file = default_file(config).ok_or("there is no local model")?;
    let report = local::measure(&mut Probe::load(&file)?)?;
    Ok(vec![
        figure("reading a prompt, one thread", format!("{:.0} tokens/s", report.prompt_tokens_per_second)),
        figure("writing", format!("{:.0} tokens/s", report.written_tokens_per_second)),
        figure("the first word after 40 tokens", format!("{:.0} ms", report.first_token_of_40_ms)),
    ])
}

fn default_file(config: &Config) -> Option<PathBuf> {
    let wanted = config.local.clone().unwrap_or_default().model;
    let installed = Installed::read(&config.models_dir).ok()?;
    let file = installed.get(&wanted)?.files.first()?;
    Some(models::path(&config.models_dir, file))
}

fn page(report: &Report) -> String {
    let Report {
        arithmetic,
        prompt_tokens_per_second,
        written_tokens_per_second,
        together_tokens_per_second,
        first_token_of_40_ms,
        first_token_after_500_known_ms,
        weight_bytes,
        bytes_per_token,
    } = report;
    let memory = weight_bytes.zip(*bytes_per_token).map(|(weights, token)| {
        format!(
            "  memory     {} MB of weights, {} kB for a token of a conversation",
            weights / 1_000_000,
            token / 1_000
        )
    });
    [
        format!("{arithmetic}, one thread; tokens by the second of CPU time"),
        format!("  prompt     {prompt_tokens_per_second:.0} tokens/s"),
        format!("  writing    {written_tokens_per_second:.0} tokens/s; eight answers together {together_tokens_per_second:.0}"),
        format!("  begins     {first_token_of_40_ms:.0} ms after a prompt of 40 tokens, {first_token_after_500_known_ms:.0} ms after 8 that follow 500 known ones"),
    ]
    .into_iter()
    .chain(memory)
    .collect::<Vec<_>>()
    .join("\n")
}
