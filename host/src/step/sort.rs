//! `sort = ["price desc"]`, or `sort = { by, partitions }`: the rows of a batch in an order, over all partitions.
//!
//! ```text
//!  rows ── shuffle by range ──▶ partition 0: the first rows, sorted
//!                               partition 1: the next, sorted …
//! ```
//!
//! A partition that memory has no room for is sorted piece by piece; the pieces go to disk, and are merged in the end.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::error::Error;
use crate::job::table::Table;
use crate::operator::StopFlag;
use crate::shuffle::Partitioning;
use crate::spill::{Spill, SpillUse, TaskMemory, Tracked};
use crate::step::chunks::batch_bytes;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, emit_in_chunks, internal};
use crate::step::order::Order;
use crate::step::runs::{Run, RunPiece, RunWriter, merge_runs, rows_within};
use crate::step::times::TimeColumns;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;
use crate::task::pipeline::Cancelled;

/// Runs that are merged at once, at most: each has a record in memory then.
const RUNS_MAX: usize = 64;

/// What sorting takes beside the rows that wait, in their bytes: the rows in one piece, their places in the order, and the rows
/// in order.
const SORT_COPIES: u64 = 4;

/// The step: every batch sorted, partition 0 having the first rows. Rows that are equal stand as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    /// Terms as in `price desc`.
    pub order: Vec<String>,
    /// Partitions after the shuffle; one when not said.
    pub partitions: Option<u32>,
}

impl Sort {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        const HINT: &str = "Write `sort = [\"price desc\"]`, or `sort = { by = [\"price desc\"], partitions = 4 }`.";
        if !table.is_table("sort") {
            let order = table.texts("sort")?;
            if order.is_empty() {
                table.problem("sort", "`sort` is empty", Some(HINT.into()));
                return None;
            }
            return Some(Self { order, partitions: None });
        }
        let mut inner = table.table("sort")?;
        if !inner.has("by") {
            inner.missing("by", Some(HINT.into()));
        }
        let by = inner.texts("by");
        if by.as_ref().is_some_and(Vec::is_empty) {
            inner.problem("by", "`by` is empty", Some(HINT.into()));
        }
        let partitions = crate::job::steps::read_partitions(&mut inner);
        inner.finish();
        let order = by.filter(|by| !by.is_empty())?;
        Some(Self { order, partitions })
    }
}

impl StepDefinition for Sort {
    fn kind(&self) -> &'static str {
        "sort"
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        context.times().through(output, |name| Some(name.to_owned()))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input().clone();
        let mut problems = Vec::new();
        // Where nothing stands at `sort.by`, what is wrong is told at `sort`.
        let order = Order::resolve(&input, &self.order, "sort.by", &mut problems);
        if self.order.is_empty() {
            let hint = Some("Write `sort = [\"price desc\"]`.".into());
            problems.push(SpecProblem { key: "sort".into(), message: "`sort` is empty".into(), hint });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let n_partitions = self.partitions.unwrap_or(1);
        let partitioning = Partitioning::Range { order: order.clone() };
        let (step, stop) = (context.step.to_owned(), context.stop.clone());
        let factory = Arc::new(Sorter { step, stop, schema: input.clone(), order });
        let side = GatherSide { prepare: None, partitioning };
        let gather = Gather { sides: vec![side], n_partitions, runs_when_empty: false, state: None, factory };
        Ok(Built::gather(input, gather))
    }
}

#[derive(Clone)]
struct Sorter {
    step: String,
    /// Set when the job is stopped at once.
    stop: StopFlag,
    schema: SchemaRef,
    order: Order,
}

impl Sorter {
    fn sorted(&self, pending: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
        let rows = concat_batches(&self.schema, pending)?;
        let converter = self.order.converter()?;
        let encoded = self.order.encode(&converter, &rows)?;
        let mut indices: Vec<u32> = (0..rows.num_rows() as u32).collect();
        indices.sort_by(|&a, &b| encoded.row(a as usize).cmp(&encoded.row(b as usize)));
        take_record_batch(&rows, &UInt32Array::from(indices))
    }
}

impl StepFactory for Sorter {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let (memory, held) = (task.memory.clone(), task.memory.track());
        Ok(Box::new(Sorting { sorter: self.clone(), pending: Vec::new(), memory, held, runs: Vec::new() }))
    }
}

struct Sorting {
    sorter: Sorter,
    pending: Vec<RecordBatch>,
    memory: TaskMemory,
    /// Bytes of `pending`.
    held: Tracked,
    /// What has been sorted and is on disk, in the order in which it came.
    runs: Vec<Run>,
}

impl Sorting {
    fn take_sorted(&mut self) -> Result<RecordBatch, Error> {
        let pending = std::mem::take(&mut self.pending);
        let doing = format!("sorting the rows of step `{}`", self.sorter.step);
        self.sorter.sorted(&pending).map_err(internal(doing))
    }

    /// Sorts what waits, and puts it on disk.
    fn spill(&mut self, spill: &Arc<Spill>, step_bytes: u64) -> Result<(), Error> {
        let sorted = self.take_sorted()?;
        let mut writer = RunWriter::new(spill.file(SpillUse::Batch), step_bytes / RUNS_MAX as u64);
        writer.push(&sorted)?;
        self.runs.push(writer.finish()?);
        self.held.set(0);
        if self.runs.len() == RUNS_MAX {
            let mut writer = RunWriter::new(spill.file(SpillUse::Batch), step_bytes / RUNS_MAX as u64);
            let runs = std::mem::take(&mut self.runs);
            self.merge(runs, &mut |rows| writer.push(&rows))?;
            self.runs.push(writer.finish()?);
        }
        Ok(())
    }

    fn merge(&self, runs: Vec<Run>, emit: &mut Emit<'_>) -> Result<(), Error> {
        let Sorter { step, order, .. } = &self.sorter;
        let converter = order.converter().map_err(internal(format!("sorting the rows of step `{step}`")))?;
        merge_runs(step, runs, &|rows| order.encode(&converter, rows), &mut |rows| {
            if self.sorter.stop.is_set() { Err(Cancelled.into()) } else { emit(rows) }
        })
    }
}

impl PipelineStep for Sorting {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        let memory = self.memory.clone();
        let Some((spill, step_bytes)) = memory.spill() else {
            self.pending.push(rows);
            return Ok(());
        };
        let pending_max = step_bytes / SORT_COPIES;
        let bytes = batch_bytes(&rows);
        // A push may be larger than what is sorted at once.
        let n_rows = rows_within(&rows, bytes, pending_max);
        for start in (0..rows.num_rows()).step_by(n_rows) {
            let piece = rows.slice(start, n_rows.min(rows.num_rows() - start));
            let piece_bytes = bytes * piece.num_rows() as u64 / rows.num_rows() as u64;
            if self.held.n_bytes() + piece_bytes > pending_max && !self.pending.is_empty() {
                self.spill(spill, step_bytes)?;
            }
            self.held.set(self.held.n_bytes() + piece_bytes);
            self.pending.push(piece);
        }
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let sorted = self.take_sorted()?;
        if self.runs.is_empty() {
            return emit_in_chunks(&sorted, emit);
        }
        let mut runs = std::mem::take(&mut self.runs);
        runs.push(Run::from([RunPiece::Memory(sorted)]));
        self.merge(runs, emit)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use arrow::array::{ArrayRef, Float64Array};
    use proptest::prelude::*;

    use super::*;
    use crate::step::test_rows::{cut, flat, run_one, schema, settings, text};
    use crate::step::testing::{DefinitionRun, TestBatch, rows, texts};

    proptest! {
        #[test]
        fn partitions_one_after_the_other_are_the_rows_in_order(cut in cut(), partitions in proptest::option::of(1u32..6)) {
            let step = Sort { order: vec!["value".into(), "key desc".into()], partitions };
            let mut run = DefinitionRun::plan(&step, &[schema()], &settings(9), false).expect("it fits");
            let mut expected = flat(&cut);
            // Stable: rows that are equal stand as they came.
            expected.sort_by_key(|row| (row.0.1, Reverse(row.0.0)));
            let found = run_one(&mut run, &cut);
            prop_assert_eq!(found.len(), partitions.unwrap_or(1) as usize);
            prop_assert_eq!(found.concat(), expected.iter().map(text).collect::<Vec<_>>());
        }
    }

    #[test]
    fn zeros_are_equal_and_no_number_is_larger_than_any() {
        let numbers = vec![0.0, -f64::NAN, -0.0, f64::NEG_INFINITY, f64::NAN, f64::INFINITY, 0.0];
        let column: ArrayRef = Arc::new(Float64Array::from(numbers));
        let batch = rows(vec![("x", column)]);
        let step = Sort { order: vec!["x".into()], partitions: None };
        let mut run = DefinitionRun::plan(&step, &[batch.schema()], &settings(1), false).expect("it fits");
        let found = run.batch(&TestBatch { sides: vec![vec![vec![batch]]], ..TestBatch::default() }).expect("it runs");
        assert_eq!(texts(&found.concat()), ["-inf", "0.0", "-0.0", "0.0", "inf", "NaN", "NaN"]);
    }

    #[test]
    fn what_has_no_order_is_told() {
        let step = Sort { order: vec!["prise".into()], partitions: Some(2) };
        let problems = DefinitionRun::plan(&step, &[schema()], &settings(1), false).err().expect("no such column");
        assert_eq!(
            (problems[0].key.as_str(), problems[0].message.as_str()),
            ("sort.by", "the input has no column `prise`")
        );
    }
}
