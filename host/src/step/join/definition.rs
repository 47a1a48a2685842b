//! The join as a step of a plan: its mistakes, and what runs it.

use std::sync::{Arc, Mutex};

use super::bucket;
use super::columns::{Column, ColumnOptions, JoinColumns};
use super::in_batch::InBatch;
use super::latest::Latest;
use super::over_time::OverTime;
use super::reach::{Reach, as_us};
use super::with_table::WithTable;
use super::{JoinOptions, JoinScope, JoinType, WINDOW_COLUMNS};
use crate::event_time::is_time_type;
use crate::job::units::format_duration;
use crate::plan::{describe_schema, describe_type};
use crate::shuffle::Partitioning;
use crate::source::table::LiveTable;
use crate::state::{RowCodec, Slots, StepState, TableLayout};
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, Side, StepDefinition};
use crate::step::keyed::{SpecProblem, column_hint};
use crate::step::times::{TimeColumn, TimeColumns, TimeOrigin, TimeUse, WindowTime, WindowsBefore};

/// A step that joins.
#[derive(Debug, Clone)]
pub struct JoinDefinition(pub JoinOptions);

impl StepDefinition for JoinDefinition {
    fn kind(&self) -> &'static str {
        "join"
    }

    fn other_inputs(&self) -> Vec<String> {
        vec![self.0.with.clone()]
    }

    fn reads_tables(&self) -> bool {
        true
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let mut problems = Vec::new();
        let [left, right] = context.sides else {
            unreachable!("a join has two sides");
        };
        let planning = Planning { options: &self.0, context, left, right };
        planning.check_scope(&mut problems);
        let columns = planning.columns(&mut problems);
        let built = columns.and_then(|columns| {
            let times = planning.times_of(&columns);
            Some((planning.build(Arc::new(columns), &mut problems)?, times))
        });
        match built {
            Some((built, times)) if problems.is_empty() => Ok(Built { times: Some(times), ..built }),
            _ => Err(problems),
        }
    }
}

struct Planning<'a> {
    options: &'a JoinOptions,
    context: &'a PlanContext<'a>,
    left: &'a Side,
    right: &'a Side,
}

fn problem(key: &str, message: String, hint: impl Into<String>) -> SpecProblem {
    SpecProblem { key: key.into(), message, hint: Some(hint.into()) }
}

impl Planning<'_> {
    /// The key of the table that says which rows meet.
    fn scope_key(&self) -> &'static str {
        match self.options.scope {
            JoinScope::Batch => "join",
            JoinScope::Interval { .. } => "join.within",
            JoinScope::Window { .. } => "join.window",
            JoinScope::Latest { .. } => "join.latest",
        }
    }

    /// Whether this type can be had of these sides, and whether there are the watermarks that it needs.
    fn check_scope(&self, problems: &mut Vec<SpecProblem>) {
        let JoinOptions { with, join_type, scope, .. } = self.options;
        let name = join_type.name();
        if self.right.table.is_some() {
            if *scope != JoinScope::Batch {
                let message = format!("`{with}` is a table: its rows have no time at which they came");
                problems.push(problem(
                    self.scope_key(),
                    message,
                    "Leave the key out: rows are joined with the table as it is.",
                ));
            }
            if self.options.join_type.gives_unmatched(1) {
                let message = format!(
                    "a {name} join with a table has no end: rows of `{with}` that match nothing yet may match tomorrow"
                );
                problems.push(problem("join.type", message, "With a table a join is inner, left, semi or anti."));
            }
            return;
        }
        if matches!(scope, JoinScope::Latest { .. }) && !matches!(join_type, JoinType::Inner | JoinType::Left) {
            let message = format!("a {name} join with the latest rows of a stream cannot be had");
            problems.push(problem("join.type", message, "With `latest = true` a join is inner or left."));
        }
        let needs_watermarks = match scope {
            JoinScope::Batch => false,
            JoinScope::Interval { .. } | JoinScope::Window { .. } => true,
            JoinScope::Latest { time, .. } => time.is_some(),
        };
        for side in [self.left, self.right].into_iter().filter(|side| needs_watermarks && side.clock.is_none()) {
            let names = side.names.join("`, `");
            let message = format!("`{names}` has no event time, and without its watermark rows would be kept for ever");
            let hint = "Say so where its rows come from, with `event-time = { column = \"…\", delay = \"…\" }` in the source, or \
                        with a `watermark` step.";
            problems.push(problem(self.scope_key(), message, hint));
        }
    }

    fn columns(&self, problems: &mut Vec<SpecProblem>) -> Option<JoinColumns> {
        let options = ColumnOptions {
            on: &self.options.on,
            prefix: self.options.prefix.as_deref(),
            join_type: self.options.join_type,
            windowed: matches!(self.options.scope, JoinScope::Window { .. }),
            with_table: self.right.table.is_some(),
            names: [self.left.names.join("`, `"), self.right.names.join("`, `")],
        };
        JoinColumns::resolve([&self.left.schema, &self.right.schema], &options, problems)
    }

    /// The indices of the time columns.
    fn times(&self, time: &(String, String), table: &str, problems: &mut Vec<SpecProblem>) -> Option<[usize; 2]> {
        let mut found = [None, None];
        for (index, (side, name)) in [(self.left, &time.0), (self.right, &time.1)].into_iter().enumerate() {
            let from = side.names.join("`, `");
            // Where one name is written for both there is no key for each.
            let key = format!("{table}.time.{}", ["left", "right"][index]);
            match side.schema.column_with_name(name) {
                None => {
                    let message = format!("`{from}` has no column `{name}`");
                    problems.push(problem(&key, message, column_hint(&side.schema, name)));
                }
                Some((_, field)) if !is_time_type(field.data_type()) => {
                    let message = format!(
                        "column `{name}` of `{from}` has type {}, which is no time",
                        describe_type(field.data_type())
                    );
                    problems.push(problem(&key, message, "Event times are of type timestamp."));
                }
                Some((column, _)) => {
                    // Without a clock there is nothing to follow: that is told elsewhere.
                    let refused = side.clock.and_then(|_| side.times.refusal(name, self.options.scope.time_use()));
                    // A right row may come late for the latest one.
                    let is_late_here = index == 0 || !matches!(self.options.scope, JoinScope::Latest { .. });
                    let is_other = side.times.get(name).iter().any(|known| matches!(known, TimeColumn::Other { .. }));
                    if let Some((message, hint)) = refused.filter(|_| is_late_here || is_other) {
                        problems.push(problem(&key, format!("`{from}`: {message}"), hint));
                    }
                    found[index] = Some(column);
                }
            }
        }
        Some([found[0]?, found[1]?])
    }

    /// What is known of the times in its rows.
    fn times_of(&self, columns: &JoinColumns) -> TimeColumns {
        let sides = [self.left, self.right];
        let JoinOptions { scope, join_type, .. } = self.options;
        // Rows of the side that wait, as what is known of their times then says.
        let waiting = |side: usize, known: TimeColumn| {
            let time = scope.times().map(|times| times[side]).unwrap_or_default();
            sides[side].times.waiting(time, &known)
        };
        let of_sides = match scope {
            JoinScope::Batch => sides.map(|side| side.times.clone()),
            JoinScope::Interval { before, after, .. } => {
                let reach = scope.reach();
                [(0, after), (1, before)].map(|(side, reaches)| {
                    // A pair comes when the later of both has come, a row without a match when its slot is over.
                    let is_alone = join_type.gives_unmatched(side);
                    let waits_us = reach.filter(|_| is_alone).map_or(0, Reach::slot_us);
                    waiting(side, TimeColumn::Behind(as_us(*reaches).saturating_add(waits_us)))
                })
            }
            JoinScope::Window { .. } => {
                let windows = self.windows();
                [0, 1].map(|side| match &windows {
                    Some(windows) => waiting(side, TimeColumn::OfWindow(WindowTime::Within, windows.clone())),
                    None => TimeColumns::default(),
                })
            }
            // Left rows wait until the watermark has come up to them; right rows are as old as they may be.
            JoinScope::Latest { time: Some(_), .. } => [waiting(0, TimeColumn::Behind(0)), TimeColumns::default()],
            JoinScope::Latest { time: None, .. } => [self.left.times.clone(), TimeColumns::default()],
        };
        let sides = [&of_sides[0], &of_sides[1]];
        let of = |side: usize, index: usize| TimeOrigin::column(side, columns.sides[side].field(index).name());
        let times = TimeColumns::computed(&sides, &columns.schema, |name| {
            let Some((index, _)) = columns.schema.column_with_name(name) else { return TimeOrigin::Unknown };
            match columns.columns[index] {
                Column::Left(index) => of(0, index),
                Column::Right(index) => of(1, index),
                Column::Either(left, right) if join_type.gives_unmatched(1) => {
                    TimeOrigin::OneOf(vec![of(0, left), of(1, right)])
                }
                Column::Either(left, _) => of(0, left),
                Column::WindowStart | Column::WindowEnd => TimeOrigin::Unknown,
            }
        });
        match self.windows() {
            Some(windows) => times.with_windows(WINDOW_COLUMNS, Some(windows)),
            None => times,
        }
    }

    /// The windows in which it joins.
    fn windows(&self) -> Option<WindowsBefore> {
        match self.options.scope.time_use() {
            TimeUse::Windows(shape, lateness_us) => {
                Some(WindowsBefore { step: self.context.step.to_owned(), shape, lateness_us })
            }
            TimeUse::Instant => None,
        }
    }

    /// What encodes the rows of a side for state.
    fn codec(&self, columns: &JoinColumns, side: usize, problems: &mut Vec<SpecProblem>) -> Option<Arc<RowCodec>> {
        match RowCodec::new(columns.sides[side].clone()) {
            Ok(codec) => Some(Arc::new(codec)),
            Err(error) => {
                let message =
                    format!("rows of `{}` cannot be kept: {error}", [self.left, self.right][side].names.join("`, `"));
                let hint = "Leave out the column in a step before, or turn it into another type.";
                problems.push(problem(["from", "join.with"][side], message, hint));
                None
            }
        }
    }

    fn keys(&self, columns: &JoinColumns, problems: &mut Vec<SpecProblem>) -> Option<Arc<RowCodec>> {
        match RowCodec::new(columns.key_schema()) {
            Ok(codec) => Some(Arc::new(codec)),
            Err(error) => {
                problems.push(problem(
                    "join.on",
                    format!("the keys cannot be kept: {error}"),
                    "Join on columns of other types.",
                ));
                None
            }
        }
    }

    fn build(&self, columns: Arc<JoinColumns>, problems: &mut Vec<SpecProblem>) -> Option<Built> {
        let join_type = self.options.join_type;
        let stop = self.context.stop.clone();
        if let Some(table) = &self.right.table {
            return self.build_with_table(columns, table);
        }
        match &self.options.scope {
            JoinScope::Batch => {
                let factory = Arc::new(InBatch { columns: columns.clone(), join_type, stop });
                Some(self.gather(&columns, factory, None, false))
            }
            JoinScope::Interval { time, before, after } => {
                let reach = Reach::Interval { before_us: as_us(*before), after_us: as_us(*after) };
                self.build_over_time(columns, reach, self.times(time, "join", problems), problems)
            }
            JoinScope::Window { time, size, slide } => {
                let reach = Reach::Window { size_us: as_us(*size), slide_us: as_us(*slide) };
                self.build_over_time(columns, reach, self.times(time, "join.window", problems), problems)
            }
            JoinScope::Latest { time, timeout } => {
                let times = match time {
                    Some(time) => Some(self.times(time, "join", problems)?),
                    None => None,
                };
                let rows = [self.codec(&columns, 0, problems)?, self.codec(&columns, 1, problems)?];
                let keys = self.keys(&columns, problems)?;
                let state = self.state(&columns, Latest::layouts(&keys, &rows));
                let latest = Latest {
                    join_type,
                    times,
                    timeout_us: timeout.map(as_us),
                    clock: self.context.clock,
                    state: state.clone(),
                    keys,
                    rows,
                    columns: columns.clone(),
                    meter: self.context.meter.clone(),
                    stop,
                };
                let runs_when_empty = times.is_some() || timeout.is_some();
                Some(self.gather(&columns, Arc::new(Arc::new(latest)), Some(state), runs_when_empty))
            }
        }
    }

    fn build_over_time(
        &self,
        columns: Arc<JoinColumns>,
        reach: Reach,
        times: Option<[usize; 2]>,
        problems: &mut Vec<SpecProblem>,
    ) -> Option<Built> {
        let keys = self.keys(&columns, problems)?;
        let rows = [self.codec(&columns, 0, problems)?, self.codec(&columns, 1, problems)?];
        let layouts = rows.iter().map(|rows| bucket::layout(&keys, rows, Slots::Numbers));
        let state = self.state(&columns, layouts.collect());
        let join = OverTime {
            join_type: self.options.join_type,
            reach,
            clock: self.context.clock,
            state: state.clone(),
            keys,
            rows,
            columns: columns.clone(),
            times: times?,
            meter: self.context.meter.clone(),
            stop: self.context.stop.clone(),
        };
        Some(self.gather(&columns, Arc::new(Arc::new(join)), Some(state), true))
    }

    fn build_with_table(&self, columns: Arc<JoinColumns>, table: &Arc<LiveTable>) -> Option<Built> {
        let join = WithTable {
            join_type: self.options.join_type,
            table: table.clone(),
            stop: self.context.stop.clone(),
            index: Mutex::default(),
            columns: columns.clone(),
        };
        Some(Built::narrow(columns.schema.clone(), Arc::new(Arc::new(join))))
    }

    fn n_partitions(&self) -> u32 {
        self.options.partitions.unwrap_or(self.context.settings.partitions)
    }

    fn state(&self, columns: &JoinColumns, tables: Vec<TableLayout>) -> Arc<StepState> {
        let on: Vec<String> = self.options.on.iter().map(|(left, right)| format!("`{left}` = `{right}`")).collect();
        let [left, right] = columns.sides.each_ref().map(|side| describe_schema(side));
        let which = match &self.options.scope {
            JoinScope::Batch => String::new(),
            JoinScope::Interval { time: (left, right), before, after } => {
                let [before, after] = [before, after].map(|length| format_duration(*length));
                format!("`{right}` from {before} before `{left}` to {after} after it")
            }
            JoinScope::Window { time: (left, right), size, slide } => {
                let [size, slide] = [size, slide].map(|length| format_duration(*length));
                format!("`{left}` and `{right}` in a window of {size} every {slide}")
            }
            JoinScope::Latest { time, timeout } => {
                let of = time.as_ref().map_or_else(String::new, |(left, right)| format!(" at `{left}` of `{right}`"));
                let forgotten = timeout
                    .map_or_else(String::new, |timeout| format!(", forgotten after {}", format_duration(timeout)));
                format!("the latest{of}{forgotten}")
            }
        };
        let keeps = format!(
            "rows {left} and {right} with {} and {which}, as {}",
            on.join(", "),
            format!("{:?}", self.options.join_type).to_lowercase()
        );
        self.context.keep(keeps, tables, self.n_partitions())
    }

    fn gather(
        &self,
        columns: &JoinColumns,
        factory: Arc<dyn crate::step::StepFactory>,
        state: Option<Arc<StepState>>,
        runs_when_empty: bool,
    ) -> Built {
        let side = |side: usize| GatherSide {
            prepare: None,
            partitioning: Partitioning::Hash { columns: columns.keys[side].clone() },
        };
        let sides = vec![side(0), side(1)];
        let n_partitions = self.n_partitions();
        Built::gather(columns.schema.clone(), Gather { sides, n_partitions, runs_when_empty, state, factory })
    }
}
