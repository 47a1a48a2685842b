//! The mean of a column of numbers. Nulls are left out; the mean of nothing is null.

use serde::Deserialize;
use tidemill_guest::value::{AnyDecimal, Read};
use tidemill_guest::{
    Aggregator, AggregatorPlan, Batch, Call, Column, DataType, Failure, OwnedBatch, Refusal, Row, Rows, Schema, Step,
    operator,
};

/// Which mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The column of numbers.
    column: String,
    /// What the result is called.
    #[serde(default = "mean", rename = "as")]
    name: String,
}

fn mean() -> String {
    "mean".into()
}

/// What is kept of a key's rows.
#[derive(Row, Default)]
pub struct Sum {
    sum: f64,
    count: i64,
}

#[derive(Row)]
struct Answer {
    mean: Option<f64>,
}

/// The values of a column as `f64`, `None` where one is null.
fn numbers<'a>(column: Column<'a>) -> Result<Box<dyn Fn(usize) -> Option<f64> + 'a>, Failure> {
    macro_rules! of {
        ($type:ty, $to_f64:expr) => {{
            let values = column.read::<$type>().ok_or("the column is not of the type it was opened with")?;
            Ok(Box::new(move |index| <$type>::get(&values, index).map($to_f64)))
        }};
    }
    match column.field().data_type {
        DataType::Int8 => of!(i8, f64::from),
        DataType::Int16 => of!(i16, f64::from),
        DataType::Int32 => of!(i32, f64::from),
        DataType::Int64 => of!(i64, |value| value as f64),
        DataType::UInt8 => of!(u8, f64::from),
        DataType::UInt16 => of!(u16, f64::from),
        DataType::UInt32 => of!(u32, f64::from),
        DataType::UInt64 => of!(u64, |value| value as f64),
        DataType::Float32 => of!(f32, f64::from),
        DataType::Float64 => of!(f64, |value| value),
        DataType::Decimal128(_, scale) => {
            let unit = 10_f64.powi(i32::from(scale));
            of!(AnyDecimal, move |value| value.0 as f64 / unit)
        }
        // Refused by `open`.
        _ => Err("the column is not of numbers".into()),
    }
}

fn is_number(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(
        data_type,
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32 | Float64 | Decimal128(..)
    )
}

/// The mean of a column.
pub struct Mean;

#[operator]
impl Aggregator for Mean {
    fn open(step: &Step, values: &Schema) -> Result<(AggregatorPlan, Self), Refusal> {
        let config: Config = step.config()?;
        match values.find(&config.column) {
            Some((_, field)) if is_number(&field.data_type) => {}
            Some((_, field)) => {
                let text = format!("column `{}` is {}, a number is expected", field.name, field.type_text());
                return Err(Refusal::Schema(text));
            }
            None => {
                return Err(Refusal::Schema(format!(
                    "column `{}`, of which the mean is taken, is missing",
                    config.column
                )));
            }
        }
        let mut result = Answer::schema();
        result.fields[0].name = config.name;
        let plan = AggregatorPlan { reads: Some(vec![config.column]), accumulator: Sum::schema(), result };
        Ok((plan, Mean))
    }

    fn accumulate(&mut self, _: &Call, values: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure> {
        let column = values.columns().next().ok_or("the batch has no column")?;
        let number = numbers(column)?;
        let mut start = 0;
        Ok(Sum::batch(ends.iter().map(|&end| {
            let mut sum = Sum::default();
            for value in (start..end as usize).filter_map(&number) {
                sum.sum += value;
                sum.count += 1;
            }
            start = end as usize;
            sum
        })))
    }

    fn merge(&mut self, _: &Call, accumulators: Batch<'_>, ends: &[u32]) -> Result<OwnedBatch, Failure> {
        let rows = Rows::<Sum>::new(accumulators).map_err(|refusal| refusal.to_string())?;
        let mut start = 0;
        Ok(Sum::batch(ends.iter().map(|&end| {
            let mut merged = Sum::default();
            for sum in (start..end as usize).filter_map(|index| rows.get(index)) {
                merged.sum += sum.sum;
                merged.count += sum.count;
            }
            start = end as usize;
            merged
        })))
    }

    fn finish(&mut self, _: &Call, accumulators: Batch<'_>) -> Result<OwnedBatch, Failure> {
        let rows = Rows::<Sum>::new(accumulators).map_err(|refusal| refusal.to_string())?;
        let mean = |sum: Sum| if sum.count == 0 { None } else { Some(sum.sum / sum.count as f64) };
        Ok(Answer::batch(rows.iter().map(|(_, sum)| Answer { mean: mean(sum) })))
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::{Decimal, testing};

    use super::*;

    #[derive(Row)]
    struct Reading<'a> {
        place: &'a str,
        degrees: Option<i32>,
        price: Decimal<5, 2>,
    }

    fn readings() -> [Reading<'static>; 4] {
        [Some(1), Some(2), None, None].map(|degrees| Reading { place: "x", degrees, price: Decimal(150) })
    }

    #[test]
    fn nulls_are_left_out() {
        let config = r#"{"column": "degrees", "as": "mean_degrees"}"#;
        let ran = testing::aggregate(&Mean::operator(), config, readings(), &[3, 4]).expect("it runs");
        assert_eq!(ran.column::<f64>("mean_degrees"), [Some(1.5), None]);
    }

    #[test]
    fn decimals_keep_their_scale() {
        let ran = testing::aggregate(&Mean::operator(), r#"{"column": "price"}"#, readings(), &[4]).expect("it runs");
        assert_eq!(ran.column::<f64>("mean"), [Some(1.5)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |config: &str, expected: &str| {
            let ran = testing::aggregate(&Mean::operator(), config, readings(), &[4]);
            assert_eq!(ran.expect_err("it is refused").to_string(), expected);
        };
        check("{}", "missing field `column`");
        check(r#"{"column": "place"}"#, "column `place` is utf8, a number is expected");
        check(r#"{"column": "x"}"#, "column `x`, of which the mean is taken, is missing");
    }
}
