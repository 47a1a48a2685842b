//! Times that are cut, and numbers that become times: down to the last microsecond before 1970, and with an end to them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Float64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

use super::rounding::given;

const MINUTE_NS: i128 = 60_000_000_000;

/// Nanoseconds of the pieces of time that are all as long, and when the first begins after 1970-01-01: weeks begin on Monday.
fn piece(unit: &str) -> Option<(i128, i128)> {
    const SECOND: i128 = 1_000_000_000;
    Some(match unit.to_lowercase().as_str() {
        "microsecond" => (1_000, 0),
        "millisecond" => (1_000_000, 0),
        "second" => (SECOND, 0),
        "minute" => (MINUTE_NS, 0),
        "hour" => (3_600 * SECOND, 0),
        "day" => (86_400 * SECOND, 0),
        "week" => (7 * 86_400 * SECOND, 4 * 86_400 * SECOND),
        _ => return None,
    })
}

/// `date_trunc` to a piece of one length, in UTC if it is more than a minute; `None`: it is another.
pub(super) fn cut(arguments: &ScalarFunctionArgs) -> Result<Option<ColumnarValue>> {
    let [ColumnarValue::Scalar(unit), times] = arguments.args.as_slice() else { return Ok(None) };
    let Some(piece) = unit.try_as_str().flatten().and_then(piece) else { return Ok(None) };
    let DataType::Timestamp(time_unit, zone) = times.data_type() else { return Ok(None) };
    // Zones are apart by whole minutes, or were by whole seconds.
    let is_utc = zone.as_ref().is_none_or(|zone| matches!(&**zone, "UTC" | "+00:00"));
    if !is_utc && piece.0 > MINUTE_NS {
        return Ok(None);
    }
    let is_scalar = matches!(times, ColumnarValue::Scalar(_));
    let column = times.to_array(arguments.number_rows)?;
    let cut = match time_unit {
        TimeUnit::Second => cut_to::<TimestampSecondType>(&column, 1_000_000_000, piece),
        TimeUnit::Millisecond => cut_to::<TimestampMillisecondType>(&column, 1_000_000, piece),
        TimeUnit::Microsecond => cut_to::<TimestampMicrosecondType>(&column, 1_000, piece),
        TimeUnit::Nanosecond => cut_to::<TimestampNanosecondType>(&column, 1, piece),
    };
    given(cut?, is_scalar).map(Some)
}

/// The times, each of which counts `tick_ns`, cut down to the beginning of a piece.
fn cut_to<T: ArrowTimestampType>(
    times: &ArrayRef,
    tick_ns: i128,
    (size_ns, first_ns): (i128, i128),
) -> Result<ArrayRef> {
    let times = times.as_primitive::<T>();
    let cut: PrimitiveArray<T> = times.try_unary(|time| {
        let ns = i128::from(time) * tick_ns - first_ns;
        let begin = (ns.div_euclid(size_ns) * size_ns + first_ns).div_euclid(tick_ns);
        i64::try_from(begin)
            .map_err(|_| exec_datafusion_err!("the piece of time that {time} is in begins before all times"))
    })?;
    Ok(Arc::new(cut.with_data_type(times.data_type().clone())))
}

/// A function that gives null for a time which it cannot reckon with.
pub(super) fn bin(function: &ScalarUDF, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let n_rows = arguments.number_rows;
    let columns = arguments.args.iter().map(|argument| argument.to_array(n_rows)).collect::<Result<Vec<_>>>()?;
    let given = function.invoke_with_args(arguments)?;
    let nulls = given.to_array(n_rows)?.logical_nulls();
    if let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) {
        let of_columns: Vec<_> = columns.iter().map(|column| column.logical_nulls()).collect();
        let has_all = |row: usize| of_columns.iter().flatten().all(|nulls| nulls.is_valid(row));
        if (0..n_rows).any(|row| nulls.is_null(row) && has_all(row)) {
            return exec_err!("`{}` has no value for a time so far from 1970", function.name());
        }
    }
    Ok(given)
}

/// Fails when a number of seconds is none that a time has: it would be the last one, or that of 1970.
pub(super) fn from_seconds(arguments: &ScalarFunctionArgs) -> Result<()> {
    let Some(first) = arguments.args.first() else { return Ok(()) };
    if !matches!(first.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64) {
        return Ok(());
    }
    let seconds = arrow::compute::cast(&first.to_array(arguments.number_rows)?, &DataType::Float64)?;
    // Times are nanoseconds here.
    let is_time = |seconds: f64| seconds.is_finite() && (seconds * 1e9).abs() < i64::MAX as f64;
    match seconds.as_primitive::<Float64Type>().iter().flatten().find(|seconds| !is_time(*seconds)) {
        Some(seconds) => exec_err!("no time is {seconds:?} seconds after 1970"),
        None => Ok(()),
    }
}
