//! Sums every column of the rows of a key, whatever numbers they hold.
//!
//! Nulls are left out; the sum of nulls alone is null. A sum that does not fit its type fails the call: it is never
//! wrong in silence. Sums of whole numbers and decimals that cannot be null can be taken apart again by a sliding window;
//! those of floating-point numbers cannot, because what was rounded away does not come back.

use tidemill_guest::builder::{Build, Validity};
use tidemill_guest::value::{AnyDecimal, Fixed, Read, Value};
use tidemill_guest::{
    Batch, Call, Column, DataType, Failure, Field, OwnedBatch, Reducer, Refusal, Schema, Step, operator,
};

/// A number that can be summed.
trait Number: Fixed + PartialOrd + for<'a> Read<'a> {
    fn plus(self, other: Self, field: &Field) -> Option<Self>;
    fn minus(self, other: Self, field: &Field) -> Option<Self>;
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn plus(self, other: Self, _: &Field) -> Option<Self> {
                self.checked_add(other)
            }

            fn minus(self, other: Self, _: &Field) -> Option<Self> {
                self.checked_sub(other)
            }
        }
    )*};
}

whole!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floating {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn plus(self, other: Self, _: &Field) -> Option<Self> {
                Some(self + other)
            }

            fn minus(self, other: Self, _: &Field) -> Option<Self> {
                Some(self - other)
            }
        }
    )*};
}

floating!(f32, f64);

impl Number for AnyDecimal {
    fn plus(self, other: Self, field: &Field) -> Option<Self> {
        self.0.checked_add(other.0).filter(|sum| fits(*sum, field)).map(AnyDecimal)
    }

    fn minus(self, other: Self, field: &Field) -> Option<Self> {
        self.0.checked_sub(other.0).filter(|difference| fits(*difference, field)).map(AnyDecimal)
    }
}

/// Whether a decimal has no more digits than its column's precision.
fn fits(value: i128, field: &Field) -> bool {
    match field.data_type {
        DataType::Decimal128(precision, _) => {
            10_u128.checked_pow(precision.into()).is_some_and(|bound| value.unsigned_abs() < bound)
        }
        _ => false,
    }
}

/// Calls `$function::<T>($arguments)` with the `T` of a column's type.
macro_rules! by_type {
    ($data_type:expr, $function:ident($($argument:expr),*)) => {
        match $data_type {
            DataType::Int8 => $function::<i8>($($argument),*),
            DataType::Int16 => $function::<i16>($($argument),*),
            DataType::Int32 => $function::<i32>($($argument),*),
            DataType::Int64 => $function::<i64>($($argument),*),
            DataType::UInt8 => $function::<u8>($($argument),*),
            DataType::UInt16 => $function::<u16>($($argument),*),
            DataType::UInt32 => $function::<u32>($($argument),*),
            DataType::UInt64 => $function::<u64>($($argument),*),
            DataType::Float32 => $function::<f32>($($argument),*),
            DataType::Float64 => $function::<f64>($($argument),*),
            DataType::Decimal128(..) => $function::<AnyDecimal>($($argument),*),
            // Refused by `open`.
            _ => Err(Failure::Fatal("a column is not of numbers".into())),
        }
    };
}

fn too_large(field: &Field) -> Failure {
    Failure::Fatal(format!("the sum of column `{}` does not fit in {}", field.name, field.type_text()))
}

fn sum_groups<T: Number>(column: Column<'_>, ends: &[u32], out: &mut OwnedBatch) -> Result<(), Failure> {
    let field = column.field();
    let values = column.read::<T>().ok_or("a column is not of the type it was opened with")?;
    let mut sums = <Option<T> as Value>::Builder::new();
    let mut start = 0;
    for &end in ends {
        let mut sum: Option<T> = None;
        for value in (start..end as usize).filter_map(|index| T::get(&values, index)) {
            sum = Some(match sum {
                None => value,
                Some(sum) => sum.plus(value, field).ok_or_else(|| too_large(field))?,
            });
        }
        sum.append_to(&mut sums);
        start = end as usize;
    }
    sums.finish(Validity::ALL, out);
    Ok(())
}

fn take_out<T: Number>(whole: Column<'_>, part: Column<'_>, out: &mut OwnedBatch) -> Result<(), Failure> {
    let field = whole.field();
    let n_rows = whole.n_values();
    let read = |column: Column<'_>| column.read::<T>().map(|values| (0..n_rows).map(|i| T::get(&values, i)).collect());
    let wrong = "a column is not of the type it was opened with";
    let (whole, part): (Vec<_>, Vec<_>) = (read(whole).ok_or(wrong)?, read(part).ok_or(wrong)?);
    let mut differences = <Option<T> as Value>::Builder::new();
    for (whole, part) in whole.into_iter().zip(part) {
        let difference = match (whole, part) {
            (Some(whole), Some(part)) => Some(whole.minus(part, field).ok_or_else(|| too_large(field))?),
            (whole, _) => whole,
        };
        difference.append_to(&mut differences);
    }
    differences.finish(Validity::ALL, out);
    Ok(())
}

/// Sums every column.
pub struct Sum;

#[operator]
impl Reducer for Sum {
    fn open(step: &Step, values: &Schema) -> Result<(bool, Self), Refusal> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {}
        step.config::<Config>()?;
        let mut invertible = true;
        for field in &values.fields {
            match field.data_type {
                DataType::Float32 | DataType::Float64 => invertible = false,
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {}
                DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {}
                DataType::Decimal128(..) => {}
                _ => {
                    let text = format!("column `{}` is {}, a number is expected", field.name, field.type_text());
                    return Err(Refusal::Schema(text));
                }
            }
            invertible &= !field.nullable;
        }
        Ok((invertible, Sum))
    }

    fn reduce(&mut self, _: &Call, values: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure> {
        let mut out = OwnedBatch { rows: ends.len() as u32, ..OwnedBatch::default() };
        for column in values.columns() {
            by_type!(column.field().data_type, sum_groups(column, ends, &mut out))?;
        }
        Ok(out)
    }

    fn invert(&mut self, _: &Call, whole: Batch<'_>, part: Batch<'_>) -> Result<OwnedBatch, Failure> {
        if whole.n_rows() != part.n_rows() {
            return Err("whole and part have different numbers of rows".into());
        }
        let mut out = OwnedBatch { rows: whole.n_rows() as u32, ..OwnedBatch::default() };
        for (whole, part) in whole.columns().zip(part.columns()) {
            by_type!(whole.field().data_type, take_out(whole, part, &mut out))?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::{Decimal, Row, testing};

    use super::*;

    #[derive(Row)]
    struct Sale {
        count: i8,
        amount: Option<f64>,
        price: Decimal<3, 1>,
    }

    fn sale(count: i8, amount: Option<f64>, price: i128) -> Sale {
        Sale { count, amount, price: Decimal(price) }
    }

    #[test]
    fn every_column_is_summed() {
        let rows = [sale(1, Some(0.5), 10), sale(2, None, 20), sale(3, None, -5)];
        let ran = testing::reduce(&Sum::operator(), "{}", rows, &[2, 3]).expect("it runs");
        assert_eq!(ran.column::<i8>("count"), [Some(3), Some(3)]);
        assert_eq!(ran.column::<f64>("amount"), [Some(0.5), None]);
        assert_eq!(ran.column::<AnyDecimal>("price"), [Some(AnyDecimal(30)), Some(AnyDecimal(-5))]);
    }

    #[test]
    fn a_sum_that_does_not_fit_fails() {
        let check = |rows: [Sale; 2], expected: &str| {
            let ran = testing::reduce(&Sum::operator(), "{}", rows, &[2]);
            assert_eq!(ran.expect_err("it fails").to_string(), expected);
        };
        check([sale(100, None, 0), sale(100, None, 0)], "the sum of column `count` does not fit in int8");
        check([sale(0, None, 999), sale(0, None, 1)], "the sum of column `price` does not fit in decimal128(3, 1)");
    }

    #[test]
    fn only_exact_sums_are_taken_apart() {
        #[derive(Row)]
        struct Count {
            n: i64,
        }
        let (whole, part) = ([Count { n: 7 }, Count { n: 3 }], [Count { n: 5 }, Count { n: 3 }]);
        let ran = testing::invert(&Sum::operator(), "{}", whole, part).expect("it runs").expect("it is invertible");
        assert_eq!(ran.column::<i64>("n"), [Some(2), Some(0)]);
        let rows = || [sale(1, None, 1)];
        assert!(testing::invert(&Sum::operator(), "{}", rows(), rows()).expect("it opens").is_none());
    }

    #[test]
    fn text_is_refused() {
        #[derive(Row)]
        struct Word {
            word: String,
        }
        let ran = testing::reduce(&Sum::operator(), "", [Word { word: "a".into() }], &[1]);
        assert_eq!(ran.expect_err("it is refused").to_string(), "column `word` is utf8, a number is expected");
    }
}
