//! What a join over event time costs: rows a second, the state it keeps, and a batch when there is much more of that.
//!
//! Orders and payments: every order is paid two seconds later, by its number. A batch has one second of both.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use clap::Parser;
use tidemill::event_time::{BatchTimes, ClockId, Watermark};
use tidemill::ids::{BatchId, PartitionId};
use tidemill::job::Settings;
use tidemill::metrics::StepMeter;
use tidemill::operator::{Budget, StopFlag};
use tidemill::plugin::{Runtime, RuntimeConfig};
use tidemill::step::definition::{Body, Gather, PlanContext, Side, StepDefinition};
use tidemill::step::join::{JoinDefinition, JoinOptions, JoinScope, JoinType};
use tidemill::task::TaskContext;
use tidemill_bench::cpu::{median, thread_time};
use tidemill_bench::figure::{show, show_at_most};

// The allocator of the binary under test.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures an interval join on one thread; prints figures as JSON lines.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// A twentieth of the rows: the figures mean little
    #[arg(long)]
    quick: bool,
}

/// Seconds until an order is paid.
const PAID_AFTER: i64 = 2;

/// Batches that are measured, when as many rows are forgotten as come.
const BATCHES: usize = 21;

/// What a batch may cost more with twenty times the state.
const MORE_STATE: f64 = 2.0;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let n_rows = if options.quick { 500 } else { 10_000 };
    let little = run(10, n_rows)?;
    let much = run(200, n_rows)?;
    show("interval join, left outer", 2.0 * n_rows as f64 / little.batch_seconds, "rows/s");
    show("state of an order", little.state_bytes as f64 / little.n_orders as f64, "bytes");
    let ratio = much.batch_seconds / little.batch_seconds;
    show_at_most("a batch with twenty times the state", ratio, "x", MORE_STATE);
    Ok(())
}

struct Measured {
    /// The median of the measured batches.
    batch_seconds: f64,
    state_bytes: u64,
    /// Orders in it.
    n_orders: u64,
}

/// One second of orders or payments; numbers are not in the order of time.
fn rows(second: i64, n_rows: i64, with_amount: bool) -> anyhow::Result<RecordBatch> {
    let ids: Vec<i64> = (0..n_rows).map(|row| second * n_rows + (row * 7919) % n_rows).collect();
    let times = (0..n_rows).map(|row| second * 1_000_000 + row * 1_000_000 / n_rows);
    let times: ArrayRef = Arc::new(times.map(Some).collect::<TimestampMicrosecondArray>());
    let texts: ArrayRef =
        Arc::new(ids.iter().map(|id| Some(format!("customer {}", id % 1000))).collect::<StringArray>());
    let mut columns: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(Int64Array::from(ids.clone())))];
    columns.push(if with_amount { ("cents", Arc::new(Int64Array::from(ids))) } else { ("customer", texts) });
    columns.push(("at", times));
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Joins orders with payments that come until so many seconds later.
fn run(interval_s: u64, n_rows: i64) -> anyhow::Result<Measured> {
    let time = ("at".to_owned(), "at".to_owned());
    let (before, after) = (Duration::ZERO, Duration::from_secs(interval_s));
    let definition = JoinDefinition(JoinOptions {
        join_type: JoinType::Left,
        scope: JoinScope::Interval { time, before, after },
        prefix: Some("paid_".into()),
        partitions: Some(1),
        ..JoinOptions::new("payments", ["id"])
    });
    let gather = plan(&definition)?;
    let state = gather.state.as_ref().context("an interval join has state")?;
    // What is kept has a slot more than the interval, and payments are two seconds behind.
    let n_warm = interval_s as i64 * 9 / 8 + PAID_AFTER + 3;
    let mut laps = Vec::new();
    let mut n_out = 0;
    for second in 0..n_warm + BATCHES as i64 {
        let sides = [rows(second, n_rows, false)?, rows(second - PAID_AFTER, n_rows, true)?];
        let now_us = Some((second - 1) * 1_000_000);
        let clock = Watermark { late_us: Some((second - 2) * 1_000_000), now_us };
        let task = TaskContext {
            batch_id: BatchId(second as u64),
            batch_time_us: second * 1_000_000,
            is_repeated: false,
            partition: PartitionId(0),
            stage_partition: PartitionId(0),
            attempt: 0,
            times: Arc::new(BatchTimes::new(vec![clock], 0, false)),
            cancelled: Arc::new(AtomicBool::new(false)),
            late: Default::default(),
            memory: Default::default(),
        };
        // Payments keep the times of their orders' seconds plus the wait, so that neither side is late.
        let payments = shifted(&sides[1])?;
        let start = thread_time();
        let mut step = gather.factory.start(&task)?;
        let mut emit = |rows: RecordBatch| {
            n_out += rows.num_rows();
            Ok(())
        };
        step.push_side(0, sides[0].clone(), &mut emit)?;
        step.push_side(1, payments, &mut emit)?;
        step.finish(&mut emit)?;
        drop(step);
        state.commit(PartitionId(0))?;
        if second >= n_warm {
            laps.push((thread_time() - start).as_secs_f64());
        }
    }
    ensure!(n_out as i64 >= BATCHES as i64 * n_rows, "every order is paid, and {n_out} rows came out");
    let (_, state_bytes) = state.size();
    Ok(Measured { batch_seconds: median(laps), state_bytes, n_orders: interval_s * n_rows as u64 })
}

/// Rows as they are when they are paid.
fn shifted(rows: &RecordBatch) -> anyhow::Result<RecordBatch> {
    let times = rows.column_by_name("at").context("rows have times")?;
    let times = tidemill::event_time::times_us(times)?;
    let later = times.iter().map(|time| time.map(|time| time + PAID_AFTER * 1_000_000));
    let mut columns = rows.columns().to_vec();
    columns[2] = Arc::new(later.collect::<TimestampMicrosecondArray>());
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

fn plan(definition: &JoinDefinition) -> anyhow::Result<Gather> {
    let side = |name: &str, rows: RecordBatch| Side {
        times: Default::default(),
        names: vec![name.to_owned()],
        schema: rows.schema(),
        clock: Some(ClockId(0)),
        table: None,
    };
    let sides = [side("orders", rows(0, 1, false)?), side("payments", rows(0, 1, true)?)];
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let context = PlanContext {
        budget: &Budget::default(),
        step: "joined",
        settings: &Settings::default(),
        sides: &sides,
        clock: Some(ClockId(0)),
        new_watermark: 0,
        meter: Arc::new(StepMeter::default()),
        runtime: &runtime,
        stop: &StopFlag::default(),
        states_before: &[],
    };
    match definition.plan(&context) {
        Ok(built) => match built.body {
            Body::Gather(gather) => Ok(gather),
            Body::Narrow(_) => Err(anyhow!("a join of streams has a shuffle")),
        },
        Err(problems) => Err(anyhow!("the join does not fit: {}", problems[0].message)),
    }
}
