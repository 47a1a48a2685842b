//! What the author of a plugin works with: projects, their builds, and what is found out about a plugin by running it.
//!
//! ```text
//!  new/ ──▶ a folder with operator.toml ──▶ project.rs ──▶ build/ ── a compiler of its language ──▶ component
//!                                                            └ a core module ── encode.rs ──▶ component
//! ```
//!
//! A thin command line stands on it, in `cli/`. It runs plugins as jobs do: through [`crate::context`] and
//! [`crate::plugin`], and nothing else.

pub mod build;
mod encode;
mod error;
mod language;
pub mod new;
mod project;
mod tool;

pub use encode::{EncodeError, encode};
pub use error::AuthoringError;
pub use language::Language;
pub use project::{PROJECT_FILE, Project, ProjectError, TestOptions, read_project};
