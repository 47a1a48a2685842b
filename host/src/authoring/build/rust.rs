//! Rust: cargo makes the component, for the target `wasm32-wasip2`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Built;
use crate::authoring::tool::{self, Tool};
use crate::authoring::{AuthoringError, Language, Project};

/// The target of components.
const TARGET: &str = "wasm32-wasip2";

/// Builds the package of the manifest that is the project's entry.
pub(super) fn build(project: &Project) -> Result<Built, AuthoringError> {
    let missing = |what: &str, install: &str| AuthoringError::MissingTool {
        what: what.into(),
        language: Language::Rust,
        install: install.into(),
    };
    let cargo = tool::find("cargo").ok_or_else(|| {
        missing("`cargo`", "Install Rust from https://rustup.rs, and run `rustup target add wasm32-wasip2`.")
    })?;
    if !has_target(&project.folder) {
        let install = "Run `rustup target add wasm32-wasip2`. Without rustup, install the standard library of that target \
                       with your system's packages, as `libstd-rust-dev-wasm32` of Debian.";
        return Err(missing("the standard library of the target `wasm32-wasip2`", install));
    }
    let built = Tool::new(cargo, &project.folder)
        .args(["build", "--lib", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(&project.entry)
        .args(&project.flags)
        .run()?;
    let manifest = project.folder.join(&project.entry);
    component(&built, &manifest.canonicalize().unwrap_or(manifest)).map(Built::Component).ok_or_else(|| {
        let entry = project.entry.display();
        AuthoringError::NothingBuilt(format!("`{entry}` has no library of `crate-type = [\"cdylib\"]`"))
    })
}

/// Whether the compiler has the target's standard library, however it came there.
fn has_target(folder: &Path) -> bool {
    let Some(rustc) = tool::find("rustc") else { return false };
    let libraries = Tool::new(rustc, folder).args(["--print", "target-libdir", "--target", TARGET]).run();
    let Some(mut files) = libraries.ok().and_then(|libraries| Path::new(libraries.trim()).read_dir().ok()) else {
        return false;
    };
    files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

/// The component among what cargo says that it made, wherever its target folder is.
fn component(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let of_package = |message: &Value| {
        message["reason"] == "compiler-artifact"
            && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest)
    };
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(of_package)
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .find(|file| file.extension().is_some_and(|ending| ending == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: Value, expected: Option<&str>) {
        let messages = format!("not JSON\n{{\"reason\":\"build-finished\"}}\n{message}\n");
        assert_eq!(component(&messages, Path::new("/p/Cargo.toml")), expected.map(PathBuf::from));
    }

    #[test]
    fn the_component_is_found_in_what_cargo_says() {
        let message = |manifest: &str, files: &[&str]| serde_json::json!({ "reason": "compiler-artifact", "manifest_path": manifest, "filenames": files });
        check(message("/p/Cargo.toml", &["/t/libp.rlib", "/t/p.wasm"]), Some("/t/p.wasm"));
        check(message("/p/sdk/Cargo.toml", &["/t/p.wasm"]), None);
        check(message("/p/Cargo.toml", &["/t/libp.rlib"]), None);
    }
}
