//! Builds a plan: schemas along the flow first, then stages.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use crate::event_time::{ClockId, EventTime};
use crate::job::text_part::split_key;
use crate::job::{Durability, Job, NamedTable, OnError, Source, Step, StepKind, Trigger};
use crate::metrics::StepMeter;
use crate::operator::{Budget, StopFlag};
use crate::plan::describe::describe_schema;
use crate::plan::kinds;
use crate::plan::stages::{Gathered, GatheredSide, Graph, PhysicalKind};
use crate::plan::{
    DeadLetter, Part, Place, Plan, PlanErrors, PlanProblem, PlannedShuffle, PlannedSink, PlannedSource, PlannedStep,
};
use crate::plugin::Runtime;
use crate::shuffle::Partitioning;
use crate::source::dead_letter_schema;
use crate::source::schema::parse_type;
use crate::source::table::LiveTable;
use crate::state::StepState;
use crate::step::StepFactory;
use crate::step::dead_letters::letter_schema;
use crate::step::definition::{Body, PlanContext, Side};
use crate::step::keyed::KeyColumns;
use crate::step::observe::Observe;
use crate::step::order::Order;
use crate::step::times::TimeColumns;
use crate::type_name::describe_type;

/// Puts a job together: opens its operators, finds every schema, cuts the stages.
///
/// Nothing runs yet, and no source or sink is opened.
///
/// # Errors
///
/// Everything that does not fit, at once. A step whose input is not known because of an earlier mistake is left out.
pub fn build_plan(job: &Job, runtime: &Runtime) -> Result<Plan, PlanErrors> {
    build(job, runtime, None)
}

/// Puts a job together again while it runs: plugins are loaded anew, and the plan shares with the one before what lives longer than a batch:
/// tables, what steps keep, what is counted, what plugins may use together, and how the job is stopped.
///
/// # Errors
///
/// As [`build_plan`].
pub(crate) fn build_plan_again(job: &Job, runtime: &Runtime, before: &Plan) -> Result<Plan, PlanErrors> {
    build(job, runtime, Some(before))
}

fn build(job: &Job, runtime: &Runtime, before: Option<&Plan>) -> Result<Plan, PlanErrors> {
    let mut builder = Builder {
        job,
        runtime,
        problems: Vec::new(),
        schemas: HashMap::new(),
        tables: HashMap::new(),
        kinds: HashMap::new(),
        watermarks: HashMap::new(),
        times: HashMap::new(),
        event_times: Vec::new(),
        clocks: Vec::new(),
        states: Vec::new(),
        observed: HashMap::new(),
        stop: before.map_or_else(StopFlag::default, |before| before.stop.clone()),
        budget: before.map_or_else(|| Budget::new(job.settings.job_limits.clone()), |before| before.budget.clone()),
        before,
    };
    let plan = builder.build();
    match plan {
        Some(plan) if builder.problems.is_empty() => Ok(plan),
        _ => Err(PlanErrors(builder.problems)),
    }
}

/// The type of the source that only one of a job can be.
const STDIN: &str = "stdin";

struct Builder<'a> {
    job: &'a Job,
    runtime: &'a Runtime,
    problems: Vec<PlanProblem>,
    schemas: HashMap<String, SchemaRef>,
    /// Tables stand beside streams: they can be the side of a step, and no rows of theirs flow.
    tables: HashMap<String, Arc<LiveTable>>,
    kinds: HashMap<String, PhysicalKind>,
    /// The watermarks that the rows of a source or step follow.
    watermarks: HashMap<String, BTreeSet<usize>>,
    /// What is known of the times in the columns of a source or step; of one that is not there, nothing.
    times: HashMap<String, TimeColumns>,
    event_times: Vec<EventTime>,
    clocks: Vec<Vec<usize>>,
    states: Vec<Arc<StepState>>,
    /// What follows the event time of a source, by the source's name.
    observed: HashMap<String, Arc<dyn StepFactory>>,
    stop: StopFlag,
    budget: Budget,
    /// The plan that runs, when the job is planned again.
    before: Option<&'a Plan>,
}

impl<'a> Builder<'a> {
    /// What is counted of a step; of one that runs already, what was.
    fn step_meter(&self, name: &str) -> Arc<StepMeter> {
        let before = self.before.and_then(|before| before.steps.iter().find(|step| step.name == name));
        before.map(|step| step.meter.clone()).unwrap_or_default()
    }

    fn sink_meter(&self, name: &str) -> Arc<StepMeter> {
        let before = self.before.and_then(|before| before.sinks.iter().find(|sink| sink.name == name));
        before.map(|sink| sink.meter.clone()).unwrap_or_default()
    }

    fn problem(&mut self, part: Part, name: &str, key: &str, message: impl Into<String>, hint: Option<String>) {
        let (key, part_of_text) = split_key(key).map_or((key, None), |(key, part_of_text)| (key, Some(part_of_text)));
        let place = Place { part, name: name.to_owned(), key: key.to_owned(), part_of_text };
        self.problems.push(PlanProblem { place, message: message.into(), hint });
    }

    fn build(&mut self) -> Option<Plan> {
        let job = self.job;
        if job.sources.is_empty() {
            self.problem(
                Part::Job,
                &job.settings.name,
                "",
                "the job has no source",
                Some("Add a `[[source]]`.".into()),
            );
        }
        if job.sinks.is_empty() {
            self.problem(Part::Job, &job.settings.name, "", "the job has no sink", Some("Add a `[[sink]]`.".into()));
        }
        let of_job = job.settings.durability.filter(|durability| *durability != Durability::None);
        if let (Some(durability), None) = (of_job, &job.settings.checkpoint) {
            self.needs_checkpoint(Part::Job, &job.settings.name, durability);
        }
        // Two readers of one input would each get torn lines.
        let mut of_stdin = job.sources.iter().filter(|source| source.definition.type_name() == STDIN);
        if let (Some(first), Some(second)) = (of_stdin.next(), of_stdin.next()) {
            let message = format!("`{}` and `{}` both read standard input, and there is one", first.name, second.name);
            let hint = format!("Let the steps behind both get their rows from `{}`.", first.name);
            self.problem(Part::Source, &second.name, "type", message, Some(hint));
        }
        let sources: Vec<_> = job.sources.iter().filter_map(|source| self.plan_source(source)).collect();
        let tables = job.tables.iter().filter_map(|table| self.plan_table(table)).collect();
        let steps = self.in_flow_order();
        let mut shuffles = Vec::new();
        let planned: Vec<_> = steps.iter().filter_map(|step| self.plan_step(step, &mut shuffles)).collect();
        let sinks: Vec<_> = job.sinks.iter().filter_map(|sink| self.plan_sink(sink)).collect();
        if !self.problems.is_empty() {
            return None;
        }
        let graph = Graph {
            kinds: &self.kinds,
            observed: &self.observed,
            sources: &sources,
            steps: &steps,
            planned: &planned,
            sinks: &sinks,
        };
        let stages = graph.cut_stages();
        let (stop, budget) = (self.stop.clone(), self.budget.clone());
        Some(Plan {
            settings: job.settings.clone(),
            sources,
            tables,
            steps: planned,
            sinks,
            shuffles,
            stages,
            event_times: std::mem::take(&mut self.event_times),
            clocks: std::mem::take(&mut self.clocks),
            states: std::mem::take(&mut self.states),
            stop,
            budget,
        })
    }

    fn plan_source(&mut self, source: &Source) -> Option<PlannedSource> {
        if self.job.settings.trigger == Trigger::AvailableNow && !source.definition.ends() {
            self.problem(
                Part::Source,
                &source.name,
                "type",
                format!(
                    "trigger `available-now` needs sources that end, and `{}` waits for more for ever",
                    source.name
                ),
                Some("Use `trigger = \"continuous\"`, or options with which the source ends.".into()),
            );
        }
        let durability = self.durability(source);
        match source.definition.schema() {
            Ok(schema) => {
                self.schemas.insert(source.name.clone(), schema.clone());
                if let Some(event_time) = &source.event_time {
                    match Observe::new(event_time, &schema, self.event_times.len()) {
                        Ok(observe) => {
                            self.event_times.push(event_time.clone());
                            self.watermarks.insert(source.name.clone(), [observe.watermark()].into());
                            let times = TimeColumns::of_event_time(&schema, &event_time.column);
                            self.times.insert(source.name.clone(), times);
                            self.observed.insert(source.name.clone(), Arc::new(observe));
                        }
                        Err(problem) => {
                            let key = format!("event-time.{}", problem.key);
                            self.problem(Part::Source, &source.name, &key, problem.message, problem.hint);
                        }
                    }
                }
                let dead_letter = source.definition.dead_letter().map(|name| {
                    self.schemas.insert(name.to_owned(), dead_letter_schema());
                    let before = self.before.iter().flat_map(|before| &before.sources);
                    let before = before.filter_map(|source| source.dead_letter.as_ref()).find(|of| of.name == name);
                    let meter = before.map(|before| before.meter.clone()).unwrap_or_default();
                    DeadLetter { name: name.to_owned(), meter }
                });
                let (name, definition) = (source.name.clone(), source.definition.clone());
                Some(PlannedSource { name, definition, schema, dead_letter, durability })
            }
            Err(error) => {
                self.problem(Part::Source, &source.name, "schema", error.to_string(), error.hint());
                None
            }
        }
    }

    /// What of the rows of a source a crash may lose.
    fn durability(&mut self, source: &Source) -> Durability {
        let settings = &self.job.settings;
        let has_checkpoint = settings.checkpoint.is_some();
        let is_lossless =
            |durability: Option<Durability>| durability.filter(|durability| *durability != Durability::None);
        if let Some(durability) = is_lossless(source.durability) {
            if !source.definition.is_pushed_to() {
                let message = format!("`{}` can be read again, and needs no `durability`", source.name);
                self.problem(Part::Source, &source.name, "durability", message, Some("Leave it out.".into()));
            } else if !has_checkpoint {
                self.needs_checkpoint(Part::Source, &source.name, durability);
            }
        }
        let default = if has_checkpoint { Durability::Row } else { Durability::None };
        let durability = source.durability.or(settings.durability).unwrap_or(default);
        let is_remote = settings.checkpoint.as_ref().is_some_and(|place| place.directory().is_none());
        if source.definition.is_pushed_to()
            && durability != Durability::None
            && is_remote
            && settings.wal_directory.is_none()
        {
            let message = format!("the rows that `{}` receives have no folder to be kept in", source.name);
            let hint = "Name one on a disk of this machine with `wal-directory` in `[job]`, as the checkpoint is in an object store; or write `durability = \"none\"`.";
            self.problem(Part::Source, &source.name, "durability", message, Some(hint.into()));
        }
        durability
    }

    fn needs_checkpoint(&mut self, part: Part, name: &str, durability: Durability) {
        let message = format!("`durability = \"{}\"` needs a `checkpoint`", durability.name());
        let hint = "Add `checkpoint` to `[job]`: without one a job starts anew each time. Or leave `durability` out.";
        self.problem(part, name, "durability", message, Some(hint.into()));
    }

    fn plan_table(&mut self, table: &NamedTable) -> Option<Arc<LiveTable>> {
        let before = self.before.iter().flat_map(|before| &before.tables).find(|before| before.name() == table.name);
        let live = match before {
            Some(before) => Ok(before.clone()),
            None => LiveTable::new(&table.name, table.source.clone()).map(Arc::new),
        };
        match live {
            Ok(live) => {
                self.schemas.insert(table.name.clone(), live.schema().clone());
                self.tables.insert(table.name.clone(), live.clone());
                Some(live)
            }
            Err(error) => {
                self.problem(Part::Table, &table.name, "path", error.in_one_line(), error.hint());
                None
            }
        }
    }

    /// The clock of some sources and steps together; `None` when none of them has an event time.
    fn clock(&mut self, names: &[String]) -> Option<ClockId> {
        let followed: BTreeSet<usize> =
            names.iter().filter_map(|name| self.watermarks.get(name)).flatten().copied().collect();
        if followed.is_empty() {
            return None;
        }
        let followed: Vec<usize> = followed.into_iter().collect();
        let known = self.clocks.iter().position(|clock| *clock == followed);
        Some(ClockId(known.unwrap_or_else(|| {
            self.clocks.push(followed);
            self.clocks.len() - 1
        })))
    }

    /// What is known of the times of some sources and steps together.
    fn times(&self, names: &[String]) -> TimeColumns {
        let nothing = TimeColumns::default();
        TimeColumns::united(names.iter().map(|name| self.times.get(name).unwrap_or(&nothing)))
    }

    /// The steps, every one after those it gets rows from; those in a cycle, or after a name that is not there, are
    /// problems and left out.
    fn in_flow_order(&mut self) -> Vec<&'a Step> {
        let of_source = |source: &'a Source| [Some(source.name.as_str()), source.definition.dead_letter()];
        let mut known: Vec<&str> = self.job.sources.iter().flat_map(of_source).flatten().collect();
        known.extend(self.job.tables.iter().map(|table| table.name.as_str()));
        let mut ordered = Vec::new();
        let mut left: Vec<&Step> = self.job.steps.iter().collect();
        loop {
            let (ready, waiting): (Vec<&Step>, Vec<&Step>) =
                left.iter().partition(|step| step.needs().iter().all(|from| known.contains(&from.as_str())));
            if ready.is_empty() {
                for step in waiting {
                    let inputs = step.needs();
                    let missing = inputs.iter().find(|from| !known.contains(&from.as_str()));
                    let missing = missing.map_or("", String::as_str);
                    self.problem(
                        Part::Step,
                        &step.name,
                        "from",
                        format!("`{missing}` is not known here: it is missing, or part of a cycle"),
                        None,
                    );
                }
                return ordered;
            }
            known.extend(ready.iter().map(|step| step.name.as_str()));
            known.extend(ready.iter().filter_map(|step| Some(step.dead_letters()?.name.as_str())));
            ordered.extend(ready);
            left = waiting;
        }
    }

    /// The schema of rows from several inputs: the same columns, nullable where one is.
    fn united(&mut self, part: Part, name: &str, from: &[String]) -> Option<SchemaRef> {
        let mut inputs = Vec::new();
        for input in from {
            inputs.push((input, self.schemas.get(input)?.clone()));
        }
        let ((first_name, first), rest) = inputs.split_first()?;
        let mut fields: Vec<_> = first.fields().iter().map(|field| field.as_ref().clone()).collect();
        for (other_name, other) in rest {
            let same = first.fields().len() == other.fields().len()
                && first
                    .fields()
                    .iter()
                    .zip(other.fields())
                    .all(|(a, b)| a.name() == b.name() && a.data_type().equals_datatype(b.data_type()));
            if !same {
                self.problem(
                    part,
                    name,
                    "from",
                    format!("`{first_name}` and `{other_name}` have different columns, and cannot be united"),
                    Some(format!(
                        "`{first_name}` has {}; `{other_name}` has {}.{}",
                        describe_schema(first),
                        describe_schema(other),
                        cast_hint(first_name, first, other_name, other)
                    )),
                );
                return None;
            }
            for (field, other) in fields.iter_mut().zip(other.fields()) {
                field.set_nullable(field.is_nullable() || other.is_nullable());
            }
        }
        Some(Arc::new(Schema::new(fields)))
    }

    fn plan_step(&mut self, step: &Step, shuffles: &mut Vec<PlannedShuffle>) -> Option<PlannedStep> {
        if let Some(table) = step.from.iter().find(|from| self.tables.contains_key(*from)) {
            let message = format!("`{table}` is a table, and rows do not flow out of a table");
            self.problem(Part::Step, &step.name, "from", message, Some("Join a stream with it.".into()));
            return None;
        }
        let input = self.united(Part::Step, &step.name, &step.from)?;
        let meter = self.step_meter(&step.name);
        let (kind, physical) = match &step.kind {
            StepKind::Union => ("union", PhysicalKind::Union),
            StepKind::Repartition { partitions, by, range } => {
                let partitioning = self.repartitioning(step, &input, by, *range)?;
                shuffles.push(PlannedShuffle {
                    step: step.name.clone(),
                    n_partitions: *partitions,
                    partitioning,
                    runs_when_empty: false,
                });
                ("repartition", PhysicalKind::Repartition(shuffles.len() - 1))
            }
            StepKind::Transform(_) => return self.plan_built(step, "transform", input, meter, shuffles),
            StepKind::Aggregate { .. } | StepKind::AggregateWith { .. } => {
                return self.plan_built(step, "aggregate", input, meter, shuffles);
            }
            StepKind::Reduce { .. } => return self.plan_built(step, "reduce", input, meter, shuffles),
            StepKind::Built(definition) => return self.plan_built(step, definition.kind(), input, meter, shuffles),
        };
        let followed = step.from.iter().filter_map(|from| self.watermarks.get(from)).flatten().copied().collect();
        self.watermarks.insert(step.name.clone(), followed);
        self.times.insert(step.name.clone(), self.times(&step.from));
        self.kinds.insert(step.name.clone(), physical);
        self.schemas.insert(step.name.clone(), input.clone());
        let (name, from) = (step.name.clone(), step.from.clone());
        Some(PlannedStep {
            name,
            kind,
            from,
            output: input.clone(),
            input,
            operators: Vec::new(),
            on_error: OnError::Fail,
            meter,
        })
    }

    /// A step that is planned from its inputs alone.
    fn plan_built(
        &mut self,
        step: &Step,
        kind: &'static str,
        input: SchemaRef,
        meter: Arc<StepMeter>,
        shuffles: &mut Vec<PlannedShuffle>,
    ) -> Option<PlannedStep> {
        let clock = self.clock(&step.from);
        let times = self.times(&step.from);
        let mut sides = vec![Side { names: step.from.clone(), schema: input.clone(), clock, times, table: None }];
        let definition = match &step.kind {
            StepKind::Built(definition) => Some(definition),
            _ => None,
        };
        for other in definition.map(|definition| definition.other_inputs()).unwrap_or_default() {
            let schema = self.schemas.get(&other)?.clone();
            let clock = self.clock(std::slice::from_ref(&other));
            let table = self.tables.get(&other).cloned();
            if table.is_some() && !definition.is_some_and(|definition| definition.reads_tables()) {
                let message = format!("`{other}` is a table, and rows do not flow out of a table");
                let hint = "Join a stream with it in a step before.".to_owned();
                self.problem(Part::Step, &step.name, kind, message, Some(hint));
                return None;
            }
            let times = self.times(std::slice::from_ref(&other));
            sides.push(Side { names: vec![other], schema, clock, times, table });
        }
        let inputs = step.inputs();
        let followed_names = step.needs();
        let clock = self.clock(&followed_names);
        let context = PlanContext {
            step: &step.name,
            settings: &self.job.settings,
            sides: &sides,
            clock,
            new_watermark: self.event_times.len(),
            meter: meter.clone(),
            runtime: self.runtime,
            budget: &self.budget,
            stop: &self.stop,
            states_before: self.before.map_or(&[], |before| &before.states),
        };
        let planned = match definition {
            Some(definition) => definition.plan(&context),
            None => kinds::plan(&step.kind, &context)?,
        };
        let mut built = match planned {
            Ok(built) => built,
            Err(problems) => {
                for problem in problems {
                    self.problem(Part::Step, &step.name, &problem.key, problem.message, problem.hint);
                }
                return None;
            }
        };
        let said = || definition.map(|definition| definition.times(&context, &built.output)).unwrap_or_default();
        let times = built.times.take().unwrap_or_else(said);
        self.times.insert(step.name.clone(), times);
        let followed = match built.event_time {
            Some(event_time) => {
                self.event_times.push(event_time);
                [self.event_times.len() - 1].into()
            }
            None => followed_names.iter().filter_map(|name| self.watermarks.get(name)).flatten().copied().collect(),
        };
        let physical = match built.body {
            Body::Narrow(factory) => PhysicalKind::Narrow(factory),
            Body::Gather(gather) => {
                let sides = gather.sides.into_iter().map(|side| {
                    shuffles.push(PlannedShuffle {
                        step: step.name.clone(),
                        n_partitions: gather.n_partitions,
                        partitioning: side.partitioning,
                        runs_when_empty: gather.runs_when_empty,
                    });
                    GatheredSide { prepare: side.prepare, shuffle: shuffles.len() - 1 }
                });
                let sides = sides.collect();
                self.states.extend(gather.state);
                PhysicalKind::Gathered(Gathered { sides, factory: gather.factory })
            }
        };
        let on_errors =
            || std::iter::once(&built.on_error).chain(built.operators.iter().map(|planned| &planned.on_error));
        let is_skipped = on_errors().any(|on_error| *on_error == OnError::SkipBatch);
        let on_error = match step.dead_letters() {
            Some(letters) => {
                self.schemas.insert(letters.name.clone(), letter_schema());
                OnError::DeadLetter(letters.clone())
            }
            None if on_errors().any(|on_error| on_error.dead_letters().is_some()) => {
                let message = format!("a step `{kind}` has no dead letters: which rows it fails for cannot be told");
                let hint = "Set bad rows aside in a `filter` or a `transform` before it.".to_owned();
                self.problem(Part::Step, &step.name, "on-error", message, Some(hint));
                return None;
            }
            None if is_skipped => OnError::SkipBatch,
            None => OnError::Fail,
        };
        self.watermarks.insert(step.name.clone(), followed);
        self.kinds.insert(step.name.clone(), physical);
        self.schemas.insert(step.name.clone(), built.output.clone());
        Some(PlannedStep {
            name: step.name.clone(),
            kind,
            from: inputs,
            input,
            output: built.output,
            operators: built.operators,
            on_error,
            meter,
        })
    }

    fn repartitioning(&mut self, step: &Step, input: &SchemaRef, by: &[String], range: bool) -> Option<Partitioning> {
        let mut problems = Vec::new();
        let partitioning = if range {
            Partitioning::Range { order: Order::resolve(input, by, "by", &mut problems) }
        } else {
            match KeyColumns::resolve(input, by, &mut problems).indices {
                columns if columns.is_empty() => Partitioning::RoundRobin,
                columns => Partitioning::Hash { columns },
            }
        };
        let is_right = problems.is_empty();
        for problem in problems {
            let key = format!("repartition.{}", problem.key);
            self.problem(Part::Step, &step.name, &key, problem.message, problem.hint);
        }
        is_right.then_some(partitioning)
    }

    fn plan_sink(&mut self, sink: &crate::job::Sink) -> Option<PlannedSink> {
        for from in &sink.from {
            let is_of = |source: &Source| source.name == *from || source.definition.dead_letter() == Some(from);
            let is_letters = |step: &Step| step.dead_letters().is_some_and(|letters| letters.name == *from);
            let is_of_step = |step: &Step| step.name == *from || is_letters(step);
            let exists = self.job.sources.iter().any(is_of) || self.job.steps.iter().any(is_of_step);
            if !exists {
                self.problem(Part::Sink, &sink.name, "from", format!("there is no source or step `{from}`"), None);
            }
        }
        let schema = self.united(Part::Sink, &sink.name, &sink.from)?;
        if let Err(error) = sink.definition.check(&schema) {
            self.problem(Part::Sink, &sink.name, "type", error.in_one_line(), error.hint());
        }
        Some(PlannedSink {
            name: sink.name.clone(),
            from: sink.from.clone(),
            definition: sink.definition.clone(),
            schema,
            meter: self.sink_meter(&sink.name),
        })
    }
}

/// How the first columns of one name and two types go together: one is cast to the other's, if job files have a name for
/// that.
fn cast_hint(first_name: &str, first: &Schema, other_name: &str, other: &Schema) -> String {
    let differs = |(a, b): &(&FieldRef, &FieldRef)| a.name() == b.name() && a.data_type() != b.data_type();
    let Some((a, b)) = first.fields().iter().zip(other.fields()).find(differs) else { return String::new() };
    let (wanted, found) = (describe_type(a.data_type()), describe_type(b.data_type()));
    // A text is made of most values, and few values of any text.
    let to_other = found == "utf8" || parse_type(&wanted).is_err();
    let (cast, data_type) = if to_other { (first_name, found) } else { (other_name, wanted) };
    if parse_type(&data_type).is_err() {
        return String::new();
    }
    format!(" Give `{cast}` a step `cast = {{ {} = \"{data_type}\" }}`, and unite what that gives.", a.name())
}
