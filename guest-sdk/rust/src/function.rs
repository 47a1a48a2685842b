//! What the macros' code calls: functions of typed rows as roles.

use std::fmt;

use crate::batch::{Batch, OwnedBatch};
use crate::builder::{BuildRow, Sizes};
use crate::role::{
    Aggregator, AggregatorPlan, Call, Carried, Failure, Output, Refusal, Rejection, Step, TransformPlan,
};
use crate::row::{ReadRow, Row, Rows, is_identity};
use crate::schema::Schema;

/// Why a row cannot be processed: the error of functions that have nothing better.
///
/// Any other error that can be displayed serves as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject(pub String);

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Reject {}

impl From<String> for Reject {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<&str> for Reject {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// The configuration, checked.
#[doc(hidden)]
pub fn open_config<C: serde::de::DeserializeOwned, E: fmt::Display>(
    step: &Step,
    check: impl FnOnce(&C) -> Result<(), E>,
) -> Result<C, Refusal> {
    let config = step.config()?;
    check(&config).map_err(|error| Refusal::Config(error.to_string()))?;
    Ok(config)
}

/// The plan of a function that reads rows of `I` and writes `writes`.
#[doc(hidden)]
pub fn plan<'a, I: ReadRow<'a>>(input: &Schema, writes: Schema, carries: Carried) -> Result<TransformPlan, Refusal> {
    I::check(input)?;
    if let Carried::Only(names) = &carries
        && let Some(missing) = names.iter().find(|name| input.find(name).is_none())
    {
        return Err(Refusal::Schema(format!("column `{missing}`, which is to be carried, is missing")));
    }
    let reads = I::fields().into_iter().map(|field| field.name).collect();
    Ok(TransformPlan { reads: Some(reads), writes, carries })
}

/// The rows of a batch that `open` has accepted.
#[doc(hidden)]
pub fn rows<'a, R: ReadRow<'a>>(batch: Batch<'a>) -> Result<Rows<'a, R>, Failure> {
    Rows::new(batch).map_err(|refusal| Failure::Fatal(refusal.to_string()))
}

/// Keeps the rows for which `keep` answers true.
#[doc(hidden)]
pub fn filter<'a, R: ReadRow<'a>>(
    batch: Batch<'a>,
    mut keep: impl FnMut(R) -> Result<bool, String>,
) -> Result<Output, Failure> {
    if batch.n_rows() == 0 {
        return Ok(Output::default());
    }
    let rows = rows::<R>(batch)?;
    let n_rows = rows.len();
    let mut origin: Vec<u32> = Vec::with_capacity(n_rows);
    let mut n_kept = 0;
    let mut rejected = Vec::new();
    let numbers = origin.spare_capacity_mut();
    for index in 0..n_rows {
        // Written at every row and advanced at those that are kept: no branch to mispredict.
        numbers[n_kept].write(index as u32);
        let kept = match rows.get(index).map(&mut keep) {
            Some(Ok(kept)) => kept,
            refused => {
                let reason = refused.and_then(Result::err).unwrap_or_else(|| rows.null_reason(index));
                rejected.push(Rejection { row: index as u32, reason });
                false
            }
        };
        n_kept += usize::from(kept);
    }
    // SAFETY: each time `n_kept` grew, the number before it had been written; it is at most `n_rows`, the capacity.
    unsafe { origin.set_len(n_kept) };
    let rows = OwnedBatch { rows: n_kept as u32, ..OwnedBatch::default() };
    Ok(Output { rows, origin: Some(origin).filter(|origin| !is_identity(origin, n_rows)), rejected })
}

/// For each column of `values`, its index among those of `R`.
#[doc(hidden)]
pub fn open_reducer<'a, R: ReadRow<'a>>(values: &Schema) -> Result<Vec<usize>, Refusal> {
    R::check(values)?;
    let schema = R::schema();
    values
        .fields
        .iter()
        .map(|field| match schema.find(&field.name) {
            Some((index, _)) => Ok(index),
            None => Err(Refusal::Schema(format!("column `{}` has no place in what is reduced: {schema}", field.name))),
        })
        .collect()
}

fn row_or_fail<'a, R: ReadRow<'a>>(rows: &Rows<'a, R>, index: usize) -> Result<R, Failure> {
    rows.get(index).ok_or_else(|| Failure::Fatal(format!("row {index}: {}", rows.null_reason(index))))
}

/// Combines the rows of each group pairwise, from the first to the last.
#[doc(hidden)]
pub fn reduce<'a, R: ReadRow<'a>>(
    values: Batch<'a>,
    ends: &[u32],
    order: &[usize],
    mut combine: impl FnMut(R, R) -> Result<R, Failure>,
) -> Result<OwnedBatch, Failure> {
    let rows = rows::<R>(values)?;
    let mut builder = R::RowBuilder::with_hints(&mut Sizes::default().hints(ends.len()));
    let mut start = 0;
    for &end in ends {
        let mut row = row_or_fail(&rows, start)?;
        for index in start + 1..end as usize {
            row = combine(row, row_or_fail(&rows, index)?)?;
        }
        row.push_row(&mut builder);
        start = end as usize;
    }
    let mut out = OwnedBatch { rows: ends.len() as u32, ..OwnedBatch::default() };
    builder.finish(&mut out);
    Ok(out.reorder(&R::schema(), order))
}

/// Combines two batches row by row.
#[doc(hidden)]
pub fn invert<'a, R: ReadRow<'a>>(
    whole: Batch<'a>,
    part: Batch<'a>,
    order: &[usize],
    mut subtract: impl FnMut(R, R) -> Result<R, Failure>,
) -> Result<OwnedBatch, Failure> {
    let (whole, part) = (rows::<R>(whole)?, rows::<R>(part)?);
    if whole.len() != part.len() {
        return Err(Failure::Fatal(format!("{} rows cannot be taken from {}", part.len(), whole.len())));
    }
    let mut builder = R::RowBuilder::with_hints(&mut Sizes::default().hints(whole.len()));
    for index in 0..whole.len() {
        subtract(row_or_fail(&whole, index)?, row_or_fail(&part, index)?)?.push_row(&mut builder);
    }
    let mut out = OwnedBatch { rows: whole.len() as u32, ..OwnedBatch::default() };
    builder.finish(&mut out);
    Ok(out.reorder(&R::schema(), order))
}

/// An aggregator of typed rows. Put `#[operator]` on the `impl`.
///
/// # Laws
///
/// Merging is associative, and adding some rows gives what merging accumulators of their parts gives.
///
/// # Examples
///
/// ```
/// use tidemill_guest::{Aggregate, Refusal, Row, Step, operator};
///
/// #[derive(Row)]
/// struct Sale {
///     amount: f64,
/// }
///
/// #[derive(Row)]
/// struct Sum {
///     total: f64,
///     count: i64,
/// }
///
/// #[derive(Row)]
/// struct Mean {
///     mean: f64,
/// }
///
/// struct MeanAmount;
///
/// #[operator]
/// impl Aggregate for MeanAmount {
///     type Input<'a> = Sale;
///     type Accumulator = Sum;
///     type Output = Mean;
///
///     fn open(_: &Step) -> Result<Self, Refusal> {
///         Ok(MeanAmount)
///     }
///     fn start(&self) -> Sum {
///         Sum { total: 0.0, count: 0 }
///     }
///     fn add(&self, sum: &mut Sum, sale: Sale) {
///         sum.total += sale.amount;
///         sum.count += 1;
///     }
///     fn merge(&self, sum: &mut Sum, other: Sum) {
///         sum.total += other.total;
///         sum.count += other.count;
///     }
///     fn finish(&self, sum: Sum) -> Mean {
///         Mean { mean: sum.total / sum.count as f64 }
///     }
/// }
/// # fn main() {}
/// ```
pub trait Aggregate: Sized {
    /// The columns that are read.
    type Input<'a>: ReadRow<'a>;
    /// What is kept of a group.
    type Accumulator: Row + for<'a> ReadRow<'a>;
    /// What is made of it.
    type Output: Row;

    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step) -> Result<Self, Refusal>;

    /// The accumulator of no rows.
    fn start(&self) -> Self::Accumulator;

    /// Adds a row.
    fn add(&self, accumulator: &mut Self::Accumulator, row: Self::Input<'_>);

    /// Adds another accumulator, of rows that come after.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);

    /// The result.
    fn finish(&self, accumulator: Self::Accumulator) -> Self::Output;
}

/// An [`Aggregate`] as an [`Aggregator`].
#[derive(Debug)]
pub struct Aggregating<A>(A);

impl<A: Aggregate> Aggregating<A> {
    /// One accumulator a group of the rows of `batch`.
    fn group<'a, R: ReadRow<'a>>(
        &self,
        batch: Batch<'a>,
        ends: &[u32],
        mut add: impl FnMut(&A, &mut A::Accumulator, R),
    ) -> Result<OwnedBatch, Failure> {
        let rows = rows::<R>(batch)?;
        let hints = Sizes::default();
        let mut builder = <A::Accumulator as Row>::RowBuilder::with_hints(&mut hints.hints(ends.len()));
        let mut start = 0;
        for &end in ends {
            let mut accumulator = self.0.start();
            for index in start..end as usize {
                add(&self.0, &mut accumulator, row_or_fail(&rows, index)?);
            }
            accumulator.push_row(&mut builder);
            start = end as usize;
        }
        let mut out = OwnedBatch { rows: ends.len() as u32, ..OwnedBatch::default() };
        builder.finish(&mut out);
        Ok(out)
    }
}

impl<A: Aggregate> Aggregator for Aggregating<A> {
    fn open(step: &Step, values: &Schema) -> Result<(AggregatorPlan, Self), Refusal> {
        let aggregate = A::open(step)?;
        A::Input::check(values)?;
        let plan = AggregatorPlan {
            reads: Some(A::Input::fields().into_iter().map(|field| field.name).collect()),
            accumulator: A::Accumulator::schema(),
            result: A::Output::schema(),
        };
        Ok((plan, Self(aggregate)))
    }

    fn accumulate(&mut self, _: &Call, values: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure> {
        self.group::<A::Input<'_>>(values, ends, A::add)
    }

    fn merge(&mut self, _: &Call, accumulators: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure> {
        self.group::<A::Accumulator>(accumulators, ends, A::merge)
    }

    fn finish(&mut self, _: &Call, accumulators: Batch<'_>) -> Result<OwnedBatch, Failure> {
        let rows = rows::<A::Accumulator>(accumulators)?;
        let mut builder = <A::Output as Row>::RowBuilder::with_hints(&mut Sizes::default().hints(rows.len()));
        for index in 0..rows.len() {
            self.0.finish(row_or_fail(&rows, index)?).push_row(&mut builder);
        }
        let mut out = OwnedBatch { rows: rows.len() as u32, ..OwnedBatch::default() };
        builder.finish(&mut out);
        Ok(out)
    }
}

/// The configuration of an operator that has none: a step that gives one is refused.
#[doc(hidden)]
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
