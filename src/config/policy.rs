//! `[cache]` as far as it says what is kept and for how long, and `[[cache_rule]]`.

use super::check::{Checker, TTL_SECONDS};
use super::origin::Place;
use super::raw;
use super::read::{Found, Texts};
use crate::cache::policy::{Config, Rule, Then, When, WordLists};
use crate::chat::Protocol;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Times that may be none at all.
const UP_TO_TTL: RangeInclusive<i64> = 0..=*TTL_SECONDS.end();
/// No provider draws at a higher one.
const TEMPERATURE: RangeInclusive<f64> = 0.0..=2.0;
/// From a sentence to the longest reply there is.
const ANSWER_KB: RangeInclusive<i64> = 1..=65_536;

impl Checker<'_> {
    pub(super) fn policy(&mut self, raw: &raw::Cache, rules: Vec<Found<raw::CacheRule>>) -> Config {
        let default = Config::default();
        let stale = raw.stale_while_revalidate_seconds.as_ref();
        Config {
            ttl: self.seconds(raw.ttl_seconds.as_ref(), TTL_SECONDS, default.ttl),
            volatile_ttl: self.seconds(raw.volatile_ttl_seconds.as_ref(), UP_TO_TTL, default.volatile_ttl),
            stale_if_error: self.seconds(
                raw.stale_if_error_seconds.as_ref(),
                UP_TO_TTL,
                default.stale_if_error,
            ),
            stale_while_revalidate: self.seconds(stale, UP_TO_TTL, default.stale_while_revalidate),
            max_stale: self.seconds(raw.max_stale_seconds.as_ref(), UP_TO_TTL, default.max_stale),
            max_temperature: self
                .real(raw.max_temperature.as_ref(), TEMPERATURE)
                .unwrap_or(default.max_temperature),
            max_answer_bytes: self.whole(
                raw.max_answer_kb.as_ref(),
                ANSWER_KB,
                default.max_answer_bytes >> 10,
            ) << 10,
            store_refusals: raw.store_refusals.as_ref().map_or(default.store_refusals, |typed| typed.value),
            store_tool_calls: raw
                .store_tool_calls
                .as_ref()
                .map_or(default.store_tool_calls, |typed| typed.value),
            words: WordLists {
                volatile: self.phrases(raw.volatile_words.as_ref()).unwrap_or(default.words.volatile),
                chance: self.phrases(raw.chance_words.as_ref()).unwrap_or(default.words.chance),
            },
            rules: self.cache_rules(rules),
        }
    }

    fn cache_rules(&mut self, raw: Vec<Found<raw::CacheRule>>) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::with_capacity(raw.len());
        for Found { value: rule, place } in raw {
            let name = self.name(rule.name.as_ref(), &place, rules.iter().map(|known| &*known.name));
            let then = self.then(&rule, &place);
            let when = When {
                protocols: self.protocols(rule.protocols.as_ref()),
                models: self.phrases(rule.models.as_ref()).unwrap_or_default(),
                projects: self.phrases(rule.projects.as_ref()).unwrap_or_default(),
                words: self.phrases(rule.words.as_ref()).unwrap_or_default(),
                body: rule.json_body.map(|fields| fields.value).unwrap_or_default(),
            };
            rules.extend(name.map(|name| Rule { name, when, then }));
        }
        rules
    }

    fn then(&mut self, rule: &raw::CacheRule, place: &Place) -> Then {
        let mut time = |typed: Option<&Found<i64>>, range| {
            typed.map(|typed| self.seconds(Some(typed), range, Duration::ZERO))
        };
        let then = Then {
            store: rule.store.as_ref().map(|typed| typed.value),
            semantic: rule.semantic.as_ref().map(|typed| typed.value),
            ttl: time(rule.ttl_seconds.as_ref(), TTL_SECONDS),
            stale_if_error: time(rule.stale_if_error_seconds.as_ref(), UP_TO_TTL),
            volatile: rule.volatile.as_ref().map(|typed| typed.value),
        };
        if then == Then::default() {
            let reason = "says nothing that holds; add store, semantic, ttl_seconds, stale_if_error_seconds or volatile";
            self.findings.problem(place, reason);
        }
        if then.store == Some(false) {
            self.moot(rule);
        }
        then
    }

    /// Whatever else is said of what is not kept would silently do nothing.
    fn moot(&mut self, rule: &raw::CacheRule) {
        let times = [rule.ttl_seconds.as_ref(), rule.stale_if_error_seconds.as_ref()];
        let switches = [rule.semantic.as_ref(), rule.volatile.as_ref()];
        let times = times.into_iter().flatten().map(|typed| &typed.place);
        let switches = switches.into_iter().flatten().map(|typed| &typed.place);
        for place in times.chain(switches) {
            self.findings.problem(place, "means nothing where store is false");
        }
    }

    fn protocols(&mut self, typed: Option<&Found<Texts>>) -> Vec<Protocol> {
        let names = Protocol::ALL.map(|protocol| (protocol.name(), protocol));
        let typed = typed.map(|list| list.value.as_slice()).unwrap_or_default();
        typed.iter().filter_map(|name| self.choice(Some(name), &names)).collect()
    }

    /// Texts of which none is empty.
    pub(super) fn phrases(&mut self, typed: Option<&Found<Texts>>) -> Option<Vec<String>> {
        let Found { value: list, .. } = typed?;
        Some(list.iter().filter_map(|phrase| self.filled(Some(phrase))).collect())
    }
}
