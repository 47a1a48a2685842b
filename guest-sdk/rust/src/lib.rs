//! Write Tidemill operators in Rust.
#![doc = include_str!("../README.md")]

// The derive of this crate's own rows names the crate as its users do.
extern crate self as tidemill_guest;

pub mod any;
mod batch;
pub mod builder;
pub mod diagnostics;
mod duration;
mod function;
mod group;
pub mod native;
pub mod role;
mod row;
mod schema;
pub mod testing;
pub mod text;
mod update;
pub mod value;
#[cfg(target_family = "wasm")]
pub mod wasm;

pub use batch::{Batch, Column, Node, OwnedBatch};
pub use function::{Aggregate, Aggregating, Reject};
pub use group::{AnyKey, CoGroup, CoGrouping, Group, GroupEmitter, GroupRows, Grouping, RowId};
pub use role::{
    Aggregator, AggregatorPlan, Call, Calling, Carried, Failure, Grouped, Grouper, GrouperOutput, GrouperPlan, Output,
    Reducer, Refusal, Rejection, Step, Timeouts, Transform, TransformPlan, Updater, UpdaterInput, UpdaterOutput,
    UpdaterPlan,
};
pub use row::{Emitter, ReadRow, Row, Rows};
pub use schema::{DataType, Field, Schema, TimeUnit};
pub use tidemill_guest_macros::{Row, operator};
pub use update::{StateHandle, Update, Updating};
pub use value::{AnyDecimal, Date, Decimal, DurationUs, TimestampUs};

/// What the macros' code calls. Not for use by hand: it changes without notice.
#[doc(hidden)]
pub mod rt {
    pub use crate::builder::{BuildRow, Hints, Sizes};
    pub use crate::function::{NoConfig, filter, invert, open_config, open_reducer, plan, reduce, rows};
    pub use crate::row::{StructColumn, check_column, read_column, struct_accepts, struct_field};
    pub use crate::value::{Cursor, Read, Value};
}
