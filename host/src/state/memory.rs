//! A table in memory.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use super::{Change, Changes, StateError, StateTable, Visit};

/// A table in memory: a hash table a slot.
#[derive(Debug, Default)]
pub struct MemoryTable {
    slots: BTreeMap<i64, HashMap<Box<[u8]>, Box<[u8]>>>,
}

impl StateTable for MemoryTable {
    fn get(&self, slot: i64, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>, StateError> {
        Ok(self.slots.get(&slot).and_then(|entries| entries.get(key)).map(|value| Cow::Borrowed(&**value)))
    }

    fn scan(&self, slots: RangeInclusive<i64>, visit: &mut Visit<'_>) -> Result<(), StateError> {
        for (slot, entries) in self.slots.range(slots) {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort();
            for (key, value) in sorted {
                if !visit(*slot, key, value)? {
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
                    self.slots.entry(slot).or_default().insert(key.into(), value.into());
                }
                Change::Entry { slot, key, value: None } => {
                    if let Some(entries) = self.slots.get_mut(&slot) {
                        entries.remove(key);
                        if entries.is_empty() {
                            self.slots.remove(&slot);
                        }
                    }
                }
                Change::DropSlots(slots) => self.slots.retain(|slot, _| !slots.contains(slot)),
            }
        }
        Ok(())
    }

    fn n_entries(&self) -> u64 {
        self.slots.values().map(|entries| entries.len() as u64).sum()
    }

    fn n_bytes(&self) -> u64 {
        let of = |entry: (&Box<[u8]>, &Box<[u8]>)| (entry.0.len() + entry.1.len() + 64) as u64;
        self.slots.values().flatten().map(of).sum()
    }
}
