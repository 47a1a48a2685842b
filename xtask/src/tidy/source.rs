//! The rules for Rust files.

use super::code::{before_tests, code_only};
use super::{Finding, Tree};

/// Lines a file has at most.
const LINES_MAX: usize = 800;

/// Files that do not open with `//!`.
pub(super) fn without_opening(tree: &Tree) -> Vec<Finding> {
    let opened = |text: &str| text.starts_with("//! ") || text.starts_with("#![doc = include_str!");
    let files = tree.rust_files().filter(|(_, text)| !opened(text));
    files.map(|(path, _)| Finding { path: path.into(), line: 1, what: "does not open with `//! `".into() }).collect()
}

/// Files of more than [`LINES_MAX`] lines.
pub(super) fn too_long(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust_files().map(|(path, text)| (path, text.lines().count()));
    let files = files.filter(|(_, n_lines)| *n_lines > LINES_MAX);
    files.map(|(path, n_lines)| Finding { path: path.into(), line: 0, what: format!("has {n_lines} lines") }).collect()
}

/// Code that reads a clock of the machine itself.
pub(super) fn asks_for_time(tree: &Tree) -> Vec<Finding> {
    let allowed = ["host/src/clock.rs", "benches/", "tests/", "examples/", "xtask/"];
    search(tree, &["SystemTime::now", "Instant::now"], |path| !starts_with_any(path, &allowed) && !is_test(path))
}

/// Code that uses wasmtime.
pub(super) fn knows_wasmtime(tree: &Tree) -> Vec<Finding> {
    let words = ["use wasmtime", "wasmtime::", "wasmtime_wasi::"];
    search(tree, &words, |path| !path.starts_with("host/src/plugin/"))
}

/// Code that uses DataFusion.
pub(super) fn knows_datafusion(tree: &Tree) -> Vec<Finding> {
    search(tree, &["use datafusion", "datafusion::"], |path| {
        path.starts_with("host/") && !path.starts_with("host/src/sql/")
    })
}

/// Code that names a version of the contract.
pub(super) fn names_a_version(tree: &Tree) -> Vec<Finding> {
    search(tree, &["v0_1"], |path| path.starts_with("host/src/") && !path.starts_with("host/src/plugin/contract/"))
}

/// Code, and comments, that put something off.
pub(super) fn left_undone(tree: &Tree) -> Vec<Finding> {
    let mut findings = search(tree, &["todo!", "unimplemented!"], |_| true);
    // In two pieces, or this file would be found.
    let note = concat!("FIX", "ME");
    for (path, text) in tree.rust_files() {
        findings.extend(lines_with(path, text, note));
    }
    findings
}

/// Code that prints.
pub(super) fn prints(tree: &Tree) -> Vec<Finding> {
    let allowed = [
        "host/src/cli/",
        "host/src/main.rs",
        "host/build.rs",
        "xtask/",
        "benches/",
        "tests/",
        "examples/",
        // An operator that is compiled into a program has no host to log to.
        "guest-sdk/rust/src/diagnostics.rs",
    ];
    let words = ["println!", "eprintln!", "print!(", "eprint!(", "dbg!"];
    let mut findings =
        search(tree, &words, |path| !starts_with_any(path, &allowed) && !path.contains("/examples/") && !is_test(path));
    // `eprintln!` holds `println!`.
    findings.dedup_by(|a, b| (&a.path, a.line) == (&b.path, b.line));
    findings
}

/// The lines of the code, tests left out, that hold one of the words, in files that `applies` to.
fn search(tree: &Tree, words: &[&str], applies: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust_files().filter(|(path, _)| applies(path)) {
        // Most files hold none of the words, and need not be read closely.
        if !words.iter().any(|word| text.contains(word)) {
            continue;
        }
        let code = code_only(text);
        for word in words {
            findings.extend(lines_with(path, before_tests(&code), word));
        }
    }
    findings.sort();
    findings
}

fn lines_with<'a>(path: &'a str, text: &'a str, word: &'a str) -> impl Iterator<Item = Finding> + 'a {
    let lines = text.lines().enumerate().filter(move |(_, line)| line.contains(word));
    lines.map(move |(index, _)| Finding { path: path.into(), line: index + 1, what: format!("`{word}`") })
}

fn starts_with_any(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Whether the file holds nothing but tests.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("/test_support.rs")
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn openings() {
        check(without_opening, &[("a.rs", "//! Says what."), ("b.txt", "x")], &[]);
        check(without_opening, &[("a.rs", "#![doc = include_str!(\"../README.md\")]")], &[]);
        check(without_opening, &[("a.rs", "use b;\n//! Late.")], &["a.rs:1: does not open with `//! `"]);
        check(without_opening, &[("a.rs", "")], &["a.rs:1: does not open with `//! `"]);
    }

    #[test]
    fn lengths() {
        check(too_long, &[("a.rs", &"x\n".repeat(800))], &[]);
        check(too_long, &[("a.rs", &"x\n".repeat(801))], &["a.rs:0: has 801 lines"]);
    }

    #[test]
    fn times() {
        let now = "\nlet t = Instant::now();";
        check(asks_for_time, &[("host/src/clock.rs", now), ("xtask/src/a.rs", now), ("tests/a.rs", now)], &[]);
        check(asks_for_time, &[("host/src/a.rs", now)], &["host/src/a.rs:2: `Instant::now`"]);
        check(asks_for_time, &[("host/src/a.rs", "// Instant::now\n#[cfg(test)]\nmod tests { Instant::now() }")], &[]);
        check(
            asks_for_time,
            &[("plugins/a/src/lib.rs", "SystemTime::now()")],
            &["plugins/a/src/lib.rs:1: `SystemTime::now`"],
        );
    }

    #[test]
    fn the_runtime() {
        check(knows_wasmtime, &[("host/src/plugin/a.rs", "use wasmtime::Engine;")], &[]);
        check(knows_wasmtime, &[("host/src/a.rs", "/// As wasmtime::Engine.")], &[]);
        check(
            knows_wasmtime,
            &[("host/src/task/a.rs", "let e: wasmtime::Engine;")],
            &["host/src/task/a.rs:1: `wasmtime::`"],
        );
    }

    #[test]
    fn the_queries() {
        check(knows_datafusion, &[("host/src/sql/a.rs", "use datafusion::common::Result;")], &[]);
        check(knows_datafusion, &[("tests/e2e/a.rs", "use datafusion::prelude::SessionContext;")], &[]);
        check(
            knows_datafusion,
            &[("host/src/step/a.rs", "let s: datafusion::prelude::SessionContext;")],
            &["host/src/step/a.rs:1: `datafusion::`"],
        );
    }

    #[test]
    fn versions() {
        check(names_a_version, &[("host/src/plugin/contract/mod.rs", "mod v0_1;")], &[]);
        check(
            names_a_version,
            &[("host/src/plugin/load.rs", "contract::v0_1::X")],
            &["host/src/plugin/load.rs:1: `v0_1`"],
        );
    }

    #[test]
    fn undone() {
        let note = format!("// {}: later", concat!("FIX", "ME"));
        let shown = format!("a.rs:1: `{}`", concat!("FIX", "ME"));
        check(left_undone, &[("a.rs", &note)], &[&shown]);
        check(left_undone, &[("a.rs", "fn f() {\n    todo!()\n}")], &["a.rs:2: `todo!`"]);
        check(left_undone, &[("a.rs", "let hint = \"no todo!\";")], &[]);
    }

    #[test]
    fn printing() {
        check(prints, &[("host/src/cli/run.rs", "println!()"), ("host/examples/a.rs", "println!()")], &[]);
        check(prints, &[("host/src/sink/console.rs", "writeln!(out)?;")], &[]);
        check(prints, &[("host/src/task/a.rs", "\neprintln!();")], &["host/src/task/a.rs:2: `eprintln!`"]);
    }
}
