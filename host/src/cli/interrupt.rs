//! How a running job is asked to stop: SIGINT, SIGTERM, or `stop` on standard input; once is graceful, twice is at once.

use std::io::{BufRead, IsTerminal, Read};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tidemill::checkpoint::Standby;
use tidemill::job::units::format_duration;
use tidemill::scheduler::{Running, StopMode};

use super::output::{say, say_event};
use super::progress::Progress;
use super::{Format, JOB_FAILED};

/// How long a job that is stopped at once may take before the process ends without it: a disk or a server may hang.
const STOP_AT_ONCE_MAX: Duration = Duration::from_secs(5);

/// Longer lines on standard input are no commands.
const LINE_BYTES_MAX: u64 = 1 << 10;

/// Takes requests to stop a job, from its start to the end of the process. Clones take them for the same job.
#[derive(Clone)]
pub(super) struct Stopper {
    /// The job, once it has started: signals are taken before, so that none ends the process as if it had no handler.
    running: Arc<OnceLock<Running>>,
    format: Format,
    progress: Progress,
    /// How long a graceful stop may take: the job's `stop-timeout`.
    timeout: Duration,
    /// How the job waits before it starts.
    standby: Standby,
    /// How often a stop was asked for, in whatever way.
    n_asked: Arc<AtomicU8>,
}

impl Stopper {
    pub(super) fn new(timeout: Duration, format: Format, progress: &Progress, standby: Standby) -> Self {
        Self { running: Arc::default(), format, progress: progress.clone(), timeout, standby, n_asked: Arc::default() }
    }

    /// The job runs: what was asked for while it started is asked of it now.
    pub(super) fn started(&self, running: &Running) {
        let _ = self.running.set(running.clone());
        if self.n_asked.load(Ordering::SeqCst) > 0 {
            // Twice is as good as once, if the request saw the job too.
            running.stop(StopMode::Graceful);
        }
    }

    /// Listens for signals, and for words on standard input unless a source reads it. What cannot be listened for is
    /// logged: the job runs anyway.
    pub(super) fn listen(&self, reads_stdin: bool) {
        let signals = Signals::new([SIGINT, SIGTERM]).and_then(|mut signals| {
            let stopper = self.clone();
            spawn("signals", move || signals.forever().for_each(|_| stopper.ask()))
        });
        if let Err(error) = signals {
            tracing::warn!(error = %error, "signals cannot be listened for: type `stop` to end the job");
        }
        if !reads_stdin && may_read_stdin() {
            let stopper = self.clone();
            let words = spawn("stdin", move || stopper.read_words(&mut std::io::stdin().lock()));
            if let Err(error) = words {
                tracing::warn!(error = %error, "standard input cannot be listened to: use signals to end the job");
            }
        }
    }

    /// Reads lines; the end of the input means nothing: a job may run without one.
    fn read_words(&self, input: &mut dyn BufRead) {
        let mut line = Vec::new();
        loop {
            line.clear();
            match Read::take(&mut *input, LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            if is_stop(&line) {
                self.ask();
            }
        }
    }

    /// Takes one request.
    fn ask(&self) {
        let count = |n: u8| Some(n.saturating_add(1));
        let n_before = self.n_asked.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).unwrap_or(u8::MAX);
        match n_before {
            0 => {
                self.tell("stopping", "stopping: what was received is processed first; once more to stop at once");
                // It may wait before it starts.
                self.standby.give_up();
                if let Some(running) = self.running.get() {
                    running.stop(StopMode::Graceful);
                }
                self.limit_time();
            }
            1 => {
                let Some(running) = self.running.get() else {
                    // It has not begun: there is nothing to break off.
                    std::process::exit(i32::from(JOB_FAILED));
                };
                running.stop(StopMode::AtOnce);
                let stopper = self.clone();
                let _ = spawn("stop-at-once", move || {
                    std::thread::sleep(STOP_AT_ONCE_MAX);
                    stopper.tell("gave-up", "the job does not end: the process ends without it");
                    std::process::exit(i32::from(JOB_FAILED));
                });
            }
            _ => {}
        }
    }

    /// Asks again when the graceful stop takes too long. Without the thread it has no time limit.
    fn limit_time(&self) {
        let stopper = self.clone();
        let _ = spawn("stop-timeout", move || {
            std::thread::sleep(stopper.timeout);
            if stopper.n_asked.load(Ordering::SeqCst) == 1 {
                let limit = format_duration(stopper.timeout);
                stopper.tell("stop-timeout", &format!("the stop takes longer than `stop-timeout`, {limit}"));
                stopper.ask();
            }
        });
    }

    fn tell(&self, event: &str, words: &str) {
        self.progress.suspend(|| match self.format {
            Format::Human => say(&format!("{words}\n")),
            Format::Json => say_event(event, serde_json::json!({ "message": words })),
        });
    }
}

fn is_stop(line: &[u8]) -> bool {
    line.trim_ascii().eq_ignore_ascii_case(b"stop")
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// Whether standard input can be read without harm: a process in the background of a terminal is halted by the system
/// when it reads from it.
fn may_read_stdin() -> bool {
    if !std::io::stdin().is_terminal() {
        return true;
    }
    // Where the system does not tell, the process was started as most are: in the foreground.
    std::fs::read_to_string("/proc/self/stat").map_or(true, |stat| is_in_foreground(&stat).unwrap_or(true))
}

/// Whether the process of a `/proc/PID/stat` line is in the foreground of its terminal.
fn is_in_foreground(stat: &str) -> Option<bool> {
    // `pid (name) state ppid pgrp session tty_nr tpgid …`; the name may hold anything, brackets too.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some(fields.get(2)? == fields.get(5)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_is_a_line_of_its_own() {
        for line in [&b"stop\n"[..], b"stop", b" STOP \r\n"] {
            assert!(is_stop(line));
        }
        for line in [&b""[..], b"\n", b"stopp\n", b"do stop\n", b"s\xffop\n"] {
            assert!(!is_stop(line));
        }
    }

    #[test]
    fn a_process_in_the_background_is_told_from_one_in_the_foreground() {
        assert_eq!(is_in_foreground("7 (tidemill) S 1 7 7 34816 7 4194304 0"), Some(true));
        assert_eq!(is_in_foreground("7 (a) b) S 1 7 7 34816 9 4194304 0"), Some(false));
        assert_eq!(is_in_foreground("7 (tidemill) S 1"), None);
        assert_eq!(is_in_foreground(""), None);
    }
}
