//! Logs go to standard error: lines for people, or JSON. They do not tear the progress line.

use std::io::{self, Write};

use tidemill::job::settings::log_level_mistake;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::output::print_error;
use super::progress::Progress;
use super::{Format, WRONG};

/// The variable that overrides what is logged.
const VARIABLE: &str = "TIDEMILL_LOG";

/// Starts logging. The command line wins over the environment, that over the job file.
///
/// A filter is a level (`info`) or what `tracing` takes (`warn,tidemill::plugin=debug`); a wrong one is printed.
pub(super) fn start(job: &str, argument: Option<&str>, format: Format, progress: &Progress) -> Result<(), u8> {
    let variable = std::env::var(VARIABLE).ok();
    let filter = choose(argument, variable.as_deref(), job).map_err(|(message, hint)| {
        let hint = hint.map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
        print_error(format, &message, || format!("error: {message}\n{hint}"));
        WRONG
    })?;
    // It has been checked: an error here would only show less.
    // What the store on disk does from minute to minute, and that a request to an object store is tried again, tells nobody
    // anything, unless it is asked for by name.
    let mut filter = filter.to_owned();
    for (name, quiet) in [("fjall", ",fjall=error,lsm_tree=error"), ("object_store", ",object_store=warn")] {
        if !filter.contains(name) {
            filter.push_str(quiet);
        }
    }
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(LogWriter { progress: progress.clone() });
    // Logging was started before when a test runs several commands in one process: the first stands.
    let _ = match format {
        Format::Human => log.with_ansi(super::use_color()).with_target(false).compact().try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// The filter that holds; what is wrong with it, and what to write instead.
fn choose<'a>(
    argument: Option<&'a str>,
    variable: Option<&'a str>,
    job: &'a str,
) -> Result<&'a str, (String, Option<String>)> {
    let variable = variable.filter(|filter| !filter.is_empty());
    let (place, filter) = match (argument, variable) {
        (Some(filter), _) => ("--log-level", filter),
        (None, Some(filter)) => (VARIABLE, filter),
        (None, None) => ("log-level", job),
    };
    match log_level_mistake(filter) {
        Some((message, hint)) => Err((format!("`{place}`: {message}"), hint)),
        None => Ok(filter),
    }
}

/// Writes entries of the log while the progress line is away.
struct LogWriter {
    progress: Progress,
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogEntry<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LogEntry { progress: &self.progress, bytes: Vec::new() }
    }
}

/// One entry of the log, written whole when it is dropped.
struct LogEntry<'a> {
    progress: &'a Progress,
    bytes: Vec<u8>,
}

impl Write for LogEntry<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogEntry<'_> {
    fn drop(&mut self) {
        // When standard error is closed there is nobody left to tell.
        self.progress.suspend(|| _ = io::stderr().lock().write_all(&self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(argument: Option<&str>, variable: Option<&str>, expected: Result<&str, &str>) {
        let found = choose(argument, variable, "info").map_err(|(message, _)| message);
        assert_eq!(found, expected.map_err(String::from));
    }

    #[test]
    fn the_command_line_wins_over_the_environment_over_the_job() {
        check(None, None, Ok("info"));
        check(None, Some(""), Ok("info"));
        check(None, Some("debug"), Ok("debug"));
        check(Some("warn"), Some("debug"), Ok("warn"));
        check(Some("warn,tidemill::plugin=trace"), None, Ok("warn,tidemill::plugin=trace"));
        check(Some("loud"), None, Err("`--log-level`: `loud` is not a log level"));
        check(None, Some("loud"), Err("`TIDEMILL_LOG`: `loud` is not a log level"));
    }
}
