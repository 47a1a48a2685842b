//! `tidemill checkpoint`: looks into a checkpoint without changing it.

use clap::{Args, Subcommand};
use tidemill::checkpoint::{Inspection, Place, Verification, inspect, verify};
use tidemill::error::Error;
use tidemill::write_ahead_log::LogInspection;

use super::output::{fail, human_bytes, human_count, print_error, put};
use super::{ENDED_WELL, Format, JOB_FAILED, WRONG, export_state, replay};

/// What can be done with a checkpoint.
#[derive(Debug, Subcommand)]
pub(super) enum CheckpointCommand {
    /// Print what it holds: the job, its steps with state, the batches and what they read.
    Inspect(CheckpointArguments),
    /// Read every file of it, and say what is damaged and how much state there is.
    Verify(CheckpointArguments),
    /// Run an old batch again, from the state before it, into no sink: show what it gives, or what another plugin or key changes.
    Replay(replay::ReplayArguments),
    /// Write what steps keep as lines of JSON, as it was behind the last batch that is done.
    ExportState(export_state::ExportArguments),
}

/// Which checkpoint.
#[derive(Debug, Args)]
pub(super) struct CheckpointArguments {
    /// The folder, or the URL as in `s3://bucket/folder`, as `checkpoint` of the job names it. How a store is reached, the
    /// environment says: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL.
    #[arg(value_name = "FOLDER")]
    folder: String,

    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn checkpoint(command: &CheckpointCommand) -> u8 {
    let (arguments, answer): (_, fn(&Place, Format) -> Answer) = match command {
        CheckpointCommand::Replay(arguments) => return replay::run(arguments),
        CheckpointCommand::ExportState(arguments) => return export_state::run(arguments),
        CheckpointCommand::Inspect(arguments) => (arguments, inspected),
        CheckpointCommand::Verify(arguments) => (arguments, verified),
    };
    let format = arguments.format;
    let place = match Place::parse(&arguments.folder) {
        Ok(place) => place,
        Err(mistake) => {
            let message = format!("`{}` {mistake}", arguments.folder);
            let hint = mistake.hint.map_or_else(String::new, |hint| format!("\nhint: {hint}\n"));
            print_error(format, &message, || format!("error: {message}\n{hint}"));
            return WRONG;
        }
    };
    match answer(&place, format) {
        Ok((text, code)) => {
            if put(&text) {
                code
            } else {
                JOB_FAILED
            }
        }
        Err(error) => {
            fail(format, &error);
            JOB_FAILED
        }
    }
}

type Answer = Result<(String, u8), Error>;

fn inspected(place: &Place, format: Format) -> Answer {
    let inspection = inspect(place)?;
    let text = match format {
        Format::Human => inspection_in_words(&inspection),
        Format::Json => format!("{}\n", serde_json::json!(inspection)),
    };
    Ok((text, ENDED_WELL))
}

fn verified(place: &Place, format: Format) -> Answer {
    let verification = verify(place)?;
    let code = if verification.damage.is_empty() { ENDED_WELL } else { JOB_FAILED };
    let text = match format {
        Format::Human => verification_in_words(&verification),
        Format::Json => format!("{}\n", serde_json::json!(verification)),
    };
    Ok((text, code))
}

fn inspection_in_words(inspection: &Inspection) -> String {
    let mut lines = vec![format!("job      {}", inspection.job.as_deref().unwrap_or("none"))];
    for step in &inspection.steps {
        lines.push(format!("step     {}, {} partitions: {}", step.step, step.partitions, step.keeps));
    }
    if let Some(lease) = &inspection.lease {
        let had = if lease.released { "let go by" } else { "taken by" };
        lines.push(format!("lease    {had} {}, term {}", lease.owner, lease.term));
    }
    let n_bytes: u64 = inspection.runs.iter().map(|(.., n_bytes)| n_bytes).sum();
    lines.push(format!("state    {} in {} runs", human_bytes(n_bytes), inspection.runs.len()));
    lines.extend(log_in_words(&inspection.log));
    for (index, batch) in inspection.batches.iter().enumerate() {
        let time = tidemill::clock::describe_time(batch.batch_time_us);
        if let Some(first) = batch.idle_from {
            // The last of a row stands for it.
            let next = inspection.batches.get(index + 1);
            if next.is_none_or(|next| next.idle_from != batch.idle_from) {
                let several =
                    if first == batch.batch_id { String::new() } else { format!(" to {}, the last", batch.batch_id) };
                lines.push(format!("batch    {first}{several} of {time}: no rows, and nothing changed"));
            }
            continue;
        }
        let done = match batch.rows {
            Some((rows_in, rows_out)) => format!("{} rows in, {} out", human_count(rows_in), human_count(rows_out)),
            None => "begun, not done: a restart runs it again".to_owned(),
        };
        lines.push(format!("batch    {} of {time}: {done}", batch.batch_id));
        lines.extend(batch.reads.iter().map(|(source, reads)| format!("           {source}: {reads}")));
    }
    lines.join("\n") + "\n"
}

/// What of each receiver is in the write-ahead log.
fn log_in_words(log: &LogInspection) -> Vec<String> {
    let rows = log.sources.iter().map(|source| match source.end_row - source.first_row {
        _ if source.lost_rows > 0 => {
            let (all, lost) = (human_count(source.end_row), human_count(source.lost_rows));
            format!(
                "log      {}: {all} rows received, at least {lost} of them lost before a batch had them",
                source.source
            )
        }
        0 => format!("log      {}: {} rows received, none kept", source.source, human_count(source.end_row)),
        _ => {
            let (start, end) = (source.first_row, source.end_row);
            format!("log      {}: {} rows received, rows {start} to {end} kept", source.source, human_count(end))
        }
    });
    let files =
        (log.files > 0).then(|| format!("log      {} in {} files", human_bytes(log.bytes), human_count(log.files)));
    let missing = log.missing_file.iter().map(|file| format!("log      file {file}, the last, is not there"));
    files.into_iter().chain(missing).chain(rows).collect()
}

fn verification_in_words(verification: &Verification) -> String {
    let mut lines =
        vec![format!("read     {} files, {}", human_count(verification.files), human_bytes(verification.bytes))];
    for (step, (entries, n_bytes)) in &verification.state {
        lines.push(format!("state    {step}: {} entries, {}", human_count(*entries), human_bytes(*n_bytes)));
    }
    lines.extend(log_in_words(&verification.log));
    if verification.damage.is_empty() {
        lines.push("damage   none".into());
    }
    lines.extend(verification.damage.iter().map(|damage| format!("damage   {damage}")));
    lines.join("\n") + "\n"
}
