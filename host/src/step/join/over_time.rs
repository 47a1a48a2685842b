//! The join of two streams over event time: rows wait in state for those of the other side.
//!
//! ```text
//!  left rows of the batch  ─┐ by key   ┌─ right rows in state, of the slots in reach ─▶ pairs
//!  right rows of the batch ─┴─────────▶└─ left rows in state, of the slots in reach  ─▶ pairs
//!                                 │
//!                                 └─▶ state: a table a side, slot = time, key = join key, value = rows ── slots that
//!                                     the clock has passed are dropped; rows that matched nothing are given then
//! ```
//!
//! The law: over a whole job, what comes out is the join of all rows that were not late, each pair and each row without a
//! match once. A row is late when its time (its window's end) was passed by the clock of both sides in the batch before.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};

use super::JoinType;
use super::arrivals::{Arrival, Arrivals};
use super::bucket::{BUCKET_DAMAGED, Bucket, Entry, write_entry};
use super::columns::JoinColumns;
use super::pairs::Pairs;
use super::reach::Reach;
use super::side_rows::{RowRef, SideRows};
use crate::error::Error;
use crate::event_time::{ClockId, Watermark, times_us};
use crate::metrics::{LateRows, StepMeter};
use crate::operator::StopFlag;
use crate::state::{RowCodec, StateError, StateTask, StepState};
use crate::step::key_table::KeyTable;
use crate::step::keyed::internal;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Bytes of state that are held while keys are joined: then what they gave is let go.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Joins over event time.
pub(crate) struct OverTime {
    pub(crate) columns: Arc<JoinColumns>,
    pub(crate) join_type: JoinType,
    pub(crate) reach: Reach,
    /// The time columns of both sides.
    pub(crate) times: [usize; 2],
    /// The clock of both sides together.
    pub(crate) clock: Option<ClockId>,
    /// Table 0: left rows, table 1: right rows.
    pub(crate) state: Arc<StepState>,
    pub(crate) keys: Arc<RowCodec>,
    pub(crate) rows: [Arc<RowCodec>; 2],
    pub(crate) meter: Arc<StepMeter>,
    pub(crate) stop: StopFlag,
}

impl StepFactory for Arc<OverTime> {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let window_us = match self.reach {
            Reach::Interval { .. } => None,
            Reach::Window { size_us, .. } => Some(size_us),
        };
        let side = |side: usize| SideRows::new(self.columns.sides[side].clone(), Some(self.rows[side].clone()));
        Ok(Box::new(Joining {
            join: self.clone(),
            clock: task.times.watermark(self.clock),
            late: task.late.clone(),
            state: Some(self.state.begin(task.stage_partition)?),
            sides: [side(0), side(1)],
            pairs: Pairs::new(self.columns.clone(), window_us, task, &self.stop),
            done: [HashSet::new(), HashSet::new()],
        }))
    }
}

struct Joining {
    join: Arc<OverTime>,
    clock: Watermark,
    late: Arc<LateRows>,
    /// Taken when the step finishes.
    state: Option<StateTask>,
    sides: [SideRows; 2],
    pairs: Pairs,
    /// Buckets of slots that are complete whose rows have had their say in this batch.
    done: [HashSet<(i64, Vec<u8>)>; 2],
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
        let arrivals = arrivals.map(|(all, groups)| Arrivals::new(all, &groups, keys.len()));
        let columns = keys.keys().map_err(internal("reading join keys"))?;
        let encoded = self.join.keys.encode_keys(&columns, keys.len()).map_err(internal("encoding join keys"))?;
        for group in 0..keys.len() {
            self.join_key(&mut state, encoded.row(group), &arrivals, group, emit)?;
            if self.sides.iter().map(SideRows::kept_bytes).sum::<usize>() > KEPT_BYTES_MAX {
                self.let_go(emit)?;
            }
        }
        for side in 0..2 {
            self.forget(&mut state, side, emit)?;
        }
        self.pairs.flush(&self.sides, emit)?;
        state.finish();
        Ok(())
    }
}

impl Joining {
    /// The rows of a side that take part, and the group of each. Those without a key or a time have had their say.
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
            let times = times_us(rows.column(join.times[side])).map_err(internal("reading event times"))?;
            let has_keys = join.columns.has_keys(side, &rows);
            keys.group_rows(&join.columns.keys_of(side, &rows), rows.num_rows(), &mut groups)
                .map_err(internal("grouping join keys"))?;
            let mut n_late = 0;
            for (index, &group) in groups.iter().enumerate() {
                let row = RowRef::New { batch: batch as u32, row: index as u32 };
                if times.is_null(index) {
                    // It is in no window; but in a join without windows it is a row as others, that nothing matches.
                    if gives_alone && matches!(join.reach, Reach::Interval { .. }) {
                        self.pairs.push_alone(&self.sides, side, row, 0, emit)?;
                    }
                    continue;
                }
                let has_key = has_keys.as_ref().is_none_or(|has_keys| has_keys.is_valid(index));
                // A row is late when all of its windows are.
                let (mut is_late, mut takes_part) = (false, false);
                for time_us in join.reach.times_of(times.value(index)) {
                    if join.reach.is_late(time_us, self.clock) {
                        is_late = true;
                        continue;
                    }
                    takes_part = true;
                    if has_key {
                        all.push(Arrival { time_us, row });
                        of_all.push(group);
                    } else if gives_alone {
                        self.pairs.push_alone(&self.sides, side, row, time_us, emit)?;
                    }
                }
                n_late += u64::from(is_late && !takes_part);
            }
            self.late.add(&join.meter, n_late);
        }
        Ok((all, of_all))
    }

    /// Joins the rows of one key: those of the batch with each other and with what state has in reach.
    fn join_key(
        &mut self,
        state: &mut StateTask,
        key: &[u8],
        arrivals: &[Arrivals; 2],
        group: usize,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        let join = self.join.clone();
        let (reach, join_type) = (join.reach, join.join_type);
        let mut slots = [Vec::new(), Vec::new()];
        for side in 0..2 {
            for arrival in arrivals[side].of_key(group) {
                slots[side].push(reach.slot_of(arrival.time_us));
                slots[1 - side].extend(reach.slots_of_matches(side, arrival.time_us));
            }
        }
        if slots[0].is_empty() {
            return Ok(());
        }
        let [left_slots, right_slots] = slots;
        let mut lefts = self.load(state, 0, key, left_slots)?;
        let mut rights = self.load(state, 1, key, right_slots)?;

        // Right rows of the batch meet left rows of state; then left rows of the batch meet every right row.
        for arrival in arrivals[1].of_key(group) {
            let mut matched = false;
            for bucket in in_reach(&mut lefts, reach.slots_of_matches(1, arrival.time_us)) {
                for index in 0..bucket.n_kept {
                    let left = bucket.entries[index];
                    if !reach.matches(left.time_us, arrival.time_us) {
                        continue;
                    }
                    matched = true;
                    if join_type.gives_pairs() {
                        self.pairs.push(&self.sides, [left.row, arrival.row], left.time_us, emit)?;
                    } else if join_type == JoinType::Semi && !left.matched {
                        self.pairs.push_alone(&self.sides, 0, left.row, left.time_us, emit)?;
                    }
                    bucket.changed |= !left.matched;
                    bucket.entries[index].matched = true;
                }
            }
            let slot = reach.slot_of(arrival.time_us);
            if let Ok(bucket) = rights.binary_search_by_key(&slot, |bucket| bucket.slot) {
                rights[bucket].entries.push(Entry { time_us: arrival.time_us, matched, row: arrival.row });
            }
        }
        for arrival in arrivals[0].of_key(group) {
            let mut matched = false;
            'matches: for bucket in in_reach(&mut rights, reach.slots_of_matches(0, arrival.time_us)) {
                for index in 0..bucket.entries.len() {
                    let right = bucket.entries[index];
                    if !reach.matches(arrival.time_us, right.time_us) {
                        continue;
                    }
                    if join_type == JoinType::Semi && !matched {
                        self.pairs.push_alone(&self.sides, 0, arrival.row, arrival.time_us, emit)?;
                    }
                    matched = true;
                    if join_type.ends_with_first_match() {
                        break 'matches;
                    }
                    self.pairs.push(&self.sides, [arrival.row, right.row], arrival.time_us, emit)?;
                    bucket.changed |= !right.matched;
                    bucket.entries[index].matched = true;
                }
            }
            let slot = reach.slot_of(arrival.time_us);
            if let Ok(bucket) = lefts.binary_search_by_key(&slot, |bucket| bucket.slot) {
                lefts[bucket].entries.push(Entry { time_us: arrival.time_us, matched, row: arrival.row });
            }
        }
        for (side, buckets) in [lefts, rights].into_iter().enumerate() {
            for bucket in buckets {
                self.write(state, side, key, bucket, emit)?;
            }
        }
        Ok(())
    }

    /// The buckets of a key in these slots, in their order.
    fn load(
        &mut self,
        state: &StateTask,
        side: usize,
        key: &[u8],
        mut slots: Vec<i64>,
    ) -> Result<Vec<Bucket>, StateError> {
        slots.sort_unstable();
        slots.dedup();
        let table = state.table(side);
        let buckets = slots.into_iter().map(|slot| match table.get(slot, key)? {
            None => Ok(Bucket::empty(slot)),
            Some(value) => {
                let bucket = Bucket::load(slot, value.into_owned(), &mut self.sides[side]);
                bucket.ok_or_else(|| self.join.damaged())
            }
        });
        buckets.collect()
    }

    /// Writes a bucket back, or gives what matched nothing when its slot is complete.
    fn write(
        &mut self,
        state: &mut StateTask,
        side: usize,
        key: &[u8],
        bucket: Bucket,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        let join_type = self.join.join_type;
        if self.join.reach.last_complete_slot(side, self.clock).is_some_and(|last| bucket.slot <= last) {
            for entry in bucket.entries.iter().filter(|entry| !entry.matched) {
                if join_type.gives_unmatched(side) {
                    self.pairs.push_alone(&self.sides, side, entry.row, entry.time_us, emit)?;
                }
            }
            if bucket.n_kept > 0 {
                self.done[side].insert((bucket.slot, key.to_vec()));
            }
            return Ok(());
        }
        // Whether a row has matched counts for rows that would be given alone, and for those that have had their say.
        let matches_count = join_type.gives_unmatched(side) || side == 0 && join_type.ends_with_first_match();
        if bucket.entries.len() == bucket.n_kept && !(bucket.changed && matches_count) {
            return Ok(());
        }
        let mut value = Vec::new();
        for entry in &bucket.entries {
            if side == 0 && join_type.ends_with_first_match() && entry.matched {
                continue;
            }
            let row = self.sides[side].bytes(entry.row).map_err(internal("encoding joined rows"))?;
            write_entry(&mut value, entry.time_us, entry.matched && matches_count, row);
        }
        match (value.is_empty(), bucket.n_kept > 0) {
            (false, _) => state.changes(side).put(bucket.slot, key, &value),
            (true, true) => state.changes(side).remove(bucket.slot, key),
            (true, false) => {}
        }
        Ok(())
    }

    /// Drops the slots that are complete, and gives the rows in them that matched nothing.
    fn forget(&mut self, state: &mut StateTask, side: usize, emit: &mut Emit<'_>) -> Result<(), Error> {
        let Some(last) = self.join.reach.last_complete_slot(side, self.clock) else { return Ok(()) };
        if state.table(side).first_slot()?.is_none_or(|first| first > last) {
            return Ok(());
        }
        if self.join.join_type.gives_unmatched(side) {
            self.let_go(emit)?;
            let mut failure = None;
            let table = state.table(side);
            table.scan(i64::MIN..=last, &mut |slot, key, value| {
                if !self.done[side].is_empty() && self.done[side].contains(&(slot, key.to_vec())) {
                    return Ok(true);
                }
                let bucket = Bucket::load(slot, value.to_vec(), &mut self.sides[side]);
                let bucket = bucket.ok_or_else(|| self.join.damaged())?;
                failure = self.give_unmatched(side, &bucket.entries, emit).err();
                Ok(failure.is_none())
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
        }
        state.changes(side).drop_slots(i64::MIN..=last);
        Ok(())
    }

    fn give_unmatched(&mut self, side: usize, entries: &[Entry], emit: &mut Emit<'_>) -> Result<(), Error> {
        for entry in entries.iter().filter(|entry| !entry.matched) {
            self.pairs.push_alone(&self.sides, side, entry.row, entry.time_us, emit)?;
        }
        if self.sides[side].kept_bytes() > KEPT_BYTES_MAX {
            self.let_go(emit)?;
        }
        Ok(())
    }

    /// Gives what was joined so far, so that what was loaded of state for it can go.
    fn let_go(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.pairs.flush(&self.sides, emit)?;
        self.sides.iter_mut().for_each(SideRows::unload);
        Ok(())
    }
}

impl OverTime {
    fn damaged(&self) -> StateError {
        StateError::Damaged { step: self.state.step().to_owned(), what: BUCKET_DAMAGED.into() }
    }
}

/// The buckets in a range of slots.
fn in_reach(buckets: &mut [Bucket], slots: std::ops::RangeInclusive<i64>) -> impl Iterator<Item = &mut Bucket> {
    let start = buckets.partition_point(|bucket| bucket.slot < *slots.start());
    buckets[start..].iter_mut().take_while(move |bucket| bucket.slot <= *slots.end())
}
