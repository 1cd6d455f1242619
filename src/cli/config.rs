//! `weir config`: write a file, check it, show what is in force.

use crate::config::{self, Config, Environment, Overrides, TEMPLATE};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Arguments of `weir config`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Write a commented file with every key and its default
    Init {
        /// Where to write it
        #[arg(default_value = "weir.toml")]
        path: PathBuf,
        /// Write over a file that is there already
        #[arg(long)]
        force: bool,
    },
    /// Check the file, the environment and the flags, and list everything that is wrong
    Check,
    /// Print the configuration in force, and where each value came from; secrets are hidden
    Show,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// There is a file already.
    #[error("{0} is there already; `--force` writes over it")]
    Exists(PathBuf),
    /// The file could not be written.
    #[error("could not write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer could not be printed.
    #[error("could not print")]
    Print(#[from] io::Error),
}

/// Does what `args` ask for, and tells about it on `out`.
pub fn run(
    args: &Args,
    overrides: &Overrides,
    environment: &Environment,
    out: &mut impl Write,
) -> Result<(), Error> {
    match &args.command {
        Command::Init { path, force } => {
            init(&environment.working_dir.join(path), *force)?;
            writeln!(out, "wrote {}", path.display())?;
        }
        Command::Check => check(&Config::load(overrides, environment)?, out)?,
        Command::Show => write!(out, "{}", Config::load(overrides, environment)?.show())?,
    }
    Ok(())
}

fn init(path: &Path, force: bool) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        // Nothing can come between a look and the writing.
        options.create_new(true);
    }
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| options.open(path))
        .and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
    written.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists if !force => Error::Exists(path.to_owned()),
        _ => Error::Write { path: path.to_owned(), source },
    })
}

fn check(config: &Config, out: &mut impl Write) -> io::Result<()> {
    match &config.source.file {
        Some(file) => writeln!(out, "{}: ok", file.display())?,
        None => writeln!(out, "ok; there is no file, and none is needed (`weir config init` writes one)")?,
    }
    writeln!(out, "chain: {}", config.chain.join(", "))?;
    config.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
}
