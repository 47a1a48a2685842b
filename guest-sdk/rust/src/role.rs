//! The roles an operator can have, and what every role shares: the contract as traits.
//!
//! Most operators are functions and need none of these: see [`macro@crate::operator`]. Implement a role by hand, and put
//! `#[operator]` on the `impl`, when the columns depend on the configuration or on the input.

use std::fmt;

use crate::batch::{Batch, OwnedBatch};
use crate::schema::Schema;

/// Where an operator runs and how it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// The job's name.
    pub job: String,
    /// The step's name in the job.
    pub step: String,
    /// The job's default number of partitions.
    pub partitions: u32,
    /// The step's `config`, as JSON.
    pub config: String,
}

impl Step {
    /// The configuration as a `C`. A step without one is an empty object.
    ///
    /// # Errors
    ///
    /// Refuses the configuration with serde's words, which name the key.
    pub fn config<C: serde::de::DeserializeOwned>(&self) -> Result<C, Refusal> {
        let text = if self.config.is_empty() { "{}" } else { &self.config };
        serde_json::from_str(text).map_err(|error| {
            // Line and column are those of JSON that the user has not written.
            let words = error.to_string();
            Refusal::Config(words.split(" at line ").next().unwrap_or(&words).to_owned())
        })
    }
}

/// What a call belongs to. The same rows always come with the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    /// The batch's number, from 0.
    pub batch_id: u64,
    /// The batch's time in microseconds since 1970-01-01 UTC.
    pub batch_time_us: i64,
    /// The partition's number, from 0.
    pub partition: u32,
    /// 0 at the first attempt.
    pub attempt: u32,
    /// Rows of this partition in the calls before this one; for a grouper and an updater, rows and keys.
    pub first_row: u64,
    /// The event-time watermark in microseconds since 1970-01-01 UTC, when the job has one.
    pub watermark_us: Option<i64>,
}

/// A row of the input that cannot be processed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The row's index in the input of the call.
    pub row: u32,
    /// One line for the person who reads the dead letters.
    pub reason: String,
}

/// Why `open` declines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The configuration is wrong: what, and what would be right.
    Config(String),
    /// The input's schema does not fit: which column, what was expected.
    Schema(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Refusal::Config(text) | Refusal::Schema(text) | Refusal::Other(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Refusal {}

/// Why a call failed although the operator works. A bad row is a [`Rejection`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Worth trying again later.
    Retry(String),
    /// Not worth trying again.
    Fatal(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Retry(text) | Failure::Fatal(text) | Failure::Other(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Fatal(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::Fatal(text.to_owned())
    }
}

/// Which columns of the input go with a row's output without being sent to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// None: the output is what is written.
    Nothing,
    /// All of them.
    Everything,
    /// Those named.
    Only(Vec<String>),
}

/// What a transform reads, writes and carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformPlan {
    /// The columns to send, in this order; `None` sends all.
    pub reads: Option<Vec<String>>,
    /// The schema of the rows that [`Transform::process`] returns.
    pub writes: Schema,
    /// What is carried.
    pub carries: Carried,
}

/// What came of one call of a transform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The written columns.
    pub rows: OwnedBatch,
    /// For each output row the input row it came from; `None`: row i came from row i.
    pub origin: Option<Vec<u32>>,
    /// Rows of the input that cannot be processed.
    pub rejected: Vec<Rejection>,
}

/// map, flatMap, filter, mapPartitions: rows in, rows out.
pub trait Transform {
    /// Type-checks the step before any row flows, and prepares an instance. The same step and input always get the same
    /// plan.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step, input: &Schema) -> Result<(TransformPlan, Self), Refusal>
    where
        Self: Sized;

    /// Processes some rows of one partition of one batch. `input` has the columns of [`TransformPlan::reads`].
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the whole call has failed. Nothing of it is used then.
    fn process(&mut self, call: &Call, input: Batch<'_>) -> Result<Output, Failure>;
}

/// reduceByKey: combines rows into one row of the same schema.
///
/// # Laws
///
/// Associative: reducing `[a, b, c]` gives what reducing `[reduce [a, b], c]` and `[a, reduce [b, c]]` give.
pub trait Reducer {
    /// Type-checks the step. Answers whether [`Reducer::invert`] works.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step, values: &Schema) -> Result<(bool, Self), Refusal>
    where
        Self: Sized;

    /// One row a group; `ends[i]` is the exclusive end of group i among `values`. Groups are not empty.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the whole call has failed.
    fn reduce(&mut self, call: &Call, values: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure>;

    /// Whole minus part, row by row.
    ///
    /// # Errors
    ///
    /// A [`Failure`], as here for every reducer that does not say otherwise.
    fn invert(&mut self, call: &Call, whole: Batch<'_>, part: Batch<'_>) -> Result<OwnedBatch, Failure> {
        let _ = (call, whole, part);
        Err(Failure::Fatal("this reducer has no inverse".into()))
    }
}

/// What an aggregator reads, keeps and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregatorPlan {
    /// The columns that [`Aggregator::accumulate`] gets, in this order; `None` sends all.
    pub reads: Option<Vec<String>>,
    /// The schema of an accumulator.
    pub accumulator: Schema,
    /// The schema of a result.
    pub result: Schema,
}

/// combineByKey, aggregateByKey: rows into an accumulator, accumulators into a result.
///
/// # Laws
///
/// `merge` is associative, and `accumulate` of some rows is the `merge` of its accumulations of their parts.
pub trait Aggregator {
    /// Type-checks the step. `values` are the columns that are not keys.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step, values: &Schema) -> Result<(AggregatorPlan, Self), Refusal>
    where
        Self: Sized;

    /// One accumulator a group of rows, which are not empty.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the whole call has failed.
    fn accumulate(&mut self, call: &Call, values: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure>;

    /// One accumulator a group of accumulators, which are not empty.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the whole call has failed.
    fn merge(&mut self, call: &Call, accumulators: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure>;

    /// One result an accumulator, in the same order.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the whole call has failed.
    fn finish(&mut self, call: &Call, accumulators: Batch<'_>) -> Result<OwnedBatch, Failure>;
}

/// What a grouper reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrouperPlan {
    /// For each input, the columns that [`Grouper::process`] gets of it, in this order; `None` sends all.
    pub reads: Vec<Option<Vec<String>>>,
    /// The schema of the rows that [`Grouper::process`] returns, without the keys.
    pub writes: Schema,
}

/// The rows of one input, cut into groups.
#[derive(Debug, Clone, Copy)]
pub struct Grouped<'a> {
    /// The rows, group by group.
    pub rows: Batch<'a>,
    /// The exclusive end of each group. A group may have no rows.
    pub ends: &'a [u32],
}

/// What came of one call of a grouper.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrouperOutput {
    /// The written columns.
    pub rows: OwnedBatch,
    /// For each output row the group it came from; never less than the one before.
    pub group: Vec<u32>,
    /// For each input, its rows that cannot be processed. Empty when there are none at all.
    pub rejected: Vec<Vec<Rejection>>,
}

/// groupByKey, mapGroups with one input, cogroup with more: all rows of a key at once.
///
/// [`crate::Group`] and [`crate::CoGroup`] are the same with typed rows.
pub trait Grouper {
    /// Type-checks the step. `inputs` has for each input the columns that are not keys.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step, keys: &Schema, inputs: &[Schema]) -> Result<(GrouperPlan, Self), Refusal>
    where
        Self: Sized;

    /// Processes some groups: row i of `keys` is the key of group i.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the whole call has failed.
    fn process(&mut self, call: &Call, keys: Batch<'_>, inputs: &[Grouped<'_>]) -> Result<GrouperOutput, Failure>;
}

/// Which keys a batch calls an updater for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calling {
    /// Those that have rows in the batch, and those that timed out.
    KeysWithValues,
    /// Those, and every key that has state: a batch then costs as much as there is state.
    EveryKey,
}

/// Which time the timeouts of keys are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeouts {
    /// Keys do not time out.
    Never,
    /// The batch's time: due in the first batch whose time is not before it.
    BatchTime,
    /// The watermark: due in the first batch whose watermark is not before it.
    EventTime,
}

/// What an updater reads, keeps and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdaterPlan {
    /// The columns that [`Updater::update`] gets, in this order; `None` sends all.
    pub reads: Option<Vec<String>>,
    /// The schema of a key's state.
    pub state: Schema,
    /// The schema of the rows that [`Updater::update`] returns, without the keys.
    pub writes: Schema,
    /// Which keys it is called for.
    pub calling: Calling,
    /// What its timeouts are held against.
    pub timeouts: Timeouts,
}

/// Some keys, each with its new rows and its state.
#[derive(Debug, Clone, Copy)]
pub struct UpdaterInput<'a> {
    /// Row i is key i.
    pub keys: Batch<'a>,
    /// The new rows, key by key.
    pub values: Batch<'a>,
    /// The exclusive end of each key's rows. A key may have no rows.
    pub ends: &'a [u32],
    /// The state of the keys that have some, in the order of the keys.
    pub state: Batch<'a>,
    /// One byte a key: 1 when it has state, or 0.
    pub has_state: &'a [u8],
    /// One byte a key: 1 when it timed out, or 0.
    pub timed_out: &'a [u8],
}

/// What came of one call of an updater.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdaterOutput {
    /// One byte a key: 0 keeps its state, 1 puts the next row of `state` in its place, 2 removes it and its timeout.
    pub changes: Vec<u8>,
    /// The new states, in the order of the keys.
    pub state: OwnedBatch,
    /// When each key times out, in microseconds since 1970-01-01 UTC; `i64::MAX` is never, `i64::MIN` leaves its timeout
    /// as it is. `None` leaves all as they are.
    pub timeouts_us: Option<Vec<i64>>,
    /// The written columns.
    pub rows: OwnedBatch,
    /// For each output row the key it came from; never less than the one before.
    pub group: Vec<u32>,
    /// Rows of the values that cannot be processed.
    pub rejected: Vec<Rejection>,
}

/// updateStateByKey, mapWithState, flatMapGroupsWithState: old state and new rows in, new state and rows out.
///
/// [`crate::Update`] is the same with typed rows.
pub trait Updater {
    /// Type-checks the step. `values` are the columns that are not keys.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step, keys: &Schema, values: &Schema) -> Result<(UpdaterPlan, Self), Refusal>
    where
        Self: Sized;

    /// Updates some keys.
    ///
    /// # Errors
    ///
    /// A [`Failure`] when the whole call has failed.
    fn update(&mut self, call: &Call, input: &UpdaterInput<'_>) -> Result<UpdaterOutput, Failure>;
}
