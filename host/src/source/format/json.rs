//! Makes rows of lines of JSON; lines that are none are rejected one by one.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use memchr::{memchr_iter, memchr2, memchr2_iter};

use super::values::{Kinds, find_mistake, may_have_fraction, may_not_have_fitted, with_texts};
use crate::error::{Error, Internal};
use crate::plan::describe_type;
use crate::source::SourceCounters;
use crate::source::lines::{EmitRows, LineRows, content};
use crate::source::reject::Rejects;

/// Lines that are decoded together. One bad line among them costs decoding them about twice.
const LINES_MAX: usize = 8_192;

/// Bytes of lines that are decoded together, but for one line that is longer.
const BYTES_MAX: usize = 1 << 20;

/// Objects and lists within one another on a line, at most. The decoder calls itself once for each when it writes a
/// value into a message; this is more than any schema has, and few enough for any stack.
const DEPTH_MAX: usize = 64;

/// Makes rows of whole lines, each a JSON object.
pub(in crate::source) struct JsonRows {
    schema: SchemaRef,
    line_bytes_max: u64,
    kinds: Kinds,
    rejects: Rejects,
    /// Lines to decode, without line ends, one behind the other.
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Where each of them stands in the source.
    positions: Vec<u64>,
}

/// What is done with objects and lists where texts are wanted, which the decoder does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Texts {
    /// Nothing: most lines have none.
    Untried,
    /// They are written as texts first.
    Written,
    /// Nothing: the lines have none.
    None,
}

/// Why lines could not be decoded together.
enum Failure {
    /// This one is no JSON object.
    Line { index: usize, reason: String },
    /// These, in their order, have values that do not fit; the others can be decoded.
    Lines(Vec<(usize, String)>),
    /// One of them does not fit the schema.
    Some { reason: String },
}

impl JsonRows {
    pub(in crate::source) fn new(schema: SchemaRef, line_bytes_max: u64, rejects: Rejects) -> Self {
        let kinds = Kinds::of(schema.fields());
        let (text, ends, positions) = (Vec::new(), Vec::new(), Vec::new());
        Self { schema, line_bytes_max, kinds, rejects, text, ends, positions }
    }

    fn line(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }

    /// Decodes what has been gathered. Lines are tried together; those that fail together are tried with texts for their
    /// objects and lists, then in halves.
    fn decode(&mut self) -> Result<Option<RecordBatch>, Error> {
        let internal = |source| Internal { doing: "decoding lines of JSON".into(), source };
        let mut decoded: Vec<RecordBatch> = Vec::new();
        let mut left = vec![(0, self.ends.len(), Texts::Untried)];
        while let Some((start, end, texts)) = left.pop() {
            if start == end {
                continue;
            }
            match self.decode_lines(start, end, texts).map_err(internal)? {
                Ok(rows) => decoded.extend(rows),
                Err(Failure::Line { index, reason }) => {
                    // The lines before it are decoded again, without it; the stack gives them first.
                    left.push((index + 1, end, texts));
                    left.push((start, index, texts));
                    self.reject(index, reason);
                }
                Err(Failure::Lines(lines)) => {
                    let mut end = end;
                    for (index, reason) in lines.into_iter().rev() {
                        left.push((index + 1, end, texts));
                        end = index;
                        self.reject(index, reason);
                    }
                    left.push((start, end, texts));
                }
                Err(Failure::Some { .. }) if texts == Texts::Untried && self.have_texts(start, end) => {
                    left.push((start, end, Texts::Written));
                }
                Err(Failure::Some { reason }) if end - start == 1 => self.reject(start, reason),
                Err(Failure::Some { .. }) => {
                    let texts = if texts == Texts::Written { texts } else { Texts::None };
                    let middle = start + (end - start) / 2;
                    left.push((middle, end, texts));
                    left.push((start, middle, texts));
                }
            }
        }
        self.text.clear();
        self.ends.clear();
        self.positions.clear();
        match &decoded[..] {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            several => Ok(Some(concat_batches(&self.schema, several).map_err(internal)?)),
        }
    }

    /// Whether objects or lists of some lines stand where texts are wanted.
    fn have_texts(&self, start: usize, end: usize) -> bool {
        self.kinds.text && (start..end).any(|index| with_texts(self.line(index), self.schema.fields()).is_some())
    }

    /// Decodes some lines, if each is one object that fits the schema.
    fn decode_lines(
        &self,
        start: usize,
        end: usize,
        texts: Texts,
    ) -> Result<Result<Option<RecordBatch>, Failure>, ArrowError> {
        let builder = ReaderBuilder::new(Arc::clone(&self.schema)).with_batch_size(end - start + 1);
        // Numbers and booleans are texts where texts are wanted, as they are written.
        let mut decoder: Decoder = builder.with_coerce_primitive(true).build_decoder()?;
        for index in start..end {
            let mut line = Cow::Borrowed(self.line(index));
            // As texts they would be taken as they are written.
            if self.kinds.text
                && let Some(number) = wrong_number(&line)
            {
                let reason = format!("`{}` is no number of JSON", String::from_utf8_lossy(number));
                return Ok(Err(Failure::Line { index, reason }));
            }
            if texts == Texts::Written
                && let Some(written) = with_texts(&line, self.schema.fields())
            {
                line = Cow::Owned(written);
            }
            let reason = match decoder.decode(&line) {
                Err(error) => describe(&error),
                Ok(n_bytes) if n_bytes < line.len() => "more than one object on the line".into(),
                Ok(_) if decoder.has_partial_record() => "the object has no end".into(),
                Ok(_) if decoder.len() != index - start + 1 => "more than one object on the line".into(),
                Ok(_) => continue,
            };
            return Ok(Err(Failure::Line { index, reason }));
        }
        let rows = match decoder.flush() {
            Ok(rows) => rows,
            Err(error) => {
                let mut reason = describe(&error);
                self.schema.fields().iter().for_each(|field| name_types(field.data_type(), &mut reason));
                return Ok(Err(Failure::Some { reason }));
            }
        };
        if rows.as_ref().is_some_and(may_not_have_fitted) {
            let wrong = |index| find_mistake(self.line(index), self.schema.fields()).map(|reason| (index, reason));
            let lines: Vec<_> = (start..end).filter_map(wrong).collect();
            if !lines.is_empty() {
                return Ok(Err(Failure::Lines(lines)));
            }
        }
        Ok(Ok(rows))
    }

    fn reject(&mut self, index: usize, reason: String) {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.rejects.reject(self.positions[index], reason, Some(&self.text[start..self.ends[index]]));
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

/// The first thing in a line that looks like a number and is none, as `01` or `1.`.
fn wrong_number(line: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' => {
                // Behind the text, over quotes that a backslash stands before.
                at += 1;
                loop {
                    at += memchr2(b'"', b'\\', line.get(at..)?)?;
                    if line[at] == b'"' {
                        break;
                    }
                    at += 2;
                }
                at += 1;
            }
            b'0'..=b'9' | b'-' | b'+' | b'.' => {
                let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = line[at..].iter().take_while(|byte| is_part(byte)).count();
                let number = &line[at..at + length];
                if !is_number(number) {
                    return Some(number);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// Whether this is a number as JSON has them: `-1.5e+3`.
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> (usize, &[u8]) {
        let n = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (n, &text[n..])
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (n_whole, mut rest) = digits(text);
    if n_whole == 0 || (n_whole > 1 && text[0] == b'0') {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let (n, behind) = digits(fraction);
        if n == 0 {
            return false;
        }
        rest = behind;
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"-").or_else(|| exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let (n, behind) = digits(exponent);
        if n == 0 {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
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

/// Calls types in a message as job files do.
fn name_types(data_type: &DataType, message: &mut String) {
    match data_type {
        DataType::List(item) | DataType::Map(item, _) => name_types(item.data_type(), message),
        DataType::Struct(fields) => fields.iter().for_each(|field| name_types(field.data_type(), message)),
        simple => {
            let arrow_name = format!(" as {simple}");
            if let Some(start) = message.find(&arrow_name) {
                message.replace_range(start..start + arrow_name.len(), &format!(" as {}", describe_type(simple)));
            }
        }
    }
}

impl LineRows for JsonRows {
    fn add(&mut self, run_start: u64, run: &[u8], emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let mut start = 0;
        for end in memchr_iter(b'\n', run) {
            let line = content(&run[start..end]);
            let position = run_start + start as u64;
            start = end + 1;
            if line.len() as u64 > self.line_bytes_max {
                self.pass_over(position);
                continue;
            }
            let Some(first) = line.iter().find(|byte| !byte.is_ascii_whitespace()) else { continue };
            if *first != b'{' {
                self.rejects.reject(position, "it is no JSON object", Some(line));
            } else if is_too_deep(line) {
                let reason = format!("objects and lists stand more than {DEPTH_MAX} deep within one another");
                self.rejects.reject(position, reason, Some(line));
            } else if (self.kinds.binary || (self.kinds.whole && may_have_fraction(line)))
                && let Some(reason) = find_mistake(line, self.schema.fields())
            {
                self.rejects.reject(position, reason, Some(line));
            } else {
                if self.ends.len() >= LINES_MAX || (!self.ends.is_empty() && self.text.len() + line.len() > BYTES_MAX) {
                    self.flush(emit)?;
                }
                self.text.extend_from_slice(line);
                self.ends.push(self.text.len());
                self.positions.push(position);
                continue;
            }
            if self.rejects.is_full() {
                self.flush(emit)?;
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, start: u64) {
        self.rejects.pass_over(start);
    }

    fn flush(&mut self, emit: &mut EmitRows<'_>) -> Result<(), Error> {
        let rows = self.decode()?;
        self.rejects.give(rows, emit)
    }

    fn counters(&self) -> &SourceCounters {
        self.rejects.counters()
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
    fn numbers_are_those_of_json() {
        for right in ["0", "-0", "10", "0.5", "-1.50", "1e5", "1E-05", "1.0e+10"] {
            assert!(is_number(right.as_bytes()), "{right}");
        }
        for wrong in ["", "-", "01", "-01", "00", "1.", ".5", "+1", "1e", "1e+", "1.e5", "1-2", "1.2.3", "0x"] {
            assert!(!is_number(wrong.as_bytes()), "{wrong}");
        }
        let wrong =
            |line: &str| wrong_number(line.as_bytes()).map(|number| String::from_utf8_lossy(number).into_owned());
        assert_eq!(wrong(r#"{"a":"01","b":[1,-2.5e3,true,null],"c\"1.":0}"#), None);
        assert_eq!(wrong(r#"{"a":"x\\","b":{"c":[1,01]}}"#), Some("01".to_owned()));
        assert_eq!(wrong(r#"{"a":1,"b":"not ended 01"#), None);
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
}
