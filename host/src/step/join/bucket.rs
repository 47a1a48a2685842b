//! The rows of one side, slot and key: as they stand in state, and as they are joined.
//!
//! In state a bucket is its rows in the order in which they came, each as
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | its time in microseconds, little-endian |
//! | 1 | 1 when it has matched something, where that counts |
//! | 4 | the length of the row, little-endian |
//! | … | the row, as [`RowCodec`](crate::state::RowCodec) writes it |

use std::sync::Arc;

use serde_json::json;

use super::side_rows::{RowRef, SideRows};
use crate::clock::describe_time;
use crate::state::{Placement, RowCodec, Slots, TableLayout, row_of};

/// The bytes before a row.
const HEADER_BYTES: usize = 13;

/// What is wrong with a bucket that cannot be read.
pub(crate) const BUCKET_DAMAGED: &str = "a bucket of joined rows ends within a row";

/// A row of a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) time_us: i64,
    pub(crate) matched: bool,
    pub(crate) row: RowRef,
}

/// The rows of a slot and key.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) slot: i64,
    pub(crate) entries: Vec<Entry>,
    /// How many of them state had.
    pub(crate) n_kept: usize,
    /// Whether one that state had has changed.
    pub(crate) changed: bool,
}

impl Bucket {
    /// A bucket that state does not have.
    pub(crate) fn empty(slot: i64) -> Self {
        Self { slot, entries: Vec::new(), n_kept: 0, changed: false }
    }

    /// A bucket as state has it; its rows are taken into `rows`. `None`: the bytes are no bucket.
    pub(crate) fn load(slot: i64, value: Vec<u8>, rows: &mut SideRows) -> Option<Self> {
        let value = rows.load(value);
        let mut entries = Vec::new();
        let mut start = 0;
        loop {
            let bytes = rows.value(value);
            if start == bytes.len() {
                return Some(Self { slot, n_kept: entries.len(), entries, changed: false });
            }
            let header = bytes.get(start..start + HEADER_BYTES)?;
            let time_us = i64::from_le_bytes(header[..8].try_into().ok()?);
            let matched = header[8] == 1;
            let length = u32::from_le_bytes(header[9..].try_into().ok()?) as usize;
            start += HEADER_BYTES;
            let end = start.checked_add(length).filter(|&end| end <= bytes.len())?;
            let row = rows.keep(value, start, end);
            entries.push(Entry { time_us, matched, row });
            start = end;
        }
    }
}

/// A table of buckets, by key.
pub(crate) fn layout(keys: &Arc<RowCodec>, rows: &Arc<RowCodec>, slots: Slots) -> TableLayout {
    let rows = rows.clone();
    TableLayout::shown(Placement::Key(keys.clone()), slots, move |value| {
        let mut entries = Vec::new();
        let mut rest = value;
        while let Some((header, behind)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let length = u32::from_le_bytes(header[9..].try_into().ok()?) as usize;
            let (row, behind) = behind.split_at_checked(length)?;
            let time_us = i64::from_le_bytes(header[..8].try_into().ok()?);
            let matched = header[8] == 1;
            let entry = json!({ "time": describe_time(time_us), "matched": matched, "row": row_of(&rows, row)? });
            entries.push(entry);
            rest = behind;
        }
        rest.is_empty().then_some(entries.into())
    })
}

/// Writes a row behind those in `value`.
pub(crate) fn write_entry(value: &mut Vec<u8>, time_us: i64, matched: bool, row: &[u8]) {
    value.extend_from_slice(&time_us.to_le_bytes());
    value.push(u8::from(matched));
    // A row of 4 GiB does not come this far: arrow's offsets end at 2 GiB.
    value.extend_from_slice(&(row.len() as u32).to_le_bytes());
    value.extend_from_slice(row);
}
