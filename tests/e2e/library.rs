//! The library: jobs built by a program, with sources, operators, sinks and listeners of its own.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemill::context::{Context, Plugin};
use tidemill::error::{Error, Explain, Fault, Retry};
use tidemill::event_time::EventTime;
use tidemill::job::{Job, OnError, Settings};
use tidemill::operator::native::NativeOperator;
use tidemill::operator::{Limits, Operator};
use tidemill::plugin::{Runtime, RuntimeConfig};
use tidemill::scheduler::{
    BatchCompleted, BatchFailed, BatchRetried, BatchStarted, BatchSubmitted, Listener, RunEnded, StopMode,
};
use tidemill::source::{
    BadRows, FileSource, Intake, OpenSource, Receiver, SourceDefinition, SourceEvent, dead_letter_schema,
};
use tidemill::step::windowed::{Running, Window};
use tidemill_tests::{plugin, project};

/// A receiver of a program's own: some lines, then the end, or waiting for a stop.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    lines: Vec<String>,
    waits: bool,
}

impl Lines {
    pub(crate) fn source(lines: &[&str], waits: bool) -> Arc<dyn SourceDefinition> {
        Arc::new(Self { lines: lines.iter().map(|line| (*line).to_owned()).collect(), waits })
    }
}

impl SourceDefinition for Lines {
    fn type_name(&self) -> &str {
        "lines"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false)])))
    }

    fn describe(&self) -> String {
        format!("{} lines", self.lines.len())
    }

    fn ends(&self) -> bool {
        !self.waits
    }

    fn open(&self) -> Result<OpenSource, Error> {
        Ok(OpenSource::Receiver(Box::new(self.clone())))
    }
}

impl Receiver for Lines {
    fn run(&mut self, intake: &Intake) -> Result<(), Error> {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(&self.lines));
        let rows = RecordBatch::try_new(intake.schema().clone(), vec![column]).expect("the declared schema");
        intake.push(rows)?;
        while self.waits && !intake.is_stopping() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Keeps every event as a word.
#[derive(Default)]
struct Events(Mutex<Vec<String>>);

impl Events {
    fn note(&self, event: String) {
        self.0.lock().expect("no test panicked").push(event);
    }

    fn seen(&self) -> Vec<String> {
        self.0.lock().expect("no test panicked").clone()
    }
}

impl Listener for Events {
    fn on_batch_submitted(&self, event: &BatchSubmitted) {
        self.note(format!("submitted {}", event.batch_id));
    }

    fn on_batch_started(&self, event: &BatchStarted) {
        self.note(format!("started {}", event.batch_id));
    }

    fn on_batch_completed(&self, event: &BatchCompleted) {
        self.note(format!("completed {} rows {} -> {}", event.batch_id, event.rows_in, event.rows_out));
    }

    fn on_batch_retried(&self, event: &BatchRetried) {
        self.note(format!("retried {} attempt {}", event.batch_id, event.attempt));
    }

    fn on_batch_failed(&self, event: &BatchFailed) {
        self.note(format!("failed {} skipped {}", event.batch_id, event.skipped));
    }

    fn on_run_ended(&self, event: &RunEnded) {
        self.note(format!("ended {}", event.error.is_some()));
    }
}

fn settings(name: &str) -> Settings {
    Settings { name: name.into(), batch_interval: Duration::ZERO, ..Settings::default() }
}

/// A runtime whose compiled code is kept between test runs, beside the tests.
pub(crate) fn runtime() -> Runtime {
    let config = RuntimeConfig { cache_dir: Some(project().join("target/test-cache/library")), ..Default::default() };
    Runtime::new(config).expect("a runtime")
}

fn context(settings: Settings, runtime: &Runtime) -> Context {
    Context::from_job(Job { settings, ..Job::default() }, runtime.clone())
}

type Rows = Arc<Mutex<Vec<(String, i64)>>>;

/// Word and count of every published row.
fn keep(
    rows: &Rows,
) -> impl Fn(&tidemill::sink::SinkBatch, Vec<RecordBatch>) -> Result<(), Error> + Send + Sync + use<> {
    let rows = rows.clone();
    move |_, batches| {
        for batch in batches {
            let words = batch.column(0).as_any().downcast_ref::<StringArray>().expect("words");
            let counts = batch.column(1).as_any().downcast_ref::<Int64Array>().expect("counts");
            let mut rows = rows.lock().expect("no test panicked");
            rows.extend((0..batch.num_rows()).map(|row| (words.value(row).to_owned(), counts.value(row))));
        }
        Ok(())
    }
}

fn sorted(rows: &Rows) -> Vec<(String, i64)> {
    let mut rows = rows.lock().expect("no test panicked").clone();
    rows.sort();
    rows
}

fn word_count(context: &Context, path: &Path, waits: bool) -> Rows {
    let rows = Rows::default();
    let lines = context.source("lines", Lines::source(&["to be", "or not to be"], waits));
    let words = lines.transform("words", Plugin::at(path));
    words.aggregate("counts", ["word"], [("count", "count(*)")]).foreach_batch(keep(&rows));
    rows
}

fn expected() -> Vec<(String, i64)> {
    [("be", 2), ("not", 1), ("or", 1), ("to", 2)].map(|(word, n)| (word.to_owned(), n)).into()
}

#[test]
fn a_program_runs_the_job_that_a_file_does_and_hears_of_every_batch() {
    let mut context = context(settings("words"), &runtime());
    let events = Arc::new(Events::default());
    context.add_listener(events.clone());
    let rows = word_count(&context, &plugin("split_words"), false);
    let running = context.start().expect("a job that fits together");
    let summary = running.await_termination().expect("a job that ends well");
    assert_eq!(sorted(&rows), expected());
    assert_eq!((summary.batches, summary.rows_in, summary.rows_out), (1, 2, 4));
    let expected = ["submitted 0", "started 0", "completed 0 rows 2 -> 4", "ended false"];
    assert_eq!(events.seen(), expected);
}

#[test]
fn a_function_of_the_program_runs_in_place_of_the_plugin() {
    let context = context(settings("native"), &runtime());
    let rows = Rows::default();
    let native: Arc<dyn Operator> = Arc::new(NativeOperator::from(split_words::split_words::operator()));
    let lines = context.source("lines", Lines::source(&["to be", "or not to be"], false));
    let words = lines.transform("words", native);
    words.aggregate("counts", ["word"], [("count", "count(*)")]).foreach_batch(keep(&rows));
    let running = context.start().expect("a job that fits together");
    running.await_termination().expect("a job that ends well");
    assert_eq!(sorted(&rows), expected());
}

#[test]
fn a_program_says_in_sql_what_is_done_with_rows() {
    let context = context(settings("sql"), &runtime());
    let rows = Rows::default();
    let lines = context.source("lines", Lines::source(&["to be", "or not to be"], false));
    let words = lines.transform("all-words", Plugin::at(plugin("split_words")));
    let short = words.filter("short", "length(word) < 3").with("loud", [("word", "upper(word)"), ("n", "1")]);
    let query = "SELECT p.word, count(*) AS n FROM plain p JOIN all_words w ON p.word = upper(w.word) GROUP BY p.word";
    short.select("plain", ["word"]).sql("counts", query, &[&words]).foreach_batch(keep(&rows));
    let running = context.start().expect("a job that fits together");
    running.await_termination().expect("a job that ends well");
    assert_eq!(sorted(&rows), [("BE", 4), ("OR", 1), ("TO", 4)].map(|(word, n)| (word.to_owned(), n)));
}

#[test]
fn a_job_is_stopped_gracefully_from_another_thread() {
    let context = context(settings("words"), &runtime());
    let rows = word_count(&context, &plugin("split_words"), true);
    let running = context.start().expect("a job that fits together");
    assert!(running.await_termination_for(Duration::from_millis(10)).expect("no failure").is_none());
    let stopping = running.clone();
    std::thread::spawn(move || stopping.stop(StopMode::Graceful));
    running.await_termination().expect("a job that ends well");
    assert_eq!(sorted(&rows), expected());
}

#[test]
fn a_hostile_job_does_no_harm_to_its_neighbour_in_the_same_process() {
    let runtime = runtime();
    let good = context(settings("good"), &runtime);
    let rows = word_count(&good, &plugin("split_words"), false);

    let bad = context(settings("bad"), &runtime);
    let hostile = Plugin::at(plugin("hostile")).config(serde_json::json!({ "do": "panic" }));
    bad.source("lines", Lines::source(&["a", "b"], false)).transform("bad", hostile).foreach_batch(|_, _| Ok(()));

    let bad = bad.start().expect("a job that fits together");
    let good = good.start().expect("a job that fits together");
    let failure = bad.await_termination().expect_err("a plugin that panics fails its job");
    assert!(failure.to_string().contains("`bad`"), "{failure}");
    good.await_termination().expect("a job that ends well");
    assert_eq!(sorted(&rows), expected());
}

/// Keeps what happens to sources.
#[derive(Default)]
struct SourceEvents(Mutex<Vec<String>>);

impl Listener for SourceEvents {
    fn on_source_event(&self, source: &str, event: &SourceEvent) {
        self.0.lock().expect("no test panicked").push(format!("{source} {event:?}"));
    }
}

#[test]
fn a_program_hears_of_sources_and_sees_what_its_plugins_count() {
    let mut context = context(settings("counts"), &runtime());
    let events = Arc::new(SourceEvents::default());
    context.add_listener(events.clone());
    let counts = Plugin::at(plugin("hostile")).config(serde_json::json!({ "do": "count-flood" }));
    let limits = Limits { time_per_call: Duration::from_secs(60), ..Limits::default() };
    let lines = context.source("lines", Lines::source(&["a"], false));
    lines.transform("counting", counts.limits(limits)).foreach_batch(|_, _| Ok(()));
    let running = context.start().expect("a job that fits together");
    let summary = running.await_termination().expect("a job that ends well");
    // A million names were asked for; as many are kept as a step may have.
    assert_eq!(summary.steps[0].guest.len(), 256);
    assert_eq!(summary.steps[0].guest["counter 0"], 1);
    assert_eq!(*events.0.lock().expect("no test panicked"), ["lines Ended"]);
}

#[test]
fn a_batch_that_fails_is_skipped_where_the_step_says_so() {
    let mut context = context(settings("skips"), &runtime());
    let events = Arc::new(Events::default());
    context.add_listener(events.clone());
    let hostile = Plugin::at(plugin("hostile")).config(serde_json::json!({ "do": "panic" }));
    let hostile = hostile.on_error(OnError::SkipBatch);
    context
        .source("lines", Lines::source(&["a"], false))
        .transform("bad", hostile)
        .foreach_batch(|_, _| panic!("nothing of a skipped batch is published"));
    let running = context.start().expect("a job that fits together");
    let summary = running.await_termination().expect("the job goes on");
    assert_eq!((summary.batches, summary.batches_skipped), (0, 1));
    assert_eq!(events.seen(), ["submitted 0", "started 0", "failed 0 skipped true", "ended false"]);
}

/// What a sink says that cannot be reached for a while, or ever.
#[derive(Debug)]
struct NobodyAnswers(Retry);

impl std::fmt::Display for NobodyAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody answers")
    }
}

impl std::error::Error for NobodyAnswers {}

impl Explain for NobodyAnswers {
    fn fault(&self) -> Fault {
        Fault::External
    }

    fn retry(&self) -> Retry {
        self.0
    }
}

/// Runs the word count into a sink that fails so often; gives what was heard, and the counts.
fn with_failures(n_failures: u32, retry: Retry, attempts: u32) -> (Vec<String>, Vec<(String, i64)>, bool) {
    let mut context = context(Settings { attempts, ..settings("retries") }, &runtime());
    let events = Arc::new(Events::default());
    context.add_listener(events.clone());
    let rows = Rows::default();
    let failures = AtomicU32::new(n_failures);
    let kept = keep(&rows);
    let lines = context.source("lines", Lines::source(&["to be", "or not to be"], false));
    let words = lines.transform("words", Plugin::at(plugin("split_words")));
    // What is kept from batch to batch must not count an attempt twice.
    let running = Running::default();
    let counts = words.aggregate_over("counts", ["word"], [("count", "count(*)")], running);
    counts.foreach_batch(move |batch, batches| {
        let fails = |left: u32| left.checked_sub(1);
        match failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails) {
            Ok(_) => Err(NobodyAnswers(retry).into()),
            Err(_) => kept(batch, batches),
        }
    });
    let ended = context.start().expect("a job").await_termination();
    (events.seen(), sorted(&rows), ended.is_ok())
}

#[test]
fn a_batch_that_fails_in_a_way_that_may_pass_is_run_again() {
    let (heard, rows, is_ok) = with_failures(2, Retry::WithBackoff, 3);
    assert!(is_ok && rows == expected(), "{rows:?}");
    let attempts: Vec<&String> = heard.iter().filter(|event| event.starts_with("retried")).collect();
    assert_eq!(attempts, ["retried 0 attempt 0", "retried 0 attempt 1"]);
    assert!(heard.contains(&"completed 0 rows 2 -> 4".to_owned()), "{heard:?}");
    // As often as it is said, or for as long as it takes, or never.
    let (heard, rows, is_ok) = with_failures(2, Retry::WithBackoff, 2);
    assert!(!is_ok && rows.is_empty() && heard.contains(&"failed 0 skipped false".to_owned()), "{heard:?}");
    let (_, rows, is_ok) = with_failures(2, Retry::UntilItPasses, 1);
    assert!(is_ok && rows == expected(), "{rows:?}");
    let (heard, _, is_ok) = with_failures(1, Retry::Never, 5);
    assert!(!is_ok && !heard.iter().any(|event| event.starts_with("retried")), "{heard:?}");
}

#[test]
fn everything_that_does_not_fit_together_is_told_at_once() {
    let context = context(settings("wrong"), &runtime());
    let lines = context.source("lines", Lines::source(&[], false));
    lines.transform("words", Plugin::at("no/such/file.wasm")).print();
    lines.aggregate("counts", ["word"], [("count", "count(*)")]).print();
    let Err(errors) = context.check() else { panic!("a job with two mistakes was accepted") };
    assert_eq!(errors.0.len(), 2, "{errors}");
    assert!(errors.to_string().contains("no/such/file.wasm"), "{errors}");
    assert!(errors.to_string().contains("`word`"), "{errors}");
}

#[test]
fn a_program_gets_the_rejected_rows_of_a_source() {
    let place = tidemill_tests::folder();
    std::fs::write(place.path().join("in.jsonl"), "{\"n\": 1}\nbad\n").expect("a new file");
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let file = FileSource {
        bad_rows: BadRows::DeadLetter("bad-rows".into()),
        ..FileSource::json(place.path().join("in.jsonl"), schema.clone())
    };
    let settings = Settings { trigger: tidemill::job::Trigger::AvailableNow, ..Settings::default() };
    let context = Context::new(settings).expect("a context");
    let rows = context.source("rows", Arc::new(file));
    type Seen = Arc<Mutex<Vec<(&'static str, SchemaRef, usize)>>>;
    let seen = Seen::default();
    let keep = |kind: &'static str| {
        let seen = seen.clone();
        move |_: &tidemill::sink::SinkBatch, batches: Vec<RecordBatch>| {
            let of = |rows: &RecordBatch| (kind, rows.schema(), rows.num_rows());
            seen.lock().expect("not poisoned").extend(batches.iter().map(of));
            Ok(())
        }
    };
    rows.foreach_batch(keep("good"));
    rows.rejected().expect("they are set aside").foreach_batch(keep("bad"));
    let summary = context.start().expect("a right job").await_termination().expect("it ends");
    assert_eq!(*seen.lock().expect("not poisoned"), [("good", schema, 1), ("bad", dead_letter_schema(), 1)]);
    assert_eq!(summary.sources[0].counts.rejected_rows, 1);
}

#[test]
fn a_program_aggregates_over_windows_and_over_all_batches_so_far() {
    let place = tidemill_tests::folder();
    let rows = [("a", "00:01"), ("a", "01:30"), ("a", "00:12"), ("b", "00:03")];
    for (index, (user, at)) in rows.iter().enumerate() {
        let row = format!("{{\"user\": \"{user}\", \"at\": \"2024-03-01T12:{at}Z\", \"n\": {}}}\n", 1 + index);
        // Each file is a batch, in the order of its age or else its name.
        std::fs::write(place.path().join(format!("{index}.jsonl")), row).expect("a new file");
    }
    let at = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let fields = [("user", DataType::Utf8), ("at", at), ("n", DataType::Int64)];
    let schema = Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
    let file = FileSource { files_per_batch_max: Some(1), ..FileSource::json(place.path(), Arc::new(schema)) };
    let settings = Settings { trigger: tidemill::job::Trigger::AvailableNow, ..Settings::default() };
    let context = context(settings, &runtime());

    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let keep = |stream: &tidemill::context::Stream<'_>| {
        let (seen, name) = (seen.clone(), stream.name().to_owned());
        stream.foreach_batch(move |_, batches| {
            for batch in batches {
                let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
                writer.write(&batch).expect("rows that are written");
                let text = String::from_utf8(writer.into_inner()).expect("text").replace("2024-03-01T", "");
                seen.lock().expect("not poisoned").extend(text.lines().map(|line| format!("{name} {line}")));
            }
            Ok(())
        });
    };
    let event_time = EventTime { column: "at".into(), delay: Duration::from_secs(5), idle_timeout: None };
    let rows = context.source("rows", Arc::new(file)).watermark("rows-in-time", event_time);
    let window = Window::tumbling(Duration::from_secs(10)).on("at");
    let select = [("n", "count(*)")];
    keep(&rows.aggregate_over("tumbling", ["user"], select, window.clone()));
    keep(&rows.late_rows("late", &window));
    let mean = Plugin::at(plugin("mean")).config(serde_json::json!({ "column": "n" }));
    keep(&rows.aggregate_with_over("means", [], mean, Running::default()));
    keep(&rows.reduce_over(
        "sums",
        ["user"],
        Plugin::at(plugin("sum")),
        Window::session(Duration::from_secs(60)).on("at"),
    ));
    let result = context.start().expect("a job that fits").await_termination();
    result.expect("a job that ends well");

    let mut seen = seen.lock().expect("not poisoned").clone();
    seen.sort();
    let expected = [
        r#"late {"user":"b","at":"12:00:03Z","n":4}"#,
        r#"means {"mean":1.0}"#,
        r#"means {"mean":1.5}"#,
        r#"means {"mean":2.0}"#,
        r#"means {"mean":2.5}"#,
        r#"sums {"window_start":"12:00:01Z","window_end":"12:01:12Z","user":"a","n":4}"#,
        r#"sums {"window_start":"12:01:30Z","window_end":"12:02:30Z","user":"a","n":2}"#,
        r#"tumbling {"window_start":"12:00:00Z","window_end":"12:00:10Z","user":"a","n":1}"#,
        r#"tumbling {"window_start":"12:00:10Z","window_end":"12:00:20Z","user":"a","n":1}"#,
        r#"tumbling {"window_start":"12:01:30Z","window_end":"12:01:40Z","user":"a","n":1}"#,
    ];
    assert_eq!(seen, expected);
}
