//! Appends frames to segments, and begins a new one when the last has grown large.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, SegmentFile};
use super::end::{LogEnd, SourceEnd};
use super::frame::{FrameHeader, HEADER_BYTES, seed};
use super::segment::{SegmentHeader, SegmentSource, encode_header, file_name, record_name};
use crate::fail_point;

/// Rows of a push that are to be written.
#[derive(Debug)]
pub(super) struct PendingFrame {
    /// The source, by its place in the log.
    pub(super) source: usize,
    pub(super) n_rows: u64,
    pub(super) first_row: u64,
    pub(super) payload: Vec<u8>,
    pub(super) payload_sum: u64,
}

impl PendingFrame {
    /// Bytes of the frame.
    pub(super) fn n_bytes(&self) -> usize {
        self.payload.len() + HEADER_BYTES
    }
}

/// Why frames are not in a segment.
#[derive(Debug)]
pub(super) enum WriteFailure {
    /// They could not be appended: it can be tried again.
    Write(PathBuf, io::Error),
    /// What was appended could not be brought to the disk, and may be gone whatever is tried.
    Sync(PathBuf, io::Error),
}

/// Rows of a source that a segment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// The segment's number.
    pub(super) segment: u64,
    pub(super) source: usize,
    /// The number behind the last row.
    pub(super) end_row: u64,
}

/// What appends frames.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// The log's identity.
    log: String,
    /// A segment that is larger is followed by another.
    segment_bytes: u64,
    /// What there are rows of; with the next row to be written of each.
    sources: Vec<SegmentSource>,
    /// What was known of the end before; of each source, which rows have been given up.
    end: LogEnd,
    next_number: u64,
    current: Option<Current>,
    /// What was written and not yet asked for.
    written: Vec<Written>,
}

/// The segment that is written to.
#[derive(Debug)]
struct Current {
    file: Box<dyn SegmentFile>,
    number: u64,
    path: PathBuf,
    name: String,
    /// Bytes up to the end of the last whole frame.
    n_bytes: u64,
    synced_bytes: u64,
    /// Whether there may be a part of a frame behind them.
    is_torn: bool,
}

impl SegmentWriter {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        log: String,
        segment_bytes: u64,
        sources: Vec<SegmentSource>,
        end: LogEnd,
    ) -> Self {
        let next_number = end.next;
        Self { disk, directory, log, segment_bytes, sources, end, next_number, current: None, written: Vec::new() }
    }

    /// Appends frames, and takes those that are appended from the front of the queue.
    pub(super) fn write(&mut self, frames: &mut VecDeque<PendingFrame>) -> Result<(), WriteFailure> {
        while !frames.is_empty() {
            if self.current.as_ref().is_none_or(|current| current.n_bytes >= self.segment_bytes) {
                self.roll()?;
            }
            let Some(current) = &mut self.current else { unreachable!("a segment was just begun") };
            let failed = |path: &PathBuf| {
                let path = path.clone();
                move |error| WriteFailure::Write(path, error)
            };
            if current.is_torn {
                current.file.cut(current.n_bytes).map_err(failed(&current.path))?;
                current.is_torn = false;
            }
            let mut bytes = Vec::new();
            let mut n_frames = 0;
            for frame in frames.iter() {
                let position = current.n_bytes + bytes.len() as u64;
                if n_frames > 0 && position >= self.segment_bytes {
                    break;
                }
                let header = FrameHeader {
                    source: frame.source as u32,
                    n_rows: frame.n_rows,
                    payload_bytes: frame.payload.len() as u64,
                    first_row: frame.first_row,
                    synced_bytes: current.synced_bytes,
                    payload_sum: frame.payload_sum,
                };
                bytes.extend_from_slice(&header.encode(seed(&current.name, position)));
                bytes.extend_from_slice(&frame.payload);
                n_frames += 1;
            }
            current.is_torn = true;
            current.file.append(&bytes).map_err(failed(&current.path))?;
            current.is_torn = false;
            current.n_bytes += bytes.len() as u64;
            for frame in frames.drain(..n_frames) {
                let end_row = frame.first_row + frame.n_rows;
                self.sources[frame.source].next_row = end_row;
                self.written.push(Written { segment: current.number, source: frame.source, end_row });
            }
            fail_point::pass("wal-frames-written");
        }
        Ok(())
    }

    /// When it returns, everything that was appended outlives the machine's power.
    pub(super) fn sync(&mut self) -> Result<(), WriteFailure> {
        let Some(current) = self.current.as_mut().filter(|current| current.synced_bytes < current.n_bytes) else {
            return Ok(());
        };
        current.file.sync().map_err(|error| WriteFailure::Sync(current.path.clone(), error))?;
        current.synced_bytes = current.n_bytes;
        fail_point::pass("wal-synced");
        Ok(())
    }

    /// The number behind the last row of each source that was written.
    pub(super) fn next_rows(&self) -> Vec<u64> {
        self.sources.iter().map(|source| source.next_row).collect()
    }

    /// Notes how far the log has come: all that was written must be on the disk.
    pub(super) fn note_end(&self) -> io::Result<()> {
        let newest = self.current.as_ref().map(|current| current.number).or(self.end.newest);
        if newest.is_none() && self.end == LogEnd::default() {
            // There is no log.
            return Ok(());
        }
        if self.current.as_ref().is_some_and(|current| current.synced_bytes < current.n_bytes) {
            return Ok(());
        }
        self.end_with(newest, self.next_number).write(&self.directory)
    }

    fn end_with(&self, newest: Option<u64>, next: u64) -> LogEnd {
        let of = |source: &SegmentSource| SourceEnd {
            source: source.source.clone(),
            end_row: source.next_row,
            given_up: self.end.given_up(&source.source),
        };
        LogEnd { log: self.log.clone(), newest, next, sources: self.sources.iter().map(of).collect() }
    }

    /// What was written since this was last asked.
    pub(super) fn take_written(&mut self) -> Vec<Written> {
        std::mem::take(&mut self.written)
    }

    /// Begins a segment, when the last one is on the disk.
    fn roll(&mut self) -> Result<(), WriteFailure> {
        self.sync()?;
        let number = self.next_number;
        let path = self.directory.join(file_name(number));
        let header = encode_header(number, &SegmentHeader { log: self.log.clone(), sources: self.sources.clone() });
        let made = self.disk.create(&path).and_then(|mut file| {
            file.append(&header)?;
            file.sync()?;
            self.disk.sync_folder(&self.directory)?;
            self.end_with(Some(number), number + 1).write(&self.directory)?;
            Ok(file)
        });
        // It is made anew when it is tried again.
        let file = made.map_err(|error| WriteFailure::Write(path.clone(), error))?;
        let n_bytes = header.len() as u64;
        let name = record_name(number);
        self.current = Some(Current { file, number, path, name, n_bytes, synced_bytes: n_bytes, is_torn: false });
        self.next_number += 1;
        fail_point::pass("wal-segment-rolled");
        Ok(())
    }
}
