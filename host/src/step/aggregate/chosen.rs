//! `first`, `last`, `any_value`, `min_by` and `max_by`: the value of one row of each group.
//!
//! ```text
//!  batch ── rows that are chosen ──▶ a piece of their values      places: for each group, in which piece and where
//! ```
//!
//! Values are never looked into, so they may be of any type. What they are chosen by is compared as bytes that sort like
//! the values (arrow's row format). Pieces are put together anew when most of what they hold has been replaced.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use super::accumulator::{Accumulator, NoResult};
use super::lists::column_bytes;
use crate::shuffle::key_encoding::canonical_floats;

/// Pieces that are held: each costs a little at every value that is read.
const PIECES_MAX: usize = 128;

/// Rows that may be held in vain, beside as many as there are groups.
const SPARE_ROWS_MAX: usize = 8_192;

/// Which row of a group is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The one that came first.
    First,
    /// The one that came last.
    Last,
    /// The one with the smallest value of another column, and of those the first.
    Smallest,
    /// The one with the greatest value of another column, and of those the first.
    Greatest,
}

/// The place of a group without a row: a null.
const NOWHERE: (u32, u32) = (0, 0);

/// The accumulator.
pub(crate) struct Chosen {
    choice: Choice,
    /// Whether only rows count whose value is not null.
    ignores_nulls: bool,
    /// The value's type; and that of the column it goes by, if there is one.
    types: Vec<DataType>,
    /// Compares that column.
    converter: Option<RowConverter>,
    /// The columns of chosen rows; the first piece is one row of nulls.
    pieces: Vec<Vec<ArrayRef>>,
    /// Rows of all pieces, and their bytes.
    n_rows: usize,
    row_bytes: usize,
    /// Piece and row of each group.
    places: Vec<(u32, u32)>,
    /// What the row of each group goes by.
    best: Vec<Box<[u8]>>,
    best_bytes: usize,
}

impl Chosen {
    /// Of a value's type and, for a choice that goes by another column, the type of that.
    pub(crate) fn new(choice: Choice, ignores_nulls: bool, types: Vec<DataType>) -> Result<Self, ArrowError> {
        let by = types.get(1).map(|by| RowConverter::new(vec![SortField::new(by.clone())]));
        let mut chosen = Self {
            choice,
            ignores_nulls,
            types,
            converter: by.transpose()?,
            pieces: Vec::new(),
            n_rows: 0,
            row_bytes: 0,
            places: Vec::new(),
            best: Vec::new(),
            best_bytes: 0,
        };
        chosen.clear();
        Ok(chosen)
    }

    fn clear(&mut self) {
        self.pieces = vec![self.types.iter().map(|data_type| new_null_array(data_type, 1)).collect()];
        (self.n_rows, self.row_bytes, self.best_bytes) = (0, 0, 0);
        self.places = Vec::new();
        self.best = Vec::new();
    }

    /// Whether a row that goes by this replaces the one that its group has.
    fn replaces(&mut self, group: usize, by: Option<&[u8]>) -> bool {
        let is_new = self.places[group] == NOWHERE;
        let Some(by) = by else {
            return is_new || self.choice == Choice::Last;
        };
        let best = &mut self.best[group];
        let order = by.cmp(best);
        let is_better = match self.choice {
            Choice::Smallest => order == Ordering::Less,
            _ => order == Ordering::Greater,
        };
        if is_new || is_better {
            self.best_bytes = self.best_bytes - best.len() + by.len();
            *best = by.into();
        }
        is_new || is_better
    }

    /// The rows by which values are chosen, and which of them are null: those have no place in an order.
    fn order(&self, values: &[ArrayRef]) -> Result<Option<(Rows, Option<NullBuffer>)>, NoResult> {
        let (Some(converter), Some(by)) = (&self.converter, values.get(1)) else { return Ok(None) };
        Ok(Some((converter.convert_columns(&[canonical_floats(by)?])?, by.logical_nulls())))
    }

    /// Each group's row; null for a group without one.
    fn gather(&self) -> Result<Vec<ArrayRef>, NoResult> {
        let places: Vec<_> = self.places.iter().map(|&(piece, row)| (piece as usize, row as usize)).collect();
        let gather = |column: usize| {
            interleave(&self.pieces.iter().map(|piece| piece[column].as_ref()).collect::<Vec<_>>(), &places)
        };
        Ok((0..self.types.len()).map(gather).collect::<Result<_, _>>()?)
    }

    /// Drops the rows that have been replaced.
    fn compact(&mut self) -> Result<(), NoResult> {
        let rows = self.gather()?;
        self.n_rows = self.places.len();
        self.row_bytes = rows.iter().map(column_bytes).sum();
        self.pieces.truncate(1);
        self.pieces.push(rows);
        for (group, place) in self.places.iter_mut().enumerate() {
            if *place != NOWHERE {
                *place = (1, group as u32);
            }
        }
        Ok(())
    }
}

impl Accumulator for Chosen {
    fn partial_fields(&self) -> Vec<Field> {
        let names = ["value", "by"];
        self.types.iter().zip(names).map(|(data_type, name)| Field::new(name, data_type.clone(), true)).collect()
    }

    fn result_type(&self) -> DataType {
        self.types[0].clone()
    }

    fn resize(&mut self, n_groups: usize) {
        self.places.resize(n_groups, NOWHERE);
        if self.converter.is_some() {
            self.best.resize(n_groups, Box::default());
        }
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let order = self.order(values)?;
        let nulls = if self.ignores_nulls { values[0].logical_nulls() } else { None };
        let is_null = |nulls: &Option<NullBuffer>, row| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let piece = self.pieces.len() as u32;
        let mut rows: Vec<u32> = Vec::new();
        for (row, &group) in groups.iter().enumerate() {
            if is_null(&nulls, row) || order.as_ref().is_some_and(|(_, nulls)| is_null(nulls, row)) {
                continue;
            }
            let by = order.as_ref().map(|(rows, _)| rows.row(row));
            if self.replaces(group as usize, by.as_ref().map(AsRef::as_ref)) {
                let place = &mut self.places[group as usize];
                if place.0 == piece {
                    rows[place.1 as usize] = row as u32;
                } else {
                    *place = (piece, rows.len() as u32);
                    rows.push(row as u32);
                }
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from(rows);
        let chosen = values.iter().map(|column| take(column, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.n_rows += rows.len();
        self.row_bytes += chosen.iter().map(column_bytes).sum::<usize>();
        self.pieces.push(chosen);
        let has_many_in_vain = self.n_rows > 2 * self.places.len() + SPARE_ROWS_MAX;
        if has_many_in_vain || self.pieces.len() > PIECES_MAX { self.compact() } else { Ok(()) }
    }

    /// A partial is the row that was chosen, or a row that never is.
    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        self.update(groups, partials)
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        let rows = self.gather()?;
        self.clear();
        Ok(rows)
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        Ok(Arc::clone(&self.take_partials()?[0]))
    }

    fn bytes(&self) -> usize {
        self.row_bytes
            + self.best_bytes
            + self.places.capacity() * size_of::<(u32, u32)>()
            + self.best.capacity() * size_of::<Box<[u8]>>()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn rows_that_were_replaced_are_dropped() {
        let mut last = Chosen::new(Choice::Last, false, vec![DataType::Int64]).expect("a type with values");
        last.resize(3);
        let groups: Vec<u32> = (0..999).map(|row| row % 2).collect();
        for i in 0..1_000i64 {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..999).map(|row| i * 1_000 + row)));
            last.update(&groups, &[values]).expect("it runs");
            assert!(last.pieces.len() <= PIECES_MAX && last.n_rows <= SPARE_ROWS_MAX + 8);
        }
        let results = last.take_results().expect("it runs");
        let results: Vec<_> = results.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(results, [Some(999_998), Some(999_997), None]);
        assert!(last.take_results().expect("it runs").is_empty());
    }
}
