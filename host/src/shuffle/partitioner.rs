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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array, Int32Array,
        Int64Array, LargeStringArray, ListArray, StringArray, StringViewArray, UInt8Array, new_null_array,
    };
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(columns: Vec<ArrayRef>, expected: &[u64]) {
        let hashes = hash_keys(&columns).expect("key types");
        assert_eq!(hashes, expected, "hashes are fixed for ever; these are {hashes:#018x?}");
    }

    /// Golden values: part of the format. A change here moves keys of jobs that run.
    #[test]
    fn hashes_never_change() {
        check(vec![Arc::new(StringArray::from(vec![Some("tide"), Some(""), Some("mill"), None]))], &GOLDEN_TEXT);
        check(vec![Arc::new(Int64Array::from(vec![Some(0), Some(-1), Some(42), None]))], &GOLDEN_INTS);
        check(vec![Arc::new(Float64Array::from(vec![0.0, 1.5, f64::NAN, f64::NEG_INFINITY]))], &GOLDEN_FLOATS);
        check(
            vec![
                Arc::new(StringArray::from(vec![Some("tide"), None])),
                Arc::new(Int64Array::from(vec![Some(1), Some(1)])),
            ],
            &GOLDEN_PAIRS,
        );
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![]), None]);
        check(vec![Arc::new(list)], &GOLDEN_LISTS);
        check(vec![Arc::new(Decimal128Array::from(vec![Some(7)]))], &GOLDEN_DECIMALS);
    }

    // Computed with Python's xxhash from the table in `key_encoding`, not with this code.
    const GOLDEN_TEXT: [u64; 4] =
        [0x031d_979d_1232_410d, 0x2d06_8005_38d3_94c2, 0xc74b_2e87_e08b_ce29, 0xc44b_dff4_074e_ecdb];
    const GOLDEN_INTS: [u64; 4] =
        [0xc77b_3abb_6f87_acd9, 0x5111_c7e4_7d78_4413, 0xd5a6_f8c8_38df_27c8, 0xc44b_dff4_074e_ecdb];
    const GOLDEN_FLOATS: [u64; 4] =
        [0xc77b_3abb_6f87_acd9, 0x2561_a488_9ff6_3458, 0x0aa6_1dcf_a381_c167, 0x966b_04ab_6a2f_4836];
    const GOLDEN_PAIRS: [u64; 2] = [0x4ac1_64cd_2a06_85a7, 0xaad1_d902_b321_b8a2];
    const GOLDEN_LISTS: [u64; 3] = [0x9656_b4fa_8c45_9ea1, 0xc77b_3abb_6f87_acd9, 0xc44b_dff4_074e_ecdb];
    const GOLDEN_DECIMALS: [u64; 1] = [0x47d3_1199_58a8_dbbe];

    #[test]
    fn partitions_never_change() {
        let partitions = |hash| [1, 2, 3, 7, 1000].map(|n| partition_of(hash, n));
        assert_eq!(partitions(0), [0, 0, 0, 0, 0]);
        assert_eq!(partitions(u64::MAX), [0, 1, 2, 6, 999]);
        assert_eq!(partitions(0x9e37_79b9_7f4a_7c15), [0, 1, 1, 4, 618]);
    }

    #[test]
    fn equal_values_have_equal_hashes_whatever_holds_them() {
        let hash = |column: ArrayRef| hash_keys(&[column]).expect("a key type");
        let words = vec![Some("tide"), None, Some("a word of more than twelve bytes"), Some("")];
        let text = hash(Arc::new(StringArray::from(words.clone())));
        assert_eq!(text, hash(Arc::new(LargeStringArray::from(words.clone()))));
        assert_eq!(text, hash(Arc::new(StringViewArray::from(words.clone()))));
        assert_eq!(text, hash(Arc::new(BinaryArray::from_iter(words.iter().map(|word| word.map(str::as_bytes))))));
        assert_eq!(text, hash(Arc::new(words.iter().copied().collect::<DictionaryArray<Int32Type>>())));
        assert_eq!(hash(Arc::new(Int8Array::from(vec![-3]))), hash(Arc::new(Int64Array::from(vec![-3]))));
        assert_eq!(hash(Arc::new(UInt8Array::from(vec![3]))), hash(Arc::new(Int64Array::from(vec![3]))));
        assert_eq!(hash(Arc::new(BooleanArray::from(vec![true]))), hash(Arc::new(Int64Array::from(vec![1]))));
        assert_eq!(
            hash(Arc::new(Float32Array::from(vec![-0.0, 0.5]))),
            hash(Arc::new(Float64Array::from(vec![0.0, 0.5])))
        );
        let nan = f64::from_bits(0xfff8_0000_0000_0001);
        assert_eq!(hash(Arc::new(Float64Array::from(vec![nan]))), hash(Arc::new(Float32Array::from(vec![f32::NAN]))));
        // Nulls hash alike in every type.
        let null = hash(Arc::new(StringArray::from(vec![None::<&str>])));
        assert_eq!(null, hash(new_null_array(&DataType::Null, 1)));
        assert_eq!(null, hash(Arc::new(Int32Array::from(vec![None]))));
        assert_eq!(null, hash(new_null_array(&DataType::new_list(DataType::Int8, true), 1)));
    }

    #[test]
    fn types_that_cannot_be_keys_are_errors() {
        let interval = new_null_array(&DataType::Interval(arrow::datatypes::IntervalUnit::DayTime), 1);
        let error = hash_keys(&[interval]).expect_err("an interval is no key");
        assert_eq!(error.to_string(), "Not yet implemented: a column of type Interval(DayTime) as a key");
    }

    proptest! {
        #[test]
        fn slices_hash_as_what_they_show(
            words in proptest::collection::vec(proptest::option::of("[a-c]{0,3}"), 1..40),
            start in 0usize..40,
            n in 1u32..9,
        ) {
            let start = start.min(words.len());
            let numbers: Int64Array = words.iter().map(|word| word.as_ref().map(|word| word.len() as i64)).collect();
            let lists: ListArray = ListArray::from_iter_primitive::<Int32Type, _, _>(
                words.iter().map(|word| word.as_ref().map(|word| word.bytes().map(|byte| Some(i32::from(byte))))),
            );
            let text: ArrayRef = Arc::new(words.into_iter().collect::<StringArray>());
            let columns: Vec<ArrayRef> = vec![text, Arc::new(numbers), Arc::new(lists)];
            let sliced: Vec<_> = columns.iter().map(|column| column.slice(start, column.len() - start)).collect();
            prop_assert_eq!(&hash_keys(&columns).expect("key types")[start..], hash_keys(&sliced).expect("key types"));
            for (column, slice) in columns.iter().zip(&sliced) {
                let hashes = hash_keys(std::slice::from_ref(column)).expect("a key type");
                prop_assert_eq!(&hashes[start..], hash_keys(std::slice::from_ref(slice)).expect("a key type"));
                prop_assert!(hashes.iter().all(|&hash| partition_of(hash, n) < n));
            }
        }
    }
}
