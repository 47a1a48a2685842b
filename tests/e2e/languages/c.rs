//! Operators in C, C++ and Zig, which share a header; Zig compiles all three.

use tidemill_tests::{folder, project, toolchains};

use super::{check_conformance, check_projects, check_split_words, follow_chapter, succeed};

#[test]
fn projects_in_c_build_and_run_at_once() {
    let Some(zig) = toolchains::zig() else { return };
    check_projects(zig, "c", "language  C", None);
}

#[test]
fn projects_in_cpp_build_and_run_at_once() {
    let Some(zig) = toolchains::zig() else { return };
    check_projects(zig, "cpp", "language  C++", None);
}

#[test]
fn projects_in_zig_build_and_run_at_once() {
    let Some(zig) = toolchains::zig() else { return };
    check_projects(zig, "zig", "language  Zig", None);
}

#[test]
fn the_sdk_conforms() {
    let Some(zig) = toolchains::zig() else { return };
    for operator in ["c", "cpp", "zig"] {
        check_conformance(zig, "c", &format!("c/conform/{operator}"));
    }
}

#[test]
fn words_are_those_of_rust() {
    let Some(zig) = toolchains::zig() else { return };
    for language in ["split-words", "split-words-cpp", "split-words-zig"] {
        check_split_words(zig, "c", &format!("c/examples/{language}"));
    }
}

#[test]
fn the_chapters_are_true() {
    let Some(zig) = toolchains::zig() else { return };
    for chapter in ["c.md", "cpp.md", "zig.md"] {
        follow_chapter(zig, chapter);
    }
}

/// The header's own tests, as a program of this machine.
#[test]
fn the_header_does_what_it_says() {
    let place = folder();
    let source = project().join("guest-sdk/c/tests/header.c");
    let (source, out) = (source.display().to_string(), place.path().join("header").display().to_string());
    let compiler = vec![];
    let flags =
        ["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-fsanitize=undefined", "-fno-sanitize-recover", "-o"];
    succeed(&compiler, "cc", place.path(), &[&flags[..], &[&out, &source]].concat());
    let said = succeed(&compiler, &out, place.path(), &[]);
    assert!(said.ends_with(" checks passed\n"), "{said}");
}
