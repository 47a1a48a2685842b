//! Nexmark, q0 to q8: the job files of `examples/nexmark`, against DataFusion over the same rows in memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::figures::{Figure, median};
use super::measure;
use super::{FOLDER, Options, TIDEMILL};
use crate::shell::Shell;

/// The queries, each with a job file `examples/nexmark/NAME.toml`.
const QUERIES: [&str; 9] = ["q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8"];

/// Events of the world; of which 92 of a hundred are bids.
const EVENTS: u64 = 5_000_000;
const EVENTS_QUICK: u64 = 200_000;

/// Far more than a query should take.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Measures every query; those that cannot be measured are told, and the others are measured all the same.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for query in QUERIES {
        match measure_query(query, options) {
            Ok(found) => figures.extend(found),
            Err(error) => {
                println!("error: {query}: {error:#}");
                failed.push(query);
            }
        }
    }
    ensure!(failed.len() < QUERIES.len(), "no query could be measured");
    if !failed.is_empty() {
        println!("\n*** these queries were NOT measured: {} ***\n", failed.join(", "));
    }
    Ok(figures)
}

fn measure_query(query: &str, options: &Options) -> anyhow::Result<Vec<Figure>> {
    let n_events = if options.quick { EVENTS_QUICK } else { EVENTS }.to_string();
    // One thread, as DataFusion has; rows are counted at the console sink, not written.
    let tidemill = Shell::new(TIDEMILL, &["run", &format!("examples/nexmark/{query}.toml")])
        .arg("--set")
        .arg("job.worker-threads=1")
        .arg("--set")
        .arg("sink.out.rows=0")
        .env("NEXMARK_EVENTS", &n_events);
    let mut peer = Shell::new("target/release/nexmark", &[query, "--events", &n_events]);
    if options.quick {
        peer = peer.arg("--quick");
    }
    println!("$ {}", tidemill.shown());
    let log = Path::new(FOLDER).join(format!("nexmark-{query}.log"));
    let (mut cpu, mut wall, mut peak) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let usage = measure::run(tidemill.command(), &log, TIME_MAX)?;
        cpu.push(usage.cpu.as_secs_f64());
        wall.push(usage.wall.as_secs_f64());
        peak.push(usage.peak_bytes as f64 / 1e6);
    }
    println!("$ {}", peer.shown());
    let peer = Peer::read(query, &peer.read()?)?;
    Ok(peer.compare(query, median(&cpu)?, median(&wall)?, median(&peak)?))
}

/// What the program that runs DataFusion says about a query.
#[derive(Debug, PartialEq)]
struct Peer {
    /// Rows that the query reads.
    n_rows: f64,
    /// CPU seconds of making those rows, which the job does too.
    make_s: f64,
    /// CPU seconds of the query over them.
    query_s: f64,
}

impl Peer {
    /// Reads the figures that were printed.
    fn read(query: &str, printed: &str) -> anyhow::Result<Self> {
        let figures = printed.lines().map(Figure::parse).collect::<anyhow::Result<Vec<_>>>()?;
        let value = |name: &str| {
            let name = format!("{query}: {name}");
            let found = figures.iter().find(|figure| figure.name == name);
            Ok::<_, anyhow::Error>(found.with_context(|| format!("there is no figure `{name}`"))?.value)
        };
        Ok(Self { n_rows: value("rows")?, make_s: value("making the rows")?, query_s: value("DataFusion")? })
    }

    /// The figures of a query whose job used so many CPU seconds.
    fn compare(&self, query: &str, cpu_s: f64, wall_s: f64, peak_mb: f64) -> Vec<Figure> {
        vec![
            Figure::new(format!("{query}: events/s per core"), self.n_rows / cpu_s, "events/s"),
            Figure::new(format!("{query}: events/s, one worker"), self.n_rows / wall_s, "events/s"),
            Figure::new(
                format!("{query}: DataFusion and generator"),
                self.n_rows / (self.make_s + self.query_s),
                "events/s",
            ),
            Figure::new(format!("{query}: generator alone"), self.n_rows / self.make_s, "events/s"),
            Figure::new(format!("{query}: cpu time against DataFusion's"), cpu_s / (self.make_s + self.query_s), "x"),
            Figure::new(format!("{query}: peak memory"), peak_mb, "MB"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_and_compared() {
        let printed = "{\"name\":\"q1: rows\",\"value\":1000,\"unit\":\"rows\"}\n\
                       {\"name\":\"q1: making the rows\",\"value\":0.25,\"unit\":\"s\"}\n\
                       {\"name\":\"q1: DataFusion\",\"value\":0.75,\"unit\":\"s\"}\n";
        let peer = Peer::read("q1", printed).expect("all three are there");
        assert_eq!(peer, Peer { n_rows: 1000.0, make_s: 0.25, query_s: 0.75 });
        let values: Vec<f64> = peer.compare("q1", 2.0, 4.0, 50.0).iter().map(|figure| figure.value).collect();
        assert_eq!(values, [500.0, 250.0, 1000.0, 4000.0, 2.0, 50.0]);
        let error = Peer::read("q2", printed).expect_err("another query");
        assert_eq!(error.to_string(), "there is no figure `q2: rows`");
    }
}
