//! Makes sure that the toolchain has the WebAssembly target that plugins are built for.

use std::path::Path;

use anyhow::{Context, bail};

use crate::shell::Shell;

/// The target of plugins.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Installs [`TARGET`] if the toolchain in use does not have it.
pub(crate) fn ensure_target() -> anyhow::Result<()> {
    if is_installed()? {
        return Ok(());
    }
    println!("the toolchain has no target `{TARGET}` yet");
    let install = Shell::new("rustup", &["target", "add", TARGET]);
    if let Err(error) = install.run() {
        bail!("{}", advice(&error, &std::fs::read_to_string("rust-toolchain.toml").unwrap_or_default()));
    }
    if !is_installed()? {
        bail!(
            "rustup has installed `{TARGET}` for another toolchain than the one that `cargo` uses here\n\n\
             hint: `rustup show active-toolchain` and `cargo --version` should agree in this folder."
        );
    }
    Ok(())
}

/// Whether the compiler has the target's standard library, however it came there.
fn is_installed() -> anyhow::Result<bool> {
    let folder = Shell::new("rustc", &["--print", "target-libdir", "--target", TARGET])
        .read()
        .context("cannot ask the compiler where its targets are")?;
    let Ok(mut files) = Path::new(folder.trim()).read_dir() else { return Ok(false) };
    Ok(files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-"))))
}

/// What to do by hand when the target could not be installed.
fn advice(error: &anyhow::Error, toolchain_file: &str) -> String {
    let channel = channel(toolchain_file).unwrap_or("stable");
    format!(
        "the target `{TARGET}` could not be installed: {error:#}\n\n\
         hint: Without rustup, install it from https://rustup.rs, or install the standard library of `{TARGET}` for Rust\n\
         {channel} with your system's packages. With rustup but no network, run this where there is one:\n\n    \
         rustup target add {TARGET} --toolchain {channel}"
    )
}

/// The channel that a `rust-toolchain.toml` names.
fn channel(toolchain_file: &str) -> Option<&str> {
    let value = toolchain_file.lines().find_map(|line| line.trim().strip_prefix("channel"))?;
    Some(value.trim_start().strip_prefix('=')?.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(toolchain_file: &str, expected: Option<&str>) {
        assert_eq!(channel(toolchain_file), expected);
    }

    #[test]
    fn the_channel_is_read() {
        check("[toolchain]\nchannel = \"1.95.0\"\n", Some("1.95.0"));
        check("[toolchain]\nchannel=\"nightly\"", Some("nightly"));
        check("[toolchain]\n", None);
    }

    #[test]
    fn advice_names_the_command() {
        let text = advice(&anyhow::anyhow!("cannot run `rustup`"), "channel = \"1.95.0\"");
        assert!(text.contains("rustup target add wasm32-wasip2 --toolchain 1.95.0"), "{text}");
        assert!(text.contains("cannot run `rustup`"), "{text}");
    }
}
