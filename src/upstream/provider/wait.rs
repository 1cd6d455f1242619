//! For how long a provider wants to be left alone, in every form that providers say it: headers of their own, numbers
//! and times of day, fields of the body, and words.

use super::date;
use serde_json::Value;
use std::time::Duration;

/// Numbers from here on are no seconds from now, but seconds since 1970; and from there on milliseconds.
const FIRST_UNIX_SECOND: f64 = 1e9;
const FIRST_UNIX_MILLI: f64 = 1e12;

/// How long a wait is asked for in headers, on purpose, where `now` is in Unix seconds.
pub(super) fn in_headers<'h>(headers: &impl Fn(&str) -> Option<&'h str>, now: u64) -> Option<Duration> {
    let on_purpose = number(headers("retry-after-ms")).map(|ms| ms / 1000.0);
    if let Some(seconds) = on_purpose.or_else(|| number(headers("retry-after"))) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then = headers("retry-after").and_then(date::parse)?;
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Every limit that providers tell of, by the headers that say what is left of it and when there is more.
const LIMITS: [(&str, &str); 11] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining-requests-day", "x-ratelimit-reset-requests-day"),
    ("x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-rate-limit-remaining", "x-rate-limit-reset"),
];

/// How long until there is more of every limit of which nothing is left; where none says so, of the first that has more.
pub(super) fn of_limits<'h>(headers: &impl Fn(&str) -> Option<&'h str>, now: u64) -> Option<Duration> {
    let known = LIMITS.iter().filter_map(|(remaining, reset)| {
        let until = moment(headers(reset)?, now)?;
        let spent = number(headers(remaining)).is_some_and(|left| left <= 0.0);
        Some((spent, until))
    });
    let (spent, others): (Vec<_>, Vec<_>) = known.partition(|(spent, _)| *spent);
    let times = |limits: Vec<(bool, Duration)>| limits.into_iter().map(|(_, until)| until);
    times(spent).max().or_else(|| times(others).min())
}

/// How long until there is more of every limit of which nothing is left, where that is so of any.
pub(super) fn of_spent<'h>(headers: &impl Fn(&str) -> Option<&'h str>, now: u64) -> Option<Duration> {
    let spent = LIMITS.iter().filter_map(|(remaining, reset)| {
        let left = number(headers(remaining))?;
        if left > 0.0 { None } else { moment(headers(reset)?, now) }
    });
    spent.max()
}

/// From now to what `text` says: `6m0s`, `12`, `1741305600000`, `2026-01-01T00:00:00Z`.
fn moment(text: &str, now: u64) -> Option<Duration> {
    let text = text.trim();
    if let Some(number) = number(Some(text)) {
        return from_number(number, now);
    }
    let then = date::parse_rfc3339(text).or_else(|| date::parse(text));
    then.map(|then| Duration::from_secs(then.saturating_sub(now))).or_else(|| whole_time(text))
}

fn from_number(number: f64, now: u64) -> Option<Duration> {
    let at = if number >= FIRST_UNIX_MILLI { number / 1000.0 } else { number };
    if at < FIRST_UNIX_SECOND {
        return Duration::try_from_secs_f64(at).ok();
    }
    let then = Duration::try_from_secs_f64(at).ok()?;
    Some(then.saturating_sub(Duration::from_secs(now)))
}

fn number(text: Option<&str>) -> Option<f64> {
    text?.trim().parse::<f64>().ok().filter(|number| number.is_finite())
}

/// How long a wait is asked for in fields of an error: Google's, Codex', OpenRouter's, and plain ones.
pub(super) fn in_fields(error: &Value, now: u64) -> Option<Duration> {
    let details: &[Value] = error["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    let google = || details.iter().find_map(|detail| whole_time(detail["retryDelay"].as_str()?));
    let seconds = || {
        let fields = ["retry_after", "retry_after_seconds", "resets_in_seconds"];
        let found = fields.iter().find_map(|field| read_number(&error[*field]))?;
        Duration::try_from_secs_f64(found).ok()
    };
    let millis = || Duration::try_from_secs_f64(read_number(&error["retry_after_ms"])? / 1000.0).ok();
    let at = || {
        let headers = &error["metadata"]["headers"];
        let fields = [&error["resets_at"], &error["reset_at"], &headers["X-RateLimit-Reset"]];
        fields.into_iter().find_map(|field| match field {
            Value::String(text) => moment(text, now),
            number => from_number(number.as_f64()?, now),
        })
    };
    google().or_else(millis).or_else(seconds).or_else(at)
}

fn read_number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| number(value.as_str())).filter(|number| number.is_finite())
}

/// How long a wait is asked for in words: "Please try again in 6m0s.", "Please retry after 20 seconds."
pub(super) fn in_words(message: &str) -> Option<Duration> {
    const BEFORE: [&str; 9] = [
        "try again in ",
        "try again after ",
        "retry in ",
        "retry after ",
        "retry your request after ",
        "resets in ",
        "reset in ",
        "reset after ",
        "wait ",
    ];
    let message = message.to_lowercase();
    BEFORE.iter().find_map(|phrase| {
        let (_, rest) = message.split_once(phrase)?;
        let rest = ["about ", "for ", "another ", "at least "]
            .iter()
            .fold(rest, |rest, filler| rest.strip_prefix(filler).unwrap_or(rest));
        time_at_beginning(rest).map(|(time, _)| time)
    })
}

/// A text that is a time and nothing else.
fn whole_time(text: &str) -> Option<Duration> {
    time_at_beginning(text).filter(|(_, rest)| rest.is_empty()).map(|(time, _)| time)
}

/// `6m0s`, `1.5s`, `20 seconds`, `1 minute and 5 seconds`; and what follows it.
fn time_at_beginning(text: &str) -> Option<(Duration, &str)> {
    let (mut sum, mut rest, mut found) = (Duration::ZERO, text, false);
    while let Some((piece, after)) = piece(rest) {
        sum = sum.checked_add(piece)?;
        found = true;
        rest = after;
        let next = after.trim_start_matches([' ', ',']);
        let next = next.strip_prefix("and ").unwrap_or(next);
        if !next.starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
        rest = next;
    }
    found.then_some((sum, rest))
}

/// A number and its unit.
fn piece(text: &str) -> Option<(Duration, &str)> {
    const UNITS: [(&[&str], f64); 5] = [
        (&["milliseconds", "millisecond", "ms"], 0.001),
        (&["seconds", "second", "secs", "sec", "s"], 1.0),
        (&["minutes", "minute", "mins", "min", "m"], 60.0),
        (&["hours", "hour", "hrs", "hr", "h"], 3600.0),
        (&["days", "day", "d"], 86_400.0),
    ];
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    // The full stop of a sentence is none of a number's.
    let (figure, rest) = text.split_at(digits);
    let number: f64 = figure.trim_end_matches('.').parse().ok()?;
    let rest = rest.trim_start_matches(' ');
    let word = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(word);
    let (_, seconds) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
    Some((Duration::try_from_secs_f64(number * seconds).ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2026-11-25 12:00:00 UTC.
    const NOW: u64 = 1_795_608_000;

    fn headers(pairs: &[(&str, &'static str)]) -> Option<f64> {
        let find = |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        in_headers(&find, NOW).or_else(|| of_limits(&find, NOW)).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn headers_say_it_in_many_ways() {
        for (pairs, seconds) in [
            (&[("retry-after", "2")][..], Some(2.0)),
            (&[("retry-after", "1.5")], Some(1.5)),
            (&[("retry-after-ms", "250"), ("retry-after", "9")], Some(0.25)),
            (&[("retry-after", "Wed, 25 Nov 2026 12:00:30 GMT")], Some(30.0)),
            (&[("retry-after", "Wed, 25 Nov 2026 11:00:30 GMT")], Some(0.0)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "soon")], None),
            (&[("x", "1")], None),
            // OpenAI, Groq.
            (&[("x-ratelimit-reset-requests", "6m0s")], Some(360.0)),
            (&[("x-ratelimit-reset-tokens", "120ms"), ("x-ratelimit-remaining-tokens", "0")], Some(0.12)),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1h2m3.5s"),
                    ("x-ratelimit-remaining-tokens", "17"),
                    ("x-ratelimit-reset-tokens", "5s"),
                ],
                Some(3723.5),
            ),
            (&[("x-ratelimit-reset-requests", "8s"), ("x-ratelimit-reset-tokens", "5s")], Some(5.0)),
            // Anthropic.
            (
                &[
                    ("anthropic-ratelimit-input-tokens-remaining", "0"),
                    ("anthropic-ratelimit-input-tokens-reset", "2026-11-25T12:00:42Z"),
                    ("anthropic-ratelimit-requests-remaining", "12"),
                    ("anthropic-ratelimit-requests-reset", "2026-11-25T12:00:01Z"),
                ],
                Some(42.0),
            ),
            // OpenRouter, GitHub, and the draft of a standard.
            (&[("x-ratelimit-reset", "1795608010500")], Some(10.5)),
            (&[("x-ratelimit-reset", "1795608060")], Some(60.0)),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "50")], Some(50.0)),
            (&[("retry-after", "3"), ("x-ratelimit-reset-requests", "6m0s")], Some(3.0)),
        ] {
            assert_eq!(headers(pairs), seconds, "{pairs:?}");
        }
    }

    #[test]
    fn bodies_say_it_in_fields() {
        let google = json!({ "details": [{ "@type": "x" }, { "retryDelay": "7.5s" }] });
        let router =
            json!({ "code": 429, "metadata": { "headers": { "X-RateLimit-Reset": "1795608003000" } } });
        for (error, seconds) in [
            (google, Some(7.5)),
            (router, Some(3.0)),
            (json!({ "type": "usage_limit_reached", "resets_in_seconds": 7200 }), Some(7200.0)),
            (json!({ "resets_at": 1_795_608_600 }), Some(600.0)),
            (json!({ "retry_after": "12" }), Some(12.0)),
            (json!({ "retry_after_ms": 1500 }), Some(1.5)),
            (json!({ "retry_after": -3 }), None),
            (json!({ "message": "m" }), None),
            (json!("text"), None),
        ] {
            assert_eq!(in_fields(&error, NOW).map(|wait| wait.as_secs_f64()), seconds, "{error}");
        }
    }

    #[test]
    fn and_in_words() {
        for (message, seconds) in [
            (
                "Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3, Used 3, \
              Requested 1. Please try again in 20s. Visit https://x to learn more.",
                Some(20.0),
            ),
            ("Please try again in 6m0s.", Some(360.0)),
            ("Please try again in 120ms.", Some(0.12)),
            ("Please try again in 7.66s. Need more tokens?", Some(7.66)),
            ("Please try again in 1h2m3s", Some(3723.0)),
            (
                "Requests to the API have exceeded the call rate limit. Please retry after 86400 seconds.",
                Some(86400.0),
            ),
            ("Your quota resets in 2 days and 3 hours.", Some(183_600.0)),
            ("Please wait 1 minute and 5 seconds", Some(65.0)),
            ("Please retry in 12.3s.", Some(12.3)),
            ("Too many requests, wait for 30 seconds", Some(30.0)),
            ("Try again in a moment", None),
            ("try again in 5 apples", None),
            ("The model is overloaded. Please try again later.", None),
            ("try again in 99999999999999999999999999d", None),
        ] {
            assert_eq!(in_words(message).map(|wait| wait.as_secs_f64()), seconds, "{message}");
        }
    }
}
