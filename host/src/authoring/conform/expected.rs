//! What the conformance operator answers, computed natively: `docs/conformance.md` in code.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::call::{Answer, BATCH_TIME_US, Given, WATERMARK_US, text, transform_answer, updater_answers};
use crate::operator::{Change, Rejection, Role, TimeoutChange};

/// What of the configuration changes the answers.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Config {
    /// Which view is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reject_every: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repeat: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) carry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) invertible: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) every_key: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeouts: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remove_at: Option<i64>,
}

/// What the operator answers.
pub(super) fn answers(role: Role, config: &Config, given: &Given) -> Vec<Answer> {
    match role {
        Role::Transform => vec![transform(config, given)],
        Role::Reducer => reducer(config, given),
        Role::Aggregator => aggregator(given),
        Role::Grouper => vec![grouper(config, given)],
        Role::Updater => updater(config, given),
    }
}

fn take(rows: &RecordBatch, indices: impl IntoIterator<Item = u32>) -> RecordBatch {
    let indices = UInt32Array::from_iter_values(indices);
    if rows.num_columns() == 0 {
        return without_columns(indices.values().len());
    }
    // Every number is that of a row.
    take_record_batch(rows, &indices).unwrap_or_else(|error| unreachable!("the rows are there: {error}"))
}

fn without_columns(n_rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)
        .unwrap_or_else(|error| unreachable!("no column is of another length: {error}"))
}

/// Whether the row of this number is rejected.
fn is_rejected(config: &Config, number: u64) -> bool {
    config.reject_every.is_some_and(|n| n > 0 && number % n == n - 1)
}

fn transform(config: &Config, given: &Given) -> Answer {
    let mut origin = Vec::new();
    let mut rejected = Vec::new();
    for row in 0..given.rows.num_rows() as u32 {
        let number = given.first_row + u64::from(row);
        if is_rejected(config, number) {
            rejected.push(Rejection { row, reason: format!("row {number} is rejected") });
        } else {
            origin.extend(std::iter::repeat_n(row, config.repeat.unwrap_or(1) as usize));
        }
    }
    let rows = match config.carry {
        Some(true) => without_columns(origin.len()),
        _ => take(&given.rows, origin.iter().copied()),
    };
    transform_answer(rows, Some(origin), given.rows.num_rows(), &rejected)
}

/// The last row of each group.
fn last_rows(ends: &[u32]) -> impl Iterator<Item = u32> {
    ends.iter().map(|end| end - 1)
}

fn reducer(config: &Config, given: &Given) -> Vec<Answer> {
    let reduced = take(&given.rows, last_rows(&given.ends));
    let mut answers = vec![Answer::new("the reduced rows", reduced.clone(), vec![])];
    if config.invertible == Some(true) {
        answers.push(Answer::new("what `invert` gave", reduced, vec![]));
    }
    answers
}

/// Rows with columns before theirs.
pub(super) fn with_columns(before: Vec<(&str, ArrayRef)>, rows: &RecordBatch) -> RecordBatch {
    let mut fields: Vec<Arc<Field>> =
        before.iter().map(|(name, column)| Arc::new(Field::new(*name, column.data_type().clone(), false))).collect();
    fields.extend(rows.schema().fields().iter().cloned());
    let columns = before.into_iter().map(|(_, column)| column).chain(rows.columns().iter().cloned());
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect())
        .unwrap_or_else(|error| unreachable!("the columns are of one length: {error}"))
}

/// The schema of the state of an updater of rows of a schema.
pub(super) fn state_schema(values: &SchemaRef) -> SchemaRef {
    let rows = Arc::new(Field::new("rows", DataType::Int64, false));
    Arc::new(Schema::new(std::iter::once(rows).chain(values.fields().iter().cloned()).collect::<Vec<_>>()))
}

fn aggregator(given: &Given) -> Vec<Answer> {
    let starts = std::iter::once(0).chain(given.ends.iter().copied());
    let counts: Vec<i64> = given.ends.iter().zip(starts).map(|(end, start)| i64::from(end - start)).collect();
    let of = |counts: &[i64], rows: &RecordBatch| {
        with_columns(vec![("rows", Arc::new(Int64Array::from(counts.to_vec())) as ArrayRef)], rows)
    };
    let last = take(&given.rows, last_rows(&given.ends));
    let accumulators = of(&counts, &last);
    let merged_counts: Vec<i64> = counts.chunks(2).map(|pair| pair.iter().sum()).collect();
    let n = counts.len() as u32;
    let merged = of(&merged_counts, &take(&last, (0..n.div_ceil(2)).map(|pair| (2 * pair + 1).min(n - 1))));
    vec![
        Answer::new("the accumulators", accumulators, vec![]),
        Answer::new("the merged accumulators", merged.clone(), vec![]),
        Answer::new("the results", merged, vec![]),
    ]
}

fn grouper(config: &Config, given: &Given) -> Answer {
    let second = given.second.as_ref().map(|(rows, ends)| (rows, ends));
    let inputs: Vec<_> = std::iter::once((&given.rows, &given.ends)).chain(second).collect();
    // All inputs as one, so that rows are taken of any.
    let all = match inputs.as_slice() {
        [(only, _)] => (*only).clone(),
        _ if given.rows.num_columns() == 0 => without_columns(inputs.iter().map(|(rows, _)| rows.num_rows()).sum()),
        _ => concat_batches(&given.rows.schema(), inputs.iter().map(|(rows, _)| *rows))
            .unwrap_or_else(|error| unreachable!("inputs are of one schema: {error}")),
    };
    let (mut taken, mut group) = (Vec::new(), Vec::new());
    for number in 0..given.ends.len() {
        let mut first = 0;
        for (rows, ends) in &inputs {
            let start = if number == 0 { 0 } else { ends[number - 1] };
            for row in (start..ends[number]).rev().filter(|row| !is_rejected(config, u64::from(*row))) {
                taken.push(first + row);
                group.push(number as u32);
            }
            first += rows.num_rows() as u32;
        }
    }
    let rejected = inputs.iter().enumerate().map(|(input, (rows, _))| {
        let rows = (0..rows.num_rows() as u32).filter(|row| is_rejected(config, u64::from(*row)));
        rows.map(|row| Rejection { row, reason: format!("row {row} of input {input} is rejected") }).collect::<Vec<_>>()
    });
    let besides = vec![("group", text(&group)), ("rejected", text(rejected.collect::<Vec<_>>()))];
    Answer::new("the rows", take(&all, taken), besides)
}

fn updater(config: &Config, given: &Given) -> Vec<Answer> {
    let columns: Vec<usize> = (1..=given.rows.num_columns()).collect();
    let no_state = RecordBatch::new_empty(state_schema(&given.rows.schema()));
    let state = given.state.as_ref().unwrap_or(&no_state);
    let counts = state.column(0).as_primitive::<Int64Type>();
    // Rows and then states as one, so that rows are taken of either.
    let kept = state.project(&columns).unwrap_or_else(|error| unreachable!("a state has the columns: {error}"));
    let n_rows = given.rows.num_rows() as u32;
    let both = if columns.is_empty() {
        without_columns(given.rows.num_rows() + kept.num_rows())
    } else {
        concat_batches(&given.rows.schema(), [&given.rows, &kept])
            .unwrap_or_else(|error| unreachable!("they are of one schema: {error}"))
    };
    let time = match config.timeouts {
        Some("batch-time") => config.timeout_us.map(|after| BATCH_TIME_US + after),
        Some("event-time") => config.timeout_us.map(|after| WATERMARK_US + after),
        _ => None,
    };
    let (mut changes, mut timeouts) = (Vec::new(), Vec::new());
    let (mut put, mut put_counts) = (Vec::new(), Vec::new());
    let (mut out, mut out_counts, mut out_timed_out, mut group) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut next_state = 0;
    for key in 0..given.ends.len() {
        let start = if key == 0 { 0 } else { given.ends[key - 1] };
        let rows: Vec<u32> = (start..given.ends[key]).filter(|row| !is_rejected(config, u64::from(*row))).collect();
        let had_rows = given.ends[key] > start;
        let old = given.has_state[key].then(|| {
            next_state += 1;
            (counts.value(next_state - 1), n_rows + next_state as u32 - 1)
        });
        let (mut change, mut timeout) = (Change::Keep, TimeoutChange::Keep);
        let mut write = |count: i64, timed_out: bool, row: u32| {
            out_counts.push(count);
            out_timed_out.push(timed_out);
            out.push(row);
            group.push(key as u32);
        };
        match (given.timed_out[key], rows.last(), old) {
            (true, _, Some((count, row))) => {
                write(count, true, row);
                change = Change::Remove;
            }
            (false, Some(&last), old) => {
                let count = old.map_or(0, |(count, _)| count) + rows.len() as i64;
                write(count, false, last);
                if config.remove_at.is_some_and(|most| count >= most) {
                    change = Change::Remove;
                } else {
                    change = Change::Put(put.len() as u32);
                    put.push(last);
                    put_counts.push(count);
                    timeout = time.map_or(TimeoutChange::Keep, TimeoutChange::Set);
                }
            }
            (false, None, Some((count, row))) if !had_rows => write(count, false, row),
            _ => {}
        }
        changes.push(change);
        timeouts.push(timeout);
    }
    let rejected: Vec<_> = (0..n_rows)
        .filter(|row| is_rejected(config, u64::from(*row)))
        .map(|row| Rejection { row, reason: format!("row {row} is rejected") })
        .collect();
    let integers = |numbers: Vec<i64>| Arc::new(Int64Array::from(numbers)) as ArrayRef;
    let before =
        vec![("rows", integers(out_counts)), ("timed_out", Arc::new(BooleanArray::from(out_timed_out)) as ArrayRef)];
    let rows = with_columns(before, &take(&both, out));
    let state = with_columns(vec![("rows", integers(put_counts))], &take(&both, put));
    updater_answers(rows, &group, &rejected, state, &changes, Some(timeouts), given)
}
