//! `window = { size, slide, time }`: the rows of a window as one batch, for whatever step comes behind.
//!
//! With `time` a window is a span of event time, `[start, end)`, and its rows come when the watermark has passed its end.
//! Without, it is a span of batch time, `(end - size, end]`: the rows of the batches in it, at every multiple of `slide`, as
//! Spark's `DStream.window`. Joins, groups and SQL behind it are then joins, groups and SQL over windows.
//!
//! ```text
//!  rows ── late ones dropped ── dealt out ──▶ state: slot = pane, one chunk of rows a batch
//!                                             windows that are complete now ──▶ rows, window_start, window_end
//! ```
//!
//! A pane is the longest span that lies in the same windows: the greatest common divisor of size and slide.

mod buffer;
mod late;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::event_time::{ClockId, Watermark, is_time_type};
use crate::job::Settings;
use crate::job::table::Table;
use crate::job::units::format_duration;
use crate::plan::{describe_schema, describe_type};
use crate::shuffle::Partitioning;
use crate::source::schema::UTC;
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::{SpecProblem, column_hint};
use crate::step::kinds::{Parsed, SideStream};
use crate::step::times::{TimeColumns, TimeUse, WindowsBefore};
use crate::step::windowed::{Panes, TimeShape, micros};

/// The columns that say which window a row is in.
const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// The step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// How long a window is.
    pub size: Duration,
    /// How far apart windows begin.
    pub slide: Duration,
    /// How much later than the multiples of the slide windows of event time begin.
    pub offset: Duration,
    /// The column of the event time; `None`: batch time.
    pub time: Option<String>,
    /// How much longer than the watermark says a window waits for rows.
    pub lateness: Duration,
}

impl Window {
    /// Windows of batch time, one after the other.
    #[must_use]
    pub fn tumbling(size: Duration) -> Self {
        Self::sliding(size, size)
    }

    /// Windows of batch time that begin so far apart.
    #[must_use]
    pub fn sliding(size: Duration, slide: Duration) -> Self {
        Self { size, slide, offset: Duration::ZERO, time: None, lateness: Duration::ZERO }
    }

    /// Of event time, which is in this column.
    #[must_use]
    pub fn time(self, column: &str) -> Self {
        Self { time: Some(column.to_owned()), ..self }
    }

    pub(crate) fn parse(table: &mut Table<'_>) -> Parsed {
        let Some(mut inner) = table.table("window") else { return Parsed::default() };
        if !inner.has("size") {
            inner.missing("size", Some("Say how long a window is, as in `size = \"1m\"`.".into()));
        }
        let positive = |inner: &mut Table<'_>, key: &'static str| {
            let length = inner.duration(key)?;
            if length.is_zero() {
                inner.problem(key, format!("`{key}` must be longer than 0"), None);
                return None;
            }
            Some(length)
        };
        let size = positive(&mut inner, "size");
        let has_slide = inner.has("slide");
        let slide = positive(&mut inner, "slide");
        let time = inner.text("time");
        for key in ["lateness", "late", "offset"] {
            if inner.has(key) && !inner.has("time") {
                let message = format!("`{key}` is for windows of event time, and this one has no `time`");
                inner.problem(key, message, Some("Name the column of the event time: `time = \"…\"`.".into()));
            }
        }
        let lateness = inner.duration("lateness").unwrap_or_default();
        let late = inner.text("late");
        let offset = inner.duration("offset").unwrap_or_default();
        inner.finish();
        let Some(size) = size else { return Parsed::default() };
        if has_slide && slide.is_none() {
            return Parsed::default();
        }
        let window = Self { size, slide: slide.unwrap_or(size), offset, time, lateness };
        let side_streams = late.map(|name| SideStream {
            name,
            key: "window.late",
            definition: Arc::new(late::LateRows(window.clone())),
            from: None,
        });
        Parsed { side_streams: side_streams.into_iter().collect(), ..Parsed::of(Some(window)) }
    }

    /// Where windows of event time begin and end.
    fn shape(&self) -> TimeShape {
        let [size, slide] = [self.size, self.slide].map(|length| micros(length).max(1));
        TimeShape::Panes(Panes::new(size, slide, micros(self.offset)))
    }

    /// What is wrong with it in a job of these settings, over rows of this schema.
    fn check(&self, context: &PlanContext<'_>) -> Result<Spans, Vec<SpecProblem>> {
        let input = context.input();
        let mut problems = Vec::new();
        let mut problem = |key: &str, message: String, hint: Option<String>| {
            problems.push(SpecProblem { key: format!("window.{key}"), message, hint });
        };
        for (key, length) in [("size", self.size), ("slide", self.slide)] {
            if length.is_zero() {
                problem(key, format!("`{key}` must be longer than 0"), None);
            }
        }
        if let Some(name) = WINDOW_COLUMNS.iter().find(|name| input.column_with_name(name).is_some()) {
            let hint = format!("Rename it before: `rename = {{ {name} = \"…\" }}`, or drop it.");
            problem("size", format!("the input has a column `{name}` already"), Some(hint));
        }
        let mut time = None;
        match &self.time {
            Some(name) => match input.column_with_name(name) {
                Some((index, field)) if is_time_type(field.data_type()) => {
                    time = Some(index);
                    if context.clock.is_none() {
                        let source = context.sides[0].names.join("`, `");
                        let hint = format!(
                            "Give the source `event-time = {{ column = \"{name}\", delay = \"…\" }}`, or put a `watermark` step before this one."
                        );
                        problem(
                            "time",
                            format!("a window of event time needs a watermark, and `{source}` has none"),
                            Some(hint),
                        );
                    }
                    let usage = TimeUse::Windows(self.shape(), micros(self.lateness));
                    let refused = context.clock.and_then(|_| context.times().refusal(name, usage));
                    if let Some((message, hint)) = refused {
                        problem("time", message, Some(hint));
                    }
                }
                Some((_, field)) => {
                    let hint = "Event times are of type timestamp.".into();
                    problem(
                        "time",
                        format!("column `{name}` has type {}, which is no time", describe_type(field.data_type())),
                        Some(hint),
                    );
                }
                None => problem("time", format!("the input has no column `{name}`"), Some(column_hint(input, name))),
            },
            None => {
                for (key, length) in [("size", self.size), ("slide", self.slide)] {
                    if let Some(hint) = not_a_multiple(length, context.settings) {
                        let interval = crate::job::units::format_duration(context.settings.batch_interval);
                        problem(
                            key,
                            format!("`{key}` must be a multiple of the batch interval, which is {interval}"),
                            Some(hint),
                        );
                    }
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // Less than a microsecond is one.
        let us = |length: Duration| i64::try_from(length.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX / 4);
        let (size_us, slide_us) = (us(self.size), us(self.slide));
        let offset_us = us(self.offset);
        Ok(Spans::new(time, (size_us, slide_us, offset_us), us(self.lateness), context.clock))
    }
}

/// What to write instead of a length that is no multiple of the batch interval.
fn not_a_multiple(length: Duration, settings: &Settings) -> Option<String> {
    let interval = settings.batch_interval.as_micros();
    if interval == 0 || length.as_micros().is_multiple_of(interval) {
        return None;
    }
    let n = length.as_micros().div_ceil(interval).max(1);
    let nearest = Duration::from_micros(u64::try_from(n * interval).unwrap_or(u64::MAX));
    Some(format!("The next one is \"{}\".", crate::job::units::format_duration(nearest)))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Windows in microseconds.
#[derive(Debug, Clone, Copy)]
struct Spans {
    /// The column of the event time; `None`: batch time.
    time: Option<usize>,
    size_us: i64,
    slide_us: i64,
    /// Windows begin at multiples of the slide and this much later.
    offset_us: i64,
    pane_us: i64,
    lateness_us: i64,
    clock: Option<ClockId>,
}

/// The largest number on a grid of this step and offset that is not greater.
fn floor(number: i64, step: i64, offset: i64) -> i64 {
    number.saturating_sub(offset).div_euclid(step).saturating_mul(step).saturating_add(offset)
}

impl Spans {
    /// Windows of this size, slide and offset.
    fn new(time: Option<usize>, lengths: (i64, i64, i64), lateness_us: i64, clock: Option<ClockId>) -> Self {
        let (size_us, slide_us, offset_us) = lengths;
        // In batch time windows end on the grid, as Spark's do; in event time they begin on it.
        let offset_us = if time.is_some() { offset_us } else { -size_us };
        let offset_us = offset_us.rem_euclid(slide_us);
        Self { time, size_us, slide_us, offset_us, pane_us: gcd(size_us, slide_us), lateness_us, clock }
    }

    /// The start of the pane that a time lies in.
    fn pane_of(&self, time_us: i64) -> i64 {
        floor(time_us, self.pane_us, self.offset_us)
    }

    /// The end of the last window that a time lies in; `None`: it lies between two (they are further apart than long).
    fn last_end(&self, time_us: i64) -> Option<i64> {
        let start = floor(time_us, self.slide_us, self.offset_us);
        (time_us - start < self.size_us).then(|| start.saturating_add(self.size_us))
    }

    /// The starts of the windows that a time lies in and that are complete now and were not before, the earliest first.
    fn starts_due(&self, time_us: i64, watermark: Watermark) -> impl Iterator<Item = i64> + use<> {
        let Spans { size_us, slide_us, offset_us, .. } = *self;
        let now_us = watermark.now_us.unwrap_or(i64::MIN);
        // Starts are on the grid, within (time - size, time] and (late - size, now - size].
        let after = time_us.max(watermark.late_us.unwrap_or(i64::MIN)).saturating_sub(size_us);
        let last = time_us.min(now_us.saturating_sub(size_us)).saturating_sub(offset_us).div_euclid(slide_us);
        let first = after.saturating_sub(offset_us).div_euclid(slide_us) + 1;
        (first..=last).map(move |n| n * slide_us + offset_us)
    }

    /// The starts of all windows that are complete now and were not before: from the first, or from the beginning, to the last;
    /// `None`: no window became complete.
    fn due(&self, watermark: Watermark) -> Option<(Option<i64>, i64)> {
        let Spans { size_us, slide_us, offset_us, .. } = *self;
        let last = floor(watermark.now_us?.saturating_sub(size_us), slide_us, offset_us);
        let Some(late_us) = watermark.late_us else { return Some((None, last)) };
        let first = floor(late_us.saturating_sub(size_us), slide_us, offset_us).saturating_add(slide_us);
        (first <= last).then_some((Some(first), last))
    }

    /// Whether the windows around a time can be told in 64 bits: not some thousand years from now, or a slip.
    fn is_in_range(&self, time_us: i64) -> bool {
        let around = self.size_us.saturating_add(self.slide_us).saturating_add(self.offset_us);
        time_us.checked_sub(around).is_some() && time_us.checked_add(around).is_some()
    }

    /// Whether every window that a time lies in was complete before the batch, or its windows cannot be told. A time in no
    /// window is not late.
    fn is_late(&self, time_us: i64, watermark: Watermark) -> bool {
        if !self.is_in_range(time_us) {
            return true;
        }
        self.last_end(time_us).is_some_and(|end_us| watermark.is_late(end_us.saturating_add(self.lateness_us)))
    }
}

impl StepDefinition for Window {
    fn kind(&self) -> &'static str {
        "window"
    }

    fn times(&self, context: &PlanContext<'_>, _: &Schema) -> TimeColumns {
        let Some(time) = &self.time else {
            // Rows come again and again: they follow no watermark.
            return TimeColumns::default().with_windows(WINDOW_COLUMNS, None);
        };
        let lateness_us = micros(self.lateness);
        let windows = WindowsBefore { step: context.step.to_owned(), shape: self.shape(), lateness_us };
        context.times().held_by(&windows, time).with_windows(WINDOW_COLUMNS, Some(windows))
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let spans = self.check(context)?;
        let input = context.input().clone();
        let output = with_window_columns(&input);
        let n_partitions = context.settings.partitions;
        let [size, slide, offset] = [self.size, self.slide, self.offset].map(format_duration);
        let keeps = format!("rows {} of windows of {size} every {slide}, offset {offset}", describe_schema(&input));
        let state = context.keep(keeps, buffer::layouts(&input), n_partitions);
        let factory = Arc::new(buffer::WindowFactory {
            step: context.step.to_owned(),
            spans,
            input,
            output: output.clone(),
            state: state.clone(),
        });
        let prepare = Arc::new(late::LateFilter {
            spans,
            keeps_late: false,
            step: context.step.to_owned(),
            meter: Some(context.meter.clone()),
        });
        let side = GatherSide { prepare: Some(prepare), partitioning: Partitioning::RoundRobin };
        let gather = Gather { sides: vec![side], n_partitions, runs_when_empty: true, state: Some(state), factory };
        Ok(Built::gather(output, gather))
    }
}

/// The schema with the window's columns behind.
fn with_window_columns(input: &Schema) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
    let mut fields: Vec<Field> = input.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(WINDOW_COLUMNS.map(|name| Field::new(name, time.clone(), false)));
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests;
