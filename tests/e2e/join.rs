//! Joins that take several batches: a table that changes, rows that wait for others.

use std::path::Path;

use tidemill_tests::{Running, folder, wait_for, written_lines};

/// Puts a file where a job looks for it, whole.
fn put(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(format!("{name}.tmp")), text).expect("a new file");
    std::fs::rename(folder.join(format!("{name}.tmp")), folder.join(name)).expect("a moved file");
}

fn start(place: &Path, job: &str) -> Running {
    let around = r#"
[job]
name = "joined"
batch-interval = "50ms"

[[sink]]
from = "joined"
type = "file"
path = "out"
format = "json"
"#;
    std::fs::write(place.join("job.toml"), format!("{around}{job}")).expect("a new file");
    Running::start(place, &["run", "job.toml"])
}

#[track_caller]
fn wait_for_rows(place: &Path, expected: &[&str]) {
    let mut expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    expected.sort();
    let mut seen = Vec::new();
    wait_for(&format!("{expected:?}"), || {
        seen = written_lines(&place.join("out"));
        (seen.len() >= expected.len()).then_some(())
    });
    assert_eq!(seen, expected);
}

#[test]
fn a_batch_sees_the_table_as_it_is_then() {
    let place = folder();
    put(place.path(), "names.csv", "id,name\n1,ann\n");
    let job = r#"
[[source]]
name = "rows"
type = "socket"
address = "ADDRESS"

[[table]]
name = "names"
path = "names.csv"
format = "csv"
schema = { id = "utf8", name = "utf8" }

[[step]]
name = "joined"
from = "rows"
join = { with = "names", on = { value = "id" }, type = "left" }
"#;
    let sender = tidemill_tests::Sender::listen();
    let running = start(place.path(), &job.replace("ADDRESS", &sender.address()));
    let mut stream = sender.accept();
    let mut send = |text: &str| std::io::Write::write_all(&mut stream, text.as_bytes()).expect("a connection");
    send("1\n2\n");
    let first = [r#"{"value":"1","id":"1","name":"ann"}"#, r#"{"value":"2"}"#];
    wait_for_rows(place.path(), &first);
    put(place.path(), "names.csv", "id,name\n1,anna\n2,bob\n");
    send("1\n2\n");
    let second = [r#"{"value":"1","id":"1","name":"anna"}"#, r#"{"value":"2","id":"2","name":"bob"}"#];
    wait_for_rows(place.path(), &[first, second].concat());
    // A table that cannot be read leaves what was there, and is told of once.
    put(place.path(), "names.csv", "number,name\n1,ann\n");
    send("2\n");
    wait_for_rows(place.path(), &[&first[..], &second, &second[1..]].concat());
    drop(stream);
    let told = |running: &Running| running.stderr().matches("cannot be read: its rows stay as they were").count();
    wait_for("the error", || (told(&running) > 0).then_some(()));
    assert_eq!(told(&running), 1);
    running.signal("TERM");
    running.wait();
}

#[test]
fn a_row_without_a_match_comes_when_the_clock_has_passed_it() {
    let place = folder();
    for name in ["orders", "payments"] {
        std::fs::create_dir(place.path().join(name)).expect("a new folder");
    }
    let source = |name: &str| {
        format!(
            r#"
[[source]]
name = "{name}"
type = "file"
path = "{name}"
format = "json"
schema = {{ id = "int64", at = "timestamp" }}
event-time = {{ column = "at", delay = "0s" }}
"#
        )
    };
    let step = r#"
[[step]]
name = "joined"
from = "orders"
join = { with = "payments", on = ["id"], type = "left", prefix = "paid_", time = "at", within = { after = "5s" } }
"#;
    let running = start(place.path(), &[source("orders"), source("payments"), step.to_owned()].concat());
    let row = |id: u32, second: u32| format!("{{\"id\":{id},\"at\":\"2026-01-01T10:00:{second:02}Z\"}}\n");
    put(&place.path().join("orders"), "1", &(row(1, 0) + &row(2, 0)));
    put(&place.path().join("payments"), "1", &row(2, 5));
    let paid = r#"{"id":2,"at":"2026-01-01T10:00:00Z","paid_at":"2026-01-01T10:00:05Z"}"#;
    wait_for_rows(place.path(), &[paid]);
    // Both sides have gone on: nothing can come for the first order any more.
    put(&place.path().join("payments"), "2", &row(7, 20));
    put(&place.path().join("orders"), "2", &row(3, 30));
    let unpaid = r#"{"id":1,"at":"2026-01-01T10:00:00Z"}"#;
    wait_for_rows(place.path(), &[paid, unpaid]);
    running.signal("TERM");
    running.wait();
}
