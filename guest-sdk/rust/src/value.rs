//! Values: which Rust type stands for which Arrow type, how it is read from a column and appended to one.

use std::borrow::Cow;
use std::fmt::Debug;

use crate::batch::Node;
use crate::builder::{BitBuilder, Build, BytesBuilder, FixedBuilder, ListBuilder, NullableBuilder};
use crate::schema::{DataType, Field, TimeUnit};

/// A type that can be a field of a [`crate::Row`].
///
/// | Rust | Arrow |
/// | --- | --- |
/// | `bool`, `i8` to `i64`, `u8` to `u64`, `f32`, `f64` | of the same name |
/// | `&str`, `String`, `Cow<str>` | utf8 |
/// | `&[u8]`, `Cow<[u8]>` | binary |
/// | `[u8; N]` | fixed-size-binary(N) |
/// | [`Date`], [`TimestampUs`], [`DurationUs`], [`Decimal`] | date32, timestamp, duration, decimal128 |
/// | `Option<T>` | that of `T`, nullable |
/// | `Vec<T>` | list of `T` |
/// | a struct that derives [`crate::Row`] | struct |
pub trait Value: Sized {
    /// Builds a column of these values.
    type Builder: Build;

    /// The field of this name whose values these are.
    fn field(name: &str) -> Field;

    /// Whether these values can be read from a column of this type. Nulls do not matter here.
    fn accepts(field: &Field) -> bool;

    /// Appends the value to a column.
    fn append_to(self, builder: &mut Self::Builder);
}

/// A [`Value`] that can be read from a column.
pub trait Read<'a>: Value {
    /// The column, downcast once a batch.
    type Column: Clone + Debug;

    /// Takes the column's nodes and buffers, its children's included. The column's type is one that
    /// [`Value::accepts`] accepts.
    fn column(cursor: &mut Cursor<'a>) -> Self::Column;

    /// The value at `index`; `None` when it, or something in it, is null and its type has no place for nulls.
    ///
    /// # Panics
    ///
    /// When `index` is not less than the column's length.
    fn get(column: &Self::Column, index: usize) -> Option<Self>;
}

/// Takes nodes and buffers one by one, in pre-order.
#[derive(Debug)]
pub struct Cursor<'a> {
    nodes: std::slice::Iter<'a, Node>,
    buffers: std::slice::Iter<'a, &'a [u8]>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(nodes: &'a [Node], buffers: &'a [&'a [u8]]) -> Self {
        Self { nodes: nodes.iter(), buffers: buffers.iter() }
    }

    fn length(&mut self) -> usize {
        // A batch has a node for every field of its schema.
        self.nodes.next().map_or(0, |node| node.length as usize)
    }

    pub(crate) fn buffer(&mut self) -> &'a [u8] {
        self.buffers.next().copied().unwrap_or_default()
    }

    /// Takes the node of a column of nulls alone, which has no buffers.
    pub(crate) fn no_values(&mut self) -> Validity<'a> {
        Validity { length: self.length(), bits: &[] }
    }

    /// Takes the node and the validity, which come first in every type.
    pub(crate) fn values(&mut self) -> Validity<'a> {
        let length = self.length();
        Validity { length, bits: self.buffer() }
    }
}

/// How many values a column has, and which of them are null.
#[derive(Debug, Clone, Copy, Default)]
pub struct Validity<'a> {
    length: usize,
    bits: &'a [u8],
}

impl Validity<'_> {
    /// How many values the column has.
    #[must_use]
    pub fn n_values(&self) -> usize {
        self.length
    }

    /// Whether the value at `index` is null.
    #[must_use]
    #[inline]
    pub fn is_null(&self, index: usize) -> bool {
        !self.bits.is_empty() && (self.bits[index / 8] >> (index % 8)) & 1 == 0
    }
}

/// A value of fixed width: its little-endian bytes are the column's.
pub trait Fixed: Copy + Debug {
    /// Its bytes.
    type Bytes: Copy + Debug + 'static;

    /// The bytes in the place of a null.
    const BLANK: Self::Bytes;

    /// The value of these bytes.
    fn from_bytes(bytes: Self::Bytes) -> Self;

    /// The bytes of this value.
    fn into_bytes(self) -> Self::Bytes;

    /// A buffer's values.
    fn chunks(buffer: &[u8]) -> &[Self::Bytes];

    /// Values as a buffer, without a copy.
    fn flatten(values: Vec<Self::Bytes>) -> Vec<u8>;
}

/// A column of values of fixed width.
#[derive(Debug, Clone, Copy)]
pub struct FixedColumn<'a, T: Fixed> {
    validity: Validity<'a>,
    values: &'a [T::Bytes],
}

impl<'a, T: Fixed> FixedColumn<'a, T> {
    /// Which values are null.
    #[must_use]
    pub fn validity(&self) -> Validity<'a> {
        self.validity
    }

    /// All values in order; where one is null, whatever stands in its place. Loops over it are vectorised.
    pub fn values(&self) -> impl ExactSizeIterator<Item = T> + Clone + use<'a, T> {
        self.values.iter().map(|bytes| T::from_bytes(*bytes))
    }
}

impl<'a, T: Fixed> FixedColumn<'a, T> {
    fn take(cursor: &mut Cursor<'a>) -> Self {
        Self { validity: cursor.values(), values: T::chunks(cursor.buffer()) }
    }

    #[inline]
    fn get(&self, index: usize) -> Option<T> {
        if self.validity.is_null(index) { None } else { Some(T::from_bytes(self.values[index])) }
    }
}

macro_rules! fixed_bytes {
    ($width:expr) => {
        type Bytes = [u8; $width];
        const BLANK: Self::Bytes = [0; $width];

        fn chunks(buffer: &[u8]) -> &[Self::Bytes] {
            buffer.as_chunks().0
        }

        fn flatten(values: Vec<Self::Bytes>) -> Vec<u8> {
            values.into_flattened()
        }
    };
}

macro_rules! fixed_value {
    ($type:ty, [$($generics:tt)*], $data_type:expr, $accepts:pat $(if $guard:expr)?) => {
        impl<$($generics)*> Value for $type {
            type Builder = FixedBuilder<Self>;

            fn field(name: &str) -> Field {
                Field::new(name, $data_type)
            }

            fn accepts(field: &Field) -> bool {
                matches!(field.data_type, $accepts $(if $guard)?)
            }

            #[inline]
            fn append_to(self, builder: &mut Self::Builder) {
                builder.push(self);
            }
        }

        impl<'a, $($generics)*> Read<'a> for $type {
            type Column = FixedColumn<'a, Self>;

            fn column(cursor: &mut Cursor<'a>) -> Self::Column {
                FixedColumn::take(cursor)
            }

            #[inline]
            fn get(column: &Self::Column, index: usize) -> Option<Self> {
                column.get(index)
            }
        }
    };
}

macro_rules! number {
    ($($type:ty => $data_type:ident),*) => {$(
        impl Fixed for $type {
            fixed_bytes!(size_of::<$type>());

            #[inline]
            fn from_bytes(bytes: Self::Bytes) -> Self {
                <$type>::from_le_bytes(bytes)
            }

            #[inline]
            fn into_bytes(self) -> Self::Bytes {
                self.to_le_bytes()
            }
        }

        fixed_value!($type, [], DataType::$data_type, DataType::$data_type);
    )*};
}

number!(
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    u8 => UInt8, u16 => UInt16, u32 => UInt32, u64 => UInt64,
    f32 => Float32, f64 => Float64
);

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident, [$($generics:tt)*], [$($arguments:tt)*], $inner:ty, $($field:tt)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name<$($generics)*>(pub $inner);

        impl<$($generics)*> Fixed for $name<$($arguments)*> {
            fixed_bytes!(size_of::<$inner>());

            #[inline]
            fn from_bytes(bytes: Self::Bytes) -> Self {
                Self(<$inner>::from_le_bytes(bytes))
            }

            #[inline]
            fn into_bytes(self) -> Self::Bytes {
                self.0.to_le_bytes()
            }
        }

        fixed_value!($name<$($arguments)*>, [$($generics)*], $($field)*);
    };
}

newtype!(
    /// Days since 1970-01-01.
    Date, [], [], i32, DataType::Date32, DataType::Date32
);
newtype!(
    /// Microseconds since 1970-01-01, in UTC. Written without a time zone, which the host takes as UTC; read with any.
    TimestampUs, [], [], i64,
    DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Timestamp(TimeUnit::Microsecond, _)
);
newtype!(
    /// A length of time in microseconds. In a configuration it is text with a unit, as in a job file: `"1h30m"`.
    DurationUs, [], [], i64,
    DataType::Duration(TimeUnit::Microsecond), DataType::Duration(TimeUnit::Microsecond)
);
newtype!(
    /// A decimal number of at most `P` digits, `S` of them after the point: the value times 10 to the power `S`.
    Decimal, [const P: u8, const S: i8], [P, S], i128,
    DataType::Decimal128(P, S), DataType::Decimal128(p, s) if p == P && s == S
);

newtype!(
    /// A decimal number of any precision and scale, as it is stored: for operators that look at the scale themselves.
    AnyDecimal, [], [], i128, DataType::Decimal128(38, 0), DataType::Decimal128(..)
);

impl<const N: usize> Fixed for [u8; N] {
    fixed_bytes!(N);

    #[inline]
    fn from_bytes(bytes: Self::Bytes) -> Self {
        bytes
    }

    #[inline]
    fn into_bytes(self) -> Self::Bytes {
        self
    }
}

fixed_value!(
    [u8; N], [const N: usize], DataType::FixedSizeBinary(N as u32),
    DataType::FixedSizeBinary(width) if width as usize == N && N > 0
);

/// A column of booleans.
#[derive(Debug, Clone, Copy)]
pub struct BitColumn<'a> {
    validity: Validity<'a>,
    bits: &'a [u8],
}

impl Value for bool {
    type Builder = BitBuilder;

    fn field(name: &str) -> Field {
        Field::new(name, DataType::Boolean)
    }

    fn accepts(field: &Field) -> bool {
        field.data_type == DataType::Boolean
    }

    #[inline]
    fn append_to(self, builder: &mut Self::Builder) {
        builder.push(self);
    }
}

impl<'a> Read<'a> for bool {
    type Column = BitColumn<'a>;

    fn column(cursor: &mut Cursor<'a>) -> Self::Column {
        BitColumn { validity: cursor.values(), bits: cursor.buffer() }
    }

    #[inline]
    fn get(column: &Self::Column, index: usize) -> Option<Self> {
        let bit = (column.bits[index / 8] >> (index % 8)) & 1 == 1;
        if column.validity.is_null(index) { None } else { Some(bit) }
    }
}

/// A column of text or bytes.
#[derive(Debug, Clone, Copy)]
pub struct BytesColumn<'a> {
    validity: Validity<'a>,
    offsets: &'a [[u8; 4]],
    data: &'a [u8],
}

impl<'a> BytesColumn<'a> {
    fn take(cursor: &mut Cursor<'a>) -> Self {
        let validity = cursor.values();
        Self { validity, offsets: cursor.buffer().as_chunks().0, data: cursor.buffer() }
    }

    #[inline]
    fn get(&self, index: usize) -> Option<&'a [u8]> {
        assert!(index < self.validity.length, "a row of the column");
        if self.validity.is_null(index) {
            return None;
        }
        // SAFETY: the batch follows the contract (`Batch::new`): there is one more offset than there are values, of which
        // `index` is one, and offsets do not fall and end with the data.
        unsafe {
            let start = u32::from_le_bytes(*self.offsets.get_unchecked(index)) as usize;
            let end = u32::from_le_bytes(*self.offsets.get_unchecked(index + 1)) as usize;
            Some(self.data.get_unchecked(start..end))
        }
    }

    #[inline]
    fn get_text(&self, index: usize) -> Option<&'a str> {
        // SAFETY: only made for columns of text (`Value::accepts`), whose values are UTF-8 (`Batch::new`).
        self.get(index).map(|bytes| unsafe { std::str::from_utf8_unchecked(bytes) })
    }
}

macro_rules! bytes_value {
    ($type:ty, $data_type:ident, $bytes:expr, $from:expr) => {
        impl<'v> Value for $type {
            type Builder = BytesBuilder;

            fn field(name: &str) -> Field {
                Field::new(name, DataType::$data_type)
            }

            fn accepts(field: &Field) -> bool {
                field.data_type == DataType::$data_type
            }

            #[inline]
            fn append_to(self, builder: &mut Self::Builder) {
                builder.push($bytes(&self));
            }
        }

        impl<'v> Read<'v> for $type {
            type Column = BytesColumn<'v>;

            fn column(cursor: &mut Cursor<'v>) -> Self::Column {
                BytesColumn::take(cursor)
            }

            #[inline]
            fn get(column: &Self::Column, index: usize) -> Option<Self> {
                $from(column, index)
            }
        }
    };
}

bytes_value!(&'v str, Utf8, str_bytes, |column: &BytesColumn<'v>, index| column.get_text(index));
bytes_value!(Cow<'v, str>, Utf8, str_bytes, |column: &BytesColumn<'v>, index| column
    .get_text(index)
    .map(Cow::Borrowed));
bytes_value!(&'v [u8], Binary, slice_bytes, |column: &BytesColumn<'v>, index| column.get(index));
bytes_value!(Cow<'v, [u8]>, Binary, slice_bytes, |column: &BytesColumn<'v>, index| column
    .get(index)
    .map(Cow::Borrowed));

fn str_bytes(text: &str) -> &[u8] {
    text.as_bytes()
}

fn slice_bytes(bytes: &[u8]) -> &[u8] {
    bytes
}

impl Value for String {
    type Builder = BytesBuilder;

    fn field(name: &str) -> Field {
        Field::new(name, DataType::Utf8)
    }

    fn accepts(field: &Field) -> bool {
        field.data_type == DataType::Utf8
    }

    #[inline]
    fn append_to(self, builder: &mut Self::Builder) {
        builder.push(self.as_bytes());
    }
}

impl<'a> Read<'a> for String {
    type Column = BytesColumn<'a>;

    fn column(cursor: &mut Cursor<'a>) -> Self::Column {
        BytesColumn::take(cursor)
    }

    #[inline]
    fn get(column: &Self::Column, index: usize) -> Option<Self> {
        column.get_text(index).map(str::to_owned)
    }
}

/// A column whose values may be null, and its validity.
#[derive(Debug, Clone, Copy)]
pub struct NullableColumn<'a, C> {
    validity: Validity<'a>,
    values: C,
}

impl<'a, C> NullableColumn<'a, C> {
    /// Which values are null.
    #[must_use]
    pub fn validity(&self) -> Validity<'a> {
        self.validity
    }

    /// The column as if nothing were null.
    #[must_use]
    pub fn values(&self) -> &C {
        &self.values
    }
}

impl<T: Value> Value for Option<T> {
    type Builder = NullableBuilder<T::Builder>;

    fn field(name: &str) -> Field {
        T::field(name).nullable()
    }

    fn accepts(field: &Field) -> bool {
        T::accepts(field)
    }

    #[inline]
    fn append_to(self, builder: &mut Self::Builder) {
        match self {
            Some(value) => builder.push_with(|values| value.append_to(values)),
            None => builder.push_blank(),
        }
    }
}

impl<'a, T: Read<'a>> Read<'a> for Option<T> {
    type Column = NullableColumn<'a, T::Column>;

    fn column(cursor: &mut Cursor<'a>) -> Self::Column {
        // The validity is read here and by the values: here for what is null, there for nothing that is not.
        let mut ahead = Cursor { nodes: cursor.nodes.clone(), buffers: cursor.buffers.clone() };
        NullableColumn { validity: ahead.values(), values: T::column(cursor) }
    }

    #[inline]
    fn get(column: &Self::Column, index: usize) -> Option<Self> {
        if column.validity.is_null(index) { Some(None) } else { T::get(&column.values, index).map(Some) }
    }
}

/// A column of lists.
#[derive(Debug, Clone, Copy)]
pub struct ListColumn<'a, C> {
    validity: Validity<'a>,
    offsets: &'a [[u8; 4]],
    items: C,
}

impl<C> ListColumn<'_, C> {
    /// The items of all lists, one after the other.
    #[must_use]
    pub fn items(&self) -> &C {
        &self.items
    }

    /// Which items are those of the list at `index`; `None` when it is null.
    ///
    /// # Panics
    ///
    /// When `index` is not less than the column's length.
    #[must_use]
    pub fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        if self.validity.is_null(index) {
            return None;
        }
        let offset = |index: usize| u32::from_le_bytes(self.offsets[index]) as usize;
        Some(offset(index)..offset(index + 1))
    }
}

impl<T: Value> Value for Vec<T> {
    type Builder = ListBuilder<T::Builder>;

    fn field(name: &str) -> Field {
        Field::new(name, DataType::List).with_children(vec![T::field("item")])
    }

    fn accepts(field: &Field) -> bool {
        field.data_type == DataType::List && field.children.first().is_some_and(T::accepts)
    }

    #[inline]
    fn append_to(self, builder: &mut Self::Builder) {
        builder.push_with(|items| self.into_iter().for_each(|item| item.append_to(items)));
    }
}

impl<'a, T: Read<'a>> Read<'a> for Vec<T> {
    type Column = ListColumn<'a, T::Column>;

    fn column(cursor: &mut Cursor<'a>) -> Self::Column {
        let validity = cursor.values();
        ListColumn { validity, offsets: cursor.buffer().as_chunks().0, items: T::column(cursor) }
    }

    fn get(column: &Self::Column, index: usize) -> Option<Self> {
        column.range(index)?.map(|item| T::get(&column.items, item)).collect()
    }
}
