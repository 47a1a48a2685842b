//! What a plan knows of the times in columns: which of them the watermark is of, and how far others are behind it. Pure.
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
//! Columns that are computed are known by what they are computed of: a time that is given on, cut, or an interval
//! later or earlier. Of any other nothing is known, and no step may follow it before a `watermark` step has said what it is.

mod known;
mod origin;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use arrow::datatypes::Schema;

use crate::event_time::is_time_type;
use crate::step::windowed::TimeShape;

pub use known::{LateFor, TimeColumn, WindowTime, WindowsBefore};
pub use origin::{Cut, TimeOrigin};

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

    /// Of rows that are held until their windows of the times in `followed` end.
    #[must_use]
    pub(crate) fn held_by(&self, windows: &WindowsBefore, followed: &str) -> Self {
        self.waiting(followed, &TimeColumn::OfWindow(WindowTime::Within, windows.clone()))
    }

    /// Of rows that wait after they have come, so that of the times in `followed` this is known; the others stay known if they are the
    /// same times.
    #[must_use]
    pub(crate) fn waiting(&self, followed: &str, known: &TimeColumn) -> Self {
        let is_event_time = |name: &str| self.get(name) == [TimeColumn::EventTime];
        let waiting = |(name, columns): (&String, &Vec<TimeColumn>)| {
            let is_same = name == followed || is_event_time(name) && is_event_time(followed);
            let columns = match is_same {
                true => vec![known.clone()],
                false => columns.iter().map(TimeColumn::apart).collect(),
            };
            (name.clone(), columns)
        };
        Self(self.0.iter().map(waiting).collect())
    }

    /// Of those rows that are late by the times in `followed`, for windows like these or for any.
    #[must_use]
    pub(crate) fn late(&self, followed: &str, usage: TimeUse) -> Self {
        self.waiting(followed, &TimeColumn::Late(LateFor(usage)))
    }

    /// Of the rows of several streams: what holds for some of them.
    #[must_use]
    pub fn united<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let names = all.clone().flat_map(|columns| columns.0.keys());
        let of = |name: &String| {
            let mut of_all = Vec::new();
            for known in all.clone().flat_map(|columns| columns.known(name)) {
                if !of_all.contains(&known) {
                    of_all.push(known);
                }
            }
            (name.clone(), of_all)
        };
        Self(names.map(of).collect())
    }

    /// Of a step that gives some columns on as they are: `origin` says what a column of its output was called before; `None`:
    /// it is another.
    #[must_use]
    pub fn through(&self, output: &Schema, origin: impl Fn(&str) -> Option<String>) -> Self {
        let origin = |name: &str| origin(name).map_or(TimeOrigin::Unknown, |name| TimeOrigin::column(0, name));
        Self::computed(&[self], output, origin)
    }

    /// Of a step whose rows are made of rows of the same batch: `origin` says what a column of its output is computed of.
    #[must_use]
    pub fn computed(sides: &[&Self], output: &Schema, origin: impl Fn(&str) -> TimeOrigin) -> Self {
        let mut columns: BTreeMap<String, Vec<TimeColumn>> = BTreeMap::new();
        let mut new_names: BTreeMap<String, String> = BTreeMap::new();
        for field in output.fields().iter().filter(|field| is_time_type(field.data_type())) {
            let origin = origin(field.name());
            if let TimeOrigin::Column { name, .. } = &origin {
                new_names.insert(name.clone(), field.name().clone());
            }
            let known = origin.known(sides);
            // A column of nulls alone has no times that could be followed.
            columns.insert(field.name().clone(), if known.is_empty() { vec![TimeColumn::Unknown] } else { known });
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
        self.0.get(column).map_or(&[TimeColumn::Unknown], Vec::as_slice)
    }

    fn known(&self, column: &str) -> Vec<TimeColumn> {
        self.get(column).to_vec()
    }

    /// Why rows would be lost, or put into wrong windows, if a step followed this column; and what to write instead.
    pub(crate) fn refusal(&self, column: &str, usage: TimeUse) -> Option<(String, String)> {
        self.get(column).iter().find_map(|known| known.refusal(column, usage))
    }
}
