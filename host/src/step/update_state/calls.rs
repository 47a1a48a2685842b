//! The half behind the shuffle: keys with their rows and states into calls, what comes back into changes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::error::ArrowError;

use super::{STATES, TIMERS, Updating};
use crate::clock::describe_time;
use crate::error::Error;
use crate::operator::{
    CallError, CallSite, Calling, Change, TimeoutChange, Timeouts, Updater, UpdaterInput, UpdaterOutput,
};
use crate::shuffle::key_encoding::plain;
use crate::shuffle::sort_by_group;
use crate::state::{EncodedRows, Placement, RowCodec, Slots, StateError, StateTask, TableLayout, row_of};
use crate::step::caller::Caller;
use crate::step::chunks::{RowBytes, concat_pushes};
use crate::step::dead_letters::{Letters, Tried, by_pieces};
use crate::step::group::calls::with_keys;
use crate::step::key_table::KeyTable;
use crate::step::keyed::{batch_of, emit_in_chunks, internal};
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

pub(super) struct UpdateFactory(pub(super) Arc<Updating>);

impl StepFactory for UpdateFactory {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        Ok(Box::new(Running {
            updating: self.0.clone(),
            task: task.clone(),
            caller: Caller::new(&self.0.callee, task),
            letters: self.0.letter_box.as_ref().map(|letter_box| letter_box.open(task)),
            state: Some(self.0.state.begin(task.stage_partition)?),
            rows: Vec::new(),
            called: Called::default(),
        }))
    }
}

/// What a dead letter of a key without rows calls its state.
const STATE_COLUMN: &str = "state";

/// The same, when a column of the key is called so.
const STATE_COLUMN_BESIDE_ONE: &str = "kept-state";

/// A timeout that never comes, as it is kept.
const NEVER: i64 = i64::MAX;

/// What the tables hold: a key's state with its timeout, and when keys time out.
pub(super) fn layouts(keys: &Arc<RowCodec>, states: &Arc<RowCodec>) -> Vec<TableLayout> {
    let by_its_key = Placement::Key(keys.clone());
    let states = states.clone();
    let of_keys = TableLayout::shown(by_its_key.clone(), Slots::One, move |value| {
        let kept = Kept::read("", value).ok()?;
        let timeout = (kept.timeout_us != NEVER).then(|| describe_time(kept.timeout_us));
        Some(serde_json::json!({ "state": row_of(&states, &kept.state)?, "timeout": timeout }))
    });
    vec![of_keys, TableLayout::hidden(by_its_key)]
}

/// What a key has, before the batch or after a call of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    timeout_us: i64,
    state: Vec<u8>,
}

impl Kept {
    fn read(step: &str, value: &[u8]) -> Result<Self, StateError> {
        match value.split_first_chunk() {
            Some((timeout, state)) => Ok(Self { timeout_us: i64::from_le_bytes(*timeout), state: state.to_vec() }),
            None => Err(StateError::Damaged {
                step: step.to_owned(),
                what: format!("a value has {} bytes, too few", value.len()),
            }),
        }
    }
}

/// A key that was called in this batch: what it had before, and has now.
struct CalledKey {
    key: Box<[u8]>,
    before: Option<Kept>,
    now: Option<Kept>,
}

/// The keys that were called in this batch, in the order of their first call.
#[derive(Default)]
struct Called {
    keys: Vec<CalledKey>,
    index: HashMap<Box<[u8]>, usize>,
}

impl Called {
    fn find(&self, key: &[u8]) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// A key whose rows were set aside is as one without rows: what it has stays as it was, and it may be called for a timeout.
    fn forget(&mut self, number: usize) {
        let called = &mut self.keys[number];
        (called.before, called.now) = (None, None);
        self.index.remove(&called.key);
    }

    fn add(&mut self, key: &[u8], before: Option<Kept>) -> usize {
        let number = self.keys.len();
        self.index.insert(key.into(), number);
        self.keys.push(CalledKey { key: key.into(), now: before.clone(), before });
        number
    }
}

struct Running {
    updating: Arc<Updating>,
    task: TaskContext,
    caller: Caller<dyn Updater>,
    /// Where the rows of bad keys are set aside, if they are.
    letters: Option<Letters>,
    /// Given back when the step ends.
    state: Option<StateTask>,
    rows: Vec<RecordBatch>,
    called: Called,
}

/// Keys about to be called, each with its rows: row i of `keys` is number `numbers[i]` of the called keys.
struct Turn {
    keys: RecordBatch,
    numbers: Vec<usize>,
    values: RecordBatch,
    ends: Vec<u32>,
    timed_out: bool,
    /// Where rows may be set aside: the rows as they came, and their numbers in the order of the keys.
    whole: Option<(RecordBatch, Vec<u32>)>,
}

impl Turn {
    /// The rows as they came, and the numbers of those of some keys.
    fn row_numbers(&self, keys: &Range<usize>) -> Option<(&RecordBatch, &[u32])> {
        let (rows, order) = self.whole.as_ref()?;
        let start = if keys.start == 0 { 0 } else { self.ends[keys.start - 1] };
        let end = if keys.is_empty() { start } else { self.ends[keys.end - 1] };
        Some((rows, &order[start as usize..end as usize]))
    }
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        self.rows.push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.call_keys_with_rows(emit)?;
        self.call_timed_out(emit)?;
        if self.updating.plan.calling == Calling::EveryKey {
            self.call_others(emit)?;
        }
        self.caller.finish();
        self.write_changes()?;
        self.letters.iter().for_each(Letters::finish);
        Ok(())
    }

    fn take_letters(&mut self) -> Result<Option<RecordBatch>, Error> {
        self.letters.as_mut().map_or(Ok(None), Letters::take)
    }
}

impl Running {
    fn state(&self) -> &StateTask {
        self.state.as_ref().unwrap_or_else(|| unreachable!("it is there until the step ends"))
    }

    fn internal(&self) -> impl FnOnce(ArrowError) -> Error + use<> {
        internal(format!("updating the state of step `{}`", self.updating.callee.step))
    }

    fn kept_before(&self, key: &[u8]) -> Result<Option<Kept>, Error> {
        let value = self.state().table(STATES).get(0, key)?;
        Ok(value.map(|value| Kept::read(&self.updating.callee.step, &value)).transpose()?)
    }

    /// What is due by then times out in this batch.
    fn due_us(&self) -> Option<i64> {
        let now_us = match self.updating.plan.timeouts {
            Timeouts::Never => None,
            // Nothing will come any more: what waits for a time has waited long enough.
            Timeouts::BatchTime if self.task.times.closes() => Some(i64::MAX),
            Timeouts::BatchTime => Some(self.task.batch_time_us),
            Timeouts::EventTime => self.task.times.watermark(self.updating.clock).now_us,
        };
        // A timeout that never comes is not due even at the end.
        now_us.map(|now_us| now_us.min(NEVER - 1))
    }

    fn call_keys_with_rows(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let updating = self.updating.clone();
        let pending = std::mem::take(&mut self.rows);
        let Some(rows) = concat_pushes(&pending).map_err(self.internal())? else { return Ok(()) };
        drop(pending);
        let types: Vec<DataType> = updating.keys.fields.iter().map(|field| field.data_type().clone()).collect();
        let mut table = KeyTable::new(&types);
        let mut groups = Vec::new();
        table.group_rows(&updating.keys.of(&rows), rows.num_rows(), &mut groups).map_err(self.internal())?;
        let n_keys = table.len();
        let keys = table.keys().and_then(|keys| batch_of(updating.key_schema.clone(), keys, n_keys));
        let keys = keys.map_err(self.internal())?;
        let (order, ends) = sort_by_group(&groups, n_keys);
        let whole = self.letters.as_mut().map(|letters| {
            letters.saw(rows.num_rows());
            (rows.clone(), order.clone())
        });
        let order = UInt32Array::from(order);
        let gather =
            |&index: &usize| -> Result<ArrayRef, ArrowError> { take(&plain(rows.column(index))?, &order, None) };
        let values = updating.values.iter().map(gather).collect::<Result<Vec<_>, _>>();
        let values = values.and_then(|values| batch_of(updating.read_schema.clone(), values, rows.num_rows()));
        let values = values.map_err(self.internal())?;
        let numbers = self.add_keys(&keys)?;
        self.run(Turn { keys, numbers, values, ends, timed_out: false, whole }, emit)
    }

    /// Notes keys that are called for the first time in this batch.
    fn add_keys(&mut self, keys: &RecordBatch) -> Result<Vec<usize>, Error> {
        let updating = self.updating.clone();
        let encoded = updating.key_codec.encode_keys(keys.columns(), keys.num_rows()).map_err(self.internal())?;
        encoded
            .iter()
            .map(|key| {
                let before = self.kept_before(key)?;
                Ok(self.called.add(key, before))
            })
            .collect()
    }

    fn call_timed_out(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let Some(due_us) = self.due_us() else { return Ok(()) };
        let mut due: Vec<Box<[u8]>> = Vec::new();
        self.state().table(TIMERS).scan(i64::MIN..=due_us, &mut |_, key, _| {
            due.push(key.into());
            Ok(true)
        })?;
        let mut numbers = Vec::new();
        for key in &due {
            // What was called with rows has the timeout that it was left with.
            if self.called.find(key).is_none() {
                let before = self.kept_before(key)?;
                numbers.push(self.called.add(key, before));
            }
        }
        let is_due = |called: &CalledKey| called.now.as_ref().is_some_and(|kept| kept.timeout_us <= due_us);
        let with_rows = self.called.keys.len() - numbers.len();
        numbers.extend((0..with_rows).filter(|&number| is_due(&self.called.keys[number])));
        for &number in &numbers {
            if let Some(kept) = &mut self.called.keys[number].now {
                kept.timeout_us = NEVER;
            }
        }
        self.call_without_rows(&numbers, true, emit)
    }

    /// Calls every key that has state and was not called yet.
    fn call_others(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let mut others: Vec<(Box<[u8]>, Kept)> = Vec::new();
        let step = self.updating.callee.step.clone();
        self.state().table(STATES).scan(0..=0, &mut |_, key, value| {
            if self.called.find(key).is_none() {
                others.push((key.into(), Kept::read(&step, value)?));
            }
            Ok(true)
        })?;
        let numbers: Vec<usize> = others.into_iter().map(|(key, kept)| self.called.add(&key, Some(kept))).collect();
        self.call_without_rows(&numbers, false, emit)
    }

    fn call_without_rows(&mut self, numbers: &[usize], timed_out: bool, emit: &mut Emit<'_>) -> Result<(), Error> {
        let updating = self.updating.clone();
        // They count among the rows of which a share may be bad.
        self.letters.iter_mut().for_each(|letters| _ = letters.saw(numbers.len()));
        let keys_max = if updating.bounds.whole_partition { numbers.len() } else { updating.bounds.rows as usize };
        for numbers in numbers.chunks(keys_max.max(1)) {
            let encoded = numbers.iter().map(|&number| &*self.called.keys[number].key);
            let columns = updating.key_codec.decode(encoded).map_err(self.internal())?.columns().to_vec();
            let keys = batch_of(updating.key_schema.clone(), columns, numbers.len()).map_err(self.internal())?;
            let turn = Turn {
                keys,
                numbers: numbers.to_vec(),
                values: RecordBatch::new_empty(updating.read_schema.clone()),
                ends: vec![0; numbers.len()],
                timed_out,
                whole: None,
            };
            self.run(turn, emit)?;
        }
        Ok(())
    }

    /// Calls the operator for keys, as many at a time as fit.
    fn run(&mut self, turn: Turn, emit: &mut Emit<'_>) -> Result<(), Error> {
        let bounds = self.updating.bounds;
        let row_bytes = RowBytes::of(&turn.values);
        // Where the states of the keys end, laid side by side: they cross as well.
        let mut n_bytes = 0;
        let state_ends: Vec<u64> = turn
            .numbers
            .iter()
            .map(|&number| {
                n_bytes += self.called.keys[number].now.as_ref().map_or(0, |kept| kept.state.len() as u64);
                n_bytes
            })
            .collect();
        let rows_of = |keys: &Range<usize>| {
            let start = if keys.start == 0 { 0 } else { turn.ends[keys.start - 1] };
            let n_rows = turn.ends[keys.end - 1] - start;
            (u64::from(n_rows), row_bytes.of_rows(start as usize, n_rows as usize))
        };
        let fits = |keys: Range<usize>| {
            let (n_rows, n_bytes) = rows_of(&keys);
            let states = state_ends[keys.end - 1] - if keys.start == 0 { 0 } else { state_ends[keys.start - 1] };
            n_rows <= bounds.rows.into() && keys.len() <= bounds.rows as usize && n_bytes + states <= bounds.bytes
        };
        let n_keys = turn.numbers.len();
        let mut start = 0;
        while start < n_keys {
            let mut end = n_keys;
            if !bounds.whole_partition {
                // A key cannot be cut: its state may be as large as it is, its rows may not.
                let (n_rows, n_bytes) = rows_of(&(start..start + 1));
                if n_rows > bounds.rows.into() || n_bytes > bounds.bytes {
                    return Err(CallError::GroupTooLarge {
                        site: self.site(n_rows as usize),
                        n_rows,
                        n_bytes,
                        rows_max: bounds.rows.into(),
                        bytes_max: bounds.bytes,
                    }
                    .into());
                }
                // The largest end that fits, by halving: rows and bytes only grow with it.
                let (mut fitting, mut too_many) = (start + 1, n_keys + 1);
                while too_many - fitting > 1 {
                    let middle = fitting + (too_many - fitting) / 2;
                    if fits(start..middle) { fitting = middle } else { too_many = middle }
                }
                end = fitting;
            }
            self.call(&turn, start..end, emit)?;
            start = end;
        }
        Ok(())
    }

    /// One call, or several of half the keys each when an output is too large, and to find keys whose rows are bad.
    fn call(&mut self, turn: &Turn, range: Range<usize>, emit: &mut Emit<'_>) -> Result<(), Error> {
        by_pieces(range.len(), |piece, is_again| {
            let part = range.start + piece.start..range.start + piece.end;
            let Some(error) = self.try_call(turn, part.clone(), emit)? else { return Ok(Tried::Done) };
            // A partition that is to be one call is not cut.
            if error.is_output_too_large() && part.len() > 1 && !self.updating.bounds.whole_partition {
                return Ok(Tried::Cut(part.len() / 2));
            }
            let Some(letters) = &mut self.letters else { return Err(error.into()) };
            let error = letters.blames_rows(error.into())?;
            if part.len() > 1 {
                return Ok(Tried::Cut(part.len() / 2));
            }
            // Keys before it may have broken the instance: the next one is new.
            if !is_again {
                return Ok(Tried::Again);
            }
            match turn.row_numbers(&part) {
                Some((rows, numbers)) => {
                    letters.add_group(rows, numbers, &error)?;
                    self.called.forget(turn.numbers[part.start]);
                }
                // It keeps what it has, but for its timeout, which was taken away before the call.
                None => {
                    let key = self.key_with_state(turn, part.start)?;
                    self.letters.iter_mut().try_for_each(|letters| letters.add_key(&key, &error))?;
                }
            }
            Ok(Tried::Done)
        })
    }

    /// A key with what it has kept, as one row: the columns of the key, and the state in one of its own.
    fn key_with_state(&self, turn: &Turn, index: usize) -> Result<RecordBatch, Error> {
        let updating = &self.updating;
        let key = turn.keys.slice(index, 1);
        let mut fields: Vec<FieldRef> = key.schema().fields().iter().cloned().collect();
        let mut columns = key.columns().to_vec();
        if let Some(kept) = &self.called.keys[turn.numbers[index]].now {
            let state = updating.state_codec.decode(std::iter::once(&*kept.state)).map_err(self.internal())?;
            let state = batch_of(updating.plan.state.clone(), state.columns().to_vec(), 1).map_err(self.internal())?;
            let state = StructArray::from(state);
            // A key may have a column of this name.
            let is_taken = fields.iter().any(|field| field.name() == STATE_COLUMN);
            let name = if is_taken { STATE_COLUMN_BESIDE_ONE } else { STATE_COLUMN };
            fields.push(Arc::new(Field::new(name, state.data_type().clone(), true)));
            columns.push(Arc::new(state));
        }
        batch_of(Arc::new(Schema::new(fields)), columns, 1).map_err(self.internal())
    }

    fn site(&self, n_rows: usize) -> Box<CallSite> {
        Box::new(CallSite {
            operator: self.updating.operator.clone(),
            step: self.updating.callee.step.clone(),
            batch_id: self.task.batch_id,
            partition: self.task.partition,
            n_rows,
        })
    }

    /// One call; gives its error when it failed.
    fn try_call(&mut self, turn: &Turn, range: Range<usize>, emit: &mut Emit<'_>) -> Result<Option<CallError>, Error> {
        let updating = self.updating.clone();
        let first = if range.start == 0 { 0 } else { turn.ends[range.start - 1] };
        let ends: Vec<u32> = turn.ends[range.clone()].iter().map(|end| end - first).collect();
        let n_rows = ends.last().map_or(0, |end| *end as usize);
        let values = turn.values.slice(first as usize, n_rows);
        let keys = turn.keys.slice(range.start, range.len());
        let numbers = &turn.numbers[range.clone()];
        let now = |number: &usize| self.called.keys[*number].now.as_ref();
        let has_state: Vec<bool> = numbers.iter().map(|number| now(number).is_some()).collect();
        let states = numbers.iter().filter_map(now).map(|kept| &*kept.state);
        let state = updating.state_codec.decode(states).map_err(self.internal())?;
        let state = batch_of(updating.plan.state.clone(), state.columns().to_vec(), state.num_rows())
            .map_err(self.internal())?;
        let timed_out = vec![turn.timed_out; range.len()];
        let input = UpdaterInput {
            keys: &keys,
            values: &values,
            ends: &ends,
            state: &state,
            has_state: &has_state,
            timed_out: &timed_out,
        };
        // Keys count as rows: calls without rows differ too.
        let answer = self.caller.call(n_rows + keys.num_rows(), |updater, call| updater.update(call, &input))?;
        let output = match answer {
            Ok(output) => output,
            Err(error) => return Ok(Some(error)),
        };
        let states = &output.state;
        let encoded = updating.state_codec.encode(states.columns(), states.num_rows()).map_err(self.internal())?;
        let largest = encoded.iter().map(|state| state.len() as u64).max().unwrap_or(0);
        if let Some((limit, seen)) = updating.state_bounds.of_key(largest) {
            return Ok(Some(CallError::LimitExceeded { site: self.site(n_rows), limit, seen }));
        }
        match (&mut self.letters, turn.row_numbers(&range)) {
            (Some(letters), Some((rows, order))) => letters.add_rejections(rows, order, &output.rejected)?,
            _ => self.caller.rejected(&output.rejected),
        }
        self.take_changes(numbers, &output, &encoded);
        let rows = with_keys(&keys, &output.group, &output.rows, &updating.output).map_err(self.internal())?;
        emit_in_chunks(&rows, emit)?;
        Ok(None)
    }

    fn take_changes(&mut self, numbers: &[usize], output: &UpdaterOutput, encoded: &EncodedRows) {
        for (index, &number) in numbers.iter().enumerate() {
            let now = &mut self.called.keys[number].now;
            match output.changes[index] {
                Change::Keep => {}
                Change::Put(row) => {
                    let timeout_us = now.as_ref().map_or(NEVER, |kept| kept.timeout_us);
                    *now = Some(Kept { timeout_us, state: encoded.row(row as usize).to_vec() });
                }
                Change::Remove => *now = None,
            }
            if let (Some(timeouts), Some(kept)) = (&output.timeouts, now) {
                match timeouts[index] {
                    TimeoutChange::Keep => {}
                    TimeoutChange::Clear => kept.timeout_us = NEVER,
                    TimeoutChange::Set(timeout_us) => kept.timeout_us = timeout_us,
                }
            }
        }
    }

    /// Writes down what has become of every key that was called, once.
    ///
    /// # Errors
    ///
    /// When the states would take more than they may; nothing is written then.
    fn write_changes(&mut self) -> Result<(), CallError> {
        let Some(mut state) = self.state.take() else { return Ok(()) };
        let mut n_bytes = state.table(STATES).n_bytes();
        for CalledKey { key, before, now } in &self.called.keys {
            if before == now {
                continue;
            }
            let timeout = |kept: &Option<Kept>| kept.as_ref().map(|kept| kept.timeout_us).filter(|time| *time != NEVER);
            let (old, new) = (timeout(before), timeout(now));
            if old != new {
                old.into_iter().for_each(|time| state.changes(TIMERS).remove(time, key));
                new.into_iter().for_each(|time| state.changes(TIMERS).put(time, key, &[]));
            }
            let taken = |kept: &Option<Kept>| kept.as_ref().map_or(0, |kept| (key.len() + kept.state.len()) as u64);
            n_bytes = n_bytes.saturating_add(taken(now)).saturating_sub(taken(before));
            match now {
                Some(kept) => {
                    let value = [&kept.timeout_us.to_le_bytes()[..], &kept.state].concat();
                    state.changes(STATES).put(0, key, &value);
                }
                None => state.changes(STATES).remove(0, key),
            }
        }
        let partition = self.task.stage_partition.index();
        if let Some((limit, seen)) = self.updating.state_bounds.of_step(partition, n_bytes) {
            return Err(CallError::LimitExceeded { site: self.site(self.called.keys.len()), limit, seen });
        }
        state.finish();
        Ok(())
    }
}
