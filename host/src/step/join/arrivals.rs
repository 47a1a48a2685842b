//! The rows of a batch that take part in a join, key by key.

use super::side_rows::RowRef;
use crate::shuffle::sort_by_group;

/// A row of the batch that takes part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Its time, or the start of one of its windows; in a join by arrival that of the batch.
    pub(super) time_us: i64,
    pub(super) row: RowRef,
}

/// The rows of one side.
pub(super) struct Arrivals {
    all: Vec<Arrival>,
    /// The rows, group by group, each in the order of arrival.
    order: Vec<u32>,
    /// Where each group ends in that order.
    ends: Vec<u32>,
}

impl Arrivals {
    /// Of rows that are each in a group of `n_groups`.
    pub(super) fn new(all: Vec<Arrival>, groups: &[u32], n_groups: usize) -> Self {
        let (order, ends) = sort_by_group(groups, n_groups);
        Self { all, order, ends }
    }

    /// The rows of a group.
    pub(super) fn of_key(&self, group: usize) -> impl Iterator<Item = Arrival> + Clone {
        let start = if group == 0 { 0 } else { self.ends[group - 1] };
        self.order[start as usize..self.ends[group] as usize].iter().map(|&index| self.all[index as usize])
    }
}
