//! A plugin opened as a transform.

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
        input: &[FlatField],
    ) -> Answer<RawTransformPlan, Refusal> {
        export.open(store, step, input)
    }

    fn check(raw: RawTransformPlan, input: &SchemaRef) -> Result<TransformPlan, String> {
        check::transform_plan(raw, input)
    }
}

impl From<TransformPlan> for AnyPlan {
    fn from(plan: TransformPlan) -> Self {
        AnyPlan::Transform(plan)
    }
}

/// A plugin opened as a transform, for one partition.
pub(crate) struct PluginTransform(pub(crate) Seat<AsTransform>);

impl Transform for PluginTransform {
    fn plan(&self) -> &TransformPlan {
        self.0.plan()
    }

    fn process(&mut self, call: &Call, input: &RecordBatch) -> Result<TransformOutput, CallError> {
        debug_assert_eq!(
            input.num_columns(),
            self.0.plan().reads.len(),
            "the input has the columns that the plan reads"
        );
        self.0.run(call, input.num_rows(), |turn| {
            let lowered = turn.lower(input)?;
            let raw = turn.call(|export, store, call| export.process(store, call, &lowered))?;
            let (output, n_bytes) = check::transform_output(raw, turn.plan, lowered.rows, turn.limits())?;
            turn.count_crossed(0, n_bytes);
            Ok(output)
        })
    }

    fn bytes_crossed(&self) -> Crossed {
        self.0.crossed()
    }
}
