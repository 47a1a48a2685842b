//! Splits the rows of a source that sets rejected ones aside: two narrow steps directly behind it, one for each kind.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{filter_record_batch, is_not_null, is_null};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::{Emit, PipelineStep, StepFactory};
use crate::error::{Error, Internal};
use crate::source::dead_letter_schema;
use crate::task::TaskContext;

/// Which rows of a source a stream has.
#[derive(Debug, Clone)]
pub enum Keep {
    /// Those that could be read: they have this schema.
    Good(SchemaRef),
    /// Those that were rejected, as dead letters of the source of this name.
    Rejected(String),
}

/// Keeps one kind of the physical rows of a source, see [`physical_schema`](crate::source::physical_schema).
#[derive(Debug, Clone)]
pub struct KeepRows(pub Keep);

impl StepFactory for KeepRows {
    fn start(&self, _: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl PipelineStep for KeepRows {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let kept = match &self.0 {
            Keep::Good(schema) => good(rows, schema),
            Keep::Rejected(source) => rejected(rows, source),
        };
        match kept.map_err(|source| Internal { doing: "splitting off rejected rows".into(), source })? {
            Some(rows) => emit(rows),
            None => Ok(()),
        }
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// The column that says which rows were rejected: the last one.
fn hidden(rows: &RecordBatch) -> &ArrayRef {
    rows.column(rows.num_columns() - 1)
}

/// The good rows as they were declared. A source gives batches of one kind as a rule, and those are not copied.
fn good(mut rows: RecordBatch, schema: &SchemaRef) -> Result<Option<RecordBatch>, ArrowError> {
    match rows.num_rows() - hidden(&rows).null_count() {
        n_rejected if n_rejected == rows.num_rows() => return Ok(None),
        0 => {}
        _ => rows = filter_record_batch(&rows, &is_null(hidden(&rows))?)?,
    }
    let columns = rows.columns()[..schema.fields().len()].to_vec();
    RecordBatch::try_new(Arc::clone(schema), columns).map(Some)
}

/// The others, as dead letters.
fn rejected(mut rows: RecordBatch, source: &str) -> Result<Option<RecordBatch>, ArrowError> {
    match hidden(&rows).null_count() {
        n_good if n_good == rows.num_rows() => return Ok(None),
        0 => {}
        _ => rows = filter_record_batch(&rows, &is_not_null(hidden(&rows))?)?,
    }
    let letters = hidden(&rows).as_struct();
    let name: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(|_| source)));
    let columns = std::iter::once(name).chain(letters.columns().iter().cloned()).collect();
    RecordBatch::try_new(dead_letter_schema(), columns).map(Some)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StructArray};
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;
    use crate::source::physical_schema;

    fn declared() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
    }

    /// Rows of which some were rejected; the number of a row is its value or its position.
    fn physical(are_good: &[bool]) -> RecordBatch {
        let schema = physical_schema(&declared());
        let DataType::Struct(fields) = schema.field(1).data_type() else { panic!("the hidden column is a struct") };
        let n = Int64Array::from_iter(are_good.iter().zip(0..).map(|(good, n)| good.then_some(n)));
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(are_good.iter().map(|_| "x")));
        let position: ArrayRef = Arc::new(Int64Array::from_iter_values(0..are_good.len() as i64));
        let nulls = NullBuffer::from_iter(are_good.iter().map(|good| !good));
        let letters = StructArray::new(fields.clone(), vec![text.clone(), position, text.clone(), text], Some(nulls));
        RecordBatch::try_new(schema, vec![Arc::new(n), Arc::new(letters)]).expect("as the schema says")
    }

    fn keep(keep: Keep, rows: RecordBatch) -> Vec<RecordBatch> {
        let mut kept = Vec::new();
        let mut emit = |rows| {
            kept.push(rows);
            Ok(())
        };
        let mut step = KeepRows(keep);
        step.push(rows, &mut emit).expect("rows of the schema");
        step.finish(&mut emit).expect("nothing to do");
        kept
    }

    proptest! {
        #[test]
        fn law_every_row_is_in_one_stream(are_good in prop::collection::vec(any::<bool>(), 1..40)) {
            let rows = physical(&are_good);
            let numbers = |batches: &[RecordBatch], column: usize| -> Vec<i64> {
                let numbers = |rows: &RecordBatch| {
                    rows.column(column).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
                };
                batches.iter().flat_map(numbers).collect()
            };
            let expected = |kind: bool| -> Vec<i64> {
                are_good.iter().zip(0..).filter(|(good, _)| **good == kind).map(|(_, n)| n).collect()
            };
            let good = keep(Keep::Good(declared()), rows.clone());
            prop_assert!(good.iter().all(|rows| rows.schema() == declared() && rows.num_rows() > 0));
            prop_assert_eq!(numbers(&good, 0), expected(true));
            let rejected = keep(Keep::Rejected("lines".into()), rows);
            prop_assert!(rejected.iter().all(|rows| rows.schema() == dead_letter_schema() && rows.num_rows() > 0));
            prop_assert_eq!(numbers(&rejected, 2), expected(false));
        }
    }
}
