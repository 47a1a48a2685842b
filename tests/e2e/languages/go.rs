//! Operators in Go.

use tidemill_tests::{project, toolchains};

use super::{check_conformance, check_projects, check_split_words, follow_chapter, succeed};

#[test]
fn projects_in_go_build_and_run_at_once() {
    let Some(go) = toolchains::go() else { return };
    check_projects(go, "go", "language  Go", Some(&["go", "test", "./..."]));
}

#[test]
fn the_sdk_conforms() {
    let Some(go) = toolchains::go() else { return };
    check_conformance(go, "go", "go/conform");
}

#[test]
fn words_are_those_of_rust() {
    let Some(go) = toolchains::go() else { return };
    check_split_words(go, "go", "go/examples/split-words");
}

#[test]
fn the_chapter_is_true() {
    let Some(go) = toolchains::go() else { return };
    follow_chapter(go, "go.md");
}

/// The module's own tests, on this machine.
#[test]
fn the_module_does_what_it_says() {
    let Some(go) = toolchains::go() else { return };
    succeed(go, "go", &project().join("guest-sdk/go"), &["test", "./..."]);
}
