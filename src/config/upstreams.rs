//! The upstreams, and the order in which they are asked.

use super::address::Address;
use super::chain::windows;
use super::check::Checker;
use super::origin::{Origin, Place};
use super::presets::{PRESETS, Preset};
use super::read::{Found, Headers, Text, Texts};
use super::schema::nearest;
use super::{Local, quotas, raw, zero};
use crate::chat::Protocol;
use crate::secret::Secret;
use crate::upstream::chain::Rotation;
use crate::upstream::prices::Price;
use crate::upstream::provider::{self, ProviderKind};
use std::net::SocketAddr;
use std::time::Duration;

/// A connection that takes longer is better tried elsewhere.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Reasoning models think for a while before they speak.
pub(super) const FIRST_TOKEN_TIMEOUT: Duration = Duration::from_secs(90);
/// Once an answer flows, a long pause means that it has died.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// A reply that comes whole says nothing until it is complete, and a reasoning model may take its time.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_mins(10);

/// US dollars for a million tokens; the dearest model known is far below.
const PRICE: std::ops::RangeInclusive<f64> = 0.0..=1_000_000.0;

/// What an `[[upstream]]` can be.
#[derive(Clone, Copy)]
enum Kind {
    Provider(&'static Preset),
    Local,
}

/// Every kind by its name.
fn kinds() -> Vec<(&'static str, Kind)> {
    let providers = PRESETS.iter().map(|preset| (preset.name, Kind::Provider(preset)));
    providers.chain([("local", Kind::Local)]).collect()
}

/// The providers and the chain. Without any `[[upstream]]` and without an order, both are made from the keys
/// in the environment.
pub(super) fn check(
    checker: &mut Checker<'_>,
    (raw, routed): (Vec<Found<raw::Upstream>>, &[String]),
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
        Some(order) => read.order(order, routed),
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
            let kinds = kinds().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            self.checker.findings.missing(place, "kind", &format!("one of {kinds}"));
        }
        let kind = self.checker.choice(raw.kind.as_ref(), &kinds());
        self.names.extend(name.clone());
        match (kind, name) {
            (Some(Kind::Local), Some(name)) => self.rename_local(name, &raw, place),
            (Some(Kind::Provider(preset)), Some(name)) => self.add_provider(name, preset, raw, place),
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

    fn add_provider(&mut self, name: String, preset: &'static Preset, raw: raw::Upstream, place: &Place) {
        if name == Local::DEFAULT_NAME {
            let place = raw.name.as_ref().map_or(place, |name| &name.place);
            self.checker.findings.problem(place, "this name is kept for the model in this process");
        }
        let base_url = self.base_url(preset, &raw, place);
        let price = self.price(&raw, place);
        let listed = listed(preset, &base_url);
        let limits = quotas::of_upstream(self.checker, &raw);
        let protocol = self.protocol(preset.kind, &raw);
        let api_key = self.api_key(&name, preset, &raw, &base_url);
        let needs_key = needs_key(preset, &base_url);
        let checker = &mut *self.checker;
        self.providers.push(provider::Config {
            name,
            kind: preset.kind,
            preset: preset.name,
            protocol,
            base_url,
            connect_timeout: checker.wait(raw.connect_timeout_seconds.as_ref(), CONNECT_TIMEOUT),
            first_token_timeout: checker.wait(raw.first_token_timeout_seconds.as_ref(), FIRST_TOKEN_TIMEOUT),
            idle_timeout: checker.wait(raw.idle_timeout_seconds.as_ref(), IDLE_TIMEOUT),
            reply_timeout: checker.wait(raw.reply_timeout_seconds.as_ref(), REPLY_TIMEOUT),
            models: models(checker, raw.models),
            model_names: model_names(checker, raw.model_names),
            include_usage: raw.include_usage.is_none_or(|typed| typed.value),
            context_windows: windows(checker, raw.context_windows),
            max_tokens: windows(checker, raw.max_tokens),
            rotation: checker.choice(raw.key_rotation.as_ref(), &Rotation::ALL).unwrap_or_default(),
            profiles: Vec::new(),
            needs_key,
            headers: headers(checker, raw.headers),
            api_key,
            limits,
            price,
            listed,
        });
    }

    /// The key that was typed, or the one that the provider's own tools would take from the environment. The
    /// latter never goes to an address that is not the provider's own.
    fn api_key(
        &mut self,
        name: &str,
        preset: &Preset,
        raw: &raw::Upstream,
        base_url: &str,
    ) -> Option<Secret> {
        if let Some(key) = &raw.api_key {
            self.checker.sendable(key);
            return Some(key.value.clone());
        }
        let at_home = is_at_home(preset, base_url);
        let environment = self.checker.surroundings.environment;
        let mut keys = preset.keys.iter().filter(|_| at_home);
        let (variable, key) = keys.find_map(|variable| Some((*variable, environment.get(variable)?)))?;
        let place =
            Place { key: format!("upstream.{name}.api_key"), origin: Origin::Variable(variable.to_owned()) };
        self.checker.findings.origins.insert(place.key.clone(), place.origin.clone());
        let key = Found { value: Secret::new(key), place };
        self.checker.sendable(&key);
        Some(key.value)
    }

    fn protocol(&mut self, kind: ProviderKind, raw: &raw::Upstream) -> Protocol {
        let apis = [("chat", Protocol::OpenAiChat), ("responses", Protocol::OpenAiResponses)];
        let Some(api) = self.checker.choice(raw.api.as_ref(), &apis) else { return kind.protocol() };
        if let (Some(typed), false) = (&raw.api, kind.is_openai_like()) {
            self.checker.findings.problem(&typed.place, "means something for OpenAI-compatible kinds only");
        }
        api
    }

    fn base_url(&mut self, preset: &Preset, raw: &raw::Upstream, table: &Place) -> String {
        let findings = &mut self.checker.findings;
        let Some(Found { value: typed, place }) = &raw.base_url else {
            if preset.base_url.is_none() {
                let example = match preset.kind {
                    ProviderKind::Azure => "where it is, like https://NAME.openai.azure.com/openai/v1",
                    _ => "where it is, like http://127.0.0.1:8000/v1",
                };
                findings.missing(table, "base_url", example);
            }
            return preset.base_url.unwrap_or_default().to_owned();
        };
        match Address::new(&typed.value) {
            Ok(address) => {
                if address.is_served_by(self.listen) {
                    let reason = "weir itself listens there, and would ask itself for ever";
                    findings.problem(place, reason);
                }
                preset.kind.base_url(&address.url)
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
        Some(Price::flat(input?, output?))
    }

    /// As the file lists them, and the local model last where it is not among them.
    /// As written, and at last the local model: it serves every model, so nobody behind it would be asked.
    fn order_as_written(&self) -> Vec<String> {
        let local = name_of(self.local.as_ref());
        let providers = self.names.iter().filter(|name| Some(*name) != local.as_ref());
        providers.cloned().chain(local.clone()).collect()
    }

    fn order(&mut self, typed: &Found<Texts>, routed: &[String]) -> Vec<String> {
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
        self.note_idle(&order, routed);
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

    fn note_idle(&mut self, order: &[String], routed: &[String]) {
        for name in self.names.iter().filter(|name| !order.contains(name) && !routed.contains(name)) {
            let note = format!("upstream.{name} is in no route and not in chain.order, and is never asked");
            self.checker.findings.notes.push(note);
        }
    }
}

/// Whether nobody is answered without a key: at the address where the provider's own tools look for one.
fn needs_key(preset: &Preset, base_url: &str) -> bool {
    !preset.keys.is_empty() && preset.base_url.is_some_and(|own| own == base_url)
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
        api,
        api_key,
        models,
        model_names,
        include_usage,
        context_windows,
        max_tokens,
        key_rotation,
        headers,
        connect_timeout_seconds: connect,
        first_token_timeout_seconds: first_token,
        idle_timeout_seconds: idle,
        reply_timeout_seconds: reply,
        max_concurrent,
        requests_per_minute,
        tokens_per_minute,
        min_spacing_ms,
        queue,
        queue_wait_seconds,
        cost_per_million_input_tokens: input,
        cost_per_million_output_tokens: output,
    } = raw;
    [place(base_url.as_ref()), place(api_key.as_ref()), place(models.as_ref()), place(headers.as_ref())]
        .into_iter()
        .chain([
            place(api.as_ref()),
            place(model_names.as_ref()),
            place(include_usage.as_ref()),
            place(context_windows.as_ref()),
            place(max_tokens.as_ref()),
            place(key_rotation.as_ref()),
            place(connect.as_ref()),
            place(first_token.as_ref()),
            place(idle.as_ref()),
            place(reply.as_ref()),
            place(max_concurrent.as_ref()),
            place(requests_per_minute.as_ref()),
            place(tokens_per_minute.as_ref()),
            place(min_spacing_ms.as_ref()),
            place(queue.as_ref()),
            place(queue_wait_seconds.as_ref()),
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

/// `client's name=provider's name`, each.
fn model_names(checker: &mut Checker<'_>, typed: Option<Found<Texts>>) -> Vec<(String, String)> {
    let typed = typed.map(|found| found.value).unwrap_or_default();
    let mut names = Vec::with_capacity(typed.len());
    for Found { value: text, place } in &typed {
        match text.value.split_once('=') {
            Some((client, provider)) if !client.trim().is_empty() && !provider.trim().is_empty() => {
                names.push((client.trim().to_owned(), provider.trim().to_owned()));
            }
            _ => {
                let reason =
                    format!("\"{}\" is not of the form \"client's name=provider's name\"", text.typed);
                checker.findings.problem(place, reason);
            }
        }
    }
    names
}

/// Whether an address is the provider's own.
fn is_at_home(preset: &Preset, base_url: &str) -> bool {
    match preset.base_url {
        Some(own) => base_url == own,
        None => preset.kind == ProviderKind::Azure && is_azure(base_url),
    }
}

/// Whose list prices hold there. Elsewhere the same model may cost anything.
pub(super) fn listed(preset: &Preset, base_url: &str) -> Option<&'static str> {
    let maker = if preset.kind == ProviderKind::Azure { "openai" } else { preset.name };
    is_at_home(preset, base_url).then_some(maker)
}

/// Whether an address is one of Azure's.
fn is_azure(url: &str) -> bool {
    let host = url.strip_prefix("https://").and_then(|rest| rest.split(['/', ':']).next());
    host.is_some_and(|host| host.ends_with(".azure.com"))
}

pub(super) fn headers(checker: &mut Checker<'_>, typed: Option<Found<Headers>>) -> Vec<(String, Secret)> {
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
