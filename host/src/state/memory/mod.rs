//! A table in memory: about 30 bytes an entry of two numbers, and no allocation an entry.
//!
//! ```text
//!  MemoryTable ── slot ─▶ Slot: Few(Records)                 up to 16 entries: found by walking
//!                               Many ─▶ Shard: Records        bytes: key, value, key, value, …
//!                                              HashTable<u32> where each starts, by the hash of its key
//! ```

mod records;
mod shard;
mod slot;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Change, Changes, StateError, StateTable, Visit};
use slot::Slot;

/// What a slot costs in the tree of slots, whose nodes are at least half full and mostly two thirds.
const SLOT_BYTES: usize = (size_of::<i64>() + size_of::<Slot>()) * 3 / 2;

/// A table in memory.
///
/// # Cost
///
/// An entry takes its key and value, 2 bytes for their lengths (more beyond 63 and 127 bytes), 6 to 11 for the index and up
/// to a quarter for growth. A slot without many entries takes about 100 bytes. A scan sorts the keys of the slot it is at, which
/// takes 16 bytes an entry of that slot.
#[derive(Debug, Default)]
pub struct MemoryTable {
    slots: BTreeMap<i64, Slot>,
    n_entries: u64,
    /// Bytes of all slots.
    n_bytes: usize,
}

/// Where a record is, and the first bytes by which its key differs from the others of its slot.
struct Place {
    first_bytes: u64,
    run: u32,
    at: u32,
}

impl MemoryTable {
    /// Changes a slot, which is made when it is not there and goes when it is empty, and keeps the sums true.
    fn change(&mut self, slot: i64, change: impl FnOnce(&mut Slot)) {
        let entries = self.slots.entry(slot).or_insert_with(|| {
            self.n_bytes += SLOT_BYTES;
            Slot::default()
        });
        let (n_entries, n_bytes) = (entries.n_entries(), entries.n_bytes());
        change(entries);
        self.n_entries = self.n_entries + entries.n_entries() as u64 - n_entries as u64;
        self.n_bytes = self.n_bytes + entries.n_bytes() - n_bytes;
        if entries.n_entries() == 0 {
            self.drop_slot(slot);
        }
    }

    fn drop_slot(&mut self, slot: i64) {
        if let Some(entries) = self.slots.remove(&slot) {
            self.n_entries -= entries.n_entries() as u64;
            self.n_bytes -= SLOT_BYTES + entries.n_bytes();
        }
    }
}

impl StateTable for MemoryTable {
    fn get(&self, slot: i64, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, StateError> {
        Ok(self.slots.get(&slot).and_then(|entries| entries.get(key)).map(Cow::Borrowed))
    }

    fn scan(&self, slots: RangeInclusive<i64>, visit: &mut Visit<'_>) -> Result<(), StateError> {
        let mut places = Vec::new();
        for (slot, entries) in range(&self.slots, slots) {
            sort_places(entries, &mut places);
            for place in &places {
                let record = entries.run(place.run as usize).at(place.at as usize);
                if !visit(*slot, record.key, record.value)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn first_slot(&self) -> Result<Option<i64>, StateError> {
        Ok(self.slots.keys().next().copied())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), StateError> {
        for change in changes.iter() {
            match change {
                Change::Entry { slot, key, value: Some(value) } => {
                    self.change(slot, |entries| {
                        entries.put(key, value);
                    });
                }
                Change::Entry { slot, key, value: None } if self.slots.contains_key(&slot) => {
                    self.change(slot, |entries| {
                        entries.remove(key);
                    });
                }
                Change::Entry { .. } => {}
                Change::DropSlots(slots) => {
                    let dropped: Vec<i64> = range(&self.slots, slots).map(|(slot, _)| *slot).collect();
                    dropped.into_iter().for_each(|slot| self.drop_slot(slot));
                }
            }
        }
        Ok(())
    }

    fn n_entries(&self) -> u64 {
        self.n_entries
    }

    fn n_bytes(&self) -> u64 {
        (size_of::<Self>() + self.n_bytes) as u64
    }
}

/// The slots of a range, which may be empty.
fn range(slots: &BTreeMap<i64, Slot>, range: RangeInclusive<i64>) -> impl Iterator<Item = (&i64, &Slot)> {
    // A range that ends before it starts makes the tree panic.
    let range = (range.start() <= range.end()).then_some(range);
    range.into_iter().flat_map(|range| slots.range(range))
}

/// Where the records of a slot are, in ascending order of their keys.
fn sort_places(entries: &Slot, places: &mut Vec<Place>) {
    let runs = || (0..entries.n_runs()).map(|run| (run, entries.run(run)));
    let mut keys = runs().flat_map(|(_, records)| records.iter().map(|record| record.key));
    let first = keys.next().unwrap_or_default();
    // Keys of one type mostly start alike; what follows tells them apart without a look at the records.
    let n_alike = keys.fold(first.len(), |n_alike, key| {
        let alike = first[..n_alike].iter().zip(key).take_while(|(a, b)| a == b);
        alike.count()
    });
    places.clear();
    places.reserve_exact(entries.n_entries());
    for (run, records) in runs() {
        places.extend(records.iter().map(|record| {
            let rest = &record.key[n_alike..];
            let n_bytes = rest.len().min(8);
            let mut first_bytes = [0; 8];
            first_bytes[..n_bytes].copy_from_slice(&rest[..n_bytes]);
            // Runs are at most 2^20 and shorter than 4 GiB before their last record.
            Place { first_bytes: u64::from_be_bytes(first_bytes), run: run as u32, at: record.at as u32 }
        }));
    }
    let key = |place: &Place| entries.run(place.run as usize).at(place.at as usize).key;
    places.sort_unstable_by(|a, b| a.first_bytes.cmp(&b.first_bytes).then_with(|| key(a).cmp(key(b))));
}
