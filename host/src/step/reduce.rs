//! `reduce`: rows of equal keys combined into one by an operator of role reducer.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::metrics::StepMeter;
use crate::operator::{Call, CallError, Crossed, OpenError, Operator, Reducer, StepInfo};
use crate::step::fold::{FoldSpec, Folds, KeyedOpenError, keyed_schema, keyed_step_of_fold, value_columns};
use crate::step::keyed::KeyColumns;
use crate::step::transform::CallBounds;

/// A reduce step, checked against its input: its operator opened once, and opened again for every partition.
///
/// The output has the keys in the order of `by`, then the input's other columns in theirs; dictionaries come out as plain
/// values. Each key has one row, in the order in which keys first appeared. An empty batch gives none.
#[derive(Debug, Clone)]
pub struct ReduceSpec(Arc<FoldSpec<dyn Reducer>>);

impl ReduceSpec {
    /// Opens the operator on the columns of `input` that are not in `by`.
    ///
    /// # Errors
    ///
    /// Every mistake in `by`; or, when there is none, what the operator refuses.
    pub fn open(
        operator: Arc<dyn Operator>,
        info: StepInfo,
        input: &SchemaRef,
        by: &[String],
        bounds: CallBounds,
        meter: Arc<StepMeter>,
    ) -> Result<Self, KeyedOpenError> {
        let mut problems = Vec::new();
        let keys = KeyColumns::resolve(input, by, &mut problems);
        if !problems.is_empty() {
            return Err(KeyedOpenError::Spec(problems));
        }
        let (values, schema) = value_columns(input, &keys);
        let plan = operator.open_reducer(&info, &schema)?.plan();
        let output = keyed_schema(&keys, &schema);
        Ok(Self(Arc::new(FoldSpec {
            step: info.step.clone(),
            operator: operator.name().to_owned(),
            keys,
            values,
            grouped: output.clone(),
            partial_values: schema.clone(),
            result_values: schema.clone(),
            partial: output.clone(),
            output,
            bounds,
            meter,
            invert: if plan.invertible { Some(|it, call, whole, part| it.invert(call, whole, part)) } else { None },
            instances: Arc::default(),
            open: Box::new(move || {
                let instance = operator.open_reducer(&info, &schema)?;
                if instance.plan() == plan {
                    return Ok(instance);
                }
                Err(OpenError::PlanChanged { operator: operator.name().to_owned(), step: info.step.clone() })
            }),
        })))
    }

    /// The columns that the operator gets: all that are not keys.
    #[must_use]
    pub fn reads(&self) -> Vec<String> {
        self.0.read_names()
    }
}

keyed_step_of_fold!(ReduceSpec);

impl Folds for dyn Reducer {
    fn accumulate(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        self.reduce(call, values, ends)
    }

    fn merge(&mut self, call: &Call, partials: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        self.reduce(call, partials, ends)
    }

    fn finish(&mut self, _: &Call, _: &RecordBatch) -> Option<Result<RecordBatch, CallError>> {
        None
    }

    fn crossed(&self) -> Crossed {
        Reducer::bytes_crossed(self)
    }
}

#[cfg(test)]
mod tests;
