//! Steps that work key by key, on partitions that memory has no room for: a part of the keys after another.
//!
//! ```text
//!  rows ── numbered ── hash of the key ─┬▶ part 0, on disk ──▶ the step ──▶ its rows with the number of their key's first row ─┐
//!                                       ├▶ part 1, on disk ──▶ the step ──▶ …                                                 ├▶ merged
//!                                       └▶ …                                                                                   ┘  by number
//! ```
//!
//! A step that gives its keys in the order in which they first appear gives the same rows in the same order as it does when
//! everything is in memory. A part that is still too large is parted again, with another hash, unless it cannot get smaller:
//! the rows of one key stay together.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::Error;
use crate::operator::StopFlag;
use crate::shuffle::key_encoding::plain_type;
use crate::shuffle::partitioner::hash_keys;
use crate::shuffle::sort_by_group;
use crate::spill::{Spill, SpillFile, SpillUse, Spilled, Tracked, spill_all};
use crate::step::chunks::batch_bytes;
use crate::step::definition::PlanContext;
use crate::step::key_table::KeyTable;
use crate::step::keyed::{batch_of, internal};
use crate::step::runs::{Run, RunWriter, merge_runs, rows_within};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;
use crate::task::pipeline::Cancelled;

/// What a step takes in memory for the rows of a part, in their bytes: the rows, a table of their keys, what comes out.
const COPIES: u64 = 3;

/// Parts of a partition, at most: each has a run that is merged in the end. What is larger is parted again.
const PARTS_MAX: u64 = 128;

/// Bytes that are gathered for each part before they go to disk, at least, unless there were fewer than four parts then: a record of less is
/// mostly its schema.
const PART_BYTES_MIN: u64 = 16 << 10;

/// How often rows are parted, at most: 128 parts, four times, are more than there can be.
const LEVELS_MAX: u64 = 4;

/// A step behind a shuffle by key that parts what memory has no room for.
pub(crate) struct ByKey(Arc<Spec>);

struct Spec {
    step: String,
    /// Set when the job is stopped at once.
    stop: StopFlag,
    /// The step, which starts anew for every part. It keeps nothing from batch to batch.
    inner: Arc<dyn StepFactory>,
    /// For each side, which columns the key is.
    keys: Vec<Vec<usize>>,
    /// Which columns of the output the key is.
    output_keys: Vec<usize>,
    types: Vec<DataType>,
}

impl ByKey {
    /// The step `inner`, whose rows of each side have the key in `keys`, and whose output, of `schema`, has it in `output_keys`.
    pub(crate) fn factory(
        context: &PlanContext<'_>,
        inner: Arc<dyn StepFactory>,
        keys: Vec<Vec<usize>>,
        output_keys: Vec<usize>,
        schema: &Schema,
    ) -> Arc<dyn StepFactory> {
        // All rows have one key then, and are one part.
        if output_keys.is_empty() {
            return inner;
        }
        let types = output_keys.iter().map(|&column| plain_type(schema.field(column).data_type()).clone()).collect();
        let (step, stop) = (context.step.to_owned(), context.stop.clone());
        Arc::new(Self(Arc::new(Spec { step, stop, inner, keys, output_keys, types })))
    }
}

impl StepFactory for ByKey {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let bytes = task.memory.input_bytes().saturating_mul(COPIES);
        match task.memory.spill() {
            Some((spill, step_bytes)) if bytes > step_bytes => {
                let (spec, spill, task) = (self.0.clone(), spill.clone(), task.clone());
                let shared = Arc::new(Shared { spec, spill, step_bytes, task });
                let parting = Parting::new(&shared, 0, bytes);
                Ok(Box::new(Running { shared, parting: Some(parting), n_rows: 0 }))
            }
            _ => self.0.inner.start(task),
        }
    }
}

/// What the parts of a partition share.
struct Shared {
    spec: Arc<Spec>,
    spill: Arc<Spill>,
    step_bytes: u64,
    task: TaskContext,
}

impl Shared {
    /// An error when the batch is given up, or the job stopped at once.
    fn go_on(&self) -> Result<(), Error> {
        if self.task.is_cancelled() || self.spec.stop.is_set() { Err(Cancelled.into()) } else { Ok(()) }
    }

    fn internal(&self) -> impl FnOnce(ArrowError) -> Error {
        internal(format!("parting the rows of step `{}` by key", self.spec.step))
    }
}

/// The rows of one part on disk, with their numbers: by side, in their order.
#[derive(Default)]
struct Part {
    sides: Vec<Vec<Spilled>>,
    bytes: u64,
}

/// Deals rows out to parts.
struct Parting {
    shared: Arc<Shared>,
    level: u64,
    file: SpillFile,
    parts: Vec<Part>,
    /// Rows of each part that are not on disk yet, all of one side.
    pending: Vec<Vec<RecordBatch>>,
    side: usize,
    held: Tracked,
}

impl Parting {
    /// Into as many parts as rows that take `bytes` at work need.
    fn new(shared: &Arc<Shared>, level: u64, bytes: u64) -> Self {
        // Half as many again: hashes do not deal out evenly.
        let n_parts_max = (shared.step_bytes / 2 / PART_BYTES_MIN).clamp(4, PARTS_MAX);
        let n_parts = (bytes + bytes / 2).div_ceil(shared.step_bytes.max(1)).clamp(2, n_parts_max) as usize;
        let n_sides = shared.spec.keys.len();
        let part = || Part { sides: std::iter::repeat_with(Vec::new).take(n_sides).collect(), bytes: 0 };
        Self {
            level,
            file: shared.spill.file(SpillUse::Batch),
            parts: std::iter::repeat_with(part).take(n_parts).collect(),
            pending: vec![Vec::new(); n_parts],
            side: 0,
            held: shared.task.memory.track(),
            shared: shared.clone(),
        }
    }

    /// Deals out rows whose last column is their number.
    fn push(&mut self, side: usize, rows: &RecordBatch) -> Result<(), Error> {
        let bytes = batch_bytes(rows);
        // A push may be larger than what is held at once.
        let n_rows = rows_within(rows, bytes, self.shared.step_bytes / 2);
        for start in (0..rows.num_rows()).step_by(n_rows) {
            let piece = rows.slice(start, n_rows.min(rows.num_rows() - start));
            self.deal(side, &piece, bytes * piece.num_rows() as u64 / rows.num_rows() as u64)?;
        }
        Ok(())
    }

    fn deal(&mut self, side: usize, rows: &RecordBatch, bytes: u64) -> Result<(), Error> {
        if side != self.side {
            self.flush()?;
            self.side = side;
        }
        let shared = self.shared.clone();
        let keys: Vec<ArrayRef> = shared.spec.keys[side].iter().map(|&column| rows.column(column).clone()).collect();
        let n_parts = self.parts.len();
        // Another hash at each level, and another than the one that dealt the rows out to partitions.
        let part_of = |hash: u64| (xxh3_64_with_seed(&hash.to_le_bytes(), self.level + 1) % n_parts as u64) as u32;
        let parts: Vec<u32> = hash_keys(&keys).map_err(shared.internal())?.into_iter().map(part_of).collect();
        let (order, ends) = sort_by_group(&parts, n_parts);
        let sorted = take_record_batch(rows, &UInt32Array::from(order)).map_err(shared.internal())?;
        let mut start = 0;
        for (pending, end) in self.pending.iter_mut().zip(ends) {
            let end = end as usize;
            if end > start {
                pending.push(sorted.slice(start, end - start));
            }
            start = end;
        }
        self.held.set(self.held.n_bytes() + bytes);
        if self.held.n_bytes() > shared.step_bytes / 2 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        for (part, pending) in self.parts.iter_mut().zip(&mut self.pending) {
            let records = spill_all(&mut self.file, &std::mem::take(pending))?;
            part.bytes += records.iter().map(Spilled::memory_bytes).sum::<u64>();
            part.sides[self.side].extend(records);
        }
        self.held.set(0);
        Ok(())
    }

    /// Runs the step on every part, and gives a run of each to `runs`.
    fn finish(mut self, runs: &mut Vec<Run>) -> Result<(), Error> {
        self.flush()?;
        let Self { shared, level, parts, file, .. } = self;
        // Its records go one by one.
        drop(file);
        let whole: u64 = parts.iter().map(|part| part.bytes).sum();
        for part in parts {
            if part.bytes == 0 {
                continue;
            }
            let bytes = part.bytes.saturating_mul(COPIES);
            // A part that is nearly the whole holds one large key: another hash would not help. And what is only a little too
            // large is not worth another pass: what it takes is an estimate, and rather a high one.
            let can_be_parted = level + 1 < LEVELS_MAX && part.bytes < whole / 10 * 9;
            if bytes / 2 > shared.step_bytes && can_be_parted {
                let mut again = Parting::new(&shared, level + 1, bytes);
                for (side, records) in part.sides.into_iter().enumerate() {
                    for record in records {
                        shared.go_on()?;
                        record.read()?.iter().try_for_each(|rows| again.push(side, rows))?;
                    }
                }
                again.finish(runs)?;
            } else {
                runs.push(run_part(&shared, part)?);
            }
        }
        Ok(())
    }
}

/// Runs the step on one part. The result has the number of the first row of its key behind each row, and is sorted by it.
fn run_part(shared: &Shared, part: Part) -> Result<Run, Error> {
    let spec = &shared.spec;
    let mut step = spec.inner.start(&shared.task)?;
    let mut numbers = Numbers { table: KeyTable::new(&spec.types), firsts: Vec::new(), groups: Vec::new() };
    let record_bytes = shared.step_bytes / 2 / PARTS_MAX;
    let mut writer = RunWriter::new(shared.spill.file(SpillUse::Batch), record_bytes);
    let mut held = shared.task.memory.track();
    for (side, records) in part.sides.into_iter().enumerate() {
        for record in records {
            shared.go_on()?;
            for rows in record.read()? {
                let (rows, row_numbers) = without_number(&rows).map_err(shared.internal())?;
                numbers.note(&rows, &spec.keys[side], &row_numbers).map_err(shared.internal())?;
                held.set(held.n_bytes() + batch_bytes(&rows));
                step.push_side(side, rows, &mut |rows| give(shared, &mut numbers, &mut writer, &rows))?;
            }
        }
    }
    step.finish(&mut |rows| give(shared, &mut numbers, &mut writer, &rows))?;
    writer.finish()
}

fn give(shared: &Shared, numbers: &mut Numbers, writer: &mut RunWriter, rows: &RecordBatch) -> Result<(), Error> {
    let of_keys = numbers.of(rows, &shared.spec.output_keys).map_err(shared.internal())?;
    let rows = with_number(rows, of_keys).map_err(shared.internal())?;
    writer.push(&rows)
}

/// The number of the first row of every key of a part.
struct Numbers {
    table: KeyTable,
    firsts: Vec<u64>,
    groups: Vec<u32>,
}

impl Numbers {
    fn note(&mut self, rows: &RecordBatch, keys: &[usize], numbers: &UInt64Array) -> Result<(), ArrowError> {
        let keys: Vec<ArrayRef> = keys.iter().map(|&column| rows.column(column).clone()).collect();
        self.table.group_rows(&keys, rows.num_rows(), &mut self.groups)?;
        for (&group, &number) in self.groups.iter().zip(numbers.values()) {
            // New groups come in order.
            if group as usize == self.firsts.len() {
                self.firsts.push(number);
            }
        }
        Ok(())
    }

    fn of(&mut self, rows: &RecordBatch, keys: &[usize]) -> Result<UInt64Array, ArrowError> {
        let keys: Vec<ArrayRef> = keys.iter().map(|&column| rows.column(column).clone()).collect();
        self.table.group_rows(&keys, rows.num_rows(), &mut self.groups)?;
        // A key that did not come in would stand last: a step gives the keys that it got.
        Ok(self
            .groups
            .iter()
            .map(|&group| Some(self.firsts.get(group as usize).copied().unwrap_or(u64::MAX)))
            .collect())
    }
}

/// The rows with a last column that numbers them.
fn with_number(rows: &RecordBatch, numbers: UInt64Array) -> Result<RecordBatch, ArrowError> {
    let names: HashSet<&str> = rows.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    let name = (0..).map(|n| format!("number {n}")).find(|name| !names.contains(name.as_str())).unwrap_or_default();
    let number = Arc::new(Field::new(name, DataType::UInt64, false));
    let fields: Vec<_> = rows.schema_ref().fields().iter().cloned().chain([number]).collect();
    let schema = Schema::new_with_metadata(fields, rows.schema_ref().metadata().clone());
    let columns = rows.columns().iter().cloned().chain([Arc::new(numbers) as ArrayRef]).collect();
    batch_of(Arc::new(schema), columns, rows.num_rows())
}

/// The rows without their last column, and that.
fn without_number(rows: &RecordBatch) -> Result<(RecordBatch, UInt64Array), ArrowError> {
    let last = rows.num_columns() - 1;
    let numbers = rows.column(last).as_primitive::<UInt64Type>().clone();
    Ok((rows.project(&(0..last).collect::<Vec<_>>())?, numbers))
}

struct Running {
    shared: Arc<Shared>,
    /// Gone when the rows have all come.
    parting: Option<Parting>,
    n_rows: u64,
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.push_side(0, rows, emit)
    }

    fn push_side(&mut self, side: usize, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        let Some(parting) = &mut self.parting else { return Ok(()) };
        let numbers = UInt64Array::from_iter_values(self.n_rows..self.n_rows + rows.num_rows() as u64);
        self.n_rows += rows.num_rows() as u64;
        let numbered = with_number(&rows, numbers).map_err(self.shared.internal())?;
        parting.push(side, &numbered)
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let mut runs = Vec::new();
        if let Some(parting) = self.parting.take() {
            parting.finish(&mut runs)?;
        }
        let shared = self.shared.clone();
        let converter = RowConverter::new(vec![SortField::new(DataType::UInt64)]).map_err(shared.internal())?;
        let encode = |rows: &RecordBatch| converter.convert_columns(&rows.columns()[rows.num_columns() - 1..]);
        merge_runs(&shared.spec.step, runs, &encode, &mut |rows| {
            shared.go_on()?;
            let (rows, _) = without_number(&rows).map_err(shared.internal())?;
            emit(rows)
        })
    }
}

#[cfg(test)]
mod tests;
