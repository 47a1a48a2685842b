//! Joins of the rows of a batch.

use super::super::JoinScope;
use super::*;
use crate::error::Error;
use crate::step::definition::Body;
use crate::step::testing::task;

proptest! {
    #[test]
    fn rows_of_a_batch_are_joined_as_by_nested_loops(join_type in join_type(), batches in batches(), cuts in cuts()) {
        let (given, n_late, n_kept) = run(&options(join_type, JoinScope::Batch), &batches, &cuts);
        prop_assert_eq!((n_late, n_kept), (0, 0));
        for (batch, given) in batches.iter().zip(given) {
            let [lefts, rights] = [0, 1].map(|side| batch.sides[side].iter().map(|row| (*row, None)).collect::<Vec<_>>());
            prop_assert_eq!(given, model(join_type, &lefts, &rights, |_, _| true));
        }
    }
}

#[test]
fn left_rows_keep_their_order_and_so_do_the_rows_that_match_one() {
    let row = |key: u8, id: i64| Row { key: Some(key), id, time: None };
    let batch = TestBatch {
        sides: vec![
            vec![vec![record_batch(0, &[row(0, 1), row(2, 2)]), record_batch(0, &[row(0, 3)])]],
            vec![vec![record_batch(1, &[row(0, 10)])], vec![record_batch(1, &[row(4, 12), row(0, 11)])]],
        ],
        ..TestBatch::default()
    };
    let given = planned(&options(JoinType::Full, JoinScope::Batch), 1).batch(&batch).expect("it runs");
    let pairs: Vec<_> = outs(&given[0]).into_iter().map(|out| (out.1, out.2)).collect();
    let expected = [(1, 10), (1, 11), (2, 0), (3, 10), (3, 11), (0, 12)];
    assert_eq!(
        pairs,
        expected.map(|(left, right)| (Some(left).filter(|id| *id > 0), Some(right).filter(|id| *id > 0)))
    );
}

/// Runs one partition, and shows every chunk to `see`.
fn run_partition(join_type: JoinType, sides: [RecordBatch; 2], mut see: impl FnMut(&RecordBatch)) {
    let planned = planned(&options(join_type, JoinScope::Batch), 1);
    let Body::Gather(gather) = &planned.built.body else { panic!("a join of streams has a shuffle") };
    let mut step = gather.factory.start(&task(0)).expect("it starts");
    let mut emit = |rows: RecordBatch| -> Result<(), Error> {
        see(&rows);
        Ok(())
    };
    for (side, rows) in sides.into_iter().enumerate() {
        step.push_side(side, rows, &mut emit).expect("it runs");
    }
    step.finish(&mut emit).expect("it runs");
}

#[test]
fn the_product_of_a_key_that_all_rows_share_comes_in_chunks() {
    let rows = |n: i64| (0..n).map(|id| Row { key: Some(2), id, time: None }).collect::<Vec<_>>();
    let (mut n_rows, mut sum) = (0, 0);
    run_partition(JoinType::Inner, [record_batch(0, &rows(20_000)), record_batch(1, &rows(1_000))], |rows| {
        assert!(rows.num_rows() <= 65_536);
        n_rows += rows.num_rows();
        let ids = |name: &str| rows.column_by_name(name).expect("it is there").as_primitive::<Int64Type>().clone();
        sum += ids("l").values().first().expect("a row") % 2 + ids("r").values().iter().sum::<i64>();
    });
    assert_eq!(n_rows, 20_000_000);
    assert!(sum > 20_000 * 499_500);
}

#[test]
fn long_rows_make_short_chunks() {
    let row = |id: i64| Row { key: Some(2), id, time: None };
    let long = "x".repeat(1 << 20);
    let text: ArrayRef = Arc::new(StringArray::from_iter_values([long.as_str(), "short"]));
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(["2", "2"]));
    let right = RecordBatch::try_from_iter([("k", keys), ("text", text)]).expect("columns");
    let left = record_batch(0, &(0..100).map(row).collect::<Vec<_>>());
    let definition = JoinDefinition(options(JoinType::Inner, JoinScope::Batch));
    let planned = DefinitionRun::plan(&definition, &[left.schema(), right.schema()], &Settings::default(), false);
    let mut planned = planned.expect("a join that fits");
    let batch = TestBatch { sides: vec![vec![vec![left]], vec![vec![right]]], ..TestBatch::default() };
    let given = planned.batch(&batch).expect("it runs").concat();
    assert_eq!(given.iter().map(RecordBatch::num_rows).sum::<usize>(), 200);
    assert!(given.len() >= 6, "100 MiB in {} chunks", given.len());
}
