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
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fjall::config::{CompressionPolicy, PartitioningPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::store::new_folder;
use super::{StateError, locked};
use crate::job_folder::JobFolder;

/// Write buffers that wait to be written out, before writers wait for them.
const WAITING_BUFFERS_MAX: usize = 1;

/// Files that are open at once: a quarter of what a process may have where that is least.
const OPEN_FILES_MAX: usize = 256;

/// Bytes of the journal. It is never read, and this is the least there can be.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// Threads of the tree, which writes buffers out and compacts. With two, the first turns round and round while the other compacts
/// (fjall 3.1: it puts back what it may not do, and takes it again): it took a third of all CPU time while ten million entries were
/// written. With one, a buffer may have to wait for a compaction: writers then wait with it, as they do when the disk is slow.
const THREADS: usize = 1;

/// Whether the filter and the index of a file are cut into blocks of 4 KiB, by level of the tree, from the first on. A whole one has
/// megabytes: where the cache is smaller than those of all files, every reading would read and check one; and writing one takes several
/// times its memory. Files of the first level are small.
const IS_CUT_BY_LEVEL: [bool; 2] = [false, true];

/// Bytes of the cache, at most.
const CACHE_BYTES_MAX: u64 = 32 << 20;

/// Bytes of a write buffer, at most.
const BUFFER_BYTES_MAX: u64 = 8 << 20;

/// The store on disk of one job. Its folder is removed with the last of its tables.
pub struct LsmStore {
    /// The one tree.
    tree: Keyspace,
    database: Database,
    /// Held while a batch is written, so that it can be seen beforehand whether the tree would make it wait.
    writing: Mutex<()>,
    next_table: AtomicU32,
    /// Why a write failed for the first time.
    first_failure: OnceLock<String>,
    /// Last: it is removed when the database is closed.
    folder: JobFolder,
}

impl std::fmt::Debug for LsmStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsmStore").field("path", &self.folder.path()).finish_non_exhaustive()
    }
}

/// Why the tree could not do something.
#[derive(Debug, thiserror::Error)]
enum Reason {
    /// This happened now.
    #[error("{0}")]
    Now(String),
    /// After a write has failed the tree says no more than that it takes no others.
    #[error("the store takes no more writes, because one had failed before: {0}")]
    Before(String),
    /// A thread of the tree has failed, and did not say why.
    #[error("the store takes no more writes, because one had failed before, and why is not known")]
    Unknown,
}

fn store_error(path: &Path, step: &str, doing: &'static str, reason: Reason) -> StateError {
    StateError::Store { step: step.into(), doing, path: path.into(), source: Box::new(reason) }
}

/// The innermost cause: the tree's own errors are written for programmers.
fn innermost(error: &fjall::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Writes about as much as a buffer of the tree has, and removes it.
fn try_to_write(folder: &Path) -> std::io::Result<()> {
    let path = folder.join("probe");
    let written = std::fs::write(&path, vec![0; BUFFER_BYTES_MAX as usize]);
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

impl LsmStore {
    /// Opens a new store in a new folder of `parent`; `step` is whose table was wanted.
    ///
    /// `memory_bytes` is the budget of the job's state. A part of it goes to the store: an eighth to the cache (8 to 32 MiB), a
    /// sixty-fourth (1 to 8 MiB) to each of the about three write buffers there are.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or written.
    pub fn open(parent: &Path, memory_bytes: u64, step: &str) -> Result<Arc<Self>, StateError> {
        Self::open_in(new_folder(parent)?, memory_bytes, step)
    }

    /// [`LsmStore::open`] in a folder that is there.
    pub(super) fn open_in(folder: JobFolder, memory_bytes: u64, step: &str) -> Result<Arc<Self>, StateError> {
        let failed = |error: fjall::Error| store_error(folder.path(), step, "opened", Reason::Now(innermost(&error)));
        let cache_bytes = (memory_bytes / 8).clamp(8 << 20, CACHE_BYTES_MAX);
        let database = Database::builder(folder.path().join("lsm"))
            .cache_size(cache_bytes)
            .worker_threads(THREADS)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let options = || {
            KeyspaceCreateOptions::default()
                // Small enough to be searched quickly: every reading looks into each of them first.
                .max_memtable_size((memory_bytes / 64).clamp(1 << 20, BUFFER_BYTES_MAX))
                // Entries are read one by one: unpacking a block costs more than reading it again.
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                .filter_block_partitioning_policy(PartitioningPolicy::new(IS_CUT_BY_LEVEL))
                .index_block_partitioning_policy(PartitioningPolicy::new(IS_CUT_BY_LEVEL))
                .manual_journal_persist(true)
        };
        let tree = database.keyspace("state", options).map_err(failed)?;
        let (writing, next_table, first_failure) = (Mutex::new(()), AtomicU32::new(0), OnceLock::new());
        Ok(Arc::new(Self { tree, database, writing, next_table, first_failure, folder }))
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

    /// Makes an error of what the tree says. The tree says why only once; later errors say it again.
    fn failed<E: Into<fjall::Error>>(&self, step: &str, doing: &'static str) -> impl FnOnce(E) -> StateError {
        move |error| {
            let reason = match error.into() {
                fjall::Error::Poisoned => {
                    // A thread of the tree may have failed: what it met is most likely still there.
                    if self.first_failure.get().is_none()
                        && let Err(error) = try_to_write(self.folder.path())
                    {
                        let _ = self.first_failure.set(error.to_string());
                    }
                    self.first_failure.get().cloned().map_or(Reason::Unknown, Reason::Before)
                }
                error => {
                    let reason = innermost(&error);
                    if doing == "written" {
                        let _ = self.first_failure.set(reason.clone());
                    }
                    Reason::Now(reason)
                }
            };
            store_error(self.folder.path(), step, doing, reason)
        }
    }

    /// Writes a batch, all of it or nothing.
    fn write(&self, step: &str, batch: OwnedWriteBatch) -> Result<(), StateError> {
        let _writing = locked(&self.writing);
        // The tree would wait too, but for ever when the thread that writes buffers out has failed.
        while self.tree.sealed_memtable_count() >= WAITING_BUFFERS_MAX {
            self.database.persist(PersistMode::Buffer).map_err(self.failed(step, "written"))?;
            std::thread::sleep(Duration::from_millis(1));
        }
        batch.commit().map_err(self.failed(step, "written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Explain;

    #[track_caller]
    fn check(error: StateError, reason: &str) {
        assert_eq!(error.to_string(), "the state of step `s` could not be written");
        let source = std::error::Error::source(&error).expect("there is a reason");
        assert_eq!(source.to_string(), reason);
    }

    #[test]
    fn what_failed_first_is_said_again() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let store = LsmStore::open(parent.path(), 64 << 20, "s").expect("it can be written");
        let full = || std::io::Error::other("No space left on device");
        check(store.failed("s", "written")(full()), "No space left on device");
        let again = "the store takes no more writes, because one had failed before: No space left on device";
        check(store.failed("s", "written")(fjall::Error::Poisoned), again);
        let error = store.failed("s", "written")(fjall::Error::Poisoned);
        let hint = error.hint().expect("there is a hint");
        assert!(hint.contains(&format!("`{}`", store.folder.path().display())), "{hint}");
    }

    #[test]
    fn a_failure_in_the_background_is_looked_for() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let store = LsmStore::open(parent.path(), 64 << 20, "s").expect("it can be written");
        let unknown = "the store takes no more writes, because one had failed before, and why is not known";
        check(store.failed("s", "written")(fjall::Error::Poisoned), unknown);
        // Nothing can be written where there is a folder of that name.
        std::fs::create_dir(store.folder.path().join("probe")).expect("the folder is ours");
        let found = "the store takes no more writes, because one had failed before: Is a directory (os error 21)";
        check(store.failed("s", "written")(fjall::Error::Poisoned), found);
    }
}
