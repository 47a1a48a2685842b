//! Zig: the header of C is translated, and compiled with the project's entry to a core module that needs no libc.

use std::fs;
use std::path::Path;

use super::{Built, c, make_build_folder};
use crate::authoring::tool::{self, Tool};
use crate::authoring::{AuthoringError, Language, Project};

/// What it is compiled for, and the extensions of WebAssembly that are used.
const TARGET: [&str; 2] = ["-target", "wasm32-freestanding"];
const FEATURES: [&str; 2] = ["-mcpu", "generic+simd128+bulk_memory"];

/// Compiles the project's entry.
pub(super) fn build(project: &Project) -> Result<Built, AuthoringError> {
    let zig = find(&project.folder).ok_or_else(|| AuthoringError::MissingTool {
        what: "`zig`".into(),
        language: Language::Zig,
        install: "Install Zig: `pip install ziglang`, or https://ziglang.org.".into(),
    })?;
    let folder = make_build_folder(project)?;
    let zig = zig.env("ZIG_LOCAL_CACHE_DIR", folder.join("zig-cache"));
    let header = folder.join("tidemill_c.zig");
    let translated = zig.clone().arg("translate-c").args(TARGET).arg("sdk/tidemill.h").run()?;
    fs::write(&header, translated).map_err(|source| AuthoringError::File {
        doing: "cannot write",
        path: header.clone(),
        source,
    })?;
    let out = folder.join("core.wasm");
    let module = |name: &str, path: &Path| format!("-M{name}={}", path.display());
    zig.arg("build-exe")
        .args(TARGET)
        .args(FEATURES)
        .args(["-fno-entry", "-rdynamic", "-OReleaseFast", "-fstrip"])
        .args(["--stack", &c::STACK_BYTES.to_string()])
        .arg(format!("-femit-bin={}", out.display()))
        .args(&project.flags)
        .args(["--dep", "tidemill"])
        .arg(module("root", &project.entry))
        .args(["--dep", "c", "-cflags", "-DTIDEMILL_FREESTANDING", "--", "sdk/tidemill.c"])
        .arg("-Mtidemill=sdk/tidemill.zig")
        .arg(module("c", &header))
        .run()?;
    Ok(Built::Module(out))
}

/// Zig, on its own or as the package of Python.
pub(super) fn find(folder: &Path) -> Option<Tool> {
    if let Some(zig) = tool::find("zig") {
        return Some(Tool::new(zig, folder));
    }
    let python = ["python3", "python"].iter().filter_map(|name| tool::find(name));
    python
        .map(|python| Tool::new(python, folder).args(["-m", "ziglang"]))
        .find(|zig| Tool::works(&zig.clone().arg("version")))
}
