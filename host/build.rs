//! Embeds the sources of the SDKs and their templates, which `tidemill new` writes into a project.
//!
//! Not by a macro over whole folders: those hold what builds leave there, too, and would not be read again when a file
//! comes.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

/// The folders of `guest-sdk` that are embedded: those of languages, and what projects of all of them have.
const FOLDERS: [&str; 6] = ["rust", "python", "js", "c", "go", "template"];

/// What builds, tests and tools leave, and what only this project's own tests use.
const LEFT_OUT: [&str; 11] = [
    "target",
    "node_modules",
    "__pycache__",
    "dist",
    "build",
    "tests",
    "test",
    "conform",
    "examples",
    "package-lock.json",
    "Cargo.lock",
];

/// Endings of what is built, wherever it lies.
const BUILT: [&str; 4] = ["wasm", "pyc", "o", "a"];

fn main() -> io::Result<()> {
    let here = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let root = Path::new(&here).join("../guest-sdk");
    let mut list = String::from("&[\n");
    for name in FOLDERS {
        let folder = root.join(name);
        // A folder that does not exist would make every build run this again.
        println!("cargo::rerun-if-changed={}", if folder.exists() { &folder } else { &root }.display());
        // What a template has is its own, a folder of tests and hidden files included.
        let add = if name == "template" { add_all } else { add };
        add(&folder, name, &mut list)?;
    }
    list.push_str("]\n");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("guest_sdk.rs"), list)
}

/// Adds the files of a folder, in the order of their names.
fn add(folder: &Path, name: &str, list: &mut String) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let file = entry.file_name().to_string_lossy().into_owned();
        let is_built = Path::new(&file).extension().is_some_and(|ending| BUILT.iter().any(|built| ending == *built));
        if file.starts_with('.') || LEFT_OUT.contains(&file.as_str()) || is_built {
            continue;
        }
        let name = format!("{name}/{file}");
        if entry.file_type()?.is_dir() {
            let add = if file.starts_with("template") { add_all } else { add };
            add(&entry.path(), &name, list)?;
        } else {
            line(&entry.path(), &name, list)?;
        }
    }
    Ok(())
}

/// Adds every file of a folder of templates.
fn add_all(folder: &Path, name: &str, list: &mut String) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => add_all(&entry.path(), &name, list)?,
            false => line(&entry.path(), &name, list)?,
        }
    }
    Ok(())
}

fn line(path: &Path, name: &str, list: &mut String) -> io::Result<()> {
    let path = path.canonicalize()?;
    writeln!(list, "    ({name:?}, include_bytes!({path:?}).as_slice()),").map_err(io::Error::other)
}
