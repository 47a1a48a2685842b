//! `count(distinct c)`, `sum(distinct c)`, `avg(distinct c)` and `collect_set`: each value of a group once.
//!
//! One table for all groups holds the pairs of group and value, in the order in which they first appeared. Equal are what
//! are equal as keys: -0.0 and 0.0, and any two NaN.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, UInt32Type};

use super::accumulator::{Accumulator, NoResult, TooLarge};
use super::lists::{LISTS_BYTES_MAX, flatten, list_type, lists_of, valid_rows};
use crate::step::key_table::KeyTable;

/// Bytes of a table that is used again: with more, what a task holds would look full although it has no values.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What becomes of the values of a group.
pub(crate) enum Of {
    /// Their number.
    Count,
    /// Themselves.
    List,
    /// What another aggregate makes of them.
    Aggregate(Box<dyn Accumulator>),
}

/// The accumulator.
pub(crate) struct Distinct {
    of: Of,
    data_type: DataType,
    /// Keyed by group and value.
    pairs: KeyTable,
    n_groups: usize,
    /// Index of the pair of each row; kept for its memory.
    scratch: Vec<u32>,
}

impl Distinct {
    /// Of values of a type that can be a key.
    pub(crate) fn new(of: Of, data_type: &DataType) -> Self {
        let pairs = KeyTable::new(&[DataType::UInt32, data_type.clone()]);
        Self { of, data_type: data_type.clone(), pairs, n_groups: 0, scratch: Vec::new() }
    }

    fn add(&mut self, groups: Vec<u32>, values: ArrayRef) -> Result<(), NoResult> {
        let n_rows = groups.len();
        let groups: ArrayRef = Arc::new(UInt32Array::from(groups));
        self.pairs.group_rows(&[groups, values], n_rows, &mut self.scratch)?;
        if self.pairs.bytes() > LISTS_BYTES_MAX { Err(NoResult::TooLarge(TooLarge::Partition)) } else { Ok(()) }
    }

    /// The values, with the group of each; and how many groups there are.
    fn take(&mut self) -> Result<(UInt32Array, ArrayRef, usize), NoResult> {
        let pairs = self.pairs.keys()?;
        if self.pairs.bytes() > KEPT_BYTES_MAX {
            self.pairs = KeyTable::new(&[DataType::UInt32, self.data_type.clone()]);
        } else {
            self.pairs.clear();
        }
        Ok((pairs[0].as_primitive::<UInt32Type>().clone(), pairs[1].clone(), std::mem::take(&mut self.n_groups)))
    }

    fn take_lists(&mut self) -> Result<ArrayRef, NoResult> {
        let (groups, values, n_groups) = self.take()?;
        lists_of(groups.values(), &values, n_groups)
    }
}

impl Accumulator for Distinct {
    fn partial_fields(&self) -> Vec<Field> {
        vec![Field::new("values", list_type(self.data_type.clone()), false)]
    }

    fn result_type(&self) -> DataType {
        match &self.of {
            Of::Count => DataType::Int64,
            Of::List => list_type(self.data_type.clone()),
            Of::Aggregate(aggregate) => aggregate.result_type(),
        }
    }

    fn result_is_nullable(&self) -> bool {
        match &self.of {
            Of::Count | Of::List => false,
            Of::Aggregate(aggregate) => aggregate.result_is_nullable(),
        }
    }

    fn resize(&mut self, n_groups: usize) {
        self.n_groups = n_groups;
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let (groups, values) = valid_rows(groups, &values[0])?;
        self.add(groups, values)
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        let (groups, values) = flatten(groups, &partials[0]);
        self.add(groups, values)
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        Ok(vec![self.take_lists()?])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        if matches!(self.of, Of::List) {
            return self.take_lists();
        }
        let (groups, values, n_groups) = self.take()?;
        if let Of::Aggregate(aggregate) = &mut self.of {
            aggregate.resize(n_groups);
            aggregate.update(groups.values(), &[values])?;
            return aggregate.take_results();
        }
        let mut counts = vec![0i64; n_groups];
        groups.values().iter().for_each(|&group| counts[group as usize] += 1);
        Ok(Arc::new(Int64Array::from(counts)))
    }

    fn bytes(&self) -> usize {
        self.pairs.bytes()
    }
}
