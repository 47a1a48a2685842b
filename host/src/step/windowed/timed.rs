//! Windows of time: tumbling and sliding, on event time or batch time.
//!
//! | table | slot | key | value |
//! | --- | --- | --- | --- |
//! | 0 | a pane's start | the key | the partial of the key's rows in the pane |
//! | 1 | 0 | | the [`Position`] |
//! | 2, if windows overlap and are given once | | | see [`sliding`](super::sliding) and [`blocks`](super::blocks) |
//!
//! What a window costs when it is given once (`append`): windows that are panes cost their rows. Overlapping ones cost
//! their keys and the keys of the panes that enter and leave, if what is computed can be inverted; if not, the keys of some
//! blocks and panes of theirs, about three times the root of how many panes they have. `update` costs, for each key that a batch brings and each window that this changes, one look-up a pane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::WindowOutput;
use super::blocks::Blocks;
use super::panes::{Panes, TIME_US_MAX};
use super::partial_rows::{Met, Overlay, PartialCodec};
use super::sliding::Sliding;
use super::spec::{Outbox, Spec};
use crate::error::Error;
use crate::state::{Placement, Slots, StateError, StateTable, TableLayout};
use crate::step::partials::PartialOps;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// What its tables hold. When partitions change, what runs over panes, and blocks of them, are made anew.
pub(crate) fn layouts(codec: &PartialCodec) -> Vec<TableLayout> {
    let panes = TableLayout::shown(codec.by_key(), Slots::Times, codec.shows());
    let position = TableLayout::hidden(Placement::Every(Position::of_all));
    vec![panes, position, TableLayout::hidden(Placement::Nowhere)]
}

/// How far windows have been given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The start of the next window: those before it are complete and given; `i64::MIN` before the first.
    pub(crate) next: i64,
    /// Where the panes end that the running partials hold, or the blocks.
    pub(crate) covered: i64,
    /// How many keys they have.
    pub(crate) n_keys: u64,
    /// Windows since they were last made from panes.
    pub(crate) n_advances: u64,
}

impl Position {
    const START: Self = Self { next: i64::MIN, covered: i64::MIN, n_keys: 0, n_advances: 0 };

    fn read(table: &dyn StateTable, step: &str) -> Result<Self, Error> {
        let Some(value) = table.get(0, &[])? else { return Ok(Self::START) };
        let number = |index: usize| {
            let bytes = value.get(index * 8..).and_then(<[u8]>::first_chunk);
            let damaged = || StateError::Damaged { step: step.to_owned(), what: "the position of its windows".into() };
            bytes.copied().map(i64::from_be_bytes).ok_or_else(damaged)
        };
        Ok(Self {
            next: number(0)?,
            covered: number(1)?,
            n_keys: number(2)?.cast_unsigned(),
            n_advances: number(3)?.cast_unsigned(),
        })
    }

    /// Where windows are when those of several partitions are dealt out anew: behind all that were given. A partition that has come less
    /// far has nothing in between, or it would have been given too, as the watermark is the same for all.
    fn of_all(positions: &[Vec<u8>]) -> Vec<u8> {
        let next = positions.iter().filter_map(|value| value.first_chunk()).map(|bytes| i64::from_be_bytes(*bytes));
        Self { next: next.max().unwrap_or(i64::MIN), ..Self::START }.to_bytes()
    }

    fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.next, self.covered, self.n_keys.cast_signed(), self.n_advances.cast_signed()];
        numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
    }
}

/// Behind the shuffle.
#[derive(Debug)]
pub(crate) struct WindowsFactory {
    pub(crate) spec: Arc<Spec>,
    pub(crate) panes: Panes,
    pub(crate) output: WindowOutput,
}

impl StepFactory for WindowsFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let Self { ref spec, panes, output } = *self;
        Ok(Box::new(Windows { spec: spec.clone(), panes, output, task: task.clone(), partials: Vec::new() }))
    }
}

struct Windows {
    spec: Arc<Spec>,
    panes: Panes,
    output: WindowOutput,
    task: TaskContext,
    partials: Vec<RecordBatch>,
}

impl PipelineStep for Windows {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.partials.push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let spec = self.spec.clone();
        let (mut ops, mut state) = spec.begin(&self.task)?;
        let ops = &mut *ops;
        let fresh = ops.merge(&std::mem::take(&mut self.partials))?;
        let kept = state.table(0);
        let met = Met::new(&spec.codec, ops, fresh, |(pane, _), key, found| {
            if let Some(value) = kept.get(pane, key)? {
                found(&value);
            }
            Ok(())
        })?;
        let overlay = Overlay::new(state.table(0), &met);
        let before = Position::read(state.table(1), &spec.step)?;
        let cut = spec.cut(&self.task);
        let first_open = cut.map_or(i64::MIN, |cut| self.panes.first_open(cut));
        let mut position = Position { next: before.next.max(first_open), ..before };

        let mut running = Vec::new();
        let mut changed_blocks = None;
        let is_incremental = self.output == WindowOutput::Append && self.is_incremental(ops);
        let mut out = Outbox::new(&spec, emit, !self.panes.is_plain() && !is_incremental);
        match self.output {
            WindowOutput::Append if is_incremental => {
                let mut sliding = Sliding::new(&spec, self.panes, &overlay, state.table(2), before);
                sliding.take_late_rows(ops, &met)?;
                if let Some(cut) = cut {
                    sliding.advance(ops, cut, &mut out)?;
                }
                (position, running) = sliding.finish();
            }
            WindowOutput::Append => {
                let mut blocks = Blocks::new(&spec, self.panes, &overlay, state.table(2), before.covered);
                if let Some(blocks) = &mut blocks {
                    blocks.take_late_rows(ops, &met, before.next)?;
                }
                if let Some(cut) = cut {
                    self.append(ops, &overlay, blocks.as_mut(), before.next, cut, &mut out)?;
                }
                if let Some(blocks) = blocks {
                    let (covered, changed) = blocks.finish();
                    position.covered = covered;
                    changed_blocks = Some(changed);
                }
            }
            WindowOutput::Update => self.update(ops, &met, &overlay, before.next, &mut out)?,
            WindowOutput::Complete => self.complete(ops, &overlay, before.next, &mut out)?,
        }
        out.flush(ops)?;

        let is_over = state.table(0).first_slot()?.is_some_and(|slot| slot < position.next);
        if let Some(changed) = changed_blocks {
            let is_over = state.table(2).first_slot()?.is_some_and(|slot| slot < position.next);
            changed.write(position.next, state.changes(2));
            if is_over {
                state.changes(2).drop_slots(i64::MIN..=position.next - 1);
            }
        }
        for change in running {
            change.write(state.changes(2));
        }
        let changes = state.changes(0);
        for row in (0..met.len()).filter(|&row| met.labels[row].0 >= position.next) {
            changes.put(met.labels[row].0, met.keys.row(row), met.value(row));
        }
        if is_over {
            changes.drop_slots(i64::MIN..=position.next - 1);
        }
        if position != before {
            state.changes(1).put(0, &[], &position.to_bytes());
        }
        state.finish();
        Ok(())
    }
}

impl Windows {
    fn is_incremental(&self, ops: &dyn PartialOps) -> bool {
        self.panes.slide() < self.panes.size() && ops.is_invertible()
    }

    /// Gives the windows from `next` on that are complete at `cut`, each from its blocks or panes.
    fn append(
        &self,
        ops: &mut dyn PartialOps,
        overlay: &Overlay<'_>,
        mut blocks: Option<&mut Blocks<'_>>,
        next: i64,
        cut: i64,
        out: &mut Outbox<'_, '_>,
    ) -> Result<(), Error> {
        let panes = &self.panes;
        let mut next = next;
        // From one pane that has rows to the next: years without rows cost nothing.
        while let Some(pane) = overlay.next_slot(next)? {
            let start = next.max(panes.first_window(pane));
            let end = start + panes.size();
            if end > cut {
                break;
            }
            match &mut blocks {
                Some(blocks) => blocks.push_window(ops, start, out)?,
                None => overlay.scan(start, end, &mut |_, key, value| {
                    out.push((start, 0), key, value);
                    if panes.is_plain() { out.may_flush(ops) } else { Ok(()) }
                })?,
            }
            out.may_flush(ops)?;
            next = start + panes.slide();
        }
        Ok(())
    }

    /// Gives every window and key that the batch has changed.
    fn update(
        &self,
        ops: &mut dyn PartialOps,
        met: &Met,
        overlay: &Overlay<'_>,
        next: i64,
        out: &mut Outbox<'_, '_>,
    ) -> Result<(), Error> {
        let panes = &self.panes;
        if panes.is_plain() {
            return out.give(ops, &met.merged);
        }
        let mut order: Vec<usize> = (0..met.len()).collect();
        order.sort_unstable_by_key(|&row| (met.keys.row(row), met.labels[row]));
        for rows in order.chunk_by(|&a, &b| met.keys.row(a) == met.keys.row(b)) {
            let key = met.keys.row(rows[0]);
            let windows = rows.iter().flat_map(|&row| panes.windows_of(met.labels[row].0));
            let windows: BTreeSet<i64> = windows.filter(|start| *start >= next).collect();
            let mut values: BTreeMap<i64, Option<Vec<u8>>> = BTreeMap::new();
            for start in windows {
                for pane in (start..start + panes.size()).step_by(panes.width() as usize) {
                    let value = match values.entry(pane) {
                        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                        std::collections::btree_map::Entry::Vacant(entry) => {
                            let mut found = None;
                            overlay.get(pane, key, &mut |value| {
                                found = Some(value.to_vec());
                                Ok(())
                            })?;
                            entry.insert(found)
                        }
                    };
                    if let Some(value) = value {
                        out.push((start, 0), key, value);
                    }
                }
            }
            out.may_flush(ops)?;
        }
        Ok(())
    }

    /// Gives every window that was open when the batch began.
    fn complete(
        &self,
        ops: &mut dyn PartialOps,
        overlay: &Overlay<'_>,
        next: i64,
        out: &mut Outbox<'_, '_>,
    ) -> Result<(), Error> {
        let panes = &self.panes;
        overlay.scan(-2 * TIME_US_MAX, 2 * TIME_US_MAX, &mut |pane, key, value| {
            for start in panes.windows_of(pane).filter(|start| *start >= next) {
                out.push((start, 0), key, value);
            }
            if panes.is_plain() { out.may_flush(ops) } else { Ok(()) }
        })
    }
}
