//! Logs go to standard error: lines for people, or JSON.

use tracing_subscriber::EnvFilter;

use super::Format;
use super::output::say;

/// The variable that overrides what is logged.
const VARIABLE: &str = "TIDEMILL_LOG";

/// Starts logging. The command line wins over the environment, that over the job file.
///
/// `filter` is a level (`info`) or a filter as `tracing` takes it (`warn,tidemill::plugin=debug`).
pub(super) fn start(job_level: &str, argument: Option<&str>, format: Format) {
    let variable = std::env::var(VARIABLE).ok();
    let filter = argument.or(variable.as_deref()).unwrap_or(job_level);
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|error| {
        say(&format!("warning: `{filter}` is no log level ({error}): `info` is used\n"));
        EnvFilter::new("info")
    });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Logging was started before when a test runs several commands in one process: the first stands.
    let _ = match format {
        Format::Human => log.with_ansi(super::use_color()).with_target(false).compact().try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
}
