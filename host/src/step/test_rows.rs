//! For property tests of steps: rows of a key and a value, cut at random into map tasks and pushes.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use proptest::prelude::*;

use crate::job::Settings;
use crate::step::testing::{DefinitionRun, MapTasks, TestBatch, rows, texts};

/// A key and a value; either may be null.
pub(crate) type TestRow = (Option<u8>, Option<i64>);

/// Map tasks of pushes of rows.
pub(crate) type Cut = Vec<Vec<Vec<TestRow>>>;

/// Rows of columns `key: utf8`, `value: int64` and `n: int64`, which numbers them from `first` on.
pub(crate) fn batch(of: &[TestRow], first: usize) -> RecordBatch {
    let keys: ArrayRef = Arc::new(of.iter().map(|row| row.0.map(|key| format!("k{key}"))).collect::<StringArray>());
    let values: ArrayRef = Arc::new(of.iter().map(|row| row.1).collect::<Int64Array>());
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((first..first + of.len()).map(|n| n as i64)));
    rows(vec![("key", keys), ("value", values), ("n", numbers)])
}

pub(crate) fn schema() -> SchemaRef {
    batch(&[], 0).schema()
}

/// Some keys and values, few enough to meet.
pub(crate) fn test_rows(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<TestRow>> {
    let row = (proptest::option::weighted(0.9, 0u8..5), proptest::option::weighted(0.9, -5_i64..20));
    proptest::collection::vec(row, len)
}

/// Map tasks and pushes, some of them empty.
pub(crate) fn cut() -> impl Strategy<Value = Cut> {
    proptest::collection::vec(proptest::collection::vec(test_rows(0..12), 0..4), 0..4)
}

/// What stands in them, in the order in which it flows; each with its number.
pub(crate) fn flat(cut: &Cut) -> Vec<(TestRow, usize)> {
    cut.concat().concat().into_iter().enumerate().map(|(number, row)| (row, number)).collect()
}

/// As record batches.
pub(crate) fn map_tasks(cut: &Cut) -> MapTasks {
    let mut first = 0;
    let mut push = |of: &Vec<TestRow>| {
        first += of.len();
        batch(of, first - of.len())
    };
    cut.iter().map(|pushes| pushes.iter().map(&mut push).collect()).collect()
}

/// A row as [`texts`] has it.
pub(crate) fn text(row: &(TestRow, usize)) -> String {
    let ((key, value), number) = row;
    let key = key.map_or("NULL".into(), |key| format!("k{key}"));
    format!("{key}|{}|{number}", value.map_or("NULL".into(), |value| value.to_string()))
}

pub(crate) fn settings(partitions: u32) -> Settings {
    Settings { partitions, ..Settings::default() }
}

/// One batch of one side.
pub(crate) fn one(cut: &Cut) -> TestBatch {
    TestBatch { sides: vec![map_tasks(cut)], ..TestBatch::default() }
}

/// What comes of one batch, partition by partition.
pub(crate) fn run_one(run: &mut DefinitionRun, cut: &Cut) -> Vec<Vec<String>> {
    run.batch(&one(cut)).expect("a batch that can be run").iter().map(|rows| texts(rows)).collect()
}

pub(crate) fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
