//! The word count that Tidemill is measured against: one process, native Rust, the obvious fast way.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tidemill_bench::counts::{Rows, compare, count_files, files, read_rows};

/// Counts the words of a folder of text files, and writes them as JSON lines, the most frequent first.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// The folder
    folder: PathBuf,
    /// Threads; each counts whole files in a table of its own
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Where the counts go
    #[arg(long)]
    out: Option<PathBuf>,
    /// Compare with the counts that a job has written to this folder, added up over its batches
    #[arg(long)]
    compare: Option<PathBuf>,
    /// What is compared are counts over all batches so far, not those of each batch
    #[arg(long)]
    running: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let counts = count_files(&files(&options.folder)?, options.threads)?;
    let n_words: u64 = counts.values().sum();
    if let Some(path) = &options.out {
        let mut rows: Vec<_> = counts.iter().collect();
        rows.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
        let file = File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
        let mut out = BufWriter::new(file);
        for (word, n) in rows {
            let word = serde_json::to_string(&String::from_utf8_lossy(word))?;
            writeln!(out, "{{\"word\":{word},\"count\":{n}}}").context("cannot write the counts")?;
        }
        out.flush().context("cannot write the counts")?;
    }
    if let Some(folder) = &options.compare {
        let rows = if options.running { Rows::Running } else { Rows::OfBatches };
        compare(&counts, &read_rows(folder, rows)?)?;
    }
    println!("{{\"words\":{n_words},\"distinct\":{}}}", counts.len());
    Ok(())
}
