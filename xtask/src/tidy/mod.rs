//! `cargo xtask tidy`: the project's own rules, checked by reading its files; each failure says what to do instead.

mod code;
mod source;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// Text files up to this size are read; the rest is data.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Folders that hold nothing of ours, wherever they stand.
const SKIPPED: [&str; 5] = [".git", "target", "node_modules", "__pycache__", ".venv"];

/// The project's files as the rules see them.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Every file and folder, relative to the root, with `/`.
    paths: BTreeSet<String>,
    /// The text of those files that are text.
    texts: BTreeMap<String, String>,
}

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file.
    path: String,
    /// The line, from 1; 0 is the whole file.
    line: usize,
    /// What is there.
    what: String,
}

/// A rule: what it finds, and what to do about it.
struct Rule {
    name: &'static str,
    instruction: &'static str,
    find: fn(&Tree) -> Vec<Finding>,
}

const RULES: [Rule; 12] = [
    Rule {
        name: "a Rust file opens with one sentence",
        instruction: "Start the file with `//! ` and a sentence that says what it holds.",
        find: source::without_opening,
    },
    Rule {
        name: "a file has at most 800 lines",
        instruction: "Look for the second noun in the file, and give it a file of its own.",
        find: source::too_long,
    },
    Rule {
        name: "only host/src/clock.rs asks for the time",
        instruction: "Take a `&dyn Clock`, so that tests decide what time it is.",
        find: source::asks_for_time,
    },
    Rule {
        name: "only host/src/plugin knows wasmtime",
        instruction: "Say what you need in terms of `crate::operator`, and let host/src/plugin implement it.",
        find: source::knows_wasmtime,
    },
    Rule {
        name: "only host/src/sql knows DataFusion",
        instruction: "Say what you need in terms of `crate::sql`, and let host/src/sql implement it.",
        find: source::knows_datafusion,
    },
    Rule {
        name: "only host/src/plugin/contract knows contract versions",
        instruction: "Use the newest contract's types, or those of `crate::operator`; contract/ translates.",
        find: source::names_a_version,
    },
    Rule {
        name: "nothing is left undone in the code",
        instruction: "Do it now, or take it out and file an issue.",
        find: source::left_undone,
    },
    Rule {
        name: "only the command line prints",
        instruction: "Return what is to be shown, or log it with `tracing`.",
        find: source::prints,
    },
    Rule {
        name: "no path of somebody's machine",
        instruction: "Name the file relative to the project, or make a temporary folder.",
        find: tree::machine_paths,
    },
    Rule {
        name: "a released contract never changes",
        instruction: "Restore the file. What is new goes into a new interface, or a new folder beside this version's.",
        find: tree::changed_contract,
    },
    Rule {
        name: "a dependency has its reason beside it",
        instruction: "Write one comment line directly above the dependency: what it is for, and why this one.",
        find: tree::unexplained_dependencies,
    },
    Rule {
        name: "links between documents lead somewhere",
        instruction: "Correct the link; it is relative to the document it stands in.",
        find: tree::broken_links,
    },
];

/// Checks every rule.
pub(crate) fn tidy() -> anyhow::Result<()> {
    let tree = Tree::read(Path::new("."))?;
    let mut n_findings = 0;
    for rule in RULES {
        let findings = (rule.find)(&tree);
        if findings.is_empty() {
            continue;
        }
        println!("\nrule broken: {}", rule.name);
        for Finding { path, line, what } in &findings {
            match line {
                0 => println!("  {path}: {what}"),
                line => println!("  {path}:{line}: {what}"),
            }
        }
        println!("hint: {}", rule.instruction);
        n_findings += findings.len();
    }
    if n_findings > 0 {
        bail!("{n_findings} places are not tidy");
    }
    println!("tidy: {} rules hold in {} text files", RULES.len(), tree.texts.len());
    Ok(())
}

impl Tree {
    /// Reads the files under a folder.
    fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> anyhow::Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() && entry.metadata()?.len() <= TEXT_BYTES_MAX {
                let bytes = fs::read(entry.path()).with_context(|| format!("cannot read `{path}`"))?;
                if let Ok(text) = String::from_utf8(bytes) {
                    self.texts.insert(path.clone(), text);
                }
            }
            self.paths.insert(path);
        }
        Ok(())
    }

    /// The Rust files, with their text.
    fn rust_files(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        files.filter(|(path, _)| path.ends_with(".rs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Tree {
        /// A tree of these files.
        pub(super) fn of(files: &[(&str, &str)]) -> Self {
            let mut tree = Self::default();
            for (path, text) in files {
                for (at, _) in path.match_indices('/') {
                    tree.paths.insert(path[..at].to_owned());
                }
                tree.paths.insert((*path).to_owned());
                tree.texts.insert((*path).to_owned(), (*text).to_owned());
            }
            tree
        }
    }

    /// What a rule finds in these files, as `path:line: what`.
    #[track_caller]
    pub(super) fn check(find: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)], expected: &[&str]) {
        let findings = find(&Tree::of(files));
        let shown: Vec<String> = findings.iter().map(|f| format!("{}:{}: {}", f.path, f.line, f.what)).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn every_rule_has_an_instruction_and_accepts_nothing_at_all() {
        for rule in RULES {
            assert!(rule.instruction.ends_with('.'), "{}", rule.name);
            assert_eq!((rule.find)(&Tree::default()), [], "{}", rule.name);
        }
    }
}
