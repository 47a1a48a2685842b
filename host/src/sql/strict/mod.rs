//! What the SQL of a job does where DataFusion would wrap around, look away, or take all memory there is.
//!
//! | | here | DataFusion alone |
//! | --- | --- | --- |
//! | [`arithmetic`] | integers that do not fit their type fail | wrap around |
//! | [`sum`] | a sum of integers that does not fit fails | wraps around |
//! | [`rewrite`] | a cast that may fail, or change a value, is done before what it is compared with | may be left out |
//! | [`rewrite`], [`careful`] | `CASE`, `AND`, `OR` guard what stands behind them | may compute it for all rows |
//! | [`bounds`] | functions that make values of any length have an end | panic, or end the process |
//!
//! The first four are done to the logical plan, once types are known and before anything is simplified; `AND` and `OR` to the
//! physical one.

mod arithmetic;
mod bounds;
mod careful;
mod rewrite;
mod sum;

pub(super) use bounds::bounded;
pub(super) use careful::{careful, careful_plan};
pub(super) use rewrite::{StrictRule, strict};
pub(super) use sum::checked_sum;
