//! Where what a step keeps goes when the step goes on with another number of partitions. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64;

use super::{Change, Changes, RowCodec};
use crate::shuffle::partitioner::{hash_keys, partition_of};

/// Where the entries of a table go when its step goes on with another number of partitions.
#[derive(Debug, Clone)]
pub enum Placement {
    /// To where the rows of its key go: the entry's key is one as this codec writes it, of the columns that the step's rows are dealt out
    /// by.
    Key(Arc<RowCodec>),
    /// Anywhere: the step reads all entries of a slot, in the order of their keys. (The number of the partition is written behind the key,
    /// so that entries of several partitions do not meet.)
    Any,
    /// To every partition: what the function makes of the values that the partitions have had at a slot and key.
    Every(fn(&[Vec<u8>]) -> Vec<u8>),
    /// Nowhere: what the table holds is made of other tables, and is made anew.
    Nowhere,
}

impl Placement {
    /// The largest of numbers of 64 bits, little-endian: for [`Placement::Every`].
    pub(crate) fn largest(values: &[Vec<u8>]) -> Vec<u8> {
        let numbers = values.iter().filter_map(|value| value.first_chunk()).map(|bytes| i64::from_le_bytes(*bytes));
        numbers.max().unwrap_or(i64::MIN).to_le_bytes().to_vec()
    }
}

/// Deals out what the tables of one table of a step hold.
pub(crate) struct Dealer {
    placement: Placement,
    n_partitions: u32,
    /// What every partition gets something made of.
    values: BTreeMap<(i64, Vec<u8>), Vec<Vec<u8>>>,
}

impl Dealer {
    pub(crate) fn new(placement: Placement, n_partitions: u32) -> Self {
        Self { placement, n_partitions, values: BTreeMap::new() }
    }

    /// Some entries of a partition that there was: for each partition that there is, what it gets of them.
    ///
    /// # Errors
    ///
    /// When keys cannot be read.
    pub(crate) fn deal(&mut self, before: u32, entries: &Changes) -> Result<Vec<Changes>, ArrowError> {
        let puts = || {
            entries.iter().filter_map(|change| match change {
                Change::Entry { slot, key, value: Some(value) } => Some((slot, key, value)),
                Change::Entry { value: None, .. } | Change::DropSlots(_) => None,
            })
        };
        let mut dealt = vec![Changes::default(); self.n_partitions as usize];
        match &self.placement {
            Placement::Key(codec) => {
                let keys = codec.decode(puts().map(|(_, key, _)| key))?;
                // Without key columns there is one partition.
                let hashes =
                    if keys.num_columns() == 0 { vec![0; keys.num_rows()] } else { hash_keys(keys.columns())? };
                for ((slot, key, value), hash) in puts().zip(hashes) {
                    dealt[partition_of(hash, self.n_partitions) as usize].put(slot, key, value);
                }
            }
            Placement::Any => {
                for (slot, key, value) in puts() {
                    let key = [key, &before.to_be_bytes()].concat();
                    dealt[partition_of(xxh3_64(&key), self.n_partitions) as usize].put(slot, &key, value);
                }
            }
            Placement::Every(_) => {
                for (slot, key, value) in puts() {
                    self.values.entry((slot, key.to_vec())).or_default().push(value.to_vec());
                }
            }
            Placement::Nowhere => {}
        }
        Ok(dealt)
    }

    /// What every partition gets when all has been dealt out.
    pub(crate) fn finish(self) -> Changes {
        let mut changes = Changes::default();
        if let Placement::Every(make) = self.placement {
            self.values.iter().for_each(|((slot, key), values)| changes.put(*slot, key, &make(values)));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn puts(entries: &[(i64, &[u8], &[u8])]) -> Changes {
        let mut changes = Changes::default();
        entries.iter().for_each(|(slot, key, value)| changes.put(*slot, key, value));
        changes
    }

    fn listed(changes: &Changes) -> Vec<(i64, Vec<u8>, Vec<u8>)> {
        let entries = changes.iter().map(|change| match change {
            Change::Entry { slot, key, value: Some(value) } => (slot, key.to_vec(), value.to_vec()),
            other => panic!("only entries are dealt out: {other:?}"),
        });
        entries.collect()
    }

    #[test]
    fn keys_go_where_their_rows_go() {
        let words: ArrayRef = Arc::new((0..200).map(|n| (n % 7 > 0).then(|| format!("w{n}"))).collect::<StringArray>());
        let numbers: ArrayRef =
            Arc::new((0..200).map(|n| Some([-0.0, f64::NAN, 1.5][n % 3])).collect::<Float64Array>());
        for columns in [vec![words.clone()], vec![numbers.clone()], vec![words, numbers]] {
            let fields = columns.iter().map(|column| Field::new("key", column.data_type().clone(), true));
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let codec = Arc::new(RowCodec::new(schema).expect("key types"));
            let encoded = codec.encode_keys(&columns, 200).expect("keys");
            let mut entries = Changes::default();
            (0..200).for_each(|row| entries.put(row, encoded.row(row as usize), b"v"));
            for n_partitions in [1, 2, 5, 16] {
                let mut dealer = Dealer::new(Placement::Key(codec.clone()), n_partitions);
                let dealt = dealer.deal(3, &entries).expect("keys");
                assert_eq!(dealt.iter().map(Changes::len).sum::<usize>(), 200);
                let hashes = hash_keys(&columns).expect("keys");
                for (partition, changes) in (0..).zip(&dealt) {
                    for (row, ..) in listed(changes) {
                        assert_eq!(partition_of(hashes[row as usize], n_partitions), partition);
                    }
                }
                assert!(dealer.finish().is_empty());
            }
        }
    }

    #[test]
    fn what_has_no_key_is_dealt_out_once() {
        let mut dealer = Dealer::new(Placement::Any, 3);
        let mut all = Vec::new();
        for partition in 0..4 {
            let dealt = dealer.deal(partition, &puts(&[(5, b"batch", &[partition as u8])])).expect("no keys are read");
            all.extend(dealt.iter().flat_map(listed));
        }
        assert_eq!(all.iter().map(|(.., value)| value[0]).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let keys: std::collections::BTreeSet<_> = all.iter().map(|(slot, key, _)| (slot, key)).collect();
        assert_eq!(keys.len(), 4, "they are not written over each other");
    }

    #[test]
    fn what_belongs_to_partitions_is_made_of_all_and_given_to_each() {
        let mut dealer = Dealer::new(Placement::Every(Placement::largest), 2);
        for (partition, number) in [(0, 7_i64), (1, 9), (2, -3)] {
            let dealt = dealer.deal(partition, &puts(&[(0, b"", &number.to_le_bytes())])).expect("no keys are read");
            assert!(dealt.iter().all(Changes::is_empty));
        }
        assert_eq!(listed(&dealer.finish()), [(0, vec![], 9_i64.to_le_bytes().to_vec())]);
        let mut dealer = Dealer::new(Placement::Nowhere, 2);
        assert!(dealer.deal(0, &puts(&[(0, b"k", b"v")])).expect("no keys are read").iter().all(Changes::is_empty));
        assert!(dealer.finish().is_empty());
    }
}
