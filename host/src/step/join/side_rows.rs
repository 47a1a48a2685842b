//! The rows of one side while they are joined: those that came, and those that state has kept.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

use crate::state::{EncodedRows, RowCodec};
use crate::step::chunks::batch_bytes;

/// One row of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowRef {
    /// A row that came in this batch.
    New {
        /// Which push.
        batch: u32,
        /// Which row of it.
        row: u32,
    },
    /// A row from state, by its number among those loaded.
    Kept(u32),
    /// No row: all columns are null.
    Nothing,
}

/// Where an encoded row lies.
#[derive(Debug, Clone, Copy)]
struct Encoded {
    value: u32,
    start: u32,
    end: u32,
}

/// The rows of one side.
#[derive(Debug)]
pub(crate) struct SideRows {
    schema: SchemaRef,
    nulls: Vec<ArrayRef>,
    batches: Vec<RecordBatch>,
    /// The bytes of each row of each batch.
    widths: Vec<Arc<[u32]>>,
    codec: Option<Arc<RowCodec>>,
    /// The rows of each batch as state keeps them, when one of them is kept.
    encoded: Vec<Option<EncodedRows>>,
    /// Values of state, and the rows within them.
    values: Vec<Vec<u8>>,
    kept: Vec<Encoded>,
    kept_bytes: usize,
}

/// Rows that were picked out of a side, in some order.
pub(crate) struct Picked<'a> {
    rows: &'a SideRows,
    decoded: Option<RecordBatch>,
    places: Vec<(usize, usize)>,
}

impl SideRows {
    /// A side whose rows have this schema; with a codec when some of them come from state.
    pub(crate) fn new(schema: SchemaRef, codec: Option<Arc<RowCodec>>) -> Self {
        let nulls = schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        Self {
            schema,
            nulls,
            batches: Vec::new(),
            widths: Vec::new(),
            codec,
            encoded: Vec::new(),
            values: Vec::new(),
            kept: Vec::new(),
            kept_bytes: 0,
        }
    }

    /// Adds rows that came.
    pub(crate) fn push(&mut self, rows: RecordBatch) {
        let widths = row_widths(&rows);
        self.push_measured(rows, widths);
    }

    /// Adds rows whose [widths](row_widths) are known.
    pub(crate) fn push_measured(&mut self, rows: RecordBatch, widths: Arc<[u32]>) {
        self.widths.push(widths);
        self.batches.push(rows);
        self.encoded.push(None);
    }

    /// What came, push by push.
    pub(crate) fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Forgets what came.
    pub(crate) fn clear(&mut self) {
        self.batches.clear();
        self.widths.clear();
        self.encoded.clear();
    }

    /// Takes in a value of state, in which rows lie.
    pub(crate) fn load(&mut self, value: Vec<u8>) -> u32 {
        self.kept_bytes += value.len();
        self.values.push(value);
        self.values.len() as u32 - 1
    }

    /// A row that lies in a loaded value.
    pub(crate) fn keep(&mut self, value: u32, start: usize, end: usize) -> RowRef {
        self.kept.push(Encoded { value, start: start as u32, end: end as u32 });
        RowRef::Kept(self.kept.len() as u32 - 1)
    }

    /// The bytes of a loaded value.
    pub(crate) fn value(&self, value: u32) -> &[u8] {
        &self.values[value as usize]
    }

    /// A row as state keeps it.
    ///
    /// # Errors
    ///
    /// When the rows cannot be encoded, which a plan has ruled out.
    pub(crate) fn bytes(&mut self, row: RowRef) -> Result<&[u8], ArrowError> {
        match (row, &self.codec) {
            (RowRef::Kept(kept), _) => Ok(self.encoded(kept)),
            (RowRef::New { batch, row }, Some(codec)) => {
                let rows = &self.batches[batch as usize];
                let encoded = match self.encoded[batch as usize].take() {
                    Some(encoded) => encoded,
                    None => codec.encode(rows.columns(), rows.num_rows())?,
                };
                Ok(self.encoded[batch as usize].insert(encoded).row(row as usize))
            }
            (RowRef::Nothing, _) | (_, None) => unreachable!("only rows of a side with state are kept"),
        }
    }

    /// The bytes of a row that was loaded.
    fn encoded(&self, kept: u32) -> &[u8] {
        let Encoded { value, start, end } = self.kept[kept as usize];
        &self.values[value as usize][start as usize..end as usize]
    }

    /// How many bytes of state are loaded.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Forgets what was loaded.
    pub(crate) fn unload(&mut self) {
        self.values.clear();
        self.kept.clear();
        self.kept_bytes = 0;
    }

    /// About the bytes of a row.
    pub(crate) fn width(&self, row: RowRef) -> usize {
        match row {
            RowRef::New { batch, row } => self.widths[batch as usize][row as usize] as usize,
            RowRef::Kept(kept) => self.encoded(kept).len(),
            RowRef::Nothing => 1,
        }
    }

    /// Picks rows.
    pub(crate) fn pick(&self, rows: &[RowRef]) -> Result<Picked<'_>, ArrowError> {
        let mut decode: Vec<u32> = rows
            .iter()
            .filter_map(|row| match row {
                RowRef::Kept(kept) => Some(*kept),
                RowRef::New { .. } | RowRef::Nothing => None,
            })
            .collect();
        decode.sort_unstable();
        decode.dedup();
        let decoded = match &self.codec {
            Some(codec) if !decode.is_empty() => Some(codec.decode(decode.iter().map(|&kept| self.encoded(kept)))?),
            _ => None,
        };
        let n_batches = self.batches.len();
        let places = rows.iter().map(|row| match *row {
            RowRef::New { batch, row } => (batch as usize, row as usize),
            RowRef::Kept(kept) => (n_batches, decode.partition_point(|&other| other < kept)),
            RowRef::Nothing => (n_batches + usize::from(decoded.is_some()), 0),
        });
        let places = places.collect();
        Ok(Picked { rows: self, decoded, places })
    }
}

impl Picked<'_> {
    /// A column of the rows, of this type.
    pub(crate) fn column(&self, index: usize) -> Result<ArrayRef, ArrowError> {
        let came = self.rows.batches.iter().map(|batch| batch.column(index).as_ref());
        let decoded = self.decoded.iter().map(|batch| batch.column(index).as_ref());
        let nothing = std::iter::once(self.rows.nulls[index].as_ref());
        debug_assert_eq!(self.rows.nulls[index].data_type(), self.rows.schema.field(index).data_type());
        let arrays: Vec<&dyn Array> = came.chain(decoded).chain(nothing).collect();
        interleave(&arrays, &self.places)
    }
}

/// About how many bytes each row has.
pub(crate) fn row_widths(rows: &RecordBatch) -> Arc<[u32]> {
    let n_rows = rows.num_rows();
    let mut widths = vec![0_u32; n_rows];
    let mut uniform = 1;
    let mut add = |lengths: &mut dyn Iterator<Item = usize>| {
        for (width, length) in widths.iter_mut().zip(lengths) {
            *width = width.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        }
    };
    for column in rows.columns() {
        match column.data_type() {
            DataType::Utf8 => add(&mut column.as_string::<i32>().offsets().lengths()),
            DataType::LargeUtf8 => add(&mut column.as_string::<i64>().offsets().lengths()),
            DataType::Binary => add(&mut column.as_binary::<i32>().offsets().lengths()),
            DataType::LargeBinary => add(&mut column.as_binary::<i64>().offsets().lengths()),
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                let item = mean_width(list.values());
                add(&mut list.offsets().lengths().map(|length| length * item));
            }
            _ => uniform += mean_width(column) as u32,
        }
    }
    widths.iter_mut().for_each(|width| *width = width.saturating_add(uniform));
    widths.into()
}

/// The bytes of a value of a column, on average.
fn mean_width(column: &ArrayRef) -> usize {
    let Ok(rows) = RecordBatch::try_from_iter([("", column.clone())]) else { return 0 };
    (batch_bytes(&rows) as usize).div_ceil(column.len().max(1))
}
