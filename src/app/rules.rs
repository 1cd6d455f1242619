//! The rules in force: read at the start, and again whenever their files change; and what is learned of them.

use super::parts::book;
use super::state_file;
use super::study::study;
use crate::config;
use crate::embed::Embedder;
use crate::intent::{self, Added, HttpCall, Known, Live, Services};
use crate::pipeline::Pipeline;
use crate::secret::Secret;
use crate::upstream::provider::{Service, is_loopback};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The rules that programs have added.
const FILE: &str = "rules.json";
const FORMAT: &str = "weir rules 1 ";
const MAX_BYTES: u64 = 64 << 20;

/// The rules that the cache has been looked after for.
const KNOWN_FILE: &str = "rules-known.json";
const KNOWN_FORMAT: &str = "weir known rules 1 ";

/// The rules, and what is needed to read them again.
pub(super) struct Ruling {
    pub(super) live: Live,
    config: config::Rules,
    folder: PathBuf,
}

/// What is known of a file without reading it.
type Mark = Option<(SystemTime, u64)>;

impl Ruling {
    /// Compiles what the files say, and what programs have added before; what lies in `folder` and cannot be used is set
    /// aside.
    pub(super) fn start(config: &config::Rules, folder: &Path) -> Result<Self, intent::Error> {
        let read = book(&config.files, config.shipped)?;
        let files = config.clone();
        let live =
            Live::new(read, services(config))?.read_by(Arc::new(move || book(&files.files, files.shipped)));
        Ok(Self {
            live: with_added(live, &folder.join(FILE)),
            config: config.clone(),
            folder: folder.to_owned(),
        })
    }

    /// Learns from examples whenever they change, until it is dropped.
    pub(super) async fn study(&self, embedder: Option<&Embedder>) {
        study(&self.live, embedder).await;
    }

    /// Removes from the cache what rules answer that come or change, until it is dropped. Rules may have changed while
    /// nobody ran, so it is written down for which of them that was done.
    pub(super) async fn tend(&self, pipeline: &Pipeline) {
        let file = self.folder.join(KNOWN_FILE);
        let place = file.clone();
        let read = tokio::task::spawn_blocking(move || state_file::read(&place, KNOWN_FORMAT, MAX_BYTES));
        // Whatever is wrong with it: then all rules are new.
        let since: Known = read.await.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let done = async |known: &Known| {
            let (file, known) = (file.clone(), known.clone());
            let written = tokio::task::spawn_blocking(move || state_file::write(&file, KNOWN_FORMAT, &known));
            if let Ok(Err(error)) = written.await {
                tracing::warn!(%error, "it could not be written down for which rules the cache was looked after");
            }
        };
        pipeline.tend(since, done).await;
    }

    /// Reads the files again when they have changed, until it is dropped. Rules that cannot be used leave the old ones
    /// in force.
    pub(super) async fn watch(&self) {
        if self.config.reload == Duration::ZERO || self.config.files.is_empty() {
            return std::future::pending().await;
        }
        let mut known = marks(self.config.files.clone()).await;
        let mut ticks = tokio::time::interval(self.config.reload);
        loop {
            ticks.tick().await;
            let now = marks(self.config.files.clone()).await;
            if now != known {
                known = now;
                self.reload().await;
            }
        }
    }

    async fn reload(&self) {
        let live = self.live.clone();
        match tokio::task::spawn_blocking(move || live.reload()).await {
            Ok(Ok(rules)) => tracing::info!(rules = rules.rules().len(), "the rules have changed"),
            Ok(Err(error)) => {
                tracing::error!(%error, "the rules have changed and cannot be used; the old ones stay in force");
            }
            Err(_) => tracing::error!("reading the rules broke down; the old ones stay in force"),
        }
    }
}

/// With what programs have added before, and add from now on.
fn with_added(live: Live, file: &Path) -> Live {
    let what = "the rules that programs have added cannot be used, and do not hold";
    let added: Vec<Added> = state_file::read(file, FORMAT, MAX_BYTES)
        .inspect_err(|error| state_file::set_aside(file, error, what))
        .ok()
        .flatten()
        .unwrap_or_default();
    let place = file.to_owned();
    let keeper: intent::Keeper = Arc::new(move |added: &[Added]| {
        state_file::write(&place, FORMAT, &added).map_err(|error| error.to_string())
    });
    match live.clone().kept_by(added, Arc::clone(&keeper)) {
        Ok(live) => live,
        Err(error) => {
            // They may be sound, and at odds with what the files say now.
            let aside = file.with_extension("json.damaged");
            let moved = std::fs::rename(file, &aside).is_ok();
            tracing::error!(%error, file = %file.display(), moved, "{what}");
            live.clone().kept_by(Vec::new(), keeper).unwrap_or(live)
        }
    }
}

async fn marks(files: Vec<PathBuf>) -> Vec<Mark> {
    let look = move || files.iter().map(mark).collect();
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

fn mark(file: &PathBuf) -> Mark {
    let facts = std::fs::metadata(file).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

/// Asks local services: those on this machine, and those at `hosts`.
fn services(config: &config::Rules) -> Services {
    let (hosts, secrets) = (config.services.clone(), Arc::new(config.secrets.clone()));
    let service = Arc::new(Service::new());
    Arc::new(move |call| {
        let (service, secrets) = (Arc::clone(&service), Arc::clone(&secrets));
        let allowed = is_allowed(&call.url, &hosts);
        Box::pin(async move {
            if !allowed {
                return Err("the host is neither this machine nor in rules.services".to_owned());
            }
            let HttpCall { url, method, headers, body, answer: _, deadline } = call;
            let headers =
                headers.into_iter().map(|(name, value)| Ok((name, with_secrets(&value, &secrets)?)));
            let headers = headers.collect::<Result<Vec<_>, String>>()?;
            service.ask(&method, &url, &headers, body, deadline).await
        })
    })
}

fn is_allowed(url: &str, hosts: &[String]) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A name and a password before the host would show another host than the one that is asked.
    if authority.contains('@') {
        return false;
    }
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    is_loopback(url) || hosts.iter().any(|host| host == authority || host == name)
}

/// `${NAME}` stands for a secret of the configuration, so that none is in a rule file.
fn with_secrets(text: &str, secrets: &[(String, Secret)]) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        filled.push_str(&rest[..at]);
        let end = rest[at..].find('}').ok_or("a header has a \"${\" without its end")?;
        let name = &rest[at + 2..at + end];
        let secret = secrets.iter().find(|(known, _)| known == name);
        filled.push_str(secret.ok_or_else(|| format!("there is no \"{name}\" in rules.secrets"))?.1.expose());
        rest = &rest[at + end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_listed_hosts_are_asked() {
        let hosts = ["lights.local".to_owned(), "heat.local:81".to_owned()];
        for url in [
            "http://127.0.0.1:9/x",
            "http://localhost/",
            "http://lights.local:8080/a",
            "http://heat.local:81?x",
        ] {
            assert!(is_allowed(url, &hosts), "{url}");
        }
        let others = [
            "http://example.com/",
            "http://heat.local:82/",
            "http://127.0.0.1@example.com/",
            "http://lights.local@example.com",
            "file",
        ];
        for url in others {
            assert!(!is_allowed(url, &hosts), "{url}");
        }
    }

    #[test]
    fn a_secret_that_is_missing_is_told_by_its_name() {
        let secrets = [("lights".to_owned(), Secret::new("s3"))];
        assert_eq!(with_secrets("Bearer ${lights}!", &secrets), Ok("Bearer s3!".to_owned()));
        assert_eq!(with_secrets("${heat}", &secrets).unwrap_err(), "there is no \"heat\" in rules.secrets");
    }
}
