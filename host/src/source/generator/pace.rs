//! When rows are due at a given rate.

use std::time::Duration;

/// How often rows are due, at rates at which several come between two ticks.
const TICK: Duration = Duration::from_millis(5);

/// A generator that was held up makes up for so much and no more: it does not flood a job that comes back.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// Says when rows are due, so that the rate holds over time however late each look is.
#[derive(Debug)]
pub(super) struct Pace {
    rate: f64,
    /// When the rows counted in `n_made` began.
    started: Duration,
    n_made: u64,
}

/// What is due.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    /// So many rows, now; at least one.
    Rows(u64),
    /// None for so long.
    In(Duration),
}

impl Pace {
    /// Rows are due from now on.
    pub(super) fn new(rate: f64, now: Duration) -> Self {
        Self { rate, started: now, n_made: 0 }
    }

    /// What is due now.
    pub(super) fn due(&mut self, now: Duration) -> Due {
        let earliest = Duration::try_from_secs_f64(self.n_made as f64 / self.rate).unwrap_or(Duration::MAX);
        let behind = now.saturating_sub(self.started.saturating_add(earliest));
        if behind > CATCH_UP_MAX {
            // What was missed beyond that is missed.
            self.started += behind - CATCH_UP_MAX;
        }
        let elapsed = now.saturating_sub(self.started).as_secs_f64();
        // The first row is due at once, and `f64` counts exactly for a hundred days of a billion rows a second.
        let n_due = ((elapsed * self.rate).floor() as u64 + 1).saturating_sub(self.n_made);
        if n_due > 0 {
            return Due::Rows(n_due);
        }
        let next = Duration::try_from_secs_f64(self.n_made as f64 / self.rate).unwrap_or(Duration::MAX);
        let wait = self.started.saturating_add(next).saturating_sub(now);
        // Several rows a tick are made together.
        Due::In(wait.max(if self.rate * TICK.as_secs_f64() > 1.0 { TICK } else { Duration::from_micros(1) }))
    }

    /// Rows were made.
    pub(super) fn made(&mut self, n_rows: u64) {
        self.n_made += n_rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a pace every so often, for so long; how many rows were due.
    fn run_pace(rate: f64, every: Duration, total: Duration) -> u64 {
        let mut pace = Pace::new(rate, Duration::from_secs(7));
        let (mut now, mut n_made) = (Duration::ZERO, 0);
        while now < total {
            if let Due::Rows(n_due) = pace.due(Duration::from_secs(7) + now) {
                pace.made(n_due);
                n_made += n_due;
            }
            now += every;
        }
        n_made
    }

    #[test]
    fn the_rate_holds_however_late_each_look_is() {
        for every in [1, 5, 30, 900].map(Duration::from_millis) {
            let n_made = run_pace(1_000.0, every, Duration::from_secs(90));
            assert!((89_000..=90_001).contains(&n_made), "{n_made} every {every:?}");
        }
        assert_eq!(run_pace(0.1, Duration::from_millis(50), Duration::from_secs(60)), 6);
    }

    #[test]
    fn a_stall_is_made_up_for_up_to_a_second() {
        let mut pace = Pace::new(100.0, Duration::ZERO);
        assert_eq!(pace.due(Duration::ZERO), Due::Rows(1));
        pace.made(1);
        let Due::Rows(n_due) = pace.due(Duration::from_secs(3600)) else { panic!("rows are due") };
        assert!((99..=102).contains(&n_due), "{n_due}");
        pace.made(n_due);
        assert!(matches!(pace.due(Duration::from_secs(3600)), Due::In(_)));
    }

    #[test]
    fn a_wait_ends_when_the_next_row_is_due() {
        let mut pace = Pace::new(2.0, Duration::ZERO);
        pace.made(1);
        assert_eq!(pace.due(Duration::from_millis(100)), Due::In(Duration::from_millis(400)));
        let mut fast = Pace::new(100_000.0, Duration::ZERO);
        fast.made(1);
        assert_eq!(fast.due(Duration::ZERO), Due::In(TICK));
    }
}
