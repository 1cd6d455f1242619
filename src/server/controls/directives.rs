//! `Cache-Control` of a request, and whatever is written like it.

use super::values::seconds;
use crate::cache::Wishes;
use std::time::Duration;

/// Reads a list of directives (RFC 9111, section 5.2.1; RFC 5861). Those that nobody knows say nothing; a number
/// that cannot be read counts as the strictest one.
pub(super) fn read(line: &str, wishes: &mut Wishes) {
    for directive in line.split(',') {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (directive, None),
        };
        obey(&name.trim().to_ascii_lowercase(), value, wishes);
    }
}

fn obey(name: &str, value: Option<&str>, wishes: &mut Wishes) {
    let value = value.map(seconds);
    match (name, value) {
        ("no-store" | "bypass", _) => wishes.bypass(),
        ("no-cache", _) => wishes.read = false,
        ("only-if-cached", _) => wishes.only_if_cached = true,
        ("max-age", age) => wishes.no_older_than(age.flatten().unwrap_or_default()),
        ("min-fresh", left) => wishes.fresh_for(left.flatten().unwrap_or(Duration::MAX)),
        ("ttl", ttl) => wishes.keep_for(ttl.flatten().unwrap_or_default()),
        // Without a number, however late.
        ("max-stale", late) => wishes.late_by(late.map_or(Duration::MAX, Option::unwrap_or_default)),
        ("stale-if-error", late) => {
            wishes.late_by_on_error(late.map_or(Duration::MAX, Option::unwrap_or_default));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Wishes);

    #[test]
    fn every_directive_is_understood_and_what_is_broken_counts_as_strict() {
        let wish = |change: fn(&mut Wishes)| {
            let mut wishes = Wishes::default();
            change(&mut wishes);
            wishes
        };
        let cases: &[(&str, Change)] = &[
            ("", |_| ()),
            ("private, no-transform, x=\"a", |_| ()),
            ("no-cache", |wishes| wishes.read = false),
            ("No-Cache ", |wishes| wishes.read = false),
            ("no-store", Wishes::bypass),
            ("bypass", Wishes::bypass),
            ("only-if-cached", |wishes| wishes.only_if_cached = true),
            ("max-age=60", |wishes| wishes.max_age = Some(Duration::from_mins(1))),
            ("max-age = \"60\"", |wishes| wishes.max_age = Some(Duration::from_mins(1))),
            ("max-age=60, max-age=5", |wishes| wishes.max_age = Some(Duration::from_secs(5))),
            ("max-age=soon", |wishes| wishes.max_age = Some(Duration::ZERO)),
            ("max-age", |wishes| wishes.max_age = Some(Duration::ZERO)),
            ("max-age=-1", |wishes| wishes.max_age = Some(Duration::ZERO)),
            ("max-age=99999999999999999999", |wishes| wishes.max_age = Some(Duration::MAX)),
            ("min-fresh=60", |wishes| wishes.min_fresh = Some(Duration::from_mins(1))),
            ("min-fresh=x", |wishes| wishes.min_fresh = Some(Duration::MAX)),
            ("max-stale=9", |wishes| wishes.max_stale = Some(Duration::from_secs(9))),
            ("max-stale", |wishes| wishes.max_stale = Some(Duration::MAX)),
            ("max-stale=x", |wishes| wishes.max_stale = Some(Duration::ZERO)),
            ("stale-if-error=9", |wishes| wishes.stale_if_error = Some(Duration::from_secs(9))),
            ("stale-if-error", |wishes| wishes.stale_if_error = Some(Duration::MAX)),
            ("stale-if-error=", |wishes| wishes.stale_if_error = Some(Duration::ZERO)),
            ("ttl=30", |wishes| wishes.ttl = Some(Duration::from_secs(30))),
            ("ttl=x", |wishes| wishes.ttl = Some(Duration::ZERO)),
        ];
        for (line, change) in cases {
            let mut wishes = Wishes::default();
            read(line, &mut wishes);
            assert_eq!(wishes, wish(*change), "{line}");
        }
    }
}
