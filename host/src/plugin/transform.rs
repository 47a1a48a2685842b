//! A plugin opened as a transform.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmtime::component::Instance;

use crate::operator::layout::FlatField;
use crate::operator::{Call, CallError, Crossed, Role, StepInfo, Transform, TransformOutput, TransformPlan};
use crate::plugin::check;
use crate::plugin::contract::{self, Answer, RawTransformPlan, Refusal, TransformExport};
use crate::plugin::guest::GuestStore;
use crate::plugin::handle::AnyPlan;
use crate::plugin::seat::{OpenRole, Seat};

/// The role, for a [`Seat`].
pub(crate) struct AsTransform;

impl OpenRole for AsTransform {
    type Export = dyn TransformExport;
    type RawPlan = RawTransformPlan;
    type Plan = TransformPlan;

    const ROLE: Role = Role::Transform;

    fn find(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<Self::Export>> {
        contract::transform(store, instance)
    }

    fn open(
        export: &Self::Export,
        store: &mut GuestStore,
        step: &StepInfo,
        inputs: &[Vec<FlatField>],
    ) -> Answer<RawTransformPlan, Refusal> {
        export.open(store, step, &inputs[0])
    }

    fn check(raw: RawTransformPlan, inputs: &[SchemaRef]) -> Result<TransformPlan, String> {
        check::transform_plan(raw, &inputs[0])
    }
}

impl From<TransformPlan> for AnyPlan {
    fn from(plan: TransformPlan) -> Self {
        AnyPlan::Transform(plan)
    }
}

/// A plugin opened as a transform, for one partition.
pub(crate) struct PluginTransform {
    seat: Seat<AsTransform>,
    /// What it writes when there is nothing: made once, since making the arrays costs as much as the rest of the call.
    nothing: RecordBatch,
}

impl PluginTransform {
    /// The transform of an opened plugin.
    pub(crate) fn new(seat: Seat<AsTransform>) -> Self {
        let nothing = RecordBatch::new_empty(Arc::clone(&seat.plan().writes));
        Self { seat, nothing }
    }
}

impl Transform for PluginTransform {
    fn plan(&self) -> &TransformPlan {
        self.seat.plan()
    }

    fn process(&mut self, call: &Call, input: &RecordBatch) -> Result<TransformOutput, CallError> {
        debug_assert_eq!(
            input.num_columns(),
            self.seat.plan().reads.len(),
            "the input has the columns that the plan reads"
        );
        self.seat.run(call, input.num_rows(), |turn| {
            let lowered = turn.lower(input)?;
            let raw = turn.call(|export, store, call| export.process(store, call, &lowered))?;
            let (output, n_bytes) =
                check::transform_output(raw, turn.plan, &self.nothing, lowered.rows, turn.limits())?;
            turn.count_crossed(0, n_bytes);
            Ok(output)
        })
    }

    fn bytes_crossed(&self) -> Crossed {
        self.seat.crossed()
    }
}
