//! `min` and `max`: of numbers, text and bytes by their bytes, booleans (false before true), dates and times.
//!
//! NaN is greater than every number, as in Spark and PostgreSQL; -0.0 counts as 0.0.

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray, new_empty_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, UInt8Type};
use arrow::downcast_primitive_array;

use super::accumulator::{Accumulator, NoResult, each_valid, nulls_of};
use crate::shuffle::key_encoding::{bytes_column, canonical_floats, for_each_key};

/// Which end is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Min,
    Max,
}

impl End {
    fn prefers(self, order: std::cmp::Ordering) -> bool {
        match self {
            End::Min => order.is_lt(),
            End::Max => order.is_gt(),
        }
    }
}

/// The accumulator for a type; `None` when its values have no order.
pub(crate) fn extremes(end: End, data_type: &DataType) -> Option<Box<dyn Accumulator>> {
    fn numbers<T: ArrowPrimitiveType>(end: End, empty: &PrimitiveArray<T>) -> Option<Box<dyn Accumulator>> {
        Some(Box::new(Numbers::<T>::new(end, empty.data_type())))
    }
    match data_type {
        DataType::Interval(_) => None,
        DataType::Boolean => Some(Box::new(Numbers::<UInt8Type>::new(end, data_type))),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Some(Box::new(Bytes::new(end, data_type))),
        other => {
            let empty = new_empty_array(other);
            let empty: &dyn Array = &empty;
            downcast_primitive_array!(empty => numbers(end, empty), _ => None)
        }
    }
}

/// Extremes of what arrow holds as numbers; booleans as 0 and 1.
struct Numbers<T: ArrowPrimitiveType> {
    end: End,
    data_type: DataType,
    best: Vec<T::Native>,
    seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    fn new(end: End, data_type: &DataType) -> Self {
        Self { end, data_type: data_type.clone(), best: Vec::new(), seen: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType> Accumulator for Numbers<T> {
    fn partial_fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.data_type.clone(), true)]
    }

    fn result_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn resize(&mut self, n_groups: usize) {
        self.best.resize(n_groups, T::Native::default());
        self.seen.resize(n_groups, false);
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let values = &values[0];
        let values = match self.data_type {
            DataType::Boolean => cast(values, &DataType::UInt8)?,
            _ => canonical_floats(values)?,
        };
        let array = values.as_primitive::<T>();
        let values = array.values();
        each_valid(groups, array.nulls(), |row, group| {
            let value = values[row];
            if !self.seen[group] || self.end.prefers(value.compare(self.best[group])) {
                self.best[group] = value;
                self.seen[group] = true;
            }
        });
        Ok(())
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        self.update(groups, partials)
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        Ok(vec![self.take_results()?])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        let nulls = nulls_of(&std::mem::take(&mut self.seen));
        let best = PrimitiveArray::<T>::new(std::mem::take(&mut self.best).into(), nulls);
        Ok(match self.data_type {
            DataType::Boolean => cast(&best, &DataType::Boolean)?,
            _ => std::sync::Arc::new(best.with_data_type(self.data_type.clone())),
        })
    }

    fn bytes(&self) -> usize {
        self.best.capacity() * size_of::<T::Native>() + self.seen.capacity()
    }
}

/// Extremes of text and binary, by their bytes: for text that is the order of code points.
struct Bytes {
    end: End,
    data_type: DataType,
    best: Vec<Option<Box<[u8]>>>,
    /// The bytes in `best`.
    bytes: usize,
}

impl Bytes {
    fn new(end: End, data_type: &DataType) -> Self {
        Self { end, data_type: data_type.clone(), best: Vec::new(), bytes: 0 }
    }
}

impl Accumulator for Bytes {
    fn partial_fields(&self) -> Vec<Field> {
        vec![Field::new("value", self.data_type.clone(), true)]
    }

    fn result_type(&self) -> DataType {
        self.data_type.clone()
    }

    fn resize(&mut self, n_groups: usize) {
        self.best.resize(n_groups, None);
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let values = &values[0];
        let mut rows = groups.iter();
        for_each_key(std::slice::from_ref(values), values.len(), |value| {
            let (Some(&group), Some(value)) = (rows.next(), value) else { return };
            let best = &mut self.best[group as usize];
            if best.as_deref().is_none_or(|best| self.end.prefers(value.cmp(best))) {
                self.bytes += value.len();
                self.bytes -= best.as_deref().map_or(0, <[u8]>::len);
                *best = Some(value.into());
            }
        })?;
        Ok(())
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        self.update(groups, partials)
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        Ok(vec![self.take_results()?])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        self.bytes = 0;
        let best = std::mem::take(&mut self.best);
        Ok(bytes_column(&self.data_type, best.iter().map(|best| best.as_deref()))?)
    }

    fn bytes(&self) -> usize {
        self.best.capacity() * size_of::<Option<Box<[u8]>>>() + self.bytes
    }
}
