//! Schemas: Google's subset of OpenAPI as JSON schema, which all others understand.

use super::fields::{get, whole};
use serde_json::{Map, Value, json};

/// Bounds that the protocol buffer writes in quotes.
const BOUNDS: [&str; 6] =
    ["maxItems", "minItems", "minLength", "maxLength", "minProperties", "maxProperties"];

/// A schema of `parameters` or `responseSchema` as JSON schema: types in lower case, null among them, bounds
/// as numbers. What is JSON schema already stays as it is.
pub(super) fn json_schema(schema: Value) -> Value {
    // serde_json read no deeper than 128 levels, so this ends early enough.
    let Value::Object(fields) = schema else { return schema };
    let nullable = get(&fields, "nullable").and_then(Value::as_bool) == Some(true);
    let mut plain: Map<String, Value> = fields
        .into_iter()
        .filter(|(field, _)| field != "nullable")
        .map(|(field, value)| keyword(&field, value))
        .collect();
    if nullable {
        allow_null(&mut plain);
    }
    Value::Object(plain)
}

fn keyword(field: &str, value: Value) -> (String, Value) {
    let name = json_name(field);
    let value = match (name.as_str(), value) {
        ("type", Value::String(kind)) => Value::String(kind.to_ascii_lowercase()),
        ("items", schema) => json_schema(schema),
        ("anyOf", Value::Array(schemas)) => schemas.into_iter().map(json_schema).collect(),
        ("properties", Value::Object(schemas)) => {
            let schemas = schemas.into_iter().map(|(property, schema)| (property, json_schema(schema)));
            Value::Object(schemas.collect())
        }
        (bound, value) if BOUNDS.contains(&bound) => whole(&value).map_or(value, Value::from),
        (_, value) => value,
    };
    (name, value)
}

/// `any_of` as `anyOf`.
fn json_name(field: &str) -> String {
    let mut words = field.split('_');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::String(kind)) = schema.get("type").cloned() {
        schema.insert("type".to_owned(), json!([kind, "null"]));
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_of_openapi_becomes_json_schema() {
        let schema = json!({"type": "OBJECT", "required": ["type"], "propertyOrdering": ["type", "list"], "properties": {
            "type": {"type": "STRING", "enum": ["A", "B"], "nullable": true, "description": "x"},
            "list": {"type": "ARRAY", "minItems": "1", "items": {"any_of": [{"type": "INTEGER"}, {"type": "NUMBER"}]}}}});
        let wanted = json!({"type": "object", "required": ["type"], "propertyOrdering": ["type", "list"], "properties": {
            "type": {"type": ["string", "null"], "enum": ["A", "B", null], "description": "x"},
            "list": {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "integer"}, {"type": "number"}]}}}});
        assert_eq!(json_schema(schema), wanted);
        assert_eq!(json_schema(wanted.clone()), wanted, "and stays");
        assert_eq!(json_schema(json!(true)), json!(true));
    }
}
