//! The languages that operators are written in.

use std::fmt;

/// A language that has an SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Rust.
    Rust,
    /// Python.
    Python,
    /// JavaScript.
    JavaScript,
    /// TypeScript.
    TypeScript,
    /// C.
    C,
    /// C++.
    Cpp,
    /// Go.
    Go,
    /// Zig.
    Zig,
}

impl Language {
    /// Every language.
    pub const ALL: [Language; 8] = [
        Language::Rust,
        Language::Python,
        Language::JavaScript,
        Language::TypeScript,
        Language::C,
        Language::Cpp,
        Language::Go,
        Language::Zig,
    ];

    /// Its name on the command line and in `operator.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
            Language::JavaScript => "js",
            Language::TypeScript => "ts",
            Language::C => "c",
            Language::Cpp => "cpp",
            Language::Go => "go",
            Language::Zig => "zig",
        }
    }

    /// The language of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.name() == name)
    }

    /// The file that a new project's code begins with, which is what its `operator.toml` says.
    pub(super) fn entry(self) -> &'static str {
        match self {
            Language::Rust => "Cargo.toml",
            Language::Python => "app.py",
            Language::JavaScript => "operator.js",
            Language::TypeScript => "operator.ts",
            Language::C => "operator.c",
            Language::Cpp => "operator.cpp",
            Language::Go => "operator.go",
            Language::Zig => "operator.zig",
        }
    }

    /// What runs the unit tests of a new project, without WebAssembly.
    pub(super) fn unit_test(self) -> &'static str {
        match self {
            Language::Rust => "cargo test",
            Language::Python => "python3 -m unittest",
            Language::JavaScript => "node --test",
            Language::TypeScript => "npm test",
            Language::C | Language::Cpp => "make test",
            Language::Go => "go test ./...",
            Language::Zig => "zig test operator.zig",
        }
    }

    /// The folder of its SDK in `guest-sdk`, and that of its templates within it.
    pub(super) fn folders(self) -> (&'static str, &'static str) {
        match self {
            Language::Rust => ("rust", "template"),
            Language::Python => ("python", "template"),
            Language::JavaScript => ("js", "template"),
            Language::TypeScript => ("js", "template-ts"),
            Language::C => ("c", "template"),
            Language::Cpp => ("c", "template-cpp"),
            Language::Go => ("go", "template"),
            Language::Zig => ("c", "template-zig"),
        }
    }
}

impl fmt::Display for Language {
    /// As it is written in a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Rust => "Rust",
            Language::Python => "Python",
            Language::JavaScript => "JavaScript",
            Language::TypeScript => "TypeScript",
            Language::C => "C",
            Language::Cpp => "C++",
            Language::Go => "Go",
            Language::Zig => "Zig",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_known_by_its_name() {
        for language in Language::ALL {
            assert_eq!(Language::named(language.name()), Some(language));
        }
        assert_eq!(Language::named("cobol"), None);
    }
}
