//! `transform`: rows through an operator, the columns it carries gathered beside it.
//!
//! ```text
//!  rows ──▶ chunks ──▶ project (reads) ──▶ Transform::process ──▶ written columns ┐
//!                 └──▶ carried columns, never lowered ── gather by origin ────────┴──▶ output
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::{Error, Internal};
use crate::event_time::ClockId;
use crate::metrics::StepMeter;
use crate::operator::{CallError, Carried, OpenError, Operator, StepInfo, Transform, TransformOutput, TransformPlan};
use crate::step::chunks::Chunks;
use crate::step::dead_letters::{LetterBox, Letters, Tried, by_pieces};
use crate::step::instances::Instances;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;
use crate::task::pipeline::Cancelled;

/// How a partition is cut into calls, and what they are told of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallBounds {
    /// Rows one call gets at most.
    pub rows: u32,
    /// Bytes one call gets at most.
    pub bytes: u64,
    /// Whether each partition is one call whatever its size.
    pub whole_partition: bool,
    /// The clock of event time whose watermark calls are told.
    pub clock: Option<ClockId>,
}

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    /// The input's column of this index, gathered.
    Carried(usize),
    /// The written column of this index.
    Written(usize),
}

/// A transform step of a plan: its operator opened and checked once, opened again for every partition.
pub struct TransformStep {
    shared: Arc<Shared>,
}

struct Shared {
    operator: Arc<dyn Operator>,
    info: StepInfo,
    input: SchemaRef,
    output: SchemaRef,
    plan: TransformPlan,
    columns: Vec<Column>,
    bounds: CallBounds,
    instances: Instances<dyn Transform>,
    meter: Arc<StepMeter>,
    /// Where bad rows are set aside; `None`: they fail the task.
    letter_box: Option<Arc<LetterBox>>,
}

impl TransformStep {
    /// Opens the operator on rows of the schema `input`, to learn what it makes of them.
    ///
    /// # Errors
    ///
    /// What the operator refuses; see [`OpenError`].
    pub fn open(
        operator: Arc<dyn Operator>,
        info: StepInfo,
        input: SchemaRef,
        bounds: CallBounds,
        meter: Arc<StepMeter>,
    ) -> Result<Self, OpenError> {
        let first = operator.open_transform(&info, &input)?;
        let plan = first.plan().clone();
        let columns = output_columns(&input, &plan);
        let fields: Vec<Arc<Field>> = columns
            .iter()
            .map(|column| match *column {
                Column::Carried(index) => input.fields()[index].clone(),
                Column::Written(index) => plan.writes.fields()[index].clone(),
            })
            .collect();
        let output = Arc::new(Schema::new(fields));
        let instances = Instances::default();
        // The instance that answered is as good as any: the first partition has it.
        instances.put(crate::ids::PartitionId(0), first);
        let letter_box = None;
        let shared = Shared { operator, info, input, output, plan, columns, bounds, instances, meter, letter_box };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The step with bad rows set aside there. Called before it runs.
    #[must_use]
    pub fn with_dead_letters(mut self, letter_box: Option<Arc<LetterBox>>) -> Self {
        let shared = Arc::get_mut(&mut self.shared);
        shared.unwrap_or_else(|| unreachable!("no task has it before it runs")).letter_box = letter_box;
        self
    }

    /// The schema of the step's output.
    #[must_use]
    pub fn output_schema(&self) -> &SchemaRef {
        &self.shared.output
    }

    /// What the operator reads, writes and carries.
    #[must_use]
    pub fn plan(&self) -> &TransformPlan {
        &self.shared.plan
    }
}

/// Carried columns in the input's order, then the written ones; a written column takes the place of a carried one with
/// its name.
fn output_columns(input: &Schema, plan: &TransformPlan) -> Vec<Column> {
    let is_carried = |name: &str| match &plan.carries {
        Carried::Nothing => false,
        Carried::Everything => true,
        Carried::Only(names) => names.iter().any(|carried| carried == name),
    };
    let mut columns: Vec<Column> = Vec::new();
    let mut placed = vec![false; plan.writes.fields().len()];
    for (index, field) in input.fields().iter().enumerate() {
        if !is_carried(field.name()) {
            continue;
        }
        match plan.writes.fields().iter().position(|written| written.name() == field.name()) {
            Some(written) => {
                placed[written] = true;
                columns.push(Column::Written(written));
            }
            None => columns.push(Column::Carried(index)),
        }
    }
    let rest = placed.iter().enumerate().filter(|(_, placed)| !**placed);
    columns.extend(rest.map(|(index, _)| Column::Written(index)));
    columns
}

impl StepFactory for TransformStep {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let shared = self.shared.clone();
        let CallBounds { rows, bytes, whole_partition, .. } = shared.bounds;
        Ok(Box::new(Running {
            chunks: Chunks::new(shared.input.clone(), rows, bytes, whole_partition),
            letters: shared.letter_box.as_ref().map(|letter_box| letter_box.open(task)),
            shared,
            task: task.clone(),
            instance: None,
            is_new: false,
            is_whole: false,
            rows_now: rows as usize,
            first_row: 0,
            rejected: 0,
            first_rejection: None,
        }))
    }
}

struct Running {
    shared: Arc<Shared>,
    task: TaskContext,
    chunks: Chunks,
    /// Where bad rows are set aside, if they are.
    letters: Option<Letters>,
    /// Taken at the first call, so that a partition without rows costs no instance.
    instance: Option<Box<dyn Transform>>,
    /// Whether the instance of the last call had none before it.
    is_new: bool,
    /// Whether the operator is known to be well when it gets no rows.
    is_whole: bool,
    /// Rows a call gets now: halved when an output was too large.
    rows_now: usize,
    first_row: u64,
    rejected: u64,
    first_rejection: Option<String>,
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let chunks = self.chunks.push(rows).map_err(|source| self.internal("joining small batches", source))?;
        chunks.into_iter().try_for_each(|chunk| self.process(&chunk, emit))
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let chunks = self.chunks.finish().map_err(|source| self.internal("joining small batches", source))?;
        for chunk in chunks {
            self.process(&chunk, emit)?;
        }
        if let Some(instance) = self.instance.take() {
            self.shared.instances.put(self.task.partition, instance);
        }
        if let Some(letters) = &self.letters {
            letters.finish();
        }
        if let Some(reason) = &self.first_rejection {
            tracing::warn!(
                target: "tidemill::step",
                job = self.shared.info.job, step = self.shared.info.step,
                batch_id = self.task.batch_id.0, partition = self.task.partition.0,
                rows_rejected = self.rejected, first_reason = reason,
                "rows were rejected"
            );
        }
        Ok(())
    }

    fn take_letters(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.letters.as_mut().map_or(Ok(None), Letters::take)
    }
}

/// What came of a call.
enum Called {
    Given(RecordBatch),
    Failed(CallError),
}

impl Running {
    /// Processes a chunk in as many calls as its output needs, and bad rows.
    fn process(&mut self, chunk: &RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let whole = self.shared.bounds.whole_partition;
        let first_row = self.first_row;
        if let Some(letters) = &mut self.letters {
            letters.saw(chunk.num_rows());
        }
        by_pieces(chunk.num_rows(), |piece, is_again| {
            let n = piece.len();
            if !whole && n > self.rows_now {
                return Ok(Tried::Cut(self.rows_now));
            }
            let rows = chunk.slice(piece.start, n);
            self.first_row = first_row + piece.start as u64;
            match self.call(&rows)? {
                Called::Given(output) if output.num_rows() > 0 => emit(output).map(|()| Tried::Done),
                Called::Given(_) => Ok(Tried::Done),
                Called::Failed(error) if error.is_output_too_large() && n > 1 && !whole => {
                    self.rows_now = n / 2;
                    Ok(Tried::Cut(n / 2))
                }
                Called::Failed(error) => self.find_bad_rows(&rows, error.into(), is_again),
            }
        })?;
        self.first_row = first_row + chunk.num_rows() as u64;
        Ok(())
    }

    /// What is done next about a call that failed with `rows`.
    fn find_bad_rows(&mut self, rows: &RecordBatch, error: Error, is_again: bool) -> Result<Tried, Error> {
        let Some(letters) = &mut self.letters else { return Err(error) };
        let error = letters.blames_rows(error)?;
        if rows.num_rows() > 1 {
            return Ok(Tried::Cut(rows.num_rows() / 2));
        }
        // Rows before it may have broken the instance: the next one is new.
        if !self.is_new && !is_again {
            return Ok(Tried::Again);
        }
        if !self.is_whole {
            if let Called::Failed(_) = self.call(&rows.slice(0, 0))? {
                return Err(error);
            }
            self.is_whole = true;
        }
        match &mut self.letters {
            Some(letters) => letters.add_failed(rows, self.first_row, &error).map(|()| Tried::Done),
            None => Err(error),
        }
    }

    /// One call. After one that failed the next has another instance.
    fn call(&mut self, rows: &RecordBatch) -> Result<Called, Error> {
        let shared = self.shared.clone();
        if self.task.is_cancelled() || shared.info.stop.is_set() {
            return Err(Cancelled.into());
        }
        self.is_new = false;
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.open()?,
        };
        let input = rows.project(&shared.plan.reads).map_err(|source| self.internal("projecting", source))?;
        let before = instance.bytes_crossed();
        let call = self.task.call(self.first_row, self.shared.bounds.clock);
        let outcome = instance.process(&call, &input);
        shared.meter.calls.add(1);
        let crossed = instance.bytes_crossed();
        shared.meter.crossed_in_bytes.add(crossed.in_bytes - before.in_bytes);
        shared.meter.crossed_out_bytes.add(crossed.out_bytes - before.out_bytes);
        match outcome {
            Ok(output) => {
                self.instance = Some(instance);
                self.note_rejections(rows, &output)?;
                self.assemble(rows, output).map(Called::Given)
            }
            Err(error) => {
                shared.meter.errors.add(1);
                Ok(Called::Failed(error))
            }
        }
    }

    fn open(&mut self) -> Result<Box<dyn Transform>, Error> {
        let shared = &self.shared;
        let instance = shared.instances.take(self.task.partition, || {
            self.is_new = true;
            let instance = shared.operator.open_transform(&shared.info, &shared.input)?;
            if *instance.plan() == shared.plan {
                return Ok(instance);
            }
            Err(OpenError::PlanChanged { operator: shared.operator.name().to_owned(), step: shared.info.step.clone() })
        })?;
        Ok(instance)
    }

    fn note_rejections(&mut self, rows: &RecordBatch, output: &TransformOutput) -> Result<(), Error> {
        if let Some(letters) = &mut self.letters {
            return output.rejected.iter().try_for_each(|rejection| {
                let row = rejection.row as usize;
                letters.add_rejected(&rows.slice(row, 1), self.first_row + row as u64, &rejection.reason)
            });
        }
        if let Some(first) = output.rejected.first() {
            self.rejected += output.rejected.len() as u64;
            self.shared.meter.rows_rejected.add(output.rejected.len() as u64);
            self.first_rejection.get_or_insert_with(|| first.reason.clone());
        }
        Ok(())
    }

    /// Puts the written columns beside the carried ones.
    fn assemble(&self, input: &RecordBatch, output: TransformOutput) -> Result<RecordBatch, Error> {
        let shared = &self.shared;
        let n_rows = output.rows.num_rows();
        let origin = output.origin.filter(|origin| !is_identity(origin, input.num_rows())).map(UInt32Array::from);
        let gather = |index: usize| -> Result<ArrayRef, Error> {
            match &origin {
                None => Ok(input.column(index).clone()),
                Some(origin) => {
                    take(input.column(index), origin, None).map_err(|source| self.internal("gathering columns", source))
                }
            }
        };
        let columns = shared.columns.iter().map(|column| match *column {
            Column::Carried(index) => gather(index),
            Column::Written(index) => Ok(output.rows.column(index).clone()),
        });
        let columns = columns.collect::<Result<Vec<_>, Error>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        RecordBatch::try_new_with_options(shared.output.clone(), columns, &options)
            .map_err(|source| self.internal("putting the output together", source))
    }

    fn internal(&self, doing: &str, source: arrow::error::ArrowError) -> Error {
        Internal { doing: format!("{doing} in step `{}`", self.shared.info.step), source }.into()
    }
}

/// Whether gathering by `origin` changes nothing.
fn is_identity(origin: &[u32], n_rows: usize) -> bool {
    origin.len() == n_rows && origin.iter().enumerate().all(|(index, &row)| index == row as usize)
}
