//! Fields as Google reads them: under two names each, lists of one without brackets, numbers in quotes.

use crate::wire::Error;
use crate::wire::json::{Fields, kind_of};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The field, taken out, under its name in JSON or under its name in the protocol buffer: both are in use.
pub(super) fn take<T: DeserializeOwned>(fields: &mut Fields, field: &str) -> Result<Option<T>, Error> {
    match fields.take(field)? {
        Some(value) => Ok(Some(value)),
        None => fields.take(&snake(field)),
    }
}

/// The same, where it must be there.
pub(super) fn required<T: DeserializeOwned>(fields: &mut Fields, field: &str) -> Result<T, Error> {
    let name = fields.name(field);
    take(fields, field)?.ok_or_else(|| Error::at(&name, format!("`{name}` is required")))
}

/// An object inside, taken out.
pub(super) fn take_object(fields: &mut Fields, field: &str) -> Result<Option<Fields>, Error> {
    let name = fields.name(field);
    take::<Value>(fields, field)?.map(|value| Fields::of(value, &name)).transpose()
}

/// A list, taken out. One thing alone is a list of it.
pub(super) fn take_list(fields: &mut Fields, field: &str) -> Result<Vec<Value>, Error> {
    Ok(match take(fields, field)? {
        None => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(one) => vec![one],
    })
}

/// A whole number, taken out, in quotes or not, and with a fraction of nothing: SDKs write `40.0`.
pub(super) fn take_whole<T: TryFrom<i64>>(fields: &mut Fields, field: &str) -> Result<Option<T>, Error> {
    let Some(value) = take::<Value>(fields, field)? else { return Ok(None) };
    let number = whole(&value).and_then(|number| T::try_from(number).ok());
    number.map(Some).ok_or_else(|| {
        let name = fields.name(field);
        let kind = kind_of(&value);
        Error::at(&name, format!("`{name}` must be a whole number in range ({kind} is given)"))
    })
}

/// The value as a whole number.
pub(super) fn whole(value: &Value) -> Option<i64> {
    /// Up to here every whole number has a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT)?;
            Some(float as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The value of a field, under either name.
pub(super) fn get<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    map.get(field).or_else(|| map.get(&snake(field)))
}

/// `maxItems` as `max_items`.
fn snake(field: &str) -> String {
    let mut name = String::with_capacity(field.len() + 4);
    for letter in field.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}
