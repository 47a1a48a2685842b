//! A plugin opened as an aggregator.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmtime::component::Instance;

use crate::operator::layout::FlatField;
use crate::operator::{Aggregator, AggregatorPlan, Call, CallError, Crossed, Role, StepInfo};
use crate::plugin::check;
use crate::plugin::contract::{self, AggregatorExport, Answer, RawAggregatorPlan, Refusal};
use crate::plugin::guest::GuestStore;
use crate::plugin::handle::AnyPlan;
use crate::plugin::seat::{OpenRole, Seat};

/// The role, for a [`Seat`].
pub(crate) struct AsAggregator;

impl OpenRole for AsAggregator {
    type Export = dyn AggregatorExport;
    type RawPlan = RawAggregatorPlan;
    type Plan = AggregatorPlan;

    const ROLE: Role = Role::Aggregator;

    fn find(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<Self::Export>> {
        contract::aggregator(store, instance)
    }

    fn open(
        export: &Self::Export,
        store: &mut GuestStore,
        step: &StepInfo,
        inputs: &[Vec<FlatField>],
    ) -> Answer<RawAggregatorPlan, Refusal> {
        export.open(store, step, &inputs[0])
    }

    fn check(raw: RawAggregatorPlan, inputs: &[SchemaRef]) -> Result<AggregatorPlan, String> {
        check::aggregator_plan(raw, &inputs[0])
    }
}

impl From<AggregatorPlan> for AnyPlan {
    fn from(plan: AggregatorPlan) -> Self {
        AnyPlan::Aggregator(plan)
    }
}

/// A plugin opened as an aggregator, for one partition.
pub(crate) struct PluginAggregator(pub(crate) Seat<AsAggregator>);

impl Aggregator for PluginAggregator {
    fn plan(&self) -> &AggregatorPlan {
        self.0.plan()
    }

    fn accumulate(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        self.0.run(call, values.num_rows(), |turn| {
            let lowered = turn.lower(values)?;
            let raw = turn.call(|export, store, call| export.accumulate(store, call, &lowered, ends))?;
            let (answer, n_bytes) = check::answer(raw, &turn.plan.accumulator, ends.len(), "groups", turn.limits())?;
            turn.count_crossed(4 * ends.len() as u64, n_bytes);
            Ok(answer)
        })
    }

    fn merge(&mut self, call: &Call, accumulators: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        self.0.run(call, accumulators.num_rows(), |turn| {
            let lowered = turn.lower(accumulators)?;
            let raw = turn.call(|export, store, call| export.merge(store, call, &lowered, ends))?;
            let (answer, n_bytes) = check::answer(raw, &turn.plan.accumulator, ends.len(), "groups", turn.limits())?;
            turn.count_crossed(4 * ends.len() as u64, n_bytes);
            Ok(answer)
        })
    }

    fn finish(&mut self, call: &Call, accumulators: &RecordBatch) -> Result<RecordBatch, CallError> {
        self.0.run(call, accumulators.num_rows(), |turn| {
            let lowered = turn.lower(accumulators)?;
            let raw = turn.call(|export, store, call| export.finish(store, call, &lowered))?;
            let n_expected = accumulators.num_rows();
            let (answer, n_bytes) = check::answer(raw, &turn.plan.result, n_expected, "accumulators", turn.limits())?;
            turn.count_crossed(0, n_bytes);
            Ok(answer)
        })
    }

    fn bytes_crossed(&self) -> Crossed {
        self.0.crossed()
    }
}
