//! A batch that fails where the step says so is given up, and leaves no trace but what is said of it.

use tidemill_tests::{folder, run, written_lines};

/// A batch a file: shares of 60 by minute, which 0 has none of.
const JOB: &str = r#"
[job]
name = "shares"
trigger = "available-now"

[[source]]
name = "rows"
type = "file"
path = "in"
format = "json"
max-files-per-batch = 1
schema = { at = "timestamp", n = "int64" }
event-time = { column = "at" }

[[step]]
name = "minutes"
from = "rows"
aggregate = { select = { n = "sum(n)" }, window = { size = "1m", time = "at" } }

[[step]]
name = "shares"
from = "rows"
STEP
on-error = "skip-batch"

[[sink]]
from = "minutes"
type = "file"
path = "minutes"

[[sink]]
from = "shares"
type = "file"
path = "shares"
"#;

const BATCHES: [&str; 4] = [
    r#"{"at": "2026-01-01T00:05:00Z", "n": 6}"#,
    // The first row moves the clock on for the next batch.
    r#"{"at": "2026-01-01T00:05:30Z", "n": 5}"#,
    // One that is late, and one without a share.
    r#"{"at": "2026-01-01T00:00:01Z", "n": 1}
{"at": "2026-01-01T00:05:40Z", "n": 0}"#,
    r#"{"at": "2026-01-01T00:00:02Z", "n": 2}"#,
];

#[track_caller]
fn check(step: &str, shares: &[&str]) {
    let place = folder();
    let input = place.path().join("in");
    std::fs::create_dir(&input).expect("a new folder");
    for (number, rows) in BATCHES.iter().enumerate() {
        std::fs::write(input.join(format!("{number}.jsonl")), rows).expect("a new file");
    }
    std::fs::write(place.path().join("job.toml"), JOB.replace("STEP", step)).expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(written_lines(&place.path().join("shares")), shares, "{}", ended.stderr);
    let minute = r#"{"window_start":"2026-01-01T00:05:00Z","window_end":"2026-01-01T00:06:00Z","n":11}"#;
    assert_eq!(written_lines(&place.path().join("minutes")), [minute], "{}", ended.stderr);
    // The late row of the batch that was given up is not counted.
    assert!(ended.stderr.contains("1 batches were skipped"), "{}", ended.stderr);
    assert!(ended.stderr.contains("step minutes: 1 rows came too late"), "{}", ended.stderr);
}

#[test]
fn a_batch_in_which_an_expression_has_no_value_is_skipped() {
    let shares = [r#"{"share":10}"#, r#"{"share":12}"#, r#"{"share":30}"#];
    check(r#"select = { share = "60 / n" }"#, &shares);
    check(r#"sql = "SELECT 60 / n AS share FROM rows ORDER BY share""#, &shares);
}
