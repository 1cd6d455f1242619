//! What is told at the start: where it listens, what it is made of, and a line to try it with.

use super::parts::NO_LOCAL_MODEL;
use crate::config::Config;
use crate::server::{Component, Status};
use crate::store::embedded::Recovery;
use std::fmt;
use std::net::SocketAddr;

/// What is told at the start.
#[derive(Clone, Debug)]
pub struct Banner {
    version: &'static str,
    url: String,
    config: String,
    device: String,
    semantic: String,
    local: String,
    chain: String,
    rules: usize,
    store: String,
    curl: String,
}

impl Banner {
    pub(super) fn new(
        config: &Config,
        bound: SocketAddr,
        status: &Status,
        recovery: Option<&Recovery>,
    ) -> Self {
        let Status { version, device, encoder, local, store, rules, chain, .. } = status;
        let url = format!("http://{bound}");
        let file = config.source.file.as_ref();
        Self {
            version,
            config: file.map_or("none; defaults".to_owned(), |file| file.display().to_string()),
            device: device.clone(),
            semantic: part(encoder),
            local: part(local),
            chain: if chain.is_empty() {
                "EMPTY: nothing can be asked".to_owned()
            } else {
                chain.join(" → ")
            },
            rules: *rules,
            store: format!("{}{}", part(store), recovered(recovery)),
            curl: curl(&url, local, !config.server.clients.is_empty()),
            url,
        }
    }

    /// The same as one line of the log, for whoever collects it.
    pub fn log(&self) {
        let Self { version, url, config, device, semantic, local, chain, rules, store, curl } = self;
        tracing::info!(version, url, config, device, semantic, local, chain, rules, store, curl, "listens");
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, url, config, device, semantic, local, chain, rules, store, curl } = self;
        writeln!(f, "weir {version} listens on {url}")?;
        writeln!(f, "  config   {config}")?;
        writeln!(f, "  device   {device}")?;
        writeln!(f, "  semantic {semantic}")?;
        writeln!(f, "  local    {local}")?;
        writeln!(f, "  chain    {chain}")?;
        writeln!(f, "  rules    {rules}")?;
        writeln!(f, "  store    {store}")?;
        write!(f, "  try      {curl}")
    }
}

fn part(component: &Component) -> String {
    let Component { name, state, degraded } = component;
    if *degraded { format!("OFF: {state}") } else { format!("{name}, {state}") }
}

/// What start-up found, where there is something to tell.
fn recovered(recovery: Option<&Recovery>) -> String {
    match recovery {
        Some(Recovery { clean: false, entries, damaged, took, in_background, .. }) => format!(
            "; recovered after an unclean stop: {entries} answers kept, {damaged} damaged ones dropped, in {} ms{}",
            took.as_millis(),
            if *in_background { "; the rest is verified in the background" } else { "" }
        ),
        _ => String::new(),
    }
}

/// Asks the local model where there is one, since which models a provider has is for the user to know.
fn curl(url: &str, local: &Component, keys: bool) -> String {
    let there = !local.degraded && local.name != NO_LOCAL_MODEL;
    let model = if there { format!("local/{}", local.name) } else { "YOUR_MODEL".to_owned() };
    let key = if keys { " -H 'authorization: Bearer YOUR_KEY'" } else { "" };
    format!(
        "curl -i {url}/v1/chat/completions{key} -H 'content-type: application/json' -d \
         '{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Why is the sky blue?\"}}]}}'"
    )
}
