//! Values as people write them in headers and bodies.

use serde_json::Value;
use std::time::Duration;

/// Whole seconds, quoted or not. A number too large to be one is the longest time there is.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let digits = text.trim().trim_matches('"').trim();
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| digits.parse().map_or(Duration::MAX, Duration::from_secs))
}

/// Seconds, or a number with a unit as in Go: `90`, `1.5h`, `500ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("", 1.0)];
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * scale).ok()
}

/// Seconds in JSON.
pub(super) fn seconds_in(value: &Value) -> Option<Duration> {
    match value {
        Value::String(text) => seconds(text),
        other => other.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    }
}

/// Whether a word switches something on; `None` where it is neither that nor the opposite.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" | "" => Some(false),
        _ => None,
    }
}

/// The same in JSON.
pub(super) fn switch_in(value: &Value) -> Option<bool> {
    match value {
        Value::Null => Some(false),
        Value::Bool(on) => Some(*on),
        Value::Number(number) => Some(number.as_f64() != Some(0.0)),
        Value::String(text) => switch(text),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_read_as_they_are_written() {
        let cases = [
            ("90", Some(Duration::from_secs(90))),
            (" 30s ", Some(Duration::from_secs(30))),
            ("500ms", Some(Duration::from_millis(500))),
            ("1.5h", Some(Duration::from_mins(90))),
            ("5m", Some(Duration::from_mins(5))),
            ("1d", Some(Duration::from_hours(24))),
            ("-5s", None),
            ("NaN", None),
            ("1e400", None),
            ("1 week", None),
            ("", None),
        ];
        for (text, time) in cases {
            assert_eq!(duration(text), time, "{text}");
        }
        assert_eq!(seconds_in(&json!(1.5)), Some(Duration::from_millis(1500)));
        assert_eq!(seconds_in(&json!("60")), Some(Duration::from_mins(1)));
        for broken in [json!(-1), json!("soon"), json!([]), json!(null), json!(true)] {
            assert_eq!(seconds_in(&broken), None, "{broken}");
        }
    }
}
