//! Joins with the latest row of a key.

use std::collections::HashMap;
use std::time::Duration;

use super::super::JoinScope;
use super::*;

fn latest(by_time: bool, timeout_s: Option<u64>) -> JoinScope {
    let time = by_time.then(|| ("at".into(), "at".into()));
    JoinScope::Latest { time, timeout: timeout_s.map(Duration::from_secs) }
}

fn outer_or_inner() -> impl Strategy<Value = JoinType> {
    proptest::sample::select(vec![JoinType::Inner, JoinType::Left])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn by_arrival_a_row_meets_the_last_that_came(
        join_type in outer_or_inner(),
        timeout_s in proptest::option::of(1_u64..5),
        batches in batches(),
        cuts in cuts(),
    ) {
        let (given, n_late, n_kept) = run(&options(join_type, latest(false, timeout_s)), &batches, &cuts);
        prop_assert_eq!(n_late, 0);
        // By key: the number of the row and the second of its batch.
        let mut versions: HashMap<u8, (i64, u64)> = HashMap::new();
        for (second, (batch, given)) in batches.iter().zip(given).enumerate() {
            let second = second as u64;
            let with_key = batch.sides[1].iter().filter_map(|row| Some((row.key?, (row.id, second))));
            versions.extend(with_key);
            let mut expected = Vec::new();
            for left in &batch.sides[0] {
                let version = left.key.and_then(|key| versions.get(&key));
                let version = version.filter(|(_, came)| timeout_s.is_none_or(|timeout_s| second - came < timeout_s));
                if version.is_some() || join_type == JoinType::Left {
                    expected.push((key_text(left.key), Some(left.id), version.map(|(id, _)| *id), None));
                }
            }
            expected.sort();
            prop_assert_eq!(given, expected);
        }
        if timeout_s.is_none() {
            prop_assert_eq!(n_kept as usize, versions.len());
        } else {
            prop_assert!(n_kept as usize <= 2 * versions.len());
        }
    }

    #[test]
    fn by_event_time_a_row_meets_the_last_before_it(
        join_type in outer_or_inner(),
        timeout_s in proptest::option::of(1_u64..30),
        batches in batches(),
        cuts in cuts(),
    ) {
        let (given, n_late, _) = run(&options(join_type, latest(true, timeout_s)), &batches, &cuts);
        let mut expected: Vec<Vec<Out>> = vec![Vec::new(); batches.len()];
        let mut n_expected_late = 0;
        for (came, batch) in batches.iter().enumerate() {
            for left in &batch.sides[0] {
                let alone = (key_text(left.key), Some(left.id), None, None);
                if left.time.is_some_and(|time| late_us(&batches, came).is_some_and(|late_us| time < late_us)) {
                    n_expected_late += 1;
                    continue;
                }
                let (Some(time), Some(_)) = (left.time, left.key) else {
                    if join_type == JoinType::Left {
                        expected[came].push(alone);
                    }
                    continue;
                };
                // It is given in the first batch whose clock has passed it, and sees what has come by then.
                let gives = (came..batches.len()).find(|&index| batches[index].now_us.is_some_and(|now_us| time < now_us));
                let gives = gives.expect("the last batch passes everything");
                let rights = batches[..=gives].iter().flat_map(|batch| &batch.sides[1]).enumerate();
                let of_key = rights.filter(|(_, right)| right.key == left.key);
                let before = of_key.filter_map(|(index, right)| Some((right.time?, index, right.id)));
                let version = before.filter(|(right_time, ..)| *right_time <= time).max();
                let is_fresh = |right_time: i64| timeout_s.is_none_or(|timeout_s| time - right_time < timeout_s as i64 * 1_000_000);
                match version.filter(|(right_time, ..)| is_fresh(*right_time)) {
                    Some((_, _, id)) => expected[gives].push((key_text(left.key), Some(left.id), Some(id), None)),
                    None if join_type == JoinType::Left => expected[gives].push(alone),
                    None => {}
                }
            }
        }
        expected.iter_mut().for_each(|batch| batch.sort());
        prop_assert_eq!(given, expected);
        prop_assert_eq!(n_late, n_expected_late);
    }
}

#[test]
fn keys_that_do_not_come_any_more_are_forgotten() {
    for by_time in [false, true] {
        let mut run = planned(&options(JoinType::Left, latest(by_time, Some(8))), 1);
        let mut sizes = Vec::new();
        for second in 0..40_i64 {
            // One key stays, the others come once.
            let keys = [0, second as u8 + 1];
            let rows = keys.map(|key| Row { key: Some(key), id: second, time: Some(second * 1_000_000) });
            let now_us = Some(second * 1_000_000);
            let batch = TestBatch {
                time_us: second * 1_000_000,
                watermark: Watermark { late_us: now_us, now_us },
                sides: vec![Vec::new(), vec![vec![record_batch(1, &rows)]]],
                ..TestBatch::default()
            };
            run.batch(&batch).expect("it runs");
            sizes.push(run.state_size().0);
        }
        assert!(sizes[39] <= 2 * 11, "by time: {by_time}; {sizes:?}");
        assert_eq!(sizes[39], sizes[20]);
    }
}
