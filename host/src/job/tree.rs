//! A TOML file as a tree of values that know where they stand, in the file's order.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problems::Problems;
use super::table::Reader;

/// Where something stands: in the file, or in a `--set` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The index of the `--set` argument; `None`: the file.
    pub(super) argument: Option<usize>,
    /// Bytes of the file or the argument.
    pub(super) span: Range<usize>,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Where it stands.
    pub(super) place: Place,
    /// What it is.
    pub(super) value: Value,
    /// The text of a bare value of a `--set` argument: `5` of `--set job.name=5` is a fine text.
    pub(super) raw: Option<String>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A text.
    Text(Text),
    /// A whole number; numbers beyond 128 bits are cut to them, which no key takes anyway.
    Integer(i128),
    /// A number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date, a time, or both: no key takes one, a plugin's config may.
    Datetime(String),
    /// `[a, b]`, or the tables of one `[[name]]`.
    List(Vec<Node>),
    /// Keys and values, in the file's order.
    Table(Vec<Entry>),
}

/// A text value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// What it means: the environment read into it.
    pub(super) value: String,
    /// What stands in the file: what messages quote, because a secret may stand in the environment.
    pub(super) written: String,
}

impl Text {
    /// A text without references to the environment.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        let value = text.into();
        Self { written: value.clone(), value }
    }

    /// Whether something was read from the environment.
    pub(super) fn is_substituted(&self) -> bool {
        self.value != self.written
    }
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) place: Place,
    /// Its value.
    pub(super) node: Node,
}

impl Value {
    /// What kind of value it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Datetime(_) => "a date or time",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// The tree of a parsed document. The parser has bounded its depth.
pub(super) fn from_toml(table: &DeTable<'_>, argument: Option<usize>, offset: usize) -> Vec<Entry> {
    let place = |span: Range<usize>| Place {
        argument,
        span: span.start.saturating_add(offset)..span.end.saturating_add(offset),
    };
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            place: place(key.span()),
            node: node_from_toml(value, argument, offset),
        })
        .collect();
    // The parser sorts keys by name; what was written first is to come first.
    entries.sort_by_key(|entry| entry.place.span.start);
    entries
}

/// The tree of one value.
pub(super) fn node_from_toml(value: &Spanned<DeValue<'_>>, argument: Option<usize>, offset: usize) -> Node {
    let span = value.span();
    let tree = match value.get_ref() {
        DeValue::String(text) => Value::Text(Text::plain(text.as_ref())),
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            Value::Integer(parsed.unwrap_or(if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX }))
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(time) => Value::Datetime(time.to_string()),
        DeValue::Array(items) => Value::List(items.iter().map(|item| node_from_toml(item, argument, offset)).collect()),
        DeValue::Table(table) => Value::Table(from_toml(table, argument, offset)),
    };
    let span = span.start.saturating_add(offset)..span.end.saturating_add(offset);
    Node { place: Place { argument, span }, value: tree, raw: None }
}

/// The tree of a text.
///
/// # Errors
///
/// All mistakes of syntax. What they leave of the tree is not read: it would be full of mistakes that nobody made.
pub(super) fn parse(text: &str, reader: &Reader) -> Result<Vec<Entry>, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(from_toml(table.get_ref(), None, 0));
    }
    for error in errors {
        let span = error.span().unwrap_or_default();
        reader.problem(&Place { argument: None, span }, error.message(), None);
    }
    let mut problems = reader.problems.take();
    problems.sort();
    Err(problems)
}
