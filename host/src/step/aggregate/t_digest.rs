//! `approx_percentile`: percentiles in 3 KiB a key, the closer to the ends the finer.
//!
//! A group keeps *centroids*: means of values that lie beside each other, and how many. In the middle one holds up to a
//! hundredth of all values, at the ends a single one. Up to a hundred values each has a centroid of its own, and the
//! answer is that of `percentile`.
//!
//! ```text
//!  rank   0 · 1 · 2 ·· 4 ···· 8 ·············· 100 ······ ·· · · n-1
//!         min            centroids                          max
//! ```
//!
//! A partial is a list: the smallest value, the greatest, how many are NaN, then mean and weight of each centroid in
//! ascending order; empty for no value. Merging is associative within the error: another order gives other centroids.
//!
//! # Source
//!
//! T. Dunning, O. Ertl, *Computing extremely accurate quantiles using t-digests*, arXiv:1902.04023 (2019): the merging
//! digest (algorithm 1) with the scale function k₁.

use std::f64::consts::PI;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type};
use arrow::error::ArrowError;

use super::accumulator::{Accumulator, NoResult, each_valid};
use super::lists::{ListBuilder, list_type};
use super::percentile::{Fractions, between};

/// The digest's δ: it has fewer centroids than this, and none of several values is wider than π/δ of the ranks, or 1.6 %:
/// a rank between two of them is off by half of that as a rule.
const COMPRESSION: f64 = 200.0;

/// Values and centroids that wait to be merged in: sorting them all at once is what is cheap.
const WAITING_MAX: usize = 400;

/// Numbers of a partial before its centroids.
const N_HEAD: usize = 3;

/// Values that lie beside each other.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Centroid {
    mean: f64,
    weight: f64,
}

/// The values of one group.
#[derive(Debug, Clone)]
struct Digest {
    /// In ascending order.
    centroids: Vec<Centroid>,
    /// In the order in which they came.
    waiting: Vec<Centroid>,
    min: f64,
    max: f64,
    /// How many values are NaN: they lie above all others.
    n_nan: f64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { centroids: Vec::new(), waiting: Vec::new(), min: f64::INFINITY, max: f64::NEG_INFINITY, n_nan: 0.0 }
    }
}

impl Digest {
    fn add(&mut self, value: f64) {
        if value.is_nan() {
            self.n_nan += 1.0;
            return;
        }
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        self.wait(Centroid { mean: value, weight: 1.0 });
    }

    fn wait(&mut self, centroid: Centroid) {
        if self.waiting.len() == WAITING_MAX {
            self.compress();
        }
        self.waiting.push(centroid);
    }

    /// Adds a partial; `None` when it is none.
    fn merge(&mut self, partial: &[f64]) -> Option<()> {
        let Some((&[min, max, n_nan], centroids)) = partial.split_first_chunk::<N_HEAD>() else {
            return partial.is_empty().then_some(());
        };
        (self.min, self.max) = (self.min.min(min), self.max.max(max));
        self.n_nan += n_nan;
        let (centroids, rest) = centroids.as_chunks::<2>();
        centroids.iter().for_each(|&[mean, weight]| self.wait(Centroid { mean, weight }));
        rest.is_empty().then_some(())
    }

    /// Merges what waits into the centroids.
    fn compress(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.centroids.append(&mut self.waiting);
        self.centroids.sort_by(|a, b| a.mean.total_cmp(&b.mean));
        let n_values: f64 = self.centroids.iter().map(|it| it.weight).sum();
        let mut merged: Vec<Centroid> = Vec::new();
        // Values before the last centroid, and where it has to end.
        let (mut before, mut ends) = (0.0, 0.0);
        for &next in &self.centroids {
            match merged.last_mut() {
                Some(last) if before + last.weight + next.weight <= ends && can_be_joined(*last, next) => {
                    last.weight += next.weight;
                    if last.mean != next.mean {
                        last.mean += (next.mean - last.mean) * (next.weight / last.weight);
                    }
                }
                last => {
                    before += last.map_or(0.0, |last| last.weight);
                    ends = n_values * end_of_centroid(before / n_values);
                    merged.push(next);
                }
            }
        }
        self.centroids = merged;
    }

    /// The value at a fraction of the ranks; `None` of no value. To be compressed before.
    fn value_at(&self, fraction: f64) -> Option<f64> {
        let n_numbers: f64 = self.centroids.iter().map(|it| it.weight).sum();
        let n_values = n_numbers + self.n_nan;
        if n_values == 0.0 {
            return None;
        }
        let rank = fraction * (n_values - 1.0);
        if rank > n_numbers - 1.0 {
            return Some(f64::NAN);
        }
        // Between the middles of centroids; before the first and after the last, the least and the greatest value.
        let (mut left_rank, mut left) = (0.0, self.min);
        let mut before = 0.0;
        for centroid in &self.centroids {
            let middle = before + (centroid.weight - 1.0) / 2.0;
            if rank <= middle {
                return Some(between(left, centroid.mean, share(left_rank, middle, rank)));
            }
            (left_rank, left) = (middle, centroid.mean);
            before += centroid.weight;
        }
        Some(between(left, self.max, share(left_rank, n_numbers - 1.0, rank)))
    }

    /// The partial. To be compressed before.
    fn write(&self, out: &mut Vec<f64>) {
        if self.centroids.is_empty() && self.n_nan == 0.0 {
            return;
        }
        out.extend([self.min, self.max, self.n_nan]);
        out.extend(self.centroids.iter().flat_map(|it| [it.mean, it.weight]));
    }

    fn bytes(&self) -> usize {
        (self.centroids.capacity() + self.waiting.capacity()) * size_of::<Centroid>()
    }
}

/// Infinities have no mean with others.
fn can_be_joined(a: Centroid, b: Centroid) -> bool {
    a.mean == b.mean || (a.mean.is_finite() && b.mean.is_finite())
}

/// How far `rank` is on the way from one to another.
fn share(from: f64, to: f64, rank: f64) -> f64 {
    if to > from { (rank - from) / (to - from) } else { 1.0 }
}

/// Where a centroid has to end that begins at fraction `q`: one further on the scale k₁(q) = δ/2π · arcsin(2q - 1).
fn end_of_centroid(q: f64) -> f64 {
    let angle = (2.0 * q - 1.0).clamp(-1.0, 1.0).asin() + 2.0 * PI / COMPRESSION;
    if angle >= PI / 2.0 { 1.0 } else { (angle.sin() + 1.0) / 2.0 }
}

/// `approx_percentile`.
pub(crate) struct ApproxPercentile {
    fractions: Fractions,
    digests: Vec<Digest>,
    bytes: usize,
}

impl ApproxPercentile {
    pub(crate) fn new(fractions: Fractions) -> Self {
        Self { fractions, digests: Vec::new(), bytes: 0 }
    }

    fn change<T>(&mut self, group: usize, change: impl FnOnce(&mut Digest) -> T) -> T {
        let digest = &mut self.digests[group];
        let before = digest.bytes();
        let answer = change(digest);
        self.bytes = self.bytes - before + digest.bytes();
        answer
    }

    fn take(&mut self) -> Vec<Digest> {
        self.bytes = 0;
        let mut digests = std::mem::take(&mut self.digests);
        digests.iter_mut().for_each(Digest::compress);
        digests
    }
}

impl Accumulator for ApproxPercentile {
    fn partial_fields(&self) -> Vec<Field> {
        vec![Field::new("digest", list_type(DataType::Float64), false)]
    }

    fn result_type(&self) -> DataType {
        self.fractions.result_type()
    }

    fn resize(&mut self, n_groups: usize) {
        self.digests.resize(n_groups, Digest::default());
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let values = cast(&values[0], &DataType::Float64)?;
        let array = values.as_primitive::<Float64Type>();
        let values = array.values();
        each_valid(groups, array.nulls(), |row, group| self.change(group, |digest| digest.add(values[row])));
        Ok(())
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        let lists = partials[0].as_list::<i32>();
        let numbers = lists.values().as_primitive::<Float64Type>().values();
        for (range, &group) in lists.offsets().windows(2).zip(groups) {
            let partial = &numbers[range[0] as usize..range[1] as usize];
            self.change(group as usize, |digest| digest.merge(partial))
                .ok_or_else(|| ArrowError::ParseError("a partial of approx_percentile is damaged".into()))?;
        }
        Ok(())
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        let (mut numbers, mut lists) = (Vec::new(), ListBuilder::default());
        for digest in self.take() {
            digest.write(&mut numbers);
            lists.end_at(numbers.len());
        }
        Ok(vec![lists.finish(std::sync::Arc::new(Float64Array::from(numbers)), None)?])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        let digests = self.take();
        self.fractions.results(digests.iter(), |digest, fraction| digest.value_at(fraction))
    }

    fn bytes(&self) -> usize {
        self.digests.capacity() * size_of::<Digest>() + self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Digest {
        let mut digest = Digest::default();
        values.into_iter().for_each(|value| digest.add(value));
        digest.compress();
        digest
    }

    fn written(digest: &Digest) -> Vec<f64> {
        let mut numbers = Vec::new();
        digest.write(&mut numbers);
        numbers
    }

    /// A million numbers in an order that has nothing to do with their size.
    fn shuffled(n: u64) -> impl Iterator<Item = f64> {
        (0..n).map(move |i| (i * 7_919 % n) as f64)
    }

    #[test]
    fn ranks_are_off_by_little_and_less_at_the_ends() {
        let n = 1_000_003;
        let in_parts = {
            let mut digest = Digest::default();
            let values: Vec<_> = shuffled(n).collect();
            values.chunks(9_001).for_each(|part| digest.merge(&written(&of(part.iter().copied()))).expect("a partial"));
            digest.compress();
            digest
        };
        let ascending = of((0..n).map(|value| value as f64));
        for digest in [of(shuffled(n)), ascending, in_parts] {
            assert!((digest.centroids.len() as f64) < COMPRESSION);
            for fraction in [0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0] {
                let value = digest.value_at(fraction).expect("there are values");
                let error = (value / (n - 1) as f64 - fraction).abs();
                let allowed = 0.016 * (fraction * (1.0 - fraction)).sqrt();
                assert!(error <= allowed, "{error} at {fraction}");
            }
        }
    }

    #[test]
    fn few_values_are_all_kept() {
        let values: Vec<_> = shuffled(100).collect();
        let digest = of(values);
        assert_eq!(digest.centroids.len(), 100);
        assert_eq!(digest.value_at(0.5), Some(49.5));
        assert_eq!(of([]).value_at(0.5), None);
        assert!(written(&of([])).is_empty());
    }

    #[test]
    fn infinities_stay_what_they_are_and_nan_lies_above_all() {
        let digest = of([f64::NEG_INFINITY, f64::NEG_INFINITY, 1.0, 2.0, f64::INFINITY, f64::NAN]);
        let at = |fraction| digest.value_at(fraction).expect("there are values");
        assert_eq!([at(0.0), at(0.2), at(0.4), at(0.8)], [f64::NEG_INFINITY, f64::NEG_INFINITY, 1.0, f64::INFINITY]);
        assert!(at(1.0).is_nan());
    }

    #[test]
    fn what_is_no_partial_is_refused() {
        assert_eq!(of([]).merge(&[1.0, 2.0]), None);
        assert_eq!(of([]).merge(&[1.0, 2.0, 0.0, 1.0]), None);
    }

    proptest! {
        /// Whatever the cuts, a value lies within 2 % of its rank.
        #[test]
        fn cuts_matter_little(
            values in proptest::collection::vec(-1e3f64..1e3, 1..3_000),
            cut in 1usize..700,
            fraction in 0.0f64..1.0,
        ) {
            let mut digest = Digest::default();
            for part in values.chunks(cut) {
                digest.merge(&written(&of(part.iter().copied()))).expect("a partial");
            }
            digest.compress();
            let value = digest.value_at(fraction).expect("there are values");
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = fraction * (sorted.len() - 1) as f64;
            let slack = 1.0 + 0.02 * sorted.len() as f64;
            let low = sorted[(rank - slack).max(0.0) as usize];
            let high = sorted[((rank + slack) as usize).min(sorted.len() - 1)];
            prop_assert!((low..=high).contains(&value), "{} is not from {} to {}", value, low, high);
        }
    }
}
