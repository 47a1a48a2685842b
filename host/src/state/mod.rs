//! Station 6: keyed rows that live from batch to batch, owned by the host.
//!
//! A step that keeps anything has a [`StepState`]: for every partition some tables, each from a *slot* (a number: a time, a
//! window, or always 0) and a key to a value, all bytes. A task takes the tables of its partition, reads them as they were
//! when the batch began, and writes down [`Changes`]; when the whole batch has been published they are applied, and when it
//! failed they are forgotten: a failed batch leaves no trace.
//!
//! ```text
//!  StepState ── begin(partition) ──▶ StateTask ── table(t).get / scan ──▶ a step ── changes(t).put / remove
//!            ◀── finish ─────────────┘                                     the batch is published ─▶ commit
//!                                                                          it failed             ─▶ abort
//! ```
//!
//! Reading never sees the batch's own changes: a step writes a key at most once a batch, when it has made up its mind.

mod changes;
mod memory;
mod row_codec;
mod step_state;

pub use changes::{Change, Changes};
pub use memory::MemoryTable;
pub use row_codec::{EncodedRows, RowCodec};
pub use step_state::{OpenTable, StateError, StateTask, StepState};

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// What a scan does with an entry: slot, key, value. It ends early when it answers `false`.
pub type Visit<'a> = dyn FnMut(i64, &[u8], &[u8]) -> Result<bool, StateError> + 'a;

/// One table of one partition.
pub trait StateTable: Send {
    /// The value at a slot and key.
    ///
    /// # Errors
    ///
    /// What could not be read.
    fn get(&self, slot: i64, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, StateError>;

    /// Every entry of a range of slots, slot by slot in ascending order; within a slot in an order that depends only on what
    /// was written, not on the process.
    ///
    /// # Errors
    ///
    /// What could not be read, or what `visit` said.
    fn scan(&self, slots: RangeInclusive<i64>, visit: &mut Visit<'_>) -> Result<(), StateError>;

    /// The lowest slot that has an entry.
    ///
    /// # Errors
    ///
    /// What could not be read.
    fn first_slot(&self) -> Result<Option<i64>, StateError>;

    /// Applies what a batch has changed, all of it or nothing.
    ///
    /// # Errors
    ///
    /// What could not be written; the job fails with it.
    fn apply(&mut self, changes: &Changes) -> Result<(), StateError>;

    /// How many entries there are.
    fn n_entries(&self) -> u64;

    /// Bytes that they take, in memory or on disk.
    fn n_bytes(&self) -> u64;
}
