//! A job ends as it is asked to: gracefully, with everything that was received, or at once.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

use tidemill_tests::{Running, Sender, folder, wait_for, written_lines};

/// Lines of a socket, each counted by its text, to the folder `out`.
const JOB: &str = r#"
[job]
name = "stopped"
batch-interval = "50ms"

[[source]]
name = "lines"
type = "socket"
address = "ADDRESS"

[[step]]
name = "counts"
from = "lines"
aggregate = { by = ["value"], select = { count = "count(*)" } }

[[sink]]
from = "counts"
type = "file"
path = "out"
format = "json"
"#;

fn start(place: &Path) -> (Running, TcpStream) {
    let sender = Sender::listen();
    std::fs::write(place.join("job.toml"), JOB.replace("ADDRESS", &sender.address())).expect("a new file");
    let running = Running::start(place, &["run", "job.toml"]);
    let stream = sender.accept();
    (running, stream)
}

/// The sum of the counts that were published.
fn n_counted(place: &Path) -> u64 {
    let lines = written_lines(&place.join("out"));
    let counts = lines.iter().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        row["count"].as_u64().expect("a count")
    });
    counts.sum()
}

/// Sends lines, asks for a graceful stop while they arrive, and expects every line that was received to be counted.
#[track_caller]
fn check_graceful(ask: impl FnOnce(&mut Running)) {
    const N_LINES: u64 = 20_000;
    let place = folder();
    let (mut running, mut stream) = start(place.path());
    for n in 0..N_LINES {
        stream.write_all(format!("line {}\n", n % 100).as_bytes()).expect("a connection");
    }
    stream.flush().expect("a connection");
    // Everything has left this side; the first batch has been published, so the rest is on its way or received.
    wait_for("a first batch", || (n_counted(place.path()) > 0).then_some(()));
    wait_for("all lines", || (n_counted(place.path()) == N_LINES).then_some(()));
    // These are received when the stop comes, or not: they are counted once, or not at all, but never in part.
    ask(&mut running);
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(n_counted(place.path()), N_LINES, "{}", ended.stderr);
}

#[test]
fn the_word_stop_ends_a_job_gracefully() {
    check_graceful(|running| running.type_in("stop\n"));
}

#[test]
fn sigterm_ends_a_job_gracefully() {
    check_graceful(|running| running.signal("TERM"));
}

#[test]
fn sigint_ends_a_job_gracefully() {
    check_graceful(|running| running.signal("INT"));
}

#[test]
fn what_was_received_is_published_by_a_graceful_stop_between_ticks() {
    let place = folder();
    let sender = Sender::listen();
    // The tick is far away: only the stop can make a batch of what was received.
    let job = JOB.replace("ADDRESS", &sender.address()).replace("50ms", "1h");
    std::fs::write(place.path().join("job.toml"), job).expect("a new file");
    let mut running = Running::start(place.path(), &["run", "job.toml", "--format", "json"]);
    let mut stream = sender.accept();
    stream.write_all(b"one\ntwo\nthree\n").expect("a connection");
    drop(stream);
    // The source sees the end of the stream after the lines, and connects again: they have been received.
    let _again = sender.accept();
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(n_counted(place.path()), 3, "{}", ended.stderr);
}

#[test]
fn a_second_signal_stops_at_once() {
    let place = folder();
    std::fs::write(
        place.path().join("job.toml"),
        format!(
            r#"
            [job]
            name = "busy"
            batch-interval = "0"
            [limits]
            time-per-call = "1h"
            cpu-time-per-call = "1h"
            [[source]]
            name = "lines"
            type = "generator"
            kind = "words"
            rows = 1000
            [[step]]
            name = "loops"
            from = "lines"
            transform = "{}"
            config = {{ do = "endless-loop" }}
            [[sink]]
            from = "loops"
            type = "console"
            "#,
            tidemill_tests::plugin("hostile").display()
        ),
    )
    .expect("a new file");
    let running = Running::start(place.path(), &["run", "job.toml", "--format", "json"]);
    wait_for("a batch to start", || running.stderr().contains("batch").then_some(()));
    running.signal("INT");
    // Signals do not queue: two that come before the process runs are one. Only when the first has been taken is the next
    // a second.
    wait_for("the first to be taken", || running.stderr().contains(r#""event":"stopping""#).then_some(()));
    running.signal("INT");
    let ended = running.wait();
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    // The call was broken off: the job ended by itself, with its last event.
    assert!(ended.stderr.contains(r#""outcome":"stopped-at-once""#), "{}", ended.stderr);
}
