//! Windows of so many rows of a key, in the order in which they arrive.
//!
//! ```text
//!  rows of a key    0 1 2 3 4 5 6 7 8 9       count 4, slide 2, panes of 2
//!  windows          [ 0 2 )
//!                   [   0 4   )
//!                       [   2 6   )           given with row 5, when the batch that brings it ends
//! ```
//!
//! | table | slot | key | value |
//! | --- | --- | --- | --- |
//! | 0 | 0 | the key | how many rows it has had (8 bytes) |
//! | 1 | a pane's first row | the key | the partial of the pane |
//!
//! Rows are numbered behind the shuffle, so they are all sent: nothing is combined before it. A window costs its panes; a
//! batch costs its rows and the windows that end in it. Windows that are not full at the end of the job are not given.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use super::panes::gcd;
use super::partial_rows::{Met, Overlay};
use super::spec::{Outbox, Spec};
use crate::error::Error;
use crate::state::{Changes, StateError};
use crate::step::key_table::KeyTable;
use crate::step::keyed::{KeyColumns, batch_of, internal};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// How many tables it keeps.
pub(crate) const N_TABLES: usize = 2;

/// Windows of so many rows that begin every so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CountPanes {
    count: i64,
    slide: i64,
    width: i64,
}

impl CountPanes {
    pub(crate) fn new(count: i64, slide: i64) -> Self {
        Self { count, slide, width: gcd(count, slide) }
    }

    /// The first row that a window still needs, when a key has had so many.
    fn first_needed(self, n_rows: i64) -> i64 {
        ((n_rows / self.slide + 1) * self.slide - self.count).max(0)
    }
}

/// Behind the shuffle.
pub(crate) struct CountsFactory {
    pub(crate) spec: Arc<Spec>,
    pub(crate) panes: CountPanes,
    /// The key columns of the rows.
    pub(crate) keys: KeyColumns,
    /// The rows, and the pane of each.
    pub(crate) with_panes: SchemaRef,
    /// Makes partials of them.
    pub(crate) combine: Arc<dyn StepFactory>,
}

impl StepFactory for CountsFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Counts {
            spec: self.spec.clone(),
            panes: self.panes,
            keys: self.keys.clone(),
            with_panes: self.with_panes.clone(),
            combine: self.combine.start(task)?,
            task: task.clone(),
            rows: Vec::new(),
        }))
    }
}

struct Counts {
    spec: Arc<Spec>,
    panes: CountPanes,
    keys: KeyColumns,
    with_panes: SchemaRef,
    combine: Box<dyn PipelineStep>,
    task: TaskContext,
    rows: Vec<RecordBatch>,
}

impl PipelineStep for Counts {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.rows.push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let spec = self.spec.clone();
        let doing = || internal(format!("numbering the rows of step `{}`", spec.step));
        let (mut ops, mut state) = spec.begin(&self.task)?;
        let ops = &mut *ops;
        let CountPanes { count, slide, width } = self.panes;

        // The keys of the batch, and how many rows they have had.
        let types: Vec<DataType> = self.keys.fields.iter().map(|field| field.data_type().clone()).collect();
        let mut table = KeyTable::new(&types);
        let mut groups: Vec<Vec<u32>> = Vec::with_capacity(self.rows.len());
        for rows in &self.rows {
            let mut of_rows = Vec::new();
            table.group_rows(&self.keys.of(rows), rows.num_rows(), &mut of_rows).map_err(doing())?;
            groups.push(of_rows);
        }
        let keys = spec.codec.encode_keys(&table.keys().map_err(doing())?, table.len())?;
        let mut n_before: Vec<i64> = Vec::with_capacity(keys.len());
        for key in keys.iter() {
            let value = state.table(0).get(0, key)?;
            let number = value.as_deref().map(|value| value.first_chunk().copied().map(i64::from_be_bytes));
            let damaged =
                || StateError::Damaged { step: spec.step.clone(), what: "how many rows a key has had".into() };
            n_before.push(number.map_or(Ok(0), |number| number.ok_or_else(damaged))?);
        }

        // The pane of each row, then partials of panes.
        let mut n_rows = n_before.clone();
        let mut partials = Vec::new();
        let mut take = |rows: RecordBatch| {
            partials.push(rows);
            Ok(())
        };
        for (rows, groups) in std::mem::take(&mut self.rows).into_iter().zip(groups) {
            let panes = groups.iter().map(|&group| {
                let n_rows = &mut n_rows[group as usize];
                *n_rows += 1;
                (*n_rows - 1) / width * width
            });
            let panes: ArrayRef = Arc::new(panes.collect::<Int64Array>());
            let columns = rows.columns().iter().cloned().chain([panes]).collect();
            let rows = batch_of(self.with_panes.clone(), columns, rows.num_rows()).map_err(doing())?;
            self.combine.push(rows, &mut take)?;
        }
        self.combine.finish(&mut take)?;
        let fresh = ops.merge(&partials)?;
        drop(partials);
        let kept = state.table(1);
        let met = Met::new(&spec.codec, ops, fresh, |(pane, _), key, found| {
            if let Some(value) = kept.get(pane, key)? {
                found(&value);
            }
            Ok(())
        })?;

        // Windows that the batch has filled.
        let overlay = Overlay::new(state.table(1), &met);
        let mut out = Outbox::new(&spec, emit, true);
        for (key, (&n_before, &n_rows)) in keys.iter().zip(n_before.iter().zip(&n_rows)) {
            let mut end = (n_before / slide + 1) * slide;
            while end <= n_rows {
                for pane in ((end - count).max(0)..end).step_by(width as usize) {
                    overlay.get(pane, key, &mut |value| {
                        out.push((end, 0), key, value);
                        Ok(())
                    })?;
                }
                out.may_flush(ops)?;
                end += slide;
            }
        }
        out.flush(ops)?;

        // Panes that later windows need stay; each is written or removed once.
        let numbers: HashMap<&[u8], usize> = keys.iter().enumerate().map(|(number, key)| (key, number)).collect();
        let needed = |number: usize| self.panes.first_needed(n_rows[number]);
        let mut changes = [Changes::default(), Changes::default()];
        for row in 0..met.len() {
            let (pane, key) = (met.labels[row].0, met.keys.row(row));
            let number = numbers[key];
            if pane + width > needed(number) {
                changes[1].put(pane, key, met.value(row));
            } else if met.was_there[row] {
                changes[1].remove(pane, key);
            }
        }
        for (number, key) in keys.iter().enumerate() {
            changes[0].put(0, key, &n_rows[number].to_be_bytes());
            // Panes that the batch did not touch: whole ones before it.
            let whole = n_before[number] / width * width;
            let first = self.panes.first_needed(n_before[number]) / width * width;
            for pane in (first..whole.min(needed(number) / width * width)).step_by(width as usize) {
                changes[1].remove(pane, key);
            }
        }
        for (table, changes) in changes.into_iter().enumerate() {
            *state.changes(table) = changes;
        }
        state.finish();
        Ok(())
    }
}
