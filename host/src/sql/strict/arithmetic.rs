//! `+`, `-`, `*` and the sign of integers, which fail when the result does not fit its type; and what is computed with decimals, which
//! fails when it has more digits than its type.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::kernels::numeric::{add, mul, neg, sub};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use super::passing::{Look, passing};

/// What is done to integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Negate,
}

/// An operation on integers of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Operation,
    signature: Signature,
}

/// `left op right` for two integers of the same type; `None`: the operator cannot overflow, or checks already.
pub(super) fn checked(left: &Expr, operator: Operator, right: &Expr) -> Option<Expr> {
    let operation = match operator {
        Operator::Plus => Operation::Add,
        Operator::Minus => Operation::Subtract,
        Operator::Multiply => Operation::Multiply,
        _ => return None,
    };
    Some(function(operation, 2).call(vec![left.clone(), right.clone()]))
}

/// `-value` for a signed integer.
pub(super) fn checked_negative(value: &Expr) -> Expr {
    function(Operation::Negate, 1).call(vec![value.clone()])
}

fn function(operation: Operation, n_arguments: usize) -> ScalarUDF {
    let signature = Signature::any(n_arguments, Volatility::Immutable);
    ScalarUDF::new_from_impl(Checked { operation, signature })
}

/// What is computed with decimals, when it has no more digits than its type.
pub(super) fn fitting(decimal: Expr) -> Expr {
    passing(decimal, Fitting)
}

/// Fails when a decimal has more digits than its type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fitting;

impl Look for Fitting {
    const NAME: &str = "fitting";

    fn look(&self, values: &ArrayRef) -> Result<()> {
        match values.data_type() {
            DataType::Decimal128(precision, _) => {
                values.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision)?;
            }
            DataType::Decimal256(precision, _) => {
                values.as_primitive::<Decimal256Type>().validate_decimal_precision(*precision)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Checked {
    fn symbol(&self) -> &'static str {
        match self.operation {
            Operation::Add => "+",
            Operation::Subtract | Operation::Negate => "-",
            Operation::Multiply => "*",
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "add",
            Operation::Subtract => "subtract",
            Operation::Multiply => "multiply",
            Operation::Negate => "negate",
        }
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(match arguments {
            [one] => format!("{}{one}", self.symbol()),
            [left, right] => format!("{left} {} {right}", self.symbol()),
            _ => self.name().to_owned(),
        })
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(match arguments {
            [one] => format!("{}{}", self.symbol(), one.schema_name()),
            [left, right] => format!("{} {} {}", left.schema_name(), self.symbol(), right.schema_name()),
            _ => self.name().to_owned(),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [first, ..] => Ok(first.clone()),
            [] => internal_err!("an operation without operands"),
        }
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match (self.operation, arguments.args.as_slice()) {
            (Operation::Add, [left, right]) => apply(left, right, add),
            (Operation::Subtract, [left, right]) => apply(left, right, sub),
            (Operation::Multiply, [left, right]) => apply(left, right, mul),
            (Operation::Negate, [ColumnarValue::Array(values)]) => Ok(ColumnarValue::Array(neg(values)?)),
            (Operation::Negate, [ColumnarValue::Scalar(value)]) => {
                let negated = neg(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&negated, 0)?))
            }
            _ => internal_err!("an operation with operands that are none of its own"),
        }
    }
}
