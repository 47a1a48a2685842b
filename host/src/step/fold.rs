//! Runs an operator over groups of rows: what `reduce` and `aggregate` with a plugin have in common.
//!
//! Keys stay with the host. The operator gets values sorted by group and where each group ends, and gives one row a
//! group; those rows, *partials*, are folded again with others of their key until there is one row a key.
//!
//! ```text
//!  before the shuffle   rows ─ chunks ─ group ─ accumulate ─▶ partials ─ group ─ merge ─▶ one a key ─▶ shuffle
//!  behind it            partials ─ group ─ merge ─▶ one a key ─ finish ─▶ results
//! ```
//!
//! A group may be split over calls, because what an operator does is associative; its rows keep their order.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::Error;
use crate::metrics::StepMeter;
use crate::operator::{Call, CallError, CallSite, Crossed, OpenError};
use crate::shuffle::key_encoding::plain;
use crate::shuffle::sort_by_group;
use crate::step::chunks::{Chunks, batch_bytes};
use crate::step::instances::Instances;
use crate::step::key_table::KeyTable;
use crate::step::keyed::{KeyColumns, SpecProblem, batch_of, emit_in_chunks, internal, plain_field};
use crate::step::partials::PartialOps;
use crate::step::transform::CallBounds;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;
use crate::task::pipeline::Cancelled;

/// Partials that wait to be folded together, in full calls: enough that most keys have met by then.
const PENDING_CALLS_MAX: f64 = 4.0;

/// Why a step by key with an operator cannot be planned.
#[derive(Debug)]
pub enum KeyedOpenError {
    /// The step is written wrongly: every mistake there is.
    Spec(Vec<SpecProblem>),
    /// The operator does not open.
    Open(OpenError),
}

impl From<OpenError> for KeyedOpenError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// An open operator as something that folds: the instance of one partition.
pub(crate) trait Folds: Send {
    /// One partial a group of rows.
    fn accumulate(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError>;

    /// One partial a group of partials.
    fn merge(&mut self, call: &Call, partials: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError>;

    /// One result a partial; `None` when partials are results.
    fn finish(&mut self, call: &Call, partials: &RecordBatch) -> Option<Result<RecordBatch, CallError>>;

    /// Bytes that have crossed a plugin's boundary.
    fn crossed(&self) -> Crossed;
}

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    Accumulate,
    Merge,
    Finish,
    /// Of rows that have the columns of two partials: the whole and the part that is taken away.
    Invert,
}

/// One partial a row: `whole` without `part`.
pub(crate) type Invert<T> = fn(&mut T, &Call, &RecordBatch, &RecordBatch) -> Result<RecordBatch, CallError>;

/// Opens an instance, and checks that it is the one the job was checked with.
pub(crate) type Open<T> = Box<dyn Fn() -> Result<Box<T>, OpenError> + Send + Sync>;

/// A step that folds, checked against its input.
pub(crate) struct FoldSpec<T: ?Sized> {
    pub(crate) step: String,
    pub(crate) operator: String,
    pub(crate) keys: KeyColumns,
    /// The input's columns that are accumulated.
    pub(crate) values: Vec<usize>,
    /// Keys, then values, of plain types: what is grouped.
    pub(crate) grouped: SchemaRef,
    /// The columns of a partial, without keys.
    pub(crate) partial_values: SchemaRef,
    /// The columns of a result, without keys.
    pub(crate) result_values: SchemaRef,
    /// Keys, then partial values.
    pub(crate) partial: SchemaRef,
    /// Keys, then result values.
    pub(crate) output: SchemaRef,
    pub(crate) bounds: CallBounds,
    pub(crate) meter: Arc<StepMeter>,
    /// Takes partials out of others, row by row; `None` when it cannot be done.
    pub(crate) invert: Option<Invert<T>>,
    /// Those of [`FoldOps`], from batch to batch.
    pub(crate) instances: Arc<Instances<T>>,
    pub(crate) open: Open<T>,
}

impl<T: ?Sized> std::fmt::Debug for FoldSpec<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoldSpec")
            .field("step", &self.step)
            .field("operator", &self.operator)
            .field("keys", &self.keys)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl<T: ?Sized> FoldSpec<T> {
    /// The names of the columns that are accumulated.
    pub(crate) fn read_names(&self) -> Vec<String> {
        self.grouped.fields()[self.keys.len()..].iter().map(|field| field.name().clone()).collect()
    }
}

/// The columns of the input that are not keys: their indices, and their schema with plain types.
pub(crate) fn value_columns(input: &Schema, keys: &KeyColumns) -> (Vec<usize>, SchemaRef) {
    let indices: Vec<_> = (0..input.fields().len()).filter(|index| !keys.indices.contains(index)).collect();
    let fields: Vec<_> = indices.iter().map(|&index| plain_field(input.field(index))).collect();
    (indices, Arc::new(Schema::new(fields)))
}

/// The schema of keys, then values.
pub(crate) fn keyed_schema(keys: &KeyColumns, values: &Schema) -> SchemaRef {
    let values = values.fields().iter().map(|field| field.as_ref().clone());
    Arc::new(Schema::new(keys.fields.iter().cloned().chain(values).collect::<Vec<Field>>()))
}

/// The two halves of a [`FoldSpec`]; they share no instances, because their plans' calls do not mix.
pub(crate) struct FoldFactory<T: ?Sized> {
    spec: Arc<FoldSpec<T>>,
    instances: Arc<Instances<T>>,
    is_merge: bool,
}

impl<T: ?Sized + Folds + 'static> FoldFactory<T> {
    pub(crate) fn combine(spec: &Arc<FoldSpec<T>>) -> Arc<dyn StepFactory> {
        Arc::new(Self { spec: spec.clone(), instances: Arc::default(), is_merge: false })
    }

    pub(crate) fn merge(spec: &Arc<FoldSpec<T>>) -> Arc<dyn StepFactory> {
        Arc::new(Self { spec: spec.clone(), instances: Arc::default(), is_merge: true })
    }
}

impl<T: ?Sized + Folds + 'static> StepFactory for FoldFactory<T> {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let folding = Folding::new(&self.spec, &self.instances, task);
        let pending = Pending { batches: Vec::new(), calls: 0.0, calls_max: PENDING_CALLS_MAX };
        if self.is_merge {
            return Ok(Box::new(Merge { folding, pending }));
        }
        let CallBounds { rows, bytes, whole_partition, .. } = self.spec.bounds;
        let chunks = Chunks::new(self.spec.grouped.clone(), rows, bytes, whole_partition);
        Ok(Box::new(Combine { folding, chunks, pending }))
    }
}

/// An operator at work on one partition.
struct Folding<T: ?Sized> {
    spec: Arc<FoldSpec<T>>,
    instances: Arc<Instances<T>>,
    /// Taken at the first call; gone after a call that failed.
    instance: Option<Box<T>>,
    task: TaskContext,
    /// Rows in the calls so far.
    first_row: u64,
    /// The keys of the rows being folded; kept for its memory.
    table: KeyTable,
    groups: Vec<u32>,
}

impl<T: ?Sized + Folds> Folding<T> {
    fn new(spec: &Arc<FoldSpec<T>>, instances: &Arc<Instances<T>>, task: &TaskContext) -> Self {
        let types: Vec<DataType> = spec.keys.fields.iter().map(|field| field.data_type().clone()).collect();
        Self {
            spec: spec.clone(),
            instances: instances.clone(),
            instance: None,
            task: task.clone(),
            first_row: 0,
            table: KeyTable::new(&types),
            groups: Vec::new(),
        }
    }

    /// Folds rows of keys and values into one row a key, in the order in which keys first appear.
    fn fold(&mut self, fold: Fold, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let spec = self.spec.clone();
        let doing = || internal(format!("grouping the rows of step `{}`", spec.step));
        let (keys, values) = self.split(rows)?;
        self.table.clear();
        self.table.group_rows(&keys, rows.num_rows(), &mut self.groups).map_err(doing())?;
        let n_groups = self.table.len();
        if fold == Fold::Merge && n_groups == rows.num_rows() {
            // Each of another key: merging a partial with nothing leaves it as it is.
            return Ok(rows.clone());
        }
        let (order, ends) = sort_by_group(&self.groups, n_groups);
        let values = gather(&values, order).map_err(doing())?;
        let partials = self.fold_sorted(fold, &values, &ends)?;
        let partials = concat_batches(&spec.partial_values, &partials).map_err(doing())?;
        let mut columns = self.table.keys().map_err(doing())?;
        columns.extend_from_slice(partials.columns());
        batch_of(spec.partial.clone(), columns, n_groups).map_err(doing())
    }

    /// Keys and values of rows that have both.
    fn split(&self, rows: &RecordBatch) -> Result<(Vec<ArrayRef>, RecordBatch), Error> {
        let n_keys = self.spec.keys.len();
        let values: Vec<usize> = (n_keys..rows.num_columns()).collect();
        let values = rows.project(&values).map_err(internal(format!("projecting in step `{}`", self.spec.step)))?;
        Ok((rows.columns()[..n_keys].to_vec(), values))
    }

    /// One row a group, over as many calls as the bounds ask for.
    fn fold_sorted(&mut self, fold: Fold, values: &RecordBatch, ends: &[u32]) -> Result<Vec<RecordBatch>, Error> {
        let limit = self.rows_of_call(values);
        let mut folded = Vec::new();
        let (mut group, mut start) = (0, 0);
        while group < ends.len() {
            let n_whole = ends[group..].partition_point(|&end| (end - start) as usize <= limit);
            let next = group + n_whole.max(1);
            let end = ends[next - 1];
            let rows = values.slice(start as usize, (end - start) as usize);
            if n_whole > 0 {
                let ends: Vec<u32> = ends[group..next].iter().map(|end| end - start).collect();
                folded.extend(self.call(fold, &rows, &ends)?);
            } else {
                folded.push(self.fold_large(fold, rows, limit)?);
            }
            (group, start) = (next, end);
        }
        Ok(folded)
    }

    /// One row of one group that is too large for one call: its pieces are folded, then what they gave.
    fn fold_large(&mut self, fold: Fold, rows: RecordBatch, limit: usize) -> Result<RecordBatch, Error> {
        let (mut fold, mut rows, mut limit) = (fold, rows, limit);
        loop {
            let mut partials = Vec::new();
            for start in (0..rows.num_rows()).step_by(limit) {
                let piece = rows.slice(start, limit.min(rows.num_rows() - start));
                let ends = [piece.num_rows() as u32];
                partials.extend(self.call(fold, &piece, &ends)?);
            }
            let doing = format!("joining the partials of step `{}`", self.spec.step);
            rows = concat_batches(&self.spec.partial_values, &partials).map_err(internal(doing))?;
            if rows.num_rows() <= 1 {
                return Ok(rows);
            }
            fold = Fold::Merge;
            // Two at least, or nothing would ever come together.
            limit = self.rows_of_call(&rows).max(2);
        }
    }

    /// Results of partials.
    fn finish(&mut self, partials: &RecordBatch) -> Result<RecordBatch, Error> {
        let (keys, values) = self.split(partials)?;
        let spec = self.spec.clone();
        self.row_by_row(Fold::Finish, keys, &values, (&spec.result_values, &spec.output))
    }

    /// Partials without others, whose keys are those of the same rows.
    fn invert(&mut self, whole: &RecordBatch, part: &RecordBatch) -> Result<RecordBatch, Error> {
        let (keys, whole) = self.split(whole)?;
        let (_, part) = self.split(part)?;
        let spec = self.spec.clone();
        let fields = spec.partial_values.fields();
        let both = Arc::new(Schema::new(fields.iter().chain(fields).cloned().collect::<Vec<_>>()));
        let columns = whole.columns().iter().chain(part.columns()).cloned().collect();
        let doing = format!("pairing the partials of step `{}`", spec.step);
        let both = batch_of(both, columns, whole.num_rows()).map_err(internal(doing))?;
        self.row_by_row(Fold::Invert, keys, &both, (&spec.partial_values, &spec.partial))
    }

    /// One row for each row, over as many calls as the bounds ask for; of a schema without and with keys.
    fn row_by_row(
        &mut self,
        fold: Fold,
        keys: Vec<ArrayRef>,
        values: &RecordBatch,
        (answered, keyed): (&SchemaRef, &SchemaRef),
    ) -> Result<RecordBatch, Error> {
        let limit = self.rows_of_call(values);
        let mut answers = Vec::new();
        for start in (0..values.num_rows()).step_by(limit) {
            let rows = values.slice(start, limit.min(values.num_rows() - start));
            let ends: Vec<u32> = (1..=rows.num_rows() as u32).collect();
            answers.extend(self.call(fold, &rows, &ends)?);
        }
        let doing = || internal(format!("putting the output of step `{}` together", self.spec.step));
        let answers = concat_batches(answered, &answers).map_err(doing())?;
        let columns = keys.into_iter().chain(answers.columns().iter().cloned()).collect();
        batch_of(keyed.clone(), columns, values.num_rows()).map_err(doing())
    }

    /// The two halves of the columns of rows to invert.
    fn halves(&self, both: &RecordBatch) -> Result<(RecordBatch, RecordBatch), Error> {
        let n_values = self.spec.partial_values.fields().len();
        let half = |columns: std::ops::Range<usize>| {
            batch_of(self.spec.partial_values.clone(), both.columns()[columns].to_vec(), both.num_rows())
                .map_err(internal(format!("taking the partials of step `{}` apart", self.spec.step)))
        };
        Ok((half(0..n_values)?, half(n_values..2 * n_values)?))
    }

    /// How many rows like these one call gets.
    fn rows_of_call(&self, rows: &RecordBatch) -> usize {
        let bounds = &self.spec.bounds;
        if bounds.whole_partition {
            return usize::MAX;
        }
        let row_bytes = (batch_bytes(rows) / rows.num_rows().max(1) as u64).max(1);
        let by_bytes = usize::try_from(bounds.bytes / row_bytes).unwrap_or(usize::MAX);
        by_bytes.min(bounds.rows as usize).max(1)
    }

    /// One call, or several of half the groups each when an output is too large.
    fn call(&mut self, fold: Fold, rows: &RecordBatch, ends: &[u32]) -> Result<Vec<RecordBatch>, Error> {
        if self.task.is_cancelled() {
            return Err(Cancelled.into());
        }
        let spec = self.spec.clone();
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.instances.take(self.task.partition, || (spec.open)())?,
        };
        let before = instance.crossed();
        let call = self.task.call(self.first_row, self.spec.bounds.clock);
        let answer = match fold {
            Fold::Accumulate => Some(instance.accumulate(&call, rows, ends)),
            Fold::Merge => Some(instance.merge(&call, rows, ends)),
            Fold::Finish => instance.finish(&call, rows),
            Fold::Invert => {
                let (whole, part) = self.halves(rows)?;
                spec.invert.map(|invert| invert(&mut instance, &call, &whole, &part))
            }
        };
        let Some(answer) = answer else {
            self.instance = Some(instance);
            return Ok(vec![rows.clone()]);
        };
        let crossed = instance.crossed();
        spec.meter.calls.add(1);
        spec.meter.crossed_in_bytes.add(crossed.in_bytes.saturating_sub(before.in_bytes));
        spec.meter.crossed_out_bytes.add(crossed.out_bytes.saturating_sub(before.out_bytes));
        match answer.and_then(|answer| self.check(fold, rows, ends, &answer)) {
            Ok(answer) => {
                self.first_row += rows.num_rows() as u64;
                self.instance = Some(instance);
                Ok(vec![answer])
            }
            Err(error) => {
                // The instance is spent, and dropped here.
                spec.meter.errors.add(1);
                if !error.is_output_too_large() || ends.len() < 2 {
                    return Err(error.into());
                }
                drop(instance);
                let (first, second) = ends.split_at(ends.len() / 2);
                let cut = first[first.len() - 1];
                let second: Vec<u32> = second.iter().map(|end| end - cut).collect();
                let mut answers = self.call(fold, &rows.slice(0, cut as usize), first)?;
                let rest = rows.slice(cut as usize, rows.num_rows() - cut as usize);
                answers.extend(self.call(fold, &rest, &second)?);
                Ok(answers)
            }
        }
    }

    /// The answer with the schema it must have. A plugin's has been checked already; a native operator's has not.
    fn check(
        &self,
        fold: Fold,
        rows: &RecordBatch,
        ends: &[u32],
        answer: &RecordBatch,
    ) -> Result<RecordBatch, CallError> {
        let expected = match fold {
            Fold::Accumulate | Fold::Merge | Fold::Invert => &self.spec.partial_values,
            Fold::Finish => &self.spec.result_values,
        };
        let invalid = |rule: String| CallError::Invalid {
            site: Box::new(CallSite {
                operator: self.spec.operator.clone(),
                step: self.spec.step.clone(),
                batch_id: self.task.batch_id,
                partition: self.task.partition,
                n_rows: rows.num_rows(),
            }),
            rule,
        };
        if answer.num_rows() != ends.len() {
            return Err(invalid(format!("{} rows for {} groups: it must be one each", answer.num_rows(), ends.len())));
        }
        batch_of(expected.clone(), answer.columns().to_vec(), answer.num_rows())
            .map_err(|error| invalid(error.to_string()))
    }

    /// How much of a full call these rows are.
    fn calls(&self, rows: &RecordBatch) -> f64 {
        let bounds = &self.spec.bounds;
        let by_rows = rows.num_rows() as f64 / f64::from(bounds.rows.max(1));
        by_rows.max(batch_bytes(rows) as f64 / bounds.bytes.max(1) as f64)
    }

    /// Puts the instance back for the next batch: all went well.
    fn put_back(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.instances.put(self.task.partition, instance);
        }
    }
}

/// The rows in another order.
fn gather(rows: &RecordBatch, order: Vec<u32>) -> Result<RecordBatch, arrow::error::ArrowError> {
    if order.is_sorted() {
        return Ok(rows.clone());
    }
    let order = UInt32Array::from(order);
    let columns = rows.columns().iter().map(|column| take(column, &order, None)).collect::<Result<_, _>>()?;
    batch_of(rows.schema(), columns, rows.num_rows())
}

/// Partials that wait to be folded together.
struct Pending {
    batches: Vec<RecordBatch>,
    /// How many full calls they are.
    calls: f64,
    /// With more they are folded together.
    calls_max: f64,
}

impl Pending {
    fn push<T: ?Sized + Folds>(&mut self, folding: &mut Folding<T>, partials: RecordBatch) -> Result<(), Error> {
        self.calls += folding.calls(&partials);
        self.batches.push(partials);
        if self.calls > self.calls_max {
            let folded = self.take(folding)?;
            self.calls = folded.as_ref().map_or(0.0, |folded| folding.calls(folded));
            // Where few keys meet, wait longer: folding stays linear in the rows.
            self.calls_max = PENDING_CALLS_MAX.max(self.calls * 2.0);
            self.batches.extend(folded);
        }
        Ok(())
    }

    /// Takes all of them, as one row a key.
    fn take<T: ?Sized + Folds>(&mut self, folding: &mut Folding<T>) -> Result<Option<RecordBatch>, Error> {
        let batches = std::mem::take(&mut self.batches);
        self.calls = 0.0;
        if batches.is_empty() {
            return Ok(None);
        }
        let joined = match &batches[..] {
            [one] => one.clone(),
            all => concat_batches(&folding.spec.partial, all)
                .map_err(internal(format!("joining the partials of step `{}`", folding.spec.step)))?,
        };
        drop(batches);
        folding.fold(Fold::Merge, &joined).map(Some)
    }
}

/// Before the shuffle: rows to partials.
struct Combine<T: ?Sized> {
    folding: Folding<T>,
    chunks: Chunks,
    pending: Pending,
}

impl<T: ?Sized + Folds> Combine<T> {
    fn fold_chunk(&mut self, chunk: &RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let partials = self.folding.fold(Fold::Accumulate, chunk)?;
        self.pending.push(&mut self.folding, partials)?;
        if self.pending.calls > PENDING_CALLS_MAX / 2.0 && self.pending.batches.len() == 1 {
            // They were just folded and are still many: the half behind the shuffle goes on with them.
            self.pending.calls = 0.0;
            for partials in self.pending.batches.drain(..) {
                emit_in_chunks(&partials, emit)?;
            }
        }
        Ok(())
    }
}

impl<T: ?Sized + Folds> PipelineStep for Combine<T> {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let spec = self.folding.spec.clone();
        let doing = || internal(format!("reading the columns of step `{}`", spec.step));
        let columns = spec.keys.indices.iter().chain(&spec.values).map(|&index| plain(rows.column(index)));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(doing())?;
        let rows = batch_of(spec.grouped.clone(), columns, rows.num_rows()).map_err(doing())?;
        let chunks = self.chunks.push(rows).map_err(doing())?;
        chunks.iter().try_for_each(|chunk| self.fold_chunk(chunk, emit))
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let doing = format!("reading the columns of step `{}`", self.folding.spec.step);
        let chunks = self.chunks.finish().map_err(internal(doing))?;
        chunks.iter().try_for_each(|chunk| self.fold_chunk(chunk, emit))?;
        if let Some(partials) = self.pending.take(&mut self.folding)? {
            emit_in_chunks(&partials, emit)?;
        }
        self.folding.put_back();
        Ok(())
    }
}

/// Behind the shuffle: partials to results.
struct Merge<T: ?Sized> {
    folding: Folding<T>,
    pending: Pending,
}

impl<T: ?Sized + Folds> PipelineStep for Merge<T> {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        if rows.num_rows() == 0 { Ok(()) } else { self.pending.push(&mut self.folding, rows) }
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        if let Some(partials) = self.pending.take(&mut self.folding)? {
            let results = self.folding.finish(&partials)?;
            emit_in_chunks(&results, emit)?;
        }
        self.folding.put_back();
        Ok(())
    }
}

/// Partials outside of the two halves. Its instance is kept for the next task on its partition.
pub(crate) struct FoldOps<T: ?Sized + Folds>(Folding<T>);

impl<T: ?Sized + Folds> FoldOps<T> {
    pub(crate) fn new(spec: &Arc<FoldSpec<T>>, task: &TaskContext) -> Self {
        Self(Folding::new(spec, &spec.instances, task))
    }
}

impl<T: ?Sized + Folds> PartialOps for FoldOps<T> {
    fn merge(&mut self, partials: &[RecordBatch]) -> Result<RecordBatch, Error> {
        let spec = self.0.spec.clone();
        let joined = concat_batches(&spec.partial, partials)
            .map_err(internal(format!("joining the partials of step `{}`", spec.step)))?;
        self.0.fold(Fold::Merge, &joined)
    }

    fn finish(&mut self, partials: &RecordBatch) -> Result<RecordBatch, Error> {
        self.0.finish(partials)
    }

    fn invert(&mut self, whole: &RecordBatch, part: &RecordBatch) -> Option<Result<RecordBatch, Error>> {
        self.is_invertible().then(|| self.0.invert(whole, part))
    }

    fn is_invertible(&self) -> bool {
        self.0.spec.invert.is_some()
    }

    /// An operator that says it is invertible is so exactly.
    fn drifts(&self) -> bool {
        false
    }
}

impl<T: ?Sized + Folds> Drop for FoldOps<T> {
    fn drop(&mut self) {
        self.0.put_back();
    }
}

macro_rules! keyed_step_of_fold {
    ($spec:ty) => {
        impl $crate::step::keyed::KeyedStep for $spec {
            fn partial_schema(&self) -> arrow::datatypes::SchemaRef {
                self.0.partial.clone()
            }

            fn output_schema(&self) -> arrow::datatypes::SchemaRef {
                self.0.output.clone()
            }

            fn partial_key_columns(&self) -> Vec<usize> {
                (0..self.0.keys.len()).collect()
            }

            fn needs_whole_partitions(&self) -> bool {
                self.0.bounds.whole_partition
            }

            fn combine(&self) -> std::sync::Arc<dyn $crate::step::StepFactory> {
                $crate::step::fold::FoldFactory::combine(&self.0)
            }

            fn merge(&self) -> std::sync::Arc<dyn $crate::step::StepFactory> {
                $crate::step::fold::FoldFactory::merge(&self.0)
            }

            fn partial_ops(
                &self,
                task: &$crate::task::TaskContext,
            ) -> Result<Box<dyn $crate::step::partials::PartialOps>, $crate::error::Error> {
                Ok(Box::new($crate::step::fold::FoldOps::new(&self.0, task)))
            }
        }
    };
}
pub(crate) use keyed_step_of_fold;
