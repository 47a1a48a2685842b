//! What it costs to keep received rows: the write-ahead log by itself, and a word count over a socket with each durability.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::back_pressure::{TIME_MAX, chunk};
use super::figures::{Figure, median};
use super::job_file::{CONSOLE, WordCount, socket};
use super::live::{Live, listen};
use super::word_count::clear;
use super::{FOLDER, Options, program};

const DURABILITIES: [&str; 3] = ["none", "batch", "row"];

/// Measures the log, then a sender that writes as fast as the socket takes it, to jobs that differ in `durability` alone, in turns.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut figures = program("wal", options)?;
    let n_chunks: u64 = if options.quick { 2 } else { 20 };
    let chunk = chunk();
    let mut taken: [(Vec<f64>, Vec<f64>); 3] = Default::default();
    for _ in 0..options.rounds() {
        for (durability, (walls, cpus)) in DURABILITIES.iter().zip(&mut taken) {
            let (wall, cpu) = word_count(durability, &chunk, n_chunks)?;
            walls.push(wall.as_secs_f64());
            cpus.push(cpu.as_secs_f64());
        }
    }
    let n_lines = (chunk.lines().count() as u64 * n_chunks) as f64;
    let (none_wall, none_cpu) = (median(&taken[0].0)?, median(&taken[0].1)?);
    for (durability, (walls, cpus)) in DURABILITIES.iter().zip(&taken) {
        let (wall, cpu) = (median(walls)?, median(cpus)?);
        let name = |what: &str| format!("word count, durability {durability}: {what}");
        figures.push(Figure::new(name("lines/s"), n_lines / wall, "lines/s"));
        if *durability != "none" {
            figures.push(Figure::new(name("wall time against none"), wall / none_wall, "x"));
            figures.push(Figure::new(name("cpu time against none"), cpu / none_cpu, "x"));
        }
    }
    Ok(figures)
}

/// Runs a job until everything is counted; gives the time from the first byte that is sent, and the CPU time of the process.
fn word_count(durability: &str, chunk: &str, n_chunks: u64) -> anyhow::Result<(Duration, Duration)> {
    clear(&Path::new(FOLDER).join("wal-checkpoint"))?;
    let (listener, address) = listen()?;
    let job = WordCount {
        name: "wal",
        settings: &format!(
            "batch-interval = \"200ms\"\ncheckpoint = \"wal-checkpoint\"\ndurability = \"{durability}\""
        ),
        source: &format!("{}\nreconnect = false", socket(address)),
        sink: CONSOLE,
        running: false,
    }
    .write()?;
    let mut live = Live::start(&job)?;
    let mut stream = live.connection(&listener)?;
    let started = Instant::now();
    for _ in 0..n_chunks {
        stream.write_all(chunk.as_bytes()).context("the job has closed its connection")?;
    }
    drop(stream);
    let ended = live.wait(TIME_MAX)?;
    let took = started.elapsed();
    let mut expected: HashMap<&str, u64> = HashMap::new();
    chunk.split_whitespace().for_each(|word| *expected.entry(word).or_default() += n_chunks);
    let mut found: HashMap<&str, u64> = HashMap::new();
    ended.rows.iter().for_each(|row| *found.entry(&row.word).or_default() += row.count);
    ensure!(
        found == expected,
        "{} words were counted of {}",
        found.values().sum::<u64>(),
        expected.values().sum::<u64>()
    );
    Ok((took, ended.usage.cpu))
}
