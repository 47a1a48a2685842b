//! Partials as state holds them: keys and values as bytes, beside numbers that say of which window they are.
//!
//! ```text
//!  a partial:   labels (0, 1 or 2 numbers) │ keys  │ values
//!  in state:    the slot, or in the value  │ bytes │ bytes
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::error::Error;
use crate::state::{EncodedRows, Placement, RowCodec, StateError, StateTable, row_of};
use crate::step::keyed::{KeyedStep, batch_of, internal};
use crate::step::partials::PartialOps;

/// What is done with an entry: slot, key, value.
pub(crate) type VisitEntry<'a> = dyn FnMut(i64, &[u8], &[u8]) -> Result<(), Error> + 'a;

/// Rows that are made of bytes, merged and given on at once.
pub(crate) const ROWS_AT_ONCE: usize = 65_536;

/// Which window a partial is of: a start, or the first and last time of a session. What is not there is 0.
pub(crate) type Label = (i64, i64);

/// Partials as bytes.
#[derive(Debug, Default)]
pub(crate) struct ByteRows {
    labels: Vec<Label>,
    /// Where each key and each value ends.
    ends: Vec<(usize, usize)>,
    bytes: Vec<u8>,
}

impl ByteRows {
    pub(crate) fn push(&mut self, label: Label, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.labels.push(label);
        self.ends.push((key_end, self.bytes.len()));
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.labels.clear();
        self.ends.clear();
        self.bytes.clear();
    }

    fn start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before].1)
    }

    pub(crate) fn key(&self, row: usize) -> &[u8] {
        &self.bytes[self.start(row)..self.ends[row].0]
    }

    fn value(&self, row: usize) -> &[u8] {
        let (key_end, end) = self.ends[row];
        &self.bytes[key_end..end]
    }
}

/// Partials of a keyed step whose first keys are labels, to bytes and back.
#[derive(Debug)]
pub(crate) struct PartialCodec {
    step: String,
    schema: SchemaRef,
    n_labels: usize,
    n_keys: usize,
    keys: Arc<RowCodec>,
    values: Arc<RowCodec>,
}

impl PartialCodec {
    /// Of a step whose first `n_labels` keys are labels, numbers of type int64.
    pub(crate) fn new(step: &str, keyed: &dyn KeyedStep, n_labels: usize) -> Result<Self, ArrowError> {
        let schema = keyed.partial_schema();
        let n_keys = keyed.partial_key_columns().len() - n_labels;
        let fields = schema.fields();
        let part = |range: std::ops::Range<usize>| RowCodec::new(Arc::new(Schema::new(fields[range].to_vec())));
        let keys = Arc::new(part(n_labels..n_labels + n_keys)?);
        let values = Arc::new(part(n_labels + n_keys..fields.len())?);
        Ok(Self { step: step.to_owned(), schema, n_labels, n_keys, keys, values })
    }

    fn internal(&self) -> impl FnOnce(ArrowError) -> Error {
        internal(format!("encoding what step `{}` keeps", self.step))
    }

    /// A table of something by key.
    pub(crate) fn by_key(&self) -> Placement {
        Placement::Key(self.keys.clone())
    }

    /// What shows partials.
    pub(crate) fn shows(&self) -> impl Fn(&[u8]) -> Option<serde_json::Value> + Send + Sync + 'static {
        let values = self.values.clone();
        move |value| row_of(&values, value)
    }

    /// The keys of partials, without labels.
    pub(crate) fn keys_of(&self, partials: &RecordBatch) -> Result<EncodedRows, Error> {
        let columns = &partials.columns()[self.n_labels..self.n_labels + self.n_keys];
        self.keys.encode_keys(columns, partials.num_rows()).map_err(self.internal())
    }

    /// Keys that stand alone.
    pub(crate) fn encode_keys(&self, columns: &[ArrayRef], n_rows: usize) -> Result<EncodedRows, Error> {
        self.keys.encode_keys(columns, n_rows).map_err(self.internal())
    }

    /// The values of partials.
    pub(crate) fn values_of(&self, partials: &RecordBatch) -> Result<EncodedRows, Error> {
        let columns = &partials.columns()[self.n_labels + self.n_keys..];
        self.values.encode(columns, partials.num_rows()).map_err(self.internal())
    }

    /// The labels of partials.
    pub(crate) fn labels_of(&self, partials: &RecordBatch) -> Vec<Label> {
        let column = |index: usize| partials.column(index).as_primitive::<Int64Type>().values();
        match self.n_labels {
            0 => vec![(0, 0); partials.num_rows()],
            1 => column(0).iter().map(|&first| (first, 0)).collect(),
            _ => column(0).iter().copied().zip(column(1).iter().copied()).collect(),
        }
    }

    /// Bytes back to partials.
    pub(crate) fn decode(&self, rows: &ByteRows) -> Result<RecordBatch, Error> {
        let n_rows = rows.len();
        let decoded = || {
            let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
            if self.n_labels > 0 {
                columns.push(Arc::new(rows.labels.iter().map(|label| label.0).collect::<Int64Array>()));
            }
            if self.n_labels > 1 {
                columns.push(Arc::new(rows.labels.iter().map(|label| label.1).collect::<Int64Array>()));
            }
            columns.extend_from_slice(self.keys.decode((0..n_rows).map(|row| rows.key(row)))?.columns());
            columns.extend_from_slice(self.values.decode((0..n_rows).map(|row| rows.value(row)))?.columns());
            batch_of(self.schema.clone(), columns, n_rows)
        };
        decoded().map_err(internal(format!("decoding what step `{}` keeps", self.step)))
    }
}

/// What a batch brings of some slots and keys, merged with what state has of them.
pub(crate) struct Met {
    /// Slot and key of each, and their values, in the order of `fresh`.
    pub(crate) labels: Vec<Label>,
    pub(crate) keys: EncodedRows,
    values: EncodedRows,
    /// The row in `merged` and `values` of each.
    place: Vec<u32>,
    /// Whether state has had each before.
    pub(crate) was_there: Vec<bool>,
    /// The partials, in an order of their own.
    pub(crate) merged: RecordBatch,
}

impl Met {
    /// Merges partials, one of a slot and key, into those that a table holds. `old` reads a row's old value from the table.
    pub(crate) fn new(
        codec: &PartialCodec,
        ops: &mut dyn PartialOps,
        fresh: RecordBatch,
        mut old: impl FnMut(Label, &[u8], &mut dyn FnMut(&[u8])) -> Result<(), StateError>,
    ) -> Result<Self, Error> {
        let labels = codec.labels_of(&fresh);
        let keys = codec.keys_of(&fresh)?;
        let mut found = ByteRows::default();
        let mut place = Vec::with_capacity(labels.len());
        let mut was_there = Vec::with_capacity(labels.len());
        for (row, &label) in labels.iter().enumerate() {
            let n_before = found.len();
            let key = keys.row(row);
            old(label, key, &mut |value| found.push(label, key, value))?;
            was_there.push(found.len() > n_before);
            place.push(n_before as u32);
        }
        let merged = if found.is_empty() {
            place.iter_mut().enumerate().for_each(|(row, place)| *place = row as u32);
            fresh
        } else {
            // Keys come out in the order in which they first appear: those that were there, then the new ones.
            let new = place.iter_mut().zip(&was_there).filter(|(_, was_there)| !**was_there);
            (found.len() as u32..).zip(new).for_each(|(number, (place, _))| *place = number);
            ops.merge(&[codec.decode(&found)?, fresh])?
        };
        debug_assert_eq!(merged.num_rows(), labels.len(), "one partial a key");
        let values = codec.values_of(&merged)?;
        Ok(Self { labels, keys, values, place, was_there, merged })
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The value of a row from now on.
    pub(crate) fn value(&self, row: usize) -> &[u8] {
        self.values.row(self.place[row] as usize)
    }
}

/// [`Met`] rows in the order of slots and keys, seen together with the table that they will be part of.
pub(crate) struct Overlay<'a> {
    table: &'a dyn StateTable,
    met: &'a Met,
    /// Rows of `met` by slot, then key.
    order: Vec<u32>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(table: &'a dyn StateTable, met: &'a Met) -> Self {
        let mut order: Vec<u32> = (0..met.len() as u32).collect();
        order.sort_unstable_by_key(|&row| (met.labels[row as usize].0, met.keys.row(row as usize)));
        Self { table, met, order }
    }

    /// The rows of `met` whose slot is at least this, by their place in the order.
    fn first_from(&self, slot: i64) -> usize {
        self.order.partition_point(|&row| self.met.labels[row as usize].0 < slot)
    }

    /// The rows of `met` from `slot` on, before `end`, in order.
    pub(crate) fn met_between(&self, slot: i64, end: i64) -> &[u32] {
        &self.order[self.first_from(slot)..self.first_from(end).max(self.first_from(slot))]
    }

    /// The first slot from `slot` on that has a row.
    pub(crate) fn next_slot(&self, slot: i64) -> Result<Option<i64>, Error> {
        let met = self.order.get(self.first_from(slot)).map(|&row| self.met.labels[row as usize].0);
        // The lowest is known without reading; others are looked for only where there are lower ones.
        let mut kept = self.table.first_slot()?;
        if kept.is_some_and(|first| first < slot) {
            kept = None;
            self.table.scan(slot..=i64::MAX, &mut |slot, _, _| {
                kept = Some(slot);
                Ok(false)
            })?;
        }
        Ok(met.into_iter().chain(kept).min())
    }

    /// The value at a slot and key.
    pub(crate) fn get(
        &self,
        slot: i64,
        key: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self.find(slot, key) {
            Some(row) => visit(self.met.value(row)),
            None => match self.table.get(slot, key)? {
                Some(value) => visit(&value),
                None => Ok(()),
            },
        }
    }

    /// The row of `met` at a slot and key.
    fn find(&self, slot: i64, key: &[u8]) -> Option<usize> {
        let at = |row: &u32| (self.met.labels[*row as usize].0, self.met.keys.row(*row as usize));
        let found = self.order.binary_search_by(|row| at(row).cmp(&(slot, key)));
        found.ok().map(|place| self.order[place] as usize)
    }

    /// Every row from slot `start` on and before `end`, slot by slot.
    pub(crate) fn scan(&self, start: i64, end: i64, visit: &mut VisitEntry<'_>) -> Result<(), Error> {
        if start >= end {
            return Ok(());
        }
        let between = self.met_between(start, end);
        let new = between.iter().map(|&row| row as usize).filter(|&row| !self.met.was_there[row]);
        let mut new = new.peekable();
        let slot_of = |row: usize| self.met.labels[row].0;
        let mut stopped = None;
        let mut each = |slot: i64, key: &[u8], value: &[u8]| {
            while let Some(row) = new.next_if(|&row| slot_of(row) < slot) {
                visit(slot_of(row), self.met.keys.row(row), self.met.value(row))?;
            }
            match self.find(slot, key) {
                Some(row) => visit(slot, key, self.met.value(row)),
                None => visit(slot, key, value),
            }
        };
        self.table.scan(start..=end - 1, &mut |slot, key, value| {
            Ok(each(slot, key, value).map_err(|error| stopped = Some(error)).is_ok())
        })?;
        if let Some(error) = stopped {
            return Err(error);
        }
        new.try_for_each(|row| visit(slot_of(row), self.met.keys.row(row), self.met.value(row)))
    }
}

/// Merges rows as they come, so that what waits stays in proportion to what comes out.
pub(crate) struct Merging<'a> {
    codec: &'a PartialCodec,
    waiting: ByteRows,
    merged: Option<RecordBatch>,
    /// How many rows of each key have come.
    counts: HashMap<Box<[u8]>, u32>,
}

impl<'a> Merging<'a> {
    pub(crate) fn new(codec: &'a PartialCodec) -> Self {
        Self { codec, waiting: ByteRows::default(), merged: None, counts: HashMap::new() }
    }

    /// Adds a row; the labels of all are to be one.
    pub(crate) fn push(&mut self, ops: &mut dyn PartialOps, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match self.counts.get_mut(key) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(key.into(), 1);
            }
        }
        self.waiting.push((0, 0), key, value);
        let n_merged = self.merged.as_ref().map_or(0, RecordBatch::num_rows);
        // A merge costs what has been merged before: it waits until as much has come, and stays linear.
        if self.waiting.len() >= ROWS_AT_ONCE.max(n_merged) { self.merge(ops) } else { Ok(()) }
    }

    fn merge(&mut self, ops: &mut dyn PartialOps) -> Result<(), Error> {
        if !self.waiting.is_empty() {
            let mut all: Vec<_> = self.merged.take().into_iter().collect();
            all.push(self.codec.decode(&self.waiting)?);
            self.waiting.clear();
            self.merged = Some(ops.merge(&all)?);
        }
        Ok(())
    }

    /// One partial a key, its key, and how many rows it is made of; `None` of no rows.
    pub(crate) fn finish(mut self, ops: &mut dyn PartialOps) -> Result<Option<Counted>, Error> {
        self.merge(ops)?;
        let Some(partials) = self.merged else { return Ok(None) };
        let keys = self.codec.keys_of(&partials)?;
        let counts = keys.iter().map(|key| self.counts.get(key).copied().unwrap_or(0)).collect();
        Ok(Some(Counted { partials, keys, counts }))
    }
}

/// Partials, one a key, and how many rows each is made of.
pub(crate) struct Counted {
    pub(crate) partials: RecordBatch,
    pub(crate) keys: EncodedRows,
    pub(crate) counts: Vec<u32>,
}
