//! `weir cache …`: looking after what the running sidecar remembers. The sidecar does the work: it holds the store.

mod filter;
mod table;
mod transfer;

use super::output;
use super::sidecar::{Sidecar, cut};
use crate::config::{Config, Environment};
use clap::Subcommand;
use filter::Filter;
pub(super) use filter::encoded;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::error::Error;
use std::path::PathBuf;

/// The most rows that are asked for at once.
const ROWS_AT_ONCE: usize = 500;

/// `weir cache …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The sidecar's address [default: WEIR_URL, or where the configuration says it listens]
    #[arg(long, global = true)]
    url: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List answers, the newest first
    Ls {
        #[command(flatten)]
        filter: Filter,
        /// The most answers to list
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show one answer in full
    Get(Id),
    /// Remove answers, one by one
    Rm {
        /// Their ids, or the first eight digits or more of each
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Remove every answer that the filter finds; without --yes only tell which those are
    Purge {
        #[command(flatten)]
        filter: Filter,
        /// Every answer there is
        #[arg(long)]
        all: bool,
        /// Remove them
        #[arg(long)]
        yes: bool,
    },
    /// Keep an answer for good: it does not expire, and makes no room for others
    Pin(Id),
    /// Let an answer expire again
    Unpin(Id),
    /// An answer is wrong: remove it, and those like it
    Wrong(Id),
    /// Write answers as lines of JSON
    Export {
        #[command(flatten)]
        filter: Filter,
        /// With the vectors, so that they need not be made anew
        #[arg(long)]
        vectors: bool,
        /// The file to write [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Read answers that `export` has written; nothing newer is overwritten
    Import {
        /// The file to read [default: standard input]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Tell how much is kept
    Stats,
}

#[derive(Debug, clap::Args)]
struct Id {
    /// Its id, or the first eight digits or more
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn run(
    args: Args,
    environment: &Environment,
    load: impl FnOnce() -> Result<Config, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let Args { command, url, json } = args;
    let cache = Remote { sidecar: Sidecar::find(url, environment, load)?, json };
    match command {
        Command::Ls { filter, limit } => cache.list(&filter, limit).await,
        Command::Get(Id { id }) => cache.tell(cache.one(Method::GET, &id, ""), table::item).await,
        Command::Rm { ids } => cache.remove(&ids).await,
        Command::Purge { filter, all, yes } => {
            let asked = json!({ "filter": filter.object(), "all": all, "dry_run": !yes });
            cache.tell(cache.post("/purge").body(asked.to_string()), table::purge).await
        }
        Command::Pin(Id { id }) => cache.tell(cache.one(Method::POST, &id, "/pin"), table::pinned).await,
        Command::Unpin(Id { id }) => {
            cache.tell(cache.one(Method::POST, &id, "/unpin"), table::unpinned).await
        }
        Command::Wrong(Id { id }) => cache.tell(cache.one(Method::POST, &id, "/wrong"), table::wrong).await,
        Command::Export { filter, vectors, output } => {
            cache.export(&filter, vectors, output.as_deref()).await
        }
        Command::Import { file } => cache.import(file.as_deref()).await,
        Command::Stats => cache.tell(cache.get("/stats"), table::stats).await,
    }
}

/// What the running sidecar keeps.
struct Remote {
    sidecar: Sidecar,
    json: bool,
}

impl Remote {
    fn get(&self, path: &str) -> RequestBuilder {
        self.sidecar.request(Method::GET, &format!("/weir/cache{path}"))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.sidecar.request(Method::POST, &format!("/weir/cache{path}"))
    }

    fn one(&self, method: Method, id: &str, action: &str) -> RequestBuilder {
        self.sidecar.request(method, &format!("/weir/cache/{}{action}", encoded(id)))
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Value, Box<dyn Error>> {
        let response = self.sidecar.send(request).await?;
        Ok(serde_json::from_slice(&response.bytes().await.map_err(cut)?)?)
    }

    /// Prints what is answered: as it is, or as `shown`.
    async fn tell(&self, request: RequestBuilder, shown: fn(&Value) -> String) -> Result<(), Box<dyn Error>> {
        let told = self.ask(request).await?;
        output::line(if self.json { told.to_string() } else { shown(&told) });
        Ok(())
    }

    async fn list(&self, filter: &Filter, limit: usize) -> Result<(), Box<dyn Error>> {
        let mut rows: Vec<Value> = Vec::new();
        let mut after = String::new();
        let more = loop {
            let most = (limit - rows.len()).min(ROWS_AT_ONCE);
            if most == 0 {
                break true;
            }
            let path = format!("?{}limit={most}{after}", filter.query());
            let mut page = self.ask(self.get(&path)).await?;
            if let Some(entries) = page["entries"].as_array_mut() {
                rows.append(entries);
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break false,
            }
        };
        if self.json {
            rows.iter().for_each(|row| output::line(row.to_string()));
            return Ok(());
        }
        output::line(table::rows(&rows));
        if more {
            output::note(format!("there may be more; --limit {} shows them", limit.saturating_mul(10)));
        }
        Ok(())
    }

    async fn remove(&self, ids: &[String]) -> Result<(), Box<dyn Error>> {
        let mut failed = None;
        for id in ids {
            // One that is not there does not keep the others from going.
            if let Err(error) = self.tell(self.one(Method::DELETE, id, ""), table::removed).await {
                output::note(format!("{id}: {error}"));
                failed = Some("not every answer was removed");
            }
        }
        failed.map_or(Ok(()), |failed| Err(failed.into()))
    }
}
