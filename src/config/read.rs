//! From the tree to [`super::raw::Raw`]: types, unknown keys, and what strings stand for.

use super::error::Findings;
use super::expand::{self, Surroundings};
use super::origin::{Origin, Place};
use super::raw::{ARRAYS, SECTIONS, Top};
use super::schema::{Key, Kind, unknown_key};
use super::tree::{Entry, Node, Table, Value, element_path, join};
use crate::secret::Secret;

/// A value that was found, and where.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A string. Errors quote it as it was typed: what a variable stands for may be a secret.
pub(super) struct Text {
    /// What it stands for.
    pub(super) value: String,
    /// What was typed.
    pub(super) typed: String,
}

/// A list of strings, each with its own place.
pub(super) type Texts = Vec<Found<Text>>;

/// Headers: names, and values that may be secrets.
pub(super) type Headers = Vec<(String, Found<Secret>)>;

/// Fields of JSON by their paths, and what they hold.
pub(super) type JsonFields = Vec<(String, serde_json::Value)>;

/// A section of the file.
pub(super) trait Section: Sized {
    /// Its keys.
    const KEYS: &'static [Key];

    /// Reads it.
    fn read(reader: Reader<'_, '_>) -> Self;
}

/// A type a key can have.
pub(super) trait Typed: Sized {
    /// What the schema calls it.
    const KIND: Kind;

    /// Reads it. `None` where it is something else; or where it was right, but a part of it is not, and that
    /// has been reported.
    fn read(value: Value, place: &Place, context: &mut Context<'_>) -> Result<Self, Refused>;
}

/// Why a value was not read.
pub(super) enum Refused {
    /// It is of another type.
    Type(&'static str),
    /// It was reported already.
    Reported,
}

/// What reading needs to know, and what it finds.
pub(super) struct Context<'e> {
    pub(super) surroundings: Surroundings<'e>,
    pub(super) findings: Findings,
}

impl Context<'_> {
    /// Reads the section `name` out of the tree.
    pub(super) fn section<S: Section>(&mut self, tree: &mut Table, name: &str) -> S {
        let (table, origin) = match tree.remove(name) {
            None => (Table::new(), Origin::Default),
            Some(Entry { node: Node { value: Value::Table(table), .. }, key }) => (table, key),
            Some(Entry { node, key }) => {
                let place = Place { key: name.to_owned(), origin: key.clone() };
                self.findings
                    .problem(&place, format!("expected [{name}], found {}", shape(&node.value, name)));
                (Table::new(), key)
            }
        };
        S::read(Reader { place: Place { key: name.to_owned(), origin }, table, context: self })
    }

    /// Reads every `[[name]]` out of the tree.
    pub(super) fn elements<S: Section>(&mut self, tree: &mut Table, name: &str) -> Vec<Found<S>> {
        let Some(Entry { node, key }) = tree.remove(name) else { return Vec::new() };
        let Value::List(items) = node.value else {
            let place = Place { key: name.to_owned(), origin: key };
            self.findings.problem(&place, format!("expected [[{name}]], found {}", shape(&node.value, name)));
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, Node { value, origin }) in items.into_iter().enumerate() {
            if let Value::Table(table) = value {
                let place = Place { key: element_path(name, index, &table), origin };
                let value = S::read(Reader { place: place.clone(), table, context: self });
                sections.push(Found { value, place });
            } else {
                let place = Place { key: format!("{name}[{index}]"), origin };
                self.findings.problem(&place, format!("expected [[{name}]], found {}", value.name()));
            }
        }
        sections
    }

    /// Reads what is left when all sections are gone.
    pub(super) fn top(&mut self, tree: Table) -> Top {
        let place = Place { key: String::new(), origin: Origin::Default };
        Top::read(Reader { place, table: tree, context: self })
    }

    fn read<T: Typed>(&mut self, Node { value, origin }: Node, key: String) -> Option<Found<T>> {
        let place = Place { key, origin };
        match T::read(value, &place, self) {
            Ok(value) => Some(Found { value, place }),
            Err(Refused::Reported) => None,
            Err(Refused::Type(found)) => {
                let expected = T::KIND.name();
                self.findings.problem(&place, format!("expected {expected}, found {found}"));
                None
            }
        }
    }
}

/// How `value` looks where `[name]` or `[[name]]` was expected.
fn shape(value: &Value, name: &str) -> String {
    match value {
        Value::Table(_) => format!("[{name}]"),
        Value::List(_) => format!("[[{name}]]"),
        other => other.name().to_owned(),
    }
}

/// All of `parts`, or nothing where one of them has been refused. Every part is looked at, so that everything
/// that is wrong is reported.
fn all<T>(parts: impl Iterator<Item = Option<T>>) -> Result<Vec<T>, Refused> {
    let parts: Vec<Option<T>> = parts.collect();
    parts.into_iter().collect::<Option<_>>().ok_or(Refused::Reported)
}

/// Reads the keys of one table.
pub(super) struct Reader<'c, 'e> {
    place: Place,
    table: Table,
    context: &'c mut Context<'e>,
}

impl Reader<'_, '_> {
    /// The value of `key`, if it is there and of that type.
    pub(super) fn take<T: Typed>(&mut self, key: &str) -> Option<Found<T>> {
        let Entry { node, .. } = self.table.remove(key)?;
        let path = join(&self.place.key, key);
        self.context.findings.origins.insert(path.clone(), node.origin.clone());
        self.context.read(node, path)
    }

    /// Whatever has not been taken is unknown.
    pub(super) fn refuse_the_rest(self, keys: &[Key]) {
        let mut known: Vec<&str> = keys.iter().map(|key| key.name).collect();
        if self.place.key.is_empty() {
            let sections = SECTIONS.iter().chain(ARRAYS).map(|(section, _)| *section);
            known.extend(sections.filter(|section| !section.is_empty()));
        }
        for (name, Entry { key, .. }) in self.table {
            let place = Place { key: join(&self.place.key, &name), origin: key };
            self.context.findings.problem(&place, unknown_key(&name, &known));
        }
    }
}

impl Typed for Text {
    const KIND: Kind = Kind::Text;

    fn read(value: Value, place: &Place, context: &mut Context<'_>) -> Result<Self, Refused> {
        let Value::Text(typed) = value else { return Err(Refused::Type(value.name())) };
        match expand::expand(&typed, &place.origin, &context.surroundings) {
            Ok(value) => Ok(Self { value, typed }),
            Err(error) => {
                context.findings.problem(place, error.to_string());
                Err(Refused::Reported)
            }
        }
    }
}

impl Typed for Secret {
    const KIND: Kind = Kind::Secret;

    fn read(value: Value, place: &Place, context: &mut Context<'_>) -> Result<Self, Refused> {
        Text::read(value, place, context).map(|text| Self::new(text.value))
    }
}

impl Typed for i64 {
    const KIND: Kind = Kind::Whole;

    fn read(value: Value, _: &Place, _: &mut Context<'_>) -> Result<Self, Refused> {
        match value {
            Value::Whole(number) => Ok(number),
            other => Err(Refused::Type(other.name())),
        }
    }
}

impl Typed for f64 {
    const KIND: Kind = Kind::Real;

    fn read(value: Value, _: &Place, _: &mut Context<'_>) -> Result<Self, Refused> {
        match value {
            Value::Real(number) => Ok(number),
            Value::Whole(number) => Ok(number as Self),
            other => Err(Refused::Type(other.name())),
        }
    }
}

impl Typed for bool {
    const KIND: Kind = Kind::Switch;

    fn read(value: Value, _: &Place, _: &mut Context<'_>) -> Result<Self, Refused> {
        match value {
            Value::Switch(switch) => Ok(switch),
            other => Err(Refused::Type(other.name())),
        }
    }
}

impl Typed for Texts {
    const KIND: Kind = Kind::Texts;

    fn read(value: Value, place: &Place, context: &mut Context<'_>) -> Result<Self, Refused> {
        let Value::List(items) = value else { return Err(Refused::Type(value.name())) };
        let items = items.into_iter().enumerate();
        all(items.map(|(index, node)| context.read(node, format!("{}[{index}]", place.key))))
    }
}

impl Typed for Headers {
    const KIND: Kind = Kind::Headers;

    fn read(value: Value, place: &Place, context: &mut Context<'_>) -> Result<Self, Refused> {
        let Value::Table(table) = value else { return Err(Refused::Type(value.name())) };
        all(table.into_iter().map(|(name, entry)| {
            let path = join(&place.key, &name);
            context.read(entry.node, path).map(|secret| (name, secret))
        }))
    }
}

impl Typed for JsonFields {
    const KIND: Kind = Kind::Values;

    fn read(value: Value, place: &Place, context: &mut Context<'_>) -> Result<Self, Refused> {
        let Value::Table(table) = value else { return Err(Refused::Type(value.name())) };
        let fields = table.into_iter().map(|(name, entry)| {
            let Node { value, origin } = entry.node;
            let place = Place { key: join(&place.key, &name), origin };
            // A table within is a field within.
            let fields = match value {
                Value::Table(_) => Self::read(value, &place, context).ok()?,
                other => vec![(String::new(), json(other, &place, context)?)],
            };
            let path = |inner: String| if inner.is_empty() { name.clone() } else { join(&name, &inner) };
            Some(fields.into_iter().map(|(inner, value)| (path(inner), value)).collect::<Self>())
        });
        all(fields).map(|fields| fields.into_iter().flatten().collect())
    }
}

/// A value that stands alone, as JSON has it.
fn json(value: Value, place: &Place, context: &mut Context<'_>) -> Option<serde_json::Value> {
    match value {
        Value::Text(_) => Text::read(value, place, context).ok().map(|text| text.value.into()),
        Value::Whole(number) => Some(number.into()),
        Value::Real(number) => Some(number.into()),
        Value::Switch(switch) => Some(switch.into()),
        Value::Date | Value::List(_) | Value::Table(_) => {
            let reason = format!("expected a string, a number or a switch, found {}", value.name());
            context.findings.problem(place, reason);
            None
        }
    }
}
