//! Results over all batches so far.
//!
//! | table | slot | key | value |
//! | --- | --- | --- | --- |
//! | 0 | 0 | the key | the time of the last batch with rows of it, if keys time out; the partial |
//! | 1, if keys time out | the last batch time at which it is still known | the key | |
//!
//! A batch costs what it brings: its distinct keys are looked up, merged and written once each. What has timed out is
//! found by its slot.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::partial_rows::{Met, PartialCodec};
use super::spec::{Outbox, Spec};
use crate::clock::describe_time;
use crate::error::Error;
use crate::state::{Slots, TableLayout};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Behind the shuffle.
#[derive(Debug)]
pub(crate) struct RunningFactory {
    pub(crate) spec: Arc<Spec>,
    /// Whether all keys are given in every batch, not only those that have changed.
    pub(crate) complete: bool,
    /// How long a key without rows is remembered.
    pub(crate) timeout_us: Option<i64>,
}

/// What its tables hold: partials, and when keys are forgotten if they are.
pub(crate) fn layouts(codec: &PartialCodec, times_out: bool) -> Vec<TableLayout> {
    let show = codec.shows();
    let partials = TableLayout::shown(codec.by_key(), Slots::One, move |value| {
        let (seen_us, partial) = split(value, times_out);
        let partial = show(partial)?;
        Some(match times_out {
            true => serde_json::json!({ "last": describe_time(seen_us), "partial": partial }),
            false => partial,
        })
    });
    let timers = times_out.then(|| TableLayout::hidden(codec.by_key()));
    std::iter::once(partials).chain(timers).collect()
}

impl StepFactory for RunningFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let Self { ref spec, complete, timeout_us } = *self;
        Ok(Box::new(Running { spec: spec.clone(), complete, timeout_us, task: task.clone(), partials: Vec::new() }))
    }
}

struct Running {
    spec: Arc<Spec>,
    complete: bool,
    timeout_us: Option<i64>,
    task: TaskContext,
    partials: Vec<RecordBatch>,
}

/// A value in table 0: when its key was last seen, and its partial.
fn split(value: &[u8], has_time: bool) -> (i64, &[u8]) {
    match value.split_first_chunk() {
        Some((time, partial)) if has_time => (i64::from_be_bytes(*time), partial),
        _ => (0, value),
    }
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.partials.push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let spec = self.spec.clone();
        let (mut ops, mut state) = spec.begin(&self.task)?;
        let now_us = self.task.batch_time_us;
        let times_out = self.timeout_us.is_some();
        let timeout_us = self.timeout_us.unwrap_or(i64::MAX);
        // By the times of batches alone: it does not matter whether there were batches without rows in between.
        let is_forgotten = |seen_us: i64| times_out && now_us.saturating_sub(seen_us) > timeout_us;

        let fresh = ops.merge(&std::mem::take(&mut self.partials))?;
        let mut last_seen: Vec<Option<i64>> = Vec::with_capacity(fresh.num_rows());
        let known = state.table(0);
        let met = Met::new(&spec.codec, &mut *ops, fresh, |_, key, found| {
            let value = known.get(0, key)?;
            last_seen.push(value.as_deref().map(|value| split(value, times_out).0));
            if let Some(value) = value {
                let (seen_us, partial) = split(&value, times_out);
                if !is_forgotten(seen_us) {
                    found(partial);
                }
            }
            Ok(())
        })?;

        let are_due = times_out && state.table(1).first_slot()?.is_some_and(|due_us| due_us < now_us);
        let touched: HashSet<&[u8]> = if self.complete || are_due { met.keys.iter().collect() } else { HashSet::new() };
        let mut forgotten: Vec<Box<[u8]>> = Vec::new();
        if are_due {
            state.table(1).scan(i64::MIN..=now_us - 1, &mut |_, key, _| {
                if !touched.contains(key) {
                    forgotten.push(key.into());
                }
                Ok(true)
            })?;
        }

        if self.complete {
            let mut out = Outbox::new(&spec, emit, false);
            let mut stopped = None;
            state.table(0).scan(0..=0, &mut |_, key, value| {
                let (seen_us, partial) = split(value, times_out);
                if touched.contains(key) || is_forgotten(seen_us) {
                    return Ok(true);
                }
                out.push((0, 0), key, partial);
                Ok(out.may_flush(&mut *ops).map_err(|error| stopped = Some(error)).is_ok())
            })?;
            if let Some(error) = stopped {
                return Err(error);
            }
            out.flush(&mut *ops)?;
        }
        spec.emit(&mut *ops, &met.merged, emit)?;

        let mut value = Vec::new();
        for (row, &last_seen_us) in last_seen.iter().enumerate() {
            let key = met.keys.row(row);
            if times_out {
                value.clear();
                value.extend_from_slice(&now_us.to_be_bytes());
                value.extend_from_slice(met.value(row));
                state.changes(0).put(0, key, &value);
                let due_us = now_us.saturating_add(timeout_us);
                let was_due_us = last_seen_us.map(|seen_us| seen_us.saturating_add(timeout_us));
                if was_due_us != Some(due_us) {
                    // One that is past is dropped with its slot.
                    if let Some(was_due_us) = was_due_us.filter(|was_due_us| *was_due_us >= now_us) {
                        state.changes(1).remove(was_due_us, key);
                    }
                    state.changes(1).put(due_us, key, &[]);
                }
            } else {
                state.changes(0).put(0, key, met.value(row));
            }
        }
        for key in &forgotten {
            state.changes(0).remove(0, key);
        }
        if are_due {
            state.changes(1).drop_slots(i64::MIN..=now_us - 1);
        }
        state.finish();
        Ok(())
    }
}
