//! Job to plan: names become schemas, operators are opened, stages are cut at every shuffle.
//!
//! ```text
//!  source lines ─▶ words ─▶ counts: combine ─▶ shuffle │ counts: merge ─▶ console
//!  └────────────────── stage 0 ──────────────────────┘ └────── stage 1 ─────────┘
//! ```
//!
//! A stage is everything that rows reach from its entry without a shuffle. Rows of several inputs are united by pushing
//! them to the same node: such a node stands in several stages, and the partitions of those stages are numbered through.

mod again;
mod build;
mod describe;
mod kinds;
mod stages;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

pub(crate) use crate::type_name::describe_type;
pub(crate) use again::check_fits;
pub use again::{ChangedPlugin, changed_plugins};
pub use build::build_plan;
pub(crate) use build::build_plan_again;
pub use describe::{PlanDescription, describe_schema};

use crate::error::{Explain, Fault};
use crate::event_time::EventTime;
use crate::ids::StageId;
use crate::job::{Durability, OnError, Settings};
use crate::metrics::StepMeter;
use crate::operator::{Budget, Operator, StopFlag};
use crate::shuffle::Partitioning;
use crate::sink::SinkDefinition;
use crate::source::table::LiveTable;
use crate::source::{SourceDefinition, physical_schema};
use crate::state::StepState;
use crate::task::pipeline::Pipeline;

/// A job that has been checked, and how it runs.
pub struct Plan {
    /// What holds for the whole job.
    pub settings: Settings,
    /// The sources, in the job's order.
    pub sources: Vec<PlannedSource>,
    /// The tables, in the job's order.
    pub tables: Vec<Arc<LiveTable>>,
    /// The steps, in the order of the flow.
    pub steps: Vec<PlannedStep>,
    /// The sinks, in the job's order.
    pub sinks: Vec<PlannedSink>,
    /// The shuffles.
    pub shuffles: Vec<PlannedShuffle>,
    /// The stages, in the order of the flow.
    pub stages: Vec<Stage>,
    /// The event times that are followed, each by a watermark of its own.
    pub event_times: Vec<EventTime>,
    /// The clocks: for each the watermarks that it follows.
    pub clocks: Vec<Vec<usize>>,
    /// What steps keep from batch to batch.
    pub states: Vec<Arc<StepState>>,
    /// Breaks off what runs of the plan when the job is stopped at once.
    pub stop: StopFlag,
    /// What the instances of its plugins use together.
    pub budget: Budget,
}

impl Plan {
    /// Whether all that was received, and is in no batch when the job ends, is there in its next run.
    #[must_use]
    pub fn keeps_received(&self) -> bool {
        self.sources.iter().all(|source| source.durability != Durability::None || !source.definition.is_pushed_to())
    }
}

/// A source of a plan.
pub struct PlannedSource {
    /// Its name.
    pub name: String,
    /// What it is.
    pub definition: Arc<dyn SourceDefinition>,
    /// The schema of its rows.
    pub schema: SchemaRef,
    /// The stream of its rejected rows, if it sets them aside.
    pub dead_letter: Option<DeadLetter>,
    /// What of its rows a crash may lose, if it is a receiver.
    pub durability: Durability,
}

impl PlannedSource {
    /// The schema of what the source gives, rejected rows among it.
    #[must_use]
    pub fn physical_schema(&self) -> SchemaRef {
        if self.dead_letter.is_some() { physical_schema(&self.schema) } else { self.schema.clone() }
    }
}

/// The stream of the rejected rows of a source.
pub struct DeadLetter {
    /// What `from` calls it.
    pub name: String,
    /// What is counted of the two narrow steps that split the source's rows.
    pub meter: Arc<StepMeter>,
}

/// A step of a plan.
pub struct PlannedStep {
    /// Its name.
    pub name: String,
    /// The key that names its kind in a job file, as in `transform`.
    pub kind: &'static str,
    /// Where its rows come from.
    pub from: Vec<String>,
    /// The schema of what it gets.
    pub input: SchemaRef,
    /// The schema of what it gives.
    pub output: SchemaRef,
    /// The operators it runs: none, one, or one for each function that it calls.
    pub operators: Vec<PlannedOperator>,
    /// What happens when a call of one fails, or an expression or a query of the step.
    pub on_error: OnError,
    /// What is counted.
    pub meter: Arc<StepMeter>,
}

impl PlannedStep {
    /// Whether what it does before its shuffle makes partials of rows.
    pub(crate) fn is_combined(&self) -> bool {
        matches!(self.kind, "aggregate" | "reduce" | "count" | "count-by-value" | "distinct")
    }
}

/// The operator of a step.
pub struct PlannedOperator {
    /// The operator, opened once.
    pub operator: Arc<dyn Operator>,
    /// The SHA-256 of the plugin file in hexadecimal; `None` for an operator that the program brings.
    pub sha256: Option<String>,
    /// The columns that cross the boundary.
    pub reads: Vec<String>,
    /// What its instances may use.
    pub limits: crate::operator::Limits,
    /// What happens when a call fails.
    pub on_error: OnError,
}

/// A sink of a plan.
pub struct PlannedSink {
    /// Its name.
    pub name: String,
    /// Where its rows come from.
    pub from: Vec<String>,
    /// What it is.
    pub definition: Arc<dyn SinkDefinition>,
    /// The schema of its rows.
    pub schema: SchemaRef,
    /// What is counted.
    pub meter: Arc<StepMeter>,
}

/// A shuffle of a plan.
pub struct PlannedShuffle {
    /// The step it belongs to.
    pub step: String,
    /// How many partitions it deals rows out to.
    pub n_partitions: u32,
    /// By what.
    pub partitioning: Partitioning,
    /// Whether the stage after it runs for partitions without rows: a count of nothing is 0.
    pub runs_when_empty: bool,
}

/// Where a stage's rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A source, by its index in the plan.
    Source(usize),
    /// Shuffles, by their indices in the plan: one a side of the step behind them.
    Shuffles(Vec<usize>),
}

/// The steps between two shuffles.
pub struct Stage {
    /// Its number.
    pub id: StageId,
    /// Where its rows come from.
    pub entry: Entry,
    /// What is done with them.
    pub pipeline: Arc<Pipeline>,
    /// The stages that must have ended before it starts: those that write to its shuffle.
    pub depends_on: Vec<StageId>,
    /// Stages that share a node have one number here: their partitions are numbered through.
    pub group: usize,
    /// What it does, node by node, for people.
    pub nodes: Vec<String>,
}

/// A part of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A source.
    Source,
    /// A table.
    Table,
    /// A step.
    Step,
    /// A sink.
    Sink,
    /// The `[job]` table.
    Job,
}

/// Where in a job something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which kind of part.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// The key whose value is wrong, by its dotted path, as in `aggregate.by`.
    pub key: String,
    /// The part of its text that is wrong, in bytes; `None`: all of it.
    pub part_of_text: Option<std::ops::Range<usize>>,
}

/// One thing that is wrong with a job, found when its parts were put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanProblem {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to change.
    pub hint: Option<String>,
}

/// Everything that is wrong with a job.
#[derive(Debug, thiserror::Error)]
#[error("the job does not fit together: {}", self.summary())]
pub struct PlanErrors(pub Vec<PlanProblem>);

impl PlanErrors {
    fn summary(&self) -> String {
        let part = |part: Part| match part {
            Part::Source => "source",
            Part::Table => "table",
            Part::Step => "step",
            Part::Sink => "sink",
            Part::Job => "job",
        };
        let problems = self
            .0
            .iter()
            .map(|problem| format!("{} `{}`: {}", part(problem.place.part), problem.place.name, problem.message));
        problems.collect::<Vec<_>>().join("; ")
    }
}

impl Explain for PlanErrors {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        let hints: Vec<_> = self.0.iter().filter_map(|problem| problem.hint.clone()).collect();
        (!hints.is_empty()).then(|| hints.join("\n"))
    }
}
