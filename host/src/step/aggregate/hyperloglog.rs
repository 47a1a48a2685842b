//! `approx_distinct`: how many different values there are, within a percent, in 16 KiB a key at most.
//!
//! A group keeps the 64-bit hashes of its values while they are few, and counts them: up to [`FEW_MAX`] the answer is
//! exact. Then 2^14 registers: the first 14 bits of a hash choose one, and it keeps the longest run of zeros with which the
//! rest of such a hash began. The standard error is 1.04 / √2^14, or 0.8 %.
//!
//! A partial is the byte 0 and the hashes in ascending order (little-endian), or the byte 1 and the registers. Merging is
//! exact: it takes the union, or the greatest of each register, so order and cuts leave no trace, not in a byte.
//!
//! # Source
//!
//! P. Flajolet, É. Fusy, O. Gandouet, F. Meunier, *HyperLogLog: the analysis of a near-optimal cardinality estimation
//! algorithm* (2007); the estimate from the registers, without bias at any number: O. Ertl, *New cardinality estimation
//! algorithms for HyperLogLog sketches*, arXiv:1702.01284 (2017), algorithm 6. The hash is XXH3 of the values'
//! [canonical bytes](crate::shuffle::key_encoding), with a fixed seed.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::accumulator::{Accumulator, NoResult, TooLarge};
use super::lists::LISTS_BYTES_MAX;
use crate::shuffle::key_encoding::{bytes_column, for_each_key};

/// Values that are counted one by one: half the bytes of the registers.
pub(crate) const FEW_MAX: usize = 1024;

/// Bits of a hash that choose a register.
const INDEX_BITS: u32 = 14;

const N_REGISTERS: usize = 1 << INDEX_BITS;

/// Bits of a hash after those: the longest run of zeros.
const RUN_BITS: usize = 64 - INDEX_BITS as usize;

/// Other than the partitioner's, so that the hashes of one partition's keys are not alike in their first bits.
const SEED: u64 = 0x7469_6465_6d69_6c6c;

/// The marks of partials.
const FEW: u8 = 0;
const MANY: u8 = 1;

/// What is kept of one group's values.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sketch {
    /// Their hashes, in ascending order.
    Few(Vec<u64>),
    /// One more than the longest run of zeros, for each register; 0: no value.
    Many(Box<[u8]>),
}

impl Sketch {
    fn add(&mut self, hash: u64) {
        match self {
            Sketch::Few(hashes) => {
                if let Err(place) = hashes.binary_search(&hash) {
                    if hashes.len() == FEW_MAX {
                        self.registers();
                        self.add(hash);
                    } else {
                        hashes.insert(place, hash);
                    }
                }
            }
            Sketch::Many(registers) => set(registers, hash),
        }
    }

    /// The registers, from now on.
    fn registers(&mut self) -> &mut [u8] {
        if let Sketch::Few(hashes) = self {
            let mut registers = vec![0; N_REGISTERS].into_boxed_slice();
            hashes.iter().for_each(|&hash| set(&mut registers, hash));
            *self = Sketch::Many(registers);
        }
        match self {
            Sketch::Many(registers) => registers,
            Sketch::Few(_) => &mut [],
        }
    }

    /// Adds a partial; `None` when it is none.
    fn merge(&mut self, partial: &[u8]) -> Option<()> {
        let (&mark, bytes) = partial.split_first()?;
        match mark {
            FEW if bytes.len().is_multiple_of(8) => {
                bytes.as_chunks().0.iter().for_each(|&hash| self.add(u64::from_le_bytes(hash)));
                Some(())
            }
            MANY if bytes.len() == N_REGISTERS => {
                self.registers().iter_mut().zip(bytes).for_each(|(register, &other)| *register = other.max(*register));
                Some(())
            }
            _ => None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Sketch::Few(hashes) => {
                out.push(FEW);
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
            }
            Sketch::Many(registers) => {
                out.push(MANY);
                out.extend_from_slice(registers);
            }
        }
    }

    fn estimate(&self) -> i64 {
        match self {
            Sketch::Few(hashes) => hashes.len() as i64,
            Sketch::Many(registers) => estimate(registers).round() as i64,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Sketch::Few(hashes) => hashes.capacity() * size_of::<u64>(),
            Sketch::Many(registers) => registers.len(),
        }
    }
}

fn set(registers: &mut [u8], hash: u64) {
    let index = (hash >> RUN_BITS) as usize;
    // A bit behind the last ends the longest run.
    let run = ((hash << INDEX_BITS) | (1 << (INDEX_BITS - 1))).leading_zeros();
    registers[index] = registers[index].max(run as u8 + 1);
}

/// Ertl's algorithm 6.
fn estimate(registers: &[u8]) -> f64 {
    let mut counts = [0u32; RUN_BITS + 2];
    registers.iter().for_each(|&register| counts[usize::from(register).min(RUN_BITS + 1)] += 1);
    let m = registers.len() as f64;
    let mut z = m * tau(1.0 - f64::from(counts[RUN_BITS + 1]) / m);
    for &count in counts[1..=RUN_BITS].iter().rev() {
        z = 0.5 * (z + f64::from(count));
    }
    z += m * sigma(f64::from(counts[0]) / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

/// What registers without a value add.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// What registers that are full add.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// `approx_distinct`.
#[derive(Default)]
pub(crate) struct ApproxDistinct {
    sketches: Vec<Sketch>,
    bytes: usize,
}

impl ApproxDistinct {
    fn change<T>(&mut self, group: u32, change: impl FnOnce(&mut Sketch) -> T) -> T {
        let sketch = &mut self.sketches[group as usize];
        let before = sketch.bytes();
        let answer = change(sketch);
        self.bytes = self.bytes - before + sketch.bytes();
        answer
    }
}

impl Accumulator for ApproxDistinct {
    fn partial_fields(&self) -> Vec<Field> {
        vec![Field::new("sketch", DataType::Binary, false)]
    }

    fn result_type(&self) -> DataType {
        DataType::Int64
    }

    fn result_is_nullable(&self) -> bool {
        false
    }

    fn resize(&mut self, n_groups: usize) {
        self.sketches.resize(n_groups, Sketch::Few(Vec::new()));
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        let mut rows = groups.iter();
        for_each_key(&values[..1], values[0].len(), |value| {
            let (Some(&group), Some(value)) = (rows.next(), value) else { return };
            let hash = xxh3_64_with_seed(value, SEED);
            self.change(group, |sketch| sketch.add(hash));
        })?;
        Ok(())
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        for (&group, partial) in groups.iter().zip(partials[0].as_binary::<i32>()) {
            let merged = self.change(group, |sketch| sketch.merge(partial.unwrap_or_default()));
            merged.ok_or_else(|| ArrowError::ParseError("a partial of approx_distinct is damaged".into()))?;
        }
        Ok(())
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        if std::mem::take(&mut self.bytes) > LISTS_BYTES_MAX {
            return Err(NoResult::TooLarge(TooLarge::Partition));
        }
        let (mut scratch, mut ends) = (Vec::new(), vec![0]);
        for sketch in std::mem::take(&mut self.sketches) {
            sketch.write(&mut scratch);
            ends.push(scratch.len());
        }
        let partials = ends.windows(2).map(|range| &scratch[range[0]..range[1]]);
        Ok(vec![bytes_column(&DataType::Binary, partials.map(Some))?])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        self.bytes = 0;
        let sketches = std::mem::take(&mut self.sketches);
        Ok(Arc::new(Int64Array::from_iter_values(sketches.iter().map(Sketch::estimate))))
    }

    fn bytes(&self) -> usize {
        self.sketches.capacity() * size_of::<Sketch>() + self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl Iterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::Few(Vec::new());
        values.for_each(|value| sketch.add(xxh3_64_with_seed(&value.to_le_bytes(), SEED)));
        sketch
    }

    fn written(sketch: &Sketch) -> Vec<u8> {
        let mut bytes = Vec::new();
        sketch.write(&mut bytes);
        bytes
    }

    #[test]
    fn few_values_are_counted_exactly_and_are_small() {
        for n in [0, 1, 10, FEW_MAX as u64] {
            let sketch = of((0..n).chain(0..n));
            assert_eq!(sketch.estimate(), n as i64);
            assert_eq!(written(&sketch).len() as u64, 1 + 8 * n);
        }
    }

    /// Within three standard errors: 0.8 % each.
    #[test]
    fn many_values_are_estimated() {
        for n in [FEW_MAX as u64 + 1, 5_000, 20_000, 100_000, 1_000_000] {
            let estimate = of(0..n).estimate();
            let error = (estimate as f64 - n as f64).abs() / n as f64;
            assert!(error < 0.025, "{estimate} for {n}");
        }
    }

    #[test]
    fn what_is_no_partial_is_refused() {
        let mut sketch = of(0..3);
        for bytes in [&[][..], &[FEW, 1], &[MANY, 1, 2], &[7]] {
            assert_eq!(sketch.merge(bytes), None);
        }
    }

    proptest! {
        #[test]
        fn order_and_cuts_leave_no_trace(
            parts in proptest::collection::vec((0u64..5_000, 0u64..2_000), 1..5),
        ) {
            let ranges = parts.iter().map(|&(start, n)| start..start + n);
            let whole = of(ranges.clone().flatten());
            for order in [ranges.clone().collect::<Vec<_>>(), ranges.rev().collect()] {
                let mut merged = of(0..0);
                for part in order {
                    merged.merge(&written(&of(part))).expect("a partial");
                }
                prop_assert!(written(&merged) == written(&whole));
            }
        }
    }
}
