//! What is wrong with a text of SQL, in the words of a job file.
//!
//! DataFusion's errors name its own parts, and its types. What a person can act on is taken out of them; the rest of a text
//! that is not known here is cleaned of prefixes and shown as it is.

use std::ops::Range;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;

use super::failure::unwrap;
use super::function::FunctionRefused;
use crate::job::nearest::suggest;
use crate::job::text_part::key_of_part;
use crate::step::keyed::{SpecProblem, column_hint};

/// Something wrong with an expression or a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    /// The key of the step's table that it is about, when it is not the text's own.
    pub key: Option<String>,
    /// The part of the text that is wrong, in bytes; `None`: all of it.
    pub part: Option<Range<usize>>,
    /// Where that is, as long as the text is not at hand: line and column of its begin, and of its end.
    pub(super) place: Option<Box<[(u64, u64); 2]>>,
}

impl Mistake {
    /// A mistake of the text itself.
    pub(super) fn new(message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self { message: message.into(), hint: hint.into(), key: None, part: None, place: None }
    }

    /// The mistake, with the part of its text that is wrong.
    pub(super) fn in_text(mut self, text: &str) -> Self {
        if let Some(place) = self.place.take() {
            let [start, end] = *place;
            let start = offset_of(text, start);
            // What is said to begin somewhere goes on to the end of the word.
            let word = text[start..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len() - start);
            let end = offset_of(text, end).max(start + word);
            self.part = Some(start..end);
        }
        self
    }

    /// The mistake where it stands: at `key`, unless it is about another one.
    #[must_use]
    pub fn at(self, key: impl Into<String>) -> SpecProblem {
        let key = match (self.key, &self.part) {
            (Some(key), _) => key,
            (None, Some(part)) => key_of_part(&key.into(), part),
            (None, None) => key.into(),
        };
        SpecProblem { key, message: self.message, hint: self.hint }
    }
}

/// Where a line and a column of a text are, both from 1 and in characters; behind the text, its end.
fn offset_of(text: &str, (line, column): (u64, u64)) -> usize {
    let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(start) = text
        .split_inclusive('\n')
        .map(str::len)
        .scan(0, |at, len| Some(std::mem::replace(at, *at + len)))
        .nth(index(line))
    else {
        return text.len();
    };
    text[start..].char_indices().nth(index(column)).map_or(text.len(), |(at, _)| start + at)
}

/// Names that functions have in other systems, or that are not here on purpose.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "random",
        "A batch that is run again must give the same rows. `md5` or `sha256` of a column spreads rows, and plugins have random numbers that are the same in each run.",
    ),
    (
        "rand",
        "A batch that is run again must give the same rows. `md5` or `sha256` of a column spreads rows, and plugins have random numbers that are the same in each run.",
    ),
    (
        "uuid",
        "A batch that is run again must give the same rows. `md5` of the columns that tell rows apart makes an identifier of them.",
    ),
    ("getdate", "`now()` is the batch's time."),
    ("len", "Write `length(x)`."),
    ("ifnull", "Write `coalesce(x, y)`."),
    ("if", "Write `CASE WHEN … THEN … ELSE … END`."),
    ("iff", "Write `CASE WHEN … THEN … ELSE … END`."),
    ("size", "Write `cardinality(x)` for a list or map, `length(x)` for a text."),
    ("explode", "Write `unnest(x)`, in a `sql` step."),
    ("collect_list", "Write `array_agg(x)`."),
];

/// Functions that would give other values when a batch is run again: they are not there.
pub(super) const UNREPEATABLE: &[&str] = &["random", "uuid"];

/// Translates what was found while a text was parsed and planned. `functions` are the names of those there are.
pub(super) fn translate(error: DataFusionError, functions: &[String]) -> Mistake {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let place = span.map(|span| span.start);
    let error = match unwrap(error) {
        Ok(ours) => return of_plugin(&ours),
        Err(error) => error,
    };
    let mistake = match error.find_root() {
        DataFusionError::SQL(error, _) => return syntax(error),
        DataFusionError::SchemaError(error, _) => schema(error),
        DataFusionError::Plan(text) => plan(text, functions),
        _ => Mistake::new(reason(&error), None),
    };
    let ends = span.map(|span| Box::new([(span.start.line, span.start.column), (span.end.line, span.end.column)]));
    let mistake = Mistake { place: ends, ..mistake };
    match place {
        // In a text of one line it is seen at once.
        Some(at) if at.line > 1 => {
            let message = format!("{}, at line {}, character {} of the text", mistake.message, at.line, at.column);
            Mistake { message, ..mistake }
        }
        _ => mistake,
    }
}

fn of_plugin(error: &crate::error::Error) -> Mistake {
    let key = error.downcast_ref::<FunctionRefused>().map(FunctionRefused::key);
    Mistake { key, ..Mistake::new(error.in_one_line(), error.hint()) }
}

fn syntax(error: &ParserError) -> Mistake {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => {
            return Mistake::new(
                "it is nested too deep",
                Some("Compute parts of it in a step before this one.".into()),
            );
        }
    };
    let (text, place) = match text.rsplit_once(" at Line: ") {
        Some((text, place)) => (text, place.split_once(", Column: ")),
        None => (text.as_str(), None),
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let start = place.and_then(|(line, column)| Some((number(line)?, number(column)?)));
    let place = match place {
        Some(("1", column)) => format!(" at character {column}"),
        Some((line, column)) => format!(" at line {line}, character {column} of the text"),
        None => String::new(),
    };
    // What ends too early is wrong at its end.
    let is_at_end = text.ends_with(", found: EOF");
    let start = if is_at_end { Some((u64::MAX, u64::MAX)) } else { start };
    let ends = start.map(|start| Box::new([start; 2]));
    let mistake = match text.strip_prefix("Expected: ").and_then(|text| text.rsplit_once(", found: ")) {
        Some((expected, "EOF")) => Mistake::new(format!("syntax error at the end: {expected} is expected"), None),
        Some((expected, found)) => {
            Mistake::new(format!("syntax error{place}: {expected} is expected, and `{found}` stands there"), None)
        }
        None => Mistake::new(format!("syntax error{place}: {}", small(text)), None),
    };
    Mistake { place: ends, ..mistake }
}

fn schema(error: &SchemaError) -> Mistake {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names = |of: &[Column]| -> Schema {
                let fields = of.iter().map(|column| Field::new(&column.name, DataType::Null, true));
                Schema::new(fields.collect::<Vec<_>>())
            };
            // Of a stream that is named, its columns; otherwise all.
            let of_stream: Vec<Column> = valid_fields
                .iter()
                .filter(|valid| field.relation.is_some() && valid.relation == field.relation)
                .cloned()
                .collect();
            if field.relation.is_some() && of_stream.is_empty() {
                let streams =
                    valid_fields.iter().filter_map(|valid| valid.relation.as_ref()).map(|stream| stream.table());
                let mut streams: Vec<&str> = streams.collect();
                streams.dedup();
                let stream = field.relation.as_ref().map_or("", |stream| stream.table());
                let message = format!("there is no column `{}` of a stream `{stream}`", field.name);
                return Mistake::new(message, suggest(stream, "Streams here", streams));
            }
            let known = names(if of_stream.is_empty() { valid_fields } else { &of_stream });
            let same = known.fields().iter().find(|known| known.name().eq_ignore_ascii_case(&field.name));
            let hint = match same {
                Some(same) => format!("Did you mean `{}`? Columns are told apart by case.", same.name()),
                None => {
                    let quoted = "Texts stand in single quotes, as in 'a'.";
                    format!("{} {quoted}", column_hint(&known, &field.name))
                }
            };
            Mistake::new(format!("there is no column `{}`", field.name), Some(hint))
        }
        SchemaError::AmbiguousReference { field } => Mistake::new(
            format!("`{}` stands for more than one column", field.name),
            Some(format!(
                "Say of which stream it is, as in `stream.{}`, or give columns of the result different names.",
                field.name
            )),
        ),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            twice(name)
        }
    }
}

/// Two columns of one name.
pub(super) fn twice(name: &str) -> Mistake {
    let hint = format!("Give one of them another name: `{name} AS other`.");
    Mistake::new(format!("two columns of the result are called `{name}`"), Some(hint))
}

fn plan(text: &str, functions: &[String]) -> Mistake {
    if let Some(name) = between(text, "Invalid function '", "'") {
        let message = format!("there is no function `{name}`");
        if let Some((_, hint)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
            return Mistake::new(message, Some((*hint).to_owned()));
        }
        // All of them are too many to list.
        let near = crate::job::nearest::nearest(name, functions.iter().map(String::as_str));
        return Mistake::new(message, near.map(|near| format!("Did you mean `{near}`?")));
    }
    if let Some(call) = between(text, "argument types '", "'") {
        let candidates = text.split("Candidate functions:").nth(1).unwrap_or_default();
        let candidates: Vec<String> = candidates
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| format!("`{}`", types(line)))
            .collect();
        let hint = (!candidates.is_empty()).then(|| format!("There is {}.", candidates.join(", ")));
        return Mistake::new(format!("there is no function `{}`", types(call)), hint);
    }
    if let Some(names) = text.strip_prefix("Projections require unique expression names but the expression ") {
        return match between(names, "\"", "\"") {
            Some(name) if !name.contains([' ', '(']) => twice(name.rsplit('.').next().unwrap_or(name)),
            _ => {
                let hint = "Give them names: `x + 1 AS other`.".to_owned();
                Mistake::new("two columns of the result are the same, and have no names", Some(hint))
            }
        };
    }
    if let (true, Some(name)) = (text.contains("must appear in the GROUP BY clause"), between(text, "column \"", "\""))
    {
        let name = name.rsplit('.').next().unwrap_or(name);
        let hint = format!("Add it to `GROUP BY`, or say which of its values: `min({name})`, say.");
        return Mistake::new(format!("column `{name}` is neither grouped by nor in an aggregate"), Some(hint));
    }
    if let Some(name) = between(text, "table function '", "'") {
        let hint = "A query reads the streams of `from`, and nothing else.";
        return Mistake::new(format!("there is no stream or function `{name}` to read from"), Some(hint.into()));
    }
    for (operation, what) in [("comparison operation ", "be compared"), ("arithmetic expression ", "be computed")] {
        if let Some((_, rest)) = text.split_once(operation) {
            let operands = rest.strip_suffix(" to valid types").unwrap_or(rest);
            let hint = "`cast(x AS …)`, or a `cast` step before, gives a column another type.";
            return Mistake::new(
                format!("`{}` cannot {what}: the types do not fit", types(operands)),
                Some(hint.into()),
            );
        }
    }
    Mistake::new(clean(text), None)
}

/// The text between two others.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

/// What an error says, in one line without the names of who says it.
pub(super) fn reason(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => clean(&error.to_string()),
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::ResourcesExhausted(text)
        | DataFusionError::Configuration(text)
        | DataFusionError::Internal(text) => clean(text),
        error => clean(&error.to_string()),
    }
}

/// Prefixes that say which part of a library is speaking.
const SPEAKERS: [&str; 12] = [
    "Error during planning: ",
    "Arrow error: ",
    "Execution error: ",
    "This feature is not implemented: ",
    "Schema error: ",
    "SQL error: ",
    "External error: ",
    "Optimizer rule ",
    "Compute error: ",
    "Cast error: ",
    "Parser error: ",
    "Invalid argument error: ",
];

fn clean(text: &str) -> String {
    // Only the first line: what follows are candidates and back traces.
    let mut text = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    while let Some(rest) = SPEAKERS.iter().find_map(|speaker| text.strip_prefix(speaker)) {
        text = rest.to_owned();
    }
    if let Some((before, _)) = text.split_once("This issue was likely caused by a bug") {
        text = before.to_owned();
    }
    if let Some(text) = of_pattern(&text) {
        return text;
    }
    let text = types(&text);
    let text = text.trim_end_matches(['.', ' ']);
    // "Divide by zero error" says twice that it is one.
    small(text.strip_suffix(" error").unwrap_or(text))
}

/// What is wrong with a regular expression, without the drawing of it.
fn of_pattern(text: &str) -> Option<String> {
    const DRAWN: &str = "regex parse error:";
    let (_, drawn) = text.split_once(DRAWN)?;
    let (pattern, wrong) = drawn.rsplit_once(" error: ")?;
    // Below the pattern stands an arrow.
    let pattern = pattern.trim_matches([' ', '^', '~']);
    let wrong = wrong.trim_end_matches([' ', '~', ')', '.', ',']);
    Some(format!("`{pattern}` is no regular expression: {wrong}"))
}

/// A text that starts small, unless its first word is all large.
fn small(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

/// The names of types as job files write them.
fn types(text: &str) -> String {
    const NAMES: [&str; 16] = [
        "Boolean",
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
        "Float32",
        "Float64",
        "Utf8",
        "Binary",
        "Date32",
        "Timestamp",
        "Duration",
    ];
    let mut written = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match word.strip_suffix("View").or_else(|| word.strip_prefix("Large")).unwrap_or(word) {
            plain if NAMES.contains(&plain) => written.push_str(&plain.to_lowercase()),
            _ => written.push_str(word),
        }
        let next = after.find(is_word).unwrap_or(after.len());
        written.push_str(&after[..next]);
        rest = &after[next..];
    }
    // The only times there are.
    ["(µs, \"+00:00\")", "(Microsecond, Some(\"+00:00\"))"]
        .iter()
        .fold(written, |written, unit| written.replace(unit, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: DataFusionError, message: &str, hint: Option<&str>) {
        let functions = ["floor".to_owned(), "upper".to_owned()];
        let mistake = translate(error, &functions);
        assert_eq!((mistake.message.as_str(), mistake.hint.as_deref()), (message, hint));
    }

    fn plan(text: &str) -> DataFusionError {
        DataFusionError::Plan(text.into())
    }

    #[test]
    fn what_datafusion_says_is_said_in_the_words_of_a_job_file() {
        let at = |text: &str| DataFusionError::SQL(Box::new(ParserError::ParserError(text.into())), None);
        check(at("Expected: an expression, found: EOF"), "syntax error at the end: an expression is expected", None);
        check(
            at("Expected: end of expression, found: b at Line: 2, Column: 3"),
            "syntax error at line 2, character 3 of the text: end of expression is expected, and `b` stands there",
            None,
        );
        check(
            plan("Invalid function 'flor'.\nDid you mean 'floor'?"),
            "there is no function `flor`",
            Some("Did you mean `floor`?"),
        );
        check(
            plan("Invalid function 'ifnull'.\nDid you mean 'nullif'?"),
            "there is no function `ifnull`",
            Some("Write `coalesce(x, y)`."),
        );
        check(
            plan("Cannot coerce arithmetic expression Utf8 + Int64 to valid types"),
            "`utf8 + int64` cannot be computed: the types do not fit",
            Some("`cast(x AS …)`, or a `cast` step before, gives a column another type."),
        );
        check(
            plan("Something else about Utf8View and List(Int64).").context("type_coercion"),
            "something else about utf8 and List(int64)",
            None,
        );
        check(
            plan("Cannot coerce arithmetic expression Timestamp(µs, \"+00:00\") + Utf8 to valid types"),
            "`timestamp + utf8` cannot be computed: the types do not fit",
            Some("`cast(x AS …)`, or a `cast` step before, gives a column another type."),
        );
    }
}
