//! Rows without their doubles, against a model that forgets nothing.

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::event_time::Watermark;
use crate::job::Settings;
use crate::step::test_rows::{Cut, cut, flat, map_tasks, schema, settings, sorted, text};
use crate::step::testing::{DefinitionRun, TestBatch, texts};

/// The rows with `value` as a time.
fn timed(rows: &RecordBatch) -> RecordBatch {
    let times = rows.column(1).as_primitive::<Int64Type>();
    let times: ArrayRef = Arc::new(times.iter().collect::<TimestampMicrosecondArray>());
    crate::step::testing::rows(vec![("key", rows.column(0).clone()), ("value", times), ("n", rows.column(2).clone())])
}

fn plan(step: &Dedup, settings: &Settings, is_timed: bool) -> DefinitionRun {
    let schema = if is_timed { timed(&RecordBatch::new_empty(schema())).schema() } else { schema() };
    DefinitionRun::plan(step, &[schema], settings, is_timed).expect("it fits")
}

fn test_batch(cut: &Cut, watermark: Watermark, time_us: i64, is_timed: bool) -> TestBatch {
    let mut rows = map_tasks(cut);
    if is_timed {
        rows.iter_mut().flatten().for_each(|rows| *rows = timed(rows));
    }
    TestBatch { time_us, watermark, closes: false, sides: vec![rows] }
}

/// A row that was given: its key, its time, and the number of its batch.
type Given = (Option<u8>, i64, usize);

/// Whether a row is doubled, by all that was given before it.
fn is_doubled(step: &Dedup, given: &[Given], (key, time_us, number): Given, late_us: Option<i64>) -> bool {
    let mut same = given.iter().filter(|before| before.0 == key);
    match (&step.time, step.within) {
        (None, None) => same.next().is_some(),
        (_, Some(within)) => same.any(|before| time_us < before.1 + within.as_micros() as i64),
        // The watermark has passed those before it, and all of this batch are still known.
        (Some(_), None) => same.any(|before| before.2 == number || late_us.is_none_or(|late_us| before.1 >= late_us)),
    }
}

proptest! {
    #[test]
    fn a_key_comes_once_within_its_time(
        batches in proptest::collection::vec((cut(), 0_i64..8, 1_i64..8), 1..6),
        within in proptest::option::of(1_u64..10),
        is_timed in any::<bool>(),
        partitions in 1u32..4,
    ) {
        let time = is_timed.then(|| "value".to_owned());
        let step = Dedup { by: vec!["key".into()], time, within: within.map(Duration::from_micros) };
        let mut run = plan(&step, &settings(partitions), is_timed);
        let (mut given, mut n_late) = (Vec::new(), 0);
        let (mut now_us, mut time_us) = (None, 0);
        for (number, (cut, moves, apart)) in batches.into_iter().enumerate() {
            let late_us = now_us;
            now_us = if number == 0 { None } else { Some(now_us.unwrap_or(-5) + moves) };
            time_us += apart;
            let batch = test_batch(&cut, Watermark { late_us, now_us }, time_us, is_timed);
            let mut expected = Vec::new();
            for row in flat(&cut) {
                let at = if is_timed { row.0.1 } else { Some(time_us) };
                let Some(at) = at.filter(|at| !is_timed || late_us.is_none_or(|late_us| *at >= late_us)) else {
                    n_late += 1;
                    continue;
                };
                if !is_doubled(&step, &given, (row.0.0, at, number), late_us) {
                    given.push((row.0.0, at, number));
                    expected.push(row.1.to_string());
                }
            }
            // What is given up leaves no trace.
            run.failed_batch(&batch).expect("it runs");
            let found = run.batch(&batch).expect("it runs").concat();
            let numbers = texts(&found).iter().map(|row| row.rsplit('|').next().unwrap_or_default().to_owned()).collect();
            prop_assert_eq!(sorted(numbers), sorted(expected));
            // What is kept is what may be doubled still: an entry and its timer a key.
            let keys: std::collections::BTreeSet<_> = given.iter().map(|row| row.0).collect();
            prop_assert!(run.state_size().0 <= 2 * keys.len() as u64);
        }
        prop_assert_eq!(run.meter.rows_late.get(), n_late);
        if is_timed {
            let closing = Watermark { late_us: now_us, now_us: Some(i64::MAX) };
            run.batch(&TestBatch { closes: true, ..test_batch(&vec![], closing, time_us + 1, true) }).expect("it runs");
            prop_assert_eq!(run.state_size().0, 0);
        }
    }
}

#[test]
fn a_silence_longer_than_the_time_is_one_although_no_batch_ran_in_it() {
    let step = Dedup { by: vec!["key".into()], time: None, within: Some(Duration::from_micros(10)) };
    let mut run = plan(&step, &settings(1), false);
    let one = vec![vec![vec![(Some(1), None)]]];
    let n_rows = [0, 9, 10, 19, 50, 55].map(|time_us| {
        let batch = test_batch(&one, Watermark::default(), time_us, false);
        run.batch(&batch).expect("it runs").concat().len()
    });
    assert_eq!(n_rows, [1, 0, 1, 0, 1, 0]);
}

#[test]
fn the_ends_of_time_are_times() {
    let step = Dedup { by: vec!["key".into()], time: Some("value".into()), within: Some(Duration::MAX) };
    let mut run = plan(&step, &settings(2), true);
    let row = |time| (Some(1), Some(time));
    let batch = vec![vec![vec![row(i64::MIN), row(i64::MAX - 1), row(i64::MAX)]]];
    let found = run.batch(&test_batch(&batch, Watermark::default(), 0, true)).expect("it runs").concat();
    // The first is known for the longest time there is, which ends at -1.
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let late = Watermark { late_us: Some(i64::MAX - 1), now_us: Some(i64::MAX - 1) };
    let found = run.batch(&test_batch(&vec![vec![vec![row(i64::MIN), row(i64::MAX)]]], late, 1, true));
    assert!(found.expect("it runs").concat().is_empty());
    let row: crate::step::test_rows::TestRow = row(3);
    assert_eq!(text(&(row, 0)), "k1|3|0");
}

#[test]
fn what_is_wrong_is_told() {
    let problems = |step: &Dedup, clock| {
        let schema = timed(&RecordBatch::new_empty(schema())).schema();
        let problems = DefinitionRun::plan(step, &[schema], &settings(1), clock).err().expect("it does not fit");
        problems.into_iter().map(|problem| format!("{} {}", problem.key, problem.message)).collect::<Vec<_>>()
    };
    let step = Dedup { by: vec![], time: Some("value".into()), within: None };
    let expected = [
        "dedup.by `by` is empty",
        "dedup.time `dedup` by the event time `value` needs a watermark, and no source before it has one",
    ];
    let mut found = problems(&step, false);
    found.sort();
    assert_eq!(found, expected);
    let step = Dedup { by: vec!["kee".into()], time: Some("n".into()), within: None };
    assert_eq!(
        problems(&step, true),
        ["dedup.by the input has no column `kee`", "dedup.time column `n` has type int64, which is no time"]
    );
}
