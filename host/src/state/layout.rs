//! What the tables of a step hold, so that what they hold can be shown, and be dealt out to other partitions.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::{Map, Value};

use super::{Placement, RowCodec};
use crate::clock::describe_time;
use crate::json_lines::write_lines;

/// Makes of a value what people read; `None`: it is not such a value.
type Show = dyn Fn(&[u8]) -> Option<Value> + Send + Sync;

/// What the slots of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// There is one.
    One,
    /// Times in microseconds since 1970-01-01 UTC.
    Times,
    /// Other numbers.
    Numbers,
}

/// A table of a step.
#[derive(Clone)]
pub struct TableLayout {
    placement: Placement,
    slots: Slots,
    /// `None`: the table is an index of others, or made of them.
    show: Option<Arc<Show>>,
}

impl fmt::Debug for TableLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableLayout")
            .field("placement", &self.placement)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// An entry of a table, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ShownEntry {
    /// The slot, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<Value>,
    /// The columns of the key, where it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Value>,
    /// The value.
    pub value: Value,
}

impl TableLayout {
    /// A table that is not shown: an index of others, or made of them.
    #[must_use]
    pub fn hidden(placement: Placement) -> Self {
        Self { placement, slots: Slots::One, show: None }
    }

    /// A table whose values are shown so.
    pub fn shown(
        placement: Placement,
        slots: Slots,
        show: impl Fn(&[u8]) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        Self { placement, slots, show: Some(Arc::new(show)) }
    }

    /// Where its entries go when partitions change.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether its entries are shown.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.show.is_some()
    }

    /// An entry, for people; `None`: the table is not shown, or it is no entry of it.
    #[must_use]
    pub fn show(&self, slot: i64, key: &[u8], value: &[u8]) -> Option<ShownEntry> {
        let value = self.show.as_ref()?(value)?;
        let key = match &self.placement {
            Placement::Key(codec) => Some(row_of(codec, key)?),
            _ => None,
        };
        let slot = match self.slots {
            Slots::One => None,
            Slots::Times => Some(describe_time(slot).into()),
            Slots::Numbers => Some(slot.into()),
        };
        Some(ShownEntry { slot, key, value })
    }
}

/// A row as an object, its nulls as well.
pub(crate) fn row_of(codec: &RowCodec, bytes: &[u8]) -> Option<Value> {
    rows_of(&codec.decode(std::iter::once(bytes)).ok()?)?.pop()
}

/// Rows as objects, their nulls as well.
pub(crate) fn rows_of(rows: &RecordBatch) -> Option<Vec<Value>> {
    let mut lines = Vec::new();
    write_lines(rows, &mut lines).ok()?;
    let schema = rows.schema();
    let whole = |line: &str| {
        let Value::Object(mut written) = serde_json::from_str(line).ok()? else { return None };
        let mut column = |name: &String| (name.clone(), written.remove(name).unwrap_or(Value::Null));
        Some(Value::Object(schema.fields().iter().map(|field| column(field.name())).collect::<Map<_, _>>()))
    };
    if schema.fields().is_empty() {
        return Some(vec![Value::Object(Map::new()); rows.num_rows()]);
    }
    std::str::from_utf8(&lines).ok()?.lines().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_shown_with_their_columns() {
        let fields = vec![Field::new("user", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
        let codec = Arc::new(RowCodec::new(Arc::new(Schema::new(fields))).expect("key types"));
        let columns: [ArrayRef; 2] =
            [Arc::new(StringArray::from(vec![Some("u1"), None])), Arc::new(Int64Array::from(vec![7, 8]))];
        let keys = codec.encode_keys(&columns, 2).expect("keys");
        let layout = TableLayout::shown(Placement::Key(codec), Slots::Numbers, |value| Some(value.len().into()));
        let shown = |row: usize| serde_json::to_value(layout.show(3, keys.row(row), b"four")).expect("JSON");
        assert_eq!(shown(0), json!({ "slot": 3, "key": { "user": "u1", "n": 7 }, "value": 4 }));
        assert_eq!(shown(1), json!({ "slot": 3, "key": { "user": null, "n": 8 }, "value": 4 }));
        let of_times =
            TableLayout::shown(Placement::Any, Slots::Times, |value| (!value.is_empty()).then_some(Value::Null));
        let shown = serde_json::to_value(of_times.show(0, b"", b"v")).expect("JSON");
        assert_eq!(shown, json!({ "slot": "1970-01-01 00:00:00.000 UTC", "value": null }));
        assert_eq!(of_times.show(0, b"", b""), None, "no value of the table");
        assert_eq!(TableLayout::hidden(Placement::Nowhere).show(0, b"", b"v"), None);
    }
}
