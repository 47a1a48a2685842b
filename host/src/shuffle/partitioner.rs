//! Which partition a key belongs to: pure, and fixed for ever.
//!
//! The hash of a key is XXH3 (64 bits, seed 0) over its canonical bytes, see [`super::key_encoding`]; the hash of a
//! single column that is null is that of one byte 0. The partition of a hash among `n` is the upper half of the 128-bit
//! product `hash * n`.
//!
//! A key's partition never depends on the process, the machine, how rows were cut into batches, on slices, nor on a
//! dictionary. The golden values in this file's tests are part of the format: they never change.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64;

use super::key_encoding::{for_each_key, plain, words};

/// The hash of every row's key.
///
/// # Shapes
///
/// | value | shape | meaning |
/// | --- | --- | --- |
/// | `columns` | `[k][n]` | the key columns, of one length |
/// | result | `[n]` | one hash a row |
///
/// # Errors
///
/// When a column's type cannot be a key, see [`super::key_encoding::is_key_type`].
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{ArrayRef, StringArray};
/// use tidemill::shuffle::partitioner::hash_keys;
///
/// let words: ArrayRef = Arc::new(StringArray::from(vec!["tide", "mill", "tide"]));
/// let hashes = hash_keys(&[words])?;
/// assert_eq!(hashes[0], hashes[2]);
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
pub fn hash_keys(columns: &[ArrayRef]) -> Result<Vec<u64>, ArrowError> {
    let n_rows = columns.first().map_or(0, |column| column.len());
    let mut hashes = Vec::with_capacity(n_rows);
    if let [column] = columns {
        let column = plain(column)?;
        if let Some(words) = words(&column) {
            hashes.extend(words.iter().map(|word| xxh3_64(&word.to_le_bytes())));
            null_hashes(&column, &mut hashes);
            return Ok(hashes);
        }
        if column.data_type() == &DataType::Utf8 {
            let text = column.as_string::<i32>();
            let data = text.values().as_slice();
            hashes.extend(text.offsets().windows(2).map(|ends| xxh3_64(&data[ends[0] as usize..ends[1] as usize])));
            null_hashes(&column, &mut hashes);
            return Ok(hashes);
        }
    }
    for_each_key(columns, n_rows, |key| hashes.push(key.map_or_else(hash_of_null, xxh3_64)))?;
    Ok(hashes)
}

fn null_hashes(column: &ArrayRef, hashes: &mut [u64]) {
    if let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) {
        let null = hash_of_null();
        hashes.iter_mut().zip(nulls).filter(|(_, valid)| !valid).for_each(|(hash, _)| *hash = null);
    }
}

fn hash_of_null() -> u64 {
    xxh3_64(&[0])
}

/// The partition of a hash among `n_partitions`, which is not 0.
#[must_use]
pub fn partition_of(hash: u64, n_partitions: u32) -> u32 {
    // The product is less than 2^64 * n_partitions: its upper half is less than n_partitions.
    ((u128::from(hash) * u128::from(n_partitions)) >> 64) as u32
}
