//! Makes rows of lines of JSON; lines that are none are rejected one by one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use memchr::memchr_iter;

use crate::error::{Error, Internal};
use crate::source::lines::{EmitRows, LineRows, content};
use crate::source::{SourceCounters, SourceNote};

/// Lines that are decoded together. One bad line among them costs decoding them about twice.
const LINES_MAX: usize = 8_192;

/// Bytes of lines that are decoded together, but for one line that is longer.
const BYTES_MAX: usize = 1 << 20;

/// How much of a rejected line is shown.
const SHOWN_CHARS_MAX: usize = 80;

/// Makes rows of whole lines, each a JSON object.
pub(super) struct JsonRows {
    /// The file, for messages.
    object: String,
    schema: SchemaRef,
    line_bytes_max: u64,
    counters: Arc<SourceCounters>,
    /// Lines to decode, without line ends, one behind the other.
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

/// Why lines could not be decoded together.
enum Failure {
    /// This one is no JSON object.
    Line { index: usize, reason: String },
    /// One of them does not fit the schema.
    Some { reason: String },
}

impl JsonRows {
    pub(super) fn new(object: String, schema: SchemaRef, line_bytes_max: u64, counters: Arc<SourceCounters>) -> Self {
        Self { object, schema, line_bytes_max, counters, text: Vec::new(), ends: Vec::new() }
    }

    fn line(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    /// Decodes what has been gathered. Lines are tried together; those that fail together are tried in halves.
    fn decode(&mut self) -> Result<Option<RecordBatch>, Error> {
        let internal = |source| Internal { doing: "decoding lines of JSON".into(), source };
        let mut decoded: Vec<RecordBatch> = Vec::new();
        let mut left = vec![(0, self.ends.len())];
        while let Some((start, end)) = left.pop() {
            if start == end {
                continue;
            }
            match self.decode_lines(start, end).map_err(internal)? {
                Ok(rows) => decoded.extend(rows),
                Err(Failure::Line { index, reason }) => {
                    // The lines before it are decoded again, without it; the stack gives them first.
                    left.push((index + 1, end));
                    left.push((start, index));
                    self.reject(index, &reason);
                }
                Err(Failure::Some { reason }) if end - start == 1 => self.reject(start, &reason),
                Err(Failure::Some { .. }) => {
                    let middle = start + (end - start) / 2;
                    left.push((middle, end));
                    left.push((start, middle));
                }
            }
        }
        self.text.clear();
        self.ends.clear();
        match &decoded[..] {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            several => Ok(Some(concat_batches(&self.schema, several).map_err(internal)?)),
        }
    }

    /// Decodes some lines, if each is one object that fits the schema.
    fn decode_lines(&self, start: usize, end: usize) -> Result<Result<Option<RecordBatch>, Failure>, ArrowError> {
        let builder = ReaderBuilder::new(Arc::clone(&self.schema)).with_batch_size(end - start + 1);
        let mut decoder: Decoder = builder.build_decoder()?;
        for index in start..end {
            let line = self.line(index);
            let reason = match decoder.decode(line) {
                Err(error) => describe(&error),
                Ok(n_bytes) if n_bytes < line.len() => "more than one object on the line".into(),
                Ok(_) if decoder.has_partial_record() => "the object has no end".into(),
                Ok(_) if decoder.len() != index - start + 1 => "more than one object on the line".into(),
                Ok(_) => continue,
            };
            return Ok(Err(Failure::Line { index, reason }));
        }
        Ok(decoder.flush().map_err(|error| Failure::Some { reason: describe(&error) }))
    }

    fn reject(&self, index: usize, reason: &str) {
        let line = String::from_utf8_lossy(self.line(index));
        let mut shown: String = line.chars().take(SHOWN_CHARS_MAX).collect::<String>().escape_debug().to_string();
        if line.chars().nth(SHOWN_CHARS_MAX).is_some() {
            shown.push('…');
        }
        self.counters.note(SourceNote::RowRejected { reason: format!("`{}`: `{shown}`: {reason}", self.object) });
    }
}

/// What arrow says, without the name of its error type.
fn describe(error: &ArrowError) -> String {
    match error {
        ArrowError::JsonError(message) | ArrowError::ParseError(message) | ArrowError::CastError(message) => {
            message.clone()
        }
        other => other.to_string(),
    }
}

impl LineRows for JsonRows {
    fn add(&mut self, run: &[u8], emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let mut start = 0;
        for end in memchr_iter(b'\n', run) {
            let line = content(&run[start..end]);
            start = end + 1;
            if line.len() as u64 > self.line_bytes_max {
                self.counters.note(SourceNote::LineTooLong);
                continue;
            }
            let Some(first) = line.iter().find(|byte| !byte.is_ascii_whitespace()) else { continue };
            if self.ends.len() >= LINES_MAX || (!self.ends.is_empty() && self.text.len() + line.len() > BYTES_MAX) {
                self.flush(emit)?;
            }
            self.text.extend_from_slice(line);
            self.ends.push(self.text.len());
            if *first != b'{' {
                self.reject(self.ends.len() - 1, "it is no JSON object");
                self.ends.pop();
                self.text.truncate(self.ends.last().copied().unwrap_or(0));
            }
        }
        Ok(())
    }

    fn flush(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        match self.decode()? {
            Some(rows) => emit(rows),
            None => Ok(()),
        }
    }

    fn counters(&self) -> &SourceCounters {
        &self.counters
    }
}
