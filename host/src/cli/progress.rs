//! What is seen of a running job: one line that changes on a terminal, or an event a line.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidemill::scheduler::{BatchCompleted, BatchFailed, BatchStarted, BatchSubmitted, Listener, RunEnded};

use super::output::{say, say_event};
use super::run::say_ended;

/// The line is drawn when a job has run for this long, and not before: what is over by then needs no progress.
const DRAW_AFTER: Duration = Duration::from_secs(1);

/// How often it is drawn at most.
const DRAWS_PER_SECOND: u8 = 4;

/// Draws the state of a job on standard error.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn start() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {elapsed_precise} {human_pos} rows ({per_sec}) {msg}")
        {
            bar.set_style(style);
        }
        Self { bar }
    }
}

impl Listener for Progress {
    fn on_batch_completed(&self, event: &BatchCompleted) {
        self.bar.inc(event.rows_in);
        if self.bar.elapsed() < DRAW_AFTER {
            return;
        }
        self.bar.set_message(format!(
            "batch {}: {:.1} ms, waited {:.1} ms",
            event.batch_id,
            event.processing_time.as_secs_f64() * 1e3,
            event.scheduling_delay.as_secs_f64() * 1e3
        ));
    }

    fn on_batch_failed(&self, event: &BatchFailed) {
        // A batch that is not skipped ends the job, and its error is shown then.
        if event.skipped {
            self.bar.suspend(|| say(&format!("batch {} skipped\n{}", event.batch_id, event.error)));
        }
    }

    fn on_run_ended(&self, _: &RunEnded) {
        self.bar.finish_and_clear();
    }
}

/// Writes every event as a line of JSON to standard error.
pub(super) struct JsonEvents;

impl Listener for JsonEvents {
    fn on_batch_submitted(&self, event: &BatchSubmitted) {
        say_event("batch-submitted", event);
    }

    fn on_batch_started(&self, event: &BatchStarted) {
        say_event("batch-started", event);
    }

    fn on_batch_completed(&self, event: &BatchCompleted) {
        say_event("batch-completed", event);
    }

    fn on_batch_failed(&self, event: &BatchFailed) {
        say_event("batch-failed", event);
    }

    fn on_run_ended(&self, event: &RunEnded) {
        say_ended(&event.summary, event.error.as_deref());
    }
}
