//! The two halves of built-in aggregates: before the shuffle and behind it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

use super::accumulator::{Accumulator, Inverse, NoResult, TooLarge};
use super::{AggregateError, AggregateSpec};
use crate::error::Error;
use crate::ids::PartitionId;
use crate::shuffle::key_encoding::plain;
use crate::step::key_table::KeyTable;
use crate::step::keyed::{KeyedStep, batch_of, emit_in_chunks, internal};
use crate::step::partials::PartialOps;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Bytes of groups that a task holds before the shuffle; with more it gives its partials on and starts anew.
///
/// Two million keys of ten bytes with one count, or what four tasks may have beside each other in 128 MiB.
const TABLE_BYTES_MAX: usize = 32 << 20;

/// The groups of one task.
struct Groups {
    spec: AggregateSpec,
    table: KeyTable,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// Group of each row of the batch at work; kept for its memory.
    groups: Vec<u32>,
}

impl Groups {
    fn new(spec: &AggregateSpec) -> Self {
        let types: Vec<_> = spec.0.keys.fields.iter().map(|field| field.data_type().clone()).collect();
        let accumulators = spec.0.aggregates.iter().filter_map(|aggregate| aggregate.accumulator()).collect();
        Self { spec: spec.clone(), table: KeyTable::new(&types), accumulators, groups: Vec::new() }
    }

    fn group(&mut self, keys: &[ArrayRef], n_rows: usize) -> Result<(), Error> {
        let step = &self.spec.0.step;
        self.table
            .group_rows(keys, n_rows, &mut self.groups)
            .map_err(internal(format!("grouping the rows of step `{step}`")))?;
        self.resize();
        Ok(())
    }

    fn resize(&mut self) {
        for accumulator in &mut self.accumulators {
            accumulator.resize(self.table.len());
        }
    }

    fn bytes(&self) -> usize {
        self.table.bytes() + self.accumulators.iter().map(|accumulator| accumulator.bytes()).sum::<usize>()
    }

    /// The error of aggregate number `index`.
    fn error(&self, index: usize, error: NoResult) -> Error {
        let spec = &self.spec.0;
        let aggregate = &spec.aggregates[index];
        match error {
            NoResult::Overflow => AggregateError::Overflow {
                step: spec.step.clone(),
                column: aggregate.name.clone(),
                text: aggregate.text.clone(),
                data_type: spec.output.field(spec.keys.len() + index).data_type().clone(),
            }
            .into(),
            NoResult::TooLarge(whose) => AggregateError::TooLarge {
                step: spec.step.clone(),
                column: aggregate.name.clone(),
                text: aggregate.text.clone(),
                is_one_key: whose == TooLarge::Key,
            }
            .into(),
            NoResult::Arrow(source) => {
                internal(format!("computing `{}` in step `{}`", aggregate.text, spec.step))(source)
            }
        }
    }

    /// Adds partials to the groups that `self.groups` has for their rows.
    fn merge(&mut self, partials: &RecordBatch) -> Result<(), Error> {
        let spec = Arc::clone(&self.spec.0);
        let mut first = spec.keys.len();
        for (index, aggregate) in spec.aggregates.iter().enumerate() {
            let columns = &partials.columns()[first..first + aggregate.partials.len()];
            first += aggregate.partials.len();
            self.accumulators[index].merge(&self.groups, columns).map_err(|error| self.error(index, error))?;
        }
        Ok(())
    }

    /// Adds partials to the groups of their keys.
    fn group_and_merge(&mut self, partials: &RecordBatch) -> Result<(), Error> {
        let n_keys = self.spec.0.keys.len();
        self.group(&partials.columns()[..n_keys], partials.num_rows())?;
        self.merge(partials)
    }

    /// Adds partials to a group for each row, in order, whatever their keys.
    fn merge_row_by_row(&mut self, partials: &RecordBatch) -> Result<(), Error> {
        let n_rows = partials.num_rows();
        self.groups.clear();
        self.groups.extend(0..n_rows as u32);
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(n_rows));
        self.merge(partials)
    }

    /// Takes all groups, as partials or as results.
    fn take(&mut self, results: bool) -> Result<RecordBatch, Error> {
        let doing = format!("putting the output of step `{}` together", self.spec.0.step);
        let keys = self.table.keys().map_err(internal(doing))?;
        let n_groups = self.table.len();
        self.table.clear();
        self.take_with_keys(keys, n_groups, results)
    }

    /// Takes all groups, whose keys these are.
    fn take_with_keys(&mut self, keys: Vec<ArrayRef>, n_groups: usize, results: bool) -> Result<RecordBatch, Error> {
        let mut columns = keys;
        for index in 0..self.accumulators.len() {
            let accumulator = &mut self.accumulators[index];
            let taken = if results {
                accumulator.take_results().map(|column| vec![column])
            } else {
                accumulator.take_partials()
            };
            columns.extend(taken.map_err(|error| self.error(index, error))?);
        }
        let schema = if results { self.spec.output_schema() } else { self.spec.partial_schema() };
        let doing = format!("putting the output of step `{}` together", self.spec.0.step);
        batch_of(schema, columns, n_groups).map_err(internal(doing))
    }
}

pub(super) struct CombineFactory(pub(super) AggregateSpec);

impl StepFactory for CombineFactory {
    fn start(&self, _: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Combine { groups: Groups::new(&self.0), bytes_max: TABLE_BYTES_MAX }))
    }
}

/// Before the shuffle: rows to partials.
struct Combine {
    groups: Groups,
    bytes_max: usize,
}

impl PipelineStep for Combine {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let groups = &mut self.groups;
        let spec = Arc::clone(&groups.spec.0);
        groups.group(&spec.keys.of(&rows), rows.num_rows())?;
        for (index, aggregate) in spec.aggregates.iter().enumerate() {
            let values: Result<Vec<_>, _> =
                aggregate.columns.iter().map(|column| plain(rows.column(column.index))).collect();
            let updated = values
                .map_err(NoResult::from)
                .and_then(|values| groups.accumulators[index].update(&groups.groups, &values));
            updated.map_err(|error| groups.error(index, error))?;
        }
        if groups.bytes() <= self.bytes_max || groups.table.len() == 0 {
            return Ok(());
        }
        self.finish(emit)?;
        // A new one, because one that has been taken from keeps its memory, and would be full at once.
        self.groups = Groups::new(&self.groups.spec);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        emit_in_chunks(&self.groups.take(false)?, emit)
    }
}

pub(super) struct MergeFactory(pub(super) AggregateSpec);

impl StepFactory for MergeFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let is_alone = self.0.is_global() && task.stage_partition == PartitionId(0);
        // The batch that closes a job has rows only where something was kept: no rows are no batch there.
        let answers_of_nothing = is_alone && !task.times.closes();
        Ok(Box::new(Merge { groups: Groups::new(&self.0), answers_of_nothing }))
    }
}

/// Behind the shuffle: partials to results.
struct Merge {
    groups: Groups,
    /// Whether there is a result even of no rows.
    answers_of_nothing: bool,
}

impl PipelineStep for Merge {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.groups.group_and_merge(&rows)
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        if self.answers_of_nothing {
            self.groups.table.ensure_global_group();
            self.groups.resize();
        }
        emit_in_chunks(&self.groups.take(true)?, emit)
    }
}

/// Partials outside of the two halves.
pub(super) struct AggregateOps(Groups);

impl AggregateOps {
    pub(super) fn new(spec: &AggregateSpec) -> Self {
        Self(Groups::new(spec))
    }

    fn take_away(&mut self, whole: &RecordBatch, part: &RecordBatch) -> Result<Option<RecordBatch>, Error> {
        let groups = &mut self.0;
        groups.merge_row_by_row(whole)?;
        let spec = Arc::clone(&groups.spec.0);
        let mut first = spec.keys.len();
        let mut can_be_told = true;
        for (index, aggregate) in spec.aggregates.iter().enumerate() {
            let columns = &part.columns()[first..first + aggregate.partials.len()];
            first += aggregate.partials.len();
            let taken = groups.accumulators[index].take_away(&groups.groups, columns);
            can_be_told &= taken.map_err(|error| groups.error(index, error))?;
        }
        // Also when it is of no use: taking leaves the accumulators without groups.
        let rest = groups.take_with_keys(whole.columns()[..spec.keys.len()].to_vec(), whole.num_rows(), false)?;
        Ok(can_be_told.then_some(rest))
    }
}

impl PartialOps for AggregateOps {
    fn merge(&mut self, partials: &[RecordBatch]) -> Result<RecordBatch, Error> {
        partials.iter().try_for_each(|partials| self.0.group_and_merge(partials))?;
        self.0.take(false)
    }

    fn finish(&mut self, partials: &RecordBatch) -> Result<RecordBatch, Error> {
        self.0.merge_row_by_row(partials)?;
        let n_keys = self.0.spec.0.keys.len();
        self.0.take_with_keys(partials.columns()[..n_keys].to_vec(), partials.num_rows(), true)
    }

    fn invert(&mut self, whole: &RecordBatch, part: &RecordBatch) -> Option<Result<RecordBatch, Error>> {
        if self.is_invertible() { self.take_away(whole, part).transpose() } else { None }
    }

    fn is_invertible(&self) -> bool {
        self.0.accumulators.iter().all(|accumulator| accumulator.inverse() != Inverse::Impossible)
    }

    fn drifts(&self) -> bool {
        self.0.accumulators.iter().any(|accumulator| accumulator.inverse() == Inverse::Drifting)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;
    use crate::step::testing::{rows, run_half, task, texts};

    #[test]
    fn a_full_table_gives_its_partials_on_and_starts_anew() {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..10_000).map(|i| i % 5_000)));
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
        let input = rows(vec![("key", keys), ("v", values)]);
        let select = [
            "count(*)",
            "collect_list(v)",
            "count(distinct v)",
            "last(v)",
            "min_by(v, v)",
            "approx_distinct(v)",
            "percentile(v, 1)",
            "approx_percentile(v, 1)",
        ];
        let select = select.map(|text| (text.to_string(), text.to_string()));
        let spec = AggregateSpec::resolve("totals", &input.schema(), &["key".into()], &select).expect("it is right");
        let mut combine = Combine { groups: Groups::new(&spec), bytes_max: 100_000 };
        let mut partials = Vec::new();
        let mut emit = |rows: RecordBatch| {
            partials.push(rows);
            Ok(())
        };
        for start in (0..10_000).step_by(1_000) {
            combine.push(input.slice(start, 1_000), &mut emit).expect("it runs");
        }
        combine.finish(&mut emit).expect("it runs");
        assert!(partials.len() > 1, "it gave some before the end");
        let results = run_half(&*spec.merge(), task(0).partition.0, &partials).expect("it runs");
        let texts = texts(&results);
        assert_eq!(texts.len(), 5_000);
        for (key, text) in texts.iter().enumerate() {
            let last = key + 5_000;
            assert_eq!(*text, format!("{key}|2|[{key}, {last}]|2|{last}|{key}|2|{last}.0|{last}.0"));
        }
    }

    #[test]
    fn a_table_that_was_full_fills_again_before_it_is_emptied() {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..60_000));
        let input = rows(vec![("key", keys)]);
        let spec = AggregateSpec::resolve("totals", &input.schema(), &["key".into()], &[]).expect("it is right");
        let mut combine = Combine { groups: Groups::new(&spec), bytes_max: 1_000_000 };
        let mut n_emptied = 0;
        let mut emit = |_| {
            n_emptied += 1;
            Ok(())
        };
        for start in (0..60_000).step_by(1_000) {
            combine.push(input.slice(start, 1_000), &mut emit).expect("it runs");
        }
        assert!((1..10).contains(&n_emptied), "it was emptied {n_emptied} times");
    }

    #[test]
    fn large_results_come_in_chunks() {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let input = rows(vec![("key", keys)]);
        let spec = AggregateSpec::resolve("totals", &input.schema(), &["key".into()], &[]).expect("it is right");
        let partials = run_half(&*spec.combine(), 0, &[input]).expect("it runs");
        let results = run_half(&*spec.merge(), 0, &partials).expect("it runs");
        assert_eq!(results.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [65_536, 34_464]);
    }
}
