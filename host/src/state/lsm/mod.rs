//! Tables on disk, in a log-structured merge tree: state larger than memory.
//!
//! All tables of a job share one tree, and the number of the table comes first in a key:
//!
//! ```text
//!  table (3 bytes) │ slot, sign flipped (8 bytes, big-endian) │ key             so slots and keys stand in order
//! ```
//!
//! A tree each would have a write buffer each, and memory would grow with the number of partitions; with one, it is bounded by
//! the settings of the [`LsmStore`] alone: a few write buffers, one cache.
//!
//! Nothing here outlives the process, so no batch is synced to the disk. The tree syncs its journal when it writes a buffer out,
//! each some hundred thousand changes, and a batch that is committed at that moment waits for it.

mod stored;
mod table;

pub use table::LsmTable;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::folder::Folder;
use super::{StateError, locked};

/// Write buffers that wait to be written out, before writers wait for them.
const WAITING_BUFFERS_MAX: usize = 2;

/// Files that are open at once: a quarter of what a process may have where that is least.
const OPEN_FILES_MAX: usize = 256;

/// Bytes of the journal. It is never read, and this is the least there can be.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// Threads of the tree: one writes buffers out, one compacts.
const THREADS: usize = 2;

/// The store on disk of one job. Its folder is removed with the last of its tables.
pub struct LsmStore {
    /// The one tree.
    tree: Keyspace,
    database: Database,
    /// Held while a batch is written, so that it can be seen beforehand whether the tree would make it wait.
    writing: Mutex<()>,
    next_table: AtomicU32,
    /// Last: it is removed when the database is closed.
    folder: Folder,
}

impl std::fmt::Debug for LsmStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmStore").field("path", &self.folder.path()).finish_non_exhaustive()
    }
}

/// Makes an error of what the tree says.
fn store_error<E>(step: &str, doing: &'static str) -> impl FnOnce(E) -> StateError
where
    E: Into<fjall::Error>,
{
    move |error| StateError::Store { step: step.into(), doing, source: Box::new(error.into()) }
}

impl LsmStore {
    /// Opens a new store in a new folder of `parent`; `step` is whose table was wanted.
    ///
    /// `memory_bytes` is the budget of the job's state. A part of it goes to the store: an eighth to the cache (8 to 48 MiB), a
    /// sixty-fourth (1 to 8 MiB) to each of the about four write buffers there are.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or written.
    pub fn open(parent: &Path, memory_bytes: u64, step: &str) -> Result<Arc<Self>, StateError> {
        Self::open_in(Folder::create(parent)?, memory_bytes, step)
    }

    /// [`LsmStore::open`] in a folder that is there.
    pub(super) fn open_in(folder: Folder, memory_bytes: u64, step: &str) -> Result<Arc<Self>, StateError> {
        let database = Database::builder(folder.path().join("lsm"))
            .cache_size((memory_bytes / 8).clamp(8 << 20, 48 << 20))
            .worker_threads(THREADS)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .manual_journal_persist(true)
            .open()
            .map_err(store_error(step, "opened"))?;
        let options = || {
            KeyspaceCreateOptions::default()
                // Small enough to be searched quickly: every reading looks into each of them first.
                .max_memtable_size((memory_bytes / 64).clamp(1 << 20, 8 << 20))
                // Entries are read one by one: unpacking a block costs more than reading it again.
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                .manual_journal_persist(true)
        };
        let tree = database.keyspace("state", options).map_err(store_error(step, "opened"))?;
        Ok(Arc::new(Self { tree, database, writing: Mutex::new(()), next_table: AtomicU32::new(0), folder }))
    }

    /// A new, empty table of a step.
    ///
    /// # Panics
    ///
    /// When there are 2^24 tables: a job has as many as its steps have partitions, times two or three.
    #[must_use]
    pub fn table(self: &Arc<Self>, step: &str) -> LsmTable {
        LsmTable::new(self.clone(), step, self.next_table.fetch_add(1, Ordering::Relaxed))
    }

    /// Bytes on disk, of all tables and of what is not cleaned up yet.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.database.disk_space().unwrap_or_default()
    }

    /// Writes a batch, all of it or nothing.
    fn write(&self, step: &str, batch: OwnedWriteBatch) -> Result<(), StateError> {
        let _writing = locked(&self.writing);
        // The tree would wait too, but for ever when the thread that writes buffers out has failed.
        while self.tree.sealed_memtable_count() >= WAITING_BUFFERS_MAX {
            self.database.persist(PersistMode::Buffer).map_err(store_error(step, "written"))?;
            std::thread::sleep(Duration::from_millis(1));
        }
        batch.commit().map_err(store_error(step, "written"))
    }
}
