//! Updaters of typed rows: a key's state and its new rows in, rows out.

use std::fmt;
use std::time::Duration;

use crate::batch::OwnedBatch;
use crate::builder::{BuildRow, Sizes};
use crate::function::rows;
use crate::group::{Cut, GroupEmitter, GroupRows, check_keys, check_values, key_reason};
use crate::role::{Call, Calling, Failure, Refusal, Step, Timeouts, Updater, UpdaterInput, UpdaterOutput, UpdaterPlan};
use crate::row::{ReadRow, Row};
use crate::schema::Schema;
use crate::value::TimestampUs;

/// Leaves a timeout as it is.
const KEEP: i64 = i64::MIN;
/// The time that never comes.
const NEVER: i64 = i64::MAX;

/// A key's state, and its timeout. Nothing happens to either unless it is asked for here.
///
/// | in one call | means |
/// | --- | --- |
/// | nothing | the state stays, and so does the timeout, unless it has just fired: then there is none |
/// | [`set`](Self::set), [`get_mut`](Self::get_mut), `get_or_insert_with` | the state is kept as it is when the call ends |
/// | [`take`](Self::take), then `set` | the new state; the timeout stays as it is |
/// | [`remove`](Self::remove), or `take` alone | no state, no timeout |
/// | `remove`, then `set` | the new state, and no timeout but one that is set after the `remove` |
/// | several timeouts | the last |
///
/// A timeout belongs to state. A call that sets one for a key it leaves without state fails, as one does that sets it where
/// [`Update::TIMEOUTS`] is [`Timeouts::Never`].
pub struct StateHandle<S> {
    state: Option<S>,
    had_state: bool,
    /// Whether `state` is to be put in the place of what the host has.
    changed: bool,
    timed_out: bool,
    timeout_us: i64,
    timeouts: Timeouts,
    batch_time_us: i64,
    watermark_us: Option<i64>,
    misuse: Option<&'static str>,
}

impl<S> StateHandle<S> {
    /// The state, if there is some.
    #[must_use]
    pub fn get(&self) -> Option<&S> {
        self.state.as_ref()
    }

    /// The state, to be changed in place.
    #[must_use]
    pub fn get_mut(&mut self) -> Option<&mut S> {
        self.changed |= self.state.is_some();
        self.state.as_mut()
    }

    /// The state, to be changed in place; what `make` makes when there is none.
    pub fn get_or_insert_with(&mut self, make: impl FnOnce() -> S) -> &mut S {
        self.changed = true;
        self.state.get_or_insert_with(make)
    }

    /// Whether there is state.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state.is_some()
    }

    /// Puts a state in the place of what there is.
    pub fn set(&mut self, state: S) {
        self.changed = true;
        self.state = Some(state);
    }

    /// Removes the state, and the timeout with it.
    pub fn remove(&mut self) {
        self.state = None;
        self.timeout_us = NEVER;
    }

    /// Gives the state away, to be set again: for a state that is made of the old one. Unless it is, the state is removed.
    #[must_use]
    pub fn take(&mut self) -> Option<S> {
        self.state.take()
    }

    /// Whether the key is called because its timeout was due: without rows, and the timeout is gone.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Has the key called, as timed out, in the first batch whose time, or whose watermark, is not before `at`. A time that
    /// has passed is due at once: in this batch when the key has rows, in the next when it has none.
    pub fn set_timeout(&mut self, at: TimestampUs) {
        if self.timeouts == Timeouts::Never {
            self.misuse = Some("it sets a timeout, and its `TIMEOUTS` is `Timeouts::Never`");
        }
        // The two ends of the range have meanings of their own.
        self.timeout_us = at.0.clamp(KEEP + 1, NEVER - 1);
    }

    /// Has the key called, as timed out, this long after the batch's time.
    ///
    /// Only where [`Update::TIMEOUTS`] is [`Timeouts::BatchTime`]: in event time a batch's time says nothing, and a call
    /// that does this fails. There, add to the time of a row.
    pub fn set_timeout_after(&mut self, duration: Duration) {
        if self.timeouts == Timeouts::EventTime {
            self.misuse = Some("`set_timeout_after` counts from the batch's time, and its timeouts are in event time");
        }
        let duration_us = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        self.set_timeout(TimestampUs(self.batch_time_us.saturating_add(duration_us)));
    }

    /// Takes the timeout away.
    pub fn clear_timeout(&mut self) {
        self.timeout_us = NEVER;
    }

    /// The batch's time.
    #[must_use]
    pub fn batch_time(&self) -> TimestampUs {
        TimestampUs(self.batch_time_us)
    }

    /// The watermark, if the step's input has one: no row with an earlier event time is waited for.
    #[must_use]
    pub fn watermark(&self) -> Option<TimestampUs> {
        self.watermark_us.map(TimestampUs)
    }

    /// Which rule the author broke, if one.
    fn misuse(&self) -> Option<&'static str> {
        let sets_timeout = self.timeout_us != KEEP && self.timeout_us != NEVER;
        self.misuse.or_else(|| {
            let text = "it sets a timeout for a key that it leaves without state";
            (sets_timeout && self.state.is_none()).then_some(text)
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for StateHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateHandle")
            .field("state", &self.state)
            .field("timed_out", &self.timed_out)
            .finish_non_exhaustive()
    }
}

/// An updater of typed rows: keeps state for each key, from batch to batch. Put `#[operator]` on the `impl`.
///
/// The columns of [`Update::Key`] are read of the step's keys; the host puts all of them before the columns that are
/// emitted. [`crate::AnyKey`] reads none. State is the host's: a batch that is run again starts from the same state, so
/// nothing of it may be kept in `self`, which may be another instance at the next call.
///
/// # Examples
///
/// ```
/// use tidemill_guest::{
///     AnyKey, GroupEmitter, GroupRows, Refusal, Row, StateHandle, Step, TimestampUs, Update, operator, testing,
/// };
///
/// #[derive(Row)]
/// struct Sale {
///     amount: i64,
/// }
///
/// #[derive(Row, Clone)]
/// struct Total {
///     total: i64,
/// }
///
/// struct RunningTotal;
///
/// #[operator]
/// impl Update for RunningTotal {
///     type Key<'a> = AnyKey;
///     type Input<'a> = Sale;
///     type State = Total;
///     type Output = Total;
///
///     fn open(_: &Step) -> Result<Self, Refusal> {
///         Ok(RunningTotal)
///     }
///     fn update(
///         &mut self,
///         _: AnyKey,
///         rows: GroupRows<'_, Sale>,
///         state: &mut StateHandle<Total>,
///         out: &mut GroupEmitter<Total>,
///     ) {
///         let state = state.get_or_insert_with(|| Total { total: 0 });
///         state.total += rows.map(|sale| sale.amount).sum::<i64>();
///         out.emit(state.clone());
///     }
/// }
///
/// # fn main() {
/// #[derive(Row, Clone, PartialEq)]
/// struct City<'a> {
///     city: &'a str,
/// }
/// let oslo = City { city: "Oslo" };
/// let mut batches = testing::update::<City<'_>, Sale, Total>(&RunningTotal::operator(), "{}").unwrap();
/// batches.run(TimestampUs(0), [(oslo.clone(), vec![Sale { amount: 3 }, Sale { amount: 4 }])]).unwrap();
/// let ran = batches.run(TimestampUs(1), [(oslo, vec![Sale { amount: 5 }])]).unwrap();
/// assert_eq!(ran.column::<i64>("total"), [Some(12)]);
/// # }
/// ```
pub trait Update: Sized {
    /// What is read of the key.
    type Key<'a>: ReadRow<'a>;
    /// What is read of a row.
    type Input<'a>: ReadRow<'a>;
    /// What is kept of a key.
    type State: Row + for<'a> ReadRow<'a>;
    /// What is emitted, without the key.
    type Output: Row;

    /// Which keys a batch calls it for.
    const CALLING: Calling = Calling::KeysWithValues;

    /// What its timeouts are held against.
    const TIMEOUTS: Timeouts = Timeouts::Never;

    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step) -> Result<Self, Refusal>;

    /// Updates a key with the rows that it has in the batch, in the order in which they came. It has none when it timed out,
    /// and with [`Calling::EveryKey`] whenever the batch has none.
    fn update<'a>(
        &mut self,
        key: Self::Key<'a>,
        rows: GroupRows<'a, Self::Input<'a>>,
        state: &mut StateHandle<Self::State>,
        out: &mut GroupEmitter<Self::Output>,
    );
}

/// An [`Update`] as an [`Updater`].
#[derive(Debug)]
pub struct Updating<U> {
    operator: U,
    sizes: Sizes,
    state_sizes: Sizes,
}

impl<U: Update> Updater for Updating<U> {
    fn open(step: &Step, keys: &Schema, values: &Schema) -> Result<(UpdaterPlan, Self), Refusal> {
        let operator = U::open(step)?;
        check_keys::<U::Key<'_>>(keys)?;
        let plan = UpdaterPlan {
            reads: Some(check_values::<U::Input<'_>>(values, keys)?),
            state: U::State::schema(),
            writes: U::Output::schema(),
            calling: U::CALLING,
            timeouts: U::TIMEOUTS,
        };
        Ok((plan, Self { operator, sizes: Sizes::default(), state_sizes: Sizes::default() }))
    }

    fn update(&mut self, call: &Call, input: &UpdaterInput<'_>) -> Result<UpdaterOutput, Failure> {
        let n_keys = input.keys.n_rows();
        let keys = rows::<U::Key<'_>>(input.keys)?;
        let values = Cut::<U::Input<'_>>::new(input.values, input.ends, 0)?;
        let mut states = States::<U::State> {
            rows: rows(input.state)?,
            next: 0,
            builder: <U::State as Row>::RowBuilder::with_hints(&mut self.state_sizes.hints(n_keys)),
            n_put: 0,
            changes: Vec::with_capacity(n_keys),
            timeouts_us: Vec::with_capacity(n_keys),
        };
        let mut out = GroupEmitter::start(&self.sizes, n_keys, 1);
        for index in 0..n_keys {
            out.set_current(index);
            let (has_state, timed_out) = (input.has_state[index] != 0, input.timed_out[index] != 0);
            let state = if has_state { Some(states.take(index)?) } else { None };
            let Some(key) = keys.get(index) else {
                values.reject_group(index, &key_reason(&keys, index), &mut out);
                states.keep();
                continue;
            };
            let rows = values.group(index, &mut out);
            // All rows that it is called for have been rejected.
            let nothing_left = values.has_rows(index) && rows.len() == 0;
            if nothing_left && !(has_state && U::CALLING == Calling::EveryKey) {
                states.keep();
                continue;
            }
            let mut handle = StateHandle {
                state,
                had_state: has_state,
                changed: false,
                timed_out,
                timeout_us: KEEP,
                timeouts: U::TIMEOUTS,
                batch_time_us: call.batch_time_us,
                watermark_us: call.watermark_us,
                misuse: None,
            };
            self.operator.update(key, rows, &mut handle, &mut out);
            if let Some(misuse) = handle.misuse() {
                return Err(Failure::Fatal(misuse.into()));
            }
            states.put(handle);
        }
        let States { builder, n_put, changes, timeouts_us, .. } = states;
        let mut state = OwnedBatch { rows: n_put, ..OwnedBatch::default() };
        builder.finish(&mut state);
        self.state_sizes.learn(n_keys, &state);
        let timeouts_us = Some(timeouts_us).filter(|timeouts_us| timeouts_us.iter().any(|number| *number != KEEP));
        let mut output = out.finish(&mut self.sizes, n_keys);
        Ok(UpdaterOutput {
            changes,
            state,
            timeouts_us: timeouts_us.filter(|_| U::TIMEOUTS != Timeouts::Never),
            rows: output.rows,
            group: output.group,
            rejected: output.rejected.pop().unwrap_or_default(),
        })
    }
}

/// The states that come in and those that go out.
struct States<'a, S: ReadRow<'a>> {
    rows: crate::row::Rows<'a, S>,
    next: usize,
    builder: S::RowBuilder,
    n_put: u32,
    changes: Vec<u8>,
    timeouts_us: Vec<i64>,
}

impl<'a, S: ReadRow<'a>> States<'a, S> {
    /// The state of the next key that has some.
    fn take(&mut self, key: usize) -> Result<S, Failure> {
        let index = self.next;
        self.next += 1;
        let text = || format!("the state of key {key}: {}", self.rows.null_reason(index));
        self.rows.get(index).ok_or_else(|| Failure::Fatal(text()))
    }

    /// Leaves a key as it is.
    fn keep(&mut self) {
        self.changes.push(0);
        self.timeouts_us.push(KEEP);
    }

    /// Notes what an update made of a key.
    fn put(&mut self, handle: StateHandle<S>) {
        let change = match handle.state {
            Some(state) if handle.changed => {
                state.push_row(&mut self.builder);
                self.n_put += 1;
                1
            }
            None if handle.had_state => 2,
            _ => 0,
        };
        self.changes.push(change);
        // With its state a key has lost its timeout.
        self.timeouts_us.push(if change == 2 { KEEP } else { handle.timeout_us });
    }
}
