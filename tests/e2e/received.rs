//! Rows of sockets and standard input over a crash: nothing that was received is lost, doubled, or out of order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use tidemill_tests::{PATIENCE, Running, Sender, binary, folder, run, wait_for};

use crate::recovery::{Random, from_environment};
use crate::senders::{LOG_POINTS, Place, Way, received, seeded, shown};

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

/// How many rows were ever received.
fn n_received(folder: &Path) -> u64 {
    received(folder, "checkpoint", &Vec::new()).values().sum()
}

/// A job, and the rows of a round for it.
fn place(way: Way, settings: &str, steps: &str) -> Place {
    let lines = (0..ROWS).map(line).collect();
    Place::new(way, vec![("lines", lines)], (60, 8), |addresses| job(&addresses[0], way, settings, steps))
}

/// Every row was shown once, in order.
#[track_caller]
fn check_shown(folder: &Path, steps: &str, what: &str) {
    if steps == AS_THEY_ARE {
        let numbers: Vec<u64> =
            shown(folder, "numbers").iter().map(|row| row["n"].as_u64().expect("a number")).collect();
        assert_eq!(numbers, (0..ROWS).collect::<Vec<_>>(), "{what}");
    } else {
        let (mut found, mut expected) = (BTreeMap::new(), BTreeMap::new());
        for row in shown(folder, "users") {
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

#[track_caller]
fn check(way: Way, settings: &str, steps: &str) {
    check_killed(&place(way, settings, steps), &BATCH_POINTS, KILLS, steps, &format!("{way:?}, {settings}"));
}

/// Kills a job, round after round.
#[track_caller]
fn check_killed(place: &Place, batch_points: &[&str], kills_max: u64, steps: &str, what: &str) {
    let (seed, mut random) = seeded(&format!("{what}{steps}"));
    let points = [&LOG_POINTS[..], batch_points].concat();
    let (mut kills, mut rounds) = (0, 0);
    while kills < from_environment("TIDEMILL_KILLS", kills_max) {
        place.start_anew();
        let what = format!("{what}, seed {seed}, round {rounds}");
        kills += place.kill_until_all_is_received(&mut random, &points, |_| Vec::new(), &what);
        place.finish();
        check_shown(place.path(), steps, &what);
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

/// Rows for which memory has no room are on the disk twice, in the log and where they wait for a batch. After a crash those of the log count.
#[test]
fn rows_that_wait_on_disk_are_shown_once() {
    let filler = "what makes a line longer than lines are ".repeat(100);
    let line = |number| format!("{{\"n\":{number},\"user\":\"u\",\"text\":\"{filler}\"}}\n");
    let settings = "durability = 'row'\n\n[spill]\npath = 'spill'";
    let place = Place::new(Way::Socket, vec![("lines", (0..ROWS).map(line).collect())], (400, 4), |addresses| {
        let job = job(&addresses[0], Way::Socket, settings, AS_THEY_ARE);
        job.replace("batch-interval = '0'", "batch-interval = '300ms'")
    });
    let n_left = || std::fs::read_dir(place.path().join("spill")).expect("a folder").count();
    place.attempt(&[], 9, Some("rows-spilled:2"), PATIENCE);
    assert_eq!(n_left(), 1, "it died while rows were on disk");
    check_killed(&place, &["rows-spilled", "rows-spilled", "rows-published"], KILLS / 5, AS_THEY_ARE, "on disk");
    assert_eq!(n_left(), 0, "nothing is left");
}

#[test]
fn a_process_dies_at_every_instant_of_the_log_and_goes_on() {
    let place = place(Way::Socket, "", AS_THEY_ARE);
    for point in LOG_POINTS {
        // It is passed with the first rows, and seldom again.
        let passes = if point == "wal-end-written" { 1 } else { 2 };
        let ended = place.attempt(&[], 3, Some(&format!("{point}:{passes}")), PATIENCE);
        assert!(ended.stderr.contains("received") || !ended.stderr.contains("error"), "{point}: {}", ended.stderr);
    }
    let received = n_received(place.path());
    place.finish();
    let numbers = shown(place.path(), "numbers").len() as u64;
    assert_eq!(numbers, received);
}

/// A job that has received some rows of a connection, and was killed before a batch had them all.
fn killed(settings: &str) -> (Place, u64) {
    let place = place(Way::Socket, settings, AS_THEY_ARE);
    place.attempt(&[], 5, Some("offsets-written:3"), PATIENCE);
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
    let place = place(Way::Socket, "durability = 'none'", AS_THEY_ARE);
    place.attempt(&[], 7, Some("offsets-written:1"), PATIENCE);
    assert!(!place.path().join("checkpoint/wal").exists());
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    wait_for("a word on what is lost", || running.stderr().contains("rows_lost=").then_some(()));
    running.type_in("stop\n");
    assert_eq!(running.wait().code(), 0);
}

#[test]
fn a_stop_at_once_leaves_what_was_received_to_the_next_run() {
    let place = place(Way::Socket, "durability = 'batch'", AS_THEY_ARE);
    let arguments = ["run", "job.toml", "--format", "json", "--set", "job.batch-interval=300ms"];
    let mut running = Running::start(place.path(), &arguments);
    let mut stream = place.sender().accept();
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
    let place = place(Way::Socket, "durability = 'row'", AS_THEY_ARE);
    let running = Running::start(place.path(), &["run", "job.toml", "--set", "job.batch-interval=1h"]);
    let mut stream = place.sender().accept();
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
    let place = place(Way::Socket, "", AS_THEY_ARE);
    let running = Running::start(place.path(), &["run", "job.toml", "--set", "job.batch-interval=1h"]);
    let mut stream = place.sender().accept();
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
    while place.sender().try_accept().is_some() {}
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
    let place = place(Way::Socket, "batch-interval = '1h'", AS_THEY_ARE);
    let job = place.path().join("job.toml");
    let text = std::fs::read_to_string(&job).expect("the job").replacen("batch-interval = '0'\n", "", 1);
    std::fs::write(&job, text).expect("the job");
    let bad = |number: u64| format!("no JSON {number}");
    for part in 0..3 {
        let running = Running::start(place.path(), &["run", "job.toml"]);
        let mut stream = place.sender().accept();
        let lines = (part * 100..part * 100 + 100).map(|number| match number % 9 {
            4 => format!("{}\n", bad(number)),
            _ => line(number),
        });
        stream.write_all(lines.collect::<String>().as_bytes()).expect("a connection");
        wait_for("a hundred rows", || (n_received(place.path()) == part * 100 + 100).then_some(()));
        running.signal("KILL");
        assert!(running.wait().status.code().is_none());
        while place.sender().try_accept().is_some() {}
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
    let place = place(Way::Socket, "durability = 'batch'", AS_THEY_ARE);
    let job = place.path().join("job.toml");
    let text = std::fs::read_to_string(&job).expect("the job").replace("batch-interval = '0'", "batch-interval = '1s'");
    std::fs::write(&job, text).expect("the job");
    let mut command = Command::new(binary());
    command.args(["run", "job.toml"]).current_dir(place.path()).env("TIDEMILL_DIE_AT", "rows-published:1");
    let running = Running::spawn(command);
    let mut stream = place.sender().accept();
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
    let place = place(Way::Socket, "", BY_USER);
    let receive = |rows: std::ops::Range<u64>| {
        let mut running = Running::start(place.path(), &["run", "job.toml"]);
        let mut stream = place.sender().accept();
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
    check_shown(place.path(), BY_USER, "behind a damaged commit");
}
