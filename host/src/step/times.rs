//! What a plan knows of the times in columns: which of them the watermark is of, and which are those of windows. Pure.
//!
//! A watermark says of one column that no earlier time is expected. Of another column of the same rows it says nothing, and of
//! the times of windows something else: the row of a window comes when the watermark has passed its *end*.
//!
//! ```text
//!  windows of one minute             │ start          end │
//!  the watermark, when its row comes │                    │─▶
//!  windows of an hour behind         │ start … a minute of it: in time, however late within the hour
//!  windows of 40 s behind            │ start     │ over before the row comes: late
//! ```
//!
//! Columns that a step computes are not known, and taken as they are: whoever computes them knows what they are.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::Schema;

use crate::event_time::is_time_type;
use crate::job::units::format_duration;
use crate::step::windowed::TimeShape;

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
}

/// What is known of the columns of times of a stream, by name: of a column of several streams that were united, what is known of it in
/// each of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeColumns(BTreeMap<String, Vec<TimeColumn>>);

/// What a step does with a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeUse {
    /// It puts rows into windows, which wait so much longer than the watermark says.
    Windows(TimeShape, i64),
    /// A row is late when the watermark has passed its time.
    Instant,
}

impl TimeColumns {
    /// Of rows whose watermark is of a column.
    #[must_use]
    pub fn of_event_time(schema: &Schema, column: &str) -> Self {
        let times = schema.fields().iter().filter(|field| is_time_type(field.data_type()));
        let known = times.map(|field| match field.name() == column {
            true => (column.to_owned(), vec![TimeColumn::EventTime]),
            false => (field.name().clone(), vec![TimeColumn::Other { event_time: Some(column.to_owned()) }]),
        });
        Self(known.collect())
    }

    /// With the columns of windows: `None` when they are on batch time, which no watermark follows.
    #[must_use]
    pub(crate) fn with_windows(mut self, names: [&str; 2], windows: Option<WindowsBefore>) -> Self {
        for (name, time) in names.into_iter().zip([WindowTime::Start, WindowTime::End]) {
            let column = match &windows {
                Some(windows) => TimeColumn::OfWindow(time, windows.clone()),
                None => TimeColumn::Other { event_time: None },
            };
            self.0.insert(name.to_owned(), vec![column]);
        }
        self
    }

    /// Of rows that are held until their windows end.
    #[must_use]
    pub(crate) fn held_by(&self, windows: &WindowsBefore) -> Self {
        let held = |known: &TimeColumn| match known {
            TimeColumn::EventTime => TimeColumn::OfWindow(WindowTime::Within, windows.clone()),
            known => known.clone(),
        };
        Self(self.0.iter().map(|(name, known)| (name.clone(), known.iter().map(held).collect())).collect())
    }

    /// Of the rows of several streams: what holds for some of them.
    #[must_use]
    pub fn united<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut united = Self::default();
        for (name, known) in all.flat_map(|columns| &columns.0) {
            let of_all = united.0.entry(name.clone()).or_default();
            known.iter().for_each(|known| {
                if !of_all.contains(known) {
                    of_all.push(known.clone());
                }
            });
        }
        united
    }

    /// Of a step that gives some columns on as they are: `origin` says what a column of its output was called before; `None`:
    /// it is another.
    #[must_use]
    pub fn through(&self, output: &Schema, origin: impl Fn(&str) -> Option<String>) -> Self {
        let mut columns: BTreeMap<String, Vec<TimeColumn>> = BTreeMap::new();
        let mut new_names: BTreeMap<String, String> = BTreeMap::new();
        for field in output.fields() {
            let Some(before) = origin(field.name()) else { continue };
            if let Some(known) = self.0.get(&before) {
                columns.insert(field.name().clone(), known.clone());
                new_names.insert(before, field.name().clone());
            }
        }
        for known in columns.values_mut().flatten() {
            if let TimeColumn::Other { event_time: Some(name) } = known {
                let renamed = new_names.get(name).cloned();
                *known = TimeColumn::Other { event_time: renamed };
            }
        }
        Self(columns)
    }

    /// What is known of a column.
    #[must_use]
    pub fn get(&self, column: &str) -> &[TimeColumn] {
        self.0.get(column).map_or(&[], Vec::as_slice)
    }

    /// Why rows would be lost, or put into wrong windows, if a step followed this column; and what to write instead.
    pub(crate) fn refusal(&self, column: &str, usage: TimeUse) -> Option<(String, String)> {
        self.get(column).iter().find_map(|known| known.refusal(column, usage))
    }
}

impl TimeColumn {
    fn refusal(&self, column: &str, usage: TimeUse) -> Option<(String, String)> {
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
        }
    }
}

impl WindowsBefore {
    fn refusal(&self, time: WindowTime, column: &str, usage: TimeUse) -> Option<(String, String)> {
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, TimeUnit};
    use proptest::prelude::*;

    use super::*;
    use crate::step::windowed::Panes;

    fn times(names: &[&str]) -> Schema {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        Schema::new(names.iter().map(|name| Field::new(*name, time.clone(), true)).collect::<Vec<_>>())
    }

    fn windows(shape: TimeShape, lateness_us: i64) -> WindowsBefore {
        WindowsBefore { step: "before".into(), shape, lateness_us }
    }

    fn is_safe(time: WindowTime, before: &WindowsBefore, usage: TimeUse) -> bool {
        before.refusal(time, "window_start", usage).is_none()
    }

    fn shape() -> impl Strategy<Value = TimeShape> {
        let panes = |(size, slide, offset)| TimeShape::Panes(Panes::new(size, slide, offset));
        prop_oneof![
            (1i64..12, 1i64..12, 0i64..12).prop_map(panes),
            (1i64..5, 1i64..4, 0i64..12).prop_map(|(size, n, offset)| TimeShape::Panes(Panes::new(
                size * n,
                size,
                offset
            ))),
            (1i64..12).prop_map(TimeShape::Sessions),
        ]
    }

    proptest! {
        /// The law: what is accepted is never late, and never in a window that holds only a part of its own.
        #[test]
        fn what_is_accepted_is_in_time(
            (before, lateness) in (shape(), 0i64..6), (here, own) in (shape(), 0i64..6), at in -50i64..50, length in 0i64..20,
        ) {
            let start_and_end = match before {
                TimeShape::Panes(panes) => (panes.last_window(at), panes.last_window(at) + panes.size()),
                TimeShape::Sessions(gap_us) => (at, at + length + gap_us),
            };
            let windows = windows(before, lateness);
            // The row comes in a batch before which the watermark had not passed the end.
            let late_us = start_and_end.1 + lateness - 1;
            for (time, us) in [(WindowTime::Start, start_and_end.0), (WindowTime::End, start_and_end.1)] {
                if is_safe(time, &windows, TimeUse::Windows(here, own)) {
                    match here {
                        TimeShape::Panes(panes) => {
                            // One that is in no window is not late.
                            let is_outside = panes.windows_of(us).next().is_none();
                            prop_assert!(is_outside || us >= panes.first_open(late_us - own));
                            prop_assert!(time == WindowTime::Start && panes.windows_of(us).all(|here| start_and_end.1 <= here + panes.size()));
                        }
                        TimeShape::Sessions(gap_us) => prop_assert!(us > late_us - own - gap_us),
                    }
                }
                if is_safe(time, &windows, TimeUse::Instant) {
                    prop_assert!(us > late_us);
                }
            }
        }
    }

    #[test]
    fn windows_are_made_of_whole_ones() {
        let panes = |size, slide, offset| TimeShape::Panes(Panes::new(size, slide, offset));
        let check = |before, lateness, here, own, expected| {
            let before = windows(before, lateness);
            assert_eq!(is_safe(WindowTime::Start, &before, TimeUse::Windows(here, own)), expected);
            assert_eq!(is_safe(WindowTime::Within, &before, TimeUse::Windows(here, own)), expected);
        };
        check(panes(10, 10, 0), 0, panes(60, 60, 0), 0, true);
        check(panes(10, 10, 0), 0, panes(60, 20, 0), 0, true);
        check(panes(10, 10, 5), 0, panes(60, 60, 0), 0, false);
        check(panes(10, 10, 5), 0, panes(60, 60, 5), 0, true);
        check(panes(10, 10, 0), 0, panes(25, 25, 0), 0, false);
        check(panes(10, 10, 0), 0, panes(25, 25, 0), 50, false);
        check(panes(10, 5, 0), 0, panes(60, 60, 0), 0, false);
        check(panes(10, 20, 0), 0, panes(30, 20, 0), 0, true);
        check(panes(10, 10, 0), 5, panes(60, 60, 0), 0, false);
        check(panes(10, 10, 0), 5, panes(60, 60, 0), 5, true);
        check(TimeShape::Sessions(10), 0, panes(60, 60, 0), 0, false);
        check(panes(10, 10, 0), 0, TimeShape::Sessions(10), 0, true);
        check(panes(10, 10, 0), 0, TimeShape::Sessions(9), 0, false);
    }

    #[test]
    fn what_is_known_goes_through_steps_with_its_columns() {
        let source = TimeColumns::of_event_time(&times(&["at", "seen"]), "at");
        let same = |name: &str| Some(name.to_owned());
        assert_eq!(source.through(&times(&["at", "seen"]), same), source);
        let refused = |known: &TimeColumns, column: &str| known.refusal(column, TimeUse::Instant).is_some();
        assert!(!refused(&source, "at") && refused(&source, "seen") && !refused(&source, "computed"));

        let renamed = source.through(&times(&["then", "seen"]), |name| Some(name.replace("then", "at")));
        assert_eq!(renamed.get("then"), [TimeColumn::EventTime]);
        assert_eq!(renamed.get("seen"), [TimeColumn::Other { event_time: Some("then".into()) }]);
        let dropped = source.through(&times(&["seen"]), same);
        assert_eq!(dropped.get("seen"), [TimeColumn::Other { event_time: None }]);

        let other = TimeColumns::of_event_time(&times(&["at", "seen"]), "seen");
        // Of rows of several streams some would be late.
        let both = TimeColumns::united([&source, &other].into_iter());
        assert!(refused(&both, "at") && refused(&both, "seen"));
        let panes = |size| TimeShape::Panes(Panes::new(size, size, 0));
        let [one, same] = ["w", "x"].map(|step| {
            let windows = WindowsBefore { step: step.into(), shape: panes(60), lateness_us: 0 };
            TimeColumns::default().with_windows(["window_start", "window_end"], Some(windows))
        });
        let windows = TimeColumns::united([&one, &same, &TimeColumns::default()].into_iter());
        assert!(windows.refusal("window_start", TimeUse::Windows(panes(90), 0)).is_some());
        assert!(windows.refusal("window_start", TimeUse::Windows(panes(120), 0)).is_none());
        assert_eq!(TimeColumns::united([&source, &source].into_iter()), source);
    }
}
