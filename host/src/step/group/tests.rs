//! Groups against a model that puts rows beside one another, key by key.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::job::{DeadLetters, OnError, OperatorRef, Settings};
use crate::operator::{
    Call, CallError, CallSite, Grouped, GrouperOutput, GrouperPlan, Limit, OpenError, Operator, Rejection, Role,
    StepInfo,
};
use crate::spill::BatchMemory;
use crate::spill::testing::spill_in;
use crate::step::test_rows::{Cut, cut, flat, map_tasks, schema, settings, sorted};
use crate::step::testing::{DefinitionRun, TestBatch, groups, numbers_aside, texts, too_much};

/// Writes for each group the numbers of its rows, as in `1,4/2`: input after input. Numbers that seven divides are rejected
/// besides.
#[derive(Debug, Clone, Default)]
struct Numbers(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    /// Calls with more groups return too much.
    groups_max: usize,
    /// A call with a number that this divides fails.
    bad: Option<u32>,
    /// Groups and rows of each call that went well.
    calls: Mutex<Vec<(usize, usize)>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { groups_max: usize::MAX, bad: None, calls: Mutex::default() }
    }
}

struct Opened {
    seen: Arc<Seen>,
    plan: GrouperPlan,
    spent: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

impl Operator for Numbers {
    fn name(&self) -> &str {
        "numbers"
    }

    fn roles(&self) -> Vec<Role> {
        vec![Role::Grouper]
    }

    fn open_grouper(&self, _: &StepInfo, _: &SchemaRef, values: &[SchemaRef]) -> Result<Box<dyn Grouper>, OpenError> {
        let reads = values.iter().map(|values| values.index_of("n").into_iter().collect()).collect();
        let writes = Arc::new(Schema::new(vec![Field::new("numbers", DataType::Utf8, false)]));
        Ok(Box::new(Opened { seen: self.0.clone(), plan: GrouperPlan { reads, writes }, spent: false }))
    }
}

impl Grouper for Opened {
    fn plan(&self) -> &GrouperPlan {
        &self.plan
    }

    fn process(&mut self, call: &Call, keys: &RecordBatch, inputs: &[Grouped<'_>]) -> Result<GrouperOutput, CallError> {
        assert!(!self.spent, "an instance was used after it failed");
        let n_rows = inputs.iter().map(|input| input.rows.num_rows()).sum();
        if keys.num_rows() > self.seen.groups_max {
            self.spent = true;
            return Err(too_much("numbers", call, n_rows, format!("{} groups", keys.num_rows())));
        }
        let is_bad = |input: &Grouped<'_>| match (self.seen.bad, input.rows.columns()) {
            (Some(bad), [numbers, ..]) => {
                numbers.as_primitive::<Int64Type>().values().iter().any(|n| *n % i64::from(bad) == 0)
            }
            _ => false,
        };
        if inputs.iter().any(is_bad) {
            self.spent = true;
            let site = CallSite {
                operator: "numbers".into(),
                step: "totals".into(),
                batch_id: call.batch_id,
                partition: call.partition,
                n_rows,
            };
            return Err(CallError::Trapped { site: Box::new(site), reason: "a bad number".into() });
        }
        self.seen.calls.lock().unwrap().push((keys.num_rows(), n_rows));
        let mut written = vec![Vec::new(); keys.num_rows()];
        let mut rejected = Vec::new();
        for input in inputs {
            assert_eq!(
                (input.ends.len(), input.ends.last().map_or(0, |end| *end as usize)),
                (keys.num_rows(), input.rows.num_rows())
            );
            let number = |row: usize| match input.rows.columns() {
                [] => "-".to_owned(),
                columns => columns[0].as_primitive::<Int64Type>().value(row).to_string(),
            };
            for (written, group) in written.iter_mut().zip(groups(input.ends)) {
                written.push(group.map(number).collect::<Vec<_>>().join(","));
            }
            let sevens =
                (0..input.rows.num_rows()).filter(|&row| number(row).parse().is_ok_and(|n: u32| n.is_multiple_of(7)));
            rejected.push(sevens.map(|row| Rejection { row: row as u32, reason: "a seven".into() }).collect());
        }
        let written: ArrayRef = Arc::new(written.iter().map(|lists| Some(lists.join("/"))).collect::<StringArray>());
        let rows = RecordBatch::try_new(self.plan.writes.clone(), vec![written]).unwrap();
        Ok(GrouperOutput { rows, group: (0..keys.num_rows() as u32).collect(), rejected })
    }
}

fn step(operator: &Numbers, by: &[&str], with: &[&str], whole_partition: bool) -> Group {
    let operator: Arc<dyn Operator> = Arc::new(operator.clone());
    let operator = OperatorStep { whole_partition, ..OperatorStep::new(OperatorRef::Registered(operator)) };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Group { by: owned(by), with: owned(with), operator, partitions: None }
}

fn numbers(groups_max: usize) -> Numbers {
    Numbers(Arc::new(Seen { groups_max, ..Seen::default() }))
}

fn batch(sides: &[Cut]) -> TestBatch {
    TestBatch { sides: sides.iter().map(map_tasks).collect(), ..TestBatch::default() }
}

/// For each key the numbers of its rows, side by side.
fn model(sides: &[Cut], by_key: bool) -> Vec<String> {
    let mut groups: BTreeMap<Option<u8>, Vec<Vec<String>>> = BTreeMap::new();
    for (side, cut) in sides.iter().enumerate() {
        for ((key, _), number) in flat(cut) {
            let key = key.filter(|_| by_key);
            groups.entry(key).or_insert_with(|| vec![Vec::new(); sides.len()])[side].push(number.to_string());
        }
    }
    let text = |(key, lists): (Option<u8>, Vec<Vec<String>>)| {
        let numbers = lists.iter().map(|numbers| numbers.join(",")).collect::<Vec<_>>().join("/");
        let key = key.map_or("NULL".to_owned(), |key| format!("k{key}"));
        if by_key { format!("{key}|{numbers}") } else { numbers }
    };
    sorted(groups.into_iter().map(text).collect())
}

proptest! {
    #[test]
    fn little_memory_gives_the_same_groups_in_the_same_order(
        sides in proptest::collection::vec(cut(), 1..4),
        memory_bytes in prop_oneof![Just(200_u64), Just(2_000), Just(10_000)],
        whole_partition in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let spill = spill_in(folder.path(), 1 << 30);
        let memory = BatchMemory::new(Some(spill.clone()), memory_bytes, 1, sides.len());
        let operator = numbers(usize::MAX);
        let with: Vec<&str> = ["side-1", "side-2"].into_iter().take(sides.len() - 1).collect();
        let schemas = vec![schema(); sides.len()];
        let plan = || {
            let step = step(&operator, &["key"], &with, whole_partition);
            DefinitionRun::plan(&step, &schemas, &settings(2), false).unwrap()
        };
        let expected = plan().batch(&batch(&sides)).unwrap();
        let n_calls = operator.0.calls.lock().unwrap().len();
        let found = plan().within(&memory).batch(&batch(&sides)).unwrap();
        prop_assert_eq!(found.iter().map(|rows| texts(rows)).collect::<Vec<_>>(), expected.iter().map(|rows| texts(rows)).collect::<Vec<_>>());
        if whole_partition {
            prop_assert_eq!(operator.0.calls.lock().unwrap().len(), 2 * n_calls, "one for a partition, as before");
        }
        prop_assert_eq!((spill.counts().rows, memory.held_bytes()), (0, 0));
    }

    #[test]
    fn every_group_comes_whole_and_once(
        sides in proptest::collection::vec(cut(), 1..4),
        partitions in 1u32..4,
        by_key in any::<bool>(),
        whole_partition in any::<bool>(),
        rows_per_call in prop_oneof![Just(200_u32), Just(u32::MAX)],
        groups_max in 1usize..5,
    ) {
        let operator = numbers(if whole_partition { usize::MAX } else { groups_max });
        let with: Vec<&str> = ["side-1", "side-2"].into_iter().take(sides.len() - 1).collect();
        let by: &[&str] = if by_key { &["key"] } else { &[] };
        let step = step(&operator, by, &with, whole_partition);
        let settings = Settings { rows_per_call, ..settings(partitions) };
        let mut run = DefinitionRun::plan(&step, &vec![schema(); sides.len()], &settings, false).expect("it fits");
        for _ in 0..2 {
            run.failed_batch(&batch(&sides)).expect("it runs");
            let found = run.batch(&batch(&sides)).expect("it runs").concat();
            prop_assert_eq!(sorted(texts(&found)), model(&sides, by_key));
        }
        let calls = operator.0.calls.lock().unwrap();
        prop_assert!(calls.iter().all(|call| call.0 > 0 && call.1 <= rows_per_call as usize));
        let sevens = sides.iter().map(|cut| flat(cut).len().div_ceil(7) as u64).sum::<u64>();
        prop_assert_eq!(run.meter.rows_rejected.get(), 4 * sevens);
        if whole_partition {
            prop_assert!(calls.len() <= 4 * partitions as usize, "one call a partition and attempt");
        }
    }

    #[test]
    fn calls_are_within_their_bounds_or_told(cut in cut(), rows_per_call in 1u32..8, whole_partition in any::<bool>()) {
        let operator = numbers(usize::MAX);
        let step = step(&operator, &["key"], &[], whole_partition);
        let mut run = DefinitionRun::plan(&step, &[schema()], &Settings { rows_per_call, ..settings(2) }, false).expect("it fits");
        let mut of_keys = BTreeMap::new();
        flat(&cut).iter().for_each(|row| *of_keys.entry(row.0.0).or_insert(0_u32) += 1);
        let fits = of_keys.values().all(|n| *n <= rows_per_call);
        match run.batch(&batch(std::slice::from_ref(&cut))) {
            Ok(found) => {
                prop_assert!(fits || whole_partition);
                prop_assert_eq!(sorted(texts(&found.concat())), model(&[cut], true));
                let calls = operator.0.calls.lock().unwrap();
                prop_assert!(whole_partition || calls.iter().all(|call| call.1 <= rows_per_call as usize));
            }
            Err(error) => {
                prop_assert!(!fits && !whole_partition);
                let error = error.downcast_ref::<CallError>();
                prop_assert!(matches!(error, Some(CallError::GroupTooLarge { .. })), "{:?}", error);
            }
        }
    }
}

proptest! {
    #[test]
    fn law_groups_that_are_set_aside_are_as_if_they_had_not_come(
        sides in proptest::collection::vec(cut(), 1..4),
        partitions in 1u32..4,
        groups_max in 1usize..5,
        bad in 2_u32..20,
    ) {
        let operator = Numbers(Arc::new(Seen { groups_max, bad: Some(bad), ..Seen::default() }));
        let with: Vec<&str> = ["side-1", "side-2"].into_iter().take(sides.len() - 1).collect();
        let mut step = step(&operator, &["key"], &with, false);
        step.operator.on_error = OnError::DeadLetter(DeadLetters { rows_min: u64::MAX, ..DeadLetters::named("bad") });
        let mut run = DefinitionRun::plan(&step, &vec![schema(); sides.len()], &settings(partitions), false).expect("it fits");
        let found = run.batch(&batch(&sides)).expect("it runs").concat();
        let rows: Vec<_> = sides.iter().map(flat).collect();
        let is_bad_row = |number: usize| number.is_multiple_of(bad as usize);
        let bad_keys: BTreeSet<_> =
            rows.iter().flatten().filter(|row| is_bad_row(row.1)).map(|row| row.0.0).collect();
        // The model numbers what it gets: rows keep their places, and bad groups are left out of what it says.
        let is_bad_text = |text: &String| {
            let key = |key: &Option<u8>| key.map_or("NULL".to_owned(), |key| format!("k{key}"));
            bad_keys.iter().any(|bad| text.split('|').next() == Some(&key(bad)))
        };
        let expected: Vec<String> = model(&sides, true).into_iter().filter(|text| !is_bad_text(text)).collect();
        prop_assert_eq!(sorted(texts(&found)), expected);
        let is_aside = |number: usize| number.is_multiple_of(7);
        let mut aside: Vec<u64> = rows.iter().flatten()
            .filter(|row| bad_keys.contains(&row.0.0) || is_aside(row.1)).map(|row| row.1 as u64).collect();
        aside.sort_unstable();
        prop_assert_eq!(numbers_aside(&run.letters.lock().unwrap()), aside);
        prop_assert_eq!(run.meter.rows_rejected.get(), 0);
    }
}

#[test]
fn keys_may_be_all_columns() {
    let step = step(&numbers(1), &["n", "value", "key"], &[], false);
    let mut run = DefinitionRun::plan(&step, &[schema()], &settings(2), false).expect("it fits");
    let cut = vec![vec![vec![(Some(1), Some(2)), (None, None)]]];
    let found = run.batch(&batch(&[cut])).expect("it runs").concat();
    assert_eq!(sorted(texts(&found)), ["0|2|k1|-", "1|NULL|NULL|-"]);
}

#[test]
fn a_partition_that_is_to_be_one_call_is_not_cut() {
    let step = step(&numbers(1), &["key"], &[], true);
    let mut run = DefinitionRun::plan(&step, &[schema()], &settings(1), false).expect("it fits");
    let error =
        run.batch(&batch(&[vec![vec![vec![(Some(1), None), (Some(2), None)]]]])).expect_err("it returns too much");
    assert!(matches!(
        error.downcast_ref::<CallError>(),
        Some(CallError::LimitExceeded { limit: Limit::OutputRows, .. })
    ));
}

#[test]
fn inputs_whose_keys_differ_do_not_fit() {
    let step = step(&numbers(1), &["key"], &["other"], false);
    let other = Schema::new(vec![Field::new("key", DataType::Int64, true), Field::new("n", DataType::Int64, true)]);
    let problems =
        DefinitionRun::plan(&step, &[schema(), Arc::new(other)], &settings(1), false).err().expect("two types");
    assert_eq!(problems[0].key, "cogroup.by");
    assert_eq!(problems[0].message, "the key `key` has type utf8 in `side-0` and int64 in `side-1`");
}
