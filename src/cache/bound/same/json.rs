//! Two answers in JSON are compared value by value.

use super::Equivalence;
use super::mask::is_identifier;
use super::words::normal;
use serde_json::Value;

/// Strings of more words than this may say the same in other words.
const MAX_PLAIN: usize = 3;

/// `None` where not both are JSON of some structure.
pub(super) fn compare(one: &str, other: &str) -> Option<Equivalence> {
    let (one, other) = (parsed(one)?, parsed(other)?);
    let mut seen = Seen::default();
    seen.side_by_side(&one, &other);
    Some(match seen {
        Seen { differ: true, .. } => Equivalence::Different,
        Seen { unclear: true, .. } => Equivalence::Unclear,
        Seen { same: 0, identifiers, .. } if identifiers > 0 => Equivalence::Unclear,
        Seen { .. } => Equivalence::Same,
    })
}

/// An object or an array; also from a fence of code.
fn parsed(text: &str) -> Option<Value> {
    let text = text.trim();
    let fenced = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    let text = fenced.and_then(|text| text.strip_suffix("```")).unwrap_or(text);
    let value: Value = serde_json::from_str(text.trim()).ok()?;
    (value.is_object() || value.is_array()).then_some(value)
}

/// What was seen of the values. serde_json bounds how deep they are nested.
#[derive(Default)]
struct Seen {
    differ: bool,
    unclear: bool,
    same: usize,
    /// Identifiers that are not the same.
    identifiers: usize,
}

impl Seen {
    fn side_by_side(&mut self, one: &Value, other: &Value) {
        match (one, other) {
            (Value::Object(one), Value::Object(other)) => {
                self.differ |= one.len() != other.len();
                for (key, value) in one {
                    match other.get(key) {
                        Some(other) => self.side_by_side(value, other),
                        None => self.differ = true,
                    }
                }
            }
            (Value::Array(one), Value::Array(other)) => {
                self.differ |= one.len() != other.len();
                one.iter().zip(other).for_each(|(one, other)| self.side_by_side(one, other));
            }
            (Value::String(one), Value::String(other)) => self.texts(one, other),
            (Value::Number(one), Value::Number(other)) => self.scalars(one.as_f64() == other.as_f64()),
            (one, other) => self.scalars(one == other),
        }
    }

    fn scalars(&mut self, equal: bool) {
        self.same += usize::from(equal);
        self.differ |= !equal;
    }

    fn texts(&mut self, one: &str, other: &str) {
        let (words, other_words) = (normal(one), normal(other));
        if words == other_words {
            self.same += 1;
        } else if is_identifier(one.trim()) && is_identifier(other.trim()) {
            self.identifiers += 1;
        } else if words.len() > MAX_PLAIN && other_words.len() > MAX_PLAIN {
            self.unclear = true;
        } else {
            self.differ = true;
        }
    }
}
