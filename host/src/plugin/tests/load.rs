//! Files that are loaded, refused, cached and pinned.

use super::*;
use crate::operator::Role;
use crate::plugin::LoadError;
use crate::plugin::{Digest, Standing};

fn load(bytes: &[u8], options: &LoadOptions) -> Result<Plugin, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    RUNTIME.load("p.wasm", &write(folder.path(), bytes), options)
}

fn check(text: &str, expected: &str) {
    let error = load(&wat::parse_str(text).unwrap(), &LoadOptions::default()).unwrap_err();
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        message = format!("{message}: {source}");
    }
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_plugin_is_inspected_without_being_run() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = guest("(unreachable)", "");
    let inspection = RUNTIME.inspect(&write(folder.path(), &bytes)).unwrap();
    assert_eq!(inspection.sha256, Digest::of(&bytes));
    assert_eq!(inspection.n_bytes, bytes.len() as u64);
    assert_eq!(
        inspection.roles.iter().map(|e| (e.role, e.contract.to_string())).collect::<Vec<_>>(),
        [(Role::Transform, "0.1.0".to_owned())]
    );
    assert!(inspection.imports.iter().all(|import| import.standing == Standing::Allowed));
    assert_eq!(inspection.imports.len(), 8);
}

#[test]
fn what_cannot_be_linked_or_compiled_is_refused() {
    check("(module)", "plugin `p.wasm` is a WebAssembly core module, not a component");
    check(
        r#"(component (import "wasi:http/types@0.2.0" (instance)))"#,
        "plugin `p.wasm` imports `wasi:http/types@0.2.0`, which is access to HTTP servers, and nothing grants it",
    );
    check(
        r#"(component (import "wasi:cli/exit@0.2.0" (instance (export "leave" (func)))))"#,
        "the imports of plugin `p.wasm` do not fit what this host offers: ",
    );
    // Type-checks as text, and not as code.
    check("(component (core module (func (result i32))))", "plugin `p.wasm` could not be compiled: ");
}

#[test]
fn a_role_of_another_shape_is_refused_at_open() {
    let text = r#"(component
        (core module $m (func (export "f")))
        (core instance $m (instantiate $m))
        (func $f (canon lift (core func $m "f")))
        (instance $i (export "open" (func $f)) (export "process" (func $f)))
        (export "tidemill:operator/transform@0.1.0" (instance $i)))"#;
    let plugin = load(&wat::parse_str(text).unwrap(), &LoadOptions::default()).unwrap();
    let error = open(&plugin, limits()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "`p.wasm` answered `open` of step `step` against the contract: its `transform` is not the contract's: failed to \
         convert function to given type: type mismatch with parameters: expected 2-tuple, found 0-tuple"
    );
}

#[test]
fn the_pin_is_checked() {
    let bytes = guest("", "");
    let pinned = |pin: String| LoadOptions { sha256: Some(pin), ..LoadOptions::default() };
    load(&bytes, &pinned(Digest::of(&bytes).to_string())).unwrap();
    let mismatch = load(&bytes, &pinned("0".repeat(64))).unwrap_err();
    assert!(matches!(mismatch, LoadError::DigestMismatch { .. }));
    assert!(matches!(load(&bytes, &pinned("0x12".into())), Err(LoadError::BadPin { .. })));
}

#[test]
fn a_file_that_is_gone_does_not_matter_once_it_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &guest("", ""));
    let plugin = RUNTIME.load("p.wasm", &path, &LoadOptions::default()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let limits = Limits { fuel_per_call: Some(1_000_000), ..limits() };
    open(&plugin, limits).unwrap().process(&call(0), &rows(&["a"])).unwrap();
}

#[test]
fn compiled_code_is_cached_and_never_trusted_blindly() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let path = write(folder.path(), &guest("", ""));
    let run = || {
        let runtime = Runtime::new(config(Some(cache.clone()))).unwrap();
        let plugin = runtime.load("p.wasm", &path, &LoadOptions::default()).unwrap();
        drop(runtime);
        // The plugin alone keeps what interrupts it running.
        open(&plugin, limits()).unwrap().process(&call(0), &rows(&["a"])).unwrap();
    };
    let files = || {
        let files: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    };
    run();
    let code = std::fs::read(files()).unwrap();
    let written = std::fs::metadata(files()).unwrap().modified().unwrap();
    run();
    assert_eq!(std::fs::metadata(files()).unwrap().modified().unwrap(), written, "it was compiled again");

    let mut corrupt = code.clone();
    corrupt[code.len() / 2] ^= 0xff;
    std::fs::write(files(), &corrupt).unwrap();
    run();
    assert_eq!(std::fs::read(files()).unwrap().len(), code.len());

    // The checksum of something else that this host wrote: the engine refuses it.
    let digest = Digest::of(&std::fs::read(&path).unwrap());
    let settings = files().file_stem().unwrap().to_str().unwrap().rsplit_once('-').unwrap().1.to_owned();
    let settings = u64::from_str_radix(&settings, 16).unwrap();
    crate::plugin::code_cache::CodeCache::open(&cache).unwrap().write(&digest, settings, b"not code");
    run();
    assert!(std::fs::read(files()).unwrap().len() > 1000);
}

#[test]
fn the_same_file_is_compiled_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &guest("", "(drop (i32.const 42))"));
    let plugins: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let path = &path;
                scope.spawn(move || RUNTIME.load(&format!("{i}.wasm"), path, &LoadOptions::default()).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(plugins.iter().all(|plugin| std::ptr::eq(plugin.inspection(), plugins[0].inspection())));
    assert_eq!(plugins[2].name(), "2.wasm");
}
