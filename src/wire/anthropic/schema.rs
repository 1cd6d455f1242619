//! JSON schemas as they are taken here: after what Anthropic's own SDKs make of one. Objects are closed, and
//! what may not limit a value is told to the model in words.

use crate::wire::json::Body;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Keywords that are taken whatever their value.
const TAKEN: [&str; 7] = ["type", "title", "description", "enum", "const", "default", "required"];

/// Keywords that say nothing about a value.
const ASIDE: [&str; 3] = ["$schema", "$id", "$comment"];

/// The formats of a text that are taken.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// `schema` with every object closed. A keyword that would be refused goes into the description of what it
/// limits, and its name into `moved`.
pub(super) fn adapted(schema: &Value, moved: &mut BTreeSet<String>) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    // Nothing may stand beside a reference.
    let refers = fields.contains_key("$ref");
    let (mut kept, mut left) = (Body::default(), Map::new());
    for (keyword, value) in fields {
        match keyword.as_str() {
            "$ref" => kept.set("$ref", Some(value)),
            "$defs" | "definitions" => kept.set(keyword, Some(each(value, moved))),
            name if ASIDE.contains(&name) => {}
            _ if refers => drop(moved.insert(keyword.clone())),
            "properties" => kept.set(keyword, Some(each(value, moved))),
            "items" => kept.set(keyword, Some(adapted(value, moved))),
            "anyOf" | "allOf" => kept.set(keyword, Some(all(value, moved))),
            "oneOf" if !fields.contains_key("anyOf") => kept.set("anyOf", Some(all(value, moved))),
            "additionalProperties" if *value == false => {}
            "format" if FORMATS.iter().any(|taken| value == taken) => kept.set(keyword, Some(value)),
            "minItems" if *value == 0 || *value == 1 => kept.set(keyword, Some(value)),
            name if TAKEN.contains(&name) => kept.set(keyword, Some(value)),
            _ => drop(left.insert(keyword.clone(), value.clone())),
        }
    }
    if is_object(&kept.0) && !refers {
        if !kept.0.contains_key("properties") {
            // It might have held anything, and now holds nothing.
            moved.insert("additionalProperties".to_owned());
        }
        kept.set("additionalProperties", Some(false));
    }
    tell(&mut kept, left, moved);
    kept.value()
}

fn is_object(fields: &Map<String, Value>) -> bool {
    let named = fields.get("type").is_some_and(|kind| {
        kind == "object" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("object")))
    });
    named || fields.contains_key("properties")
}

/// Every schema of those that have names.
fn each(schemas: &Value, moved: &mut BTreeSet<String>) -> Value {
    let Value::Object(schemas) = schemas else { return schemas.clone() };
    schemas.iter().map(|(name, schema)| (name.clone(), adapted(schema, moved))).collect()
}

/// Every schema of a list.
fn all(schemas: &Value, moved: &mut BTreeSet<String>) -> Value {
    let Value::Array(schemas) = schemas else { return schemas.clone() };
    schemas.iter().map(|schema| adapted(schema, moved)).collect()
}

/// Puts what is left into the description.
fn tell(kept: &mut Body, left: Map<String, Value>, moved: &mut BTreeSet<String>) {
    if left.is_empty() {
        return;
    }
    moved.extend(left.keys().cloned());
    let before = kept.0.get("description").and_then(Value::as_str);
    let before = before.map(|text| format!("{text}\n\n")).unwrap_or_default();
    kept.set("description", Some(format!("{before}{}", Value::Object(left))));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapt(schema: &Value) -> (Value, Vec<String>) {
        let mut moved = BTreeSet::new();
        (adapted(schema, &mut moved), moved.into_iter().collect())
    }

    #[test]
    fn objects_are_closed_and_what_is_refused_is_told_in_words() {
        let (schema, moved) = adapt(&json!({
            "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["a"],
            "properties": {
                "a": { "type": "integer", "description": "how many", "minimum": 1, "maximum": 5 },
                "b": { "type": "array", "minItems": 2, "items": { "type": "object", "properties": {} } },
                "c": { "oneOf": [{ "type": "string", "format": "regex" }, { "type": "string", "format": "date" }] },
                "d": { "$ref": "#/$defs/d", "description": "x" },
            },
            "$defs": { "d": { "type": ["object", "null"], "additionalProperties": { "type": "string" } } },
        }));
        assert_eq!(
            schema,
            json!({
                "type": "object", "required": ["a"], "additionalProperties": false,
                "properties": {
                    "a": { "type": "integer", "description": "how many\n\n{\"minimum\":1,\"maximum\":5}" },
                    "b": {
                        "type": "array", "description": "{\"minItems\":2}",
                        "items": { "type": "object", "properties": {}, "additionalProperties": false },
                    },
                    "c": { "anyOf": [
                        { "type": "string", "description": "{\"format\":\"regex\"}" },
                        { "type": "string", "format": "date" },
                    ] },
                    "d": { "$ref": "#/$defs/d" },
                },
                "$defs": { "d": {
                    "type": ["object", "null"], "additionalProperties": false,
                    "description": "{\"additionalProperties\":{\"type\":\"string\"}}",
                } },
            })
        );
        let named = ["additionalProperties", "description", "format", "maximum", "minItems", "minimum"];
        assert_eq!(moved, named);
    }

    #[test]
    fn what_is_taken_stays_as_it_is() {
        let schema = json!({
            "type": "object", "properties": { "a": { "enum": ["x"] } }, "additionalProperties": false,
        });
        assert_eq!(adapt(&schema), (schema, vec![]));
        assert_eq!(adapt(&json!(true)), (json!(true), vec![]));
    }
}
