//! What a shuffle costs: rows dealt out to partitions by the hash of their key, and read back.

use std::sync::Arc;

use anyhow::{anyhow, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use clap::Parser;
use tidemill::ids::PartitionId;
use tidemill::shuffle::{Partitioning, Shuffle};
use tidemill::source::generator::text::{ZipfOptions, ZipfText};
use tidemill_bench::cpu::in_turns;
use tidemill_bench::figure::show;

// The allocator of the binary under test.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the shuffle on one thread; prints figures as JSON lines.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Fewer turns: the figures mean little
    #[arg(long)]
    quick: bool,
}

/// Rows of a push, and pushes of a map task.
const ROWS: usize = 65_536;
const PUSHES: usize = 8;

/// Map tasks, and partitions they deal out to.
const MAP_TASKS: usize = 2;
const PARTITIONS: u32 = 4;

fn main() -> anyhow::Result<()> {
    let n_turns = if Options::parse().quick { 3 } else { 31 };
    let words = pushes(|text, row| Arc::new(StringArray::from_iter_values(words(text, row))))?;
    let numbers =
        pushes(|_, row| Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|at| at * 7 + row as i64))))?;
    let hash = Partitioning::Hash { columns: vec![0] };
    let mut by_word = || shuffle(&hash, &words);
    let mut by_number = || shuffle(&hash, &numbers);
    let mut in_turn = || shuffle(&Partitioning::RoundRobin, &words);
    let turns = in_turns(n_turns, 1, &mut [&mut by_word, &mut by_number, &mut in_turn])?;
    let n_rows = (MAP_TASKS * PUSHES * ROWS) as f64;
    for (index, name) in ["by a utf8 key", "by an int64 key", "in turn"].into_iter().enumerate() {
        show(&format!("{name}: one thread"), n_rows / turns.of(index) * 1e9, "rows/s");
        show(&format!("{name}: cpu"), turns.of(index) / n_rows, "ns/row");
    }
    Ok(())
}

/// Deals out every push in every map task, and reads every partition.
fn shuffle(partitioning: &Partitioning, pushes: &[RecordBatch]) -> anyhow::Result<()> {
    let shuffle = Arc::new(Shuffle::new(partitioning.clone(), PARTITIONS));
    for map_task in 0..MAP_TASKS {
        let mut writer = shuffle.writer(map_task);
        for rows in pushes {
            writer.push(rows.clone()).map_err(|error| anyhow!("{}", error.report()))?;
        }
        writer.finish().map_err(|error| anyhow!("{}", error.report()))?;
    }
    let partitions = (0..PARTITIONS).flat_map(|partition| shuffle.read(PartitionId(partition)));
    let n_rows =
        partitions.map(|rows| rows.map(|rows| std::hint::black_box(rows).num_rows())).sum::<Result<usize, _>>();
    let n_rows = n_rows.map_err(|error| anyhow!("{}", error.report()))?;
    ensure!(n_rows == MAP_TASKS * PUSHES * ROWS, "{n_rows} rows came back");
    Ok(())
}

/// What a map task pushes: rows of a key and a count.
fn pushes(key: impl Fn(&mut ZipfText, usize) -> ArrayRef) -> anyhow::Result<Vec<RecordBatch>> {
    let mut text = ZipfText::new(ZipfOptions::default())?;
    let pushes = (0..PUSHES).map(|push| {
        let counts = Arc::new(Int64Array::from_iter_values(0..ROWS as i64)) as ArrayRef;
        let columns = [("key", key(&mut text, push * ROWS), false), ("count", counts, false)];
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    });
    pushes.collect()
}

/// The next words of the text.
fn words(text: &mut ZipfText, _row: usize) -> Vec<String> {
    let mut words = Vec::with_capacity(ROWS + 16);
    let mut line = Vec::new();
    while words.len() < ROWS {
        line.clear();
        text.write_line(&mut line);
        words.extend(String::from_utf8_lossy(&line).split_ascii_whitespace().map(str::to_owned));
    }
    words.truncate(ROWS);
    words
}
