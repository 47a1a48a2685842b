//! The laws of the block store: nothing lost, order kept, the budget held, no wake lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::spill::testing::{failing_spill_in, files, spill_in};

/// Long enough that only a lost wake-up reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]));
    let column = Int64Array::from_iter_values(values);
    RecordBatch::try_new(schema, vec![Arc::new(column)]).expect("one column of the schema's type")
}

fn values(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn never() -> bool {
    false
}

fn push(store: &BlockStore, source: usize, rows: RecordBatch) {
    store.push(source, rows, &never).expect("nobody stops it");
}

fn read(store: &BlockStore, metas: &[BlockMeta]) -> Vec<i64> {
    metas.iter().flat_map(|meta| values(&store.get(meta.id).expect("allocated"))).collect()
}

fn ids(metas: &[BlockMeta]) -> Vec<BlockId> {
    metas.iter().map(|meta| meta.id).collect()
}

#[test]
fn small_pushes_become_one_block() {
    let store = BlockStore::new(1 << 20);
    for value in 0..100 {
        push(&store, 0, numbers([value]));
    }
    assert_eq!(store.waiting(0).blocks, 1);
    assert_eq!(store.waiting(0).rows, 100);
    let before = store.held().bytes;
    let metas = store.allocate(0, u64::MAX);
    assert_eq!(metas.len(), 1);
    assert_eq!(store.waiting(0), Waiting::default());
    assert_eq!(read(&store, &metas), (0..100).collect::<Vec<_>>());
    assert_eq!(store.get(metas[0].id).expect("allocated").num_rows(), 100);
    assert!(store.held().bytes < before / 10, "merging gives back what the pieces took beside their rows");
    store.release(&ids(&metas));
    assert_eq!(store.held().bytes, 0);
    assert_eq!(store.held().peak_bytes, before);
}

#[test]
fn a_large_push_closes_the_open_block_and_order_is_kept() {
    let store = BlockStore::new(16 << 20);
    push(&store, 0, numbers([1]));
    push(&store, 0, numbers(2..20_000));
    push(&store, 0, numbers([20_000]));
    push(&store, 0, numbers([20_001]));
    let metas = store.allocate(0, u64::MAX);
    assert_eq!(metas.iter().map(|meta| meta.n_rows).collect::<Vec<_>>(), [1, 19_998, 2]);
    assert_eq!(read(&store, &metas), (1..=20_001).collect::<Vec<_>>());
}

#[test]
fn allocate_takes_what_fits_and_at_least_one() {
    let store = BlockStore::new(16 << 20);
    for _ in 0..4 {
        push(&store, 0, numbers(0..10_000));
    }
    assert_eq!(store.allocate(0, 0).len(), 1);
    assert_eq!(store.allocate(0, 200_000).len(), 2);
    assert_eq!(store.allocate(0, u64::MAX).len(), 1);
    assert!(store.allocate(0, u64::MAX).is_empty());
    assert!(store.allocate(7, u64::MAX).is_empty(), "a source that never pushed");
}

#[test]
fn sources_do_not_mix() {
    let store = BlockStore::new(1 << 20);
    push(&store, 1, numbers([1]));
    push(&store, 0, numbers([0]));
    push(&store, 1, numbers([11]));
    assert_eq!(read(&store, &store.allocate(1, u64::MAX)), [1, 11]);
    assert_eq!(read(&store, &store.allocate(0, u64::MAX)), [0]);
}

#[test]
fn empty_pushes_leave_no_trace() {
    let store = BlockStore::new(1);
    push(&store, 0, numbers([]));
    assert_eq!(store.held(), Held { budget_bytes: 1, ..Held::default() });
}

#[test]
fn released_blocks_are_unknown_and_releasing_twice_is_once() {
    let store = BlockStore::new(1 << 20);
    push(&store, 0, numbers([1]));
    push(&store, 0, numbers(0..20_000));
    let metas = store.allocate(0, 0);
    store.release(&ids(&metas));
    store.release(&ids(&metas));
    let error = store.get(metas[0].id).expect_err("released");
    assert_eq!(error.fault(), Fault::Host);
    assert_eq!(store.held().bytes, store.waiting(0).bytes);
}

#[test]
fn a_slice_is_charged_with_what_it_keeps_alive_or_copied() {
    let large = numbers(0..100_000);
    let store = BlockStore::new(1 << 30);
    push(&store, 0, large.slice(100, 10));
    assert!(store.held().bytes < 1_000, "ten rows were copied out of 800 kB: {}", store.held().bytes);
    push(&store, 0, large.slice(0, 60_000));
    assert!(store.held().bytes > 800_000, "the larger part is kept, with all it keeps alive: {}", store.held().bytes);
    let metas = store.allocate(0, u64::MAX);
    assert_eq!(read(&store, &metas), (100..110).chain(0..60_000).collect::<Vec<_>>());
}

#[test]
fn copying_a_slice_keeps_nulls_and_text() {
    let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true)]));
    let column: StringArray = (0..10_000).map(|n| (n % 3 != 0).then(|| format!("text {n}"))).collect();
    let rows = RecordBatch::try_new(schema, vec![Arc::new(column)]).expect("one column of the schema's type");
    let slice = rows.slice(4_000, 7);
    assert_eq!(copy_if_wasteful(slice.clone()), slice);
    assert!(memory_bytes(&copy_if_wasteful(slice.clone())) < memory_bytes(&slice) / 10);
}

#[test]
fn a_block_larger_than_the_budget_is_let_in_alone() {
    let store = Arc::new(BlockStore::new(1_000));
    push(&store, 0, numbers(0..10_000));
    assert!(store.held().bytes > 1_000);
    assert_eq!(store.push(0, numbers([1]), &|| true), Err(Stopped));
    let metas = store.allocate(0, u64::MAX);
    assert_eq!(store.push(0, numbers([1]), &|| true), Err(Stopped), "allocated blocks stay charged");
    store.release(&ids(&metas));
    push(&store, 0, numbers([1]));
    assert_eq!(store.waiting(0).rows, 1);
}

#[test]
fn a_push_waits_until_room_is_released() {
    let store = Arc::new(BlockStore::new(100_000));
    push(&store, 0, numbers(0..10_000));
    let pusher = {
        let store = Arc::clone(&store);
        thread::spawn(move || push(&store, 0, numbers(0..10_000)))
    };
    wait_until(|| !store.lock().line.is_empty());
    assert_eq!(store.waiting(0).rows, 10_000);
    store.release(&ids(&store.allocate(0, u64::MAX)));
    pusher.join().expect("does not panic");
    assert_eq!(store.waiting(0).rows, 10_000);
    assert!(store.held().peak_bytes <= 100_000);
}

#[test]
fn a_large_push_is_not_overtaken() {
    let store = Arc::new(BlockStore::new(100_000));
    push(&store, 0, numbers(0..5_000));
    let large = {
        let store = Arc::clone(&store);
        thread::spawn(move || push(&store, 0, numbers(0..12_000)))
    };
    wait_until(|| !store.lock().line.is_empty());
    // Fits, but somebody was first.
    assert_eq!(store.push(1, numbers([1]), &|| true), Err(Stopped));
    store.release(&ids(&store.allocate(0, u64::MAX)));
    large.join().expect("does not panic");
    push(&store, 1, numbers([1]));
}

#[test]
fn a_wake_before_the_wait_counts_once() {
    let store = BlockStore::new(1_000);
    store.wake();
    assert!(!store.wait_for_rows(PATIENCE), "woken, no rows");
    assert!(!store.wait_for_rows(Duration::ZERO), "the wake was used up");
    push(&store, 0, numbers([1]));
    assert!(store.wait_for_rows(PATIENCE));
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    let store = Arc::new(BlockStore::new(1 << 20));
    let n_rounds = 2_000;
    let pusher = {
        let store = Arc::clone(&store);
        thread::spawn(move || (0..n_rounds).for_each(|value| push(&store, 0, numbers([value]))))
    };
    let mut seen = Vec::new();
    while seen.len() < n_rounds as usize {
        assert!(store.wait_for_rows(PATIENCE), "rows came and nobody woke");
        let metas = store.allocate(0, u64::MAX);
        seen.extend(read(&store, &metas));
        store.release(&ids(&metas));
    }
    pusher.join().expect("does not panic");
    assert_eq!(seen, (0..n_rounds).collect::<Vec<_>>());
}

/// Four sources push at their own pace into a store that holds a fraction of it; a reader allocates, reads and
/// releases. Every row comes out once, in order, and the budget holds at every look.
#[test]
fn nothing_is_lost_and_the_budget_holds_under_threads() {
    const SOURCES: usize = 4;
    const ROWS: i64 = 60_000;
    let budget_bytes = 64_000;
    let store = Arc::new(BlockStore::new(budget_bytes));
    let looking = Arc::new(AtomicBool::new(true));
    let most_seen = Arc::new(AtomicU64::new(0));
    let watcher = {
        let (store, looking, most_seen) = (Arc::clone(&store), Arc::clone(&looking), Arc::clone(&most_seen));
        thread::spawn(move || {
            while looking.load(Ordering::Relaxed) {
                most_seen.fetch_max(store.held().bytes, Ordering::Relaxed);
                thread::yield_now();
            }
        })
    };
    let pushers: Vec<_> = (0..SOURCES)
        .map(|source| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let mut next = 0;
                // Pushes of 1 to some thousand rows, the same in every run.
                for step in (1..).map(|n: i64| (n * 7919 + source as i64 * 31) % 1_500 + 1) {
                    let end = (next + step).min(ROWS);
                    push(&store, source, numbers(next..end));
                    next = end;
                    if next == ROWS {
                        return;
                    }
                }
            })
        })
        .collect();
    let mut seen = vec![Vec::new(); SOURCES];
    while seen.iter().any(|rows| rows.len() < ROWS as usize) {
        assert!(store.wait_for_rows(PATIENCE), "stuck: {:?}", store.held());
        for (source, rows) in seen.iter_mut().enumerate() {
            let metas = store.allocate(source, 20_000);
            rows.extend(read(&store, &metas));
            store.release(&ids(&metas));
        }
    }
    for pusher in pushers {
        pusher.join().expect("does not panic");
    }
    looking.store(false, Ordering::Relaxed);
    watcher.join().expect("does not panic");
    for rows in seen {
        assert_eq!(rows, (0..ROWS).collect::<Vec<_>>());
    }
    assert!(most_seen.load(Ordering::Relaxed) <= budget_bytes);
    assert!(store.held().peak_bytes <= budget_bytes);
    assert_eq!(store.held().bytes, 0);
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("waited 20 s for it");
}

#[derive(Debug, Clone)]
enum Action {
    Push { source: usize, n_rows: i64 },
    Allocate { source: usize, max_bytes: u64 },
    ReleaseOldest,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..3_usize, prop_oneof![0..5_i64, 0..12_000_i64]).prop_map(|(source, n_rows)| Action::Push { source, n_rows }),
        2 => (0..3_usize, 0..200_000_u64).prop_map(|(source, max_bytes)| Action::Allocate { source, max_bytes }),
        2 => Just(Action::ReleaseOldest),
    ]
}

/// What a store of the law's test has beside its memory.
#[derive(Debug, Clone, Copy)]
enum Disk {
    None,
    /// With room for all.
    Large,
    /// With room for some.
    Small,
    /// That is full now and then.
    Failing,
}

proptest! {
    #[test]
    fn law_nothing_lost_order_kept_budget_held(
        actions in prop::collection::vec(action(), 1..60),
        disk in prop::sample::select(vec![Disk::None, Disk::Large, Disk::Small, Disk::Failing]),
    ) {
        let budget_bytes = 150_000;
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let fails = Arc::new(AtomicBool::new(false));
        let spill = match disk {
            Disk::None => None,
            Disk::Large => Some(spill_in(folder.path(), 1 << 30)),
            Disk::Small => Some(spill_in(folder.path(), 200_000)),
            Disk::Failing => Some(failing_spill_in(folder.path(), 1 << 30, &fails)),
        };
        let store = spill.as_ref().map_or_else(|| BlockStore::new(budget_bytes), |spill| BlockStore::spilling(budget_bytes, spill));
        let mut next = [0_i64; 3];
        let mut expected: [Vec<i64>; 3] = Default::default();
        let mut seen: [Vec<i64>; 3] = Default::default();
        let mut batches: VecDeque<Vec<BlockMeta>> = VecDeque::new();
        for (number, action) in actions.into_iter().enumerate() {
            fails.store(number % 3 == 0, Ordering::Relaxed);
            match action {
                Action::Push { source, n_rows } => {
                    let rows = next[source]..next[source] + n_rows;
                    let before = store.held().bytes;
                    match store.push(source, numbers(rows.clone()), &|| true) {
                        Ok(()) => {
                            expected[source].extend(rows.clone());
                            next[source] = rows.end;
                            let held = store.held().bytes;
                            prop_assert!(held <= budget_bytes || before == 0, "{before} then {held}");
                        }
                        Err(Stopped) => {
                            prop_assert!(before > 0, "there was room");
                            prop_assert!(!matches!(disk, Disk::Large), "there was room on disk");
                        }
                    }
                }
                Action::Allocate { source, max_bytes } => {
                    let metas = store.allocate(source, max_bytes);
                    let total: u64 = metas.iter().map(|meta| meta.n_bytes).sum();
                    prop_assert!(metas.len() <= 1 || total <= max_bytes);
                    for meta in &metas {
                        let rows = store.get(meta.id).expect("allocated");
                        prop_assert_eq!(rows.num_rows() as u64, meta.n_rows);
                        seen[source].extend(values(&rows));
                    }
                    batches.push_back(metas);
                }
                Action::ReleaseOldest => {
                    if let Some(metas) = batches.pop_front() {
                        store.release(&ids(&metas));
                    }
                }
            }
        }
        for source in 0..3 {
            while store.waiting(source).rows > 0 {
                let metas = store.allocate(source, u64::MAX);
                seen[source].extend(read(&store, &metas));
                batches.push_back(metas);
            }
            prop_assert_eq!(&seen[source], &expected[source]);
        }
        batches.iter().for_each(|metas| store.release(&ids(metas)));
        prop_assert_eq!(store.held().bytes, 0);
        if let Some(spill) = spill {
            prop_assert_eq!((spill.counts().rows, spill.counts().disk_bytes), (0, 0));
            prop_assert_eq!(files(folder.path()).len(), 0);
        }
    }
}

/// Numbers that take as much on disk as in memory.
fn noise(seed: i64, n: i64) -> RecordBatch {
    numbers((seed * n..seed * n + n).map(|n| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()) as i64))
}

#[test]
fn the_newest_that_wait_go_to_disk_and_come_back_in_order() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let spill = spill_in(folder.path(), 1 << 30);
    let store = BlockStore::spilling(1 << 20, &spill);
    for block in 0..40 {
        push(&store, 0, numbers(block * 10_000..(block + 1) * 10_000));
    }
    assert_eq!(store.waiting(0).rows, 400_000);
    assert!(store.held().peak_bytes <= 1 << 20);
    assert_eq!(spill.counts().rows, 270_000, "what does not fit, in whole blocks");
    // The oldest are in memory still.
    let metas = store.allocate(0, 300_000);
    assert_eq!((metas.len(), spill.counts().rows), (3, 270_000));
    let rest = store.allocate(0, u64::MAX);
    assert_eq!(rest.len(), 6, "a quarter of the memory is left to what waits");
    let mut seen = read(&store, &metas);
    seen.extend(read(&store, &rest));
    store.release(&ids(&metas));
    store.release(&ids(&rest));
    while seen.len() < 400_000 {
        let metas = store.allocate(0, u64::MAX);
        seen.extend(read(&store, &metas));
        // Again, as another attempt does.
        assert_eq!(values(&store.get(metas[0].id).expect("allocated")).len(), 10_000);
        store.release(&ids(&metas));
    }
    assert_eq!(seen, (0..400_000).collect::<Vec<_>>());
    assert_eq!((spill.counts().disk_bytes, files(folder.path()).len()), (0, 0));
}

#[test]
fn single_lines_are_gathered_before_they_go_to_disk() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let spill = spill_in(folder.path(), 1 << 30);
    let store = BlockStore::spilling(1 << 20, &spill);
    (0..2_000).for_each(|value| push(&store, 0, numbers([value])));
    let first = store.allocate(0, u64::MAX);
    // All that waited belongs to a batch now, as far as it may.
    (2_000..20_000).for_each(|value| push(&store, 0, numbers([value])));
    let rest = store.waiting(0);
    assert!(rest.blocks < 60, "{rest:?}");
    let mut seen = read(&store, &first);
    while seen.len() < 20_000 {
        seen.extend(read(&store, &store.allocate(0, u64::MAX)));
    }
    assert_eq!(seen, (0..20_000).collect::<Vec<_>>());
}

#[test]
fn a_push_waits_for_the_disk_when_the_quota_is_spent_and_goes_on_when_blocks_go() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let spill = spill_in(folder.path(), 1 << 20);
    let store = Arc::new(BlockStore::spilling(1 << 20, &spill));
    let pusher = {
        let store = Arc::clone(&store);
        thread::spawn(move || (0..40).for_each(|block| push(&store, 0, noise(block, 10_000))))
    };
    // A megabyte in memory, half of one on disk.
    wait_until(|| !store.lock().line.is_empty() && store.lock().spilling.has_failed());
    assert!(store.waiting(0).rows < 200_000);
    let mut seen = Vec::new();
    while seen.len() < 400_000 {
        assert!(store.wait_for_rows(PATIENCE));
        let metas = store.allocate(0, 400_000);
        seen.extend(read(&store, &metas));
        store.release(&ids(&metas));
        assert!(store.held().bytes <= 1 << 20 && spill.counts().disk_bytes <= 512 << 10);
    }
    pusher.join().expect("does not panic");
    assert_eq!(seen, (0..40).flat_map(|block| values(&noise(block, 10_000))).collect::<Vec<_>>());
    assert_eq!(spill.counts().disk_bytes, 0);
}

#[test]
fn a_push_waits_for_a_full_disk_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let fails = Arc::new(AtomicBool::new(true));
    let spill = failing_spill_in(folder.path(), 1 << 30, &fails);
    let store = Arc::new(BlockStore::spilling(100_000, &spill));
    push(&store, 0, numbers(0..10_000));
    let pusher = {
        let store = Arc::clone(&store);
        thread::spawn(move || push(&store, 0, numbers(10_000..20_000)))
    };
    wait_until(|| store.lock().spilling.has_failed());
    assert_eq!((store.waiting(0).rows, spill.counts().rows), (10_000, 0));
    fails.store(false, Ordering::Relaxed);
    pusher.join().expect("does not panic");
    assert!(!store.lock().spilling.has_failed());
    let metas = [store.allocate(0, u64::MAX), store.allocate(0, u64::MAX)].concat();
    assert_eq!(read(&store, &metas), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn rows_go_to_disk_themselves_when_all_that_is_in_memory_belongs_to_a_batch() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let spill = spill_in(folder.path(), 1 << 30);
    let store = BlockStore::spilling(100_000, &spill);
    push(&store, 0, numbers(0..10_000));
    let batch = store.allocate(0, u64::MAX);
    push(&store, 0, numbers(10_000..20_000));
    push(&store, 1, numbers([7]));
    assert_eq!(spill.counts().rows, 10_000);
    assert_eq!(read(&store, &store.allocate(0, u64::MAX)), (10_000..20_000).collect::<Vec<_>>());
    assert_eq!(read(&store, &batch), (0..10_000).collect::<Vec<_>>());
}

#[test]
fn a_block_that_was_damaged_on_disk_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let spill = spill_in(folder.path(), 1 << 30);
    let store = BlockStore::spilling(100_000, &spill);
    push(&store, 0, numbers(0..10_000));
    push(&store, 0, numbers(10_000..20_000));
    for path in files(folder.path()) {
        std::fs::write(&path, vec![7; std::fs::metadata(&path).expect("a file").len() as usize]).expect("it is ours");
    }
    let metas = [store.allocate(0, u64::MAX), store.allocate(0, u64::MAX)].concat();
    let results: Vec<_> = metas.iter().map(|meta| store.get(meta.id)).collect();
    assert!(results.iter().any(Result::is_ok));
    let error = results.into_iter().find_map(Result::err).expect("one is damaged");
    assert!(error.downcast_ref::<crate::spill::SpillError>().is_some(), "{error}");
}
