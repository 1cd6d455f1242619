//! The headers by which other gateways let a request steer their caches. Whoever comes from one of them can leave
//! its client as it is.

use super::directives;
use super::values::{duration, seconds, seconds_in, switch};
use crate::cache::Wishes;
use serde_json::Value;
use std::time::Duration;

/// Other gateways whose headers we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Rival {
    Portkey,
    Helicone,
    Cloudflare,
    Bifrost,
    VllmSr,
}

/// What a header of another gateway does.
struct Control {
    name: &'static str,
    of: Rival,
    obey: fn(&str, &mut Wishes),
}

const fn control(of: Rival, name: &'static str, obey: fn(&str, &mut Wishes)) -> Control {
    Control { name, of, obey }
}

/// All of them. They are never sent on.
const CONTROLS: [Control; 17] = [
    control(Rival::Portkey, "x-portkey-cache", mode),
    control(Rival::Portkey, "x-portkey-cache-force-refresh", refresh),
    control(Rival::Portkey, "x-portkey-cache-namespace", |name, wishes| wishes.within("portkey", name)),
    control(Rival::Portkey, "x-portkey-config", portkey_config),
    control(Rival::Helicone, "helicone-cache-enabled", enabled),
    control(Rival::Helicone, "helicone-cache-seed", |seed, wishes| wishes.within("helicone", seed)),
    // One answer is any of so many.
    control(Rival::Helicone, "helicone-cache-bucket-max-size", |_, _| ()),
    control(Rival::Cloudflare, "cf-aig-skip-cache", skip),
    control(Rival::Cloudflare, "cf-aig-cache-ttl", |ttl, wishes| {
        wishes.keep_for(seconds(ttl).unwrap_or_default());
    }),
    control(Rival::Cloudflare, "cf-aig-cache-key", |key, wishes| wishes.within("cloudflare", key)),
    control(Rival::Bifrost, "x-bf-cache-key", |key, wishes| wishes.within("bifrost", key)),
    control(Rival::Bifrost, "x-bf-cache-ttl", |ttl, wishes| {
        wishes.keep_for(duration(ttl).unwrap_or_default());
    }),
    control(Rival::Bifrost, "x-bf-cache-threshold", threshold),
    control(Rival::Bifrost, "x-bf-cache-type", kind),
    control(Rival::Bifrost, "x-bf-cache-no-store", |value, wishes| wishes.write &= !is_on(value)),
    control(Rival::Bifrost, "x-bf-no-store", |value, wishes| wishes.write &= !is_on(value)),
    control(Rival::VllmSr, "x-vsr-cache-control", directives::read),
];

/// Obeys a header, where it is one of theirs, and tells whose.
pub(super) fn obey(name: &str, value: &str, wishes: &mut Wishes) -> Option<Rival> {
    let control = CONTROLS.iter().find(|control| control.name == name)?;
    (control.obey)(value, wishes);
    Some(control.of)
}

/// Whether a header is one of theirs.
pub(super) fn is_control(name: &str) -> bool {
    CONTROLS.iter().any(|control| control.name == name)
}

/// What is neither on nor off counts as on: each of these makes something stricter.
fn is_on(value: &str) -> bool {
    switch(value).unwrap_or(true)
}

fn skip(value: &str, wishes: &mut Wishes) {
    if is_on(value) {
        wishes.bypass();
    }
}

fn refresh(value: &str, wishes: &mut Wishes) {
    wishes.read &= !is_on(value);
}

/// Here only what is on is on.
fn enabled(value: &str, wishes: &mut Wishes) {
    if switch(value) != Some(true) {
        wishes.bypass();
    }
}

/// Portkey's modes.
fn mode(value: &str, wishes: &mut Wishes) {
    match value.trim().to_ascii_lowercase().as_str() {
        "semantic" => {}
        "simple" => wishes.semantic = false,
        _ => wishes.bypass(),
    }
}

/// Of Portkey's configuration in JSON only what it says about the cache. By name it is known to Portkey alone.
fn portkey_config(value: &str, wishes: &mut Wishes) {
    let Ok(config) = serde_json::from_str::<Value>(value) else { return };
    match &config["cache"] {
        Value::Null => {}
        Value::String(named) => mode(named, wishes),
        cache => {
            match &cache["mode"] {
                Value::Null => {}
                Value::String(named) => mode(named, wishes),
                _ => wishes.bypass(),
            }
            if let Some(age) = cache.get("max_age").filter(|age| !age.is_null()) {
                let age = seconds_in(age).unwrap_or(Duration::ZERO);
                wishes.keep_for(age);
                wishes.no_older_than(age);
            }
        }
    }
}

/// Bifrost's types. What is in other words only has no need of being kept from the same words.
fn kind(value: &str, wishes: &mut Wishes) {
    wishes.semantic &= value.trim().eq_ignore_ascii_case("semantic");
}

fn threshold(value: &str, wishes: &mut Wishes) {
    match value.trim().parse::<f32>() {
        Ok(least) if (0.0..=1.0).contains(&least) => wishes.as_similar_as(least),
        _ => wishes.semantic = false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(change: impl FnOnce(&mut Wishes)) -> Wishes {
        let mut wishes = Wishes::default();
        change(&mut wishes);
        wishes
    }

    #[test]
    fn every_header_of_theirs_is_obeyed_and_what_is_broken_counts_as_strict() {
        let ttl = |seconds| wish(|wishes| wishes.ttl = Some(Duration::from_secs(seconds)));
        let within = |way, name: &str| wish(|wishes| wishes.within(way, name));
        let exact_only = || wish(|wishes| wishes.semantic = false);
        let unread = || wish(|wishes| wishes.read = false);
        let unwritten = || wish(|wishes| wishes.write = false);
        let off = || wish(Wishes::bypass);
        let nothing = Wishes::default;
        let cases = [
            ("x-portkey-cache", "semantic", nothing()),
            ("x-portkey-cache", "Simple", exact_only()),
            ("x-portkey-cache", "none", off()),
            ("x-portkey-cache-force-refresh", "true", unread()),
            ("x-portkey-cache-force-refresh", "false", nothing()),
            ("x-portkey-cache-force-refresh", "now", unread()),
            ("x-portkey-cache-namespace", "a", within("portkey", "a")),
            ("x-portkey-config", r#"{"cache":{"mode":"simple"}}"#, exact_only()),
            ("x-portkey-config", r#"{"cache":"semantic"}"#, nothing()),
            ("x-portkey-config", r#"{"cache":{"mode":7}}"#, off()),
            ("x-portkey-config", r#"{"retry":{"attempts":3}}"#, nothing()),
            ("x-portkey-config", "pc-main-1234", nothing()),
            ("x-portkey-config", "[", nothing()),
            ("helicone-cache-enabled", "true", nothing()),
            ("helicone-cache-enabled", "false", off()),
            ("helicone-cache-enabled", "perhaps", off()),
            ("helicone-cache-seed", "user-1", within("helicone", "user-1")),
            ("helicone-cache-bucket-max-size", "3", nothing()),
            ("cf-aig-skip-cache", "true", off()),
            ("cf-aig-skip-cache", "false", nothing()),
            ("cf-aig-skip-cache", "maybe", off()),
            ("cf-aig-cache-ttl", "60", ttl(60)),
            ("cf-aig-cache-ttl", "soon", ttl(0)),
            ("cf-aig-cache-key", "k", within("cloudflare", "k")),
            ("x-bf-cache-key", "k", within("bifrost", "k")),
            ("x-bf-cache-ttl", "30s", ttl(30)),
            ("x-bf-cache-ttl", "30", ttl(30)),
            ("x-bf-cache-ttl", "x", ttl(0)),
            ("x-bf-cache-threshold", "0.9", wish(|wishes| wishes.min_similarity = Some(0.9))),
            ("x-bf-cache-threshold", "90", exact_only()),
            ("x-bf-cache-threshold", "NaN", exact_only()),
            ("x-bf-cache-type", "direct", exact_only()),
            ("x-bf-cache-type", "semantic", nothing()),
            ("x-bf-cache-type", "?", exact_only()),
            ("x-bf-cache-no-store", "true", unwritten()),
            ("x-bf-cache-no-store", "false", nothing()),
            ("x-bf-no-store", "true", unwritten()),
            ("x-vsr-cache-control", "no-cache", unread()),
            ("x-vsr-cache-control", "bypass", off()),
            ("x-vsr-cache-control", "ttl=60", ttl(60)),
        ];
        for (name, value, expected) in &cases {
            let mut wishes = Wishes::default();
            assert!(obey(name, value, &mut wishes).is_some(), "{name}");
            assert_eq!(wishes, *expected, "{name}: {value}");
        }
        for control in &CONTROLS {
            assert!(cases.iter().any(|(name, _, _)| *name == control.name), "{} is not tried", control.name);
        }
        assert_eq!(obey("x-portkey-trace-id", "1", &mut Wishes::default()), None);
        assert!(is_control("cf-aig-cache-key") && !is_control("cf-aig-metadata"));
    }

    #[test]
    fn portkeys_max_age_is_how_long_to_keep_and_how_old_to_take() {
        for (age, seconds) in [("60", 60), ("\"60\"", 60), ("\"long\"", 0), ("-1", 0)] {
            let mut wishes = Wishes::default();
            let config = format!(r#"{{"cache":{{"mode":"semantic","max_age":{age}}}}}"#);
            obey("x-portkey-config", &config, &mut wishes);
            let age = Some(Duration::from_secs(seconds));
            assert_eq!((wishes.ttl, wishes.max_age), (age, age), "{config}");
        }
    }
}
