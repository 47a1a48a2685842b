//! Rows that cannot be read: dropped, the end of the job, or set aside with the reason.
//!
//! A source whose rejected rows are set aside gives them among its good ones: its *physical* rows have one more column,
//! [`REJECTED`], null for good rows. Two narrow steps directly behind the source split them (`step/rejected.rs`), so that
//! nothing else knows of the column.
//!
//! ```text
//!  source ── {declared columns, __rejected} ──┬─▶ rows where it is null, without it ──▶ who reads the source
//!                                             └─▶ the others, unpacked ──▶ who reads the dead letter
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use super::counters::{SourceCounters, SourceNote};
use super::error::SourceError;
use super::lines::EmitRows;
use crate::error::{Error, Internal, shortened};
use crate::job::table::Table;

/// The column of physical rows that holds what was rejected.
pub const REJECTED: &str = "__rejected";

/// How much of what was rejected a dead letter has.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// How much of it is shown in messages.
const SHOWN_CHARS_MAX: usize = 80;

/// How much of the reason is shown: a decoder may quote the whole line.
const REASON_CHARS_MAX: usize = 256;

/// Rejected rows that wait to be given, at most: what is decoded together.
const WAITING_MAX: usize = 8_192;

/// Bytes of rejected rows that wait.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What happens to a row that cannot be read. It is counted either way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BadRows {
    /// It is left out, and shown.
    #[default]
    Drop,
    /// The job fails.
    Fail,
    /// It is set aside: the stream of this name has it, with the reason.
    DeadLetter(String),
}

impl BadRows {
    /// Reads the keys `on-error` and `dead-letter`.
    pub fn parse(table: &mut Table<'_>) -> Self {
        #[derive(Clone, Copy, PartialEq)]
        enum Choice {
            Drop,
            Fail,
            DeadLetter,
        }
        let choices = [("drop", Choice::Drop), ("fail", Choice::Fail), ("dead-letter", Choice::DeadLetter)];
        let choice = table.choice("on-error", &choices);
        let name = table.text("dead-letter");
        match (choice, name) {
            (Some(Choice::DeadLetter), Some(name)) => Self::DeadLetter(name),
            (Some(Choice::DeadLetter), None) => {
                if !table.has("dead-letter") {
                    let hint = "write `dead-letter = \"bad-rows\"`: what `from` of a step or sink calls the stream";
                    table.missing("dead-letter", Some(hint.into()));
                }
                Self::Drop
            }
            (choice, name) => {
                // When `on-error` is wrong, that has been told.
                if name.is_some() && (choice.is_some() || !table.has("on-error")) {
                    let hint = Some("write `on-error = \"dead-letter\"` beside it".into());
                    table.problem("dead-letter", "`dead-letter` needs `on-error = \"dead-letter\"`", hint);
                }
                if choice == Some(Choice::Fail) { Self::Fail } else { Self::Drop }
            }
        }
    }

    /// The stream that has the rejected rows, if they are set aside.
    #[must_use]
    pub fn dead_letter(&self) -> Option<&str> {
        match self {
            Self::DeadLetter(name) => Some(name),
            Self::Drop | Self::Fail => None,
        }
    }
}

/// The schema of dead letters.
///
/// | column | type | meaning |
/// | --- | --- | --- |
/// | `source` | `utf8` | the source's name |
/// | `object` | `utf8` | the file, or the peer of a connection |
/// | `position` | `int64` | where the row starts: bytes from the start of the file, connection or input |
/// | `reason` | `utf8` | why it was rejected |
/// | `value` | `utf8` | the row as it came, at most [`VALUE_BYTES_MAX`] of it; null where it is not to be had |
#[must_use]
pub fn dead_letter_schema() -> SchemaRef {
    let source = Field::new("source", DataType::Utf8, false);
    let fields: Vec<Field> =
        std::iter::once(source).chain(letter_fields().iter().map(|field| field.as_ref().clone())).collect();
    Arc::new(Schema::new(fields))
}

/// What the hidden column has of a rejected row: a dead letter but for the name of the source, which no source knows.
fn letter_fields() -> Fields {
    Fields::from(vec![
        Field::new("object", DataType::Utf8, false),
        Field::new("position", DataType::Int64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ])
}

/// The schema of what a source gives that sets rejected rows aside and whose good rows have `schema`.
#[must_use]
pub fn physical_schema(schema: &Schema) -> SchemaRef {
    // A rejected row has null everywhere else.
    let mut fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    fields.push(Field::new(REJECTED, DataType::Struct(letter_fields()), true));
    Arc::new(Schema::new(fields))
}

/// A row that waits to be told.
#[derive(Debug)]
struct BadRow {
    position: u64,
    reason: String,
    value: Option<Vec<u8>>,
}

/// Gives good rows on, and does with the others what the source's options say.
#[derive(Debug)]
pub(super) struct Rejects {
    /// The file or the peer.
    object: String,
    bad_rows: BadRows,
    counters: Arc<SourceCounters>,
    /// What is given, when rejected rows are among it.
    physical: Option<SchemaRef>,
    waiting: Vec<BadRow>,
    waiting_bytes: usize,
}

impl Rejects {
    /// Of rows of `schema` that come from `object`.
    pub(super) fn new(object: String, bad_rows: BadRows, schema: &Schema, counters: Arc<SourceCounters>) -> Self {
        let physical = bad_rows.dead_letter().map(|_| physical_schema(schema));
        Self { object, bad_rows, counters, physical, waiting: Vec::new(), waiting_bytes: 0 }
    }

    pub(super) fn counters(&self) -> &Arc<SourceCounters> {
        &self.counters
    }

    pub(super) fn object(&self) -> &str {
        &self.object
    }

    /// Whether what waits should be [given](Self::give).
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX
    }

    /// Rejects the row at `position`. What is done about it is done with the next [`give`](Self::give).
    pub(super) fn reject(&mut self, position: u64, reason: impl Into<String>, value: Option<&[u8]>) {
        let value = value.map(|value| cut(value, VALUE_BYTES_MAX).to_vec());
        let row = BadRow { position, reason: shortened(&reason.into(), REASON_CHARS_MAX), value };
        self.waiting_bytes += row.reason.len() + row.value.as_ref().map_or(0, Vec::len);
        self.waiting.push(row);
    }

    /// Counts a line at `position` that is longer than allowed. It is rejected like others, unless rows are dropped: then
    /// it is counted apart, as in text.
    pub(super) fn pass_over(&mut self, position: u64) {
        if self.bad_rows == BadRows::Drop {
            self.counters.note(SourceNote::LineTooLong);
        } else {
            self.reject(position, "it is longer than `max-line-bytes`", None);
        }
    }

    /// Gives good rows, and deals with those rejected since the last time, in their order.
    pub(super) fn give(&mut self, good: Option<RecordBatch>, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let mut rejected = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        rejected.sort_by_key(|row| row.position);
        if self.bad_rows == BadRows::Fail
            && let Some(first) = rejected.first()
        {
            self.counters.note(SourceNote::RowRejected { reason: self.describe(first) });
            return Err(SourceError::BadRow {
                object: self.object.clone(),
                position: first.position,
                line: None,
                shown: first.value.as_deref().map(shown),
                reason: first.reason.clone(),
            }
            .into());
        }
        for row in &rejected {
            self.counters.note(SourceNote::RowRejected { reason: self.describe(row) });
        }
        let internal = |source| Internal { doing: "setting rejected rows aside".into(), source };
        if let Some(good) = good {
            emit(match &self.physical {
                None => good,
                Some(physical) => {
                    let hidden = new_null_array(physical.field(good.num_columns()).data_type(), good.num_rows());
                    let columns = good.columns().iter().cloned().chain([hidden]).collect();
                    RecordBatch::try_new(Arc::clone(physical), columns).map_err(internal)?
                }
            })?;
        }
        if let Some(physical) = &self.physical
            && !rejected.is_empty()
        {
            emit(letters(physical, &self.object, &rejected).map_err(internal)?)?;
        }
        Ok(())
    }

    fn describe(&self, row: &BadRow) -> String {
        match row.value.as_deref().map(shown) {
            Some(value) => format!("`{}`: `{value}`: {}", self.object, row.reason),
            None => format!("`{}`: {}", self.object, row.reason),
        }
    }
}

/// Physical rows of nothing but rejected ones.
fn letters(physical: &SchemaRef, object: &str, rejected: &[BadRow]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let value = |row: &BadRow| row.value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rejected.iter().map(|_| object))),
        Arc::new(Int64Array::from_iter_values(
            rejected.iter().map(|row| i64::try_from(row.position).unwrap_or(i64::MAX)),
        )),
        Arc::new(StringArray::from_iter_values(rejected.iter().map(|row| row.reason.as_str()))),
        Arc::new(StringArray::from_iter(rejected.iter().map(value))),
    ];
    let hidden: ArrayRef = Arc::new(StructArray::try_new(letter_fields(), columns, None)?);
    let n_good_columns = physical.fields().len() - 1;
    let nulls =
        physical.fields()[..n_good_columns].iter().map(|field| new_null_array(field.data_type(), rejected.len()));
    RecordBatch::try_new(Arc::clone(physical), nulls.chain([hidden]).collect())
}

/// The start of a text, cut between two characters if it is one.
fn cut(value: &[u8], bytes_max: usize) -> &[u8] {
    if value.len() <= bytes_max {
        return value;
    }
    // A character has three bytes after its first, at most.
    let end = (bytes_max.saturating_sub(3)..=bytes_max).rev().find(|&end| value[end] & 0xc0 != 0x80);
    &value[..end.unwrap_or(bytes_max)]
}

/// The start of a rejected row, on one line.
fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut shown = String::new();
    for char in text.chars().take(SHOWN_CHARS_MAX) {
        match char {
            '"' | '\'' | '\\' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::source::text_schema;

    fn give(bad_rows: BadRows) -> (Result<(), Error>, Vec<RecordBatch>, Arc<SourceCounters>) {
        let counters = Arc::new(SourceCounters::new("test"));
        let mut rejects = Rejects::new("a.csv".into(), bad_rows, &text_schema(), Arc::clone(&counters));
        rejects.reject(70, "later", None);
        rejects.reject(7, "too\nbad", Some(b"x\xff"));
        let good = RecordBatch::try_new(text_schema(), vec![Arc::new(StringArray::from(vec!["good"]))]);
        let mut given = Vec::new();
        let outcome = rejects.give(Some(good.expect("one column")), &mut |rows| {
            given.push(rows);
            Ok(())
        });
        (outcome, given, counters)
    }

    #[test]
    fn dropped_rows_are_counted_and_shown() {
        let (outcome, given, counters) = give(BadRows::Drop);
        outcome.expect("nothing fails");
        assert_eq!(given.iter().map(RecordBatch::schema).collect::<Vec<_>>(), [text_schema()]);
        let seen = counters.snapshot();
        assert_eq!((seen.rejected_rows, seen.last_rejection.as_deref()), (2, Some("`a.csv`: later")));
    }

    #[test]
    fn the_first_row_fails_by_name() {
        let (outcome, given, counters) = give(BadRows::Fail);
        let error = outcome.expect_err("a row was rejected");
        assert_eq!(error.to_string(), "the row at byte 7 of `a.csv` cannot be read: `x\u{fffd}`: too\\nbad");
        assert!(error.hint().is_some());
        assert_eq!((given.len(), counters.snapshot().rejected_rows), (0, 1));
    }

    #[test]
    fn dead_letters_stand_behind_good_rows_in_their_order() {
        let (outcome, given, counters) = give(BadRows::DeadLetter("bad".into()));
        outcome.expect("nothing fails");
        assert!(given.iter().all(|rows| rows.schema() == physical_schema(&text_schema())));
        assert_eq!((given[0].column(0).null_count(), given[0].column(1).null_count()), (0, 1));
        assert_eq!((given[1].column(0).null_count(), given[1].column(1).null_count()), (2, 0));
        let letters = given[1].column(1).as_struct();
        let positions = letters.column(1).as_primitive::<arrow::datatypes::Int64Type>();
        assert_eq!(positions.values(), &[7, 70]);
        let values: Vec<_> = letters.column(3).as_string::<i32>().iter().collect();
        assert_eq!(values, [Some("x\u{fffd}"), None]);
        assert_eq!(counters.snapshot().rejected_rows, 2);
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(cut(b"abc", 3), b"abc");
        assert_eq!(cut(b"abcd", 3), b"abc");
        assert_eq!(cut("aé€".as_bytes(), 5), "aé".as_bytes());
        assert_eq!(cut(&[0x80; 9], 5), [0x80; 5]);
    }

    #[test]
    fn reasons_are_short_and_on_one_line() {
        assert_eq!(shortened("a\nb\u{1b}é", REASON_CHARS_MAX), "a\\nb\\u{1b}é");
        assert_eq!(shortened(&"é".repeat(REASON_CHARS_MAX), REASON_CHARS_MAX), "é".repeat(REASON_CHARS_MAX));
        assert_eq!(shortened(&"x".repeat(1 << 20), REASON_CHARS_MAX).chars().count(), REASON_CHARS_MAX + 1);
    }
}
