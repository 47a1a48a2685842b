//! Files of CSV that a source of the same schema reads back.
//!
//! As arrow writes them, but for what is read otherwise: a duration is a number of microseconds.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::lines::LineFile;
use super::options::CsvSinkOptions;
use crate::error::Error;
use crate::plan::describe_type;
use crate::sink::SinkError;

/// A file of CSV.
pub(super) fn csv_file(file: File, options: &CsvSinkOptions) -> LineFile {
    let options = options.clone();
    let mut has_header = !options.header;
    let encode = move |rows: &RecordBatch, out: &mut Vec<u8>| {
        let builder = WriterBuilder::new()
            .with_delimiter(options.delimiter)
            .with_null(options.null_value.clone())
            .with_header(!has_header);
        builder.build(out).write(&with_texts(rows)?)?;
        has_header = true;
        Ok(())
    };
    LineFile::new(file, Box::new(encode))
}

/// Rows whose values arrow writes as sources read them.
fn with_texts(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !rows.columns().iter().any(|column| matches!(column.data_type(), DataType::Duration(_))) {
        return Ok(rows.clone());
    }
    let columns = rows.columns().iter().map(as_text).collect::<Result<Vec<_>, _>>()?;
    let fields = rows.schema_ref().fields().iter().zip(&columns);
    let fields = fields.map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)
}

/// A column of a type that arrow writes as it is read.
pub(super) fn as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Duration(_) => cast(&cast(column, &DataType::Duration(TimeUnit::Microsecond))?, &DataType::Int64),
        _ => Ok(Arc::clone(column)),
    }
}

/// Whether a column is one value a row.
pub(super) fn is_flat(data_type: &DataType) -> bool {
    !data_type.is_nested() && !matches!(data_type, DataType::Interval(_))
}

/// Whether CSV can be made of rows of this schema.
pub(super) fn check_csv(schema: &SchemaRef) -> Result<(), Error> {
    match schema.fields().iter().find(|field| !is_flat(field.data_type())) {
        None => Ok(()),
        Some(field) => {
            let reason =
                format!("column `{}` is {}, and a field has one value", field.name(), describe_type(field.data_type()));
            let hint = "Write `format = \"json\"` or `\"parquet\"`, leave the column out, or make a text of it.".into();
            Err(SinkError::Schema { format: "CSV", reason, hint }.into())
        }
    }
}
