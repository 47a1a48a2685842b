//! The table in memory when there is much in it.

use super::{Model, check, value};
use crate::state::{Changes, MemoryTable, StateTable};

/// Applies changes to a table and a model.
fn apply(table: &mut MemoryTable, model: &mut Model, change: impl FnOnce(&mut Changes)) {
    let mut changes = Changes::default();
    change(&mut changes);
    table.apply(&changes).expect("changes are applied");
    model.apply(&changes);
}

#[test]
fn an_entry_of_two_numbers_takes_less_than_forty_bytes() {
    // Growing is by steps: it must hold at every size.
    let mut table = MemoryTable::default();
    for step in 0..20u64 {
        let mut changes = Changes::default();
        for number in step * 10_000..(step + 1) * 10_000 {
            let mut key = [1; 9];
            key[1..].copy_from_slice(&number.to_be_bytes());
            changes.put(0, &key, &key);
        }
        table.apply(&changes).expect("changes are applied");
        let per_entry = table.n_bytes() as f64 / table.n_entries() as f64;
        assert!((20.0..40.0).contains(&per_entry), "{per_entry} bytes at {} entries", table.n_entries());
    }
}

#[test]
fn thousands_of_small_slots_are_cheap() {
    let mut table = MemoryTable::default();
    let mut changes = Changes::default();
    for slot in 0..5000 {
        for number in 0..20u64 {
            changes.put(slot, &number.to_be_bytes(), &number.to_le_bytes());
        }
        changes.put(-1 - slot, b"one", b"alone");
    }
    table.apply(&changes).expect("changes are applied");
    // A slot of 20 costs 18 bytes of records an entry, its index, and itself; a slot of one costs little but itself.
    let n_bytes = table.n_bytes();
    assert!(n_bytes < 5000 * (20 * 45 + 250) + 5000 * 130, "{n_bytes}");
    let mut changes = Changes::default();
    changes.drop_slots(i64::MIN..=-1);
    changes.drop_slots(2..=i64::MAX);
    changes.remove(7, b"nothing");
    table.apply(&changes).expect("changes are applied");
    assert_eq!(table.n_entries(), 40);
    assert!(table.n_bytes() < 4000, "{}", table.n_bytes());
}

#[test]
fn sweeping_keeps_everything_and_gives_room_back() {
    let mut table = MemoryTable::default();
    let mut model = Model::default();
    for round in 0..12u64 {
        apply(&mut table, &mut model, |changes| {
            for number in 0..20_000u64 {
                // Another length each time: every record is written anew.
                changes.put(0, &number.to_be_bytes(), &value(number ^ round, 8 + (round + number) as usize % 24));
            }
        });
    }
    check(&table, &model);
    let full = table.n_bytes();
    // Twelve generations of which one is live: at most half is dead, and a quarter is for growth.
    assert!(full < 20_000 * 2 * 60, "{full}");
    apply(&mut table, &mut model, |changes| {
        (0..20_000u64).filter(|number| number % 50 != 0).for_each(|number| changes.remove(0, &number.to_be_bytes()));
    });
    check(&table, &model);
    assert!(table.n_bytes() < full / 8, "{} of {full}", table.n_bytes());
    apply(&mut table, &mut model, |changes| {
        (0..20_000u64).for_each(|number| changes.remove(0, &number.to_be_bytes()));
    });
    check(&table, &model);
    let empty = MemoryTable::default();
    assert_eq!(table.n_bytes(), empty.n_bytes());
}

#[test]
fn the_order_is_that_of_the_keys_however_they_came() {
    let numbers: Vec<u64> = (0..3000).map(|number| number * 1_000_003 % 3001).collect();
    let mut tables = [MemoryTable::default(), MemoryTable::default()];
    let mut model = Model::default();
    apply(&mut tables[0], &mut model, |changes| {
        numbers.iter().for_each(|number| changes.put(0, &number.to_be_bytes(), &number.to_le_bytes()));
    });
    let mut again = Model::default();
    apply(&mut tables[1], &mut again, |changes| {
        numbers.iter().rev().for_each(|number| changes.put(0, &number.to_be_bytes(), b"another first"));
        numbers.iter().rev().for_each(|number| changes.put(0, &number.to_be_bytes(), &number.to_le_bytes()));
    });
    assert_eq!(model, again);
    tables.iter().for_each(|table| check(table, &model));
}
