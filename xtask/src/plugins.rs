//! `cargo xtask plugins`: builds every plugin of the project to `target/plugins/NAME.wasm`.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::shell::Shell;
use crate::toolchain::{TARGET, ensure_target};

/// Where finished plugins are.
pub(crate) const FOLDER: &str = "target/plugins";

/// Plugins are built with other flags than the rest, so they have a folder of their own: flags that change in one folder
/// rebuild everything in it.
const BUILD_FOLDER: &str = "target/plugins-build";

/// The profile in Cargo.toml that plugins are built with.
const PROFILE: &str = "plugin";

/// Vector instructions: every runtime of components has them, and Arrow's plain loops become twice as fast.
const FLAGS: &str = "-C target-feature=+simd128";

/// The folders whose crates are plugins when their library is a `cdylib`.
const FOLDERS: [&str; 2] = ["plugins", "tests/plugins"];

/// A crate that is a plugin.
#[derive(Debug, PartialEq, Eq)]
struct Plugin {
    /// Its package, as in `split-words`.
    package: String,
    /// Its file without the ending: the name of its library, as in `split_words`.
    file: String,
}

/// Builds every plugin, and puts those that changed to [`FOLDER`].
pub(crate) fn build() -> anyhow::Result<()> {
    ensure_target()?;
    let metadata = Shell::cargo(&["metadata", "--no-deps", "--format-version", "1"]).read()?;
    let metadata = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let plugins = plugins_of(&metadata)?;
    if plugins.is_empty() {
        bail!("there are no plugins under {}", FOLDERS.join(" and "));
    }

    let mut command = Shell::cargo(&["build", "--lib", "--profile", PROFILE, "--target", TARGET])
        .env("RUSTFLAGS", FLAGS)
        .arg("--target-dir")
        .arg(BUILD_FOLDER);
    for plugin in &plugins {
        command = command.arg("--package").arg(&plugin.package);
    }
    command.run()?;

    fs::create_dir_all(FOLDER).with_context(|| format!("cannot make `{FOLDER}`"))?;
    let built = Path::new(BUILD_FOLDER).join(TARGET).join(PROFILE);
    for plugin in &plugins {
        let from = built.join(format!("{}.wasm", plugin.file));
        let to = Path::new(FOLDER).join(format!("{}.wasm", plugin.file));
        let changed = place(&from, &to)?;
        let size = fs::metadata(&to)?.len().div_ceil(1024);
        println!("  {:<40} {size:>5} KiB{}", to.display(), if changed { "" } else { "  unchanged" });
    }
    Ok(())
}

/// The plugins among the workspace's packages, by name.
fn plugins_of(metadata: &Value) -> anyhow::Result<Vec<Plugin>> {
    let root = metadata["workspace_root"].as_str().context("cargo metadata names no workspace_root")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut plugins = Vec::new();
    for package in packages {
        let (Some(name), Some(manifest)) = (package["name"].as_str(), package["manifest_path"].as_str()) else {
            bail!("cargo metadata lists a package without a name or a manifest");
        };
        let manifest = Path::new(manifest).strip_prefix(root).unwrap_or(Path::new(manifest));
        if !FOLDERS.iter().any(|folder| manifest.starts_with(folder)) {
            continue;
        }
        let targets = package["targets"].as_array().into_iter().flatten();
        let is_plugin = |target: &&Value| {
            target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
        };
        for target in targets.filter(is_plugin) {
            let library = target["name"].as_str().context("cargo metadata lists a library without a name")?;
            plugins.push(Plugin { package: name.to_owned(), file: library.replace('-', "_") });
        }
    }
    plugins.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(plugins)
}

/// Puts a copy of `from` to `to` in one move, unless it is there already; says whether it was not.
///
/// A job that is reading the old file goes on reading the old file.
fn place(from: &Path, to: &Path) -> anyhow::Result<bool> {
    let new = fs::read(from).with_context(|| format!("cannot read `{}`", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    let temporary = to.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, new).with_context(|| format!("cannot write `{}`", temporary.display()))?;
    fs::rename(&temporary, to).with_context(|| format!("cannot write `{}`", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(manifest: &str, name: &str, kind: &str, expected: &[&str]) {
        let metadata = json!({
            "workspace_root": "/r",
            "packages": [{
                "name": name,
                "manifest_path": format!("/r/{manifest}"),
                "targets": [{ "name": name, "crate_types": [kind] }],
            }],
        });
        let plugins = plugins_of(&metadata).expect("the metadata is whole");
        assert_eq!(plugins.iter().map(|plugin| plugin.file.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn plugins_are_the_cdylibs_under_their_folders() {
        check("plugins/split-words/Cargo.toml", "split-words", "cdylib", &["split_words"]);
        check("tests/plugins/hostile/Cargo.toml", "hostile", "cdylib", &["hostile"]);
        check("plugins/split-words/Cargo.toml", "split-words", "rlib", &[]);
        check("host/Cargo.toml", "tidemill", "cdylib", &[]);
        check("plugins-old/Cargo.toml", "old", "cdylib", &[]);
    }

    #[test]
    fn metadata_of_another_shape_is_an_error() {
        assert!(plugins_of(&json!({})).is_err());
        assert!(plugins_of(&json!({ "workspace_root": "/r", "packages": [{}] })).is_err());
    }

    #[test]
    fn a_file_is_placed_once() {
        let folder = std::env::temp_dir().join(format!("tidemill-xtask-place-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let (from, to) = (folder.join("from"), folder.join("to.wasm"));
        fs::write(&from, "1").expect("written");
        assert!(place(&from, &to).expect("placed"));
        assert!(!place(&from, &to).expect("placed already"));
        fs::write(&from, "2").expect("written");
        assert!(place(&from, &to).expect("placed anew"));
        assert_eq!(fs::read_to_string(&to).expect("read"), "2");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
