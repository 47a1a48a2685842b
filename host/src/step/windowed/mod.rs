//! `aggregate` and `reduce` over more than one batch: running results, and windows of time, sessions, rows.
//!
//! Whatever is computed (built-in aggregates, an aggregator, a reducer) is computed by partials; here is decided which
//! partials are merged, and when they become results.
//!
//! ```text
//!  rows ─ assign ─ combine ──▶ partials by (window, key) ── shuffle by key ──▶ merge with state ── finish ──▶ results
//!         │ late rows set aside                                               │ partials as bytes
//! ```
//!
//! | file | what it has |
//! | --- | --- |
//! | `options` | what a job says, and how it is read |
//! | `panes` | where windows of time begin and end |
//! | `assign` | rows to windows, late rows |
//! | `partial_rows` | partials as bytes, and merged with state |
//! | `spec` | partials to results |
//! | `running`, `timed`, `sliding`, `blocks`, `sessions`, `counts` | what is behind the shuffle, a kind a file |
//!
//! The law: what comes out, over all partitions, depends on the rows of each batch and on the clocks, not on how rows were
//! cut into pushes and partitions; except for the rounding of floating-point sums, and for windows of rows, which follow
//! the order of arrival.

mod assign;
mod blocks;
mod counts;
mod options;
mod panes;
mod partial_rows;
mod running;
mod sessions;
mod sliding;
mod spec;
mod timed;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

pub(crate) use assign::TimeShape;
pub(crate) use options::read_over;
pub use options::{Running, Shape, Window, WindowOutput};
pub(crate) use panes::{Panes, micros};

use crate::event_time::is_time_type;
use crate::job::OperatorStep;
use crate::job::units::format_duration;
use crate::plan::describe_type;
use crate::plan::{PlannedOperator, describe_schema};
use crate::shuffle::Partitioning;
use crate::step::StepFactory;
use crate::step::aggregate::{AggregateSpec, value_of};
use crate::step::aggregate_with::AggregateWithSpec;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::fold::KeyedOpenError;
use crate::step::keyed::{KeyColumns, KeyedStep, SpecProblem, column_hint};
use crate::step::reduce::ReduceSpec;
use crate::step::times::{TimeColumns, TimeUse, WindowsBefore};
use assign::{AssignFactory, LateFactory, Lateness};
use counts::{CountPanes, CountsFactory};
use partial_rows::PartialCodec;
use running::RunningFactory;
use sessions::SessionsFactory;
use spec::{Labels, Spec, WINDOW_COLUMNS};
use timed::WindowsFactory;

/// Over which rows results are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// All rows so far.
    Running(Running),
    /// The rows of a window.
    Window(Window),
}

/// What is computed of the rows of a key.
#[derive(Debug, Clone)]
pub enum Computes {
    /// `aggregate = { select }`: output column and expression.
    Select(Vec<(String, String)>),
    /// `aggregate = { plugin }`.
    Aggregator(OperatorStep),
    /// `reduce = { plugin }`.
    Reducer(OperatorStep),
}

/// A running or windowed step.
#[derive(Debug, Clone)]
pub struct WindowedDefinition {
    /// What is computed.
    pub computes: Computes,
    /// The key columns; none: one group.
    pub by: Vec<String>,
    /// Partitions after the shuffle; the job's when not said.
    pub partitions: Option<u32>,
    /// Of which rows.
    pub over: Over,
}

/// The stream of the rows that are late for a windowed step.
#[derive(Debug, Clone)]
pub(crate) struct LateDefinition {
    /// The key that names the stream, as in `aggregate.late`.
    pub(crate) key: &'static str,
    /// The windows that they are late for.
    pub(crate) window: Window,
}

/// What a keyed step is once it is open.
struct Opened {
    keyed: Arc<dyn KeyedStep>,
    operator: Option<PlannedOperator>,
}

impl Computes {
    /// The key of the step's table that says it.
    fn table(&self) -> &'static str {
        match self {
            Computes::Select(_) | Computes::Aggregator(_) => "aggregate",
            Computes::Reducer(_) => "reduce",
        }
    }

    /// Opens it by keys that may be labels, on rows that may have them.
    fn open(&self, context: &PlanContext<'_>, input: &SchemaRef, by: &[String]) -> Result<Opened, Vec<SpecProblem>> {
        let table = self.table();
        let refused = |error| match error {
            KeyedOpenError::Spec(problems) => in_table(table, problems),
            KeyedOpenError::Open(error) => vec![context.refused(table, error)],
        };
        let planned = |runs: &OperatorStep, operator: Arc<dyn crate::operator::Operator>, reads| PlannedOperator {
            sha256: operator.sha256(),
            operator,
            reads,
            limits: runs.limits.clone(),
            on_error: runs.on_error.clone(),
        };
        let load = |runs| context.load(runs, &format!("{table}.plugin")).map_err(|problem| vec![problem]);
        let meter = context.meter.clone();
        Ok(match self {
            Computes::Select(select) => {
                let spec = AggregateSpec::resolve(context.step, input, by, select);
                Opened { keyed: Arc::new(spec.map_err(|problems| in_table(table, problems))?), operator: None }
            }
            Computes::Aggregator(runs) => {
                let operator = load(runs)?;
                let (info, bounds) = (context.info(runs), context.bounds(runs));
                let spec =
                    AggregateWithSpec::open(operator.clone(), info, input, by, bounds, meter).map_err(refused)?;
                let reads = spec.reads();
                Opened { keyed: Arc::new(spec), operator: Some(planned(runs, operator, reads)) }
            }
            Computes::Reducer(runs) => {
                let operator = load(runs)?;
                let (info, bounds) = (context.info(runs), context.bounds(runs));
                let spec = ReduceSpec::open(operator.clone(), info, input, by, bounds, meter).map_err(refused)?;
                let reads = spec.reads();
                Opened { keyed: Arc::new(spec), operator: Some(planned(runs, operator, reads)) }
            }
        })
    }
}

/// Problems whose keys are paths within the table `aggregate` or `reduce`.
fn in_table(table: &str, problems: Vec<SpecProblem>) -> Vec<SpecProblem> {
    let problems = problems.into_iter();
    problems.map(|problem| SpecProblem { key: format!("{table}.{}", problem.key), ..problem }).collect()
}

/// The shapes that a window of time may have; `None`: it is of rows.
fn time_shape(shape: Shape, on_batch_time: bool) -> Option<TimeShape> {
    match shape {
        Shape::Time { size, slide, offset } => {
            // None of them is 0: that is refused before.
            let [size, slide] = [size, slide].map(|duration| micros(duration).max(1));
            // On event time windows begin at multiples of the slide, on batch time they end there.
            let offset = micros(offset) - if on_batch_time { size } else { 0 };
            Some(TimeShape::Panes(Panes::new(size, slide, offset)))
        }
        Shape::Session { gap } => Some(TimeShape::Sessions(micros(gap).max(1))),
        Shape::Count { .. } => None,
    }
}

impl Window {
    /// Checks the window against the rows and the job; how rows are told from late ones, `None` for windows of rows.
    fn check(&self, context: &PlanContext<'_>, table: &str) -> Result<Option<Lateness>, Vec<SpecProblem>> {
        let problem = |key: &str, message: String, hint: String| {
            vec![SpecProblem { key: format!("{table}.{key}"), message, hint: Some(hint) }]
        };
        let wrong = self.shape.problems().into_iter().map(|(key, message, hint)| SpecProblem {
            key: format!("{table}.window.{key}"),
            message,
            hint,
        });
        let wrong: Vec<SpecProblem> = wrong.collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let Some(shape) = time_shape(self.shape, self.time.is_none()) else { return Ok(None) };
        let Some(time) = &self.time else {
            self.check_batch_time(context, table)?;
            return Ok(Some(Lateness { column: None, shape, clock: None, lateness_us: 0 }));
        };
        let input = context.input();
        let Some((column, field)) = input.column_with_name(time) else {
            let message = format!("the input has no column `{time}`");
            return Err(problem("window.time", message, column_hint(input, time)));
        };
        if !is_time_type(field.data_type()) {
            let message = format!("column `{time}` has type {}, which is no time", describe_type(field.data_type()));
            let hint = format!("Event times are of type timestamp. The rows have {}.", describe_schema(input));
            return Err(problem("window.time", message, hint));
        }
        if context.clock.is_none() {
            let names: Vec<_> = context.sides[0].names.iter().map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            let message =
                format!("a window on event time ends when a watermark says so, and the rows of {names} have none");
            let hint = format!(
                "Give the source of {names} `event-time = {{ column = \"{time}\", delay = \"10s\" }}`, or put a step \
                 `watermark = {{ column = \"{time}\", delay = \"10s\" }}` before this one. Without `time` the window is on batch time."
            );
            return Err(problem("window.time", message, hint));
        }
        let lateness_us = micros(self.lateness);
        if let Some((message, hint)) = context.sides[0].times.refusal(time, TimeUse::Windows(shape, lateness_us)) {
            return Err(problem("window.time", message, hint));
        }
        Ok(Some(Lateness { column: Some(column), shape, clock: context.clock, lateness_us }))
    }

    /// A window on batch time is so many batches.
    fn check_batch_time(&self, context: &PlanContext<'_>, table: &str) -> Result<(), Vec<SpecProblem>> {
        let interval = context.settings.batch_interval;
        let Shape::Time { size, slide, offset } = self.shape else { return Ok(()) };
        if interval.is_zero() {
            return Ok(());
        }
        let durations = [("size", size), ("slide", slide), ("offset", offset)];
        let wrong = durations.into_iter().filter(|(_, duration)| duration.as_nanos() % interval.as_nanos() != 0);
        let problems: Vec<SpecProblem> = wrong
            // Without `slide` it is the size, which has been told.
            .filter(|(key, duration)| *key != "slide" || *duration != size)
            .map(|(key, duration)| SpecProblem {
                key: format!("{table}.window.{key}"),
                message: format!(
                    "`{key}` is {}, which is no multiple of the batch interval, {}",
                    format_duration(duration),
                    format_duration(interval)
                ),
                hint: Some(
                    "A window on batch time is made of whole batches. For event time name its column: `time`.".into(),
                ),
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// Names for columns that the rows do not have.
fn free_names(input: &Schema, n: usize) -> Vec<String> {
    let free = (0..).map(|index| format!("window.{index}"));
    free.filter(|name| input.column_with_name(name).is_none()).take(n).collect()
}

impl StepDefinition for WindowedDefinition {
    fn kind(&self) -> &'static str {
        self.computes.table()
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        let Over::Window(window) = &self.over else { return TimeColumns::default() };
        let Some(shape) = time_shape(window.shape, window.time.is_none()) else { return TimeColumns::default() };
        let lateness_us = micros(window.lateness);
        let windows = WindowsBefore { step: context.step.to_owned(), shape, lateness_us };
        let select: &[(String, String)] = match &self.computes {
            Computes::Select(select) => select,
            Computes::Aggregator(_) | Computes::Reducer(_) => &[],
        };
        let times = match &window.time {
            Some(time) => {
                context.times().held_by(&windows, time).through(output, |name| value_of(name, &self.by, select))
            }
            // Rows come again and again: they follow no watermark.
            None => TimeColumns::default(),
        };
        times.with_windows(WINDOW_COLUMNS, window.time.is_some().then_some(windows))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let table = self.computes.table();
        let input = context.input();
        let mut problems = Vec::new();
        let lateness = match &self.over {
            Over::Running(_) => None,
            Over::Window(window) => window.check(context, table).unwrap_or_else(|wrong| {
                problems.extend(wrong);
                None
            }),
        };
        // First without labels: what is wrong is told in the terms of the job.
        if let Computes::Select(select) = &self.computes {
            if let Err(wrong) = AggregateSpec::resolve(context.step, input, &self.by, select) {
                problems.extend(in_table(table, wrong));
            }
        } else {
            let mut wrong = Vec::new();
            KeyColumns::resolve(input, &self.by, &mut wrong);
            problems.extend(in_table(table, wrong));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.build(context, lateness)
    }
}

impl WindowedDefinition {
    /// What is kept, in words: a checkpoint of other words is refused.
    fn keeps(&self, input: &SchemaRef, output: &SchemaRef, partials: &SchemaRef) -> String {
        let keys = self.by.iter().filter_map(|name| input.field_with_name(name).ok().cloned());
        let keys = describe_schema(&Schema::new(keys.collect::<Vec<_>>()));
        let computed = match &self.computes {
            Computes::Select(select) => {
                let texts: Vec<&str> = select.iter().map(|(_, text)| text.as_str()).collect();
                // What is kept of them has types of its own.
                let types: Vec<String> =
                    partials.fields().iter().map(|field| describe_type(field.data_type())).collect();
                format!("{} (as {})", texts.join(", "), types.join(", "))
            }
            // The plugin's file may be another one, as long as what it gives is the same.
            Computes::Aggregator(_) => format!("what an aggregator makes {} of", describe_schema(output)),
            Computes::Reducer(_) => format!("what a reducer makes {} of", describe_schema(output)),
        };
        let over = match &self.over {
            Over::Running(running) => match running.timeout {
                Some(timeout) => format!("all rows, forgotten after {}", format_duration(timeout)),
                None => "all rows".to_owned(),
            },
            Over::Window(window) => {
                let of = window.time.as_ref().map_or_else(|| "batch time".to_owned(), |time| format!("`{time}`"));
                match window.shape {
                    Shape::Time { size, slide, offset } => {
                        let [size, slide, offset] = [size, slide, offset].map(format_duration);
                        format!("windows of {size} every {slide}, offset {offset}, of {of}")
                    }
                    Shape::Session { gap } => format!("sessions with gaps of {} of {of}", format_duration(gap)),
                    Shape::Count { count, slide } => {
                        let forgotten = window.timeout.map_or_else(String::new, |timeout| {
                            format!(", forgotten after {}", format_duration(timeout))
                        });
                        format!("windows of {count} rows every {slide}{forgotten}")
                    }
                }
            }
        };
        format!("{computed} by {keys} of {over}")
    }

    fn labels(&self) -> Labels {
        match &self.over {
            Over::Running(_) => Labels::Running,
            Over::Window(window) => match (time_shape(window.shape, window.time.is_none()), window.shape) {
                (Some(TimeShape::Panes(panes)), _) => Labels::Windows(panes.size()),
                (Some(TimeShape::Sessions(gap_us)), _) => Labels::Sessions(gap_us),
                (None, Shape::Count { count, .. }) => Labels::Counts(count.cast_signed()),
                (None, _) => unreachable!("what is not of time is of rows"),
            },
        }
    }

    fn build(&self, context: &PlanContext<'_>, lateness: Option<Lateness>) -> Result<Built, Vec<SpecProblem>> {
        let table = self.computes.table();
        let input = context.input();
        let labels = self.labels();
        // A reducer would be asked to reduce the time of event time: windows have it already.
        let time = lateness.and_then(|lateness| lateness.column).filter(|&column| {
            matches!(self.computes, Computes::Reducer(_)) && !self.by.contains(input.field(column).name())
        });
        let columns: Vec<usize> = (0..input.fields().len()).filter(|column| Some(*column) != time).collect();
        let names = free_names(input, labels.n());
        let fields = columns.iter().map(|&column| input.field(column).clone());
        let label_fields = names.iter().map(|name| Field::new(name, DataType::Int64, false));
        let unlabelled: SchemaRef = Arc::new(Schema::new(fields.clone().collect::<Vec<_>>()));
        let labelled: SchemaRef = Arc::new(Schema::new(fields.chain(label_fields).collect::<Vec<_>>()));
        let by: Vec<String> = names.iter().chain(&self.by).cloned().collect();
        let Opened { keyed, operator } = self.computes.open(context, &labelled, &by)?;
        let output = Spec::output_schema(&*keyed, labels);
        self.check_names(&output, labels.n())?;

        let n_partitions = if self.by.is_empty() { 1 } else { self.partitions.unwrap_or(context.settings.partitions) };
        let codec = PartialCodec::new(context.step, &*keyed, labels.n()).map_err(|error| {
            let message = format!("what is kept from batch to batch cannot be written down: {error}");
            vec![SpecProblem { key: table.into(), message, hint: None }]
        })?;
        let tables = match (&self.over, labels) {
            (Over::Running(running), _) => running::layouts(&codec, running.timeout.is_some()),
            (_, Labels::Sessions(_)) => sessions::layouts(&codec),
            (Over::Window(window), Labels::Counts(_)) => counts::layouts(&codec, window.timeout.is_some()),
            _ => timed::layouts(&codec),
        };
        let state = context.keep(self.keeps(input, &output, &keyed.partial_schema()), tables, n_partitions);
        let spec = Arc::new(Spec {
            step: context.step.to_owned(),
            keyed: keyed.clone(),
            codec,
            labels,
            output: output.clone(),
            state: state.clone(),
            clock: lateness.and_then(|lateness| lateness.clock),
            lateness_us: lateness.map_or(0, |lateness| lateness.lateness_us),
        });
        // The keys of rows before windows are assigned, and of rows without the columns that are left out.
        let keys = KeyColumns::resolve(input, &self.by, &mut Vec::new());
        let keys_unlabelled = KeyColumns::resolve(&unlabelled, &self.by, &mut Vec::new());
        let by_key = keyed.partial_key_columns().split_off(labels.n());
        let assign = |lateness| {
            let prepare = AssignFactory {
                step: context.step.to_owned(),
                lateness,
                columns: columns.clone(),
                labelled: labelled.clone(),
                keys: keys.clone(),
                combine: keyed.combine(),
                meter: context.meter.clone(),
            };
            Arc::new(prepare) as Arc<dyn StepFactory>
        };
        let (prepare, columns_by, factory): (_, _, Arc<dyn StepFactory>) = match (&self.over, lateness) {
            (Over::Running(running), _) => {
                let timeout_us = running.timeout.map(|timeout| micros(timeout).max(1));
                let factory = RunningFactory { spec, complete: running.complete, timeout_us };
                (Some(keyed.combine()), by_key, Arc::new(factory))
            }
            (Over::Window(window), Some(lateness)) => {
                let factory: Arc<dyn StepFactory> = match lateness.shape {
                    TimeShape::Panes(panes) => Arc::new(WindowsFactory { spec, panes, output: window.output }),
                    TimeShape::Sessions(gap_us) => Arc::new(SessionsFactory { spec, gap_us, output: window.output }),
                };
                (Some(assign(lateness)), by_key, factory)
            }
            (Over::Window(window), None) => {
                let Shape::Count { count, slide } = window.shape else {
                    unreachable!("windows of time have a lateness")
                };
                let panes = CountPanes::new(count.cast_signed(), slide.cast_signed());
                let columns_by = keys_unlabelled.indices.clone();
                let factory = CountsFactory {
                    spec,
                    panes,
                    keys: keys_unlabelled,
                    with_panes: labelled,
                    combine: keyed.combine(),
                    timeout_us: window.timeout.map(|timeout| micros(timeout).max(1)),
                };
                (None, columns_by, Arc::new(factory))
            }
        };
        let side = GatherSide { prepare, partitioning: Partitioning::Hash { columns: columns_by } };
        let gather = Gather { sides: vec![side], n_partitions, runs_when_empty: true, state: Some(state), factory };
        Ok(Built { operators: operator.into_iter().collect(), ..Built::gather(output, gather) })
    }

    /// A window's columns have names that the results must leave free.
    fn check_names(&self, output: &Schema, n_labels: usize) -> Result<(), Vec<SpecProblem>> {
        if n_labels == 0 {
            return Ok(());
        }
        let taken = output.fields().iter().skip(WINDOW_COLUMNS.len());
        let taken = taken.filter(|field| WINDOW_COLUMNS.contains(&field.name().as_str()));
        let problems: Vec<SpecProblem> = taken
            .map(|field| {
                let name = field.name();
                let is_selected = matches!(&self.computes, Computes::Select(select) if select.iter().any(|(column, _)| column == name));
                let key = match (&self.computes, is_selected) {
                    (_, true) => format!("select.{name}"),
                    _ if self.by.contains(name) => "by".to_owned(),
                    _ => "plugin".to_owned(),
                };
                SpecProblem {
                    key: format!("{}.{key}", self.computes.table()),
                    message: format!("the output would have two columns `{name}`: windows have one of that name"),
                    hint: Some("Rename it in a step before this one, or in `select`.".into()),
                }
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl StepDefinition for LateDefinition {
    fn kind(&self) -> &'static str {
        "late"
    }

    fn times(&self, context: &PlanContext<'_>, _: &Schema) -> TimeColumns {
        match (&self.window.time, time_shape(self.window.shape, false)) {
            (Some(time), Some(shape)) => {
                context.times().late(time, TimeUse::Windows(shape, micros(self.window.lateness)))
            }
            _ => TimeColumns::default(),
        }
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let table = self.key.split('.').next().unwrap_or(self.key);
        match self.window.check(context, table) {
            Ok(Some(lateness)) => {
                let factory = LateFactory { step: context.step.to_owned(), lateness };
                Ok(Built::narrow(context.input().clone(), Arc::new(factory)))
            }
            Ok(None) => {
                let message = "no row is late for a window of rows".to_owned();
                Err(vec![SpecProblem { key: self.key.into(), message, hint: None }])
            }
            // The windowed step tells what is wrong, once.
            Err(_) => Err(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
