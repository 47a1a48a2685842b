//! The updater: counts rows and keeps the last, as state.

use tidemill_guest::any::{AnyBatchBuilder, AnyColumn};
use tidemill_guest::builder::{Build, Validity};
use tidemill_guest::value::Value;
use tidemill_guest::{
    Call, Calling, DataType, Failure, Field, OwnedBatch, Refusal, Rejection, Schema, Step, Timeouts, Updater,
    UpdaterInput, UpdaterOutput, UpdaterPlan, operator,
};

use crate::behind;
use crate::config::{Config, TimeoutsOf, View};
use crate::grouped::{append_integers, spans};

/// The timeout that leaves a key's as it is.
const KEEP: i64 = i64::MIN;

/// Counts rows, and keeps the last, as state.
pub struct CountInState {
    config: Config,
    values: Schema,
}

/// Rows of the values or of the states, with a count before them.
struct Rows {
    view: View,
    counts: Vec<i64>,
    columns: AnyBatchBuilder,
}

impl Rows {
    fn new(view: View, values: &Schema) -> Self {
        Self { view, counts: Vec::new(), columns: AnyBatchBuilder::new(&values.fields) }
    }

    fn push(&mut self, count: i64, columns: &[AnyColumn<'_>], row: u32) {
        self.counts.push(count);
        crate::append(self.view, columns, &[row], &mut self.columns);
    }

    fn finish(self, before: impl FnOnce(&mut OwnedBatch)) -> OwnedBatch {
        let mut out = OwnedBatch { rows: self.counts.len() as u32, ..OwnedBatch::default() };
        append_integers(self.counts, &mut out);
        before(&mut out);
        self.columns.append_to(&mut out);
        out
    }
}

#[operator]
impl Updater for CountInState {
    fn open(step: &Step, _: &Schema, values: &Schema) -> Result<(UpdaterPlan, Self), Refusal> {
        let config = Config::open(step)?;
        let rows = || Field::new("rows", DataType::Int64);
        let plan = UpdaterPlan {
            reads: None,
            state: behind(&[rows()], values)?,
            writes: behind(&[rows(), Field::new("timed_out", DataType::Boolean)], values)?,
            calling: if config.every_key { Calling::EveryKey } else { Calling::KeysWithValues },
            timeouts: match config.timeouts {
                TimeoutsOf::Never => Timeouts::Never,
                TimeoutsOf::BatchTime => Timeouts::BatchTime,
                TimeoutsOf::EventTime => Timeouts::EventTime,
            },
        };
        Ok((plan, Self { config, values: values.clone() }))
    }

    fn update(&mut self, call: &Call, input: &UpdaterInput<'_>) -> Result<UpdaterOutput, Failure> {
        let config = &self.config;
        config.begin_call(input.values.n_rows())?;
        let timeout = match config.timeouts {
            TimeoutsOf::Never => None,
            TimeoutsOf::BatchTime => config.timeout_us.map(|after| call.batch_time_us + after),
            TimeoutsOf::EventTime => config.timeout_us.map(|after| call.watermark_us.unwrap_or(0) + after),
        };
        let old_counts: Vec<i64> = match input.state.columns().next() {
            Some(column) => column.read::<i64>().ok_or("a state has no column `rows`")?.values().collect(),
            None => Vec::new(),
        };
        let values = input.values.any_columns();
        let states = input.state.any_columns().split_off(1);
        let (mut out, mut new_states) = (Rows::new(config.by, &self.values), Rows::new(config.by, &self.values));
        let mut timed_out = <bool as Value>::Builder::default();
        let (mut changes, mut timeouts_us, mut group) = (Vec::new(), Vec::new(), Vec::new());
        let mut next_state = 0;
        for (key, (start, end)) in spans(input.ends).enumerate() {
            let old = (input.has_state[key] != 0).then(|| {
                next_state += 1;
                next_state - 1
            });
            let is_timed_out = input.timed_out[key] != 0;
            let mut n_rows = 0;
            let mut last = None;
            for row in (start..end).filter(|row| !config.rejects(u64::from(*row))) {
                n_rows += 1;
                last = Some(row);
            }
            let (mut change, mut timeout_us) = (0, KEEP);
            match (last, old) {
                (_, Some(state)) if is_timed_out => {
                    out.push(old_counts[state], &states, state as u32);
                    change = 2;
                }
                (Some(last), old) => {
                    let count = old.map_or(0, |state| old_counts[state]) + n_rows;
                    out.push(count, &values, last);
                    if config.remove_at.is_some_and(|most| count >= most) {
                        change = 2;
                    } else {
                        new_states.push(count, &values, last);
                        change = 1;
                        timeout_us = timeout.unwrap_or(KEEP);
                    }
                }
                (None, Some(state)) if start == end => out.push(old_counts[state], &states, state as u32),
                _ => {}
            }
            if out.counts.len() > group.len() {
                group.push(key as u32);
                timed_out.push(is_timed_out);
            }
            changes.push(change);
            timeouts_us.push(timeout_us);
        }
        let rejected = (0..input.values.n_rows() as u32)
            .filter(|row| config.rejects(u64::from(*row)))
            .map(|row| Rejection { row, reason: format!("row {row} is rejected") });
        let has_timeouts = !matches!(config.timeouts, TimeoutsOf::Never);
        Ok(UpdaterOutput {
            changes,
            state: new_states.finish(|_| {}),
            timeouts_us: has_timeouts.then_some(timeouts_us),
            rows: out.finish(|out| timed_out.finish(Validity::ALL, out)),
            group,
            rejected: rejected.collect(),
        })
    }
}
