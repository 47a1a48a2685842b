//! The role of updateStateByKey, mapWithState and flatMapGroupsWithState: a key's old state and new rows in, its new
//! state and rows out. The host keeps the state.
//!
//! ```text
//!  keys   has_state  state   timed_out  rows        changes    state    timeouts
//!  ann    yes        row 0   no         0..2   ──▶  Put(0)     row 0    Set(t)      a new state, a new timeout
//!  bob    no         -       no         2..3   ──▶  Put(1)     row 1    Keep        the first state
//!  cid    yes        row 1   yes        none   ──▶  Remove     -        Keep        timed out, and gone
//! ```

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::operator::{Call, CallError, Crossed, Rejection};

/// Which keys a batch calls an updater for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calling {
    /// Those with rows in the batch, and those that timed out.
    KeysWithValues,
    /// Those, and every key that has state.
    EveryKey,
}

/// Which time the timeouts of an updater's keys are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeouts {
    /// Keys do not time out.
    Never,
    /// The batch's time: due in the first batch whose time is not before it.
    BatchTime,
    /// The watermark: due in the first batch whose watermark is not before it.
    EventTime,
}

/// What an updater reads, keeps and writes: the answer to `open`, checked against the schema of its input.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdaterPlan {
    /// Indices of the columns that `update` gets among those that are not keys, in the order it gets them.
    pub reads: Vec<usize>,
    /// The schema of a key's state.
    pub state: SchemaRef,
    /// The schema of what `update` returns, without the keys; no name of a key is among its names.
    pub writes: SchemaRef,
    /// Which keys it is called for.
    pub calling: Calling,
    /// What its timeouts are held against.
    pub timeouts: Timeouts,
}

/// Some keys, each with its new rows and its state: what one call gets.
///
/// What a key has in a batch comes in one call. A key with rows is called first, with `timed_out` false; then come the
/// keys whose timeout is due still, without rows, with `timed_out` true, their timeout taken away before the call.
#[derive(Debug, Clone, Copy)]
pub struct UpdaterInput<'a> {
    /// Row i is key i; no two are equal.
    pub keys: &'a RecordBatch,
    /// The new rows, key by key: the columns [`UpdaterPlan::reads`], in that order.
    pub values: &'a RecordBatch,
    /// The exclusive end of each key's rows. A key may have no rows.
    pub ends: &'a [u32],
    /// The state of the keys that have some, in the order of the keys: a row for each true in `has_state`.
    pub state: &'a RecordBatch,
    /// Whether each key has state.
    pub has_state: &'a [bool],
    /// Whether each key timed out.
    pub timed_out: &'a [bool],
}

impl UpdaterInput<'_> {
    /// That the parts fit together, which is for the caller to see to.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub(crate) fn assert_consistent(&self) {
        let n_keys = self.keys.num_rows();
        assert_eq!((self.ends.len(), self.has_state.len(), self.timed_out.len()), (n_keys, n_keys, n_keys));
        assert_eq!(self.ends.last().map_or(0, |end| *end as usize), self.values.num_rows(), "ends cover the values");
        let n_states = self.has_state.iter().filter(|has| **has).count();
        assert_eq!(n_states, self.state.num_rows(), "there is a row of state for each key that has some");
    }
}

/// What becomes of a key's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is, be it none.
    Keep,
    /// This row of [`UpdaterOutput::state`] takes its place.
    Put(u32),
    /// It is removed, and its timeout with it. There may have been none.
    Remove,
}

/// What becomes of a key's timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutChange {
    /// It stays as it is, be it none.
    Keep,
    /// The key does not time out.
    Clear,
    /// It times out at this time, in microseconds since 1970-01-01 UTC; it may have passed. The key has state.
    Set(i64),
}

/// What came of one call of an updater. Checked: every number is in range, every array valid and of the plan's schema.
#[derive(Debug, Clone)]
pub struct UpdaterOutput {
    /// What becomes of the state of each key; rows of `state` are put in their order, each once.
    pub changes: Vec<Change>,
    /// The new states, of the schema [`UpdaterPlan::state`].
    pub state: RecordBatch,
    /// What becomes of the timeout of each key; `None` when all stay as they are. A key without state after the call has
    /// none, whatever this says.
    pub timeouts: Option<Vec<TimeoutChange>>,
    /// The written columns, of the schema [`UpdaterPlan::writes`].
    pub rows: RecordBatch,
    /// For each row of `rows` the key it came from; never less than the one before.
    pub group: Vec<u32>,
    /// Rows of the values that could not be processed.
    pub rejected: Vec<Rejection>,
}

/// An operator opened as an updater, for one partition. Same rules as [`crate::operator::Transform`].
pub trait Updater: Send {
    /// What it answered when it was opened.
    fn plan(&self) -> &UpdaterPlan;

    /// Updates some keys. Rows of a key that are too many for one call are [`CallError::GroupTooLarge`], which is for the
    /// caller to say.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. Nothing of the call's output is used.
    fn update(&mut self, call: &Call, input: &UpdaterInput<'_>) -> Result<UpdaterOutput, CallError>;

    /// What has crossed into the operator and out of it since it was opened.
    fn bytes_crossed(&self) -> Crossed {
        Crossed::default()
    }
}

/// The number that leaves a timeout as it is.
const TIMEOUT_KEEP: i64 = i64::MIN;
/// The time that never comes.
const TIMEOUT_NEVER: i64 = i64::MAX;

/// The changes that an operator's bytes say, one for each of `n_keys` keys, putting all of `n_states` rows.
///
/// # Errors
///
/// Names the rule that is broken.
pub(crate) fn changes(bytes: &[u8], n_keys: usize, n_states: u32) -> Result<Vec<Change>, String> {
    if bytes.len() != n_keys {
        return Err(format!("`changes` has {} bytes, and there are {n_keys} keys", bytes.len()));
    }
    let mut n_put = 0_u32;
    let mut changes = Vec::with_capacity(n_keys);
    for (i, byte) in bytes.iter().enumerate() {
        changes.push(match byte {
            0 => Change::Keep,
            1 => {
                n_put += 1;
                Change::Put(n_put - 1)
            }
            2 => Change::Remove,
            other => {
                return Err(format!("`changes[{i}]` is {other}, and a change is 0 (keep), 1 (put) or 2 (remove)"));
            }
        });
    }
    if n_put != n_states {
        return Err(format!("`changes` puts {n_put} states, and `state` has {n_states} rows"));
    }
    Ok(changes)
}

/// The changes of timeouts that an operator's numbers say, after what `changes` makes of the keys' state.
///
/// # Errors
///
/// Names the rule that is broken.
pub(crate) fn timeout_changes(
    numbers: Option<&[i64]>,
    changes: &[Change],
    has_state: &[bool],
    timeouts: Timeouts,
) -> Result<Option<Vec<TimeoutChange>>, String> {
    let Some(numbers) = numbers else { return Ok(None) };
    if timeouts == Timeouts::Never {
        return Err("`timeouts-us` is there, and the plan's `timeouts` is `never`".into());
    }
    if numbers.len() != changes.len() {
        return Err(format!("`timeouts-us` has {} numbers, and there are {} keys", numbers.len(), changes.len()));
    }
    let change = |(i, &number): (usize, &i64)| match number {
        TIMEOUT_KEEP => Ok(TimeoutChange::Keep),
        TIMEOUT_NEVER => Ok(TimeoutChange::Clear),
        _ if matches!(changes[i], Change::Remove) || matches!(changes[i], Change::Keep) && !has_state[i] => {
            Err(format!("`timeouts-us[{i}]` is {number}, and key {i} has no state after the call"))
        }
        _ => Ok(TimeoutChange::Set(number)),
    };
    numbers.iter().enumerate().map(change).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], n_states: u32, expected: Result<&[Change], &str>) {
        assert_eq!(changes(bytes, 3, n_states), expected.map(<[_]>::to_vec).map_err(str::to_owned));
    }

    #[test]
    fn a_byte_says_what_becomes_of_a_state() {
        check(&[1, 0, 1], 2, Ok(&[Change::Put(0), Change::Keep, Change::Put(1)]));
        check(&[2, 2, 2], 0, Ok(&[Change::Remove; 3]));
        check(&[0, 0], 0, Err("`changes` has 2 bytes, and there are 3 keys"));
        check(&[0, 7, 0], 0, Err("`changes[1]` is 7, and a change is 0 (keep), 1 (put) or 2 (remove)"));
        check(&[1, 0, 0], 2, Err("`changes` puts 1 states, and `state` has 2 rows"));
        check(&[1, 1, 0], 1, Err("`changes` puts 2 states, and `state` has 1 rows"));
    }

    fn check_timeouts(numbers: Option<&[i64]>, timeouts: Timeouts, expected: Result<Option<&[TimeoutChange]>, &str>) {
        let changes = [Change::Put(0), Change::Keep, Change::Keep, Change::Remove];
        let found = timeout_changes(numbers, &changes, &[false, true, false, true], timeouts);
        assert_eq!(found, expected.map(|changes| changes.map(<[_]>::to_vec)).map_err(str::to_owned));
    }

    #[test]
    fn a_number_says_what_becomes_of_a_timeout() {
        use TimeoutChange::{Clear, Keep, Set};
        let check = check_timeouts;
        check(None, Timeouts::Never, Ok(None));
        check(None, Timeouts::EventTime, Ok(None));
        check(Some(&[5, -5, i64::MIN, i64::MAX]), Timeouts::BatchTime, Ok(Some(&[Set(5), Set(-5), Keep, Clear])));
        check(Some(&[5]), Timeouts::Never, Err("`timeouts-us` is there, and the plan's `timeouts` is `never`"));
        check(Some(&[5]), Timeouts::EventTime, Err("`timeouts-us` has 1 numbers, and there are 4 keys"));
        let without_state = |i: usize| format!("`timeouts-us[{i}]` is 9, and key {i} has no state after the call");
        check(Some(&[0, 0, 9, i64::MIN]), Timeouts::EventTime, Err(&without_state(2)));
        check(Some(&[0, 0, i64::MAX, 9]), Timeouts::EventTime, Err(&without_state(3)));
    }

    proptest! {
        /// The law: as many states are put as there are, each once, in order; everything else is refused.
        #[test]
        fn every_state_is_put_once(bytes in prop::collection::vec(0_u8..4, 0..8), n_states in 0_u32..5) {
            let n_put = bytes.iter().filter(|byte| **byte == 1).count() as u32;
            match changes(&bytes, bytes.len(), n_states) {
                Ok(changes) => {
                    let put = changes.iter().filter_map(|change| match change {
                        Change::Put(row) => Some(*row),
                        _ => None,
                    });
                    prop_assert_eq!(put.collect::<Vec<_>>(), (0..n_states).collect::<Vec<_>>());
                }
                Err(_) => prop_assert!(n_put != n_states || bytes.contains(&3)),
            }
        }
    }
}
