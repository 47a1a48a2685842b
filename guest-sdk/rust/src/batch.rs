//! Batches: Arrow's layout, borrowed on the way in and owned on the way out.

use std::ops::Not;

use crate::schema::{DataType, Field, Schema};
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

    /// A view of rows of `schema`, every rule checked.
    ///
    /// # Errors
    ///
    /// Names the column and the rule that it breaks.
    pub fn checked(schema: &'a Schema, rows: u32, nodes: &'a [Node], buffers: &'a [&'a [u8]]) -> Result<Self, String> {
        if rows == 0 && nodes.is_empty() && buffers.is_empty() {
            // SAFETY: so a batch without rows may be.
            return Ok(unsafe { Self::new(schema, rows, nodes, buffers) });
        }
        let mut rest = Parts { nodes: nodes.iter(), buffers: buffers.iter() };
        for field in &schema.fields {
            rest.check(field, rows)?;
        }
        if !rest.nodes.as_slice().is_empty() || !rest.buffers.as_slice().is_empty() {
            return Err("there are more nodes or buffers than the schema has".into());
        }
        // SAFETY: every rule has been checked.
        Ok(unsafe { Self::new(schema, rows, nodes, buffers) })
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

    /// The nodes of all fields, in pre-order. Without rows there may be none.
    #[must_use]
    pub fn nodes(&self) -> &'a [Node] {
        self.nodes
    }

    /// The buffers of all fields, in pre-order. Without rows there may be none.
    #[must_use]
    pub fn buffers(&self) -> &'a [&'a [u8]] {
        self.buffers
    }

    /// The columns, in the schema's order.
    pub fn columns(&self) -> impl Iterator<Item = Column<'a>> {
        let (mut nodes, mut buffers) = (self.nodes, self.buffers);
        self.schema.fields.iter().map(move |field| {
            let column = Column { field, nodes, buffers };
            // A batch without rows may have none.
            nodes = nodes.get(field.n_nodes()..).unwrap_or_default();
            buffers = buffers.get(field.n_buffers()..).unwrap_or_default();
            column
        })
    }

    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<Column<'a>> {
        self.columns().find(|column| column.field.name == name)
    }
}

/// What is left of a batch's nodes and buffers while they are checked.
struct Parts<'a> {
    nodes: std::slice::Iter<'a, Node>,
    buffers: std::slice::Iter<'a, &'a [u8]>,
}

impl<'a> Parts<'a> {
    /// Takes the next buffer, which must have so many bytes.
    fn take(&mut self, field: &Field, n_bytes: Option<usize>) -> Result<&'a [u8], String> {
        let name = &field.name;
        let buffer = *self.buffers.next().ok_or_else(|| format!("column `{name}`: a buffer is missing"))?;
        match n_bytes {
            Some(n) if n != buffer.len() => {
                Err(format!("column `{name}`: a buffer has {} bytes, not {n}", buffer.len()))
            }
            _ => Ok(buffer),
        }
    }

    fn check(&mut self, field: &Field, length: u32) -> Result<(), String> {
        let broken = |rule: &str| Err(format!("column `{}`: {rule}", field.name));
        let node = self.nodes.next().ok_or_else(|| format!("column `{}`: its node is missing", field.name))?;
        if node.length != length {
            return broken(&format!("it has {} values, not {length}", node.length));
        }
        if field.data_type == DataType::Null {
            return if node.null_count == length { Ok(()) } else { broken("not every value is null") };
        }
        let length = length as usize;
        let validity = self.take(field, None)?;
        let n_null = if validity.is_empty() {
            0
        } else if validity.len() == length.div_ceil(8) {
            (0..length).filter(|i| (validity[i / 8] >> (i % 8)) & 1 == 0).count()
        } else {
            return broken("its validity has not a bit a value");
        };
        if node.null_count as usize != n_null {
            return broken(&format!("its null count is {}, and {n_null} values are null", node.null_count));
        }
        let width = match field.data_type {
            DataType::Boolean => {
                self.take(field, Some(length.div_ceil(8)))?;
                return Ok(());
            }
            DataType::Int8 | DataType::UInt8 => 1,
            DataType::Int16 | DataType::UInt16 => 2,
            DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 => 4,
            DataType::Int64 | DataType::UInt64 | DataType::Float64 => 8,
            DataType::Timestamp(..) | DataType::Duration(_) => 8,
            DataType::Decimal128(..) => 16,
            DataType::FixedSizeBinary(width) => width as usize,
            DataType::Struct => {
                return field.children.iter().try_for_each(|child| self.check(child, length as u32));
            }
            DataType::Utf8 | DataType::Binary | DataType::List | DataType::Map => {
                return self.check_offsets(field, length);
            }
            DataType::Null => 0,
        };
        self.take(field, length.checked_mul(width)).map(drop)
    }

    fn check_offsets(&mut self, field: &Field, length: usize) -> Result<(), String> {
        let broken = |rule: &str| Err(format!("column `{}`: {rule}", field.name));
        let offsets = self.take(field, None)?;
        if !(offsets.is_empty() && length == 0) && offsets.len() != 4 * (length + 1) {
            return broken("it has not one offset more than values");
        }
        let offsets: Vec<_> = offsets.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes) as i64).collect();
        if offsets.first().is_some_and(|first| *first != 0) || offsets.is_sorted_by(|a, b| a <= b).not() {
            return broken("its offsets do not start at 0, or fall");
        }
        let last = offsets.last().copied().unwrap_or(0);
        if let [child] = field.children.as_slice() {
            return self.check(child, last as u32);
        }
        let data = self.take(field, Some(last as usize))?;
        let is_text = |pair: &[i64]| std::str::from_utf8(&data[pair[0] as usize..pair[1] as usize]).is_ok();
        if field.data_type == DataType::Utf8 && !offsets.windows(2).all(is_text) {
            return broken("a value is not UTF-8");
        }
        Ok(())
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

    /// How many values it has.
    #[must_use]
    pub fn n_values(&self) -> usize {
        self.nodes.first().map_or(0, |node| node.length as usize)
    }

    /// How many of its values are null.
    #[must_use]
    pub fn n_nulls(&self) -> usize {
        self.nodes.first().map_or(0, |node| node.null_count as usize)
    }

    /// Its nodes and buffers, and those of the columns behind it.
    pub(crate) fn parts(&self) -> (&'a [Node], &'a [&'a [u8]]) {
        (self.nodes, self.buffers)
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
        if order.len() == schema.fields.len() && order.iter().enumerate().all(|(i, &from)| i == from) {
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
