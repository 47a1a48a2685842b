//! Cuts bytes into lines, and makes rows of text of them, at the speed of memory.
//!
//! Shared by every source that reads text. Bytes come in pieces of any size; how they were cut into pieces does not
//! show in the rows. A [`LineCutter`] gives runs of whole lines, straight from the piece they came in, and keeps only
//! the line that a piece ends in; [`TextRows`] copies each line once, into the array it stays in.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use memchr::{memchr, memchr_iter, memrchr};

use super::counters::{SourceCounters, SourceNote};
use super::format::{LineFormat, refuse};
use crate::error::{Error, Internal};
use crate::job::table::Table;

#[cfg(test)]
mod tests;

/// The longest line that may be allowed: a batch of text has 32-bit offsets, and must hold one at least.
pub const LINE_BYTES_LIMIT: u64 = 256 << 20;

/// What happens to a line that is not valid UTF-8. It is counted either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InvalidUtf8 {
    /// What is invalid becomes U+FFFD, the replacement character.
    #[default]
    Replace,
    /// The line is left out.
    Drop,
}

/// How lines are read; the same options for every source of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineOptions {
    /// A line longer than this is left out, counted, and never held in memory; at most [`LINE_BYTES_LIMIT`].
    pub line_bytes_max: u64,
    /// What happens to a line that is not valid UTF-8.
    pub invalid: InvalidUtf8,
}

impl Default for LineOptions {
    /// Lines of up to 1 MiB, a quarter of what one call of a plugin gets; invalid UTF-8 is replaced.
    fn default() -> Self {
        Self { line_bytes_max: 1 << 20, invalid: InvalidUtf8::Replace }
    }
}

impl LineOptions {
    /// Reads the keys `max-line-bytes` and `invalid`.
    pub fn parse(table: &mut Table<'_>) -> Self {
        let mut options = Self::default();
        match table.size("max-line-bytes") {
            Some(size) if (1..=LINE_BYTES_LIMIT).contains(&size) => options.line_bytes_max = size,
            Some(_) => table.problem("max-line-bytes", "`max-line-bytes` must be from 1 B to 256 MiB", None),
            None => {}
        }
        let choices = [("replace", InvalidUtf8::Replace), ("drop", InvalidUtf8::Drop)];
        options.invalid = table.choice("invalid", &choices).unwrap_or(options.invalid);
        options
    }
}

impl LineOptions {
    /// Reads the keys `max-line-bytes` and `invalid`, of which the latter is for text alone.
    pub(super) fn parse_for(table: &mut Table<'_>, format: Option<&LineFormat>) -> Self {
        let options = Self::parse(table);
        match format {
            None | Some(LineFormat::Text) => {}
            Some(LineFormat::Json(_)) => {
                refuse(table, &["invalid"], "json", "lines of JSON that are not valid UTF-8 are always rejected");
            }
            Some(LineFormat::Csv(..)) => {
                refuse(table, &["invalid"], "csv", "records of CSV that are not valid UTF-8 are always rejected");
            }
        }
        options
    }
}

/// The schema of lines of text: one column, `value: utf8`, without nulls.
#[must_use]
pub fn text_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false)]))
}

/// Where whole lines go: a run of them, each with its line end, and the offset of the first byte.
pub(super) type Run<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;

/// Where rows go.
pub(super) type EmitRows<'a> = dyn FnMut(RecordBatch) -> Result<(), Error> + 'a;

/// What some editors put before a text to say that it is UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Cuts a stream of bytes behind line ends. Holds no more than one line.
///
/// A byte order mark at the very start is no part of the first line.
#[derive(Debug)]
pub(super) struct LineCutter {
    line_bytes_max: usize,
    /// The offset of the next byte that comes.
    position: u64,
    /// How much of a byte order mark has come; `None` where none can stand any more.
    mark: Option<usize>,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    /// Its offset.
    partial_start: u64,
    /// Whether the present line is too long and its rest is passed over.
    passing_over: bool,
    /// The offsets of lines passed over and not yet told: two a piece, at most.
    passed_over: Vec<u64>,
}

impl LineCutter {
    pub(super) fn new(options: &LineOptions) -> Self {
        let line_bytes_max = options.line_bytes_max.min(LINE_BYTES_LIMIT) as usize;
        Self {
            line_bytes_max,
            position: 0,
            mark: Some(0),
            partial: Vec::new(),
            partial_start: 0,
            passing_over: false,
            passed_over: Vec::new(),
        }
    }

    /// Says where the first byte that comes stands.
    pub(super) fn start_at(&mut self, position: u64) {
        self.position = position;
        self.mark = (position == 0).then_some(0);
    }

    /// Takes a piece, and gives the lines that end in it, in order.
    pub(super) fn cut(&mut self, mut bytes: &[u8], run: &mut Run<'_>) -> Result<(), Error> {
        if let Some(n_seen) = self.mark {
            let left = &BYTE_ORDER_MARK[n_seen..];
            let n_same = left.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            if n_same == left.len() {
                self.mark = None;
                self.position += n_same as u64;
                bytes = &bytes[n_same..];
            } else if n_same == bytes.len() {
                self.mark = Some(n_seen + n_same);
                self.position += n_same as u64;
                return Ok(());
            } else {
                self.mark = None;
                self.position -= n_seen as u64;
                self.keep(&BYTE_ORDER_MARK[..n_seen]);
            }
        }
        if self.passing_over || !self.partial.is_empty() {
            let Some(end) = memchr(b'\n', bytes) else {
                self.keep(bytes);
                return Ok(());
            };
            let (rest, next) = bytes.split_at(end + 1);
            self.keep(&rest[..end]);
            self.position += 1;
            bytes = next;
            if self.passing_over {
                self.passing_over = false;
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.push(b'\n');
                run(self.partial_start, &line)?;
                // Its allocation serves the next one.
                line.clear();
                self.partial = line;
            }
        }
        let whole = memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        if whole > 0 {
            let start = self.position;
            self.position += whole as u64;
            run(start, &bytes[..whole])?;
        }
        self.keep(&bytes[whole..]);
        Ok(())
    }

    /// The stream has ended properly: its last line is a line, even without a line end.
    pub(super) fn finish(&mut self, run: &mut Run<'_>) -> Result<(), Error> {
        if let Some(n_seen) = self.mark.take() {
            self.position -= n_seen as u64;
            self.keep(&BYTE_ORDER_MARK[..n_seen]);
        }
        self.passing_over = false;
        if self.partial.is_empty() {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.partial);
        line.push(b'\n');
        run(self.partial_start, &line)
    }

    /// The stream has broken: forgets the line it broke in. Whether there was one.
    pub(super) fn break_off(&mut self) -> bool {
        let within = !self.partial.is_empty();
        self.partial.clear();
        self.passing_over = false;
        within
    }

    /// The offsets of the lines passed over since this was last asked.
    pub(super) fn take_passed_over(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.passed_over)
    }

    /// Whether the present line is too long.
    pub(super) fn is_passing_over(&self) -> bool {
        self.passing_over
    }

    fn keep(&mut self, bytes: &[u8]) {
        let start = self.position;
        self.position += bytes.len() as u64;
        if self.passing_over {
            return;
        }
        if self.partial.is_empty() {
            self.partial_start = start;
        }
        // One more than the longest line, for a carriage return; whoever gets the line looks at its length again.
        if self.partial.len() + bytes.len() > self.line_bytes_max + 1 {
            self.partial = Vec::new();
            self.passing_over = true;
            self.passed_over.push(self.partial_start);
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

/// The content of a line: without its line end, and without a carriage return before it.
pub(super) fn content(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Makes rows of [`text_schema`] of whole lines.
#[derive(Debug)]
pub(super) struct TextRows {
    options: LineOptions,
    schema: SchemaRef,
    counters: Arc<SourceCounters>,
    /// Rows of a batch that is given away, at most.
    rows_max: usize,
    /// Bytes of a batch that is given away; one line may exceed it.
    bytes_max: usize,
    /// The lines so far, one behind the other. Only ever extended by valid UTF-8, a whole line at a time.
    values: Vec<u8>,
    /// Where each line starts in `values`, and where the last one ends; empty when there is none.
    offsets: Vec<i32>,
}

impl TextRows {
    pub(super) fn new(
        options: LineOptions,
        schema: SchemaRef,
        counters: Arc<SourceCounters>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Self {
        Self { options, schema, counters, rows_max, bytes_max, values: Vec::new(), offsets: Vec::new() }
    }

    fn is_full(&self, line_bytes: usize) -> bool {
        // A replaced character is three bytes for one: what is checked against 2 GiB is thrice the line.
        self.offsets.len() > self.rows_max
            || (self.offsets.len() > 1 && self.values.len() + line_bytes > self.bytes_max)
            || self.values.len() + 3 * line_bytes > i32::MAX as usize
    }

    fn reserve(&mut self, run_bytes: usize) {
        let bytes = run_bytes.min(self.bytes_max);
        self.values.reserve(bytes);
        // A line end for every 32 bytes: more grow the list, fewer waste an eighth of the bytes.
        self.offsets.reserve((bytes / 32).min(self.rows_max) + 2);
        self.offsets.push(0);
    }

    fn end_line(&mut self) {
        // `is_full` keeps it below 2 GiB.
        self.offsets.push(self.values.len() as i32);
    }

    fn add_checked(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let invalid = matches!(text, std::borrow::Cow::Owned(_));
        if invalid {
            self.counters.note(SourceNote::InvalidUtf8);
        }
        if !invalid || self.options.invalid == InvalidUtf8::Replace {
            self.values.extend_from_slice(text.as_bytes());
            self.end_line();
        }
    }
}

/// Makes rows of whole lines.
pub(super) trait LineRows {
    /// Takes whole lines, each with its line end, of which the first starts at the offset `start`; gives batches that
    /// are full.
    fn add(&mut self, start: u64, run: &[u8], emit: &mut EmitRows<'_>) -> Result<(), Error>;

    /// A line that starts at `start` was longer than allowed, and is not to be had.
    fn pass_over(&mut self, start: u64) {
        let _ = start;
        self.counters().note(SourceNote::LineTooLong);
    }

    /// Gives what there is.
    fn flush(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error>;

    /// No more lines come: gives the rest.
    fn finish(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        self.flush(emit)
    }

    /// No more lines come, because the stream broke: forgets a row that lacks some of its lines. Whether there was one.
    fn break_off(&mut self) -> bool {
        false
    }

    /// Where lines that make no row are counted.
    fn counters(&self) -> &SourceCounters;
}

impl LineRows for Box<dyn LineRows> {
    fn add(&mut self, start: u64, run: &[u8], emit: &mut EmitRows<'_>) -> Result<(), Error> {
        (**self).add(start, run, emit)
    }

    fn pass_over(&mut self, start: u64) {
        (**self).pass_over(start);
    }

    fn flush(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        (**self).flush(emit)
    }

    fn finish(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        (**self).finish(emit)
    }

    fn break_off(&mut self) -> bool {
        (**self).break_off()
    }

    fn counters(&self) -> &SourceCounters {
        (**self).counters()
    }
}

impl LineRows for TextRows {
    fn add(&mut self, _: u64, run: &[u8], emit: &mut EmitRows<'_>) -> Result<(), Error> {
        // Line ends are characters of their own in UTF-8: a run is valid exactly if each of its lines is.
        let valid = simdutf8::basic::from_utf8(run).is_ok();
        let mut start = 0;
        for end in memchr_iter(b'\n', run) {
            let line = content(&run[start..end]);
            if line.len() as u64 > self.options.line_bytes_max {
                self.counters.note(SourceNote::LineTooLong);
            } else {
                if self.is_full(line.len()) {
                    self.flush(emit)?;
                }
                if self.offsets.is_empty() {
                    self.reserve(run.len() - start);
                }
                if valid {
                    self.values.extend_from_slice(line);
                    self.end_line();
                } else {
                    self.add_checked(line);
                }
            }
            start = end + 1;
        }
        Ok(())
    }

    fn flush(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        if self.offsets.len() <= 1 {
            return Ok(());
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::take(&mut self.offsets)));
        let values = Buffer::from_vec(std::mem::take(&mut self.values));
        // SAFETY: `values` is whole lines of valid UTF-8 one behind the other (see `add` and `add_checked`), `offsets`
        // has the end of each, in order, and `is_full` keeps them below 2 GiB: so every value is in bounds and valid.
        let column = unsafe { StringArray::new_unchecked(offsets, values, None) };
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(column)])
            .map_err(|source| Internal { doing: "making rows of lines".into(), source })?;
        emit(rows)
    }

    fn counters(&self) -> &SourceCounters {
        &self.counters
    }
}

/// A stream of lines: a cutter, and what makes rows of what it cuts.
#[derive(Debug)]
pub(super) struct LineStream<R> {
    cutter: LineCutter,
    rows: R,
}

impl<R: LineRows> LineStream<R> {
    pub(super) fn new(cutter: LineCutter, rows: R) -> Self {
        Self { cutter, rows }
    }

    /// Takes a piece. What is full is given; the rest waits for [`flush`](Self::flush).
    pub(super) fn add(&mut self, bytes: &[u8], emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let rows = &mut self.rows;
        self.cutter.cut(bytes, &mut |start, run| rows.add(start, run, emit))?;
        self.pass_over();
        Ok(())
    }

    /// Says where the first byte that comes stands; 0 when it is not said.
    pub(super) fn start_at(&mut self, position: u64) {
        self.cutter.start_at(position);
    }

    /// Gives all whole lines so far.
    pub(super) fn flush(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        self.rows.flush(emit)
    }

    /// The stream has ended properly: gives the rest, an unended last line too.
    pub(super) fn finish(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let rows = &mut self.rows;
        self.cutter.finish(&mut |start, run| rows.add(start, run, emit))?;
        self.rows.finish(emit)
    }

    /// The stream has broken, or is left: gives all whole lines, and counts the one that is cut.
    pub(super) fn break_off(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        // Of a row of several lines, or of one, what is there is no row.
        let (of_line, of_row) = (self.cutter.break_off(), self.rows.break_off());
        if of_line || of_row {
            self.rows.counters().note(SourceNote::LineCut);
        }
        self.rows.flush(emit)
    }

    /// Whether the present line is too long and its rest does not matter.
    pub(super) fn is_passing_over(&self) -> bool {
        self.cutter.is_passing_over()
    }

    fn pass_over(&mut self) {
        for start in self.cutter.take_passed_over() {
            self.rows.pass_over(start);
        }
    }
}
