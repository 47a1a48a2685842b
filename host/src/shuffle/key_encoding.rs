//! The canonical bytes of keys: equal keys have equal bytes, whatever arrays hold them.
//!
//! These bytes are hashed by the partitioner and compared by grouping. They are a format, fixed for ever:
//!
//! | type | value bytes |
//! | --- | --- |
//! | boolean, integers, decimals of 32 and 64 bits, dates, times, timestamps, durations | 8: little-endian, signed ones sign-extended, unsigned ones and booleans zero-extended |
//! | float16, float32, float64 | 8: the bits as float64, little-endian; -0.0 is 0.0, every NaN is `0x7ff8000000000000` |
//! | decimal128, decimal256 | 16 and 32: the unscaled value, little-endian |
//! | utf8, binary, in every layout and fixed-size | the bytes |
//! | list, map (a list of pairs), in every layout | how many items (8 bytes, little-endian), then each item *framed* |
//! | struct | each field *framed* |
//!
//! A *framed* value is the byte 0 for null; else the byte 1 and the value bytes, which for text and binary follow their
//! length (8 bytes, little-endian). The key of a single column that is not null is its value bytes, without a frame;
//! every other key is its columns' framed values one after the other. A dictionary or run-end encoded column counts as
//! the values it stands for.

use std::sync::Arc;

use arrow::array::types::{Decimal128Type, Decimal256Type};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, FixedSizeListArray, LargeBinaryArray,
    LargeStringArray, NullBufferBuilder, PrimitiveArray, StringArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType, Float16Type, Float32Type, Float64Type, i256};
use arrow::error::ArrowError;

/// Whether a column of this type can be a key.
///
/// Intervals are not, because equal ones need not have equal bytes; nor are unions, list views, and encodings inside
/// nested types.
#[must_use]
pub fn is_key_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_plain_key_type(values),
        DataType::RunEndEncoded(_, values) => is_plain_key_type(values.data_type()),
        other => is_plain_key_type(other),
    }
}

fn is_plain_key_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_)
        | DataType::Union(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Dictionary(..)
        | DataType::RunEndEncoded(..) => false,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => is_plain_key_type(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_plain_key_type(field.data_type())),
        _ => true,
    }
}

/// The type of a column's values: what [`plain`] makes of it.
#[must_use]
pub fn plain_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        DataType::RunEndEncoded(_, values) => values.data_type(),
        other => other,
    }
}

/// A column as the values it stands for, without dictionary or run-end encoding.
///
/// # Errors
///
/// What the cast says.
pub fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let plain = plain_type(column.data_type());
    if plain == column.data_type() { Ok(column.clone()) } else { cast(column, plain) }
}

/// The value bytes of each row, as a number, for types where they are 8; the number of a null is any.
pub(crate) fn words(column: &dyn Array) -> Option<Vec<u64>> {
    /// The values' own buffer, whatever the logical type: all types of one width are read alike.
    fn native<T: ArrowNativeType>(column: &dyn Array, word: impl Fn(T) -> u64) -> Vec<u64> {
        let data = column.to_data();
        let values = ScalarBuffer::<T>::new(data.buffers()[0].clone(), data.offset(), data.len());
        values.iter().map(|&value| word(value)).collect()
    }
    fn float(value: f64) -> u64 {
        if value.is_nan() {
            0x7ff8_0000_0000_0000
        } else if value == 0.0 {
            0
        } else {
            value.to_bits()
        }
    }
    use DataType as D;
    Some(match column.data_type() {
        D::Boolean => column.as_boolean().values().iter().map(u64::from).collect(),
        D::Int8 => native::<i8>(column, |value| i64::from(value) as u64),
        D::Int16 => native::<i16>(column, |value| i64::from(value) as u64),
        D::Int32 | D::Date32 | D::Time32(_) | D::Decimal32(..) => {
            native::<i32>(column, |value| i64::from(value) as u64)
        }
        D::Int64 | D::Date64 | D::Time64(_) | D::Timestamp(..) | D::Duration(_) | D::Decimal64(..) => {
            native::<i64>(column, |value| value as u64)
        }
        D::UInt8 => native::<u8>(column, u64::from),
        D::UInt16 => native::<u16>(column, u64::from),
        D::UInt32 => native::<u32>(column, u64::from),
        D::UInt64 => native::<u64>(column, |value| value),
        D::Float16 => column.as_primitive::<Float16Type>().values().iter().map(|value| float(value.to_f64())).collect(),
        D::Float32 => {
            column.as_primitive::<Float32Type>().values().iter().map(|&value| float(f64::from(value))).collect()
        }
        D::Float64 => column.as_primitive::<Float64Type>().values().iter().map(|&value| float(value)).collect(),
        _ => return None,
    })
}

/// A column ready to be encoded row by row.
pub(crate) struct Encoder {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    /// Every value is null.
    Nothing,
    Words(Vec<u64>),
    Decimal128(PrimitiveArray<Decimal128Type>),
    Decimal256(PrimitiveArray<Decimal256Type>),
    /// Text and binary of 32-bit and 64-bit offsets, the data after the offsets.
    Bytes(ScalarBuffer<i32>, Buffer),
    LargeBytes(ScalarBuffer<i64>, Buffer),
    ViewBytes(BinaryViewArray),
    FixedBytes(FixedSizeBinaryArray),
    List(ScalarBuffer<i32>, Box<Encoder>),
    LargeList(ScalarBuffer<i64>, Box<Encoder>),
    FixedList(FixedSizeListArray, Box<Encoder>),
    Struct(Vec<Encoder>),
}

impl Encoder {
    /// Prepares a column.
    ///
    /// # Errors
    ///
    /// When its type is not one [`is_key_type`] accepts.
    pub(crate) fn new(column: &ArrayRef) -> Result<Self, ArrowError> {
        let column = plain(column)?;
        let values = if let Some(words) = words(&column) {
            Values::Words(words)
        } else {
            match column.data_type() {
                DataType::Null => Values::Nothing,
                DataType::Decimal128(..) => Values::Decimal128(column.as_primitive().clone()),
                DataType::Decimal256(..) => Values::Decimal256(column.as_primitive().clone()),
                DataType::Utf8 => {
                    let text = column.as_string::<i32>();
                    Values::Bytes(text.offsets().inner().clone(), text.values().clone())
                }
                DataType::Binary => {
                    let binary = column.as_binary::<i32>();
                    Values::Bytes(binary.offsets().inner().clone(), binary.values().clone())
                }
                DataType::LargeUtf8 => {
                    let text = column.as_string::<i64>();
                    Values::LargeBytes(text.offsets().inner().clone(), text.values().clone())
                }
                DataType::LargeBinary => {
                    let binary = column.as_binary::<i64>();
                    Values::LargeBytes(binary.offsets().inner().clone(), binary.values().clone())
                }
                DataType::Utf8View => Values::ViewBytes(column.as_string_view().clone().to_binary_view()),
                DataType::BinaryView => Values::ViewBytes(column.as_binary_view().clone()),
                DataType::FixedSizeBinary(_) => Values::FixedBytes(column.as_fixed_size_binary().clone()),
                DataType::List(_) => {
                    let list = column.as_list::<i32>();
                    Values::List(list.offsets().inner().clone(), Box::new(Self::new(list.values())?))
                }
                DataType::LargeList(_) => {
                    let list = column.as_list::<i64>();
                    Values::LargeList(list.offsets().inner().clone(), Box::new(Self::new(list.values())?))
                }
                DataType::FixedSizeList(..) => {
                    let list = column.as_fixed_size_list();
                    Values::FixedList(list.clone(), Box::new(Self::new(list.values())?))
                }
                DataType::Map(..) => {
                    let map = column.as_map();
                    let entries: ArrayRef = Arc::new(map.entries().clone());
                    Values::List(map.offsets().inner().clone(), Box::new(Self::new(&entries)?))
                }
                DataType::Struct(_) => {
                    let children = column.as_struct().columns().iter().map(Self::new).collect::<Result<_, _>>()?;
                    Values::Struct(children)
                }
                other => {
                    return Err(ArrowError::NotYetImplemented(format!("a column of type {other} as a key")));
                }
            }
        };
        Ok(Self { nulls: column.logical_nulls(), values })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the framed value of a row.
    pub(crate) fn encode_framed(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.push(0);
            return;
        }
        out.push(1);
        if let Some(bytes) = self.bytes(row) {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        } else {
            self.encode_value(row, out);
        }
    }

    /// Appends the value bytes of a row that is not null.
    pub(crate) fn encode_value(&self, row: usize, out: &mut Vec<u8>) {
        fn items(range: std::ops::Range<usize>, encoder: &Encoder, out: &mut Vec<u8>) {
            out.extend_from_slice(&(range.len() as u64).to_le_bytes());
            for item in range {
                encoder.encode_framed(item, out);
            }
        }
        match &self.values {
            Values::Nothing => {}
            Values::Words(words) => out.extend_from_slice(&words[row].to_le_bytes()),
            Values::Decimal128(values) => out.extend_from_slice(&values.value(row).to_le_bytes()),
            Values::Decimal256(values) => out.extend_from_slice(&i256::to_le_bytes(values.value(row))),
            Values::List(offsets, encoder) => items(offsets[row] as usize..offsets[row + 1] as usize, encoder, out),
            Values::LargeList(offsets, encoder) => {
                items(offsets[row] as usize..offsets[row + 1] as usize, encoder, out);
            }
            Values::FixedList(list, encoder) => {
                let start = list.value_offset(row) as usize;
                items(start..start + list.value_length() as usize, encoder, out);
            }
            Values::Struct(children) => children.iter().for_each(|child| child.encode_framed(row, out)),
            Values::Bytes(..) | Values::LargeBytes(..) | Values::ViewBytes(_) | Values::FixedBytes(_) => {
                out.extend_from_slice(self.bytes(row).unwrap_or_default());
            }
        }
    }

    /// The value of a row of text or binary.
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        match &self.values {
            Values::Bytes(offsets, data) => Some(&data[offsets[row] as usize..offsets[row + 1] as usize]),
            Values::LargeBytes(offsets, data) => Some(&data[offsets[row] as usize..offsets[row + 1] as usize]),
            Values::ViewBytes(values) => Some(values.value(row)),
            Values::FixedBytes(values) => Some(values.value(row)),
            _ => None,
        }
    }
}

/// Calls `each` with the key of every row, in order: its bytes, or `None` for a single column that is null.
pub(crate) fn for_each_key(
    columns: &[ArrayRef],
    n_rows: usize,
    mut each: impl FnMut(Option<&[u8]>),
) -> Result<(), ArrowError> {
    let encoders = columns.iter().map(Encoder::new).collect::<Result<Vec<_>, _>>()?;
    let mut scratch = Vec::new();
    if let [single] = &encoders[..] {
        for row in 0..n_rows {
            if single.is_null(row) {
                each(None);
            } else if let Some(bytes) = single.bytes(row) {
                each(Some(bytes));
            } else {
                scratch.clear();
                single.encode_value(row, &mut scratch);
                each(Some(&scratch));
            }
        }
    } else {
        for row in 0..n_rows {
            scratch.clear();
            encoders.iter().for_each(|encoder| encoder.encode_framed(row, &mut scratch));
            each(Some(&scratch));
        }
    }
    Ok(())
}

/// A column of text or binary, of any layout, made of its values' bytes.
///
/// # Errors
///
/// When the values outgrow the type: 2 GiB with 32-bit offsets; or are not of it.
pub(crate) fn bytes_column<'a>(
    data_type: &DataType,
    values: impl Iterator<Item = Option<&'a [u8]>>,
) -> Result<ArrayRef, ArrowError> {
    if let DataType::FixedSizeBinary(width) = data_type {
        return Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *width)?));
    }
    let mut data = Vec::new();
    let mut ends = vec![0i64];
    let mut valid = NullBufferBuilder::new(values.size_hint().0);
    for value in values {
        data.extend_from_slice(value.unwrap_or_default());
        ends.push(data.len() as i64);
        valid.append(value.is_some());
    }
    let (data, nulls) = (Buffer::from_vec(data), valid.finish());
    let small = |ends: Vec<i64>| {
        let total = data.len();
        // Offsets grow: when the last fits, all do.
        i32::try_from(total).map_err(|_| ArrowError::OffsetOverflowError(total))?;
        Ok::<_, ArrowError>(OffsetBuffer::new(ends.into_iter().map(|end| end as i32).collect::<ScalarBuffer<i32>>()))
    };
    Ok(match data_type {
        DataType::Utf8 => Arc::new(StringArray::try_new(small(ends)?, data.clone(), nulls)?),
        DataType::Binary => Arc::new(BinaryArray::try_new(small(ends)?, data.clone(), nulls)?),
        DataType::LargeUtf8 => Arc::new(LargeStringArray::try_new(OffsetBuffer::new(ends.into()), data, nulls)?),
        DataType::LargeBinary => Arc::new(LargeBinaryArray::try_new(OffsetBuffer::new(ends.into()), data, nulls)?),
        DataType::Utf8View => {
            cast(&LargeStringArray::try_new(OffsetBuffer::new(ends.into()), data, nulls)?, data_type)?
        }
        _ => cast(&LargeBinaryArray::try_new(OffsetBuffer::new(ends.into()), data, nulls)?, data_type)?,
    })
}

/// The column with every -0.0 as 0.0 and every NaN as the one that keys have, also in nested types.
pub(crate) fn canonical_floats(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    macro_rules! canonical {
        ($type:ty, $zero:expr, $nan:expr) => {
            Arc::new(column.as_primitive::<$type>().unary::<_, $type>(|value| {
                if value.is_nan() {
                    $nan
                } else if value == $zero {
                    $zero
                } else {
                    value
                }
            }))
        };
    }
    Ok(match column.data_type() {
        DataType::Float16 => {
            type F16 = <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native;
            canonical!(Float16Type, F16::ZERO, F16::NAN)
        }
        DataType::Float32 => canonical!(Float32Type, 0.0, f32::NAN),
        DataType::Float64 => canonical!(Float64Type, 0.0, f64::NAN),
        data_type if data_type.is_nested() => {
            let data = column.to_data();
            let children = data
                .child_data()
                .iter()
                .map(|child| Ok(canonical_floats(&make_array(child.clone()))?.to_data()))
                .collect::<Result<Vec<_>, ArrowError>>()?;
            make_array(data.into_builder().child_data(children).build()?)
        }
        _ => column.clone(),
    })
}
