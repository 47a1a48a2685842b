//! `sum` of integers and decimals, which fails when the result does not fit its type.
//!
//! Integers are summed as decimals of 38 digits and decimals as those of 76, which no number of rows overflows, so the order of the
//! rows does not matter: only a total that does not fit fails.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type,
    DecimalType, Field, FieldRef, Int64Type, UInt64Type,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

/// `sum`: DataFusion's own, but for integers and decimals.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    sum: Sum,
}

/// `sum` with totals that fail rather than wrap around.
pub(in crate::sql) fn checked_sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(CheckedSum { sum: Sum::new() }))
}

/// What values are summed as whose total has this type; `None`: as they are.
fn wide_type(total: &DataType) -> Option<DataType> {
    match total {
        DataType::Int64 | DataType::UInt64 => Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)),
        DataType::Decimal128(_, scale) => Some(DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale)),
        _ => None,
    }
}

/// The types of a total, and of what it is summed as.
#[derive(Debug, Clone)]
struct Types {
    total: DataType,
    wide: DataType,
}

impl Types {
    fn of(total: &FieldRef) -> Option<Self> {
        let total = total.data_type().clone();
        wide_type(&total).map(|wide| Self { total, wide })
    }

    fn widened(&self, total: &FieldRef) -> FieldRef {
        Arc::new(Field::new(total.name(), self.wide.clone(), true))
    }

    fn values(&self, values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        values.iter().map(|values| Ok(cast(values, &self.wide)?)).collect()
    }
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
        match Types::of(&arguments.return_field) {
            Some(types) => {
                let return_field = types.widened(&arguments.return_field);
                self.sum.state_fields(StateFieldsArgs { return_field, ..arguments })
            }
            None => self.sum.state_fields(arguments),
        }
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let Some(types) = Types::of(&arguments.return_field) else { return self.sum.accumulator(arguments) };
        let return_field = types.widened(&arguments.return_field);
        let sum = self.sum.accumulator(AccumulatorArgs { return_field, ..arguments })?;
        Ok(Box::new(Wide { sum, types }))
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match Types::of(&arguments.return_field) {
            // There is none of decimals that are told apart.
            Some(types) if !arguments.is_distinct => {
                let return_field = types.widened(&arguments.return_field);
                let sum = self.sum.create_sliding_accumulator(AccumulatorArgs { return_field, ..arguments })?;
                Ok(Box::new(Wide { sum, types }))
            }
            _ => self.sum.create_sliding_accumulator(arguments),
        }
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        self.sum.groups_accumulator_supported(arguments)
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let Some(types) = Types::of(&arguments.return_field) else {
            return self.sum.create_groups_accumulator(arguments);
        };
        let return_field = types.widened(&arguments.return_field);
        let sum = self.sum.create_groups_accumulator(AccumulatorArgs { return_field, ..arguments })?;
        Ok(Box::new(WideGroups { sum, types }))
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

/// The sum of one group.
#[derive(Debug)]
struct Wide {
    /// Of the wide type.
    sum: Box<dyn Accumulator>,
    types: Types,
}

impl Accumulator for Wide {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.update_batch(&self.types.values(values)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = narrow(&self.sum.evaluate()?.to_array()?, &self.types.total)?;
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
        self.sum.retract_batch(&self.types.values(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.sum.supports_retract_batch()
    }
}

/// The sums of many groups.
struct WideGroups {
    /// Of the wide type.
    sum: Box<dyn GroupsAccumulator>,
    types: Types,
}

impl GroupsAccumulator for WideGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        n_groups: usize,
    ) -> Result<()> {
        self.sum.update_batch(&self.types.values(values)?, groups, filter, n_groups)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        narrow(&self.sum.evaluate(emit)?, &self.types.total)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.sum.state(emit)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], n_groups: usize) -> Result<()> {
        self.sum.merge_batch(states, groups, n_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.sum.convert_to_state(&self.types.values(values)?, filter)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.size()
    }
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
        DataType::Decimal128(precision, scale) => {
            let totals = totals.as_primitive::<Decimal256Type>();
            let narrow: PrimitiveArray<Decimal128Type> = totals.try_unary(|total| {
                let fits = |total: &i128| Decimal128Type::is_valid_decimal_precision(*total, *precision);
                total.to_i128().filter(fits).ok_or_else(|| {
                    let total = Decimal256Type::format_decimal(total, DECIMAL256_MAX_PRECISION, *scale);
                    exec_datafusion_err!("overflow: the sum is {total}, which no decimal({precision}, {scale}) holds")
                })
            })?;
            Ok(Arc::new(narrow.with_precision_and_scale(*precision, *scale)?))
        }
        other => internal_err!("a sum is {other}"),
    }
}
