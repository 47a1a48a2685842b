//! Operators in Python.

use std::fs;
use std::process::Command;

use tidemill_tests::{binary, folder, project, toolchains};

use super::scripted::{bare_path, check_conformance_in_project, check_with_one_plugin, claim_all_roles, make_projects};
use super::{ROLES, follow_chapter, succeed};

/// From nothing to jobs, with the commands that the templates' README says.
#[test]
fn projects_of_every_role_build_test_and_run_at_once() {
    let Some(python) = toolchains::python() else { return };
    let (_place, projects) = make_projects(python, "python");
    for here in &projects {
        succeed(python, "python3", here, &["-m", "unittest"]);
    }
    // One plugin with the operators of all five.
    for (role, here) in ROLES.iter().zip(&projects) {
        fs::copy(here.join("app.py"), projects[0].join(format!("{role}_app.py"))).expect("a copy");
    }
    let sources =
        ROLES.map(|role| fs::read_to_string(projects[0].join(format!("{role}_app.py"))).expect("it is there"));
    fs::write(projects[0].join("app.py"), sources.join("\n")).expect("written");
    claim_all_roles(&projects[0]);
    let built = succeed(python, binary(), &projects[0], &["plugin", "build"]);
    assert!(built.starts_with("built my-transform.wasm: "), "{built}");
    let inspected = succeed(python, binary(), &projects[0], &["plugin", "inspect", "my-transform.wasm"]);
    assert!(inspected.contains("Python"), "{inspected}");
    check_with_one_plugin(python, &projects);
}

#[test]
fn the_sdk_is_as_the_specification_says() {
    let Some(python) = toolchains::python() else { return };
    check_conformance_in_project(python, "python", "python/conform/app.py", "app.py");
}

#[test]
fn the_chapter_on_python_is_true() {
    let Some(python) = toolchains::python() else { return };
    follow_chapter(python, "python.md");
}

/// The SDK's own tests, in Python.
#[test]
fn the_sdk_does_what_it_says() {
    let Some(python) = toolchains::python() else { return };
    let arguments = ["-B", "-m", "unittest", "discover", "-s", "tests"];
    succeed(python, "python3", &project().join("guest-sdk/python"), &arguments);
}

#[test]
fn a_missing_tool_is_named_with_how_to_install_it() {
    let place = folder();
    // A Python without `componentize-py`.
    let (_bin, path) = bare_path(&[]);
    succeed(&path, binary(), place.path(), &["new", "--lang", "python", "--role", "reducer", "sums"]);
    let mut build = Command::new(binary());
    build.args(["plugin", "build"]).current_dir(place.path().join("sums")).envs(path).env_remove("VIRTUAL_ENV");
    let told = String::from_utf8_lossy(&build.output().expect("it starts").stderr).into_owned();
    assert!(told.contains("`componentize-py`") && told.contains("pip install componentize-py"), "{told}");
}
