//! Operators in Python.

use std::fs;
use std::process::Command;

use tidemill_tests::{binary, folder, project, scripts};

use super::scripted::{
    ROLES, bare_path, check_conformance, check_projects, claim_all_roles, follow_chapter, make_projects, succeed,
};

/// From nothing to jobs, with the commands that the templates' README says.
#[test]
fn projects_of_every_role_build_test_and_run_at_once() {
    let Some(path) = scripts::python() else { return };
    let (_place, projects) = make_projects(path, "python");
    for here in &projects {
        succeed(path, "python3", here, &["-m", "unittest"]);
    }
    // One plugin with the operators of all five.
    for (role, here) in ROLES.iter().zip(&projects) {
        fs::copy(here.join("app.py"), projects[0].join(format!("{role}_app.py"))).expect("a copy");
    }
    let sources =
        ROLES.map(|role| fs::read_to_string(projects[0].join(format!("{role}_app.py"))).expect("it is there"));
    fs::write(projects[0].join("app.py"), sources.join("\n")).expect("written");
    claim_all_roles(&projects[0]);
    let built = succeed(path, binary(), &projects[0], &["plugin", "build"]);
    assert!(built.starts_with("built my-transform.wasm: "), "{built}");
    let inspected = succeed(path, binary(), &projects[0], &["plugin", "inspect", "my-transform.wasm"]);
    assert!(inspected.contains("Python"), "{inspected}");
    check_projects(path, &projects);
}

#[test]
fn the_sdk_is_as_the_specification_says() {
    let Some(path) = scripts::python() else { return };
    check_conformance(path, "python", "python/conform/app.py", "app.py");
}

#[test]
fn the_chapter_on_python_is_true() {
    let Some(path) = scripts::python() else { return };
    follow_chapter(path, "python.md", |_| {});
}

/// The SDK's own tests, in Python.
#[test]
fn the_sdk_does_what_it_says() {
    let Some(path) = scripts::python() else { return };
    let arguments = ["-B", "-m", "unittest", "discover", "-s", "tests"];
    succeed(path, "python3", &project().join("guest-sdk/python"), &arguments);
}

#[test]
fn a_missing_tool_is_named_with_how_to_install_it() {
    let place = folder();
    // A Python without `componentize-py`.
    let (_bin, path) = bare_path(&[]);
    succeed(&path, binary(), place.path(), &["new", "--lang", "python", "--role", "reducer", "sums"]);
    let mut build = Command::new(binary());
    build.args(["plugin", "build"]).current_dir(place.path().join("sums")).env("PATH", path).env_remove("VIRTUAL_ENV");
    let told = String::from_utf8_lossy(&build.output().expect("it starts").stderr).into_owned();
    assert!(told.contains("`componentize-py`") && told.contains("pip install componentize-py"), "{told}");
}
