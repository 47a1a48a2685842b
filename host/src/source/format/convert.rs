//! Makes columns of texts: what a field of CSV says in each type.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, Decimal128Array, PrimitiveArray, StringArray,
};
use arrow::compute::kernels::cast_utils::parse_decimal;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type};
use arrow::error::ArrowError;

/// Whether a text can be a value of this type.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Decimal128, Duration, Float32, Float64, Timestamp, Utf8};
    data_type.is_integer()
        || matches!(
            data_type,
            Boolean | Float32 | Float64 | Utf8 | Binary | Date32 | Timestamp(..) | Duration(_) | Decimal128(..)
        )
}

/// The texts as values of a type that [is supported](is_supported); what is none is null.
///
/// | type | a text such as |
/// | --- | --- |
/// | `boolean` | `true`, `false` |
/// | integers, floats, decimals | `7`, `-7.5`, `1e3` for floats |
/// | `binary` | `00ff` |
/// | `date32` | `2026-11-22` |
/// | `timestamp` | `2026-11-22T07:30:00.5Z`, `2026-11-22 07:30:00` |
/// | `duration` | `1500000`, microseconds |
pub(super) fn convert(texts: &StringArray, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    // What is no value becomes null.
    let options = CastOptions { safe: true, ..CastOptions::default() };
    match data_type {
        DataType::Utf8 => Ok(Arc::new(texts.clone())),
        DataType::Binary => {
            let mut values = BinaryBuilder::with_capacity(texts.len(), texts.value_data().len() / 2);
            texts.iter().for_each(|text| values.append_option(text.and_then(from_hexadecimal)));
            Ok(Arc::new(values.finish()))
        }
        // As JSON is read: arrow's cast would round what JSON's decoder cuts.
        DataType::Decimal128(precision, scale) => {
            let decimal = |text: &str| parse_decimal::<Decimal128Type>(text, *precision, *scale).ok();
            let values: Decimal128Array = texts.iter().map(|text| text.and_then(decimal)).collect();
            Ok(Arc::new(values.with_precision_and_scale(*precision, *scale)?))
        }
        DataType::Float32 => fitting::<Float32Type>(texts, &options, f32::is_infinite),
        DataType::Float64 => fitting::<Float64Type>(texts, &options, f64::is_infinite),
        DataType::Duration(_) => cast(&cast_with_options(texts, &DataType::Int64, &options)?, data_type),
        other => cast_with_options(texts, other, &options),
    }
}

/// Floats; a number that is too large for one is none, and no infinity.
fn fitting<T: ArrowPrimitiveType>(
    texts: &StringArray,
    options: &CastOptions<'_>,
    is_infinite: fn(T::Native) -> bool,
) -> Result<ArrayRef, ArrowError> {
    let floats = cast_with_options(texts, &T::DATA_TYPE, options)?;
    let values = floats.as_primitive::<T>();
    // The texts for infinity itself have no digits.
    let is_too_large =
        |row: usize| is_infinite(values.value(row)) && texts.value(row).bytes().any(|byte| byte.is_ascii_digit());
    if !(0..texts.len()).any(|row| values.is_valid(row) && is_too_large(row)) {
        return Ok(floats);
    }
    let fitting = (0..texts.len()).map(|row| (values.is_valid(row) && !is_too_large(row)).then(|| values.value(row)));
    Ok(Arc::new(fitting.collect::<PrimitiveArray<T>>()))
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The narrowest type of a column of texts, nulls apart: `int64`, `float64`, `boolean`, `date32`, `timestamp`, else `utf8`.
pub(super) fn guess(texts: &StringArray) -> Result<DataType, ArrowError> {
    if texts.null_count() == texts.len() {
        return Ok(DataType::Utf8);
    }
    let all = |is_so: &dyn Fn(&str) -> bool| texts.iter().flatten().all(is_so);
    // Words that a reader of numbers takes for some, such as `inf`, are most often words.
    let has_digits = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
    let is_boolean = |text: &str| text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
    let is_date = |text: &str| text.len() >= 8 && text.contains('-') && has_digits(text);
    type IsSo<'a> = &'a dyn Fn(&str) -> bool;
    let candidates: [(DataType, IsSo<'_>); 5] = [
        (DataType::Int64, &has_digits),
        (DataType::Float64, &has_digits),
        (DataType::Boolean, &is_boolean),
        (DataType::Date32, &|text| is_date(text) && text.len() == 10),
        (crate::source::schema::timestamp(), &is_date),
    ];
    for (data_type, may_be) in candidates {
        if all(may_be) && convert(texts, &data_type)?.null_count() == texts.null_count() {
            return Ok(data_type);
        }
    }
    Ok(DataType::Utf8)
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::*;
    use crate::source::schema::parse_type;

    #[track_caller]
    fn check(data_type: &str, text: &str, expected: Option<&str>) {
        let data_type = parse_type(data_type).expect("a right type");
        assert!(is_supported(&data_type));
        let values = convert(&StringArray::from(vec![text]), &data_type).expect("it can be converted");
        assert_eq!(values.data_type(), &data_type);
        let shown = values.is_valid(0).then(|| array_value_to_string(&values, 0).expect("it can be shown"));
        assert_eq!(shown.as_deref(), expected, "{text} as {data_type}");
    }

    #[test]
    fn texts_are_values_of_every_type() {
        check("utf8", "a b", Some("a b"));
        check("int8", "-128", Some("-128"));
        check("int8", "128", None);
        check("int64", "1.5", None);
        check("int64", "x", None);
        check("uint64", "18446744073709551615", Some("18446744073709551615"));
        check("float64", "1e3", Some("1000.0"));
        check("float32", "0.5", Some("0.5"));
        check("float64", "1e400", None);
        check("float64", "-inf", Some("-inf"));
        check("float32", "1e39", None);
        check("float32", "1e38", Some("1e38"));
        check("boolean", "true", Some("true"));
        check("boolean", "2", None);
        check("binary", "00fF", Some("00ff"));
        check("binary", "0", None);
        check("binary", "xy", None);
        check("date32", "2026-11-22", Some("2026-11-22"));
        check("date32", "22.11.2026", None);
        check("timestamp", "2026-11-22T07:30:00.5Z", Some("2026-11-22T07:30:00.500Z"));
        check("timestamp", "2026-11-22 07:30:00", Some("2026-11-22T07:30:00Z"));
        check("timestamp", "2026-11-22T07:30:00+02:00", Some("2026-11-22T05:30:00Z"));
        check("decimal(5, 2)", "-1.25", Some("-1.25"));
        check("decimal(5, 2)", "1.259", Some("1.25"));
        check("decimal(5, 2)", "12345", None);
        check("duration", "1500000", Some("PT1.5S"));
        check("duration", "1.5", None);
        assert!(!is_supported(&parse_type("list<utf8>").expect("a type")));
    }

    #[track_caller]
    fn check_guess(texts: &[Option<&str>], expected: &str) {
        let guessed = guess(&StringArray::from(texts.to_vec())).expect("it can be converted");
        assert_eq!(guessed, parse_type(expected).expect("a type"), "{texts:?}");
    }

    #[test]
    fn types_are_guessed() {
        check_guess(&[], "utf8");
        check_guess(&[None], "utf8");
        check_guess(&[Some("1"), None, Some("-2")], "int64");
        check_guess(&[Some("1"), Some("2.5")], "float64");
        check_guess(&[Some("99999999999999999999")], "float64");
        check_guess(&[Some("true"), Some("False")], "boolean");
        check_guess(&[Some("1"), Some("true")], "utf8");
        check_guess(&[Some("yes"), Some("no")], "utf8");
        check_guess(&[Some("2026-11-22")], "date32");
        check_guess(&[Some("2026-11-22T07:30:00Z"), Some("2026-11-22")], "timestamp");
        check_guess(&[Some("inf")], "utf8");
        check_guess(&[Some("")], "utf8");
    }
}
