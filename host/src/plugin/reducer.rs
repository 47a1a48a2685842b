//! A plugin opened as a reducer.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmtime::component::Instance;

use crate::operator::layout::FlatField;
use crate::operator::{Call, CallError, Crossed, Reducer, ReducerPlan, Role, StepInfo};
use crate::plugin::check;
use crate::plugin::contract::{self, Answer, ReducerExport, Refusal};
use crate::plugin::guest::GuestStore;
use crate::plugin::handle::AnyPlan;
use crate::plugin::seat::{OpenRole, Seat};

/// The role, for a [`Seat`].
pub(crate) struct AsReducer;

impl OpenRole for AsReducer {
    type Export = dyn ReducerExport;
    type RawPlan = bool;
    type Plan = ReducerPlan;

    const ROLE: Role = Role::Reducer;

    fn find(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<Self::Export>> {
        contract::reducer(store, instance)
    }

    fn open(
        export: &Self::Export,
        store: &mut GuestStore,
        step: &StepInfo,
        inputs: &[Vec<FlatField>],
    ) -> Answer<bool, Refusal> {
        export.open(store, step, &inputs[0])
    }

    fn check(invertible: bool, _inputs: &[SchemaRef]) -> Result<ReducerPlan, String> {
        Ok(ReducerPlan { invertible })
    }
}

impl From<ReducerPlan> for AnyPlan {
    fn from(plan: ReducerPlan) -> Self {
        AnyPlan::Reducer(plan)
    }
}

/// A plugin opened as a reducer, for one partition.
pub(crate) struct PluginReducer(pub(crate) Seat<AsReducer>);

impl Reducer for PluginReducer {
    fn plan(&self) -> ReducerPlan {
        *self.0.plan()
    }

    fn reduce(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        let schema = SchemaRef::clone(&self.0.inputs()[0]);
        self.0.run(call, values.num_rows(), |turn| {
            let lowered = turn.lower(values)?;
            let raw = turn.call(|export, store, call| export.reduce(store, call, &lowered, ends))?;
            let (answer, n_bytes) = check::answer(raw, &schema, ends.len(), "groups", turn.limits())?;
            turn.count_crossed(4 * ends.len() as u64, n_bytes);
            Ok(answer)
        })
    }

    fn invert(&mut self, call: &Call, whole: &RecordBatch, part: &RecordBatch) -> Result<RecordBatch, CallError> {
        let schema = SchemaRef::clone(&self.0.inputs()[0]);
        self.0.run(call, whole.num_rows(), |turn| {
            let (lowered_whole, lowered_part) = (turn.lower(whole)?, turn.lower(part)?);
            let raw = turn.call(|export, store, call| export.invert(store, call, &lowered_whole, &lowered_part))?;
            let (answer, n_bytes) = check::answer(raw, &schema, whole.num_rows(), "rows to invert", turn.limits())?;
            turn.count_crossed(0, n_bytes);
            Ok(answer)
        })
    }

    fn bytes_crossed(&self) -> Crossed {
        self.0.crossed()
    }
}
