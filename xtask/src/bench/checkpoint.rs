//! What a checkpoint costs while a job runs, and how long a job takes to go on from one.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::figures::{Figure, Goal};
use super::job_file::WordCount;
use super::word_count::{FILES_PER_BATCH, Runs, clear, make_text, measured};
use super::{FOLDER, Options, TIDEMILL};
use crate::shell::Shell;

/// Keys of the state that is recovered: with their 100 bytes each, 1 GB of them.
const KEYS: u64 = 10_000_000;
const KEY_BYTES: usize = 100;

/// Files that the keys come in, one a batch.
const KEY_FILES: u64 = 10;

/// Measures the running word count with a checkpoint after every batch, against the same job without, in turns; then how long a
/// job with a large state takes to start again.
pub(super) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let data = make_text(options.mb)?;
    let folder = data.path.to_string_lossy();
    let settings = "batch-interval = \"0\"\ntrigger = \"available-now\"";
    let with = format!("{settings}\ncheckpoint = \"checkpoint\"");
    let job = |name, settings: &str| {
        let source = format!(
            "type = \"file\"\nformat = \"text\"\npath = \"../../{folder}\"\nmax-files-per-batch = {FILES_PER_BATCH}"
        );
        let sink = format!("type = \"file\"\nformat = \"json\"\npath = \"{name}-out\"");
        WordCount { name, settings, source: &source, sink: &sink, running: true }.write()
    };
    let (without, with) = (job("checkpoint-off", settings)?, job("checkpoint-on", &with)?);
    let run = |job: &Path| Shell::new(TIDEMILL, &["run", &job.to_string_lossy()]);
    let (mut off, mut on) = (Runs::default(), Runs::default());
    for _ in 0..options.rounds() {
        for gone in ["checkpoint", "checkpoint-on-out", "checkpoint-off-out"] {
            clear(&Path::new(FOLDER).join(gone))?;
        }
        off.add(measured("checkpoint-off", &run(&without), options.mb)?);
        on.add(measured("checkpoint-on", &run(&with), options.mb)?);
    }
    let (off, on) = (off.medians()?, on.medians()?);
    let mut figures = vec![
        Figure::new("wall time against none", on.wall_s / off.wall_s, "x").goal(Goal::AtMost(1.0 / 0.9)),
        Figure::new("cpu time against none", on.cpu_s / off.cpu_s, "x"),
        Figure::new("lines/s", data.n_lines / on.wall_s, "lines/s"),
        Figure::new("lines/s without", data.n_lines / off.wall_s, "lines/s"),
    ];
    figures.extend(recovery(if options.quick { KEYS / 100 } else { KEYS })?);
    Ok(figures)
}

/// How long a job takes to start with so many keys in its state, and to end because nothing is new.
fn recovery(n_keys: u64) -> anyhow::Result<Vec<Figure>> {
    let keys = PathBuf::from(format!("target/bench-data/keys-{n_keys}"));
    if !keys.exists() {
        fs::create_dir_all(&keys).with_context(|| format!("cannot make `{}`", keys.display()))?;
        for file in 0..KEY_FILES {
            let path = keys.join(format!("{file:02}.txt"));
            write_keys(&path, file * n_keys / KEY_FILES..(file + 1) * n_keys / KEY_FILES)
                .with_context(|| format!("cannot write `{}`", path.display()))?;
        }
    }
    let job = Path::new(FOLDER).join("recovery.toml");
    let text = format!(
        r#"# Made by `cargo xtask bench`.
[job]
name = "recovery"
batch-interval = "0"
trigger = "available-now"
checkpoint = "recovery-checkpoint"
checkpoint-batches = 1

[state]
backend = "memory"

[[source]]
name = "keys"
type = "file"
format = "text"
path = "../../{}"
max-files-per-batch = 1

[[step]]
name = "firsts"
from = "keys"
dedup = {{ by = ["value"] }}

[[step]]
name = "counted"
from = "firsts"
count = "n"

[[sink]]
from = "counted"
type = "console"
"#,
        keys.display()
    );
    fs::write(&job, text).with_context(|| format!("cannot write `{}`", job.display()))?;
    clear(&Path::new(FOLDER).join("recovery-checkpoint"))?;
    let run = Shell::new(TIDEMILL, &["run", &job.to_string_lossy()]);
    println!("$ {}", run.shown());
    let mb = n_keys * KEY_BYTES as u64 / 1_000_000;
    let first = measured("recovery-first", &run, mb)?;
    let mut again = Runs::default();
    for _ in 0..3 {
        again.add(measured("recovery", &run, mb)?);
    }
    let again = again.medians()?;
    Ok(vec![
        Figure::new("recovery: keys in state", n_keys as f64, "keys"),
        Figure::new("recovery: wall time", again.wall_s, "s").goal(Goal::AtMost(10.0)),
        Figure::new("recovery: keys/s", n_keys as f64 / again.wall_s, "keys/s"),
        Figure::new("recovery: against the time that made the state", again.wall_s / first.wall.as_secs_f64(), "x"),
        Figure::new("recovery: peak memory", again.peak_mb, "MB"),
    ])
}

fn write_keys(path: &Path, keys: std::ops::Range<u64>) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for key in keys {
        // Spread out, so that neighbours in a file are none in the state.
        let key = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(file, "{key:0width$}", width = KEY_BYTES)?;
    }
    file.flush()
}
