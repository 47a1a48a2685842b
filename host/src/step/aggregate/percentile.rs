//! `percentile`: exact, from all values of a group; and what it shares with `approx_percentile`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type};

use super::accumulator::{Accumulator, NoResult};
use super::lists::{ListBuilder, Values, flatten, list_type, valid_rows};

/// Which percentiles are asked for: fractions from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fractions {
    /// One: the result is a number.
    One(f64),
    /// Some: the result is a list of as many numbers.
    List(Vec<f64>),
}

impl Fractions {
    fn as_slice(&self) -> &[f64] {
        match self {
            Fractions::One(fraction) => std::slice::from_ref(fraction),
            Fractions::List(fractions) => fractions,
        }
    }

    pub(crate) fn result_type(&self) -> DataType {
        match self {
            Fractions::One(_) => DataType::Float64,
            Fractions::List(_) => list_type(DataType::Float64),
        }
    }

    /// The results of groups: what `value_at` says of each fraction; null where it says nothing, which is for all
    /// fractions of a group or for none.
    pub(crate) fn results<G>(
        &self,
        groups: impl Iterator<Item = G>,
        value_at: impl Fn(&G, f64) -> Option<f64>,
    ) -> Result<ArrayRef, NoResult> {
        let (mut numbers, mut valid, mut lists) = (Vec::new(), Vec::new(), ListBuilder::default());
        for group in groups {
            let values: Option<Vec<_>> = self.as_slice().iter().map(|&fraction| value_at(&group, fraction)).collect();
            valid.push(values.is_some());
            match self {
                Fractions::One(_) => numbers.push(values.map_or(0.0, |values| values[0])),
                Fractions::List(_) => numbers.extend(values.unwrap_or_default()),
            }
            lists.end_at(numbers.len());
        }
        let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
        match self {
            Fractions::One(_) => Ok(Arc::new(Float64Array::new(numbers.into(), nulls))),
            Fractions::List(_) => lists.finish(Arc::new(Float64Array::from(numbers)), nulls),
        }
    }
}

/// The number at a share of the way from one to another.
pub(crate) fn between(from: f64, to: f64, share: f64) -> f64 {
    if share == 0.0 || from == to {
        from
    } else if share == 1.0 {
        to
    } else {
        from + (to - from) * share
    }
}

/// The value at a fraction of the ranks of sorted values, between two of them if need be; `None` of no value.
fn value_at(sorted: &[f64], fraction: f64) -> Option<f64> {
    let rank = fraction * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (rank.floor() as usize, rank.ceil() as usize);
    Some(between(sorted[low], sorted[high], rank - rank.floor()))
}

/// `percentile`.
pub(crate) struct Percentile {
    fractions: Fractions,
    values: Values,
}

impl Percentile {
    pub(crate) fn new(fractions: Fractions) -> Self {
        Self { fractions, values: Values::new(&DataType::Float64) }
    }
}

impl Accumulator for Percentile {
    fn partial_fields(&self) -> Vec<Field> {
        vec![Field::new("values", self.values.list_type(), false)]
    }

    fn result_type(&self) -> DataType {
        self.fractions.result_type()
    }

    fn resize(&mut self, n_groups: usize) {
        self.values.resize(n_groups);
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let (groups, values) = valid_rows(groups, &cast(&values[0], &DataType::Float64)?)?;
        self.values.push(groups, values)
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        let (groups, values) = flatten(groups, &partials[0]);
        self.values.push(groups, values)
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        Ok(vec![self.values.take_lists()?])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        let lists = self.values.take_lists()?;
        let lists = lists.as_list::<i32>();
        let values = lists.values().as_primitive::<Float64Type>().values();
        let groups = lists.offsets().windows(2).map(|range| {
            let mut sorted = values[range[0] as usize..range[1] as usize].to_vec();
            // NaN, of either sign, is greater than every number.
            sorted.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b)));
            sorted
        });
        self.fractions.results(groups, |sorted, fraction| value_at(sorted, fraction))
    }

    fn bytes(&self) -> usize {
        self.values.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_between_ranks_are_between_values() {
        let sorted = [1.0, 2.0, 4.0, f64::INFINITY];
        for (fraction, expected) in
            [(0.0, 1.0), (1.0 / 3.0, 2.0), (0.5, 3.0), (1.0, f64::INFINITY), (0.9, f64::INFINITY)]
        {
            assert_eq!(value_at(&sorted, fraction), Some(expected), "at {fraction}");
        }
        assert_eq!(value_at(&[], 0.5), None);
        assert_eq!(value_at(&[7.0], 0.3), Some(7.0));
    }
}
