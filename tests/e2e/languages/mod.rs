//! Operators in every language: from `tidemill new` to a job, the SDKs against the contract, and the chapters of the book.

mod c;
mod go;
mod javascript;
mod python;
mod scripted;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tidemill_tests::toolchains::Environment;
use tidemill_tests::{binary, folder, plugin, project};

/// Every role.
const ROLES: [&str; 5] = ["transform", "reducer", "aggregator", "grouper", "updater"];

/// Runs a program in a folder with a compiler; a build may take minutes.
fn command(compiler: &Environment, program: impl AsRef<OsStr>, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments);
    command.envs(compiler.iter().map(|(name, value)| (name, value))).env_remove("NODE_TEST_CONTEXT");
    // As every other test: what is compiled is kept from one run to the next.
    command.env("XDG_CACHE_HOME", project().join("target/test-cache"));
    command.output().expect("it starts")
}

/// Runs a program, which ends well; what it wrote to standard output.
#[track_caller]
fn succeed(compiler: &Environment, program: impl AsRef<OsStr>, folder: &Path, arguments: &[&str]) -> String {
    let done = command(compiler, program, folder, arguments);
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

/// A project of every role is made, built, and run; with `tests`, its unit tests are run by that command.
fn check_projects(compiler: &Environment, language: &str, shown: &str, tests: Option<&[&str]>) {
    let place = folder();
    for role in ROLES {
        let name = format!("my-{role}");
        succeed(compiler, binary(), place.path(), &["new", "--lang", language, "--role", role, &name]);
        let here = place.path().join(&name);
        let built = succeed(compiler, binary(), &here, &["plugin", "build"]);
        assert!(built.starts_with(&format!("built {name}.wasm: {role}, ")), "{built}");
        let tested = succeed(compiler, binary(), &here, &["plugin", "test"]);
        assert!(tested.contains(" 0 failed") && tested.contains("  ok    expected "), "{tested}");
        let written = succeed(compiler, binary(), &here, &["run", "job.toml", "--set", "sink.sink-1.format=json"]);
        let expected = fs::read_to_string(here.join("expected.jsonl")).expect("it is there");
        assert_eq!(rows(&written), rows(&expected), "{language} {role}");
        let inspected = succeed(compiler, binary(), &here, &["plugin", "inspect", &format!("{name}.wasm")]);
        assert!(inspected.contains(&format!("{role} (contract 0.1.0)")), "{inspected}");
        assert!(inspected.contains(shown), "{inspected}");
        if let Some([program, arguments @ ..]) = tests {
            succeed(compiler, program, &here, arguments);
        }
    }
}

/// A project made of a folder of this one, with the SDK beside it; built.
fn build(compiler: &Environment, sdk: &str, source: &str) -> (tempfile::TempDir, PathBuf) {
    let place = folder();
    copy(&project().join("guest-sdk").join(sdk), &place.path().join("sdk"), 0);
    let source = project().join("guest-sdk").join(source);
    copy(&source, place.path(), 0);
    succeed(compiler, binary(), place.path(), &["plugin", "build"]);
    let is_plugin = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "wasm");
    let built =
        fs::read_dir(place.path()).expect("a folder").filter_map(|entry| Some(entry.ok()?.path())).find(is_plugin);
    (place, built.expect("a plugin is built"))
}

/// Holds the conformance operator of an SDK to what it has to do.
fn check_conformance(compiler: &Environment, sdk: &str, source: &str) {
    let (place, built) = build(compiler, sdk, source);
    let plugin = built.display().to_string();
    for seed in ["1", "2"] {
        let said = succeed(compiler, binary(), place.path(), &["plugin", "conform", "--sdk", &plugin, "--seed", seed]);
        assert!(said.contains(" 0 failed"), "{source}: {said}");
    }
}

/// Copies a folder, examples and templates at its top left out.
fn copy(from: &Path, to: &Path, depth: usize) {
    fs::create_dir_all(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_left_out =
            depth == 0 && (name.starts_with("template") || ["examples", "conform", "tests"].contains(&&*name));
        if is_left_out || name == "build" || name.ends_with(".wasm") {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name), depth + 1);
        } else {
            // A module of Go that is kept in this repository is named so that it is none there.
            let name = name.strip_suffix(".tmpl").unwrap_or(&name).to_owned();
            fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}

/// Lines of all that white space and text can be, the same every time.
fn odd_lines() -> String {
    const PARTS: [&str; 16] = [
        "a",
        "word",
        " ",
        "  ",
        "\t",
        "\u{b}",
        "\u{c}",
        "\r",
        "été",
        "\u{a0}",
        "\u{2003}",
        "汉字",
        "\u{1f600}",
        "x",
        "a-word-that-is-longer-than-sixteen-bytes",
        "\u{85}",
    ];
    let mut text = String::new();
    // A linear congruential generator (Knuth, MMIX).
    let mut state: u64 = 2026;
    for _ in 0..2_000 {
        for _ in 0..state >> 60 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(PARTS[(state >> 60) as usize]);
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push('\n');
    }
    text
}

/// Splits odd lines into words by a plugin, and by the one in Rust: the same words come out.
fn check_split_words(compiler: &Environment, sdk: &str, source: &str) {
    let (place, built) = build(compiler, sdk, source);
    fs::write(place.path().join("lines.txt"), odd_lines()).expect("a new file");
    let job = |plugin: &Path| {
        format!(
            "[job]\nname = \"split\"\ntrigger = \"available-now\"\npartitions = 3\n\n[[source]]\nname = \"lines\"\ntype = \
             \"file\"\npath = \"lines.txt\"\nformat = \"text\"\n\n[[step]]\nname = \"words\"\nfrom = \"lines\"\ntransform = \
             {:?}\n\n[[sink]]\nfrom = \"words\"\ntype = \"console\"\nformat = \"json\"\n",
            plugin.display().to_string()
        )
    };
    let words_of = |plugin: &Path| {
        let file = place.path().join("job.toml");
        fs::write(&file, job(plugin)).expect("a new file");
        succeed(compiler, binary(), place.path(), &["run", "job.toml"])
    };
    let words = words_of(&built);
    assert!(words.lines().count() > 1_000, "{} words", words.lines().count());
    assert!(
        words == words_of(&plugin("split_words")),
        "{source} splits lines into other words than the plugin in Rust"
    );
}

/// Follows a chapter as a reader would: runs the commands of its `console` blocks, whose output has the lines that are shown,
/// and writes each block behind a line that names a file to that file.
pub(crate) fn follow_chapter(compiler: &Environment, chapter: &str) {
    follow_prepared(compiler, chapter, |_| {});
}

/// The same; in each folder that is gone to, something is done first.
fn follow_prepared(compiler: &Environment, chapter: &str, prepare: impl Fn(&Path)) {
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
            let typed = line.strip_prefix("$ ").map(|typed| typed.split_whitespace().collect::<Vec<_>>());
            n_commands += usize::from(typed.is_some());
            match typed.as_deref() {
                Some(["cd", folder]) => {
                    here = here.join(folder);
                    prepare(&here);
                }
                Some(["tidemill", rest @ ..]) => shown = succeed(compiler, binary(), &here, rest),
                Some([program, rest @ ..]) => shown = succeed(compiler, program, &here, rest),
                _ if line.is_empty() || line == "…" => {}
                _ => assert!(shown.lines().any(|found| found.trim_end() == line), "`{line}` is not in\n{shown}"),
            }
        }
    }
    assert!(n_commands >= 4 && n_files >= 2, "{n_commands} commands, {n_files} files");
}
