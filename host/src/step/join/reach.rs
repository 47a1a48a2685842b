//! How far a row reaches in time: which rows of the other side match it, where it is kept, and for how long. Pure.
//!
//! ```text
//!                 before          after
//!            ├──────────────┼───────────────┤        right rows that match the left row at t
//!  ──────────┴──────────────t───────────────┴──────▶ event time
//!   ├─────────┼─────────┼─────────┼─────────┼        slots: state is kept, looked up and forgotten slot by slot
//! ```

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::event_time::Watermark;

/// An interval is so many slots long, if they are not shorter than [`SLOT_US_MIN`]: a row looks into two more at most, and is
/// forgotten an eighth of the interval late at most.
const SLOTS_PER_INTERVAL: i64 = 8;

/// Shorter slots would be a slot for every few rows.
const SLOT_US_MIN: i64 = 1_000_000;

/// Windows that one row may be in: it is kept once for each.
pub(crate) const WINDOWS_PER_ROW_MAX: u128 = 1_000;

/// What matches and what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Right times from so long before the left time to so long after it; in microseconds.
    Interval { before_us: i64, after_us: i64 },
    /// Rows of the same window. The time of a row is the start of its window; a row is in several if they overlap.
    Window { size_us: i64, slide_us: i64 },
}

/// A duration in microseconds, as far as there are so many.
pub(crate) fn as_us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn clamp(number: i128) -> i64 {
    number.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl Reach {
    /// The length of a slot.
    pub(crate) fn slot_us(self) -> i64 {
        match self {
            Reach::Interval { before_us, after_us } => {
                clamp((i128::from(before_us) + i128::from(after_us)) / i128::from(SLOTS_PER_INTERVAL)).max(SLOT_US_MIN)
            }
            Reach::Window { slide_us, .. } => slide_us,
        }
    }

    /// The slot that a row at this time is kept in.
    pub(crate) fn slot_of(self, time_us: i64) -> i64 {
        time_us.div_euclid(self.slot_us())
    }

    /// The slots in which the rows of the other side are that may match a row of `side` (0 is left) at this time.
    pub(crate) fn slots_of_matches(self, side: usize, time_us: i64) -> RangeInclusive<i64> {
        match self {
            Reach::Interval { before_us, after_us } => {
                let (back, ahead) = if side == 0 { (before_us, after_us) } else { (after_us, before_us) };
                self.slot_of(time_us.saturating_sub(back))..=self.slot_of(time_us.saturating_add(ahead))
            }
            Reach::Window { .. } => self.slot_of(time_us)..=self.slot_of(time_us),
        }
    }

    /// Whether rows at these times match.
    pub(crate) fn matches(self, left_us: i64, right_us: i64) -> bool {
        match self {
            Reach::Interval { before_us, after_us } => {
                let ahead = i128::from(right_us) - i128::from(left_us);
                -i128::from(before_us) <= ahead && ahead <= i128::from(after_us)
            }
            Reach::Window { .. } => left_us == right_us,
        }
    }

    /// The times at which a row is kept: that of the row, or the starts of its windows.
    pub(crate) fn times_of(self, time_us: i64) -> impl Iterator<Item = i64> {
        let (first, last, step) = match self {
            Reach::Interval { .. } => (i128::from(time_us), i128::from(time_us), 1),
            Reach::Window { size_us, slide_us } => {
                let (time, size, slide) = (i128::from(time_us), i128::from(size_us), i128::from(slide_us));
                let last = time.div_euclid(slide) * slide;
                // The earliest start whose window has not ended by then.
                ((time - size).div_euclid(slide) * slide + slide, last, slide)
            }
        };
        std::iter::successors(Some(first), move |start| Some(start + step))
            .take_while(move |start| *start <= last)
            .filter_map(|start| i64::try_from(start).ok())
    }

    /// Whether a row kept at this time comes too late: all that it could match may be gone.
    pub(crate) fn is_late(self, time_us: i64, clock: Watermark) -> bool {
        let length = match self {
            Reach::Interval { .. } => 1,
            Reach::Window { size_us, .. } => size_us,
        };
        clock.is_late(time_us.saturating_add(length))
    }

    /// The last slot of a side whose rows nothing can match any more after this batch; `None`: there is none.
    pub(crate) fn last_complete_slot(self, side: usize, clock: Watermark) -> Option<i64> {
        let now_us = clock.now_us?;
        if now_us == i64::MAX {
            return Some(i64::MAX);
        }
        // Behind the last time at which a row that matches one of the slot may come, counted from the slot's start.
        let length = match self {
            Reach::Interval { before_us, after_us } => {
                i128::from(self.slot_us()) + i128::from(if side == 0 { after_us } else { before_us })
            }
            Reach::Window { size_us, .. } => i128::from(size_us),
        };
        let last = (i128::from(now_us) - length).div_euclid(i128::from(self.slot_us()));
        i64::try_from(last).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(us: i64) -> Watermark {
        Watermark { late_us: Some(us), now_us: Some(us) }
    }

    fn reach() -> impl Strategy<Value = Reach> {
        prop_oneof![
            (0..40_000_000_i64, 0..40_000_000_i64)
                .prop_map(|(before_us, after_us)| Reach::Interval { before_us, after_us }),
            (1..9_000_000_i64, 1..9_000_000_i64).prop_map(|(size_us, slide_us)| Reach::Window {
                size_us: size_us.max(slide_us / 900),
                slide_us: slide_us.max(size_us / 900)
            }),
        ]
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![-90_000_000..90_000_000_i64, Just(i64::MIN), Just(i64::MAX), Just(i64::MAX - 1)]
    }

    proptest! {
        #[test]
        fn what_matches_is_looked_for_and_kept_while_it_may_be(reach in reach(), left in time(), right in time(), now in time()) {
            for (left, right) in reach.times_of(left).flat_map(|left| reach.times_of(right).map(move |right| (left, right))).take(50) {
                if !reach.matches(left, right) {
                    continue;
                }
                prop_assert!(reach.slots_of_matches(0, left).contains(&reach.slot_of(right)));
                prop_assert!(reach.slots_of_matches(1, right).contains(&reach.slot_of(left)));
                if now != i64::MAX {
                    // Whoever is not late finds everything that it matches.
                    let gone = |side, time| reach.last_complete_slot(side, at(now)).is_some_and(|last| reach.slot_of(time) <= last);
                    prop_assert!(reach.is_late(left, at(now)) || !gone(1, right));
                    prop_assert!(reach.is_late(right, at(now)) || !gone(0, left));
                }
            }
        }

        #[test]
        fn a_row_is_in_every_window_around_it(size_us in 1..50_i64, slide_us in 1..50_i64, time in -200..200_i64) {
            let reach = Reach::Window { size_us, slide_us };
            let starts: Vec<i64> = reach.times_of(time).collect();
            let model: Vec<i64> = (-300..300).filter(|start| start % slide_us == 0 && *start <= time && time < start + size_us).collect();
            prop_assert_eq!(starts, model);
        }
    }

    #[test]
    fn slots_are_forgotten_when_they_are_complete() {
        let reach = Reach::Interval { before_us: 16_000_000, after_us: 0 };
        // Slots of 2 seconds: a left row of the first is complete when nothing before 2 s can come.
        assert_eq!(reach.last_complete_slot(0, at(1_999_999)), Some(-1));
        assert_eq!(reach.last_complete_slot(0, at(2_000_000)), Some(0));
        assert_eq!(reach.last_complete_slot(1, at(17_999_999)), Some(-1));
        assert_eq!(reach.last_complete_slot(1, at(18_000_000)), Some(0));
        assert_eq!(reach.last_complete_slot(0, Watermark::default()), None);
        assert_eq!(reach.last_complete_slot(0, at(i64::MAX)), Some(i64::MAX));
        let windows = Reach::Window { size_us: 10, slide_us: 5 };
        assert_eq!(windows.last_complete_slot(0, at(9)), Some(-1));
        assert_eq!(windows.last_complete_slot(0, at(10)), Some(0));
    }
}
