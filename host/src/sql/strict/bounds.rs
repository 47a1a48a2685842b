//! Functions that make values as long as their arguments say, with an end to it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Characters or elements that one call may make, for all its rows. A call has at most some ten thousand rows; what is
/// longer than this is a mistake, and would be more memory than a job has.
const MADE_MAX: u64 = 64 << 20;

/// How long the values are that a function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Length {
    /// As the second argument says.
    Second,
    /// As long as the first argument, as often as the second says.
    Times,
    /// From the first argument to the second, in steps of the third.
    Span,
}

/// A function, and how long its values are.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: Arc<ScalarUDF>,
    length: Length,
}

/// The function, with an end to the length of its values if it has none.
pub(in crate::sql) fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let length = match function.name() {
        "lpad" | "rpad" | "array_repeat" | "array_resize" => Length::Second,
        "repeat" => Length::Times,
        "range" | "generate_series" => Length::Span,
        _ => return function,
    };
    Arc::new(ScalarUDF::new_from_impl(Bounded { function, length }))
}

impl Bounded {
    /// What a call would make: the sum over its rows.
    fn made(&self, arguments: &ScalarFunctionArgs) -> Result<u64> {
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
        let (first, second, third) = match (self.length, column(0)?) {
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
        let texts: Option<StringArray> = match (self.length, column(0)?) {
            (Length::Times, Some(texts)) => Some(cast(&texts, &DataType::Utf8)?.as_string().clone()),
            _ => None,
        };
        let made = (0..n_rows).map(|row| match self.length {
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

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(types)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.function.return_field_from_args(arguments)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(types)
    }

    fn simplify(&self, arguments: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.function.simplify(arguments, context)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made = self.made(&arguments)?;
        if made > MADE_MAX {
            let (name, n_rows) = (self.name(), arguments.number_rows);
            return exec_err!(
                "`{name}` would make {made} characters or elements for {n_rows} rows, and may make {MADE_MAX}"
            );
        }
        self.function.invoke_with_args(arguments)
    }
}
