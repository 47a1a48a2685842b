//! What the tests of Python and JavaScript share. A build packs an interpreter and takes a while: one plugin is built a language, of
//! the example operators of all roles.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tidemill_tests::{binary, folder, project};

/// Every role.
pub(super) const ROLES: [&str; 5] = ["transform", "reducer", "aggregator", "grouper", "updater"];

/// Runs a program, which ends well; what it wrote to standard output.
#[track_caller]
pub(super) fn succeed(path: &OsStr, program: impl AsRef<OsStr>, folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).env("PATH", path).env_remove("NODE_TEST_CONTEXT");
    // As every other test: what is compiled is kept from one run to the next.
    command.env("XDG_CACHE_HOME", project().join("target/test-cache"));
    let done = command.output().expect("it starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{arguments:?}: {stdout}\n{stderr}");
    stdout.into_owned()
}

/// The rows of JSON lines, in any order: the order of keys depends on the number of partitions.
fn rows(text: &str) -> Vec<Value> {
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    // A null may be left out.
    rows.iter_mut().filter_map(Value::as_object_mut).for_each(|row| row.retain(|_, value| !value.is_null()));
    rows.sort_by_key(ToString::to_string);
    rows
}

/// Projects of all roles, made by `tidemill new`.
pub(super) fn make_projects(path: &OsStr, language: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
    let place = folder();
    let made = ROLES.iter().map(|role| {
        succeed(path, binary(), place.path(), &["new", "--lang", language, "--role", role, &format!("my-{role}")]);
        place.path().join(format!("my-{role}"))
    });
    let projects = made.collect();
    (place, projects)
}

/// Says in a project's `operator.toml` that it has all roles.
pub(super) fn claim_all_roles(project: &Path) {
    let file = project.join("operator.toml");
    let text = fs::read_to_string(&file).expect("it is there");
    let roles = format!("role = {ROLES:?}");
    let claimed = text.lines().map(|line| if line.starts_with("role = ") { roles.as_str() } else { line });
    fs::write(&file, claimed.collect::<Vec<_>>().join("\n") + "\n").expect("written");
}

/// Tests and runs the projects of all roles with one plugin, that of the first.
pub(super) fn check_projects(path: &OsStr, projects: &[PathBuf]) {
    let built = projects[0].join("my-transform.wasm");
    for (here, role) in projects.iter().zip(ROLES) {
        let name = format!("my-{role}.wasm");
        if *role != *ROLES[0] {
            fs::copy(&built, here.join(&name)).expect("a copy");
        }
        if role == "transform" {
            // Of one role: the others' tests are their projects'.
            let text = fs::read_to_string(here.join("operator.toml")).expect("it is there");
            let lines =
                text.lines().map(|line| if line.starts_with("role = ") { "role = \"transform\"" } else { line });
            fs::write(here.join("operator.toml"), lines.collect::<Vec<_>>().join("\n") + "\n").expect("written");
        }
        let tested = succeed(path, binary(), here, &["plugin", "test"]);
        assert!(tested.contains("  ok    expected ") && tested.contains(" 0 failed"), "{role}: {tested}");
        let written = succeed(path, binary(), here, &["run", "job.toml", "--set", "sink.sink-1.format=json"]);
        let expected = fs::read_to_string(here.join("expected.jsonl")).expect("it is there");
        assert_eq!(rows(&written), rows(&expected), "{role}");
    }
}

/// Builds the conformance operator of an SDK, in a project of its own, and holds it against docs/conformance.md.
pub(super) fn check_conformance(path: &OsStr, language: &str, source: &str, entry: &str) {
    let place = folder();
    succeed(path, binary(), place.path(), &["new", "--lang", language, "--role", "transform", "conform"]);
    let here = place.path().join("conform");
    fs::copy(project().join("guest-sdk").join(source), here.join(entry)).expect("a copy");
    claim_all_roles(&here);
    succeed(path, binary(), &here, &["plugin", "build"]);
    let told = succeed(path, binary(), &here, &["plugin", "conform", "--sdk", "conform.wasm"]);
    assert!(told.contains(" 0 failed"), "{told}");
    for role in ROLES {
        assert!(told.contains(&format!("{role}/types")), "{role} was not looked at: {told}");
    }
}

/// Follows a chapter: runs what its `console` blocks type, with what they show, and writes the files that it names.
pub(super) fn follow_chapter(path: &OsStr, chapter: &str, prepare: impl Fn(&Path)) {
    let text = fs::read_to_string(project().join("docs/operators").join(chapter)).expect("it is there");
    let place = folder();
    let mut here = place.path().to_path_buf();
    let (mut n_commands, mut n_files) = (0, 0);
    let mut file: Option<PathBuf> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix('`').and_then(|line| line.strip_suffix("`:")) {
            file = Some(here.join(name));
        }
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if kind != "console" {
            if let Some(path) = file.take() {
                n_files += 1;
                fs::write(path, block.join("\n") + "\n").expect("a file of the project");
            }
            continue;
        }
        let mut shown = String::new();
        for line in block {
            match line.strip_prefix("$ ").map(|typed| typed.split_whitespace().collect::<Vec<_>>()).as_deref() {
                Some(["cd", folder]) => {
                    here = here.join(folder);
                    prepare(&here);
                }
                Some(["tidemill", rest @ ..]) => shown = succeed(path, binary(), &here, rest),
                Some([program, rest @ ..]) => shown = succeed(path, program, &here, rest),
                _ if line.is_empty() || line == "…" => continue,
                _ => assert!(shown.lines().any(|found| found.trim_end() == line), "`{line}` is not in\n{shown}"),
            }
            n_commands += 1;
        }
    }
    assert!(n_commands >= 4 && n_files >= 2, "{n_commands} commands, {n_files} files");
}

/// The search path without what the tests installed: as on a machine that has no tools of a language.
pub(super) fn bare_path(programs: &[&str]) -> (tempfile::TempDir, OsString) {
    let bin = folder();
    for program in programs {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|folder| folder.join(program))
            .find(|file| file.exists());
        if let Some(found) = found {
            std::os::unix::fs::symlink(found, bin.path().join(program)).expect("a link");
        }
    }
    let path = bin.path().as_os_str().to_owned();
    (bin, path)
}
