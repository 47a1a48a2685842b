//! What can be done with the partials of a keyed step, one row a key: what running and windowed steps are made of.
//!
//! ```text
//!  rows ── combine ──▶ partials ─┬─ merge ───▶ partials, one a key ─┬─ finish ──▶ results
//!                                │                                  │
//!                     partials kept from before               whole ┴ part ── invert ──▶ what is left
//! ```
//!
//! A partial is a row of [`KeyedStep::partial_schema`](crate::step::keyed::KeyedStep::partial_schema): the keys, then what
//! was accumulated of that key's rows. It says everything about them that the result needs, in Arrow columns that
//! [`RowConverter`](arrow::row::RowConverter) encodes: it can be written down, and read by another process. It does not
//! depend on how many partitions there are.

use arrow::array::RecordBatch;

use crate::error::Error;

/// Merges, finishes and takes apart the partials of a keyed step, whatever computes them.
///
/// Made for one task by [`KeyedStep::partial_ops`](crate::step::keyed::KeyedStep::partial_ops) and used by its thread, any
/// call in any order and as often as one likes: nothing is kept between calls. After an error it is spent: drop it.
///
/// The laws, for partials `a`, `b`, `c` of rows that arrived in this order:
///
/// | law | |
/// | --- | --- |
/// | `merge` is associative | `merge(merge(a, b), c) = merge(a, merge(b, c)) = merge(a, b, c)` |
/// | results do not see the cuts | `finish(merge(a, b))` is the result of the rows of `a` and `b` together |
/// | `invert` undoes `merge` | `finish(invert(merge(a, b), a)) = finish(b)` for keys that `a` and `b` have |
///
/// They hold exactly, except for the rounding of floating-point numbers and within the error of approximate aggregates.
/// `merge` keeps order: what `first`, `last` and lists give is that of rows in the order of the partials, so earlier
/// ones have to come first.
pub trait PartialOps: Send {
    /// One partial a key: rows of the partial schema, merged; keys in the order in which they first appear.
    ///
    /// Of no rows there are none, also without keys.
    ///
    /// # Errors
    ///
    /// When a value does not fit, or an operator fails.
    fn merge(&mut self, partials: &[RecordBatch]) -> Result<RecordBatch, Error>;

    /// Results of partials, row by row, in the output schema (keys first). Equal keys need not have met.
    ///
    /// # Errors
    ///
    /// When a result does not fit its type, or an operator fails.
    fn finish(&mut self, partials: &RecordBatch) -> Result<RecordBatch, Error>;

    /// `whole` without `part`, row by row; `None` when it cannot be undone.
    ///
    /// Both are partials, with equal keys in equal rows, and the rows of `part` are among those of `whole`: the earliest
    /// of them, where order matters. A key of which nothing is left has no partial: who calls this knows which keys still
    /// have rows, and leaves the others out.
    ///
    /// Also where [`is_invertible`](PartialOps::is_invertible) there may be partials that cannot be told apart: sums of
    /// floats that are infinite or NaN. Then the caller merges anew what is left.
    ///
    /// # Errors
    ///
    /// When an operator fails.
    fn invert(&mut self, whole: &RecordBatch, part: &RecordBatch) -> Option<Result<RecordBatch, Error>>;

    /// Whether `invert` answers.
    fn is_invertible(&self) -> bool;

    /// Whether inverting drifts (floats): then results are recomputed now and then.
    fn drifts(&self) -> bool;
}

#[cfg(test)]
mod tests;
