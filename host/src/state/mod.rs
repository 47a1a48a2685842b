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
//!
//! A [`StateStore`] is the state of the whole job. It makes the tables, as [`StateSettings`] say:
//!
//! | backend | tables |
//! | --- | --- |
//! | `memory` | [`MemoryTable`]: about 30 bytes an entry of two numbers |
//! | `lsm` | [`LsmTable`]: on disk, however many there are; a reading costs some microseconds |
//! | `auto` | in memory until the budget is exceeded, then the largest move to disk |
//!
//! All of them hold the same entries in the same order, so what a job puts out does not depend on the backend.

mod auto;
mod changes;
mod error;
mod layout;
mod lsm;
mod memory;
mod placement;
mod row_codec;
mod settings;
mod step_state;
mod store;
#[cfg(test)]
mod tests;

pub use changes::{Change, Changes};
pub use error::StateError;
pub use layout::{ShownEntry, Slots, TableLayout};
pub(crate) use layout::{row_of, rows_of};
pub use lsm::{LsmStore, LsmTable};
pub use memory::MemoryTable;
pub(crate) use placement::Dealer;
pub use placement::Placement;
pub use row_codec::{EncodedRows, RowCodec};
pub use settings::{Backend, MEMORY_BYTES_MIN, StateSettings};
pub use step_state::{OpenTable, StateTask, StepState};
pub use store::StateStore;

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. What it guards is changed in one go: a panic of another thread leaves nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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

    /// Every entry of a range of slots, slot by slot in ascending order; within a slot in ascending order of the keys. So the
    /// order depends only on what the table holds: not on the backend, and not on how it came to hold it.
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
    /// What could not be written; the job fails with it, and nobody reads the table again.
    fn apply(&mut self, changes: &Changes) -> Result<(), StateError>;

    /// How many entries there are.
    fn n_entries(&self) -> u64;

    /// Bytes that they take, in memory or on disk.
    fn n_bytes(&self) -> u64;

    /// Bytes of memory that moving the table to disk would free: zero where it cannot move, or has.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// Moves a table to disk that has [memory](StateTable::memory_bytes) to free. It holds the same entries afterwards.
    ///
    /// # Errors
    ///
    /// What could not be written; the job fails with it.
    fn move_to_disk(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}
