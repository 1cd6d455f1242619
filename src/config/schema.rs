//! Which keys there are, what each holds, and which of them someone may have meant.

use super::origin::Origin;
use super::raw::{ARRAYS, SECTIONS};
use super::tree::{Node, Table, Value, entry, join};

/// A key of a section.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Secret,
    Whole,
    Real,
    Switch,
    Texts,
    Headers,
    Values,
}

impl Kind {
    /// What it is called in an error.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text | Self::Secret => "a string",
            Self::Whole => "a whole number",
            Self::Real => "a number",
            Self::Switch => "true or false",
            Self::Texts => "a list of strings",
            Self::Headers => "a table of strings",
            Self::Values => "a table of values",
        }
    }

    /// The value an environment variable stands for, or how it should be written.
    pub(super) fn parse(self, text: &str, origin: &Origin) -> Result<Value, &'static str> {
        match self {
            Self::Text | Self::Secret => Ok(Value::Text(text.to_owned())),
            Self::Whole => text.parse().map(Value::Whole).map_err(|_| "expected a whole number"),
            Self::Real => text.parse().map(Value::Real).map_err(|_| "expected a number"),
            Self::Switch => text.parse().map(Value::Switch).map_err(|_| "expected true or false"),
            Self::Texts => Ok(Value::List(items(text).map(|item| text_node(item, origin)).collect())),
            Self::Headers => table(text, origin, |value| Value::Text(value.to_owned())),
            Self::Values => table(text, origin, value),
        }
    }
}

fn table(text: &str, origin: &Origin, value: impl Fn(&str) -> Value) -> Result<Value, &'static str> {
    let entries = items(text).map(|item| {
        let (name, text) = item.split_once('=').ok_or("expected name=value, comma-separated")?;
        Ok((name.trim().to_owned(), entry(value(text.trim()), origin)))
    });
    entries.collect::<Result<Table, _>>().map(Value::Table)
}

/// What a file would hold here: whatever looks like a number or a switch is one.
fn value(text: &str) -> Value {
    let switch = text.parse().map(Value::Switch);
    let number = || text.parse().map(Value::Whole).ok().or_else(|| text.parse().map(Value::Real).ok());
    switch.ok().or_else(number).unwrap_or_else(|| Value::Text(text.to_owned()))
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn text_node(text: &str, origin: &Origin) -> Node {
    Node { value: Value::Text(text.to_owned()), origin: origin.clone() }
}

/// Every key outside of arrays, by section; the section of the top level is called "".
pub(super) fn section_keys() -> impl Iterator<Item = (&'static str, &'static Key)> {
    SECTIONS.iter().flat_map(|(section, keys)| keys.iter().map(|key| (*section, key)))
}

/// Every key of the tables in arrays, by array.
pub(super) fn array_keys() -> impl Iterator<Item = (&'static str, &'static Key)> {
    ARRAYS.iter().flat_map(|(array, keys)| keys.iter().map(|key| (*array, key)))
}

/// What to say about a key that nobody knows here, where `known` are the keys of its table.
pub(super) fn unknown_key(name: &str, known: &[&str]) -> String {
    if let Some(elsewhere) = elsewhere(name) {
        return format!("unknown key here; did you mean \"{elsewhere}\"?");
    }
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean \"{near}\"?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}

/// A key of exactly that name in another section.
fn elsewhere(name: &str) -> Option<String> {
    section_keys().find(|(_, key)| key.name == name).map(|(section, key)| join(section, key.name))
}

/// The one of `known` that `name` is most likely a slip for, if any is near enough to be worth naming.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const NEAR_ENOUGH: f64 = 0.5;
    // Three letters are one slip away from too much: "gpu" is no misspelt "cpu".
    if name.len() <= 3 {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_key() {
        assert_eq!(unknown_key("lisen", &["listen", "max_body_mb"]), "unknown key; did you mean \"listen\"?");
        assert_eq!(unknown_key("zzz", &["listen", "name"]), "unknown key; known here: listen, name");
        assert_eq!(unknown_key("listen", &["exact"]), "unknown key here; did you mean \"server.listen\"?");
    }
}
