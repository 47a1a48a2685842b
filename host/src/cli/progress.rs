//! What is seen of a running job: one line that changes on a terminal, or an event a line.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidemill::clock::{Clock, SystemClock};
use tidemill::scheduler::{
    BatchCompleted, BatchFailed, BatchRetried, BatchStarted, BatchSubmitted, Listener, PluginsReloaded, ReloadUndone,
    RunEnded,
};
use tidemill::source::SourceEvent;

use super::output::{human_count, human_seconds, say, say_event};
use super::run::say_ended;

/// What has taken this long is shown to be under way, and not before: what is over by then needs no progress.
const DRAW_AFTER: Duration = Duration::from_secs(1);

/// How often the line is drawn at most.
const DRAWS_PER_SECOND: u8 = 4;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(250);

/// The rate that is shown is that of this long.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// The line at the foot of the terminal, on standard error. Clones draw the same line; where there is no terminal, or
/// nobody wants it, nothing is drawn.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(is_wanted: bool) -> Self {
        if !is_wanted || !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
        // The template is a constant and right; an error would leave the default style.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Shows that something is under way, if it takes long, until what is returned is dropped.
    pub(super) fn wait_for(&self, what: &'static str) -> Waiting {
        let (done, is_done) = channel::<()>();
        let progress = self.clone();
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            if is_done.recv_timeout(DRAW_AFTER) == Err(RecvTimeoutError::Timeout) {
                progress.draw(what.into());
                // An error is the word: the sender has been dropped.
                let _ = is_done.recv();
                progress.clear();
            }
        });
        // Without a thread nothing is shown, and nothing else is lost.
        Waiting { done: Some(done), thread: thread.ok() }
    }

    fn draw(&self, line: String) {
        if self.bar.is_hidden() {
            return;
        }
        if self.bar.is_finished() {
            self.bar.reset();
        }
        self.bar.set_message(line);
        self.bar.enable_steady_tick(TICK);
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }

    /// Does something while the line is away: writing other lines.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

/// Something under way; when it is dropped its line goes.
pub(super) struct Waiting {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.done.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been shown, and takes nothing with it.
            let _ = thread.join();
        }
    }
}

/// Draws the state of a job.
pub(super) struct DrawnEvents {
    progress: Progress,
    clock: Arc<dyn Clock>,
    /// Some events a second, all from the runner's thread.
    seen: Mutex<Seen>,
}

impl DrawnEvents {
    pub(super) fn new(progress: Progress) -> Self {
        let clock = SystemClock::new();
        Self { progress, clock: Arc::new(clock), seen: Mutex::default() }
    }
}

impl Listener for DrawnEvents {
    fn on_batch_completed(&self, event: &BatchCompleted) {
        let now = self.clock.monotonic();
        // What was seen is right after a panic too.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.add(now, event);
        // The clock started with the job.
        if now >= DRAW_AFTER {
            self.progress.draw(seen.line(now, event));
        }
    }

    fn on_batch_failed(&self, event: &BatchFailed) {
        // A batch that is not skipped ends the job, and its error is shown then.
        if event.skipped {
            self.progress.suspend(|| say(&format!("batch {} skipped\n{}", event.batch_id, event.error)));
        }
    }

    fn on_run_ended(&self, _: &RunEnded) {
        self.progress.clear();
    }
}

/// What has been seen of a job's batches.
#[derive(Debug, Default)]
struct Seen {
    rows_in: u64,
    /// When batches ended and their rows, within [`RATE_WINDOW`].
    recent: VecDeque<(Duration, u64)>,
}

impl Seen {
    fn add(&mut self, now: Duration, event: &BatchCompleted) {
        self.rows_in += event.rows_in;
        self.recent.push_back((now, event.rows_in));
        while self.recent.front().is_some_and(|(ended, _)| now.saturating_sub(*ended) > RATE_WINDOW) {
            self.recent.pop_front();
        }
    }

    /// The line that is drawn `now`, when the last batch was `event`.
    fn line(&self, now: Duration, event: &BatchCompleted) -> String {
        let rows: u64 = self.recent.iter().map(|(_, rows)| rows).sum();
        let rate = rows as f64 / RATE_WINDOW.min(now).as_secs_f64();
        format!(
            "{} rows, {} rows/s, batch {}: {}, waited {}",
            human_count(self.rows_in),
            human_count(rate.round() as u64),
            event.batch_id,
            human_seconds(event.processing_time.as_secs_f64()),
            human_seconds(event.scheduling_delay.as_secs_f64()),
        )
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

    fn on_batch_retried(&self, event: &BatchRetried) {
        say_event("batch-retried", event);
    }

    fn on_plugins_reloaded(&self, event: &PluginsReloaded) {
        say_event("plugins-reloaded", event);
    }

    fn on_reload_undone(&self, event: &ReloadUndone) {
        say_event("reload-undone", event);
    }

    fn on_batch_failed(&self, event: &BatchFailed) {
        say_event("batch-failed", event);
    }

    fn on_source_event(&self, source: &str, event: &SourceEvent) {
        match event {
            SourceEvent::Failed { error, retry_in } => {
                let retry_in_seconds = retry_in.as_secs_f64();
                let fields =
                    serde_json::json!({ "source": source, "error": error, "retry_in_seconds": retry_in_seconds });
                say_event("source-failed", fields);
            }
            SourceEvent::Ended => say_event("source-ended", serde_json::json!({ "source": source })),
            SourceEvent::Stopped => say_event("source-stopped", serde_json::json!({ "source": source })),
        }
    }

    fn on_run_ended(&self, event: &RunEnded) {
        say_ended(&event.summary, event.error.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill::ids::BatchId;

    fn completed(batch: u64, rows_in: u64) -> BatchCompleted {
        BatchCompleted {
            batch_id: BatchId(batch),
            batch_time_us: 0,
            rows_in,
            rows_dead_lettered: 0,
            rows_out: 0,
            n_tasks: 1,
            scheduling_delay: Duration::from_millis(2),
            processing_time: Duration::from_millis(35),
            spill: tidemill::spill::SpillCounts::default(),
        }
    }

    #[test]
    fn the_line_shows_the_rate_of_the_last_seconds() {
        let mut seen = Seen::default();
        let mut check = |second: u64, batch: u64, expected: &str| {
            let (now, event) = (Duration::from_secs(second), completed(batch, 5_000));
            seen.add(now, &event);
            assert_eq!(seen.line(now, &event), expected);
        };
        check(2, 0, "5,000 rows, 2,500 rows/s, batch 0: 35.0 ms, waited 2.0 ms");
        check(6, 1, "10,000 rows, 2,000 rows/s, batch 1: 35.0 ms, waited 2.0 ms");
        check(8, 2, "15,000 rows, 2,000 rows/s, batch 2: 35.0 ms, waited 2.0 ms");
    }
}
