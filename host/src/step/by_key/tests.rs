//! With little memory steps give what they give with much: the same rows in the same order.

use proptest::prelude::*;

use super::*;
use crate::error::Explain;
use crate::spill::testing::{failing_spill_in, files, spill_in};
use crate::spill::{BatchMemory, SpillError};
use crate::step::count::Count;
use crate::step::definition::StepDefinition;
use crate::step::distinct::Distinct;
use crate::step::sort::Sort;
use crate::step::test_rows::{Cut, batch, one, schema, settings, text};
use crate::step::testing::{DefinitionRun, texts};
use crate::step::top_k::TopK;

/// The steps that are compared.
fn steps() -> Vec<Arc<dyn StepDefinition>> {
    vec![
        Arc::new(Count::ByValue),
        Arc::new(Distinct { by: Some(vec!["key".into()]) }),
        Arc::new(Distinct { by: None }),
        Arc::new(TopK { k: 2, by: vec!["key".into()], order: vec!["value desc".into()], partitions: None }),
        Arc::new(Sort { order: vec!["value desc".into(), "key".into()], partitions: Some(3) }),
        Arc::new(Sort { order: vec!["key".into()], partitions: None }),
    ]
}

/// Keys from few to as many as there are rows.
fn rows(n_rows: usize, n_keys: u8, seed: u64) -> Cut {
    let hash = |n: usize, salt: u64| xxhash_rust::xxh3::xxh3_64_with_seed(&n.to_le_bytes(), seed + salt);
    let row = |n: usize| {
        let (key, value) = (hash(n, 0), hash(n, 1));
        let key = (!key.is_multiple_of(17)).then_some((key % u64::from(n_keys)) as u8);
        (key, (value % 13 != 0).then_some((value % 50) as i64))
    };
    let rows: Vec<_> = (0..n_rows).map(row).collect();
    rows.chunks(n_rows / 3 + 1).map(|task| task.chunks(50).map(<[_]>::to_vec).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn law_little_memory_gives_the_same_rows_in_the_same_order(
        n_rows in 1usize..3_000,
        n_keys in prop::sample::select(vec![1_u8, 3, 200]),
        seed in any::<u32>(),
        memory_bytes in prop::sample::select(vec![1_000_u64, 10_000, 60_000]),
        step in 0..steps().len(),
    ) {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let spill = spill_in(folder.path(), 1 << 30);
        let memory = BatchMemory::new(Some(spill.clone()), memory_bytes, 1, 1);
        let cut = rows(n_rows, n_keys, u64::from(seed));
        let plan = || DefinitionRun::plan(&*steps()[step], &[schema()], &settings(3), false).expect("it fits");
        let expected: Vec<Vec<String>> =
            plan().batch(&one(&cut)).expect("it runs").iter().map(|rows| texts(rows)).collect();
        let found: Vec<Vec<String>> =
            plan().within(&memory).batch(&one(&cut)).expect("it runs").iter().map(|rows| texts(rows)).collect();
        prop_assert_eq!(&found, &expected);
        if n_rows > 1_000 && n_keys == 200 && memory_bytes == 1_000 {
            prop_assert!(spill.counts().rows_total > 0, "it was to spill");
        }
        prop_assert_eq!((spill.counts().rows, spill.counts().disk_bytes, memory.held_bytes()), (0, 0, 0));
        prop_assert_eq!(files(folder.path()).len(), 0);
    }
}

#[test]
fn parts_that_are_too_large_are_parted_again() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let spill = spill_in(folder.path(), 1 << 30);
    // 250 bytes for the step: four parts are not enough for 30,000 rows.
    let memory = BatchMemory::new(Some(spill.clone()), 1_000, 1, 1);
    let step = Distinct { by: None };
    let plan = || DefinitionRun::plan(&step, &[schema()], &settings(1), false).expect("it fits");
    let cut = rows(30_000, 250, 7);
    let expected = plan().batch(&one(&cut)).expect("it runs").concat();
    let found = plan().within(&memory).batch(&one(&cut)).expect("it runs").concat();
    assert_eq!(texts(&found), texts(&expected));
    // In the shuffle, in the parts, in their parts, and what comes out.
    assert!(spill.counts().rows_total >= 4 * 30_000, "{:?}", spill.counts());
}

#[test]
fn one_large_key_is_run_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let spill = spill_in(folder.path(), 1 << 30);
    let memory = BatchMemory::new(Some(spill), 10_000, 1, 1);
    let step = TopK { k: 3, by: vec!["key".into()], order: vec!["n".into()], partitions: None };
    let mut run = DefinitionRun::plan(&step, &[schema()], &settings(1), false).expect("it fits").within(&memory);
    // Of which the half before the shuffle gives three a task.
    let tasks = (0..2_000).map(|n| vec![batch(&[(Some(1), Some(n)); 3], 3 * n as usize)]).collect();
    let batch = crate::step::testing::TestBatch { sides: vec![tasks], ..Default::default() };
    let found = texts(&run.batch(&batch).expect("it runs").concat());
    assert_eq!(found, (0..3).map(|n| text(&((Some(1), Some(0)), n))).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_fails_the_batch_in_a_way_that_passes() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let spill = failing_spill_in(folder.path(), 1 << 30, &fails);
    let memory = BatchMemory::new(Some(spill.clone()), 10_000, 1, 1);
    let cut = rows(3_000, 200, 1);
    for step in steps() {
        let plan = || DefinitionRun::plan(&*step, &[schema()], &settings(2), false).expect("it fits");
        let mut run = plan().within(&memory);
        fails.store(true, std::sync::atomic::Ordering::Relaxed);
        let error = run.batch(&one(&cut)).expect_err("the disk is full");
        assert_eq!(error.retry(), crate::error::Retry::UntilItPasses);
        assert!(error.downcast_ref::<SpillError>().is_some_and(|error| error.hint().is_some()), "{error}");
        assert_eq!((spill.counts().rows, memory.held_bytes(), files(folder.path()).len()), (0, 0, 0));
        fails.store(false, std::sync::atomic::Ordering::Relaxed);
        let found = run.batch(&one(&cut)).expect("there is room");
        let expected = plan().batch(&one(&cut)).expect("it runs");
        assert_eq!(texts(&found.concat()), texts(&expected.concat()));
    }
}
