//! `tidemill plugin bench`: times a plugin.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidemill::authoring::bench::{Bench, BenchRequest, Measured, bench as run_bench};

use super::rows::RowsArguments;
use crate::cli::output::{fail, human_bytes, human_count, human_seconds, put};
use crate::cli::progress::Progress;
use crate::cli::{ENDED_WELL, Format, JOB_FAILED};

/// What `plugin bench` takes.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    rows: RowsArguments,

    /// Another plugin, to compare it with.
    #[arg(long, value_name = "OTHER.wasm")]
    vs: Option<PathBuf>,

    /// How long each plugin runs.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// How the result is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn bench(arguments: &BenchArguments) -> u8 {
    let format = arguments.format;
    let measured = || -> Result<u8, u8> {
        let chosen = arguments.rows.choose(format)?;
        let request = BenchRequest {
            plugin: chosen.plugin,
            versus: arguments.vs.clone(),
            role: chosen.role,
            config: chosen.config,
            by: chosen.by,
            rows: chosen.rows,
            time: Duration::from_secs(arguments.seconds),
        };
        let waiting = Progress::new(format == Format::Human).wait_for("measuring");
        let bench = run_bench(&request);
        drop(waiting);
        let bench = bench.map_err(|error| {
            fail(format, &error);
            super::code_of(&error)
        })?;
        let written = put(&match format {
            Format::Human => in_words(&bench),
            Format::Json => format!("{}\n", serde_json::to_string(&bench).unwrap_or_default()),
        });
        Ok(if written { ENDED_WELL } else { JOB_FAILED })
    };
    measured().unwrap_or_else(|code| code)
}

/// A line of the table: what it is called, and how it is shown of a plugin.
type Line = (&'static str, fn(&Measured) -> String);

const LINES: [Line; 9] = [
    ("rows/s", |m| human_count(m.rows_per_second as u64)),
    ("ns a row", |m| format!("{:.1}", m.nanoseconds_per_row)),
    ("bytes in, a row", |m| format!("{:.1}", m.in_bytes_per_row)),
    ("bytes out, a row", |m| format!("{:.1}", m.out_bytes_per_row)),
    ("memory", |m| human_bytes(m.memory_bytes)),
    ("compile", |m| human_seconds(m.compile_seconds)),
    ("instantiate", |m| human_time(m.instantiate_seconds)),
    ("size", |m| human_bytes(m.size_bytes)),
    ("plugin", |m| m.plugin.clone()),
];

/// A time that may be much less than a millisecond.
fn human_time(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.1} us", seconds * 1e6) } else { human_seconds(seconds) }
}

fn in_words(bench: &Bench) -> String {
    let mut text = String::new();
    for (name, show) in LINES {
        let one = show(&bench.plugin);
        // Writing to a String cannot fail.
        let _ = match &bench.versus {
            Some(versus) => writeln!(text, "{name:<18}{one:<28}{}", show(versus)),
            None => writeln!(text, "{name:<18}{one}"),
        };
    }
    if let (Some(ratio), Some(versus)) = (bench.ratio, &bench.versus) {
        let _ = writeln!(text, "{} is {ratio:.2} x as fast as {}", bench.plugin.plugin, versus.plugin);
    }
    let _ = writeln!(text, "batches of {} rows; medians", human_count(bench.batch_rows));
    text
}
