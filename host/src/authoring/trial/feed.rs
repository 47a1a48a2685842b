//! A source that gives rows from memory, in the batches that it is told.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::clock::Stopwatch;
use crate::error::Error;
use crate::source::{BatchLimit, OffsetRange, OpenSource, PlannedRead, RangeReader, Replayable, SourceDefinition};

/// Rows, batch by batch; each is cut into as many neighbouring parts as the job has partitions.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    schema: SchemaRef,
    batches: Arc<Vec<RecordBatch>>,
    /// Gives its only batch again and again for so long.
    repeat: Option<Duration>,
}

impl Feed {
    /// These batches, once.
    pub(crate) fn new(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema: Arc::clone(schema), batches: Arc::new(batches), repeat: None }
    }

    /// This batch, again and again for so long.
    pub(crate) fn endless(rows: &RecordBatch, time: Duration) -> Self {
        Self { schema: rows.schema(), batches: Arc::new(vec![rows.clone()]), repeat: Some(time) }
    }

    /// Whether it is a matter of time when it ends.
    pub(crate) fn is_timed(&self) -> bool {
        self.repeat.is_some()
    }

    /// The schema of the rows.
    pub(crate) fn schema_of_rows(&self) -> &SchemaRef {
        &self.schema
    }
}

impl SourceDefinition for Feed {
    fn type_name(&self) -> &str {
        "memory"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(Arc::clone(&self.schema))
    }

    fn describe(&self) -> String {
        "rows in memory".into()
    }

    fn ends(&self) -> bool {
        true
    }

    fn is_pushed_to(&self) -> bool {
        false
    }

    fn open(&self) -> Result<OpenSource, Error> {
        Ok(OpenSource::Replayable(Box::new(Open { feed: self.clone(), next: 0, since: None })))
    }
}

struct Open {
    feed: Feed,
    /// How many batches have been planned.
    next: usize,
    /// Runs since the first one.
    since: Option<Stopwatch>,
}

impl Open {
    fn is_drained(&self) -> bool {
        match (self.feed.repeat, &self.since) {
            (None, _) => self.next >= self.feed.batches.len(),
            (Some(time), Some(since)) => since.elapsed() >= time,
            (Some(_), None) => false,
        }
    }
}

impl Replayable for Open {
    fn plan_batch(&mut self, limit: BatchLimit) -> Result<PlannedRead, Error> {
        if self.is_drained() {
            return Ok(PlannedRead { ranges: Vec::new(), drained: true });
        }
        self.since.get_or_insert_with(Stopwatch::start);
        let index = if self.feed.is_timed() { 0 } else { self.next };
        let n_rows = self.feed.batches[index].num_rows() as u64;
        let parts = u64::from(limit.partitions.max(1)).min(n_rows.max(1));
        let range = |part: u64| OffsetRange {
            object: index.to_string(),
            start: n_rows * part / parts,
            end: n_rows * (part + 1) / parts,
            // The same rows again are another object: none is read twice.
            identity: Some(self.next as u128),
        };
        let ranges = (0..parts).map(range).collect();
        self.next += 1;
        Ok(PlannedRead { ranges, drained: self.is_drained() })
    }

    fn reader(&self) -> Arc<dyn RangeReader> {
        Arc::new(Reader(Arc::clone(&self.feed.batches)))
    }

    fn has_ended(&self) -> bool {
        self.is_drained()
    }
}

struct Reader(Arc<Vec<RecordBatch>>);

impl RangeReader for Reader {
    fn read_range(
        &self,
        range: &OffsetRange,
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Ranges are those of `plan_batch`, whose numbers are of batches and rows that are there.
        let Some(rows) = range.object.parse().ok().and_then(|index: usize| self.0.get(index)) else { return Ok(()) };
        emit(rows.slice(range.start as usize, (range.end - range.start) as usize))
    }
}
