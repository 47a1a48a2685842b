//! The state of a job: makes the tables of its steps, and moves them to disk when they are too large together.
//!
//! ```text
//!  job starts    StateStore::open ── attach(step's state) for each
//!  each batch    StepState::commit for each step and partition, side by side ── then StateStore::maintain, once
//!  job ends      the store is dropped: the tables of all steps go, and the folder with them
//! ```

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use super::auto::{AutoTable, Budget};
use super::{Backend, LsmStore, LsmTable, MemoryTable, OpenTable, StateError, StateSettings, StepState, locked};
use crate::job_folder::{JobFolder, Purpose};

/// The state of one job.
///
/// # Examples
///
/// ```
/// use tidemill::ids::PartitionId;
/// use tidemill::state::{StateSettings, StateStore, StepState};
///
/// let counts = StepState::new("counts", 1, 2);
/// let store = StateStore::open(&StateSettings::default())?;
/// store.attach(&counts);
///
/// let mut task = counts.begin(PartitionId(0))?;
/// task.changes(0).put(0, b"tide", b"1");
/// task.finish();
/// counts.commit(PartitionId(0))?;
/// store.maintain()?;
/// assert_eq!(counts.size().0, 1);
/// # Ok::<(), tidemill::state::StateError>(())
/// ```
#[derive(Debug)]
pub struct StateStore {
    backend: Backend,
    budget: Arc<Budget>,
    disk: Arc<Disk>,
    /// The states of the steps. Weak: they hold what makes their tables, and with that the disk.
    states: Mutex<Vec<Weak<StepState>>>,
}

/// The store on disk, opened when a table is first to be there: most jobs never need it.
#[derive(Debug)]
pub(super) struct Disk {
    parent: PathBuf,
    memory_bytes: u64,
    stage: Mutex<Stage>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing is opened; the folder is there when the job asked for it.
    Closed(Option<JobFolder>),
    Open(Arc<LsmStore>),
}

/// A new folder for the store on disk.
pub(super) fn new_folder(parent: &Path) -> Result<JobFolder, StateError> {
    JobFolder::create(parent, Purpose::State).map_err(|source| StateError::Folder { path: parent.into(), source })
}

impl Disk {
    /// A new table on disk.
    pub(super) fn table(&self, step: &str) -> Result<LsmTable, StateError> {
        let mut stage = locked(&self.stage);
        let store = match &mut *stage {
            Stage::Open(store) => store.clone(),
            Stage::Closed(folder) => {
                let folder = match folder.take() {
                    Some(folder) => folder,
                    None => new_folder(&self.parent)?,
                };
                let store = LsmStore::open_in(folder, self.memory_bytes, step)?;
                *stage = Stage::Open(store.clone());
                store
            }
        };
        Ok(store.table(step))
    }
}

impl StateStore {
    /// Opens the state of a job that starts.
    ///
    /// Where `path` is given or everything is to be on disk, a folder is made at once, so that a wrong path is said before the
    /// first batch.
    ///
    /// # Errors
    ///
    /// [`StateError::Folder`].
    pub fn open(settings: &StateSettings) -> Result<Self, StateError> {
        let parent = settings.path.clone().unwrap_or_else(std::env::temp_dir);
        let is_wanted = match settings.backend {
            Backend::Memory => false,
            Backend::Auto => settings.path.is_some(),
            Backend::Lsm => true,
        };
        let folder = if is_wanted { Some(new_folder(&parent)?) } else { None };
        Ok(Self {
            backend: settings.backend,
            budget: Arc::new(Budget::new(settings.memory_bytes)),
            disk: Arc::new(Disk {
                parent,
                memory_bytes: settings.memory_bytes,
                stage: Mutex::new(Stage::Closed(folder)),
            }),
            states: Mutex::default(),
        })
    }

    /// Makes the tables of a step from now on. Called for each step, before the first batch.
    pub fn attach(&self, state: &Arc<StepState>) {
        let (backend, budget, disk) = (self.backend, self.budget.clone(), self.disk.clone());
        let open: Arc<OpenTable> = Arc::new(move |step, _table, _partition| {
            Ok(match backend {
                Backend::Memory => Box::<MemoryTable>::default(),
                Backend::Lsm => Box::new(disk.table(step)?),
                Backend::Auto => Box::new(AutoTable::open(step, &budget, &disk)?),
            })
        });
        state.open_with(open);
        locked(&self.states).push(Arc::downgrade(state));
    }

    /// Moves tables to disk if those in memory exceed the budget: the largest first, until half of the budget is free.
    ///
    /// Called once after each batch, when all partitions have been committed and no task runs. A table moves as a whole: a second
    /// for some millions of entries. It does not come back.
    ///
    /// # Errors
    ///
    /// What could not be written; the job cannot go on.
    pub fn maintain(&self) -> Result<(), StateError> {
        if !self.budget.is_exceeded() {
            return Ok(());
        }
        let states: Vec<Arc<StepState>> = locked(&self.states).iter().filter_map(Weak::upgrade).collect();
        let tables = states.iter().flat_map(|state| {
            state
                .tables_in_memory()
                .into_iter()
                .map(move |(partition, table, n_bytes)| (n_bytes, state, partition, table))
        });
        let mut tables: Vec<_> = tables.collect();
        tables.sort_by_key(|(n_bytes, ..)| Reverse(*n_bytes));
        for (n_bytes, state, partition, table) in tables {
            if self.budget.is_half_free() {
                break;
            }
            state.move_to_disk(partition, table)?;
            let step = state.step();
            tracing::info!(target: "tidemill::state", step, partition, table, n_bytes, "state moved to disk");
        }
        Ok(())
    }

    /// What tables that decide by the budget are made with.
    #[cfg(test)]
    pub(super) fn parts(&self) -> (&Arc<Budget>, &Arc<Disk>) {
        (&self.budget, &self.disk)
    }

    /// Bytes in memory of all tables that may move to disk.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.budget.used()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        match &*locked(&self.disk.stage) {
            Stage::Closed(_) => 0,
            Stage::Open(store) => store.disk_bytes(),
        }
    }
}

impl Drop for StateStore {
    fn drop(&mut self) {
        // Their tables hold the store on disk, and whoever holds a plan holds them.
        locked(&self.states).iter().filter_map(Weak::upgrade).for_each(|state| state.close());
    }
}
