//! Prints batches for people, or as lines of JSON for programs.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::error::SinkError;
use super::table::{Cell, Column, draw, printable};
use super::{PartitionWriter, Prepared, Sink, SinkBatch, SinkDefinition};
use crate::clock::describe_time;
use crate::error::Error;
use crate::ids::{BatchId, PartitionId};
use crate::job::table::Table;
use crate::json_lines::write_lines;

/// Prints the rows of each batch when it is published; batches without rows print nothing.
///
/// As a table, a batch has a line with its number, its time and its rows, then its first rows in aligned columns.
/// Whatever a terminal would take for a command is shown as an escape, so that rows cannot control it. As JSON, each
/// row is an object on a line of its own, without anything else, for programs to read.
///
/// A batch that may have been printed before the job was started again says so: in its line, or as JSON with a last member
/// `"_repeated": true` of each row.
#[derive(Clone)]
pub struct ConsoleSink {
    /// How rows are printed.
    pub format: ConsoleFormat,
    /// Rows of a batch that are printed; the others are counted. `None`: all.
    pub rows: Option<u64>,
    /// The widest a column of a table may be, in terminal columns; longer values are cut.
    pub truncate: u64,
    /// Where to.
    pub output: ConsoleOutput,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsoleFormat {
    /// Aligned columns.
    #[default]
    Table,
    /// An object a line.
    Json,
}

/// Where a console sink prints.
#[derive(Clone, Default)]
pub enum ConsoleOutput {
    /// Standard output.
    #[default]
    Stdout,
    /// Whatever the program brings.
    Writer(Arc<Mutex<dyn Write + Send>>),
}

impl ConsoleSink {
    /// Tables of up to 20 rows, as Spark prints them.
    #[must_use]
    pub fn table() -> Self {
        Self { format: ConsoleFormat::Table, rows: Some(20), truncate: 40, output: ConsoleOutput::Stdout }
    }

    /// All rows as lines of JSON.
    #[must_use]
    pub fn json() -> Self {
        Self { format: ConsoleFormat::Json, rows: None, ..Self::table() }
    }

    /// Reads the options `format`, `rows` and `truncate`.
    pub fn parse(table: &mut Table<'_>) -> Option<Self> {
        let choices = [("table", ConsoleFormat::Table), ("json", ConsoleFormat::Json)];
        let format = table.choice("format", &choices);
        let mut sink = match format {
            Some(ConsoleFormat::Json) => Self::json(),
            Some(ConsoleFormat::Table) | None => Self::table(),
        };
        // Rows of one batch that are printed are held in memory until then.
        sink.rows = table.integer("rows", 0..=1_000_000_000).or(sink.rows);
        if format != Some(ConsoleFormat::Json) {
            sink.truncate = table.integer("truncate", 1..=10_000).unwrap_or(sink.truncate);
        }
        Some(sink)
    }
}

impl fmt::Debug for ConsoleSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSink")
            .field("format", &self.format)
            .field("rows", &self.rows)
            .field("truncate", &self.truncate)
            .finish_non_exhaustive()
    }
}

impl SinkDefinition for ConsoleSink {
    fn type_name(&self) -> &str {
        "console"
    }

    fn describe(&self) -> String {
        match (self.format, self.rows) {
            (ConsoleFormat::Table, Some(rows)) => format!("table, {rows} rows a batch"),
            (ConsoleFormat::Table, None) => "table".into(),
            (ConsoleFormat::Json, Some(rows)) => format!("json, {rows} rows a batch"),
            (ConsoleFormat::Json, None) => "json".into(),
        }
    }

    fn check(&self, schema: &SchemaRef) -> Result<(), Error> {
        match self.format {
            ConsoleFormat::Json => check_json(schema),
            ConsoleFormat::Table => {
                for field in schema.fields() {
                    let column = new_null_array(field.data_type(), 1);
                    let options = FormatOptions::new();
                    if let Err(error) = ArrayFormatter::try_new(&column, &options) {
                        let reason = format!("column `{}`: {}", field.name(), describe(&error));
                        let hint = "Leave the column out, or make a text of it.".into();
                        return Err(SinkError::Schema { format: "a table", reason, hint }.into());
                    }
                }
                Ok(())
            }
        }
    }

    fn open(&self, schema: &SchemaRef) -> Result<Arc<dyn Sink>, Error> {
        self.check(schema)?;
        Ok(Arc::new(Console { options: self.clone(), schema: Arc::clone(schema), last_published: Mutex::new(None) }))
    }
}

/// Whether lines of JSON can be made of rows of this schema.
pub(super) fn check_json(schema: &SchemaRef) -> Result<(), Error> {
    for field in schema.fields() {
        // The writer looks at types when there are rows.
        let nullable = Arc::new(arrow::datatypes::Schema::new(vec![field.as_ref().clone().with_nullable(true)]));
        let row = RecordBatch::try_new(nullable, vec![new_null_array(field.data_type(), 1)]);
        let written = row.and_then(|row| write_lines(&row, &mut Vec::new()));
        if let Err(error) = written {
            let reason = format!("column `{}`: {}", field.name(), describe(&error));
            let hint = "Leave the column out, or make a text of it.".into();
            return Err(SinkError::Schema { format: "JSON", reason, hint }.into());
        }
    }
    Ok(())
}

/// What arrow says, without the name of its error type.
fn describe(error: &ArrowError) -> String {
    match error {
        ArrowError::JsonError(text)
        | ArrowError::ParseError(text)
        | ArrowError::CastError(text)
        | ArrowError::NotYetImplemented(text)
        | ArrowError::InvalidArgumentError(text) => text.clone(),
        other => other.to_string(),
    }
}

struct Console {
    options: ConsoleSink,
    schema: SchemaRef,
    /// The last batch that was printed. A mutex, held while printing, because publishing a batch twice must print it
    /// once.
    last_published: Mutex<Option<BatchId>>,
}

/// The rows of a partition that may be printed, ready to print.
enum Shown {
    /// One list of cells a row.
    Cells(Vec<Vec<Cell>>),
    /// Lines.
    Json(Vec<u8>),
}

impl Console {
    fn rows_max(&self) -> usize {
        self.options.rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(usize::MAX)
    }

    fn table(&self, batch: &SinkBatch, parts: Vec<Vec<Vec<Cell>>>, n_rows: u64) -> String {
        let mut rows: Vec<Vec<Cell>> = parts.into_iter().flatten().collect();
        rows.truncate(self.rows_max());
        let columns: Vec<Column> = self
            .schema
            .fields()
            .iter()
            .map(|field| Column {
                name: Cell::new(&printable(field.name()), self.options.truncate as usize),
                right: field.data_type().is_numeric(),
            })
            .collect();
        let again = if batch.is_repeated { " · again after a restart" } else { "" };
        let mut text =
            format!("batch {} · {} · {}{again}\n", batch.batch_id, describe_time(batch.batch_time_us), n_of(n_rows));
        draw(&columns, &rows, &mut text);
        let n_more = n_rows - (rows.len() as u64).min(n_rows);
        if n_more > 0 {
            text.push_str(&format!("… and {} more\n", n_of(n_more)));
        }
        text.push('\n');
        text
    }

    fn print(&self, text: &[u8]) -> Result<(), Error> {
        let (written, name) = match &self.options.output {
            ConsoleOutput::Stdout => (write_whole(&mut io::stdout().lock(), text), "standard output"),
            ConsoleOutput::Writer(writer) => {
                (write_whole(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner), text), "the console's output")
            }
        };
        written.map_err(|source| match source.kind() {
            ErrorKind::BrokenPipe => SinkError::Closed { output: name.into() }.into(),
            _ => SinkError::Write { what: name.into(), source }.into(),
        })
    }
}

/// Writes all at once, so that no other output comes between.
fn write_whole(output: &mut dyn Write, text: &[u8]) -> io::Result<()> {
    output.write_all(text)?;
    output.flush()
}

impl Sink for Console {
    fn writer(&self, _batch: &SinkBatch, partition: PartitionId) -> Result<Box<dyn PartitionWriter>, Error> {
        let shown = match self.options.format {
            ConsoleFormat::Table => Shown::Cells(Vec::new()),
            ConsoleFormat::Json => Shown::Json(Vec::new()),
        };
        let width_max = self.options.truncate as usize;
        Ok(Box::new(ConsoleWriter { partition, left: self.rows_max(), n_rows: 0, width_max, shown }))
    }

    fn publish(&self, batch: &SinkBatch, mut parts: Vec<Prepared>) -> Result<(), Error> {
        let mut last_published = self.last_published.lock().unwrap_or_else(PoisonError::into_inner);
        if last_published.is_some_and(|last| batch.batch_id <= last) {
            return Ok(());
        }
        parts.sort_by_key(|part| part.partition);
        let n_rows = parts.iter().map(|part| part.n_rows).sum();
        let (mut cells, mut json, mut left) = (Vec::new(), Vec::new(), self.rows_max());
        for part in parts {
            match *part.payload.downcast::<Shown>().map_err(|_| SinkError::Foreign { sink: "console" })? {
                Shown::Cells(rows) => cells.push(rows),
                Shown::Json(lines) => {
                    for line in lines.split_inclusive(|byte| *byte == b'\n').take(left) {
                        match line.strip_suffix(b"}\n").filter(|_| batch.is_repeated) {
                            Some(row) => mark_repeated(row, &mut json),
                            None => json.extend_from_slice(line),
                        }
                        left -= 1;
                    }
                }
            }
        }
        match self.options.format {
            ConsoleFormat::Table if n_rows > 0 => self.print(self.table(batch, cells, n_rows).as_bytes())?,
            ConsoleFormat::Json if !json.is_empty() => self.print(&json)?,
            ConsoleFormat::Table | ConsoleFormat::Json => {}
        }
        *last_published = Some(batch.batch_id);
        Ok(())
    }
}

struct ConsoleWriter {
    partition: PartitionId,
    /// Rows that may still be shown.
    left: usize,
    n_rows: u64,
    width_max: usize,
    shown: Shown,
}

impl PartitionWriter for ConsoleWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.n_rows += rows.num_rows() as u64;
        let rows = rows.slice(0, rows.num_rows().min(self.left));
        self.left -= rows.num_rows();
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match &mut self.shown {
            Shown::Cells(cells) => {
                add_cells(&rows, self.width_max, cells)
                    .map_err(|source| SinkError::Format { format: "a table", source })?;
            }
            Shown::Json(lines) => {
                write_lines(&rows, lines).map_err(|source| SinkError::Format { format: "JSON", source })?;
            }
        }
        Ok(())
    }

    fn prepare(self: Box<Self>) -> Result<Prepared, Error> {
        Ok(Prepared { partition: self.partition, n_rows: self.n_rows, payload: Box::new(self.shown) })
    }
}

/// Formats rows now, so that the memory they are in need not be kept until the batch is published.
fn add_cells(rows: &RecordBatch, width_max: usize, cells: &mut Vec<Vec<Cell>>) -> Result<(), ArrowError> {
    let options = FormatOptions::new().with_null("null");
    let formatters: Vec<ArrayFormatter<'_>> = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
        .collect::<Result<_, _>>()?;
    for index in 0..rows.num_rows() {
        let mut row = Vec::with_capacity(formatters.len());
        for formatter in &formatters {
            row.push(Cell::new(&printable(&formatter.value(index).try_to_string()?), width_max));
        }
        cells.push(row);
    }
    Ok(())
}

/// Appends a row, which lacks its end, with a last member that says that it may have been printed before.
fn mark_repeated(row: &[u8], json: &mut Vec<u8>) {
    json.extend_from_slice(row);
    if row != b"{" {
        json.push(b',');
    }
    json.extend_from_slice(b"\"_repeated\":true}\n");
}

/// As in `1,234 rows`.
fn n_of(n_rows: u64) -> String {
    let digits = n_rows.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {}", if n_rows == 1 { "row" } else { "rows" })
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
