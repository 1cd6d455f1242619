//! The keywords of JSON schemas, and how their values are read.

use super::Refused;
use serde_json::{Map, Value};

/// A schema that is an object.
pub(super) type Schema = Map<String, Value>;

/// Keywords that say something about the schema, and nothing about the text.
const SILENT: [&str; 16] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentEncoding",
    "contentMediaType",
    "nullable",
    "discriminator",
    "definitions",
    "strict",
    "name",
];

pub(super) const OF_OBJECTS: [&str; 6] = [
    "properties",
    "required",
    "additionalProperties",
    "unevaluatedProperties",
    "minProperties",
    "maxProperties",
];
pub(super) const OF_ARRAYS: [&str; 6] =
    ["items", "prefixItems", "minItems", "maxItems", "uniqueItems", "additionalItems"];
pub(super) const OF_STRINGS: [&str; 2] = ["minLength", "maxLength"];
pub(super) const OF_NUMBERS: [&str; 5] =
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];

/// Whether `value` is of the type called `kind`.
pub(super) fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract().abs() < f64::EPSILON),
        _ => false,
    }
}

/// Whether a keyword is obeyed, or says nothing.
pub(super) fn is_known(keyword: &str) -> bool {
    let known = [&OF_OBJECTS[..], &OF_ARRAYS, &OF_STRINGS, &OF_NUMBERS, &SILENT].concat();
    let others = ["type", "const", "enum", "anyOf", "oneOf", "allOf"];
    keyword.starts_with(['$', 'x']) || known.contains(&keyword) || others.contains(&keyword)
}

/// Nothing beside these may say something about the text.
pub(super) fn alone(schema: &Schema, keywords: &[&str]) -> Result<(), Refused> {
    let speaks = |keyword: &&String| {
        !SILENT.contains(&keyword.as_str())
            && !keyword.starts_with(['$', 'x'])
            && !keywords.contains(&keyword.as_str())
    };
    match schema.keys().find(speaks) {
        Some(other) => Err(Refused::new(format!(
            "`{other}` beside `{}`: the local model obeys one of them only",
            keywords[0]
        ))),
        None => Ok(()),
    }
}

/// The text of a keyword.
pub(super) fn text<'s>(schema: &'s Schema, keyword: &str) -> Result<Option<&'s str>, Refused> {
    schema
        .get(keyword)
        .map(|value| value.as_str().ok_or_else(|| Refused::new(format!("`{keyword}` is a string"))))
        .transpose()
}

/// The list of a keyword.
pub(super) fn list<'s>(schema: &'s Schema, keyword: &str) -> Result<Option<&'s [Value]>, Refused> {
    let list = |value: &'s Value| value.as_array().map(Vec::as_slice);
    schema
        .get(keyword)
        .map(|value| list(value).ok_or_else(|| Refused::new(format!("`{keyword}` is a list"))))
        .transpose()
}

/// How many there may be; a limit above `enough` is none.
pub(super) fn counts(
    schema: &Schema,
    least: &str,
    most: &str,
    enough: usize,
) -> Result<(usize, Option<usize>), Refused> {
    let count = |keyword: &str| match schema.get(keyword) {
        None => Ok(None),
        Some(count) => {
            let count =
                count.as_u64().or(count.as_f64().filter(|count| *count >= 0.0).map(|count| count as u64));
            count
                .map(|count| Some(count as usize))
                .ok_or_else(|| Refused::new(format!("`{keyword}` is a count")))
        }
    };
    let (fewest, limit) = (count(least)?.unwrap_or(0), count(most)?);
    if fewest > enough {
        return Err(Refused::keyword(least));
    }
    if limit.is_some_and(|limit| limit < fewest) {
        return Err(Refused::new("the schema leaves nothing to answer"));
    }
    Ok((fewest, limit.map(|limit| limit.min(enough))))
}
