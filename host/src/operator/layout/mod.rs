//! Record batches as the contract's nodes and buffers, and back: lowering copies nothing, lifting trusts nothing.
//!
//! ```text
//!  RecordBatch ── lower ──▶ Lowered { rows, nodes, buffers: borrowed } ──▶ an operator
//!  RecordBatch ◀── lift ─── rows, nodes, buffers: owned, hostile       ◀── its answer
//!  Schema ── flatten ──▶ [FlatField] in pre-order ── unflatten ──▶ Schema
//! ```
//!
//! The contract has fewer types than Arrow. What it lacks and can be said without loss in a type that it has is cast on
//! the way in: dictionaries to their values, large and view types to the plain ones, small decimals to the wide one.
//! [`contract_schema`] is the schema after that, the one an operator sees.

mod lift;
mod lower;
mod schema;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;

pub use lift::lift;
pub use lower::lower;
pub use schema::{
    CHILD_DEPTH_MAX, FIELDS_MAX, FlatField, FlatType, UnsupportedType, contract_schema, flatten, unflatten,
};

#[cfg(target_endian = "big")]
compile_error!("the contract's buffers are little-endian and are not copied: big-endian hosts are not supported");

/// One field's part of a batch: the contract's `node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// How many values it has.
    pub length: u32,
    /// How many of them are null.
    pub null_count: u32,
}

/// A record batch as the contract's nodes and buffers, in pre-order, borrowed from its arrays where they are laid out
/// as the contract asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lowered<'a> {
    /// How many rows, also when there is no column.
    pub rows: u32,
    /// One a field.
    pub nodes: Vec<Node>,
    /// The buffers of each node, as the contract's table lists them.
    pub buffers: Vec<Cow<'a, [u8]>>,
}

impl Lowered<'_> {
    /// Bytes in all buffers together.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.buffers.iter().map(|buffer| buffer.len() as u64).sum()
    }
}
