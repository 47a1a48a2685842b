//! The mean of the readings of a key.

use tidemill_guest::{Aggregate, Refusal, Row, Step, operator};

/// What is read of a row.
#[derive(Row)]
pub struct Reading {
    degrees: Option<f64>,
}

/// What is kept of the rows of a key: parts of them are added up side by side, and then merged.
#[derive(Row)]
pub struct Sum {
    sum: f64,
    readings: i64,
}

/// What is written, behind the key.
#[derive(Row)]
pub struct Mean {
    mean: Option<f64>,
    readings: i64,
}

/// The mean; null where there is no reading.
pub struct MeanOfReadings;

#[operator]
impl Aggregate for MeanOfReadings {
    type Input<'a> = Reading;
    type Accumulator = Sum;
    type Output = Mean;

    fn open(_: &Step) -> Result<Self, Refusal> {
        Ok(MeanOfReadings)
    }

    fn start(&self) -> Sum {
        Sum { sum: 0.0, readings: 0 }
    }

    fn add(&self, sum: &mut Sum, reading: Reading) {
        if let Some(degrees) = reading.degrees {
            sum.sum += degrees;
            sum.readings += 1;
        }
    }

    fn merge(&self, sum: &mut Sum, other: Sum) {
        sum.sum += other.sum;
        sum.readings += other.readings;
    }

    fn finish(&self, sum: Sum) -> Mean {
        let mean = (sum.readings > 0).then(|| sum.sum / sum.readings as f64);
        Mean { mean, readings: sum.readings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_guest::testing;

    #[test]
    fn nulls_are_no_readings() {
        let readings = [Some(1.0), Some(2.0), None, None].map(|degrees| Reading { degrees });
        // Two groups: of the first three rows, and of the fourth.
        let ran = testing::aggregate(&MeanOfReadings::operator(), "{}", readings, &[3, 4]).unwrap();
        assert_eq!(ran.column::<f64>("mean"), [Some(1.5), None]);
        assert_eq!(ran.column::<i64>("readings"), [Some(2), Some(0)]);
    }
}
