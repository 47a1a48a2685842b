//! What a job says of a join, and how it is read.

use std::sync::Arc;
use std::time::Duration;

use super::JoinType;
use super::LateForJoin;
use super::reach::{Reach, WINDOWS_PER_ROW_MAX, as_us};
use crate::job::steps::{read_partitions, refuse_plugin_keys};
use crate::job::table::Table;
use crate::step::kinds::SideStream;
use crate::step::times::TimeUse;
use crate::step::windowed::{Panes, TimeShape};

/// What a job says of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinOptions {
    /// The right side: a source, a step or a table.
    pub with: String,
    /// Left column = right column; at least one pair.
    pub on: Vec<(String, String)>,
    /// Which rows come out.
    pub join_type: JoinType,
    /// Stands before the name of a right column that the left side has too.
    pub prefix: Option<String>,
    /// Partitions behind the shuffle; the job's when not said.
    pub partitions: Option<u32>,
    /// Which rows meet.
    pub scope: JoinScope,
}

/// Which rows of two streams meet, besides having equal keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum JoinScope {
    /// Those of the same batch; or, where the right side is a table, the rows of the table as it is then.
    #[default]
    Batch,
    /// Those whose event times are near each other.
    Interval {
        /// The time columns of both sides.
        time: (String, String),
        /// A right row may be so much earlier than the left one.
        before: Duration,
        /// Or so much later.
        after: Duration,
    },
    /// Those of the same window of event time.
    Window {
        /// The time columns of both sides.
        time: (String, String),
        /// How long a window is.
        size: Duration,
        /// A window starts so long after the one before it.
        slide: Duration,
    },
    /// The right side is a running table: of each key the latest row counts.
    Latest {
        /// The time columns of both sides, when the latest at the left row's time is meant; `None`: the latest that came.
        time: Option<(String, String)>,
        /// A key that has not come for so long is forgotten.
        timeout: Option<Duration>,
    },
}

impl JoinScope {
    /// The time columns of both sides, where rows are joined by them.
    pub(crate) fn times(&self) -> Option<[&str; 2]> {
        match self {
            JoinScope::Interval { time, .. } | JoinScope::Window { time, .. } => Some(time),
            JoinScope::Latest { time, .. } => time.as_ref(),
            JoinScope::Batch => None,
        }
        .map(|(left, right)| [left.as_str(), right.as_str()])
    }

    /// What is done with the times of rows.
    pub(crate) fn time_use(&self) -> TimeUse {
        match self {
            JoinScope::Window { size, slide, .. } => {
                let [size, slide] = [size, slide].map(|length| as_us(*length).max(1));
                TimeUse::Windows(TimeShape::Panes(Panes::new(size, slide, 0)), 0)
            }
            _ => TimeUse::Instant,
        }
    }

    /// How far rows reach; `None`: that is no matter of their times.
    pub(crate) fn reach(&self) -> Option<Reach> {
        match self {
            JoinScope::Interval { before, after, .. } => {
                Some(Reach::Interval { before_us: as_us(*before), after_us: as_us(*after) })
            }
            JoinScope::Window { size, slide, .. } => {
                Some(Reach::Window { size_us: as_us(*size), slide_us: as_us(*slide) })
            }
            JoinScope::Batch | JoinScope::Latest { .. } => None,
        }
    }
}

impl JoinOptions {
    /// An inner join of the rows of each batch, on columns that both sides have.
    #[must_use]
    pub fn new<'s>(with: &str, on: impl IntoIterator<Item = &'s str>) -> Self {
        Self {
            with: with.to_owned(),
            on: on.into_iter().map(|name| (name.to_owned(), name.to_owned())).collect(),
            join_type: JoinType::Inner,
            prefix: None,
            partitions: None,
            scope: JoinScope::Batch,
        }
    }

    /// Reads `join` from a step's table; its mistakes are in the table's problems. What it joins with is known also when
    /// the rest is wrong.
    pub(crate) fn parse(step: &mut Table<'_>) -> ReadJoin {
        refuse_plugin_keys(step, "join");
        let from = step.texts("from").unwrap_or_default();
        let Some(mut table) = step.table("join") else { return ReadJoin::default() };
        let with = table.required_text("with");
        let on = read_on(&mut table);
        let join_type = table.choice("type", &JoinType::NAMES);
        let prefix = table.text("prefix");
        let partitions = read_partitions(&mut table);
        let scope = read_scope(&mut table);
        let late = read_late(&mut table, scope.as_ref());
        table.finish();
        let options = || {
            Some(Self {
                with: with.clone()?,
                on: on?,
                join_type: join_type.unwrap_or_default(),
                prefix,
                partitions,
                scope: scope?,
            })
        };
        let options = options();
        let late = late.into_iter().zip([("join.late.left", 0), ("join.late.right", 1)]);
        let side_streams = late.filter_map(|(name, (key, side))| {
            // When the join is wrong the job is refused; the names are known all the same.
            let with = with.clone().unwrap_or_default();
            let options = options.clone().unwrap_or_else(|| Self::new(&with, []));
            let other = if side == 0 { vec![with.clone()] } else { from.clone() };
            let definition = Arc::new(LateForJoin { options, other, side });
            Some(SideStream { name: name?, key, definition, from: (side == 1).then_some(with) })
        });
        let side_streams = side_streams.collect();
        ReadJoin { options, with, side_streams }
    }
}

/// What was read of a join.
#[derive(Default)]
pub(crate) struct ReadJoin {
    /// The join; `None`: something is wrong.
    pub(crate) options: Option<JoinOptions>,
    /// What it joins with, known also when the rest is wrong.
    pub(crate) with: Option<String>,
    /// The streams of late rows.
    pub(crate) side_streams: Vec<SideStream>,
}

/// `late = "name"`, of the left side, or `late = { left = "…", right = "…" }`.
fn read_late(table: &mut Table<'_>, scope: Option<&JoinScope>) -> [Option<String>; 2] {
    if !table.has("late") {
        return [None, None];
    }
    let names = if table.is_table("late") {
        match table.table("late") {
            Some(mut inner) => {
                let names = [inner.text("left"), inner.text("right")];
                if names == [None, None] && !inner.has("left") && !inner.has("right") {
                    inner.missing("left", Some("Name the streams: `late = { left = \"…\", right = \"…\" }`.".into()));
                }
                inner.finish();
                names
            }
            None => [None, None],
        }
    } else {
        [table.text("late"), None]
    };
    match scope {
        None | Some(JoinScope::Interval { .. } | JoinScope::Window { .. }) => names,
        Some(JoinScope::Latest { time: Some(_), .. }) => {
            if names[1].is_some() {
                let hint = "Right rows may come late, and count from then on. Leave it out.";
                table.problem("late.right", "no right row is late for `latest`", Some(hint.into()));
            }
            names
        }
        Some(JoinScope::Latest { time: None, .. } | JoinScope::Batch) => {
            let hint = "It goes with `within`, with `window`, and with `latest` when it has a `time`.";
            table.problem("late", "no row is late for a join without event time", Some(hint.into()));
            names
        }
    }
}

/// `on = ["customer"]` or `on = { customer = "id" }`.
fn read_on(table: &mut Table<'_>) -> Option<Vec<(String, String)>> {
    let on = if table.is_table("on") {
        table.named_texts("on")?
    } else {
        if !table.has("on") {
            let hint = "Name the columns that must be equal: `on = [\"id\"]`, or `on = { customer = \"id\" }`.";
            table.missing("on", Some(hint.into()));
        }
        table.texts("on")?.into_iter().map(|name| (name.clone(), name)).collect()
    };
    if on.is_empty() {
        let hint = "Name at least one column that must be equal: without one every row would match every other.";
        table.problem("on", "`on` is empty", Some(hint.into()));
        return None;
    }
    if let Some((index, (name, _))) =
        on.iter().enumerate().find(|(index, pair)| on[..*index].iter().any(|other| other.0 == pair.0))
    {
        let key = if table.is_table("on") { "on".to_owned() } else { format!("on.{index}") };
        table.problem(&key, format!("column `{name}` is named twice"), None);
        return None;
    }
    Some(on)
}

/// `time = "at"` or `time = { left = "at", right = "seen" }`.
fn read_time(table: &mut Table<'_>) -> Option<(String, String)> {
    if table.is_table("time") {
        let mut inner = table.table("time")?;
        let (left, right) = (inner.required_text("left"), inner.required_text("right"));
        inner.finish();
        return Some((left?, right?));
    }
    if !table.has("time") {
        let hint = "Name the columns of event time: `time = \"at\"`, or `time = { left = \"at\", right = \"seen\" }`.";
        let _ = table.text("time");
        table.missing("time", Some(hint.into()));
        return None;
    }
    table.text("time").map(|name| (name.clone(), name))
}

/// A duration that must be longer than 0.
fn read_length(table: &mut Table<'_>, key: &'static str) -> Option<Duration> {
    let length = table.duration(key)?;
    if length.is_zero() {
        table.problem(key, format!("`{key}` must be longer than 0"), None);
        return None;
    }
    Some(length)
}

/// The keys of which one says which rows meet.
const SCOPES: [&str; 3] = ["within", "window", "latest"];

fn read_scope(table: &mut Table<'_>) -> Option<JoinScope> {
    let found: Vec<&str> = SCOPES.into_iter().filter(|key| table.has(key)).collect();
    if let [first, second, ..] = found[..] {
        let message = format!("`{second}` does not go with `{first}`");
        table.problem(second, message, Some("Write one of `within`, `window`, `latest`, or none.".into()));
        // All of their keys are known.
        for key in ["within", "window", "latest", "time", "timeout"] {
            table.know(key);
        }
        return None;
    }
    let scope = found.first().copied();
    table.know("timeout");
    if scope != Some("latest") && table.has("timeout") {
        table.problem("timeout", "`timeout` is for joins with `latest = true`", None);
    }
    if !matches!(scope, Some("within" | "latest")) && table.has("time") {
        let hint = "It goes with `within` or `latest`; for windows it stands in `window`.";
        table.problem("time", "`time` says nothing here", Some(hint.into()));
        table.know("time");
    }
    match scope {
        Some("within") => {
            let bounds = table.table("within").map(|mut within| {
                if !within.has("before") && !within.has("after") {
                    let hint = "Say how much earlier and later a right row may be: `within = { before = \"10m\", after = \"0s\" }`.";
                    within.missing("before", Some(hint.into()));
                }
                let bounds = (within.duration("before"), within.duration("after"));
                within.finish();
                bounds
            });
            let time = read_time(table);
            let (before, after) = bounds?;
            Some(JoinScope::Interval {
                time: time?,
                before: before.unwrap_or_default(),
                after: after.unwrap_or_default(),
            })
        }
        Some("window") => {
            let mut window = table.table("window")?;
            if !window.has("size") {
                window.missing("size", Some("Say how long a window is: `size = \"10m\"`.".into()));
            }
            let size = read_length(&mut window, "size");
            let slide = read_length(&mut window, "slide");
            let has_slide = window.has("slide");
            let time = read_time(&mut window);
            let slide = if has_slide { slide? } else { size? };
            let size = size?;
            if size.as_micros().div_ceil(slide.as_micros()) > WINDOWS_PER_ROW_MAX {
                let message = format!("a row would be in more than {WINDOWS_PER_ROW_MAX} windows");
                window.problem("slide", message, Some("Choose a longer `slide`.".into()));
                return None;
            }
            window.finish();
            Some(JoinScope::Window { time: time?, size, slide })
        }
        Some("latest") => {
            let is_on = table.boolean("latest")?;
            let time = if table.has("time") { Some(read_time(table)?) } else { None };
            table.know("time");
            let timeout = if table.has("timeout") { Some(read_length(table, "timeout")?) } else { None };
            if !is_on {
                let hint = "Leave it out for a join of the rows of each batch.";
                table.problem("latest", "`latest` can only be true", Some(hint.into()));
                return None;
            }
            Some(JoinScope::Latest { time, timeout })
        }
        _ => {
            for key in ["within", "window", "latest", "time"] {
                table.know(key);
            }
            Some(JoinScope::Batch)
        }
    }
}
