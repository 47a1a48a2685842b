//! What is known of one column of times, and when a step that follows it would lose rows.

use std::time::Duration;

use super::{Cut, TimeUse};
use crate::job::units::format_duration;
use crate::step::windowed::{Panes, TimeShape};

/// Which time of a window a column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowTime {
    /// When it begins.
    Start,
    /// When it ends.
    End,
    /// That of a row in it.
    Within,
}

/// The windows that the times of a column are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsBefore {
    /// The step that makes them.
    pub step: String,
    /// Where they begin and end.
    pub(crate) shape: TimeShape,
    /// How much later than the watermark passes their end their rows may come.
    pub lateness_us: i64,
}

/// What rows came too late for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateFor(pub(super) TimeUse);

/// What is known of a column of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeColumn {
    /// The watermark is of it.
    EventTime,
    /// The rows follow the watermark of another column.
    Other {
        /// Which, when it has a name here.
        event_time: Option<String>,
    },
    /// A time of windows that end by the watermark.
    OfWindow(WindowTime, WindowsBefore),
    /// When a row comes, the watermark may be so much later than its time, in microseconds; less than 0: it is earlier.
    Behind(i64),
    /// Times of such a column, cut to the beginning of a piece of time.
    Cut(Box<TimeColumn>, Cut),
    /// The rows are those that came too late for a step that follows this column.
    Late(LateFor),
    /// Nothing.
    Unknown,
}

impl TimeColumn {
    /// How much later than a time the watermark may be when its row comes; `None`: there is no end to it.
    fn behind_us(&self) -> Option<i64> {
        match self {
            TimeColumn::EventTime => Some(0),
            TimeColumn::Behind(us) => Some(*us),
            TimeColumn::OfWindow(time, before) => before.behind_us(*time),
            TimeColumn::Cut(of, cut) => Some(of.behind_us()?.saturating_add(cut.size_us - 1)),
            TimeColumn::Other { .. } | TimeColumn::Late(_) | TimeColumn::Unknown => None,
        }
    }

    /// Of times that are at least so much later.
    pub(super) fn shifted(&self, us: i64) -> Self {
        match (self, self.behind_us()) {
            (TimeColumn::Other { .. }, _) => self.clone(),
            (_, Some(behind_us)) => TimeColumn::Behind(behind_us.saturating_sub(us)),
            (_, None) => TimeColumn::Unknown,
        }
    }

    /// Of times that are cut.
    pub(super) fn cut(&self, cut: Cut) -> Self {
        match (self, self.behind_us()) {
            (TimeColumn::Other { .. }, _) => self.clone(),
            (_, Some(_)) => TimeColumn::Cut(Box::new(self.clone()), cut),
            (_, None) => TimeColumn::Unknown,
        }
    }

    /// Of rows that wait for something else.
    pub(super) fn apart(&self) -> Self {
        match self {
            TimeColumn::Other { .. } => self.clone(),
            _ => TimeColumn::Unknown,
        }
    }

    pub(super) fn refusal(&self, column: &str, usage: TimeUse) -> Option<(String, String)> {
        match self {
            TimeColumn::EventTime => None,
            TimeColumn::Other { event_time } => {
                let message = match event_time {
                    Some(event_time) => format!(
                        "the watermark of these rows is of column `{event_time}`: it does not say when all rows of a `{column}` have come"
                    ),
                    None => format!("the watermark of these rows is not of column `{column}`"),
                };
                let instead = event_time.as_ref().map(|name| format!("Write `{name}`, or put"));
                let hint = format!(
                    "{} a step `watermark = {{ column = \"{column}\", delay = \"10s\" }}` before this one.",
                    instead.as_deref().unwrap_or("Put")
                );
                Some((message, hint))
            }
            TimeColumn::OfWindow(time, before) => before.refusal(*time, column, usage),
            TimeColumn::Behind(us) => too_far_behind(*us, column, usage),
            TimeColumn::Cut(of, cut) => {
                let pieces = cut.offset_us.map(|offset_us| Panes::new(cut.size_us, cut.size_us, offset_us));
                match (usage, pieces) {
                    // They are in the windows that the times were in before they were cut.
                    (TimeUse::Windows(TimeShape::Panes(panes), _), Some(pieces)) if panes.holds_whole(&pieces) => {
                        of.refusal(column, usage)
                    }
                    _ => too_far_behind(self.behind_us().unwrap_or(i64::MAX), column, usage),
                }
            }
            TimeColumn::Late(LateFor(before)) => {
                let is_late_again = match (*before, usage) {
                    (_, TimeUse::Instant) => true,
                    (TimeUse::Windows(before, before_us), TimeUse::Windows(here, own_us)) => {
                        before == here && own_us <= before_us
                    }
                    (TimeUse::Instant, TimeUse::Windows(..)) => false,
                };
                let message = format!("these rows came too late by their `{column}`, and are late for this step too");
                is_late_again
                    .then(|| (message, format!("{} Or give windows here a longer `lateness`.", watermark_step(column))))
            }
            TimeColumn::Unknown => {
                let message = format!(
                    "nothing says when all rows of a `{column}` have come: the watermark of these rows is not of it"
                );
                let hint = format!(
                    "{} What is known without are times that steps give on, cut (`date_trunc`), or compute with an interval.",
                    watermark_step(column)
                );
                Some((message, hint))
            }
        }
    }
}

/// What says of any column what it is.
fn watermark_step(column: &str) -> String {
    format!("Put a step `watermark = {{ column = \"{column}\", delay = \"10s\" }}` before this one.")
}

/// Why rows would be late, when the watermark may be so much later than their time.
fn too_far_behind(behind_us: i64, column: &str, usage: TimeUse) -> Option<(String, String)> {
    let own_us = match usage {
        TimeUse::Windows(TimeShape::Panes(_), own_us) => own_us,
        // A session of a row alone ends a gap after it.
        TimeUse::Windows(TimeShape::Sessions(gap_us), own_us) => gap_us.saturating_add(own_us).saturating_sub(1),
        TimeUse::Instant => 0,
    };
    // Up to a second more than is needed reads better.
    let rounded = |us: i64| if us < 1_000_000 { us } else { us.saturating_add(999_999) / 1_000_000 * 1_000_000 };
    let text = |us: i64| format_duration(Duration::from_micros(rounded(us.max(0)).cast_unsigned()));
    (behind_us > own_us).then(|| {
        let message = format!(
            "rows may come up to {} after the watermark has passed their `{column}`, and this step waits {}: they would be late",
            text(behind_us),
            text(own_us)
        );
        let delay = "a `delay` that is so much longer than that of the event time before";
        (message, format!("Put a step `watermark = {{ column = \"{column}\", delay = \"…\" }}` before this one, with {delay}."))
    })
}

impl WindowsBefore {
    /// How much later than this time of a window the watermark may be when its row comes; `None`: there is no end to it.
    fn behind_us(&self, time: WindowTime) -> Option<i64> {
        // In the batch before the watermark had not passed the end.
        let behind_end_us = self.lateness_us.saturating_sub(1);
        match (time, self.shape) {
            (WindowTime::End, _) => Some(behind_end_us),
            (_, TimeShape::Panes(panes)) => Some(behind_end_us.saturating_add(panes.size())),
            (_, TimeShape::Sessions(_)) => None,
        }
    }

    pub(super) fn refusal(&self, time: WindowTime, column: &str, usage: TimeUse) -> Option<(String, String)> {
        let step = &self.step;
        let late = |own_us: i64| {
            let text = |us: i64| format_duration(Duration::from_micros(us.max(0).cast_unsigned()));
            let message = format!(
                "the windows of `{step}` may come {} after the watermark has passed their end, and this step waits {}",
                text(self.lateness_us),
                text(own_us)
            );
            (self.lateness_us > own_us).then_some(message)
        };
        let end = "Follow the end of each window, less what lies outside of it: a step \
                   `with = { at = \"window_end - interval '1 microsecond'\" }` before this one, and `time = \"at\"`";
        match usage {
            TimeUse::Windows(TimeShape::Panes(panes), lateness_us) => {
                let is_whole = matches!(self.shape, TimeShape::Panes(before) if panes.holds_whole(&before));
                match time {
                    WindowTime::End => {
                        let message = format!("the end of a window of `{step}` lies outside of it, and may be in the next window here");
                        let instead = if is_whole { "Write `window_start`: windows here are made of whole ones.".into() } else { format!("{end}.") };
                        Some((message, instead))
                    }
                    _ if is_whole => late(lateness_us).map(|message| (message, self.wait())),
                    WindowTime::Start => {
                        let message = format!(
                            "a window here can end before one of `{step}` that begins in it: its row would be late"
                        );
                        Some((message, format!("{end}; or let windows here be multiples of those of `{step}`.")))
                    }
                    WindowTime::Within => {
                        let message = format!(
                            "a row comes when its window of `{step}` ends, and a window here can end before: it would be late"
                        );
                        Some((message, format!("{end}; or let windows here be multiples of those of `{step}`.")))
                    }
                }
            }
            TimeUse::Windows(TimeShape::Sessions(gap_us), own_us) => {
                // A session of a row alone ends a gap after it, and must not have ended when the row may still come.
                let behind_us = match (time, self.shape) {
                    (WindowTime::End, _) => Some(0),
                    (_, TimeShape::Panes(before)) => Some(before.size()),
                    (_, TimeShape::Sessions(_)) => None,
                };
                let is_safe = behind_us.is_some_and(|behind_us| {
                    behind_us.saturating_add(self.lateness_us) <= gap_us.saturating_add(own_us)
                });
                if is_safe {
                    return None;
                }
                let message =
                    format!("a session here can end before a row of `{step}` that belongs to it comes: it would be late");
                Some((message, "Follow `window_end`, with a `lateness` that is not less than that of the windows before.".into()))
            }
            TimeUse::Instant => match time {
                WindowTime::End => late(0).map(|message| {
                    (message, format!("Let `{step}` have no `lateness`, or put a step `watermark = {{ column = \"{column}\", delay = \"…\" }}` before this one."))
                }),
                WindowTime::Start | WindowTime::Within => {
                    let message = format!("the watermark may have passed `{column}` when the row of a window of `{step}` comes: it would be late");
                    Some((message, "Write `window_end`.".into()))
                }
            },
        }
    }

    fn wait(&self) -> String {
        let lateness = format_duration(Duration::from_micros(self.lateness_us.max(0).cast_unsigned()));
        format!("Write `lateness = \"{lateness}\"` here too, or let `{}` have none.", self.step)
    }
}
