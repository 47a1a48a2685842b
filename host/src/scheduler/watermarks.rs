//! How watermarks and clocks move from batch to batch. Pure.

use crate::checkpoint::Clocks;
use crate::event_time::{BatchTimes, EventTime, Watermark};

/// What is known of one watermark.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The largest time seen.
    seen_us: Option<i64>,
    /// The time of the last batch in which a row came.
    came_us: Option<i64>,
}

/// Follows the watermarks of a job.
#[derive(Debug)]
pub(crate) struct Watermarks {
    times: Vec<EventTime>,
    /// The watermarks that each clock follows.
    clocks: Vec<Vec<usize>>,
    known: Vec<Known>,
    readings: Vec<Watermark>,
    first_batch_us: Option<i64>,
}

impl Watermarks {
    /// The watermarks of a plan, before its first batch.
    pub(crate) fn new(times: Vec<EventTime>, clocks: Vec<Vec<usize>>) -> Self {
        let known = vec![Known::default(); times.len()];
        let readings = vec![Watermark::default(); clocks.len()];
        Self { times, clocks, known, readings, first_batch_us: None }
    }

    /// How far event time has come, to go on from later.
    pub(crate) fn clocks(&self) -> Clocks {
        Clocks {
            first_batch_us: self.first_batch_us,
            watermarks: self.known.iter().map(|known| (known.seen_us, known.came_us)).collect(),
            readings: self.readings.iter().map(|reading| (reading.late_us, reading.now_us)).collect(),
        }
    }

    /// Goes on from where event time had come. The job has the same watermarks; clocks follow other sets of them when steps without
    /// state are others, and say what their watermarks say then.
    pub(crate) fn resume(&mut self, clocks: &Clocks) {
        self.first_batch_us = clocks.first_batch_us;
        for (known, &(seen_us, came_us)) in self.known.iter_mut().zip(&clocks.watermarks) {
            *known = Known { seen_us, came_us };
        }
        if self.readings.len() == clocks.readings.len() {
            for (reading, &(late_us, now_us)) in self.readings.iter_mut().zip(&clocks.readings) {
                *reading = Watermark { late_us, now_us };
            }
        }
    }

    /// The times of a batch. One that closes the job completes everything.
    pub(crate) fn batch(&mut self, batch_time_us: i64, closes: bool) -> BatchTimes {
        let first_us = *self.first_batch_us.get_or_insert(batch_time_us);
        let readings = self.clocks.iter().zip(&self.readings).map(|(follows, before)| {
            let now_us = if closes { Some(i64::MAX) } else { self.slowest(follows, batch_time_us, first_us) };
            // A clock never goes back, whichever source comes to life again.
            Watermark { late_us: before.now_us, now_us: now_us.max(before.now_us) }
        });
        BatchTimes::new(readings.collect(), self.times.len(), closes)
    }

    /// Takes in what a batch that was published has seen; says whether a clock will move because of it.
    pub(crate) fn published(&mut self, batch_time_us: i64, batch: &BatchTimes) -> bool {
        for (clock, reading) in self.readings.iter_mut().enumerate() {
            *reading = batch.watermark(Some(crate::event_time::ClockId(clock)));
        }
        for (watermark, known) in self.known.iter_mut().enumerate() {
            known.seen_us = known.seen_us.max(batch.seen(watermark));
            if batch.came(watermark) {
                known.came_us = Some(batch_time_us);
            }
        }
        let first_us = self.first_batch_us.unwrap_or(batch_time_us);
        let will_be = |follows: &Vec<usize>| self.slowest(follows, batch_time_us, first_us);
        self.clocks.iter().zip(&self.readings).any(|(follows, reading)| will_be(follows) > reading.now_us)
    }

    /// The smallest of some watermarks; those that are idle hold nobody back, unless all are.
    fn slowest(&self, follows: &[usize], batch_time_us: i64, first_us: i64) -> Option<i64> {
        let is_idle = |&&watermark: &&usize| {
            let silent_us = batch_time_us - self.known[watermark].came_us.unwrap_or(first_us);
            self.times[watermark]
                .idle_timeout
                .is_some_and(|timeout| silent_us >= 0 && silent_us as u128 >= timeout.as_micros())
        };
        let value = |&watermark: &usize| {
            let delay_us = i64::try_from(self.times[watermark].delay.as_micros()).unwrap_or(i64::MAX);
            self.known[watermark].seen_us.map(|seen_us| seen_us.saturating_sub(delay_us))
        };
        let awake: Vec<Option<i64>> = follows.iter().filter(|watermark| !is_idle(watermark)).map(value).collect();
        // `None` is less than any time: a source that has not begun holds the others back.
        awake.into_iter().min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event_time::ClockId;

    fn time(delay_us: u64, idle_us: Option<u64>) -> EventTime {
        EventTime {
            column: "t".into(),
            delay: Duration::from_micros(delay_us),
            idle_timeout: idle_us.map(Duration::from_micros),
        }
    }

    /// Runs a batch in which each watermark sees a time, or none; gives the readings of clock 0: late, now.
    #[track_caller]
    fn check(watermarks: &mut Watermarks, at: i64, seen: &[Option<i64>], expected: (Option<i64>, Option<i64>)) {
        let batch = watermarks.batch(at, false);
        let Watermark { late_us, now_us } = batch.watermark(Some(ClockId(0)));
        assert_eq!((late_us, now_us), expected);
        for (watermark, seen) in seen.iter().enumerate().filter(|(_, seen)| seen.is_some()) {
            batch.observe(watermark, *seen);
        }
        watermarks.published(at, &batch);
    }

    #[test]
    fn a_clock_follows_the_largest_time_less_the_delay_one_batch_later() {
        let mut watermarks = Watermarks::new(vec![time(5, None)], vec![vec![0]]);
        check(&mut watermarks, 0, &[Some(100)], (None, None));
        check(&mut watermarks, 1, &[Some(90)], (None, Some(95)));
        check(&mut watermarks, 2, &[Some(120)], (Some(95), Some(95)));
        check(&mut watermarks, 3, &[None], (Some(95), Some(115)));
        check(&mut watermarks, 4, &[None], (Some(115), Some(115)));
    }

    #[test]
    fn a_clock_of_several_follows_the_slowest() {
        let mut watermarks = Watermarks::new(vec![time(0, None), time(0, None)], vec![vec![0, 1]]);
        check(&mut watermarks, 0, &[Some(100), None], (None, None));
        check(&mut watermarks, 1, &[Some(200), Some(50)], (None, None));
        check(&mut watermarks, 2, &[None, Some(300)], (None, Some(50)));
        check(&mut watermarks, 3, &[None, None], (Some(50), Some(200)));
    }

    #[test]
    fn an_idle_source_holds_nobody_back_and_never_turns_a_clock_back() {
        let mut watermarks = Watermarks::new(vec![time(0, None), time(0, Some(10))], vec![vec![0, 1]]);
        check(&mut watermarks, 0, &[Some(100), None], (None, None));
        check(&mut watermarks, 5, &[Some(110), None], (None, None));
        check(&mut watermarks, 10, &[None, Some(20)], (None, Some(110)));
        check(&mut watermarks, 11, &[None, None], (Some(110), Some(110)));
        check(&mut watermarks, 20, &[Some(130), None], (Some(110), Some(110)));
        check(&mut watermarks, 21, &[None, None], (Some(110), Some(130)));
    }

    #[test]
    fn the_last_batch_completes_everything() {
        let mut watermarks = Watermarks::new(vec![time(5, None)], vec![vec![0]]);
        check(&mut watermarks, 0, &[Some(100)], (None, None));
        let last = watermarks.batch(1, true);
        assert_eq!(last.watermark(Some(ClockId(0))), Watermark { late_us: None, now_us: Some(i64::MAX) });
        assert!(last.closes());
    }

    #[test]
    fn it_is_told_when_a_clock_will_move() {
        let mut watermarks = Watermarks::new(vec![time(0, None)], vec![vec![0]]);
        let batch = watermarks.batch(0, false);
        batch.observe(0, Some(7));
        assert!(watermarks.published(0, &batch));
        let batch = watermarks.batch(1, false);
        assert!(!watermarks.published(1, &batch));
    }
}
