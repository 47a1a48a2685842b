//! Records one behind another in one run of bytes: no allocation an entry.
//!
//! ```text
//!  varint(key bytes << 1 | dead) │ varint(value bytes) │ key │ value ║ the next record …
//! ```
//!
//! A value of the same length is written over the old one; any other is a new record behind the last, and the old one is
//! dead. When more than half is dead, the live ones are copied together.

/// A run of records grows by half its size up to here, then by a quarter: little is allocated in vain, little copied.
const DOUBLING_BYTES_MAX: usize = 4096;

/// Dead records beyond as many as are live, before they are swept out: a slot without an index walks over them.
const DEAD_RECORDS_MAX: u32 = 64;

/// Records in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    n_live: u32,
    n_dead: u32,
    dead_bytes: usize,
}

/// One record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// Where it starts.
    pub(super) at: usize,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    is_dead: bool,
    end: usize,
}

impl Records {
    /// Room for so many bytes, and not more.
    pub(super) fn with_capacity(n_bytes: usize) -> Self {
        let mut bytes = Vec::new();
        bytes.reserve_exact(n_bytes);
        Self { bytes, ..Self::default() }
    }

    /// Writes a record behind the others; where it starts.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> usize {
        let n_bytes = record_bytes(key, value);
        let capacity = self.bytes.capacity();
        if capacity - self.bytes.len() < n_bytes {
            let step = if capacity < DOUBLING_BYTES_MAX { capacity / 2 } else { capacity / 4 };
            self.bytes.reserve_exact(n_bytes.max(step));
        }
        let at = self.bytes.len();
        push_varint(&mut self.bytes, (key.len() as u64) << 1);
        push_varint(&mut self.bytes, value.len() as u64);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.n_live += 1;
        at
    }

    /// The record that starts at `at`.
    pub(super) fn at(&self, at: usize) -> Record<'_> {
        let mut next = at;
        let key_and_flag = read_varint(&self.bytes, &mut next);
        let value_bytes = read_varint(&self.bytes, &mut next) as usize;
        let key_end = next + (key_and_flag >> 1) as usize;
        let end = key_end + value_bytes;
        Record {
            at,
            key: &self.bytes[next..key_end],
            value: &self.bytes[key_end..end],
            is_dead: key_and_flag & 1 == 1,
            end,
        }
    }

    /// The live records.
    pub(super) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            while next < self.bytes.len() {
                let record = self.at(next);
                next = record.end;
                if !record.is_dead {
                    return Some(record);
                }
            }
            None
        })
    }

    /// Sets the value of the record at `at`; where the record is now.
    pub(super) fn set(&mut self, at: usize, value: &[u8]) -> usize {
        let Record { key, value: old, end, .. } = self.at(at);
        if old.len() == value.len() {
            let start = end - value.len();
            self.bytes[start..end].copy_from_slice(value);
            return at;
        }
        // The key is copied within the run, which may move while it grows.
        let key = key.to_vec();
        self.kill(at);
        self.push(&key, value)
    }

    /// Marks the record at `at` as dead.
    pub(super) fn kill(&mut self, at: usize) {
        self.dead_bytes += self.at(at).end - at;
        // The flag is the lowest bit of the varint, which stands in its first byte.
        self.bytes[at] |= 1;
        self.n_live -= 1;
        self.n_dead += 1;
    }

    /// Whether so much is dead that copying the rest together is worth it.
    pub(super) fn is_wasteful(&self) -> bool {
        self.dead_bytes > self.bytes.len() / 2 || self.n_dead > self.n_live.saturating_add(DEAD_RECORDS_MAX)
    }

    /// The live records in their order, in no more bytes than they need.
    pub(super) fn compacted(&self) -> Self {
        let mut records = Self::with_capacity(self.bytes.len() - self.dead_bytes);
        for record in self.iter() {
            records.push(record.key, record.value);
        }
        records
    }

    /// How many are live.
    pub(super) fn n_live(&self) -> usize {
        self.n_live as usize
    }

    /// Bytes of all records, dead ones too.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that are allocated.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Bytes of a record.
pub(super) fn record_bytes(key: &[u8], value: &[u8]) -> usize {
    varint_bytes((key.len() as u64) << 1) + varint_bytes(value.len() as u64) + key.len() + value.len()
}

fn varint_bytes(number: u64) -> usize {
    // Seven bits a byte; zero takes one too.
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read_varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_any_size_are_read_back() {
        for number in (0..64).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1]) {
            let mut bytes = vec![0xff];
            push_varint(&mut bytes, number);
            assert_eq!(bytes.len() - 1, varint_bytes(number), "{number}");
            let mut at = 1;
            assert_eq!(read_varint(&bytes, &mut at), number);
            assert_eq!(at, bytes.len());
        }
    }

    #[test]
    fn a_value_of_the_same_length_takes_no_more_room() {
        let mut records = Records::default();
        let at = records.push(b"key", b"1234");
        let n_bytes = records.len();
        assert_eq!(n_bytes, record_bytes(b"key", b"1234"));
        assert_eq!(records.set(at, b"5678"), at);
        assert_eq!((records.len(), records.at(at).value), (n_bytes, &b"5678"[..]));
        let moved = records.set(at, b"12345");
        assert_eq!(moved, n_bytes);
        let live: Vec<_> = records.iter().map(|record| (record.key, record.value)).collect();
        assert_eq!(live, [(&b"key"[..], &b"12345"[..])]);
        assert_eq!(records.compacted().len(), record_bytes(b"key", b"12345"));
    }

    #[test]
    fn a_dead_record_with_a_long_key_stays_as_long() {
        let mut records = Records::default();
        let long = vec![7; 100_000];
        let at = records.push(&long, b"");
        records.push(b"", b"next");
        records.kill(at);
        let live: Vec<_> = records.iter().map(|record| (record.key, record.value)).collect();
        assert_eq!(live, [(&b""[..], &b"next"[..])]);
        assert!(records.is_wasteful());
    }
}
