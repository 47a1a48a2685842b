//! Columns of rows made anew, row for row: what `with`, `select`, `rename`, `cast` and `drop` have in common.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::Error;
use crate::sql::{EvaluationFailed, Expression, Scope, Site, ValueFailed, describe_row, plain_array};
use crate::step::dead_letters::{LetterBox, Letters, compute_by_pieces};
use crate::step::definition::PlanContext;
use crate::step::keyed::{batch_of, internal};
use crate::step::times::{TimeColumns, TimeOrigin};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Where a column of the output comes from.
#[derive(Debug, Clone)]
pub(crate) enum Column {
    /// The input's column of this index, as it is.
    Of(usize),
    /// The input's column of this index in another type.
    Cast {
        /// Which.
        index: usize,
        /// Whether a value that the type does not have becomes null. Otherwise there is no result for the row.
        null: bool,
    },
    /// What an expression gives.
    Computed(Box<Expression>),
}

/// A step that gives a row for each row.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    step: String,
    columns: Vec<Column>,
    output: SchemaRef,
    letter_box: Option<Arc<LetterBox>>,
}

impl Project {
    /// The step with these columns, each with its field in the output.
    pub(crate) fn new(step: &str, columns: Vec<(Field, Column)>) -> Self {
        let (fields, columns): (Vec<Field>, Vec<Column>) = columns.into_iter().unzip();
        Self { step: step.to_owned(), columns, output: Arc::new(Schema::new(fields)), letter_box: None }
    }

    /// The step with the rows that have no result set aside there.
    pub(crate) fn with_dead_letters(self, letter_box: Option<Arc<LetterBox>>) -> Self {
        Self { letter_box, ..self }
    }

    /// The schema of its rows.
    pub(crate) fn output_schema(&self) -> &SchemaRef {
        &self.output
    }

    /// What is known of the times in its columns.
    pub(crate) fn times(&self, context: &PlanContext<'_>) -> TimeColumns {
        let given = |index: usize| TimeOrigin::column(0, context.input().field(index).name());
        TimeColumns::computed(&[context.times()], &self.output, |name| {
            let Some((index, field)) = self.output.column_with_name(name) else { return TimeOrigin::Unknown };
            match &self.columns[index] {
                Column::Of(index) => given(*index),
                Column::Cast { index, .. } => given(*index).cast(field.data_type()),
                Column::Computed(expression) => expression.time_origin().clone(),
            }
        })
    }

    fn apply(&self, rows: &RecordBatch, scope: &Arc<Scope>) -> Result<RecordBatch, Error> {
        let columns = self.columns.iter().zip(self.output.fields()).map(|(column, field)| match column {
            Column::Of(index) => {
                let column = plain_array(rows.column(*index), field.data_type());
                Ok(column.map_err(internal(format!("reading the rows of step `{}`", self.step)))?.into_owned())
            }
            Column::Cast { index, null } => self.cast(rows, *index, field, *null, scope),
            Column::Computed(expression) => expression.evaluate(rows, &self.step, scope),
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, Error>>()?;
        batch_of(self.output.clone(), columns, rows.num_rows())
            .map_err(internal(format!("putting the output of step `{}` together", self.step)))
    }

    fn cast(
        &self,
        rows: &RecordBatch,
        index: usize,
        field: &Field,
        null: bool,
        scope: &Scope,
    ) -> Result<ArrayRef, Error> {
        let column = rows.column(index);
        let cast = |safe| {
            let options = CastOptions { safe, ..CastOptions::default() };
            cast_with_options(column, field.data_type(), &options)
        };
        match cast(null) {
            Ok(column) => Ok(column),
            // Casting again with nulls finds the row.
            Err(source) => {
                match cast(true) {
                    Ok(nulls) => {
                        let row = (0..column.len()).find(|&row| column.is_valid(row) && nulls.is_null(row));
                        let reason = format!("the value cannot be {}", crate::plan::describe_type(field.data_type()));
                        let row = row.map(|row| describe_row(&rows.slice(row, 1), &[index]));
                        let hint = "`on-error = \"null\"` makes such values null, and `\"dead-letter\"` sets their rows aside.".to_owned();
                        let source = ValueFailed { reason, row, hint: Some(hint) };
                        let text = format!("cast of {}", field.name());
                        Err(EvaluationFailed { site: Site::new(&self.step, scope.task()), text, source }.into())
                    }
                    Err(_) => Err(internal(format!("casting in step `{}`", self.step))(source)),
                }
            }
        }
    }
}

impl StepFactory for Project {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let letters = self.letter_box.as_ref().map(|letter_box| letter_box.open(task));
        Ok(Box::new(Projecting { project: self.clone(), scope: Scope::new(task), letters }))
    }
}

struct Projecting {
    project: Project,
    scope: Arc<Scope>,
    letters: Option<Letters>,
}

impl PipelineStep for Projecting {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let apply = |rows: &RecordBatch| self.project.apply(rows, &self.scope);
        match &mut self.letters {
            Some(letters) => compute_by_pieces(letters, &rows, |rows| apply(&rows).map(Some), emit),
            None => emit(apply(&rows)?),
        }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        self.letters.iter().for_each(Letters::finish);
        Ok(())
    }

    fn take_letters(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.letters.as_mut().map_or(Ok(None), Letters::take)
    }
}
