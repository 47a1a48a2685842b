//! Golden jobs: each folder of `tests/golden` is a job, its input and what must come of it.
//!
//! A case has `job.toml`, whatever files it reads, and either `expected.jsonl`, the rows of the folder `out` and of folders
//! in it, in any order, or `error.txt`, what is written to standard error, word for word, with `{folder}` for the case's
//! folder. A case with rows is run several ways, which must all give the same. `TIDEMILL_BLESS=1` writes the errors anew,
//! to be read before they are committed.

use std::path::{Path, PathBuf};

use tidemill_tests::{folder, project, run, written_lines};

/// The ways a case is run: overrides of the job file.
const WAYS: [&[&str]; 4] = [
    &[],
    &["--set", "job.partitions=1"],
    &["--set", "job.partitions=7", "--set", "job.worker-threads=3"],
    &["--set", "job.max-rows-per-call=1"],
];

#[test]
fn every_golden_job_gives_what_it_must() {
    let cases = project().join("tests/golden");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&cases).expect("the golden jobs").flatten().map(|entry| entry.path()).collect();
    folders.sort();
    assert!(folders.len() >= 5, "golden jobs are missing");
    let mut failures = Vec::new();
    for case in &folders {
        if case.join("error.txt").exists() {
            check_error(case, &mut failures);
        } else {
            WAYS.iter().for_each(|way| check_rows(case, way, &mut failures));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn copied(case: &Path) -> tempfile::TempDir {
    let place = folder();
    copy(case, place.path());
    place
}

fn copy(from: &Path, to: &Path) {
    // By name, so that files of input are as old as their names say: a batch of one file each takes them in that order.
    let mut entries: Vec<_> = std::fs::read_dir(from).expect("a case").flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).expect("a new folder");
            copy(&entry.path(), &target);
        } else if entry.file_name() == "job.toml" {
            let job = std::fs::read_to_string(entry.path()).expect("a job file");
            let plugins = project().join("target/plugins");
            std::fs::write(&target, job.replace("{plugins}", &plugins.to_string_lossy())).expect("a new file");
        } else {
            std::fs::copy(entry.path(), &target).expect("a new file");
        }
    }
}

fn check_rows(case: &Path, way: &[&str], failures: &mut Vec<String>) {
    let place = copied(case);
    let ended = run(place.path(), &[&["run", "job.toml"], way].concat());
    let expected = std::fs::read_to_string(case.join("expected.jsonl")).expect("expected.jsonl or error.txt");
    let mut expected: Vec<String> = expected.lines().map(str::to_owned).collect();
    expected.sort();
    let seen = written(&place.path().join("out"));
    if ended.code() != 0 || seen != expected {
        failures.push(format!(
            "{} {way:?}: exit code {}\n--- expected\n{}\n--- seen\n{}\n--- standard error\n{}",
            case.display(),
            ended.code(),
            expected.join("\n"),
            seen.join("\n"),
            ended.stderr
        ));
    }
}

/// The lines of a folder, and of folders in it: sinks that are not the only one write there.
fn written(folder: &Path) -> Vec<String> {
    let mut lines = written_lines(folder);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir() && entry.file_name() != "_manifest");
    lines.extend(folders.flat_map(|entry| written_lines(&entry.path())));
    lines.sort();
    lines
}

fn check_error(case: &Path, failures: &mut Vec<String>) {
    let place = copied(case);
    let ended = run(place.path(), &["check", "job.toml"]);
    let seen = ended.stderr.replace(&*place.path().to_string_lossy(), "{folder}");
    let seen = seen.replace(&*project().to_string_lossy(), "{project}");
    if std::env::var_os("TIDEMILL_BLESS").is_some() {
        std::fs::write(case.join("error.txt"), &seen).expect("the case is writable");
    }
    let expected = std::fs::read_to_string(case.join("error.txt")).expect("error.txt");
    if ended.code() != 2 || seen != expected {
        failures.push(format!(
            "{}: exit code {}\n--- expected\n{expected}\n--- seen\n{seen}",
            case.display(),
            ended.code()
        ));
    }
}
