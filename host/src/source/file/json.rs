//! Makes rows of lines of JSON; lines that are none are rejected one by one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use memchr::{memchr_iter, memchr2_iter};

use crate::error::{Error, Internal};
use crate::source::lines::{EmitRows, LineRows, content};
use crate::source::{SourceCounters, SourceNote};

/// Lines that are decoded together. One bad line among them costs decoding them about twice.
const LINES_MAX: usize = 8_192;

/// Bytes of lines that are decoded together, but for one line that is longer.
const BYTES_MAX: usize = 1 << 20;

/// Objects and lists within one another on a line, at most. The decoder calls itself once for each when it writes a
/// value into a message; this is more than any schema has, and few enough for any stack.
const DEPTH_MAX: usize = 64;

/// How much of a rejected line is shown.
const SHOWN_CHARS_MAX: usize = 80;

/// How much of what the decoder says about it is shown: it may quote the whole line.
const REASON_CHARS_MAX: usize = 256;

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
                    self.reject(self.line(index), &reason);
                }
                Err(Failure::Some { reason }) if end - start == 1 => self.reject(self.line(start), &reason),
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

    fn reject(&self, line: &[u8], reason: &str) {
        let line = String::from_utf8_lossy(line);
        let mut shown: String = line.chars().take(SHOWN_CHARS_MAX).collect::<String>().escape_debug().to_string();
        if line.chars().nth(SHOWN_CHARS_MAX).is_some() {
            shown.push('…');
        }
        let reason = shortened(reason);
        self.counters.note(SourceNote::RowRejected { reason: format!("`{}`: `{shown}`: {reason}", self.object) });
    }
}

/// Whether more than [`DEPTH_MAX`] objects and lists of a line stand within one another.
fn is_too_deep(line: &[u8]) -> bool {
    // Few lines have as many brackets at all, and counting them is far faster than reading them.
    if memchr2_iter(b'{', b'[', line).take(DEPTH_MAX + 1).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut is_in_text, mut is_escaped) = (0_usize, false, false);
    for byte in line {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_text => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            _ if is_in_text => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A reason on one line, and no longer than is worth reading.
fn shortened(reason: &str) -> String {
    let mut shown = String::new();
    for char in reason.chars().take(REASON_CHARS_MAX) {
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    if reason.chars().nth(REASON_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
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
            if *first != b'{' {
                self.reject(line, "it is no JSON object");
                continue;
            }
            if is_too_deep(line) {
                self.reject(line, &format!("objects and lists stand more than {DEPTH_MAX} deep within one another"));
                continue;
            }
            if self.ends.len() >= LINES_MAX || (!self.ends.is_empty() && self.text.len() + line.len() > BYTES_MAX) {
                self.flush(emit)?;
            }
            self.text.extend_from_slice(line);
            self.ends.push(self.text.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: bool) {
        assert_eq!(is_too_deep(line.as_bytes()), expected, "{line}");
    }

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(DEPTH_MAX), false);
        check(&nested(DEPTH_MAX + 1), true);
        check(&"[".repeat(DEPTH_MAX + 1), true);
        check(&format!("{{\"a\": {}}}", nested(DEPTH_MAX)), true);
        check(&"[]".repeat(DEPTH_MAX + 1), false);
        check(&format!("{{\"a\": \"{}\"}}", nested(DEPTH_MAX + 1)), false);
        check(&format!("{{\"\\\"{}\"}}", nested(DEPTH_MAX + 1)), false);
        check(&format!("{{\"\\\\\": {}}}", nested(DEPTH_MAX)), true);
    }

    #[test]
    fn reasons_are_short_and_on_one_line() {
        assert_eq!(shortened("a\nb\u{1b}é"), "a\\nb\\u{1b}é");
        assert_eq!(shortened(&"é".repeat(REASON_CHARS_MAX)), "é".repeat(REASON_CHARS_MAX));
        assert_eq!(shortened(&"x".repeat(1 << 20)).chars().count(), REASON_CHARS_MAX + 1);
    }
}
