//! Gives batches to the program: what Spark calls `foreachRDD` and `foreachBatch`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::error::SinkError;
use super::{PartitionWriter, Prepared, Sink, SinkBatch, SinkDefinition};
use crate::error::Error;
use crate::ids::{BatchId, PartitionId};

/// What is called with each batch and its rows.
type Call = dyn Fn(&SinkBatch, Vec<RecordBatch>) -> Result<(), Error> + Send + Sync;

/// Calls a function with the rows of each batch, once the whole batch has succeeded.
///
/// The function gets the rows ordered by partition, and is called for batches without rows too, on the scheduler's
/// thread: the next batch waits for it. It is called once a batch. When it fails the job fails.
///
/// # Examples
///
/// ```
/// use tidemill::sink::ForeachBatch;
///
/// let sink = ForeachBatch::new(|batch, rows| {
///     let n_rows: usize = rows.iter().map(|rows| rows.num_rows()).sum();
///     println!("batch {}: {n_rows} rows", batch.batch_id);
///     Ok(())
/// });
/// ```
#[derive(Clone)]
pub struct ForeachBatch(Arc<Call>);

impl ForeachBatch {
    /// A sink that calls `call`.
    pub fn new(call: impl Fn(&SinkBatch, Vec<RecordBatch>) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }
}

impl fmt::Debug for ForeachBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeachBatch")
    }
}

impl SinkDefinition for ForeachBatch {
    fn type_name(&self) -> &str {
        "foreach"
    }

    fn describe(&self) -> String {
        "a function of the program".into()
    }

    fn check(&self, _schema: &SchemaRef) -> Result<(), Error> {
        Ok(())
    }

    fn open(&self, _schema: &SchemaRef) -> Result<Arc<dyn Sink>, Error> {
        Ok(Arc::new(ForeachSink { call: Arc::clone(&self.0), last_published: Mutex::new(None) }))
    }
}

struct ForeachSink {
    call: Arc<Call>,
    /// The last batch the function was called with and did not fail. A mutex, held over the call, because publishing a
    /// batch twice must call it once.
    last_published: Mutex<Option<BatchId>>,
}

impl Sink for ForeachSink {
    fn writer(&self, _batch: &SinkBatch, partition: PartitionId) -> Result<Box<dyn PartitionWriter>, Error> {
        Ok(Box::new(ForeachWriter { partition, rows: Vec::new() }))
    }

    fn publish(&self, batch: &SinkBatch, mut parts: Vec<Prepared>) -> Result<(), Error> {
        let mut last_published = self.last_published.lock().unwrap_or_else(PoisonError::into_inner);
        if last_published.is_some_and(|last| batch.batch_id <= last) {
            return Ok(());
        }
        parts.sort_by_key(|part| part.partition);
        let mut rows = Vec::new();
        for part in parts {
            let part =
                part.payload.downcast::<Vec<RecordBatch>>().map_err(|_| SinkError::Foreign { sink: "foreach" })?;
            rows.extend(*part);
        }
        (self.call)(batch, rows)?;
        *last_published = Some(batch.batch_id);
        Ok(())
    }
}

struct ForeachWriter {
    partition: PartitionId,
    rows: Vec<RecordBatch>,
}

impl PartitionWriter for ForeachWriter {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if rows.num_rows() > 0 {
            self.rows.push(rows.clone());
        }
        Ok(())
    }

    fn prepare(self: Box<Self>) -> Result<Prepared, Error> {
        let n_rows = self.rows.iter().map(|rows| rows.num_rows() as u64).sum();
        Ok(Prepared { partition: self.partition, n_rows, payload: Box::new(self.rows) })
    }
}

/// Keeps all published batches in memory, for tests and small programs.
///
/// Clones share what they keep: give one to the job and keep another.
#[derive(Debug, Clone, Default)]
pub struct Collect {
    /// A mutex: it is taken once a batch.
    batches: Arc<Mutex<Vec<CollectedBatch>>>,
}

/// A batch that was published.
#[derive(Debug, Clone)]
pub struct CollectedBatch {
    /// Which.
    pub batch: SinkBatch,
    /// Its rows, ordered by partition.
    pub rows: Vec<RecordBatch>,
}

impl Collect {
    /// Nothing, so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What has been published so far, batches without rows too.
    #[must_use]
    pub fn batches(&self) -> Vec<CollectedBatch> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rows of all batches so far.
    #[must_use]
    pub fn rows(&self) -> Vec<RecordBatch> {
        self.batches().into_iter().flat_map(|batch| batch.rows).collect()
    }
}

impl SinkDefinition for Collect {
    fn type_name(&self) -> &str {
        "collect"
    }

    fn describe(&self) -> String {
        "memory of the program".into()
    }

    fn check(&self, _schema: &SchemaRef) -> Result<(), Error> {
        Ok(())
    }

    fn open(&self, schema: &SchemaRef) -> Result<Arc<dyn Sink>, Error> {
        let batches = Arc::clone(&self.batches);
        let collect = ForeachBatch::new(move |batch, rows| {
            let mut batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
            batches.push(CollectedBatch { batch: *batch, rows });
            Ok(())
        });
        collect.open(schema)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;
    use crate::error::Internal;

    fn rows(values: &[i64]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values.to_vec()))]).expect("of its schema")
    }

    fn batch(number: u64) -> SinkBatch {
        SinkBatch { batch_id: BatchId(number), batch_time_us: 0, is_repeated: false }
    }

    fn prepare(sink: &dyn Sink, number: u64, partition: u32, values: &[i64]) -> Prepared {
        let mut writer = sink.writer(&batch(number), PartitionId(partition)).expect("in memory");
        writer.write(&rows(values)).expect("in memory");
        writer.write(&rows(&[])).expect("in memory");
        writer.prepare().expect("in memory")
    }

    fn values(rows: &[RecordBatch]) -> Vec<i64> {
        rows.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn law_a_batch_is_shown_once_whole_and_in_order() {
        let collect = Collect::new();
        let sink = collect.open(&rows(&[]).schema()).expect("in memory");
        let parts = vec![prepare(&*sink, 0, 1, &[3, 4]), prepare(&*sink, 0, 0, &[1, 2])];
        drop(prepare(&*sink, 0, 2, &[99]));
        assert!(collect.batches().is_empty(), "nothing is visible before it is published");
        sink.publish(&batch(0), parts).expect("in memory");
        sink.publish(&batch(0), vec![prepare(&*sink, 0, 0, &[1, 2])]).expect("in memory");
        sink.publish(&batch(1), vec![]).expect("in memory");
        sink.publish(&batch(2), vec![prepare(&*sink, 2, 0, &[5])]).expect("in memory");
        let counts: Vec<_> = collect.batches().iter().map(|batch| (batch.batch.batch_id.0, batch.rows.len())).collect();
        assert_eq!(counts, [(0, 2), (1, 0), (2, 1)]);
        assert_eq!(values(&collect.rows()), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_call_that_failed_is_made_again() {
        let n_calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&n_calls);
        let definition = ForeachBatch::new(move |_, _| match counter.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Internal { doing: "failing".into(), source: arrow::error::ArrowError::DivideByZero }.into()),
            _ => Ok(()),
        });
        let sink = definition.open(&rows(&[]).schema()).expect("in memory");
        sink.publish(&batch(0), vec![]).expect_err("the first time");
        sink.publish(&batch(0), vec![]).expect("the second time");
        sink.publish(&batch(0), vec![]).expect("no third time");
        assert_eq!(n_calls.load(Ordering::Relaxed), 2);
    }
}
