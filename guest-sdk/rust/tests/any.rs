//! Columns of any type are passed on as they are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tidemill_guest::any::{AnyBatchBuilder, AnyValue};
use tidemill_guest::{Batch, OwnedBatch, Row};

#[derive(Row)]
struct Inner {
    flag: Option<bool>,
    bytes: [u8; 3],
}

#[derive(Row)]
struct Outer {
    text: String,
    number: Option<i16>,
    many: Vec<Option<Inner>>,
    inner: Option<Inner>,
}

fn rows() -> OwnedBatch {
    let inner = |flag| Inner { flag, bytes: [1, 2, 3] };
    Outer::batch([
        Outer { text: "a".into(), number: None, many: vec![], inner: None },
        Outer {
            text: String::new(),
            number: Some(-7),
            many: vec![None, Some(inner(Some(true)))],
            inner: Some(inner(None)),
        },
        Outer { text: "né".into(), number: Some(3), many: vec![Some(inner(None))], inner: Some(inner(Some(false))) },
    ])
}

/// The rows of these numbers, by rows or by columns.
fn take(batch: &OwnedBatch, rows: &[u32], by_rows: bool) -> OwnedBatch {
    let (schema, slices) = (Outer::schema(), batch.slices());
    let view = Batch::checked(&schema, batch.rows, &batch.nodes, &slices).unwrap();
    let columns = view.any_columns();
    let mut out = AnyBatchBuilder::new(&schema.fields);
    match by_rows {
        true => rows.iter().for_each(|row| out.push_row(&columns, *row as usize)),
        false => out.push_rows(&columns, rows),
    }
    out.finish()
}

#[test]
fn rows_are_the_same_in_another_order_and_back() {
    for by_rows in [false, true] {
        let reversed = take(&rows(), &[2, 1, 0], by_rows);
        assert_ne!(reversed, rows());
        // What stands under a null may be anything: rows that were taken are held against such.
        assert_eq!(take(&reversed, &[2, 1, 0], by_rows), take(&rows(), &[0, 1, 2], !by_rows));
        assert_eq!(take(&rows(), &[1, 1], by_rows).rows, 2);
        assert_eq!(take(&rows(), &[], by_rows).rows, 0);
    }
}

#[test]
fn a_value_of_another_type_becomes_null() {
    let mut out = AnyBatchBuilder::new(&Outer::schema().fields[1..2]);
    let schema = Outer::schema();
    let batch = rows();
    let slices = batch.slices();
    let view = Batch::checked(&schema, batch.rows, &batch.nodes, &slices).unwrap();
    let columns = view.any_columns();
    assert!(matches!(columns[0].get(0), AnyValue::Bytes(b"a")));
    out.push_row(&columns[..1], 0);
    assert_eq!(out.finish().nodes[0].null_count, 1);
}
