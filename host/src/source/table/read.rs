//! Reads the files of a table, whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::files::Fingerprint;
use super::{TableFormat, TableSource};
use crate::error::{Explain, Fault};
use crate::source::lines::text_schema;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8_192;

/// Lines that are looked at to tell the types of columns.
const INFERRED_LINES_MAX: usize = 1_000;

/// The bytes an Arrow file starts with; a stream starts otherwise.
const ARROW_FILE_MAGIC: &[u8] = b"ARROW1";

/// A table could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Its files could not be found.
    #[error("`{path}` cannot be looked at")]
    List {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// There is no file that could tell the columns.
    #[error("`{path}` has no files, so that its columns are not known")]
    NoFiles {
        /// Its path.
        path: PathBuf,
    },
    /// A file is not what the table says it is.
    #[error("`{path}` cannot be read as a table")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ArrowError,
    },
}

impl Explain for TableError {
    fn fault(&self) -> Fault {
        match self {
            TableError::List { .. } | TableError::NoFiles { .. } => Fault::External,
            TableError::Read { .. } => Fault::User,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            TableError::List { .. } => {
                Some("Check `path`: it is a file, a directory, or a pattern as in `data/*.csv`.".into())
            }
            TableError::NoFiles { .. } => Some("Write `schema = { id = \"int64\" }`, or have a file there.".into()),
            TableError::Read { .. } => {
                Some("Check `format` and `schema`. Whoever writes the file should move it in when it is whole.".into())
            }
        }
    }
}

/// The columns of a table: those that it says, or those of its first file. Columns may be null.
pub(super) fn schema(table: &TableSource) -> Result<SchemaRef, TableError> {
    match (&table.schema, table.format) {
        (Some(schema), _) => Ok(schema.clone()),
        (None, TableFormat::Text) => Ok(text_schema()),
        (None, format) => {
            let files = Fingerprint::look(&table.path)?;
            let first = files.0.first().ok_or_else(|| TableError::NoFiles { path: table.path.clone() })?;
            let path = &first.path;
            let schema = infer(path, format).map_err(|source| TableError::Read { path: path.clone(), source })?;
            let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
        }
    }
}

fn infer(path: &Path, format: TableFormat) -> Result<Schema, ArrowError> {
    let file = File::open(path)?;
    match format {
        TableFormat::Csv => csv_schema(file),
        TableFormat::Json => {
            Ok(arrow::json::reader::infer_json_schema(BufReader::new(file), Some(INFERRED_LINES_MAX))?.0)
        }
        TableFormat::Parquet => Ok(ParquetRecordBatchReaderBuilder::try_new(file)?.schema().as_ref().clone()),
        TableFormat::Arrow => Ok(arrow_batches(file)?.0.as_ref().clone()),
        TableFormat::Text => Ok(text_schema().as_ref().clone()),
    }
}

/// The rows of all files, with the columns of `schema`.
pub(super) fn read(
    table: &TableSource,
    schema: &SchemaRef,
    files: &Fingerprint,
) -> Result<Vec<RecordBatch>, TableError> {
    let mut all = Vec::new();
    for file in &files.0 {
        let rows = read_file(&file.path, table, schema);
        all.extend(rows.map_err(|source| TableError::Read { path: file.path.clone(), source })?);
    }
    Ok(all)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

fn read_file(path: &Path, table: &TableSource, schema: &SchemaRef) -> Result<Vec<RecordBatch>, ArrowError> {
    let file = File::open(path)?;
    let batches: Batches = match table.format {
        TableFormat::Csv => {
            let Some(columns) = csv_columns(&file, schema)? else { return Ok(Vec::new()) };
            let reader = arrow::csv::ReaderBuilder::new(columns).with_header(true).with_batch_size(BATCH_ROWS);
            Box::new(reader.build(file)?)
        }
        TableFormat::Json => {
            let reader = arrow::json::ReaderBuilder::new(schema.clone()).with_batch_size(BATCH_ROWS);
            Box::new(reader.build(BufReader::new(file))?)
        }
        TableFormat::Parquet => {
            Box::new(ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(BATCH_ROWS).build()?)
        }
        TableFormat::Arrow => arrow_batches(file)?.1,
        TableFormat::Text => {
            let lines = BufReader::new(file).lines().collect::<Result<Vec<_>, _>>()?;
            let chunks = lines
                .chunks(BATCH_ROWS)
                .map(|lines| RecordBatch::try_new(text_schema(), vec![Arc::new(StringArray::from_iter_values(lines))]));
            Box::new(chunks.collect::<Vec<_>>().into_iter())
        }
    };
    batches
        .map(|rows| conform(&rows?, schema))
        .filter(|rows| rows.as_ref().map_or(true, |rows| rows.num_rows() > 0))
        .collect()
}

/// The rows of an Arrow file or stream.
fn arrow_batches(mut file: File) -> Result<(SchemaRef, Batches), ArrowError> {
    let mut start = Vec::new();
    file.by_ref().take(ARROW_FILE_MAGIC.len() as u64).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    if start == ARROW_FILE_MAGIC {
        let reader = arrow::ipc::reader::FileReader::try_new(BufReader::new(file), None)?;
        return Ok((reader.schema(), Box::new(reader)));
    }
    let reader = arrow::ipc::reader::StreamReader::try_new(BufReader::new(file), None)?;
    Ok((reader.schema(), Box::new(reader)))
}

/// The columns of a CSV file as its records show them.
fn csv_schema(file: File) -> Result<Schema, ArrowError> {
    let format = arrow::csv::reader::Format::default().with_header(true);
    Ok(format.infer_schema(BufReader::new(file), Some(INFERRED_LINES_MAX))?.0)
}

/// The columns in the order of the file's first line, with the types that they are to have; `None`: the file is empty.
fn csv_columns(file: &File, schema: &SchemaRef) -> Result<Option<SchemaRef>, ArrowError> {
    let named = csv_schema(file.try_clone()?)?;
    let mut rewound = file;
    rewound.seek(SeekFrom::Start(0))?;
    if named.fields().is_empty() {
        return Ok(None);
    }
    let typed = named.fields().iter().map(|field| match schema.column_with_name(field.name()) {
        Some((_, wanted)) => wanted.clone(),
        // Not asked for: any text will do.
        None => Field::new(field.name(), DataType::Utf8, true),
    });
    Ok(Some(Arc::new(Schema::new(typed.collect::<Vec<_>>()))))
}

/// The columns of `schema` out of some rows, converted where they have other types.
fn conform(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| {
        let column = rows.column_by_name(field.name()).ok_or_else(|| {
            let names: Vec<String> = rows.schema().fields().iter().map(|field| format!("`{}`", field.name())).collect();
            ArrowError::SchemaError(format!("there is no column `{}`, only {}", field.name(), names.join(", ")))
        })?;
        if column.data_type() == field.data_type() {
            return Ok(column.clone());
        }
        // A value that does not fit is an error, not null.
        cast_with_options(column, field.data_type(), &CastOptions { safe: false, ..CastOptions::default() })
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_, ArrowError>>()?, &options)
}
