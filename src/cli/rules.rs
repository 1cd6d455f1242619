//! `weir rules`

use super::{Outcome, output};
use crate::app::load_rules;
use crate::config::Config;
use crate::intent::Action;
use clap::Subcommand;
use std::error::Error;
use std::path::PathBuf;

/// `weir rules …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check rule files; with --text, tell which rule answers it
    Check {
        /// Rule files [default: those of the configuration]
        files: Vec<PathBuf>,
        /// A question to try
        #[arg(long, value_name = "QUESTION")]
        text: Option<String>,
        /// The project that the question is asked in
        #[arg(long, default_value = "default")]
        project: String,
    },
}

pub(super) fn run(args: Args, load: impl FnOnce() -> Result<Config, Box<dyn Error>>) -> Outcome {
    let Command::Check { files, text, project } = args.command;
    let files = if files.is_empty() { load()?.rules } else { files };
    let rules = load_rules(&files)?;
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    match files.len() {
        0 => output::line(
            "ok: no rule files are configured (rules.files, or a rules.toml beside the configuration)",
        ),
        _ => output::line(format!("ok: {} rules in {}", rules.rules().len(), names.join(", "))),
    }
    if let Some(text) = text {
        output::line(match rules.classify(&project, &text) {
            Some(verdict) => {
                let Action::Answer(answer) = verdict.action;
                format!("{} answers: {answer}", verdict.rule)
            }
            None => "no rule answers this".to_owned(),
        });
    }
    Ok(())
}
