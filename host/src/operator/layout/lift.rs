//! Lifting: buffers that nobody vouches for as a record batch, or the field and the rule that they break.
//!
//! Every rule of the contract's `batch` is checked here, once; arrays are then made without checking them again where
//! arrow's own check would be a second pass over the data.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, ListArray,
    MapArray, NullArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;

use super::Node;

/// Makes a record batch of `schema` from what an operator returned.
///
/// Buffers are taken over, not copied, unless they are not aligned for their type.
///
/// # Cost
///
/// One pass over offsets, validity and decimals, and one over text; the text pass is at memory speed.
///
/// # Errors
///
/// Names the field and the rule of the contract that it breaks, as in "column `word`: offset 3 is 7, less than the one
/// before it, 9". No batch is made then.
pub fn lift(schema: &SchemaRef, rows: u32, nodes: &[Node], buffers: Vec<Vec<u8>>) -> Result<RecordBatch, String> {
    if rows == 0 && nodes.is_empty() && buffers.is_empty() {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    let (mut n_nodes, mut n_buffers) = (0, 0);
    schema.fields().iter().for_each(|field| count(field, &mut n_nodes, &mut n_buffers));
    if nodes.len() != n_nodes {
        return Err(format!("it has {} nodes, its schema has {n_nodes} fields", nodes.len()));
    }
    if buffers.len() != n_buffers {
        return Err(format!("it has {} buffers, its schema needs {n_buffers}", buffers.len()));
    }
    let mut parts = Parts { nodes: nodes.iter(), buffers: buffers.into_iter() };
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let path = Path { parent: None, name: field.name() };
            parts.array(field, &path, Length::Exactly(rows), None)
        })
        .collect::<Result<Vec<_>, String>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| error.to_string())
}

/// Adds the nodes and buffers of a field and all that it contains.
fn count(field: &Field, n_nodes: &mut usize, n_buffers: &mut usize) {
    *n_nodes += 1;
    *n_buffers += match field.data_type() {
        DataType::Null => 0,
        DataType::Struct(_) => 1,
        DataType::Utf8 | DataType::Binary => 3,
        _ => 2,
    };
    match field.data_type() {
        DataType::List(child) | DataType::Map(child, _) => count(child, n_nodes, n_buffers),
        DataType::Struct(children) => children.iter().for_each(|child| count(child, n_nodes, n_buffers)),
        _ => {}
    }
}

/// Where a field stands, written out only when a rule is broken.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    name: &'a str,
}

impl Path<'_> {
    fn broken(&self, rule: impl fmt::Display) -> String {
        format!("column `{self}`: {rule}")
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        write!(f, "{}", self.name.escape_debug())
    }
}

/// How many values a field must have.
#[derive(Clone, Copy)]
enum Length {
    /// As many as the batch or the struct around it.
    Exactly(u32),
    /// As many as the last offset of the list or map around it says.
    LastOffset(u32),
}

/// What is left of a batch's nodes and buffers.
struct Parts<'a> {
    nodes: std::slice::Iter<'a, Node>,
    buffers: std::vec::IntoIter<Vec<u8>>,
}

impl Parts<'_> {
    /// Takes one field and all that it contains. `parent_nulls` are those of the struct around it: where a struct is
    /// null, what stands in its children does not count.
    fn array(
        &mut self,
        field: &Field,
        path: &Path<'_>,
        length: Length,
        parent_nulls: Option<&NullBuffer>,
    ) -> Result<ArrayRef, String> {
        let node = *self.nodes.next().ok_or_else(|| path.broken("its node is missing"))?;
        match length {
            Length::Exactly(rows) if node.length != rows => {
                return Err(path.broken(format_args!("it has {} values, not {rows}", node.length)));
            }
            Length::LastOffset(last) if node.length != last => {
                let rule = format_args!("it has {} values, and the last offset into it is {last}", node.length);
                return Err(path.broken(rule));
            }
            _ => {}
        }
        if *field.data_type() == DataType::Null {
            if node.null_count != node.length {
                return Err(path.broken("every value of the null type is null, its null count says otherwise"));
            }
            return Ok(Arc::new(NullArray::new(node.length as usize)));
        }
        let nulls = self.validity(node, path)?;
        if let Some(nulls) = &nulls
            && !field.is_nullable()
            && !parent_nulls.is_some_and(|parent| parent.contains(nulls))
        {
            let row =
                (0..nulls.len()).find(|&i| nulls.is_null(i) && parent_nulls.is_none_or(|parent| parent.is_valid(i)));
            return Err(path.broken(format_args!("value {} is null, and it is not nullable", row.unwrap_or_default())));
        }
        self.values(field, path, node.length, nulls)
    }

    fn values(
        &mut self,
        field: &Field,
        path: &Path<'_>,
        length: u32,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, String> {
        macro_rules! fixed {
            ($type:ty) => {
                Arc::new(self.fixed::<$type>(path, length, nulls)?.with_data_type(field.data_type().clone()))
            };
        }
        let invalid = |error: arrow::error::ArrowError| path.broken(error);
        Ok(match field.data_type() {
            DataType::Boolean => {
                let bits = self.bytes(path, "values", length, u64::from(length).div_ceil(8))?;
                let bits = BooleanBuffer::new(Buffer::from_vec(bits), 0, length as usize);
                Arc::new(BooleanArray::new(bits, nulls))
            }
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
            DataType::Decimal128(precision, scale) => {
                let array = self.fixed::<Decimal128Type>(path, length, nulls)?;
                let array = array.with_precision_and_scale(*precision, *scale).map_err(invalid)?;
                check_precision(&array, *precision).map_err(|rule| path.broken(rule))?;
                Arc::new(array)
            }
            DataType::FixedSizeBinary(width) => {
                let n_bytes = u64::from(length) * u64::from(width.unsigned_abs());
                let values = Buffer::from_vec(self.bytes(path, "values", length, n_bytes)?);
                let array = FixedSizeBinaryArray::try_new_with_len(*width, values, nulls, length as usize);
                Arc::new(array.map_err(invalid)?)
            }
            DataType::Utf8 => {
                let offsets = self.offsets(path, length)?;
                let data = self.data(path, &offsets)?;
                check_utf8(&data, &offsets).map_err(|rule| path.broken(rule))?;
                // SAFETY: the offsets start at 0, do not fall and end with the data; the data is UTF-8, and every
                // offset is at the start of a character; `nulls` has as many bits as there are values.
                Arc::new(unsafe { StringArray::new_unchecked(offsets, Buffer::from_vec(data), nulls) })
            }
            DataType::Binary => {
                let offsets = self.offsets(path, length)?;
                let data = self.data(path, &offsets)?;
                Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(data), nulls).map_err(invalid)?)
            }
            DataType::List(item) => {
                let offsets = self.offsets(path, length)?;
                let child = Path { parent: Some(path), name: item.name() };
                let values = self.array(item, &child, Length::LastOffset(last(&offsets)), None)?;
                Arc::new(ListArray::try_new(item.clone(), offsets, values, nulls).map_err(invalid)?)
            }
            DataType::Map(entries, sorted) => {
                let offsets = self.offsets(path, length)?;
                let child = Path { parent: Some(path), name: entries.name() };
                let values = self.array(entries, &child, Length::LastOffset(last(&offsets)), None)?;
                let pairs = values.as_any().downcast_ref::<StructArray>();
                let pairs = pairs.ok_or_else(|| path.broken("a map is made of structs"))?.clone();
                Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, nulls, *sorted).map_err(invalid)?)
            }
            DataType::Struct(fields) => {
                let children = fields
                    .iter()
                    .map(|field| {
                        let child = Path { parent: Some(path), name: field.name() };
                        self.array(field, &child, Length::Exactly(length), nulls.as_ref())
                    })
                    .collect::<Result<Vec<_>, String>>()?;
                let array = StructArray::try_new_with_length(fields.clone(), children, nulls, length as usize);
                Arc::new(array.map_err(invalid)?)
            }
            other => return Err(path.broken(format_args!("the contract has no type {other}"))),
        })
    }

    fn buffer(&mut self, path: &Path<'_>, what: &str) -> Result<Vec<u8>, String> {
        self.buffers.next().ok_or_else(|| path.broken(format_args!("its {what} buffer is missing")))
    }

    /// A buffer of exactly `n_bytes`. They are `u64`, so that no length from a guest can overflow.
    fn bytes(&mut self, path: &Path<'_>, what: &str, length: u32, n_bytes: u64) -> Result<Vec<u8>, String> {
        let bytes = self.buffer(path, what)?;
        if bytes.len() as u64 != n_bytes {
            let n_found = bytes.len();
            let rule = format_args!("its {what} buffer has {n_found} bytes, {length} values need {n_bytes}");
            return Err(path.broken(rule));
        }
        Ok(bytes)
    }

    fn validity(&mut self, node: Node, path: &Path<'_>) -> Result<Option<NullBuffer>, String> {
        let bits = self.buffer(path, "validity")?;
        if bits.is_empty() {
            if node.null_count != 0 {
                let n = node.null_count;
                return Err(path.broken(format_args!("its null count is {n}, and its validity buffer is empty")));
            }
            return Ok(None);
        }
        let (n_found, n_needed) = (bits.len() as u64, u64::from(node.length).div_ceil(8));
        if n_found != n_needed {
            let length = node.length;
            let rule = format_args!("its validity buffer has {n_found} bytes, {length} values need {n_needed}");
            return Err(path.broken(rule));
        }
        let nulls = NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, node.length as usize));
        if nulls.null_count() != node.null_count as usize {
            let (claimed, found) = (node.null_count, nulls.null_count());
            let rule = format_args!("its null count is {claimed}, and {found} of its validity bits are not set");
            return Err(path.broken(rule));
        }
        Ok(Some(nulls).filter(|nulls| nulls.null_count() > 0))
    }

    fn fixed<T: ArrowPrimitiveType>(
        &mut self,
        path: &Path<'_>,
        length: u32,
        nulls: Option<NullBuffer>,
    ) -> Result<PrimitiveArray<T>, String> {
        let width = size_of::<T::Native>() as u64;
        let values = self.bytes(path, "values", length, u64::from(length) * width)?;
        PrimitiveArray::try_new(aligned(values, length as usize), nulls).map_err(|error| path.broken(error))
    }

    /// Offsets that start at 0 and do not fall.
    fn offsets(&mut self, path: &Path<'_>, length: u32) -> Result<OffsetBuffer<i32>, String> {
        let bytes = self.buffer(path, "offsets")?;
        if length == 0 && bytes.is_empty() {
            return Ok(OffsetBuffer::new_empty());
        }
        let (n_found, n_needed) = (bytes.len() as u64, 4 * (u64::from(length) + 1));
        if n_found != n_needed {
            let rule = format_args!("its offsets buffer has {n_found} bytes, {length} values need {n_needed}");
            return Err(path.broken(rule));
        }
        let offsets: ScalarBuffer<i32> = aligned(bytes, length as usize + 1);
        if offsets[0] != 0 {
            return Err(path.broken(format_args!("its first offset is {}, not 0", offsets[0])));
        }
        // No early end: so that the loop is vectorised.
        let falls = offsets.iter().zip(&offsets[1..]).fold(false, |falls, (a, b)| falls | (a > b));
        if falls {
            let pair = offsets.windows(2).enumerate().find(|(_, pair)| pair[0] > pair[1]);
            let (i, before, offset) = pair.map_or((0, 0, 0), |(i, pair)| (i + 1, pair[0], pair[1]));
            let rule = format_args!("offset {i} is {offset}, less than the one before it, {before}");
            return Err(path.broken(rule));
        }
        // SAFETY: there is at least one; the first is 0 and none is less than the one before it.
        Ok(unsafe { OffsetBuffer::new_unchecked(offsets) })
    }

    /// The data that `offsets` point into.
    fn data(&mut self, path: &Path<'_>, offsets: &OffsetBuffer<i32>) -> Result<Vec<u8>, String> {
        let data = self.buffer(path, "data")?;
        let last = last(offsets);
        if data.len() as u64 != u64::from(last) {
            let n_bytes = data.len();
            return Err(path.broken(format_args!("its last offset is {last}, and its data has {n_bytes} bytes")));
        }
        Ok(data)
    }
}

/// The last of offsets that were checked: it is not negative.
fn last(offsets: &OffsetBuffer<i32>) -> u32 {
    offsets.last().map_or(0, |last| last.unsigned_abs())
}

/// `bytes` as `length` numbers, which they are long enough for; copied only when they are not aligned.
fn aligned<T: ArrowNativeType>(bytes: Vec<u8>, length: usize) -> ScalarBuffer<T> {
    let buffer = if bytes.as_ptr().align_offset(align_of::<T>()) == 0 {
        Buffer::from_vec(bytes)
    } else {
        Buffer::from(bytes.as_slice())
    };
    ScalarBuffer::new(buffer, 0, length)
}

/// Every value, by itself, is UTF-8. The offsets are in bounds.
fn check_utf8(data: &[u8], offsets: &[i32]) -> Result<(), String> {
    if data.is_ascii() {
        return Ok(());
    }
    if let Err(error) = simdutf8::compat::from_utf8(data) {
        let at = error.valid_up_to();
        let value = offsets.partition_point(|&offset| offset as usize <= at).saturating_sub(1);
        return Err(format!("value {value} is not UTF-8"));
    }
    // The whole is UTF-8: a value is, when it starts and ends where a character does.
    let is_inside = |&offset: &i32| data.get(offset as usize).is_some_and(|byte| (*byte as i8) < -0x40);
    match offsets.iter().position(is_inside) {
        Some(i) => Err(format!("offset {i} is {}, in the middle of a character", offsets[i])),
        None => Ok(()),
    }
}

/// Every value that is not null has at most `precision` digits; `precision` is in range.
fn check_precision(array: &Decimal128Array, precision: u8) -> Result<(), String> {
    let bound = 10_u128.pow(u32::from(precision));
    match array.iter().position(|value| value.is_some_and(|value| value.unsigned_abs() >= bound)) {
        Some(i) => Err(format!("value {i} has more than {precision} digits")),
        None => Ok(()),
    }
}
