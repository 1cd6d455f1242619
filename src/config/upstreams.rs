//! The upstreams, and the order in which they are asked.

use super::address::Address;
use super::check::Checker;
use super::origin::Place;
use super::read::{Found, Headers, Text, Texts};
use super::schema::nearest;
use super::{Local, raw, zero};
use crate::secret::Secret;
use crate::upstream::provider::{self, Price, ProviderKind};
use std::net::SocketAddr;
use std::time::Duration;

/// A connection that takes longer is better tried elsewhere.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Reasoning models think for a while before they speak.
pub(super) const FIRST_TOKEN_TIMEOUT: Duration = Duration::from_secs(90);
/// Once an answer flows, a long pause means that it has died.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// US dollars for a million tokens; the dearest model known is far below.
const PRICE: std::ops::RangeInclusive<f64> = 0.0..=1_000_000.0;

/// What an `[[upstream]]` can be.
#[derive(Clone, Copy)]
enum Kind {
    Provider(ProviderKind),
    Local,
}

const KINDS: [(&str, Kind); 6] = [
    ("openai", Kind::Provider(ProviderKind::OpenAi)),
    ("anthropic", Kind::Provider(ProviderKind::Anthropic)),
    ("gemini", Kind::Provider(ProviderKind::Gemini)),
    ("ollama", Kind::Provider(ProviderKind::Ollama)),
    ("generic", Kind::Provider(ProviderKind::Generic)),
    ("local", Kind::Local),
];

/// The name of a kind in the file.
pub(super) fn kind_name(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::OpenAi => "openai",
        ProviderKind::Anthropic => "anthropic",
        ProviderKind::Gemini => "gemini",
        ProviderKind::Ollama => "ollama",
        ProviderKind::Generic => "generic",
    }
}

/// Where a kind is, unless `base_url` says otherwise: its OpenAI-compatible endpoint.
pub(super) fn default_base_url(kind: ProviderKind) -> Option<&'static str> {
    match kind {
        ProviderKind::OpenAi => Some("https://api.openai.com/v1"),
        ProviderKind::Anthropic => Some("https://api.anthropic.com/v1"),
        ProviderKind::Gemini => Some("https://generativelanguage.googleapis.com/v1beta/openai"),
        ProviderKind::Ollama => Some("http://127.0.0.1:11434/v1"),
        ProviderKind::Generic => None,
    }
}

/// The providers and the chain. Without any `[[upstream]]` and without an order, both are made from the keys
/// in the environment.
pub(super) fn check(
    checker: &mut Checker<'_>,
    raw: Vec<Found<raw::Upstream>>,
    chain: &raw::Chain,
    local: &mut Option<Local>,
    listen: SocketAddr,
) -> (Vec<provider::Config>, Vec<String>) {
    if raw.is_empty() && chain.order.is_none() {
        let providers = zero::upstreams(checker, listen);
        let chain =
            providers.iter().map(|provider| provider.name.clone()).chain(name_of(local.as_ref())).collect();
        return (providers, chain);
    }
    let mut read =
        Upstreams { checker, listen, local, providers: Vec::new(), names: Vec::new(), renamed: false };
    for Found { value: upstream, place } in raw {
        read.add(upstream, &place);
    }
    let order = match &chain.order {
        Some(order) => read.order(order),
        None => read.order_as_written(),
    };
    (read.providers, order)
}

fn name_of(local: Option<&Local>) -> Option<String> {
    local.map(|local| local.name.clone())
}

struct Upstreams<'c, 'e> {
    checker: &'c mut Checker<'e>,
    listen: SocketAddr,
    local: &'c mut Option<Local>,
    providers: Vec<provider::Config>,
    /// As written, the local one among them.
    names: Vec<String>,
    /// An `[[upstream]]` of kind `local` was there.
    renamed: bool,
}

impl Upstreams<'_, '_> {
    fn add(&mut self, raw: raw::Upstream, place: &Place) {
        let name = self.checker.name(raw.name.as_ref(), place, self.names.iter().map(String::as_str));
        if raw.kind.is_none() {
            let kinds = KINDS.map(|(name, _)| name).join(", ");
            self.checker.findings.missing(place, "kind", &format!("one of {kinds}"));
        }
        let kind = self.checker.choice(raw.kind.as_ref(), &KINDS);
        self.names.extend(name.clone());
        match (kind, name) {
            (Some(Kind::Local), Some(name)) => self.rename_local(name, &raw, place),
            (Some(Kind::Provider(kind)), Some(name)) => self.add_provider(name, kind, raw, place),
            _ => {}
        }
    }

    fn rename_local(&mut self, name: String, raw: &raw::Upstream, place: &Place) {
        let findings = &mut self.checker.findings;
        match self.local {
            None => findings.problem(place, "there is no local model: local.enabled is false"),
            Some(_) if self.renamed => findings.problem(place, "there is one local model only"),
            Some(local) => local.name = name,
        }
        self.renamed = true;
        // Whatever else is set here would silently do nothing.
        for place in provider_settings(raw) {
            findings.problem(place, "means nothing for the local model; see [local]");
        }
    }

    fn add_provider(&mut self, name: String, kind: ProviderKind, raw: raw::Upstream, place: &Place) {
        if name == Local::DEFAULT_NAME {
            let place = raw.name.as_ref().map_or(place, |name| &name.place);
            self.checker.findings.problem(place, "this name is kept for the model in this process");
        }
        let base_url = self.base_url(kind, &raw, place);
        let price = self.price(&raw, place);
        let checker = &mut *self.checker;
        if let Some(key) = &raw.api_key {
            checker.sendable(key);
        }
        self.providers.push(provider::Config {
            name,
            kind,
            base_url,
            connect_timeout: checker.wait(raw.connect_timeout_seconds.as_ref(), CONNECT_TIMEOUT),
            first_token_timeout: checker.wait(raw.first_token_timeout_seconds.as_ref(), FIRST_TOKEN_TIMEOUT),
            idle_timeout: checker.wait(raw.idle_timeout_seconds.as_ref(), IDLE_TIMEOUT),
            models: models(checker, raw.models),
            headers: headers(checker, raw.headers),
            api_key: raw.api_key.map(|key| key.value),
            price,
        });
    }

    fn base_url(&mut self, kind: ProviderKind, raw: &raw::Upstream, table: &Place) -> String {
        let findings = &mut self.checker.findings;
        let Some(Found { value: typed, place }) = &raw.base_url else {
            let default = default_base_url(kind);
            if default.is_none() {
                findings.missing(table, "base_url", "where it is, like http://127.0.0.1:8000/v1");
            }
            return default.unwrap_or_default().to_owned();
        };
        match Address::new(&typed.value) {
            Ok(address) => {
                if address.is_served_by(self.listen) {
                    let reason = "weir itself listens there, and would ask itself for ever";
                    findings.problem(place, reason);
                }
                address.url
            }
            Err(reason) => {
                findings.problem(place, reason);
                String::new()
            }
        }
    }

    fn price(&mut self, raw: &raw::Upstream, place: &Place) -> Option<Price> {
        let input = raw.cost_per_million_input_tokens.as_ref();
        let output = raw.cost_per_million_output_tokens.as_ref();
        let lacking = match (input, output) {
            (Some(_), None) => Some("cost_per_million_output_tokens"),
            (None, Some(_)) => Some("cost_per_million_input_tokens"),
            _ => None,
        };
        if let Some(key) = lacking {
            self.checker.findings.missing(place, key, "a cost needs both, for tokens in and out");
        }
        let (input, output) = (self.checker.real(input, PRICE), self.checker.real(output, PRICE));
        Some(Price { input: input?, output: output? })
    }

    /// As the file lists them, and the local model last where it is not among them.
    /// As written, and at last the local model: it serves every model, so nobody behind it would be asked.
    fn order_as_written(&self) -> Vec<String> {
        let local = name_of(self.local.as_ref());
        let providers = self.names.iter().filter(|name| Some(*name) != local.as_ref());
        providers.cloned().chain(local.clone()).collect()
    }

    fn order(&mut self, typed: &Found<Texts>) -> Vec<String> {
        let mut order: Vec<String> = Vec::with_capacity(typed.value.len());
        if typed.value.is_empty() {
            self.checker.findings.problem(&typed.place, "must not be empty: nobody would answer");
        }
        for Found { value: text, place } in &typed.value {
            match self.known(&text.value) {
                None => {
                    let reason = self.unknown(text);
                    self.checker.findings.problem(place, reason);
                }
                Some(name) if order.contains(&name) => {
                    self.checker.findings.problem(place, format!("\"{name}\" is in it twice"));
                }
                Some(name) => order.push(name),
            }
        }
        self.note_idle(&order);
        order
    }

    /// The upstream called so. `local` is the local model even where it has another name.
    fn known(&self, name: &str) -> Option<String> {
        if name == Local::DEFAULT_NAME {
            return name_of(self.local.as_ref());
        }
        self.names.iter().find(|known| *known == name).cloned()
    }

    fn unknown(&self, name: &Text) -> String {
        if name.value == Local::DEFAULT_NAME {
            return "there is no local model: local.enabled is false".to_owned();
        }
        let local = self.local.as_ref().map(|local| local.name.as_str());
        let near = nearest(&name.value, self.names.iter().map(String::as_str).chain(local));
        let near = near.map(|near| format!("; did you mean \"{near}\"?"));
        format!("there is no [[upstream]] named \"{}\"{}", name.typed, near.unwrap_or_default())
    }

    fn note_idle(&mut self, order: &[String]) {
        for name in self.names.iter().filter(|name| !order.contains(name)) {
            let note = format!("upstream.{name} is not in chain.order, and is never asked");
            self.checker.findings.notes.push(note);
        }
    }
}

/// What is set of all that only a provider has.
fn provider_settings(raw: &raw::Upstream) -> impl Iterator<Item = &Place> {
    fn place<T>(found: Option<&Found<T>>) -> Option<&Place> {
        found.map(|found| &found.place)
    }
    let raw::Upstream {
        name: _,
        kind: _,
        base_url,
        api_key,
        models,
        headers,
        connect_timeout_seconds: connect,
        first_token_timeout_seconds: first_token,
        idle_timeout_seconds: idle,
        cost_per_million_input_tokens: input,
        cost_per_million_output_tokens: output,
    } = raw;
    [place(base_url.as_ref()), place(api_key.as_ref()), place(models.as_ref()), place(headers.as_ref())]
        .into_iter()
        .chain([
            place(connect.as_ref()),
            place(first_token.as_ref()),
            place(idle.as_ref()),
            place(input.as_ref()),
            place(output.as_ref()),
        ])
        .flatten()
}

fn models(checker: &mut Checker<'_>, typed: Option<Found<Texts>>) -> Vec<String> {
    let Some(Found { value: patterns, place }) = typed else { return vec!["*".to_owned()] };
    if patterns.is_empty() {
        checker.findings.problem(&place, "must not be empty; [\"*\"] is every model");
    }
    patterns.iter().filter_map(|pattern| checker.filled(Some(pattern))).collect()
}

fn headers(checker: &mut Checker<'_>, typed: Option<Found<Headers>>) -> Vec<(String, Secret)> {
    let typed = typed.map(|found| found.value).unwrap_or_default();
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    for (name, value) in &typed {
        if name.is_empty() || !name.chars().all(token) {
            checker.findings.problem(&value.place, format!("\"{name}\" cannot be the name of a header"));
        }
        checker.sendable(value);
    }
    typed.into_iter().map(|(name, value)| (name, value.value)).collect()
}
