//! Decides which files a batch reads, and in which ranges.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::listing::{FoundFile, Place, identity};
use super::read::FileReader;
use crate::error::Error;
use crate::source::{
    BatchLimit, OffsetRange, PlannedRead, RangeReader, Replayable, SourceCounters, SourceError, SourceNote,
};

/// A range is not cut shorter than this: less is not worth a task.
const RANGE_BYTES_MIN: u64 = 1 << 20;

/// A cut that would leave less than this part of a range on one side is made at the end of the file instead.
const SLIVER_DIVISOR: u64 = 16;

/// How much a batch may take, and how it is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) files_max: Option<u64>,
    pub(super) bytes_max: Option<u64>,
    /// Whether a file may be cut into ranges.
    pub(super) is_cut: bool,
}

/// Plans batches of files.
pub(super) struct FilePlanner {
    place: Place,
    limits: Limits,
    /// Files found and not yet given to a batch, in order.
    pending: VecDeque<FoundFile>,
    /// How many of `pending`, from its start, were there when the source was opened.
    n_initial: usize,
    /// Every file that was ever found: read, pending, or refused.
    seen: HashSet<u128>,
    /// Files that were refused, so that each is refused once.
    refused: HashSet<PathBuf>,
    reader: Arc<FileReader>,
    counters: Arc<SourceCounters>,
}

impl FilePlanner {
    /// Plans batches of `files`, which are there, and of what appears later.
    pub(super) fn new(
        place: Place,
        files: Vec<FoundFile>,
        limits: Limits,
        reader: Arc<FileReader>,
        counters: Arc<SourceCounters>,
    ) -> Self {
        let seen = files.iter().map(|file| file.key).collect();
        let (n_initial, pending) = (files.len(), files.into());
        Self { place, limits, pending, n_initial, seen, refused: HashSet::new(), reader, counters }
    }

    /// Looks for files that were not there before, unless the next batch is full without them.
    fn look(&mut self) -> Result<(), SourceError> {
        let full_of_files = self.limits.files_max.is_some_and(|max| self.pending.len() as u64 >= max);
        let full_of_bytes = self.limits.bytes_max.is_some_and(|max| {
            let mut total = 0_u64;
            self.pending.iter().any(|file| {
                total = total.saturating_add(file.n_bytes);
                total >= max
            })
        });
        if full_of_files || full_of_bytes {
            return Ok(());
        }
        let listing = self.place.list()?;
        for file in listing.files {
            if self.seen.insert(file.key) {
                self.pending.push_back(file);
            }
        }
        for path in listing.compressed {
            self.refuse(path, |path| SourceError::Compressed { path }.to_string());
        }
        for (path, reason) in listing.unusable {
            self.refuse(path, |_| reason);
        }
        Ok(())
    }

    fn refuse(&mut self, path: PathBuf, reason: impl FnOnce(PathBuf) -> String) {
        if self.refused.insert(path.clone()) {
            self.counters.note(SourceNote::ObjectRefused { reason: reason(path) });
        }
    }

    /// Takes the files of the next batch.
    fn take(&mut self) -> Vec<FoundFile> {
        let mut taken = Vec::new();
        let mut total_bytes = 0_u64;
        while let Some(next) = self.pending.front_mut() {
            if !is_current(next, &mut self.seen) {
                self.pending.pop_front();
                self.n_initial = self.n_initial.saturating_sub(1);
                continue;
            }
            let enough = self.limits.files_max.is_some_and(|max| taken.len() as u64 >= max)
                || self.limits.bytes_max.is_some_and(|max| total_bytes.saturating_add(next.n_bytes) > max);
            if enough && !taken.is_empty() {
                break;
            }
            total_bytes = total_bytes.saturating_add(next.n_bytes);
            taken.extend(self.pending.pop_front());
            self.n_initial = self.n_initial.saturating_sub(1);
        }
        taken
    }
}

impl Replayable for FilePlanner {
    fn plan_batch(&mut self, limit: BatchLimit) -> Result<PlannedRead, Error> {
        if let Err(error) = self.look() {
            if self.pending.is_empty() {
                return Err(error.into());
            }
            // What is known to be there is read meanwhile.
            let error = Error::from(error).report();
            tracing::warn!(target: "tidemill::source", error, "new files could not be looked for");
            self.counters.note(SourceNote::Failed { error });
        }
        let files = self.take();
        let ranges = if self.limits.is_cut { cut(&files, limit.partitions) } else { whole(&files) };
        Ok(PlannedRead { ranges, drained: self.n_initial == 0 })
    }

    fn resume(&mut self, read: Vec<OffsetRange>) -> Result<(), Error> {
        // A file is read whole, in one batch.
        let read: HashSet<u128> = read.iter().filter_map(|range| range.identity).collect();
        self.pending.retain(|file| !read.contains(&file.key));
        self.n_initial = self.pending.len();
        self.seen.extend(read);
        Ok(())
    }

    fn reader(&self) -> Arc<dyn RangeReader> {
        Arc::clone(&self.reader) as Arc<dyn RangeReader>
    }

    fn counters(&self) -> Option<Arc<SourceCounters>> {
        Some(Arc::clone(&self.counters))
    }
}

/// Whether a file that is pending is to be read. If another one took its place since it was found, it is that one from
/// now on, or nothing if that one is pending as well. A file that is gone stays: reading it fails by name.
fn is_current(file: &mut FoundFile, seen: &mut HashSet<u128>) -> bool {
    let Ok(metadata) = fs::metadata(&file.path) else { return true };
    let key = identity(&file.path, &metadata);
    if key == file.key {
        return true;
    }
    if !metadata.is_file() || !seen.insert(key) {
        return false;
    }
    file.key = key;
    file.n_bytes = metadata.len();
    true
}

/// A range for each file.
fn whole(files: &[FoundFile]) -> Vec<OffsetRange> {
    let range = |file: &FoundFile| OffsetRange {
        object: file.path.clone(),
        start: 0,
        end: file.n_bytes,
        identity: Some(file.key),
    };
    files.iter().filter(|file| file.n_bytes > 0).map(range).collect()
}

/// Cuts files into ranges, so that so many tasks get the same number of bytes when neighbours stay together.
fn cut(files: &[FoundFile], partitions: u32) -> Vec<OffsetRange> {
    let total_bytes = files.iter().fold(0_u64, |total, file| total.saturating_add(file.n_bytes));
    let share = total_bytes.div_ceil(u64::from(partitions.max(1))).max(RANGE_BYTES_MIN);
    let sliver = share / SLIVER_DIVISOR;
    let mut ranges = Vec::new();
    // Bytes that the present share still takes.
    let mut room = share;
    for file in files {
        let mut start = 0;
        while start < file.n_bytes {
            let left = file.n_bytes - start;
            // Ends at the share's end, or at the file's if one is near the other.
            let size = if left <= room.saturating_add(sliver) { left } else { room };
            ranges.push(OffsetRange { object: file.path.clone(), start, end: start + size, identity: Some(file.key) });
            start += size;
            room = room.saturating_sub(size);
            if room <= sliver {
                room = share;
            }
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn files(sizes: &[u64]) -> Vec<FoundFile> {
        let file = |(index, n_bytes): (usize, &u64)| FoundFile {
            path: index.to_string(),
            key: index as u128,
            n_bytes: *n_bytes,
            modified: UNIX_EPOCH,
        };
        sizes.iter().enumerate().map(file).collect()
    }

    #[track_caller]
    fn check(sizes: &[u64], partitions: u32, expected: &[(&str, u64, u64)]) {
        let ranges = cut(&files(sizes), partitions);
        let ranges: Vec<_> = ranges.iter().map(|range| (range.object.as_str(), range.start, range.end)).collect();
        assert_eq!(ranges, expected);
    }

    #[test]
    fn large_files_are_shared_and_small_ones_are_not() {
        check(&[], 4, &[]);
        check(&[0, 10, 0], 4, &[("1", 0, 10)]);
        check(&[4 * MIB], 2, &[("0", 0, 2 * MIB), ("0", 2 * MIB, 4 * MIB)]);
        check(&[4 * MIB], 100, &[("0", 0, MIB), ("0", MIB, 2 * MIB), ("0", 2 * MIB, 3 * MIB), ("0", 3 * MIB, 4 * MIB)]);
        check(
            &[4 * MIB + 7],
            4,
            &[
                ("0", 0, MIB + 2),
                ("0", MIB + 2, 2 * MIB + 4),
                ("0", 2 * MIB + 4, 3 * MIB + 6),
                ("0", 3 * MIB + 6, 4 * MIB + 7),
            ],
        );
        check(&[2 * MIB, 6 * MIB], 2, &[("0", 0, 2 * MIB), ("1", 0, 2 * MIB), ("1", 2 * MIB, 6 * MIB)]);
    }

    #[test]
    fn files_that_cannot_be_cut_are_ranges() {
        let ranges = whole(&files(&[0, 7, 40 * MIB]));
        let ranges: Vec<_> = ranges.iter().map(|range| (range.object.as_str(), range.start, range.end)).collect();
        assert_eq!(ranges, [("1", 0, 7), ("2", 0, 40 * MIB)]);
    }

    proptest! {
        #[test]
        fn law_ranges_cover_every_byte_once_and_are_fair(
            sizes in prop::collection::vec(prop_oneof![0..10_u64, 0..40 * MIB], 0..20),
            partitions in 1..9_u32,
        ) {
            let files = files(&sizes);
            let ranges = cut(&files, partitions);
            for (file, size) in files.iter().zip(&sizes) {
                let mut next = 0;
                for range in ranges.iter().filter(|range| range.object == file.path) {
                    prop_assert_eq!(range.start, next);
                    prop_assert!(range.end > range.start);
                    next = range.end;
                }
                prop_assert_eq!(next, *size);
            }
            let total: u64 = sizes.iter().sum();
            let share = total.div_ceil(u64::from(partitions)).max(MIB);
            for dealt in (PlannedRead { ranges, drained: false }).into_partitions(partitions) {
                let bytes: u64 = dealt.iter().map(|range| range.end - range.start).sum();
                prop_assert!(bytes <= 2 * share, "{} of a share of {}", bytes, share);
            }
        }
    }
}
