//! Sorted runs on disk, and how they become one.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;
use arrow::row::Rows;

use crate::error::Error;
use crate::spill::{RECORD_BYTES, SpillFile, Spilled, spill_all};
use crate::step::Emit;
use crate::step::chunks::batch_bytes;
use crate::step::keyed::{OUTPUT_ROWS_MAX, internal};

/// Rows in an order.
pub(crate) type Run = VecDeque<RunPiece>;

/// Some rows of a run.
#[derive(Debug)]
pub(crate) enum RunPiece {
    /// In memory.
    Memory(RecordBatch),
    /// On disk.
    Spilled(Spilled),
}

/// How many of rows that have `bytes` take at most `bytes_max`: one at least.
pub(crate) fn rows_within(rows: &RecordBatch, bytes: u64, bytes_max: u64) -> usize {
    let n_rows = rows.num_rows() as u64;
    if bytes <= bytes_max { n_rows.max(1) as usize } else { (n_rows * bytes_max / bytes).max(1) as usize }
}

/// Writes a run: what is pushed is in its order.
#[derive(Debug)]
pub(crate) struct RunWriter {
    file: SpillFile,
    pending: Vec<RecordBatch>,
    pending_bytes: u64,
    /// Bytes of a record, of which merging holds one for each run.
    record_bytes: u64,
    run: Run,
}

impl RunWriter {
    /// Writes records of about `record_bytes`, or [`RECORD_BYTES`] if that is less.
    pub(crate) fn new(file: SpillFile, record_bytes: u64) -> Self {
        let record_bytes = record_bytes.clamp(16 << 10, RECORD_BYTES);
        Self { file, pending: Vec::new(), pending_bytes: 0, record_bytes, run: Run::new() }
    }

    pub(crate) fn push(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let bytes = batch_bytes(rows);
        let n_rows = rows_within(rows, bytes, self.record_bytes);
        for start in (0..rows.num_rows()).step_by(n_rows) {
            let piece = rows.slice(start, n_rows.min(rows.num_rows() - start));
            self.pending_bytes += bytes * piece.num_rows() as u64 / rows.num_rows() as u64;
            self.pending.push(piece);
            if self.pending_bytes >= self.record_bytes {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Run, Error> {
        self.flush()?;
        Ok(self.run)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        self.run.extend(spill_all(&mut self.file, &pending)?.into_iter().map(RunPiece::Spilled));
        Ok(())
    }
}

/// Where a run stands.
struct Cursor {
    run: Run,
    /// The batches of the record at work that have not been begun.
    ahead: VecDeque<RecordBatch>,
    /// The order of the rows of the batch at work, which stands at `batch` among those of the output.
    keys: Option<Rows>,
    batch: usize,
    row: usize,
}

impl Cursor {
    fn key(&self) -> Option<&[u8]> {
        self.keys.as_ref().map(|keys| keys.row(self.row).data())
    }

    /// Begins the next batch with rows; without one the run has ended.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            match self.ahead.pop_front() {
                Some(rows) if rows.num_rows() > 0 => return Ok(Some(rows)),
                Some(_) => {}
                None => match self.run.pop_front() {
                    Some(RunPiece::Memory(rows)) => self.ahead.push_back(rows),
                    // Dropped here: what is merged leaves the disk with its file.
                    Some(RunPiece::Spilled(record)) => self.ahead.extend(record.read()?),
                    None => return Ok(None),
                },
            }
        }
    }
}

/// Gives the rows of several runs in their order, at most [`OUTPUT_ROWS_MAX`] at a time; of rows that are equal, those of
/// earlier runs first. `encode` gives the order of rows.
pub(crate) fn merge_runs(
    step: &str,
    runs: Vec<Run>,
    encode: &dyn Fn(&RecordBatch) -> Result<Rows, ArrowError>,
    emit: &mut Emit<'_>,
) -> Result<(), Error> {
    let doing = || internal(format!("merging the rows of step `{step}`"));
    // Batches that rows of the next output are in; those that are used up go when it is given.
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut cursors = Vec::new();
    for run in runs {
        let mut cursor = Cursor { run, ahead: VecDeque::new(), keys: None, batch: 0, row: 0 };
        if let Some(rows) = cursor.next_batch()? {
            cursor.keys = Some(encode(&rows).map_err(doing())?);
            cursor.batch = batches.len();
            batches.push(rows);
        }
        cursors.push(cursor);
    }
    // A heap of cursors: the smallest on top, and below each that are not smaller.
    let mut heap: Vec<usize> = (0..cursors.len()).filter(|&cursor| cursors[cursor].keys.is_some()).collect();
    for place in (0..heap.len() / 2).rev() {
        sink(&mut heap, place, &cursors);
    }
    let mut rows: Vec<(usize, usize)> = Vec::new();
    while let Some(&top) = heap.first() {
        let cursor = &mut cursors[top];
        rows.push((cursor.batch, cursor.row));
        cursor.row += 1;
        if rows.len() == OUTPUT_ROWS_MAX {
            give(&mut batches, &mut rows, &mut cursors, emit).map_err(|error| error.or_internal(doing()))?;
        }
        let cursor = &mut cursors[top];
        if cursor.keys.as_ref().is_some_and(|keys| cursor.row == keys.num_rows()) {
            match cursor.next_batch()? {
                Some(next) => {
                    cursor.keys = Some(encode(&next).map_err(doing())?);
                    (cursor.batch, cursor.row) = (batches.len(), 0);
                    batches.push(next);
                }
                None => {
                    cursor.keys = None;
                    heap.swap_remove(0);
                }
            }
        }
        sink(&mut heap, 0, &cursors);
    }
    if rows.is_empty() {
        return Ok(());
    }
    give(&mut batches, &mut rows, &mut cursors, emit).map_err(|error| error.or_internal(doing()))
}

/// Why an output was not given.
enum NotGiven {
    Arrow(ArrowError),
    Emit(Error),
}

impl NotGiven {
    fn or_internal(self, internal: impl FnOnce(ArrowError) -> Error) -> Error {
        match self {
            NotGiven::Arrow(error) => internal(error),
            NotGiven::Emit(error) => error,
        }
    }
}

/// Gives the rows that were chosen, and lets go of batches that no cursor is in.
fn give(
    batches: &mut Vec<RecordBatch>,
    rows: &mut Vec<(usize, usize)>,
    cursors: &mut [Cursor],
    emit: &mut Emit<'_>,
) -> Result<(), NotGiven> {
    let output = interleave_record_batch(&batches.iter().collect::<Vec<_>>(), rows).map_err(NotGiven::Arrow)?;
    rows.clear();
    let mut kept = Vec::new();
    for cursor in cursors.iter_mut().filter(|cursor| cursor.keys.is_some()) {
        kept.push(batches[cursor.batch].clone());
        cursor.batch = kept.len() - 1;
    }
    *batches = kept;
    emit(output).map_err(NotGiven::Emit)
}

/// Lets the cursor at a place of the heap go down to where it belongs.
fn sink(heap: &mut [usize], mut place: usize, cursors: &[Cursor]) {
    let is_less = |a: usize, b: usize| (cursors[a].key(), a) < (cursors[b].key(), b);
    loop {
        let (left, right) = (2 * place + 1, 2 * place + 2);
        let mut least = place;
        for child in [left, right] {
            if child < heap.len() && is_less(heap[child], heap[least]) {
                least = child;
            }
        }
        if least == place {
            return;
        }
        heap.swap(place, least);
        place = least;
    }
}
