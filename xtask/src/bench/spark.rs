//! The same word count with Spark Structured Streaming, in a Python environment of its own under target/.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::measure::{self, Usage};
use super::word_count::{FILES_PER_BATCH, Summary, clear};
use crate::shell::Shell;

/// The version that docs/benchmarks.md has figures of.
const PACKAGE: &str = "pyspark==3.5.9";

const FOLDER: &str = "target/bench/spark";

/// Where Spark's counts go.
pub(super) static OUT: LazyLock<PathBuf> = LazyLock::new(|| Path::new(FOLDER).join("out"));

/// What Spark used.
pub(super) struct Found {
    usage: Usage,
    /// Seconds that the query ran, the start of Spark not included.
    pub(super) query_s: f64,
    /// Of the Java process, which the Python process does not wait for.
    java_cpu_s: f64,
    java_peak_mb: f64,
}

impl Found {
    /// Both processes together.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            wall_s: self.usage.wall.as_secs_f64(),
            cpu_s: self.usage.cpu.as_secs_f64() + self.java_cpu_s,
            peak_mb: self.usage.peak_bytes as f64 / 1e6 + self.java_peak_mb,
        }
    }
}

/// Runs the word count; `None`, with the reason printed, where Spark cannot be had.
pub(super) fn word_count(data: &Path, time_max: Duration) -> anyhow::Result<Option<Found>> {
    if let Err(error) = ensure_spark() {
        println!("\n*** Spark cannot be had here: {error:#} ***");
        return Ok(None);
    }
    clear(&OUT)?;
    let report = Path::new(FOLDER).join("report.json");
    let command = Shell::new(&python(), &["benches/spark_word_count.py"])
        .arg(data.to_string_lossy())
        .arg(OUT.to_string_lossy())
        .arg(report.to_string_lossy())
        .arg(FILES_PER_BATCH.to_string());
    println!("$ {}", command.shown());
    let usage = measure::run(command.command(), &Path::new(FOLDER).join("spark.log"), time_max)?;
    let text = std::fs::read_to_string(&report).with_context(|| format!("cannot read `{}`", report.display()))?;
    let report: Value = serde_json::from_str(&text).context("Spark's report is no JSON")?;
    let number = |name: &str| report[name].as_f64().with_context(|| format!("Spark's report has no `{name}`"));
    Ok(Some(Found {
        usage,
        query_s: number("query_seconds")?,
        java_cpu_s: number("java_cpu_seconds")?,
        java_peak_mb: number("java_peak_bytes")? / 1e6,
    }))
}

fn python() -> String {
    format!("{FOLDER}/venv/bin/python")
}

/// Installs Spark, unless it is there.
fn ensure_spark() -> anyhow::Result<()> {
    let runs = |command: &Shell| {
        let status = command.command().stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    anyhow::ensure!(runs(&Shell::new("java", &["-version"])), "there is no `java`: install a JDK, 8, 11 or 17");
    if runs(&Shell::new(&python(), &["-c", "import pyspark"])) {
        return Ok(());
    }
    Shell::new("python3", &["-m", "venv", &format!("{FOLDER}/venv")]).run()?;
    Shell::new(&python(), &["-m", "pip", "install", "--quiet", PACKAGE]).run()
}
