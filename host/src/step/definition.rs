//! What a job says about a step of a built-in kind: its options, checked, and how it becomes part of a plan.
//!
//! Every kind is a file of this folder that implements [`StepDefinition`]; `kinds` lists them all.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use crate::error::Error;
use crate::event_time::{ClockId, EventTime};
use crate::job::{DeadLetters, OnError, OperatorRef, OperatorStep, Settings};
use crate::metrics::StepMeter;
use crate::operator::{Budget, OpenError, Operator, StepInfo, StopFlag};
use crate::plan::PlannedOperator;
use crate::plugin::{InstanceMode, LoadOptions, Runtime};
use crate::shuffle::Partitioning;
use crate::source::table::LiveTable;
use crate::state::{StepState, TableLayout};
use crate::step::StepFactory;
use crate::step::keyed::SpecProblem;
use crate::step::times::TimeColumns;
use crate::step::transform::CallBounds;

/// A step of a built-in kind.
pub trait StepDefinition: Send + Sync + fmt::Debug {
    /// The key that names its kind in a job file, as in `join`.
    fn kind(&self) -> &'static str;

    /// The streams and tables that it reads besides `from`: each is a side of its own, in this order, as the right side of
    /// a join.
    fn other_inputs(&self) -> Vec<String> {
        Vec::new()
    }

    /// Streams whose watermarks it follows without getting their rows.
    fn follows(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether one of them may be a table, of which no rows flow.
    fn reads_tables(&self) -> bool {
        false
    }

    /// Where it sets bad rows aside, if it does.
    fn dead_letters(&self) -> Option<&DeadLetters> {
        None
    }

    /// What is known of the times in the columns of its output, when it has been planned without [`Built::times`]; nothing where it is
    /// not said.
    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        let _ = (context, output);
        TimeColumns::default()
    }

    /// Checks the step against its inputs, and makes what runs it. Nothing runs yet.
    ///
    /// # Errors
    ///
    /// Every mistake there is; their keys are paths within the step's table, as in `join.on`.
    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>>;
}

/// The rows that a step gets on one side.
#[derive(Debug, Clone)]
pub struct Side {
    /// The sources and steps they come from; several are united.
    pub names: Vec<String>,
    /// Their schema.
    pub schema: SchemaRef,
    /// The clock of their event time, when one of the sources before has an event time.
    pub clock: Option<ClockId>,
    /// What is known of the times in its columns.
    pub times: TimeColumns,
    /// The table that it is, for an input that is a table: no rows of it flow.
    pub table: Option<Arc<LiveTable>>,
}

/// What a step is planned with.
pub struct PlanContext<'a> {
    /// The step's name.
    pub step: &'a str,
    /// What holds for the whole job.
    pub settings: &'a Settings,
    /// What it gets: `from`, then the other inputs.
    pub sides: &'a [Side],
    /// The clock of all sides together: the slowest of them.
    pub clock: Option<ClockId>,
    /// The number of the watermark that the step makes, if it makes one.
    pub new_watermark: usize,
    /// What is counted of it.
    pub meter: Arc<StepMeter>,
    /// What opens plugins.
    pub runtime: &'a Runtime,
    /// What the instances of the job together may use.
    pub budget: &'a Budget,
    /// Breaks off what runs when the job is stopped at once.
    pub stop: &'a StopFlag,
    /// What the steps of the job keep already, when it is planned again while it runs.
    pub states_before: &'a [Arc<StepState>],
}

impl PlanContext<'_> {
    /// The schema of `from`.
    #[must_use]
    pub fn input(&self) -> &SchemaRef {
        &self.sides[0].schema
    }

    /// What is known of the times in the columns of `from`.
    #[must_use]
    pub fn times(&self) -> &TimeColumns {
        &self.sides[0].times
    }

    /// The state of the step, which keeps this, in words: that it has already, or a new one. See [`StepState::keeping`].
    #[must_use]
    pub fn keep(&self, keeps: impl Into<String>, tables: Vec<TableLayout>, n_partitions: u32) -> Arc<StepState> {
        let keeps = keeps.into();
        let is_it = |state: &&Arc<StepState>| {
            state.step() == self.step && state.keeps() == keeps && state.n_partitions() == n_partitions
        };
        match self.states_before.iter().find(is_it) {
            Some(state) => state.clone(),
            None => StepState::keeping(self.step, keeps, tables, n_partitions),
        }
    }

    /// Opens the plugin of a step; `key` is where it is named, as in `group.plugin`.
    ///
    /// # Errors
    ///
    /// Why it cannot be loaded.
    pub fn load(&self, runs: &OperatorStep, key: &str) -> Result<Arc<dyn Operator>, SpecProblem> {
        match &runs.operator {
            OperatorRef::Registered(operator) => Ok(operator.clone()),
            OperatorRef::Plugin { written, path, sha256, fresh } => {
                let instance = if *fresh { InstanceMode::Fresh } else { InstanceMode::Kept };
                let options = LoadOptions {
                    sha256: sha256.clone(),
                    instance,
                    limits: runs.limits.clone(),
                    grants: runs.grants.clone(),
                };
                match self.runtime.load(written, path, &options) {
                    Ok(plugin) => Ok(Arc::new(plugin)),
                    Err(error) => {
                        let error = Error::from(error);
                        Err(SpecProblem { key: key.into(), message: error.in_one_line(), hint: error.hint() })
                    }
                }
            }
        }
    }

    /// Where the step's operator runs.
    #[must_use]
    pub fn info(&self, runs: &OperatorStep) -> StepInfo {
        StepInfo {
            job: self.settings.name.clone(),
            step: self.step.to_owned(),
            partitions: self.settings.partitions,
            config: runs.config.clone(),
            limits: runs.limits.clone(),
            budget: self.budget.clone(),
            stop: self.stop.clone(),
        }
    }

    /// How its input is cut into calls.
    #[must_use]
    pub fn bounds(&self, runs: &OperatorStep) -> CallBounds {
        CallBounds {
            rows: self.settings.rows_per_call,
            bytes: self.settings.bytes_per_call,
            whole_partition: runs.whole_partition,
            clock: self.clock,
        }
    }

    /// What an operator refused, at the key of the step's table that it is about; `table` is the kind's key, as in `group`.
    #[must_use]
    pub fn refused(&self, table: &str, error: OpenError) -> SpecProblem {
        // The key `transform` is the plugin itself, and what belongs to it stands beside it.
        let is_path = table == "transform";
        let key = match &error {
            OpenError::Config { .. } if is_path => "config".to_owned(),
            OpenError::Config { .. } => format!("{table}.config"),
            OpenError::Schema { .. } | OpenError::UnsupportedType { .. } => "from".to_owned(),
            OpenError::LimitExceeded { .. } => "limits".to_owned(),
            _ if is_path => table.to_owned(),
            _ => format!("{table}.plugin"),
        };
        let error = Error::from(error);
        SpecProblem { key, message: error.in_one_line(), hint: error.hint() }
    }
}

/// A step that fits.
pub struct Built {
    /// The schema of what it gives.
    pub output: SchemaRef,
    /// The operators it runs: none, one, or one for each function that it calls.
    pub operators: Vec<PlannedOperator>,
    /// What happens when the step itself fails, as an expression that has no value; operators say it for their calls.
    pub on_error: OnError,
    /// What runs it.
    pub body: Body,
    /// The event time that its rows have from here on, when it says so: then it follows [`PlanContext::new_watermark`].
    pub event_time: Option<EventTime>,
    /// What is known of the times in the columns of its output, when planning it has shown that; otherwise
    /// [`StepDefinition::times`] says it.
    pub times: Option<TimeColumns>,
}

/// What runs a step.
pub enum Body {
    /// Works on the rows of a partition as they come.
    Narrow(Arc<dyn StepFactory>),
    /// Brings rows together in a shuffle first.
    Gather(Gather),
}

/// A step behind a shuffle.
pub struct Gather {
    /// What happens to the rows of each side before they are dealt out; one a side.
    pub sides: Vec<GatherSide>,
    /// How many partitions they are dealt out to.
    pub n_partitions: u32,
    /// Whether it runs in every batch, also for partitions without rows: because of what it keeps, or because nothing is a result too.
    pub runs_when_empty: bool,
    /// What it keeps from batch to batch.
    pub state: Option<Arc<StepState>>,
    /// What is done behind the shuffle; its [`push_side`](crate::step::PipelineStep::push_side) is told the side.
    pub factory: Arc<dyn StepFactory>,
}

/// One side of a [`Gather`].
pub struct GatherSide {
    /// What is done with the rows before they are dealt out.
    pub prepare: Option<Arc<dyn StepFactory>>,
    /// By what they are dealt out.
    pub partitioning: Partitioning,
}

impl Built {
    /// A step that works on rows as they come.
    #[must_use]
    pub fn narrow(output: SchemaRef, factory: Arc<dyn StepFactory>) -> Self {
        Self::new(output, Body::Narrow(factory))
    }

    /// A step behind a shuffle.
    #[must_use]
    pub fn gather(output: SchemaRef, gather: Gather) -> Self {
        Self::new(output, Body::Gather(gather))
    }

    fn new(output: SchemaRef, body: Body) -> Self {
        Self { output, operators: Vec::new(), on_error: OnError::Fail, body, event_time: None, times: None }
    }
}
