//! What a running job is asked: to stop, by SIGINT, SIGTERM, or `stop` on standard input, once gracefully, twice at once; to load its
//! plugins anew, by SIGHUP, or `reload` on standard input.

use std::io::{BufRead, IsTerminal, Read};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
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

/// Takes requests to a job, from its start to the end of the process. Clones take them for the same job.
#[derive(Clone)]
pub(super) struct Requests {
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

impl Requests {
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
        // On a terminal SIGHUP says that it is gone, and ends the job as it ends others.
        let is_on_terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
        let taken = [SIGINT, SIGTERM].into_iter().chain((!is_on_terminal).then_some(SIGHUP));
        let signals = Signals::new(taken).and_then(|mut signals| {
            let requests = self.clone();
            spawn("signals", move || {
                signals.forever().for_each(|signal| match signal {
                    SIGHUP => requests.reload(),
                    _ => requests.ask(),
                });
            })
        });
        if let Err(error) = signals {
            tracing::warn!(error = %error, "signals cannot be listened for: type `stop` to end the job");
        }
        if !reads_stdin && may_read_stdin() {
            let requests = self.clone();
            let words = spawn("stdin", move || requests.read_words(&mut std::io::stdin().lock()));
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
            if is_word(&line, b"stop") {
                self.ask();
            } else if is_word(&line, b"reload") {
                self.reload();
            }
        }
    }

    /// Loads plugins anew, in a thread of its own: a stop must not wait for it.
    fn reload(&self) {
        let Some(running) = self.running.get().cloned() else {
            return self.tell("not-reloaded", "the job has not started: its plugins are loaded when it does");
        };
        let requests = self.clone();
        let spawned = spawn("reload", move || match running.reload() {
            Ok(changed) if changed.is_empty() => {
                requests.tell("not-reloaded", "no plugin has changed: nothing is loaded anew");
            }
            Ok(changed) => {
                let steps: Vec<&str> = changed.iter().map(|changed| changed.step.as_str()).collect();
                let steps = steps.join("`, `");
                requests.tell("reloading", &format!("the plugins of `{steps}` run anew from the next batch on"));
            }
            Err(error) => {
                let words = format!("{}the job goes on with the plugins that it has", error.report());
                requests.tell("not-reloaded", &words);
            }
        });
        if let Err(error) = spawned {
            self.tell("not-reloaded", &format!("plugins are not loaded anew: the system gives no thread: {error}"));
        }
    }

    /// Takes one request to stop.
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
                let requests = self.clone();
                let _ = spawn("stop-at-once", move || {
                    std::thread::sleep(STOP_AT_ONCE_MAX);
                    requests.tell("gave-up", "the job does not end: the process ends without it");
                    std::process::exit(i32::from(JOB_FAILED));
                });
            }
            _ => {}
        }
    }

    /// Asks again when the graceful stop takes too long. Without the thread it has no time limit.
    fn limit_time(&self) {
        let requests = self.clone();
        let _ = spawn("stop-timeout", move || {
            std::thread::sleep(requests.timeout);
            if requests.n_asked.load(Ordering::SeqCst) == 1 {
                let limit = format_duration(requests.timeout);
                requests.tell("stop-timeout", &format!("the stop takes longer than `stop-timeout`, {limit}"));
                requests.ask();
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

fn is_word(line: &[u8], word: &[u8]) -> bool {
    line.trim_ascii().eq_ignore_ascii_case(word)
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
            assert!(is_word(line, b"stop"));
        }
        for line in [&b""[..], b"\n", b"stopp\n", b"do stop\n", b"s\xffop\n"] {
            assert!(!is_word(line, b"stop"));
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
