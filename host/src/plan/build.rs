//! Builds a plan: schemas along the flow first, then stages.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use crate::error::Error;
use crate::event_time::{ClockId, EventTime};
use crate::ids::StageId;
use crate::job::{Job, OperatorRef, OperatorStep, Source, Step, StepKind, Trigger};
use crate::metrics::StepMeter;
use crate::operator::{OpenError, Operator, StepInfo, StopFlag};
use crate::plan::describe::describe_schema;
use crate::plan::{
    DeadLetter, Entry, Part, Place, Plan, PlanErrors, PlanProblem, PlannedOperator, PlannedShuffle, PlannedSink,
    PlannedSource, PlannedStep, Stage,
};
use crate::plugin::{InstanceMode, LoadOptions, Runtime};
use crate::shuffle::Partitioning;
use crate::source::dead_letter_schema;
use crate::state::StepState;
use crate::step::aggregate::AggregateSpec;
use crate::step::aggregate_with::AggregateWithSpec;
use crate::step::definition::{Body, PlanContext, Side, StepDefinition};
use crate::step::keyed::KeyedStep;
use crate::step::observe::Observe;
use crate::step::reduce::ReduceSpec;
use crate::step::rejected::{Keep, KeepRows};
use crate::step::transform::{CallBounds, TransformStep};
use crate::step::{KeyedOpenError, StepFactory};
use crate::task::pipeline::{Node, NodeKind, Pipeline};

/// Puts a job together: opens its operators, finds every schema, cuts the stages.
///
/// Nothing runs yet, and no source or sink is opened.
///
/// # Errors
///
/// Everything that does not fit, at once. A step whose input is not known because of an earlier mistake is left out.
pub fn build_plan(job: &Job, runtime: &Runtime) -> Result<Plan, PlanErrors> {
    let mut builder = Builder {
        job,
        runtime,
        problems: Vec::new(),
        schemas: HashMap::new(),
        kinds: HashMap::new(),
        watermarks: HashMap::new(),
        event_times: Vec::new(),
        clocks: Vec::new(),
        states: Vec::new(),
        observed: HashMap::new(),
        stop: StopFlag::default(),
    };
    let plan = builder.build();
    match plan {
        Some(plan) if builder.problems.is_empty() => Ok(plan),
        _ => Err(PlanErrors(builder.problems)),
    }
}

/// The type of the source that only one of a job can be.
const STDIN: &str = "stdin";

/// What a step is once its schemas are known.
enum PhysicalKind {
    Narrow(Arc<dyn StepFactory>),
    Gathered(Gathered),
    Union,
    Repartition(usize),
}

/// A step behind a shuffle a side. Its factories are made once: they keep operator instances from batch to batch.
struct Gathered {
    sides: Vec<GatheredSide>,
    factory: Arc<dyn StepFactory>,
}

/// One side of it.
struct GatheredSide {
    /// What is done before the shuffle.
    prepare: Option<Arc<dyn StepFactory>>,
    shuffle: usize,
}

struct Builder<'a> {
    job: &'a Job,
    runtime: &'a Runtime,
    problems: Vec<PlanProblem>,
    schemas: HashMap<String, SchemaRef>,
    kinds: HashMap<String, PhysicalKind>,
    /// The watermarks that the rows of a source or step follow.
    watermarks: HashMap<String, BTreeSet<usize>>,
    event_times: Vec<EventTime>,
    clocks: Vec<Vec<usize>>,
    states: Vec<Arc<StepState>>,
    /// What follows the event time of a source, by the source's name.
    observed: HashMap<String, Arc<dyn StepFactory>>,
    stop: StopFlag,
}

/// A node of the graph that stages are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Physical {
    /// Keeps the good rows of the source of this index, which sets rejected ones aside.
    Good(usize),
    /// Keeps the rejected rows of the source.
    Rejected(usize),
    /// Follows the event time of the source of this index.
    Observe(usize),
    /// The step of this index in the order of the flow: all of it, or what it does behind its shuffles.
    Step(usize),
    /// What a step does on one side before its shuffle.
    Prepare(usize, usize),
    /// Writes to the shuffle of a side of the step.
    Write(usize, usize),
    /// The sink of this index.
    Sink(usize),
}

impl Physical {
    /// Orders nodes as rows flow.
    fn order(self) -> (usize, usize, usize) {
        match self {
            Physical::Good(source) => (0, source, 0),
            Physical::Rejected(source) => (0, source, 1),
            Physical::Observe(source) => (0, source, 2),
            Physical::Prepare(step, side) => (step + 1, 0, side),
            Physical::Write(step, side) => (step + 1, 1, side),
            Physical::Step(step) => (step + 1, 2, 0),
            Physical::Sink(sink) => (usize::MAX, sink, 0),
        }
    }
}

impl<'a> Builder<'a> {
    fn problem(&mut self, part: Part, name: &str, key: &str, message: impl Into<String>, hint: Option<String>) {
        let place = Place { part, name: name.to_owned(), key: key.to_owned() };
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
        // Two readers of one input would each get torn lines.
        let mut of_stdin = job.sources.iter().filter(|source| source.definition.type_name() == STDIN);
        if let (Some(first), Some(second)) = (of_stdin.next(), of_stdin.next()) {
            let message = format!("`{}` and `{}` both read standard input, and there is one", first.name, second.name);
            let hint = format!("Let the steps behind both get their rows from `{}`.", first.name);
            self.problem(Part::Source, &second.name, "type", message, Some(hint));
        }
        let sources: Vec<_> = job.sources.iter().filter_map(|source| self.plan_source(source)).collect();
        let steps = self.in_flow_order();
        let mut shuffles = Vec::new();
        let planned: Vec<_> = steps.iter().filter_map(|step| self.plan_step(step, &mut shuffles)).collect();
        let sinks: Vec<_> = job.sinks.iter().filter_map(|sink| self.plan_sink(sink)).collect();
        if !self.problems.is_empty() {
            return None;
        }
        let stages = self.cut_stages(&sources, &steps, &planned, &sinks);
        let stop = self.stop.clone();
        Some(Plan {
            settings: job.settings.clone(),
            sources,
            steps: planned,
            sinks,
            shuffles,
            stages,
            event_times: std::mem::take(&mut self.event_times),
            clocks: std::mem::take(&mut self.clocks),
            states: std::mem::take(&mut self.states),
            stop,
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
        match source.definition.schema() {
            Ok(schema) => {
                self.schemas.insert(source.name.clone(), schema.clone());
                if let Some(event_time) = &source.event_time {
                    match Observe::new(event_time, &schema, self.event_times.len()) {
                        Ok(observe) => {
                            self.event_times.push(event_time.clone());
                            self.watermarks.insert(source.name.clone(), [observe.watermark()].into());
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
                    DeadLetter { name: name.to_owned(), meter: Arc::new(StepMeter::default()) }
                });
                let (name, definition) = (source.name.clone(), source.definition.clone());
                Some(PlannedSource { name, definition, schema, dead_letter })
            }
            Err(error) => {
                self.problem(Part::Source, &source.name, "schema", error.to_string(), error.hint());
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

    /// The steps, every one after those it gets rows from; those in a cycle, or after a name that is not there, are
    /// problems and left out.
    fn in_flow_order(&mut self) -> Vec<&'a Step> {
        let of_source = |source: &'a Source| [Some(source.name.as_str()), source.definition.dead_letter()];
        let mut known: Vec<&str> = self.job.sources.iter().flat_map(of_source).flatten().collect();
        let mut ordered = Vec::new();
        let mut left: Vec<&Step> = self.job.steps.iter().collect();
        loop {
            let (ready, waiting): (Vec<&Step>, Vec<&Step>) =
                left.iter().partition(|step| step.inputs().iter().all(|from| known.contains(&from.as_str())));
            if ready.is_empty() {
                for step in waiting {
                    let inputs = step.inputs();
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
                        "`{first_name}` has {}; `{other_name}` has {}.",
                        describe_schema(first),
                        describe_schema(other)
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
        let input = self.united(Part::Step, &step.name, &step.from)?;
        let meter = Arc::new(StepMeter::default());
        if let StepKind::Built(definition) = &step.kind {
            return self.plan_built(step, &**definition, input, meter, shuffles);
        }
        let clock = self.clock(&step.from);
        let default_partitions = self.job.settings.partitions;
        let (kind, output, operator, physical) = match &step.kind {
            StepKind::Transform(runs) => {
                let operator = self.load(step, runs, "transform")?;
                let bounds = self.bounds(runs, clock);
                let opened =
                    TransformStep::open(operator.clone(), self.info(step, runs), input.clone(), bounds, meter.clone());
                let opened = self.opened(step, "transform", opened)?;
                let reads = opened.plan().reads.iter().map(|&index| input.field(index).name().clone()).collect();
                let output = opened.output_schema().clone();
                let planned = planned_operator(operator, runs, reads);
                ("transform", output, Some(planned), PhysicalKind::Narrow(Arc::new(opened)))
            }
            StepKind::Aggregate { by, select, partitions } => {
                let spec = match AggregateSpec::resolve(&step.name, &input, by, select) {
                    Ok(spec) => spec,
                    Err(problems) => {
                        for problem in problems {
                            let key = format!("aggregate.{}", problem.key);
                            self.problem(Part::Step, &step.name, &key, problem.message, problem.hint);
                        }
                        return None;
                    }
                };
                let output = spec.output_schema();
                let n_partitions = partitions.unwrap_or(default_partitions);
                ("aggregate", output, None, keyed_kind(step, &spec, n_partitions, shuffles))
            }
            StepKind::AggregateWith { by, operator: runs, partitions } => {
                let operator = self.load(step, runs, "aggregate.plugin")?;
                let info = self.info(step, runs);
                let bounds = self.bounds(runs, clock);
                let opened = AggregateWithSpec::open(operator.clone(), info, &input, by, bounds, meter.clone());
                let spec = self.keyed_opened(step, "aggregate", opened)?;
                let planned = planned_operator(operator, runs, spec.reads());
                let output = spec.output_schema();
                let n_partitions = partitions.unwrap_or(default_partitions);
                ("aggregate", output, Some(planned), keyed_kind(step, &spec, n_partitions, shuffles))
            }
            StepKind::Reduce { by, operator: runs, partitions } => {
                let operator = self.load(step, runs, "reduce.plugin")?;
                let info = self.info(step, runs);
                let bounds = self.bounds(runs, clock);
                let opened = ReduceSpec::open(operator.clone(), info, &input, by, bounds, meter.clone());
                let spec = self.keyed_opened(step, "reduce", opened)?;
                let planned = planned_operator(operator, runs, spec.reads());
                let output = spec.output_schema();
                let n_partitions = partitions.unwrap_or(default_partitions);
                ("reduce", output, Some(planned), keyed_kind(step, &spec, n_partitions, shuffles))
            }
            StepKind::Union => ("union", input.clone(), None, PhysicalKind::Union),
            StepKind::Repartition { partitions, by } => {
                let partitioning = self.repartitioning(step, &input, by)?;
                shuffles.push(PlannedShuffle {
                    step: step.name.clone(),
                    n_partitions: *partitions,
                    partitioning,
                    runs_when_empty: false,
                });
                ("repartition", input.clone(), None, PhysicalKind::Repartition(shuffles.len() - 1))
            }
            StepKind::Built(_) => unreachable!("it has been planned above"),
        };
        let followed = step.from.iter().filter_map(|from| self.watermarks.get(from)).flatten().copied().collect();
        self.watermarks.insert(step.name.clone(), followed);
        self.kinds.insert(step.name.clone(), physical);
        self.schemas.insert(step.name.clone(), output.clone());
        Some(PlannedStep { name: step.name.clone(), kind, from: step.from.clone(), input, output, operator, meter })
    }

    /// A step that plans itself.
    fn plan_built(
        &mut self,
        step: &Step,
        definition: &dyn StepDefinition,
        input: SchemaRef,
        meter: Arc<StepMeter>,
        shuffles: &mut Vec<PlannedShuffle>,
    ) -> Option<PlannedStep> {
        let mut sides = vec![Side { names: step.from.clone(), schema: input.clone(), clock: self.clock(&step.from) }];
        for other in definition.other_inputs() {
            let schema = self.schemas.get(&other)?.clone();
            let clock = self.clock(std::slice::from_ref(&other));
            sides.push(Side { names: vec![other], schema, clock });
        }
        let inputs = step.inputs();
        let clock = self.clock(&inputs);
        let context = PlanContext {
            step: &step.name,
            settings: &self.job.settings,
            sides: &sides,
            clock,
            new_watermark: self.event_times.len(),
            meter: meter.clone(),
            runtime: self.runtime,
            stop: &self.stop,
        };
        let built = match definition.plan(&context) {
            Ok(built) => built,
            Err(problems) => {
                for problem in problems {
                    self.problem(Part::Step, &step.name, &problem.key, problem.message, problem.hint);
                }
                return None;
            }
        };
        let followed = match built.event_time {
            Some(event_time) => {
                self.event_times.push(event_time);
                [self.event_times.len() - 1].into()
            }
            None => inputs.iter().filter_map(|name| self.watermarks.get(name)).flatten().copied().collect(),
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
        self.watermarks.insert(step.name.clone(), followed);
        self.kinds.insert(step.name.clone(), physical);
        self.schemas.insert(step.name.clone(), built.output.clone());
        Some(PlannedStep {
            name: step.name.clone(),
            kind: definition.kind(),
            from: inputs,
            input,
            output: built.output,
            operator: built.operator,
            meter,
        })
    }

    fn repartitioning(&mut self, step: &Step, input: &SchemaRef, by: &[String]) -> Option<Partitioning> {
        let mut columns = Vec::new();
        for name in by {
            match input.index_of(name) {
                Ok(index) => columns.push(index),
                Err(_) => {
                    let hint = format!("The input has the columns {}.", describe_schema(input));
                    let message = format!("there is no column `{name}`");
                    self.problem(Part::Step, &step.name, "repartition.by", message, Some(hint));
                    return None;
                }
            }
        }
        Some(if columns.is_empty() { Partitioning::RoundRobin } else { Partitioning::Hash { columns } })
    }

    fn load(&mut self, step: &Step, runs: &OperatorStep, key: &str) -> Option<Arc<dyn Operator>> {
        match &runs.operator {
            OperatorRef::Registered(operator) => Some(operator.clone()),
            OperatorRef::Plugin { written, path, sha256, fresh } => {
                let instance = if *fresh { InstanceMode::Fresh } else { InstanceMode::Kept };
                let options =
                    LoadOptions { sha256: sha256.clone(), instance, counts_fuel: runs.limits.fuel_per_call.is_some() };
                match self.runtime.load(written, path, &options) {
                    Ok(plugin) => Some(Arc::new(plugin)),
                    Err(error) => {
                        let error = Error::from(error);
                        self.problem(Part::Step, &step.name, key, error.in_one_line(), error.hint());
                        None
                    }
                }
            }
        }
    }

    fn info(&self, step: &Step, runs: &OperatorStep) -> StepInfo {
        StepInfo {
            job: self.job.settings.name.clone(),
            step: step.name.clone(),
            partitions: self.job.settings.partitions,
            config: runs.config.clone(),
            limits: runs.limits.clone(),
            stop: self.stop.clone(),
        }
    }

    fn bounds(&self, runs: &OperatorStep, clock: Option<ClockId>) -> CallBounds {
        let settings = &self.job.settings;
        CallBounds {
            rows: settings.rows_per_call,
            bytes: settings.bytes_per_call,
            whole_partition: runs.whole_partition,
            clock,
        }
    }

    /// Notes what an operator refused, at the key that it is about.
    fn opened<T>(&mut self, step: &Step, kind_key: &str, opened: Result<T, OpenError>) -> Option<T> {
        let error = match opened {
            Ok(opened) => return Some(opened),
            Err(error) => error,
        };
        let table = kind_key.split('.').next().unwrap_or(kind_key);
        let in_table = |key: &str| if table == "transform" { key.to_owned() } else { format!("{table}.{key}") };
        let key = match &error {
            OpenError::Config { .. } => in_table("config"),
            OpenError::Schema { .. } | OpenError::UnsupportedType { .. } => "from".to_owned(),
            OpenError::LimitExceeded { .. } => "limits".to_owned(),
            _ => kind_key.to_owned(),
        };
        let error = Error::from(error);
        self.problem(Part::Step, &step.name, &key, error.in_one_line(), error.hint());
        None
    }

    /// As [`opened`](Self::opened), for a step by key.
    fn keyed_opened<T>(&mut self, step: &Step, kind: &str, opened: Result<T, KeyedOpenError>) -> Option<T> {
        match opened {
            Ok(opened) => Some(opened),
            Err(KeyedOpenError::Open(error)) => self.opened(step, &format!("{kind}.plugin"), Err(error)),
            Err(KeyedOpenError::Spec(problems)) => {
                for problem in problems {
                    let key = format!("{kind}.{}", problem.key);
                    self.problem(Part::Step, &step.name, &key, problem.message, problem.hint);
                }
                None
            }
        }
    }

    fn plan_sink(&mut self, sink: &crate::job::Sink) -> Option<PlannedSink> {
        for from in &sink.from {
            let is_of = |source: &Source| source.name == *from || source.definition.dead_letter() == Some(from);
            let exists = self.job.sources.iter().any(is_of) || self.job.steps.iter().any(|step| step.name == *from);
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
            meter: Arc::new(StepMeter::default()),
        })
    }

    /// Cuts the graph at its shuffles.
    fn cut_stages(
        &self,
        sources: &[PlannedSource],
        steps: &[&Step],
        planned: &[PlannedStep],
        sinks: &[PlannedSink],
    ) -> Vec<Stage> {
        let graph = Graph { builder: self, sources, steps, planned, sinks };
        let mut entries: Vec<(Entry, Vec<Physical>)> = Vec::new();
        for (index, source) in self.job.sources.iter().enumerate() {
            let roots = match graph.sources[index].dead_letter {
                Some(_) => vec![Physical::Good(index), Physical::Rejected(index)],
                None if self.observed.contains_key(&source.name) => vec![Physical::Observe(index)],
                None => graph.consumers(&source.name),
            };
            entries.push((Entry::Source(index), roots));
        }
        for (index, step) in steps.iter().enumerate() {
            match &self.kinds[&step.name] {
                PhysicalKind::Gathered(gathered) => {
                    let shuffles = gathered.sides.iter().map(|side| side.shuffle).collect();
                    entries.push((Entry::Shuffles(shuffles), vec![Physical::Step(index)]));
                }
                PhysicalKind::Repartition(shuffle) => {
                    entries.push((Entry::Shuffles(vec![*shuffle]), graph.consumers(&step.name)));
                }
                PhysicalKind::Narrow(_) | PhysicalKind::Union => {}
            }
        }
        let reached: Vec<Vec<Physical>> = entries.iter().map(|(_, roots)| graph.reach(roots)).collect();
        let groups = group_by_shared_nodes(&reached);
        let stages = entries.iter().zip(&reached).enumerate().map(|(index, ((entry, roots), nodes))| {
            let writers = |shuffles: &[usize]| {
                let is_write = |node: &Physical| match node {
                    Physical::Write(step, side) => shuffles.contains(&graph.shuffle_of(*step, *side)),
                    _ => false,
                };
                let writes = |nodes: &[Physical]| nodes.iter().any(is_write);
                let writing = reached.iter().enumerate().filter(|(_, nodes)| writes(nodes));
                writing.map(|(stage, _)| StageId(stage as u32)).collect()
            };
            Stage {
                id: StageId(index as u32),
                entry: entry.clone(),
                pipeline: Arc::new(graph.pipeline(roots, nodes)),
                depends_on: match entry {
                    Entry::Source(_) => Vec::new(),
                    Entry::Shuffles(shuffles) => writers(shuffles),
                },
                group: groups[index],
                nodes: nodes.iter().map(|node| graph.label(*node)).collect(),
            }
        });
        stages.collect()
    }
}

/// The job as a graph of physical nodes.
struct Graph<'a> {
    builder: &'a Builder<'a>,
    sources: &'a [PlannedSource],
    steps: &'a [&'a Step],
    planned: &'a [PlannedStep],
    sinks: &'a [PlannedSink],
}

impl Graph<'_> {
    fn kind(&self, step: usize) -> &PhysicalKind {
        &self.builder.kinds[&self.steps[step].name]
    }

    fn shuffle_of(&self, step: usize, side: usize) -> usize {
        match self.kind(step) {
            PhysicalKind::Gathered(gathered) => gathered.sides[side].shuffle,
            PhysicalKind::Repartition(shuffle) => *shuffle,
            PhysicalKind::Narrow(_) | PhysicalKind::Union => unreachable!("only a step with a shuffle writes to one"),
        }
    }

    /// The nodes that get the rows of a source or step.
    fn consumers(&self, name: &str) -> Vec<Physical> {
        let mut nodes = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            for (side, _) in step.sides().iter().enumerate().filter(|(_, from)| from.iter().any(|from| from == name)) {
                match self.kind(index) {
                    PhysicalKind::Narrow(_) => nodes.push(Physical::Step(index)),
                    PhysicalKind::Gathered(gathered) => nodes.push(match gathered.sides[side].prepare {
                        Some(_) => Physical::Prepare(index, side),
                        None => Physical::Write(index, side),
                    }),
                    PhysicalKind::Repartition(_) => nodes.push(Physical::Write(index, side)),
                    // Uniting is pushing to the same node: there is nothing to run.
                    PhysicalKind::Union => nodes.extend(self.consumers(&step.name)),
                }
            }
        }
        for (index, sink) in self.sinks.iter().enumerate() {
            if sink.from.iter().any(|from| from == name) {
                nodes.push(Physical::Sink(index));
            }
        }
        nodes
    }

    fn children(&self, node: Physical) -> Vec<Physical> {
        match node {
            Physical::Good(source) if self.builder.observed.contains_key(&self.sources[source].name) => {
                vec![Physical::Observe(source)]
            }
            Physical::Good(source) | Physical::Observe(source) => self.consumers(&self.sources[source].name),
            Physical::Rejected(source) => {
                self.sources[source].dead_letter.as_ref().map_or(Vec::new(), |letter| self.consumers(&letter.name))
            }
            Physical::Step(step) => self.consumers(&self.steps[step].name),
            Physical::Prepare(step, side) => vec![Physical::Write(step, side)],
            Physical::Write(..) | Physical::Sink(_) => Vec::new(),
        }
    }

    /// Everything that rows reach from `roots` without a shuffle, in the order of the flow.
    fn reach(&self, roots: &[Physical]) -> Vec<Physical> {
        let mut reached = BTreeMap::new();
        let mut left = roots.to_vec();
        while let Some(node) = left.pop() {
            if reached.insert(node.order(), node).is_none() {
                left.extend(self.children(node));
            }
        }
        reached.into_values().collect()
    }

    fn pipeline(&self, roots: &[Physical], nodes: &[Physical]) -> Pipeline {
        let place: HashMap<_, _> = nodes.iter().enumerate().map(|(place, node)| (node.order(), place)).collect();
        let places = |nodes: &[Physical]| nodes.iter().map(|node| place[&node.order()]).collect::<Vec<_>>();
        let nodes = nodes.iter().map(|&node| Node {
            kind: self.node_kind(node),
            meter: match node {
                Physical::Observe(_) => Arc::default(),
                Physical::Good(source) | Physical::Rejected(source) => {
                    let letter = self.sources[source].dead_letter.as_ref();
                    letter.map(|letter| letter.meter.clone()).unwrap_or_default()
                }
                Physical::Sink(sink) => self.sinks[sink].meter.clone(),
                Physical::Step(step) | Physical::Prepare(step, _) | Physical::Write(step, _) => {
                    self.planned[step].meter.clone()
                }
            },
            counts_in: match node {
                Physical::Step(step) => !matches!(self.kind(step), PhysicalKind::Gathered(_)),
                Physical::Write(step, side) => match self.kind(step) {
                    PhysicalKind::Gathered(gathered) => gathered.sides[side].prepare.is_none(),
                    _ => true,
                },
                Physical::Good(_)
                | Physical::Rejected(_)
                | Physical::Observe(_)
                | Physical::Prepare(..)
                | Physical::Sink(_) => true,
            },
            counts_out: matches!(node, Physical::Step(_)),
            children: places(&self.children(node)),
        });
        Pipeline { nodes: nodes.collect(), roots: places(roots) }
    }

    fn node_kind(&self, node: Physical) -> NodeKind {
        match node {
            Physical::Observe(source) => NodeKind::Step(self.builder.observed[&self.sources[source].name].clone()),
            Physical::Good(source) => {
                let keep = Keep::Good(self.sources[source].schema.clone());
                NodeKind::Step(Arc::new(KeepRows(keep)))
            }
            Physical::Rejected(source) => {
                let keep = Keep::Rejected(self.sources[source].name.clone());
                NodeKind::Step(Arc::new(KeepRows(keep)))
            }
            Physical::Sink(sink) => NodeKind::Sink(sink),
            Physical::Write(step, side) => NodeKind::Shuffle(self.shuffle_of(step, side)),
            Physical::Prepare(step, side) => match self.kind(step) {
                PhysicalKind::Gathered(Gathered { sides, .. }) => match &sides[side].prepare {
                    Some(prepare) => NodeKind::Step(prepare.clone()),
                    None => unreachable!("a side without preparation is written at once"),
                },
                _ => unreachable!("only a step behind a shuffle prepares"),
            },
            Physical::Step(step) => match self.kind(step) {
                PhysicalKind::Gathered(gathered) => NodeKind::Step(gathered.factory.clone()),
                PhysicalKind::Narrow(factory) => NodeKind::Step(factory.clone()),
                _ => unreachable!("unions and repartitions have no node of their own"),
            },
        }
    }

    fn label(&self, node: Physical) -> String {
        match node {
            Physical::Observe(source) => format!("event time of {}", self.sources[source].name),
            Physical::Good(source) => format!("{} (good rows)", self.sources[source].name),
            Physical::Rejected(source) => format!("{} (rejected rows)", self.sources[source].name),
            Physical::Step(step) => self.steps[step].name.clone(),
            Physical::Prepare(step, _) => {
                let word = if self.planned[step].is_combined() { "combine" } else { "prepare" };
                format!("{} ({word})", self.steps[step].name)
            }
            Physical::Write(step, side) => match self.steps[step].sides()[side].as_slice() {
                _ if self.steps[step].sides().len() == 1 => format!("shuffle for {}", self.steps[step].name),
                from => format!("shuffle of {} for {}", from.join(", "), self.steps[step].name),
            },
            Physical::Sink(sink) => self.sinks[sink].name.clone(),
        }
    }
}

/// Gives stages that share a node one number.
fn group_by_shared_nodes(reached: &[Vec<Physical>]) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..reached.len()).collect();
    for (stage, nodes) in reached.iter().enumerate() {
        for earlier in 0..stage {
            if groups[earlier] != groups[stage] && nodes.iter().any(|node| reached[earlier].contains(node)) {
                let (from, to) = (groups[stage], groups[earlier]);
                groups.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
            }
        }
    }
    groups
}

fn keyed_kind(
    step: &Step,
    keyed: &dyn KeyedStep,
    n_partitions: u32,
    shuffles: &mut Vec<PlannedShuffle>,
) -> PhysicalKind {
    shuffles.push(PlannedShuffle {
        step: step.name.clone(),
        n_partitions: if keyed.is_global() { 1 } else { n_partitions },
        partitioning: Partitioning::Hash { columns: keyed.partial_key_columns() },
        runs_when_empty: keyed.is_global(),
    });
    let side = GatheredSide { prepare: Some(keyed.combine()), shuffle: shuffles.len() - 1 };
    PhysicalKind::Gathered(Gathered { sides: vec![side], factory: keyed.merge() })
}

fn planned_operator(operator: Arc<dyn Operator>, runs: &OperatorStep, reads: Vec<String>) -> PlannedOperator {
    PlannedOperator { sha256: operator.sha256(), operator, reads, limits: runs.limits.clone(), on_error: runs.on_error }
}
