//! When batches are due, and what is said when the machine's clock, or the job, has left some out.
//!
//! | the clock, seen from the last batch time | `missed-batches = "merge"` | `"run"` |
//! | --- | --- | --- |
//! | within an interval of it | the next tick is waited for | the same |
//! | ticks have gone by: the job was down or busy, the machine slept, the clock was set forward | left out: their rows come with the next | batches of these times, one after the other, at once |
//! | it was set back | batch times go on from the last one, an interval apart | the same |
//!
//! The law: batch times only grow.

use std::time::Duration;

use crate::clock::{Stopwatch, describe_time};
use crate::job::{MissedBatches, Settings};

/// More ticks than this were not missed: somebody has set the clock. A job that makes a batch a second is eleven days behind then.
pub(crate) const MISSED_BATCHES_MAX: u64 = 1_000_000;

/// Between two messages of a job that misses ticks or follows a clock that is not right.
const MESSAGE_INTERVAL: Duration = Duration::from_secs(10);

/// A clock is always corrected by a little.
const SET_BACK_MIN: Duration = Duration::from_secs(1);

/// The next batch of a job with an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick {
    /// Its time in microseconds since 1970-01-01 UTC.
    pub(crate) time_us: i64,
    /// How long to wait for it.
    pub(crate) wait: Duration,
    /// Ticks that have gone by since the last batch.
    pub(crate) n_missed: u64,
    /// How far the clock is behind the last batch time, when it was set back.
    pub(crate) behind: Duration,
}

/// The next batch after that of `last_us`.
///
/// Batch times are multiples of the interval; after a clock that was set back they are an interval apart.
pub(crate) fn next_tick(now: Duration, last_us: Option<i64>, interval: Duration, missed: MissedBatches) -> Tick {
    assert!(!interval.is_zero(), "an interval of zero has no ticks");
    let interval_us = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).max(1);
    let now_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let after = |us: i64| (us.div_euclid(interval_us) + 1).saturating_mul(interval_us);
    let until = |us: i64| Duration::from_micros(us.abs_diff(now_us));
    let next_us = after(now_us);
    let Some(last_us) = last_us else {
        return Tick { time_us: next_us, wait: until(next_us), n_missed: 0, behind: Duration::ZERO };
    };
    if next_us <= last_us {
        let time_us = last_us.saturating_add(interval_us);
        let behind = Duration::from_micros(last_us.abs_diff(now_us));
        // Less than an interval is a clock that was corrected: it is right to wait for it.
        let wait = if behind <= interval { until(time_us) } else { interval };
        return Tick { time_us, wait, n_missed: 0, behind };
    }
    let due_us = after(last_us);
    let n_missed = if due_us > now_us { 0 } else { now_us.abs_diff(due_us) / interval_us as u64 + 1 };
    if n_missed > 0 && n_missed <= MISSED_BATCHES_MAX && missed == MissedBatches::Run {
        return Tick { time_us: due_us, wait: Duration::ZERO, n_missed, behind: Duration::ZERO };
    }
    Tick { time_us: next_us, wait: until(next_us), n_missed, behind: Duration::ZERO }
}

/// The time of a batch that is made now, when no interval says it. `passed` is the time since the last batch was made, by a clock that
/// nobody sets.
pub(crate) fn time_of_now(now: Duration, last_us: Option<i64>, passed: Duration) -> (i64, Duration) {
    let now_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    match last_us {
        // Time goes on, also when the clock was set back.
        Some(last_us) if now_us <= last_us => {
            let passed_us = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX).max(1);
            (last_us.saturating_add(passed_us), Duration::from_micros(last_us.abs_diff(now_us)))
        }
        _ => (now_us, Duration::ZERO),
    }
}

/// Says once what is wrong with the times of a job, and again while it goes on, but not more often than anybody reads.
#[derive(Debug, Default)]
pub(crate) struct TickMessages {
    /// Whether a tick has been looked at.
    is_running: bool,
    last: Option<Stopwatch>,
    is_set_back: bool,
}

impl TickMessages {
    /// Looks at a tick that comes after `last_us`.
    pub(crate) fn tell(&mut self, settings: &Settings, tick: &Tick, last_us: Option<i64>) {
        let is_running = std::mem::replace(&mut self.is_running, true);
        self.tell_set_back(settings, tick.behind);
        let is_due = self.last.is_none_or(|last| last.elapsed() >= MESSAGE_INTERVAL) || !is_running;
        if tick.n_missed == 0 || !is_due {
            return;
        }
        self.last = Some(Stopwatch::start());
        let n_missed = tick.n_missed;
        let since = last_us.map(describe_time).unwrap_or_default();
        let why = if is_running {
            "while others ran, the machine slept, or its clock was set"
        } else {
            "while the job was down"
        };
        let what = match settings.missed_batches {
            MissedBatches::Run if n_missed <= MISSED_BATCHES_MAX => "they are run now, one after the other",
            MissedBatches::Run => "they are too many to be run, and their rows come with the next",
            MissedBatches::Merge => "their rows come with the next",
        };
        tracing::warn!(
            target: "tidemill::scheduler",
            job = settings.name, n_missed, since,
            "{n_missed} batches were missed {why}: {what}"
        );
    }

    /// Says that the clock is behind the last batch time, once until it is right again.
    pub(crate) fn tell_set_back(&mut self, settings: &Settings, behind: Duration) {
        let was_set_back = std::mem::replace(&mut self.is_set_back, behind >= SET_BACK_MIN);
        if self.is_set_back && !was_set_back {
            tracing::warn!(
                target: "tidemill::scheduler",
                job = settings.name, ?behind,
                "the machine's clock is behind the time of the last batch: it was set back, or was wrong before. Batch times go on from \
                 the last one"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(now_ms: u64, last_ms: Option<i64>, interval_ms: u64, expected: (i64, u64, u64)) {
        let tick = next_tick(
            Duration::from_millis(now_ms),
            last_ms.map(|ms| ms * 1000),
            Duration::from_millis(interval_ms),
            MissedBatches::Merge,
        );
        assert_eq!((tick.time_us / 1000, tick.wait.as_millis() as u64, tick.n_missed), expected);
    }

    #[test]
    fn batch_times_are_multiples_of_the_interval_and_never_go_back() {
        check(1_234, None, 1_000, (2_000, 766, 0));
        check(2_000, Some(2_000), 1_000, (3_000, 1_000, 0));
        // Late by more than an interval: the ticks in between are left out.
        check(5_500, Some(2_000), 1_000, (6_000, 500, 3));
        // The clock was set back by an hour: batches go on an interval apart.
        check(10_000, Some(3_610_000), 1_000, (3_611_000, 1_000, 0));
        // It was corrected by some milliseconds: the next tick stays where it was.
        check(1_990, Some(2_000), 1_000, (3_000, 1_010, 0));
    }

    #[test]
    fn missed_batches_are_run_one_after_the_other() {
        let (mut last_us, mut times) = (2_000_000, Vec::new());
        loop {
            let now = Duration::from_millis(5_500);
            let tick = next_tick(now, Some(last_us), Duration::from_secs(1), MissedBatches::Run);
            times.push((tick.time_us / 1_000_000, tick.n_missed, tick.wait.as_millis()));
            if tick.n_missed == 0 {
                break;
            }
            last_us = tick.time_us;
        }
        assert_eq!(times, [(3, 3, 0), (4, 2, 0), (5, 1, 0), (6, 0, 500)]);
        // A clock that is years ahead makes one batch.
        let year = Duration::from_secs(365 * 86_400);
        let tick = next_tick(year, Some(0), Duration::from_secs(1), MissedBatches::Run);
        assert_eq!((tick.time_us, tick.n_missed), (year.as_micros() as i64 + 1_000_000, year.as_secs()));
    }

    #[test]
    fn without_an_interval_time_goes_on_when_the_clock_was_set_back() {
        let seconds = Duration::from_secs;
        assert_eq!(time_of_now(seconds(5), None, seconds(0)), (5_000_000, seconds(0)));
        assert_eq!(time_of_now(seconds(5), Some(4_000_000), seconds(9)), (5_000_000, seconds(0)));
        assert_eq!(time_of_now(seconds(5), Some(5_000_000), seconds(0)), (5_000_001, seconds(0)));
        assert_eq!(time_of_now(seconds(5), Some(65_000_000), seconds(2)), (67_000_000, seconds(60)));
    }

    proptest! {
        #[test]
        fn law_batch_times_only_grow(
            interval_us in 1_u64..5_000_000,
            // What the clock does between two ticks.
            jumps in proptest::collection::vec(-10_000_000_i64..10_000_000, 1..50),
            run in any::<bool>(),
        ) {
            let missed = if run { MissedBatches::Run } else { MissedBatches::Merge };
            let interval = Duration::from_micros(interval_us);
            let (mut now_us, mut last_us) = (1_000_000_000_i64, None);
            for jump in jumps {
                now_us += jump;
                let tick = next_tick(Duration::from_micros(now_us as u64), last_us, interval, missed);
                prop_assert!(last_us.is_none_or(|last_us| tick.time_us > last_us));
                prop_assert_eq!(tick.time_us % interval_us as i64, 0);
                prop_assert!(tick.wait <= interval * 2);
                if run && tick.n_missed > 0 {
                    prop_assert!(last_us.is_some_and(|last_us| tick.time_us == last_us + interval_us as i64));
                }
                now_us += tick.wait.as_micros() as i64;
                last_us = Some(tick.time_us);
            }
        }
    }
}
