//! Makes rows of records of CSV; records that are none are rejected one by one.
//!
//! Lines are gathered to records, because a quoted field may have line ends; a record whose fields are too few or too
//! many, or whose quote has no end, never reaches the decoder, which therefore cannot fail. It gives texts, and those
//! become columns; a text that is no value of its column rejects its record.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use memchr::memchr_iter;

use super::convert::convert;
use super::record::{first_record, scan};
use crate::error::{Error, Internal};
use crate::job::nearest::list;
use crate::job::table::Table;
use crate::plan::describe_type;
use crate::source::lines::{EmitRows, LineRows, content};
use crate::source::reject::Rejects;
use crate::source::{SourceCounters, SourceError};

/// Records that are decoded together.
const RECORDS_MAX: usize = 8_192;

/// Bytes of records that are decoded together, but for one record that is longer.
const BYTES_MAX: usize = 1 << 20;

/// What a decoder passes over at the start of what it gets.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How CSV is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// What stands between fields: one ASCII character.
    pub delimiter: u8,
    /// Whether the first record has the names of the columns, by which they are found. If not, columns are taken in the
    /// order of the schema, and there must be as many.
    pub header: bool,
    /// What stands around fields that have delimiters; `None`: nothing does.
    pub quote: Option<u8>,
    /// The texts that mean null.
    pub null_values: Vec<String>,
    /// Whether quoted fields may have line ends. If not, a large file can be cut anywhere and is read by several tasks.
    pub quoted_newlines: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: b',',
            header: true,
            quote: Some(b'"'),
            null_values: vec![String::new()],
            quoted_newlines: true,
        }
    }
}

impl CsvOptions {
    /// The keys that only CSV has.
    pub(in crate::source) const KEYS: &'static [&'static str] =
        &["delimiter", "header", "quote", "null-value", "quoted-newlines"];

    /// Reads the keys `delimiter`, `header`, `quote`, `null-value` and `quoted-newlines`.
    pub fn parse(table: &mut Table<'_>) -> Self {
        let mut options = Self::default();
        options.delimiter = table.delimiter("delimiter").unwrap_or(options.delimiter);
        options.header = table.boolean("header").unwrap_or(options.header);
        match table.text("quote").as_deref().map(str::as_bytes) {
            Some([]) => options.quote = None,
            Some([byte]) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => options.quote = Some(*byte),
            Some(_) => {
                let hint = Some("as in `quote = \"'\"`, or `\"\"` where fields are never quoted".into());
                table.problem("quote", "`quote` must be one ASCII character, or empty", hint);
            }
            None => {}
        }
        if options.quote == Some(options.delimiter) {
            let key = if table.has("quote") { "quote" } else { "delimiter" };
            table.problem(key, "`quote` and `delimiter` must differ", None);
        }
        if let Some(values) = table.texts("null-value") {
            options.null_values = values;
        }
        options.quoted_newlines = table.boolean("quoted-newlines").unwrap_or(options.quoted_newlines);
        options
    }

    /// The names in the first record of a text, if that is whole; a column without a name is `column_1`, `column_2`, …
    pub(in crate::source) fn first_fields(&self, text: &[u8]) -> Option<Vec<String>> {
        let (record, n_fields) = first_record(text, self.delimiter, self.quote, self.quoted_newlines)?;
        let record = std::str::from_utf8(record).ok()?;
        let fields = self.decode(format!("{record}\n").as_bytes(), 1, n_fields, &(0..n_fields).collect::<Vec<_>>());
        let fields = fields.ok()?;
        let name = |column: &ArrayRef| column.is_valid(0).then(|| column.as_string::<i32>().value(0).to_owned());
        let or_number = |(number, column)| name(column).unwrap_or_else(|| format!("column_{number}"));
        Some((1..).zip(&fields).map(or_number).collect())
    }

    /// Some columns of whole records as texts; empty ones are null.
    fn decode(
        &self,
        records: &[u8],
        n_records: usize,
        n_columns: usize,
        columns: &[usize],
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let schema = Schema::new((0..n_columns).map(|_| Field::new("", DataType::Utf8, true)).collect::<Vec<_>>());
        let mut decoder = ReaderBuilder::new(Arc::new(schema))
            .with_delimiter(self.delimiter)
            // A byte that no text has where nothing is quoted: the decoder always has a quote.
            .with_quote(self.quote.unwrap_or(0))
            .with_terminator(b'\n')
            .with_batch_size(n_records)
            .with_projection(columns.to_vec())
            .build_decoder();
        // It passes over a byte order mark, and the one of the file is gone by now: this one is a value's.
        if records.starts_with(BYTE_ORDER_MARK) {
            decoder.decode(BYTE_ORDER_MARK)?;
        }
        let mut rest = records;
        while !rest.is_empty() {
            match decoder.decode(rest)? {
                0 => break,
                n_bytes => rest = &rest[n_bytes..],
            }
        }
        decoder.decode(&[])?;
        match decoder.flush()? {
            Some(rows) if rows.num_rows() == n_records => Ok(rows.columns().to_vec()),
            rows => {
                let n_rows = rows.map_or(0, |rows| rows.num_rows());
                Err(ArrowError::CsvError(format!("{n_records} records were decoded to {n_rows} rows")))
            }
        }
    }
}

/// Why a header with two fields of one name is not read.
pub(in crate::source) fn named_twice(name: &str, first: usize, second: usize) -> String {
    format!("its header has `{name}` twice: fields {} and {}", first + 1, second + 1)
}

/// Where the columns of a schema stand in the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct CsvColumns {
    /// Fields of a record.
    n_fields: usize,
    /// The field of each column.
    places: Vec<usize>,
}

impl CsvColumns {
    /// Finds the columns of a schema in a header.
    ///
    /// # Errors
    ///
    /// Which column is missing, or is there twice.
    pub(in crate::source) fn find(schema: &Schema, header: &[String]) -> Result<Self, String> {
        let place = |field: &Arc<Field>| {
            let mut places = (0..header.len()).filter(|place| header[*place] == *field.name());
            let place = places.next().ok_or_else(|| {
                let names: Vec<&str> = header.iter().map(String::as_str).collect();
                format!("it has no column `{}`; its header has {}", field.name(), list(&names))
            })?;
            match places.next() {
                Some(second) => Err(named_twice(field.name(), place, second)),
                None => Ok(place),
            }
        };
        let places = schema.fields().iter().map(place).collect::<Result<_, _>>()?;
        Ok(Self { n_fields: header.len(), places })
    }

    /// The columns of a schema in its order.
    fn in_order(schema: &Schema) -> Self {
        let n_fields = schema.fields().len();
        Self { n_fields, places: (0..n_fields).collect() }
    }
}

/// Makes rows of lines of CSV.
#[derive(Debug)]
pub(in crate::source) struct CsvRows {
    schema: SchemaRef,
    options: CsvOptions,
    line_bytes_max: u64,
    rejects: Rejects,
    /// `None` until the header has come.
    columns: Option<CsvColumns>,
    /// The lines so far of a record that has not ended.
    open: Vec<u8>,
    /// Where it starts.
    open_start: u64,
    /// Its fields so far.
    open_fields: usize,
    /// Records to decode, each with a line end.
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Where each of them stands in the source.
    positions: Vec<u64>,
}

impl CsvRows {
    pub(in crate::source) fn new(
        schema: SchemaRef,
        options: CsvOptions,
        line_bytes_max: u64,
        rejects: Rejects,
    ) -> Self {
        let columns = (!options.header).then(|| CsvColumns::in_order(&schema));
        Self {
            schema,
            options,
            line_bytes_max,
            rejects,
            columns,
            open: Vec::new(),
            open_start: 0,
            open_fields: 0,
            text: Vec::new(),
            ends: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// Rows of what stands behind the header, whose columns are known.
    pub(in crate::source) fn with_columns(self, columns: CsvColumns) -> Self {
        Self { columns: Some(columns), ..self }
    }

    /// Takes a line of an open record, or one that starts a record.
    fn add_line(&mut self, position: u64, line: &[u8], emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let is_open = self.is_open();
        let text = content(line);
        if text.is_empty() && !is_open {
            return Ok(());
        }
        let scanned = scan(text, self.options.delimiter, self.options.quote, is_open);
        if !is_open && !scanned.is_open {
            return self.add_record(position, text, scanned.n_delimiters + 1, emit);
        }
        if !is_open {
            self.open_start = position;
            self.open_fields = 1;
        }
        self.open_fields += scanned.n_delimiters;
        if scanned.is_open && !self.options.quoted_newlines {
            self.rejects.reject(position, "a quote has no end on its line", Some(text));
            return self.flush_if_full(emit);
        }
        if (self.open.len() + line.len()) as u64 > self.line_bytes_max {
            let start = self.open_start;
            self.open.clear();
            self.rejects.pass_over(start);
            return self.flush_if_full(emit);
        }
        if scanned.is_open {
            self.open.extend_from_slice(line);
            self.open.push(b'\n');
            return Ok(());
        }
        let mut record = std::mem::take(&mut self.open);
        record.extend_from_slice(text);
        let added = self.add_record(self.open_start, &record, self.open_fields, emit);
        record.clear();
        self.open = record;
        added
    }

    /// Whether a record lacks its end. It has one line at least, and that has its line end.
    fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    fn add_record(
        &mut self,
        position: u64,
        record: &[u8],
        n_fields: usize,
        emit: &mut EmitRows<'_>,
    ) -> Result<(), Error> {
        if simdutf8::basic::from_utf8(record).is_err() {
            self.rejects.reject(position, "it is not UTF-8", Some(record));
            return self.flush_if_full(emit);
        }
        let Some(columns) = &self.columns else {
            let header = self.options.first_fields(record).unwrap_or_default();
            let columns = CsvColumns::find(&self.schema, &header);
            let failed = |reason| SourceError::BadFile { object: self.rejects.object().to_owned(), reason };
            self.columns = Some(columns.map_err(failed)?);
            return Ok(());
        };
        if n_fields != columns.n_fields {
            let reason = match n_fields {
                1 => format!("it has 1 field, and {} are expected", columns.n_fields),
                n_fields => format!("it has {n_fields} fields, and {} are expected", columns.n_fields),
            };
            self.rejects.reject(position, reason, Some(record));
            return self.flush_if_full(emit);
        }
        if self.ends.len() >= RECORDS_MAX || (!self.ends.is_empty() && self.text.len() + record.len() > BYTES_MAX) {
            self.flush(emit)?;
        }
        self.text.extend_from_slice(record);
        self.text.push(b'\n');
        self.ends.push(self.text.len());
        self.positions.push(position);
        Ok(())
    }

    fn flush_if_full(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        if self.rejects.is_full() { self.flush(emit) } else { Ok(()) }
    }

    /// Makes rows of what has been gathered.
    fn decode(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(columns) = self.columns.as_ref().filter(|_| !self.ends.is_empty()) else { return Ok(None) };
        let n_records = self.ends.len();
        let texts = self.options.decode(&self.text, n_records, columns.n_fields, &columns.places)?;
        let mut values: Vec<ArrayRef> = Vec::with_capacity(texts.len());
        let mut reasons: Vec<Option<String>> = vec![None; n_records];
        for (field, texts) in self.schema.fields().iter().zip(texts) {
            let texts = self.with_nulls(texts.as_string::<i32>());
            let column = convert(&texts, field.data_type())?;
            if column.null_count() > texts.null_count() || (!field.is_nullable() && column.null_count() > 0) {
                let bad =
                    (0..n_records).filter(|&row| column.is_null(row) && (texts.is_valid(row) || !field.is_nullable()));
                for row in bad.filter(|&row| reasons[row].is_none()).collect::<Vec<_>>() {
                    reasons[row] = Some(if texts.is_valid(row) {
                        let data_type = describe_type(field.data_type());
                        format!("column `{}` is {data_type}, and `{}` is none", field.name(), texts.value(row))
                    } else {
                        format!("column `{}` has no value", field.name())
                    });
                }
            }
            values.push(column);
        }
        let mut is_good = vec![true; n_records];
        for (row, reason) in reasons.into_iter().enumerate() {
            if let Some(reason) = reason {
                let start = if row == 0 { 0 } else { self.ends[row - 1] };
                self.rejects.reject(self.positions[row], reason, Some(&self.text[start..self.ends[row] - 1]));
                is_good[row] = false;
            }
        }
        self.text.clear();
        self.ends.clear();
        self.positions.clear();
        if is_good.iter().all(|good| *good) {
            return RecordBatch::try_new(Arc::clone(&self.schema), values).map(Some);
        }
        // Until the rejected rows are gone there may be nulls where none may be.
        let nullable = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let all = RecordBatch::try_new(Arc::new(Schema::new(nullable.collect::<Vec<_>>())), values)?;
        let good = filter_record_batch(&all, &BooleanArray::from(is_good))?;
        if good.num_rows() == 0 {
            return Ok(None);
        }
        RecordBatch::try_new(Arc::clone(&self.schema), good.columns().to_vec()).map(Some)
    }

    /// The texts with null where one of them means it. The decoder gives null for what is empty.
    fn with_nulls(&self, texts: &StringArray) -> StringArray {
        let null_values = &self.options.null_values;
        if let [only] = &null_values[..]
            && only.is_empty()
        {
            return texts.clone();
        }
        let text = |text: Option<&str>| {
            let text = text.unwrap_or_default();
            (!null_values.iter().any(|null| null == text)).then(|| text.to_owned())
        };
        texts.iter().map(text).collect()
    }
}

impl LineRows for CsvRows {
    fn add(&mut self, run_start: u64, run: &[u8], emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let mut start = 0;
        for end in memchr_iter(b'\n', run) {
            let position = run_start + start as u64;
            let line = &run[start..end];
            start = end + 1;
            if content(line).len() as u64 > self.line_bytes_max {
                self.pass_over(position);
            } else {
                self.add_line(position, line, emit)?;
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, start: u64) {
        // The line belongs to the open record, which goes with it.
        let start = if self.is_open() { self.open_start } else { start };
        self.open.clear();
        self.rejects.pass_over(start);
    }

    fn flush(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let rows = self.decode().map_err(|source| Internal { doing: "decoding records of CSV".into(), source })?;
        self.rejects.give(rows, emit)
    }

    fn finish(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        if self.is_open() {
            let open = std::mem::take(&mut self.open);
            self.rejects.reject(self.open_start, "a quote has no end", Some(&open));
        }
        self.flush(emit)
    }

    fn break_off(&mut self) -> bool {
        let was_open = self.is_open();
        self.open.clear();
        was_open
    }

    fn counters(&self) -> &SourceCounters {
        self.rejects.counters()
    }
}
