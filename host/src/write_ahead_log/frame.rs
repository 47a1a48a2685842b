//! One push of rows as it stands in a segment: what it is, and the rows.
//!
//! ```text
//!  magic 4 │ source 4 │ rows 8 │ payload bytes 8 │ first row 8 │ on disk 8 │ checksum of the payload 8 │ of the header 8 │ payload
//! ```
//!
//! All numbers are little-endian. Both checksums are xxh3, 64 bits, seeded with the segment's name and the frame's position, so that a
//! frame that stands elsewhere is no frame. *On disk* is how far the segment was known to be on the disk when the frame was
//! appended: a frame that cannot be read and lies before that was damaged, one behind it may never have been written whole.

use std::io::{Cursor, Read};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::ipc::{CompressionType, MetadataVersion};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 56;

/// What every frame starts with.
pub(super) const MAGIC: [u8; 4] = *b"wal>";

/// Rows of fewer bytes are not compressed: the frame of LZ4 would take what it saves.
const COMPRESSED_BYTES_MIN: usize = 4 << 10;

/// What a frame says of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// The source, by its place in the segment's header.
    pub(super) source: u32,
    pub(super) n_rows: u64,
    pub(super) payload_bytes: u64,
    /// The number of the first row, among all of its source that were ever received.
    pub(super) first_row: u64,
    /// Bytes of the segment that were on the disk when the frame was appended.
    pub(super) synced_bytes: u64,
    pub(super) payload_sum: u64,
}

/// What the checksums of a frame start from.
pub(super) fn seed(segment: &str, position: u64) -> u64 {
    xxh3_64_with_seed(segment.as_bytes(), position)
}

/// The checksum of a payload, wherever its frame will stand.
pub(super) fn payload_sum(payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, 0)
}

impl FrameHeader {
    pub(super) fn encode(&self, seed: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.source.to_le_bytes());
        let numbers = [self.n_rows, self.payload_bytes, self.first_row, self.synced_bytes, self.payload_sum];
        for (place, number) in bytes[8..48].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = xxh3_64_with_seed(&bytes[..48], seed);
        bytes[48..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None`: it is no header of a frame, or not of one at this place.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], seed: u64) -> Option<Self> {
        let number = |at: usize| bytes[at..].first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        if bytes[..4] != MAGIC || number(48)? != xxh3_64_with_seed(&bytes[..48], seed) {
            return None;
        }
        let source = u32::from_le_bytes(*bytes[4..].first_chunk::<4>()?);
        Some(Self {
            source,
            n_rows: number(8)?,
            payload_bytes: number(16)?,
            first_row: number(24)?,
            synced_bytes: number(32)?,
            payload_sum: number(40)?,
        })
    }

    /// The number behind the last row.
    pub(super) fn end_row(&self) -> u64 {
        self.first_row.saturating_add(self.n_rows)
    }

    /// Bytes of the frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        self.payload_bytes.saturating_add(HEADER_BYTES as u64)
    }
}

/// Makes payloads of rows of one schema, and rows of payloads: Arrow's IPC stream without the message of the schema, which is the
/// same for all of them.
#[derive(Debug)]
pub(super) struct RowCodec {
    schema: SchemaRef,
    /// The message of the schema.
    start: Vec<u8>,
    plain: IpcWriteOptions,
    compressed: IpcWriteOptions,
}

impl RowCodec {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        // Padded to 8 bytes, not to 64: rows may come one by one.
        let plain = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
        let compressed = plain.clone().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut start = Vec::new();
        // What is written first is the schema; what `finish` would add is not wanted.
        StreamWriter::try_new_with_options(&mut start, schema, plain.clone())?.flush()?;
        Ok(Self { schema: schema.clone(), start, plain, compressed })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn encode(&self, rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let is_large = rows.get_array_memory_size() >= COMPRESSED_BYTES_MIN;
        let options = if is_large { &self.compressed } else { &self.plain };
        let bytes = Vec::with_capacity(self.start.len() + 512);
        let mut writer = StreamWriter::try_new_with_options(bytes, &self.schema, options.clone())?;
        writer.write(rows)?;
        let mut bytes = writer.into_inner()?;
        bytes.drain(..self.start.len());
        Ok(bytes)
    }

    pub(super) fn decode(&self, payload: &[u8]) -> Result<RecordBatch, ArrowError> {
        let bytes = Cursor::new(&self.start).chain(Cursor::new(payload));
        let mut reader = StreamReader::try_new(bytes, None)?;
        let rows = reader.next().ok_or_else(|| ArrowError::IpcError("there are no rows in it".into()))??;
        rows.with_schema(self.schema.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn rows(texts: &[Option<String>]) -> RecordBatch {
        let fields = vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)];
        let numbers = Int64Array::from_iter_values(0..texts.len() as i64);
        let texts = StringArray::from_iter(texts.iter().cloned());
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(numbers), Arc::new(texts)])
            .expect("two columns")
    }

    #[test]
    fn a_row_takes_few_bytes() {
        let rows = rows(&[Some("one line".into())]);
        let payload = RowCodec::new(&rows.schema()).and_then(|codec| codec.encode(&rows)).expect("rows");
        assert!(payload.len() < 400, "{}", payload.len());
    }

    proptest! {
        #[test]
        fn rows_come_back(texts in proptest::collection::vec(proptest::option::of(".{0,40}"), 1..200)) {
            let rows = rows(&texts);
            let codec = RowCodec::new(&rows.schema()).expect("a schema");
            let payload = codec.encode(&rows).expect("rows");
            prop_assert_eq!(codec.decode(&payload).expect("as written"), rows.clone());
            // A part of larger arrays is written alone.
            let part = rows.slice(rows.num_rows() / 2, rows.num_rows() - rows.num_rows() / 2);
            prop_assert_eq!(codec.decode(&codec.encode(&part).expect("rows")).expect("as written"), part);
        }

        #[test]
        fn a_header_is_one_at_its_place_alone(
            source: u32, n_rows: u64, first_row: u64, synced_bytes: u64, payload in proptest::collection::vec(any::<u8>(), 0..50),
            position in 0..u64::MAX, bit in 0..HEADER_BYTES * 8,
        ) {
            let payload_bytes = payload.len() as u64;
            let header = FrameHeader { source, n_rows, payload_bytes, first_row, synced_bytes, payload_sum: payload_sum(&payload) };
            let bytes = header.encode(seed("wal/1", position));
            prop_assert_eq!(FrameHeader::decode(&bytes, seed("wal/1", position)), Some(header));
            prop_assert_eq!(FrameHeader::decode(&bytes, seed("wal/1", position + 1)), None);
            prop_assert_eq!(FrameHeader::decode(&bytes, seed("wal/2", position)), None);
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FrameHeader::decode(&changed, seed("wal/1", position)), None);
        }
    }
}
