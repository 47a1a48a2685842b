//! Runs a plugin as a job would: one step, between rows in memory and rows in memory.
//!
//! It is the engine of every job, with a source that gives what it is told in the batches and partitions that it is told:
//! what is found out about a plugin here holds for it there.

mod compare;
mod feed;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub(super) use compare::{Line, compare, lines_of};
pub(super) use feed::Feed;
pub(super) use rows::{concat, keys_of, largest_group, one_column_null, read_rows, shuffle_between_keys};

use crate::clock::{Clock, ManualClock, SystemClock};
use crate::context::{Context, Stream};
use crate::error::{Error, Explain, Fault};
use crate::event_time::EventTime;
use crate::job::{Job, OperatorRef, OperatorStep, Settings, Trigger};
use crate::metrics::StepCounts;
use crate::operator::{Operator, Role, UpdaterPlan};
use crate::plugin::Runtime;
use crate::sink::Collect;

/// The job and the step that a plugin under trial runs in.
pub(super) const JOB: &str = "trial";
/// See [`JOB`].
pub(super) const STEP: &str = "operator";

/// When the batches of a trial are: 2026-01-01T00:00:00Z. Always the same, so that what an operator makes of it is.
const TIME: Duration = Duration::from_secs(1_767_225_600);

/// Which operator is tried, and how it is configured.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The operator.
    pub operator: Arc<dyn Operator>,
    /// The role that it is tried in.
    pub role: Role,
    /// The step's configuration.
    pub config: serde_json::Value,
    /// The columns that are the key, for a role that has one.
    pub by: Vec<String>,
    /// Whether each partition comes in one call.
    pub whole_partition: bool,
}

/// How rows are given to it.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// Partitions of the job.
    pub(super) partitions: u32,
    /// Rows that a call gets at most.
    pub(super) rows_per_call: u32,
}

impl Way {
    /// All at once: one partition, calls as large as they get.
    pub(super) fn whole() -> Self {
        Self { partitions: 1, rows_per_call: Settings::default().rows_per_call }
    }
}

/// What came of a trial.
#[derive(Debug)]
pub(super) struct Ran {
    /// The rows of each batch, in the order of its partitions.
    pub(super) batches: Vec<Vec<RecordBatch>>,
    /// What was counted of the step.
    pub(super) counts: StepCounts,
}

impl Ran {
    /// The rows of all batches.
    pub(super) fn rows(&self) -> impl Iterator<Item = &RecordBatch> {
        self.batches.iter().flatten()
    }
}

/// Why a plugin cannot be tried at all.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TrialError {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Explain for TrialError {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// Runs the operator on the rows of a feed.
///
/// # Errors
///
/// What the job failed with.
pub(super) fn run(subject: &Subject, runtime: &Runtime, feed: Feed, way: &Way) -> Result<Ran, Error> {
    let settings = Settings {
        name: JOB.into(),
        batch_interval: Duration::ZERO,
        trigger: Trigger::AvailableNow,
        partitions: way.partitions,
        rows_per_call: way.rows_per_call,
        attempts: 1,
        ..Settings::default()
    };
    // How long it takes is measured while rows are fed without end, and does not matter otherwise.
    let clock: Arc<dyn Clock> =
        if feed.is_timed() { Arc::new(SystemClock::new()) } else { Arc::new(ManualClock::at(TIME)) };
    let mut context = Context::from_job(Job { settings, ..Job::default() }, runtime.clone());
    context.set_clock(clock);
    let collect = Collect::new();
    let keeps = !feed.is_timed();
    {
        let source = Arc::new(feed);
        let rows = match event_time(subject, source.schema_of_rows()) {
            Some(time) => context.source_with_event_time("rows", source, time),
            None => context.source("rows", source),
        };
        let out = step(subject, &rows)?;
        if keeps {
            out.sink(Arc::new(collect.clone()));
        } else {
            out.foreach_batch(|_, _| Ok(()));
        }
    }
    let summary = context.start()?.await_termination()?;
    let batches = collect.batches().into_iter().map(|batch| batch.rows).collect();
    let counts = summary.steps.iter().find(|counts| counts.step == STEP).cloned().unwrap_or_default();
    Ok(Ran { batches, counts })
}

/// The step of the role.
fn step<'a>(subject: &Subject, rows: &Stream<'a>) -> Result<Stream<'a>, TrialError> {
    let Subject { operator, role, config, by, whole_partition } = subject;
    if *role != Role::Transform && by.is_empty() {
        return Err(TrialError {
            message: format!("a {role} needs a key"),
            hint: Some("Name its columns with `--by`, or with `by` in the `[test]` of `operator.toml`.".into()),
        });
    }
    let operator = OperatorStep {
        config: config.clone(),
        whole_partition: *whole_partition,
        ..OperatorStep::new(OperatorRef::Registered(Arc::clone(operator)))
    };
    let by = by.iter().map(String::as_str);
    Ok(match role {
        Role::Transform => rows.transform(STEP, operator),
        Role::Reducer => rows.reduce(STEP, by, operator),
        Role::Aggregator => rows.aggregate_with(STEP, by, operator),
        Role::Grouper => rows.group(STEP, by, operator),
        Role::Updater => rows.update_state(STEP, by, operator),
    })
}

/// The event time of rows for an updater whose timeouts are held against the watermark: of their first column of times.
fn event_time(subject: &Subject, schema: &SchemaRef) -> Option<EventTime> {
    use crate::operator::Timeouts;
    if subject.role != Role::Updater || updater_plan(subject, schema)?.timeouts != Timeouts::EventTime {
        return None;
    }
    let is_time = |data_type: &_| matches!(data_type, arrow::datatypes::DataType::Timestamp(..));
    let column = schema.fields().iter().find(|field| is_time(field.data_type()))?.name().clone();
    Some(EventTime { column, delay: Duration::ZERO, idle_timeout: None })
}

/// What the operator answers as an updater of rows of a schema; `None` when it refuses, which the job tells in its way.
fn updater_plan(subject: &Subject, schema: &SchemaRef) -> Option<UpdaterPlan> {
    let (keys, values) = split(subject, schema)?;
    let opened = subject.operator.open_updater(&step_info(subject), &keys, &values).ok()?;
    Some(opened.plan().clone())
}

/// The columns of a schema that are the key, and the others; `None` when one is missing.
pub(super) fn split(subject: &Subject, schema: &SchemaRef) -> Option<(SchemaRef, SchemaRef)> {
    let keys = subject.by.iter().map(|name| schema.index_of(name).ok()).collect::<Option<Vec<_>>>()?;
    let values: Vec<_> = (0..schema.fields().len()).filter(|index| !keys.contains(index)).collect();
    Some((Arc::new(schema.project(&keys).ok()?), Arc::new(schema.project(&values).ok()?)))
}

/// What `open` is told.
pub(super) fn step_info(subject: &Subject) -> crate::operator::StepInfo {
    crate::operator::StepInfo {
        job: JOB.into(),
        step: STEP.into(),
        partitions: 1,
        config: subject.config.clone(),
        limits: crate::operator::Limits::default(),
        budget: crate::operator::Budget::default(),
        stop: crate::operator::StopFlag::default(),
    }
}
