//! The role of groupByKey and cogroup: all rows of a key at once.
//!
//! ```text
//!  keys      group   input 0: ends [2, 2, 3]     input 1: ends [1, 3, 3]
//!  ann         0     rows 0..2                   rows 0..1
//!  bob         1     none                        rows 1..3
//!  cid         2     row  2..3                   none
//! ```

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use crate::operator::{Call, CallError, Crossed, Rejection};

/// What a grouper reads and writes: the answer to `open`, checked against the schemas of its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct GrouperPlan {
    /// For each input, the indices of the columns that `process` gets among those that are not keys, in the order it gets
    /// them.
    pub reads: Vec<Vec<usize>>,
    /// The schema of what `process` returns, without the keys; no name of a key is among its names.
    pub writes: SchemaRef,
}

/// The rows of one input, cut into groups.
#[derive(Debug, Clone, Copy)]
pub struct Grouped<'a> {
    /// The rows, group by group: the columns that [`GrouperPlan::reads`] has for this input, in that order.
    pub rows: &'a RecordBatch,
    /// The exclusive end of each group. A group may have no rows.
    pub ends: &'a [u32],
}

impl GrouperPlan {
    /// That the parts of a call fit together and fit the plan, which is for the caller to see to.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub(crate) fn assert_consistent(&self, n_groups: usize, inputs: &[Grouped<'_>]) {
        assert_eq!(inputs.len(), self.reads.len(), "there are as many inputs as the grouper was opened with");
        for Grouped { rows, ends } in inputs {
            assert_eq!(ends.len(), n_groups, "every group has an end in every input");
            assert_eq!(ends.last().map_or(0, |end| *end as usize), rows.num_rows(), "ends cover the rows");
        }
    }
}

/// What came of one call of a grouper. Checked: every number is in range, every array valid and of the plan's schema.
#[derive(Debug, Clone)]
pub struct GrouperOutput {
    /// The written columns, of the schema [`GrouperPlan::writes`].
    pub rows: RecordBatch,
    /// For each row of `rows` the group it came from; never less than the one before.
    pub group: Vec<u32>,
    /// For each input, its rows that could not be processed: as many lists as there are inputs.
    pub rejected: Vec<Vec<Rejection>>,
}

/// An operator opened as a grouper, for one partition. Same rules as [`crate::operator::Transform`].
pub trait Grouper: Send {
    /// What it answered when it was opened.
    fn plan(&self) -> &GrouperPlan;

    /// Processes some groups: row i of `keys` is the key of group i, no two are equal, and each input has an end for each.
    /// No group has rows in another call of the batch. A group that is too large for one call is
    /// [`CallError::GroupTooLarge`], which is for the caller to say.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. Nothing of the call's output is used.
    fn process(&mut self, call: &Call, keys: &RecordBatch, inputs: &[Grouped<'_>]) -> Result<GrouperOutput, CallError>;

    /// What has crossed into the operator and out of it since it was opened.
    fn bytes_crossed(&self) -> Crossed {
        Crossed::default()
    }
}

/// Which rule the numbers of groups break: as many as rows, each that of a group, none less than the one before. `what`
/// are the groups: "groups", or "keys".
pub(crate) fn group_rule(group: &[u32], n_output: u32, n_groups: usize, what: &str) -> Result<(), String> {
    if group.len() != n_output as usize {
        return Err(format!("`group` has {} numbers for {n_output} rows of output", group.len()));
    }
    // Sorted, and the last in range: then all are. Which one is wrong matters only when one is.
    if group.is_sorted() && group.last().is_none_or(|last| (*last as usize) < n_groups) {
        return Ok(());
    }
    let mut before = 0;
    for (i, &number) in group.iter().enumerate() {
        if number as usize >= n_groups {
            return Err(format!("`group[{i}]` is {number}, and there are {n_groups} {what}"));
        }
        if number < before {
            return Err(format!("`group[{i}]` is {number}, less than the one before it, {before}"));
        }
        before = number;
    }
    Ok(())
}

/// That no written column has the name of a key: the host puts the keys before the written columns.
pub(crate) fn key_rule(writes: &Schema, keys: &Schema) -> Result<(), String> {
    match writes.fields().iter().find(|field| keys.index_of(field.name()).is_ok()) {
        Some(field) => Err(format!("`writes` has the column `{}`, which is a key", field.name())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(group: &[u32], n_output: u32, expected: Result<(), &str>) {
        assert_eq!(group_rule(group, n_output, 3, "groups"), expected.map_err(str::to_owned));
    }

    #[test]
    fn numbers_of_groups_do_not_fall() {
        check(&[], 0, Ok(()));
        check(&[0, 0, 2, 2], 4, Ok(()));
        check(&[0, 1], 3, Err("`group` has 2 numbers for 3 rows of output"));
        check(&[0, 3], 2, Err("`group[1]` is 3, and there are 3 groups"));
        check(&[1, 0], 2, Err("`group[1]` is 0, less than the one before it, 1"));
        check(&[u32::MAX], 1, Err("`group[0]` is 4294967295, and there are 3 groups"));
    }

    proptest! {
        #[test]
        fn numbers_pass_when_each_is_in_range_and_none_falls(group in prop::collection::vec(0_u32..5, 0..6)) {
            let right = group.iter().all(|number| *number < 4) && group.windows(2).all(|pair| pair[0] <= pair[1]);
            prop_assert_eq!(group_rule(&group, group.len() as u32, 4, "groups").is_ok(), right);
        }
    }
}
