//! `weir bench local`

use super::super::{Outcome, output};
use super::all::{Figure, figure};
use crate::config::Config;
use crate::device::DeviceChoice;
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
    /// Where it runs: auto, cpu or cuda [default: local.device]
    #[arg(long)]
    device: Option<DeviceChoice>,
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
    let device = args.device.unwrap_or_else(|| default_device(config));
    let report = local::measure(&mut Probe::load(&file, device)?)?;
    output::line(if args.json { serde_json::to_string(&report)? } else { page(&report) });
    Ok(())
}

/// What a short run finds.
pub(super) fn short(config: &Config) -> Result<Vec<Figure>, Box<dyn Error>> {
    let file = default_file(config).ok_or("there is no local model")?;
    let report = local::measure(&mut Probe::load(&file, default_device(config))?)?;
    let reading =
        if report.on == "cpu" { "reading a prompt, one thread" } else { "reading a prompt, on a card" };
    Ok(vec![
        figure(reading, format!("{:.0} tokens/s", report.prompt_tokens_per_second)),
        figure("writing", format!("{:.0} tokens/s", report.written_tokens_per_second)),
        figure("the first word after 40 tokens", format!("{:.0} ms", report.first_token_of_40_ms)),
    ])
}

fn default_device(config: &Config) -> DeviceChoice {
    config.local.clone().unwrap_or_default().config.device
}

fn default_file(config: &Config) -> Option<PathBuf> {
    let wanted = config.local.clone().unwrap_or_default().model;
    let installed = Installed::read(&config.models_dir).ok()?;
    let file = installed.get(&wanted)?.files.first()?;
    Some(models::path(&config.models_dir, file))
}

fn page(report: &Report) -> String {
    let Report {
        on,
        arithmetic,
        together,
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
        match *on {
            "cpu" => format!("{arithmetic}, one thread; tokens by the second of CPU time"),
            on => format!("{on}, {arithmetic}; tokens by the second"),
        },
        format!("  prompt     {prompt_tokens_per_second:.0} tokens/s"),
        format!("  writing    {written_tokens_per_second:.0} tokens/s; {together} answers together {together_tokens_per_second:.0}"),
        format!("  begins     {first_token_of_40_ms:.1} ms after a prompt of 40 tokens, {first_token_after_500_known_ms:.1} ms after 8 that follow 500 known ones"),
    ]
    .into_iter()
    .chain(memory)
    .collect::<Vec<_>>()
    .join("\n")
}
