//! `tidemill check`: type-checks a job, prints its plan.

use clap::Args;
use tidemill::context::Context;

use super::output::put;
use super::progress::Progress;
use super::{ENDED_WELL, Format, JOB_FAILED, JobArguments, WRONG, logging, print_plan_errors, read, runtime};

/// What `check` takes.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    job: JobArguments,

    /// How the plan is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn check(arguments: &CheckArguments) -> u8 {
    let format = arguments.format;
    let checked = || -> Result<u8, u8> {
        let mut file = read(&arguments.job, &[], format)?;
        let progress = Progress::new(format == Format::Human);
        logging::start(&file.job.settings.log_level, None, format, &progress)?;
        let context = Context::from_job(std::mem::take(&mut file.job), runtime(format)?);
        let waiting = progress.wait_for("opening plugins");
        let checked = context.check();
        drop(waiting);
        file.job = context.into_job();
        let plan = checked.map_err(|errors| {
            print_plan_errors(&file, &errors, format);
            WRONG
        })?;
        let description = plan.describe();
        let written = put(&match format {
            Format::Human => description.to_string(),
            Format::Json => format!("{}\n", serde_json::to_string(&description).unwrap_or_default()),
        });
        Ok(if written { ENDED_WELL } else { JOB_FAILED })
    };
    checked().unwrap_or_else(|code| code)
}
