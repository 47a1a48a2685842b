//! Reads what is in a log when a job starts: finds its rows, cuts off what is torn, refuses what is damaged or another's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use super::disk::{Disk, LocalDisk};
use super::end::{END_NAME, LogEnd, SourceEnd, lost_rows};
use super::error::{LogError, LostRange};
use super::frame::RowCodec;
use super::reader::{Index, IndexedPiece};
use super::retention::{RowRange, unread};
use super::segment::{Scan, SegmentSource, file_name, list, scan};
use super::writer::SegmentWriter;
use super::{Lock_, LogOptions, LogSource, Source, State, WriteAheadLog};
use crate::checkpoint::{Directory, Lock, Locked, Owner, Storage, is_temporary};
use crate::error::{Error, Internal};
use crate::job::LostRows;
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
        Ok(!list(directory)?.is_empty() || directory.join(END_NAME).exists())
    }

    /// Opens a log, for this process alone; the folder is made if it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is damaged, is another job's, lacks rows that no batch has had, or somebody else has it.
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
        remove_temporary(directory)?;
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
        let before = if lock.is_some() { end_before(options)? } else { LogEnd::default() };
        let removes =
            |number: u64| before.newest.is_none_or(|begun| begun < number) || options.lost_rows == LostRows::Skip;
        let scans = scan_all(segments, &sources, lock.is_some(), removes)?;
        let is_others = |log: &str| !log.is_empty() && log != options.log;
        if scans.iter().any(|scan| scan.header.log != options.log) || is_others(&before.log) {
            return Err(LogError::OtherCheckpoint { directory: directory.clone() }.into());
        }
        let mut places = Places { directory, sources: &sources, indices: Vec::new(), ends: Vec::new() };
        places.find(&scans)?;
        let Places { ends, indices, .. } = places;
        let mut opened = Vec::new();
        for (source, index) in sources.iter().zip(indices) {
            let codec = RowCodec::new(&source.schema)
                .map_err(|source| Internal { doing: "writing a schema".into(), source })?;
            let unread = if lock.is_some() { unread_rows(source, &index) } else { Vec::new() };
            opened.push(Source { name: source.name.clone(), codec, index, unread });
        }
        // Also by rows that nobody reads any more.
        let found_end = |of: usize| scans.iter().filter_map(|scan| scan.end_of(&sources[of].name)).max().unwrap_or(0);
        let known_end = |of: usize| sources[of].known_end.max(before.end_row(&sources[of].name));
        let next_row = |of: usize| found_end(of).max(sources[of].place).max(known_end(of));
        let next_rows: Vec<u64> = (0..sources.len()).map(next_row).collect();
        let newest = scans.last().map(|scan| scan.number);
        let mut end = LogEnd {
            newest: newest.or(before.newest),
            next: segments.last().map_or(0, |(number, _)| number + 1).max(before.next),
            ..before.clone()
        };
        if lock.is_some() {
            // These cannot be skipped, and come first.
            for (source, opened) in sources.iter().zip(&opened) {
                source.begun.iter().try_for_each(|&(start, end)| opened.check(directory, start, end))?;
            }
            let found = |of: usize| FoundRows {
                source: &sources[of],
                index: &opened[of].index,
                found_end: found_end(of),
                known_end: known_end(of),
                given_up: before.given_up(&sources[of].name),
            };
            let lost = Lost::find(before.missing_segment(newest), (0..sources.len()).map(found));
            if lost.is_any() {
                lost.refuse_or_tell(options)?;
                end = lost.given_up(options, newest, end.next, sources.iter().zip(&next_rows));
                end.write(directory).map_err(LogError::storage(directory, "written"))?;
            }
        }
        let headers = sources.iter().zip(&next_rows).map(|(source, &next_row)| SegmentSource {
            source: source.name.clone(),
            schema: describe_schema(&source.schema),
            next_row,
        });
        let (log, segment_bytes) = (options.log.clone(), options.segment_bytes);
        let writer = SegmentWriter::new(disk.clone(), directory.clone(), log, segment_bytes, headers.collect(), end);
        let state = State {
            waiting: std::collections::VecDeque::new(),
            waiting_bytes: 0,
            n_shared: 0,
            n_appended: 0,
            n_written: 0,
            n_synced: 0,
            writer: Some(writer),
            failure: None,
            synced_rows: next_rows.clone(),
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
        self.sources[source].check(&self.directory, start, end)
    }
}

impl Source {
    fn check(&self, directory: &Path, start: u64, end: u64) -> Result<(), LogError> {
        self.index.covers(RowRange { start, end }).map_err(|missing| LogError::RowsMissing {
            directory: directory.to_owned(),
            name: self.name.clone(),
            start: missing.start,
            end: missing.end,
        })
    }
}

/// Reads all segments; what is torn at the end of the last is cut off, if that is ours to do; one that has not even a beginning is removed where
/// `removes` says so.
fn scan_all(
    segments: &[(u64, PathBuf)],
    sources: &[LogSource],
    is_ours: bool,
    removes: impl Fn(u64) -> bool,
) -> Result<Vec<Scan>, LogError> {
    let is_needed = |name: &str, rows: RowRange| {
        sources.iter().find(|source| source.name == name).is_none_or(|source| rows.end > source.reads_from)
    };
    let mut scans = Vec::new();
    for (at, (number, path)) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        let Some(scan) = scan(path, *number, is_last, is_needed)? else {
            // It was being made, and has nothing yet; or it was cut off, and is as good as gone.
            if is_ours && removes(*number) {
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

/// What was noted of the end. Where lost rows are given up, so is a note that cannot be read.
fn end_before(options: &LogOptions) -> Result<LogEnd, LogError> {
    match LogEnd::read(&options.directory) {
        Err(error @ LogError::Damaged { .. }) if options.lost_rows == LostRows::Skip => {
            let error = Error::from(error).in_one_line();
            tracing::error!(target: "tidemill::checkpoint", error, "how far the write-ahead log had come is not known");
            Ok(LogEnd::default())
        }
        end => Ok(end?.unwrap_or_default()),
    }
}

/// Removes what a process was writing when it ended.
fn remove_temporary(directory: &Path) -> Result<(), LogError> {
    let failed = || LogError::storage(directory, "listed");
    for entry in std::fs::read_dir(directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if is_temporary(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path()).map_err(LogError::storage(&entry.path(), "deleted"))?;
        }
    }
    Ok(())
}

/// What there is of a source, and what should be.
struct FoundRows<'a> {
    source: &'a LogSource,
    index: &'a Index,
    /// The number behind the last row that the files know of.
    found_end: u64,
    /// The number behind the last row that is known to have been on the disk.
    known_end: u64,
    given_up: u64,
}

/// What a log lacks that is known to have been there.
struct Lost {
    /// The name of the last file, if that is gone.
    file: Option<String>,
    /// Rows that are in no batch.
    rows: Vec<LostRange>,
    /// Sources whose end is gone with rows that were in batches: what came behind them nobody knows.
    ends: Vec<String>,
}

impl Lost {
    fn find<'a>(missing: Option<u64>, found: impl Iterator<Item = FoundRows<'a>>) -> Self {
        let (mut rows, mut ends) = (Vec::new(), Vec::new());
        for of in found {
            let FoundRows { source, index, found_end, known_end, given_up } = of;
            let frames = index.0.iter().map(|piece| piece.rows);
            let lost = lost_rows(frames, source.place, known_end.max(found_end), given_up);
            if lost.is_empty() && known_end > found_end.max(given_up) {
                ends.push(source.name.clone());
            }
            let name = || source.name.clone();
            rows.extend(lost.into_iter().map(|rows| LostRange { source: name(), start: rows.start, end: rows.end }));
        }
        Self { file: missing.map(file_name), rows, ends }
    }

    fn is_any(&self) -> bool {
        self.file.is_some() || !self.rows.is_empty() || !self.ends.is_empty()
    }

    /// Where lost rows are skipped, says what is lost.
    fn refuse_or_tell(&self, options: &LogOptions) -> Result<(), LogError> {
        let directory = options.directory.clone();
        if options.lost_rows == LostRows::Refuse {
            let (file, rows, ends) = (self.file.clone(), self.rows.clone(), self.ends.clone());
            return Err(LogError::RowsLost { directory, file, rows, ends });
        }
        let directory = directory.display();
        for rows in &self.rows {
            tracing::error!(
                target: "tidemill::checkpoint",
                %directory, source = rows.source, first_row = rows.start, rows_lost = rows.end - rows.start,
                "rows that were received are lost, and the job goes on without them"
            );
        }
        if self.file.is_some() || !self.ends.is_empty() {
            tracing::error!(
                target: "tidemill::checkpoint",
                %directory, file = self.file, sources = self.ends.join(", "),
                "the end of the write-ahead log is not there, and the job goes on without it: rows that came after the last \
                 batch had begun may be lost, and are not counted"
            );
        }
        Ok(())
    }

    /// How far the log has come when all that is lost has been given up.
    fn given_up<'a>(
        &self,
        options: &LogOptions,
        newest: Option<u64>,
        next: u64,
        sources: impl Iterator<Item = (&'a LogSource, &'a u64)>,
    ) -> LogEnd {
        let of = |(source, &end_row): (&LogSource, &u64)| SourceEnd {
            source: source.name.clone(),
            end_row,
            given_up: end_row,
        };
        LogEnd { log: options.log.clone(), newest, next, sources: sources.map(of).collect() }
    }
}

/// Rows of no batch.
fn unread_rows(source: &LogSource, index: &Index) -> Vec<Unread> {
    let (rows, _) = unread(index.0.iter().map(|piece| piece.rows), source.place);
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
