//! Batches whose time has gone by, and a machine's clock that jumps.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::checkpoint::Place;
use tidemill::clock::{Clock, SystemClock};
use tidemill::context::Context;
use tidemill::job::{Job, MissedBatches, Settings};
use tidemill::scheduler::{BatchSubmitted, Listener, StopMode};
use tidemill_tests::{Running, binary, folder, wait_for};

use crate::library::{Lines, runtime};
use crate::recovery::{PARTITIONS, POINTS, from_environment};
use crate::senders::{seeded, shown};

/// A clock that somebody sets.
#[derive(Debug)]
struct SetClock {
    machine: SystemClock,
    ahead_ms: AtomicI64,
}

impl Clock for SetClock {
    fn now(&self) -> Duration {
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        let ahead = Duration::from_millis(ahead_ms.unsigned_abs());
        if ahead_ms < 0 { self.machine.now() - ahead } else { self.machine.now() + ahead }
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

/// The times of batches by their numbers.
#[derive(Default)]
struct Times(Mutex<BTreeMap<u64, i64>>);

impl Times {
    fn seen(&self) -> BTreeMap<u64, i64> {
        self.0.lock().expect("no test panicked").clone()
    }
}

impl Listener for Times {
    fn on_batch_submitted(&self, event: &BatchSubmitted) {
        let before = self.0.lock().expect("no test panicked").insert(event.batch_id.0, event.batch_time_us);
        // A batch that was begun when the job was stopped is run again.
        assert!(before.is_none_or(|before| before == event.batch_time_us), "{event:?}");
    }
}

/// Runs a job again and again, each time for some batches after each of these jumps of the clock, in milliseconds.
fn times_of(interval: Duration, missed_batches: MissedBatches, runs: &[&[i64]]) -> Vec<i64> {
    let place = folder();
    let times = Arc::new(Times::default());
    let mut ahead_ms = 0;
    for jumps in runs {
        let settings = Settings {
            batch_interval: interval,
            missed_batches,
            checkpoint: Some(Place::Directory(place.path().join("checkpoint"))),
            ..Settings::default()
        };
        let mut context = Context::from_job(Job { settings, ..Job::default() }, runtime());
        let clock = Arc::new(SetClock { machine: SystemClock::new(), ahead_ms: AtomicI64::new(0) });
        context.set_clock(clock.clone());
        context.add_listener(times.clone());
        let lines = context.source("lines", Lines::source(&["a", "b"], true));
        // It keeps something, so that batches without rows are made without an interval too.
        lines.dedup("once", tidemill::step::dedup::Dedup::by(["value"])).foreach_batch(|_, _| Ok(()));
        let mut running = None;
        let mut context = Some(context);
        for jump_ms in *jumps {
            ahead_ms += jump_ms;
            clock.ahead_ms.store(ahead_ms, Ordering::Relaxed);
            if let Some(context) = context.take() {
                running = Some(context.start().expect("it starts"));
            }
            let n_before = times.seen().len();
            wait_for("more batches", || (times.seen().len() >= n_before + 3).then_some(()));
        }
        let running = running.expect("a jump at least");
        running.stop(StopMode::Graceful);
        running.await_termination().expect("it ends well");
    }
    let seen = times.seen();
    assert!(seen.keys().copied().eq(0..seen.len() as u64), "no number is left out");
    seen.into_values().collect()
}

/// The clock is set an hour back and forward within a run, and is behind by two hours at a restart; then it is right again.
const JUMPS: [&[i64]; 4] = [&[0, 700, -1200], &[-7_200_000, 300], &[7_200_000 + 900], &[400]];

#[test]
fn batch_times_only_grow_whatever_the_clock_does() {
    const INTERVAL_US: i64 = 20_000;
    let interval = Duration::from_micros(INTERVAL_US as u64);
    for missed in [MissedBatches::Merge, MissedBatches::Run] {
        let times = times_of(interval, missed, &JUMPS);
        assert!(times.iter().all(|time| time % INTERVAL_US == 0), "{times:?}");
        let steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| *step > 0), "{steps:?}");
        match missed {
            // Ticks were missed when the clock was set forward, if not before.
            MissedBatches::Merge => assert!(steps.iter().any(|step| *step > INTERVAL_US), "{steps:?}"),
            MissedBatches::Run => assert!(steps.iter().all(|step| *step == INTERVAL_US), "{steps:?}"),
        }
    }
}

#[test]
fn without_an_interval_batch_times_only_grow_too() {
    let times = times_of(Duration::ZERO, MissedBatches::Merge, &[&[0, 700], &[-7_200_000], &[7_200_000]]);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

const JOB: &str = "
[job]
name = 'late'
batch-interval = '100ms'
missed-batches = 'MISSED'
partitions = 1
checkpoint = 'checkpoint'

[[source]]
name = 'lines'
type = 'file'
path = 'in'
max-files-per-batch = 1

[[step]]
name = 'n'
from = 'lines'
count = true

[[sink]]
from = 'n'
type = 'file'
path = 'out'
";

/// The time and the number of lines of each batch that was published.
fn published(place: &Path) -> Vec<(i64, u64)> {
    let mut batches = BTreeMap::new();
    for entry in std::fs::read_dir(place.join("out/_manifest")).into_iter().flatten().flatten() {
        // One that is merged away has its lines in another.
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        for line in text.lines() {
            let Ok(manifest) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let file = place.join("out").join(manifest["files"][0]["path"].as_str().expect("a count is a row"));
            let row: serde_json::Value =
                serde_json::from_str(std::fs::read_to_string(file).expect("it is published").trim()).expect("a row");
            let time_us = manifest["batch_time_us"].as_i64().expect("a time");
            batches.insert(manifest["batch_id"].as_u64(), (time_us, row["count"].as_u64().expect("a count")));
        }
    }
    batches.into_values().collect()
}

/// Runs the job, and again after a while in which files have come. Gives the batches after those of the first run, and what the
/// second says.
fn after_downtime(missed: &str) -> (Vec<(i64, u64)>, String) {
    let place = folder();
    std::fs::create_dir(place.path().join("in")).expect("a new folder");
    std::fs::write(place.path().join("job.toml"), JOB.replace("MISSED", missed)).expect("a new file");
    let put = |n: usize| std::fs::write(place.path().join(format!("in/{n}.txt")), "x\n".repeat(n)).expect("a new file");
    put(1);
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    wait_for("batches", || (published(place.path()).len() >= 2).then_some(()));
    running.type_in("stop\n");
    assert_eq!(running.wait().code(), 0);
    let before = published(place.path());
    assert_eq!(before.iter().map(|batch| batch.1).sum::<u64>(), 1);
    [2, 3, 4].into_iter().for_each(put);
    std::thread::sleep(Duration::from_millis(500));
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    wait_for("more batches", || (published(place.path()).len() >= before.len() + 6).then_some(()));
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    (published(place.path()).split_off(before.len() - 1), ended.stderr)
}

#[test]
fn batches_that_were_missed_are_run_with_their_times() {
    let (batches, said) = after_downtime("run");
    let steps: Vec<i64> = batches.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(steps.iter().all(|step| *step == 100_000), "{steps:?}");
    // As many files as a batch may take come with each.
    assert_eq!(batches[1..7].iter().map(|batch| batch.1).collect::<Vec<_>>(), [2, 3, 4, 0, 0, 0]);
    assert!(
        said.contains("batches were missed while the job was down: they are run now, one after the other"),
        "{said}"
    );
}

#[test]
fn batches_that_were_missed_are_one() {
    let (batches, said) = after_downtime("merge");
    assert!(batches[1].0 - batches[0].0 >= 400_000, "{batches:?}");
    assert!(said.contains("batches were missed while the job was down: their rows come with the next"), "{said}");
}

/// How often a job that runs what it has missed is killed, unless it is said otherwise.
const KILLS: u64 = 6;

/// The windows that end with the batches of the last 200 ms, each 100 ms.
const SPANS: &str = "
[[step]]
name = 'spans'
from = 'lines'
aggregate = { select = { rows = 'count(*)' }, window = { size = '200ms', slide = '100ms' } }

[[sink]]
from = 'spans'
type = 'file'
path = 'windows/out/spans'
";

/// Killed while it runs what it has missed, and while it is down misses more: there is one batch for every interval all the same, each file
/// is in one of them, and windows of batch time have what their batches have.
#[test]
fn a_job_that_is_killed_makes_a_batch_for_every_interval() {
    const INTERVAL_US: i64 = 100_000;
    for partitions in PARTITIONS {
        let place = folder();
        std::fs::create_dir(place.path().join("in")).expect("a new folder");
        let text = JOB.replace("MISSED", "run").replace("partitions = 1", &format!("partitions = {partitions}"));
        let text = text.replace("checkpoint = 'checkpoint'", "checkpoint = 'checkpoint'\ncheckpoint-batches = 3");
        std::fs::write(place.path().join("job.toml"), text + SPANS).expect("a new file");
        let (seed, mut random) = seeded(&format!("missed in {partitions}"));
        let mut lines = Vec::new();
        for _ in 0..from_environment("TIDEMILL_KILLS", KILLS) {
            for _ in 0..2 {
                let n = lines.len() + 1;
                lines.push(n as u64);
                let hidden = place.path().join("in/.new");
                std::fs::write(&hidden, "x\n".repeat(n)).expect("a new file");
                std::fs::rename(hidden, place.path().join(format!("in/{n:06}.txt"))).expect("a new file");
            }
            let mut command = Command::new(binary());
            command.args(["run", "job.toml"]).current_dir(place.path());
            if random.below(2) == 0 {
                let point = POINTS[random.below(POINTS.len() as u64) as usize];
                command.env("TIDEMILL_DIE_AT", format!("{point}:{}", 1 + random.below(8)));
            }
            let mut running = Running::spawn(command);
            let lives = Duration::from_millis(100 + random.below(700));
            let started = std::time::Instant::now();
            while running.is_running() && started.elapsed() < lives {
                std::thread::sleep(Duration::from_millis(1));
            }
            if running.is_running() {
                running.signal("KILL");
            }
            let ended = running.wait();
            assert!(ended.status.code().is_none(), "{}", ended.stderr);
            std::thread::sleep(Duration::from_millis(random.below(400)));
        }
        let mut running = Running::start(place.path(), &["run", "job.toml"]);
        let with_rows = |batches: &[(i64, u64)]| -> Vec<u64> {
            batches.iter().map(|batch| batch.1).filter(|&n_rows| n_rows > 0).collect()
        };
        wait_for("all files", || (with_rows(&published(place.path())).len() == lines.len()).then_some(()));
        running.type_in("stop\n");
        let ended = running.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);

        let what = format!("{partitions} partitions, seed {seed}");
        let batches = published(place.path());
        assert_eq!(with_rows(&batches), lines, "{what}");
        let steps: Vec<i64> = batches.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(steps.iter().all(|step| *step == INTERVAL_US), "{what}: {steps:?}");
        let spans: Vec<u64> = shown(&place.path().join("windows"), "spans")
            .iter()
            .map(|row| row["rows"].as_u64().expect("a number"))
            .collect();
        let before = std::iter::once(0).chain(batches.iter().map(|batch| batch.1));
        let expected = before.zip(&batches).map(|(before, (_, now))| before + now);
        assert_eq!(spans, expected.filter(|&n_rows| n_rows > 0).collect::<Vec<_>>(), "{what}");
    }
}
