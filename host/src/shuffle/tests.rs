//! The shuffle keeps its law, whatever the rows and however they are cut.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use arrow::array::Array;

use super::*;

/// Rows with a key, their number, and the map task they belong to.
fn rows(task: usize, first: usize, keys: &[u8]) -> RecordBatch {
    let texts: StringArray = keys.iter().map(|key| (*key > 0).then(|| format!("key {key}"))).collect();
    let tasks: Int64Array = keys.iter().map(|_| Some(task as i64)).collect();
    let numbers: Int64Array = (first..first + keys.len()).map(|number| Some(number as i64)).collect();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("key", Arc::new(texts)), ("task", Arc::new(tasks)), ("number", Arc::new(numbers))];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("columns of one length")
}

type Row = (Option<String>, i64, i64);

fn read(shuffle: &Shuffle, partition: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in shuffle.read(PartitionId(partition)) {
        let batch = batch.expect("it can be read");
        let (keys, tasks) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        let numbers = batch.column(2).as_primitive::<Int64Type>();
        rows.extend(
            (0..batch.num_rows()).map(|row| {
                (keys.is_valid(row).then(|| keys.value(row).to_owned()), tasks.value(row), numbers.value(row))
            }),
        );
    }
    rows
}

fn write(shuffle: &Arc<Shuffle>, task: usize, pushes: &[Vec<u8>]) {
    let mut writer = shuffle.writer(task);
    let mut first = 0;
    for keys in pushes {
        writer.push(rows(task, first, keys)).expect("a key type");
        first += keys.len();
    }
    writer.finish().expect("a key type");
}

fn pushes() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(0u8..12, 0..30), 0..6), 0..5)
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_and_order_is_kept(tasks in pushes(), n in 1u32..6, by_key in any::<bool>()) {
        let by = if by_key { Partitioning::Hash { columns: vec![0] } } else { Partitioning::RoundRobin };
        let shuffle = Arc::new(Shuffle::new(by, n));
        // In the opposite order: what is read does not depend on who finished first.
        for (task, pushes) in tasks.iter().enumerate().rev() {
            write(&shuffle, task, pushes);
        }
        let mut homes: HashMap<Option<String>, u32> = HashMap::new();
        let mut all = Vec::new();
        for partition in 0..n {
            let rows = read(&shuffle, partition);
            prop_assert!(rows.is_sorted_by_key(|row| (row.1, row.2)), "in the order of tasks, then of pushes");
            prop_assert_eq!(rows.len() as u64, shuffle.rows_of(PartitionId(partition)));
            if by_key {
                for row in &rows {
                    prop_assert_eq!(*homes.entry(row.0.clone()).or_insert(partition), partition, "equal keys meet");
                }
            }
            all.extend(rows.into_iter().map(|row| (row.1, row.2)));
        }
        all.sort();
        let expected: Vec<_> = tasks
            .iter()
            .enumerate()
            .flat_map(|(task, pushes)| (0..pushes.concat().len()).map(move |number| (task as i64, number as i64)))
            .collect();
        prop_assert_eq!(shuffle.rows(), expected.len() as u64);
        prop_assert_eq!(all, expected);
    }

    #[test]
    fn turns_do_not_depend_on_how_rows_were_pushed(keys in proptest::collection::vec(0u8..9, 0..60), cut in 0usize..60) {
        let (first, second) = keys.split_at(cut.min(keys.len()));
        let (whole, split) = (
            Arc::new(Shuffle::new(Partitioning::RoundRobin, 4)),
            Arc::new(Shuffle::new(Partitioning::RoundRobin, 4)),
        );
        write(&whole, 3, std::slice::from_ref(&keys));
        write(&split, 3, &[first.to_vec(), second.to_vec()]);
        for partition in 0..4 {
            prop_assert_eq!(read(&whole, partition), read(&split, partition));
        }
    }
}

#[test]
fn rows_are_dealt_in_turn_from_the_tasks_own_partition() {
    let shuffle = Arc::new(Shuffle::new(Partitioning::RoundRobin, 3));
    write(&shuffle, 4, &[vec![1, 1, 1, 1]]);
    let numbers = |partition| read(&shuffle, partition).iter().map(|row| row.2).collect::<Vec<_>>();
    assert_eq!([numbers(0), numbers(1), numbers(2)], [vec![2], vec![0, 3], vec![1]]);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let shuffle = Arc::new(Shuffle::new(Partitioning::Hash { columns: vec![0] }, 2));
    let mut writer = shuffle.writer(0);
    writer.push(rows(0, 0, &vec![1; 2 * ROWS_DEALT_MIN])).expect("a key type");
    drop(writer);
    assert_eq!((shuffle.rows(), shuffle.bytes()), (0, 0));
}

#[test]
fn a_second_attempt_doubles_nothing() {
    let shuffle = Arc::new(Shuffle::new(Partitioning::Hash { columns: vec![0] }, 2));
    write(&shuffle, 0, &[vec![1, 2, 3]]);
    write(&shuffle, 0, &[vec![1, 2, 3]]);
    assert_eq!(shuffle.rows(), 3);
    shuffle.clear();
    assert_eq!((shuffle.rows(), read(&shuffle, 0).len()), (0, 0));
}

#[test]
fn without_key_columns_all_rows_meet() {
    let shuffle = Arc::new(Shuffle::new(Partitioning::Hash { columns: vec![] }, 3));
    write(&shuffle, 0, &[vec![1, 2, 3]]);
    assert_eq!(read(&shuffle, 0).len(), 3);
}

#[test]
fn large_pushes_are_dealt_in_pieces_that_together_are_all() {
    let shuffle = Arc::new(Shuffle::new(Partitioning::Hash { columns: vec![0] }, 4));
    let keys: Vec<u8> = (0..20_000u32).map(|number| (number % 11) as u8).collect();
    write(&shuffle, 0, &[keys.clone(), keys[..7].to_vec(), keys]);
    assert_eq!(shuffle.rows(), 40_007);
    assert!(shuffle.bytes() > 40_007 * 16);
    assert!((0..4).all(|partition| shuffle.read(PartitionId(partition)).count() <= 3));
}

#[test]
fn turns_go_on_from_push_to_push() {
    let shuffle = Arc::new(Shuffle::new(Partitioning::RoundRobin, 3));
    let push = vec![1; ROWS_DEALT_MIN + 2];
    assert_ne!(push.len() % 3, 0, "or each push would start anew by itself");
    write(&shuffle, 0, &[push.clone(), push]);
    assert!((0..3).all(|partition| read(&shuffle, partition).iter().all(|row| row.2 % 3 == i64::from(partition))));
}

/// The order of the keys.
fn by_key() -> Partitioning {
    let mut problems = Vec::new();
    let order =
        crate::step::order::Order::resolve(&rows(0, 0, &[]).schema(), &["key desc".into()], "by", &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    Partitioning::Range { order }
}

proptest! {
    #[test]
    fn ranges_follow_one_another_and_are_about_equal(tasks in pushes(), n in 1u32..7) {
        let shuffle = Arc::new(Shuffle::new(by_key(), n));
        for (task, pushes) in tasks.iter().enumerate().rev() {
            write(&shuffle, task, pushes);
        }
        shuffle.deal().expect("keys with an order");
        // What has been dealt stays.
        shuffle.deal().expect("keys with an order");
        let partitions: Vec<Vec<Row>> = (0..n).map(|partition| read(&shuffle, partition)).collect();
        for (partition, rows) in partitions.iter().enumerate() {
            prop_assert!(rows.is_sorted_by_key(|row| (row.1, row.2)), "in the order of tasks, then of pushes");
            prop_assert_eq!(rows.len() as u64, shuffle.rows_of(PartitionId(partition as u32)));
        }
        // `None` is the smallest, and so the last.
        let keys = partitions.iter().filter(|rows| !rows.is_empty());
        let ends: Vec<_> = keys.map(|rows| (rows.iter().map(|row| &row.0).max(), rows.iter().map(|row| &row.0).min())).collect();
        prop_assert!(ends.windows(2).all(|pair| pair[0].1 > pair[1].0), "lower keys behind, equal ones together");
        let mut of_keys: HashMap<&Option<String>, usize> = HashMap::new();
        partitions.iter().flatten().for_each(|row| *of_keys.entry(&row.0).or_default() += 1);
        let n_rows: usize = partitions.iter().map(Vec::len).sum();
        prop_assert_eq!(n_rows, tasks.concat().concat().len());
        let most = of_keys.values().max().copied().unwrap_or(0);
        let bound = n_rows.div_ceil(n as usize) + 2 * most;
        prop_assert!(partitions.iter().all(|rows| rows.len() <= bound), "{:?}", partitions.iter().map(Vec::len).collect::<Vec<_>>());
    }
}

#[test]
fn ranges_of_many_rows_are_found_from_a_sample() {
    let shuffle = Arc::new(Shuffle::new(
        Partitioning::Range {
            order: crate::step::order::Order::resolve(
                &rows(0, 0, &[]).schema(),
                &["number".into()],
                "by",
                &mut Vec::new(),
            ),
        },
        4,
    ));
    // Numbers in a rhythm that a sample of every so many-th row would follow.
    let keys = vec![1; 50_000];
    for task in 0..8 {
        write(&shuffle, task, std::slice::from_ref(&keys));
    }
    shuffle.deal().expect("keys with an order");
    let sizes: Vec<u64> = (0..4).map(|partition| shuffle.rows_of(PartitionId(partition))).collect();
    assert_eq!(sizes.iter().sum::<u64>(), 400_000);
    assert!(sizes.iter().all(|size| size.abs_diff(100_000) < 5_000), "{sizes:?}");
}

/// A shuffle with so little memory that all of it is spilled, and one with some.
fn spilling(folder: &std::path::Path, by: Partitioning, n: u32, memory_bytes: u64) -> (Arc<Shuffle>, Arc<BatchMemory>) {
    let spill = crate::spill::testing::spill_in(folder, 1 << 30);
    let memory = BatchMemory::new(Some(spill), memory_bytes, 2, 1);
    (Arc::new(Shuffle::within(by, n, &memory)), memory)
}

proptest! {
    #[test]
    fn what_is_spilled_is_read_as_what_is_not(
        tasks in pushes(),
        n in 1u32..6,
        how in 0..3,
        memory_bytes in prop::sample::select(vec![0_u64, 2_000, 10_000]),
    ) {
        let by = || match how {
            0 => Partitioning::Hash { columns: vec![0] },
            1 => Partitioning::RoundRobin,
            _ => by_key(),
        };
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let in_memory = Arc::new(Shuffle::new(by(), n));
        let (on_disk, memory) = spilling(folder.path(), by(), n, memory_bytes);
        for (task, pushes) in tasks.iter().enumerate() {
            write(&in_memory, task, pushes);
            write(&on_disk, task, pushes);
            prop_assert!(memory.held_bytes() <= memory_bytes, "{} held", memory.held_bytes());
        }
        in_memory.deal().expect("keys with an order");
        on_disk.deal().expect("keys with an order");
        prop_assert_eq!((on_disk.rows(), on_disk.bytes()), (in_memory.rows(), in_memory.bytes()));
        for partition in (0..n).map(PartitionId) {
            // Cut in the same places: what plugins get does not depend on memory.
            let read = |shuffle: &Shuffle| shuffle.read(partition).collect::<Result<Vec<_>, _>>().expect("it can be read");
            prop_assert_eq!(read(&on_disk), read(&in_memory));
            prop_assert_eq!(on_disk.rows_of(partition), in_memory.rows_of(partition));
            prop_assert_eq!(on_disk.bytes_of(partition), in_memory.bytes_of(partition));
        }
        prop_assert!(memory.peak_bytes() <= memory_bytes);
        on_disk.clear();
        prop_assert_eq!((memory.held_bytes(), crate::spill::testing::files(folder.path()).len()), (0, 0));
    }
}

#[test]
fn finished_tasks_that_have_no_room_do_not_take_that_of_those_at_work() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    // A writer at work has 250 kB of its own, finished ones have a megabyte together.
    let (shuffle, memory) = spilling(folder.path(), Partitioning::Hash { columns: vec![0] }, 4, 2_000_000);
    let keys: Vec<u8> = (0..100_000u32).map(|number| (number % 11) as u8).collect();
    for task in 0..4 {
        write(&shuffle, task, std::slice::from_ref(&keys));
    }
    assert!(memory.peak_bytes() <= 2_000_000 && memory.held_bytes() <= 1_000_000, "{}", memory.peak_bytes());
    let records: usize = (0..4).map(|partition| shuffle.read(PartitionId(partition)).count()).sum();
    assert_eq!(records, 4 * 4, "each task's push in each partition");
    assert_eq!((0..4).map(|partition| read(&shuffle, partition).len()).sum::<usize>(), 400_000);
}

#[test]
fn a_dropped_writer_leaves_nothing_on_disk() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (shuffle, memory) = spilling(folder.path(), Partitioning::Hash { columns: vec![0] }, 2, 0);
    let mut writer = shuffle.writer(0);
    writer.push(rows(0, 0, &vec![1; 2 * ROWS_DEALT_MIN])).expect("room");
    assert_eq!(crate::spill::testing::files(folder.path()).len(), 1);
    drop(writer);
    assert_eq!((memory.held_bytes(), crate::spill::testing::files(folder.path()).len()), (0, 0));
}
