//! Built-in aggregates against a straightforward model.

use std::collections::BTreeMap;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int8Array, Int32Array, Int64Array,
    IntervalYearMonthArray, ListArray, RecordBatch, StringArray, StructArray, TimestampSecondArray, UInt64Array,
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
    let others = [
        "collect_list(c)",
        "collect_set(c)",
        "count(distinct c)",
        "approx_distinct(c)",
        "sum(distinct c)",
        "percentile(c, [0.5])",
        "approx_percentile(c, 0.5)",
        "var_pop(c)",
        "first(c)",
        "last(c order by c)",
    ];
    let expected = "[]|[]|0|0|NULL|NULL|NULL|NULL|NULL|NULL";
    check(Int32Array::from(vec![None, None]), &others, expected);
    let spec = resolve(&empty, &[], &others).expect("it is right");
    assert_eq!(texts(&run_keyed(&spec, &[vec![]], 4).expect("it runs")[0]), [expected]);
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
        "error: `sum(c)` overflowed in column `c0` of step `totals`: a value does not fit int64\n\n\
         hint: Give `sum(c)` a column of type float64 or decimal, which hold larger numbers.\n"
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
            "select.total: `sum(word)` cannot work: column `word` has type utf8 \
             (It needs integers, floats or decimals of up to 128 bits; `count`, `first` and `collect_list` take \
             columns of any type.)",
            "select.least: the input has no column `wrod` (Did you mean `word`?)",
            "select.word: the output would have two columns `word` (Give the aggregate another name.)",
        ]
    );
    let nothing = AggregateSpec::resolve("totals", &input.schema(), &[], &[]).expect_err("nothing to do");
    assert_eq!(nothing[0].message, "there is nothing to aggregate");
}

/// Columns `c`, and `t` to go by.
#[track_caller]
fn check_by(c: impl arrow::array::Array + 'static, t: Vec<Option<i64>>, select: &[&str], expected: &str) {
    let input = rows(vec![("c", Arc::new(c) as ArrayRef), ("t", Arc::new(Int64Array::from(t)))]);
    for (cut, n_tasks) in [(1_000, 1), (1, 2), (2, 1)] {
        let spec = resolve(&input, &[], select).expect("it is right");
        let results = run_keyed(&spec, &cut_into_tasks(&input, &[cut], n_tasks), 1).expect("it runs");
        assert_eq!(texts(&results[0]), [expected], "in cuts of {cut}");
    }
}

#[test]
fn the_first_and_the_last_row_are_chosen_with_nulls_or_without() {
    let select = ["first(c)", "last(c)", "first(c ignore nulls)", "last(c ignore nulls)", "any_value(c)"];
    check(Int64Array::from(vec![None, Some(1), Some(2), None]), &select, "NULL|NULL|1|2|1");
    check(StringArray::from(vec![None, None::<&str>]), &select, "NULL|NULL|NULL|NULL|NULL");
    check(BooleanArray::from(vec![true, false]), &select, "true|false|true|false|true");
}

#[test]
fn rows_are_chosen_by_another_column() {
    let select = [
        "first(c order by t)",
        "last(c order by t)",
        "first(c order by t desc)",
        "min_by(c, t)",
        "max_by(c, t)",
        "first(c order by t ignore nulls)",
    ];
    // Of equal times the first; a row without a time has no place.
    let words = vec![Some("none"), Some("b"), None, Some("a"), Some("c"), Some("d")];
    let times = vec![None, Some(2), Some(1), Some(1), Some(3), Some(3)];
    check_by(StringArray::from(words), times, &select, "NULL|c|c|NULL|c|a");
    check_by(StringArray::from(vec!["a"]), vec![None], &select, "NULL|NULL|NULL|NULL|NULL|NULL");
    check_by(Int64Array::from(Vec::<i64>::new()), vec![], &select, "NULL|NULL|NULL|NULL|NULL|NULL");
}

#[test]
fn times_that_are_floats_order_as_numbers_do() {
    let t = Float64Array::from(vec![Some(0.0), Some(-0.0), Some(-f64::NAN), Some(f64::INFINITY), None]);
    let input = rows(vec![("c", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5])) as ArrayRef), ("t", Arc::new(t))]);
    assert_eq!(run(&input, &[], &["min_by(c, t)", "max_by(c, t)"]).expect("it runs"), ["1|3"]);
}

/// Lists and structs with nulls at every level.
fn nested() -> ArrayRef {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        Some(vec![Some(1), None]),
    ]);
    let lists: ArrayRef = Arc::new(lists);
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b"), Some("a")]));
    Arc::new(StructArray::try_from(vec![("list", lists), ("word", words)]).expect("of one length"))
}

#[test]
fn nested_values_are_chosen_collected_and_told_apart() {
    let select =
        ["first(c)", "last(c)", "count(distinct c)", "approx_distinct(c)", "collect_set(c)", "collect_list(c)"];
    let (one, two, three) = ("{list: [1, NULL], word: a}", "{list: NULL, word: NULL}", "{list: [], word: b}");
    let expected = format!("{one}|{one}|3|3|[{one}, {two}, {three}]|[{one}, {two}, {three}, {one}]");
    let input = rows(vec![("c", nested())]);
    for cut in [1, 3, 4] {
        let spec = resolve(&input, &[], &select).expect("it is right");
        let results = run_keyed(&spec, &cut_into_tasks(&input, &[cut], 2), 1).expect("it runs");
        assert_eq!(texts(&results[0]), [&*expected]);
    }
}

#[test]
fn values_are_collected_in_the_order_in_which_they_came() {
    let select = ["collect_list(c)", "collect_set(c)", "count(distinct c)", "approx_distinct(c)"];
    check(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]), &select, "[b, a, b]|[b, a]|2|2");
    check(Int32Array::from(vec![None, None]), &select, "[]|[]|0|0");
    let dictionary: DictionaryArray<Int32Type> = [Some("b"), None, Some("a"), Some("b")].into_iter().collect();
    check(dictionary, &select, "[b, a, b]|[b, a]|2|2");
    check(Float64Array::from(vec![-0.0, 0.0, f64::NAN, -f64::NAN]), &select[1..], "[0.0, NaN]|2|2");
}

#[test]
fn distinct_values_are_added_once() {
    let select = ["sum(distinct c)", "avg(distinct c)", "sum(c)"];
    check(Int8Array::from(vec![Some(1), Some(3), None, Some(3), Some(1), Some(1)]), &select, "4|2.0|9");
    check(Int8Array::from(vec![None, None]), &select, "NULL|NULL|NULL");
    let decimals = Decimal128Array::from(vec![150, 150, 25]).with_precision_and_scale(5, 2).expect("it fits");
    check(decimals, &select, "1.75|0.875000|3.25");
    let large = Int64Array::from(vec![i64::MAX, 1]);
    let error = run(&rows(vec![("c", Arc::new(large) as ArrayRef)]), &[], &select).expect_err("it does not fit");
    assert!(error.report().starts_with("error: `sum(distinct c)` overflowed"), "{}", error.report());
}

#[test]
fn spreads_are_of_samples_or_of_all() {
    let select = ["variance(c)", "var_pop(c)", "stddev(c)", "stddev_pop(c)"];
    check(Int64Array::from(vec![Some(2), None, Some(4), Some(6)]), &select[..1], "4.0");
    check(Float64Array::from(vec![1.0, 1.0, 5.0, 5.0]), &select[1..2], "4.0");
    check(Float64Array::from(vec![1.0, 5.0, 9.0]), &select[2..3], "4.0");
    check(Float64Array::from(vec![1.0, 1.0, 5.0, 5.0]), &select[3..], "2.0");
    check(Int64Array::from(vec![7]), &select, "NULL|0.0|NULL|0.0");
    check(Int64Array::from(vec![None, None]), &select, "NULL|NULL|NULL|NULL");
    let decimals = Decimal128Array::from(vec![150, 250]).with_precision_and_scale(5, 2).expect("it fits");
    check(decimals, &select[1..2], "0.25");
}

#[test]
fn percentiles_are_one_or_a_list() {
    let select =
        ["percentile(c, 0.5)", "percentile(c, [0, 0.9, 1])", "approx_percentile(c, 0.5)", "approx_percentile(c, [1])"];
    check(
        Int64Array::from(vec![Some(30), None, Some(10), Some(20), Some(40)]),
        &select,
        "25.0|[10.0, 37.0, 40.0]|25.0|[40.0]",
    );
    check(Int64Array::from(vec![None, None]), &select, "NULL|NULL|NULL|NULL");
    check(Float64Array::from(vec![f64::NAN, 1.0, -f64::NAN]), &select, "NaN|[1.0, NaN, NaN]|NaN|[NaN]");
    let decimals = Decimal128Array::from(vec![150, 250]).with_precision_and_scale(5, 2).expect("it fits");
    check(decimals, &select[..1], "2.0");
}

#[test]
fn booleans_are_all_true_or_one_is() {
    let select = ["bool_and(c)", "bool_or(c)"];
    check(BooleanArray::from(vec![Some(true), None, Some(false)]), &select, "false|true");
    check(BooleanArray::from(vec![Some(true), None]), &select, "true|true");
    check(BooleanArray::from(vec![None, None]), &select, "NULL|NULL");
}

#[test]
fn types_that_do_not_fit_are_refused_with_what_would() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let interval: ArrayRef = Arc::new(IntervalYearMonthArray::from(vec![1]));
    let input = rows(vec![("text", text), ("span", interval), ("list", nested().slice(0, 1))]);
    let problem = |select: &str| {
        let problem = resolve(&input, &[], &[select]).expect_err("it is wrong").remove(0);
        (problem.message, problem.hint.unwrap_or_default())
    };
    for (select, message, hint) in [
        ("stddev(text)", "column `text` has type utf8", "It needs integers, floats"),
        ("approx_percentile(text, 0.5)", "column `text` has type utf8", "It needs integers, floats"),
        ("percentile(text, [0.5])", "column `text` has type utf8", "It needs integers, floats"),
        ("sum(distinct text)", "column `text` has type utf8", "It needs integers, floats"),
        ("bool_or(text)", "column `text` has type utf8", "It needs booleans; `min` and `max` take"),
        ("count(distinct span)", "column `span` has type interval(yearmonth)", "Values can be told apart that are"),
        ("collect_set(span)", "column `span` has type interval(yearmonth)", "Values can be told apart that are"),
        ("min(span)", "column `span` has type interval(yearmonth)", "It needs numbers, text, bytes"),
        ("first(text order by span)", "column `span` has type interval(yearmonth)", "A row is chosen by numbers"),
        ("max_by(text, list)", "column `list` has type struct<", "A row is chosen by numbers"),
    ] {
        let (seen, seen_hint) = problem(select);
        assert!(seen.starts_with(&format!("`{select}` cannot work: {message}")), "{seen}");
        assert!(seen_hint.starts_with(hint), "{seen_hint}");
    }
    assert_eq!(problem("min_by(text, txet)"), ("the input has no column `txet`".into(), "Did you mean `text`?".into()));
    assert!(resolve(&input, &[], &["first(span)", "collect_list(span)", "count(span)"]).is_ok());
}

#[test]
fn a_key_with_too_much_is_an_error_that_says_what_to_do() {
    let large: ArrayRef = Arc::new(Int64Array::from(vec![1; LIST_BYTES_MAX / 8 + 1]));
    let error = run(&rows(vec![("c", large)]), &[], &["collect_list(c)"]).expect_err("it is too large");
    assert_eq!(
        error.report(),
        "error: `collect_list(c)` has more than 64 MiB of values for one key in column `c0` of step `totals`\n\n\
         hint: Group by more columns, so that a key has fewer rows; `approx_distinct` and `approx_percentile` need the \
         same memory for any number of rows.\n"
    );
}

/// What every function says of a group, straight from its rows. All numbers are exact: so are sums of them.
fn all_of(group: &[&Sample]) -> Vec<String> {
    let or_null = |text: Option<String>| text.unwrap_or("NULL".into());
    let values: Vec<i64> = group.iter().filter_map(|row| row.1.map(i64::from)).collect();
    let mut distinct: Vec<i64> = Vec::new();
    values.iter().for_each(|value| {
        if !distinct.contains(value) {
            distinct.push(*value)
        }
    });
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let list = |values: &[i64]| format!("[{}]", values.iter().map(i64::to_string).collect::<Vec<_>>().join(", "));
    let n = |row: Option<&&Sample>| or_null(row.and_then(|row| row.1).map(|n| n.to_string()));
    // `min_by_key` and `min_by` keep the first of equal ones.
    let by_word = |row: &&&Sample| row.2.clone();
    let max_by_word = group.iter().min_by(|a, b| b.2.cmp(&a.2));
    let median = (!sorted.is_empty()).then(|| {
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        format!("{:?}", (low + high) as f64 / 2.0)
    });
    let ends = (!sorted.is_empty()).then(|| format!("[{:?}, {:?}]", sorted[0] as f64, sorted[sorted.len() - 1] as f64));
    vec![
        n(group.first()),
        n(group.last()),
        n(group.iter().find(|row| row.1.is_some())),
        n(group.iter().rfind(|row| row.1.is_some())),
        n(group.iter().min_by_key(by_word)),
        n(max_by_word),
        n(group.iter().filter(|row| row.1.is_some()).min_by_key(by_word)),
        list(&values),
        list(&distinct),
        distinct.len().to_string(),
        distinct.len().to_string(),
        or_null((!distinct.is_empty()).then(|| distinct.iter().sum::<i64>().to_string())),
        or_null(median),
        or_null(ends),
    ]
}

/// In the order of [`all_of`].
const ALL_OF: [&str; 14] = [
    "first(n)",
    "last(n)",
    "any_value(n)",
    "last(n ignore nulls)",
    "min_by(n, word)",
    "last(n order by word)",
    "first(n order by word ignore nulls)",
    "collect_list(n)",
    "collect_set(n)",
    "count(distinct n)",
    "approx_distinct(n)",
    "sum(distinct n)",
    "percentile(n, 0.5)",
    "approx_percentile(n, [0, 1])",
];

/// Numbers that are close, but for their last digits.
fn is_close(seen: &str, expected: Option<f64>) -> bool {
    match (seen.parse::<f64>(), expected) {
        (Ok(seen), Some(expected)) => (seen - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
        _ => seen == "NULL" && expected.is_none(),
    }
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

/// Columns `n`, `key` and `word`.
fn sample(data: &[Sample]) -> RecordBatch {
    let keys: Int64Array = data.iter().map(|row| Some(i64::from(row.0))).collect();
    let numbers: Int32Array = data.iter().map(|row| row.1).collect();
    let words: StringArray = data.iter().map(|row| Some(row.2.as_str())).collect();
    rows(vec![("n", Arc::new(numbers) as ArrayRef), ("key", Arc::new(keys)), ("word", Arc::new(words))])
}

proptest! {
    #[test]
    fn results_depend_on_the_rows_alone(
        data in proptest::collection::vec((0u8..20, proptest::option::of(-1000i32..1000), "[a-c]{0,2}".prop_map(String::from)), 1..300),
        cuts in proptest::collection::vec(1usize..40, 1..5),
        n_tasks in 1usize..4,
        n_partitions in 1u32..5,
    ) {
        let input = sample(&data);
        let select =
            ["count(*)", "count(n)", "sum(n)", "min(n)", "max(n)", "avg(n)", "min(word)", "max(word)"];
        let spec = resolve(&input, &["key"], &select).expect("it is right");
        let results = run_keyed(&spec, &cut_into_tasks(&input, &cuts, n_tasks), n_partitions).expect("it runs");
        let mut seen: Vec<_> = results.iter().flat_map(|partition| texts(partition)).collect();
        seen.sort();
        prop_assert_eq!(seen, model(&data));
    }

    /// Of every function that keeps values or chooses rows: in the order in which rows came, whatever the cuts.
    #[test]
    fn what_is_kept_depends_on_the_rows_and_their_order_alone(
        data in proptest::collection::vec((0u8..8, proptest::option::of(-20i32..20), "[a-c]{0,2}".prop_map(String::from)), 1..200),
        cuts in proptest::collection::vec(1usize..40, 1..5),
        n_tasks in 1usize..4,
        n_partitions in 1u32..5,
    ) {
        let input = sample(&data);
        let spec = resolve(&input, &["key"], &ALL_OF).expect("it is right");
        let results = run_keyed(&spec, &cut_into_tasks(&input, &cuts, n_tasks), n_partitions).expect("it runs");
        let mut seen: Vec<_> = results.iter().flat_map(|partition| texts(partition)).collect();
        seen.sort();

        let mut groups: BTreeMap<u8, Vec<&Sample>> = BTreeMap::new();
        data.iter().for_each(|row| groups.entry(row.0).or_default().push(row));
        let mut expected: Vec<_> =
            groups.iter().map(|(key, group)| format!("{key}|{}", all_of(group).join("|"))).collect();
        expected.sort();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn spreads_are_close_to_their_definition(
        data in proptest::collection::vec((0u8..8, proptest::option::of(any::<i32>()), Just(String::new())), 1..200),
        cuts in proptest::collection::vec(1usize..40, 1..5),
        n_tasks in 1usize..4,
        n_partitions in 1u32..5,
    ) {
        let input = sample(&data);
        let select = ["variance(n)", "var_pop(n)", "stddev(n)", "stddev_pop(n)"];
        let spec = resolve(&input, &["key"], &select).expect("it is right");
        let results = run_keyed(&spec, &cut_into_tasks(&input, &cuts, n_tasks), n_partitions).expect("it runs");
        for line in results.iter().flat_map(|partition| texts(partition)) {
            let cells: Vec<_> = line.split('|').collect();
            let values: Vec<f64> =
                data.iter().filter(|row| row.0.to_string() == cells[0]).filter_map(|row| row.1.map(f64::from)).collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let sample = (n > 1.0).then(|| squares / (n - 1.0));
            let all = (n > 0.0).then(|| squares / n);
            for (cell, expected) in cells[1..].iter().zip([sample, all, sample.map(f64::sqrt), all.map(f64::sqrt)]) {
                prop_assert!(is_close(cell, expected), "{} is not {:?}", cell, expected);
            }
        }
    }
}
