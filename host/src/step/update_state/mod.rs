//! `update-state = { by, plugin }`: a key's old state and new rows to an operator of role updater, its new state and rows out.
//!
//! ```text
//!  from ── shuffle by key ──▶ 1. keys with rows         ┐
//!                             2. keys that timed out    ├─▶ calls ─▶ changes of the state, rows
//!                             3. every other key that   ┘
//!                                has state, if asked for
//!
//!  table 0, slot 0: key ─▶ its timeout (8 bytes) and its state     table 1, slot = timeout: the keys
//! ```
//!
//! Which timeouts are due is read off table 1: what has state and nothing to do costs nothing.

mod bounds;
mod calls;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use crate::event_time::ClockId;
use crate::job::steps::{forget_plugin_keys, read_inner_plugin, read_partitions};
use crate::job::table::Table;
use crate::job::{DeadLetters, OperatorStep};
use crate::operator::{Limits, Timeouts, Updater, UpdaterPlan};
use crate::plan::{PlannedOperator, describe_schema};
use crate::shuffle::Partitioning;
use crate::state::{RowCodec, StepState};
use crate::step::caller::{Callee, same_plan};
use crate::step::dead_letters::{LetterBox, letters_of};
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::fold::{keyed_schema, value_columns};
use crate::step::keyed::{KeyColumns, SpecProblem};
use crate::step::transform::CallBounds;

/// What each key has.
const STATES: usize = 0;
/// When keys time out.
const TIMERS: usize = 1;

/// The step.
#[derive(Debug, Clone)]
pub struct UpdateState {
    /// The key columns.
    pub by: Vec<String>,
    /// The operator.
    pub operator: OperatorStep,
    /// Partitions of rows and state; the job's when not said.
    pub partitions: Option<u32>,
}

impl UpdateState {
    pub(crate) fn parse(table: &mut Table<'_>, limits: &Limits) -> Option<Self> {
        let Some(mut inner) = table.table("update-state") else {
            forget_plugin_keys(table);
            return None;
        };
        if !inner.has("by") {
            inner.missing("by", Some("Name the columns of the key, as in `by = [\"user\"]`.".into()));
        }
        let by = inner.texts("by");
        let partitions = read_partitions(&mut inner);
        let operator = read_inner_plugin(inner, table, limits, None);
        Some(Self { by: by?, operator: operator?, partitions })
    }
}

impl StepDefinition for UpdateState {
    fn kind(&self) -> &'static str {
        "update-state"
    }

    fn dead_letters(&self) -> Option<&DeadLetters> {
        self.operator.on_error.dead_letters()
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input();
        let dead_letters = letters_of(&self.operator)?;
        let mut problems = Vec::new();
        let keys = KeyColumns::resolve(input, &self.by, &mut problems);
        if !problems.is_empty() {
            problems.iter_mut().for_each(|problem| problem.key = format!("update-state.{}", problem.key));
            return Err(problems);
        }
        let (value_indices, values) = value_columns(input, &keys);
        let key_schema: SchemaRef = Arc::new(Schema::new(keys.fields.clone()));
        let operator = context.load(&self.operator, "update-state.plugin").map_err(|problem| vec![problem])?;
        let info = context.info(&self.operator);
        let first = operator.open_updater(&info, &key_schema, &values);
        let first = first.map_err(|error| vec![context.refused("update-state", error)])?;
        let plan = first.plan().clone();
        if plan.timeouts == Timeouts::EventTime && context.clock.is_none() {
            let source = context.sides[0].names.join("`, `");
            return Err(vec![SpecProblem {
                key: "from".into(),
                message: format!("`{}` times keys out in event time, and `{source}` has no watermark", operator.name()),
                hint: Some("Give the source `event-time = { column = \"…\", delay = \"…\" }`, or put a `watermark` step before this one.".into()),
            }]);
        }
        let codec = |schema: &SchemaRef, what: &str| {
            RowCodec::new(schema.clone()).map_err(|error| {
                let message = format!("the {what} cannot be kept: {error}");
                vec![SpecProblem { key: "update-state.plugin".into(), message, hint: None }]
            })
        };
        let (key_codec, state_codec) = (codec(&key_schema, "keys")?, codec(&plan.state, "state of a key")?);
        let read_schema = Schema::new(plan.reads.iter().map(|&index| values.field(index).clone()).collect::<Vec<_>>());
        let reads: Vec<String> = read_schema.fields().iter().map(|field| field.name().clone()).collect();
        let output = keyed_schema(&keys, &plan.writes);
        let callee = {
            let (operator, key_schema, plan) = (operator.clone(), key_schema.clone(), plan.clone());
            Callee::new(context, first, Updater::bytes_crossed, move || {
                let instance = operator.open_updater(&info, &key_schema, &values)?;
                same_plan(*instance.plan() == plan, operator.name(), &info.step)?;
                Ok(instance)
            })
        };
        let n_partitions = if self.by.is_empty() { 1 } else { self.partitions.unwrap_or(context.settings.partitions) };
        let keeps = format!("{} of each {}", describe_schema(&plan.state), describe_schema(&key_schema));
        let key_codec = Arc::new(key_codec);
        let state_codec = Arc::new(state_codec);
        let tables = calls::layouts(&key_codec, &state_codec);
        let state = context.keep(keeps, tables, n_partitions);
        let side = GatherSide { prepare: None, partitioning: Partitioning::Hash { columns: keys.indices.clone() } };
        let operators = vec![PlannedOperator {
            sha256: operator.sha256(),
            operator: operator.clone(),
            reads,
            limits: self.operator.limits.clone(),
            on_error: self.operator.on_error.clone(),
        }];
        let updating = Updating {
            operator: operator.name().to_owned(),
            letter_box: LetterBox::of_step(context, dead_letters, &operators),
            values: plan.reads.iter().map(|&index| value_indices[index]).collect(),
            keys,
            key_schema,
            read_schema: Arc::new(read_schema),
            key_codec,
            state_codec,
            plan,
            output: output.clone(),
            bounds: context.bounds(&self.operator),
            state_bounds: bounds::StateBounds::new(&self.operator.limits, n_partitions),
            clock: context.clock,
            state: state.clone(),
            callee,
        };
        let factory = Arc::new(calls::UpdateFactory(Arc::new(updating)));
        // Also without rows: keys time out.
        let gather = Gather { sides: vec![side], n_partitions, runs_when_empty: true, state: Some(state), factory };
        Ok(Built { operators, ..Built::gather(output, gather) })
    }
}

/// What all tasks of the step share.
struct Updating {
    operator: String,
    keys: KeyColumns,
    /// The columns of the input that the operator reads, in its order.
    values: Vec<usize>,
    key_schema: SchemaRef,
    read_schema: SchemaRef,
    key_codec: Arc<RowCodec>,
    state_codec: Arc<RowCodec>,
    plan: UpdaterPlan,
    output: SchemaRef,
    bounds: CallBounds,
    state_bounds: bounds::StateBounds,
    clock: Option<ClockId>,
    state: Arc<StepState>,
    callee: Arc<Callee<dyn Updater>>,
    /// Where the rows of keys are set aside that the operator fails for; `None`: they fail the task.
    letter_box: Option<Arc<LetterBox>>,
}

#[cfg(test)]
mod tests;
