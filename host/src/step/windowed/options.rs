//! What a job says of `running` and `window`, and how its tables are read.

use std::sync::Arc;
use std::time::Duration;

use super::{LateDefinition, Over};
use crate::job::table::Table;
use crate::step::kinds::SideStream;

/// Windows that a row may belong to, at most: each of them is looked at when it changes.
const OVERLAP_MAX: u128 = 100_000;

/// Rows that a window of rows may have.
const COUNT_MAX: u64 = 1 << 32;

/// What is wrong at a key of `window`: key, message, hint.
type ShapeProblem = (&'static str, String, Option<String>);

/// Results over all batches so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Running {
    /// Whether every batch gives all keys, not only those that it has changed.
    pub complete: bool,
    /// Keys without rows for so long, in batch time, are forgotten; `None`: never.
    pub timeout: Option<Duration>,
}

/// Results of windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Where windows begin and end.
    pub shape: Shape,
    /// The column of event time; `None`: the time is the batch's.
    pub time: Option<String>,
    /// What is given, and when.
    pub output: WindowOutput,
    /// How much longer than the watermark says windows stay open.
    pub lateness: Duration,
    /// For windows of rows: keys without rows for so long, in batch time, are forgotten; `None`: never.
    pub timeout: Option<Duration>,
}

/// Where windows begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Windows of one size.
    Time {
        /// How long a window is.
        size: Duration,
        /// From one window's begin to the next one's.
        slide: Duration,
        /// Windows of event time begin at multiples of `slide` since 1970, those of batch time end there; and so much later.
        offset: Duration,
    },
    /// Rows of a key that lie less than a gap apart.
    Session {
        /// The gap.
        gap: Duration,
    },
    /// So many rows of a key.
    Count {
        /// How many rows.
        count: u64,
        /// After how many rows a window is given.
        slide: u64,
    },
}

/// What a windowed step gives, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WindowOutput {
    /// Each window once, when it is complete.
    #[default]
    Append,
    /// In each batch the windows and keys that it has changed.
    Update,
    /// In each batch every window that is open, and those that this batch completes.
    Complete,
}

impl Shape {
    /// What no window can be.
    pub(crate) fn problems(&self) -> Vec<ShapeProblem> {
        let mut problems = Vec::new();
        let mut none = |key, is_none: bool| {
            if is_none {
                problems.push((key, format!("`{key}` must be longer than 0"), None));
            }
        };
        let (size, slide) = match self {
            Shape::Time { size, slide, .. } => {
                none("size", size.as_micros() == 0);
                none("slide", slide.as_micros() == 0);
                (size.as_micros(), slide.as_micros())
            }
            Shape::Session { gap } => {
                none("gap", gap.as_micros() == 0);
                return problems;
            }
            Shape::Count { count, slide } => {
                for (key, n) in [("count", *count), ("slide", *slide)] {
                    if !(1..=COUNT_MAX).contains(&n) {
                        problems.push((key, format!("`{key}` must be between 1 and {COUNT_MAX}"), None));
                    }
                }
                (u128::from(*count), u128::from(*slide))
            }
        };
        if problems.is_empty() && size / slide > OVERLAP_MAX {
            let message = format!("a row would belong to {} windows, and {OVERLAP_MAX} are the most", size / slide);
            problems.push(("slide", message, Some("Let windows begin less often.".into())));
        }
        problems
    }
}

impl Window {
    /// Windows of `size` that follow one another, on batch time.
    #[must_use]
    pub fn tumbling(size: Duration) -> Self {
        Self::sliding(size, size)
    }

    /// Windows of `size` that begin every `slide`, on batch time.
    #[must_use]
    pub fn sliding(size: Duration, slide: Duration) -> Self {
        Self::of(Shape::Time { size, slide, offset: Duration::ZERO })
    }

    /// Sessions that end after a gap, on batch time.
    #[must_use]
    pub fn session(gap: Duration) -> Self {
        Self::of(Shape::Session { gap })
    }

    /// Windows of the last `count` rows of a key, given every `slide` rows.
    #[must_use]
    pub fn count(count: u64, slide: u64) -> Self {
        Self::of(Shape::Count { count, slide })
    }

    fn of(shape: Shape) -> Self {
        Self { shape, time: None, output: WindowOutput::Append, lateness: Duration::ZERO, timeout: None }
    }

    /// On event time, which this column holds.
    #[must_use]
    pub fn on(mut self, column: &str) -> Self {
        self.time = Some(column.to_owned());
        self
    }

    /// With this output.
    #[must_use]
    pub fn output(mut self, output: WindowOutput) -> Self {
        self.output = output;
        self
    }

    /// Windows of rows: a key without rows for so long, in batch time, is forgotten, and starts anew.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Open so much longer than the watermark says.
    #[must_use]
    pub fn lateness(mut self, lateness: Duration) -> Self {
        self.lateness = lateness;
        self
    }
}

impl From<Running> for Over {
    fn from(running: Running) -> Self {
        Self::Running(running)
    }
}

impl From<Window> for Over {
    fn from(window: Window) -> Self {
        Self::Window(window)
    }
}

/// What was read of `running`, `window` and their options.
#[derive(Default)]
pub(crate) struct ReadOver {
    /// Whether any of the options is there, right or wrong: then the step is not one over each batch alone.
    pub(crate) is_there: bool,
    /// What they say; `None`: nothing, or it is wrong.
    pub(crate) over: Option<Over>,
    /// The stream of late rows.
    pub(crate) side_streams: Vec<SideStream>,
}

/// Reads the options from the table `aggregate` or `reduce`; `late_key` is the path of `late` in the step.
pub(crate) fn read_over(table: &mut Table<'_>, late_key: &'static str) -> ReadOver {
    const KEYS: [&str; 6] = ["running", "window", "output", "timeout", "lateness", "late"];
    let running = table.boolean("running");
    let window = table.table("window").map(read_window);
    let output = table
        .choice("output", &[("append", Output::Append), ("update", Output::Update), ("complete", Output::Complete)]);
    let timeout = table.duration("timeout");
    let lateness = table.duration("lateness");
    let late = table.text("late");
    if !KEYS.iter().any(|key| table.has(key)) {
        return ReadOver::default();
    }
    let is_window = table.has("window");
    let mut read = ReadOver { is_there: is_window || running != Some(false), ..ReadOver::default() };
    if is_window {
        if running == Some(true) {
            let hint = "A window's results are running ones with `output = \"update\"`.";
            table.problem("running", "a step has either `running` or `window`", Some(hint.into()));
        }
        let shape = window.flatten();
        let is_count = matches!(shape, Some((Shape::Count { .. }, _)));
        if table.has("timeout") && shape.is_some() && !is_count {
            let hint = "Windows of time end by themselves. Leave it out.";
            table.problem("timeout", "`timeout` is for `running = true` and windows of rows", Some(hint.into()));
        }
        let is_right = !table.has("timeout") || is_count && is_longer_than_none(table, timeout);
        if let Some((shape, time)) = &shape {
            let window = check_window(table, *shape, time.clone(), output, lateness);
            read.over = window.filter(|_| is_right).map(|window| Over::Window(Window { timeout, ..window }));
        }
        if let Some(late) = late {
            // Without a window the job is refused; the name is known all the same.
            let nothing = Window::tumbling(Duration::from_secs(1)).on("");
            let window = match &read.over {
                Some(Over::Window(window)) => window.clone(),
                _ => nothing,
            };
            let definition = LateDefinition { key: late_key, window };
            read.side_streams.push(SideStream {
                name: late,
                key: late_key,
                definition: Arc::new(definition),
                from: None,
            });
        }
        return read;
    }
    for key in keys_of(table, &["lateness", "late"]) {
        let hint = Some("Write `window = { size = \"1m\", time = \"…\" }` beside it, or leave it out.".into());
        table.problem(key, format!("`{key}` is for windows on event time"), hint);
    }
    if running != Some(true) {
        for key in keys_of(table, &["output", "timeout"]) {
            let hint = Some("Write `running = true` beside it, or leave it out.".into());
            table.problem(key, format!("`{key}` is for results that live from batch to batch"), hint);
        }
        return read;
    }
    if !is_longer_than_none(table, timeout) {
        return read;
    }
    let complete = match output {
        Some(Output::Append) => {
            let message = "running results change with every batch, and `append` gives what never changes";
            let hint = "Use `output = \"update\"`: the keys that changed, with their new values.";
            table.problem("output", message, Some(hint.into()));
            return read;
        }
        Some(Output::Complete) => true,
        Some(Output::Update) | None => false,
    };
    read.over = Some(Over::Running(Running { complete, timeout }));
    read
}

/// Whether a timeout may be so long, if there is one.
fn is_longer_than_none(table: &mut Table<'_>, timeout: Option<Duration>) -> bool {
    let is_none = timeout.is_some_and(|timeout| timeout.is_zero());
    if is_none {
        let hint = "Leave it out to remember keys for ever.";
        table.problem("timeout", "`timeout` must be longer than 0", Some(hint.into()));
    }
    !is_none
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Append,
    Update,
    Complete,
}

/// Those of some keys that are there.
fn keys_of<'k>(table: &Table<'_>, keys: &[&'k str]) -> Vec<&'k str> {
    keys.iter().copied().filter(|key| table.has(key)).collect()
}

/// The shape and the time column.
fn read_window(mut table: Table<'_>) -> Option<(Shape, Option<String>)> {
    let time = if table.has("time") { Some(table.required_text("time")) } else { table.text("time").map(Some) };
    let size = table.duration("size");
    let offset = table.duration("offset");
    let gap = table.duration("gap");
    let count = table.integer("count", 1..=COUNT_MAX);
    let kinds: Vec<&str> = ["size", "gap", "count"].into_iter().filter(|key| table.has(key)).collect();
    for other in kinds.iter().skip(1) {
        let message = format!("a window has either `{}` or `{other}`", kinds[0]);
        table.problem(other, message, Some("Leave one out.".into()));
    }
    let kind = kinds.first().copied();
    let is_count = kind == Some("count");
    let slide_rows = if is_count { table.integer("slide", 1..=COUNT_MAX) } else { None };
    let slide = if is_count { None } else { table.duration("slide") };
    let refused = match kind {
        None => {
            let hint = "Write `size = \"1m\"`, `gap = \"10m\"` for sessions, or `count = 100` for windows of rows.";
            table.missing("size", Some(hint.into()));
            table.finish();
            return None;
        }
        Some("size") => &[][..],
        Some("gap") => &["slide", "offset"][..],
        Some(_) => &["offset", "time"][..],
    };
    let mut is_right = kinds.len() == 1;
    for key in keys_of(&table, refused) {
        let of = if is_count { "windows of rows have" } else { "sessions have" };
        table.problem(key, format!("{of} no `{key}`"), Some("Leave it out.".into()));
        is_right = false;
    }
    let is_wrong = |key: &str, is_none: bool| table.has(key) && is_none;
    if is_wrong("slide", slide.is_none() && slide_rows.is_none()) || is_wrong("offset", offset.is_none()) {
        is_right = false;
    }
    table.finish();
    let shape = match kind {
        Some("size") => {
            size.map(|size| Shape::Time { size, slide: slide.unwrap_or(size), offset: offset.unwrap_or_default() })
        }
        Some("gap") => gap.map(|gap| Shape::Session { gap }),
        _ => count.map(|count| Shape::Count { count, slide: slide_rows.unwrap_or(count) }),
    };
    let time = match time {
        Some(None) => return None,
        Some(time) => time,
        None => None,
    };
    shape.filter(|_| is_right).map(|shape| (shape, time))
}

/// What a window says, when the options beside it fit.
fn check_window(
    table: &mut Table<'_>,
    shape: Shape,
    time: Option<String>,
    output: Option<Output>,
    lateness: Option<Duration>,
) -> Option<Window> {
    let mut is_right = true;
    let is_count = matches!(shape, Shape::Count { .. });
    if time.is_none() {
        for key in keys_of(table, &["lateness", "late"]) {
            let (message, hint) = if is_count {
                ("no row is late for a window of rows", "Leave it out.")
            } else {
                ("no row is late on batch time", "Name the column of event time, as in `window = { time = \"…\", … }`.")
            };
            table.problem(key, message, Some(hint.into()));
            is_right = false;
        }
    }
    let output = match output {
        None | Some(Output::Append) => WindowOutput::Append,
        Some(_) if is_count => {
            let hint = "Windows of rows are given when they are full. Leave it out.";
            table.problem("output", "windows of rows have `output = \"append\"` alone", Some(hint.into()));
            return None;
        }
        Some(Output::Update) => WindowOutput::Update,
        Some(Output::Complete) => WindowOutput::Complete,
    };
    is_right.then(|| Window { shape, time, output, lateness: lateness.unwrap_or_default(), timeout: None })
}
