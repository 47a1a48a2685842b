//! Frames of windows whose bounds lie outside of what their type holds.
//!
//! DataFusion takes such a bound for the end of all rows, those without a value included. So integers and decimals are compared as
//! decimals that have room for it, and times that have none fail.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, FieldRef, Int64Type, IntervalMonthDayNano, TimeUnit,
};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::expr::{Cast, WindowFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, WindowFrame, WindowFrameBound, WindowFrameUnits,
};

/// Rows and groups that a frame may reach: more than there are, and few enough to be added to any number of them.
const REACH_MAX: u64 = 1 << 48;

/// The days and microseconds before and after 1970 that can be reckoned with as dates, which are fewer than their types hold.
const DAYS_MAX: i64 = 95_026_236;

const DAY_NS: i128 = 86_400_000_000_000;

/// The function with a frame whose bounds can be computed; `None`: they can already.
pub(super) fn fitting_frame(function: &WindowFunction, schema: &DFSchema) -> Result<Option<WindowFunction>> {
    let frame = &function.params.window_frame;
    let bounds = [&frame.start_bound, &frame.end_bound];
    if frame.units != WindowFrameUnits::Range {
        let far = |bound: &&WindowFrameBound| distance(bound).is_some_and(|rows| *rows != reached(rows));
        if !bounds.iter().any(far) {
            return Ok(None);
        }
        return Ok(Some(with_bounds(function, |rows| Ok(reached(rows)))?));
    }
    // With a distance the rows are ordered by one expression.
    let ([first], true) = (function.params.order_by.as_slice(), bounds.iter().any(|bound| distance(bound).is_some()))
    else {
        return Ok(None);
    };
    let data_type = first.expr.get_type(schema)?;
    let wide = match &data_type {
        data_type if data_type.is_integer() => DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
        DataType::Decimal128(_, scale) => DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale),
        DataType::Timestamp(..) | DataType::Date32 => {
            let mut longest_ns = 0;
            for bound in bounds.iter().filter_map(|bound| distance(bound)) {
                if let ScalarValue::IntervalMonthDayNano(Some(interval)) = bound {
                    longest_ns = longest_ns.max(length_ns(interval));
                }
            }
            let mut function = function.clone();
            function.params.order_by[0].expr = in_reach(first.expr.clone(), longest_ns);
            return Ok(Some(function));
        }
        _ => return Ok(None),
    };
    let mut function = with_bounds(function, |bound| bound.cast_to(&wide))?;
    function.params.order_by[0].expr = Expr::Cast(Cast::new(Box::new(first.expr.clone()), wide));
    Ok(Some(function))
}

/// How far a bound is away, if it is somewhere.
fn distance(bound: &WindowFrameBound) -> Option<&ScalarValue> {
    match bound {
        WindowFrameBound::Preceding(distance) | WindowFrameBound::Following(distance) => {
            Some(distance).filter(|distance| !distance.is_null())
        }
        WindowFrameBound::CurrentRow => None,
    }
}

fn reached(rows: &ScalarValue) -> ScalarValue {
    match rows {
        ScalarValue::UInt64(Some(rows)) => ScalarValue::UInt64(Some((*rows).min(REACH_MAX))),
        other => other.clone(),
    }
}

fn with_bounds(
    function: &WindowFunction,
    change: impl Fn(&ScalarValue) -> Result<ScalarValue>,
) -> Result<WindowFunction> {
    let changed = |bound: &WindowFrameBound| -> Result<WindowFrameBound> {
        Ok(match bound {
            WindowFrameBound::Preceding(distance) => WindowFrameBound::Preceding(change(distance)?),
            WindowFrameBound::Following(distance) => WindowFrameBound::Following(change(distance)?),
            WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
        })
    };
    let mut function = function.clone();
    let frame = &function.params.window_frame;
    function.params.window_frame =
        WindowFrame::new_bounds(frame.units, changed(&frame.start_bound)?, changed(&frame.end_bound)?);
    Ok(function)
}

/// How long an interval is at most, either way.
fn length_ns(interval: &IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months).abs() * 31 + i128::from(interval.days).abs();
    days * DAY_NS + i128::from(interval.nanoseconds).abs()
}

/// The times, when so much can be added to all of them.
fn in_reach(times: Expr, longest_ns: i128) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::new_from_impl(InReach { longest_ns, signature }).call(vec![times])
}

/// Gives the times that it gets, or fails.
#[derive(Debug, PartialEq, Eq, Hash)]
struct InReach {
    longest_ns: i128,
    signature: Signature,
}

impl ScalarUDFImpl for InReach {
    fn name(&self) -> &str {
        "in_reach"
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(arguments.iter().map(ToString::to_string).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [one] => Ok(one.clone()),
            _ => internal_err!("the times of one column are in reach"),
        }
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match arguments.arg_fields {
            [one] => Ok(one.clone()),
            _ => internal_err!("the times of one column are in reach"),
        }
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = arguments.args.pop() else { return internal_err!("the times of one column are in reach") };
        let column: ArrayRef = value.to_array(arguments.number_rows)?;
        let (tick_ns, ticks_max) = match column.data_type() {
            DataType::Date32 => (DAY_NS, i128::from(DAYS_MAX)),
            DataType::Timestamp(unit, _) => {
                let tick_ns: i128 = match unit {
                    TimeUnit::Second => 1_000_000_000,
                    TimeUnit::Millisecond => 1_000_000,
                    TimeUnit::Microsecond => 1_000,
                    TimeUnit::Nanosecond => 1,
                };
                (tick_ns, i128::from(i64::MAX).min(i128::from(DAYS_MAX) * DAY_NS / tick_ns))
            }
            _ => return Ok(value),
        };
        let ticks: Int64Array = match column.data_type() {
            DataType::Date32 => cast(&cast(&column, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(&column, &DataType::Int64)?,
        }
        .as_primitive::<Int64Type>()
        .clone();
        let reach = self.longest_ns.div_euclid(tick_ns) + 1;
        let is_out = |tick: i64| i128::from(tick).abs() + reach > ticks_max;
        if ticks.iter().flatten().any(is_out) {
            return exec_err!("the frame of a window reaches beyond the times that there are");
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_as_long_as_their_longest_months() {
        let length = |months, days, ns| length_ns(&IntervalMonthDayNano::new(months, days, ns));
        assert_eq!([length(1, 0, 0), length(-1, 2, -5)], [31 * DAY_NS, 33 * DAY_NS + 5]);
        assert!(length(i32::MAX, i32::MAX, i64::MAX) > i128::from(i64::MAX));
    }
}
