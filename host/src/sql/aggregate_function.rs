//! A plugin of role aggregator as a function: one value for each group of a query.
//!
//! Where a query groups, [`Groups`] has all groups together; [`Group`] is one alone: of a query without groups, or of a window.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use super::aggregate_groups::Groups;
use super::function::{ByTypes, Shared, passed};
use super::scope::Scope;
use super::types::plain_array;
use crate::ids::PartitionId;
use crate::operator::{Aggregator, AggregatorPlan, CallError, OpenError};
use crate::step::chunks::{Chunks, batch_bytes};
use crate::step::instances::Instances;
use crate::step::keyed::batch_of;

/// Accumulators of one group that wait to be merged, at most.
const PENDING_MAX: usize = 64;

/// The function, for any types of arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AggregateFunction {
    shared: Arc<Shared>,
    signature: Signature,
    opened: ByTypes<Opened>,
}

/// The function for some types of arguments.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) input: SchemaRef,
    pub(super) plan: AggregatorPlan,
    pub(super) result: FieldRef,
    instances: Instances<dyn Aggregator>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("input", &self.input).finish_non_exhaustive()
    }
}

impl AggregateFunction {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let signature = Signature::any(shared.reads.len(), Volatility::Immutable);
        Self { shared, signature, opened: ByTypes::default() }
    }

    fn opened(&self, types: Vec<DataType>) -> Result<Arc<Opened>> {
        self.opened.get_or_open(types, |types| {
            let shared = self.shared.clone();
            let input = shared.arguments(types);
            let first =
                shared.operator.open_aggregator(&shared.info, &input).map_err(|error| passed(shared.refused(error)))?;
            let plan = first.plan().clone();
            let result = shared.result(&plan.result).map_err(|refused| passed(*refused))?;
            let instances = Instances::default();
            instances.put(PartitionId(0), first);
            Ok(Opened { shared, input, plan, result, instances })
        })
    }

    fn opened_for(&self, arguments: &AccumulatorArgs<'_>) -> Result<Arc<Opened>> {
        if arguments.is_distinct {
            return plan_err!("`{}` is a plugin, and cannot be DISTINCT", self.shared.name);
        }
        self.opened(arguments.expr_fields.iter().map(|field| field.data_type().clone()).collect())
    }
}

impl AggregateUDFImpl for AggregateFunction {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(self.opened(types.to_vec())?.result.data_type().clone())
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if arguments.is_distinct {
            return plan_err!("`{}` is a plugin, and cannot be DISTINCT", self.shared.name);
        }
        let types = arguments.input_fields.iter().map(|field| field.data_type().clone());
        let opened = self.opened(types.collect())?;
        // A group without rows has no accumulator: its state says so.
        let mut fields = vec![Arc::new(Field::new(format!("{}[filled]", arguments.name), DataType::Boolean, false))];
        fields.extend(opened.plan.accumulator.fields().iter().map(|field| {
            let name = format!("{}[{}]", arguments.name, field.name());
            Arc::new(Field::new(name, field.data_type().clone(), true))
        }));
        Ok(fields)
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Group { opened: self.opened_for(&arguments)?, pending: Vec::new() }))
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs<'_>) -> bool {
        !arguments.is_distinct
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.opened_for(&arguments)?)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// One group at work.
#[derive(Debug)]
struct Group {
    opened: Arc<Opened>,
    /// Accumulators that are not merged yet, a row each.
    pending: Vec<RecordBatch>,
}

/// A call of an aggregator; with where its groups end.
#[derive(Debug, Clone)]
pub(super) enum Calling {
    Accumulate(Vec<u32>),
    Merge(Vec<u32>),
    Finish,
}

impl Calling {
    /// The same for half the groups each; `None`: it is one group.
    fn halves(&self, rows: &RecordBatch) -> Option<[(Self, RecordBatch); 2]> {
        let cut = |ends: &[u32]| {
            let (first, second) = ends.split_at(ends.len() / 2);
            let at = *first.last()?;
            Some((first.to_vec(), second.iter().map(|end| end - at).collect::<Vec<u32>>(), at as usize))
        };
        let (first, second, at) = match self {
            Self::Accumulate(ends) => {
                let (first, second, at) = cut(ends)?;
                (Self::Accumulate(first), Self::Accumulate(second), at)
            }
            Self::Merge(ends) => {
                let (first, second, at) = cut(ends)?;
                (Self::Merge(first), Self::Merge(second), at)
            }
            Self::Finish if rows.num_rows() > 1 => (Self::Finish, Self::Finish, rows.num_rows() / 2),
            Self::Finish => return None,
        };
        Some([(first, rows.slice(0, at)), (second, rows.slice(at, rows.num_rows() - at))])
    }
}

impl Opened {
    pub(super) fn call(&self, calling: &Calling, rows: &RecordBatch) -> Result<RecordBatch> {
        let Shared { meter, bounds, name, .. } = &*self.shared;
        let scope = Scope::current().ok_or_else(|| internal_datafusion_err!("`{name}` is called outside of a task"))?;
        if scope.task().is_cancelled() {
            return Err(super::failure::cancelled());
        }
        let partition = scope.task().partition;
        let mut instance = self.instances.take(partition, || self.open_again()).map_err(passed)?;
        let before = instance.bytes_crossed();
        let call = scope.call(std::ptr::from_ref(self) as usize, rows.num_rows(), bounds.clock);
        let outcome: Result<RecordBatch, CallError> = match calling {
            Calling::Accumulate(ends) => instance.accumulate(&call, rows, ends),
            Calling::Merge(ends) => instance.merge(&call, rows, ends),
            Calling::Finish => instance.finish(&call, rows),
        };
        self.shared.count_call(before, instance.bytes_crossed());
        match outcome {
            Ok(rows) => {
                self.instances.put(partition, instance);
                Ok(rows)
            }
            Err(error) => {
                meter.errors.add(1);
                match calling.halves(rows) {
                    Some([(first, first_rows), (second, second_rows)]) if error.is_output_too_large() => {
                        let halves = [self.call(&first, &first_rows)?, self.call(&second, &second_rows)?];
                        Ok(concat_batches(halves[0].schema_ref(), &halves)?)
                    }
                    _ => Err(passed(error)),
                }
            }
        }
    }

    fn open_again(&self) -> Result<Box<dyn Aggregator>, OpenError> {
        let shared = &self.shared;
        let instance = shared.operator.open_aggregator(&shared.info, &self.input)?;
        if *instance.plan() == self.plan {
            return Ok(instance);
        }
        Err(shared.plan_changed())
    }
}

impl Opened {
    /// The rows of arguments, as the plugin sees them.
    pub(super) fn rows(&self, values: &[ArrayRef], n_rows: usize) -> Result<RecordBatch> {
        let columns = values
            .iter()
            .zip(self.input.fields())
            .map(|(column, field)| Ok(plain_array(column, field.data_type())?.into_owned()));
        Ok(batch_of(self.input.clone(), columns.collect::<Result<_>>()?, n_rows)?)
    }

    /// Accumulators that came as the columns of a state, those that are filled; and which of them are.
    pub(super) fn accumulators(&self, states: &[ArrayRef]) -> Result<Option<(RecordBatch, BooleanArray)>> {
        let Some((filled, columns)) = states.split_first() else { return Ok(None) };
        let filled = filled.as_boolean().clone();
        let schema = &self.plan.accumulator;
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let nullable = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let rows = filter_record_batch(&batch_of(nullable, columns.to_vec(), filled.len())?, &filled)?;
        Ok(Some((batch_of(schema.clone(), rows.columns().to_vec(), rows.num_rows())?, filled)))
    }
}

impl Group {
    fn push(&mut self, accumulator: RecordBatch) -> Result<()> {
        self.pending.push(accumulator);
        if self.pending.len() >= PENDING_MAX {
            self.merged()?;
        }
        Ok(())
    }

    /// The accumulator of all rows so far; `None`: there were none.
    fn merged(&mut self) -> Result<Option<RecordBatch>> {
        let joined = match self.pending.as_slice() {
            [] => return Ok(None),
            [one] if one.num_rows() == 1 => return Ok(Some(one.clone())),
            several => concat_batches(&self.opened.plan.accumulator, several)?,
        };
        let merged = self.opened.call(&Calling::Merge(vec![joined.num_rows() as u32]), &joined)?;
        self.pending = vec![merged.clone()];
        Ok(Some(merged))
    }
}

impl Accumulator for Group {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let opened = self.opened.clone();
        let n_rows = values.first().map_or(0, |column| column.len());
        if n_rows == 0 {
            return Ok(());
        }
        let rows = opened.rows(values, n_rows)?;
        let bounds = &opened.shared.bounds;
        let mut chunks = Chunks::new(opened.input.clone(), bounds.rows, bounds.bytes, false);
        let mut cut = chunks.push(rows)?;
        cut.extend(chunks.finish()?);
        for chunk in cut {
            let read = chunk.project(&opened.plan.reads)?;
            self.push(opened.call(&Calling::Accumulate(vec![chunk.num_rows() as u32]), &read)?)?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(accumulator) = self.merged()? else { return ScalarValue::try_from(self.opened.result.data_type()) };
        let result = self.opened.call(&Calling::Finish, &accumulator)?;
        ScalarValue::try_from_array(result.column(0), 0)
    }

    fn size(&self) -> usize {
        let pending: u64 = self.pending.iter().map(batch_bytes).sum();
        size_of_val(self) + usize::try_from(pending).unwrap_or(usize::MAX)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let merged = self.merged()?;
        let mut state = vec![ScalarValue::Boolean(Some(merged.is_some()))];
        for (index, field) in self.opened.plan.accumulator.fields().iter().enumerate() {
            state.push(match &merged {
                Some(merged) => ScalarValue::try_from_array(merged.column(index), 0)?,
                None => ScalarValue::try_from(field.data_type())?,
            });
        }
        Ok(state)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        match self.opened.accumulators(states)? {
            Some((rows, _)) if rows.num_rows() > 0 => self.push(rows),
            _ => Ok(()),
        }
    }
}
