//! `weir store`: looking after the files of the store, while no sidecar has them open; a backup is written by the one
//! that has.

use super::sidecar::{Fault, Sidecar, cut};
use super::{Outcome, output, runtime};
use crate::config::{self, Config, Environment};
use crate::server::BackedUp;
use crate::store::Error;
use crate::store::embedded::upkeep::{self, Checked, Copied};
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `weir store …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read everything and tell what is there; fails where something is damaged
    Check,
    /// The same, and drop what is damaged
    Repair,
    /// Write the store anew, without what its files keep of what is gone
    Compact,
    /// Write the store to a new folder; a running sidecar does it for its own
    Backup {
        /// A folder that is not there yet
        to: PathBuf,
    },
    /// Put the store of a backup in place of this one, which stays beside it
    Restore {
        /// The folder of the backup
        from: PathBuf,
    },
}

pub(super) fn run(args: Args, config: &Config, environment: &Environment) -> Outcome {
    let config::Store::Embedded(store) = &config.store else {
        return Err("answers are kept in memory (store.kind = \"memory\"): there are no files".into());
    };
    let (path, bar) = (&store.path, bar());
    let mut tell = |done, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    match args.command {
        Command::Check => {
            let found = upkeep::check(path, &mut tell)?;
            output::line(told(&found));
            if found.damaged > 0 {
                return Err(format!("{} damaged; `weir store repair` drops them", found.damaged).into());
            }
        }
        Command::Repair => output::line(told(&upkeep::repair(path, &mut tell)?)),
        Command::Compact => output::line(written(&upkeep::compact(path, &mut tell)?)),
        Command::Backup { to } => {
            let copied = match upkeep::backup(path, &to, &mut tell) {
                Err(Error::InUse(_)) => by_sidecar(path, &to, config, environment)?,
                copied => copied?,
            };
            output::line(written(&copied));
        }
        Command::Restore { from } => {
            let (copied, aside) = upkeep::restore(path, &from, &mut tell)?;
            output::line(written(&copied));
            if let Some(aside) = aside {
                output::line(format!("what was there is in {}", aside.display()));
            }
        }
    }
    Ok(())
}

/// Has the sidecar that holds the store write it beside it, and moves that to where it is wanted.
fn by_sidecar(
    path: &Path,
    to: &Path,
    config: &Config,
    environment: &Environment,
) -> Result<Copied, Box<dyn std::error::Error>> {
    let sidecar = Sidecar::find(None, environment, || Ok(config.clone()))?;
    output::note("a sidecar holds the store, and is asked to write it");
    let asked = json!({ "store": path.canonicalize()? }).to_string();
    let asked = sidecar.request(Method::POST, "/weir/store/backup").body(asked);
    let told = runtime()?.block_on(async {
        let answer = sidecar.send(asked).await.map_err(|fault| match fault {
            Fault::Unreachable(_) => {
                format!(
                    "{}; it is no sidecar, or one that answers elsewhere: {fault}",
                    Error::InUse(path.display().to_string())
                )
            }
            fault => fault.to_string(),
        })?;
        answer.bytes().await.map_err(|error| cut(error).to_string())
    })?;
    let told: Value = serde_json::from_slice(&told)?;
    if let Some(message) = told["error"]["message"].as_str() {
        return Err(message.into());
    }
    let BackedUp { folder, entries, left_out, before, after } = serde_json::from_value(told)?;
    upkeep::move_backup(&folder, to)
        .map_err(|error| format!("{error}; the backup is in {}", folder.display()))?;
    Ok(Copied { entries, left_out, before, after })
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} entries")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("=> "))
}

fn told(found: &Checked) -> String {
    let Checked { entries, damaged, orphans, misnoted, clean, bytes, disk } = *found;
    let ended = if clean { "closed in order" } else { "not closed in order" };
    format!(
        "{entries} entries in {}, files {}; damaged {damaged}, wrongly noted {misnoted}, traces of removed ones {orphans}; {ended}",
        DecimalBytes(bytes),
        DecimalBytes(disk)
    )
}

fn written(copied: &Copied) -> String {
    let Copied { entries, left_out, before, after } = *copied;
    format!(
        "{entries} entries written, {left_out} left out; files took {}, and take {}",
        DecimalBytes(before),
        DecimalBytes(after)
    )
}
