//! The contract in terms of the newest version: what crosses, and which file speaks which version.
//!
//! Only this folder knows versions. The file of a version implements the traits below for components built against it,
//! and translates; an older version translates to what the newest says.

mod v0_1;

use std::fmt;

use wasmtime::component::{Instance, Linker};

use crate::operator::layout::{FlatField, Lowered, Node};
use crate::operator::{Call, Calling, Carried, Rejection, StepInfo, Timeouts};
use crate::plugin::guest::Guest;
use crate::plugin::guest::GuestStore;

/// The package whose interfaces are the contract.
pub(crate) const PACKAGE: &str = "tidemill:operator";
/// The oldest contract this host speaks.
pub(crate) const OLDEST: &str = "0.1.0";
/// The newest contract this host speaks.
pub(crate) const NEWEST: &str = "0.1.0";
/// The interfaces of the contract that a plugin may import.
pub(crate) const IMPORTS: [&str; 3] = ["arrow", "types", "diagnostics"];

/// A version of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second: while the first is 0, a new one breaks what was.
    pub minor: u32,
    /// The third: additions.
    pub patch: u32,
}

impl Version {
    /// The version that `text` writes as three numbers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let mut parts = text.split('.').map(number);
        let version = Version { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }

    /// Whether this host speaks it.
    #[must_use]
    pub fn is_spoken(self) -> bool {
        speaks(self)
    }

    /// The versions that this host speaks, as they are written in a sentence.
    #[must_use]
    pub fn range() -> String {
        format!("{OLDEST} to {NEWEST}")
    }

    /// The newest version that this host speaks, without the number that only counts additions.
    #[must_use]
    pub fn newest() -> &'static str {
        NEWEST.rsplit_once('.').map_or(NEWEST, |(version, _)| version)
    }
}

/// The text of the contract's version that `version` is of, file by file; `None` when this host does not speak it.
pub(crate) fn text(version: Version) -> Option<&'static [(&'static str, &'static str)]> {
    speaks(version).then_some(v0_1::TEXT.as_slice())
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Whether this host speaks `version`.
pub(crate) fn speaks(version: Version) -> bool {
    matches!(version, Version { major: 0, minor: 1, .. })
}

/// A batch as it came from a guest: not checked.
#[derive(Debug)]
pub(crate) struct RawBatch {
    /// What it says of its rows.
    pub(crate) rows: u32,
    /// Its nodes.
    pub(crate) nodes: Vec<Node>,
    /// Their buffers.
    pub(crate) buffers: Vec<Vec<u8>>,
}

/// A transform's plan as it came from a guest: not checked.
#[derive(Debug)]
pub(crate) struct RawTransformPlan {
    /// The columns it reads; `None` is all.
    pub(crate) reads: Option<Vec<String>>,
    /// The schema it writes.
    pub(crate) writes: Vec<FlatField>,
    /// The columns it carries.
    pub(crate) carries: Carried,
}

/// A transform's output as it came from a guest: not checked.
#[derive(Debug)]
pub(crate) struct RawOutput {
    /// The written columns.
    pub(crate) rows: RawBatch,
    /// The input row of each output row.
    pub(crate) origin: Option<Vec<u32>>,
    /// Rows that cannot be processed.
    pub(crate) rejected: Vec<Rejection>,
}

/// An aggregator's plan as it came from a guest: not checked.
#[derive(Debug)]
pub(crate) struct RawAggregatorPlan {
    /// The columns it reads; `None` is all.
    pub(crate) reads: Option<Vec<String>>,
    /// The schema of accumulators.
    pub(crate) accumulator: Vec<FlatField>,
    /// The schema of results.
    pub(crate) result: Vec<FlatField>,
}

/// A grouper's plan as it came from a guest: not checked.
#[derive(Debug)]
pub(crate) struct RawGrouperPlan {
    /// For each input, the columns it reads; `None` is all.
    pub(crate) reads: Vec<Option<Vec<String>>>,
    /// The schema it writes.
    pub(crate) writes: Vec<FlatField>,
}

/// A grouper's output as it came from a guest: not checked.
#[derive(Debug)]
pub(crate) struct RawGrouperOutput {
    /// The written columns.
    pub(crate) rows: RawBatch,
    /// The group of each output row.
    pub(crate) group: Vec<u32>,
    /// For each input, rows that cannot be processed.
    pub(crate) rejected: Vec<Vec<Rejection>>,
}

/// An updater's plan as it came from a guest: not checked.
#[derive(Debug)]
pub(crate) struct RawUpdaterPlan {
    /// The columns it reads; `None` is all.
    pub(crate) reads: Option<Vec<String>>,
    /// The schema of state.
    pub(crate) state: Vec<FlatField>,
    /// The schema it writes.
    pub(crate) writes: Vec<FlatField>,
    /// Which keys it is called for.
    pub(crate) calling: Calling,
    /// What timeouts are held against.
    pub(crate) timeouts: Timeouts,
}

/// What an updater is called with, laid out.
#[derive(Debug)]
pub(crate) struct LoweredUpdate<'a> {
    /// The keys.
    pub(crate) keys: Lowered<'a>,
    /// Their new rows.
    pub(crate) values: Lowered<'a>,
    /// The end of each key's rows.
    pub(crate) ends: &'a [u32],
    /// The state of those that have some.
    pub(crate) state: Lowered<'a>,
    /// A byte a key: whether it has state.
    pub(crate) has_state: Vec<u8>,
    /// A byte a key: whether it timed out.
    pub(crate) timed_out: Vec<u8>,
}

/// An updater's output as it came from a guest: not checked.
#[derive(Debug)]
pub(crate) struct RawUpdaterOutput {
    /// A byte a key.
    pub(crate) changes: Vec<u8>,
    /// The new states.
    pub(crate) state: RawBatch,
    /// A number a key, or none at all.
    pub(crate) timeouts_us: Option<Vec<i64>>,
    /// The written columns.
    pub(crate) rows: RawBatch,
    /// The key of each output row.
    pub(crate) group: Vec<u32>,
    /// Rows of the values that cannot be processed.
    pub(crate) rejected: Vec<Rejection>,
}

/// Why a guest declined to open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The configuration is wrong.
    Config(String),
    /// The input's schema does not fit.
    Schema(String),
    /// Anything else.
    Other(String),
}

/// Why a guest says that a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Worth trying again.
    Retry(String),
    /// Not worth trying again, or not said.
    Fatal(String),
}

/// What a call into a guest gives: the guest's answer, its own refusal or failure, or what stopped it.
pub(crate) type Answer<T, E> = wasmtime::Result<Result<T, E>>;

/// The functions of a guest's transform.
pub(crate) trait TransformExport: Send {
    /// `open`.
    fn open(&self, store: &mut GuestStore, step: &StepInfo, input: &[FlatField]) -> Answer<RawTransformPlan, Refusal>;

    /// `process`.
    fn process(&self, store: &mut GuestStore, call: &Call, input: &Lowered<'_>) -> Answer<RawOutput, Failure>;
}

/// The functions of a guest's reducer.
pub(crate) trait ReducerExport: Send {
    /// `open`: whether it is invertible.
    fn open(&self, store: &mut GuestStore, step: &StepInfo, values: &[FlatField]) -> Answer<bool, Refusal>;

    /// `reduce`.
    fn reduce(
        &self,
        store: &mut GuestStore,
        call: &Call,
        values: &Lowered<'_>,
        ends: &[u32],
    ) -> Answer<RawBatch, Failure>;

    /// `invert`.
    fn invert(
        &self,
        store: &mut GuestStore,
        call: &Call,
        whole: &Lowered<'_>,
        part: &Lowered<'_>,
    ) -> Answer<RawBatch, Failure>;
}

/// The functions of a guest's aggregator.
pub(crate) trait AggregatorExport: Send {
    /// `open`.
    fn open(&self, store: &mut GuestStore, step: &StepInfo, values: &[FlatField])
    -> Answer<RawAggregatorPlan, Refusal>;

    /// `accumulate`.
    fn accumulate(
        &self,
        store: &mut GuestStore,
        call: &Call,
        values: &Lowered<'_>,
        ends: &[u32],
    ) -> Answer<RawBatch, Failure>;

    /// `merge`.
    fn merge(
        &self,
        store: &mut GuestStore,
        call: &Call,
        accumulators: &Lowered<'_>,
        ends: &[u32],
    ) -> Answer<RawBatch, Failure>;

    /// `finish`.
    fn finish(&self, store: &mut GuestStore, call: &Call, accumulators: &Lowered<'_>) -> Answer<RawBatch, Failure>;
}

/// The functions of a guest's grouper.
pub(crate) trait GrouperExport: Send {
    /// `open`.
    fn open(
        &self,
        store: &mut GuestStore,
        step: &StepInfo,
        keys: &[FlatField],
        inputs: &[Vec<FlatField>],
    ) -> Answer<RawGrouperPlan, Refusal>;

    /// `process`: the rows and ends of each input.
    fn process(
        &self,
        store: &mut GuestStore,
        call: &Call,
        keys: &Lowered<'_>,
        inputs: &[(Lowered<'_>, &[u32])],
    ) -> Answer<RawGrouperOutput, Failure>;
}

/// The functions of a guest's updater.
pub(crate) trait UpdaterExport: Send {
    /// `open`.
    fn open(
        &self,
        store: &mut GuestStore,
        step: &StepInfo,
        keys: &[FlatField],
        values: &[FlatField],
    ) -> Answer<RawUpdaterPlan, Refusal>;

    /// `update`.
    fn update(
        &self,
        store: &mut GuestStore,
        call: &Call,
        input: &LoweredUpdate<'_>,
    ) -> Answer<RawUpdaterOutput, Failure>;
}

/// Offers what a plugin of any version may import of the contract.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    v0_1::add_to_linker(linker)
}

/// The transform of an instance.
///
/// # Errors
///
/// When its functions are not those of the contract's version.
pub(crate) fn transform(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<dyn TransformExport>> {
    Ok(Box::new(v0_1::transform(store, instance)?))
}

/// The reducer of an instance.
///
/// # Errors
///
/// As [`transform`].
pub(crate) fn reducer(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<dyn ReducerExport>> {
    Ok(Box::new(v0_1::reducer(store, instance)?))
}

/// The aggregator of an instance.
///
/// # Errors
///
/// As [`transform`].
pub(crate) fn aggregator(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<dyn AggregatorExport>> {
    Ok(Box::new(v0_1::aggregator(store, instance)?))
}

/// The grouper of an instance.
///
/// # Errors
///
/// As [`transform`].
pub(crate) fn grouper(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<dyn GrouperExport>> {
    Ok(Box::new(v0_1::grouper(store, instance)?))
}

/// The updater of an instance.
///
/// # Errors
///
/// As [`transform`].
pub(crate) fn updater(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<Box<dyn UpdaterExport>> {
    Ok(Box::new(v0_1::updater(store, instance)?))
}
