//! What a built-in aggregate keeps for each group: the trait, and counting.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::error::ArrowError;

/// Why an aggregate has no result.
#[derive(Debug)]
pub(crate) enum NoResult {
    /// A value does not fit its type.
    Overflow,
    /// More values have to be kept than there is room for.
    TooLarge(TooLarge),
    /// What arrow says although everything was checked.
    Arrow(ArrowError),
}

/// Whose values are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooLarge {
    /// One key's.
    Key,
    /// Those of all keys of one partition.
    Partition,
}

impl From<ArrowError> for NoResult {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

/// Whether rows can be taken out of a group again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inverse {
    /// No: a smallest value says nothing about the second smallest.
    Impossible,
    /// Yes, but each time with another rounding.
    Drifting,
    /// Yes, and what is left is exact.
    Exact,
}

/// One aggregate over all groups of a table.
///
/// A task calls `resize` and then `update` (before the shuffle) or `merge` (behind it) for each batch of rows, then
/// `take_partials` or `take_results`, which leave it without groups.
///
/// # Partials
///
/// Merging is associative, and keeps order. Partials hold everything a result needs, in columns of types that arrow's row
/// format encodes: they may be written down and merged by another process.
pub(crate) trait Accumulator: Send {
    /// The columns of partials.
    fn partial_fields(&self) -> Vec<Field>;

    /// The type of results.
    fn result_type(&self) -> DataType;

    /// Whether a result may be null.
    fn result_is_nullable(&self) -> bool {
        true
    }

    /// Makes room for groups `0..n_groups`; new ones hold no value.
    fn resize(&mut self, n_groups: usize);

    /// Adds row `i` to group `groups[i]`. `values` are the aggregate's input columns, of plain types; none for `count(*)`.
    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult>;

    /// Adds what another table accumulated: as many columns as [`Accumulator::take_partials`] gives.
    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult>;

    /// Whether [`Accumulator::take_away`] works.
    fn inverse(&self) -> Inverse {
        Inverse::Impossible
    }

    /// Takes away what was merged before: the inverse of [`Accumulator::merge`]. `false` when what is left cannot be told;
    /// then what the groups hold is of no use.
    fn take_away(&mut self, _groups: &[u32], _partials: &[ArrayRef]) -> Result<bool, NoResult> {
        Ok(false)
    }

    /// What was accumulated, a row a group.
    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult>;

    /// The result of each group.
    fn take_results(&mut self) -> Result<ArrayRef, NoResult>;

    /// The bytes it holds.
    fn bytes(&self) -> usize;
}

/// Calls `each` with row and group of every row that is not null.
#[inline(always)]
pub(crate) fn each_valid(groups: &[u32], nulls: Option<&NullBuffer>, mut each: impl FnMut(usize, usize)) {
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => groups.iter().enumerate().for_each(|(row, &group)| each(row, group as usize)),
        Some(nulls) => nulls.valid_indices().for_each(|row| each(row, groups[row] as usize)),
    }
}

/// Which groups hold a value, as a null buffer; `None` when all do.
pub(crate) fn nulls_of(seen: &[bool]) -> Option<NullBuffer> {
    if seen.iter().all(|&seen| seen) { None } else { Some(seen.iter().copied().collect()) }
}

/// `count`.
#[derive(Default)]
pub(crate) struct Counts {
    counts: Vec<i64>,
}

/// A partial's number of rows or values.
pub(crate) fn count_field() -> Field {
    Field::new("count", DataType::Int64, false)
}

impl Accumulator for Counts {
    fn partial_fields(&self) -> Vec<Field> {
        vec![count_field()]
    }

    fn result_type(&self) -> DataType {
        DataType::Int64
    }

    fn result_is_nullable(&self) -> bool {
        false
    }

    fn resize(&mut self, n_groups: usize) {
        self.counts.resize(n_groups, 0);
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let nulls = values.first().and_then(|values| values.logical_nulls());
        each_valid(groups, nulls.as_ref(), |_, group| self.counts[group] += 1);
        Ok(())
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        let counts = partials[0].as_primitive::<Int64Type>().values();
        // Counts are of rows, which would not fit a machine before they overflow.
        each_valid(groups, None, |row, group| self.counts[group] += counts[row]);
        Ok(())
    }

    fn inverse(&self) -> Inverse {
        Inverse::Exact
    }

    fn take_away(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<bool, NoResult> {
        let counts = partials[0].as_primitive::<Int64Type>().values();
        each_valid(groups, None, |row, group| self.counts[group] -= counts[row]);
        Ok(true)
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        Ok(vec![self.take_results()?])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        Ok(Arc::new(Int64Array::from(std::mem::take(&mut self.counts))))
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }
}
