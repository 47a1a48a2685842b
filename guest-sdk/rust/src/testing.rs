//! Runs operators in tests: rows in, rows out, without a host.
//!
//! ```
//! use tidemill_guest::{Row, operator, testing};
//!
//! #[derive(Row)]
//! struct Number {
//!     n: i64,
//! }
//!
//! #[operator]
//! fn double(number: Number) -> Number {
//!     Number { n: 2 * number.n }
//! }
//!
//! # fn main() {
//! let ran = testing::transform(&double::operator(), "{}", [Number { n: 1 }, Number { n: 2 }]).unwrap();
//! assert_eq!(ran.column::<i64>("n"), [Some(2), Some(4)]);
//! # }
//! ```

use std::error::Error;

use crate::batch::{Batch, OwnedBatch};
use crate::native::Operator;
use crate::role::{Call, Output, Rejection, Step};
use crate::row::Row;
use crate::schema::Schema;
use crate::value::Read;

/// Why a run has no result: a refusal, a failure, a role that the operator does not have, a batch against the contract.
pub type RunError = Box<dyn Error + Send + Sync>;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The schema of the rows.
    pub schema: Schema,
    /// The rows.
    pub rows: OwnedBatch,
    /// For each row the row of the input that it came from, as a transform says it.
    pub origin: Option<Vec<u32>>,
    /// Rows of the input that were rejected.
    pub rejected: Vec<Rejection>,
}

impl Ran {
    fn new(schema: Schema, output: Output) -> Result<Self, RunError> {
        let Output { rows, origin, rejected } = output;
        Batch::checked(&schema, rows.rows, &rows.nodes, &rows.slices())?;
        Ok(Self { schema, rows, origin, rejected })
    }

    /// The values of a column, `None` where one is null.
    ///
    /// # Panics
    ///
    /// When there is no column of this name and type.
    #[must_use]
    #[track_caller]
    pub fn column<T: for<'a> Read<'a>>(&self, name: &str) -> Vec<Option<T>> {
        let buffers = self.rows.slices();
        match Batch::checked(&self.schema, self.rows.rows, &self.rows.nodes, &buffers) {
            Ok(batch) => match batch.column(name).and_then(|column| column.read::<T>()) {
                Some(column) => (0..batch.n_rows()).map(|index| T::get(&column, index)).collect(),
                None => panic!("no column `{name}` of this type: the rows have {}", self.schema),
            },
            Err(rule) => panic!("{rule}"),
        }
    }

    /// The rows that were rejected, as numbers and reasons.
    #[must_use]
    pub fn rejections(&self) -> Vec<(u32, &str)> {
        self.rejected.iter().map(|rejection| (rejection.row, rejection.reason.as_str())).collect()
    }
}

/// The step that an operator is told it runs in.
#[must_use]
pub fn step(config: &str) -> Step {
    Step { job: "test".into(), step: "step".into(), partitions: 1, config: config.into() }
}

/// Opens a transform, and processes rows in one call.
///
/// # Errors
///
/// See [`RunError`].
pub fn transform<R: Row>(
    operator: &Operator,
    config: &str,
    rows: impl IntoIterator<Item = R>,
) -> Result<Ran, RunError> {
    let open = operator.as_transform().ok_or("the operator is not a transform")?;
    let input = R::batch(rows);
    let schema = R::schema();
    let (plan, mut transform) = open(&step(config), &schema)?;
    let (schema, input) = select(schema, input, plan.reads.as_deref())?;
    let buffers = input.slices();
    let batch = Batch::checked(&schema, input.rows, &input.nodes, &buffers)?;
    let output = transform.process(&Call::default(), batch)?;
    Ran::new(plan.writes, output)
}

/// Opens a reducer, and reduces groups: `ends[i]` is the exclusive end of group i among the rows.
///
/// # Errors
///
/// See [`RunError`].
pub fn reduce<R: Row>(
    operator: &Operator,
    config: &str,
    rows: impl IntoIterator<Item = R>,
    ends: &[u32],
) -> Result<Ran, RunError> {
    let open = operator.as_reducer().ok_or("the operator is not a reducer")?;
    let (schema, input) = (R::schema(), R::batch(rows));
    let (_, mut reducer) = open(&step(config), &schema)?;
    let buffers = input.slices();
    let batch = Batch::checked(&schema, input.rows, &input.nodes, &buffers)?;
    let rows = reducer.reduce(&Call::default(), batch, ends)?;
    Ran::new(schema, Output { rows, ..Output::default() })
}

/// Opens a reducer, and takes `part` out of `whole`, row by row. `Ok(None)` when it says that it cannot.
///
/// # Errors
///
/// See [`RunError`].
pub fn invert<R: Row>(
    operator: &Operator,
    config: &str,
    whole: impl IntoIterator<Item = R>,
    part: impl IntoIterator<Item = R>,
) -> Result<Option<Ran>, RunError> {
    let open = operator.as_reducer().ok_or("the operator is not a reducer")?;
    let (schema, whole, part) = (R::schema(), R::batch(whole), R::batch(part));
    let (invertible, mut reducer) = open(&step(config), &schema)?;
    if !invertible {
        return Ok(None);
    }
    let (whole_buffers, part_buffers) = (whole.slices(), part.slices());
    let whole = Batch::checked(&schema, whole.rows, &whole.nodes, &whole_buffers)?;
    let part = Batch::checked(&schema, part.rows, &part.nodes, &part_buffers)?;
    let rows = reducer.invert(&Call::default(), whole, part)?;
    Ran::new(schema, Output { rows, ..Output::default() }).map(Some)
}

/// Opens an aggregator, and aggregates groups: each row by itself, the accumulators of a group merged, and finished.
///
/// # Errors
///
/// See [`RunError`].
pub fn aggregate<R: Row>(
    operator: &Operator,
    config: &str,
    rows: impl IntoIterator<Item = R>,
    ends: &[u32],
) -> Result<Ran, RunError> {
    let open = operator.as_aggregator().ok_or("the operator is not an aggregator")?;
    let (schema, input) = (R::schema(), R::batch(rows));
    let (plan, mut aggregator) = open(&step(config), &schema)?;
    let (schema, input) = select(schema, input, plan.reads.as_deref())?;
    let call = Call::default();
    let buffers = input.slices();
    let batch = Batch::checked(&schema, input.rows, &input.nodes, &buffers)?;
    let single: Vec<u32> = (1..=input.rows).collect();
    let singles = aggregator.accumulate(&call, batch, &single)?;
    let buffers = singles.slices();
    let batch = Batch::checked(&plan.accumulator, singles.rows, &singles.nodes, &buffers)?;
    let merged = aggregator.merge(&call, batch, ends)?;
    let buffers = merged.slices();
    let batch = Batch::checked(&plan.accumulator, merged.rows, &merged.nodes, &buffers)?;
    let rows = aggregator.finish(&call, batch)?;
    Ran::new(plan.result, Output { rows, ..Output::default() })
}

/// The columns that a plan reads, in its order.
fn select(schema: Schema, input: OwnedBatch, reads: Option<&[String]>) -> Result<(Schema, OwnedBatch), RunError> {
    let Some(names) = reads else { return Ok((schema, input)) };
    let missing = |name: &String| format!("the operator reads `{name}`, the input has {schema}");
    let order = names
        .iter()
        .map(|name| schema.find(name).map(|(index, _)| index).ok_or_else(|| missing(name)))
        .collect::<Result<Vec<_>, _>>()?;
    let selected = Schema::new(order.iter().map(|&index| schema.fields[index].clone()).collect());
    Ok((selected, input.reorder(&schema, &order)))
}
