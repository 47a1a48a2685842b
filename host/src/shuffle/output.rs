//! What one map task wrote into a shuffle: in memory while there is room, else on disk.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::Error;
use crate::spill::{BatchMemory, Share, SpillFile, SpillUse, Spilled, spill_all};
use crate::step::chunks::batch_bytes;

/// Some rows of one partition.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    Memory(RecordBatch),
    /// Shared by those that read it.
    Spilled(Arc<Spilled>),
}

impl Piece {
    pub(super) fn n_rows(&self) -> u64 {
        match self {
            Piece::Memory(rows) => rows.num_rows() as u64,
            Piece::Spilled(record) => record.n_rows(),
        }
    }
}

/// The rows of one partition, in the order in which they were pushed. Those on disk come first.
#[derive(Debug, Default)]
struct Partition {
    spilled: VecDeque<Piece>,
    memory: VecDeque<Piece>,
    bytes: u64,
}

/// What one map task wrote.
///
/// ```text
///  add ── in memory ── no room: all of it to one file, partition by partition ── add … ── finish: room for good, or to disk
/// ```
#[derive(Debug)]
pub(super) struct MapOutput {
    partitions: Vec<Partition>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    memory_bytes: u64,
    share: Share,
    file: Option<SpillFile>,
}

impl MapOutput {
    pub(super) fn new(n_partitions: usize, memory: &Arc<BatchMemory>) -> Self {
        let partitions = std::iter::repeat_with(Partition::default).take(n_partitions).collect();
        Self { partitions, rows: 0, bytes: 0, memory_bytes: 0, share: Share::new(memory), file: None }
    }

    pub(super) fn n_partitions(&self) -> usize {
        self.partitions.len()
    }

    /// The pieces of a partition, in their order.
    pub(super) fn pieces(&self, partition: usize) -> impl Iterator<Item = &Piece> {
        self.partitions
            .get(partition)
            .into_iter()
            .flat_map(|partition| partition.spilled.iter().chain(&partition.memory))
    }

    /// Bytes of the rows of a partition, about.
    pub(super) fn bytes_of(&self, partition: usize) -> u64 {
        self.partitions.get(partition).map_or(0, |partition| partition.bytes)
    }

    /// The rows of a partition.
    pub(super) fn read(&self, partition: usize) -> super::ShuffleRows {
        super::ShuffleRows { pieces: self.pieces(partition).cloned().collect(), ahead: Default::default() }
    }

    /// Takes the first rows of an output of one partition.
    pub(super) fn take_first(&mut self) -> Result<Option<Vec<RecordBatch>>, Error> {
        let Partition { spilled, memory, .. } = &mut self.partitions[0];
        let from = if spilled.is_empty() { memory } else { spilled };
        let Some(first) = from.pop_front() else { return Ok(None) };
        Ok(Some(match first {
            Piece::Memory(rows) => {
                let bytes = batch_bytes(&rows);
                self.memory_bytes = self.memory_bytes.saturating_sub(bytes);
                self.share.shrink(self.memory_bytes);
                vec![rows]
            }
            Piece::Spilled(record) => record.read()?,
        }))
    }

    /// Adds rows that stand in the order of partitions, each of which ends where `ends` says; they have `bytes`.
    pub(super) fn add_sorted(&mut self, sorted: &RecordBatch, ends: &[u32], bytes: u64) -> Result<(), Error> {
        let n_rows = sorted.num_rows();
        let mut start = 0;
        for (partition, &end) in self.partitions.iter_mut().zip(ends) {
            let end = end as usize;
            if end > start {
                partition.memory.push_back(Piece::Memory(sorted.slice(start, end - start)));
                // An equal share for each row: what decides by it decides alike at every replay.
                partition.bytes += (bytes as u128 * (end - start) as u128 / n_rows as u128) as u64;
            }
            start = end;
        }
        self.rows += n_rows as u64;
        self.bytes += bytes;
        self.memory_bytes += bytes;
        if self.share.fits_at_work(self.memory_bytes) { Ok(()) } else { self.spill() }
    }

    /// All has been added: what is in memory stays there until the shuffle has been read.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        if !self.share.fits_finished(self.memory_bytes) {
            self.spill()?;
        }
        // Not kept open until the shuffle has been read: there may be thousands of map tasks.
        self.file = None;
        Ok(())
    }

    /// Moves all that is in memory to disk.
    fn spill(&mut self) -> Result<(), Error> {
        let Some(spill) = self.share.spill() else { return Ok(()) };
        let file = self.file.get_or_insert_with(|| spill.file(SpillUse::Batch));
        for partition in &mut self.partitions {
            let batches: Vec<RecordBatch> = partition
                .memory
                .drain(..)
                .filter_map(|piece| match piece {
                    Piece::Memory(rows) => Some(rows),
                    Piece::Spilled(_) => None,
                })
                .collect();
            let records = spill_all(file, &batches)?;
            partition.spilled.extend(records.into_iter().map(|record| Piece::Spilled(Arc::new(record))));
        }
        self.memory_bytes = 0;
        self.share.clear();
        Ok(())
    }
}
