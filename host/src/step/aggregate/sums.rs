//! `sum` and `avg`.
//!
//! Integers and decimals are added in 128 bits and checked when the result is made, so that whether a sum overflows
//! does not depend on the order of the rows.
//!
//! A partial of a column with nulls counts its values beside their sum: whoever takes some of them away again has to know
//! whether any are left.

use std::sync::Arc;

use arrow::array::types::DecimalType;
use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Field, Float64Type, Int64Type, UInt64Type};

use super::accumulator::{Accumulator, Inverse, NoResult, count_field, each_valid, nulls_of};

/// The widest decimal that 128 bits hold.
const DIGITS_MAX: u8 = arrow::datatypes::DECIMAL128_MAX_PRECISION;

/// Digits that an average of decimals has more than its values.
const AVG_DIGITS: i8 = 4;

/// How the values of a column are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    Signed,
    Unsigned,
    Float,
    /// The scale.
    Decimal(i8),
}

impl Numbers {
    /// How values of this type are added, if they are numbers.
    pub(crate) fn of(data_type: &DataType) -> Option<Self> {
        use DataType as D;
        Some(match data_type {
            D::Int8 | D::Int16 | D::Int32 | D::Int64 => Numbers::Signed,
            D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 => Numbers::Unsigned,
            D::Float16 | D::Float32 | D::Float64 => Numbers::Float,
            D::Decimal32(_, scale) | D::Decimal64(_, scale) | D::Decimal128(_, scale) => Numbers::Decimal(*scale),
            _ => return None,
        })
    }

    /// The type that values are brought to before they are added.
    fn operand_type(self) -> DataType {
        match self {
            Numbers::Signed => DataType::Int64,
            Numbers::Unsigned => DataType::UInt64,
            Numbers::Float => DataType::Float64,
            Numbers::Decimal(scale) => DataType::Decimal128(DIGITS_MAX, scale),
        }
    }

    /// The type of partial sums.
    fn partial_type(self) -> DataType {
        match self {
            Numbers::Signed | Numbers::Unsigned => DataType::Decimal128(DIGITS_MAX, 0),
            Numbers::Float | Numbers::Decimal(_) => self.operand_type(),
        }
    }

    /// The type of `sum`.
    fn sum_type(self) -> DataType {
        self.operand_type()
    }

    /// The type of `avg`.
    fn avg_type(self) -> DataType {
        match self {
            Numbers::Decimal(scale) => DataType::Decimal128(DIGITS_MAX, avg_scale(scale)),
            _ => DataType::Float64,
        }
    }
}

fn avg_scale(scale: i8) -> i8 {
    // Never below the values' own scale, and never above what the type allows.
    scale.saturating_add(AVG_DIGITS).min(DIGITS_MAX as i8).max(scale)
}

/// Sums by group, of whichever kind.
struct Sums {
    numbers: Numbers,
    /// For integers and decimals.
    exact: Vec<i128>,
    /// For floats.
    float: Vec<f64>,
    /// Groups that have a value.
    seen: Vec<bool>,
}

impl Sums {
    fn new(numbers: Numbers) -> Self {
        Self { numbers, exact: Vec::new(), float: Vec::new(), seen: Vec::new() }
    }

    fn partial_field(&self) -> Field {
        Field::new("sum", self.numbers.partial_type(), true)
    }

    fn resize(&mut self, n_groups: usize) {
        match self.numbers {
            Numbers::Float => self.float.resize(n_groups, 0.0),
            _ => self.exact.resize(n_groups, 0),
        }
        self.seen.resize(n_groups, false);
    }

    /// Adds values of any type that [`Numbers::of`] gave these numbers for.
    fn add(&mut self, groups: &[u32], values: &ArrayRef) -> Result<(), NoResult> {
        let operand = self.numbers.operand_type();
        let values = if values.data_type() == &operand { values.clone() } else { cast(values, &operand)? };
        match self.numbers {
            Numbers::Signed => self.add_exact::<Int64Type>(groups, &values, i128::from),
            Numbers::Unsigned => self.add_exact::<UInt64Type>(groups, &values, i128::from),
            Numbers::Decimal(_) => self.add_exact::<Decimal128Type>(groups, &values, |value| value),
            Numbers::Float => {
                self.add_floats(groups, &values);
                Ok(())
            }
        }
    }

    fn add_partials(&mut self, groups: &[u32], partials: &ArrayRef) -> Result<(), NoResult> {
        match self.numbers {
            Numbers::Float => {
                self.add_floats(groups, partials);
                Ok(())
            }
            _ => self.add_exact::<Decimal128Type>(groups, partials, |value| value),
        }
    }

    fn add_exact<T: ArrowPrimitiveType>(
        &mut self,
        groups: &[u32],
        values: &ArrayRef,
        wide: impl Fn(T::Native) -> i128,
    ) -> Result<(), NoResult> {
        let array = values.as_primitive::<T>();
        let values = array.values();
        let mut overflowed = false;
        each_valid(groups, arrow::array::Array::nulls(array), |row, group| {
            let (sum, over) = self.exact[group].overflowing_add(wide(values[row]));
            self.exact[group] = sum;
            self.seen[group] = true;
            overflowed |= over;
        });
        if overflowed { Err(NoResult::Overflow) } else { Ok(()) }
    }

    fn add_floats(&mut self, groups: &[u32], values: &ArrayRef) {
        let array = values.as_primitive::<Float64Type>();
        let values = array.values();
        each_valid(groups, arrow::array::Array::nulls(array), |row, group| {
            self.float[group] += values[row];
            self.seen[group] = true;
        });
    }

    fn inverse(&self) -> Inverse {
        if self.numbers == Numbers::Float { Inverse::Drifting } else { Inverse::Exact }
    }

    /// Takes away partial sums; `false` when one of them, or what it is taken from, is not finite.
    fn take_away(&mut self, groups: &[u32], partials: &ArrayRef) -> bool {
        let mut can_be_told = true;
        match self.numbers {
            Numbers::Float => {
                let array = partials.as_primitive::<Float64Type>();
                let values = array.values();
                each_valid(groups, arrow::array::Array::nulls(array), |row, group| {
                    can_be_told &= values[row].is_finite() && self.float[group].is_finite();
                    self.float[group] -= values[row];
                });
            }
            _ => {
                let array = partials.as_primitive::<Decimal128Type>();
                let values = array.values();
                each_valid(groups, arrow::array::Array::nulls(array), |row, group| {
                    let (rest, overflowed) = self.exact[group].overflowing_sub(values[row]);
                    self.exact[group] = rest;
                    can_be_told &= !overflowed;
                });
            }
        }
        can_be_told
    }

    fn take_partials(&mut self) -> Result<ArrayRef, NoResult> {
        let nulls = nulls_of(&std::mem::take(&mut self.seen));
        Ok(match self.numbers {
            Numbers::Float => Arc::new(Float64Array::new(std::mem::take(&mut self.float).into(), nulls)),
            numbers => Arc::new(
                Decimal128Array::new(std::mem::take(&mut self.exact).into(), nulls)
                    .with_data_type(numbers.partial_type()),
            ),
        })
    }

    fn take_sums(&mut self) -> Result<ArrayRef, NoResult> {
        let seen = std::mem::take(&mut self.seen);
        let exact = std::mem::take(&mut self.exact);
        let nulls = nulls_of(&seen);
        Ok(match self.numbers {
            Numbers::Float => Arc::new(Float64Array::new(std::mem::take(&mut self.float).into(), nulls)),
            Numbers::Signed => {
                let sums = exact.into_iter().map(|sum| i64::try_from(sum).map_err(|_| NoResult::Overflow));
                Arc::new(Int64Array::new(sums.collect::<Result<Vec<_>, _>>()?.into(), nulls))
            }
            Numbers::Unsigned => {
                let sums = exact.into_iter().map(|sum| u64::try_from(sum).map_err(|_| NoResult::Overflow));
                Arc::new(UInt64Array::new(sums.collect::<Result<Vec<_>, _>>()?.into(), nulls))
            }
            Numbers::Decimal(_) => {
                if !exact.iter().all(|&sum| is_decimal(sum)) {
                    return Err(NoResult::Overflow);
                }
                Arc::new(Decimal128Array::new(exact.into(), nulls).with_data_type(self.numbers.sum_type()))
            }
        })
    }

    fn take_averages(&mut self, counts: &[i64]) -> Result<ArrayRef, NoResult> {
        let seen = std::mem::take(&mut self.seen);
        let exact = std::mem::take(&mut self.exact);
        let nulls = nulls_of(&seen);
        let float = |sum: f64, count: i64| if count == 0 { 0.0 } else { sum / count as f64 };
        Ok(match self.numbers {
            Numbers::Decimal(scale) => {
                let shift = 10i128.pow(u32::from((avg_scale(scale) - scale) as u8));
                let averages = exact.iter().zip(counts).map(|(&sum, &count)| {
                    let sum = sum.checked_mul(shift).ok_or(NoResult::Overflow)?;
                    let average = if count == 0 { 0 } else { divide_rounding(sum, i128::from(count)) };
                    if is_decimal(average) { Ok(average) } else { Err(NoResult::Overflow) }
                });
                let averages = averages.collect::<Result<Vec<_>, NoResult>>()?;
                Arc::new(Decimal128Array::new(averages.into(), nulls).with_data_type(self.numbers.avg_type()))
            }
            Numbers::Float => {
                let sums = std::mem::take(&mut self.float);
                let averages: Vec<_> = sums.iter().zip(counts).map(|(&sum, &count)| float(sum, count)).collect();
                Arc::new(Float64Array::new(averages.into(), nulls))
            }
            Numbers::Signed | Numbers::Unsigned => {
                let averages: Vec<_> = exact.iter().zip(counts).map(|(&sum, &n)| float(sum as f64, n)).collect();
                Arc::new(Float64Array::new(averages.into(), nulls))
            }
        })
    }

    fn bytes(&self) -> usize {
        self.exact.capacity() * size_of::<i128>() + self.float.capacity() * size_of::<f64>() + self.seen.capacity()
    }
}

fn is_decimal(value: i128) -> bool {
    Decimal128Type::is_valid_decimal_precision(value, DIGITS_MAX)
}

/// The quotient, halves rounded away from zero.
fn divide_rounding(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    if rest.abs() * 2 >= by { quotient + value.signum() } else { quotient }
}

/// How many values each group has.
#[derive(Default)]
struct ValueCounts(Vec<i64>);

impl ValueCounts {
    fn add(&mut self, groups: &[u32], values: &ArrayRef) {
        each_valid(groups, values.nulls(), |_, group| self.0[group] += 1);
    }

    fn add_partials(&mut self, groups: &[u32], partials: &ArrayRef) {
        let counts = partials.as_primitive::<Int64Type>().values();
        each_valid(groups, None, |row, group| self.0[group] += counts[row]);
    }

    /// Takes counts away, and the mark of having a value from groups that have none left.
    fn take_away(&mut self, groups: &[u32], partials: &ArrayRef, seen: &mut [bool]) {
        let counts = partials.as_primitive::<Int64Type>().values();
        each_valid(groups, None, |row, group| {
            self.0[group] -= counts[row];
            seen[group] = self.0[group] > 0;
        });
    }

    fn take(&mut self) -> ArrayRef {
        Arc::new(Int64Array::from(std::mem::take(&mut self.0)))
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<i64>()
    }
}

/// `sum`.
pub(crate) struct Sum {
    sums: Sums,
    /// `None` for a column without nulls: a group has as many values as rows.
    counts: Option<ValueCounts>,
}

impl Sum {
    pub(crate) fn new(numbers: Numbers, nullable: bool) -> Self {
        Self { sums: Sums::new(numbers), counts: nullable.then(ValueCounts::default) }
    }
}

impl Accumulator for Sum {
    fn partial_fields(&self) -> Vec<Field> {
        std::iter::once(self.sums.partial_field()).chain(self.counts.as_ref().map(|_| count_field())).collect()
    }

    fn result_type(&self) -> DataType {
        self.sums.numbers.sum_type()
    }

    fn resize(&mut self, n_groups: usize) {
        self.sums.resize(n_groups);
        if let Some(counts) = &mut self.counts {
            counts.0.resize(n_groups, 0);
        }
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        if let Some(counts) = &mut self.counts {
            counts.add(groups, &values[0]);
        }
        self.sums.add(groups, &values[0])
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        if let Some(counts) = &mut self.counts {
            counts.add_partials(groups, &partials[1]);
        }
        self.sums.add_partials(groups, &partials[0])
    }

    fn inverse(&self) -> Inverse {
        self.sums.inverse()
    }

    fn take_away(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<bool, NoResult> {
        if let Some(counts) = &mut self.counts {
            counts.take_away(groups, &partials[1], &mut self.sums.seen);
        }
        Ok(self.sums.take_away(groups, &partials[0]))
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        let mut partials = vec![self.sums.take_partials()?];
        partials.extend(self.counts.as_mut().map(ValueCounts::take));
        Ok(partials)
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        if let Some(counts) = &mut self.counts {
            counts.0.clear();
        }
        self.sums.take_sums()
    }

    fn bytes(&self) -> usize {
        self.sums.bytes() + self.counts.as_ref().map_or(0, ValueCounts::bytes)
    }
}

/// `avg`.
pub(crate) struct Avg {
    sums: Sums,
    counts: ValueCounts,
}

impl Avg {
    pub(crate) fn new(numbers: Numbers) -> Self {
        Self { sums: Sums::new(numbers), counts: ValueCounts::default() }
    }
}

impl Accumulator for Avg {
    fn partial_fields(&self) -> Vec<Field> {
        vec![self.sums.partial_field(), count_field()]
    }

    fn result_type(&self) -> DataType {
        self.sums.numbers.avg_type()
    }

    fn resize(&mut self, n_groups: usize) {
        self.sums.resize(n_groups);
        self.counts.0.resize(n_groups, 0);
    }

    fn update(&mut self, groups: &[u32], values: &[ArrayRef]) -> Result<(), NoResult> {
        self.counts.add(groups, &values[0]);
        self.sums.add(groups, &values[0])
    }

    fn merge(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<(), NoResult> {
        self.counts.add_partials(groups, &partials[1]);
        self.sums.add_partials(groups, &partials[0])
    }

    fn inverse(&self) -> Inverse {
        self.sums.inverse()
    }

    fn take_away(&mut self, groups: &[u32], partials: &[ArrayRef]) -> Result<bool, NoResult> {
        self.counts.take_away(groups, &partials[1], &mut self.sums.seen);
        Ok(self.sums.take_away(groups, &partials[0]))
    }

    fn take_partials(&mut self) -> Result<Vec<ArrayRef>, NoResult> {
        Ok(vec![self.sums.take_partials()?, self.counts.take()])
    }

    fn take_results(&mut self) -> Result<ArrayRef, NoResult> {
        self.sums.take_averages(&std::mem::take(&mut self.counts.0))
    }

    fn bytes(&self) -> usize {
        self.sums.bytes() + self.counts.bytes()
    }
}
