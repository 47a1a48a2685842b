//! Hostile plugins: each is stopped with an error that names plugin, step and rule, word for word as it is kept in
//! `tests/hostile.txt`, and the host goes on. `TIDEMILL_BLESS=1` writes the file anew, to be read before it is committed.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, RecordBatch, StringArray};
use tidemill::context::{Context, Plugin};
use tidemill::error::Error;
use tidemill::job::{Job, Settings};
use tidemill::operator::{JobLimits, Limits};
use tidemill::plugin::Runtime;
use tidemill_tests::{folder, plugin, project, run};

use crate::library::{Lines, runtime};

/// What the plugin is told to do, and the limits that stop it soon.
const DEEDS: [&str; 74] = [
    "nothing",
    "panic-in-open",
    "endless-loop-in-open",
    "memory-bomb-in-open",
    "sleep-in-open",
    "exit-in-open",
    "refuse-config",
    "refuse-schema",
    "refuse-other",
    "refuse-with-control-characters",
    "refuse-at-length",
    "reads-unknown",
    "reads-twice",
    "reads-a-million",
    "carries-unknown",
    "writes-twice",
    "writes-too-many",
    "writes-too-deep",
    "writes-missing-children",
    "writes-bad-decimal",
    "endless-loop",
    "recursion",
    "memory-bomb",
    "panic",
    "panic-with-control-characters",
    "abort",
    "exit",
    "unreachable",
    "sleep",
    "sleep-often",
    "fail",
    "fail-retry",
    "log-flood",
    "log-long",
    "log-control-characters",
    "stderr-flood",
    "stdout-flood",
    "count-flood",
    "output-flood",
    "row-flood",
    "wrong-length",
    "huge-rows",
    "wrong-null-count",
    "null-count-without-validity",
    "short-validity",
    "missing-node",
    "extra-node",
    "missing-buffer",
    "extra-buffer",
    "offsets-missing",
    "offsets-backwards",
    "offsets-out-of-bounds",
    "offsets-negative",
    "offsets-not-from-zero",
    "bad-utf8",
    "split-character",
    "wrong-schema",
    "wrong-row-numbers",
    "missing-row-numbers",
    "too-many-row-numbers",
    "reject-unknown",
    "reject-twice",
    "reject-at-length",
    "read-monotonic-clock",
    "read-environment",
    "read-file",
    "random",
    "log-line-flood",
    "host-call-flood",
    "cpu-hog",
    "cpu-hog-in-open",
    "cpu-hog-of-job",
    "memory-bomb-of-job",
    // It does nothing, once in more partitions than it may.
    "instances-of-job",
];

/// Those that only time stops. The others have plenty of it, so that a busy machine does not change what they are told.
const ENDLESS: [&str; 3] = ["endless-loop-in-open", "endless-loop", "sleep-often"];

fn limits(deed: &str) -> Limits {
    let time = Duration::from_millis(if ENDLESS.contains(&deed) { 300 } else { 60_000 });
    let limits = Limits {
        time_to_open: time,
        time_per_call: time,
        // A busy machine is not slow here.
        cpu_time_to_open: Duration::from_secs(60),
        cpu_time_per_call: Duration::from_secs(60),
        ..Limits::default()
    };
    let little = Duration::from_millis(100);
    match deed {
        "cpu-hog" => Limits { cpu_time_per_call: little, ..limits },
        "cpu-hog-in-open" => Limits { cpu_time_to_open: little, ..limits },
        "log-line-flood" => Limits { log_lines_per_call: 5, ..limits },
        "host-call-flood" => Limits { host_calls: 10_000, ..limits },
        "memory-bomb-of-job" => Limits { memory_bytes: 1 << 30, ..limits },
        _ => limits,
    }
}

fn job_limits(deed: &str) -> JobLimits {
    let limits = JobLimits::default();
    match deed {
        "cpu-hog-of-job" => JobLimits { cpu_time_per_batch: Some(Duration::from_millis(100)), ..limits },
        "memory-bomb-of-job" => JobLimits { memory_bytes: 32 << 20, ..limits },
        "instances-of-job" => JobLimits { instances: 0, ..limits },
        _ => limits,
    }
}

/// What comes of a job whose only step does `deed`: its rows, or how it failed.
fn outcome(runtime: &Runtime, deed: &str) -> String {
    let settings = Settings {
        name: "hostile".into(),
        batch_interval: Duration::ZERO,
        job_limits: job_limits(deed),
        ..Settings::default()
    };
    let context = Context::from_job(Job { settings, ..Job::default() }, runtime.clone());
    let rows: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = rows.clone();
    let hostile = Plugin::at(plugin("hostile")).config(serde_json::json!({ "do": deed })).limits(limits(deed));
    let lines = context.source("lines", Lines::source(&["one", "two", "three"], false));
    lines.transform("bad", hostile).foreach_batch(move |_, batches| {
        kept.lock().expect("no test panicked").extend(batches.iter().flat_map(texts));
        Ok(())
    });
    let ended = context.start().and_then(|running| running.await_termination());
    let report = match ended {
        Ok(_) => format!("rows: {}\n", rows.lock().expect("no test panicked").join(" ")),
        Err(error) => report(&error),
    };
    report.replace(&*project().to_string_lossy(), "{project}")
}

fn report(error: &Error) -> String {
    // Problems of a plan have a place each; here there is one.
    error.report()
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let column = batch.column(0).as_any().downcast_ref::<StringArray>().expect("text");
    (0..column.len()).map(|row| column.value(row).to_owned()).collect()
}

#[test]
fn every_deed_is_stopped_with_a_clear_error_and_the_host_goes_on() {
    let runtime = runtime();
    let mut seen = String::new();
    for deed in DEEDS {
        // Writing to a String cannot fail.
        let _ = writeln!(seen, "== {deed}\n{}", outcome(&runtime, deed));
        assert_eq!(outcome(&runtime, "nothing"), "rows: one two three\n", "after {deed}");
    }
    let place = project().join("tests/hostile.txt");
    if std::env::var_os("TIDEMILL_BLESS").is_some() {
        std::fs::write(&place, &seen).expect("the file is writable");
    }
    let expected = std::fs::read_to_string(&place).expect("tests/hostile.txt");
    for (expected, seen) in expected.split("== ").zip(seen.split("== ")) {
        assert_eq!(seen, expected);
    }
    assert_eq!(seen.len(), expected.len(), "a deed is missing");
}

#[test]
fn a_guest_sees_the_time_of_its_batch() {
    let settings = Settings { name: "time".into(), batch_interval: Duration::ZERO, ..Settings::default() };
    let context = Context::from_job(Job { settings, ..Job::default() }, runtime());
    let seen: Arc<Mutex<Vec<(i64, String)>>> = Arc::default();
    let kept = seen.clone();
    let clock = Plugin::at(plugin("hostile")).config(serde_json::json!({ "do": "read-clock" }));
    context.source("lines", Lines::source(&["x"], false)).transform("clock", clock).foreach_batch(
        move |batch, rows| {
            let rows = rows.iter().flat_map(texts).map(|text| (batch.batch_time_us, text));
            kept.lock().expect("no test panicked").extend(rows);
            Ok(())
        },
    );
    context.start().and_then(|running| running.await_termination()).expect("a job that ends well");
    let seen = seen.lock().expect("no test panicked");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].0.to_string(), seen[0].1);
}

/// Runs a job of the binary whose step has the plugin at `file`, and gives what it says.
fn check_file(file: &[u8]) -> String {
    check_file_with(file, "")
}

/// The same with more keys in the job file.
fn check_file_with(file: &[u8], more: &str) -> String {
    let place = folder();
    let plugin: PathBuf = place.path().join("plugin.wasm");
    std::fs::write(&plugin, file).expect("a new file");
    std::fs::write(place.path().join("in.txt"), "x\n").expect("a new file");
    std::fs::write(
        place.path().join("job.toml"),
        r#"
            [job]
            name = "file"
            trigger = "available-now"
            [[source]]
            name = "lines"
            type = "file"
            path = "in.txt"
            format = "text"
            [[step]]
            name = "bad"
            from = "lines"
            transform = "plugin.wasm"
            [[sink]]
            from = "bad"
            type = "console"
        "#
        .to_owned()
            + more,
    )
    .expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("plugin.wasm"), "{}", ended.stderr);
    assert!(ended.stderr.contains("job.toml:13:"), "the place is named: {}", ended.stderr);
    ended.stderr
}

#[track_caller]
fn check(file: &[u8], expected: &str) {
    let said = check_file(file);
    assert!(said.contains(expected), "{said}");
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("valid text")
}

#[test]
fn files_that_are_no_plugins_are_told_apart() {
    let good = std::fs::read(plugin("split_words")).expect("a plugin");
    check(b"", "empty");
    check(b"#!/bin/sh\necho hello\n", "not a WebAssembly component");
    check(&wat("(module)"), "core module");
    check(&good[..good.len() / 2], "cut off");
    check(&wat("(component)"), "no role");
    check(&wat(r#"(component (import "wasi:keyvalue/store@0.2.6" (instance)))"#), "wasi:keyvalue/store@0.2.6");
    check(&wat(r#"(component (import "evil:host/everything@1.0.0" (instance)))"#), "evil:host/everything@1.0.0");
}

#[test]
fn what_is_kept_for_keys_is_limited() {
    let place = folder();
    std::fs::write(place.path().join("in.jsonl"), "{\"user\":\"a\",\"item\":\"x\",\"value\":1.5}\n")
        .expect("a new file");
    let check = |limit: &str, expected: &str| {
        let text = format!(
            "[job]\nname = 'kept'\ntrigger = 'available-now'\n\n[[source]]\nname = 'rows'\ntype = 'file'\npath = 'in.jsonl'\n\
             format = 'json'\nschema = {{ user = 'utf8', item = 'utf8', value = 'float64' }}\n\n[[step]]\nname = 'keeps'\nfrom = 'rows'\n\
             update-state = {{ by = 'user', plugin = '{}', config = {{ k = 3 }} }}\nlimits.{limit} = '4B'\n\n\
             [[sink]]\nfrom = 'keeps'\ntype = 'console'\n",
            plugin("running_top_k").display()
        );
        std::fs::write(place.path().join("job.toml"), text).expect("a new file");
        let ended = run(place.path(), &["run", "job.toml"]);
        assert_eq!(ended.code(), 1, "{}", ended.stderr);
        let raise = format!("Raise `{limit}` in the `limits` of step `keeps` or in the job's `[limits]`");
        for part in [expected, &raise] {
            assert!(ended.stderr.contains(part), "{part} is not in {}", ended.stderr);
        }
    };
    check("state-per-key", "exceeded its state of a key: the limit is 4B, the plugin returned one of ");
    check("state", "exceeded its state: the limit is 4B, its keys would have ");
}

#[test]
fn what_loading_takes_is_limited() {
    let good = std::fs::read(plugin("split_words")).expect("a plugin");
    let said = check_file_with(&good, "[limits]\nplugin-size = '1KiB'");
    assert!(said.contains("exceeds its plugin size: the limit is 1KiB, the file has "), "{said}");
    assert!(said.contains("Raise `plugin-size` in the `limits` of the step or in the job's `[limits]`"), "{said}");
    // Another file each time, so that it is in no cache.
    let said = check_file_with(&bomb(1), "[limits]\ncompile-memory = '64MiB'");
    assert!(said.contains("exceeds its compile memory: the limit is 64MiB, the compiler asked for more"), "{said}");
    assert!(said.contains("Raise `compile-memory` in the `limits` of the step"), "{said}");
    let said = check_file_with(&bomb(2), "[limits]\ncompile-time = '1s'\ncompile-memory = '16GiB'");
    assert!(said.contains("exceeds its compile time: the limit is 1s of processor time"), "{said}");
    assert!(said.contains("Raise `compile-time` in the `limits` of the step"), "{said}");
}

/// A component of some hundred KiB whose only function is made to cost its compiler much: in each of its many loops, each of its many
/// variables may be another.
fn bomb(seed: u32) -> Vec<u8> {
    const VARIABLES: usize = 2_000;
    const LOOPS: usize = 5_000;
    let mut function = format!("(func (export \"f\") (param $a i32) (local {})", "i32 ".repeat(VARIABLES));
    for i in 0..LOOPS {
        let variable = i % VARIABLES + 1;
        function.push_str(&format!(
            "(loop (local.set {variable} (i32.add (local.get {}) (i32.const {seed}))) (br_if 0 (local.get {})))",
            (i * 7) % VARIABLES + 1,
            (i * 13) % VARIABLES + 1
        ));
    }
    function.push(')');
    wat(&format!("(component (core module {function}))"))
}

#[test]
fn a_plugin_without_the_role_is_refused() {
    let said = check_file(&std::fs::read(plugin("sum")).expect("a plugin"));
    assert!(said.contains("has no role `transform`"), "{said}");
    assert!(said.contains("It has `reducer`"), "{said}");
}
