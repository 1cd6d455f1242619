//! `weir config show`: the configuration in force, as TOML that loads again, each value with where it came
//! from. Everything is taken apart in full (no `..`), so that a new setting cannot be left out.

use super::origin::{Origin, Origins};
use super::tree::join;
use super::{
    Chain, Config, Encoder, Local, Prices, Rules, SentenceModel, Source, Store, quotas, routes,
    webhooks as hooks,
};
use crate::cache::bound::AnswerJudge;
use crate::cache::identity::{Masks, Overrides, Project, Settings};
use crate::cache::policy::{self, Rule, Then, When, WordLists};
use crate::chat::Protocol;
use crate::store::{Room, embedded};
use crate::upstream::health::{self, Preset};
use crate::upstream::prices::Price;
use crate::upstream::{chain, local, provider};
use crate::{cache, embed, journal, limits, server, telemetry};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use toml::Value;

/// What stands for a secret.
pub(super) const HIDDEN: &str = "***";

/// The whole configuration.
pub(super) fn show(config: &Config) -> String {
    let Config {
        data_dir,
        models_dir,
        server,
        limits,
        upstreams,
        chain,
        routes,
        prices,
        failover,
        webhooks,
        passthrough_upstream,
        cache,
        encoder,
        embed,
        store,
        store_deadline,
        rules,
        local,
        log,
        journal,
        notes: _,
        source: Source { file, origins },
    } = config;
    let mut page = Page { text: String::new(), origins };
    match file {
        Some(file) => page.comment(&format!("the file is {}", file.display())),
        None => page.comment("there is no file"),
    }
    page.keys("", vec![("data_dir", path(data_dir)), ("models_dir", path(models_dir))]);
    let passthrough = passthrough_upstream.as_deref().or(chain_head(upstreams, chain));
    page.section("server", server_keys(server, limits, passthrough));
    for client in &server.clients {
        page.element("client", &client.name, client_keys(client));
    }
    for upstream in upstreams {
        page.element("upstream", &upstream.name, upstream_keys(upstream));
    }
    if let Some(local) = local.as_ref().filter(|local| local.name != Local::DEFAULT_NAME) {
        page.element("upstream", &local.name, vec![("name", text(&local.name)), ("kind", text("local"))]);
    }
    page.section("replay", replay_keys(server.replay));
    for upstream in upstreams {
        for (name, _) in &upstream.profiles {
            page.element("profile", name, profile_keys(name, &upstream.name));
        }
    }
    page.section("chain", chain_keys(chain, failover, server.notice));
    for route in routes {
        page.element("route", &route.name, routes::shown(route, routes));
    }
    for limit in &limits.limits {
        page.element("limit", &limit.name, quotas::shown(limit));
    }
    for hook in webhooks {
        page.element("webhook", &hook.name, hooks::shown(hook));
    }
    page.section("prices", prices_keys(prices));
    page.section("cache", cache_keys(cache, server.compat_headers));
    for project in &cache.projects {
        page.element("project", &project.name, project_keys(project));
    }
    for rule in &cache.policy.rules {
        page.element("cache_rule", &rule.name, rule_keys(rule));
    }
    page.section("embed", embed_keys(encoder, *embed));
    page.section("store", store_keys(store, *store_deadline));
    page.section("rules", rules_keys(rules));
    page.section("local", local_keys(local.as_ref()));
    page.section("log", log_keys(log));
    page.section("journal", journal_keys(journal));
    page.text
}

fn rules_keys(rules: &Rules) -> Keys {
    let Rules { files, shipped, reload, services, secrets, naming } = rules;
    let hidden = secrets.iter().map(|(name, _)| (name.clone(), text(HIDDEN))).collect();
    vec![
        ("files", Value::Array(files.iter().map(|file| path(file)).collect())),
        ("shipped", Value::Boolean(*shipped)),
        ("reload_seconds", seconds(*reload)),
        ("services", texts(services)),
        ("secrets", Value::Table(hidden)),
        ("model", text(&naming.model)),
        ("model_sure", Value::Float(naming.sure)),
        ("model_deadline_ms", millis(naming.deadline)),
    ]
}

/// The first provider in the chain.
fn chain_head<'c>(upstreams: &'c [provider::Config], chain: &[String]) -> Option<&'c str> {
    let named = |name: &String| upstreams.iter().find(|upstream| upstream.name == *name);
    chain.iter().find_map(named).map(|upstream| upstream.name.as_str())
}

pub(super) type Keys = Vec<(&'static str, Value)>;

struct Page<'o> {
    text: String,
    origins: &'o Origins,
}

impl Page<'_> {
    fn comment(&mut self, comment: &str) {
        let _ = writeln!(self.text, "# {comment}");
    }

    fn section(&mut self, name: &str, keys: Keys) {
        let _ = writeln!(self.text, "\n[{name}]");
        self.keys(name, keys);
    }

    fn element(&mut self, array: &str, name: &str, keys: Keys) {
        let _ = writeln!(self.text, "\n[[{array}]]");
        self.keys(&join(array, name), keys);
    }

    fn keys(&mut self, path: &str, keys: Keys) {
        for (key, value) in keys {
            let origin = self.origins.get(&join(path, key)).unwrap_or(&Origin::Default);
            let _ = writeln!(self.text, "{key} = {value}  # {origin}");
        }
    }
}

fn server_keys(server: &server::Config, limits: &limits::Config, passthrough_upstream: Option<&str>) -> Keys {
    let server::Config {
        listen,
        clients: _, // sections of their own
        max_body_bytes,
        max_header_bytes,
        max_connections,
        header_timeout,
        body_timeout,
        request_timeout,
        shutdown_grace,
        passthrough,
        replay: _,         // a section of its own
        compat_headers: _, // in [cache]
        notice: _,         // in [chain]
    } = server;
    let limits::Config { concurrent_requests, limits: _ } = limits;
    let mut keys = vec![
        ("listen", text(&listen.to_string())),
        ("max_body_mb", number(max_body_bytes >> 20)),
        ("max_header_kb", number(max_header_bytes >> 10)),
        ("max_connections", number(*max_connections)),
        ("concurrent_requests", number(*concurrent_requests)),
        ("header_timeout_seconds", seconds(*header_timeout)),
        ("body_timeout_seconds", seconds(*body_timeout)),
        ("request_timeout_seconds", seconds(*request_timeout)),
        ("shutdown_grace_seconds", seconds(*shutdown_grace)),
        ("passthrough", Value::Boolean(*passthrough)),
    ];
    keys.extend(passthrough_upstream.map(|name| ("passthrough_upstream", text(name))));
    keys
}

fn replay_keys(replay: server::Replay) -> Keys {
    let server::Replay { zero_usage, paced, tokens_per_second } = replay;
    vec![
        ("usage", text(if zero_usage { "zero" } else { "kept" })),
        ("pace", text(if paced { "paced" } else { "at_once" })),
        ("tokens_per_second", number(tokens_per_second.get())),
    ]
}

fn client_keys(client: &server::Client) -> Keys {
    let server::Client { name, key: _, tenant } = client;
    vec![("name", text(name)), ("key", text(HIDDEN)), ("tenant", text(tenant))]
}

fn upstream_keys(upstream: &provider::Config) -> Keys {
    let provider::Config {
        name,
        kind,
        preset,
        protocol,
        base_url,
        api_key,
        models,
        model_names,
        include_usage,
        context_windows,
        max_tokens,
        rotation,
        profiles: _,  // sections of their own
        needs_key: _, // follows from the rest
        headers,
        connect_timeout,
        first_token_timeout,
        idle_timeout,
        reply_timeout,
        limits,
        price,
        listed: _, // goes by the address
    } = upstream;
    let mut keys = vec![("name", text(name)), ("kind", text(preset)), ("base_url", text(base_url))];
    if kind.is_openai_like() {
        let responses = *protocol == Protocol::OpenAiResponses;
        keys.push(("api", text(if responses { "responses" } else { "chat" })));
    }
    if api_key.is_some() {
        keys.push(("api_key", text(HIDDEN)));
    }
    keys.push(("models", texts(models)));
    if !model_names.is_empty() {
        let named = model_names.iter().map(|(client, provider)| text(&format!("{client}={provider}")));
        keys.push(("model_names", Value::Array(named.collect())));
    }
    keys.push(("include_usage", Value::Boolean(*include_usage)));
    for (key, list) in [("context_windows", context_windows), ("max_tokens", max_tokens)] {
        let named = list.iter().map(|(models, tokens)| text(&format!("{models}={tokens}")));
        keys.extend((!list.is_empty()).then(|| (key, Value::Array(named.collect()))));
    }
    keys.push(("key_rotation", text(rotation.name())));
    if !headers.is_empty() {
        let hidden = headers.iter().map(|(name, _)| (name.clone(), text(HIDDEN))).collect();
        keys.push(("headers", Value::Table(hidden)));
    }
    keys.extend([
        ("connect_timeout_seconds", seconds(*connect_timeout)),
        ("first_token_timeout_seconds", seconds(*first_token_timeout)),
        ("idle_timeout_seconds", seconds(*idle_timeout)),
        ("reply_timeout_seconds", seconds(*reply_timeout)),
    ]);
    keys.extend(quotas::shown_of_upstream(limits));
    if let Some(Price { input, output, .. }) = price {
        keys.push(("cost_per_million_input_tokens", Value::Float(*input)));
        keys.push(("cost_per_million_output_tokens", Value::Float(*output)));
    }
    keys
}

fn prices_keys(Prices { list, file }: &Prices) -> Keys {
    let file = file.as_ref().map_or_else(|| text(""), |file| path(file));
    vec![("list", Value::Boolean(*list)), ("file", file)]
}

fn profile_keys(name: &str, upstream: &str) -> Keys {
    vec![("name", text(name)), ("upstream", text(upstream)), ("api_key", text(HIDDEN))]
}

fn chain_keys(order: &[String], failover: &Chain, notice: server::Notice) -> Keys {
    let Chain { preset, cooldowns, rules, config, budget } = failover;
    let chain::Config { max_attempts, backoff, triggers, max_calls, max_wait, hedge } = config;
    let chain::Triggers { statuses, auth, timeout } = triggers;
    let health::Rules { billing, failure_window, short_wait, probe_every, breaker, latency, .. } = rules;
    let preset = Preset::ALL.iter().find(|(_, known)| known == preset).map_or("", |(name, _)| name);
    let cooldowns: Vec<String> = cooldowns.iter().map(|time| time.as_secs().to_string()).collect();
    vec![
        ("order", texts(order)),
        ("cooldowns", text(preset)),
        ("cooldown_seconds", texts(&cooldowns)),
        ("billing_cooldown_seconds", seconds(billing.nth(1))),
        ("failure_window_hours", number(failure_window.as_secs() / 3600)),
        ("short_wait_ms", millis(*short_wait)),
        ("max_wait_seconds", seconds(*max_wait)),
        ("probe_seconds", seconds(*probe_every)),
        ("max_attempts", number(*max_attempts)),
        ("backoff_ms", millis(backoff.first)),
        ("trigger_codes", texts(&statuses.shown())),
        ("trigger_on_auth_failure", Value::Boolean(*auth)),
        ("trigger_on_timeout", Value::Boolean(*timeout)),
        ("max_calls", number(*max_calls)),
        ("retry_share", Value::Float(budget.share)),
        ("breaker_share", Value::Float(breaker.share)),
        ("breaker_calls", number(breaker.least_calls)),
        ("slow_after_ms", millis(breaker.slow.unwrap_or_default())),
        ("degraded_at", Value::Float(latency.degraded_at)),
        ("hedge_after", text(&hedge.to_string())),
        ("notice", text(notice.name())),
    ]
}

fn cache_keys(cache: &cache::Config, compat_headers: bool) -> Keys {
    let cache::Config {
        exact,
        semantic,
        min_similarity,
        coalesce,
        policy,
        write_queue,
        bound,
        settings,
        projects: _,
    } = cache;
    let cache::bound::Config { max_wrong, check_share, answer_judge, answer_judge_model, seed: _ } = bound;
    let Settings { context, client, tools, mask } = settings;
    let mut keys = vec![
        ("exact", on_off(*exact)),
        ("semantic", text(semantic.name())),
        ("min_similarity", real(*min_similarity)),
        ("coalesce", Value::Boolean(*coalesce)),
        ("max_wrong", Value::Float(*max_wrong)),
        ("check_share", Value::Float(*check_share)),
        ("answer_judge", text(if *answer_judge == AnswerJudge::Text { "text" } else { "llm" })),
        ("answer_judge_model", text(answer_judge_model.as_deref().unwrap_or_default())),
    ];
    keys.extend(policy_keys(policy));
    keys.extend([
        ("compat_headers", Value::Boolean(compat_headers)),
        ("write_queue", number(*write_queue)),
        ("context", text(context.name())),
        ("client", text(client.name())),
        ("tools", on_off(*tools)),
        ("mask", masks(mask)),
    ]);
    keys
}

/// What is set; the rest is inherited.
fn project_keys(project: &Project) -> Keys {
    let Project { name, overrides: Overrides { context, client, tools, mask } } = project;
    let mut keys = vec![("name", text(name))];
    keys.extend(context.map(|context| ("context", text(context.name()))));
    keys.extend(client.map(|client| ("client", text(client.name()))));
    keys.extend(tools.map(|tools| ("tools", on_off(tools))));
    keys.extend(mask.as_ref().map(|mask| ("mask", masks(mask))));
    keys
}

/// As they were typed, but for the dollars: these are the strings of the file again.
fn masks(masks: &Masks) -> Value {
    Value::Array(masks.typed().map(|mask| Value::String(mask.replace('$', "$$"))).collect())
}

fn policy_keys(policy: &policy::Config) -> Keys {
    let policy::Config {
        ttl,
        volatile_ttl,
        stale_if_error,
        stale_while_revalidate,
        max_stale,
        max_temperature,
        max_answer_bytes,
        store_refusals,
        store_tool_calls,
        words: WordLists { volatile, chance },
        rules: _, // sections of their own
    } = policy;
    vec![
        ("ttl_seconds", seconds(*ttl)),
        ("volatile_ttl_seconds", seconds(*volatile_ttl)),
        ("stale_if_error_seconds", seconds(*stale_if_error)),
        ("stale_while_revalidate_seconds", seconds(*stale_while_revalidate)),
        ("max_stale_seconds", seconds(*max_stale)),
        ("max_temperature", Value::Float(*max_temperature)),
        ("max_answer_kb", number(max_answer_bytes >> 10)),
        ("store_refusals", Value::Boolean(*store_refusals)),
        ("store_tool_calls", Value::Boolean(*store_tool_calls)),
        ("volatile_words", texts(volatile)),
        ("chance_words", texts(chance)),
    ]
}

/// Only what is set: what is not, means something else than any value of it.
fn rule_keys(rule: &Rule) -> Keys {
    let Rule { name, when, then } = rule;
    let When { protocols, models, projects, words, body } = when;
    let Then { store, semantic, ttl, stale_if_error, volatile } = then;
    let mut keys = vec![("name", text(name))];
    let protocols: Vec<String> = protocols.iter().map(|protocol| protocol.name().to_owned()).collect();
    for (key, list) in
        [("protocols", &protocols), ("models", models), ("projects", projects), ("words", words)]
    {
        keys.extend((!list.is_empty()).then(|| (key, texts(list))));
    }
    if !body.is_empty() {
        let fields =
            body.iter().filter_map(|(path, value)| Some((path.clone(), Value::try_from(value).ok()?)));
        keys.push(("json_body", Value::Table(fields.collect())));
    }
    keys.extend(store.map(|store| ("store", Value::Boolean(store))));
    keys.extend(semantic.map(|semantic| ("semantic", Value::Boolean(semantic))));
    keys.extend(ttl.map(|ttl| ("ttl_seconds", seconds(ttl))));
    keys.extend(stale_if_error.map(|stale| ("stale_if_error_seconds", seconds(stale))));
    keys.extend(volatile.map(|volatile| ("volatile", Value::Boolean(volatile))));
    keys
}

fn embed_keys(encoder: &Encoder, embed: embed::Config) -> Keys {
    let Encoder { model, reembed, device, precision, threads } = encoder;
    let embed::Config { queue, max_batch, deadline } = embed;
    vec![
        match model {
            SentenceModel::Named(name) => ("model", text(name)),
            SentenceModel::Folder(folder) => ("model", path(folder)),
        },
        ("on_model_change", text(if *reembed { "reembed" } else { "ignore" })),
        ("device", text(&device.to_string())),
        ("precision", text(precision.name())),
        ("threads", number(threads.unwrap_or_default())),
        ("queue", number(queue)),
        ("max_batch", number(max_batch)),
        ("deadline_ms", millis(deadline)),
    ]
}

fn store_keys(store: &Store, deadline: Duration) -> Keys {
    let mut keys = match store {
        Store::Memory(Room { max_entries, max_bytes }) => vec![
            ("kind", text("memory")),
            ("max_entries", number(*max_entries)),
            ("max_mb", number(max_bytes >> 20)),
        ],
        Store::Embedded(embedded::Config { path: folder, flush, max_entries, max_bytes, index_bytes }) => {
            vec![
                ("kind", text("embedded")),
                ("path", path(folder)),
                ("flush_ms", millis(*flush)),
                ("max_entries", number(*max_entries)),
                ("max_mb", number(max_bytes >> 20)),
                ("index_mb", number(index_bytes >> 20)),
            ]
        }
    };
    keys.push(("deadline_ms", millis(deadline)));
    keys
}

fn local_keys(local: Option<&Local>) -> Keys {
    let Some(Local { name: _, model, config }) = local else {
        return vec![("enabled", Value::Boolean(false))];
    };
    let local::Config { file: _, device, queue, context, max_tokens, too_long, idle_unload } = config;
    let too_long = match too_long {
        local::TooLong::Trim => "trim",
        local::TooLong::Refuse => "refuse",
    };
    vec![
        ("enabled", Value::Boolean(true)),
        ("model", text(model)),
        ("device", text(&device.to_string())),
        ("queue", number(*queue)),
        ("context", number(*context)),
        ("max_tokens", number(*max_tokens)),
        ("too_long", text(too_long)),
        ("idle_unload_seconds", seconds(*idle_unload)),
    ]
}

fn journal_keys(journal: &journal::Config) -> Keys {
    let journal::Config {
        enabled,
        folder: _,
        salt: _,
        content,
        keys,
        redact,
        projects,
        max_file_bytes,
        max_bytes,
        queue,
    } = journal;
    vec![
        ("enabled", Value::Boolean(*enabled)),
        ("content", text(content.name())),
        ("key", text(if keys.is_empty() { "" } else { HIDDEN })),
        ("redact", texts(redact)),
        ("projects", texts(projects)),
        ("max_file_mb", number(max_file_bytes >> 20)),
        ("max_mb", number(max_bytes >> 20)),
        ("queue", number(*queue)),
    ]
}

fn log_keys(log: &telemetry::Config) -> Keys {
    let telemetry::Config { filter, format } = log;
    let format = match format {
        telemetry::Format::Auto => "auto",
        telemetry::Format::Human => "human",
        telemetry::Format::Json => "json",
    };
    vec![("level", text(filter)), ("format", text(format))]
}

pub(super) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub(super) fn texts(texts: &[String]) -> Value {
    Value::Array(texts.iter().map(|item| text(item)).collect())
}

fn path(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

/// Every number was checked to be in a range that fits.
pub(super) fn number(number: impl TryInto<i64>) -> Value {
    Value::Integer(number.try_into().unwrap_or(i64::MAX))
}

/// As it was typed: `0.97`, not the nearest `f32` to it.
fn real(number: f32) -> Value {
    Value::Float(number.to_string().parse().unwrap_or_else(|_| number.into()))
}

fn on_off(on: bool) -> Value {
    text(if on { "on" } else { "off" })
}

fn seconds(duration: Duration) -> Value {
    number(duration.as_secs())
}

pub(super) fn millis(duration: Duration) -> Value {
    number(duration.as_millis())
}
