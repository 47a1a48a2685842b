//! Reads what is in a log when a job starts: finds its rows, cuts off what is torn, refuses what is damaged or another's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use super::disk::{Disk, LocalDisk};
use super::error::LogError;
use super::frame::RowCodec;
use super::reader::{Index, IndexedPiece};
use super::retention::{RowRange, unread};
use super::segment::{Scan, SegmentSource, list, scan};
use super::writer::SegmentWriter;
use super::{Lock_, LogOptions, LogSource, Source, State, WriteAheadLog};
use crate::checkpoint::{Directory, Lock, Locked, Owner, Storage};
use crate::error::{Error, Internal};
use crate::plan::describe_schema;

/// Rows that no batch has had, some that stand near one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread {
    /// The number of the first.
    pub(crate) first_row: u64,
    pub(crate) n_rows: u64,
    /// Bytes that they take in the log.
    pub(crate) n_bytes: u64,
}

impl WriteAheadLog {
    /// Whether there is a log in a folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be listed, or has something else in it.
    pub(crate) fn is_there(directory: &Path) -> Result<bool, LogError> {
        Ok(!list(directory)?.is_empty())
    }

    /// Opens a log, for this process alone; the folder is made if it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is damaged, is another job's, or somebody else has it.
    pub fn open(options: &LogOptions, sources: Vec<LogSource>) -> Result<Arc<Self>, Error> {
        Self::open_on(Arc::new(LocalDisk), options, sources)
    }

    /// Opens a log to read rows of batches that are kept, also while its job runs: nothing is changed, and nothing can be written.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is damaged, or is another checkpoint's.
    pub(crate) fn open_to_read(options: &LogOptions, sources: Vec<LogSource>) -> Result<Arc<Self>, Error> {
        let segments = list(&options.directory)?;
        Self::opened(Arc::new(LocalDisk), options, sources, &segments, None)
    }

    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        options: &LogOptions,
        sources: Vec<LogSource>,
    ) -> Result<Arc<Self>, Error> {
        let directory = &options.directory;
        let failed = |doing| LogError::storage(directory, doing);
        std::fs::create_dir_all(directory).map_err(failed("opened"))?;
        let segments = list(directory)?;
        let lock = Directory::at(directory).lock(&Owner::this_process()).map_err(failed("locked"))?;
        let Locked::Ours(lock) = lock else { return Err(LogError::InUse { directory: directory.clone() }.into()) };
        let log = Self::opened(disk, options, sources, &segments, Some(lock))?;
        // What a process left that died while it deleted segments.
        log.release([]);
        Ok(log)
    }

    /// With a lock what is torn is cut off; without one it is left to who has the log.
    fn opened(
        disk: Arc<dyn Disk>,
        options: &LogOptions,
        sources: Vec<LogSource>,
        segments: &[(u64, PathBuf)],
        lock: Option<Lock>,
    ) -> Result<Arc<Self>, Error> {
        let directory = &options.directory;
        let scans = scan_all(segments, &sources, lock.is_some())?;
        if scans.iter().any(|scan| scan.header.log != options.log) {
            return Err(LogError::OtherCheckpoint { directory: directory.clone() }.into());
        }
        let mut places = Places { directory, sources: &sources, indices: Vec::new(), ends: Vec::new() };
        places.find(&scans)?;
        let ends = places.ends;
        let mut opened = Vec::new();
        for (source, index) in sources.iter().zip(places.indices) {
            let codec = RowCodec::new(&source.schema)
                .map_err(|source| Internal { doing: "writing a schema".into(), source })?;
            let unread = if lock.is_some() { unread_rows(directory, source, &index) } else { Vec::new() };
            opened.push(Source { name: source.name.clone(), codec, index, unread });
        }
        let end = |of: usize| {
            let known = opened[of].index.0.last().map(|piece| piece.rows.end);
            let headers = scans.iter().flat_map(|scan| &scan.header.sources);
            let headers = headers.filter(|header| header.source == sources[of].name).map(|header| header.next_row);
            headers.chain(known).chain([sources[of].place]).max().unwrap_or(0)
        };
        let next_rows: Vec<u64> = (0..sources.len()).map(end).collect();
        let headers = sources.iter().zip(&next_rows).map(|(source, &next_row)| SegmentSource {
            source: source.name.clone(),
            schema: describe_schema(&source.schema),
            next_row,
        });
        let next_number = segments.last().map_or(0, |(number, _)| number + 1);
        let (log, segment_bytes) = (options.log.clone(), options.segment_bytes);
        let writer =
            SegmentWriter::new(disk.clone(), directory.clone(), log, segment_bytes, headers.collect(), next_number);
        let state = State {
            waiting: std::collections::VecDeque::new(),
            waiting_bytes: 0,
            n_shared: 0,
            n_appended: 0,
            n_written: 0,
            n_synced: 0,
            writer: Some(writer),
            failure: None,
            next_rows,
            segments: scans.iter().map(|scan| scan.number).zip(ends).collect(),
            kept_from: sources.iter().map(|source| source.kept_from).collect(),
        };
        let log = Self {
            directory: directory.clone(),
            disk,
            sources: opened,
            state: Mutex::new(state),
            changed: Condvar::new(),
            _lock: Lock_(lock),
        };
        Ok(Arc::new(log))
    }

    /// Whether rows that a batch was begun with are there.
    ///
    /// # Errors
    ///
    /// Which are not.
    pub(crate) fn check(&self, source: usize, start: u64, end: u64) -> Result<(), LogError> {
        self.sources[source].index.covers(RowRange { start, end }).map_err(|missing| LogError::RowsMissing {
            directory: self.directory.clone(),
            name: self.sources[source].name.clone(),
            start: missing.start,
            end: missing.end,
        })
    }
}

/// Reads all segments; what is torn at the end of the last is cut off, if that is ours to do.
fn scan_all(segments: &[(u64, PathBuf)], sources: &[LogSource], is_ours: bool) -> Result<Vec<Scan>, LogError> {
    let is_needed = |name: &str, rows: RowRange| {
        sources.iter().find(|source| source.name == name).is_none_or(|source| rows.end > source.reads_from)
    };
    let mut scans = Vec::new();
    for (at, (number, path)) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        let Some(scan) = scan(path, *number, is_last, is_needed)? else {
            // It was being made, and has nothing yet.
            if is_ours {
                std::fs::remove_file(path).map_err(LogError::storage(path, "deleted"))?;
            }
            continue;
        };
        if is_last && is_ours {
            // What another process wrote may not be on the disk yet, and from now on it counts.
            let file = File::options().write(true).open(path).map_err(LogError::storage(path, "opened"))?;
            if scan.torn_bytes > 0 {
                file.set_len(scan.whole_bytes).map_err(LogError::storage(path, "written"))?;
                tracing::info!(
                    target: "tidemill::checkpoint",
                    path = %path.display(), torn_bytes = scan.torn_bytes,
                    "what was being written when the process ended was cut off"
                );
            }
            file.sync_all().map_err(LogError::storage(path, "brought to the disk"))?;
        }
        scans.push(scan);
    }
    Ok(scans)
}

/// Rows of no batch; those that are lost because a file is not there are told.
fn unread_rows(directory: &Path, source: &LogSource, index: &Index) -> Vec<Unread> {
    let (rows, lost) = unread(index.0.iter().map(|piece| piece.rows), source.place);
    for lost in lost {
        tracing::error!(
            target: "tidemill::checkpoint",
            directory = %directory.display(), source = source.name, first_row = lost.start, rows_lost = lost.end - lost.start,
            "rows that were received are lost: a file of the write-ahead log is not there"
        );
    }
    let of = |rows: &RowRange| {
        let piece = &index.0[index.0.partition_point(|piece| piece.rows.end <= rows.start)];
        let n_rows = rows.end - rows.start;
        let n_bytes =
            u128::from(piece.n_bytes) * u128::from(n_rows) / u128::from(piece.rows.end - piece.rows.start).max(1);
        // A part of what is a number of 64 bits.
        Unread { first_row: rows.start, n_rows, n_bytes: (n_bytes as u64).max(1) }
    };
    rows.iter().map(of).collect()
}

/// Finds out which rows are where.
struct Places<'a> {
    directory: &'a Path,
    sources: &'a [LogSource],
    /// For each source.
    indices: Vec<Index>,
    /// For each segment, the number behind the last row of each source.
    ends: Vec<Vec<(usize, u64)>>,
}

impl Places<'_> {
    fn find(&mut self, scans: &[Scan]) -> Result<(), LogError> {
        self.indices = self.sources.iter().map(|_| Index::default()).collect();
        for scan in scans {
            let of_header: Vec<Option<usize>> = scan
                .header
                .sources
                .iter()
                .map(|header| self.sources.iter().position(|source| source.name == header.source))
                .collect();
            for piece in &scan.pieces {
                let header = &scan.header.sources[piece.source];
                let Some(source) = of_header[piece.source] else {
                    return Err(self.no_receiver(&header.source));
                };
                let of = &self.sources[source];
                if piece.rows.end > of.reads_from {
                    let now = describe_schema(&of.schema);
                    if !of.is_receiver {
                        return Err(self.no_receiver(&header.source));
                    }
                    if header.schema != now {
                        let (name, kept) = (of.name.clone(), header.schema.clone());
                        return Err(LogError::OtherSchema { directory: self.directory.to_owned(), name, kept, now });
                    }
                    self.indices[source].0.push(IndexedPiece {
                        rows: piece.rows,
                        n_bytes: piece.n_bytes,
                        path: scan.path.clone(),
                        segment: scan.number,
                        n_sources: scan.header.sources.len(),
                        source: piece.source,
                        position: piece.position,
                    });
                }
            }
            let ends = scan.ends().into_iter().filter_map(|(source, end)| Some((of_header[source]?, end)));
            self.ends.push(ends.collect());
        }
        Ok(())
    }

    fn no_receiver(&self, name: &str) -> LogError {
        LogError::NoReceiver { directory: self.directory.to_owned(), name: name.to_owned() }
    }
}
