//! A plugin opened as a grouper.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmtime::component::Instance;

use crate::operator::layout::FlatField;
use crate::operator::{Call, CallError, Crossed, Grouped, Grouper, GrouperOutput, GrouperPlan, Role, StepInfo};
use crate::plugin::check;
use crate::plugin::contract::{self, Answer, GrouperExport, RawGrouperPlan, Refusal};
use crate::plugin::guest::GuestStore;
use crate::plugin::handle::AnyPlan;
use crate::plugin::seat::{OpenRole, Seat};

/// The role, for a [`Seat`]. Its schemas are those of the keys and of each input.
pub(crate) struct AsGrouper;

impl OpenRole for AsGrouper {
    type Export = dyn GrouperExport;
    type RawPlan = RawGrouperPlan;
    type Plan = GrouperPlan;

    const ROLE: Role = Role::Grouper;

    fn find(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<Self::Export>> {
        contract::grouper(store, instance)
    }

    fn open(
        export: &Self::Export,
        store: &mut GuestStore,
        step: &StepInfo,
        inputs: &[Vec<FlatField>],
    ) -> Answer<RawGrouperPlan, Refusal> {
        export.open(store, step, &inputs[0], &inputs[1..])
    }

    fn check(raw: RawGrouperPlan, inputs: &[SchemaRef]) -> Result<GrouperPlan, String> {
        check::grouper_plan(raw, &inputs[0], &inputs[1..])
    }
}

impl From<GrouperPlan> for AnyPlan {
    fn from(plan: GrouperPlan) -> Self {
        AnyPlan::Grouper(plan)
    }
}

/// A plugin opened as a grouper, for one partition.
pub(crate) struct PluginGrouper {
    seat: Seat<AsGrouper>,
    /// What it writes when there is nothing.
    nothing: RecordBatch,
}

impl PluginGrouper {
    /// The grouper of an opened plugin.
    pub(crate) fn new(seat: Seat<AsGrouper>) -> Self {
        let nothing = RecordBatch::new_empty(Arc::clone(&seat.plan().writes));
        Self { seat, nothing }
    }
}

impl Grouper for PluginGrouper {
    fn plan(&self) -> &GrouperPlan {
        self.seat.plan()
    }

    fn process(&mut self, call: &Call, keys: &RecordBatch, inputs: &[Grouped<'_>]) -> Result<GrouperOutput, CallError> {
        self.seat.plan().assert_consistent(keys.num_rows(), inputs);
        let n_rows: Vec<_> = inputs.iter().map(|input| input.rows.num_rows()).collect();
        self.seat.run(call, n_rows.iter().sum(), |turn| {
            let lowered_keys = turn.lower(keys)?;
            let lowered = inputs
                .iter()
                .map(|input| turn.lower(input.rows).map(|rows| (rows, input.ends)))
                .collect::<Result<Vec<_>, _>>()?;
            turn.count_crossed(4 * (keys.num_rows() * inputs.len()) as u64, 0);
            let raw = turn.call(|export, store, call| export.process(store, call, &lowered_keys, &lowered))?;
            let (output, n_bytes) = check::grouper_output(raw, &self.nothing, keys.num_rows(), &n_rows, turn.limits())?;
            turn.count_crossed(0, n_bytes);
            Ok(output)
        })
    }

    fn bytes_crossed(&self) -> Crossed {
        self.seat.crossed()
    }
}
