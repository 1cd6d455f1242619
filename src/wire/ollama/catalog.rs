//! What Ollama's clients ask beside questions: which models there are, and which Ollama this is.

use crate::clock::{date, days};
use serde_json::{Value, json};

/// A model that a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// Its name.
    pub id: String,
    /// Since when, in Unix seconds.
    pub created: u64,
}

/// The version of Ollama whose interface this is: clients refuse what they take for too old.
const VERSION: &str = "0.12.0";

/// `GET /api/tags`
pub fn tags(models: &[ModelEntry]) -> Value {
    json!({ "models": models.iter().map(entry).collect::<Vec<_>>() })
}

/// `GET /api/ps`: nothing has to be loaded here, so everything is.
pub fn ps(models: &[ModelEntry]) -> Value {
    let running = |model: &ModelEntry| {
        let mut entry = entry(model);
        (entry["size_vram"], entry["expires_at"]) = (json!(0), json!(rfc3339(model.created)));
        entry
    };
    json!({ "models": models.iter().map(running).collect::<Vec<_>>() })
}

/// `POST /api/show`, of a model that is none of Ollama's. What it can do is not known; clients hide a model
/// that says nothing of it, so it says what we can carry to it.
pub fn show(model: &ModelEntry) -> Value {
    json!({
        "modelfile": "", "parameters": "", "template": "", "details": details(),
        "model_info": { "general.architecture": "remote" }, "capabilities": ["completion", "tools", "vision"],
        "modified_at": rfc3339(model.created),
    })
}

/// `GET /api/version`
pub fn version() -> Value {
    json!({ "version": VERSION })
}

fn entry(model: &ModelEntry) -> Value {
    json!({
        "name": model.id, "model": model.id, "modified_at": rfc3339(model.created), "size": 0, "digest": "",
        "details": details(),
    })
}

/// Nothing is known of the files behind a model, and clients insist on the fields.
fn details() -> Value {
    json!({
        "parent_model": "", "format": "", "family": "", "families": [], "parameter_size": "",
        "quantization_level": "",
    })
}

const SECONDS_PER_DAY: u64 = 86_400;

/// A time as RFC 3339 writes it, in UTC.
pub fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = date(i64::try_from(days).unwrap_or(i64::MAX / 2).min(3_000_000));
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The time that RFC 3339 writes so, in Unix seconds; a fraction is cut off.
pub fn from_rfc3339(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let date = days(number(0..4)?, number(5..7)?, number(8..10)?)?;
    let clock = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), ..] => {
            let offset =
                zone.get(1..3)?.parse::<i64>().ok()? * 3600 + zone.get(4..6)?.parse::<i64>().ok()? * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    u64::try_from(date * 86_400 + clock - offset).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_741_570_283, "2025-03-10T01:31:23Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(rfc3339(seconds), text);
            assert_eq!(from_rfc3339(text), Some(seconds));
        }
        assert_eq!(from_rfc3339("2025-03-10T03:31:23.123456+02:00"), Some(1_741_570_283));
        for text in ["", "2025", "2025-13-10T00:00:00Z", "2025-03-10T00:00:00", "äöü-03-10T00:00:00Z"] {
            assert_eq!(from_rfc3339(text), None, "{text}");
        }
        assert!(!rfc3339(u64::MAX).is_empty());
    }
}
