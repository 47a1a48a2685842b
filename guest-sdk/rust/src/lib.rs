//! Write Tidemill operators in Rust.
#![doc = include_str!("../README.md")]

mod batch;
pub mod builder;
pub mod diagnostics;
mod function;
pub mod native;
pub mod role;
mod row;
mod schema;
pub mod testing;
pub mod text;
pub mod value;
#[cfg(target_family = "wasm")]
pub mod wasm;

pub use batch::{Batch, Column, Node, OwnedBatch};
pub use function::{Aggregate, Aggregating, Reject};
pub use role::{
    Aggregator, AggregatorPlan, Call, Carried, Failure, Output, Reducer, Refusal, Rejection, Step, Transform,
    TransformPlan,
};
pub use row::{Emitter, ReadRow, Row, Rows};
pub use schema::{DataType, Field, Schema, TimeUnit};
pub use tidemill_guest_macros::{Row, operator};
pub use value::{AnyDecimal, Date, Decimal, DurationUs, TimestampUs};

/// What the macros' code calls. Not for use by hand: it changes without notice.
#[doc(hidden)]
pub mod rt {
    pub use crate::builder::{BuildRow, Hints, Sizes};
    pub use crate::function::{NoConfig, filter, invert, open_config, open_reducer, plan, reduce, rows};
    pub use crate::row::{StructColumn, check_column, read_column, struct_accepts, struct_field};
    pub use crate::value::{Cursor, Read, Value};
}
