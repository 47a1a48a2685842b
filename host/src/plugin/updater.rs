//! A plugin opened as an updater.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wasmtime::component::Instance;

use crate::operator::layout::FlatField;
use crate::operator::{Call, CallError, Crossed, Role, StepInfo, Updater, UpdaterInput, UpdaterOutput, UpdaterPlan};
use crate::plugin::check;
use crate::plugin::contract::{self, Answer, LoweredUpdate, RawUpdaterPlan, Refusal, UpdaterExport};
use crate::plugin::guest::GuestStore;
use crate::plugin::handle::AnyPlan;
use crate::plugin::seat::{OpenRole, Seat};

/// The role, for a [`Seat`]. Its schemas are those of the keys and of the values.
pub(crate) struct AsUpdater;

impl OpenRole for AsUpdater {
    type Export = dyn UpdaterExport;
    type RawPlan = RawUpdaterPlan;
    type Plan = UpdaterPlan;

    const ROLE: Role = Role::Updater;

    fn find(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<Self::Export>> {
        contract::updater(store, instance)
    }

    fn open(
        export: &Self::Export,
        store: &mut GuestStore,
        step: &StepInfo,
        inputs: &[Vec<FlatField>],
    ) -> Answer<RawUpdaterPlan, Refusal> {
        export.open(store, step, &inputs[0], &inputs[1])
    }

    fn check(raw: RawUpdaterPlan, inputs: &[SchemaRef]) -> Result<UpdaterPlan, String> {
        check::updater_plan(raw, &inputs[0], &inputs[1])
    }
}

impl From<UpdaterPlan> for AnyPlan {
    fn from(plan: UpdaterPlan) -> Self {
        AnyPlan::Updater(plan)
    }
}

/// A plugin opened as an updater, for one partition.
pub(crate) struct PluginUpdater {
    seat: Seat<AsUpdater>,
    /// What it writes when there is nothing.
    no_rows: RecordBatch,
    /// What it puts when nothing changes.
    no_state: RecordBatch,
}

impl PluginUpdater {
    /// The updater of an opened plugin.
    pub(crate) fn new(seat: Seat<AsUpdater>) -> Self {
        let no_rows = RecordBatch::new_empty(Arc::clone(&seat.plan().writes));
        let no_state = RecordBatch::new_empty(Arc::clone(&seat.plan().state));
        Self { seat, no_rows, no_state }
    }
}

impl Updater for PluginUpdater {
    fn plan(&self) -> &UpdaterPlan {
        self.seat.plan()
    }

    fn update(&mut self, call: &Call, input: &UpdaterInput<'_>) -> Result<UpdaterOutput, CallError> {
        input.assert_consistent();
        self.seat.run(call, input.values.num_rows(), |turn| {
            let lowered = LoweredUpdate {
                keys: turn.lower(input.keys)?,
                values: turn.lower(input.values)?,
                ends: input.ends,
                state: turn.lower(input.state)?,
                has_state: input.has_state.iter().map(|has| u8::from(*has)).collect(),
                timed_out: input.timed_out.iter().map(|timed_out| u8::from(*timed_out)).collect(),
            };
            // Four for its end, and two flags.
            turn.count_crossed(6 * input.ends.len() as u64, 0);
            let raw = turn.call(|export, store, call| export.update(store, call, &lowered))?;
            let (output, n_bytes) =
                check::updater_output(raw, turn.plan, &self.no_rows, &self.no_state, input, turn.limits())?;
            turn.count_crossed(0, n_bytes);
            Ok(output)
        })
    }

    fn bytes_crossed(&self) -> Crossed {
        self.seat.crossed()
    }
}
