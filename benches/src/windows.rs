//! What a batch costs under a sliding window, as the window gets more panes: a second of rows a batch, windows of a minute to an hour
//! that begin every second, through the whole engine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use clap::Parser;
use tidemill::context::Context;
use tidemill::error::Error;
use tidemill::event_time::EventTime;
use tidemill::job::{Settings, Trigger};
use tidemill::scheduler::{BatchCompleted, Listener};
use tidemill::source::{BatchLimit, OffsetRange, OpenSource, PlannedRead, RangeReader, Replayable, SourceDefinition};
use tidemill::step::windowed::{Over, Shape, Window, WindowOutput};
use tidemill_bench::figure::{show, show_at_most};

// The allocator of the binary under test.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures sliding windows; prints figures as JSON lines.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Fewer panes: the figures mean little
    #[arg(long)]
    quick: bool,
}

/// Rows of a batch, each of another key.
const ROWS: i64 = 1_000;
/// Batches that are measured after the window has filled.
const MEASURED: usize = 200;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let (few, more, most) = if options.quick { (5, 10, 20) } else { (60, 600, 3_600) };
    let measure = |name: &str, panes: u64, column: &str| -> anyhow::Result<f64> {
        let ms = median_ms(panes, column)?;
        show(&format!("{name}: a batch under a window of {panes} panes"), ms, "ms");
        Ok(ms)
    };
    let name = "count and sum of integers";
    let fewest = measure(name, few, "n")?;
    measure(name, more, "n")?;
    let ratio = measure(name, most, "n")? / fewest;
    // Twice leaves room for caches; a cost that follows the panes would be sixty times.
    show_at_most(&format!("{name}: {most} panes against {few}"), ratio, "x", 2.0);
    // What cannot be taken apart is merged from blocks of panes.
    let name = "largest (not invertible)";
    measure(name, few, "max")?;
    measure(name, more, "max")?;
    Ok(())
}

/// The median time of a batch once the window is full, in milliseconds.
fn median_ms(panes: u64, column: &str) -> anyhow::Result<f64> {
    let settings = Settings {
        name: "windows".into(),
        batch_interval: Duration::ZERO,
        trigger: Trigger::AvailableNow,
        partitions: 2,
        ..Settings::default()
    };
    let times = Arc::new(Times::default());
    let mut context = Context::new(settings).map_err(explained)?;
    context.add_listener(times.clone());
    let ticks = Arc::new(Ticks { n_batches: panes + MEASURED as u64 + 2 });
    let event_time = EventTime { column: "at".into(), delay: Duration::ZERO, idle_timeout: None };
    let select: &[(&str, &str)] =
        if column == "n" { &[("n", "count(*)"), ("sum", "sum(value)")] } else { &[("max", "max(value)")] };
    let window = Window {
        shape: Shape::Time { size: Duration::from_secs(panes), slide: Duration::from_secs(1), offset: Duration::ZERO },
        time: Some("at".into()),
        output: WindowOutput::Append,
        lateness: Duration::ZERO,
        timeout: None,
    };
    context
        .source_with_event_time("ticks", ticks, event_time)
        .aggregate_over("windows", ["key"], select.iter().copied(), Over::Window(window))
        .foreach_batch(|_, rows| {
            std::hint::black_box(rows);
            Ok(())
        });
    let running = context.start().map_err(explained)?;
    running.await_termination().map_err(explained)?;
    let mut times = times.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // The last batch completes every window that is open, which is another measure.
    times.pop();
    let measured = &mut times[panes as usize + 1..];
    measured.sort();
    Ok(measured[measured.len() / 2].as_secs_f64() * 1e3)
}

/// The processing time of every batch.
#[derive(Default)]
struct Times(Mutex<Vec<Duration>>);

impl Listener for Times {
    fn on_batch_completed(&self, batch: &BatchCompleted) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(batch.processing_time);
    }
}

/// A second of event time a batch: so many rows, each of another key.
#[derive(Debug, Clone)]
struct Ticks {
    n_batches: u64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]))
}

impl SourceDefinition for Ticks {
    fn type_name(&self) -> &str {
        "ticks"
    }

    fn schema(&self) -> Result<SchemaRef, Error> {
        Ok(schema())
    }

    fn describe(&self) -> String {
        format!("{} seconds", self.n_batches)
    }

    fn ends(&self) -> bool {
        true
    }

    fn open(&self) -> Result<OpenSource, Error> {
        Ok(OpenSource::Replayable(Box::new(Ticking { ticks: self.clone(), next: 0 })))
    }
}

struct Ticking {
    ticks: Ticks,
    next: u64,
}

impl Replayable for Ticking {
    fn plan_batch(&mut self, _: BatchLimit) -> Result<PlannedRead, Error> {
        let drained = self.next >= self.ticks.n_batches;
        let mut ranges = Vec::new();
        if !drained {
            ranges.push(OffsetRange { object: "ticks".into(), start: self.next, end: self.next + 1, identity: None });
            self.next += 1;
        }
        Ok(PlannedRead { ranges, drained: self.next >= self.ticks.n_batches })
    }

    fn reader(&self) -> Arc<dyn RangeReader> {
        Arc::new(self.ticks.clone())
    }
}

impl RangeReader for Ticks {
    fn read_range(
        &self,
        range: &OffsetRange,
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let second = range.start as i64;
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS).map(|key| (key * 7 + second) % 1_000)));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![second * 1_000_000; ROWS as usize]));
        match RecordBatch::try_new(schema(), vec![keys, values, times]) {
            Ok(rows) => emit(rows),
            Err(error) => unreachable!("three columns of one length: {error}"),
        }
    }
}

/// The error with its causes and hint.
fn explained(error: Error) -> anyhow::Error {
    anyhow!("{}", error.report())
}
