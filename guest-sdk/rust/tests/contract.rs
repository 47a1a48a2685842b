//! The SDK's copy of the contract is the contract.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

/// The published crate has a copy, because it cannot reach outside its folder.
#[test]
fn the_copy_of_the_contract_is_the_contract() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (original, copy) = (here.join("../../wit/v0.1"), here.join("wit/v0.1"));
    if !original.exists() {
        // Tested outside the project: there is nothing to compare with.
        return;
    }
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&copy), names(&original), "copy `wit/v0.1` to `guest-sdk/rust/wit/v0.1`");
    for name in names(&original) {
        let (expected, found) = (fs::read_to_string(original.join(&name)), fs::read_to_string(copy.join(&name)));
        assert_eq!(found.unwrap(), expected.unwrap(), "copy `wit/v0.1` to `guest-sdk/rust/wit/v0.1`");
    }
}
