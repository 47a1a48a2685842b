//! The rules for everything else: documents, manifests, the contract.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{Finding, Tree};

/// The digests of released contract files, as `sha256sum` writes them, with paths relative to `wit/`.
const FROZEN: &str = "wit/FROZEN.sha256";

/// Paths that exist on one machine only.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    // In two pieces, or this file would be found.
    let prefixes = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let inside = |before: Option<char>| before.is_some_and(|c| c.is_alphanumeric() || "_-.}/".contains(c));
    let mut findings = Vec::new();
    for (path, text) in &tree.texts {
        for (index, line) in text.lines().enumerate() {
            for prefix in prefixes {
                if line.match_indices(prefix).any(|(at, _)| !inside(line[..at].chars().next_back())) {
                    findings.push(Finding { path: path.clone(), line: index + 1, what: format!("`{prefix}…`") });
                }
            }
        }
    }
    findings
}

/// Released contract files that are gone or changed, and a copy that differs from the original.
pub(super) fn changed_contract(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let frozen = tree.texts.get(FROZEN).map_or("", String::as_str);
    for (index, line) in frozen.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Some((digest, name)) = line.split_once("  ") else {
            let what = "is not `DIGEST  FILE`".into();
            findings.push(Finding { path: FROZEN.into(), line: index + 1, what });
            continue;
        };
        let path = format!("wit/{}", name.trim().trim_start_matches("./"));
        match tree.texts.get(&path) {
            None => findings.push(Finding { path, line: 0, what: "was released and is gone".into() }),
            Some(text) if sha256(text) != digest => {
                findings.push(Finding { path, line: 0, what: "was released and has changed".into() });
            }
            Some(_) => {}
        }
    }
    findings.extend(differing_copy(tree));
    findings
}

/// The copy of the contract that the Rust SDK is published with, where it differs from the original.
fn differing_copy(tree: &Tree) -> Vec<Finding> {
    const COPY: &str = "guest-sdk/rust/wit/";
    let original = texts_under(tree, "wit/v0.1/");
    let copy = texts_under(tree, COPY);
    if copy.is_empty() {
        return Vec::new();
    }
    let names = original.keys().chain(copy.keys().filter(|name| !original.contains_key(*name)));
    let differing = names.filter(|name| original.get(*name) != copy.get(*name));
    let what = "differs from wit/v0.1: copy the original over it";
    differing.map(|name| Finding { path: format!("{COPY}{name}"), line: 0, what: what.into() }).collect()
}

/// The files under a folder by name; a folder named as the version in between does not count.
fn texts_under<'a>(tree: &'a Tree, folder: &str) -> BTreeMap<&'a str, &'a str> {
    let files = tree.texts.iter().filter_map(|(path, text)| Some((path.strip_prefix(folder)?, text.as_str())));
    files.map(|(name, text)| (name.strip_prefix("v0.1/").unwrap_or(name), text)).collect()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Dependencies without a comment on the same line or the one above.
///
/// Our own crates need none, nor those whose line is in the workspace's manifest.
pub(super) fn unexplained_dependencies(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts.iter().filter(|(path, _)| is_manifest(path)) {
        let mut inside = false;
        let mut above = "";
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                inside = line.trim_end().ends_with("dependencies]");
            } else if let (true, Some((name, value))) = (inside, line.split_once('=')) {
                let name = name.trim();
                let ours = value.contains("path =") || name.ends_with(".workspace") || value.contains("workspace =");
                let explained = above.starts_with('#') || line.contains(" # ");
                if !ours && !explained && !line.starts_with(['#', ' ', ']']) {
                    let what = format!("`{name}` has no reason");
                    findings.push(Finding { path: path.clone(), line: index + 1, what });
                }
            }
            above = line;
        }
    }
    findings
}

/// Whether the file is the manifest of a crate that others build on; plugins are as their authors like.
fn is_manifest(path: &str) -> bool {
    path.ends_with("Cargo.toml") && !path.starts_with("plugins/") && !path.starts_with("tests/plugins/")
}

/// Links in documents to files that are not there.
pub(super) fn broken_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.ends_with(".md")) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_code = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            if in_code {
                continue;
            }
            for link in links(line) {
                let target = link.split('#').next().unwrap_or_default();
                let outside = target.contains("://") || target.starts_with("mailto:");
                if !target.is_empty() && !outside && !leads_somewhere(tree, folder, target) {
                    findings.push(Finding { path: path.clone(), line: index + 1, what: format!("`{target}`") });
                }
            }
        }
    }
    findings
}

/// The targets of `[text](target)` in a line, code left out.
fn links(line: &str) -> impl Iterator<Item = &str> {
    // Every second piece between backticks is code.
    let pieces = line.split('`').step_by(2).flat_map(|piece| piece.split("](").skip(1));
    pieces.filter_map(|rest| Some(&rest[..rest.find([')', ' '])?]))
}

/// Whether a link from a document in `folder` leads to a file or folder of the tree.
fn leads_somewhere(tree: &Tree, folder: &str, target: &str) -> bool {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            part => parts.push(part),
        }
    }
    parts.is_empty() || tree.paths.contains(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::*;

    #[test]
    fn paths_of_a_machine() {
        let path = concat!("/wo", "rk/data");
        let shown = format!("a.md:2: `{}…`", concat!("/wo", "rk/"));
        check(machine_paths, &[("a.md", &format!("x\nsee `{path}`"))], &[&shown]);
        check(machine_paths, &[("a.md", &format!("target{path} and host{path}"))], &[]);
    }

    #[test]
    fn the_contract() {
        let digest = sha256("a");
        let frozen = format!("{digest}  v0.1/a.wit\n");
        check(changed_contract, &[("wit/v0.1/a.wit", "anything")], &[]);
        check(changed_contract, &[(FROZEN, &frozen), ("wit/v0.1/a.wit", "a"), ("wit/v0.1/new.wit", "b")], &[]);
        check(
            changed_contract,
            &[(FROZEN, &frozen), ("wit/v0.1/a.wit", "b")],
            &["wit/v0.1/a.wit:0: was released and has changed"],
        );
        check(changed_contract, &[(FROZEN, &frozen)], &["wit/v0.1/a.wit:0: was released and is gone"]);
        check(changed_contract, &[(FROZEN, "abc")], &["wit/FROZEN.sha256:1: is not `DIGEST  FILE`"]);
    }

    #[test]
    fn the_copy_of_the_contract() {
        let original = ("wit/v0.1/a.wit", "a");
        check(changed_contract, &[original], &[]);
        check(changed_contract, &[original, ("guest-sdk/rust/wit/a.wit", "a")], &[]);
        check(changed_contract, &[original, ("guest-sdk/rust/wit/v0.1/a.wit", "a")], &[]);
        let differs = "differs from wit/v0.1: copy the original over it";
        check(
            changed_contract,
            &[original, ("guest-sdk/rust/wit/a.wit", "b")],
            &[&format!("guest-sdk/rust/wit/a.wit:0: {differs}")],
        );
        check(
            changed_contract,
            &[original, ("guest-sdk/rust/wit/a.wit", "a"), ("guest-sdk/rust/wit/b.wit", "b")],
            &[&format!("guest-sdk/rust/wit/b.wit:0: {differs}")],
        );
    }

    #[test]
    fn dependencies() {
        let manifest = "[package]\nname = \"a\"\n\n[dependencies]\n# Rows.\narrow = \"1\"\nserde.workspace = true\n\
                        clap = \"4\"\nours = { path = \"../ours\" }\nlibc = \"0.2\" # Signals.\n\n[lints]\nx = 1\n";
        check(unexplained_dependencies, &[("host/Cargo.toml", manifest)], &["host/Cargo.toml:8: `clap` has no reason"]);
        check(unexplained_dependencies, &[("plugins/a/Cargo.toml", manifest)], &[]);
        check(
            unexplained_dependencies,
            &[("Cargo.toml", "[workspace.dependencies]\nserde = \"1\"")],
            &["Cargo.toml:2: `serde` has no reason"],
        );
    }

    #[test]
    fn documents() {
        let link = |target: &str| format!("see [this]({target}).");
        let doc = ("docs/a.md", "");
        check(broken_links, &[doc, ("README.md", &link("docs/a.md#part"))], &[]);
        check(broken_links, &[doc, ("README.md", &link("docs/")), ("docs/b.md", &link("../README.md"))], &[]);
        check(broken_links, &[("README.md", &link("https://a.b/c")), ("x.md", &link("#part"))], &[]);
        check(broken_links, &[doc, ("README.md", &link("docs/b.md"))], &["README.md:1: `docs/b.md`"]);
        check(broken_links, &[("README.md", "[`a`](b) and `[c](d)`")], &["README.md:1: `b`"]);
        check(broken_links, &[("README.md", "```\n[a](b)\n```\n")], &[]);
        check(broken_links, &[("README.md", &link("../x"))], &["README.md:1: `../x`"]);
    }
}
