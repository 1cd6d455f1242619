//! The command line: what can be typed, and which part of the library it calls.

mod advise;
mod ask;
mod bench;
mod cache;
mod chain;
pub mod config;
mod embed;
mod explain;
mod journal;
pub mod models;
mod output;
mod replay;
mod report;
mod rules;
mod serve;
mod sidecar;
mod store;
mod threads;
mod train;
mod webhook;

use crate::config::{Config, Environment, Overrides};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// A semantic caching and intent-routing sidecar for any LLM client.
///
/// Weir stands in front of an LLM client: point the client's base URL at it. What it has answered before,
/// and what a rule can answer, never reaches a model; the rest goes to the first upstream that answers, and
/// at last to a small local model in this process.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args, Clone, Debug, Default)]
struct Globals {
    /// Configuration file [default: WEIR_CONFIG, ./weir.toml, weir/weir.toml in your configuration folder]
    #[arg(long, global = true, help_heading = "Settings", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:4100]
    #[arg(long, global = true, help_heading = "Settings", value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder for what outlives a restart [default: weir in your data folder]
    #[arg(long, global = true, help_heading = "Settings", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Folder of the model files [default: ./models if it holds any, else models in the data folder]
    #[arg(long, global = true, help_heading = "Settings", value_name = "DIR")]
    models_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the sidecar (what happens without a command)
    Serve,
    /// Ask the running sidecar one question; shows where the answer came from and how long it took
    Ask(ask::Args),
    /// Look after what the running sidecar remembers: list, show, remove, pin, export, import
    Cache(cache::Args),
    /// Look after the files of the store: check, repair, compact, back up, restore
    Store(store::Args),
    /// Tell why the running sidecar answered a request as it did
    Explain(explain::Args),
    /// Look after the upstreams: how they are, switch them off and on, try a failover
    Chain(chain::Args),
    /// Try the webhooks
    Webhook(webhook::Args),
    /// Print the vectors of texts, or how alike they are
    Embed(embed::Args),
    /// Measure what is built
    Bench(bench::Args),
    /// Fetch, list and verify the model files; ask a language model something
    Models(models::Args),
    /// Write, check and show the configuration
    Config(config::Args),
    /// Check, try, measure and mine the rules
    Rules(rules::Args),
    /// Look at a journal: list, show, count, take out more secrets, export, import others' records
    Journal(journal::Args),
    /// Ask again what a journal holds, under other settings: what would be saved, and how much would be wrong
    Replay(replay::Args),
    /// Say which settings a journal or a running sidecar speaks for, with evidence
    Advise(advise::Args),
    /// Set replays side by side
    Report(report::Args),
    /// Make the judge's weights anew from labelled questions
    #[command(hide = true)]
    Train(train::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    Version,
}

impl Globals {
    fn overrides(self) -> Overrides {
        let Self { config, listen, data_dir, models_dir } = self;
        Overrides { config, listen, data_dir, models_dir, set: Vec::new() }
    }
}

/// Reads the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let Cli { globals, command } = Cli::parse();
    match run(&globals.overrides(), command.unwrap_or(Command::Serve)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn Error>>;

fn run(overrides: &Overrides, command: Command) -> Outcome {
    let environment = Environment::of_process();
    let load = || Config::load(overrides, &environment);
    match command {
        Command::Serve => {
            settle_threads(&environment);
            serve::run(load()?)
        }
        Command::Ask(args) => {
            runtime()?.block_on(ask::run(args, &environment, || load().map_err(Into::into)))
        }
        Command::Cache(args) => {
            runtime()?.block_on(cache::run(args, &environment, || load().map_err(Into::into)))
        }
        Command::Store(args) => store::run(args, &load()?, &environment),
        Command::Explain(args) => {
            runtime()?.block_on(explain::run(args, &environment, || load().map_err(Into::into)))
        }
        Command::Chain(args) => {
            runtime()?.block_on(chain::run(args, &environment, || load().map_err(Into::into)))
        }
        Command::Webhook(args) => runtime()?.block_on(webhook::run(args, load()?)),
        Command::Embed(args) => {
            settle_threads(&environment);
            embed::run(args, load()?)
        }
        Command::Bench(args) => {
            settle_threads(&environment);
            bench::run(args, &load()?)
        }
        Command::Train(args) => {
            settle_threads(&environment);
            train::run(&args, &load()?)
        }
        Command::Models(args) => {
            // Named on the command line, the folder is all that is needed of the configuration.
            let folder = match &overrides.models_dir {
                Some(folder) => folder.clone(),
                None => load()?.models_dir,
            };
            Ok(runtime()?.block_on(models::run(args, &folder))?)
        }
        Command::Config(args) => {
            Ok(config::run(&args, overrides, &environment, &mut std::io::stdout().lock())?)
        }
        Command::Journal(args) => journal::run(args, || load().map_err(Into::into)),
        Command::Replay(args) => {
            settle_threads(&environment);
            replay::run(&args, overrides, &environment)
        }
        Command::Advise(args) => {
            settle_threads(&environment);
            advise::run(&args, overrides, &environment)
        }
        Command::Report(args) => report::run(&args),
        Command::Rules(args) => rules::run(args, || load().map_err(Into::into)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut std::io::stdout());
            Ok(())
        }
        Command::Version => {
            output::line(concat!("weir ", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    }
}

/// Before the configuration is read: a pipe can be read only once.
fn settle_threads(environment: &Environment) {
    if let Err(error) = threads::settle(environment) {
        output::note(format!("note: the tensors get a thread for every core: {error}"));
    }
}

/// For commands that only wait for a few things.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
