//! Deals rows out to folders by their values, as Hive does: `day=2026-11-22/city=Oslo`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::csv::{as_text, is_flat};
use super::names::{NAME_BYTES_MAX, folder_name};
use crate::error::Error;
use crate::job::nearest::suggest;
use crate::plan::describe_type;
use crate::sink::SinkError;

/// Which columns are in the names of folders, and which in the files.
#[derive(Debug)]
pub(super) struct Layout {
    /// Columns in names, in the order of the folders, with where they stand.
    by: Vec<(String, usize)>,
    /// Where the columns of the files stand.
    kept: Vec<usize>,
    /// The schema of the files.
    pub(super) schema: SchemaRef,
}

impl Layout {
    /// Puts columns of a schema into names.
    ///
    /// # Errors
    ///
    /// Which cannot be there.
    pub(super) fn new(schema: &SchemaRef, by: &[String]) -> Result<Self, Error> {
        let mistake = |message: String, hint: Option<String>| SinkError::Option { message, hint };
        let mut columns: Vec<(String, usize)> = Vec::new();
        for name in by {
            let Ok(index) = schema.index_of(name) else {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let hint = suggest(name, "columns", names);
                return Err(mistake(format!("`partition-by` names `{name}`, and there is no such column"), hint).into());
            };
            if columns.iter().any(|(_, other)| *other == index) {
                return Err(mistake(format!("`partition-by` names `{name}` twice"), None).into());
            }
            let data_type = schema.field(index).data_type();
            if !is_flat(data_type) {
                let message =
                    format!("column `{name}` is {}, and cannot be in the name of a folder", describe_type(data_type));
                return Err(mistake(message, Some("Name columns of one value each in `partition-by`.".into())).into());
            }
            columns.push((name.clone(), index));
        }
        let kept: Vec<usize> =
            (0..schema.fields().len()).filter(|index| !columns.iter().any(|(_, by)| by == index)).collect();
        if kept.is_empty() && !by.is_empty() {
            let hint = Some("Columns that are in the names of folders are not in the files.".into());
            return Err(mistake("`partition-by` names all columns, and none is left for the files".into(), hint).into());
        }
        let fields: Vec<_> = kept.iter().map(|&index| schema.field(index).clone()).collect();
        let of_files = if by.is_empty() { schema.clone() } else { Arc::new(Schema::new(fields)) };
        Ok(Self { by: columns, kept, schema: of_files })
    }

    /// Rows by the folder that they belong into, in the order of its first row; in a folder they stay in theirs.
    ///
    /// # Errors
    ///
    /// A value that is too long for a name.
    pub(super) fn split(&self, rows: &RecordBatch) -> Result<Vec<(String, RecordBatch)>, Error> {
        if self.by.is_empty() {
            return Ok(vec![(String::new(), rows.clone())]);
        }
        let format = |source| SinkError::Format { format: "names of folders", source };
        let groups = self.groups(rows).map_err(format)?;
        let files = rows.project(&self.kept).map_err(format)?;
        let mut split = Vec::with_capacity(groups.len());
        for group in groups {
            let folder = self.folder(rows, group[0] as usize)?;
            let of_group = if group.len() == rows.num_rows() {
                files.clone()
            } else {
                take_record_batch(&files, &UInt32Array::from(group)).map_err(format)?
            };
            split.push((folder, of_group));
        }
        Ok(split)
    }

    /// The rows that are equal in the columns of names.
    fn groups(&self, rows: &RecordBatch) -> Result<Vec<Vec<u32>>, ArrowError> {
        let columns: Vec<_> = self.by.iter().map(|(_, index)| rows.column(*index).clone()).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let keys = RowConverter::new(fields)?.convert_columns(&columns)?;
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut of_key: HashMap<&[u8], usize> = HashMap::new();
        for (row, key) in (0_u32..).zip(keys.iter()) {
            let group = *of_key.entry(key.data()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(row);
        }
        Ok(groups)
    }

    fn folder(&self, rows: &RecordBatch, row: usize) -> Result<String, Error> {
        let mut names = Vec::with_capacity(self.by.len());
        for (name, index) in &self.by {
            let format = |source| SinkError::Format { format: "names of folders", source };
            let value = as_text(&rows.column(*index).slice(row, 1)).map_err(format)?;
            let text = if value.is_null(0) {
                None
            } else {
                let formatter = ArrayFormatter::try_new(&value, &FormatOptions::new()).map_err(format)?;
                Some(formatter.value(0).try_to_string().map_err(format)?)
            };
            let folder = folder_name(name, text.as_deref());
            if folder.len() > NAME_BYTES_MAX {
                return Err(SinkError::LongValue { column: name.clone(), name_bytes: folder.len() }.into());
            }
            names.push(folder);
        }
        Ok(names.join("/"))
    }
}
