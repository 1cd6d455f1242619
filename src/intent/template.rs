//! Texts and JSON with `{slots}` in them.

use super::exact::Exact;
use super::kinds;
use serde_json::{Map, Value};

/// The slots of one match: names and values.
pub type Slots = Vec<(String, String)>;

/// The value of a slot.
pub(super) fn value<'s>(slots: &'s [(String, String)], name: &str) -> Option<&'s str> {
    slots.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A text with slots in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Slot { name: String, number: bool, maybe: bool },
}

/// A slot as a template names it.
pub(super) struct Named<'t> {
    pub(super) name: &'t str,
    /// Whether it is left out where it holds nothing.
    pub(super) maybe: bool,
}

impl Template {
    /// `{name}`, `{name?}` and `{name:number}` are slots; any other bracket is a bracket.
    pub(super) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut plain = String::new();
        while let Some(open) = rest.find('{') {
            plain.push_str(&rest[..open]);
            rest = &rest[open..];
            if let Some((piece, length)) = slot(rest) {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(piece);
                rest = &rest[length..];
            } else {
                plain.push('{');
                rest = &rest[1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Self { pieces }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Named<'_>> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Slot { name, maybe, .. } => Some(Named { name, maybe: *maybe }),
            Piece::Text(_) => None,
        })
    }

    /// In one pass, so that what was caught is never taken for a slot itself. A slot that holds nothing stays as it is
    /// written.
    pub(super) fn fill(&self, slots: &[(String, String)]) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Slot { name, maybe, number } => match value(slots, name) {
                    Some(value) => text.push_str(value),
                    None if *maybe => {}
                    None if *number => text.extend(["{", name, ":number}"]),
                    None => text.extend(["{", name, "}"]),
                },
            }
        }
        text
    }

    /// The slot that it is, if it is nothing else.
    fn only_slot(&self) -> Option<(&str, bool, bool)> {
        match self.pieces.as_slice() {
            [Piece::Slot { name, number, maybe }] => Some((name, *number, *maybe)),
            _ => None,
        }
    }
}

fn slot(text: &str) -> Option<(Piece, usize)> {
    let end = text.find('}')?;
    let inside = &text[1..end];
    let (inside, number) = inside.strip_suffix(":number").map_or((inside, false), |rest| (rest, true));
    let (name, maybe) = inside.strip_suffix('?').map_or((inside, false), |rest| (rest, true));
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (Piece::Slot { name: name.to_owned(), number, maybe }, end + 1))
}

/// JSON whose texts are templates.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum JsonTemplate {
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
    Plain(Value),
}

impl JsonTemplate {
    pub(super) fn new(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Text(Template::new(text)),
            Value::Array(items) => Self::List(items.iter().map(Self::new).collect()),
            Value::Object(fields) => {
                Self::Object(fields.iter().map(|(name, value)| (name.clone(), Self::new(value))).collect())
            }
            plain => Self::Plain(plain.clone()),
        }
    }

    pub(super) fn slots(&self) -> Vec<Named<'_>> {
        match self {
            Self::Text(text) => text.slots().collect(),
            Self::List(items) => items.iter().flat_map(Self::slots).collect(),
            Self::Object(fields) => fields.iter().flat_map(|(_, value)| value.slots()).collect(),
            Self::Plain(_) => Vec::new(),
        }
    }

    /// `"{db:number}"` alone becomes a number, and `"{unit?}"` alone is left out where it holds nothing.
    pub(super) fn fill(&self, slots: &[(String, String)]) -> Option<Value> {
        Some(match self {
            Self::Text(text) => match text.only_slot() {
                Some((name, number, maybe)) => match value(slots, name) {
                    Some(value) if number => as_number(value),
                    Some(value) => Value::String(value.to_owned()),
                    None if maybe => return None,
                    None => Value::String(text.fill(slots)),
                },
                None => Value::String(text.fill(slots)),
            },
            Self::List(items) => items.iter().filter_map(|item| item.fill(slots)).collect(),
            Self::Object(fields) => {
                let filled =
                    fields.iter().filter_map(|(name, value)| Some((name.clone(), value.fill(slots)?)));
                Value::Object(filled.collect::<Map<_, _>>())
            }
            Self::Plain(value) => value.clone(),
        })
    }
}

/// A number where the text is one.
fn as_number(text: &str) -> Value {
    let whole = || text.parse::<i64>().ok().map(Value::from);
    let broken = || text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from);
    whole().or_else(broken).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A slot that is worked out from others: `{from}>{to}`, or after "=" a sum, or `convert({x}, {from}, {to})`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Derived {
    Text(Template),
    Sum(Template),
    Convert([Template; 3]),
}

impl Derived {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let Some(formula) = text.strip_prefix('=').map(str::trim) else {
            return Ok(Self::Text(Template::new(text)));
        };
        let Some(arguments) = formula.strip_prefix("convert(").and_then(|rest| rest.strip_suffix(')')) else {
            return Ok(Self::Sum(Template::new(formula)));
        };
        let arguments: Vec<Template> = arguments.split(',').map(|text| Template::new(text.trim())).collect();
        let arguments = <[Template; 3]>::try_from(arguments);
        arguments.map(Self::Convert).map_err(|_| "convert(…) takes a number and two units".to_owned())
    }

    pub(super) fn slots(&self) -> Vec<Named<'_>> {
        match self {
            Self::Text(text) | Self::Sum(text) => text.slots().collect(),
            Self::Convert(arguments) => arguments.iter().flat_map(Template::slots).collect(),
        }
    }

    /// `None` where it cannot be worked out: pounds are no meters.
    pub(super) fn work_out(&self, slots: &[(String, String)]) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.fill(slots)),
            Self::Sum(text) => kinds::evaluate(&text.fill(slots)).map(|value| value.to_string()),
            Self::Convert([number, from, to]) => {
                let number = Exact::parse(&number.fill(slots))?;
                kinds::convert(number, &from.fill(slots), &to.fill(slots)).map(|value| value.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slots(pairs: &[(&str, &str)]) -> Slots {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn slots_are_filled_in_one_pass() {
        let slots = slots(&[("a", "{b}"), ("b", "x")]);
        assert_eq!(Template::new("{a} {b} {c} {not a slot} {").fill(&slots), "{b} x {c} {not a slot} {");
    }

    #[test]
    fn json_has_numbers_and_leaves_out_what_is_missing() {
        let template =
            json!({"db": "{db:number}", "unit": "{unit?}", "t": "to {t}", "on": true, "all": ["{t}"]});
        let filled = JsonTemplate::new(&template).fill(&slots(&[("db", "-2.5"), ("t", "bass")]));
        assert_eq!(filled, Some(json!({"db": -2.5, "t": "to bass", "on": true, "all": ["bass"]})));
    }

    #[test]
    fn what_is_worked_out_is_exact_or_nothing() {
        let slots = slots(&[("x", "5"), ("a", "miles"), ("b", "kilometers"), ("c", "grams")]);
        let worked = |text: &str| Derived::new(text).unwrap().work_out(&slots);
        assert_eq!(worked("= convert({x}, {a}, {b})").as_deref(), Some("8.04672"));
        assert_eq!(worked("= convert({x}, {a}, {c})"), None);
        assert_eq!(worked("= {x} * 3 / 2").as_deref(), Some("7.5"));
        assert_eq!(worked("{a}>{b}").as_deref(), Some("miles>kilometers"));
        assert!(Derived::new("= convert(1)").is_err());
    }
}
