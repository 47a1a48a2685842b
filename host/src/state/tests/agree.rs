//! All backends agree with the model, whatever is done to them.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Model, check, scanned, value};
use crate::state::auto::AutoTable;
use crate::state::store::StateStore;
use crate::state::{Backend, Changes, LsmStore, MemoryTable, StateSettings, StateTable, StepState};

/// What is done to a table.
#[derive(Debug, Clone)]
enum Act {
    Put {
        slot: i64,
        key: Vec<u8>,
        n_bytes: usize,
    },
    Remove {
        slot: i64,
        key: Vec<u8>,
    },
    Drop {
        start: i64,
        end: i64,
    },
    Get {
        slot: i64,
        key: Vec<u8>,
    },
    /// The changes so far are applied, and everything is compared.
    Apply,
    /// Tables that can move to disk do.
    Move,
    /// A scan of a range ends after so many entries.
    Scan {
        start: i64,
        end: i64,
        n_entries: usize,
    },
}

fn slot() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -3..4i64,
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
        1 => any::<i64>(),
    ]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        8 => (0..60u8).prop_map(|number| vec![0, 0, number]),
        2 => (0..4u8).prop_map(|number| [&[7; 100][..], &[number]].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
        // Longer than the store on disk takes, and alike for long.
        1 => (0..4usize).prop_map(|number| [vec![9; 59_999 + number % 3], vec![0; number]].concat()),
        1 => (0..3u8).prop_map(|number| [vec![9; 65_000], vec![number]].concat()),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let n_bytes = prop_oneof![4 => Just(9), 4 => 0..40usize, 1 => 120..140usize, 1 => Just(70_000)];
    prop_oneof![
        24 => (slot(), key(), n_bytes).prop_map(|(slot, key, n_bytes)| Act::Put { slot, key, n_bytes }),
        8 => (slot(), key()).prop_map(|(slot, key)| Act::Remove { slot, key }),
        1 => (slot(), slot()).prop_map(|(start, end)| Act::Drop { start, end }),
        1 => slot().prop_map(|end| Act::Drop { start: i64::MIN, end: end.min(2) }),
        4 => (slot(), key()).prop_map(|(slot, key)| Act::Get { slot, key }),
        3 => Just(Act::Apply),
        1 => Just(Act::Move),
        2 => (slot(), slot(), 0..20usize).prop_map(|(start, end, n_entries)| Act::Scan { start, end, n_entries }),
    ]
}

/// Does everything to every table, and compares them with the model.
fn run(acts: &[Act], tables: &mut [Box<dyn StateTable>]) {
    let mut model = Model::default();
    let mut changes = Changes::default();
    let end = [Act::Apply];
    for (number, act) in (0..).zip(acts.iter().chain(&end)) {
        match act {
            Act::Put { slot, key, n_bytes } => changes.put(*slot, key, &value(number, *n_bytes)),
            Act::Remove { slot, key } => changes.remove(*slot, key),
            Act::Drop { start, end } => changes.drop_slots(*start..=*end),
            Act::Get { slot, key } => {
                let expected = model.0.get(&(*slot, key.clone()));
                for table in &mut *tables {
                    let found = table.get(*slot, key).expect("a reading");
                    assert!(found.as_deref() == expected.map(|value| &value[..]), "slot {slot}, key {key:?}");
                }
            }
            Act::Apply => {
                model.apply(&changes);
                for table in &mut *tables {
                    table.apply(&changes).expect("changes are applied");
                    check(&**table, &model);
                }
                changes = Changes::default();
            }
            Act::Move => tables.iter_mut().for_each(|table| table.move_to_disk().expect("a table moves")),
            Act::Scan { start, end, n_entries } => {
                let range = model.0.iter().filter(|((slot, _), _)| (*start..=*end).contains(slot));
                let expected: Vec<_> = range.take(*n_entries).collect();
                for table in &mut *tables {
                    let mut seen = Vec::new();
                    let mut visit = |slot, key: &[u8], value: &[u8]| {
                        if seen.len() < *n_entries {
                            seen.push(((slot, key.to_vec()), value.to_vec()));
                        }
                        Ok(seen.len() < *n_entries)
                    };
                    table.scan(*start..=*end, &mut visit).expect("a scan");
                    assert!(seen.iter().map(|(place, value)| (place, value)).eq(expected.iter().copied()));
                }
            }
        }
    }
}

/// A table in memory, one on disk, and one that moves between them when the acts say so.
fn tables(store: &Arc<LsmStore>, auto: &StateStore) -> Vec<Box<dyn StateTable>> {
    let (budget, disk) = auto.parts();
    vec![
        Box::<MemoryTable>::default(),
        Box::new(store.table("step")),
        Box::new(AutoTable::open("step", budget, disk).expect("a table")),
    ]
}

#[test]
fn all_backends_agree() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    // One store for all cases: their tables must not see each other's entries.
    let store = LsmStore::open(folder.path(), 1 << 20, "step").expect("a store");
    let settings = StateSettings { backend: Backend::Auto, memory_bytes: 1 << 20, path: Some(folder.path().into()) };
    let auto = StateStore::open(&settings).expect("state");
    let mut runner = prop::test_runner::TestRunner::new(ProptestConfig::with_cases(96));
    let acts = prop::collection::vec(act(), 1..120);
    let result = runner.run(&acts, |acts| {
        run(&acts, &mut tables(&store, &auto));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn a_job_with_a_tiny_budget_agrees() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    // Less than an empty table takes: every table moves after its first batch, and later ones start on disk.
    let settings = StateSettings { backend: Backend::Auto, memory_bytes: 50, path: Some(folder.path().into()) };
    let store = StateStore::open(&settings).expect("state");
    let state = StepState::new("step", 2, 2);
    store.attach(&state);
    let mut models = [Model::default(), Model::default()];
    for batch in 0..6u64 {
        for (partition, model) in (0..).zip(&mut models) {
            let partition = crate::ids::PartitionId(partition);
            let mut task = state.begin(partition).expect("tables");
            for number in 0..50 {
                let key = (batch * 30 + number).to_be_bytes();
                task.changes(1).put(batch as i64, &key, &value(number, number as usize));
            }
            task.changes(1).drop_slots(i64::MIN..=batch as i64 - 3);
            let changes = task.changes(1).clone();
            task.finish();
            state.commit(partition).expect("a commit");
            model.apply(&changes);
        }
        store.maintain().expect("tables move");
        assert_eq!(store.memory_bytes(), 0);
        for (partition, model) in (0..).zip(&models) {
            let task = state.begin(crate::ids::PartitionId(partition)).expect("tables");
            check(task.table(1), model);
            assert_eq!(scanned(task.table(0), i64::MIN..=i64::MAX), []);
        }
    }
}

#[test]
fn a_tree_with_many_files_agrees() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    // The smallest write buffers, so that some are written out and compacted.
    let store = LsmStore::open(folder.path(), 1 << 20, "step").expect("a store");
    let mut table = store.table("step");
    let mut neighbour = store.table("step");
    let mut kept = Changes::default();
    kept.put(0, b"mine", b"stays");
    neighbour.apply(&kept).expect("changes are applied");
    let mut model = Model::default();
    for round in 0..8u64 {
        let mut changes = Changes::default();
        for number in 0..6000u64 {
            let number = number * 7919 % 10_007;
            let (slot, key) = (number as i64 % 5, number.to_be_bytes());
            match (number + round) % 5 {
                0 => changes.remove(slot, &key),
                n_bytes => changes.put(slot, &key, &value(number ^ round, 8 * n_bytes as usize)),
            }
        }
        if round == 5 {
            // More than is removed in one piece.
            changes.drop_slots(0..=3);
            changes.put(1, b"new", b"put after its slot was dropped");
        }
        model.apply(&changes);
        table.apply(&changes).expect("changes are applied");
    }
    check(&table, &model);
    let mut all = Changes::default();
    all.drop_slots(i64::MIN..=i64::MAX);
    table.apply(&all).expect("changes are applied");
    check(&table, &Model::default());
    assert_eq!(table.n_bytes(), 0);
    assert_eq!(scanned(&neighbour, 0..=0), [((0, b"mine".to_vec()), b"stays".to_vec())]);
}
