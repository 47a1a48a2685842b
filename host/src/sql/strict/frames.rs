//! Frames of windows whose bounds lie outside of what their type holds.
//!
//! DataFusion takes such a bound for the end of all rows, those without a value included. So integers and decimals are compared as
//! decimals that have room for it, and times that have none fail.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Int64Type, IntervalMonthDayNano, TimeUnit,
};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::expr::{Cast, WindowFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, WindowFrame, WindowFrameBound, WindowFrameUnits};

use super::passing::{Look, passing};

/// Rows and groups that a frame may reach: more than there are, and few enough to be added to any number of them.
const REACH_MAX: u64 = 1 << 48;

/// The days and microseconds before and after 1970 that can be reckoned with as dates, which are fewer than their types hold.
const DAYS_MAX: i64 = 95_026_236;

const DAY_NS: i128 = 86_400_000_000_000;

/// The function with a frame of rows or groups whose bounds can be computed; `None`: they can already.
pub(super) fn reachable_frame(function: &WindowFunction) -> Result<Option<WindowFunction>> {
    let frame = &function.params.window_frame;
    let far = |bound: &&WindowFrameBound| distance(bound).is_some_and(|rows| *rows != reached(rows));
    if frame.units == WindowFrameUnits::Range || ![&frame.start_bound, &frame.end_bound].iter().any(far) {
        return Ok(None);
    }
    Ok(Some(with_bounds(function, |rows| Ok(reached(rows)))?))
}

/// What the rows of windows are ordered by, so that the bounds of their frames can be computed.
///
/// All windows of one node of a plan are computed over rows that are sorted once, so they are ordered by the same: those whose frames
/// have no such bound as well.
pub(super) struct Order {
    /// What they are ordered by as they are written.
    by: Expr,
    change: Change,
}

/// What becomes of it.
enum Change {
    /// Numbers of a type that has room for the bounds.
    Wide(DataType),
    /// Times, when so much can be added to all of them.
    InReach { longest_ns: i128 },
}

impl Order {
    /// What the windows of a node need; `None`: nothing.
    pub(super) fn needed(windows: &[Expr], schema: &DFSchema) -> Result<Option<Self>> {
        let mut order: Option<Self> = None;
        for window in windows {
            window.apply(|part| {
                if let Expr::WindowFunction(function) = part
                    && let Some(needed) = Self::of_function(function, schema)?
                {
                    match &mut order {
                        None => order = Some(needed),
                        Some(Self { by, change }) if *by == needed.by => change.cover(&needed.change),
                        Some(_) => return internal_err!("the windows of one node are ordered by one expression"),
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(order)
    }

    fn of_function(function: &WindowFunction, schema: &DFSchema) -> Result<Option<Self>> {
        let frame = &function.params.window_frame;
        let bounds = [&frame.start_bound, &frame.end_bound];
        let distances = || bounds.iter().filter_map(|bound| distance(bound));
        // With a distance the rows are ordered by one expression.
        let ([first], WindowFrameUnits::Range, true) =
            (function.params.order_by.as_slice(), frame.units, distances().next().is_some())
        else {
            return Ok(None);
        };
        let change = match first.expr.get_type(schema)? {
            data_type if data_type.is_integer() => Change::Wide(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)),
            DataType::Decimal128(_, scale) => Change::Wide(DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale)),
            DataType::Timestamp(..) | DataType::Date32 => {
                let lengths = distances().map(|distance| match distance {
                    ScalarValue::IntervalMonthDayNano(Some(interval)) => length_ns(interval),
                    _ => 0,
                });
                Change::InReach { longest_ns: lengths.max().unwrap_or(0) }
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { by: first.expr.clone(), change }))
    }

    /// The window, ordered so.
    pub(super) fn of(&self, window: Expr) -> Result<Transformed<Expr>> {
        window.transform_up(|part| {
            let Expr::WindowFunction(function) = &part else { return Ok(Transformed::no(part)) };
            let ([first], units) = (function.params.order_by.as_slice(), function.params.window_frame.units) else {
                return Ok(Transformed::no(part));
            };
            if first.expr != self.by {
                return Ok(Transformed::no(part));
            }
            let by = self.by.clone();
            let mut function = function.as_ref().clone();
            function.params.order_by[0].expr = match &self.change {
                Change::Wide(wide) => {
                    if units == WindowFrameUnits::Range {
                        function = with_bounds(&function, |bound| bound.cast_to(wide))?;
                    }
                    Expr::Cast(Cast::new(Box::new(by), wide.clone()))
                }
                Change::InReach { longest_ns } => passing(by, InReach { longest_ns: *longest_ns }),
            };
            Ok(Transformed::yes(Expr::WindowFunction(Box::new(function))))
        })
    }
}

impl Change {
    /// Makes it do for another window that is ordered by the same.
    fn cover(&mut self, other: &Self) {
        if let (Self::InReach { longest_ns }, Self::InReach { longest_ns: other }) = (self, other) {
            *longest_ns = (*longest_ns).max(*other);
        }
    }
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

/// Fails when there is a time to which so much cannot be added, or from which it cannot be taken.
#[derive(Debug, PartialEq, Eq, Hash)]
struct InReach {
    longest_ns: i128,
}

impl Look for InReach {
    const NAME: &str = "in_reach";

    fn look(&self, values: &ArrayRef) -> Result<()> {
        let (tick_ns, ticks_max) = match values.data_type() {
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
            _ => return Ok(()),
        };
        let ticks: Int64Array = match values.data_type() {
            DataType::Date32 => cast(&cast(values, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(values, &DataType::Int64)?,
        }
        .as_primitive::<Int64Type>()
        .clone();
        let reach = self.longest_ns.div_euclid(tick_ns) + 1;
        let is_out = |tick: i64| i128::from(tick).abs() + reach > ticks_max;
        if ticks.iter().flatten().any(is_out) {
            return exec_err!("the frame of a window reaches beyond the times that there are");
        }
        Ok(())
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
