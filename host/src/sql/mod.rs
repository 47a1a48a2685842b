//! SQL: expressions over the rows of a step, and whole queries over the rows of a batch, run by DataFusion.
//!
//! A step plans its texts once, against the schemas of its inputs, in a [`Session`]; tasks then run what was planned on
//! whatever rows come.
//!
//! ```text
//!  Session ── expression("price * quantity", schema) ──▶ Expression ── evaluate(rows) ──▶ a column
//!          ── query("SELECT … FROM words", tables) ────▶ Query ────── run(inputs) ──────▶ rows
//!                          └─ Mistake: what is wrong, in the words of a job file
//! ```
//!
//! The law: what comes out depends on the rows and the batch alone. So `now()` is the batch's time, functions that make
//! random values are not there, and a query runs in one thread, over rows in their order.
//!
//! | | |
//! | --- | --- |
//! | names | columns and streams are written as in the job file: `userId` is not `userid`. Functions and keywords are not told apart by case |
//! | threads | everything runs on the worker thread that asks: no plan starts one |
//! | reach | a query reads the streams it is given, and nothing else: no file, no settings, no catalog |

mod aggregate_function;
mod aggregate_groups;
mod expression;
mod failure;
mod function;
mod lineage;
mod mistake;
mod query;
mod refused;
mod scalar_function;
mod scope;
mod session;
mod stream_table;
mod strict;
mod time;
mod types;

pub use expression::Expression;
pub(crate) use expression::describe_row;
pub use failure::{EvaluationFailed, OutOfMemory, QueryFailed, Site, ValueFailed, silence_guarded_panics};
pub use function::{Function, FunctionDefinition};
pub use mistake::Mistake;
pub use query::{Query, QueryTable, RunBounds};
pub use scope::Scope;
pub use session::Session;

pub(crate) use types::plain_array;

#[cfg(test)]
mod tests;
