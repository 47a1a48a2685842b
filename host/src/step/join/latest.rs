//! The join of a stream with the latest rows of another, which is a running table.
//!
//! ```text
//!  right rows ─▶ versions of their key: by arrival the last, by event time all that may still be asked for
//!  left rows  ─▶ by arrival: joined at once      by event time: wait until the clock has passed them,
//!                                                then joined with the largest version at or before their time
//! ```
//!
//! | table | slot | key | value |
//! | --- | --- | --- | --- |
//! | [`VERSIONS`] | 0 | join key | right rows by time; by arrival one, at the time of its batch |
//! | [`UPDATES`] | time of the last version | join key | nothing; only with a timeout |
//! | [`WAITING`] | time | join key | left rows; only by event time |
//!
//! The law: a left row is joined with what the right side has sent by the batch that gives it, right rows of that batch
//! included. By event time it is given in the first batch whose clock has passed its time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};

use super::JoinType;
use super::arrivals::{Arrival, Arrivals};
use super::bucket::{self, BUCKET_DAMAGED, Bucket, Entry, write_entry};
use super::columns::JoinColumns;
use super::pairs::Pairs;
use super::side_rows::{RowRef, SideRows};
use crate::error::Error;
use crate::event_time::{ClockId, Watermark, times_us};
use crate::metrics::{LateRows, StepMeter};
use crate::operator::StopFlag;
use crate::state::{EncodedRows, Placement, RowCodec, Slots, StateError, StateTask, StepState, TableLayout};
use crate::step::key_table::KeyTable;
use crate::step::keyed::internal;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The table of right rows.
const VERSIONS: usize = 0;
/// The table of when keys came last.
const UPDATES: usize = 1;
/// The table of left rows that wait.
const WAITING: usize = 2;

/// The slots that left rows wait in: the one that the clock stands in is gone through in every batch.
const WAITING_SLOT_US: i64 = 1_000_000;

/// A timeout is so many slots long, if they are not shorter than a second: a key is forgotten an eighth late at most. (It
/// is not joined with any more when its time is out.)
const SLOTS_PER_TIMEOUT: i64 = 8;

/// Bytes of state that are held while keys are joined: then what they gave is let go.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Joins with the latest rows.
pub(crate) struct Latest {
    pub(crate) columns: Arc<JoinColumns>,
    pub(crate) join_type: JoinType,
    /// The time columns of both sides; `None`: by arrival.
    pub(crate) times: Option<[usize; 2]>,
    pub(crate) timeout_us: Option<i64>,
    /// The clock of both sides together.
    pub(crate) clock: Option<ClockId>,
    pub(crate) state: Arc<StepState>,
    pub(crate) keys: Arc<RowCodec>,
    pub(crate) rows: [Arc<RowCodec>; 2],
    pub(crate) meter: Arc<StepMeter>,
    pub(crate) stop: StopFlag,
}

impl Latest {
    /// What its tables hold.
    pub(crate) fn layouts(keys: &Arc<RowCodec>, rows: &[Arc<RowCodec>; 2]) -> Vec<TableLayout> {
        let versions = bucket::layout(keys, &rows[1], Slots::One);
        let updates = TableLayout::hidden(Placement::Key(keys.clone()));
        vec![versions, updates, bucket::layout(keys, &rows[0], Slots::Numbers)]
    }

    fn timeout_slot_us(timeout_us: i64) -> i64 {
        (timeout_us / SLOTS_PER_TIMEOUT).max(1_000_000)
    }

    fn damaged(&self) -> StateError {
        StateError::Damaged { step: self.state.step().to_owned(), what: BUCKET_DAMAGED.into() }
    }
}

impl StepFactory for Arc<Latest> {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let side = |side: usize| SideRows::new(self.columns.sides[side].clone(), Some(self.rows[side].clone()));
        Ok(Box::new(Joining {
            join: self.clone(),
            clock: task.times.watermark(self.clock),
            late: task.late.clone(),
            batch_time_us: task.batch_time_us,
            state: Some(self.state.begin(task.stage_partition)?),
            sides: [side(0), side(1)],
            pairs: Pairs::new(self.columns.clone(), None, task, &self.stop),
            updated: HashMap::new(),
        }))
    }
}

struct Joining {
    join: Arc<Latest>,
    clock: Watermark,
    late: Arc<LateRows>,
    batch_time_us: i64,
    /// Taken when the step finishes.
    state: Option<StateTask>,
    sides: [SideRows; 2],
    pairs: Pairs,
    /// The versions of the keys that have new ones: what state had and what came, by the key's bytes.
    updated: HashMap<Vec<u8>, Vec<u8>>,
}

impl PipelineStep for Joining {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.push_side(0, rows, emit)
    }

    fn push_side(&mut self, side: usize, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        let rows = self.join.columns.plain_rows(side, rows).map_err(internal("reading joined rows"))?;
        self.sides[side].push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let Some(mut state) = self.state.take() else { return Ok(()) };
        let mut keys = KeyTable::new(&self.join.columns.key_types());
        let arrivals = [self.arrivals(0, &mut keys, emit)?, self.arrivals(1, &mut keys, emit)?];
        let [lefts, rights] = arrivals.map(|(all, groups)| Arrivals::new(all, &groups, keys.len()));
        let columns = keys.keys().map_err(internal("reading join keys"))?;
        let encoded = self.join.keys.encode_keys(&columns, keys.len()).map_err(internal("encoding join keys"))?;
        for group in 0..keys.len() {
            self.update(&mut state, encoded.row(group), &rights.of_key(group).collect::<Vec<_>>())?;
            if self.sides[1].kept_bytes() > KEPT_BYTES_MAX {
                self.let_go(emit)?;
            }
        }
        let mut border = self.end_waiting(&mut state, emit)?;
        self.join_lefts(&mut state, &encoded, &lefts, &mut border, emit)?;
        if let Some(slot) = self.border_slot() {
            for (key, value) in border {
                match value.is_empty() {
                    true => state.changes(WAITING).remove(slot, &key),
                    false => state.changes(WAITING).put(slot, &key, &value),
                }
            }
        }
        self.forget(&mut state)?;
        self.pairs.flush(&self.sides, emit)?;
        state.finish();
        Ok(())
    }
}

impl Joining {
    /// The rows of a side that take part, and the group of each. Left rows without a key or a time have had their say.
    fn arrivals(
        &mut self,
        side: usize,
        keys: &mut KeyTable,
        emit: &mut Emit<'_>,
    ) -> Result<(Vec<Arrival>, Vec<u32>), Error> {
        let join = self.join.clone();
        let gives_alone = join.join_type.gives_unmatched(side);
        let (mut all, mut of_all) = (Vec::new(), Vec::new());
        let mut groups = Vec::new();
        for batch in 0..self.sides[side].batches().len() {
            let rows = self.sides[side].batches()[batch].clone();
            let times = match join.times {
                Some(columns) => Some(times_us(rows.column(columns[side])).map_err(internal("reading event times"))?),
                None => None,
            };
            let has_keys = join.columns.has_keys(side, &rows);
            keys.group_rows(&join.columns.keys_of(side, &rows), rows.num_rows(), &mut groups)
                .map_err(internal("grouping join keys"))?;
            let mut n_late = 0;
            for (index, &group) in groups.iter().enumerate() {
                let row = RowRef::New { batch: batch as u32, row: index as u32 };
                let time_us = match &times {
                    Some(times) => times.is_valid(index).then(|| times.value(index)),
                    None => Some(self.batch_time_us),
                };
                // A late version counts for rows to come; a late left row has missed what it asks for.
                let is_late = |time_us: i64| times.is_some() && self.clock.is_late(time_us.saturating_add(1));
                if side == 0 && time_us.is_some_and(is_late) {
                    n_late += 1;
                    continue;
                }
                let has_key = has_keys.as_ref().is_none_or(|has_keys| has_keys.is_valid(index));
                match time_us.filter(|_| has_key) {
                    Some(time_us) => {
                        all.push(Arrival { time_us, row });
                        of_all.push(group);
                    }
                    None if gives_alone => self.pairs.push_alone(&self.sides, side, row, 0, emit)?,
                    None => {}
                }
            }
            self.late.add(&join.meter, n_late);
        }
        Ok((all, of_all))
    }

    /// Takes in the new versions of a key.
    fn update(&mut self, state: &mut StateTask, key: &[u8], rights: &[Arrival]) -> Result<(), Error> {
        let Some(last) = rights.last() else { return Ok(()) };
        let before = match state.table(VERSIONS).get(0, key)? {
            Some(value) => {
                let bucket = Bucket::load(0, value.into_owned(), &mut self.sides[1]);
                bucket.ok_or_else(|| self.join.damaged())?.entries
            }
            None => Vec::new(),
        };
        let updated_before = before.last().map(|version| version.time_us);
        let entry = |arrival: &Arrival| Entry { time_us: arrival.time_us, matched: false, row: arrival.row };
        let versions = match self.join.times {
            None => vec![entry(last)],
            Some(_) => {
                let mut versions = before;
                for arrival in rights {
                    let place = versions.partition_point(|version| version.time_us <= arrival.time_us);
                    match place.checked_sub(1).map(|last| &mut versions[last]) {
                        // Of two at the same time the one that came later counts.
                        Some(same) if same.time_us == arrival.time_us => *same = entry(arrival),
                        _ => versions.insert(place, entry(arrival)),
                    }
                }
                versions
            }
        };
        // Left rows to come, and those that still wait when this batch has ended, ask for what is at the clock or after.
        let n_passed = match (self.join.times, self.clock.now_us) {
            (Some(_), Some(now_us)) => versions.partition_point(|version| version.time_us <= now_us).saturating_sub(1),
            _ => 0,
        };
        let (mut all, mut kept) = (Vec::new(), Vec::new());
        for (index, version) in versions.iter().enumerate() {
            let row = self.sides[1].bytes(version.row).map_err(internal("encoding joined rows"))?;
            write_entry(&mut all, version.time_us, false, row);
            if index >= n_passed {
                write_entry(&mut kept, version.time_us, false, row);
            }
        }
        let updated_us = versions.last().map_or(i64::MIN, |version| version.time_us);
        self.updated.insert(key.to_vec(), all);
        let Some(timeout_us) = self.join.timeout_us else {
            state.changes(VERSIONS).put(0, key, &kept);
            return Ok(());
        };
        let slot_of = |time_us: i64| time_us.div_euclid(Latest::timeout_slot_us(timeout_us));
        let slot = slot_of(updated_us);
        let is_forgotten = self.last_forgotten_slot().is_some_and(|last| slot <= last);
        match (is_forgotten, updated_before.is_some()) {
            (false, _) => state.changes(VERSIONS).put(0, key, &kept),
            (true, true) => state.changes(VERSIONS).remove(0, key),
            (true, false) => {}
        }
        let slot_before = updated_before.map(slot_of);
        if slot_before == Some(slot) {
            return Ok(());
        }
        if let Some(slot_before) = slot_before {
            state.changes(UPDATES).remove(slot_before, key);
        }
        if !is_forgotten {
            state.changes(UPDATES).put(slot, key, &[]);
        }
        Ok(())
    }

    /// The versions of a key, those of this batch included.
    fn versions(&mut self, state: &StateTask, key: &[u8]) -> Result<Vec<Entry>, Error> {
        let value = match self.updated.get(key) {
            Some(value) => Some(value.clone()),
            None => state.table(VERSIONS).get(0, key)?.map(|value| value.into_owned()),
        };
        let Some(value) = value else { return Ok(Vec::new()) };
        let bucket = Bucket::load(0, value, &mut self.sides[1]);
        Ok(bucket.ok_or_else(|| self.join.damaged())?.entries)
    }

    /// Joins a left row with the version that counts at its time.
    fn give(&mut self, left: Arrival, versions: &[Entry], emit: &mut Emit<'_>) -> Result<(), Error> {
        let n_before = versions.partition_point(|version| version.time_us <= left.time_us);
        let version = n_before.checked_sub(1).map(|last| versions[last]);
        let timeout_us = self.join.timeout_us;
        let is_fresh = |version: &Entry| {
            let age = i128::from(left.time_us) - i128::from(version.time_us);
            timeout_us.is_none_or(|timeout_us| age < i128::from(timeout_us))
        };
        match version.filter(is_fresh) {
            Some(version) => self.pairs.push(&self.sides, [left.row, version.row], 0, emit),
            None if self.join.join_type.gives_unmatched(0) => self.pairs.push_alone(&self.sides, 0, left.row, 0, emit),
            None => Ok(()),
        }
    }

    /// The slot of waiting rows that the clock stands in.
    fn border_slot(&self) -> Option<i64> {
        self.join.times?;
        self.clock.now_us.map(|now_us| now_us.div_euclid(WAITING_SLOT_US))
    }

    /// Whether the clock has passed a time.
    fn is_passed(&self, time_us: i64) -> bool {
        self.clock.now_us.is_some_and(|now_us| now_us == i64::MAX || time_us < now_us)
    }

    /// Joins the rows that have waited long enough. What is left of buckets in the slot that the clock stands in.
    fn end_waiting(&mut self, state: &mut StateTask, emit: &mut Emit<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut border = BTreeMap::new();
        let Some(border_slot) = self.border_slot() else { return Ok(border) };
        if state.table(WAITING).first_slot()?.is_none_or(|first| first > border_slot) {
            return Ok(border);
        }
        let mut failure = None;
        let lent = &*state;
        lent.table(WAITING).scan(i64::MIN..=border_slot, &mut |slot, key, value| {
            match self.end_bucket(lent, key, value, emit) {
                Ok(Some(rest)) if slot == border_slot => _ = border.insert(key.to_vec(), rest),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
            Ok(failure.is_none())
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some(last) = border_slot.checked_sub(1) {
            state.changes(WAITING).drop_slots(i64::MIN..=last);
        }
        Ok(border)
    }

    /// Joins the rows of a bucket that have waited long enough; the bucket without them, if there were any.
    fn end_bucket(
        &mut self,
        state: &StateTask,
        key: &[u8],
        value: &[u8],
        emit: &mut Emit<'_>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let bucket = Bucket::load(0, value.to_vec(), &mut self.sides[0]).ok_or_else(|| self.join.damaged())?;
        if !bucket.entries.iter().any(|entry| self.is_passed(entry.time_us)) {
            return Ok(None);
        }
        let versions = self.versions(state, key)?;
        let mut rest = Vec::new();
        for entry in bucket.entries {
            if self.is_passed(entry.time_us) {
                self.give(Arrival { time_us: entry.time_us, row: entry.row }, &versions, emit)?;
            } else {
                let row = self.sides[0].bytes(entry.row).map_err(internal("encoding joined rows"))?;
                write_entry(&mut rest, entry.time_us, false, row);
            }
        }
        if self.sides.iter().map(SideRows::kept_bytes).sum::<usize>() > KEPT_BYTES_MAX {
            self.let_go(emit)?;
        }
        Ok(Some(rest))
    }

    /// Joins the left rows of the batch, or lets them wait.
    fn join_lefts(
        &mut self,
        state: &mut StateTask,
        keys: &EncodedRows,
        lefts: &Arrivals,
        border: &mut BTreeMap<Vec<u8>, Vec<u8>>,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        let border_slot = self.border_slot();
        for group in 0..keys.len() {
            let arrivals: Vec<Arrival> = lefts.of_key(group).collect();
            if arrivals.is_empty() {
                continue;
            }
            let key = keys.row(group);
            let waits =
                |joining: &Self, arrival: &Arrival| joining.join.times.is_some() && !joining.is_passed(arrival.time_us);
            if arrivals.iter().any(|arrival| !waits(self, arrival)) {
                let versions = self.versions(state, key)?;
                for &arrival in arrivals.iter().filter(|arrival| !waits(self, arrival)).collect::<Vec<_>>() {
                    self.give(arrival, &versions, emit)?;
                }
            }
            let mut waiting: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
            for arrival in arrivals.iter().filter(|arrival| waits(self, arrival)).copied().collect::<Vec<_>>() {
                let slot = arrival.time_us.div_euclid(WAITING_SLOT_US);
                let value = match waiting.entry(slot) {
                    std::collections::btree_map::Entry::Occupied(value) => value.into_mut(),
                    std::collections::btree_map::Entry::Vacant(place) => {
                        let rest = if Some(slot) == border_slot { border.remove(key) } else { None };
                        place.insert(match rest {
                            Some(rest) => rest,
                            None => {
                                state.table(WAITING).get(slot, key)?.map_or_else(Vec::new, |value| value.into_owned())
                            }
                        })
                    }
                };
                let row = self.sides[0].bytes(arrival.row).map_err(internal("encoding joined rows"))?;
                write_entry(value, arrival.time_us, false, row);
            }
            for (slot, value) in waiting {
                state.changes(WAITING).put(slot, key, &value);
            }
            if self.sides.iter().map(SideRows::kept_bytes).sum::<usize>() > KEPT_BYTES_MAX {
                self.let_go(emit)?;
            }
        }
        Ok(())
    }

    /// The last slot of updates whose keys nothing can ask for any more.
    fn last_forgotten_slot(&self) -> Option<i64> {
        let timeout_us = self.join.timeout_us?;
        let now_us = match self.join.times {
            Some(_) => self.clock.now_us?,
            None => self.batch_time_us,
        };
        let slot_us = Latest::timeout_slot_us(timeout_us);
        let last = (i128::from(now_us) - i128::from(timeout_us)).div_euclid(slot_us.into()) - 1;
        i64::try_from(last).ok()
    }

    /// Forgets keys that have not come for too long.
    fn forget(&mut self, state: &mut StateTask) -> Result<(), Error> {
        let Some(last) = self.last_forgotten_slot() else { return Ok(()) };
        if state.table(UPDATES).first_slot()?.is_none_or(|first| first > last) {
            return Ok(());
        }
        let mut forgotten = Vec::new();
        state.table(UPDATES).scan(i64::MIN..=last, &mut |_, key, _| {
            if !self.updated.contains_key(key) {
                forgotten.push(key.to_vec());
            }
            Ok(true)
        })?;
        forgotten.iter().for_each(|key| state.changes(VERSIONS).remove(0, key));
        state.changes(UPDATES).drop_slots(i64::MIN..=last);
        Ok(())
    }

    /// Gives what was joined so far, so that what was loaded of state for it can go.
    fn let_go(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.pairs.flush(&self.sides, emit)?;
        self.sides.iter_mut().for_each(SideRows::unload);
        Ok(())
    }
}
