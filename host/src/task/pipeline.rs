//! The steps of one stage, run on one partition: rows are pushed from the entry to the shuffles and sinks.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::clock::Stopwatch;
use crate::error::{Error, Explain, Fault};
use crate::metrics::{LateRows, StepMeter};
use crate::shuffle::{Shuffle, ShuffleWriter};
use crate::sink::{PartitionWriter, Prepared, Sink, SinkBatch};
use crate::step::{PipelineStep, StepFactory};
use crate::task::{PartFailed, TaskContext};

/// What a node of a pipeline does with rows.
#[derive(Clone)]
pub enum NodeKind {
    /// Gives them to a step.
    Step(Arc<dyn StepFactory>),
    /// Deals them out to the partitions of the next stage: the index of the shuffle in the plan.
    Shuffle(usize),
    /// Gives them to a sink: its index in the plan.
    Sink(usize),
}

/// One node of a pipeline.
#[derive(Clone)]
pub struct Node {
    /// What it does.
    pub kind: NodeKind,
    /// What is counted; both halves of a keyed step have one meter.
    pub meter: Arc<StepMeter>,
    /// Whether the rows it gets count as the step's: not behind a step's own shuffle.
    pub counts_in: bool,
    /// Whether the rows it gives count as the step's: not before a step's own shuffle.
    pub counts_out: bool,
    /// The nodes it gives rows to, all after it.
    pub children: Vec<usize>,
    /// The nodes it gives its dead letters to, all after it.
    pub letters: Vec<usize>,
}

/// The steps between two shuffles: a graph without cycles.
#[derive(Clone, Default)]
pub struct Pipeline {
    /// The nodes in an order in which rows flow: every child stands after its parents.
    pub nodes: Vec<Node>,
    /// The nodes that get the entry's rows.
    pub roots: Vec<usize>,
}

/// The batch was given up while the task ran.
#[derive(Debug, thiserror::Error)]
#[error("the batch was given up")]
pub struct Cancelled;

impl Explain for Cancelled {
    fn fault(&self) -> Fault {
        Fault::User
    }
}

/// What a task gives when it has ended well.
pub struct TaskOutput {
    /// Rows that entered.
    pub rows_in: u64,
    /// Rows that sinks got.
    pub rows_out: u64,
    /// What was prepared, by the sink's index in the plan.
    pub prepared: Vec<(usize, Prepared)>,
    /// Rows that came too late, to be counted when the batch is published.
    pub late: Arc<LateRows>,
}

/// What a pipeline writes to, in one batch.
#[derive(Clone)]
pub struct Outputs {
    /// The batch's shuffles, by index.
    pub shuffles: Vec<Arc<Shuffle>>,
    /// The job's open sinks with their names, by index.
    pub sinks: Vec<(String, Arc<dyn Sink>)>,
}

enum State {
    Step(Box<dyn PipelineStep>),
    Shuffle(ShuffleWriter),
    /// Opened when the first rows come: an empty partition writes nothing.
    Sink(Option<Box<dyn PartitionWriter>>),
    /// At work right now, or ended.
    Away,
}

/// A pipeline at work on one partition.
pub struct RunningPipeline<'a> {
    pipeline: &'a Pipeline,
    outputs: &'a Outputs,
    task: &'a TaskContext,
    states: Vec<State>,
    /// The time since the node at work was last switched.
    watch: Stopwatch,
    at_work: Option<usize>,
    rows_in: u64,
    rows_out: u64,
}

impl<'a> RunningPipeline<'a> {
    /// Starts every step.
    ///
    /// # Errors
    ///
    /// What a step says that cannot start.
    pub fn start(pipeline: &'a Pipeline, outputs: &'a Outputs, task: &'a TaskContext) -> Result<Self, Error> {
        let states = pipeline.nodes.iter().map(|node| {
            Ok(match &node.kind {
                NodeKind::Step(factory) => State::Step(factory.start(task)?),
                NodeKind::Shuffle(index) => State::Shuffle(outputs.shuffles[*index].writer(task.partition.index())),
                NodeKind::Sink(_) => State::Sink(None),
            })
        });
        let states = states.collect::<Result<_, Error>>()?;
        Ok(Self { pipeline, outputs, task, states, watch: Stopwatch::start(), at_work: None, rows_in: 0, rows_out: 0 })
    }

    /// Pushes rows of the entry through: of the first side, or of another one of the step behind several shuffles.
    ///
    /// # Errors
    ///
    /// Whatever stops the task.
    pub fn push(&mut self, side: usize, rows: RecordBatch) -> Result<(), Error> {
        if self.task.is_cancelled() {
            return Err(Cancelled.into());
        }
        self.rows_in += rows.num_rows() as u64;
        let pipeline = self.pipeline;
        self.give(&pipeline.roots, side, rows)
    }

    /// Finishes the steps in the order of the flow, and makes what was written ready to be seen.
    ///
    /// # Errors
    ///
    /// Whatever stops the task; nothing it wrote is seen then.
    pub fn finish(mut self) -> Result<TaskOutput, Error> {
        let pipeline = self.pipeline;
        for (index, node) in pipeline.nodes.iter().enumerate() {
            if let NodeKind::Step(_) = node.kind {
                let state = std::mem::replace(&mut self.states[index], State::Away);
                if let State::Step(mut step) = state {
                    self.switch(Some(index));
                    step.finish(&mut |rows| self.emit(index, rows))?;
                    self.give_letters(index, &mut *step)?;
                    self.switch(None);
                }
            }
        }
        let mut prepared = Vec::new();
        for index in 0..pipeline.nodes.len() {
            match std::mem::replace(&mut self.states[index], State::Away) {
                State::Sink(Some(writer)) => {
                    let sink = self.sink_of(index);
                    let part = writer.prepare().map_err(|source| self.sink_failed(sink, source))?;
                    prepared.push((sink, part));
                }
                // Last of all, when nothing can fail any more: the next stage reads what is finished.
                State::Shuffle(writer) => writer.finish()?,
                _ => {}
            }
        }
        Ok(TaskOutput { rows_in: self.rows_in, rows_out: self.rows_out, prepared, late: self.task.late.clone() })
    }

    /// Gives rows to several nodes. Clones share the columns.
    fn give(&mut self, nodes: &[usize], side: usize, rows: RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if let [one] = nodes {
            return self.push_to(*one, side, rows);
        }
        nodes.iter().try_for_each(|&node| self.push_to(node, side, rows.clone()))
    }

    /// Gives on what the step of a node has set aside.
    fn give_letters(&mut self, index: usize, step: &mut dyn PipelineStep) -> Result<(), Error> {
        let pipeline = self.pipeline;
        match step.take_letters()? {
            Some(letters) => self.give(&pipeline.nodes[index].letters, 0, letters),
            None => Ok(()),
        }
    }

    fn push_to(&mut self, index: usize, side: usize, rows: RecordBatch) -> Result<(), Error> {
        let node = &self.pipeline.nodes[index];
        if node.counts_in {
            node.meter.rows_in.add(rows.num_rows() as u64);
        }
        let caller = self.switch(Some(index));
        let state = std::mem::replace(&mut self.states[index], State::Away);
        self.states[index] = match state {
            State::Step(mut step) => {
                step.push_side(side, rows, &mut |rows| self.emit(index, rows))?;
                self.give_letters(index, &mut *step)?;
                State::Step(step)
            }
            State::Shuffle(mut writer) => {
                writer.push(rows)?;
                State::Shuffle(writer)
            }
            State::Sink(writer) => {
                let mut writer = match writer {
                    Some(writer) => writer,
                    None => self.open_writer(index)?,
                };
                self.rows_out += rows.num_rows() as u64;
                node.meter.rows_out.add(rows.num_rows() as u64);
                writer.write(&rows).map_err(|source| self.sink_failed(self.sink_of(index), source))?;
                State::Sink(Some(writer))
            }
            State::Away => unreachable!("a pipeline has no cycles, and no node is pushed to after it finished"),
        };
        self.switch(caller);
        Ok(())
    }

    fn open_writer(&self, index: usize) -> Result<Box<dyn PartitionWriter>, Error> {
        let sink = self.sink_of(index);
        let TaskContext { batch_id, batch_time_us, is_repeated, .. } = *self.task;
        let batch = SinkBatch { batch_id, batch_time_us, is_repeated };
        let writer = self.outputs.sinks[sink].1.writer(&batch, self.task.partition);
        writer.map_err(|source| self.sink_failed(sink, source))
    }

    /// The sink of a sink's node.
    fn sink_of(&self, index: usize) -> usize {
        match self.pipeline.nodes[index].kind {
            NodeKind::Sink(sink) => sink,
            NodeKind::Step(_) | NodeKind::Shuffle(_) => unreachable!("only a sink's node writes to a sink"),
        }
    }

    fn sink_failed(&self, sink: usize, source: Error) -> Error {
        let name = self.outputs.sinks[sink].0.clone();
        PartFailed { part: "sink", name, batch_id: self.task.batch_id, source }.into()
    }

    /// Takes what the node at `index` gives.
    fn emit(&mut self, index: usize, rows: RecordBatch) -> Result<(), Error> {
        // A step that gives what it gathered may be at it for long.
        if self.task.is_cancelled() {
            return Err(Cancelled.into());
        }
        let pipeline = self.pipeline;
        let node = &pipeline.nodes[index];
        if node.counts_out {
            node.meter.rows_out.add(rows.num_rows() as u64);
        }
        self.give(&node.children, 0, rows)
    }

    /// Charges the time since the last switch to the node at work, and puts another to work.
    fn switch(&mut self, to: Option<usize>) -> Option<usize> {
        let lap = self.watch.lap();
        if let Some(index) = self.at_work {
            let ns = u64::try_from(lap.as_nanos()).unwrap_or(u64::MAX);
            self.pipeline.nodes[index].meter.busy_ns.add(ns);
        }
        std::mem::replace(&mut self.at_work, to)
    }
}
