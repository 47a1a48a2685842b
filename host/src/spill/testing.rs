//! For tests: places to spill to, and disks that are full or fail.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Spill, SpillSettings};

/// A place to spill to in `folder`, with a quota.
pub(crate) fn spill_in(folder: &Path, quota_bytes: u64) -> Arc<Spill> {
    Spill::open(&settings(folder, quota_bytes)).expect("a folder").expect("a quota")
}

/// The same on a disk that is full, or fails half way, as long as the flag is set.
pub(crate) fn failing_spill_in(folder: &Path, quota_bytes: u64, fails: &Arc<AtomicBool>) -> Arc<Spill> {
    let fails = fails.clone();
    let write = move |file: &mut File, bytes: &[u8]| {
        if fails.load(Ordering::Relaxed) {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        file.write_all(bytes)
    };
    Spill::open_with(&settings(folder, quota_bytes), write).expect("a folder").expect("a quota")
}

fn settings(folder: &Path, quota_bytes: u64) -> SpillSettings {
    SpillSettings { path: Some(folder.into()), quota_bytes, ..SpillSettings::default() }
}

/// Every file under a folder, locks left out.
pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(self::files(&entry.path()));
        } else if entry.file_name() != "lock" {
            files.push(entry.path());
        }
    }
    files
}
