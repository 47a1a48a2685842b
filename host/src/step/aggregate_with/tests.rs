//! Plugin aggregators against a straightforward model.

use std::collections::BTreeMap;

use arrow::array::{Int32Array, Int64Array};
use proptest::prelude::*;

use super::*;
use crate::step::keyed::KeyedStep;
use crate::step::testing::{Registered, SumJoinMean, bounds, cut_into_tasks, info, rows, run_keyed, texts};

fn open(input: &RecordBatch, by: &[&str], rows_per_call: u32, groups_max: usize) -> AggregateWithSpec {
    let by: Vec<String> = by.iter().map(|name| (*name).into()).collect();
    let operator = Arc::new(Registered(Arc::new(SumJoinMean { groups_max, ..SumJoinMean::new() })));
    AggregateWithSpec::open(operator, info(), &input.schema(), &by, bounds(rows_per_call), Arc::default())
        .expect("it opens")
}

fn sample(data: &[(i32, i64)]) -> RecordBatch {
    let keys: Int32Array = data.iter().map(|row| Some(row.0)).collect();
    let numbers: Int64Array = data.iter().map(|row| Some(row.1)).collect();
    let unread: Int64Array = data.iter().map(|_| None).collect();
    rows(vec![("key", Arc::new(keys)), ("n", Arc::new(numbers)), ("unread", Arc::new(unread))])
}

proptest! {
    #[test]
    fn results_depend_on_the_rows_alone(
        data in proptest::collection::vec((0i32..20, -1000i64..1000), 1..300),
        cuts in proptest::collection::vec(1usize..40, 1..5),
        n_tasks in 1usize..4,
        n_partitions in 1u32..5,
        rows_per_call in 1u32..60,
        groups_max in 1usize..30,
    ) {
        let input = sample(&data);
        let spec = open(&input, &["key"], rows_per_call, groups_max);
        let results = run_keyed(&spec, &cut_into_tasks(&input, &cuts, n_tasks), n_partitions).expect("it runs");
        let mut seen: Vec<_> = results.iter().flat_map(|partition| texts(partition)).collect();
        seen.sort();

        let mut groups: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        for (key, number) in &data {
            let group = groups.entry(*key).or_default();
            *group = (group.0 + number, group.1 + 1);
        }
        let mut expected: Vec<_> =
            groups.iter().map(|(key, (sum, n))| format!("{key}|{:?}", *sum as f64 / *n as f64)).collect();
        expected.sort();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn only_what_is_read_is_accumulated() {
    let input = sample(&[(1, 2), (1, 4)]);
    let spec = open(&input, &["key"], 10, 10);
    assert_eq!(spec.reads(), ["n"]);
    let names = |schema: SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(spec.partial_schema()), ["key", "sum", "count"]);
    assert_eq!(names(spec.output_schema()), ["key", "mean"]);
    assert_eq!(texts(&run_keyed(&spec, &[vec![input]], 1).expect("it runs")[0]), ["1|3.0"]);
}

#[test]
fn a_result_column_must_not_be_a_key() {
    let input = rows(vec![("mean", Arc::new(Int64Array::from(vec![1]))), ("n", Arc::new(Int64Array::from(vec![1])))]);
    let operator = Arc::new(Registered(Arc::new(SumJoinMean::new())));
    let opened =
        AggregateWithSpec::open(operator, info(), &input.schema(), &["mean".into()], bounds(1), Arc::default());
    let Err(KeyedOpenError::Spec(problems)) = opened else { panic!("it must not open") };
    assert_eq!(problems[0].message, "`sum-join-mean` gives a column `mean`, which is also a key");
}
