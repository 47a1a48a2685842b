//! Operators in JavaScript and TypeScript.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidemill_tests::toolchains::{self, Environment};
use tidemill_tests::{binary, folder, project};

use super::scripted::{bare_path, check_conformance_in_project, check_with_one_plugin, claim_all_roles, make_projects};
use super::{ROLES, follow_prepared, succeed};

/// Does what `npm install` does in a project, without asking the registry once more.
fn install(packages: &Path, here: &Path) {
    let modules = here.join("node_modules");
    fs::create_dir_all(&modules).expect("a new folder");
    std::os::unix::fs::symlink(here.join("sdk"), modules.join("tidemill-guest")).expect("a link");
    std::os::unix::fs::symlink(packages.join("node_modules/@types"), modules.join("@types")).expect("a link");
}

/// Projects of every role, their unit tests run, and one plugin of all their operators.
fn check_language(
    (node, packages): &(Environment, PathBuf),
    language: &str,
    extension: &str,
    unit_tests: &[(&str, &[&str])],
) {
    let (_place, projects) = make_projects(node, language);
    for here in &projects {
        install(packages, here);
        for (program, arguments) in unit_tests {
            succeed(node, program, here, arguments);
        }
    }
    let mut all = String::new();
    for (role, here) in ROLES.iter().zip(&projects) {
        let source = here.join(format!("operator.{extension}"));
        fs::copy(source, projects[0].join(format!("{role}.{extension}"))).expect("a copy");
        all += &format!("export {{ {role} }} from \"./{role}.js\";\n");
    }
    fs::write(projects[0].join(format!("operator.{extension}")), all).expect("written");
    claim_all_roles(&projects[0]);
    let built = succeed(node, binary(), &projects[0], &["plugin", "build"]);
    assert!(built.starts_with("built my-transform.wasm: "), "{built}");
    check_with_one_plugin(node, &projects);
}

#[test]
fn projects_in_javascript_build_test_and_run_at_once() {
    let Some(node) = toolchains::node() else { return };
    check_language(node, "js", "js", &[("npm", &["test"])]);
}

#[test]
fn projects_in_typescript_build_test_and_run_at_once() {
    let Some(node) = toolchains::node() else { return };
    check_language(node, "ts", "ts", &[("npm", &["run", "check"]), ("npm", &["test"])]);
}

#[test]
fn the_sdk_is_as_the_specification_says() {
    let Some((node, _)) = toolchains::node() else { return };
    check_conformance_in_project(node, "js", "js/conform/operator.js", "operator.js");
}

#[test]
fn the_chapter_on_javascript_is_true() {
    let Some((node, packages)) = toolchains::node() else { return };
    follow_prepared(node, "javascript.md", |here| install(packages, here));
}

/// The SDK's own tests, in Node.js.
#[test]
fn the_sdk_does_what_it_says() {
    let Some((node, _)) = toolchains::node() else { return };
    succeed(node, "node", &project().join("guest-sdk/js"), &["--test", "test/"]);
}

#[test]
fn a_missing_tool_is_named_with_how_to_install_it() {
    let check = |programs: &[&str], words: &[&str]| {
        let place = folder();
        let (_bin, path) = bare_path(programs);
        succeed(&path, binary(), place.path(), &["new", "--lang", "ts", "--role", "reducer", "sums"]);
        let mut build = Command::new(binary());
        build.args(["plugin", "build"]).current_dir(place.path().join("sums")).envs(path);
        let told = String::from_utf8_lossy(&build.output().expect("it starts").stderr).into_owned();
        words.iter().for_each(|word| assert!(told.contains(word), "{word}: {told}"));
    };
    check(&[], &["`node`", "Install Node.js"]);
    if toolchains::node().is_some() {
        check(&["node"], &["`esbuild`", "npm install"]);
    }
}
