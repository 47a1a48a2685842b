//! The functions that tell the time: it is the batch's, so that a batch that is run again gives the same rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::scope::Scope;
use crate::source::schema::UTC;

/// Microseconds of a day.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// What of the batch's time a function gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Instant,
    Date,
    TimeOfDay,
}

/// `batch_time()`, which is also `now()` and `current_timestamp`; `current_date`, `current_time`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BatchTime {
    name: &'static str,
    aliases: Vec<String>,
    part: Part,
    signature: Signature,
}

/// All of them. They stand in the place of DataFusion's functions of these names.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |name, aliases: &[&str], part| {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        // Volatile: what does not change within a query would be computed once for all batches.
        let signature = Signature::nullary(Volatility::Volatile);
        Arc::new(ScalarUDF::new_from_impl(BatchTime { name, aliases, part, signature }))
    };
    vec![
        function("batch_time", &["now", "current_timestamp"], Part::Instant),
        function("current_date", &["today"], Part::Date),
        function("current_time", &[], Part::TimeOfDay),
    ]
}

impl BatchTime {
    fn at(&self, time_us: i64) -> ScalarValue {
        match self.part {
            Part::Instant => ScalarValue::TimestampMicrosecond(Some(time_us), Some(UTC.into())),
            Part::Date => ScalarValue::Date32(i32::try_from(time_us.div_euclid(DAY_US)).ok()),
            Part::TimeOfDay => ScalarValue::Time64Microsecond(Some(time_us.rem_euclid(DAY_US))),
        }
    }
}

impl ScalarUDFImpl for BatchTime {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.part {
            Part::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Part::Date => DataType::Date32,
            Part::TimeOfDay => DataType::Time64(TimeUnit::Microsecond),
        })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scope =
            Scope::current().ok_or_else(|| internal_datafusion_err!("`{}` is called outside of a task", self.name))?;
        Ok(ColumnarValue::Scalar(self.at(scope.task().batch_time_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, time_us: i64, expected: &str) {
        let functions = functions();
        let function = functions.iter().find(|function| function.name() == name).expect("a function of time");
        let function = function.inner().as_ref() as &dyn std::any::Any;
        let function = function.downcast_ref::<BatchTime>().expect("one of ours");
        let value = function.at(time_us);
        assert_eq!(value.data_type(), function.return_type(&[]).expect("a type"));
        assert_eq!(value.to_string(), expected);
    }

    #[test]
    fn each_gives_its_part_of_the_batch_time_also_before_1970() {
        check("batch_time", 1_500_000, "1500000");
        check("current_date", 2 * DAY_US + 1, "1970-01-03");
        check("current_date", -1, "1969-12-31");
        check("current_time", DAY_US + 7, "7");
        check("current_time", -1, &(DAY_US - 1).to_string());
    }
}
