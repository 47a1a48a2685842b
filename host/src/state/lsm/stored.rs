//! Entries as the tree stores them.
//!
//! The tree's keys have at most 65,535 bytes, and a row's key may have more. A long key is cut, a digest of all of it follows,
//! and the whole key stands before the value:
//!
//! ```text
//!  key   table │ slot │ key, up to 60,000 bytes                    value   value
//!  key   table │ slot │ first 60,000 bytes of the key │ SHA-256    value   key bytes (u32) │ key │ value
//! ```

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// Bytes of a key that are stored as they are; longer keys are cut.
pub(super) const KEY_BYTES_WHOLE: usize = 60_000;

/// Bytes before the key.
const PREFIX_BYTES: usize = 11;

/// Tables that a store can have.
pub(super) const TABLES_MAX: u32 = (1 << 24) - 1;

/// The key of an entry in the tree.
pub(super) fn stored_key(table: u32, slot: i64, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(PREFIX_BYTES + key.len().min(KEY_BYTES_WHOLE + 32));
    stored.extend_from_slice(&slot_start(table, slot));
    if is_whole(key) {
        stored.extend_from_slice(key);
    } else {
        stored.extend_from_slice(&key[..KEY_BYTES_WHOLE]);
        stored.extend_from_slice(&Sha256::digest(key));
    }
    stored
}

/// The value of an entry in the tree.
pub(super) fn stored_value<'a>(key: &[u8], value: &'a [u8]) -> Cow<'a, [u8]> {
    if is_whole(key) {
        return Cow::Borrowed(value);
    }
    // A key has less than 4 GiB, or it could not be among the changes.
    let key_bytes = (key.len() as u32).to_le_bytes();
    Cow::Owned([&key_bytes[..], key, value].concat())
}

/// Whether a key is stored as it is.
pub(super) fn is_whole(key: &[u8]) -> bool {
    key.len() <= KEY_BYTES_WHOLE
}

/// The slot of an entry, and what follows it in the tree's key.
pub(super) fn slot_and_key(stored: &[u8]) -> Option<(i64, &[u8])> {
    let slot = stored.get(PREFIX_BYTES - 8..PREFIX_BYTES)?.try_into().ok()?;
    Some((from_ordered(u64::from_be_bytes(slot)), &stored[PREFIX_BYTES..]))
}

/// The key and the value of an entry whose key was cut.
pub(super) fn key_and_value(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key_bytes, rest) = stored.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*key_bytes) as usize)
}

/// The first key that an entry of a slot can have in the tree.
pub(super) fn slot_start(table: u32, slot: i64) -> [u8; PREFIX_BYTES] {
    let mut start = [0; PREFIX_BYTES];
    start[..3].copy_from_slice(&table.to_be_bytes()[1..]);
    start[3..].copy_from_slice(&to_ordered(slot).to_be_bytes());
    start
}

/// The first key behind those of a slot.
pub(super) fn slot_end(table: u32, slot: i64) -> [u8; PREFIX_BYTES] {
    match slot.checked_add(1) {
        Some(next) => slot_start(table, next),
        None => slot_start(table + 1, i64::MIN),
    }
}

/// A number whose order without a sign is that of the slot with one.
fn to_ordered(slot: i64) -> u64 {
    slot.cast_unsigned() ^ (1 << 63)
}

fn from_ordered(ordered: u64) -> i64 {
    (ordered ^ (1 << 63)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_stand_in_the_order_of_tables_slots_and_keys(
            a in (0..3u32, any::<i64>(), prop::collection::vec(any::<u8>(), 0..4)),
            b in (0..3u32, any::<i64>(), prop::collection::vec(any::<u8>(), 0..4)),
        ) {
            let (stored_a, stored_b) = (stored_key(a.0, a.1, &a.2), stored_key(b.0, b.1, &b.2));
            prop_assert_eq!(stored_a.cmp(&stored_b), a.cmp(&b));
            prop_assert_eq!(slot_and_key(&stored_a), Some((a.1, &a.2[..])));
            prop_assert!(stored_a[..] >= slot_start(a.0, a.1)[..] && stored_a[..] < slot_end(a.0, a.1)[..]);
        }
    }

    #[test]
    fn the_ends_of_the_range_of_slots_stay_in_the_table() {
        for slot in [i64::MIN, -1, 0, 1, i64::MAX] {
            let stored = stored_key(7, slot, b"key");
            assert_eq!(slot_and_key(&stored), Some((slot, &b"key"[..])));
            assert!(stored[..] > slot_start(7, i64::MIN)[..] && stored[..] < slot_end(7, i64::MAX)[..]);
        }
        assert_eq!(slot_end(7, i64::MAX), slot_start(8, i64::MIN));
    }

    #[test]
    fn long_keys_are_cut_and_told_apart() {
        let mut key = vec![1; 100_000];
        let stored = stored_key(0, 0, &key);
        assert!(u16::try_from(stored.len()).is_ok());
        let value = stored_value(&key, b"value");
        assert_eq!(key_and_value(&value), Some((&key[..], &b"value"[..])));
        *key.last_mut().expect("not empty") = 2;
        assert_ne!(stored_key(0, 0, &key), stored);
        assert_eq!(key_and_value(&value[..50]), None);
        assert_eq!(key_and_value(b"123"), None);
        assert_eq!(stored_value(b"key", b"value"), &b"value"[..]);
    }
}
