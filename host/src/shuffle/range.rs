//! Dealing by range: which rows are in which partition is known only when all rows are.
//!
//! ```text
//!  map tasks ── rows as they are ──▶ sample of all rows: bounds ──▶ rows below the first bound: partition 0
//!                                                                   up to the second:           partition 1 …
//! ```
//!
//! The rows are gone over twice, so that no more than the sample and one batch is held besides them.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::row::RowConverter;
use xxhash_rust::xxh3::xxh3_64;

use super::sort_by_group;
use crate::step::order::Order;

/// Rows that bounds are found from, at least: when there are not more, the bounds are exact. With 2^16, a partition of 16 is
/// off by a few hundredths.
const SAMPLE_ROWS_MIN: u64 = 1 << 16;

/// Rows of the sample for each partition, at least: a partition is then off by about a tenth.
const SAMPLE_ROWS_PER_PARTITION: u64 = 128;

/// Places in the order of some of all rows.
pub(super) struct Sample<'a> {
    order: &'a Order,
    converter: RowConverter,
    /// One row of so many is chosen, by the hash of its number: rows that come in a rhythm must not all be missed.
    one_of: u64,
    /// Rows that have been looked at.
    n_rows: u64,
    keys: Vec<Box<[u8]>>,
}

impl<'a> Sample<'a> {
    /// A sample of `n_rows` rows for so many partitions.
    pub(super) fn new(order: &'a Order, n_rows: u64, n_partitions: u32) -> Result<Self, ArrowError> {
        let sample_rows = SAMPLE_ROWS_MIN.max(SAMPLE_ROWS_PER_PARTITION * u64::from(n_partitions));
        let one_of = n_rows.div_ceil(sample_rows).max(1);
        Ok(Self { order, converter: order.converter()?, one_of, n_rows: 0, keys: Vec::new() })
    }

    /// Looks at the next rows.
    pub(super) fn add(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let is_chosen = |number: u64| self.one_of == 1 || xxh3_64(&number.to_le_bytes()).is_multiple_of(self.one_of);
        let numbers = self.n_rows..self.n_rows + rows.num_rows() as u64;
        let chosen: UInt32Array =
            (0_u32..).zip(numbers).filter(|(_, number)| is_chosen(*number)).map(|(row, _)| row).collect();
        self.n_rows += rows.num_rows() as u64;
        let keys = self.order.encode(&self.converter, &take_record_batch(rows, &chosen)?)?;
        self.keys.extend(keys.iter().map(|key| Box::from(key.data())));
        Ok(())
    }

    /// Where each partition but the first begins, in ascending order: at most `n_partitions - 1` keys, fewer when there are too
    /// few different ones. Depends on the rows and their order alone.
    pub(super) fn bounds(mut self, n_partitions: u32) -> Vec<Box<[u8]>> {
        self.keys.sort_unstable();
        let sample = self.keys;
        let mut bounds: Vec<Box<[u8]>> = Vec::new();
        for partition in 1..n_partitions as usize {
            // Equal keys stay together: the cut is where they begin or end, whichever is nearer.
            let middle = (sample.len() as u64 * partition as u64 / u64::from(n_partitions)) as usize;
            let Some(key) = sample.get(middle) else { break };
            let (start, end) =
                (sample.partition_point(|other| other < key), sample.partition_point(|other| other <= key));
            let cut = if start > 0 && middle - start <= end - middle { start } else { end };
            if let Some(bound) = sample.get(cut)
                && bounds.last().is_none_or(|last| last < bound)
            {
                bounds.push(bound.clone());
            }
        }
        bounds
    }
}

/// Puts rows in the order of their partitions.
pub(super) struct Dealer<'a> {
    order: &'a Order,
    converter: RowConverter,
    bounds: &'a [Box<[u8]>],
}

impl<'a> Dealer<'a> {
    pub(super) fn new(order: &'a Order, bounds: &'a [Box<[u8]>]) -> Result<Self, ArrowError> {
        Ok(Self { order, converter: order.converter()?, bounds })
    }

    /// The rows of a batch by partition, and where each partition ends.
    pub(super) fn deal(&self, rows: &RecordBatch, n_partitions: usize) -> Result<(RecordBatch, Vec<u32>), ArrowError> {
        let keys = self.order.encode(&self.converter, rows)?;
        let partition_of = |key: &[u8]| self.bounds.partition_point(|bound| **bound <= *key) as u32;
        let partitions: Vec<u32> = keys.iter().map(|key| partition_of(key.data())).collect();
        let (order, ends) = sort_by_group(&partitions, n_partitions);
        Ok((take_record_batch(rows, &UInt32Array::from(order))?, ends))
    }
}
