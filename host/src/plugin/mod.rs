//! Plugins: components loaded from files, run under limits, their answers checked.
//!
//! This is the only folder that knows the component engine, and it depends on nothing else of the host but ids, errors,
//! the clock and what an operator is: it can be embedded in another engine's executor as it is.
//!
//! ```text
//!  file ──▶ digest, pin ──▶ contract, imports ──▶ compiled code ◀─▶ code cache          once a file
//!                                                      │ open: instance, schema, plan   once a (step, partition)
//!                         RecordBatch ── lower ──▶ call ──▶ lift, check ──▶ RecordBatch once a call
//! ```
//!
//! What a guest gets is in `wasi`: a closed system whose time and random numbers come from the batch, opened by what a job grants
//! (`grants`, made ready in `reach`). What stops it is in `seat`, `call_time` and `limiter`; how that is told apart and told to
//! the user is in `breach`. Compiling is done in a process of its own, where there is a program for it (`compile`). What it answers is held against
//! the contract in `check`, before any of it is used.
//!
//! Threads that call plugins need a stack of 2 MiB, Rust's default: a guest may use 1 MiB of it.
//!
//! # Examples
//!
//! ```no_run
//! use std::path::Path;
//! use tidemill::operator::Operator;
//! use tidemill::plugin::{LoadOptions, Runtime, RuntimeConfig};
//!
//! let runtime = Runtime::new(RuntimeConfig::default())?;
//! let plugin = runtime.load("split_words.wasm", Path::new("split_words.wasm"), &LoadOptions::default())?;
//! println!("{:?} {}", plugin.roles(), plugin.inspection().sha256);
//! # Ok::<(), tidemill::error::Error>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps what is not there has failed"))]

mod aggregator;
mod breach;
mod breakdowns;
mod call_time;
mod check;
mod code_cache;
mod compile;
mod contract;
mod engine;
mod error;
mod file;
mod grants;
mod grouper;
mod guest;
mod guest_log;
mod handle;
mod imports;
mod inspect;
mod limiter;
mod metrics;
mod reach;
mod reducer;
mod runtime;
mod seat;
#[cfg(test)]
mod tests;
mod text;
mod transform;
mod updater;
mod wasi;

pub use code_cache::CODE_CACHE_BYTES_MAX;
pub use compile::{CompileArguments, compile_here};
pub use contract::Version;
pub(crate) use contract::{PACKAGE as CONTRACT_PACKAGE, text as contract_text};
pub use engine::EPOCH_TICK;
pub use error::{EngineError, LoadError, RuntimeError};
pub use file::Digest;
pub use grants::{Access, DirectoryGrant, GrantKind, Grants, HttpGrant, HttpScheme};
pub use handle::Plugin;
pub(crate) use imports::InterfaceName;
pub use imports::{Standing, grant_needed};
pub use inspect::{Import, Inspection, RoleExport};
pub use metrics::{GuestMetrics, METRIC_NAME_BYTES_MAX, METRIC_NAMES_MAX, MetricValue};
pub use runtime::{COMPILE_THREADS_DEFAULT, InstanceMode, LoadOptions, Runtime, RuntimeConfig};
pub use text::GUEST_TEXT_BYTES_MAX;
