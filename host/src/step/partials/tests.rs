//! The laws of [`PartialOps`], for each keyed step.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal256Array, FixedSizeBinaryArray, FixedSizeListArray,
    Float32Array, Float64Array, Int32Array, Int32Builder, Int64Array, IntervalMonthDayNanoArray, LargeListArray,
    LargeStringArray, ListBuilder, MapBuilder, NullArray, StringArray, StringBuilder, StringViewArray,
    StringViewBuilder, StructArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, IntervalMonthDayNano, i256};
use arrow::row::{RowConverter, SortField};
use proptest::prelude::*;

use super::*;
use crate::shuffle::key_encoding::is_key_type;
use crate::step::aggregate::AggregateSpec;
use crate::step::aggregate_with::AggregateWithSpec;
use crate::step::keyed::KeyedStep;
use crate::step::reduce::ReduceSpec;
use crate::step::testing::{Registered, SumJoinMean, bounds, info, rows, run_half, run_keyed, task, texts};

/// Rows as they come in three batches, or in three panes of a window.
type Panes = [Vec<Sample>; 3];

/// Key, number, quarters, letter.
type Sample = (u8, Option<i32>, i16, u8);

fn panes() -> impl Strategy<Value = Panes> {
    let sample = (0u8..12, proptest::option::of(-1000i32..1000), any::<i16>(), any::<u8>());
    let pane = || proptest::collection::vec(sample.clone(), 0..60);
    [pane(), pane(), pane()]
}

/// Columns `n`, `key`, `quarters` (floats whose sums are exact) and `letters`.
fn sample(data: &[Sample]) -> RecordBatch {
    let letters: StringArray = data.iter().map(|row| Some(char::from(b'a' + row.3 % 26).to_string())).collect();
    rows(vec![
        ("n", Arc::new(data.iter().map(|row| row.1.map(i64::from)).collect::<Int64Array>()) as ArrayRef),
        ("key", Arc::new(data.iter().map(|row| Some(i32::from(row.0))).collect::<Int32Array>())),
        ("quarters", Arc::new(data.iter().map(|row| row.1.map(|_| f64::from(row.2) / 4.0)).collect::<Float64Array>())),
        ("letters", Arc::new(letters)),
    ])
}

/// One partial a key, from rows that come in pushes of 7.
fn partials(keyed: &dyn KeyedStep, ops: &mut dyn PartialOps, rows: &RecordBatch) -> RecordBatch {
    let n_rows = rows.num_rows();
    let pushes: Vec<_> = (0..n_rows).step_by(7).map(|start| rows.slice(start, 7.min(n_rows - start))).collect();
    ops.merge(&run_half(&*keyed.combine(), 0, &pushes).expect("it runs")).expect("it merges")
}

/// The rows as they are when they have been written down and read.
fn written_down(rows: &RecordBatch) -> RecordBatch {
    let fields = rows.columns().iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).expect("types that can be encoded");
    let encoded = converter.convert_columns(rows.columns()).expect("they are encoded");
    let columns = converter.convert_rows(&encoded).expect("they are read");
    RecordBatch::try_new(rows.schema(), columns).expect("the same schema")
}

/// The keys of partials as text.
fn keys(keyed: &dyn KeyedStep, partials: &RecordBatch) -> Vec<String> {
    texts(&[partials.project(&keyed.partial_key_columns()).expect("they are there")])
}

/// The rows of these keys, in their order.
fn only(keyed: &dyn KeyedStep, partials: &RecordBatch, wanted: &[String]) -> RecordBatch {
    let keys = keys(keyed, partials);
    let place = |wanted: &String| keys.iter().position(|key| key == wanted).expect("it has the key") as u32;
    take_record_batch(partials, &wanted.iter().map(place).map(Some).collect::<UInt32Array>()).expect("they are there")
}

/// Texts that are equal, or numbers that nearly are.
#[track_caller]
fn assert_close(seen: &[String], expected: &[String]) {
    let cells = |rows: &[String]| rows.iter().map(|row| row.split('|').map(String::from).collect()).collect();
    let (left, right): (Vec<Vec<String>>, Vec<Vec<String>>) = (cells(seen), cells(expected));
    assert_eq!(left.len(), right.len(), "{seen:?} are not {expected:?}");
    for (left, right) in left.iter().flatten().zip(right.iter().flatten()) {
        let numbers = left.parse::<f64>().ok().zip(right.parse::<f64>().ok());
        let is_close = numbers.is_some_and(|(left, right)| (left - right).abs() <= 1e-6 * (1.0 + right.abs()));
        assert!(left == right || is_close, "{seen:?} are not {expected:?}: {left} is not {right}");
    }
}

/// Every law, on rows that arrive in three panes; they have these columns of [`sample`].
#[track_caller]
fn check_laws(keyed: &dyn KeyedStep, columns: &[usize], panes: &Panes) {
    let ops = &mut *keyed.partial_ops(&task(0)).expect("it starts");
    let rows = panes.each_ref().map(|pane| sample(pane).project(columns).expect("they are there"));
    let [a, b, c] = rows.each_ref().map(|rows| partials(keyed, ops, rows));
    assert_eq!(a.schema(), keyed.partial_schema());
    let [a, b, c] = [a, b, c].map(|partials| {
        let read = written_down(&partials);
        assert_eq!(texts(std::slice::from_ref(&read)), texts(&[partials]), "they survive being written down");
        read
    });

    let all = ops.merge(&[a.clone(), b.clone(), c.clone()]).expect("it merges");
    let all = texts(&[ops.finish(&all).expect("it finishes")]);
    for order in [[vec![&a, &b], vec![&c]], [vec![&a], vec![&b, &c]]] {
        let merged = order.map(|side| ops.merge(&side.into_iter().cloned().collect::<Vec<_>>()).expect("it merges"));
        let merged = ops.merge(&merged).expect("it merges");
        assert_eq!(merged.schema(), keyed.partial_schema());
        assert_close(&texts(&[ops.finish(&merged).expect("it finishes")]), &all);
    }

    let whole = concat_batches(&rows[0].schema(), &rows).expect("one schema");
    assert_close(
        &all,
        &run_keyed(keyed, &[vec![whole]], 1).expect("it runs").iter().flat_map(|it| texts(it)).collect::<Vec<_>>(),
    );

    let whole = ops.merge(&[a.clone(), b.clone()]).expect("it merges");
    let in_a = keys(keyed, &a);
    let in_both: Vec<_> = keys(keyed, &b).into_iter().filter(|key| in_a.contains(key)).collect();
    let [whole, part, rest] = [&whole, &a, &b].map(|partials| only(keyed, partials, &in_both));
    let inverted = ops.invert(&whole, &part);
    assert_eq!(inverted.is_some(), ops.is_invertible());
    if let Some(inverted) = inverted {
        let inverted = inverted.expect("it inverts");
        assert_eq!(inverted.schema(), keyed.partial_schema());
        let [inverted, rest] = [inverted, rest].map(|partials| texts(&[ops.finish(&partials).expect("it finishes")]));
        assert_close(&inverted, &rest);
    }
}

fn aggregate(by: &[&str], select: &[&str]) -> AggregateSpec {
    let by: Vec<String> = by.iter().map(|name| (*name).into()).collect();
    let select: Vec<_> = select.iter().enumerate().map(|(i, text)| (format!("c{i}"), (*text).to_string())).collect();
    AggregateSpec::resolve("totals", &sample(&[]).schema(), &by, &select).expect("it is right")
}

fn reduce(operator: SumJoinMean, input: &RecordBatch, by: &[&str], rows_per_call: u32) -> ReduceSpec {
    let by: Vec<String> = by.iter().map(|name| (*name).into()).collect();
    let operator = Arc::new(Registered(Arc::new(operator)));
    ReduceSpec::open(operator, info(), &input.schema(), &by, bounds(rows_per_call), Arc::default()).expect("it opens")
}

fn aggregate_with(operator: SumJoinMean, input: &RecordBatch, by: &[&str], rows_per_call: u32) -> AggregateWithSpec {
    let by: Vec<String> = by.iter().map(|name| (*name).into()).collect();
    let operator = Arc::new(Registered(Arc::new(operator)));
    AggregateWithSpec::open(operator, info(), &input.schema(), &by, bounds(rows_per_call), Arc::default())
        .expect("it opens")
}

/// Every column of [`sample`].
const ALL: [usize; 4] = [0, 1, 2, 3];

/// Aggregates that can be inverted.
const INVERTIBLE: [&str; 8] =
    ["count(*)", "count(n)", "sum(n)", "avg(n)", "sum(quarters)", "avg(quarters)", "variance(n)", "var_pop(quarters)"];

/// Aggregates that cannot.
const OTHERS: [&str; 18] = [
    "min(n)",
    "max(letters)",
    "first(n)",
    "last(n)",
    "first(letters ignore nulls)",
    "last(quarters ignore nulls)",
    "first(n order by letters)",
    "max_by(letters, n)",
    "any_value(n)",
    "percentile(n, 0.5)",
    "percentile(quarters, [0.1, 0.9])",
    "approx_percentile(n, [0, 0.5])",
    "approx_distinct(n)",
    "collect_list(n)",
    "collect_set(letters)",
    "count(distinct n)",
    "sum(distinct n)",
    "avg(distinct quarters)",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn aggregates_keep_the_laws(panes in panes()) {
        check_laws(&aggregate(&["key"], &INVERTIBLE), &ALL, &panes);
        check_laws(&aggregate(&["key"], &OTHERS), &ALL, &panes);
        check_laws(&aggregate(&["key", "letters"], &["count(*)", "stddev(quarters)"]), &ALL, &panes);
    }

    #[test]
    fn reducers_keep_the_laws(panes in panes(), rows_per_call in 1u32..40, groups_max in 1usize..20) {
        let operator = |invertible| SumJoinMean { groups_max, invertible, ..SumJoinMean::new() };
        // Without the floats, which the reducer does not take.
        let columns = [0, 1, 3];
        let input = sample(&[]).project(&columns).expect("they are there");
        for invertible in [true, false] {
            check_laws(&reduce(operator(invertible), &input, &["key"], rows_per_call), &columns, &panes);
        }
    }

    #[test]
    fn aggregators_keep_the_laws(panes in panes(), rows_per_call in 1u32..40, groups_max in 1usize..20) {
        let operator = SumJoinMean { groups_max, ..SumJoinMean::new() };
        check_laws(&aggregate_with(operator, &sample(&[]), &["key"], rows_per_call), &ALL, &panes);
    }
}

/// Columns of three rows, of types that are held in their own ways; the middle row is null.
fn columns_of_many_types() -> Vec<ArrayRef> {
    let child: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
    let field = Arc::new(Field::new("child", DataType::Int32, false));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    let mut views = ListBuilder::new(StringViewBuilder::new());
    for (row, is_valid) in [(1, true), (2, false), (3, true)] {
        if is_valid {
            maps.keys().append_value(format!("key {row}"));
            maps.values().append_value(row);
            views.values().append_value(format!("a text that does not fit into a view: {row}"));
            views.values().append_null();
        }
        maps.append(is_valid).expect("as many keys as values");
        views.append(is_valid);
    }
    let lists = || [Some(vec![Some(1), None]), None, Some(vec![Some(3), Some(4)])];
    let interval = |months| IntervalMonthDayNano { months, days: 2, nanoseconds: 3 };
    vec![
        Arc::new(NullArray::new(3)),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Float32Array::from(vec![Some(-0.0), None, Some(f32::NAN)])),
        Arc::new(StringViewArray::from(vec![Some("a text that does not fit into a view"), None, Some("b")])),
        Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("")])),
        Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), None, Some(&[])])),
        Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([1, 2]), None, Some([3, 4])].into_iter(), 2)
                .expect("two each"),
        ),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(3)]).with_timezone("+02:00")),
        Arc::new(Decimal256Array::from(vec![Some(i256::from(-5)), None, Some(i256::MAX / i256::from(10))])),
        Arc::new(IntervalMonthDayNanoArray::from(vec![Some(interval(-1)), None, Some(interval(7))])),
        Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>(lists())),
        Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(lists(), 2)),
        Arc::new(views.finish()),
        Arc::new(maps.finish()),
        Arc::new(StructArray::new(vec![field].into(), vec![child], Some(vec![true, false, true].into()))),
    ]
}

#[test]
fn values_of_any_type_survive_being_written_down() {
    for column in columns_of_many_types() {
        let data_type = column.data_type().clone();
        let input = rows(vec![("c", column)]);
        let mut select = vec!["first(c)", "last(c ignore nulls)", "collect_list(c)", "count(c)"];
        if is_key_type(&data_type) {
            select.extend(["collect_set(c)", "count(distinct c)", "approx_distinct(c)"]);
        }
        let select: Vec<_> = select.iter().map(|text| ((*text).to_string(), (*text).to_string())).collect();
        let keyed = AggregateSpec::resolve("totals", &input.schema(), &[], &select).expect("it is right");
        let ops = &mut *keyed.partial_ops(&task(0)).expect("it starts");
        let parts = [0, 1, 2].map(|row| written_down(&partials(&keyed, ops, &input.slice(row, 1))));
        let merged = written_down(&ops.merge(&parts).expect("they merge"));
        let results = ops.finish(&merged).expect("it finishes");
        assert_eq!(results.schema(), keyed.output_schema());
        let whole = run_keyed(&keyed, &[vec![input]], 1).expect("it runs");
        assert_eq!(texts(&[results]), texts(&whole[0]), "of {data_type}");
    }
}

#[test]
fn without_keys_there_is_one_partial_of_some_rows_and_none_of_no_rows() {
    let keyed = aggregate(&[], &["count(*)", "sum(n)"]);
    let ops = &mut *keyed.partial_ops(&task(0)).expect("it starts");
    let some = partials(&keyed, ops, &sample(&[(1, Some(2), 3, 4), (2, None, 3, 4)]));
    let two = ops.merge(&[some.clone(), some]).expect("it merges");
    assert_eq!(texts(&[ops.finish(&two).expect("it finishes")]), ["4|4"]);
    let none = ops.merge(&[]).expect("it merges");
    assert_eq!((none.num_rows(), none.schema()), (0, keyed.partial_schema()));
    assert_eq!(ops.finish(&none).expect("it finishes").num_rows(), 0);
}

#[test]
fn what_is_left_of_a_column_with_nulls_may_be_null() {
    let keyed = aggregate(&["key"], &["sum(n)", "avg(n)", "count(*)"]);
    let ops = &mut *keyed.partial_ops(&task(0)).expect("it starts");
    let part = partials(&keyed, ops, &sample(&[(1, Some(5), 0, 0)]));
    let rest = partials(&keyed, ops, &sample(&[(1, None, 0, 0)]));
    let whole = ops.merge(&[part.clone(), rest]).expect("it merges");
    let rest = ops.invert(&whole, &part).expect("it can be undone").expect("it inverts");
    assert_eq!(texts(&[ops.finish(&rest).expect("it finishes")]), ["1|NULL|NULL|1"]);
}

#[test]
fn sums_that_are_not_finite_are_not_taken_apart() {
    let keyed = aggregate(&["key"], &["sum(quarters)"]);
    let mut ops = keyed.partial_ops(&task(0)).expect("it starts");
    assert!(ops.is_invertible() && ops.drifts());
    let input = |quarters: f64| {
        let mut columns = sample(&[(1, Some(1), 0, 0)]).columns().to_vec();
        columns[2] = Arc::new(Float64Array::from(vec![quarters]));
        RecordBatch::try_new(sample(&[]).schema(), columns).expect("the same schema")
    };
    let [one, infinite] = [1.0, f64::INFINITY].map(|quarters| partials(&keyed, &mut *ops, &input(quarters)));
    let whole = ops.merge(&[infinite.clone(), one.clone()]).expect("it merges");
    assert!(ops.invert(&whole, &infinite).is_none());
    // And what it was asked for leaves no trace.
    let whole = ops.merge(&[one.clone(), one.clone()]).expect("it merges");
    let rest = ops.invert(&whole, &one).expect("it can be undone").expect("it inverts");
    assert_eq!(texts(&[ops.finish(&rest).expect("it finishes")]), ["1|1.0"]);
}

#[test]
fn only_sums_and_counts_are_inverted() {
    let flags = |select: &[&str]| {
        let ops = aggregate(&["key"], select).partial_ops(&task(0)).expect("it starts");
        (ops.is_invertible(), ops.drifts())
    };
    assert_eq!(flags(&["count(*)", "count(n)", "sum(n)", "avg(n)"]), (true, false));
    assert_eq!(flags(&["count(*)", "avg(quarters)"]), (true, true));
    assert_eq!(flags(&["stddev(n)"]), (true, true));
    for other in OTHERS {
        assert_eq!(flags(&["count(*)", other]), (false, false), "{other}");
    }
    assert_eq!(flags(&["count(*)", "min(n)"]), (false, false));
}

/// A caller gives its rows a column of its own, and groups by it too: a window's start.
#[test]
fn keys_that_the_caller_adds_are_not_among_the_values() {
    let input = sample(&[(1, Some(2), 4, 0), (1, Some(3), 8, 1), (1, Some(5), 12, 2)]);
    let starts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 0, 1_000_000]));
    // Before the columns of the input, and not the first key.
    let names = ["start", "n", "key", "letters"];
    let columns = [vec![starts], input.project(&[0, 1, 3]).expect("they are there").columns().to_vec()].concat();
    let input = rows(names.into_iter().zip(columns).collect());
    let by = ["key", "start"];
    let select = [("n".to_string(), "sum(n)".to_string())];
    let aggregate = AggregateSpec::resolve("totals", &input.schema(), &by.map(String::from), &select);
    let with = aggregate_with(SumJoinMean::new(), &input, &by, 10);
    let reduce = reduce(SumJoinMean::new(), &input, &by, 10);
    assert_eq!((with.reads(), reduce.reads()), (vec!["n".into()], vec!["n".into(), "letters".into()]));

    let second = "1970-01-01T00:00:01";
    let first = "1970-01-01T00:00:00";
    let aggregate = aggregate.expect("it is right");
    let cases: [(&dyn KeyedStep, [&str; 2]); 3] =
        [(&aggregate, ["5", "5"]), (&with, ["2.5", "5.0"]), (&reduce, ["5|ab", "5|c"])];
    for (keyed, values) in cases {
        let ops = &mut *keyed.partial_ops(&task(0)).expect("it starts");
        let partials = partials(keyed, ops, &input);
        let results = ops.finish(&partials).expect("it finishes");
        assert_eq!(results.schema(), keyed.output_schema());
        assert_eq!(texts(&[results]), [format!("1|{first}|{}", values[0]), format!("1|{second}|{}", values[1])]);
    }
}

#[test]
fn an_instance_is_kept_for_the_next_task_on_its_partition() {
    let operator = Arc::new(SumJoinMean::new());
    let input = sample(&[(1, Some(2), 0, 0)]).project(&[0, 1, 3]).expect("they are there");
    let registered = Arc::new(Registered(operator.clone()));
    let spec = ReduceSpec::open(registered, info(), &input.schema(), &["key".into()], bounds(10), Arc::default())
        .expect("it opens");
    let part = run_half(&*spec.combine(), 0, &[input]).expect("it runs").remove(0);
    let opened = operator.opened.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..3 {
        let mut ops = spec.partial_ops(&task(0)).expect("it starts");
        ops.merge(&[part.clone(), part.clone()]).expect("it merges");
    }
    assert_eq!(operator.opened.load(std::sync::atomic::Ordering::Relaxed), opened + 1);
}
