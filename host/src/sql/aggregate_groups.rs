//! All groups of a query for a plugin of role aggregator, many in one call.
//!
//! ```text
//!  rows of a push, by group ── accumulate ──▶ pending: an accumulator for each group of the push
//!  pending, when it has grown, by group ── merge ──▶ one accumulator for each group
//!  at the end ── merge, finish ──▶ one result for each group; null for a group without rows
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, concat_batches, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::aggregate_function::{Calling, Opened};
use crate::step::chunks::batch_bytes;

/// Accumulators wait until they are this many times as many as there are groups: each is merged a few times at most.
const PENDING_SHARE: usize = 2;

/// Fewer accumulators than this are not worth a call.
const PENDING_MIN: usize = 8192;

/// The groups at work.
pub(super) struct Groups {
    opened: Arc<Opened>,
    /// Accumulators, and the group of each.
    pending: Vec<(RecordBatch, Vec<u32>)>,
    n_pending: usize,
    n_groups: usize,
}

/// Rows in the order of their groups.
struct Sorted {
    rows: RecordBatch,
    /// The group of each row.
    groups: Vec<u32>,
}

impl Sorted {
    fn new(rows: &RecordBatch, groups: &[u32]) -> Result<Self> {
        if groups.is_sorted() {
            return Ok(Self { rows: rows.clone(), groups: groups.to_vec() });
        }
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        // Stable: rows of a group stay in their order.
        order.sort_by_key(|&row| groups[row as usize]);
        let groups = order.iter().map(|&row| groups[row as usize]).collect();
        Ok(Self { rows: take_record_batch(rows, &UInt32Array::from(order))?, groups })
    }

    /// Parts of at most as many rows, and where the groups of each end. They are cut between groups where that is possible: only
    /// a group that is larger comes in several parts, and it begins one.
    fn parts(&self, rows_max: usize) -> impl Iterator<Item = (RecordBatch, &[u32], Vec<u32>)> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let rest = self.groups.get(start..).filter(|rest| !rest.is_empty())?;
            let mut n_rows = rows_max.min(rest.len());
            if let Some(&next) = rest.get(n_rows) {
                let before = rest[..n_rows].partition_point(|&group| group < next);
                n_rows = if before == 0 { n_rows } else { before };
            }
            let groups = &rest[..n_rows];
            let ends = groups.chunk_by(|a, b| a == b).scan(0, |end, group| {
                *end += group.len() as u32;
                Some(*end)
            });
            let part = (self.rows.slice(start, n_rows), groups, ends.collect());
            start += n_rows;
            Some(part)
        })
    }
}

/// Each group once, in order.
fn once(groups: &[u32]) -> Vec<u32> {
    groups.chunk_by(|a, b| a == b).filter_map(|group| group.first().copied()).collect()
}

impl Groups {
    pub(super) fn new(opened: Arc<Opened>) -> Self {
        Self { opened, pending: Vec::new(), n_pending: 0, n_groups: 0 }
    }

    fn push(&mut self, accumulators: RecordBatch, groups: Vec<u32>) {
        self.n_pending += groups.len();
        self.pending.push((accumulators, groups));
    }

    /// Rows that one call may have: as many as its bounds say, and fewer where rows are large.
    fn rows_max(&self, rows: &RecordBatch) -> usize {
        let bounds = &self.opened.shared.bounds;
        let row_bytes = (batch_bytes(rows) / rows.num_rows().max(1) as u64).max(1);
        let fit = usize::try_from(bounds.bytes / row_bytes).unwrap_or(usize::MAX);
        fit.clamp(1, bounds.rows as usize)
    }

    fn accumulate(&mut self, rows: &RecordBatch, groups: &[u32]) -> Result<()> {
        let sorted = Sorted::new(&rows.project(&self.opened.plan.reads)?, groups)?;
        for (part, groups, ends) in sorted.parts(self.rows_max(&sorted.rows)) {
            let accumulators = self.opened.call(&Calling::Accumulate(ends), &part)?;
            self.push(accumulators, once(groups));
        }
        if self.n_pending > PENDING_MIN.max(self.n_groups.saturating_mul(PENDING_SHARE)) {
            let merged = self.merged()?;
            self.push(merged.rows, merged.groups);
        }
        Ok(())
    }

    /// What waits, as one accumulator for each group; nothing waits then.
    fn merged(&mut self) -> Result<Sorted> {
        let pending = std::mem::take(&mut self.pending);
        self.n_pending = 0;
        let accumulators = concat_batches(&self.opened.plan.accumulator, pending.iter().map(|(rows, _)| rows))?;
        let groups: Vec<u32> = pending.iter().flat_map(|(_, groups)| groups).copied().collect();
        let mut sorted = Sorted::new(&accumulators, &groups)?;
        // A group that was cut in two gives two accumulators: they are merged in the next round.
        while sorted.groups.windows(2).any(|pair| pair[0] == pair[1]) {
            let (mut merged, mut groups) = (Vec::new(), Vec::new());
            // At least two, or nothing would come of it.
            for (part, of, ends) in sorted.parts(self.rows_max(&sorted.rows).max(2)) {
                merged.push(self.opened.call(&Calling::Merge(ends), &part)?);
                groups.extend(once(of));
            }
            sorted = Sorted { rows: concat_batches(&self.opened.plan.accumulator, &merged)?, groups };
        }
        Ok(sorted)
    }

    /// The accumulators of the groups that are asked for, and for each of these groups the row of its own; the rest waits on.
    fn emitted(&mut self, emit: EmitTo) -> Result<(RecordBatch, Vec<Option<u32>>)> {
        let Sorted { rows, groups } = self.merged()?;
        let n_emitted = match emit {
            EmitTo::All => self.n_groups,
            EmitTo::First(n) => n.min(self.n_groups),
        };
        self.n_groups -= n_emitted;
        let n_rows = groups.partition_point(|&group| (group as usize) < n_emitted);
        let (first, rest) = groups.split_at(n_rows);
        if !rest.is_empty() {
            let rest = rest.iter().map(|group| group - n_emitted as u32).collect();
            self.push(rows.slice(n_rows, rows.num_rows() - n_rows), rest);
        }
        let mut places = vec![None; n_emitted];
        (0..).zip(first).for_each(|(row, &group)| places[group as usize] = Some(row));
        Ok((rows.slice(0, n_rows), places))
    }

    fn results(&self, accumulators: &RecordBatch) -> Result<ArrayRef> {
        let rows_max = self.rows_max(accumulators);
        let starts = (0..accumulators.num_rows()).step_by(rows_max);
        let results = starts.map(|start| {
            let part = accumulators.slice(start, rows_max.min(accumulators.num_rows() - start));
            Ok(self.opened.call(&Calling::Finish, &part)?.column(0).clone())
        });
        let results = results.collect::<Result<Vec<ArrayRef>>>()?;
        match results.as_slice() {
            [] => Ok(arrow::array::new_empty_array(self.opened.result.data_type())),
            several => Ok(concat(&several.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?),
        }
    }
}

/// The rows that a filter lets through, and their groups.
fn filtered(rows: RecordBatch, groups: &[usize], filter: Option<&BooleanArray>) -> Result<(RecordBatch, Vec<u32>)> {
    let passes = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
    let groups = (0..).zip(groups).filter(|(row, _)| passes(*row)).map(|(_, &group)| group as u32).collect();
    match filter {
        Some(filter) => Ok((arrow::compute::filter_record_batch(&rows, filter)?, groups)),
        None => Ok((rows, groups)),
    }
}

/// The columns of a state: whether a group has an accumulator, and its columns.
fn state_of(schema: &SchemaRef, accumulators: &RecordBatch, places: Vec<Option<u32>>) -> Result<Vec<ArrayRef>> {
    let filled: BooleanArray = places.iter().map(|place| Some(place.is_some())).collect();
    let places = UInt32Array::from(places);
    let mut state: Vec<ArrayRef> = vec![Arc::new(filled)];
    for column in 0..schema.fields().len() {
        state.push(take(accumulators.column(column), &places, None)?);
    }
    Ok(state)
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
    ) -> Result<()> {
        self.n_groups = n_groups;
        let (rows, groups) = filtered(self.opened.rows(values, groups.len())?, groups, filter)?;
        if groups.is_empty() { Ok(()) } else { self.accumulate(&rows, &groups) }
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (accumulators, places) = self.emitted(emit)?;
        Ok(take(&self.results(&accumulators)?, &UInt32Array::from(places), None)?)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (accumulators, places) = self.emitted(emit)?;
        state_of(&self.opened.plan.accumulator, &accumulators, places)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], n_groups: usize) -> Result<()> {
        self.n_groups = n_groups;
        if let Some((accumulators, filled)) = self.opened.accumulators(states)? {
            let groups = groups.iter().zip(filled.values()).filter(|(_, filled)| *filled);
            let groups = groups.map(|(&group, _)| group as u32).collect();
            self.push(accumulators, groups);
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let n_rows = values.first().map_or(0, |column| column.len());
        // Each row is a group of its own.
        let mut each = Self::new(self.opened.clone());
        each.update_batch(values, &(0..n_rows).collect::<Vec<_>>(), filter, n_rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        let pending: u64 = self.pending.iter().map(|(rows, groups)| batch_bytes(rows) + 4 * groups.len() as u64).sum();
        size_of_val(self) + usize::try_from(pending).unwrap_or(usize::MAX)
    }
}
