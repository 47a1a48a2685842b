//! What all steps by key share: the two halves around a shuffle, key columns, and how their mistakes are reported.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::error::{Error, Internal};
use crate::plan::describe_type;
use crate::shuffle::key_encoding::{is_key_type, plain_type};
use crate::step::partials::PartialOps;
use crate::step::{Emit, StepFactory};
use crate::task::TaskContext;

/// Rows of one batch that a keyed step gives on, at most: what a step after it gets in one call by default.
pub const OUTPUT_ROWS_MAX: usize = 65_536;

/// A step that brings equal keys together: one half before a shuffle, one behind it.
///
/// ```text
///  rows ── combine ── partials, at least one a key ── shuffle by key ── merge ── results, one a key
/// ```
///
/// The law: what comes out, over all partitions, depends on the rows alone, not on how they were cut into pushes and
/// partitions; except for the rounding of floating-point sums, within the error of approximate aggregates, and for what is
/// asked to depend on the order of rows.
pub trait KeyedStep: Send + Sync + fmt::Debug {
    /// The schema between the halves: the keys first.
    fn partial_schema(&self) -> SchemaRef;

    /// The schema of results: the keys in the order of `by`, then the values.
    fn output_schema(&self) -> SchemaRef;

    /// The columns of the partial schema to shuffle by; none when it [is global](KeyedStep::is_global).
    fn partial_key_columns(&self) -> Vec<usize>;

    /// Whether there is no key: all rows are one group, and the half behind the shuffle runs in one partition.
    fn is_global(&self) -> bool {
        self.partial_key_columns().is_empty()
    }

    /// Whether the half behind the shuffle is to get its partition in one piece: it is not parted by key then, when memory has no
    /// room for it.
    fn needs_whole_partitions(&self) -> bool {
        false
    }

    /// The half before the shuffle. Called once a plan: the factory keeps instances from batch to batch.
    fn combine(&self) -> Arc<dyn StepFactory>;

    /// The half behind the shuffle. Called once a plan.
    fn merge(&self) -> Arc<dyn StepFactory>;

    /// What a task does with partials that outlive a batch.
    ///
    /// # Errors
    ///
    /// When it cannot be started: an operator that does not open.
    fn partial_ops(&self, task: &TaskContext) -> Result<Box<dyn PartialOps>, Error>;
}

/// One mistake in how a step by key is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// The key of the step's table it stands at, as in `by` or `select.count`; of a part of its text, in bytes, as in `select.count[4..9]`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// The key columns of a step's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyColumns {
    /// Their indices, in the order of `by`.
    pub(crate) indices: Vec<usize>,
    /// Their fields in the output: of plain types.
    pub(crate) fields: Vec<Field>,
}

impl KeyColumns {
    /// Finds the columns named in `by`, and adds what is wrong to `problems`.
    pub(crate) fn resolve(input: &Schema, by: &[String], problems: &mut Vec<SpecProblem>) -> Self {
        let mut keys = Self { indices: Vec::new(), fields: Vec::new() };
        let mut problem = |message, hint| problems.push(SpecProblem { key: "by".into(), message, hint });
        for name in by {
            let Some((index, field)) = input.column_with_name(name) else {
                problem(format!("the input has no column `{name}`"), Some(column_hint(input, name)));
                continue;
            };
            if keys.indices.contains(&index) {
                problem(format!("column `{name}` is named twice"), None);
            } else if !is_key_type(field.data_type()) {
                let hint =
                    "Keys may be numbers, text, bytes, booleans, dates and times, and lists and structs of them.";
                problem(
                    format!("column `{name}` has type {}, which cannot be a key", describe_type(field.data_type())),
                    Some(hint.into()),
                );
            } else {
                keys.indices.push(index);
                keys.fields.push(plain_field(field));
            }
        }
        keys
    }

    /// The key columns of some rows of the step's input.
    pub(crate) fn of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.indices.iter().map(|&index| rows.column(index).clone()).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.indices.len()
    }
}

/// The field with its values' own type.
pub(crate) fn plain_field(field: &Field) -> Field {
    Field::new(field.name(), plain_type(field.data_type()).clone(), field.is_nullable())
}

/// The column that was probably meant, or all there are.
pub(crate) fn column_hint(input: &Schema, name: &str) -> String {
    let names = input.fields().iter().map(|field| field.name().as_str());
    if let Some(nearest) = nearest(name, names.clone()) {
        return format!("Did you mean `{nearest}`?");
    }
    match names.map(|name| format!("`{name}`")).collect::<Vec<_>>() {
        names if names.is_empty() => "The input has no columns.".into(),
        names => format!("The input has {}.", names.join(", ")),
    }
}

/// The candidate that `name` is probably a slip of.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        // One slip, and one more for every four letters.
        .filter(|(slips, _)| *slips <= 1 + lower.chars().count() / 4 && *slips < lower.chars().count().max(1))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// A batch of these columns, also when there are none.
pub(crate) fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>, n_rows: usize) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(n_rows)))
}

/// Gives rows on, at most [`OUTPUT_ROWS_MAX`] at a time.
pub(crate) fn emit_in_chunks(rows: &RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
    for start in (0..rows.num_rows()).step_by(OUTPUT_ROWS_MAX) {
        emit(rows.slice(start, OUTPUT_ROWS_MAX.min(rows.num_rows() - start)))?;
    }
    Ok(())
}

/// What arrow says although everything was checked.
pub(crate) fn internal(doing: impl Into<String>) -> impl FnOnce(ArrowError) -> Error {
    move |source| Internal { doing: doing.into(), source }.into()
}
