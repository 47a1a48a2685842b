//! What a component says of itself before it is compiled: the roles it exports, the interfaces it imports.

use wasmparser::{Parser, Payload};

use crate::operator::Role;
use crate::plugin::contract::{self, Version};
use crate::plugin::error::EngineError;
use crate::plugin::file::Digest;
use crate::plugin::grants::Grants;
use crate::plugin::imports::{self, InterfaceName, Standing};
use crate::plugin::{LoadError, text};

/// What is known of a plugin without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The digest of its file.
    pub sha256: Digest,
    /// The size of its file.
    pub n_bytes: u64,
    /// The roles this host can open it in, in the contract's order.
    pub roles: Vec<RoleExport>,
    /// Its other exports, by name.
    pub other_exports: Vec<String>,
    /// Its imports, in the order in which the component lists them.
    pub imports: Vec<Import>,
    /// What it was written in, as far as it says: the component itself, or else its first module.
    pub language: Option<String>,
}

/// A role that a plugin exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleExport {
    /// The role.
    pub role: Role,
    /// The version of the contract it was built against.
    pub contract: Version,
}

/// An import of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its name, as in `wasi:io/streams@0.2.6`.
    pub name: String,
    /// Whether the plugin gets it.
    pub standing: Standing,
}

impl Inspection {
    /// Reads what the component `bytes` exports and imports. Whether its code is valid is for the compiler to say.
    pub(crate) fn of(plugin: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let malformed = |message: String| LoadError::Malformed {
            plugin: plugin.into(),
            source: EngineError(text::one_line(&message).into_owned()),
        };
        let mut this = Inspection {
            sha256: Digest::of(bytes),
            n_bytes: bytes.len() as u64,
            roles: Vec::new(),
            other_exports: Vec::new(),
            imports: Vec::new(),
            language: None,
        };
        // What the component says comes behind its modules, and counts for more.
        let mut own_language = None;
        // How many components and modules surround what is being read: only the outermost one's names count.
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| {
                if is_cut_off(&error, bytes.len()) {
                    LoadError::Truncated { plugin: plugin.into(), n_bytes: bytes.len() as u64 }
                } else {
                    malformed(error.to_string())
                }
            })?;
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let name = import.map_err(|error| malformed(error.to_string()))?.name.name;
                        this.imports.push(Import { name: shown(name), standing: imports::standing(name) });
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let name = export.map_err(|error| malformed(error.to_string()))?.name.name;
                        this.add_export(plugin, name)?;
                    }
                }
                Payload::CustomSection(section) => {
                    let place = if depth == 0 { &mut own_language } else { &mut this.language };
                    if place.is_none() {
                        *place = language(&section);
                    }
                }
                _ => {}
            }
        }
        this.language = own_language.or(this.language);
        this.roles.sort_by_key(|export| export.role);
        Ok(this)
    }

    fn add_export(&mut self, plugin: &str, name: &str) -> Result<(), LoadError> {
        if let Some(InterfaceName { package: contract::PACKAGE, interface, version, version_text }) =
            InterfaceName::parse(name)
        {
            let Some(version) = version.filter(|version| contract::speaks(*version)) else {
                return Err(unsupported(plugin, name, version_text));
            };
            if let Some(role) = Role::ALL.into_iter().find(|role| role.name() == interface) {
                self.roles.push(RoleExport { role, contract: version });
                return Ok(());
            }
        }
        self.other_exports.push(shown(name));
        Ok(())
    }

    /// What it imports, a package each, with the grant that opens it, as in `wasi:clocks (grant clock)`.
    #[must_use]
    pub fn asks_for(&self) -> Vec<String> {
        let mut packages: Vec<String> = Vec::new();
        for Import { name, .. } in &self.imports {
            let package = InterfaceName::parse(name).map_or(name.as_str(), |name| name.package);
            let words = match imports::grant_needed(name) {
                Some(grant) => format!("{package} (grant {grant})"),
                None => package.to_owned(),
            };
            // `wasi:cli/environment` has a grant that the others of its package do not have.
            if !packages.contains(&words) {
                packages.push(words);
            }
        }
        packages.sort();
        packages
    }

    /// Checks that a job's grants cover every import.
    pub(crate) fn check_imports(&self, plugin: &str, grants: &Grants) -> Result<(), LoadError> {
        for Import { name, standing } in &self.imports {
            let (plugin, import) = (plugin.to_owned(), name.clone());
            match *standing {
                Standing::Allowed | Standing::Denied { .. } => {}
                Standing::Needs { grant, .. } if grants.has(grant) => {}
                Standing::Needs { grant, capability } => {
                    return Err(LoadError::UngrantedImport { plugin, import, capability, grant: Some(grant) });
                }
                Standing::Ungranted { capability } => {
                    return Err(LoadError::UngrantedImport { plugin, import, capability, grant: None });
                }
                Standing::OtherContract => {
                    let version = InterfaceName::parse(name).map_or("", |name| name.version_text);
                    return Err(unsupported(&plugin, name, version));
                }
                Standing::Unknown => return Err(LoadError::UnknownImport { plugin, import }),
            }
        }
        Ok(())
    }
}

/// The language that a section of producers names, if it is one.
fn language(section: &wasmparser::CustomSectionReader<'_>) -> Option<String> {
    let wasmparser::KnownCustom::Producers(fields) = section.as_known() else { return None };
    let field = fields.into_iter().flatten().find(|field| field.name == "language")?;
    let value = field.values.into_iter().flatten().next()?;
    Some(shown(value.name))
}

/// A name from a component as it is shown.
fn shown(name: &str) -> String {
    text::one_line(name).into_owned()
}

fn unsupported(plugin: &str, interface: &str, version: &str) -> LoadError {
    LoadError::UnsupportedContract {
        plugin: plugin.into(),
        found: if version.is_empty() { "without a version".into() } else { shown(version) },
        interface: shown(interface),
        oldest: contract::OLDEST,
        newest: contract::NEWEST,
    }
}

/// Whether reading ended because the bytes did.
fn is_cut_off(error: &wasmparser::BinaryReaderError, n_bytes: usize) -> bool {
    let message = error.message();
    error.offset() >= n_bytes
        || message.starts_with("unexpected end")
        || message.contains("section too large")
        || message.contains("size mismatch")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(text: &str) -> Result<Inspection, LoadError> {
        Inspection::of("p.wasm", &wat::parse_str(text).unwrap())
    }

    fn check(text: &str, expected: &str) {
        let found = match inspect(text)
            .and_then(|inspection| inspection.check_imports("p.wasm", &Grants::default()).map(|()| inspection))
        {
            Ok(inspection) => format!("{:?}", inspection.roles.iter().map(|e| e.role.name()).collect::<Vec<_>>()),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    fn exporting(name: &str) -> String {
        format!(r#"(component (component $c) (instance $i (instantiate $c)) (export "{name}" (instance $i)))"#)
    }

    #[test]
    fn roles_come_from_the_exports_of_the_outermost_component() {
        check("(component)", "[]");
        check(&exporting("tidemill:operator/reducer@0.1.0"), r#"["reducer"]"#);
        check(&exporting("tidemill:operator/transform@0.1.9"), r#"["transform"]"#);
        check(&exporting("tidemill:operator/later@0.1.0"), "[]");
        check(&format!("(component {})", exporting("tidemill:operator/reducer@0.1.0")), "[]");
        check("(component (core module (func (export \"a\"))))", "[]");
    }

    #[test]
    fn another_contract_is_named_with_the_range_spoken() {
        check(
            &exporting("tidemill:operator/transform@0.2.0"),
            "plugin `p.wasm` needs contract 0.2.0 (`tidemill:operator/transform@0.2.0`), and this host speaks 0.1.0 to 0.1.0",
        );
        check(
            r#"(component (import "tidemill:operator/diagnostics@1.0.0" (instance)))"#,
            "plugin `p.wasm` needs contract 1.0.0 (`tidemill:operator/diagnostics@1.0.0`), and this host speaks 0.1.0 to 0.1.0",
        );
    }

    #[test]
    fn what_nobody_grants_is_refused() {
        check(
            r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)))"#,
            "plugin `p.wasm` imports `wasi:keyvalue/store@0.2.0`, which is access to a key-value store, and nothing grants it",
        );
        check(
            r#"(component (import "wasi:http/types@0.2.0" (instance)))"#,
            "plugin `p.wasm` imports `wasi:http/types@0.2.0`, which is access to HTTP servers, and nothing grants it",
        );
        check(
            r#"(component (import "foo:bar/baz@1.0.0" (instance)))"#,
            "plugin `p.wasm` imports `foo:bar/baz@1.0.0`, which this host does not offer",
        );
        check(
            r#"(component (import "surprise" (func)))"#,
            "plugin `p.wasm` imports `surprise`, which this host does not offer",
        );
    }

    #[test]
    fn a_file_cut_off_anywhere_is_an_error_and_never_a_panic() {
        let bytes = wat::parse_str(exporting("tidemill:operator/reducer@0.1.0")).unwrap();
        let mut n_truncated = 0;
        for n in 8..bytes.len() {
            // Between two sections a component may end.
            match Inspection::of("p.wasm", &bytes[..n]) {
                Ok(_) => {}
                Err(LoadError::Truncated { .. }) => n_truncated += 1,
                Err(error) => panic!("cut at {n}: {error}: {:?}", std::error::Error::source(&error)),
            }
        }
        assert!(n_truncated > bytes.len() / 2);
    }

    proptest::proptest! {
        #[test]
        fn bytes_that_are_wrong_never_panic(at in 8_usize..200, byte: u8) {
            let mut bytes = wat::parse_str(exporting("tidemill:operator/reducer@0.1.0")).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Inspection::of("p.wasm", &bytes);
        }
    }
}
