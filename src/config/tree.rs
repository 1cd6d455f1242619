//! The file as a tree of values, each with its place. The environment and the flags are laid over it before
//! anything is read, so that all three go through the same checks.

use super::error::{Error, Findings};
use super::origin::{Origin, Place};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys and what they hold.
pub(super) type Table = BTreeMap<String, Entry>;

/// A key's place, and what it holds.
pub(super) struct Entry {
    /// Where the key is; the value may be lines below.
    pub(super) key: Origin,
    /// What it holds.
    pub(super) node: Node,
}

/// A value, and where it came from.
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What can be typed.
pub(super) enum Value {
    Text(String),
    Whole(i64),
    Real(f64),
    Switch(bool),
    /// TOML has dates; no key of ours takes one.
    Date,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// What it is called in an error.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Whole(_) => "a whole number",
            Self::Real(_) => "a number",
            Self::Switch(_) => "a boolean",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A value that stands alone, its key at the same place.
pub(super) fn entry(value: Value, origin: &Origin) -> Entry {
    Entry { key: origin.clone(), node: Node { value, origin: origin.clone() } }
}

/// The path of one of `[[array]]`: by its name where it has one, else by its number.
pub(super) fn element_path(array: &str, index: usize, table: &Table) -> String {
    match table.get("name").map(|entry| &entry.node.value) {
        Some(Value::Text(name)) if !name.is_empty() => format!("{array}.{name}"),
        _ => format!("{array}[{index}]"),
    }
}

/// Parses `text`, the contents of the file at `path`. A file that is no TOML has no keys to go on with.
pub(super) fn parse(text: &str, path: &Arc<str>, findings: &mut Findings) -> Result<Table, Error> {
    let places = Places::new(text, path);
    match DeTable::parse(text) {
        Ok(root) => Ok(places.table(root.into_inner(), "", findings)),
        Err(error) => {
            // Only the message: the error's own display quotes the line, and a line may hold a secret.
            let reason = error.message().lines().collect::<Vec<_>>().join("; ");
            let origin = places.origin(error.span().unwrap_or_default());
            Err(Error::Syntax { origin, reason })
        }
    }
}

/// Turns byte offsets into lines and columns.
struct Places<'t> {
    text: &'t str,
    path: &'t Arc<str>,
    line_starts: Vec<usize>,
}

impl<'t> Places<'t> {
    fn new(text: &'t str, path: &'t Arc<str>) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, path, line_starts }
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let line = self.line_starts.partition_point(|start| *start <= span.start).max(1);
        let before = self.text.get(self.line_starts[line - 1]..span.start).unwrap_or_default();
        Origin::File { path: Arc::clone(self.path), line, column: before.chars().count() + 1 }
    }

    fn table(&self, table: DeTable<'_>, path: &str, findings: &mut Findings) -> Table {
        let mut entries = Table::new();
        for (key, value) in table {
            let key_origin = self.origin(key.span());
            let name = key.into_inner().into_owned();
            let path = join(path, &name);
            if let Some(node) = self.node(value, &path, findings) {
                entries.insert(name, Entry { key: key_origin, node });
            }
        }
        entries
    }

    fn node(&self, value: Spanned<DeValue<'_>>, path: &str, findings: &mut Findings) -> Option<Node> {
        let origin = self.origin(value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Whole(number),
                Err(_) => return too_large(path, origin, findings),
            },
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Real(number),
                Err(_) => return too_large(path, origin, findings),
            },
            DeValue::Boolean(switch) => Value::Switch(switch),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => {
                Value::List(items.into_iter().filter_map(|item| self.node(item, path, findings)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table, path, findings)),
        };
        Some(Node { value, origin })
    }
}

fn too_large(path: &str, origin: Origin, findings: &mut Findings) -> Option<Node> {
    findings.problem(&Place { key: path.to_owned(), origin }, "is too large a number");
    None
}

/// `server` and `listen` make `server.listen`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Table {
        let mut findings = Findings::default();
        let table = parse(text, &Arc::from("weir.toml"), &mut findings).unwrap();
        assert!(findings.into_error().is_none());
        table
    }

    #[test]
    fn knows_line_and_column_in_characters() {
        let table = parsed("a = 1\n'ключ' = { b = 2 }\n");
        let Value::Table(inner) = &table["ключ"].node.value else { panic!("not a table") };
        assert_eq!(table["ключ"].key.to_string(), "weir.toml:2:1");
        assert_eq!(inner["b"].node.origin.to_string(), "weir.toml:2:16");
    }

    #[test]
    fn reads_numbers_in_every_notation() {
        let table = parsed("a = 1_000\nb = 0x1f\nc = 1e3\n");
        assert!(matches!(table["a"].node.value, Value::Whole(1000)));
        assert!(matches!(table["b"].node.value, Value::Whole(31)));
        assert!(matches!(table["c"].node.value, Value::Real(v) if (v - 1000.0).abs() < 1e-9));
    }

    #[test]
    fn a_syntax_error_does_not_quote_the_line() {
        let parsed = parse("api_key = \"sk-live-1234\n", &Arc::from("weir.toml"), &mut Findings::default());
        let error = parsed.err().expect("it is no TOML").to_string();
        assert!(error.starts_with("weir.toml:1:"), "{error}");
        assert!(!error.contains("sk-live"), "{error}");
    }
}
