//! Functions that make values as long as their arguments say, with an end to it; and those whose work grows with the product of
//! two lengths.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, StringArray};
use arrow::compute::kernels::length::length;
use arrow::compute::{cast, concat};
use arrow::datatypes::{
    DataType, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

use super::rounding::given;
use crate::sql::failure::cancelled;
use crate::sql::scope::Scope;

/// Characters or elements that one call may make, for all its rows. A call has at most some ten thousand rows; what is
/// longer than this is a mistake, and would be more memory than a job has.
const MADE_MAX: u64 = 64 << 20;

/// Pairs of characters or elements that one call may compare, for all its rows: less than a minute. Texts of a thousand characters
/// in ten thousand rows are half of it.
const COMPARED_MAX: u64 = 1 << 34;

/// Pairs that are compared before it is seen whether the batch was given up: a fraction of a second.
const COMPARED_AT_ONCE: u64 = 1 << 26;

/// How long the values are that a function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Length {
    /// As the second argument says.
    Second,
    /// As long as the first argument, as often as the second says.
    Times,
    /// From the first argument to the second, in steps of the third.
    Span,
}

impl Length {
    /// Fails when the call of a function would make more than one may.
    pub(super) fn check(self, name: &str, arguments: &ScalarFunctionArgs) -> Result<()> {
        let made = self.made(arguments)?;
        if made > MADE_MAX {
            let n_rows = arguments.number_rows;
            return exec_err!(
                "`{name}` would make {made} characters or elements for {n_rows} rows, and may make {MADE_MAX}"
            );
        }
        Ok(())
    }

    /// What a call would make: the sum over its rows.
    fn made(self, arguments: &ScalarFunctionArgs) -> Result<u64> {
        let n_rows = arguments.number_rows;
        let column = |index: usize| -> Result<Option<ArrayRef>> {
            arguments.args.get(index).map(|argument| argument.to_array(n_rows)).transpose()
        };
        let numbers = |index: usize| -> Result<Option<Int64Array>> {
            let Some(column) = column(index)? else { return Ok(None) };
            if !column.data_type().is_integer() {
                return Ok(None);
            }
            Ok(Some(cast(&column, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
        };
        let at = |column: &Option<Int64Array>, row: usize| {
            column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row))
        };
        let (first, second, third) = match (self, column(0)?) {
            (Length::Span, Some(from)) if from.data_type().is_temporal() => {
                (times(&from)?, times_of(column(1)?)?, steps(column(2)?)?)
            }
            _ => (numbers(0)?, numbers(1)?, numbers(2)?),
        };
        // What is made of lists has as many elements for each of them.
        let unit = match column(0)? {
            Some(made_of) if made_of.data_type().is_nested() => {
                (made_of.get_array_memory_size() as u64 / 8 / n_rows.max(1) as u64).max(1)
            }
            _ => 1,
        };
        let texts: Option<StringArray> = match (self, column(0)?) {
            (Length::Times, Some(texts)) => Some(cast(&texts, &DataType::Utf8)?.as_string().clone()),
            _ => None,
        };
        let made = (0..n_rows).map(|row| match self {
            Length::Second => {
                at(&second, row).map_or(0, |length| u64::try_from(length).unwrap_or(0).saturating_mul(unit))
            }
            Length::Times => {
                let bytes =
                    texts.as_ref().filter(|texts| texts.is_valid(row)).map_or(0, |texts| texts.value(row).len());
                let times = at(&second, row).map_or(0, |times| u64::try_from(times).unwrap_or(0));
                times.saturating_mul(bytes as u64)
            }
            Length::Span => {
                let (from, to) = match (at(&first, row), at(&second, row)) {
                    (Some(from), Some(to)) => (from, to),
                    // With one argument, from zero.
                    (Some(to), None) if second.is_none() => (0, to),
                    _ => return 0,
                };
                from.abs_diff(to) / at(&third, row).map_or(1, i64::unsigned_abs).max(1)
            }
        });
        Ok(made.fold(0, u64::saturating_add))
    }
}

/// Times in microseconds.
fn times(times: &ArrayRef) -> Result<Option<Int64Array>> {
    let times = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    Ok(Some(cast(&times, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
}

fn times_of(column: Option<ArrayRef>) -> Result<Option<Int64Array>> {
    column.as_ref().map_or(Ok(None), times)
}

/// How long steps are at least, in microseconds.
fn steps(intervals: Option<ArrayRef>) -> Result<Option<Int64Array>> {
    let Some(intervals) = intervals else { return Ok(None) };
    let intervals = cast(&intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let length_us = |step: IntervalMonthDayNano| {
        let days = i64::from(step.months) * 28 + i64::from(step.days);
        days.saturating_mul(86_400_000_000).saturating_add(step.nanoseconds / 1000).saturating_abs().max(1)
    };
    Ok(Some(intervals.as_primitive::<IntervalMonthDayNanoType>().unary(length_us)))
}

/// Calls a function that compares each part of its first argument with each of its second, a piece of the rows at a time.
pub(super) fn in_pieces(function: &ScalarUDF, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let n_rows = arguments.number_rows;
    let columns = arguments.args.iter().map(|argument| argument.to_array(n_rows)).collect::<Result<Vec<_>>>()?;
    let [first, second, ..] = columns.as_slice() else { return function.invoke_with_args(arguments) };
    let lengths = lengths(first)?.into_iter().zip(lengths(second)?);
    let compared: Vec<u64> = lengths.map(|(first, second)| first.saturating_mul(second)).collect();
    let all = compared.iter().copied().fold(0, u64::saturating_add);
    if all > COMPARED_MAX {
        let name = function.name();
        return exec_err!(
            "`{name}` would compare {all} pairs of characters or elements for {n_rows} rows, and may compare {COMPARED_MAX}"
        );
    }
    if all <= COMPARED_AT_ONCE {
        return function.invoke_with_args(arguments);
    }
    let (mut start, mut given) = (0, Vec::new());
    while start < n_rows {
        if Scope::current().is_some_and(|scope| scope.task().cancelled.load(Ordering::Relaxed)) {
            return Err(cancelled());
        }
        let mut piece = 0_u64;
        let fits = |of_row: &u64| {
            piece = piece.saturating_add(*of_row);
            piece <= COMPARED_AT_ONCE
        };
        let length = compared[start..].iter().copied().take_while(fits).count().max(1);
        let args = columns.iter().map(|column| ColumnarValue::Array(column.slice(start, length)));
        let call = ScalarFunctionArgs { args: args.collect(), number_rows: length, ..arguments.clone() };
        given.push(function.invoke_with_args(call)?.into_array(length)?);
        start += length;
    }
    let given: Vec<&dyn Array> = given.iter().map(AsRef::as_ref).collect();
    Ok(ColumnarValue::Array(concat(&given)?))
}

/// How many characters or elements the values of a column have at most.
fn lengths(column: &ArrayRef) -> Result<Vec<u64>> {
    let lengths = match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::List(_) | DataType::LargeList(_) => {
            cast(&length(&plain_text(column)?)?, &DataType::Int64)?
        }
        _ => return Ok(vec![1; column.len()]),
    };
    let lengths = lengths.as_primitive::<Int64Type>();
    Ok(lengths.iter().map(|length| length.map_or(0, i64::unsigned_abs)).collect())
}

fn plain_text(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Utf8View => Ok(cast(column, &DataType::Utf8)?),
        _ => Ok(column.clone()),
    }
}

/// The arguments with numbers in one of them that are not less than this.
pub(super) fn at_least(mut arguments: ScalarFunctionArgs, index: usize, least: i32) -> Result<ScalarFunctionArgs> {
    fn raised<T: ArrowPrimitiveType>(column: &ArrayRef, least: T::Native) -> ArrayRef
    where
        T::Native: Ord,
    {
        Arc::new(column.as_primitive::<T>().unary::<_, T>(|value| value.max(least)))
    }
    let Some(argument) = arguments.args.get(index) else { return Ok(arguments) };
    let is_scalar = matches!(argument, ColumnarValue::Scalar(_));
    let column = argument.to_array(arguments.number_rows)?;
    let column = match column.data_type() {
        DataType::Int64 => raised::<Int64Type>(&column, least.into()),
        DataType::Int32 => raised::<Int32Type>(&column, least),
        _ => return Ok(arguments),
    };
    arguments.args[index] = given(column, is_scalar)?;
    Ok(arguments)
}
