//! The configuration, through its public face: what loads, what is refused and in which words, and what is
//! shown of it.

use insta::assert_snapshot;
use std::path::Path;
use weir::config::{Config, Environment, Error, Overrides, Store};

/// A folder with a `weir.toml`, and an environment in which it is the working directory.
struct Bench {
    folder: tempfile::TempDir,
    environment: Environment,
    flags: Overrides,
}

impl Bench {
    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment {
            working_dir: folder.path().to_owned(),
            config_dir: Some(folder.path().join("config")),
            data_dir: Some("/home/ada/.local/share".into()),
            ..Environment::default()
        };
        Self { folder, environment, flags: Overrides::default() }
    }

    fn with_file(text: &str) -> Self {
        Self::empty().write("weir.toml", text)
    }

    fn write(self, name: &str, text: &str) -> Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn set(mut self, variable: &str, value: &str) -> Self {
        self.environment.variables.insert(variable.to_owned(), value.into());
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn load(&self) -> Result<Config, Error> {
        Config::load(&self.flags, &self.environment)
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    /// What is said against it, the folder's own path left out.
    fn refusal(&self) -> String {
        let error = self.load().expect_err("this should be refused").to_string();
        error.replace(self.path().to_str().unwrap(), "FOLDER")
    }
}

fn refusal(text: &str) -> String {
    Bench::with_file(text).refusal()
}

mod refusals {
    use super::*;

    #[test]
    fn of_an_unknown_key() {
        assert_snapshot!(refusal("[server]\nlisten = '127.0.0.1:1'\nlisten_on = 2\n  lisen = '127.0.0.1:4100'\n"), @r#"
        2 problems in the configuration
          weir.toml:3:1: server.listen_on: unknown key; did you mean "listen"?
          weir.toml:4:3: server.lisen: unknown key; did you mean "listen"?
        "#);
    }

    #[test]
    fn of_an_unknown_section() {
        assert_snapshot!(refusal("[cach]\nexact = 'on'\n"), @r#"weir.toml:1:2: cach: unknown key; did you mean "cache"?"#);
    }

    #[test]
    fn of_a_key_in_the_wrong_section() {
        assert_snapshot!(refusal("listen = '127.0.0.1:4100'\n"), @r#"weir.toml:1:1: listen: unknown key here; did you mean "server.listen"?"#);
    }

    #[test]
    fn of_a_key_that_is_near_to_nothing() {
        assert_snapshot!(refusal("[chain]\nstrategy = 'failover'\n"), @"weir.toml:2:1: chain.strategy: unknown key; known here: order, cooldowns, cooldown_seconds, billing_cooldown_seconds, failure_window_hours, short_wait_ms, max_wait_seconds, probe_seconds, max_attempts, backoff_ms, trigger_codes, trigger_on_auth_failure, trigger_on_timeout, max_calls, retry_share, breaker_share, breaker_calls, slow_after_ms, degraded_at, hedge_after, notice");
    }

    #[test]
    fn of_what_no_webhook_can_be_and_never_its_address_or_secret() {
        let text = "
[[webhook]]
name = 'ops'
url = 'ftp://hidden'
secret = 'short'
events = ['failover', 'braker']
retries = 11
[[webhook]]
name = 'two'
url = 'https://user:hidden@host/x'
secret = 'whsec_%%%%'
[[webhook]]
name = 'three'
[chain]
hedge_after = '5 minutes'
notice = 'loud'
";
        assert_snapshot!(refusal(text), @r#"
        9 problems in the configuration
          weir.toml:4:7: webhook.ops.url: must begin with http:// or https://
          weir.toml:5:10: webhook.ops.secret: must be at least 16 bytes long, to be hard to guess
          weir.toml:6:23: webhook.ops.events[1]: "braker" is none of failover, breaker, rate_limit, budget, all_failed; did you mean "breaker"?
          weir.toml:10:7: webhook.two.url: must not hold a user name or a key; use api_key or headers
          weir.toml:11:10: webhook.two.secret: begins with whsec_, and what follows is no base64
          weir.toml:12:1: webhook.three.url: missing; where events are sent
          weir.toml:12:1: webhook.three.secret: missing; what its events are signed with
          weir.toml:15:15: chain.hedge_after: "5 minutes" is none of off, p95 and a time like 800ms or 2s
          weir.toml:16:10: chain.notice: "loud" is none of header, inline
        "#);
    }

    #[test]
    fn of_what_no_chain_can_do() {
        let text = "
[[profile]]
name = 'second'
upstream = 'primery'
api_key = 'k'
[[profile]]
name = 'third'
[[upstream]]
name = 'primary'
kind = 'openai'
context_windows = ['gpt-*=lots']
key_rotation = 'random'
[chain]
cooldowns = 'newest'
cooldown_seconds = ['10', '0']
trigger_codes = ['429', '200']
max_attempts = 11
";
        assert_snapshot!(refusal(text), @r#"
        9 problems in the configuration
          weir.toml:4:12: profile.second.upstream: there is no [[upstream]] named "primery"; did you mean "primary"?
          weir.toml:6:1: profile.third.api_key: missing; a profile is a key of an upstream
          weir.toml:6:1: profile.third.upstream: missing; whose key it is
          weir.toml:11:20: upstream.primary.context_windows[0]: "gpt-*=lots" is not of the form "models=tokens"
          weir.toml:12:16: upstream.primary.key_rotation: "random" is none of order, round_robin
          weir.toml:14:13: chain.cooldowns: "newest" is none of classic, 2026.9
          weir.toml:15:27: chain.cooldown_seconds[1]: "0" is no number of seconds from 1 to 2592000
          weir.toml:16:25: chain.trigger_codes[1]: "200" is no status from 400 to 599, and neither 4xx nor 5xx
          weir.toml:17:16: chain.max_attempts: must be from 1 to 10
        "#);
    }

    #[test]
    fn of_rules_that_say_nothing_or_too_much() {
        let text = "
[[cache_rule]]
name = 'idle'
[[cache_rule]]
name = 'out'
store = false
ttl_seconds = 60
volatile = true
[[cache_rule]]
name = 'odd'
protocols = ['openai_chat', 'gemni']
json_body = { messages = [], since = 2026-01-01, temperature = 0 }
words = ['']
ttl_seconds = 0
[[cache_rule]]
name = 'out'
sotre = true
semantic = false
";
        assert_snapshot!(refusal(text), @r#"
        10 problems in the configuration
          weir.toml:2:1: cache_rule.idle: says nothing that holds; add store, semantic, ttl_seconds, stale_if_error_seconds or volatile
          weir.toml:7:15: cache_rule.out.ttl_seconds: means nothing where store is false
          weir.toml:8:12: cache_rule.out.volatile: means nothing where store is false
          weir.toml:11:29: cache_rule.odd.protocols[1]: "gemni" is none of openai_chat, openai_completions, openai_responses, anthropic, gemini, ollama_chat, ollama_generate; did you mean "gemini"?
          weir.toml:12:26: cache_rule.odd.json_body.messages: expected a string, a number or a switch, found a list
          weir.toml:12:38: cache_rule.odd.json_body.since: expected a string, a number or a switch, found a date
          weir.toml:13:10: cache_rule.odd.words[0]: must not be empty
          weir.toml:14:15: cache_rule.odd.ttl_seconds: must be from 1 to 315360000
          weir.toml:16:8: cache_rule.out.name: is used twice
          weir.toml:17:1: cache_rule.out.sotre: unknown key; did you mean "store"?
        "#);
    }

    #[test]
    fn of_routes_that_lead_nowhere_or_round() {
        let text = "
[[upstream]]
name = 'primary'
kind = 'openai'
api_key = 'sk-1'
[[route]]
name = 'primary'
upstreams = ['primary=m']
[[route]]
name = 'alias'
upstreams = ['primary', 'primry=m', 'primary=']
[[route]]
name = 'round'
models = ['*']
upstreams = ['about']
[[route]]
name = 'about'
upstreams = ['round', 'round=m']
";
        assert_snapshot!(refusal(text), @r#"
        4 problems in the configuration
          weir.toml:7:8: route.primary.name: there is an upstream named "primary" already
          weir.toml:11:25: route.alias.upstreams[1]: there is no [[upstream]] and no [[route]] named "primry"; did you mean "primary"?
          weir.toml:11:37: route.alias.upstreams[2]: "primary=" is not of the form "upstream=model"
          weir.toml:18:23: route.about.upstreams[1]: a route is not asked for a model; its own upstreams are
        "#);
    }

    #[test]
    fn of_routes_that_cannot_be_what_they_say() {
        let text = "
[[upstream]]
name = 'primary'
kind = 'openai'
api_key = 'sk-1'
[[route]]
name = 'alias'
upstreams = ['primary']
[[route]]
name = 'round'
upstreams = ['about']
[[route]]
name = 'about'
upstreams = ['round']
[[route]]
name = 'odd'
upstreams = ['primary=m', 'local']
strategy = 'cannary'
percentage = 5
regex = ['a(?=b)', '(']
min_tokens = 9
max_tokens = 1
weights = { other = 1, primary = -1, local = 0 }
mirror_percentage = 5
headers = { x-n = 5 }
[[route]]
name = 'half'
strategy = 'ab'
upstreams = []
";
        assert_snapshot!(refusal(text), @r#"
        12 problems in the configuration
          weir.toml:8:14: route.alias.upstreams[0]: for which model? nobody has one called "alias"; write "primary=MODEL"
          weir.toml:11:13: route.round.upstreams: leads back to itself: round → about → round
          weir.toml:18:12: route.odd.strategy: "cannary" is none of failover, first_available, round_robin, weighted, weighted_random, weighted_round_robin, lowest_latency, lowest_cost, least_busy, canary, ab; did you mean "canary"?
          weir.toml:20:10: route.odd.regex[0]: look-around, including look-ahead and look-behind, is not supported
          weir.toml:20:20: route.odd.regex[1]: unclosed group
          weir.toml:22:14: route.odd.max_tokens: no request has that many: min_tokens is above max_tokens
          weir.toml:23:11: route.odd.weights: "other" is none of this route's upstreams
          weir.toml:23:11: route.odd.weights: "primary" must be a whole number from 0 to 1000000
          weir.toml:24:21: route.odd.mirror_percentage: means nothing without mirror, the upstream that is asked beside
          weir.toml:25:11: route.odd.headers: "x-n" must be a string, in which * stands for anything
          weir.toml:26:1: route.half.percentage: missing; how many requests in a hundred go to the upstreams after the first
          weir.toml:29:13: route.half.upstreams: must not be empty: nobody would answer
        "#);
    }

    #[test]
    fn of_limits_that_limit_nothing() {
        let text = "
[[limit]]
name = 'idle'
burst = 5
budget_hours = 3
[[limit]]
name = 'odd'
per = 'tenants'
concurrent_requests = 0
";
        assert_snapshot!(refusal(text), @r#"
        5 problems in the configuration
          weir.toml:2:1: limit.idle: limits nothing; add requests_per_minute, tokens_per_minute, concurrent_requests or budget_tokens
          weir.toml:4:9: limit.idle.burst: means nothing without requests_per_minute
          weir.toml:5:16: limit.idle.budget_hours: means nothing without budget_tokens
          weir.toml:8:7: limit.odd.per: "tenants" is none of all, tenant, project, client, address and header:NAME; did you mean "tenant"?
          weir.toml:9:23: limit.odd.concurrent_requests: must be from 1 to 1000000
        "#);
    }

    #[test]
    fn of_wrong_types() {
        let text = "
[server]
max_connections = '12'
listen = 4100
[cache]
min_similarity = true
[chain]
order = 'local'
[local]
enabled = 'yes'
[rules]
files = [1]
[log]
level = 2026-01-01
";
        assert_snapshot!(refusal(text), @"
        7 problems in the configuration
          weir.toml:3:19: server.max_connections: expected a whole number, found a string
          weir.toml:4:10: server.listen: expected a string, found a whole number
          weir.toml:6:18: cache.min_similarity: expected a number, found a boolean
          weir.toml:8:9: chain.order: expected a list of strings, found a string
          weir.toml:10:11: local.enabled: expected true or false, found a string
          weir.toml:12:10: rules.files[0]: expected a string, found a whole number
          weir.toml:14:9: log.level: expected a string, found a date
        ");
    }

    #[test]
    fn of_sections_of_another_shape() {
        assert_snapshot!(refusal("cache = 'on'\n[upstream]\nname = 'primary'\n[[server]]\n"), @"
        3 problems in the configuration
          weir.toml:1:1: cache: expected [cache], found a string
          weir.toml:2:2: upstream: expected [[upstream]], found [upstream]
          weir.toml:4:3: server: expected [server], found [[server]]
        ");
    }

    #[test]
    fn of_impossible_numbers() {
        let text = "
[server]
max_body_mb = 0
max_header_kb = 4
max_connections = 99999999999999999999
[cache]
min_similarity = 1.5
ttl_seconds = 0
write_queue = -1
[embed]
deadline_ms = 0
";
        assert_snapshot!(refusal(text), @"
        7 problems in the configuration
          weir.toml:3:15: server.max_body_mb: must be from 1 to 1024
          weir.toml:4:17: server.max_header_kb: must be from 8 to 1024
          weir.toml:5:19: server.max_connections: is too large a number
          weir.toml:7:18: cache.min_similarity: must be from 0.0 to 1.0
          weir.toml:8:15: cache.ttl_seconds: must be from 1 to 315360000
          weir.toml:9:15: cache.write_queue: must be from 1 to 1000000
          weir.toml:11:15: embed.deadline_ms: must be from 1 to 60000
        ");
    }

    #[test]
    fn of_a_similarity_that_is_no_number() {
        assert_snapshot!(refusal("[cache]\nmin_similarity = nan\n"), @"weir.toml:2:18: cache.min_similarity: must be from 0.0 to 1.0");
    }

    #[test]
    fn of_what_an_upstream_cannot_be() {
        let text = "[server]\npassthrough_upstream = 'primray'\n[[upstream]]\nname = 'primary'\nkind = 'anthropic'\n\
                    api = 'responses'\nmodel_names = ['a', 'b=c']\n[replay]\npace = 'slow'\ntokens_per_second = 0";
        assert_snapshot!(refusal(text), @r#"
        5 problems in the configuration
          weir.toml:2:24: server.passthrough_upstream: there is no provider named "primray"; did you mean "primary"?
          weir.toml:6:7: upstream.primary.api: means something for OpenAI-compatible kinds only
          weir.toml:7:16: upstream.primary.model_names[0]: "a" is not of the form "client's name=provider's name"
          weir.toml:9:8: replay.pace: "slow" is none of at_once, paced
          weir.toml:10:21: replay.tokens_per_second: must be from 1 to 10000
        "#);
    }

    #[test]
    fn of_unknown_choices() {
        let text = "
[cache]
semantic = 'onn'
[store]
kind = 'redis'
[embed]
device = 'gpu'
[log]
format = 'jsn'
level = 'debgu'
[[upstream]]
name = 'primary'
kind = 'opneai'
";
        assert_snapshot!(refusal(text), @r#"
        6 problems in the configuration
          weir.toml:3:12: cache.semantic: "onn" is none of on, shadow, off
          weir.toml:5:8: store.kind: "redis" is none of embedded, memory
          weir.toml:7:10: embed.device: "gpu" is none of auto, cpu, cuda
          weir.toml:9:10: log.format: "jsn" is none of auto, human, json
          weir.toml:10:9: log.level: expected a level (trace, debug, info, warn, error, off), or levels by module (info,weir::cache=debug), found "debgu"
          weir.toml:13:8: upstream.primary.kind: "opneai" is none of openai, anthropic, gemini, mistral, deepseek, qwen, groq, together, openrouter, xroute, ollama, azure, lmstudio, llamacpp, vllm, litellm, generic, local; did you mean "openai"?
        "#);
    }

    #[test]
    fn of_what_makes_two_questions_the_same() {
        let text = "
[cache]
context = 'all'
client = 'opencalw'
mask = ['uuid', '/(/', '/a*/']
[[project]]
tools = 'of'
[[project]]
name = 'a*b'
[[project]]
name = 'c'
mask = ['system:paths', 'system:']
[[project]]
name = 'c'
";
        assert_snapshot!(refusal(text), @r#"
        10 problems in the configuration
          weir.toml:3:11: cache.context: "all" is none of strict, system+last, last
          weir.toml:4:10: cache.client: "opencalw" is none of auto, plain, openclaw; did you mean "openclaw"?
          weir.toml:5:9: cache.mask[0]: "uuid" is none of timestamps, uuids, paths, hex, sessions, nor a pattern like "/job-[0-9]+/"; each may have "system:" before it
          weir.toml:5:17: cache.mask[1]: the pattern cannot be used: unclosed group
          weir.toml:5:24: cache.mask[2]: the pattern matches the empty text, so it would be everywhere
          weir.toml:6:1: project[0].name: missing; the project it is for, as in x-weir-project
          weir.toml:7:9: project[0].tools: "of" is none of on, off
          weir.toml:9:8: project.a*b.name: must be at most 256 visible ASCII characters, with a "*" at the end alone
          weir.toml:12:25: project.c.mask[1]: "" is none of timestamps, uuids, paths, hex, sessions, nor a pattern like "/job-[0-9]+/"; each may have "system:" before it
          weir.toml:14:8: project.c.name: is used twice
        "#);
    }

    #[test]
    fn of_an_address_that_is_none() {
        assert_snapshot!(refusal("[server]\nlisten = 'localhost:http'\n"), @r#"weir.toml:2:10: server.listen: "localhost:http" is not an address and a port, like 127.0.0.1:4100"#);
        assert_snapshot!(refusal("[server]\nlisten = '127.0.0.1:70000'\n"), @r#"weir.toml:2:10: server.listen: "127.0.0.1:70000" is not an address and a port, like 127.0.0.1:4100"#);
    }

    #[test]
    fn of_listening_to_everyone_without_client_keys() {
        assert_snapshot!(refusal("[server]\nlisten = '0.0.0.0:4100'\n"), @"weir.toml:2:10: server.listen: 0.0.0.0:4100 can be reached from other machines, and without a [[client]] anyone there could use your keys; add a [[client]] with a key, or listen on 127.0.0.1:4100");
    }

    #[test]
    fn of_clients_that_cannot_be_told_apart() {
        let text = "
[[client]]
name = 'editor'
key = 'sk-secret-1'
[[client]]
name = 'editor'
key = 'sk-secret-2'
[[client]]
name = 'shell'
key = 'sk-secret-1'
tenant = ''
[[client]]
key = ''
[[client]]
name = ''
key = \"sk-secret\\n3\"
";
        assert_snapshot!(refusal(text), @r#"
        7 problems in the configuration
          weir.toml:6:8: client.editor.name: is used twice
          weir.toml:10:7: client.shell.key: the client "editor" has the same key, so nobody can tell them apart
          weir.toml:11:10: client.shell.tenant: must not be empty
          weir.toml:12:1: client[3].name: missing; give it a name of its own
          weir.toml:13:7: client[3].key: must not be empty
          weir.toml:15:8: client[4].name: must not be empty
          weir.toml:16:7: client[4].key: holds a character that cannot be sent in a header
        "#);
    }

    #[test]
    fn of_upstreams_that_lack_something() {
        let text = "
[[upstream]]
name = 'primary'
[[upstream]]
kind = 'generic'
[[upstream]]
name = 'gateway'
kind = 'generic'
cost_per_million_input_tokens = 1
";
        assert_snapshot!(refusal(text), @"
        4 problems in the configuration
          weir.toml:2:1: upstream.primary.kind: missing; one of openai, anthropic, gemini, mistral, deepseek, qwen, groq, together, openrouter, xroute, ollama, azure, lmstudio, llamacpp, vllm, litellm, generic, local
          weir.toml:4:1: upstream[1].name: missing; give it a name of its own
          weir.toml:6:1: upstream.gateway.base_url: missing; where it is, like http://127.0.0.1:8000/v1
          weir.toml:6:1: upstream.gateway.cost_per_million_output_tokens: missing; a cost needs both, for tokens in and out
        ");
    }

    #[test]
    fn of_base_urls_without_telling_them() {
        let text = "
[[upstream]]
name = 'a'
kind = 'generic'
base_url = 'api.openai.com/v1'
[[upstream]]
name = 'b'
kind = 'generic'
base_url = 'https://ada:sk-secret@gateway/v1'
[[upstream]]
name = 'c'
kind = 'generic'
base_url = 'https://gateway/v1?key=sk-secret'
[[upstream]]
name = 'd'
kind = 'generic'
base_url = 'http://localhost:4100/v1'
";
        assert_snapshot!(refusal(text), @r#"
        4 problems in the configuration
          weir.toml:5:12: upstream.a.base_url: must begin with http:// or https://
          weir.toml:9:12: upstream.b.base_url: must not hold a user name or a key; use api_key or headers
          weir.toml:13:12: upstream.c.base_url: must end with its path, without a query (?) or a fragment
          weir.toml:17:12: upstream.d.base_url: weir itself listens there, and would ask itself for ever
        "#);
    }

    #[test]
    fn of_names_that_are_taken() {
        let text = "
[[upstream]]
name = 'my-gateway'
kind = 'openai'
[[upstream]]
name = 'my-gateway'
kind = 'openai'
[[upstream]]
name = 'my.gateway'
kind = 'openai'
[[upstream]]
name = 'local'
kind = 'openai'
[[upstream]]
name = 'a name'
kind = 'openai'
";
        assert_snapshot!(refusal(text), @r#"
        4 problems in the configuration
          weir.toml:6:8: upstream.my-gateway.name: is used twice
          weir.toml:9:8: upstream.my.gateway.name: there is a "my-gateway" already, and their variables would have the same names
          weir.toml:12:8: upstream.local.name: this name is kept for the model in this process
          weir.toml:15:8: upstream.a name.name: must be at most 64 letters (a-z), digits, "-", "_" or "."
        "#);
    }

    #[test]
    fn of_a_chain_that_names_nobody() {
        let text = "
[[upstream]]
name = 'primary'
kind = 'openai'
models = []
[chain]
order = [
    'primery',
    'primary',
    'primary',
    'backup',
]
";
        assert_snapshot!(refusal(text), @r#"
        4 problems in the configuration
          weir.toml:5:10: upstream.primary.models: must not be empty; ["*"] is every model
          weir.toml:8:5: chain.order[0]: there is no [[upstream]] named "primery"; did you mean "primary"?
          weir.toml:10:5: chain.order[2]: "primary" is in it twice
          weir.toml:11:5: chain.order[3]: there is no [[upstream]] named "backup"
        "#);
        assert_snapshot!(refusal("chain.order = []"), @"weir.toml:1:15: chain.order: must not be empty: nobody would answer");
    }

    #[test]
    fn of_a_local_model_that_is_switched_off() {
        assert_snapshot!(refusal("[local]\nenabled = false\n[chain]\norder = ['local']\n"), @"weir.toml:4:10: chain.order[0]: there is no local model: local.enabled is false");
        let away = "[[upstream]]\nname = 'p'\nkind = 'openai'\n[local]\nenabled = false\n";
        assert_snapshot!(refusal(&format!("{away}[rules]\nmodel = 'local/small'\n")), @r#"weir.toml:7:9: rules.model: "local/small": there is no local model: local.enabled is false"#);
        assert_snapshot!(refusal(&format!("{away}[cache]\nanswer_judge = 'llm'\nanswer_judge_model = 'local/small'\n")), @r#"weir.toml:8:22: cache.answer_judge_model: "local/small": there is no local model: local.enabled is false"#);
        assert_snapshot!(refusal("[local]\nenabled = false\n"), @"weir.toml:2:11: local.enabled: without it and without an [[upstream]], nobody would answer");
    }

    #[test]
    fn of_a_local_model_with_a_providers_settings() {
        let text = "
[[upstream]]
name = 'small'
kind = 'local'
base_url = 'http://localhost:1/v1'
[[upstream]]
name = 'tiny'
kind = 'local'
";
        assert_snapshot!(refusal(text), @"
        2 problems in the configuration
          weir.toml:5:12: upstream.small.base_url: means nothing for the local model; see [local]
          weir.toml:6:1: upstream.tiny: there is one local model only
        ");
    }

    #[test]
    fn of_strings_that_stand_for_nothing() {
        let text = "
data_dir = '~/weir'
[[upstream]]
name = 'primary'
kind = 'openai'
api_key = '${OPENAI_API_KEY}'
headers = { x-a = 'file:/no/such/file', 'x b' = '1', x-c = '${' }
";
        assert_snapshot!(refusal(text), @r#"
        4 problems in the configuration
          weir.toml:2:12: data_dir: a "~" is the shell's; write ${HOME}
          weir.toml:6:11: upstream.primary.api_key: the environment variable OPENAI_API_KEY is not set; set it, or write ${OPENAI_API_KEY:-default}
          weir.toml:7:19: upstream.primary.headers.x-a: could not read /no/such/file: No such file or directory (os error 2)
          weir.toml:7:60: upstream.primary.headers.x-c: "${" is not followed by a variable's name and "}"; write $$ for a dollar
        "#);
    }

    #[test]
    fn of_headers_that_cannot_be_sent() {
        let text =
            "[[upstream]]\nname = 'a'\nkind = 'openai'\nheaders = { 'x b' = '1', x-c = \"sk-\\u0007\" }\n";
        assert_snapshot!(refusal(text), @r#"
        2 problems in the configuration
          weir.toml:4:21: upstream.a.headers.x b: "x b" cannot be the name of a header
          weir.toml:4:32: upstream.a.headers.x-c: holds a character that cannot be sent in a header
        "#);
    }

    #[test]
    fn of_a_value_from_a_variable_without_telling_it() {
        let text = "[[upstream]]\nname = 'a'\nkind = '${SECRET}'\n";
        assert_snapshot!(Bench::with_file(text).set("SECRET", "sk-secret").refusal(), @r#"weir.toml:3:8: upstream.a.kind: "${SECRET}" is none of openai, anthropic, gemini, mistral, deepseek, qwen, groq, together, openrouter, xroute, ollama, azure, lmstudio, llamacpp, vllm, litellm, generic, local"#);
    }

    #[test]
    fn of_a_rules_file_that_is_not_there() {
        assert_snapshot!(refusal("[rules]\nfiles = ['my-rules.toml']\n"), @"weir.toml:2:10: rules.files[0]: there is no file FOLDER/my-rules.toml");
    }

    #[test]
    fn of_what_is_no_toml() {
        assert_snapshot!(refusal("[server]\nlisten = \"127.0.0.1:4100\n"), @r#"weir.toml:2:25: not valid TOML: invalid basic string, expected `"`"#);
        assert_snapshot!(refusal("[server]\nlisten = 'a'\nlisten = 'b'\n"), @"weir.toml:3:1: not valid TOML: duplicate key");
        assert_snapshot!(refusal("[server\n"), @"weir.toml:1:8: not valid TOML: unclosed table, expected `]`");
    }

    #[test]
    fn of_variables() {
        let bench = Bench::with_file("[[upstream]]\nname = 'primary'\nkind = 'openai'\n")
            .set("WEIR_CACHE_MIN_SIMILARITY", "high")
            .set("WEIR_SERVER_LISEN", "127.0.0.1:4100")
            .set("WEIR_SERVER_MAX_BODY_MB", "-1")
            .set("WEIR_UPSTREAM_PRIMARY_API_KYE", "sk-secret")
            .set("WEIR_UPSTREAM_SPARE_API_KEY", "sk-secret")
            .set("WEIR_COLOUR_OF_THE_SKY", "blue");
        assert_snapshot!(bench.refusal(), @"
        6 problems in the configuration
          WEIR_CACHE_MIN_SIMILARITY: cache.min_similarity: expected a number
          WEIR_COLOUR_OF_THE_SKY: stands for no key of the configuration; `weir config init` lists them all
          WEIR_SERVER_LISEN: stands for no key of the configuration; did you mean WEIR_SERVER_LISTEN?
          WEIR_SERVER_MAX_BODY_MB: server.max_body_mb: must be from 1 to 1024
          WEIR_UPSTREAM_PRIMARY_API_KYE: stands for no key of the configuration; did you mean WEIR_UPSTREAM_PRIMARY_API_KEY?
          WEIR_UPSTREAM_SPARE_API_KEY: upstream.spare.kind: missing; one of openai, anthropic, gemini, mistral, deepseek, qwen, groq, together, openrouter, xroute, ollama, azure, lmstudio, llamacpp, vllm, litellm, generic, local
        ");
    }

    #[test]
    fn of_variables_of_providers() {
        let bench = Bench::empty().set("OPENAI_API_KEY", "sk-secret\n").set("OPENAI_BASE_URL", "gateway");
        assert_snapshot!(bench.refusal(), @"
        2 problems in the configuration
          OPENAI_API_KEY: upstream.openai.api_key: holds a character that cannot be sent in a header
          OPENAI_BASE_URL: upstream.openai.base_url: must begin with http:// or https://
        ");
    }

    #[test]
    fn of_flags() {
        let mut bench = Bench::empty();
        bench.flags.listen = Some("4100".to_owned());
        assert_snapshot!(bench.refusal(), @r#"--listen: server.listen: "4100" is not an address and a port, like 127.0.0.1:4100"#);
    }

    #[test]
    fn of_a_file_that_was_named_and_is_not_there() {
        assert_snapshot!(Bench::empty().set("WEIR_CONFIG", "other.toml").refusal(), @"WEIR_CONFIG names other.toml, but there is no such file; `weir config init other.toml` writes one");
        let mut bench = Bench::empty();
        bench.flags.config = Some("my.toml".into());
        assert_snapshot!(bench.refusal(), @"--config names my.toml, but there is no such file; `weir config init my.toml` writes one");
    }

    #[test]
    fn of_a_machine_without_a_home() {
        let mut bench = Bench::empty();
        bench.environment.data_dir = None;
        assert_snapshot!(bench.refusal(), @"data_dir: this user has no folder for data (HOME is not set); set data_dir, WEIR_DATA_DIR or --data-dir");
    }
}

mod files {
    use super::*;

    const LISTEN: &str = "server.listen = '127.0.0.1:1'\n";

    #[test]
    fn are_found_in_order() {
        let port = |bench: &Bench| bench.config().server.listen.port();
        let mut bench = Bench::empty();
        assert_eq!(port(&bench), 4100, "no file at all");
        bench = bench.write("config/weir/weir.toml", LISTEN);
        assert_eq!(port(&bench), 1, "the user's");
        bench = bench.write("weir.toml", &LISTEN.replace(":1", ":2"));
        assert_eq!(port(&bench), 2, "that of the working directory");
        bench = bench.write("named.toml", &LISTEN.replace(":1", ":3")).set("WEIR_CONFIG", "named.toml");
        assert_eq!(port(&bench), 3, "that of the variable");
        bench = bench.write("flag.toml", &LISTEN.replace(":1", ":4"));
        bench.flags.config = Some(bench.path().join("flag.toml"));
        assert_eq!(port(&bench), 4, "that of the flag");
    }

    #[test]
    fn give_way_to_variables_and_these_to_flags() {
        let mut bench = Bench::with_file(LISTEN).set("WEIR_SERVER_LISTEN", "127.0.0.1:2");
        assert_eq!(bench.config().server.listen.port(), 2);
        bench.flags.listen = Some("127.0.0.1:3".to_owned());
        assert_eq!(bench.config().server.listen.port(), 3);
        bench.flags.data_dir = Some("$$here".into());
        assert_eq!(bench.config().data_dir, bench.path().join("$$here"), "the shell has expanded it already");
    }

    #[test]
    fn have_their_paths_relative_to_themselves() {
        let mut bench = Bench::empty()
            .write("etc/weir.toml", "data_dir = 'data'\nrules.files = ['a.toml']\n")
            .write("etc/a.toml", "")
            .set("WEIR_MODELS_DIR", "models-here");
        bench.flags.config = Some("etc/weir.toml".into());
        let config = bench.config();
        assert_eq!(config.data_dir, bench.path().join("etc/data"));
        assert_eq!(config.rules.files, [bench.path().join("etc/a.toml")]);
        assert_eq!(config.models_dir, bench.path().join("models-here"), "but a variable's are not");
    }

    #[test]
    fn may_be_empty_or_begin_with_a_byte_order_mark() {
        assert_eq!(Bench::with_file("").config().server.listen.port(), 4100);
        assert_eq!(
            Bench::with_file("\u{feff}server.listen = '127.0.0.1:1'\r\n").config().server.listen.port(),
            1
        );
    }

    #[test]
    fn of_a_megabyte_are_refused() {
        let text = "#".repeat((1 << 20) + 1);
        assert!(matches!(Bench::with_file(&text).load(), Err(Error::TooLarge { .. })));
    }
}

mod defaults {
    use super::*;

    #[test]
    fn put_everything_below_the_data_folder() {
        let config = Bench::empty().config();
        assert_eq!(config.data_dir, Path::new("/home/ada/.local/share/weir"));
        assert_eq!(config.models_dir, Path::new("/home/ada/.local/share/weir/models"));
        let Store::Embedded(store) = &config.store else { panic!("not the embedded store") };
        assert_eq!(store.path, Path::new("/home/ada/.local/share/weir/store"));
        assert!(config.rules.files.is_empty());
    }

    #[test]
    fn take_models_and_rules_where_they_are_found() {
        let bench = Bench::empty().write("models/manifest.toml", "").write("rules.toml", "");
        assert_eq!(bench.config().models_dir, bench.path().join("models"));
        assert_eq!(bench.config().rules.files, [bench.path().join("rules.toml")]);

        let bench = Bench::empty().write("models/other.safetensors", "");
        assert!(bench.config().models_dir.ends_with("weir/models"), "someone else's");
        let bench = bench.write("models/minilm/model.safetensors", "");
        assert_eq!(bench.config().models_dir, bench.path().join("models"));
    }

    #[test]
    fn prefer_the_rules_beside_the_file() {
        let mut bench =
            Bench::empty().write("etc/weir.toml", "").write("etc/rules.toml", "").write("rules.toml", "");
        bench.flags.config = Some("etc/weir.toml".into());
        assert_eq!(bench.config().rules.files, [bench.path().join("etc/rules.toml")]);
    }
}

mod upstreams {
    use super::*;

    /// The chain, each provider with its address, whether it has a key, and its models.
    fn chain(bench: &Bench) -> String {
        let config = bench.config();
        let line = |name: &String| match config.upstreams.iter().find(|upstream| upstream.name == *name) {
            Some(upstream) => {
                let key = if upstream.api_key.is_some() { "key" } else { "no key" };
                format!("{name} {} ({key}) {}", upstream.base_url, upstream.models.join(" "))
            }
            None => name.clone(),
        };
        let notes = config.notes.iter().map(|note| format!("note: {note}"));
        config.chain.iter().map(line).chain(notes).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn without_any_the_local_model_answers() {
        assert_snapshot!(chain(&Bench::empty()), @"local");
        assert_snapshot!(chain(&Bench::empty().set("OPENAI_API_KEY", "")), @"local");
    }

    #[test]
    fn of_a_preset_take_the_key_its_own_tools_take_but_never_elsewhere() {
        let own = "[[upstream]]\nname = 'fast'\nkind = 'groq'";
        assert_snapshot!(chain(&Bench::with_file(own).set("GROQ_API_KEY", "sk-1")), @"
        fast https://api.groq.com/openai/v1 (key) *
        local
        ");
        let elsewhere = "[[upstream]]\nname = 'fast'\nkind = 'openai'\nbase_url = 'http://gateway/v1'";
        assert_snapshot!(chain(&Bench::with_file(elsewhere).set("OPENAI_API_KEY", "sk-1")), @"
        fast http://gateway/v1 (no key) *
        local
        ");
        let azure = "[[upstream]]\nname = 'az'\nkind = 'azure'\nbase_url = 'https://me.openai.azure.com'";
        assert_snapshot!(chain(&Bench::with_file(azure).set("AZURE_OPENAI_API_KEY", "sk-1")), @"
        az https://me.openai.azure.com/openai/v1 (key) *
        local
        ");
    }

    #[test]
    fn of_azure_need_its_address_too() {
        let bench = Bench::empty().set("AZURE_OPENAI_API_KEY", "sk-1");
        assert_snapshot!(chain(&bench), @"local");
        let bench = bench.set("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/");
        assert_snapshot!(chain(&bench), @"
        azure https://me.openai.azure.com/openai/v1 (key) *
        local
        ");
    }

    #[test]
    fn of_one_key_get_every_model() {
        assert_snapshot!(chain(&Bench::empty().set("ANTHROPIC_API_KEY", "sk-1")), @"
        anthropic https://api.anthropic.com/v1 (key) *
        local
        ");
        assert_snapshot!(chain(&Bench::empty().set("OLLAMA_HOST", "0.0.0.0")), @"
        ollama http://127.0.0.1:11434 (no key) *
        local
        ");
    }

    #[test]
    fn of_many_keys_get_the_models_they_know() {
        let bench = [
            "OPENAI",
            "ANTHROPIC",
            "GEMINI",
            "GOOGLE",
            "MISTRAL",
            "DEEPSEEK",
            "GROQ",
            "TOGETHER",
            "OPENROUTER",
        ]
        .iter()
        .fold(Bench::empty(), |bench, name| bench.set(&format!("{name}_API_KEY"), "sk-1"))
        .set("OLLAMA_HOST", "http://gpu-box:11434");
        assert_snapshot!(chain(&bench), @"
        openai https://api.openai.com/v1 (key) gpt-* chatgpt-* o1* o3* o4* codex-* text-* ft:*
        anthropic https://api.anthropic.com/v1 (key) claude-*
        gemini https://generativelanguage.googleapis.com/v1beta (key) gemini-* gemma-* models/*
        mistral https://api.mistral.ai/v1 (key) mistral-* ministral-* magistral-* codestral-* devstral-* pixtral-* open-mi*
        deepseek https://api.deepseek.com/v1 (key) deepseek-*
        groq https://api.groq.com/openai/v1 (key) llama-* meta-llama/* openai/gpt-oss-* qwen/* moonshotai/* groq/*
        together https://api.together.xyz/v1 (key) meta-llama/* Qwen/* deepseek-ai/* mistralai/* moonshotai/* zai-org/*
        openrouter https://openrouter.ai/api/v1 (key) */*
        ollama http://gpu-box:11434 (no key) *:* llama* qwen* gemma* phi* mistral smollm*
        local
        ");
    }

    #[test]
    fn of_another_server_come_after_those_who_know_their_models() {
        let bench =
            Bench::empty().set("OPENAI_BASE_URL", "http://gpu-box:8000/v1/").set("ANTHROPIC_API_KEY", "sk-1");
        assert_snapshot!(chain(&bench), @"
        anthropic https://api.anthropic.com/v1 (key) claude-*
        openai http://gpu-box:8000/v1 (no key) *
        local
        ");
    }

    #[test]
    fn are_never_weir_itself() {
        let bench =
            Bench::empty().set("OPENAI_BASE_URL", "http://localhost:4100/v1").set("OPENAI_API_KEY", "sk-1");
        assert_snapshot!(chain(&bench), @"
        openai https://api.openai.com/v1 (key) *
        local
        note: OPENAI_BASE_URL is where weir itself listens, so it makes no upstream
        ");
    }

    #[test]
    fn are_not_made_up_where_the_chain_is_configured() {
        let bench = Bench::with_file("chain.order = ['local']").set("OPENAI_API_KEY", "sk-1");
        assert_snapshot!(chain(&bench), @"local");
        let bench = Bench::with_file("[chain]\n[[upstream]]\nname = 'a'\nkind = 'ollama'\n")
            .set("OPENAI_API_KEY", "sk-1");
        assert_snapshot!(chain(&bench), @"
        a http://127.0.0.1:11434 (no key) *
        local
        ");
    }

    #[test]
    fn are_asked_as_written_and_the_local_model_last() {
        let text = "
[[upstream]]
name = 'b'
kind = 'gemini'
[[upstream]]
name = 'a'
kind = 'openai'
base_url = 'https://gateway/v1/'
api_key = '${KEY:-sk-1}'
";
        assert_snapshot!(chain(&Bench::with_file(text)), @"
        b https://generativelanguage.googleapis.com/v1beta (no key) *
        a https://gateway/v1 (key) *
        local
        ");
        assert_snapshot!(chain(&Bench::with_file(&format!("{text}\n[chain]\norder = ['a']\n"))), @"
        a https://gateway/v1 (key) *
        note: upstream.b is in no route and not in chain.order, and is never asked
        ");
    }

    #[test]
    fn of_kind_local_rename_the_local_model() {
        let text = "
[[upstream]]
name = 'small'
kind = 'local'
[[upstream]]
name = 'a'
kind = 'openai'
";
        assert_snapshot!(chain(&Bench::with_file(text)), @"
        a https://api.openai.com/v1 (no key) *
        small
        ");
        assert_snapshot!(chain(&Bench::with_file(&format!("{text}\n[chain]\norder = ['a', 'local']\n"))), @"
        a https://api.openai.com/v1 (no key) *
        small
        ");
    }

    #[test]
    fn can_be_made_by_variables_alone() {
        let bench = Bench::empty()
            .set("WEIR_UPSTREAM_MY_GATEWAY_KIND", "generic")
            .set("WEIR_UPSTREAM_MY_GATEWAY_BASE_URL", "http://gateway/v1")
            .set("WEIR_UPSTREAM_MY_GATEWAY_MODELS", "a-*, b-*");
        assert_snapshot!(chain(&bench), @"
        my_gateway http://gateway/v1 (no key) a-* b-*
        local
        ");
    }

    #[test]
    fn take_their_keys_from_variables_and_files() {
        let bench = Bench::with_file(
            "
[[upstream]]
name = 'my-gateway'
kind = 'openai'
api_key = '${NOT_SET}'
[[upstream]]
name = 'b'
kind = 'openai'
api_key = 'file:secrets/${WHICH}'
",
        )
        .write("secrets/b", "sk-from-file\n")
        .set("WHICH", "b")
        .set("WEIR_UPSTREAM_MY_GATEWAY_API_KEY", "sk-over-it");
        let config = bench.config();
        let keys: Vec<_> =
            config.upstreams.iter().map(|upstream| upstream.api_key.as_ref().unwrap().expose()).collect();
        assert_eq!(keys, ["sk-over-it", "sk-from-file"]);
    }
}

mod showing {
    use super::*;

    const FULL: &str = "
data_dir = '/data'
[server]
listen = '0.0.0.0:4100'
[[client]]
name = 'editor'
key = 'sk-secret-client'
[[upstream]]
name = 'primary'
kind = 'openai'
base_url = 'http://gateway/v1'
api_key = '${KEY}'
headers = { x-token = 'sk-secret-header' }
cost_per_million_input_tokens = 2.5
cost_per_million_output_tokens = 10
[[upstream]]
name = 'small'
kind = 'local'
[cache]
volatile_words = ['today']
chance_words = ['dice', '!dice game']
[[cache_rule]]
name = 'repeatable'
protocols = ['openai_chat']
models = ['gpt-*']
json_body = { temperature = 0.0, metadata = { team = 'docs' } }
ttl_seconds = 60
volatile = false
[[route]]
name = 'small-talk'
headers = { x-team = 'ads' }
json_body = { temperature = 0.5 }
keywords = ['hello']
regex = ['^hi$$']
max_tokens = 50
strategy = 'ab'
upstreams = ['primary=m', 'small']
weights = { small = 2 }
percentage = 5
mirror = 'primary'
[[limit]]
name = 'all'
requests_per_minute = 5
";

    fn full() -> Bench {
        Bench::with_file(FULL).set("KEY", "sk-secret-key").set("WEIR_CACHE_MIN_SIMILARITY", "0.98")
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one for each key")]
    fn tells_values_and_where_they_came_from() {
        let bench = full();
        assert_snapshot!(bench.config().show().replace(bench.path().to_str().unwrap(), "FOLDER"), @r#"
        # the file is FOLDER/weir.toml
        data_dir = "/data"  # weir.toml:2:12
        models_dir = "/data/models"  # default

        [server]
        listen = "0.0.0.0:4100"  # weir.toml:4:10
        max_body_mb = 32  # default
        max_header_kb = 64  # default
        max_connections = 4096  # default
        concurrent_requests = 1024  # default
        header_timeout_seconds = 10  # default
        body_timeout_seconds = 60  # default
        request_timeout_seconds = 600  # default
        shutdown_grace_seconds = 30  # default
        passthrough = true  # default
        passthrough_upstream = "primary"  # default

        [[client]]
        name = "editor"  # weir.toml:6:8
        key = "***"  # weir.toml:7:7
        tenant = "editor"  # default

        [[upstream]]
        name = "primary"  # weir.toml:9:8
        kind = "openai"  # weir.toml:10:8
        base_url = "http://gateway/v1"  # weir.toml:11:12
        api = "chat"  # default
        api_key = "***"  # weir.toml:12:11
        models = ["*"]  # default
        include_usage = true  # default
        key_rotation = "order"  # default
        headers = { x-token = "***" }  # weir.toml:13:11
        connect_timeout_seconds = 5  # default
        first_token_timeout_seconds = 90  # default
        idle_timeout_seconds = 60  # default
        reply_timeout_seconds = 600  # default
        min_spacing_ms = 0  # default
        queue = 256  # default
        queue_wait_seconds = 30  # default
        cost_per_million_input_tokens = 2.5  # weir.toml:14:33
        cost_per_million_output_tokens = 10.0  # weir.toml:15:34

        [[upstream]]
        name = "small"  # weir.toml:17:8
        kind = "local"  # weir.toml:18:8

        [replay]
        usage = "kept"  # default
        pace = "at_once"  # default
        tokens_per_second = 100  # default

        [chain]
        order = ["primary", "small"]  # default
        cooldowns = "2026.9"  # default
        cooldown_seconds = []  # default
        billing_cooldown_seconds = 600  # default
        failure_window_hours = 24  # default
        short_wait_ms = 2000  # default
        max_wait_seconds = 30  # default
        probe_seconds = 5  # default
        max_attempts = 2  # default
        backoff_ms = 1000  # default
        trigger_codes = ["429", "5xx"]  # default
        trigger_on_auth_failure = true  # default
        trigger_on_timeout = true  # default
        max_calls = 8  # default
        retry_share = 0.1  # default
        breaker_share = 0.5  # default
        breaker_calls = 10  # default
        slow_after_ms = 0  # default
        degraded_at = 3.0  # default
        hedge_after = "off"  # default
        notice = "header"  # default

        [[route]]
        name = "small-talk"  # weir.toml:30:8
        headers = { x-team = "ads" }  # weir.toml:31:11
        json_body = { temperature = 0.5 }  # weir.toml:32:13
        keywords = ["hello"]  # weir.toml:33:12
        regex = ["^hi$$"]  # weir.toml:34:9
        min_tokens = 0  # default
        max_tokens = 50  # weir.toml:35:14
        strategy = "ab"  # weir.toml:36:12
        upstreams = ["primary=m", "small"]  # weir.toml:37:13
        weights = { "primary=m" = 1, small = 2 }  # weir.toml:38:11
        percentage = 5.0  # weir.toml:39:14
        sticky = "always"  # default
        last_resort = "local"  # default
        mirror = "primary"  # weir.toml:40:10
        mirror_percentage = 10.0  # default

        [[limit]]
        name = "all"  # weir.toml:42:8
        per = "all"  # default
        requests_per_minute = 5  # weir.toml:43:23

        [prices]
        list = true  # default
        file = ""  # default

        [cache]
        exact = "on"  # default
        semantic = "on"  # default
        min_similarity = 0.98  # WEIR_CACHE_MIN_SIMILARITY
        coalesce = true  # default
        max_wrong = 0.01  # default
        check_share = 0.05  # default
        answer_judge = "text"  # default
        answer_judge_model = ""  # default
        ttl_seconds = 2592000  # default
        volatile_ttl_seconds = 300  # default
        stale_if_error_seconds = 86400  # default
        stale_while_revalidate_seconds = 0  # default
        max_stale_seconds = 0  # default
        max_temperature = 1.0  # default
        max_answer_kb = 256  # default
        store_refusals = false  # default
        store_tool_calls = false  # default
        volatile_words = ["today"]  # weir.toml:20:18
        chance_words = ["dice", "!dice game"]  # weir.toml:21:16
        compat_headers = true  # default
        write_queue = 1024  # default
        context = "strict"  # default
        client = "auto"  # default
        tools = "off"  # default
        mask = []  # default

        [[cache_rule]]
        name = "repeatable"  # weir.toml:23:8
        protocols = ["openai_chat"]  # weir.toml:24:13
        models = ["gpt-*"]  # weir.toml:25:10
        json_body = { "metadata.team" = "docs", temperature = 0.0 }  # weir.toml:26:13
        ttl_seconds = 60  # weir.toml:27:15
        volatile = false  # weir.toml:28:12

        [embed]
        model = "minilm"  # default
        on_model_change = "reembed"  # default
        device = "auto"  # default
        precision = "auto"  # default
        threads = 0  # default
        queue = 256  # default
        max_batch = 64  # default
        deadline_ms = 500  # default

        [store]
        kind = "embedded"  # default
        path = "/data/store"  # default
        flush_ms = 100  # default
        max_entries = 200000  # default
        max_mb = 500  # default
        index_mb = 256  # default
        deadline_ms = 250  # default

        [rules]
        files = []  # default
        shipped = true  # default
        reload_seconds = 2  # default
        services = []  # default
        secrets = {}  # default
        model = ""  # default
        model_sure = 0.9  # default
        model_deadline_ms = 2000  # default

        [local]
        enabled = true  # default
        model = "smollm2-135m-instruct"  # default
        device = "auto"  # default
        queue = 16  # default
        context = 2048  # default
        max_tokens = 512  # default
        too_long = "trim"  # default
        idle_unload_seconds = 0  # default

        [log]
        level = "info"  # default
        format = "auto"  # default

        [journal]
        enabled = false  # default
        content = "redacted"  # default
        key = ""  # default
        redact = []  # default
        projects = []  # default
        max_file_mb = 64  # default
        max_mb = 1024  # default
        queue = 4096  # default
        "#);
    }

    #[test]
    fn of_a_project_it_tells_what_that_sets() {
        let text = "[[project]]\nname = 'notes*'\ntools = 'on'\nmask = ['uuids', '/a$$/']\n";
        let page = Bench::with_file(text).config().show();
        let told = page.split("\n\n").find(|part| part.starts_with("[[project]]"));
        assert_snapshot!(told.unwrap(), @r#"
        [[project]]
        name = "notes*"  # weir.toml:2:8
        tools = "on"  # weir.toml:3:9
        mask = ["uuids", "/a$$/"]  # weir.toml:4:8
        "#);
    }

    #[test]
    fn of_a_webhook_it_tells_what_it_is_told_of_and_not_where_it_is() {
        let text =
            "[[webhook]]\nname = 'ops'\nurl = 'https://host/sk-secret'\nsecret = 'sk-secret of sixteen'\n";
        let config = Bench::with_file(text).config();
        let page = config.show();
        let told = page.split("\n\n").find(|part| part.starts_with("[[webhook]]"));
        assert_snapshot!(told.unwrap(), @r#"
        [[webhook]]
        name = "ops"  # weir.toml:2:8
        url = "***"  # weir.toml:3:7
        secret = "***"  # weir.toml:4:10
        events = ["failover", "breaker", "rate_limit", "budget", "all_failed"]  # default
        timeout_seconds = 5  # default
        retries = 4  # default
        quiet_seconds = 60  # default
        "#);
        assert!(!format!("{page}{config:?}").contains("sk-secret"));
    }

    #[test]
    fn never_tells_a_secret() {
        let config = full().config();
        let told = format!("{}\n{config:?}\n{config:#?}", config.show());
        assert!(!told.contains("sk-secret"), "{told}");
    }

    #[test]
    fn gives_a_file_that_loads_and_shows_the_same() {
        let values = |page: &str| page.parse::<toml::Table>().unwrap();
        let page = full().config().show();
        assert_eq!(values(&Bench::with_file(&page).config().show()), values(&page));
    }
}

#[test]
fn the_lab_s_file_loads() {
    let bench = Bench::with_file(
        r#"
[server]
listen = "127.0.0.1:43219"
[[upstream]]
name = "primary"
kind = "openai"
base_url = "http://127.0.0.1:38211/v1"
api_key = "sk-test"
models = ["*"]
[chain]
order = ["primary", "local"]
[cache]
semantic = "on"
"#,
    );
    let config = bench.set("WEIR_BIN", "target/release/weir").set("WEIR_LAB_CACHE", "cache").config();
    assert_eq!(config.chain, ["primary", "local"]);
    assert!(config.cache.semantic == weir::cache::Semantic::On && config.local.is_some());
}

mod command_line {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: weir::cli::config::Args,
    }

    fn weir_config(bench: &Bench, arguments: &[&str]) -> Result<String, String> {
        let cli = Cli::try_parse_from(["config"].iter().chain(arguments)).unwrap();
        let mut out = Vec::new();
        weir::cli::config::run(&cli.args, &bench.flags, &bench.environment, &mut out)
            .map(|()| String::from_utf8(out).unwrap())
            .map_err(|error| error.to_string().replace(bench.path().to_str().unwrap(), "FOLDER"))
    }

    #[test]
    fn init_writes_a_file_that_is_fine_and_never_over_another() {
        let bench = Bench::empty();
        assert_eq!(weir_config(&bench, &["init"]).unwrap(), "wrote weir.toml\n");
        assert_eq!(
            weir_config(&bench, &["init"]).unwrap_err(),
            "FOLDER/weir.toml is there already; `--force` writes over it"
        );
        let bench = bench.write("weir.toml", "not = 'ours'");
        weir_config(&bench, &["init", "--force"]).unwrap();
        weir_config(&bench, &["init", "new/folder/weir.toml"]).unwrap();
        let checked = weir_config(&bench, &["check"]).unwrap();
        assert_eq!(
            checked.replace(bench.path().to_str().unwrap(), "FOLDER"),
            "FOLDER/weir.toml: ok\nchain: local\n"
        );
    }

    #[test]
    fn check_lists_what_is_wrong() {
        assert_snapshot!(weir_config(&Bench::empty(), &["check"]).unwrap(), @"
        ok; there is no file, and none is needed (`weir config init` writes one)
        chain: local
        ");
        let bench = Bench::with_file("[server]\nlisen = 1\n[cache]\nttl_seconds = 0\n");
        assert_snapshot!(weir_config(&bench, &["check"]).unwrap_err(), @r#"
        2 problems in the configuration
          weir.toml:2:1: server.lisen: unknown key; did you mean "listen"?
          weir.toml:4:15: cache.ttl_seconds: must be from 1 to 315360000
        "#);
    }

    #[test]
    fn show_prints_toml() {
        let shown = weir_config(&Bench::empty(), &["show"]).unwrap();
        assert!(shown.parse::<toml::Table>().unwrap().contains_key("server"));
    }
}
