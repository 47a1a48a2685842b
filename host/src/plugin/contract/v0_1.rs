//! Contract 0.1: its types in Rust, generated from `wit/v0.1`, and their translation. It is the newest.
//!
//! What goes in is borrowed down to the buffers, so that lowering is one copy of each into the guest's memory. What comes
//! out is owned: a borrowed list in a result would point into memory that the guest has already freed.

use ::arrow::datatypes::TimeUnit;
use wasmtime::component::{HasSelf, Instance, Linker};

use self::generated::exports::tidemill::operator as exports;
use self::generated::tidemill::operator::{arrow, diagnostics, types};
use super::{
    AggregatorExport, Answer, Failure, GrouperExport, LoweredUpdate, RawAggregatorPlan, RawBatch, RawGrouperOutput,
    RawGrouperPlan, RawOutput, RawTransformPlan, RawUpdaterOutput, RawUpdaterPlan, ReducerExport, Refusal,
    TransformExport, UpdaterExport,
};
use crate::operator::layout::{FlatField, FlatType, Lowered, Node};
use crate::operator::{self, Calling, Carried, Rejection, StepInfo, Timeouts};
use crate::plugin::guest::{Guest, GuestStore};
use crate::plugin::guest_log::Level;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::missing_errors_doc)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        inline: "
            package tidemill:host;

            world every-role {
                import tidemill:operator/diagnostics@0.1.0;
                export tidemill:operator/transform@0.1.0;
                export tidemill:operator/reducer@0.1.0;
                export tidemill:operator/aggregator@0.1.0;
                export tidemill:operator/grouper@0.1.0;
                export tidemill:operator/updater@0.1.0;
            }
        ",
        world: "tidemill:host/every-role",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}

/// Its text, file by file.
pub(super) const TEXT: [(&str, &str); 9] = [
    ("aggregator.wit", include_str!("../../../../wit/v0.1/aggregator.wit")),
    ("arrow.wit", include_str!("../../../../wit/v0.1/arrow.wit")),
    ("diagnostics.wit", include_str!("../../../../wit/v0.1/diagnostics.wit")),
    ("grouper.wit", include_str!("../../../../wit/v0.1/grouper.wit")),
    ("reducer.wit", include_str!("../../../../wit/v0.1/reducer.wit")),
    ("transform.wit", include_str!("../../../../wit/v0.1/transform.wit")),
    ("types.wit", include_str!("../../../../wit/v0.1/types.wit")),
    ("updater.wit", include_str!("../../../../wit/v0.1/updater.wit")),
    ("worlds.wit", include_str!("../../../../wit/v0.1/worlds.wit")),
];

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    arrow::add_to_linker::<Guest, HasSelf<Guest>>(linker, Guest::asked)?;
    types::add_to_linker::<Guest, HasSelf<Guest>>(linker, Guest::asked)?;
    diagnostics::add_to_linker::<Guest, HasSelf<Guest>>(linker, Guest::asked)
}

impl arrow::Host for Guest {}

impl types::Host for Guest {}

impl diagnostics::Host for Guest {
    fn log(&mut self, level: diagnostics::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            diagnostics::Level::Debug => Level::Debug,
            diagnostics::Level::Info => Level::Info,
            diagnostics::Level::Warn => Level::Warn,
            diagnostics::Level::Error => Level::Error,
        };
        Ok(self.log.lock().write_message(level, &message)?)
    }

    fn count(&mut self, name: String, add: u64) -> wasmtime::Result<()> {
        self.metrics.count(&name, add);
        Ok(())
    }

    fn gauge(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.metrics.gauge(&name, value);
        Ok(())
    }
}

pub(super) fn transform(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<exports::transform::Guest> {
    let indices = exports::transform::GuestIndices::new(&instance.instance_pre(&*store))?;
    indices.load(store, instance)
}

pub(super) fn reducer(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<exports::reducer::Guest> {
    let indices = exports::reducer::GuestIndices::new(&instance.instance_pre(&*store))?;
    indices.load(store, instance)
}

pub(super) fn aggregator(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<exports::aggregator::Guest> {
    let indices = exports::aggregator::GuestIndices::new(&instance.instance_pre(&*store))?;
    indices.load(store, instance)
}

pub(super) fn grouper(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<exports::grouper::Guest> {
    let indices = exports::grouper::GuestIndices::new(&instance.instance_pre(&*store))?;
    indices.load(store, instance)
}

pub(super) fn updater(store: &mut GuestStore, instance: &Instance) -> wasmtime::Result<exports::updater::Guest> {
    let indices = exports::updater::GuestIndices::new(&instance.instance_pre(&*store))?;
    indices.load(store, instance)
}

impl TransformExport for exports::transform::Guest {
    fn open(&self, store: &mut GuestStore, step: &StepInfo, input: &[FlatField]) -> Answer<RawTransformPlan, Refusal> {
        let config = step.config.to_string();
        let answer = self.call_open(store, lower_step(step, &config), &lower_schema(input))?;
        Ok(answer.map_err(Refusal::from).map(|plan| RawTransformPlan {
            reads: plan.reads,
            writes: lift_schema(plan.writes),
            carries: match plan.carries {
                exports::transform::Carried::Nothing => Carried::Nothing,
                exports::transform::Carried::Everything => Carried::Everything,
                exports::transform::Carried::Only(names) => Carried::Only(names),
            },
        }))
    }

    fn process(
        &self,
        store: &mut GuestStore,
        call: &operator::Call,
        input: &Lowered<'_>,
    ) -> Answer<RawOutput, Failure> {
        let input = Borrowed::of(input);
        let answer = self.call_process(store, call.into(), input.batch())?;
        Ok(answer.map_err(Failure::from).map(|output| RawOutput {
            rows: output.rows.into(),
            origin: output.origin,
            rejected: lift_rejected(output.rejected),
        }))
    }
}

impl ReducerExport for exports::reducer::Guest {
    fn open(&self, store: &mut GuestStore, step: &StepInfo, values: &[FlatField]) -> Answer<bool, Refusal> {
        let config = step.config.to_string();
        let answer = self.call_open(store, lower_step(step, &config), &lower_schema(values))?;
        Ok(answer.map(|plan| plan.invertible).map_err(Refusal::from))
    }

    fn reduce(
        &self,
        store: &mut GuestStore,
        call: &operator::Call,
        values: &Lowered<'_>,
        ends: &[u32],
    ) -> Answer<RawBatch, Failure> {
        lift(self.call_reduce(store, call.into(), Borrowed::of(values).batch(), ends))
    }

    fn invert(
        &self,
        store: &mut GuestStore,
        call: &operator::Call,
        whole: &Lowered<'_>,
        part: &Lowered<'_>,
    ) -> Answer<RawBatch, Failure> {
        lift(self.call_invert(store, call.into(), Borrowed::of(whole).batch(), Borrowed::of(part).batch()))
    }
}

impl AggregatorExport for exports::aggregator::Guest {
    fn open(
        &self,
        store: &mut GuestStore,
        step: &StepInfo,
        values: &[FlatField],
    ) -> Answer<RawAggregatorPlan, Refusal> {
        let config = step.config.to_string();
        let answer = self.call_open(store, lower_step(step, &config), &lower_schema(values))?;
        Ok(answer.map_err(Refusal::from).map(|plan| RawAggregatorPlan {
            reads: plan.reads,
            accumulator: lift_schema(plan.accumulator),
            result: lift_schema(plan.result),
        }))
    }

    fn accumulate(
        &self,
        store: &mut GuestStore,
        call: &operator::Call,
        values: &Lowered<'_>,
        ends: &[u32],
    ) -> Answer<RawBatch, Failure> {
        lift(self.call_accumulate(store, call.into(), Borrowed::of(values).batch(), ends))
    }

    fn merge(
        &self,
        store: &mut GuestStore,
        call: &operator::Call,
        accumulators: &Lowered<'_>,
        ends: &[u32],
    ) -> Answer<RawBatch, Failure> {
        lift(self.call_merge(store, call.into(), Borrowed::of(accumulators).batch(), ends))
    }

    fn finish(
        &self,
        store: &mut GuestStore,
        call: &operator::Call,
        accumulators: &Lowered<'_>,
    ) -> Answer<RawBatch, Failure> {
        lift(self.call_finish(store, call.into(), Borrowed::of(accumulators).batch()))
    }
}

impl GrouperExport for exports::grouper::Guest {
    fn open(
        &self,
        store: &mut GuestStore,
        step: &StepInfo,
        keys: &[FlatField],
        inputs: &[Vec<FlatField>],
    ) -> Answer<RawGrouperPlan, Refusal> {
        let config = step.config.to_string();
        let inputs: Vec<_> = inputs.iter().map(|input| lower_schema(input)).collect();
        let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
        let answer = self.call_open(store, lower_step(step, &config), &lower_schema(keys), &inputs)?;
        let plan = answer.map_err(Refusal::from);
        Ok(plan.map(|plan| RawGrouperPlan { reads: plan.reads, writes: lift_schema(plan.writes) }))
    }

    fn process(
        &self,
        store: &mut GuestStore,
        call: &operator::Call,
        keys: &Lowered<'_>,
        inputs: &[(Lowered<'_>, &[u32])],
    ) -> Answer<RawGrouperOutput, Failure> {
        let inputs: Vec<_> = inputs.iter().map(|(rows, ends)| (Borrowed::of(rows), *ends)).collect();
        let inputs: Vec<_> =
            inputs.iter().map(|(rows, ends)| exports::grouper::Grouped { rows: rows.batch(), ends }).collect();
        let answer = self.call_process(store, call.into(), Borrowed::of(keys).batch(), &inputs)?;
        Ok(answer.map_err(Failure::from).map(|output| RawGrouperOutput {
            rows: output.rows.into(),
            group: output.group,
            rejected: output.rejected.into_iter().map(lift_rejected).collect(),
        }))
    }
}

impl UpdaterExport for exports::updater::Guest {
    fn open(
        &self,
        store: &mut GuestStore,
        step: &StepInfo,
        keys: &[FlatField],
        values: &[FlatField],
    ) -> Answer<RawUpdaterPlan, Refusal> {
        let config = step.config.to_string();
        let answer = self.call_open(store, lower_step(step, &config), &lower_schema(keys), &lower_schema(values))?;
        Ok(answer.map_err(Refusal::from).map(|plan| RawUpdaterPlan {
            reads: plan.reads,
            state: lift_schema(plan.state),
            writes: lift_schema(plan.writes),
            calling: match plan.calling {
                exports::updater::Calling::KeysWithValues => Calling::KeysWithValues,
                exports::updater::Calling::EveryKey => Calling::EveryKey,
            },
            timeouts: match plan.timeouts {
                exports::updater::Timeouts::Never => Timeouts::Never,
                exports::updater::Timeouts::BatchTime => Timeouts::BatchTime,
                exports::updater::Timeouts::EventTime => Timeouts::EventTime,
            },
        }))
    }

    fn update(
        &self,
        store: &mut GuestStore,
        call: &operator::Call,
        input: &LoweredUpdate<'_>,
    ) -> Answer<RawUpdaterOutput, Failure> {
        let (keys, values, state) =
            (Borrowed::of(&input.keys), Borrowed::of(&input.values), Borrowed::of(&input.state));
        let input = exports::updater::Input {
            keys: keys.batch(),
            values: values.batch(),
            ends: input.ends,
            state: state.batch(),
            has_state: &input.has_state,
            timed_out: &input.timed_out,
        };
        let answer = self.call_update(store, call.into(), input)?;
        Ok(answer.map_err(Failure::from).map(|output| RawUpdaterOutput {
            changes: output.changes,
            state: output.state.into(),
            timeouts_us: output.timeouts_us,
            rows: output.rows.into(),
            group: output.group,
            rejected: lift_rejected(output.rejected),
        }))
    }
}

/// A lowered batch with its lists in the shape that the bindings borrow.
struct Borrowed<'a> {
    rows: u32,
    nodes: Vec<arrow::Node>,
    buffers: Vec<&'a [u8]>,
}

impl<'a> Borrowed<'a> {
    fn of(lowered: &'a Lowered<'_>) -> Self {
        Self {
            rows: lowered.rows,
            nodes: lowered
                .nodes
                .iter()
                .map(|&Node { length, null_count }| arrow::Node { length, null_count })
                .collect(),
            buffers: lowered.buffers.iter().map(|buffer| &**buffer).collect(),
        }
    }

    fn batch(&self) -> arrow::BatchParam<'_> {
        arrow::BatchParam { rows: self.rows, nodes: &self.nodes, buffers: &self.buffers }
    }
}

fn lift(answer: Answer<arrow::BatchResult, types::Failure>) -> Answer<RawBatch, Failure> {
    Ok(answer?.map(RawBatch::from).map_err(Failure::from))
}

fn lift_rejected(rejected: Vec<types::Rejection>) -> Vec<Rejection> {
    rejected.into_iter().map(|types::Rejection { row, reason }| Rejection { row, reason }).collect()
}

impl From<arrow::BatchResult> for RawBatch {
    fn from(batch: arrow::BatchResult) -> Self {
        let nodes = batch.nodes.into_iter().map(|arrow::Node { length, null_count }| Node { length, null_count });
        RawBatch { rows: batch.rows, nodes: nodes.collect(), buffers: batch.buffers }
    }
}

impl From<types::Refusal> for Refusal {
    fn from(refusal: types::Refusal) -> Self {
        match refusal {
            types::Refusal::Config(reason) => Refusal::Config(reason),
            types::Refusal::Schema(reason) => Refusal::Schema(reason),
            types::Refusal::Other(reason) => Refusal::Other(reason),
        }
    }
}

impl From<types::Failure> for Failure {
    fn from(failure: types::Failure) -> Self {
        match failure {
            types::Failure::Retry(reason) => Failure::Retry(reason),
            types::Failure::Fatal(reason) | types::Failure::Other(reason) => Failure::Fatal(reason),
        }
    }
}

impl From<&operator::Call> for types::Call {
    fn from(call: &operator::Call) -> Self {
        types::Call {
            batch_id: call.batch_id.0,
            batch_time_us: call.batch_time_us,
            partition: call.partition.0,
            attempt: call.attempt,
            first_row: call.first_row,
            watermark_us: call.watermark_us,
        }
    }
}

fn lower_step<'a>(step: &'a StepInfo, config: &'a str) -> types::Step<'a> {
    types::Step { job: &step.job, step: &step.step, partitions: step.partitions, config }
}

fn lower_schema(fields: &[FlatField]) -> Vec<arrow::FieldParam<'_>> {
    fields
        .iter()
        .map(|field| arrow::FieldParam {
            name: &field.name,
            data_type: lower_type(&field.data_type),
            nullable: field.nullable,
            children: field.children,
        })
        .collect()
}

fn lift_schema(fields: Vec<arrow::FieldResult>) -> Vec<FlatField> {
    fields
        .into_iter()
        .map(|field| FlatField {
            name: field.name,
            data_type: lift_type(field.data_type),
            nullable: field.nullable,
            children: field.children,
        })
        .collect()
}

fn lower_type(data_type: &FlatType) -> arrow::DataTypeParam<'_> {
    use arrow::DataTypeParam as Contract;
    match data_type {
        FlatType::Null => Contract::Null,
        FlatType::Boolean => Contract::Boolean,
        FlatType::Int8 => Contract::Int8,
        FlatType::Int16 => Contract::Int16,
        FlatType::Int32 => Contract::Int32,
        FlatType::Int64 => Contract::Int64,
        FlatType::UInt8 => Contract::Uint8,
        FlatType::UInt16 => Contract::Uint16,
        FlatType::UInt32 => Contract::Uint32,
        FlatType::UInt64 => Contract::Uint64,
        FlatType::Float32 => Contract::Float32,
        FlatType::Float64 => Contract::Float64,
        FlatType::Utf8 => Contract::Utf8,
        FlatType::Binary => Contract::Binary,
        FlatType::FixedSizeBinary(width) => Contract::FixedSizeBinary(*width),
        FlatType::Date32 => Contract::Date32,
        FlatType::Timestamp(unit, zone) => Contract::Timestamp((lower_unit(*unit), zone.as_deref())),
        FlatType::Duration(unit) => Contract::Duration(lower_unit(*unit)),
        FlatType::Decimal128(precision, scale) => Contract::Decimal128((*precision, *scale)),
        FlatType::List => Contract::List,
        FlatType::Struct => Contract::Struct,
        FlatType::Map => Contract::Map,
    }
}

fn lift_type(data_type: arrow::DataTypeResult) -> FlatType {
    use arrow::DataTypeResult as Contract;
    match data_type {
        Contract::Null => FlatType::Null,
        Contract::Boolean => FlatType::Boolean,
        Contract::Int8 => FlatType::Int8,
        Contract::Int16 => FlatType::Int16,
        Contract::Int32 => FlatType::Int32,
        Contract::Int64 => FlatType::Int64,
        Contract::Uint8 => FlatType::UInt8,
        Contract::Uint16 => FlatType::UInt16,
        Contract::Uint32 => FlatType::UInt32,
        Contract::Uint64 => FlatType::UInt64,
        Contract::Float32 => FlatType::Float32,
        Contract::Float64 => FlatType::Float64,
        Contract::Utf8 => FlatType::Utf8,
        Contract::Binary => FlatType::Binary,
        Contract::FixedSizeBinary(width) => FlatType::FixedSizeBinary(width),
        Contract::Date32 => FlatType::Date32,
        Contract::Timestamp((unit, zone)) => FlatType::Timestamp(lift_unit(unit), zone),
        Contract::Duration(unit) => FlatType::Duration(lift_unit(unit)),
        Contract::Decimal128((precision, scale)) => FlatType::Decimal128(precision, scale),
        Contract::List => FlatType::List,
        Contract::Struct => FlatType::Struct,
        Contract::Map => FlatType::Map,
    }
}

fn lower_unit(unit: TimeUnit) -> arrow::TimeUnit {
    match unit {
        TimeUnit::Second => arrow::TimeUnit::Second,
        TimeUnit::Millisecond => arrow::TimeUnit::Millisecond,
        TimeUnit::Microsecond => arrow::TimeUnit::Microsecond,
        TimeUnit::Nanosecond => arrow::TimeUnit::Nanosecond,
    }
}

fn lift_unit(unit: arrow::TimeUnit) -> TimeUnit {
    match unit {
        arrow::TimeUnit::Second => TimeUnit::Second,
        arrow::TimeUnit::Millisecond => TimeUnit::Millisecond,
        arrow::TimeUnit::Microsecond => TimeUnit::Microsecond,
        arrow::TimeUnit::Nanosecond => TimeUnit::Nanosecond,
    }
}
