//! What an operator is, whoever runs it: the contract's roles in Arrow's terms.
//!
//! A step of the pipeline holds an [`Operator`] and opens it in the role its kind asks for, once for each partition it
//! works on. [`crate::plugin`] implements it with a component; [`native`] with Rust functions compiled into the program.
//!
//! ```text
//!  Operator ── open_transform ──▶ Transform ── process ──▶ TransformOutput     one instance per (step, partition)
//!           ── open_reducer ────▶ Reducer   ── reduce ───▶ RecordBatch
//!           ── open_aggregator ─▶ Aggregator ─ accumulate, merge, finish ─▶ RecordBatch
//!           ── open_grouper ────▶ Grouper   ── process ──▶ GrouperOutput
//!           ── open_updater ────▶ Updater   ── update ───▶ UpdaterOutput
//! ```

mod budget;
mod error;
mod grouper;
pub mod layout;
mod limits;
pub mod native;
mod updater;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub use budget::Budget;
pub(crate) use budget::{InstanceSlot, Spent};
pub(crate) use error::columns_of;
pub use error::{CallError, CallSite, OpenError};
pub use grouper::{Grouped, Grouper, GrouperOutput, GrouperPlan};
pub(crate) use grouper::{group_rule, key_rule};
pub use limits::{JobLimits, Limit, Limits};
pub(crate) use limits::{raise, size};
pub use updater::{Calling, Change, TimeoutChange, Timeouts, Updater, UpdaterInput, UpdaterOutput, UpdaterPlan};
pub(crate) use updater::{changes, timeout_changes};

use crate::ids::{BatchId, PartitionId};

/// The roles of the contract that this host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// map, flatMap, filter, mapPartitions.
    Transform,
    /// reduceByKey.
    Reducer,
    /// combineByKey, aggregateByKey.
    Aggregator,
    /// groupByKey, mapGroups, cogroup.
    Grouper,
    /// updateStateByKey, mapWithState, flatMapGroupsWithState.
    Updater,
}

impl Role {
    /// Every role, in the contract's order.
    pub const ALL: [Role; 5] = [Role::Transform, Role::Reducer, Role::Aggregator, Role::Grouper, Role::Updater];

    /// The role's name: that of its interface in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Transform => "transform",
            Role::Reducer => "reducer",
            Role::Aggregator => "aggregator",
            Role::Grouper => "grouper",
            Role::Updater => "updater",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where an operator runs and how it is configured: what `open` is told.
#[derive(Debug, Clone, PartialEq)]
pub struct StepInfo {
    /// The job's name.
    pub job: String,
    /// The step's name.
    pub step: String,
    /// The job's default number of partitions.
    pub partitions: u32,
    /// The step's `config`; an empty object when it has none.
    pub config: serde_json::Value,
    /// What an instance may use.
    pub limits: Limits,
    /// What all instances of the job together may use.
    pub budget: Budget,
    /// Set when the job is stopped at once: a call that runs is broken off.
    pub stop: StopFlag,
}

/// Says that a job is stopped at once. Clones are of the same job; all are equal, because it is no part of what a step is.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Stops the job.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the job is stopped.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for StopFlag {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What a call belongs to: the contract's `call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The batch.
    pub batch_id: BatchId,
    /// The batch's time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// The partition.
    pub partition: PartitionId,
    /// 0 at the first attempt.
    pub attempt: u32,
    /// Rows of this partition in the calls before this one; for a grouper and an updater, rows of all inputs and keys.
    pub first_row: u64,
    /// The watermark in microseconds since 1970-01-01 UTC.
    pub watermark_us: Option<i64>,
}

/// A row of the input that an operator could not process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Index of the row in the input of the call; less than its rows.
    pub row: u32,
    /// Why, in one line.
    pub reason: String,
}

/// Which columns of its input a transform carries along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// Those named.
    Only(Vec<String>),
}

/// What a transform reads, writes and carries: the answer to `open`, checked against the input's schema.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformPlan {
    /// Indices of the columns that `process` gets, among the input's, in the order it gets them.
    pub reads: Vec<usize>,
    /// The schema of what `process` returns.
    pub writes: SchemaRef,
    /// What is carried; names are of the input's schema.
    pub carries: Carried,
}

/// What came of one call of a transform. Checked: every number is in range, every array valid and of the plan's schema.
#[derive(Debug, Clone)]
pub struct TransformOutput {
    /// The written columns, of the schema [`TransformPlan::writes`].
    pub rows: RecordBatch,
    /// For each row of `rows` the input row it came from; `None`: row i came from row i, one each.
    pub origin: Option<Vec<u32>>,
    /// Rows of the input that could not be processed.
    pub rejected: Vec<Rejection>,
}

/// Bytes that went into an operator and came out of it: the columns it reads and what it returned, as they are laid out
/// in the contract. Carried columns do not cross, and a native operator has nothing to cross into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crossed {
    /// Into it.
    pub in_bytes: u64,
    /// Out of it.
    pub out_bytes: u64,
}

/// An operator opened as a transform, for one partition.
///
/// Used by one thread at a time. After an error the instance is spent: drop it, and open another.
pub trait Transform: Send {
    /// What it answered when it was opened.
    fn plan(&self) -> &TransformPlan;

    /// Processes some rows: `input` has the columns [`TransformPlan::reads`], in that order.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. Nothing of the call's output is used.
    fn process(&mut self, call: &Call, input: &RecordBatch) -> Result<TransformOutput, CallError>;

    /// What has crossed into the operator and out of it since it was opened.
    fn bytes_crossed(&self) -> Crossed {
        Crossed::default()
    }
}

/// What a reducer can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReducerPlan {
    /// Whether [`Reducer::invert`] works.
    pub invertible: bool,
}

/// An operator opened as a reducer, for one partition. Same rules as [`Transform`].
pub trait Reducer: Send {
    /// What it answered when it was opened.
    fn plan(&self) -> ReducerPlan;

    /// One row a group, of the schema of `values`; `ends[i]` is the exclusive end of group i. Groups are not empty.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    fn reduce(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError>;

    /// Whole minus part, row by row.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    fn invert(&mut self, call: &Call, whole: &RecordBatch, part: &RecordBatch) -> Result<RecordBatch, CallError>;

    /// What has crossed into the operator and out of it since it was opened.
    fn bytes_crossed(&self) -> Crossed {
        Crossed::default()
    }
}

/// What an aggregator reads, keeps and gives.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregatorPlan {
    /// Indices of the columns that `accumulate` gets, among the value columns, in the order it gets them.
    pub reads: Vec<usize>,
    /// The schema of accumulators.
    pub accumulator: SchemaRef,
    /// The schema of results.
    pub result: SchemaRef,
}

/// An operator opened as an aggregator, for one partition. Same rules as [`Transform`].
pub trait Aggregator: Send {
    /// What it answered when it was opened.
    fn plan(&self) -> &AggregatorPlan;

    /// One accumulator a group. `values` has the columns [`AggregatorPlan::reads`], in that order.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    fn accumulate(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError>;

    /// One accumulator a group of accumulators.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    fn merge(&mut self, call: &Call, accumulators: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError>;

    /// One result an accumulator.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    fn finish(&mut self, call: &Call, accumulators: &RecordBatch) -> Result<RecordBatch, CallError>;

    /// What has crossed into the operator and out of it since it was opened.
    fn bytes_crossed(&self) -> Crossed {
        Crossed::default()
    }
}

/// Something that can be opened in one or more roles: a plugin, or a native operator.
///
/// Shared by all partitions of a step; `open_*` is called from any thread, once for each instance, first when the job is
/// checked. The same step and input always get the same plan. A role that an operator does not have is refused: it leaves
/// out the method that opens it.
pub trait Operator: Send + Sync + fmt::Debug {
    /// What to call it in messages: the plugin's path as the job file gives it, or the name it was registered under.
    fn name(&self) -> &str;

    /// The SHA-256 of the file it was loaded from, in hexadecimal; `None` when it has no file.
    fn sha256(&self) -> Option<String> {
        None
    }

    /// The counters and gauges that its instances keep for a step, by name; none for an operator that keeps none.
    fn guest_metrics(&self, _job: &str, _step: &str) -> BTreeMap<String, serde_json::Value> {
        BTreeMap::new()
    }

    /// A batch, or an attempt at one, has ended, in which a step called it: what is told once a batch is told now.
    fn end_batch(&self, _job: &str, _step: &str, _batch_id: BatchId) {}

    /// What it imports, in a few words each; nothing for an operator that is part of the program.
    fn asks_for(&self) -> Vec<String> {
        Vec::new()
    }

    /// What it is granted, in a few words each.
    fn gets(&self) -> Vec<String> {
        Vec::new()
    }

    /// The roles it can be opened in.
    fn roles(&self) -> Vec<Role>;

    /// Opens it as a transform of rows of the schema `input`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    fn open_transform(&self, step: &StepInfo, _input: &SchemaRef) -> Result<Box<dyn Transform>, OpenError> {
        without_role(self, step, Role::Transform)
    }

    /// Opens it as a reducer of rows of the schema `values`, the keys left out.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    fn open_reducer(&self, step: &StepInfo, _values: &SchemaRef) -> Result<Box<dyn Reducer>, OpenError> {
        without_role(self, step, Role::Reducer)
    }

    /// Opens it as an aggregator of rows of the schema `values`, the keys left out.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    fn open_aggregator(&self, step: &StepInfo, _values: &SchemaRef) -> Result<Box<dyn Aggregator>, OpenError> {
        without_role(self, step, Role::Aggregator)
    }

    /// Opens it as a grouper. `keys` is the schema of the keys; `inputs` has for each input that of the other columns.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    fn open_grouper(
        &self,
        step: &StepInfo,
        _keys: &SchemaRef,
        _inputs: &[SchemaRef],
    ) -> Result<Box<dyn Grouper>, OpenError> {
        without_role(self, step, Role::Grouper)
    }

    /// Opens it as an updater. `keys` is the schema of the keys, `values` that of the other columns.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    fn open_updater(
        &self,
        step: &StepInfo,
        _keys: &SchemaRef,
        _values: &SchemaRef,
    ) -> Result<Box<dyn Updater>, OpenError> {
        without_role(self, step, Role::Updater)
    }
}

/// The answer of an operator that does not have a role.
fn without_role<T>(operator: &(impl Operator + ?Sized), step: &StepInfo, role: Role) -> Result<T, OpenError> {
    Err(OpenError::MissingRole {
        operator: operator.name().to_owned(),
        step: step.step.clone(),
        role,
        has: operator.roles(),
    })
}
