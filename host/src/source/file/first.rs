//! Looks at the first file that is there when a job is checked: for the schema, or whether it has the declared columns.

use std::fs::File;

use arrow::datatypes::SchemaRef;

use super::columnar::{Columnar, Failure, read_schema};
use super::conform::{canonical, find_columns};
use super::listing::Place;
use super::read::{first_bytes, first_fields};
use super::{Columns, FileFormat, FileSource};
use crate::error::Error;
use crate::source::SourceError;
use crate::source::format::CsvColumns;
use crate::source::format::infer::{SAMPLE_BYTES_MAX, infer_csv, infer_json};

/// The first file of a source that is not empty, open, with its path.
fn first_file(source: &FileSource) -> Result<Option<(String, File)>, SourceError> {
    let listing = match Place::find(&source.path) {
        Ok(place) => place.list()?,
        // It may come until the job starts.
        Err(SourceError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(first) = listing.files.into_iter().find(|file| file.n_bytes > 0) else { return Ok(None) };
    let file = File::open(&first.path);
    let file = file.map_err(|error| SourceError::Read { what: format!("`{}`", first.path), source: error })?;
    Ok(Some((first.path, file)))
}

/// Finds the schema in the first file.
///
/// # Errors
///
/// When there is none yet, or it does not say the schema.
pub(super) fn infer(source: &FileSource) -> Result<SchemaRef, Error> {
    let no_schema = |reason| SourceError::NoSchema { path: source.path.clone(), reason };
    let Some((name, file)) = first_file(source)? else {
        return Err(no_schema("there is no file yet, or none with content".into()).into());
    };
    let of_first = |reason: String| no_schema(format!("`{name}`: {reason}"));
    let sample = || {
        first_bytes(&file, SAMPLE_BYTES_MAX)
            .map_err(|error| SourceError::Read { what: format!("`{name}`"), source: error })
    };
    let of_file = |format| match file_schema(format, &name, &file)? {
        Ok(schema) => Ok::<_, Error>(canonical(&schema).map_err(of_first)?),
        Err(reason) => Err(of_first(reason).into()),
    };
    let schema = match &source.format {
        FileFormat::Text => return Ok(crate::source::text_schema()),
        FileFormat::Json(_) => infer_json(&sample()?).map_err(of_first)?,
        FileFormat::Csv(_, options) => infer_csv(&sample()?, options, &source.lines).map_err(of_first)?,
        FileFormat::Parquet(_) => of_file(Columnar::Parquet)?,
        FileFormat::Arrow(_) => of_file(Columnar::Ipc)?,
    };
    Ok(schema)
}

/// The schema that a file has, or what is wrong with the file.
fn file_schema(format: Columnar, name: &str, file: &File) -> Result<Result<SchemaRef, String>, Error> {
    let file = file.try_clone().map_err(|source| SourceError::Read { what: format!("`{name}`"), source })?;
    match read_schema(format, name, file) {
        Ok(schema) => Ok(Ok(schema)),
        Err(Failure::File { reason, .. }) => Ok(Err(reason)),
        Err(Failure::Other(error)) => Err(error),
    }
}

/// Checks that the first file has the declared columns, so that a wrong schema is found before a row flows. A file that
/// is broken is for `on-error`, when it is read.
///
/// # Errors
///
/// Which column it has not.
pub(super) fn check(source: &FileSource, declared: &SchemaRef) -> Result<(), Error> {
    let by_name = match &source.format {
        FileFormat::Text | FileFormat::Json(_) => return Ok(()),
        FileFormat::Csv(_, options) if !options.header => return Ok(()),
        FileFormat::Csv(columns, _) | FileFormat::Parquet(columns) | FileFormat::Arrow(columns) => columns,
    };
    if !matches!(by_name, Columns::Declared(_)) {
        return Ok(());
    }
    // What is wrong with the path is told when the source is opened.
    let Ok(Some((name, file))) = first_file(source) else { return Ok(()) };
    let of_file = |format| match file_schema(format, &name, &file) {
        Ok(Ok(found)) => find_columns(&found, declared).map(|_| ()),
        _ => Ok(()),
    };
    let found = match &source.format {
        FileFormat::Csv(_, options) => match first_fields(&file, options, &source.lines) {
            Ok(Some(header)) => CsvColumns::find(declared, &header).map(|_| ()),
            _ => Ok(()),
        },
        FileFormat::Parquet(_) => of_file(Columnar::Parquet),
        FileFormat::Arrow(_) => of_file(Columnar::Ipc),
        FileFormat::Text | FileFormat::Json(_) => Ok(()),
    };
    found.map_err(|reason| SourceError::OtherColumns { object: name, reason }.into())
}
