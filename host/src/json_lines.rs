//! Writes rows as lines of JSON that a source of the same schema reads back.
//!
//! As arrow writes them, but for what would be lost:
//!
//! | value | written |
//! | --- | --- |
//! | null | left out; within lists and maps `null` |
//! | NaN, infinity, -infinity | `"NaN"`, `"inf"`, `"-inf"` |
//! | a duration | a number of microseconds: job files know no other unit |
//! | a time or a date of a year before 0 or after 9999 | a number of microseconds or days since 1970-01-01 |

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Date32Type, FieldRef, Float32Type, Float64Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder, make_encoder,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Appends rows to `out`, one object a line.
///
/// # Errors
///
/// What has no form in JSON. Some of the rows may have been appended.
pub(crate) fn write_lines(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let builder = WriterBuilder::new().with_encoder_factory(Arc::new(Lossless));
    let mut writer = builder.build::<_, LineDelimited>(out);
    writer.write(rows)?;
    writer.finish()
}

/// The only row of `rows` as a JSON object; `None` when something in it has no form in JSON.
pub(crate) fn json_line(rows: &RecordBatch) -> Option<String> {
    debug_assert_eq!(rows.num_rows(), 1, "an object is made of a row");
    let mut line = Vec::new();
    write_lines(rows, &mut line).ok()?;
    String::from_utf8(line).ok().map(|line| line.trim_end_matches('\n').to_owned())
}

/// Makes encoders for the types of which arrow's lose something.
#[derive(Debug)]
struct Lossless;

impl EncoderFactory for Lossless {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Map(entries, _) => {
                let map = array.as_map();
                let DataType::Struct(fields) = entries.data_type() else { return Ok(None) };
                if fields.len() != 2 || *fields[0].data_type() != DataType::Utf8 || map.keys().null_count() > 0 {
                    return Ok(None);
                }
                let keys = make_encoder(&fields[0], map.keys(), options)?;
                let values = make_encoder(&fields[1], map.values(), options)?;
                Box::new(MapEncoder { offsets: map.offsets().clone(), keys, values })
            }
            DataType::Duration(_) => {
                let us = cast(array, &DataType::Duration(TimeUnit::Microsecond))?;
                let us = cast(&us, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone();
                Box::new(Numbers(move |row: usize| us[row].to_string()))
            }
            DataType::Timestamp(unit, zone) => {
                let Some(numbers) = odd_times(array, *unit, zone.as_deref())? else { return Ok(None) };
                Box::new(OddTimes { numbers, usual: ArrayFormatter::try_new(array, &FORMAT)? })
            }
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>();
                let number = |day: Option<i32>| day.map(i64::from).filter(|day| !DAYS.contains(day));
                let numbers: Vec<_> = days.iter().map(number).collect();
                if numbers.iter().all(Option::is_none) {
                    return Ok(None);
                }
                Box::new(OddTimes { numbers, usual: ArrayFormatter::try_new(array, &FORMAT)? })
            }
            // Most columns have none of these, and arrow writes those faster.
            DataType::Float32
                if array.as_primitive::<Float32Type>().values().iter().any(|value| !value.is_finite()) =>
            {
                let values = array.as_primitive::<Float32Type>().values().clone();
                Box::new(Numbers(move |row: usize| float(values[row].is_finite(), &values[row])))
            }
            DataType::Float64
                if array.as_primitive::<Float64Type>().values().iter().any(|value| !value.is_finite()) =>
            {
                let values = array.as_primitive::<Float64Type>().values().clone();
                Box::new(Numbers(move |row: usize| float(values[row].is_finite(), &values[row])))
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// The seconds since 1970-01-01 of the years 0 to 9999, which have four digits: other years are written in a way that
/// nobody reads.
const SECONDS: Range<i64> = -62_167_219_200..253_402_300_800;

/// The days since 1970-01-01 of these years.
const DAYS: Range<i64> = SECONDS.start / SECONDS_PER_DAY..SECONDS.end / SECONDS_PER_DAY;

const SECONDS_PER_DAY: i64 = 86_400;

/// How arrow writes times in JSON.
const FORMAT: FormatOptions<'static> = FormatOptions::new();

/// The microseconds of the times that are in no year of four digits; `None` when there are no such times.
fn odd_times(array: &dyn Array, unit: TimeUnit, zone: Option<&str>) -> Result<Option<Vec<Option<i64>>>, ArrowError> {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    // Elsewhere a year begins up to a day earlier or later.
    let margin = if matches!(zone, None | Some("+00:00" | "UTC")) { 0 } else { SECONDS_PER_DAY };
    let usual = SECONDS.start + margin..SECONDS.end - margin;
    let is_odd = |time: i64| !usual.contains(&time.div_euclid(per_second));
    let times = cast(array, &DataType::Int64)?;
    let times = times.as_primitive::<Int64Type>();
    if ![min(times), max(times)].into_iter().flatten().any(is_odd) {
        return Ok(None);
    }
    let us = |time: i64| {
        let us = i128::from(time) * 1_000_000 / i128::from(per_second);
        i64::try_from(us).map_err(|_| {
            let per_second = if per_second == 1 { String::new() } else { format!("1/{per_second} ") };
            ArrowError::InvalidArgumentError(format!(
                "the time {time} (in {per_second}seconds since 1970) is in no year that can be written"
            ))
        })
    };
    let number = |time: Option<i64>| time.filter(|time| is_odd(*time)).map(us).transpose();
    times.iter().map(number).collect::<Result<_, _>>().map(Some)
}

/// Writes times as texts, and some as numbers.
struct OddTimes<'a> {
    /// Those that are numbers.
    numbers: Vec<Option<i64>>,
    usual: ArrayFormatter<'a>,
}

impl Encoder for OddTimes<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let text = match self.numbers[row] {
            Some(number) => number.to_string(),
            None => format!("\"{}\"", self.usual.value(row)),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// A float in its shortest form, and what is no number as a text.
fn float(is_finite: bool, value: &impl fmt::Debug) -> String {
    if is_finite { format!("{value:?}") } else { format!("\"{value:?}\"") }
}

/// Writes what a function says.
struct Numbers<F>(F);

impl<F: Fn(usize) -> String> Encoder for Numbers<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice((self.0)(row).as_bytes());
    }
}

/// Writes maps as objects, with their null values.
struct MapEncoder<'a> {
    offsets: OffsetBuffer<i32>,
    keys: NullableEncoder<'a>,
    values: NullableEncoder<'a>,
}

impl Encoder for MapEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let [start, end] = [self.offsets[row], self.offsets[row + 1]].map(|offset| offset as usize);
        for entry in start..end {
            if entry > start {
                out.push(b',');
            }
            self.keys.encode(entry, out);
            out.push(b':');
            if self.values.is_null(entry) {
                out.extend_from_slice(b"null");
            } else {
                self.values.encode(entry, out);
            }
        }
        out.push(b'}');
    }
}

#[cfg(test)]
#[path = "json_lines_tests.rs"]
pub(crate) mod tests;
