//! Column builders: values appended one by one become a column's node and buffers, without a copy at the end.

use crate::batch::{Node, OwnedBatch};
use crate::value::Fixed;

/// How large the buffers of the last call became: the next call reserves as much, by its number of rows.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    n_input_rows: usize,
    n_bytes: Vec<usize>,
}

impl Sizes {
    /// What a call with `n_rows` rows in its input should reserve.
    #[must_use]
    pub fn hints(&self, n_rows: usize) -> Hints<'_> {
        Hints { last: self.n_bytes.iter(), n_rows_last: self.n_input_rows, n_rows }
    }

    /// Remembers what a call with `n_input_rows` became.
    pub fn learn(&mut self, n_input_rows: usize, rows: &OwnedBatch) {
        // A call of few rows says little about the next.
        if n_input_rows * 4 >= self.n_input_rows {
            self.n_input_rows = n_input_rows;
            self.n_bytes.clear();
            self.n_bytes.extend(rows.buffers.iter().map(Vec::len));
        }
    }
}

/// The bytes to reserve for each buffer, in the order of the buffers.
#[derive(Debug)]
pub struct Hints<'a> {
    last: std::slice::Iter<'a, usize>,
    n_rows_last: usize,
    n_rows: usize,
}

impl Hints<'_> {
    /// Bytes for the next buffer: an eighth more than the last call's rows had, or `width` a row at the first call.
    pub fn n_bytes(&mut self, width: usize) -> usize {
        match self.last.next() {
            Some(&last) if self.n_rows_last > 0 => {
                let n_bytes = last as u64 * self.n_rows as u64 / self.n_rows_last as u64;
                (n_bytes + n_bytes / 8 + 8) as usize
            }
            _ => self.n_rows * width,
        }
    }
}

/// Validity of a column that is being built: bits, and how many are not set.
#[derive(Debug, Default)]
pub struct Validity {
    bits: Vec<u8>,
    null_count: u32,
}

impl Validity {
    /// No value is null.
    pub const ALL: Validity = Validity { bits: Vec::new(), null_count: 0 };

    /// The validity of a column that has so many nulls; without bits it has none.
    pub(crate) fn of(valid: Option<BitBuilder>, null_count: u32) -> Self {
        Self { bits: valid.map_or_else(Vec::new, |valid| valid.bytes), null_count }
    }

    /// Appends the node and the validity of a column.
    pub(crate) fn push_node(self, n_values: usize, out: &mut OwnedBatch) {
        push_node(n_values, self, out);
    }
}

/// Appends values to a column.
pub trait Build {
    /// An empty column with room for what the hints say.
    fn with_hints(hints: &mut Hints<'_>) -> Self;

    /// An empty column.
    #[must_use]
    fn new() -> Self
    where
        Self: Sized,
    {
        Self::with_hints(&mut Sizes::default().hints(0))
    }

    /// How many values it has.
    fn n_values(&self) -> usize;

    /// Appends what stands in the place of a null.
    fn push_blank(&mut self);

    /// Appends the column, its children included, to a batch.
    fn finish(self, validity: Validity, out: &mut OwnedBatch);
}

fn push_node(n_values: usize, validity: Validity, out: &mut OwnedBatch) {
    // Columns of more than 2³² values are refused by the host: their buffers do not fit the node.
    out.nodes.push(Node { length: n_values as u32, null_count: validity.null_count });
    out.buffers.push(validity.bits);
}

/// A column of values of fixed width.
#[derive(Debug)]
pub struct FixedBuilder<T: Fixed> {
    values: Vec<T::Bytes>,
}

impl<T: Fixed> FixedBuilder<T> {
    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: T) {
        self.values.push(value.into_bytes());
    }
}

impl<T: Fixed> Build for FixedBuilder<T> {
    fn with_hints(hints: &mut Hints<'_>) -> Self {
        hints.n_bytes(0);
        let width = size_of::<T::Bytes>();
        Self { values: Vec::with_capacity(hints.n_bytes(width).checked_div(width).unwrap_or(0)) }
    }

    fn n_values(&self) -> usize {
        self.values.len()
    }

    fn push_blank(&mut self) {
        self.values.push(T::BLANK);
    }

    fn finish(self, validity: Validity, out: &mut OwnedBatch) {
        push_node(self.values.len(), validity, out);
        out.buffers.push(T::flatten(self.values));
    }
}

/// A column of bits: booleans, or validity.
#[derive(Debug, Default)]
pub struct BitBuilder {
    bytes: Vec<u8>,
    length: usize,
}

impl BitBuilder {
    /// Appends a bit.
    #[inline]
    pub fn push(&mut self, bit: bool) {
        if self.length.is_multiple_of(8) {
            self.bytes.push(u8::from(bit));
        } else if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.length % 8);
        }
        self.length += 1;
    }

    pub(crate) fn all_set(length: usize) -> Self {
        let mut bytes = vec![0xFF; length.div_ceil(8)];
        if let Some(last) = bytes.last_mut()
            && !length.is_multiple_of(8)
        {
            *last = 0xFF >> (8 - length % 8);
        }
        Self { bytes, length }
    }
}

impl Build for BitBuilder {
    fn with_hints(hints: &mut Hints<'_>) -> Self {
        hints.n_bytes(0);
        Self { bytes: Vec::with_capacity(hints.n_bytes(1) / 8 + 1), length: 0 }
    }

    fn n_values(&self) -> usize {
        self.length
    }

    fn push_blank(&mut self) {
        self.push(false);
    }

    fn finish(self, validity: Validity, out: &mut OwnedBatch) {
        push_node(self.length, validity, out);
        out.buffers.push(self.bytes);
    }
}

/// A column of text or bytes.
#[derive(Debug)]
pub struct BytesBuilder {
    /// The end of each value.
    offsets: Vec<[u8; 4]>,
    data: Vec<u8>,
}

impl BytesBuilder {
    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        append(&mut self.data, value);
        // Data of more than 2 GiB wraps to an offset that falls, which the host refuses.
        self.offsets.push((self.data.len() as i32).to_le_bytes());
    }
}

/// `Vec::extend_from_slice`, with copies of up to 16 bytes inline: most words are shorter, and a call for each costs more
/// than the copy, in WebAssembly much more.
#[inline]
fn append(data: &mut Vec<u8>, value: &[u8]) {
    let n = value.len();
    if n > 16 {
        data.extend_from_slice(value);
        return;
    }
    data.reserve(16);
    let old = data.len();
    // SAFETY: at least 16 bytes are reserved behind `old` and n is at most 16, so every write is in bounds; every read is
    // of `value`'s first or last 8, 4, 2 or 1 bytes, and it has as many in its branch. The two do not overlap: `data` is
    // borrowed mutably. After it, `n` more bytes are initialised.
    unsafe {
        let from = value.as_ptr();
        let to = data.as_mut_ptr().add(old);
        macro_rules! both_ends {
            ($type:ty) => {{
                let width = size_of::<$type>();
                let first = from.cast::<$type>().read_unaligned();
                let last = from.add(n - width).cast::<$type>().read_unaligned();
                to.cast::<$type>().write_unaligned(first);
                to.add(n - width).cast::<$type>().write_unaligned(last);
            }};
        }
        if n >= 8 {
            both_ends!(u64);
        } else if n >= 4 {
            both_ends!(u32);
        } else if n >= 2 {
            both_ends!(u16);
        } else if n == 1 {
            *to = *from;
        }
        data.set_len(old + n);
    }
}

impl Build for BytesBuilder {
    fn with_hints(hints: &mut Hints<'_>) -> Self {
        hints.n_bytes(0);
        let mut offsets = Vec::with_capacity(hints.n_bytes(4) / 4 + 1);
        offsets.push([0; 4]);
        Self { offsets, data: Vec::with_capacity(hints.n_bytes(0)) }
    }

    fn n_values(&self) -> usize {
        self.offsets.len() - 1
    }

    fn push_blank(&mut self) {
        self.push(&[]);
    }

    fn finish(self, validity: Validity, out: &mut OwnedBatch) {
        push_node(self.offsets.len() - 1, validity, out);
        out.buffers.push(self.offsets.into_flattened());
        out.buffers.push(self.data);
    }
}

/// A column of lists.
#[derive(Debug)]
pub struct ListBuilder<B> {
    offsets: Vec<[u8; 4]>,
    items: B,
}

impl<B: Build> ListBuilder<B> {
    /// Appends a list: `fill` appends its items.
    #[inline]
    pub fn push_with(&mut self, fill: impl FnOnce(&mut B)) {
        fill(&mut self.items);
        self.offsets.push((self.items.n_values() as i32).to_le_bytes());
    }
}

impl<B: Build> Build for ListBuilder<B> {
    fn with_hints(hints: &mut Hints<'_>) -> Self {
        hints.n_bytes(0);
        let mut offsets = Vec::with_capacity(hints.n_bytes(4) / 4 + 1);
        offsets.push([0; 4]);
        Self { offsets, items: B::with_hints(hints) }
    }

    fn n_values(&self) -> usize {
        self.offsets.len() - 1
    }

    fn push_blank(&mut self) {
        self.push_with(|_| {});
    }

    fn finish(self, validity: Validity, out: &mut OwnedBatch) {
        push_node(self.offsets.len() - 1, validity, out);
        out.buffers.push(self.offsets.into_flattened());
        self.items.finish(Validity::ALL, out);
    }
}

/// A column whose values may be null. Validity is kept from the first null on.
#[derive(Debug)]
pub struct NullableBuilder<B> {
    valid: Option<BitBuilder>,
    null_count: u32,
    values: B,
}

impl<B: Build> NullableBuilder<B> {
    /// Appends a value: `push` appends it.
    #[inline]
    pub fn push_with(&mut self, push: impl FnOnce(&mut B)) {
        push(&mut self.values);
        if let Some(valid) = &mut self.valid {
            valid.push(true);
        }
    }
}

impl<B: Build> Build for NullableBuilder<B> {
    fn with_hints(hints: &mut Hints<'_>) -> Self {
        Self { valid: None, null_count: 0, values: B::with_hints(hints) }
    }

    fn n_values(&self) -> usize {
        self.values.n_values()
    }

    /// Appends a null.
    fn push_blank(&mut self) {
        let n_values = self.values.n_values();
        self.valid.get_or_insert_with(|| BitBuilder::all_set(n_values)).push(false);
        self.null_count += 1;
        self.values.push_blank();
    }

    fn finish(self, _: Validity, out: &mut OwnedBatch) {
        let bits = self.valid.map_or_else(Vec::new, |valid| valid.bytes);
        self.values.finish(Validity { bits, null_count: self.null_count }, out);
    }
}

/// Appends rows: what [`crate::Row`] derives, a builder for each field.
pub trait BuildRow {
    /// Empty columns with room for what the hints say.
    fn with_hints(hints: &mut Hints<'_>) -> Self;

    /// Appends what stands in the place of a null.
    fn push_blank(&mut self);

    /// Appends the columns to a batch.
    fn finish(self, out: &mut OwnedBatch);
}

/// A column of structs.
#[derive(Debug)]
pub struct StructBuilder<B> {
    rows: B,
    length: usize,
}

impl<B: BuildRow> StructBuilder<B> {
    /// Appends a struct: `push` appends its fields.
    #[inline]
    pub fn push_with(&mut self, push: impl FnOnce(&mut B)) {
        push(&mut self.rows);
        self.length += 1;
    }
}

impl<B: BuildRow> Build for StructBuilder<B> {
    fn with_hints(hints: &mut Hints<'_>) -> Self {
        hints.n_bytes(0);
        Self { rows: B::with_hints(hints), length: 0 }
    }

    fn n_values(&self) -> usize {
        self.length
    }

    fn push_blank(&mut self) {
        self.rows.push_blank();
        self.length += 1;
    }

    fn finish(self, validity: Validity, out: &mut OwnedBatch) {
        push_node(self.length, validity, out);
        self.rows.finish(out);
    }
}
