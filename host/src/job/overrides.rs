//! `--set key=value`: what the command line says over the file.
//!
//! A key is a dotted path. Elements of `[[source]]`, `[[step]]` and `[[sink]]` are addressed by name, as in
//! `source.lines.address`. A value is TOML; what is no TOML is a text, so that `--set limits.memory=64MiB` needs no
//! quotes.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::suggest;
use super::table::Reader;
use super::tree::{Entry, Node, Place, Text, Value, node_from_toml};

/// The sections whose elements have names.
const NAMED: [&str; 3] = ["source", "step", "sink"];

/// Applies every argument of the reader to a tree; what cannot be applied is recorded.
pub(super) fn apply(entries: &mut Vec<Entry>, reader: &Reader) {
    for (index, argument) in reader.arguments.iter().enumerate() {
        if let Err((span, message, hint)) = apply_one(entries, argument, index) {
            reader.problem(&Place { argument: Some(index), span }, message, hint);
        }
    }
}

/// What is wrong, where in the argument, and what to write instead.
type Mistake = (Range<usize>, String, Option<String>);

/// One part of a dotted path.
struct Part {
    name: String,
    span: Range<usize>,
}

fn apply_one(entries: &mut Vec<Entry>, argument: &str, index: usize) -> Result<(), Mistake> {
    let (path, value_start) = parse_path(argument)?;
    let node = parse_value(argument, value_start, index)?;
    let [section, rest @ ..] = path.as_slice() else {
        return Err((0..0, "no key".into(), Some("Write `--set key=value`.".into())));
    };
    if !NAMED.contains(&section.name.as_str()) {
        return put(entries, &path, node, index);
    }
    let [name, keys @ ..] = rest else {
        let message = format!("`{}` is a list of tables, and only their keys can be set", section.name);
        return Err((section.span.clone(), message, Some(format!("Write `{}.NAME.KEY=value`.", section.name))));
    };
    if keys.is_empty() {
        let message = format!("`{}.{}` is a table, and only its keys can be set", section.name, name.name);
        let hint = format!("Write `{}.{}.KEY=value`.", section.name, name.name);
        return Err((section.span.start..name.span.end, message, Some(hint)));
    }
    put(element(entries, &section.name, name)?, keys, node, index)
}

/// The keys of the element of a section that has a name; sinks without one are called `sink-N`.
fn element<'t>(entries: &'t mut [Entry], section: &str, name: &Part) -> Result<&'t mut Vec<Entry>, Mistake> {
    let items = entries.iter_mut().find(|entry| entry.key == section).map(|entry| &mut entry.node.value);
    let mut names = Vec::new();
    if let Some(Value::List(items)) = items {
        for (position, item) in items.iter_mut().enumerate() {
            let Value::Table(table) = &mut item.value else { continue };
            let own_name = table.iter().find(|entry| entry.key == "name").map(|entry| &entry.node.value);
            let own_name = match own_name {
                Some(Value::Text(text)) => text.value.clone(),
                Some(_) => continue,
                None => format!("{section}-{}", position + 1),
            };
            if own_name == name.name {
                return Ok(table);
            }
            names.push(own_name);
        }
    }
    let hint = suggest(&name.name, "There are", names.iter().map(String::as_str));
    Err((name.span.clone(), format!("there is no {section} `{}`", name.name), hint))
}

/// Puts a value at a path, which is not empty, and makes the tables on the way.
fn put(entries: &mut Vec<Entry>, path: &[Part], node: Node, index: usize) -> Result<(), Mistake> {
    let Some((part, rest)) = path.split_first() else { return Ok(()) };
    let place = || Place { argument: Some(index), span: part.span.clone() };
    let at = entries.iter().position(|entry| entry.key == part.name);
    if rest.is_empty() {
        match at {
            Some(at) => entries[at].node = node,
            None => entries.push(Entry { key: part.name.clone(), place: place(), node }),
        }
        return Ok(());
    }
    let at = at.unwrap_or_else(|| {
        let table = Node { place: place(), value: Value::Table(Vec::new()), raw: None };
        entries.push(Entry { key: part.name.clone(), place: place(), node: table });
        entries.len() - 1
    });
    match &mut entries[at].node.value {
        Value::Table(inner) => put(inner, rest, node, index),
        other => {
            let message = format!("`{}` is {}, and has no keys to set", part.name, other.kind());
            Err((part.span.clone(), message, None))
        }
    }
}

/// The path of an argument, and where its value starts.
fn parse_path(argument: &str) -> Result<(Vec<Part>, usize), Mistake> {
    let mut quote = None;
    let at = argument.find(|c| {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        quote.is_none() && c == '='
    });
    let hint = || Some("Write `--set key=value`, as in `--set job.batch-interval=0`.".to_owned());
    let Some(at) = at else {
        return Err((0..argument.len(), "a `=` is missing".into(), hint()));
    };
    // The parser of the file reads the key: same quotes, same letters. A line end would start another key.
    let document = format!("{}=0", &argument[..at]);
    let wrong = || (0..at, format!("`{}` is not a key", &argument[..at]), hint());
    if argument[..at].contains(['\n', '\r', '#', '[']) {
        return Err(wrong());
    }
    let table = DeTable::parse(&document).map_err(|_| wrong())?;
    let mut path = Vec::new();
    let mut table = Some(table.get_ref());
    while let Some(inner) = table {
        let Some((key, value)) = inner.iter().next() else { break };
        path.push(Part { name: key.get_ref().to_string(), span: key.span() });
        table = value.get_ref().as_table();
    }
    if path.is_empty() { Err(wrong()) } else { Ok((path, at + 1)) }
}

/// The value that starts at `start` of an argument.
fn parse_value(argument: &str, start: usize, index: usize) -> Result<Node, Mistake> {
    let whole = &argument[start..];
    let text = whole.trim();
    let start = start + (whole.len() - whole.trim_start().len());
    let place = Place { argument: Some(index), span: start..start + text.len() };
    let parsed: Result<Spanned<DeValue<'_>>, _> = DeValue::parse(text);
    match parsed {
        Ok(value) => {
            let mut node = node_from_toml(&value, Some(index), start);
            let is_bare = !matches!(node.value, Value::Text(_) | Value::List(_) | Value::Table(_));
            node.raw = is_bare.then(|| text.to_owned());
            Ok(node)
        }
        // What starts as TOML was meant as TOML.
        Err(error) if text.starts_with(['"', '\'', '[', '{']) => {
            let span = error.span().map_or(place.span, |span| start + span.start..start + span.end);
            let hint = "A text that starts with a quote or a bracket needs quotes around it.".into();
            Err((span, error.message().to_owned(), Some(hint)))
        }
        Err(_) => Ok(Node { place, value: Value::Text(Text::plain(text)), raw: None }),
    }
}
