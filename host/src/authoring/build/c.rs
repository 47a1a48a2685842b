//! C and C++: a compiler for `wasm32-wasi` makes a core module.

use std::env;
use std::path::{Path, PathBuf};

use super::{Built, make_build_folder, zig};
use crate::authoring::tool::{self, Tool};
use crate::authoring::{AuthoringError, Language, Project};

/// The stack of a plugin: as much as Rust's have. Zig's own default, 16 MiB, would be a quarter of what an instance may use.
pub(super) const STACK_BYTES: u32 = 1 << 20;

/// Versions of clang as Debian names them, the newest first; the last is whatever is there.
const CLANG_VERSIONS: [&str; 7] = ["-22", "-21", "-20", "-19", "-18", "-17", ""];

/// Where Debian's `wasi-libc` puts its headers, and its libc++ those of C++ within.
const WASI_HEADERS: &str = "/usr/include/wasm32-wasi";

/// What there is besides Debian's packages, in the words of a hint.
const INSTALL: &str = "Install one of: Zig (`pip install ziglang`, or https://ziglang.org), whose `zig cc` has all that is \
                       needed; the WASI SDK, with its folder in `WASI_SDK_PATH`; clang with a WASI library (Debian: ";

/// Debian's packages.
const PACKAGES_OF_C: &str = "`apt-get install clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32`).";
const PACKAGES_OF_CPP: &str = "`apt-get install clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 \
                               libc++-19-dev-wasm32 libc++abi-19-dev-wasm32`).";

/// Compiles the project's entry.
pub(super) fn build(project: &Project) -> Result<Built, AuthoringError> {
    let folder = make_build_folder(project)?;
    let out = folder.join("core.wasm");
    let mut compiler = compiler(&project.folder, project.language)?
        // Of the compilers only Zig leaves anything.
        .env("ZIG_LOCAL_CACHE_DIR", folder.join("zig-cache"))
        .args(["-O3", "-msimd128", "-mexec-model=reactor", "-Wl,--strip-all", "-Wall", "-Isdk"])
        .arg(format!("-Wl,-z,stack-size={STACK_BYTES}"));
    if project.language == Language::Cpp {
        compiler = compiler.args(["-std=c++20", "-fno-exceptions", "-fno-rtti"]);
    }
    compiler.args(&project.flags).arg(&project.entry).arg("-o").arg(&out).run()?;
    Ok(Built::Module(out))
}

/// A compiler of the language, with what makes it compile for WASI.
fn compiler(folder: &Path, language: Language) -> Result<Tool, AuthoringError> {
    let is_cpp = language == Language::Cpp;
    let clang = if is_cpp { "clang++" } else { "clang" };
    if let Some(sdk) = env::var_os("WASI_SDK_PATH") {
        return Ok(Tool::new(PathBuf::from(sdk).join("bin").join(clang), folder).arg("--target=wasm32-wasi"));
    }
    let zig_driver = if is_cpp { "c++" } else { "cc" };
    if let Some(zig) = tool::find("zig") {
        return Ok(Tool::new(zig, folder).args([zig_driver, "--target=wasm32-wasi"]));
    }
    let headers = if is_cpp { Path::new(WASI_HEADERS).join("c++") } else { WASI_HEADERS.into() };
    if headers.exists()
        && let Some(clang) = CLANG_VERSIONS.iter().find_map(|version| tool::find(&format!("{clang}{version}")))
    {
        let clang = Tool::new(clang, folder).args(["--target=wasm32-wasi", "--sysroot=/usr"]);
        return Ok(if is_cpp { clang.arg("-stdlib=libc++") } else { clang });
    }
    if let Some(zig) = zig::find(folder) {
        return Ok(zig.args([zig_driver, "--target=wasm32-wasi"]));
    }
    let packages = if is_cpp { PACKAGES_OF_CPP } else { PACKAGES_OF_C };
    let install = format!("{INSTALL}{packages}");
    Err(AuthoringError::MissingTool { what: "a compiler for WebAssembly".into(), language, install })
}
