//! The library's front door: builds a job by calls, or takes one from a file, and runs it.
//!
//! # Examples
//!
//! A word count whose splitter is a plugin, as the README's job file has it:
//!
//! ```no_run
//! use tidemill::context::{Context, Plugin};
//! use tidemill::job::Settings;
//!
//! let context = Context::new(Settings { name: "word-count".into(), ..Settings::default() })?;
//! let lines = context.socket_text_stream("lines", "127.0.0.1:9999");
//! let words = lines.transform("words", Plugin::at("target/plugins/split_words.wasm"));
//! let counts = words.aggregate("counts", ["word"], [("count", "count(*)")]);
//! counts.print();
//!
//! let running = context.start()?;
//! let summary = running.await_termination()?;
//! println!("{} rows", summary.rows_in);
//! # Ok::<(), tidemill::error::Error>(())
//! ```
//!
//! Bids once, in windows of event time, the dearest of each:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! use arrow::array::RecordBatch;
//! use tidemill::context::Context;
//! use tidemill::event_time::EventTime;
//! use tidemill::job::{Settings, Trigger};
//! use tidemill::source::GeneratorSource;
//! use tidemill::source::generator::{NexmarkEvents, NexmarkOptions};
//! use tidemill::step::dedup::Dedup;
//! use tidemill::step::window::Window;
//!
//! let context = Context::new(Settings { trigger: Trigger::AvailableNow, ..Settings::default() })?;
//! // Half a second of events, at 10000 a second.
//! let events = NexmarkOptions { n_events: Some(5_000), ..NexmarkOptions::of(NexmarkEvents::Bids) };
//! let time = EventTime { column: "date_time".into(), delay: Duration::from_millis(10), idle_timeout: None };
//! let bids = context.source_with_event_time("bids", Arc::new(GeneratorSource::nexmark(events)), time);
//!
//! let once = bids.dedup("once", Dedup::by(["auction", "bidder", "price"]).time("date_time"));
//! let windows = once.window("windows", Window::tumbling(Duration::from_millis(100)).time("date_time"));
//! let dearest = windows.top_k("dearest", ["window_end"], 1, ["price desc"]);
//! let n_rows = Arc::new(Mutex::new(0));
//! let counted = n_rows.clone();
//! dearest.foreach_batch(move |_, rows| {
//!     *counted.lock().expect("nobody panicked") += rows.iter().map(RecordBatch::num_rows).sum::<usize>();
//!     Ok(())
//! });
//!
//! context.start()?.await_termination()?;
//! assert_eq!(*n_rows.lock().expect("nobody panicked"), 5);
//! # Ok::<(), tidemill::error::Error>(())
//! ```

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::checkpoint::Standby;
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::event_time::EventTime;
use crate::job::{
    Durability, Job, NamedTable, OnError, OperatorRef, OperatorStep, Settings, Sink, Source, Spans, Step, StepKind,
};
use crate::operator::{Limits, Operator};
use crate::plan::{Plan, PlanErrors, build_plan, build_plan_again};
use crate::plugin::{Grants, Runtime, RuntimeConfig};
use crate::scheduler::{self, Listener, Running};
use crate::sink::{ConsoleSink, ForeachBatch, SinkBatch, SinkDefinition};
use crate::source::table::TableSource;
use crate::source::{SocketSource, SourceDefinition};
use crate::step::count::Count;
use crate::step::dedup::Dedup;
use crate::step::definition::StepDefinition;
use crate::step::distinct::Distinct;
use crate::step::filter::FilterDefinition;
use crate::step::group::Group;
use crate::step::join::{JoinDefinition, JoinOptions, LateForJoin};
use crate::step::limit::Limit;
use crate::step::sample::Sample;
use crate::step::select::SelectDefinition;
use crate::step::sort::Sort;
use crate::step::sql::SqlDefinition;
use crate::step::top_k::TopK;
use crate::step::update_state::UpdateState;
use crate::step::watermark::WatermarkDefinition;
use crate::step::window::Window as RowsWindow;
use crate::step::windowed::{Computes, LateDefinition, Over, Window, WindowedDefinition};
use crate::step::with::WithDefinition;

/// Builds a job and starts it.
///
/// Streams borrow the context they were made by: once it has started, nothing can be added.
pub struct Context {
    job: RefCell<Job>,
    runtime: Runtime,
    clock: Arc<dyn Clock>,
    listeners: Vec<Arc<dyn Listener>>,
    standby: Standby,
}

impl Context {
    /// A context for a job of no sources yet, with a plugin runtime of its own.
    ///
    /// # Errors
    ///
    /// When the plugin runtime cannot be made.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let runtime = Runtime::new(RuntimeConfig::default())?;
        Ok(Self::from_job(Job { settings, ..Job::default() }, runtime))
    }

    /// A context for a job that has been read from a file. Several contexts may share a runtime.
    #[must_use]
    pub fn from_job(job: Job, runtime: Runtime) -> Self {
        let clock = Arc::new(SystemClock::new());
        Self { job: RefCell::new(job), runtime, clock, listeners: Vec::new(), standby: Standby::default() }
    }

    /// Takes the time from another clock.
    pub fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = clock;
    }

    /// Says how the job waits before it starts, and from elsewhere when it waits no more.
    pub fn set_standby(&mut self, standby: Standby) {
        self.standby = standby;
    }

    /// Adds a listener, which is told of every batch.
    pub fn add_listener(&mut self, listener: Arc<dyn Listener>) {
        self.listeners.push(listener);
    }

    /// Adds a source of any kind, a program's own included.
    pub fn source(&self, name: &str, definition: Arc<dyn SourceDefinition>) -> Stream<'_> {
        self.add_source(name, definition, None)
    }

    /// Adds a source whose rows have an event time.
    pub fn source_with_event_time(
        &self,
        name: &str,
        definition: Arc<dyn SourceDefinition>,
        event_time: EventTime,
    ) -> Stream<'_> {
        self.add_source(name, definition, Some(event_time))
    }

    fn add_source(
        &self,
        name: &str,
        definition: Arc<dyn SourceDefinition>,
        event_time: Option<EventTime>,
    ) -> Stream<'_> {
        let source =
            Source { name: name.to_owned(), definition, event_time, durability: None, spans: Spans::default() };
        self.job.borrow_mut().sources.push(source);
        Stream { context: self, name: name.to_owned() }
    }

    /// Adds a table, which streams can be joined with by its name.
    pub fn table(&self, name: &str, source: TableSource) {
        let table = NamedTable { name: name.to_owned(), source, spans: Spans::default() };
        self.job.borrow_mut().tables.push(table);
    }

    /// Adds a source of UTF-8 lines from a TCP server: one column, `value`.
    pub fn socket_text_stream(&self, name: &str, address: &str) -> Stream<'_> {
        self.source(name, Arc::new(SocketSource::new(address)))
    }

    /// Opens the operators and finds every schema, as `tidemill check` does. Nothing is started.
    ///
    /// # Errors
    ///
    /// Everything that does not fit, at once.
    pub fn check(&self) -> Result<Plan, PlanErrors> {
        build_plan(&self.job.borrow(), &self.runtime)
    }

    /// The job as it was built.
    #[must_use]
    pub fn into_job(self) -> Job {
        self.job.into_inner()
    }

    /// Checks the job and starts it on threads of its own.
    ///
    /// # Errors
    ///
    /// [`PlanErrors`] when the job does not fit together, [`scheduler::StartError`] when a source or sink cannot be
    /// opened. Nothing runs then.
    pub fn start(self) -> Result<Running, Error> {
        let plan = self.check()?;
        self.start_plan(plan)
    }

    /// Starts a plan that [`check`](Self::check) gave, so that plugins are opened once.
    ///
    /// # Errors
    ///
    /// [`scheduler::StartError`] when a source or sink cannot be opened. Nothing runs then.
    pub fn start_plan(self, plan: Plan) -> Result<Running, Error> {
        let (job, runtime) = (self.job.into_inner(), self.runtime);
        let again = move |before: &Plan| build_plan_again(&job, &runtime, before);
        Ok(scheduler::start(plan, again, self.clock, self.listeners, &self.standby)?)
    }
}

/// Rows on their way: the output of a source or a step.
#[derive(Clone)]
pub struct Stream<'a> {
    context: &'a Context,
    name: String,
}

impl<'a> Stream<'a> {
    /// The name of the source or step.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rows that the source rejected: `None` for a step, and for a source that does not set them aside.
    #[must_use]
    pub fn rejected(&self) -> Option<Stream<'a>> {
        let job = self.context.job.borrow();
        let source = job.sources.iter().find(|source| source.name == self.name)?;
        let name = source.definition.dead_letter()?.to_owned();
        Some(Stream { context: self.context, name })
    }

    /// The rows that the step sets aside: `None` for a source, and for a step that does not.
    ///
    /// ```
    /// use tidemill::context::Context;
    /// use tidemill::job::{DeadLetters, OnError, Settings};
    /// use tidemill::step::filter::FilterDefinition;
    ///
    /// let context = Context::new(Settings::default())?;
    /// let lines = context.socket_text_stream("lines", "127.0.0.1:9999");
    /// let aside = OnError::DeadLetter(DeadLetters::named("not-numbers"));
    /// let large = lines.filter("large", FilterDefinition::new("cast(value AS bigint) > 9").on_error(aside));
    /// large.print();
    /// large.dead_letters().expect("it sets rows aside").print();
    /// context.check()?;
    /// # Ok::<(), tidemill::error::Error>(())
    /// ```
    #[must_use]
    pub fn dead_letters(&self) -> Option<Stream<'a>> {
        let job = self.context.job.borrow();
        let step = job.steps.iter().find(|step| step.name == self.name)?;
        let name = step.dead_letters()?.name.clone();
        Some(Stream { context: self.context, name })
    }

    /// Says what of the rows of this source a crash may lose, where the job says something else. For a step it means nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use tidemill::checkpoint::Place;
    /// use tidemill::context::Context;
    /// use tidemill::job::{Durability, Settings};
    ///
    /// let checkpoint = Some(Place::Directory("checkpoints/lines".into()));
    /// let context = Context::new(Settings { checkpoint, ..Settings::default() })?;
    /// context.socket_text_stream("safe", "127.0.0.1:9999").print();
    /// context.socket_text_stream("fast", "127.0.0.1:9998").durability(Durability::Batch).print();
    /// let durabilities = context.check()?.sources.iter().map(|source| source.durability).collect::<Vec<_>>();
    /// assert_eq!(durabilities, [Durability::Row, Durability::Batch]);
    /// # Ok::<(), tidemill::error::Error>(())
    /// ```
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        let mut job = self.context.job.borrow_mut();
        if let Some(source) = job.sources.iter_mut().find(|source| source.name == self.name) {
            source.durability = Some(durability);
        }
        drop(job);
        self
    }

    /// Runs an operator of role transform on the rows: map, flat-map, filter.
    pub fn transform(&self, name: &str, operator: impl Into<OperatorStep>) -> Stream<'a> {
        self.step(name, vec![self.name.clone()], StepKind::Transform(operator.into()))
    }

    /// Aggregates by key: each pair is a column of the output and what it is, as in `("count", "count(*)")`.
    pub fn aggregate<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        select: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Stream<'a> {
        let select = select.into_iter().map(|(column, expression)| (column.to_owned(), expression.to_owned()));
        let kind = StepKind::Aggregate { by: owned(by), select: select.collect(), partitions: None };
        self.step(name, vec![self.name.clone()], kind)
    }

    /// Aggregates by key with an operator of role aggregator.
    pub fn aggregate_with<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        operator: impl Into<OperatorStep>,
    ) -> Stream<'a> {
        let kind = StepKind::AggregateWith { by: owned(by), operator: operator.into(), partitions: None };
        self.step(name, vec![self.name.clone()], kind)
    }

    /// Reduces by key with an operator of role reducer.
    pub fn reduce<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        operator: impl Into<OperatorStep>,
    ) -> Stream<'a> {
        let kind = StepKind::Reduce { by: owned(by), operator: operator.into(), partitions: None };
        self.step(name, vec![self.name.clone()], kind)
    }

    /// As [`aggregate`](Self::aggregate), over all batches so far ([`Running`](crate::step::windowed::Running)) or a
    /// [`Window`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::context::Context;
    /// use tidemill::job::Settings;
    /// use tidemill::step::windowed::{Running, Window};
    ///
    /// let context = Context::new(Settings::default())?;
    /// let lines = context.socket_text_stream("lines", "127.0.0.1:9999");
    /// let count = [("n", "count(*)")];
    /// lines.aggregate_over("so-far", ["value"], count, Running::default()).print();
    /// let minute = Window::sliding(Duration::from_secs(60), Duration::from_secs(10));
    /// lines.aggregate_over("last-minute", ["value"], count, minute).print();
    /// context.check()?;
    /// # Ok::<(), tidemill::error::Error>(())
    /// ```
    pub fn aggregate_over<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        select: impl IntoIterator<Item = (&'s str, &'s str)>,
        over: impl Into<Over>,
    ) -> Stream<'a> {
        let select = select.into_iter().map(|(column, expression)| (column.to_owned(), expression.to_owned()));
        self.over(name, by, Computes::Select(select.collect()), over)
    }

    /// As [`aggregate_with`](Self::aggregate_with), over all batches so far or a window.
    pub fn aggregate_with_over<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        operator: impl Into<OperatorStep>,
        over: impl Into<Over>,
    ) -> Stream<'a> {
        self.over(name, by, Computes::Aggregator(operator.into()), over)
    }

    /// As [`reduce`](Self::reduce), over all batches so far or a window.
    pub fn reduce_over<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        operator: impl Into<OperatorStep>,
        over: impl Into<Over>,
    ) -> Stream<'a> {
        self.over(name, by, Computes::Reducer(operator.into()), over)
    }

    fn over<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        computes: Computes,
        over: impl Into<Over>,
    ) -> Stream<'a> {
        let definition = WindowedDefinition { computes, by: owned(by), partitions: None, over: over.into() };
        self.built(name, definition)
    }

    /// The rows of this stream that are late for a window over it on event time.
    pub fn late_rows(&self, name: &str, window: &Window) -> Stream<'a> {
        let definition = LateDefinition { key: "aggregate.late", window: window.clone() };
        self.built(name, definition)
    }

    /// The rows of this stream, whose event time is followed from here on: windows on event time behind it end by it.
    pub fn watermark(&self, name: &str, event_time: EventTime) -> Stream<'a> {
        self.built(name, WatermarkDefinition { event_time })
    }

    /// The rows of this stream and others of the same columns.
    pub fn union(&self, name: &str, others: &[&Stream<'a>]) -> Stream<'a> {
        let from = std::iter::once(self.name.clone()).chain(others.iter().map(|other| other.name.clone()));
        self.step(name, from.collect(), StepKind::Union)
    }

    /// Brings these rows, the left side, together with those of another stream or of a table that have equal keys.
    ///
    /// ```
    /// use tidemill::context::Context;
    /// use tidemill::job::Settings;
    /// use tidemill::step::join::{JoinOptions, JoinType};
    ///
    /// let context = Context::new(Settings::default())?;
    /// let orders = context.socket_text_stream("orders", "127.0.0.1:9999");
    /// let payments = context.socket_text_stream("payments", "127.0.0.1:9998");
    /// let options = JoinOptions { join_type: JoinType::Semi, ..JoinOptions::new(payments.name(), ["value"]) };
    /// orders.join("paid", options).print();
    /// assert_eq!(context.check()?.steps[0].kind, "join");
    /// # Ok::<(), tidemill::error::Error>(())
    /// ```
    pub fn join(&self, name: &str, options: JoinOptions) -> Stream<'a> {
        self.built(name, JoinDefinition(options))
    }

    /// The rows of this stream that are late for a join: as its left side, or where the join is `with` this stream, as its right one.
    /// `other` is the other side, whose watermark counts as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidemill::context::Context;
    /// use tidemill::event_time::EventTime;
    /// use tidemill::job::Settings;
    /// use tidemill::step::join::{JoinOptions, JoinScope};
    ///
    /// let context = Context::new(Settings::default())?;
    /// let time = || EventTime { column: "at".into(), delay: Duration::from_secs(10), idle_timeout: None };
    /// let lines = |name: &str, address| {
    ///     let columns = [("user", "split_part(value, ' ', 1)"), ("at", "to_timestamp(split_part(value, ' ', 2))")];
    ///     context.socket_text_stream(&format!("{name}-lines"), address).select(&format!("{name}-read"), columns).watermark(name, time())
    /// };
    /// let (clicks, views) = (lines("clicks", "127.0.0.1:9999"), lines("views", "127.0.0.1:9998"));
    /// let options = JoinOptions {
    ///     prefix: Some("view_".into()),
    ///     scope: JoinScope::Interval {
    ///         time: ("at".into(), "at".into()),
    ///         before: Duration::from_secs(600),
    ///         after: Duration::ZERO,
    ///     },
    ///     ..JoinOptions::new(views.name(), ["user"])
    /// };
    /// clicks.join("viewed", options.clone()).print();
    /// clicks.late_for_join("late-clicks", options.clone(), &views).print();
    /// views.late_for_join("late-views", options, &clicks).print();
    /// context.check()?;
    /// # Ok::<(), tidemill::error::Error>(())
    /// ```
    pub fn late_for_join(&self, name: &str, options: JoinOptions, other: &Stream<'a>) -> Stream<'a> {
        let side = usize::from(options.with == self.name && other.name != self.name);
        self.built(name, LateForJoin { options, other: vec![other.name.clone()], side })
    }

    /// Deals the rows out anew: in turn, or so that rows with equal values in `by` share a partition.
    pub fn repartition<'s>(&self, name: &str, partitions: u32, by: impl IntoIterator<Item = &'s str>) -> Stream<'a> {
        self.step(name, vec![self.name.clone()], StepKind::Repartition { partitions, by: owned(by), range: false })
    }

    /// Keeps the rows for which an expression of SQL is true.
    pub fn filter(&self, name: &str, condition: impl Into<FilterDefinition>) -> Stream<'a> {
        self.built(name, condition.into())
    }

    /// Adds columns, or replaces them: each with its expression, as in `("total", "price * quantity")`.
    pub fn with(&self, name: &str, columns: impl Into<WithDefinition>) -> Stream<'a> {
        self.built(name, columns.into())
    }

    /// Gives these columns: names, or pairs of a name and an expression.
    pub fn select(&self, name: &str, columns: impl Into<SelectDefinition>) -> Stream<'a> {
        self.built(name, columns.into())
    }

    /// Runs a query of SQL over the rows of a batch, of this stream and `others`: each is a table of its name.
    pub fn sql(&self, name: &str, query: impl Into<SqlDefinition>, others: &[&Stream<'a>]) -> Stream<'a> {
        let others = others.iter().map(|other| other.name.clone()).collect();
        self.built(name, SqlDefinition { others, ..query.into() })
    }

    /// Deals the rows out by an order, of terms as in `price desc`: rows that come first in lower partitions.
    pub fn repartition_by_range<'s>(
        &self,
        name: &str,
        partitions: u32,
        order: impl IntoIterator<Item = &'s str>,
    ) -> Stream<'a> {
        let kind = StepKind::Repartition { partitions, by: owned(order), range: true };
        self.step(name, vec![self.name.clone()], kind)
    }

    /// How many rows each batch has: one row, column `count`.
    pub fn count(&self, name: &str) -> Stream<'a> {
        self.built(name, Count::Rows)
    }

    /// How often each different row stands in a batch: its columns, and `count`.
    pub fn count_by_value(&self, name: &str) -> Stream<'a> {
        self.built(name, Count::ByValue)
    }

    /// The rows of a batch that differ.
    pub fn distinct(&self, name: &str) -> Stream<'a> {
        self.built(name, Distinct { by: None })
    }

    /// The rows of a batch that differ in some columns: of equal ones the first.
    pub fn distinct_by<'s>(&self, name: &str, by: impl IntoIterator<Item = &'s str>) -> Stream<'a> {
        self.built(name, Distinct { by: Some(owned(by)) })
    }

    /// The rows whose key has not come before, over batches.
    pub fn dedup(&self, name: &str, dedup: Dedup) -> Stream<'a> {
        self.built(name, dedup)
    }

    /// The first `k` rows of each key, in an order of terms as in `price desc`.
    pub fn top_k<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        k: usize,
        order: impl IntoIterator<Item = &'s str>,
    ) -> Stream<'a> {
        self.built(name, TopK { by: owned(by), k, order: owned(order), partitions: None })
    }

    /// The rows of a batch in an order of terms as in `price desc`, in one partition.
    pub fn sort<'s>(&self, name: &str, order: impl IntoIterator<Item = &'s str>) -> Stream<'a> {
        self.built(name, Sort { order: owned(order), partitions: None })
    }

    /// At most so many rows of each batch: the first.
    pub fn limit(&self, name: &str, rows: u64) -> Stream<'a> {
        self.built(name, Limit { rows })
    }

    /// Each row with a probability between 0 and 1; another seed chooses other rows.
    pub fn sample(&self, name: &str, fraction: f64, seed: u64) -> Stream<'a> {
        self.built(name, Sample { fraction, seed })
    }

    /// The rows of each window as one batch.
    pub fn window(&self, name: &str, window: RowsWindow) -> Stream<'a> {
        self.built(name, window)
    }

    /// All rows of a key of a batch at once, to an operator of role grouper.
    pub fn group<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        operator: impl Into<OperatorStep>,
    ) -> Stream<'a> {
        self.cogroup(name, &[], by, operator)
    }

    /// As [`group`](Self::group), with the rows of other streams beside them.
    pub fn cogroup<'s>(
        &self,
        name: &str,
        others: &[&Stream<'a>],
        by: impl IntoIterator<Item = &'s str>,
        operator: impl Into<OperatorStep>,
    ) -> Stream<'a> {
        let with = others.iter().map(|other| other.name.clone()).collect();
        self.built(name, Group { by: owned(by), with, operator: operator.into(), partitions: None })
    }

    /// Keys with their state, from batch to batch, to an operator of role updater.
    pub fn update_state<'s>(
        &self,
        name: &str,
        by: impl IntoIterator<Item = &'s str>,
        operator: impl Into<OperatorStep>,
    ) -> Stream<'a> {
        self.built(name, UpdateState { by: owned(by), operator: operator.into(), partitions: None })
    }

    /// Prints the first rows of every batch.
    pub fn print(&self) {
        self.sink(Arc::new(ConsoleSink::table()));
    }

    /// Calls a function with the rows of every batch, when the batch is published.
    pub fn foreach_batch(
        &self,
        function: impl Fn(&SinkBatch, Vec<RecordBatch>) -> Result<(), Error> + Send + Sync + 'static,
    ) {
        self.sink(Arc::new(ForeachBatch::new(function)));
    }

    /// Gives the rows to a sink of any kind, a program's own included.
    pub fn sink(&self, definition: Arc<dyn SinkDefinition>) {
        let mut job = self.context.job.borrow_mut();
        let name = format!("sink-{}", job.sinks.len());
        job.sinks.push(Sink { name, from: vec![self.name.clone()], definition, spans: Spans::default() });
    }

    fn built(&self, name: &str, definition: impl StepDefinition + 'static) -> Stream<'a> {
        self.step(name, vec![self.name.clone()], StepKind::Built(Arc::new(definition)))
    }

    fn step(&self, name: &str, from: Vec<String>, kind: StepKind) -> Stream<'a> {
        let step = Step { name: name.to_owned(), from, kind, spans: Spans::default() };
        self.context.job.borrow_mut().steps.push(step);
        Stream { context: self.context, name: name.to_owned() }
    }
}

fn owned<'s>(names: impl IntoIterator<Item = &'s str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// A plugin file and how a step runs it.
#[derive(Debug, Clone)]
pub struct Plugin(OperatorStep);

impl Plugin {
    /// The plugin at a path, with the default limits and no configuration.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let written = path.display().to_string();
        Self(OperatorStep::new(OperatorRef::Plugin { written, path, sha256: None, fresh: false }))
    }

    /// With this configuration.
    #[must_use]
    pub fn config(mut self, config: serde_json::Value) -> Self {
        self.0.config = config;
        self
    }

    /// With these limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// With this in its reach, beyond its rows.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Self {
        self.0.grants = grants;
        self
    }

    /// With each partition in one call.
    #[must_use]
    pub fn whole_partition(mut self) -> Self {
        self.0.whole_partition = true;
        self
    }

    /// With this done when a call fails.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.0.on_error = on_error;
        self
    }
}

impl From<Plugin> for OperatorStep {
    fn from(plugin: Plugin) -> Self {
        plugin.0
    }
}

impl From<Arc<dyn Operator>> for OperatorStep {
    fn from(operator: Arc<dyn Operator>) -> Self {
        Self::new(OperatorRef::Registered(operator))
    }
}

impl OperatorStep {
    /// A step that runs `operator` with the default limits and no configuration.
    #[must_use]
    pub fn new(operator: OperatorRef) -> Self {
        Self {
            operator,
            config: serde_json::Value::Object(serde_json::Map::new()),
            limits: Limits::default(),
            grants: Grants::default(),
            whole_partition: false,
            on_error: OnError::Fail,
        }
    }
}
