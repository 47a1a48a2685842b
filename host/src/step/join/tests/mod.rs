//! Joins of every type against nested loops over the rows of the whole job.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use proptest::prelude::*;

use super::{JoinDefinition, JoinOptions, JoinScope, JoinType, LateForJoin};
use crate::event_time::Watermark;
use crate::job::Settings;
use crate::step::testing::{DefinitionRun, MapTasks, TestBatch, cut_into_tasks};

mod in_batch;
mod latest;
mod over_time;
mod plan;
mod with_table;

/// A row of a side: its key, its number, its time.
#[derive(Debug, Clone, Copy)]
struct Row {
    key: Option<u8>,
    id: i64,
    time: Option<i64>,
}

/// A batch: the rows of both sides, and where the clock stands in it.
#[derive(Debug, Clone)]
struct Batch {
    sides: [Vec<Row>; 2],
    now_us: Option<i64>,
}

/// What comes out, without times: the key, the left number, the right number, the start of the window.
type Out = (Option<String>, Option<i64>, Option<i64>, Option<i64>);

fn schema(side: usize) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new(["l", "r"][side], DataType::Int64, false),
        Field::new("at", time, true),
    ]))
}

fn record_batch(side: usize, rows: &[Row]) -> RecordBatch {
    // Long keys are held otherwise than short ones.
    let key = |key: u8| {
        if key.is_multiple_of(2) { key.to_string() } else { format!("a key of more than fifteen bytes {key}") }
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.key.map(key)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.time).collect::<TimestampMicrosecondArray>()),
    ];
    RecordBatch::try_new(schema(side), columns).expect("columns of the schema")
}

fn options(join_type: JoinType, scope: super::JoinScope) -> JoinOptions {
    JoinOptions { join_type, scope, prefix: Some("r_".into()), ..JoinOptions::new("right", ["k"]) }
}

fn key_text(key: Option<u8>) -> Option<String> {
    record_batch(0, &[Row { key, id: 0, time: None }])
        .column(0)
        .as_string::<i32>()
        .iter()
        .next()
        .flatten()
        .map(str::to_owned)
}

fn outs(batches: &[RecordBatch]) -> Vec<Out> {
    let mut outs = Vec::new();
    for batch in batches {
        let number = |name: &str, row: usize| {
            let column = batch.column_by_name(name)?.as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        for row in 0..batch.num_rows() {
            let key = batch.column(0).as_string::<i32>();
            let start = batch.column_by_name("window_start");
            outs.push((
                key.is_valid(row).then(|| key.value(row).to_owned()),
                number("l", row),
                number("r", row),
                start.map(|start| start.as_primitive::<TimestampMicrosecondType>().value(row)),
            ));
        }
    }
    outs
}

/// How a job is cut up, and which of its batches fail first.
#[derive(Debug, Clone)]
struct Cuts {
    lengths: Vec<usize>,
    n_tasks: usize,
    n_partitions: u32,
    /// Before the batch of this index, it fails once.
    fails: usize,
}

fn cuts() -> impl Strategy<Value = Cuts> {
    (proptest::collection::vec(1_usize..7, 1..4), 1_usize..4, 1_u32..4, 0_usize..6)
        .prop_map(|(lengths, n_tasks, n_partitions, fails)| Cuts { lengths, n_tasks, n_partitions, fails })
}

/// Where the clock stands, batch by batch: it never goes back, and a job ends with everything complete.
fn with_clock(batches: Vec<([Vec<Row>; 2], i64)>) -> Vec<Batch> {
    let mut now_us = None;
    let n_batches = batches.len();
    let batches = batches.into_iter().enumerate().map(|(index, (sides, step))| {
        // A negative step leaves the clock where it is.
        if step >= 0 {
            now_us = Some(now_us.unwrap_or(-20_000_000) + step);
        }
        Batch { sides, now_us: if index + 1 == n_batches { Some(i64::MAX) } else { now_us } }
    });
    batches.collect()
}

/// Batches of rows with few keys and times close to one another.
fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let row = (proptest::option::weighted(0.9, 0_u8..4), proptest::option::weighted(0.95, -20..40_i64));
    let side = || proptest::collection::vec(row.clone(), 0..14);
    let batch = (side(), side(), -1..12_i64);
    proptest::collection::vec(batch, 1..7).prop_map(|batches| {
        let mut id = 0;
        let mut row = |(key, seconds): (Option<u8>, Option<i64>)| {
            id += 1;
            Row { key, id, time: seconds.map(|seconds| seconds * 1_000_000) }
        };
        let batches = batches.into_iter().map(|(left, right, step)| {
            let left = left.into_iter().map(&mut row).collect();
            let right = right.into_iter().map(&mut row).collect();
            ([left, right], step.max(-1) * 1_000_000)
        });
        with_clock(batches.collect())
    })
}

/// Every row with the reading of the clock that tells whether it is late: that of the batch before.
fn late_us(batches: &[Batch], batch: usize) -> Option<i64> {
    batch.checked_sub(1).and_then(|before| batches[before].now_us)
}

/// A job at work on the join.
fn planned(options: &JoinOptions, n_partitions: u32) -> DefinitionRun {
    let definition = JoinDefinition(JoinOptions { partitions: Some(n_partitions), ..options.clone() });
    DefinitionRun::plan(&definition, &[schema(0), schema(1)], &Settings::default(), true).expect("a join that fits")
}

/// Runs a job; what each batch gives, sorted, how many rows were late, and the state that is left.
fn run(options: &JoinOptions, batches: &[Batch], cuts: &Cuts) -> (Vec<Vec<Out>>, u64, u64) {
    let mut run = planned(options, cuts.n_partitions);
    let late = |side: usize| {
        let late = LateForJoin { options: options.clone(), other: Vec::new(), side };
        // Of a join without event time no row is late, nor is a right row for the latest ones.
        let has_late = !matches!(
            (&options.scope, side),
            (JoinScope::Batch | JoinScope::Latest { time: None, .. }, _) | (JoinScope::Latest { .. }, 1)
        );
        has_late.then(|| DefinitionRun::plan(&late, &[schema(side)], &Settings::default(), true).expect("late rows"))
    };
    let mut late_runs = [late(0), late(1)];
    let mut n_late_rows = 0;
    let mut given = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        let cut = |side: usize| -> MapTasks {
            cut_into_tasks(&record_batch(side, &batch.sides[side]), &cuts.lengths, cuts.n_tasks)
        };
        let test_batch = TestBatch {
            time_us: index as i64 * 1_000_000,
            watermark: Watermark { late_us: late_us(batches, index), now_us: batch.now_us },
            closes: index + 1 == batches.len(),
            sides: vec![cut(0), cut(1)],
        };
        if index == cuts.fails {
            run.failed_batch(&test_batch).expect("it runs");
        }
        for (side, late_run) in late_runs.iter_mut().enumerate() {
            let Some(late_run) = late_run else { continue };
            let of_side = TestBatch { sides: vec![test_batch.sides[side].clone()], ..test_batch.clone() };
            let late = late_run.batch(&of_side).expect("it runs");
            n_late_rows += late.iter().flatten().map(|rows| rows.num_rows() as u64).sum::<u64>();
        }
        let partitions = run.batch(&test_batch).expect("it runs");
        let mut outs: Vec<Out> = partitions.iter().flat_map(|rows| outs(rows)).collect();
        outs.sort();
        given.push(outs);
    }
    assert_eq!(n_late_rows, run.meter.rows_late.get(), "the streams of late rows have what is counted");
    (given, run.meter.rows_late.get(), run.state_size().0)
}

fn join_type() -> impl Strategy<Value = JoinType> {
    proptest::sample::select(JoinType::NAMES.map(|(_, join_type)| join_type).to_vec())
}

/// The nested loops: every row of both sides, and whether two match.
fn model(
    join_type: JoinType,
    lefts: &[(Row, Option<i64>)],
    rights: &[(Row, Option<i64>)],
    matches: impl Fn(&Row, &Row) -> bool,
) -> Vec<Out> {
    let mut out = Vec::new();
    let met = |left: &(Row, Option<i64>), right: &(Row, Option<i64>)| {
        left.0.key.is_some() && left.0.key == right.0.key && left.1 == right.1 && matches(&left.0, &right.0)
    };
    for left in lefts {
        let matching: Vec<_> = rights.iter().filter(|right| met(left, right)).collect();
        let alone = (key_text(left.0.key), Some(left.0.id), None, left.1);
        match join_type {
            JoinType::Semi if !matching.is_empty() => out.push(alone),
            JoinType::Semi => {}
            JoinType::Anti if !matching.is_empty() => {}
            _ => {
                let pair =
                    |right: &&(Row, Option<i64>)| (key_text(left.0.key), Some(left.0.id), Some(right.0.id), left.1);
                if join_type.gives_pairs() {
                    out.extend(matching.iter().map(pair));
                }
                if matching.is_empty() && join_type.gives_unmatched(0) {
                    out.push(alone);
                }
            }
        }
    }
    if join_type.gives_unmatched(1) {
        let alone = rights.iter().filter(|right| !lefts.iter().any(|left| met(left, right)));
        out.extend(alone.map(|right| (key_text(right.0.key), None, Some(right.0.id), right.1)));
    }
    out.sort();
    out
}
