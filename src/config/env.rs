//! The environment: read once, here and nowhere else; and laid over the file, every key by its variable.
//!
//! `server.listen` is `WEIR_SERVER_LISTEN`. A table of an array goes by its name: the `api_key` of the
//! upstream `primary` is `WEIR_UPSTREAM_PRIMARY_API_KEY`, and where there is no upstream of that name, its
//! variables make one.

use super::error::Findings;
use super::origin::{Origin, Place};
use super::schema::{Key, array_keys, nearest, section_keys};
use super::tree::{Entry, Node, Table, Value, element_path, entry, join};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Names the configuration file.
pub const CONFIG_VARIABLE: &str = "WEIR_CONFIG";

const PREFIX: &str = "WEIR_";

/// Variables that are ours, but no keys of the configuration: for the file's path, for `weir ask`, and for
/// scripts around us. Those that end in `_` stand for all that begin so.
const NOT_KEYS: &[&str] =
    &[CONFIG_VARIABLE, "WEIR_URL", "WEIR_API_KEY", "WEIR_BIN", "WEIR_LAB_", "WEIR_BENCH_", "WEIR_MUTATIONS"];

/// What the machine says: variables and folders. Not `Debug`: keys of providers are among the variables.
#[derive(Default)]
pub struct Environment {
    /// The variables. An empty one counts as not set.
    pub variables: BTreeMap<String, OsString>,
    /// What relative paths are relative to.
    pub working_dir: PathBuf,
    /// Where the user's configurations are, if this machine has such a folder.
    pub config_dir: Option<PathBuf>,
    /// Where the user's data is, if this machine has such a folder.
    pub data_dir: Option<PathBuf>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let folders = etcetera::choose_base_strategy().ok();
        Self {
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
            working_dir: std::env::current_dir().unwrap_or_default(),
            config_dir: folders.as_ref().map(etcetera::BaseStrategy::config_dir),
            data_dir: folders.as_ref().map(etcetera::BaseStrategy::data_dir),
        }
    }

    /// One of these variables alone, and no folders.
    pub fn with<'v>(variables: impl IntoIterator<Item = (&'v str, &'v str)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        Self { variables, ..Self::default() }
    }

    /// The value of a variable, if it is set, not empty, and text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name)?.to_str().filter(|value| !value.is_empty())
    }
}

/// Lays every `WEIR_…` variable over `tree`.
pub(super) fn overlay(tree: &mut Table, environment: &Environment, findings: &mut Findings) {
    let ours = environment.variables.iter().filter(|(name, _)| name.starts_with(PREFIX));
    for (variable, value) in ours {
        let origin = Origin::Variable(variable.clone());
        let not_a_key = Place { key: String::new(), origin: origin.clone() };
        match value.to_str() {
            Some("") => {}
            Some(value) if is_no_key(variable, value) => {}
            None => findings.problem(&not_a_key, "not valid UTF-8"),
            Some(value) => match Target::of(variable) {
                Some(target) => target.set(tree, value, &origin, findings),
                None => findings.problem(&not_a_key, unknown(variable, tree)),
            },
        }
    }
}

/// Sets the key at `path`, as a variable would.
pub(super) fn set(tree: &mut Table, path: &str, value: &str, findings: &mut Findings) {
    let origin = Origin::Flag("--set");
    let variable = format!("{PREFIX}{}", screaming(path));
    if let Some(target) = Target::of(&variable) {
        return target.set(tree, value, &origin, findings);
    }
    let keys: Vec<String> = section_keys().map(|(section, key)| join(section, key.name)).collect();
    let near = nearest(path, keys.iter().map(String::as_str));
    let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    let place = Place { key: path.to_owned(), origin };
    findings.problem(&place, format!("there is no such key{near}"));
}

fn is_no_key(variable: &str, value: &str) -> bool {
    let listed = |name: &&str| *name == variable || (name.ends_with('_') && variable.starts_with(*name));
    NOT_KEYS.iter().any(listed) || is_from_kubernetes(variable, value)
}

/// Kubernetes tells every pod about every service: one called `weir` gives `WEIR_SERVICE_HOST`, `WEIR_PORT`
/// (`tcp://10.0.0.7:4100`), `WEIR_PORT_4100_TCP_ADDR` and more. They must not keep us from starting.
fn is_from_kubernetes(variable: &str, value: &str) -> bool {
    let port =
        variable.split_once("_PORT_").is_some_and(|(_, port)| port.starts_with(|c: char| c.is_ascii_digit()));
    let address = variable.ends_with("_PORT") && value.contains("://");
    port || address || variable.contains("_SERVICE_HOST") || variable.contains("_SERVICE_PORT")
}

/// The key a variable stands for.
enum Target {
    Section { section: &'static str, key: &'static Key },
    Element { array: &'static str, name: String, key: &'static Key },
}

impl Target {
    fn of(variable: &str) -> Option<Self> {
        let in_section = section_keys().find(|(section, key)| section_variable(section, key) == variable);
        if let Some((section, key)) = in_section {
            return Some(Self::Section { section, key });
        }
        // The key of the longest name wins, should one end like another.
        array_keys()
            .filter(|(_, key)| key.name != "name")
            .filter_map(|(array, key)| {
                let name =
                    variable.strip_prefix(PREFIX)?.strip_prefix(&screaming(array))?.strip_prefix('_')?;
                let name = name.strip_suffix(&screaming(key.name))?.strip_suffix('_')?;
                (!name.is_empty()).then(|| Self::Element { array, name: name.to_owned(), key })
            })
            .max_by_key(|target| target.key().name.len())
    }

    fn key(&self) -> &'static Key {
        match self {
            Self::Section { key, .. } | Self::Element { key, .. } => key,
        }
    }

    fn set(&self, tree: &mut Table, value: &str, origin: &Origin, findings: &mut Findings) {
        let Some((path, table)) = self.table(tree, origin) else {
            // There is something else in its place, and the reader will say so.
            return;
        };
        match self.key().kind.parse(value, origin) {
            Ok(value) => {
                table.insert(self.key().name.to_owned(), entry(value, origin));
            }
            Err(reason) => {
                // What the file says there does not count any more.
                table.remove(self.key().name);
                let place = Place { key: join(&path, self.key().name), origin: origin.clone() };
                findings.problem(&place, reason);
            }
        }
    }

    /// The table the key belongs to, and its path. It is made where there is none.
    fn table<'t>(&self, tree: &'t mut Table, origin: &Origin) -> Option<(String, &'t mut Table)> {
        match self {
            Self::Section { section: "", .. } => Some((String::new(), tree)),
            Self::Section { section, .. } => {
                let made = || entry(Value::Table(Table::new()), origin);
                match &mut tree.entry((*section).to_owned()).or_insert_with(made).node.value {
                    Value::Table(table) => Some(((*section).to_owned(), table)),
                    _ => None,
                }
            }
            Self::Element { array, name, .. } => {
                let made = || entry(Value::List(Vec::new()), origin);
                match &mut tree.entry((*array).to_owned()).or_insert_with(made).node.value {
                    Value::List(items) => element(items, array, name, origin),
                    _ => None,
                }
            }
        }
    }
}

/// The one of `items` called `name` in a variable; a new one if there is none.
fn element<'t>(
    items: &'t mut Vec<Node>,
    array: &str,
    name: &str,
    origin: &Origin,
) -> Option<(String, &'t mut Table)> {
    let index = items.iter().position(|item| element_name(item).is_some_and(|own| screaming(own) == name));
    let index = index.unwrap_or_else(|| {
        let own_name = entry(Value::Text(name.to_lowercase()), origin);
        let table = Table::from([("name".to_owned(), own_name)]);
        items.push(Node { value: Value::Table(table), origin: origin.clone() });
        items.len() - 1
    });
    match &mut items[index].value {
        Value::Table(table) => Some((element_path(array, index, table), table)),
        _ => None,
    }
}

fn element_name(item: &Node) -> Option<&str> {
    let Value::Table(table) = &item.value else { return None };
    match &table.get("name")?.node.value {
        Value::Text(name) => Some(name),
        _ => None,
    }
}

fn section_variable(section: &str, key: &Key) -> String {
    format!("{PREFIX}{}", screaming(&join(section, key.name)))
}

/// As it is written in a variable: `my-gateway.eu` is `MY_GATEWAY_EU`.
pub(super) fn screaming(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn unknown(variable: &str, tree: &Table) -> String {
    let of_sections = section_keys().map(|(section, key)| section_variable(section, key));
    let of_elements = array_keys().filter(|(_, key)| key.name != "name").flat_map(|(array, key)| {
        names(tree, array)
            .map(move |name| format!("{PREFIX}{}", screaming(&format!("{array}_{name}_{}", key.name))))
    });
    let known: Vec<String> = of_sections.chain(of_elements).collect();
    // All begin alike, and that makes no two of them any more alike.
    let own = |variable| str::strip_prefix(variable, PREFIX).unwrap_or(variable);
    match nearest(own(variable), known.iter().map(|known| own(known.as_str()))) {
        Some(near) => format!("stands for no key of the configuration; did you mean {PREFIX}{near}?"),
        None => "stands for no key of the configuration; `weir config init` lists them all".to_owned(),
    }
}

fn names<'t>(tree: &'t Table, array: &str) -> impl Iterator<Item = &'t str> + use<'t> {
    let items = match tree.get(array) {
        Some(Entry { node: Node { value: Value::List(items), .. }, .. }) => items.as_slice(),
        _ => &[],
    };
    items.iter().filter_map(element_name)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Overrides};
    use super::*;

    /// For each key: what a variable says, and what `weir config show` then says.
    const SAMPLES: &[(&str, &str, &str)] = &[
        ("data_dir", "/data", r#""/data""#),
        ("models_dir", "/models", r#""/models""#),
        ("server.listen", "127.0.0.1:4999", r#""127.0.0.1:4999""#),
        ("server.max_body_mb", "1", "1"),
        ("server.max_header_kb", "9", "9"),
        ("server.max_connections", "2", "2"),
        ("server.concurrent_requests", "3", "3"),
        ("server.header_timeout_seconds", "4", "4"),
        ("server.body_timeout_seconds", "5", "5"),
        ("server.request_timeout_seconds", "6", "6"),
        ("server.shutdown_grace_seconds", "0", "0"),
        ("server.passthrough", "false", "false"),
        ("server.passthrough_upstream", "spare", r#""spare""#),
        ("replay.usage", "zero", r#""zero""#),
        ("replay.pace", "paced", r#""paced""#),
        ("replay.tokens_per_second", "50", "50"),
        ("chain.order", "local, spare", r#"["local", "spare"]"#),
        ("chain.cooldowns", "classic", r#""classic""#),
        ("chain.cooldown_seconds", "5, 10", r#"["5", "10"]"#),
        ("chain.billing_cooldown_seconds", "60", "60"),
        ("chain.failure_window_hours", "12", "12"),
        ("chain.short_wait_ms", "100", "100"),
        ("chain.max_wait_seconds", "0", "0"),
        ("chain.probe_seconds", "9", "9"),
        ("chain.max_attempts", "3", "3"),
        ("chain.backoff_ms", "0", "0"),
        ("chain.trigger_codes", "429, 503", r#"["429", "503"]"#),
        ("chain.trigger_on_auth_failure", "false", "false"),
        ("chain.trigger_on_timeout", "false", "false"),
        ("chain.max_calls", "4", "4"),
        ("chain.retry_share", "0.2", "0.2"),
        ("chain.breaker_share", "0.9", "0.9"),
        ("chain.breaker_calls", "20", "20"),
        ("chain.slow_after_ms", "5000", "5000"),
        ("chain.degraded_at", "2.5", "2.5"),
        ("chain.hedge_after", "p95", r#""p95""#),
        ("chain.notice", "inline", r#""inline""#),
        ("cache.exact", "off", r#""off""#),
        ("cache.semantic", "off", r#""off""#),
        ("cache.min_similarity", "0.9", "0.9"),
        ("cache.max_wrong", "0.02", "0.02"),
        ("cache.check_share", "0.1", "0.1"),
        ("cache.answer_judge", "text", r#""text""#),
        ("cache.answer_judge_model", "small", r#""small""#),
        ("cache.coalesce", "false", "false"),
        ("cache.ttl_seconds", "7", "7"),
        ("cache.volatile_ttl_seconds", "0", "0"),
        ("cache.stale_if_error_seconds", "1", "1"),
        ("cache.stale_while_revalidate_seconds", "2", "2"),
        ("cache.max_stale_seconds", "3", "3"),
        ("cache.max_temperature", "0", "0.0"),
        ("cache.max_answer_kb", "4", "4"),
        ("cache.store_refusals", "true", "true"),
        ("cache.store_tool_calls", "true", "true"),
        ("cache.volatile_words", "today,this week", r#"["today", "this week"]"#),
        ("cache.chance_words", "dice", r#"["dice"]"#),
        ("cache.compat_headers", "false", "false"),
        ("cache.write_queue", "8", "8"),
        ("cache.context", "last", r#""last""#),
        ("cache.client", "plain", r#""plain""#),
        ("cache.tools", "on", r#""on""#),
        ("cache.mask", "uuids, /a[0-9]+$$/", r#"["uuids", "/a[0-9]+$$/"]"#),
        ("embed.model", "/my/model", r#""/my/model""#),
        ("embed.on_model_change", "ignore", r#""ignore""#),
        ("embed.device", "cpu", r#""cpu""#),
        ("embed.precision", "bf16", r#""bf16""#),
        ("embed.threads", "3", "3"),
        ("embed.queue", "9", "9"),
        ("embed.max_batch", "10", "10"),
        ("embed.deadline_ms", "11", "11"),
        ("store.kind", "memory", r#""memory""#),
        ("store.path", "/store", r#""/store""#),
        ("store.flush_ms", "12", "12"),
        ("store.max_entries", "13", "13"),
        ("store.max_mb", "14", "14"),
        ("store.index_mb", "14", "14"),
        ("store.deadline_ms", "15", "15"),
        ("prices.list", "false", "false"),
        ("prices.file", "a file that is there", "its path"),
        ("rules.files", "a file that is there", "its path"),
        ("rules.shipped", "false", "false"),
        ("rules.reload_seconds", "5", "5"),
        ("rules.services", "a:1, b", r#"["a:1", "b"]"#),
        ("rules.secrets", "a=sk-secret", r#"{ a = "***" }"#),
        ("rules.model", "small", r#""small""#),
        ("rules.model_sure", "0.5", "0.5"),
        ("rules.model_deadline_ms", "900", "900"),
        ("journal.enabled", "true", "true"),
        ("journal.content", "hashes", r#""hashes""#),
        ("journal.key", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", r#""***""#),
        ("journal.redact", "a+b", r#"["a+b"]"#),
        ("journal.projects", "music, home", r#"["music", "home"]"#),
        ("journal.max_file_mb", "2", "2"),
        ("journal.max_mb", "20", "20"),
        ("journal.queue", "21", "21"),
        ("local.enabled", "false", "false"),
        ("local.model", "other", r#""other""#),
        ("local.device", "cpu", r#""cpu""#),
        ("local.queue", "16", "16"),
        ("local.context", "1024", "1024"),
        ("local.max_tokens", "18", "18"),
        ("local.too_long", "refuse", r#""refuse""#),
        ("local.idle_unload_seconds", "60", "60"),
        ("log.level", "debug", r#""debug""#),
        ("log.format", "json", r#""json""#),
        ("client.editor.key", "sk-secret", r#""***""#),
        ("client.editor.tenant", "team", r#""team""#),
        ("project.music.context", "system+last", r#""system+last""#),
        ("project.music.client", "openclaw", r#""openclaw""#),
        ("project.music.tools", "on", r#""on""#),
        ("project.music.mask", "system:paths", r#"["system:paths"]"#),
        ("upstream.spare.kind", "ollama", r#""ollama""#),
        ("upstream.spare.base_url", "http://host/v1", r#""http://host/v1""#),
        ("upstream.spare.api_key", "sk-secret", r#""***""#),
        ("upstream.spare.api", "responses", r#""responses""#),
        ("upstream.spare.model_names", "a=b,*=c", r#"["a=b", "*=c"]"#),
        ("upstream.spare.include_usage", "false", "false"),
        ("upstream.spare.models", "gpt-*,o1*", r#"["gpt-*", "o1*"]"#),
        ("upstream.spare.context_windows", "gpt-*=8000,*=128000", r#"["gpt-*=8000", "*=128000"]"#),
        ("upstream.spare.max_tokens", "gpt-*=4096", r#"["gpt-*=4096"]"#),
        ("upstream.spare.key_rotation", "round_robin", r#""round_robin""#),
        ("webhook.spare.url", "https://host/sk-secret", r#""***""#),
        ("webhook.spare.secret", "sk-secret of sixteen", r#""***""#),
        ("webhook.spare.events", "breaker,budget", r#"["breaker", "budget"]"#),
        ("webhook.spare.timeout_seconds", "39", "39"),
        ("webhook.spare.retries", "7", "7"),
        ("webhook.spare.quiet_seconds", "0", "0"),
        ("profile.second.upstream", "spare", r#""spare""#),
        ("profile.second.api_key", "sk-secret", r#""***""#),
        ("upstream.spare.headers", "x-a=sk-secret, x-b=2", r#"{ x-a = "***", x-b = "***" }"#),
        ("upstream.spare.connect_timeout_seconds", "19", "19"),
        ("upstream.spare.first_token_timeout_seconds", "20", "20"),
        ("upstream.spare.idle_timeout_seconds", "21", "21"),
        ("upstream.spare.reply_timeout_seconds", "22", "22"),
        ("upstream.spare.cost_per_million_input_tokens", "0.5", "0.5"),
        ("upstream.spare.cost_per_million_output_tokens", "1.5", "1.5"),
        ("upstream.spare.max_concurrent", "27", "27"),
        ("upstream.spare.requests_per_minute", "28", "28"),
        ("upstream.spare.tokens_per_minute", "29", "29"),
        ("upstream.spare.min_spacing_ms", "30", "30"),
        ("upstream.spare.queue", "31", "31"),
        ("upstream.spare.queue_wait_seconds", "32", "32"),
        ("limit.spare.tenants", "acme", r#"["acme"]"#),
        ("limit.spare.projects", "docs", r#"["docs"]"#),
        ("limit.spare.models", "gpt-*", r#"["gpt-*"]"#),
        ("limit.spare.clients", "editor", r#"["editor"]"#),
        ("limit.spare.routes", "code*", r#"["code*"]"#),
        ("limit.spare.per", "header:X-User", r#""header:x-user""#),
        ("limit.spare.requests_per_minute", "33", "33"),
        ("limit.spare.burst", "34", "34"),
        ("limit.spare.tokens_per_minute", "35", "35"),
        ("limit.spare.concurrent_requests", "36", "36"),
        ("limit.spare.budget_tokens", "37", "37"),
        ("limit.spare.budget_hours", "38", "38"),
        ("route.way.models", "gpt-*", r#"["gpt-*"]"#),
        ("route.way.paths", "/v1/*", r#"["/v1/*"]"#),
        ("route.way.methods", "POST", r#"["POST"]"#),
        ("route.way.projects", "docs", r#"["docs"]"#),
        ("route.way.tenants", "acme", r#"["acme"]"#),
        ("route.way.headers", "x-team=ads", r#"{ x-team = "ads" }"#),
        ("route.way.query", "tier=gold", r#"{ tier = "gold" }"#),
        ("route.way.json_body", "temperature=0", "{ temperature = 0 }"),
        ("route.way.keywords", "code", r#"["code"]"#),
        ("route.way.regex", "[0-9]+", r#"["[0-9]+"]"#),
        ("route.way.min_tokens", "24", "24"),
        ("route.way.max_tokens", "25", "25"),
        ("route.way.strategy", "weighted", r#""weighted""#),
        ("route.way.upstreams", "spare=m,local", r#"["spare=m", "local"]"#),
        ("route.way.weights", "local=2", "{ local = 2 }"),
        ("route.way.percentage", "2.5", "2.5"),
        ("route.way.max_latency_ms", "26", "26"),
        ("route.way.hedge_after", "2s", r#""2000ms""#),
        ("route.way.sticky", "never", r#""never""#),
        ("route.way.last_resort", "none", r#""none""#),
        ("route.way.mirror", "spare=m", r#""spare=m""#),
        ("route.way.mirror_percentage", "3.5", "3.5"),
        ("cache_rule.spare.protocols", "gemini", r#"["gemini"]"#),
        ("cache_rule.spare.models", "gpt-*", r#"["gpt-*"]"#),
        ("cache_rule.spare.projects", "docs", r#"["docs"]"#),
        ("cache_rule.spare.words", "price list", r#"["price list"]"#),
        ("cache_rule.spare.json_body", "temperature=0,x=y", r#"{ temperature = 0, x = "y" }"#),
        ("cache_rule.spare.store", "true", "true"),
        ("cache_rule.spare.semantic", "false", "false"),
        ("cache_rule.spare.ttl_seconds", "23", "23"),
        ("cache_rule.spare.stale_if_error_seconds", "0", "0"),
        ("cache_rule.spare.volatile", "true", "true"),
    ];

    /// Every key there is, as a path.
    fn every_key() -> impl Iterator<Item = String> {
        let named = array_keys().filter(|(_, key)| key.name != "name").map(|(array, key)| {
            let name = match array {
                "client" => "editor",
                "project" => "music",
                "route" => "way",
                "profile" => "second",
                _ => "spare",
            };
            format!("{array}.{name}.{}", key.name)
        });
        section_keys().map(|(section, key)| join(section, key.name)).chain(named)
    }

    fn shown_with(path: &str, value: &str) -> String {
        let mut environment = Environment::with([
            ("WEIR_DATA_DIR", "/elsewhere"),
            ("WEIR_CLIENT_EDITOR_KEY", "sk-1"),
            ("WEIR_UPSTREAM_SPARE_KIND", "openai"),
            ("WEIR_UPSTREAM_SPARE_COST_PER_MILLION_INPUT_TOKENS", "1"),
            ("WEIR_UPSTREAM_SPARE_COST_PER_MILLION_OUTPUT_TOKENS", "1"),
        ]);
        // A profile is somebody's, and has a key.
        if path.starts_with("profile") {
            environment.variables.insert("WEIR_PROFILE_SECOND_UPSTREAM".to_owned(), "spare".into());
            environment.variables.insert("WEIR_PROFILE_SECOND_API_KEY".to_owned(), "sk-2".into());
        }
        // A rule must say what then holds.
        if path.starts_with("cache_rule") {
            environment.variables.insert("WEIR_CACHE_RULE_SPARE_STORE".to_owned(), "true".into());
        }
        // A route must lead somewhere, and some of its keys mean something beside others only.
        if path.starts_with("route") {
            for (name, value) in [("UPSTREAMS", "local"), ("MIRROR", "spare")] {
                environment.variables.insert(format!("WEIR_ROUTE_WAY_{name}"), value.into());
            }
        }
        if path.starts_with("limit") {
            for name in ["REQUESTS_PER_MINUTE", "BUDGET_TOKENS"] {
                environment.variables.insert(format!("WEIR_LIMIT_SPARE_{name}"), "1".into());
            }
        }
        if path.starts_with("webhook") {
            for (name, value) in [("URL", "https://host/sk-3"), ("SECRET", "sk-3 and sixteen letters")] {
                environment.variables.insert(format!("WEIR_WEBHOOK_SPARE_{name}"), value.into());
            }
        }
        if path == "route.way.percentage" {
            environment.variables.insert("WEIR_ROUTE_WAY_STRATEGY".to_owned(), "ab".into());
        }
        environment.variables.insert(format!("{PREFIX}{}", screaming(path)), value.into());
        Config::load(&Overrides::default(), &environment).expect(path).show()
    }

    #[test]
    fn every_key_can_be_set_by_its_variable() {
        let rules = tempfile::NamedTempFile::new().unwrap();
        let rules_file = rules.path().to_str().unwrap();
        for path in every_key() {
            let sample = SAMPLES.iter().find(|(known, ..)| *known == path);
            let (_, value, shown) = sample.unwrap_or_else(|| panic!("no sample for the new key {path}"));
            let rules_shown = format!("[\"{rules_file}\"]");
            let (value, shown) = match path.as_str() {
                "rules.files" => (rules_file, rules_shown.clone()),
                "prices.file" => (rules_file, format!("\"{rules_file}\"")),
                _ => (*value, (*shown).to_owned()),
            };
            let page = shown_with(&path, value);
            let key = path.rsplit('.').next().unwrap();
            let line = format!("{key} = {shown}  # {PREFIX}{}", screaming(&path));
            assert!(page.contains(&line), "{line}\n is not in\n{page}");
            assert!(!page.contains("sk-"), "a secret in\n{page}");
        }
    }

    #[test]
    fn the_exceptions_hide_no_key() {
        for (section, key) in section_keys() {
            let variable = section_variable(section, key);
            assert!(!is_no_key(&variable, "x"), "{variable}");
        }
        for (array, key) in array_keys() {
            let variable = format!("{PREFIX}{}", screaming(&format!("{array}_primary_{}", key.name)));
            assert!(!is_no_key(&variable, "x"), "{variable}");
        }
    }

    #[test]
    fn each_variable_stands_for_one_key() {
        let mut variables: Vec<String> =
            section_keys().map(|(section, key)| section_variable(section, key)).collect();
        variables.sort();
        let count = variables.len();
        variables.dedup();
        assert_eq!(variables.len(), count);
    }

    #[test]
    fn kubernetes_may_announce_a_service_of_our_name() {
        for (name, value) in [
            ("WEIR_SERVICE_HOST", "10.0.0.7"),
            ("WEIR_SERVICE_PORT", "4100"),
            ("WEIR_SERVICE_PORT_HTTP", "4100"),
            ("WEIR_PORT", "tcp://10.0.0.7:4100"),
            ("WEIR_PORT_4100_TCP", "tcp://10.0.0.7:4100"),
            ("WEIR_SIDECAR_PORT_4100_TCP_PROTO", "tcp"),
        ] {
            assert!(is_no_key(name, value), "{name}");
        }
        assert!(!is_no_key("WEIR_SERVER_PORT", "4100"), "a slip for server.listen is not hidden");
    }
}
