//! Small batches: from line to count, a short interval that is held, what an empty batch costs, how long a start takes.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Options;
use super::figures::{Figure, Goal, median, percentile};
use super::job_file::{CONSOLE, WordCount, socket};
use super::live::{Live, PATIENCE, listen};
use crate::demo::text::Text;

/// Interval 0, one line every 5 ms: how long until its count is printed.
pub(super) fn latency(options: &Options) -> anyhow::Result<Vec<Figure>> {
    const PAUSE: Duration = Duration::from_millis(5);
    // The first lines meet a job that compiles and warms up.
    const WARM_UP: usize = 200;
    let n_lines = WARM_UP + if options.quick { 200 } else { 4_000 };

    let (listener, address) = listen()?;
    let settings = "batch-interval = \"0\"";
    let job =
        WordCount { name: "latency", settings, source: &socket(address), sink: CONSOLE, running: false }.write()?;
    let mut live = Live::start(&job)?;
    let mut stream = live.connection(&listener)?;
    let mut sent = Vec::with_capacity(n_lines);
    for index in 0..n_lines {
        sent.push(Instant::now());
        stream.write_all(format!("line{index}\n").as_bytes()).context("the job has closed its connection")?;
        std::thread::sleep(PAUSE);
    }
    let mut seen = HashMap::new();
    while seen.len() < n_lines {
        let row = live.next_row()?;
        ensure!(seen.insert(row.word.clone(), row.seen).is_none(), "`{}` was counted twice", row.word);
    }
    live.stop()?;
    let latencies = sent.iter().enumerate().skip(WARM_UP).map(|(index, sent)| {
        let seen = seen.get(&format!("line{index}")).with_context(|| format!("`line{index}` was never counted"))?;
        Ok(milliseconds(seen.duration_since(*sent)))
    });
    let latencies = latencies.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(vec![
        Figure::new("line in to count out, p50", median(&latencies)?, "ms"),
        Figure::new("line in to count out, p99", percentile(&latencies, 99.0)?, "ms").goal(Goal::AtMost(10.0)),
        Figure::new("line in to count out, max", percentile(&latencies, 100.0)?, "ms"),
    ])
}

/// The interval that is to be held.
const INTERVAL_MS: f64 = 10.0;

/// 10 ms at 10,000 lines a second; then 10 ms with no lines at all.
pub(super) fn held(options: &Options) -> anyhow::Result<Vec<Figure>> {
    const LINES_PER_MS: u64 = 10;
    let time = Duration::from_secs(if options.quick { 3 } else { 15 });
    let warm_up = Duration::from_secs(1);
    let settings = format!("batch-interval = \"{INTERVAL_MS}ms\"");

    let (listener, address) = listen()?;
    let source = format!("{}\nreconnect = false", socket(address));
    let job =
        WordCount { name: "interval", settings: &settings, source: &source, sink: CONSOLE, running: false }.write()?;
    let mut live = Live::start(&job)?;
    let mut stream = live.connection(&listener)?;
    let (mut text, mut lines) = (Text::new(), String::new());
    let (mut n_lines, mut n_words) = (0, 0);
    let started = Instant::now();
    while started.elapsed() < time {
        let n_due = u64::try_from(started.elapsed().as_millis())? * LINES_PER_MS;
        lines.clear();
        (n_lines..n_due).for_each(|_| text.push_line(&mut lines));
        n_lines = n_due.max(n_lines);
        n_words += lines.split_whitespace().count() as u64;
        stream.write_all(lines.as_bytes()).context("the job has closed its connection")?;
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(stream);
    let ended = live.wait(PATIENCE)?;
    let n_counted: u64 = ended.rows.iter().map(|row| row.count).sum();
    ensure!(n_counted == n_words, "{n_counted} words were counted of {n_words}");

    let window = started + warm_up..started + time;
    let batches: Vec<_> = ended.batches.iter().filter(|batch| window.contains(&batch.seen)).collect();
    let delays: Vec<f64> = batches.iter().map(|batch| batch.scheduling_delay_ms).collect();
    let times: Vec<f64> = batches.iter().map(|batch| batch.processing_ms).collect();
    let n_expected = milliseconds(time - warm_up) / INTERVAL_MS;
    let mut figures = vec![
        Figure::new("batches made of those due", batches.len() as f64 / n_expected * 100.0, "%")
            .goal(Goal::AtLeast(98.0)),
        Figure::new("scheduling delay, p99", percentile(&delays, 99.0)?, "ms"),
        Figure::new("scheduling delay, max", percentile(&delays, 100.0)?, "ms").goal(Goal::AtMost(INTERVAL_MS)),
        Figure::new("processing time, p50", median(&times)?, "ms"),
        Figure::new("processing time, p99", percentile(&times, 99.0)?, "ms").goal(Goal::AtMost(INTERVAL_MS)),
    ];
    figures.extend(empty(&settings, time / 3)?);
    Ok(figures)
}

/// What a batch without rows costs.
fn empty(settings: &str, time: Duration) -> anyhow::Result<Vec<Figure>> {
    let (listener, address) = listen()?;
    let job = WordCount { name: "empty", settings, source: &socket(address), sink: CONSOLE, running: false }.write()?;
    let mut live = Live::start(&job)?;
    let stream = live.connection(&listener)?;
    std::thread::sleep(time);
    let ended = live.stop()?;
    drop(stream);
    let times: Vec<f64> =
        ended.batches.iter().filter(|batch| batch.rows_in == 0).map(|batch| batch.processing_ms).collect();
    ensure!(times.len() > 10, "there were only {} empty batches", times.len());
    Ok(vec![
        Figure::new("empty batch: processing time, p50", median(&times)?, "ms").goal(Goal::AtMost(1.0)),
        Figure::new("empty batch: processing time, p99", percentile(&times, 99.0)?, "ms"),
        Figure::new("empty batch: cpu time, start included", milliseconds(ended.usage.cpu) / times.len() as f64, "ms"),
    ])
}

/// From the start of the binary to the first count that it prints.
pub(super) fn start(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut times = Vec::new();
    let mut peaks = Vec::new();
    // The first run fills the cache of compiled plugins and is not counted.
    for round in 0..=options.rounds() {
        let (listener, address) = listen()?;
        let settings = "batch-interval = \"0\"";
        let job =
            WordCount { name: "start", settings, source: &socket(address), sink: CONSOLE, running: false }.write()?;
        let mut live = Live::start(&job)?;
        let mut stream = live.connection(&listener)?;
        stream.write_all(b"first\n").context("the job has closed its connection")?;
        let time = live.next_row()?.seen.duration_since(live.started());
        let ended = live.stop()?;
        if round > 0 {
            times.push(milliseconds(time));
            peaks.push(ended.usage.peak_bytes as f64 / 1e6);
        }
    }
    Ok(vec![
        Figure::new("start to first count, plugin cached", median(&times)?, "ms").goal(Goal::AtMost(500.0)),
        Figure::new("peak memory of a job with one line", median(&peaks)?, "MB"),
    ])
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
