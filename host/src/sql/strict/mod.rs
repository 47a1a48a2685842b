//! What the SQL of a job does where DataFusion would wrap around, look away, or take all memory there is.
//!
//! | | here | DataFusion alone |
//! | --- | --- | --- |
//! | [`arithmetic`] | integers that do not fit their type fail | wrap around |
//! | [`sum`] | a sum of integers that does not fit fails | wraps around |
//! | [`rewrite`] | a cast that may fail, or change a value, is done before what it is compared with | may be left out |
//! | [`rewrite`], [`careful`] | `CASE`, `AND`, `OR` guard what stands behind them | may compute it for all rows |
//! | [`function`]: [`bounds`] | functions that make values of any length, or compare texts of any length, have an end | panic, end the process, or run for hours |
//! | [`function`]: [`rounding`] | digits that a number does not have change nothing; a whole decimal may have a digit more | NaN, infinity, or an overflow |
//! | [`function`]: [`times`] | times before 1970 are cut as those after it, and those that there are not fail | cut upwards, or null |
//! | [`frames`] | a bound of a frame outside of its type is where it is | takes in rows without a value |
//!
//! [`function`] says which functions have a rule. The rest is done to the logical plan, once types are known and before anything is
//! simplified; `AND` and `OR` to the physical one.

mod arithmetic;
mod bounds;
mod careful;
mod frames;
mod function;
mod passing;
mod rewrite;
mod rounding;
mod sum;
mod times;

pub(super) use careful::{careful, careful_plan};
pub(super) use function::strict_function;
pub(super) use rewrite::{StrictRule, strict};
pub(super) use sum::checked_sum;
