//! JavaScript and TypeScript: the SDK's script bundles the project with `esbuild`, and packs it into a component with `jco`.

use std::path::Path;

use super::{Built, make_build_folder};
use crate::authoring::tool::{self, Tool};
use crate::authoring::{AuthoringError, Project};

/// Programs of packages that are needed.
const PROGRAMS: [&str; 2] = ["esbuild", "jco"];

/// Builds the project's entry.
pub(super) fn build(project: &Project) -> Result<Built, AuthoringError> {
    let missing = |what: &str, install: &str| AuthoringError::MissingTool {
        what: format!("`{what}`"),
        language: project.language,
        install: install.into(),
    };
    let node = tool::find("node").ok_or_else(|| {
        missing(
            "node",
            "Install Node.js 20 or newer, with npm (https://nodejs.org; Debian: `apt-get install nodejs npm`).",
        )
    })?;
    for program in PROGRAMS {
        if !is_installed(&project.folder, program) && tool::find(program).is_none() {
            let install = "Run `npm install` in the project's folder, which installs what its package.json names.";
            return Err(missing(program, install));
        }
    }
    let out = make_build_folder(project)?.join("plugin.wasm");
    let script = project.sdk().join("build.mjs");
    let script =
        script.canonicalize().map_err(|source| AuthoringError::File { doing: "cannot find", path: script, source })?;
    Tool::new(node, &project.folder).arg(script).arg(&project.entry).arg("-o").arg(&out).args(&project.flags).run()?;
    Ok(Built::Component(out))
}

/// Whether a program is among the packages of the project, or of a folder above it, where Node looks too.
fn is_installed(folder: &Path, program: &str) -> bool {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    folder.ancestors().any(|folder| folder.join("node_modules/.bin").join(program).exists())
}
