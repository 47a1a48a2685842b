//! Groups rows by key: the hot path of every keyed step.
//!
//! Each distinct key gets the next group index, in the order of first appearance. What the table answers depends on the
//! rows alone; only how fast it is depends on its seed, which is drawn once a process so that nobody can choose keys
//! that collide.
//!
//! ```text
//!   key ──hash──▶ index: u32 a slot ──▶ entries: 16 bytes a group ──▶ long keys: arena
//!                 open addressing        keys of up to 15 bytes are
//!                 at most half full      in the entry itself
//! ```
//!
//! Groups that appear early are, in most data, the frequent ones, and their entries lie side by side: that is what
//! keeps the table in the cache.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::shuffle::key_encoding::{bytes_column, canonical_floats, for_each_key, plain, plain_type, words};

/// The longest key that is held in its entry.
const INLINE_BYTES_MAX: usize = 15;

/// Rows that are hashed before they are looked up: their slots are fetched at the same time, not one after the other.
const BLOCK_ROWS: usize = 32;

/// An empty slot of the index.
const EMPTY: u32 = u32::MAX;

/// The table has 2^31 groups at most: the index is then 16 GiB.
const GROUPS_MAX: usize = 1 << 31;

/// One group's key. The uppermost byte is its length for keys of up to 15 bytes, which fill the lower bytes from the
/// bottom; [`LONG`] for others, whose upper half holds the position in the arena and whose lower half is their hash; or
/// [`NULL`].
type Entry = u128;
const LONG: u8 = 0xff;
const NULL: u8 = 0xfe;

fn tag(entry: Entry) -> u8 {
    (entry >> 120) as u8
}

/// Per process, so that hashes cannot be foreseen; the groups do not depend on it.
static SEEDS: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let state = RandomState::new();
    [state.hash_one(1), state.hash_one(2)]
});

/// Maps keys to group indices.
pub(crate) struct KeyTable {
    /// The columns' plain types.
    types: Vec<DataType>,
    kind: Kind,
    /// Group indices, or [`EMPTY`]; a power of two.
    index: Vec<u32>,
    /// The slot of a hash is its uppermost bits.
    shift: u32,
    /// One a group.
    entries: Vec<Entry>,
    /// Where long keys lie in `arena`.
    long_keys: Vec<(usize, usize)>,
    arena: Vec<u8>,
    null_group: Option<u32>,
    /// The key columns of the groups, in order, where entries do not hold them as they are.
    firsts: Vec<Vec<ArrayRef>>,
    firsts_bytes: usize,
    seeds: [u64; 2],
}

/// How the keys of a table are held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No columns: all rows are one group.
    Global,
    /// One column of text or binary: the entry is the key.
    Bytes,
    /// Anything else: the entry is the canonical bytes, the key is kept beside it.
    Encoded,
}

impl KeyTable {
    /// A table for key columns of these types.
    pub(crate) fn new(types: &[DataType]) -> Self {
        let types: Vec<_> = types.iter().map(|data_type| plain_type(data_type).clone()).collect();
        let kind = match &types[..] {
            [] => Kind::Global,
            [
                DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView,
            ] => Kind::Bytes,
            _ => Kind::Encoded,
        };
        let mut table = Self {
            types,
            kind,
            index: Vec::new(),
            shift: 0,
            entries: Vec::new(),
            long_keys: Vec::new(),
            arena: Vec::new(),
            null_group: None,
            firsts: Vec::new(),
            firsts_bytes: 0,
            seeds: *SEEDS,
        };
        table.resize_index(1024);
        table
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes the table holds.
    pub(crate) fn bytes(&self) -> usize {
        self.index.capacity() * size_of::<u32>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.long_keys.capacity() * size_of::<(usize, usize)>()
            + self.arena.capacity()
            + self.firsts_bytes
    }

    /// Forgets all groups, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.index.fill(EMPTY);
        self.entries.clear();
        self.long_keys.clear();
        self.arena.clear();
        self.null_group = None;
        self.firsts.clear();
        self.firsts_bytes = 0;
    }

    /// Makes sure that the group of a table without columns exists, for an aggregate of no rows.
    pub(crate) fn ensure_global_group(&mut self) {
        if self.kind == Kind::Global && self.entries.is_empty() {
            self.entries.push(0);
        }
    }

    /// Puts the group of every row into `groups`, which is cleared first.
    ///
    /// # Errors
    ///
    /// When a column's type cannot be a key. Nothing is added then.
    pub(crate) fn group_rows(
        &mut self,
        columns: &[ArrayRef],
        n_rows: usize,
        groups: &mut Vec<u32>,
    ) -> Result<(), ArrowError> {
        groups.clear();
        if n_rows == 0 {
            return Ok(());
        }
        let n_before = self.entries.len();
        match self.kind {
            Kind::Global => {
                self.ensure_global_group();
                groups.resize(n_rows, 0);
            }
            Kind::Bytes => self.group_bytes(&plain(&columns[0])?, groups)?,
            Kind::Encoded => {
                let columns = columns.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
                self.group_encoded(&columns, n_rows, groups)?;
                self.keep_firsts(&columns, groups, n_before)?;
            }
        }
        if self.entries.len() > GROUPS_MAX {
            return Err(ArrowError::ComputeError(format!("more than {GROUPS_MAX} distinct keys in one partition")));
        }
        Ok(())
    }

    fn group_bytes(&mut self, column: &ArrayRef, groups: &mut Vec<u32>) -> Result<(), ArrowError> {
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        match column.data_type() {
            DataType::Utf8 => {
                let text = column.as_string::<i32>();
                self.group_ranges(text.offsets(), text.values(), nulls, groups);
            }
            DataType::Binary => {
                let binary = column.as_binary::<i32>();
                self.group_ranges(binary.offsets(), binary.values(), nulls, groups);
            }
            DataType::LargeUtf8 => {
                let text = column.as_string::<i64>();
                self.group_ranges(text.offsets(), text.values(), nulls, groups);
            }
            DataType::LargeBinary => {
                let binary = column.as_binary::<i64>();
                self.group_ranges(binary.offsets(), binary.values(), nulls, groups);
            }
            _ => {
                let column = std::slice::from_ref(column);
                for_each_key(column, column[0].len(), |key| groups.push(self.find_or_insert(key)))?;
            }
        }
        Ok(())
    }

    /// Groups the rows of a text or binary column by blocks: first every row's entry and slot, then the look-ups.
    fn group_ranges<O: OffsetSizeTrait>(
        &mut self,
        offsets: &[O],
        data: &[u8],
        nulls: Option<&NullBuffer>,
        groups: &mut Vec<u32>,
    ) {
        let n_rows = offsets.len() - 1;
        groups.reserve(n_rows);
        let mut keys = [0; BLOCK_ROWS];
        for block in (0..n_rows).step_by(BLOCK_ROWS) {
            let rows = block..n_rows.min(block + BLOCK_ROWS);
            for (key, ends) in keys.iter_mut().zip(offsets[rows.start..=rows.end].windows(2)) {
                let (start, end) = (ends[0].as_usize(), ends[1].as_usize());
                *key = if end - start <= INLINE_BYTES_MAX { inline_at(data, start, end - start) } else { Entry::MAX };
            }
            self.group_block(&keys[..rows.len()], rows.start, nulls, groups, |row| {
                &data[offsets[row].as_usize()..offsets[row + 1].as_usize()]
            });
        }
    }

    /// Groups a block of rows from `first_row` on. A key of `Entry::MAX` is long, and its bytes are asked for.
    #[inline(always)]
    fn group_block<'a>(
        &mut self,
        keys: &[Entry],
        first_row: usize,
        nulls: Option<&NullBuffer>,
        groups: &mut Vec<u32>,
        bytes: impl Fn(usize) -> &'a [u8],
    ) {
        // Room for a block of new groups, so that the index stays as it is while the block is looked up.
        if (self.entries.len() + BLOCK_ROWS) * 2 > self.index.len() {
            self.resize_index(self.index.len() * 2);
        }
        let mut slots = [0; BLOCK_ROWS];
        let mut candidates = [EMPTY; BLOCK_ROWS];
        for ((slot, candidate), &key) in slots.iter_mut().zip(&mut candidates).zip(keys) {
            *slot = self.slot_of(self.hash_inline(key));
            *candidate = self.index[*slot];
        }
        for (i, &key) in keys.iter().enumerate() {
            let row = first_row + i;
            let group = if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                self.null()
            } else if key == Entry::MAX {
                self.long(bytes(row))
            } else {
                match self.entries.get(candidates[i] as usize) {
                    Some(&entry) if entry == key => candidates[i],
                    _ => self.probe_inline(key, slots[i]),
                }
            };
            groups.push(group);
        }
    }

    fn group_encoded(&mut self, columns: &[ArrayRef], n_rows: usize, groups: &mut Vec<u32>) -> Result<(), ArrowError> {
        groups.reserve(n_rows);
        if let [column] = columns
            && let Some(words) = words(column)
        {
            let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
            let mut keys = [0; BLOCK_ROWS];
            for (block, words) in words.chunks(BLOCK_ROWS).enumerate() {
                for (key, &word) in keys.iter_mut().zip(words) {
                    *key = Entry::from(word) | (8 << 120);
                }
                self.group_block(&keys[..words.len()], block * BLOCK_ROWS, nulls, groups, |_| &[]);
            }
            return Ok(());
        }
        for_each_key(columns, n_rows, |key| groups.push(self.find_or_insert(key)))
    }

    /// Keeps the key columns of the rows that made new groups.
    fn keep_firsts(&mut self, columns: &[ArrayRef], groups: &[u32], n_before: usize) -> Result<(), ArrowError> {
        let n_new = self.entries.len() - n_before;
        if n_new == 0 {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(n_new);
        for (row, &group) in groups.iter().enumerate() {
            // New groups come in order: the next new one is the row where it first appears.
            if group as usize == n_before + rows.len() {
                rows.push(row as u32);
                if rows.len() == n_new {
                    break;
                }
            }
        }
        let rows = UInt32Array::from(rows);
        let firsts = columns
            .iter()
            .map(|column| canonical_floats(&take(column, &rows, None)?))
            .collect::<Result<Vec<_>, ArrowError>>()?;
        self.firsts_bytes += firsts.iter().map(|first| first.get_array_memory_size()).sum::<usize>();
        self.firsts.push(firsts);
        Ok(())
    }

    /// The keys of the groups, in order: one array a column, of the plain types.
    ///
    /// # Errors
    ///
    /// When a column outgrows what its type can hold: 2 GiB of text with 32-bit offsets.
    pub(crate) fn keys(&self) -> Result<Vec<ArrayRef>, ArrowError> {
        match self.kind {
            Kind::Global => Ok(Vec::new()),
            Kind::Bytes => {
                let entries: Vec<_> = self.entries.iter().map(|entry| entry.to_le_bytes()).collect();
                let keys = self.entries.iter().zip(&entries).map(|(&entry, bytes)| match tag(entry) {
                    NULL => None,
                    LONG => Some(self.long_key(entry)),
                    length => Some(&bytes[..usize::from(length)]),
                });
                Ok(vec![bytes_column(&self.types[0], keys)?])
            }
            Kind::Encoded if self.firsts.is_empty() => {
                Ok(self.types.iter().map(arrow::array::new_empty_array).collect())
            }
            Kind::Encoded => (0..self.types.len())
                .map(|column| match &self.firsts[..] {
                    [one] => Ok(one[column].clone()),
                    all => concat(&all.iter().map(|firsts| firsts[column].as_ref()).collect::<Vec<_>>()),
                })
                .collect(),
        }
    }

    /// Puts the group of every row into `groups`, which is cleared first; `None` for a key that the table does not have.
    ///
    /// # Errors
    ///
    /// When a column's type cannot be a key.
    pub(crate) fn find_rows(
        &self,
        columns: &[ArrayRef],
        n_rows: usize,
        groups: &mut Vec<Option<u32>>,
    ) -> Result<(), ArrowError> {
        groups.clear();
        if self.kind == Kind::Global {
            groups.resize(n_rows, (!self.entries.is_empty()).then_some(0));
            return Ok(());
        }
        let columns = columns.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        groups.reserve(n_rows);
        for_each_key(&columns, n_rows, |key| groups.push(self.find(key)))
    }

    fn find(&self, key: Option<&[u8]>) -> Option<u32> {
        let Some(bytes) = key else { return self.null_group };
        let (mut slot, inline) = if bytes.len() <= INLINE_BYTES_MAX {
            let entry = inline_at(bytes, 0, bytes.len());
            (self.slot_of(self.hash_inline(entry)), Some(entry))
        } else {
            (self.slot_of(xxh3_64_with_seed(bytes, self.seeds[0])), None)
        };
        loop {
            let group = self.index[slot];
            let entry = *self.entries.get(group as usize)?;
            let is_it = match inline {
                Some(inline) => entry == inline,
                None => tag(entry) == LONG && self.long_key(entry) == bytes,
            };
            if is_it {
                return Some(group);
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
    }

    fn find_or_insert(&mut self, key: Option<&[u8]>) -> u32 {
        if (self.entries.len() + 1) * 2 > self.index.len() {
            self.resize_index(self.index.len() * 2);
        }
        match key {
            None => self.null(),
            Some(bytes) if bytes.len() <= INLINE_BYTES_MAX => {
                let key = inline_at(bytes, 0, bytes.len());
                self.probe_inline(key, self.slot_of(self.hash_inline(key)))
            }
            Some(bytes) => self.long(bytes),
        }
    }

    fn null(&mut self) -> u32 {
        *self.null_group.get_or_insert_with(|| {
            self.entries.push(Entry::from(NULL) << 120);
            self.entries.len() as u32 - 1
        })
    }

    #[inline]
    fn probe_inline(&mut self, key: Entry, mut slot: usize) -> u32 {
        loop {
            let group = self.index[slot];
            if group == EMPTY {
                return self.insert(slot, key);
            }
            if self.entries[group as usize] == key {
                return group;
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
    }

    #[cold]
    fn insert(&mut self, slot: usize, entry: Entry) -> u32 {
        let group = self.entries.len() as u32;
        self.index[slot] = group;
        self.entries.push(entry);
        group
    }

    fn long(&mut self, bytes: &[u8]) -> u32 {
        let hash = xxh3_64_with_seed(bytes, self.seeds[0]);
        let mut slot = self.slot_of(hash);
        loop {
            let group = self.index[slot];
            if group == EMPTY {
                let position = self.long_keys.len() as Entry;
                self.long_keys.push((self.arena.len(), bytes.len()));
                self.arena.extend_from_slice(bytes);
                return self.insert(slot, (Entry::from(LONG) << 120) | (position << 64) | Entry::from(hash));
            }
            let entry = self.entries[group as usize];
            if tag(entry) == LONG && entry as u64 == hash && self.long_key(entry) == bytes {
                return group;
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
    }

    fn long_key(&self, entry: Entry) -> &[u8] {
        let (start, length) = self.long_keys[(entry >> 64) as u32 as usize];
        &self.arena[start..start + length]
    }

    #[inline]
    fn hash_inline(&self, key: Entry) -> u64 {
        // One multiplication, its halves folded (as in wyhash): every bit of the key reaches the uppermost bits.
        let product = Entry::from(key as u64 ^ self.seeds[0]) * Entry::from((key >> 64) as u64 ^ self.seeds[1]);
        product as u64 ^ (product >> 64) as u64
    }

    #[inline]
    fn slot_of(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize
    }

    #[cold]
    fn resize_index(&mut self, n_slots: usize) {
        self.shift = 64 - n_slots.trailing_zeros();
        self.index.clear();
        self.index.resize(n_slots, EMPTY);
        for (group, &entry) in self.entries.iter().enumerate() {
            let hash = match tag(entry) {
                NULL => continue,
                LONG => entry as u64,
                _ => self.hash_inline(entry),
            };
            let mut slot = (hash >> self.shift) as usize;
            while self.index[slot] != EMPTY {
                slot = (slot + 1) & (n_slots - 1);
            }
            self.index[slot] = group as u32;
        }
    }
}

/// The entry of a key of up to 15 bytes at `start`.
#[inline(always)]
fn inline_at(data: &[u8], start: usize, length: usize) -> Entry {
    let bytes = match data[start..].first_chunk::<16>() {
        // The bytes after the key are masked away.
        Some(bytes) => *bytes,
        None => {
            let mut bytes = [0; 16];
            bytes[..length].copy_from_slice(&data[start..start + length]);
            bytes
        }
    };
    (Entry::from_le_bytes(bytes) & LOWER_BYTES[length]) | ((length as Entry) << 120)
}

/// Masks of the lowest 0 to 15 bytes.
const LOWER_BYTES: [Entry; 16] = {
    let mut masks = [0; 16];
    let mut length = 0;
    while length < 16 {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
};

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float32Array, Int32Array, Int64Array,
        LargeBinaryArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    };
    use arrow::compute::concat;
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    use super::*;
    use crate::shuffle::partitioner::hash_keys;
    use crate::step::testing::{rows, texts};

    /// The groups that `columns` get when they come in pushes of `cut` rows, and the keys as text.
    fn group(columns: &[ArrayRef], cut: usize) -> (Vec<u32>, Vec<String>) {
        let types: Vec<_> = columns.iter().map(|column| column.data_type().clone()).collect();
        let mut table = KeyTable::new(&types);
        let (mut groups, mut all) = (Vec::new(), Vec::new());
        for start in (0..columns[0].len()).step_by(cut) {
            let n_rows = cut.min(columns[0].len() - start);
            let slices: Vec<_> = columns.iter().map(|column| column.slice(start, n_rows)).collect();
            table.group_rows(&slices, n_rows, &mut groups).expect("key types");
            all.extend_from_slice(&groups);
        }
        let keys = table.keys().expect("they fit");
        assert_eq!(keys.iter().map(|key| key.len()).collect::<Vec<_>>(), vec![table.len(); columns.len()]);
        let keys = rows(vec!["a", "b", "c"].into_iter().zip(keys).collect());
        (all, texts(&[keys]))
    }

    /// What all rows find in a table of the first `cut` of them.
    fn find(columns: &[ArrayRef], cut: usize) -> Vec<Option<u32>> {
        let types: Vec<_> = columns.iter().map(|column| column.data_type().clone()).collect();
        let mut table = KeyTable::new(&types);
        let n_rows = cut.min(columns[0].len());
        let first: Vec<_> = columns.iter().map(|column| column.slice(0, n_rows)).collect();
        table.group_rows(&first, n_rows, &mut Vec::new()).expect("key types");
        let mut found = Vec::new();
        table.find_rows(columns, columns[0].len(), &mut found).expect("key types");
        found
    }

    fn model_of_find(columns: &[ArrayRef], cut: usize) -> Vec<Option<u32>> {
        let (groups, _) = model(columns);
        let n_groups = groups.iter().take(cut).max().map_or(0, |group| group + 1);
        groups.into_iter().map(|group| Some(group).filter(|group| *group < n_groups)).collect()
    }

    /// Groups in the order of first appearance, by the rows' texts.
    fn model(columns: &[ArrayRef]) -> (Vec<u32>, Vec<String>) {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut keys = Vec::new();
        let groups = texts(&[rows(vec!["a", "b", "c"].into_iter().zip(columns.iter().cloned()).collect())])
            .into_iter()
            .map(|text| {
                *seen.entry(text.clone()).or_insert_with(|| {
                    keys.push(text);
                    keys.len() as u32 - 1
                })
            })
            .collect();
        (groups, keys)
    }

    proptest! {
        #[test]
        fn groups_are_those_of_the_model(
            words in proptest::collection::vec(proptest::option::of("[ab\u{e9}]{0,3}([x]{10,16})?"), 1..300),
            cut in 1usize..100,
        ) {
            let text: ArrayRef = Arc::new(words.iter().cloned().collect::<StringArray>());
            let view: ArrayRef = Arc::new(words.iter().cloned().collect::<StringViewArray>());
            let dictionary: ArrayRef =
                Arc::new(words.iter().map(|word| word.as_deref()).collect::<DictionaryArray<Int32Type>>());
            let binary: ArrayRef = Arc::new(LargeBinaryArray::from_iter(words.iter().map(|word| word.as_deref())));
            let numbers: ArrayRef =
                Arc::new(words.iter().map(|w| w.as_ref().map(|w| w.len() as i64)).collect::<Int64Array>());
            let small: ArrayRef = Arc::new(words.iter().map(|w| Some(w.as_ref()?.len() as i32 % 3)).collect::<Int32Array>());
            let flags: ArrayRef =
                Arc::new(words.iter().map(|w| w.as_ref().map(|w| w.contains('a'))).collect::<BooleanArray>());
            let times: ArrayRef = Arc::new(
                words.iter().map(|w| w.as_ref().map(|w| w.len() as i64)).collect::<TimestampMicrosecondArray>(),
            );
            let decimals: ArrayRef =
                Arc::new(words.iter().map(|w| w.as_ref().map(|w| w.len() as i128)).collect::<Decimal128Array>());
            for columns in [
                vec![text.clone()],
                vec![view.clone()],
                vec![dictionary.clone()],
                vec![binary],
                vec![numbers.clone()],
                vec![small.clone()],
                vec![flags.clone()],
                vec![times],
                vec![decimals],
                vec![text.clone(), small.clone()],
                vec![flags, dictionary, numbers],
            ] {
                prop_assert_eq!(group(&columns, cut), model(&columns));
                prop_assert_eq!(find(&columns, cut), model_of_find(&columns, cut));
            }
        }
    }

    #[test]
    fn many_keys_grow_the_table() {
        let words: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..100_000).map(|i| format!("w{}", (i * 7_919) % 30_011))));
        assert_eq!(group(std::slice::from_ref(&words), 777), model(&[words]));
        let long: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..20_000).map(|i| format!("a word of many letters {}", i % 5_003)),
        ));
        assert_eq!(group(std::slice::from_ref(&long), 8_192), model(&[long]));
    }

    #[test]
    fn keys_that_look_alike_in_memory_are_apart() {
        let words = ["", "\0", "\0\0", "a", "a\0", "fifteen letters", "fifteen letters\0", "\u{fe}\u{ff}"];
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(words.iter().chain(&words)));
        let (groups, _) = group(&[column], 100);
        assert_eq!(groups, (0..8).chain(0..8).collect::<Vec<_>>());
    }

    #[test]
    fn floats_are_one_key_where_they_are_equal() {
        let nan = f32::from_bits(0xffc0_0001);
        let column: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, 0.0, nan, f32::NAN, 1.0]));
        assert_eq!(group(&[column], 2), (vec![0, 0, 1, 1, 2], vec!["0.0".into(), "NaN".into(), "1.0".into()]));
    }

    #[test]
    fn fixed_size_binary_and_nested_keys_are_grouped() {
        let bytes = FixedSizeBinaryArray::try_from_iter([[1u8, 2], [1, 3], [1, 2]].into_iter()).expect("two each");
        assert_eq!(group(&[Arc::new(bytes)], 2).0, [0, 1, 0]);
        let lists = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Float64Type, _, _>([
            Some(vec![Some(-0.0), None]),
            Some(vec![Some(0.0), None]),
            Some(vec![Some(0.0)]),
            None,
        ]);
        let (groups, keys) = group(&[Arc::new(lists)], 10);
        assert_eq!((groups, &*keys[0]), (vec![0, 0, 1, 2], "[0.0, NULL]"));
    }

    #[test]
    fn a_table_without_columns_has_one_group() {
        let mut table = KeyTable::new(&[]);
        let mut groups = Vec::new();
        table.group_rows(&[], 3, &mut groups).expect("no types");
        assert_eq!((groups, table.len()), (vec![0, 0, 0], 1));
        assert!(table.keys().expect("none").is_empty());
    }

    #[test]
    fn a_cleared_table_starts_anew() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a word that is not inline")]));
        let mut table = KeyTable::new(&[DataType::Utf8]);
        let mut groups = Vec::new();
        for _ in 0..2 {
            table.group_rows(std::slice::from_ref(&column), 3, &mut groups).expect("text");
            assert_eq!((&groups[..], table.len()), (&[0, 1, 2][..], 3));
            assert_eq!(table.keys().expect("they fit")[0].as_string::<i32>(), column.as_string::<i32>());
            table.clear();
        }
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn rows_that_share_a_group_share_a_hash() {
        let a: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, f32::NAN]));
        let b: ArrayRef = Arc::new(Float32Array::from(vec![0.0, -f32::NAN]));
        let both = concat(&[&a, &b]).expect("one type");
        let hashes = hash_keys(&[both]).expect("a key type");
        assert_eq!(hashes[..2], hashes[2..]);
    }
}
