//! What a guest writes: line by line to the job's log, counted against its limit, the last of it kept for a trap's message.

use std::mem;
use std::sync::Arc;

use crate::ids::{BatchId, PartitionId};
use crate::operator::{Call, StepInfo};
use crate::plugin::breakdowns::Breakdowns;
use crate::plugin::guest::Stopped;
use crate::plugin::text;

/// How much of what a guest wrote to standard error is kept for the message about its trap, in bytes.
const TAIL_BYTES: usize = 1 << 10;
/// How often it is said in one call that the host denied something: a guest that asks for ever must not fill the log.
const DENIALS_MAX: u32 = 10;
/// The longest line that is logged as one event, in bytes; a longer one is split.
const LINE_BYTES_MAX: usize = text::GUEST_TEXT_BYTES_MAX;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// For whoever writes the operator.
    Debug,
    /// For whoever runs the job.
    Info,
    /// Something that should not be, and did no harm.
    Warn,
    /// Something that did harm.
    Error,
}

/// Where a guest writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What an instance writes during one call.
#[derive(Debug)]
pub(crate) struct GuestLog {
    job: String,
    step: String,
    /// How calls of the step have broken down.
    breakdowns: Arc<Breakdowns>,
    /// Lines of this call's standard error that wait until it has ended; `None`: they are logged as they come.
    held: Option<Vec<Vec<u8>>>,
    /// The call that runs; `None` while the instance opens.
    call: Option<(BatchId, PartitionId)>,
    /// Bytes that one call may write.
    limit_bytes: u64,
    /// Bytes that this call has written.
    n_bytes: u64,
    /// Lines that one call may write.
    limit_lines: u64,
    /// Lines that this call has written.
    n_lines: u64,
    /// The start of a line of standard output that has not ended.
    stdout: Vec<u8>,
    /// The same of standard error.
    stderr: Vec<u8>,
    /// The last bytes of this call's standard error: at most twice [`TAIL_BYTES`].
    tail: Vec<u8>,
    /// What the host denied this call last, and how often it denied anything.
    denied: Option<String>,
    n_denied: u32,
}

impl GuestLog {
    /// A log for an instance of `step`.
    pub(crate) fn new(step: &StepInfo, breakdowns: Arc<Breakdowns>) -> Self {
        Self {
            job: step.job.clone(),
            step: step.step.clone(),
            breakdowns,
            held: None,
            call: None,
            limit_bytes: step.limits.log_bytes_per_call,
            n_bytes: 0,
            limit_lines: step.limits.log_lines_per_call,
            n_lines: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            tail: Vec::new(),
            denied: None,
            n_denied: 0,
        }
    }

    /// Says that the host denied the guest something, and keeps it for the message about the call, should it fail.
    pub(crate) fn deny(&mut self, what: String) {
        if self.n_denied < DENIALS_MAX {
            self.emit(Level::Warn, "host", &format!("denied: {what}"));
        }
        self.n_denied = self.n_denied.saturating_add(1);
        self.denied = Some(what);
    }

    /// What the host denied this call last.
    pub(crate) fn denied(&self) -> Option<&str> {
        self.denied.as_deref()
    }

    /// Starts to count for `call`.
    pub(crate) fn begin_call(&mut self, call: &Call) {
        self.call = Some((call.batch_id, call.partition));
        (self.n_bytes, self.n_lines, self.n_denied) = (0, 0, 0);
        self.denied = None;
        self.tail.clear();
        // It may break down as another has.
        self.held = self.breakdowns.has_any(call.batch_id).then(Vec::new);
    }

    /// Writes the lines that have not ended, and those that waited, unless the call broke down as others have.
    pub(crate) fn end_call(&mut self, broke_down: bool) {
        self.end_lines();
        let is_news = match (self.call, self.last_words()) {
            (Some((batch, _)), Some(words)) if broke_down => self.breakdowns.is_news(batch, &words),
            _ => true,
        };
        let held = self.held.take();
        held.filter(|_| is_news).iter().flatten().for_each(|line| self.emit_line(Stream::Stderr, line));
    }

    fn end_lines(&mut self) {
        if !self.stdout.is_empty() {
            let line = mem::take(&mut self.stdout);
            self.emit_line(Stream::Stdout, &line);
        }
        if !self.stderr.is_empty() {
            let line = mem::take(&mut self.stderr);
            self.emit_line(Stream::Stderr, &line);
        }
    }

    /// The last words of this call on standard error, as one line.
    pub(crate) fn last_words(&self) -> Option<String> {
        text::last_words(&self.tail[self.tail.len().saturating_sub(TAIL_BYTES)..])
    }

    /// Logs a message as one event.
    pub(crate) fn write_message(&mut self, level: Level, message: &str) -> Result<(), Stopped> {
        self.charge(message.len())?;
        self.charge_line()?;
        self.emit(level, "log", &text::one_line(message));
        Ok(())
    }

    /// Logs the lines that `bytes` end, and keeps the rest for later.
    pub(crate) fn write(&mut self, stream: Stream, mut bytes: &[u8]) -> Result<(), Stopped> {
        // What the limit leaves room for is still shown.
        let charged = self.charge(bytes.len());
        if let Err(Stopped::LogBytes { limit, seen }) = charged {
            let over = usize::try_from(seen - limit).unwrap_or(usize::MAX);
            bytes = &bytes[..bytes.len().saturating_sub(over)];
        }
        if stream == Stream::Stderr {
            self.keep_tail(bytes);
        }
        while !bytes.is_empty() {
            let pending = self.pending(stream);
            let room = LINE_BYTES_MAX - pending.len().min(LINE_BYTES_MAX);
            let newline = memchr::memchr(b'\n', &bytes[..bytes.len().min(room + 1)]);
            match newline {
                Some(end) => {
                    pending.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                }
                None if bytes.len() <= room => {
                    pending.extend_from_slice(bytes);
                    break;
                }
                None => {
                    pending.extend_from_slice(&bytes[..room]);
                    bytes = &bytes[room..];
                }
            }
            let line = mem::take(pending);
            if !is_empty(&line) {
                self.charge_line()?;
            }
            self.emit_line(stream, &line);
            // The buffer is used for the next line.
            let pending = self.pending(stream);
            *pending = line;
            pending.clear();
        }
        charged
    }

    fn pending(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn charge(&mut self, n_bytes: usize) -> Result<(), Stopped> {
        self.n_bytes = self.n_bytes.saturating_add(n_bytes as u64);
        if self.n_bytes > self.limit_bytes {
            return Err(Stopped::LogBytes { limit: self.limit_bytes, seen: self.n_bytes });
        }
        Ok(())
    }

    fn charge_line(&mut self) -> Result<(), Stopped> {
        self.n_lines += 1;
        if self.n_lines > self.limit_lines {
            return Err(Stopped::LogLines { limit: self.limit_lines, seen: self.n_lines });
        }
        Ok(())
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let start = bytes.len().saturating_sub(TAIL_BYTES);
        self.tail.extend_from_slice(&bytes[start..]);
        if self.tail.len() > 2 * TAIL_BYTES {
            self.tail.drain(..self.tail.len() - TAIL_BYTES);
        }
    }

    fn emit_line(&mut self, stream: Stream, line: &[u8]) {
        if is_empty(line) {
            return;
        }
        if let Some(held) = self.held.as_mut().filter(|_| stream == Stream::Stderr) {
            // At most what one call may write.
            held.push(line.to_vec());
            return;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.emit(Level::Info, name, &text::one_line(&String::from_utf8_lossy(line)));
    }

    fn emit(&self, level: Level, stream: &str, line: &str) {
        let (job, step) = (&*self.job, &*self.step);
        let batch_id = self.call.map(|(batch_id, _)| batch_id.0);
        let partition = self.call.map(|(_, partition)| partition.0);
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    target: "tidemill::plugin", tracing::Level::$level, job, step, partition, batch_id, stream, "{line}"
                )
            };
        }
        match level {
            Level::Debug => event!(DEBUG),
            Level::Info => event!(INFO),
            Level::Warn => event!(WARN),
            Level::Error => event!(ERROR),
        }
    }
}

/// Whether nothing is logged of a line.
fn is_empty(line: &[u8]) -> bool {
    matches!(line, b"" | b"\r")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::operator::Limits;

    fn log(limit_bytes: u64, limit_lines: u64) -> GuestLog {
        let limits = Limits { log_bytes_per_call: limit_bytes, log_lines_per_call: limit_lines, ..Limits::default() };
        GuestLog::new(
            &StepInfo {
                job: "j".into(),
                step: "s".into(),
                partitions: 1,
                config: serde_json::Value::Null,
                limits,
                budget: Default::default(),
                stop: Default::default(),
            },
            Arc::default(),
        )
    }

    /// Collects what is logged on this thread while `write` runs.
    fn logged(limit_bytes: u64, write: impl FnOnce(&mut GuestLog)) -> Vec<String> {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .with_max_level(tracing::Level::DEBUG)
            .finish();
        tracing::subscriber::with_default(subscriber, || write(&mut log(limit_bytes, 100)));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim_start().to_owned()).collect()
    }

    #[test]
    fn lines_are_logged_when_they_end() {
        let lines = logged(1000, |log| {
            log.begin_call(&Call {
                batch_id: BatchId(7),
                batch_time_us: 0,
                partition: PartitionId(2),
                attempt: 0,
                first_row: 0,
                watermark_us: None,
            });
            log.write(Stream::Stderr, b"one\r\ntw").unwrap();
            log.write(Stream::Stdout, b"out\n\n").unwrap();
            log.write(Stream::Stderr, b"o\nthree").unwrap();
            log.write_message(Level::Warn, "four\nfive").unwrap();
            log.end_call(false);
        });
        assert_eq!(
            lines,
            [
                r#"INFO one job="j" step="s" partition=2 batch_id=7 stream="stderr""#,
                r#"INFO out job="j" step="s" partition=2 batch_id=7 stream="stdout""#,
                r#"INFO two job="j" step="s" partition=2 batch_id=7 stream="stderr""#,
                r#"WARN four\nfive job="j" step="s" partition=2 batch_id=7 stream="log""#,
                r#"INFO three job="j" step="s" partition=2 batch_id=7 stream="stderr""#,
            ]
        );
    }

    #[test]
    fn calls_that_break_down_alike_are_logged_once_a_batch() {
        let lines = logged(1000, |log| {
            let mut call = |batch: u64, stderr: &str, broke_down: bool| {
                log.begin_call(&Call {
                    batch_id: BatchId(batch),
                    batch_time_us: 0,
                    partition: PartitionId(0),
                    attempt: 0,
                    first_row: 0,
                    watermark_us: None,
                });
                log.write(Stream::Stderr, stderr.as_bytes()).unwrap();
                log.write(Stream::Stdout, b"out\n").unwrap();
                log.end_call(broke_down);
                assert_eq!(log.last_words().as_deref(), Some(stderr.trim_end()), "the reason is known");
            };
            call(1, "panic\n", true);
            call(1, "panic", true);
            call(1, "fine\n", false);
            call(1, "fine\n", false);
            call(1, "other\n", true);
            call(1, "panic\n", true);
            call(2, "panic\n", true);
        });
        let words: Vec<_> =
            lines.iter().map(|line| line.split(' ').nth(1).unwrap()).filter(|&word| word != "out").collect();
        assert_eq!(words, ["panic", "fine", "fine", "other", "panic"]);
        assert_eq!(lines.len() - words.len(), 7, "standard output is logged as it comes");
    }

    #[test]
    fn more_than_the_limit_stops_the_guest_after_what_fits() {
        let lines = logged(8, |log| {
            log.write(Stream::Stdout, b"abcd\n").unwrap();
            let stopped = log.write(Stream::Stdout, b"efghijkl").unwrap_err();
            assert_eq!(stopped, Stopped::LogBytes { limit: 8, seen: 13 });
            log.end_call(false);
        });
        assert_eq!(
            lines,
            [r#"INFO abcd job="j" step="s" stream="stdout""#, r#"INFO efg job="j" step="s" stream="stdout""#]
        );
    }

    #[test]
    fn a_line_without_end_is_split() {
        let lines = logged(1 << 20, |log| log.write(Stream::Stdout, &vec![b'x'; 3 * LINE_BYTES_MAX + 1]).unwrap());
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn the_tail_is_what_was_written_last() {
        let mut log = log(1 << 20, 1000);
        for i in 0..1000 {
            log.write(Stream::Stderr, format!("line {i}\n").as_bytes()).unwrap();
        }
        let words = log.last_words().unwrap();
        assert!(words.ends_with("| line 998 | line 999"), "{words}");
        assert!(words.len() < 2 * TAIL_BYTES);
    }

    #[test]
    fn more_lines_than_the_limit_stop_the_guest() {
        let mut log = log(1000, 2);
        log.write(Stream::Stdout, b"a\n\n\nb\n\n").expect("empty lines are not logged, and count for nothing");
        assert_eq!(log.write_message(Level::Info, "c"), Err(Stopped::LogLines { limit: 2, seen: 3 }));
        assert_eq!(log.write(Stream::Stderr, b"d\ne"), Err(Stopped::LogLines { limit: 2, seen: 4 }));
    }

    #[test]
    fn what_was_denied_is_said_so_often_and_kept() {
        let lines = logged(1000, |log| {
            (0..100).for_each(|i| log.deny(format!("host {i}")));
            assert_eq!(log.denied(), Some("host 99"));
        });
        assert_eq!(lines.len(), DENIALS_MAX as usize);
        assert_eq!(lines[0], r#"WARN denied: host 0 job="j" step="s" stream="host""#);
    }
}
