//! What all tasks of a running or windowed step share, and how its partials become results.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};

use super::partial_rows::{ByteRows, PartialCodec, ROWS_AT_ONCE};
use crate::error::Error;
use crate::event_time::ClockId;
use crate::state::{StateTask, StepState};
use crate::step::Emit;
use crate::step::keyed::{KeyedStep, OUTPUT_ROWS_MAX, batch_of, internal};
use crate::step::partials::PartialOps;
use crate::task::TaskContext;

/// The columns that say of which window a row is.
pub(crate) const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// The zone of times that are results.
const UTC: &str = "+00:00";

/// What the labels of partials say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Labels {
    /// There are none: results are of all rows so far.
    Running,
    /// The start of a window of this size.
    Windows(i64),
    /// The first and the last time of a session, which ends this long after the last.
    Sessions(i64),
    /// The number of the row at which a window of so many rows ends.
    Counts(i64),
}

impl Labels {
    /// How many label columns partials have.
    pub(crate) fn n(self) -> usize {
        match self {
            Labels::Running => 0,
            Labels::Windows(_) | Labels::Counts(_) => 1,
            Labels::Sessions(_) => 2,
        }
    }

    /// The columns of results that say of which window they are.
    pub(crate) fn fields(self) -> Vec<Field> {
        let data_type = match self {
            Labels::Running => return Vec::new(),
            Labels::Counts(_) => DataType::Int64,
            Labels::Windows(_) | Labels::Sessions(_) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        };
        WINDOW_COLUMNS.iter().map(|name| Field::new(*name, data_type.clone(), false)).collect()
    }

    fn columns(self, results: &RecordBatch) -> Vec<ArrayRef> {
        let label = |index: usize| results.column(index).as_primitive::<Int64Type>();
        let times = |times: Int64Array| -> ArrayRef {
            Arc::new(times.reinterpret_cast::<arrow::datatypes::TimestampMicrosecondType>().with_timezone(UTC))
        };
        match self {
            Labels::Running => Vec::new(),
            Labels::Windows(size) => {
                let starts = label(0);
                vec![times(starts.clone()), times(starts.unary(|start| start.saturating_add(size)))]
            }
            Labels::Sessions(gap) => {
                vec![times(label(0).clone()), times(label(1).unary(|last| last.saturating_add(gap)))]
            }
            Labels::Counts(count) => {
                let ends = label(0);
                let starts: Int64Array = ends.unary(|end| (end - count).max(0));
                vec![Arc::new(starts), Arc::new(ends.clone())]
            }
        }
    }
}

/// What all tasks of the step share.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) step: String,
    /// What is computed, by the labels and then the keys.
    pub(crate) keyed: Arc<dyn KeyedStep>,
    pub(crate) codec: PartialCodec,
    pub(crate) labels: Labels,
    /// Window, keys, values.
    pub(crate) output: SchemaRef,
    pub(crate) state: Arc<StepState>,
    /// The clock of event time; `None`: the time is the batch's.
    pub(crate) clock: Option<ClockId>,
    /// How much later than a window's end its rows may come.
    pub(crate) lateness_us: i64,
}

impl Spec {
    /// The schema of results of a keyed step with such labels.
    pub(crate) fn output_schema(keyed: &dyn KeyedStep, labels: Labels) -> SchemaRef {
        let results = keyed.output_schema();
        let results = results.fields()[labels.n()..].iter().map(|field| field.as_ref().clone());
        Arc::new(Schema::new(labels.fields().into_iter().chain(results).collect::<Vec<_>>()))
    }

    /// Begins on the partition of a task.
    pub(crate) fn begin(&self, task: &TaskContext) -> Result<(Box<dyn PartialOps>, StateTask), Error> {
        Ok((self.keyed.partial_ops(task)?, self.state.begin(task.stage_partition)?))
    }

    /// By when windows are complete after the rows of this batch; `None`: that is not known yet.
    pub(crate) fn cut(&self, task: &TaskContext) -> Option<i64> {
        let now_us = match self.clock {
            Some(_) => task.times.watermark(self.clock).now_us,
            None if task.times.closes() => Some(i64::MAX),
            None => Some(task.batch_time_us),
        };
        super::panes::cut(now_us, self.lateness_us)
    }

    /// Gives the results of partials on.
    pub(crate) fn emit(
        &self,
        ops: &mut dyn PartialOps,
        partials: &RecordBatch,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        for start in (0..partials.num_rows()).step_by(OUTPUT_ROWS_MAX) {
            let partials = partials.slice(start, OUTPUT_ROWS_MAX.min(partials.num_rows() - start));
            let results = ops.finish(&partials)?;
            let mut columns = self.labels.columns(&results);
            columns.extend_from_slice(&results.columns()[self.labels.n()..]);
            let doing = format!("putting the output of step `{}` together", self.step);
            emit(batch_of(self.output.clone(), columns, results.num_rows()).map_err(internal(doing))?)?;
        }
        Ok(())
    }
}

/// Partials on their way out, gathered so that results are made many at a time.
pub(crate) struct Outbox<'a, 'e> {
    spec: &'a Spec,
    emit: &'a mut Emit<'e>,
    rows: ByteRows,
    /// Whether rows of one label and key may be several, which are to be merged.
    merges: bool,
}

impl<'a, 'e> Outbox<'a, 'e> {
    pub(crate) fn new(spec: &'a Spec, emit: &'a mut Emit<'e>, merges: bool) -> Self {
        Self { spec, emit, rows: ByteRows::default(), merges }
    }

    /// Adds a row. Rows of one label and key are merged in the order in which they are added, up to the next
    /// [`may_flush`](Self::may_flush).
    pub(crate) fn push(&mut self, label: (i64, i64), key: &[u8], value: &[u8]) {
        self.rows.push(label, key, value);
    }

    /// Says that no more rows of the labels and keys so far come.
    pub(crate) fn may_flush(&mut self, ops: &mut dyn PartialOps) -> Result<(), Error> {
        if self.rows.len() >= ROWS_AT_ONCE { self.flush(ops) } else { Ok(()) }
    }

    /// Gives partials on that are merged already, behind all that were added.
    pub(crate) fn give(&mut self, ops: &mut dyn PartialOps, partials: &RecordBatch) -> Result<(), Error> {
        self.flush(ops)?;
        self.spec.emit(ops, partials, self.emit)
    }

    /// Gives all on.
    pub(crate) fn flush(&mut self, ops: &mut dyn PartialOps) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut partials = self.spec.codec.decode(&self.rows)?;
        self.rows.clear();
        if self.merges {
            partials = ops.merge(&[partials])?;
        }
        self.spec.emit(ops, &partials, self.emit)
    }
}
