//! Built-in aggregates against a straightforward model.

use std::collections::BTreeMap;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int8Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;

use super::*;
use crate::step::testing::{cut_into_tasks, rows, run_keyed, texts};

fn resolve(input: &RecordBatch, by: &[&str], select: &[&str]) -> Result<AggregateSpec, Vec<SpecProblem>> {
    let by: Vec<String> = by.iter().map(|name| (*name).into()).collect();
    // Each output column is named as its place: c0, c1, …
    let select: Vec<_> = select.iter().enumerate().map(|(i, text)| (format!("c{i}"), (*text).to_string())).collect();
    AggregateSpec::resolve("totals", &input.schema(), &by, &select)
}

fn run(input: &RecordBatch, by: &[&str], select: &[&str]) -> Result<Vec<String>, Error> {
    let spec = resolve(input, by, select).expect("it is right");
    Ok(texts(&run_keyed(&spec, &[vec![input.clone()]], 1)?[0]))
}

#[track_caller]
fn check(column: impl arrow::array::Array + 'static, select: &[&str], expected: &str) {
    let input = rows(vec![("c", Arc::new(column) as ArrayRef)]);
    // In one piece, and row by row in two tasks.
    assert_eq!(run(&input, &[], select).expect("it runs"), [expected]);
    let spec = resolve(&input, &[], select).expect("it is right");
    let results = run_keyed(&spec, &cut_into_tasks(&input, &[1], 2), 3).expect("it runs");
    assert_eq!(texts(&results[0]), [expected]);
}

const ALL: [&str; 6] = ["count(*)", "count(c)", "sum(c)", "min(c)", "max(c)", "avg(c)"];

#[test]
fn numbers_are_aggregated_as_in_sql() {
    check(Int64Array::from(vec![Some(4), None, Some(-6)]), &ALL, "3|2|-2|-6|4|-1.0");
    check(Int8Array::from(vec![127, 127, -128]), &ALL, "3|3|126|-128|127|42.0");
    check(UInt64Array::from(vec![u64::MAX - 1, 1]), &ALL[..5], "2|2|18446744073709551615|1|18446744073709551614");
    check(Float64Array::from(vec![0.5, 1.0]), &ALL, "2|2|1.5|0.5|1.0|0.75");
    let decimals = Decimal128Array::from(vec![Some(125), Some(250), None]).with_precision_and_scale(5, 2);
    check(decimals.expect("it fits"), &ALL, "3|2|3.75|1.25|2.50|1.875000");
}

#[test]
fn nan_is_the_greatest_number() {
    check(Float64Array::from(vec![f64::INFINITY, -f64::NAN, 1.0]), &["min(c)", "max(c)"], "1.0|NaN");
    check(Float64Array::from(vec![f64::NAN]), &["min(c)"], "NaN");
}

#[test]
fn what_is_not_a_number_has_extremes_and_counts() {
    let select = ["count(c)", "min(c)", "max(c)"];
    check(StringArray::from(vec![Some("tide"), None, Some("mill"), Some("")]), &select, "3||tide");
    check(BooleanArray::from(vec![Some(true), None, Some(false)]), &select, "2|false|true");
    check(TimestampSecondArray::from(vec![60, 0]), &select, "2|1970-01-01T00:00:00|1970-01-01T00:01:00");
    let dictionary: DictionaryArray<Int32Type> = [Some("b"), None, Some("a")].into_iter().collect();
    check(dictionary, &select, "2|a|b");
}

#[test]
fn of_no_value_only_counts_are_not_null() {
    check(Int32Array::from(vec![None, None]), &ALL, "2|0|NULL|NULL|NULL|NULL");
    let empty = rows(vec![("c", Arc::new(Int64Array::from(Vec::<i64>::new())) as ArrayRef)]);
    let spec = resolve(&empty, &[], &ALL).expect("it is right");
    let results = run_keyed(&spec, &[vec![]], 4).expect("it runs");
    assert_eq!(texts(&results[0]), ["0|0|NULL|NULL|NULL|NULL"]);
}

#[test]
fn with_keys_no_rows_have_no_result() {
    let empty = rows(vec![("c", Arc::new(Int64Array::from(Vec::<i64>::new())) as ArrayRef)]);
    assert!(run(&empty, &["c"], &["count(*)"]).expect("it runs").is_empty());
}

#[test]
fn results_come_in_the_order_of_first_appearance() {
    let words = StringArray::from(vec![Some("tide"), Some("mill"), None, Some("tide")]);
    let input = rows(vec![("word", Arc::new(words) as ArrayRef)]);
    assert_eq!(run(&input, &["word"], &["count(*)"]).expect("it runs"), ["tide|2", "mill|1", "NULL|1"]);
    assert_eq!(run(&input, &["word"], &[]).expect("it runs"), ["tide", "mill", "NULL"]);
}

#[test]
fn a_sum_that_does_not_fit_is_an_error_whatever_the_order() {
    // It would overflow on the way and fits at the end.
    check(Int64Array::from(vec![i64::MAX, 1, -1]), &["sum(c)"], "9223372036854775807");
    let input = rows(vec![("c", Arc::new(Int64Array::from(vec![i64::MAX, 1])) as ArrayRef)]);
    let error = run(&input, &[], &["sum(c)"]).expect_err("it does not fit");
    assert_eq!(
        error.report(),
        "error: `sum(c)` overflowed in column `c0` of step `totals`: a value does not fit Int64\n\n\
         hint: Give `sum(c)` a column of type float64 or decimal128, which hold larger numbers.\n"
    );
    let large = Decimal128Array::from(vec![10i128.pow(38) - 1; 3]).with_precision_and_scale(38, 0).expect("it fits");
    let input = rows(vec![("c", Arc::new(large) as ArrayRef)]);
    assert!(run(&input, &[], &["sum(c)"]).is_err());
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let words: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let input = rows(vec![("word", words.clone()), ("other", words)]);
    let select = [
        ("count", "cuont(*)"),
        ("total", "sum(word)"),
        ("least", "min(wrod)"),
        ("word", "count(*)"),
        ("fine", "max(other)"),
    ];
    let select: Vec<_> = select.iter().map(|(name, text)| ((*name).to_string(), (*text).to_string())).collect();
    let by = ["word".to_string(), "wodr".into()];
    let problems = AggregateSpec::resolve("totals", &input.schema(), &by, &select).expect_err("it is wrong");
    let lines: Vec<_> = problems
        .iter()
        .map(|it| format!("{}: {} ({})", it.key, it.message, it.hint.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(
        lines,
        [
            "by: the input has no column `wodr` (Did you mean `word`?)",
            "select.count: there is no aggregate `cuont` (Did you mean `count`?)",
            "select.total: `sum(word)` cannot work: column `word` has type Utf8 \
             (It needs integers, floats or decimals of up to 128 bits.)",
            "select.least: the input has no column `wrod` (Did you mean `word`?)",
            "select.word: the output would have two columns `word` (Give the aggregate another name.)",
        ]
    );
    let nothing = AggregateSpec::resolve("totals", &input.schema(), &[], &[]).expect_err("nothing to do");
    assert_eq!(nothing[0].message, "there is nothing to aggregate");
}

type Sample = (u8, Option<i32>, String);

/// Key, then `count(*)`, `count(n)`, `sum(n)`, `min(n)`, `max(n)`, `avg(n)`, `min(word)`, `max(word)`.
fn model(data: &[Sample]) -> Vec<String> {
    let mut groups: BTreeMap<u8, Vec<&Sample>> = BTreeMap::new();
    data.iter().for_each(|row| groups.entry(row.0).or_default().push(row));
    let mut lines: Vec<_> = groups
        .iter()
        .map(|(key, group)| {
            let numbers: Vec<i64> = group.iter().filter_map(|row| row.1.map(i64::from)).collect();
            let sum: i64 = numbers.iter().sum();
            let or_null = |text: Option<String>| text.unwrap_or("NULL".into());
            let some = (!numbers.is_empty()).then_some(());
            [
                key.to_string(),
                group.len().to_string(),
                numbers.len().to_string(),
                or_null(some.map(|()| sum.to_string())),
                or_null(numbers.iter().min().map(i64::to_string)),
                or_null(numbers.iter().max().map(i64::to_string)),
                or_null(some.map(|()| format!("{:?}", sum as f64 / numbers.len() as f64))),
                group.iter().map(|row| row.2.clone()).min().unwrap_or_default(),
                group.iter().map(|row| row.2.clone()).max().unwrap_or_default(),
            ]
            .join("|")
        })
        .collect();
    lines.sort();
    lines
}

proptest! {
    #[test]
    fn results_depend_on_the_rows_alone(
        data in proptest::collection::vec((0u8..20, proptest::option::of(-1000i32..1000), "[a-c]{0,2}".prop_map(String::from)), 1..300),
        cuts in proptest::collection::vec(1usize..40, 1..5),
        n_tasks in 1usize..4,
        n_partitions in 1u32..5,
    ) {
        let keys: Int64Array = data.iter().map(|row| Some(i64::from(row.0))).collect();
        let numbers: Int32Array = data.iter().map(|row| row.1).collect();
        let words: StringArray = data.iter().map(|row| Some(row.2.as_str())).collect();
        let input = rows(vec![
            ("n", Arc::new(numbers) as ArrayRef),
            ("key", Arc::new(keys)),
            ("word", Arc::new(words)),
        ]);
        let select =
            ["count(*)", "count(n)", "sum(n)", "min(n)", "max(n)", "avg(n)", "min(word)", "max(word)"];
        let spec = resolve(&input, &["key"], &select).expect("it is right");
        let results = run_keyed(&spec, &cut_into_tasks(&input, &cuts, n_tasks), n_partitions).expect("it runs");
        let mut seen: Vec<_> = results.iter().flat_map(|partition| texts(partition)).collect();
        seen.sort();
        prop_assert_eq!(seen, model(&data));
    }
}
