//! Objects taken apart and put together, field by field. Errors name the field, and never quote its value.

use super::Error;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The longest name of a model. It is repeated in logs and errors.
const MAX_MODEL_BYTES: usize = 256;

/// The most values in a body. One takes up to a hundred times the memory that it takes to write it, so they are
/// counted before they are read. Words are one value however many they are; a hundred tools with large schemas
/// are some ten thousand, and the largest list of tokens that OpenAI embeds is 300,000.
const MAX_VALUES: usize = 500_000;

/// An object that is taken apart field by field; what is left is what nobody knew.
pub(super) struct Fields {
    pub(super) map: Map<String, Value>,
    /// Where it is, for error messages: empty, or `messages[2].`.
    path: String,
}

impl Fields {
    /// The fields of a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        // A shorter body cannot hold as many.
        if body.len() > MAX_VALUES && values(body) > MAX_VALUES {
            return Err(Error::new(format!("the request body holds more than {MAX_VALUES} values")));
        }
        // serde_json itself stops at 128 levels, so a deep body cannot exhaust the stack.
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { map, path: String::new() }),
            Ok(_) => Err(Error::new("the request body must be a JSON object")),
            Err(error) => Err(Error::new(format!("the request body is not valid JSON: {error}"))),
        }
    }

    /// The fields of an object inside of a body; `path` says where, such as `messages[2]`.
    pub(super) fn of(value: Value, path: &str) -> Result<Self, Error> {
        match value {
            Value::Object(map) => Ok(Self { map, path: format!("{path}.") }),
            other => Err(Error::at(path, format!("`{path}` must be an object, not {}", kind_of(&other)))),
        }
    }

    /// A field's whole name.
    pub(super) fn name(&self, field: &str) -> String {
        format!("{}{field}", self.path)
    }

    /// The field's value, taken out. Null means absent.
    pub(super) fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>, Error> {
        // `shift_remove` keeps the others in order.
        match self.map.shift_remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => typed(value, || self.name(field)).map(Some),
        }
    }

    /// The same, but a value that is no `T` stays where it is: it may mean something to the provider.
    pub(super) fn take_if<T: DeserializeOwned>(&mut self, field: &str) -> Option<T> {
        let value = T::deserialize(self.map.get(field)?).ok();
        if value.is_some() || self.map[field].is_null() {
            self.map.shift_remove(field);
        }
        value
    }

    /// The same as [`Self::take`], where it must be there.
    pub(super) fn required<T: DeserializeOwned>(&mut self, field: &str) -> Result<T, Error> {
        self.take(field)?
            .ok_or_else(|| Error::at(self.name(field), format!("`{}` is required", self.name(field))))
    }

    /// The `model`, of a sane length.
    pub(super) fn model(&mut self) -> Result<String, Error> {
        let model: String = self.required("model")?;
        checked_model(model)
    }

    /// A list that must hold something.
    pub(super) fn filled_list(&mut self, field: &str) -> Result<Vec<Value>, Error> {
        let list: Vec<Value> = self.required(field)?;
        match list.is_empty() {
            true => Err(Error::at(self.name(field), format!("`{}` must not be empty", self.name(field)))),
            false => Ok(list),
        }
    }
}

/// About how many values there are in a body: each but the first stands after a bracket or a comma.
fn values(body: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' | b',' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// A model's name, if it is of a sane length.
pub(super) fn checked_model(model: String) -> Result<String, Error> {
    match model.len() {
        0 => Err(Error::at("model", "`model` must not be empty")),
        1..=MAX_MODEL_BYTES => Ok(model),
        _ => Err(Error::at("model", format!("`model` is longer than {MAX_MODEL_BYTES} bytes"))),
    }
}

/// The value as a `T`.
pub(super) fn typed<T: DeserializeOwned>(value: Value, name: impl Fn() -> String) -> Result<T, Error> {
    let kind = kind_of(&value);
    serde_json::from_value(value).map_err(|_| {
        // serde's own message would quote the value, and values do not belong into errors.
        Error::at(name(), format!("`{}` has a wrong type or value ({kind})", name()))
    })
}

/// What a value is, in words.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Null, and what says as little.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// An object that is put together field by field.
#[derive(Default)]
pub(super) struct Body(pub(super) Map<String, Value>);

impl Body {
    /// Sets a field, where there is something to set.
    pub(super) fn set(&mut self, field: &str, value: Option<impl serde::Serialize>) {
        if let Some(value) = value {
            self.0.insert(field.to_owned(), json!(value));
        }
    }

    /// The object.
    pub(super) fn value(self) -> Value {
        Value::Object(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_values_is_refused_unread() {
        let flood = |times: usize| format!(r#"{{"x":[{}0]}}"#, "0,".repeat(times));
        assert!(Fields::parse(flood(MAX_VALUES - 10).as_bytes()).is_ok());
        let error = Fields::parse(flood(MAX_VALUES).as_bytes()).err().unwrap();
        assert!(error.message.contains("500000"), "{error}");
        let words = format!(r#"{{"x":"{}"}}"#, r#"a, [b], \"{c}\\"#.repeat(MAX_VALUES));
        assert_eq!(values(words.as_bytes()), 2);
        assert!(Fields::parse(words.as_bytes()).is_ok());
    }
}
