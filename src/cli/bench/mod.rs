//! `weir bench`

mod all;
mod cache;
mod churn;
mod embed;
mod http;
mod intents;
mod local;
mod naming;
mod serve;
mod store;

use super::Outcome;
use crate::config::Config;

/// `weir bench …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Measure a little of everything, in one table
    All(all::Args),
    /// Measure the embedding model: one text, batches, many callers at once, agreement with f32
    Embed(embed::Args),
    /// Measure what the cache serves, and how much of it is wrong, on labelled questions
    Cache(cache::Args),
    /// Measure how well intents are learned from labelled examples
    Intents(intents::Args),
    /// Measure the local model on one thread: how fast it reads and writes, how soon it begins
    Local(local::Args),
    /// Measure a sidecar under load: what it adds, how much it bears, what it takes
    Serve(serve::Args),
    /// Measure the embedded store: inserts, searches, what it finds, memory, disk, opening
    Store(store::Args),
    /// Keep the embedded store busy for minutes: whether its memory stays flat and its files small
    Churn(churn::Args),
}

pub(super) fn run(args: Args, config: &Config) -> Outcome {
    match args.command {
        Command::All(args) => all::run(&args, config),
        Command::Embed(args) => embed::run(&args, config),
        Command::Cache(args) => cache::run(&args, config),
        Command::Intents(args) => intents::run(&args, config),
        Command::Local(args) => local::run(&args, config),
        Command::Serve(args) => serve::run(&args, config),
        Command::Store(args) => store::run(&args),
        Command::Churn(args) => churn::run(&args),
    }
}
