//! Programs that tests need and a machine may lack, installed once into the target folder from the registries of Python and Node.js.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project;

/// What was found or installed; when it was not, `None`, and a line on standard error that says which tests are skipped.
///
/// Panics in continuous integration, which has all of it.
pub(crate) fn found<T>(tests: &str, result: Result<T, String>) -> Option<T> {
    result
        .inspect_err(|why| {
            assert!(std::env::var_os("CI").is_none(), "the tests {tests} cannot run: {why}");
            // Past the capture of the tests' output: it is to be seen.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: the tests {tests}: {why}\n");
        })
        .ok()
}

/// The search path with folders before what it has.
pub(crate) fn path_behind(first: &[PathBuf]) -> OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = first.iter().cloned().chain(std::env::split_paths(&rest));
    // A folder whose name has a colon in it would be lost alone.
    std::env::join_paths(folders).unwrap_or(rest)
}

/// The folder of that name among the tools of tests, where `install` was done once.
pub(crate) fn once(name: &str, install: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let tools = project().join("target/test-tools");
    std::fs::create_dir_all(&tools).map_err(|error| error.to_string())?;
    // Another process of the same tests may be at it.
    let lock = File::create(tools.join(format!("{name}.lock"))).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let folder = tools.join(name);
    let done = folder.join("installed");
    if !done.exists() {
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        install(&folder)?;
        File::create(done).map_err(|error| error.to_string())?;
    }
    Ok(folder)
}

/// The programs of a virtual environment of Python with a package, as in `ziglang==0.17.1`.
pub(crate) fn virtual_environment(package: &str) -> Result<PathBuf, String> {
    let folder = once(&package.replace("==", "-"), |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", package]))
    })?;
    Ok(folder.join("bin"))
}

/// Runs a command; what it wrote to standard error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}
