//! Makes a component of a core module: of what compilers give that know nothing of components.
//!
//! The module says itself what it is, by the names of its exports, as the canonical ABI has them:
//! `tidemill:operator/transform@0.1.0#process`. The component exports each role that the module has functions of, and
//! imports what the module imports of the contract; modules built against WASI preview 1 get the adapter for that.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_metadata::AddMetadata;
use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap};

use crate::operator::Role;
use crate::plugin::{CONTRACT_PACKAGE, InterfaceName, Version, contract_text};

/// Why a core module is no operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// It is no module at all.
    #[error("it is not a WebAssembly module: {0}")]
    NotAModule(String),
    /// It exports no function of a role.
    #[error("it exports no function of a role{}", exports_text(exports))]
    NoRole {
        /// The functions that it exports, the first few.
        exports: Vec<String>,
    },
    /// Its roles are of a contract that this host does not speak, or of several.
    #[error("it was made for contract {found}, and this host speaks {}", Version::range())]
    Contract {
        /// The version or versions.
        found: String,
    },
    /// Its functions are not those of the contract.
    #[error("{0}")]
    Mismatch(String),
}

fn exports_text(exports: &[String]) -> String {
    if exports.is_empty() {
        return String::new();
    }
    let names = exports.iter().map(|name| format!("`{name}`"));
    format!("; it exports {}", names.collect::<Vec<_>>().join(", "))
}

impl EncodeError {
    /// What the author can change.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            EncodeError::NoRole { .. } => Some(format!(
                "Roles are exported as `{CONTRACT_PACKAGE}/{}@…#open` and so on: the SDK's macro or header does it.",
                Role::Transform
            )),
            EncodeError::Mismatch(_) => Some(
                "Each function of a role must be exported, with the types that the contract has: see `wit/`.".into(),
            ),
            _ => None,
        }
    }
}

/// What a module says by the names of its exports.
struct Said {
    /// The interfaces that it has functions of, with their versions.
    interfaces: BTreeSet<String>,
    /// The versions in them.
    versions: BTreeSet<Version>,
    /// Versions that are none.
    other_versions: BTreeSet<String>,
    /// The names of all functions.
    functions: Vec<String>,
    /// Whether it says in a section of its own what it is: bindings that were generated leave one.
    has_type: bool,
    /// Whether it was built against WASI preview 1.
    needs_adapter: bool,
}

/// Makes a component of a core module.
///
/// # Errors
///
/// [`EncodeError`], when it is no operator.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let said = Said::of(module)?;
    if said.interfaces.is_empty() && !said.has_type {
        return Err(EncodeError::NoRole { exports: said.functions.into_iter().take(8).collect() });
    }
    let mut module = module.to_vec();
    if !said.has_type {
        let (resolve, world) = said.world()?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(mismatch)?;
    }
    let mut encoder = ComponentEncoder::default().validate(true).module(&module).map_err(mismatch)?;
    if said.needs_adapter {
        encoder = encoder
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
            .map_err(mismatch)?;
    }
    encoder.encode().map_err(mismatch)
}

/// Writes into a component what it was written in: compilers say that of some of its modules, or of none.
///
/// # Errors
///
/// [`EncodeError::Mismatch`], when it is no component.
pub fn with_language(component: &[u8], language: &str) -> Result<Vec<u8>, EncodeError> {
    let mut metadata = AddMetadata::default();
    metadata.language = vec![(language.to_owned(), String::new())];
    metadata.to_wasm(component).map_err(mismatch)
}

/// Every cause of an error of the encoder, in one line: the first is the least exact.
fn mismatch(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EncodeError {
    let error = error.into();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    EncodeError::Mismatch(text.replace('\n', " "))
}

impl Said {
    fn of(module: &[u8]) -> Result<Self, EncodeError> {
        let wrong = |error: wasmparser::BinaryReaderError| EncodeError::NotAModule(error.message().to_owned());
        let mut said = Said {
            interfaces: BTreeSet::new(),
            versions: BTreeSet::new(),
            other_versions: BTreeSet::new(),
            functions: Vec::new(),
            has_type: false,
            needs_adapter: false,
        };
        if !Parser::is_core_wasm(module) {
            return Err(EncodeError::NotAModule("it does not begin as one".into()));
        }
        for payload in Parser::new(0).parse_all(module) {
            match payload.map_err(wrong)? {
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.map_err(wrong)?;
                        if export.kind == ExternalKind::Func {
                            said.add_function(export.name);
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(wrong)?;
                        said.needs_adapter |= import.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
                    }
                }
                Payload::CustomSection(section) => said.has_type |= section.name().starts_with("component-type"),
                _ => {}
            }
        }
        Ok(said)
    }

    fn add_function(&mut self, name: &str) {
        self.functions.push(name.to_owned());
        let Some((interface, _)) = name.split_once('#') else { return };
        let Some(parsed) = InterfaceName::parse(interface) else { return };
        let is_role = Role::ALL.into_iter().any(|role| role.name() == parsed.interface);
        // What frees an answer has the name of what it frees the answer of, behind a prefix.
        if parsed.package != CONTRACT_PACKAGE || !is_role {
            return;
        }
        self.interfaces.insert(interface.to_owned());
        match parsed.version {
            Some(version) => drop(self.versions.insert(version)),
            None => drop(self.other_versions.insert(parsed.version_text.to_owned())),
        }
    }

    /// The world that has these exports, and what of the contract may be imported.
    fn world(&self) -> Result<(Resolve, wit_parser::WorldId), EncodeError> {
        let versions = self.versions.iter().map(ToString::to_string).chain(self.other_versions.iter().cloned());
        let found = || versions.collect::<Vec<_>>().join(" and ");
        let (1, Some(version), true) =
            (self.versions.len(), self.versions.first().copied(), self.other_versions.is_empty())
        else {
            return Err(EncodeError::Contract { found: found() });
        };
        let Some(text) = contract_text(version) else { return Err(EncodeError::Contract { found: found() }) };
        let mut resolve = Resolve::default();
        let mut contract = SourceMap::default();
        for (name, text) in text {
            contract.push_str(name, *text);
        }
        let contract = contract.parse().map_err(|(_, error)| mismatch(error))?;
        resolve.push_group(contract).map_err(mismatch)?;
        let mut world =
            format!("package tidemill:plugin;\nworld plugin {{\n  import {CONTRACT_PACKAGE}/diagnostics@{version};\n");
        for interface in &self.interfaces {
            let _ = writeln!(world, "  export {interface};");
        }
        world.push_str("}\n");
        let mut plugin = SourceMap::default();
        plugin.push_str("plugin.wit", world);
        let plugin = plugin.parse().map_err(|(_, error)| mismatch(error))?;
        let package = resolve.push_group(plugin).map_err(mismatch)?;
        let world = resolve.select_world(&[package], Some("plugin")).map_err(mismatch)?;
        Ok((resolve, world))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with the functions of a reducer, which do nothing.
    fn reducer(version: &str) -> String {
        let name = |function: &str| format!("tidemill:operator/reducer@{version}#{function}");
        format!(
            r#"(module
                (import "tidemill:operator/diagnostics@{version}" "count" (func (param i32 i32 i64)))
                (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
                (func (export "{}") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) i32.const 0)
                (func (export "{}")
                    (param i64 i64 i32 i32 i64 i32 i64 i32 i32 i32 i32 i32 i32 i32) (result i32) i32.const 0)
                (func (export "{}") (param i32) (result i32) i32.const 0))"#,
            name("open"),
            name("reduce"),
            name("invert"),
        )
    }

    #[track_caller]
    fn check(text: &str, expected: Result<(), &str>) {
        let module = wat::parse_str(text).expect("it is WAT");
        let encoded = encode(&module).map(drop).map_err(|error| error.to_string());
        match (encoded, expected) {
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => assert_eq!(found, expected.map_err(str::to_owned)),
        }
    }

    #[test]
    fn a_module_is_what_its_exports_say() {
        check(&reducer("0.1.0"), Ok(()));
        check("(module)", Err("it exports no function of a role"));
        check("(module (func (export \"main\")))", Err("it exports no function of a role; it exports `main`"));
        check("(component)", Err("it is not a WebAssembly module"));
        check(&reducer("0.2.0"), Err("it was made for contract 0.2.0, and this host speaks 0.1.0 to 0.1.0"));
        check(&reducer("7"), Err("it was made for contract 7, and this host speaks"));
        check(&reducer("0.1.0").replace("#invert", "#inverse"), Err("invert"));
    }
}
