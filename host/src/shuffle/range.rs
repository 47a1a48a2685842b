//! Dealing by range: which rows are in which partition is known only when all rows are.
//!
//! ```text
//!  map tasks ── rows as they are, encoded ──▶ deal: bounds from a sample of all rows ──▶ rows below the first bound: partition 0
//!                                                                                       up to the second:           partition 1 …
//! ```

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows};
use xxhash_rust::xxh3::xxh3_64;

use super::sort_by_group;
use crate::step::order::Order;

/// Rows that bounds are found from, at least: when there are not more, the bounds are exact. With 2^16, a partition of 16 is
/// off by a few hundredths.
const SAMPLE_ROWS_MIN: u64 = 1 << 16;

/// Rows of the sample for each partition, at least: a partition is then off by about a tenth.
const SAMPLE_ROWS_PER_PARTITION: u64 = 128;

/// Rows of map tasks, each batch with its place in the order.
pub(super) struct Encoded<'a> {
    pub(super) rows: &'a RecordBatch,
    keys: Rows,
}

/// Rows with their places in the order, which are comparable with one another.
pub(super) fn encode<'a>(
    order: &Order,
    batches: impl Iterator<Item = &'a RecordBatch>,
) -> Result<Vec<Encoded<'a>>, ArrowError> {
    let converter: RowConverter = order.converter()?;
    batches.map(|rows| Ok(Encoded { rows, keys: order.encode(&converter, rows)? })).collect()
}

/// Where each partition but the first begins, in ascending order: at most `n_partitions - 1` keys, fewer when there are too few
/// different ones. Depends on the rows and their order alone.
pub(super) fn bounds<'a>(batches: &'a [Encoded<'_>], n_partitions: u32) -> Vec<&'a [u8]> {
    let n_rows: u64 = batches.iter().map(|batch| batch.keys.num_rows() as u64).sum();
    let sample_rows = SAMPLE_ROWS_MIN.max(SAMPLE_ROWS_PER_PARTITION * u64::from(n_partitions));
    // One row of so many, by the hash of its number: rows that come in a rhythm must not all be missed.
    let one_of = n_rows.div_ceil(sample_rows).max(1);
    let rows = batches.iter().flat_map(|batch| (0..batch.keys.num_rows()).map(|row| batch.keys.row(row)));
    let is_chosen = |number: u64| one_of == 1 || xxh3_64(&number.to_le_bytes()).is_multiple_of(one_of);
    let chosen = (0_u64..).zip(rows).filter(|(number, _)| is_chosen(*number));
    let mut sample: Vec<&[u8]> = chosen.map(|(_, row)| row.data()).collect();
    sample.sort_unstable();
    let mut bounds: Vec<&[u8]> = Vec::new();
    for partition in 1..n_partitions as usize {
        // Equal keys stay together: the cut is where they begin or end, whichever is nearer.
        let middle = (sample.len() as u64 * partition as u64 / u64::from(n_partitions)) as usize;
        let Some(&key) = sample.get(middle) else { break };
        let (start, end) =
            (sample.partition_point(|other| *other < key), sample.partition_point(|other| *other <= key));
        let cut = if start > 0 && middle - start <= end - middle { start } else { end };
        if let Some(&bound) = sample.get(cut)
            && bounds.last().is_none_or(|last| *last < bound)
        {
            bounds.push(bound);
        }
    }
    bounds
}

/// The rows of a batch by partition.
pub(super) fn deal(
    batch: &Encoded<'_>,
    bounds: &[&[u8]],
    n_partitions: usize,
) -> Result<Vec<Option<RecordBatch>>, ArrowError> {
    let partition_of = |key: &[u8]| bounds.partition_point(|bound| *bound <= key) as u32;
    let partitions: Vec<u32> = (0..batch.keys.num_rows()).map(|row| partition_of(batch.keys.row(row).data())).collect();
    let (order, ends) = sort_by_group(&partitions, n_partitions);
    let sorted = take_record_batch(batch.rows, &UInt32Array::from(order))?;
    let mut start = 0;
    let slices = ends.into_iter().map(|end| {
        let (first, end) = (std::mem::replace(&mut start, end as usize), end as usize);
        (end > first).then(|| sorted.slice(first, end - first))
    });
    Ok(slices.collect())
}
