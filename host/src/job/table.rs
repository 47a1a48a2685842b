//! Reads one table of a job file: every key asked for is known, the others are mistakes.
//!
//! Everything that takes options (sources, sinks, steps) reads them from a [`Table`]. Reading never stops at a mistake:
//! a wrong value is recorded with its place and reads as absent, so that all mistakes are shown at once.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::nearest::{list, suggest};
use super::tree::{Entry, Node, Place, Text, Value};
use super::{Spans, environment, paths, tree, units};

pub use super::problems::{Problem, Problems};

/// What all tables of one file share while it is read.
pub(super) struct Reader {
    /// What relative paths are relative to.
    pub(super) base_dir: PathBuf,
    /// The `--set` arguments, which places refer to.
    pub(super) arguments: Vec<String>,
    /// The mistakes so far. A cell, because tables of one file are read side by side, on one thread.
    pub(super) problems: RefCell<Problems>,
    /// What was read from the environment, and the references to it: messages show the latter.
    pub(super) secrets: RefCell<Vec<(String, String)>>,
}

impl Reader {
    /// A reader of a file in `base_dir`.
    pub(super) fn new(base_dir: &Path, arguments: &[String]) -> Self {
        Self {
            base_dir: base_dir.into(),
            arguments: arguments.to_vec(),
            problems: RefCell::default(),
            secrets: RefCell::default(),
        }
    }

    /// Records a mistake.
    pub(super) fn problem(&self, place: &Place, message: impl Into<String>, hint: Option<String>) {
        let argument = place.argument.and_then(|index| self.arguments.get(index)).cloned();
        self.push(Problem { message: message.into(), span: Some(place.span.clone()), hint, argument });
    }

    /// Records a mistake that has been made up already.
    pub(super) fn push(&self, mut problem: Problem) {
        problem.message = self.without_secrets(problem.message);
        problem.hint = problem.hint.map(|hint| self.without_secrets(hint));
        self.problems.borrow_mut().push(problem);
    }

    /// A message that shows `${NAME}` where it would show what the environment holds, because that may be a password.
    fn without_secrets(&self, mut message: String) -> String {
        /// Shorter values are no secrets, and stand in messages by chance.
        const SECRET_BYTES_MIN: usize = 6;
        for (value, reference) in self.secrets.borrow().iter().filter(|(value, _)| value.len() >= SECRET_BYTES_MIN) {
            if message.contains(value) {
                message = message.replace(value, reference);
            }
        }
        message
    }
}

/// One table of the file while it is read: every key asked for is known, the others are mistakes.
///
/// Keys are asked for in any order; [`finish`](Table::finish) reports those that nobody asked for. In the methods,
/// `None` means that the key is absent, or that its value is wrong and the mistake has been recorded.
///
/// # Examples
///
/// ```
/// use std::path::Path;
/// use tidemill::job::table::read_options;
///
/// let read = |text: &str| {
///     read_options(text, Path::new("."), |table| (table.required_text("address"), table.boolean("reconnect")))
/// };
///
/// assert_eq!(read("address = 'localhost:9999'"), Ok((Some("localhost:9999".into()), None)));
/// let problems = read("adress = 'localhost:9999'\nreconnect = 'yes'").unwrap_err();
/// let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
/// assert_eq!(messages, [
///     "`address` is missing",
///     "unknown key `adress`",
///     "`reconnect` must be true or false, not a text",
/// ]);
/// ```
pub struct Table<'a> {
    reader: &'a Reader,
    entries: &'a [Entry],
    header: Place,
    /// What messages call it, as in `[[source]]`; empty: nothing.
    title: String,
    asked: Vec<String>,
}

impl<'a> Table<'a> {
    /// A table that starts at `header`.
    pub(super) fn new(reader: &'a Reader, entries: &'a [Entry], header: Place, title: impl Into<String>) -> Self {
        Self { reader, entries, header, title: title.into(), asked: Vec::new() }
    }

    /// The value of a key, which is known from now on.
    pub(super) fn node(&mut self, key: &str) -> Option<&'a Node> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.into());
        }
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// What all tables of the file share.
    pub(super) fn reader(&self) -> &'a Reader {
        self.reader
    }

    /// The keys that are there, in the file's order.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Whether the key is there, right or wrong.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// A text.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        self.reader.text(node, key)
    }

    /// A text, if the value is one: for a key whose value may be of several kinds. Nothing is a mistake.
    pub fn text_if_text(&mut self, key: &'static str) -> Option<String> {
        match &self.node(key)?.value {
            Value::Text(text) => Some(text.value.clone()),
            _ => None,
        }
    }

    /// Makes a key known without looking at its value, where something else is wrong that it depends on.
    pub fn know(&mut self, key: &str) {
        let _ = self.node(key);
    }

    /// What stands between the fields of a line: one ASCII character that ends no line.
    pub(crate) fn delimiter(&mut self, key: &'static str) -> Option<u8> {
        match self.text(key)?.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Some(*byte),
            _ => {
                let hint = format!("as in `{key} = \";\"`, or `\"\\t\"` for a tabulator");
                self.problem(key, format!("`{key}` must be one ASCII character"), Some(hint));
                None
            }
        }
    }

    /// A text that must be there and must not be empty.
    pub fn required_text(&mut self, key: &'static str) -> Option<String> {
        match self.node(key) {
            None => {
                self.missing(key, Some(format!("Write `{key} = \"…\"`.")));
                None
            }
            Some(node) => {
                let text = self.reader.text(node, key)?;
                if text.is_empty() {
                    self.reader.problem(&node.place, format!("`{key}` is empty"), None);
                    return None;
                }
                Some(text)
            }
        }
    }

    /// Records that a key that must be there is not.
    pub fn missing(&mut self, key: &str, hint: Option<String>) {
        let message = match self.title.as_str() {
            "" => format!("`{key}` is missing"),
            title => format!("`{key}` is missing in {title}"),
        };
        self.reader.problem(&self.header, message, hint);
    }

    /// A text or a list of texts.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let node = self.node(key)?;
        let Value::List(items) = &node.value else {
            return match &node.value {
                Value::Text(_) => Some(vec![self.reader.text(node, key)?]),
                _ => {
                    self.reader.wrong_kind(node, key, "a text or a list of texts", None);
                    None
                }
            };
        };
        let texts: Vec<Option<String>> =
            items.iter().map(|item| self.reader.text(item, &format!("{key}[…]"))).collect();
        texts.into_iter().collect()
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.node(key)?;
        let number = match &node.value {
            Value::Integer(number) => *number,
            // The environment has only texts.
            Value::Text(text) if text.is_substituted() => match text.value.trim().parse() {
                Ok(number) => number,
                Err(_) => {
                    let message = format!("`{key}` must be a whole number, and `{}` is something else", text.written);
                    self.reader.problem(&node.place, message, None);
                    return None;
                }
            },
            Value::Text(text) => {
                let hint = text.value.trim().parse::<u64>().ok().map(|number| format!("Write `{key} = {number}`."));
                self.reader.wrong_kind(node, key, "a whole number", hint);
                return None;
            }
            _ => {
                self.reader.wrong_kind(node, key, "a whole number", None);
                return None;
            }
        };
        match u64::try_from(number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let message = match (*range.start(), *range.end()) {
                    (0, u64::MAX) => format!("`{key}` must be a whole number, not below zero"),
                    (start, u64::MAX) => format!("`{key}` must be at least {start}"),
                    (start, end) => format!("`{key}` must be between {start} and {end}"),
                };
                self.reader.problem(&node.place, message, None);
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Boolean(value) => return Some(*value),
            Value::Text(text) if text.is_substituted() => {
                if let Ok(value) = text.value.trim().parse() {
                    return Some(value);
                }
                let message = format!("`{key}` must be true or false, and `{}` is something else", text.written);
                self.reader.problem(&node.place, message, None);
            }
            Value::Text(text) => {
                let hint = text.value.parse::<bool>().ok().map(|value| format!("Write `{key} = {value}`."));
                self.reader.wrong_kind(node, key, "true or false", hint);
            }
            _ => self.reader.wrong_kind(node, key, "true or false", None),
        }
        None
    }

    /// A finite number.
    pub fn float(&mut self, key: &'static str) -> Option<f64> {
        let node = self.node(key)?;
        let number = match &node.value {
            Value::Float(number) => Some(*number),
            // Numbers beyond 2^53 lose digits, as they do in every float.
            Value::Integer(number) => Some(*number as f64),
            Value::Text(text) if text.is_substituted() => text.value.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() => return Some(number),
            Some(_) => self.reader.problem(&node.place, format!("`{key}` must be a finite number"), None),
            None => self.reader.wrong_kind(node, key, "a number", None),
        }
        None
    }

    /// A duration, as in `"1s"`, `"10ms"`, `"1h30m"`; `"0"` needs no unit.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.with_unit(key, "a duration", "s", "Durations are a number and `us`, `ms`, `s`, `m`, `h` or `d`.", |text| {
            units::parse_duration(text)
        })
    }

    /// A size in bytes, as in `"64MiB"`, `"10MB"`, `"4096B"`; `"0"` needs no unit.
    pub fn size(&mut self, key: &'static str) -> Option<u64> {
        self.with_unit(
            key,
            "a size",
            "B",
            "Sizes are a number and `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.",
            units::parse_size,
        )
    }

    /// A text with a unit. A bare number is refused, because it does not say in what; except 0, which is 0 in all.
    fn with_unit<T>(
        &mut self,
        key: &'static str,
        what: &str,
        unit: &str,
        hint: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(key)?;
        match &node.value {
            Value::Integer(0) => return parse("0").ok(),
            Value::Integer(number) if node.raw.is_none() => {
                let hint = format!("Write it with its unit, as in `{key} = \"{number}{unit}\"`.");
                self.reader.problem(&node.place, format!("`{key}` must be {what} with a unit"), Some(hint));
            }
            Value::Integer(number) => {
                let hint = format!("Write it with its unit, as in `{number}{unit}`.");
                self.reader.problem(&node.place, format!("`{key}` must be {what} with a unit"), Some(hint));
            }
            Value::Text(text) => match parse(&text.value) {
                Ok(value) => return Some(value),
                // What came from the environment is not shown.
                Err(_) if text.is_substituted() => {
                    let message = format!("`{key}` must be {what}, and `{}` is something else", text.written);
                    self.reader.problem(&node.place, message, Some(hint.into()));
                }
                Err(message) => self.reader.problem(&node.place, message, Some(hint.into())),
            },
            _ => self.reader.wrong_kind(node, key, what, Some(hint.into())),
        }
        None
    }

    /// One of some names.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let node = self.node(key)?;
        let names = || choices.iter().map(|(name, _)| *name);
        let Value::Text(text) = &node.value else {
            self.reader.wrong_kind(node, key, format!("one of {}", list(&names().collect::<Vec<_>>())), None);
            return None;
        };
        let found = choices.iter().find(|(name, _)| *name == text.value);
        if found.is_none() {
            let hint = suggest(&text.value, "Choices", names());
            self.reader.problem(&node.place, format!("`{key}` cannot be `{}`", text.written), hint);
        }
        found.map(|(_, value)| *value)
    }

    /// A table within this one; it is to be finished on its own.
    pub fn table(&mut self, key: &'static str) -> Option<Table<'a>> {
        let node = self.node(key)?;
        match &node.value {
            Value::Table(entries) => Some(Table::new(self.reader, entries, node.place.clone(), format!("`{key}`"))),
            _ => {
                self.reader.wrong_kind(node, key, "a table", Some(format!("Write `{key} = {{ … }}`.")));
                None
            }
        }
    }

    /// A table whose keys are free and whose values are texts, in the file's order: columns and their types, say.
    pub fn named_texts(&mut self, key: &'static str) -> Option<Vec<(String, String)>> {
        let node = self.node(key)?;
        let Value::Table(entries) = &node.value else {
            self.reader.wrong_kind(node, key, "a table of texts", Some(format!("Write `{key} = {{ name = \"…\" }}`.")));
            return None;
        };
        let texts: Vec<Option<(String, String)>> = entries
            .iter()
            .map(|entry| Some((entry.key.clone(), self.reader.text(&entry.node, &format!("{key}.{}", entry.key))?)))
            .collect();
        texts.into_iter().collect()
    }

    /// A list of tables, each to be finished on its own.
    pub fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.reader.wrong_kind(node, key, "a list of tables", Some(format!("Write `{key} = [{{ … }}]`.")));
            return Vec::new();
        };
        let tables = items.iter().enumerate().filter_map(|(index, item)| {
            let title = format!("{key}[{index}]");
            match &item.value {
                Value::Table(entries) => {
                    Some(Table::new(self.reader, entries, item.place.clone(), format!("`{title}`")))
                }
                _ => {
                    self.reader.wrong_kind(item, &title, "a table", Some(format!("Write `{key} = [{{ … }}]`.")));
                    None
                }
            }
        });
        tables.collect()
    }

    /// Whether the value of a key is a table; it is known from now on.
    pub fn is_table(&mut self, key: &str) -> bool {
        self.node(key).is_some_and(|node| matches!(node.value, Value::Table(_)))
    }

    /// Whether the value of a key is `true` or `false`; it is known from now on.
    pub fn is_boolean(&mut self, key: &str) -> bool {
        self.node(key).is_some_and(|node| matches!(node.value, Value::Boolean(_)))
    }

    /// A table whose keys are free and whose values are tables, in the file's order; each is to be finished on its own.
    pub fn named_tables(&mut self, key: &'static str) -> Vec<(String, Table<'a>)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Value::Table(entries) = &node.value else {
            self.reader.wrong_kind(
                node,
                key,
                "a table of tables",
                Some(format!("Write `{key} = {{ name = {{ … }} }}`.")),
            );
            return Vec::new();
        };
        let tables = entries.iter().filter_map(|entry| {
            let title = format!("{key}.{}", entry.key);
            match &entry.node.value {
                Value::Table(entries) => {
                    let inner = Table::new(self.reader, entries, entry.node.place.clone(), format!("`{title}`"));
                    Some((entry.key.clone(), inner))
                }
                _ => {
                    self.reader.wrong_kind(
                        &entry.node,
                        &title,
                        "a table",
                        Some(format!("Write `{} = {{ … }}`.", entry.key)),
                    );
                    None
                }
            }
        });
        tables.collect()
    }

    /// Any value, as JSON. Dates become texts.
    pub fn json(&mut self, key: &'static str) -> Option<serde_json::Value> {
        let node = self.node(key)?;
        self.reader.json(node)
    }

    /// A path: relative ones are relative to the job file's folder, `file:` URLs are paths too.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let node = self.node(key)?;
        let text = self.reader.text(node, key)?;
        match paths::resolve(&text, &self.reader.base_dir) {
            Ok(path) => Some(path),
            Err((message, hint)) => {
                self.reader.problem(&node.place, format!("`{key}` {message}"), hint);
                None
            }
        }
    }

    /// The path of a directory that must be there.
    pub fn existing_directory(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.path(key)?;
        let mut hint = None;
        let message = match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => return Some(path),
            Ok(_) => format!("`{}` is not a directory", path.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                hint = paths::similar_file(&path).map(|near| format!("Did you mean `{near}`?"));
                format!("there is no directory `{}`", path.display())
            }
            Err(error) => format!("the directory `{}` cannot be read: {error}", path.display()),
        };
        self.problem(key, message, hint);
        None
    }

    /// The path of a file that must be there.
    pub fn existing_file(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.path(key)?;
        let mut hint = None;
        let message = match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => return Some(path),
            Ok(_) => format!("`{}` is not a file", path.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                hint = paths::similar_file(&path).map(|near| format!("Did you mean `{near}`?"));
                format!("there is no file `{}`", path.display())
            }

            Err(error) => format!("the file `{}` cannot be read: {error}", path.display()),
        };
        self.problem(key, message, hint);
        None
    }

    /// Checks that there is something at a path, unless it is a pattern.
    pub(super) fn check_path(&mut self, key: &'static str) {
        let Some(text) = self.node(key).and_then(|node| match &node.value {
            Value::Text(text) => Some(text.value.clone()),
            _ => None,
        }) else {
            return;
        };
        let Ok(path) = paths::resolve(&text, &self.reader.base_dir) else { return };
        let is_missing = std::fs::metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        if is_missing && !text.contains(['*', '?', '[']) {
            let hint = paths::similar_file(&path).map(|near| format!("did you mean `{near}`?"));
            self.problem(key, format!("there is no file or directory `{}`", path.display()), hint);
        }
    }

    /// Records a mistake: at the value of `key`, which may be a dotted path, or at the table's header if there is none.
    pub fn problem(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        let place = self.place(key);
        self.reader.problem(&place, message, hint);
    }

    /// Where the value of `key`, a dotted path, stands, or the nearest thing around it.
    pub(super) fn place(&self, key: &str) -> Place {
        let mut place = &self.header;
        let mut entries = self.entries;
        let mut items: &[Node] = &[];
        for part in key.split('.') {
            let node = match entries.iter().find(|entry| entry.key == part) {
                Some(entry) => &entry.node,
                None => match part.parse::<usize>().ok().and_then(|index| items.get(index)) {
                    Some(item) => item,
                    None => break,
                },
            };
            place = &node.place;
            (entries, items) = match &node.value {
                Value::Table(entries) => (entries.as_slice(), &[][..]),
                Value::List(items) => (&[][..], items.as_slice()),
                _ => (&[][..], &[][..]),
            };
        }
        place.clone()
    }

    /// Where the table and everything in it stands. List elements are `key.0`, `key.1`, …
    ///
    /// What a `--set` argument says stands nowhere in the file and has no span.
    #[must_use]
    pub fn spans(&self) -> Spans {
        fn add(spans: &mut Spans, path: String, node: &Node) {
            match &node.value {
                Value::Table(entries) => {
                    entries.iter().for_each(|entry| add(spans, format!("{path}.{}", entry.key), &entry.node));
                }
                Value::List(items) => {
                    items.iter().enumerate().for_each(|(index, item)| add(spans, format!("{path}.{index}"), item));
                }
                _ => {}
            }
            if node.place.argument.is_none() {
                spans.values.insert(path, node.place.span.clone());
            }
        }
        let header = self.header.argument.is_none().then(|| self.header.span.clone());
        let mut spans = Spans { header, ..Spans::default() };
        for entry in self.entries {
            add(&mut spans, entry.key.clone(), &entry.node);
        }
        spans
    }

    /// Ends reading: keys that nobody asked for are mistakes, with the nearest of those asked for.
    pub fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key)) {
            // A key that is there already is not what another was meant to be.
            let free = self.asked.iter().map(String::as_str).filter(|asked| !self.has(asked));
            let hint = suggest(&entry.key, "Other keys here", free);
            let message = match self.title.as_str() {
                "" => format!("unknown key `{}`", entry.key),
                title => format!("unknown key `{}` in {title}", entry.key),
            };
            self.reader.problem(&entry.place, message, hint);
        }
    }
}

impl Reader {
    /// A text, whose name in messages is `key`.
    fn text(&self, node: &Node, key: &str) -> Option<String> {
        match (&node.value, &node.raw) {
            (Value::Text(Text { value, .. }), _) => Some(value.clone()),
            (_, Some(raw)) => Some(raw.clone()),
            (Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_), None) => {
                self.wrong_kind(node, key, "a text", Some("Put it in quotes.".into()));
                None
            }
            _ => {
                self.wrong_kind(node, key, "a text", None);
                None
            }
        }
    }

    /// Records that a value is of the wrong kind.
    fn wrong_kind(&self, node: &Node, key: &str, expected: impl Display, hint: Option<String>) {
        self.problem(&node.place, format!("`{key}` must be {expected}, not {}", node.value.kind()), hint);
    }

    /// A value as JSON.
    fn json(&self, node: &Node) -> Option<serde_json::Value> {
        Some(match &node.value {
            Value::Text(text) => text.value.as_str().into(),
            Value::Boolean(value) => (*value).into(),
            Value::Datetime(text) => text.as_str().into(),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => {
                    self.problem(&node.place, "the number does not fit into 64 bits", None);
                    return None;
                }
            },
            Value::Float(number) => match serde_json::Number::from_f64(*number) {
                Some(number) => number.into(),
                None => {
                    self.problem(&node.place, "the number must be finite: JSON, which plugins get, has no other", None);
                    return None;
                }
            },
            Value::List(items) => {
                let items: Vec<Option<serde_json::Value>> = items.iter().map(|item| self.json(item)).collect();
                items.into_iter().collect::<Option<Vec<_>>>()?.into()
            }
            Value::Table(entries) => {
                let entries: Vec<Option<(String, serde_json::Value)>> =
                    entries.iter().map(|entry| Some((entry.key.clone(), self.json(&entry.node)?))).collect();
                serde_json::Value::Object(entries.into_iter().collect::<Option<_>>()?)
            }
        })
    }
}

/// Reads options that stand alone, not in a job file: a whole TOML text as one table.
///
/// For programs that configure a source or a sink of their own the way a job file does, and for tests.
///
/// # Errors
///
/// All mistakes, those of keys that `read` did not ask for among them.
pub fn read_options<T>(text: &str, base_dir: &Path, read: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Problems> {
    let reader = Reader::new(base_dir, &[]);
    let mut entries = tree::parse(text, &reader)?;
    environment::substitute(&mut entries, &reader, &|name| std::env::var(name));
    let header = Place { argument: None, span: 0..0 };
    let mut table = Table::new(&reader, &entries, header, "");
    let value = read(&mut table);
    table.finish();
    let mut problems = reader.problems.into_inner();
    problems.sort();
    if problems.is_empty() { Ok(value) } else { Err(problems) }
}
