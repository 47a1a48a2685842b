//! Reads rows again, by their numbers.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::error::LogError;
use super::retention::RowRange;
use super::segment::SegmentReader;
use super::{RECEIVED, WriteAheadLog};
use crate::checkpoint::Damage;
use crate::error::{Error, Internal};
use crate::source::{OffsetRange, RangeReader};

/// Where rows of a source are, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Index(pub(super) Vec<IndexedPiece>);

/// Frames that stand near one another.
#[derive(Debug, Clone)]
pub(super) struct IndexedPiece {
    pub(super) rows: RowRange,
    pub(super) n_bytes: u64,
    pub(super) path: PathBuf,
    pub(super) segment: u64,
    /// Sources of the segment, and the place of this one among them.
    pub(super) n_sources: usize,
    pub(super) source: usize,
    /// Where the first frame starts.
    pub(super) position: u64,
}

impl Index {
    /// The pieces from the one with a row on.
    fn starting_at(&self, row: u64) -> &[IndexedPiece] {
        &self.0[self.0.partition_point(|piece| piece.rows.end <= row)..]
    }

    /// Whether all of these rows are there; the first of them that are not.
    pub(super) fn covers(&self, rows: RowRange) -> Result<(), RowRange> {
        let mut next = rows.start;
        for piece in self.starting_at(next) {
            if next >= rows.end || piece.rows.start > next {
                break;
            }
            next = piece.rows.end;
        }
        if next >= rows.end { Ok(()) } else { Err(RowRange { start: next, end: rows.end }) }
    }
}

/// Reads rows of one source that were in the log when it was opened: of each range, one batch of rows, as the batch had it that was
/// first begun with them.
#[derive(Debug)]
pub(crate) struct LogReader {
    log: Arc<WriteAheadLog>,
    source: usize,
}

impl LogReader {
    pub(crate) fn new(log: Arc<WriteAheadLog>, source: usize) -> Self {
        Self { log, source }
    }

    fn rows(&self, rows: RowRange) -> Result<Vec<RecordBatch>, LogError> {
        let source = &self.log.sources[self.source];
        let missing = |start, end| LogError::RowsMissing {
            directory: self.log.directory.clone(),
            name: source.name.clone(),
            start,
            end,
        };
        source.index.covers(rows).map_err(|missed| missing(missed.start, missed.end))?;
        let mut next = rows.start;
        let mut parts = Vec::new();
        for piece in source.index.starting_at(next) {
            let end = rows.end.min(piece.rows.end);
            let mut reader = SegmentReader::at(&piece.path, piece.segment, piece.n_sources, piece.position)?;
            while next < end {
                let position = reader.position;
                let damaged = || LogError::DamagedFrame {
                    path: piece.path.clone(),
                    position,
                    lost: format!("rows {next} to {end} of source `{}` cannot be read", source.name),
                };
                let frame = reader.peek()?.map_err(|_| damaged())?;
                if frame.source as usize != piece.source || frame.end_row() <= next {
                    reader.pass_over(&frame)?;
                    continue;
                }
                let payload = reader.payload(&frame)?.ok_or_else(damaged)?;
                let decoded = source.codec.decode(&payload).map_err(|error| LogError::Damaged {
                    path: piece.path.clone(),
                    source: Damage::Content { what: error.to_string() },
                })?;
                let (start, frame_end) = (next - frame.first_row, end.min(frame.end_row()));
                parts.push(decoded.slice(start as usize, (frame_end - next) as usize));
                next = frame_end;
            }
            if next >= rows.end {
                break;
            }
        }
        Ok(parts)
    }
}

impl RangeReader for LogReader {
    fn read_range(
        &self,
        range: &OffsetRange,
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        assert_eq!(range.object, RECEIVED, "rows of a log are asked for by their numbers");
        let parts = self.rows(RowRange { start: range.start, end: range.end })?;
        let schema = self.log.sources[self.source].codec.schema();
        let rows = match parts.as_slice() {
            [only] => only.clone(),
            parts => concat_batches(schema, parts)
                .map_err(|source| Internal { doing: "merging the rows of a range".into(), source })?,
        };
        emit(rows)
    }
}
