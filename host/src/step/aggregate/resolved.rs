//! An aggregate whose columns have been found: which accumulator computes it, and what it does not take.

use arrow::datatypes::{DataType, Field, Schema};

use super::accumulator::{Accumulator, Counts};
use super::chosen::{Choice, Chosen};
use super::distinct::{Distinct, Of};
use super::expression::{Expression, ExpressionProblem, Function, parse};
use super::extremes::{End, extremes};
use super::hyperloglog::ApproxDistinct;
use super::lists::CollectList;
use super::moments::{Spread, Spreads};
use super::percentile::Percentile;
use super::sums::{Avg, Numbers, Sum};
use super::t_digest::ApproxPercentile;
use crate::plan::describe_type;
use crate::shuffle::key_encoding::{is_key_type, plain_type};
use crate::step::keyed::column_hint;

/// One output column.
#[derive(Debug)]
pub(super) struct Aggregate {
    /// The output column's name.
    pub(super) name: String,
    /// As it was written, for messages.
    pub(super) text: String,
    expression: Expression,
    /// The input columns it is of; none for `count(*)`.
    pub(super) columns: Vec<Column>,
    /// The columns of its partials.
    pub(super) partials: Vec<Field>,
    /// The output column.
    pub(super) result: Field,
}

/// An input column of an aggregate.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) index: usize,
    /// Without dictionary or run-end encoding.
    data_type: DataType,
    nullable: bool,
}

/// A column of a type that the function does not take.
struct Mismatch {
    /// Which of its columns.
    column: usize,
    /// What it takes, and what takes this.
    hint: &'static str,
}

const NUMBERS: &str = "It needs integers, floats or decimals of up to 128 bits; `count`, `first` and `collect_list` take \
                       columns of any type.";
const ORDERED: &str = "It needs numbers, text, bytes, booleans, dates or times; `count`, `first` and `collect_list` take \
                       columns of any type.";
const BOOLEANS: &str = "It needs booleans; `min` and `max` take numbers, text, bytes, dates and times.";
const ORDER_BY: &str = "A row is chosen by numbers, text, bytes, booleans, dates or times.";
const EQUAL: &str = "Values can be told apart that are numbers, text, bytes, booleans, dates or times, or lists and structs \
                     of them; `count` and `collect_list` without `distinct` take others.";
const KEPT: &str = "It takes everything but unions, list views, and dictionaries inside of lists and structs.";

/// Whether values of this type can be put down and read as they are.
fn is_kept_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_) => true,
        DataType::Struct(fields) => fields.iter().all(|field| is_kept_type(field.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => is_kept_type(item.data_type()),
        // A dictionary in here stands inside of another type.
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => false,
        other => is_key_type(other),
    }
}

impl Aggregate {
    /// Finds the columns of an expression.
    pub(super) fn resolve(input: &Schema, name: &str, text: &str) -> Result<Self, ExpressionProblem> {
        let expression = parse(text)?;
        let columns = expression.column.iter().chain(&expression.by).map(|column| {
            let Some((index, field)) = input.column_with_name(column) else {
                return Err((format!("the input has no column `{column}`"), Some(column_hint(input, column))));
            };
            Ok(Column { index, data_type: plain_type(field.data_type()).clone(), nullable: field.is_nullable() })
        });
        let columns = columns.collect::<Result<_, _>>()?;
        let result = Field::new(name, DataType::Null, true);
        let aggregate =
            Self { name: name.into(), text: text.trim().into(), expression, columns, partials: vec![], result };
        let accumulator = aggregate.try_accumulator().map_err(|Mismatch { column, hint }| {
            let Column { index, data_type, .. } = &aggregate.columns[column];
            let column = input.field(*index).name();
            (
                format!("`{}` cannot work: column `{column}` has type {}", aggregate.text, describe_type(data_type)),
                Some(hint.into()),
            )
        })?;
        let partials = accumulator.partial_fields().into_iter();
        let partials = partials.map(|field| field.clone().with_name(format!("{name}.{}", field.name()))).collect();
        let result = Field::new(name, accumulator.result_type(), accumulator.result_is_nullable());
        Ok(Self { partials, result, ..aggregate })
    }

    /// An empty accumulator.
    pub(super) fn accumulator(&self) -> Option<Box<dyn Accumulator>> {
        // `resolve` has made it once.
        self.try_accumulator().ok()
    }

    fn try_accumulator(&self) -> Result<Box<dyn Accumulator>, Mismatch> {
        let Expression { function, is_distinct, ignores_nulls, fractions, .. } = &self.expression;
        // Without a column it is `count(*)`.
        let Some(Column { data_type, nullable, .. }) = self.columns.first() else {
            return Ok(Box::new(Counts::default()));
        };
        let numbers = || Numbers::of(data_type).ok_or(Mismatch { column: 0, hint: NUMBERS });
        let extremes = |end| extremes(end, data_type).ok_or(Mismatch { column: 0, hint: ORDERED });
        let require = |is_right: bool, hint| if is_right { Ok(()) } else { Err(Mismatch { column: 0, hint }) };
        let spreads = |is_sample, is_root| {
            numbers().map(|_| Box::new(Spreads::new(Spread { is_sample, is_root })) as Box<dyn Accumulator>)
        };
        if *is_distinct {
            let of = match function {
                Function::Sum => Of::Aggregate(Box::new(Sum::new(numbers()?, false))),
                Function::Avg => Of::Aggregate(Box::new(Avg::new(numbers()?))),
                _ => Of::Count,
            };
            require(is_key_type(data_type), EQUAL)?;
            return Ok(Box::new(Distinct::new(of, data_type)));
        }
        Ok(match function {
            Function::Count => Box::new(Counts::default()),
            Function::Sum => Box::new(Sum::new(numbers()?, *nullable)),
            Function::Avg => Box::new(Avg::new(numbers()?)),
            Function::Min => extremes(End::Min)?,
            Function::Max => extremes(End::Max)?,
            Function::BoolAnd | Function::BoolOr => {
                require(*data_type == DataType::Boolean, BOOLEANS)?;
                extremes(if *function == Function::BoolAnd { End::Min } else { End::Max })?
            }
            Function::Stddev => spreads(true, true)?,
            Function::StddevPop => spreads(false, true)?,
            Function::Variance => spreads(true, false)?,
            Function::VarPop => spreads(false, false)?,
            Function::Percentile => {
                numbers()?;
                Box::new(Percentile::new(fractions.clone()))
            }
            Function::ApproxPercentile => {
                numbers()?;
                Box::new(ApproxPercentile::new(fractions.clone()))
            }
            Function::ApproxDistinct => {
                require(is_key_type(data_type), EQUAL)?;
                Box::new(ApproxDistinct::default())
            }
            Function::CollectList => {
                require(is_kept_type(data_type), KEPT)?;
                Box::new(CollectList::new(data_type))
            }
            Function::CollectSet => {
                require(is_key_type(data_type), EQUAL)?;
                Box::new(Distinct::new(Of::List, data_type))
            }
            Function::First | Function::Last | Function::AnyValue | Function::MinBy | Function::MaxBy => {
                require(is_kept_type(data_type), KEPT)?;
                let by = Mismatch { column: 1, hint: ORDER_BY };
                let is_ordered = self.columns.get(1).is_none_or(|by| self::extremes(End::Min, &by.data_type).is_some());
                if !is_ordered {
                    return Err(by);
                }
                let types = self.columns.iter().map(|column| column.data_type.clone()).collect();
                Box::new(Chosen::new(self.choice(), *ignores_nulls, types).map_err(|_| by)?)
            }
        })
    }

    /// Which row is chosen, by a function that chooses one.
    fn choice(&self) -> Choice {
        let is_last = matches!(self.expression.function, Function::Last | Function::MaxBy);
        match (self.columns.len() > 1, is_last != self.expression.is_descending) {
            (false, false) => Choice::First,
            (false, true) => Choice::Last,
            (true, false) => Choice::Smallest,
            (true, true) => Choice::Greatest,
        }
    }
}
