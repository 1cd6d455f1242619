//! What was typed: every key of `weir.toml`, declared once. The schema (for environment variables, the
//! template and "did you mean") comes from the same declaration, so a new key cannot be forgotten in one of
//! them. What the values mean is decided in [`super::check`].

use super::read::{Context, Found, Headers, JsonFields, Reader, Section, Text, Texts, Typed};
use super::schema::Key;
use super::tree::Table;
use crate::secret::Secret;

/// Declares a section: its keys, and of which type each is.
macro_rules! section {
    ($(#[$about:meta])* $name:ident { $($key:ident: $type:ty,)+ }) => {
        $(#[$about])*
        pub(super) struct $name {
            $(pub(super) $key: Option<Found<$type>>,)+
        }

        impl Section for $name {
            const KEYS: &'static [Key] =
                &[$(Key { name: stringify!($key), kind: <$type as Typed>::KIND },)+];

            fn read(mut reader: Reader<'_, '_>) -> Self {
                let section = Self { $($key: reader.take(stringify!($key)),)+ };
                reader.refuse_the_rest(Self::KEYS);
                section
            }
        }
    };
}

/// Declares the document: its sections, and its arrays of sections.
macro_rules! document {
    (sections { $($section:ident: $Section:ident,)+ } arrays { $($array:ident: $Array:ident,)+ }) => {
        /// Everything that was typed, in the file or over it.
        pub(super) struct Raw {
            pub(super) top: Top,
            $(pub(super) $section: $Section,)+
            $(pub(super) $array: Vec<Found<$Array>>,)+
        }

        /// The keys outside of arrays, by section; the section of the top level is called "".
        pub(super) const SECTIONS: &[(&str, &[Key])] =
            &[("", Top::KEYS), $((stringify!($section), $Section::KEYS),)+];

        /// The keys of the tables in arrays, by array.
        pub(super) const ARRAYS: &[(&str, &[Key])] = &[$((stringify!($array), $Array::KEYS),)+];

        impl Raw {
            /// Reads the whole tree. What cannot be read is reported, and left out.
            pub(super) fn read(mut tree: Table, context: &mut Context<'_>) -> Self {
                $(let $section = context.section(&mut tree, stringify!($section));)+
                $(let $array = context.elements(&mut tree, stringify!($array));)+
                Self { top: context.top(tree), $($section,)+ $($array,)+ }
            }
        }
    };
}

document! {
    sections {
        server: Server,
        replay: Replay,
        chain: Chain,
        prices: Prices,
        cache: Cache,
        embed: Embed,
        store: Store,
        rules: Rules,
        local: Local,
        log: Log,
        journal: Journal,
    }
    arrays {
        client: Client,
        upstream: Upstream,
        route: Route,
        limit: Limit,
        profile: Profile,
        webhook: Webhook,
        project: Project,
        cache_rule: CacheRule,
    }
}

section! {
    /// The keys above the first section.
    Top {
        data_dir: Text,
        models_dir: Text,
    }
}

section! {
    /// `[server]`
    Server {
        listen: Text,
        max_body_mb: i64,
        max_header_kb: i64,
        max_connections: i64,
        concurrent_requests: i64,
        header_timeout_seconds: i64,
        body_timeout_seconds: i64,
        request_timeout_seconds: i64,
        shutdown_grace_seconds: i64,
        passthrough: bool,
        passthrough_upstream: Text,
    }
}

section! {
    /// `[[client]]`
    Client {
        name: Text,
        key: Secret,
        tenant: Text,
    }
}

section! {
    /// `[[upstream]]`
    Upstream {
        name: Text,
        kind: Text,
        base_url: Text,
        api: Text,
        api_key: Secret,
        models: Texts,
        model_names: Texts,
        include_usage: bool,
        context_windows: Texts,
        max_tokens: Texts,
        key_rotation: Text,
        headers: Headers,
        connect_timeout_seconds: i64,
        first_token_timeout_seconds: i64,
        idle_timeout_seconds: i64,
        reply_timeout_seconds: i64,
        max_concurrent: i64,
        requests_per_minute: i64,
        tokens_per_minute: i64,
        min_spacing_ms: i64,
        queue: i64,
        queue_wait_seconds: i64,
        cost_per_million_input_tokens: f64,
        cost_per_million_output_tokens: f64,
    }
}

section! {
    /// `[[route]]`
    Route {
        name: Text,
        models: Texts,
        paths: Texts,
        methods: Texts,
        projects: Texts,
        tenants: Texts,
        headers: JsonFields,
        query: JsonFields,
        json_body: JsonFields,
        keywords: Texts,
        regex: Texts,
        min_tokens: i64,
        max_tokens: i64,
        strategy: Text,
        upstreams: Texts,
        weights: JsonFields,
        percentage: f64,
        max_latency_ms: i64,
        hedge_after: Text,
        sticky: Text,
        last_resort: Text,
        mirror: Text,
        mirror_percentage: f64,
    }
}

section! {
    /// `[[limit]]`
    Limit {
        name: Text,
        tenants: Texts,
        projects: Texts,
        models: Texts,
        clients: Texts,
        routes: Texts,
        per: Text,
        requests_per_minute: i64,
        burst: i64,
        tokens_per_minute: i64,
        concurrent_requests: i64,
        budget_tokens: i64,
        budget_hours: i64,
    }
}

section! {
    /// `[prices]`
    Prices {
        list: bool,
        file: Text,
    }
}

section! {
    /// `[[profile]]`
    Profile {
        name: Text,
        upstream: Text,
        api_key: Secret,
    }
}

section! {
    /// `[[webhook]]`
    Webhook {
        name: Text,
        url: Secret,
        secret: Secret,
        events: Texts,
        timeout_seconds: i64,
        retries: i64,
        quiet_seconds: i64,
    }
}

section! {
    /// `[replay]`
    Replay {
        usage: Text,
        pace: Text,
        tokens_per_second: i64,
    }
}

section! {
    /// `[chain]`
    Chain {
        order: Texts,
        cooldowns: Text,
        cooldown_seconds: Texts,
        billing_cooldown_seconds: i64,
        failure_window_hours: i64,
        short_wait_ms: i64,
        max_wait_seconds: i64,
        probe_seconds: i64,
        max_attempts: i64,
        backoff_ms: i64,
        trigger_codes: Texts,
        trigger_on_auth_failure: bool,
        trigger_on_timeout: bool,
        max_calls: i64,
        retry_share: f64,
        breaker_share: f64,
        breaker_calls: i64,
        slow_after_ms: i64,
        degraded_at: f64,
        hedge_after: Text,
        notice: Text,
    }
}

section! {
    /// `[cache]`
    Cache {
        exact: Text,
        semantic: Text,
        min_similarity: f64,
        coalesce: bool,
        max_wrong: f64,
        check_share: f64,
        answer_judge: Text,
        answer_judge_model: Text,
        ttl_seconds: i64,
        volatile_ttl_seconds: i64,
        stale_if_error_seconds: i64,
        stale_while_revalidate_seconds: i64,
        max_stale_seconds: i64,
        max_temperature: f64,
        max_answer_kb: i64,
        store_refusals: bool,
        store_tool_calls: bool,
        volatile_words: Texts,
        chance_words: Texts,
        compat_headers: bool,
        write_queue: i64,
        context: Text,
        client: Text,
        tools: Text,
        mask: Texts,
    }
}

section! {
    /// `[[project]]`
    Project {
        name: Text,
        context: Text,
        client: Text,
        tools: Text,
        mask: Texts,
    }
}

section! {
    /// `[[cache_rule]]`
    CacheRule {
        name: Text,
        protocols: Texts,
        models: Texts,
        projects: Texts,
        words: Texts,
        json_body: JsonFields,
        store: bool,
        semantic: bool,
        ttl_seconds: i64,
        stale_if_error_seconds: i64,
        volatile: bool,
    }
}

section! {
    /// `[embed]`
    Embed {
        model: Text,
        on_model_change: Text,
        device: Text,
        precision: Text,
        threads: i64,
        queue: i64,
        max_batch: i64,
        deadline_ms: i64,
    }
}

section! {
    /// `[store]`
    Store {
        kind: Text,
        path: Text,
        flush_ms: i64,
        max_entries: i64,
        max_mb: i64,
        index_mb: i64,
        deadline_ms: i64,
    }
}

section! {
    /// `[rules]`
    Rules {
        files: Texts,
        shipped: bool,
        reload_seconds: i64,
        services: Texts,
        secrets: Headers,
        model: Text,
        model_sure: f64,
        model_deadline_ms: i64,
    }
}

section! {
    /// `[local]`
    Local {
        enabled: bool,
        model: Text,
        device: Text,
        queue: i64,
        context: i64,
        max_tokens: i64,
        too_long: Text,
        idle_unload_seconds: i64,
    }
}

section! {
    /// `[journal]`
    Journal {
        enabled: bool,
        content: Text,
        key: Text,
        redact: Texts,
        projects: Texts,
        max_file_mb: i64,
        max_mb: i64,
        queue: i64,
    }
}

section! {
    /// `[log]`
    Log {
        level: Text,
        format: Text,
    }
}
