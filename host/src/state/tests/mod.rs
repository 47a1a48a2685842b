//! State against a plain model: a sorted map of slots and keys.

mod agree;
mod memory;
mod step_state;
mod store;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Change, Changes, StateTable};

/// What a table should hold.
#[derive(Debug, Default, Clone, PartialEq)]
struct Model(BTreeMap<(i64, Vec<u8>), Vec<u8>>);

impl Model {
    fn apply(&mut self, changes: &Changes) {
        for change in changes.iter() {
            match change {
                Change::Entry { slot, key, value: Some(value) } => {
                    self.0.insert((slot, key.to_vec()), value.to_vec());
                }
                Change::Entry { slot, key, value: None } => {
                    self.0.remove(&(slot, key.to_vec()));
                }
                Change::DropSlots(slots) => self.0.retain(|(slot, _), _| !slots.contains(slot)),
            }
        }
    }
}

/// A slot and key, and its value.
type Entry = ((i64, Vec<u8>), Vec<u8>);

/// All entries of a range of slots.
fn scanned(table: &dyn StateTable, slots: RangeInclusive<i64>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut visit = |slot, key: &[u8], value: &[u8]| {
        entries.push(((slot, key.to_vec()), value.to_vec()));
        Ok(true)
    };
    table.scan(slots, &mut visit).expect("a scan");
    entries
}

/// Checks that a table holds what the model holds, entry by entry and in order.
#[track_caller]
fn check(table: &dyn StateTable, model: &Model) {
    let expected: Vec<_> = model.0.iter().map(|(place, value)| (place.clone(), value.clone())).collect();
    assert!(scanned(table, i64::MIN..=i64::MAX) == expected, "a scan differs");
    assert_eq!(table.n_entries(), model.0.len() as u64);
    assert_eq!(table.first_slot().expect("a slot"), model.0.keys().next().map(|(slot, _)| *slot));
    for ((slot, key), value) in &model.0 {
        assert!(table.get(*slot, key).expect("a reading").as_deref() == Some(&value[..]), "slot {slot}, key {key:?}");
    }
}

/// A value that differs from others, of a length.
fn value(number: u64, n_bytes: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(n_bytes).collect()
}
