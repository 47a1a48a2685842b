//! Joins over event time: near times, and windows.

use std::time::Duration;

use super::super::JoinScope;
use super::*;

fn interval(before_s: u64, after_s: u64) -> JoinScope {
    JoinScope::Interval {
        time: ("at".into(), "at".into()),
        before: Duration::from_secs(before_s),
        after: Duration::from_secs(after_s),
    }
}

fn window(size_s: u64, slide_s: u64) -> JoinScope {
    JoinScope::Window {
        time: ("at".into(), "at".into()),
        size: Duration::from_secs(size_s),
        slide: Duration::from_secs(slide_s),
    }
}

/// The rows of a side that are not late, each with the batch that it came in.
fn in_time(batches: &[Batch], side: usize) -> Vec<(Row, usize)> {
    let rows = batches.iter().enumerate().flat_map(|(index, batch)| {
        let late_us = late_us(batches, index);
        let is_late = move |row: &Row| row.time.is_some_and(|time| late_us.is_some_and(|late_us| time < late_us));
        batch.sides[side].iter().filter(move |row| !is_late(row)).map(move |row| (*row, index))
    });
    rows.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_near_in_time_are_joined_as_by_nested_loops(
        join_type in join_type(),
        before_s in 0_u64..20,
        after_s in 0_u64..20,
        batches in batches(),
        cuts in cuts(),
    ) {
        let (given, n_late, n_kept) = run(&options(join_type, interval(before_s, after_s)), &batches, &cuts);
        let sides = [0, 1].map(|side| in_time(&batches, side));
        let n_all: usize = batches.iter().flat_map(|batch| &batch.sides).map(Vec::len).sum();
        prop_assert_eq!(n_late as usize, n_all - sides[0].len() - sides[1].len());
        prop_assert_eq!(n_kept, 0, "a job that has ended keeps nothing");

        let (before, after) = (before_s as i64 * 1_000_000, after_s as i64 * 1_000_000);
        let matches = |left: &Row, right: &Row| match (left.time, right.time) {
            (Some(left), Some(right)) => left - before <= right && right <= left + after,
            _ => false,
        };
        let [lefts, rights] = sides.clone().map(|rows| rows.into_iter().map(|(row, _)| (row, None)).collect::<Vec<_>>());
        let mut all = given.concat();
        all.sort();
        prop_assert_eq!(all, model(join_type, &lefts, &rights, matches));

        // Pairs come with the later of their rows; a row without a match comes when none can come any more.
        let place = |side: usize, id: i64| sides[side].iter().find(|(row, _)| row.id == id).copied().expect("a row in time");
        for (index, (given, batch)) in given.iter().zip(&batches).enumerate() {
            for (_, left, right, _) in given {
                match (left, right) {
                    (Some(left), Some(right)) => prop_assert_eq!(index, place(0, *left).1.max(place(1, *right).1)),
                    (Some(left), None) if join_type == JoinType::Semi => {
                        let (row, came) = place(0, *left);
                        let of_key = sides[1].iter().filter(|(right, _)| right.key == row.key && matches(&row, right));
                        prop_assert_eq!(Some(index), of_key.map(|(_, right_came)| came.max(*right_came)).min());
                    }
                    (left, right) => {
                        let (row, hold) = match (left, right) {
                            (Some(left), _) => (place(0, *left).0, after),
                            (_, right) => (place(1, right.expect("a row")).0, before),
                        };
                        if let (Some(time), Some(_)) = (row.time, row.key) {
                            prop_assert!(batch.now_us.is_some_and(|now_us| time + hold < now_us), "{row:?} in {index}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_of_a_window_are_joined_as_by_nested_loops(
        join_type in join_type(),
        size_s in 1_u64..12,
        slide_s in 1_u64..12,
        batches in batches(),
        cuts in cuts(),
    ) {
        let (given, n_late, n_kept) = run(&options(join_type, window(size_s, slide_s)), &batches, &cuts);
        prop_assert_eq!(n_kept, 0, "a job that has ended keeps nothing");
        let (size, slide) = (size_s as i64 * 1_000_000, slide_s as i64 * 1_000_000);
        // Each row once for each window that has not ended for good.
        let mut n_all_late = 0;
        let mut in_windows = |side: usize| {
            let mut rows = Vec::new();
            for (index, batch) in batches.iter().enumerate() {
                for row in &batch.sides[side] {
                    let Some(time) = row.time else { continue };
                    let starts = (-60_000_000 / slide..60_000_000 / slide).map(|start| start * slide);
                    let of_row: Vec<i64> = starts.filter(|start| *start <= time && time < start + size).collect();
                    let is_late = |start: &i64| late_us(&batches, index).is_some_and(|late_us| start + size <= late_us);
                    n_all_late += u64::from(!of_row.is_empty() && of_row.iter().all(is_late));
                    rows.extend(of_row.iter().filter(|start| !is_late(start)).map(|start| (*row, Some(*start))));
                }
            }
            rows
        };
        let (lefts, rights) = (in_windows(0), in_windows(1));
        prop_assert_eq!(n_late, n_all_late);
        let mut all = given.concat();
        all.sort();
        prop_assert_eq!(all, model(join_type, &lefts, &rights, |_, _| true));
        // Rows without a match come when their window has ended, in the first batch that knows.
        for (index, (given, batch)) in given.iter().zip(&batches).enumerate() {
            for (key, left, right, start) in given {
                let is_alone = left.is_none() || right.is_none();
                if key.is_some() && is_alone && join_type != JoinType::Semi {
                    let end = start.expect("a window") + size;
                    prop_assert!(batch.now_us.is_some_and(|now_us| end <= now_us));
                    prop_assert!(late_us(&batches, index).is_none_or(|late_us| end > late_us));
                }
            }
        }
    }
}

#[test]
fn times_at_the_ends_of_the_range_are_times_as_others() {
    let row = |id: i64, time: i64| Row { key: Some(0), id, time: Some(time) };
    let sides = || [vec![row(1, i64::MIN), row(2, i64::MAX)], vec![row(3, i64::MIN + 5), row(4, i64::MAX - 5)]];
    let cuts = Cuts { lengths: vec![5], n_tasks: 1, n_partitions: 1, fails: 9 };
    let batches = [
        Batch { sides: sides(), now_us: None },
        Batch { sides: [Vec::new(), Vec::new()], now_us: Some(i64::MIN) },
        Batch { sides: [Vec::new(), Vec::new()], now_us: Some(i64::MAX) },
    ];
    let scope = JoinScope::Interval {
        time: ("at".into(), "at".into()),
        before: Duration::MAX,
        after: Duration::from_micros(5),
    };
    let (given, n_late, n_kept) = run(&options(JoinType::Full, scope), &batches, &cuts);
    let pairs: Vec<_> = given.concat().into_iter().map(|out| (out.1, out.2)).collect();
    assert_eq!(pairs, [(Some(1), Some(3)), (Some(2), Some(4)),]);
    assert_eq!((n_late, n_kept), (0, 0));
    let (given, _, n_kept) = run(&options(JoinType::Left, window(3, 1)), &batches, &cuts);
    assert_eq!(n_kept, 0);
    assert!(given.concat().iter().all(|out| out.2.is_none() || out.1.is_some()));
}

#[test]
fn a_key_that_comes_again_and_again_has_a_bucket_a_slot_and_a_bounded_number_of_them() {
    let mut run = planned(&options(JoinType::Inner, interval(800, 0)), 1);
    let mut bytes = Vec::new();
    for second in 0..1_000_i64 {
        let row = |id: i64| Row { key: Some(0), id, time: Some(second * 1_000_000) };
        let side = |side: usize| vec![vec![record_batch(side, &[row(second)])]];
        let now_us = Some((second - 1) * 1_000_000);
        let batch = TestBatch {
            watermark: Watermark { late_us: now_us, now_us },
            sides: vec![if second % 100 == 0 { side(0) } else { Vec::new() }, side(1)],
            ..TestBatch::default()
        };
        run.batch(&batch).expect("it runs");
        bytes.push(run.state_size().1);
    }
    // Left rows are kept for a slot, right rows for 800 s and a slot: what is kept stops growing.
    assert_eq!(bytes[999], bytes[899]);
    assert!(run.state_size().0 <= 12, "{} entries", run.state_size().0);
}
