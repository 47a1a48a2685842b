//! A plugin of role aggregator as a function: one value for each group of a query.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::function::{Shared, passed};
use super::scope::Scope;
use super::types::plain_array;
use crate::operator::{Aggregator, AggregatorPlan, CallError, OpenError};
use crate::step::chunks::{Chunks, batch_bytes};
use crate::step::instances::Instances;
use crate::step::keyed::batch_of;

/// Accumulators of one group that wait to be merged, at most.
const PENDING_MAX: usize = 64;

/// The function, for any types of arguments.
#[derive(Debug)]
pub(super) struct AggregateFunction {
    shared: Arc<Shared>,
    signature: Signature,
    /// What the plugin said for the types of arguments that texts call it with. A mutex: it is taken once a group.
    opened: Mutex<HashMap<Vec<DataType>, Arc<Opened>>>,
}

/// The function for some types of arguments.
struct Opened {
    shared: Arc<Shared>,
    input: SchemaRef,
    plan: AggregatorPlan,
    result: FieldRef,
    instances: Instances<dyn Aggregator>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("input", &self.input).finish_non_exhaustive()
    }
}

impl PartialEq for AggregateFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for AggregateFunction {}

impl Hash for AggregateFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shared.name.hash(state);
    }
}

impl AggregateFunction {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let signature = Signature::any(shared.reads.len(), Volatility::Immutable);
        Self { shared, signature, opened: Mutex::default() }
    }

    fn opened(&self, types: Vec<DataType>) -> Result<Arc<Opened>> {
        let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = all.get(&types) {
            return Ok(opened.clone());
        }
        let shared = self.shared.clone();
        let input = shared.arguments(&types);
        let first =
            shared.operator.open_aggregator(&shared.info, &input).map_err(|error| passed(shared.refused(error)))?;
        let plan = first.plan().clone();
        let result = shared.result(&plan.result).map_err(|refused| passed(*refused))?;
        let instances = Instances::default();
        instances.put(crate::ids::PartitionId(0), first);
        let opened = Arc::new(Opened { shared, input, plan, result, instances });
        all.insert(types, opened.clone());
        Ok(opened)
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
        if arguments.is_distinct {
            return plan_err!("`{}` is a plugin, and cannot be DISTINCT", self.shared.name);
        }
        let types = arguments.expr_fields.iter().map(|field| field.data_type().clone());
        Ok(Box::new(Group { opened: self.opened(types.collect())?, pending: Vec::new() }))
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

/// A call of an aggregator.
enum Calling<'a> {
    Accumulate(&'a [u32]),
    Merge(&'a [u32]),
    Finish,
}

impl Opened {
    fn call(&self, calling: Calling<'_>, rows: &RecordBatch) -> Result<RecordBatch> {
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
        let crossed = instance.bytes_crossed();
        meter.calls.add(1);
        meter.crossed_in_bytes.add(crossed.in_bytes.saturating_sub(before.in_bytes));
        meter.crossed_out_bytes.add(crossed.out_bytes.saturating_sub(before.out_bytes));
        match outcome {
            Ok(rows) => {
                self.instances.put(partition, instance);
                Ok(rows)
            }
            Err(error) => {
                meter.errors.add(1);
                Err(passed(error))
            }
        }
    }

    fn open_again(&self) -> Result<Box<dyn Aggregator>, OpenError> {
        let shared = &self.shared;
        let instance = shared.operator.open_aggregator(&shared.info, &self.input)?;
        if *instance.plan() == self.plan {
            return Ok(instance);
        }
        Err(OpenError::PlanChanged { operator: shared.operator.name().to_owned(), step: shared.info.step.clone() })
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
        let merged = self.opened.call(Calling::Merge(&[joined.num_rows() as u32]), &joined)?;
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
        let columns = values
            .iter()
            .zip(opened.input.fields())
            .map(|(column, field)| Ok(plain_array(column, field.data_type())?.into_owned()));
        let rows = batch_of(opened.input.clone(), columns.collect::<Result<_>>()?, n_rows)?;
        let bounds = &opened.shared.bounds;
        let mut chunks = Chunks::new(opened.input.clone(), bounds.rows, bounds.bytes, false);
        let mut cut = chunks.push(rows)?;
        cut.extend(chunks.finish()?);
        for chunk in cut {
            let read = chunk.project(&opened.plan.reads)?;
            self.push(opened.call(Calling::Accumulate(&[chunk.num_rows() as u32]), &read)?)?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(accumulator) = self.merged()? else { return ScalarValue::try_from(self.opened.result.data_type()) };
        let result = self.opened.call(Calling::Finish, &accumulator)?;
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
        let Some((filled, columns)) = states.split_first() else { return Ok(()) };
        let schema = self.opened.plan.accumulator.clone();
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let nullable = Arc::new(arrow::datatypes::Schema::new(nullable.collect::<Vec<_>>()));
        let rows = filter_record_batch(&batch_of(nullable, columns.to_vec(), filled.len())?, filled.as_boolean())?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.push(batch_of(schema, rows.columns().to_vec(), rows.num_rows())?)
    }
}
