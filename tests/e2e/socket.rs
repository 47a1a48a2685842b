//! The socket source: lines from real connections, whatever the other side sends.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use tidemill_tests::{Ended, Running, Sender, folder, run, wait_for, written_lines};

fn job(address: &str, source: &str, settings: &str) -> String {
    format!(
        r#"
        [job]
        name = "lines"
        batch-interval = "0"
        {settings}

        [[source]]
        name = "lines"
        type = "socket"
        address = "{address}"
        {source}

        [[step]]
        name = "counts"
        from = "lines"
        aggregate = {{ by = ["value"], select = {{ count = "count(*)" }} }}

        [[sink]]
        from = "counts"
        type = "file"
        path = "out"
        format = "json"
        "#
    )
}

/// The counts over all batches, by line.
fn counts(place: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in written_lines(&place.join("out")) {
        let row: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
        let value = row["value"].as_str().expect("a line").to_owned();
        *counts.entry(value).or_default() += row["count"].as_u64().expect("a count");
    }
    counts
}

/// Sends bytes over one connection to a source that ends with it.
fn send(bytes: &[u8], source: &str) -> (tempfile::TempDir, Ended) {
    let place = folder();
    let sender = Sender::listen();
    let source = format!("reconnect = false\n{source}");
    std::fs::write(place.path().join("job.toml"), job(&sender.address(), &source, "")).expect("a new file");
    let running = Running::start(place.path(), &["run", "job.toml"]);
    sender.accept().write_all(bytes).expect("a connection");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    (place, ended)
}

#[test]
fn lines_end_with_newline_carriage_return_is_taken_off_and_the_last_needs_no_end() {
    let (place, _) = send(b"one\r\ntwo\n\ntwo", "");
    let expected = [("one", 1), ("two", 2), ("", 1)].map(|(line, n)| (line.to_owned(), n));
    assert_eq!(counts(place.path()), BTreeMap::from(expected));
}

#[test]
fn invalid_utf8_is_counted_and_shown() {
    let (place, ended) = send(b"good\n\xff\xfe bad\ngood\n", "");
    assert_eq!(counts(place.path()).get("good"), Some(&2));
    assert!(ended.stderr.contains("UTF-8"), "{}", ended.stderr);
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_next_is_not_lost() {
    let mut bytes = vec![b'x'; 5_000_000];
    bytes.extend_from_slice(b"\nnext\n");
    let (place, ended) = send(&bytes, "max-line-bytes = \"1KiB\"");
    let expected = BTreeMap::from([("next".to_owned(), 1)]);
    assert_eq!(counts(place.path()), expected);
    assert!(ended.stderr.contains("max-line-bytes"), "{}", ended.stderr);
}

#[test]
fn a_source_connects_again_when_the_other_side_goes_away() {
    let place = folder();
    let sender = Sender::listen();
    std::fs::write(place.path().join("job.toml"), job(&sender.address(), "", "")).expect("a new file");
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    for n in 0..3 {
        let mut stream = sender.accept();
        stream.write_all(format!("connection {n}\n").as_bytes()).expect("a connection");
    }
    wait_for("three lines", || (counts(place.path()).values().sum::<u64>() == 3).then_some(()));
    running.type_in("stop\n");
    assert_eq!(running.wait().code(), 0);
}

#[test]
fn a_source_waits_for_a_server_that_is_not_there_yet() {
    let place = folder();
    let address = Sender::listen().address();
    std::fs::write(place.path().join("job.toml"), job(&address, "", "")).expect("a new file");
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    wait_for("a word on what is waited for", || running.stderr().contains(&address).then_some(()));
    assert!(running.is_running());
    running.type_in("stop\n");
    assert_eq!(running.wait().code(), 0);
}

#[test]
fn a_sender_faster_than_the_job_is_slowed_and_every_line_is_counted_once() {
    const N_LINES: u64 = 1_000_000;
    let place = folder();
    let sender = Sender::listen();
    // The store holds a fraction of what is sent: without waiting, the rest would have nowhere to go.
    let text = job(&sender.address(), "reconnect = false", "memory = \"2MiB\"\n[spill]\nblocks = false");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let running = Running::start(place.path(), &["run", "job.toml"]);
    let mut stream = sender.accept();
    let mut block = String::new();
    for n in 0..1000 {
        block.push_str(&format!("a line of some length, to fill the store, number {}\n", n % 10));
    }
    for _ in 0..N_LINES / 1000 {
        stream.write_all(block.as_bytes()).expect("a connection");
    }
    drop(stream);
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let counts = counts(place.path());
    assert_eq!(counts.len(), 10);
    assert_eq!(counts.values().sum::<u64>(), N_LINES);
}

#[test]
fn available_now_needs_a_source_that_ends() {
    let place = folder();
    let text = job("127.0.0.1:1", "", "trigger = \"available-now\"");
    std::fs::write(place.path().join("job.toml"), text).expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("available-now"), "{}", ended.stderr);
}
