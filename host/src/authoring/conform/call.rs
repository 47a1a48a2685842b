//! Calls of any role, and what came of them, in a form that can be compared.

use std::fmt::Debug;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::ids::{BatchId, PartitionId};
use crate::operator::{
    Aggregator, Call, CallError, Change, Grouped, Grouper, OpenError, Operator, Reducer, Role, StepInfo, TimeoutChange,
    Transform, Updater, UpdaterInput,
};
use crate::type_name::describe_type;

/// What a call is made with, whatever the role; each takes of it what it gets.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// The rows: of a transform all of them, of other roles those of the groups.
    pub(super) rows: RecordBatch,
    /// The rows of a second input, and the ends of its groups: of a grouper alone.
    pub(super) second: Option<(RecordBatch, Vec<u32>)>,
    /// The exclusive end of each group. A group has rows but for a grouper and an updater.
    pub(super) ends: Vec<u32>,
    /// The key of each group.
    pub(super) keys: RecordBatch,
    /// Of an updater: which keys have state, and which have timed out.
    pub(super) has_state: Vec<bool>,
    /// See `has_state`.
    pub(super) timed_out: Vec<bool>,
    /// The state of the keys that have some.
    pub(super) state: Option<RecordBatch>,
    /// Rows of the partition that came in calls before.
    pub(super) first_row: u64,
}

impl Given {
    /// The schemas that it is opened with.
    fn schemas(&self) -> (SchemaRef, Vec<SchemaRef>) {
        let second = self.second.iter().map(|(rows, _)| rows.schema());
        (self.keys.schema(), std::iter::once(self.rows.schema()).chain(second).collect())
    }
}

/// When the calls of the kit are: the batch, its time, and the watermark an hour before.
pub(super) const BATCH_TIME_US: i64 = 1_767_225_600_000_000;
/// See [`BATCH_TIME_US`].
pub(super) const WATERMARK_US: i64 = BATCH_TIME_US - 3_600_000_000;

/// What a call says that it belongs to.
pub(super) fn call(first_row: u64) -> Call {
    Call {
        batch_id: BatchId(3),
        batch_time_us: BATCH_TIME_US,
        partition: PartitionId(1),
        attempt: 0,
        first_row,
        watermark_us: Some(WATERMARK_US),
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// What it is, as in "the accumulators".
    pub(super) what: &'static str,
    /// The rows.
    pub(super) rows: RecordBatch,
    /// Everything besides rows, by name, as text.
    pub(super) besides: Vec<(&'static str, String)>,
}

impl Answer {
    /// Rows, and what is besides.
    pub(super) fn new(what: &'static str, rows: RecordBatch, besides: Vec<(&'static str, String)>) -> Self {
        Self { what, rows, besides }
    }
}

/// Something besides rows as text.
pub(super) fn text(value: impl Debug) -> String {
    format!("{value:?}")
}

/// An operator, opened in a role.
pub(super) enum Opened {
    Transform(Box<dyn Transform>),
    Reducer(Box<dyn Reducer>),
    Aggregator(Box<dyn Aggregator>),
    Grouper(Box<dyn Grouper>),
    Updater(Box<dyn Updater>),
}

/// Opens an operator for what it will be given.
///
/// # Errors
///
/// When it refuses, or answers against the contract.
pub(super) fn open(operator: &dyn Operator, role: Role, step: &StepInfo, given: &Given) -> Result<Opened, OpenError> {
    let (keys, inputs) = given.schemas();
    Ok(match role {
        Role::Transform => Opened::Transform(operator.open_transform(step, &inputs[0])?),
        Role::Reducer => Opened::Reducer(operator.open_reducer(step, &inputs[0])?),
        Role::Aggregator => Opened::Aggregator(operator.open_aggregator(step, &inputs[0])?),
        Role::Grouper => Opened::Grouper(operator.open_grouper(step, &keys, &inputs)?),
        Role::Updater => Opened::Updater(operator.open_updater(step, &keys, &inputs[0])?),
    })
}

impl Opened {
    /// What it answered when it was opened, as text.
    pub(super) fn plan(&self) -> String {
        match self {
            Opened::Transform(opened) => text(opened.plan()),
            Opened::Reducer(opened) => text(opened.plan()),
            Opened::Aggregator(opened) => text(opened.plan()),
            Opened::Grouper(opened) => text(opened.plan()),
            Opened::Updater(opened) => text(opened.plan()),
        }
    }

    /// Makes the call of an updater, and gives what the next batch would be called with: the same rows, and the state that this call
    /// has put. `None` for other roles.
    ///
    /// # Errors
    ///
    /// What the call failed with.
    pub(super) fn next_batch(&mut self, given: &Given) -> Result<Option<Given>, CallError> {
        let Opened::Updater(opened) = self else { return Ok(None) };
        let rows = project(&given.rows, &opened.plan().reads);
        let no_state = RecordBatch::new_empty(opened.plan().state.clone());
        let input = UpdaterInput {
            keys: &given.keys,
            values: &rows,
            ends: &given.ends,
            state: given.state.as_ref().unwrap_or(&no_state),
            has_state: &given.has_state,
            timed_out: &given.timed_out,
        };
        let out = opened.update(&call(given.first_row), &input)?;
        let has_state = out.changes.iter().map(|change| matches!(change, Change::Put(_))).collect();
        Ok(Some(Given { has_state, state: Some(out.state), ..given.clone() }))
    }

    /// Makes every call of the role: of an aggregator all three, of a reducer that has one the inverse.
    ///
    /// # Errors
    ///
    /// What the first call that failed failed with.
    pub(super) fn call(&mut self, given: &Given) -> Result<Vec<Answer>, CallError> {
        let call = call(given.first_row);
        let read = |rows: &RecordBatch, reads: &[usize]| project(rows, reads);
        Ok(match self {
            Opened::Transform(opened) => {
                let rows = read(&given.rows, &opened.plan().reads);
                let out = opened.process(&call, &rows)?;
                vec![transform_answer(out.rows, out.origin, given.rows.num_rows(), &out.rejected)]
            }
            Opened::Reducer(opened) => {
                let reduced = opened.reduce(&call, &given.rows, &given.ends)?;
                let mut answers = vec![Answer::new("the reduced rows", reduced.clone(), vec![])];
                if opened.plan().invertible {
                    let inverted = opened.invert(&call, &reduced, &reduced)?;
                    answers.push(Answer::new("what `invert` gave", inverted, vec![]));
                }
                answers
            }
            Opened::Aggregator(opened) => {
                let rows = read(&given.rows, &opened.plan().reads);
                let accumulators = opened.accumulate(&call, &rows, &given.ends)?;
                // Neighbours are merged, in twos; the last may be alone.
                let n = accumulators.num_rows() as u32;
                let ends: Vec<u32> = (0..n.div_ceil(2)).map(|pair| (2 * pair + 2).min(n)).collect();
                let merged = opened.merge(&call, &accumulators, &ends)?;
                let finished = opened.finish(&call, &merged)?;
                vec![
                    Answer::new("the accumulators", accumulators, vec![]),
                    Answer::new("the merged accumulators", merged, vec![]),
                    Answer::new("the results", finished, vec![]),
                ]
            }
            Opened::Grouper(opened) => {
                let reads = opened.plan().reads.clone();
                let second = given.second.as_ref();
                let inputs = std::iter::once((&given.rows, &given.ends)).chain(second.map(|(rows, ends)| (rows, ends)));
                let read: Vec<_> =
                    inputs.zip(&reads).map(|((rows, ends), reads)| (project(rows, reads), ends)).collect();
                let inputs: Vec<_> = read.iter().map(|(rows, ends)| Grouped { rows, ends: ends.as_slice() }).collect();
                let out = opened.process(&call, &given.keys, &inputs)?;
                let besides = vec![("group", text(&out.group)), ("rejected", text(&out.rejected))];
                vec![Answer::new("the rows", out.rows, besides)]
            }
            Opened::Updater(opened) => {
                let plan = opened.plan().clone();
                let rows = read(&given.rows, &plan.reads);
                let no_state = RecordBatch::new_empty(plan.state);
                let input = UpdaterInput {
                    keys: &given.keys,
                    values: &rows,
                    ends: &given.ends,
                    state: given.state.as_ref().unwrap_or(&no_state),
                    has_state: &given.has_state,
                    timed_out: &given.timed_out,
                };
                let out = opened.update(&call, &input)?;
                updater_answers(out.rows, &out.group, &out.rejected, out.state, &out.changes, out.timeouts, given)
            }
        })
    }
}

/// The columns that a plan reads.
fn project(rows: &RecordBatch, reads: &[usize]) -> RecordBatch {
    // Checked when it was opened: every number is that of a column.
    rows.project(reads).unwrap_or_else(|error| unreachable!("the plan reads columns that are there: {error}"))
}

/// The answer of a transform: an `origin` that says nothing and one that is left out are the same.
pub(super) fn transform_answer(
    rows: RecordBatch,
    origin: Option<Vec<u32>>,
    n_rows: usize,
    rejected: &[crate::operator::Rejection],
) -> Answer {
    let origin = origin.unwrap_or_else(|| (0..n_rows as u32).collect());
    Answer::new("the rows", rows, vec![("origin", text(origin)), ("rejected", text(rejected))])
}

/// The answers of an updater: its rows, and the states that it put. Changes that come to the same are the same.
pub(super) fn updater_answers(
    rows: RecordBatch,
    group: &[u32],
    rejected: &[crate::operator::Rejection],
    state: RecordBatch,
    changes: &[Change],
    timeouts: Option<Vec<TimeoutChange>>,
    given: &Given,
) -> Vec<Answer> {
    let change = |(change, had): (&Change, &bool)| match change {
        Change::Remove if !had => Change::Keep,
        other => *other,
    };
    let changes: Vec<_> = changes.iter().zip(&given.has_state).map(change).collect();
    let timeouts = timeouts.filter(|timeouts| timeouts.iter().any(|change| *change != TimeoutChange::Keep));
    vec![
        Answer::new("the rows", rows, vec![("group", text(group)), ("rejected", text(rejected))]),
        Answer::new("the states", state, vec![("changes", text(changes)), ("timeouts-us", text(timeouts))]),
    ]
}

/// Compares answers.
///
/// # Errors
///
/// The first difference, in words.
pub(super) fn compare(expected: &[Answer], found: &[Answer]) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("{} answers are expected, and {} came", expected.len(), found.len()));
    }
    for (expected, found) in expected.iter().zip(found) {
        let what = expected.what;
        same_columns(expected, found)?;
        // Which rows there are is clearer than how they differ.
        for ((name, expected), (_, found)) in expected.besides.iter().zip(&found.besides) {
            if expected != found {
                let (expected, found) = from_difference(expected, found);
                return Err(format!("{what}: `{name}` is {found}, and {expected} is expected"));
            }
        }
        let (n_expected, n_found) = (expected.rows.num_rows(), found.rows.num_rows());
        if n_expected != n_found {
            return Err(format!("{what}: {n_expected} are expected, and {n_found} came"));
        }
        for (index, (a, b)) in expected.rows.columns().iter().zip(found.rows.columns()).enumerate() {
            if a != b {
                let schema = expected.rows.schema();
                let field = schema.field(index);
                return Err(format!(
                    "{what}: column `{}` ({}), {}",
                    field.name(),
                    describe_type(field.data_type()),
                    first_difference(a, b)
                ));
            }
        }
    }
    Ok(())
}

/// That both have the same columns.
fn same_columns(expected: &Answer, found: &Answer) -> Result<(), String> {
    let (what, wanted, found) = (expected.what, expected.rows.schema(), found.rows.schema());
    if wanted.fields().len() != found.fields().len() {
        let (n_found, n_wanted) = (found.fields().len(), wanted.fields().len());
        return Err(format!("{what} have {n_found} columns, and {n_wanted} are expected"));
    }
    let shown = |field: &FieldRef| {
        let nullable = if field.is_nullable() { "" } else { " not null" };
        format!("`{}: {}{nullable}`", field.name(), describe_type(field.data_type()))
    };
    match wanted.fields().iter().zip(found.fields()).enumerate().find(|(_, (wanted, found))| wanted != found) {
        None => Ok(()),
        Some((index, (wanted, found))) => {
            Err(format!("column {index} of {what} is {}, and {} is expected", shown(found), shown(wanted)))
        }
    }
}

/// Two texts that differ, cut so that where they do is seen.
fn from_difference(a: &str, b: &str) -> (String, String) {
    /// Characters that are shown before the difference, when there are more.
    const BEFORE: usize = 20;
    let n_same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let cut = |text: &str| {
        let dots = if n_same > 4 * BEFORE { "…" } else { "" };
        let skip = if dots.is_empty() { 0 } else { n_same - BEFORE };
        format!("{dots}{}", short(&text.chars().skip(skip).collect::<String>()))
    };
    (cut(a), cut(b))
}

fn short(text: &str) -> String {
    crate::error::shortened(text, 120)
}

/// Where two columns differ first.
fn first_difference(expected: &dyn Array, found: &dyn Array) -> String {
    let rows = 0..expected.len().min(found.len());
    let differs = |row: &usize| expected.slice(*row, 1).to_data() != found.slice(*row, 1).to_data();
    let Some(row) = rows.into_iter().find(differs) else { return "its values differ".into() };
    let shown = |array: &dyn Array| {
        if array.is_null(row) {
            return "null".to_owned();
        }
        let options = FormatOptions::default().with_null("null");
        match ArrayFormatter::try_new(array, &options) {
            Ok(formatter) => short(&format!("`{}`", formatter.value(row))),
            Err(error) => error.to_string(),
        }
    };
    format!("row {row}: {} is expected, and {} came", shown(expected), shown(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shown_from_where_they_differ() {
        assert_eq!(from_difference("[1, 2]", "[1, 3]"), ("[1, 2]".into(), "[1, 3]".into()));
        let long = "0, ".repeat(100);
        let (a, b) = from_difference(&format!("{long}1"), &format!("{long}2"));
        assert_eq!(a, "…, 0, 0, 0, 0, 0, 0, 1");
        assert_eq!(b.chars().count(), a.chars().count());
    }
}
