//! Lowering: a record batch as borrowed buffers.

use std::borrow::Cow;

use arrow::array::{Array, AsArray, BooleanBufferBuilder, GenericByteArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::*;
use arrow::error::ArrowError;

use super::schema::contract_type;
use super::{Lowered, Node};

/// Lowers a batch to the contract's layout.
///
/// Buffers are borrowed, except where the layout differs: columns of a type that is cast, offsets that do not start at
/// 0 and bits that do not start at a byte, which both come of slicing. Without rows there are no nodes and no buffers.
///
/// # Errors
///
/// When a column has a type that the contract does not carry ([`super::flatten`] says so before any row flows), when a
/// cast fails (text of more than 2 GiB in one column), or when there are more than 2³² - 1 rows.
pub fn lower(batch: &RecordBatch) -> Result<Lowered<'_>, ArrowError> {
    let rows = to_u32(batch.num_rows())?;
    if rows == 0 {
        return Ok(Lowered::default());
    }
    let mut lowered = Lowered {
        rows,
        nodes: Vec::with_capacity(batch.num_columns()),
        buffers: Vec::with_capacity(3 * batch.num_columns()),
    };
    for column in batch.columns() {
        let contract = contract_type(column.data_type()).map_err(|data_type| {
            ArrowError::CastError(format!("the contract has no type for values of type {data_type}"))
        })?;
        match contract {
            None => push(&mut lowered, column.as_ref(), 0, column.len())?,
            Some(contract) => {
                let options = CastOptions { safe: false, ..CastOptions::default() };
                let cast = cast_with_options(column, &contract, &options)?;
                let mut owned = Lowered::default();
                push(&mut owned, cast.as_ref(), 0, cast.len())?;
                lowered.nodes.append(&mut owned.nodes);
                lowered.buffers.extend(owned.buffers.into_iter().map(|buffer| Cow::Owned(buffer.into_owned())));
            }
        }
    }
    Ok(lowered)
}

/// Pushes `length` values of `array` from `start`, and what they contain.
fn push<'a>(out: &mut Lowered<'a>, array: &'a dyn Array, start: usize, length: usize) -> Result<(), ArrowError> {
    macro_rules! fixed {
        ($type:ty) => {{
            let values = &array.as_primitive::<$type>().values()[start..start + length];
            out.buffers.push(Cow::Borrowed(values.to_byte_slice()));
        }};
    }
    if array.data_type().is_null() {
        out.nodes.push(Node { length: to_u32(length)?, null_count: to_u32(length)? });
        return Ok(());
    }
    push_node(out, array, start, length)?;
    match array.data_type() {
        DataType::Boolean => out.buffers.push(bits(array.as_boolean().values(), start, length)),
        DataType::Int8 => fixed!(Int8Type),
        DataType::Int16 => fixed!(Int16Type),
        DataType::Int32 => fixed!(Int32Type),
        DataType::Int64 => fixed!(Int64Type),
        DataType::UInt8 => fixed!(UInt8Type),
        DataType::UInt16 => fixed!(UInt16Type),
        DataType::UInt32 => fixed!(UInt32Type),
        DataType::UInt64 => fixed!(UInt64Type),
        DataType::Float32 => fixed!(Float32Type),
        DataType::Float64 => fixed!(Float64Type),
        DataType::Date32 => fixed!(Date32Type),
        DataType::Timestamp(TimeUnit::Second, _) => fixed!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => fixed!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => fixed!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => fixed!(TimestampNanosecondType),
        DataType::Duration(TimeUnit::Second) => fixed!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => fixed!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => fixed!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => fixed!(DurationNanosecondType),
        DataType::Decimal128(..) => fixed!(Decimal128Type),
        DataType::FixedSizeBinary(_) => {
            let array = array.as_fixed_size_binary();
            let width = array.value_size();
            out.buffers.push(Cow::Borrowed(&array.value_data()[start * width..(start + length) * width]));
        }
        DataType::Utf8 => push_bytes(out, array.as_string::<i32>(), start, length),
        DataType::Binary => push_bytes(out, array.as_binary::<i32>(), start, length),
        DataType::List(_) => {
            let array = array.as_list::<i32>();
            let (start, length) = push_offsets(out, array.offsets(), start, length);
            push(out, array.values().as_ref(), start, length)?;
        }
        DataType::Map(..) => {
            let array = array.as_map();
            let (start, length) = push_offsets(out, array.offsets(), start, length);
            push(out, array.entries(), start, length)?;
        }
        DataType::Struct(_) => {
            for child in array.as_struct().columns() {
                push(out, child.as_ref(), start, length)?;
            }
        }
        other => {
            return Err(ArrowError::CastError(format!("the contract has no type for values of type {other}")));
        }
    }
    Ok(())
}

/// Pushes the node and the validity of `length` values from `start`.
fn push_node<'a>(out: &mut Lowered<'a>, array: &'a dyn Array, start: usize, length: usize) -> Result<(), ArrowError> {
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    let null_count = match nulls {
        None => 0,
        Some(nulls) if length == array.len() => nulls.null_count(),
        Some(nulls) => nulls.slice(start, length).null_count(),
    };
    out.nodes.push(Node { length: to_u32(length)?, null_count: to_u32(null_count)? });
    out.buffers.push(match nulls {
        Some(nulls) if null_count > 0 => bits(nulls.inner(), start, length),
        _ => Cow::Borrowed(&[]),
    });
    Ok(())
}

/// Pushes offsets that start at 0, and says which values they point into: start and length.
fn push_offsets<'a>(
    out: &mut Lowered<'a>,
    offsets: &'a OffsetBuffer<i32>,
    start: usize,
    length: usize,
) -> (usize, usize) {
    let offsets = &offsets[start..=start + length];
    let (first, last) = (offsets[0], offsets[length]);
    out.buffers.push(if first == 0 {
        Cow::Borrowed(offsets.to_byte_slice())
    } else {
        let mut rebased = Vec::with_capacity(size_of_val(offsets));
        rebased.extend(offsets.iter().flat_map(|offset| (offset - first).to_le_bytes()));
        Cow::Owned(rebased)
    });
    // Arrow's offsets are not negative and do not fall.
    (first as usize, (last - first) as usize)
}

fn push_bytes<'a, T: ByteArrayType<Offset = i32>>(
    out: &mut Lowered<'a>,
    array: &'a GenericByteArray<T>,
    start: usize,
    length: usize,
) {
    let (start, length) = push_offsets(out, array.offsets(), start, length);
    out.buffers.push(Cow::Borrowed(&array.value_data()[start..start + length]));
}

/// `length` bits from `start`, at the beginning of a byte.
fn bits(bits: &BooleanBuffer, start: usize, length: usize) -> Cow<'_, [u8]> {
    let first = bits.offset() + start;
    if first.is_multiple_of(8) {
        let first = first / 8;
        return Cow::Borrowed(&bits.values()[first..first + length.div_ceil(8)]);
    }
    let mut shifted = BooleanBufferBuilder::new(length);
    shifted.append_packed_range(first..first + length, bits.values());
    Cow::Owned(shifted.as_slice().to_vec())
}

fn to_u32(count: usize) -> Result<u32, ArrowError> {
    u32::try_from(count).map_err(|_| ArrowError::ComputeError(format!("{count} values are more than a batch can hold")))
}
