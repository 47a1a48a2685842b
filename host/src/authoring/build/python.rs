//! Python: `componentize-py`, called by the SDK, packs the interpreter and the project's modules into a component.

use std::env;
use std::path::PathBuf;

use super::{Built, make_build_folder};
use crate::authoring::tool::{self, Tool};
use crate::authoring::{AuthoringError, Project};

/// How the tools are installed.
const INSTALL: &str = "Install Python 3.11 or newer (https://www.python.org; Debian: `apt-get install python3-venv`), and in the \
                       project's folder: `python3 -m venv .venv && .venv/bin/pip install componentize-py`.";

/// Packs the project's entry.
pub(super) fn build(project: &Project) -> Result<Built, AuthoringError> {
    let python = python(project)?;
    let out = make_build_folder(project)?.join("plugin.wasm");
    python
        .env("PYTHONPATH", "sdk")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-m", "tidemill_guest", "build"])
        .arg(&project.entry)
        .arg("-o")
        .arg(&out)
        .args(&project.flags)
        .run()?;
    Ok(Built::Component(out))
}

/// An interpreter that has `componentize-py`: that of the project's own environment, of the one that is active, or on the PATH.
fn python(project: &Project) -> Result<Tool, AuthoringError> {
    let environments = [Some(PathBuf::from(".venv")), env::var_os("VIRTUAL_ENV").map(PathBuf::from)];
    let of_environments =
        environments.into_iter().flatten().map(|folder| project.folder.join(folder).join("bin/python"));
    let on_path = ["python3", "python"].iter().filter_map(|name| tool::find(name));
    let mut found = of_environments.filter(|program| program.exists()).chain(on_path).filter_map(|program| {
        // Tools run in the project's folder.
        program.parent()?.canonicalize().ok().map(|folder| folder.join(program.file_name().unwrap_or_default()))
    });
    let python = found.find_map(|program| {
        let tool = Tool::new(program, &project.folder);
        Tool::works(&tool.clone().args(["-c", "import componentize_py"])).then_some(tool)
    });
    python.ok_or_else(|| AuthoringError::MissingTool {
        what: "`componentize-py`".into(),
        language: project.language,
        install: INSTALL.into(),
    })
}
