//! `tidemill plugin test`: runs a plugin on rows in every way in which a job may run it.

use std::path::PathBuf;

use clap::Args;
use tidemill::authoring::test::{TestRequest, Tested, test as run_test};

use super::rows::RowsArguments;
use crate::cli::output::{fail, put};
use crate::cli::progress::Progress;
use crate::cli::{ENDED_WELL, Format, JOB_FAILED, runtime};

/// What `plugin test` takes.
#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    #[command(flatten)]
    rows: RowsArguments,

    /// The rows that come out, as JSON lines.
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,

    /// Write the rows that come out to the file of those that are expected.
    #[arg(long)]
    update: bool,

    /// The step says `whole-partition = true`: partitions are not cut into calls.
    #[arg(long)]
    whole_partition: bool,

    /// Run this check alone.
    #[arg(long, value_name = "CHECK")]
    only: Option<String>,

    /// How the result is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn test(arguments: &TestArguments) -> u8 {
    let format = arguments.format;
    let tested = || -> Result<u8, u8> {
        let chosen = arguments.rows.choose(format)?;
        let name = chosen.plugin.display().to_string();
        let request = TestRequest {
            plugin: chosen.plugin,
            role: chosen.role,
            config: chosen.config,
            by: chosen.by,
            whole_partition: arguments.whole_partition,
            rows: chosen.rows,
            expected: arguments.expected.clone().or(chosen.expected),
            update: arguments.update,
            only: arguments.only.clone(),
        };
        let runtime = runtime(format)?;
        let waiting = Progress::new(format == Format::Human).wait_for("testing");
        let tested = run_test(&request, &runtime);
        drop(waiting);
        let tested = tested.map_err(|error| {
            fail(format, &error);
            super::code_of(&error)
        })?;
        let written = put(&match format {
            Format::Human => in_words(&name, &tested),
            Format::Json => format!("{}\n", as_json(&name, &tested)),
        });
        Ok(if written && tested.report.passed() { ENDED_WELL } else { JOB_FAILED })
    };
    tested().unwrap_or_else(|code| code)
}

fn in_words(name: &str, tested: &Tested) -> String {
    let Tested { role, n_rows, n_rows_out, n_rejected, updated, report } = tested;
    let written = updated.as_ref().map(|path| format!("wrote {n_rows_out} rows to {}\n", path.display()));
    format!(
        "{name}, {role}: {n_rows} rows in, {n_rows_out} out, {n_rejected} rejected\n{}{}",
        written.unwrap_or_default(),
        report.in_words(&super::again())
    )
}

fn as_json(name: &str, tested: &Tested) -> serde_json::Value {
    serde_json::json!({
        "plugin": name,
        "role": tested.role.name(),
        "rows_in": tested.n_rows,
        "rows_out": tested.n_rows_out,
        "rows_rejected": tested.n_rejected,
        "updated": tested.updated,
        "report": tested.report.as_json(),
    })
}
