//! Station 5: moves rows from the tasks of one stage to the tasks of the next, so that equal keys meet.
//!
//! One shuffle serves one batch. Map tasks write, each into every partition; when all have finished, reduce tasks read one
//! partition each. By range, rows are dealt out only then, by [`Shuffle::deal`]. Rows are in memory as long as the job's
//! [`BatchMemory`] has room; then what a map task holds goes to disk, partition by partition, and is read back as it was.
//!
//! ```text
//!  map task 0 ── ShuffleWriter ── push… ── finish ──┐            ┌── read(0) ── reduce task 0
//!  map task 1 ── ShuffleWriter ── push… ── finish ──┼─ Shuffle ──┤
//!  map task 2 ── ShuffleWriter ── dropped: nothing  ┘            └── read(1) ── reduce task 1
//! ```
//!
//! The law: every row pushed by a map task that finished is read exactly once, from the partition of its key; and within
//! one map task and one partition rows keep their order. What is read depends on the rows alone, not on timing.

pub mod key_encoding;
mod output;
pub mod partitioner;
mod range;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;

use crate::error::Error;
use crate::ids::PartitionId;
use crate::spill::BatchMemory;
use crate::step::chunks::{batch_bytes, concat_pushes};
use crate::step::keyed::internal;
use crate::step::order::Order;
use output::{MapOutput, Piece};
use partitioner::{hash_keys, partition_of};

/// Rows that are dealt out at once, at least: smaller pushes wait for others, so that partitions do not get crumbs.
const ROWS_DEALT_MIN: usize = 8_192;

/// Bytes of rows that do not wait for others: there may be thousands of large rows.
const BYTES_DEALT_MIN: u64 = 4 << 20;

/// How rows find their partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// By the hash of these columns, see [`partitioner`]: rows with equal values share a partition.
    Hash {
        /// Indices of the key columns.
        columns: Vec<usize>,
    },
    /// In turn, row by row; map task `i` starts at partition `i`, so that small outputs do not all go to the first.
    RoundRobin,
    /// By their place in an order: rows with smaller keys in lower partitions, about as many rows in each, rows with equal keys
    /// in one. Where partitions begin is found from the rows, when all are there.
    Range {
        /// The order.
        order: Order,
    },
}

/// The rows between two stages of one batch.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// use tidemill::ids::PartitionId;
/// use tidemill::shuffle::{Partitioning, Shuffle};
///
/// let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
/// let shuffle = Arc::new(Shuffle::new(Partitioning::RoundRobin, 2));
///
/// let mut writer = shuffle.writer(0);
/// writer.push(RecordBatch::try_from_iter([("n", numbers)])?)?;
/// writer.finish()?;
///
/// let rows = |partition| shuffle.read(PartitionId(partition)).map(|rows| rows.map_or(0, |rows| rows.num_rows())).sum::<usize>();
/// assert_eq!((rows(0), rows(1)), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Shuffle {
    partitioning: Partitioning,
    n_partitions: u32,
    /// What finished map tasks wrote, in the order of the tasks. A mutex: it is taken once a task.
    outputs: Mutex<BTreeMap<usize, MapOutput>>,
    memory: Arc<BatchMemory>,
}

impl Shuffle {
    /// An empty shuffle into `n_partitions`, in memory; 0 counts as 1.
    #[must_use]
    pub fn new(partitioning: Partitioning, n_partitions: u32) -> Self {
        Self::within(partitioning, n_partitions, &Arc::default())
    }

    /// An empty shuffle into `n_partitions` whose rows go to disk when `memory` has no room for them.
    #[must_use]
    pub fn within(partitioning: Partitioning, n_partitions: u32, memory: &Arc<BatchMemory>) -> Self {
        let memory = memory.clone();
        Self { partitioning, n_partitions: n_partitions.max(1), outputs: Mutex::default(), memory }
    }

    /// How many partitions are read.
    #[must_use]
    pub fn n_partitions(&self) -> u32 {
        self.n_partitions
    }

    /// Deals out what waits until all map tasks have finished: with [`Partitioning::Range`]; for others there is nothing to do.
    /// Called once then, before the first read.
    ///
    /// # Cost
    ///
    /// Every row is encoded and looked up among the bounds, and copied once: `O(n log p)` for `n` rows and `p` partitions. Rows
    /// that were spilled are read twice, and spilled again.
    ///
    /// # Errors
    ///
    /// When a column has a type without an order, which a plan has ruled out; or when rows cannot be spilled or read back. The
    /// shuffle is then spent.
    pub fn deal(&self) -> Result<(), Error> {
        let Some(order) = self.range() else { return Ok(()) };
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let doing = || internal("dealing rows out by range");
        let n_partitions = self.n_partitions as usize;
        // What is dealt already has a list for each partition.
        let waiting = || outputs.values().filter(|output| output.n_partitions() == 1);
        let n_rows = waiting().map(|output| output.rows).sum();
        let mut sample = range::Sample::new(order, n_rows, self.n_partitions).map_err(doing())?;
        for rows in waiting().flat_map(|output| output.read(0)) {
            sample.add(&rows?).map_err(doing())?;
        }
        let bounds = sample.bounds(self.n_partitions);
        let dealer = range::Dealer::new(order, &bounds).map_err(doing())?;
        for output in outputs.values_mut().filter(|output| output.n_partitions() == 1) {
            let mut dealt = MapOutput::new(n_partitions, &self.memory);
            while let Some(rows) = output.take_first()? {
                for rows in rows {
                    let bytes = batch_bytes(&rows);
                    let (sorted, ends) = dealer.deal(&rows, n_partitions).map_err(doing())?;
                    dealt.add_sorted(&sorted, &ends, bytes)?;
                }
            }
            dealt.finish()?;
            *output = dealt;
        }
        Ok(())
    }

    /// The order in which rows are dealt out by [`Shuffle::deal`]; into one partition they are dealt at once.
    fn range(&self) -> Option<&Order> {
        match &self.partitioning {
            Partitioning::Range { order } if self.n_partitions > 1 => Some(order),
            _ => None,
        }
    }

    /// Whether rows wait for [`Shuffle::deal`].
    #[must_use]
    pub fn waits_for_deal(&self) -> bool {
        self.range().is_some()
    }

    /// A writer for an attempt of a map task. Several attempts may write at the same time: the first to finish counts.
    #[must_use]
    pub fn writer(self: &Arc<Self>, map_task: usize) -> ShuffleWriter {
        // What waits until all map tasks have finished is one list.
        let n_lists = if self.waits_for_deal() { 1 } else { self.n_partitions as usize };
        ShuffleWriter {
            shuffle: Arc::clone(self),
            map_task,
            next_in_turn: (map_task % self.n_partitions as usize) as u32,
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            output: MapOutput::new(n_lists, &self.memory),
        }
    }

    /// The rows of a partition, in the order of map tasks, then of pushes. May be read again, by another attempt. What was
    /// spilled is read as it is asked for.
    #[must_use]
    pub fn read(&self, partition: PartitionId) -> ShuffleRows {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = outputs.values().flat_map(|output| output.pieces(partition.index())).cloned().collect();
        ShuffleRows { pieces, ahead: VecDeque::new() }
    }

    /// How many rows finished map tasks wrote into a partition.
    #[must_use]
    pub fn rows_of(&self, partition: PartitionId) -> u64 {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.values().flat_map(|output| output.pieces(partition.index())).map(Piece::n_rows).sum()
    }

    /// How many bytes finished map tasks wrote into a partition, about.
    #[must_use]
    pub fn bytes_of(&self, partition: PartitionId) -> u64 {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.values().map(|output| output.bytes_of(partition.index())).sum()
    }

    /// Gives the memory back, once every reduce task has ended. What is read after it is empty.
    pub fn clear(&self) {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many rows finished map tasks wrote.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).values().map(|output| output.rows).sum()
    }

    /// How many bytes finished map tasks wrote.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).values().map(|output| output.bytes).sum()
    }
}

/// The rows of a partition, read as they are asked for.
#[derive(Debug)]
pub struct ShuffleRows {
    pieces: VecDeque<Piece>,
    /// The batches of the record that was read last.
    ahead: VecDeque<RecordBatch>,
}

impl Iterator for ShuffleRows {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(rows) = self.ahead.pop_front() {
                return Some(Ok(rows));
            }
            match self.pieces.pop_front()? {
                Piece::Memory(rows) => return Some(Ok(rows)),
                Piece::Spilled(record) => match record.read() {
                    Ok(batches) => self.ahead.extend(batches),
                    Err(error) => return Some(Err(error.into())),
                },
            }
        }
    }
}

/// Deals out the rows of one attempt of a map task. Dropped without [`ShuffleWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct ShuffleWriter {
    shuffle: Arc<Shuffle>,
    map_task: usize,
    /// Where the next row goes, when rows are dealt in turn.
    next_in_turn: u32,
    /// Pushes that have not been dealt out.
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: u64,
    output: MapOutput,
}

impl ShuffleWriter {
    /// Takes some rows. All pushes have one schema.
    ///
    /// # Errors
    ///
    /// When a key column has a type that cannot be a key, which a plan has ruled out; or when rows that memory has no room
    /// for cannot be spilled. The writer is then spent.
    pub fn push(&mut self, rows: RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if self.output.n_partitions() == 1 {
            let (ends, bytes) = ([rows.num_rows() as u32], batch_bytes(&rows));
            return self.output.add_sorted(&rows, &ends, bytes);
        }
        self.waiting_rows += rows.num_rows();
        self.waiting_bytes += batch_bytes(&rows);
        self.waiting.push(rows);
        let is_enough = self.waiting_rows >= ROWS_DEALT_MIN || self.waiting_bytes >= BYTES_DEALT_MIN;
        if is_enough { self.deal_waiting() } else { Ok(()) }
    }

    /// Makes what was pushed visible, all at once; unless another attempt of the map task has finished before.
    ///
    /// # Errors
    ///
    /// As [`ShuffleWriter::push`].
    pub fn finish(mut self) -> Result<(), Error> {
        self.deal_waiting()?;
        self.output.finish()?;
        let mut outputs = self.shuffle.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.entry(self.map_task).or_insert(self.output);
        Ok(())
    }

    fn deal_waiting(&mut self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        let dealt = concat_pushes(&waiting).and_then(|rows| rows.map(|rows| self.deal(&rows)).transpose());
        let dealt = dealt.map_err(internal("dealing rows out to the partitions of a shuffle"))?;
        drop(waiting);
        match dealt {
            Some((sorted, ends)) => self.output.add_sorted(&sorted, &ends, batch_bytes(&sorted)),
            None => Ok(()),
        }
    }

    /// The rows in the order of their partitions, and where each partition ends.
    fn deal(&mut self, rows: &RecordBatch) -> Result<(RecordBatch, Vec<u32>), ArrowError> {
        let n_partitions = self.shuffle.n_partitions;
        let partitions: Vec<u32> = match &self.shuffle.partitioning {
            // No key: one group, in the first partition.
            Partitioning::Hash { columns } if columns.is_empty() => vec![0; rows.num_rows()],
            Partitioning::Range { .. } => unreachable!("a writer with one list deals nothing out"),
            Partitioning::Hash { columns } => {
                let columns: Vec<_> = columns.iter().map(|&column| rows.column(column).clone()).collect();
                hash_keys(&columns)?.into_iter().map(|hash| partition_of(hash, n_partitions)).collect()
            }
            Partitioning::RoundRobin => {
                let start = u64::from(self.next_in_turn);
                let n = u64::from(n_partitions);
                let after = start + rows.num_rows() as u64;
                self.next_in_turn = (after % n) as u32;
                (start..after).map(|row| (row % n) as u32).collect()
            }
        };
        let (order, ends) = sort_by_group(&partitions, n_partitions as usize);
        Ok((take_record_batch(rows, &UInt32Array::from(order))?, ends))
    }
}

/// The rows in the order of their groups, within a group in their own order; and the exclusive end of each group.
///
/// A counting sort: two passes over the rows. Every group is less than `n_groups`.
pub(crate) fn sort_by_group(groups: &[u32], n_groups: usize) -> (Vec<u32>, Vec<u32>) {
    let mut ends = vec![0u32; n_groups];
    for &group in groups {
        ends[group as usize] += 1;
    }
    let mut start = 0;
    for end in &mut ends {
        (start, *end) = (start + *end, start);
    }
    // `ends` holds the starts; each grows to its end as its rows are placed.
    let mut order = vec![0u32; groups.len()];
    for (row, &group) in groups.iter().enumerate() {
        let next = &mut ends[group as usize];
        order[*next as usize] = row as u32;
        *next += 1;
    }
    (order, ends)
}

#[cfg(test)]
mod tests;
