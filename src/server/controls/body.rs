//! What LiteLLM's clients say in the body: `"cache": {"no-cache": true, "ttl": 60}`.

use super::values::{seconds_in, switch_in};
use crate::cache::Wishes;
use crate::chat::Request;
use crate::wire::{self, splice::splice};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

const FIELD: &str = "cache";

/// What LiteLLM knows in it.
const KNOWN: [&str; 8] =
    ["no-cache", "no-store", "ttl", "s-maxage", "s-max-age", "max-age", "namespace", "use-cache"];

/// Takes the field out of `request`, and out of the bytes it came in, where it is meant for us.
pub(super) fn take(request: &mut Request, wishes: &mut Wishes) -> Result<(), wire::Error> {
    let Some(Value::Object(said)) = request.extra.get(FIELD).filter(|value| is_ours(value)) else {
        return Ok(());
    };
    read(said, wishes);
    request.extra.shift_remove(FIELD);
    request.received.body = splice(&request.received.body, &[(FIELD, None)])?;
    Ok(())
}

/// The same for a body that is not understood any further: it is sent on without the field.
pub(in crate::server) fn strip(body: Bytes) -> Bytes {
    #[derive(Deserialize)]
    struct Holding {
        cache: Option<Value>,
    }
    match serde_json::from_slice(&body) {
        Ok(Holding { cache: Some(said) }) if is_ours(&said) => {
            splice(&body, &[(FIELD, None)]).unwrap_or(body)
        }
        _ => body,
    }
}

/// Anything else of this name is a stranger's, and left alone.
fn is_ours(value: &Value) -> bool {
    let Value::Object(said) = value else { return false };
    said.is_empty() || said.keys().any(|key| KNOWN.contains(&key.as_str()))
}

fn read(said: &Map<String, Value>, wishes: &mut Wishes) {
    for (key, value) in said {
        // What cannot be read counts as the strictest that it could be.
        let on = || switch_in(value).unwrap_or(true);
        let time = || seconds_in(value).unwrap_or(Duration::ZERO);
        match key.as_str() {
            "no-cache" if on() => wishes.read = false,
            "no-store" if on() => wishes.write = false,
            "use-cache" if !switch_in(value).unwrap_or(false) => wishes.bypass(),
            _ if value.is_null() => {}
            "ttl" => wishes.keep_for(time()),
            "s-maxage" | "s-max-age" | "max-age" => wishes.no_older_than(time()),
            "namespace" => wishes.within("namespace", text(value)),
            _ => {}
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wish(change: impl FnOnce(&mut Wishes)) -> Wishes {
        let mut wishes = Wishes::default();
        change(&mut wishes);
        wishes
    }

    #[test]
    fn what_litellm_knows_is_understood() {
        let minute = Duration::from_mins(1);
        let cases = [
            (json!({}), wish(|_| ())),
            (json!({"no-cache": true}), wish(|wishes| wishes.read = false)),
            (json!({"no-cache": false}), wish(|_| ())),
            (json!({"no-cache": null}), wish(|_| ())),
            (json!({"no-cache": "True"}), wish(|wishes| wishes.read = false)),
            (json!({"no-cache": "please"}), wish(|wishes| wishes.read = false)),
            (json!({"no-store": true}), wish(|wishes| wishes.write = false)),
            (json!({"ttl": 60}), wish(|wishes| wishes.ttl = Some(minute))),
            (json!({"ttl": "60"}), wish(|wishes| wishes.ttl = Some(minute))),
            (json!({"ttl": "long"}), wish(|wishes| wishes.ttl = Some(Duration::ZERO))),
            (json!({"ttl": -1}), wish(|wishes| wishes.ttl = Some(Duration::ZERO))),
            (json!({"ttl": null}), wish(|_| ())),
            (json!({"s-maxage": 60}), wish(|wishes| wishes.max_age = Some(minute))),
            (json!({"s-max-age": 60, "s-maxage": 90}), wish(|wishes| wishes.max_age = Some(minute))),
            (json!({"s-maxage": []}), wish(|wishes| wishes.max_age = Some(Duration::ZERO))),
            (json!({"namespace": "a"}), wish(|wishes| wishes.within("namespace", "a"))),
            (json!({"namespace": 7}), wish(|wishes| wishes.within("namespace", "7"))),
            (json!({"use-cache": true}), wish(|_| ())),
            (json!({"use-cache": false}), wish(Wishes::bypass)),
            (json!({"no-cache": false, "future": 1}), wish(|_| ())),
        ];
        for (cache, expected) in cases {
            let body = json!({"model": "m", "cache": cache, "seed": 1});
            let mut request = Request { extra: body.as_object().unwrap().clone(), ..Request::default() };
            request.received.body = body.to_string().into();
            let mut wishes = Wishes::default();
            take(&mut request, &mut wishes).unwrap();
            assert_eq!(wishes, expected, "{cache}");
            assert!(!request.extra.contains_key("cache"), "{cache}");
            assert_eq!(request.received.body, r#"{"model":"m","seed":1}"#);
            assert_eq!(strip(body.to_string().into()), r#"{"model":"m","seed":1}"#);
        }
    }

    #[test]
    fn what_is_a_strangers_is_left_alone() {
        for cache in [json!(true), json!("ephemeral"), json!([1]), json!(null), json!({"type": "ephemeral"})]
        {
            let body = json!({"model": "m", "cache": cache});
            let mut request = Request { extra: body.as_object().unwrap().clone(), ..Request::default() };
            request.received.body = body.to_string().into();
            let mut wishes = Wishes::default();
            take(&mut request, &mut wishes).unwrap();
            assert_eq!(wishes, Wishes::default());
            assert_eq!(request.received.body, body.to_string());
            assert!(request.extra.contains_key("cache"));
            assert_eq!(strip(body.to_string().into()), body.to_string());
        }
        assert_eq!(strip(Bytes::from_static(b"\xff")), &b"\xff"[..]);
    }
}
