//! Follows the event time of rows: what it sees moves clocks on in the next batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use crate::error::Error;
use crate::event_time::{EventTime, is_time_type, largest_us};
use crate::plan::{describe_schema, describe_type};
use crate::step::keyed::{SpecProblem, column_hint, internal};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Notes the largest event time of what goes through it. It gives on what it gets.
#[derive(Debug, Clone, Copy)]
pub struct Observe {
    column: usize,
    watermark: usize,
}

impl Observe {
    /// Checks that rows of this schema have the event time; `watermark` is its index in the plan.
    ///
    /// # Errors
    ///
    /// When the column is not there, or holds no times. The problem's key is that of the event time's table.
    pub fn new(event_time: &EventTime, schema: &Schema, watermark: usize) -> Result<Self, SpecProblem> {
        let name = &event_time.column;
        let key = "column".to_owned();
        let Some((column, field)) = schema.column_with_name(name) else {
            let message = format!("there is no column `{name}`");
            return Err(SpecProblem { key, message, hint: Some(column_hint(schema, name)) });
        };
        if !is_time_type(field.data_type()) {
            let message = format!("column `{name}` has type {}, which is no time", describe_type(field.data_type()));
            let hint = format!(
                "Event times are of type timestamp. Give the column that type in the schema, or make one with a step: \
                 `with = {{ at = \"to_timestamp_millis({name})\" }}`, then `watermark = {{ column = \"at\", … }}`. The rows have {}.",
                describe_schema(schema)
            );
            return Err(SpecProblem { key, message, hint: Some(hint) });
        }
        Ok(Self { column, watermark })
    }

    /// Its watermark's index in the plan.
    #[must_use]
    pub fn watermark(&self) -> usize {
        self.watermark
    }
}

impl StepFactory for Observe {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Observing { observe: *self, task: task.clone() }))
    }
}

struct Observing {
    observe: Observe,
    task: TaskContext,
}

impl PipelineStep for Observing {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        let times = Arc::clone(rows.column(self.observe.column));
        let largest = largest_us(&times).map_err(internal("reading event times"))?;
        self.task.times.observe(self.observe.watermark, largest);
        emit(rows)
    }

    fn finish(&mut self, _: &mut Emit<'_>) -> Result<(), Error> {
        Ok(())
    }
}
