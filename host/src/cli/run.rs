//! `tidemill run`: runs a job until it ends, it is stopped, or it fails.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use tidemill::checkpoint::Standby;
use tidemill::context::Context;
use tidemill::error::Error;
use tidemill::scheduler::{RunOutcome, StartError, Summary};

use super::output::{fail, human_bytes, print_error, say, say_event};
use super::progress::{DrawnEvents, JsonEvents, Progress};
use super::requests::Requests;
use super::{ENDED_WELL, Format, JOB_FAILED, JobArguments, WRONG, logging, print_plan_errors, read, runtime};

/// What `run` takes.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    job: JobArguments,

    /// Process what is there, then end: `job.trigger=available-now`.
    #[arg(long)]
    once: bool,

    /// Wait while another process has the job's checkpoint, and go on with the job when that process ends or dies.
    #[arg(long)]
    standby: bool,

    /// How events and the summary are written, to standard error.
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// What is logged: a level, or a filter as in `warn,tidemill::plugin=debug`.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// Draw no progress line.
    #[arg(long)]
    no_progress: bool,
}

pub(super) fn run(arguments: &RunArguments) -> u8 {
    run_job(arguments).unwrap_or_else(|code| code)
}

fn run_job(arguments: &RunArguments) -> Result<u8, u8> {
    let format = arguments.format;
    let once = arguments.once.then(|| "job.trigger=available-now".to_owned());
    let mut file = read(&arguments.job, once.as_slice(), format)?;
    let has_sink = |name: &str| file.job.sinks.iter().any(|sink| sink.definition.type_name() == name);
    // Rows that are printed on the same terminal are progress enough, and the line would stand among them.
    let prints_rows = std::io::stdout().is_terminal() && has_sink("console");
    let progress = Progress::new(format == Format::Human && !arguments.no_progress && !prints_rows);
    logging::start(&file.job.settings.log_level, arguments.log_level.as_deref(), format, &progress)?;
    let stop_timeout = file.job.settings.stop_timeout;
    let reads_stdin = file.job.sources.iter().any(|source| source.definition.type_name() == "stdin");
    let mut context = Context::from_job(std::mem::take(&mut file.job), runtime(format)?);
    let waiting = progress.wait_for("opening plugins");
    let checked = context.check();
    drop(waiting);
    let plan = match checked {
        Ok(plan) => plan,
        Err(errors) => {
            file.job = context.into_job();
            print_plan_errors(&file, &errors, format);
            return Err(WRONG);
        }
    };
    match format {
        Format::Json => context.add_listener(Arc::new(JsonEvents)),
        Format::Human => context.add_listener(Arc::new(DrawnEvents::new(progress.clone()))),
    }
    let failed = |error: &Error| {
        fail(format, error);
        JOB_FAILED
    };
    let keeps_received = plan.keeps_received();
    if arguments.standby && plan.settings.checkpoint.is_none() {
        let message = "`--standby` needs a `checkpoint`: it says which process has the job";
        print_error(format, message, || format!("error: {message}\n\nhint: Add `checkpoint` to `[job]`.\n"));
        return Err(WRONG);
    }
    let standby = if arguments.standby { Standby::until_free() } else { Standby::default() };
    context.set_standby(standby.clone());
    let requests = Requests::new(stop_timeout, format, &progress, standby);
    requests.listen(reads_stdin);
    let running = match context.start_plan(plan) {
        Ok(running) => running,
        Err(error) if matches!(error.downcast_ref(), Some(StartError::Stopped)) => {
            match format {
                Format::Human => say(&format!("{error}\n")),
                Format::Json => say_event("stopped", serde_json::json!({ "message": error.to_string() })),
            }
            return Ok(ENDED_WELL);
        }
        Err(error) => return Err(failed(&error)),
    };
    requests.started(&running);
    let summary = running.await_termination().map_err(|error| failed(&error))?;
    if format == Format::Human {
        say(&in_words(&summary));
    }
    Ok(match summary.outcome {
        RunOutcome::Completed => ENDED_WELL,
        // What was received and not published is lost, or comes later: a script must be able to tell.
        RunOutcome::StoppedAtOnce => {
            if format == Format::Human {
                let becomes = if keeps_received { "comes with the next run" } else { "is lost" };
                say(&format!("stopped at once: what was received and not published {becomes}\n"));
            }
            JOB_FAILED
        }
    })
}

/// The last lines: what was done, and what was wrong with the input.
fn in_words(summary: &Summary) -> String {
    use std::fmt::Write;
    let rate = if summary.elapsed_seconds > 0.0 { summary.rows_in as f64 / summary.elapsed_seconds } else { 0.0 };
    let mut text = format!(
        "{} rows in, {} rows out, {:.0} rows/s, {} batches in {:.1} s, batch time p50 {:.1} ms p99 {:.1} ms",
        summary.rows_in,
        summary.rows_out,
        rate,
        summary.batches,
        summary.elapsed_seconds,
        summary.batch_seconds_p50 * 1e3,
        summary.batch_seconds_p99 * 1e3,
    );
    if let Some(bytes) = summary.peak_memory_bytes {
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, ", peak memory {}", human_bytes(bytes));
    }
    text.push('\n');
    if summary.spill.rows_total > 0 {
        let spill = &summary.spill;
        let (peak, total) = (human_bytes(spill.disk_bytes_peak), human_bytes(spill.disk_bytes_total));
        let _ = writeln!(
            text,
            "{} rows were spilled: {total} to disk, at most {peak} at once; rows of batches took {} of memory",
            spill.rows_total,
            human_bytes(spill.memory_bytes_peak)
        );
    }
    if summary.batches_skipped > 0 {
        let _ = writeln!(text, "{} batches were skipped: none of their rows reached a sink", summary.batches_skipped);
    }
    for step in summary.steps.iter().filter(|step| step.rows_late > 0) {
        let _ = writeln!(text, "step {}: {} rows came too late", step.step, step.rows_late);
    }
    for step in summary.steps.iter().filter(|step| step.rows_dead_lettered > 0) {
        let _ = writeln!(text, "step {}: {} rows were set aside as dead letters", step.step, step.rows_dead_lettered);
    }
    for step in summary.steps.iter().filter(|step| step.rows_rejected > 0) {
        let _ = writeln!(text, "step {}: {} rows were rejected", step.step, step.rows_rejected);
    }
    for source in &summary.sources {
        let counts = &source.counts;
        let notes = [
            (counts.invalid_utf8_lines, "lines were not UTF-8"),
            (counts.refused_lines, "lines were longer than `max-line-bytes` and refused"),
            (counts.cut_lines, "lines were cut off by a broken connection and dropped"),
            (counts.rejected_rows, "rows did not fit the schema and were rejected"),
            (counts.refused_objects, "files were refused"),
        ];
        for (n, what) in notes.iter().filter(|(n, _)| *n > 0) {
            let _ = writeln!(text, "source {}: {n} {what}", source.source);
        }
    }
    text
}

/// The summary as an event, for [`JsonEvents`].
pub(super) fn say_ended(summary: &Summary, error: Option<&str>) {
    say_event("ended", serde_json::json!({ "summary": summary, "error": error }));
}
