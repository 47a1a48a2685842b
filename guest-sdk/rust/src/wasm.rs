//! The component: bindings to the contract, and each role of this crate as what they export.
//!
//! [`raw`] has the bindings alone, for an operator that wants to do everything itself.

use std::marker::PhantomData;

use crate::batch::{Batch, Node, OwnedBatch};
use crate::diagnostics::Level;
use crate::role;
use crate::schema::{DataType, Field, Schema, TimeUnit};

/// The contract's own types and functions, as wit-bindgen makes them.
#[expect(missing_docs, reason = "generated")]
pub mod raw {
    pub mod transform {
        wit_bindgen::generate!({
            world: "transform-plugin",
            path: "wit/v0.1",
            pub_export_macro: true,
            export_macro_name: "export_transform",
            default_bindings_module: "::tidemill_guest::wasm::raw::transform",
        });
    }
    pub mod reducer {
        wit_bindgen::generate!({
            world: "reducer-plugin",
            path: "wit/v0.1",
            pub_export_macro: true,
            export_macro_name: "export_reducer",
            default_bindings_module: "::tidemill_guest::wasm::raw::reducer",
            with: {
                "tidemill:operator/arrow@0.1.0": crate::wasm::raw::arrow,
                "tidemill:operator/types@0.1.0": crate::wasm::raw::types,
                "tidemill:operator/diagnostics@0.1.0": crate::wasm::raw::diagnostics,
            },
        });
    }
    pub mod aggregator {
        wit_bindgen::generate!({
            world: "aggregator-plugin",
            path: "wit/v0.1",
            pub_export_macro: true,
            export_macro_name: "export_aggregator",
            default_bindings_module: "::tidemill_guest::wasm::raw::aggregator",
            with: {
                "tidemill:operator/arrow@0.1.0": crate::wasm::raw::arrow,
                "tidemill:operator/types@0.1.0": crate::wasm::raw::types,
                "tidemill:operator/diagnostics@0.1.0": crate::wasm::raw::diagnostics,
            },
        });
    }
    pub mod grouper {
        wit_bindgen::generate!({
            world: "grouper-plugin",
            path: "wit/v0.1",
            pub_export_macro: true,
            export_macro_name: "export_grouper",
            default_bindings_module: "::tidemill_guest::wasm::raw::grouper",
            with: {
                "tidemill:operator/arrow@0.1.0": crate::wasm::raw::arrow,
                "tidemill:operator/types@0.1.0": crate::wasm::raw::types,
                "tidemill:operator/diagnostics@0.1.0": crate::wasm::raw::diagnostics,
            },
        });
    }
    pub mod updater {
        wit_bindgen::generate!({
            world: "updater-plugin",
            path: "wit/v0.1",
            pub_export_macro: true,
            export_macro_name: "export_updater",
            default_bindings_module: "::tidemill_guest::wasm::raw::updater",
            with: {
                "tidemill:operator/arrow@0.1.0": crate::wasm::raw::arrow,
                "tidemill:operator/types@0.1.0": crate::wasm::raw::types,
                "tidemill:operator/diagnostics@0.1.0": crate::wasm::raw::diagnostics,
            },
        });
    }
    pub use transform::tidemill::operator::{arrow, diagnostics, types};
}

use raw::aggregator::exports::tidemill::operator::aggregator as raw_aggregator;
use raw::arrow;
use raw::grouper::exports::tidemill::operator::grouper as raw_grouper;
use raw::reducer::exports::tidemill::operator::reducer as raw_reducer;
use raw::transform::exports::tidemill::operator::transform as raw_transform;
use raw::types;
use raw::updater::exports::tidemill::operator::updater as raw_updater;

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => raw::diagnostics::Level::Debug,
        Level::Info => raw::diagnostics::Level::Info,
        Level::Warn => raw::diagnostics::Level::Warn,
        Level::Error => raw::diagnostics::Level::Error,
    };
    raw::diagnostics::log(level, message);
}

/// Makes a plugin of a type that implements [`role::Transform`].
#[macro_export]
macro_rules! export_transform {
    ($type:ty) => {
        $crate::__export_role!($type, Transform, transform, export_transform);
    };
}

/// Makes a plugin of a type that implements [`role::Reducer`].
#[macro_export]
macro_rules! export_reducer {
    ($type:ty) => {
        $crate::__export_role!($type, Reducer, reducer, export_reducer);
    };
}

/// Makes a plugin of a type that implements [`role::Aggregator`].
#[macro_export]
macro_rules! export_aggregator {
    ($type:ty) => {
        $crate::__export_role!($type, Aggregator, aggregator, export_aggregator);
    };
}

/// Makes a plugin of a type that implements [`role::Grouper`].
#[macro_export]
macro_rules! export_grouper {
    ($type:ty) => {
        $crate::__export_role!($type, Grouper, grouper, export_grouper);
    };
}

/// Makes a plugin of a type that implements [`role::Updater`].
#[macro_export]
macro_rules! export_updater {
    ($type:ty) => {
        $crate::__export_role!($type, Updater, updater, export_updater);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_role {
    ($type:ty, $role:ident, $module:ident, $export:ident) => {
        const _: () = {
            struct Slot;

            impl $crate::wasm::Slot for Slot {
                type Instance = $crate::wasm::$role<$type>;

                fn with<R>(use_it: impl FnOnce(&mut Option<Self::Instance>) -> R) -> R {
                    ::std::thread_local! {
                        static INSTANCE: ::std::cell::RefCell<Option<$crate::wasm::$role<$type>>> =
                            const { ::std::cell::RefCell::new(None) };
                    }
                    INSTANCE.with_borrow_mut(use_it)
                }
            }

            type Exported = $crate::wasm::Component<Slot>;
    $crate::wasm::raw::$module::$export!(Exported with_types_in $crate::wasm::raw::$module);
        };
    };
}

/// Where a component keeps its one instance of an operator.
#[doc(hidden)]
pub trait Slot: 'static {
    /// The operator, and the schemas of what it gets.
    type Instance: 'static;

    /// Uses what is kept.
    fn with<R>(use_it: impl FnOnce(&mut Option<Self::Instance>) -> R) -> R;
}

/// What is exported: the role of the slot's instance.
#[doc(hidden)]
#[derive(Debug)]
pub struct Component<S>(PhantomData<S>);

/// A transform that was opened, and the schema of what it reads.
#[doc(hidden)]
#[derive(Debug)]
pub struct Transform<T> {
    operator: T,
    reads: Schema,
}

/// A reducer that was opened, and the schema of its rows.
#[doc(hidden)]
#[derive(Debug)]
pub struct Reducer<R> {
    operator: R,
    values: Schema,
}

/// An aggregator that was opened, and the schemas of what it reads and keeps.
#[doc(hidden)]
#[derive(Debug)]
pub struct Aggregator<A> {
    operator: A,
    reads: Schema,
    accumulator: Schema,
}

/// A grouper that was opened, and the schemas of the keys and of what it reads of each input.
#[doc(hidden)]
#[derive(Debug)]
pub struct Grouper<G> {
    operator: G,
    keys: Schema,
    reads: Vec<Schema>,
}

/// An updater that was opened, and the schemas of the keys, of what it reads and of what it keeps.
#[doc(hidden)]
#[derive(Debug)]
pub struct Updater<U> {
    operator: U,
    keys: Schema,
    reads: Schema,
    state: Schema,
}

fn opened<S: Slot, R>(call: impl FnOnce(&mut S::Instance) -> Result<R, role::Failure>) -> Result<R, types::Failure> {
    S::with(|instance| match instance {
        Some(instance) => call(instance).map_err(failure),
        None => Err(types::Failure::Fatal("called before it was opened".into())),
    })
}

/// The columns of `schema` that a plan names.
fn select(schema: Schema, reads: Option<&[String]>) -> Result<Schema, role::Refusal> {
    let Some(names) = reads else { return Ok(schema) };
    schema
        .select(names)
        .ok_or_else(|| role::Refusal::Schema(format!("the operator reads {names:?}, the input has {schema}")))
}

impl<S, T> raw_transform::Guest for Component<S>
where
    S: Slot<Instance = Transform<T>>,
    T: role::Transform + 'static,
{
    fn open(step: types::Step, input: Vec<arrow::Field>) -> Result<raw_transform::Plan, types::Refusal> {
        let input = read_schema(input);
        let (plan, operator) = T::open(&read_step(step), &input).map_err(refusal)?;
        let reads = select(input, plan.reads.as_deref()).map_err(refusal)?;
        S::with(|slot| *slot = Some(Transform { operator, reads }));
        Ok(raw_transform::Plan {
            reads: plan.reads,
            writes: write_schema(plan.writes),
            carries: match plan.carries {
                role::Carried::Nothing => raw_transform::Carried::Nothing,
                role::Carried::Everything => raw_transform::Carried::Everything,
                role::Carried::Only(names) => raw_transform::Carried::Only(names),
            },
        })
    }

    fn process(call: types::Call, input: arrow::Batch) -> Result<raw_transform::Output, types::Failure> {
        opened::<S, _>(|Transform { operator, reads }| {
            let output = with_batch(reads, &input, |input| operator.process(&read_call(&call), input))?;
            Ok(raw_transform::Output {
                rows: write_batch(output.rows),
                origin: output.origin,
                rejected: write_rejected(output.rejected),
            })
        })
    }
}

impl<S, R> raw_reducer::Guest for Component<S>
where
    S: Slot<Instance = Reducer<R>>,
    R: role::Reducer + 'static,
{
    fn open(step: types::Step, values: Vec<arrow::Field>) -> Result<raw_reducer::Plan, types::Refusal> {
        let values = read_schema(values);
        let (invertible, operator) = R::open(&read_step(step), &values).map_err(refusal)?;
        S::with(|slot| *slot = Some(Reducer { operator, values }));
        Ok(raw_reducer::Plan { invertible })
    }

    fn reduce(call: types::Call, values: arrow::Batch, ends: Vec<u32>) -> Result<arrow::Batch, types::Failure> {
        opened::<S, _>(|Reducer { operator, values: schema }| {
            with_batch(schema, &values, |values| operator.reduce(&read_call(&call), values, &ends)).map(write_batch)
        })
    }

    fn invert(call: types::Call, whole: arrow::Batch, part: arrow::Batch) -> Result<arrow::Batch, types::Failure> {
        opened::<S, _>(|Reducer { operator, values: schema }| {
            let call = read_call(&call);
            with_batch(schema, &whole, |whole| with_batch(schema, &part, |part| operator.invert(&call, whole, part)))
                .map(write_batch)
        })
    }
}

impl<S, A> raw_aggregator::Guest for Component<S>
where
    S: Slot<Instance = Aggregator<A>>,
    A: role::Aggregator + 'static,
{
    fn open(step: types::Step, values: Vec<arrow::Field>) -> Result<raw_aggregator::Plan, types::Refusal> {
        let values = read_schema(values);
        let (plan, operator) = A::open(&read_step(step), &values).map_err(refusal)?;
        let reads = select(values, plan.reads.as_deref()).map_err(refusal)?;
        S::with(|slot| *slot = Some(Aggregator { operator, reads, accumulator: plan.accumulator.clone() }));
        Ok(raw_aggregator::Plan {
            reads: plan.reads,
            accumulator: write_schema(plan.accumulator),
            result: write_schema(plan.result),
        })
    }

    fn accumulate(call: types::Call, values: arrow::Batch, ends: Vec<u32>) -> Result<arrow::Batch, types::Failure> {
        opened::<S, _>(|Aggregator { operator, reads, .. }| {
            with_batch(reads, &values, |values| operator.accumulate(&read_call(&call), values, &ends)).map(write_batch)
        })
    }

    fn merge(call: types::Call, accumulators: arrow::Batch, ends: Vec<u32>) -> Result<arrow::Batch, types::Failure> {
        opened::<S, _>(|Aggregator { operator, accumulator, .. }| {
            with_batch(accumulator, &accumulators, |rows| operator.merge(&read_call(&call), rows, &ends))
                .map(write_batch)
        })
    }

    fn finish(call: types::Call, accumulators: arrow::Batch) -> Result<arrow::Batch, types::Failure> {
        opened::<S, _>(|Aggregator { operator, accumulator, .. }| {
            with_batch(accumulator, &accumulators, |rows| operator.finish(&read_call(&call), rows)).map(write_batch)
        })
    }
}

impl<S, G> raw_grouper::Guest for Component<S>
where
    S: Slot<Instance = Grouper<G>>,
    G: role::Grouper + 'static,
{
    fn open(
        step: types::Step,
        keys: Vec<arrow::Field>,
        inputs: Vec<Vec<arrow::Field>>,
    ) -> Result<raw_grouper::Plan, types::Refusal> {
        let keys = read_schema(keys);
        let inputs: Vec<_> = inputs.into_iter().map(read_schema).collect();
        let (plan, operator) = G::open(&read_step(step), &keys, &inputs).map_err(refusal)?;
        let reads = inputs.into_iter().zip(&plan.reads).map(|(input, reads)| select(input, reads.as_deref()));
        let reads = reads.collect::<Result<_, _>>().map_err(refusal)?;
        S::with(|slot| *slot = Some(Grouper { operator, keys, reads }));
        Ok(raw_grouper::Plan { reads: plan.reads, writes: write_schema(plan.writes) })
    }

    fn process(
        call: types::Call,
        keys: arrow::Batch,
        inputs: Vec<raw_grouper::Grouped>,
    ) -> Result<raw_grouper::Output, types::Failure> {
        opened::<S, _>(|Grouper { operator, keys: key_schema, reads }| {
            let parts: Vec<_> = inputs.iter().map(|input| (nodes(&input.rows), buffers(&input.rows))).collect();
            let mut grouped = Vec::with_capacity(inputs.len());
            for ((input, schema), (nodes, buffers)) in inputs.iter().zip(&*reads).zip(&parts) {
                // SAFETY: as in `with_batch`.
                let rows = unsafe { Batch::new(schema, input.rows.rows, nodes, buffers) };
                grouped.push(role::Grouped { rows, ends: &input.ends });
            }
            let output = with_batch(key_schema, &keys, |keys| operator.process(&read_call(&call), keys, &grouped))?;
            Ok(raw_grouper::Output {
                rows: write_batch(output.rows),
                group: output.group,
                rejected: output.rejected.into_iter().map(write_rejected).collect(),
            })
        })
    }
}

impl<S, U> raw_updater::Guest for Component<S>
where
    S: Slot<Instance = Updater<U>>,
    U: role::Updater + 'static,
{
    fn open(
        step: types::Step,
        keys: Vec<arrow::Field>,
        values: Vec<arrow::Field>,
    ) -> Result<raw_updater::Plan, types::Refusal> {
        let (keys, values) = (read_schema(keys), read_schema(values));
        let (plan, operator) = U::open(&read_step(step), &keys, &values).map_err(refusal)?;
        let reads = select(values, plan.reads.as_deref()).map_err(refusal)?;
        S::with(|slot| *slot = Some(Updater { operator, keys, reads, state: plan.state.clone() }));
        Ok(raw_updater::Plan {
            reads: plan.reads,
            state: write_schema(plan.state),
            writes: write_schema(plan.writes),
            calling: match plan.calling {
                role::Calling::KeysWithValues => raw_updater::Calling::KeysWithValues,
                role::Calling::EveryKey => raw_updater::Calling::EveryKey,
            },
            timeouts: match plan.timeouts {
                role::Timeouts::Never => raw_updater::Timeouts::Never,
                role::Timeouts::BatchTime => raw_updater::Timeouts::BatchTime,
                role::Timeouts::EventTime => raw_updater::Timeouts::EventTime,
            },
        })
    }

    fn update(call: types::Call, input: raw_updater::Input) -> Result<raw_updater::Output, types::Failure> {
        opened::<S, _>(|Updater { operator, keys, reads, state }| {
            let output = with_batch(keys, &input.keys, |keys| {
                with_batch(reads, &input.values, |values| {
                    with_batch(state, &input.state, |state| {
                        let (ends, has_state, timed_out) = (&*input.ends, &*input.has_state, &*input.timed_out);
                        let input = role::UpdaterInput { keys, values, ends, state, has_state, timed_out };
                        operator.update(&read_call(&call), &input)
                    })
                })
            })?;
            Ok(raw_updater::Output {
                changes: output.changes,
                state: write_batch(output.state),
                timeouts_us: output.timeouts_us,
                rows: write_batch(output.rows),
                group: output.group,
                rejected: write_rejected(output.rejected),
            })
        })
    }
}

fn nodes(batch: &arrow::Batch) -> Vec<Node> {
    batch.nodes.iter().map(|node| Node { length: node.length, null_count: node.null_count }).collect()
}

fn buffers(batch: &arrow::Batch) -> Vec<&[u8]> {
    batch.buffers.iter().map(Vec::as_slice).collect()
}

fn with_batch<R>(schema: &Schema, batch: &arrow::Batch, use_it: impl FnOnce(Batch<'_>) -> R) -> R {
    let (nodes, buffers) = (nodes(batch), buffers(batch));
    // SAFETY: the host promises that what it sends follows the contract for the schema that it gave at `open`.
    use_it(unsafe { Batch::new(schema, batch.rows, &nodes, &buffers) })
}

fn write_rejected(rejected: Vec<role::Rejection>) -> Vec<types::Rejection> {
    rejected.into_iter().map(|role::Rejection { row, reason }| types::Rejection { row, reason }).collect()
}

fn write_batch(batch: OwnedBatch) -> arrow::Batch {
    if batch.rows == 0 {
        return arrow::Batch { rows: 0, nodes: Vec::new(), buffers: Vec::new() };
    }
    let nodes = batch.nodes.into_iter();
    arrow::Batch {
        rows: batch.rows,
        nodes: nodes.map(|Node { length, null_count }| arrow::Node { length, null_count }).collect(),
        buffers: batch.buffers,
    }
}

fn read_step(step: types::Step) -> role::Step {
    role::Step { job: step.job, step: step.step, partitions: step.partitions, config: step.config }
}

fn read_call(call: &types::Call) -> role::Call {
    role::Call {
        batch_id: call.batch_id,
        batch_time_us: call.batch_time_us,
        partition: call.partition,
        attempt: call.attempt,
        first_row: call.first_row,
        watermark_us: call.watermark_us,
    }
}

fn refusal(refusal: role::Refusal) -> types::Refusal {
    match refusal {
        role::Refusal::Config(text) => types::Refusal::Config(text),
        role::Refusal::Schema(text) => types::Refusal::Schema(text),
        role::Refusal::Other(text) => types::Refusal::Other(text),
    }
}

fn failure(failure: role::Failure) -> types::Failure {
    match failure {
        role::Failure::Retry(text) => types::Failure::Retry(text),
        role::Failure::Fatal(text) => types::Failure::Fatal(text),
        role::Failure::Other(text) => types::Failure::Other(text),
    }
}

fn read_schema(flat: Vec<arrow::Field>) -> Schema {
    fn take(rest: &mut std::vec::IntoIter<arrow::Field>) -> Option<Field> {
        let flat = rest.next()?;
        let children = (0..flat.children).map_while(|_| take(rest)).collect();
        Some(Field { name: flat.name, data_type: read_type(flat.data_type), nullable: flat.nullable, children })
    }
    let mut rest = flat.into_iter();
    Schema::new(std::iter::from_fn(|| take(&mut rest)).collect())
}

fn write_schema(schema: Schema) -> Vec<arrow::Field> {
    fn push(flat: &mut Vec<arrow::Field>, field: Field) {
        flat.push(arrow::Field {
            name: field.name,
            data_type: write_type(field.data_type),
            nullable: field.nullable,
            children: field.children.len() as u32,
        });
        field.children.into_iter().for_each(|child| push(flat, child));
    }
    let mut flat = Vec::with_capacity(schema.fields.len());
    schema.fields.into_iter().for_each(|field| push(&mut flat, field));
    flat
}

macro_rules! same_names {
    ($($name:ident),*) => {
        fn read_type(data_type: arrow::DataType) -> DataType {
            match data_type {
                $(arrow::DataType::$name => DataType::$name,)*
                arrow::DataType::Uint8 => DataType::UInt8,
                arrow::DataType::Uint16 => DataType::UInt16,
                arrow::DataType::Uint32 => DataType::UInt32,
                arrow::DataType::Uint64 => DataType::UInt64,
                arrow::DataType::FixedSizeBinary(width) => DataType::FixedSizeBinary(width),
                arrow::DataType::Timestamp((unit, zone)) => DataType::Timestamp(read_unit(unit), zone),
                arrow::DataType::Duration(unit) => DataType::Duration(read_unit(unit)),
                arrow::DataType::Decimal128((precision, scale)) => DataType::Decimal128(precision, scale),
            }
        }

        fn write_type(data_type: DataType) -> arrow::DataType {
            match data_type {
                $(DataType::$name => arrow::DataType::$name,)*
                DataType::UInt8 => arrow::DataType::Uint8,
                DataType::UInt16 => arrow::DataType::Uint16,
                DataType::UInt32 => arrow::DataType::Uint32,
                DataType::UInt64 => arrow::DataType::Uint64,
                DataType::FixedSizeBinary(width) => arrow::DataType::FixedSizeBinary(width),
                DataType::Timestamp(unit, zone) => arrow::DataType::Timestamp((write_unit(unit), zone)),
                DataType::Duration(unit) => arrow::DataType::Duration(write_unit(unit)),
                DataType::Decimal128(precision, scale) => arrow::DataType::Decimal128((precision, scale)),
            }
        }
    };
}

same_names!(Null, Boolean, Int8, Int16, Int32, Int64, Float32, Float64, Utf8, Binary, Date32, List, Struct, Map);

fn read_unit(unit: arrow::TimeUnit) -> TimeUnit {
    match unit {
        arrow::TimeUnit::Second => TimeUnit::Second,
        arrow::TimeUnit::Millisecond => TimeUnit::Millisecond,
        arrow::TimeUnit::Microsecond => TimeUnit::Microsecond,
        arrow::TimeUnit::Nanosecond => TimeUnit::Nanosecond,
    }
}

fn write_unit(unit: TimeUnit) -> arrow::TimeUnit {
    match unit {
        TimeUnit::Second => arrow::TimeUnit::Second,
        TimeUnit::Millisecond => arrow::TimeUnit::Millisecond,
        TimeUnit::Microsecond => arrow::TimeUnit::Microsecond,
        TimeUnit::Nanosecond => arrow::TimeUnit::Nanosecond,
    }
}
