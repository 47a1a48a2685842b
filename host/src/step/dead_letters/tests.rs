//! Bad rows against the run without them, and against the bound on calls.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::job::{OnError, OperatorRef, OperatorStep, Settings};
use crate::operator::{
    Call, CallSite, Carried, Limits, OpenError, Operator, Rejection, Role, StepInfo, Transform, TransformOutput,
    TransformPlan,
};
use crate::step::StepFactory;
use crate::step::definition::Body;
use crate::step::filter::FilterDefinition;
use crate::step::select::SelectDefinition;
use crate::step::testing::{DefinitionRun, rows, task, texts};
use crate::step::transform::{CallBounds, TransformStep};

/// How a row makes an operator fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Traps,
    Fails,
    AsksAgain,
    TakesTooLong,
    LiesAboutIt,
    ReturnsTooMuch,
    IsRejected,
}

const EVERY: [How; 7] =
    [How::Traps, How::Fails, How::AsksAgain, How::TakesTooLong, How::LiesAboutIt, How::ReturnsTooMuch, How::IsRejected];

/// Gives each number as often as its rest by three says, and fails for some.
#[derive(Debug, Clone)]
struct Picky(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    bad: BTreeMap<i64, How>,
    /// Rows that an instance can take in all.
    of_instance_max: usize,
    /// Rows that a call may return.
    output_max: usize,
    /// Whether it fails without rows too.
    is_broken: bool,
    n_calls: AtomicU64,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            bad: BTreeMap::new(),
            of_instance_max: usize::MAX,
            output_max: usize::MAX,
            is_broken: false,
            n_calls: AtomicU64::new(0),
        }
    }
}

struct Opened {
    seen: Arc<Seen>,
    plan: TransformPlan,
    n_rows: usize,
    is_spent: bool,
}

impl Operator for Picky {
    fn name(&self) -> &str {
        "picky.wasm"
    }

    fn sha256(&self) -> Option<String> {
        Some("abc".into())
    }

    fn roles(&self) -> Vec<Role> {
        vec![Role::Transform]
    }

    fn open_transform(&self, _: &StepInfo, input: &SchemaRef) -> Result<Box<dyn Transform>, OpenError> {
        let writes = Arc::new(Schema::new(vec![Field::new("copy", DataType::Int64, false)]));
        let plan = TransformPlan { reads: vec![input.index_of("n").unwrap()], writes, carries: Carried::Everything };
        Ok(Box::new(Opened { seen: self.0.clone(), plan, n_rows: 0, is_spent: false }))
    }
}

impl Opened {
    fn answer(&mut self, call: &Call, numbers: &[i64]) -> Result<TransformOutput, CallError> {
        let site = Box::new(CallSite {
            operator: "picky.wasm".into(),
            step: "picky".into(),
            batch_id: call.batch_id,
            partition: call.partition,
            n_rows: numbers.len(),
        });
        let limit = |limit| CallError::LimitExceeded { site: site.clone(), limit, seen: "too much".into() };
        self.n_rows += numbers.len();
        if self.n_rows > self.seen.of_instance_max {
            return Err(limit(Limit::Memory));
        }
        let failed = |retry| CallError::Failed { site: site.clone(), reason: "it cannot".into(), retry };
        if self.seen.is_broken {
            return Err(failed(Retry::Never));
        }
        let (mut origin, mut rejected) = (Vec::new(), Vec::new());
        for (row, number) in (0..).zip(numbers) {
            match self.seen.bad.get(number) {
                Some(How::Traps) => return Err(CallError::Trapped { site, reason: format!("it hit {number}") }),
                Some(How::Fails) => return Err(failed(Retry::Never)),
                Some(How::AsksAgain) => return Err(failed(Retry::WithBackoff)),
                Some(How::TakesTooLong) => return Err(limit(Limit::TimePerCall)),
                Some(How::LiesAboutIt) => return Err(CallError::Invalid { site, rule: "no".into() }),
                Some(How::ReturnsTooMuch) => return Err(limit(Limit::OutputBytes)),
                Some(How::IsRejected) => rejected.push(Rejection { row, reason: "not this one".into() }),
                None => origin.extend((0..number.rem_euclid(3)).map(|_| row)),
            }
        }
        if origin.len() > self.seen.output_max {
            return Err(limit(Limit::OutputRows));
        }
        let copies: ArrayRef = Arc::new(Int64Array::from_iter_values(origin.iter().map(|row| numbers[*row as usize])));
        let rows = RecordBatch::try_new(self.plan.writes.clone(), vec![copies]).unwrap();
        Ok(TransformOutput { rows, origin: Some(origin), rejected })
    }
}

impl Transform for Opened {
    fn plan(&self) -> &TransformPlan {
        &self.plan
    }

    fn process(&mut self, call: &Call, input: &RecordBatch) -> Result<TransformOutput, CallError> {
        assert!(!self.is_spent, "an instance was used after it failed");
        self.seen.n_calls.fetch_add(1, Ordering::Relaxed);
        let numbers = input.column(0).as_primitive::<Int64Type>().values().to_vec();
        let answer = self.answer(call, &numbers);
        self.is_spent = answer.is_err();
        answer
    }
}

fn letter_box(bounds: DeadLetters) -> Arc<LetterBox> {
    Arc::new(LetterBox {
        job: "j".into(),
        step: "picky".into(),
        plugins: vec![("picky.wasm".into(), Some("abc".into()))],
        bounds,
        attempts: 1,
        stop: StopFlag::default(),
        meter: Arc::default(),
        warned: Mutex::default(),
    })
}

fn any_number() -> DeadLetters {
    DeadLetters { rows_min: u64::MAX, ..DeadLetters::named("bad") }
}

fn numbers(numbers: &[i64]) -> RecordBatch {
    rows(vec![("n", Arc::new(Int64Array::from(numbers.to_vec())))])
}

fn transform(seen: &Arc<Seen>, letter_box: Arc<LetterBox>, rows_per_call: u32) -> TransformStep {
    let info = StepInfo {
        job: "j".into(),
        step: "picky".into(),
        partitions: 1,
        config: serde_json::Value::Null,
        limits: Limits::default(),
        budget: Default::default(),
        stop: StopFlag::default(),
    };
    let bounds = CallBounds { rows: rows_per_call, bytes: u64::MAX, whole_partition: false, clock: None };
    let step = TransformStep::open(Arc::new(Picky(seen.clone())), info, numbers(&[]).schema(), bounds, Arc::default());
    step.unwrap().with_dead_letters(Some(letter_box))
}

/// What a step gives and sets aside in a task.
fn run_in(
    task: &TaskContext,
    factory: &dyn StepFactory,
    pushes: &[RecordBatch],
) -> Result<(Vec<String>, Vec<RecordBatch>), Error> {
    let (mut given, mut letters) = (Vec::new(), Vec::new());
    let mut emit = |rows: RecordBatch| {
        given.push(rows);
        Ok(())
    };
    let mut step = factory.start(task)?;
    for rows in pushes {
        step.push(rows.clone(), &mut emit)?;
        letters.extend(step.take_letters()?);
    }
    step.finish(&mut emit)?;
    letters.extend(step.take_letters()?);
    Ok((texts(&given), letters))
}

fn run(factory: &dyn StepFactory, pushes: &[RecordBatch]) -> Result<(Vec<String>, Vec<RecordBatch>), Error> {
    run_in(&task(0), factory, pushes)
}

/// The positions and values of dead letters.
fn aside(letters: &[RecordBatch]) -> Vec<(i64, String)> {
    let of = |rows: &RecordBatch| {
        assert_eq!(rows.schema(), letter_schema());
        let values = rows.column(6).as_string::<i32>().iter().map(|value| value.unwrap().to_owned());
        rows.column(4).as_primitive::<Int64Type>().values().iter().copied().zip(values).collect::<Vec<_>>()
    };
    letters.iter().flat_map(of).collect()
}

/// ⌈log₂ n⌉.
fn halvings(n: usize) -> u64 {
    n.next_power_of_two().trailing_zeros().into()
}

/// Pushes of numbers that count up, and how some of them fail.
fn pushes_and_bad() -> impl Strategy<Value = (Vec<Vec<i64>>, BTreeMap<i64, How>)> {
    let sizes = proptest::collection::vec(0_usize..60, 0..6);
    let bad = proptest::collection::btree_map(0_i64..300, proptest::sample::select(&EVERY[..]), 0..30);
    (sizes, bad).prop_map(|(sizes, bad)| {
        let mut next = 0..;
        (sizes.into_iter().map(|n| next.by_ref().take(n).collect()).collect(), bad)
    })
}

proptest! {
    #[test]
    fn pieces_are_tried_in_order_and_bad_ones_found_within_the_bound(
        n_rows in 1_usize..2000,
        bad in proptest::collection::btree_set(0_usize..2000, 0..20),
    ) {
        let bad: BTreeSet<usize> = bad.into_iter().filter(|row| *row < n_rows).collect();
        let (mut done, mut found, mut n_tries) = (Vec::new(), BTreeSet::new(), 0);
        by_pieces(n_rows, |piece, is_again| {
            assert!(!is_again);
            n_tries += 1;
            if bad.range(piece.clone()).next().is_none() {
                done.extend(piece);
            } else if piece.len() > 1 {
                return Ok(Tried::Cut(piece.len() / 2));
            } else {
                found.insert(piece.start);
            }
            Ok(Tried::Done)
        }).unwrap();
        prop_assert!(done.iter().copied().eq((0..n_rows).filter(|row| !bad.contains(row))));
        prop_assert!(n_tries <= 1 + 2 * bad.len() as u64 * halvings(n_rows), "{n_tries} for {} of {n_rows}", bad.len());
        prop_assert_eq!(found, bad);
    }

    #[test]
    fn law_good_rows_go_on_as_if_bad_ones_had_not_come(
        (cut, bad) in pushes_and_bad(),
        rows_per_call in 1_u32..100,
        output_max in prop_oneof![2_usize..20, Just(usize::MAX)],
        of_instance_max in prop_oneof![1_usize..50, Just(usize::MAX)],
    ) {
        let seen = Arc::new(Seen { bad: bad.clone(), output_max, of_instance_max, ..Seen::default() });
        let step = transform(&seen, letter_box(any_number()), rows_per_call);
        let pushes: Vec<_> = cut.iter().map(|push| numbers(push)).collect();
        let (given, letters) = run(&step, &pushes).unwrap();

        let all: Vec<i64> = cut.concat();
        let good: Vec<i64> = all.iter().copied().filter(|number| !bad.contains_key(number)).collect();
        let copies = |number: &i64| std::iter::repeat_n(format!("{number}|{number}"), number.rem_euclid(3) as usize);
        prop_assert_eq!(given, good.iter().flat_map(copies).collect::<Vec<_>>());
        let bad: Vec<i64> = all.iter().copied().filter(|number| bad.contains_key(number)).collect();
        let expected: Vec<_> = bad.iter().map(|number| (*number, format!("{{\"n\":{number}}}"))).collect();
        prop_assert_eq!(aside(&letters), expected);

        let is_failed = |number: &&i64| seen.bad[*number] != How::IsRejected;
        let n_failed = bad.iter().filter(is_failed).count() as u64;
        if output_max == usize::MAX && of_instance_max == usize::MAX && !bad.iter().any(|n| seen.bad[n] == How::ReturnsTooMuch) {
            // Chunks are made of pushes: there are no more of them than these.
            let n_chunks = all.len() as u64 / u64::from(rows_per_call).max(1) + 2 * cut.len() as u64;
            let bound = n_chunks + n_failed * (2 * halvings(rows_per_call as usize) + 1) + 1;
            let n_calls = seen.n_calls.load(Ordering::Relaxed);
            prop_assert!(n_calls <= bound, "{n_calls} calls, and the bound is {bound}");
        }
    }

    #[test]
    fn law_rows_without_a_value_are_set_aside(numbers_in in proptest::collection::vec(-3_i64..4, 0..200), cut in 1_usize..50) {
        let pushes: Vec<_> = numbers_in.chunks(cut).map(numbers).collect();
        let good = || numbers_in.iter().filter(|number| **number != 0);
        let zeros = (0..).zip(&numbers_in).filter(|(_, number)| **number == 0);
        let expected: Vec<(i64, String)> = zeros.map(|(position, _)| (position, "{\"n\":0}".to_owned())).collect();
        let run_of = |definition: &dyn crate::step::definition::StepDefinition| {
            let planned = DefinitionRun::plan(definition, &[numbers(&[]).schema()], &Settings::default(), false);
            let Body::Narrow(factory) = planned.unwrap().built.body else { panic!("it is narrow") };
            run(&*factory, &pushes).unwrap()
        };
        let aside_in = OnError::DeadLetter(any_number());
        let (given, letters) = run_of(&FilterDefinition::new("6 / n > 2").on_error(aside_in.clone()));
        prop_assert_eq!(given, good().filter(|number| 6 / **number > 2).map(i64::to_string).collect::<Vec<_>>());
        prop_assert_eq!(aside(&letters), expected.clone());
        let (given, letters) = run_of(&SelectDefinition::new([("share", "6 / n")]).on_error(aside_in));
        prop_assert_eq!(given, good().map(|number| (6 / number).to_string()).collect::<Vec<_>>());
        prop_assert_eq!(aside(&letters), expected);
        for letters in &letters {
            let is_told = |reason: Option<&str>| reason.is_some_and(|reason| reason.starts_with("`6 / n`: ") && reason.contains("ivide by zero"));
            prop_assert!(letters.column(5).as_string::<i32>().iter().all(is_told));
            prop_assert_eq!(letters.column(1).null_count(), letters.num_rows());
        }
    }
}

fn bad(bad: impl IntoIterator<Item = (i64, How)>) -> Seen {
    Seen { bad: bad.into_iter().collect(), ..Seen::default() }
}

#[test]
fn a_letter_says_what_failed_where_and_why() {
    let seen = Arc::new(bad([(2, How::Traps), (5, How::IsRejected)]));
    let letter_box = letter_box(any_number());
    let task = task(3);
    let step = transform(&seen, letter_box.clone(), 100);
    let (_, letters) = run_in(&task, &step, &[numbers(&[0, 1, 2, 3, 4, 5])]).unwrap();
    let expected = ["picky|abc|7|3|2|crashed: it hit 2|{\"n\":2}", "picky|abc|7|3|5|not this one|{\"n\":5}"];
    assert_eq!(texts(&letters), expected);
    assert_eq!(letter_box.meter.rows_dead_lettered.get(), 0, "the batch is not published");
    assert_eq!((task.late.count(), task.late.count()), (2, 0));
    assert_eq!(letter_box.meter.rows_dead_lettered.get(), 2);
}

#[test]
fn more_bad_rows_than_allowed_fail_the_batch() {
    let seen = Arc::new(bad((0..10).map(|n| (n, How::Fails))));
    let bounds = |rate, rows_min| letter_box(DeadLetters { rate, rows_min, ..DeadLetters::named("bad") });
    let all: Vec<i64> = (0..40).collect();
    let run_with = |bounds| run(&transform(&seen, bounds, 20), &[numbers(&all)]);
    // The first call has all the bad rows: a half of its rows.
    let error = run_with(bounds(0.4, 3)).map(|_| ()).expect_err("too many").report();
    let expected = "error: step `picky` cannot process 9 of the first 20 rows of partition 0 in batch 7, and its `dead-letter-rate` is 0.4\n  \
                    caused by: failed: it cannot\n\nhint: So many bad rows";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(run_with(bounds(0.5, 3)).unwrap().1.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
    assert_eq!(run_with(bounds(0.0, 10)).unwrap().1.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
    assert!(run_with(bounds(0.0, 9)).is_err());
}

#[test]
fn what_no_row_is_to_blame_for_fails_as_before() {
    let input = [numbers(&[0, 1, 2, 3])];
    // It fails without rows too.
    let seen = Arc::new(Seen { is_broken: true, ..Seen::default() });
    let error = run(&transform(&seen, letter_box(any_number()), 100), &input).map(|_| ()).expect_err("it is broken");
    assert!(matches!(error.downcast_ref::<CallError>(), Some(CallError::Failed { .. })), "{error}");
    // Three calls until a row is alone, and one without rows.
    assert_eq!(seen.n_calls.load(Ordering::Relaxed), 4);
    // It asks to be tried again, and there are attempts left.
    let seen = Arc::new(bad([(1, How::AsksAgain)]));
    let attempts = |attempts| {
        let mut letter_box = letter_box(any_number());
        Arc::get_mut(&mut letter_box).unwrap().attempts = attempts;
        transform(&seen, letter_box, 100)
    };
    let error = run(&attempts(2), &input).map(|_| ()).expect_err("it is tried again");
    assert_eq!(error.retry(), Retry::WithBackoff);
    let last = TaskContext { attempt: 1, ..task(0) };
    assert_eq!(aside(&run_in(&last, &attempts(2), &input).unwrap().1).len(), 1);
    // The job is stopped.
    let stopped = letter_box(any_number());
    stopped.stop.set();
    let error = run(&transform(&seen, stopped, 100), &input).map(|_| ()).expect_err("it is stopped");
    assert!(error.downcast_ref::<Cancelled>().is_some());
}

#[test]
fn rows_that_take_too_long_are_looked_for_within_a_bound() {
    let all: Vec<i64> = (0..1024).collect();
    let run_with = |n_endless: i64| {
        let seen = Arc::new(bad((0..n_endless).map(|n| (n * 100, How::TakesTooLong))));
        let outcome = run(&transform(&seen, letter_box(any_number()), 1024), &[numbers(&all)]);
        outcome.map(|(_, letters)| aside(&letters).len())
    };
    assert_eq!(run_with(3).unwrap(), 3);
    let error = run_with(10).expect_err("it takes too long");
    assert!(error.downcast_ref::<TooManyTimeouts>().is_some() && error.retry() == Retry::Never, "{}", error.report());
}

#[test]
fn a_row_is_not_blamed_for_what_rows_before_it_did() {
    // Each instance has room for five rows, in calls of three.
    let seen = Arc::new(Seen { of_instance_max: 5, ..bad([(4, How::Traps)]) });
    let all: Vec<i64> = (0..30).collect();
    let (given, letters) = run(&transform(&seen, letter_box(any_number()), 3), &[numbers(&all)]).unwrap();
    assert_eq!(aside(&letters).iter().map(|letter| letter.0).collect::<Vec<_>>(), [4]);
    assert_eq!(given.len(), all.iter().filter(|n| **n != 4).map(|n| n.rem_euclid(3) as usize).sum::<usize>());
}

#[test]
fn a_program_is_told_which_steps_set_nothing_aside() {
    use crate::context::Context;
    let context = Context::new(Settings::default()).unwrap();
    let lines = context.socket_text_stream("lines", "127.0.0.1:9");
    let operator: Arc<dyn Operator> = Arc::new(Picky(Arc::default()));
    let operator = OperatorStep {
        on_error: OnError::DeadLetter(DeadLetters::named("bad")),
        whole_partition: true,
        ..OperatorStep::new(OperatorRef::Registered(operator))
    };
    lines.transform("picky", operator).print();
    let problems = context.check().err().expect("calls cannot be cut").0;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("whole-partition"), "{}", problems[0].message);
}
