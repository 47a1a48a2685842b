//! Batches: Arrow's layout, borrowed on the way in and owned on the way out.

use crate::schema::{Field, Schema};
use crate::value::{Cursor, Read};

/// One field's part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// How many values it has.
    pub length: u32,
    /// How many of them are null.
    pub null_count: u32,
}

/// Rows as they came: a view of buffers that somebody else owns.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    schema: &'a Schema,
    rows: u32,
    nodes: &'a [Node],
    buffers: &'a [&'a [u8]],
}

impl<'a> Batch<'a> {
    /// A view of rows of `schema`.
    ///
    /// # Safety
    ///
    /// Nodes and buffers follow every rule of the contract's `batch` for this schema: as many as it says, long enough,
    /// offsets that start at 0, do not fall and end with what they point into, and text that is UTF-8 value by value.
    /// They are read without being checked.
    #[must_use]
    pub unsafe fn new(schema: &'a Schema, rows: u32, nodes: &'a [Node], buffers: &'a [&'a [u8]]) -> Self {
        Self { schema, rows, nodes, buffers }
    }

    /// The schema of the rows.
    #[must_use]
    pub fn schema(&self) -> &'a Schema {
        self.schema
    }

    /// How many rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.rows as usize
    }

    /// The nodes of all fields, in pre-order.
    #[must_use]
    pub fn nodes(&self) -> &'a [Node] {
        self.nodes
    }

    /// The buffers of all fields, in pre-order.
    #[must_use]
    pub fn buffers(&self) -> &'a [&'a [u8]] {
        self.buffers
    }

    /// The columns, in the schema's order.
    pub fn columns(&self) -> impl Iterator<Item = Column<'a>> {
        let (mut nodes, mut buffers) = (self.nodes, self.buffers);
        self.schema.fields.iter().map(move |field| {
            let column = Column { field, nodes, buffers };
            nodes = &nodes[field.n_nodes()..];
            buffers = &buffers[field.n_buffers()..];
            column
        })
    }

    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<Column<'a>> {
        self.columns().find(|column| column.field.name == name)
    }
}

/// One column of a batch, of any type.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    field: &'a Field,
    nodes: &'a [Node],
    buffers: &'a [&'a [u8]],
}

impl<'a> Column<'a> {
    /// The column's name and type.
    #[must_use]
    pub fn field(&self) -> &'a Field {
        self.field
    }

    /// How many of its values are null.
    #[must_use]
    pub fn n_nulls(&self) -> usize {
        self.nodes[0].null_count as usize
    }

    /// The column as values of `T`; `None` when it is of another type.
    #[must_use]
    pub fn read<T: Read<'a>>(&self) -> Option<T::Column> {
        // What `column` reads is what `accepts` has checked.
        T::accepts(self.field).then(|| T::column(&mut Cursor::new(self.nodes, self.buffers)))
    }
}

/// Rows that an operator has made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedBatch {
    /// How many rows, also when there is no column.
    pub rows: u32,
    /// One a field, in pre-order.
    pub nodes: Vec<Node>,
    /// Their buffers, in the order of the contract's table.
    pub buffers: Vec<Vec<u8>>,
}

impl OwnedBatch {
    /// The buffers as a [`Batch`] borrows them.
    #[must_use]
    pub fn slices(&self) -> Vec<&[u8]> {
        self.buffers.iter().map(Vec::as_slice).collect()
    }

    /// The same rows with columns in another order: column `order[i]` of `schema`, which these rows have, becomes
    /// column i.
    pub(crate) fn reorder(mut self, schema: &Schema, order: &[usize]) -> Self {
        if order.iter().enumerate().all(|(i, &from)| i == from) {
            return self;
        }
        let mut spans = Vec::with_capacity(schema.fields.len());
        let (mut node, mut buffer) = (0, 0);
        for field in &schema.fields {
            spans.push((node..node + field.n_nodes(), buffer..buffer + field.n_buffers()));
            node += field.n_nodes();
            buffer += field.n_buffers();
        }
        let nodes = order.iter().flat_map(|&from| self.nodes[spans[from].0.clone()].iter().copied()).collect();
        let mut buffers = Vec::with_capacity(self.buffers.len());
        for &from in order {
            buffers.extend(self.buffers[spans[from].1.clone()].iter_mut().map(std::mem::take));
        }
        Self { rows: self.rows, nodes, buffers }
    }
}
