//! C: a compiler for `wasm32-wasi` makes a core module.

use std::env;
use std::path::{Path, PathBuf};

use super::{Built, make_build_folder};
use crate::authoring::tool::{self, Tool};
use crate::authoring::{AuthoringError, Language, Project};

/// Versions of clang as Debian names them, the newest first.
const CLANG: [&str; 7] = ["clang-22", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17", "clang"];

/// Where Debian's `wasi-libc` puts its headers.
const WASI_HEADERS: &str = "/usr/include/wasm32-wasi";

/// How a compiler is installed.
const INSTALL: &str = "Install one of: Zig (`pip install ziglang`, or https://ziglang.org), whose `zig cc` has all that is \
                       needed; clang with a WASI library (Debian: `apt-get install clang-19 lld-19 wasi-libc \
                       libclang-rt-19-dev-wasm32`); the WASI SDK, with its folder in `WASI_SDK_PATH`.";

/// Compiles the project's entry.
pub(super) fn build(project: &Project) -> Result<Built, AuthoringError> {
    let folder = make_build_folder(project)?;
    let out = folder.join("core.wasm");
    compiler(&project.folder, project.language)?
        // Of the compilers only Zig leaves anything.
        .env("ZIG_LOCAL_CACHE_DIR", folder.join("zig-cache"))
        .args(["-O3", "-mexec-model=reactor", "-Wl,--strip-all", "-Wall", "-Isdk"])
        .args(&project.flags)
        .arg(&project.entry)
        .arg("-o")
        .arg(&out)
        .run()?;
    Ok(Built::Module(out))
}

/// A compiler of C, with what makes it compile for WASI.
fn compiler(folder: &Path, language: Language) -> Result<Tool, AuthoringError> {
    if let Some(sdk) = env::var_os("WASI_SDK_PATH") {
        return Ok(Tool::new(PathBuf::from(sdk).join("bin/clang"), folder).arg("--target=wasm32-wasi"));
    }
    if let Some(zig) = tool::find("zig") {
        return Ok(Tool::new(zig, folder).args(["cc", "--target=wasm32-wasi"]));
    }
    if Path::new(WASI_HEADERS).exists()
        && let Some(clang) = CLANG.iter().find_map(|name| tool::find(name))
    {
        return Ok(Tool::new(clang, folder).args(["--target=wasm32-wasi", "--sysroot=/usr"]));
    }
    let python = ["python3", "python"].iter().filter_map(|name| tool::find(name));
    let zig = python.map(|python| Tool::new(python, folder).args(["-m", "ziglang"]));
    for zig in zig {
        if Tool::works(&zig.clone().arg("version")) {
            return Ok(zig.args(["cc", "--target=wasm32-wasi"]));
        }
    }
    Err(AuthoringError::MissingTool { what: "a compiler for WebAssembly".into(), language, install: INSTALL.into() })
}
