//! `collect_list`, and what other aggregates that keep every value are made of.
//!
//! ```text
//!  (groups, values)   (groups, values)   (groups, values)     as they come; joined when two are of like size
//!          └───────────────────┴──────────────────┘
//!                     sorted by group ──▶ one list a group, its values in the order in which they came
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::accumulator::{Accumulator, NoResult, TooLarge};
use crate::shuffle::sort_by_group;

/// Bytes of one group's list. More would have to fit into one value of the output, and of a plugin's or a sink's memory:
/// it is what an instance of a plugin has in all.
pub(crate) const LIST_BYTES_MAX: usize = 64 << 20;

/// Bytes of all lists of one aggregate in one partition: half of what 32-bit offsets reach.
pub(crate) const LISTS_BYTES_MAX: usize = 1 << 30;

/// A list of such values; none of them is null.
pub(crate) fn list_type(value: DataType) -> DataType {
    DataType::List(Arc::new(item_field(value)))
}

fn item_field(value: DataType) -> Field {
    Field::new_list_field(value, true)
}

/// Makes a column of lists from where each ends.
pub(crate) struct ListBuilder {
    ends: Vec<usize>,
}

impl Default for ListBuilder {
    fn default() -> Self {
        Self { ends: vec![0] }
    }
}

impl ListBuilder {
    /// The next list ends before this value.
    pub(crate) fn end_at(&mut self, end: usize) {
        self.ends.push(end);
    }

    /// The column.
    pub(crate) fn finish(self, values: ArrayRef, nulls: Option<NullBuffer>) -> Result<ArrayRef, NoResult> {
        let n_values = values.len();
        i32::try_from(n_values).map_err(|_| ArrowError::OffsetOverflowError(n_values))?;
        // Offsets grow: when the last fits, all do.
        let offsets = OffsetBuffer::new(self.ends.into_iter().map(|end| end as i32).collect::<Vec<_>>().into());
        let field = Arc::new(item_field(values.data_type().clone()));
        Ok(Arc::new(ListArray::try_new(field, offsets, values, nulls)?))
    }
}

/// The rows that are not null, and their groups.
pub(crate) fn valid_rows(groups: &[u32], values: &ArrayRef) -> Result<(Vec<u32>, ArrayRef), NoResult> {
    match values.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        None => Ok((groups.to_vec(), values.clone())),
        Some(nulls) => {
            let rows: UInt32Array = nulls.valid_indices().map(|row| Some(row as u32)).collect();
            let groups = rows.values().iter().map(|&row| groups[row as usize]).collect();
            Ok((groups, take(values, &rows, None)?))
        }
    }
}

/// The values of lists, and for each the group of its list.
pub(crate) fn flatten(groups: &[u32], lists: &ArrayRef) -> (Vec<u32>, ArrayRef) {
    let lists = lists.as_list::<i32>();
    let offsets = lists.offsets();
    let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
    let mut flat = Vec::with_capacity(last - first);
    for (range, &group) in offsets.windows(2).zip(groups) {
        flat.resize(flat.len() + (range[1] - range[0]) as usize, group);
    }
    (flat, lists.values().slice(first, last - first))
}

/// Values as lists by group, in the order in which they came.
pub(crate) fn lists_of(groups: &[u32], values: &ArrayRef, n_groups: usize) -> Result<ArrayRef, NoResult> {
    let (order, ends) = sort_by_group(groups, n_groups);
    let values = if order.is_sorted() { values.clone() } else { take(values, &UInt32Array::from(order), None)? };
    if column_bytes(&values) > LIST_BYTES_MAX {
        let mut start = 0;
        for &end in &ends {
            if column_bytes(&values.slice(start, end as usize - start)) > LIST_BYTES_MAX {
                return Err(NoResult::TooLarge(TooLarge::Key));
            }
            start = end as usize;
        }
    }
    let mut lists = ListBuilder::default();
    ends.iter().for_each(|&end| lists.end_at(end as usize));
    lists.finish(values, None)
}

/// Bytes of the values themselves: of a slice, what it shows.
pub(crate) fn column_bytes(column: &ArrayRef) -> usize {
    let data = column.to_data();
    data.get_slice_memory_size().unwrap_or_else(|_| data.get_buffer_memory_size())
}

/// The values of all groups.
pub(crate) struct Values {
    data_type: DataType,
    pieces: Vec<(Vec<u32>, ArrayRef)>,
    bytes: usize,
    n_groups: usize,
}

impl Values {
    pub(crate) fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), pieces: Vec::new(), bytes: 0, n_groups: 0 }
    }

    pub(crate) fn list_type(&self) -> DataType {
        list_type(self.data_type.clone())
    }

    pub(crate) fn resize(&mut self, n_groups: usize) {
        self.n_groups = n_groups;
    }

    /// Adds values, and the group of each.
    pub(crate) fn push(&mut self, groups: Vec<u32>, values: ArrayRef) -> Result<(), NoResult> {
        if groups.is_empty() {
            return Ok(());
        }
        self.bytes += column_bytes(&values) + groups.len() * size_of::<u32>();
        if self.bytes > LISTS_BYTES_MAX {
            return Err(NoResult::TooLarge(TooLarge::Partition));
        }
        self.pieces.push((groups, values));
        // A value is joined once for each time its piece doubles.
        while let [.., (before, _), (last, _)] = &self.pieces[..]
            && before.len() <= 2 * last.len()
        {
            self.join_last(2)?;
        }
        Ok(())
    }

    fn join_last(&mut self, n_pieces: usize) -> Result<(), NoResult> {
        let pieces = self.pieces.split_off(self.pieces.len() - n_pieces);
        let values = concat(&pieces.iter().map(|(_, values)| values.as_ref()).collect::<Vec<_>>())?;
        let groups = pieces.into_iter().flat_map(|(groups, _)| groups).collect();
        self.pieces.push((groups, values));
        Ok(())
    }

    /// One list a group; what is left has no groups.
    pub(crate) fn take_lists(&mut self) -> Result<ArrayRef, NoResult> {
        if self.pieces.len() > 1 {
            self.join_last(self.pieces.len())?;
        }
        self.bytes = 0;
        let n_groups = std::mem::take(&mut self.n_groups);
        let (groups, values) =
            self.pieces.pop().unwrap_or_else(|| (Vec::new(), arrow::array::new_empty_array(&self.data_type)));
        lists_of(&groups, &values, n_groups)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// `collect_list`.
pub(crate) struct CollectList(Values);

impl CollectList {
    pub(crate) fn new(data_type: &DataType) -> Self {
        Self(Values::new(data_type))
    }
}

impl Accumulator for CollectList {
    fn partial_fields(&self) -> Vec<Field> {
        vec![Field::new("values", self.0.list_type(), false)]
    }

    fn result_type(&self) -> DataType {
        self.0.list_type()
    }

    fn result_is_nullable(&self) -> bool {
        false
    }

    fn resize(&mut self, n_groups: usize) {
        self.0.resize(n_groups);
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let (groups, values) = valid_rows(groups, &values[0])?;
        self.0.push(groups, values)
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        let (groups, values) = flatten(groups, &partials[0]);
        self.0.push(groups, values)
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        Ok(vec![self.0.take_lists()?])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        self.0.take_lists()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn a_list_that_is_too_large_is_refused_and_others_are_not() {
        let n_values = LIST_BYTES_MAX / 8 + 1;
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1; n_values]));
        let one_group = vec![0; n_values];
        assert!(matches!(lists_of(&one_group, &values, 1), Err(NoResult::TooLarge(TooLarge::Key))));
        let two_groups: Vec<u32> = (0..n_values as u32).map(|row| row % 2).collect();
        assert!(lists_of(&two_groups, &values, 2).is_ok());
    }

    #[test]
    fn a_partition_that_holds_too_much_is_refused_before_it_is_joined() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1; 1 << 20]));
        let mut lists = Values::new(&DataType::Int64);
        lists.resize(1);
        lists.bytes = LISTS_BYTES_MAX - (4 << 20);
        assert!(matches!(lists.push(vec![0; 1 << 20], values), Err(NoResult::TooLarge(TooLarge::Partition))));
    }

    #[test]
    fn pieces_are_joined_so_that_there_are_few() {
        let mut lists = Values::new(&DataType::Int64);
        lists.resize(1);
        for i in 0..1_000 {
            lists.push(vec![0], Arc::new(Int64Array::from(vec![i]))).expect("it is small");
        }
        assert!(lists.pieces.len() <= 10, "{} pieces", lists.pieces.len());
        let taken = lists.take_lists().expect("they are small");
        let values = taken.as_list::<i32>().values().as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
        assert_eq!(values, (0..1_000).collect::<Vec<_>>());
        assert_eq!((lists.bytes(), lists.take_lists().expect("none").len()), (0, 0));
    }
}
