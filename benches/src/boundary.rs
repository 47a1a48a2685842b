//! What crossing into a plugin costs: the same functions as a plugin and native, on the same Arrow arrays.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::compute::take_record_batch;
use clap::Parser;
use serde_json::{Value, json};
use tidemill::error::{Error, Explain};
use tidemill::ids::{BatchId, PartitionId};
use tidemill::operator::native::NativeOperator;
use tidemill::operator::{Budget, Call, Limits, Operator, StepInfo, Transform, TransformOutput};
use tidemill::plugin::{LoadOptions, Runtime, RuntimeConfig};
use tidemill::source::generator::text::{ZipfOptions, ZipfText};
use tidemill::step::StepFactory;
use tidemill::step::transform::{CallBounds, TransformStep};
use tidemill::task::TaskContext;
use tidemill_bench::cpu::{Turns, in_turns};
use tidemill_bench::figure::{show, show_at_most};

// The allocator of the binary under test.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the boundary; prints figures as JSON lines.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Fewer turns: the figures mean little
    #[arg(long)]
    quick: bool,
    /// Where the plugins are
    #[arg(long, default_value = "target/plugins")]
    plugins: String,
}

/// Rows of one call: what the host gives at most by default.
const ROWS: usize = 65_536;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let n_turns = if options.quick { 5 } else { 101 };
    let runtime = Runtime::new(RuntimeConfig::default()).map_err(explained)?;
    let load = |name: &str| {
        let path = Path::new(&options.plugins).join(name);
        runtime.load(name, &path, &LoadOptions::default()).map_err(explained)
    };

    let lines = lines()?;
    let splitter = load("split_words.wasm")?;
    let native = NativeOperator::from(split_words::split_words::operator());
    let mut plugin = Opened::new(&splitter, json!({}), &lines)?;
    let mut native = Opened::new(&native, json!({}), &lines)?;
    ensure!(plugin.process()?.rows == native.process()?.rows, "the plugin and the native function split differently");
    ensure!(native.process()?.rows.column(0).as_string() == &split(&lines)?, "the hand-written function differs");
    let mut by_hand = || split(&lines).map(drop);
    let turns = in_turns(n_turns, 1, &mut [&mut || plugin.run(), &mut || native.run(), &mut by_hand])?;
    report("word split", &turns, ROWS);
    plugin.report_crossing("word split")?;

    let table = table()?;
    let filter = load("filter_amount.wasm")?;
    let config = json!({ "min": 0.5 });
    let native = NativeOperator::from(filter_amount::filter_amount::operator());
    let mut plugin = Opened::new(&filter, config.clone(), &table)?;
    let mut native = Opened::new(&native, config, &table)?;
    ensure!(
        plugin.process()?.origin == native.process()?.origin,
        "the plugin and the native function filter differently"
    );
    let mut by_hand = || filter_by_hand(&table).map(drop);
    let turns = in_turns(n_turns, 4, &mut [&mut || plugin.run(), &mut || native.run(), &mut by_hand])?;
    // Native, the call is one pass over half a megabyte, so that copying it once costs as much: no goal. That is the step's.
    let per_row = |function| turns.of(function) / ROWS as f64;
    show("filter call, 1 column of 10: plugin", per_row(0), "ns/row");
    show("filter call, 1 column of 10: native", per_row(1), "ns/row");
    show("filter call, 1 column of 10: hand-written", per_row(2), "ns/row");
    plugin.report_crossing("filter call, 1 column of 10")?;

    // The same as a step of a job does it: what comes out is the ten columns of the rows that stay.
    let mut plugin = Step::open(Arc::new(filter), json!({ "min": 0.5 }), &table)?;
    let native = NativeOperator::from(filter_amount::filter_amount::operator());
    let mut native = Step::open(Arc::new(native), json!({ "min": 0.5 }), &table)?;
    ensure!(plugin.process()? == filter_all(&table)?, "the step filters differently than the hand-written function");
    let mut by_hand = || filter_all(&table).map(drop);
    let turns = in_turns(n_turns, 4, &mut [&mut || plugin.run(), &mut || native.run(), &mut by_hand])?;
    report("filter step, 10 columns out", &turns, ROWS);

    let nothing = lines.slice(0, 0);
    let mut empty = Opened::new(&splitter, json!({}), &nothing)?;
    let turns = in_turns(n_turns, 1_000, &mut [&mut || empty.run()])?;
    show_at_most("call without rows", turns.of(0), "ns", 1_000.0);
    let mut open = || Opened::new(&splitter, json!({}), &nothing).map(drop);
    let turns = in_turns(n_turns, 10, &mut [&mut open])?;
    show("instantiate and open", turns.of(0) / 1e3, "us");
    Ok(())
}

/// Shows what turns of (plugin, native, by hand) have cost.
fn report(name: &str, turns: &Turns, n_rows: usize) {
    let per_row = |function| turns.of(function) / n_rows as f64;
    show_at_most(&format!("{name}: plugin against native"), turns.ratio(0, 1), "x", 1.5);
    show(&format!("{name}: plugin against hand-written"), turns.ratio(0, 2), "x");
    show(&format!("{name}: plugin"), per_row(0), "ns/row");
    show(&format!("{name}: native"), per_row(1), "ns/row");
    show(&format!("{name}: hand-written"), per_row(2), "ns/row");
}

/// An operator opened as a transform, with what it reads of some rows.
struct Opened {
    transform: Box<dyn Transform>,
    input: RecordBatch,
}

impl Opened {
    fn new(operator: &dyn Operator, config: Value, rows: &RecordBatch) -> anyhow::Result<Self> {
        let step = StepInfo {
            budget: Budget::default(),
            job: "bench".into(),
            step: "step".into(),
            partitions: 1,
            config,
            limits: Limits::default(),
            stop: Default::default(),
        };
        let transform = operator.open_transform(&step, &rows.schema()).map_err(explained)?;
        let input = rows.project(&transform.plan().reads).context("the plan reads columns that are there")?;
        Ok(Self { transform, input })
    }

    fn process(&mut self) -> anyhow::Result<TransformOutput> {
        let call = Call {
            batch_id: BatchId(0),
            batch_time_us: 0,
            partition: PartitionId(0),
            attempt: 0,
            first_row: 0,
            watermark_us: None,
        };
        self.transform.process(&call, &self.input).map_err(explained)
    }

    fn run(&mut self) -> anyhow::Result<()> {
        std::hint::black_box(self.process()?);
        Ok(())
    }

    /// Shows what one call moves across the boundary.
    fn report_crossing(&mut self, name: &str) -> anyhow::Result<()> {
        let before = self.transform.bytes_crossed();
        self.process()?;
        let after = self.transform.bytes_crossed();
        let per_row = |before: u64, after: u64| (after - before) as f64 / self.input.num_rows() as f64;
        show(&format!("{name}: bytes in"), per_row(before.in_bytes, after.in_bytes), "bytes/row");
        show(&format!("{name}: bytes out"), per_row(before.out_bytes, after.out_bytes), "bytes/row");
        Ok(())
    }
}

/// A transform step as a job runs it.
struct Step {
    step: TransformStep,
    task: TaskContext,
    input: RecordBatch,
}

impl Step {
    fn open(operator: Arc<dyn Operator>, config: Value, input: &RecordBatch) -> anyhow::Result<Self> {
        let info = StepInfo {
            budget: Budget::default(),
            job: "bench".into(),
            step: "step".into(),
            partitions: 1,
            config,
            limits: Limits::default(),
            stop: Default::default(),
        };
        let bounds = CallBounds { rows: ROWS as u32, bytes: 64 << 20, whole_partition: false, clock: None };
        let step = TransformStep::open(operator, info, input.schema(), bounds, Arc::default()).map_err(explained)?;
        let task = TaskContext {
            batch_id: BatchId(0),
            batch_time_us: 0,
            is_repeated: false,
            partition: PartitionId(0),
            stage_partition: PartitionId(0),
            attempt: 0,
            times: Arc::default(),
            cancelled: Arc::default(),
            late: Default::default(),
            memory: Default::default(),
        };
        Ok(Self { step, task, input: input.clone() })
    }

    fn process(&mut self) -> anyhow::Result<RecordBatch> {
        let mut output = None;
        let mut emit = |rows| {
            output = Some(rows);
            Ok(())
        };
        let run = self.step.start(&self.task).and_then(|mut running| {
            running.push(self.input.clone(), &mut emit)?;
            running.finish(&mut emit)
        });
        run.map_err(|error| anyhow!("{}", error.report()))?;
        output.context("half of the rows stay")
    }

    fn run(&mut self) -> anyhow::Result<()> {
        std::hint::black_box(self.process()?);
        Ok(())
    }
}

/// Lines of Zipf text in one column, `value`.
fn lines() -> anyhow::Result<RecordBatch> {
    let mut text = ZipfText::new(ZipfOptions::default())?;
    let mut line = Vec::new();
    let lines = StringArray::from_iter_values((0..ROWS).map(|_| {
        line.clear();
        text.write_line(&mut line);
        String::from_utf8_lossy(&line).into_owned()
    }));
    Ok(RecordBatch::try_from_iter_with_nullable([("value", Arc::new(lines) as ArrayRef, false)])?)
}

/// The word split as one writes it by hand on Arrow's arrays, the output unchecked.
fn split(lines: &RecordBatch) -> anyhow::Result<StringArray> {
    let lines = lines.column(0).as_string::<i32>();
    let mut text = Vec::with_capacity(lines.value_data().len());
    let mut offsets: Vec<i32> = Vec::with_capacity(lines.value_data().len() / 4);
    offsets.push(0);
    for line in lines.iter().flatten() {
        for word in line.split_ascii_whitespace() {
            text.extend_from_slice(word.as_bytes());
            offsets.push(i32::try_from(text.len()).map_err(|_| anyhow!("more than 2 GiB of words"))?);
        }
    }
    let offsets = OffsetBuffer::new(offsets.into());
    // SAFETY: the offsets grow and end with the text; each stands between two characters, since words are whole texts.
    Ok(unsafe { StringArray::new_unchecked(offsets, Buffer::from_vec(text), None) })
}

/// Ten columns of numbers between 0 and 1; the fourth is `amount`.
fn table() -> anyhow::Result<RecordBatch> {
    let columns = (0..10_u64).map(|column| {
        let name = if column == 3 { "amount".into() } else { format!("c{column}") };
        // The fractional parts of multiples of the golden ratio: evenly spread, in no order that a processor guesses.
        let values =
            (0..ROWS as u64).map(|row| ((row + 1) as f64 * 0.618_033_988_749_895 + column as f64 * 0.1).fract());
        (name, Arc::new(Float64Array::from_iter_values(values)) as ArrayRef, false)
    });
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// The filter by hand: the numbers of the rows that stay.
fn filter_by_hand(rows: &RecordBatch) -> anyhow::Result<Vec<u32>> {
    let amounts = rows.column_by_name("amount").context("the table has an amount")?;
    let amounts = amounts.as_primitive::<arrow::datatypes::Float64Type>();
    let mut kept = Vec::with_capacity(rows.num_rows());
    for (row, amount) in (0_u32..).zip(amounts.values()) {
        if *amount >= 0.5 {
            kept.push(row);
        }
    }
    Ok(kept)
}

/// The filter by hand: all columns of the rows that stay.
fn filter_all(rows: &RecordBatch) -> anyhow::Result<RecordBatch> {
    let kept = UInt32Array::from(filter_by_hand(rows)?);
    Ok(take_record_batch(rows, &kept)?)
}

/// The error with its causes and hint.
fn explained(error: impl Explain) -> anyhow::Error {
    anyhow!("{}", Error::from(error).report())
}
