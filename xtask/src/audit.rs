//! `cargo xtask audit`: licences, sources and advisories of the dependencies, by `cargo deny` and deny.toml.

use std::process::Stdio;

use anyhow::bail;

use crate::shell::Shell;

/// Runs `cargo deny check`.
///
/// It is no part of the tests: its advisory database is fetched from a git host, which CI need not reach.
pub(crate) fn audit() -> anyhow::Result<()> {
    let version = Shell::cargo(&["deny", "--version"]);
    let found = version.command().stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        bail!("`cargo deny` is not installed\n\nhint: Install it with `cargo install --locked cargo-deny`.");
    }
    Shell::cargo(&["deny", "--workspace", "check"]).run()
}
