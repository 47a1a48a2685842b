//! Cuts the graph of a job's steps into stages: everything that rows reach from an entry without a shuffle.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ids::StageId;
use crate::job::Step;
use crate::plan::{Entry, PlannedSink, PlannedSource, PlannedStep, Stage};
use crate::step::StepFactory;
use crate::step::rejected::{Keep, KeepRows};
use crate::task::pipeline::{Node, NodeKind, Pipeline};

/// What a step is once its schemas are known.
pub(super) enum PhysicalKind {
    Narrow(Arc<dyn StepFactory>),
    Gathered(Gathered),
    Union,
    Repartition(usize),
}

/// A step behind a shuffle a side. Its factories are made once: they keep operator instances from batch to batch.
pub(super) struct Gathered {
    pub(super) sides: Vec<GatheredSide>,
    pub(super) factory: Arc<dyn StepFactory>,
}

/// One side of it.
pub(super) struct GatheredSide {
    /// What is done before the shuffle.
    pub(super) prepare: Option<Arc<dyn StepFactory>>,
    pub(super) shuffle: usize,
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

/// The job as a graph of physical nodes.
pub(super) struct Graph<'a> {
    /// What each step is, by its name.
    pub(super) kinds: &'a HashMap<String, PhysicalKind>,
    /// What follows the event time of a source, by the source's name.
    pub(super) observed: &'a HashMap<String, Arc<dyn StepFactory>>,
    pub(super) sources: &'a [PlannedSource],
    pub(super) steps: &'a [&'a Step],
    pub(super) planned: &'a [PlannedStep],
    pub(super) sinks: &'a [PlannedSink],
}

impl Graph<'_> {
    /// Cuts the graph at its shuffles.
    pub(super) fn cut_stages(&self) -> Vec<Stage> {
        let mut entries: Vec<(Entry, Vec<Physical>)> = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let roots = match self.sources[index].dead_letter {
                Some(_) => vec![Physical::Good(index), Physical::Rejected(index)],
                None if self.observed.contains_key(&source.name) => vec![Physical::Observe(index)],
                None => self.consumers(&source.name),
            };
            entries.push((Entry::Source(index), roots));
        }
        for (index, step) in self.steps.iter().enumerate() {
            match &self.kinds[&step.name] {
                PhysicalKind::Gathered(gathered) => {
                    let shuffles = gathered.sides.iter().map(|side| side.shuffle).collect();
                    entries.push((Entry::Shuffles(shuffles), vec![Physical::Step(index)]));
                }
                PhysicalKind::Repartition(shuffle) => {
                    entries.push((Entry::Shuffles(vec![*shuffle]), self.consumers(&step.name)));
                }
                PhysicalKind::Narrow(_) | PhysicalKind::Union => {}
            }
        }
        let reached: Vec<Vec<Physical>> = entries.iter().map(|(_, roots)| self.reach(roots)).collect();
        let groups = group_by_shared_nodes(&reached);
        let stages = entries.iter().zip(&reached).enumerate().map(|(index, ((entry, roots), nodes))| {
            let writers = |shuffles: &[usize]| {
                let is_write = |node: &Physical| match node {
                    Physical::Write(step, side) => shuffles.contains(&self.shuffle_of(*step, *side)),
                    _ => false,
                };
                let writes = |nodes: &[Physical]| nodes.iter().any(is_write);
                let writing = reached.iter().enumerate().filter(|(_, nodes)| writes(nodes));
                writing.map(|(stage, _)| StageId(stage as u32)).collect()
            };
            Stage {
                id: StageId(index as u32),
                entry: entry.clone(),
                pipeline: Arc::new(self.pipeline(roots, nodes)),
                depends_on: match entry {
                    Entry::Source(_) => Vec::new(),
                    Entry::Shuffles(shuffles) => writers(shuffles),
                },
                group: groups[index],
                nodes: nodes.iter().map(|node| self.label(*node)).collect(),
            }
        });
        stages.collect()
    }

    fn kind(&self, step: usize) -> &PhysicalKind {
        &self.kinds[&self.steps[step].name]
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
            Physical::Good(source) if self.observed.contains_key(&self.sources[source].name) => {
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

    /// The nodes that get the dead letters of a node.
    fn readers_of_letters(&self, node: Physical) -> Vec<Physical> {
        let Physical::Step(step) = node else { return Vec::new() };
        self.planned[step].on_error.dead_letters().map_or(Vec::new(), |letters| self.consumers(&letters.name))
    }

    /// Everything that rows reach from `roots` without a shuffle, in the order of the flow.
    fn reach(&self, roots: &[Physical]) -> Vec<Physical> {
        let mut reached = BTreeMap::new();
        let mut left = roots.to_vec();
        while let Some(node) = left.pop() {
            if reached.insert(node.order(), node).is_none() {
                left.extend(self.children(node));
                left.extend(self.readers_of_letters(node));
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
            letters: places(&self.readers_of_letters(node)),
        });
        Pipeline { nodes: nodes.collect(), roots: places(roots) }
    }

    fn node_kind(&self, node: Physical) -> NodeKind {
        match node {
            Physical::Observe(source) => NodeKind::Step(self.observed[&self.sources[source].name].clone()),
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
