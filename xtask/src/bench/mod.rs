//! `cargo xtask bench`: measures Tidemill, against native programs, DataFusion and Spark. docs/benchmarks.md says what each is.

mod back_pressure;
mod checkpoint;
mod figures;
mod intervals;
mod job_file;
mod live;
mod measure;
mod nexmark;
mod spark;
mod wal;
mod word_count;

use std::fs;

use anyhow::{Context, bail};
use clap::Args;

use crate::plugins;
use crate::shell::Shell;
use figures::{Figure, Results};

/// What to measure, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Compare with Spark Structured Streaming too; needs Java and installs pyspark under target/
    #[arg(long)]
    spark: bool,
    /// Megabytes of text for the whole word count
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    mb: u64,
    /// Measure each once and briefly: shows that everything runs; the figures mean little
    #[arg(long)]
    quick: bool,
    /// The benchmarks to run [default: all]
    #[arg(value_name = "NAME", value_parser = BENCHMARKS.map(|benchmark| benchmark.name))]
    names: Vec<String>,
}

impl Options {
    /// How often whole programs are measured, in turns.
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { 5 }
    }
}

/// A benchmark: its name in docs/benchmarks.md and on the command line.
struct Benchmark {
    name: &'static str,
    run: fn(&Options) -> anyhow::Result<Vec<Figure>>,
}

const BENCHMARKS: [Benchmark; 15] = [
    Benchmark { name: "boundary", run: |options| program("boundary", options) },
    Benchmark { name: "shuffle", run: |options| program("shuffle", options) },
    Benchmark { name: "spill", run: |options| program("spill", options) },
    Benchmark { name: "windows", run: |options| program("windows", options) },
    Benchmark { name: "state", run: |options| program("state", options) },
    Benchmark { name: "join", run: |options| program("join", options) },
    Benchmark { name: "word-count", run: word_count::run },
    Benchmark { name: "running-word-count", run: word_count::run_running },
    Benchmark { name: "checkpoint", run: checkpoint::run },
    Benchmark { name: "wal", run: wal::run },
    Benchmark { name: "nexmark", run: nexmark::run },
    Benchmark { name: "latency", run: intervals::latency },
    Benchmark { name: "interval", run: intervals::held },
    Benchmark { name: "start", run: intervals::start },
    Benchmark { name: "back-pressure", run: back_pressure::run },
];

/// Everything the benchmarks write, but for the text, which is kept from run to run.
const FOLDER: &str = "target/bench";

/// The binary under test.
const TIDEMILL: &str = "target/release/tidemill";

/// Builds, measures, shows the figures and writes them down.
pub(crate) fn bench(options: &Options) -> anyhow::Result<()> {
    plugins::build()?;
    Shell::cargo(&["build", "--release", "--package", "tidemill", "--package", "tidemill-bench", "--bins"]).run()?;
    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make `{FOLDER}`"))?;

    let mut results = Results::of_this_machine();
    let mut failed = Vec::new();
    for benchmark in BENCHMARKS {
        if !options.names.is_empty() && !options.names.iter().any(|name| name == benchmark.name) {
            continue;
        }
        println!("\n==> {}", benchmark.name);
        match (benchmark.run)(options) {
            Ok(figures) => results.show_and_add(benchmark.name, figures),
            // The others are worth measuring all the same.
            Err(error) => {
                println!("error: {error:#}");
                failed.push(benchmark.name);
            }
        }
    }
    let path = format!("{FOLDER}/results.json");
    results.write(&path)?;
    println!("\nThe figures are in {path}; docs/benchmarks.md says what they mean.");
    if !failed.is_empty() {
        bail!("these benchmarks failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs a benchmark that is a program of the crate `tidemill-bench` and prints its figures as JSON lines.
fn program(name: &str, options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut command = Shell::new(&format!("target/release/{name}"), &[]);
    if options.quick {
        command = command.arg("--quick");
    }
    println!("$ {}", command.shown());
    command.read()?.lines().map(Figure::parse).collect()
}
