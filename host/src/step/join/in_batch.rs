//! The join of two streams, batch by batch: the rows of one batch, and nothing of those before it.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::JoinType;
use super::columns::JoinColumns;
use super::pairs::Pairs;
use super::right_index::RightIndex;
use super::side_rows::{RowRef, SideRows};
use crate::error::Error;
use crate::operator::StopFlag;
use crate::step::keyed::internal;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// Joins what a partition gets of one batch: left rows in their order, each with its matches in theirs, then right rows
/// that match nothing.
pub(crate) struct InBatch {
    pub(crate) columns: Arc<JoinColumns>,
    pub(crate) join_type: JoinType,
    pub(crate) stop: StopFlag,
}

impl StepFactory for InBatch {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let side = |side: usize| SideRows::new(self.columns.sides[side].clone(), None);
        Ok(Box::new(Joining {
            columns: self.columns.clone(),
            join_type: self.join_type,
            sides: [side(0), side(1)],
            pairs: Pairs::new(self.columns.clone(), None, task, &self.stop),
        }))
    }
}

struct Joining {
    columns: Arc<JoinColumns>,
    join_type: JoinType,
    sides: [SideRows; 2],
    pairs: Pairs,
}

impl PipelineStep for Joining {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.push_side(0, rows, emit)
    }

    fn push_side(&mut self, side: usize, rows: RecordBatch, _: &mut Emit<'_>) -> Result<(), Error> {
        let rows = self.columns.plain_rows(side, rows).map_err(internal("reading joined rows"))?;
        self.sides[side].push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let index = RightIndex::new(&self.columns, self.sides[1].batches()).map_err(internal("indexing right rows"))?;
        let mut matched = vec![false; if self.join_type.gives_unmatched(1) { index.n_groups() } else { 0 }];
        join_left(&self.columns, self.join_type, &index, &self.sides, &mut matched, &mut self.pairs, emit)?;
        if self.join_type.gives_unmatched(1) {
            let batches = self.sides[1].batches();
            for (batch, rows) in batches.iter().enumerate() {
                for row in 0..rows.num_rows() {
                    let group = index.group_of(batch, row);
                    if !group.is_some_and(|group| matched[group as usize]) {
                        let row = RowRef::New { batch: batch as u32, row: row as u32 };
                        self.pairs.push_alone(&self.sides, 1, row, 0, emit)?;
                    }
                }
            }
        }
        self.pairs.flush(&self.sides, emit)
    }
}

/// Joins every left row that came with an index of right rows. Notes in `matched`, unless it is empty, which keys had a
/// left row.
pub(crate) fn join_left(
    columns: &JoinColumns,
    join_type: JoinType,
    index: &RightIndex,
    sides: &[SideRows; 2],
    matched: &mut [bool],
    pairs: &mut Pairs,
    emit: &mut Emit<'_>,
) -> Result<(), Error> {
    for (batch, rows) in sides[0].batches().iter().enumerate() {
        let groups = index.find(columns, rows).map_err(internal("looking keys up"))?;
        for (row, group) in groups.into_iter().enumerate() {
            let left = RowRef::New { batch: batch as u32, row: row as u32 };
            match group {
                None if join_type.gives_unmatched(0) => pairs.push_alone(sides, 0, left, 0, emit)?,
                Some(_) if join_type == JoinType::Semi => pairs.push_alone(sides, 0, left, 0, emit)?,
                Some(group) if join_type.gives_pairs() => {
                    if let Some(matched) = matched.get_mut(group as usize) {
                        *matched = true;
                    }
                    for &right in index.rows_of(group) {
                        pairs.push(sides, [left, right], 0, emit)?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}
