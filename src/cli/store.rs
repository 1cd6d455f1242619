//! `weir store`: looking after the files of the store, while no sidecar has them open.

use super::{Outcome, output};
use crate::config::{self, Config};
use crate::store::embedded::upkeep::{self, Checked, Copied};
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use std::path::PathBuf;

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
    /// Write the store to a new folder
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

pub(super) fn run(args: Args, config: &Config) -> Outcome {
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
        Command::Backup { to } => output::line(written(&upkeep::backup(path, &to, &mut tell)?)),
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
