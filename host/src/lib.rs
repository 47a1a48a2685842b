//! Tidemill: a micro-batch stream processor whose operators are WebAssembly components.
//!
//! The modules stand in the order in which rows flow.

pub mod clock;
pub mod error;
pub mod event_time;
mod fail_point;
pub mod ids;
mod job_folder;
mod json_lines;
mod manifest;
pub mod metrics;
mod type_name;

pub mod operator;
pub mod plugin;

pub mod context;
pub mod job;
pub mod plan;
pub mod scheduler;

pub mod block_store;
pub mod checkpoint;
pub mod sink;
pub mod source;
pub mod write_ahead_log;

pub mod shuffle;
pub mod spill;
pub mod sql;
pub mod state;
pub mod step;
pub mod task;

pub mod authoring;
