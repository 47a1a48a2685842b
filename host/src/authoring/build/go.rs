//! Go: its own compiler makes a core module that is built against WASI preview 1.

use std::path::Path;

use super::{Built, make_build_folder};
use crate::authoring::tool::{self, Tool};
use crate::authoring::{AuthoringError, Language, Project};

/// Builds the package that the project's entry is a file of.
pub(super) fn build(project: &Project) -> Result<Built, AuthoringError> {
    let go = tool::find("go").ok_or_else(|| AuthoringError::MissingTool {
        what: "`go`".into(),
        language: Language::Go,
        install: "Install Go 1.24 or newer from https://go.dev/dl.".into(),
    })?;
    let out = make_build_folder(project)?.join("core.wasm");
    let package = project.entry.parent().unwrap_or(Path::new(""));
    Tool::new(go, &project.folder)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        .args(["build", "-buildmode=c-shared", "-buildvcs=false", "-trimpath", "-ldflags=-s -w"])
        .args(&project.flags)
        .arg("-o")
        .arg(&out)
        // A path that begins with a dot is a folder, and not the name of a package.
        .arg(Path::new(".").join(package))
        .run()?;
    Ok(Built::Module(out))
}
