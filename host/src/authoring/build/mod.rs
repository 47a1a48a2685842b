//! Builds a project: runs the tools of its language, and makes sure that a plugin comes out.
//!
//! One file a language. Each finds its tools, says which is missing and how it is installed, runs them in the project's
//! folder, and gives either a component or a core module; what is behind is the same for all.

mod c;
mod go;
mod js;
mod python;
mod rust;
mod zig;

use std::fs;
use std::path::{Path, PathBuf};

use crate::authoring::{AuthoringError, Language, Project, encode, with_language};
use crate::plugin::{Inspection, Runtime};

/// What the tools of a language made.
pub(super) enum Built {
    /// A component, in this file.
    Component(PathBuf),
    /// A core module, in this file; it is made a component.
    Module(PathBuf),
}

/// A plugin that was built.
#[derive(Debug)]
pub struct BuiltPlugin {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself.
    pub inspection: Inspection,
    /// Whether the file was another before.
    pub is_changed: bool,
}

/// Builds the plugin of a project, and puts it where the project says in one move: a job that reads the old one goes on
/// reading the old one.
///
/// # Errors
///
/// [`AuthoringError`]: a tool is missing or fails, or what it made is no plugin of the project's roles. The file that was
/// there is left as it was.
pub fn build(project: &Project, runtime: &Runtime) -> Result<BuiltPlugin, AuthoringError> {
    let built = match project.language {
        Language::Rust => rust::build(project),
        Language::C | Language::Cpp => c::build(project),
        Language::Go => go::build(project),
        Language::JavaScript | Language::TypeScript => js::build(project),
        Language::Python => python::build(project),
        Language::Zig => zig::build(project),
    }?;
    let read = |path: &Path| {
        fs::read(path).map_err(|source| AuthoringError::File { doing: "cannot read", path: path.into(), source })
    };
    let not_encoded = |source| AuthoringError::Encode { entry: project.entry.clone(), source };
    let component = match &built {
        Built::Component(path) => read(path)?,
        Built::Module(path) => encode(&read(path)?).map_err(&not_encoded)?,
    };
    let component = with_language(&component, &project.language.to_string()).map_err(not_encoded)?;
    let path = project.plugin();
    let is_changed = fs::read(&path).map_or(true, |before| before != component);
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let put = |doing, path: &Path, done: std::io::Result<()>| {
        done.map_err(|source| {
            let _ = fs::remove_file(&new);
            AuthoringError::File { doing, path: path.into(), source }
        })
    };
    put("cannot write", &new, fs::write(&new, component))?;
    let inspected = check(project, runtime, &new);
    let inspection = inspected.inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })?;
    put("cannot write", &path, fs::rename(&new, &path))?;
    Ok(BuiltPlugin { path, inspection, is_changed })
}

/// Checks that a file is a plugin with the roles of the project.
fn check(project: &Project, runtime: &Runtime, path: &Path) -> Result<Inspection, AuthoringError> {
    let inspection = runtime.inspect(path).map_err(|source| AuthoringError::NotAPlugin { source })?;
    for &expected in &project.roles {
        if inspection.roles.iter().all(|export| export.role != expected) {
            let names: Vec<_> = inspection.roles.iter().map(|export| format!("a {}", export.role)).collect();
            let found = if names.is_empty() { "none".into() } else { names.join(" and ") };
            return Err(AuthoringError::WrongRoles { expected, found });
        }
    }
    Ok(inspection)
}

/// Makes the folder for what a build leaves.
///
/// # Errors
///
/// When it cannot be made.
pub(super) fn make_build_folder(project: &Project) -> Result<PathBuf, AuthoringError> {
    let path = project.build_folder();
    fs::create_dir_all(&path).map_err(|source| AuthoringError::File {
        doing: "cannot make the folder",
        path: path.clone(),
        source,
    })?;
    // What follows runs elsewhere than where the path may be relative to.
    path.canonicalize().map_err(|source| AuthoringError::File { doing: "cannot find", path, source })
}
