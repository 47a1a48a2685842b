//! A table that is in memory until the job's state exceeds its budget, then on disk for good.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::store::Disk;
use super::{Changes, LsmTable, MemoryTable, StateError, StateTable, Visit};

/// What the tables of a job take in memory together, against what they may.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    /// Only sums are read, and those between batches: no order is needed.
    used: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Bytes that all tables take.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether tables must move to disk.
    pub(super) fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// Whether enough of them have.
    pub(super) fn is_half_free(&self) -> bool {
        self.used() <= self.limit / 2
    }
}

/// Bytes in memory that a table says it takes; given back when it goes.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    n_bytes: u64,
}

impl Share {
    fn set(&mut self, n_bytes: u64) {
        self.budget.used.fetch_add(n_bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(self.n_bytes, Ordering::Relaxed);
        self.n_bytes = n_bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Where the table is.
enum Place {
    Memory(MemoryTable),
    Disk(LsmTable),
}

/// A table of a job that decides by its budget.
pub(super) struct AutoTable {
    place: Place,
    share: Share,
    step: Box<str>,
    disk: Arc<Disk>,
}

impl AutoTable {
    /// A new table: on disk only if the budget is exceeded already.
    pub(super) fn open(step: &str, budget: &Arc<Budget>, disk: &Arc<Disk>) -> Result<Self, StateError> {
        let place =
            if budget.is_exceeded() { Place::Disk(disk.table(step)?) } else { Place::Memory(MemoryTable::default()) };
        let share = Share { budget: budget.clone(), n_bytes: 0 };
        let mut table = Self { place, share, step: step.into(), disk: disk.clone() };
        table.share.set(table.memory_bytes());
        Ok(table)
    }

    fn table(&self) -> &dyn StateTable {
        match &self.place {
            Place::Memory(table) => table,
            Place::Disk(table) => table,
        }
    }
}

impl StateTable for AutoTable {
    fn get(&self, slot: i64, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, StateError> {
        self.table().get(slot, key)
    }

    fn scan(&self, slots: RangeInclusive<i64>, visit: &mut Visit<'_>) -> Result<(), StateError> {
        self.table().scan(slots, visit)
    }

    fn first_slot(&self) -> Result<Option<i64>, StateError> {
        self.table().first_slot()
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), StateError> {
        match &mut self.place {
            Place::Memory(table) => table.apply(changes)?,
            Place::Disk(table) => table.apply(changes)?,
        }
        self.share.set(self.memory_bytes());
        Ok(())
    }

    fn n_entries(&self) -> u64 {
        self.table().n_entries()
    }

    fn n_bytes(&self) -> u64 {
        self.table().n_bytes()
    }

    fn memory_bytes(&self) -> u64 {
        match &self.place {
            Place::Memory(table) => table.n_bytes(),
            Place::Disk(_) => 0,
        }
    }

    fn move_to_disk(&mut self) -> Result<(), StateError> {
        if let Place::Memory(from) = &self.place {
            let mut table = self.disk.table(&self.step)?;
            table.fill(from)?;
            self.place = Place::Disk(table);
            self.share.set(0);
        }
        Ok(())
    }
}
