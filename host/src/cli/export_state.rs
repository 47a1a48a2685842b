//! `tidemill checkpoint export-state`: writes what steps keep, for people and their tools.

use std::io::{BufWriter, Write};

use clap::Args;
use tidemill::context::Context;
use tidemill::ids::BatchId;
use tidemill::scheduler::export_state;

use super::output::fail;
use super::progress::Progress;
use super::{ENDED_WELL, Format, JOB_FAILED, JobArguments, WRONG, logging, print_plan_errors, read, runtime};

/// What `export-state` takes.
#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    job: JobArguments,

    /// Only what this step keeps.
    #[arg(long, value_name = "NAME")]
    step: Option<String>,

    /// As it was behind this batch, one that the checkpoint has kept.
    #[arg(long, value_name = "NUMBER")]
    batch: Option<u64>,

    /// How errors are written; state is JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &ExportArguments) -> u8 {
    run_or_code(arguments).unwrap_or_else(|code| code)
}

fn run_or_code(arguments: &ExportArguments) -> Result<u8, u8> {
    let format = arguments.format;
    let mut file = read(&arguments.job, &[], format)?;
    let progress = Progress::new(format == Format::Human);
    logging::start(&file.job.settings.log_level, None, format, &progress)?;
    let context = Context::from_job(std::mem::take(&mut file.job), runtime(format)?);
    let plan = context.check();
    file.job = context.into_job();
    let plan = plan.map_err(|errors| {
        print_plan_errors(&file, &errors, format);
        WRONG
    })?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    // When standard output is closed, nobody reads on.
    let mut is_open = true;
    let exported = export_state(&plan, arguments.step.as_deref(), arguments.batch.map(BatchId), |entry| {
        let line = serde_json::to_string(entry).unwrap_or_else(|error| unreachable!("entries are plain data: {error}"));
        is_open = writeln!(out, "{line}").is_ok();
        is_open
    });
    exported.map_err(|error| {
        fail(format, &error);
        JOB_FAILED
    })?;
    Ok(if is_open && out.flush().is_ok() { ENDED_WELL } else { JOB_FAILED })
}
