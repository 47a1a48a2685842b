//! Writes rows as lines of JSON that a source of the same schema reads back.
//!
//! As arrow writes them, but for what would be lost:
//!
//! | value | written |
//! | --- | --- |
//! | null | left out; within lists and maps `null` |
//! | NaN, infinity, -infinity | `"NaN"`, `"inf"`, `"-inf"` |
//! | a duration of a unit | a number of units: microseconds, for job files know no others |

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder, make_encoder,
};

/// Appends rows to `out`, one object a line.
///
/// # Errors
///
/// What has no form in JSON. Some of the rows may have been appended.
pub(super) fn write_lines(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let builder = WriterBuilder::new().with_encoder_factory(Arc::new(Lossless));
    let mut writer = builder.build::<_, LineDelimited>(out);
    writer.write(rows)?;
    writer.finish()
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
                let units = cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone();
                Box::new(Numbers(move |row: usize| units[row].to_string()))
            }
            DataType::Timestamp(unit, _) => {
                check_times(array, *unit)?;
                return Ok(None);
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

/// That every time is in a year that can be written: arrow would write the text of its error in the place of the value.
fn check_times(array: &dyn Array, unit: TimeUnit) -> Result<(), ArrowError> {
    /// About 250,000 years around 1970, well within what dates are reckoned for.
    const SECONDS_MAX: i64 = 250_000 * 31_556_952;
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let times = cast(array, &DataType::Int64)?;
    let times = times.as_primitive::<Int64Type>();
    let wrong = [min(times), max(times)].into_iter().flatten().find(|time| (time / per_second).abs() > SECONDS_MAX);
    match wrong {
        Some(time) => {
            let per_second = if per_second == 1 { String::new() } else { format!("1/{per_second} ") };
            Err(ArrowError::InvalidArgumentError(format!(
                "the time {time} (in {per_second}seconds since 1970) is in no year that can be written"
            )))
        }
        None => Ok(()),
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
mod tests;
