//! Functions that give the one value they get, after a look at it.

use std::any::Any;
use std::fmt::Debug;
use std::hash::Hash;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// What is looked at in a value that passes.
pub(super) trait Look: Debug + Eq + Hash + Any + Send + Sync {
    /// What the function is called.
    const NAME: &str;

    /// Fails when the values may not pass.
    fn look(&self, values: &ArrayRef) -> Result<()>;

    /// What a column is called that is computed so. Two that are told apart have different names.
    fn column_name(&self, argument: &Expr) -> Result<String> {
        Ok(format!("{}({})", Self::NAME, argument.schema_name()))
    }
}

/// The expression, once its values have been looked at. The simplifier does not look into it.
pub(super) fn passing<L: Look>(expression: Expr, look: L) -> Expr {
    ScalarUDF::new_from_impl(Passing { look, signature: Signature::any(1, Volatility::Immutable) })
        .call(vec![expression])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Passing<L> {
    look: L,
    signature: Signature,
}

impl<L: Look> ScalarUDFImpl for Passing<L> {
    fn name(&self) -> &str {
        L::NAME
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(arguments.iter().map(ToString::to_string).collect())
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        match arguments {
            [one] => self.look.column_name(one),
            _ => internal_err!("one value passes"),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [one] => Ok(one.clone()),
            _ => internal_err!("one value passes"),
        }
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match arguments.arg_fields {
            [one] => Ok(Field::new(one.name(), one.data_type().clone(), one.is_nullable()).into()),
            _ => internal_err!("one value passes"),
        }
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(value), true) = (arguments.args.pop(), arguments.args.is_empty()) else {
            return internal_err!("one value passes");
        };
        match &value {
            ColumnarValue::Array(values) => self.look.look(values)?,
            ColumnarValue::Scalar(value) => self.look.look(&value.to_array()?)?,
        }
        Ok(value)
    }
}
