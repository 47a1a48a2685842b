//! Blocks on disk: the files they are in, and what is done when the disk has no room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;

use super::merge;
use crate::clock::Stopwatch;
use crate::error::Error;
use crate::spill::{Spill, SpillFile, SpillUse, Spilled};

/// Bytes of a file, at most, before another is begun: it is removed when the last of its blocks is released.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Files that half of the quota is divided into, at least, so that little of it is held by what has been released.
const FILES_MIN: u64 = 8;

/// How often it is tried to write when the disk had no room.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Where blocks are written.
#[derive(Debug)]
pub(super) struct BlocksOnDisk {
    spill: Arc<Spill>,
    /// The file at work: written by one push at a time, the first in line.
    file: Mutex<SpillFile>,
    file_bytes_max: u64,
}

impl BlocksOnDisk {
    pub(super) fn new(spill: &Arc<Spill>) -> Self {
        Self {
            file: Mutex::new(spill.file(SpillUse::Blocks)),
            file_bytes_max: FILE_BYTES_MAX.min(spill.quota_bytes() / 2 / FILES_MIN),
            spill: spill.clone(),
        }
    }

    /// Writes the rows of one block.
    pub(super) fn write(&self, pieces: &[RecordBatch]) -> Result<Spilled, Error> {
        let rows = merge(pieces)?;
        let mut file = self.lock();
        if file.n_bytes() >= self.file_bytes_max || file.is_waste() {
            *file = self.spill.file(SpillUse::Blocks);
        }
        Ok(file.append(&[rows])?)
    }

    /// Removes the file at work if all of its blocks have been released.
    pub(super) fn tidy(&self) {
        let mut file = self.lock();
        if file.is_waste() {
            *file = self.spill.file(SpillUse::Blocks);
        }
    }

    fn lock(&self) -> MutexGuard<'_, SpillFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rows of a block on disk.
pub(super) fn read(record: &Spilled) -> Result<RecordBatch, Error> {
    merge(&record.read()?)
}

/// What is known of the disk.
#[derive(Debug, Default)]
pub(super) struct Spilling {
    /// Since a write failed and none has gone well.
    failed: Option<Stopwatch>,
}

impl Spilling {
    /// Whether a write may go well.
    pub(super) fn may_try(&self) -> bool {
        self.failed.as_ref().is_none_or(|failed| failed.elapsed() >= RETRY_INTERVAL)
    }

    /// Whether the last write failed.
    #[cfg(test)]
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// A write has failed: said once, until one has gone well.
    pub(super) fn failed(&mut self, error: &Error) {
        if self.failed.replace(Stopwatch::start()).is_none() {
            tracing::warn!(
                target: "tidemill::block_store",
                error = error.in_one_line(), hint = error.hint().unwrap_or_default(),
                "received rows have no room in memory, nor on disk: sources are held back until they have"
            );
        }
    }

    /// A write has gone well.
    pub(super) fn went_well(&mut self) {
        if self.failed.take().is_some() {
            tracing::info!(target: "tidemill::block_store", "received rows have room on disk again");
        }
    }
}
