//! What a batch holds, and how received blocks are dealt out to its tasks. Pure.

use std::sync::Arc;

use crate::block_store::BlockMeta;
use crate::ids::{BatchId, BlockId};
use crate::scheduler::listener::SourceRows;
use crate::source::{OffsetRange, RangeReader};
use crate::write_ahead_log::RECEIVED;

/// A partition of received rows holds at least this, unless the batch has less: a smaller task costs more than it
/// computes.
pub(crate) const PARTITION_BYTES_MIN: u64 = 64 << 10;

/// A batch: fixed when it is submitted.
pub struct Batch {
    /// Its number.
    pub batch_id: BatchId,
    /// Its time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// What it holds, one a source.
    pub inputs: Vec<SourceInput>,
    /// Whether it is the last one of a job whose sources have ended: what steps keep open is completed in it.
    pub closes: bool,
    /// Whether sinks may have published it before the job was started again.
    pub is_repeated: bool,
}

/// What a batch holds of one source.
pub enum SourceInput {
    /// Received blocks, one list of slices a partition.
    Blocks {
        /// The blocks, to be released when the batch has ended.
        blocks: Vec<BlockId>,
        /// The slices of each partition.
        partitions: Vec<Vec<BlockSlice>>,
        /// The number of the first row in the write-ahead log; `None`: the rows are in memory alone.
        first_row: Option<u64>,
    },
    /// Offset ranges, one list a partition.
    Ranges {
        /// What reads them.
        reader: Arc<dyn RangeReader>,
        /// The ranges of each partition.
        partitions: Vec<Vec<OffsetRange>>,
    },
}

impl SourceInput {
    /// How many partitions come from the source.
    pub(crate) fn n_partitions(&self) -> usize {
        match self {
            SourceInput::Blocks { partitions, .. } => partitions.len(),
            SourceInput::Ranges { partitions, .. } => partitions.len(),
        }
    }

    /// What can be read again: the ranges of each partition. `None`: the rows are in memory alone.
    pub(crate) fn ranges(&self) -> Option<Vec<Vec<OffsetRange>>> {
        match self {
            SourceInput::Ranges { partitions, .. } => Some(partitions.clone()),
            SourceInput::Blocks { partitions, first_row, .. } => {
                let mut start = (*first_row)?;
                // Slices are dealt out in the order of the rows.
                let mut range = |slice: &BlockSlice| {
                    let range =
                        OffsetRange { object: RECEIVED.into(), start, end: start + slice.n_rows, identity: None };
                    start = range.end;
                    range
                };
                Some(partitions.iter().map(|slices| slices.iter().map(&mut range).collect()).collect())
            }
        }
    }

    /// What listeners are told.
    pub(crate) fn describe(&self, source: &str) -> SourceRows {
        let in_words = |range: &OffsetRange| format!("{} {}..{}", range.object, range.start, range.end);
        let ranges = self.ranges().unwrap_or_default().iter().flatten().map(in_words).collect();
        SourceRows { source: source.to_owned(), partitions: self.n_partitions(), ranges }
    }
}

/// Some rows of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSlice {
    /// The block.
    pub block: BlockId,
    /// The first row.
    pub start: u64,
    /// How many rows.
    pub n_rows: u64,
}

/// Deals the rows of blocks out to partitions: in order, each partition about as many bytes, large blocks cut.
///
/// There are `partitions_max` partitions, or fewer when they would be smaller than [`PARTITION_BYTES_MIN`].
pub(crate) fn deal_out(blocks: &[BlockMeta], partitions_max: u32) -> Vec<Vec<BlockSlice>> {
    let bytes: u64 = blocks.iter().map(|block| block.n_bytes).sum();
    let n_rows: u64 = blocks.iter().map(|block| block.n_rows).sum();
    if n_rows == 0 {
        return Vec::new();
    }
    let n_partitions = (bytes / PARTITION_BYTES_MIN).clamp(1, u64::from(partitions_max)).min(n_rows);
    let mut partitions: Vec<Vec<BlockSlice>> = Vec::new();
    let mut slices = Vec::new();
    let mut bytes_dealt = 0;
    for block in blocks {
        let mut start = 0;
        while start < block.n_rows {
            // The end of this partition, in bytes from the batch's start; the last takes what is left.
            let filled = partitions.len() as u64 + 1;
            let end = if filled == n_partitions { u64::MAX } else { bytes * filled / n_partitions };
            let row_bytes = (block.n_bytes / block.n_rows).max(1);
            let room = (end.saturating_sub(bytes_dealt)).div_ceil(row_bytes).max(1);
            let n = room.min(block.n_rows - start);
            slices.push(BlockSlice { block: block.id, start, n_rows: n });
            start += n;
            bytes_dealt += n * row_bytes;
            if bytes_dealt >= end {
                partitions.push(std::mem::take(&mut slices));
            }
        }
    }
    if !slices.is_empty() {
        partitions.push(slices);
    }
    partitions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(id: u64, n_rows: u64, n_bytes: u64) -> BlockMeta {
        BlockMeta { id: BlockId(id), n_rows, n_bytes }
    }

    #[test]
    fn a_small_batch_is_one_partition_and_a_large_block_is_cut() {
        assert_eq!(deal_out(&[], 4).len(), 0);
        assert_eq!(deal_out(&[block(0, 10, 100), block(1, 5, 50)], 4).len(), 1);
        let cut = deal_out(&[block(0, 1000, 1 << 20)], 4);
        assert_eq!(cut.iter().map(|slices| slices[0].n_rows).collect::<Vec<_>>(), [251, 250, 250, 249]);
    }

    proptest! {
        #[test]
        fn every_row_is_dealt_once_and_in_order(
            sizes in proptest::collection::vec((1u64..5000, 1u64..200_000), 0..30),
            partitions_max in 1u32..9,
        ) {
            let blocks: Vec<_> = sizes.iter().enumerate().map(|(id, (rows, bytes))| block(id as u64, *rows, *bytes)).collect();
            let partitions = deal_out(&blocks, partitions_max);
            prop_assert!(partitions.len() <= partitions_max as usize);
            prop_assert!(partitions.iter().all(|slices| !slices.is_empty()));
            let mut dealt = partitions.concat().into_iter();
            for block in &blocks {
                let mut next = 0;
                while next < block.n_rows {
                    let slice = dealt.next().expect("a slice for every row");
                    prop_assert_eq!((slice.block, slice.start), (block.id, next));
                    prop_assert!(slice.n_rows > 0);
                    next += slice.n_rows;
                }
                prop_assert_eq!(next, block.n_rows);
            }
            prop_assert!(dealt.next().is_none());
        }
    }
}
