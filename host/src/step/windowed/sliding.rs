//! Overlapping windows, each made of the one before: what enters is merged, what leaves is inverted.
//!
//! ```text
//!  panes         │ 0  │ 1  │ 2  │ 3  │ 4  │ 5  │         running partials hold, key by key:
//!  window 0      [ ·    ·    ·    · )                   0 to 3, given; then 1 to 3
//!  window 1           [ ·    ·    ·    · )              4 enters: 1 to 4, given; then 2 to 4
//! ```
//!
//! | table | slot | key | value |
//! | --- | --- | --- | --- |
//! | 2 | 0 | the key | in how many panes it is (4 bytes), then its partial of them |
//!
//! A key that is in no pane any more is gone. Where inverting drifts, all is merged anew from the panes once in a turn of
//! the window, which costs no more than the panes that have entered since. A window that nothing enters and nothing leaves
//! costs what it gives.
//!
//! Rows may still come for panes that are part of the running partials: late for the windows that were given, not for
//! those to come. Merging them would put them behind later rows, and inverting takes away the earliest, so their keys are
//! merged anew from their panes.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;

use super::panes::Panes;
use super::partial_rows::{ByteRows, Counted, Merging, Met, Overlay};
use super::spec::{Outbox, Spec};
use super::timed::Position;
use crate::error::Error;
use crate::state::{Changes, StateTable};
use crate::step::keyed::internal;
use crate::step::partials::PartialOps;

/// A running partial: in how many panes its key is, and the partial.
type Running = (u32, Box<[u8]>);

fn split(value: &[u8]) -> (u32, &[u8]) {
    match value.split_first_chunk() {
        Some((count, partial)) => (u32::from_be_bytes(*count), partial),
        None => (0, value),
    }
}

/// What a batch has made of a running partial.
struct Changed {
    /// Whether the table has the key.
    was_there: bool,
    now: Option<Running>,
}

/// A change of the table of running partials.
pub(crate) enum RunningChange {
    /// All of them go.
    Clear,
    /// One is written.
    Put(Box<[u8]>, Running),
    /// One goes.
    Remove(Box<[u8]>),
}

impl RunningChange {
    pub(crate) fn write(&self, changes: &mut Changes) {
        match self {
            Self::Clear => changes.drop_slots(0..=0),
            Self::Put(key, (count, partial)) => changes.put(0, key, &[&count.to_be_bytes()[..], partial].concat()),
            Self::Remove(key) => changes.remove(0, key),
        }
    }
}

/// The running partials of a partition, in one batch.
pub(crate) struct Sliding<'a> {
    spec: &'a Spec,
    panes: Panes,
    overlay: &'a Overlay<'a>,
    table: &'a dyn StateTable,
    /// Whether what the table has no longer counts.
    is_cleared: bool,
    changed: BTreeMap<Box<[u8]>, Changed>,
    position: Position,
}

impl<'a> Sliding<'a> {
    pub(crate) fn new(
        spec: &'a Spec,
        panes: Panes,
        overlay: &'a Overlay<'a>,
        table: &'a dyn StateTable,
        position: Position,
    ) -> Self {
        Self { spec, panes, overlay, table, is_cleared: false, changed: BTreeMap::new(), position }
    }

    /// Where windows are now, and what has changed in the table.
    pub(crate) fn finish(self) -> (Position, Vec<RunningChange>) {
        let mut changes = Vec::new();
        if self.is_cleared {
            changes.push(RunningChange::Clear);
        }
        changes.extend(self.changed.into_iter().filter_map(|(key, changed)| match changed.now {
            Some(running) => Some(RunningChange::Put(key, running)),
            None => changed.was_there.then_some(RunningChange::Remove(key)),
        }));
        (self.position, changes)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Running>, Error> {
        if let Some(changed) = self.changed.get(key) {
            return Ok(changed.now.clone());
        }
        if self.is_cleared {
            return Ok(None);
        }
        let value = self.table.get(0, key)?;
        Ok(value.map(|value| {
            let (count, partial) = split(&value);
            (count, partial.into())
        }))
    }

    fn set(&mut self, key: &[u8], now: Option<Running>) -> Result<(), Error> {
        let is_there = now.is_some();
        let had = match self.changed.get_mut(key) {
            Some(changed) => std::mem::replace(&mut changed.now, now).is_some(),
            None => {
                let was_there = !self.is_cleared && self.table.get(0, key)?.is_some();
                self.changed.insert(key.into(), Changed { was_there, now });
                was_there
            }
        };
        self.position.n_keys = self.position.n_keys + u64::from(is_there) - u64::from(had);
        Ok(())
    }

    /// Brings in what the batch has for panes that the running partials hold.
    pub(crate) fn take_late_rows(&mut self, ops: &mut dyn PartialOps, met: &Met) -> Result<(), Error> {
        let Position { next, covered, .. } = self.position;
        let late = self.overlay.met_between(next, covered);
        let keys: BTreeSet<&[u8]> = late.iter().map(|&row| met.keys.row(row as usize)).collect();
        let mut merging = Merging::new(&self.spec.codec);
        for key in keys {
            for pane in (next..covered).step_by(self.panes.width() as usize) {
                self.overlay.get(pane, key, &mut |value| merging.push(ops, key, value))?;
            }
        }
        self.set_all(ops, merging)
    }

    fn set_all(&mut self, ops: &mut dyn PartialOps, merging: Merging<'_>) -> Result<(), Error> {
        let Some(Counted { partials, keys, counts }) = merging.finish(ops)? else { return Ok(()) };
        let values = self.spec.codec.values_of(&partials)?;
        for (row, count) in counts.into_iter().enumerate() {
            self.set(keys.row(row), Some((count, values.row(row).into())))?;
        }
        Ok(())
    }

    /// Gives every window that is complete at `cut`.
    pub(crate) fn advance(
        &mut self,
        ops: &mut dyn PartialOps,
        cut: i64,
        out: &mut Outbox<'_, '_>,
    ) -> Result<(), Error> {
        let first_open = self.panes.first_open(cut);
        loop {
            if self.position.n_keys == 0 {
                // Nothing runs: on to the next pane that has rows.
                let from = self.position.covered.max(self.position.next);
                let pane = self.overlay.next_slot(from)?;
                let next = pane.map_or(first_open, |pane| self.panes.first_window(pane).min(first_open));
                self.position.next = self.position.next.max(next);
                self.position.covered = self.position.covered.max(self.position.next);
            }
            let start = self.position.next;
            if start >= first_open {
                return Ok(());
            }
            let end = start + self.panes.size();
            self.enter(ops, self.position.covered, end)?;
            self.position.covered = end;
            self.give(ops, start, out)?;
            self.position.next = start + self.panes.slide();
            self.position.n_advances += 1;
            let n_turn = (self.panes.size() / self.panes.slide()).cast_unsigned();
            if (ops.drifts() && self.position.n_advances >= n_turn) || !self.leave(ops, start, self.position.next)? {
                self.make_anew(ops)?;
            }
        }
    }

    /// The rows of some panes, one a key.
    fn merged(&self, ops: &mut dyn PartialOps, start: i64, end: i64) -> Result<Option<Counted>, Error> {
        let mut merging = Merging::new(&self.spec.codec);
        self.overlay.scan(start, end, &mut |_, key, value| merging.push(ops, key, value))?;
        merging.finish(ops)
    }

    /// Merges the panes from `start` on, before `end`, into the running partials.
    fn enter(&mut self, ops: &mut dyn PartialOps, start: i64, end: i64) -> Result<(), Error> {
        let Some(Counted { partials, keys, counts }) = self.merged(ops, start, end)? else { return Ok(()) };
        let mut before = Vec::with_capacity(counts.len());
        for key in keys.iter() {
            before.push(self.get(key)?);
        }
        let mut next = before.iter();
        let met = Met::new(&self.spec.codec, ops, partials, |_, _, found| {
            if let Some(Some((_, partial))) = next.next() {
                found(partial);
            }
            Ok(())
        })?;
        for (row, count) in counts.iter().enumerate() {
            let n_before = before[row].as_ref().map_or(0, |(count, _)| *count);
            self.set(keys.row(row), Some((n_before + count, met.value(row).into())))?;
        }
        Ok(())
    }

    /// Takes the panes from `start` on, before `end`, out of the running partials; `false` when that cannot be done.
    fn leave(&mut self, ops: &mut dyn PartialOps, start: i64, end: i64) -> Result<bool, Error> {
        let Some(Counted { partials, keys, counts }) = self.merged(ops, start, end)? else { return Ok(true) };
        let mut whole = ByteRows::default();
        let mut part = Vec::new();
        let mut left = Vec::new();
        for (row, count) in counts.iter().enumerate() {
            let key = keys.row(row);
            match self.get(key)? {
                Some((n_panes, partial)) if n_panes > *count => {
                    whole.push((0, 0), key, &partial);
                    part.push(row as u32);
                    left.push(n_panes - count);
                }
                _ => self.set(key, None)?,
            }
        }
        if whole.is_empty() {
            return Ok(true);
        }
        let doing = format!("choosing what leaves a window of step `{}`", self.spec.step);
        let part = UInt32Array::from(part);
        let parts = take_record_batch(&partials, &part).map_err(internal(doing))?;
        let Some(inverted) = ops.invert(&self.spec.codec.decode(&whole)?, &parts) else { return Ok(false) };
        let values = self.spec.codec.values_of(&inverted?)?;
        for (row, count) in left.into_iter().enumerate() {
            self.set(whole.key(row), Some((count, values.row(row).into())))?;
        }
        Ok(true)
    }

    /// Makes the running partials from the panes that they hold.
    fn make_anew(&mut self, ops: &mut dyn PartialOps) -> Result<(), Error> {
        self.is_cleared = true;
        self.changed.clear();
        self.position.n_keys = 0;
        self.position.n_advances = 0;
        let mut merging = Merging::new(&self.spec.codec);
        let (start, end) = (self.position.next, self.position.covered);
        self.overlay.scan(start, end, &mut |_, key, value| merging.push(ops, key, value))?;
        self.set_all(ops, merging)
    }

    /// Gives the running partials as the window that starts then.
    fn give(&self, ops: &mut dyn PartialOps, start: i64, out: &mut Outbox<'_, '_>) -> Result<(), Error> {
        let mut stopped = None;
        if !self.is_cleared {
            self.table.scan(0..=0, &mut |_, key, value| {
                match self.changed.get(key) {
                    Some(Changed { now: None, .. }) => return Ok(true),
                    Some(Changed { now: Some((_, partial)), .. }) => out.push((start, 0), key, partial),
                    None => out.push((start, 0), key, split(value).1),
                }
                Ok(out.may_flush(ops).map_err(|error| stopped = Some(error)).is_ok())
            })?;
        }
        if let Some(error) = stopped {
            return Err(error);
        }
        for (key, changed) in self.changed.iter().filter(|(_, changed)| !changed.was_there || self.is_cleared) {
            if let Some((_, partial)) = &changed.now {
                out.push((start, 0), key, partial);
                out.may_flush(ops)?;
            }
        }
        Ok(())
    }
}
