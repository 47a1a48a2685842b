//! Keys with their state against a model that holds them in a map.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::event_time::Watermark;
use crate::ids::BatchId;
use crate::job::{DeadLetters, OnError, OperatorRef, Settings};
use crate::operator::{
    Call, CallError, CallSite, Calling, Change, OpenError, Operator, Role, StepInfo, TimeoutChange, UpdaterInput,
    UpdaterOutput,
};
use crate::step::test_rows::{Cut, cut, flat, map_tasks, schema, settings, sorted};
use crate::step::testing::{DefinitionRun, TestBatch, groups, numbers_aside, texts, too_much};

/// What becomes of a key: the sum that it has then, if it has one, and its timeout, if it is to be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decided {
    sum: Option<i64>,
    timeout: TimeoutChange,
}

/// The rule that the operator and the model share: it does everything that an updater can do.
fn decide(sum: Option<i64>, values: &[Option<i64>], n_rows: usize, timed_out: bool) -> Decided {
    let decided = |sum, timeout| Decided { sum, timeout };
    if n_rows > 0 {
        let total = sum.unwrap_or(0) + values.iter().flatten().sum::<i64>();
        return match values.last().copied().flatten() {
            Some(-5) => decided(None, TimeoutChange::Keep),
            Some(-4) => decided(sum, TimeoutChange::Keep),
            Some(-3) => decided(Some(total), TimeoutChange::Clear),
            // Times that have passed are among them.
            Some(last) => decided(Some(total), TimeoutChange::Set(last)),
            None => decided(Some(total), TimeoutChange::Keep),
        };
    }
    match sum {
        Some(sum) if timed_out => match sum.rem_euclid(3) {
            0 => decided(None, TimeoutChange::Keep),
            1 => decided(Some(sum), TimeoutChange::Keep),
            // Due again, in the next batch.
            _ => decided(Some(sum + 2), TimeoutChange::Set(-100)),
        },
        Some(sum) if sum.rem_euclid(7) == 0 => decided(None, TimeoutChange::Keep),
        sum => decided(sum, TimeoutChange::Keep),
    }
}

#[derive(Debug)]
struct Sums {
    calling: Calling,
    timeouts: Timeouts,
    /// Calls with more keys return too much.
    keys_max: usize,
    /// A row with this value makes its call fail.
    bad: Option<i64>,
    /// Keys and rows of the calls that went well.
    calls: Mutex<Vec<(BatchId, usize, usize)>>,
}

#[derive(Debug, Clone)]
struct Registered(Arc<Sums>);

struct Opened {
    sums: Arc<Sums>,
    plan: UpdaterPlan,
    spent: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

impl Operator for Registered {
    fn name(&self) -> &str {
        "sums"
    }

    fn roles(&self) -> Vec<Role> {
        vec![Role::Updater]
    }

    fn open_updater(&self, _: &StepInfo, _: &SchemaRef, values: &SchemaRef) -> Result<Box<dyn Updater>, OpenError> {
        let int = |name| Field::new(name, DataType::Int64, false);
        let plan = UpdaterPlan {
            reads: values.index_of("value").into_iter().collect(),
            state: Arc::new(Schema::new(vec![int("sum")])),
            writes: Arc::new(Schema::new(vec![
                Field::new("why", DataType::Utf8, false),
                Field::new("sum", DataType::Int64, true),
            ])),
            calling: self.0.calling,
            timeouts: self.0.timeouts,
        };
        Ok(Box::new(Opened { sums: self.0.clone(), plan, spent: false }))
    }
}

fn why(n_rows: usize, timed_out: bool) -> &'static str {
    match (n_rows, timed_out) {
        (_, true) => "time",
        (0, false) => "idle",
        _ => "rows",
    }
}

impl Updater for Opened {
    fn plan(&self) -> &UpdaterPlan {
        &self.plan
    }

    fn update(&mut self, call: &Call, input: &UpdaterInput<'_>) -> Result<UpdaterOutput, CallError> {
        assert!(!self.spent, "an instance was used after it failed");
        input.assert_consistent();
        let n_keys = input.keys.num_rows();
        if n_keys > self.sums.keys_max {
            self.spent = true;
            return Err(too_much("sums", call, input.values.num_rows(), format!("{n_keys} keys")));
        }
        if self.sums.bad.is_some() && !input.values.columns().is_empty() {
            let mut values = input.values.column(0).as_primitive::<Int64Type>().iter();
            if values.any(|value| value == self.sums.bad) {
                self.spent = true;
                let site = CallSite {
                    operator: "sums".into(),
                    step: "totals".into(),
                    batch_id: call.batch_id,
                    partition: call.partition,
                    n_rows: input.values.num_rows(),
                };
                return Err(CallError::Trapped { site: Box::new(site), reason: "a bad value".into() });
            }
        }
        self.sums.calls.lock().unwrap().push((call.batch_id, n_keys, input.values.num_rows()));
        let mut states = input.state.column(0).as_primitive::<Int64Type>().iter().flatten();
        let (mut changes, mut timeouts, mut sums, mut whys, mut written) = (vec![], vec![], vec![], vec![], vec![]);
        for (key, group) in groups(input.ends).enumerate() {
            let sum = if input.has_state[key] { states.next() } else { None };
            let values: Vec<Option<i64>> = match input.values.columns() {
                [] => vec![None; group.len()],
                columns => {
                    let values = columns[0].as_primitive::<Int64Type>();
                    group.clone().map(|row| values.is_valid(row).then(|| values.value(row))).collect()
                }
            };
            let Decided { sum: after, timeout } = decide(sum, &values, group.len(), input.timed_out[key]);
            changes.push(match after {
                None if sum.is_none() => Change::Keep,
                None => Change::Remove,
                after if after == sum => Change::Keep,
                Some(after) => {
                    sums.push(after);
                    Change::Put(sums.len() as u32 - 1)
                }
            });
            timeouts.push(if self.plan.timeouts == Timeouts::Never { TimeoutChange::Keep } else { timeout });
            whys.push(why(group.len(), input.timed_out[key]));
            written.push(after);
        }
        let state: ArrayRef = Arc::new(Int64Array::from(sums));
        let rows: Vec<ArrayRef> = vec![Arc::new(StringArray::from(whys)), Arc::new(Int64Array::from(written))];
        Ok(UpdaterOutput {
            changes,
            state: RecordBatch::try_new(self.plan.state.clone(), vec![state]).unwrap(),
            timeouts: (self.plan.timeouts != Timeouts::Never).then_some(timeouts),
            rows: RecordBatch::try_new(self.plan.writes.clone(), rows).unwrap(),
            group: (0..n_keys as u32).collect(),
            rejected: Vec::new(),
        })
    }
}

/// The states of all keys, and what each batch does to them.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Option<u8>, (i64, Option<i64>)>,
}

impl Model {
    fn call(&mut self, key: Option<u8>, values: &[Option<i64>], timed_out: bool, with_timeouts: bool) -> String {
        let before = self.keys.get(&key).copied();
        let timeout = before.and_then(|before| before.1).filter(|_| !timed_out);
        let decided = decide(before.map(|before| before.0), values, values.len(), timed_out);
        match decided.sum {
            None => self.keys.remove(&key),
            Some(sum) => {
                let timeout = match decided.timeout {
                    _ if !with_timeouts => None,
                    TimeoutChange::Keep => timeout,
                    TimeoutChange::Clear => None,
                    TimeoutChange::Set(time) => Some(time),
                };
                self.keys.insert(key, (sum, timeout))
            }
        };
        let sum = decided.sum.map_or("NULL".to_owned(), |sum| sum.to_string());
        let key = key.map_or("NULL".to_owned(), |key| format!("k{key}"));
        format!("{key}|{}|{sum}", why(values.len(), timed_out))
    }

    fn batch(&mut self, cut: &Cut, by_key: bool, due_us: Option<i64>, sums: &Sums) -> Vec<String> {
        let with_timeouts = sums.timeouts != Timeouts::Never;
        let mut rows: BTreeMap<Option<u8>, Vec<Option<i64>>> = BTreeMap::new();
        for ((key, value), _) in flat(cut) {
            rows.entry(key.filter(|_| by_key)).or_default().push(value);
        }
        let mut called: BTreeSet<_> = rows.keys().copied().collect();
        let mut given: Vec<String> =
            rows.iter().map(|(key, values)| self.call(*key, values, false, with_timeouts)).collect();
        let is_due =
            |(_, timeout): &(i64, Option<i64>)| timeout.is_some_and(|time| due_us.is_some_and(|due| time <= due));
        let due: Vec<_> = self.keys.iter().filter(|(_, kept)| is_due(kept)).map(|(key, _)| *key).collect();
        for key in due {
            called.insert(key);
            given.push(self.call(key, &[], true, with_timeouts));
        }
        if sums.calling == Calling::EveryKey {
            let others: Vec<_> = self.keys.keys().filter(|key| !called.contains(key)).copied().collect();
            given.extend(others.into_iter().map(|key| self.call(key, &[], false, with_timeouts)));
        }
        sorted(given)
    }
}

fn step(sums: &Arc<Sums>, by: &[&str], whole_partition: bool) -> UpdateState {
    let operator: Arc<dyn Operator> = Arc::new(Registered(sums.clone()));
    let operator = OperatorStep { whole_partition, ..OperatorStep::new(OperatorRef::Registered(operator)) };
    UpdateState { by: by.iter().map(|name| (*name).to_owned()).collect(), operator, partitions: None }
}

fn sums(calling: Calling, timeouts: Timeouts, keys_max: usize) -> Arc<Sums> {
    Arc::new(Sums { calling, timeouts, keys_max, bad: None, calls: Mutex::default() })
}

proptest! {
    #[test]
    fn keys_have_what_they_were_left_with(
        batches in proptest::collection::vec((cut(), 0_i64..6), 1..6),
        every_key in any::<bool>(),
        timeouts in prop_oneof![Just(Timeouts::Never), Just(Timeouts::BatchTime), Just(Timeouts::EventTime)],
        by_key in any::<bool>(),
        whole_partition in any::<bool>(),
        partitions in 1u32..4,
        keys_max in 1usize..4,
        bytes_per_call in prop_oneof![Just(1000_u64), Just(4 << 20)],
    ) {
        let calling = if every_key { Calling::EveryKey } else { Calling::KeysWithValues };
        let sums = sums(calling, timeouts, if whole_partition { usize::MAX } else { keys_max });
        let by: &[&str] = if by_key { &["key"] } else { &[] };
        let settings = Settings { bytes_per_call, ..settings(partitions) };
        let step = step(&sums, by, whole_partition);
        let mut run = DefinitionRun::plan(&step, &[schema()], &settings, true).expect("it fits");
        let mut model = Model::default();
        let (mut now_us, mut time_us) = (None, 0);
        let n_batches = batches.len();
        for (number, (cut, moves)) in batches.into_iter().enumerate() {
            let closes = number + 1 == n_batches;
            let cut = if closes { Vec::new() } else { cut };
            let late_us = now_us;
            now_us = if closes { Some(i64::MAX) } else if number == 0 { None } else { Some(now_us.unwrap_or(-8) + moves) };
            time_us += moves + 1;
            let watermark = Watermark { late_us, now_us };
            let batch = TestBatch { time_us, watermark, closes, sides: vec![map_tasks(&cut)] };
            let due_us = match timeouts {
                Timeouts::Never => None,
                Timeouts::BatchTime => Some(if closes { i64::MAX } else { time_us }),
                Timeouts::EventTime => now_us,
            };
            // What is given up leaves no trace.
            run.failed_batch(&batch).expect("it runs");
            let found = texts(&run.batch(&batch).expect("it runs").concat());
            let found = if by_key { found } else { found.iter().map(|row| format!("NULL|{row}")).collect() };
            prop_assert_eq!(sorted(found), model.batch(&cut, by_key, due_us, &sums));
            // A state a key, and a timer where it times out.
            let timers = model.keys.values().filter(|kept| kept.1.is_some()).count();
            prop_assert_eq!(run.state_size().0, (model.keys.len() + timers) as u64);
        }
        let calls = sums.calls.lock().unwrap();
        prop_assert!(calls.iter().all(|call| call.1 > 0 && call.1 <= sums.keys_max));
        if whole_partition {
            // With rows, timed out, others: one call each, in each of two attempts.
            prop_assert!(calls.len() <= n_batches * 2 * 3 * partitions as usize);
        }
    }
}

/// A value that some rows have.
const BAD: i64 = 7;

proptest! {
    #[test]
    fn law_keys_whose_rows_are_set_aside_are_as_if_these_had_not_come(
        batches in proptest::collection::vec((cut(), 0_i64..6), 1..6),
        every_key in any::<bool>(),
        timeouts in prop_oneof![Just(Timeouts::Never), Just(Timeouts::BatchTime), Just(Timeouts::EventTime)],
        partitions in 1u32..4,
        keys_max in 1usize..4,
    ) {
        let calling = if every_key { Calling::EveryKey } else { Calling::KeysWithValues };
        let sums = Arc::new(Sums { calling, timeouts, keys_max, bad: Some(BAD), calls: Mutex::default() });
        let mut step = step(&sums, &["key"], false);
        step.operator.on_error = OnError::DeadLetter(DeadLetters { rows_min: u64::MAX, ..DeadLetters::named("bad") });
        let mut run = DefinitionRun::plan(&step, &[schema()], &settings(partitions), true).expect("it fits");
        let mut model = Model::default();
        let (mut now_us, mut time_us) = (None, 0);
        for (cut, moves) in batches {
            let late_us = now_us;
            now_us = Some(now_us.unwrap_or(-8) + moves);
            time_us += moves + 1;
            let watermark = Watermark { late_us, now_us };
            let batch = TestBatch { time_us, watermark, closes: false, sides: vec![map_tasks(&cut)] };
            let due_us = match timeouts {
                Timeouts::Never => None,
                Timeouts::BatchTime => Some(time_us),
                Timeouts::EventTime => now_us,
            };
            let found = texts(&run.batch(&batch).expect("it runs").concat());
            let rows = flat(&cut);
            let bad: BTreeSet<_> = rows.iter().filter(|row| row.0.1 == Some(BAD)).map(|row| row.0.0).collect();
            let good = rows.iter().filter(|row| !bad.contains(&row.0.0)).map(|row| row.0).collect();
            prop_assert_eq!(sorted(found), model.batch(&vec![vec![good]], true, due_us, &sums));
            let timers = model.keys.values().filter(|kept| kept.1.is_some()).count();
            prop_assert_eq!(run.state_size().0, (model.keys.len() + timers) as u64);
            let aside = rows.iter().filter(|row| bad.contains(&row.0.0)).map(|row| row.1 as u64).collect::<Vec<_>>();
            prop_assert_eq!(numbers_aside(&std::mem::take(&mut *run.letters.lock().unwrap())), aside);
        }
    }
}

#[test]
fn a_key_whose_rows_do_not_fit_in_a_call_is_told() {
    let step = step(&sums(Calling::KeysWithValues, Timeouts::Never, 9), &["key"], false);
    let settings = Settings { rows_per_call: 2, ..settings(1) };
    let mut run = DefinitionRun::plan(&step, &[schema()], &settings, false).expect("it fits");
    let batch =
        |n| TestBatch { sides: vec![map_tasks(&vec![vec![vec![(Some(1), Some(1)); n]]])], ..TestBatch::default() };
    assert_eq!(texts(&run.batch(&batch(2)).expect("it runs").concat()), ["k1|rows|2"]);
    let error = run.batch(&batch(3)).expect_err("three rows");
    assert!(matches!(error.downcast_ref::<CallError>(), Some(CallError::GroupTooLarge { n_rows: 3, rows_max: 2, .. })));
}

#[test]
fn states_count_among_the_bytes_of_a_call() {
    let sums = sums(Calling::EveryKey, Timeouts::Never, usize::MAX);
    let step = step(&sums, &["n"], false);
    // A state of this operator is 9 bytes.
    let settings = Settings { bytes_per_call: 30, ..settings(1) };
    let mut run = DefinitionRun::plan(&step, &[schema()], &settings, false).expect("it fits");
    let rows = TestBatch { sides: vec![map_tasks(&vec![vec![vec![(None, Some(1)); 10]]])], ..TestBatch::default() };
    run.batch(&rows).expect("it runs");
    sums.calls.lock().unwrap().clear();
    run.batch(&TestBatch::default()).expect("it runs");
    let calls: Vec<_> = sums.calls.lock().unwrap().iter().map(|call| call.1).collect();
    assert_eq!(calls, [3, 3, 3, 1]);
}

#[test]
fn timeouts_in_event_time_need_a_clock() {
    let step = step(&sums(Calling::KeysWithValues, Timeouts::EventTime, 1), &["key"], false);
    let problems = DefinitionRun::plan(&step, &[schema()], &settings(1), false).err().expect("no clock");
    assert_eq!(problems[0].key, "from");
    assert_eq!(problems[0].message, "`sums` times keys out in event time, and `side-0` has no watermark");
}
