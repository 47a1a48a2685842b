//! The command line: exit codes, overrides, what is written where.

use std::io::Write;
use std::path::Path;

use tidemill_tests::{Running, folder, plugin, run, wait_for, written_lines};

/// Lines of a file, counted, printed as JSON.
const JOB: &str = r#"
[job]
name = "cli"
trigger = "available-now"

[[source]]
name = "lines"
type = "file"
path = "in.txt"
format = "text"

[[step]]
name = "counts"
from = "lines"
aggregate = { by = ["value"], select = { count = "count(*)" } }

[[sink]]
name = "out"
from = "counts"
type = "console"
format = "json"
"#;

fn write(place: &Path, job: &str) {
    std::fs::write(place.join("job.toml"), job).expect("a new file");
    std::fs::write(place.join("in.txt"), "a\nb\na\n").expect("a new file");
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

const COUNTS: [&str; 2] = [r#"{"value":"a","count":2}"#, r#"{"value":"b","count":1}"#];

#[test]
fn rows_go_to_standard_output_and_everything_else_to_standard_error() {
    let place = folder();
    write(place.path(), JOB);
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(sorted(&ended.stdout), COUNTS);
    assert!(ended.stderr.contains("3 rows in, 2 rows out"), "{}", ended.stderr);
}

#[test]
fn events_are_lines_of_json_when_asked() {
    let place = folder();
    write(place.path(), JOB);
    let ended = run(place.path(), &["run", "job.toml", "--format", "json"]);
    let events: Vec<serde_json::Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let names: Vec<_> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["batch-submitted", "batch-started", "batch-completed", "ended"]);
    let completed = &events[names.iter().position(|name| *name == "batch-completed").expect("it is there")];
    assert_eq!((completed["rows_in"].as_u64(), completed["rows_out"].as_u64()), (Some(3), Some(2)));
}

#[test]
fn keys_are_overridden() {
    let place = folder();
    write(place.path(), JOB);
    std::fs::write(place.path().join("other.txt"), "c\n").expect("a new file");
    let ended = run(place.path(), &["run", "job.toml", "--set", "source.lines.path=other.txt"]);
    assert_eq!(ended.stdout, "{\"value\":\"c\",\"count\":1}\n");
    let ended = run(place.path(), &["run", "job.toml", "--set", "source.lines.pth=other.txt"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("unknown key `pth`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--set:1:14"), "the place in the argument is told: {}", ended.stderr);
}

#[test]
fn a_secret_comes_from_the_environment() {
    let place = folder();
    write(place.path(), &JOB.replace("\"in.txt\"", "\"${TIDEMILL_TEST_INPUT:-in.txt}\""));
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(sorted(&ended.stdout), COUNTS);
    write(place.path(), &JOB.replace("\"in.txt\"", "\"${TIDEMILL_TEST_MISSING}\""));
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("TIDEMILL_TEST_MISSING"), "{}", ended.stderr);
}

#[test]
fn once_drains_a_continuous_job() {
    let place = folder();
    write(place.path(), &JOB.replace("trigger = \"available-now\"", "batch-interval = \"1h\""));
    let ended = run(place.path(), &["run", "job.toml", "--once"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(sorted(&ended.stdout), COUNTS);
}

#[test]
fn a_wrong_command_line_and_a_missing_file_end_with_2() {
    let place = folder();
    assert_eq!(run(place.path(), &["runn", "job.toml"]).code(), 2);
    let ended = run(place.path(), &["run", "missing.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("missing.toml"), "{}", ended.stderr);
}

#[test]
fn check_prints_the_plan_and_touches_nothing() {
    let place = folder();
    write(
        place.path(),
        &JOB.replace("type = \"console\"\nformat = \"json\"", "type = \"file\"\npath = \"out\"\nformat = \"json\""),
    );
    let ended = run(place.path(), &["check", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("stage 1: shuffle for counts, 4 partitions -> counts -> out"), "{}", ended.stdout);
    assert!(!place.path().join("out").exists(), "a check creates nothing");
    let ended = run(place.path(), &["check", "job.toml", "--format", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&ended.stdout).expect("a plan as JSON");
    assert_eq!(plan["steps"][0]["output"], "{value: utf8, count: int64}");
}

#[test]
fn a_plugin_is_looked_into() {
    let place = folder();
    let path = plugin("split_words");
    let ended = run(place.path(), &["plugin", "inspect", &path.to_string_lossy()]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("transform (contract 0.1.0)"), "{}", ended.stdout);
    let ended = run(place.path(), &["plugin", "inspect", &path.to_string_lossy(), "--format", "json"]);
    let inspection: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let sha256 = inspection["sha256"].as_str().expect("a digest");
    assert_eq!(sha256.len(), 64);
    for (name, role) in [("enrich", "grouper (contract 0.1.0)"), ("sessionise", "updater (contract 0.1.0)")] {
        let ended = run(place.path(), &["plugin", "inspect", &plugin(name).to_string_lossy()]);
        assert!(ended.stdout.contains(role), "{}", ended.stdout);
    }

    // The digest pins the plugin.
    let job = JOB.replace(
        "[[step]]\nname = \"counts\"\nfrom = \"lines\"",
        &format!(
            "[[step]]\nname = \"words\"\nfrom = \"lines\"\ntransform = \"{}\"\nsha256 = \"{sha256}\"\n\n\
             [[step]]\nname = \"counts\"\nfrom = \"words\"",
            path.display()
        ),
    );
    let job = job.replace("by = [\"value\"]", "by = [\"word\"]");
    write(place.path(), &job);
    let ended = run(place.path(), &["check", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.contains(&format!("sha256 {sha256}")), "{}", ended.stdout);
    let other = "0".repeat(64);
    write(place.path(), &job.replace(sha256, &other));
    let ended = run(place.path(), &["check", "job.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains(sha256) && ended.stderr.contains(&other), "{}", ended.stderr);
}

#[test]
fn standard_input_is_a_source_that_ends() {
    let place = folder();
    write(place.path(), &JOB.replace("type = \"file\"\npath = \"in.txt\"\nformat = \"text\"", "type = \"stdin\""));
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    running.type_in("a\nstop\na\n");
    running.close_stdin();
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(sorted(&ended.stdout), [r#"{"value":"a","count":2}"#, r#"{"value":"stop","count":1}"#]);
}

#[test]
fn a_generator_gives_as_many_rows_as_asked() {
    let place = folder();
    let source = "type = \"generator\"\nkind = \"words\"\nrows = 1000\nrows-per-second = 0";
    let job = JOB.replace("type = \"file\"\npath = \"in.txt\"\nformat = \"text\"", source);
    write(place.path(), &job.replace("by = [\"value\"]", "by = []"));
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let counts = ended.stdout.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        row["count"].as_u64().expect("a count")
    });
    assert_eq!(counts.sum::<u64>(), 1000);
}

#[test]
fn files_that_are_moved_in_while_a_job_runs_are_read_once() {
    let place = folder();
    let job = JOB
        .replace("trigger = \"available-now\"", "batch-interval = \"20ms\"")
        .replace("path = \"in.txt\"", "path = \"in\"")
        .replace("type = \"console\"\nformat = \"json\"", "type = \"file\"\npath = \"out\"\nformat = \"json\"");
    write(place.path(), &job);
    std::fs::create_dir(place.path().join("in")).expect("a new folder");
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    for n in 0..5 {
        let hidden = place.path().join(format!("in/.{n}"));
        let mut file = std::fs::File::create(&hidden).expect("a new file");
        writeln!(file, "file {n}").expect("a file that takes lines");
        std::fs::rename(&hidden, place.path().join(format!("in/{n}.txt"))).expect("a file that moves");
        let out = place.path().join("out");
        wait_for("the file's line", || {
            written_lines(&out).iter().any(|line| line.contains(&format!("file {n}"))).then_some(())
        });
    }
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let expected: Vec<String> = (0..5).map(|n| format!("{{\"value\":\"file {n}\",\"count\":1}}")).collect();
    assert_eq!(written_lines(&place.path().join("out")), expected);
}

#[test]
fn a_kill_leaves_no_partial_file_and_the_folder_can_be_used_again() {
    let place = folder();
    let source = "type = \"generator\"\nkind = \"words\"\nrows-per-second = 0";
    let job = JOB
        .replace("trigger = \"available-now\"", "batch-interval = \"0\"")
        .replace("type = \"file\"\npath = \"in.txt\"\nformat = \"text\"", source)
        .replace(
            "type = \"console\"\nformat = \"json\"",
            "type = \"file\"\npath = \"out\"\nformat = \"json\"\noverwrite = true",
        );
    write(place.path(), &job);
    let out = place.path().join("out");
    let running = Running::start(place.path(), &["run", "job.toml"]);
    wait_for("some batches", || (written_lines(&out).len() > 10_000).then_some(()));
    running.signal("KILL");
    drop(running);
    for line in written_lines(&out) {
        let row: Result<serde_json::Value, _> = serde_json::from_str(&line);
        assert!(row.is_ok(), "a line is torn: {line}");
    }
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    wait_for("some batches", || (!written_lines(&out).is_empty()).then_some(()));
    running.type_in("stop\n");
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[test]
fn standard_input_has_one_reader() {
    let place = folder();
    let job = JOB.replace(
        "type = \"file\"\npath = \"in.txt\"\nformat = \"text\"",
        "type = \"stdin\"\n\n[[source]]\nname = \"more\"\ntype = \"stdin\"",
    );
    write(place.path(), &job.replace("from = \"lines\"", "from = [\"lines\", \"more\"]"));
    let ended = run(place.path(), &["check", "job.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("`lines` and `more` both read standard input"), "{}", ended.stderr);
    assert!(ended.stderr.contains("job.toml:12:8"), "the place is named: {}", ended.stderr);
}

#[test]
fn a_standard_input_that_cannot_be_read_is_no_end() {
    let place = folder();
    write(place.path(), &JOB.replace("type = \"file\"\npath = \"in.txt\"\nformat = \"text\"", "type = \"stdin\""));
    // A folder opens, and every read of it fails.
    let input = std::fs::File::open(place.path()).expect("a folder opens");
    let mut command = std::process::Command::new(tidemill_tests::binary());
    command.args(["run", "job.toml"]).current_dir(place.path()).stdin(input);
    let ended = command.output().expect("it starts");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error: cannot read from standard input"), "{stderr}");
}

#[test]
fn a_sink_that_fails_is_named_with_its_batch() {
    let place = folder();
    let source = "type = \"generator\"\nkind = \"words\"\nrows-per-second = 1000";
    let job = JOB
        .replace("trigger = \"available-now\"", "batch-interval = \"20ms\"")
        .replace("type = \"file\"\npath = \"in.txt\"\nformat = \"text\"", source)
        .replace("type = \"console\"\nformat = \"json\"", "type = \"file\"\npath = \"out\"\nformat = \"json\"");
    write(place.path(), &job);
    let out = place.path().join("out");
    let running = Running::start(place.path(), &["run", "job.toml"]);
    wait_for("a batch", || (!written_lines(&out).is_empty()).then_some(()));
    std::fs::rename(&out, place.path().join("moved")).expect("a folder that moves");
    let ended = running.wait();
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("error: sink `out` failed in batch "), "{}", ended.stderr);
}
