//! Numbers that are rounded: floats to digits that they do or do not have, decimals to whole numbers that have a digit more.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// Which whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Whole {
    Nearest,
    TowardsZero,
    Up,
    Down,
}

impl Whole {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Nearest => value.round(),
            Self::TowardsZero => value.trunc(),
            Self::Up => value.ceil(),
            Self::Down => value.floor(),
        }
    }

    /// A float with so many digits behind the point; less than 0: so many zeros before it. `None`: the result is none.
    fn to_digits(self, value: f64, digits: i64) -> Option<f64> {
        if !value.is_finite() {
            return Some(value);
        }
        let Ok(digits) = i32::try_from(digits.clamp(-400, 400)) else { return Some(value) };
        if digits >= 0 {
            let power = power_of_ten(digits);
            let scaled = value * power;
            // From here on a float has no digits behind the point: it is as it should be.
            return match scaled.abs() < 2_f64.powi(53) && power.is_finite() {
                true => Some(self.of(scaled) / power),
                false => Some(value),
            };
        }
        let power = power_of_ten(-digits);
        let rounded = if power.is_finite() { self.of(value / power) * power } else { 0.0_f64.copysign(value) };
        Some(rounded).filter(|rounded| rounded.is_finite())
    }
}

/// As near as there is one; infinite beyond what a float holds.
fn power_of_ten(exponent: i32) -> f64 {
    // Up to here products of tens are exact, and quicker.
    if exponent <= 22 { 10_f64.powi(exponent) } else { 10_f64.powf(f64::from(exponent)) }
}

/// Floats rounded to digits; `None`: the numbers are none.
pub(super) fn round_floats(how: Whole, arguments: &ScalarFunctionArgs) -> Result<Option<ColumnarValue>> {
    let n_rows = arguments.number_rows;
    let Some(first) = arguments.args.first() else { return Ok(None) };
    if !matches!(first.data_type(), DataType::Float32 | DataType::Float64) {
        return Ok(None);
    }
    let is_scalar = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
    let values = cast(&first.to_array(n_rows)?, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let digits = match arguments.args.get(1) {
        Some(digits) => Some(cast(&digits.to_array(n_rows)?, &DataType::Int64)?),
        None => None,
    };
    let digits = digits.as_ref().map(|digits| digits.as_primitive::<Int64Type>());
    let rounded: PrimitiveArray<Float64Type> = (0..n_rows)
        .map(|row| {
            let digits = match digits {
                Some(digits) if digits.is_null(row) => return Ok(None),
                Some(digits) => digits.value(row),
                None => 0,
            };
            if values.is_null(row) {
                return Ok(None);
            }
            let value = values.value(row);
            let rounded = how.to_digits(value, digits);
            rounded.map(Some).ok_or_else(|| exec_datafusion_err!("{value} rounded to {digits} digits is too large"))
        })
        .collect::<Result<_>>()?;
    given(cast(&rounded, &first.data_type())?, is_scalar).map(Some)
}

/// The type of whole numbers made of decimals: with a digit more, because they may be rounded up to one.
pub(super) fn whole_type(precision: u8, scale: i8) -> DataType {
    match u8::try_from(scale) {
        Ok(scale) if scale > 0 => {
            let precision = precision.saturating_sub(scale).saturating_add(1).clamp(1, DECIMAL128_MAX_PRECISION);
            DataType::Decimal128(precision, 0)
        }
        _ => DataType::Decimal128(precision, scale),
    }
}

/// Decimals rounded up or down; `None`: the numbers are none.
pub(super) fn whole(how: Whole, arguments: &ScalarFunctionArgs) -> Result<Option<ColumnarValue>> {
    let [value] = arguments.args.as_slice() else { return Ok(None) };
    let DataType::Decimal128(precision, scale) = value.data_type() else { return Ok(None) };
    let is_scalar = matches!(value, ColumnarValue::Scalar(_));
    let values = value.to_array(arguments.number_rows)?;
    let unit = match u32::try_from(scale) {
        Ok(scale) if scale > 0 => 10_i128.pow(scale),
        _ => return given(values, is_scalar).map(Some),
    };
    let rounded = values.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(|value| {
        let down = value.div_euclid(unit);
        if how == Whole::Up && value.rem_euclid(unit) > 0 { down + 1 } else { down }
    });
    let rounded = rounded.with_data_type(whole_type(precision, scale));
    given(Arc::new(rounded), is_scalar).map(Some)
}

/// What a function gives: one value when all of its arguments are.
pub(super) fn given(column: ArrayRef, is_scalar: bool) -> Result<ColumnarValue> {
    match is_scalar && !column.is_empty() {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&column, 0)?)),
        false => Ok(ColumnarValue::Array(column)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_a_float_does_not_have_change_nothing() {
        let check = |value: f64, digits: i64, nearest: Option<f64>, towards_zero: Option<f64>| {
            assert_eq!(Whole::Nearest.to_digits(value, digits), nearest, "{value} {digits}");
            assert_eq!(Whole::TowardsZero.to_digits(value, digits), towards_zero, "{value} {digits}");
        };
        check(1.55, 1, Some(1.6), Some(1.5));
        check(-1.55, 0, Some(-2.0), Some(-1.0));
        check(155.0, -1, Some(160.0), Some(150.0));
        for digits in [16, 308, 309, 400, i64::MAX] {
            check(123.456, digits, Some(123.456), Some(123.456));
            check(1e300, digits, Some(1e300), Some(1e300));
        }
        check(1e300, -299, Some(1e300), Some(1e300));
        for digits in [-309, -400, i64::MIN] {
            check(1.7e308, digits, Some(0.0), Some(0.0));
        }
        check(1.7e308, -308, None, Some(1e308));
        check(f64::INFINITY, 3, Some(f64::INFINITY), Some(f64::INFINITY));
    }

    #[test]
    fn whole_decimals_have_the_digits_that_they_need() {
        assert_eq!(whole_type(4, 2), DataType::Decimal128(3, 0));
        assert_eq!(whole_type(38, 0), DataType::Decimal128(38, 0));
        assert_eq!([whole_type(38, 1), whole_type(38, 38)], [DataType::Decimal128(38, 0), DataType::Decimal128(1, 0)]);
    }
}
