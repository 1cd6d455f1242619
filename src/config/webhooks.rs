//! `[[webhook]]`: who is told what becomes of the chain.

use super::address::Address;
use super::check::Checker;
use super::origin::Place;
use super::raw;
use super::read::{Found, Texts};
use super::show::{HIDDEN, Keys, number, text, texts};
use crate::secret::Secret;
use crate::webhook::{Config, Key, Topic};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Whoever takes longer does its work before it says that it has understood.
const TIMEOUT_SECONDS: RangeInclusive<i64> = 1..=60;
const RETRIES: RangeInclusive<i64> = 0..=10;
const QUIET_SECONDS: RangeInclusive<i64> = 0..=86_400;

/// Those who are told.
pub(super) fn check(checker: &mut Checker<'_>, raw: Vec<Found<raw::Webhook>>) -> Vec<Config> {
    let mut hooks: Vec<Config> = Vec::with_capacity(raw.len());
    for Found { value: raw, place } in raw {
        let name = checker.name(raw.name.as_ref(), &place, hooks.iter().map(|known| known.name.as_str()));
        let url = url(checker, raw.url.as_ref(), &place);
        let key = key(checker, raw.secret.as_ref(), &place);
        let topics = topics(checker, raw.events.as_ref());
        let (Some(name), Some(url), Some(key)) = (name, url, key) else { continue };
        let default = Config::new(&name, url.expose(), key);
        hooks.push(Config {
            topics: topics.unwrap_or(default.topics),
            timeout: checker.seconds(raw.timeout_seconds.as_ref(), TIMEOUT_SECONDS, default.timeout),
            retries: checker.whole(raw.retries.as_ref(), RETRIES, default.retries),
            quiet: checker.seconds(raw.quiet_seconds.as_ref(), QUIET_SECONDS, default.quiet),
            ..default
        });
    }
    hooks
}

/// What is wrong with it is told without it: addresses of webhooks are often secrets.
fn url(checker: &mut Checker<'_>, typed: Option<&Found<Secret>>, table: &Place) -> Option<Secret> {
    let Some(Found { value, place }) = typed else {
        checker.findings.missing(table, "url", "where events are sent");
        return None;
    };
    // Some receivers know who calls by a parameter.
    let path = value.expose().split('?').next().unwrap_or_default();
    match Address::new(path) {
        Ok(_) if value.expose().contains(char::is_whitespace) => {
            checker.findings.problem(place, "holds a space or a control character");
            None
        }
        Ok(_) => Some(value.clone()),
        Err(reason) => {
            checker.findings.problem(place, reason);
            None
        }
    }
}

fn key(checker: &mut Checker<'_>, typed: Option<&Found<Secret>>, table: &Place) -> Option<Key> {
    let Some(Found { value, place }) = typed else {
        checker.findings.missing(table, "secret", "what its events are signed with");
        return None;
    };
    Key::new(value).map_err(|bad| checker.findings.problem(place, bad.to_string())).ok()
}

/// Where nobody says, all.
fn topics(checker: &mut Checker<'_>, typed: Option<&Found<Texts>>) -> Option<Vec<Topic>> {
    let Found { value: typed, place } = typed?;
    if typed.is_empty() {
        checker.findings.problem(place, "must not be empty: it would be told of nothing");
    }
    let topics = typed.iter().filter_map(|text| checker.choice(Some(text), &Topic::ALL)).collect();
    Some(topics)
}

/// A webhook as it is typed, without what is nobody's business.
pub(super) fn shown(hook: &Config) -> Keys {
    let Config { name, url: _, key: _, topics, timeout, retries, backoff: _, quiet } = hook;
    let topics: Vec<String> = topics.iter().map(|topic| topic.name().to_owned()).collect();
    let seconds = |time: Duration| number(time.as_secs());
    vec![
        ("name", text(name)),
        ("url", text(HIDDEN)),
        ("secret", text(HIDDEN)),
        ("events", texts(&topics)),
        ("timeout_seconds", seconds(*timeout)),
        ("retries", number(*retries)),
        ("quiet_seconds", seconds(*quiet)),
    ]
}
