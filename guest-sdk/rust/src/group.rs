//! Groupers of typed rows: all rows of a key at once, from one input or from two.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use crate::Row;
use crate::batch::{Batch, OwnedBatch};
use crate::builder::{BuildRow, Sizes};
use crate::function::rows;
use crate::role::{Call, Failure, Grouped, Grouper, GrouperOutput, GrouperPlan, Refusal, Rejection, Step};
use crate::row::{ReadRow, Rows};
use crate::schema::Schema;

/// The key of an operator that does not look at it: it fits every step, whatever its keys.
#[derive(Row, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnyKey;

/// The rows of one key, in the order in which they came. A clone starts where the original stands.
pub struct GroupRows<'a, R: ReadRow<'a>> {
    rows: Rows<'a, R>,
    rest: Range<usize>,
    /// How many of the rest can be read: the others have been rejected.
    n_left: usize,
    input: u32,
}

/// Which row it is, for [`GroupEmitter::reject`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowId {
    input: u32,
    row: u32,
}

impl<'a, R: ReadRow<'a>> GroupRows<'a, R> {
    /// Every row that is left, each with what it takes to reject it.
    pub fn with_ids(self) -> impl Iterator<Item = (RowId, R)> {
        let Self { rows, rest, input, .. } = self;
        rest.filter_map(move |row| rows.get(row).map(|value| (RowId { input, row: row as u32 }, value)))
    }
}

impl<'a, R: ReadRow<'a>> Iterator for GroupRows<'a, R> {
    type Item = R;

    #[inline]
    fn next(&mut self) -> Option<R> {
        let row = self.rest.by_ref().find_map(|row| self.rows.get(row))?;
        self.n_left -= 1;
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.n_left, Some(self.n_left))
    }
}

impl<'a, R: ReadRow<'a>> ExactSizeIterator for GroupRows<'a, R> {}

impl<'a, R: ReadRow<'a>> Clone for GroupRows<'a, R> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), rest: self.rest.clone(), n_left: self.n_left, input: self.input }
    }
}

impl<'a, R: ReadRow<'a>> fmt::Debug for GroupRows<'a, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupRows").field("n_left", &self.n_left).field("input", &self.input).finish_non_exhaustive()
    }
}

/// Takes what is emitted for a key. The host adds the key's columns to each row.
pub struct GroupEmitter<R: Row> {
    rows: R::RowBuilder,
    group: Vec<u32>,
    current: u32,
    rejected: Vec<Vec<Rejection>>,
    row: PhantomData<fn(R)>,
}

impl<R: Row> GroupEmitter<R> {
    pub(crate) fn start(sizes: &Sizes, n_groups: usize, n_inputs: usize) -> Self {
        let mut hints = sizes.hints(n_groups);
        let rejected = vec![Vec::new(); n_inputs];
        Self { rows: R::RowBuilder::with_hints(&mut hints), group: Vec::new(), current: 0, rejected, row: PhantomData }
    }

    pub(crate) fn set_current(&mut self, group: usize) {
        self.current = group as u32;
    }

    /// Emits a row for the key.
    #[inline]
    pub fn emit(&mut self, row: R::With<'_>) {
        self.group.push(self.current);
        row.push_row(&mut self.rows);
    }

    /// Rejects a row of the key, whose id [`GroupRows::with_ids`] gives. What was emitted before stays.
    #[cold]
    pub fn reject(&mut self, id: RowId, reason: impl fmt::Display) {
        self.reject_row(id.input, id.row as usize, reason.to_string());
    }

    fn reject_row(&mut self, input: u32, row: usize, reason: String) {
        self.rejected[input as usize].push(Rejection { row: row as u32, reason });
    }

    pub(crate) fn finish(mut self, sizes: &mut Sizes, n_groups: usize) -> GrouperOutput {
        for rejected in &mut self.rejected {
            // A row has one reason: the first.
            rejected.sort_by_key(|rejection| rejection.row);
            rejected.dedup_by_key(|rejection| rejection.row);
        }
        let mut rows = OwnedBatch { rows: self.group.len() as u32, ..OwnedBatch::default() };
        self.rows.finish(&mut rows);
        sizes.learn(n_groups, &rows);
        GrouperOutput { rows, group: self.group, rejected: self.rejected }
    }
}

impl<R: Row> fmt::Debug for GroupEmitter<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_rows = self.group.len();
        f.debug_struct("GroupEmitter")
            .field("n_rows", &n_rows)
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

/// Cuts the rows of one input into those of each key, and rejects those that cannot be read.
pub(crate) struct Cut<'a, R: ReadRow<'a>> {
    rows: Rows<'a, R>,
    ends: &'a [u32],
    input: u32,
    may_be_null: bool,
}

impl<'a, R: ReadRow<'a>> Cut<'a, R> {
    pub(crate) fn new(batch: Batch<'a>, ends: &'a [u32], input: u32) -> Result<Self, Failure> {
        let may_be_null = batch.nodes().iter().any(|node| node.null_count > 0);
        Ok(Self { rows: rows(batch)?, ends, input, may_be_null })
    }

    /// The rows of a group. Those with a null that has no place are rejected.
    pub(crate) fn group<O: Row>(&self, group: usize, out: &mut GroupEmitter<O>) -> GroupRows<'a, R> {
        let rest = self.range(group);
        let mut n_left = rest.len();
        if self.may_be_null {
            for row in rest.clone().filter(|&row| self.rows.get(row).is_none()) {
                out.reject_row(self.input, row, self.rows.null_reason(row));
                n_left -= 1;
            }
        }
        GroupRows { rows: self.rows.clone(), rest, n_left, input: self.input }
    }

    /// Whether a group has rows at all, be they such as can be read or not.
    pub(crate) fn has_rows(&self, group: usize) -> bool {
        !self.range(group).is_empty()
    }

    /// Rejects the rows of a group whose key cannot be read.
    pub(crate) fn reject_group<O: Row>(&self, group: usize, reason: &str, out: &mut GroupEmitter<O>) {
        for row in self.range(group) {
            out.reject_row(self.input, row, reason.to_owned());
        }
    }

    fn range(&self, group: usize) -> Range<usize> {
        let start = if group == 0 { 0 } else { self.ends[group - 1] };
        start as usize..self.ends[group] as usize
    }
}

/// Why a key cannot be read.
pub(crate) fn key_reason<'a, K: ReadRow<'a>>(keys: &Rows<'a, K>, index: usize) -> String {
    format!("key {}", keys.null_reason(index))
}

/// Checks that a step's keys have the columns of `K`.
pub(crate) fn check_keys<'a, K: ReadRow<'a>>(keys: &Schema) -> Result<(), Refusal> {
    K::check(keys).map_err(|refusal| Refusal::Schema(format!("among the keys, {refusal}")))
}

/// Checks that an input has the columns of `R`. Answers their names.
pub(crate) fn check_values<'a, R: ReadRow<'a>>(values: &Schema, keys: &Schema) -> Result<Vec<String>, Refusal> {
    let names: Vec<_> = R::fields().into_iter().map(|field| field.name).collect();
    if let Some(name) = names.iter().find(|name| values.find(name).is_none() && keys.find(name).is_some()) {
        return Err(Refusal::Schema(format!("column `{name}` is a key of the step, and is expected not to be one")));
    }
    R::check(values)?;
    Ok(names)
}

/// A grouper of typed rows: gets all rows of a key at once, and emits rows. Put `#[operator]` on the `impl`.
///
/// The columns of [`Group::Key`] are read of the step's keys; the host puts all of them before the columns that are
/// emitted. [`AnyKey`] reads none.
///
/// # Examples
///
/// ```
/// use tidemill_guest::{AnyKey, Group, GroupEmitter, GroupRows, Refusal, Row, Step, operator, testing};
///
/// #[derive(Row)]
/// struct Reading {
///     degrees: f64,
/// }
///
/// #[derive(Row)]
/// struct Median {
///     median: f64,
/// }
///
/// struct MedianOf;
///
/// #[operator]
/// impl Group for MedianOf {
///     type Key<'a> = AnyKey;
///     type Input<'a> = Reading;
///     type Output = Median;
///
///     fn open(_: &Step) -> Result<Self, Refusal> {
///         Ok(MedianOf)
///     }
///     fn group(&mut self, _: AnyKey, rows: GroupRows<'_, Reading>, out: &mut GroupEmitter<Median>) {
///         let mut degrees: Vec<_> = rows.map(|row| row.degrees).collect();
///         degrees.sort_by(f64::total_cmp);
///         out.emit(Median { median: degrees[degrees.len() / 2] });
///     }
/// }
///
/// # fn main() {
/// let reading = |degrees| Reading { degrees };
/// let groups = [(AnyKey, vec![reading(3.0), reading(1.0), reading(2.0)]), (AnyKey, vec![reading(7.0)])];
/// let ran = testing::group(&MedianOf::operator(), "{}", groups).unwrap();
/// assert_eq!(ran.column::<f64>("median"), [Some(2.0), Some(7.0)]);
/// # }
/// ```
pub trait Group: Sized {
    /// What is read of the key.
    type Key<'a>: ReadRow<'a>;
    /// What is read of a row.
    type Input<'a>: ReadRow<'a>;
    /// What is emitted, without the key.
    type Output: Row;

    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step) -> Result<Self, Refusal>;

    /// Processes the rows of a key, of which there are some. Those with a null that has no place have been rejected.
    fn group<'a>(
        &mut self,
        key: Self::Key<'a>,
        rows: GroupRows<'a, Self::Input<'a>>,
        out: &mut GroupEmitter<Self::Output>,
    );
}

/// A grouper of typed rows of two inputs: gets all rows that a key has in both. Put `#[operator]` on the `impl`.
///
/// Where a key has rows in one input alone, the other's are none. Everything else is as with [`Group`].
///
/// # Examples
///
/// ```
/// use tidemill_guest::{AnyKey, CoGroup, GroupEmitter, GroupRows, Refusal, Row, Step, operator, testing};
///
/// #[derive(Row)]
/// struct Order {
///     amount: f64,
/// }
///
/// #[derive(Row)]
/// struct Payment {
///     paid: f64,
/// }
///
/// #[derive(Row)]
/// struct Balance {
///     owed: f64,
/// }
///
/// struct Owed;
///
/// #[operator]
/// impl CoGroup for Owed {
///     type Key<'a> = AnyKey;
///     type Left<'a> = Order;
///     type Right<'a> = Payment;
///     type Output = Balance;
///
///     fn open(_: &Step) -> Result<Self, Refusal> {
///         Ok(Owed)
///     }
///     fn cogroup(
///         &mut self,
///         _: AnyKey,
///         orders: GroupRows<'_, Order>,
///         payments: GroupRows<'_, Payment>,
///         out: &mut GroupEmitter<Balance>,
///     ) {
///         let (ordered, paid): (f64, f64) = (orders.map(|o| o.amount).sum(), payments.map(|p| p.paid).sum());
///         out.emit(Balance { owed: ordered - paid });
///     }
/// }
///
/// # fn main() {
/// let keys = [
///     (AnyKey, vec![Order { amount: 5.0 }, Order { amount: 2.0 }], vec![Payment { paid: 4.0 }]),
///     (AnyKey, vec![], vec![Payment { paid: 1.0 }]),
/// ];
/// let ran = testing::cogroup(&Owed::operator(), "{}", keys).unwrap();
/// assert_eq!(ran.column::<f64>("owed"), [Some(3.0), Some(-1.0)]);
/// # }
/// ```
pub trait CoGroup: Sized {
    /// What is read of the key.
    type Key<'a>: ReadRow<'a>;
    /// What is read of a row of the first input.
    type Left<'a>: ReadRow<'a>;
    /// What is read of a row of the second input.
    type Right<'a>: ReadRow<'a>;
    /// What is emitted, without the key.
    type Output: Row;

    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what would be right.
    fn open(step: &Step) -> Result<Self, Refusal>;

    /// Processes the rows that a key has in both inputs, of which there are some in one.
    fn cogroup<'a>(
        &mut self,
        key: Self::Key<'a>,
        left: GroupRows<'a, Self::Left<'a>>,
        right: GroupRows<'a, Self::Right<'a>>,
        out: &mut GroupEmitter<Self::Output>,
    );
}

fn inputs_refusal(n_expected: usize, n_found: usize) -> Refusal {
    let inputs = if n_expected == 1 { "one input".to_owned() } else { format!("{n_expected} inputs") };
    Refusal::Other(format!("it groups {inputs}, and the step has {n_found}"))
}

/// A [`Group`] as a [`Grouper`].
#[derive(Debug)]
pub struct Grouping<G> {
    operator: G,
    sizes: Sizes,
}

impl<G: Group> Grouper for Grouping<G> {
    fn open(step: &Step, keys: &Schema, inputs: &[Schema]) -> Result<(GrouperPlan, Self), Refusal> {
        let [input] = inputs else { return Err(inputs_refusal(1, inputs.len())) };
        let operator = G::open(step)?;
        check_keys::<G::Key<'_>>(keys)?;
        let reads = vec![Some(check_values::<G::Input<'_>>(input, keys)?)];
        let plan = GrouperPlan { reads, writes: G::Output::schema() };
        Ok((plan, Self { operator, sizes: Sizes::default() }))
    }

    fn process(&mut self, _: &Call, keys: Batch<'_>, inputs: &[Grouped<'_>]) -> Result<GrouperOutput, Failure> {
        let [input] = inputs else { return Err("it was not called with one input".into()) };
        let n_groups = keys.n_rows();
        let keys = rows::<G::Key<'_>>(keys)?;
        let input = Cut::<G::Input<'_>>::new(input.rows, input.ends, 0)?;
        let mut out = GroupEmitter::start(&self.sizes, n_groups, 1);
        for group in 0..n_groups {
            out.set_current(group);
            match keys.get(group) {
                Some(key) => {
                    let rows = input.group(group, &mut out);
                    if rows.len() > 0 {
                        self.operator.group(key, rows, &mut out);
                    }
                }
                None => input.reject_group(group, &key_reason(&keys, group), &mut out),
            }
        }
        Ok(out.finish(&mut self.sizes, n_groups))
    }
}

/// A [`CoGroup`] as a [`Grouper`].
#[derive(Debug)]
pub struct CoGrouping<G> {
    operator: G,
    sizes: Sizes,
}

impl<G: CoGroup> Grouper for CoGrouping<G> {
    fn open(step: &Step, keys: &Schema, inputs: &[Schema]) -> Result<(GrouperPlan, Self), Refusal> {
        let [left, right] = inputs else { return Err(inputs_refusal(2, inputs.len())) };
        let operator = G::open(step)?;
        check_keys::<G::Key<'_>>(keys)?;
        let of = |which: &str, reads: Result<Vec<String>, Refusal>| {
            reads.map(Some).map_err(|refusal| Refusal::Schema(format!("in the {which} input, {refusal}")))
        };
        let reads = vec![
            of("first", check_values::<G::Left<'_>>(left, keys))?,
            of("second", check_values::<G::Right<'_>>(right, keys))?,
        ];
        let plan = GrouperPlan { reads, writes: G::Output::schema() };
        Ok((plan, Self { operator, sizes: Sizes::default() }))
    }

    fn process(&mut self, _: &Call, keys: Batch<'_>, inputs: &[Grouped<'_>]) -> Result<GrouperOutput, Failure> {
        let [left, right] = inputs else { return Err("it was not called with two inputs".into()) };
        let n_groups = keys.n_rows();
        let keys = rows::<G::Key<'_>>(keys)?;
        let left = Cut::<G::Left<'_>>::new(left.rows, left.ends, 0)?;
        let right = Cut::<G::Right<'_>>::new(right.rows, right.ends, 1)?;
        let mut out = GroupEmitter::start(&self.sizes, n_groups, 2);
        for group in 0..n_groups {
            out.set_current(group);
            match keys.get(group) {
                Some(key) => {
                    let (left, right) = (left.group(group, &mut out), right.group(group, &mut out));
                    if left.len() + right.len() > 0 {
                        self.operator.cogroup(key, left, right, &mut out);
                    }
                }
                None => {
                    let reason = key_reason(&keys, group);
                    left.reject_group(group, &reason, &mut out);
                    right.reject_group(group, &reason, &mut out);
                }
            }
        }
        Ok(out.finish(&mut self.sizes, n_groups))
    }
}
