//! Old batches that are run again, and state that is looked at, beside the job.

use std::path::Path;

use serde_json::{Value, json};
use tidemill_tests::{Ended, folder, run};

/// Three batches, a file each, and a running count of their words.
fn ran() -> tempfile::TempDir {
    let place = folder();
    std::fs::create_dir(place.path().join("lines")).expect("a new folder");
    for (file, line) in ["a b A", "b", "a c a"].iter().enumerate() {
        std::fs::write(place.path().join(format!("lines/{file}.txt")), format!("{line}\n")).expect("a new file");
    }
    let plugin = tidemill_tests::plugin("split_words");
    let job = format!(
        "[job]\nname = 'words'\nbatch-interval = '0'\ntrigger = 'available-now'\npartitions = 2\ncheckpoint = 'checkpoint'\n\
         [[source]]\nname = 'lines'\ntype = 'file'\npath = 'lines'\nmax-files-per-batch = 1\n\
         [[step]]\nname = 'words'\nfrom = 'lines'\ntransform = '{}'\nconfig = {{ lowercase = true }}\n\
         [[step]]\nname = 'counts'\nfrom = 'words'\naggregate = {{ by = 'word', select = {{ n = 'count(*)' }}, running = true }}\n\
         [[sink]]\nname = 'all'\nfrom = 'counts'\ntype = 'file'\npath = 'out'\n",
        plugin.display()
    );
    std::fs::write(place.path().join("job.toml"), job).expect("a new file");
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    place
}

fn tool(folder: &Path, command: &str, more: &[&str]) -> Ended {
    run(folder, &[&["checkpoint", command, "job.toml"], more].concat())
}

fn lines(ended: &Ended) -> Vec<Value> {
    let mut lines: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    lines.sort_by_key(Value::to_string);
    lines
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path().is_dir() {
            true => files.extend(self::files(&entry.path())),
            false => files.push((entry.path(), std::fs::read(entry.path()).expect("a file"))),
        }
    }
    files.sort();
    files
}

#[test]
fn an_old_batch_is_run_again_from_the_state_before_it() {
    let place = ran();
    let before = files(place.path());
    for (batch, expected) in [
        ("0", [json!({"word":"a","n":2}), json!({"word":"b","n":1})].as_slice()),
        ("1", &[json!({"word":"b","n":2})]),
        ("2", &[json!({"word":"a","n":4}), json!({"word":"c","n":1})]),
    ] {
        for partitions in ["2", "5"] {
            let set = format!("job.partitions={partitions}");
            let replayed = tool(place.path(), "replay", &["--batch", batch, "--format", "json", "--set", &set]);
            assert_eq!(replayed.code(), 0, "{}", replayed.stderr);
            let [sink] = lines(&replayed).try_into().expect("one sink");
            let mut rows = sink["rows"].as_array().expect("a list").clone();
            rows.sort_by_key(Value::to_string);
            let mut expected = expected.to_vec();
            expected.sort_by_key(Value::to_string);
            assert_eq!((&sink["sink"], rows), (&json!("all"), expected), "batch {batch}");
        }
    }
    assert_eq!(files(place.path()), before, "nothing is changed");
    let again = run(place.path(), &["run", "job.toml"]);
    assert!(again.code() == 0 && again.stderr.contains("0 batches"), "{}", again.stderr);
}

#[test]
fn what_another_plugin_or_key_changes_is_shown() {
    let place = ran();
    std::fs::copy(tidemill_tests::plugin("split_words"), place.path().join("new.wasm")).expect("a copy");
    // A path of the command line is relative to the folder that one is in.
    let same = tool(place.path(), "replay", &["--batch", "0", "--plugin", "words=new.wasm"]);
    assert!(
        same.code() == 0 && same.stdout.ends_with("sink all: 2 rows, the same\n"),
        "{}{}",
        same.stdout,
        same.stderr
    );
    let change = ["--batch", "0", "--change", "step.words.config.lowercase=false"];
    let differs = tool(place.path(), "replay", &change);
    assert_eq!(differs.code(), 1, "{}", differs.stderr);
    assert!(differs.stdout.contains("sink all: 2 rows, 1 of them gone, 2 new\n"), "{}", differs.stdout);
    for row in ["-{\"word\":\"a\",\"n\":2}", "+{\"word\":\"a\",\"n\":1}", "+{\"word\":\"A\",\"n\":1}"] {
        assert!(differs.stdout.lines().any(|line| line == row), "{row} in\n{}", differs.stdout);
    }
    let differs = tool(place.path(), "replay", &[&change[..], &["--format", "json"]].concat());
    let [sink] = lines(&differs).try_into().expect("one sink");
    assert_eq!(sink["gone"], json!([{"word":"a","n":2}]));
    // What cannot be.
    for (options, expected) in [
        (
            ["--batch", "0", "--plugin", "counts=new.wasm"],
            "error: the job has no step `counts` with a plugin\n\nhint: Steps with a plugin: `words`.\n",
        ),
        (
            ["--batch", "0", "--plugin", "wrods=new.wasm"],
            "\nhint: Did you mean `words`? Steps with a plugin: `words`.\n",
        ),
        (["--batch", "0", "--plugin", "words=gone.wasm"], "gone.wasm"),
        (
            ["--batch", "7", "--plugin", "words=new.wasm"],
            "has not kept what batch 7 reads\n\nhint: Batches 0 to 2 can be named",
        ),
    ] {
        let refused = tool(place.path(), "replay", &options);
        assert!(refused.code() > 0 && refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

#[test]
fn what_steps_keep_is_written_as_json() {
    let place = ran();
    let before = files(place.path());
    let exported = tool(place.path(), "export-state", &[]);
    assert_eq!(exported.code(), 0, "{}", exported.stderr);
    let mut entries = lines(&exported);
    entries.sort_by_key(|entry| entry["key"].to_string());
    let counts: Vec<(&Value, &Value)> =
        entries.iter().map(|entry| (&entry["key"]["word"], &entry["value"]["n.count"])).collect();
    assert_eq!(counts, [(&json!("a"), &json!(4)), (&json!("b"), &json!(2)), (&json!("c"), &json!(1))]);
    assert!(entries.iter().all(|entry| entry["step"] == "counts" && entry["partition"].is_u64()), "{entries:?}");
    let earlier = tool(place.path(), "export-state", &["--step", "counts", "--batch", "0"]);
    assert_eq!(lines(&earlier).len(), 2, "{}", earlier.stdout);
    assert_eq!(files(place.path()), before, "nothing is changed");
    let none = tool(place.path(), "export-state", &["--step", "words"]);
    assert_eq!(none.code(), 1);
    assert_eq!(
        none.stderr.replace("\n\n", "\n").trim(),
        "error: the job has no step `words` that keeps anything\nhint: There are: `counts`."
    );
}

#[test]
fn rows_that_were_received_are_read_from_the_log() {
    let place = folder();
    let job = "[job]\nname = 'received'\nbatch-interval = '0'\npartitions = 2\ncheckpoint = 'checkpoint'\n\
               [[source]]\nname = 'lines'\ntype = 'stdin'\n\
               [[step]]\nname = 'counts'\nfrom = 'lines'\naggregate = { by = 'value', select = { n = 'count(*)' }, running = true }\n\
               [[sink]]\nname = 'all'\nfrom = 'counts'\ntype = 'file'\npath = 'out'\n";
    std::fs::write(place.path().join("job.toml"), job).expect("a new file");
    let mut running = tidemill_tests::Running::start(place.path(), &["run", "job.toml"]);
    let shown = |line: &str| {
        let written = || tidemill_tests::written_lines(&place.path().join("out"));
        tidemill_tests::wait_for(line, || written().iter().any(|shown| shown == line).then_some(()));
    };
    running.type_in("a\nb\n");
    shown(r#"{"value":"b","n":1}"#);
    running.type_in("a\n");
    shown(r#"{"value":"a","n":2}"#);
    let replay = || {
        let rows = |batch: u64| {
            let batch = batch.to_string();
            let replayed = tool(place.path(), "replay", &["--batch", &batch, "--format", "json"]);
            assert_eq!(replayed.code(), 0, "{}", replayed.stderr);
            lines(&replayed)[0]["rows"].as_array().expect("a list").clone()
        };
        (0..2).flat_map(rows).map(|row| row.to_string()).collect::<Vec<_>>()
    };
    // While the job runs, and when it has ended.
    let found = replay();
    assert!(found.contains(&json!({"value":"a","n":1}).to_string()), "{found:?}");
    assert!(found.contains(&json!({"value":"b","n":1}).to_string()), "{found:?}");
    running.close_stdin();
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(replay(), found);
}
