//! Builds a plan: schemas along the flow first, then stages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use crate::error::Error;
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
use crate::step::aggregate::AggregateSpec;
use crate::step::aggregate_with::AggregateWithSpec;
use crate::step::keyed::KeyedStep;
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
    Keyed(KeyedFactories),
    Union,
    Repartition(usize),
}

/// The halves of a keyed step, made once: they keep operator instances from batch to batch.
struct KeyedFactories {
    combine: Arc<dyn StepFactory>,
    merge: Arc<dyn StepFactory>,
    shuffle: usize,
}

struct Builder<'a> {
    job: &'a Job,
    runtime: &'a Runtime,
    problems: Vec<PlanProblem>,
    schemas: HashMap<String, SchemaRef>,
    kinds: HashMap<String, PhysicalKind>,
    stop: StopFlag,
}

/// A node of the graph that stages are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Physical {
    /// Keeps the good rows of the source of this index, which sets rejected ones aside.
    Good(usize),
    /// Keeps the rejected rows of the source.
    Rejected(usize),
    /// The step of this index in the order of the flow: all of it, or what a keyed step does after its shuffle. A step's
    /// node stands before those of later steps, and before its own shuffle.
    Step(usize),
    /// What a keyed step does before its shuffle.
    Combine(usize),
    /// Writes to the shuffle of the step.
    Write(usize),
    /// The sink of this index.
    Sink(usize),
}

impl Physical {
    /// Orders nodes as rows flow.
    fn order(self) -> (u8, usize, usize) {
        match self {
            Physical::Good(source) => (0, source, 0),
            Physical::Rejected(source) => (0, source, 1),
            Physical::Combine(step) => (1, step, 0),
            Physical::Write(step) => (1, step, 1),
            Physical::Step(step) => (1, step, 2),
            Physical::Sink(sink) => (2, sink, 0),
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
        Some(Plan { settings: job.settings.clone(), sources, steps: planned, sinks, shuffles, stages, stop })
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

    /// The steps, every one after those it gets rows from; those in a cycle, or after a name that is not there, are
    /// problems and left out.
    fn in_flow_order(&mut self) -> Vec<&'a Step> {
        let of_source = |source: &'a Source| [Some(source.name.as_str()), source.definition.dead_letter()];
        let mut known: Vec<&str> = self.job.sources.iter().flat_map(of_source).flatten().collect();
        let mut ordered = Vec::new();
        let mut left: Vec<&Step> = self.job.steps.iter().collect();
        loop {
            let (ready, waiting): (Vec<&Step>, Vec<&Step>) =
                left.iter().partition(|step| step.from.iter().all(|from| known.contains(&from.as_str())));
            if ready.is_empty() {
                for step in waiting {
                    let missing = step.from.iter().find(|from| !known.contains(&from.as_str()));
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
        let default_partitions = self.job.settings.partitions;
        let (kind, output, operator, physical) = match &step.kind {
            StepKind::Transform(runs) => {
                let operator = self.load(step, runs, "transform")?;
                let bounds = self.bounds(runs);
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
                let bounds = self.bounds(runs);
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
                let bounds = self.bounds(runs);
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
        };
        self.kinds.insert(step.name.clone(), physical);
        self.schemas.insert(step.name.clone(), output.clone());
        Some(PlannedStep { name: step.name.clone(), kind, from: step.from.clone(), input, output, operator, meter })
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

    fn bounds(&self, runs: &OperatorStep) -> CallBounds {
        let settings = &self.job.settings;
        CallBounds {
            rows: settings.rows_per_call,
            bytes: settings.bytes_per_call,
            whole_partition: runs.whole_partition,
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
                None => graph.consumers(&source.name),
            };
            entries.push((Entry::Source(index), roots));
        }
        for (index, step) in steps.iter().enumerate() {
            match &self.kinds[&step.name] {
                PhysicalKind::Keyed(keyed) => {
                    entries.push((Entry::Shuffle(keyed.shuffle), vec![Physical::Step(index)]));
                }
                PhysicalKind::Repartition(shuffle) => {
                    entries.push((Entry::Shuffle(*shuffle), graph.consumers(&step.name)));
                }
                PhysicalKind::Narrow(_) | PhysicalKind::Union => {}
            }
        }
        let reached: Vec<Vec<Physical>> = entries.iter().map(|(_, roots)| graph.reach(roots)).collect();
        let groups = group_by_shared_nodes(&reached);
        let stages = entries.iter().zip(&reached).enumerate().map(|(index, ((entry, roots), nodes))| {
            let writers = |shuffle: usize| {
                let writes = |nodes: &[Physical]| {
                    nodes.iter().any(|node| matches!(node, Physical::Write(step) if graph.shuffle_of(*step) == shuffle))
                };
                let writing = reached.iter().enumerate().filter(|(_, nodes)| writes(nodes));
                writing.map(|(stage, _)| StageId(stage as u32)).collect()
            };
            Stage {
                id: StageId(index as u32),
                entry: *entry,
                pipeline: Arc::new(graph.pipeline(roots, nodes)),
                depends_on: match entry {
                    Entry::Source(_) => Vec::new(),
                    Entry::Shuffle(shuffle) => writers(*shuffle),
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

    fn shuffle_of(&self, step: usize) -> usize {
        match self.kind(step) {
            PhysicalKind::Keyed(keyed) => keyed.shuffle,
            PhysicalKind::Repartition(shuffle) => *shuffle,
            PhysicalKind::Narrow(_) | PhysicalKind::Union => unreachable!("only a step with a shuffle writes to one"),
        }
    }

    /// The nodes that get the rows of a source or step.
    fn consumers(&self, name: &str) -> Vec<Physical> {
        let mut nodes = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            if !step.from.iter().any(|from| from == name) {
                continue;
            }
            match self.kind(index) {
                PhysicalKind::Narrow(_) => nodes.push(Physical::Step(index)),
                PhysicalKind::Keyed(_) => nodes.push(Physical::Combine(index)),
                PhysicalKind::Repartition(_) => nodes.push(Physical::Write(index)),
                // Uniting is pushing to the same node: there is nothing to run.
                PhysicalKind::Union => nodes.extend(self.consumers(&step.name)),
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
            Physical::Good(source) => self.consumers(&self.sources[source].name),
            Physical::Rejected(source) => {
                self.sources[source].dead_letter.as_ref().map_or(Vec::new(), |letter| self.consumers(&letter.name))
            }
            Physical::Step(step) => self.consumers(&self.steps[step].name),
            Physical::Combine(step) => vec![Physical::Write(step)],
            Physical::Write(_) | Physical::Sink(_) => Vec::new(),
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
                Physical::Good(source) | Physical::Rejected(source) => {
                    let letter = self.sources[source].dead_letter.as_ref();
                    letter.map(|letter| letter.meter.clone()).unwrap_or_default()
                }
                Physical::Sink(sink) => self.sinks[sink].meter.clone(),
                Physical::Step(step) | Physical::Combine(step) | Physical::Write(step) => {
                    self.planned[step].meter.clone()
                }
            },
            counts_in: match node {
                Physical::Step(step) => !matches!(self.kind(step), PhysicalKind::Keyed(_)),
                Physical::Write(step) => matches!(self.kind(step), PhysicalKind::Repartition(_)),
                Physical::Combine(_) | Physical::Sink(_) | Physical::Good(_) | Physical::Rejected(_) => true,
            },
            counts_out: matches!(node, Physical::Step(_)),
            children: places(&self.children(node)),
        });
        Pipeline { nodes: nodes.collect(), roots: places(roots) }
    }

    fn node_kind(&self, node: Physical) -> NodeKind {
        match node {
            Physical::Good(source) => {
                let keep = Keep::Good(self.sources[source].schema.clone());
                NodeKind::Step(Arc::new(KeepRows(keep)))
            }
            Physical::Rejected(source) => {
                let keep = Keep::Rejected(self.sources[source].name.clone());
                NodeKind::Step(Arc::new(KeepRows(keep)))
            }
            Physical::Sink(sink) => NodeKind::Sink(sink),
            Physical::Write(step) => NodeKind::Shuffle(self.shuffle_of(step)),
            Physical::Combine(step) => match self.kind(step) {
                PhysicalKind::Keyed(keyed) => NodeKind::Step(keyed.combine.clone()),
                _ => unreachable!("only a keyed step combines"),
            },
            Physical::Step(step) => match self.kind(step) {
                PhysicalKind::Keyed(keyed) => NodeKind::Step(keyed.merge.clone()),
                PhysicalKind::Narrow(factory) => NodeKind::Step(factory.clone()),
                _ => unreachable!("unions and repartitions have no node of their own"),
            },
        }
    }

    fn label(&self, node: Physical) -> String {
        match node {
            Physical::Good(source) => format!("{} (good rows)", self.sources[source].name),
            Physical::Rejected(source) => format!("{} (rejected rows)", self.sources[source].name),
            Physical::Step(step) => self.steps[step].name.clone(),
            Physical::Combine(step) => format!("{} (combine)", self.steps[step].name),
            Physical::Write(step) => format!("shuffle for {}", self.steps[step].name),
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
    PhysicalKind::Keyed(KeyedFactories { combine: keyed.combine(), merge: keyed.merge(), shuffle: shuffles.len() - 1 })
}

fn planned_operator(operator: Arc<dyn Operator>, runs: &OperatorStep, reads: Vec<String>) -> PlannedOperator {
    PlannedOperator { sha256: operator.sha256(), operator, reads, limits: runs.limits.clone(), on_error: runs.on_error }
}
