//! What little memory costs: the same batch with all of its rows in memory, and with most of them on disk.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{anyhow, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use clap::Parser;
use tidemill::context::Context;
use tidemill::error::Error;
use tidemill::ids::PartitionId;
use tidemill::job::file::parse_job;
use tidemill::plugin::{Runtime, RuntimeConfig};
use tidemill::shuffle::{Partitioning, Shuffle};
use tidemill::sink::ForeachBatch;
use tidemill::spill::{BatchMemory, Spill, SpillSettings};
use tidemill_bench::cpu::median;
use tidemill_bench::figure::show;

// The allocator of the binary under test.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures batches in memory and on disk in turns; prints figures as JSON lines.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Fewer rows and turns: the figures mean little
    #[arg(long)]
    quick: bool,
}

/// Rows of a push into a shuffle.
const ROWS: usize = 65_536;

/// What is timed: with all in memory, or with little.
type Measured<'a> = &'a dyn Fn(bool) -> anyhow::Result<()>;

fn main() -> anyhow::Result<()> {
    let quick = Options::parse().quick;
    let n_turns = if quick { 1 } else { 7 };
    let pushes = pushes(if quick { 2 } else { 32 })?;
    let n_rows = (pushes.len() * ROWS) as f64;
    let n_events: u64 = if quick { 100_000 } else { 4_000_000 };
    // 46 of 50 events are bids.
    let n_bids = n_events as f64 * 0.92;
    let measured: [(&str, f64, Measured<'_>); 4] = [
        ("shuffle by a utf8 key", n_rows, &|spills| shuffle(&pushes, spills)),
        ("sort of bids", n_bids, &|spills| job(n_events, "sort = ['price desc', 'auction']", spills)),
        ("distinct bids", n_bids, &|spills| job(n_events, "distinct = true", spills)),
        ("bids of each second and bidder", n_bids, &|spills| {
            let select = "{ n = 'count(*)', most = 'max(price)' }";
            job(n_events, &format!("aggregate = {{ by = ['date_time', 'bidder'], select = {select} }}"), spills)
        }),
    ];
    for (name, n_rows, run) in measured {
        let mut times = [Vec::new(), Vec::new()];
        // The first turn warms up.
        for turn in 0..=n_turns {
            for (spills, times) in [false, true].into_iter().zip(&mut times) {
                let started = Instant::now();
                run(spills)?;
                if turn > 0 {
                    times.push(started.elapsed().as_secs_f64());
                }
            }
        }
        let ratios = times[1].iter().zip(&times[0]).map(|(spilled, held)| spilled / held).collect();
        let [held, spilled] = times.map(median);
        show(&format!("{name}: in memory"), n_rows / held, "rows/s");
        show(&format!("{name}: on disk"), n_rows / spilled, "rows/s");
        show(&format!("{name}: on disk, against memory"), median(ratios), "x");
    }
    Ok(())
}

/// An error of the library in words.
fn told(error: impl Into<Error>) -> anyhow::Error {
    anyhow!("{}", error.into().report())
}

/// Deals out every push in two map tasks, and reads every partition; with little memory all of it goes to disk.
fn shuffle(pushes: &[RecordBatch], spills: bool) -> anyhow::Result<()> {
    let spill = Spill::open(&SpillSettings::default()).map_err(told)?;
    let memory_bytes = pushes.len() as u64 * (128 << 10);
    let memory = if spills { BatchMemory::new(spill.clone(), memory_bytes, 1, 1) } else { Arc::default() };
    let shuffle = Arc::new(Shuffle::within(Partitioning::Hash { columns: vec![0] }, 4, &memory));
    for (map_task, pushes) in pushes.chunks(pushes.len().div_ceil(2)).enumerate() {
        let mut writer = shuffle.writer(map_task);
        pushes.iter().try_for_each(|rows| writer.push(rows.clone())).map_err(told)?;
        writer.finish().map_err(told)?;
    }
    let mut n_rows = 0;
    for partition in 0..4 {
        for rows in shuffle.read(PartitionId(partition)) {
            n_rows += black_box(rows.map_err(told)?).num_rows();
        }
    }
    ensure!(n_rows == pushes.len() * ROWS, "{n_rows} rows came back");
    let n_spilled = spill.map_or(0, |spill| spill.counts().rows_total);
    ensure!((n_spilled > 0) == spills, "{n_spilled} rows were spilled");
    Ok(())
}

/// Runs a job of one step over one batch of bids.
fn job(n_events: u64, step: &str, spills: bool) -> anyhow::Result<()> {
    // A bid takes many times as much.
    let memory = if spills { format!("memory = '{}B'", (n_events * 64).max(1 << 20)) } else { "quota = '0'".into() };
    let text = format!(
        "[job]\nbatch-interval = '0'\ntrigger = 'available-now'\nlog-level = 'error'\n[spill]\n{memory}\n\
         [[source]]\nname = 'bids'\ntype = 'generator'\nkind = 'nexmark'\nn-events = {n_events}\nevents-per-batch = {n_events}\n\
         [[step]]\nname = 'step'\nfrom = 'bids'\n{step}\n[[sink]]\nname = 'out'\nfrom = 'step'\ntype = 'console'\n"
    );
    let mut job = parse_job(text, "spill", std::path::Path::new("."), &[])
        .map_err(|error| anyhow!("{}", error.render(false)))?
        .job;
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    job.sinks[0].definition = Arc::new(ForeachBatch::new(move |_, rows| {
        counter.fetch_add(rows.iter().map(|rows| rows.num_rows() as u64).sum(), Ordering::Relaxed);
        Ok(())
    }));
    let runtime = Runtime::new(RuntimeConfig::default()).map_err(told)?;
    let running = Context::from_job(job, runtime).start().map_err(told)?;
    let summary = running.await_termination().map_err(told)?;
    ensure!(seen.load(Ordering::Relaxed) > 0, "no rows came out");
    ensure!((summary.spill.rows_total > 0) == spills, "{:?}", summary.spill);
    Ok(())
}

/// What map tasks push: words and counts.
fn pushes(n: usize) -> anyhow::Result<Vec<RecordBatch>> {
    let pushes = (0..n).map(|push| {
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
        // Half a million words, in no order.
        let word = |row: usize| (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 45;
        let words = (push * ROWS..(push + 1) * ROWS).map(|row| format!("word{}", word(row)));
        let words: ArrayRef = Arc::new(StringArray::from_iter_values(words));
        Ok(RecordBatch::try_from_iter([("key", words), ("count", counts)])?)
    });
    pushes.collect()
}
