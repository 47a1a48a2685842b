//! A sender that is many times faster than the job: it is slowed down, memory stays in bounds, every line is counted once.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Options;
use super::figures::{Figure, Goal};
use super::job_file::{CONSOLE, WordCount, socket};
use super::live::{Live, listen};
use crate::demo::text::Text;

/// What is sent again and again.
const CHUNK_BYTES: usize = 16 << 20;

/// The job's budget for received rows.
const BUDGET_MIB: f64 = 64.0;

/// What the process may use beside the budget: code, the engine, one batch's tables and output.
const BESIDE_MB: f64 = 200.0;

/// Longer than the slowest machine needs for what is sent.
pub(super) const TIME_MAX: Duration = Duration::from_secs(600);

/// Measures a job with one worker against a sender that never waits.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let n_chunks: u64 = if options.quick { 8 } else { 60 };
    let chunk = chunk();
    let free_rate = unhindered(&chunk)?;

    let (listener, address) = listen()?;
    let job = WordCount {
        name: "back-pressure",
        settings: &format!(
            "batch-interval = \"200ms\"\nworker-threads = 1\nmemory = \"{BUDGET_MIB}MiB\"\n[spill]\nblocks = false"
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
    let rate = n_chunks as f64 * chunk.len() as f64 / started.elapsed().as_secs_f64();
    let ended = live.wait(TIME_MAX)?;

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
    let n_lines = (chunk.lines().count() as u64 * n_chunks) as f64;
    let n_received: u64 = ended.batches.iter().map(|batch| batch.rows_in).sum();
    ensure!(n_received as f64 == n_lines, "{n_received} lines were received of {n_lines}");
    Ok(vec![
        Figure::new("the sender's rate without the job", free_rate / 1e6, "MB/s"),
        Figure::new("the sender's rate with the job", rate / 1e6, "MB/s"),
        Figure::new("how much it was slowed down", free_rate / rate, "x"),
        Figure::new("lines/s, one worker", n_lines / started.elapsed().as_secs_f64(), "lines/s"),
        Figure::new("peak memory", ended.usage.peak_bytes as f64 / 1e6, "MB")
            .goal(Goal::AtMost(BUDGET_MIB * 1.048_576 + BESIDE_MB)),
    ])
}

/// Some megabytes of whole lines.
pub(super) fn chunk() -> String {
    let (mut text, mut chunk) = (Text::new(), String::with_capacity(CHUNK_BYTES + 200));
    while chunk.len() < CHUNK_BYTES {
        text.push_line(&mut chunk);
    }
    chunk
}

/// Bytes a second that the sender reaches when whoever reads throws everything away.
fn unhindered(chunk: &str) -> anyhow::Result<f64> {
    const CHUNKS: usize = 8;
    let (listener, address) = listen()?;
    let reader = std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut buffer = vec![0; 1 << 18];
        while stream.read(&mut buffer).is_ok_and(|n_bytes| n_bytes > 0) {}
    });
    let mut stream = TcpStream::connect(address).context("cannot connect to the loopback interface")?;
    let started = Instant::now();
    for _ in 0..CHUNKS {
        stream.write_all(chunk.as_bytes()).context("the loopback interface does not take it")?;
    }
    drop(stream);
    ensure!(reader.join().is_ok(), "the reader has failed");
    Ok((CHUNKS * chunk.len()) as f64 / started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_whole_lines() {
        let chunk = chunk();
        assert!(chunk.ends_with('\n') && (CHUNK_BYTES..CHUNK_BYTES + 200).contains(&chunk.len()));
    }

    #[test]
    fn the_loopback_interface_has_a_rate() {
        assert!(unhindered("a line\n").expect("it works") > 0.0);
    }
}
