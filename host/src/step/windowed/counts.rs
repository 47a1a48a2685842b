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
//! | 0 | 0 | the key | how many rows it has had (8 bytes); if keys time out, the time of the last batch with rows of it (8 bytes) |
//! | 1 | a pane's first row | the key | the partial of the pane |
//! | 2, if keys time out | the last batch time at which it is still known | the key | |
//!
//! Rows are numbered behind the shuffle, so they are all sent: nothing is combined before it. A window costs its panes; a
//! batch costs its rows and the windows that end in it. Windows that are not full at the end of the job are not given, nor
//! are those of a key that is forgotten: it starts anew, at row 0.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

use super::panes::gcd;
use super::partial_rows::{Met, Overlay, PartialCodec};
use super::spec::{Outbox, Spec};
use crate::clock::describe_time;
use crate::error::Error;
use crate::state::{Changes, Slots, StateError, TableLayout};
use crate::step::key_table::KeyTable;
use crate::step::keyed::{KeyColumns, batch_of, internal};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// What its tables hold.
pub(crate) fn layouts(codec: &PartialCodec, times_out: bool) -> Vec<TableLayout> {
    let rows = TableLayout::shown(codec.by_key(), Slots::One, |value| {
        let (n_rows, rest) = value.split_first_chunk()?;
        let last = rest.first_chunk().map(|last| describe_time(i64::from_be_bytes(*last)));
        Some(serde_json::json!({ "rows": i64::from_be_bytes(*n_rows), "last": last }))
    });
    let panes = TableLayout::shown(codec.by_key(), Slots::Numbers, codec.shows());
    let timers = times_out.then(|| TableLayout::hidden(codec.by_key()));
    [rows, panes].into_iter().chain(timers).collect()
}

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

    /// The panes that are kept of a key that has had so many rows.
    fn kept(self, n_rows: i64) -> impl Iterator<Item = i64> {
        let first = self.first_needed(n_rows) / self.width * self.width;
        (first..n_rows).step_by(self.width as usize)
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
    /// How long a key without rows is remembered.
    pub(crate) timeout_us: Option<i64>,
}

/// What is kept of a key: how many rows it has had, and in which batch the last came.
#[derive(Debug, Clone, Copy)]
struct Known {
    n_rows: i64,
    seen_us: i64,
}

impl Known {
    fn read(value: &[u8], step: &str) -> Result<Self, StateError> {
        let number =
            |index: usize| value.get(index * 8..).and_then(<[u8]>::first_chunk).copied().map(i64::from_be_bytes);
        let damaged = || StateError::Damaged { step: step.to_owned(), what: "how many rows a key has had".into() };
        Ok(Self { n_rows: number(0).ok_or_else(damaged)?, seen_us: number(1).unwrap_or(i64::MAX) })
    }
}

impl StepFactory for CountsFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Counts {
            spec: self.spec.clone(),
            panes: self.panes,
            keys: self.keys.clone(),
            with_panes: self.with_panes.clone(),
            combine: self.combine.start(task)?,
            timeout_us: self.timeout_us,
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
    timeout_us: Option<i64>,
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
        let now_us = self.task.batch_time_us;
        let timeout_us = self.timeout_us;
        // By the times of batches alone, as running results.
        let is_forgotten =
            |known: &Known| timeout_us.is_some_and(|timeout| now_us.saturating_sub(known.seen_us) > timeout);
        let mut known: Vec<Option<Known>> = Vec::with_capacity(keys.len());
        for key in keys.iter() {
            let value = state.table(0).get(0, key)?;
            known.push(value.map(|value| Known::read(&value, &spec.step)).transpose()?);
        }
        let n_before: Vec<i64> = known
            .iter()
            .map(|known| known.filter(|known| !is_forgotten(known)).map_or(0, |known| known.n_rows))
            .collect();
        // Their panes have the numbers of new ones.
        let anew: HashSet<&[u8]> = keys
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.as_ref().is_some_and(is_forgotten))
            .map(|(key, _)| key)
            .collect();

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
            if !anew.contains(key)
                && let Some(value) = kept.get(pane, key)?
            {
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
        let mut changes = [Changes::default(), Changes::default(), Changes::default()];
        let mut new_panes: HashSet<(i64, usize)> = HashSet::new();
        for row in 0..met.len() {
            let (pane, key) = (met.labels[row].0, met.keys.row(row));
            let number = numbers[key];
            if pane + width > needed(number) {
                changes[1].put(pane, key, met.value(row));
                if anew.contains(key) {
                    new_panes.insert((pane, number));
                }
            } else if met.was_there[row] {
                changes[1].remove(pane, key);
            }
        }
        for (number, key) in keys.iter().enumerate() {
            match timeout_us {
                None => changes[0].put(0, key, &n_rows[number].to_be_bytes()),
                Some(timeout_us) => {
                    changes[0].put(0, key, &[n_rows[number].to_be_bytes(), now_us.to_be_bytes()].concat());
                    let due_us = now_us.saturating_add(timeout_us);
                    let was_due_us = known[number].map(|known| known.seen_us.saturating_add(timeout_us));
                    if was_due_us != Some(due_us) {
                        // One that is past is dropped with its slot.
                        if let Some(was_due_us) = was_due_us.filter(|was_due_us| *was_due_us >= now_us) {
                            changes[2].remove(was_due_us, key);
                        }
                        changes[2].put(due_us, key, &[]);
                    }
                }
            }
            if let Some(known) = known[number].filter(is_forgotten) {
                let old = self.panes.kept(known.n_rows).filter(|pane| !new_panes.contains(&(*pane, number)));
                old.for_each(|pane| changes[1].remove(pane, key));
                continue;
            }
            // Panes that the batch did not touch: whole ones before it.
            let whole = n_before[number] / width * width;
            let first = self.panes.first_needed(n_before[number]) / width * width;
            for pane in (first..whole.min(needed(number) / width * width)).step_by(width as usize) {
                changes[1].remove(pane, key);
            }
        }
        if timeout_us.is_some() && state.table(2).first_slot()?.is_some_and(|due_us| due_us < now_us) {
            let mut forgotten: Vec<Box<[u8]>> = Vec::new();
            state.table(2).scan(i64::MIN..=now_us - 1, &mut |_, key, _| {
                if !numbers.contains_key(key) {
                    forgotten.push(key.into());
                }
                Ok(true)
            })?;
            for key in forgotten {
                if let Some(value) = state.table(0).get(0, &key)? {
                    let known = Known::read(&value, &spec.step)?;
                    self.panes.kept(known.n_rows).for_each(|pane| changes[1].remove(pane, &key));
                }
                changes[0].remove(0, &key);
            }
            changes[2].drop_slots(i64::MIN..=now_us - 1);
        }
        for (table, changes) in changes.into_iter().enumerate().take(2 + usize::from(timeout_us.is_some())) {
            *state.changes(table) = changes;
        }
        state.finish();
        Ok(())
    }
}
