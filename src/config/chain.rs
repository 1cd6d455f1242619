//! `[chain]` as far as it says how hard a chain tries, and `[[profile]]`: the further keys of an upstream.

use super::check::Checker;
use super::origin::Place;
use super::raw;
use super::read::{Found, Text, Texts};
use super::schema::nearest;
use crate::upstream::chain::{Config, Hedge, Statuses, Triggers};
use crate::upstream::health::{Backoff, BreakerRules, BudgetRules, Ladder, LatencyRules, Preset, Rules};
use crate::upstream::provider;
use std::ops::RangeInclusive;
use std::time::Duration;

/// More tries than that are a storm.
const ATTEMPTS: RangeInclusive<i64> = 1..=10;
const CALLS: RangeInclusive<i64> = 1..=100;
/// Who waits longer had better ask again.
const MOST_WAIT_SECONDS: RangeInclusive<i64> = 0..=3600;
/// A pause may be none at all.
const PAUSE_MS: RangeInclusive<i64> = 0..=60_000;
/// A month.
const HOURS: RangeInclusive<i64> = 1..=720;
const COOLDOWN_SECONDS: RangeInclusive<u64> = 1..=2_592_000;
/// Shares that are never reached switch a thing off.
const SHARE: RangeInclusive<f64> = 0.0..=1.0;
const TIMES: RangeInclusive<f64> = 1.0..=1000.0;

/// How the chain is set up, beside its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// The rules that the others here are made from.
    pub preset: Preset,
    /// The times that were typed in place of the preset's.
    pub cooldowns: Vec<Duration>,
    /// Who may be asked.
    pub rules: Rules,
    /// How hard one request tries.
    pub config: Config,
    /// How hard all of them together do.
    pub budget: BudgetRules,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            preset: Preset::V2026_9,
            cooldowns: Vec::new(),
            rules: Preset::V2026_9.rules(),
            config: Config::default(),
            budget: BudgetRules::default(),
        }
    }
}

impl Checker<'_> {
    pub(super) fn chain(&mut self, raw: &raw::Chain) -> Chain {
        let default = Chain::default();
        let preset = self.choice(raw.cooldowns.as_ref(), &Preset::ALL).unwrap_or(default.preset);
        let cooldowns = self.cooldown_times(raw.cooldown_seconds.as_ref());
        Chain {
            rules: self.health(raw, preset, &cooldowns),
            config: self.effort(raw),
            budget: BudgetRules {
                share: self.real(raw.retry_share.as_ref(), SHARE).unwrap_or(default.budget.share),
                ..default.budget
            },
            preset,
            cooldowns,
        }
    }

    fn health(&mut self, raw: &raw::Chain, preset: Preset, cooldowns: &[Duration]) -> Rules {
        let mut rules = preset.rules();
        if !cooldowns.is_empty() {
            (rules.rate_limit, rules.transient) = (Ladder::of(cooldowns), Ladder::of(cooldowns));
        }
        if let Some(typed) = &raw.billing_cooldown_seconds {
            let first = self.wait(Some(typed), rules.billing.nth(1));
            rules.billing = Ladder::doubling(first, Duration::from_hours(24).max(first));
        }
        let hours = self.whole(raw.failure_window_hours.as_ref(), HOURS, 24_u64);
        let slow_ms = self.whole(raw.slow_after_ms.as_ref(), PAUSE_MS, 0_u64);
        Rules {
            failure_window: Duration::from_hours(hours),
            short_wait: self.pause(raw.short_wait_ms.as_ref(), rules.short_wait),
            probe_every: self.wait(raw.probe_seconds.as_ref(), rules.probe_every),
            breaker: BreakerRules {
                share: self.real(raw.breaker_share.as_ref(), SHARE).unwrap_or(rules.breaker.share),
                least_calls: self.whole(raw.breaker_calls.as_ref(), 1..=100_000, rules.breaker.least_calls),
                slow: Some(slow_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
                ..rules.breaker
            },
            latency: LatencyRules {
                degraded_at: self.real(raw.degraded_at.as_ref(), TIMES).unwrap_or(rules.latency.degraded_at),
                ..rules.latency
            },
            ..rules
        }
    }

    fn effort(&mut self, raw: &raw::Chain) -> Config {
        let default = Config::default();
        let is = |typed: Option<&Found<bool>>| typed.is_none_or(|typed| typed.value);
        Config {
            max_attempts: self.whole(raw.max_attempts.as_ref(), ATTEMPTS, default.max_attempts),
            backoff: Backoff {
                first: self.pause(raw.backoff_ms.as_ref(), default.backoff.first),
                ..default.backoff
            },
            triggers: Triggers {
                statuses: self.statuses(raw.trigger_codes.as_ref()).unwrap_or_default(),
                auth: is(raw.trigger_on_auth_failure.as_ref()),
                timeout: is(raw.trigger_on_timeout.as_ref()),
            },
            max_calls: self.whole(raw.max_calls.as_ref(), CALLS, default.max_calls),
            max_wait: self.seconds(raw.max_wait_seconds.as_ref(), MOST_WAIT_SECONDS, default.max_wait),
            hedge: self.hedge(raw.hedge_after.as_ref()).unwrap_or(default.hedge),
        }
    }

    /// When a second one is asked beside the first.
    pub(super) fn hedge(&mut self, typed: Option<&Found<Text>>) -> Option<Hedge> {
        let Found { value: text, place } = typed?;
        let hedge = Hedge::parse(text.value.trim());
        if hedge.is_none() {
            let reason = format!("\"{}\" is none of off, p95 and a time like 800ms or 2s", text.typed);
            self.findings.problem(place, reason);
        }
        hedge
    }

    fn pause(&mut self, typed: Option<&Found<i64>>, default: Duration) -> Duration {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.whole(typed, PAUSE_MS, default))
    }

    fn cooldown_times(&mut self, typed: Option<&Found<Texts>>) -> Vec<Duration> {
        let mut times = Vec::new();
        for Found { value: text, place } in typed.map(|found| found.value.as_slice()).unwrap_or_default() {
            let seconds = text.value.trim().parse().ok().filter(|seconds| COOLDOWN_SECONDS.contains(seconds));
            if seconds.is_none() {
                let (first, last) = (COOLDOWN_SECONDS.start(), COOLDOWN_SECONDS.end());
                let reason = format!("\"{}\" is no number of seconds from {first} to {last}", text.typed);
                self.findings.problem(place, reason);
            }
            times.extend(seconds.map(Duration::from_secs));
        }
        times
    }

    fn statuses(&mut self, typed: Option<&Found<Texts>>) -> Option<Statuses> {
        let typed = &typed?.value;
        match Statuses::parse(typed.iter().map(|text| text.value.value.trim())) {
            Ok(statuses) => Some(statuses),
            Err(bad) => {
                let text = typed.iter().find(|text| text.value.value.trim() == bad)?;
                let reason =
                    format!("\"{}\" is no status from 400 to 599, and neither 4xx nor 5xx", text.value.typed);
                self.findings.problem(&text.place, reason);
                None
            }
        }
    }

    /// Gives each upstream the further keys it has.
    pub(super) fn profiles(&mut self, raw: Vec<Found<raw::Profile>>, upstreams: &mut [provider::Config]) {
        let mut names: Vec<String> = Vec::with_capacity(raw.len());
        for Found { value: profile, place } in raw {
            let name = self.name(profile.name.as_ref(), &place, names.iter().map(String::as_str));
            names.extend(name.clone());
            let key = self.profile_key(&profile, &place);
            if let (Some(of), Some(name), Some(key)) =
                (self.upstream_of(&profile, &place, upstreams), name, key)
                && let Some(upstream) = upstreams.get_mut(of)
            {
                upstream.profiles.push((name, key));
            }
        }
    }

    fn profile_key(&mut self, profile: &raw::Profile, place: &Place) -> Option<crate::secret::Secret> {
        let Some(key) = &profile.api_key else {
            self.findings.missing(place, "api_key", "a profile is a key of an upstream");
            return None;
        };
        self.sendable(key);
        Some(key.value.clone())
    }

    fn upstream_of(
        &mut self,
        profile: &raw::Profile,
        place: &Place,
        upstreams: &[provider::Config],
    ) -> Option<usize> {
        let Some(Found { value: of, place }) = &profile.upstream else {
            self.findings.missing(place, "upstream", "whose key it is");
            return None;
        };
        let found = upstreams.iter().position(|upstream| upstream.name == of.value);
        if found.is_none() {
            let near = nearest(&of.value, upstreams.iter().map(|upstream| upstream.name.as_str()));
            let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
            self.findings.problem(place, format!("there is no [[upstream]] named \"{}\"{near}", of.typed));
        }
        found
    }
}

/// `pattern=tokens`, each: how many tokens the models read, or write.
pub(super) fn windows(checker: &mut Checker<'_>, typed: Option<Found<Texts>>) -> Vec<(String, u64)> {
    let typed = typed.map(|found| found.value).unwrap_or_default();
    let mut windows = Vec::with_capacity(typed.len());
    for Found { value: text, place } in &typed {
        let read = text.value.split_once('=').and_then(|(models, tokens)| {
            let tokens = tokens.trim().parse().ok().filter(|tokens| *tokens > 0)?;
            Some((models.trim().to_owned(), tokens)).filter(|(models, _)| !models.is_empty())
        });
        if read.is_none() {
            let reason = format!("\"{}\" is not of the form \"models=tokens\"", text.typed);
            checker.findings.problem(place, reason);
        }
        windows.extend(read);
    }
    windows
}
