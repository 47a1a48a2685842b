//! Rows of sockets and standard input over a crash: a sender that goes on where the log ends, and processes that are killed.
//!
//! Neither a socket nor standard input tells its sender what has arrived. What does here is `tidemill checkpoint inspect`: how many rows
//! were received in all. The sender goes on behind those, so in the end each row must have been shown once, and in order: a row that
//! was received and lost would be missing, one that was received, lost by the log and run by a batch would come twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidemill_tests::{PATIENCE, Running, Sender, binary, folder, run, wait_for};

use crate::recovery::{Random, from_environment};

/// The instants of the log that a process can be told to die at.
const POINTS: [&str; 5] =
    ["wal-frames-written", "wal-synced", "wal-end-written", "wal-segment-rolled", "wal-segment-expired"];

/// Others that a batch passes.
const BATCH_POINTS: [&str; 5] =
    ["offsets-written", "rows-prepared", "rows-published", "commit-written", "old-commit-deleted"];

/// How often each job is killed, unless it is said otherwise.
const KILLS: u64 = 40;

/// Rows of a round: all are sent, and shown, before the next one begins anew.
const ROWS: u64 = 3000;

/// A line with a row.
fn line(number: u64) -> String {
    let filler = "what makes a line as long as lines are";
    format!("{{\"n\":{number},\"user\":\"u{}\",\"text\":\"{filler}\"}}\n", number % 13)
}

/// How rows reach the job.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Socket,
    Stdin,
}

/// A job over rows that are received, with the rest of it in `steps`.
fn job(address: &str, way: Way, settings: &str, steps: &str) -> String {
    let source = match way {
        Way::Socket => format!("type = 'socket'\naddress = '{address}'"),
        Way::Stdin => "type = 'stdin'".to_owned(),
    };
    format!(
        "[job]\nname = 'received'\nbatch-interval = '0'\npartitions = 3\nmemory = '1MiB'\ncheckpoint = 'checkpoint'\n\
         checkpoint-batches = 2\nwal-segment = '64KiB'\n{settings}\n\n\
         [[source]]\nname = 'lines'\n{source}\nformat = 'json'\nschema = {{ n = 'int64', user = 'utf8', text = 'utf8' }}\n\
         on-error = 'dead-letter'\ndead-letter = 'bad'\n\n\
         [[sink]]\nfrom = 'bad'\ntype = 'file'\npath = 'out/bad'\n{steps}"
    )
}

/// Rows as they are.
const AS_THEY_ARE: &str = "
[[step]]
name = 'numbers'
from = 'lines'
select = ['n']

[[sink]]
from = 'numbers'
type = 'file'
path = 'out/numbers'
";

/// Rows by user, over all batches.
const BY_USER: &str = "
[[step]]
name = 'users'
from = 'lines'
aggregate = { by = ['user'], select = { rows = 'count(*)', total = 'sum(n)' }, running = true }

[[sink]]
from = 'users'
type = 'file'
path = 'out/users'
";

fn inspected(folder: &Path) -> Option<serde_json::Value> {
    let ended = run(folder, &["checkpoint", "inspect", "checkpoint", "--format", "json"]);
    if ended.code() == 1 {
        // A process that died early has made none.
        assert!(ended.stderr.contains("there is no checkpoint"), "{}", ended.stderr);
        return None;
    }
    Some(serde_json::from_str(&ended.stdout).expect("JSON"))
}

/// How many rows were ever received.
fn n_received(folder: &Path) -> u64 {
    let Some(inspected) = inspected(folder) else { return 0 };
    inspected["log"]["sources"][0]["end_row"].as_u64().unwrap_or(0)
}

/// Rows that a sink has shown, in the order of batches and partitions.
fn shown(folder: &Path, sink: &str) -> Vec<serde_json::Value> {
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

/// Sends rows until all are sent, the process is gone, or nobody wants more.
fn send(mut stream: impl std::io::Write, from: u64, seed: u64, ends: &AtomicBool) {
    let mut random = Random(seed);
    let mut next = from;
    while next < ROWS && !ends.load(Ordering::SeqCst) {
        let end = (next + 1 + random.below(60)).min(ROWS);
        let lines: String = (next..end).map(line).collect();
        if stream.write_all(lines.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
        next = end;
        std::thread::sleep(Duration::from_millis(random.below(8)));
    }
    // A connection that ends would be made again, and an input that ends would end the job.
    while !ends.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A job that is killed, and the rows that it gets.
struct Place {
    folder: tempfile::TempDir,
    sender: Arc<Sender>,
    way: Way,
}

impl Place {
    fn new(way: Way, settings: &str, steps: &str) -> Self {
        let place = Self { folder: folder(), sender: Arc::new(Sender::listen()), way };
        let text = job(&place.sender.address(), way, settings, steps);
        std::fs::write(place.path().join("job.toml"), text).expect("a new file");
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the job, and sends it what it has not received yet, until it dies: at a point, or after a while.
    fn attempt(&self, seed: u64, point: Option<&str>, lives: Duration) -> tidemill_tests::Ended {
        let from = n_received(self.path());
        let mut command = Command::new(binary());
        command.args(["run", "job.toml"]).current_dir(self.path());
        if let Some(point) = point {
            command.env("TIDEMILL_DIE_AT", point);
        }
        let ends = Arc::new(AtomicBool::new(false));
        let mut running = Running::spawn(command);
        let started = Instant::now();
        let sending = {
            let ends = ends.clone();
            match self.way {
                Way::Socket => {
                    let sender = self.sender.clone();
                    std::thread::spawn(move || {
                        let connected = loop {
                            match sender.try_accept() {
                                Some(stream) => break stream,
                                None if ends.load(Ordering::SeqCst) => return,
                                None => std::thread::sleep(Duration::from_millis(1)),
                            }
                        };
                        send(connected, from, seed, &ends);
                    })
                }
                Way::Stdin => {
                    let stdin = running.take_stdin().expect("it has an input");
                    std::thread::spawn(move || send(stdin, from, seed, &ends))
                }
            }
        };
        while running.is_running() && started.elapsed() < lives {
            std::thread::sleep(Duration::from_millis(1));
        }
        if running.is_running() {
            running.signal("KILL");
        }
        ends.store(true, Ordering::SeqCst);
        let ended = running.wait();
        sending.join().expect("a sender does not panic");
        assert!(ended.status.code().is_none(), "it ends with {:?} by itself\n{}", ended.status.code(), ended.stderr);
        // Whoever connected last is gone: nobody is to be sent to in its place.
        while self.sender.try_accept().is_some() {}
        ended
    }

    /// Lets the job do what is left, and end.
    fn finish(&self) {
        let mut running = Running::start(self.path(), &["run", "job.toml"]);
        match self.way {
            Way::Socket => running.type_in("stop\n"),
            Way::Stdin => running.close_stdin(),
        }
        let ended = running.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        assert!(!ended.stderr.contains("lost"), "{}", ended.stderr);
    }

    fn start_anew(&self) {
        for gone in ["checkpoint", "out"] {
            // In the first round nothing is there.
            let _ = std::fs::remove_dir_all(self.path().join(gone));
        }
    }

    /// Every row was shown once, in order.
    fn check(&self, steps: &str, what: &str) {
        if steps == AS_THEY_ARE {
            let numbers: Vec<u64> =
                shown(self.path(), "numbers").iter().map(|row| row["n"].as_u64().expect("a number")).collect();
            assert_eq!(numbers, (0..ROWS).collect::<Vec<_>>(), "{what}");
        } else {
            let (mut found, mut expected) = (BTreeMap::new(), BTreeMap::new());
            for row in shown(self.path(), "users") {
                let user = row["user"].as_str().expect("a text").to_owned();
                found.insert(user, (row["rows"].as_u64().expect("a number"), row["total"].as_u64().expect("a number")));
            }
            for number in 0..ROWS {
                let of: &mut (u64, u64) = expected.entry(format!("u{}", number % 13)).or_default();
                *of = (of.0 + 1, of.1 + number);
            }
            assert_eq!(found, expected, "{what}");
        }
    }
}

#[track_caller]
fn check(way: Way, settings: &str, steps: &str) {
    let place = Place::new(way, settings, steps);
    let seed = from_environment("TIDEMILL_SEED", 1);
    let mut random = Random(seed ^ settings.len() as u64 ^ (steps.len() as u64) << 16);
    let (mut kills, mut rounds) = (0, 0);
    while kills < from_environment("TIDEMILL_KILLS", KILLS) {
        place.start_anew();
        let mut n_before = 0;
        let mut in_vain = 0;
        let what = format!("{way:?}, {settings}, seed {seed}, round {rounds}");
        while n_before < ROWS {
            let points: Vec<&str> = POINTS.iter().chain(&BATCH_POINTS).copied().collect();
            let point = points[random.below(points.len() as u64) as usize];
            let point = (random.below(2) == 0).then(|| format!("{point}:{}", 1 + random.below(8)));
            let lives = Duration::from_millis(100 + random.below(700));
            place.attempt(random.below(u64::MAX), point.as_deref(), lives);
            kills += 1;
            let n_after = n_received(place.path());
            assert!(n_after >= n_before, "{what}: {n_before} rows were received, and then {n_after}");
            in_vain = if n_after == n_before { in_vain + 1 } else { 0 };
            assert!(in_vain < 200, "{what} comes to no end");
            n_before = n_after;
        }
        place.finish();
        place.check(steps, &what);
        rounds += 1;
    }
}

#[test]
fn rows_of_a_socket_are_shown_once() {
    // The default.
    check(Way::Socket, "", AS_THEY_ARE);
}

#[test]
fn rows_of_a_socket_are_counted_once() {
    check(Way::Socket, "durability = 'row'", BY_USER);
}

#[test]
fn batches_of_a_socket_are_run_again_over_the_same_rows() {
    check(Way::Socket, "durability = 'batch'", BY_USER);
}

#[test]
fn rows_of_standard_input_are_shown_once() {
    check(Way::Stdin, "durability = 'row'", AS_THEY_ARE);
}

#[test]
fn a_process_dies_at_every_instant_of_the_log_and_goes_on() {
    let place = Place::new(Way::Socket, "", AS_THEY_ARE);
    for point in POINTS {
        // It is passed with the first rows, and seldom again.
        let passes = if point == "wal-end-written" { 1 } else { 2 };
        let ended = place.attempt(3, Some(&format!("{point}:{passes}")), PATIENCE);
        assert!(ended.stderr.contains("received") || !ended.stderr.contains("error"), "{point}: {}", ended.stderr);
    }
    let received = n_received(place.path());
    place.finish();
    let numbers = shown(place.path(), "numbers").len() as u64;
    assert_eq!(numbers, received);
}

/// A job that has received some rows of a connection, and was killed before a batch had them all.
fn killed(settings: &str) -> (Place, u64) {
    let place = Place::new(Way::Socket, settings, AS_THEY_ARE);
    place.attempt(5, Some("offsets-written:3"), PATIENCE);
    let received = n_received(place.path());
    (place, received)
}

#[test]
fn a_log_can_be_looked_into() {
    let (place, received) = killed("");
    let inspected = run(place.path(), &["checkpoint", "inspect", "checkpoint"]);
    assert_eq!(inspected.code(), 0, "{}", inspected.stderr);
    let log = format!("log      lines: {received} rows received, rows 0 to {received} kept\n");
    assert!(inspected.stdout.contains(&log), "{}", inspected.stdout);
    assert!(inspected.stdout.contains("           lines: rows 0 to "), "{}", inspected.stdout);
    let verified = run(place.path(), &["checkpoint", "verify", "checkpoint"]);
    assert!(verified.code() == 0 && verified.stdout.contains(&log), "{}\n{}", verified.stdout, verified.stderr);
    // A byte of the first rows is another.
    let segment = place.path().join("checkpoint/wal/0000000000");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    bytes[400] ^= 1;
    std::fs::write(&segment, bytes).expect("a segment");
    let verified = run(place.path(), &["checkpoint", "verify", "checkpoint"]);
    assert!(verified.code() == 1 && verified.stdout.contains("is damaged at byte "), "{}", verified.stdout);
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    let mut expected = String::new();
    writeln!(expected, "error: the job cannot go on from its checkpoint").expect("room");
    write!(expected, "  caused by: write-ahead log: `./checkpoint/wal/0000000000` is damaged at byte ").expect("room");
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: Bring the file back from a copy."), "{}", ended.stderr);
    // Its rows are gone, and a batch was begun with them.
    std::fs::remove_file(&segment).expect("a segment");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert!(
        ended.code() == 1 && ended.stderr.contains("of source `lines`, with which a batch was begun"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_log_may_be_elsewhere_and_is_one_checkpoint_s() {
    let (place, received) = killed("wal-directory = 'rows'");
    assert!(received > 0 && place.path().join("rows/0000000000").exists());
    let job = place.path().join("job.toml");
    let text = std::fs::read_to_string(&job).expect("the job");
    // Another checkpoint with the same log.
    std::fs::write(&job, text.replace("'checkpoint'", "'other'").replace("'out/", "'other-out/")).expect("the job");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert!(
        ended.code() == 1 && ended.stderr.contains("has the write-ahead log of another checkpoint"),
        "{}",
        ended.stderr
    );
    // Other columns.
    std::fs::write(&job, text.replace("user = 'utf8',", "")).expect("the job");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert!(
        ended.code() == 1 && ended.stderr.contains("has rows of source `lines` with the columns"),
        "{}",
        ended.stderr
    );
    // Rows that are there are shown, also when those that come are not kept any more.
    std::fs::write(&job, text.replace("wal-directory", "durability = 'none'\nwal-directory")).expect("the job");
    place.finish();
    assert_eq!(shown(place.path(), "numbers").len() as u64, received);
}

#[test]
fn without_durability_rows_that_were_received_are_lost_and_the_log_says_how_many() {
    let place = Place::new(Way::Socket, "durability = 'none'", AS_THEY_ARE);
    place.attempt(7, Some("offsets-written:1"), PATIENCE);
    assert!(!place.path().join("checkpoint/wal").exists());
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    wait_for("a word on what is lost", || running.stderr().contains("rows_lost=").then_some(()));
    running.type_in("stop\n");
    assert_eq!(running.wait().code(), 0);
}

#[test]
fn a_stop_at_once_leaves_what_was_received_to_the_next_run() {
    let place = Place::new(Way::Socket, "durability = 'batch'", AS_THEY_ARE);
    let arguments = ["run", "job.toml", "--format", "json", "--set", "job.batch-interval=300ms"];
    let mut running = Running::start(place.path(), &arguments);
    let mut stream = place.sender.accept();
    // It has begun. What comes now may be in a batch, or in none.
    wait_for("a batch", || running.stderr().contains("batch-completed").then_some(()));
    stream.write_all((0..ROWS).map(line).collect::<String>().as_bytes()).expect("a connection");
    // Twice is at once; how much of a graceful stop was done by then does not matter.
    running.type_in("stop\nstop\n");
    let ended = running.wait();
    let end =
        ended.stderr.lines().rfind(|line| line.contains("\"ended\"")).unwrap_or_else(|| panic!("{}", ended.stderr));
    let end: serde_json::Value = serde_json::from_str(end).expect("JSON");
    let counted = end["summary"]["sources"][0]["rows"].as_u64().expect("a number");
    let received = n_received(place.path());
    assert_eq!(received, counted, "what was counted is there");
    place.finish();
    assert_eq!(shown(place.path(), "numbers").len() as u64, received);
}

#[test]
fn rows_that_wait_are_counted_when_they_are_on_the_disk() {
    let place = Place::new(Way::Socket, "durability = 'row'", AS_THEY_ARE);
    let running = Running::start(place.path(), &["run", "job.toml", "--set", "job.batch-interval=1h"]);
    let mut stream = place.sender.accept();
    stream.write_all((0..100).map(line).collect::<String>().as_bytes()).expect("a connection");
    // Another process sees them, although no batch was ever made.
    wait_for("a hundred rows", || (n_received(place.path()) == 100).then_some(()));
    assert_eq!(shown(place.path(), "numbers"), Vec::<serde_json::Value>::new());
    running.signal("KILL");
    assert!(running.wait().status.code().is_none());
    place.finish();
    assert_eq!(shown(place.path(), "numbers").len(), 100);
}

#[test]
fn a_last_file_that_is_gone_is_said_and_skipped_by_choice_alone() {
    let place = Place::new(Way::Socket, "", AS_THEY_ARE);
    let running = Running::start(place.path(), &["run", "job.toml", "--set", "job.batch-interval=1h"]);
    let mut stream = place.sender.accept();
    // Rows that cannot be made smaller, so that several files have them.
    let mut random = Random(9);
    let mut noise = || (0..20).map(|_| format!("{:016x}", random.below(u64::MAX))).collect::<String>();
    for part in 0..10 {
        let end = (part + 1) * ROWS / 10;
        let rows = (part * ROWS / 10..end).map(|n| format!("{{\"n\":{n},\"user\":\"u\",\"text\":\"{}\"}}\n", noise()));
        stream.write_all(rows.collect::<String>().as_bytes()).expect("a connection");
        wait_for("the rows", || (n_received(place.path()) == end).then_some(()));
    }
    running.signal("KILL");
    assert!(running.wait().status.code().is_none());
    while place.sender.try_accept().is_some() {}
    let wal = place.path().join("checkpoint/wal");
    let files = || {
        let files = std::fs::read_dir(&wal).expect("a folder").flatten().map(|entry| entry.path());
        let mut files: Vec<_> = files.filter(|path| path.file_name().is_some_and(|name| name.len() == 10)).collect();
        files.sort();
        files
    };
    let last = files().pop().expect("some files");
    assert!(files().len() > 1, "small files");
    let verify = |code| {
        let verified = run(place.path(), &["checkpoint", "verify", "checkpoint"]);
        assert_eq!(verified.code(), code, "{}\n{}", verified.stdout, verified.stderr);
        verified.stdout
    };
    verify(0);
    std::fs::remove_file(&last).expect("a segment");
    let name = last.file_name().expect("a name").to_string_lossy();
    let lacks = format!("damage   the write-ahead log lacks its last file, `{name}`\n");
    let said = verify(1);
    assert!(said.contains(&lacks), "{said}");
    let said = run(place.path(), &["checkpoint", "inspect", "checkpoint"]).stdout;
    assert!(said.contains(&format!("log      file {name}, the last, is not there\n")), "{said}");
    let left = n_received(place.path());
    assert!((1..ROWS).contains(&left), "{left}");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    let expected = format!(
        "  caused by: write-ahead log: `./checkpoint/wal` is not as it was left: file `{name}`, its last, is not there\n"
    );
    assert!(ended.stderr.contains(&expected.replacen(": `", " `", 1)), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: Bring the files of the log back from a copy, or"), "{}", ended.stderr);
    // By choice it goes on, and says that it does without.
    let mut running = Running::start(place.path(), &["run", "job.toml", "--set", "job.lost-rows=skip"]);
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("the end of the write-ahead log is not there"), "{}", ended.stderr);
    let numbers: Vec<u64> =
        shown(place.path(), "numbers").iter().map(|row| row["n"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (0..left).collect::<Vec<_>>());
    // Once: it is known from now on.
    assert!(verify(0).contains("damage   none"));
    place.finish();
    let last = files().pop().expect("some files");
    files().into_iter().for_each(|file| std::fs::remove_file(file).expect("a segment"));
    let name = last.file_name().expect("a name").to_string_lossy();
    let said = verify(1);
    assert!(said.contains(&format!("damage   the write-ahead log lacks its last file, `{name}`\n")), "{said}");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert!(ended.code() == 1 && ended.stderr.contains("its last, is not there\n"), "{}", ended.stderr);
    // Nothing of the log is left: what batches have noted is.
    std::fs::remove_dir_all(&wal).expect("a folder");
    let said = verify(1);
    let behind = format!("of source `lines`, which batches have had; those behind row {left} are not known");
    assert!(said.contains(&behind), "{said}");
    let ended = run(place.path(), &["run", "job.toml"]);
    let gone = "rows of source `lines` that batches have had are gone, and those that came after them may be";
    assert!(ended.code() == 1 && ended.stderr.contains(gone), "{}", ended.stderr);
}

#[test]
fn dead_letters_outlive_a_crash_too() {
    let place = Place::new(Way::Socket, "batch-interval = '1h'", AS_THEY_ARE);
    let job = place.path().join("job.toml");
    let text = std::fs::read_to_string(&job).expect("the job").replacen("batch-interval = '0'\n", "", 1);
    std::fs::write(&job, text).expect("the job");
    let bad = |number: u64| format!("no JSON {number}");
    for part in 0..3 {
        let running = Running::start(place.path(), &["run", "job.toml"]);
        let mut stream = place.sender.accept();
        let lines = (part * 100..part * 100 + 100).map(|number| match number % 9 {
            4 => format!("{}\n", bad(number)),
            _ => line(number),
        });
        stream.write_all(lines.collect::<String>().as_bytes()).expect("a connection");
        wait_for("a hundred rows", || (n_received(place.path()) == part * 100 + 100).then_some(()));
        running.signal("KILL");
        assert!(running.wait().status.code().is_none());
        while place.sender.try_accept().is_some() {}
    }
    place.finish();
    let letters: Vec<_> = shown(place.path(), "bad").iter().map(|row| row["value"].clone()).collect();
    assert_eq!(letters, (0..300).filter(|number| number % 9 == 4).map(bad).collect::<Vec<_>>());
    let numbers: Vec<_> = shown(place.path(), "numbers").iter().map(|row| row["n"].clone()).collect();
    assert_eq!(numbers, (0..300).filter(|number| number % 9 != 4).collect::<Vec<_>>());
}

#[test]
fn a_source_may_say_otherwise() {
    let place = folder();
    let (safe, fast) = (Sender::listen(), Sender::listen());
    let source = |name: &str, sender: &Sender, more: &str| {
        let address = sender.address();
        format!(
            "[[source]]\nname = '{name}'\ntype = 'socket'\naddress = '{address}'\n{more}\n\n\
             [[sink]]\nfrom = '{name}'\ntype = 'file'\npath = 'out/{name}'\n\n"
        )
    };
    let mut text = "[job]\nname = 'two'\nbatch-interval = '1h'\ncheckpoint = 'checkpoint'\n\n".to_owned();
    text.push_str(&source("safe", &safe, ""));
    text.push_str(&source("fast", &fast, "durability = 'none'"));
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let running = Running::start(place.path(), &["run", "job.toml"]);
    fast.accept().write_all(b"one\ntwo\n").expect("a connection");
    safe.accept().write_all(b"three\nfour\n").expect("a connection");
    wait_for("two rows", || (n_received(place.path()) == 2).then_some(()));
    running.signal("KILL");
    assert!(running.wait().status.code().is_none());
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    running.type_in("stop\n");
    assert_eq!(running.wait().code(), 0);
    let values = |sink: &str| shown(place.path(), sink).iter().map(|row| row["value"].clone()).collect::<Vec<_>>();
    assert_eq!((values("safe"), values("fast")), (vec!["three".into(), "four".into()], vec![]));
}

#[test]
fn a_batch_that_is_run_again_is_the_same_to_the_byte() {
    let place = Place::new(Way::Socket, "durability = 'batch'", AS_THEY_ARE);
    let job = place.path().join("job.toml");
    let text = std::fs::read_to_string(&job).expect("the job").replace("batch-interval = '0'", "batch-interval = '1s'");
    std::fs::write(&job, text).expect("the job");
    let mut command = Command::new(binary());
    command.args(["run", "job.toml"]).current_dir(place.path()).env("TIDEMILL_DIE_AT", "rows-published:1");
    let running = Running::spawn(command);
    let mut stream = place.sender.accept();
    stream.write_all((0..ROWS).map(line).collect::<String>().as_bytes()).expect("a connection");
    assert!(running.wait().status.code().is_none());
    let out = place.path().join("out/numbers");
    let files = || -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(&out).expect("a folder").flatten();
        let parts = entries.filter(|entry| entry.path().is_file());
        parts
            .map(|entry| (entry.file_name().to_string_lossy().into(), std::fs::read(entry.path()).expect("a file")))
            .collect()
    };
    let before = files();
    assert!(before.len() > 1, "several partitions: {:?}", before.keys());
    // As if the sink had shown nothing of it.
    std::fs::remove_dir_all(&out).expect("a folder");
    place.finish();
    let after = files();
    for (name, bytes) in &before {
        assert!(after.get(name) == Some(bytes), "{name} differs");
    }
    let numbers: Vec<_> = shown(place.path(), "numbers").iter().map(|row| row["n"].clone()).collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
}

#[test]
fn going_back_behind_a_damaged_commit_finds_its_rows() {
    let place = Place::new(Way::Socket, "", BY_USER);
    let receive = |rows: std::ops::Range<u64>| {
        let mut running = Running::start(place.path(), &["run", "job.toml"]);
        let mut stream = place.sender.accept();
        let end = rows.end;
        // Until the batch of the damaged commit has been run again, nothing can be looked into.
        let is_damaged = || run(place.path(), &["checkpoint", "inspect", "checkpoint"]).stderr.contains("is damaged");
        wait_for("a checkpoint that is whole", || (!is_damaged()).then_some(()));
        stream.write_all(rows.map(line).collect::<String>().as_bytes()).expect("a connection");
        wait_for("the rows", || (n_received(place.path()) == end).then_some(()));
        running.type_in("stop\n");
        let ended = running.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        ended.stderr
    };
    for part in 0..4 {
        receive(part * 500..part * 500 + 500);
    }
    let commits = std::fs::read_dir(place.path().join("checkpoint/commits")).expect("a folder");
    let newest = commits.flatten().map(|file| file.path()).max().expect("a commit");
    std::fs::write(newest, "tidemill-checkpoint commit 1 5 0000000000000000\nhello").expect("a file");
    let log = receive(2000..ROWS);
    assert!(log.contains("the job goes on from the one before it"), "{log}");
    place.check(BY_USER, "behind a damaged commit");
}
