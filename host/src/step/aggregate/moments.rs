//! `variance`, `var_pop`, `stddev` and `stddev_pop`.
//!
//! A group has its number of values, their mean, and the sum of their squared distances from it, which stays small where
//! the squares themselves would swallow their difference.
//!
//! # Source
//!
//! One value at a time: B. P. Welford, *Note on a Method for Calculating Corrected Sums of Squares and Products*,
//! Technometrics 4 (1962). Two groups: T. F. Chan, G. H. Golub, R. J. LeVeque, *Updating Formulae and a Pairwise Algorithm
//! for Computing Sample Variances*, Stanford STAN-CS-79-773 (1979), formula 2.1; taken away: the same, solved for the other
//! group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};

use super::accumulator::{Accumulator, Inverse, NoResult, count_field, each_valid, nulls_of};

/// What is made of the squared distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Of a sample: divided by one less than the number of values.
    pub(crate) is_sample: bool,
    /// The standard deviation: the root of the variance.
    pub(crate) is_root: bool,
}

/// The number of values, their mean and the sum of their squared distances from it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    count: i64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1;
        let distance = value - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (value - self.mean);
    }

    fn merge(&mut self, other: Moments) {
        if self.count == 0 || other.count == 0 {
            if self.count == 0 {
                *self = other;
            }
            return;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let distance = other.mean - self.mean;
        self.count += other.count;
        self.mean += distance * (m / (n + m));
        self.squares += other.squares + distance * distance * (n * m / (n + m));
    }

    /// What is left without `part`.
    fn without(self, part: Moments) -> Moments {
        let count = self.count - part.count;
        if count <= 0 || part.count == 0 {
            return if part.count == 0 { self } else { Moments::default() };
        }
        let (n, m) = (count as f64, part.count as f64);
        let mean = self.mean - (part.mean - self.mean) * (m / n);
        let distance = part.mean - mean;
        let squares = self.squares - part.squares - distance * distance * (n * m / (n + m));
        // One value has no distance from itself, and rounding must not make a square negative.
        Moments { count, mean, squares: if count == 1 { 0.0 } else { squares.max(0.0) } }
    }

    fn is_finite(self) -> bool {
        self.mean.is_finite() && self.squares.is_finite()
    }
}

/// The accumulator.
pub(crate) struct Spreads {
    spread: Spread,
    moments: Vec<Moments>,
}

impl Spreads {
    pub(crate) fn new(spread: Spread) -> Self {
        Self { spread, moments: Vec::new() }
    }

    fn each_partial(&mut self, groups: &[u32], partials: &[ArrayRef], mut each: impl FnMut(&mut Moments, Moments)) {
        let counts = partials[0].as_primitive::<Int64Type>().values();
        let means = partials[1].as_primitive::<Float64Type>().values();
        let squares = partials[2].as_primitive::<Float64Type>().values();
        each_valid(groups, None, |row, group| {
            let partial = Moments { count: counts[row], mean: means[row], squares: squares[row] };
            each(&mut self.moments[group], partial);
        });
    }
}

impl Accumulator for Spreads {
    fn partial_fields(&self) -> Vec<Field> {
        vec![
            count_field(),
            Field::new("mean", DataType::Float64, false),
            Field::new("squares", DataType::Float64, false),
        ]
    }

    fn result_type(&self) -> DataType {
        DataType::Float64
    }

    fn resize(&mut self, n_groups: usize) {
        self.moments.resize(n_groups, Moments::default());
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let values = cast(&values[0], &DataType::Float64)?;
        let array = values.as_primitive::<Float64Type>();
        let values = array.values();
        each_valid(groups, array.nulls(), |row, group| self.moments[group].add(values[row]));
        Ok(())
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        self.each_partial(groups, partials, Moments::merge);
        Ok(())
    }

    fn inverse(&self) -> Inverse {
        Inverse::Drifting
    }

    fn take_away(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<bool, NoResult> {
        let mut can_be_told = true;
        self.each_partial(groups, partials, |whole, part| {
            can_be_told &= whole.is_finite() && part.is_finite();
            *whole = whole.without(part);
        });
        Ok(can_be_told)
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        let moments = std::mem::take(&mut self.moments);
        Ok(vec![
            Arc::new(Int64Array::from_iter_values(moments.iter().map(|it| it.count))),
            Arc::new(Float64Array::from_iter_values(moments.iter().map(|it| it.mean))),
            Arc::new(Float64Array::from_iter_values(moments.iter().map(|it| it.squares))),
        ])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        let Spread { is_sample, is_root } = self.spread;
        let moments = std::mem::take(&mut self.moments);
        let divisors: Vec<_> = moments.iter().map(|it| it.count - i64::from(is_sample)).collect();
        let results: Vec<_> = moments
            .iter()
            .zip(&divisors)
            .map(|(it, &divisor)| it.squares / divisor.max(1) as f64)
            .map(|variance| if is_root { variance.sqrt() } else { variance })
            .collect();
        let seen: Vec<_> = divisors.iter().map(|&divisor| divisor > 0).collect();
        Ok(Arc::new(Float64Array::new(results.into(), nulls_of(&seen))))
    }

    fn bytes(&self) -> usize {
        self.moments.capacity() * size_of::<Moments>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|&value| moments.add(value));
        moments
    }

    fn is_close(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-9 * (1.0 + right.abs())
    }

    /// The variance is 30 wherever the values lie; as a difference of squares it would be 0, or below.
    #[test]
    fn a_large_mean_does_not_swallow_the_variance() {
        for mean in [0.0, 1e6, 1e9, 1e12] {
            let values = [4.0, 7.0, 13.0, 16.0].map(|value| value + mean);
            let mut halves = of(&values[..2]);
            halves.merge(of(&values[2..]));
            for moments in [of(&values), halves] {
                assert_eq!(moments.squares / 3.0, 30.0, "at {mean}");
            }
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter_and_parts_can_be_taken_away(
            values in proptest::collection::vec(-1e3f64..1e3, 0..60),
            cuts in [0usize..60, 0usize..60],
        ) {
            let n_values = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n_values.max(1.0);
            let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
            let [a, b] = cuts.map(|cut| cut.min(values.len()));
            let (a, b) = (a.min(b), a.max(b));
            let parts = [of(&values[..a]), of(&values[a..b]), of(&values[b..])];
            let mut left = parts[0];
            left.merge(parts[1]);
            left.merge(parts[2]);
            let mut tail = parts[1];
            tail.merge(parts[2]);
            let mut right = parts[0];
            right.merge(tail);
            for moments in [left, right] {
                prop_assert_eq!(moments.count, values.len() as i64);
                prop_assert!(is_close(moments.mean, mean) && is_close(moments.squares, squares));
            }
            let rest = left.without(parts[0]);
            prop_assert_eq!(rest.count, tail.count);
            // Relative to what was there before: that is what drifts.
            prop_assert!((rest.squares - tail.squares).abs() <= 1e-9 * (1.0 + squares));
        }
    }
}
