//! The entries of one slot: a run of records without an index while they are few, then shards.
//!
//! Shards are split one at a time as entries come (linear hashing), each time the next in turn:
//!
//! ```text
//!  4 shards, 2 of them split:   0  1  2  3 │ 0' 1'      the next to be split is 2, into 2 and 2'
//! ```
//!
//! So no batch pays for moving everything, and growing takes no more memory than one shard does.

use super::records::Records;
use super::shard::{Shard, hash_of};

/// More entries than these get an index.
const ENTRIES_WITHOUT_INDEX_MAX: usize = 16;

/// More bytes than these get one too, so that places fit into 32 bits.
const BYTES_WITHOUT_INDEX_MAX: usize = 1 << 20;

/// Entries a shard, on average: one is split in a fraction of a millisecond.
const ENTRIES_PER_SHARD: usize = 4096;

/// Bytes of records a shard, on average, unless they are of fewer entries than there are shards.
const BYTES_PER_SHARD: usize = 256 << 10;

/// More shards than these do not help a shard that has four gigabytes: its keys have one hash.
const SHARDS_MAX: usize = 1 << 20;

/// The entries of one slot.
#[derive(Debug)]
pub(super) enum Slot {
    /// A few: found by walking over them.
    Few(Records),
    /// Many: found by hash.
    Many(Box<Shards>),
}

impl Default for Slot {
    fn default() -> Self {
        Slot::Few(Records::default())
    }
}

impl Slot {
    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        match self {
            Slot::Few(records) => records.iter().find(|record| record.key == key).map(|record| record.value),
            Slot::Many(shards) => shards.get(key),
        }
    }

    /// Writes a value; whether the key is new.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> bool {
        let records = match self {
            Slot::Many(shards) => return shards.put(key, value),
            Slot::Few(records) => records,
        };
        let at = records.iter().find(|record| record.key == key).map(|record| record.at);
        match at {
            Some(at) => records.set(at, value),
            None => records.push(key, value),
        };
        sweep(records);
        if records.n_live() > ENTRIES_WITHOUT_INDEX_MAX || records.len() > BYTES_WITHOUT_INDEX_MAX {
            *self = Slot::Many(Box::new(Shards::new(std::mem::take(records))));
        }
        at.is_none()
    }

    /// Removes a key; whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        match self {
            Slot::Many(shards) => shards.remove(key),
            Slot::Few(records) => {
                let at = records.iter().find(|record| record.key == key).map(|record| record.at);
                if let Some(at) = at {
                    records.kill(at);
                    sweep(records);
                }
                at.is_some()
            }
        }
    }

    /// How many entries it has.
    pub(super) fn n_entries(&self) -> usize {
        match self {
            Slot::Few(records) => records.n_live(),
            Slot::Many(shards) => shards.n_entries,
        }
    }

    /// Bytes that are allocated.
    pub(super) fn n_bytes(&self) -> usize {
        match self {
            Slot::Few(records) => records.capacity(),
            Slot::Many(shards) => size_of::<Shards>() + shards.n_bytes,
        }
    }

    /// Its runs of records.
    pub(super) fn n_runs(&self) -> usize {
        match self {
            Slot::Few(_) => 1,
            Slot::Many(shards) => shards.shards.len(),
        }
    }

    /// One of its runs of records.
    pub(super) fn run(&self, run: usize) -> &Records {
        match self {
            Slot::Few(records) => records,
            Slot::Many(shards) => shards.shards[run].records(),
        }
    }
}

fn sweep(records: &mut Records) {
    if records.is_wasteful() {
        *records = records.compacted();
    }
}

/// Many entries, dealt out by hash.
#[derive(Debug)]
pub(super) struct Shards {
    /// At least one.
    shards: Vec<Shard>,
    n_entries: usize,
    /// Bytes of all records, dead ones too.
    record_bytes: usize,
    /// Bytes that the shards have allocated.
    n_bytes: usize,
}

/// The shard of a hash when there are so many.
///
/// Other bits than the index within the shard uses: that takes the lowest and the highest.
fn shard_of(hash: u64, n_shards: usize) -> usize {
    let bits = (hash >> 24) as usize;
    let mask = n_shards.next_power_of_two() - 1;
    let shard = bits & mask;
    // Its shard has not been split off yet.
    if shard < n_shards { shard } else { shard & (mask >> 1) }
}

impl Shards {
    fn new(records: Records) -> Self {
        let n_entries = records.n_live();
        let shard = Shard::new(records);
        let (record_bytes, n_bytes) = (shard.records().len(), shard.n_bytes());
        Self { shards: vec![shard], n_entries, record_bytes, n_bytes }
    }

    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let hash = hash_of(key);
        self.shards[shard_of(hash, self.shards.len())].get(hash, key)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> bool {
        let hash = hash_of(key);
        let mut shard = shard_of(hash, self.shards.len());
        // Only values of gigabytes come here: the next record would start where 32 bits do not reach.
        while self.shards[shard].records().len() > u32::MAX as usize && self.shards.len() < SHARDS_MAX {
            self.split();
            shard = shard_of(hash, self.shards.len());
        }
        let is_new = self.change(shard, |shard| shard.put(hash, key, value));
        self.n_entries += usize::from(is_new);
        while self.n_entries > self.shards.len() * ENTRIES_PER_SHARD
            || self.record_bytes > self.shards.len() * BYTES_PER_SHARD && self.n_entries > self.shards.len()
        {
            self.split();
        }
        is_new
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let hash = hash_of(key);
        let shard = shard_of(hash, self.shards.len());
        let was_there = self.change(shard, |shard| shard.remove(hash, key));
        self.n_entries -= usize::from(was_there);
        was_there
    }

    /// Changes a shard, and keeps the sums true.
    fn change<T>(&mut self, shard: usize, change: impl FnOnce(&mut Shard) -> T) -> T {
        let shard = &mut self.shards[shard];
        self.record_bytes -= shard.records().len();
        self.n_bytes -= shard.n_bytes();
        let result = change(shard);
        self.record_bytes += shard.records().len();
        self.n_bytes += shard.n_bytes();
        result
    }

    /// Splits the shard whose turn it is.
    fn split(&mut self) {
        let new = self.shards.len();
        // 1 splits 0; 2 and 3 split 0 and 1; 4 to 7 split 0 to 3.
        let old = new - (1 << new.ilog2());
        let moved = self.change(old, |shard| shard.split_off(|hash| shard_of(hash, new + 1) == new));
        self.record_bytes += moved.records().len();
        self.n_bytes += moved.n_bytes();
        self.shards.push(moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_moves_only_to_the_new_shard() {
        for n_shards in 1..200 {
            for hash in (0..2000u64).map(|number| hash_of(&number.to_le_bytes())) {
                let (before, after) = (shard_of(hash, n_shards), shard_of(hash, n_shards + 1));
                assert!(before < n_shards);
                assert!(after == before || after == n_shards && before == n_shards - (1 << n_shards.ilog2()));
            }
        }
    }

    #[test]
    fn entries_are_spread_and_sums_are_true() {
        let mut slot = Slot::default();
        for number in 0..100_000u64 {
            assert!(slot.put(&number.to_be_bytes(), &number.to_le_bytes()));
        }
        let Slot::Many(shards) = &slot else { panic!("100,000 are many") };
        let sizes: Vec<usize> = shards.shards.iter().map(|shard| shard.records().n_live()).collect();
        assert!(sizes.len() >= 100_000 / ENTRIES_PER_SHARD, "{sizes:?}");
        assert!(sizes.iter().all(|size| (1000..10_000).contains(size)), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), shards.n_entries);
        assert_eq!(shards.shards.iter().map(Shard::n_bytes).sum::<usize>(), shards.n_bytes);
        assert_eq!(shards.shards.iter().map(|shard| shard.records().len()).sum::<usize>(), shards.record_bytes);
        for number in 0..100_000u64 {
            assert_eq!(slot.get(&number.to_be_bytes()), Some(&number.to_le_bytes()[..]));
        }
    }

    #[test]
    fn few_large_values_have_few_shards() {
        let mut slot = Slot::default();
        for number in 0..8u8 {
            slot.put(&[number], &vec![number; 2 << 20]);
        }
        assert!(slot.n_runs() <= 8, "{}", slot.n_runs());
        assert!((0..8).all(|number| slot.get(&[number]) == Some(&vec![number; 2 << 20][..])));
    }
}
