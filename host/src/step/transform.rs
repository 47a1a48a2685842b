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
use crate::operator::{Carried, OpenError, Operator, StepInfo, Transform, TransformOutput, TransformPlan};
use crate::step::chunks::Chunks;
use crate::step::instances::Instances;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

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
        Ok(Self { shared: Arc::new(Shared { operator, info, input, output, plan, columns, bounds, instances, meter }) })
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
            shared,
            task: task.clone(),
            instance: None,
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
    /// Taken at the first call, so that a partition without rows costs no instance.
    instance: Option<Box<dyn Transform>>,
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
}

impl Running {
    /// Processes a chunk in as many calls as its output needs.
    fn process(&mut self, chunk: &RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let whole = self.shared.bounds.whole_partition;
        let mut start = 0;
        while start < chunk.num_rows() {
            let left = chunk.num_rows() - start;
            let n = if whole { left } else { left.min(self.rows_now) };
            let rows = chunk.slice(start, n);
            match self.call(&rows)? {
                Some(output) => {
                    self.first_row += n as u64;
                    start += n;
                    if output.num_rows() > 0 {
                        emit(output)?;
                    }
                }
                None => self.rows_now = (n / 2).max(1),
            }
        }
        Ok(())
    }

    /// One call. `None`: its output was too large, and fewer rows may do.
    fn call(&mut self, rows: &RecordBatch) -> Result<Option<RecordBatch>, Error> {
        let shared = self.shared.clone();
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
                self.note_rejections(&output);
                self.assemble(rows, output).map(Some)
            }
            Err(error) => {
                shared.meter.errors.add(1);
                if error.is_output_too_large() && rows.num_rows() > 1 && !shared.bounds.whole_partition {
                    return Ok(None);
                }
                Err(error.into())
            }
        }
    }

    fn open(&self) -> Result<Box<dyn Transform>, Error> {
        let shared = &self.shared;
        let instance = shared.instances.take(self.task.partition, || {
            let instance = shared.operator.open_transform(&shared.info, &shared.input)?;
            if *instance.plan() == shared.plan {
                return Ok(instance);
            }
            Err(OpenError::PlanChanged { operator: shared.operator.name().to_owned(), step: shared.info.step.clone() })
        })?;
        Ok(instance)
    }

    fn note_rejections(&mut self, output: &TransformOutput) {
        if let Some(first) = output.rejected.first() {
            self.rejected += output.rejected.len() as u64;
            self.shared.meter.rows_rejected.add(output.rejected.len() as u64);
            self.first_rejection.get_or_insert_with(|| first.reason.clone());
        }
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
