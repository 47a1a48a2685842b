//! Built-in aggregates by key.
//!
//! | aggregate | of | result |
//! | --- | --- | --- |
//! | `count(*)` | rows | int64, never null |
//! | `count(c)` | rows where `c` is not null | int64, never null |
//! | `count(distinct c)` | different values that can be keys | int64, never null |
//! | `sum(c)`, `sum(distinct c)` | signed, unsigned integers, floats, decimals | int64, uint64, float64, decimal128 of 38 digits and `c`'s scale |
//! | `avg(c)`, `avg(distinct c)` | integers and floats, decimals | float64, decimal128 of 38 digits and 4 more behind the point |
//! | `min(c)`, `max(c)` | numbers, text, bytes, booleans, dates, times, timestamps, durations | the type of `c` |
//! | `bool_and(c)`, `bool_or(c)` | booleans | boolean |
//! | `first(c)`, `last(c)` | any type: of the row that came first, or last | the type of `c` |
//! | `first(c order by t)`, `last(c order by t)` | any type: of the row with the smallest, or greatest, `t` | the type of `c` |
//! | `min_by(c, t)`, `max_by(c, t)` | the same | the type of `c` |
//! | `any_value(c)` | any type: the first that is not null | the type of `c` |
//! | `variance(c)`, `stddev(c)` | numbers, as a sample: null of fewer than two | float64 |
//! | `var_pop(c)`, `stddev_pop(c)` | numbers, as the whole | float64 |
//! | `percentile(c, p)` | numbers; `p` a fraction from 0 to 1, or a list of them as in `[0.5, 0.99]` | float64, or a list of float64 |
//! | `approx_percentile(c, p)` | the same, by a t-digest: the rank is off by less than 1 % of the rows as a rule, and by less still towards the ends | the same |
//! | `approx_distinct(c)` | different values, by HyperLogLog: exactly up to 1024, then with a standard error of 0.8 % | int64, never null |
//! | `collect_list(c)` | any type: the values, in the order in which they came | a list of `c`'s type, never null |
//! | `collect_set(c)` | the different values, in the order in which they first came | a list of `c`'s type, never null |
//!
//! Nulls are left out, as in SQL; of no value, all but counts and lists are null. Only `first(c)` and `last(c)` take nulls,
//! as in Spark, unless `ignore nulls` is written behind the column. A row whose `t` is null has no place in an order, and is
//! never chosen; of rows with equal `t` the first is, whichever end is asked for. `desc` turns the order round.
//!
//! A sum that does not fit its type is an error, not a wrong number. NaN is greater than every number and equal to itself;
//! -0.0 is 0.0. A percentile between two values is between them, linearly. Dictionaries count as the values they stand
//! for. Without keys there is one group, and one result even of no rows: then `count` is 0.
//!
//! Results come in the order in which their keys first appeared. Rows come in the order of the tasks before the shuffle, and
//! within a task in its own: the same at every replay, but rows of different partitions have no other order.
//!
//! # Partials
//!
//! Rows can be taken out of the partials of `count`, `sum` and `avg` without `distinct`, and of the variances and
//! deviations: exactly, except for floats and those of any type, where every time adds its rounding. Nothing can be taken
//! out of the others. What a partial holds is said where its accumulator is.
//!
//! # Memory
//!
//! `percentile`, `collect_list`, `collect_set` and `distinct` keep every value, or every different one: 64 MiB for a key and
//! 1 GiB in a partition at most, with more the batch fails. Other aggregates need a few bytes a key; `approx_distinct` and
//! `approx_percentile` up to 16 KiB and 3 KiB, and less for keys with few values.

mod accumulator;
mod chosen;
mod distinct;
mod expression;
mod extremes;
mod hyperloglog;
mod lists;
mod moments;
mod percentile;
mod resolved;
mod steps;
mod sums;
mod t_digest;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};

pub use expression::Function;
pub(crate) use expression::value_of;

use crate::error::{Error, Explain, Fault};
use crate::plan::describe_type;
use crate::step::StepFactory;
use crate::step::keyed::{KeyColumns, KeyedStep, SpecProblem};
use crate::step::partials::PartialOps;
use crate::task::TaskContext;
use lists::{LIST_BYTES_MAX, LISTS_BYTES_MAX};
use resolved::Aggregate;

/// A step of built-in aggregates, checked against its input.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use arrow::datatypes::{DataType, Field, Schema};
/// use tidemill::step::aggregate::AggregateSpec;
/// use tidemill::step::keyed::KeyedStep;
///
/// let input = Arc::new(Schema::new(vec![Field::new("word", DataType::Utf8, false)]));
/// let select = [("count".to_string(), "count(*)".to_string())];
///
/// let spec = AggregateSpec::resolve("counts", &input, &["word".into()], &select).expect("it is right");
/// assert_eq!(spec.output_schema().field(1).data_type(), &DataType::Int64);
///
/// let problems = AggregateSpec::resolve("counts", &input, &["wrod".into()], &select).unwrap_err();
/// assert_eq!(problems[0].hint.as_deref(), Some("Did you mean `word`?"));
/// ```
#[derive(Debug, Clone)]
pub struct AggregateSpec(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    step: String,
    keys: KeyColumns,
    aggregates: Vec<Aggregate>,
    partial: SchemaRef,
    output: SchemaRef,
}

impl AggregateSpec {
    /// Checks a step: `by` names columns of `input`, `select` pairs output columns with expressions as in `sum(price)`.
    ///
    /// # Errors
    ///
    /// Every mistake there is.
    pub fn resolve(
        step: &str,
        input: &SchemaRef,
        by: &[String],
        select: &[(String, String)],
    ) -> Result<Self, Vec<SpecProblem>> {
        let mut problems = Vec::new();
        let keys = KeyColumns::resolve(input, by, &mut problems);
        if by.is_empty() && select.is_empty() {
            problems.push(SpecProblem {
                key: "select".into(),
                message: "there is nothing to aggregate".into(),
                hint: Some("Name at least one column, as in `select = { count = \"count(*)\" }`.".into()),
            });
        }
        let mut aggregates: Vec<Aggregate> = Vec::new();
        let mut partial = keys.fields.clone();
        let mut results = Vec::new();
        for (name, text) in select {
            let mut problem = |message: String, hint: Option<String>| {
                problems.push(SpecProblem { key: format!("select.{name}"), message, hint });
            };
            if by.contains(name) || aggregates.iter().any(|other| other.name == *name) {
                problem(
                    format!("the output would have two columns `{name}`"),
                    Some("Give the aggregate another name.".into()),
                );
            }
            match Aggregate::resolve(input, name, text) {
                Ok(aggregate) => {
                    partial.extend(aggregate.partials.iter().cloned());
                    results.push(aggregate.result.clone());
                    aggregates.push(aggregate);
                }
                Err((message, hint)) => problem(message, hint),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let output = keys.fields.iter().cloned().chain(results).collect::<Vec<_>>();
        Ok(Self(Arc::new(Inner {
            step: step.into(),
            keys,
            aggregates,
            partial: Arc::new(Schema::new(partial)),
            output: Arc::new(Schema::new(output)),
        })))
    }
}

impl KeyedStep for AggregateSpec {
    fn partial_schema(&self) -> SchemaRef {
        self.0.partial.clone()
    }

    fn output_schema(&self) -> SchemaRef {
        self.0.output.clone()
    }

    fn partial_key_columns(&self) -> Vec<usize> {
        (0..self.0.keys.len()).collect()
    }

    fn combine(&self) -> Arc<dyn StepFactory> {
        Arc::new(steps::CombineFactory(self.clone()))
    }

    fn merge(&self) -> Arc<dyn StepFactory> {
        Arc::new(steps::MergeFactory(self.clone()))
    }

    fn partial_ops(&self, _: &TaskContext) -> Result<Box<dyn PartialOps>, Error> {
        Ok(Box::new(steps::AggregateOps::new(self)))
    }
}

/// Why an aggregate has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// A value does not fit its type.
    #[error(
        "`{text}` overflowed in column `{column}` of step `{step}`: a value does not fit {}",
        describe_type(data_type)
    )]
    Overflow {
        /// The step.
        step: String,
        /// The output column.
        column: String,
        /// The aggregate as it was written.
        text: String,
        /// The result's type.
        data_type: DataType,
    },
    /// An aggregate that keeps every value has too many.
    #[error(
        "`{text}` has more than {} MiB of values {} in column `{column}` of step `{step}`",
        if *is_one_key { LIST_BYTES_MAX >> 20 } else { LISTS_BYTES_MAX >> 20 },
        if *is_one_key { "for one key" } else { "in one partition" },
    )]
    TooLarge {
        /// The step.
        step: String,
        /// The output column.
        column: String,
        /// The aggregate as it was written.
        text: String,
        /// Whether one key has too many, not a partition.
        is_one_key: bool,
    },
}

impl Explain for AggregateError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            AggregateError::Overflow { text, data_type: DataType::Decimal128(..), .. } => {
                format!("Give `{text}` a column with fewer digits behind the point.")
            }
            AggregateError::Overflow { text, .. } => {
                format!("Give `{text}` a column of type float64 or decimal, which hold larger numbers.")
            }
            AggregateError::TooLarge { is_one_key: true, .. } => {
                "Group by more columns, so that a key has fewer rows; `approx_distinct` and `approx_percentile` need the \
                 same memory for any number of rows."
                    .into()
            }
            AggregateError::TooLarge { step, .. } => {
                format!("Raise the `partitions` of step `{step}`, so that each has fewer keys.")
            }
        })
    }
}

#[cfg(test)]
mod tests;
