//! One table in the tree.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::LsmStore;
use super::stored::{
    TABLES_MAX, is_whole, key_and_value, slot_and_key, slot_end, slot_start, stored_key, stored_value,
};
use crate::state::{Change, Changes, MemoryTable, StateError, StateTable, Visit, locked};

/// Entries that one write batch removes at most when slots are dropped: each takes memory until it is written.
const REMOVALS_PER_WRITE: usize = 16_384;

/// Keys whose last reading is remembered until the batch is applied, at most: a megabyte.
const READINGS_MAX: usize = 16_384;

/// Long keys are written so many at a time when a table moves.
const LONG_KEYS_PER_WRITE: usize = 64;

/// A table on disk.
///
/// # Cost
///
/// A reading is a search in the write buffers, then in the tree: a block of 4 KiB from the cache or the disk. A batch costs as
/// much per change as a reading, whatever the size of the table. Dropping slots removes their entries one by one.
pub struct LsmTable {
    store: Arc<LsmStore>,
    step: Box<str>,
    number: u32,
    n_entries: u64,
    /// Bytes of all entries as they are stored.
    n_bytes: u64,
    /// No entry has a lower slot. The tree steps over entries that were removed until it cleans them up: this keeps those
    /// of closed windows out of its way. A cell, because finding the first slot raises it.
    slot_min: Cell<i64>,
    /// What readings since the last change found, by a hash of the stored key: the bytes of the stored value. Applying the
    /// changes must know whether a key is new, and it has mostly been read just before.
    readings: RefCell<HashMap<u128, Option<u32>>>,
}

/// An entry that came out of the tree.
struct Entry {
    slot: i64,
    key: fjall::UserKey,
    value: fjall::UserValue,
}

impl LsmTable {
    pub(super) fn new(store: Arc<LsmStore>, step: &str, number: u32) -> Self {
        assert!(number < TABLES_MAX, "a job with more than {TABLES_MAX} tables of state");
        Self {
            store,
            step: step.into(),
            number,
            n_entries: 0,
            n_bytes: 0,
            slot_min: Cell::new(i64::MAX),
            readings: RefCell::default(),
        }
    }

    /// Fills the table, which is new, with everything of a table in memory.
    ///
    /// # Errors
    ///
    /// What could not be written. The table is of no use then.
    pub fn fill(&mut self, from: &MemoryTable) -> Result<(), StateError> {
        let store = self.store.clone();
        let all = i64::MIN..=i64::MAX;
        // Entries in order go into files of the tree directly.
        let mut ingestion = store.tree.start_ingestion().map_err(self.failed("written"))?;
        let mut n_long_keys = 0;
        from.scan(all.clone(), &mut |slot, key, value| {
            if !is_whole(key) {
                n_long_keys += 1;
                return Ok(true);
            }
            let stored = stored_key(self.number, slot, key);
            self.n_entries += 1;
            self.n_bytes += (stored.len() + value.len()) as u64;
            self.slot_min.set(self.slot_min.get().min(slot));
            ingestion.write(stored, value).map_err(self.failed("written"))?;
            Ok(true)
        })?;
        {
            let _writing = locked(&store.writing);
            ingestion.finish().map_err(self.failed("written"))?;
        }
        if n_long_keys == 0 {
            return Ok(());
        }
        // Cut keys are not in order.
        let mut long = Changes::default();
        from.scan(all, &mut |slot, key, value| {
            if !is_whole(key) {
                long.put(slot, key, value);
            }
            if long.len() >= LONG_KEYS_PER_WRITE {
                self.apply(&std::mem::take(&mut long))?;
            }
            Ok(true)
        })?;
        self.apply(&long)
    }

    fn failed<E: Into<fjall::Error>>(&self, doing: &'static str) -> impl FnOnce(E) -> StateError {
        self.store.failed(&self.step, doing)
    }

    fn damaged(&self, what: &str) -> StateError {
        StateError::Damaged { step: self.step.to_string(), what: what.into() }
    }

    /// The entries of a range of slots, in the tree's order.
    fn entries(&self, slots: RangeInclusive<i64>) -> impl Iterator<Item = Result<Entry, StateError>> {
        let first = self.slot_min.get().max(*slots.start());
        let is_empty = self.n_entries == 0 || first > *slots.end();
        let range = (!is_empty).then(|| slot_start(self.number, first)..slot_end(self.number, *slots.end()));
        range.into_iter().flat_map(|range| self.store.tree.range(range)).map(|guard| {
            let (key, value) = guard.into_inner().map_err(self.failed("read"))?;
            match slot_and_key(&key) {
                Some((slot, _)) => Ok(Entry { slot, key, value }),
                None => Err(self.damaged("a key is too short")),
            }
        })
    }

    /// The bytes of the value that is stored at a key.
    fn stored_bytes(&self, key: &[u8]) -> Result<Option<u32>, StateError> {
        match self.readings.borrow().get(&xxh3_128(key)) {
            Some(reading) => Ok(*reading),
            None => self.store.tree.size_of(key).map_err(self.failed("read")),
        }
    }

    /// Visits entries whose keys were cut, in the order of the whole keys; whether the scan goes on.
    fn visit_cut(&self, alike: &mut Vec<Entry>, visit: &mut Visit<'_>) -> Result<bool, StateError> {
        let entries = alike.iter().map(|entry| {
            let (key, value) = key_and_value(&entry.value).ok_or_else(|| self.damaged("a value is too short"))?;
            Ok((entry.slot, key, value))
        });
        let mut entries = entries.collect::<Result<Vec<_>, StateError>>()?;
        entries.sort_unstable();
        for (slot, key, value) in entries {
            if !visit(slot, key, value)? {
                return Ok(false);
            }
        }
        alike.clear();
        Ok(true)
    }

    /// Removes every entry of a range of slots from the tree.
    fn remove_slots(&mut self, slots: RangeInclusive<i64>) -> Result<(), StateError> {
        let mut removals = self.store.database.batch();
        let mut removed = (0, 0);
        let mut removed_in = |removals: &mut fjall::OwnedWriteBatch, entry: &Entry| {
            removals.remove(&self.store.tree, entry.key.clone());
            removed.0 += 1;
            removed.1 += (entry.key.len() + entry.value.len()) as u64;
        };
        for entry in self.entries(slots.clone()) {
            removed_in(&mut removals, &entry?);
            if removals.len() >= REMOVALS_PER_WRITE {
                let full = std::mem::replace(&mut removals, self.store.database.batch());
                self.store.write(&self.step, full)?;
            }
        }
        self.store.write(&self.step, removals)?;
        self.n_entries -= removed.0;
        self.n_bytes -= removed.1;
        if *slots.start() <= self.slot_min.get() && *slots.end() >= self.slot_min.get() {
            self.slot_min.set(slots.end().saturating_add(1));
        }
        Ok(())
    }
}

impl StateTable for LsmTable {
    fn get(&self, slot: i64, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, StateError> {
        let stored = stored_key(self.number, slot, key);
        let found = self.store.tree.get(&stored).map_err(self.failed("read"))?;
        let mut readings = self.readings.borrow_mut();
        if readings.len() < READINGS_MAX {
            // The tree holds no value of 4 GiB.
            readings.insert(xxh3_128(&stored), found.as_ref().map(|value| value.len() as u32));
        }
        let Some(found) = found else { return Ok(None) };
        if is_whole(key) {
            return Ok(Some(Cow::Owned(found.to_vec())));
        }
        match key_and_value(&found) {
            Some((whole, value)) if whole == key => Ok(Some(Cow::Owned(value.to_vec()))),
            _ => Err(self.damaged("a value is not that of its key")),
        }
    }

    fn scan(&self, slots: RangeInclusive<i64>, visit: &mut Visit<'_>) -> Result<(), StateError> {
        // Entries whose keys were cut at the same bytes: their order in the tree is that of a digest.
        let mut alike: Vec<Entry> = Vec::new();
        for entry in self.entries(slots) {
            let entry = entry?;
            let (_, key) = slot_and_key(&entry.key).ok_or_else(|| self.damaged("a key is too short"))?;
            let is_alike = alike.first().is_some_and(|first| same_cut(&first.key, &entry.key));
            if !is_alike && !self.visit_cut(&mut alike, visit)? {
                return Ok(());
            }
            if !is_whole(key) {
                alike.push(entry);
            } else if !visit(entry.slot, key, &entry.value)? {
                return Ok(());
            }
        }
        self.visit_cut(&mut alike, visit)?;
        Ok(())
    }

    fn first_slot(&self) -> Result<Option<i64>, StateError> {
        let first = self.entries(i64::MIN..=i64::MAX).next().transpose()?.map(|entry| entry.slot);
        self.slot_min.set(first.unwrap_or(i64::MAX));
        Ok(first)
    }

    /// As [`StateTable::apply`]. Entries of dropped slots beyond 16,384 are removed piece by piece: after an error, some of
    /// them may be gone.
    fn apply(&mut self, changes: &Changes) -> Result<(), StateError> {
        // The last word on every key: the tree takes one change a key in a batch.
        let mut last: BTreeMap<Vec<u8>, Option<Cow<'_, [u8]>>> = BTreeMap::new();
        for change in changes.iter() {
            match change {
                Change::Entry { slot, key, value } => {
                    let stored = value.map(|value| stored_value(key, value));
                    let n_bytes = stored.as_ref().map_or(0, |stored| stored.len());
                    if u32::try_from(n_bytes).is_err() {
                        let what = format!("an entry has {n_bytes} bytes, and the store takes less than 4 GiB");
                        return Err(self.failed("written")(std::io::Error::other(what)));
                    }
                    last.insert(stored_key(self.number, slot, key), stored);
                }
                Change::DropSlots(slots) if slots.is_empty() => {}
                Change::DropSlots(slots) => {
                    let (start, end) = (slot_start(self.number, *slots.start()), slot_end(self.number, *slots.end()));
                    last.retain(|key, _| key[..] < start[..] || key[..] >= end[..]);
                    self.remove_slots(slots)?;
                    self.readings.take();
                }
            }
        }
        let mut batch = self.store.database.batch();
        let (mut n_entries, mut n_bytes) = (self.n_entries, self.n_bytes);
        let mut slot_min = self.slot_min.get();
        for (key, value) in &last {
            if let Some(value_bytes) = self.stored_bytes(key)? {
                n_entries -= 1;
                n_bytes -= key.len() as u64 + u64::from(value_bytes);
            } else if value.is_none() {
                continue;
            }
            match value {
                Some(value) => {
                    n_entries += 1;
                    n_bytes += (key.len() + value.len()) as u64;
                    slot_min = slot_min.min(slot_and_key(key).map_or(i64::MIN, |(slot, _)| slot));
                    batch.insert(&self.store.tree, &key[..], &value[..]);
                }
                None => batch.remove(&self.store.tree, &key[..]),
            }
        }
        self.store.write(&self.step, batch)?;
        (self.n_entries, self.n_bytes) = (n_entries, n_bytes);
        self.slot_min.set(slot_min);
        self.readings.take();
        Ok(())
    }

    fn n_entries(&self) -> u64 {
        self.n_entries
    }

    /// Bytes of the keys and values as they are stored. What the tree has not cleaned up yet is not told apart by table: see
    /// [`LsmStore::disk_bytes`].
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

/// Whether two keys of the tree, the first of them cut, are the same up to where they are cut.
fn same_cut(cut: &[u8], other: &[u8]) -> bool {
    let n_bytes = cut.len() - 32;
    other.len() == cut.len() && other[..n_bytes] == cut[..n_bytes]
}
