//! What the times in a result are computed of: which column of which stream, and what was done to them on the way.
//!
//! It is read off the plan as it was written, before anything is optimized. All rows of a query are of one batch, so whichever row
//! of a group a value comes from, its time is that of a row of the batch.

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::{Column, DFSchema, JoinType, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr, ScalarFunction, WindowFunction};
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, Operator, WindowFunctionDefinition};

use super::stream_table::StreamTable;
use crate::step::times::{Cut, TimeOrigin};

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// Functions that give one of the values of their first argument, of rows of a group or window.
const OF_SOME_ROW: [&str; 7] = ["min", "max", "first_value", "last_value", "nth_value", "lag", "lead"];

/// What the columns of a plan's rows are computed of.
pub(super) fn time_origins(plan: &LogicalPlan) -> Vec<TimeOrigin> {
    let n_columns = plan.schema().fields().len();
    let mut origins = known_origins(plan).unwrap_or_default();
    // A plan of a kind that is not known here knows nothing of its columns.
    if origins.len() != n_columns {
        origins = vec![TimeOrigin::Unknown; n_columns];
    }
    origins
}

fn known_origins(plan: &LogicalPlan) -> Option<Vec<TimeOrigin>> {
    let of = |input: &LogicalPlan, expressions: &[Expr]| -> Vec<TimeOrigin> {
        let inner = time_origins(input);
        let column = |column: &Column| -> TimeOrigin {
            let index = input.schema().maybe_index_of_column(column);
            index.and_then(|index| inner.get(index)).cloned().unwrap_or(TimeOrigin::Unknown)
        };
        expressions.iter().map(|expression| origin_of(expression, input.schema(), &column)).collect()
    };
    Some(match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let side = provider.downcast_ref::<StreamTable>()?.index;
            scan.projected_schema.fields().iter().map(|field| TimeOrigin::column(side, field.name())).collect()
        }
        LogicalPlan::Projection(projection) => of(&projection.input, &projection.expr),
        LogicalPlan::Filter(filter) => time_origins(&filter.input),
        LogicalPlan::Sort(sort) => time_origins(&sort.input),
        LogicalPlan::Limit(limit) => time_origins(&limit.input),
        LogicalPlan::Repartition(repartition) => time_origins(&repartition.input),
        LogicalPlan::SubqueryAlias(alias) => time_origins(&alias.input),
        LogicalPlan::Distinct(Distinct::All(input)) => time_origins(input),
        LogicalPlan::Distinct(Distinct::On(distinct)) => of(&distinct.input, &distinct.select_expr),
        LogicalPlan::Aggregate(aggregate) => {
            let mut origins = of(&aggregate.input, &aggregate.group_expr);
            origins.extend(of(&aggregate.input, &aggregate.aggr_expr));
            origins
        }
        LogicalPlan::Window(window) => {
            let mut origins = time_origins(&window.input);
            origins.extend(of(&window.input, &window.window_expr));
            origins
        }
        LogicalPlan::Join(join) => {
            let (left, right) = (time_origins(&join.left), time_origins(&join.right));
            match join.join_type {
                JoinType::LeftSemi | JoinType::LeftAnti => left,
                JoinType::RightSemi | JoinType::RightAnti => right,
                JoinType::LeftMark => left.into_iter().chain([TimeOrigin::Unknown]).collect(),
                JoinType::RightMark => right.into_iter().chain([TimeOrigin::Unknown]).collect(),
                _ => left.into_iter().chain(right).collect(),
            }
        }
        LogicalPlan::Union(union) => {
            let inputs: Vec<Vec<TimeOrigin>> = union.inputs.iter().map(|input| time_origins(input)).collect();
            let column = |index: usize| {
                let all = inputs.iter().map(|of| of.get(index).cloned().unwrap_or(TimeOrigin::Unknown));
                TimeOrigin::OneOf(all.collect())
            };
            (0..plan.schema().fields().len()).map(column).collect()
        }
        LogicalPlan::Unnest(unnest) => {
            let inner = time_origins(&unnest.input);
            let is_unnested = |index: usize| {
                unnest.struct_type_columns.contains(&index)
                    || unnest.list_type_columns.iter().any(|(column, _)| *column == index)
            };
            let origin = |&index: &usize| match inner.get(index) {
                Some(origin) if !is_unnested(index) => origin.clone(),
                _ => TimeOrigin::Unknown,
            };
            unnest.dependency_indices.iter().map(origin).collect()
        }
        _ => return None,
    })
}

/// What the values of an expression are computed of; `column` says it of a column of its input, by its name.
pub(super) fn time_origin(expression: &Expr, schema: &DFSchema, column: &dyn Fn(&str) -> TimeOrigin) -> TimeOrigin {
    origin_of(expression, schema, &|found: &Column| column(&found.name))
}

fn origin_of(expression: &Expr, schema: &DFSchema, column: &dyn Fn(&Column) -> TimeOrigin) -> TimeOrigin {
    let of = |part: &Expr| origin_of(part, schema, column);
    let one_of = |parts: &mut dyn Iterator<Item = &Expr>| TimeOrigin::OneOf(parts.map(of).collect());
    match expression {
        Expr::Column(found) => column(found),
        Expr::Alias(alias) => of(&alias.expr),
        Expr::Cast(cast) if is_time(&cast.expr, schema) => of(&cast.expr).cast(cast.field.data_type()),
        Expr::TryCast(cast) if is_time(&cast.expr, schema) => of(&cast.expr).cast(cast.field.data_type()),
        Expr::Literal(value, _) if value.is_null() => TimeOrigin::OneOf(Vec::new()),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let shifted = match (interval(left), op, interval(right)) {
                (None, Operator::Plus, Some(interval)) => {
                    TimeOrigin::Shifted(Box::new(of(left)), at_least_us(interval))
                }
                (Some(interval), Operator::Plus, None) => {
                    TimeOrigin::Shifted(Box::new(of(right)), at_least_us(interval))
                }
                (None, Operator::Minus, Some(interval)) => {
                    TimeOrigin::Shifted(Box::new(of(left)), at_least_us(negative(interval)))
                }
                _ => return TimeOrigin::Unknown,
            };
            // A date stays one: what is less than a day is cut off.
            match expression.get_type(schema) {
                Ok(date @ DataType::Date32) => shifted.cast(&date),
                _ => shifted,
            }
        }
        Expr::Case(case) => {
            one_of(&mut case.when_then_expr.iter().map(|(_, then)| &**then).chain(case.else_expr.as_deref()))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => match (func.name(), args.as_slice()) {
            ("date_trunc", [Expr::Literal(unit, _), time]) if is_utc(time, schema) => match unit_cut(unit) {
                Some(cut) => TimeOrigin::Cut(Box::new(of(time)), cut),
                None => TimeOrigin::Unknown,
            },
            ("date_bin", [size, time, from @ ..]) if is_utc(time, schema) => match bin_cut(size, from) {
                Some(cut) => TimeOrigin::Cut(Box::new(of(time)), cut),
                None => TimeOrigin::Unknown,
            },
            ("coalesce" | "greatest" | "least", all) => one_of(&mut all.iter()),
            ("nullif", [time, _]) => of(time),
            _ => TimeOrigin::Unknown,
        },
        Expr::AggregateFunction(AggregateFunction { func, params }) => match params.args.first() {
            Some(first) if OF_SOME_ROW.contains(&func.name()) => of(first),
            _ => TimeOrigin::Unknown,
        },
        Expr::WindowFunction(function) => {
            let WindowFunction { fun, params } = function.as_ref();
            let name = match fun {
                WindowFunctionDefinition::AggregateUDF(function) => function.name(),
                WindowFunctionDefinition::WindowUDF(function) => function.name(),
            };
            match params.args.as_slice() {
                // `lag` and `lead` give another value where there is no row.
                [first, _, other] if OF_SOME_ROW.contains(&name) => one_of(&mut [first, other].into_iter()),
                [first, ..] if OF_SOME_ROW.contains(&name) => of(first),
                _ => TimeOrigin::Unknown,
            }
        }
        _ => TimeOrigin::Unknown,
    }
}

fn is_time(expression: &Expr, schema: &DFSchema) -> bool {
    let data_type = expression.get_type(schema);
    data_type.is_ok_and(|data_type| matches!(data_type, DataType::Timestamp(..) | DataType::Date32))
}

/// Whether it is a time whose hours and days are UTC's.
fn is_utc(expression: &Expr, schema: &DFSchema) -> bool {
    expression.get_type(schema).is_ok_and(|data_type| match data_type {
        DataType::Timestamp(_, zone) => zone.is_none_or(|zone| matches!(&*zone, "UTC" | "+00:00")),
        data_type => data_type == DataType::Date32,
    })
}

/// An interval that is written out.
pub(super) fn interval(expression: &Expr) -> Option<IntervalMonthDayNano> {
    let Expr::Literal(value, _) = expression else { return None };
    match value {
        ScalarValue::IntervalMonthDayNano(interval) => *interval,
        ScalarValue::IntervalDayTime(Some(interval)) => {
            Some(IntervalMonthDayNano::new(0, interval.days, i64::from(interval.milliseconds).checked_mul(1_000_000)?))
        }
        ScalarValue::IntervalYearMonth(Some(months)) => Some(IntervalMonthDayNano::new(*months, 0, 0)),
        _ => None,
    }
}

fn negative(interval: IntervalMonthDayNano) -> IntervalMonthDayNano {
    IntervalMonthDayNano::new(
        interval.months.saturating_neg(),
        interval.days.saturating_neg(),
        interval.nanoseconds.saturating_neg(),
    )
}

/// How much later a time is at least with this interval added to it; less than 0: how much earlier at most.
fn at_least_us(interval: IntervalMonthDayNano) -> i64 {
    let days_of_months = i64::from(interval.months) * if interval.months < 0 { 31 } else { 28 };
    let days = days_of_months + i64::from(interval.days);
    days.saturating_mul(DAY_US).saturating_add(interval.nanoseconds.div_euclid(1_000))
}

/// What `date_trunc` cuts to.
fn unit_cut(unit: &ScalarValue) -> Option<Cut> {
    let unit = unit.try_as_str().flatten()?.to_lowercase();
    Some(match unit.as_str() {
        "microsecond" => Cut::even(1, 0),
        "millisecond" => Cut::even(1_000, 0),
        "second" => Cut::even(1_000_000, 0),
        "minute" => Cut::even(60_000_000, 0),
        "hour" => Cut::even(3_600_000_000, 0),
        "day" => Cut::day(),
        // 1970-01-01 was a Thursday, and weeks begin on Monday.
        "week" => Cut::even(7 * DAY_US, 4 * DAY_US),
        "month" => Cut::uneven(31 * DAY_US),
        "quarter" => Cut::uneven(92 * DAY_US),
        "year" => Cut::uneven(366 * DAY_US),
        _ => return None,
    })
}

/// What `date_bin` cuts to, from a time that is written out.
fn bin_cut(size: &Expr, from: &[Expr]) -> Option<Cut> {
    let size = interval(size).filter(|size| size.months == 0 && size.nanoseconds % 1_000 == 0)?;
    let size_us = i64::from(size.days).checked_mul(DAY_US)?.checked_add(size.nanoseconds / 1_000)?;
    if size_us <= 0 {
        return None;
    }
    let offset_us = match from {
        [] => Some(0),
        // It begins somewhere: that it is no longer than the size is known all the same.
        _ => None,
    };
    Some(Cut { size_us, offset_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_as_short_or_long_as_is_needed() {
        let us = |months, days, nanoseconds| at_least_us(IntervalMonthDayNano::new(months, days, nanoseconds));
        assert_eq!([us(1, 0, 0), us(-1, 0, 0)], [28 * DAY_US, -31 * DAY_US]);
        assert_eq!([us(0, 1, 1_500), us(0, 0, -1)], [DAY_US + 1, -1]);
        assert_eq!(at_least_us(negative(IntervalMonthDayNano::new(1, -2, 3_000))), -31 * DAY_US + 2 * DAY_US - 3);
    }
}
