//! An opened plugin: the instance that a partition of a step calls, and how another takes its place.
//!
//! ```text
//!  open ──▶ instance ── call ──▶ answer ──▶ call …            kept
//!                     ── call ──▶ error: store dropped, the seat is spent
//!  open ──▶ instance ── batch 1 ──▶ instance ── batch 2 ──▶ … fresh
//! ```

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio::runtime::Handle;
use wasmtime::component::Instance;
use wasmtime::{Trap, UpdateDeadline};

use crate::error::Retry;
use crate::ids::BatchId;
use crate::operator::layout::{self, FlatField, Lowered};
use crate::operator::{Call, CallError, CallSite, Crossed, Limit, OpenError, Role, StepInfo};
use crate::plugin::breach::{Breach, Phase};
use crate::plugin::check;
use crate::plugin::compile::CompileError;
use crate::plugin::contract::{Answer, Failure, Refusal};
use crate::plugin::error::EngineError;
use crate::plugin::guest::{Guest, GuestStore};
use crate::plugin::handle::{AnyPlan, PluginShared};
use crate::plugin::limiter::Denied;
use crate::plugin::runtime::{InstanceMode, PrepareError};

/// What an answer may take in the host besides the output limit, in bytes: the headers of its lists, and whatever a guest
/// hands to a function that it imports.
const LIFT_SLACK_BYTES: u64 = 256 << 10;
/// What `open` may hand over, in bytes: a schema, whatever the output limit is.
const PLAN_BYTES_MAX: u64 = 4 << 20;

/// A role as the seat sees it: how it is found in an instance, opened, and its plan checked.
pub(crate) trait OpenRole: 'static {
    /// The functions of the role in a guest.
    type Export: ?Sized + Send;
    /// The plan as the guest gives it.
    type RawPlan;
    /// The plan, checked.
    type Plan: Clone + Into<AnyPlan> + Send;

    /// Which role it is.
    const ROLE: Role;

    /// Finds the role's functions.
    fn find(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<Self::Export>>;

    /// Calls `open`.
    fn open(
        export: &Self::Export,
        store: &mut GuestStore,
        step: &StepInfo,
        inputs: &[Vec<FlatField>],
    ) -> Answer<Self::RawPlan, Refusal>;

    /// Checks the plan against the schemas that `open` was given, in the same order.
    fn check(raw: Self::RawPlan, inputs: &[SchemaRef]) -> Result<Self::Plan, String>;
}

/// A plugin opened in the role `R` for one partition of a step.
pub(crate) struct Seat<R: OpenRole> {
    opener: Opener,
    plan: R::Plan,
    /// `None` after an error: the instance is gone.
    live: Option<Live<R>>,
    /// What the instance in `live` has been used for: a batch and the attempt at it.
    used_for: Option<(BatchId, u32)>,
    crossed: Crossed,
}

/// What it takes to open another instance.
struct Opener {
    plugin: Arc<PluginShared>,
    step: StepInfo,
    /// The schemas that `open` is given, as the guest sees them: the input's, or those of the keys and of each input.
    inputs: Vec<SchemaRef>,
    fields: Vec<Vec<FlatField>>,
}

/// An instance in its store, with the functions of its role.
struct Live<R: OpenRole> {
    store: GuestStore,
    export: Box<R::Export>,
}

impl<R: OpenRole> Seat<R> {
    /// Opens `plugin` for a partition of a step, with the schemas that the role's `open` is given, in its order.
    pub(crate) fn open(plugin: &Arc<PluginShared>, step: &StepInfo, inputs: &[&SchemaRef]) -> Result<Self, OpenError> {
        let roles = &plugin.code.inspection().roles;
        if roles.iter().all(|export| export.role != R::ROLE) {
            return Err(OpenError::MissingRole {
                operator: plugin.name.clone(),
                step: step.step.clone(),
                role: R::ROLE,
                has: roles.iter().map(|export| export.role).collect(),
            });
        }
        let flatten = |input: &&SchemaRef| {
            layout::flatten(input).map_err(|unsupported| OpenError::UnsupportedType {
                step: step.step.clone(),
                column: unsupported.column,
                data_type: unsupported.data_type,
            })
        };
        let fields = inputs.iter().map(flatten).collect::<Result<_, _>>()?;
        let inputs = inputs.iter().map(|input| layout::contract_schema(input)).collect();
        let opener = Opener { plugin: Arc::clone(plugin), step: step.clone(), inputs, fields };
        let (live, plan) = opener.open::<R>()?;
        Ok(Self { opener, plan, live: Some(live), used_for: None, crossed: Crossed::default() })
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &R::Plan {
        &self.plan
    }

    /// The schemas that `open` was given, as the guest sees them.
    pub(crate) fn inputs(&self) -> &[SchemaRef] {
        &self.opener.inputs
    }

    /// What has crossed so far.
    pub(crate) fn crossed(&self) -> Crossed {
        self.crossed
    }

    /// Runs one call with `n_rows` rows of input. Whatever goes wrong in it, the seat is spent.
    pub(crate) fn run<T>(
        &mut self,
        call: &Call,
        n_rows: usize,
        work: impl FnOnce(&mut Turn<'_, R>) -> Result<T, Breach>,
    ) -> Result<T, CallError> {
        let result = self.take_turn(call, work);
        result.map_err(|breach| {
            // The store goes: after a trap it can never be entered again, after a lie it is not trusted.
            self.live = None;
            breach.into_call_error(CallSite {
                operator: self.opener.plugin.name.clone(),
                step: self.opener.step.step.clone(),
                batch_id: call.batch_id,
                partition: call.partition,
                n_rows,
            })
        })
    }

    fn take_turn<T>(
        &mut self,
        call: &Call,
        work: impl FnOnce(&mut Turn<'_, R>) -> Result<T, Breach>,
    ) -> Result<T, Breach> {
        let batch = (call.batch_id, call.attempt);
        if self.opener.plugin.instance == InstanceMode::Fresh
            && self.live.is_some()
            && self.used_for.is_some_and(|used_for| used_for != batch)
        {
            // The old one goes first: two at once would be twice the memory.
            self.live = None;
            let (live, _) = self.opener.open::<R>().map_err(Breach::of_reopening)?;
            self.live = Some(live);
        }
        self.used_for = Some(batch);
        let Some(live) = &mut self.live else {
            let reason = "its instance failed in an earlier call, and no other was opened".into();
            return Err(Breach::Failed { reason, retry: Retry::Never });
        };
        live.store.data_mut().begin_call(call);
        let mut turn = Turn { live, call, plan: &self.plan, step: &self.opener.step, crossed: &mut self.crossed };
        work(&mut turn)
    }
}

/// One call in the making: what the role's functions need.
pub(crate) struct Turn<'a, R: OpenRole> {
    live: &'a mut Live<R>,
    call: &'a Call,
    /// The plan.
    pub(crate) plan: &'a R::Plan,
    step: &'a StepInfo,
    crossed: &'a mut Crossed,
}

impl<R: OpenRole> Turn<'_, R> {
    /// The limits of the step.
    pub(crate) fn limits(&self) -> &crate::operator::Limits {
        &self.step.limits
    }

    /// Lays out a batch for the guest.
    pub(crate) fn lower<'b>(&mut self, batch: &'b RecordBatch) -> Result<Lowered<'b>, Breach> {
        let lowered = layout::lower(batch).map_err(|error| Breach::Failed {
            reason: format!("its input cannot be laid out for it: {error}"),
            retry: Retry::Never,
        })?;
        self.crossed.in_bytes += check::layout_bytes(lowered.nodes.len(), lowered.n_bytes());
        Ok(lowered)
    }

    /// Calls into the guest.
    pub(crate) fn call<T>(
        &mut self,
        function: impl FnOnce(&R::Export, &mut GuestStore, &Call) -> Answer<T, Failure>,
    ) -> Result<T, Breach> {
        let Live { store, export } = &mut *self.live;
        let limits = &self.step.limits;
        store.data_mut().time.begin_call(limits.time_per_call, limits.cpu_time_per_call, self.call.batch_id);
        store.set_epoch_deadline(1);
        if let Some(fuel) = limits.fuel_per_call {
            set_fuel(store, fuel);
        }
        let threads = store.data().threads.clone();
        // What it asks for goes on on these threads, not on those of whoever calls it.
        let within = threads.as_ref().map(Handle::enter);
        let answer = function(export, store, self.call);
        drop(within);
        let guest = store.data_mut();
        guest.time.end_call();
        guest.log.lock().end_call(answer.is_err());
        let guest = store.data();
        guest.metrics.note_memory(guest.limiter.memory_bytes());
        let answer = answer.map_err(|error| Breach::of(&error, guest, Phase::Call, limits))?;
        // It may have returned before an epoch went by; what it did is the same each time.
        if let Some(exceeded) = guest.exceeded() {
            return Err(Breach::exceeded(exceeded));
        }
        answer.map_err(|failure| Breach::from(failure).after_denial(guest))
    }

    /// Counts what came back besides what [`Turn::lower`] counts.
    pub(crate) fn count_crossed(&mut self, in_bytes: u64, out_bytes: u64) {
        self.crossed.in_bytes += in_bytes;
        self.crossed.out_bytes += out_bytes;
    }
}

impl Opener {
    /// A new instance, opened, its plan the same as that of the others.
    fn open<R: OpenRole>(&self) -> Result<(Live<R>, R::Plan), OpenError> {
        let Opener { plugin, step, inputs, fields } = self;
        let (operator, name) = (&*plugin.name, &*step.step);
        let step_shared = plugin.step(step);
        let limits = &step.limits;
        let pre = plugin.code.prepare(limits).map_err(|error| {
            let (operator, step) = (operator.to_owned(), name.to_owned());
            match error {
                PrepareError::Compile(CompileError::Limit { limit, seen }) => {
                    OpenError::LimitExceeded { operator, step, limit, seen }
                }
                PrepareError::Compile(CompileError::Engine(error)) | PrepareError::Link(error) => OpenError::Trapped {
                    operator,
                    step,
                    reason: format!("it cannot be compiled to count fuel: {error}"),
                },
            }
        })?;
        let slot = step.budget.take_instance().map_err(|spent| {
            Breach::denied(Denied { limit: Limit::JobInstances, max: spent.max, asked: spent.asked })
                .into_open_error(operator, name)
        })?;
        let epochs = plugin.code.epochs().clone();
        let guest = Guest::new(step, &step_shared, &plugin.reach, epochs, slot);
        let mut store = GuestStore::new(pre.engine(), guest);
        store.limiter(|guest| &mut guest.limiter);
        // Deadlines begin at 0: without these the first instruction would be the last.
        store.epoch_deadline_callback(|mut context| {
            if context.data_mut().may_go_on() { Ok(UpdateDeadline::Continue(1)) } else { Err(Trap::Interrupt.into()) }
        });
        store.data_mut().time.begin_open(limits.time_to_open, limits.cpu_time_to_open);
        store.set_epoch_deadline(1);
        if limits.fuel_per_call.is_some() {
            // Fuel is a limit on calls; opening is limited in time.
            set_fuel(&mut store, u64::MAX);
        }
        store.set_hostcall_fuel(bytes(PLAN_BYTES_MAX));

        let threads = store.data().threads.clone();
        let within = threads.as_ref().map(Handle::enter);
        let opened = match pre.instantiate(&mut store) {
            Err(error) => Err(Breach::of_instantiating(&error, store.data(), limits)),
            Ok(instance) => match R::find(&mut store, &instance) {
                Err(error) => {
                    let error = EngineError::new(&error);
                    Err(Breach::Invalid(format!("its `{}` is not the contract's: {error}", R::ROLE)))
                }
                Ok(export) => R::open(&export, &mut store, step, fields)
                    .map(|answer| (export, answer))
                    .map_err(|error| Breach::of(&error, store.data(), Phase::Open, limits)),
            },
        };
        drop(within);
        store.data_mut().log.lock().end_call(false);
        let opened =
            opened.and_then(|opened| store.data().exceeded().map_or(Ok(opened), |of| Err(Breach::exceeded(of))));
        let (export, answer) = opened.map_err(|breach| breach.into_open_error(operator, name))?;
        let raw = answer.map_err(|refusal| refusal.into_open_error(operator, name, inputs))?;
        let plan = R::check(raw, inputs).map_err(|rule| Breach::Invalid(rule).into_open_error(operator, name))?;
        if !step_shared.is_same_plan(step, inputs, plan.clone().into()) {
            return Err(OpenError::PlanChanged { operator: operator.into(), step: name.into() });
        }
        store.set_hostcall_fuel(bytes(limits.output_bytes.saturating_add(LIFT_SLACK_BYTES)));
        Ok((Live { store, export }, plan))
    }
}

fn set_fuel(store: &mut GuestStore, fuel: u64) {
    let result = store.set_fuel(fuel);
    debug_assert!(result.is_ok(), "an instance with a limit on fuel is in the engine that counts it");
}

fn bytes(n_bytes: u64) -> usize {
    usize::try_from(n_bytes).unwrap_or(usize::MAX)
}
