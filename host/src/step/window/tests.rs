//! Windows of rows against a model that keeps everything and looks at every window.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use crate::event_time::BatchTimes;
use crate::state::StepState;
use crate::step::StepFactory;
use crate::step::testing::{rows, task};

fn events(times_us: &[i64], first: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + times_us.len() as i64));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times_us.to_vec()).with_timezone(UTC));
    rows(vec![("n", numbers), ("at", times)])
}

/// A batch: its rows' times, and what its clock shows.
#[derive(Debug, Clone)]
struct Step {
    times_us: Vec<i64>,
    watermark: Watermark,
    batch_time_us: i64,
    closes: bool,
}

/// What comes of each batch: window start, number of the row.
fn run(spans: Spans, steps: &[Step]) -> Vec<Vec<(i64, i64)>> {
    let input = events(&[], 0).schema();
    let output = with_window_columns(&input);
    let state = StepState::new("w", 2, 1);
    let late = late::LateFilter { spans, keeps_late: false, step: "w".into(), meter: None };
    let factory = buffer::WindowFactory { step: "w".into(), spans, input, output, state: state.clone() };
    let mut first = 0;
    let mut given = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let times = Arc::new(BatchTimes::new(vec![step.watermark], 0, step.closes));
        let task = crate::task::TaskContext {
            batch_id: crate::ids::BatchId(number as u64),
            batch_time_us: step.batch_time_us,
            times,
            ..task(0)
        };
        let mut out: Vec<RecordBatch> = Vec::new();
        // An attempt that is given up leaves no trace.
        for attempt in 0..2 {
            out.clear();
            let mut kept: Vec<RecordBatch> = Vec::new();
            let mut filter = late.start(&task).unwrap();
            filter
                .push(events(&step.times_us, first), &mut |rows| {
                    kept.push(rows);
                    Ok(())
                })
                .unwrap();
            let mut running = factory.start(&task).unwrap();
            for rows in kept {
                running.push(rows, &mut |_| unreachable!("nothing comes before the end")).unwrap();
            }
            running
                .finish(&mut |rows| {
                    out.push(rows);
                    Ok(())
                })
                .unwrap();
            if attempt == 0 { state.abort() } else { state.commit(crate::ids::PartitionId(0)).unwrap() }
        }
        first += step.times_us.len() as i64;
        let texts = out.iter().flat_map(|rows| {
            let starts = rows.column(2).as_primitive::<TimestampMicrosecondType>();
            let ends = rows.column(3).as_primitive::<TimestampMicrosecondType>();
            let numbers = rows.column(0).as_primitive::<Int64Type>();
            (0..rows.num_rows())
                .map(|row| {
                    assert_eq!(ends.value(row) - starts.value(row), spans.size_us);
                    (starts.value(row), numbers.value(row))
                })
                .collect::<Vec<_>>()
        });
        let mut texts: Vec<_> = texts.collect();
        texts.sort_unstable();
        given.push(texts);
    }
    given
}

/// The same by looking at every window there could be.
fn model(spans: Spans, steps: &[Step]) -> Vec<Vec<(i64, i64)>> {
    let mut kept: Vec<(i64, i64)> = Vec::new();
    let mut first = 0;
    let mut last_batch_us = None;
    let mut given = Vec::new();
    for step in steps {
        let (late_us, now_us) = match spans.time {
            Some(_) => {
                let less = |us: i64| if us == i64::MAX { us } else { us - spans.lateness_us };
                (step.watermark.late_us.map(less), step.watermark.now_us.map(less))
            }
            None => (last_batch_us, Some(if step.closes { i64::MAX } else { step.batch_time_us })),
        };
        for (number, &time_us) in (first..).zip(&step.times_us) {
            let time_us = if spans.time.is_some() { time_us } else { step.batch_time_us - 1 };
            kept.push((time_us, number));
        }
        first += step.times_us.len() as i64;
        let mut windows: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let earliest = kept.iter().map(|row| row.0).min().unwrap_or(0) - spans.size_us;
        let latest = kept.iter().map(|row| row.0).max().unwrap_or(0);
        // In batch time windows end at multiples of the slide, in event time they begin 3 later.
        let offset = if spans.time.is_some() { 3 } else { -spans.size_us };
        for n in (earliest - offset).div_euclid(spans.slide_us)..=(latest - offset).div_euclid(spans.slide_us) {
            let start = n * spans.slide_us + offset;
            let end = start + spans.size_us;
            let is_due = now_us.is_some_and(|now| end <= now) && late_us.is_none_or(|late| end > late);
            let inside = kept.iter().filter(|row| (start..end).contains(&row.0)).map(|row| row.1);
            if is_due {
                windows.entry(start).or_default().extend(inside);
            }
        }
        let mut rows: Vec<_> =
            windows.into_iter().flat_map(|(start, rows)| rows.into_iter().map(move |n| (start, n))).collect();
        rows.sort_unstable();
        given.push(rows);
        last_batch_us = Some(step.batch_time_us);
    }
    given
}

fn spans(time: bool, size_us: i64, slide_us: i64, lateness_us: i64) -> Spans {
    let lateness_us = if time { lateness_us } else { 0 };
    Spans::new(time.then_some(1), (size_us, slide_us, 3), lateness_us, time.then_some(ClockId(0)))
}

proptest! {
    #[test]
    fn windows_are_those_of_the_model(
        by_event in any::<bool>(),
        size in 1_i64..12,
        slide in 1_i64..12,
        lateness in 0_i64..4,
        batches in proptest::collection::vec((proptest::collection::vec(-20_i64..60, 0..8), 0_i64..12, 1_i64..9), 1..8),
    ) {
        let spans = spans(by_event, size, slide, lateness);
        let (mut now_us, mut batch_time_us) = (None, 0);
        let mut steps: Vec<Step> = batches.into_iter().map(|(times_us, moves, apart)| {
            let late_us = now_us;
            now_us = Some(now_us.unwrap_or(-20) + moves);
            batch_time_us += apart;
            Step { times_us, watermark: Watermark { late_us, now_us }, batch_time_us, closes: false }
        }).collect();
        let watermark = Watermark { late_us: now_us, now_us: Some(i64::MAX) };
        steps.push(Step { times_us: vec![], watermark, batch_time_us: batch_time_us + 1, closes: true });
        let found = run(spans, &steps);
        prop_assert_eq!(&found, &model(spans, &steps));
    }
}

#[test]
fn spark_windows_are_the_batches_up_to_their_end() {
    let step = |batch_time_us, n: usize| Step {
        times_us: vec![0; n],
        watermark: Watermark::default(),
        batch_time_us,
        closes: false,
    };
    // A window of 3 batches, every 2: the first is partial.
    let found = run(spans(false, 30, 20, 0), &[step(10, 1), step(20, 1), step(30, 1), step(40, 1)]);
    assert_eq!(found, [vec![], vec![(-10, 0), (-10, 1)], vec![], vec![(10, 1), (10, 2), (10, 3)]]);
}

#[test]
fn lengths_that_are_no_multiple_of_the_interval_name_the_next_one() {
    let settings = Settings { batch_interval: Duration::from_secs(2), ..Settings::default() };
    assert_eq!(not_a_multiple(Duration::from_secs(5), &settings).as_deref(), Some("The next one is \"6s\"."));
    assert_eq!(not_a_multiple(Duration::from_secs(6), &settings), None);
}

#[test]
fn times_whose_windows_cannot_be_told_are_late() {
    let step = |times_us, watermark| Step { times_us, watermark, batch_time_us: 1, closes: false };
    for (size, slide) in [(10, 10), (10, 3), (3, 10), (i64::MAX / 4, 1 << 60)] {
        let spans = spans(true, size, slide, 2);
        for time_us in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            assert!(spans.is_late(time_us, Watermark::default()), "{time_us}");
        }
        let first = Watermark { late_us: None, now_us: Some(i64::MIN) };
        let last = Watermark { late_us: Some(i64::MAX - 1), now_us: Some(i64::MAX) };
        let found = run(spans, &[step(vec![i64::MIN, i64::MAX, 0], first), step(vec![i64::MIN, i64::MAX], last)]);
        assert!(found.iter().flatten().all(|row| row.1 == 2), "{found:?}");
    }
}

/// A table that counts what is read of it.
#[derive(Default)]
struct Counting(crate::state::MemoryTable, Arc<std::sync::atomic::AtomicU64>);

impl crate::state::StateTable for Counting {
    fn get(&self, slot: i64, key: &[u8]) -> Result<Option<std::borrow::Cow<'_, [u8]>>, crate::state::StateError> {
        self.0.get(slot, key)
    }

    fn scan(
        &self,
        slots: std::ops::RangeInclusive<i64>,
        visit: &mut crate::state::Visit<'_>,
    ) -> Result<(), crate::state::StateError> {
        self.0.scan(slots, &mut |slot, key, value| {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            visit(slot, key, value)
        })
    }

    fn first_slot(&self) -> Result<Option<i64>, crate::state::StateError> {
        self.0.first_slot()
    }

    fn apply(&mut self, changes: &crate::state::Changes) -> Result<(), crate::state::StateError> {
        self.0.apply(changes)
    }

    fn n_entries(&self) -> u64 {
        self.0.n_entries()
    }

    fn n_bytes(&self) -> u64 {
        self.0.n_bytes()
    }
}

#[test]
fn a_batch_in_which_no_window_ends_reads_nothing_of_those_that_are_open() {
    let spans = spans(true, 1_000, 500, 0);
    let (input, state) = (events(&[], 0).schema(), StepState::new("w", 2, 1));
    let n_read = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = n_read.clone();
    state.open_with(Arc::new(move |_, _, _| Ok(Box::new(Counting(Default::default(), counter.clone())))));
    let output = with_window_columns(&input);
    let factory = buffer::WindowFactory { step: "w".into(), spans, input, output, state: state.clone() };
    let batch = |number: u64, watermark| {
        let times = Arc::new(BatchTimes::new(vec![watermark], 0, false));
        let task = crate::task::TaskContext { batch_id: crate::ids::BatchId(number), times, ..task(0) };
        let mut running = factory.start(&task).unwrap();
        running.push(events(&[number as i64 % 900 + 10], 0), &mut |_| Ok(())).unwrap();
        running.finish(&mut |_| Ok(())).unwrap();
        state.commit(crate::ids::PartitionId(0)).unwrap();
        n_read.swap(0, std::sync::atomic::Ordering::Relaxed)
    };
    let watermark = |late_us, now_us| Watermark { late_us: Some(late_us), now_us: Some(now_us) };
    let read: u64 = (1..200).map(|number| batch(number, watermark(3 + number as i64 - 1, 3 + number as i64))).sum();
    assert_eq!(read, 0, "the first window ends at 503");
    assert!(batch(200, watermark(202, 600)) >= 199, "now it has ended");
    assert_eq!(batch(201, watermark(600, 601)), 0);
}
