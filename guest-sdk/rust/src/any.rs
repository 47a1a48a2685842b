//! Columns of any type: for operators that pass values on without knowing what they are.
//!
//! ```
//! use tidemill_guest::any::AnyBatchBuilder;
//! use tidemill_guest::{Batch, OwnedBatch};
//!
//! /// Every second row.
//! fn thin_out(input: Batch<'_>) -> OwnedBatch {
//!     let columns = input.any_columns();
//!     let mut out = AnyBatchBuilder::new(&input.schema().fields);
//!     (0..input.n_rows()).step_by(2).for_each(|row| out.push_row(&columns, row));
//!     out.finish()
//! }
//! # let _ = thin_out;
//! ```

use std::ops::Range;

use crate::batch::{Batch, Column, Node, OwnedBatch};
use crate::builder::{BitBuilder, Build, BytesBuilder, Validity as Bits};
use crate::schema::{DataType, Field};
use crate::value::{Cursor, Validity};

/// A column of any type.
#[derive(Debug, Clone)]
pub struct AnyColumn<'a> {
    validity: Validity<'a>,
    values: Values<'a>,
}

/// What a column's values lie in.
#[derive(Debug, Clone)]
enum Values<'a> {
    Null,
    Bits(&'a [u8]),
    Fixed { width: usize, bytes: &'a [u8] },
    Bytes { offsets: &'a [[u8; 4]], data: &'a [u8] },
    Lists { offsets: &'a [[u8; 4]], items: Box<AnyColumn<'a>> },
    Structs(Vec<AnyColumn<'a>>),
}

/// A value of any type.
#[derive(Debug, Clone)]
pub enum AnyValue<'a, 'c> {
    /// Null.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A value of fixed width: its little-endian bytes.
    Fixed(&'a [u8]),
    /// Text or bytes.
    Bytes(&'a [u8]),
    /// A list, or a map as a list of pairs: these of the items.
    List(&'c AnyColumn<'a>, Range<usize>),
    /// A struct: the values at this index.
    Struct(&'c [AnyColumn<'a>], usize),
}

/// The bytes of a value of fixed width; `None` for types that have none.
fn width(data_type: &DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Int8 | DataType::UInt8 => 1,
        DataType::Int16 | DataType::UInt16 => 2,
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date32 => 4,
        DataType::Int64 | DataType::UInt64 | DataType::Float64 => 8,
        DataType::Timestamp(..) | DataType::Duration(_) => 8,
        DataType::Decimal128(..) => 16,
        DataType::FixedSizeBinary(width) => *width as usize,
        _ => return None,
    })
}

impl<'a> AnyColumn<'a> {
    pub(crate) fn new(field: &Field, cursor: &mut Cursor<'a>) -> Self {
        if field.data_type == DataType::Null {
            return Self { validity: cursor.no_values(), values: Values::Null };
        }
        let validity = cursor.values();
        let values = match &field.data_type {
            DataType::Boolean => Values::Bits(cursor.buffer()),
            DataType::Utf8 | DataType::Binary => {
                Values::Bytes { offsets: cursor.buffer().as_chunks().0, data: cursor.buffer() }
            }
            DataType::List | DataType::Map => {
                let offsets = cursor.buffer().as_chunks().0;
                // A list and a map have one child.
                let items = field.children.iter().map(|child| AnyColumn::new(child, cursor)).next();
                let nothing = || AnyColumn { validity: Validity::default(), values: Values::Null };
                Values::Lists { offsets, items: Box::new(items.unwrap_or_else(nothing)) }
            }
            DataType::Struct => {
                Values::Structs(field.children.iter().map(|child| AnyColumn::new(child, cursor)).collect())
            }
            other => Values::Fixed { width: width(other).unwrap_or(0), bytes: cursor.buffer() },
        };
        Self { validity, values }
    }

    /// How many values it has.
    #[must_use]
    pub fn n_values(&self) -> usize {
        self.validity.n_values()
    }

    /// The value at `index`.
    ///
    /// # Panics
    ///
    /// When `index` is not less than the column's length.
    #[must_use]
    pub fn get(&self, index: usize) -> AnyValue<'a, '_> {
        if self.validity.is_null(index) {
            return AnyValue::Null;
        }
        match &self.values {
            Values::Null => AnyValue::Null,
            Values::Bits(bits) => AnyValue::Boolean((bits[index / 8] >> (index % 8)) & 1 == 1),
            Values::Fixed { width, bytes } => AnyValue::Fixed(&bytes[index * width..(index + 1) * width]),
            Values::Bytes { offsets, data } => AnyValue::Bytes(&data[range(offsets, index)]),
            Values::Lists { offsets, items } => AnyValue::List(items, range(offsets, index)),
            Values::Structs(columns) => AnyValue::Struct(columns, index),
        }
    }
}

fn range(offsets: &[[u8; 4]], index: usize) -> Range<usize> {
    // Offsets are not negative: the host has checked what comes in.
    let at = |index: usize| i32::from_le_bytes(offsets[index]) as usize;
    at(index)..at(index + 1)
}

impl<'a> Column<'a> {
    /// The column, whatever its type.
    #[must_use]
    pub fn any(&self) -> AnyColumn<'a> {
        let (nodes, buffers) = self.parts();
        AnyColumn::new(self.field(), &mut Cursor::new(nodes, buffers))
    }
}

impl<'a> Batch<'a> {
    /// All columns, whatever their types.
    #[must_use]
    pub fn any_columns(&self) -> Vec<AnyColumn<'a>> {
        self.columns().map(|column| column.any()).collect()
    }
}

/// Appends values of any type to a column of theirs.
#[derive(Debug)]
pub struct AnyBuilder {
    /// Kept from the first null on.
    valid: Option<BitBuilder>,
    null_count: u32,
    length: usize,
    values: Building,
}

#[derive(Debug)]
enum Building {
    Null,
    Bits(BitBuilder),
    Fixed { width: usize, bytes: Vec<u8> },
    Bytes(BytesBuilder),
    Lists { offsets: Vec<[u8; 4]>, items: Box<AnyBuilder> },
    Structs(Vec<AnyBuilder>),
}

impl AnyBuilder {
    /// An empty column of a field.
    #[must_use]
    pub fn new(field: &Field) -> Self {
        let values = match &field.data_type {
            DataType::Null => Building::Null,
            DataType::Boolean => Building::Bits(BitBuilder::default()),
            DataType::Utf8 | DataType::Binary => Building::Bytes(BytesBuilder::new()),
            DataType::List | DataType::Map => {
                // A list and a map have one child.
                let nothing = || Field::new("item", DataType::Null);
                let items = AnyBuilder::new(&field.children.first().cloned().unwrap_or_else(nothing));
                Building::Lists { offsets: vec![[0; 4]], items: Box::new(items) }
            }
            DataType::Struct => Building::Structs(field.children.iter().map(AnyBuilder::new).collect()),
            other => Building::Fixed { width: width(other).unwrap_or(0), bytes: Vec::new() },
        };
        Self { valid: None, null_count: 0, length: 0, values }
    }

    /// Appends a value, which is of the column's type: what is of another is appended as a null.
    pub fn push(&mut self, value: AnyValue<'_, '_>) {
        match (&mut self.values, value) {
            (Building::Bits(bits), AnyValue::Boolean(value)) => bits.push(value),
            (Building::Fixed { width, bytes }, AnyValue::Fixed(value)) if *width == value.len() => {
                bytes.extend_from_slice(value);
            }
            (Building::Bytes(bytes), AnyValue::Bytes(value)) => bytes.push(value),
            (Building::Lists { offsets, items }, AnyValue::List(column, range)) => {
                range.for_each(|index| items.push(column.get(index)));
                offsets.push((items.length as i32).to_le_bytes());
            }
            (Building::Structs(fields), AnyValue::Struct(columns, index)) => {
                fields.iter_mut().zip(columns).for_each(|(field, column)| field.push(column.get(index)));
            }
            _ => return self.push_null(),
        }
        self.length += 1;
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }

    /// Appends a null.
    pub fn push_null(&mut self) {
        let length = self.length;
        self.valid.get_or_insert_with(|| BitBuilder::all_set(length)).push(false);
        self.null_count += 1;
        self.push_blank();
    }

    /// Appends what stands in the place of a null. In a struct, fields that cannot be null have no null there.
    fn push_blank(&mut self) {
        self.length += 1;
        match &mut self.values {
            Building::Null => {}
            Building::Bits(bits) => bits.push(false),
            Building::Fixed { width, bytes } => bytes.resize(bytes.len() + *width, 0),
            Building::Bytes(bytes) => bytes.push(&[]),
            Building::Lists { offsets, items } => offsets.push((items.length as i32).to_le_bytes()),
            Building::Structs(fields) => fields.iter_mut().for_each(AnyBuilder::push_valid_blank),
        }
    }

    fn push_valid_blank(&mut self) {
        self.push_blank();
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }

    /// Appends the column to a batch.
    pub fn finish(self, out: &mut OwnedBatch) {
        let length = self.length as u32;
        if matches!(self.values, Building::Null) {
            return out.nodes.push(Node { length, null_count: length });
        }
        let validity = Bits::of(self.valid, self.null_count);
        match self.values {
            Building::Null => {}
            Building::Bits(bits) => bits.finish(validity, out),
            Building::Bytes(bytes) => bytes.finish(validity, out),
            Building::Fixed { bytes, .. } => {
                validity.push_node(self.length, out);
                out.buffers.push(bytes);
            }
            Building::Lists { offsets, items } => {
                validity.push_node(self.length, out);
                out.buffers.push(offsets.into_flattened());
                items.finish(out);
            }
            Building::Structs(fields) => {
                validity.push_node(self.length, out);
                fields.into_iter().for_each(|field| field.finish(out));
            }
        }
    }
}

/// Appends rows of any columns.
#[derive(Debug)]
pub struct AnyBatchBuilder {
    n_rows: u32,
    columns: Vec<AnyBuilder>,
}

impl AnyBatchBuilder {
    /// No rows yet, of these columns.
    #[must_use]
    pub fn new(fields: &[Field]) -> Self {
        Self { n_rows: 0, columns: fields.iter().map(AnyBuilder::new).collect() }
    }

    /// Appends a row of columns of the same types.
    pub fn push_row(&mut self, columns: &[AnyColumn<'_>], row: usize) {
        self.columns.iter_mut().zip(columns).for_each(|(builder, column)| builder.push(column.get(row)));
        self.n_rows += 1;
    }

    /// Appends rows of columns of the same types, a column at a time.
    pub fn push_rows(&mut self, columns: &[AnyColumn<'_>], rows: &[u32]) {
        for (builder, column) in self.columns.iter_mut().zip(columns) {
            rows.iter().for_each(|row| builder.push(column.get(*row as usize)));
        }
        self.n_rows += rows.len() as u32;
    }

    /// The rows.
    #[must_use]
    pub fn finish(self) -> OwnedBatch {
        let mut out = OwnedBatch { rows: self.n_rows, ..OwnedBatch::default() };
        self.append_to(&mut out);
        out
    }

    /// Appends the columns to a batch that has as many rows.
    pub fn append_to(self, out: &mut OwnedBatch) {
        self.columns.into_iter().for_each(|column| column.finish(out));
    }
}
