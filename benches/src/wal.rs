//! What keeping received rows costs: pushes into the write-ahead log against plain synced writes to the same disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow, ensure};
use arrow::array::{RecordBatch, StringArray};
use clap::Parser;
use tidemill::job::{Durability, LostRows};
use tidemill::source::generator::text::{ZipfOptions, ZipfText};
use tidemill::source::text_schema;
use tidemill::write_ahead_log::{LogOptions, LogSource, ReceivedLog, WriteAheadLog, inspect};
use tidemill_bench::cpu::median;
use tidemill_bench::figure::show;

// The allocator of the binary under test.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the write-ahead log in a folder; prints figures as JSON lines.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Fewer and smaller turns: the figures mean little
    #[arg(long)]
    quick: bool,
    /// Where it writes: the disk that is measured
    #[arg(long, default_value = "target/bench")]
    folder: std::path::PathBuf,
}

/// Bytes of a large push: what a busy socket gives at once.
const PUSH_BYTES: usize = 256 << 10;

/// Threads that push single rows at the same time.
const THREADS: [usize; 3] = [1, 8, 64];

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let (n_turns, n_pushes, n_rows) = if options.quick { (1, 20, 64) } else { (7, 200, 1024) };
    let folder = options.folder.join("wal");
    let text = text()?;
    let rows = rows_of(&text)?;
    let (mut plain, mut row, mut batch) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n_turns {
        plain.push(timed(&folder, || synced_writes(&folder, text.as_bytes(), n_pushes))?);
        row.push(timed(&folder, || pushes(&folder, &rows, n_pushes, Durability::Row))?);
        batch.push(timed(&folder, || pushes(&folder, &rows, n_pushes, Durability::Batch))?);
    }
    let (plain, row, batch) = (median(plain), median(row), median(batch));
    let mb = (n_pushes * text.len()) as f64 / 1e6;
    show("pushes of 256 KiB: plain synced writes", mb / plain, "MB/s");
    show("pushes of 256 KiB: durability row", mb / row, "MB/s");
    show("pushes of 256 KiB: durability row, time against plain synced writes", row / plain, "x");
    show("pushes of 256 KiB: durability batch", mb / batch, "MB/s");
    show("pushes of 256 KiB: durability batch, time against plain synced writes", batch / plain, "x");

    let line = text.lines().next().context("the text has lines")?;
    let one = rows_of(line)?;
    // A disk that others use too syncs ten times as often in one second as in the next: what is compared runs in turns.
    let (mut plain, mut shared) = (Vec::new(), THREADS.map(|_| Vec::new()));
    for _ in 0..n_turns {
        plain.push(n_rows as f64 / timed(&folder, || synced_writes(&folder, line.as_bytes(), n_rows))?);
        for (n_threads, rates) in THREADS.into_iter().zip(&mut shared) {
            let took = timed(&folder, || pushes_of_threads(&folder, &one, n_threads, n_rows / n_threads))?;
            rates.push(n_rows as f64 / took);
        }
    }
    let plain = median(plain);
    show("single rows: plain synced writes", plain, "writes/s");
    for (n_threads, rates) in THREADS.into_iter().zip(shared) {
        let name = format!("single rows: durability row, {n_threads} threads");
        let rate = median(rates);
        show(&name, rate, "pushes/s");
        show(&format!("{name}, against plain synced writes"), rate / plain, "x");
    }
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot delete `{}`", folder.display()))
}

/// The seconds that something takes in an empty folder.
fn timed(folder: &Path, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot delete `{}`", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let started = Instant::now();
    run()?;
    Ok(started.elapsed().as_secs_f64())
}

/// Lines of a large push.
fn text() -> anyhow::Result<String> {
    let mut text = ZipfText::new(ZipfOptions::default())?;
    let mut lines = Vec::new();
    while lines.len() < PUSH_BYTES {
        text.write_line(&mut lines);
        lines.push(b'\n');
    }
    Ok(String::from_utf8(lines)?)
}

fn rows_of(text: &str) -> anyhow::Result<RecordBatch> {
    Ok(RecordBatch::try_new(text_schema(), vec![Arc::new(StringArray::from(text.lines().collect::<Vec<_>>()))])?)
}

/// What a program does that keeps what it reads by itself: appends it, and waits for the disk.
fn synced_writes(folder: &Path, bytes: &[u8], n_writes: usize) -> anyhow::Result<()> {
    let mut file = File::create(folder.join("plain"))?;
    for _ in 0..n_writes {
        file.write_all(bytes)?;
        file.sync_data()?;
    }
    Ok(())
}

fn open(folder: &Path) -> anyhow::Result<Arc<WriteAheadLog>> {
    let options = LogOptions {
        directory: folder.join("log"),
        log: "measured".into(),
        segment_bytes: 32 << 20,
        lost_rows: LostRows::Refuse,
    };
    let sources = vec![LogSource::new("lines", text_schema())];
    WriteAheadLog::open(&options, sources).map_err(|error| anyhow!("{}", error.report()))
}

fn push(log: &ReceivedLog, rows: &RecordBatch) -> anyhow::Result<()> {
    log.write(rows.clone()).map_err(|error| anyhow!("{}", error.report()))
}

fn pushes(folder: &Path, rows: &RecordBatch, n_pushes: usize, durability: Durability) -> anyhow::Result<()> {
    let log = ReceivedLog::new(open(folder)?, 0, durability);
    (0..n_pushes).try_for_each(|_| push(&log, rows))
}

fn pushes_of_threads(folder: &Path, rows: &RecordBatch, n_threads: usize, n_pushes: usize) -> anyhow::Result<()> {
    let log = ReceivedLog::new(open(folder)?, 0, Durability::Row);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..n_threads).map(|_| scope.spawn(|| (0..n_pushes).try_for_each(|_| push(&log, rows)))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread has failed"))?)
    })?;
    let received = inspect(&folder.join("log")).map_err(|error| anyhow!("{error}"))?.sources[0].end_row;
    ensure!(received == (n_threads * n_pushes) as u64, "{received} rows are in the log");
    Ok(())
}
