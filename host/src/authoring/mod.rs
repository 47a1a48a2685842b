//! What the author of a plugin works with: projects, their builds, and what is found out about a plugin by running it.
//!
//! ```text
//!  new/ ──▶ a folder with operator.toml ──▶ project.rs ──▶ build/ ── a compiler of its language ──▶ component
//!                                                            └ a core module ── encode.rs ──▶ component
//!
//!  component, rows ──▶ trial/: a job of one step ──▶ test.rs: the same rows, cut in every way
//!                                                └─▶ bench.rs: how fast
//!  component ──▶ conform/: rows that are made up, and what must come of them
//! ```
//!
//! A thin command line stands on it, in `cli/`. It runs plugins as jobs do: through [`crate::context`] and
//! [`crate::plugin`], and nothing else.

pub mod bench;
pub mod build;
pub mod conform;
mod encode;
mod error;
mod language;
pub mod new;
mod project;
mod report;
pub mod schemas;
pub mod test;
mod tool;
mod trial;

pub use encode::{EncodeError, encode, with_language};
pub use error::AuthoringError;
pub use language::Language;
pub use project::{PROJECT_FILE, Project, ProjectError, TestOptions, read_project};
pub use report::{Check, Outcome, Report};
pub use trial::{Subject, TrialError};
