//! The roles that get rows in groups and keep nothing: reducer, aggregator, grouper.

use tidemill_guest::any::AnyBatchBuilder;
use tidemill_guest::builder::{Build, Validity};
use tidemill_guest::value::Value;
use tidemill_guest::{
    Aggregator, AggregatorPlan, Batch, Call, DataType, Failure, Field, Grouped, Grouper, GrouperOutput, GrouperPlan,
    OwnedBatch, Reducer, Refusal, Rejection, Schema, Step, operator,
};

use crate::config::Config;
use crate::{append, behind, take};

/// The last row of each group.
fn last_rows(ends: &[u32]) -> Vec<u32> {
    ends.iter().map(|end| end - 1).collect()
}

/// The first row of each group, with its end.
pub(crate) fn spans(ends: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    std::iter::once(0).chain(ends.iter().copied()).zip(ends.iter().copied())
}

/// A column of whole numbers, appended to a batch.
pub(crate) fn append_integers(numbers: impl IntoIterator<Item = i64>, out: &mut OwnedBatch) {
    let mut column = <i64 as Value>::Builder::new();
    numbers.into_iter().for_each(|number| column.push(number));
    column.finish(Validity::ALL, out);
}

/// Keeps the last row.
pub struct Last {
    config: Config,
}

#[operator]
impl Reducer for Last {
    fn open(step: &Step, _: &Schema) -> Result<(bool, Self), Refusal> {
        let config = Config::without_rejections(step)?;
        Ok((config.invertible, Self { config }))
    }

    fn reduce(&mut self, _: &Call, values: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure> {
        self.config.begin_call(values.n_rows())?;
        Ok(take(self.config.by, values, &last_rows(ends)))
    }

    fn invert(&mut self, _: &Call, whole: Batch<'_>, _: Batch<'_>) -> Result<OwnedBatch, Failure> {
        let rows: Vec<u32> = (0..whole.n_rows() as u32).collect();
        Ok(take(self.config.by, whole, &rows))
    }
}

/// Counts rows, and keeps the last.
pub struct CountAndLast {
    config: Config,
}

impl CountAndLast {
    /// Counts, and rows of a batch whose columns begin at `first`.
    fn batch(&self, counts: &[i64], rows: Batch<'_>, first: usize, taken: &[u32]) -> OwnedBatch {
        let mut out = OwnedBatch { rows: counts.len() as u32, ..OwnedBatch::default() };
        append_integers(counts.iter().copied(), &mut out);
        let columns = rows.any_columns().split_off(first);
        let mut last = AnyBatchBuilder::new(&rows.schema().fields[first..]);
        append(self.config.by, &columns, taken, &mut last);
        last.append_to(&mut out);
        out
    }

    /// The counts of accumulators.
    fn counts(accumulators: Batch<'_>) -> Result<Vec<i64>, Failure> {
        let column = accumulators.columns().next().and_then(|column| column.read::<i64>());
        Ok(column.ok_or("accumulators have no column `rows`")?.values().collect())
    }
}

#[operator]
impl Aggregator for CountAndLast {
    fn open(step: &Step, values: &Schema) -> Result<(AggregatorPlan, Self), Refusal> {
        let config = Config::without_rejections(step)?;
        let accumulator = behind(&[Field::new("rows", DataType::Int64)], values)?;
        let plan = AggregatorPlan { reads: None, result: accumulator.clone(), accumulator };
        Ok((plan, Self { config }))
    }

    fn accumulate(&mut self, _: &Call, values: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure> {
        self.config.begin_call(values.n_rows())?;
        let counts: Vec<_> = spans(ends).map(|(start, end)| i64::from(end - start)).collect();
        Ok(self.batch(&counts, values, 0, &last_rows(ends)))
    }

    fn merge(&mut self, _: &Call, accumulators: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure> {
        self.config.begin_call(accumulators.n_rows())?;
        let counts = Self::counts(accumulators)?;
        let merged: Vec<_> =
            spans(ends).map(|(start, end)| counts[start as usize..end as usize].iter().sum()).collect();
        Ok(self.batch(&merged, accumulators, 1, &last_rows(ends)))
    }

    fn finish(&mut self, _: &Call, accumulators: Batch<'_>) -> Result<OwnedBatch, Failure> {
        self.config.begin_call(accumulators.n_rows())?;
        let rows: Vec<u32> = (0..accumulators.n_rows() as u32).collect();
        Ok(take(self.config.by, accumulators, &rows))
    }
}

/// The rows of each group, the last first.
pub struct Reversed {
    config: Config,
}

#[operator]
impl Grouper for Reversed {
    fn open(step: &Step, _: &Schema, inputs: &[Schema]) -> Result<(GrouperPlan, Self), Refusal> {
        let config = Config::open(step)?;
        if inputs.iter().any(|input| *input != inputs[0]) {
            return Err(Refusal::Schema("the inputs have different columns".into()));
        }
        let plan = GrouperPlan { reads: vec![None; inputs.len()], writes: inputs[0].clone() };
        Ok((plan, Self { config }))
    }

    fn process(&mut self, _: &Call, keys: Batch<'_>, inputs: &[Grouped<'_>]) -> Result<GrouperOutput, Failure> {
        self.config.begin_call(inputs.iter().map(|input| input.rows.n_rows()).sum())?;
        let columns: Vec<_> = inputs.iter().map(|input| input.rows.any_columns()).collect();
        let mut out = AnyBatchBuilder::new(&inputs[0].rows.schema().fields);
        let mut group = Vec::new();
        for number in 0..keys.n_rows() {
            for (input, columns) in inputs.iter().zip(&columns) {
                let start = if number == 0 { 0 } else { input.ends[number - 1] };
                let kept = |row: &u32| !self.config.rejects(u64::from(*row));
                let rows: Vec<u32> = (start..input.ends[number]).rev().filter(kept).collect();
                append(self.config.by, columns, &rows, &mut out);
                group.extend(rows.iter().map(|_| number as u32));
            }
        }
        let rejected = inputs.iter().enumerate().map(|(index, input)| {
            let rows = (0..input.rows.n_rows() as u32).filter(|row| self.config.rejects(u64::from(*row)));
            rows.map(|row| Rejection { row, reason: format!("row {row} of input {index} is rejected") }).collect()
        });
        Ok(GrouperOutput { rows: out.finish(), group, rejected: rejected.collect() })
    }
}
