//! What a batch has changed in a table, in the order in which it was said.

use std::ops::RangeInclusive;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// The value at a slot and key from now on; `None`: it is gone.
    Entry {
        /// The slot.
        slot: i64,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: Option<&'a [u8]>,
    },
    /// Every entry of these slots is gone.
    DropSlots(RangeInclusive<i64>),
}

#[derive(Debug, Clone)]
enum Item {
    /// Where the key ends and the value ends, in `bytes`, after the item before; no value: removed.
    Entry {
        slot: i64,
        key_bytes: u32,
        value_bytes: Option<u32>,
    },
    DropSlots(RangeInclusive<i64>),
}

/// What a batch has changed in one table of one partition.
///
/// # Examples
///
/// ```
/// use tidemill::state::{Change, Changes};
///
/// let mut changes = Changes::default();
/// changes.put(0, b"tide", b"1");
/// changes.remove(0, b"mill");
/// let all: Vec<_> = changes.iter().collect();
/// assert_eq!(all[0], Change::Entry { slot: 0, key: b"tide", value: Some(b"1") });
/// assert_eq!(all[1], Change::Entry { slot: 0, key: b"mill", value: None });
/// ```
#[derive(Debug, Clone, Default)]
pub struct Changes {
    items: Vec<Item>,
    bytes: Vec<u8>,
}

impl Changes {
    /// Writes a value.
    ///
    /// # Panics
    ///
    /// When a key or value has 4 GiB or more; rows do not.
    pub fn put(&mut self, slot: i64, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.items.push(Item::Entry { slot, key_bytes: length(key), value_bytes: Some(length(value)) });
    }

    /// Removes a value, if it is there.
    ///
    /// # Panics
    ///
    /// As [`Changes::put`].
    pub fn remove(&mut self, slot: i64, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.items.push(Item::Entry { slot, key_bytes: length(key), value_bytes: None });
    }

    /// Removes every entry of a range of slots that is there before the batch or was put by it so far.
    pub fn drop_slots(&mut self, slots: RangeInclusive<i64>) {
        self.items.push(Item::DropSlots(slots));
    }

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The changes, in order.
    pub fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        let mut rest = &self.bytes[..];
        let mut take = move |n_bytes: u32| {
            let (taken, left) = rest.split_at(n_bytes as usize);
            rest = left;
            taken
        };
        self.items.iter().map(move |item| match item {
            Item::Entry { slot, key_bytes, value_bytes } => {
                Change::Entry { slot: *slot, key: take(*key_bytes), value: value_bytes.map(&mut take) }
            }
            Item::DropSlots(slots) => Change::DropSlots(slots.clone()),
        })
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or_else(|_| panic!("a key or value of {} bytes", bytes.len()))
}
