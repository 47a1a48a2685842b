//! Batches in which nothing comes: a checkpoint does not fill with them, and is as good as without them.

use std::path::Path;

use serde_json::Value;
use tidemill_tests::{Ended, Running, folder, run, wait_for};

/// A running count of rows of files, in a batch every 20 ms.
fn place() -> tempfile::TempDir {
    let place = folder();
    std::fs::create_dir(place.path().join("in")).expect("a new folder");
    let job = "[job]\nname = 'silent'\nbatch-interval = '20ms'\npartitions = 1\ncheckpoint = 'checkpoint'\ncheckpoint-batches = 2\n\n\
               [[source]]\nname = 'rows'\ntype = 'file'\npath = 'in'\nformat = 'json'\nschema = { n = 'int64' }\n\n\
               [[step]]\nname = 'totals'\nfrom = 'rows'\n\
               aggregate = { by = [], select = { rows = 'count(*)', total = 'sum(n)' }, running = true }\n\n\
               [[sink]]\nname = 'out'\nfrom = 'totals'\ntype = 'file'\npath = 'out'\n";
    std::fs::write(place.path().join("job.toml"), job).expect("a new file");
    place
}

/// A new file for the job, there at once.
fn add(place: &Path, name: &str, rows: std::ops::Range<u64>) {
    let text: String = rows.map(|n| format!("{{\"n\":{n}}}\n")).collect();
    std::fs::write(place.join("new"), text).expect("a new file");
    std::fs::rename(place.join("new"), place.join("in").join(format!("{name}.jsonl"))).expect("a name");
}

/// The totals that were shown, in order.
fn shown(place: &Path) -> Vec<(u64, u64)> {
    let files = std::fs::read_dir(place.join("out")).into_iter().flatten().flatten().map(|file| file.path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect();
    let row = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    text.lines()
        .map(row)
        .map(|row| (row["rows"].as_u64().expect("rows"), row["total"].as_u64().expect("a sum")))
        .collect()
}

fn tool(place: &Path, arguments: &[&str]) -> Ended {
    run(place, &[&["checkpoint"], arguments].concat())
}

fn batches(place: &Path) -> Vec<Value> {
    let inspected = tool(place, &["inspect", "checkpoint", "--format", "json"]);
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap_or_default();
    inspected["batches"].as_array().cloned().unwrap_or_default()
}

/// Waits until so many batches in a row have changed nothing, behind one with rows that is newer than `before`. Gives the number of that.
fn wait_for_silence(place: &Path, before: Option<u64>, n_batches: u64) -> u64 {
    wait_for("silent batches", || {
        let batches = batches(place);
        let number = |batch: &Value| batch["batch_id"].as_u64();
        let with_rows = batches.iter().filter(|batch| batch["rows"][0] == 10).filter_map(number).max()?;
        let last = batches.iter().rfind(|batch| !batch["rows"].is_null())?;
        let is_silent = last["idle_from"] == with_rows + 1 && number(last)? > with_rows + n_batches;
        (Some(with_rows) > before && is_silent).then_some(with_rows)
    })
}

fn files(place: &Path, folder: &str) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(place.join("checkpoint").join(folder)).expect("a folder");
    let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    files.sort();
    files
}

#[test]
fn batches_that_change_nothing_do_not_push_out_those_that_do() {
    let place = place();
    let place = place.path();
    add(place, "a", 0..10);
    let mut running = Running::start(place, &["run", "job.toml"]);
    let mut with_rows = vec![wait_for_silence(place, None, 15)];
    for (file, end) in [("b", 20), ("c", 30)] {
        add(place, file, end - 10..end);
        with_rows.push(wait_for_silence(place, with_rows.last().copied(), 15));
    }
    running.signal("KILL");
    assert!(running.wait().status.code().is_none());

    // What counts is kept, and two for each silence.
    let kept: Vec<u64> = batches(place)
        .iter()
        .filter(|batch| batch["rows"][0] == 10)
        .filter_map(|batch| batch["batch_id"].as_u64())
        .collect();
    assert_eq!(kept, with_rows[1..]);
    assert!(files(place, "commits").len() <= 7 && files(place, "offsets").len() <= 9, "{:?}", files(place, "offsets"));
    let said = tool(place, &["inspect", "checkpoint"]).stdout;
    assert!(said.contains(": no rows, and nothing changed\n"), "{said}");
    let verified = tool(place, &["verify", "checkpoint"]);
    assert!(verified.code() == 0 && verified.stdout.ends_with("damage   none\n"), "{}", verified.stdout);

    // The last is run again, over the state of the silence before it.
    let replayed = tool(place, &["replay", "job.toml", "--batch", &with_rows[2].to_string()]);
    let expected = "{\"rows\":30,\"total\":435}";
    assert!(replayed.code() == 0 && replayed.stdout.contains(expected), "{}\n{}", replayed.stdout, replayed.stderr);

    // Behind a damaged commit, silent or not, the job goes on as if nothing had happened.
    let before = shown(place);
    for _ in 0..2 {
        let newest = files(place, "commits").pop().expect("a commit");
        std::fs::write(newest, "tidemill-checkpoint commit 1 5 0000000000000000\nhello").expect("a file");
        running = Running::start(place, &["run", "job.toml"]);
        wait_for("a word on it", || running.stderr().contains("goes on from the one before it").then_some(()));
        wait_for("a checkpoint that is whole", || (!batches(place).is_empty()).then_some(()));
        wait_for_silence(place, None, 15);
        running.signal("KILL");
        assert!(running.wait().status.code().is_none());
        assert_eq!(shown(place), before);
    }
    add(place, "d", 30..40);
    running = Running::start(place, &["run", "job.toml"]);
    wait_for_silence(place, with_rows.last().copied(), 1);
    running.type_in("stop\n");
    assert_eq!(running.wait().code(), 0);
    assert_eq!(shown(place), [(10, 45), (20, 190), (30, 435), (40, 780)]);
}
