//! `tidemill checkpoint replay`: runs an old batch again, and shows what it gives, or what another plugin or key changes.

use std::path::PathBuf;

use clap::Args;
use similar::{ChangeTag, TextDiff};
use tidemill::context::Context;
use tidemill::error::Error;
use tidemill::ids::BatchId;
use tidemill::job::file::{JobFile, plugin_keys, plugin_steps};
use tidemill::job::nearest::{list, nearest};
use tidemill::plan::Plan;
use tidemill::plugin::Runtime;
use tidemill::scheduler::{Replayed, replay};

use super::output::{fail, human_count, print_error, put};
use super::progress::Progress;
use super::{ENDED_WELL, Format, JOB_FAILED, JobArguments, WRONG, logging, print_plan_errors, read, runtime};

/// What `replay` takes.
#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    job: JobArguments,

    /// The batch, one that the checkpoint has kept; `tidemill checkpoint inspect` lists them.
    #[arg(long, value_name = "NUMBER")]
    batch: u64,

    /// Run it with another plugin too, and show what that changes; for several steps several times.
    #[arg(long = "plugin", value_name = "STEP=PLUGIN.wasm", value_parser = parse_plugin)]
    plugins: Vec<(String, PathBuf)>,

    /// Run it with a key of the job file changed too, as in `step.words.config.lowercase=false`, and show what that changes.
    #[arg(long = "change", value_name = "KEY=VALUE")]
    changes: Vec<String>,

    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn parse_plugin(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((step, path)) if !step.is_empty() && !path.is_empty() => Ok((step.to_owned(), path.into())),
        _ => Err("write STEP=PLUGIN.wasm".to_owned()),
    }
}

pub(super) fn run(arguments: &ReplayArguments) -> u8 {
    run_or_code(arguments).unwrap_or_else(|code| code)
}

fn run_or_code(arguments: &ReplayArguments) -> Result<u8, u8> {
    let format = arguments.format;
    let mut file = read(&arguments.job, &[], format)?;
    let progress = Progress::new(format == Format::Human);
    logging::start(&file.job.settings.log_level, None, format, &progress)?;
    let changes = [plugin_changes(arguments, &file)?, arguments.changes.clone()].concat();
    let runtime = runtime(format)?;
    let failed = |error: Error| {
        fail(format, &error);
        JOB_FAILED
    };
    let waiting = progress.wait_for("running the batch again");
    let replayed = replay(plan(&mut file, &runtime, format)?, BatchId(arguments.batch)).map_err(failed)?;
    let text = if changes.is_empty() {
        drop(waiting);
        shown(&replayed, format).map_err(failed)?
    } else {
        let mut changed = read(&arguments.job, &changes, format)?;
        let other = replay(plan(&mut changed, &runtime, format)?, BatchId(arguments.batch)).map_err(failed)?;
        drop(waiting);
        let (text, n_differing) = compared(&replayed, &other, format).map_err(failed)?;
        if n_differing > 0 {
            put(&text);
            return Err(JOB_FAILED);
        }
        text
    };
    Ok(if put(&text) { ENDED_WELL } else { JOB_FAILED })
}

fn plan(file: &mut JobFile, runtime: &Runtime, format: Format) -> Result<Plan, u8> {
    let context = Context::from_job(std::mem::take(&mut file.job), runtime.clone());
    let checked = context.check();
    file.job = context.into_job();
    checked.map_err(|errors| {
        print_plan_errors(file, &errors, format);
        WRONG
    })
}

/// What `--plugin` says, as what `--set` takes.
fn plugin_changes(arguments: &ReplayArguments, file: &JobFile) -> Result<Vec<String>, u8> {
    let wrong_with = |message: String, hint: &str| {
        print_error(arguments.format, &message, || format!("error: {message}\n{hint}"));
        WRONG
    };
    let wrong = |message: String| wrong_with(message, "");
    let mut changes = Vec::new();
    for (step, path) in &arguments.plugins {
        let keys = plugin_keys(&file.text, step);
        let key = match keys.as_slice() {
            [key] => key,
            [] => {
                let hint = plugin_steps_hint(step, &plugin_steps(&file.text));
                return Err(wrong_with(format!("the job has no step `{step}` with a plugin"), &hint));
            }
            several => {
                let several = several.join("`, `");
                return Err(wrong(format!(
                    "step `{step}` has several plugins: `{several}`; say which with `--change step.{step}.KEY=PLUGIN.wasm`"
                )));
            }
        };
        // Paths of a job file are relative to it, those of the command line are not.
        let path = std::path::absolute(path).map_err(|error| wrong(format!("`{}`: {error}", path.display())))?;
        let path = path.to_str().ok_or_else(|| wrong(format!("`{}` is no text", path.display())))?;
        changes.push(format!("step.{step}.{key}={}", serde_json::Value::from(path)));
    }
    Ok(changes)
}

/// Which step may have been meant, of those with a plugin.
fn plugin_steps_hint(step: &str, steps: &[String]) -> String {
    if steps.is_empty() {
        return "\nhint: No step of the job has a plugin. With `--change KEY=VALUE` any other key of it can be another.\n".to_owned();
    }
    let near = nearest(step, steps.iter().map(String::as_str));
    let near = near.map_or_else(String::new, |near| format!("Did you mean `{near}`? "));
    format!("\nhint: {near}Steps with a plugin: {}.\n", list(steps))
}

fn heading(replayed: &Replayed) -> String {
    let time = tidemill::clock::describe_time(replayed.batch_time_us);
    format!("batch {} of {time}: {} rows in\n", replayed.batch_id, human_count(replayed.rows_in))
}

/// What each sink would have got.
fn shown(replayed: &Replayed, format: Format) -> Result<String, Error> {
    let mut text = if format == Format::Human { heading(replayed) } else { String::new() };
    for sink in &replayed.sinks {
        let lines = sink.json_lines()?;
        match format {
            Format::Human => {
                text += &format!("sink {}: {} rows\n{lines}", sink.sink, human_count(lines.lines().count() as u64));
            }
            Format::Json => {
                let rows: Vec<serde_json::Value> =
                    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
                text += &format!("{}\n", serde_json::json!({ "sink": sink.sink, "rows": rows }));
            }
        }
    }
    Ok(text)
}

/// What differs between two runs, and how many rows do.
fn compared(before: &Replayed, after: &Replayed, format: Format) -> Result<(String, usize), Error> {
    let mut text = if format == Format::Human { heading(before) } else { String::new() };
    let mut n_differing = 0;
    for (before, after) in before.sinks.iter().zip(&after.sinks) {
        let (old, new) = (before.json_lines()?, after.json_lines()?);
        let diff = TextDiff::from_lines(&old, &new);
        let of = |tag| {
            diff.iter_all_changes().filter(move |change| change.tag() == tag).map(|change| change.value().trim_end())
        };
        let (gone, come): (Vec<&str>, Vec<&str>) = (of(ChangeTag::Delete).collect(), of(ChangeTag::Insert).collect());
        let sorted = |rows: &[&str]| {
            let mut rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            rows.sort_unstable();
            rows
        };
        // In other partitions they come in another order.
        let is_reordered = !gone.is_empty() && sorted(&gone) == sorted(&come);
        let (gone, come) = if is_reordered { (Vec::new(), Vec::new()) } else { (gone, come) };
        n_differing += gone.len() + come.len();
        let n_rows = human_count(old.lines().count() as u64);
        match format {
            Format::Human if gone.is_empty() && come.is_empty() => {
                let in_order = if is_reordered { " in another order" } else { "" };
                text += &format!("sink {}: {n_rows} rows, the same{in_order}\n", before.sink);
            }
            Format::Human => {
                let (n_gone, n_come) = (human_count(gone.len() as u64), human_count(come.len() as u64));
                text += &format!("sink {}: {n_rows} rows, {n_gone} of them gone, {n_come} new\n", before.sink);
                text += &diff.unified_diff().context_radius(0).to_string();
            }
            Format::Json => {
                let rows = |lines: &[&str]| {
                    lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<serde_json::Value>>()
                };
                let line = serde_json::json!({ "sink": before.sink, "gone": rows(&gone), "new": rows(&come) });
                text += &format!("{line}\n");
            }
        }
    }
    Ok((text, n_differing))
}
