//! `cargo xtask demo`: sets everything up, then shows the word count live in a terminal.

mod feeder;
pub(crate) mod text;

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::plugins;
use crate::shell::Shell;
use feeder::Feeder;

/// How the demo runs.
#[derive(Args)]
pub(crate) struct Options {
    /// Count the words that this address sends, instead of text made here: run `nc -lk PORT` and type
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["rows_per_second"])]
    address: Option<String>,
    /// How long to run [default: 20, or with --address until Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Lines that are sent a second
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rows_per_second: u32,
}

const BINARY: &str = "target/release/tidemill";
const JOB: &str = "examples/word-count.toml";

/// How long the demo runs when nothing else is said.
const DEFAULT_TIME: Duration = Duration::from_secs(20);

/// How long a job that was told to stop may take: many times what is in flight at the demo's rate.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// Sets everything up and runs the demo.
pub(crate) fn demo(options: &Options) -> anyhow::Result<()> {
    plugins::build()?;
    Shell::cargo(&["build", "--release", "--package", "tidemill", "--bin", "tidemill"]).run()?;

    let signals = signals()?;
    let time = options.seconds.map(Duration::from_secs);
    let (feeder, address, time) = match &options.address {
        Some(address) => {
            let port = address.rsplit_once(':').map_or("PORT", |(_, port)| port);
            println!("\nIn another terminal, run `nc -lk {port}` and type. Ctrl-C here ends the demo.\n");
            (None, address.clone(), time)
        }
        None => {
            let feeder = Feeder::start(options.rows_per_second)?;
            let address = feeder.address().to_string();
            println!("\nfeeding {} lines/s to {address}; Ctrl-C ends the demo early\n", options.rows_per_second);
            (Some(feeder), address, Some(time.unwrap_or(DEFAULT_TIME)))
        }
    };
    let command = Shell::new(BINARY, &["run", JOB, "--set"]).arg(format!("source.lines.address={address}"));
    println!("$ {}\n", command.shown());
    let mut job = Job::start(command.command())?;
    let status = run(&mut job, &signals, time)?;
    drop(feeder);
    if !status.success() {
        bail!("the job ended with {status}");
    }
    println!("\nThat was {JOB}: change it, or the plugin in plugins/split-words, and run the demo again.");
    Ok(())
}

/// Waits for the job's time, its end or a signal; then stops the job, and waits for it.
fn run(job: &mut Job, signals: &Receiver<()>, time: Option<Duration>) -> anyhow::Result<ExitStatus> {
    let mut deadline = time.map(|time| Instant::now() + time);
    let mut is_stopping = false;
    loop {
        if let Some(status) = job.child.try_wait().context("cannot wait for the job")? {
            return Ok(status);
        }
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let is_signalled = match signals.recv_timeout(Duration::from_millis(50)) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => bail!("nobody listens for signals any more"),
        };
        match (is_stopping, is_late, is_signalled) {
            (_, false, false) => {}
            (false, _, _) => {
                // The feeder goes on until the job has ended: a connection that it closed would look like a failure.
                job.stop();
                is_stopping = true;
                deadline = Some(Instant::now() + STOP_TIME_MAX);
            }
            (true, true, _) => {
                bail!("the job did not stop within {} s; it was ended by force", STOP_TIME_MAX.as_secs())
            }
            (true, _, true) => bail!("stopped at once, as asked by a second signal"),
        }
    }
}

/// The signals that end the demo, one message each.
fn signals() -> anyhow::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// The running binary. Dropped, it is ended by force.
struct Job {
    child: Child,
}

impl Job {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt;
        // A process group of its own: Ctrl-C reaches us alone, and we ask the job to stop.
        let child = command.stdin(Stdio::piped()).process_group(0).spawn().context("cannot start the job")?;
        Ok(Self { child })
    }

    /// Asks the job to stop once what it has received is counted.
    fn stop(&mut self) {
        if let Some(input) = &mut self.child.stdin {
            // A job that has just ended reads no more, and needs not be told.
            let _ = input.write_all(b"stop\n").and_then(|()| input.flush());
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It can only have ended in between.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell script as the job.
    fn job(script: &str) -> Job {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Job::start(command).expect("there is a shell")
    }

    #[test]
    fn a_job_is_asked_to_stop_when_its_time_is_over() {
        let (_sender, signals) = mpsc::channel();
        let mut job = job("read line; test \"$line\" = stop");
        let status = run(&mut job, &signals, Some(Duration::ZERO)).expect("it stops");
        assert!(status.success());
    }

    #[test]
    fn a_job_that_ends_by_itself_ends_the_demo() {
        let (_sender, signals) = mpsc::channel();
        let status = run(&mut job("exit 1"), &signals, None).expect("it ends");
        assert_eq!(status.code(), Some(1));
    }

    #[test]
    fn a_second_signal_ends_it_at_once() {
        let (sender, signals) = mpsc::channel();
        sender.send(()).expect("received below");
        sender.send(()).expect("received below");
        let mut job = job("read line; exec sleep 600");
        let error = run(&mut job, &signals, None).expect_err("it does not stop by itself");
        assert!(error.to_string().contains("second signal"), "{error}");
    }
}
