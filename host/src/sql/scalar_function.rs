//! A plugin of role transform as a function: one value for each row.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::function::{ByTypes, NotOneForOne, Shared, passed};
use super::scope::Scope;
use super::types::plain_array;
use crate::ids::PartitionId;
use crate::operator::{OpenError, Transform, TransformOutput, TransformPlan};
use crate::step::chunks::Chunks;
use crate::step::instances::Instances;
use crate::step::keyed::batch_of;

/// The function, for any types of arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ScalarFunction {
    shared: Arc<Shared>,
    signature: Signature,
    opened: ByTypes<Opened>,
}

/// The function for some types of arguments.
struct Opened {
    input: SchemaRef,
    plan: TransformPlan,
    result: FieldRef,
    instances: Instances<dyn Transform>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("input", &self.input).finish_non_exhaustive()
    }
}

impl ScalarFunction {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        // Volatile: it is never called when there is no batch, and may use the batch's time.
        let signature = Signature::any(shared.reads.len(), Volatility::Volatile);
        Self { shared, signature, opened: ByTypes::default() }
    }

    fn opened(&self, types: Vec<DataType>) -> Result<Arc<Opened>> {
        self.opened.get_or_open(types, |types| {
            let shared = &self.shared;
            let input = shared.arguments(types);
            let first =
                shared.operator.open_transform(&shared.info, &input).map_err(|error| passed(shared.refused(error)))?;
            let plan = first.plan().clone();
            let result = shared.result(&plan.writes).map_err(|refused| passed(*refused))?;
            let instances = Instances::default();
            // The instance that answered is as good as any: the first partition has it.
            instances.put(PartitionId(0), first);
            Ok(Opened { input, plan, result, instances })
        })
    }

    /// The values for some rows of arguments.
    fn call(&self, opened: &Opened, rows: RecordBatch, scope: &Scope) -> Result<ArrayRef> {
        let bounds = &self.shared.bounds;
        let mut chunks = Chunks::new(opened.input.clone(), bounds.rows, bounds.bytes, false);
        let mut cut = chunks.push(rows)?;
        cut.extend(chunks.finish()?);
        let mut values = Vec::new();
        for chunk in cut {
            self.call_chunk(opened, &chunk, scope, &mut values)?;
        }
        match values.as_slice() {
            [] => Ok(new_empty_array(opened.result.data_type())),
            [one] => Ok(one.clone()),
            several => Ok(concat(&several.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?),
        }
    }

    /// One call, or several with half the rows each when an output is too large.
    fn call_chunk(&self, opened: &Opened, rows: &RecordBatch, scope: &Scope, values: &mut Vec<ArrayRef>) -> Result<()> {
        if scope.task().is_cancelled() {
            return Err(super::failure::cancelled());
        }
        let Shared { meter, bounds, .. } = &*self.shared;
        let partition = scope.task().partition;
        let mut instance = opened.instances.take(partition, || self.open_again(opened)).map_err(passed)?;
        let input = rows.project(&opened.plan.reads)?;
        let before = instance.bytes_crossed();
        let call = scope.call(std::ptr::from_ref(opened) as usize, rows.num_rows(), bounds.clock);
        let outcome = instance.process(&call, &input);
        self.shared.count_call(before, instance.bytes_crossed());
        match outcome {
            Ok(output) => {
                opened.instances.put(partition, instance);
                values.push(self.in_place(rows.num_rows(), output)?);
                Ok(())
            }
            Err(error) => {
                meter.errors.add(1);
                let n_rows = rows.num_rows();
                if !error.is_output_too_large() || n_rows < 2 {
                    return Err(passed(error));
                }
                self.call_chunk(opened, &rows.slice(0, n_rows / 2), scope, values)?;
                self.call_chunk(opened, &rows.slice(n_rows / 2, n_rows - n_rows / 2), scope, values)
            }
        }
    }

    fn open_again(&self, opened: &Opened) -> std::result::Result<Box<dyn Transform>, OpenError> {
        let shared = &self.shared;
        let instance = shared.operator.open_transform(&shared.info, &opened.input)?;
        if *instance.plan() == opened.plan {
            return Ok(instance);
        }
        Err(shared.plan_changed())
    }

    /// The values at the places of their rows; null for a row that was rejected.
    fn in_place(&self, n_rows: usize, output: TransformOutput) -> Result<ArrayRef> {
        let shared = &self.shared;
        if let Some(first) = output.rejected.first() {
            shared.meter.rows_rejected.add(output.rejected.len() as u64);
            tracing::warn!(
                target: "tidemill::step",
                job = shared.info.job, step = shared.info.step, function = shared.name,
                rows_rejected = output.rejected.len(), first_reason = first.reason,
                "a function rejected rows: its value is null there"
            );
        }
        let value = output.rows.column(0);
        let mut is_rejected = vec![false; n_rows];
        output.rejected.iter().for_each(|rejected| is_rejected[rejected.row as usize] = true);
        let origin = match output.origin {
            None if value.len() == n_rows => return Ok(value.clone()),
            // What does not say where its rows come from gives them in the input's order.
            None => (0..n_rows as u32).filter(|&row| !is_rejected[row as usize]).collect(),
            Some(origin) => origin,
        };
        if origin.len() != value.len() {
            return Err(self.not_one_for_one("gives more or fewer rows than it gets"));
        }
        let mut places: Vec<Option<u32>> = vec![None; n_rows];
        for (from, &row) in (0..).zip(&origin) {
            if places[row as usize].replace(from).is_some() {
                return Err(self.not_one_for_one("gives several rows for one row"));
            }
        }
        if places.iter().zip(&is_rejected).any(|(place, is_rejected)| place.is_none() && !is_rejected) {
            return Err(self.not_one_for_one("gives no row for some rows"));
        }
        Ok(take(value, &UInt32Array::from(places), None)?)
    }

    fn not_one_for_one(&self, what: &str) -> DataFusionError {
        let Shared { name, operator, .. } = &*self.shared;
        passed(NotOneForOne { function: name.clone(), operator: operator.name().to_owned(), what: what.to_owned() })
    }
}

impl ScalarUDFImpl for ScalarFunction {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(self.opened(types.to_vec())?.result.data_type().clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types = arguments.arg_fields.iter().map(|field| field.data_type().clone());
        Ok(self.opened(types.collect())?.result.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scope = Scope::current()
            .ok_or_else(|| internal_datafusion_err!("`{}` is called outside of a task", self.shared.name))?;
        let n_rows = arguments.number_rows;
        let types = arguments.arg_fields.iter().map(|field| field.data_type().clone());
        let opened = self.opened(types.collect())?;
        let columns = arguments.args.into_iter().zip(opened.input.fields()).map(|(argument, field)| {
            let column = argument.into_array(n_rows)?;
            Ok(plain_array(&column, field.data_type())?.into_owned())
        });
        let rows = batch_of(opened.input.clone(), columns.collect::<Result<_>>()?, n_rows)?;
        Ok(ColumnarValue::Array(self.call(&opened, rows, &scope)?))
    }
}
