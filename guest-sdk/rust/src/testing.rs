//! Runs operators in tests: rows in, rows out, without a host.
//!
//! ```
//! use tidemill_guest::{Row, operator, testing};
//!
//! #[derive(Row)]
//! struct Number {
//!     n: i64,
//! }
//!
//! #[operator]
//! fn double(number: Number) -> Number {
//!     Number { n: 2 * number.n }
//! }
//!
//! # fn main() {
//! let ran = testing::transform(&double::operator(), "{}", [Number { n: 1 }, Number { n: 2 }]).unwrap();
//! assert_eq!(ran.column::<i64>("n"), [Some(2), Some(4)]);
//! # }
//! ```

use std::error::Error;

use crate::batch::{Batch, OwnedBatch};
use crate::native::Operator;
use crate::role::{
    Call, Calling, Grouped, Output, Rejection, Step, Timeouts, Updater, UpdaterInput, UpdaterOutput, UpdaterPlan,
};
use crate::row::{ReadRow, Row, Rows};
use crate::schema::Schema;
use crate::value::{Read, TimestampUs};

/// Why a run has no result: a refusal, a failure, a role that the operator does not have, a batch against the contract.
pub type RunError = Box<dyn Error + Send + Sync>;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The schema of the rows.
    pub schema: Schema,
    /// The rows.
    pub rows: OwnedBatch,
    /// For each row the row of the input that it came from, as a transform says it; the group, as a grouper does.
    pub origin: Option<Vec<u32>>,
    /// Rows of the input that were rejected. Of two inputs, the rows of the second are counted after those of the first.
    pub rejected: Vec<Rejection>,
}

impl Ran {
    fn new(schema: Schema, output: Output) -> Result<Self, RunError> {
        let Output { rows, origin, rejected } = output;
        Batch::checked(&schema, rows.rows, &rows.nodes, &rows.slices())?;
        Ok(Self { schema, rows, origin, rejected })
    }

    /// The values of a column, `None` where one is null.
    ///
    /// # Panics
    ///
    /// When there is no column of this name and type.
    #[must_use]
    #[track_caller]
    pub fn column<T: for<'a> Read<'a>>(&self, name: &str) -> Vec<Option<T>> {
        let buffers = self.rows.slices();
        match Batch::checked(&self.schema, self.rows.rows, &self.rows.nodes, &buffers) {
            Ok(batch) => match batch.column(name).and_then(|column| column.read::<T>()) {
                Some(column) => (0..batch.n_rows()).map(|index| T::get(&column, index)).collect(),
                None => panic!("no column `{name}` of this type: the rows have {}", self.schema),
            },
            Err(rule) => panic!("{rule}"),
        }
    }

    /// The rows that were rejected, as numbers and reasons.
    #[must_use]
    pub fn rejections(&self) -> Vec<(u32, &str)> {
        self.rejected.iter().map(|rejection| (rejection.row, rejection.reason.as_str())).collect()
    }
}

/// The step that an operator is told it runs in.
#[must_use]
pub fn step(config: &str) -> Step {
    Step { job: "test".into(), step: "step".into(), partitions: 1, config: config.into() }
}

/// Opens a transform, and processes rows in one call.
///
/// # Errors
///
/// See [`RunError`].
pub fn transform<R: Row>(
    operator: &Operator,
    config: &str,
    rows: impl IntoIterator<Item = R>,
) -> Result<Ran, RunError> {
    let open = operator.as_transform().ok_or("the operator is not a transform")?;
    let input = R::batch(rows);
    let schema = R::schema();
    let (plan, mut transform) = open(&step(config), &schema)?;
    let (schema, input) = select(schema, input, plan.reads.as_deref())?;
    let buffers = input.slices();
    let batch = Batch::checked(&schema, input.rows, &input.nodes, &buffers)?;
    let output = transform.process(&Call::default(), batch)?;
    Ran::new(plan.writes, output)
}

/// Opens a reducer, and reduces groups: `ends[i]` is the exclusive end of group i among the rows.
///
/// # Errors
///
/// See [`RunError`].
pub fn reduce<R: Row>(
    operator: &Operator,
    config: &str,
    rows: impl IntoIterator<Item = R>,
    ends: &[u32],
) -> Result<Ran, RunError> {
    let open = operator.as_reducer().ok_or("the operator is not a reducer")?;
    let (schema, input) = (R::schema(), R::batch(rows));
    let (_, mut reducer) = open(&step(config), &schema)?;
    let buffers = input.slices();
    let batch = Batch::checked(&schema, input.rows, &input.nodes, &buffers)?;
    let rows = reducer.reduce(&Call::default(), batch, ends)?;
    Ran::new(schema, Output { rows, ..Output::default() })
}

/// Opens a reducer, and takes `part` out of `whole`, row by row. `Ok(None)` when it says that it cannot.
///
/// # Errors
///
/// See [`RunError`].
pub fn invert<R: Row>(
    operator: &Operator,
    config: &str,
    whole: impl IntoIterator<Item = R>,
    part: impl IntoIterator<Item = R>,
) -> Result<Option<Ran>, RunError> {
    let open = operator.as_reducer().ok_or("the operator is not a reducer")?;
    let (schema, whole, part) = (R::schema(), R::batch(whole), R::batch(part));
    let (invertible, mut reducer) = open(&step(config), &schema)?;
    if !invertible {
        return Ok(None);
    }
    let (whole_buffers, part_buffers) = (whole.slices(), part.slices());
    let whole = Batch::checked(&schema, whole.rows, &whole.nodes, &whole_buffers)?;
    let part = Batch::checked(&schema, part.rows, &part.nodes, &part_buffers)?;
    let rows = reducer.invert(&Call::default(), whole, part)?;
    Ran::new(schema, Output { rows, ..Output::default() }).map(Some)
}

/// Opens an aggregator, and aggregates groups: each row by itself, the accumulators of a group merged, and finished.
///
/// # Errors
///
/// See [`RunError`].
pub fn aggregate<R: Row>(
    operator: &Operator,
    config: &str,
    rows: impl IntoIterator<Item = R>,
    ends: &[u32],
) -> Result<Ran, RunError> {
    let open = operator.as_aggregator().ok_or("the operator is not an aggregator")?;
    let (schema, input) = (R::schema(), R::batch(rows));
    let (plan, mut aggregator) = open(&step(config), &schema)?;
    let (schema, input) = select(schema, input, plan.reads.as_deref())?;
    let call = Call::default();
    let buffers = input.slices();
    let batch = Batch::checked(&schema, input.rows, &input.nodes, &buffers)?;
    let single: Vec<u32> = (1..=input.rows).collect();
    let singles = aggregator.accumulate(&call, batch, &single)?;
    let buffers = singles.slices();
    let batch = Batch::checked(&plan.accumulator, singles.rows, &singles.nodes, &buffers)?;
    let merged = aggregator.merge(&call, batch, ends)?;
    let buffers = merged.slices();
    let batch = Batch::checked(&plan.accumulator, merged.rows, &merged.nodes, &buffers)?;
    let rows = aggregator.finish(&call, batch)?;
    Ran::new(plan.result, Output { rows, ..Output::default() })
}

/// Opens a grouper of one input, and groups in one call: each key with its rows.
///
/// # Errors
///
/// See [`RunError`].
pub fn group<K: Row, R: Row>(
    operator: &Operator,
    config: &str,
    groups: impl IntoIterator<Item = (K, Vec<R>)>,
) -> Result<Ran, RunError> {
    let (keys, rows): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
    run_grouper(operator, config, keys, vec![GroupedInput::new(rows)])
}

/// Opens a grouper of two inputs, and groups in one call: each key with its rows in the first, and in the second.
///
/// # Errors
///
/// See [`RunError`].
pub fn cogroup<K: Row, L: Row, R: Row>(
    operator: &Operator,
    config: &str,
    groups: impl IntoIterator<Item = (K, Vec<L>, Vec<R>)>,
) -> Result<Ran, RunError> {
    let (mut keys, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for (key, of_left, of_right) in groups {
        keys.push(key);
        left.push(of_left);
        right.push(of_right);
    }
    run_grouper(operator, config, keys, vec![GroupedInput::new(left), GroupedInput::new(right)])
}

/// The rows of an input of a grouper.
struct GroupedInput {
    schema: Schema,
    rows: OwnedBatch,
    ends: Vec<u32>,
}

impl GroupedInput {
    fn new<R: Row>(groups: Vec<Vec<R>>) -> Self {
        let ends = ends(&groups);
        Self { schema: R::schema(), rows: R::batch(groups.into_iter().flatten()), ends }
    }
}

fn ends<R>(groups: &[Vec<R>]) -> Vec<u32> {
    let end = |end: &mut u32, group: &Vec<R>| {
        *end += group.len() as u32;
        Some(*end)
    };
    groups.iter().scan(0, end).collect()
}

fn run_grouper<K: Row>(
    operator: &Operator,
    config: &str,
    keys: Vec<K>,
    inputs: Vec<GroupedInput>,
) -> Result<Ran, RunError> {
    let open = operator.as_grouper().ok_or("the operator is not a grouper")?;
    let (key_schema, n_groups) = (K::schema(), keys.len());
    let schemas: Vec<_> = inputs.iter().map(|input| input.schema.clone()).collect();
    let (plan, mut grouper) = open(&step(config), &key_schema, &schemas)?;
    if plan.reads.len() != inputs.len() {
        return Err(format!("`reads` is for {} inputs, and there are {}", plan.reads.len(), inputs.len()).into());
    }
    let select = |(input, reads): (GroupedInput, &Option<Vec<String>>)| -> Result<_, RunError> {
        let (schema, rows) = select(input.schema, input.rows, reads.as_deref())?;
        Ok(GroupedInput { schema, rows, ends: input.ends })
    };
    let inputs = inputs.into_iter().zip(&plan.reads).map(select).collect::<Result<Vec<_>, _>>()?;
    let buffers: Vec<_> = inputs.iter().map(|input| input.rows.slices()).collect();
    let mut batches = Vec::with_capacity(inputs.len());
    for (input, buffers) in inputs.iter().zip(&buffers) {
        let GroupedInput { schema, rows, ends } = input;
        batches.push((Batch::checked(schema, rows.rows, &rows.nodes, buffers)?, ends));
    }
    let grouped: Vec<_> = batches.iter().map(|&(rows, ends)| Grouped { rows, ends }).collect();
    let keys = K::batch(keys);
    let buffers = keys.slices();
    let keys = Batch::checked(&key_schema, keys.rows, &keys.nodes, &buffers)?;
    let output = grouper.process(&Call::default(), keys, &grouped)?;
    check_groups(&output.group, output.rows.rows, n_groups)?;
    let n_before = std::iter::once(0).chain(inputs.iter().map(|input| input.rows.rows));
    let rejected = output.rejected.into_iter().zip(n_before).flat_map(|(rejected, n_before)| {
        rejected.into_iter().map(move |rejection| Rejection { row: rejection.row + n_before, ..rejection })
    });
    let rejected = rejected.collect();
    Ran::new(plan.writes, Output { rows: output.rows, origin: Some(output.group), rejected })
}

/// That each row of the output has a group, in order.
fn check_groups(group: &[u32], n_rows: u32, n_groups: usize) -> Result<(), RunError> {
    let in_range = group.iter().all(|number| (*number as usize) < n_groups);
    if group.len() == n_rows as usize && group.is_sorted() && in_range {
        return Ok(());
    }
    Err(format!("`group` is {group:?}, for {n_rows} rows of {n_groups} groups").into())
}

/// Opens an updater whose keys are rows of `K`, whose values are rows of `R`, and which keeps rows of `S`.
///
/// # Errors
///
/// See [`RunError`].
pub fn update<K, R, S>(operator: &Operator, config: &str) -> Result<Updates<K, R, S>, RunError>
where
    K: Row + Clone + PartialEq,
    R: Row,
    S: Row + for<'a> ReadRow<'a> + Clone,
{
    let open = operator.as_updater().ok_or("the operator is not an updater")?;
    let (plan, updater) = open(&step(config), &K::schema(), &R::schema())?;
    if plan.state != S::schema() {
        return Err(format!("the operator keeps {}, not {}", plan.state, S::schema()).into());
    }
    Ok(Updates { plan, updater, kept: Vec::new(), batch_id: 0, values: std::marker::PhantomData })
}

/// An updater that runs batches, with the state that it keeps from one to the next: what a host does, in small.
pub struct Updates<K, R, S> {
    plan: UpdaterPlan,
    updater: Box<dyn Updater + Send>,
    kept: Vec<Kept<K, S>>,
    batch_id: u64,
    values: std::marker::PhantomData<fn(R)>,
}

/// What is kept of a key.
struct Kept<K, S> {
    key: K,
    state: S,
    timeout_us: Option<i64>,
}

/// What came of a batch of an updater.
#[derive(Debug, Clone)]
pub struct UpdateRan<K> {
    calls: Vec<Ran>,
    keys: Vec<K>,
}

impl<K: Clone> UpdateRan<K> {
    /// The values of a column, `None` where one is null.
    ///
    /// # Panics
    ///
    /// When there is no column of this name and type.
    #[must_use]
    #[track_caller]
    pub fn column<T: for<'a> Read<'a>>(&self, name: &str) -> Vec<Option<T>> {
        let mut values = Vec::new();
        for ran in &self.calls {
            values.extend(ran.column(name));
        }
        values
    }

    /// The key of each row.
    #[must_use]
    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    /// The rows that were rejected, as numbers among the values of the batch and reasons.
    #[must_use]
    pub fn rejections(&self) -> Vec<(u32, &str)> {
        self.calls.iter().flat_map(Ran::rejections).collect()
    }
}

impl<K, R, S> Updates<K, R, S>
where
    K: Row + Clone + PartialEq,
    R: Row,
    S: Row + for<'a> ReadRow<'a> + Clone,
{
    /// Runs a batch: keys, each once, with their new rows. Its time and its watermark are `time`.
    ///
    /// First come the keys with rows (and every other that has state, when the operator asks for every key), then those
    /// whose timeout is due.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub fn run(
        &mut self,
        time: TimestampUs,
        rows: impl IntoIterator<Item = (K, Vec<R>)>,
    ) -> Result<UpdateRan<K>, RunError> {
        let call =
            Call { batch_id: self.batch_id, batch_time_us: time.0, watermark_us: Some(time.0), ..Call::default() };
        self.batch_id += 1;
        let is_due = |kept: &Kept<K, S>| kept.timeout_us.is_some_and(|timeout_us| timeout_us <= time.0);
        let mut with_rows: Vec<_> = rows.into_iter().map(|(key, rows)| (key, rows, false)).collect();
        if self.plan.calling == Calling::EveryKey {
            let others = self.kept.iter().filter(|kept| !is_due(kept));
            let others = others.filter(|kept| with_rows.iter().all(|(key, ..)| *key != kept.key));
            let others: Vec<_> = others.map(|kept| (kept.key.clone(), Vec::new(), false)).collect();
            with_rows.extend(others);
        }
        let called_without_rows: Vec<_> =
            with_rows.iter().filter(|(_, rows, _)| rows.is_empty()).map(|(key, ..)| key.clone()).collect();
        let mut ran = UpdateRan { calls: Vec::new(), keys: Vec::new() };
        self.call(&call, with_rows, &mut ran)?;
        let mut due = Vec::new();
        for kept in self.kept.iter_mut().filter(|kept| is_due(kept) && !called_without_rows.contains(&kept.key)) {
            kept.timeout_us = None;
            due.push((kept.key.clone(), Vec::new(), true));
        }
        self.call(&call, due, &mut ran)?;
        Ok(ran)
    }

    /// The state of a key.
    #[must_use]
    pub fn state(&self, key: &K) -> Option<&S> {
        self.kept.iter().find(|kept| kept.key == *key).map(|kept| &kept.state)
    }

    /// When a key times out.
    #[must_use]
    pub fn timeout(&self, key: &K) -> Option<TimestampUs> {
        self.kept.iter().find(|kept| kept.key == *key)?.timeout_us.map(TimestampUs)
    }

    /// The keys that have state.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.kept.iter().map(|kept| &kept.key)
    }

    fn call(&mut self, call: &Call, keys: Vec<(K, Vec<R>, bool)>, ran: &mut UpdateRan<K>) -> Result<(), RunError> {
        if keys.is_empty() {
            return Ok(());
        }
        let (mut names, mut values, mut timed_out) = (Vec::new(), Vec::new(), Vec::new());
        for (key, rows, is_timed_out) in keys {
            if names.contains(&key) {
                return Err("a key is there twice".into());
            }
            names.push(key);
            values.push(rows);
            timed_out.push(u8::from(is_timed_out));
        }
        let found: Vec<_> = names.iter().map(|key| self.state(key).cloned()).collect();
        let has_state: Vec<_> = found.iter().map(|state| u8::from(state.is_some())).collect();
        let ends = ends(&values);

        let (key_schema, keys) = (K::schema(), K::batch(names.iter().cloned()));
        let (schema, values) = select(R::schema(), R::batch(values.into_iter().flatten()), self.plan.reads.as_deref())?;
        let (state_schema, states) = (S::schema(), S::batch(found.into_iter().flatten()));
        let buffers = (keys.slices(), values.slices(), states.slices());
        let input = UpdaterInput {
            keys: Batch::checked(&key_schema, keys.rows, &keys.nodes, &buffers.0)?,
            values: Batch::checked(&schema, values.rows, &values.nodes, &buffers.1)?,
            ends: &ends,
            state: Batch::checked(&state_schema, states.rows, &states.nodes, &buffers.2)?,
            has_state: &has_state,
            timed_out: &timed_out,
        };
        let UpdaterOutput { changes, state, timeouts_us, rows, group, rejected } = self.updater.update(call, &input)?;

        let n_put = changes.iter().filter(|change| **change == 1).count();
        if changes.len() != names.len() || n_put != state.rows as usize || changes.iter().any(|change| *change > 2) {
            return Err(format!("`changes` is {changes:?}, for {} keys and {} states", names.len(), state.rows).into());
        }
        let timeouts_us = timeouts_us.unwrap_or_else(|| vec![i64::MIN; names.len()]);
        if timeouts_us.len() != names.len()
            || self.plan.timeouts == Timeouts::Never && timeouts_us.iter().any(|number| *number != i64::MIN)
        {
            return Err(format!("`timeouts-us` is {timeouts_us:?}, for {} keys", names.len()).into());
        }
        check_groups(&group, rows.rows, names.len())?;
        let buffers = state.slices();
        let states = Batch::checked(&state_schema, state.rows, &state.nodes, &buffers)?;
        let states = Rows::<S>::new(states)?;
        let mut next = 0;
        for ((key, change), timeout_us) in names.iter().zip(changes).zip(timeouts_us) {
            let at = self.kept.iter().position(|kept| kept.key == *key);
            match (change, at) {
                (1, _) => {
                    let state = states.get(next).ok_or("a state has a null that has no place")?;
                    next += 1;
                    match at {
                        Some(at) => self.kept[at].state = state,
                        None => self.kept.push(Kept { key: key.clone(), state, timeout_us: None }),
                    }
                }
                (2, Some(at)) => drop(self.kept.remove(at)),
                _ => {}
            }
            let kept = self.kept.iter_mut().find(|kept| kept.key == *key);
            match (timeout_us, kept) {
                (i64::MIN, _) | (i64::MAX, None) => {}
                (i64::MAX, Some(kept)) => kept.timeout_us = None,
                (at, Some(kept)) => kept.timeout_us = Some(at),
                (_, None) => return Err("a timeout is set for a key without state".into()),
            }
        }
        ran.keys.extend(group.iter().map(|&key| names[key as usize].clone()));
        let output = Output { rows, origin: Some(group), rejected };
        ran.calls.push(Ran::new(self.plan.writes.clone(), output)?);
        Ok(())
    }
}

impl<K, R, S> std::fmt::Debug for Updates<K, R, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Updates").field("plan", &self.plan).field("n_keys", &self.kept.len()).finish_non_exhaustive()
    }
}

/// The columns that a plan reads, in its order.
fn select(schema: Schema, input: OwnedBatch, reads: Option<&[String]>) -> Result<(Schema, OwnedBatch), RunError> {
    let Some(names) = reads else { return Ok((schema, input)) };
    let missing = |name: &String| format!("the operator reads `{name}`, the input has {schema}");
    let order = names
        .iter()
        .map(|name| schema.find(name).map(|(index, _)| index).ok_or_else(|| missing(name)))
        .collect::<Result<Vec<_>, _>>()?;
    let selected = Schema::new(order.iter().map(|&index| schema.fields[index].clone()).collect());
    Ok((selected, input.reorder(&schema, &order)))
}
