//! `sum` of integers, which fails when the result does not fit its type.
//!
//! Integers are summed as decimals of 38 digits, which no number of rows overflows, so the order of the rows does not matter:
//! only a total that does not fit fails.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

/// What integers are summed as.
const WIDE: DataType = DataType::Decimal128(38, 0);

/// `sum`: DataFusion's own, but for integers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    sum: Sum,
}

/// `sum` with totals that fail rather than wrap around.
pub(in crate::sql) fn checked_sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(CheckedSum { sum: Sum::new() }))
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::UInt64)
}

fn wide(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), WIDE, true))
}

/// The arguments for a sum of decimals.
fn widened(arguments: AccumulatorArgs<'_>) -> AccumulatorArgs<'_> {
    AccumulatorArgs { return_field: wide(&arguments.return_field), ..arguments }
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.sum.name()
    }

    fn signature(&self) -> &Signature {
        self.sum.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.sum.return_type(types)
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if is_integer(arguments.return_field.data_type()) {
            let return_field = wide(&arguments.return_field);
            return self.sum.state_fields(StateFieldsArgs { return_field, ..arguments });
        }
        self.sum.state_fields(arguments)
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let total = arguments.return_field.data_type().clone();
        if is_integer(&total) {
            let sum = self.sum.accumulator(widened(arguments))?;
            return Ok(Box::new(Wide { sum, total }));
        }
        self.sum.accumulator(arguments)
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let total = arguments.return_field.data_type().clone();
        // There is none of decimals that are told apart.
        if is_integer(&total) && !arguments.is_distinct {
            let sum = self.sum.create_sliding_accumulator(widened(arguments))?;
            return Ok(Box::new(Wide { sum, total }));
        }
        self.sum.create_sliding_accumulator(arguments)
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        self.sum.groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let total = arguments.return_field.data_type().clone();
        if is_integer(&total) {
            let sum = self.sum.create_groups_accumulator(widened(arguments))?;
            return Ok(Box::new(WideGroups { sum, total }));
        }
        self.sum.create_groups_accumulator(arguments)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.sum.set_monotonicity(data_type)
    }
}

/// The sum of integers of one group.
#[derive(Debug)]
struct Wide {
    /// Of decimals.
    sum: Box<dyn Accumulator>,
    /// The type of the total.
    total: DataType,
}

impl Accumulator for Wide {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.update_batch(&decimals(values)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = narrow(&self.sum.evaluate()?.to_array()?, &self.total)?;
        ScalarValue::try_from_array(&total, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.sum.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.sum.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.retract_batch(&decimals(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.sum.supports_retract_batch()
    }
}

/// The sums of integers of many groups.
struct WideGroups {
    /// Of decimals.
    sum: Box<dyn GroupsAccumulator>,
    /// The type of the totals.
    total: DataType,
}

impl GroupsAccumulator for WideGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
    ) -> Result<()> {
        self.sum.update_batch(&decimals(values)?, groups, filter, n_groups)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        narrow(&self.sum.evaluate(emit)?, &self.total)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.sum.state(emit)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], n_groups: usize) -> Result<()> {
        self.sum.merge_batch(states, groups, n_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.sum.convert_to_state(&decimals(values)?, filter)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.size()
    }
}

fn decimals(values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    values.iter().map(|values| Ok(cast(values, &WIDE)?)).collect()
}

/// Totals in the type that they are given in.
fn narrow(totals: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    fn of<T: ArrowPrimitiveType<Native: TryFrom<i128>>>(totals: &ArrayRef, name: &str) -> Result<ArrayRef> {
        let totals = totals.as_primitive::<Decimal128Type>();
        let narrow: PrimitiveArray<T> = totals.try_unary(|total| {
            T::Native::try_from(total)
                .map_err(|_| exec_datafusion_err!("overflow: the sum is {total}, which no {name} holds"))
        })?;
        Ok(Arc::new(narrow))
    }
    match data_type {
        DataType::Int64 => of::<Int64Type>(totals, "int64"),
        DataType::UInt64 => of::<UInt64Type>(totals, "uint64"),
        other => internal_err!("a sum of integers is {other}"),
    }
}
