//! Cuts a partition into what one call of an operator gets.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;

/// Small pushes are put together until they make this share of a full call; larger ones are calls as they are, so that
/// the usual case copies nothing.
const COALESCE_SHARE: u64 = 8;

/// Gathers pushes and cuts them into chunks of bounded rows and bytes.
///
/// How it cuts depends on the pushes alone, so a batch that is run again over the same pushes is cut alike.
#[derive(Debug)]
pub(crate) struct Chunks {
    schema: SchemaRef,
    rows_max: usize,
    bytes_max: u64,
    /// Whether everything is kept for one chunk at the end.
    whole: bool,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: u64,
}

impl Chunks {
    /// Cuts rows of `schema` into chunks of at most `rows_max` rows and, where a row is not larger, `bytes_max` bytes.
    pub(crate) fn new(schema: SchemaRef, rows_max: u32, bytes_max: u64, whole: bool) -> Self {
        assert!(rows_max > 0 && bytes_max > 0, "a chunk must have room for a row");
        Self {
            schema,
            rows_max: rows_max as usize,
            bytes_max,
            whole,
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
        }
    }

    /// Takes rows, and gives the chunks that are full.
    pub(crate) fn push(&mut self, rows: RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let bytes = batch_bytes(&rows);
        let mut full = Vec::new();
        let overflows =
            self.pending_rows + rows.num_rows() > self.rows_max || self.pending_bytes + bytes > self.bytes_max;
        if !self.whole && overflows {
            self.flush(&mut full)?;
        }
        self.pending_rows += rows.num_rows();
        self.pending_bytes += bytes;
        self.pending.push(rows);
        let enough = self.pending_rows as u64 * COALESCE_SHARE >= self.rows_max as u64
            || self.pending_bytes * COALESCE_SHARE >= self.bytes_max;
        if !self.whole && enough {
            self.flush(&mut full)?;
        }
        Ok(full)
    }

    /// Gives the rest.
    pub(crate) fn finish(&mut self) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut rest = Vec::new();
        self.flush(&mut rest)?;
        Ok(rest)
    }

    fn flush(&mut self, full: &mut Vec<RecordBatch>) -> Result<(), ArrowError> {
        let pending = std::mem::take(&mut self.pending);
        (self.pending_rows, self.pending_bytes) = (0, 0);
        let rows = match pending.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            several => concat_batches(&self.schema, several)?,
        };
        if self.whole {
            full.push(rows);
        } else {
            cut(rows, self.rows_max, self.bytes_max, full);
        }
        Ok(())
    }
}

/// Cuts rows into slices within the bounds; a row that is larger than `bytes_max` is a slice of its own.
fn cut(rows: RecordBatch, rows_max: usize, bytes_max: u64, slices: &mut Vec<RecordBatch>) {
    let mut start = 0;
    while start < rows.num_rows() {
        let left = rows.num_rows() - start;
        let mut n = left.min(rows_max);
        if batch_bytes(&rows.slice(start, n)) > bytes_max {
            // The largest n that fits, by halving: bytes grow with rows.
            let (mut fits, mut exceeds) = (0, n);
            while exceeds - fits > 1 {
                let middle = fits + (exceeds - fits) / 2;
                if batch_bytes(&rows.slice(start, middle)) <= bytes_max {
                    fits = middle;
                } else {
                    exceeds = middle;
                }
            }
            n = fits.max(1);
        }
        slices.push(rows.slice(start, n));
        start += n;
    }
}

/// Bytes of the rows themselves: of a slice, what it shows and not what it keeps alive.
pub(crate) fn batch_bytes(rows: &RecordBatch) -> u64 {
    let bytes = rows.columns().iter().map(|column| {
        let data = column.to_data();
        // Types without a sliced size (views) count what they keep alive: chunks come out smaller, never larger.
        data.get_slice_memory_size().unwrap_or_else(|_| data.get_buffer_memory_size())
    });
    bytes.sum::<usize>() as u64
}

/// Some pushes of one step as one batch; `None`: there are none.
///
/// What is united may be null in one push and not in another: it may be null in the batch then.
pub(crate) fn concat_pushes(pushes: &[RecordBatch]) -> Result<Option<RecordBatch>, ArrowError> {
    let Some((first, others)) = pushes.split_first() else { return Ok(None) };
    if others.is_empty() {
        return Ok(Some(first.clone()));
    }
    let mut schema = first.schema();
    if others.iter().any(|other| other.schema_ref() != &schema) {
        let fields = schema.fields().iter().enumerate().map(|(index, field)| {
            let is_nullable = pushes.iter().any(|rows| rows.schema_ref().field(index).is_nullable());
            field.as_ref().clone().with_nullable(is_nullable)
        });
        schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    }
    concat_batches(&schema, pushes).map(Some)
}

/// How many bytes any run of rows of a batch has: exactly for columns of one width and of text, by an equal share for each
/// row for others, whose slices do not tell.
pub(crate) struct RowBytes {
    /// Bytes of a row in columns without an end of their own.
    share: f64,
    /// Where each row ends in the data of the others.
    ends: Vec<Ends>,
}

enum Ends {
    Small(OffsetBuffer<i32>),
    Large(ScalarBuffer<i64>),
}

impl RowBytes {
    /// Of these rows.
    pub(crate) fn of(rows: &RecordBatch) -> Self {
        let mut bytes = Self { share: 0.0, ends: Vec::new() };
        let n_rows = rows.num_rows().max(1) as f64;
        for column in rows.columns() {
            match column.data_type() {
                DataType::Utf8 => bytes.ends.push(Ends::Small(column.as_string::<i32>().offsets().clone())),
                DataType::Binary => bytes.ends.push(Ends::Small(column.as_binary::<i32>().offsets().clone())),
                DataType::LargeUtf8 => {
                    bytes.ends.push(Ends::Large(column.as_string::<i64>().offsets().inner().clone()));
                }
                DataType::LargeBinary => {
                    bytes.ends.push(Ends::Large(column.as_binary::<i64>().offsets().inner().clone()));
                }
                _ => {
                    let data = column.to_data();
                    let n_bytes = data.get_slice_memory_size().unwrap_or_else(|_| data.get_buffer_memory_size());
                    bytes.share += n_bytes as f64 / n_rows;
                }
            }
        }
        bytes
    }

    /// Bytes of `n_rows` rows from `start` on.
    pub(crate) fn of_rows(&self, start: usize, n_rows: usize) -> u64 {
        let ends = self.ends.iter().map(|ends| match ends {
            Ends::Small(ends) => (ends[start + n_rows] - ends[start]) as u64 + 4 * n_rows as u64,
            Ends::Large(ends) => (ends[start + n_rows] - ends[start]) as u64 + 8 * n_rows as u64,
        });
        ends.sum::<u64>() + (self.share * n_rows as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, ListArray, StringArray};
    use arrow::datatypes::{Field, Int32Type};
    use proptest::prelude::*;

    use super::*;

    fn lines(texts: &[String]) -> RecordBatch {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        RecordBatch::try_from_iter([("value", column)]).expect("one column")
    }

    fn texts(rows: &RecordBatch) -> Vec<String> {
        let column = rows.column(0).as_any().downcast_ref::<StringArray>().expect("text");
        column.iter().map(|text| text.unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn pushes_of_united_inputs_may_be_null_where_one_may_be() {
        let numbers = |number: Option<i64>| {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![number]));
            RecordBatch::try_from_iter_with_nullable([("n", column, number.is_none())]).expect("one column")
        };
        let united = concat_pushes(&[numbers(Some(1)), numbers(None)]).expect("one type").expect("rows");
        assert!(united.schema().field(0).is_nullable() && united.column(0).null_count() == 1);
        assert!(concat_pushes(&[]).expect("nothing").is_none());
    }

    #[test]
    fn bytes_of_rows_are_their_own_and_add_up() {
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1); 100]),
            None,
            Some(vec![Some(2); 20]),
        ]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["", "tide", "a long word"]));
        let rows = RecordBatch::try_from_iter_with_nullable([("l", lists.clone(), true), ("t", texts.clone(), true)]);
        let rows = rows.expect("columns of one length").slice(1, 2);
        let bytes = RowBytes::of(&rows);
        let texts = RowBytes::of(&RecordBatch::try_from_iter([("t", texts)]).expect("one column").slice(1, 2));
        assert_eq!((texts.of_rows(0, 1), texts.of_rows(1, 1), texts.of_rows(0, 2)), (8, 15, 23));
        // A slice of lists counts all that it keeps alive, in equal shares.
        assert!(bytes.of_rows(0, 2) >= texts.of_rows(0, 2) + 20 * 4);
        assert!(bytes.of_rows(0, 1).abs_diff(bytes.of_rows(0, 2) / 2) < 10);
        assert_eq!(bytes.of_rows(1, 0), 0);
    }

    proptest! {
        #[test]
        fn chunks_lose_nothing_and_keep_order_and_bounds(
            pushes in proptest::collection::vec(proptest::collection::vec("[a-z]{0,20}", 0..40), 0..20),
            rows_max in 1u32..50,
            bytes_max in 1u64..500,
            whole in any::<bool>(),
        ) {
            let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false)]));
            let mut chunks = Chunks::new(schema, rows_max, bytes_max, whole);
            let mut out = Vec::new();
            for push in &pushes {
                out.extend(chunks.push(lines(push)).expect("same schema"));
            }
            out.extend(chunks.finish().expect("same schema"));

            let expected: Vec<String> = pushes.concat();
            prop_assert_eq!(out.iter().flat_map(texts).collect::<Vec<_>>(), expected.clone());
            if whole {
                prop_assert_eq!(out.len(), usize::from(!expected.is_empty()));
            } else {
                for chunk in &out {
                    prop_assert!(chunk.num_rows() <= rows_max as usize);
                    prop_assert!(batch_bytes(chunk) <= bytes_max || chunk.num_rows() == 1);
                }
            }
        }
    }
}
