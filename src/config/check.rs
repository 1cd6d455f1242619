//! What was typed becomes what it means: ranges, choices, addresses, and what must not go together.

use super::error::Findings;
use super::expand::Surroundings;
use super::origin::{Origin, Place};
use super::raw::{self, Raw};
use super::read::{Context, Found, Text, Texts};
use super::schema::nearest;
use super::{
    Config, Encoder, Local, Rules, SentenceModel, Source, Store, identity, journal, prices, quotas, routes,
    upstreams, webhooks,
};
use crate::cache::bound::AnswerJudge;
use crate::device::DeviceChoice;
use crate::embed::Precision;
use crate::intent::Naming;
use crate::models::is_model_name;
use crate::store::{Room, embedded};
use crate::upstream::local::TooLong;
use crate::upstream::{is_local, provider};
use crate::{cache, embed, limits, server, telemetry};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// No wait is longer than a day, and none is so short that it is not one.
pub(super) const WAIT_SECONDS: RangeInclusive<i64> = 1..=86_400;
/// Waits within a request.
const WAIT_MS: RangeInclusive<i64> = 1..=60_000;
/// How long a write may wait for its flush; 0 is not at all.
const FLUSH_MS: RangeInclusive<i64> = 0..=60_000;
/// Ten years, the longest an answer can be worth keeping.
pub(super) const TTL_SECONDS: RangeInclusive<i64> = 1..=315_360_000;
/// Queues take memory for each that waits.
pub(super) const QUEUE: RangeInclusive<i64> = 1..=1_000_000;
/// More than one in five is no answer any more.
const MAX_WRONG: RangeInclusive<f64> = 0.0..=0.2;
const SHARE: RangeInclusive<f64> = 0.0..=1.0;
/// A switch, in words.
/// Where a model may be wanted to run.
const DEVICES: [(&str, DeviceChoice); 3] =
    [("auto", DeviceChoice::Auto), ("cpu", DeviceChoice::Cpu), ("cuda", DeviceChoice::Cuda)];
pub(super) const ON_OFF: [(&str, bool); 2] = [("on", true), ("off", false)];
/// Below, MiniLM takes questions for the same that are not: an answer from there would often be wrong.
const SIMILARITY: RangeInclusive<f64> = 0.0..=1.0;

/// Checks everything. What is wrong goes to the findings, and its default stands in, so that the rest is
/// checked too.
pub(super) fn check(raw: Raw, context: Context<'_>, file: Option<PathBuf>) -> (Config, Findings) {
    let mut check = Checker { findings: context.findings, surroundings: context.surroundings };
    let data_dir = check.data_dir(raw.top.data_dir.as_ref());
    let models_dir = check.models_dir(raw.top.models_dir.as_ref(), &data_dir);
    let limits = check.limits(raw.server.concurrent_requests.as_ref(), raw.limit);
    let mut server = check.server(&raw.server, raw.client);
    server.replay = check.replay(&raw.replay);
    server.notice = check.choice(raw.chain.notice.as_ref(), &server::Notice::ALL).unwrap_or_default();
    server.compat_headers = raw.cache.compat_headers.as_ref().is_none_or(|typed| typed.value);
    let mut local = check.local(&raw.local);
    let failover = check.chain(&raw.chain);
    let routed = routes::mentioned(&raw.route);
    let (mut upstreams, chain) =
        upstreams::check(&mut check, (raw.upstream, &routed), &raw.chain, &mut local, server.listen);
    if let (true, None, Some(enabled)) = (chain.is_empty(), &raw.chain.order, &raw.local.enabled) {
        check.findings.problem(&enabled.place, "without it and without an [[upstream]], nobody would answer");
    }
    check.profiles(raw.profile, &mut upstreams);
    let known = routes::Known { providers: &upstreams, local: local.as_ref(), chain: &chain };
    let routes = routes::check(&mut check, &raw.route, &known);
    if local.is_none() {
        check.no_local(raw.cache.answer_judge_model.as_ref());
        check.no_local(raw.rules.model.as_ref());
    }
    let passthrough_upstream = check.passthrough(raw.server.passthrough_upstream.as_ref(), &upstreams);
    let (store, store_deadline) = check.store(&raw.store, &data_dir);
    let (encoder, embed) = check.embed(&raw.embed);
    let config = Config {
        server,
        limits,
        upstreams,
        chain,
        routes,
        prices: prices::check(&mut check, &raw.prices),
        failover,
        webhooks: webhooks::check(&mut check, raw.webhook),
        passthrough_upstream,
        cache: check.cache(&raw.cache, raw.project, raw.cache_rule),
        encoder,
        embed,
        store,
        store_deadline,
        rules: check.rules(raw.rules),
        local,
        log: check.log(&raw.log),
        journal: journal::check(&mut check, raw.journal, &data_dir),
        data_dir,
        models_dir,
        notes: std::mem::take(&mut check.findings.notes),
        source: Source { file, origins: std::mem::take(&mut check.findings.origins) },
    };
    (config, check.findings)
}

/// Checks values, and keeps what it finds.
pub(super) struct Checker<'e> {
    pub(super) findings: Findings,
    pub(super) surroundings: Surroundings<'e>,
}

/// Sections.
impl Checker<'_> {
    fn data_dir(&mut self, typed: Option<&Found<Text>>) -> PathBuf {
        if let Some(path) = self.path(typed) {
            return path;
        }
        match &self.surroundings.environment.data_dir {
            Some(folder) => folder.join("weir"),
            None if typed.is_some() => PathBuf::new(),
            None => {
                let place = Place { key: "data_dir".to_owned(), origin: Origin::Default };
                let reason = "this user has no folder for data (HOME is not set); set data_dir, WEIR_DATA_DIR or --data-dir";
                self.findings.problem(&place, reason);
                PathBuf::new()
            }
        }
    }

    fn models_dir(&mut self, typed: Option<&Found<Text>>, data_dir: &Path) -> PathBuf {
        let beside = self.surroundings.environment.working_dir.join("models");
        match self.path(typed) {
            Some(path) => path,
            None if holds_models(&beside) => beside,
            None => data_dir.join("models"),
        }
    }

    fn limits(
        &mut self,
        concurrent_requests: Option<&Found<i64>>,
        raw: Vec<Found<raw::Limit>>,
    ) -> limits::Config {
        let limits::Config { concurrent_requests: default, limits: _ } = limits::Config::default();
        limits::Config {
            concurrent_requests: self.whole(concurrent_requests, 1..=1_000_000, default),
            limits: quotas::check(self, raw),
        }
    }

    fn server(&mut self, raw: &raw::Server, clients: Vec<Found<raw::Client>>) -> server::Config {
        let default = server::Config::default();
        let listen = self.listen(raw.listen.as_ref(), default.listen, clients.is_empty());
        server::Config {
            listen,
            clients: self.clients(clients),
            max_body_bytes: self.whole(raw.max_body_mb.as_ref(), 1..=1024, default.max_body_bytes >> 20)
                << 20,
            // The HTTP library needs 8 KiB to work in.
            max_header_bytes: self.whole(
                raw.max_header_kb.as_ref(),
                8..=1024,
                default.max_header_bytes >> 10,
            ) << 10,
            max_connections: self.whole(raw.max_connections.as_ref(), 1..=1_000_000, default.max_connections),
            header_timeout: self.wait(raw.header_timeout_seconds.as_ref(), default.header_timeout),
            body_timeout: self.wait(raw.body_timeout_seconds.as_ref(), default.body_timeout),
            request_timeout: self.wait(raw.request_timeout_seconds.as_ref(), default.request_timeout),
            shutdown_grace: self.seconds(
                raw.shutdown_grace_seconds.as_ref(),
                0..=*WAIT_SECONDS.end(),
                default.shutdown_grace,
            ),
            passthrough: raw.passthrough.as_ref().map_or(default.passthrough, |typed| typed.value),
            replay: default.replay,
            compat_headers: default.compat_headers,
            notice: default.notice,
        }
    }

    fn replay(&mut self, raw: &raw::Replay) -> server::Replay {
        let usage = [("kept", false), ("zero", true)];
        let pace = [("at_once", false), ("paced", true)];
        let default = server::Replay::default();
        let pace_default = default.tokens_per_second.get();
        let tokens_per_second = self.whole(raw.tokens_per_second.as_ref(), 1..=10_000, pace_default);
        server::Replay {
            zero_usage: self.choice(raw.usage.as_ref(), &usage).unwrap_or(default.zero_usage),
            paced: self.choice(raw.pace.as_ref(), &pace).unwrap_or(default.paced),
            tokens_per_second: NonZeroU32::new(tokens_per_second).unwrap_or(default.tokens_per_second),
        }
    }

    fn passthrough(&mut self, typed: Option<&Found<Text>>, upstreams: &[provider::Config]) -> Option<String> {
        let name = self.filled(typed)?;
        if let (Some(typed), false) = (typed, upstreams.iter().any(|upstream| upstream.name == name)) {
            let near = nearest(&name, upstreams.iter().map(|upstream| upstream.name.as_str()));
            let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
            self.findings.problem(&typed.place, format!("there is no provider named \"{name}\"{near}"));
        }
        Some(name)
    }

    fn listen(&mut self, typed: Option<&Found<Text>>, default: SocketAddr, no_clients: bool) -> SocketAddr {
        let Some(Found { value: text, place }) = typed else { return default };
        let Ok(listen) = text.value.parse::<SocketAddr>() else {
            let reason = format!("\"{}\" is not an address and a port, like {default}", text.typed);
            self.findings.problem(place, reason);
            return default;
        };
        if no_clients && !listen.ip().to_canonical().is_loopback() {
            let reason = format!(
                "{listen} can be reached from other machines, and without a [[client]] anyone there could use \
                 your keys; add a [[client]] with a key, or listen on {default}"
            );
            self.findings.problem(place, reason);
        }
        listen
    }

    fn clients(&mut self, raw: Vec<Found<raw::Client>>) -> Vec<server::Client> {
        let mut clients: Vec<server::Client> = Vec::with_capacity(raw.len());
        for Found { value: client, place } in raw {
            let name = self.name(client.name.as_ref(), &place, clients.iter().map(|known| &*known.name));
            match &client.key {
                Some(key) => self.sendable(key),
                None => self.findings.missing(&place, "key", "the key this client will show"),
            }
            let (Some(name), Some(key)) = (name, client.key) else { continue };
            if let Some(twin) = clients.iter().find(|known| known.key.matches(key.value.expose())) {
                let reason =
                    format!("the client \"{}\" has the same key, so nobody can tell them apart", twin.name);
                self.findings.problem(&key.place, reason);
            }
            let tenant = self.filled(client.tenant.as_ref()).unwrap_or_else(|| name.clone());
            clients.push(server::Client { name, key: key.value, tenant });
        }
        clients
    }

    fn cache(
        &mut self,
        raw: &raw::Cache,
        projects: Vec<Found<raw::Project>>,
        rules: Vec<Found<raw::CacheRule>>,
    ) -> cache::Config {
        let default = cache::Config::default();
        let (answer_judge, answer_judge_model) = self.answer_judge(raw);
        let semantic = [cache::Semantic::On, cache::Semantic::Shadow, cache::Semantic::Off]
            .map(|mode| (mode.name(), mode));
        cache::Config {
            exact: self.choice(raw.exact.as_ref(), &ON_OFF).unwrap_or(default.exact),
            semantic: self.choice(raw.semantic.as_ref(), &semantic).unwrap_or(default.semantic),
            min_similarity: self
                .real(raw.min_similarity.as_ref(), SIMILARITY)
                .map_or(default.min_similarity, |similarity| similarity as f32),
            coalesce: raw.coalesce.as_ref().map_or(default.coalesce, |typed| typed.value),
            policy: self.policy(raw, rules),
            write_queue: self.whole(raw.write_queue.as_ref(), QUEUE, default.write_queue),
            bound: cache::bound::Config {
                max_wrong: self.real(raw.max_wrong.as_ref(), MAX_WRONG).unwrap_or(default.bound.max_wrong),
                check_share: self.real(raw.check_share.as_ref(), SHARE).unwrap_or(default.bound.check_share),
                answer_judge,
                answer_judge_model,
                ..default.bound
            },
            settings: identity::settings(self, raw),
            projects: identity::projects(self, projects),
        }
    }

    /// A model that Weir itself asks, where there is no local one.
    fn no_local(&mut self, typed: Option<&Found<Text>>) {
        let Some(typed) = typed.filter(|typed| is_local(typed.value.value.trim())) else { return };
        let reason = format!("\"{}\": there is no local model: local.enabled is false", typed.value.typed);
        self.findings.problem(&typed.place, reason);
    }

    /// Who compares answers; a model can only be asked by its name.
    fn answer_judge(&mut self, raw: &raw::Cache) -> (AnswerJudge, Option<String>) {
        let judges = [("text", AnswerJudge::Text), ("llm", AnswerJudge::Llm)];
        let judge = self.choice(raw.answer_judge.as_ref(), &judges).unwrap_or_default();
        let model = raw.answer_judge_model.as_ref().map(|typed| typed.value.value.trim().to_owned());
        let model = model.filter(|model| !model.is_empty());
        if let (AnswerJudge::Llm, None, Some(typed)) = (judge, &model, &raw.answer_judge) {
            self.findings.problem(&typed.place, "needs cache.answer_judge_model, the model to ask");
        }
        (judge, model)
    }

    fn embed(&mut self, raw: &raw::Embed) -> (Encoder, embed::Config) {
        let default = embed::Config::default();
        let config = embed::Config {
            queue: self.whole(raw.queue.as_ref(), QUEUE, default.queue),
            max_batch: self.whole(raw.max_batch.as_ref(), 1..=1024, default.max_batch),
            deadline: self.millis(raw.deadline_ms.as_ref(), default.deadline),
        };
        let changes = [("reembed", true), ("ignore", false)];
        let default = Encoder::default();
        let encoder = Encoder {
            model: self.sentence_model(raw.model.as_ref()).unwrap_or(default.model),
            reembed: self.choice(raw.on_model_change.as_ref(), &changes).unwrap_or(default.reembed),
            device: self.choice(raw.device.as_ref(), &DEVICES).unwrap_or(default.device),
            precision: self.choice(raw.precision.as_ref(), &Precision::ALL).unwrap_or(default.precision),
            threads: match self.whole(raw.threads.as_ref(), 0..=256, 0) {
                0 => None,
                threads => Some(threads),
            },
        };
        (encoder, config)
    }

    /// A path says so by its beginning; anything else is a name.
    fn sentence_model(&mut self, typed: Option<&Found<Text>>) -> Option<SentenceModel> {
        let text = self.filled(typed)?;
        if text.starts_with('.') || text.starts_with('~') || Path::new(&text).is_absolute() {
            return self.path(typed).map(SentenceModel::Folder);
        }
        if is_model_name(&text) {
            return Some(SentenceModel::Named(text));
        }
        let place = &typed?.place;
        self.findings
            .problem(place, "neither a folder (\"/models/mine\", \"./mine\") nor the name of a model");
        None
    }

    fn store(&mut self, raw: &raw::Store, data_dir: &Path) -> (Store, Duration) {
        let default = embedded::Config::default();
        let room = Room {
            max_entries: self.whole(raw.max_entries.as_ref(), 1..=1_000_000_000, default.max_entries),
            max_bytes: self.whole(raw.max_mb.as_ref(), 1..=1_048_576, default.max_bytes >> 20) << 20,
        };
        let embedded = embedded::Config {
            path: self.path(raw.path.as_ref()).unwrap_or_else(|| data_dir.join("store")),
            flush: Duration::from_millis(self.whole(
                raw.flush_ms.as_ref(),
                FLUSH_MS,
                default.flush.as_millis() as u64,
            )),
            max_entries: room.max_entries,
            max_bytes: room.max_bytes,
            index_bytes: self.whole(raw.index_mb.as_ref(), 1..=1_048_576, default.index_bytes >> 20) << 20,
        };
        let deadline = self.millis(raw.deadline_ms.as_ref(), super::STORE_DEADLINE);
        let kinds = [("embedded", true), ("memory", false)];
        match self.choice(raw.kind.as_ref(), &kinds) {
            Some(false) => (Store::Memory(room), deadline),
            _ => (Store::Embedded(embedded), deadline),
        }
    }

    fn rules(&mut self, raw: raw::Rules) -> Rules {
        let default = Rules::default();
        let naming = self.naming(&raw);
        let services = raw.services.map(|hosts| hosts.value).unwrap_or_default();
        Rules {
            naming,
            shipped: raw.shipped.as_ref().map_or(default.shipped, |typed| typed.value),
            reload: self.seconds(raw.reload_seconds.as_ref(), 0..=3600, default.reload),
            services: services.iter().filter_map(|host| self.filled(Some(host))).collect(),
            secrets: upstreams::headers(self, raw.secrets),
            files: self.rule_files(raw.files),
        }
    }

    fn naming(&mut self, raw: &raw::Rules) -> Naming {
        let model = raw.model.as_ref().map_or("", |typed| typed.value.value.trim());
        let default = Naming::by(model);
        Naming {
            sure: self.real(raw.model_sure.as_ref(), SHARE).unwrap_or(default.sure),
            deadline: self.millis(raw.model_deadline_ms.as_ref(), default.deadline),
            ..default
        }
    }

    fn rule_files(&mut self, files: Option<Found<Texts>>) -> Vec<PathBuf> {
        let Some(files) = files else { return self.default_rules() };
        let mut paths = Vec::with_capacity(files.value.len());
        for file in &files.value {
            let Some(path) = self.path(Some(file)) else { continue };
            if !path.is_file() {
                self.findings.problem(&file.place, format!("there is no file {}", path.display()));
            }
            paths.push(path);
        }
        paths
    }

    fn default_rules(&self) -> Vec<PathBuf> {
        let working = self.surroundings.environment.working_dir.as_path();
        let folders = self.surroundings.config_dir.into_iter().chain([working]);
        folders.map(|folder| folder.join("rules.toml")).find(|path| path.is_file()).into_iter().collect()
    }

    fn local(&mut self, raw: &raw::Local) -> Option<Local> {
        /// A month: whoever means never says 0.
        const MAX_IDLE_SECONDS: i64 = 30 * 24 * 60 * 60;
        let too_long = [("trim", TooLong::Trim), ("refuse", TooLong::Refuse)];
        let Local { name, model, config: default } = Local::default();
        let local = Local {
            name,
            model: self.filled(raw.model.as_ref()).unwrap_or(model),
            config: crate::upstream::local::Config {
                device: self.choice(raw.device.as_ref(), &DEVICES).unwrap_or(default.device),
                queue: self.whole(raw.queue.as_ref(), QUEUE, default.queue),
                context: self.whole(raw.context.as_ref(), 64..=4096, default.context),
                max_tokens: self.whole(raw.max_tokens.as_ref(), 1..=1_048_576, default.max_tokens),
                too_long: self.choice(raw.too_long.as_ref(), &too_long).unwrap_or(default.too_long),
                idle_unload: self.seconds(
                    raw.idle_unload_seconds.as_ref(),
                    0..=MAX_IDLE_SECONDS,
                    default.idle_unload,
                ),
                file: default.file,
            },
        };
        raw.enabled.as_ref().is_none_or(|enabled| enabled.value).then_some(local)
    }

    fn log(&mut self, raw: &raw::Log) -> telemetry::Config {
        use telemetry::Format;
        let default = telemetry::Config::default();
        let formats = [("auto", Format::Auto), ("human", Format::Human), ("json", Format::Json)];
        telemetry::Config {
            filter: self.log_filter(raw.level.as_ref()).unwrap_or(default.filter),
            format: self.choice(raw.format.as_ref(), &formats).unwrap_or(default.format),
        }
    }

    fn log_filter(&mut self, typed: Option<&Found<Text>>) -> Option<String> {
        let level = self.filled(typed)?;
        // Anything that is no level would be taken for a module, and all others fall silent.
        let is_level = |directive: &str| {
            let level = directive.rsplit('=').next().unwrap_or(directive);
            level.trim().parse::<LevelFilter>().is_ok()
        };
        if let (false, Some(typed)) = (level.split(',').all(is_level), typed) {
            let reason = "expected a level (trace, debug, info, warn, error, off), or levels by module \
                          (info,weir::cache=debug)";
            self.findings.problem(&typed.place, format!("{reason}, found \"{}\"", typed.value.typed));
        }
        Some(level)
    }
}

/// Values.
impl Checker<'_> {
    /// A path, from the root.
    pub(super) fn path(&mut self, typed: Option<&Found<Text>>) -> Option<PathBuf> {
        let text = self.filled(typed)?;
        let place = &typed?.place;
        if text == "~" || text.starts_with("~/") {
            self.findings.problem(place, "a \"~\" is the shell's; write ${HOME}");
        }
        Some(self.surroundings.resolve(&text, &place.origin))
    }

    /// Text that must not be empty.
    pub(super) fn filled(&mut self, typed: Option<&Found<Text>>) -> Option<String> {
        let Found { value: text, place } = typed?;
        if text.value.trim().is_empty() {
            self.findings.problem(place, "must not be empty");
            return None;
        }
        Some(text.value.clone())
    }

    /// The name of a table in an array: it goes into headers, metrics and variables.
    pub(super) fn name<'n>(
        &mut self,
        typed: Option<&Found<Text>>,
        table: &Place,
        mut known: impl Iterator<Item = &'n str>,
    ) -> Option<String> {
        let Some(found) = typed else {
            self.findings.missing(table, "name", "give it a name of its own");
            return None;
        };
        let name = self.filled(typed)?;
        let simple = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.len() > 64 || !name.chars().all(simple) {
            let reason = "must be at most 64 letters (a-z), digits, \"-\", \"_\" or \".\"";
            self.findings.problem(&found.place, reason);
        }
        if let Some(twin) = known.find(|known| super::env::screaming(known) == super::env::screaming(&name)) {
            let reason =
                format!("there is a \"{twin}\" already, and their variables would have the same names");
            self.findings
                .problem(&found.place, if twin == name { "is used twice".to_owned() } else { reason });
        }
        Some(name)
    }

    /// A secret that will travel in a header.
    pub(super) fn sendable(&mut self, secret: &Found<crate::secret::Secret>) {
        let text = secret.value.expose();
        if text.is_empty() {
            self.findings.problem(&secret.place, "must not be empty");
        } else if !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
            self.findings.problem(&secret.place, "holds a character that cannot be sent in a header");
        }
    }

    /// One of a few names.
    pub(super) fn choice<T: Copy>(
        &mut self,
        typed: Option<&Found<Text>>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let Found { value: text, place } = typed?;
        let chosen = choices.iter().find(|(name, _)| *name == text.value);
        if chosen.is_none() {
            let names = || choices.iter().map(|(name, _)| *name);
            let near = nearest(&text.value, names()).map(|near| format!("; did you mean \"{near}\"?"));
            let all = names().collect::<Vec<_>>().join(", ");
            let reason = format!("\"{}\" is none of {all}{}", text.typed, near.unwrap_or_default());
            self.findings.problem(place, reason);
        }
        chosen.map(|(_, value)| *value)
    }

    pub(super) fn whole<T: TryFrom<i64>>(
        &mut self,
        typed: Option<&Found<i64>>,
        range: RangeInclusive<i64>,
        default: T,
    ) -> T {
        let Some(Found { value, place }) = typed else { return default };
        let value =
            Some(*value).filter(|value| range.contains(value)).and_then(|value| T::try_from(value).ok());
        value.unwrap_or_else(|| {
            self.findings.problem(place, format!("must be from {} to {}", range.start(), range.end()));
            default
        })
    }

    pub(super) fn real(&mut self, typed: Option<&Found<f64>>, range: RangeInclusive<f64>) -> Option<f64> {
        let Found { value, place } = typed?;
        // A NaN is in no range.
        if !range.contains(value) {
            self.findings.problem(place, format!("must be from {:?} to {:?}", range.start(), range.end()));
            return None;
        }
        Some(*value)
    }

    pub(super) fn wait(&mut self, typed: Option<&Found<i64>>, default: Duration) -> Duration {
        self.seconds(typed, WAIT_SECONDS, default)
    }

    pub(super) fn seconds(
        &mut self,
        typed: Option<&Found<i64>>,
        range: RangeInclusive<i64>,
        default: Duration,
    ) -> Duration {
        Duration::from_secs(self.whole(typed, range, default.as_secs()))
    }

    fn millis(&mut self, typed: Option<&Found<i64>>, default: Duration) -> Duration {
        Duration::from_millis(self.whole(typed, WAIT_MS, default.as_millis() as u64))
    }
}

/// Whether a folder holds our models. Folders called `models` are common, so weights alone say nothing.
fn holds_models(folder: &Path) -> bool {
    folder.join("manifest.toml").is_file()
        || ["minilm", &Local::default().model].iter().any(|model| folder.join(model).is_dir())
}
