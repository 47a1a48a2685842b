//! Rows that memory has no room for: on disk until they are read, within a quota.
//!
//! ```text
//!  block store ── the newest waiting blocks ──┐                        ┌── read back, checked ──▶ tasks
//!  shuffle     ── what map tasks have dealt ──┼──▶ SpillFile ─ Spilled ┤
//!  steps       ── sorted runs, parts of keys ─┘    append              └── dropped: the file goes with its last
//! ```
//!
//! Nothing here outlives the job: a file holds Arrow IPC streams one after the other, compressed with LZ4, and where each
//! stands and its checksum are in memory. So a file that was damaged is found out, never read as other rows. The folder is
//! removed when the job ends; that of a process that was killed by the next job with the same `path`.
//!
//! The laws: what is read back is what was written, cut as it was; what is on disk never exceeds the quota; and a write that
//! failed leaves nothing behind and can be tried again.
//!
//! | what | holds at most |
//! | --- | --- |
//! | received blocks on disk | half of `quota`, so that a batch always has room to end and let blocks go |
//! | everything on disk | `quota` |
//! | shuffles in memory | half of `memory` |
//! | a task's step and what it writes into shuffles | half of `memory`, divided by the worker threads |

mod error;
mod file;
mod memory;
mod settings;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use error::SpillError;
pub use file::{RECORD_BYTES, SpillFile, Spilled, spill_all};
pub use memory::{BatchMemory, TaskMemory};
pub(crate) use memory::{Share, Tracked};
pub use settings::{MEMORY_BYTES_MIN, QUOTA_BYTES_MIN, SpillSettings};

use crate::job_folder::{self, JobFolder, Purpose};

/// Whose rows are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpillUse {
    /// Received blocks that wait: at most half of the quota.
    Blocks,
    /// Rows of a batch at work.
    Batch,
}

/// What has been spilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct SpillCounts {
    /// Rows on disk now.
    pub rows: u64,
    /// Bytes of files on disk now.
    pub disk_bytes: u64,
    /// The most bytes of files there ever were on disk.
    pub disk_bytes_peak: u64,
    /// Rows that were ever written.
    pub rows_total: u64,
    /// Bytes that were ever written.
    pub disk_bytes_total: u64,
    /// The most bytes of rows that shuffles and steps behind them held in memory at once, as they account for them.
    pub memory_bytes_peak: u64,
}

type WriteBytes = dyn Fn(&mut File, &[u8]) -> std::io::Result<()> + Send + Sync;

/// The place on disk of one job for rows that memory has no room for.
pub struct Spill {
    parent: PathBuf,
    quota_bytes: u64,
    stage: Mutex<Stage>,
    next_file: AtomicU64,
    used: Mutex<Used>,
    /// What writes: in tests, a disk that fails.
    write: Box<WriteBytes>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing has been spilled yet: most jobs never do.
    NotYet,
    Open(JobFolder),
    /// The job has ended, and the folder is gone.
    Closed,
}

/// One lock for all: it is held for some additions, once a record of half a megabyte or more as a rule.
#[derive(Debug, Default)]
struct Used {
    block_bytes: u64,
    counts: SpillCounts,
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill")
            .field("parent", &self.parent)
            .field("quota_bytes", &self.quota_bytes)
            .finish_non_exhaustive()
    }
}

impl Spill {
    /// Prepares the place of a job that starts, and removes what dead processes left there. The job's own folder is made when
    /// rows are first spilled. `None`: the quota is 0, and nothing is ever spilled.
    ///
    /// # Errors
    ///
    /// [`SpillError::Folder`] when the folder in which the job's own is to be cannot be made.
    pub fn open(settings: &SpillSettings) -> Result<Option<Arc<Self>>, SpillError> {
        Self::open_with(settings, |file, bytes| file.write_all(bytes))
    }

    /// As [`Spill::open`], with another way to write.
    pub(crate) fn open_with(
        settings: &SpillSettings,
        write: impl Fn(&mut File, &[u8]) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Result<Option<Arc<Self>>, SpillError> {
        if settings.quota_bytes == 0 {
            return Ok(None);
        }
        let parent = settings.folder();
        job_folder::prepare(&parent, Purpose::Spill)
            .map_err(|source| SpillError::Folder { path: parent.clone(), source })?;
        Ok(Some(Arc::new(Self {
            parent,
            quota_bytes: settings.quota_bytes,
            stage: Mutex::new(Stage::NotYet),
            next_file: AtomicU64::new(0),
            used: Mutex::default(),
            write: Box::new(write),
        })))
    }

    /// Bytes that may be on disk.
    #[must_use]
    pub fn quota_bytes(&self) -> u64 {
        self.quota_bytes
    }

    /// A new file, which is made when rows are first appended to it.
    #[must_use]
    pub fn file(self: &Arc<Self>, used_for: SpillUse) -> SpillFile {
        SpillFile::new(self.clone(), used_for)
    }

    /// What has been spilled.
    #[must_use]
    pub fn counts(&self) -> SpillCounts {
        self.lock().counts
    }

    /// Removes the folder: the job has ended. What is spilled or read after it fails.
    pub fn close(&self) {
        let stage = std::mem::replace(&mut *self.stage.lock().unwrap_or_else(PoisonError::into_inner), Stage::Closed);
        // Removed here, outside of the lock.
        drop(stage);
    }

    /// The path of a new file in the job's folder, which is made if need be.
    fn new_path(&self) -> Result<PathBuf, SpillError> {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*stage, Stage::NotYet) {
            let folder = JobFolder::create(&self.parent, Purpose::Spill);
            *stage = Stage::Open(folder.map_err(|source| SpillError::of_folder(&self.parent, source))?);
        }
        match &*stage {
            Stage::Open(folder) => Ok(folder.path().join(format!("{number}.arrow"))),
            Stage::NotYet | Stage::Closed => {
                let source = std::io::Error::other("the job has ended");
                Err(SpillError::Folder { path: self.parent.clone(), source })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room on the disk, before anything is written.
    fn take_room(&self, used_for: SpillUse, n_bytes: u64, n_rows: u64) -> Result<(), SpillError> {
        let mut used = self.lock();
        let disk_bytes = used.counts.disk_bytes.saturating_add(n_bytes);
        let (held, limit) = match used_for {
            SpillUse::Blocks => (used.block_bytes, self.quota_bytes / 2),
            SpillUse::Batch => (used.counts.disk_bytes, self.quota_bytes),
        };
        let quota = |used_for, held_bytes| {
            let (path, quota_bytes) = (self.parent.clone(), self.quota_bytes);
            Err(SpillError::Quota { path, used_for, quota_bytes, held_bytes, n_bytes })
        };
        if held.saturating_add(n_bytes) > limit {
            return quota(used_for, held);
        }
        // Blocks may be in the way of their own half that a batch has taken.
        if disk_bytes > self.quota_bytes {
            return quota(SpillUse::Batch, used.counts.disk_bytes);
        }
        if used_for == SpillUse::Blocks {
            used.block_bytes += n_bytes;
        }
        used.counts.disk_bytes = disk_bytes;
        used.counts.disk_bytes_peak = used.counts.disk_bytes_peak.max(disk_bytes);
        used.counts.rows += n_rows;
        Ok(())
    }

    /// Notes that what room was taken for is written.
    fn written(&self, n_bytes: u64, n_rows: u64) {
        let mut used = self.lock();
        used.counts.disk_bytes_total += n_bytes;
        used.counts.rows_total += n_rows;
    }

    /// Gives room back that nothing takes any more.
    fn give_room_back(&self, used_for: SpillUse, n_bytes: u64) {
        let mut used = self.lock();
        if used_for == SpillUse::Blocks {
            used.block_bytes -= n_bytes;
        }
        used.counts.disk_bytes -= n_bytes;
    }

    fn forget_rows(&self, n_rows: u64) {
        self.lock().counts.rows -= n_rows;
    }

    /// Where the job's folder is.
    #[must_use]
    pub fn parent(&self) -> &Path {
        &self.parent
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
