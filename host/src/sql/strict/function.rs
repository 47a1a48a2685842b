//! DataFusion's functions, with what is done differently for some of them.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::bounds::{Length, at_least, in_pieces};
use super::rounding::{Whole, round_floats, whole, whole_type};
use super::times::{bin, cut, from_seconds};

/// What is done differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    /// What is made has an end.
    Made(Length),
    /// The same of texts that are filled up to a length, which is not less than 0.
    Padded,
    /// The work has an end.
    InPieces,
    /// Floats are rounded so that digits which they do not have change nothing.
    Digits(Whole),
    /// A whole decimal has a type of its own.
    Whole(Whole),
    /// Times are cut downwards, before 1970 too.
    Cut,
    /// A time that there is not is an error, and not null.
    Bin,
    /// A number of seconds that is no time is an error.
    Seconds,
}

/// A function and its rule.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Strict {
    function: Arc<ScalarUDF>,
    rule: Rule,
}

/// The function, strict if it is not.
pub(in crate::sql) fn strict_function(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let rule = match function.name() {
        "lpad" | "rpad" => Rule::Padded,
        "array_repeat" | "array_resize" => Rule::Made(Length::Second),
        "repeat" => Rule::Made(Length::Times),
        "range" | "generate_series" => Rule::Made(Length::Span),
        "levenshtein" | "array_has_any" | "array_has_all" => Rule::InPieces,
        "round" => Rule::Digits(Whole::Nearest),
        "trunc" => Rule::Digits(Whole::TowardsZero),
        "ceil" => Rule::Whole(Whole::Up),
        "floor" => Rule::Whole(Whole::Down),
        "date_trunc" => Rule::Cut,
        "date_bin" | "date_part" => Rule::Bin,
        "to_timestamp" => Rule::Seconds,
        _ => return function,
    };
    Arc::new(ScalarUDF::new_from_impl(Strict { function, rule }))
}

impl ScalarUDFImpl for Strict {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self.rule, types) {
            (Rule::Whole(_), [DataType::Decimal128(precision, scale)]) => Ok(whole_type(*precision, *scale)),
            _ => self.function.return_type(types),
        }
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let of = match (self.rule, arguments.arg_fields) {
            (Rule::Whole(_), [field]) => Some(field.data_type().clone()),
            _ => None,
        };
        let field = self.function.return_field_from_args(arguments)?;
        match of {
            Some(DataType::Decimal128(precision, scale)) => {
                let data_type = whole_type(precision, scale);
                Ok(Arc::new(field.as_ref().clone().with_data_type(data_type)))
            }
            _ => Ok(field),
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(types)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let function = Arc::new(self.function.inner().with_updated_config(config)?);
        Some(ScalarUDF::new_from_impl(Self { function, rule: self.rule }))
    }

    fn simplify(&self, arguments: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.function.simplify(arguments, context)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.rule {
            Rule::Made(length) => {
                length.check(self.name(), &arguments)?;
                self.function.invoke_with_args(arguments)
            }
            Rule::Padded => {
                Length::Second.check(self.name(), &arguments)?;
                self.function.invoke_with_args(at_least(arguments, 1, 0)?)
            }
            Rule::InPieces => in_pieces(&self.function, arguments),
            Rule::Digits(how) => match round_floats(how, &arguments)? {
                Some(rounded) => Ok(rounded),
                None => self.function.invoke_with_args(arguments),
            },
            Rule::Whole(how) => match whole(how, &arguments)? {
                Some(whole) => Ok(whole),
                None => self.function.invoke_with_args(arguments),
            },
            Rule::Cut => match cut(&arguments)? {
                Some(cut) => Ok(cut),
                None => self.function.invoke_with_args(arguments),
            },
            Rule::Bin => bin(&self.function, arguments),
            Rule::Seconds => {
                from_seconds(&arguments)?;
                self.function.invoke_with_args(arguments)
            }
        }
    }
}
