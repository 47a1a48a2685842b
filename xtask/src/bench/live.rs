//! A job that runs while it is measured: its rows and its batches as they come out, each with the time it was seen.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::measure::{self, Usage};
use super::{FOLDER, TIDEMILL};
use crate::shell::Shell;

/// How long anything may take that should take milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A row that the console sink has printed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) seen: Instant,
    pub(super) word: String,
    pub(super) count: u64,
}

/// A batch that has completed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Batch {
    pub(super) seen: Instant,
    pub(super) rows_in: u64,
    pub(super) scheduling_delay_ms: f64,
    pub(super) processing_ms: f64,
}

/// A running word count. Dropped, it is ended by force.
pub(super) struct Live {
    child: Child,
    input: Option<ChildStdin>,
    started: Instant,
    rows: Receiver<Row>,
    batches: Receiver<Batch>,
    readers: Vec<JoinHandle<()>>,
    log: PathBuf,
}

/// What a job has done by its end.
pub(super) struct Ended {
    pub(super) usage: Usage,
    /// The rows that nobody has taken yet.
    pub(super) rows: Vec<Row>,
    pub(super) batches: Vec<Batch>,
}

impl Live {
    /// Starts a job.
    pub(super) fn start(job: &Path) -> anyhow::Result<Self> {
        let name = job.file_stem().context("a job file has a name")?.to_string_lossy();
        let log = Path::new(FOLDER).join(format!("{name}.log"));
        let command = Shell::new(TIDEMILL, &["run", &job.to_string_lossy(), "--format", "json"]);
        println!("$ {}", command.shown());
        let started = Instant::now();
        let mut child = command
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{TIDEMILL}`"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the job has no standard output")?;
        let events = child.stderr.take().context("the job has no standard error")?;
        let mut log_file = File::create(&log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let (row_sender, rows) = mpsc::channel();
        let (batch_sender, batches) = mpsc::channel();
        // Both threads end with the job; a receiver that is gone means that nobody is interested any more.
        let readers = vec![
            std::thread::spawn(move || {
                each_line(output, |seen, line| {
                    if let Some(row) = row(seen, line) {
                        let _ = row_sender.send(row);
                    }
                });
            }),
            std::thread::spawn(move || {
                each_line(events, |seen, line| {
                    match batch(seen, line) {
                        Some(batch) => drop(batch_sender.send(batch)),
                        // The log is for reading after a failure; without it there is less to read.
                        None => drop(writeln!(log_file, "{line}")),
                    }
                });
            }),
        ];
        Ok(Self { child, input, started, rows, batches, readers, log })
    }

    /// When it was started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The next row.
    pub(super) fn next_row(&self) -> anyhow::Result<Row> {
        self.rows.recv_timeout(PATIENCE).with_context(|| format!("no row came: see `{}`", self.log.display()))
    }

    /// The connection that the job's socket source makes.
    pub(super) fn connection(&mut self, listener: &TcpListener) -> anyhow::Result<TcpStream> {
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        bail!("the job did not connect: see `{}`", self.log.display())
    }

    /// Types `stop`, and waits for the end.
    pub(super) fn stop(mut self) -> anyhow::Result<Ended> {
        if let Some(input) = &mut self.input {
            // A job that has just ended reads no more.
            let _ = input.write_all(b"stop\n").and_then(|()| input.flush());
        }
        self.wait(PATIENCE)
    }

    /// Waits for the end: the sources have ended.
    pub(super) fn wait(mut self, time_max: Duration) -> anyhow::Result<Ended> {
        let since_start = self.started.elapsed();
        let usage = measure::wait(&mut self.child, self.started, since_start + time_max)?;
        for reader in self.readers.drain(..) {
            ensure!(reader.join().is_ok(), "reading what the job prints has failed");
        }
        ensure!(usage.exit_code == Some(0), "the job ended with {:?}: see `{}`", usage.exit_code, self.log.display());
        Ok(Ended { usage, rows: self.rows.try_iter().collect(), batches: self.batches.try_iter().collect() })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // The readers are gone exactly when the job has been waited for.
        if !self.readers.is_empty() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A server on a free port of the loopback interface.
pub(super) fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on the loopback interface")?;
    let address = listener.local_addr().context("cannot tell the port")?;
    Ok((listener, address))
}

fn each_line(output: impl Read, mut see: impl FnMut(Instant, &str)) {
    let mut reader = BufReader::with_capacity(1 << 16, output);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n_bytes| n_bytes > 0) {
        see(Instant::now(), line.trim_end());
        line.clear();
    }
}

fn row(seen: Instant, line: &str) -> Option<Row> {
    let value: Value = serde_json::from_str(line).ok()?;
    Some(Row { seen, word: value["word"].as_str()?.into(), count: value["count"].as_u64()? })
}

/// The batch that a line of the binary's events tells of, if it does: the event may stand in a field of its own.
fn batch(seen: Instant, line: &str) -> Option<Batch> {
    let value: Value = serde_json::from_str(line).ok()?;
    let inner = value.as_object()?.values().find(|inner| inner.get("processing_time").is_some());
    let event = if value.get("processing_time").is_some() { &value } else { inner? };
    Some(Batch {
        seen,
        rows_in: event["rows_in"].as_u64()?,
        scheduling_delay_ms: event["scheduling_delay"].as_f64()? * 1e3,
        processing_ms: event["processing_time"].as_f64()? * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<(u64, f64, f64)>) {
        let found = batch(Instant::now(), line);
        assert_eq!(found.map(|b| (b.rows_in, b.scheduling_delay_ms, b.processing_ms)), expected);
    }

    #[test]
    fn events_are_read() {
        check(r#"{"batch_id":1,"rows_in":3,"scheduling_delay":0.001,"processing_time":0.25}"#, Some((3, 1.0, 250.0)));
        check(
            r#"{"event":"x","fields":{"batch_id":1,"rows_in":3,"scheduling_delay":0.001,"processing_time":0.25}}"#,
            Some((3, 1.0, 250.0)),
        );
        check(r#"{"batch_id":1,"scheduling_delay":0.001}"#, None);
        check("batch 1 has completed", None);
    }

    #[test]
    fn rows_are_read() {
        let seen = Instant::now();
        let expected = Row { seen, word: "a".into(), count: 2 };
        assert_eq!(row(seen, r#"{"word":"a","count":2}"#), Some(expected));
        assert_eq!(row(seen, "a 2"), None);
    }
}
