//! `weir webhook …`: tries the webhooks of the configuration. No sidecar need run.

use super::output;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::webhook::{self, try_out};
use clap::Subcommand;
use std::error::Error;

/// `weir webhook …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a signed test event, once, and tell whether it was taken
    Test {
        /// The webhook; without it, all of them
        name: Option<String>,
    },
}

pub(super) async fn run(args: Args, config: Config) -> Result<(), Box<dyn Error>> {
    let Command::Test { name } = args.command;
    let meant: Vec<webhook::Config> = match &name {
        Some(name) => config.webhooks.into_iter().filter(|hook| hook.name == *name).collect(),
        None => config.webhooks,
    };
    if meant.is_empty() {
        return Err(match name {
            Some(name) => format!("there is no [[webhook]] named \"{name}\"").into(),
            None => "there is no [[webhook]] in the configuration".into(),
        });
    }
    let mut failed = Vec::new();
    for hook in &meant {
        match try_out(hook, &SystemClock).await {
            Ok(took) => output::line(format!("{}: taken after {} ms", hook.name, took.as_millis())),
            Err(why) => {
                output::line(format!("{}: not taken: {why}", hook.name));
                failed.push(hook.name.as_str());
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not taken by {}", failed.join(", ")).into()) }
}
