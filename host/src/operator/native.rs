//! Operators compiled into the program: the functions of the Rust SDK, run on Arrow's own buffers.
//!
//! They get what a plugin gets, except that nothing is copied on the way in, and what they return is checked as a
//! plugin's answer is. They are trusted with time and memory: only the limits on output hold.

mod grouped;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_guest as guest;

use self::grouped::{NativeGrouper, NativeUpdater};
use crate::error::Retry;
use crate::operator::layout::{self, FlatField, FlatType};
use crate::operator::{
    Aggregator, AggregatorPlan, Call, CallError, CallSite, Carried, Grouper, GrouperPlan, Limit, OpenError, Operator,
    Reducer, ReducerPlan, Rejection, Role, StepInfo, Transform, TransformOutput, TransformPlan, Updater, UpdaterPlan,
    columns_of, key_rule,
};

/// An operator of the Rust SDK as one of the host's: `my_plugin::my_function::operator().into()`.
#[derive(Debug, Clone)]
pub struct NativeOperator {
    name: String,
    operator: guest::native::Operator,
}

impl NativeOperator {
    /// The operator under another name than its function's.
    #[must_use]
    pub fn named(name: impl Into<String>, operator: guest::native::Operator) -> Self {
        Self { name: name.into(), operator }
    }

    fn missing(&self, step: &StepInfo, role: Role) -> OpenError {
        OpenError::MissingRole { operator: self.name.clone(), step: step.step.clone(), role, has: self.roles() }
    }

    fn instance<T: ?Sized>(&self, step: &StepInfo, operator: Box<T>) -> Instance<T> {
        Instance { name: self.name.clone(), step: step.clone(), operator: Some(operator) }
    }

    /// Opens the operator with these schemas, and turns its refusal, or its panic, into an error.
    fn open<P>(
        &self,
        step: &StepInfo,
        inputs: &[&SchemaRef],
        open: impl FnOnce(&guest::Step, &[guest::Schema]) -> Result<P, guest::Refusal>,
    ) -> Result<(P, Vec<guest::Schema>), OpenError> {
        let schemas = inputs.iter().map(|input| to_guest_schema(step, input)).collect::<Result<Vec<_>, _>>()?;
        let guest_step = guest::Step {
            job: step.job.clone(),
            step: step.step.clone(),
            partitions: step.partitions,
            config: step.config.to_string(),
        };
        let (operator, step) = (self.name.clone(), step.step.clone());
        // Unwind safe: after a panic nothing of what it was called with is used.
        match catch_unwind(AssertUnwindSafe(|| open(&guest_step, &schemas))) {
            Ok(Ok(opened)) => Ok((opened, schemas)),
            Ok(Err(guest::Refusal::Config(reason))) => Err(OpenError::Config { operator, step, reason }),
            Ok(Err(guest::Refusal::Schema(reason))) => {
                let input = columns_of(&schemas.iter().map(guest::Schema::to_string).collect::<Vec<_>>());
                Err(OpenError::Schema { operator, step, reason, input })
            }
            Ok(Err(guest::Refusal::Other(reason))) => Err(OpenError::Refused { operator, step, reason }),
            Err(panic) => Err(OpenError::Trapped { operator, step, reason: panic_text(&*panic) }),
        }
    }

    fn invalid(&self, step: &StepInfo, rule: String) -> OpenError {
        OpenError::Invalid { operator: self.name.clone(), step: step.step.clone(), rule }
    }

    /// Opens the operator with the schema of its one input.
    fn open_one<P>(
        &self,
        step: &StepInfo,
        input: &SchemaRef,
        open: fn(&guest::Step, &guest::Schema) -> Result<P, guest::Refusal>,
    ) -> Result<(P, guest::Schema), OpenError> {
        let (opened, mut schemas) = self.open(step, &[input], |step, schemas| open(step, &schemas[0]))?;
        Ok((opened, schemas.swap_remove(0)))
    }

    /// The schema that a grouper or an updater writes, beside the keys.
    fn written(&self, step: &StepInfo, writes: &guest::Schema, keys: &SchemaRef) -> Result<SchemaRef, OpenError> {
        let writes = from_guest_schema(writes).map_err(|rule| self.invalid(step, rule))?;
        key_rule(&writes, keys).map_err(|rule| self.invalid(step, rule))?;
        Ok(writes)
    }
}

impl From<guest::native::Operator> for NativeOperator {
    fn from(operator: guest::native::Operator) -> Self {
        Self::named(operator.name(), operator)
    }
}

impl Operator for NativeOperator {
    fn name(&self) -> &str {
        &self.name
    }

    fn roles(&self) -> Vec<Role> {
        let has = |role: &Role| match role {
            Role::Transform => self.operator.as_transform().is_some(),
            Role::Reducer => self.operator.as_reducer().is_some(),
            Role::Aggregator => self.operator.as_aggregator().is_some(),
            Role::Grouper => self.operator.as_grouper().is_some(),
            Role::Updater => self.operator.as_updater().is_some(),
        };
        Role::ALL.into_iter().filter(has).collect()
    }

    fn open_transform(&self, step: &StepInfo, input: &SchemaRef) -> Result<Box<dyn Transform>, OpenError> {
        let open = self.operator.as_transform().ok_or_else(|| self.missing(step, Role::Transform))?;
        let ((plan, operator), schema) = self.open_one(step, input, open)?;
        let (reads, read_schema) = select(plan.reads.as_deref(), schema).map_err(|rule| self.invalid(step, rule))?;
        let writes = from_guest_schema(&plan.writes).map_err(|rule| self.invalid(step, rule))?;
        let carries = match plan.carries {
            guest::Carried::Nothing => Carried::Nothing,
            guest::Carried::Everything => Carried::Everything,
            guest::Carried::Only(names) => {
                for (i, name) in names.iter().enumerate() {
                    if input.index_of(name).is_err() || names[..i].contains(name) {
                        let rule = format!("`carries` names the column `{name}`, which is missing or named before");
                        return Err(self.invalid(step, rule));
                    }
                }
                Carried::Only(names)
            }
        };
        let plan = TransformPlan { reads, writes, carries };
        Ok(Box::new(NativeTransform { instance: self.instance(step, operator), plan, reads: read_schema }))
    }

    fn open_reducer(&self, step: &StepInfo, values: &SchemaRef) -> Result<Box<dyn Reducer>, OpenError> {
        let open = self.operator.as_reducer().ok_or_else(|| self.missing(step, Role::Reducer))?;
        let ((invertible, operator), schema) = self.open_one(step, values, open)?;
        Ok(Box::new(NativeReducer {
            instance: self.instance(step, operator),
            plan: ReducerPlan { invertible },
            schema,
            values: layout::contract_schema(values),
        }))
    }

    fn open_aggregator(&self, step: &StepInfo, values: &SchemaRef) -> Result<Box<dyn Aggregator>, OpenError> {
        let open = self.operator.as_aggregator().ok_or_else(|| self.missing(step, Role::Aggregator))?;
        let ((plan, operator), schema) = self.open_one(step, values, open)?;
        let (reads, read_schema) = select(plan.reads.as_deref(), schema).map_err(|rule| self.invalid(step, rule))?;
        let accumulator = from_guest_schema(&plan.accumulator).map_err(|rule| self.invalid(step, rule))?;
        let result = from_guest_schema(&plan.result).map_err(|rule| self.invalid(step, rule))?;
        Ok(Box::new(NativeAggregator {
            instance: self.instance(step, operator),
            plan: AggregatorPlan { reads, accumulator, result },
            reads: read_schema,
            accumulator: plan.accumulator,
        }))
    }

    fn open_grouper(
        &self,
        step: &StepInfo,
        keys: &SchemaRef,
        inputs: &[SchemaRef],
    ) -> Result<Box<dyn Grouper>, OpenError> {
        let open = self.operator.as_grouper().ok_or_else(|| self.missing(step, Role::Grouper))?;
        let schemas: Vec<_> = std::iter::once(keys).chain(inputs).collect();
        let ((plan, operator), mut schemas) =
            self.open(step, &schemas, |step, schemas| open(step, &schemas[0], &schemas[1..]))?;
        let inputs = schemas.split_off(1);
        if plan.reads.len() != inputs.len() {
            let rule = format!("`reads` is for {} inputs, and there are {}", plan.reads.len(), inputs.len());
            return Err(self.invalid(step, rule));
        }
        let read = inputs.into_iter().zip(&plan.reads).map(|(input, reads)| select(reads.as_deref(), input));
        let read = read.collect::<Result<Vec<_>, _>>().map_err(|rule| self.invalid(step, rule))?;
        let (reads, read_schemas) = read.into_iter().unzip();
        let writes = self.written(step, &plan.writes, keys)?;
        Ok(Box::new(NativeGrouper {
            instance: self.instance(step, operator),
            plan: GrouperPlan { reads, writes },
            keys: schemas.swap_remove(0),
            reads: read_schemas,
        }))
    }

    fn open_updater(
        &self,
        step: &StepInfo,
        keys: &SchemaRef,
        values: &SchemaRef,
    ) -> Result<Box<dyn Updater>, OpenError> {
        let open = self.operator.as_updater().ok_or_else(|| self.missing(step, Role::Updater))?;
        let ((plan, operator), mut schemas) =
            self.open(step, &[keys, values], |step, schemas| open(step, &schemas[0], &schemas[1]))?;
        let (reads, read_schema) =
            select(plan.reads.as_deref(), schemas.swap_remove(1)).map_err(|rule| self.invalid(step, rule))?;
        let state = from_guest_schema(&plan.state).map_err(|rule| self.invalid(step, rule))?;
        let writes = self.written(step, &plan.writes, keys)?;
        let (calling, timeouts) = (grouped::calling(plan.calling), grouped::timeouts(plan.timeouts));
        Ok(Box::new(NativeUpdater {
            instance: self.instance(step, operator),
            plan: UpdaterPlan { reads, state, writes, calling, timeouts },
            keys: schemas.swap_remove(0),
            reads: read_schema,
            state: plan.state,
        }))
    }
}

/// What an error needs to know, and the operator until it has failed.
struct Instance<T: ?Sized> {
    name: String,
    step: StepInfo,
    operator: Option<Box<T>>,
}

impl<T: ?Sized> Instance<T> {
    fn site(&self, call: &Call, n_rows: usize) -> Box<CallSite> {
        Box::new(CallSite {
            operator: self.name.clone(),
            step: self.step.step.clone(),
            batch_id: call.batch_id,
            partition: call.partition,
            n_rows,
        })
    }

    /// Calls the operator. After an error it is spent.
    fn call<R>(
        &mut self,
        call: &Call,
        n_rows: usize,
        run: impl FnOnce(&mut T, &guest::Call) -> Result<R, guest::Failure>,
    ) -> Result<R, CallError> {
        let site = self.site(call, n_rows);
        let Some(mut operator) = self.operator.take() else {
            let reason = "it failed in an earlier call, and was not opened again".into();
            return Err(CallError::Failed { site, reason, retry: Retry::Never });
        };
        let guest_call = guest::Call {
            batch_id: call.batch_id.0,
            batch_time_us: call.batch_time_us,
            partition: call.partition.0,
            attempt: call.attempt,
            first_row: call.first_row,
            watermark_us: call.watermark_us,
        };
        // Unwind safe: after a panic the operator is dropped, and nothing else was borrowed mutably.
        match catch_unwind(AssertUnwindSafe(|| run(&mut operator, &guest_call))) {
            Ok(Ok(answer)) => {
                self.operator = Some(operator);
                Ok(answer)
            }
            Ok(Err(guest::Failure::Retry(reason))) => {
                Err(CallError::Failed { site, reason, retry: Retry::WithBackoff })
            }
            Ok(Err(guest::Failure::Fatal(reason) | guest::Failure::Other(reason))) => {
                Err(CallError::Failed { site, reason, retry: Retry::Never })
            }
            Err(panic) => Err(CallError::Trapped { site, reason: panic_text(&*panic) }),
        }
    }

    /// Checks what came back, and makes arrays of it.
    fn lift(
        &mut self,
        call: &Call,
        n_rows: usize,
        schema: &SchemaRef,
        answer: guest::OwnedBatch,
        n_expected: Option<usize>,
    ) -> Result<RecordBatch, CallError> {
        let limits = &self.step.limits;
        let n_bytes: u64 = answer.buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let exceeded = if u64::from(answer.rows) > limits.output_rows {
            Some((Limit::OutputRows, limits.output_rows, u64::from(answer.rows)))
        } else if n_bytes > limits.output_bytes {
            Some((Limit::OutputBytes, limits.output_bytes, n_bytes))
        } else {
            None
        };
        if let Some((limit, value, seen)) = exceeded {
            let seen = format!("the limit is {value}, the operator returned {seen}");
            return Err(CallError::LimitExceeded { site: self.site(call, n_rows), limit, seen });
        }
        let lifted = match n_expected {
            Some(expected) if answer.rows as usize != expected => {
                Err(format!("it has {} rows, {expected} are expected", answer.rows))
            }
            _ => {
                let nodes: Vec<_> = answer
                    .nodes
                    .iter()
                    .map(|node| layout::Node { length: node.length, null_count: node.null_count })
                    .collect();
                layout::lift(schema, answer.rows, &nodes, answer.buffers)
            }
        };
        lifted.map_err(|rule| self.broken(call, n_rows, rule))
    }

    fn broken(&mut self, call: &Call, n_rows: usize, rule: String) -> CallError {
        self.operator = None;
        CallError::Invalid { site: self.site(call, n_rows), rule }
    }

    /// Calls `run` with `batch` as the SDK sees it: `schema` is that of the batch.
    fn call_with<R>(
        &mut self,
        call: &Call,
        schema: &guest::Schema,
        batch: &RecordBatch,
        run: impl FnOnce(&mut T, &guest::Call, guest::Batch<'_>) -> Result<R, guest::Failure>,
    ) -> Result<R, CallError> {
        let n_rows = batch.num_rows();
        let lowered = layout::lower(batch).map_err(|error| self.broken(call, n_rows, error.to_string()))?;
        assert_schema(schema, batch);
        let nodes: Vec<_> =
            lowered.nodes.iter().map(|node| guest::Node { length: node.length, null_count: node.null_count }).collect();
        let buffers: Vec<_> = lowered.buffers.iter().map(AsRef::as_ref).collect();
        // SAFETY: the nodes and buffers are lowered from arrow arrays, which are valid, of the types of `schema`.
        let input = unsafe { guest::Batch::new(schema, lowered.rows, &nodes, &buffers) };
        self.call(call, n_rows, |operator, call| run(operator, call, input))
    }
}

/// An operator reads without checking: a batch of another schema must not get to it.
fn assert_schema(schema: &guest::Schema, batch: &RecordBatch) {
    let same = layout::flatten(batch.schema_ref()).is_ok_and(|found| {
        let mut expected = Vec::with_capacity(found.len());
        schema.fields.iter().for_each(|field| push_flat(&mut expected, field));
        // Nullability is of no account: null counts are read, not assumed.
        found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, expected)| {
                same_layout(&found.data_type, &expected.data_type) && found.children == expected.children
            })
    });
    assert!(same, "the batch has the schema that the operator was opened with: {schema}");
}

/// Whether values of two types lie alike in memory: the zone of a time is of no account, and one without is UTC to the host.
fn same_layout(a: &FlatType, b: &FlatType) -> bool {
    match (a, b) {
        (FlatType::Timestamp(a, _), FlatType::Timestamp(b, _)) => a == b,
        (a, b) => a == b,
    }
}

struct NativeTransform {
    instance: Instance<dyn guest::Transform + Send>,
    plan: TransformPlan,
    reads: guest::Schema,
}

impl Transform for NativeTransform {
    fn plan(&self) -> &TransformPlan {
        &self.plan
    }

    fn process(&mut self, call: &Call, input: &RecordBatch) -> Result<TransformOutput, CallError> {
        let n_rows = input.num_rows();
        let output =
            self.instance.call_with(call, &self.reads, input, |operator, call, input| operator.process(call, input))?;
        let guest::Output { rows, origin, rejected } = output;
        let carries = match &self.plan.carries {
            Carried::Nothing => false,
            Carried::Everything => true,
            Carried::Only(names) => !names.is_empty(),
        };
        let rule = match &origin {
            Some(origin) if origin.len() != rows.rows as usize => {
                Some(format!("`origin` has {} numbers for {} rows of output", origin.len(), rows.rows))
            }
            Some(origin) if origin.iter().max().is_some_and(|largest| *largest as usize >= n_rows) => {
                Some(format!("`origin` names a row that the input, of {n_rows} rows, does not have"))
            }
            None if carries && rows.rows as usize != n_rows => {
                Some(format!("`origin` is missing: the plan carries columns, and {} rows came of {n_rows}", rows.rows))
            }
            _ => rejection_rule(&rejected, n_rows),
        };
        if let Some(rule) = rule {
            return Err(self.instance.broken(call, n_rows, rule));
        }
        let rows = self.instance.lift(call, n_rows, &self.plan.writes, rows, None)?;
        let rejected = rejected.into_iter().map(|guest::Rejection { row, reason }| Rejection { row, reason }).collect();
        Ok(TransformOutput { rows, origin, rejected })
    }
}

/// Which rule rejections break: each names a row of the input, once.
fn rejection_rule(rejected: &[guest::Rejection], n_rows: usize) -> Option<String> {
    if rejected.is_empty() {
        return None;
    }
    let mut seen = vec![false; n_rows];
    rejected.iter().find_map(|rejection| match seen.get_mut(rejection.row as usize) {
        None => Some(format!("`rejected` names row {}, and the input has {n_rows} rows", rejection.row)),
        Some(true) => Some(format!("`rejected` names row {} twice", rejection.row)),
        Some(seen) => {
            *seen = true;
            None
        }
    })
}

struct NativeReducer {
    instance: Instance<dyn guest::Reducer + Send>,
    plan: ReducerPlan,
    schema: guest::Schema,
    values: SchemaRef,
}

impl Reducer for NativeReducer {
    fn plan(&self) -> ReducerPlan {
        self.plan
    }

    fn reduce(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        let answer = self
            .instance
            .call_with(call, &self.schema, values, |operator, call, values| operator.reduce(call, values, ends))?;
        self.instance.lift(call, values.num_rows(), &self.values, answer, Some(ends.len()))
    }

    fn invert(&mut self, call: &Call, whole: &RecordBatch, part: &RecordBatch) -> Result<RecordBatch, CallError> {
        let n_rows = whole.num_rows();
        let lowered = layout::lower(part).map_err(|error| self.instance.broken(call, n_rows, error.to_string()))?;
        assert_schema(&self.schema, part);
        let nodes: Vec<_> =
            lowered.nodes.iter().map(|node| guest::Node { length: node.length, null_count: node.null_count }).collect();
        let buffers: Vec<_> = lowered.buffers.iter().map(AsRef::as_ref).collect();
        // SAFETY: the nodes and buffers are lowered from arrow arrays, which are valid, of the types of `schema`.
        let part = unsafe { guest::Batch::new(&self.schema, lowered.rows, &nodes, &buffers) };
        let answer = self
            .instance
            .call_with(call, &self.schema, whole, |operator, call, whole| operator.invert(call, whole, part))?;
        self.instance.lift(call, n_rows, &self.values, answer, Some(n_rows))
    }
}

struct NativeAggregator {
    instance: Instance<dyn guest::Aggregator + Send>,
    plan: AggregatorPlan,
    reads: guest::Schema,
    accumulator: guest::Schema,
}

impl Aggregator for NativeAggregator {
    fn plan(&self) -> &AggregatorPlan {
        &self.plan
    }

    fn accumulate(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        let answer = self
            .instance
            .call_with(call, &self.reads, values, |operator, call, values| operator.accumulate(call, values, ends))?;
        self.instance.lift(call, values.num_rows(), &self.plan.accumulator, answer, Some(ends.len()))
    }

    fn merge(&mut self, call: &Call, accumulators: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        let answer = self.instance.call_with(call, &self.accumulator, accumulators, |operator, call, rows| {
            operator.merge(call, rows, ends)
        })?;
        self.instance.lift(call, accumulators.num_rows(), &self.plan.accumulator, answer, Some(ends.len()))
    }

    fn finish(&mut self, call: &Call, accumulators: &RecordBatch) -> Result<RecordBatch, CallError> {
        let n_rows = accumulators.num_rows();
        let answer = self
            .instance
            .call_with(call, &self.accumulator, accumulators, |operator, call, rows| operator.finish(call, rows))?;
        self.instance.lift(call, n_rows, &self.plan.result, answer, Some(n_rows))
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a message"))
}

/// The columns of `schema` that a plan reads, and their indices.
fn select(reads: Option<&[String]>, schema: guest::Schema) -> Result<(Vec<usize>, guest::Schema), String> {
    let Some(names) = reads else { return Ok(((0..schema.fields.len()).collect(), schema)) };
    let mut indices = Vec::with_capacity(names.len());
    for name in names {
        let (index, _) =
            schema.find(name).ok_or_else(|| format!("`reads` names the column `{name}`, which is missing"))?;
        if indices.contains(&index) {
            return Err(format!("`reads` names the column `{name}` twice"));
        }
        indices.push(index);
    }
    let fields = indices.iter().map(|&index| schema.fields[index].clone()).collect();
    Ok((indices, guest::Schema::new(fields)))
}

fn to_guest_schema(step: &StepInfo, schema: &SchemaRef) -> Result<guest::Schema, OpenError> {
    let flat = layout::flatten(schema).map_err(|unsupported| OpenError::UnsupportedType {
        step: step.step.clone(),
        column: unsupported.column,
        data_type: unsupported.data_type,
    })?;
    fn take(rest: &mut std::vec::IntoIter<FlatField>) -> Option<guest::Field> {
        let flat = rest.next()?;
        let children = (0..flat.children).map_while(|_| take(rest)).collect();
        let data_type = to_guest_type(flat.data_type);
        Some(guest::Field { name: flat.name, data_type, nullable: flat.nullable, children })
    }
    let mut rest = flat.into_iter();
    Ok(guest::Schema::new(std::iter::from_fn(|| take(&mut rest)).collect()))
}

fn from_guest_schema(schema: &guest::Schema) -> Result<SchemaRef, String> {
    let mut flat = Vec::with_capacity(schema.fields.len());
    schema.fields.iter().for_each(|field| push_flat(&mut flat, field));
    layout::unflatten(&flat).map(Arc::new)
}

fn push_flat(flat: &mut Vec<FlatField>, field: &guest::Field) {
    flat.push(FlatField {
        name: field.name.clone(),
        data_type: from_guest_type(&field.data_type),
        nullable: field.nullable,
        // A schema with more than 2³² fields does not fit in memory.
        children: field.children.len() as u32,
    });
    field.children.iter().for_each(|child| push_flat(flat, child));
}

macro_rules! same_names {
    ($($name:ident),*) => {
        fn to_guest_type(data_type: FlatType) -> guest::DataType {
            match data_type {
                $(FlatType::$name => guest::DataType::$name,)*
                FlatType::FixedSizeBinary(width) => guest::DataType::FixedSizeBinary(width),
                FlatType::Timestamp(unit, zone) => guest::DataType::Timestamp(to_guest_unit(unit), zone),
                FlatType::Duration(unit) => guest::DataType::Duration(to_guest_unit(unit)),
                FlatType::Decimal128(precision, scale) => guest::DataType::Decimal128(precision, scale),
            }
        }

        fn from_guest_type(data_type: &guest::DataType) -> FlatType {
            match data_type {
                $(guest::DataType::$name => FlatType::$name,)*
                guest::DataType::FixedSizeBinary(width) => FlatType::FixedSizeBinary(*width),
                guest::DataType::Timestamp(unit, zone) => FlatType::Timestamp(from_guest_unit(*unit), zone.clone()),
                guest::DataType::Duration(unit) => FlatType::Duration(from_guest_unit(*unit)),
                guest::DataType::Decimal128(precision, scale) => FlatType::Decimal128(*precision, *scale),
            }
        }
    };
}

same_names!(
    Null, Boolean, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float32, Float64, Utf8, Binary, Date32,
    List, Struct, Map
);

fn to_guest_unit(unit: arrow::datatypes::TimeUnit) -> guest::TimeUnit {
    match unit {
        arrow::datatypes::TimeUnit::Second => guest::TimeUnit::Second,
        arrow::datatypes::TimeUnit::Millisecond => guest::TimeUnit::Millisecond,
        arrow::datatypes::TimeUnit::Microsecond => guest::TimeUnit::Microsecond,
        arrow::datatypes::TimeUnit::Nanosecond => guest::TimeUnit::Nanosecond,
    }
}

fn from_guest_unit(unit: guest::TimeUnit) -> arrow::datatypes::TimeUnit {
    match unit {
        guest::TimeUnit::Second => arrow::datatypes::TimeUnit::Second,
        guest::TimeUnit::Millisecond => arrow::datatypes::TimeUnit::Millisecond,
        guest::TimeUnit::Microsecond => arrow::datatypes::TimeUnit::Microsecond,
        guest::TimeUnit::Nanosecond => arrow::datatypes::TimeUnit::Nanosecond,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test fails by panicking")]

    use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::{Int32Type, Int64Type};
    use tidemill_guest::{Row, operator};

    use super::*;
    use crate::error::Explain;
    use crate::ids::{BatchId, PartitionId};
    use crate::operator::Limits;

    #[derive(Row)]
    struct Line<'a> {
        value: &'a str,
    }

    #[derive(Row)]
    struct Word<'a> {
        word: &'a str,
    }

    #[operator(carry = "all")]
    fn split(line: Line<'_>) -> Result<impl Iterator<Item = Word<'_>>, String> {
        match line.value {
            "bad" => Err("a bad line".into()),
            "bug" => panic!("a bug"),
            line => Ok(line.split_ascii_whitespace().map(|word| Word { word })),
        }
    }

    #[derive(Row)]
    struct Count {
        n: i64,
    }

    #[operator(reducer, invert = minus)]
    fn plus(a: Count, b: Count) -> Count {
        Count { n: a.n + b.n }
    }

    fn minus(whole: Count, part: Count) -> Count {
        Count { n: whole.n - part.n }
    }

    pub(super) fn step() -> StepInfo {
        let limits = Limits { output_rows: 5, ..Limits::default() };
        StepInfo {
            job: "job".into(),
            step: "words".into(),
            partitions: 1,
            config: serde_json::json!({}),
            limits,
            budget: Default::default(),
            stop: Default::default(),
        }
    }

    pub(super) fn call() -> Call {
        let (batch_id, partition) = (BatchId(7), PartitionId(3));
        Call { batch_id, batch_time_us: 0, partition, attempt: 0, first_row: 0, watermark_us: None }
    }

    pub(super) fn batch(name: &str, column: impl Array + 'static) -> RecordBatch {
        RecordBatch::try_from_iter([(name, Arc::new(column) as ArrayRef)]).unwrap()
    }

    fn run(input: &RecordBatch) -> Result<TransformOutput, CallError> {
        let mut transform = NativeOperator::from(split::operator()).open_transform(&step(), &input.schema()).unwrap();
        transform.process(&call(), input)
    }

    #[test]
    fn a_transform_gets_slices_and_dictionaries() {
        let lines = ["skipped", "to be", "bad", "or", "skipped"];
        let dictionary: DictionaryArray<Int32Type> = lines.into_iter().collect();
        for input in [batch("value", StringArray::from_iter_values(lines)), batch("value", dictionary)] {
            let output = run(&input.slice(1, 3)).unwrap();
            assert_eq!(output.rows, batch("word", StringArray::from_iter_values(["to", "be", "or"])));
            assert_eq!(output.origin, Some(vec![0, 0, 2]));
            assert_eq!(output.rejected, [Rejection { row: 1, reason: "a bad line".into() }]);
        }
    }

    #[test]
    fn failures_name_the_step_and_the_call() {
        let check = |line: &str, expected: &str| {
            let error = run(&batch("value", StringArray::from_iter_values([line]))).unwrap_err();
            assert_eq!(error.to_string(), expected);
            error
        };
        check("bug", "`split` in step `words`, batch 7, partition 3 crashed: it panicked: a bug");
        let seen = "exceeded its output rows per call: the limit is 5, the operator returned 6";
        let error = check("a b c d e f", &format!("`split` in step `words`, batch 7, partition 3 {seen}"));
        assert!(error.is_output_too_large());
    }

    #[test]
    fn an_instance_that_failed_is_spent() {
        let input = batch("value", StringArray::from_iter_values(["bug"]));
        let mut transform = NativeOperator::from(split::operator()).open_transform(&step(), &input.schema()).unwrap();
        assert!(matches!(transform.process(&call(), &input), Err(CallError::Trapped { .. })));
        assert!(matches!(transform.process(&call(), &input), Err(CallError::Failed { .. })));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let operator = NativeOperator::named("splitter", split::operator());
        let check = |operator: &NativeOperator, input: &RecordBatch, expected: &str| {
            let error = operator.open_transform(&step(), &input.schema()).err().unwrap();
            assert_eq!(error.to_string(), expected);
            error.hint()
        };
        let numbers = batch("value", Int64Array::from(vec![1]));
        let refused = "`splitter` refuses the input of step `words`: column `value` is int64, utf8 is expected";
        let hint = check(&operator, &numbers, refused);
        assert_eq!(hint.as_deref(), Some("The input has the columns `value`: int64."));
        let reducer = NativeOperator::from(plus::operator());
        check(&reducer, &numbers, "`plus`, in step `words`, has no role `transform`");
        assert_eq!(reducer.roles(), [Role::Reducer]);
    }

    #[test]
    fn a_reducer_reduces_and_inverts() {
        let values = batch("n", Int64Array::from(vec![1, 2, 3]));
        let mut reducer = NativeOperator::from(plus::operator()).open_reducer(&step(), &values.schema()).unwrap();
        assert!(reducer.plan().invertible);
        let sums = reducer.reduce(&call(), &values, &[2, 3]).unwrap();
        assert_eq!(sums.column(0).as_primitive::<Int64Type>().values(), &[3, 3]);
        let rest = reducer.invert(&call(), &sums, &values.slice(0, 2)).unwrap();
        assert_eq!(rest.column(0).as_primitive::<Int64Type>().values(), &[2, 1]);
    }

    #[test]
    fn times_of_an_operator_are_in_utc_and_given_back_to_it() {
        let unit = guest::TimeUnit::Microsecond;
        let data_type = guest::DataType::Timestamp(unit, None);
        let field = guest::Field { name: "at".into(), data_type, nullable: true, children: Vec::new() };
        let declared = guest::Schema::new(vec![field]);
        let schema = from_guest_schema(&declared).unwrap();
        assert_eq!(*schema.field(0).data_type(), crate::source::schema::timestamp());
        // As an accumulator or a state is.
        assert_schema(&declared, &RecordBatch::new_empty(schema));
    }
}
