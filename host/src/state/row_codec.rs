//! Rows as bytes and back: how keys and values stand in state.
//!
//! The encoding is that of `arrow::row`: equal rows have equal bytes, and the bytes order as the rows do.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::shuffle::key_encoding::{canonical_floats, plain, plain_type};

/// Encodes rows of some columns, and decodes them.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use arrow::array::{ArrayRef, Int64Array};
/// use arrow::datatypes::{DataType, Field, Schema};
/// use tidemill::state::RowCodec;
///
/// let codec = RowCodec::new(Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])))?;
/// let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
/// let encoded = codec.encode(&[column.clone()], 2)?;
/// let decoded = codec.decode([encoded.row(0), encoded.row(1)].into_iter())?;
/// assert_eq!(decoded.column(0), &column);
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
#[derive(Debug)]
pub struct RowCodec {
    schema: SchemaRef,
    /// `None`: there are no columns, and a row is no bytes.
    converter: Option<RowConverter>,
}

/// Some rows, encoded.
#[derive(Debug)]
pub struct EncodedRows {
    rows: Option<Rows>,
    n_rows: usize,
}

impl EncodedRows {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// The bytes of a row.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, index: usize) -> &[u8] {
        match &self.rows {
            Some(rows) => rows.row(index).data(),
            None => &[],
        }
    }

    /// The bytes of all rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.n_rows).map(|index| self.row(index))
    }
}

impl RowCodec {
    /// A codec of rows of this schema; columns of dictionaries and the like are those of their values.
    ///
    /// # Errors
    ///
    /// When a column's type cannot be encoded.
    pub fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let fields: Vec<_> =
            schema.fields().iter().map(|field| SortField::new(plain_type(field.data_type()).clone())).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        let plain_field = |field: &std::sync::Arc<arrow::datatypes::Field>| {
            field.as_ref().clone().with_data_type(plain_type(field.data_type()).clone())
        };
        let schema = Schema::new(schema.fields().iter().map(plain_field).collect::<Vec<_>>());
        Ok(Self { schema: std::sync::Arc::new(schema), converter })
    }

    /// The schema of what is decoded.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Encodes keys: as [`encode`](Self::encode), but floats that are equal as keys (0 and -0, any NaN) have equal bytes.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_keys(&self, columns: &[ArrayRef], n_rows: usize) -> Result<EncodedRows, ArrowError> {
        let canonical = |column: &ArrayRef| canonical_floats(&plain(column)?);
        self.encode(&columns.iter().map(canonical).collect::<Result<Vec<_>, ArrowError>>()?, n_rows)
    }

    /// Encodes rows.
    ///
    /// # Errors
    ///
    /// When the columns are not those of the schema.
    pub fn encode(&self, columns: &[ArrayRef], n_rows: usize) -> Result<EncodedRows, ArrowError> {
        let Some(converter) = &self.converter else { return Ok(EncodedRows { rows: None, n_rows }) };
        let columns = columns.iter().map(plain).collect::<Result<Vec<_>, ArrowError>>()?;
        Ok(EncodedRows { rows: Some(converter.convert_columns(&columns)?), n_rows })
    }

    /// Decodes rows that a codec of the same schema has encoded.
    ///
    /// # Errors
    ///
    /// When a column outgrows what its type can hold.
    ///
    /// # Panics
    ///
    /// When the bytes are not such rows.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<RecordBatch, ArrowError> {
        let mut n_rows = 0;
        let counted = rows.inspect(|_| n_rows += 1);
        let columns = match &self.converter {
            Some(converter) => {
                let parser = converter.parser();
                converter.convert_rows(counted.map(|row| parser.parse(row)))?
            }
            None => {
                counted.for_each(drop);
                Vec::new()
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        // What is null although its field says otherwise is an error here, as everywhere.
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}
