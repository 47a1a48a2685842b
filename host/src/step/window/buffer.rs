//! Rows held until their windows are complete.
//!
//! ```text
//!  table 0, slot = pane start: (batch, number) ─▶ rows as an Arrow IPC stream      table 1, slot 0: the time of the last batch
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::{Spans, floor};
use crate::error::Error;
use crate::event_time::{Watermark, times_us};
use crate::source::schema::UTC;
use crate::state::{Placement, Slots, StateTask, StepState, TableLayout, rows_of};
use crate::step::keyed::{emit_in_chunks, internal};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

const PANES: usize = 0;
const LAST_BATCH: usize = 1;

/// What its tables hold. The time of the last batch is the same in all partitions.
pub(super) fn layouts(input: &SchemaRef) -> Vec<TableLayout> {
    let input = input.clone();
    let panes = TableLayout::shown(Placement::Any, Slots::Times, move |chunk| {
        Some(rows_of(&read_chunk(&input, chunk).ok()?)?.into())
    });
    vec![panes, TableLayout::hidden(Placement::Every(Placement::largest))]
}

pub(super) struct WindowFactory {
    pub(super) step: String,
    pub(super) spans: Spans,
    pub(super) input: SchemaRef,
    pub(super) output: SchemaRef,
    pub(super) state: Arc<StepState>,
}

impl StepFactory for WindowFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Running {
            step: self.step.clone(),
            spans: self.spans,
            input: self.input.clone(),
            output: self.output.clone(),
            state: Some(self.state.begin(task.stage_partition)?),
            task: task.clone(),
            rows: Vec::new(),
        }))
    }
}

struct Running {
    step: String,
    spans: Spans,
    input: SchemaRef,
    output: SchemaRef,
    /// Given back when the step ends.
    state: Option<StateTask>,
    task: TaskContext,
    rows: Vec<RecordBatch>,
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.rows.push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let Some(mut state) = self.state.take() else { return Ok(()) };
        let watermark = self.watermark(&state)?;
        let new = self.by_pane().map_err(self.internal())?;
        self.emit_windows(&state, &new, watermark, emit)?;
        self.keep(&mut state, &new, watermark).map_err(self.internal())?;
        if self.spans.time.is_none() {
            state.changes(LAST_BATCH).put(0, &[], &self.task.batch_time_us.to_le_bytes());
        }
        state.finish();
        Ok(())
    }
}

impl Running {
    fn internal(&self) -> impl FnOnce(ArrowError) -> Error + use<> {
        internal(format!("holding the rows of step `{}`", self.step))
    }

    /// What is complete before the batch and after it, less the lateness. In batch time the batches are their own clock.
    fn watermark(&self, state: &StateTask) -> Result<Watermark, Error> {
        if self.spans.time.is_some() {
            let Watermark { late_us, now_us } = self.task.times.watermark(self.spans.clock);
            let less = |us: i64| if us == i64::MAX { us } else { us.saturating_sub(self.spans.lateness_us) };
            return Ok(Watermark { late_us: late_us.map(less), now_us: now_us.map(less) });
        }
        let last = state.table(LAST_BATCH).get(0, &[])?;
        let late_us = last.and_then(|last| Some(i64::from_le_bytes(*last.first_chunk()?)));
        let now_us = if self.task.times.closes() { i64::MAX } else { self.task.batch_time_us };
        Ok(Watermark { late_us, now_us: Some(now_us) })
    }

    /// The batch's rows by the start of their pane.
    fn by_pane(&mut self) -> Result<BTreeMap<i64, RecordBatch>, ArrowError> {
        let rows = concat_batches(&self.input, &std::mem::take(&mut self.rows))?;
        if rows.num_rows() == 0 {
            return Ok(BTreeMap::new());
        }
        let Some(time) = self.spans.time else {
            // A batch ends the window that its time ends: (end - size, end].
            return Ok([(self.spans.pane_of(self.task.batch_time_us - 1), rows)].into());
        };
        let times = times_us(rows.column(time))?;
        let mut panes: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time_us) in (0..).zip(times.values()) {
            if self.spans.last_end(*time_us).is_some() {
                panes.entry(self.spans.pane_of(*time_us)).or_default().push(row);
            }
        }
        panes
            .into_iter()
            .map(|(pane, indices)| Ok((pane, take_record_batch(&rows, &UInt32Array::from(indices))?)))
            .collect()
    }

    /// Gives the rows of every window that is complete now and was not before.
    fn emit_windows(
        &self,
        state: &StateTask,
        new: &BTreeMap<i64, RecordBatch>,
        watermark: Watermark,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        // Only the windows that are due are looked at, not what waits for others.
        let Some((first_us, last_us)) = self.spans.due(watermark) else { return Ok(()) };
        let mut panes: BTreeSet<i64> = new.keys().copied().collect();
        let slots = first_us.unwrap_or(i64::MIN)..=last_us.saturating_add(self.spans.size_us - 1);
        state.table(PANES).scan(slots, &mut |slot, _, _| {
            panes.insert(slot);
            Ok(true)
        })?;
        let starts: BTreeSet<i64> = panes.iter().flat_map(|&pane| self.spans.starts_due(pane, watermark)).collect();
        for start_us in starts {
            let end_us = start_us.saturating_add(self.spans.size_us);
            let mut held: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
            state.table(PANES).scan(start_us..=end_us - 1, &mut |slot, _, chunk| {
                held.entry(slot).or_default().push(chunk.to_vec());
                Ok(true)
            })?;
            for &pane in panes.range(start_us..end_us) {
                for chunk in held.remove(&pane).unwrap_or_default() {
                    let rows = read_chunk(&self.input, &chunk).map_err(self.internal())?;
                    self.emit_rows(&rows, start_us, end_us, emit)?;
                }
                if let Some(rows) = new.get(&pane) {
                    self.emit_rows(rows, start_us, end_us, emit)?;
                }
            }
        }
        Ok(())
    }

    fn emit_rows(&self, rows: &RecordBatch, start_us: i64, end_us: i64, emit: &mut Emit<'_>) -> Result<(), Error> {
        let column = |us: i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(vec![us; rows.num_rows()]).with_timezone(UTC))
        };
        let mut columns = rows.columns().to_vec();
        columns.extend([column(start_us), column(end_us)]);
        let rows = RecordBatch::try_new(self.output.clone(), columns).map_err(self.internal())?;
        emit_in_chunks(&rows, emit)
    }

    /// Keeps what windows still need, and lets the rest go.
    fn keep(
        &self,
        state: &mut StateTask,
        new: &BTreeMap<i64, RecordBatch>,
        watermark: Watermark,
    ) -> Result<(), ArrowError> {
        // A pane is needed until the last window that it lies in is complete.
        let is_needed = |pane: i64| self.spans.last_end(pane).is_some_and(|end_us| !watermark.is_complete(end_us));
        for (&pane, rows) in new.iter().filter(|(pane, _)| is_needed(**pane)) {
            let key = self.task.batch_id.0.to_be_bytes();
            state.changes(PANES).put(pane, &key, &write_chunk(rows)?);
        }
        if let Some(now_us) = watermark.now_us {
            // The earliest window that is not complete begins here: what ends before it is over.
            let open_us = if now_us == i64::MAX {
                i64::MAX
            } else {
                let last_complete = now_us.saturating_sub(self.spans.size_us);
                floor(last_complete, self.spans.slide_us, self.spans.offset_us).saturating_add(self.spans.slide_us)
            };
            if state.table(PANES).first_slot().ok().flatten().is_some_and(|first| first < open_us) {
                state.changes(PANES).drop_slots(i64::MIN..=open_us - 1);
            }
        }
        Ok(())
    }
}

fn read_chunk(schema: &SchemaRef, chunk: &[u8]) -> Result<RecordBatch, ArrowError> {
    let batches = StreamReader::try_new(chunk, None)?.collect::<Result<Vec<_>, _>>()?;
    concat_batches(schema, &batches)
}

fn write_chunk(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    writer.into_inner()
}
