//! Rows to try an operator on: read as a job reads them, and put in other orders.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::compare::lines_of;
use crate::context::Context;
use crate::error::{Error, Internal};
use crate::job::{Job, Settings, Trigger};
use crate::plugin::Runtime;
use crate::sink::Collect;
use crate::source::{BadRows, FileSource, SourceDefinition};

/// Reads the rows of files: those of each file for themselves when `by_file`, or else all in one.
///
/// # Errors
///
/// What a job that reads them fails with: a file that is not there, a line that is no row.
pub(crate) fn read_rows(
    source: &FileSource,
    by_file: bool,
    runtime: &Runtime,
) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
    let files_per_batch_max = by_file.then_some(1);
    // Rows that a job would pass over are mistakes in what it is tested with.
    let source = FileSource { files_per_batch_max, bad_rows: BadRows::Fail, ..source.clone() };
    let settings = Settings { trigger: Trigger::AvailableNow, ..Settings::default() };
    let context = Context::from_job(Job { settings, ..Job::default() }, runtime.clone());
    let collect = Collect::new();
    let schema = source.schema()?;
    context.source("rows", Arc::new(source)).sink(Arc::new(collect.clone()));
    context.start()?.await_termination()?;
    let batches = collect.batches();
    let mut read = batches
        .iter()
        .map(|batch| concat(&schema, batch.rows.iter()))
        .filter(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0))
        .collect::<Result<Vec<_>, _>>()?;
    if !by_file {
        read = vec![concat(&schema, read.iter())?];
    }
    Ok((schema, read))
}

/// All rows in one batch.
///
/// # Errors
///
/// Never for batches of the schema.
pub(crate) fn concat<'a>(
    schema: &SchemaRef,
    batches: impl Iterator<Item = &'a RecordBatch>,
) -> Result<RecordBatch, Internal> {
    concat_batches(schema, batches).map_err(internal("putting rows together"))
}

fn internal(doing: &'static str) -> impl Fn(ArrowError) -> Internal {
    move |source| Internal { doing: doing.into(), source }
}

/// The key of each row, as text that is the same for equal keys.
pub(crate) fn keys_of(rows: &RecordBatch, by: &[String]) -> Vec<String> {
    let columns: Vec<_> = by.iter().filter_map(|name| rows.schema().index_of(name).ok()).collect();
    match rows.project(&columns) {
        Ok(keys) if !columns.is_empty() => lines_of([&keys]).iter().map(ToString::to_string).collect(),
        _ => vec![String::new(); rows.num_rows()],
    }
}

/// How many rows the key with the most rows has.
pub(crate) fn largest_group(rows: &RecordBatch, by: &[String]) -> usize {
    let mut sizes: HashMap<String, usize> = HashMap::new();
    keys_of(rows, by).into_iter().for_each(|key| *sizes.entry(key).or_default() += 1);
    sizes.into_values().max().unwrap_or(0)
}

/// The same rows in another order, in which those of a key keep theirs: no role promises more than that.
///
/// # Errors
///
/// Never for rows that are valid.
pub(crate) fn shuffle_between_keys(rows: &RecordBatch, by: &[String]) -> Result<RecordBatch, Internal> {
    let keys = keys_of(rows, by);
    // Which key comes when, in an order that looks like none and is always the same.
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&index| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut of_key: HashMap<&str, std::vec::IntoIter<u32>> = HashMap::new();
    let mut rows_of: HashMap<&str, Vec<u32>> = HashMap::new();
    for (index, key) in keys.iter().enumerate() {
        rows_of.entry(key).or_default().push(index as u32);
    }
    for (key, rows) in rows_of {
        of_key.insert(key, rows.into_iter());
    }
    let places = order.iter().filter_map(|&index| of_key.get_mut(keys[index].as_str())?.next());
    let places = UInt32Array::from_iter_values(places);
    take_record_batch(rows, &places).map_err(internal("putting rows in another order"))
}

/// The same rows with nulls alone in a column.
///
/// # Errors
///
/// Never for a column that may be null.
pub(crate) fn one_column_null(rows: &RecordBatch, column: usize) -> Result<RecordBatch, Internal> {
    let mut columns: Vec<Arc<dyn Array>> = rows.columns().to_vec();
    columns[column] = new_null_array(rows.schema().field(column).data_type(), rows.num_rows());
    RecordBatch::try_new(rows.schema(), columns).map_err(internal("making a column null"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn rows() -> RecordBatch {
        let fields = vec![Field::new("key", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
        let keys = StringArray::from_iter((0..20).map(|n| [Some("a"), Some("b"), None, Some("b")][n % 4]));
        let numbers = Int64Array::from_iter_values(0..20);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(keys), Arc::new(numbers)]).expect("rows")
    }

    #[test]
    fn rows_of_a_key_keep_their_order_when_keys_are_shuffled() {
        let (rows, by) = (rows(), vec!["key".to_owned()]);
        let shuffled = shuffle_between_keys(&rows, &by).expect("they are valid");
        assert_ne!(shuffled, rows);
        let of = |rows: &RecordBatch, key: &str| {
            let keys = keys_of(rows, &by);
            let lines = lines_of([rows]);
            let of_key = keys.iter().zip(lines).filter(|(found, _)| *found == key);
            of_key.map(|(_, line)| line.to_string()).collect::<Vec<_>>()
        };
        for key in keys_of(&rows, &by) {
            assert_eq!(of(&shuffled, &key), of(&rows, &key));
        }
        assert_eq!(largest_group(&rows, &by), 10);
    }

    #[test]
    fn a_column_is_made_null() {
        let rows = one_column_null(&rows(), 1).expect("it may be null");
        assert_eq!((rows.column(1).null_count(), rows.column(0).null_count()), (20, 5));
    }
}
