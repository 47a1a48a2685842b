//! Some records and the index that finds them: five to eleven bytes an entry on top of the record.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::records::{Records, record_bytes};

/// The hash of a key. It has no seed: where an entry stands depends on what was written, not on the process.
pub(super) fn hash_of(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Records with an index of where each starts, by the hash of its key.
#[derive(Debug, Default)]
pub(super) struct Shard {
    records: Records,
    index: HashTable<u32>,
}

/// A place in a run of records, which is shorter than 4 GiB before the last record: the slot sees to that.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or_else(|_| unreachable!("a shard is split before it has 4 GiB"))
}

impl Shard {
    /// The shard of some records whose keys differ.
    pub(super) fn new(records: Records) -> Self {
        let mut index = HashTable::with_capacity(records.n_live());
        for record in records.iter() {
            let hash = |at: &u32| hash_of(records.at(*at as usize).key);
            index.insert_unique(hash_of(record.key), place(record.at), hash);
        }
        Self { records, index }
    }

    /// The value of a key.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<&[u8]> {
        let at = self.index.find(hash, |at| self.records.at(*at as usize).key == key)?;
        Some(self.records.at(*at as usize).value)
    }

    /// Writes a value; whether the key is new.
    pub(super) fn put(&mut self, hash: u64, key: &[u8], value: &[u8]) -> bool {
        let Self { records, index } = self;
        let found = index.find_mut(hash, |at| records.at(*at as usize).key == key);
        let is_new = found.is_none();
        match found {
            Some(at) => *at = place(records.set(*at as usize, value)),
            None => {
                let at = place(records.push(key, value));
                index.insert_unique(hash, at, |at| hash_of(records.at(*at as usize).key));
            }
        }
        self.sweep();
        is_new
    }

    /// Removes a key; whether it was there.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> bool {
        let Self { records, index } = self;
        let Ok(entry) = index.find_entry(hash, |at| records.at(*at as usize).key == key) else { return false };
        let (at, _) = entry.remove();
        records.kill(at as usize);
        self.sweep();
        true
    }

    fn sweep(&mut self) {
        if self.records.is_wasteful() {
            *self = Self::new(self.records.compacted());
        }
    }

    /// Moves the entries whose hash says so to a new shard; both have no more room than they need.
    pub(super) fn split_off(&mut self, is_moved: impl Fn(u64) -> bool) -> Self {
        let bytes_of = |moved: bool| {
            let records = self.records.iter().filter(|record| is_moved(hash_of(record.key)) == moved);
            records.map(|record| record_bytes(record.key, record.value)).sum::<usize>()
        };
        let mut parts = [false, true].map(|moved| Records::with_capacity(bytes_of(moved)));
        for record in self.records.iter() {
            parts[usize::from(is_moved(hash_of(record.key)))].push(record.key, record.value);
        }
        let [kept, moved] = parts;
        *self = Self::new(kept);
        Self::new(moved)
    }

    /// Its records.
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// Bytes that are allocated, its own among them.
    pub(super) fn n_bytes(&self) -> usize {
        size_of::<Self>() + self.records.capacity() + self.index.allocation_size()
    }
}
