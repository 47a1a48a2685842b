//! Built-in aggregates by key: `count`, `sum`, `min`, `max`, `avg`.
//!
//! | aggregate | of | result |
//! | --- | --- | --- |
//! | `count(*)` | rows | int64, never null |
//! | `count(c)` | rows where `c` is not null | int64, never null |
//! | `sum(c)` | signed, unsigned integers, floats, decimals | int64, uint64, float64, decimal128 of 38 digits and `c`'s scale |
//! | `min(c)`, `max(c)` | numbers, text, bytes, booleans, dates, times, timestamps, durations | the type of `c` |
//! | `avg(c)` | integers and floats, decimals | float64, decimal128 of 38 digits and 4 more behind the point |
//!
//! Nulls are left out, as in SQL; of no value, all but `count` are null. A sum that does not fit its type is an error,
//! not a wrong number. NaN is greater than every number. Without keys there is one group, and one result even of no
//! rows: then `count` is 0.
//!
//! Results come in the order in which their keys first appeared.

mod accumulator;
mod expression;
mod extremes;
mod steps;
mod sums;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

pub use expression::Function;

use crate::error::{Error, Explain, Fault};
use crate::shuffle::key_encoding::plain_type;
use crate::step::StepFactory;
use crate::step::keyed::{KeyColumns, KeyedStep, SpecProblem, column_hint};
use crate::step::partials::PartialOps;
use crate::task::TaskContext;
use accumulator::{Accumulator, Counts};
use extremes::{End, extremes};
use sums::{Avg, Numbers, Sum};

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

/// One output column.
#[derive(Debug)]
struct Aggregate {
    /// The output column's name.
    name: String,
    /// As it was written, for messages.
    text: String,
    function: Function,
    /// The input columns it is of; none for `count(*)`.
    columns: Vec<Column>,
    /// How many columns its partials have.
    n_partials: usize,
}

/// An input column of an aggregate.
#[derive(Debug)]
struct Column {
    index: usize,
    /// Without dictionary or run-end encoding.
    data_type: DataType,
    nullable: bool,
}

impl Aggregate {
    /// An empty accumulator; `None` when the function has no meaning for the column's type.
    fn accumulator(&self) -> Option<Box<dyn Accumulator>> {
        if self.function == Function::Count {
            return Some(Box::new(Counts::default()));
        }
        let Column { data_type, nullable, .. } = self.columns.first()?;
        match self.function {
            Function::Count => Some(Box::new(Counts::default())),
            Function::Sum => Some(Box::new(Sum::new(Numbers::of(data_type)?, *nullable))),
            Function::Avg => Some(Box::new(Avg::new(Numbers::of(data_type)?))),
            Function::Min => extremes(End::Min, data_type),
            Function::Max => extremes(End::Max, data_type),
        }
    }

    /// The columns of its partials, and its result; `None` as for [`Aggregate::accumulator`].
    fn fields(&self) -> Option<(Vec<Field>, Field)> {
        self.accumulator()?;
        let result = |data_type, nullable| Field::new(&self.name, data_type, nullable);
        if self.function == Function::Count {
            let field = result(Counts::TYPE, false);
            return Some((vec![field.clone()], field));
        }
        let Column { data_type, nullable, .. } = self.columns.first()?;
        let sum = |numbers: Numbers| Field::new(format!("{}.sum", self.name), numbers.partial_type(), true);
        let count = Field::new(format!("{}.count", self.name), Counts::TYPE, false);
        Some(match self.function {
            Function::Sum => {
                let numbers = Numbers::of(data_type)?;
                let partials = if *nullable { vec![sum(numbers), count] } else { vec![sum(numbers)] };
                (partials, result(numbers.sum_type(), true))
            }
            Function::Avg => {
                let numbers = Numbers::of(data_type)?;
                (vec![sum(numbers), count], result(numbers.avg_type(), true))
            }
            _ => (vec![result(data_type.clone(), true)], result(data_type.clone(), true)),
        })
    }
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
            let aggregate = match resolve_aggregate(input, name, text) {
                Ok(aggregate) => aggregate,
                Err((message, hint)) => {
                    problem(message, hint);
                    continue;
                }
            };
            match aggregate.fields() {
                Some((partials, result)) => {
                    aggregates.push(Aggregate { n_partials: partials.len(), ..aggregate });
                    partial.extend(partials);
                    results.push(result);
                }
                None => {
                    let (message, hint) = wrong_type(input, &aggregate);
                    problem(message, Some(hint));
                }
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

fn resolve_aggregate(input: &Schema, name: &str, text: &str) -> Result<Aggregate, expression::ExpressionProblem> {
    let expression = expression::parse(text)?;
    let columns = expression.column.iter().map(|column| match input.column_with_name(column) {
        Some((index, field)) => {
            Ok(Column { index, data_type: plain_type(field.data_type()).clone(), nullable: field.is_nullable() })
        }
        None => Err((format!("the input has no column `{column}`"), Some(column_hint(input, column)))),
    });
    let columns = columns.collect::<Result<_, _>>()?;
    Ok(Aggregate { name: name.into(), text: text.trim().into(), function: expression.function, columns, n_partials: 0 })
}

fn wrong_type(input: &Schema, aggregate: &Aggregate) -> (String, String) {
    let (column, data_type) = match aggregate.columns.first() {
        Some(column) => (input.field(column.index).name().as_str(), &column.data_type),
        None => ("*", &DataType::Null),
    };
    let message = format!("`{}` cannot work: column `{column}` has type {data_type}", aggregate.text);
    let hint = match aggregate.function {
        Function::Sum | Function::Avg => "It needs integers, floats or decimals of up to 128 bits.",
        _ => "It needs numbers, text, bytes, booleans, dates or times.",
    };
    (message, hint.into())
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
    #[error("`{text}` overflowed in column `{column}` of step `{step}`: a value does not fit {data_type}")]
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
}

impl Explain for AggregateError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        let AggregateError::Overflow { text, data_type, .. } = self;
        Some(match data_type {
            DataType::Decimal128(..) => format!("Give `{text}` a column with fewer digits behind the point."),
            _ => format!("Give `{text}` a column of type float64 or decimal128, which hold larger numbers."),
        })
    }
}

#[cfg(test)]
mod tests;
