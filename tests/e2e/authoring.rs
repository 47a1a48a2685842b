//! What the author of a plugin does: `new`, `plugin build`, `test`, `bench`, `conform`, `inspect`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tidemill_tests::{binary, folder, plugin, project, run};

/// Runs a program in a folder; a build may take minutes.
fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    // One for all projects: what they depend on is built once.
    command.current_dir(folder).args(arguments).env("CARGO_TARGET_DIR", project().join("target/tmp/authoring"));
    command.env("XDG_CACHE_HOME", project().join("target/test-cache"));
    command.output().expect("it starts")
}

/// Runs `tidemill`, which ends well; what it wrote to standard output.
#[track_caller]
fn tidemill(folder: &Path, arguments: &[&str]) -> String {
    let done = command(binary(), folder, arguments);
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{arguments:?}: {stdout}\n{stderr}");
    stdout.into_owned()
}

/// The rows of the example of the roles, in any order.
fn rows(text: &str) -> Vec<Value> {
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    rows.iter_mut().filter_map(Value::as_object_mut).for_each(|row| row.retain(|_, value| !value.is_null()));
    rows.sort_by_key(ToString::to_string);
    rows
}

/// From nothing to a job, with the commands that `new` prints.
#[test]
fn a_project_of_every_role_builds_tests_and_runs_at_once() {
    let place = folder();
    for role in ["transform", "reducer", "aggregator", "grouper", "updater"] {
        let name = format!("my-{role}");
        let printed = tidemill(place.path(), &["new", "--lang", "rust", "--role", role, &name]);
        let here = place.path().join(&name);
        let commands: Vec<&str> = printed.lines().filter_map(|line| line.trim().strip_prefix("tidemill ")).collect();
        assert_eq!(commands.len(), 3, "{printed}");
        let run: Vec<_> = commands
            .iter()
            .map(|command| tidemill(&here, &command.split_whitespace().take_while(|w| *w != "#").collect::<Vec<_>>()))
            .collect();
        assert!(run[0].starts_with(&format!("built {name}.wasm: {role}, ")), "{}", run[0]);
        assert!(run[1].contains(&format!("{name}.wasm, {role}: ")) && run[1].contains(" 0 failed"), "{}", run[1]);
        for check in ["expected", "partitions-3", "twice", "fresh", "empty"] {
            assert!(run[1].contains(&format!("  ok    {check} ")), "{check}: {}", run[1]);
        }

        // What the job writes is what the test expects.
        let as_json = tidemill(&here, &["run", "job.toml", "--set", "sink.sink-1.format=json"]);
        let expected = fs::read_to_string(here.join("expected.jsonl")).expect("it is there");
        assert_eq!(rows(&as_json), rows(&expected), "{role}");

        let unit = command("cargo", &here, &["test", "--quiet"]);
        assert!(unit.status.success(), "{}", String::from_utf8_lossy(&unit.stderr));
        assert!(String::from_utf8_lossy(&unit.stdout).contains("1 passed"));

        let conforms = tidemill(&here, &["plugin", "conform"]);
        assert!(conforms.contains(&format!("  ok    {role}/again")) && conforms.contains(" 0 failed"), "{conforms}");
        assert_eq!(conforms.contains("updater/state"), role == "updater");

        let inspected = tidemill(&here, &["plugin", "inspect", &format!("{name}.wasm")]);
        assert!(inspected.contains("language  Rust\n") && inspected.contains(&format!("{role} (contract 0.1.0)")));
        let unchanged = tidemill(&here, &["plugin", "build", "--format", "json"]);
        let unchanged: Value = serde_json::from_str(&unchanged).expect("JSON");
        assert_eq!((&unchanged["changed"], &unchanged["roles"][0]), (&Value::from(false), &Value::from(role)));
    }
}

#[test]
fn the_chapter_on_rust_is_true() {
    follow("docs/operators/rust.md");
}

/// Follows a chapter as a reader would: runs the commands of its `console` blocks, whose output has the lines that are shown, and
/// writes each block behind a line that names a file to that file.
fn follow(chapter: &str) {
    let chapter = fs::read_to_string(project().join(chapter)).expect("it is there");
    let place = folder();
    let mut here = place.path().to_path_buf();
    let mut lines = chapter.lines();
    let (mut n_commands, mut n_files) = (0, 0);
    let mut file: Option<PathBuf> = None;
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("`").and_then(|line| line.strip_suffix("`:")) {
            file = Some(here.join(name));
        }
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if kind == "console" {
            let mut shown: Vec<String> = Vec::new();
            for line in block {
                if let Some(typed) = line.strip_prefix("$ ") {
                    n_commands += 1;
                    let words: Vec<&str> = typed.split_whitespace().collect();
                    shown = match words.as_slice() {
                        ["cd", folder] => {
                            here = here.join(folder);
                            vec![]
                        }
                        ["tidemill", rest @ ..] => tidemill(&here, rest).lines().map(str::to_owned).collect(),
                        [program, rest @ ..] => {
                            let done = command(program, &here, rest);
                            assert!(done.status.success(), "{typed}: {}", String::from_utf8_lossy(&done.stderr));
                            vec![]
                        }
                        [] => vec![],
                    };
                } else if line != "…" && !line.is_empty() {
                    assert!(shown.iter().any(|found| found.trim_end() == line), "`{line}` is not in {shown:#?}");
                }
            }
        } else if let Some(path) = file.take() {
            n_files += 1;
            fs::write(path, block.join("\n") + "\n").expect("a file of the project");
        }
    }
    assert!(n_commands >= 6 && n_files >= 3, "{n_commands} commands, {n_files} files");
}

#[test]
fn what_is_in_the_way_is_told() {
    let place = folder();
    let check = |arguments: &[&str], words: &[&str]| {
        let ended = run(place.path(), arguments);
        assert_eq!(ended.code(), 2, "{}", ended.stderr);
        words.iter().for_each(|word| assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr));
    };
    let new = ["new", "--lang", "rust", "--role", "transform"];
    check(&[&new[..], &["Wrong"]].concat(), &["`Wrong` cannot name an operator"]);
    fs::create_dir(place.path().join("full")).expect("a new folder");
    fs::write(place.path().join("full/file"), "").expect("a new file");
    check(&[&new[..], &["full"]].concat(), &["there are files in `full` already", "Choose another name"]);
    check(&["new", "--lang", "cobol", "--role", "transform", "a"], &["invalid value 'cobol'", "python"]);
    check(&["plugin", "build"], &["there is no `operator.toml` in `.`", "tidemill new"]);
    check(&["plugin", "test"], &["there is no `operator.toml`"]);

    let made = run(place.path(), &[&new[..], &["right"]].concat());
    assert_eq!(made.code(), 0, "{}", made.stderr);
    let file = place.path().join("right/operator.toml");
    let text = fs::read_to_string(&file).expect("it is there");
    let build = ["plugin", "build", "--project", "right"];
    let wrong = text.replace("\"rust\"", "\"rusty\"").replace("entry", "enrty").replace("\"0.1\"", "\"9.0\"");
    fs::write(&file, wrong).expect("written");
    check(
        &build,
        &[
            "right/operator.toml:3:12",
            "`language` cannot be `rusty`",
            "`contract` is 9.0, and this host speaks 0.1.0 to 0.1.0",
            "unknown key `enrty`",
            "Did you mean `entry`?",
        ],
    );

    fs::write(&file, &text).expect("written");
    let there = place.path().join("right");
    let done = Command::new(binary()).current_dir(&there).args(["plugin", "build"]).env("PATH", "").output();
    let done = done.expect("it starts");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr.contains("`cargo` is needed to build an operator in Rust"), "{stderr}");
    assert!(stderr.contains("rustup target add wasm32-wasip2"), "{stderr}");
    check(&["plugin", "test", "no.wasm", "--rows", "no.jsonl"], &["no.wasm"]);

    // A compiler's words are shown, and the plugin that was there stays.
    fs::write(there.join("right.wasm"), "the old one").expect("written");
    fs::write(there.join("src/lib.rs"), "fn broken(").expect("written");
    let done = command(binary(), &there, &["plugin", "build"]);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("cargo build --lib") && stderr.contains("this file contains an unclosed delimiter"),
        "{stderr}"
    );
    assert_eq!(fs::read_to_string(there.join("right.wasm")).expect("it is there"), "the old one");
}

/// Rows for the hostile plugin, which reads and writes `value`.
fn hostile(place: &Path, config: &str, more: &[&str]) -> (i32, String, String) {
    fs::write(place.join("rows.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\n").expect("written");
    let plugin = plugin("hostile");
    let words = ["plugin", "test", plugin.to_str().expect("a path"), "--rows", "rows.txt", "--config", config];
    let ended = run(place, &[&words[..], more].concat());
    (ended.code(), ended.stdout, ended.stderr)
}

#[test]
fn a_test_finds_what_depends_on_how_rows_are_cut() {
    let place = folder();
    let (code, stdout, stderr) = hostile(place.path(), "{}", &[]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("transform: 9 rows in, 9 out, 0 rejected") && stdout.contains(" 0 failed"), "{stdout}");

    // What it writes says which call and partition it is in.
    let config = r#"{"do": "read-call"}"#;
    let (code, stdout, _) = hostile(place.path(), config, &[]);
    assert_eq!(code, 1, "{stdout}");
    for line in [
        "  FAIL  chunks-2      calls of at most 2 rows: the same rows come out",
        "7 of 9 rows differ",
        "- row 2: {\"value\":\"batch 0 at 1767225600000000, partition 0, attempt 0, row 0, watermark None\"}",
        "+ row 2: {\"value\":\"batch 0 at 1767225600000000, partition 0, attempt 0, row 2, watermark None\"}",
        "hint: A partition may be cut anywhere.",
        "  FAIL  partitions-2",
        "  ok    twice ",
        "  ok    fresh ",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    // Each failure says how it is seen again.
    let again = stdout.lines().find_map(|line| line.trim().strip_prefix("again: ")).expect("it is said");
    assert!(again.ends_with(" --only chunks-1") && again.contains(r#"--config '{"do": "read-call"}'"#), "{again}");
    let (code, only, _) = hostile(place.path(), config, &["--only", "chunks-2"]);
    assert_eq!((code, only.contains("chunks-2"), only.contains("partitions")), (1, true, false), "{only}");
    let (code, whole, _) = hostile(place.path(), config, &["--whole-partition"]);
    assert!(code == 1 && !whole.contains("chunks"), "{whole}");
    let (code, _, stderr) = hostile(place.path(), config, &["--only", "nonsense"]);
    assert!(code == 2 && stderr.contains("there is no check `nonsense`"), "{stderr}");

    let (code, json, _) = hostile(place.path(), config, &["--format", "json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &json["report"]["passed"], &json["rows_in"]), (1, &Value::from(false), &Value::from(9)));

    let (code, _, stderr) = hostile(place.path(), r#"{"do": "panic"}"#, &[]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("process was asked to panic"), "{stderr}");
    let (code, _, stderr) = hostile(place.path(), r#"{"do": "refuse-config"}"#, &[]);
    assert!(code == 2 && stderr.contains("`do` should be something kind"), "{stderr}");
}

#[test]
fn expected_rows_are_compared_and_written() {
    let place = folder();
    let expected = ["--expected", "expected.jsonl"];
    let (code, _, stderr) = hostile(place.path(), "{}", &expected);
    assert!(code != 0 && stderr.contains("cannot read `expected.jsonl`"), "{stderr}");
    let (code, stdout, _) = hostile(place.path(), "{}", &[&expected[..], &["--update"]].concat());
    assert!(code == 0 && stdout.contains("wrote 9 rows to expected.jsonl"), "{stdout}");
    let text = fs::read_to_string(place.path().join("expected.jsonl")).expect("it is written");
    assert!(text.starts_with("{\"value\":\"a\"}\n{\"value\":\"b\"}\n"), "{text}");
    assert_eq!(hostile(place.path(), "{}", &expected).0, 0);

    fs::write(place.path().join("expected.jsonl"), text.replace("\"c\"", "\"C\"")).expect("written");
    let (code, stdout, _) = hostile(place.path(), "{}", &expected);
    assert_eq!(code, 1);
    for line in ["  FAIL  expected", "1 of 9 rows differ", "- row 2: {\"value\":\"C\"}", "+ row 2: {\"value\":\"c\"}"] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    fs::write(place.path().join("expected.jsonl"), "[1]\n").expect("written");
    let (code, _, stderr) = hostile(place.path(), "{}", &expected);
    assert!(code == 2 && stderr.contains("line 1 of `expected.jsonl` is no row"), "{stderr}");
}

#[test]
fn a_bench_measures_one_plugin_or_two() {
    let place = folder();
    fs::write(place.path().join("rows.txt"), "to be or not\nto be\n").expect("written");
    let (words, other) = (plugin("split_words"), plugin("hostile"));
    let bench = ["plugin", "bench", words.to_str().expect("a path"), "--rows", "rows.txt", "--seconds", "1"];
    let ended = run(place.path(), &bench);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    for name in ["rows/s", "ns a row", "bytes in, a row", "memory", "compile", "instantiate", "batches of 65,536 rows"]
    {
        assert!(ended.stdout.contains(name), "{name}: {}", ended.stdout);
    }
    let versus = ["--vs", other.to_str().expect("a path"), "--format", "json"];
    let ended = run(place.path(), &[&bench[..], &versus].concat());
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert!(json["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{json}");
    // Bytes are counted, and do not depend on the machine: 8.5 of text and 4 of an offset a row, and little a batch.
    let in_bytes = json["plugin"]["in_bytes_per_row"].as_f64().expect("a number");
    assert!((12.5..12.6).contains(&in_bytes), "{json}");
    assert!(json["versus"]["memory_bytes"].as_u64().is_some_and(|bytes| bytes >= 65_536), "{json}");
    fs::write(place.path().join("rows.txt"), "").expect("written");
    let ended = run(place.path(), &bench);
    assert!(ended.code() == 2 && ended.stderr.contains("there are no rows to run it on"), "{}", ended.stderr);
}

#[test]
fn inspect_shows_schemas_for_an_input() {
    let place = folder();
    let inspect = |name: &str, more: &[&str]| {
        let plugin = plugin(name);
        run(place.path(), &[&["plugin", "inspect", plugin.to_str().expect("a path")], more].concat())
    };
    let ended = inspect("split_words", &["--input", "value: utf8, id: int64"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    for line in ["  reads     value: utf8", "  writes    word: utf8 not null", "  carries   nothing"] {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
    let config = r#"{"column": "amount"}"#;
    let ended = inspect("mean", &["--input", "k: utf8, amount: int64, z: utf8", "--by", "k", "--config", config]);
    assert!(ended.stdout.contains("  keeps     sum: float64 not null, count: int64 not null"), "{}", ended.stdout);
    let ended = inspect("split_words", &["--input", "other: utf8"]);
    assert!(ended.code() == 2 && ended.stdout.contains("column `value`"), "{}", ended.stdout);
    let ended = inspect("split_words", &["--input", "value: utf9"]);
    assert!(ended.code() == 2 && ended.stderr.contains("column `value`"), "{}", ended.stderr);
    let ended = inspect("sum", &["--input", "k: utf8, n: int64", "--by", "k", "--format", "json"]);
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(json["schemas"]["reducer"]["reduces"], "n: int64", "{json}");
}

/// The conformance operator of the Rust SDK, in which a text is replaced by another of the same length.
fn conformance_operator(place: &Path, mistake: &str) -> PathBuf {
    let bytes = fs::read(plugin("conform")).expect("it is built");
    let (from, to) = ("conform makes this mistake: none", format!("conform makes this mistake: {mistake}"));
    let at = bytes.windows(from.len()).position(|found| found == from.as_bytes()).expect("the text is there");
    let mut bytes = bytes;
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let path = place.join("conform.wasm");
    fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn the_rust_sdk_conforms() {
    let place = folder();
    conformance_operator(place.path(), "none");
    for seed in ["1", "2"] {
        let done = command(binary(), place.path(), &["plugin", "conform", "--sdk", "conform.wasm", "--seed", seed]);
        let stdout = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{stdout}{}", String::from_utf8_lossy(&done.stderr));
        for role in ["transform", "reducer", "aggregator", "grouper", "updater"] {
            for check in ["open", "refusals", "failures", "types", "nesting", "empties", "long", "options", "again"] {
                assert!(stdout.contains(&format!("  ok    {role}/{check}")), "{role}/{check}: {stdout}");
            }
        }
        assert!(stdout.contains("50 passed, 0 failed"), "{stdout}");
    }
}

#[test]
fn what_does_not_conform_is_told() {
    let place = folder();
    let check = |mistake: &str, only: &str, words: &[&str]| {
        conformance_operator(place.path(), mistake);
        let ended = run(place.path(), &["plugin", "conform", "--sdk", "conform.wasm", "--only", only]);
        assert_eq!(ended.code(), 1, "{mistake}: {}{}", ended.stdout, ended.stderr);
        words.iter().for_each(|word| assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout));
    };
    check(
        "rows",
        "transform/types",
        &["FAIL  transform/types", "the rows: `origin` is ", "17 rows of (c0: ", "seed 1"],
    );
    check("plan", "transform/open", &["is expected, and this came:"]);
    let not_null = "column 0 of the rows is `c0: list<int32> not null`, and `c0: list<int32>` is expected";
    check("plan", "transform/nesting", &[not_null]);
    check(
        "data",
        "transform/options",
        &["the rows: column `c0` (int64), row 0: `", "` is expected, and `", "\"repeat\":3"],
    );
    check("keep", "transform/again", &["the rows: `origin` is [63, 62, "]);

    // Any plugin: what crashes, what breaks the contract, and what is fine.
    let any = |name: &str, config: &str| {
        let plugin = plugin(name);
        let words =
            ["plugin", "conform", plugin.to_str().expect("a path"), "--input", "value: utf8", "--config", config];
        let ended = run(place.path(), &words);
        (ended.code(), ended.stdout)
    };
    let (code, stdout) = any("split_words", "{}");
    assert!(code == 0 && stdout.contains("6 passed, 0 failed"), "{stdout}");
    let (code, stdout) = any("hostile", r#"{"do": "panic"}"#);
    assert!(code == 1 && stdout.contains("FAIL  transform/rows") && stdout.contains("crashed: "), "{stdout}");
    let (code, stdout) = any("hostile", r#"{"do": "offsets-backwards"}"#);
    assert!(code == 1 && stdout.contains("returned a batch against the contract: "), "{stdout}");
    let (code, stdout) = any("hostile", r#"{"do": "refuse-schema"}"#);
    assert!(
        code == 1 && stdout.contains("FAIL  transform/open") && stdout.contains("`kindness` is missing"),
        "{stdout}"
    );
    // An operator that is something else is none of an SDK's.
    let words = plugin("split_words");
    let ended = run(place.path(), &["plugin", "conform", "--sdk", words.to_str().expect("a path")]);
    assert!(ended.code() == 1 && ended.stdout.contains("FAIL  transform/open"), "{}", ended.stdout);
}
