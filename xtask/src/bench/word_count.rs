//! The whole word count from files: Tidemill, the native program, and Spark if asked for, in turns.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::figures::{Figure, Goal, median};
use super::job_file::WordCount;
use super::measure::{self, Usage};
use super::{FOLDER, Options, TIDEMILL, spark};
use crate::shell::Shell;

/// Files of text, and how many of them a batch reads: 5 batches, each large enough for the table of words to fill.
const FILES: u32 = 30;
pub(super) const FILES_PER_BATCH: u32 = 6;

/// Far more than any of the programs should take for each megabyte, Spark's start included.
fn time_max(mb: u64) -> Duration {
    Duration::from_secs(120 + mb)
}

/// Measures the word count.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let data = make_text(options.mb)?;
    let folder = data.path.to_string_lossy();
    let out = Path::new(FOLDER).join("word-count-out");
    let job = WordCount {
        name: "word-count",
        settings: "batch-interval = \"0\"\ntrigger = \"available-now\"",
        source: &format!(
            "type = \"file\"\nformat = \"text\"\npath = \"../../{folder}\"\nmax-files-per-batch = {FILES_PER_BATCH}"
        ),
        sink: "type = \"file\"\nformat = \"json\"\npath = \"word-count-out\"",
        running: false,
    }
    .write()?;
    let job = job.to_string_lossy();
    let counter = "target/release/native-word-count";
    let native = |threads: &str| {
        Shell::new(counter, &[&folder, "--threads", threads, "--out", "target/bench/native-counts.jsonl"])
    };
    let tidemill = Shell::new(TIDEMILL, &["run", &job]);
    for command in [&native("1"), &native("2"), &tidemill] {
        println!("$ {}", command.shown());
    }

    let (mut one, mut two, mut ours) = (Runs::default(), Runs::default(), Runs::default());
    for _ in 0..options.rounds() {
        one.add(measured("native-1", &native("1"), options.mb)?);
        two.add(measured("native-2", &native("2"), options.mb)?);
        clear(&out)?;
        ours.add(measured("tidemill", &tidemill, options.mb)?);
    }
    let compare = Shell::new(counter, &[&folder, "--threads", "2", "--compare", &out.to_string_lossy()]);
    compare.run().context("Tidemill has counted wrongly")?;

    let n_lines = data.n_lines;
    let (ours, one, two) = (ours.medians()?, one.medians()?, two.medians()?);
    let mut figures = vec![
        Figure::new("lines/s", n_lines / ours.wall_s, "lines/s").goal(Goal::AtLeast(2e6)),
        Figure::new("peak memory", ours.peak_mb, "MB").goal(Goal::AtMost(400.0)),
        Figure::new("cpu time against native", ours.cpu_s / one.cpu_s, "x").goal(Goal::AtMost(2.0)),
    ];
    for (name, usage) in [("Tidemill", &ours), ("native, 1 thread", &one), ("native, 2 threads", &two)] {
        figures.extend(usage.figures(name, n_lines));
    }
    if options.spark {
        match spark::word_count(&data.path, time_max(options.mb) * 4)? {
            Some(found) => {
                let compare =
                    Shell::new(counter, &[&folder, "--threads", "2", "--compare", &spark::OUT.to_string_lossy()]);
                compare.run().context("Spark has counted wrongly")?;
                let spark = found.summary();
                figures.extend(spark.figures("Spark, start included", n_lines));
                figures.push(Figure::new("Spark, start not included: lines/s", n_lines / found.query_s, "lines/s"));
                figures.push(Figure::new("cpu time against Spark", ours.cpu_s / spark.cpu_s, "x"));
                figures.push(Figure::new("lines/s against Spark without its start", found.query_s / ours.wall_s, "x"));
            }
            None => println!("\n*** Spark was NOT measured: see above ***\n"),
        }
    }
    Ok(figures)
}

/// Measures the word count over all batches: the words of each batch with their counts so far.
pub(super) fn run_running(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let data = make_text(options.mb)?;
    let folder = data.path.to_string_lossy();
    let out = Path::new(FOLDER).join("running-word-count-out");
    let job = WordCount {
        name: "running-word-count",
        settings: "batch-interval = \"0\"\ntrigger = \"available-now\"",
        source: &format!(
            "type = \"file\"\nformat = \"text\"\npath = \"../../{folder}\"\nmax-files-per-batch = {FILES_PER_BATCH}"
        ),
        sink: "type = \"file\"\nformat = \"json\"\npath = \"running-word-count-out\"",
        running: true,
    }
    .write()?;
    let tidemill = Shell::new(TIDEMILL, &["run", &job.to_string_lossy()]);
    println!("$ {}", tidemill.shown());
    let mut runs = Runs::default();
    for _ in 0..options.rounds() {
        clear(&out)?;
        runs.add(measured("running", &tidemill, options.mb)?);
    }
    let counter = "target/release/native-word-count";
    let compare = Shell::new(counter, &[&folder, "--threads", "2", "--running", "--compare", &out.to_string_lossy()]);
    compare.run().context("Tidemill has counted wrongly")?;
    let found = runs.medians()?;
    let mut figures = vec![Figure::new("lines/s", data.n_lines / found.wall_s, "lines/s").goal(Goal::AtLeast(1.5e6))];
    figures.extend(found.figures("Tidemill", data.n_lines));
    Ok(figures)
}

pub(super) fn measured(name: &str, command: &Shell, mb: u64) -> anyhow::Result<Usage> {
    let log = Path::new(FOLDER).join(format!("{name}.log"));
    measure::run(command.command(), &log, time_max(mb))
}

/// Removes what an earlier run has written.
pub(super) fn clear(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
    }
    Ok(())
}

/// A folder of text.
pub(super) struct Text {
    pub(super) path: PathBuf,
    pub(super) n_lines: f64,
}

/// Makes the text of that size, unless it is there from an earlier run.
pub(super) fn make_text(mb: u64) -> anyhow::Result<Text> {
    let path = PathBuf::from(format!("target/bench-data/zipf-{mb}mb"));
    let facts = path.with_extension("json");
    if !path.exists() || !facts.exists() {
        clear(&path)?;
        let generator = Shell::new("target/release/gen-text", &[&path.to_string_lossy()])
            .arg("--mb")
            .arg(mb.to_string())
            .arg("--files")
            .arg(FILES.to_string());
        println!("$ {}", generator.shown());
        fs::write(&facts, generator.read()?).with_context(|| format!("cannot write `{}`", facts.display()))?;
    }
    let text = fs::read_to_string(&facts).with_context(|| format!("cannot read `{}`", facts.display()))?;
    let n_lines = serde_json::from_str::<Value>(&text).ok().and_then(|facts| facts["lines"].as_f64());
    Ok(Text { path, n_lines: n_lines.with_context(|| format!("`{}` says no number of lines", facts.display()))? })
}

/// What the runs of one program used.
#[derive(Default)]
pub(super) struct Runs {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    peak: Vec<f64>,
}

/// The medians of what runs used.
pub(super) struct Summary {
    pub(super) wall_s: f64,
    pub(super) cpu_s: f64,
    pub(super) peak_mb: f64,
}

impl Runs {
    pub(super) fn add(&mut self, usage: Usage) {
        self.wall.push(usage.wall.as_secs_f64());
        self.cpu.push(usage.cpu.as_secs_f64());
        self.peak.push(usage.peak_bytes as f64 / 1e6);
    }

    pub(super) fn medians(&self) -> anyhow::Result<Summary> {
        Ok(Summary { wall_s: median(&self.wall)?, cpu_s: median(&self.cpu)?, peak_mb: median(&self.peak)? })
    }
}

impl Summary {
    fn figures(&self, name: &str, n_lines: f64) -> [Figure; 4] {
        [
            Figure::new(format!("{name}: wall time"), self.wall_s, "s"),
            Figure::new(format!("{name}: cpu time"), self.cpu_s, "s"),
            Figure::new(format!("{name}: peak memory"), self.peak_mb, "MB"),
            Figure::new(format!("{name}: lines/s"), n_lines / self.wall_s, "lines/s"),
        ]
    }
}
