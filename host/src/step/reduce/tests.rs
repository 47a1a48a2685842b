//! Plugin reducers against a straightforward model.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::step::keyed::KeyedStep;
use crate::step::testing::{
    Registered, SumJoinMean, bounds, cut_into_tasks, info, rows, run_half, run_keyed, task, texts,
};

fn open(operator: &Arc<SumJoinMean>, input: &RecordBatch, by: &[&str], rows_per_call: u32) -> ReduceSpec {
    let by: Vec<String> = by.iter().map(|name| (*name).into()).collect();
    let operator = Arc::new(Registered(operator.clone()));
    ReduceSpec::open(operator, info(), &input.schema(), &by, bounds(rows_per_call), Arc::default()).expect("it opens")
}

fn sample(data: &[(Option<u8>, i64, u8)]) -> RecordBatch {
    let keys: StringArray = data.iter().map(|row| row.0.map(|key| format!("key-{key}-of-the-mill"))).collect();
    let numbers: Int64Array = data.iter().map(|row| Some(row.1)).collect();
    let letters: StringArray = data.iter().map(|row| Some(char::from(b'a' + row.2 % 26).to_string())).collect();
    rows(vec![("n", Arc::new(numbers)), ("key", Arc::new(keys)), ("letters", Arc::new(letters))])
}

/// Key, sum, letters in order.
fn model(data: &[(Option<u8>, i64, u8)]) -> Vec<String> {
    let mut groups: BTreeMap<Option<u8>, (i64, String)> = BTreeMap::new();
    for (key, number, letter) in data {
        let group = groups.entry(*key).or_default();
        group.0 += number;
        group.1.push(char::from(b'a' + letter % 26));
    }
    let key = |key: Option<u8>| key.map_or("NULL".into(), |key| format!("key-{key}-of-the-mill"));
    let mut rows: Vec<_> = groups.into_iter().map(|(k, (sum, text))| format!("{}|{sum}|{text}", key(k))).collect();
    rows.sort();
    rows
}

fn sorted(results: Vec<Vec<RecordBatch>>) -> Vec<String> {
    let mut texts: Vec<_> = results.iter().flat_map(|partition| texts(partition)).collect();
    texts.sort();
    texts
}

proptest! {
    /// The law: the result does not depend on chunks, tasks, partitions, nor on outputs that were too large.
    #[test]
    fn results_depend_on_the_rows_alone(
        data in proptest::collection::vec((proptest::option::of(0u8..20), -1000i64..1000, any::<u8>()), 1..300),
        cuts in proptest::collection::vec(1usize..40, 1..5),
        n_tasks in 1usize..4,
        n_partitions in 1u32..5,
        rows_per_call in 1u32..60,
        groups_max in 1usize..30,
    ) {
        let operator = Arc::new(SumJoinMean { groups_max, ..SumJoinMean::new() });
        let input = sample(&data);
        let spec = open(&operator, &input, &["key"], rows_per_call);
        let results = run_keyed(&spec, &cut_into_tasks(&input, &cuts, n_tasks), n_partitions).expect("it runs");
        prop_assert_eq!(sorted(results), model(&data));
        // Two rows at least can be merged, whatever the bound.
        prop_assert!(operator.rows_max_seen.load(Ordering::Relaxed) <= u64::from(rows_per_call).max(2));
    }
}

#[test]
fn keys_come_first_and_in_the_order_of_by_and_of_appearance() {
    let a: ArrayRef = Arc::new(Int64Array::from(vec![2, 1, 2, 1]));
    let b: ArrayRef = Arc::new(StringArray::from(vec!["y", "x", "y", "z"]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let input = rows(vec![("a", a), ("n", n), ("b", b)]);
    let spec = open(&Arc::new(SumJoinMean::new()), &input, &["b", "a"], 100);
    let results = run_keyed(&spec, &[vec![input]], 1).expect("it runs");
    assert_eq!(texts(&results[0]), ["y|2|4", "x|1|2", "z|1|4"]);
    assert_eq!(spec.reads(), ["n"]);
}

#[test]
fn without_keys_all_rows_are_one_and_no_rows_are_none() {
    let input = rows(vec![("n", Arc::new(Int64Array::from_iter_values(1..=100)))]);
    let spec = open(&Arc::new(SumJoinMean::new()), &input, &[], 7);
    assert!(spec.is_global());
    let tasks = cut_into_tasks(&input, &[9, 1], 3);
    assert_eq!(texts(&run_keyed(&spec, &tasks, 4).expect("it runs")[0]), ["5050"]);
    assert!(run_keyed(&spec, &[vec![]], 4).expect("it runs")[0].is_empty());
}

#[test]
fn dictionaries_come_out_plain() {
    let key: DictionaryArray<Int32Type> = ["b", "a", "b"].into_iter().collect();
    let input = rows(vec![("key", Arc::new(key)), ("n", Arc::new(Int64Array::from(vec![1, 2, 3])))]);
    let spec = open(&Arc::new(SumJoinMean::new()), &input, &["key"], 100);
    let results = run_keyed(&spec, &[vec![input.slice(0, 1), input.slice(1, 2)]], 1).expect("it runs");
    assert_eq!(texts(&results[0]), ["b|4", "a|2"]);
}

#[test]
fn instances_are_kept_from_batch_to_batch() {
    let operator = Arc::new(SumJoinMean::new());
    let input = sample(&[(Some(1), 1, 0), (Some(1), 2, 1)]);
    let spec = open(&operator, &input, &["key"], 100);
    let combine = spec.combine();
    for _ in 0..3 {
        run_half(&*combine, 0, std::slice::from_ref(&input)).expect("it runs");
    }
    // Once to check the step, once for the partition.
    assert_eq!(operator.opened.load(Ordering::Relaxed), 2);
}

#[test]
fn a_native_operator_that_lies_is_named() {
    let operator = Arc::new(SumJoinMean { lies: true, ..SumJoinMean::new() });
    let input = sample(&[(Some(1), 1, 0), (Some(2), 2, 1)]);
    let spec = open(&operator, &input, &["key"], 100);
    let error: Error = run_keyed(&spec, &[vec![input]], 1).expect_err("a row is missing");
    assert_eq!(
        error.to_string(),
        "`sum-join-mean` in step `totals`, batch 7, partition 0 returned a batch against the contract: \
         1 rows for 2 groups: it must be one each"
    );
}

#[test]
fn one_group_whose_output_is_too_large_is_an_error() {
    let operator = Arc::new(SumJoinMean { groups_max: 0, ..SumJoinMean::new() });
    let input = sample(&[(Some(1), 1, 0), (Some(2), 2, 1)]);
    let spec = open(&operator, &input, &["key"], 100);
    let error = run_keyed(&spec, &[vec![input]], 1).expect_err("no output is small enough");
    assert!(matches!(error.downcast_ref::<CallError>(), Some(error) if error.is_output_too_large()));
}

#[test]
fn mistakes_in_by_are_all_reported() {
    let input = sample(&[]);
    let by = ["kye".to_string(), "n".into(), "n".into()];
    let operator = Arc::new(Registered(Arc::new(SumJoinMean::new())));
    let opened = ReduceSpec::open(operator, info(), &input.schema(), &by, bounds(1), Arc::default());
    let Err(KeyedOpenError::Spec(problems)) = opened else { panic!("it must not open") };
    let messages: Vec<_> = problems.iter().map(|it| (it.message.as_str(), it.hint.as_deref())).collect();
    assert_eq!(
        messages,
        [("the input has no column `kye`", Some("Did you mean `key`?")), ("column `n` is named twice", None),]
    );
}

#[test]
fn a_batch_that_is_given_up_makes_no_more_calls() {
    let operator = Arc::new(SumJoinMean::new());
    let input = sample(&[(Some(1), 1, 0), (Some(1), 2, 1)]);
    let spec = open(&operator, &input, &["key"], 100);
    let task = task(0);
    let mut step = spec.combine().start(&task).expect("it starts");
    task.cancelled.store(true, Ordering::Relaxed);
    let mut emit = |_| Ok(());
    let error = step.push(input, &mut emit).and_then(|()| step.finish(&mut emit)).expect_err("it was given up");
    assert!(error.downcast_ref::<crate::task::pipeline::Cancelled>().is_some());
    assert_eq!(operator.rows_seen.load(Ordering::Relaxed), 0);
}
