//! Jobs over rows that can be had once, and those who send them: a job is killed, and what it has not received is sent to the next start.
//!
//! Neither a socket nor standard input tells its sender what has arrived. What does here is `tidemill checkpoint inspect`: how many rows of
//! each source were received in all. Senders go on behind those, so in the end each row must have been shown once, and in order: a
//! row that was received and lost would be missing, one that was received, lost by the log and run by a batch would come twice.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidemill_tests::s3::{BUCKET, S3};
use tidemill_tests::{Ended, Running, Sender, binary, folder};

use crate::recovery::{Environment, POINTS, Random, from_environment};

/// The instants of the log that a process can be told to die at.
pub(crate) const LOG_POINTS: [&str; 5] =
    ["wal-frames-written", "wal-synced", "wal-end-written", "wal-segment-rolled", "wal-segment-expired"];

/// How rows reach the job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// By connections that the job makes.
    Socket,
    /// By what it is started with. Then there is one source.
    Stdin,
}

/// A source, and what it is sent.
pub(crate) struct Feed {
    source: &'static str,
    /// A row each, with the end of its line.
    lines: Vec<String>,
    /// Lines that are sent at once, at most, and the milliseconds before the next ones.
    pace: (u64, u64),
    sender: Sender,
}

impl Feed {
    /// Sends rows from one on until all are sent, the process is gone, or nobody wants more.
    fn send(&self, mut stream: impl std::io::Write, from: u64, seed: u64, ends: &AtomicBool) {
        let mut random = Random(seed);
        let mut rest = self.lines.get(from as usize..).unwrap_or_default();
        while !rest.is_empty() && !ends.load(Ordering::SeqCst) {
            let (now, later) = rest.split_at(rest.len().min(1 + random.below(self.pace.0) as usize));
            if stream.write_all(now.concat().as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
            rest = later;
            std::thread::sleep(Duration::from_millis(random.below(self.pace.1)));
        }
        // A connection that ends would be made again, and an input that ends would end the job.
        while !ends.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for a connection, and sends.
    fn serve(&self, from: u64, seed: u64, ends: &AtomicBool) {
        while !ends.load(Ordering::SeqCst) {
            match self.sender.try_accept() {
                Some(stream) => return self.send(stream, from, seed, ends),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// How many rows of each source were ever received.
pub(crate) fn received(folder: &Path, checkpoint: &str, environment: &Environment) -> BTreeMap<String, u64> {
    let mut command = Command::new(binary());
    command.args(["checkpoint", "inspect", checkpoint, "--format", "json"]).current_dir(folder);
    let ended = Running::spawn({
        command.envs(environment.iter().cloned());
        command
    })
    .wait();
    if ended.code() == 1 {
        // A process that died early has made none.
        assert!(ended.stderr.contains("there is no checkpoint"), "{}", ended.stderr);
        return BTreeMap::new();
    }
    let inspected: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let sources = inspected["log"]["sources"].as_array().into_iter().flatten();
    let rows = |source: &serde_json::Value| Some((source["source"].as_str()?.to_owned(), source["end_row"].as_u64()?));
    sources.filter_map(rows).collect()
}

/// Rows that a sink has shown, in the order of batches and partitions.
pub(crate) fn shown(folder: &Path, sink: &str) -> Vec<serde_json::Value> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("out").join(sink))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).expect("a file"));
    texts
        .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<_>>())
        .collect()
}

/// A job that is killed, and the rows that it gets.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    way: Way,
    feeds: Vec<Arc<Feed>>,
    /// The job, with its checkpoint in a directory.
    text: String,
    /// Where checkpoints are instead: a folder of the bucket, with one for each round.
    store: Option<(&'static S3, String)>,
    round: Cell<u64>,
}

impl Place {
    /// A job over these sources, whose text is made of their addresses. Each is sent these lines.
    pub(crate) fn new(
        way: Way,
        feeds: Vec<(&'static str, Vec<String>)>,
        pace: (u64, u64),
        job: impl FnOnce(&[String]) -> String,
    ) -> Self {
        let feed = |(source, lines)| Arc::new(Feed { source, lines, pace, sender: Sender::listen() });
        let feeds: Vec<Arc<Feed>> = feeds.into_iter().map(feed).collect();
        let addresses: Vec<String> = feeds.iter().map(|feed| feed.sender.address()).collect();
        let place = Self { folder: folder(), way, feeds, text: job(&addresses), store: None, round: Cell::new(0) };
        place.write_job();
        place
    }

    /// The same with checkpoints in a folder of a store. The log is in the folder `rows`.
    pub(crate) fn with_store(mut self, store: &'static S3, name: &str) -> Self {
        self.store = Some((store, name.to_owned()));
        self.write_job();
        self
    }

    fn write_job(&self) {
        let directory = "checkpoint = 'checkpoint'";
        assert!(self.text.contains(directory), "{}", self.text);
        let text = match &self.store {
            Some(_) => {
                self.text.replace(directory, &format!("checkpoint = '{}'\nwal-directory = 'rows'", self.checkpoint()))
            }
            None => self.text.clone(),
        };
        std::fs::write(self.path().join("job.toml"), text).expect("a new file");
    }

    /// Where the checkpoint is.
    fn checkpoint(&self) -> String {
        match &self.store {
            Some((_, name)) => format!("s3://{BUCKET}/kills/{name}/{}", self.round.get()),
            None => "checkpoint".to_owned(),
        }
    }

    fn environment(&self) -> Environment {
        self.store.as_ref().map_or_else(Vec::new, |(store, _)| store.environment(&store.address()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Who sends the rows of the first source.
    pub(crate) fn sender(&self) -> &Sender {
        &self.feeds[0].sender
    }

    /// How many rows were ever received.
    pub(crate) fn n_received(&self) -> u64 {
        received(self.path(), &self.checkpoint(), &self.environment()).values().sum()
    }

    /// How many rows there are to send.
    pub(crate) fn n_rows(&self) -> u64 {
        self.feeds.iter().map(|feed| feed.lines.len() as u64).sum()
    }

    fn command(&self, options: &[String]) -> Command {
        let mut command = Command::new(binary());
        command.args(["run", "job.toml"]).args(options).current_dir(self.path()).envs(self.environment());
        command
    }

    /// Starts the job, and sends it what it has not received yet; when `goes_on` says no, ends it so, if it has not ended.
    fn serve(
        &self,
        command: Command,
        seed: u64,
        mut goes_on: impl FnMut(&Running) -> bool,
        end: impl FnOnce(&mut Running),
    ) -> Ended {
        let received = received(self.path(), &self.checkpoint(), &self.environment());
        let ends = Arc::new(AtomicBool::new(false));
        let mut running = Running::spawn(command);
        let mut stdin = (self.way == Way::Stdin).then(|| running.take_stdin().expect("it has an input"));
        let mut sending = Vec::new();
        for (feed, seed) in self.feeds.iter().zip(seed..) {
            let (feed, ends) = (feed.clone(), ends.clone());
            let from = received.get(feed.source).copied().unwrap_or(0);
            sending.push(match stdin.take() {
                Some(stdin) => std::thread::spawn(move || feed.send(stdin, from, seed, &ends)),
                None => std::thread::spawn(move || feed.serve(from, seed, &ends)),
            });
        }
        while running.is_running() && goes_on(&running) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if running.is_running() {
            end(&mut running);
        }
        ends.store(true, Ordering::SeqCst);
        let ended = running.wait();
        for sending in sending {
            sending.join().expect("a sender does not panic");
        }
        // Whoever connected last is gone: nobody is to be sent to in its place.
        for feed in &self.feeds {
            while feed.sender.try_accept().is_some() {}
        }
        ended
    }

    /// Starts the job, and sends it what it has not received yet, until it dies: at a point, or after a while.
    pub(crate) fn attempt(&self, options: &[String], seed: u64, point: Option<&str>, lives: Duration) -> Ended {
        let mut command = self.command(options);
        if let Some(point) = point {
            command.env("TIDEMILL_DIE_AT", point);
        }
        let started = Instant::now();
        let ended = self.serve(command, seed, |_| started.elapsed() < lives, |running| running.signal("KILL"));
        assert!(ended.status.code().is_none(), "it ends with {:?} by itself\n{}", ended.status.code(), ended.stderr);
        ended
    }

    /// Starts the job, and kills it, again and again, until it has received all rows. `options` gives what each start is told besides.
    /// Says how often.
    #[track_caller]
    pub(crate) fn kill_until_all_is_received(
        &self,
        random: &mut Random,
        points: &[&str],
        mut options: impl FnMut(&mut Random) -> Vec<String>,
        what: &str,
    ) -> u64 {
        let (mut n_before, mut kills, mut in_vain) = (0, 0, 0);
        while n_before < self.n_rows() {
            let point = points[random.below(points.len() as u64) as usize];
            let point = (random.below(2) == 0).then(|| format!("{point}:{}", 1 + random.below(8)));
            let lives = Duration::from_millis(100 + random.below(700));
            let options = options(random);
            self.attempt(&options, random.below(u64::MAX / 2), point.as_deref(), lives);
            kills += 1;
            let n_after = self.n_received();
            assert!(n_after >= n_before, "{what}: {n_before} rows were received, and then {n_after}");
            in_vain = if n_after == n_before { in_vain + 1 } else { 0 };
            assert!(in_vain < 200, "{what} comes to no end");
            n_before = n_after;
        }
        kills
    }

    /// Lets the job go on until nothing more is to come of its rows, and stops it: when `is_there` says so, or when only batches without
    /// rows have been made for a while, after which nothing would come any more. Gives what it says.
    pub(crate) fn settle(&self, options: &[String], mut is_there: impl FnMut() -> bool) -> Ended {
        let options = [options, &["--format".into(), "json".into()]].concat();
        let mut looked_at = 0;
        let goes_on = |running: &Running| {
            std::thread::sleep(Duration::from_millis(10));
            let said = running.stderr();
            let n_batches = said.matches("batch-completed").count();
            // A look at all that is shown is not for nothing: once a batch.
            if std::mem::replace(&mut looked_at, n_batches) == n_batches {
                return true;
            }
            let batches: Vec<bool> = said.lines().filter_map(has_rows).collect();
            !batches.ends_with(&[false; SILENT]) && !is_there()
        };
        let ended = self.serve(self.command(&options), 0, goes_on, |running| running.type_in("stop\n"));
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        ended
    }

    /// Lets the job do what is left of what it has received, and end.
    pub(crate) fn finish(&self) {
        let mut running = Running::spawn(self.command(&[]));
        match self.way {
            Way::Socket => running.type_in("stop\n"),
            Way::Stdin => running.close_stdin(),
        }
        let ended = running.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert!(!ended.stderr.contains("lost"), "{}", ended.stderr);
    }

    /// What steps keep, as lines of JSON.
    pub(crate) fn state(&self) -> Vec<serde_json::Value> {
        let mut command = Command::new(binary());
        command.args(["checkpoint", "export-state", "job.toml"]).current_dir(self.path()).envs(self.environment());
        let ended = Running::spawn(command).wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Forgets all that was received and shown.
    pub(crate) fn start_anew(&self) {
        for gone in ["checkpoint", "rows", "out"] {
            // In the first round nothing is there.
            let _ = std::fs::remove_dir_all(self.path().join(gone));
        }
        self.round.set(self.round.get() + 1);
        if self.store.is_some() {
            self.write_job();
        }
    }
}

/// So many batches without rows in a row, of which all but two are made a second after the one before, and nothing more is to come.
const SILENT: usize = 4;

/// Whether a batch had rows, of the event that says that it is done.
fn has_rows(event: &str) -> Option<bool> {
    let event: serde_json::Value = serde_json::from_str(event).ok()?;
    (event["event"] == "batch-completed").then(|| event["rows_in"].as_u64().is_some_and(|n_rows| n_rows > 0))
}

/// What a test prints to be run again, and its numbers. `what` makes those of tests different.
pub(crate) fn seeded(what: &str) -> (u64, Random) {
    let seed = from_environment("TIDEMILL_SEED", 1);
    let mixed = what.bytes().fold(seed, |mixed, byte| (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (seed, Random(mixed))
}

/// The instants that a job over received rows passes.
pub(crate) fn points() -> Vec<&'static str> {
    LOG_POINTS.iter().chain(&POINTS).copied().collect()
}
