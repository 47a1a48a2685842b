//! `join = { with, on, type, … }`: brings rows of two sides together that have equal keys.
//!
//! | a job says | which rows meet | state |
//! | --- | --- | --- |
//! | nothing more | those of the same batch | none |
//! | `within` | those whose event times are near each other | rows of both sides, until the clock has passed them |
//! | `window` | those of the same window of event time | as with `within` |
//! | `latest` | a left row and the latest right row of its key | the latest right rows |
//! | `with` names a `[[table]]` | a left row and the rows of the table as it is in this batch | the table, once a process |
//!
//! Streams are dealt out by their keys first, so that equal keys meet in one partition; a table is not, every task looks
//! into the same one. Null keys match nothing. Rows that match several are given once for each, in chunks of bounded rows
//! and bytes: the product of a key is never held.
//!
//! The law: what comes out of a batch depends on the rows of the batch, what was published before, and the number of
//! partitions; not on how rows were cut into pushes, nor on batches that failed.

mod arrivals;
mod bucket;
mod columns;
mod definition;
mod in_batch;
mod join_type;
mod late;
mod latest;
mod options;
mod over_time;
mod pairs;
mod reach;
mod right_index;
mod side_rows;
#[cfg(test)]
mod tests;
mod with_table;

pub use columns::WINDOW_COLUMNS;
pub use definition::JoinDefinition;
pub use join_type::JoinType;
pub use late::LateForJoin;
pub(crate) use options::ReadJoin;
pub use options::{JoinOptions, JoinScope};
