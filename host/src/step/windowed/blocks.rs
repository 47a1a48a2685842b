//! Overlapping windows of what cannot be inverted: panes are merged into blocks once, and windows are made of blocks.
//!
//! ```text
//!  panes     │ 0│ 1│ 2│ 3│ 4│ 5│ 6│ 7│ 8│ 9│10│11│        blocks of 3 panes
//!  window          [ 2│ 3  4  5│ 6  7  8│ 9│10 )           a pane, two blocks, two panes
//!  the next           [ 3  4  5│ 6  7  8│ 9 10 11 )        three blocks: the last is made now
//! ```
//!
//! | table | slot | key | value |
//! | --- | --- | --- | --- |
//! | 2 | a block's start | the key | the partial of the key's rows in the block |
//!
//! With blocks of √n panes a window of n panes costs three times √n partials a key at most, and each pane is merged into its
//! block once. A block is made when the first window that holds it whole is given: by then the watermark has passed it.
//!
//! The law: of every block that ends by `covered` and does not begin before the next window, the table has the merge of its
//! panes. Rows may still come for its panes, late for the windows that were given and not for those to come: the block is
//! made anew for their keys, from all of its panes, because partials are merged in the order of panes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::panes::Panes;
use super::partial_rows::{Counted, Merging, Met, Overlay};
use super::spec::{Outbox, Spec};
use crate::error::Error;
use crate::state::{Changes, StateTable};
use crate::step::partials::PartialOps;

/// Windows of fewer panes are merged from them: blocks would save little. (Tests are to meet them often.)
const PANES_MIN: i64 = if cfg!(test) { 4 } else { 16 };

/// Keys and their partials.
type Merged = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What is done with a key and its partial.
type VisitKey<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), Error> + 'a;

/// The blocks of a partition, in one batch.
pub(crate) struct Blocks<'a> {
    spec: &'a Spec,
    panes: Panes,
    overlay: &'a Overlay<'a>,
    table: &'a dyn StateTable,
    /// How long a block is.
    length: i64,
    /// The end of the last block that has been made; `i64::MIN` before the first.
    covered: i64,
    /// What the batch has changed: of blocks that it has made all, of others some keys.
    changed: BTreeMap<i64, Merged>,
    made: BTreeSet<i64>,
}

impl<'a> Blocks<'a> {
    /// The blocks of windows that are given once; `None`: they have too few panes.
    pub(crate) fn new(
        spec: &'a Spec,
        panes: Panes,
        overlay: &'a Overlay<'a>,
        table: &'a dyn StateTable,
        covered: i64,
    ) -> Option<Self> {
        let n_panes = panes.size() / panes.width();
        if n_panes < PANES_MIN || panes.slide() >= panes.size() {
            return None;
        }
        let length = panes.width() * n_panes.isqrt();
        Some(Self { spec, panes, overlay, table, length, covered, changed: BTreeMap::new(), made: BTreeSet::new() })
    }

    /// Makes blocks anew for the keys whose rows have come for their panes; `next` is the start of the next window.
    pub(crate) fn take_late_rows(&mut self, ops: &mut dyn PartialOps, met: &Met, next: i64) -> Result<(), Error> {
        let mut touched: BTreeMap<i64, BTreeSet<&[u8]>> = BTreeMap::new();
        for &row in self.overlay.met_between(next, self.covered) {
            let block = self.panes.floor(met.labels[row as usize].0, self.length);
            // One that begins before is held whole by no window to come.
            if block >= next {
                touched.entry(block).or_default().insert(met.keys.row(row as usize));
            }
        }
        for (block, keys) in touched {
            let mut merging = Merging::new(&self.spec.codec);
            for key in keys {
                for pane in (block..block + self.length).step_by(self.panes.width() as usize) {
                    self.overlay.get(pane, key, &mut |value| merging.push(ops, key, value))?;
                }
            }
            self.change(ops, block, merging)?;
        }
        Ok(())
    }

    fn change(&mut self, ops: &mut dyn PartialOps, block: i64, merging: Merging<'_>) -> Result<(), Error> {
        let changed = self.changed.entry(block).or_default();
        let Some(Counted { partials, keys, .. }) = merging.finish(ops)? else { return Ok(()) };
        let values = self.spec.codec.values_of(&partials)?;
        changed.extend(keys.iter().enumerate().map(|(row, key)| (key.into(), values.row(row).into())));
        Ok(())
    }

    /// Adds the partials of the window that starts then, of each key in the order of panes. Windows come in their order.
    pub(crate) fn push_window(
        &mut self,
        ops: &mut dyn PartialOps,
        start: i64,
        out: &mut Outbox<'_, '_>,
    ) -> Result<(), Error> {
        let end = start + self.panes.size();
        // A window has as many panes as the square of those of a block, so it holds some blocks whole.
        let first = self.panes.floor(start + self.length - 1, self.length);
        let last = self.panes.floor(end, self.length).max(first);
        // Windows to come do not hold what begins before this one.
        self.changed = self.changed.split_off(&start);
        self.make(ops, first.max(self.covered), last)?;
        self.covered = self.covered.max(last);
        let overlay = self.overlay;
        let mut push = |_, key: &[u8], value: &[u8]| {
            out.push((start, 0), key, value);
            Ok(())
        };
        overlay.scan(start, first, &mut push)?;
        for block in (first..last).step_by(self.length as usize) {
            self.scan(block, &mut |key, value| push(block, key, value))?;
        }
        overlay.scan(last, end, &mut push)
    }

    /// Makes the blocks from one on, before another.
    fn make(&mut self, ops: &mut dyn PartialOps, first: i64, last: i64) -> Result<(), Error> {
        for block in (first..last).step_by(self.length as usize) {
            let mut merging = Merging::new(&self.spec.codec);
            self.overlay.scan(block, block + self.length, &mut |_, key, value| merging.push(ops, key, value))?;
            self.made.insert(block);
            self.change(ops, block, merging)?;
        }
        Ok(())
    }

    /// Every key of a block, as it is now.
    fn scan(&self, block: i64, visit: &mut VisitKey<'_>) -> Result<(), Error> {
        let changed = self.changed.get(&block);
        let mut stopped = None;
        let mut seen: HashSet<&[u8]> = HashSet::new();
        if !self.made.contains(&block) {
            self.table.scan(block..=block, &mut |_, key, value| {
                let visited = match changed.and_then(|changed| changed.get_key_value(key)) {
                    Some((key, value)) => {
                        seen.insert(key);
                        visit(key, value)
                    }
                    None => visit(key, value),
                };
                Ok(visited.map_err(|error| stopped = Some(error)).is_ok())
            })?;
        }
        if let Some(error) = stopped {
            return Err(error);
        }
        let new = changed.into_iter().flatten().filter(|(key, _)| !seen.contains(&***key));
        new.into_iter().try_for_each(|(key, value)| visit(key, value))
    }

    /// The end of the last block that has been made, and what has changed.
    pub(crate) fn finish(self) -> (i64, BlockChanges) {
        (self.covered, BlockChanges(self.changed))
    }
}

/// What a batch has changed in the table of blocks.
pub(crate) struct BlockChanges(BTreeMap<i64, Merged>);

impl BlockChanges {
    /// Writes what windows from `next` on can hold whole.
    pub(crate) fn write(&self, next: i64, changes: &mut Changes) {
        for (&block, merged) in self.0.range(next..) {
            merged.iter().for_each(|(key, value)| changes.put(block, key, value));
        }
    }
}
