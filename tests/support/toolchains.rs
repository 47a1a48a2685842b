//! The compilers of the languages that operators are written in, installed into the target folder where they can be.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::project;

/// The release of Zig that is tested with, which is a compiler of C and C++ as well: pinned, so that a failure is ours.
const ZIG: &str = "ziglang==0.17.1";

/// The oldest release of Go that operators are built with.
const GO_MINOR_MIN: u32 = 24;

/// A compiler, as the environment of whoever calls it.
pub type Environment = Vec<(&'static str, OsString)>;

/// Zig; `None`, and a line on standard error: it cannot be installed here.
///
/// # Panics
///
/// When it cannot be installed in continuous integration.
#[must_use]
pub fn zig() -> Option<&'static Environment> {
    static ZIG_ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
    let found = ZIG_ENVIRONMENT.get_or_init(|| {
        let folder = found("C, C++ and Zig", install_zig())?;
        let cache = project().join("target/test-tools/zig-cache");
        Some(vec![("PATH", path_behind(folder.join("bin"))), ("ZIG_GLOBAL_CACHE_DIR", cache.into())])
    });
    found.as_ref()
}

/// Go, from the machine; `None`, and a line on standard error: there is none that is new enough.
///
/// # Panics
///
/// When there is none in continuous integration.
#[must_use]
pub fn go() -> Option<&'static Environment> {
    static GO_ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
    let found = GO_ENVIRONMENT.get_or_init(|| {
        let version = Command::new("go").args(["env", "GOVERSION"]).output();
        let checked = version.map_err(|error| format!("`go`: {error}")).and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let minor = text.strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
            // An older one fetches a newer one as it does any module.
            match minor {
                Some(minor) if minor >= GO_MINOR_MIN => Ok(vec![]),
                Some(_) => Ok(vec![("GOTOOLCHAIN", format!("go1.{GO_MINOR_MIN}.0+auto").into())]),
                None => Err(format!("`go env GOVERSION` says `{text}`")),
            }
        });
        found("Go", checked)
    });
    found.as_ref()
}

/// What was found, or a line that says what is skipped.
fn found<T>(what: &str, result: Result<T, String>) -> Option<T> {
    match result {
        Ok(found) => Some(found),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "the tests of operators in {what} cannot run: {why}");
            // Past the capture of the tests' output: it is to be seen.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: tests of operators in {what}: {why}\n");
            None
        }
    }
}

/// The search path with a folder before what it has.
fn path_behind(first: PathBuf) -> OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first).chain(std::env::split_paths(&rest));
    // A folder whose name has a colon in it would be lost alone.
    std::env::join_paths(folders).unwrap_or(rest)
}

/// Installs Zig, unless it is there; gives the folder of its virtual environment.
fn install_zig() -> Result<PathBuf, String> {
    let tools = project().join("target/test-tools");
    std::fs::create_dir_all(&tools).map_err(|error| error.to_string())?;
    // Another process of the same tests may be at it.
    let lock = File::create(tools.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let folder = tools.join(ZIG.replace("==", "-"));
    let done = folder.join("installed");
    if done.exists() {
        return Ok(folder);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", ZIG]))?;
    File::create(done).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}
