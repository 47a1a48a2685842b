//! Rows: structs whose fields are columns, read in place and appended column by column.

use std::fmt;
use std::marker::PhantomData;

use crate::batch::{Batch, OwnedBatch};
use crate::builder::{BuildRow, Sizes, StructBuilder};
use crate::role::{Failure, Output, Refusal, Rejection};
use crate::schema::{DataType, Field, Schema};
use crate::value::{Cursor, Read, Validity, Value};

/// A struct whose fields are the columns of a row. Derive it.
pub trait Row: Value<Builder = StructBuilder<<Self as Row>::RowBuilder>> {
    /// Builds the columns.
    type RowBuilder: BuildRow;

    /// The same struct with another lifetime.
    type With<'x>: Row<RowBuilder = Self::RowBuilder>;

    /// The columns, in the struct's order.
    fn fields() -> Vec<Field>;

    /// Whether every column of the struct, and no other, is among `fields`, in the struct's order.
    fn accepts_fields(fields: &[Field]) -> bool;

    /// Checks that `schema` has every column of the struct, of its type.
    ///
    /// # Errors
    ///
    /// Names the first column that is missing or of another type.
    fn check(schema: &Schema) -> Result<(), Refusal>;

    /// Appends the row.
    fn push_row(self, builder: &mut Self::RowBuilder);

    /// The schema of such rows.
    #[must_use]
    fn schema() -> Schema {
        Schema::new(Self::fields())
    }

    /// A batch of rows.
    fn batch(rows: impl IntoIterator<Item = Self>) -> OwnedBatch {
        let rows = rows.into_iter();
        let mut builder = Self::RowBuilder::with_hints(&mut Sizes::default().hints(rows.size_hint().0));
        let mut n_rows = 0;
        rows.for_each(|row| {
            n_rows += 1;
            row.push_row(&mut builder);
        });
        let mut batch = OwnedBatch { rows: n_rows, ..OwnedBatch::default() };
        builder.finish(&mut batch);
        batch
    }
}

/// A [`Row`] that can be read. Derive it with [`Row`].
pub trait ReadRow<'a>: Row + Read<'a, Column = StructColumn<'a, <Self as ReadRow<'a>>::Columns>> {
    /// The columns, downcast once a batch: a struct with the row's field names.
    type Columns: Clone + fmt::Debug;

    /// The columns of a batch, by name.
    ///
    /// # Errors
    ///
    /// Names the first column that is missing or of another type.
    fn columns(batch: &Batch<'a>) -> Result<Self::Columns, Refusal>;

    /// The columns of a struct's children, in the struct's order.
    fn child_columns(cursor: &mut Cursor<'a>) -> Self::Columns;

    /// The row at `index`; `None` when something in it is null and its type has no place for nulls.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    fn row(columns: &Self::Columns, index: usize) -> Option<Self>;

    /// The name of the first column that makes [`ReadRow::row`] answer `None`.
    fn null_column(columns: &Self::Columns, index: usize) -> Option<&'static str>;
}

/// A column of structs.
#[derive(Debug, Clone, Copy)]
pub struct StructColumn<'a, C> {
    validity: Validity<'a>,
    columns: C,
}

impl<'a, C> StructColumn<'a, C> {
    /// Which structs are null.
    #[must_use]
    pub fn validity(&self) -> Validity<'a> {
        self.validity
    }

    /// The columns that the structs are made of.
    #[must_use]
    pub fn columns(&self) -> &C {
        &self.columns
    }

    #[doc(hidden)]
    pub fn take(cursor: &mut Cursor<'a>, columns: impl FnOnce(&mut Cursor<'a>) -> C) -> Self {
        Self { validity: cursor.values(), columns: columns(cursor) }
    }
}

/// Whether the column `name` of `schema` holds values of `T`.
///
/// # Errors
///
/// Names the column and what was expected.
pub fn check_column<T: Value>(schema: &Schema, name: &str) -> Result<(), Refusal> {
    let expected = || T::field(name).type_text();
    match schema.find(name) {
        None => Err(Refusal::Schema(format!("column `{name}` is missing, {} is expected", expected()))),
        Some((_, field)) if !T::accepts(field) => {
            Err(Refusal::Schema(format!("column `{name}` is {}, {} is expected", field.type_text(), expected())))
        }
        Some(_) => Ok(()),
    }
}

#[doc(hidden)]
pub fn read_column<'a, T: Read<'a>>(batch: &Batch<'a>, name: &str) -> Result<T::Column, Refusal> {
    match batch.column(name).and_then(|column| column.read::<T>()) {
        Some(column) => Ok(column),
        None => {
            check_column::<T>(batch.schema(), name)?;
            Err(Refusal::Schema(format!("column `{name}` cannot be read")))
        }
    }
}

#[doc(hidden)]
pub fn struct_field<R: Row>(name: &str) -> Field {
    Field::new(name, DataType::Struct).with_children(R::fields())
}

#[doc(hidden)]
pub fn struct_accepts<R: Row>(field: &Field) -> bool {
    field.data_type == DataType::Struct && R::accepts_fields(&field.children)
}

/// The rows of a batch as values of `R`, made one by one as they are asked for.
#[derive(Debug)]
pub struct Rows<'a, R: ReadRow<'a>> {
    columns: R::Columns,
    n_rows: usize,
}

impl<'a, R: ReadRow<'a>> Clone for Rows<'a, R> {
    fn clone(&self) -> Self {
        Self { columns: self.columns.clone(), n_rows: self.n_rows }
    }
}

impl<'a, R: ReadRow<'a>> Rows<'a, R> {
    /// The rows of a batch that has at least the columns of `R`.
    ///
    /// # Errors
    ///
    /// Names the first column that is missing or of another type.
    pub fn new(batch: Batch<'a>) -> Result<Self, Refusal> {
        Ok(Self { columns: R::columns(&batch)?, n_rows: batch.n_rows() })
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_rows
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// The columns, a field for each field of `R`.
    #[must_use]
    pub fn columns(&self) -> &R::Columns {
        &self.columns
    }

    /// The row at `index`; `None` when a field that has no place for nulls is null there.
    ///
    /// # Panics
    ///
    /// When `index` is not less than [`Rows::len`].
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<R> {
        assert!(index < self.n_rows, "row {index} of {}", self.n_rows);
        R::row(&self.columns, index)
    }

    /// Every row with its index, those left out where a field that has no place for nulls is null.
    pub fn iter(&self) -> impl Iterator<Item = (u32, R)> {
        (0..self.n_rows).filter_map(|index| R::row(&self.columns, index).map(|row| (index as u32, row)))
    }

    /// Rejects the rows that [`Rows::iter`] leaves out.
    #[doc(hidden)]
    pub fn reject_nulls<O: Row>(&self, out: &mut Emitter<O>) {
        for index in (0..self.n_rows).filter(|&index| R::row(&self.columns, index).is_none()) {
            out.reject(index as u32, self.null_reason(index));
        }
    }

    /// Why [`Rows::get`] answers `None`.
    #[must_use]
    pub fn null_reason(&self, index: usize) -> String {
        format!("column `{}` is null", R::null_column(&self.columns, index).unwrap_or("?"))
    }
}

/// Takes what an operator's function emits.
///
/// A function gets one as its `out` parameter when it emits any number of rows a row, or when it works on a whole batch.
pub struct Emitter<R: Row> {
    rows: R::RowBuilder,
    n_rows: u32,
    current: Option<u32>,
    n_without_origin: u32,
    origin: Option<Vec<u32>>,
    rejected: Vec<Rejection>,
    row: PhantomData<fn(R)>,
}

impl<R: Row> Emitter<R> {
    #[doc(hidden)]
    #[must_use]
    pub fn start(sizes: &Sizes, n_input_rows: usize, keeps_origin: bool) -> Self {
        let mut hints = sizes.hints(n_input_rows);
        Self {
            rows: R::RowBuilder::with_hints(&mut hints),
            n_rows: 0,
            current: None,
            n_without_origin: 0,
            origin: keeps_origin.then(|| Vec::with_capacity(n_input_rows)),
            rejected: Vec::new(),
            row: PhantomData,
        }
    }

    #[doc(hidden)]
    #[inline]
    pub fn set_current(&mut self, row: usize) {
        self.current = Some(row as u32);
    }

    /// Emits a row. In a function of one row it comes from that row.
    #[inline]
    pub fn emit(&mut self, row: R::With<'_>) {
        if let Some(origin) = &mut self.origin {
            match self.current {
                Some(current) => origin.push(current),
                None => self.n_without_origin += 1,
            }
        }
        self.n_rows += 1;
        row.push_row(&mut self.rows);
    }

    /// Emits a row that comes from row `origin` of the input: for functions of whole batches that carry columns.
    #[inline]
    pub fn emit_from(&mut self, origin: u32, row: R::With<'_>) {
        self.current = Some(origin);
        self.emit(row);
        self.current = None;
    }

    /// Rejects a row of the input. What was emitted for it before stays.
    #[cold]
    pub fn reject(&mut self, row: u32, reason: impl fmt::Display) {
        self.rejected.push(Rejection { row, reason: reason.to_string() });
    }

    #[doc(hidden)]
    pub fn finish(self, sizes: &mut Sizes, n_input_rows: usize) -> Result<Output, Failure> {
        if self.n_without_origin > 0 {
            let text = "a function of a whole batch that carries columns must say which row it emits from: `emit_from`";
            return Err(Failure::Fatal(text.into()));
        }
        let mut rows = OwnedBatch { rows: self.n_rows, ..OwnedBatch::default() };
        self.rows.finish(&mut rows);
        sizes.learn(n_input_rows, &rows);
        let origin = self.origin.filter(|origin| !is_identity(origin, n_input_rows));
        Ok(Output { rows, origin, rejected: self.rejected })
    }
}

impl<R: Row> fmt::Debug for Emitter<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter")
            .field("n_rows", &self.n_rows)
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

/// Whether every row of the input has come through once, in its place.
pub(crate) fn is_identity(origin: &[u32], n_input_rows: usize) -> bool {
    origin.len() == n_input_rows && origin.iter().enumerate().all(|(i, &row)| i as u32 == row)
}
