//! The state of one step: its partitions' tables, lent to tasks, changed when a batch has been published.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{Changes, Placement, StateError, StateTable, TableLayout, Visit, locked};
use crate::ids::PartitionId;

/// The tables of one partition.
type Tables = Vec<Box<dyn StateTable>>;

/// One partition: its tables when no task has them, and what the batch that runs has changed.
#[derive(Default)]
struct Partition {
    tables: Option<Tables>,
    pending: Option<Vec<Changes>>,
}

/// Makes the tables of a partition when they are first wanted: step, number of the table, partition.
pub type OpenTable = dyn Fn(&str, usize, u32) -> Result<Box<dyn StateTable>, StateError> + Send + Sync;

/// What a step keeps from batch to batch.
pub struct StepState {
    step: String,
    keeps: String,
    layouts: Vec<TableLayout>,
    open: Mutex<Option<Arc<OpenTable>>>,
    partitions: Vec<Mutex<Partition>>,
    /// Whether the job has ended: tables that a task still has are not taken back.
    is_closed: AtomicBool,
}

impl std::fmt::Debug for StepState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let partitions = self.partitions.len();
        f.debug_struct("StepState").field("step", &self.step).field("partitions", &partitions).finish_non_exhaustive()
    }
}

impl StepState {
    /// The state of a step with some tables a partition; in memory until [`StepState::open_with`] says otherwise.
    #[must_use]
    pub fn new(step: impl Into<String>, n_tables: usize, n_partitions: u32) -> Arc<Self> {
        Self::keeping(step, "", vec![TableLayout::hidden(Placement::Any); n_tables], n_partitions)
    }

    /// The same, with words for what it keeps, and what its tables hold: a checkpoint is refused that was written with other words.
    #[must_use]
    pub fn keeping(
        step: impl Into<String>,
        keeps: impl Into<String>,
        tables: Vec<TableLayout>,
        n_partitions: u32,
    ) -> Arc<Self> {
        let partitions = (0..n_partitions).map(|_| Mutex::default()).collect();
        Arc::new(Self {
            step: step.into(),
            keeps: keeps.into(),
            layouts: tables,
            open: Mutex::new(None),
            partitions,
            is_closed: AtomicBool::new(false),
        })
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.step
    }

    /// How tables are made from now on. Called once, before the first batch.
    pub fn open_with(&self, open: Arc<OpenTable>) {
        *locked(&self.open) = Some(open);
    }

    /// Lends the tables of a partition to the task that runs on it.
    ///
    /// # Errors
    ///
    /// When the tables cannot be opened.
    ///
    /// # Panics
    ///
    /// When another task of the same batch has them: a partition has one task.
    pub fn begin(self: &Arc<Self>, partition: PartitionId) -> Result<StateTask, StateError> {
        let index = partition.index();
        let mut slot = locked(&self.partitions[index]);
        slot.pending = None;
        let tables = match slot.tables.take() {
            Some(tables) => tables,
            None => {
                (0..self.layouts.len()).map(|table| self.open_table(table, partition.0)).collect::<Result<_, _>>()?
            }
        };
        let changes = tables.iter().map(|_| Changes::default()).collect();
        Ok(StateTask { state: self.clone(), partition: index, tables: Some(tables), changes })
    }

    fn open_table(&self, table: usize, partition: u32) -> Result<Box<dyn StateTable>, StateError> {
        let open = locked(&self.open).clone();
        match open {
            Some(open) => open(&self.step, table, partition),
            None => Ok(Box::<super::MemoryTable>::default()),
        }
    }

    /// Applies what the batch has changed. Partitions are independent: call it for each, side by side or not.
    ///
    /// # Errors
    ///
    /// What could not be written; the job cannot go on.
    pub fn commit(&self, partition: PartitionId) -> Result<(), StateError> {
        let mut slot = locked(&self.partitions[partition.index()]);
        let (Some(pending), Some(tables)) = (slot.pending.take(), slot.tables.as_mut()) else { return Ok(()) };
        tables
            .iter_mut()
            .zip(&pending)
            .filter(|(_, changes)| !changes.is_empty())
            .try_for_each(|(table, changes)| table.apply(changes))
    }

    /// Whether the batch has changed anything in a partition.
    #[must_use]
    pub fn has_changed(&self, partition: PartitionId) -> bool {
        let slot = locked(&self.partitions[partition.index()]);
        slot.pending.iter().flatten().any(|changes| !changes.is_empty())
    }

    /// What the batch has changed in each table of a partition, until it is applied or forgotten.
    pub(crate) fn for_each_change(&self, partition: PartitionId, mut take: impl FnMut(u32, &Changes)) {
        let slot = locked(&self.partitions[partition.index()]);
        let changes = (0..).zip(slot.pending.iter().flatten());
        changes.filter(|(_, changes)| !changes.is_empty()).for_each(|(table, changes)| take(table, changes));
    }

    /// Applies what an earlier run has changed in a table. Called when a job goes on, before its first batch.
    ///
    /// # Errors
    ///
    /// What could not be written, or that there is no such table.
    pub(crate) fn restore(&self, partition: PartitionId, table: u32, changes: &Changes) -> Result<(), StateError> {
        let no_table = || StateError::Damaged {
            step: self.step.clone(),
            what: format!("there is no table {table} of partition {partition}"),
        };
        let mut slot = locked(self.partitions.get(partition.index()).ok_or_else(no_table)?);
        if slot.tables.is_none() {
            slot.tables = Some(
                (0..self.layouts.len()).map(|table| self.open_table(table, partition.0)).collect::<Result<_, _>>()?,
            );
        }
        let tables = slot.tables.iter_mut().flatten();
        tables.into_iter().nth(table as usize).ok_or_else(no_table)?.apply(changes)
    }

    /// Every entry of a table of a partition, in the order of slots and keys.
    ///
    /// # Errors
    ///
    /// What could not be read, or what `visit` said.
    pub(crate) fn scan(&self, partition: PartitionId, table: u32, visit: &mut Visit<'_>) -> Result<(), StateError> {
        let slot = locked(&self.partitions[partition.index()]);
        let table = slot.tables.as_ref().and_then(|tables| tables.get(table as usize));
        table.map_or(Ok(()), |table| table.scan(i64::MIN..=i64::MAX, visit))
    }

    /// What its tables hold.
    pub(crate) fn layouts(&self) -> &[TableLayout] {
        &self.layouts
    }

    /// What it keeps, in words that change when what is kept can no longer be read.
    #[must_use]
    pub fn keeps(&self) -> &str {
        &self.keeps
    }

    /// Forgets what the batch has changed.
    pub fn abort(&self) {
        self.partitions.iter().for_each(|partition| locked(partition).pending = None);
    }

    /// The tables that could move to disk and that no task has: partition, table, bytes that would be free.
    pub(super) fn tables_in_memory(&self) -> Vec<(u32, usize, u64)> {
        let mut found = Vec::new();
        for (partition, slot) in (0..).zip(&self.partitions) {
            let slot = locked(slot);
            let tables = slot.tables.iter().flatten().enumerate();
            let sizes = tables.map(|(index, table)| (partition, index, table.memory_bytes()));
            found.extend(sizes.filter(|(.., n_bytes)| *n_bytes > 0));
        }
        found
    }

    /// Moves a table to disk, unless a task has it.
    pub(super) fn move_to_disk(&self, partition: u32, table: usize) -> Result<(), StateError> {
        let mut slot = locked(&self.partitions[partition as usize]);
        slot.tables.as_mut().map_or(Ok(()), |tables| tables[table].move_to_disk())
    }

    /// Drops all tables, and those that tasks have when they give them back. The job has ended.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        *locked(&self.open) = None;
        self.partitions.iter().for_each(|partition| *locked(partition) = Partition::default());
    }

    /// How many partitions there are.
    #[must_use]
    pub fn n_partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// Entries and bytes of all tables that no task has at the moment.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        let sizes = self.partitions.iter().flat_map(|partition| {
            let slot = locked(partition);
            let tables = slot.tables.iter().flatten();
            tables.map(|table| (table.n_entries(), table.n_bytes())).collect::<Vec<_>>()
        });
        sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }
}

/// The tables of a partition in the hands of a task.
///
/// Dropped without [`finish`](StateTask::finish), it changes nothing.
pub struct StateTask {
    state: Arc<StepState>,
    partition: usize,
    tables: Option<Tables>,
    changes: Vec<Changes>,
}

impl StateTask {
    /// A table, as it was when the batch began.
    ///
    /// # Panics
    ///
    /// When the step has no such table.
    #[must_use]
    pub fn table(&self, table: usize) -> &dyn StateTable {
        &*self.tables.as_ref().unwrap_or_else(|| unreachable!("they are given back when it is dropped"))[table]
    }

    /// What the batch changes in a table.
    ///
    /// # Panics
    ///
    /// When the step has no such table.
    pub fn changes(&mut self, table: usize) -> &mut Changes {
        &mut self.changes[table]
    }

    /// Hands the changes in: they are applied when the batch has been published.
    pub fn finish(mut self) {
        let changes = std::mem::take(&mut self.changes);
        locked(&self.state.partitions[self.partition]).pending = Some(changes);
    }
}

impl Drop for StateTask {
    fn drop(&mut self) {
        let mut slot = locked(&self.state.partitions[self.partition]);
        // Read under the lock: whoever closes the state looks at every partition after it has said so.
        slot.tables = self.tables.take().filter(|_| !self.state.is_closed.load(Ordering::SeqCst));
    }
}
