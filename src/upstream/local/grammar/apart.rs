//! Whether schemas have nothing in common.

use super::keywords::is;
use serde_json::Value;

/// Whether it is certain that nothing fits two of `ways`: they are of other types, or name other values. `find` gives
/// what a schema refers to.
pub(super) fn apart<'a>(ways: &'a [Value], find: impl Fn(&str) -> Option<&'a Value>) -> bool {
    let kinds: Option<Vec<Kind<'_>>> = ways.iter().map(|way| Kind::of(way, &find)).collect();
    let Some(kinds) = kinds else { return false };
    kinds.iter().enumerate().all(|(at, kind)| kinds[..at].iter().all(|other| kind.is_apart_from(other)))
}

/// What is known of the values that fit a schema.
enum Kind<'a> {
    Values(Vec<&'a Value>),
    /// Of objects, the properties that are always there and have only these values.
    Typed {
        kind: &'a str,
        fixed: Vec<(&'a str, Vec<&'a Value>)>,
    },
}

impl<'a> Kind<'a> {
    fn of(schema: &'a Value, find: impl Fn(&str) -> Option<&'a Value>) -> Option<Self> {
        let schema = match schema.get("$ref").and_then(Value::as_str) {
            Some(target) => find(target)?,
            None => schema,
        };
        if let Some(values) = fixed(schema) {
            return Some(Self::Values(values));
        }
        let kind = schema.get("type")?.as_str()?;
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let fixed = |name: &'a Value| {
            let name = name.as_str()?;
            Some((name, fixed(schema.get("properties")?.get(name)?)?))
        };
        Some(Self::Typed { kind, fixed: required.filter_map(fixed).collect() })
    }

    fn is_apart_from(&self, other: &Self) -> bool {
        let none_in = |some: &[&Value], others: &[&Value]| !some.iter().any(|value| others.contains(value));
        match (self, other) {
            (Self::Values(some), Self::Values(others)) => none_in(some, others),
            (Self::Values(values), Self::Typed { kind, .. })
            | (Self::Typed { kind, .. }, Self::Values(values)) => !values.iter().any(|value| is(value, kind)),
            (Self::Typed { kind, fixed }, Self::Typed { kind: other, fixed: others }) => {
                let both_numbers = [kind, other].iter().all(|kind| ["number", "integer"].contains(*kind));
                let told = fixed.iter().any(|(name, some)| {
                    others.iter().any(|(other, others)| name == other && none_in(some, others))
                });
                (kind != other && !both_numbers) || told
            }
        }
    }
}

/// The values that a schema names.
fn fixed(schema: &Value) -> Option<Vec<&Value>> {
    let one = schema.get("const").map(|value| vec![value]);
    one.or_else(|| schema.get("enum").and_then(Value::as_array).map(|values| values.iter().collect()))
}
