//! `aggregate` with a plugin: rows of equal keys into an accumulator, accumulators into a result, by an operator of role
//! aggregator.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use crate::metrics::StepMeter;
use crate::operator::{Aggregator, Call, CallError, Crossed, OpenError, Operator, StepInfo};
use crate::step::fold::{FoldSpec, Folds, KeyedOpenError, keyed_schema, keyed_step_of_fold, value_columns};
use crate::step::keyed::{KeyColumns, SpecProblem};
use crate::step::transform::CallBounds;

/// An aggregate step with an operator, checked against its input: opened once, and opened again for every partition.
///
/// The output has the keys in the order of `by`, then the operator's result columns. Each key has one row, in the order
/// in which keys first appeared. An empty batch gives none.
#[derive(Debug, Clone)]
pub struct AggregateWithSpec(Arc<FoldSpec<dyn Aggregator>>);

impl AggregateWithSpec {
    /// Opens the operator on the columns of `input` that are not in `by`.
    ///
    /// # Errors
    ///
    /// Every mistake in `by`, or what the operator refuses; or a result column with the name of a key.
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
        let plan = operator.open_aggregator(&info, &schema)?.plan().clone();
        let clashes = plan.result.fields().iter().filter(|field| by.contains(field.name()));
        problems.extend(clashes.map(|field| SpecProblem {
            key: "by".into(),
            message: format!("`{}` gives a column `{}`, which is also a key", operator.name(), field.name()),
            hint: Some(format!("Rename the key column `{}` in a step before this one.", field.name())),
        }));
        if !problems.is_empty() {
            return Err(KeyedOpenError::Spec(problems));
        }
        let read: Vec<_> = plan.reads.iter().map(|&index| schema.field(index).clone()).collect();
        Ok(Self(Arc::new(FoldSpec {
            step: info.step.clone(),
            operator: operator.name().to_owned(),
            values: plan.reads.iter().map(|&index| values[index]).collect(),
            grouped: keyed_schema(&keys, &Schema::new(read)),
            partial_values: plan.accumulator.clone(),
            result_values: plan.result.clone(),
            partial: keyed_schema(&keys, &plan.accumulator),
            output: keyed_schema(&keys, &plan.result),
            keys,
            bounds,
            meter,
            invert: None,
            instances: Arc::default(),
            open: Box::new(move || {
                let instance = operator.open_aggregator(&info, &schema)?;
                if *instance.plan() == plan {
                    return Ok(instance);
                }
                Err(OpenError::PlanChanged { operator: operator.name().to_owned(), step: info.step.clone() })
            }),
        })))
    }

    /// The columns that the operator gets.
    #[must_use]
    pub fn reads(&self) -> Vec<String> {
        self.0.read_names()
    }
}

keyed_step_of_fold!(AggregateWithSpec);

impl Folds for dyn Aggregator {
    fn accumulate(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        Aggregator::accumulate(self, call, values, ends)
    }

    fn merge(&mut self, call: &Call, partials: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        Aggregator::merge(self, call, partials, ends)
    }

    fn finish(&mut self, call: &Call, partials: &RecordBatch) -> Option<Result<RecordBatch, CallError>> {
        Some(Aggregator::finish(self, call, partials))
    }

    fn crossed(&self) -> Crossed {
        Aggregator::bytes_crossed(self)
    }
}

#[cfg(test)]
mod tests;
