//! A job: one pipeline with its settings, as the job file or a program says it, before anything is opened.
//!
//! `file` makes one of a TOML file; `Context` of calls. `plan` makes a plan of it.

pub mod file;
pub mod nearest;
pub mod problems;
pub mod render;
pub mod settings;
pub mod table;
pub mod units;

mod checkpoint;
mod environment;
mod grants;
mod graph;
mod on_error;
mod overrides;
mod paths;
pub(crate) mod steps;
pub(crate) mod text_part;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{LEASE_DEFAULT, Place};
use crate::event_time::EventTime;
use crate::operator::{JobLimits, Limits, Operator};
use crate::plugin::Grants;
use crate::sink::SinkDefinition;
use crate::source::SourceDefinition;
use crate::source::table::TableSource;
use crate::spill::SpillSettings;
use crate::state::StateSettings;
use crate::step::definition::StepDefinition;
pub use on_error::{DeadLetters, OnError};
pub(crate) use on_error::{ON_ERROR_KEYS, read_on_error, read_on_error_or_null};

/// One pipeline with its settings.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// What holds for the whole job.
    pub settings: Settings,
    /// Where rows come from.
    pub sources: Vec<Source>,
    /// What streams are joined with.
    pub tables: Vec<NamedTable>,
    /// What is done with them.
    pub steps: Vec<Step>,
    /// Where they go.
    pub sinks: Vec<Sink>,
}

/// What holds for the whole job.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its name, in logs and metrics.
    pub name: String,
    /// Batch times are multiples of it; zero: the next batch starts when the last has ended and rows wait.
    pub batch_interval: Duration,
    /// When the job ends.
    pub trigger: Trigger,
    /// What becomes of batches whose time has gone by.
    pub missed_batches: MissedBatches,
    /// Default parallelism, and the shuffle's.
    pub partitions: u32,
    /// Threads that run tasks; 0: one a core.
    pub worker_threads: u32,
    /// Bytes of received rows that are held in memory; what exceeds them goes to disk, or the receiver waits.
    pub memory_bytes: u64,
    /// Rows one call of an operator gets at most.
    pub rows_per_call: u32,
    /// Bytes one call of an operator gets at most.
    pub bytes_per_call: u64,
    /// Limits of every plugin step that does not say otherwise.
    pub limits: Limits,
    /// Limits of all plugins of the job together.
    pub job_limits: JobLimits,
    /// How often a batch is run that fails in a way that may pass, before the job fails, or skips it.
    pub attempts: u32,
    /// Where state is kept.
    pub state: StateSettings,
    /// Where rows go that memory has no room for.
    pub spill: SpillSettings,
    /// The place from which a job goes on when it is started again; `None`: it starts anew each time.
    pub checkpoint: Option<Place>,
    /// How long a process that has a checkpoint in an object store may be away before another may take it.
    pub checkpoint_lease: Duration,
    /// The last batches of which a checkpoint keeps what they read and what the state was.
    pub checkpoint_batches: u64,
    /// What of received rows a crash may lose; `None`: nothing with a checkpoint, all of them without.
    pub durability: Option<Durability>,
    /// The folder of the write-ahead log of received rows; `None`: `wal` in the checkpoint.
    pub wal_directory: Option<PathBuf>,
    /// Bytes of a file of the write-ahead log, after which another is begun.
    pub wal_segment_bytes: u64,
    /// What becomes of a start when received rows are lost that no batch has had.
    pub lost_rows: LostRows,
    /// What is logged: a level, or a filter as `tracing` takes it.
    pub log_level: String,
    /// How long a graceful stop may take before the command line stops the job at once. A program that embeds the
    /// library decides for itself when to call `stop` again.
    pub stop_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "job".into(),
            batch_interval: Duration::from_secs(1),
            trigger: Trigger::Continuous,
            missed_batches: MissedBatches::Merge,
            partitions: 4,
            worker_threads: 0,
            // Two seconds of a gigabit line, and a quarter of what a small machine has.
            memory_bytes: 256 << 20,
            rows_per_call: 65_536,
            bytes_per_call: 4 << 20,
            limits: Limits::default(),
            job_limits: JobLimits::default(),
            // As many as Spark gives a task.
            attempts: 4,
            state: StateSettings::default(),
            spill: SpillSettings::default(),
            checkpoint: None,
            checkpoint_lease: LEASE_DEFAULT,
            checkpoint_batches: 10,
            durability: None,
            wal_directory: None,
            // A quarter of a second of a gigabit line: what cannot be deleted yet is no more than that.
            wal_segment_bytes: 32 << 20,
            lost_rows: LostRows::Refuse,
            log_level: "info".into(),
            stop_timeout: Duration::from_secs(60),
        }
    }
}

/// What of the rows of a receiver a crash may lose: of a source that cannot be read again, as a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// All that was received and not shown: rows are in memory alone.
    #[default]
    None,
    /// Rows that are in no batch yet: those of a batch are on the disk before it begins, and a restart runs it over the same rows.
    Batch,
    /// Nothing that counts as received: rows are on the disk before a receiver reads on, or acknowledges them.
    Row,
}

impl Durability {
    /// The word for it in a job file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Durability::None => "none",
            Durability::Batch => "batch",
            Durability::Row => "row",
        }
    }
}

/// What becomes of a start when the write-ahead log lacks rows that were received and that no batch has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LostRows {
    /// The job does not start.
    #[default]
    Refuse,
    /// It says which rows are lost, and goes on without them.
    Skip,
}

/// When a job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trigger {
    /// When its sources have ended, or it is stopped.
    #[default]
    Continuous,
    /// When what was there at the start has been processed.
    AvailableNow,
}

/// What becomes of batches whose time has gone by: while the job was down or busy, or the machine slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedBatches {
    /// Each is run, one after the other, before the job goes on in time. What waits comes with the first of them, or is spread
    /// over them where sources limit what a batch takes.
    Run,
    /// What waits comes with the next batch.
    #[default]
    Merge,
}

/// Where a part of a job stands in its file; empty for a job built by a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans {
    /// The table's header, as in `[[step]]`.
    pub header: Option<Range<usize>>,
    /// The value of each key, by its dotted path within the table, as in `aggregate.by`.
    pub values: BTreeMap<String, Range<usize>>,
}

impl Spans {
    /// The span of a part of the text at `path`, in bytes of the text; of `file`, the job file. Where that cannot be told, of the whole
    /// value.
    #[must_use]
    pub fn nearest_part(&self, path: &str, part: &Range<usize>, file: &str) -> Option<Range<usize>> {
        let found = self.values.get(path).and_then(|span| {
            let found = text_part::find_part(file.get(span.clone())?, part)?;
            Some(span.start + found.start..span.start + found.end)
        });
        found.or_else(|| self.nearest(path))
    }

    /// The span of the value at `path`, or of the nearest thing around it.
    #[must_use]
    pub fn nearest(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        loop {
            if let Some(span) = self.values.get(path) {
                return Some(span.clone());
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return self.header.clone(),
            }
        }
    }
}

/// A source of a job.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What it is.
    pub definition: Arc<dyn SourceDefinition>,
    /// The event time of its rows.
    pub event_time: Option<EventTime>,
    /// What of its rows a crash may lose, if it is a receiver; `None`: what the job says.
    pub durability: Option<Durability>,
    /// Where it stands.
    pub spans: Spans,
}

/// A table of a job.
#[derive(Debug, Clone)]
pub struct NamedTable {
    /// Its name.
    pub name: String,
    /// What it is.
    pub source: TableSource,
    /// Where it stands.
    pub spans: Spans,
}

/// A step of a job.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// The sources and steps it gets rows from; several are united.
    pub from: Vec<String>,
    /// What it does.
    pub kind: StepKind,
    /// Where it stands.
    pub spans: Spans,
}

/// What a step does: one key of its table in a job file.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// `transform`: an operator of role transform.
    Transform(OperatorStep),
    /// `aggregate = { by, select }`: built-in aggregates by key.
    Aggregate {
        /// The key columns; none: one group.
        by: Vec<String>,
        /// Output column and expression, as in `("count", "count(*)")`, in the file's order.
        select: Vec<(String, String)>,
        /// Partitions after the shuffle; the job's when not said.
        partitions: Option<u32>,
    },
    /// `aggregate = { by, plugin }`: an operator of role aggregator.
    AggregateWith {
        /// The key columns.
        by: Vec<String>,
        /// The operator.
        operator: OperatorStep,
        /// Partitions after the shuffle.
        partitions: Option<u32>,
    },
    /// `reduce = { by, plugin }`: an operator of role reducer.
    Reduce {
        /// The key columns.
        by: Vec<String>,
        /// The operator.
        operator: OperatorStep,
        /// Partitions after the shuffle.
        partitions: Option<u32>,
    },
    /// `union = true`: the rows of all inputs, which have one schema.
    Union,
    /// `repartition = n` or `{ partitions, by, range }`: deals rows out anew.
    Repartition {
        /// How many partitions.
        partitions: u32,
        /// Rows with equal values here share a partition; none: dealt in turn. By range: terms of an order.
        by: Vec<String>,
        /// Whether rows with smaller values are in lower partitions.
        range: bool,
    },
    /// Every other kind: it plans itself.
    Built(Arc<dyn StepDefinition>),
}

impl Step {
    /// Where it sets bad rows aside, if it does.
    #[must_use]
    pub fn dead_letters(&self) -> Option<&DeadLetters> {
        match &self.kind {
            StepKind::Transform(operator) => operator.on_error.dead_letters(),
            StepKind::Built(definition) => definition.dead_letters(),
            _ => None,
        }
    }

    /// The sources and steps it reads, side by side: `from`, then each further input.
    #[must_use]
    pub fn sides(&self) -> Vec<Vec<String>> {
        let mut sides = vec![self.from.clone()];
        if let StepKind::Built(definition) = &self.kind {
            sides.extend(definition.other_inputs().into_iter().map(|other| vec![other]));
        }
        sides
    }

    /// Every source and step that must be known before it: what it reads, and what it follows.
    #[must_use]
    pub fn needs(&self) -> Vec<String> {
        let mut needs = self.inputs();
        if let StepKind::Built(definition) = &self.kind {
            needs.extend(definition.follows());
        }
        needs
    }

    /// Every source and step it reads, once.
    #[must_use]
    pub fn inputs(&self) -> Vec<String> {
        let mut inputs: Vec<String> = Vec::new();
        for name in self.sides().into_iter().flatten() {
            if !inputs.contains(&name) {
                inputs.push(name);
            }
        }
        inputs
    }
}

/// A step that runs an operator.
#[derive(Debug, Clone)]
pub struct OperatorStep {
    /// Which.
    pub operator: OperatorRef,
    /// Its configuration; an empty object when not said.
    pub config: serde_json::Value,
    /// The step's own limits over the job's.
    pub limits: Limits,
    /// What a plugin may reach beyond its rows.
    pub grants: Grants,
    /// Whether it gets each partition in one call.
    pub whole_partition: bool,
    /// What happens when a call fails.
    pub on_error: OnError,
}

/// Which operator a step runs.
#[derive(Debug, Clone)]
pub enum OperatorRef {
    /// A plugin file.
    Plugin {
        /// The path as it is written.
        written: String,
        /// The path to open: relative ones are relative to the job file.
        path: PathBuf,
        /// The digest it must have, in hexadecimal.
        sha256: Option<String>,
        /// Whether each batch gets a new instance.
        fresh: bool,
    },
    /// An operator that the program brings.
    Registered(Arc<dyn Operator>),
}

/// A sink of a job.
#[derive(Debug, Clone)]
pub struct Sink {
    /// Its name; `sink-N` when not said.
    pub name: String,
    /// The source or step it gets rows from; several are united.
    pub from: Vec<String>,
    /// What it is.
    pub definition: Arc<dyn SinkDefinition>,
    /// Where it stands.
    pub spans: Spans,
}
