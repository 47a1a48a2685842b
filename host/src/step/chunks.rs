//! Cuts a partition into what one call of an operator gets.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
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
