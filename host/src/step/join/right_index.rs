//! Right rows by their key: what left rows are looked up in.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::columns::JoinColumns;
use super::side_rows::RowRef;
use crate::shuffle::sort_by_group;
use crate::step::key_table::KeyTable;

/// An index of right rows by key. Never changed once it is made: tasks share one.
pub(crate) struct RightIndex {
    keys: KeyTable,
    /// The group of each row of each batch; [`NO_KEY`] for a row with a null key.
    groups: Vec<Vec<u32>>,
    /// The rows, group by group, in the order in which they came.
    rows: Vec<RowRef>,
    /// Where each group ends.
    ends: Vec<u32>,
}

/// The group of a row that matches nothing.
const NO_KEY: u32 = u32::MAX;

impl RightIndex {
    /// An index of these rows, whose columns are those of the right side.
    pub(crate) fn new(columns: &JoinColumns, batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let mut keys = KeyTable::new(&columns.key_types());
        let mut groups = Vec::with_capacity(batches.len());
        for rows in batches {
            let mut of_rows = Vec::new();
            keys.group_rows(&columns.keys_of(1, rows), rows.num_rows(), &mut of_rows)?;
            if let Some(has_keys) = columns.has_keys(1, rows) {
                of_rows.iter_mut().zip(&has_keys).filter(|(_, has)| !has).for_each(|(group, _)| *group = NO_KEY);
            }
            groups.push(of_rows);
        }
        // Rows without a key come last, behind every group.
        let n_groups = keys.len();
        let all: Vec<u32> = groups.iter().flatten().map(|&group| group.min(n_groups as u32)).collect();
        let (order, mut ends) = sort_by_group(&all, n_groups + 1);
        ends.truncate(n_groups);
        let refs: Vec<RowRef> = groups
            .iter()
            .enumerate()
            .flat_map(|(batch, groups)| {
                (0..groups.len()).map(move |row| RowRef::New { batch: batch as u32, row: row as u32 })
            })
            .collect();
        let rows = order.into_iter().map(|row| refs[row as usize]).collect();
        Ok(Self { keys, groups, rows, ends })
    }

    /// How many groups there are.
    pub(crate) fn n_groups(&self) -> usize {
        self.ends.len()
    }

    /// The group of a row of a batch; `None`: it has a null key.
    pub(crate) fn group_of(&self, batch: usize, row: usize) -> Option<u32> {
        Some(self.groups[batch][row]).filter(|&group| group != NO_KEY)
    }

    /// The rows of a group.
    pub(crate) fn rows_of(&self, group: u32) -> &[RowRef] {
        let group = group as usize;
        let start = if group == 0 { 0 } else { self.ends[group - 1] };
        &self.rows[start as usize..self.ends[group] as usize]
    }

    /// For every left row the group that it matches, if it matches any.
    pub(crate) fn find(&self, columns: &JoinColumns, left: &RecordBatch) -> Result<Vec<Option<u32>>, ArrowError> {
        let mut groups = Vec::new();
        self.keys.find_rows(&columns.keys_of(0, left), left.num_rows(), &mut groups)?;
        if let Some(has_keys) = columns.has_keys(0, left) {
            groups.iter_mut().zip(&has_keys).filter(|(_, has)| !has).for_each(|(group, _)| *group = None);
        }
        Ok(groups)
    }

    /// About the bytes that it takes, besides the rows.
    pub(crate) fn bytes(&self) -> usize {
        let per_row = size_of::<u32>() + size_of::<RowRef>();
        self.keys.bytes() + self.rows.len() * per_row + self.ends.len() * size_of::<u32>()
    }
}
