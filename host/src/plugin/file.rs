//! A plugin's file: read once, bounded, hashed, and told apart from what only looks like one.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::operator::{Limit, size};
use crate::plugin::LoadError;

/// The first bytes of everything that is WebAssembly in binary form.
const WASM_MAGIC: &[u8; 4] = b"\0asm";
/// The four bytes that follow in a component.
const COMPONENT_VERSION: [u8; 4] = [0x0d, 0x00, 0x01, 0x00];
/// The four bytes that follow in a core module.
const MODULE_VERSION: [u8; 4] = [0x01, 0x00, 0x00, 0x00];

/// The SHA-256 digest of a plugin's file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest that 64 hexadecimal digits stand for.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.as_chunks::<2>().0) {
            let [high, low] = pair.map(|digit| (digit as char).to_digit(16));
            // Both digits are below 16: the sum fits a byte.
            *byte = (high? * 16 + low?) as u8;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads the file, once, if it has no more than `max` bytes.
pub(crate) fn read(plugin: &str, path: &Path, max: u64) -> Result<Vec<u8>, LoadError> {
    let unreadable = |source: io::Error| LoadError::Unreadable { plugin: plugin.into(), path: path.to_owned(), source };
    // Looked at before it is opened: to open a pipe waits for its other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(LoadError::NotAFile { plugin: plugin.into(), path: path.to_owned() });
    }
    let file = File::open(path).map_err(unreadable)?;
    let n_bytes = file.metadata().map_err(unreadable)?.len();
    let too_large = |n_bytes: u64| LoadError::LimitExceeded {
        plugin: plugin.into(),
        limit: Limit::PluginBytes,
        seen: format!("the limit is {}, the file has {}", size(max), size(n_bytes)),
    };
    if n_bytes > max {
        return Err(too_large(n_bytes));
    }
    let mut bytes = Vec::with_capacity(n_bytes as usize + 1);
    // The file may grow while it is read.
    let n_read = file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if n_read as u64 > max {
        return Err(too_large(n_read as u64));
    }
    Ok(bytes)
}

/// Checks that the bytes begin as a component does, and says what they are when they do not.
pub(crate) fn check_is_component(plugin: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let plugin = || plugin.to_owned();
    let not_wasm = |seen: String| Err(LoadError::NotWasm { plugin: plugin(), seen });
    if bytes.is_empty() {
        return not_wasm("the file is empty".into());
    }
    let n_known = bytes.len().min(WASM_MAGIC.len());
    if bytes[..n_known] != WASM_MAGIC[..n_known] {
        let start = bytes.trim_ascii_start();
        return not_wasm(if start.starts_with(b"(") || start.starts_with(b";;") {
            "it is WebAssembly in text form".into()
        } else if let Some(line) = printable_start(start) {
            format!("it starts with `{line}`")
        } else {
            let hex: Vec<_> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("it starts with the bytes {}", hex.join(" "))
        });
    }
    let Some((head, _)) = bytes.split_first_chunk::<8>() else {
        return Err(LoadError::Truncated { plugin: plugin(), n_bytes: bytes.len() as u64 });
    };
    match [head[4], head[5], head[6], head[7]] {
        COMPONENT_VERSION => Ok(()),
        MODULE_VERSION => Err(LoadError::CoreModule { plugin: plugin() }),
        version => not_wasm(format!("its binary format has the unknown version {version:02x?}")),
    }
}

/// The first bytes as text, if that is what they are.
fn printable_start(bytes: &[u8]) -> Option<&str> {
    let start = &bytes[..bytes.len().min(16)];
    let all_printable = !start.is_empty() && start.iter().all(|byte| (b' '..=b'~').contains(byte));
    all_printable.then(|| std::str::from_utf8(start).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let found = match check_is_component("p.wasm", bytes) {
            Ok(()) => "component".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_a_component_is_named() {
        check(b"", "plugin `p.wasm` is not a WebAssembly component: the file is empty");
        check(b"\0as", "plugin `p.wasm` is cut off: it ends after 3 bytes, in the middle of a section");
        check(b"\0asm\x0d", "plugin `p.wasm` is cut off: it ends after 5 bytes, in the middle of a section");
        check(b"\0asm\x01\0\0\0", "plugin `p.wasm` is a WebAssembly core module, not a component");
        check(b"  (component)", "plugin `p.wasm` is not a WebAssembly component: it is WebAssembly in text form");
        check(
            b"#!/bin/sh -e -x xyz",
            "plugin `p.wasm` is not a WebAssembly component: it starts with `#!/bin/sh -e -x `",
        );
        check(b"\x7fELF\x02", "plugin `p.wasm` is not a WebAssembly component: it starts with the bytes 7f 45 4c 46");
        check(
            b"\0asm\x0d\0\x02\0",
            "plugin `p.wasm` is not a WebAssembly component: its binary format has the unknown version [0d, 00, 02, 00]",
        );
        check(b"\0asm\x0d\0\x01\0", "component");
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"tidemill");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse(&digest.to_string().to_uppercase()), Some(digest));
        assert_eq!(Digest::parse("abc"), None);
        assert_eq!(Digest::parse(&"g".repeat(64)), None);
        assert_eq!(Digest::parse(&"+".repeat(64)), None);
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read("p", folder.path(), 10), Err(LoadError::NotAFile { .. })));
        assert!(matches!(read("p", &folder.path().join("none"), 10), Err(LoadError::Unreadable { .. })));
        let large = folder.path().join("large.wasm");
        File::create(&large).unwrap().set_len(11).unwrap();
        assert_eq!(
            read("p", &large, 10).unwrap_err().to_string(),
            "plugin `p` exceeds its plugin size: the limit is 10B, the file has 11B"
        );
        assert_eq!(read("p", &large, 11).unwrap().len(), 11);
    }
}
