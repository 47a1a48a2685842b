//! Where windows and panes begin and end. Pure.
//!
//! A window begins every `slide` and takes in `size`. Both are whole numbers of *panes*, whose width is their greatest
//! common divisor: a row belongs to one pane, and a window is the panes in it.
//!
//! ```text
//!  size 6, slide 4, panes of 2    |0   |2   |4   |6   |8   |10  |12
//!                                 [ window 0   )    [ window 8   )
//!                                           [ window 4   )
//! ```

use std::time::Duration;

/// Times beyond this are no times of rows: 73,000 years before and after 1970. Within it nothing that is computed here
/// overflows, because windows and delays are a century at most.
pub(crate) const TIME_US_MAX: i64 = 1 << 61;

/// Windows of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panes {
    size: i64,
    slide: i64,
    /// Windows begin at multiples of `slide`, and so much later.
    offset: i64,
    width: i64,
}

/// A duration in microseconds. A century fits.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The reading of a clock less how much later rows may come, within what can be computed with.
pub(crate) fn cut(reading: Option<i64>, lateness_us: i64) -> Option<i64> {
    let bound = TIME_US_MAX * 2;
    reading.map(|reading| reading.saturating_sub(lateness_us).clamp(-bound, bound))
}

impl Panes {
    /// Windows of `size` that begin every `slide`, both longer than nothing.
    pub(crate) fn new(size: i64, slide: i64, offset: i64) -> Self {
        Self { size, slide, offset: offset.rem_euclid(slide), width: gcd(size, slide) }
    }

    /// How long a window is.
    pub(crate) fn size(&self) -> i64 {
        self.size
    }

    /// From one window's begin to the next one's.
    pub(crate) fn slide(&self) -> i64 {
        self.slide
    }

    /// How wide a pane is.
    pub(crate) fn width(&self) -> i64 {
        self.width
    }

    /// Whether there are times that are in no window.
    pub(crate) fn has_gaps(&self) -> bool {
        self.slide > self.size
    }

    /// Whether each pane is a window of its own.
    pub(crate) fn is_plain(&self) -> bool {
        self.width == self.size
    }

    /// The pane that a time is in.
    pub(crate) fn pane_of(&self, us: i64) -> i64 {
        self.floor(us, self.width)
    }

    /// The last of the times every `step` from the offset on that is not later.
    pub(crate) fn floor(&self, us: i64, step: i64) -> i64 {
        us - (us - self.offset).rem_euclid(step)
    }

    /// The last window that begins by then.
    pub(crate) fn last_window(&self, us: i64) -> i64 {
        us - (us - self.offset).rem_euclid(self.slide)
    }

    /// The first window that a pane is in, or that begins after it.
    pub(crate) fn first_window(&self, pane: i64) -> i64 {
        self.last_window(pane - self.size) + self.slide
    }

    /// The windows that a pane is in, in order.
    pub(crate) fn windows_of(&self, pane: i64) -> impl Iterator<Item = i64> + use<> {
        let Self { slide, .. } = *self;
        let last = self.last_window(pane);
        std::iter::successors(Some(self.first_window(pane)), move |start| Some(start + slide))
            .take_while(move |start| *start <= last)
    }

    /// Whether every window that holds a part of one of `before` holds all of it.
    pub(crate) fn holds_whole(&self, before: &Panes) -> bool {
        // Where windows here begin or end, seen from the begins of those before: every `step` from `first` on.
        let step = gcd(self.slide, before.slide);
        let edge_within = |edge: i64| match (edge - before.offset).rem_euclid(step) {
            0 => step,
            first => first,
        };
        [self.offset, self.offset + self.size].into_iter().all(|edge| edge_within(edge) >= before.size)
    }

    /// The first window that is not complete at `cut`.
    pub(crate) fn first_open(&self, cut: i64) -> i64 {
        self.last_window(cut - self.size) + self.slide
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn panes_and_windows_are_what_they_say(
            size in 1i64..60, slide in 1i64..60, offset in -100i64..100, us in -1000i64..1000, cut in -1000i64..1000,
        ) {
            let panes = Panes::new(size, slide, offset);
            let starts: Vec<i64> = (-2000..2000).filter(|start| (start - offset).rem_euclid(slide) == 0).collect();
            let pane = panes.pane_of(us);
            prop_assert!(pane <= us && us < pane + panes.width());
            // Every window holds all of a pane, or nothing.
            let holding: Vec<i64> = starts.iter().copied().filter(|start| *start <= us && us < start + size).collect();
            prop_assert_eq!(panes.windows_of(pane).collect::<Vec<_>>(), holding.clone());
            if let Some(first) = holding.first() {
                prop_assert_eq!(panes.first_window(pane), *first);
            }
            prop_assert_eq!(Some(panes.last_window(us)), starts.iter().copied().rfind(|start| *start <= us));
            prop_assert_eq!(Some(panes.first_open(cut)), starts.iter().copied().find(|start| start + size > cut));
        }
    }

    proptest! {
        #[test]
        fn windows_are_held_whole_or_not_at_all(
            (size, slide, offset) in (1i64..30, 1i64..30, 0i64..30), (n, m, by) in (1i64..4, 1i64..4, 0i64..3),
            (other_size, other_slide, other_offset) in (1i64..30, 1i64..30, 0i64..30), is_multiple in any::<bool>(),
        ) {
            let before = Panes::new(size, slide, offset);
            let panes = match is_multiple {
                true => Panes::new(slide * n, slide * m, offset + slide * by),
                false => Panes::new(other_size, other_slide, other_offset),
            };
            let starts = |panes: &Panes| {
                let (slide, offset) = (panes.slide, panes.offset);
                (-1000i64..1000).filter(move |start| (start - offset).rem_euclid(slide) == 0)
            };
            let is_cut = |start: i64, end: i64| starts(&panes).any(|here| {
                [here, here + panes.size].iter().any(|edge| start < *edge && *edge < end)
            });
            let expected = starts(&before).filter(|start| start.abs() < 900).all(|start| !is_cut(start, start + size));
            prop_assert_eq!(panes.holds_whole(&before), expected);
        }
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let century = micros(Duration::from_secs(100 * 366 * 86_400));
        let panes = Panes::new(century, 1, 0);
        for us in [-TIME_US_MAX, TIME_US_MAX] {
            assert!(panes.first_window(panes.pane_of(us)) <= us);
        }
        assert_eq!(cut(Some(i64::MAX), 5), Some(TIME_US_MAX * 2));
        assert_eq!(cut(Some(i64::MIN), 5), Some(-TIME_US_MAX * 2));
        assert!(panes.first_open(TIME_US_MAX * 2) > TIME_US_MAX);
        assert_eq!(cut(None, 5), None);
    }
}
