//! What the tests of Python and JavaScript share. A build packs an interpreter and takes a while: one plugin is built a language, of
//! the example operators of all roles.

use std::fs;
use std::path::{Path, PathBuf};

use tidemill_tests::toolchains::Environment;
use tidemill_tests::{binary, folder, project};

use super::{ROLES, rows, succeed};

/// Projects of all roles, made by `tidemill new`.
pub(super) fn make_projects(tools: &Environment, language: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
    let place = folder();
    let made = ROLES.iter().map(|role| {
        succeed(tools, binary(), place.path(), &["new", "--lang", language, "--role", role, &format!("my-{role}")]);
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
pub(super) fn check_with_one_plugin(tools: &Environment, projects: &[PathBuf]) {
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
        let tested = succeed(tools, binary(), here, &["plugin", "test"]);
        assert!(tested.contains("  ok    expected ") && tested.contains(" 0 failed"), "{role}: {tested}");
        let written = succeed(tools, binary(), here, &["run", "job.toml", "--set", "sink.sink-1.format=json"]);
        let expected = fs::read_to_string(here.join("expected.jsonl")).expect("it is there");
        assert_eq!(rows(&written), rows(&expected), "{role}");
    }
}

/// Builds the conformance operator of an SDK, in a project of its own, and holds it against docs/conformance.md.
pub(super) fn check_conformance_in_project(tools: &Environment, language: &str, source: &str, entry: &str) {
    let place = folder();
    succeed(tools, binary(), place.path(), &["new", "--lang", language, "--role", "transform", "conform"]);
    let here = place.path().join("conform");
    fs::copy(project().join("guest-sdk").join(source), here.join(entry)).expect("a copy");
    claim_all_roles(&here);
    succeed(tools, binary(), &here, &["plugin", "build"]);
    let told = succeed(tools, binary(), &here, &["plugin", "conform", "--sdk", "conform.wasm"]);
    assert!(told.contains(" 0 failed"), "{told}");
    for role in ROLES {
        assert!(told.contains(&format!("{role}/types")), "{role} was not looked at: {told}");
    }
}

/// A search path with these programs alone: as on a machine that has no tools of a language.
pub(super) fn bare_path(programs: &[&str]) -> (tempfile::TempDir, Environment) {
    let bin = folder();
    for program in programs {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|folder| folder.join(program))
            .find(|file| file.exists());
        if let Some(found) = found {
            std::os::unix::fs::symlink(found, bin.path().join(program)).expect("a link");
        }
    }
    let path = vec![("PATH", bin.path().as_os_str().to_owned())];
    (bin, path)
}
