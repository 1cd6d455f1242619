//! Changes a few fields of a JSON object and leaves every other byte as it is.
//!
//! A request that goes to a provider of its own protocol is sent as it came; only the model's name and how
//! usage is reported may have to change. Numbers, order and unknown fields stay what they were.

use super::Error;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;

/// An object's fields in order, their values untouched.
struct Untouched<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Untouched<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Untouched<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    // The last one counts, as it does for whoever decoded the request.
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, slot)) => *slot = value,
                        None => fields.push((name, value)),
                    }
                }
                Ok(Untouched(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// `body` with the fields in `changes` set; `None` takes a field away. Without changes the very same bytes.
pub fn splice(body: &Bytes, changes: &[(&str, Option<Value>)]) -> Result<Bytes, Error> {
    if changes.is_empty() {
        return Ok(body.clone());
    }
    let not_json = |_| Error::new("the request body is not a JSON object");
    let Untouched(fields) = serde_json::from_slice(body).map_err(not_json)?;
    let kept = fields.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let kept = kept.map(|(name, value)| (name.as_str(), value.get().to_owned()));
    let set = changes.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.to_string())));
    let mut spliced = String::with_capacity(body.len() + 64);
    for (name, value) in kept.chain(set) {
        spliced.push(if spliced.is_empty() { '{' } else { ',' });
        spliced.push_str(&Value::from(name).to_string());
        spliced.push(':');
        spliced.push_str(&value);
    }
    if spliced.is_empty() {
        spliced.push('{');
    }
    spliced.push('}');
    Ok(spliced.into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_named_changes() {
        let body = Bytes::from_static(
            br#"{ "model" : "a", "seed": 12345678901234567890123, "t": 1.50, "x": {"b":1, "a":[ ]} }"#,
        );
        assert_eq!(splice(&body, &[]).unwrap(), body);
        let changes = [("model", Some(json!("b"))), ("t", None), ("new", Some(json!({"y": 1})))];
        assert_eq!(
            splice(&body, &changes).unwrap(),
            r#"{"seed":12345678901234567890123,"x":{"b":1, "a":[ ]},"model":"b","new":{"y":1}}"#
        );
    }

    #[test]
    fn a_field_given_twice_is_sent_once() {
        let body = Bytes::from_static(br#"{"a":1,"a":2,"b":3}"#);
        assert_eq!(splice(&body, &[("b", Some(json!(4)))]).unwrap(), r#"{"a":2,"b":4}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(splice(&Bytes::from_static(b"[1]"), &[("a", None)]).is_err());
        assert_eq!(splice(&Bytes::from_static(b"{\"a\":1}"), &[("a", None)]).unwrap(), "{}");
    }
}
