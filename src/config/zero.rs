//! Zero configuration: the providers whose keys are in the environment.

use super::address::Address;
use super::check::Checker;
use super::env::Environment;
use super::origin::{Origin, Place};
use super::presets::{PRESETS, Preset, named};
use super::read::Found;
use super::upstreams::{CONNECT_TIMEOUT, FIRST_TOKEN_TIMEOUT, IDLE_TIMEOUT, REPLY_TIMEOUT};
use crate::secret::Secret;
use crate::upstream::chain::Rotation;
use crate::upstream::provider::{self, ProviderKind};
use std::net::SocketAddr;

/// Ollama's models have a size after a colon (`llama3.2:1b`), or one of these names.
const OLLAMA_MODELS: &[&str] = &["*:*", "llama*", "qwen*", "gemma*", "phi*", "mistral", "smollm*"];

/// An upstream for each provider found.
pub(super) fn upstreams(checker: &mut Checker<'_>, listen: SocketAddr) -> Vec<provider::Config> {
    let mut find = Finder { checker, listen, found: Vec::new() };
    for preset in PRESETS.iter().filter(|preset| !preset.models.is_empty()) {
        find.known(preset);
    }
    find.azure();
    find.ollama();
    let mut found = find.found;
    if let [only] = found.as_mut_slice() {
        only.models = vec!["*".to_owned()];
    }
    // Who is asked for every model comes after those who surely know theirs.
    found.sort_by_key(|provider| provider.models == ["*"]);
    found
}

/// The most keys of one provider that are looked for.
const MOST_KEYS: u32 = 20;

struct Finder<'c, 'e> {
    checker: &'c mut Checker<'e>,
    listen: SocketAddr,
    found: Vec<provider::Config>,
}

impl<'e> Finder<'_, 'e> {
    fn environment(&self) -> &'e Environment {
        self.checker.surroundings.environment
    }

    fn known(&mut self, known: &'static Preset) {
        let api_key = self.api_key(known);
        let elsewhere = match known.kind {
            ProviderKind::OpenAi => {
                let url = self.environment().get("OPENAI_BASE_URL");
                self.base_url(known.name, "OPENAI_BASE_URL", url)
            }
            _ => None,
        };
        let default = known.base_url.unwrap_or_default();
        match elsewhere.filter(|url| url != default) {
            // Nobody knows which models another server has.
            Some(url) => self.add(known, url, api_key, &["*"]),
            None if api_key.is_some() => {
                self.add(known, default.to_owned(), api_key, known.models);
            }
            None => {}
        }
    }

    fn ollama(&mut self) {
        let Some(preset) = named("ollama") else { return };
        let url = self.environment().get("OLLAMA_HOST").map(ollama_url);
        if let Some(base_url) = self.base_url(preset.name, "OLLAMA_HOST", url.as_deref()) {
            self.add(preset, base_url, None, OLLAMA_MODELS);
        }
    }

    /// Azure's key says nothing without an address, and the names of its models are everybody's own.
    fn azure(&mut self) {
        let Some(preset) = named("azure") else { return };
        let url = self.environment().get("AZURE_OPENAI_ENDPOINT").map(str::to_owned);
        if self.environment().get("AZURE_OPENAI_API_KEY").is_none() {
            return;
        }
        if let Some(base_url) = self.base_url(preset.name, "AZURE_OPENAI_ENDPOINT", url.as_deref()) {
            let api_key = self.api_key(preset);
            self.add(preset, preset.kind.base_url(&base_url), api_key, &["*"]);
        }
    }

    fn api_key(&mut self, known: &'static Preset) -> Option<Secret> {
        let environment = self.environment();
        let (variable, key) = known.keys.iter().find_map(|name| Some((*name, environment.get(name)?)))?;
        let place = self.record(known.name, "api_key", variable);
        let key = Found { value: Secret::new(key), place };
        self.checker.sendable(&key);
        Some(key.value)
    }

    /// The keys in `OPENAI_API_KEY_2` and so on, named by their numbers.
    fn further_keys(&mut self, known: &'static Preset) -> Vec<(String, Secret)> {
        let mut keys = Vec::new();
        let Some(variable) = known.keys.iter().find(|name| self.environment().get(name).is_some()) else {
            return keys;
        };
        for nth in 2..=MOST_KEYS {
            let variable = format!("{variable}_{nth}");
            let Some(key) = self.environment().get(&variable) else { break };
            let place = Place { key: format!("profile.{nth}.api_key"), origin: Origin::Variable(variable) };
            let key = Found { value: Secret::new(key), place };
            self.checker.sendable(&key);
            keys.push((nth.to_string(), key.value));
        }
        keys
    }

    /// The address in a variable, unless it is our own. Clients are pointed at us by `OPENAI_BASE_URL`, and
    /// we may well have been started from the same shell.
    fn base_url(&mut self, name: &str, variable: &str, url: Option<&str>) -> Option<String> {
        let address = Address::new(url?);
        if address.as_ref().is_ok_and(|address| address.is_served_by(self.listen)) {
            let note = format!("{variable} is where weir itself listens, so it makes no upstream");
            self.checker.findings.notes.push(note);
            return None;
        }
        let place = self.record(name, "base_url", variable);
        address
            .map(|address| address.url)
            .map_err(|reason| self.checker.findings.problem(&place, reason))
            .ok()
    }

    /// Notes where a value came from.
    fn record(&mut self, name: &str, key: &str, variable: &str) -> Place {
        let place =
            Place { key: format!("upstream.{name}.{key}"), origin: Origin::Variable(variable.to_owned()) };
        self.checker.findings.origins.insert(place.key.clone(), place.origin.clone());
        place
    }

    fn add(&mut self, preset: &'static Preset, base_url: String, api_key: Option<Secret>, models: &[&str]) {
        let profiles = self.further_keys(preset);
        self.found.push(provider::Config {
            name: preset.name.to_owned(),
            kind: preset.kind,
            preset: preset.name,
            protocol: preset.kind.protocol(),
            base_url,
            api_key,
            models: models.iter().map(|pattern| (*pattern).to_owned()).collect(),
            model_names: Vec::new(),
            include_usage: true,
            context_windows: Vec::new(),
            max_tokens: Vec::new(),
            rotation: Rotation::default(),
            profiles,
            needs_key: false,
            headers: Vec::new(),
            connect_timeout: CONNECT_TIMEOUT,
            first_token_timeout: FIRST_TOKEN_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            reply_timeout: REPLY_TIMEOUT,
            limits: crate::upstream::queue::Limits::default(),
            price: None,
            listed: super::upstreams::listed(preset, preset.base_url.unwrap_or_default()),
        });
    }
}

/// The address of what Ollama's own tools take for a host: it may lack scheme, host and
/// port, and where a server was told to listen everywhere, a client goes to this machine.
fn ollama_url(host: &str) -> String {
    let host = host.trim().trim_end_matches('/');
    let (scheme, host, default_port) = match host.split_once("://") {
        Some((scheme, host)) => (scheme, host, ""),
        None => ("http", host, ":11434"),
    };
    let (authority, path) = host.split_once('/').map_or((host, String::new()), |(a, p)| (a, format!("/{p}")));
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => (name, format!(":{port}")),
        _ => (authority, default_port.to_owned()),
    };
    let name = match name {
        "" | "0.0.0.0" => "127.0.0.1",
        "::" | "[::]" => "[::1]",
        name => name,
    };
    format!("{scheme}://{name}{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ollama_host_may_lack_anything() {
        for (host, url) in [
            ("127.0.0.1", "http://127.0.0.1:11434"),
            ("gpu-box:8000", "http://gpu-box:8000"),
            (":11500", "http://127.0.0.1:11500"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:11434", "http://127.0.0.1:11434"),
            ("[::]:11434", "http://[::1]:11434"),
            ("[::1]", "http://[::1]:11434"),
            ("http://gpu-box:11434/", "http://gpu-box:11434"),
            ("https://ollama.example.com", "https://ollama.example.com"),
            ("https://example.com/ollama", "https://example.com/ollama"),
        ] {
            assert_eq!(ollama_url(host), url, "{host}");
        }
    }
}
